//! `polc check`: exit codes, and the three forms of its output.

use serde_json::Value;

use crate::schema::{check, diagnostics_schema};
use crate::support::{POLICY, Ran, Scene, polc};

const CLEAN: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: api}}}]
    ports: [{port: 80, protocol: TCP}]
";

/// A misspelt field, and a CIDR with host bits.
const BROKEN: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: p
spec:
  podSelectr: {}
  ingress:
  - from: [{ipBlock: {cidr: \"10.1.2.3/8\"}}]
";

const COVERED: &str = "\
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: p, namespace: shop}
spec:
  ingress:
  - action: Deny
    source: {nets: [10.0.0.0/8]}
  - action: Allow
    source: {nets: [10.1.0.0/16]}
";

fn check_scene(policy: &str, more: &[&str]) -> Ran {
    let scene = Scene::new();
    scene.write("policy.yaml", policy.as_bytes());
    let (cluster, policy) = (scene.path("cluster.yaml"), scene.path("policy.yaml"));
    let mut args = vec!["check", &cluster, &policy];
    args.extend(more);
    polc(&args, b"")
}

fn json(policy: &str, form: &str) -> Value {
    let ran = check_scene(policy, &["-o", form]);
    assert_eq!(ran.stderr, "");
    serde_json::from_str(&ran.stdout).expect("JSON")
}

#[test]
fn the_exit_code_says_what_was_found() {
    for (policy, code, summary) in [
        (CLEAN, 0, "nothing found in 2 files"),
        (POLICY, 1, "1 warning in 2 files"),
        (COVERED, 1, "1 warning in 2 files"),
        (BROKEN, 3, "1 error, 1 warning in 2 files"),
    ] {
        let ran = check_scene(policy, &[]);
        assert_eq!(ran.code, code, "{}", ran.stdout);
        assert!(ran.stdout.ends_with(&format!("{summary}\n")), "{}", ran.stdout);
        assert_eq!(ran.stderr, "");
    }
    assert_eq!(polc(&["check", "/nonexistent"], b"").code, 2);
}

#[test]
fn text_shows_the_place_and_the_rule_that_covers() {
    let ran = check_scene(COVERED, &[]);
    for want in [
        "warning[P0703]",
        "`ingress[1]` decides nothing: `ingress[0]`",
        "policy.yaml:8:5",
        "this decides first",
    ] {
        assert!(ran.stdout.contains(want), "{want}: {}", ran.stdout);
    }
}

#[test]
fn json_fits_its_schema() {
    let schema = diagnostics_schema();
    for policy in [CLEAN, POLICY, COVERED, BROKEN] {
        assert_eq!(check(&schema, &schema, &json(policy, "json")), Ok(()), "{policy}");
    }
    let document = json(BROKEN, "json");
    let item = &document["items"][0];
    assert_eq!((&item["code"], &item["severity"]), (&"P0201".into(), &"error".into()));
    assert_eq!([&item["line"], &item["column"], &item["endLine"], &item["endColumn"]], [6, 3, 6, 13]);
    assert_eq!(item["fix"]["text"], "podSelector");
    assert!(item["file"].as_str().is_some_and(|f| f.ends_with("policy.yaml")));
    let net = &document["items"][1]["fix"];
    assert_eq!(
        (&net["text"], &net["column"], &net["endColumn"]),
        (&"10.0.0.0/8".into(), &30.into(), &40.into())
    );
    assert_eq!(json(COVERED, "json")["items"][0]["related"][0]["line"], 6);
}

#[test]
fn the_schema_can_refuse() {
    let schema = diagnostics_schema();
    let good = json(BROKEN, "json");
    for (pointer, bad) in [
        ("/kind", Value::from("Else")),
        ("/items/0/severity", Value::from("fatal")),
        ("/items/0/line", Value::from(0)),
        ("/items/0/fix", Value::from("text")),
        ("/items/0/help/0", Value::from(7)),
    ] {
        let mut value = good.clone();
        *value.pointer_mut(pointer).expect("a member") = bad;
        assert!(check(&schema, &schema, &value).is_err(), "{pointer}");
    }
}

/// What SARIF 2.1.0 requires of the members that polc writes.
#[test]
fn sarif_holds_together() {
    for (policy, results) in [(CLEAN, 0), (COVERED, 1), (BROKEN, 2)] {
        let log = json(policy, "sarif");
        assert_eq!(log["version"], "2.1.0");
        let run = &log["runs"][0];
        let driver = &run["tool"]["driver"];
        assert_eq!(driver["name"], "polc");
        let rules = driver["rules"].as_array().expect("rules");
        for rule in rules {
            let page = rule["helpUri"].as_str().expect("a URI");
            assert!(
                page.starts_with("https://")
                    && page.ends_with(&format!("{}.md", rule["id"].as_str().expect("an id")))
            );
            assert!(rule["shortDescription"]["text"].is_string());
        }
        let found = run["results"].as_array().expect("results");
        assert_eq!(found.len(), results);
        for result in found {
            let index = usize::try_from(result["ruleIndex"].as_u64().expect("an index")).expect("small");
            assert_eq!(rules[index]["id"], result["ruleId"]);
            assert!(["error", "warning", "note"].contains(&result["level"].as_str().expect("a level")));
            assert!(result["message"]["text"].is_string());
            assert_region(&result["locations"][0]["physicalLocation"]);
            for related in result["relatedLocations"].as_array().into_iter().flatten() {
                assert_region(&related["physicalLocation"]);
                assert!(related["message"]["text"].is_string());
            }
            for fix in result["fixes"].as_array().into_iter().flatten() {
                let change = &fix["artifactChanges"][0];
                assert!(change["replacements"][0]["insertedContent"]["text"].is_string());
                assert!(change["replacements"][0]["deletedRegion"]["startLine"].is_u64());
            }
        }
    }
    assert_eq!(
        json(COVERED, "sarif")["runs"][0]["results"][0]["relatedLocations"][0]["physicalLocation"]["region"]
            ["startLine"],
        6
    );
    assert!(json(BROKEN, "sarif")["runs"][0]["results"][0]["fixes"].is_array());
}

#[track_caller]
fn assert_region(location: &Value) {
    let uri = location["artifactLocation"]["uri"].as_str().expect("a URI");
    assert!(uri.starts_with("file:///"), "{uri}");
    let number = |name: &str| location["region"][name].as_u64().expect("a number");
    let (start, end) =
        ((number("startLine"), number("startColumn")), (number("endLine"), number("endColumn")));
    assert!(start >= (1, 1) && end >= start, "{location}");
}

#[test]
fn compile_and_run_leave_lints_to_check() {
    let scene = Scene::new();
    scene.write("policy.yaml", COVERED.as_bytes());
    let ran = polc(&["compile", &scene.path("policy.yaml"), "--emit", "ir"], b"");
    assert_eq!((ran.code, ran.stderr.as_str()), (0, ""));
}
