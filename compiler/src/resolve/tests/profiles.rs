//! Workload endpoints, profiles, staged policies and Calico's storage group, from
//! YAML text to decisions.

use super::hosts::{IN_80, NODE, OUT_80, check, global, host, object, pod, read, resolve};
use super::*;

/// A workload endpoint `prod/w` at 10.0.0.7.
fn workload(labels: &str, more: &str) -> String {
    object(
        "WorkloadEndpoint",
        &format!("name: w, namespace: prod, labels: {labels}"),
        &format!("orchestrator: k8s, ipNetworks: [10.0.0.7/32, 'fd00::7']{more}"),
    )
}

#[test]
fn a_workload_endpoint_has_its_labels_addresses_and_ports() {
    let text = workload(
        "{app: db, pcns.x: y}",
        ", serviceAccountName: sa, ports: [{name: sql, protocol: TCP, port: 5432}]",
    );
    let (cluster, _) = read(&text);
    let w = cluster.endpoint_by_path("prod/w").unwrap();
    assert_eq!(cluster.endpoints()[w].kind, EndpointKind::Workload);
    for (key, want) in [
        ("app", Some("db")),
        ("projectcalico.org/namespace", Some("prod")),
        ("projectcalico.org/orchestrator", Some("k8s")),
        ("projectcalico.org/serviceaccount", Some("sa")),
        ("pcns.x", None),
    ] {
        assert_eq!(cluster.label(w, key), want, "{key}");
    }
    let rule = "selector: app == 'web', types: [Egress], egress: [
        {action: Allow, protocol: TCP, destination: {selector: app == 'db', ports: [sql]}}]";
    let text = text + &pod("web", "{app: web}", "10.0.0.1") + &global("p", rule);
    check(
        &text,
        "prod/web",
        Egress,
        &[
            ("10.0.0.1 10.0.0.7 tcp 5432", "p[0] allow"),
            ("10.0.0.1 10.0.0.7 tcp 5433", "tier default deny"),
            ("fd00::1 fd00::7 tcp 5432", "p[0] allow"),
        ],
    );
}

#[test]
fn a_workload_endpoint_inherits_from_the_profiles_that_it_lists_only() {
    let namespace = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: prod, labels: {env: prod}}\n";
    let account = "---\napiVersion: v1\nkind: ServiceAccount
metadata: {name: sa, namespace: prod, labels: {team: a}}\n";
    let inventory = |more: &str| namespace.to_owned() + account + &workload("{}", more);
    for (profiles, env, team, decided) in [
        ("", None, None, "no profile deny"),
        (", profiles: [kns.prod]", Some("prod"), None, "kns.prod allow"),
        (", profiles: [kns.prod, ksa.prod.sa]", Some("prod"), Some("a"), "kns.prod allow"),
        (", profiles: [ksa.prod.sa]", None, Some("a"), "no profile deny"),
    ] {
        let text = inventory(profiles);
        let (cluster, codes) = read(&text);
        assert_eq!(codes, [""; 0]);
        let w = cluster.endpoint_by_path("prod/w").unwrap();
        assert_eq!((cluster.label(w, "pcns.env"), cluster.label(w, "pcsa.team")), (env, team), "{profiles}");
        check(&text, "prod/w", Ingress, &[("1.2.3.4 10.0.0.7 tcp 80", decided)]);
    }
}

#[test]
fn a_workload_endpoint_takes_the_place_of_its_pod() {
    let text = pod("web", "{app: web}", "10.0.0.1") + &workload("{app: other}", ", pod: web");
    let (cluster, codes) = read(&text);
    assert_eq!(codes, ["P0626"]);
    assert_eq!(cluster.endpoints().len(), 1);
    assert_eq!(cluster.endpoint_by_path("prod/web"), cluster.endpoint_by_path("prod/w"));
    let w = cluster.endpoint_by_path("prod/w").unwrap();
    assert_eq!(cluster.label(w, "app"), Some("other"));
}

/// A profile; `spec` goes on in the same line.
fn profile(name: &str, spec: &str) -> String {
    object("Profile", &format!("name: {name}"), spec)
}

#[test]
fn profiles_are_asked_in_the_order_of_the_list_after_all_policy() {
    let text = workload("{}", ", profiles: [a, b]")
        + &profile("b", "ingress: [{action: Allow}]")
        + &profile(
            "a",
            "ingress: [{action: Log}, {action: Deny, protocol: UDP}, {action: Allow, protocol: TCP}]",
        );
    let udp = "1.2.3.4 10.0.0.7 udp 80";
    let cases = [
        ("1.2.3.4 10.0.0.7 tcp 80", "a log, a allow"),
        (udp, "a log, a deny"),
        ("1.2.3.4 10.0.0.7 icmp 8/0", "a log, b allow"),
    ];
    check(&text, "prod/w", Ingress, &cases);
    // No rule of the direction: nothing allows.
    check(&text, "prod/w", Egress, &[("10.0.0.7 1.2.3.4 tcp 80", "no profile deny")]);
    let text = text + &global("p", "selector: all(), ingress: [{action: Pass, protocol: UDP}]");
    check(
        &text,
        "prod/w",
        Ingress,
        &[(udp, "a log, a deny"), ("1.2.3.4 10.0.0.7 tcp 80", "tier default deny")],
    );
}

#[test]
fn in_a_profile_pass_acts_as_deny() {
    let text = workload("{}", ", profiles: [a, b]")
        + &profile("a", "ingress: [{action: Pass, protocol: TCP}]")
        + &profile("b", "ingress: [{action: Allow}]");
    let ir = resolve(&read(&text).0, "prod/w", Ingress);
    let outcome = ir::evaluate(&ir, &flow("1.2.3.4 10.0.0.7 tcp 80"));
    let decision = &ir.decisions[outcome.decision];
    assert_eq!((outcome.verdict, decision.action, decision.rule), (ir::Verdict::Deny, Action::Pass, Some(0)));
    assert_eq!((decision.object.as_str(), decision.name.as_str()), ("Profile", "a"));
    assert_eq!(decide(&ir, "1.2.3.4 10.0.0.7 udp 80"), "b allow");
}

#[test]
fn a_profile_that_does_not_exist_denies() {
    let text = workload("{}", ", profiles: [ghost, kns.prod]");
    assert_eq!(read(&text).1, ["P0621"]);
    check(&text, "prod/w", Ingress, &[("1.2.3.4 10.0.0.7 tcp 80", "ghost deny")]);
    let text = host(NODE, ", profiles: [kns.nowhere]");
    assert_eq!(read(&text).1, ["P0621"]);
    check(&text, "eth0", Egress, &[(OUT_80, "kns.nowhere deny")]);
}

#[test]
fn a_namespace_that_is_only_used_has_its_profile() {
    let policy = object("NetworkPolicy", "name: p, namespace: used", "selector: all()");
    let text = host(NODE, ", profiles: [kns.used]") + &policy;
    assert_eq!(read(&text).1, [""; 0]);
    check(&text, "eth0", Ingress, &[(IN_80, "kns.used allow")]);
}

#[test]
fn a_port_name_in_a_profile_is_looked_for_as_in_a_policy() {
    let rule = "ingress: [{action: Allow, protocol: TCP, destination: {ports: [http]}}]";
    assert_eq!(read(&profile("a", rule)).1, ["P0604"]);
    let text = workload("{}", ", profiles: [a], ports: [{name: http, protocol: TCP, port: 80}]")
        + &profile("a", rule);
    assert_eq!(read(&text).1, [""; 0]);
    let cases = [("1.2.3.4 10.0.0.7 tcp 80", "a allow"), ("1.2.3.4 10.0.0.7 tcp 81", "no profile deny")];
    check(&text, "prod/w", Ingress, &cases);
}

#[test]
fn the_default_allow_profile_is_built_in() {
    let text = host(NODE, ", profiles: [projectcalico-default-allow]");
    assert_eq!(read(&text).1, [""; 0]);
    check(&text, "eth0", Ingress, &[(IN_80, "projectcalico-default-allow allow")]);
    // As `calicoctl get profiles` shows it.
    let declared =
        profile("projectcalico-default-allow", "ingress: [{action: Allow}], egress: [{action: Allow}]");
    check(&(text + &declared), "eth0", Egress, &[(OUT_80, "projectcalico-default-allow allow")]);
}

#[test]
fn an_explicit_profile_overrides_what_kubernetes_objects_give() {
    let namespace = "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: prod, labels: {env: prod}}\n";
    let text = namespace.to_owned()
        + &pod("web", "{app: web}", "10.0.0.1")
        + &profile(
            "kns.prod",
            "ingress: [{action: Deny, protocol: UDP}], labelsToApply: {pcns.env: other, app: x}",
        );
    let (cluster, _) = read(&text);
    let web = cluster.endpoint_by_path("prod/web").unwrap();
    assert_eq!(cluster.label(web, "pcns.env"), Some("other"));
    assert_eq!(cluster.label(web, "pcns.projectcalico.org/name"), None);
    // Own labels beat inherited ones.
    assert_eq!(cluster.label(web, "app"), Some("web"));
    let cases =
        [("1.2.3.4 10.0.0.1 udp 80", "kns.prod deny"), ("1.2.3.4 10.0.0.1 tcp 80", "no profile deny")];
    check(&text, "prod/web", Ingress, &cases);
}

#[test]
fn an_earlier_profiles_labels_beat_a_later_ones() {
    let text = workload("{own: w}", ", profiles: [a, b]")
        + &profile("a", "labelsToApply: {x: a, own: a}")
        + &profile("b", "labelsToApply: {x: b, y: b}");
    let (cluster, _) = read(&text);
    let w = cluster.endpoint_by_path("prod/w").unwrap();
    let labels = ["x", "y", "own"].map(|key| cluster.label(w, key));
    assert_eq!(labels, [Some("a"), Some("b"), Some("w")]);
}

#[test]
fn staged_policies_are_read_and_not_enforced() {
    let kubernetes =
        object("StagedKubernetesNetworkPolicy", "name: s, namespace: prod", "podSelector: {}, ingress: []");
    let text = pod("web", "{}", "10.0.0.1")
        + &object("StagedNetworkPolicy", "name: s, namespace: prod", "ingress: [{action: Deny}]")
        + &object("StagedGlobalNetworkPolicy", "name: s", "stagedAction: Set, ingress: [{action: Deny}]")
        + &kubernetes;
    let (cluster, codes) = read(&text);
    assert_eq!(codes, ["P0110"; 3]);
    assert!(cluster.policies().is_empty());
    check(&text, "prod/web", Ingress, &[("1.2.3.4 10.0.0.1 tcp 80", "kns.prod allow")]);
}

/// What `kubectl get … -o yaml` shows of the storage group.
const STORED: &str = r#"
apiVersion: crd.projectcalico.org/v1
kind: HostEndpointList
items:
- apiVersion: crd.projectcalico.org/v1
  kind: HostEndpoint
  metadata:
    name: eth0
    annotations: {projectcalico.org/metadata: '{"creationTimestamp":null,"labels":{"role":"node"}}'}
  spec: {node: node-1, interfaceName: eth0, expectedIPs: [192.0.2.1]}
---
apiVersion: crd.projectcalico.org/v1
kind: GlobalNetworkPolicy
metadata: {name: default.a}
spec: {selector: role == 'node', ingress: [{action: Allow, protocol: TCP}]}
---
apiVersion: crd.projectcalico.org/v1
kind: GlobalNetworkPolicy
metadata:
  name: default.b
  annotations: {projectcalico.org/metadata: '{"name":"default.b"}'}
spec: {tier: default, selector: role == 'node', ingress: [{action: Allow, protocol: UDP}]}
---
apiVersion: crd.projectcalico.org/v1
kind: GlobalNetworkPolicy
metadata: {name: default.c}
spec: {tier: other, selector: role == 'node', ingress: [{action: Allow, protocol: SCTP}]}
---
apiVersion: crd.projectcalico.org/v1
kind: Tier
metadata: {name: other}
spec: {order: 9000000}
"#;

#[test]
fn the_storage_group_keeps_labels_and_policy_names_apart() {
    let (cluster, _) = read(STORED);
    let names: Vec<String> = cluster.policies().values().map(PolicyData::display_name).collect();
    assert_eq!(names, ["a", "default.b", "default.c"]);
    let eth0 = cluster.endpoint_by_path("eth0").unwrap();
    assert_eq!(cluster.label(eth0, "role"), Some("node"));
    check(
        STORED,
        "eth0",
        Ingress,
        &[(IN_80, "a[0] allow"), ("1.2.3.4 192.0.2.1 udp 80", "default.b[0] allow")],
    );
}

#[test]
fn both_groups_name_the_same_policy() {
    let text = STORED.to_owned() + &global("a", "selector: all(), ingress: [{action: Deny}]");
    let mut sources = Sources::default();
    sources.add("input.yaml", text);
    let (_, diagnostics) = crate::manifest::read(&sources);
    let codes: Vec<&str> = diagnostics.iter().map(|d| d.code).collect();
    assert_eq!(codes, ["P0111"]);
}

#[test]
fn lists_of_every_kind_are_flattened() {
    let mut text = String::new();
    for (kind, items) in [
        (
            "HostEndpoint",
            "{metadata: {name: h}, spec: {node: n, interfaceName: '*', expectedIPs: [192.0.2.1]}}",
        ),
        ("WorkloadEndpoint", "{metadata: {name: w}, spec: {ipNetworks: [10.0.0.1]}}"),
        ("Profile", "{metadata: {name: p}, spec: {}}"),
        ("FelixConfiguration", "{metadata: {name: default}}"),
        ("StagedNetworkPolicy", "{metadata: {name: s}, spec: {}}"),
        ("StagedGlobalNetworkPolicy", "{metadata: {name: s}, spec: {}}"),
        ("StagedKubernetesNetworkPolicy", "{metadata: {name: s}, spec: {podSelector: {}}}"),
    ] {
        text += &format!("---\napiVersion: projectcalico.org/v3\nkind: {kind}List\nitems: [{items}]\n");
    }
    let (cluster, codes) = read(&text);
    assert_eq!(codes, ["P0110"; 3]);
    let names: Vec<String> = cluster.endpoints().values().map(EndpointData::display_name).collect();
    assert_eq!(names, ["default/w", "h"]);
}
