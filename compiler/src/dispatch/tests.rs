//! Every form's tables against the reference evaluator.

use super::*;
use crate::address::{Class, classify};
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
    match &dispatch.tables {
        Tables::Bits(bits) => compare_walk(bits, dispatch, ir, classes, flow),
        _ => compare_word(dispatch, ir, classes, flow),
    }
}

/// Bits: each rule on the way speaks for itself.
fn compare_walk(bits: &Bits, dispatch: &Dispatch, ir: &PolicyIr, classes: &AddressClasses, flow: &Flow) {
    let column = dispatch.ports.column(flow).unwrap();
    let walk = bits.walk(column, classes.class_of(flow.src), classes.class_of(flow.dst)).unwrap();
    let verdict = if walk.word.0 & 1 == 1 { Verdict::Allow } else { Verdict::Deny };
    let got = ir::Outcome { verdict, decision: Decision::from_u32(walk.word.0 / 2), logged: walk.logged };
    assert_eq!(got, ir::evaluate(ir, flow), "{flow:?}\n{ir}");
    assert!((walk.passed.len() + got.logged.len()) < bits.turns as usize, "{flow:?}\n{ir}");
}

fn compare_word(dispatch: &Dispatch, ir: &PolicyIr, classes: &AddressClasses, flow: &Flow) {
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

#[test]
fn bits_agree_with_the_reference() {
    let (packets, fitted) = check(&Shape::default(), 0..400, Choice::Bits, |_| ());
    assert!(fitted == 400 && packets > 40_000, "{fitted} {packets}");
    let large = Shape { chains: 4, rules: 60, sets: 60, nets: 10, ports: 8, log: true };
    check(&large, 0..40, Choice::Bits, |_| ());
    for side in [Side::Src, Side::Dst] {
        check(&Shape::default(), 0..100, Choice::Bits, |ir| one_sided(ir, side));
    }
}

/// Every rule asks for sets on both sides and for no port, so that all of them meet
/// in one column, a few hundred in each chain.
fn widen(ir: &mut PolicyIr) {
    let sets: Vec<ir::AddrSet> = ir.sets.keys().collect();
    for (i, rule) in ir.rules.values_mut().enumerate() {
        rule.matches = ir::Match::default();
        rule.matches.src.in_sets.push(sets[i * 7 % sets.len()]);
        let dst = sets[i * 11 % sets.len()];
        match i % 4 {
            0 => rule.matches.dst.not_in.push(dst),
            _ => rule.matches.dst.in_sets.push(dst),
        }
    }
}

#[test]
fn columns_of_many_blocks_agree_with_the_reference() {
    let shape = Shape { chains: 4, rules: 1500, sets: 120, nets: 4, ports: 1, log: true };
    let (mut chained, mut steps) = (0, 0);
    for seed in 0..60 {
        let mut ir = policy(seed, &shape);
        widen(&mut ir);
        if seed % 2 == 0 {
            let rules = &ir.rules;
            for chain in ir.chains.values_mut() {
                chain.rules.retain(|rule| rules[*rule].action != ir::Action::Log);
            }
        }
        let classes = classify(&ir);
        let dispatch = match build(&ir, &classes, Choice::Bits, &LIMITS) {
            Err(Unfit::Turns { given, max }) => {
                assert!(given > max, "{given}");
                continue;
            }
            dispatch => dispatch.unwrap(),
        };
        let Tables::Bits(bits) = &dispatch.tables else { panic!("another form") };
        chained += bits.records.iter().filter(|record| record.next > 0).count();
        for flow in packets(&ir, seed) {
            compare(&dispatch, &ir, &classes, &flow);
            let column = dispatch.ports.column(&flow).unwrap();
            let walk = bits.walk(column, classes.class_of(flow.src), classes.class_of(flow.dst)).unwrap();
            steps += walk.logged.len() + walk.passed.len();
        }
    }
    assert!(chained > 20 && steps > 100, "{chained} {steps}");
}

#[test]
fn rows_of_classes_follow_from_their_sets_alone() {
    for seed in 0..20 {
        let ir = policy(seed, &Shape::default());
        let classes = classify(&ir);
        let dispatch = build(&ir, &classes, Choice::Bits, &LIMITS).unwrap();
        let Tables::Bits(bits) = &dispatch.tables else { panic!("another form") };
        let conditions = &dispatch.partition.conditions;
        let mut postings = condition::Postings::new(conditions, &classes);
        let mut changed = Vec::new();
        // Whatever class was asked for before, and in any order.
        for class in classes.classes().collect::<Vec<_>>().into_iter().rev() {
            postings.changed(conditions, classes.sets_of(class), &mut changed);
            let row = bits.row(&changed);
            let start = class.as_u32() as usize * bits.row_words();
            assert_eq!(row, bits.rows[start..start + bits.row_words()], "{class} of\n{ir}");
            let mut stores = Vec::new();
            assert!(bits.fill_row(&changed, 3, class, &mut stores));
            let stored: Vec<u64> =
                stores.chunks(2).map(|s| u64::from(s[1].value) << 32 | u64::from(s[0].value)).collect();
            assert_eq!(stored, row);
            assert!((0..).zip(&stores).all(|(i, s)| (s.index, s.offset) == (class.as_u32(), i * 4)));
        }
        let beyond = Class::from_u32(bits.classes);
        assert!(!bits.fill_row(&[], 3, beyond, &mut Vec::new()), "{seed}");
        assert!(bits.classes as usize >= classes.len() && bits.classes <= LIMITS.classes);
    }
}
