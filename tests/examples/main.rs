//! Every example, through the command and all its engines.
//!
//! `intent.txt` is a table that was written by hand: what the policies mean for
//! the packets of the capture. The tool's output is held against it, against the
//! output of its other engines, and then against the checked-in `expected.jsonl`
//! and `expected.txt`, which `POLC_BLESS=1` writes again.
//!
//! Three things are worked out here a second time, with no code of polc's: which
//! pods own a packet's addresses, what its headers say (etherparse), and which
//! packets belong to a connection that was allowed before.

mod capture;
mod command;
mod intent;
mod model;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use command::{Evaluation, Run};
use intent::{Decision, Intent};
use model::Place;

const EXAMPLES: [&str; 4] = ["ip-allow-set", "default-deny-dns", "shop", "dual-stack"];

/// Engines in the order in which they are compared; the first sets the standard.
const ENGINES: [&str; 4] = ["reference", "interpreter", "cranelift", "kernel"];

fn folder(example: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples").join(example)
}

fn read(example: &str, file: &str) -> String {
    let path = folder(example).join(file);
    fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn blessing() -> bool {
    std::env::var_os("POLC_BLESS").is_some()
}

/// Compares with a checked-in file, or writes it when blessing.
fn golden(example: &str, file: &str, actual: &str) {
    if blessing() {
        fs::write(folder(example).join(file), actual).unwrap();
    }
    let path = folder(example).join(file);
    let expected = fs::read_to_string(&path).unwrap_or_default();
    let differs = expected.lines().zip(actual.lines()).position(|(e, a)| e != a);
    assert!(
        expected == actual,
        "{} differs from line {} on; POLC_BLESS=1 cargo test --test examples writes it again\n{actual}",
        path.display(),
        differs.unwrap_or(expected.lines().count().min(actual.lines().count())) + 1,
    );
}

/// What is to come out for one packet at one endpoint.
struct Expected {
    packet: usize,
    at: Place,
    /// `None` where neighbour discovery passes whatever policy says.
    decision: Option<Decision>,
    /// For messages.
    text: String,
}

/// Everything that is to come out, in the order of output, by the table and the
/// test's own reckoning. Each packet must have a line, each line a packet.
fn expectations(example: &str, stateless: bool) -> Vec<Expected> {
    let packets = capture::read(&folder(example).join("traffic.pcap"));
    let pods = model::pods(&read(example, "cluster.yaml"));
    let intent = Intent::parse(&read(example, "intent.txt"));
    let mut tracker = model::Tracker::new(stateless);
    let mut used = BTreeSet::new();
    let mut expected = Vec::new();
    for (number, packet) in packets.iter().enumerate() {
        for at in model::places(packet, &pods) {
            let decision = tracker.expect(&at, packet, &intent, &mut used);
            let text = format!("{example}, packet {number} ({packet}), {at}, stateless: {stateless}");
            expected.push(Expected { packet: number, at, decision, text });
        }
    }
    intent.assert_all_used(example, &used);
    expected
}

/// Holds the command's output against what is expected.
fn check(expected: &[Expected], got: &[Evaluation]) {
    for (want, got) in expected.iter().zip(got) {
        assert_eq!((got.packet, &got.at), (want.packet, &want.at), "{}", want.text);
        match &want.decision {
            Some(decision) => assert_eq!(got.decision, *decision, "{}", want.text),
            None => assert_eq!(got.decision.verdict, "allow", "{}", want.text),
        }
    }
    assert_eq!(expected.len(), got.len(), "evaluations");
}

/// The same JSON from every engine that there is, checked against the table.
fn run_engines(example: &str, stateless: bool) -> String {
    let expected = expectations(example, stateless);
    let mut standard: Option<String> = None;
    for engine in ENGINES {
        let run = Run { example, engine: Some(engine), stateless, json: true };
        let Some(json) = run.output() else { continue };
        let Some(standard) = &standard else {
            check(&expected, &command::evaluations(&json));
            standard = Some(json);
            continue;
        };
        assert!(*standard == json, "{example}: {engine} differs from {}:\n{json}", ENGINES[0]);
    }
    standard.expect("one engine runs everywhere")
}

fn example(name: &str) {
    run_engines(name, true);
    let json = run_engines(name, false);
    golden(name, "expected.jsonl", &json);
    let table = Run { example: name, engine: None, stateless: false, json: false }.output();
    golden(name, "expected.txt", &table.expect("the default engine runs everywhere"));
}

#[test]
fn ip_allow_set() {
    example("ip-allow-set");
}

#[test]
fn default_deny_dns() {
    example("default-deny-dns");
}

#[test]
fn shop() {
    example("shop");
}

#[test]
fn dual_stack() {
    example("dual-stack");
}

#[test]
fn every_packet_has_an_intention_and_every_intention_a_packet() {
    for example in EXAMPLES {
        assert!(!expectations(example, true).is_empty());
        let tracked = expectations(example, false);
        let by_connection = |e: &&Expected| e.decision.as_ref().is_some_and(|d| d.decided_by == "conntrack");
        assert!(tracked.iter().any(|e| by_connection(&e)), "{example}");
        assert!(
            tracked.iter().any(|e| e.decision.as_ref().is_some_and(|d| d.verdict == "deny")),
            "{example}"
        );
    }
}

#[test]
fn policies_compile_on_their_own() {
    for example in EXAMPLES {
        let listing = command::compile(example);
        assert!(listing.contains(&format!("examples/{example}/policy.yaml")), "{example}:\n{listing}");
    }
}

#[test]
fn captures_are_small_and_hold_what_they_should() {
    let mut seen = model::Variety::default();
    for example in EXAMPLES {
        let path = folder(example).join("traffic.pcap");
        let packets = capture::read(&path);
        assert!(fs::metadata(&path).unwrap().len() < 100_000, "{example}");
        assert!((50..300).contains(&packets.len()), "{example}: {} packets", packets.len());
        packets.iter().for_each(|packet| seen.note(packet));
    }
    assert_eq!(seen.missing(), [""; 0]);
}

#[test]
fn every_example_is_tested() {
    let mut folders: Vec<String> = fs::read_dir(folder(""))
        .unwrap()
        .map(|entry| entry.unwrap())
        .filter(|entry| entry.path().join("policy.yaml").exists())
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    folders.sort();
    let mut tested = EXAMPLES;
    tested.sort();
    assert_eq!(folders, tested);
}
