//! `polc run`.

use std::io::Read;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::captures;
use crate::schema::{check, run_schema};
use crate::support::{Scene, command, polc};

/// (packet, endpoint, direction, verdict, decided_by) of each line.
fn facts(lines: &str) -> Vec<Value> {
    let line = |text| -> Value { serde_json::from_str(text).expect("a line is JSON") };
    lines
        .lines()
        .map(line)
        .map(|v| json!([v["packet"], v["endpoint"], v["direction"], v["verdict"], v["decided_by"]]))
        .collect()
}

fn want() -> Vec<Value> {
    let profile = |direction| json!({"type": "profile", "name": "kns.shop", "direction": direction, "rule": 0, "action": "allow"});
    let end = json!({"type": "tier-default", "tier": "default", "direction": "ingress", "action": "deny"});
    let rule = json!({
        "type": "rule", "api": "networking.k8s.io/v1", "kind": "NetworkPolicy", "namespace": "shop",
        "name": "web", "tier": "default", "direction": "ingress", "rule": 0, "action": "allow",
    });
    vec![
        json!([0, "shop/api", "egress", "allow", profile("egress")]),
        json!([0, "shop/web", "ingress", "allow", rule]),
        json!([1, "shop/api", "egress", "allow", profile("egress")]),
        json!([1, "shop/web", "ingress", "deny", end]),
        json!([2, "shop/web", "ingress", "deny", end]),
        json!([3, null, null, "allow", {"type": "not-an-endpoint"}]),
        json!([4, null, null, "allow", {"type": "not-an-endpoint", "reason": "not-ip"}]),
        json!([5, "shop/web", "ingress", "deny", {"type": "malformed", "reason": "too-short"}]),
        json!([6, null, null, "deny", {"type": "malformed", "reason": "too-short"}]),
    ]
}

#[test]
fn engines_agree_line_by_line() {
    let scene = Scene::new();
    for engine in ["reference", "interpreter", "cranelift"] {
        let ran = scene.run(&["-o", "json", "--engine", engine]);
        assert_eq!((ran.code, ran.stderr.as_str()), (0, ""), "{engine}");
        assert_eq!(facts(&ran.stdout), want(), "{engine}");
    }
}

#[test]
fn lines_satisfy_the_schema() {
    let ran = Scene::new().run(&["-o", "json"]);
    let schema = run_schema();
    for line in ran.stdout.lines() {
        let value = serde_json::from_str(line).unwrap();
        assert_eq!(check(&schema, &schema, &value), Ok(()), "{line}");
    }
}

#[test]
fn every_form_of_a_capture_gives_the_same_lines() {
    let scene = Scene::new();
    let reference = scene.run(&["-o", "json"]).stdout;
    for (form, bytes) in captures::forms(&captures::packets()) {
        scene.write("t.pcap", &bytes);
        assert_eq!(scene.run(&["-o", "json"]).stdout, reference, "{form}");
    }
}

#[test]
fn the_table_names_rule_and_place() {
    let scene = Scene::new();
    let ran = scene.run(&[]);
    let place = format!("NetworkPolicy shop/web ingress[0] ({}:7)", scene.path("policy.yaml"));
    let row = ran.stdout.lines().find(|l| l.trim_start().starts_with("0 ") && l.contains("ingress")).unwrap();
    for want in ["10.0.0.2:4000 > 10.0.0.1:80 tcp", "shop/web", "allow", &place] {
        assert!(row.contains(want), "{want}: {row}");
    }
    assert!(ran.stdout.contains("7 packets, 6 evaluations: 3 allowed, 3 denied, 0 logged"), "{}", ran.stdout);
    assert_eq!(ran.code, 0, "dropped packets are no failure");
}

#[test]
fn quiet_prints_the_summary_only() {
    let scene = Scene::new();
    let ran = scene.run(&["-q"]);
    assert!(ran.stdout.starts_with("7 packets, 6 evaluations"), "{}", ran.stdout);
    let line: Value = serde_json::from_str(&scene.run(&["-q", "-o", "json"]).stdout).unwrap();
    assert_eq!(
        (&line["packets"], &line["denied"], &line["kind"]),
        (&json!(7), &json!(3), &json!("RunSummary"))
    );
    assert_eq!(line["decisions"][0]["decided_by"]["type"], "rule");
}

#[test]
fn endpoints_and_directions_narrow_it() {
    let scene = Scene::new();
    let ran = scene.run(&["-o", "json", "--endpoint", "shop/api", "--direction", "egress"]);
    let at_api = |facts: &Vec<Value>| facts.iter().filter(|f| f[1] == "shop/api").count();
    let facts = facts(&ran.stdout);
    assert_eq!((at_api(&facts), facts.len()), (2, 7));
    let table = scene.run(&["--endpoint", "shop/api"]).stdout;
    assert!(table.contains("concern none of the endpoints") && !table.contains("0x0806"), "{table}");
}

#[test]
fn a_cut_capture_gives_what_was_read_and_exit_2() {
    let scene = Scene::new();
    let whole = captures::pcap(&captures::packets());
    scene.write("t.pcap", &whole[..24 + 16 + 70 + 5]);
    let ran = scene.run(&[]);
    assert_eq!(ran.code, 2);
    assert!(ran.stdout.contains("1 packets, 2 evaluations"), "{}", ran.stdout);
    let place = format!(
        "{}: offset 110: the file ends inside a packet's header (5 bytes of 16)",
        scene.path("t.pcap")
    );
    assert!(ran.stderr.contains(&place), "{}", ran.stderr);
}

#[test]
fn a_foreign_capture_is_exit_2() {
    let scene = Scene::new();
    for (bytes, want) in
        [(&b"<html>"[..], "it starts with 3c 68 74 6d"), (b"", "it is empty"), (b"\x1f\x8b\x08\x00", "gzip")]
    {
        scene.write("t.pcap", bytes);
        let ran = scene.run(&[]);
        assert_eq!((ran.code, ran.stdout.as_str()), (2, ""));
        assert!(ran.stderr.contains(want), "{}", ran.stderr);
    }
}

#[test]
fn input_and_capture_may_come_from_standard_input() {
    let scene = Scene::new();
    let reference = scene.run(&["-q"]).stdout;
    let (cluster, policy, pcap) =
        (scene.path("cluster.yaml"), scene.path("policy.yaml"), scene.path("t.pcap"));
    let ran = polc(&["run", "-f", &cluster, "-f", &policy, "--pcap", "-", "-q"], &scene.read("t.pcap"));
    assert_eq!(ran.stdout, reference);
    let ran = polc(&["run", &cluster, "-", "--pcap", &pcap, "-q"], &scene.read("policy.yaml"));
    assert_eq!(ran.stdout, reference.replace(&policy, "<stdin>"));
}

#[test]
fn written_packets_say_what_decided() {
    let scene = Scene::new();
    let out = scene.path("out.pcapng");
    assert_eq!(scene.run(&["-q", "--write", &out]).code, 0);
    let written = scene.read("out.pcapng");
    let mut capture = polc_runtime::packet::Capture::new(&written[..]).unwrap();
    for packet in captures::packets() {
        assert_eq!(capture.next_packet().unwrap().unwrap().frame, packet);
    }
    assert!(capture.next_packet().unwrap().is_none());
    let text = String::from_utf8_lossy(&written);
    for want in [
        &format!(
            "polc: shop/web ingress allow by NetworkPolicy shop/web ingress[0] ({}:7)",
            scene.path("policy.yaml")
        ),
        "polc: shop/web ingress deny by end of tier default",
        "polc: allow (no endpoint)",
    ] {
        assert!(text.contains(want), "{want}");
    }
    assert_eq!(scene.run(&["--write", &scene.path("t.pcap")]).code, 2, "never over the capture itself");
}

#[test]
fn stateless_forgets_connections() {
    let scene = Scene::new();
    let query = captures::udp([10, 0, 0, 1], [10, 0, 0, 2], (5000, 53));
    let answer = captures::udp([10, 0, 0, 2], [10, 0, 0, 1], (53, 5000));
    scene.write("t.pcap", &captures::pcap(&[query, answer]));
    let types = |more: &[&str]| -> Vec<Value> {
        let ran = scene.run(&[&["-o", "json", "--endpoint", "shop/web"], more].concat());
        facts(&ran.stdout).iter().map(|f| f[4]["type"].clone()).collect()
    };
    assert_eq!(types(&[]), ["profile", "conntrack"]);
    assert_eq!(types(&["--stateless"]), ["profile", "tier-default"]);
}

#[test]
fn a_closed_pipe_is_no_error() {
    let scene = Scene::new();
    let first = captures::packets().swap_remove(0);
    scene.write("t.pcap", &captures::pcap(&vec![first; 5000]));
    let (cluster, pcap) = (scene.path("cluster.yaml"), scene.path("t.pcap"));
    for form in ["table", "json"] {
        let mut child =
            command(&["run", &cluster, "--pcap", &pcap, "-o", form]).stderr(Stdio::piped()).spawn().unwrap();
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().unwrap().read_to_string(&mut stderr).unwrap();
        assert_eq!((child.wait().unwrap().code(), stderr.as_str()), (Some(0), ""), "{form}");
    }
}

#[test]
fn repeat_needs_the_kernel() {
    let ran = Scene::new().run(&["--repeat", "10"]);
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("--engine kernel"), "{}", ran.stderr);
}
