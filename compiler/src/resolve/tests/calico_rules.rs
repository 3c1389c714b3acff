use super::*;

const WEB: &str = "prod/web";

#[test]
fn criteria_are_anded_and_lists_are_ored() {
    let source = EntityRule {
        selector: sel("app == 'db'"),
        nets: nets("10.0.0.0/24 10.1.0.0/24"),
        not_nets: nets("10.1.0.0/30"),
        ..Default::default()
    };
    let rule = CalicoRule {
        protocol: protocol("tcp"),
        destination: EntityRule { ports: ports("80 443 8000:8001"), ..Default::default() },
        ..from(source)
    };
    World::shop().ingress("p", rule).check(
        WEB,
        Ingress,
        &[
            ("10.0.0.2 10.0.0.1 tcp 80", "p[0] allow"),
            ("10.0.0.2 10.0.0.1 tcp 8001", "p[0] allow"),
            ("10.0.0.2 10.0.0.1 tcp 8002", "tier default deny"),
            ("10.0.0.2 10.0.0.1 udp 80", "tier default deny"),
            ("10.0.0.1 10.0.0.1 tcp 80", "tier default deny"),
            ("10.1.0.2 10.0.0.1 tcp 80", "tier default deny"),
        ],
    );
}

#[test]
fn both_sides_are_matched() {
    let rule = CalicoRule {
        source: EntityRule { selector: sel("app == 'db'"), ..Default::default() },
        ..to(EntityRule { selector: sel("app == 'web'"), ..Default::default() })
    };
    let world = World::shop().ingress("p", rule);
    let flow = "10.0.0.2 10.0.0.1 tcp 80";
    assert_eq!(world.decide(WEB, Ingress, flow), "p[0] allow");
    // On ingress the destination is the local endpoint, here a db.
    assert_eq!(world.decide("prod/db", Ingress, "10.0.0.2 10.0.0.2 tcp 80"), "tier default deny");
}

#[test]
fn source_ports_are_independent_of_destination_ports() {
    let rule = CalicoRule {
        protocol: protocol("udp"),
        source: EntityRule { ports: ports("53"), ..Default::default() },
        ..to(EntityRule { not_ports: ports("1:1023"), ..Default::default() })
    };
    World::shop().ingress("p", rule).check(
        WEB,
        Ingress,
        &[
            ("10.0.0.2 10.0.0.1 udp 53>2000", "p[0] allow"),
            ("10.0.0.2 10.0.0.1 udp 2000>53", "tier default deny"),
            ("10.0.0.2 10.0.0.1 udp 53>1023", "tier default deny"),
        ],
    );
}

#[test]
fn a_ports_criterion_is_false_and_not_ports_true_without_ports() {
    let with = EntityRule { ports: ports("1:65535"), ..Default::default() };
    World::shop().ingress("p", to(with)).check(
        WEB,
        Ingress,
        &[("10.0.0.2 10.0.0.1 47", "tier default deny"), ("10.0.0.2 10.0.0.1 icmp 8/0", "tier default deny")],
    );
    let without = EntityRule { not_ports: ports("1:65535"), ..Default::default() };
    World::shop().ingress("p", to(without)).check(
        WEB,
        Ingress,
        &[("10.0.0.2 10.0.0.1 47", "p[0] allow"), ("10.0.0.2 10.0.0.1 tcp 1", "tier default deny")],
    );
}

#[test]
fn icmp_matches_the_type_and_the_code_if_given() {
    let cases = [
        (icmp(8, None), vec![("8/0", true), ("8/3", true), ("0/0", false)]),
        (icmp(3, Some(4)), vec![("3/4", true), ("3/3", false)]),
    ];
    for (icmp, flows) in cases {
        let rule = CalicoRule { protocol: protocol("icmp"), icmp, ..rule(Action::Allow) };
        let world = World::shop().ingress("p", rule);
        for (detail, want) in flows {
            let flow = format!("10.0.0.2 10.0.0.1 icmp {detail}");
            let want = if want { "p[0] allow" } else { "tier default deny" };
            assert_eq!(world.decide(WEB, Ingress, &flow), want, "{flow}");
        }
    }
}

#[test]
fn not_icmp_negates_the_pair_and_needs_no_protocol() {
    let rule = CalicoRule { not_icmp: icmp(3, Some(4)), ..rule(Action::Allow) };
    World::shop().ingress("p", rule).check(
        WEB,
        Ingress,
        &[
            ("10.0.0.2 10.0.0.1 icmp 3/4", "tier default deny"),
            ("10.0.0.2 10.0.0.1 icmp 3/3", "p[0] allow"),
            ("10.0.0.2 10.0.0.1 tcp 80", "p[0] allow"),
        ],
    );
}

#[test]
fn not_protocol_is_a_plain_negation() {
    let rule = CalicoRule { not_protocol: protocol("icmp"), ..rule(Action::Allow) };
    World::shop().ingress("p", rule).check(
        WEB,
        Ingress,
        &[
            ("10.0.0.2 10.0.0.1 icmp 8/0", "tier default deny"),
            ("10.0.0.2 10.0.0.1 tcp 80", "p[0] allow"),
            ("fd00::2 fd00::1 tcp 80", "p[0] allow"),
        ],
    );
}

#[test]
fn log_continues_with_the_next_rule_and_pass_leaves_the_tier() {
    let rules = vec![rule(Action::Log), rule(Action::Pass), rule(Action::Deny)];
    let world = World::shop().calico(CalicoPolicy { ingress: Some(rules), ..calico("p") });
    world.check(WEB, Ingress, &[("10.0.0.2 10.0.0.1 tcp 80", "p[0] log, kns.prod allow")]);
}

#[test]
fn a_policy_with_only_log_rules_isolates() {
    let world = World::shop().ingress("p", rule(Action::Log));
    world.check(WEB, Ingress, &[("10.0.0.2 10.0.0.1 tcp 80", "p[0] log, tier default deny")]);
}

#[test]
fn types_default_to_what_there_are_rules_for() {
    let list = |present: bool| present.then(|| vec![rule(Action::Allow)]);
    let cases = [
        (list(false), list(false), true, false),
        (list(true), list(false), true, false),
        (list(false), list(true), false, true),
        (list(true), list(true), true, true),
        (Some(vec![]), Some(vec![]), true, false),
    ];
    for (ingress, egress, governs_ingress, governs_egress) in cases {
        let world = World::new().calico(CalicoPolicy { ingress, egress, ..calico("p") });
        let cluster = world.cluster().0;
        let policy = cluster.policies().values().next().unwrap();
        assert_eq!((policy.governs(Ingress), policy.governs(Egress)), (governs_ingress, governs_egress));
    }
}

#[test]
fn types_as_written_beat_the_rules() {
    let mut out = rule(Action::Allow);
    out.span = at_line(5);
    let policy = CalicoPolicy { types: Some(vec![Ingress]), egress: Some(vec![out]), ..calico("p") };
    let world = World::shop().calico(policy);
    assert_eq!(world.decide(WEB, Egress, "10.0.0.1 10.0.0.2 tcp 80"), "kns.prod allow");
    assert_eq!(world.decide(WEB, Ingress, "10.0.0.2 10.0.0.1 tcp 80"), "tier default deny");
    assert_eq!(world.diagnostics(), [("P0603", Some(5))]);
}

#[test]
fn policies_for_host_endpoints_neither_decide_nor_isolate() {
    let ingress = || Some(vec![rule(Action::Deny)]);
    let untracked = CalicoPolicy { do_not_track: true, ingress: ingress(), ..calico("p") };
    let pre_dnat = CalicoPolicy { pre_dnat: true, ingress: ingress(), ..calico("p") };
    for policy in [untracked, pre_dnat] {
        let world = World::shop().calico(policy);
        assert_eq!(world.decide(WEB, Ingress, "10.0.0.2 10.0.0.1 tcp 80"), "kns.prod allow");
        assert_eq!(world.diagnostics(), [("P0602", Some(1))]);
    }
    let forward = CalicoPolicy { apply_on_forward: true, ingress: ingress(), ..calico("p") };
    let world = World::shop().calico(forward);
    assert_eq!(world.decide(WEB, Ingress, "10.0.0.2 10.0.0.1 tcp 80"), "p[0] deny");
    assert_eq!(world.diagnostics(), []);
}

#[test]
fn a_packet_to_oneself_is_evaluated_like_any_other() {
    let world = World::shop().calico(calico("prod/p"));
    assert_eq!(world.decide(WEB, Ingress, "10.0.0.1 10.0.0.1 tcp 80"), "tier default deny");
}
