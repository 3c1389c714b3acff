//! A compiled policy whose members change: the image, and beside it what leads from
//! one membership to the next without a compile.
//!
//! ```text
//! ResolvedPolicy ─compile─▶ PolicyImage ─load─▶ programs and tables in force
//!                      └──▶ LiveTables ─change─▶ stores ─────▲
//! ResolvedPolicy' ─────────────▲ changes_to: what moved, or that a compile is needed
//! ```
//!
//! What: [`LiveTables`] knows what the tables of its image hold, and gives the
//! [`Store`]s after which they hold what a new compile with the changed members would
//! lead every packet to. It compares what was *resolved*: passes merge and drop sets,
//! and a map from resolved sets to those that were compiled carries changes over.
//!
//! Why sound: no pass looks at who is in a set whose members come from a selector, but
//! to find two sets that are equal in everything; such sets are one in the image, and
//! must change alike or not at all ([`Refused::Merged`]). Each change is of one address
//! or prefix, in all sets at once, and every step of its stores shows a packet what was
//! before it or what is behind it (`address::membership`, `dispatch::live`). Changes of
//! prefixes within one another are none that one step can show, and ask for a compile.
//!
//! Cost: a change of a host is some microseconds; [`LiveTables::changes_to`] is linear
//! in rules and members. Memory: linear in members and tables, each of which are kept
//! beside those that are loaded.

mod changes;
mod resolved;
#[cfg(test)]
mod tests;

pub use changes::Change;
pub use resolved::{CompileNeeded, ResolvedPolicy};

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;

use crate::address::{AddressLayout, Class, Membership, Refused};
use crate::compile::{CompileError, CompileOptions, Compiled, compile_with_parts};
use crate::dispatch::live::LiveRows;
use crate::emit::FlatParts;
use crate::image::{PolicyImage, Store};
use crate::ir::{AddrSet, PolicyIr, SetKind};

/// What it takes to change the tables of an image.
#[derive(Clone, Debug)]
pub struct LiveTables {
    /// What was resolved, without the members that may change.
    policy: PolicyIr,
    sets: Vec<Group>,
    /// The group of each resolved set that rules of the image look at.
    group_of: BTreeMap<AddrSet, usize>,
    tables: Tables,
}

/// A resolved set that the image looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LiveSet<'a> {
    /// Its number in the resolved policy.
    pub id: AddrSet,
    /// What the policy says.
    pub name: &'a str,
    /// Whether the policy itself lists the members.
    pub is_fixed: bool,
    /// Members, ascending.
    pub members: Vec<IpNet>,
}

/// Resolved sets that are one set in the image.
#[derive(Clone, Debug)]
struct Group {
    resolved: Vec<AddrSet>,
    compiled: Vec<AddrSet>,
    members: BTreeSet<IpNet>,
}

#[derive(Clone, Debug)]
enum Tables {
    /// A chain: its tries are not changed in place.
    Chain,
    /// No packet's address matters.
    Fixed,
    Flat(Box<Flat>),
}

#[derive(Clone, Debug)]
struct Flat {
    membership: Membership,
    rows: LiveRows,
    /// The compiled set of each bit of a class.
    bits: Vec<AddrSet>,
}

/// Compiles a policy, as [`crate::compile::compile`] does, with what it takes to change
/// its members. Cost: that of compiling, and linear in members and tables; for the
/// cross form about twice that of compiling.
///
/// # Errors
/// See [`CompileError`].
pub fn compile_live(
    policy: PolicyIr,
    options: &CompileOptions,
) -> Result<(PolicyImage, LiveTables), CompileError> {
    let Compiled { image, ir, parts } = compile_with_parts(policy.clone(), options)?;
    Ok((image, LiveTables::new(policy, &ir, parts)))
}

impl LiveTables {
    fn new(mut policy: PolicyIr, compiled: &PolicyIr, parts: Option<FlatParts>) -> Self {
        let sets = groups(&mut policy, compiled);
        let group_of =
            (0..).zip(&sets).flat_map(|(at, group)| group.resolved.iter().map(move |set| (*set, at)));
        let tables = match parts {
            None => Tables::Chain,
            Some(parts) if !parts.uses_addresses => Tables::Fixed,
            Some(parts) => {
                let FlatParts { classes, addresses, dispatch, form, .. } = parts;
                let membership = Membership::new(compiled, &classes, &addresses, 0);
                let capacity = addresses.layout().class_capacity();
                let rows = LiveRows::new(dispatch, &classes, form, capacity);
                let bits = classes.sets.values().copied().collect();
                Tables::Flat(Box::new(Flat { membership, rows, bits }))
            }
        };
        Self { group_of: group_of.collect(), policy, sets, tables }
    }

    /// Whether members can be changed at all: a chain is replaced as a whole.
    pub fn can_change(&self) -> bool {
        !matches!(self.tables, Tables::Chain)
    }

    /// Carries one change over. Appends the stores to be carried out, in order; none
    /// if it changes nothing that the image looks at.
    ///
    /// # Errors
    /// [`Refused`]; nothing is appended then. But for [`Refused::NotQuiet`], and
    /// [`Refused::Merged`] and [`Refused::Fixed`], which change nothing, the tables are
    /// of no more use afterwards.
    pub fn change(&mut self, change: &Change, stores: &mut Vec<Store>) -> Result<(), Refused> {
        let (add, remove) = (self.whole_groups(&change.add)?, self.whole_groups(&change.remove)?);
        let flat = match &mut self.tables {
            Tables::Chain => return Err(Refused::NoTable),
            Tables::Fixed => None,
            Tables::Flat(flat) => Some(flat),
        };
        if let Some(flat) = flat {
            let compiled = |groups: &[usize]| -> Vec<AddrSet> {
                groups.iter().flat_map(|group| self.sets[*group].compiled.iter().copied()).collect()
            };
            let (add, remove) = (compiled(&add), compiled(&remove));
            flat.membership.change(change.net, &add, &remove, &mut flat.rows, stores)?;
        }
        let net = change.net.trunc();
        for group in remove {
            self.sets[group].members.remove(&net);
        }
        for group in add {
            self.sets[group].members.insert(net);
        }
        Ok(())
    }

    /// Every packet that was being decided when the last stores were carried out has
    /// been: what it may have seen may be used again.
    pub fn quiesce(&mut self) {
        if let Tables::Flat(flat) = &mut self.tables {
            flat.membership.quiesce(&mut flat.rows);
        }
    }

    /// The layout of the address tables, which are the image's first maps; `None` if it
    /// has none that change.
    pub fn layout(&self) -> Option<&AddressLayout> {
        match &self.tables {
            Tables::Flat(flat) => Some(flat.membership.layout()),
            Tables::Chain | Tables::Fixed => None,
        }
    }

    /// The classes that the address tables have, ascending, with the resolved sets that
    /// hold each one's addresses: of sets that are one in the image, all.
    pub fn classes(&self) -> Vec<(Class, Vec<AddrSet>)> {
        let Tables::Flat(flat) = &self.tables else { return Vec::new() };
        let mut resolved: BTreeMap<AddrSet, &[AddrSet]> = BTreeMap::new();
        for group in &self.sets {
            resolved.extend(group.compiled.iter().map(|set| (*set, group.resolved.as_slice())));
        }
        let sets = |class: Vec<crate::address::SetBit>| {
            let compiled = class.into_iter().map(|bit| flat.bits[bit.as_u32() as usize]);
            let mut sets: Vec<AddrSet> =
                compiled.flat_map(|set| resolved.get(&set).copied().unwrap_or_default()).copied().collect();
            sets.sort_unstable();
            sets.dedup();
            sets
        };
        flat.membership.classes().into_iter().map(|(class, bits)| (class, sets(bits))).collect()
    }

    /// The sets that the image looks at, ascending, with their members of now; those that
    /// passes dropped are left out.
    pub fn sets(&self) -> Vec<LiveSet<'_>> {
        let fixed = self.policy.sets.iter().filter(|(_, set)| set.kind == SetKind::Nets);
        let mut sets: Vec<LiveSet<'_>> = fixed
            .map(|(id, set)| LiveSet { id, name: &set.name, is_fixed: true, members: set.nets.clone() })
            .collect();
        for (id, group) in &self.group_of {
            let members = self.sets[*group].members.iter().copied().collect();
            sets.push(LiveSet { id: *id, name: &self.policy.sets[*id].name, is_fixed: false, members });
        }
        sets.sort_unstable_by_key(|set| set.id);
        sets
    }

    /// How many classes were given contents so far: [`Self::classes`] says something new
    /// when this does.
    pub fn classes_made(&self) -> u64 {
        match &self.tables {
            Tables::Flat(flat) => flat.rows.fills(),
            Tables::Chain | Tables::Fixed => 0,
        }
    }

    /// The groups of these sets; sets that no rule of the image looks at have none.
    fn whole_groups(&self, sets: &[AddrSet]) -> Result<Vec<usize>, Refused> {
        if sets.iter().any(|set| self.policy.sets.get(*set).is_some_and(|s| s.kind == SetKind::Nets)) {
            return Err(Refused::Fixed);
        }
        let mut groups: Vec<usize> = sets.iter().filter_map(|set| self.group_of.get(set)).copied().collect();
        groups.sort_unstable();
        groups.dedup();
        let is_whole = |group: &usize| self.sets[*group].resolved.iter().all(|set| sets.contains(set));
        if groups.iter().all(is_whole) { Ok(groups) } else { Err(Refused::Merged) }
    }
}

/// Takes the members that may change out of a policy, by what they are in the image.
/// Passes leave such sets as they are, merge those that are equal, and drop those that
/// no rule looks at: equal name and members are what leads from one to the other.
fn groups(policy: &mut PolicyIr, compiled: &PolicyIr) -> Vec<Group> {
    let mut known: BTreeMap<(&str, &[IpNet]), Vec<AddrSet>> = BTreeMap::new();
    for (id, set) in &compiled.sets {
        if set.kind == SetKind::Members {
            known.entry((&set.name, &set.nets)).or_default().push(id);
        }
    }
    let mut resolved: BTreeMap<(&str, &[IpNet]), Vec<AddrSet>> = BTreeMap::new();
    for (id, set) in &policy.sets {
        if set.kind == SetKind::Members {
            resolved.entry((&set.name, &set.nets)).or_default().push(id);
        }
    }
    let groups = resolved.into_iter().filter_map(|(key, resolved)| {
        let compiled = known.remove(&key)?;
        Some(Group { resolved, compiled, members: key.1.iter().copied().collect() })
    });
    let mut groups: Vec<Group> = groups.collect();
    groups.sort_unstable_by_key(|group| group.resolved[0]);
    for (_, set) in policy.sets.iter_mut() {
        if set.kind == SetKind::Members {
            set.nets = Vec::new();
        }
    }
    groups
}
