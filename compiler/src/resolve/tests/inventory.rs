use super::*;

/// Whether `selector` matches each pod, asked through a rule of a global policy.
fn matched(world: World, selector: &str) -> Vec<String> {
    let entity = EntityRule { selector: sel(selector), ..Default::default() };
    let cluster = world.ingress("p", from(entity)).cluster().0;
    let (_, set) = cluster.sets.iter().next().unwrap();
    set.nets.iter().map(|net| net.addr().to_string()).collect()
}

#[test]
fn selectors_see_a_namespaces_labels_with_their_prefix() {
    let cases: &[(&str, &[&str])] = &[
        ("pcns.env == 'prod'", &["10.0.0.1", "10.0.0.2", "fd00::1", "fd00::2"]),
        ("pcns.projectcalico.org/name == 'dev' && app == 'db'", &["10.1.0.2", "fd01::2"]),
        ("pcns.kubernetes.io/metadata.name == 'dev' && app == 'db'", &["10.1.0.2", "fd01::2"]),
        ("env == 'prod'", &[]),
        ("has(pcns.nothing)", &[]),
    ];
    for (selector, want) in cases {
        assert_eq!(matched(World::shop(), selector), *want, "{selector}");
    }
}

#[test]
fn a_namespace_that_is_not_declared_exists_with_built_in_labels() {
    let world = || World::new().pod(pod("lost/a", "", "10.0.0.1"));
    for key in ["projectcalico.org/name", "kubernetes.io/metadata.name"] {
        assert_eq!(matched(world(), &format!("pcns.{key} == 'lost'")), ["10.0.0.1"]);
    }
    assert_eq!(matched(world(), "has(pcns.env)"), [""; 0]);
}

#[test]
fn the_api_server_sets_the_metadata_name_label() {
    let world = World::new()
        .namespace("prod", "kubernetes.io/metadata.name=other projectcalico.org/name=other")
        .pod(pod("prod/a", "", "10.0.0.1"));
    let selector = "pcns.kubernetes.io/metadata.name == 'prod' && pcns.projectcalico.org/name == 'prod'";
    assert_eq!(matched(world, selector), ["10.0.0.1"]);
}

#[test]
fn selectors_see_a_service_accounts_labels_with_their_prefix() {
    let world = || {
        let with = |path: &str, ip, account: &str| Pod {
            service_account: Some(account.into()),
            ..pod(path, "", ip)
        };
        World::new()
            .account("a/robot", "team=red")
            .account("b/robot", "team=blue")
            .pod(with("a/x", "10.0.0.1", "robot"))
            .pod(with("b/x", "10.0.0.2", "robot"))
            .pod(with("b/y", "10.0.0.3", "undeclared"))
            .pod(with("b/z", "10.0.0.4", ""))
            .pod(pod("b/w", "", "10.0.0.5"))
    };
    let cases: &[(&str, &[&str])] = &[
        ("pcsa.team == 'red'", &["10.0.0.1"]),
        ("pcsa.team == 'blue'", &["10.0.0.2"]),
        ("pcsa.projectcalico.org/name == 'undeclared'", &["10.0.0.3"]),
        ("projectcalico.org/serviceaccount == 'robot'", &["10.0.0.1", "10.0.0.2"]),
        ("!has(projectcalico.org/serviceaccount)", &["10.0.0.4", "10.0.0.5"]),
    ];
    for (selector, want) in cases {
        assert_eq!(matched(world(), selector), *want, "{selector}");
    }
}

#[test]
fn pods_carry_built_in_labels_and_cannot_claim_inherited_ones() {
    let own = "projectcalico.org/namespace=x projectcalico.org/orchestrator=x pcns.env=x pcsa.team=x";
    let world = || World::new().namespace("prod", "env=prod").pod(pod("prod/a", own, "10.0.0.1"));
    let cases = [
        ("projectcalico.org/namespace == 'prod'", true),
        ("projectcalico.org/orchestrator == 'k8s'", true),
        ("pcns.env == 'prod'", true),
        ("has(pcsa.team)", false),
    ];
    for (selector, want) in cases {
        assert_eq!(!matched(world(), selector).is_empty(), want, "{selector}");
    }
}

#[test]
fn own_labels_of_a_set_beat_inherited_ones() {
    let world = || World::new().namespace("prod", "env=prod").set("prod/s", "pcns.env=own", "10.9.0.0/16");
    assert_eq!(matched(world(), "pcns.env == 'own'"), ["10.9.0.0"]);
    assert_eq!(matched(world(), "pcns.env == 'prod'"), [""; 0]);
}

#[test]
fn a_network_set_inherits_its_namespace_and_a_global_one_nothing() {
    let world = || {
        World::new().namespace("prod", "env=prod").set("prod/s", "l=1", "10.9.0.0/16").set(
            "g",
            "l=1",
            "10.8.0.0/16",
        )
    };
    let cases: &[(&str, &[&str])] = &[
        ("l == '1'", &["10.8.0.0", "10.9.0.0"]),
        ("projectcalico.org/namespace == 'prod'", &["10.9.0.0"]),
        ("pcns.env == 'prod'", &["10.9.0.0"]),
        ("has(projectcalico.org/orchestrator)", &[]),
    ];
    for (selector, want) in cases {
        assert_eq!(matched(world(), selector), *want, "{selector}");
    }
}

#[test]
fn host_network_pods_are_no_endpoints() {
    let host = Pod { host_network: true, ..pod("prod/host", "app=web", "10.0.0.9") };
    let world = World::new().pod(host);
    assert!(world.cluster().0.endpoint_by_name("prod", "host").is_none());
    assert_eq!(matched(world, "all()"), [""; 0]);
}

#[test]
fn finished_pods_own_no_address() {
    let done = Pod { finished: true, ..pod("prod/job", "", "10.0.0.9") };
    let world = World::new().pod(done);
    assert!(world.cluster().0.owners("10.0.0.9".parse().unwrap()).is_empty());
    assert_eq!(matched(world, "all()"), [""; 0]);
}

#[test]
fn a_pod_without_an_address_is_an_endpoint_and_member_of_nothing() {
    let world = World::new().pod(pod("prod/new", "app=web", "")).calico(calico("prod/p"));
    assert_eq!(world.decide("prod/new", Ingress, "10.0.0.1 10.0.0.2 tcp 80"), "tier default deny");
    assert_eq!(matched(world, "app == 'web'"), [""; 0]);
}

#[test]
fn the_order_of_a_pods_addresses_does_not_matter() {
    let ips = |text: &str| {
        let cluster = World::new().pod(pod("a/b", "", text)).cluster().0;
        cluster.endpoints().values().next().unwrap().ips.clone()
    };
    assert_eq!(ips("fd00::1 10.0.0.1 10.0.0.1"), ips("10.0.0.1 fd00::1"));
}

#[test]
fn endpoints_are_found_by_name_and_by_address() {
    let cluster = World::shop().cluster().0;
    let web = cluster.endpoint_by_name("dev", "web").unwrap();
    assert_eq!(cluster.owners("fd01::1".parse().unwrap()), [web]);
    assert!(cluster.owners("192.0.2.1".parse().unwrap()).is_empty());
    assert!(cluster.endpoint_by_name("dev", "nobody").is_none());
    assert_eq!(cluster.endpoints()[web].name, "web");
    assert_eq!(cluster.label(web, "pcns.env"), Some("dev"));
    assert_eq!(cluster.label(web, "app"), Some("web"));
    assert_eq!(cluster.label(web, "none"), None);
}
