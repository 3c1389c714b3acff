use super::*;

fn side(selector: &str) -> EntityRule {
    EntityRule { selector: sel(selector), ..Default::default() }
}

/// Names of the sets of an ingress rule with this source: those it must be in,
/// then, after `!`, those it must not be in.
fn source_sets(path: &str, source: EntityRule) -> Vec<String> {
    let cluster = World::new().ingress(path, from(source)).cluster().0;
    let policy = cluster.policies().values().next().unwrap();
    let side = &policy.rules(Ingress).unwrap()[0].matches.src;
    let name = |set: &AddrSet| cluster.sets[*set].name.clone();
    side.in_sets.iter().map(name).chain(side.not_in.iter().map(|s| format!("!{}", name(s)))).collect()
}

#[test]
fn a_namespaced_rule_side_is_limited_to_its_namespace_by_any_selector() {
    let accounts = |names: &[&str], selector: Option<&str>| {
        Some(spanned(ServiceAccountMatch {
            names: names.iter().map(|n| (*n).into()).collect(),
            selector: selector.and_then(sel),
        }))
    };
    let own = "projectcalico.org/namespace == 'prod'";
    let cases = [
        (side("a == 'b'"), vec![format!("{own} && a == 'b'")]),
        (side("all()"), vec![own.to_owned()]),
        (EntityRule { not_selector: sel("has(x)"), ..Default::default() }, vec![format!("{own} && !has(x)")]),
        (
            EntityRule { service_accounts: accounts(&["b", "a"], None), ..Default::default() },
            vec![format!("{own} && projectcalico.org/serviceaccount in {{'a', 'b'}}")],
        ),
        (
            EntityRule { service_accounts: accounts(&["a"], Some("t == 'x'")), ..side("c == 'd'") },
            vec![format!(
                "{own} && pcsa.t == 'x' && projectcalico.org/serviceaccount in {{'a'}} && c == 'd'"
            )],
        ),
        // Nets and ports alone do not limit, nor do service accounts that ask for nothing.
        (EntityRule { service_accounts: accounts(&[], None), ..Default::default() }, vec![]),
        (EntityRule { nets: nets("10.0.0.0/8"), ..Default::default() }, vec!["10.0.0.0/8".to_owned()]),
        (EntityRule { ports: ports("80"), ..Default::default() }, vec![]),
    ];
    for (source, want) in cases {
        assert_eq!(source_sets("prod/p", source.clone()), want, "{source:?}");
    }
}

#[test]
fn a_global_rule_side_is_not_limited() {
    assert_eq!(source_sets("p", side("a == 'b'")), ["a == 'b'"]);
    assert_eq!(source_sets("p", side("all()")), ["all()"]);
    let not = EntityRule { not_selector: sel("has(x)"), ..Default::default() };
    assert_eq!(source_sets("p", not), ["!has(x)"]);
}

#[test]
fn a_namespace_selector_is_rewritten() {
    let cases = [
        ("global()", "!has(projectcalico.org/namespace)"),
        ("all()", "has(projectcalico.org/namespace)"),
        ("!all()", "!has(projectcalico.org/namespace)"),
        ("env == 'prod'", "pcns.env == 'prod'"),
        ("env == 'prod' || global()", "pcns.env == 'prod' || !has(projectcalico.org/namespace)"),
    ];
    for (text, want) in cases {
        let source = EntityRule { namespace_selector: sel(text), ..Default::default() };
        for path in ["p", "prod/p"] {
            assert_eq!(source_sets(path, source.clone()), [want], "{path} {text}");
        }
        let both = EntityRule { namespace_selector: sel(text), ..side("a == 'b'") };
        let want = if want.contains("||") { format!("({want})") } else { want.into() };
        assert_eq!(source_sets("prod/p", both), [format!("{want} && a == 'b'")]);
    }
}

#[test]
fn selector_and_not_selector_make_one_set() {
    let both = EntityRule { not_selector: sel("b == 'c' || has(d)"), ..side("has(a)") };
    assert_eq!(source_sets("p", both), ["has(a) && !(b == 'c' || has(d))"]);
    let namespaces = EntityRule {
        namespace_selector: sel("env == 'x'"),
        not_selector: sel("has(a)"),
        ..Default::default()
    };
    assert_eq!(source_sets("p", namespaces), ["pcns.env == 'x' && !has(a)"]);
}

#[test]
fn the_negation_filters_endpoints_and_sets_and_not_packets() {
    // 10.0.0.1 is in two sets: the pod, which the negation takes out, and s, which stays.
    let source = EntityRule { not_selector: sel("app == 'web'"), ..side("all()") };
    let world = World::shop().set("prod/s", "", "10.0.0.0/24").ingress("prod/p", from(source));
    world.check(
        "prod/db",
        Ingress,
        &[
            ("10.0.0.1 10.0.0.2 tcp 80", "p[0] allow"),
            ("fd00::1 fd00::2 tcp 80", "tier default deny"),
            ("fd00::2 fd00::2 tcp 80", "p[0] allow"),
        ],
    );
}

#[test]
fn a_selector_matches_known_endpoints_and_sets_only() {
    for text in ["app != 'web'", "app not in {'web'}", "!has(nothing)", "!(app == 'web')"] {
        let world = World::shop().set("g", "", "192.0.2.0/24").ingress("p", from(side(text)));
        world.check(
            "prod/web",
            Ingress,
            &[
                ("10.0.0.2 10.0.0.1 tcp 80", "p[0] allow"),
                ("192.0.2.7 10.0.0.1 tcp 80", "p[0] allow"),
                ("198.51.100.7 10.0.0.1 tcp 80", "tier default deny"),
            ],
        );
    }
}

#[test]
fn a_negative_namespace_selector_matches_global_sets_too() {
    let source = EntityRule { namespace_selector: sel("env != 'prod'"), ..Default::default() };
    let world = World::shop().set("g", "", "192.0.2.0/24").ingress("p", from(source));
    world.check(
        "prod/web",
        Ingress,
        &[
            ("192.0.2.7 10.0.0.1 tcp 80", "p[0] allow"),
            ("10.1.0.1 10.0.0.1 tcp 80", "p[0] allow"),
            ("10.0.0.2 10.0.0.1 tcp 80", "tier default deny"),
        ],
    );
}

#[test]
fn not_selector_alone_matches_unknown_addresses_too() {
    let source = EntityRule { not_selector: sel("app == 'web'"), ..Default::default() };
    let world = World::shop().ingress("p", from(source));
    world.check(
        "prod/db",
        Ingress,
        &[
            ("198.51.100.7 10.0.0.2 tcp 80", "p[0] allow"),
            ("10.0.0.2 10.0.0.2 tcp 80", "p[0] allow"),
            ("10.0.0.1 10.0.0.2 tcp 80", "tier default deny"),
        ],
    );
}

#[test]
fn a_global_policys_namespace_selector_gives_all_a_new_meaning() {
    let cases = [
        (None, None, None, "all()"),
        (Some("all()"), None, None, "all()"),
        (Some("a == 'b'"), None, None, "a == 'b'"),
        (None, Some("all()"), None, "has(projectcalico.org/namespace)"),
        (None, Some("env == 'x'"), None, "pcns.env == 'x'"),
        (
            Some("all() || has(a)"),
            Some("has(e)"),
            None,
            "(has(projectcalico.org/namespace) || has(a)) && has(pcns.e)",
        ),
        (Some("all()"), None, Some("all()"), "has(projectcalico.org/serviceaccount)"),
        (Some("all()"), Some("all()"), Some("t == 'x'"), "has(projectcalico.org/namespace) && pcsa.t == 'x'"),
    ];
    for (selector, namespaces, accounts, want) in cases {
        let world = World::new().calico(CalicoPolicy {
            selector: selector.and_then(sel),
            namespace_selector: namespaces.and_then(sel),
            service_account_selector: accounts.and_then(sel),
            ..calico("p")
        });
        let cluster = world.cluster().0;
        assert_eq!(cluster.policies().values().next().unwrap().selector.to_string(), want);
    }
}

#[test]
fn a_namespaced_policy_selects_in_its_namespace_only() {
    let world = World::shop().calico(CalicoPolicy { selector: sel("app == 'web'"), ..calico("prod/p") });
    let flow = "192.0.2.1 192.0.2.2 tcp 80";
    assert_eq!(world.decide("prod/web", Ingress, flow), "tier default deny");
    assert_eq!(world.decide("prod/db", Ingress, flow), "kns.prod allow");
    assert_eq!(world.decide("dev/web", Ingress, flow), "kns.dev allow");
}

#[test]
fn a_policys_service_account_selector_selects_by_account() {
    let robot = Pod { service_account: Some("robot".into()), ..pod("prod/robot", "", "10.0.0.9") };
    let world = World::shop()
        .account("prod/robot", "team=red")
        .pod(robot)
        .calico(CalicoPolicy { service_account_selector: sel("team == 'red'"), ..calico("prod/p") });
    let flow = "192.0.2.1 192.0.2.2 tcp 80";
    assert_eq!(world.decide("prod/robot", Ingress, flow), "tier default deny");
    assert_eq!(world.decide("prod/web", Ingress, flow), "kns.prod allow");
}
