//! Time of rule ordering, and what it gains: `cargo bench -p polc-compiler --bench order`.
//!
//! For each shape of policy and number of rules: the passes before it (normalise and
//! prune), ordering without and with a profile (one rule in a hundred decides 99 % of
//! the packets), and the expected cost of a packet before and after, and what no
//! legal order costs less than, by the profile. Fails if ordering takes more than
//! [`MOST`] anywhere. Best of [`ROUNDS`] rounds.

use std::process::ExitCode;
use std::time::{Duration, Instant};

use polc_compiler::ir::generate::Rng;
use polc_compiler::ir::{
    Action, AddrSet, AddrSetData, ChainData, ChainEnd, Decision, DecisionData, DecisionKind, Direction,
    Match, PolicyIr, PortMatch, RuleData, RuleOrigins, SetKind, SideMatch,
};
use polc_compiler::passes::{Profile, normalise, prune, reorder};

const SIZES: [usize; 3] = [1_000, 10_000, 100_000];
const ROUNDS: u32 = 2;
const MOST: Duration = Duration::from_secs(2);

/// Draws the match of rule `i` of `n`.
type Shape = fn(&mut PolicyIr, &mut Rng, usize, usize) -> Match;

const SHAPES: [(&str, Shape); 6] = [
    ("selector + port", selector_port),
    ("selector + one of 10 ports", selector_few_ports),
    ("CIDR + port", cidr_port),
    ("CIDR + one of 10 ports", cidr_few_ports),
    ("realistic mix", mix),
    ("overlapping sets x port ranges", overlapping),
];

fn main() -> ExitCode {
    let mut met = true;
    println!(
        "{:32} {:>7} | {:>9} {:>9} {:>9} | {:>10} {:>10} {:>10} {:>8}",
        "shape", "rules", "before", "model", "profile", "cost", "ordered", "at least", "beyond"
    );
    for (name, shape) in SHAPES {
        for rules in SIZES {
            met &= measure(name, shape, rules);
        }
    }
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn measure(name: &str, shape: Shape, rules: usize) -> bool {
    let mut ir = policy(shape, rules);
    let start = Instant::now();
    normalise(&mut ir);
    prune(&mut ir);
    let passes = start.elapsed();
    let profile = hits(&ir);
    let (model, _) = best(&ir, None);
    let (with_profile, done) = best(&ir, Some(&profile));
    let total: u64 = ir.rules.values().map(|rule| (profile[rule.decision] + 1) * 256).sum();
    let per_packet = |cost: u128| cost as f64 / total as f64;
    println!(
        "{name:32} {rules:>7} | {:>9} {:>9} {:>9} | {:>10.1} {:>10.1} {:>10.1} {:>8}",
        milliseconds(passes),
        milliseconds(model),
        milliseconds(with_profile),
        per_packet(done.cost_before),
        per_packet(done.cost_after),
        per_packet(done.cost_least),
        done.unordered,
    );
    model.max(with_profile) <= MOST
}

fn best(ir: &PolicyIr, profile: Option<&Profile>) -> (Duration, polc_compiler::passes::Reordered) {
    let mut least = Duration::MAX;
    let mut done = Default::default();
    for _ in 0..ROUNDS {
        let mut ir = ir.clone();
        let start = Instant::now();
        done = reorder(&mut ir, profile);
        least = least.min(start.elapsed());
    }
    (least, done)
}

fn milliseconds(time: Duration) -> String {
    format!("{:.1} ms", time.as_secs_f64() * 1e3)
}

/// One rule in a hundred decides 99 % of the packets.
fn hits(ir: &PolicyIr) -> Profile {
    let mut rng = Rng::new(2);
    let mut hits = Profile::new();
    for decision in ir.decisions.keys() {
        hits[decision] = if rng.chance(1) { 10_000 } else { 1 };
    }
    hits
}

/// A chain of `n` rules, each with its own decision; every seventh denies.
fn policy(shape: Shape, n: usize) -> PolicyIr {
    let mut rng = Rng::new(1);
    let mut ir = PolicyIr::new("bench", Direction::Ingress);
    let mut rules = Vec::new();
    for i in 0..n {
        let matches = shape(&mut ir, &mut rng, i, n);
        let action = if i % 7 == 6 { Action::Deny } else { Action::Allow };
        let decision = decision(&mut ir, action, Some(i as u32));
        rules.push(ir.rules.push(RuleData { matches, action, decision, origins: RuleOrigins::default() }));
    }
    let end = ChainEnd::Deny(decision(&mut ir, Action::Deny, None));
    let chain = ir.chains.push(ChainData { name: "default".into(), rules, end });
    ir.order.push(chain);
    ir
}

fn decision(ir: &mut PolicyIr, action: Action, rule: Option<u32>) -> Decision {
    let kind = if rule.is_some() { DecisionKind::Rule } else { DecisionKind::TierDefault };
    ir.decisions.push(DecisionData {
        kind,
        api: "networking.k8s.io/v1".into(),
        object: "NetworkPolicy".into(),
        namespace: None,
        name: "bench".into(),
        tier: Some("default".into()),
        rule,
        action,
        at: None,
    })
}

fn tcp(set: Option<AddrSet>, ports: Option<(u16, u16)>) -> Match {
    let src = SideMatch { in_sets: set.into_iter().collect(), ..SideMatch::default() };
    let ports = ports.map(|(first, last)| vec![PortMatch::Range(first, last)]);
    Match { protocol: Some(6), src, dst: SideMatch { ports, ..SideMatch::default() }, ..Match::default() }
}

/// Set `number`, made where it is not there yet.
fn members(ir: &mut PolicyIr, number: usize) -> AddrSet {
    while ir.sets.len() <= number {
        let name = format!("app == 'a{}'", ir.sets.len());
        ir.sets.push(AddrSetData { kind: SetKind::Members, name, nets: Vec::new() });
    }
    AddrSet::from_u32(number as u32)
}

fn cidr(ir: &mut PolicyIr, number: usize) -> AddrSet {
    let name = format!("10.{}.{}.{}/28", number >> 12 & 255, number >> 4 & 255, number << 4 & 255);
    let nets = name.parse().into_iter().collect();
    ir.sets.push(AddrSetData { kind: SetKind::Nets, name, nets })
}

fn selector_port(ir: &mut PolicyIr, _: &mut Rng, i: usize, _: usize) -> Match {
    let port = 1 + (i % 60_000) as u16;
    tcp(Some(members(ir, i % 1_000)), Some((port, port)))
}

fn selector_few_ports(ir: &mut PolicyIr, rng: &mut Rng, i: usize, _: usize) -> Match {
    let port = 8_000 + rng.below(10) as u16;
    tcp(Some(members(ir, i % 1_000)), Some((port, port)))
}

fn cidr_port(ir: &mut PolicyIr, rng: &mut Rng, i: usize, _: usize) -> Match {
    let port = 1 + rng.below(60_000) as u16;
    tcp(Some(cidr(ir, i)), Some((port, port)))
}

fn cidr_few_ports(ir: &mut PolicyIr, rng: &mut Rng, i: usize, _: usize) -> Match {
    let port = 8_000 + rng.below(10) as u16;
    tcp(Some(cidr(ir, i)), Some((port, port)))
}

/// 80 % selector and port, 10 % CIDR, 5 % negated, 5 % any source.
fn mix(ir: &mut PolicyIr, rng: &mut Rng, i: usize, n: usize) -> Match {
    let port = 1 + rng.below(n.min(60_000)) as u16;
    match rng.below(20) {
        0..=15 => tcp(Some(members(ir, i % 1_000)), Some((port, port))),
        16 | 17 => {
            let set = cidr(ir, i);
            tcp(Some(set), Some((port, port)))
        }
        18 => {
            let set = members(ir, i % 1_000);
            let mut m = tcp(None, Some((port, port)));
            m.src.not_in.push(set);
            m
        }
        _ => tcp(None, Some((port, port))),
    }
}

fn overlapping(ir: &mut PolicyIr, rng: &mut Rng, i: usize, _: usize) -> Match {
    let first = 1 + rng.below(60_000) as u16;
    tcp(Some(members(ir, i % 1_000)), Some((first, first + rng.below(1_000) as u16)))
}
