use super::*;

const FLOW: &str = "10.0.0.2 10.0.0.1 tcp 80";

fn in_tier(path: &str, tier: &str, order: Option<f64>, action: Action) -> CalicoPolicy {
    CalicoPolicy { tier: spanned(tier.into()), order, ingress: Some(vec![rule(action)]), ..calico(path) }
}

fn decide(world: &World) -> String {
    world.decide("prod/web", Ingress, FLOW)
}

/// Names of the policies in evaluation order.
fn sorted(world: World) -> Vec<String> {
    world.cluster().0.policies().values().map(PolicyData::display_name).collect()
}

#[test]
fn tiers_go_by_order_missing_last_ties_by_name() {
    let world = World::new()
        .tier("late", None, Action::Deny)
        .tier("b", Some(5.0), Action::Deny)
        .tier("a", Some(5.0), Action::Deny)
        .tier("first", Some(-1.0), Action::Deny)
        .tier("never", None, Action::Deny);
    let (cluster, _) = world.cluster();
    let names: Vec<&str> = cluster.tiers().map(|tier| tier.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "first",
            "a",
            "b",
            "adminnetworkpolicy",
            "kube-admin",
            "default",
            "baselineadminnetworkpolicy",
            "kube-baseline",
            "late",
            "never"
        ]
    );
}

#[test]
fn policies_go_by_order_missing_last() {
    let world = World::new()
        .calico(in_tier("none", "default", None, Action::Allow))
        .calico(in_tier("ten", "default", Some(10.0), Action::Allow))
        .calico(in_tier("zero", "default", Some(0.0), Action::Allow))
        .calico(in_tier("minus-zero", "default", Some(-0.0), Action::Allow))
        .calico(in_tier("negative", "default", Some(-1.5), Action::Allow));
    assert_eq!(sorted(world), ["negative", "minus-zero", "zero", "ten", "none"]);
}

#[test]
fn ties_go_by_the_bytes_of_name_namespace_and_kind() {
    let world = World::new()
        .kubernetes(kubernetes("x/same"))
        .calico(in_tier("x/same", "default", Some(1000.0), Action::Allow))
        .calico(in_tier("a", "default", Some(1000.0), Action::Allow))
        .calico(in_tier("a-b", "default", Some(1000.0), Action::Allow))
        .calico(in_tier("z/a", "default", Some(1000.0), Action::Allow))
        .calico(in_tier("B", "default", Some(1000.0), Action::Allow));
    assert_eq!(sorted(world), ["B", "a-b", "a", "z/a", "x/same", "x/same"]);
    let world = World::new().calico(in_tier("x/same", "default", Some(1000.0), Action::Allow));
    let (cluster, _) = world.kubernetes(kubernetes("x/same")).cluster();
    let apis: Vec<&str> = cluster.policies().values().map(|p| p.api.as_str()).collect();
    assert_eq!(apis, ["networking.k8s.io/v1", "projectcalico.org/v3"]);
}

#[test]
fn a_tiers_end_denies_unless_its_default_action_is_pass() {
    let none = |action| {
        let policy = CalicoPolicy { tier: spanned("t".into()), ..calico("p") };
        World::shop().tier("t", Some(1.0), action).calico(policy)
    };
    assert_eq!(decide(&none(Action::Deny)), "tier t deny");
    assert_eq!(decide(&none(Action::Pass)), "kns.prod allow");
}

#[test]
fn a_tier_without_a_policy_for_endpoint_and_direction_takes_no_part() {
    let elsewhere = CalicoPolicy { selector: sel("app == 'db'"), ..in_tier("p", "t", None, Action::Deny) };
    let world = World::shop().tier("t", Some(1.0), Action::Deny).calico(elsewhere);
    assert_eq!(decide(&world), "kns.prod allow");
    let other_direction =
        CalicoPolicy { types: Some(vec![Egress]), ingress: None, ..in_tier("p", "t", None, Action::Deny) };
    let world = World::shop().tier("t", Some(1.0), Action::Deny).calico(other_direction);
    assert_eq!(decide(&world), "kns.prod allow");
    assert_eq!(world.decide("prod/web", Egress, "10.0.0.1 10.0.0.2 tcp 80"), "tier t deny");
}

#[test]
fn pass_leaves_the_tier_at_once_and_the_profile_decides_last() {
    let world = World::shop()
        .tier("first", Some(1.0), Action::Deny)
        .tier("second", Some(2.0), Action::Deny)
        .calico(in_tier("pass", "first", Some(1.0), Action::Pass))
        .calico(in_tier("deny", "first", Some(2.0), Action::Deny));
    assert_eq!(decide(&world), "kns.prod allow");
    let world = world.calico(in_tier("allow", "second", None, Action::Allow));
    assert_eq!(decide(&world), "allow[0] allow");
}

#[test]
fn built_in_tiers_have_their_order_and_end() {
    for (tier, want) in [
        ("kube-admin", "kns.prod allow"),
        ("adminnetworkpolicy", "kns.prod allow"),
        ("default", "tier default deny"),
        ("kube-baseline", "kns.prod allow"),
        ("baselineadminnetworkpolicy", "kns.prod allow"),
    ] {
        let policy = CalicoPolicy { tier: spanned(tier.into()), ..calico("p") };
        let world = World::shop().calico(policy);
        assert_eq!(decide(&world), want, "{tier}");
        assert_eq!(world.diagnostics(), []);
    }
}

#[test]
fn a_declared_built_in_tier_keeps_its_order() {
    let world = World::new().tier("default", None, Action::Pass).tier("t", Some(999_999.0), Action::Deny);
    let (cluster, _) = world.cluster();
    let order: Vec<&str> = cluster.tiers().map(|t| t.name.as_str()).collect();
    assert_eq!(order[2..4], ["t", "default"]);
}

#[test]
fn a_policy_in_an_unknown_tier_sorts_last_and_denies_with_a_warning() {
    let mut policy = CalicoPolicy { tier: spanned("ghost".into()), ..calico("p") };
    policy.tier.span = at_line(3);
    let world = World::shop()
        .calico(policy)
        .calico(in_tier("pass", "default", None, Action::Pass))
        .tier("late", None, Action::Pass)
        .calico(in_tier("late", "late", None, Action::Pass));
    assert_eq!(decide(&world), "tier ghost deny");
    assert_eq!(world.diagnostics(), [("P0601", Some(3))]);
    let ir = world.ir("prod/web", Ingress);
    let chains: Vec<&str> = ir.order.iter().map(|c| ir.chains[*c].name.as_str()).collect();
    assert_eq!(chains, ["default", "late", "ghost", "profiles"]);
}

#[test]
fn an_earlier_calico_deny_beats_kubernetes_policies() {
    let allow = KubernetesPolicy { ingress: vec![kubernetes_rule(vec![], vec![])], ..kubernetes("prod/k") };
    let world = World::shop().kubernetes(allow);
    assert_eq!(decide(&world), "k[0] allow");
    let deny = |order| in_tier("deny", "default", Some(order), Action::Deny);
    let earlier = World { objects: world.objects.clone(), sources: world.sources.clone() };
    assert_eq!(decide(&earlier.calico(deny(999.0))), "deny[0] deny");
    assert_eq!(decide(&world.calico(deny(1001.0))), "k[0] allow");
}
