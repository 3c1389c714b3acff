//! Emitted objects against this kernel, through bpftool.
//!
//! Needs root, bpftool and unshare; without them each test prints why it is
//! skipped, or fails if `POLC_REQUIRE_KERNEL=1`. Everything happens in a mount
//! namespace of its own with its own bpffs, so that no pin outlives a test.

use std::path::{Path, PathBuf};
use std::process::Command;

use ipnet::IpNet;
use polc_compiler::emit::{EmitOptions, Form, emit};
use polc_compiler::image::{PolicyImage, elf};
use polc_compiler::ir::generate::{Shape, policy};
use polc_compiler::ir::{
    Action, AddrSetData, ChainData, ChainEnd, DecisionData, DecisionKind, Direction, Match, Origin, PolicyIr,
    PortMatch, RuleData, RuleOrigins, SetKind, SideMatch,
};

/// A folder that goes when the test ends.
struct Folder(PathBuf);

impl Folder {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("polc-elf-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Whether bpftool can be used; tells why not.
fn kernel(test: &str) -> bool {
    let probe = in_own_bpffs("bpftool prog list >/dev/null", Path::new("/"));
    let reason = match probe {
        Ok(_) => return true,
        Err(reason) => reason,
    };
    assert!(std::env::var_os("POLC_REQUIRE_KERNEL").is_none_or(|v| v != "1"), "{test}: {reason}");
    eprintln!("{test}: skipped: {}", reason.trim());
    false
}

/// Runs a shell script in a new mount namespace with a fresh bpffs.
fn in_own_bpffs(script: &str, folder: &Path) -> Result<String, String> {
    let script = format!("set -e; mount -t bpf bpf /sys/fs/bpf; {script}");
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .current_dir(folder)
        .output()
        .map_err(|e| format!("unshare: {e}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn yaml(_: &str, line: u32) -> Option<String> {
    Some(format!("  - from: # line {line} of the policy"))
}

/// Loads every program of the image and returns the translated programs with lines.
fn load(name: &str, image: &PolicyImage) -> String {
    let folder = Folder::new(name);
    std::fs::write(folder.0.join("policy.o"), elf(image, &yaml).unwrap()).unwrap();
    let script = "mkdir /sys/fs/bpf/p; bpftool prog loadall policy.o /sys/fs/bpf/p; ls /sys/fs/bpf/p | wc -l; \
                  for p in /sys/fs/bpf/p/*; do bpftool prog dump xlated pinned $p linum; done";
    let out = in_own_bpffs(script, &folder.0).unwrap_or_else(|e| panic!("{name}: {e}"));
    let (count, dump) = out.split_once('\n').unwrap();
    assert_eq!(count.trim().parse(), Ok(image.programs.len()), "{name}");
    dump.to_string()
}

#[test]
fn one_program_loads_and_shows_its_yaml() {
    if !kernel("one_program_loads_and_shows_its_yaml") {
        return;
    }
    let image = emit(&many_rules(3, 2), &chain()).unwrap();
    assert_eq!(image.programs.len(), 1);
    let dump = load("one", &image);
    for line in 10..13 {
        let want =
            format!("; - from: # line {line} of the policy [file:policy.yaml line_num:{line} line_col:3]");
        assert!(dump.contains(&want), "{want}\n{dump}");
    }
}

/// An object must not ask for a bpffs at a certain place: bpftool mounts the
/// one that it was told to pin to.
#[test]
fn it_loads_where_no_bpffs_is_mounted() {
    if !kernel("it_loads_where_no_bpffs_is_mounted") {
        return;
    }
    let folder = Folder::new("bare");
    let image = emit(&many_rules(3, 2), &EmitOptions::default()).unwrap();
    std::fs::write(folder.0.join("policy.o"), elf(&image, &yaml).unwrap()).unwrap();
    let script = "umount /sys/fs/bpf; bpftool prog load policy.o /sys/fs/bpf/policy; \
                  bpftool prog show pinned /sys/fs/bpf/policy";
    let out = in_own_bpffs(script, &folder.0).unwrap();
    assert!(out.contains("sched_cls"), "{out}");
}

#[test]
fn the_same_image_gives_the_same_bytes() {
    for seed in 0..50 {
        let ir = policy(seed, &Shape::default());
        let bytes = |ir: &PolicyIr| elf(&emit(ir, &EmitOptions::default()).unwrap(), &yaml).unwrap();
        assert_eq!(bytes(&ir), bytes(&ir.clone()), "seed {seed}");
    }
}

#[test]
fn drawn_policies_load() {
    if !kernel("drawn_policies_load") {
        return;
    }
    for seed in 0..12 {
        let ir = policy(seed, &Shape { sets: 40, rules: 30, ports: 9, ..Shape::default() });
        load(&format!("drawn{seed}"), &emit(&ir, &EmitOptions::default()).unwrap());
    }
}

#[test]
fn several_programs_load() {
    if !kernel("several_programs_load") {
        return;
    }
    let tiny = EmitOptions { form: Form::Chain, max_slots: 400, ..EmitOptions::default() };
    let image = emit(&policy(5, &Shape { rules: 40, ..Shape::default() }), &tiny).unwrap();
    assert!(image.programs.len() > 2);
    load("several", &image);
}

#[test]
fn a_thousand_rules_load_and_so_do_full_programs() {
    if !kernel("a_thousand_rules_load_and_so_do_full_programs") {
        return;
    }
    for (rules, ranges) in [(1_000, 2), (5_000, 2), (3_000, 5), (2_000, 9), (300, 100)] {
        let image = emit(&many_rules(rules, ranges), &chain()).unwrap();
        let slots: Vec<u32> = image.programs.iter().map(|p| p.code.slots()).collect();
        eprintln!("{rules} rules of {ranges} port ranges: {slots:?} slots");
        load(&format!("rules{rules}x{ranges}"), &image);
    }
}

/// One rule after the other, each with its line.
fn chain() -> EmitOptions {
    EmitOptions { form: Form::Chain, ..EmitOptions::default() }
}

/// Rules of what leaves most branches behind: protocol, several ports, both sides.
fn many_rules(n: u32, ranges: u16) -> PolicyIr {
    let mut ir = PolicyIr::new("shop/web", Direction::Ingress);
    let file = ir.files.push("policy.yaml".into());
    let mut rules = Vec::new();
    for i in 0..n {
        let at = Some(Origin { file, line: 10 + i, column: 3 });
        let nets: Vec<IpNet> = vec![format!("10.{}.{}.0/24", i / 256, i % 256).parse().unwrap()];
        let set = ir.sets.push(AddrSetData { kind: SetKind::Members, name: format!("role == 'r{i}'"), nets });
        let decision = ir.decisions.push(decision(DecisionKind::Rule, Some(i), Action::Allow, at));
        let port = 1 + (i * 7) as u16 % 60_000;
        let ports = (0..ranges).map(|k| PortMatch::Range(port + 5 * k, port + 5 * k + k % 3)).collect();
        let matches = Match {
            protocol: Some(if i % 3 == 0 { 17 } else { 6 }),
            src: SideMatch { in_sets: vec![set], ..Default::default() },
            dst: SideMatch { ports: Some(ports), not_in: vec![set], ..Default::default() },
            ..Default::default()
        };
        let origins = RuleOrigins { rule: at, ..Default::default() };
        rules.push(ir.rules.push(RuleData { matches, action: Action::Allow, decision, origins }));
    }
    let end = ir.decisions.push(decision(DecisionKind::TierDefault, None, Action::Deny, None));
    let chain = ir.chains.push(ChainData { name: "default".into(), rules, end: ChainEnd::Deny(end) });
    ir.order.push(chain);
    ir
}

fn decision(kind: DecisionKind, rule: Option<u32>, action: Action, at: Option<Origin>) -> DecisionData {
    DecisionData {
        kind,
        api: "networking.k8s.io/v1".into(),
        object: "NetworkPolicy".into(),
        namespace: Some("shop".into()),
        name: "web".into(),
        tier: Some("default".into()),
        rule,
        action,
        at,
    }
}
