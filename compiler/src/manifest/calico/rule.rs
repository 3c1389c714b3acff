//! Rules, and the checks that take several of their fields.

use ipnet::IpNet;

use super::entity::read_entity;
use crate::diag::{Diagnostic, Span, codes};
use crate::ir::protocol::{has_ports, icmp_family};
use crate::ir::{Action, Family, IcmpMatch};
use crate::manifest::fields::Fields;
use crate::manifest::net;
use crate::manifest::objects::{CalicoRule, PortSpec, Protocol, Spanned};
use crate::manifest::reader::Reader;
use crate::manifest::yaml::Node;

const ACTIONS: &[(&str, Action)] =
    &[("Allow", Action::Allow), ("Deny", Action::Deny), ("Pass", Action::Pass), ("Log", Action::Log)];

/// Reads a rule.
pub(super) fn read_rule(reader: &mut Reader, node: &Node<'_>) -> Option<CalicoRule> {
    let mut fields = Fields::new(reader, node, "a rule")?;
    let action = fields.require("action").and_then(|node| reader.choice(node, "`action`", ACTIONS));
    let version_node = fields.take("ipVersion");
    let ip_version = version_node.and_then(|node| read_version(reader, node));
    let protocol_node = fields.take("protocol");
    let protocol = protocol_node.and_then(|node| net::calico_protocol(reader, node));
    let not_protocol = fields.take("notProtocol").and_then(|node| net::calico_protocol(reader, node));
    let icmp_entry = fields.entry("icmp");
    let icmp = icmp_entry.and_then(|e| read_icmp(reader, &e.value));
    let not_icmp = fields.take("notICMP").and_then(|node| read_icmp(reader, node));
    let source = fields.take("source").map(|node| read_entity(reader, node, "source")).unwrap_or_default();
    let destination =
        fields.take("destination").map(|node| read_entity(reader, node, "destination")).unwrap_or_default();
    fields.ignore(&["metadata"]);
    fields.refuse(reader, &["http"]);
    fields.finish(reader);
    let rule = CalicoRule {
        action: action?,
        ip_version,
        protocol,
        not_protocol,
        icmp,
        not_icmp,
        source,
        destination,
        span: reader.span(node),
    };
    // A protocol that does not read is reported once, not again by what needs it.
    if protocol_node.is_some() == rule.protocol.is_some() {
        check_ports(reader, &rule);
        if let Some(entry) = icmp_entry {
            let at = reader.key_span(entry);
            check_icmp(reader, &rule, at);
        }
    }
    check_families(reader, &rule);
    check_catch_all(reader, &rule);
    Some(rule)
}

fn read_version(reader: &mut Reader, node: &Node<'_>) -> Option<Family> {
    match reader.integer(node, "`ipVersion`", codes::BAD_NUMBER, 0, 255)? {
        4 => Some(Family::V4),
        6 => Some(Family::V6),
        other => {
            reader.error_with_help(
                codes::BAD_NUMBER,
                node,
                format!("`ipVersion` cannot be {other}"),
                "write 4 or 6",
            );
            None
        }
    }
}

fn read_icmp(reader: &mut Reader, node: &Node<'_>) -> Option<Spanned<IcmpMatch>> {
    let mut fields = Fields::new(reader, node, "an ICMP criterion")?;
    let type_node = fields.take("type");
    let icmp_type = type_node.and_then(|n| reader.integer(n, "an ICMP type", codes::BAD_ICMP, 0, 254));
    let code_node = fields.take("code");
    let code = code_node.and_then(|n| reader.integer(n, "an ICMP code", codes::BAD_ICMP, 0, 255));
    let before = reader.diagnostics.len();
    fields.finish(reader);
    match (type_node, code_node) {
        (None, Some(code)) => reader.error_with_help(
            codes::BAD_ICMP,
            code,
            "an ICMP code needs a type",
            "write `type` as well: a code means something else with each type",
        ),
        (None, None) if reader.diagnostics.len() == before => {
            let message = "an empty ICMP criterion changes nothing";
            reader.warning(codes::IGNORED_FIELD, node, message, "write `type`, or remove it");
        }
        _ => {}
    }
    let icmp_type = u8::try_from(icmp_type?).ok()?;
    let code = code.and_then(|code| u8::try_from(code).ok());
    Some(reader.spanned(node, IcmpMatch { icmp_type, code }))
}

/// Numbers among the ports need a protocol that has ports; a protocol that has
/// none excludes names as well.
fn check_ports(reader: &mut Reader, rule: &CalicoRule) {
    let (source, destination) = (&rule.source, &rule.destination);
    let lists = [&source.ports, &source.not_ports, &destination.ports, &destination.not_ports];
    for port in lists.into_iter().filter_map(|list| offending_port(list, rule.protocol.as_ref())) {
        let message = match rule.protocol {
            Some(_) => "this rule's protocol has no ports",
            None => "port numbers need a protocol in the rule",
        };
        let mut error = Diagnostic::error(codes::PORTS_NEED_PROTOCOL, port, message);
        if let Some(protocol) = &rule.protocol {
            error = error.related(protocol.span, "the protocol");
        }
        reader.report(error.help("write `protocol: TCP`, `UDP` or `SCTP` beside `action`"));
    }
}

/// The first port of a list that does not fit the protocol.
fn offending_port(ports: &[Spanned<PortSpec>], protocol: Option<&Spanned<Protocol>>) -> Option<Span> {
    let bad = match protocol {
        Some(protocol) if has_ports(protocol.value.number) => None,
        Some(_) => ports.first(),
        None => ports.iter().find(|port| matches!(port.value, PortSpec::Range(..))),
    };
    bad.map(|port| port.span)
}

fn check_icmp(reader: &mut Reader, rule: &CalicoRule, at: Span) {
    let fits = rule.protocol.as_ref().is_some_and(|p| icmp_family(p.value.number).is_some());
    if !fits {
        let error =
            Diagnostic::error(codes::ICMP_NEEDS_PROTOCOL, at, "`icmp` needs an ICMP protocol in the rule");
        reader.report(error.help("write `protocol: ICMP` for IPv4, `protocol: ICMPv6` for IPv6"));
    }
}

/// Criteria of the other family than the rule's: an error where the API refuses
/// them, a warning where it only follows that the rule exists for one family.
fn check_families(reader: &mut Reader, rule: &CalicoRule) {
    let (source, destination) = (&rule.source, &rule.destination);
    let lists = [&source.nets, &source.not_nets, &destination.nets, &destination.not_nets];
    if let Some(version) = rule.ip_version {
        let name = family_name(version);
        for protocol in [&rule.protocol, &rule.not_protocol].into_iter().flatten() {
            if icmp_family(protocol.value.number).is_some_and(|family| family != version) {
                let message = format!("this protocol does not exist over {name}, the rule's `ipVersion`");
                reader.report(Diagnostic::error(codes::WRONG_FAMILY, protocol.span, message));
            }
        }
        for net in lists.into_iter().flatten().filter(|net| family(&net.value) != version) {
            let message = format!("`{}` is not {name}, the rule's `ipVersion`", net.value);
            let error = Diagnostic::error(codes::WRONG_FAMILY, net.span, message);
            reader.report(error.help("remove `ipVersion`, or write one rule for each version"));
        }
        return;
    }
    let mut nets = lists.into_iter().flatten();
    let Some(first) = nets.next() else { return };
    if let Some(other) = nets.find(|net| family(&net.value) != family(&first.value)) {
        let message = "IPv4 and IPv6 stand in one rule; Calico's API refuses that";
        let warning = Diagnostic::warning(codes::WRONG_FAMILY, other.span, message);
        reader
            .report(warning.related(first.span, "the other version").help("write one rule for each version"));
    }
}

/// The API refuses the negation of all addresses; Felix drops the rule for that
/// IP version.
fn check_catch_all(reader: &mut Reader, rule: &CalicoRule) {
    let negated = rule.source.not_nets.iter().chain(&rule.destination.not_nets);
    for net in negated.filter(|net| net.value.prefix_len() == 0) {
        let name = family_name(family(&net.value));
        let message = format!("`notNets` of all addresses: the rule matches no {name} packet");
        let warning = Diagnostic::warning(codes::CATCH_ALL, net.span, message);
        reader.report(warning.help("remove it, or remove the rule; Calico's API refuses it"));
    }
}

fn family(net: &IpNet) -> Family {
    match net {
        IpNet::V4(_) => Family::V4,
        IpNet::V6(_) => Family::V6,
    }
}

fn family_name(family: Family) -> &'static str {
    match family {
        Family::V4 => "IPv4",
        Family::V6 => "IPv6",
    }
}
