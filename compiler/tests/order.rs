//! Passes over the whole packet space: a policy as a function from packets to what
//! becomes of them, by binary decision diagrams, before and after.
//!
//! A packet is the bits that policy may look at; who is a member of a selector's set
//! is one free bit per set and side, so that what holds here holds for any members.

use std::collections::BTreeMap;

use ipnet::IpNet;
use oxidd::bdd::{BDDFunction, BDDManagerRef, new_manager};
use oxidd::{BooleanFunction, Manager, ManagerRef};
use polc_compiler::ir::generate::{Rng, Shape, flows, policy};
use polc_compiler::ir::protocol::{ICMP, ICMPV6, SCTP, TCP, UDP};
use polc_compiler::ir::{
    Action, AddrSet, ChainEnd, Decision, Family, Flow, IcmpMatch, Match, PolicyIr, PortMatch, SetKind,
    SideMatch, Verdict, evaluate,
};
use polc_compiler::passes::{OptOptions, Profile, normalise, optimize, reorder};

/// What becomes of a packet, and of which packets.
type Outcomes = BTreeMap<(Verdict, Decision, Vec<Decision>), BDDFunction>;

/// Most sets of a policy.
const SETS: usize = 6;

/// First variables of the fields; most significant bit first.
const FAMILY: usize = 0;
const READABLE: usize = 1;
const PROTOCOL: usize = 2;
const ICMP_TYPE: usize = 10;
const ICMP_CODE: usize = 18;
const PORTS: [usize; 2] = [26, 42];
const MEMBERS: [usize; 2] = [58, 58 + SETS];
const ADDRESSES: [usize; 2] = [58 + 2 * SETS, 186 + 2 * SETS];
const VARIABLES: usize = 314 + 2 * SETS;

struct Space {
    variables: Vec<BDDFunction>,
    always: BDDFunction,
    never: BDDFunction,
    /// Keeps the diagrams alive.
    _manager: BDDManagerRef,
}

fn and(a: &BDDFunction, b: &BDDFunction) -> BDDFunction {
    a.and(b).expect("diagrams fit")
}

fn or(a: &BDDFunction, b: &BDDFunction) -> BDDFunction {
    a.or(b).expect("diagrams fit")
}

fn not(a: &BDDFunction) -> BDDFunction {
    a.not().expect("diagrams fit")
}

/// Side 0 is the source.
const SIDES: [usize; 2] = [0, 1];

impl Space {
    fn new() -> Self {
        let manager = new_manager(1 << 20, 1 << 18, 1);
        let variables = manager.with_manager_exclusive(|manager| {
            let numbers = manager.add_vars(VARIABLES as u32);
            numbers.map(|number| BDDFunction::var(manager, number).expect("diagrams fit")).collect()
        });
        let constant =
            |value| {
                manager.with_manager_shared(|manager| {
                    if value { BDDFunction::t(manager) } else { BDDFunction::f(manager) }
                })
            };
        Self { variables, always: constant(true), never: constant(false), _manager: manager }
    }

    fn any(&self, of: impl Iterator<Item = BDDFunction>) -> BDDFunction {
        of.fold(self.never.clone(), |all, one| or(&all, &one))
    }

    /// The first `length` of `width` bits are those of `value`.
    fn starts(&self, first: usize, width: usize, length: usize, value: u128) -> BDDFunction {
        (0..length).rev().fold(self.always.clone(), |rest, bit| {
            let variable = &self.variables[first + bit];
            if value >> (width - 1 - bit) & 1 == 1 {
                and(variable, &rest)
            } else {
                and(&not(variable), &rest)
            }
        })
    }

    fn byte(&self, first: usize, value: u8) -> BDDFunction {
        self.starts(first, 8, 8, value.into())
    }

    fn between(&self, first: usize, least: u16, most: u16) -> BDDFunction {
        let (mut above, mut below) = (self.always.clone(), self.always.clone());
        for bit in (0..16).rev() {
            let variable = &self.variables[first + bit];
            let set = |value: u16| value >> (15 - bit) & 1 == 1;
            above = if set(least) { and(variable, &above) } else { or(variable, &above) };
            let unset = not(variable);
            below = if set(most) { or(&unset, &below) } else { and(&unset, &below) };
        }
        and(&above, &below)
    }

    fn family(&self, family: Family) -> BDDFunction {
        let v6 = &self.variables[FAMILY];
        if family == Family::V6 { v6.clone() } else { not(v6) }
    }

    fn has_ports(&self) -> BDDFunction {
        let protocols = self.any([TCP, UDP, SCTP].into_iter().map(|p| self.byte(PROTOCOL, p)));
        and(&self.variables[READABLE], &protocols)
    }

    fn has_icmp(&self) -> BDDFunction {
        let v4 = and(&self.family(Family::V4), &self.byte(PROTOCOL, ICMP));
        let v6 = and(&self.family(Family::V6), &self.byte(PROTOCOL, ICMPV6));
        and(&self.variables[READABLE], &or(&v4, &v6))
    }

    fn icmp(&self, want: IcmpMatch) -> BDDFunction {
        let code = want.code.map_or(self.always.clone(), |code| self.byte(ICMP_CODE, code));
        and(&and(&self.has_icmp(), &self.byte(ICMP_TYPE, want.icmp_type)), &code)
    }

    fn contains(&self, policy: &Named<'_>, side: usize, set: AddrSet) -> BDDFunction {
        let data = &policy.ir.sets[set];
        if data.kind == SetKind::Members {
            return self.variables[MEMBERS[side] + policy.members[data.name.as_str()]].clone();
        }
        self.any(data.nets.iter().map(|net| {
            let (family, width, value) = match net {
                IpNet::V4(net) => (Family::V4, 32, u128::from(u32::from(net.network()))),
                IpNet::V6(net) => (Family::V6, 128, u128::from(net.network())),
            };
            let inside = self.starts(ADDRESSES[side], width, net.prefix_len().into(), value);
            and(&self.family(family), &inside)
        }))
    }

    fn port(&self, policy: &Named<'_>, side: usize, port: &PortMatch) -> BDDFunction {
        match *port {
            PortMatch::Range(first, last) => and(&self.has_ports(), &self.between(PORTS[side], first, last)),
            PortMatch::Named { protocol, port, set } => {
                let is = and(&self.byte(PROTOCOL, protocol), &self.between(PORTS[side], port, port));
                and(&and(&self.has_ports(), &is), &self.contains(policy, side, set))
            }
        }
    }

    fn side(&self, policy: &Named<'_>, side: usize, m: &SideMatch) -> BDDFunction {
        let mut holds = self.always.clone();
        m.in_sets.iter().for_each(|set| holds = and(&holds, &self.contains(policy, side, *set)));
        m.not_in.iter().for_each(|set| holds = and(&holds, &not(&self.contains(policy, side, *set))));
        if let Some(ports) = &m.ports {
            holds = and(&holds, &self.any(ports.iter().map(|port| self.port(policy, side, port))));
        }
        m.not_ports.iter().for_each(|port| holds = and(&holds, &not(&self.port(policy, side, port))));
        holds
    }

    fn matches(&self, policy: &Named<'_>, m: &Match) -> BDDFunction {
        let facts = [
            m.family.map(|family| self.family(family)),
            m.protocol.map(|protocol| self.byte(PROTOCOL, protocol)),
            m.not_protocol.map(|protocol| not(&self.byte(PROTOCOL, protocol))),
            m.icmp.map(|icmp| self.icmp(icmp)),
            m.not_icmp.map(|icmp| not(&self.icmp(icmp))),
            Some(self.side(policy, SIDES[0], &m.src)),
            Some(self.side(policy, SIDES[1], &m.dst)),
        ];
        facts.iter().flatten().fold(self.always.clone(), |all, fact| and(&all, fact))
    }

    /// The policy as a function; what becomes of no packet is left out.
    fn outcomes(&self, ir: &PolicyIr, members: &BTreeMap<String, usize>) -> Outcomes {
        let policy = Named { ir, members };
        let mut outcomes = Outcomes::new();
        let mut decide = |verdict, decision, logged: &[Decision], packets: BDDFunction| {
            let known = outcomes.entry((verdict, decision, logged.to_vec())).or_insert(self.never.clone());
            *known = or(known, &packets);
        };
        // Packets under way, by what has been logged of them.
        let mut open = vec![(Vec::new(), self.always.clone())];
        for chain in ir.order.iter().map(|chain| &ir.chains[*chain]) {
            let mut next = Vec::new();
            for rule in chain.rules.iter().map(|rule| &ir.rules[*rule]) {
                let matches = self.matches(&policy, &rule.matches);
                let mut logged = Vec::new();
                for (log, packets) in &mut open {
                    let hit = and(packets, &matches);
                    *packets = and(packets, &not(&matches));
                    match rule.action {
                        Action::Allow => decide(Verdict::Allow, rule.decision, log, hit),
                        Action::Deny => decide(Verdict::Deny, rule.decision, log, hit),
                        Action::Pass => next.push((log.clone(), hit)),
                        Action::Log => logged.push(([&log[..], &[rule.decision]].concat(), hit)),
                    }
                }
                open.extend(logged);
                open.retain(|(_, packets)| packets.satisfiable());
            }
            for (log, packets) in open {
                match chain.end {
                    ChainEnd::Allow(decision) => decide(Verdict::Allow, decision, &log, packets),
                    ChainEnd::Deny(decision) => decide(Verdict::Deny, decision, &log, packets),
                    ChainEnd::Pass => next.push((log, packets)),
                }
            }
            open = next;
        }
        outcomes.retain(|_, packets| packets.satisfiable());
        outcomes
    }
}

/// A policy and the numbers of its selector sets, by name: passes renumber sets.
struct Named<'a> {
    ir: &'a PolicyIr,
    members: &'a BTreeMap<String, usize>,
}

fn members(ir: &PolicyIr) -> BTreeMap<String, usize> {
    let names = ir.sets.values().filter(|set| set.kind == SetKind::Members).map(|set| set.name.clone());
    let mut numbers: BTreeMap<String, usize> = names.map(|name| (name, 0)).collect();
    numbers.values_mut().enumerate().for_each(|(number, value)| *value = number);
    numbers
}

/// A packet's bits.
fn bits(ir: &PolicyIr, members: &BTreeMap<String, usize>, flow: &Flow) -> Vec<(u32, bool)> {
    let mut bits = vec![false; VARIABLES];
    let mut put = |first: usize, width: usize, value: u128| {
        (0..width).for_each(|bit| bits[first + bit] = value >> (width - 1 - bit) & 1 == 1);
    };
    put(FAMILY, 1, flow.src.is_ipv6().into());
    put(READABLE, 1, (flow.ports.is_some() || flow.icmp.is_some()).into());
    put(PROTOCOL, 8, flow.protocol.into());
    let (ty, code) = flow.icmp.unwrap_or_default();
    put(ICMP_TYPE, 8, ty.into());
    put(ICMP_CODE, 8, code.into());
    let (sport, dport) = flow.ports.unwrap_or_default();
    put(PORTS[0], 16, sport.into());
    put(PORTS[1], 16, dport.into());
    for (side, address) in [flow.src, flow.dst].into_iter().enumerate() {
        match address {
            std::net::IpAddr::V4(v4) => put(ADDRESSES[side], 32, u32::from(v4).into()),
            std::net::IpAddr::V6(v6) => put(ADDRESSES[side], 128, v6.into()),
        }
        for set in ir.sets.values().filter(|set| set.kind == SetKind::Members) {
            let inside = set.nets.iter().any(|net| net.contains(&address));
            put(MEMBERS[side] + members[&set.name], 1, inside.into());
        }
    }
    bits.into_iter().enumerate().map(|(number, bit)| (number as u32, bit)).collect()
}

/// Draws a policy, as the passes find it.
fn draw(seed: u64, shape: &Shape) -> PolicyIr {
    let mut ir = policy(seed, shape);
    normalise(&mut ir);
    ir
}

fn shapes() -> [Shape; 3] {
    [
        Shape { chains: 2, rules: 8, sets: SETS, ..Shape::default() },
        Shape { chains: 1, rules: 16, sets: 3, ..Shape::default() },
        Shape { chains: 1, rules: 12, sets: SETS, log: false, ..Shape::default() },
    ]
}

#[test]
fn diagrams_are_what_the_reference_evaluator_says() {
    let space = Space::new();
    let mut checked = 0;
    for (seed, shape) in (0..30).flat_map(|seed| shapes().map(|shape| (seed, shape))) {
        let ir = draw(seed, &shape);
        let members = members(&ir);
        let outcomes = space.outcomes(&ir, &members);
        for flow in flows(&ir, seed, 40) {
            let want = evaluate(&ir, &flow);
            let packet = bits(&ir, &members, &flow);
            let holding: Vec<_> = outcomes
                .iter()
                .filter(|(_, packets)| packets.eval(packet.iter().copied()))
                .map(|(key, _)| key)
                .collect();
            assert_eq!(holding, [&(want.verdict, want.decision, want.logged)], "seed {seed}: {flow:?}\n{ir}");
            checked += 1;
        }
    }
    assert!(checked > 3_000, "{checked}");
}

#[test]
fn orders_are_legal_for_every_packet() {
    let space = Space::new();
    let mut rng = Rng::new(41);
    let mut moved = 0;
    for (seed, shape) in (0..60).flat_map(|seed| shapes().map(|shape| (seed, shape))) {
        let before = draw(seed, &shape);
        let members = members(&before);
        let want = space.outcomes(&before, &members);
        let mut profile = Profile::new();
        before.decisions.keys().for_each(|decision| profile[decision] = rng.next_u64() >> rng.below(64));
        for hits in [None, Some(&profile)] {
            let mut after = before.clone();
            moved += reorder(&mut after, hits).moved;
            assert!(space.outcomes(&after, &members) == want, "seed {seed}\n{before}\nbecame\n{after}");
        }
        let mut after = before.clone();
        optimize(&mut after, &OptOptions { profile: Some(profile), ..OptOptions::default() }).unwrap();
        assert!(space.outcomes(&after, &members) == want, "seed {seed}\n{before}\nbecame\n{after}");
    }
    assert!(moved > 500, "{moved}");
}

/// The comparison tells orders apart: most swaps of neighbours that the pass would
/// not make change the function.
#[test]
fn illegal_orders_are_seen() {
    let space = Space::new();
    let mut seen = 0;
    for seed in 0..60 {
        let before = draw(seed, &shapes()[1]);
        let members = members(&before);
        let want = space.outcomes(&before, &members);
        let chain = before.order[0];
        for at in 1..before.chains[chain].rules.len() {
            let mut after = before.clone();
            after.chains[chain].rules.swap(at - 1, at);
            seen += usize::from(space.outcomes(&after, &members) != want);
        }
    }
    assert!(seen > 50, "{seen}");
}
