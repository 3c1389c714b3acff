//! Packets and decisions in words, for people.

use std::fmt::Write as _;

use polc_compiler::image::PolicyImage;
use polc_compiler::ir::{DecisionData, DecisionKind, Direction, protocol};
use polc_runtime::packet::parse::{Fragment, Headers, Parsed, parse};
use polc_runtime::packet::{Addresses, addresses};
use polc_runtime::replay::{DecidedBy, Record};

use super::plan::Plan;

/// What decided a record, with its place in the YAML.
pub fn decided_by(plan: &Plan, record: &Record) -> String {
    let DecidedBy::Policy(index) = record.decided_by else {
        return not_policy(record.decided_by);
    };
    match record.at.and_then(|at| Some((at, plan.decision(at, index)?))) {
        Some((at, data)) => decision(plan.image(at), plan.place(at).direction, data),
        None => format!("decision {index}, which the program does not have"),
    }
}

/// What decided, where it was not policy.
pub fn not_policy(decided_by: DecidedBy) -> String {
    let text = match decided_by {
        DecidedBy::Conntrack => "tracked connection",
        DecidedBy::NotAnEndpoint(_) => "no endpoint",
        other => other.as_str(),
    };
    match decided_by.reason() {
        Some(reason) if reason != text => format!("{text}: {reason}"),
        _ => text.to_owned(),
    }
}

/// A decision: `NetworkPolicy shop/web ingress[1] (policy.yaml:14)`. The tier
/// stands in front unless it is `default`.
pub fn decision(image: &PolicyImage, direction: Direction, data: &DecisionData) -> String {
    let mut text = String::new();
    let name = match &data.namespace {
        Some(namespace) => format!("{namespace}/{}", data.name),
        None => data.name.clone(),
    };
    match data.kind {
        DecisionKind::TierDefault => {
            let _ = write!(text, "end of tier {name}");
        }
        DecisionKind::Profile => {
            let _ = write!(text, "profile {name}");
        }
        DecisionKind::NoProfileMatch => text.push_str("no profile allows it"),
        DecisionKind::Failsafe => text.push_str("failsafe port"),
        DecisionKind::Rule => {
            if let Some(tier) = data.tier.as_deref().filter(|tier| *tier != "default") {
                let _ = write!(text, "{tier}/");
            }
            let _ = write!(text, "{} {name}", data.object);
            if let Some(rule) = data.rule {
                let _ = write!(text, " {}[{rule}]", direction.as_str());
            }
        }
    }
    if let Some((file, at)) = data.at.and_then(|at| Some((image.files.get(at.file.as_u32() as usize)?, at))) {
        let _ = write!(text, " ({file}:{})", at.line);
    }
    text
}

/// A packet in one line: `10.0.0.1:4000 > 10.0.0.2:80 tcp [S]`.
pub fn packet(frame: &[u8]) -> String {
    match parse(frame) {
        Parsed::Ip(headers) => ip(&headers),
        Parsed::NotIp => frame.get(12..14).map_or_else(
            || "not IP".into(),
            |ethertype| format!("ethertype {:#06x}", u16::from_be_bytes([ethertype[0], ethertype[1]])),
        ),
        Parsed::Bad(_) => match addresses(frame) {
            Addresses::Ip(src, dst) => format!("{src} > {dst}"),
            _ => format!("{} bytes", frame.len()),
        },
    }
}

fn ip(headers: &Headers) -> String {
    let flow = &headers.flow;
    let mut text = match flow.ports {
        Some((sport, dport)) => {
            let side = |ip, port| std::net::SocketAddr::new(ip, port);
            format!("{} > {}", side(flow.src, sport), side(flow.dst, dport))
        }
        None => format!("{} > {}", flow.src, flow.dst),
    };
    let _ = match protocol::name(flow.protocol) {
        Some(name) => write!(text, " {name}"),
        None => write!(text, " protocol {}", flow.protocol),
    };
    if flow.protocol == protocol::TCP && flow.ports.is_some() {
        let _ = write!(text, " [{}]", tcp_flags(headers.tcp_flags));
    }
    if let Some((kind, code)) = flow.icmp {
        let _ = write!(text, " {kind}/{code}");
    }
    match headers.fragment {
        Fragment::Whole => {}
        Fragment::First { .. } => text.push_str(" first fragment"),
        Fragment::Later { .. } => text.push_str(" later fragment"),
    }
    text
}

/// TCP flags as tcpdump writes them.
fn tcp_flags(flags: u8) -> String {
    const LETTERS: [(u8, char); 6] = [(2, 'S'), (1, 'F'), (4, 'R'), (8, 'P'), (32, 'U'), (16, '.')];
    LETTERS.iter().filter(|(bit, _)| flags & bit != 0).map(|(_, letter)| letter).collect()
}

#[cfg(test)]
mod tests {
    use polc_compiler::ir::Flow;
    use polc_runtime::packet::build;

    use super::*;

    #[test]
    fn packets_in_words() {
        let flow = |protocol, ports, icmp| Flow {
            src: [10, 0, 0, 1].into(),
            dst: [10, 0, 0, 2].into(),
            protocol,
            ports,
            icmp,
        };
        let cases = [
            (flow(6, Some((4000, 80)), None), "10.0.0.1:4000 > 10.0.0.2:80 tcp [S]"),
            (flow(17, Some((4000, 53)), None), "10.0.0.1:4000 > 10.0.0.2:53 udp"),
            (flow(17, None, None), "10.0.0.1 > 10.0.0.2 udp later fragment"),
            (flow(1, None, Some((8, 0))), "10.0.0.1 > 10.0.0.2 icmp 8/0"),
            (flow(47, None, None), "10.0.0.1 > 10.0.0.2 protocol 47"),
        ];
        for (flow, want) in cases {
            assert_eq!(packet(&build::frame(&flow).unwrap()), want);
        }
        let v6 = Flow {
            src: std::net::Ipv6Addr::LOCALHOST.into(),
            dst: std::net::Ipv6Addr::LOCALHOST.into(),
            ..flow(6, Some((1, 2)), None)
        };
        assert_eq!(packet(&build::frame(&v6).unwrap()), "[::1]:1 > [::1]:2 tcp [S]");
        assert_eq!(packet(&[]), "0 bytes");
        assert_eq!(packet(&[&[0; 12][..], &[8, 6], &[0; 28]].concat()), "ethertype 0x0806");
    }

    #[test]
    fn flags_as_tcpdump_writes_them() {
        assert_eq!(tcp_flags(0x12), "S.");
        assert_eq!(tcp_flags(0), "");
    }
}
