//! Ways in which members change, without an end.

use std::net::Ipv4Addr;

use ipnet::IpNet;
use polc_compiler::ir::AddrSet;
use polc_compiler::ir::generate::Rng;
use polc_compiler::live::Change;

use crate::policy::{MOVING, SETS, address, host};

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// An address comes to a set, and leaves it.
    HostsComeAndGo,
    /// An address goes from one set to another: classes that exist.
    HostsMove,
    /// An address goes to three other sets: a class that nobody had.
    NewClasses,
    /// A /24 comes to a set, and leaves it.
    Prefixes,
}

impl Kind {
    pub const ALL: [Self; 4] = [Self::HostsComeAndGo, Self::HostsMove, Self::NewClasses, Self::Prefixes];

    pub fn name(self) -> &'static str {
        match self {
            Self::HostsComeAndGo => "host come, go",
            Self::HostsMove => "host moves",
            Self::NewClasses => "new class",
            Self::Prefixes => "prefix /24",
        }
    }

    /// From the members that the world begins with.
    pub fn plan(self) -> Plan {
        let held = match self {
            Self::HostsMove => (0..MOVING).map(|n| vec![n % SETS]).collect(),
            // As many as there is room for new classes, and a few times as much.
            Self::NewClasses => (0..MOVING / 8).map(|n| vec![n % SETS]).collect(),
            Self::HostsComeAndGo | Self::Prefixes => vec![Vec::new(); MOVING as usize],
        };
        Plan { kind: self, rng: Rng::new(1), held }
    }
}

pub struct Plan {
    kind: Kind,
    rng: Rng,
    /// The sets that hold each address or prefix that changes, ascending.
    held: Vec<Vec<u32>>,
}

impl Plan {
    fn net(&self, number: usize) -> IpNet {
        match self.kind {
            Kind::HostsMove | Kind::NewClasses => host(address(101, number as u32)),
            Kind::HostsComeAndGo => host(address(102, number as u32)),
            Kind::Prefixes => {
                IpNet::new(Ipv4Addr::new(10, 103, number as u8, 0).into(), 24).unwrap_or_default()
            }
        }
    }

    /// Puts all that changes into the sets where it is now.
    pub fn members(&self, sets: &mut [Vec<IpNet>]) {
        for (number, held) in self.held.iter().enumerate() {
            let net = self.net(number);
            sets.iter_mut().for_each(|nets| nets.retain(|old| *old != net));
            held.iter().for_each(|set| sets[*set as usize].push(net));
        }
    }

    pub fn next_change(&mut self) -> Change {
        let number = self.rng.below(self.held.len());
        let net = self.net(number);
        let count = match self.kind {
            Kind::NewClasses => 3,
            Kind::HostsMove => 1,
            Kind::HostsComeAndGo | Kind::Prefixes => usize::from(self.held[number].is_empty()),
        };
        let mut wanted: Vec<u32> = (0..count).map(|_| self.rng.below(SETS as usize) as u32).collect();
        wanted.sort_unstable();
        wanted.dedup();
        let sets = |a: &[u32], b: &[u32]| -> Vec<AddrSet> {
            a.iter().filter(|set| !b.contains(set)).map(|set| AddrSet::from_u32(*set)).collect()
        };
        let held = &self.held[number];
        let change = Change { net, add: sets(&wanted, held), remove: sets(held, &wanted) };
        self.held[number] = wanted;
        change
    }
}
