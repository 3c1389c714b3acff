//! Runs the command and holds its files.

use std::io::Write;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use crate::captures;

/// What a run of the command left.
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

/// Runs `polc` with this on its standard input.
pub fn polc(args: &[&str], stdin: &[u8]) -> Ran {
    let mut child = command(args).stdin(Stdio::piped()).spawn().expect("polc starts");
    // A command that never reads its input closes it: that is fine.
    let _ = child.stdin.take().expect("piped").write_all(stdin);
    let output = child.wait_with_output().expect("polc ends");
    Ran {
        code: output.status.code().expect("polc is not killed"),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// The command, with its output piped.
pub fn command(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_polc"));
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Two pods, a policy for one of them, and traffic: a folder that goes when the
/// test ends.
pub struct Scene {
    folder: PathBuf,
}

impl Scene {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let folder = std::env::temp_dir().join(format!("polc-cli-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a temporary folder");
        let scene = Self { folder };
        scene.write("cluster.yaml", CLUSTER.as_bytes());
        scene.write("policy.yaml", POLICY.as_bytes());
        scene.write("t.pcap", &captures::pcap(&captures::packets()));
        scene
    }

    pub fn path(&self, name: &str) -> String {
        self.folder.join(name).to_str().expect("UTF-8").to_owned()
    }

    pub fn write(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.folder.join(name), bytes).expect("a file");
    }

    pub fn read(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.join(name)).expect("a file")
    }

    pub fn make_folder(&self, name: &str) {
        std::fs::create_dir_all(self.folder.join(name)).expect("a folder");
    }

    /// `polc run` on the scene with further arguments.
    pub fn run(&self, more: &[&str]) -> Ran {
        let (cluster, policy, pcap) =
            (self.path("cluster.yaml"), self.path("policy.yaml"), self.path("t.pcap"));
        let mut args = vec!["run", &cluster, &policy, "--pcap", &pcap];
        args.extend(more);
        polc(&args, b"")
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

pub const CLUSTER: &str = "\
apiVersion: v1
kind: Pod
metadata: {name: web, namespace: shop, labels: {app: web}}
status: {podIPs: [{ip: 10.0.0.1}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api, namespace: shop, labels: {app: api}}
status: {podIPs: [{ip: 10.0.0.2}]}
";

pub const POLICY: &str = "\
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {name: web, namespace: shop}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{podSelector: {matchLabels: {app: api}}}]
    ports: [{port: 80}]
";
