//! `polc agent`: follows its input and the interfaces, sweeps, and ends without a gap.

use std::io::BufRead as _;
use std::process::{Child, Stdio};
use std::sync::{Arc, Mutex};

use polc_compiler::abi::CONNTRACK_MAP;
use polc_runtime::kernel::support::ENABLED;
use polc_runtime::sys::bpf::Map;

use crate::hosts::somebody_elses_xdp;
use crate::policies::{tcp_ports, untracked};
use crate::traffic::{Servers, connect, echoes, soon, tcp};
use crate::world::{HOST_IFACE, IFACE, POD_V4, World, attach, signal_to, text};

/// Offsets in a connection's value.
const LAST_SEEN: usize = 8;
const INGRESS_RST: usize = 28;

/// A running agent and what it says; stopped if the test fails.
struct Agent {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
}

impl Agent {
    fn start(world: &World, input: &str) -> Self {
        Self::start_at(world, input, &format!("{IFACE}=default/pod"))
    }

    fn start_at(world: &World, input: &str, place: &str) -> Self {
        Self::start_with(world, &["agent", input, "--at", place])
    }

    fn start_with(world: &World, arguments: &[&str]) -> Self {
        let arguments = [arguments, &["--poll", "50", "--sweep", "1"]].concat();
        let mut child = world.command(&arguments).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (lines, into) =
            (std::io::BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&said));
        std::thread::spawn(move || lines.map_while(Result::ok).for_each(|l| into.lock().unwrap().push(l)));
        Self { child, said }
    }

    fn said(&self, what: &str) -> usize {
        self.said.lock().unwrap().iter().filter(|line| line.contains(what)).count()
    }

    fn terminate(&mut self) {
        signal_to(&self.child, "-TERM");
        assert_eq!(self.child.wait().unwrap().code(), Some(0));
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Replaces the policy of a folder as a whole.
fn write(world: &World, yaml: &str) {
    let file = world.policy("new", yaml);
    std::fs::rename(&file, file.replace("new", "agent/policy.yaml")).unwrap();
}

#[test]
fn an_agent_follows_its_input_and_the_interface() {
    let Some(world) = World::new() else { return };
    let _servers = Servers::new(&world, &[80, 81], &[]);
    let folder = world.policy("new", "").replace("new", "agent");
    std::fs::create_dir(&folder).unwrap();
    let (at_80, at_81) = (format!("{POD_V4}:80"), format!("{POD_V4}:81"));
    write(&world, &tcp_ports(&[80]));
    let mut agent = Agent::start(&world, &folder);
    soon("the first policy", || tcp(&world, &at_80) && !tcp(&world, &at_81));
    assert_eq!((agent.said(ENABLED), agent.said("cali0: attached")), (1, 1));
    let mut stream = connect(&world, &at_80).unwrap();
    assert!(echoes(&mut stream));

    write(&world, &tcp_ports(&[81]));
    soon("the second policy", || tcp(&world, &at_81) && !tcp(&world, &at_80));
    assert!(echoes(&mut stream), "connections go on");
    write(&world, "kind: Nonsense: [");
    soon("bad input is reported", || agent.said("the input cannot be enforced") > 0);
    assert!(tcp(&world, &at_81) && !tcp(&world, &at_80), "and changes nothing");
    write(&world, &tcp_ports(&[80]));
    soon("the third policy", || tcp(&world, &at_80) && !tcp(&world, &at_81));
    assert_eq!(agent.said("cali0: policy replaced"), 2);

    let refused = world.polc(&[&attach(&format!("{folder}/policy.yaml"))[..], &["--wait", "0"]].concat());
    assert!(refused.status.code() == Some(2) && text(&refused).contains("another polc process"));

    world.ip(&format!("-n {} link del {IFACE}", world.node));
    std::thread::sleep(std::time::Duration::from_millis(200));
    world.make_link();
    soon("the new interface", || agent.said("cali0: attached") == 2 && tcp(&world, &at_80));
    assert!(!tcp(&world, &at_81));
    let interfaces = world
        .pins()
        .iter()
        .filter(|pin| pin.starts_with("polc/interfaces/") && pin.ends_with("record"))
        .count();
    assert_eq!(interfaces, 1, "the old one's is gone");

    let mut stream = connect(&world, &at_80).unwrap();
    let in_force = |world: &World| {
        let status: serde_json::Value = serde_json::from_str(&world.ok(&["status", "-o", "json"])).unwrap();
        let directions = status["interfaces"][0]["directions"].as_array().unwrap().clone();
        directions.iter().map(|d| (d["entry_program"].clone(), d["programs"].clone())).collect::<Vec<_>>()
    };
    let before = in_force(&world);
    agent.terminate();
    assert!(tcp(&world, &at_80) && !tcp(&world, &at_81), "what is in force stays in force");
    let mut again = Agent::start(&world, &folder);
    soon("another agent goes on with it", || again.said(ENABLED) == 1);
    write(&world, &tcp_ports(&[80, 81]));
    soon("and changes it", || again.said("cali0: policy replaced") == 1 && tcp(&world, &at_81));
    assert_eq!(again.said("cali0: attached"), 0);
    assert!(echoes(&mut stream), "without a gap");
    let entries =
        |all: &[(serde_json::Value, _)]| all.iter().map(|(entry, _)| entry.clone()).collect::<Vec<_>>();
    let after: Vec<(_, serde_json::Value)> = in_force(&world);
    assert!(entries(&after) == entries(&before) && after != before, "with the same entry programs");
    again.terminate();
    world.ok(&["detach", "--interface", IFACE]);
    assert_eq!(world.pins(), [""; 0]);
}

#[test]
fn an_agent_sweeps_connections_that_are_over() {
    let Some(world) = World::new() else { return };
    let _servers = Servers::new(&world, &[80], &[]);
    let policy = world.policy("policy.yaml", &tcp_ports(&[80]));
    let mut agent = Agent::start(&world, &policy);
    soon("the policy", || agent.said("cali0: attached") == 1);
    let mut stream = connect(&world, &format!("{POD_V4}:80")).unwrap();
    assert!(echoes(&mut stream));
    let map = Map::open(&world.fs.path().join("polc/maps").join(CONNTRACK_MAP)).unwrap();
    let (live, mut value) = map.entries(usize::MAX).unwrap().remove(0);
    // The same of another endpoint, reset when the machine started.
    let mut over = live.clone();
    over[..4].copy_from_slice(&77u32.to_ne_bytes());
    value[LAST_SEEN..][..8].copy_from_slice(&1u64.to_ne_bytes());
    value[INGRESS_RST] = 1;
    map.update(&over, &value).unwrap();
    soon("the old one is swept", || map.lookup(&over).unwrap().is_none());
    assert!(map.lookup(&live).unwrap().is_some() && echoes(&mut stream));
    agent.terminate();
}

/// Takes the qdisc off, and with it both filters.
fn without_qdisc(world: &World) {
    world.node_command(&format!("tc qdisc del dev {IFACE} clsact"));
}

fn without_filter(world: &World) {
    world.node_command(&format!("tc filter del dev {IFACE} egress"));
}

/// Links of all network namespaces are listed: ours run the entry programs.
fn without_links(world: &World) {
    let status: serde_json::Value = serde_json::from_str(&world.ok(&["status", "-o", "json"])).unwrap();
    let directions = status["interfaces"][0]["directions"].as_array().unwrap();
    let entries: Vec<&serde_json::Value> = directions.iter().map(|d| &d["entry_program"]).collect();
    let links: Vec<serde_json::Value> =
        serde_json::from_str(&world.node_command("bpftool -j link show")).unwrap();
    let ours: Vec<_> = links.iter().filter(|link| entries.contains(&&link["prog_id"])).collect();
    assert_eq!(ours.len(), 2);
    for link in ours {
        world.node_command(&format!("bpftool link detach id {}", link["id"]));
    }
}

#[test]
fn an_agent_puts_back_what_somebody_else_took_off() {
    let ways = [("clsact", without_qdisc as fn(&World)), ("clsact", without_filter), ("tcx", without_links)];
    for (hook, take_off) in ways {
        let Some(world) = World::new() else { return };
        let _servers = Servers::new(&world, &[80, 81], &[]);
        let policy = world.policy("policy.yaml", &tcp_ports(&[80]));
        let place = format!("{IFACE}=default/pod");
        let mut agent = Agent::start_with(&world, &["agent", &policy, "--at", &place, "--hook", hook]);
        let (at_80, at_81) = (format!("{POD_V4}:80"), format!("{POD_V4}:81"));
        soon("the policy", || agent.said("cali0: attached") == 1);
        assert!(tcp(&world, &at_80) && !tcp(&world, &at_81), "{hook}");
        take_off(&world);
        soon("it is put back", || agent.said("cali0: policy was taken off by somebody else") == 1);
        soon("as it was", || world.polc(&["status"]).status.code() == Some(0) && !tcp(&world, &at_81));
        assert!(tcp(&world, &at_80), "{hook}");
        agent.terminate();
        world.ok(&["detach", "--interface", IFACE]);
        assert_eq!(world.pins(), [""; 0], "{hook}");
    }
}

#[test]
fn an_agent_that_never_attached_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let policy = world.policy("policy.yaml", &tcp_ports(&[80]));
    world.ip(&format!("-n {} link del {IFACE}", world.node));
    let mut agent = Agent::start(&world, &policy);
    soon("it runs", || agent.said(ENABLED) == 1 && !world.pins().is_empty());
    agent.terminate();
    assert_eq!(world.pins(), [""; 0]);
    let none = world.polc(&["agent", &policy, "--at", "cali0=default/nobody"]);
    assert_eq!(none.status.code(), Some(2), "{}", text(&none));
}

#[test]
fn an_agent_tries_again_what_was_refused() {
    let Some(world) = World::of_host() else { return };
    let _servers = Servers::new(&world, &[80, 81], &[]);
    let theirs = somebody_elses_xdp(&world);
    let policy = world.policy("host.yaml", &untracked(80, 81, 0));
    let mut agent = Agent::start_at(&world, &policy, &format!("{HOST_IFACE}=host"));
    soon("it is refused", || agent.said("eth0: not attached: ") == 1);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(agent.said("eth0: not attached: "), 1, "not at every turn");
    assert!(tcp(&world, &format!("{POD_V4}:81")), "nothing is attached");
    drop(theirs);
    soon("it is tried again", || agent.said("eth0: attached") == 1);
    assert!(tcp(&world, &format!("{POD_V4}:80")) && !tcp(&world, &format!("{POD_V4}:81")));
    agent.terminate();
}
