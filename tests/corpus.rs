//! What policy means, corner by corner: one folder of `tests/corpus` for each.
//!
//! A folder holds `policy.yaml`, `expect.txt` and, unless the common
//! `tests/corpus/cluster.yaml` will do, a `cluster.yaml`. Each packet that
//! `expect.txt` names must get the verdict and the deciding rule that stand
//! there, from the reference engine, the interpreter, cranelift and the kernel.
//! `tests/corpus/README.md` says which sentence each folder is about, and how
//! `expect.txt` is written.
//!
//! All folders share one engine of each kind: making one costs more than a
//! folder's packets. `POLC_CORPUS=word` runs only the folders whose name has the
//! word; `POLC_REQUIRE_KERNEL=1` makes a missing kernel engine a failure.

#[path = "corpus/case.rs"]
mod case;
#[path = "corpus/engines.rs"]
mod engines;
#[path = "corpus/expect.rs"]
mod expect;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use case::Case;

fn corpus() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus")
}

/// The folders' names, sorted.
fn folders() -> Vec<String> {
    let entries = fs::read_dir(corpus()).expect("tests/corpus is there").map(|e| e.expect("it is readable"));
    let folders = entries.filter(|e| e.path().is_dir()).map(|e| e.file_name().to_string_lossy().into_owned());
    let mut folders: Vec<String> = folders.collect();
    folders.sort();
    folders
}

#[test]
fn every_folder_gets_what_it_expects() {
    let wanted = std::env::var("POLC_CORPUS").unwrap_or_default();
    let folders = folders().into_iter().filter(|folder| folder.contains(&wanted));
    let mut cases: Vec<Case> = folders.map(|folder| Case::read(&corpus(), &folder)).collect();
    assert!(!cases.is_empty(), "no folder is called `{wanted}`");
    let mut wrong: Vec<String> = cases.iter_mut().flat_map(|case| std::mem::take(&mut case.wrong)).collect();
    let summary = engines::check(&cases, &mut wrong);
    println!("{} folders: {summary}", cases.len());
    assert!(wrong.is_empty(), "{} expectations fail:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn the_index_names_every_folder_and_no_other() {
    let readme = fs::read_to_string(corpus().join("README.md")).expect("the index is there");
    let rows = readme.lines().filter(|line| line.starts_with("| "));
    let named: BTreeSet<&str> = rows
        .filter_map(|row| row.rsplit('|').nth(1))
        .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        .collect();
    let folders = folders();
    let there: BTreeSet<&str> = folders.iter().map(String::as_str).collect();
    let missing: Vec<_> = there.difference(&named).collect();
    let gone: Vec<_> = named.difference(&there).collect();
    assert!(missing.is_empty() && gone.is_empty(), "not in the index: {missing:?}; no such folder: {gone:?}");
}
