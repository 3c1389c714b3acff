use super::*;

#[test]
fn membership_is_data_and_never_shape() {
    let source =
        EntityRule { selector: sel("app == 'db'"), not_nets: nets("10.9.0.0/16"), ..Default::default() };
    let build = |world: World| world.ingress("p", from(source.clone())).ir("prod/web", Ingress);
    let alone = World::new().pod(pod("prod/web", "app=web", "10.0.0.1"));
    let (empty, full) = (build(alone), build(World::shop()));
    assert_eq!(empty.rules, full.rules);
    assert_eq!(empty.chains, full.chains);
    let shape = |ir: &PolicyIr| -> Vec<_> { ir.sets.values().map(|s| (s.kind, s.name.clone())).collect() };
    assert_eq!(shape(&empty), shape(&full));
    let sizes = |ir: &PolicyIr| -> Vec<_> { ir.sets.values().map(|s| s.nets.len()).collect() };
    assert_eq!((sizes(&empty), sizes(&full)), (vec![0, 1], vec![4, 1]));
}

#[test]
fn equal_selectors_and_net_lists_share_one_set() {
    let with = |selector: &str, list: &str| {
        from(EntityRule { selector: sel(selector), nets: nets(list), ..Default::default() })
    };
    let rules = vec![
        with("app == 'db'", "10.0.0.0/8 192.0.2.0/24"),
        with("app==\"db\"", "192.0.2.0/24 10.0.0.0/8 10.0.0.0/8"),
        with("app == 'web'", "10.0.0.0/8"),
    ];
    let ir =
        World::shop().calico(CalicoPolicy { ingress: Some(rules), ..calico("p") }).ir("prod/web", Ingress);
    let names: Vec<&str> = ir.sets.values().map(|s| s.name.as_str()).collect();
    assert_eq!(names, ["app == 'db'", "10.0.0.0/8, 192.0.2.0/24", "app == 'web'", "10.0.0.0/8"]);
    let kinds: Vec<ir::SetKind> = ir.sets.values().map(|s| s.kind).collect();
    assert_eq!(kinds, [ir::SetKind::Members, ir::SetKind::Nets, ir::SetKind::Members, ir::SetKind::Nets]);
}

#[test]
fn expanded_rules_share_the_decision_of_the_users_rule() {
    let peers = vec![peer(Some("app=db"), None), ip_block("192.0.2.0/24", "")];
    let ports = ["tcp/80", "udp/53"].map(kubernetes_port).to_vec();
    let rules = vec![kubernetes_rule(peers, ports), kubernetes_rule(vec![], vec![])];
    let policy = KubernetesPolicy { ingress: rules, ..kubernetes("prod/p") };
    let ir = World::shop().kubernetes(policy).ir("prod/web", Ingress);
    let decisions: Vec<Option<u32>> = ir.rules.values().map(|r| ir.decisions[r.decision].rule).collect();
    assert_eq!(decisions, [Some(0), Some(0), Some(0), Some(0), Some(1), None]);
    let first = ir.rules.values().next().unwrap().decision;
    assert_eq!(ir.rules.values().filter(|r| r.decision == first).count(), 4);
}

#[test]
fn decisions_and_origins_lead_back_to_the_users_rule() {
    let mut source = EntityRule { nets: nets("10.0.0.0/8"), ports: ports("53"), ..Default::default() };
    source.nets[0].span = at_line(12);
    source.ports[0].span = at_line(13);
    let mut rule = CalicoRule { protocol: protocol("udp"), span: at_line(10), ..from(source) };
    rule.protocol.as_mut().unwrap().span = at_line(11);
    let mut world = World::shop().ingress("prod/p", rule);
    // A file that no rule of this endpoint stands in does not appear.
    world.sources.add("unused.yaml", "");
    let ir = world.ir("prod/web", Ingress);
    assert_eq!(ir.name, "prod/web");
    assert_eq!(ir.files.values().collect::<Vec<_>>(), ["policy.yaml"]);
    let rule = ir.rules.values().next().unwrap();
    let line = |origin: Option<ir::Origin>| origin.map(|o| (o.line, o.column));
    let o = rule.origins;
    let lines = [o.rule, o.protocol, o.src, o.src_ports, o.dst, o.dst_ports].map(line);
    assert_eq!(lines, [Some((10, 1)), Some((11, 1)), Some((12, 1)), Some((13, 1)), None, None]);
    let decision = &ir.decisions[rule.decision];
    let path = (decision.api.as_str(), decision.object.as_str(), decision.namespace.as_deref());
    assert_eq!(path, ("projectcalico.org/v3", "NetworkPolicy", Some("prod")));
    assert_eq!((decision.name.as_str(), decision.tier.as_deref()), ("p", Some("default")));
    assert_eq!((decision.rule, line(decision.at)), (Some(0), Some((10, 1))));
}

#[test]
fn a_declared_tiers_end_leads_back_to_the_tier() {
    let mut world = World::shop().tier("t", Some(1.0), Action::Deny);
    world.objects.tiers[0].meta.span = at_line(20);
    let ir = world.calico(CalicoPolicy { tier: spanned("t".into()), ..calico("p") }).ir("prod/web", Ingress);
    let end = ir.decisions.values().find(|d| d.kind == DecisionKind::TierDefault).unwrap();
    assert_eq!((end.name.as_str(), end.tier.as_deref(), end.at.unwrap().line), ("t", Some("t"), 20));
}

#[test]
fn an_unselected_pod_has_only_its_profile() {
    let ir = World::shop().ir("dev/db", Egress);
    assert_eq!(ir.order.len(), 1);
    assert_eq!(ir.files.len(), 0);
    assert_eq!(decide(&ir, "10.1.0.2 192.0.2.1 tcp 80"), "kns.dev allow");
}

#[test]
fn one_policy_alone_is_as_for_an_endpoint_that_nothing_else_selects() {
    let world = World::new()
        .ingress("prod/p", from(EntityRule { nets: nets("10.0.0.0/8"), ..Default::default() }))
        .egress("global", rule(Action::Pass));
    let cluster = world.cluster().0;
    let found: Vec<_> = cluster
        .policies()
        .keys()
        .flat_map(|policy| [Ingress, Egress].map(|direction| cluster.resolve_policy(policy, direction)))
        .map(|ir| {
            ir.map(|ir| {
                ir::verify(&ir).unwrap();
                (
                    ir.name.clone(),
                    decide(&ir, "10.0.0.1 192.0.2.1 tcp 80"),
                    decide(&ir, "192.0.2.1 10.0.0.1 tcp 80"),
                )
            })
        })
        .collect();
    let case = |name: &str, a: &str, b: &str| Some((name.into(), a.into(), b.into()));
    assert_eq!(
        found,
        [
            None,
            case("global", "kns.* allow", "kns.* allow"),
            case("prod/p", "p[0] allow", "tier default deny"),
            None
        ]
    );
}

#[test]
fn the_same_input_gives_the_same_ir() {
    let build = || {
        let mut world = World::shop();
        for i in 0..40 {
            let source =
                EntityRule { selector: sel(&format!("l{i} == 'x' || app == 'db'")), ..Default::default() };
            world = world.ingress(&format!("p{i}"), from(source));
        }
        world.ir("prod/web", Ingress)
    };
    assert_eq!(build(), build());
}
