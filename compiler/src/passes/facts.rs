//! What can be proved about matches from their criteria alone.
//!
//! Each answer is certain where it is `true`; `false` means "not proved".
//! Members of [`SetKind::Members`] are data and prove nothing; such a set is only
//! known to be equal to itself. Facts about packets that the proofs use, from
//! [`crate::ir::Flow`]: ports exist for TCP, UDP and SCTP only; an ICMP type
//! exists for ICMP over IPv4 and ICMPv6 over IPv6 only, and never with ports.

use super::{nets, ports};
use crate::ir::protocol::{has_ports, icmp_family};
use crate::ir::{AddrSet, IcmpMatch, Match, PolicyIr, SetKind, SideMatch};

/// Whether every packet that matches has ports.
pub(super) fn needs_ports(m: &Match) -> bool {
    m.src.ports.is_some() || m.dst.ports.is_some()
}

/// Whether no packet that matches has ports.
pub(super) fn excludes_ports(m: &Match) -> bool {
    m.icmp.is_some() || m.protocol.is_some_and(|p| !has_ports(p))
}

/// Whether no packet that matches has an ICMP type.
pub(super) fn excludes_icmp(m: &Match) -> bool {
    let family = m.protocol.map(icmp_family);
    needs_ports(m)
        || family == Some(None)
        || matches!((family.flatten(), m.family), (Some(of), Some(is)) if of != is)
}

/// Whether `outer` holds for every type and code that `inner` holds for.
pub(super) fn icmp_covers(outer: IcmpMatch, inner: IcmpMatch) -> bool {
    outer.icmp_type == inner.icmp_type && (outer.code.is_none() || outer.code == inner.code)
}

/// Whether no type and code satisfies both.
pub(super) fn icmp_disjoint(a: IcmpMatch, b: IcmpMatch) -> bool {
    a.icmp_type != b.icmp_type || matches!((a.code, b.code), (Some(x), Some(y)) if x != y)
}

/// A set's members, if they are part of the policy.
pub(super) fn known(ir: &PolicyIr, set: AddrSet) -> Option<&[ipnet::IpNet]> {
    let data = &ir.sets[set];
    (data.kind == SetKind::Nets).then_some(data.nets.as_slice())
}

fn is_subset(ir: &PolicyIr, inner: AddrSet, outer: AddrSet) -> bool {
    inner == outer
        || matches!((known(ir, inner), known(ir, outer)), (Some(a), Some(b)) if nets::is_subset(a, b))
}

fn sets_disjoint(ir: &PolicyIr, a: AddrSet, b: AddrSet) -> bool {
    matches!((known(ir, a), known(ir, b)), (Some(a), Some(b)) if nets::are_disjoint(a, b))
}

/// Whether every packet that matches `m` also matches `by`.
pub(super) fn implies(ir: &PolicyIr, m: &Match, by: &Match) -> bool {
    by.family.is_none_or(|f| m.family == Some(f))
        && by.protocol.is_none_or(|p| m.protocol == Some(p))
        && by.not_protocol.is_none_or(|p| excludes_protocol(m, p))
        && by.icmp.is_none_or(|want| m.icmp.is_some_and(|have| icmp_covers(want, have)))
        && by.not_icmp.is_none_or(|not| excludes_icmp_type(m, not))
        && side_implies(ir, m, &m.src, &by.src)
        && side_implies(ir, m, &m.dst, &by.dst)
}

fn excludes_protocol(m: &Match, protocol: u8) -> bool {
    m.not_protocol == Some(protocol)
        || m.protocol.is_some_and(|p| p != protocol)
        || (needs_ports(m) && !has_ports(protocol))
        || (m.icmp.is_some() && icmp_family(protocol).is_none())
}

fn excludes_icmp_type(m: &Match, not: IcmpMatch) -> bool {
    excludes_icmp(m)
        || m.not_icmp.is_some_and(|have| icmp_covers(have, not))
        || m.icmp.is_some_and(|have| icmp_disjoint(have, not))
}

fn side_implies(ir: &PolicyIr, m: &Match, side: &SideMatch, by: &SideMatch) -> bool {
    let in_all = by.in_sets.iter().all(|set| side.in_sets.iter().any(|have| is_subset(ir, *have, *set)));
    let in_none = by.not_in.iter().all(|set| {
        side.not_in.iter().any(|have| is_subset(ir, *set, *have))
            || side.in_sets.iter().any(|have| sets_disjoint(ir, *have, *set))
    });
    in_all
        && in_none
        && by.ports.as_ref().is_none_or(|by| side.ports.as_ref().is_some_and(|have| ports::covered(have, by)))
        && (by.not_ports.is_empty()
            || excludes_ports(m)
            || ports::covered(&by.not_ports, &side.not_ports)
            || side.ports.as_ref().is_some_and(|have| ports::are_disjoint(have, &by.not_ports)))
}

/// Whether no packet matches both.
pub(super) fn are_disjoint(ir: &PolicyIr, a: &Match, b: &Match) -> bool {
    matches!((a.family, b.family), (Some(x), Some(y)) if x != y)
        || matches!((a.protocol, b.protocol), (Some(x), Some(y)) if x != y)
        || matches!((a.icmp, b.icmp), (Some(x), Some(y)) if icmp_disjoint(x, y))
        || contradicts(a, b)
        || contradicts(b, a)
        || sides_disjoint(ir, &a.src, &b.src)
        || sides_disjoint(ir, &a.dst, &b.dst)
}

/// Whether something that `a` asks for is what `b` rules out.
fn contradicts(a: &Match, b: &Match) -> bool {
    matches!((a.protocol, b.not_protocol), (Some(p), Some(not)) if p == not)
        || matches!((a.icmp, b.not_icmp), (Some(have), Some(not)) if icmp_covers(not, have))
        || (needs_ports(a) && excludes_ports(b))
        || (a.icmp.is_some() && excludes_icmp(b))
}

fn sides_disjoint(ir: &PolicyIr, a: &SideMatch, b: &SideMatch) -> bool {
    let excluded = |a: &SideMatch, b: &SideMatch| {
        a.in_sets.iter().any(|set| b.not_in.iter().any(|not| is_subset(ir, *set, *not)))
            || a.ports.as_ref().is_some_and(|have| ports::covered(have, &b.not_ports))
    };
    matches!((&a.ports, &b.ports), (Some(x), Some(y)) if ports::are_disjoint(x, y))
        || excluded(a, b)
        || excluded(b, a)
        || a.in_sets.iter().any(|x| b.in_sets.iter().any(|y| sets_disjoint(ir, *x, *y)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::generate::{Shape, flows, policy};
    use crate::ir::matches;

    /// Every proof is tried on packets at the edges of both rules.
    #[test]
    fn proofs_hold_for_edge_packets() {
        let (mut implied, mut disjoint, mut checks) = (0, 0, 0);
        for seed in 0..400 {
            let ir = policy(seed, &Shape::default());
            let flows = flows(&ir, seed, 60);
            for a in ir.rules.values() {
                for b in ir.rules.values() {
                    let implies = implies(&ir, &a.matches, &b.matches);
                    let apart = are_disjoint(&ir, &a.matches, &b.matches);
                    implied += usize::from(implies);
                    disjoint += usize::from(apart);
                    for flow in flows.iter().filter(|flow| matches(&ir, &a.matches, flow)) {
                        let also = matches(&ir, &b.matches, flow);
                        assert!(
                            !implies || also,
                            "seed {seed}: {} implies {}: {flow:?}",
                            a.matches,
                            b.matches
                        );
                        assert!(
                            !apart || !also,
                            "seed {seed}: {} apart from {}: {flow:?}",
                            a.matches,
                            b.matches
                        );
                        checks += 1;
                    }
                }
            }
        }
        assert!(implied > 5_000 && disjoint > 10_000 && checks > 100_000, "{implied} {disjoint} {checks}");
    }
}
