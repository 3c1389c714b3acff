//! From a packet's address to its class: tables and the code that looks into them.
//!
//! ```text
//! AddressClasses ─build─▶ AddressTables ─maps─▶ array maps with contents
//!                                       └emit─▶ instructions: address in the packet state → class id
//! ```
//!
//! | map | there is one for | look-up |
//! |---|---|---|
//! | `polc_hosts4` | scattered IPv4 addresses | one cache line, seldom two (`buckets`) |
//! | `polc_nets4` | IPv4 prefixes, and addresses that lie close | one to five words (`trie`) |
//! | `polc_hosts6` | IPv6 addresses | one cache line, seldom two |
//! | `polc_nets6` | IPv6 prefixes | binary search on lengths (`lengths`) |
//!
//! Both sides of a packet share the tables. Class 0 is that of addresses in no
//! set, and what a look-up that finds nothing gives.
//!
//! What the code depends on is the [`AddressLayout`] alone: which tables there
//! are, their sizes, the hash seeds and the IPv6 prefix lengths. Members change
//! within it. Where a set's members may change at run time ([`crate::ir::SetKind`])
//! there is a place for addresses of both families, and room: a quarter more addresses
//! than there are (at least 32, at most 65,536), an eighth more chunks and classes.
//! Without such sets the tables fit closely, since only a new policy changes them.

mod buckets;
mod class_sets;
mod classify;
mod decode;
mod emit;
mod layout;
mod lengths;
mod membership;
#[cfg(test)]
pub(crate) mod testing;
mod trie;

pub use classify::{AddressClasses, Class, SetBit, classify};
pub(crate) use classify::{side_sets, used_sets};
pub use decode::DecodeError;
pub use emit::LookUp;
pub use layout::AddressLayout;
pub use membership::{ClassRows, Membership, Refused};

use ipnet::Ipv6Net;

use crate::image::{DIRECT_BYTES, MapSpec, put_words};

use buckets::{Entry, Keys};
use layout::{Nets6, Table};

/// Most that tables may take.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct AddressLimits {
    /// Most values of one map.
    pub max_entries: u32,
    /// Most bytes of one map.
    pub max_table_bytes: u64,
    /// Most bytes of a map that is addressed directly.
    pub max_direct_bytes: u64,
}

impl Default for AddressLimits {
    /// Those of [`crate::emit::EmitOptions`].
    fn default() -> Self {
        Self { max_entries: 1 << 22, max_table_bytes: 256 << 20, max_direct_bytes: DIRECT_BYTES }
    }
}

/// The address tables cannot be built.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// More classes than ids.
    #[error("the sets tell {given} address classes apart, at most {max} are possible")]
    TooManyClasses {
        /// Classes.
        given: u64,
        /// Most.
        max: u32,
    },
    /// A table has too many values.
    #[error("table {map} needs {given} entries, at most {max} are allowed")]
    TooManyEntries {
        /// The map's name.
        map: &'static str,
        /// Entries needed, room to grow included.
        given: u64,
        /// [`AddressLimits::max_entries`].
        max: u32,
    },
    /// A table is too large.
    #[error("table {map} needs {given} bytes, at most {max} are allowed")]
    TableTooLarge {
        /// The map's name.
        map: &'static str,
        /// Bytes needed, room to grow included.
        given: u64,
        /// [`AddressLimits::max_table_bytes`].
        max: u64,
    },
    /// The addresses collide under every hash function that was tried.
    #[error(
        "table {map} finds no place for its {given} addresses: they collide under every hash function tried"
    )]
    Collisions {
        /// The map's name.
        map: &'static str,
        /// Addresses.
        given: u64,
    },
}

/// Prefixes as (network, length, class), ascending: a prefix stands before those
/// inside it.
type Prefixes<A> = [(A, u8, u32)];

/// The tables of a policy's addresses: their layout, and what they hold at first.
#[derive(Clone, Debug, PartialEq)]
pub struct AddressTables {
    layout: AddressLayout,
    /// Contents by map, in 4-byte words; as long as the map or shorter, the rest is 0.
    words: Vec<Vec<u32>>,
}

impl AddressTables {
    /// Lays out and fills the tables of these classes. Cost: sorting, and linear in
    /// prefixes and table sizes.
    ///
    /// # Errors
    /// See [`AddressError`].
    pub fn build(classes: &AddressClasses, limits: &AddressLimits) -> Result<Self, AddressError> {
        let v4: Vec<(u32, u8, u32)> = classes
            .v4
            .iter()
            .map(|(net, class)| (net.network().into(), net.prefix_len(), class.as_u32()))
            .collect();
        let mut layout = AddressLayout {
            hosts4: None,
            nets4: None,
            hosts6: None,
            nets6: None,
            classes: layout::class_capacity(classes.len())?,
            max_direct: limits.max_direct_bytes,
        };
        let mut words = Vec::new();
        build4(&v4, classes.open, &mut layout, &mut words)?;
        build6(&classes.v6, classes.open, &mut layout, &mut words)?;
        layout::check(&layout, limits)?;
        Ok(Self { layout, words })
    }

    /// The layout.
    pub fn layout(&self) -> &AddressLayout {
        &self.layout
    }

    /// The maps with their contents, in the order in which code counts them.
    pub fn maps(&self) -> Vec<MapSpec> {
        let present = Table::ALL.into_iter().filter_map(|t| Some((t, self.layout.map_words(t)?)));
        let spec =
            |((table, size), words): ((Table, u64), &Vec<u32>)| self.layout.spec(table, size, bytes(words));
        present.zip(&self.words).map(spec).collect()
    }
}

/// Words as they lie in a map.
fn bytes(words: &[u32]) -> Vec<u8> {
    let mut bytes = Vec::new();
    put_words(&mut bytes, words.iter().map(|word| word.to_le_bytes()));
    bytes
}

fn build4(
    prefixes: &Prefixes<u32>,
    open: bool,
    layout: &mut AddressLayout,
    words: &mut Vec<Vec<u32>>,
) -> Result<(), AddressError> {
    let plan = layout::plan4(prefixes, open);
    if let Some(capacity) = plan.hosts {
        let hosts = prefixes.iter().filter(|(_, length, _)| *length == 32);
        let entries: Vec<Entry> = hosts
            .map(|(address, length, class)| Entry {
                key: [address.swap_bytes(), 0, 0, 0],
                length: *length,
                value: *class,
            })
            .collect();
        let (shape, table) = fill(Table::Hosts4, Keys::Word, capacity, &entries)?;
        layout.hosts4 = Some(shape);
        words.push(table);
    }
    if let Some(shape) = plan.trie {
        let mut trie = trie::Trie::new(shape);
        let apart = plan.hosts.is_some();
        let painted = prefixes.iter().filter(|(_, length, _)| *length < 32 || !apart);
        painted.for_each(|(network, length, class)| trie.paint(*network, *length, *class));
        layout.nets4 = Some(shape);
        words.push(trie.words);
    }
    Ok(())
}

fn build6(
    prefixes: &[(Ipv6Net, Class)],
    open: bool,
    layout: &mut AddressLayout,
    words: &mut Vec<Vec<u32>>,
) -> Result<(), AddressError> {
    let mut nets: Vec<(u128, u8, u32)> = Vec::new();
    let mut entries: Vec<Entry> = Vec::with_capacity(prefixes.len());
    for (net, class) in prefixes {
        let (address, length, class) = (net.network().into(), net.prefix_len(), class.as_u32());
        match length {
            128 => entries.push(Entry { key: lengths::key(address), length, value: class }),
            _ => nets.push((address, length, class)),
        }
    }
    if open || !entries.is_empty() {
        let capacity = layout::room(entries.len() as u64, open);
        let (shape, table) = fill(Table::Hosts6, Keys::Full, capacity, &entries)?;
        layout.hosts6 = Some(shape);
        words.push(table);
    }
    if !nets.is_empty() {
        let lengths = lengths::lengths(&nets);
        let entries = lengths::entries(&nets, &lengths);
        let capacity = layout::room(entries.len() as u64, open);
        let (buckets, mut table) = fill(Table::Nets6, lengths::keys(&lengths), capacity, &entries)?;
        if lengths::is_data(&lengths) {
            table.extend(lengths::tree(&buckets, &lengths));
        }
        layout.nets6 = Some(Nets6 { buckets, lengths });
        words.push(table);
    }
    Ok(())
}

fn fill(
    table: Table,
    keys: Keys,
    capacity: u64,
    entries: &[Entry],
) -> Result<(buckets::Shape, Vec<u32>), AddressError> {
    let collide = AddressError::Collisions { map: table.name(), given: entries.len() as u64 };
    buckets::build(keys, capacity, entries).ok_or(collide)
}
