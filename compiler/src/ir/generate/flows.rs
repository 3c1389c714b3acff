//! Packets at the edges of a policy's rules.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::rng::Rng;
use crate::ir::protocol::{ICMP, ICMPV6, SCTP, TCP, UDP, has_ports, icmp_of};
use crate::ir::{AddrSet, Chain, Family, Flow, Match, PolicyIr, PortMatch, Rule, SideMatch};

/// Draws `n` packets: each aims at one rule, with addresses at its prefixes'
/// first and last address ±1, ports at its ranges' ends ±1, its protocol or
/// another, its ICMP type and code or a neighbour; some have no readable
/// transport header, as later fragments. Every drawn packet can exist: ports
/// only with TCP, UDP, SCTP, ICMP types only with the family's ICMP.
pub fn flows(ir: &PolicyIr, seed: u64, n: usize) -> Vec<Flow> {
    let mut rng = Rng::new(seed ^ 0x5eed_f10e);
    let rules: Vec<Rule> = live(ir).collect();
    (0..n).map(|_| flow(&mut rng, ir, &rules)).collect()
}

fn live(ir: &PolicyIr) -> impl Iterator<Item = Rule> {
    let chain = |chain: &Chain| ir.chains[*chain].rules.iter().copied();
    ir.order.iter().flat_map(chain)
}

fn flow(rng: &mut Rng, ir: &PolicyIr, rules: &[Rule]) -> Flow {
    let any = Match::default();
    let m = rng.pick(rules).map_or(&any, |rule| &ir.rules[*rule].matches);
    let family = family(rng, ir, m);
    let protocol = protocol(rng, m, family);
    let src = address(rng, ir, &m.src, family);
    let dst = address(rng, ir, &m.dst, family);
    let readable = rng.chance(92);
    let ports = (readable && has_ports(protocol)).then(|| (port(rng, &m.src), port(rng, &m.dst)));
    let icmp = (readable && protocol == icmp_of(family)).then(|| icmp(rng, m));
    Flow { src, dst, protocol, ports, icmp }
}

fn family(rng: &mut Rng, ir: &PolicyIr, m: &Match) -> Family {
    let sets = m.src.in_sets.iter().chain(&m.dst.in_sets);
    let mut of_sets = sets.filter_map(|set| ir.sets[*set].nets.first()).map(|net| match net {
        IpNet::V4(_) => Family::V4,
        IpNet::V6(_) => Family::V6,
    });
    let wanted = m.family.or(of_sets.next());
    match wanted {
        Some(family) if rng.chance(92) => family,
        _ => rng.of([Family::V4, Family::V4, Family::V6]),
    }
}

fn protocol(rng: &mut Rng, m: &Match, family: Family) -> u8 {
    let wants_icmp = m.icmp.is_some() || m.not_icmp.is_some();
    let named = m.src.ports.iter().chain(&m.dst.ports).flatten().find_map(|p| match p {
        PortMatch::Named { protocol, .. } => Some(*protocol),
        PortMatch::Range(..) => None,
    });
    match m.protocol {
        Some(protocol) if rng.chance(90) => protocol,
        _ if wants_icmp && rng.chance(85) => icmp_of(family),
        _ if named.is_some() && rng.chance(50) => named.unwrap_or(6),
        _ if m.not_protocol.is_some() && rng.chance(15) => m.not_protocol.unwrap_or(6),
        _ => rng.of([TCP, TCP, TCP, UDP, UDP, SCTP, ICMP, ICMPV6, 0, 255, 47, icmp_of(family)]),
    }
}

fn port(rng: &mut Rng, side: &SideMatch) -> u16 {
    let edges: Vec<(u16, u16)> = side
        .ports
        .iter()
        .flatten()
        .chain(&side.not_ports)
        .map(|p| match *p {
            PortMatch::Range(first, last) => (first, last),
            PortMatch::Named { port, .. } => (port, port),
        })
        .collect();
    match rng.pick(&edges) {
        Some((first, last)) if rng.chance(90) => {
            rng.of([*first, *first, *last, first.wrapping_sub(1), last.wrapping_add(1), first / 2 + last / 2])
        }
        _ => rng.of([0, 80, 443, 8080, 65535, rng.clone().next_u64() as u16]),
    }
}

fn icmp(rng: &mut Rng, m: &Match) -> (u8, u8) {
    match m.icmp.or(m.not_icmp) {
        Some(want) => {
            let ty = rng.of([want.icmp_type, want.icmp_type, want.icmp_type, want.icmp_type.wrapping_add(1)]);
            let code = want.code.unwrap_or(0);
            (ty, rng.of([code, code, code.wrapping_add(1), 255]))
        }
        None => (rng.of([0, 3, 8, 128, 255]), rng.of([0, 1, 255])),
    }
}

/// An address at the edge of one of the sets that the side looks at.
fn address(rng: &mut Rng, ir: &PolicyIr, side: &SideMatch, family: Family) -> IpAddr {
    let named = side.ports.iter().flatten().chain(&side.not_ports).filter_map(|p| match p {
        PortMatch::Named { set, .. } => Some(set),
        PortMatch::Range(..) => None,
    });
    let sets: Vec<&AddrSet> = side.in_sets.iter().chain(&side.not_in).chain(named).collect();
    let all = rng.chance(15);
    let nets: Vec<IpNet> = ir
        .sets
        .iter()
        .filter(|(id, _)| all || sets.is_empty() || sets.contains(&id))
        .flat_map(|(_, set)| set.nets.iter().copied())
        .filter(|net| matches!(net, IpNet::V4(_)) == (family == Family::V4))
        .collect();
    match rng.pick(&nets) {
        Some(net) => edge(rng, *net),
        None => anywhere(rng, family),
    }
}

fn edge(rng: &mut Rng, net: IpNet) -> IpAddr {
    let step = rng.of([0, 0, 0, 1]);
    match net {
        IpNet::V4(net) => {
            let (first, last) = (u32::from(net.network()), u32::from(net.broadcast()));
            Ipv4Addr::from(rng.of([first.wrapping_sub(step), last.wrapping_add(step)])).into()
        }
        IpNet::V6(net) => {
            let (first, last, step) =
                (u128::from(net.network()), u128::from(net.broadcast()), u128::from(step));
            Ipv6Addr::from(rng.of([first.wrapping_sub(step), last.wrapping_add(step)])).into()
        }
    }
}

fn anywhere(rng: &mut Rng, family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::from(rng.next_u64() as u32).into(),
        Family::V6 => Ipv6Addr::from(u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64())).into(),
    }
}
