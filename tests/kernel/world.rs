//! A node and a pod, joined by a veth pair, and a bpffs: made for one test, gone
//! with it.

use std::fs::File;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use polc_runtime::sys::{PrivateBpfFs, enter_network_namespace};

/// The host's end of the pod's link.
pub const IFACE: &str = "cali0";
/// The interface of what is a pod, or a host.
pub const HOST_IFACE: &str = "eth0";
pub const NODE_V4: &str = "10.99.0.1";
pub const POD_V4: &str = "10.99.0.2";
pub const NODE_V6: &str = "fd99::1";
pub const POD_V6: &str = "fd99::2";

pub struct World {
    pub fs: PrivateBpfFs,
    pub node: String,
    pub pod: String,
    /// The namespace in which polc runs.
    at: String,
    /// Policy files.
    folder: PathBuf,
}

impl World {
    /// `None` (with the reason printed) without the privileges.
    pub fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let fs = match PrivateBpfFs::new() {
            Ok(fs) => fs,
            Err(e) => {
                let required = std::env::var_os("POLC_REQUIRE_KERNEL").is_some_and(|v| v == "1");
                assert!(!required, "{e:?}");
                eprintln!("skipped: no bpffs: {e}");
                return None;
            }
        };
        let name = format!("polc-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let folder = std::env::temp_dir().join(&name);
        std::fs::create_dir_all(&folder).unwrap();
        let (node, pod) = (format!("{name}-node"), format!("{name}-pod"));
        let world = Self { fs, at: node.clone(), node, pod, folder };
        world.ip(&format!("netns add {}", world.node));
        world.ip(&format!("netns add {}", world.pod));
        world.make_link();
        Some(world)
    }

    /// The same, but polc runs where the pod is: that namespace is a host then, at
    /// [`HOST_IFACE`].
    pub fn of_host() -> Option<Self> {
        let mut world = Self::new()?;
        world.at.clone_from(&world.pod);
        Some(world)
    }

    /// The veth pair, with addresses, up.
    pub fn make_link(&self) {
        let (node, pod) = (&self.node, &self.pod);
        self.ip(&format!("-n {node} link add {IFACE} type veth peer name eth0 netns {pod}"));
        for (ns, dev, v4, v6) in [(node, IFACE, NODE_V4, NODE_V6), (pod, "eth0", POD_V4, POD_V6)] {
            self.ip(&format!("-n {ns} addr add {v4}/24 dev {dev}"));
            self.ip(&format!("-n {ns} addr add {v6}/64 dev {dev} nodad"));
            self.ip(&format!("-n {ns} link set lo up"));
            self.ip(&format!("-n {ns} link set {dev} up"));
        }
    }

    pub fn ip(&self, arguments: &str) {
        let output = Command::new("ip").args(arguments.split(' ')).output().unwrap();
        assert!(output.status.success(), "ip {arguments}: {output:?}");
    }

    /// Standard output of a command in the node's namespace.
    pub fn node_command(&self, command: &str) -> String {
        Self::output(&self.node, command)
    }

    /// Standard output of a command where [`Self::of_host`] runs polc.
    pub fn host_command(&self, command: &str) -> String {
        Self::output(&self.pod, command)
    }

    /// A command where polc runs.
    pub fn in_namespace(&self, command: &[&str]) -> Output {
        inside(&self.at).args(command).output().unwrap()
    }

    fn output(namespace: &str, command: &str) -> String {
        let output = inside(namespace).args(command.split(' ')).output().unwrap();
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// `polc` in its namespace, on this bpffs.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = inside(&self.at);
        command.arg(env!("CARGO_BIN_EXE_polc")).args(arguments);
        command.arg("--bpffs").arg(self.fs.path());
        command
    }

    pub fn polc(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// `polc`, which must succeed: its standard output.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.polc(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Writes a policy: the file's path.
    pub fn policy(&self, name: &str, yaml: &str) -> String {
        let path = self.folder.join(name);
        std::fs::write(&path, yaml).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// Enforces a policy file for the pod.
    pub fn attach(&self, policy: &str, more: &[&str]) {
        self.ok(&[&attach(policy), more].concat());
    }

    #[expect(clippy::zombie_processes, reason = "a panic ends the test; else the caller waits")]
    /// `polc` that stops at a step. `None` if it came to its end before.
    pub fn stopped_at(&self, arguments: &[&str], step: u32) -> Option<(Child, String)> {
        let mut child = self
            .command(arguments)
            .env("POLC_STOP_AT_STEP", step.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = Vec::new();
        let mut stderr = std::io::BufReader::new(child.stderr.take().unwrap());
        loop {
            let mut line = String::new();
            if std::io::BufRead::read_line(&mut stderr, &mut line).unwrap() == 0 {
                assert!(child.wait().unwrap().success(), "{lines:?}");
                return None;
            }
            if line.starts_with("stopped at step") {
                child.stderr = Some(stderr.into_inner());
                return Some((child, line));
            }
            lines.push(line);
        }
    }

    /// Names of everything that is pinned, folders included.
    pub fn pins(&self) -> Vec<String> {
        let mut found = Vec::new();
        let mut todo = vec![self.fs.path().join("polc")];
        while let Some(folder) = todo.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    todo.push(path.clone());
                }
                found.push(path.strip_prefix(self.fs.path()).unwrap().to_str().unwrap().to_owned());
            }
        }
        found.sort();
        found
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for ns in [&self.node, &self.pod] {
            let _ = Command::new("ip").args(["netns", "del", ns]).output();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn inside(namespace: &str) -> Command {
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{namespace}"));
    command
}

/// The arguments that attach a policy to the pod.
pub fn attach(policy: &str) -> [&str; 6] {
    ["attach", policy, "--interface", IFACE, "--endpoint", "default/pod"]
}

/// Sends a signal, such as `-TERM`, to a child.
pub fn signal_to(child: &Child, signal: &str) {
    let kill = format!("kill {signal} {}", child.id());
    assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
}

pub fn text(output: &Output) -> String {
    format!("{}\n{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Runs a closure in a network namespace.
pub fn within<T: Send>(namespace: &str, run: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            enter_network_namespace(&File::open(format!("/run/netns/{namespace}")).unwrap()).unwrap();
            run()
        });
        thread.join().unwrap()
    })
}
