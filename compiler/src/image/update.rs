//! Membership updates: from the contents of one image to those of another with
//! the same code, in an order in which every packet finds what was or what will be.
//!
//! Why sound: a class id that is in use keeps its row, and a new row gets an id
//! that no leaf names yet, so rows come first. Leaves are set from the longest
//! prefix to the shortest: until an address's new leaf is there, none that covers
//! it has changed. Then leaves that are no longer wanted go from the shortest to
//! the longest: an address's old leaf is the last of them that covers it.
//!
//! Ids whose rows are no longer used stay as they are and are free for the next
//! update: between two updates of one image all packets in flight must have
//! finished (a grace period).

use std::collections::BTreeMap;

use super::{MapKind, MapSpec, PolicyImage};

/// One change of one map.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapOp {
    /// Index into [`PolicyImage::maps`].
    pub map: usize,
    /// Key.
    pub key: Vec<u8>,
    /// New value; `None` deletes the key.
    pub value: Option<Vec<u8>>,
}

/// Changes that lead from one image to another.
#[derive(Clone, Debug, PartialEq)]
pub struct Update {
    /// What is loaded afterwards, with the class ids that the maps then hold:
    /// the base of the next update.
    pub image: PolicyImage,
    /// Changes, to be applied in this order.
    pub ops: Vec<MapOp>,
}

/// The changes from `old`, as loaded, to `new`. `None` if they differ in more
/// than contents, or the loaded maps have too little room: then the program is to
/// be replaced as a whole.
pub fn diff_entries(old: &PolicyImage, new: &PolicyImage) -> Option<Update> {
    if !same_code(old, new) {
        return None;
    }
    let mut image = new.clone();
    for (map, loaded) in image.maps.iter_mut().zip(&old.maps) {
        map.max_entries = loaded.max_entries;
    }
    let Some(rows) = old.maps.iter().position(|m| m.kind == MapKind::Array) else {
        return Some(Update { image, ops: Vec::new() });
    };
    let ids = class_ids(&old.maps[rows], &new.maps[rows])?;
    for map in &mut image.maps {
        renumber(map, &ids);
    }
    let mut ops = upserts(rows, &old.maps[rows], &image.maps[rows]);
    let mut sets = Vec::new();
    let mut deletes = Vec::new();
    for (index, (from, to)) in old.maps.iter().zip(&image.maps).enumerate() {
        if from.kind != MapKind::LpmTrie {
            continue;
        }
        let set = upserts(index, from, to);
        let gone = gone(index, from, to);
        // Before anything is deleted both are there.
        if (to.entries.len() + gone.len()) as u64 > u64::from(from.max_entries) {
            return None;
        }
        sets.extend(set);
        deletes.extend(gone);
    }
    sets.sort_by_key(|op| std::cmp::Reverse(prefix_length(&op.key)));
    deletes.sort_by_key(|op| prefix_length(&op.key));
    ops.extend(sets);
    ops.extend(deletes);
    Some(Update { image, ops })
}

/// Whether only contents and capacities differ.
fn same_code(old: &PolicyImage, new: &PolicyImage) -> bool {
    let shape = |m: &MapSpec| (m.kind, m.key_size, m.value_size, m.flags);
    old.direction == new.direction
        && old.programs.len() == new.programs.len()
        && old.programs.iter().zip(&new.programs).all(|(a, b)| a.code == b.code)
        && old.maps.len() == new.maps.len()
        && old.maps.iter().zip(&new.maps).all(|(a, b)| a.name == b.name && shape(a) == shape(b))
}

/// For each class of `new` that has a row, the id that it gets.
fn class_ids(old: &MapSpec, new: &MapSpec) -> Option<BTreeMap<Vec<u8>, Vec<u8>>> {
    let known: BTreeMap<&[u8], &[u8]> = old.entries.iter().map(|(id, row)| (&row[..], &id[..])).collect();
    let used: std::collections::BTreeSet<&[u8]> = old.entries.iter().map(|(id, _)| &id[..]).collect();
    let mut free =
        (1..old.max_entries).map(|id| id.to_le_bytes().to_vec()).filter(|id| !used.contains(&id[..]));
    let mut ids = BTreeMap::new();
    for (id, row) in &new.entries {
        let to = match known.get(&row[..]) {
            Some(id) => id.to_vec(),
            None => free.next()?,
        };
        ids.insert(id.clone(), to);
    }
    Some(ids)
}

/// Puts the ids in place: keys of rows, values of leaves. Class 0 has no row.
fn renumber(map: &mut MapSpec, ids: &BTreeMap<Vec<u8>, Vec<u8>>) {
    for (key, value) in &mut map.entries {
        let place = match map.kind {
            MapKind::Array => key,
            MapKind::LpmTrie => value,
            _ => continue,
        };
        if let Some(id) = ids.get(place) {
            place.clone_from(id);
        }
    }
    map.entries.sort_unstable();
}

fn by_key(map: &MapSpec) -> BTreeMap<&[u8], &[u8]> {
    map.entries.iter().map(|(key, value)| (&key[..], &value[..])).collect()
}

fn upserts(map: usize, old: &MapSpec, new: &MapSpec) -> Vec<MapOp> {
    let old = by_key(old);
    let changed = new.entries.iter().filter(|(key, value)| old.get(&key[..]) != Some(&&value[..]));
    changed.map(|(key, value)| MapOp { map, key: key.clone(), value: Some(value.clone()) }).collect()
}

fn gone(map: usize, old: &MapSpec, new: &MapSpec) -> Vec<MapOp> {
    let new = by_key(new);
    let gone = old.entries.iter().filter(|(key, _)| !new.contains_key(&key[..]));
    gone.map(|(key, _)| MapOp { map, key: key.clone(), value: None }).collect()
}

/// The prefix length that a trie's key starts with.
fn prefix_length(key: &[u8]) -> u32 {
    key.first_chunk().map_or(0, |bytes| u32::from_le_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit::{EmitOptions, emit};
    use crate::ir::PolicyIr;
    use crate::ir::generate::{Shape, policy};

    /// The row that an address finds.
    fn row(image: &PolicyImage, address: &[u8]) -> Vec<u8> {
        let trie = &image.maps[if address.len() == 4 { 0 } else { 1 }];
        let covers = |(key, _): &&(Vec<u8>, Vec<u8>)| {
            let length = prefix_length(key) as usize;
            (0..length).all(|i| (key[4 + i / 8] ^ address[i / 8]) & (0x80 >> (i % 8)) == 0)
        };
        let leaf = trie.entries.iter().filter(covers).max_by_key(|(key, _)| prefix_length(key));
        let rows = &image.maps[2];
        let entry = leaf.and_then(|(_, class)| rows.entries.iter().find(|(id, _)| id == class));
        entry.map_or(vec![0; rows.value_size as usize], |(_, row)| row.clone())
    }

    fn apply(image: &mut PolicyImage, op: &MapOp) {
        let entries = &mut image.maps[op.map].entries;
        entries.retain(|(key, _)| *key != op.key);
        entries.extend(op.value.clone().map(|value| (op.key.clone(), value)));
        entries.sort_unstable();
    }

    /// The same policy with the members of another seed's sets.
    fn with_members_of(ir: &PolicyIr, other: &PolicyIr) -> PolicyIr {
        let mut ir = ir.clone();
        for (id, set) in ir.sets.iter_mut() {
            set.nets.clone_from(&other.sets[id].nets);
        }
        ir
    }

    fn addresses(images: [&PolicyImage; 2]) -> Vec<Vec<u8>> {
        let tries = images.into_iter().flat_map(|i| &i.maps[..2]);
        let mut all: Vec<Vec<u8>> =
            tries.flat_map(|m| &m.entries).map(|(key, _)| key[4..].to_vec()).collect();
        let next: Vec<Vec<u8>> = all
            .iter()
            .map(|a| a[..a.len() - 1].iter().copied().chain([a[a.len() - 1] ^ 1]).collect())
            .collect();
        all.extend(next);
        all
    }

    #[test]
    fn every_step_shows_old_or_new() {
        let shape = Shape { nets: 6, ..Shape::default() };
        let (mut steps, mut refused) = (0, 0);
        for seed in 0..150 {
            let ir = policy(seed, &shape);
            let mut loaded = emit(&ir, &EmitOptions::default()).unwrap();
            if loaded.maps.is_empty() {
                continue;
            }
            for other in 1..4 {
                let ir = with_members_of(&ir, &policy(seed + 1000 * other, &shape));
                let new = emit(&ir, &EmitOptions::default()).unwrap();
                let Some(update) = diff_entries(&loaded, &new) else {
                    refused += 1;
                    loaded = new;
                    continue;
                };
                let addresses = addresses([&loaded, &new]);
                let old = loaded.clone();
                for op in &update.ops {
                    apply(&mut loaded, op);
                    steps += 1;
                    for a in &addresses {
                        let now = row(&loaded, a);
                        assert!(now == row(&old, a) || now == row(&new, a), "seed {seed}: {a:?} {op:?}");
                    }
                }
                for a in &addresses {
                    assert_eq!(row(&loaded, a), row(&new, a), "seed {seed}: {a:?}");
                    assert_eq!(row(&update.image, a), row(&new, a), "seed {seed}: {a:?}");
                }
                loaded = update.image;
            }
        }
        assert!(steps > 1000 && refused < 20, "{steps} steps, {refused} refused");
    }

    #[test]
    fn other_code_and_lack_of_room_need_a_new_program() {
        let (a, b) = (policy(1, &Shape::default()), policy(2, &Shape::default()));
        let emit = |ir: &PolicyIr| emit(ir, &EmitOptions::default()).unwrap();
        assert_eq!(diff_entries(&emit(&a), &emit(&b)), None);
        let mut full = emit(&a);
        assert_eq!(diff_entries(&full, &emit(&a)).map(|u| u.ops), Some(vec![]));
        full.maps.iter_mut().for_each(|map| map.max_entries = 1);
        full.maps.iter_mut().for_each(|map| map.entries.clear());
        assert_eq!(diff_entries(&full, &emit(&a)), None, "no room for the first row");
    }
}
