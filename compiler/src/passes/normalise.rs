//! Normalise: brings criteria and sets into one form.
//!
//! What: sets of listed CIDRs are aggregated to the fewest prefixes, equal sets
//! become one; port lists are sorted and joined, with excluded ranges cut out of
//! included ones; facts that criteria imply are written down (an ICMP type and a
//! family give the protocol, a set of IPv4 prefixes gives the family); criteria
//! that are then always true are dropped; a match that can hold for no packet
//! becomes the one form of that, an empty destination port list and nothing else.
//!
//! Why sound: each step replaces a match by one that holds for the same packets,
//! by the facts listed in `facts.rs`; the steps repeat until nothing changes. A
//! set that covers a whole family says nothing about packets of that family, and
//! everything about the other: it is dropped only once the family is known.
//! Members of selector sets are data: of these, only equal copies (same name,
//! same members) are merged.
//!
//! Cost: linear in the criteria, sorting of lists; at most a few rounds per rule,
//! since a round that changes something fixes a fact or drops a criterion.

use std::hash::{Hash, Hasher};

use cranelift_entity::SecondaryMap;
use ipnet::IpNet;
use rustc_hash::{FxBuildHasher, FxHashMap};

use super::facts;
use super::{nets, ports};
use crate::ir::{AddrSet, AddrSetData, Family, Match, PolicyIr, PortMatch, SetKind, SideMatch, protocol};

/// What the pass changed.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Normalised {
    /// Rules whose match has another form now.
    pub rules: usize,
    /// Sets that became another, equal set in all rules.
    pub sets: usize,
}

/// Brings all rules and sets into the normal form. Sets that are merged away stay
/// in the IR unused. `ir` must have passed [`crate::ir::verify`].
pub fn normalise(ir: &mut PolicyIr) -> Normalised {
    for (_, set) in ir.sets.iter_mut() {
        if set.kind == SetKind::Nets && set.nets.len() > 1 {
            set.nets = nets::aggregate(&set.nets);
        }
    }
    let (same, merged) = equal_sets(ir);
    let mut changed = Normalised { rules: 0, sets: merged };
    for rule in ir.rules.keys() {
        let mut m = std::mem::take(&mut ir.rules[rule].matches);
        changed.rules += usize::from(to_normal_form(ir, &same, &mut m));
        ir.rules[rule].matches = m;
    }
    changed
}

/// What two equal sets have in common.
#[derive(PartialEq, Eq)]
struct Content<'a> {
    kind: SetKind,
    name: &'a str,
    nets: &'a [IpNet],
}

impl Hash for Content<'_> {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Sets that differ in none of these are seldom two.
        (self.kind, self.name, self.nets.len(), self.nets.first(), self.nets.last()).hash(state);
    }
}

/// For each set the first one that is equal to it, and how many are not first.
fn equal_sets(ir: &PolicyIr) -> (SecondaryMap<AddrSet, AddrSet>, usize) {
    let mut first: FxHashMap<Content<'_>, AddrSet> =
        FxHashMap::with_capacity_and_hasher(ir.sets.len(), FxBuildHasher);
    let mut same = SecondaryMap::with_default(AddrSet::from_u32(0));
    let mut merged = 0;
    for (id, AddrSetData { kind, name, nets }) in &ir.sets {
        let name = if *kind == SetKind::Nets { "" } else { name.as_str() };
        same[id] = *first.entry(Content { kind: *kind, name, nets }).or_insert(id);
        merged += usize::from(same[id] != id);
    }
    (same, merged)
}

/// The match that no packet satisfies.
pub(super) fn never() -> Match {
    Match { dst: SideMatch { ports: Some(Vec::new()), ..SideMatch::default() }, ..Match::default() }
}

/// A match that can hold for no packet.
struct Never;

type Step = Result<(), Never>;

/// Whether the match is another one now.
fn to_normal_form(ir: &PolicyIr, same: &SecondaryMap<AddrSet, AddrSet>, m: &mut Match) -> bool {
    let mut is_changed = rename_sets(&mut m.src, same) | rename_sets(&mut m.dst, same);
    if is_plain(ir, m) {
        return is_changed;
    }
    let mut before = m.clone();
    loop {
        if round(ir, m).is_err() {
            *m = never();
        }
        if *m == before {
            return is_changed;
        }
        is_changed = true;
        before.clone_from(m);
    }
}

/// Whether the match is of the form of most, which [`round`] changes nothing of: a set of
/// members and a range of ports on each side, of a protocol that has ports.
fn is_plain(ir: &PolicyIr, m: &Match) -> bool {
    let of_side = |side: &SideMatch| {
        let mut sets = side.in_sets.iter().chain(&side.not_in);
        let is_range = |ports: &Vec<PortMatch>| matches!(ports[..], [PortMatch::Range(a, b)] if a <= b);
        sets.next().is_none_or(|set| facts::known(ir, *set).is_none())
            && sets.next().is_none()
            && side.not_ports.is_empty()
            && side.ports.as_ref().is_none_or(is_range)
    };
    (m.not_protocol, m.icmp, m.not_icmp) == (None, None, None)
        && m.protocol.is_none_or(protocol::has_ports)
        && of_side(&m.src)
        && of_side(&m.dst)
}

/// Whether a set has another name now.
fn rename_sets(side: &mut SideMatch, same: &SecondaryMap<AddrSet, AddrSet>) -> bool {
    let mut is_renamed = false;
    let mut rename = |set: &mut AddrSet| {
        is_renamed |= same[*set] != *set;
        *set = same[*set];
    };
    side.in_sets.iter_mut().chain(&mut side.not_in).for_each(&mut rename);
    for port in side.ports.iter_mut().flatten().chain(&mut side.not_ports) {
        if let PortMatch::Named { set, .. } = port {
            rename(set);
        }
    }
    is_renamed
}

fn round(ir: &PolicyIr, m: &mut Match) -> Step {
    for side in [Side::Src, Side::Dst] {
        ports_of_side(m, side)?;
        sets_of_side(ir, m, side)?;
    }
    icmp(m)?;
    protocol(m)
}

/// Which side of a match.
#[derive(Copy, Clone)]
enum Side {
    Src,
    Dst,
}

impl Side {
    fn of(self, m: &mut Match) -> &mut SideMatch {
        match self {
            Self::Src => &mut m.src,
            Self::Dst => &mut m.dst,
        }
    }
}

fn ports_of_side(m: &mut Match, which: Side) -> Step {
    let no_ports = facts::excludes_ports(m);
    let (is, is_not) = (m.protocol, m.not_protocol);
    let possible = |port: &PortMatch| match *port {
        PortMatch::Range(..) => true,
        PortMatch::Named { protocol, .. } => {
            protocol::has_ports(protocol) && is.is_none_or(|p| p == protocol) && is_not != Some(protocol)
        }
    };
    let side = which.of(m);
    side.not_ports.retain(possible);
    side.not_ports = if no_ports { Vec::new() } else { ports::canonical(&side.not_ports) };
    let Some(have) = &mut side.ports else { return Ok(()) };
    have.retain(possible);
    *have = ports::without_ranges(have, &side.not_ports);
    side.not_ports.retain(|not| matches!(not, PortMatch::Named { .. }));
    have.retain(|port| !side.not_ports.contains(port));
    side.not_ports.retain(|not| !ports::are_disjoint(have, &[*not]));
    if have.is_empty() || no_ports {
        return Err(Never);
    }
    let protocol = named_protocol(have);
    m.protocol = m.protocol.or(protocol);
    Ok(())
}

/// The protocol that all alternatives are about, if there is one.
fn named_protocol(ports: &[PortMatch]) -> Option<u8> {
    let of = |port: &PortMatch| match *port {
        PortMatch::Range(..) => None,
        PortMatch::Named { protocol, .. } => Some(protocol),
    };
    let first = ports.first().and_then(of)?;
    ports.iter().all(|port| of(port) == Some(first)).then_some(first)
}

fn sets_of_side(ir: &PolicyIr, m: &mut Match, which: Side) -> Step {
    let families = [Family::V4, Family::V6].map(|f| (f, possible(ir, m, which, f)));
    let family = match families {
        [(_, false), (_, false)] => return Err(Never),
        [(v4, true), (_, false)] => Some(v4),
        [(_, false), (v6, true)] => Some(v6),
        _ => None,
    };
    match (m.family, family) {
        (Some(have), Some(of_sets)) if have != of_sets => return Err(Never),
        (None, Some(of_sets)) => m.family = Some(of_sets),
        _ => {}
    }
    let relevant: &[Family] = match m.family {
        Some(Family::V4) => &[Family::V4],
        Some(Family::V6) => &[Family::V6],
        None => &[Family::V4, Family::V6],
    };
    let side = which.of(m);
    let everything = |set: &AddrSet| {
        facts::known(ir, *set).is_some_and(|nets| relevant.iter().all(|f| nets::covers_family(nets, *f)))
    };
    let nothing = |set: &AddrSet| {
        facts::known(ir, *set).is_some_and(|nets| !nets.iter().any(|n| relevant.contains(&nets::family(n))))
    };
    for list in [&mut side.in_sets, &mut side.not_in] {
        list.sort_unstable();
        list.dedup();
    }
    side.in_sets.retain(|set| !everything(set));
    side.not_in.retain(|set| !nothing(set));
    match side.in_sets.iter().any(|set| side.not_in.contains(set)) {
        true => Err(Never),
        false => Ok(()),
    }
}

/// Whether the known sets leave any address of the family on a side.
fn possible(ir: &PolicyIr, m: &mut Match, which: Side, family: Family) -> bool {
    let side = which.of(m);
    let of_family = |net: &&IpNet| nets::family(net) == family;
    let has = |set: &AddrSet| facts::known(ir, *set).is_none_or(|nets| nets.iter().any(|n| of_family(&n)));
    let all = |set: &AddrSet| facts::known(ir, *set).is_some_and(|nets| nets::covers_family(nets, family));
    // Of one that is left, all may be excluded.
    let excluded = |set: &AddrSet| {
        let known = |set: &AddrSet| facts::known(ir, *set);
        let excludes =
            |nets: &[IpNet], not: &[IpNet]| nets.iter().filter(of_family).all(|net| nets::contains(not, net));
        known(set).is_some_and(|nets| side.not_in.iter().filter_map(known).any(|not| excludes(nets, not)))
    };
    side.in_sets.iter().all(|set| has(set) && !excluded(set)) && !side.not_in.iter().any(all)
}

fn icmp(m: &mut Match) -> Step {
    if let Some(not) = m.not_icmp {
        match m.icmp {
            Some(have) if facts::icmp_covers(not, have) => return Err(Never),
            Some(have) if facts::icmp_disjoint(have, not) => m.not_icmp = None,
            _ if facts::excludes_icmp(m) => m.not_icmp = None,
            _ => {}
        }
    }
    if m.icmp.is_none() {
        return Ok(());
    }
    if facts::excludes_icmp(m) {
        return Err(Never);
    }
    m.family = m.family.or(m.protocol.and_then(protocol::icmp_family));
    m.protocol = m.protocol.or(m.family.map(protocol::icmp_of));
    Ok(())
}

fn protocol(m: &mut Match) -> Step {
    let Some(not) = m.not_protocol else { return Ok(()) };
    if m.protocol == Some(not) {
        return Err(Never);
    }
    let never_is = m.protocol.is_some()
        || (facts::needs_ports(m) && !protocol::has_ports(not))
        || (m.icmp.is_some() && protocol::icmp_family(not).is_none());
    if never_is {
        m.not_protocol = None;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::generate::Shape;
    use crate::passes::testing::differential;

    #[test]
    fn normalising_keeps_every_outcome() {
        let changed = differential(&Shape::default(), 1500, |ir| normalise(ir).rules);
        assert!(changed > 3_000, "{changed}");
    }

    /// What is said to need no round does not.
    #[test]
    fn plain_matches_are_normal() {
        let mut plain = 0;
        for seed in 0..500 {
            let ir = crate::ir::generate::policy(seed, &Shape::default());
            for rule in ir.rules.values().filter(|rule| is_plain(&ir, &rule.matches)) {
                let mut m = rule.matches.clone();
                assert!(round(&ir, &mut m).is_ok(), "seed {seed}");
                assert_eq!(m, rule.matches, "seed {seed}");
                plain += 1;
            }
        }
        assert!(plain > 100, "{plain}");
    }

    #[test]
    fn normal_forms_stay() {
        for seed in 0..300 {
            let mut ir = crate::ir::generate::policy(seed, &Shape::default());
            normalise(&mut ir);
            assert_eq!(normalise(&mut ir).rules, 0, "seed {seed}");
        }
    }
}
