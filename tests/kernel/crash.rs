//! A loader that is killed at any step leaves the old policy in force, and the
//! next start cleans up.

use crate::policies::tcp_ports;
use crate::traffic::{Servers, tcp};
use crate::world::{IFACE, POD_V4, World, attach};

/// Which of the ports 80 and 81 the pod takes connections to.
fn open_ports(world: &World) -> (bool, bool) {
    (tcp(world, &format!("{POD_V4}:80")), tcp(world, &format!("{POD_V4}:81")))
}

const OLD: (bool, bool) = (true, false);
const NEW: (bool, bool) = (false, true);

/// Kills `new` at each of its steps, with the old policy in force before;
/// `gone_over` says behind which step the new policy may be in force.
pub fn kill_at_every_step(world: &World, old: &[&str], new: &[&str], gone_over: &str) {
    kill_beside(world, old, new, gone_over, &|_| ());
}

/// The same beside something that holds at every time. Gives the steps.
pub fn kill_beside(
    world: &World,
    old: &[&str],
    new: &[&str],
    gone_over: &str,
    holds: &dyn Fn(&str),
) -> Vec<String> {
    world.ok(old);
    let whole = world.pins();
    let mut behind = false;
    let mut steps = Vec::new();
    for step in 0.. {
        let Some((mut child, what)) = world.stopped_at(new, step) else {
            assert!(behind, "step `{gone_over}` was never reached");
            assert_eq!(open_ports(world), NEW);
            break;
        };
        behind |= what.contains(gone_over);
        child.kill().unwrap();
        child.wait().unwrap();
        let found = open_ports(world);
        assert_eq!(found, if behind { NEW } else { OLD }, "killed: {what}");
        holds(&what);
        // The next start cleans up; the policy that it is given is in force.
        world.ok(old);
        assert_eq!(open_ports(world), OLD, "after {what}");
        assert_eq!(world.pins(), whole, "left behind after {what}");
        holds(&what);
        steps.push(what);
    }
    world.ok(&["detach", "--all"]);
    assert_eq!(world.pins(), [""; 0]);
    steps
}

#[test]
fn killed_while_the_policy_is_replaced() {
    for hook in ["tcx", "clsact"] {
        let Some(world) = World::new() else { return };
        let _servers = Servers::new(&world, &[80, 81], &[]);
        let old = world.policy("old.yaml", &tcp_ports(&[80]));
        let new = world.policy("new.yaml", &tcp_ports(&[81]));
        let old = [&attach(&old)[..], &["--hook", hook]].concat();
        let new = [&attach(&new)[..], &["--hook", hook]].concat();
        kill_at_every_step(&world, &old, &new, "ingress slot stored");
    }
}

#[test]
fn killed_while_the_endpoint_is_replaced() {
    for hook in ["tcx", "clsact"] {
        let Some(world) = World::new() else { return };
        let _servers = Servers::new(&world, &[80, 81], &[]);
        let old = world.policy("old.yaml", &tcp_ports(&[80]));
        let other = tcp_ports(&[81]).replace("name: pod,", "name: other,");
        let other = world.policy("other.yaml", &other);
        let old = [&attach(&old)[..], &["--hook", hook]].concat();
        let new = ["attach", &other, "--interface", IFACE, "--endpoint", "default/other", "--hook", hook];
        kill_at_every_step(&world, &old, &new, "hook out changed");
    }
}

#[test]
fn killed_while_it_is_attached_first_or_detached() {
    for hook in ["tcx", "clsact"] {
        let Some(world) = World::new() else { return };
        let policy = world.policy("policy.yaml", &tcp_ports(&[80]));
        let attach = [&attach(&policy)[..], &["--hook", hook]].concat();
        let detach = ["detach", "--interface", IFACE];
        for (first, killed) in [(&detach[..], &attach[..]), (&attach[..], &detach[..])] {
            for step in 0.. {
                let _ = world.polc(first);
                let Some((mut child, what)) = world.stopped_at(killed, step) else { break };
                child.kill().unwrap();
                child.wait().unwrap();
                world.ok(&attach);
                let status = world.ok(&["status", "-o", "json"]);
                assert_eq!(status.matches("\"enforced\"").count(), 2, "{hook}, {what}: {status}");
                world.ok(&detach);
                assert_eq!(world.pins(), [""; 0], "{hook}, {what}");
                let qdiscs = world.node_command(&format!("tc qdisc show dev {IFACE}"));
                assert!(!qdiscs.contains("clsact"), "{hook}, {what}: {qdiscs}");
            }
        }
    }
}
