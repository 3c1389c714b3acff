//! From YAML text to decisions, through the reader.

use super::*;

const CLUSTER: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: prod, labels: {env: prod}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: prod, labels: {app: web}}
spec: {containers: [{name: c, ports: [{name: http, containerPort: 8080}]}]}
status: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: client, namespace: prod, labels: {app: client}}
status: {podIP: 10.0.0.2}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: allowed, labels: {ip-allow-set: 'true'}}
spec: {nets: [192.0.2.0/24]}
";

const POLICY: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: prod}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from:
    - podSelector: {matchLabels: {app: client}}
    ports:
    - port: http
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: admit}
spec:
  order: 10
  selector: app == 'web'
  ingress:
  - action: Deny
    source:
      notNets: [10.0.0.0/8, 192.0.2.0/24]
  - action: Allow
    protocol: TCP
    source:
      selector: ip-allow-set == 'true'
";

fn read() -> (Cluster, Vec<Diagnostic>) {
    let mut sources = Sources::default();
    sources.add("cluster.yaml", CLUSTER);
    sources.add("policy.yaml", POLICY);
    let (objects, mut diagnostics) = crate::manifest::read(&sources);
    let (cluster, more) = Cluster::new(&sources, objects);
    diagnostics.extend(more);
    (cluster, diagnostics)
}

#[test]
fn objects_as_read_decide_packets() {
    let (cluster, diagnostics) = read();
    assert_eq!(diagnostics, []);
    let web = cluster.endpoint_by_name("prod", "web").unwrap();
    let ir = cluster.resolve(web, Ingress);
    ir::verify(&ir).unwrap();
    for (flow, want) in [
        ("10.0.0.2 10.0.0.1 tcp 8080", "web[0] allow"),
        ("10.0.0.2 10.0.0.1 tcp 80", "tier default deny"),
        ("192.0.2.9 10.0.0.1 tcp 80", "admit[1] allow"),
        ("192.0.2.9 10.0.0.1 udp 80", "tier default deny"),
        ("198.51.100.9 10.0.0.1 tcp 8080", "admit[0] deny"),
        // The rule with IPv4 notNets only does not exist for IPv6.
        ("fd99::1 fd00::1 tcp 8080", "tier default deny"),
    ] {
        assert_eq!(decide(&ir, flow), want, "{flow}");
    }
}

#[test]
fn origins_name_the_lines_of_the_file() {
    let (cluster, _) = read();
    let web = cluster.endpoint_by_name("prod", "web").unwrap();
    let ir = cluster.resolve(web, Ingress);
    let text = |origin: Option<ir::Origin>| {
        let origin = origin?;
        assert_eq!(ir.files[origin.file], "policy.yaml");
        POLICY.lines().nth(origin.line as usize - 1).map(str::trim)
    };
    let found: Vec<_> =
        ir.rules.values().map(|r| [r.origins.rule, r.origins.src, r.origins.dst_ports].map(text)).collect();
    assert_eq!(
        found,
        [
            [Some("- action: Deny"), Some("notNets: [10.0.0.0/8, 192.0.2.0/24]"), None],
            [Some("- action: Allow"), Some("selector: ip-allow-set == 'true'"), None],
            [Some("- from:"), Some("- podSelector: {matchLabels: {app: client}}"), Some("- port: http")],
            [None, None, None],
        ]
    );
}
