//! Who owns an address.

use std::collections::HashMap;
use std::net::IpAddr;

use polc_compiler::ir::Direction;

use crate::Attachment;

/// Addresses and the attachments that packets from and to them belong to.
///
/// Several endpoints may own one address. Look-ups only: nothing iterates the
/// map, so its order reaches no output.
#[derive(Clone, Debug, Default)]
pub struct Owners {
    by_address: HashMap<IpAddr, Owner>,
}

#[derive(Clone, Debug, Default)]
struct Owner {
    egress: Vec<Attachment>,
    ingress: Vec<Attachment>,
}

impl Owners {
    /// Says that packets from (egress) or to (ingress) `address` are evaluated at
    /// `at`. Adding the same twice changes nothing.
    pub fn add(&mut self, address: IpAddr, at: Attachment, direction: Direction) {
        let owner = self.by_address.entry(address).or_default();
        let list = match direction {
            Direction::Egress => &mut owner.egress,
            Direction::Ingress => &mut owner.ingress,
        };
        if !list.contains(&at) {
            list.push(at);
        }
    }

    /// Where a packet with this address on the side that `direction` means is
    /// evaluated, in the order of [`Self::add`].
    pub fn at(&self, address: IpAddr, direction: Direction) -> &[Attachment] {
        match self.by_address.get(&address) {
            None => &[],
            Some(owner) => match direction {
                Direction::Egress => &owner.egress,
                Direction::Ingress => &owner.ingress,
            },
        }
    }

    /// Whether no address is owned.
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directions_are_apart_and_nothing_is_listed_twice() {
        let mut owners = Owners::default();
        assert!(owners.is_empty());
        let address = IpAddr::from([10, 0, 0, 1]);
        for at in [7, 3, 7] {
            owners.add(address, Attachment(at), Direction::Egress);
        }
        assert_eq!(owners.at(address, Direction::Egress), [Attachment(7), Attachment(3)]);
        assert_eq!(owners.at(address, Direction::Ingress), []);
        assert_eq!(owners.at([10, 0, 0, 2].into(), Direction::Egress), []);
        assert!(!owners.is_empty());
    }
}
