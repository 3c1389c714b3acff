//! The dependency rules of ARCHITECTURE.md ("Who may import whom"), held by
//! searching the sources: code below `#[cfg(test)]` is not looked at.

use std::fs;
use std::path::{Path, PathBuf};

/// Rust files below a folder of the repository, sorted.
fn rust_files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut todo = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join(folder)];
    while let Some(dir) = todo.pop() {
        for entry in fs::read_dir(&dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else if path.extension().is_some_and(|e| e == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    assert!(!found.is_empty(), "{folder} has no Rust files");
    found
}

/// Whether a file is compiled for tests only: those are named `tests` or `testing`.
fn is_test_code(path: &Path) -> bool {
    let path = path.strip_prefix(env!("CARGO_MANIFEST_DIR")).unwrap();
    path.iter().any(|part| part == "tests" || part == "tests.rs" || part == "testing.rs")
}

/// Lines of code: without comments, and without what follows `#[cfg(test)]`.
fn code_lines(path: &Path) -> Vec<(usize, String)> {
    if is_test_code(path) {
        return Vec::new();
    }
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap();
    code.lines()
        .enumerate()
        .filter(|(_, l)| !l.trim_start().starts_with("//"))
        .map(|(i, l)| (i + 1, l.split(" //").next().unwrap().to_string()))
        .collect()
}

/// Fails with every line of `folder` that is forbidden.
fn forbid(folder: &str, forbidden: impl Fn(&Path, &str) -> bool, why: &str) {
    let mut bad = Vec::new();
    for path in rust_files(folder) {
        for (number, line) in code_lines(&path) {
            if forbidden(&path, &line) {
                bad.push(format!("{}:{number}: {}", path.display(), line.trim()));
            }
        }
    }
    assert!(bad.is_empty(), "{why}:\n{}", bad.join("\n"));
}

/// Modules of the compiler that a line names as `crate::NAME`.
fn crate_modules(line: &str) -> Vec<&str> {
    line.split("crate::")
        .skip(1)
        .filter_map(|rest| rest.split(|c: char| !c.is_alphanumeric() && c != '_').next())
        .collect()
}

fn any_of(line: &str, words: &[&str]) -> bool {
    words.iter().any(|w| line.contains(w))
}

#[test]
fn the_compiler_touches_nothing_outside_itself() {
    let outside = ["std::fs", "std::env", "std::time", "std::process", "TcpStream", "UdpSocket", "Instant::"];
    forbid("compiler/src", |_, l| any_of(l, &outside), "the compiler does no I/O");
}

#[test]
fn unsafe_code_stands_in_sys_only() {
    let unsafe_code = |l: &str| l.contains("unsafe ") && !l.contains("forbid(unsafe");
    forbid("compiler/src", |_, l| unsafe_code(l), "no unsafe code in the compiler");
    forbid("src", |_, l| unsafe_code(l), "no unsafe code in the command");
    let in_sys = |p: &Path| p.components().any(|c| c.as_os_str() == "sys" || c.as_os_str() == "sys.rs");
    forbid("runtime/src", |p, l| unsafe_code(l) && !in_sys(p), "unsafe code belongs in runtime/src/sys");
}

#[test]
fn bpf_never_sees_policy() {
    forbid(
        "compiler/src/bpf",
        |_, l| crate_modules(l).iter().any(|m| *m != "bpf"),
        "bpf knows instructions only",
    );
}

#[test]
fn ir_sees_entity_maps_and_std() {
    forbid(
        "compiler/src/ir",
        |_, l| crate_modules(l).iter().any(|m| *m != "ir"),
        "ir imports no other module",
    );
    let foreign = ["serde", "petgraph", "object::", "annotate_snippets", "prefix_trie"];
    forbid("compiler/src/ir", |_, l| any_of(l, &foreign), "ir needs cranelift-entity and ipnet only");
}

#[test]
fn the_back_end_never_sees_the_front_end() {
    let front = ["manifest", "selector", "resolve", "lint"];
    for folder in
        ["address", "dispatch", "passes", "emit", "image"].map(|name| format!("compiler/src/{name}"))
    {
        forbid(
            &folder,
            |_, l| crate_modules(l).iter().any(|m| front.contains(m)),
            "no Kubernetes past the IR",
        );
    }
}

#[test]
fn the_runtime_never_sees_rules_or_passes() {
    let inner = [
        "polc_compiler::passes",
        "polc_compiler::manifest",
        "polc_compiler::resolve",
        "polc_compiler::emit",
        "PolicyIr",
        "RuleData",
        "ChainData",
    ];
    forbid("runtime/src", |_, l| any_of(l, &inner), "the runtime sees images, flows and verdicts only");
}

#[test]
fn the_arrow_runs_one_way() {
    for (manifest, never) in [("compiler/Cargo.toml", "polc-runtime"), ("runtime/Cargo.toml", "polc =")] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(manifest)).unwrap();
        assert!(!text.contains(never), "{manifest} depends on {never}");
    }
}
