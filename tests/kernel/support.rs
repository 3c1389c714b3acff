//! Hosts that lack something: what is said, and that nothing is left behind.

use std::process::Output;

use polc_runtime::kernel::support::{ENABLED, NOT_SUPPORTED};

use crate::policies::tcp_ports;
use crate::traffic::{Servers, soon, tcp};
use crate::world::{IFACE, POD_V4, World, attach, text};

/// `polc` without some capabilities, as `setpriv` spells them.
fn without(world: &World, capabilities: &str, arguments: &[&str]) -> Output {
    let wrapper = ["setpriv", "--bounding-set", capabilities, "--inh-caps", capabilities];
    let polc = [env!("CARGO_BIN_EXE_polc")];
    let bpffs = ["--bpffs", world.fs.path().to_str().unwrap()];
    world.in_namespace(&[&wrapper[..], &polc, arguments, &bpffs].concat())
}

/// `polc` on a bpffs that the arguments name.
fn on(world: &World, arguments: &[&str]) -> Output {
    world.in_namespace(&[&[env!("CARGO_BIN_EXE_polc")][..], arguments].concat())
}

fn is_refused(output: &Output, missing: &[&str]) {
    let said = text(output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("ERROR {NOT_SUPPORTED}\n")) && !said.contains(ENABLED), "{said}");
    assert!(said.contains("this host lacks what enforcing policy in the kernel takes:\n"), "{said}");
    let listed = said.lines().filter(|line| line.starts_with("  - ")).count();
    assert_eq!(listed, missing.len(), "{said}");
    for what in missing {
        assert!(said.contains(&format!("\n  - {what}")), "{what}: {said}");
    }
    assert!(said.contains("`polc run` and `polc explain` work without it, in userspace"), "{said}");
}

#[test]
fn a_start_is_announced() {
    let Some(world) = World::new() else { return };
    let policy = world.policy("policy.yaml", &tcp_ports(&[80]));
    let said = text(&world.polc(&attach(&policy)));
    assert!(said.contains(&format!("INFO {ENABLED}\n")) && !said.contains(NOT_SUPPORTED), "{said}");
    let jit = std::fs::read_to_string("/proc/sys/net/core/bpf_jit_enable").unwrap_or("1".into());
    assert_eq!(said.contains("programs are interpreted"), jit.trim() == "0", "{said}");
}

#[test]
fn without_capabilities_what_is_missing_is_named() {
    let Some(world) = World::new() else { return };
    let policy = world.policy("policy.yaml", &tcp_ports(&[80]));
    let net = "CAP_NET_ADMIN: attaching to an interface takes it";
    let ids = "CAP_SYS_ADMIN: ids of programs and maps are open to it";
    let loading = "CAP_SYS_ADMIN: loading programs takes it";
    let right = "the right to load a program: run as root, or with CAP_BPF and CAP_NET_ADMIN";
    for (dropped, missing) in [
        ("-net_admin", &[net][..]),
        ("-sys_admin", &[ids]),
        ("-sys_admin,-bpf", &[loading, right]),
        ("-all", &[net, loading, right]),
    ] {
        is_refused(&without(&world, dropped, &attach(&policy)), missing);
        assert_eq!(world.pins(), [""; 0], "{dropped}");
    }
}

#[test]
fn what_may_not_be_seen_is_not_nothing() {
    let Some(world) = World::new() else { return };
    let policy = world.policy("policy.yaml", &tcp_ports(&[80]));
    let nobody = ["setpriv", "--reuid", "65534", "--clear-groups", "--inh-caps", "-all"];
    // A copy that nobody may run, wherever this was built.
    let copy = world.policy("polc", "");
    std::fs::copy(env!("CARGO_BIN_EXE_polc"), &copy).unwrap();
    let polc = [copy.as_str()];
    let bpffs = ["--bpffs", world.fs.path().to_str().unwrap()];
    world.attach(&policy, &[]);
    for arguments in [
        &["status"][..],
        &["counters", "dump", "--iface", IFACE],
        &["conntrack", "dump"],
        &["conntrack", "sweep"],
        &["ipsets", "dump"],
        &["policy", "dump", IFACE, "ingress"],
        &["log", "--seconds", "0"],
        &["detach", "--interface", IFACE],
        &["detach", "--all"],
    ] {
        let output = world.in_namespace(&[&nobody[..], &polc, arguments, &bpffs].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", text(&output));
        assert!(text(&output).contains("ermission denied"), "{arguments:?}: {}", text(&output));
        assert!(output.stdout.is_empty(), "{arguments:?}: {}", text(&output));
    }
    assert_eq!(world.ok(&["status", "-o", "json"]).matches("\"enforced\"").count(), 2);
}

#[test]
fn a_bpffs_is_asked_for_and_mounted_if_that_is_wanted() {
    let Some(world) = World::new() else { return };
    let _servers = Servers::new(&world, &[80, 81], &[]);
    let policy = world.policy("policy.yaml", &tcp_ports(&[80]));
    let folder = world.policy("README", "").replace("README", "bpf");
    std::fs::create_dir(&folder).unwrap();
    let attached = |more: &[&str]| on(&world, &[&attach(&policy)[..], &["--bpffs", &folder], more].concat());
    let missing = format!("a bpffs at {folder}: give --mount-bpffs, or run `mount -t bpf bpf {folder}`");
    is_refused(&attached(&[]), &[&missing]);
    assert_eq!(std::fs::read_dir(&folder).unwrap().count(), 0);
    let output = attached(&["--mount-bpffs"]);
    assert!(output.status.success(), "{}", text(&output));
    assert!(polc_runtime::sys::is_bpffs(folder.as_ref()).unwrap());
    soon("attached", || tcp(&world, &format!("{POD_V4}:80")) && !tcp(&world, &format!("{POD_V4}:81")));
    let again = attached(&["--mount-bpffs"]);
    assert!(again.status.success() && text(&again).contains("policy unchanged"), "not mounted twice");
    assert!(on(&world, &["detach", "--interface", IFACE, "--bpffs", &folder]).status.success());
    assert!(!std::path::Path::new(&folder).join("polc").exists());
    assert!(std::process::Command::new("umount").arg(&folder).status().unwrap().success());
    assert!(!polc_runtime::sys::is_bpffs(folder.as_ref()).unwrap(), "mounted once");
}
