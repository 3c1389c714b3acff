//! The pages of `docs/diagnostics`: one for each code, with a mistake that polc
//! reports under that code and no other, what it prints, and a cure that works.
//!
//! `POLC_BLESS=1` writes the findings into the pages; everything else in them is
//! written by hand.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use polc_compiler::diag::{self, Diagnostic, Severity, Sources, codes};
use polc_compiler::lint;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/diagnostics");

/// The code whose mistake is too long for a page.
const GENERATED: &str = codes::TOO_MANY_ERRORS;

fn path(code: &str) -> PathBuf {
    Path::new(FOLDER).join(format!("{code}.md"))
}

fn page(code: &str) -> String {
    std::fs::read_to_string(path(code)).unwrap_or_else(|_| {
        panic!("docs/diagnostics/{code}.md is missing: write it as the other pages are, then run with POLC_BLESS=1")
    })
}

/// What stands between a fence of a language and its end, after a heading.
fn block<'p>(page: &'p str, heading: &str, language: &str) -> Option<&'p str> {
    let (_, section) = page.split_once(&format!("## {heading}\n"))?;
    let section = section.split("\n## ").next()?;
    let (_, rest) = section.split_once(&format!("```{language}\n"))?;
    let end = if rest.starts_with("```") { 0 } else { rest.find("\n```")? + 1 };
    Some(&rest[..end])
}

fn check(text: &str) -> (Sources, Vec<Diagnostic>) {
    let mut sources = Sources::default();
    sources.add("policy.yaml", text);
    let found = lint::check(&sources);
    (sources, found)
}

fn pages() -> impl Iterator<Item = (&'static str, String)> {
    codes::ALL.iter().map(|(code, _)| (*code, page(code)))
}

#[test]
fn every_page_has_its_codes_title() {
    for (code, title) in codes::ALL {
        assert!(
            page(code).starts_with(&format!("# {code}: {title}\n\n")),
            "{code}: the heading is `# CODE: title`"
        );
    }
}

#[test]
fn every_page_is_of_a_code() {
    for entry in std::fs::read_dir(FOLDER).expect("the folder exists") {
        let name = entry.expect("the folder is readable").file_name();
        let name = name.to_string_lossy();
        assert!(name.strip_suffix(".md").is_some_and(|code| codes::title(code).is_some()), "{name}");
    }
}

#[test]
fn mistakes_give_their_code_and_no_other() {
    for (code, page) in pages().filter(|(code, _)| *code != GENERATED) {
        let mistake = block(&page, "The mistake", "yaml").unwrap_or_else(|| panic!("{code}: no mistake"));
        let (sources, found) = check(mistake);
        let codes: BTreeSet<&str> = found.iter().map(|d| d.code).collect();
        let text = diag::render(&sources, &found, false);
        assert_eq!(codes, BTreeSet::from([code]), "{text}");
        let shown =
            block(&page, "The mistake", "text").unwrap_or_else(|| panic!("{code}: no findings shown"));
        if shown != text && std::env::var_os("POLC_BLESS").is_some() {
            let blessed = page.replacen(&format!("```text\n{shown}```"), &format!("```text\n{text}```"), 1);
            std::fs::write(path(code), blessed).expect("the page is writable");
        } else {
            assert_eq!(shown, text, "{code}: run this test with POLC_BLESS=1");
        }
    }
}

#[test]
fn cures_cure() {
    for (code, page) in pages().filter(|(code, _)| *code != GENERATED) {
        let cure = block(&page, "The cure", "yaml").unwrap_or_else(|| panic!("{code}: no cure"));
        let (sources, found) = check(cure);
        let clean = found.iter().all(|d| d.severity == Severity::Note && d.code != code);
        assert!(clean, "{code}: {}", diag::render(&sources, &found, false));
    }
}

#[test]
fn the_generated_mistake_gives_its_code() {
    let (sources, found) = check(&"not an object\n---\n".repeat(15_000));
    let last: Vec<Diagnostic> = found.into_iter().filter(|d| d.code == GENERATED).collect();
    let page = page(GENERATED);
    let shown = block(&page, "The mistake", "text");
    assert_eq!(shown, Some(diag::render(&sources, &last, false).as_str()));
}
