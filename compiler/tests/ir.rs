//! File tests of the IR: each `golden/ir/*.pir` names a stage in its first line
//! (`# test prune`) and holds one IR. The stage's result is compared with the
//! snapshot beside the file; set `INSTA_UPDATE=always` to accept a new one.
//!
//! `# test verify` has no snapshot: what the verifier must report stands in the
//! file, as `# error: …` on the line where the entity is defined.

use std::fmt::Write as _;
use std::path::Path;

use polc_compiler::ir::{self, PolicyIr, PortMatch, Rule, generate};
use polc_compiler::passes::{self, Budget, OptOptions};

/// Packets that a rewritten IR must treat as the original does.
const FLOWS: usize = 2000;

#[test]
fn file_tests() {
    let mut settings = insta::Settings::clone_current();
    settings.set_snapshot_path("../../golden/ir");
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    let _guard = settings.bind_to_scope();
    insta::glob!("../../golden/ir", "*.pir", run);
}

fn run(path: &Path) {
    let text = std::fs::read_to_string(path).unwrap();
    let stage = text.lines().next().and_then(|line| line.strip_prefix("# test ")).unwrap_or_default();
    let ir = ir::parse(&text).unwrap_or_else(|e| panic!("{}:{e}", path.display()));
    let result = match stage {
        "verify" => return expect_errors(path, &text, &ir),
        "print" => ir.to_string(),
        "normalise" => rewritten(&ir, |ir| format!("{:?}", passes::normalise(ir))),
        "prune" => rewritten(&ir, |ir| format!("{:?}", passes::prune(ir))),
        "reorder" => rewritten(&ir, |ir| format!("{:?}", passes::reorder(ir, None))),
        "optimize" => rewritten(&ir, |ir| {
            format!("{:?}", passes::optimize(ir, &OptOptions::default()).map(|stats| stats.pruned))
        }),
        "classify" => classes(&ir),
        "plan" => rewritten(&ir, plan),
        other => panic!("{}: unknown stage {other:?} in the first line", path.display()),
    };
    insta::assert_snapshot!("expected", result);
}

/// Errors that the file announces, against those that the verifier reports.
fn expect_errors(path: &Path, text: &str, ir: &PolicyIr) {
    let mut want = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let entity = line.split([':', ' ']).find(|word| !word.is_empty()).unwrap_or_default();
        for error in line.split("# error: ").skip(1) {
            want.push(format!("{entity}: {}", error.trim()));
        }
    }
    let errors = ir::verify(ir).err().map(|e| e.errors).unwrap_or_default();
    let mut have: Vec<String> = errors.iter().map(ToString::to_string).collect();
    want.sort();
    have.sort();
    assert_eq!(have, want, "{}", path.display());
}

/// The report of a rewrite and the IR after it, which must verify and mean the same.
fn rewritten(before: &PolicyIr, rewrite: impl Fn(&mut PolicyIr) -> String) -> String {
    ir::verify(before).unwrap();
    let mut after = before.clone();
    let report = rewrite(&mut after);
    ir::verify(&after).unwrap();
    for flow in generate::flows(before, 1, FLOWS) {
        assert_eq!(ir::evaluate(&after, &flow), ir::evaluate(before, &flow), "{flow:?}");
    }
    format!("{report}\n\n{after}")
}

fn classes(ir: &PolicyIr) -> String {
    let classes = passes::classify(ir);
    let mut out = String::new();
    for (bit, set) in &classes.sets {
        let _ = writeln!(out, "{bit} = {set} {}", ir.sets[*set].name);
    }
    for class in classes.classes() {
        let row = classes.row(class);
        let sets: Vec<_> = classes.sets.values().filter(|set| classes.contains(class, **set)).collect();
        let _ = writeln!(out, "{class} = {row:x?} {sets:?}");
    }
    for (net, class) in &classes.v4 {
        let _ = writeln!(out, "{net} {class}");
    }
    for (net, class) in &classes.v6 {
        let _ = writeln!(out, "{net} {class}");
    }
    out
}

/// Plans programs of 8 slots, where a rule takes 1 and each port alternative 1.
fn plan(ir: &mut PolicyIr) -> String {
    let slots = |ir: &PolicyIr, rule: Rule| {
        let m = &ir.rules[rule].matches;
        let ports = |ports: &Option<Vec<PortMatch>>| ports.as_ref().map_or(0, Vec::len) as u32;
        1 + ports(&m.src.ports) + ports(&m.dst.ports)
    };
    let plan = match passes::plan(ir, Budget { slots: 8, piece: 1 }, &slots) {
        Ok(plan) => plan,
        Err(error) => return error.to_string(),
    };
    let mut out = String::new();
    for (segment, pieces) in &plan.segments {
        for piece in pieces {
            let rules = &ir.chains[piece.chain].rules[piece.rules.clone()];
            let end = if piece.ends_chain { "end" } else { "cut" };
            let _ = writeln!(out, "{segment}: {} {rules:?} {end}", piece.chain);
        }
    }
    out
}
