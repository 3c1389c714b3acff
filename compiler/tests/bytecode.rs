//! Golden listings: each `golden/bytecode/*.pir` is emitted as it stands, without
//! passes, and compared with the snapshot beside it. Instruction counts and table
//! sizes stand in the listing's head, so that a change of cost shows as well.
//!
//! `# slots N` sets the program budget, `# yaml file0:8 text` gives a line of the
//! policy. `INSTA_UPDATE=always` accepts new listings.

use std::path::Path;

use polc_compiler::emit::{EmitOptions, Form, emit};
use polc_compiler::image::listing;
use polc_compiler::ir::{parse, verify};

#[test]
fn listings() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../golden/bytecode");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::glob!("../../golden/bytecode", "*.pir", run));
}

fn run(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let ir = parse(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    verify(&ir).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    let directive = |name: &str| text.lines().find_map(|l| l.strip_prefix(&format!("# {name} ")));
    let mut options = EmitOptions::default();
    if let Some(slots) = directive("slots") {
        // A budget of slots is a chain's.
        options.form = Form::Chain;
        options.max_slots = slots.trim().parse().unwrap();
    }
    let yaml = |_: &str, line: u32| directive(&format!("yaml file0:{line}")).map(str::to_string);
    let image = emit(&ir, &options).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    insta::assert_snapshot!("listing", listing(&image, &yaml));
}
