//! Scale of input: a large cluster as YAML documents and as `kubectl get -o json`
//! prints it, read and resolved for one node.
//!
//! `cargo bench --bench scale` prints times and the peak of resident memory, and
//! fails if a target is missed. Each form is measured in a process of its own, so
//! that one's memory is not the other's. `POLC_SCALE=10` divides the sizes.
//!
//! Times are given as they passed and as the processor spent them; on a machine
//! with other work the first say little, so the second are held against targets.

use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::Instant;

use polc_compiler::diag::{Severity, Sources};
use polc_compiler::ir::Direction;
use polc_compiler::manifest;
use polc_compiler::resolve::Cluster;

const NAMESPACES: usize = 1_000;
const PODS: usize = 50_000;
const POLICIES: usize = 10_000;
/// Pods of the node that is resolved.
const NODE: usize = 200;

/// Targets in seconds.
const READ: f64 = 10.0;
const RESOLVE: f64 = 1.0;
/// Peak of resident memory in KiB.
const MEMORY: u64 = 1536 * 1024;

fn main() -> ExitCode {
    // The arguments of a measurement; cargo's own are flags.
    let args: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with("--")).collect();
    if let [measure, path] = args.as_slice()
        && measure == "measure"
    {
        return measurement(Path::new(path));
    }
    let folder = std::env::temp_dir().join(format!("polc-scale-{}", std::process::id()));
    let result = fs::create_dir_all(&folder).map_err(|e| e.to_string()).and_then(|()| all(&folder));
    let _ = fs::remove_dir_all(&folder);
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

/// Writes both forms and measures each.
fn all(folder: &Path) -> Result<bool, String> {
    let scale = std::env::var("POLC_SCALE").ok().and_then(|n| n.parse().ok()).unwrap_or(1).max(1);
    let size = Size { namespaces: NAMESPACES / scale, pods: PODS / scale, policies: POLICIES / scale };
    println!("{} namespaces, {} pods, {} policies", size.namespaces, size.pods, size.policies);
    let own = std::env::current_exe().map_err(|e| e.to_string())?;
    let mut met = true;
    for (name, json_list) in [("cluster.yaml", false), ("cluster.json", true)] {
        let path: PathBuf = folder.join(name);
        let text = if json_list { json(&size) } else { yaml(&size) };
        fs::write(&path, text).map_err(|e| format!("{}: {e}", path.display()))?;
        let status = Command::new(&own).arg("measure").arg(&path).status().map_err(|e| e.to_string())?;
        met &= status.success();
    }
    Ok(met)
}

/// Reads one file and resolves one node; prints what it took.
fn measurement(path: &Path) -> ExitCode {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(e) => {
            eprintln!("{}: {e}", path.display());
            return ExitCode::FAILURE;
        }
    };
    let name = path.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    let bytes = text.len();
    let mut sources = Sources::default();
    let start = Clock::now();
    sources.add(&name, text);
    let (objects, diagnostics) = manifest::read(&sources);
    let read = start.spent();
    let counts = (objects.pods.len(), objects.kubernetes_policies.len() + objects.calico_policies.len());
    let start = Clock::now();
    let (cluster, more) = Cluster::new(&sources, objects);
    let stock = start.spent();
    let (rules, members) = resolve_node(&cluster);
    let resolve = start.spent();
    let errors = diagnostics.iter().chain(&more).filter(|d| d.severity == Severity::Error).count();
    println!("{name}: {} MiB, {} pods and {} policies, {errors} errors", bytes >> 20, counts.0, counts.1);
    println!("  read     {:6.2} s, {:5.2} s of processor time; target {READ} s", read.wall, read.cpu);
    println!(
        "  resolve  {:6.2} s, {:5.2} s of processor time; target {RESOLVE} s",
        resolve.wall, resolve.cpu
    );
    println!(
        "           {:6.2} s of it to take stock of the cluster; {NODE} pods: {rules} rules, {members} members",
        stock.cpu
    );
    let peak = peak_kib();
    match peak {
        Some(kib) => println!("  memory   {:6} MiB at most; target {} MiB", kib >> 10, MEMORY >> 10),
        None => println!("  memory   unknown: /proc/self/status does not say"),
    }
    let fits = peak.is_none_or(|kib| kib <= MEMORY);
    let met = errors == 0 && read.cpu <= READ && resolve.cpu <= RESOLVE && fits;
    if met { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Resolves both directions of the node's pods; counts what they use.
fn resolve_node(cluster: &Cluster) -> (usize, usize) {
    let (mut rules, mut members) = (0, 0);
    for endpoint in cluster.endpoints().keys().take(NODE) {
        for direction in [Direction::Ingress, Direction::Egress] {
            let ir = cluster.resolve(endpoint, direction);
            rules += ir.rules.len();
            members += ir.sets.values().map(|set| set.nets.len()).sum::<usize>();
        }
    }
    (rules, members)
}

/// A moment: by the clock, and by what this thread ran so far.
struct Clock {
    wall: Instant,
    cpu: Option<f64>,
}

/// Seconds.
struct Spent {
    wall: f64,
    /// Where the kernel doesn't tell, as much as `wall`.
    cpu: f64,
}

impl Clock {
    fn now() -> Self {
        Self { wall: Instant::now(), cpu: cpu_seconds() }
    }

    fn spent(&self) -> Spent {
        let wall = self.wall.elapsed().as_secs_f64();
        let cpu = self.cpu.zip(cpu_seconds()).map_or(wall, |(start, end)| end - start);
        Spent { wall, cpu }
    }
}

/// Seconds that this thread was running; the first field of `schedstat`, in ns.
fn cpu_seconds() -> Option<f64> {
    let text = fs::read_to_string("/proc/self/schedstat").ok()?;
    let ns: u64 = text.split_whitespace().next()?.parse().ok()?;
    Some(ns as f64 / 1e9)
}

/// `VmHWM` of this process.
fn peak_kib() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

struct Size {
    namespaces: usize,
    pods: usize,
    policies: usize,
}

impl Size {
    fn namespace(&self, i: usize) -> usize {
        i % self.namespaces.max(1)
    }
}

fn ip(i: usize) -> String {
    format!("10.{}.{}.{}", 16 + (i >> 16), (i >> 8) & 255, i & 255)
}

/// Documents as people and tools write them.
fn yaml(size: &Size) -> String {
    let mut out = String::new();
    for i in 0..size.namespaces {
        let _ = write!(
            out,
            "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: ns-{i}\n  labels:\n    team: t{}\n    env: e{}\n---\n",
            i % 50,
            i % 3
        );
    }
    for i in 0..size.pods {
        let _ = write!(
            out,
            "apiVersion: v1\nkind: Pod\nmetadata:\n  name: pod-{i}\n  namespace: ns-{}\n  labels:\n    app: a{}\n    \
             tier: t{}\n    version: v{}\n    pod-template-hash: h{i}\nspec:\n  serviceAccountName: default\n  \
             nodeName: node-{}\n  containers:\n    - name: main\n      image: registry.example/app:{}\n      ports:\n        \
             - name: http\n          containerPort: {}\n        - name: metrics\n          containerPort: 9100\n      \
             env:\n        - name: ROLE\n          value: worker\nstatus:\n  phase: Running\n  podIP: {ip}\n  \
             podIPs:\n    - ip: {ip}\n    - ip: fd00::{:x}:{:x}\n---\n",
            size.namespace(i),
            i % 1000,
            i % 5,
            i % 17,
            i / NODE,
            i % 9,
            8000 + i % 3,
            i >> 16,
            i & 0xffff,
            ip = ip(i),
        );
    }
    for i in 0..size.policies {
        let _ = write!(
            out,
            "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata:\n  name: policy-{i}\n  namespace: ns-{}\n\
             spec:\n  podSelector:\n    matchLabels:\n      tier: t{}\n  policyTypes:\n    - Ingress\n    - Egress\n  \
             ingress:\n    - from:\n        - podSelector:\n            matchLabels:\n              app: a{}\n          \
             namespaceSelector:\n            matchLabels:\n              team: t{}\n        - ipBlock:\n            \
             cidr: 192.0.2.0/24\n            except:\n              - 192.0.2.{}/32\n      ports:\n        - port: http\n  \
             egress:\n    - to:\n        - namespaceSelector:\n            matchExpressions:\n              - key: env\n                \
             operator: In\n                values:\n                  - e0\n                  - e1\n      ports:\n        \
             - port: 53\n          protocol: UDP\n---\n",
            size.namespace(i),
            i % 5,
            i % 1000,
            i % 50,
            i % 256,
        );
    }
    out
}

/// One `List`, with what the API server adds, indented as kubectl does.
fn json(size: &Size) -> String {
    use serde_json::json;
    let meta = |namespace: Option<usize>, name: String, labels: serde_json::Value, i: usize| {
        let mut meta = json!({
            "creationTimestamp": "2026-01-01T00:00:00Z",
            "labels": labels,
            "name": name,
            "resourceVersion": format!("{}", 1_000_000 + i),
            "uid": format!("{i:08x}-0000-4000-8000-{i:012x}"),
        });
        if let Some(namespace) = namespace {
            meta["namespace"] = json!(format!("ns-{namespace}"));
        }
        meta
    };
    let mut out = String::from("{\n    \"apiVersion\": \"v1\",\n    \"items\": [\n");
    let mut add = |item: serde_json::Value| {
        let text = serde_json::to_string_pretty(&item).unwrap_or_default();
        for (n, line) in text.lines().enumerate() {
            let indent = line.len() - line.trim_start().len();
            let _ = write!(
                out,
                "{}{:width$}{}",
                if n == 0 { "" } else { "\n" },
                "",
                line.trim_start(),
                width = 8 + 2 * indent
            );
        }
        out.push_str(",\n");
    };
    for i in 0..size.namespaces {
        let labels = json!({ "team": format!("t{}", i % 50), "env": format!("e{}", i % 3) });
        add(json!({
            "apiVersion": "v1", "kind": "Namespace", "metadata": meta(None, format!("ns-{i}"), labels, i),
            "spec": { "finalizers": ["kubernetes"] }, "status": { "phase": "Active" },
        }));
    }
    for i in 0..size.pods {
        let labels = json!({
            "app": format!("a{}", i % 1000), "tier": format!("t{}", i % 5), "version": format!("v{}", i % 17),
            "pod-template-hash": format!("h{i}"),
        });
        add(pod(meta(Some(size.namespace(i)), format!("pod-{i}"), labels, i), i));
    }
    for i in 0..size.policies {
        add(json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
            "metadata": meta(Some(size.namespace(i)), format!("policy-{i}"), json!({}), i),
            "spec": {
                "podSelector": { "matchLabels": { "tier": format!("t{}", i % 5) } },
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{
                    "from": [
                        {
                            "podSelector": { "matchLabels": { "app": format!("a{}", i % 1000) } },
                            "namespaceSelector": { "matchLabels": { "team": format!("t{}", i % 50) } },
                        },
                        { "ipBlock": { "cidr": "192.0.2.0/24", "except": [format!("192.0.2.{}/32", i % 256)] } },
                    ],
                    "ports": [{ "port": "http", "protocol": "TCP" }],
                }],
                "egress": [{
                    "to": [{ "namespaceSelector": { "matchExpressions": [
                        { "key": "env", "operator": "In", "values": ["e0", "e1"] },
                    ] } }],
                    "ports": [{ "port": 53, "protocol": "UDP" }],
                }],
            },
        }));
    }
    out.truncate(out.trim_end_matches(",\n").len());
    out.push_str("\n    ],\n    \"kind\": \"List\",\n    \"metadata\": {\n        \"resourceVersion\": \"\"\n    }\n}\n");
    out
}

fn pod(metadata: serde_json::Value, i: usize) -> serde_json::Value {
    serde_json::json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": metadata,
        "spec": {
            "containers": [{
                "image": format!("registry.example/app:{}", i % 9),
                "imagePullPolicy": "IfNotPresent",
                "name": "main",
                "ports": [
                    { "containerPort": 8000 + i % 3, "name": "http", "protocol": "TCP" },
                    { "containerPort": 9100, "name": "metrics", "protocol": "TCP" },
                ],
                "resources": { "requests": { "cpu": "100m", "memory": "64Mi" } },
                "volumeMounts": [{
                    "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount",
                    "name": "kube-api-access",
                    "readOnly": true,
                }],
            }],
            "dnsPolicy": "ClusterFirst",
            "nodeName": format!("node-{}", i / NODE),
            "restartPolicy": "Always",
            "serviceAccount": "default",
            "serviceAccountName": "default",
            "tolerations": [{
                "effect": "NoExecute",
                "key": "node.kubernetes.io/not-ready",
                "operator": "Exists",
                "tolerationSeconds": 300,
            }],
        },
        "status": {
            "conditions": [
                { "lastTransitionTime": "2026-01-01T00:00:00Z", "status": "True", "type": "Ready" },
                { "lastTransitionTime": "2026-01-01T00:00:00Z", "status": "True", "type": "PodScheduled" },
            ],
            "hostIP": "192.168.0.1",
            "phase": "Running",
            "podIP": ip(i),
            "podIPs": [{ "ip": ip(i) }, { "ip": format!("fd00::{:x}:{:x}", i >> 16, i & 0xffff) }],
            "qosClass": "Burstable",
        },
    })
}
