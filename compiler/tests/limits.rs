//! Policies as large as polc takes them, through the whole compiler: what fits is
//! compiled and answers as the reference evaluator does, what exceeds a limit is
//! refused with the number. `runtime/tests/limits.rs` runs such programs.

#[path = "../../benches/dispatch/oracle.rs"]
mod oracle;
#[path = "../../benches/dispatch/shapes.rs"]
#[expect(dead_code, reason = "other users need the rest")]
mod shapes;

use std::net::{IpAddr, Ipv4Addr};

use ipnet::IpNet;
use polc_compiler::address::{AddressClasses, AddressLimits, AddressTables, classify};
use polc_compiler::compile::{CompileOptions, compile};
use polc_compiler::dispatch::{self, Choice, Dispatch, Limits, Unfit};
use polc_compiler::emit::{EmitOptions, Form};
use polc_compiler::ir::{Flow, Outcome, PolicyIr, Verdict};

use oracle::Oracle;
use shapes::{Shape, Workload, workload};

const RULES: usize = 100_000;
/// Packets of a workload that are evaluated: the reference takes milliseconds for each.
const FLOWS: usize = 100;

/// The policy's tables, by the steps of the compiler.
fn tables(ir: &PolicyIr) -> (AddressClasses, Result<Dispatch, Unfit>) {
    let classes = classify(ir);
    let addresses = AddressTables::build(&classes, &AddressLimits::default()).unwrap();
    let limits = Limits {
        classes: addresses.layout().class_capacity(),
        max_table_bytes: AddressLimits::default().max_table_bytes,
    };
    let dispatch = dispatch::build(ir, &classes, Choice::Fastest, &limits);
    (classes, dispatch)
}

/// Holds what the tables say of a packet against the reference evaluator.
fn check(dispatch: &Dispatch, classes: &AddressClasses, flow: &Flow, want: &Outcome) {
    let word = dispatch.evaluate(classes, flow).unwrap_or_else(|| panic!("no table entry: {flow:?}"));
    let verdict = if word.0 & 1 == 1 { Verdict::Allow } else { Verdict::Deny };
    assert!(want.logged.is_empty(), "a plain outcome is compared");
    assert_eq!((verdict, word.0 / 2), (want.verdict, want.decision.as_u32()), "{flow:?}");
}

/// Packets of a workload, and how many different decisions they met.
fn agrees(work: &Workload) -> usize {
    let (classes, dispatch) = tables(&work.ir);
    let dispatch = dispatch.unwrap();
    let mut oracle = Oracle::new(&work.ir);
    let mut decisions = std::collections::BTreeSet::new();
    let edges = work.candidates.iter().map(|(_, flow)| flow);
    for flow in work.spread.iter().take(FLOWS).chain(edges.step_by(10)) {
        let want = oracle.evaluate(flow);
        check(&dispatch, &classes, flow, &want);
        decisions.insert(want.decision);
    }
    decisions.len()
}

/// Rules that a hundred thousand rules of a shape decide with tables, in one program.
fn fits(shape: Shape) {
    let work = workload(shape, RULES);
    assert!(agrees(&work) > FLOWS / 4, "too few rules were met to mean anything");
    let image = compile(work.ir, &CompileOptions::default()).unwrap();
    assert_eq!(image.programs.len(), 1);
    assert!(image.programs[0].code.slots() < 2_000, "{} slots", image.programs[0].code.slots());
    assert_eq!(image.decisions.len(), RULES + 1);
}

#[test]
fn a_hundred_thousand_selector_rules() {
    fits(Shape::SelectorPort);
}

#[test]
fn a_hundred_thousand_mixed_rules() {
    fits(Shape::Mix);
}

#[test]
fn a_hundred_thousand_rules_about_both_sides() {
    fits(Shape::BothSides);
}

#[test]
fn a_hundred_thousand_rules_of_nine_ipv6_prefix_lengths() {
    fits(Shape::Lengths6);
}

#[test]
fn one_rule_with_thirty_thousand_ports() {
    let work = workload(Shape::Ports, 30_000);
    assert_eq!(work.ir.rules.len(), 1);
    let (classes, dispatch) = tables(&work.ir);
    let dispatch = dispatch.unwrap();
    assert_eq!(dispatch.partition.columns.len(), 2);
    let mut flow = work.spread[0];
    flow.protocol = 6;
    for port in 0..=u16::MAX {
        flow.ports = Some((1, port));
        let allowed = port % 2 == 1 && port < 60_000;
        let word = dispatch.evaluate(&classes, &flow).unwrap();
        assert_eq!(word.0 & 1 == 1, allowed, "port {port}");
    }
    compile(work.ir, &CompileOptions::default()).unwrap();
}

#[test]
fn one_rule_with_a_hundred_thousand_cidrs() {
    let work = workload(Shape::Cidrs, RULES);
    let nets = &work.ir.sets.values().next().unwrap().nets;
    assert_eq!(nets.len(), RULES);
    let flow = |src: Ipv4Addr| Flow {
        src: src.into(),
        dst: Ipv4Addr::new(172, 16, 0, 9).into(),
        protocol: 6,
        ports: Some((1, 443)),
        icmp: None,
    };
    // The last address of each network, and the one behind it.
    let edges = nets.iter().step_by(97).flat_map(|net| {
        let IpNet::V4(net) = net else { panic!("an IPv4 network") };
        [net.broadcast(), Ipv4Addr::from(u32::from(net.broadcast()).wrapping_add(1))]
    });
    let (classes, dispatch) = tables(&work.ir);
    let dispatch = dispatch.unwrap();
    let mut allowed = 0;
    for src in edges {
        let at = nets.partition_point(|net| net.network() <= IpAddr::from(src));
        let is_member = at > 0 && nets[at - 1].contains(&IpAddr::from(src));
        let word = dispatch.evaluate(&classes, &flow(src)).unwrap();
        assert_eq!(word.0 & 1 == 1, is_member, "{src}");
        allowed += usize::from(is_member);
    }
    assert!(allowed > RULES / 97, "{allowed}");
    compile(work.ir, &CompileOptions::default()).unwrap();
}

/// A policy of the selector shape, whose rule `i` looks at a set with these members.
fn with_sets(rules: usize, members: impl Fn(usize) -> Vec<u32>) -> Workload {
    let mut work = workload(Shape::SelectorPort, rules);
    for (i, set) in work.ir.sets.values_mut().enumerate() {
        set.nets = members(i).into_iter().map(|a| IpNet::from(IpAddr::from(Ipv4Addr::from(a)))).collect();
    }
    work
}

#[test]
fn a_set_of_a_million_addresses() {
    const MEMBERS: u32 = 1_000_000;
    let member = |i: u32| 0x0a00_0000 + 3 * i;
    let work = with_sets(1, |_| (0..MEMBERS).map(member).collect());
    let (classes, dispatch) = tables(&work.ir);
    let dispatch = dispatch.unwrap();
    let mut flow = work.candidates[0].1;
    for i in (0..MEMBERS).step_by(99_991).chain([MEMBERS - 1]) {
        for (address, allowed) in [(member(i), true), (member(i) + 1, false), (member(i) + 2, false)] {
            flow.src = Ipv4Addr::from(address).into();
            let word = dispatch.evaluate(&classes, &flow).unwrap();
            assert_eq!(word.0 & 1 == 1, allowed, "{}", flow.src);
        }
    }
    let image = compile(work.ir, &CompileOptions::default()).unwrap();
    // A third of the addresses of a range: a trie, of four bytes for each of them, and
    // room for more.
    let hosts = image.maps.iter().find(|map| map.name == "polc_nets4").unwrap();
    assert!(hosts.dense.len() < 16 << 20, "{} bytes for a million addresses", hosts.dense.len());
}

#[test]
fn a_thousand_sets_for_each_address() {
    const SETS: usize = 1_000;
    // Address `a` is in all sets but number `a`: as many classes as addresses.
    let work = with_sets(SETS, |i| (0..300).filter(|a| *a != i as u32).map(|a| 0x0a00_0000 + a).collect());
    let (classes, dispatch) = tables(&work.ir);
    let dispatch = dispatch.unwrap();
    assert_eq!(classes.len(), 301);
    assert_eq!(classes.sets_of(classes.class_of("10.0.0.7".parse().unwrap())).len(), SETS - 1);
    let mut oracle = Oracle::new(&work.ir);
    let mut flow = work.candidates[0].1;
    for (address, port) in [(0, 0), (0, 1), (1, 1), (7, 7), (57, 7), (299, 49), (300, 5)] {
        flow.src = Ipv4Addr::from(0x0a00_0000 + address).into();
        flow.ports = Some((1, 8_000 + port));
        check(&dispatch, &classes, &flow, &oracle.evaluate(&flow));
    }
    compile(work.ir, &CompileOptions::default()).unwrap();
}

/// How compiling ends that must be refused.
fn refusal(ir: PolicyIr, limits: EmitOptions) -> String {
    let error = compile(ir, &CompileOptions { limits, ..CompileOptions::default() }).unwrap_err();
    assert!(error.is_limit(), "{error}");
    error.to_string()
}

#[test]
fn what_exceeds_a_limit_is_refused_with_the_number() {
    let work = || workload(Shape::SelectorPort, 3_000).ir;
    let chain = EmitOptions { form: Form::Chain, ..EmitOptions::default() };
    let entries = EmitOptions { max_entries: 1_000, ..chain };
    assert_eq!(refusal(work(), entries), "table polc_addr4 needs 30000 entries, at most 1000 are allowed");
    let bytes = EmitOptions { max_table_bytes: 100_000, form: Form::Sparse, ..EmitOptions::default() };
    let text = refusal(work(), bytes);
    assert!(text.contains("polc_nets4") && text.contains("at most 100000 are allowed"), "{text}");
    // Tables of a megabyte cannot hold it, and a chain of so many rules is too long.
    let small = EmitOptions { max_table_bytes: 1 << 20, max_slots: 1_000, ..EmitOptions::default() };
    let text = refusal(workload(Shape::BothOverlapPort, 3_000).ir, small);
    assert!(
        text.starts_with("the policy takes ") && text.ends_with("at most 31 can follow each other"),
        "{text}"
    );
    let slots = EmitOptions { max_slots: 100, ..EmitOptions::default() };
    let text = refusal(work(), slots);
    assert_eq!(text, "a program budget of 100 slots is not between 130 and 32767");
}
