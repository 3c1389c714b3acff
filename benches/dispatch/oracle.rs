//! What the reference evaluator says, for many packets of a policy with many addresses.
//!
//! [`evaluate`] searches sets linearly. Whether an address is in a set is all that it
//! asks of them, so the oracle keeps a copy of the policy whose sets hold, for each
//! packet anew, only those networks that contain one of the packet's addresses.

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;

use ipnet::IpNet;
use polc_compiler::ir::{AddrSet, Flow, Outcome, PolicyIr, evaluate};

pub struct Oracle {
    ir: PolicyIr,
    sets: HashMap<IpNet, Vec<AddrSet>>,
    lengths: BTreeSet<(bool, u8)>,
}

impl Oracle {
    pub fn new(ir: &PolicyIr) -> Self {
        let mut ir = ir.clone();
        let mut sets: HashMap<IpNet, Vec<AddrSet>> = HashMap::new();
        let mut lengths = BTreeSet::new();
        for (id, set) in ir.sets.iter_mut() {
            for net in std::mem::take(&mut set.nets) {
                lengths.insert((net.addr().is_ipv6(), net.prefix_len()));
                sets.entry(net).or_default().push(id);
            }
        }
        Self { ir, sets, lengths }
    }

    /// What the whole policy says.
    pub fn evaluate(&mut self, flow: &Flow) -> Outcome {
        let mut filled = Vec::new();
        for address in [flow.src, flow.dst] {
            self.fill(address, &mut filled);
        }
        let outcome = evaluate(&self.ir, flow);
        filled.into_iter().for_each(|set| self.ir.sets[set].nets.clear());
        outcome
    }

    fn fill(&mut self, address: IpAddr, filled: &mut Vec<AddrSet>) {
        for (_, length) in self.lengths.iter().filter(|(v6, _)| *v6 == address.is_ipv6()) {
            let net = IpNet::new_assert(address, *length).trunc();
            for set in self.sets.get(&net).into_iter().flatten() {
                self.ir.sets[*set].nets.push(net);
                filled.push(*set);
            }
        }
    }
}
