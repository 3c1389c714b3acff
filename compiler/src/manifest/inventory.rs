//! Namespace, ServiceAccount and Pod.
//!
//! They usually come from `kubectl get -o yaml`, with large schemas of which
//! policy looks at little: other fields are accepted unseen, but a wrong type in
//! one that matters is an error.

use std::net::IpAddr;

use super::fields::Fields;
use super::kinds::Head;
use super::meta::{Scope, Strictness, read_meta};
use super::net;
use super::objects::{Meta, NamedPort, Pod};
use super::reader::{Reader, clip};
use super::yaml::Node;
use crate::diag::codes;
use crate::ir::protocol;

/// Where Calico's CNI plugin writes a pod's addresses, as host CIDRs.
const ANNOTATIONS: [&str; 2] = ["cni.projectcalico.org/podIPs", "cni.projectcalico.org/podIP"];

/// Reads an object of which only the metadata matters.
pub(super) fn read_bare(reader: &mut Reader, node: &Node<'_>, head: &Head<'_>, scope: Scope) -> Option<Meta> {
    let mut object = Fields::new(reader, node, "the object")?.at(head.span);
    let meta = read_meta(reader, head, &mut object, scope, Strictness::Lenient);
    object.finish_leniently(reader);
    meta
}

/// Reads a pod.
pub(super) fn read_pod(reader: &mut Reader, node: &Node<'_>, head: &Head<'_>) -> Option<Pod> {
    let mut object = Fields::new(reader, node, "a Pod")?.at(head.span);
    let meta = read_meta(reader, head, &mut object, Scope::Namespaced, Strictness::Lenient);
    let spec = object.take("spec");
    let status = object.take("status");
    object.finish_leniently(reader);
    let mut pod = Pod {
        meta: meta?,
        service_account: None,
        host_network: false,
        finished: false,
        ips: Vec::new(),
        ports: Vec::new(),
    };
    if let Some(mut spec) = spec.and_then(|spec| Fields::new(reader, spec, "spec")) {
        read_spec(reader, &mut spec, &mut pod);
    }
    if let Some(mut status) = status.and_then(|status| Fields::new(reader, status, "status")) {
        let phase = status.take("phase").and_then(|node| reader.string(node, "`phase`"));
        pod.finished = matches!(phase, Some("Succeeded" | "Failed"));
        pod.ips = read_status_addresses(reader, &mut status);
    }
    if pod.ips.is_empty() {
        pod.ips = read_annotated_addresses(reader, node);
    }
    Some(pod)
}

fn read_spec(reader: &mut Reader, spec: &mut Fields<'_, '_>, pod: &mut Pod) {
    let account = spec.take("serviceAccountName").or_else(|| spec.take("serviceAccount"));
    pod.service_account = account
        .and_then(|node| reader.string(node, "`serviceAccountName`"))
        .filter(|name| !name.is_empty())
        .map(Into::into);
    pod.host_network =
        spec.take("hostNetwork").and_then(|node| reader.boolean(node, "`hostNetwork`")).unwrap_or(false);
    for list in ["containers", "initContainers"] {
        let Some(containers) = spec.take(list).and_then(|node| reader.items(node, list)) else { continue };
        for container in containers {
            let Some(mut fields) = Fields::new(reader, container, "a container") else { continue };
            let Some(ports) = fields.take("ports").and_then(|node| reader.items(node, "`ports`")) else {
                continue;
            };
            pod.ports.extend(ports.iter().filter_map(|node| read_port(reader, node)));
        }
    }
}

/// A container port, if it has a name.
fn read_port(reader: &mut Reader, node: &Node<'_>) -> Option<NamedPort> {
    let mut fields = Fields::new(reader, node, "a container port")?;
    let name = reader.string(fields.take("name")?, "`name`")?;
    let port = fields.require("containerPort").map(|node| net::port_number(reader, node, "`containerPort`"));
    let protocol = match fields.take("protocol") {
        Some(node) => net::kubernetes_protocol(reader, node),
        None => Some(protocol::TCP),
    };
    fields.finish_leniently(reader);
    Some(NamedPort { name: name.to_owned(), protocol: protocol?, port: port?? })
}

/// `podIPs`, else `podIP`.
fn read_status_addresses(reader: &mut Reader, status: &mut Fields<'_, '_>) -> Vec<IpAddr> {
    let single = status.take("podIP");
    let list = status.take("podIPs").and_then(|node| reader.items(node, "`podIPs`")).unwrap_or_default();
    let mut ips = Vec::new();
    for item in list {
        let Some(mut fields) = Fields::new(reader, item, "an item of `podIPs`") else { continue };
        if let Some(node) = fields.take("ip") {
            ips.extend(read_address(reader, node));
        }
    }
    if list.is_empty() {
        ips.extend(single.and_then(|node| read_address(reader, node)));
    }
    ips
}

fn read_annotated_addresses(reader: &mut Reader, pod: &Node<'_>) -> Vec<IpAddr> {
    let annotations = pod.get("metadata").and_then(|metadata| metadata.get("annotations"));
    let Some(node) = ANNOTATIONS.iter().find_map(|name| annotations?.get(name)) else { return Vec::new() };
    let Some(text) = reader.string(node, "an annotation") else { return Vec::new() };
    let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
    parts.filter_map(|part| check_address(reader, node, part)).collect()
}

fn read_address(reader: &mut Reader, node: &Node<'_>) -> Option<IpAddr> {
    let text = reader.string(node, "an address")?;
    if text.is_empty() { None } else { check_address(reader, node, text) }
}

fn check_address(reader: &mut Reader, node: &Node<'_>, text: &str) -> Option<IpAddr> {
    match net::address(text) {
        Ok(address) => Some(address),
        Err(message) => {
            reader.error(codes::BAD_ADDRESS, node, format!("`{}` is not an address: {message}", clip(text)));
            None
        }
    }
}
