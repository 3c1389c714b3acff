//! Host endpoints, their stages and failsafe ports, from YAML text to decisions.

use super::*;
use crate::compile::{CompileOptions, compile};

/// The cluster that a text describes, and the codes of what was found.
pub(super) fn read(text: &str) -> (Cluster, Vec<&'static str>) {
    let mut sources = Sources::default();
    sources.add("input.yaml", text);
    let (objects, mut diagnostics) = crate::manifest::read(&sources);
    let (cluster, more) = Cluster::new(&sources, objects);
    diagnostics.extend(more);
    assert!(!crate::diag::has_errors(&diagnostics), "{diagnostics:#?}");
    (cluster, diagnostics.iter().map(|d| d.code).collect())
}

pub(super) fn resolve(cluster: &Cluster, path: &str, direction: Direction) -> PolicyIr {
    let endpoint = cluster.endpoint_by_path(path).unwrap_or_else(|| panic!("no endpoint {path}"));
    let ir = cluster.resolve(endpoint, direction);
    ir::verify(&ir).unwrap();
    assert_eq!(ir::parse(&ir.to_string()).as_ref(), Ok(&ir));
    ir
}

/// Holds flows and decisions against one endpoint and direction of a text.
pub(super) fn check(text: &str, path: &str, direction: Direction, cases: &[(&str, &str)]) {
    let ir = resolve(&read(text).0, path, direction);
    for (flow, want) in cases {
        assert_eq!(decide(&ir, flow), *want, "{path} {direction:?} {flow}\n{ir}");
    }
}

/// A host endpoint of `node-1` at 192.0.2.1; `more` goes on with its spec.
pub(super) fn host(labels: &str, more: &str) -> String {
    format!(
        "---
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {{name: eth0, labels: {labels}}}
spec: {{node: node-1, interfaceName: eth0, expectedIPs: [192.0.2.1, '2001:db8::1']{more}}}
"
    )
}

/// A GlobalNetworkPolicy; `spec` goes on in the same line.
pub(super) fn global(name: &str, spec: &str) -> String {
    format!(
        "---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{name: {name}}}
spec: {{{spec}}}
"
    )
}

/// An object of `projectcalico.org/v3`; `name` and `spec` go on in their lines.
pub(super) fn object(kind: &str, name: &str, spec: &str) -> String {
    format!("---\napiVersion: projectcalico.org/v3\nkind: {kind}\nmetadata: {{{name}}}\nspec: {{{spec}}}\n")
}

pub(super) fn pod(name: &str, labels: &str, ip: &str) -> String {
    format!(
        "---
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: prod, labels: {labels}}}
status: {{podIP: {ip}}}
"
    )
}

pub(super) const NODE: &str = "{role: node}";
const NO_FAILSAFES: &str = "---
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {failsafeInboundHostPorts: [], failsafeOutboundHostPorts: []}
";

pub(super) const IN_80: &str = "198.51.100.9 192.0.2.1 tcp 80";
pub(super) const OUT_80: &str = "192.0.2.1 198.51.100.9 tcp 80";

#[test]
fn a_host_endpoint_is_an_endpoint_without_namespace() {
    let (cluster, codes) = read(&host(NODE, ", ports: [{name: ssh, protocol: TCP, port: 22}]"));
    assert_eq!(codes, [""; 0]);
    let data = cluster.endpoints().values().next().unwrap();
    assert_eq!((data.kind, data.namespace.as_deref()), (EndpointKind::Host, None));
    assert_eq!((data.display_name().as_str(), data.node.as_deref()), ("eth0", Some("node-1")));
    assert_eq!(cluster.owners("192.0.2.1".parse().unwrap()).len(), 1);
    let node = cluster.endpoint_by_path("eth0").unwrap();
    assert_eq!(cluster.label(node, "role"), Some("node"));
    assert_eq!(cluster.label(node, "projectcalico.org/namespace"), None);
}

#[test]
fn a_host_endpoint_is_a_member_of_selectors_like_any_endpoint() {
    let rule = "order: 1, selector: app == 'web', ingress: [
        {action: Allow, protocol: TCP, source: {selector: role == 'node'}},
        {action: Allow, source: {namespaceSelector: global()}, protocol: UDP}]";
    let text = host(NODE, "") + &pod("web", "{app: web}", "10.0.0.1") + &global("p", rule);
    check(
        &text,
        "prod/web",
        Ingress,
        &[
            ("192.0.2.1 10.0.0.1 tcp 80", "p[0] allow"),
            ("192.0.2.1 10.0.0.1 udp 80", "p[1] allow"),
            ("192.0.2.2 10.0.0.1 tcp 80", "tier default deny"),
            ("2001:db8::1 fd00::1 tcp 80", "p[0] allow"),
        ],
    );
}

#[test]
fn a_host_endpoints_named_ports_count() {
    let text = host(NODE, ", ports: [{name: api, protocol: TCP, port: 8443}]")
        + &global(
            "p",
            "selector: role == 'node', ingress: [{action: Allow, protocol: TCP, destination: {ports: [api]}}]",
        );
    check(
        &text,
        "eth0",
        Ingress,
        &[
            ("198.51.100.9 192.0.2.1 tcp 8443", "p[0] allow"),
            ("198.51.100.9 192.0.2.1 tcp 8444", "tier default deny"),
        ],
    );
}

#[test]
fn a_host_endpoint_without_policy_and_profile_denies_all_but_failsafe_ports() {
    let text = host(NODE, "");
    let inbound = [
        (IN_80, "no profile deny"),
        ("198.51.100.9 192.0.2.1 tcp 22", "failsafe allow"),
        ("198.51.100.9 192.0.2.1 udp 68", "failsafe allow"),
        ("198.51.100.9 192.0.2.1 udp 22", "no profile deny"),
        ("198.51.100.9 192.0.2.1 udp 53", "no profile deny"),
        ("198.51.100.9 192.0.2.1 icmp 8/0", "no profile deny"),
        ("2001:db8::9 2001:db8::1 tcp 6443", "failsafe allow"),
        ("198.51.100.9 192.0.2.1 tcp 22>80", "no profile deny"),
    ];
    check(&text, "eth0", Ingress, &inbound);
    let outbound = [
        (OUT_80, "no profile deny"),
        ("192.0.2.1 198.51.100.9 udp 53", "failsafe allow"),
        ("192.0.2.1 198.51.100.9 udp 67", "failsafe allow"),
        ("192.0.2.1 198.51.100.9 tcp 22", "no profile deny"),
        ("192.0.2.1 198.51.100.9 tcp 179", "failsafe allow"),
    ];
    check(&text, "eth0", Egress, &outbound);
}

#[test]
fn failsafe_ports_are_built_in_as_felix_has_them() {
    let (cluster, _) = read(&host(NODE, ""));
    for (direction, side, want) in
        [(Ingress, "192.0.2.1", vec![(6, 22), (17, 68)]), (Egress, "198.51.100.9", vec![(17, 53), (17, 67)])]
    {
        let ir = resolve(&cluster, "eth0", direction);
        let both = [179, 2379, 2380, 5473, 6443, 6666, 6667].map(|port| (6, port));
        let want: Vec<(u8, u16)> = want.into_iter().chain(both).collect();
        let (src, dst) = if side == "192.0.2.1" { ("198.51.100.9", side) } else { ("192.0.2.1", side) };
        let open = |protocol: u8, port: u16| {
            decide(&ir, &format!("{src} {dst} {protocol} {port}")) == "failsafe allow"
        };
        let mut found = Vec::new();
        for protocol in [6, 17, 132] {
            found.extend((1..=10_000).filter(|port| open(protocol, *port)).map(|port| (protocol, port)));
        }
        let mut sorted = want;
        sorted.sort_unstable();
        assert_eq!(found, sorted, "{direction:?}");
    }
}

#[test]
fn no_policy_closes_a_failsafe_port() {
    let deny =
        global("deny", "order: 1, selector: all(), types: [Ingress, Egress], ingress: [{action: Deny}]");
    let text = host(NODE, "") + &deny;
    check(&text, "eth0", Ingress, &[(IN_80, "deny[0] deny"), ("1.2.3.4 192.0.2.1 tcp 22", "failsafe allow")]);
    // Pods have no failsafe ports.
    let text = pod("web", "{}", "10.0.0.1") + &deny + &host(NODE, "");
    check(&text, "prod/web", Ingress, &[("1.2.3.4 10.0.0.1 tcp 22", "deny[0] deny")]);
}

#[test]
fn felix_configuration_replaces_the_failsafe_ports_node_before_default() {
    let felix = |name: &str, spec: &str| object("FelixConfiguration", &format!("name: {name}"), spec);
    let ssh = "198.51.100.9 192.0.2.1 tcp 22";
    let dns = "192.0.2.1 198.51.100.9 udp 53";
    let default = felix("default", "failsafeInboundHostPorts: [{protocol: UDP, port: 4000}]");
    let node = felix("node.node-1", "failsafeInboundHostPorts: [{port: 22, net: 198.51.100.0/24}]");
    let other = felix("node.node-2", "failsafeInboundHostPorts: []");
    let text = host(NODE, "") + &default;
    check(
        &text,
        "eth0",
        Ingress,
        &[(ssh, "no profile deny"), ("1.2.3.4 192.0.2.1 udp 4000", "failsafe allow")],
    );
    // What a configuration does not have stays as it was.
    check(&text, "eth0", Egress, &[(dns, "failsafe allow")]);
    let cases = [
        (ssh, "failsafe allow"),
        ("203.0.113.9 192.0.2.1 tcp 22", "no profile deny"),
        ("2001:db8::9 2001:db8::1 tcp 22", "no profile deny"),
        ("1.2.3.4 192.0.2.1 udp 4000", "no profile deny"),
    ];
    check(&(text.clone() + &node + &other), "eth0", Ingress, &cases);
    check(&(text + &other), "eth0", Ingress, &[(ssh, "no profile deny")]);
    check(&(host(NODE, "") + NO_FAILSAFES), "eth0", Ingress, &[(ssh, "no profile deny")]);
}

#[test]
fn failsafe_decisions_name_the_configuration_and_its_line() {
    let felix = object(
        "FelixConfiguration",
        "name: default",
        "failsafeInboundHostPorts: [{port: 22},\n  {port: 23}]",
    );
    let ir = resolve(&read(&(host(NODE, "") + &felix)).0, "eth0", Ingress);
    let outcome = ir::evaluate(&ir, &flow("1.2.3.4 192.0.2.1 tcp 23"));
    let decision = &ir.decisions[outcome.decision];
    assert_eq!(decision.kind, DecisionKind::Failsafe);
    assert_eq!((decision.object.as_str(), decision.name.as_str()), ("FelixConfiguration", "default"));
    assert_eq!((decision.rule, decision.at.map(|at| at.line)), (Some(1), Some(11)));
}

#[test]
fn normal_policy_decides_about_a_hosts_own_traffic() {
    let text = host(NODE, ", profiles: [projectcalico-default-allow]")
        + &global("p", "selector: role == 'node', ingress: [{action: Allow, source: {nets: [10.0.0.0/8]}}]");
    check(
        &text,
        "eth0",
        Ingress,
        &[("10.1.2.3 192.0.2.1 tcp 80", "p[0] allow"), (IN_80, "tier default deny")],
    );
    check(&text, "eth0", Egress, &[(OUT_80, "projectcalico-default-allow allow")]);
}

#[test]
fn apply_on_forward_alone_changes_nothing() {
    let of = |more: &str| {
        host(NODE, "") + &global("p", &format!("selector: all(), ingress: [{{action: Allow}}]{more}"))
    };
    for text in [of(""), of(", applyOnForward: true")] {
        check(&text, "eth0", Ingress, &[(IN_80, "p[0] allow")]);
        check(&text, "eth0", Egress, &[(OUT_80, "no profile deny")]);
    }
    let (_, codes) = read(&of(", applyOnForward: true"));
    assert_eq!(codes, ["P0623"]);
}

/// An untracked or pre-DNAT policy with one ingress rule.
fn staged(name: &str, flag: &str, rule: &str) -> String {
    let spec = format!("selector: all(), {flag}: true, applyOnForward: true, ingress: [{{{rule}}}]");
    global(name, &spec)
}

#[test]
fn untracked_comes_before_pre_dnat_before_normal_policy() {
    let rule = |action: &str, port: u16| {
        format!("action: {action}, protocol: TCP, destination: {{ports: ['1:{port}']}}")
    };
    let text = host(NODE, "")
        + &global("n", "order: -9, selector: all(), ingress: [{action: Allow}]")
        + &staged("pre", "preDNAT", &rule("Deny", 20))
        + &staged("raw", "doNotTrack", &rule("Deny", 10));
    check(
        &text,
        "eth0",
        Ingress,
        &[
            ("1.2.3.4 192.0.2.1 tcp 10", "raw[0] deny"),
            ("1.2.3.4 192.0.2.1 tcp 20", "pre[0] deny"),
            ("1.2.3.4 192.0.2.1 tcp 21", "n[0] allow"),
            ("1.2.3.4 192.0.2.1 tcp 22", "failsafe allow"),
        ],
    );
    let ir = resolve(&read(&text).0, "eth0", Ingress);
    let chains: Vec<&str> = ir.order.iter().map(|c| ir.chains[*c].name.as_str()).collect();
    assert_eq!(chains, ["failsafe", "default (untracked)", "default (pre-DNAT)", "default", "profiles"]);
}

#[test]
fn what_untracked_or_pre_dnat_policy_allows_passes_for_good() {
    for flag in ["doNotTrack", "preDNAT"] {
        let text = host(NODE, "")
            + &global("n", "order: -9, selector: all(), ingress: [{action: Deny}]")
            + &staged("early", flag, "action: Allow, protocol: TCP");
        let cases = [(IN_80, "early[0] allow"), ("1.2.3.4 192.0.2.1 udp 80", "n[0] deny")];
        check(&text, "eth0", Ingress, &cases);
    }
}

#[test]
fn the_end_of_an_untracked_or_pre_dnat_tier_passes_on() {
    for flag in ["doNotTrack", "preDNAT"] {
        let text = host(NODE, ", profiles: [projectcalico-default-allow]")
            + &staged("early", flag, "action: Deny, protocol: UDP");
        check(&text, "eth0", Ingress, &[(IN_80, "projectcalico-default-allow allow")]);
        let (text, chain) = (host(NODE, "") + &staged("early", flag, "action: Pass"), IN_80);
        check(&text, "eth0", Ingress, &[(chain, "no profile deny")]);
    }
}

#[test]
fn replies_of_failsafe_ports_skip_untracked_policy() {
    let text = host(NODE, ", profiles: [projectcalico-default-allow]")
        + &staged("raw", "doNotTrack", "action: Deny");
    check(
        &text,
        "eth0",
        Ingress,
        &[
            ("1.2.3.4 192.0.2.1 udp 53>40000", "projectcalico-default-allow allow"),
            ("1.2.3.4 192.0.2.1 udp 54>40000", "raw[0] deny"),
            ("1.2.3.4 192.0.2.1 tcp 53>40000", "raw[0] deny"),
        ],
    );
}

#[test]
fn untracked_policy_alone_lets_pass_what_it_says_nothing_about() {
    let text = host(NODE, "")
        + &global("n", "order: -9, selector: all(), ingress: [{action: Deny}]")
        + &staged("raw", "doNotTrack", "action: Deny, protocol: UDP");
    let (cluster, _) = read(&text);
    let endpoint = cluster.endpoint_by_path("eth0").unwrap();
    assert!(cluster.resolve_untracked(endpoint, Egress).is_none());
    let (ir, others) = cluster.resolve_untracked(endpoint, Ingress).unwrap();
    ir::verify(&ir).unwrap();
    assert_eq!(decide(&ir, "1.2.3.4 192.0.2.1 udp 80"), "raw[0] deny");
    let outcome = ir::evaluate(&ir, &flow("1.2.3.4 192.0.2.1 tcp 80"));
    assert_eq!((outcome.verdict, outcome.decision), (ir::Verdict::Allow, others));
    for level in [0, 1, 2] {
        let options = CompileOptions { level, ..CompileOptions::default() };
        let image = compile(ir.clone(), &options).unwrap();
        assert!(image.decisions.len() > others.as_u32() as usize);
        assert!(crate::image::for_xdp(&image).is_ok(), "every exit of it drops");
    }
}

#[test]
fn untracked_and_pre_dnat_policy_neither_decides_about_a_pod_nor_isolates_it() {
    for flag in ["doNotTrack", "preDNAT"] {
        let text = pod("web", "{}", "10.0.0.1") + &staged("early", flag, "action: Deny") + &host(NODE, "");
        check(&text, "prod/web", Ingress, &[("1.2.3.4 10.0.0.1 tcp 80", "kns.prod allow")]);
        // Without a host endpoint there is nothing that it could act on.
        let (_, codes) = read(&(pod("web", "{}", "10.0.0.1") + &staged("early", flag, "action: Deny")));
        assert_eq!(codes, ["P0602"]);
    }
}

#[test]
fn a_policy_for_hosts_alone_ends_without_profile() {
    let (cluster, _) = read(&staged("raw", "doNotTrack", "action: Allow, protocol: TCP"));
    let policy = cluster.policies().keys().next().unwrap();
    assert_eq!(cluster.policies()[policy].stage, Stage::Untracked);
    let ir = cluster.resolve_policy(policy, Ingress).unwrap();
    ir::verify(&ir).unwrap();
    assert_eq!(decide(&ir, IN_80), "raw[0] allow");
    assert_eq!(decide(&ir, "1.2.3.4 192.0.2.1 udp 80"), "no profile deny");
    assert!(cluster.resolve_policy(policy, Egress).is_none());
}
