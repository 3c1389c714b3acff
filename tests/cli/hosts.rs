//! Host endpoints through `polc run` and `polc compile`.

use serde_json::{Value, json};

use crate::captures;
use crate::schema::{check, run_schema};
use crate::support::{Scene, polc};

const HOSTS: &str = "apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: node-1-eth0, labels: {role: node}}
spec: {node: node-1, interfaceName: eth0, expectedIPs: [10.0.0.9], profiles: [ghost]}
---
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec:
  failsafeInboundHostPorts:
  - {protocol: UDP, port: 68, net: 10.0.0.0/24}
---
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: raw}
spec:
  selector: role == 'node'
  doNotTrack: true
  applyOnForward: true
  ingress:
  - {action: Deny, protocol: UDP, destination: {ports: ['1:100']}}
";

fn scene() -> Scene {
    let scene = Scene::new();
    scene.write("hosts.yaml", HOSTS.as_bytes());
    let to = |src: [u8; 4], ports| captures::udp(src, [10, 0, 0, 9], ports);
    scene.write(
        "hosts.pcap",
        &captures::pcap(&[
            to([10, 0, 0, 2], (4000, 68)),
            to([192, 0, 2, 1], (4000, 68)),
            to([192, 0, 2, 1], (4000, 200)),
            to([192, 0, 2, 1], (53, 68)),
            captures::udp([10, 0, 0, 9], [192, 0, 2, 1], (4000, 53)),
        ]),
    );
    scene
}

#[test]
fn engines_agree_about_a_host_endpoint() {
    let scene = scene();
    let (hosts, pcap) = (scene.path("hosts.yaml"), scene.path("hosts.pcap"));
    let schema = run_schema();
    let failsafe = json!({"type": "failsafe"});
    let raw = json!({
        "type": "rule", "api": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy", "namespace": null,
        "name": "raw", "tier": "default", "direction": "ingress", "rule": 0, "action": "deny",
    });
    let ghost =
        json!({"type": "profile", "name": "ghost", "direction": "ingress", "rule": 0, "action": "deny"});
    let want = [
        (&failsafe, "allow", json!(11)),
        (&raw, "deny", json!(21)),
        (&ghost, "deny", Value::Null),
        (&ghost, "deny", Value::Null),
        (&failsafe, "allow", Value::Null),
    ];
    for engine in ["reference", "interpreter", "cranelift"] {
        let args = ["run", &hosts, "--pcap", &pcap, "--stateless", "-o", "json", "--engine", engine];
        let ran = polc(&args, b"");
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(ran.stdout.lines().count(), want.len(), "{}", ran.stdout);
        for (line, (decided_by, verdict, at)) in ran.stdout.lines().zip(&want) {
            let value: Value = serde_json::from_str(line).expect("a line is JSON");
            assert_eq!(check(&schema, &schema, &value), Ok(()), "{line}");
            assert_eq!(value["endpoint"], json!("node-1-eth0"), "{engine}: {line}");
            let found = (&value["decided_by"], value["verdict"].as_str(), &value["at"]["line"]);
            assert_eq!(found, (*decided_by, Some(*verdict), at), "{engine}: {line}");
        }
    }
}

#[test]
fn a_host_endpoint_is_named_without_a_namespace() {
    let scene = scene();
    let hosts = scene.path("hosts.yaml");
    let ran = polc(&["compile", &hosts, "--endpoint", "node-1-eth0", "--emit", "ir"], b"");
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stdout.contains("\"default (untracked)\""), "{}", ran.stdout);
    let ran = polc(&["compile", &hosts, "--endpoint", "node-1-eth1"], b"");
    assert_eq!(ran.code, 2);
    assert!(ran.stderr.contains("there is node-1-eth0"), "{}", ran.stderr);
}
