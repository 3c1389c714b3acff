use super::*;

const DENIED: &str = "tier default deny";
const ALLOWED: &str = "p[0] allow";

/// Decisions for the same connection in IPv4 and IPv6.
fn both(rule: CalicoRule) -> (String, String) {
    let world = World::shop().ingress("p", rule);
    let decide = |flow| world.decide("prod/web", Ingress, flow);
    (decide("10.0.0.2 10.0.0.1 tcp 80"), decide("fd00::2 fd00::1 tcp 80"))
}

#[test]
fn a_rule_exists_only_for_the_families_that_its_lists_leave() {
    let side = |nets_text: &str, not: &str| EntityRule {
        nets: nets(nets_text),
        not_nets: nets(not),
        ..Default::default()
    };
    let cases = [
        (side("", ""), side("", ""), ALLOWED, ALLOWED),
        (side("10.0.0.0/8", ""), side("", ""), ALLOWED, DENIED),
        (side("10.0.0.0/8 fd00::/16", ""), side("", ""), ALLOWED, ALLOWED),
        (side("10.0.0.0/8 fd00::/16", ""), side("10.0.0.1/32", ""), ALLOWED, DENIED),
        (side("10.0.0.0/8", ""), side("fd00::/16", ""), DENIED, DENIED),
        (side("", "192.0.2.0/24"), side("", ""), ALLOWED, DENIED),
        (side("", "192.0.2.0/24"), side("", "fd99::/16"), DENIED, DENIED),
        (side("", "192.0.2.0/24 fd99::/16"), side("", ""), ALLOWED, ALLOWED),
        (side("0.0.0.0/0", ""), side("", ""), ALLOWED, DENIED),
        (side("::/0", ""), side("", ""), DENIED, ALLOWED),
    ];
    for (source, destination, v4, v6) in cases {
        let rule = CalicoRule { source, destination, ..rule(Action::Allow) };
        assert_eq!(both(rule.clone()), (v4.into(), v6.into()), "{rule:?}");
    }
}

#[test]
fn a_catch_all_in_not_nets_removes_the_rule_for_its_family() {
    let not = |text: &str| from(EntityRule { not_nets: nets(text), ..Default::default() });
    assert_eq!(both(not("0.0.0.0/0")), (DENIED.into(), DENIED.into()));
    assert_eq!(both(not("0.0.0.0/0 fd99::/16")), (DENIED.into(), ALLOWED.into()));
    assert_eq!(both(not("192.0.2.0/24 ::/0")), (ALLOWED.into(), DENIED.into()));
}

#[test]
fn ip_version_restricts_a_rule_even_without_addresses() {
    let rule = |version| CalicoRule { ip_version: Some(version), ..rule(Action::Allow) };
    assert_eq!(both(rule(Family::V4)), (ALLOWED.into(), DENIED.into()));
    assert_eq!(both(rule(Family::V6)), (DENIED.into(), ALLOWED.into()));
}

#[test]
fn protocol_names_imply_a_family_and_numbers_do_not() {
    let cases = [
        ("icmp", Some(Family::V4)),
        ("icmp6", Some(Family::V6)),
        ("1", None),
        ("58", None),
        ("tcp", None),
        ("6", None),
    ];
    for (text, want) in cases {
        let rule = CalicoRule { protocol: protocol(text), ..rule(Action::Allow) };
        let ir = World::shop().ingress("p", rule).ir("prod/web", Ingress);
        let matches = &ir.rules.values().next().unwrap().matches;
        assert_eq!((matches.family, matches.protocol), (want, Some(protocol_number(text))), "{text}");
    }
}

#[test]
fn an_icmp_type_is_read_only_where_protocol_and_family_agree() {
    let rule = |text, version| CalicoRule {
        protocol: protocol(text),
        ip_version: version,
        icmp: icmp(128, None),
        ..rule(Action::Allow)
    };
    let rules = |rule| World::shop().ingress("p", rule).ir("prod/web", Ingress).rules.len() - 1;
    assert_eq!(rules(rule("58", None)), 1);
    assert_eq!(rules(rule("58", Some(Family::V6))), 1);
    assert_eq!(rules(rule("58", Some(Family::V4))), 0);
    assert_eq!(rules(rule("1", Some(Family::V6))), 0);
}

#[test]
fn a_selector_set_serves_both_families() {
    let source = EntityRule { selector: sel("app == 'db'"), ..Default::default() };
    assert_eq!(both(from(source)), (ALLOWED.into(), ALLOWED.into()));
}

#[test]
fn cidrs_are_masked() {
    let source = EntityRule { nets: nets("10.0.0.77/24"), ..Default::default() };
    assert_eq!(both(from(source)).0, ALLOWED);
}
