//! Who is in which set of an image whose tables were changed.
//!
//! The address tables are read and decoded: they are what packets meet, so that no
//! record of changes could be more right, and a killed agent leaves nothing undone.
//! What they lack is which sets a class stands for; the loader records that before it
//! stores the first word that names a new class. Class ids are given to other sets only
//! when no address leads to them, and not before the record says so.
//!
//! Members come as the tables have them: addresses one by one, prefixes joined to the
//! fewest that hold the same addresses. Cost: linear in the tables.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use polc_compiler::address::AddressLayout;
use polc_compiler::live::LiveTables;
use serde::{Deserialize, Serialize};

use super::error::{LoaderError, kernel};
use super::image::map_pin;
use super::record::{self, Place};
use super::view::{View, open_map};
use crate::sys::bpf::{Map, MappedArray};

/// Times that tables are read again which changed meanwhile.
const TRIES: u32 = 5;

/// What it takes to tell members from address tables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct MembersRecord {
    /// The address tables, which are the image's first maps.
    layout: AddressLayout,
    /// Sets whose members stand in the tables and may change: number and name.
    sets: Vec<(u32, String)>,
    /// Classes and the sets of each.
    classes: Vec<(u32, Vec<u32>)>,
}

impl MembersRecord {
    /// `None` if no members can change.
    pub fn new(tables: &LiveTables) -> Option<Self> {
        let sets = tables.sets().into_iter().filter(|set| !set.is_fixed);
        let classes = tables.classes().into_iter();
        let numbers = |sets: Vec<polc_compiler::ir::AddrSet>| sets.iter().map(|set| set.as_u32()).collect();
        Some(Self {
            layout: tables.layout()?.clone(),
            sets: sets.map(|set| (set.id.as_u32(), set.name.to_owned())).collect(),
            classes: classes.map(|(class, sets)| (class.as_u32(), numbers(sets))).collect(),
        })
    }

    /// The members of every set, from the prefixes in the tables and their classes.
    fn members(&self, found: &[(IpNet, u32)]) -> BTreeMap<String, Vec<String>> {
        let classes: BTreeMap<u32, &Vec<u32>> =
            self.classes.iter().map(|(class, sets)| (*class, sets)).collect();
        let mut members: BTreeMap<u32, Vec<IpNet>> = BTreeMap::new();
        for (net, class) in found {
            for set in classes.get(class).copied().into_iter().flatten() {
                members.entry(*set).or_default().push(*net);
            }
        }
        let named = self.sets.iter().map(|(set, name)| {
            let nets = members.remove(set).unwrap_or_default();
            (name.clone(), joined(&nets).iter().map(ToString::to_string).collect())
        });
        named.collect()
    }
}

/// Addresses and the fewest prefixes, ascending, none within another.
fn joined(nets: &[IpNet]) -> Vec<IpNet> {
    let (hosts, prefixes): (Vec<IpNet>, Vec<IpNet>) =
        nets.iter().partition(|net| net.prefix_len() == net.max_prefix_len());
    let mut all = IpNet::aggregate(&prefixes);
    all.sort_unstable();
    let covered = |host: &IpNet| {
        let before = all.partition_point(|net| net.network() <= host.addr());
        before.checked_sub(1).is_some_and(|at| all[at].contains(&host.addr()))
    };
    let alone: Vec<IpNet> = hosts.into_iter().filter(|host| !covered(host)).collect();
    all.extend(alone);
    all.sort_unstable();
    all
}

/// Where an image's record is.
pub(super) fn pin(folder: &Path) -> PathBuf {
    folder.join("members")
}

impl View {
    /// The sets of an image that its program looks at, with their members of now.
    ///
    /// # Errors
    /// What the kernel says; [`LoaderError::Unknown`] for tables that are not polc's, or
    /// change faster than they can be read.
    pub fn members(&self, place: &Place) -> Result<BTreeMap<String, Vec<String>>, LoaderError> {
        let compiled = self.image(place)?.sets.into_iter().map(|set| (set.name, set.members));
        let mut sets: BTreeMap<String, Vec<String>> = compiled.collect();
        let folder = self.folder(place);
        let path = pin(&folder);
        let mut problem = String::new();
        for _ in 0..TRIES {
            if !path.exists() {
                return Ok(sets);
            }
            let before: MembersRecord = record::read(&path)?;
            let contents = (0..before.layout.map_count()).map(|index| {
                let path = map_pin(&folder, index as usize);
                let map = open_map(&path)?;
                bytes(&map).map_err(kernel(format!("reading {}", path.display())))
            });
            let contents = contents.collect::<Result<Vec<Vec<u8>>, _>>()?;
            let slices: Vec<&[u8]> = contents.iter().map(Vec::as_slice).collect();
            match before.layout.decode(&slices) {
                // With another record the classes may mean something else by now.
                Ok(found) if record::read::<MembersRecord>(&path)? == before => {
                    let found: Vec<(IpNet, u32)> =
                        found.iter().map(|(n, class)| (*n, class.as_u32())).collect();
                    sets.extend(before.members(&found));
                    return Ok(sets);
                }
                Ok(_) => problem = "the tables change all the time".into(),
                Err(error) => problem = error.to_string(),
            }
        }
        Err(LoaderError::Unknown { path: folder, reason: problem })
    }
}

/// All values of an array, one behind the other. Through its memory: a value may be a
/// whole table, and old kernels look for that much memory in one piece to copy it.
fn bytes(map: &Map) -> Result<Vec<u8>, crate::sys::SyscallError> {
    let mapped = MappedArray::new(map)?;
    Ok((0..map.definition().max_entries).filter_map(|index| mapped.load(index)).flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_stay_hosts_and_prefixes_are_joined() {
        let nets =
            ["10.0.0.0/32", "10.0.0.1/32", "10.1.0.0/17", "10.1.128.0/17", "10.1.7.7/32", "fd00::1/128"];
        let nets: Vec<IpNet> = nets.iter().map(|net| net.parse().unwrap()).collect();
        let joined: Vec<String> = joined(&nets).iter().map(ToString::to_string).collect();
        assert_eq!(joined, ["10.0.0.0/32", "10.0.0.1/32", "10.1.0.0/16", "fd00::1/128"]);
    }
}
