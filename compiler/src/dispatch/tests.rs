//! Every form's tables against the reference evaluator.

use super::*;
use crate::address::classify;
use crate::ir::generate::{Rng, Shape, flows, policy};
use crate::ir::{self, Decision, Family, Verdict, protocol};

const LIMITS: Limits = Limits { classes: 1 << 12, max_table_bytes: 256 << 20 };

/// Packets at the rules' edges, and packets of every kind of header.
fn packets(ir: &PolicyIr, seed: u64) -> Vec<Flow> {
    let mut all = flows(ir, seed, 60);
    let mut rng = Rng::new(seed);
    for flow in all.clone() {
        let protocol = rng.of([0, 1, 6, 17, 47, 58, 132, 136, 255]);
        let family = if flow.src.is_ipv4() { Family::V4 } else { Family::V6 };
        let readable = rng.chance(80);
        let port = |rng: &mut Rng| rng.of([0, 1, 79, 80, 81, 443, 1023, 1024, 65534, 65535]);
        let ports = (readable && protocol::has_ports(protocol)).then(|| (port(&mut rng), port(&mut rng)));
        let is_icmp = readable && protocol == protocol::icmp_of(family);
        let icmp = is_icmp.then(|| (rng.of([0, 3, 8, 128, 255]), rng.of([0, 1, 255])));
        all.push(Flow { protocol, ports, icmp, ..flow });
    }
    all
}

fn compare(dispatch: &Dispatch, ir: &PolicyIr, classes: &AddressClasses, flow: &Flow) {
    let want = ir::evaluate(ir, flow);
    let Some(Word(word)) = dispatch.evaluate(classes, flow) else { panic!("no table entry: {flow:?}\n{ir}") };
    let verdict = if word & 1 == 1 { Verdict::Allow } else { Verdict::Deny };
    let number = word / 2;
    let simple = dispatch.outcomes.simple();
    let (decision, logged) = if number < simple {
        (Decision::from_u32(number), Vec::new())
    } else {
        let complex = &dispatch.outcomes.complex()[(number - simple) as usize];
        (complex.decision, complex.logged.clone())
    };
    let got = ir::Outcome { verdict, decision, logged };
    assert_eq!(got, want, "{flow:?}\n{ir}");
}

/// Packets compared and policies that fitted.
fn check(
    shape: &Shape,
    seeds: std::ops::Range<u64>,
    choice: Choice,
    change: impl Fn(&mut PolicyIr),
) -> (usize, usize) {
    let (mut packets_seen, mut fitted) = (0, 0);
    for seed in seeds {
        let mut ir = policy(seed, shape);
        change(&mut ir);
        let classes = classify(&ir);
        let dispatch = match build(&ir, &classes, choice, &LIMITS) {
            Ok(dispatch) => dispatch,
            Err(Unfit::TwoSided) => continue,
            Err(unfit) => panic!("seed {seed}: {unfit}"),
        };
        fitted += 1;
        for flow in packets(&ir, seed) {
            compare(&dispatch, &ir, &classes, &flow);
            packets_seen += 1;
        }
    }
    (packets_seen, fitted)
}

/// Leaves only the criteria about one side's address.
fn one_sided(ir: &mut PolicyIr, side: Side) {
    for rule in ir.rules.values_mut() {
        let other = match side {
            Side::Src => &mut rule.matches.dst,
            Side::Dst => &mut rule.matches.src,
        };
        other.in_sets.clear();
        other.not_in.clear();
        let named = |port: &ir::PortMatch| matches!(port, ir::PortMatch::Named { .. });
        other.not_ports.retain(|port| !named(port));
        if let Some(ports) = &mut other.ports {
            ports.retain(|port| !named(port));
        }
    }
}

#[test]
fn cells_agree_with_the_reference() {
    for side in [Side::Src, Side::Dst] {
        for choice in [Choice::Dense, Choice::Sparse, Choice::Cross] {
            let (packets, fitted) = check(&Shape::default(), 0..200, choice, |ir| one_sided(ir, side));
            assert!(fitted == 200 && packets > 20_000, "{fitted} {packets}");
            let large = Shape { chains: 4, rules: 60, sets: 60, nets: 10, ports: 8, log: true };
            check(&large, 0..30, choice, |ir| one_sided(ir, side));
        }
    }
}

#[test]
fn cross_agrees_with_the_reference() {
    let (packets, fitted) = check(&Shape::default(), 0..400, Choice::Cross, |_| ());
    assert!(fitted == 400 && packets > 40_000, "{fitted} {packets}");
    let large = Shape { chains: 4, rules: 60, sets: 60, nets: 10, ports: 8, log: true };
    check(&large, 0..40, Choice::Cross, |_| ());
}
