//! The agent: members become stores to tables in force, everything else a new policy,
//! and dumps say what the tables hold. Skipped, with the reason printed, without the
//! privileges; with POLC_REQUIRE_KERNEL=1 that is a failure.
#![cfg(target_os = "linux")]

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use polc_compiler::abi;
use polc_compiler::compile::CompileOptions;
use polc_compiler::image::no_source_lines;
use polc_compiler::ir::{self, AddrSet, Direction};
use polc_compiler::live::{Change, ResolvedPolicy};
use polc_runtime::agent::{Agent, EndpointPolicy, Outcome, Step};
use polc_runtime::kernel::{LoaderError, View};
use polc_runtime::sys::{PrivateBpfFs, enter_network_namespace};

/// A network namespace with two interfaces, which this thread is in.
struct Namespace(String);

impl Namespace {
    fn enter() -> Self {
        let new = Self(format!("polc-agent-{}", std::process::id()));
        ip(&format!("netns add {}", new.0));
        ip(&format!("-n {} link add cali0 type veth peer name cali1", new.0));
        enter_network_namespace(&File::open(format!("/run/netns/{}", new.0)).unwrap()).unwrap();
        new
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

fn ip(line: &str) {
    let output = Command::new("ip").args(line.split(' ')).output().unwrap();
    assert!(output.status.success(), "ip {line}: {output:?}");
}

/// Two sets and a list of networks; each may use the port.
fn policy(direction: Direction, port: u16, one: &str, two: &str) -> ResolvedPolicy {
    let side = if direction == Direction::Ingress { "src" } else { "dst" };
    let text = format!(
        r#"
        policy "p" {}
        decision0 = rule allow index 0 name "p"
        decision1 = tier-default deny name "t"
        set0 = members "one" {{ {one} }}
        set1 = members "two" {{ {two} }}
        set2 = nets "10.9.0.1/32" {{ 10.9.0.1/32 }}
        set3 = members "unused" {{ 10.8.0.1/32 }}
        chain0 "t" {{
          rule0: proto tcp; {side} in set0; dport {port} -> allow decision0
          rule1: proto tcp; {side} in set1; dport {port}, 81 -> allow decision0
          rule2: proto tcp; {side} in set2; dport 82 -> allow decision0
        }} deny decision1
        order chain0"#,
        direction.as_str()
    );
    ResolvedPolicy::new(ir::parse(&text).unwrap(), CompileOptions::default())
}

fn at<'a>(interface: &'a str, ingress: &'a ResolvedPolicy, egress: &'a ResolvedPolicy) -> EndpointPolicy<'a> {
    EndpointPolicy::new(interface, interface, [ingress, egress], &no_source_lines)
}

struct Node {
    agent: Agent,
    view: View,
}

impl Node {
    fn start(bpffs: &Path) -> Self {
        Self { agent: Agent::start(bpffs, Duration::from_secs(5)).unwrap(), view: View::new(bpffs).unwrap() }
    }

    /// Steps that were done, as letters with the interface.
    fn apply(&mut self, wanted: &[EndpointPolicy<'_>]) -> String {
        let outcomes = self.agent.apply(wanted).unwrap();
        let letter = |Outcome { step, error }: &Outcome| {
            assert!(error.is_none(), "{step:?}: {error:?}");
            let letter = match step {
                Step::Detach(_) => "detach",
                Step::Attach(_) => "attach",
                Step::Replace(_) => "replace",
                Step::Members(_) => "members",
            };
            format!("{letter} {}", step.interface())
        };
        outcomes.iter().map(letter).collect::<Vec<_>>().join(", ")
    }

    /// The images in force, ingress first.
    fn images(&self, interface: &str) -> [String; 2] {
        let record = self.view.record(interface).unwrap();
        [record.ingress.image, record.egress.image]
    }

    /// The sets of an interface's ingress policy with their members.
    fn members(&self) -> BTreeMap<String, Vec<String>> {
        self.view.members(&self.view.record("cali0").unwrap().ingress).unwrap()
    }
}

fn story(bpffs: &Path) {
    let mut node = Node::start(bpffs);
    let ingress = |one: &str, two: &str| policy(Direction::Ingress, 80, one, two);
    let first = ingress("10.0.0.1/32", "10.0.0.2/32, fd00::2/128");
    let out = policy(Direction::Egress, 80, "", "");
    assert_eq!(node.apply(&[at("cali0", &first, &out)]), "attach cali0");
    let images = node.images("cali0");
    assert_eq!(node.members()["two"], ["10.0.0.2/32", "fd00::2/128"]);
    assert_eq!(node.apply(&[at("cali0", &first, &out)]), "");

    // A pod comes, another one moves: stores to the tables in force.
    let more = ingress("10.0.0.2/32, 10.0.0.7/32", "10.0.0.1/32, fd00::2/128");
    assert_eq!(node.apply(&[at("cali0", &more, &out)]), "members cali0");
    assert_eq!(node.images("cali0"), images);
    assert_eq!(node.members()["one"], ["10.0.0.2/32", "10.0.0.7/32"]);
    assert_eq!(node.members()["two"], ["10.0.0.1/32", "fd00::2/128"]);
    assert_eq!(node.members()["10.9.0.1/32"], ["10.9.0.1/32"]);
    assert!(!node.members().contains_key("unused"), "no rule looks at it");
    assert_eq!(node.apply(&[at("cali0", &more, &out)]), "");

    // One direction is another policy, the other one gets members.
    let other = policy(Direction::Egress, 443, "", "");
    let third = ingress("10.0.0.2/32", "10.0.0.1/32");
    assert_eq!(node.apply(&[at("cali0", &third, &other)]), "replace cali0, members cali0");
    assert_eq!(node.images("cali0")[0], images[0]);
    assert_ne!(node.images("cali0")[1], images[1]);
    assert_eq!(node.members()["one"], ["10.0.0.2/32"]);

    // Tables that know no IPv6 prefix have no place for one: a new image.
    let wide = ingress("10.0.0.2/32, 10.4.0.0/16, fd04::/16", "10.0.0.1/32");
    assert_eq!(node.apply(&[at("cali0", &wide, &other)]), "replace cali0");
    assert_ne!(node.images("cali0")[0], images[0]);
    assert_eq!(node.members()["one"], ["10.0.0.2/32", "10.4.0.0/16", "fd04::/16"]);
    let (nets, two) = ("10.4.0.0/16, 10.5.0.0/16, 10.6.0.0/24", "10.0.0.1/32, 10.4.0.0/24");
    let wider = ingress(&format!("10.0.0.2/32, {nets}, fd04::/16"), two);
    assert_eq!(node.apply(&[at("cali0", &wider, &other)]), "members cali0", "with grace periods");
    assert_eq!(node.members()["one"], ["10.0.0.2/32", "10.4.0.0/15", "10.6.0.0/24", "fd04::/16"]);
    assert_eq!(node.members()["two"], ["10.0.0.1/32", "10.4.0.0/24"]);

    // Another interface with the same policy: as the tables are, they are no image that a
    // compile gives; from then on both share one.
    let both = [at("cali0", &wider, &other), at("cali1", &wider, &other)];
    assert_eq!(node.apply(&both), "attach cali1");
    let last = ingress(&format!("10.0.0.3/32, {nets}"), two);
    let both = [at("cali0", &last, &other), at("cali1", &last, &other)];
    assert_eq!(node.apply(&both), "members cali0, members cali1");
    assert_eq!(node.members()["one"], ["10.0.0.3/32", "10.4.0.0/15", "10.6.0.0/24"]);

    // Single changes, by who knows them.
    let change = |add: &[u32], net: &str| Change {
        net: net.parse().unwrap(),
        add: add.iter().copied().map(AddrSet::from_u32).collect(),
        remove: Vec::new(),
    };
    let mut single = |changes: &[Change]| node.agent.change_members("cali0", Direction::Ingress, changes);
    single(&[change(&[0, 1], "10.0.0.4/32"), change(&[0], "fd00::9/128")]).unwrap();
    assert!(matches!(single(&[change(&[2], "10.0.0.4/32")]), Err(LoaderError::Tables(_))));
    assert_eq!(
        node.members()["one"],
        ["10.0.0.3/32", "10.0.0.4/32", "10.4.0.0/15", "10.6.0.0/24", "fd00::9/128"]
    );

    // Another agent knows no tables: what was changed is replaced, what was not is kept.
    drop(node);
    let mut node = Node::start(bpffs);
    assert_eq!(
        node.members()["one"],
        ["10.0.0.3/32", "10.0.0.4/32", "10.4.0.0/15", "10.6.0.0/24", "fd00::9/128"]
    );
    assert_eq!(node.apply(&both), "replace cali0, replace cali1");
    assert_eq!(node.members()["one"], ["10.0.0.3/32", "10.4.0.0/16", "10.5.0.0/16", "10.6.0.0/24"]);
    let [ingress, egress] = node.images("cali0");
    assert_eq!(node.images("cali1"), [ingress, egress]);
    let again = policy(Direction::Ingress, 80, &format!("10.0.0.3/32, 10.0.0.5/32, {nets}"), two);
    let both = [at("cali0", &again, &other), at("cali1", &again, &other)];
    assert_eq!(node.apply(&both), "members cali0, members cali1");
    let record = node.view.record("cali1").unwrap();
    for reason in [abi::REASON_NO_PROGRAM, abi::REASON_NO_TABLE] {
        assert_eq!(node.view.counters(record.ingress.slot).unwrap().get(true, reason), 0);
    }
    assert_eq!(node.apply(&[]), "detach cali0, detach cali1");
}

#[test]
fn members_become_stores_and_everything_else_a_new_policy() {
    let Ok(fs) = PrivateBpfFs::new() else {
        let required = std::env::var_os("POLC_REQUIRE_KERNEL").is_some_and(|v| v == "1");
        assert!(!required, "no bpffs");
        return eprintln!("skipped: no bpffs");
    };
    std::thread::scope(|scope| {
        let run = || {
            let _namespace = Namespace::enter();
            story(fs.path());
        };
        scope.spawn(run).join().unwrap()
    });
}
