//! Entries of `protocols` (v1alpha2) and `ports` (v1alpha1).

use super::{ClusterPort, at_most_one};
use crate::diag::codes;
use crate::ir::protocol::{SCTP, TCP, UDP};
use crate::manifest::fields::Fields;
use crate::manifest::net;
use crate::manifest::objects::PortSpec;
use crate::manifest::reader::{Reader, clip};
use crate::manifest::yaml::{Entry, Node};

/// The protocols of v1alpha2 that have ports, as its fields name them.
const PROTOCOLS: [(&str, u8); 3] = [("tcp", TCP), ("udp", UDP), ("sctp", SCTP)];

/// Reads an entry of `protocols`: `tcp`, `udp`, `sctp` or `destinationNamedPort`.
pub(super) fn read_protocol(reader: &mut Reader, node: &Node<'_>) -> Option<ClusterPort> {
    const NAMES: [&str; 4] = ["tcp", "udp", "sctp", "destinationNamedPort"];
    let entry = match read_choice(reader, node, "a protocol entry", &NAMES)? {
        Choice::Nothing(port) => return Some(port),
        Choice::Entry(entry) => entry,
    };
    let span = reader.span(node);
    let Some((_, protocol)) = PROTOCOLS.iter().find(|(name, _)| *name == entry.key) else {
        return named(reader, node, &entry.value);
    };
    let mut fields = Fields::new(reader, &entry.value, "the protocol")?;
    let port = fields.take("destinationPort");
    let before = reader.diagnostics.len();
    fields.finish(reader);
    if reader.diagnostics.len() > before {
        return None;
    }
    let Some(port) = port else {
        let message = format!("without `destinationPort` every {} packet matches", entry.key);
        let help = "write `destinationPort: {range: {start: 1, end: 65535}}` if that is meant";
        reader.warning(codes::IMPLIED_FIELD, &entry.value, message, help);
        return Some(ClusterPort::Number { protocol: *protocol, range: None, span });
    };
    let range = read_destination(reader, port)?;
    Some(ClusterPort::Number { protocol: *protocol, range, span })
}

/// Reads `destinationPort`: a `number` or a `range`.
fn read_destination(reader: &mut Reader, node: &Node<'_>) -> Option<Option<(u16, u16)>> {
    let mut fields = Fields::new(reader, node, "destinationPort")?;
    let chosen = at_most_one(reader, &mut fields, "a destination port", &["number", "range"]);
    let before = reader.diagnostics.len();
    fields.finish(reader);
    let Some(entry) = chosen.ok()? else {
        if reader.diagnostics.len() > before {
            return None;
        }
        let help = "write `number: 80` or `range: {start: 80, end: 90}`";
        reader.warning(codes::IMPLIED_FIELD, node, "an empty `destinationPort` means every port", help);
        return Some(None);
    };
    if entry.key == "number" {
        let port = net::port_number(reader, &entry.value, "`number`")?;
        return Some(Some((port, port)));
    }
    let mut fields = Fields::new(reader, &entry.value, "range")?;
    let range = read_bounds(reader, &mut fields);
    fields.finish(reader);
    let (first, last) = range?;
    if first == last {
        let help = format!("write `number: {first}`");
        let message = "a range needs two different ports";
        reader.error_with_help(codes::REVERSED_PORTS, &entry.value, message, help);
        return None;
    }
    Some(Some((first, last)))
}

/// Reads an entry of `ports`: `portNumber`, `portRange` or `namedPort`.
pub(super) fn read_entry(reader: &mut Reader, node: &Node<'_>) -> Option<ClusterPort> {
    let entry = match read_choice(reader, node, "a port entry", &["portNumber", "portRange", "namedPort"])? {
        Choice::Nothing(port) => return Some(port),
        Choice::Entry(entry) => entry,
    };
    if entry.key == "namedPort" {
        return named(reader, node, &entry.value);
    }
    let what = if entry.key == "portNumber" { "portNumber" } else { "portRange" };
    let mut fields = Fields::new(reader, &entry.value, what)?;
    let protocol = match fields.take("protocol") {
        Some(node) => net::kubernetes_protocol(reader, node),
        None => Some(TCP),
    };
    let range = if what == "portNumber" {
        let port = fields.require("port").and_then(|node| net::port_number(reader, node, "`port`"));
        port.map(|port| (port, port))
    } else {
        read_bounds(reader, &mut fields)
    };
    fields.finish(reader);
    Some(ClusterPort::Number { protocol: protocol?, range: Some(range?), span: reader.span(node) })
}

/// Reads `start` and `end`.
fn read_bounds(reader: &mut Reader, fields: &mut Fields<'_, '_>) -> Option<(u16, u16)> {
    let mut bound = |name: &'static str, what: &str| {
        let node = fields.require(name)?;
        Some((node, net::port_number(reader, node, what)?))
    };
    let (start, end) = (bound("start", "`start`"), bound("end", "`end`"));
    let ((_, start), (end_node, end)) = (start?, end?);
    if start > end {
        let message = format!("`end` {end} is below `start` {start}");
        reader.error_with_help(codes::REVERSED_PORTS, end_node, message, "swap the two");
        return None;
    }
    Some((start, end))
}

/// What an entry says.
enum Choice<'n, 'a> {
    /// It has no field: everything.
    Nothing(ClusterPort),
    /// Its one field.
    Entry(&'n Entry<'a>),
}

fn read_choice<'n, 'a>(
    reader: &mut Reader,
    node: &'n Node<'a>,
    what: &'static str,
    names: &[&'static str],
) -> Option<Choice<'n, 'a>> {
    let mut fields = Fields::new(reader, node, what)?;
    let chosen = at_most_one(reader, &mut fields, what, names);
    let before = reader.diagnostics.len();
    fields.finish(reader);
    match chosen.ok()? {
        Some(entry) => Some(Choice::Entry(entry)),
        None if reader.diagnostics.len() > before => None,
        None => {
            let message = "an entry without a field matches every protocol and port";
            let help = "remove the whole list if everything is meant";
            reader.warning(codes::IMPLIED_FIELD, node, message, help);
            Some(Choice::Nothing(ClusterPort::Any { span: reader.span(node) }))
        }
    }
}

fn named(reader: &mut Reader, node: &Node<'_>, value: &Node<'_>) -> Option<ClusterPort> {
    let text = reader.string(value, "a port name")?;
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        let message = format!("`{}` is a number, not the name of a port", clip(text));
        let help = "write the number in an entry of its protocol";
        reader.error_with_help(codes::BAD_PORT, value, message, help);
        return None;
    }
    match net::kubernetes_port(reader, value)? {
        PortSpec::Name(name) => Some(ClusterPort::Name { name, span: reader.span(node) }),
        PortSpec::Range(..) => None,
    }
}
