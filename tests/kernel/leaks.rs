//! Attaching, breaking and detaching leaves no program, map, pin, link or qdisc.

use std::time::{Duration, Instant};

use polc_compiler::bpf::{Code, Insn};
use polc_compiler::image::{self, MapSpec, PolicyImage, no_source_lines};
use polc_compiler::ir::Direction;
use polc_runtime::kernel::{AttachRequest, Dataplane, Hook, LoaderError, Policy};
use polc_runtime::sys::bpf::{Map, ObjectKind, Program, object_ids};

use crate::policies::tcp_ports;
use crate::world::{IFACE, World, attach, within};

/// Ids of all programs, maps and links of the host that carry polc's names.
fn objects() -> Vec<(ObjectKind, u32)> {
    let mut found = Vec::new();
    for kind in [ObjectKind::Program, ObjectKind::Map, ObjectKind::Link] {
        found.extend(object_ids(kind).unwrap().into_iter().map(|id| (kind, id)));
    }
    found
}

/// Waits for what the kernel frees a little later, after a grace period.
pub fn until_gone(pins: &[(ObjectKind, u32)]) {
    let start = Instant::now();
    loop {
        let left: Vec<_> = pins.iter().filter(|object| objects().contains(object)).collect();
        if left.is_empty() {
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "left behind: {left:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Everything that is pinned under the world's bpffs, and what it refers to.
pub fn pinned(world: &World) -> Vec<(ObjectKind, u32)> {
    let mut found = Vec::new();
    for pin in world.pins() {
        let path = world.fs.path().join(pin);
        if let Ok(map) = Map::open(&path) {
            found.push((ObjectKind::Map, map.id()));
        } else if let Ok(program) = Program::open(&path) {
            let info = program.info().unwrap();
            found.push((ObjectKind::Program, info.id));
            found.extend(info.maps.into_iter().map(|id| (ObjectKind::Map, id)));
        } else if let Ok(link) = polc_runtime::sys::bpf::Link::open(&path) {
            found.push((ObjectKind::Link, link.info().unwrap().id));
        }
    }
    found
}

#[test]
fn nothing_is_left_behind() {
    for hook in ["tcx", "clsact"] {
        let Some(world) = World::new() else { return };
        let qdiscs = world.node_command(&format!("tc qdisc show dev {IFACE}"));
        let policies = [&[80][..], &[81], &[]].map(tcp_ports);
        let mut seen = Vec::new();
        for (index, yaml) in policies.iter().enumerate() {
            let policy = world.policy(&format!("{index}.yaml"), yaml);
            world.attach(&policy, &["--hook", hook]);
            let now = pinned(&world);
            let kinds = |kind| now.iter().filter(|(k, _)| *k == kind).count();
            assert!(kinds(ObjectKind::Program) >= 6 && kinds(ObjectKind::Map) >= 5, "{now:?}");
            assert_eq!(kinds(ObjectKind::Link), if hook == "tcx" { 2 } else { 0 });
            seen.extend(now);
            // Broken off in the middle, with a policy that was never in force.
            let other = world.policy("other.yaml", &tcp_ports(&[90 + index as u16]));
            let (mut child, _) = world.stopped_at(&attach(&other), 3).unwrap();
            seen.extend(pinned(&world));
            child.kill().unwrap();
            child.wait().unwrap();
        }
        seen.sort_by_key(|(kind, id)| (*kind as u8, *id));
        seen.dedup();
        world.ok(&["detach", "--interface", IFACE]);
        assert_eq!(world.pins(), [""; 0]);
        assert_eq!(world.node_command(&format!("tc qdisc show dev {IFACE}")), qdiscs);
        until_gone(&seen);
    }
}

#[test]
fn a_qdisc_that_was_there_stays() {
    let Some(world) = World::new() else { return };
    world.node_command(&format!("tc qdisc add dev {IFACE} clsact"));
    let policy = world.policy("policy.yaml", &tcp_ports(&[80]));
    world.attach(&policy, &["--hook", "clsact"]);
    world.attach(&policy, &["--hook", "tcx"]);
    world.attach(&policy, &["--hook", "clsact"]);
    world.ok(&["detach", "--interface", IFACE]);
    let left = world.node_command(&format!("tc qdisc show dev {IFACE}"));
    assert!(left.contains("clsact"), "{left}");
    assert_eq!(world.node_command(&format!("tc filter show dev {IFACE} ingress")), "");
}

/// A policy that the verifier refuses: it returns what it never set. It has a table that
/// others could share.
fn refused_by_the_verifier() -> PolicyImage {
    PolicyImage {
        name: "refused".into(),
        direction: Direction::Ingress,
        programs: vec![image::Program {
            name: "refused".into(),
            code: Code::new(vec![Insn::Exit]).unwrap(),
            notes: Vec::new(),
            labels: Vec::new(),
        }],
        maps: vec![MapSpec { fixed: true, ..MapSpec::array("table", 8, 1, vec![1; 8], u64::MAX) }],
        decisions: Vec::new(),
        files: Vec::new(),
        hits: Vec::new(),
        considered: Vec::new(),
    }
}

#[test]
fn an_attach_that_fails_leaves_nothing() {
    let Some(world) = World::new() else { return };
    let policy = world.policy("policy.yaml", &tcp_ports(&[80]));
    let nowhere = world.polc(&["attach", &policy, "--interface", "none9", "--endpoint", "default/pod"]);
    assert_eq!(nowhere.status.code(), Some(2));
    assert_eq!(world.pins(), [""; 0]);
    let image = refused_by_the_verifier();
    let attach_bad = |hook| {
        within(&world.node, || {
            let mut plane = Dataplane::open(world.fs.path(), Duration::ZERO).unwrap();
            let bad = Policy { image: &image, xdp: false, sets: &[], lines: &no_source_lines };
            let request =
                AttachRequest { hook: Some(hook), ..AttachRequest::new(IFACE, "default/pod", [bad, bad]) };
            let refused = plane.attach(&request).unwrap_err();
            assert!(matches!(refused, LoaderError::Refused { .. }), "{refused}");
            assert!(refused.to_string().contains("R0 !read_ok"), "{refused}");
            plane.close().unwrap();
        });
    };
    for (hook, name) in [(Hook::Tcx, "tcx"), (Hook::Clsact, "clsact")] {
        let qdiscs = world.node_command(&format!("tc qdisc show dev {IFACE}"));
        attach_bad(hook);
        assert_eq!(world.pins(), [""; 0], "{name}");
        world.attach(&policy, &["--hook", name]);
        let before = world.pins();
        attach_bad(hook);
        assert_eq!(world.pins(), before, "{name}");
        world.ok(&["detach", "--interface", IFACE]);
        assert_eq!(world.pins(), [""; 0], "{name}");
        assert_eq!(world.node_command(&format!("tc qdisc show dev {IFACE}")), qdiscs);
    }
}
