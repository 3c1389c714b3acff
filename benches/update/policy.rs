//! The policy whose members change, and packets with what is expected of each.
//!
//! Sets of sources, each with a rule for a port that all of them share and one for a
//! port of its own; in forms for rules about both sides, every rule asks for a set of
//! destinations too. Addresses:
//!
//! | address | is |
//! |---|---|
//! | 10.0.0.0/16 … | steady members, dealt out to the sets |
//! | 10.101.0.0/16 | movers: always a member of some set |
//! | 10.102.0.0/16 | comers: members now and then |
//! | 10.103.0.0/16 | prefixes that come and go |
//! | 10.104.0.0/24 | a prefix that stays |
//! | 10.105.0.0/16 | nobody |

use std::net::Ipv4Addr;

use ipnet::IpNet;
use polc_compiler::compile::CompileOptions;
use polc_compiler::emit::{EmitOptions, Form};
use polc_compiler::ir::{
    Action, AddrSet, AddrSetData, ChainData, ChainEnd, DecisionData, DecisionKind, Direction, Flow, Match,
    PolicyIr, PortMatch, RuleData, RuleOrigins, SetKind, SideMatch,
};

use crate::plan::Kind;
use crate::shapes::SPREAD;

/// Sets of sources.
pub const SETS: u32 = 64;
/// Movers, and comers.
pub const MOVING: u32 = 128;
/// The port that every set may use.
const SHARED: u16 = 80;
/// The port that set 0 may use; the others follow.
const OWN: u16 = 1000;
/// A port that nobody may use.
const CLOSED: u16 = 9999;

/// What a packet must meet at every moment.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Expected {
    Either = 0,
    Allowed = 1,
    Denied = 2,
}

pub struct World {
    pub ir: PolicyIr,
    pub options: CompileOptions,
    members: u32,
}

pub fn address(second: u8, number: u32) -> Ipv4Addr {
    let [_, _, c, d] = number.to_be_bytes();
    Ipv4Addr::new(10, second, c, d)
}

fn steady(number: u32) -> Ipv4Addr {
    let [_, b, c, d] = number.to_be_bytes();
    Ipv4Addr::new(10, b, c, d)
}

pub fn host(address: Ipv4Addr) -> IpNet {
    IpNet::from(std::net::IpAddr::from(address))
}

/// The destination of every packet.
const DESTINATION: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);

impl World {
    pub fn new(form: Form, members: u32) -> Self {
        let mut ir = PolicyIr::new("update", Direction::Ingress);
        let mut nets = vec![Vec::new(); SETS as usize];
        for number in 0..members {
            nets[(number % SETS) as usize].push(host(steady(number)));
        }
        for number in 0..MOVING {
            nets[(number % SETS) as usize].push(host(address(101, number)));
        }
        nets[0].push(IpNet::new(Ipv4Addr::new(10, 104, 0, 0).into(), 24).unwrap_or_default());
        for (number, mut nets) in nets.into_iter().enumerate() {
            nets.sort_unstable();
            ir.sets.push(AddrSetData { kind: SetKind::Members, name: format!("sources {number}"), nets });
        }
        let both_sides = matches!(form, Form::Cross | Form::Bits);
        let destinations = [0, 1, 2, 3].map(|number| {
            let nets = vec![host(DESTINATION)];
            ir.sets.push(AddrSetData { kind: SetKind::Members, name: format!("destinations {number}"), nets })
        });
        let mut rules = Vec::new();
        let decide = |ir: &mut PolicyIr, kind, index, action| {
            ir.decisions.push(DecisionData {
                kind,
                api: String::new(),
                object: String::new(),
                namespace: None,
                name: "update".into(),
                tier: None,
                rule: index,
                action,
                at: None,
            })
        };
        for number in 0..SETS {
            for port in [SHARED, OWN + number as u16] {
                let index = rules.len() as u32;
                let decision = decide(&mut ir, DecisionKind::Rule, Some(index), Action::Allow);
                let src = SideMatch { in_sets: vec![AddrSet::from_u32(number)], ..SideMatch::default() };
                let in_sets = if both_sides { vec![destinations[number as usize % 4]] } else { Vec::new() };
                let ports = Some(vec![PortMatch::Range(port, port)]);
                let dst = SideMatch { in_sets, ports, ..SideMatch::default() };
                let matches = Match { protocol: Some(6), src, dst, ..Match::default() };
                let origins = RuleOrigins::default();
                rules.push(ir.rules.push(RuleData { matches, action: Action::Allow, decision, origins }));
            }
        }
        let end = ChainEnd::Deny(decide(&mut ir, DecisionKind::TierDefault, None, Action::Deny));
        ir.order.push(ir.chains.push(ChainData { name: "update".into(), rules, end }));
        let limits = EmitOptions { form, ..EmitOptions::default() };
        Self { ir, options: CompileOptions { limits, ..CompileOptions::default() }, members }
    }

    /// The policy with other members: `change` is given those of the sources' sets, and
    /// may leave them in any order.
    pub fn with(&self, change: impl FnOnce(&mut [Vec<IpNet>])) -> PolicyIr {
        let mut ir = self.ir.clone();
        let ids: Vec<AddrSet> = (0..SETS).map(AddrSet::from_u32).collect();
        let mut sets: Vec<Vec<IpNet>> = ids.iter().map(|id| std::mem::take(&mut ir.sets[*id].nets)).collect();
        change(&mut sets);
        for (id, mut nets) in ids.into_iter().zip(sets) {
            nets.sort_unstable();
            nets.dedup();
            ir.sets[id].nets = nets;
        }
        ir
    }

    /// Packets that are decided while members change in a way.
    pub fn packets(&self, kind: Kind) -> Vec<(Flow, Expected)> {
        let mut packets = Vec::with_capacity(SPREAD);
        let mut number = 0;
        while packets.len() < SPREAD {
            let member = number * 7919 % self.members;
            let own = OWN + (member % SETS) as u16;
            let other = OWN + ((member + 1) % SETS) as u16;
            let comer = if kind == Kind::HostsComeAndGo { Expected::Either } else { Expected::Denied };
            let moving = number % MOVING;
            let prefix = Ipv4Addr::new(10, 103, number as u8, 7);
            packets.extend(
                [
                    (steady(member), SHARED, Expected::Allowed),
                    (steady(member), own, Expected::Allowed),
                    (steady(member), other, Expected::Denied),
                    (address(101, moving), SHARED, Expected::Allowed),
                    (address(101, moving), CLOSED, Expected::Denied),
                    (address(102, moving), SHARED, comer),
                    (address(102, moving), CLOSED, Expected::Denied),
                    (prefix, SHARED, Expected::Either),
                    (prefix, CLOSED, Expected::Denied),
                    (Ipv4Addr::new(10, 104, 0, number as u8), SHARED, Expected::Allowed),
                    (address(105, number), SHARED, Expected::Denied),
                ]
                .map(|(src, port, expected)| (flow(src, port), expected)),
            );
            number += 1;
        }
        packets.truncate(SPREAD);
        packets
    }
}

fn flow(src: Ipv4Addr, port: u16) -> Flow {
    Flow { src: src.into(), dst: DESTINATION.into(), protocol: 6, ports: Some((40_000, port)), icmp: None }
}
