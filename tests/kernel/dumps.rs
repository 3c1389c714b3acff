//! What is counted and listed agrees with what was sent.

use std::net::UdpSocket;
use std::process::Stdio;
use std::time::Duration;

use polc_compiler::abi;
use polc_runtime::sys::bpf::Map;
use serde_json::Value;

use crate::policies::{calico_ingress, tcp_ports};
use crate::schema;
use crate::traffic::{Servers, connect, echoes, ping, soon, tcp, udp};
use crate::world::signal_to;
use crate::world::{IFACE, NODE_V4, POD_V4, World, text, within};

/// Standard output of `polc … -o json`, which satisfies its schema.
pub fn json(world: &World, arguments: &[&str], schema_file: &str) -> Value {
    let text = world.ok(&[arguments, &["-o", "json"]].concat());
    let value = serde_json::from_str(&text).unwrap();
    valid(&value, schema_file);
    value
}

fn valid(value: &Value, schema_file: &str) {
    let path = format!("{}/docs/schema/{schema_file}.schema.json", env!("CARGO_MANIFEST_DIR"));
    let root: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    schema::check(&root, &root, value).unwrap_or_else(|e| panic!("{schema_file}: {e}: {value:#}"));
}

/// A counter by category and type: ingress and egress.
fn counter(counters: &Value, category: &str, kind: &str) -> (u64, u64) {
    let rows = counters["counters"].as_array().unwrap();
    let row = rows.iter().find(|row| row["category"] == category && row["type"] == kind);
    let row = row.unwrap_or_else(|| panic!("{category} {kind}: {counters:#}"));
    (row["ingress"].as_u64().unwrap(), row["egress"].as_u64().unwrap())
}

/// IPv4 only, so that nothing but the test sends packets.
fn quiet_world() -> Option<World> {
    let world = World::new()?;
    for ns in [&world.node, &world.pod] {
        within(ns, || std::fs::write("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1").unwrap());
    }
    soon("the link is up", || ping(&world.node, POD_V4));
    Some(world)
}

#[test]
fn packets_are_counted_by_what_became_of_them() {
    for hook in ["tcx", "clsact"] {
        let Some(world) = quiet_world() else { return };
        let _servers = Servers::new(&world, &[80], &[53]);
        let rules = "    - { action: Allow, protocol: UDP, destination: { ports: [53] } }";
        world.attach(&world.policy("p.yaml", &calico_ingress(rules)), &["--hook", hook]);
        let dump = || json(&world, &["counters", "dump", "--iface", IFACE], "counters");
        assert_eq!(counter(&dump(), "Accepted", "by policy"), (0, 0));
        assert!(udp(&world, &format!("{POD_V4}:53")));
        for _ in 0..3 {
            assert!(!ping(&world.node, POD_V4), "{hook}");
        }
        let counters = dump();
        assert_eq!(counter(&counters, "Accepted", "by policy"), (1, 0), "{hook}");
        assert_eq!(counter(&counters, "Accepted", "by tracked connection"), (0, 1), "{hook}");
        assert_eq!(counter(&counters, "Dropped", "by policy"), (3, 0), "{hook}");
        let (total, sent) = counter(&counters, "Total", "packets");
        assert!(total >= 4 && sent >= 1);
        let table = world.ok(&["counters", "dump", "--iface", IFACE]);
        assert!(table.starts_with("+----------+-"), "{table}");
        assert!(
            table.contains("| CATEGORY | TYPE ") && table.contains("| INGRESS | EGRESS | XDP |"),
            "{table}"
        );
        assert!(table.contains("| Dropped  | by policy "), "{table}");
        if hook == "clsact" {
            // The kernel's own count of what the qdisc's filters dropped.
            let shown = world.node_command(&format!("tc -s qdisc show dev {IFACE} clsact"));
            let (_, rest) = shown.split_once("dropped ").unwrap_or_else(|| panic!("{shown}"));
            let dropped: u64 = rest.split(',').next().unwrap().parse().unwrap();
            let ours: u64 = dump()["counters"]
                .as_array()
                .unwrap()
                .iter()
                .filter(|row| row["category"] == "Dropped")
                .map(|row| row["ingress"].as_u64().unwrap() + row["egress"].as_u64().unwrap())
                .sum();
            assert_eq!(dropped, ours, "{shown}");
        }
    }
}

#[test]
fn connections_are_listed_swept_and_forgotten() {
    let Some(world) = quiet_world() else { return };
    let _servers = Servers::new(&world, &[80], &[]);
    let policy = world.policy("p.yaml", &tcp_ports(&[80]));
    world.attach(&policy, &[]);
    let mut stream = connect(&world, &format!("{POD_V4}:80")).unwrap();
    assert!(echoes(&mut stream));
    let listed = world.ok(&["conntrack", "dump"]);
    assert!(listed.starts_with(&format!("ConntrackKey{{proto=6 {NODE_V4}:")), "{listed}");
    assert!(listed.contains(&format!("<-> {POD_V4}:80}} -> Entry{{Type:")), "{listed}");
    assert!(listed.trim_end().ends_with("ESTABLISHED") && listed.contains(" Active ago "), "{listed}");
    let connections = json(&world, &["conntrack", "dump"], "conntrack");
    let one = &connections["connections"][0];
    assert_eq!((one["local"].as_str(), one["local_port"].as_u64()), (Some(POD_V4), Some(80)));
    assert_eq!((one["opened_by"].as_str(), one["state"].as_str()), (Some("ingress"), Some("ESTABLISHED")));
    assert_eq!(world.ok(&["conntrack", "sweep"]), "deleted 0\n");
    // Its number may come to another endpoint, which must not inherit its connections.
    let other = tcp_ports(&[81]).replace("name: pod,", "name: other,");
    let other = world.policy("other.yaml", &other);
    world.ok(&["attach", &other, "--interface", IFACE, "--endpoint", "default/other"]);
    assert_eq!(world.ok(&["conntrack", "dump"]), "");
    assert!(!echoes(&mut stream));
}

#[test]
fn established_connections_are_asked_about_again_if_that_is_wanted() {
    for hook in ["tcx", "clsact"] {
        let Some(world) = quiet_world() else { return };
        let _servers = Servers::new(&world, &[80, 81], &[]);
        let both = world.policy("both.yaml", &tcp_ports(&[80, 81]));
        let one = world.policy("one.yaml", &tcp_ports(&[81]));
        world.attach(&both, &["--hook", hook]);
        let mut kept = connect(&world, &format!("{POD_V4}:81")).unwrap();
        let mut cut = connect(&world, &format!("{POD_V4}:80")).unwrap();
        assert!(echoes(&mut kept) && echoes(&mut cut));
        world.attach(&one, &[]);
        assert!(echoes(&mut kept) && echoes(&mut cut), "{hook}: kept without the flag");
        world.attach(&one, &["--recheck-established"]);
        assert!(echoes(&mut kept), "{hook}: still allowed");
        assert!(!echoes(&mut cut), "{hook}: no longer allowed");
    }
}

#[test]
fn a_denied_connection_is_cut_from_both_ends() {
    for hook in ["tcx", "clsact"] {
        let Some(world) = quiet_world() else { return };
        let rules = "    - { action: Allow, protocol: UDP, destination: { ports: [53] } }";
        world.attach(&world.policy("udp.yaml", &calico_ingress(rules)), &["--hook", hook]);
        let socket = |namespace: &str, address: &str| {
            let socket = within(namespace, || UdpSocket::bind(address).unwrap());
            socket.set_read_timeout(Some(Duration::from_millis(250))).unwrap();
            socket
        };
        let (client, server) = (format!("{NODE_V4}:5000"), format!("{POD_V4}:53"));
        let (at_node, at_pod) = (socket(&world.node, &client), socket(&world.pod, &server));
        let passes = |from: &UdpSocket, to: &UdpSocket, address: &str| {
            from.send_to(b"hello", address).unwrap();
            to.recv(&mut [0; 16]).is_ok()
        };
        assert!(passes(&at_node, &at_pod, &server) && passes(&at_pod, &at_node, &client), "{hook}");
        world.attach(&world.policy("tcp.yaml", &tcp_ports(&[80])), &["--recheck-established"]);
        assert!(!passes(&at_node, &at_pod, &server), "{hook}: no longer allowed");
        // Egress has no policy: the pod may begin anything but this again.
        assert!(!passes(&at_pod, &at_node, &client), "{hook}: an answer of what is denied");
        let other = socket(&world.pod, &format!("{POD_V4}:54"));
        assert!(passes(&other, &at_node, &client), "{hook}: a connection of its own");
        world.attach(&world.policy("udp.yaml", &calico_ingress(rules)), &["--recheck-established"]);
        assert!(passes(&at_pod, &at_node, &client), "{hook}: goes on where it is allowed again");
    }
}

#[test]
fn a_full_table_makes_room_for_new_connections() {
    let Some(world) = quiet_world() else { return };
    let _servers = Servers::new(&world, &[80], &[]);
    world.attach(&world.policy("p.yaml", &tcp_ports(&[80])), &[]);
    let mut stream = connect(&world, &format!("{POD_V4}:80")).unwrap();
    assert!(echoes(&mut stream));
    let map = Map::open(&world.fs.path().join("polc/maps").join(abi::CONNTRACK_MAP)).unwrap();
    let definition = map.definition();
    let (one_key, one_value) = map.entries(1).unwrap().remove(0);
    // Twice as many connections of another endpoint as there is room for.
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    for number in 0..definition.max_entries * 2 {
        let mut key = one_key.clone();
        key[..4].copy_from_slice(&77u32.to_ne_bytes());
        key[4..8].copy_from_slice(&number.to_ne_bytes());
        keys.extend(key);
        values.extend(&one_value);
    }
    map.update_batch(&keys, &values).unwrap();
    let tracked = json(&world, &["conntrack", "dump"], "conntrack");
    let tracked = tracked["connections"].as_array().unwrap().len();
    let room = definition.max_entries as usize;
    // The kernel keeps some free on each CPU.
    assert!((room * 3 / 4..=room).contains(&tracked), "{tracked} of {room}");
    assert!(tcp(&world, &format!("{POD_V4}:80")), "a new one");
    assert!(echoes(&mut stream), "one that was pushed out and is policy's again");
}

#[test]
fn sets_and_rules_are_listed() {
    let Some(world) = quiet_world() else { return };
    let _servers = Servers::new(&world, &[80, 81], &[]);
    let rules = format!(
        "    - {{ action: Allow, protocol: TCP, source: {{ nets: [\"{NODE_V4}/32\"] }}, destination: {{ ports: [80] }} }}"
    );
    let policy = world.policy("p.yaml", &calico_ingress(&rules));
    world.attach(&policy, &[]);
    assert!(tcp(&world, &format!("{POD_V4}:80")) && !tcp(&world, &format!("{POD_V4}:81")));
    let sets = world.ok(&["ipsets", "dump"]);
    assert!(sets.starts_with("IP set 0x") && sets.contains(&format!("   {NODE_V4}/32\n")), "{sets}");
    json(&world, &["ipsets", "dump"], "ipsets");
    json(&world, &["status"], "status");
    let dump = json(&world, &["policy", "dump", IFACE, "ingress"], "policy");
    let rule = &dump["rules"][0];
    assert_eq!(rule["decided_by"]["name"], "mixed");
    assert!(rule["at"].as_str().unwrap().ends_with("p.yaml:13"), "{rule}");
    assert!(rule["decided_by"]["text"].as_str().unwrap().contains("action: Allow"), "{rule}");
    assert_eq!(rule["hits"], 1, "the SYN of one connection: {rule}");
    let end = &dump["rules"][1];
    assert_eq!((&end["decided_by"]["type"], &end["hits"]), (&"tier-default".into(), &1.into()), "{end}");
    let shown = world.ok(&["policy", "dump", IFACE, "ingress", "--asm"]);
    assert!(shown.contains("NetworkPolicy default/mixed rule 0") && shown.contains("exit"), "{shown}");
    let missing = world.polc(&["policy", "dump", "none9", "ingress"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(text(&missing).contains("nothing is attached to interface `none9`"));
}

#[test]
fn decisions_are_logged_while_somebody_follows() {
    let Some(world) = quiet_world() else { return };
    let _servers = Servers::new(&world, &[80, 81], &[]);
    world.attach(&world.policy("p.yaml", &tcp_ports(&[80])), &[]);
    assert!(tcp(&world, &format!("{POD_V4}:80")));
    let follow = |more: &[&str]| {
        let arguments = [&["log", "--iface", IFACE, "--seconds", "2"], more].concat();
        let child = world.command(&arguments).stdout(Stdio::piped()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(600));
        assert!(tcp(&world, &format!("{POD_V4}:80")) && !tcp(&world, &format!("{POD_V4}:81")));
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    };
    let lines = follow(&[]);
    let has = |parts: &[&str]| lines.lines().any(|line| parts.iter().all(|part| line.contains(part)));
    assert!(has(&["cali0----I: Final result=ALLOW (-1). Program execution time: ", "ns  TCP "]), "{lines}");
    assert!(has(&["Final result=DENY (2)", &format!("{POD_V4}:81"), "end of tier default"]), "{lines}");
    assert!(
        has(&[
            "Final result=ALLOW",
            &format!("{POD_V4}:80"),
            "NetworkPolicy default/ports rule 0",
            "p.yaml:"
        ]),
        "{lines}"
    );
    for line in follow(&["-o", "json"]).lines() {
        valid(&serde_json::from_str(line).unwrap(), "log");
    }
    // It was on for the follower only; left on, records wait for one.
    assert_eq!(world.ok(&["log", "--seconds", "0"]), "");
    world.ok(&["log", "--on"]);
    assert!(tcp(&world, &format!("{POD_V4}:80")));
    let waiting = world.ok(&["log", "-n", "3", "--seconds", "5"]);
    assert_eq!(waiting.lines().count(), 3, "{waiting}");
    world.ok(&["log", "--off"]);
}

#[test]
fn the_log_is_off_when_its_follower_is_interrupted_or_not_read() {
    let Some(world) = quiet_world() else { return };
    let _servers = Servers::new(&world, &[80], &[]);
    world.attach(&world.policy("p.yaml", &tcp_ports(&[80])), &[]);
    let is_on = || {
        let settings = Map::open(&world.fs.path().join("polc/maps").join(abi::SETTINGS_MAP)).unwrap();
        let value = settings.lookup(&[0; 4]).unwrap().unwrap();
        u32::from_ne_bytes(value[..4].try_into().unwrap()) & abi::config::SETTING_LOG != 0
    };
    for signal in ["-INT", "-TERM"] {
        let mut child = world.command(&["log"]).stdout(Stdio::null()).spawn().unwrap();
        soon("it is on", is_on);
        signal_to(&child, signal);
        assert_eq!(child.wait().unwrap().code(), Some(0), "{signal}");
        assert!(!is_on(), "{signal}");
    }
    let mut child = world.command(&["log"]).stdout(Stdio::piped()).spawn().unwrap();
    soon("it is on", is_on);
    drop(child.stdout.take());
    assert!(tcp(&world, &format!("{POD_V4}:80")));
    assert_eq!(child.wait().unwrap().code(), Some(0), "a closed pipe is no error");
    assert!(!is_on());
}

#[test]
fn status_tells_what_is_not_enforced_and_attaching_again_mends_it() {
    let Some(world) = quiet_world() else { return };
    let _servers = Servers::new(&world, &[80, 81], &[]);
    let policy = world.policy("p.yaml", &tcp_ports(&[80]));
    world.attach(&policy, &["--hook", "clsact"]);
    world.node_command(&format!("tc filter del dev {IFACE} egress"));
    let status = world.polc(&["status", "-o", "json"]);
    assert_eq!(status.status.code(), Some(1), "{}", text(&status));
    let status: Value = serde_json::from_slice(&status.stdout).unwrap();
    valid(&status, "status");
    let directions = status["interfaces"][0]["directions"].as_array().unwrap();
    let states: Vec<_> = directions.iter().map(|d| d["state"].as_str().unwrap()).collect();
    // A pod's ingress leaves through its interface.
    assert_eq!(states, ["not attached", "enforced"]);
    assert!(tcp(&world, &format!("{POD_V4}:81")), "nobody denies");
    world.attach(&policy, &[]);
    assert_eq!(world.ok(&["status", "-o", "json"]).matches("\"enforced\"").count(), 2);
    assert!(tcp(&world, &format!("{POD_V4}:80")) && !tcp(&world, &format!("{POD_V4}:81")));
}

#[test]
fn dumps_of_nothing_are_empty_or_say_so() {
    let Some(world) = World::new() else { return };
    assert_eq!(world.ok(&["status"]), "nothing is attached\n");
    assert_eq!(world.ok(&["ipsets", "dump"]), "");
    assert_eq!(world.ok(&["conntrack", "dump"]), "");
    for arguments in
        [&["counters", "dump", "--iface", IFACE][..], &["log"], &["detach", "--interface", IFACE]]
    {
        assert_eq!(world.polc(arguments).status.code(), Some(2), "{arguments:?}");
    }
    assert_eq!(world.pins(), [""; 0]);
}
