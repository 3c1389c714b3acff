//! Random packets, at the edges of what the manifests name.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use polc_compiler::ir::{Direction, Flow};
use polc_compiler::manifest::{Objects, Pod};

use crate::random::Random;
use crate::world::{NETS, PORTS};

/// What policy is asked: a packet at a pod.
#[derive(Clone, Debug)]
pub struct Question {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod's name.
    pub pod: String,
    /// Which way the packet goes.
    pub direction: Direction,
    /// The packet.
    pub flow: Flow,
}

/// Draws a packet to or from a pod; `None` if there is no pod with an address.
pub fn draw(random: &mut Random, objects: &Objects) -> Option<Question> {
    let pods: Vec<&Pod> = objects.pods.iter().filter(|p| !p.host_network && !p.finished).collect();
    if pods.is_empty() {
        return None;
    }
    let pod = *random.pick(&pods);
    let local = *random.pick(&pod.ips);
    let remote = remote(random, objects, local.is_ipv4());
    let direction = *random.pick(&[Direction::Ingress, Direction::Egress]);
    let (src, dst) = if direction == Direction::Ingress { (remote, local) } else { (local, remote) };
    let flow = transport(random, src, dst);
    let (namespace, pod) = (pod.meta.namespace.clone().unwrap_or_default(), pod.meta.name.clone());
    Some(Question { namespace, pod, direction, flow })
}

/// A pod's address, an address at the edge of a CIDR, or any.
fn remote(random: &mut Random, objects: &Objects, v4: bool) -> IpAddr {
    let of_pods = objects.pods.iter().flat_map(|p| &p.ips).copied().filter(|ip| ip.is_ipv4() == v4);
    let addresses: Vec<IpAddr> = of_pods.collect();
    if !addresses.is_empty() && random.chance(60) {
        return *random.pick(&addresses);
    }
    let nets: Vec<IpNet> = NETS.iter().filter_map(|net| net.parse().ok()).collect();
    let nets: Vec<IpNet> = nets.into_iter().filter(|net| net.addr().is_ipv4() == v4).collect();
    let net = random.pick(&nets);
    let edge = random.below(4);
    match (net.network(), net.broadcast()) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            let (first, last) = (u32::from(first), u32::from(last));
            let edges = [first, last, first.wrapping_sub(1), last.wrapping_add(1)];
            Ipv4Addr::from(edges[edge]).into()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            let (first, last) = (u128::from(first), u128::from(last));
            let edges = [first, last, first.wrapping_sub(1), last.wrapping_add(1)];
            Ipv6Addr::from(edges[edge]).into()
        }
        (other, _) => other,
    }
}

fn transport(random: &mut Random, src: IpAddr, dst: IpAddr) -> Flow {
    let protocol = *random.pick(&[6, 6, 6, 6, 17, 17, 132, 1, 58, 47, 136]);
    let fragment = random.chance(5);
    let own_icmp = if src.is_ipv4() { 1 } else { 58 };
    let icmp = *random.pick(&[(8, 0), (8, 1), (128, 0), (128, 1), (3, 4)]);
    let ports = (port(random), port(random));
    Flow {
        src,
        dst,
        protocol,
        ports: (matches!(protocol, 6 | 17 | 132) && !fragment).then_some(ports),
        icmp: (protocol == own_icmp && !fragment).then_some(icmp),
    }
}

fn port(random: &mut Random) -> u16 {
    let port = *random.pick(&PORTS);
    match random.below(6) {
        0 => port.wrapping_add(1),
        1 => port.wrapping_sub(1),
        2 => *random.pick(&[49, 50, 51, 90]),
        _ => port,
    }
}
