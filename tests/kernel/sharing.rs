//! Tables that several policies have are one map: whoever shares it comes, goes, changes
//! or is killed, the others' verdicts stay.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use polc_compiler::compile::CompileOptions;
use polc_compiler::image::no_source_lines;
use polc_compiler::ir::{self, AddrSet, Direction};
use polc_compiler::live::{Change, ResolvedPolicy};
use polc_runtime::agent::{Agent, EndpointPolicy};
use polc_runtime::sys::bpf::{Map, MapDefinition, Program};
use serde_json::Value;

use crate::crash::kill_beside;
use crate::dumps::json;
use crate::leaks::{pinned, until_gone};
use crate::policies::from_pod;
use crate::traffic::{Servers, soon, tcp};
use crate::world::{IFACE, NODE_V4, POD_V4, World, attach, text, within};

/// Another link of the pod's, which is that of another endpoint to polc.
const OTHER: &str = "cali1";
const OTHER_NODE: &str = "10.98.0.1";
const OTHER_POD: &str = "10.98.0.2";

fn world() -> Option<World> {
    let world = World::new()?;
    let (node, pod) = (&world.node, &world.pod);
    world.ip(&format!("-n {node} link add {OTHER} type veth peer name eth1 netns {pod}"));
    for (ns, dev, address) in [(node, OTHER, OTHER_NODE), (pod, "eth1", OTHER_POD)] {
        world.ip(&format!("-n {ns} addr add {address}/24 dev {dev}"));
        world.ip(&format!("-n {ns} link set {dev} up"));
    }
    Some(world)
}

/// The policy of the pod at the first link, and of that at the other one.
fn policies(world: &World, ports: [&[u16]; 2]) -> [String; 2] {
    let first = from_pod(("pod", POD_V4), NODE_V4, ports[0]);
    let other = from_pod(("other", OTHER_POD), OTHER_NODE, ports[1]);
    [world.policy("first.yaml", &first), world.policy("second.yaml", &other)]
}

fn attach_other(policy: &str) -> [&str; 6] {
    ["attach", policy, "--interface", OTHER, "--endpoint", "default/other"]
}

/// Which of the ports 80 and 81 both pods take connections to.
fn open_ports(world: &World) -> [[bool; 2]; 2] {
    [POD_V4, OTHER_POD].map(|pod| [80, 81].map(|port| tcp(world, &format!("{pod}:{port}"))))
}

/// What status says of packets towards the pod at a link.
fn ingress(world: &World, interface: &str) -> Value {
    let status = json(world, &["status"], "status");
    let mut all = status["interfaces"].as_array().unwrap().iter();
    let found = all.find(|found| found["interface"] == interface);
    found.unwrap_or_else(|| panic!("{interface}: {status:#}"))["directions"][0].clone()
}

/// The folders of the images in force for packets towards both pods.
fn images(world: &World) -> [PathBuf; 2] {
    [IFACE, OTHER].map(|interface| {
        let image = ingress(world, interface)["image"].as_str().unwrap().to_owned();
        world.fs.path().join("polc/images").join(image)
    })
}

/// Ids of the maps of an image: those that are pinned there, which are its program's.
fn maps(image: &Path) -> BTreeSet<u32> {
    let program = Program::open(&image.join("p0")).unwrap().info().unwrap();
    let ids: BTreeSet<u32> =
        (0..).map_while(|index| Some(Map::open(&image.join(format!("m{index}"))).ok()?.id())).collect();
    assert!(ids.len() > 2 && ids.iter().all(|id| program.maps.contains(id)), "{ids:?} {program:?}");
    ids
}

/// Ids of the maps that are pinned by their digest.
fn tables(world: &World) -> BTreeSet<u32> {
    let folder = std::fs::read_dir(world.fs.path().join("polc/tables")).unwrap();
    folder.map(|pin| Map::open(&pin.unwrap().path()).unwrap().id()).collect()
}

/// Maps that both images have.
fn common(world: &World) -> Vec<u32> {
    let [first, other] = images(world);
    maps(&first).intersection(&maps(&other)).copied().collect()
}

#[test]
fn policies_with_equal_ports_share_a_table() {
    let Some(world) = world() else { return };
    let _servers = Servers::new(&world, &[80, 81], &[]);
    soon("the links are up", || open_ports(&world) == [[true; 2]; 2]);
    let [first, other] = policies(&world, [&[80], &[80]]);
    world.ok(&attach(&first));
    let alone = tables(&world);
    world.ok(&attach_other(&other));
    assert_eq!(open_ports(&world), [[true, false]; 2]);
    let seen = pinned(&world);

    // The other policy has one table less of its own, and nothing else in common.
    let found = images(&world);
    assert_ne!(found[0], found[1]);
    let shared = common(&world);
    assert_eq!(shared.len(), 1, "{shared:?}");
    assert!(alone.contains(&shared[0]) && tables(&world) == alone);
    let map = Map::by_id(shared[0]).unwrap();
    let value = vec![0; map.value_span()];
    assert!(map.update(&[0; 4], &value).is_err(), "nobody writes to it");
    for interface in [IFACE, OTHER] {
        let status = ingress(&world, interface);
        let [all, shared] = ["map_memory_bytes", "shared_map_memory_bytes"].map(|name| status[name].as_u64());
        assert!(shared == Some(map.memory().unwrap()) && all > shared, "{status:#}");
    }
    drop(map);
    assert!(world.ok(&["status"]).contains(" shared)"));
    // Dumps read tables of both.
    assert!(world.ok(&["ipsets", "dump"]).contains(OTHER_NODE));
    json(&world, &["policy", "dump", OTHER, "ingress"], "policy");

    // One goes.
    world.ok(&["detach", "--interface", IFACE]);
    assert_eq!(open_ports(&world), [[true, true], [true, false]]);
    assert!(tables(&world).contains(&shared[0]));
    assert_eq!(ingress(&world, OTHER)["shared_map_memory_bytes"], 0);
    // It comes with another policy, which has a table of its own, and then with the same.
    let [changed, _] = policies(&world, [&[81], &[80]]);
    world.ok(&attach(&changed));
    assert_eq!(open_ports(&world), [[false, true], [true, false]]);
    assert!(common(&world).is_empty());
    let [first, _] = policies(&world, [&[80], &[80]]);
    world.ok(&attach(&first));
    assert_eq!((open_ports(&world), common(&world)), ([[true, false]; 2], shared));
    assert_eq!(tables(&world), alone);

    for interface in [OTHER, IFACE] {
        world.ok(&["detach", "--interface", interface]);
    }
    assert_eq!(world.pins(), [""; 0]);
    until_gone(&seen);
}

#[test]
fn a_table_that_is_not_what_its_digest_says_is_refused() {
    let Some(world) = world() else { return };
    let [first, other] = policies(&world, [&[80], &[80]]);
    world.ok(&attach(&first));
    let folder = world.fs.path().join("polc/tables");
    let table = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap().path();
    std::fs::remove_file(&table).unwrap();
    let definition = MapDefinition { kind: 2, key_size: 4, value_size: 8, max_entries: 1, flags: 0 };
    Map::create("polc_ports", &definition).unwrap().pin(&table).unwrap();
    // As if an image had it: else it is nobody's, and removed.
    std::fs::hard_link(&table, folder.join("kept")).unwrap();
    let before = world.pins();
    let output = world.polc(&attach_other(&other));
    assert!(output.status.code() == Some(2) && text(&output).contains("it would misread it"), "{output:?}");
    assert_eq!(world.pins(), before);
    std::fs::remove_file(folder.join("kept")).unwrap();
    world.ok(&attach_other(&other));
    assert!(common(&world).is_empty(), "the first one's is no longer found, and stays with it");
    world.ok(&["detach", "--all"]);
    assert_eq!(world.pins(), [""; 0]);
}

#[test]
fn killed_while_a_policy_comes_to_a_shared_table_or_leaves_it() {
    // The other pod has the port that the pod has before the update, or the one behind it.
    for (other, closed) in [(80, 81), (81, 80)] {
        let Some(world) = world() else { return };
        let _servers = Servers::new(&world, &[80, 81], &[]);
        let policy = |name, yaml: String| world.policy(name, &yaml);
        let of_other = policy("other.yaml", from_pod(("other", OTHER_POD), OTHER_NODE, &[other]));
        let old = policy("old.yaml", from_pod(("pod", POD_V4), NODE_V4, &[80]));
        let new = policy("new.yaml", from_pod(("pod", POD_V4), NODE_V4, &[81]));
        world.ok(&attach_other(&of_other));
        let steps = kill_beside(&world, &attach(&old), &attach(&new), "ingress slot stored", &|what| {
            let found = [other, closed].map(|port| tcp(&world, &format!("{OTHER_POD}:{port}")));
            assert_eq!(found, [true, false], "the other one, {what}");
        });
        let has = |step: &str| steps.iter().any(|done| done.contains(step));
        assert!(has("image removed"), "{steps:?}");
        assert_eq!((has("table in place"), has("table removed")), (other == 80, other == 81), "{steps:?}");
    }
}

/// Port 80, for the members of a set.
fn resolved(direction: Direction, set: &str, member: &str) -> ResolvedPolicy {
    let side = if direction == Direction::Ingress { "src" } else { "dst" };
    let text = format!(
        r#"
        policy "p" {}
        decision0 = rule allow index 0 name "p"
        decision1 = tier-default deny name "t"
        set0 = members "{set}" {{ {member}/32 }}
        chain0 "t" {{
          rule0: proto tcp; {side} in set0; dport 80 -> allow decision0
        }} deny decision1
        order chain0"#,
        direction.as_str()
    );
    ResolvedPolicy::new(ir::parse(&text).unwrap(), CompileOptions::default())
}

fn at<'a>(interface: &'a str, ingress: &'a ResolvedPolicy, egress: &'a ResolvedPolicy) -> EndpointPolicy<'a> {
    EndpointPolicy::new(interface, interface, [ingress, egress], &no_source_lines)
}

#[test]
fn members_of_one_policy_are_not_those_of_another() {
    let Some(world) = world() else { return };
    let _servers = Servers::new(&world, &[80, 81], &[]);
    soon("the links are up", || open_ports(&world) == [[true; 2]; 2]);
    let story = || {
        let start = || Agent::start(world.fs.path(), Duration::from_secs(5)).unwrap();
        let first = resolved(Direction::Ingress, "clients", NODE_V4);
        let other = resolved(Direction::Ingress, "clients of the other", OTHER_NODE);
        let out = resolved(Direction::Egress, "servers", "10.97.0.1");
        let wanted = [at(IFACE, &first, &out), at(OTHER, &other, &out)];
        let apply = |agent: &mut Agent| {
            let outcomes = agent.apply(&wanted).unwrap();
            assert!(outcomes.iter().all(|outcome| outcome.error.is_none()), "{outcomes:?}");
            outcomes.len()
        };
        let mut agent = start();
        assert_eq!(apply(&mut agent), 2);
        assert_eq!(open_ports(&world), [[true, false]; 2]);
        let (before, shared) = (images(&world), common(&world));
        assert_eq!(shared.len(), 1, "{shared:?}");

        let set = || vec![AddrSet::from_u32(0)];
        let mut change = |add: Vec<AddrSet>, remove: Vec<AddrSet>| {
            let change = Change { net: format!("{NODE_V4}/32").parse().unwrap(), add, remove };
            agent.change_members(IFACE, Direction::Ingress, &[change]).unwrap();
        };
        change(Vec::new(), set());
        assert_eq!(open_ports(&world), [[false, false], [true, false]], "the client went");
        assert!(!world.ok(&["ipsets", "dump"]).contains(NODE_V4));
        change(set(), Vec::new());
        assert_eq!(open_ports(&world), [[true, false]; 2], "and came again");
        change(Vec::new(), set());
        assert_eq!((images(&world), common(&world)), (before.clone(), shared.clone()));

        // Another agent replaces the changed one by a new image with the same table.
        drop(agent);
        let mut agent = start();
        assert_eq!(open_ports(&world), [[false, false], [true, false]]);
        assert_eq!(apply(&mut agent), 1);
        assert_eq!(open_ports(&world), [[true, false]; 2]);
        let after = images(&world);
        assert!(after[0] != before[0] && after[1] == before[1] && common(&world) == shared);
        agent.apply(&[]).unwrap();
        agent.close().unwrap();
    };
    within(&world.node, story);
    assert_eq!(world.pins(), [""; 0]);
}
