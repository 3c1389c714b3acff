//! Host endpoints: normal policy, failsafe ports, untracked policy at XDP and
//! before tracking.

use polc_runtime::sys::bpf::{AttachPoint, DebugInfo, Link, ObjectKind, Program, ProgramKind, ProgramSource};
use polc_runtime::sys::interface_index;
use serde_json::Value;

use crate::crash::kill_at_every_step;
use crate::dumps::json;
use crate::leaks::{pinned, until_gone};
use crate::policies::{host, host_with, untracked};
use crate::traffic::{Servers, ping, soon, tcp, udp};
use crate::world::{HOST_IFACE, IFACE, NODE_V4, POD_V4, POD_V6, World, text, within};

fn attach(policy: &str) -> [&str; 6] {
    ["attach", policy, "--interface", HOST_IFACE, "--endpoint", "host"]
}

fn counters(world: &World) -> Value {
    json(world, &["counters", "dump", "--iface", HOST_IFACE], "counters")
}

/// A row of the counters: ingress, egress, XDP.
fn row(counters: &Value, category: &str, kind: &str) -> [u64; 3] {
    let rows = counters["counters"].as_array().unwrap();
    let row = rows.iter().find(|row| row["category"] == category && row["type"] == kind);
    let row = row.unwrap_or_else(|| panic!("{category} {kind}: {counters:#}"));
    ["ingress", "egress", "xdp"].map(|column| row[column].as_u64().unwrap())
}

/// Where the entry programs are that are in force.
fn hooks(world: &World) -> Vec<String> {
    let status = json(world, &["status"], "status");
    let all = status["interfaces"][0]["directions"].as_array().unwrap();
    assert!(all.iter().all(|d| d["state"] == "enforced"), "{status:#}");
    all.iter().map(|d| d["hook"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn normal_policy_and_failsafe_ports_of_a_host() {
    for hook in ["tcx", "clsact"] {
        let Some(world) = World::of_host() else { return };
        let _servers = Servers::new(&world, &[22, 90, 91], &[90, 91]);
        soon("no policy yet, v4", || tcp(&world, &format!("{POD_V4}:91")) && ping(&world.pod, NODE_V4));
        soon("no policy yet, v6", || tcp(&world, &format!("[{POD_V6}]:91")));
        let policy = world.policy("host.yaml", &host());
        world.ok(&[&attach(&policy)[..], &["--hook", hook]].concat());
        for host in [POD_V4, &format!("[{POD_V6}]")] {
            assert!(tcp(&world, &format!("{host}:90")) && udp(&world, &format!("{host}:90")), "{hook}");
            assert!(!tcp(&world, &format!("{host}:91")) && !udp(&world, &format!("{host}:91")), "{hook}");
            assert!(tcp(&world, &format!("{host}:22")), "{hook}: a failsafe port");
        }
        assert!(!ping(&world.pod, NODE_V4), "{hook}: nothing goes out");
        assert_eq!(hooks(&world), [hook; 2]);
        let counters = counters(&world);
        assert_eq!(row(&counters, "Accepted", "by failsafe"), [2, 0, 0], "{hook}");
        assert_eq!(row(&counters, "Total", "packets")[2], 0);
        world.ok(&["detach", "--interface", HOST_IFACE]);
        assert!(tcp(&world, &format!("{POD_V4}:91")) && ping(&world.pod, NODE_V4), "{hook}: detached");
    }
}

#[test]
fn untracked_policy_of_a_host_at_xdp() {
    for hook in ["tcx", "clsact"] {
        let Some(world) = World::of_host() else { return };
        let ports = [80, 81, 90, 91];
        let _servers = Servers::new(&world, &[&ports[..], &[22]].concat(), &ports);
        for host in [POD_V4, &format!("[{POD_V6}]")] {
            soon("no policy yet", || tcp(&world, &format!("{host}:91")));
        }
        let policy = world.policy("host.yaml", &untracked(80, 81, 0));
        world.ok(&[&attach(&policy)[..], &["--hook", hook]].concat());
        assert_eq!(hooks(&world), [hook, hook, "xdp", hook]);
        for host in [POD_V4, &format!("[{POD_V6}]")] {
            let at = |port: u16| format!("{host}:{port}");
            assert!(tcp(&world, &at(80)) && udp(&world, &at(80)), "{hook}: allowed untracked");
            assert!(!tcp(&world, &at(81)) && !udp(&world, &at(81)), "{hook}: denied untracked");
            assert!(tcp(&world, &at(90)) && udp(&world, &at(90)), "{hook}: left to normal policy");
            assert!(!tcp(&world, &at(91)) && !udp(&world, &at(91)), "{hook}: denied by normal policy");
            assert!(tcp(&world, &at(22)), "{hook}: a failsafe port");
        }
        let connections = world.ok(&["conntrack", "dump"]);
        assert!(connections.contains(":22}") && connections.contains(":90}"), "{connections}");
        assert!(!connections.contains(":80}"), "untracked: {connections}");

        let dump = |direction, more: &[&str]| {
            world.ok(&[&["policy", "dump", HOST_IFACE, direction, "--untracked"], more].concat())
        };
        assert!(dump("ingress", &[]).contains("GlobalNetworkPolicy untracked rule 3"), "{hook}");
        let instructions = dump("egress", &["--asm"]);
        assert!(instructions.contains("GlobalNetworkPolicy untracked rule 1"), "{instructions}");

        let before = counters(&world);
        assert!(row(&before, "Accepted", "by failsafe")[2] >= 2, "{before:#}");
        assert!(udp(&world, &format!("{POD_V4}:80")) && !udp(&world, &format!("{POD_V4}:81")));
        assert!(!udp(&world, &format!("{POD_V4}:91")));
        let after = counters(&world);
        let more = |category, kind| -> [u64; 3] {
            let (old, new) = (row(&before, category, kind), row(&after, category, kind));
            std::array::from_fn(|i| new[i] - old[i])
        };
        assert_eq!(more("Accepted", "by policy"), [0, 1, 1], "{hook}: one in at XDP, its answer at tc");
        assert_eq!(more("Accepted", "by another program"), [1, 0, 0], "{hook}: tc believes XDP");
        let [at_tc, _, at_xdp] = more("Dropped", "by policy");
        assert_eq!((at_tc, at_xdp), (1, 1), "{hook}: 91 at tc, 81 at XDP");
        assert!(more("Accepted", "left to normal policy")[2] >= 1, "{hook}");
    }
}

#[test]
fn untracked_policy_is_replaced_in_place_and_leaves_nothing_behind() {
    for hook in ["tcx", "clsact"] {
        let Some(world) = World::of_host() else { return };
        let _servers = Servers::new(&world, &[22, 80, 81, 90], &[]);
        let policies = [
            (untracked(80, 81, 0), true, false, true),
            (untracked(81, 80, 0), false, true, true),
            // Another decision says that there is nothing to say.
            (untracked(80, 81, 3), true, false, true),
            (host(), false, false, false),
            (untracked(81, 80, 1), false, true, true),
        ];
        let mut seen = Vec::new();
        let mut links = Vec::new();
        for (index, (yaml, first, second, at_xdp)) in policies.iter().enumerate() {
            let policy = world.policy(&format!("{index}.yaml"), yaml);
            world.ok(&[&attach(&policy)[..], &["--hook", hook]].concat());
            assert_eq!(tcp(&world, &format!("{POD_V4}:80")), *first, "{hook} {index}");
            assert_eq!(tcp(&world, &format!("{POD_V4}:81")), *second, "{hook} {index}");
            assert!(tcp(&world, &format!("{POD_V4}:90")) && tcp(&world, &format!("{POD_V4}:22")), "{index}");
            assert_eq!(hooks(&world).contains(&"xdp".to_owned()), *at_xdp, "{hook} {index}");
            let now = pinned(&world);
            links.push(now.iter().filter(|(kind, _)| *kind == ObjectKind::Link).copied().collect::<Vec<_>>());
            seen.extend(now);
        }
        let tc = if hook == "tcx" { 2 } else { 0 };
        assert_eq!(links.iter().map(Vec::len).collect::<Vec<_>>(), [tc + 1, tc + 1, tc + 1, tc, tc + 1]);
        assert!(links[0] == links[1] && links[1] == links[2], "the links stay: {links:?}");
        seen.sort_by_key(|(kind, id)| (*kind as u8, *id));
        seen.dedup();
        world.ok(&["detach", "--interface", HOST_IFACE]);
        assert_eq!(world.pins(), [""; 0]);
        until_gone(&seen);
        assert!(tcp(&world, &format!("{POD_V4}:80")) && tcp(&world, &format!("{POD_V4}:81")), "detached");
    }
}

#[test]
fn killed_while_untracked_policy_is_replaced() {
    // With the same decision the slot's program changes, with another one XDP's.
    for (rules, gone_over) in [(0, "slot of untracked ingress stored"), (2, "hook xdp changed")] {
        let Some(world) = World::of_host() else { return };
        let _servers = Servers::new(&world, &[80, 81], &[]);
        let old = world.policy("old.yaml", &untracked(80, 81, 0));
        let new = world.policy("new.yaml", &untracked(81, 80, rules));
        kill_at_every_step(&world, &attach(&old), &attach(&new), gone_over);
    }
}

/// Which of the ports 80, 81, 90 and 91 take connections. All are asked at once: what
/// is denied takes its time.
fn open(world: &World) -> [bool; 4] {
    std::thread::scope(|scope| {
        let asked = [80, 81, 90, 91].map(|port| scope.spawn(move || tcp(world, &format!("{POD_V4}:{port}"))));
        asked.map(|answer| answer.join().unwrap())
    })
}

#[test]
fn killed_while_untracked_policy_comes_or_goes() {
    // Each way at one hook, for it takes long: what else the hooks do, others kill.
    for (hook, old, new, name) in [
        ("tcx", host_with(&[80, 90]), untracked(81, 80, 0), "hook xdp attached"),
        ("clsact", untracked(80, 81, 0), host_with(&[81, 90]), "interface in place"),
    ] {
        let Some(world) = World::of_host() else { return };
        let _servers = Servers::new(&world, &[80, 81, 90, 91], &[]);
        let old = world.policy("old.yaml", &old);
        let new = world.policy("new.yaml", &new);
        let old = [&attach(&old)[..], &["--hook", hook]].concat();
        let new = [&attach(&new)[..], &["--hook", hook]].concat();
        world.ok(&old);
        let whole = world.pins();
        assert_eq!(open(&world), [true, false, true, false]);
        let mut seen = Vec::new();
        for step in 0.. {
            let Some((mut child, what)) = world.stopped_at(&new, step) else { break };
            child.kill().unwrap();
            child.wait().unwrap();
            // Each hook has the old policy or the new one. What both allow passes
            // whichever is where, and what both deny does not.
            let [_, _, both, neither] = open(&world);
            assert!(both && !neither, "{hook}, killed: {what}");
            world.ok(&old);
            assert_eq!(open(&world), [true, false, true, false], "{hook}, after {what}");
            assert_eq!(world.pins(), whole, "{hook}, left behind after {what}");
            seen.push(what);
        }
        assert!(seen.iter().any(|what| what.contains(name)), "{hook}, {name}: {seen:?}");
        assert_eq!(open(&world), [false, true, true, false], "{hook}");
        world.ok(&["detach", "--all"]);
        assert_eq!(world.pins(), [""; 0]);
        assert!(!world.host_command(&format!("ip link show dev {HOST_IFACE}")).contains("xdp"));
    }
}

/// A program at XDP that passes everything, as long as the link is held.
pub fn somebody_elses_xdp(world: &World) -> Link {
    // r0 = XDP_PASS; exit
    let code = [0xb7, 0, 0, 0, 2, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0];
    let source = ProgramSource {
        name: "theirs",
        kind: ProgramKind::Xdp,
        code: &code,
        license: "Apache-2.0",
        debug: DebugInfo::default(),
    };
    let program = Program::load(&source).unwrap();
    within(&world.pod, || {
        Link::create(&program, interface_index(HOST_IFACE).unwrap(), AttachPoint::Xdp).unwrap()
    })
}

#[test]
fn an_interface_whose_xdp_is_taken_is_refused_and_left_as_it_was() {
    for hook in ["tcx", "clsact"] {
        let Some(world) = World::of_host() else { return };
        let _servers = Servers::new(&world, &[80, 90], &[]);
        let normal = world.policy("normal.yaml", &host());
        let policy = world.policy("host.yaml", &untracked(80, 81, 0));
        let attach = |policy| world.polc(&[&attach(policy)[..], &["--hook", hook]].concat());
        let theirs = somebody_elses_xdp(&world);
        let hooked = || {
            let qdiscs = world.host_command(&format!("tc qdisc show dev {HOST_IFACE}"));
            world.host_command(&format!("bpftool net show dev {HOST_IFACE}")) + &qdiscs
        };
        let refused = || {
            let before = (world.pins(), hooked());
            let output = attach(&policy);
            assert_eq!(output.status.code(), Some(2), "{}", text(&output));
            assert!(text(&output).contains("one program fits there"), "{}", text(&output));
            assert_eq!((world.pins(), hooked()), before, "{hook}");
        };
        refused();
        assert!(tcp(&world, &format!("{POD_V4}:80")), "{hook}: nothing is attached");
        assert_eq!(world.pins(), [""; 0], "{hook}");
        assert!(attach(&normal).status.success());
        refused();
        assert!(tcp(&world, &format!("{POD_V4}:90")) && !tcp(&world, &format!("{POD_V4}:80")), "{hook}");
        assert_eq!(hooks(&world), [hook; 2]);
        drop(theirs);
        assert!(attach(&policy).status.success());
        assert!(tcp(&world, &format!("{POD_V4}:80")), "{hook}");
    }
}

#[test]
fn untracked_policy_where_the_driver_has_no_xdp() {
    let Some(world) = World::of_host() else { return };
    // veth has no room for whole packets of this size.
    for (namespace, dev) in [(&world.pod, HOST_IFACE), (&world.node, IFACE)] {
        world.ip(&format!("-n {namespace} link set {dev} mtu 9000"));
    }
    let _servers = Servers::new(&world, &[22, 80, 81, 90], &[]);
    soon("no policy yet", || tcp(&world, &format!("{POD_V4}:81")));
    let policy = world.policy("host.yaml", &untracked(80, 81, 0));
    world.ok(&attach(&policy));
    let shown = world.host_command(&format!("ip link show dev {HOST_IFACE}"));
    assert!(shown.contains("xdpgeneric"), "{shown}");
    for (port, open) in [(22, true), (80, true), (81, false), (90, true)] {
        assert_eq!(tcp(&world, &format!("{POD_V4}:{port}")), open, "{port}");
    }
    assert!(!world.ok(&["conntrack", "dump"]).contains(":80}"), "tc believes XDP here, too");
    world.ok(&["detach", "--interface", HOST_IFACE]);
    assert!(!world.host_command(&format!("ip link show dev {HOST_IFACE}")).contains("xdp"));
}
