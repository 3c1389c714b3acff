//! HostEndpoint, WorkloadEndpoint and Profile.
//!
//! The checks follow projectcalico/calico `api/pkg/apis/projectcalico/v3`,
//! `libcalico-go/lib/apis/internalapi/workloadendpoint.go` and
//! `libcalico-go/lib/validator/v3`.

use std::net::IpAddr;

use super::rule::read_rule;
use crate::diag::{Diagnostic, codes};
use crate::ir::Action;
use crate::manifest::fields::Fields;
use crate::manifest::kinds::Head;
use crate::manifest::meta::{Scope, Strictness, read_labels, read_meta};
use crate::manifest::net::{self, Bare};
use crate::manifest::objects::{CalicoRule, Meta, NamedPort, Spanned};
use crate::manifest::reader::{Reader, clip};
use crate::manifest::yaml::Node;
use crate::manifest::{HostEndpoint, Profile, WorkloadEndpoint};

/// The profile that Calico itself provides.
const DEFAULT_ALLOW: &str = "projectcalico-default-allow";

/// Fields of a WorkloadEndpoint that change no verdict.
const UNSEEN: &[&str] = &[
    "workload",
    "node",
    "containerID",
    "endpoint",
    "ipv4Gateway",
    "ipv6Gateway",
    "interfaceName",
    "mac",
    "allowSpoofedSourcePrefixes",
    "qosControls",
];

/// Metadata and the fields of `spec`, which must be there.
fn open<'n, 'a>(
    reader: &mut Reader,
    node: &'n Node<'a>,
    head: &Head<'_>,
    what: &'static str,
    scope: Scope,
) -> Option<(Option<Meta>, Fields<'n, 'a>)> {
    let mut object = Fields::new(reader, node, what)?.at(head.span);
    object.ignore(&["apiVersion", "kind", "status"]);
    let meta = read_meta(reader, head, &mut object, scope, Strictness::Strict);
    let spec = object.require("spec");
    object.finish(reader);
    Some((meta, Fields::new(reader, spec?, "spec")?))
}

/// Reads a host endpoint.
pub(in crate::manifest) fn read_host_endpoint(
    reader: &mut Reader,
    node: &Node<'_>,
    head: &Head<'_>,
) -> Option<HostEndpoint> {
    let (meta, mut fields) = open(reader, node, head, "a HostEndpoint", Scope::Cluster)?;
    let host = fields.require("node").and_then(|node| text_of(reader, node, "`node`"));
    let interface = fields.take("interfaceName");
    let addresses = fields.take("expectedIPs");
    if interface.is_none() && addresses.is_none() {
        let message = "a HostEndpoint needs `interfaceName` or `expectedIPs`";
        let help = "write the interface's name, `\"*\"` for all interfaces, or its addresses";
        reader.report(Diagnostic::error(codes::MISSING_FIELD, head.span, message).help(help));
    }
    let interface = interface.and_then(|node| read_interface(reader, node));
    let expected_ips =
        addresses.map(|node| reader.list(node, "`expectedIPs`", read_address)).unwrap_or_default();
    let profiles = read_profiles(reader, &mut fields);
    let ports = read_ports(reader, &mut fields, false);
    fields.finish(reader);
    Some(HostEndpoint { meta: meta?, node: host?, interface, expected_ips, profiles, ports })
}

/// Reads a workload endpoint.
pub(in crate::manifest) fn read_workload_endpoint(
    reader: &mut Reader,
    node: &Node<'_>,
    head: &Head<'_>,
) -> Option<WorkloadEndpoint> {
    let (meta, mut fields) = open(reader, node, head, "a WorkloadEndpoint", Scope::Namespaced)?;
    fields.ignore(UNSEEN);
    let mut text = |name: &'static str| {
        let node = fields.take(name)?;
        text_of(reader, node, &format!("`{name}`"))
    };
    let (orchestrator, pod, service_account) =
        (text("orchestrator"), text("pod"), text("serviceAccountName"));
    let ips = fields
        .take("ipNetworks")
        .map(|node| reader.list(node, "`ipNetworks`", read_network))
        .unwrap_or_default();
    if let Some(entry) = fields.entry("ipNATs") {
        let message = "`ipNATs` is ignored: packets are evaluated with the addresses that they carry";
        let span = reader.key_span(entry);
        reader.report(Diagnostic::note(codes::IGNORED_FIELD, span, message));
    }
    let profiles = read_profiles(reader, &mut fields);
    let ports = read_ports(reader, &mut fields, true);
    fields.finish(reader);
    let orchestrator = orchestrator.unwrap_or_default();
    Some(WorkloadEndpoint { meta: meta?, orchestrator, pod, service_account, ips, profiles, ports })
}

/// Reads a profile.
pub(in crate::manifest) fn read_profile(
    reader: &mut Reader,
    node: &Node<'_>,
    head: &Head<'_>,
) -> Option<Profile> {
    let (meta, mut fields) = open(reader, node, head, "a Profile", Scope::Cluster)?;
    let mut rules = |name: &'static str| {
        let node = fields.take(name);
        node.map(|node| reader.list(node, &format!("`{name}`"), read_rule)).unwrap_or_default()
    };
    let (ingress, egress) = (rules("ingress"), rules("egress"));
    let labels = fields
        .take("labelsToApply")
        .map(|node| read_labels(reader, node, "`labelsToApply`"))
        .unwrap_or_default();
    fields.finish(reader);
    let profile = Profile { meta: meta?, ingress, egress, labels };
    check_built_in(reader, head, &profile);
    Some(profile)
}

fn check_built_in(reader: &mut Reader, head: &Head<'_>, profile: &Profile) {
    let allows = |rules: &[CalicoRule]| matches!(rules, [rule] if rule.action == Action::Allow);
    if profile.meta.name == DEFAULT_ALLOW && !(allows(&profile.ingress) && allows(&profile.egress)) {
        let message =
            format!("the built-in profile `{DEFAULT_ALLOW}` allows everything and cannot be changed");
        reader.report(
            Diagnostic::error(codes::BAD_COMBINATION, head.span, message)
                .help("give the profile another name, or leave it out: it always exists"),
        );
    }
}

/// A string that is not empty; an empty one is as good as missing.
fn text_of(reader: &mut Reader, node: &Node<'_>, what: &str) -> Option<String> {
    reader.string(node, what).filter(|text| !text.is_empty()).map(Into::into)
}

/// `*`, or an interface's name as Linux has it.
fn read_interface(reader: &mut Reader, node: &Node<'_>) -> Option<String> {
    let text = reader.string(node, "`interfaceName`")?;
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-');
    if text == "*" || ((1..=15).contains(&text.len()) && text.bytes().all(legal)) {
        return Some(text.to_owned());
    }
    let message = format!("`interfaceName` cannot be `{}`", clip(text));
    let help = "write at most 15 letters, digits, `_`, `.` and `-`, or `\"*\"` for all interfaces";
    reader.error_with_help(codes::BAD_NAME, node, message, help);
    None
}

fn read_address(reader: &mut Reader, node: &Node<'_>) -> Option<IpAddr> {
    let text = reader.string(node, "an address")?;
    let parsed = if text.contains('/') { Err("it has a prefix length".into()) } else { net::address(text) };
    match parsed {
        Ok(address) => Some(address),
        Err(message) => {
            reader.error(codes::BAD_ADDRESS, node, format!("`{}` is not an address: {message}", clip(text)));
            None
        }
    }
}

fn read_network(reader: &mut Reader, node: &Node<'_>) -> Option<IpAddr> {
    let net = net::cidr(reader, node, "an item of `ipNetworks`", Bare::Host)?.value;
    if net.prefix_len() == net.max_prefix_len() {
        return Some(net.addr());
    }
    let help = format!("write each address, such as {}", net.addr());
    reader.error_with_help(codes::BAD_ADDRESS, node, format!("`{net}` has more than one address"), help);
    None
}

fn read_profiles(reader: &mut Reader, fields: &mut Fields<'_, '_>) -> Vec<Spanned<String>> {
    let Some(node) = fields.take("profiles") else { return Vec::new() };
    reader.list(node, "`profiles`", |reader, node| {
        let name = reader.string(node, "a profile's name")?.to_owned();
        Some(reader.spanned(node, name))
    })
}

/// `ports`; those of a workload may also be mapped to a port of the host, and go
/// without a name then.
fn read_ports(reader: &mut Reader, fields: &mut Fields<'_, '_>, mapped: bool) -> Vec<NamedPort> {
    let Some(node) = fields.take("ports") else { return Vec::new() };
    reader.list(node, "`ports`", |reader, node| read_port(reader, node, mapped))
}

fn read_port(reader: &mut Reader, node: &Node<'_>, mapped: bool) -> Option<NamedPort> {
    let mut fields = Fields::new(reader, node, "an endpoint's port")?;
    let host_port = mapped && fields.take("hostPort").is_some();
    if mapped {
        fields.ignore(&["hostIP"]);
    }
    let name = match host_port {
        true => fields.take("name"),
        false => fields.require("name"),
    };
    let name = name.and_then(|node| net::endpoint_port_name(reader, node, host_port));
    let protocol = fields.require("protocol").and_then(|node| net::port_protocol(reader, node));
    let port = fields.require("port").and_then(|node| net::port_number(reader, node, "`port`"));
    fields.finish(reader);
    Some(NamedPort { name: name?, protocol: protocol?, port: port? })
}
