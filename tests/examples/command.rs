//! Runs the command and reads its JSON.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

use crate::intent::Decision;
use crate::model::Place;

/// One evaluation as the command reports it.
#[derive(Debug, PartialEq)]
pub struct Evaluation {
    pub packet: usize,
    pub at: Place,
    pub decision: Decision,
}

/// One call of `polc run`.
pub struct Run<'a> {
    pub example: &'a str,
    /// `None` is the command's default.
    pub engine: Option<&'a str>,
    pub stateless: bool,
    pub json: bool,
}

fn polc() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polc"));
    // Relative names keep this machine's paths out of what is compared.
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR"))).env("NO_COLOR", "1");
    command
}

fn text(output: Output, what: &str) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}\n{stderr}", output.status);
    assert!(!stderr.contains("error"), "{what}:\n{stderr}");
    String::from_utf8(output.stdout).expect("output is UTF-8")
}

impl Run<'_> {
    /// Standard output; `None` if the engine cannot run here and needn't.
    pub fn output(&self) -> Option<String> {
        let file = |name: &str| format!("examples/{}/{name}", self.example);
        let mut command = polc();
        command.arg("run").args([file("cluster.yaml"), file("policy.yaml")]);
        command.args(["--pcap", &file("traffic.pcap")]);
        if let Some(engine) = self.engine {
            command.args(["--engine", engine]);
        }
        if self.stateless {
            command.arg("--stateless");
        }
        if self.json {
            command.args(["-o", "json"]);
        }
        let output = command.output().expect("the command starts");
        let required = std::env::var_os("POLC_REQUIRE_KERNEL").is_some();
        if self.engine == Some("kernel") && !required && !output.status.success() {
            let why = String::from_utf8_lossy(&output.stderr);
            if why.contains("kernel engine is not available") {
                eprintln!("{}: kernel engine skipped: {why}", self.example);
                return None;
            }
        }
        Some(text(output, &format!("{command:?}")))
    }
}

/// The listing of an example's policy.
pub fn compile(example: &str) -> String {
    let mut command = polc();
    command.args(["compile", &format!("examples/{example}/policy.yaml")]);
    text(command.output().expect("the command starts"), &format!("{command:?}"))
}

/// The evaluations at endpoints, in the order of output.
pub fn evaluations(json: &str) -> Vec<Evaluation> {
    let lines = json.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")));
    lines.filter(|v: &Value| v["endpoint"].is_string()).map(|v| evaluation(&v)).collect()
}

fn evaluation(v: &Value) -> Evaluation {
    Evaluation {
        packet: v["packet"].as_u64().expect("packet number") as usize,
        at: Place { direction: string(&v["direction"]), endpoint: string(&v["endpoint"]) },
        decision: Decision {
            verdict: string(&v["verdict"]),
            decided_by: decider(&v["decided_by"]),
            logged_by: v.get("last_log").map(decider).unwrap_or_default(),
        },
    }
}

fn string(v: &Value) -> String {
    v.as_str().unwrap_or_default().to_string()
}

/// What decided or logged, in the words of intent.txt.
fn decider(by: &Value) -> String {
    let name = match &by["namespace"] {
        Value::String(namespace) => format!("{namespace}/{}", string(&by["name"])),
        _ => string(&by["name"]),
    };
    match string(&by["type"]).as_str() {
        "rule" => format!("rule:{name}:{}", by["rule"]),
        "conntrack" => "conntrack".to_string(),
        "tier-default" => format!("tier-default:{}", string(&by["tier"])),
        other => format!("{other}:{name}"),
    }
}
