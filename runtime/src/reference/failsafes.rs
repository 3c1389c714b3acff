//! Failsafe ports, as a list that is searched.

use ipnet::IpNet;
use polc_compiler::abi::failsafe::Port;
use polc_compiler::ir::{Direction, Flow};

/// The open ports of all endpoints.
#[derive(Default)]
pub(super) struct Failsafes {
    open: Vec<(u32, Port, Option<IpNet>)>,
}

impl Failsafes {
    /// Opens ports at an endpoint for far addresses (`None`: all).
    pub(super) fn open(&mut self, endpoint: u32, ports: &[(Port, Vec<Option<IpNet>>)]) {
        for (port, nets) in ports {
            self.open.extend(nets.iter().map(|net| (endpoint, *port, *net)));
        }
    }

    /// Whether a packet goes to an open port.
    pub(super) fn admit(&self, endpoint: u32, direction: Direction, flow: &Flow) -> bool {
        let Some((_, dport)) = flow.ports else { return false };
        let egress = direction == Direction::Egress;
        let far = if egress { flow.dst } else { flow.src };
        let asked = Port { egress, protocol: flow.protocol, port: dport };
        let admits = |net: &Option<IpNet>| net.is_none_or(|net| net.contains(&far));
        self.open.iter().any(|(at, port, net)| (*at, *port) == (endpoint, asked) && admits(net))
    }

    /// Whether a packet goes to an open port, or may answer one that goes to an
    /// open port of the other direction.
    pub(super) fn concern(&self, endpoint: u32, direction: Direction, flow: &Flow) -> bool {
        let answered = Flow {
            src: flow.dst,
            dst: flow.src,
            ports: flow.ports.map(|(sport, dport)| (dport, sport)),
            ..*flow
        };
        let other = super::tracking::opposite(direction);
        self.admit(endpoint, direction, flow) || self.admit(endpoint, other, &answered)
    }
}
