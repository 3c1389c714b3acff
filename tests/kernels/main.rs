//! The examples on the kernels that polc promises to run on.
//!
//! Each test boots one of Debian's cloud kernels in qemu, emulated and without
//! devices but a serial line. The virtual machine's only program is this test
//! binary again, with the libraries that it needs: it runs [`guest::examples`]
//! and powers off. Nothing is built a second time.
//!
//! Kernels are fetched once (`fetch.sh`, 20 to 35 MB each) into target/kernels.
//! Where that or qemu cannot be had, the tests say so and end; if
//! `POLC_REQUIRE_QEMU` is set, they fail. Cost: about ten
//! seconds of CPU time for each kernel.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod guest;
mod initramfs;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// Seconds after which a virtual machine that has not powered off is stopped.
const PATIENCE: &str = "240";

/// Everything that qemu emulates except cmpxchg16b: qemu 7.2 leaves arbitrary flags
/// behind it, and Linux 6.12, whose allocator uses it, dies of that now and then.
const CPU: &str = "max,-cx16";

/// Prints why a test doesn't run; fails if it has to.
fn skip(why: &str) {
    assert!(std::env::var_os("POLC_REQUIRE_QEMU").is_none(), "{why}");
    eprintln!("skipped: {why}");
}

fn cache() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("kernels")
}

/// The kernel image of a series, fetched if need be.
fn kernel(series: &str) -> Result<PathBuf, String> {
    let folder = cache().join(series);
    let image = folder.join("vmlinuz");
    if image.exists() {
        return Ok(image);
    }
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels/fetch.sh");
    let out = Command::new("sh").arg(script).arg(series).arg(&folder).output();
    let out = out.map_err(|e| format!("sh: {e}"))?;
    if out.status.success() {
        return Ok(image);
    }
    Err(format!("Linux {series} could not be fetched:\n{}", String::from_utf8_lossy(&out.stderr)))
}

/// What the virtual machines start with; the same for all.
fn machine() -> Result<&'static Path, String> {
    static MADE: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let made = MADE.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels-initramfs");
        initramfs::write(&path).map_err(|e| format!("initramfs: {e}"))?;
        Ok(path)
    });
    made.as_deref().map_err(Clone::clone)
}

/// Everything that the virtual machine wrote to its serial line.
fn boot(image: &Path, initramfs: &Path) -> String {
    // `timeout` (coreutils) ends the machine if the test is left to itself, too.
    let out = Command::new("timeout")
        .args([PATIENCE, "qemu-system-x86_64", "-accel", "tcg"])
        .args(["-cpu", CPU, "-m", "768"])
        .args(["-nodefaults", "-no-reboot", "-display", "none", "-serial", "stdio"])
        .arg("-kernel")
        .arg(image)
        .arg("-initrd")
        .arg(initramfs)
        .args(["-append", "console=ttyS0 quiet panic=-1 random.trust_cpu=on mitigations=off"])
        .stdin(Stdio::null())
        .output()
        .expect("timeout (coreutils) runs");
    format!("{}{}", String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr))
}

fn check(series: &str) {
    if Command::new("qemu-system-x86_64").arg("--version").output().is_err() {
        return skip("qemu-system-x86_64 is missing (Debian package qemu-system-x86)");
    }
    let image = match kernel(series) {
        Ok(image) => image,
        Err(why) => return skip(&why),
    };
    let initramfs = match machine() {
        Ok(initramfs) => initramfs,
        Err(why) => return skip(&why),
    };
    let console = boot(&image, initramfs);
    let report = console.lines().find(|line| line.contains(guest::AGREED));
    let report = report.unwrap_or_else(|| panic!("Linux {series} did not agree:\n{console}"));
    assert!(report.contains(&format!("Linux {series}.")), "{report}");
    println!("{}", report.trim());
}

#[test]
fn linux_5_10() {
    check("5.10");
}

#[test]
fn linux_6_1() {
    check("6.1");
}

#[test]
fn linux_6_12() {
    check("6.12");
}
