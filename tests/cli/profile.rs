//! Hit profiles: `polc run --profile-out`, `polc compile --profile`.

use serde_json::{Value, json};

use crate::captures;
use crate::schema::{check, profile_schema};
use crate::support::{Ran, Scene, polc};

/// Four rules on ports that no packet can have in common.
const RULES: &str = "\
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  selector: app == 'web'
  ingress:
  - {action: Allow, protocol: UDP, destination: {ports: [81]}}
  - {action: Allow, protocol: UDP, destination: {ports: [82]}}
  - {action: Allow, protocol: UDP, destination: {ports: [83]}}
  - {action: Log, protocol: UDP, destination: {ports: [84]}}
  - {action: Pass, protocol: UDP, destination: {ports: [84]}}
";

/// Ports of the packets that are replayed, and what each hits.
const PORTS: [u16; 6] = [83, 83, 83, 82, 84, 9];

fn scene() -> Scene {
    let scene = Scene::new();
    scene.write("policy.yaml", RULES.as_bytes());
    let packets: Vec<Vec<u8>> = PORTS
        .iter()
        .enumerate()
        .map(|(i, port)| captures::udp([10, 0, 0, 2], [10, 0, 0, 1], (4000 + i as u16, *port)))
        .collect();
    scene.write("t.pcap", &captures::pcap(&packets));
    scene
}

/// The profile of a replay, as text.
fn replayed(scene: &Scene, more: &[&str]) -> String {
    let file = scene.path("hits.json");
    let ran = scene.run(&[&["-q", "--profile-out", &file], more].concat());
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    String::from_utf8(scene.read("hits.json")).unwrap()
}

/// `polc compile --profile` of the scene's policy.
fn compile(scene: &Scene, more: &[&str]) -> Ran {
    let inputs = ["cluster.yaml", "policy.yaml", "hits.json"].map(|name| scene.path(name));
    let args = ["compile", &inputs[0], &inputs[1], "--emit", "ir", "--profile", &inputs[2]];
    polc(&[&args[..], more].concat(), b"")
}

/// Destination ports of the printed rules, in match order.
fn ports(ir: &str) -> Vec<&str> {
    ir.lines().filter_map(|line| line.split("dport ").nth(1)?.split(' ').next()).collect()
}

const WEB: [&str; 4] = ["--endpoint", "shop/web", "--direction", "ingress"];

#[test]
fn every_hit_is_counted_whatever_the_engine() {
    let scene = scene();
    let reference = replayed(&scene, &["--engine", "reference", "--endpoint", "shop/web"]);
    let value: Value = serde_json::from_str(&reference).unwrap();
    let schema = profile_schema();
    assert_eq!(check(&schema, &schema, &value), Ok(()), "{reference}");
    let hits: Vec<Value> = value["decisions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| {
            let decision = &entry["decision"];
            json!([decision["type"], decision["rule"], decision["action"], entry["hits"]])
        })
        .collect();
    // The packet to port 84 is logged and passed on to the profiles, that to port 9
    // gets to the end of the tier.
    let want = [
        json!(["rule", 1, "allow", 1]),
        json!(["rule", 2, "allow", 3]),
        json!(["rule", 3, "log", 1]),
        json!(["rule", 4, "pass", 1]),
        json!(["tier-default", null, "deny", 1]),
        json!(["profile", null, "allow", 1]),
    ];
    assert_eq!(hits, want, "{reference}");
    for engine in ["interpreter", "cranelift"] {
        assert_eq!(replayed(&scene, &["--engine", engine, "--endpoint", "shop/web"]), reference, "{engine}");
    }
}

#[test]
fn a_profile_orders_rules() {
    let scene = scene();
    replayed(&scene, &[]);
    let with = compile(&scene, &WEB);
    assert_eq!((with.code, with.stderr.as_str()), (0, ""));
    assert_eq!(ports(&with.stdout)[..2], ["83", "82"], "{}", with.stdout);
    let inputs = ["cluster.yaml", "policy.yaml"].map(|name| scene.path(name));
    let without = polc(&[&["compile", &inputs[0], &inputs[1], "--emit", "ir"], &WEB[..]].concat(), b"");
    assert_eq!(ports(&without.stdout)[..3], ["81", "82", "83"], "{}", without.stdout);
}

#[test]
fn rules_keep_their_hits_when_others_are_added_before_them() {
    let scene = scene();
    replayed(&scene, &[]);
    let added = "  ingress:\n  - {action: Allow, protocol: UDP, destination: {ports: [80]}}\n";
    scene.write("policy.yaml", RULES.replace("  ingress:\n", added).as_bytes());
    let ran = compile(&scene, &WEB);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
    assert_eq!(ports(&ran.stdout)[..2], ["83", "82"], "{}", ran.stdout);
}

#[test]
fn stale_and_unknown_entries_are_named() {
    let scene = scene();
    replayed(&scene, &[]);
    scene.write("policy.yaml", RULES.replace("[83]", "[8300]").as_bytes());
    let ran = compile(&scene, &[]);
    assert_eq!(ran.code, 0);
    let want = format!(
        "warning: {}: rule 2 of NetworkPolicy shop/web ingress has changed or is gone since the profile was \
         taken; its 3 hits are ignored",
        scene.path("hits.json")
    );
    assert_eq!(ran.stderr.trim_end(), want);

    scene.write("policy.yaml", RULES.replace("name: web", "name: other").as_bytes());
    let ran = compile(&scene, &WEB);
    assert!(
        ran.stderr
            .contains("rule 1 of NetworkPolicy shop/web ingress is not in the input; its 1 hits are ignored"),
        "{}",
        ran.stderr
    );
    assert_eq!((ran.code, ran.stderr.lines().count()), (0, 4), "{}", ran.stderr);
}

#[test]
fn what_was_not_compiled_is_not_stale() {
    let scene = scene();
    replayed(&scene, &[]);
    let ran = compile(&scene, &["--endpoint", "shop/api"]);
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}

#[test]
fn a_malformed_profile_is_exit_2_with_its_place() {
    let scene = scene();
    let good = replayed(&scene, &[]);
    let file = scene.path("hits.json");
    for (text, place, message) in [
        ("".to_owned(), "1:0", "EOF"),
        (good.replace("polc/v1", "polc/v9"), "1:23", "polc/v9"),
        (good.replacen("\"hits\":", "\"hits\":-", 1), "2:", "u64"),
        (good.replacen("\"direction\"", "\"dirction\"", 1), "2:", "unknown field `dirction`"),
    ] {
        scene.write("hits.json", text.as_bytes());
        let ran = compile(&scene, &[]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""), "{text}");
        let place = format!("{file}:{place}");
        assert!(ran.stderr.contains(&place) && ran.stderr.contains(message), "{}", ran.stderr);
    }
    std::fs::remove_file(&file).unwrap();
    let ran = compile(&scene, &[]);
    assert!(ran.code == 2 && ran.stderr.contains(&file), "{}", ran.stderr);
}

#[test]
fn a_profile_needs_the_pass_that_uses_it() {
    let scene = scene();
    replayed(&scene, &[]);
    let ran = compile(&scene, &["-O1"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("-O2"), "{}", ran.stderr);
    let pcap = scene.path("t.pcap");
    assert_eq!(scene.run(&["--profile-out", &pcap]).code, 2, "never over the capture itself");
}
