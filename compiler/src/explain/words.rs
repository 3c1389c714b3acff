//! Why a rule did not match, in the user's terms.

use std::net::IpAddr;

use crate::ir::{
    AddrSet, Criterion, Family, Flow, IcmpMatch, Origin, PolicyIr, PortMatch, RuleData, SetKind, SideMatch,
};

/// Entries of a list that a reason shows before it only counts.
const LISTED: usize = 8;

/// Why the packet fails a criterion of a rule, and where that criterion stands.
pub(super) fn reason(
    ir: &PolicyIr,
    rule: &RuleData,
    criterion: Criterion,
    flow: &Flow,
) -> (String, Option<Origin>) {
    let (m, at) = (&rule.matches, &rule.origins);
    let (src, dst) = (Side::new("source", &m.src, flow.src), Side::new("destination", &m.dst, flow.dst));
    let sport = flow.ports.map(|(port, _)| port);
    let dport = flow.ports.map(|(_, port)| port);
    match criterion {
        Criterion::Family => {
            let (is, only) = if m.family == Some(Family::V4) { ("IPv6", "IPv4") } else { ("IPv4", "IPv6") };
            (format!("the packet is {is}, the rule speaks about {only}"), at.rule)
        }
        Criterion::Protocol => {
            let wanted = m.protocol.map(protocol).unwrap_or_default();
            (format!("protocol {} is not {wanted}", protocol(flow.protocol)), at.protocol)
        }
        Criterion::NotProtocol => (format!("protocol {} is excluded", protocol(flow.protocol)), at.protocol),
        Criterion::Icmp => {
            let wanted = m.icmp.map(icmp).unwrap_or_default();
            (format!("{} is not {wanted}", packet_icmp(flow)), at.protocol)
        }
        Criterion::NotIcmp => (format!("{} is excluded", packet_icmp(flow)), at.protocol),
        Criterion::SrcPorts => (src.ports(ir, flow.protocol, sport), at.src_ports),
        Criterion::SrcNotPorts => (src.not_ports(sport), at.src_ports),
        Criterion::DstPorts => (dst.ports(ir, flow.protocol, dport), at.dst_ports),
        Criterion::DstNotPorts => (dst.not_ports(dport), at.dst_ports),
        Criterion::SrcSets => (src.sets(ir), at.src),
        Criterion::DstSets => (dst.sets(ir), at.dst),
    }
}

/// One side of a packet and what a rule says about it.
struct Side<'a> {
    name: &'static str,
    criteria: &'a SideMatch,
    address: IpAddr,
}

impl<'a> Side<'a> {
    fn new(name: &'static str, criteria: &'a SideMatch, address: IpAddr) -> Self {
        Self { name, criteria, address }
    }

    fn ports(&self, ir: &PolicyIr, packet_protocol: u8, port: Option<u16>) -> String {
        let Some(port) = port else { return format!("the packet has no {} port", self.name) };
        let wanted = self.criteria.ports.as_deref().unwrap_or_default();
        let verb = if wanted.len() == 1 { "is not" } else { "is none of" };
        let text = format!("{} port {port} {verb} {}", self.name, list(wanted, |p| port_text(ir, p)));
        // The right number at the wrong pod, or by the wrong protocol.
        let named = |p: &&PortMatch| matches!(p, PortMatch::Named { port: number, .. } if *number == port);
        match wanted.iter().find(named) {
            Some(PortMatch::Named { protocol: p, .. }) if *p != packet_protocol => {
                format!("{text} (the packet is {})", protocol(packet_protocol))
            }
            Some(_) => format!("{text} (the name has no such number at {})", self.address),
            None => text,
        }
    }

    fn not_ports(&self, port: Option<u16>) -> String {
        let port = port.map(|p| p.to_string()).unwrap_or_default();
        format!("{} port {port} is excluded", self.name)
    }

    fn sets(&self, ir: &PolicyIr) -> String {
        let holds = |set: &AddrSet| ir.sets[*set].nets.iter().any(|net| net.contains(&self.address));
        let (name, address) = (self.name, self.address);
        if let Some(set) = self.criteria.in_sets.iter().find(|set| !holds(set)) {
            return match ir.sets[*set].kind {
                SetKind::Nets => format!("{name} {address} is not in {}", nets(ir, *set)),
                SetKind::Members => format!("{name} {address} is not selected by {}", ir.sets[*set].name),
            };
        }
        match self.criteria.not_in.iter().find(|set| holds(set)) {
            Some(set) => match ir.sets[*set].kind {
                SetKind::Nets => {
                    let mut hit = ir.sets[*set].nets.clone();
                    hit.retain(|net| net.contains(&address));
                    format!("{name} {address} is excluded by {}", list(&hit, ToString::to_string))
                }
                SetKind::Members => {
                    format!("{name} {address} is selected by {}, which is excluded", ir.sets[*set].name)
                }
            },
            None => format!("{name} {address} is not meant"),
        }
    }
}

fn nets(ir: &PolicyIr, set: AddrSet) -> String {
    list(&ir.sets[set].nets, ToString::to_string)
}

fn port_text(ir: &PolicyIr, port: &PortMatch) -> String {
    match *port {
        PortMatch::Range(first, last) if first == last => first.to_string(),
        PortMatch::Range(first, last) => format!("{first}-{last}"),
        PortMatch::Named { protocol: p, port, set } => {
            // The set's name ends in the port's: `all() [http tcp/8080]`.
            let name = &ir.sets[set].name;
            let name =
                name.rsplit_once(" [").and_then(|(_, rest)| rest.split_once(' ')).map(|(name, _)| name);
            let number = format!("{}/{port}", protocol(p));
            name.map_or(number.clone(), |name| format!("{name} ({number})"))
        }
    }
}

fn list<T>(items: &[T], text: impl Fn(&T) -> String) -> String {
    let shown: Vec<String> = items.iter().take(LISTED).map(text).collect();
    let more = items.len().saturating_sub(LISTED);
    let tail = if more > 0 { format!(" and {more} more") } else { String::new() };
    format!("{}{tail}", shown.join(", "))
}

fn packet_icmp(flow: &Flow) -> String {
    match flow.icmp {
        Some((icmp_type, code)) => format!("icmp type {icmp_type} code {code}"),
        None => format!("a packet of protocol {} without icmp type", protocol(flow.protocol)),
    }
}

fn icmp(wanted: IcmpMatch) -> String {
    match wanted.code {
        Some(code) => format!("type {} code {code}", wanted.icmp_type),
        None => format!("type {}", wanted.icmp_type),
    }
}

fn protocol(number: u8) -> String {
    let name = match number {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        58 => "icmpv6",
        132 => "sctp",
        136 => "udplite",
        other => return other.to_string(),
    };
    name.to_owned()
}
