//! The examples and the golden images on the kernels that polc promises to run on.
//!
//! Each test boots one of Debian's cloud kernels in qemu, emulated and without
//! devices but a serial line. The virtual machine's programs are this test binary
//! again and `polc`, with what they need: it runs [`guest::examples`] and
//! [`guest::enforcement`] and powers off. Nothing is built a second time.
//!
//! Kernels are fetched once (`fetch.sh`, 20 to 35 MB each) into target/kernels.
//! Where that or qemu cannot be had, the tests say so and end; if
//! `POLC_REQUIRE_QEMU` is set, they fail. Cost: about forty
//! seconds of CPU time for each kernel.

#![cfg(all(target_os = "linux", target_arch = "x86_64"))]

mod golden;
mod guest;
mod initramfs;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "../kernel/policies.rs"]
mod policies;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "../kernel/traffic.rs"]
mod traffic;
#[expect(dead_code, reason = "other tests use the rest")]
#[path = "../kernel/world.rs"]
mod world;

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

/// The folder of a series' kernel and modules, fetched if need be.
fn kernel(series: &str) -> Result<PathBuf, String> {
    let folder = cache().join(series);
    if folder.join("vmlinuz").exists() && folder.join("modules").exists() {
        return Ok(folder);
    }
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kernels/fetch.sh");
    let out = Command::new("sh").arg(script).arg(series).arg(&folder).output();
    let out = out.map_err(|e| format!("sh: {e}"))?;
    if out.status.success() {
        return Ok(folder);
    }
    Err(format!("Linux {series} could not be fetched:\n{}", String::from_utf8_lossy(&out.stderr)))
}

/// What the virtual machine of a series starts with.
fn machine(series: &str, kernel: &Path) -> Result<PathBuf, String> {
    static SHARED: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let failed = |e: std::io::Error| format!("initramfs: {e}");
    let shared = SHARED.get_or_init(|| {
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("kernels-initramfs");
        initramfs::write(&path).map_err(failed)?;
        Ok(path)
    });
    let shared = shared.as_deref().map_err(Clone::clone)?;
    let path = shared.with_extension(series);
    initramfs::add_modules(shared, &kernel.join("modules"), &path).map_err(failed)?;
    Ok(path)
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
    let folder = match kernel(series) {
        Ok(folder) => folder,
        Err(why) => return skip(&why),
    };
    let initramfs = match machine(series, &folder) {
        Ok(initramfs) => initramfs,
        Err(why) => return skip(&why),
    };
    let console = boot(&folder.join("vmlinuz"), &initramfs);
    for done in [guest::AGREED, guest::ENFORCED] {
        let report = console.lines().find(|line| line.contains(done));
        let report = report.unwrap_or_else(|| panic!("Linux {series} did not say `{done}`:\n{console}"));
        assert!(report.contains(&format!("Linux {series}.")), "{report}");
        println!("{}", report.trim());
    }
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
