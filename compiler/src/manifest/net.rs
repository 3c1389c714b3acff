//! Addresses, CIDRs, ports and protocols.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::Spanned;
use super::objects::{PortSpec, Protocol};
use super::reader::{Reader, clip, did_you_mean};
use super::suggest::nearest;
use super::yaml::{Node, Resolved};
use crate::diag::{Diagnostic, codes};
use crate::ir::protocol::{ICMP, ICMPV6, SCTP, TCP, UDP, UDPLITE};

/// Whether an address without a prefix length stands for itself.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Bare {
    /// It is a /32 or /128 (Calico).
    Host,
    /// It is an error (Kubernetes).
    Refused,
}

/// A CIDR; bits behind the prefix are cleared with a warning.
pub(super) fn cidr(reader: &mut Reader, node: &Node<'_>, what: &str, bare: Bare) -> Option<Spanned<IpNet>> {
    let text = reader.string(node, what)?;
    let net = match parse_cidr(text, bare) {
        Ok(net) => net,
        Err(Refusal { message, help }) => {
            let message = format!("`{}` is not a CIDR: {message}", clip(text));
            match help {
                Some(help) => reader.error_with_help(codes::BAD_CIDR, node, message, help),
                None => reader.error(codes::BAD_CIDR, node, message),
            }
            return None;
        }
    };
    let masked = net.trunc();
    if masked != net {
        let message = format!("`{net}` has bits set behind its prefix; `{masked}` is used");
        let warning = Diagnostic::warning(codes::HOST_BITS, reader.span(node), message)
            .help(format!("write {masked}, or {} for one address", host(net.addr())));
        reader.report(warning.fix(reader.replace(node, masked.to_string())));
    }
    Some(reader.spanned(node, masked))
}

/// A list of CIDRs.
pub(super) fn cidrs(reader: &mut Reader, node: &Node<'_>, what: &str, bare: Bare) -> Vec<Spanned<IpNet>> {
    let item = format!("an item of {what}");
    reader.list(node, what, |reader, node| cidr(reader, node, &item, bare))
}

/// Why a text is not what it should be, and what to write.
struct Refusal {
    message: String,
    help: Option<String>,
}

fn refuse<T>(message: impl Into<String>, help: Option<String>) -> Result<T, Refusal> {
    Err(Refusal { message: message.into(), help })
}

fn parse_cidr(text: &str, bare: Bare) -> Result<IpNet, Refusal> {
    let (address, prefix) = match text.split_once('/') {
        Some((address, prefix)) => (address, Some(prefix)),
        None => (text, None),
    };
    let address = parse_address(address)?;
    let bits = if address.is_ipv4() { 32 } else { 128 };
    let length = match prefix {
        Some(prefix) => parse_prefix(prefix, bits)?,
        None if bare == Bare::Host => bits,
        None => return refuse("the prefix length is missing", Some(format!("write {}", host(address)))),
    };
    IpNet::new(address, length).or_else(|e| refuse(e.to_string(), None))
}

fn parse_prefix(text: &str, bits: u8) -> Result<u8, Refusal> {
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let padded = text.len() > 1 && text.starts_with('0');
    match text.parse::<u8>() {
        Ok(length) if digits && !padded && length <= bits => Ok(length),
        _ => refuse(format!("the prefix length must be a number from 0 to {bits}"), None),
    }
}

fn parse_address(text: &str) -> Result<IpAddr, Refusal> {
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        return Ok(address.into());
    }
    if let Ok(address) = text.parse::<Ipv6Addr>() {
        return match address.to_ipv4_mapped() {
            None => Ok(address.into()),
            Some(v4) => {
                refuse("an IPv4-mapped IPv6 address is ambiguous", Some(format!("write it as IPv4: {v4}")))
            }
        };
    }
    if text.contains('%') {
        return refuse("an address with a zone is valid on one host only", None);
    }
    match without_zeros(text) {
        Some(v4) => {
            refuse("leading zeros are octal to some readers", Some(format!("write {v4} if decimal is meant")))
        }
        None => refuse("the address is neither IPv4 nor IPv6", None),
    }
}

/// The IPv4 address that a text with leading zeros is without them.
fn without_zeros(text: &str) -> Option<Ipv4Addr> {
    let octets: Vec<&str> = text.split('.').collect();
    let padded = octets.iter().any(|o| o.len() > 1 && o.starts_with('0'));
    if !padded || octets.iter().any(|o| !is_digits(o)) {
        return None;
    }
    let numbers: Result<Vec<u8>, _> = octets.iter().map(|o| o.parse()).collect();
    let numbers: [u8; 4] = numbers.ok()?.try_into().ok()?;
    Some(numbers.into())
}

fn host(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

/// An address; Calico's annotations write it as a host CIDR.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    let bare = text.strip_suffix("/32").or_else(|| text.strip_suffix("/128")).unwrap_or(text);
    parse_address(bare).map_err(|refusal| refusal.message)
}

/// A port number from 1 to 65535.
pub(super) fn port_number(reader: &mut Reader, node: &Node<'_>, what: &str) -> Option<u16> {
    let number = reader.integer(node, what, codes::BAD_PORT, 1, u16::MAX.into())?;
    u16::try_from(number).ok()
}

/// A Kubernetes port: a number, or a string that is a name.
pub(super) fn kubernetes_port(reader: &mut Reader, node: &Node<'_>) -> Option<PortSpec> {
    let scalar = reader.scalar(node, "a port", "a number or a name")?;
    if !matches!(scalar.resolve(), Resolved::Str(_)) {
        return port_number(reader, node, "a port").map(|port| PortSpec::Range(port, port));
    }
    port_name(reader, node)
}

/// A Calico port: a number, `first:last`, or a name; numbers may be quoted.
pub(super) fn calico_port(reader: &mut Reader, node: &Node<'_>) -> Option<PortSpec> {
    let scalar = reader.scalar(node, "a port", "a number, a range or a name")?;
    let Resolved::Str(text) = scalar.resolve() else {
        return port_number(reader, node, "a port").map(|port| PortSpec::Range(port, port));
    };
    let (first, last) = text.split_once(':').unwrap_or((text, text));
    if !is_digits(first) || !is_digits(last) {
        return port_name(reader, node);
    }
    let port = |digits: &str| digits.parse::<u16>().ok().filter(|port| *port > 0);
    let (Some(first), Some(last)) = (port(first), port(last)) else {
        reader.error(codes::BAD_PORT, node, format!("`{}`: ports go from 1 to 65535", clip(text)));
        return None;
    };
    if first > last {
        let message = format!("the port range `{text}` ends before it starts");
        reader.error_with_help(codes::REVERSED_PORTS, node, message, format!("write {last}:{first}"));
        return None;
    }
    Some(PortSpec::Range(first, last))
}

fn is_digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

/// A port name as IANA has it: at most 15 lower-case letters, digits and single
/// inner hyphens, with a letter.
fn port_name(reader: &mut Reader, node: &Node<'_>) -> Option<PortSpec> {
    let text = reader.string(node, "a port")?;
    if is_port_name(text) {
        return Some(PortSpec::Name(text.to_owned()));
    }
    let message = format!("`{}` is not a port", clip(text));
    let help = match is_digits(text) {
        true => format!("write {text} without quotes"),
        false => {
            "write a number, or a name of at most 15 lower-case letters, digits and single hyphens".into()
        }
    };
    reader.error_with_help(codes::BAD_PORT, node, message, help);
    None
}

fn is_port_name(text: &str) -> bool {
    let legal = text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    let hyphens = text.starts_with('-') || text.ends_with('-') || text.contains("--");
    legal && !hyphens && text.len() <= 15 && text.bytes().any(|b| b.is_ascii_lowercase())
}

/// The name of an endpoint's port; `None` with a finding, or for an empty one
/// where that is `optional`.
pub(super) fn endpoint_port_name(reader: &mut Reader, node: &Node<'_>, optional: bool) -> Option<String> {
    let text = reader.string(node, "a port's name")?;
    if is_port_name(text) {
        return Some(text.to_owned());
    }
    if !(text.is_empty() && optional) {
        let help = "write at most 15 lower-case letters, digits and single hyphens";
        reader.error_with_help(
            codes::BAD_NAME,
            node,
            format!("a port cannot be named `{}`", clip(text)),
            help,
        );
    }
    None
}

/// A Calico protocol that has ports.
pub(super) fn port_protocol(reader: &mut Reader, node: &Node<'_>) -> Option<u8> {
    let number = calico_protocol(reader, node)?.value.number;
    if KUBERNETES_PROTOCOLS.iter().any(|(_, with_ports)| *with_ports == number) {
        return Some(number);
    }
    reader.error_with_help(
        codes::BAD_PROTOCOL,
        node,
        "this protocol has no ports",
        "write `TCP`, `UDP` or `SCTP`",
    );
    None
}

/// Kubernetes' protocols by name.
pub(super) const KUBERNETES_PROTOCOLS: &[(&str, u8)] = &[("TCP", TCP), ("UDP", UDP), ("SCTP", SCTP)];

/// Calico's protocols by name.
const CALICO_PROTOCOLS: &[(&str, u8)] =
    &[("TCP", TCP), ("UDP", UDP), ("ICMP", ICMP), ("ICMPv6", ICMPV6), ("SCTP", SCTP), ("UDPLite", UDPLITE)];

/// A Kubernetes protocol name.
pub(super) fn kubernetes_protocol(reader: &mut Reader, node: &Node<'_>) -> Option<u8> {
    let text = reader.string(node, "`protocol`")?;
    named_protocol(reader, node, text, KUBERNETES_PROTOCOLS)
}

/// A Calico protocol: a name, or a number from 1 to 255, which may be quoted.
pub(super) fn calico_protocol(reader: &mut Reader, node: &Node<'_>) -> Option<Spanned<Protocol>> {
    let scalar = reader.scalar(node, "a protocol", "a name or a number")?;
    let protocol = match scalar.resolve() {
        Resolved::Str(text) if !is_digits(text) => {
            Protocol { number: named_protocol(reader, node, text, CALICO_PROTOCOLS)?, by_name: true }
        }
        Resolved::Str(text) => match text.parse::<u8>() {
            Ok(number @ 1..) => Protocol { number, by_name: false },
            _ => {
                reader.error(codes::BAD_PROTOCOL, node, "a protocol number goes from 1 to 255");
                return None;
            }
        },
        _ => {
            let number = reader.integer(node, "a protocol number", codes::BAD_PROTOCOL, 1, 255)?;
            Protocol { number: u8::try_from(number).ok()?, by_name: false }
        }
    };
    Some(reader.spanned(node, protocol))
}

fn named_protocol(reader: &mut Reader, node: &Node<'_>, text: &str, known: &[(&str, u8)]) -> Option<u8> {
    if let Some((_, number)) = known.iter().find(|(name, _)| *name == text) {
        return Some(*number);
    }
    let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
    let help = match known.iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
        Some((name, _)) => format!("write `{name}`: upper and lower case matter"),
        None => did_you_mean(text, &names).unwrap_or_else(|| format!("protocols here: {}", names.join(", "))),
    };
    let message = format!("`{}` is not a protocol", clip(text));
    let fix = nearest(text, names.iter().copied()).and_then(|near| reader.replace(node, near));
    let error = Diagnostic::error(codes::BAD_PROTOCOL, reader.span(node), message).help(help);
    reader.report(error.fix(fix));
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cidrs_parse() {
        for (text, bare, want) in [
            ("10.0.0.0/8", Bare::Refused, Some("10.0.0.0/8")),
            ("10.9.8.77/24", Bare::Refused, Some("10.9.8.77/24")),
            ("0.0.0.0/0", Bare::Refused, Some("0.0.0.0/0")),
            ("2001:db8::/32", Bare::Refused, Some("2001:db8::/32")),
            ("10.0.0.1", Bare::Host, Some("10.0.0.1/32")),
            ("::1", Bare::Host, Some("::1/128")),
            ("10.0.0.1", Bare::Refused, None),
            ("10.0.0.1/33", Bare::Host, None),
            ("10.0.0.1/08", Bare::Host, None),
            ("10.0.0.1/", Bare::Host, None),
            ("10.0.0.1/+8", Bare::Host, None),
            ("::1/129", Bare::Host, None),
            ("::ffff:10.0.0.1/128", Bare::Host, None),
            ("010.0.0.1/32", Bare::Host, None),
            ("10.0.0/24", Bare::Host, None),
            ("fe80::1%eth0/64", Bare::Host, None),
            ("", Bare::Host, None),
        ] {
            assert_eq!(parse_cidr(text, bare).ok().map(|n| n.to_string()).as_deref(), want, "{text:?}");
        }
    }

    #[test]
    fn refusals_say_what_to_write() {
        for (text, want) in [
            ("10.0.0.1", "write 10.0.0.1/32"),
            ("::ffff:10.0.0.1/128", "write it as IPv4: 10.0.0.1"),
            ("010.00.0.1/32", "write 10.0.0.1 if decimal is meant"),
        ] {
            let help = parse_cidr(text, Bare::Refused).err().and_then(|r| r.help);
            assert_eq!(help.as_deref(), Some(want), "{text}");
        }
    }

    #[test]
    fn port_names() {
        for (text, want) in [
            ("http", true),
            ("a", true),
            ("8080-tcp", true),
            ("8080", false),
            ("HTTP", false),
            ("-a", false),
            ("a--b", false),
            ("a_b", false),
            ("", false),
            ("abcdefghijklmnop", false),
        ] {
            assert_eq!(is_port_name(text), want, "{text}");
        }
    }
}
