//! Rendered diagnostics of bad inputs: every file of `golden/diagnostics` with
//! its snapshot beside it; lints run on those called `lint…` only.
//! `INSTA_UPDATE=always` blesses changes.

use polc_compiler::diag::{self, Sources, codes};
use polc_compiler::lint;
use polc_compiler::manifest;
use polc_compiler::resolve::Cluster;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../golden/diagnostics");

/// Codes that only an input too big for a golden file has; unit tests have them.
const WITHOUT_GOLDEN: [&str; 2] = [codes::TOO_BIG, codes::TOO_MANY_ERRORS];

fn rendered(path: &std::path::Path) -> String {
    let text = std::fs::read_to_string(path).expect("a golden input is readable");
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let mut sources = Sources::default();
    let lints = name.starts_with("lint");
    sources.add(name, text);
    let (objects, mut diagnostics) = manifest::read(&sources);
    if lints {
        diagnostics = lint::check(&sources);
    } else if !diag::has_errors(&diagnostics) {
        diagnostics.extend(Cluster::new(&sources, objects).1);
    }
    diag::render(&sources, &diagnostics, false)
}

#[test]
fn golden() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path(FOLDER);
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let _guard = settings.bind_to_scope();
    insta::glob!(FOLDER, "*.yaml", |path| {
        insta::assert_snapshot!("rendered", rendered(path));
    });
}

#[test]
fn every_code_has_a_golden_input() {
    let mut all = String::new();
    for entry in std::fs::read_dir(FOLDER).expect("the golden folder exists") {
        let path = entry.expect("the golden folder is readable").path();
        if path.extension().is_some_and(|e| e == "yaml") {
            all.push_str(&rendered(&path));
        }
    }
    let missing: Vec<_> = codes::ALL
        .iter()
        .filter(|(code, _)| !WITHOUT_GOLDEN.contains(code) && !all.contains(&format!("[{code}]")))
        .collect();
    assert!(missing.is_empty(), "no golden input has {missing:?}");
}

/// `docs/diagnostics.md`, as the table of codes has it.
fn documentation() -> String {
    let mut text = String::from(
        "# Diagnostic codes\n\nEvery finding about the input has a stable code. The first two digits are the area:\n\
         01 files and documents, 02 fields, 03 values, 04 combinations, 05 selectors, 06 the cluster as a whole,\n\
         07 lints: what is legal and probably not meant (`polc check` only).\n\
         Each has a page with the mistake and its cure. `golden/diagnostics/` has an input and the rendered findings for each.\n\n| code | what it is about |\n|---|---|\n",
    );
    for (code, title) in codes::ALL {
        text.push_str(&format!("| [{code}](diagnostics/{code}.md) | {title} |\n"));
    }
    text
}

#[test]
fn documentation_is_current() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/diagnostics.md");
    if std::env::var_os("POLC_BLESS").is_some() {
        std::fs::write(path, documentation()).expect("the documentation is writable");
    }
    let text = std::fs::read_to_string(path).unwrap_or_default();
    assert_eq!(text, documentation(), "run this test with POLC_BLESS=1");
}
