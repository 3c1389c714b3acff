//! Whole documents: what is read from valid ones, and that no text panics.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::diag::{self, Diagnostic, Sources, codes, has_errors};
use crate::ir::{Action, Direction, Family};

fn parse(text: &str) -> (Objects, Vec<Diagnostic>) {
    let mut sources = Sources::default();
    sources.add("test.yaml", text);
    read(&sources)
}

/// Objects of a text without errors or warnings.
fn objects(text: &str) -> Objects {
    let (objects, diagnostics) = parse(text);
    assert!(diagnostics.is_empty(), "{}", rendered(text, &diagnostics));
    objects
}

fn rendered(text: &str, diagnostics: &[Diagnostic]) -> String {
    let mut sources = Sources::default();
    sources.add("test.yaml", text);
    diag::render(&sources, diagnostics, false)
}

fn codes_of(text: &str) -> Vec<&'static str> {
    parse(text).1.iter().map(|d| d.code).collect()
}

const KUBERNETES: &str = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: prod, labels: {team: a}, annotations: {x: "1"}}
spec:
  podSelector:
    matchLabels: {role: db}
    matchExpressions: [{key: tier, operator: NotIn, values: [a, "2"]}]
  policyTypes: [Ingress, Egress]
  ingress:
  - from:
    - ipBlock: {cidr: 172.17.0.0/16, except: [172.17.1.0/24]}
    - namespaceSelector: {matchLabels: {project: x}}
      podSelector: {}
    ports:
    - {protocol: UDP, port: 53}
    - {port: http}
    - {port: 32000, endPort: 32768}
    - {}
  egress:
  - {}
"#;

#[test]
fn kubernetes_policy() {
    let objects = objects(KUBERNETES);
    let [policy] = objects.kubernetes_policies.as_slice() else { panic!("one policy") };
    assert_eq!((policy.meta.namespace.as_deref(), policy.meta.name.as_str()), (Some("prod"), "web"));
    assert_eq!(policy.pod_selector.match_labels["role"], "db");
    assert_eq!(policy.pod_selector.match_expressions[0].operator, LabelOperator::NotIn);
    assert_eq!(policy.policy_types, Some(vec![Direction::Ingress, Direction::Egress]));
    let rule = &policy.ingress[0];
    assert!(matches!(&rule.peers[0], KubernetesPeer::IpBlock { except, .. } if except.len() == 1));
    assert!(matches!(
        &rule.peers[1],
        KubernetesPeer::Pods { pod_selector: Some(p), namespace_selector: Some(n), .. }
            if p.match_labels.is_empty() && n.match_labels.len() == 1
    ));
    let ports: Vec<_> = rule.ports.iter().map(|p| (p.protocol, p.port.clone())).collect();
    assert_eq!(
        ports,
        [
            (17, Some(PortSpec::Range(53, 53))),
            (6, Some(PortSpec::Name("http".into()))),
            (6, Some(PortSpec::Range(32000, 32768))),
            (6, None),
        ]
    );
    assert!(policy.egress[0].peers.is_empty() && policy.egress[0].ports.is_empty());
}

#[test]
fn spans_point_at_what_was_read() {
    let objects = objects(KUBERNETES);
    let text = |span: crate::diag::Span| &KUBERNETES[span.start as usize..span.end as usize];
    let policy = &objects.kubernetes_policies[0];
    assert_eq!(text(policy.meta.span), "NetworkPolicy");
    assert!(text(policy.ingress[0].span).starts_with("from:"));
    assert!(
        matches!(&policy.ingress[0].peers[0], KubernetesPeer::IpBlock { cidr, .. } if text(cidr.span) == "172.17.0.0/16")
    );
    assert_eq!(text(policy.ingress[0].ports[0].span), "{protocol: UDP, port: 53}");
}

#[test]
fn impossible_port_keeps_the_rule_and_matches_nothing() {
    let text = r#"
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web}
spec:
  podSelector: {}
  egress:
  - ports: [{port: 80}, {port: http, endPort: 90}]
"#;
    let (objects, diagnostics) = parse(text);
    assert!(!has_errors(&diagnostics));
    assert_eq!(diagnostics[0].code, codes::IMPOSSIBLE_PORT);
    let ports = &objects.kubernetes_policies[0].egress[0].ports;
    assert_eq!(ports.len(), 1);
    assert_eq!(ports[0].port, Some(PortSpec::Name(String::new())));
}

const CALICO: &str = r#"
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: security.deny}
spec:
  tier: security
  order: 10.5
  selector: role == 'db' && has(x)
  namespaceSelector: has(prod)
  serviceAccountSelector: "sa == \"x\""
  types: [Ingress]
  ingress:
  - action: Log
    ipVersion: 6
    protocol: ICMPv6
    icmp: {type: 128, code: 0}
    metadata: {annotations: {a: b}}
  - action: Pass
    protocol: "6"
    notProtocol: 17
    source:
      nets: [10.0.0.1, 10.2.0.0/16]
      namespaceSelector: global()
      serviceAccounts: {names: [a, b], selector: x == 'y'}
    destination:
      ports: [80, 10:30, "40:50", http, "443"]
      notPorts: [5]
"#;

#[test]
fn calico_policy() {
    let objects = objects(CALICO);
    let policy = &objects.calico_policies[0];
    assert_eq!((policy.meta.namespace.as_deref(), policy.tier.value.as_str()), (None, "security"));
    assert_eq!(policy.order, Some(10.5));
    assert_eq!(policy.types, Some(vec![Direction::Ingress]));
    assert!(
        policy.egress.is_none() && policy.selector.is_some() && policy.service_account_selector.is_some()
    );
    let [log, pass] = policy.ingress.as_deref().unwrap_or_default() else { panic!("two rules") };
    assert_eq!((log.action, log.ip_version), (Action::Log, Some(Family::V6)));
    assert_eq!(log.icmp.as_ref().map(|i| (i.value.icmp_type, i.value.code)), Some((128, Some(0))));
    assert_eq!(log.protocol.as_ref().map(|p| p.value), Some(Protocol { number: 58, by_name: true }));
    assert_eq!(pass.protocol.as_ref().map(|p| p.value), Some(Protocol { number: 6, by_name: false }));
    let nets: Vec<_> = pass.source.nets.iter().map(|n| n.value.to_string()).collect();
    assert_eq!(nets, ["10.0.0.1/32", "10.2.0.0/16"]);
    let ports: Vec<_> = pass.destination.ports.iter().map(|p| p.value.clone()).collect();
    let range = PortSpec::Range;
    assert_eq!(
        ports,
        [range(80, 80), range(10, 30), range(40, 50), PortSpec::Name("http".into()), range(443, 443)]
    );
    assert_eq!(pass.source.service_accounts.as_ref().map(|s| s.value.names.len()), Some(2));
}

#[test]
fn sets_and_tiers() {
    let objects = objects(
        r#"
apiVersion: crd.projectcalico.org/v1
kind: NetworkSet
metadata: {name: a, namespace: n, labels: {ip-allow-set: "true"}}
spec: {nets: [192.0.2.1, "2001:db8::/64"]}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {name: a}
---
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: security}
spec: {order: 5, defaultAction: Pass}
---
apiVersion: projectcalico.org/v3
kind: Tier
metadata: {name: kube-admin}
"#,
    );
    assert_eq!(objects.network_sets[0].nets.len(), 2);
    assert_eq!(objects.network_sets[1].meta.namespace, None);
    let tiers: Vec<_> = objects.tiers.iter().map(|t| (t.order, t.default_action)).collect();
    assert_eq!(tiers, [(Some(5.0), Action::Pass), (Some(1000.0), Action::Pass)]);
}

#[test]
fn pods() {
    let objects = objects(
        r#"
apiVersion: v1
kind: Pod
metadata: {name: a, managedFields: [{x: 1}], labels: {app: a}}
spec:
  serviceAccountName: sa
  tolerations: [{key: k}]
  containers:
  - ports: [{name: http, containerPort: 80}, {containerPort: 1}]
  initContainers:
  - ports: [{name: dns, containerPort: 53, protocol: UDP}]
status: {phase: Succeeded, podIP: 10.0.0.9, podIPs: [{ip: 10.0.0.1}, {ip: "fd00::1"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: b, annotations: {cni.projectcalico.org/podIP: 10.0.0.2/32}}
spec: {hostNetwork: true}
"#,
    );
    let [a, b] = objects.pods.as_slice() else { panic!("two pods") };
    assert_eq!(a.ips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.1", "fd00::1"]);
    assert!(a.finished && !a.host_network && b.host_network);
    assert_eq!((a.service_account.as_deref(), a.meta.namespace.as_deref()), (Some("sa"), Some("default")));
    let ports: Vec<_> = a.ports.iter().map(|p| (p.name.as_str(), p.protocol, p.port)).collect();
    assert_eq!(ports, [("http", 6, 80), ("dns", 17, 53)]);
    assert_eq!(b.ips.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.0.0.2"]);
}

#[test]
fn lists_are_flattened_and_empty_documents_pass() {
    let text = r#"
---
# nothing
---
apiVersion: v1
items:
- {apiVersion: v1, kind: Namespace, metadata: {name: a}}
- apiVersion: v1
  kind: List
  items: [{apiVersion: v1, kind: Namespace, metadata: {name: b}}]
kind: List
metadata: {resourceVersion: ""}
---
{"apiVersion": "v1", "kind": "PodList", "items": [{"metadata": {"name": "p"}}]}
---
items: [{metadata: {name: q}}]
kind: PodList
apiVersion: v1
"#;
    let objects = objects(text);
    assert_eq!(objects.namespaces.iter().map(|m| m.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    assert_eq!(objects.pods.iter().map(|p| p.meta.name.as_str()).collect::<Vec<_>>(), ["p", "q"]);
    assert_eq!(objects.pods[0].meta.kind, "Pod");
}

#[test]
fn anchors_aliases_and_merge_keys() {
    let objects = objects(
        r#"
apiVersion: v1
kind: Pod
metadata: &meta
  name: a
  labels: &labels {app: web, tier: front}
spec:
  containers:
  - ports: [&port {name: http, containerPort: 80}]
  - ports: [*port, {<<: *port, name: alt}]
"#,
    );
    let ports: Vec<_> = objects.pods[0].ports.iter().map(|p| p.name.as_str()).collect();
    assert_eq!(ports, ["http", "http", "alt"]);
}

#[test]
fn all_errors_of_all_files_are_reported_in_order() {
    let mut sources = Sources::default();
    sources.add("a.yaml", "a: [\n---\napiVersion: v1\nkind: Pod\n");
    sources.add("b.yaml", KUBERNETES.replace("podSelector:\n", "podSelectr:\n"));
    let (_, diagnostics) = read(&sources);
    let found: Vec<_> = diagnostics.iter().map(|d| (d.span.map(|s| s.file.to_string()), d.code)).collect();
    let file = |n: u32| Some(format!("file{n}"));
    assert_eq!(
        found,
        [(file(0), codes::SYNTAX), (file(0), codes::MISSING_FIELD), (file(1), codes::UNKNOWN_FIELD)]
    );
}

#[test]
fn selector_errors_point_into_the_scalar() {
    let policy = |selector: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {{name: a}}\nspec:\n  selector: {selector}\n"
        )
    };
    for (selector, want) in [
        ("role = 'db'", "="),
        ("\"role = 'db'\"", "="),
        ("'role = \"db\"'", "="),
        ("\"role = \\\"db\\\"\"", "\"role = \\\"db\\\"\""),
    ] {
        let text = policy(selector);
        let (_, diagnostics) = parse(&text);
        let span = diagnostics[0].span.expect("a place");
        assert_eq!(
            (diagnostics[0].code, &text[span.start as usize..span.end as usize]),
            (codes::BAD_SELECTOR, want)
        );
    }
}

#[test]
fn hostile_texts_are_refused_fast() {
    let bomb = {
        let mut text = String::from("a: &a [x,x,x,x,x,x,x,x,x]\n");
        for (name, inner) in ('b'..='z').zip('a'..='y') {
            let aliases = vec![format!("*{inner}"); 9].join(",");
            text.push_str(&format!("{name}: &{name} [{aliases}]\n"));
        }
        text
    };
    let nested_anchors = (0..90).map(|i| format!("&a{i} [")).collect::<String>();
    for (name, text, want) in [
        ("brackets", "[".repeat(200_000), codes::TOO_DEEP),
        ("braces", "{a: ".repeat(200_000), codes::TOO_DEEP),
        ("dashes", "- ".repeat(200_000), codes::TOO_DEEP),
        ("questions", "? ".repeat(200_000), codes::UNSUPPORTED_YAML),
        ("bomb", bomb, codes::TOO_BIG),
        ("nested anchors", nested_anchors + &"x,".repeat(50_000), codes::SYNTAX),
        (
            "aliases of a big node",
            format!("a: &a [{}]\nb: [{}]", "x,".repeat(30_000), "*a,".repeat(1_000)),
            codes::TOO_BIG,
        ),
    ] {
        let start = Instant::now();
        let (_, diagnostics) = parse(&text);
        assert!(start.elapsed() < Duration::from_secs(1), "{name} took {:?}", start.elapsed());
        assert_eq!(diagnostics[0].code, want, "{name}");
        rendered(&text, &diagnostics);
    }
}

#[test]
fn reading_stops_after_too_many_findings() {
    let text = "---\n[]\n".repeat(10_010);
    let (_, diagnostics) = parse(&text);
    assert_eq!(diagnostics.len(), 10_001);
    assert!(diagnostics.iter().any(|d| d.code == codes::TOO_MANY_ERRORS));
}

#[test]
fn odd_documents_have_their_code() {
    for (text, want) in [
        ("\u{feff}apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n", vec![]),
        ("apiVersion: v1\r\nkind: Namespace\r\nmetadata:\r\n  name: a\r\n", vec![]),
        ("apiVersion: v1\nkind: Namespace\nmetadata: {name: 1e3}\n", vec![codes::NOT_A_STRING]),
        ("%YAML 1.2\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n", vec![]),
        ("apiVersion: v1\nkind: List\nitems: x\n", vec![codes::WRONG_TYPE]),
        ("apiVersion: v1\nkind: List\nitems: &a [x]\n", vec![codes::NOT_AN_OBJECT]),
    ] {
        assert_eq!(codes_of(text), want, "{text}");
    }
}

fn check_total(text: &str) {
    let mut sources = Sources::default();
    sources.add("fuzz.yaml", text);
    let (_, diagnostics) = read(&sources);
    for diagnostic in &diagnostics {
        let span = diagnostic.span.expect("every finding has a place");
        assert!(span.start <= span.end && span.end as usize <= text.len(), "{span:?} {}", text.len());
    }
    diag::render(&sources, &diagnostics, false);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn any_text_is_read_without_panic(text in "\\PC{0,200}") {
        check_total(&text);
    }

    #[test]
    fn yaml_like_text_is_read_without_panic(
        parts in proptest::collection::vec(
            proptest::sample::select(vec![
                "a", ": ", ":", "- ", "\n", "\n  ", "\n    ", "[", "]", "{", "}", ",", "\"", "'", "&x ", "*x", "<<: ", "|\n", ">-\n",
                "---\n", "...\n", "#", "!!str ", "!t ", "? ", "~", "é", "\t", "items", "kind", "apiVersion", "v1", "%",
            ]),
            0..60,
        )
    ) {
        check_total(&parts.concat());
    }

    #[test]
    fn mutated_documents_are_read_without_panic(
        calico in any::<bool>(),
        edits in proptest::collection::vec((any::<proptest::sample::Index>(), any::<char>(), 0..4_u8), 1..8),
    ) {
        let mut text: Vec<char> = if calico { CALICO } else { KUBERNETES }.chars().collect();
        for (index, c, edit) in edits {
            let at = index.index(text.len());
            match edit {
                0 => text[at] = c,
                1 => text.insert(at, c),
                2 => { text.remove(at); }
                _ => { let other = (at * 7 + 13) % text.len(); text.swap(at, other); }
            }
        }
        check_total(&text.into_iter().collect::<String>());
    }
}
