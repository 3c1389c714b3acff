use super::*;

const WEB: &str = "prod/web";
const DENIED: &str = "tier default deny";

fn ingress(path: &str, rules: Vec<KubernetesRule>) -> World {
    World::shop().kubernetes(KubernetesPolicy { ingress: rules, ..kubernetes(path) })
}

#[test]
fn policy_types_default_to_ingress_and_egress_if_there_is_an_egress_rule() {
    let any = || vec![kubernetes_rule(vec![], vec![])];
    let cases = [
        (None, vec![], true, false),
        (None, any(), true, true),
        (Some(vec![Egress]), vec![], false, true),
        (Some(vec![Ingress]), any(), true, false),
    ];
    for (policy_types, egress, governs_ingress, governs_egress) in cases {
        let policy = KubernetesPolicy { policy_types, egress, ..kubernetes("prod/p") };
        let cluster = World::shop().kubernetes(policy).cluster().0;
        let policy = cluster.policies().values().next().unwrap();
        assert_eq!((policy.governs(Ingress), policy.governs(Egress)), (governs_ingress, governs_egress));
    }
}

#[test]
fn rules_of_an_unlisted_direction_do_not_even_isolate() {
    let policy = KubernetesPolicy {
        policy_types: Some(vec![Ingress]),
        egress: vec![kubernetes_rule(vec![], vec![])],
        ..kubernetes("prod/p")
    };
    let world = World::shop().kubernetes(policy);
    assert_eq!(world.decide(WEB, Egress, "10.0.0.1 192.0.2.1 tcp 80"), "kns.prod allow");
    assert_eq!(world.diagnostics(), [("P0603", Some(1))]);
}

#[test]
fn policies_add_up() {
    let allow = |path: &str, port| KubernetesPolicy {
        ingress: vec![kubernetes_rule(vec![], vec![kubernetes_port(port)])],
        ..kubernetes(path)
    };
    let world = World::shop().kubernetes(allow("prod/a", "tcp/80")).kubernetes(allow("prod/b", "tcp/81"));
    world.check(
        WEB,
        Ingress,
        &[
            ("192.0.2.1 10.0.0.1 tcp 80", "a[0] allow"),
            ("192.0.2.1 10.0.0.1 tcp 81", "b[0] allow"),
            ("192.0.2.1 10.0.0.1 tcp 82", DENIED),
        ],
    );
}

#[test]
fn missing_peers_and_ports_match_everything() {
    ingress("prod/p", vec![kubernetes_rule(vec![], vec![])]).check(
        WEB,
        Ingress,
        &[("192.0.2.1 10.0.0.1 tcp 80", "p[0] allow"), ("fd99::1 fd00::1 icmp6 128/0", "p[0] allow")],
    );
}

#[test]
fn a_rule_with_any_port_never_matches_icmp() {
    ingress("prod/p", vec![kubernetes_rule(vec![], vec![kubernetes_port("tcp")])]).check(
        WEB,
        Ingress,
        &[("192.0.2.1 10.0.0.1 icmp 8/0", DENIED), ("192.0.2.1 10.0.0.1 tcp 1", "p[0] allow")],
    );
}

#[test]
fn ports_are_by_protocol_and_end_port_is_inclusive() {
    let ports = ["tcp/80", "udp/53", "tcp/65000:65535", "sctp"].map(kubernetes_port).to_vec();
    ingress("prod/p", vec![kubernetes_rule(vec![], ports)]).check(
        WEB,
        Ingress,
        &[
            ("192.0.2.1 10.0.0.1 tcp 80", "p[0] allow"),
            ("192.0.2.1 10.0.0.1 udp 80", DENIED),
            ("192.0.2.1 10.0.0.1 udp 53", "p[0] allow"),
            ("192.0.2.1 10.0.0.1 tcp 64999", DENIED),
            ("192.0.2.1 10.0.0.1 tcp 65000", "p[0] allow"),
            ("192.0.2.1 10.0.0.1 tcp 65535", "p[0] allow"),
            ("192.0.2.1 10.0.0.1 sctp 9", "p[0] allow"),
        ],
    );
}

#[test]
fn an_entry_with_only_a_protocol_means_all_its_ports() {
    let ports = ["tcp/80", "tcp"].map(kubernetes_port).to_vec();
    ingress("prod/p", vec![kubernetes_rule(vec![], ports)]).check(
        WEB,
        Ingress,
        &[("192.0.2.1 10.0.0.1 tcp 9", "p[0] allow"), ("192.0.2.1 10.0.0.1 udp 80", DENIED)],
    );
}

#[test]
fn a_rule_with_an_impossible_port_is_dropped_alone() {
    // Reading gives such a port the empty name, which no pod can give a port.
    let impossible = KubernetesPort { port: Some(PortSpec::Name(String::new())), ..kubernetes_port("tcp") };
    let bad = kubernetes_rule(vec![], vec![impossible]);
    let good = kubernetes_rule(vec![], vec![kubernetes_port("tcp/81")]);
    let unnamed = NamedPort { name: String::new(), protocol: 6, port: 80 };
    let world =
        ingress("prod/p", vec![bad, good]).pod(Pod { ports: vec![unnamed], ..pod("prod/x", "", "10.0.0.9") });
    world.check(
        "prod/x",
        Ingress,
        &[("192.0.2.1 10.0.0.9 tcp 80", DENIED), ("192.0.2.1 10.0.0.9 tcp 81", "p[1] allow")],
    );
}

#[test]
fn selectors_in_one_peer_are_anded_and_peers_are_ored() {
    let one = vec![peer(Some("app=db"), Some("env=dev"))];
    ingress("prod/p", vec![kubernetes_rule(one, vec![])]).check(
        WEB,
        Ingress,
        &[
            ("10.1.0.2 10.0.0.1 tcp 80", "p[0] allow"),
            ("10.1.0.1 10.0.0.1 tcp 80", DENIED),
            ("10.0.0.2 10.0.0.1 tcp 80", DENIED),
        ],
    );
    let two = vec![peer(Some("app=db"), None), peer(None, Some("env=dev"))];
    ingress("prod/p", vec![kubernetes_rule(two, vec![])]).check(
        WEB,
        Ingress,
        &[
            ("10.1.0.2 10.0.0.1 tcp 80", "p[0] allow"),
            ("10.1.0.1 10.0.0.1 tcp 80", "p[0] allow"),
            ("10.0.0.2 10.0.0.1 tcp 80", "p[0] allow"),
            ("10.0.0.1 10.0.0.1 tcp 80", DENIED),
        ],
    );
}

#[test]
fn an_empty_pod_selector_is_every_pod_of_the_namespace() {
    ingress("prod/p", vec![kubernetes_rule(vec![peer(Some(""), None)], vec![])]).check(
        WEB,
        Ingress,
        &[
            ("10.0.0.2 10.0.0.1 tcp 80", "p[0] allow"),
            ("10.1.0.2 10.0.0.1 tcp 80", DENIED),
            ("192.0.2.1 10.0.0.1 tcp 80", DENIED),
        ],
    );
}

#[test]
fn an_empty_namespace_selector_is_every_pod_of_the_cluster() {
    let rules = vec![kubernetes_rule(vec![peer(None, Some(""))], vec![])];
    let host = Pod { host_network: true, ..pod("prod/host", "", "10.9.9.9") };
    ingress("prod/p", rules).pod(host).check(
        WEB,
        Ingress,
        &[
            ("10.1.0.2 10.0.0.1 tcp 80", "p[0] allow"),
            ("192.0.2.1 10.0.0.1 tcp 80", DENIED),
            ("10.9.9.9 10.0.0.1 tcp 80", DENIED),
        ],
    );
}

#[test]
fn a_pod_selector_never_matches_a_network_set() {
    let rules = vec![kubernetes_rule(vec![peer(Some("app=db"), None), peer(None, Some(""))], vec![])];
    let world = ingress("prod/p", rules)
        .set("prod/s", "app=db projectcalico.org/orchestrator=k8s", "192.0.2.0/24")
        .set("g", "app=db", "198.51.100.0/24");
    world.check(
        WEB,
        Ingress,
        &[("192.0.2.1 10.0.0.1 tcp 80", DENIED), ("198.51.100.1 10.0.0.1 tcp 80", DENIED)],
    );
}

#[test]
fn not_in_and_does_not_exist_are_true_for_a_missing_key() {
    let expression = |operator, values: &[&str]| LabelSelector {
        match_labels: Labels::new(),
        match_expressions: vec![LabelExpression {
            key: "app".into(),
            operator,
            values: values.iter().map(|v| (*v).into()).collect(),
        }],
    };
    let cases = [
        (LabelOperator::In, vec!["db"], "10.0.0.2"),
        (LabelOperator::NotIn, vec!["db"], "10.0.0.1 10.0.0.9"),
        (LabelOperator::Exists, vec![], "10.0.0.1 10.0.0.2"),
        (LabelOperator::DoesNotExist, vec![], "10.0.0.9"),
    ];
    for (operator, values, want) in cases {
        let pods = Some(expression(operator, &values));
        let peer = KubernetesPeer::Pods { pod_selector: pods, namespace_selector: None, span: span() };
        let world = ingress("prod/p", vec![kubernetes_rule(vec![peer], vec![])]);
        let world = world.pod(pod("prod/bare", "", "10.0.0.9"));
        for source in ["10.0.0.1", "10.0.0.2", "10.0.0.9"] {
            let flow = format!("{source} 10.0.0.1 tcp 80");
            let want = if want.contains(source) { "p[0] allow" } else { DENIED };
            assert_eq!(world.decide(WEB, Ingress, &flow), want, "{operator:?} {source}");
        }
    }
}

#[test]
fn an_ip_block_matches_pods_by_address_and_except_cuts_its_own_block_only() {
    let peers = vec![ip_block("10.0.0.0/8", "10.1.0.0/16"), ip_block("10.1.0.1/32", "")];
    ingress("prod/p", vec![kubernetes_rule(peers, vec![])]).check(
        WEB,
        Ingress,
        &[
            ("10.0.0.2 10.0.0.1 tcp 80", "p[0] allow"),
            ("10.1.0.1 10.0.0.1 tcp 80", "p[0] allow"),
            ("10.1.0.2 10.0.0.1 tcp 80", DENIED),
            ("fd00::2 fd00::1 tcp 80", DENIED),
        ],
    );
}

#[test]
fn a_named_port_is_looked_up_on_each_destination() {
    let with =
        |path: &str, ip: &str, ports: &str| Pod { ports: named_ports(ports), ..pod(path, "role=server", ip) };
    let world = || {
        World::shop().pod(with("prod/s1", "10.0.1.1", "http=tcp/80")).pod(with(
            "prod/s2",
            "10.0.1.2",
            "http=tcp/8080 http=udp/9",
        ))
    };
    let ports = || vec![kubernetes_port("tcp/http")];
    let out = KubernetesPolicy {
        egress: vec![kubernetes_rule(vec![peer(Some("role=server"), None)], ports())],
        ..kubernetes("prod/p")
    };
    world().kubernetes(out).check(
        WEB,
        Egress,
        &[
            ("10.0.0.1 10.0.1.1 tcp 80", "p[0] allow"),
            ("10.0.0.1 10.0.1.2 tcp 8080", "p[0] allow"),
            ("10.0.0.1 10.0.1.2 tcp 80", DENIED),
            ("10.0.0.1 10.0.1.2 udp 9", DENIED),
        ],
    );
    let into = KubernetesPolicy { ingress: vec![kubernetes_rule(vec![], ports())], ..kubernetes("prod/p") };
    world().kubernetes(into).check(
        "prod/s2",
        Ingress,
        &[("10.0.0.1 10.0.1.2 tcp 8080", "p[0] allow"), ("10.0.0.1 10.0.1.2 tcp 80", DENIED)],
    );
}

#[test]
fn a_policy_selects_pods_of_its_namespace_by_their_labels() {
    let policy = KubernetesPolicy { pod_selector: match_labels("app=web"), ..kubernetes("prod/p") };
    let world = World::shop().kubernetes(policy);
    let flow = "192.0.2.1 192.0.2.2 tcp 80";
    assert_eq!(world.decide(WEB, Ingress, flow), DENIED);
    assert_eq!(world.decide("prod/db", Ingress, flow), "kns.prod allow");
    assert_eq!(world.decide("dev/web", Ingress, flow), "kns.dev allow");
}
