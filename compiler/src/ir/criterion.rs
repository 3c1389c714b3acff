//! The criteria of a rule one by one: what a rule can fail at.
//!
//! [`first_failed`] is the reference evaluator's answer to "why does this rule
//! not match": it asks [`matches`] about a rule that has one criterion only, so
//! that it cannot differ from what a whole rule means.

use super::{Flow, Match, PolicyIr, SideMatch, matches};

/// One criterion of a [`Match`], in the order in which programs test them.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Criterion {
    /// [`Match::family`].
    Family,
    /// [`Match::protocol`].
    Protocol,
    /// [`Match::not_protocol`].
    NotProtocol,
    /// [`Match::icmp`].
    Icmp,
    /// [`Match::not_icmp`].
    NotIcmp,
    /// [`SideMatch::ports`] of the source.
    SrcPorts,
    /// [`SideMatch::not_ports`] of the source.
    SrcNotPorts,
    /// [`SideMatch::ports`] of the destination.
    DstPorts,
    /// [`SideMatch::not_ports`] of the destination.
    DstNotPorts,
    /// [`SideMatch::in_sets`] and [`SideMatch::not_in`] of the source.
    SrcSets,
    /// [`SideMatch::in_sets`] and [`SideMatch::not_in`] of the destination.
    DstSets,
}

impl Criterion {
    /// Every criterion, in order.
    pub const ALL: [Self; 11] = [
        Self::Family,
        Self::Protocol,
        Self::NotProtocol,
        Self::Icmp,
        Self::NotIcmp,
        Self::SrcPorts,
        Self::SrcNotPorts,
        Self::DstPorts,
        Self::DstNotPorts,
        Self::SrcSets,
        Self::DstSets,
    ];

    /// A match that has this criterion of `m` and no other; `None` if `m` lacks it.
    pub fn alone(self, m: &Match) -> Option<Match> {
        let only = Match::default();
        let part = match self {
            Self::Family => Match { family: m.family, ..only },
            Self::Protocol => Match { protocol: m.protocol, ..only },
            Self::NotProtocol => Match { not_protocol: m.not_protocol, ..only },
            Self::Icmp => Match { icmp: m.icmp, ..only },
            Self::NotIcmp => Match { not_icmp: m.not_icmp, ..only },
            Self::SrcPorts => Match { src: ports(&m.src), ..only },
            Self::SrcNotPorts => Match { src: not_ports(&m.src), ..only },
            Self::DstPorts => Match { dst: ports(&m.dst), ..only },
            Self::DstNotPorts => Match { dst: not_ports(&m.dst), ..only },
            Self::SrcSets => Match { src: sets(&m.src), ..only },
            Self::DstSets => Match { dst: sets(&m.dst), ..only },
        };
        (part != Match::default()).then_some(part)
    }
}

fn ports(side: &SideMatch) -> SideMatch {
    SideMatch { ports: side.ports.clone(), ..SideMatch::default() }
}

fn not_ports(side: &SideMatch) -> SideMatch {
    SideMatch { not_ports: side.not_ports.clone(), ..SideMatch::default() }
}

fn sets(side: &SideMatch) -> SideMatch {
    SideMatch { in_sets: side.in_sets.clone(), not_in: side.not_in.clone(), ..SideMatch::default() }
}

/// The first criterion that the packet fails; `None` if the rule matches.
///
/// # Panics
/// As [`super::evaluate`].
pub fn first_failed(ir: &PolicyIr, m: &Match, flow: &Flow) -> Option<Criterion> {
    let fails = |c: &Criterion| c.alone(m).is_some_and(|part| !matches(ir, &part, flow));
    Criterion::ALL.into_iter().find(fails)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::generate::{Shape, flows, policy};

    #[test]
    fn a_rule_fails_at_a_criterion_or_matches() {
        let mut failed = std::collections::BTreeSet::new();
        for seed in 0..400 {
            let ir = policy(seed, &Shape::default());
            for flow in flows(&ir, seed, 10) {
                for rule in ir.rules.values() {
                    let first = first_failed(&ir, &rule.matches, &flow);
                    assert_eq!(first.is_none(), matches(&ir, &rule.matches, &flow), "seed {seed} {flow:?}");
                    failed.extend(first);
                }
            }
        }
        assert_eq!(failed.len(), Criterion::ALL.len(), "every criterion fails somewhere: {failed:?}");
    }

    #[test]
    fn the_criteria_make_up_the_match() {
        let ir = policy(7, &Shape::default());
        for rule in ir.rules.values() {
            let mut sum = Match::default();
            for part in Criterion::ALL.iter().filter_map(|c| c.alone(&rule.matches)) {
                sum.family = sum.family.or(part.family);
                sum.protocol = sum.protocol.or(part.protocol);
                sum.not_protocol = sum.not_protocol.or(part.not_protocol);
                sum.icmp = sum.icmp.or(part.icmp);
                sum.not_icmp = sum.not_icmp.or(part.not_icmp);
                add(&mut sum.src, part.src);
                add(&mut sum.dst, part.dst);
            }
            assert_eq!(sum, rule.matches);
        }
    }

    fn add(sum: &mut SideMatch, part: SideMatch) {
        sum.in_sets.extend(part.in_sets);
        sum.not_in.extend(part.not_in);
        sum.ports = sum.ports.take().or(part.ports);
        sum.not_ports.extend(part.not_ports);
    }
}
