//! The checked-in entry object is what its sources build.
//!
//! Checksums need nothing but coreutils. Building it again needs clang 19: the
//! test says so and ends where it is missing, and fails there if
//! `POLC_REQUIRE_KERNEL` is set, as the gate does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

const OBJECT: &str = "polc_entry.o";
const COMPILER: &str = "clang-19";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("prebuilt-bpf")
}

/// Names in SHA256SUMS, in its order.
fn listed() -> Vec<String> {
    let sums = fs::read_to_string(folder().join("SHA256SUMS")).unwrap();
    sums.lines().filter_map(|line| line.split_whitespace().nth(1)).map(String::from).collect()
}

#[test]
fn checksums_match() {
    let out = Command::new("sha256sum")
        .args(["--check", "--strict", "--quiet", "SHA256SUMS"])
        .current_dir(folder())
        .output()
        .expect("sha256sum (coreutils) runs");
    assert!(
        out.status.success(),
        "a source changed without the object: run prebuilt-bpf/build.sh\n{}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
}

#[test]
fn every_source_has_a_checksum() {
    let mut sources: Vec<String> = fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| [".c", ".h", ".o", ".sh"].iter().any(|end| name.ends_with(end)))
        .collect();
    sources.sort();
    assert_eq!(listed(), sources);
}

#[test]
fn building_again_gives_the_same_bytes() {
    if Command::new(COMPILER).arg("--version").output().is_err() {
        assert!(std::env::var_os("POLC_REQUIRE_KERNEL").is_none(), "{COMPILER} is missing");
        eprintln!("skipped: {COMPILER} is missing (Debian package of that name)");
        return;
    }
    // Another folder, so that a path that leaked into the object shows.
    let elsewhere = Path::new(env!("CARGO_TARGET_TMPDIR")).join("prebuilt bpf");
    fs::create_dir_all(&elsewhere).unwrap();
    for name in listed().iter().filter(|name| *name != OBJECT) {
        fs::copy(folder().join(name), elsewhere.join(name)).unwrap();
    }
    let out = Command::new("sh").arg("build.sh").arg("again.o").current_dir(&elsewhere).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let built = fs::read(elsewhere.join("again.o")).unwrap();
    let checked_in = fs::read(folder().join(OBJECT)).unwrap();
    assert!(built == checked_in, "prebuilt-bpf/{OBJECT} is not what its sources build");
}
