//! Selectors must not be tried on every endpoint: 5,000 policies over 20,000
//! pods would mean 10^8 evaluations.

use std::time::{Duration, Instant};

use super::*;

fn big(pods: usize, policies: usize) -> World {
    let mut world = World::new();
    let namespaces = pods / 100;
    for i in 0..namespaces {
        world = world.namespace(&format!("ns{i}"), &format!("team=t{} env=e{}", i % 50, i % 3));
    }
    for i in 0..pods {
        let labels = format!("app=a{} tier=t{} version=v{} hash=h{i}", i % 1000, i % 5, i % 17);
        let ip = format!("10.{}.{}.{}", i >> 16, (i >> 8) & 255, i & 255);
        world = world.pod(pod(&format!("ns{}/p{i}", i % namespaces), &labels, &ip));
    }
    for i in 0..policies {
        let peers = vec![
            peer(Some(&format!("app=a{}", i % 1000)), Some(&format!("team=t{}", i % 50))),
            peer(Some(&format!("tier=t{} app=a{}", i % 5, i % 700)), None),
        ];
        let rule = kubernetes_rule(peers, vec![kubernetes_port("tcp/80")]);
        let selector = match_labels(&format!("tier=t{}", i % 5));
        let path = format!("ns{}/q{i}", i % namespaces);
        world = world.kubernetes(KubernetesPolicy {
            pod_selector: selector,
            ingress: vec![rule],
            ..kubernetes(&path)
        });
    }
    world
}

#[test]
fn a_node_of_200_pods_resolves_within_a_second() {
    let world = big(20_000, 5_000);
    let start = Instant::now();
    let (cluster, diagnostics) = world.cluster();
    let made = start.elapsed();
    assert!(diagnostics.is_empty());
    let start = Instant::now();
    let rules: usize =
        cluster.endpoints().keys().take(200).map(|e| cluster.resolve(e, Ingress).rules.len()).sum();
    let resolved = start.elapsed();
    assert!(rules > 200);
    eprintln!("cluster {made:?}, 200 endpoints {resolved:?}, {rules} rules");
    assert!(resolved < Duration::from_secs(1), "{resolved:?}");
    assert!(made < Duration::from_secs(20), "{made:?}");
}

#[test]
fn the_index_finds_what_a_scan_finds() {
    let world =
        big(600, 0).set("g", "app=a1 tier=t1", "192.0.2.0/24").set("ns1/s", "app=a2", "198.51.100.0/24");
    let inventory = Inventory::new(&world.objects, &Names::new(&world.objects));
    let index = LabelIndex::new(&inventory);
    let selectors = [
        "all()",
        "!all()",
        "app == 'a1'",
        "app == 'nobody'",
        "app != 'a1'",
        "has(app)",
        "!has(projectcalico.org/namespace)",
        "app in {'a1', 'a2', 'none'}",
        "app not in {'a1', 'a2'}",
        "app in {}",
        "app contains '1' && tier == 't1'",
        "app starts with 'a1' || tier == 't1' && version == 'v1'",
        "app == 'a1' || !has(tier)",
        "pcns.team == 't1' && app == 'a1'",
        "pcns.team in {'t0', 't1'} && !(tier == 't1')",
        "(app == 'a1' || app == 'a1' || tier == 't1') && global()",
    ];
    for text in selectors {
        let selector = Selector::parse(text).unwrap();
        let scan: Vec<_> = inventory.items().filter(|i| inventory.labels(*i).satisfy(&selector)).collect();
        assert_eq!(index.matches(&selector), scan, "{text}");
    }
}
