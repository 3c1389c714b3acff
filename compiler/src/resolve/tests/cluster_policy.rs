//! The policy API group, from YAML text to decisions.

use super::*;

/// Two namespaces, an external set with the labels of a pod, a host-network pod.
const CLUSTER: &str = "
apiVersion: v1
kind: Namespace
metadata: {name: prod, labels: {env: prod}}
---
apiVersion: v1
kind: Namespace
metadata: {name: dev, labels: {env: dev}}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: prod, labels: {app: web}}
spec:
  containers:
  - ports:
    - {name: http, containerPort: 8080}
    - {name: dns, containerPort: 53, protocol: UDP}
    - {name: dns, containerPort: 5353}
status: {podIPs: [{ip: 10.0.0.1}, {ip: 'fd00::1'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: db, namespace: prod, labels: {app: db}}
spec: {containers: [{ports: [{name: http, containerPort: 9090}]}]}
status: {podIPs: [{ip: 10.0.0.2}, {ip: 'fd00::2'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: dev, labels: {app: web}}
spec: {containers: [{ports: [{name: http, containerPort: 8081}]}]}
status: {podIPs: [{ip: 10.1.0.1}, {ip: 'fd01::1'}]}
---
apiVersion: v1
kind: Pod
metadata: {name: host, namespace: dev, labels: {app: web}}
spec: {hostNetwork: true}
status: {podIP: 192.168.0.1}
---
apiVersion: projectcalico.org/v3
kind: NetworkSet
metadata: {name: office, namespace: dev, labels: {app: web}}
spec: {nets: [198.51.100.0/24]}
";

/// Policies with the cluster, and the warnings that they give.
fn cluster_of(policies: &[&str]) -> (Cluster, Vec<&'static str>) {
    let mut sources = Sources::default();
    sources.add("cluster.yaml", CLUSTER);
    sources.add("policy.yaml", policies.join("---\n"));
    let (objects, mut diagnostics) = crate::manifest::read(&sources);
    assert!(!crate::diag::has_errors(&diagnostics), "{}", crate::diag::render(&sources, &diagnostics, false));
    let (cluster, more) = Cluster::new(&sources, objects);
    diagnostics.extend(more);
    (cluster, diagnostics.iter().map(|d| d.code).collect())
}

fn ir_of(cluster: &Cluster, pod: &str, direction: Direction) -> PolicyIr {
    let (namespace, name) = pod.split_once('/').unwrap();
    let ir = cluster.resolve(cluster.endpoint_by_name(namespace, name).unwrap(), direction);
    ir::verify(&ir).unwrap();
    ir
}

/// Holds flows against one pod and direction.
fn check(policies: &[&str], pod: &str, direction: Direction, cases: &[(&str, &str)]) {
    let ir = ir_of(&cluster_of(policies).0, pod, direction);
    for (flow, want) in cases {
        assert_eq!(decide(&ir, flow), *want, "{pod} {direction:?} {flow}\n{ir:#?}");
    }
}

/// A ClusterNetworkPolicy about everything, with these rules.
fn cnp(name: &str, tier: &str, priority: u32, rules: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha2\nkind: ClusterNetworkPolicy\nmetadata: {{name: {name}}}\n\
         spec:\n  tier: {tier}\n  priority: {priority}\n  subject: {{namespaces: {{}}}}\n{rules}"
    )
}

fn admin(rules: &str) -> String {
    cnp("p", "Admin", 10, rules)
}

/// An AdminNetworkPolicy about everything, with these rules.
fn anp(name: &str, priority: u32, rules: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: AdminNetworkPolicy\nmetadata: {{name: {name}}}\n\
         spec:\n  priority: {priority}\n  subject: {{namespaces: {{}}}}\n{rules}"
    )
}

/// The BaselineAdminNetworkPolicy, about everything.
fn banp(rules: &str) -> String {
    format!(
        "apiVersion: policy.networking.k8s.io/v1alpha1\nkind: BaselineAdminNetworkPolicy\n\
         metadata: {{name: default}}\nspec:\n  subject: {{namespaces: {{}}}}\n{rules}"
    )
}

/// Ingress of prod/web from nobody but prod/db.
const KUBERNETES: &str = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: k, namespace: prod}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: db}}}]}]
";

const FROM_DB: &str = "10.0.0.2 10.0.0.1 tcp 8080";
const FROM_DEV: &str = "10.1.0.1 10.0.0.1 tcp 8080";
const FROM_OUTSIDE: &str = "203.0.113.9 10.0.0.1 tcp 8080";

#[test]
fn subjects_are_pods_of_namespaces_or_pods_of_both_selectors() {
    let deny = "  ingress: [{action: Deny, from: [{namespaces: {}}]}]\n";
    for (subject, want) in [
        ("namespaces: {}", ["p", "p", "p"]),
        ("namespaces: {matchLabels: {env: prod}}", ["p", "p", ""]),
        ("namespaces: {matchLabels: {kubernetes.io/metadata.name: dev}}", ["", "", "p"]),
        ("namespaces: {matchExpressions: [{key: env, operator: NotIn, values: [prod]}]}", ["", "", "p"]),
        ("pods: {namespaceSelector: {}, podSelector: {}}", ["p", "p", "p"]),
        ("pods: {podSelector: {matchLabels: {app: web}}}", ["p", "", "p"]),
        (
            "pods: {namespaceSelector: {matchLabels: {env: prod}}, podSelector: {matchLabels: {app: web}}}",
            ["p", "", ""],
        ),
    ] {
        let policy = admin(deny).replace("namespaces: {}}\n  ingress", &format!("{subject}}}\n  ingress"));
        let (cluster, _) = cluster_of(&[&policy]);
        let selecting = ["prod/web", "prod/db", "dev/web"].map(|pod| {
            let (namespace, name) = pod.split_once('/').unwrap();
            let endpoint = cluster.endpoint_by_name(namespace, name).unwrap();
            cluster.selecting(endpoint).first().map_or("", |p| cluster.policies()[*p].name.as_str())
        });
        assert_eq!(selecting, want, "{subject}");
    }
}

#[test]
fn peers_are_pods_only() {
    let policy = admin(
        "  ingress:
  - {action: Deny, from: [{pods: {namespaceSelector: {}, podSelector: {matchLabels: {app: web}}}}]}
  - {action: Deny, from: [{namespaces: {matchLabels: {env: dev}}}]}
",
    );
    check(
        &[&policy],
        "prod/web",
        Ingress,
        &[
            ("10.1.0.1 10.0.0.1 tcp 80", "p[0] deny"),
            ("fd01::1 fd00::1 tcp 80", "p[0] deny"),
            ("10.0.0.2 10.0.0.1 tcp 80", "kns.prod allow"),
            // A host-network pod and a network set with these labels.
            ("192.168.0.1 10.0.0.1 tcp 80", "kns.prod allow"),
            ("198.51.100.7 10.0.0.1 tcp 80", "kns.prod allow"),
        ],
    );
}

#[test]
fn host_endpoints_are_neither_subjects_nor_peers() {
    let host = "apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: node1, labels: {app: web}}
spec: {node: node1, interfaceName: eth0, expectedIPs: [192.168.0.9]}
";
    let policy = admin(
        "  ingress:
  - {action: Deny, from: [{pods: {podSelector: {matchLabels: {app: web}}}}, {namespaces: {}}]}
",
    );
    let (cluster, _) = cluster_of(&[&policy, host]);
    let node = cluster.endpoint_by_path("node1").unwrap();
    assert_eq!(cluster.selecting(node), []);
    check(&[&policy, host], "prod/web", Ingress, &[("192.168.0.9 10.0.0.1 tcp 80", "kns.prod allow")]);
}

#[test]
fn an_empty_namespaces_peer_is_every_pod_and_nothing_else() {
    let policy = admin("  ingress: [{action: Deny, from: [{namespaces: {}}]}]\n");
    check(
        &[&policy],
        "prod/web",
        Ingress,
        &[(FROM_DB, "p[0] deny"), (FROM_DEV, "p[0] deny"), (FROM_OUTSIDE, "kns.prod allow")],
    );
}

#[test]
fn peers_are_alternatives() {
    let policy = admin(
        "  egress:
  - action: Deny
    to:
    - pods: {podSelector: {matchLabels: {app: db}}}
    - networks: [203.0.113.0/24, '2001:db8::/32']
",
    );
    check(
        &[&policy],
        "prod/web",
        Egress,
        &[
            ("10.0.0.1 10.0.0.2 udp 5", "p[0] deny"),
            ("10.0.0.1 203.0.113.9 47", "p[0] deny"),
            ("fd00::1 2001:db8::1 icmp6 128/0", "p[0] deny"),
            ("10.0.0.1 10.1.0.1 tcp 5", "kns.prod allow"),
        ],
    );
}

#[test]
fn networks_match_by_address_pods_included() {
    let policy = admin("  egress: [{action: Deny, to: [{networks: [10.1.0.0/16, 192.168.0.0/16]}]}]\n");
    check(
        &[&policy],
        "prod/web",
        Egress,
        &[
            ("10.0.0.1 10.1.0.1 tcp 80", "p[0] deny"),
            ("10.0.0.1 10.1.9.9 tcp 80", "p[0] deny"),
            ("10.0.0.1 192.168.0.1 tcp 80", "p[0] deny"),
            ("10.0.0.1 10.0.0.2 tcp 80", "kns.prod allow"),
            ("fd00::1 fd01::1 tcp 80", "kns.prod allow"),
        ],
    );
}

#[test]
fn everything_of_one_family_says_nothing_about_the_other() {
    let policy = admin("  egress: [{action: Deny, to: [{networks: [0.0.0.0/0]}]}]\n");
    check(
        &[&policy],
        "prod/web",
        Egress,
        &[("10.0.0.1 8.8.8.8 icmp 8/0", "p[0] deny"), ("fd00::1 2001:db8::1 tcp 80", "kns.prod allow")],
    );
}

#[test]
fn the_order_is_the_priority_lower_first() {
    let deny = cnp("deny", "Admin", 1000, "  ingress: [{action: Deny, from: [{namespaces: {}}]}]\n");
    let accept = |p| cnp("accept", "Admin", p, "  ingress: [{action: Accept, from: [{namespaces: {}}]}]\n");
    check(&[&deny, &accept(0)], "prod/web", Ingress, &[(FROM_DB, "accept[0] allow")]);
    check(&[&deny, &accept(999)], "prod/web", Ingress, &[(FROM_DB, "accept[0] allow")]);
    let deny = deny.replace("1000", "3");
    check(&[&deny, &accept(20)], "prod/web", Ingress, &[(FROM_DB, "deny[0] deny")]);
    let (cluster, warnings) = cluster_of(&[&deny, &accept(20)]);
    assert_eq!(cluster.policies().values().map(|p| p.order).collect::<Vec<_>>(), [3.0, 20.0]);
    assert!(warnings.is_empty());
}

#[test]
fn equal_priorities_go_by_name_with_a_warning() {
    let deny = anp("b", 5, "  ingress: [{action: Deny, from: [{namespaces: {}}]}]\n");
    let allow = anp("a", 5, "  ingress: [{action: Allow, from: [{namespaces: {}}]}]\n");
    check(&[&deny, &allow], "prod/web", Ingress, &[(FROM_DB, "a[0] allow")]);
    assert_eq!(cluster_of(&[&deny, &allow]).1, ["P0605"]);
}

#[test]
fn priorities_are_compared_within_a_tier_and_direction() {
    let rules = "  ingress: [{action: Deny, from: [{namespaces: {}}]}]\n";
    let egress = "  egress: [{action: Deny, to: [{namespaces: {}}]}]\n";
    let first = cnp("a", "Admin", 5, rules);
    for (other, want) in [
        (cnp("b", "Admin", 5, rules), 1),
        (cnp("b", "Admin", 5, &format!("{rules}{egress}")), 1),
        (cnp("b", "Admin", 6, rules), 0),
        (cnp("b", "Baseline", 5, rules), 0),
        (cnp("b", "Admin", 5, egress), 0),
        (anp("b", 5, rules), 0),
    ] {
        assert_eq!(cluster_of(&[&first, &other]).1, vec!["P0605"; want], "{other}");
    }
}

#[test]
fn rules_go_in_the_order_they_are_written() {
    let policy = admin(
        "  ingress:
  - {action: Accept, from: [{pods: {podSelector: {matchLabels: {app: db}}}}]}
  - {action: Deny, from: [{namespaces: {}}]}
",
    );
    check(
        &[&policy],
        "prod/web",
        Ingress,
        &[(FROM_DB, "p[0] allow"), (FROM_DEV, "p[1] deny"), (FROM_OUTSIDE, "kns.prod allow")],
    );
}

#[test]
fn a_direction_without_rules_is_untouched() {
    let ingress = admin("  ingress: [{action: Deny, from: [{namespaces: {}}]}]\n  egress: []\n");
    check(&[&ingress], "prod/web", Egress, &[("10.0.0.1 10.0.0.2 tcp 80", "kns.prod allow")]);
    for policy in [admin(""), admin("  ingress: []\n  egress:\n")] {
        let (cluster, _) = cluster_of(&[&policy]);
        for (policy, data) in cluster.policies() {
            assert!(!data.governs(Ingress) && !data.governs(Egress));
            assert_eq!(cluster.resolve_policy(policy, Ingress), None);
        }
        check(&[&policy], "prod/web", Ingress, &[(FROM_OUTSIDE, "kns.prod allow")]);
    }
}

#[test]
fn a_packet_that_no_rule_matches_goes_on() {
    let admin =
        admin("  ingress: [{action: Accept, from: [{pods: {podSelector: {matchLabels: {app: db}}}}]}]\n");
    let baseline =
        banp("  ingress: [{action: Allow, from: [{pods: {namespaceSelector: {}, podSelector: {}}}]}]\n");
    check(&[&admin], "prod/web", Ingress, &[(FROM_OUTSIDE, "kns.prod allow")]);
    check(&[&admin, KUBERNETES], "prod/web", Ingress, &[(FROM_OUTSIDE, "tier default deny")]);
    check(&[&baseline], "prod/web", Ingress, &[(FROM_OUTSIDE, "kns.prod allow")]);
}

#[test]
fn admin_comes_before_network_policy_before_baseline() {
    let rules = |word: &str| format!("  ingress: [{{action: {word}, from: [{{namespaces: {{}}}}]}}]\n");
    let deny_before = |policy: String| {
        check(&[KUBERNETES, &policy], "prod/web", Ingress, &[(FROM_DB, "p[0] deny")]);
    };
    deny_before(cnp("p", "Admin", 1000, &rules("Deny")));
    deny_before(anp("p", 1000, &rules("Deny")));
    // An accept of the admin tier is final as well.
    let accept = cnp("p", "Admin", 1000, &rules("Accept"));
    check(&[KUBERNETES, &accept], "prod/web", Ingress, &[(FROM_DEV, "p[0] allow")]);
    // The baseline's word does not count where a NetworkPolicy selects the pod.
    for baseline in [cnp("p", "Baseline", 0, &rules("Deny")), banp(&rules("Deny"))] {
        check(
            &[KUBERNETES, &baseline],
            "prod/web",
            Ingress,
            &[(FROM_DB, "k[0] allow"), (FROM_DEV, "tier default deny")],
        );
    }
}

#[test]
fn both_versions_share_the_order_of_their_tiers() {
    let rules = "  ingress: [{action: Deny, from: [{namespaces: {}}]}]\n";
    let (old, new) = (anp("old", 1000, rules), cnp("new", "Admin", 0, rules));
    check(&[&new, &old], "prod/web", Ingress, &[(FROM_DB, "old[0] deny")]);
    let (old, new) = (banp(rules), cnp("new", "Baseline", 0, rules));
    check(&[&new, &old], "prod/web", Ingress, &[(FROM_DB, "default[0] deny")]);
}

#[test]
fn pass_goes_to_the_next_tier() {
    let pass = "  ingress: [{action: Pass, from: [{namespaces: {}}]}]\n";
    let deny = "  ingress: [{action: Deny, from: [{namespaces: {}}]}]\n";
    for (pass, deny) in [
        (cnp("pass", "Admin", 1, pass), cnp("deny", "Admin", 2, deny)),
        (anp("pass", 1, pass), anp("deny", 2, deny)),
        (cnp("pass", "Baseline", 1, pass), cnp("deny", "Baseline", 2, deny)),
    ] {
        check(&[&pass, &deny], "prod/web", Ingress, &[(FROM_DB, "kns.prod allow")]);
    }
    let (pass, deny) = (cnp("pass", "Admin", 1, pass), cnp("deny", "Admin", 2, deny));
    let baseline = banp("  ingress: [{action: Deny, from: [{namespaces: {}}]}]\n");
    check(&[&pass, &deny, &baseline], "prod/web", Ingress, &[(FROM_DB, "default[0] deny")]);
    check(
        &[&pass, &deny, &baseline, KUBERNETES],
        "prod/web",
        Ingress,
        &[(FROM_DB, "k[0] allow"), (FROM_DEV, "tier default deny")],
    );
}

#[test]
fn the_baseline_is_reached_where_no_network_policy_selects_the_pod_in_that_direction() {
    let rules = "  ingress: [{action: Deny, from: [{namespaces: {}}]}]\n  egress: [{action: Deny, to: [{namespaces: {}}]}]\n";
    for (name, baseline) in [("p", cnp("p", "Baseline", 7, rules)), ("default", banp(rules))] {
        let policies = [KUBERNETES, baseline.as_str()];
        let denied = format!("{name}[0] deny");
        // prod/web has a policy for ingress only, prod/db none.
        check(&policies, "prod/web", Ingress, &[(FROM_DB, "k[0] allow")]);
        check(&policies, "prod/web", Egress, &[("10.0.0.1 10.0.0.2 tcp 80", &denied)]);
        check(&policies, "prod/db", Ingress, &[("10.0.0.1 10.0.0.2 tcp 80", &denied)]);
    }
}

#[test]
fn an_unsupported_peer_kind_makes_the_whole_rule_fail_closed() {
    let rules = |action: &str, peer: &str| {
        format!(
            "  egress: [{{action: {action}, to: [{{namespaces: {{}}}}, {{{peer}}}], protocols: [{{tcp: {{destinationPort: {{number: 1}}}}}}]}}]\n"
        )
    };
    let (pod, outside) = ("10.0.0.1 10.0.0.2 tcp 1", "fd00::1 2001:db8::1 udp 9");
    for peer in ["nodes: {}", "domainNames: [example.org]"] {
        let accept = admin(&rules("Accept", peer));
        check(&[&accept], "prod/web", Egress, &[(pod, "kns.prod allow"), (outside, "kns.prod allow")]);
        for action in ["Deny", "Pass"] {
            let policy = admin(&rules(action, peer));
            check(&[&policy], "prod/web", Egress, &[(pod, "p[0] deny"), (outside, "p[0] deny")]);
            assert_eq!(cluster_of(&[&policy]).1, ["P0410"]);
        }
        assert_eq!(cluster_of(&[&accept]).1, ["P0410"]);
        let old = anp(
            "p",
            1,
            &rules("Allow", peer).replace("protocols: [{tcp: {destinationPort: {number: 1}}}]", "ports: []"),
        );
        check(&[&old], "prod/web", Egress, &[(pod, "kns.prod allow")]);
        let baseline = banp("  egress: [{action: Deny, to: [{nodes: {}}]}]\n");
        check(&[&baseline], "prod/web", Egress, &[(outside, "default[0] deny")]);
    }
}

#[test]
fn a_dropped_accept_does_not_decide_for_later_rules() {
    let policy = admin(
        "  egress:
  - {action: Accept, to: [{nodes: {}}]}
  - {action: Deny, to: [{networks: [10.0.0.0/8]}]}
",
    );
    check(&[&policy], "prod/web", Egress, &[("10.0.0.1 10.0.0.2 tcp 80", "p[1] deny")]);
    let kubernetes = "apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: k, namespace: prod}
spec: {podSelector: {}, policyTypes: [Egress]}
";
    check(&[&policy, kubernetes], "prod/web", Egress, &[("10.0.0.1 8.8.8.8 tcp 80", "tier default deny")]);
}

#[test]
fn ports_of_v1alpha1_are_numbers_ranges_and_names() {
    let ports = "[{portNumber: {protocol: UDP, port: 53}}, {portNumber: {port: 80}}, {portRange: {start: 90, end: 95}}, {namedPort: http}]";
    let policy =
        anp("p", 1, &format!("  egress: [{{action: Deny, to: [{{namespaces: {{}}}}], ports: {ports}}}]\n"));
    check(
        &[&policy],
        "prod/web",
        Egress,
        &[
            ("10.0.0.1 10.0.0.2 udp 53", "p[0] deny"),
            ("10.0.0.1 10.0.0.2 tcp 53", "kns.prod allow"),
            // The protocol defaults to TCP.
            ("10.0.0.1 10.0.0.2 tcp 80", "p[0] deny"),
            ("10.0.0.1 10.0.0.2 udp 80", "kns.prod allow"),
            // Both ends of a range are in it.
            ("10.0.0.1 10.0.0.2 tcp 89", "kns.prod allow"),
            ("10.0.0.1 10.0.0.2 tcp 90", "p[0] deny"),
            ("10.0.0.1 10.0.0.2 tcp 95", "p[0] deny"),
            ("10.0.0.1 10.0.0.2 tcp 96", "kns.prod allow"),
            // Each pod has its own number behind a name.
            ("10.0.0.1 10.0.0.2 tcp 9090", "p[0] deny"),
            ("10.0.0.1 10.0.0.2 tcp 8081", "kns.prod allow"),
            ("10.0.0.1 10.1.0.1 tcp 8081", "p[0] deny"),
            ("10.0.0.1 10.0.0.2 icmp 8/0", "kns.prod allow"),
        ],
    );
}

#[test]
fn protocols_of_v1alpha2_have_a_number_a_range_or_a_name() {
    let protocols = "[{tcp: {destinationPort: {number: 80}}}, {udp: {destinationPort: {range: {start: 1, end: 9}}}}, {sctp: {destinationPort: {number: 7}}}, {destinationNamedPort: http}]";
    let policy = admin(&format!(
        "  ingress: [{{action: Deny, from: [{{namespaces: {{}}}}], protocols: {protocols}}}]\n"
    ));
    check(
        &[&policy],
        "prod/web",
        Ingress,
        &[
            ("10.0.0.2 10.0.0.1 tcp 80", "p[0] deny"),
            ("10.0.0.2 10.0.0.1 udp 80", "kns.prod allow"),
            ("10.0.0.2 10.0.0.1 udp 1", "p[0] deny"),
            ("10.0.0.2 10.0.0.1 udp 9", "p[0] deny"),
            ("10.0.0.2 10.0.0.1 udp 10", "kns.prod allow"),
            ("10.0.0.2 10.0.0.1 sctp 7", "p[0] deny"),
            // On ingress the name is looked up on the subject.
            ("10.0.0.2 10.0.0.1 tcp 8080", "p[0] deny"),
            ("10.0.0.2 10.0.0.1 tcp 9090", "kns.prod allow"),
            ("203.0.113.9 10.0.0.1 tcp 80", "kns.prod allow"),
        ],
    );
}

#[test]
fn a_named_port_has_any_protocol_that_the_pod_declares() {
    let rule = "  ingress: [{action: Deny, from: [{namespaces: {}}], ";
    for policy in [
        admin(&format!("{rule}protocols: [{{destinationNamedPort: dns}}]}}]\n")),
        anp("p", 1, &format!("{rule}ports: [{{namedPort: dns}}]}}]\n")),
    ] {
        check(
            &[&policy],
            "prod/web",
            Ingress,
            &[
                ("10.0.0.2 10.0.0.1 udp 53", "p[0] deny"),
                ("10.0.0.2 10.0.0.1 tcp 5353", "p[0] deny"),
                ("10.0.0.2 10.0.0.1 tcp 53", "kns.prod allow"),
                ("10.0.0.2 10.0.0.1 sctp 53", "kns.prod allow"),
            ],
        );
    }
}

#[test]
fn a_port_name_that_no_pod_declares_matches_nothing_with_a_warning() {
    let policy = admin(
        "  ingress: [{action: Deny, from: [{namespaces: {}}], protocols: [{destinationNamedPort: ghost}]}]\n",
    );
    assert_eq!(cluster_of(&[&policy]).1, ["P0604"]);
    check(&[&policy], "prod/web", Ingress, &[(FROM_DB, "kns.prod allow")]);
}

#[test]
fn an_empty_protocols_or_ports_entry_matches_everything() {
    let rule = "  ingress: [{action: Deny, from: [{namespaces: {}}], ";
    let number = "{portNumber: {port: 1}}";
    for policy in [
        admin(&format!("{rule}protocols: []}}]\n")),
        admin(&format!("{rule}protocols: [{{tcp: {{destinationPort: {{number: 1}}}}}}, {{}}]}}]\n")),
        anp("p", 1, &format!("{rule}ports: []}}]\n")),
        anp("p", 1, &format!("{rule}ports: [{number}, {{}}]}}]\n")),
        admin(&format!("{rule}}}]\n")),
    ] {
        check(
            &[&policy],
            "prod/web",
            Ingress,
            &[
                ("10.0.0.2 10.0.0.1 tcp 80", "p[0] deny"),
                ("10.0.0.2 10.0.0.1 icmp 8/0", "p[0] deny"),
                ("10.0.0.2 10.0.0.1 47", "p[0] deny"),
            ],
        );
    }
}

#[test]
fn a_protocol_without_a_port_means_all_its_ports() {
    for protocols in [
        "[{tcp: {}}]",
        "[{tcp: {destinationPort: {}}}]",
        "[{tcp: {}}, {tcp: {destinationPort: {number: 1}}}]",
        "[{tcp: {destinationPort: {number: 1}}}, {tcp: {}}]",
    ] {
        let rules =
            format!("  ingress: [{{action: Deny, from: [{{namespaces: {{}}}}], protocols: {protocols}}}]\n");
        check(
            &[&admin(&rules)],
            "prod/web",
            Ingress,
            &[("10.0.0.2 10.0.0.1 tcp 9", "p[0] deny"), ("10.0.0.2 10.0.0.1 udp 9", "kns.prod allow")],
        );
    }
}

#[test]
fn decisions_name_the_users_object_and_rule() {
    let rules = "  ingress:
  - {action: Pass, from: [{namespaces: {matchLabels: {env: none}}}]}
  - {action: Accept, from: [{namespaces: {}}, {pods: {podSelector: {}}}]}
";
    let policy = admin(rules);
    let (cluster, _) = cluster_of(&[&policy]);
    let ir = ir_of(&cluster, "prod/web", Ingress);
    let outcome = ir::evaluate(&ir, &flow(FROM_DB));
    let data = &ir.decisions[outcome.decision];
    assert_eq!(data.kind, DecisionKind::Rule);
    assert_eq!(
        (data.api.as_str(), data.object.as_str()),
        ("policy.networking.k8s.io/v1alpha2", "ClusterNetworkPolicy")
    );
    assert_eq!((data.namespace.as_deref(), data.name.as_str()), (None, "p"));
    assert_eq!((data.tier.as_deref(), data.rule, data.action), (Some("kube-admin"), Some(1), Action::Allow));
    assert_eq!(data.at.map(|at| (ir.files[at.file].as_str(), at.line)), Some(("policy.yaml", 10)));
}

#[test]
fn each_kind_has_its_tier() {
    let rules = "  ingress: [{action: Deny, from: [{namespaces: {}}]}]\n";
    for (policy, want) in [
        (cnp("p", "Admin", 0, rules), "kube-admin"),
        (cnp("p", "Baseline", 0, rules), "kube-baseline"),
        (anp("p", 0, rules), "adminnetworkpolicy"),
        (banp(rules), "baselineadminnetworkpolicy"),
    ] {
        let (cluster, warnings) = cluster_of(&[&policy]);
        let tiers: Vec<&str> = cluster.policies().values().map(|p| p.tier.as_str()).collect();
        assert_eq!((tiers, warnings), (vec![want], vec![]));
    }
}
