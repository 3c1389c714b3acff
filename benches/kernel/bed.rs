//! A node and a pod, joined by a veth pair, and a sender.

use std::fs::File;
use std::io::Write as _;
use std::net::UdpSocket;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use polc_runtime::sys::{PrivateBpfFs, enter_network_namespace};

use crate::Failure;

pub const IFACE: &str = "cali0";
const POD: &str = "10.97.0.2";
/// A flow that every policy of the bench allows.
const OPEN_PORT: u16 = 40_000;

/// Packets between two looks at the clock: short enough that some samples meet no
/// other process.
const SAMPLE: u32 = 250;

pub struct Bed {
    pub fs: PrivateBpfFs,
    node: String,
    pod: String,
}

impl Bed {
    /// Makes it; the calling thread is in the node's namespace from then on.
    pub fn new() -> Result<Self, Failure> {
        let fs = PrivateBpfFs::new().map_err(|e| format!("{e}; the bench needs root"))?;
        let name = format!("polc-bench-{}", std::process::id());
        let bed = Self { fs, node: format!("{name}-node"), pod: format!("{name}-pod") };
        let (node, pod) = (&bed.node, &bed.pod);
        for line in [
            format!("netns add {node}"),
            format!("netns add {pod}"),
            format!("-n {node} link add {IFACE} type veth peer name eth0 netns {pod}"),
            format!("-n {node} addr add 10.97.0.1/24 dev {IFACE}"),
            format!("-n {pod} addr add {POD}/24 dev eth0"),
            format!("-n {pod} link set eth0 up"),
            format!("-n {node} link set {IFACE} up"),
        ] {
            let output = Command::new("ip").args(line.split(' ')).output()?;
            if !output.status.success() {
                return Err(format!("ip {line}: {output:?}").into());
            }
        }
        // What arrives is counted and goes no further.
        bed.enter(pod)?;
        nft("table netdev sink {
  chain in { type filter hook ingress device eth0 priority 0; meta l4proto udp counter drop; }
}")?;
        bed.enter(node)?;
        // Flows of earlier turns make room.
        for (file, value) in [("nf_conntrack_udp_timeout", "1"), ("nf_conntrack_udp_timeout_stream", "1")] {
            let _ = std::fs::write(format!("/proc/sys/net/netfilter/{file}"), value);
        }
        Ok(bed)
    }

    fn enter(&self, namespace: &str) -> Result<(), Failure> {
        Ok(enter_network_namespace(&File::open(format!("/run/netns/{namespace}"))?)?)
    }

    /// ns per packet of one flow that goes on: the pod has answered it once.
    pub fn established(&self, packets: u32) -> Result<f64, Failure> {
        self.enter(&self.pod)?;
        let pod = UdpSocket::bind((POD, OPEN_PORT))?;
        self.enter(&self.node)?;
        let socket = UdpSocket::bind("10.97.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_secs(2)))?;
        socket.connect((POD, OPEN_PORT))?;
        socket.send(b"polc")?;
        pod.send_to(b"polc", socket.local_addr()?)?;
        socket.recv(&mut [0; 16]).map_err(|e| format!("the pod's answer did not arrive: {e}"))?;
        for _ in 0..100 {
            socket.send(b"polc")?;
        }
        let mut least = f64::INFINITY;
        for _ in 0..packets / SAMPLE {
            let start = Instant::now();
            for _ in 0..SAMPLE {
                socket.send(b"polc")?;
            }
            least = least.min(start.elapsed().as_nanos() as f64 / f64::from(SAMPLE));
        }
        Ok(least)
    }

    /// ns per packet, each of a flow of its own: other ports from `first` on. The
    /// least of the samples, as for established ones.
    pub fn new_flows(&self, packets: u32, first: u16) -> Result<f64, Failure> {
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        socket.send_to(b"polc", (POD, OPEN_PORT))?;
        let mut least = f64::INFINITY;
        for sample in 0..packets / SAMPLE {
            let start = Instant::now();
            for offset in 0..SAMPLE {
                socket.send_to(b"polc", (POD, first + (sample * SAMPLE + offset) as u16))?;
            }
            least = least.min(start.elapsed().as_nanos() as f64 / f64::from(SAMPLE));
        }
        Ok(least)
    }

    /// Whether a datagram to a port arrives, as it should.
    pub fn check(&self, port: u16, arrives: bool) -> Result<(), Failure> {
        let before = self.arrived()?;
        let socket = UdpSocket::bind("0.0.0.0:0")?;
        let _ = socket.send_to(b"polc", (POD, port));
        if (self.arrived()? - before > 0) != arrives {
            return Err(format!(
                "a datagram to port {port} should have {}arrived",
                if arrives { "" } else { "not " }
            )
            .into());
        }
        Ok(())
    }

    /// Datagrams that the pod's interface received.
    fn arrived(&self) -> Result<u64, Failure> {
        self.enter(&self.pod)?;
        let listed = Command::new("nft").args(["list", "table", "netdev", "sink"]).output()?;
        self.enter(&self.node)?;
        let text = String::from_utf8(listed.stdout)?;
        let packets = text.split_once("counter packets ").and_then(|(_, rest)| rest.split(' ').next());
        Ok(packets.ok_or("no counter in the sink")?.parse()?)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        for ns in [&self.node, &self.pod] {
            let _ = Command::new("ip").args(["netns", "del", ns]).output();
        }
    }
}

/// Loads an nftables ruleset in the thread's namespace.
pub fn nft(rules: &str) -> Result<(), Failure> {
    let mut child = Command::new("nft").args(["-f", "-"]).stdin(Stdio::piped()).spawn()?;
    child.stdin.take().ok_or("no pipe")?.write_all(rules.as_bytes())?;
    if child.wait()?.success() { Ok(()) } else { Err("nft refused the rules".into()) }
}
