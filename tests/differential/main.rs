//! One policy, many engines: the reference evaluator before and after the
//! passes, the interpreter, cranelift and the kernel must give every packet the
//! same verdict, the same decision and the same log record.
//!
//! Policies and packets are drawn at the rules' edges (`ir::generate`). Some
//! cases run again in a hostile frame: behind thousands of rules that never
//! match, and with a program budget so small that the policy spans many
//! programs. `POLC_CASES` and `POLC_SEED` say how many cases and which; a
//! failure prints the seed that repeats it alone.

mod engines;
mod frames;

use std::ops::Range;

use engines::{Case, Engines};
use polc_compiler::compile::CompileOptions;
use polc_compiler::emit::{EmitOptions, Form};
use polc_compiler::ir::generate::{self, Shape};

/// Cases that share one engine: making one costs more than running a case.
const BATCH: u64 = 50;
/// Packets drawn per policy.
const FLOWS: usize = 24;

fn number(variable: &str, default: u64) -> u64 {
    match std::env::var(variable) {
        Ok(text) => text.parse().unwrap_or_else(|_| panic!("{variable}={text} is not a number")),
        Err(_) => default,
    }
}

/// Runs `count` drawn cases, each changed by `frame`, through every engine.
fn run(name: &str, count: u64, shape: &Shape, options: &CompileOptions, frame: frames::Frame) {
    run_some(name, 0..count, shape, options, frame);
}

/// Runs the drawn cases with these numbers.
fn run_some(name: &str, cases: Range<u64>, shape: &Shape, options: &CompileOptions, frame: frames::Frame) {
    let seed = number("POLC_SEED", 0x706f_6c63);
    println!("{name}: cases {cases:?} from seed {seed} (POLC_CASES, POLC_SEED)");
    let count = cases.end - cases.start;
    let (mut packets, mut ran) = (0, 0);
    let mut engines = Engines::default();
    for start in cases.clone().step_by(BATCH as usize) {
        let seeds: Vec<u64> = (start..cases.end.min(start + BATCH)).map(|i| seed.wrapping_add(i)).collect();
        let cases: Vec<Case> = seeds
            .iter()
            .filter_map(|s| {
                let ir = generate::policy(*s, shape);
                let flows = generate::flows(&ir, *s, FLOWS);
                Case::new(*s, frame(ir), flows, options)
            })
            .collect();
        ran += cases.len() as u64;
        packets += engines.check(&cases);
    }
    println!("{name}: {packets} packets, {}", engines.summary());
    // Where a form is forced, a few policies may not fit it.
    let is_enough = ran * 2 >= count && packets as u64 > ran;
    assert!(count == 0 || is_enough, "too few cases or packets to mean anything: {ran} of {count}");
}

#[test]
fn engines_agree_on_drawn_policies() {
    let half = number("POLC_CASES", 2000).div_ceil(2);
    run_some("plain", 0..half, &Shape::default(), &CompileOptions::default(), frames::plain);
}

/// The other half: the longest of these tests, for two cores.
#[test]
fn engines_agree_on_more_drawn_policies() {
    let all = number("POLC_CASES", 2000);
    run_some("more", all.div_ceil(2)..all, &Shape::default(), &CompileOptions::default(), frames::plain);
}

#[test]
fn engines_agree_without_optimisation() {
    let cases = number("POLC_CASES", 2000) / 10;
    let options = CompileOptions { level: 0, ..CompileOptions::default() };
    run("unoptimised", cases, &Shape::default(), &options, frames::plain);
}

#[test]
fn engines_agree_on_larger_policies() {
    let cases = number("POLC_CASES", 2000) / 20;
    let shape = Shape { chains: 5, rules: 60, sets: 80, nets: 12, ports: 12, log: true };
    run("larger", cases, &shape, &CompileOptions::default(), frames::plain);
}

#[test]
fn engines_agree_behind_thousands_of_rules() {
    let cases = number("POLC_CASES", 2000) / 100;
    run("padded", cases, &Shape::default(), &CompileOptions::default(), frames::padded);
}

#[test]
fn engines_agree_with_tiny_programs() {
    let cases = number("POLC_CASES", 2000) / 10;
    let options = CompileOptions {
        limits: EmitOptions { form: Form::Chain, max_slots: 220, ..EmitOptions::default() },
        ..CompileOptions::default()
    };
    run("tiny programs", cases, &Shape::default(), &options, frames::plain);
}

/// A form, with counters, which must change nothing.
fn form(form: Form) -> CompileOptions {
    CompileOptions {
        limits: EmitOptions { form, count: true, ..EmitOptions::default() },
        ..CompileOptions::default()
    }
}

#[test]
fn engines_agree_on_chains() {
    let cases = number("POLC_CASES", 2000) / 5;
    run("chain", cases, &Shape::default(), &form(Form::Chain), frames::plain);
}

#[test]
fn engines_agree_on_compares() {
    let cases = number("POLC_CASES", 2000) / 5;
    let small = Shape { chains: 2, rules: 3, nets: 3, ports: 2, ..Shape::default() };
    run("compares", cases, &small, &form(Form::Direct), frames::listed);
}

/// Tables as they are where they are too large to be addressed directly.
#[test]
fn engines_agree_on_tables_that_are_looked_into() {
    let cases = number("POLC_CASES", 2000) / 10;
    let looked = |form: Form| {
        let limits = EmitOptions { form, count: true, max_direct_bytes: 0, ..EmitOptions::default() };
        CompileOptions { limits, ..CompileOptions::default() }
    };
    run("dense cells, looked into", cases, &Shape::default(), &looked(Form::Dense), frames::one_sided);
    run("sparse cells, looked into", cases, &Shape::default(), &looked(Form::Sparse), frames::one_sided);
    run("cross, looked into", cases, &Shape::default(), &looked(Form::Cross), frames::plain);
    run("bits, looked into", cases, &Shape::default(), &looked(Form::Bits), frames::plain);
}

#[test]
fn engines_agree_on_cells() {
    let cases = number("POLC_CASES", 2000) / 5;
    for (name, forced) in [("dense cells", Form::Dense), ("sparse cells", Form::Sparse)] {
        run(name, cases, &Shape::default(), &form(forced), frames::one_sided);
        run(
            &format!("crowded {name}"),
            cases.div_ceil(200),
            &Shape::default(),
            &form(forced),
            frames::crowded,
        );
    }
}

#[test]
fn engines_agree_on_cross() {
    let cases = number("POLC_CASES", 2000) / 5;
    run("cross", cases, &Shape::default(), &form(Form::Cross), frames::plain);
    run("crowded cross", cases.div_ceil(200), &Shape::default(), &form(Form::Cross), frames::crowded_both);
}

#[test]
fn engines_agree_on_bits() {
    let cases = number("POLC_CASES", 2000) / 5;
    run("bits", cases, &Shape::default(), &form(Form::Bits), frames::plain);
    run("one-sided bits", cases / 4, &Shape::default(), &form(Form::Bits), frames::one_sided);
    run("crowded bits", cases.div_ceil(200), &Shape::default(), &form(Form::Bits), frames::crowded_both);
    let wide = Shape { chains: 3, rules: 500, sets: 60, nets: 4, ports: 1, log: true };
    run("wide bits", cases.div_ceil(40), &wide, &form(Form::Bits), frames::widened);
}
