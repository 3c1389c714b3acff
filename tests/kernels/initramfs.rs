//! Packs this test binary, `polc`, what they run and their libraries into an initramfs.
//!
//! What all kernels share is made once; a kernel's modules are an archive of their own
//! behind it, as the kernel unpacks one after the other.
//!
//! The format is cpio's "newc" (the kernel's Documentation/driver-api/early-userspace/
//! buffer-format.rst): per file a header of hexadecimal fields, the name and the
//! contents, each padded to four bytes.

use std::collections::BTreeSet;
use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The first program: a shell script, because mounting and powering off from it
/// need no system calls of our own. The tests run with their usual command line.
const INIT: &str = "#!/bin/sh
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t bpf bpf /sys/fs/bpf
for module in /modules/*; do insmod $module; done
/test --exact guest::examples guest::enforcement --ignored --nocapture --test-threads=1
echo o >/proc/sysrq-trigger
sleep 10
";

const DIRECTORIES: [&str; 6] = ["dev", "proc", "sys", "tmp", "root", "run"];
const PROGRAMS: [&str; 6] =
    ["/bin/sh", "/bin/mount", "/bin/sleep", "/sbin/ip", "/sbin/insmod", "/usr/bin/nsenter"];

const MODE_DIRECTORY: u32 = 0o40755;
const MODE_PROGRAM: u32 = 0o100755;
const MODE_CHARACTER_DEVICE: u32 = 0o20600;

/// Writes what all kernels share.
pub fn write(path: &Path) -> io::Result<()> {
    let test = stripped(&std::env::current_exe()?, &path.with_extension("test"))?;
    // Where the tests look for it.
    let command = Path::new(env!("CARGO_BIN_EXE_polc"));
    let polc = stripped(command, &path.with_extension("polc"))?;
    let mut archive = Archive::default();
    for name in DIRECTORIES {
        archive.entry(name, MODE_DIRECTORY, (0, 0), b"");
    }
    archive.entry("dev/console", MODE_CHARACTER_DEVICE, (5, 1), b"");
    archive.entry("dev/null", MODE_CHARACTER_DEVICE, (1, 3), b"");
    archive.entry("init", MODE_PROGRAM, (0, 0), INIT.as_bytes());
    archive.entry("test", MODE_PROGRAM, (0, 0), &fs::read(&test)?);
    let mut files = BTreeSet::new();
    for program in PROGRAMS.map(PathBuf::from) {
        files.extend(libraries(&program)?);
        files.insert(program);
    }
    files.extend(libraries(&test)?);
    files.extend(libraries(&polc)?);
    let all = files.iter().map(PathBuf::as_path).chain([command]);
    let parents: BTreeSet<&Path> = all.flat_map(|file| file.ancestors().skip(1)).collect();
    for parent in parents.into_iter().filter(|p| *p != Path::new("/")) {
        archive.entry(&relative(parent), MODE_DIRECTORY, (0, 0), b"");
    }
    for file in &files {
        let content = fs::read(file).map_err(|e| io::Error::other(format!("{}: {e}", file.display())))?;
        archive.entry(&relative(file), MODE_PROGRAM, (0, 0), &content);
    }
    archive.entry(&relative(command), MODE_PROGRAM, (0, 0), &fs::read(&polc)?);
    fs::write(path, archive.finish())
}

/// Writes a copy of `base` that holds the modules of a folder as well.
pub fn add_modules(base: &Path, modules: &Path, path: &Path) -> io::Result<()> {
    let mut archive = Archive::default();
    archive.entry("modules", MODE_DIRECTORY, (0, 0), b"");
    for entry in fs::read_dir(modules)? {
        let module = entry?;
        let name = format!("modules/{}", module.file_name().to_string_lossy());
        archive.entry(&name, MODE_PROGRAM, (0, 0), &fs::read(module.path())?);
    }
    fs::copy(base, path)?;
    fs::File::options().append(true).open(path)?.write_all(&archive.finish())
}

fn relative(path: &Path) -> String {
    path.to_string_lossy().trim_start_matches('/').to_string()
}

/// A copy of the binary without debug information, which is most of it.
fn stripped(from: &Path, to: &Path) -> io::Result<PathBuf> {
    let done = Command::new("strip").arg("--strip-debug").arg("-o").arg(to).arg(from).status()?;
    if !done.success() {
        return Err(io::Error::other("strip (binutils) failed"));
    }
    fs::set_permissions(to, fs::Permissions::from_mode(0o755))?;
    Ok(to.to_path_buf())
}

/// The shared libraries of a program and its loader, as the loader finds them here.
fn libraries(program: &Path) -> io::Result<Vec<PathBuf>> {
    let out = Command::new("ldd").arg(program).output()?;
    let text = String::from_utf8_lossy(&out.stdout).into_owned();
    let paths = text.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')));
    Ok(paths.map(PathBuf::from).collect())
}

#[derive(Default)]
struct Archive {
    bytes: Vec<u8>,
    entries: u32,
}

impl Archive {
    fn entry(&mut self, name: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.entries += 1;
        let (major, minor) = device;
        let (links, size, length) = (1, content.len() as u32, name.len() as u32 + 1);
        self.bytes.extend_from_slice(b"070701");
        // inode, mode, uid, gid, links, mtime, size, device of the file system,
        // device that the entry is, length of the name, checksum
        for field in [self.entries, mode, 0, 0, links, 0, size, 0, 0, major, minor, length, 0] {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn pad(&mut self) {
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, (0, 0), b"");
        self.bytes
    }
}
