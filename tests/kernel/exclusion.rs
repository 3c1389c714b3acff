//! Two processes at once, pins of other versions, interfaces that go away.

use polc_compiler::abi;
use polc_runtime::sys::bpf::{Map, MapDefinition};

use crate::policies::tcp_ports;
use crate::traffic::{Servers, soon, tcp};
use crate::world::{IFACE, POD_V4, World, attach, text};

#[test]
fn of_two_processes_one_waits_or_is_refused() {
    let Some(world) = World::new() else { return };
    let _servers = Servers::new(&world, &[80, 81], &[]);
    let old = world.policy("old.yaml", &tcp_ports(&[80]));
    let new = world.policy("new.yaml", &tcp_ports(&[81]));
    world.attach(&old, &[]);
    let (mut first, _) = world.stopped_at(&attach(&new), 0).unwrap();
    let refused = world.polc(&[&attach(&old)[..], &["--wait", "0"]].concat());
    assert_eq!(refused.status.code(), Some(2));
    assert!(text(&refused).contains("another polc process has been changing"), "{}", text(&refused));
    let mut waiting = world.command(&attach(&old)).stderr(std::process::Stdio::null()).spawn().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert!(waiting.try_wait().unwrap().is_none(), "the second waits");
    drop(first.stdin.take());
    assert!(first.wait().unwrap().success() && waiting.wait().unwrap().success());
    assert!(tcp(&world, &format!("{POD_V4}:80")) && !tcp(&world, &format!("{POD_V4}:81")), "last one wins");
}

/// A record as polc pins it.
fn pin_record(world: &World, name: &str, json: &str) {
    std::fs::create_dir_all(world.fs.path().join("polc/maps")).unwrap();
    let definition = MapDefinition { kind: 2, key_size: 4, value_size: 256, max_entries: 1, flags: 0 };
    let map = Map::create("record", &definition).unwrap();
    let mut value = json.as_bytes().to_vec();
    value.resize(256, b' ');
    map.update(&[0; 4], &value).unwrap();
    map.pin(&world.fs.path().join("polc").join(name)).unwrap();
}

#[test]
fn pins_of_another_version_are_refused_and_can_be_removed() {
    let policy = tcp_ports(&[80]);
    let later = abi::ABI_VERSION + 1;
    let records = [
        (format!("{{\"abi\":{later},\"object\":\"x\"}}"), format!("ABI version {later}")),
        ("{\"layout\":\"new\"}".into(), "ABI version unknown".into()),
    ];
    for (json, said) in records {
        let Some(world) = World::new() else { return };
        let policy = world.policy("policy.yaml", &policy);
        pin_record(&world, "abi", &json);
        let before = world.pins();
        for arguments in [&attach(&policy)[..], &["status"], &["detach", "--interface", IFACE]] {
            let output = world.polc(arguments);
            assert_eq!(output.status.code(), Some(2), "{arguments:?}");
            let text = text(&output);
            assert!(text.contains(&said) && text.contains("polc detach --all"), "{text}");
        }
        assert_eq!(world.pins(), before);
        world.ok(&["detach", "--all"]);
        world.attach(&policy, &[]);
    }
}

#[test]
fn a_pinned_map_of_another_shape_is_refused() {
    let Some(world) = World::new() else { return };
    let policy = world.policy("policy.yaml", &tcp_ports(&[80]));
    world.attach(&policy, &[]);
    let path = world.fs.path().join("polc/maps").join(abi::CONNTRACK_MAP);
    std::fs::remove_file(&path).unwrap();
    let definition = MapDefinition { kind: 9, key_size: 8, value_size: 8, max_entries: 16, flags: 0 };
    Map::create(abi::CONNTRACK_MAP, &definition).unwrap().pin(&path).unwrap();
    let output = world.polc(&attach(&policy));
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("it would misread it"), "{}", text(&output));
}

#[test]
fn an_interface_that_disappears_leaves_nothing() {
    for hook in ["tcx", "clsact"] {
        let Some(world) = World::new() else { return };
        let _servers = Servers::new(&world, &[80, 81], &[]);
        let policy = world.policy("policy.yaml", &tcp_ports(&[80]));
        // In the middle of every step of a first attachment and of an update.
        for attached in [false, true] {
            let new = world.policy("new.yaml", &tcp_ports(&[81]));
            for step in 0.. {
                if attached {
                    world.attach(&policy, &["--hook", hook]);
                }
                let arguments = [&attach(&new)[..], &["--hook", hook]].concat();
                let Some((mut child, what)) = world.stopped_at(&arguments, step) else { break };
                world.ip(&format!("-n {} link del {IFACE}", world.node));
                drop(child.stdin.take());
                let output = child.wait_with_output().unwrap();
                if !output.status.success() {
                    let text = text(&output);
                    assert!(text.contains("is not there (any more)"), "{hook}, {what}: {text}");
                }
                world.make_link();
                soon(&what, || tcp(&world, &format!("{POD_V4}:81")));
                let _ = world.polc(&["detach", "--interface", IFACE]);
                assert_eq!(world.pins(), [""; 0], "{hook}, {what}");
            }
            let _ = world.polc(&["detach", "--interface", IFACE]);
        }
    }
}
