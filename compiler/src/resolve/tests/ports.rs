use super::*;

/// Pods whose `http` is 80 (web), 8080 (api), UDP 80 (udp) and missing (none).
fn world() -> World {
    let with = |path: &str, labels: &str, ip: &str, ports: &str| Pod {
        ports: named_ports(ports),
        ..pod(path, labels, ip)
    };
    World::new()
        .pod(with("prod/web", "app=web", "10.0.0.1", "http=tcp/80 http=tcp/81 admin=tcp/9000"))
        .pod(with("prod/api", "app=api", "10.0.0.2", "http=tcp/8080"))
        .pod(with("prod/udp", "app=udp", "10.0.0.3", "http=udp/80"))
        .pod(with("prod/none", "app=none", "10.0.0.4", ""))
}

fn egress(rule: CalicoRule, cases: &[(&str, &str)]) {
    world().egress("p", rule).check("prod/none", Egress, cases);
}

#[test]
fn a_named_port_is_the_number_that_the_address_gives_it() {
    let rule = CalicoRule {
        protocol: protocol("tcp"),
        ..to(EntityRule { ports: ports("http 7000"), ..Default::default() })
    };
    egress(
        rule,
        &[
            ("10.0.0.4 10.0.0.1 tcp 80", "p[0] allow"),
            ("10.0.0.4 10.0.0.1 tcp 81", "p[0] allow"),
            ("10.0.0.4 10.0.0.1 tcp 8080", "tier default deny"),
            ("10.0.0.4 10.0.0.2 tcp 8080", "p[0] allow"),
            ("10.0.0.4 10.0.0.2 tcp 80", "tier default deny"),
            ("10.0.0.4 10.0.0.3 udp 80", "tier default deny"),
            ("10.0.0.4 10.0.0.3 tcp 80", "tier default deny"),
            // Numbers and names are ORed.
            ("10.0.0.4 10.0.0.4 tcp 7000", "p[0] allow"),
        ],
    );
}

#[test]
fn without_a_rule_protocol_any_declared_protocol_counts() {
    egress(
        to(EntityRule { ports: ports("http"), ..Default::default() }),
        &[
            ("10.0.0.4 10.0.0.1 tcp 80", "p[0] allow"),
            ("10.0.0.4 10.0.0.3 udp 80", "p[0] allow"),
            ("10.0.0.4 10.0.0.1 udp 80", "tier default deny"),
        ],
    );
}

#[test]
fn a_named_port_counts_for_endpoints_of_the_positive_selector_only() {
    let destination =
        EntityRule { selector: sel("app == 'api'"), ports: ports("http"), ..Default::default() };
    let rule = to(destination);
    egress(
        rule.clone(),
        &[("10.0.0.4 10.0.0.2 tcp 8080", "p[0] allow"), ("10.0.0.4 10.0.0.1 tcp 80", "tier default deny")],
    );
    // The shape does not follow the members: one alternative for each number known.
    let ir = world().egress("p", rule).ir("prod/none", Egress);
    let ports = ir.rules.values().next().unwrap().matches.dst.ports.clone().unwrap();
    let numbers: Vec<(u8, u16, usize)> = ports
        .iter()
        .map(|port| match port {
            ir::PortMatch::Named { protocol, port, set } => (*protocol, *port, ir.sets[*set].nets.len()),
            ir::PortMatch::Range(..) => unreachable!(),
        })
        .collect();
    assert_eq!(numbers, [(6, 80, 0), (6, 81, 0), (6, 8080, 1), (17, 80, 0)]);
}

#[test]
fn not_ports_with_a_name_excludes_only_those_triples() {
    let rule = CalicoRule {
        protocol: protocol("tcp"),
        ..to(EntityRule { not_ports: ports("http"), ..Default::default() })
    };
    egress(
        rule,
        &[
            ("10.0.0.4 10.0.0.1 tcp 80", "tier default deny"),
            ("10.0.0.4 10.0.0.1 tcp 8080", "p[0] allow"),
            ("10.0.0.4 10.0.0.2 tcp 80", "p[0] allow"),
            ("10.0.0.4 10.0.0.4 tcp 80", "p[0] allow"),
            ("10.0.0.4 192.0.2.1 tcp 80", "p[0] allow"),
        ],
    );
}

#[test]
fn a_name_that_nobody_declares_matches_nothing() {
    let destination = EntityRule { ports: ports("nobody"), ..Default::default() };
    egress(to(destination), &[("10.0.0.4 10.0.0.1 tcp 80", "tier default deny")]);
    let destination = EntityRule { not_ports: ports("nobody"), ..Default::default() };
    egress(to(destination), &[("10.0.0.4 10.0.0.1 tcp 80", "p[0] allow")]);
}

#[test]
fn a_name_that_nobody_declares_is_reported() {
    let list = ports("nobody http 80");
    let world =
        world().egress("p", to(EntityRule { ports: list.clone(), not_ports: list, ..Default::default() }));
    assert_eq!(world.diagnostics(), [("P0604", Some(1)), ("P0604", Some(1))]);
    let rules = ["tcp/nobody", "tcp/http"].map(|port| kubernetes_rule(vec![], vec![kubernetes_port(port)]));
    let policy = KubernetesPolicy { ingress: rules.to_vec(), ..kubernetes("prod/p") };
    assert_eq!(self::world().kubernetes(policy).diagnostics(), [("P0604", Some(1))]);
}

#[test]
fn sets_have_no_named_ports() {
    let destination = EntityRule { selector: sel("all()"), ports: ports("http"), ..Default::default() };
    let world = world().set("g", "", "192.0.2.0/24").egress("p", to(destination));
    world.check("prod/none", Egress, &[("10.0.0.4 192.0.2.1 tcp 80", "tier default deny")]);
}

#[test]
fn a_source_named_port_is_looked_up_on_the_source() {
    let rule = from(EntityRule { ports: ports("http"), ..Default::default() });
    world().ingress("p", rule).check(
        "prod/none",
        Ingress,
        &[
            ("10.0.0.1 10.0.0.4 tcp 80>1000", "p[0] allow"),
            ("10.0.0.1 10.0.0.4 tcp 1000>80", "tier default deny"),
        ],
    );
}
