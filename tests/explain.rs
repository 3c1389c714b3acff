//! `polc explain`: golden text on the examples, the same answer as `polc run`,
//! the schema of its JSON, and walks of drawn policies held against what ran.

#[allow(dead_code, reason = "shared with the tests of the other commands")]
#[path = "cli/schema.rs"]
mod schema;

use std::process::Command;

use polc_compiler::compile::{CompileOptions, compile};
use polc_compiler::emit::{EmitOptions, Form};
use polc_compiler::explain::{Disagreement, Ran, agree, walk};
use polc_compiler::ir::generate::{Shape, flows, policy};
use polc_runtime::packet::build;
use polc_runtime::vm::{Tracer, VmOptions};
use polc_runtime::{Attachment, AttachmentSpec, Packet};
use serde_json::Value;

fn polc(args: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_polc")).args(args).output().expect("polc runs");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("polc is not killed"), text(&output.stdout), text(&output.stderr))
}

/// `polc explain` on an example.
fn explain(example: &str, args: &[&str]) -> String {
    let (cluster, policy) =
        (format!("examples/{example}/cluster.yaml"), format!("examples/{example}/policy.yaml"));
    let all = [&["explain", &cluster, &policy], args].concat();
    let (code, stdout, stderr) = polc(&all);
    assert_eq!(code, 0, "{all:?}: {stderr}");
    stdout
}

fn json(example: &str, args: &[&str]) -> Value {
    let text = explain(example, &[args, &["-o", "json"]].concat());
    let value = serde_json::from_str(&text).expect("the output is JSON");
    let schema: Value =
        serde_json::from_str(include_str!("../docs/schema/explain.schema.json")).expect("the schema is JSON");
    schema::check(&schema, &schema, &value).unwrap_or_else(|e| panic!("{args:?}: {e}"));
    value
}

#[test]
fn golden() {
    let cases = [
        ("shop-allowed", "shop", "tcp shop-web/web-1 > shop-api/api-2:8443", false),
        ("shop-wrong-number", "shop", "tcp shop-web/web-1 > shop-api/api-1:8443", true),
        ("shop-except", "shop", "tcp 198.51.100.3 > shop-web/web-1:8080", true),
        ("shop-no-rules", "shop", "tcp shop-db/db-0 > 203.0.113.9:443", true),
        ("shop-strangers", "shop", "tcp 192.0.2.1 > 192.0.2.2:80", true),
        ("dual-stack-canary", "dual-stack", "tcp clients/canary-1 > apps/server-1:8080", true),
        ("dual-stack-log", "dual-stack", "udp 198.51.100.7 > apps/server-1:5000", true),
        ("dual-stack-pass", "dual-stack", "tcp [fd00:40:2::11]:999 > [fd00:40:1::11]:7000", true),
        ("dual-stack-ping", "dual-stack", "icmpv6 2001:db8::1 > apps/server-1", true),
    ];
    for (name, example, packet, quiet) in cases {
        let flag: &[&str] = if quiet { &["-q"] } else { &[] };
        let text = explain(example, &[&["--packet", packet], flag].concat());
        insta::with_settings!({
            snapshot_path => "../golden/explain",
            prepend_module_to_snapshot => false,
            description => packet,
            omit_expression => true,
        }, { insta::assert_snapshot!(name, text) });
    }
}

#[test]
fn a_capture_is_explained_as_it_is_replayed() {
    let mut explained = 0;
    for stateless in [&[][..], &["--stateless"][..]] {
        let base = ["examples/dual-stack/cluster.yaml", "examples/dual-stack/policy.yaml"];
        let pcap = ["--pcap", "examples/dual-stack/traffic.pcap"];
        let (code, stdout, stderr) = polc(&[&["run"], &base[..], &pcap, &["-o", "json"], stateless].concat());
        assert_eq!(code, 0, "{stderr}");
        let records: Vec<Value> =
            stdout.lines().map(|line| serde_json::from_str(line).expect("a line is JSON")).collect();
        let packets = records.iter().filter_map(|r| r["packet"].as_u64()).max().expect("packets") + 1;
        for number in (0..packets).step_by(9) {
            let index = number.to_string();
            let value = json("dual-stack", &[&pcap, &["--index", &index][..], stateless].concat());
            let want: Vec<&Value> =
                records.iter().filter(|r| r["packet"] == number && !r["endpoint"].is_null()).collect();
            let got = value["endpoints"].as_array().expect("endpoints");
            assert_eq!(got.len(), want.len(), "packet {number}");
            for (got, want) in got.iter().zip(want) {
                for field in ["endpoint", "direction", "verdict", "decided_by", "at"] {
                    assert_eq!(got[field], want[field], "packet {number} {field}");
                }
                let by_policy = !got["instructions"].as_array().expect("instructions").is_empty();
                let tracked = ["conntrack", "failsafe"].iter().any(|t| got["decided_by"]["type"] == *t);
                assert_eq!(by_policy, !tracked, "packet {number}");
                explained += 1;
            }
        }
    }
    assert!(explained > 30, "{explained}");
}

#[test]
fn what_decided_is_said_as_by_polc_run() {
    let explain: Value =
        serde_json::from_str(include_str!("../docs/schema/explain.schema.json")).expect("the schema is JSON");
    assert_eq!(explain["$defs"]["decider"], schema::run_schema()["$defs"]["decider"]);
}

/// A host endpoint: failsafe ports, then policy of two stages, then no profile.
#[test]
fn host_endpoints_are_explained_stage_by_stage() {
    const HOST: &str = "\
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: { name: node-eth0, labels: { role: node } }
spec: { node: node-1, interfaceName: eth0, expectedIPs: [192.0.2.10] }
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: { name: web }
spec:
  selector: role == 'node'
  types: [Ingress]
  ingress:
    - { action: Allow, protocol: TCP, destination: { ports: [80] } }
";
    let file = std::env::temp_dir().join(format!("polc-explain-{}.yaml", std::process::id()));
    std::fs::write(&file, HOST).expect("a temporary file");
    let path = file.to_string_lossy().into_owned();
    let ask = |packet: &str| {
        let (code, stdout, stderr) = polc(&["explain", "-q", &path, "--packet", packet]);
        assert_eq!(code, 0, "{stderr}");
        stdout
    };
    let (ssh, web, other) = (
        ask("tcp 198.51.100.1 > 192.0.2.10:22"),
        ask("tcp 198.51.100.1 > 192.0.2.10:80"),
        ask("tcp 198.51.100.1 > 192.0.2.10:81"),
    );
    let _ = std::fs::remove_file(&file);
    assert!(ssh.contains("verdict: allow") && ssh.contains("failsafe"), "{ssh}");
    assert!(web.contains("+ ingress[0] allow") && web.contains("verdict: allow"), "{web}");
    assert!(other.contains("destination port 81 is not 80") && other.contains("verdict: deny"), "{other}");
}

#[test]
fn json_says_what_the_walk_found() {
    let value = json("dual-stack", &["--packet", "tcp clients/canary-1 > apps/server-1:8080"]);
    assert_eq!(value["verdict"], "deny");
    let [egress, ingress] = value["endpoints"].as_array().expect("endpoints").as_slice() else {
        panic!("two endpoints: {value}")
    };
    assert_eq!((&egress["verdict"], &ingress["verdict"]), (&"allow".into(), &"deny".into()));
    let default = &ingress["tiers"][1];
    assert_eq!(
        (&default["name"], &default["policies"][0]["name"]),
        (&"default".into(), &"canary-block".into())
    );
    let rule = &default["policies"][0]["rules"][0];
    assert_eq!((&rule["found"], &rule["action"]), (&"match".into(), &"deny".into()));
    assert_eq!(rule["at"]["file"], "examples/dual-stack/policy.yaml");
    assert_eq!(default["policies"][1]["rules"][0]["found"], "not-reached");
}

#[test]
fn only_where_and_which_way_it_was_asked() {
    let packet = ["--packet", "tcp shop-web/web-1 > shop-api/api-1:8000"];
    let one = json("shop", &[&packet[..], &["--endpoint", "shop-api/api-1"]].concat());
    assert_eq!(one["endpoints"].as_array().map(Vec::len), Some(1));
    assert_eq!(one["endpoints"][0]["direction"], "ingress");
    let other = json("shop", &[&packet[..], &["--direction", "egress"]].concat());
    assert_eq!(other["endpoints"].as_array().map(Vec::len), Some(1));
    assert_eq!(other["endpoints"][0]["endpoint"], "shop-web/web-1");
}

#[test]
fn wrong_questions_are_usage_errors_that_name_the_part() {
    let shop = ["explain", "examples/shop/cluster.yaml", "examples/shop/policy.yaml"];
    let cases: [(&[&str], &str); 8] = [
        (&[], "--packet"),
        (&["--packet", "tcp 10.0.0.1 > 10.0.0.2"], "needs a port"),
        (&["--packet", "tcp shop-web/nobody > 10.0.0.2:80"], "\n      ^^^^^^^^^^^^^^^\n"),
        (&["--packet", "44 fd00::1 > fd00::2"], "extension header"),
        (&["--pcap", "examples/shop/traffic.pcap"], "--index"),
        (&["--pcap", "examples/shop/traffic.pcap", "--index", "999999"], "no packet 999999"),
        (&["--pcap", "examples/shop", "--index", "0"], "is a folder"),
        (&["--packet", "udp 10.0.0.1 > 10.0.0.2:1", "--endpoint", "shop-web/x"], "no endpoint shop-web/x"),
    ];
    for (args, want) in cases {
        let (code, stdout, stderr) = polc(&[&shop[..], args].concat());
        assert_eq!((code, stdout.as_str()), (2, ""), "{args:?}: {stderr}");
        assert!(stderr.contains(want), "{args:?}: {stderr}");
    }
}

/// Drawn policies, whole and cut into small programs: the tracer's instructions
/// tell the reference evaluator's walk. Half of a run tells no walk.
#[test]
fn what_ran_tells_the_walk() {
    let cases = std::env::var("POLC_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(250);
    let small = EmitOptions { form: Form::Chain, max_slots: 220, ..EmitOptions::default() };
    let (mut walks, mut refused, mut unseen) = (0, 0, 0);
    for seed in 0..cases {
        let ir = policy(seed, &Shape { rules: 14, ports: 6, ..Shape::default() });
        for limits in [EmitOptions::default(), small] {
            let options = CompileOptions { level: 0, limits, ..CompileOptions::default() };
            let Ok(image) = compile(ir.clone(), &options) else { continue };
            let specs = [AttachmentSpec { endpoint: 1, direction: ir.direction, image: &image }];
            let options = VmOptions { stateless: true, ..VmOptions::default() };
            let mut tracer = Tracer::new(polc_runtime::ENTRY_OBJECT, &specs, options).expect("it loads");
            for flow in flows(&ir, seed, 12) {
                let Some(frame) = build::frame(&flow) else { continue };
                let packet = Packet { data: &frame, wire_len: frame.len() as u32, now: 1 };
                let trace = tracer.trace(Attachment(0), packet).expect("it runs");
                let Some(decision) = trace.evaluation.decision else { continue };
                let mut ran = Ran {
                    verdict: trace.evaluation.verdict,
                    decision,
                    logged: trace.evaluation.logged,
                    last_log: trace.evaluation.log_decision,
                    steps: trace.steps.iter().map(|s| (s.program, s.slot)).collect(),
                };
                let mut walk = walk(&ir, &flow);
                agree(&ir, &mut walk, &image, &ran)
                    .unwrap_or_else(|e| panic!("seed {seed} {flow:?}: {e}\n{ir}"));
                let rules = || walk.chains.iter().flat_map(|c| &c.rules);
                unseen += rules().filter(|r| !r.in_program).count();
                walks += 1;
                ran.steps.truncate(1);
                let mut again = walk.clone();
                match agree(&ir, &mut again, &image, &ran) {
                    Err(Disagreement::Outcome { .. }) => panic!("seed {seed}: the outcome is the same"),
                    Err(_) => refused += 1,
                    Ok(()) => {}
                }
            }
        }
    }
    assert!(walks > cases as usize * 10, "{walks} walks");
    assert!(refused * 10 > walks * 9, "{refused} of {walks} refused");
    assert!(unseen < walks * 10, "{unseen} rules without instructions in {walks} walks");
}
