//! What moves between two memberships, one address or prefix after the other.

use std::collections::BTreeMap;

use ipnet::IpNet;

use super::resolved::{CompileNeeded, ResolvedPolicy, same_but_members};
use super::{Group, LiveTables};
use crate::ir::AddrSet;

/// A change of one address or prefix, in every set that it comes to or leaves: carried
/// out as one, so that no packet finds it in neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The address, as a /32 or /128, or prefix.
    pub net: IpNet,
    /// Sets of the resolved policy that it comes to.
    pub add: Vec<AddrSet>,
    /// Sets of the resolved policy that it leaves.
    pub remove: Vec<AddrSet>,
}

impl LiveTables {
    /// What leads from the members of now to those of a newly resolved policy, to be
    /// carried out by [`Self::change`] one after the other: first what comes, then what
    /// goes. Cost: linear in rules and members.
    ///
    /// # Errors
    /// [`CompileNeeded`], if more than members has changed, or they change in a way that
    /// these tables cannot follow.
    pub fn changes_to(&self, policy: &ResolvedPolicy) -> Result<Vec<Change>, CompileNeeded> {
        let new = policy.ir();
        if !same_but_members(&self.policy, new) {
            return Err(CompileNeeded::Policy);
        }
        let mut changes: BTreeMap<IpNet, Change> = BTreeMap::new();
        for group in &self.sets {
            let nets = |set: &AddrSet| &new.sets[*set].nets;
            let first = nets(&group.resolved[0]);
            if group.resolved.iter().any(|set| nets(set) != first) {
                return Err(CompileNeeded::Merged);
            }
            differences(group, first, &mut changes);
        }
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        if !self.can_change() {
            return Err(CompileNeeded::Chain);
        }
        // Ascending: a prefix stands before those inside it, and next to one of them.
        let mut around: Option<IpNet> = None;
        for net in changes.keys() {
            if around.is_some_and(|around| around.contains(net)) {
                return Err(CompileNeeded::Nested(*net));
            }
            around = Some(*net);
        }
        let (come, go): (Vec<Change>, Vec<Change>) =
            changes.into_values().partition(|change| !change.add.is_empty());
        Ok([come, go].concat())
    }
}

/// What a set's new members, ascending, change.
fn differences(group: &Group, new: &[IpNet], changes: &mut BTreeMap<IpNet, Change>) {
    let mut change = |net: IpNet, is_new: bool| {
        let change =
            changes.entry(net).or_insert_with(|| Change { net, add: Vec::new(), remove: Vec::new() });
        let sets = if is_new { &mut change.add } else { &mut change.remove };
        sets.extend_from_slice(&group.resolved);
    };
    let (mut old, mut new) = (group.members.iter().peekable(), new.iter().peekable());
    loop {
        match (old.peek(), new.peek()) {
            (Some(o), Some(n)) if o == n => {
                old.next();
                new.next();
            }
            (Some(o), Some(n)) if o < n => {
                change(**o, false);
                old.next();
            }
            (Some(o), None) => {
                change(**o, false);
                old.next();
            }
            (_, Some(n)) => {
                change(**n, true);
                new.next();
            }
            (None, None) => return,
        }
    }
}
