//! Ports without a protocol, where the API allows that: Kubernetes takes TCP,
//! Calico takes whatever protocol the pods give a port's name.

use crate::diag::{Diagnostic, codes};
use crate::manifest::{CalicoRule, KubernetesRule, Objects, PortSpec};

/// Ports whose usual service speaks UDP, alone or as well.
const UDP: [(u16, &str); 12] = [
    (53, "DNS"),
    (67, "DHCP"),
    (68, "DHCP"),
    (69, "TFTP"),
    (123, "NTP"),
    (161, "SNMP"),
    (162, "SNMP"),
    (500, "IKE"),
    (514, "syslog"),
    (4500, "IPsec"),
    (4789, "VXLAN"),
    (51820, "WireGuard"),
];

/// One finding for each rule.
pub(super) fn lint(objects: &Objects) -> Vec<Diagnostic> {
    let kubernetes = objects.kubernetes_policies.iter().flat_map(|p| p.ingress.iter().chain(&p.egress));
    let calico = objects.calico_policies.iter().flat_map(|p| p.ingress.iter().chain(&p.egress).flatten());
    kubernetes.filter_map(kubernetes_rule).chain(calico.filter_map(calico_rule)).collect()
}

fn kubernetes_rule(rule: &KubernetesRule) -> Option<Diagnostic> {
    let implied = |port: &&crate::manifest::KubernetesPort| port.implied_protocol && port.port.is_some();
    let first = rule.ports.iter().find(implied)?;
    let service = |spec: &PortSpec| match spec {
        PortSpec::Range(from, to) => UDP.iter().find(|(port, _)| (from..=to).contains(&port)),
        PortSpec::Name(_) => None,
    };
    let mut entries = rule.ports.iter().filter(implied);
    let known = entries.find_map(|port| Some((port, service(port.port.as_ref()?)?)));
    let at = known.map_or(first, |(port, _)| port);
    let message = "a port without `protocol` is a TCP port only";
    let found = Diagnostic::warning(codes::IMPLIED_PROTOCOL, at.span, message);
    Some(match known {
        Some((_, (port, name))) => {
            found.help(format!("port {port} is {name}, which uses UDP: write an entry with `protocol: UDP`"))
        }
        None => found.help("write `protocol: TCP` if that is meant; another protocol needs its own entry"),
    })
}

fn calico_rule(rule: &CalicoRule) -> Option<Diagnostic> {
    if rule.protocol.is_some() {
        return None;
    }
    let sides = [&rule.source, &rule.destination];
    let mut ports = sides.into_iter().flat_map(|side| side.ports.iter().chain(&side.not_ports));
    let port = ports.find(|port| matches!(port.value, PortSpec::Name(_)))?;
    let message = "without a protocol the name stands for every protocol that a pod gives it";
    let found = Diagnostic::warning(codes::IMPLIED_PROTOCOL, port.span, message);
    Some(found.help("write the rule's `protocol`"))
}
