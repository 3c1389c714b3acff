//! Columns: the partition of packets by everything but addresses.
//!
//! What: two packets are in one column if the same rules can match them, on the
//! same side conditions. A column is the list of those rules, reduced: a chain is
//! cut at its first rule without condition, a condition that stood before in the
//! same chain is dropped, and so is everything behind a chain that is sure to
//! decide. Equal lists are one column, whatever their ports.
//!
//! Packets are laid out in *planes* (family, protocol, whether a transport header
//! is readable); in a plane by destination port, or ICMP type and code; and where
//! rules look at source ports, by those.
//!
//! Why sound: what is dropped can decide no packet of the column. A rule whose
//! condition stood before it in its chain is reached only by packets that failed
//! that condition; Log rules, which do not end the walk, drop nothing.
//!
//! Cost: a sweep over the ends of all spans of each distinct plane, with the
//! rules that are live at each stretch: O(Σ stretches × rules there), bounded by
//! `MAX_WORK` of `sweep`.

mod active;
mod sweep;

use rustc_hash::FxHashMap;

use super::condition::{Cond, Conditions};
use super::lists::Lists;
use super::{Side, Unfit};
use crate::ir::{Decision, Family, PolicyIr, Verdict, protocol};

use sweep::Sweeper;

/// What an item does when its conditions hold.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Act {
    /// Ends the evaluation.
    Decide(Verdict),
    /// Goes on with the next chain.
    Pass,
    /// Is recorded, and goes on.
    Log,
}

/// A rule or a chain's end, without what the column says already.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub struct Item {
    /// Position of the chain in [`PolicyIr::order`].
    pub chain: u32,
    /// What it does.
    pub act: Act,
    /// What it is reported as.
    pub decision: Decision,
    /// What it asks of the source.
    pub src: Cond,
    /// What it asks of the destination.
    pub dst: Cond,
}

impl Item {
    /// Whether it holds for every packet of the column.
    pub fn is_sure(&self) -> bool {
        (self.src, self.dst) == (Cond::ALWAYS, Cond::ALWAYS)
    }
}

impl Side {
    /// What an item asks of this side.
    pub fn of(self, item: &Item) -> Cond {
        match self {
            Self::Src => item.src,
            Self::Dst => item.dst,
        }
    }
}

/// Whether a packet has a readable transport header, and of what kind.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Header {
    /// None: neither ports nor ICMP type.
    None,
    /// Ports.
    Ports,
    /// ICMP type and code.
    Icmp,
}

/// A stretch of an axis: from this value to the start of the next one.
pub type Stretch = (u16, u16);

/// The columns of a plane.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Plane {
    /// Classes of source ports by where they start; one stretch if no rule here
    /// looks at source ports.
    pub sources: Vec<Stretch>,
    /// For each class of source ports the columns by where they start.
    pub columns: Vec<Vec<Stretch>>,
}

/// The partition of a policy.
#[derive(Clone, Debug)]
pub struct Partition {
    /// Side conditions.
    pub conditions: Conditions,
    /// Rules and chain ends as columns refer to them.
    pub items: Vec<Item>,
    /// Place in the policy of the first rule, or chain's end, that is each item.
    pub ranks: Vec<u32>,
    /// Items of each column, in match order; the last of them decides.
    pub columns: Lists,
    /// Distinct planes.
    pub planes: Vec<Plane>,
    /// Plane by (family, header, protocol), as [`Self::plane`] reads it; `None`
    /// where no packet can be.
    directory: Vec<Option<u16>>,
}

impl Partition {
    /// The plane of packets of this family and protocol with this header; `None`
    /// if there can be no such packet.
    pub fn plane(&self, family: Family, header: Header, protocol: u8) -> Option<u16> {
        self.directory[place(family, header, protocol)]
    }

    /// The items of a column.
    pub fn items_of(&self, column: usize) -> impl Iterator<Item = &Item> {
        self.columns[column].iter().map(|id| &self.items[*id as usize])
    }
}

fn place(family: Family, header: Header, protocol: u8) -> usize {
    let family = usize::from(family == Family::V6);
    (family * 3 + header as usize) * 256 + usize::from(protocol)
}

/// Computes the columns of all rules in evaluated chains.
///
/// # Errors
/// More than `most` columns, too many classes of source ports, or too much work.
pub fn partition(ir: &PolicyIr, most: usize) -> Result<Partition, Unfit> {
    let mut sweeper = Sweeper::new(ir, most);
    let mut planes = Vec::new();
    let mut known: FxHashMap<Plane, u16> = FxHashMap::default();
    let mut directory = vec![None; 2 * 3 * 256];
    let mut seen: FxHashMap<(Header, Option<u8>, Vec<u32>), u16> = FxHashMap::default();
    // Protocols that no rule names are all alike.
    let mut unnamed: FxHashMap<(Family, Header), u16> = FxHashMap::default();
    for family in [Family::V4, Family::V6] {
        for header in [Header::None, Header::Ports, Header::Icmp] {
            for number in 0..=u8::MAX {
                let exists = match header {
                    Header::None => true,
                    Header::Ports => protocol::has_ports(number),
                    Header::Icmp => protocol::icmp_of(family) == number,
                };
                if !exists {
                    continue;
                }
                let alike = !sweeper.mentioned[usize::from(number)];
                if let Some(plane) = unnamed.get(&(family, header)).filter(|_| alike) {
                    directory[place(family, header, number)] = Some(*plane);
                    continue;
                }
                let rules = sweeper.rules_for(family, number);
                let named = sweeper.named && header == Header::Ports;
                let key = (header, named.then_some(number), rules);
                let plane = match seen.get(&key) {
                    Some(plane) => *plane,
                    None => {
                        let plane = sweeper.plane(&key.2, header, number)?;
                        let next = planes.len() as u16;
                        let id = *known.entry(plane).or_insert_with_key(|plane| {
                            planes.push(plane.clone());
                            next
                        });
                        seen.insert(key, id);
                        id
                    }
                };
                if alike {
                    unnamed.insert((family, header), plane);
                }
                directory[place(family, header, number)] = Some(plane);
            }
        }
    }
    let Sweeper { conditions, items, ranks, columns, .. } = sweeper;
    Ok(Partition { conditions, items, ranks, columns: columns.lists, planes, directory })
}
