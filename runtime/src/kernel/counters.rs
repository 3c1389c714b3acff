//! Packet counters of attachments, and hit counters of rules: per-CPU values,
//! summed.

use std::collections::BTreeMap;

use polc_compiler::abi;
use polc_compiler::image::HITS_MAP;

use super::error::{LoaderError, kernel};
use super::record::{ImageRecord, Place};
use super::view::View;
use crate::sys::bpf::Map;

/// Packets by verdict and reason: a row of the counters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    values: Vec<u64>,
}

impl Counters {
    /// Packets with a verdict for a reason (`REASON_*`).
    pub fn get(&self, deny: bool, reason: u32) -> u64 {
        let index = abi::counter_index(deny, reason) as usize;
        self.values.get(index).copied().unwrap_or(0)
    }

    /// All packets.
    pub fn total(&self) -> u64 {
        self.values.iter().sum()
    }
}

impl View {
    /// The counters of the attachment that has a row (its slot).
    ///
    /// # Errors
    /// What the kernel says.
    pub fn counters(&self, row: u32) -> Result<Counters, LoaderError> {
        let Some(map) = self.shared_map(abi::COUNTERS_MAP)? else { return Ok(Counters::default()) };
        let value = map.lookup(&row.to_le_bytes()).map_err(kernel(format!("reading counters {row}")))?;
        Ok(Counters { values: sums(&map, &value.unwrap_or_default()) })
    }

    /// Packets that each decision of an image was credited with, by its index;
    /// `None` for an image without counters.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn hits(&self, place: &Place, image: &ImageRecord) -> Result<Option<Vec<u64>>, LoaderError> {
        if image.hits.is_empty() {
            return Ok(None);
        }
        let Some(map) = self.image_map(place, HITS_MAP)? else { return Ok(None) };
        let mut hits = vec![0u64; image.decisions.len()];
        for (outcome, credited) in (0u32..).zip(&image.hits) {
            let value = map.lookup(&outcome.to_le_bytes()).map_err(kernel("reading hit counters"))?;
            let count: u64 = sums(&map, &value.unwrap_or_default()).iter().sum();
            for decision in credited {
                if let Some(hit) = hits.get_mut(*decision as usize) {
                    *hit += count;
                }
            }
        }
        Ok(Some(hits))
    }

    /// All sets that any image in force names, by name, with their members.
    ///
    /// # Errors
    /// What the kernel says.
    pub fn sets(&self) -> Result<BTreeMap<String, Vec<String>>, LoaderError> {
        let mut sets = BTreeMap::new();
        for attachment in self.attachments()? {
            for place in attachment.record.places() {
                sets.extend(self.members(place)?);
            }
        }
        Ok(sets)
    }
}

/// Adds the CPUs' values, each an array of `u64`.
fn sums(map: &Map, value: &[u8]) -> Vec<u64> {
    let each = map.definition().value_size as usize;
    let mut sums = vec![0u64; each / 8];
    for cpu in value.chunks_exact(each.max(8)) {
        for (sum, word) in sums.iter_mut().zip(cpu.chunks_exact(8)) {
            *sum += word.first_chunk().map_or(0, |word| u64::from_ne_bytes(*word));
        }
    }
    sums
}
