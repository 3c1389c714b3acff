//! One rule in the form every API is brought to, and the match it becomes.
//!
//! The rules about IP versions (projectcalico/calico `felix/rules/policy.go`)
//! are applied here: a rule is kept for the families that none of its lists
//! excludes, and not at all if none is left.
//!
//! Named ports become one alternative for each protocol and number that any
//! endpoint of the cluster gives that name; who of them counts is membership.
//! So code changes only when a name gets a number that it never had.

use std::collections::HashSet;

use ipnet::IpNet;

use super::inventory::NamedPorts;
use super::sets::SetTable;
use crate::diag::Span;
use crate::ir::{Action, AddrSet, Family, IcmpMatch, Match, PortMatch, SideMatch, protocol};
use crate::manifest::PortSpec;
use crate::selector::Selector;

/// A rule: what the user wrote, selectors already combined.
#[derive(Clone)]
pub(super) struct RuleSpec {
    /// Zero-based index in the list that the user wrote.
    pub(super) index: u32,
    pub(super) action: Action,
    pub(super) family: Option<Family>,
    pub(super) protocol: Option<u8>,
    pub(super) not_protocol: Option<u8>,
    pub(super) icmp: Option<IcmpMatch>,
    pub(super) not_icmp: Option<IcmpMatch>,
    pub(super) src: SideSpec,
    pub(super) dst: SideSpec,
    pub(super) spans: RuleSpans,
}

/// One side of a rule; empty lists are no criterion.
#[derive(Clone, Default)]
pub(super) struct SideSpec {
    /// The endpoint or set on this side matches.
    pub(super) selector: Option<Selector>,
    /// No endpoint or set with this address matches.
    pub(super) not_selector: Option<Selector>,
    pub(super) nets: Vec<IpNet>,
    pub(super) not_nets: Vec<IpNet>,
    pub(super) ports: Vec<PortSpec>,
    pub(super) not_ports: Vec<PortSpec>,
}

/// Where a rule and its criteria stand.
#[derive(Copy, Clone)]
pub(super) struct RuleSpans {
    pub(super) rule: Span,
    pub(super) protocol: Option<Span>,
    pub(super) src: Option<Span>,
    pub(super) dst: Option<Span>,
    pub(super) src_ports: Option<Span>,
    pub(super) dst_ports: Option<Span>,
}

impl RuleSpec {
    /// A rule without criteria.
    pub(super) fn new(index: u32, action: Action, span: Span) -> Self {
        let spans =
            RuleSpans { rule: span, protocol: None, src: None, dst: None, src_ports: None, dst_ports: None };
        Self {
            index,
            action,
            family: None,
            protocol: None,
            not_protocol: None,
            icmp: None,
            not_icmp: None,
            src: SideSpec::default(),
            dst: SideSpec::default(),
            spans,
        }
    }

    /// The match, its sets interned in `sets`; `None` if no packet can match.
    pub(super) fn to_match(&self, sets: &mut SetTable, named: &NamedPorts) -> Option<Match> {
        let family = self.families()?;
        let matches = Match {
            family,
            protocol: self.protocol,
            not_protocol: self.not_protocol,
            icmp: self.icmp,
            not_icmp: self.not_icmp,
            src: self.src.to_match(family, self.protocol, sets, named),
            dst: self.dst.to_match(family, self.protocol, sets, named),
        };
        let possible = |side: &SideMatch| side.ports.as_ref().is_none_or(|ports| !ports.is_empty());
        (possible(&matches.src) && possible(&matches.dst)).then_some(matches)
    }

    /// The families that the rule exists for: `None` for neither, `Some(None)` for both.
    fn families(&self) -> Option<Option<Family>> {
        let exists = |family| {
            self.family.is_none_or(|f| f == family)
                && self.icmp_family().is_none_or(|f| f == family)
                && self.src.exists_for(family)
                && self.dst.exists_for(family)
        };
        match (exists(Family::V4), exists(Family::V6)) {
            (true, true) => Some(None),
            (true, false) => Some(Some(Family::V4)),
            (false, true) => Some(Some(Family::V6)),
            (false, false) => None,
        }
    }

    /// An ICMP type can only be read where the protocol and the family agree.
    fn icmp_family(&self) -> Option<Family> {
        self.icmp.and(self.protocol).and_then(protocol::icmp_family)
    }
}

impl SideSpec {
    fn exists_for(&self, family: Family) -> bool {
        let of_family = |net: &IpNet| family_of(net) == family;
        let has_any = |nets: &[IpNet]| nets.is_empty() || nets.iter().any(of_family);
        let everything = |net: &IpNet| of_family(net) && net.prefix_len() == 0;
        has_any(&self.nets) && has_any(&self.not_nets) && !self.not_nets.iter().any(everything)
    }

    fn to_match(
        &self,
        family: Option<Family>,
        protocol: Option<u8>,
        sets: &mut SetTable,
        named: &NamedPorts,
    ) -> SideMatch {
        let mut in_sets: Vec<AddrSet> = self.selector.iter().map(|s| sets.selected(s)).collect();
        in_sets.extend(nets_of(&self.nets, family, sets));
        let mut not_in: Vec<AddrSet> = self.not_selector.iter().map(|s| sets.selected(s)).collect();
        not_in.extend(nets_of(&self.not_nets, family, sets));
        let mut alternatives = |specs: &[PortSpec]| {
            let (mut seen, mut found) = (HashSet::new(), Vec::new());
            for spec in specs {
                found.extend(self.alternatives(spec, protocol, sets, named));
            }
            found.retain(|one| seen.insert(*one));
            found
        };
        let ports = (!self.ports.is_empty()).then(|| alternatives(&self.ports));
        SideMatch { in_sets, not_in, ports, not_ports: alternatives(&self.not_ports) }
    }

    /// What one entry of `ports` or `notPorts` stands for.
    fn alternatives(
        &self,
        spec: &PortSpec,
        protocol: Option<u8>,
        sets: &mut SetTable,
        named: &NamedPorts,
    ) -> Vec<PortMatch> {
        let name = match spec {
            PortSpec::Range(first, last) if first <= last => return vec![PortMatch::Range(*first, *last)],
            PortSpec::Range(..) => return Vec::new(),
            PortSpec::Name(name) => name,
        };
        let all = Selector::all();
        let selector = self.selector.as_ref().unwrap_or(&all);
        let numbers = named.get(name).into_iter().flatten();
        numbers
            .filter(|(p, _)| protocol.is_none_or(|wanted| wanted == *p))
            .map(|(p, port)| PortMatch::Named {
                protocol: *p,
                port: *port,
                set: sets.named(selector, name, *p, *port),
            })
            .collect()
    }
}

fn nets_of(nets: &[IpNet], family: Option<Family>, sets: &mut SetTable) -> Option<AddrSet> {
    let kept: Vec<IpNet> =
        nets.iter().filter(|net| family.is_none_or(|f| f == family_of(net))).copied().collect();
    (!kept.is_empty()).then(|| sets.nets(kept))
}

fn family_of(net: &IpNet) -> Family {
    match net {
        IpNet::V4(_) => Family::V4,
        IpNet::V6(_) => Family::V6,
    }
}
