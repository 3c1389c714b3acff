//! Failsafe ports: what host endpoints let through whatever policy says.
//!
//! Felix asks for them before anything else, untracked policy included
//! (projectcalico/calico `felix/rules/static.go`). The configuration of a node,
//! `node.<name>`, beats `default` field by field; what neither has is built in
//! (`felix/config/config_params.go`).

use std::collections::HashMap;

use ipnet::IpNet;

use super::policy::Context;
use crate::ir::protocol::{TCP, UDP};
use crate::ir::{AddrSet, Direction, Family, Match, Origin, PortMatch, SideMatch};
use crate::manifest::{FailsafePort, FelixConfiguration, Meta, Objects, Spanned};

/// Protocols and ports that are open towards a host where nothing else is configured.
const INBOUND: [(u8, u16); 9] = [
    (TCP, 22),
    (UDP, 68),
    (TCP, 179),
    (TCP, 2379),
    (TCP, 2380),
    (TCP, 5473),
    (TCP, 6443),
    (TCP, 6666),
    (TCP, 6667),
];

/// The same from a host.
const OUTBOUND: [(u8, u16); 9] = [
    (UDP, 53),
    (UDP, 67),
    (TCP, 179),
    (TCP, 2379),
    (TCP, 2380),
    (TCP, 5473),
    (TCP, 6443),
    (TCP, 6666),
    (TCP, 6667),
];

/// A failsafe port, or all that are built in for one protocol.
pub(super) struct Failsafe {
    protocol: u8,
    ports: Vec<u16>,
    net: Option<(Family, AddrSet)>,
    cidr: Option<IpNet>,
    /// The configuration that has it; `None` for what is built in.
    pub(super) meta: Option<Meta>,
    /// Zero-based index in the list.
    pub(super) index: u32,
    pub(super) at: Option<Origin>,
}

impl Failsafe {
    /// Protocol, destination port and far addresses of each.
    pub(super) fn ports(&self) -> impl Iterator<Item = (u8, u16, Option<IpNet>)> + '_ {
        self.ports.iter().map(|port| (self.protocol, *port, self.cidr))
    }

    /// Packets of the direction towards the port.
    pub(super) fn requests(&self, direction: Direction) -> Match {
        let ports = self.ports.iter().map(|port| PortMatch::Range(*port, *port)).collect();
        let mut dst = SideMatch { ports: Some(ports), ..SideMatch::default() };
        let mut src = SideMatch::default();
        // The net is about the far side, whichever that is.
        let far = if direction == Direction::Egress { &mut dst } else { &mut src };
        far.in_sets.extend(self.net.map(|(_, set)| set));
        self.matches(src, dst)
    }

    /// Packets of the direction that may answer those of the other one.
    pub(super) fn replies(&self, direction: Direction) -> Match {
        let Match { src, dst, .. } = self.requests(opposite(direction));
        self.matches(dst, src)
    }

    fn matches(&self, src: SideMatch, dst: SideMatch) -> Match {
        let family = self.net.map(|(family, _)| family);
        Match { family, protocol: Some(self.protocol), src, dst, ..Match::default() }
    }
}

/// The other direction.
pub(super) fn opposite(direction: Direction) -> Direction {
    match direction {
        Direction::Ingress => Direction::Egress,
        Direction::Egress => Direction::Ingress,
    }
}

/// Failsafe ports by configuration and direction.
pub(super) struct Felix {
    by_name: HashMap<String, [Option<Vec<Failsafe>>; 2]>,
    built_in: [Vec<Failsafe>; 2],
}

impl Felix {
    /// Converts the configurations of the input.
    pub(super) fn new(objects: &Objects, context: &mut Context<'_>) -> Self {
        let mut of = |configuration: &FelixConfiguration| {
            let mut ports = |list: &Option<Vec<Spanned<FailsafePort>>>| {
                let list = list.as_deref()?;
                let ports = list.iter().zip(0..);
                Some(ports.map(|(port, i)| convert(&configuration.meta, port, i, context)).collect())
            };
            [ports(&configuration.failsafe_inbound), ports(&configuration.failsafe_outbound)]
        };
        let by_name = objects.felix_configurations.iter().map(|c| (c.meta.name.clone(), of(c))).collect();
        Self { by_name, built_in: [built_in(&INBOUND), built_in(&OUTBOUND)] }
    }

    /// The failsafe ports of a node for packets of a direction.
    pub(super) fn failsafes(&self, node: &str, direction: Direction) -> &[Failsafe] {
        let configured = |name: &str| self.by_name.get(name)?[direction as usize].as_deref();
        configured(&format!("node.{node}"))
            .or_else(|| configured("default"))
            .unwrap_or(&self.built_in[direction as usize])
    }
}

fn convert(meta: &Meta, port: &Spanned<FailsafePort>, index: u32, context: &mut Context<'_>) -> Failsafe {
    let FailsafePort { protocol, port: number, net } = port.value;
    let cidr = net;
    let net = net.map(|net| {
        let family = if net.addr().is_ipv4() { Family::V4 } else { Family::V6 };
        (family, context.sets.nets([net]))
    });
    let at = Some(context.origin(port.span));
    Failsafe { protocol, ports: vec![number], net, cidr, meta: Some(meta.clone()), index, at }
}

/// One for each protocol: nothing tells those of one protocol apart.
fn built_in(list: &[(u8, u16)]) -> Vec<Failsafe> {
    let of = |protocol: u8| {
        let ports = list.iter().filter(|(p, _)| *p == protocol).map(|(_, port)| *port).collect();
        Failsafe { protocol, ports, net: None, cidr: None, meta: None, index: 0, at: None }
    };
    [TCP, UDP].map(of).into()
}
