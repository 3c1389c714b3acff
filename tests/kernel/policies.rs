//! Policies of the tests.

use crate::world::{POD_V4, POD_V6};

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
