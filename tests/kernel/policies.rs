//! Policies of the tests.

use crate::world::{HOST_IFACE, POD_V4, POD_V6};

/// The pod.
fn pod() -> String {
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{ name: pod, namespace: default, labels: {{ app: pod }} }}
status: {{ podIPs: [{{ ip: {POD_V4} }}, {{ ip: \"{POD_V6}\" }}] }}
"
    )
}

/// The pod of this name and address takes TCP connections to these ports from another pod,
/// which has this address, and nothing else.
pub fn from_pod(pod: (&str, &str), client: &str, ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(|p| format!("{{ protocol: TCP, port: {p} }}")).collect();
    let (name, address) = pod;
    format!(
        "apiVersion: v1
kind: Pod
metadata: {{ name: {name}, namespace: default, labels: {{ app: {name} }} }}
status: {{ podIPs: [{{ ip: {address} }}] }}
---
apiVersion: v1
kind: Pod
metadata: {{ name: client-of-{name}, namespace: default, labels: {{ app: client-of-{name} }} }}
status: {{ podIPs: [{{ ip: {client} }}] }}
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{ name: from-{name}, namespace: default }}
spec:
  podSelector: {{ matchLabels: {{ app: {name} }} }}
  policyTypes: [Ingress]
  ingress:
    - from: [{{ podSelector: {{ matchLabels: {{ app: client-of-{name} }} }} }}]
      ports: [{}]
",
        ports.join(", ")
    )
}

/// The pod takes TCP connections to these ports, and nothing else.
pub fn tcp_ports(ports: &[u16]) -> String {
    let ports: Vec<String> = ports.iter().map(|p| format!("{{ protocol: TCP, port: {p} }}")).collect();
    let rules = if ports.is_empty() { "[]".into() } else { format!("\n    - ports: [{}]", ports.join(", ")) };
    format!(
        "{}---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {{ name: ports, namespace: default }}
spec:
  podSelector: {{}}
  policyTypes: [Ingress]
  ingress: {rules}
",
        pod()
    )
}

/// Rules of a policy for packets towards the pod, as Calico writes them.
pub fn calico_ingress(rules: &str) -> String {
    format!(
        "{}---
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {{ name: mixed, namespace: default }}
spec:
  selector: all()
  types: [Ingress]
  ingress:
{rules}
",
        pod()
    )
}

/// The host, and a normal policy: TCP and UDP 90 in, nothing out.
pub fn host() -> String {
    host_with(&[90])
}

/// The same with these ports.
pub fn host_with(ports: &[u16]) -> String {
    format!(
        "apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {{ name: host, labels: {{ role: host }} }}
spec: {{ node: host, interfaceName: {HOST_IFACE}, expectedIPs: [{POD_V4}, \"{POD_V6}\"] }}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{ name: normal }}
spec:
  selector: role == 'host'
  order: 1
  types: [Ingress, Egress]
  ingress:
    - {{ action: Allow, protocol: TCP, destination: {{ ports: {ports:?} }} }}
    - {{ action: Allow, protocol: UDP, destination: {{ ports: {ports:?} }} }}
"
    )
}

/// The host with untracked policy: one port in and another one not, of TCP and of
/// UDP; SSH is denied, too. Answers of the ports 80 and 81 go out. `rules` more
/// rules say nothing of what is sent.
pub fn untracked(open: u16, closed: u16, rules: usize) -> String {
    let more = "    - { action: Deny, protocol: SCTP, destination: { ports: [7] } }\n".repeat(rules);
    format!(
        "{}---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{ name: untracked }}
spec:
  selector: role == 'host'
  order: 2
  doNotTrack: true
  applyOnForward: true
  types: [Ingress, Egress]
  ingress:
{more}    - {{ action: Allow, protocol: TCP, destination: {{ ports: [{open}] }} }}
    - {{ action: Allow, protocol: UDP, destination: {{ ports: [{open}] }} }}
    - {{ action: Deny, protocol: TCP, destination: {{ ports: [{closed}, 22] }} }}
    - {{ action: Deny, protocol: UDP, destination: {{ ports: [{closed}] }} }}
  egress:
{more}    - {{ action: Allow, protocol: TCP, source: {{ ports: [80, 81] }} }}
    - {{ action: Allow, protocol: UDP, source: {{ ports: [80, 81] }} }}
",
        host()
    )
}
