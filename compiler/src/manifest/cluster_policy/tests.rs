//! What is read from policies, and what is refused.

use super::*;
use crate::diag::{Severity, Sources};
use crate::ir::Action;
use crate::manifest::{LabelSelector, Objects, read};

fn parse(text: &str) -> (Objects, Vec<Diagnostic>) {
    let mut sources = Sources::default();
    sources.add("test.yaml", text);
    read(&sources)
}

/// Codes of the errors in a text.
fn errors(text: &str) -> Vec<&'static str> {
    parse(text).1.iter().filter(|d| d.severity == Severity::Error).map(|d| d.code).collect()
}

const CLUSTER: &str = "
apiVersion: policy.networking.k8s.io/v1alpha2
kind: ClusterNetworkPolicy
metadata: {name: p}
spec:
  tier: Baseline
  priority: 1000
  subject: {pods: {namespaceSelector: {matchLabels: {env: prod}}, podSelector: {}}}
  ingress:
  - name: first
    action: Accept
    from: [{namespaces: {}}]
    protocols: [{udp: {destinationPort: {number: 53}}}, {destinationNamedPort: http}]
  egress:
  - {action: Pass, to: [{networks: [10.0.0.0/8, '::/0']}, {nodes: {}}]}
status: {conditions: []}
";

const ADMIN: &str = "
apiVersion: policy.networking.k8s.io/v1alpha1
kind: AdminNetworkPolicy
metadata: {name: p}
spec:
  priority: 0
  subject: {namespaces: {}}
  ingress:
  - action: Allow
    from: [{namespaces: {}}]
    ports: [{portNumber: {port: 80}}, {portRange: {protocol: SCTP, start: 1, end: 1}}, {namedPort: http}]
";

const BASELINE: &str = "
apiVersion: policy.networking.k8s.io/v1alpha1
kind: BaselineAdminNetworkPolicy
metadata: {name: default}
spec:
  subject: {namespaces: {}}
  egress:
  - {action: Deny, to: [{namespaces: {}}]}
";

/// A port without its place.
fn port(port: &ClusterPort) -> String {
    match port {
        ClusterPort::Any { .. } => "any".into(),
        ClusterPort::Number { protocol, range, .. } => format!("{protocol} {range:?}"),
        ClusterPort::Name { name, .. } => name.clone(),
    }
}

#[test]
fn a_cluster_network_policy() {
    let (objects, _) = parse(CLUSTER);
    let [policy] = objects.cluster_policies.as_slice() else { panic!("one policy") };
    assert_eq!((policy.tier, policy.priority.value), (ClusterTier::Baseline, 1000));
    assert_eq!(policy.meta.namespace, None);
    assert_eq!(policy.subject.namespaces.match_labels["env"], "prod");
    assert_eq!(policy.subject.pods, LabelSelector::default());
    let rule = &policy.ingress[0];
    assert_eq!((rule.name.as_deref(), rule.action), (Some("first"), Action::Allow));
    assert_eq!(rule.ports.iter().map(port).collect::<Vec<_>>(), ["17 Some((53, 53))", "http"]);
    let rule = &policy.egress[0];
    assert_eq!(rule.action, Action::Pass);
    assert!(matches!(&rule.peers[0], ClusterPeer::Networks { nets, .. } if nets.len() == 2));
    assert!(matches!(&rule.peers[1], ClusterPeer::Unsupported { .. }));
}

#[test]
fn an_admin_network_policy() {
    let (objects, diagnostics) = parse(ADMIN);
    assert_eq!(diagnostics, []);
    let [policy] = objects.cluster_policies.as_slice() else { panic!("one policy") };
    assert_eq!((policy.tier, policy.priority.value), (ClusterTier::AdminV1, 0));
    let ports: Vec<_> = policy.ingress[0].ports.iter().map(port).collect();
    assert_eq!(ports, ["6 Some((80, 80))", "132 Some((1, 1))", "http"]);
}

#[test]
fn a_baseline_admin_network_policy() {
    let (objects, diagnostics) = parse(BASELINE);
    assert_eq!(diagnostics, []);
    let [policy] = objects.cluster_policies.as_slice() else { panic!("one policy") };
    assert_eq!((policy.tier, policy.egress[0].action), (ClusterTier::BaselineV1, Action::Deny));
}

#[test]
fn lists_of_each_kind_are_flattened() {
    let list = "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: BaselineAdminNetworkPolicyList\nitems:\n- metadata: {name: default}\n  spec: {subject: {namespaces: {}}}\n";
    let (objects, diagnostics) = parse(list);
    assert_eq!((objects.cluster_policies.len(), diagnostics), (1, vec![]));
}

#[test]
fn what_the_api_refuses_is_an_error() {
    for (text, from, to, want) in [
        (CLUSTER, "Baseline", "baseline", "P0207"),
        (CLUSTER, "  tier: Baseline\n", "", "P0202"),
        (CLUSTER, "1000", "1001", "P0308"),
        (CLUSTER, "1000", "-1", "P0308"),
        (CLUSTER, "1000", "1.5", "P0308"),
        (CLUSTER, "  priority: 1000\n", "", "P0202"),
        (CLUSTER, "{name: p}", "{name: p, namespace: x}", "P0408"),
        (CLUSTER, "action: Accept", "action: Allow", "P0207"),
        (CLUSTER, "  - name: first\n    action: Accept\n", "  - name: first\n", "P0202"),
        (CLUSTER, "first", &"x".repeat(101), "P0208"),
        (CLUSTER, "from: [{namespaces: {}}]", "from: []", "P0401"),
        (CLUSTER, "from: [{namespaces: {}}]", "from: [{}]", "P0401"),
        (CLUSTER, "from: [{namespaces: {}}]", "from:", "P0202"),
        (CLUSTER, "from: [{namespaces: {}}]", "from: [{namespaces: {}, pods: {podSelector: {}}}]", "P0408"),
        (CLUSTER, "from: [{namespaces: {}}]", "from: [{networks: [10.0.0.0/8]}]", "P0201"),
        (CLUSTER, "from: [{namespaces: {}}]", "from: [{pods: {namespaceSelector: {}}}]", "P0202"),
        (CLUSTER, "10.0.0.0/8", "10.0.0.1", "P0301"),
        (CLUSTER, "[10.0.0.0/8, '::/0']", "[]", "P0401"),
        (CLUSTER, "{nodes: {}}", "{nodes: 1}", "P0203"),
        (CLUSTER, "{nodes: {}}", "{node: {}}", "P0201"),
        (CLUSTER, "number: 53", "number: 65536", "P0303"),
        (CLUSTER, "number: 53", "range: {start: 5, end: 5}", "P0304"),
        (CLUSTER, "number: 53", "range: {start: 5}", "P0202"),
        (CLUSTER, "number: 53", "number: 53, range: {start: 1, end: 5}", "P0408"),
        (CLUSTER, "    protocols:", "    ports:", "P0201"),
        (CLUSTER, "destinationNamedPort: http", "destinationNamedPort: '80'", "P0303"),
        (CLUSTER, "destinationNamedPort: http", "destinationNamedPort: 80", "P0204"),
        (CLUSTER, "destinationNamedPort: http", "sctp: {}, tcp: {}", "P0408"),
        (CLUSTER, "{action: Pass,", "{action: Pass, protocols: [{destinationNamedPort: http}],", "P0408"),
        (ADMIN, "v1alpha1", "v1alpha2", "P0107"),
        (ADMIN, "action: Allow", "action: Accept", "P0207"),
        (ADMIN, "priority: 0", "priority: 0, tier: Admin", "P0101"),
        (ADMIN, "  priority: 0\n", "  priority: 0\n  tier: Admin\n", "P0201"),
        (ADMIN, "start: 1, end: 1", "start: 2, end: 1", "P0304"),
        (ADMIN, "SCTP", "ICMP", "P0305"),
        (ADMIN, "{port: 80}", "{protocol: TCP}", "P0202"),
        (ADMIN, "    ports:", "    protocols:", "P0201"),
        (ADMIN, "{namespaces: {}}\n", "{pods: {podSelector: {}}}\n", "P0202"),
        (BASELINE, "name: default", "name: other", "P0208"),
        (BASELINE, "Deny", "Pass", "P0207"),
        (BASELINE, "  subject:", "  priority: 1\n  subject:", "P0201"),
        (BASELINE, "{namespaces: {}}]}", "{domainNames: [a.example]}]}", "P0201"),
        (BASELINE, "{namespaces: {}}\n", "{}\n", "P0401"),
        (
            BASELINE,
            "subject: {namespaces: {}}",
            "subject: {namespaces: {}, pods: {podSelector: {}}}",
            "P0408",
        ),
        (BASELINE, "  subject: {namespaces: {}}\n", "", "P0202"),
    ] {
        assert!(text.contains(from), "{from}");
        assert_eq!(errors(text), Vec::<&str>::new());
        assert_eq!(errors(&text.replacen(from, to, 1)), [want], "{from} -> {to}");
    }
}

#[test]
fn lists_are_as_long_as_the_api_takes() {
    let rules = |count| "\n  - {action: Deny, to: [{namespaces: {}}]}".repeat(count);
    let many = |text: &str, from: &str, list: &str| text.replacen(from, list, 1);
    let old = "\n  - {action: Deny, to: [{namespaces: {}}]}";
    let new = "\n  - {action: Pass, to: [{networks: [10.0.0.0/8, '::/0']}, {nodes: {}}]}";
    let items = |item: &str, count| vec![item; count].join(", ");
    for (text, from, good, bad) in [
        (BASELINE, old, rules(100), rules(101)),
        (CLUSTER, new, rules(25), rules(26)),
        (CLUSTER, "10.0.0.0/8, '::/0'", items("10.0.0.0/8", 25), items("10.0.0.0/8", 26)),
        (CLUSTER, "{nodes: {}}", items("{namespaces: {}}", 24), items("{namespaces: {}}", 25)),
        (ADMIN, "{namedPort: http}", items("{namedPort: http}", 98), items("{namedPort: http}", 99)),
    ] {
        assert_eq!(errors(&many(text, from, &good)), Vec::<&str>::new(), "{from}");
        assert_eq!(errors(&many(text, from, &bad)), ["P0411"], "{from}");
    }
}

#[test]
fn an_unsupported_peer_is_a_warning_at_its_line() {
    let (_, diagnostics) = parse(CLUSTER);
    let [warning] = diagnostics.as_slice() else { panic!("one warning: {diagnostics:?}") };
    let mut sources = Sources::default();
    sources.add("test.yaml", CLUSTER);
    let span = warning.span.expect("it has a place");
    assert_eq!((warning.code, warning.severity), (codes::UNSUPPORTED_PEER, Severity::Warning));
    assert_eq!(sources.position(span).line, 15);
    assert_eq!(&CLUSTER[span.start as usize..span.end as usize], "nodes");
    assert!(warning.message.ends_with("the whole rule denies everything"), "{}", warning.message);
}
