//! The IPv4 trie as it is in memory, and the stores that change it.

use super::super::trie::{POINTER, Shape};
use super::{Refused, Writer};

/// A trie and its chunks that are not in use.
#[derive(Clone, Debug)]
pub(super) struct Leaves {
    shape: Shape,
    words: Vec<u32>,
    /// Chunks that no reader can be in; the lowest ones last.
    free: Vec<u32>,
    /// Chunks that nothing leads to, but readers may be in.
    freed: Vec<u32>,
}

impl Leaves {
    pub fn new(shape: Shape, built: &[u32]) -> Self {
        let used = (built.len() / shape.strides.chunk()) as u32;
        let mut words = built.to_vec();
        words.resize(shape.chunks as usize * shape.strides.chunk(), 0);
        Self { shape, words, free: (used..shape.chunks).rev().collect(), freed: Vec::new() }
    }

    /// Gives the addresses from `first` to `last`, both included, a class.
    pub fn paint(&mut self, first: u32, last: u32, class: u32, out: &mut Writer<'_>) -> Result<(), Refused> {
        self.paint_in(0, self.shape.strides.root_bits(), first, last, class, out)
    }

    /// Likewise, among the leaves that start at word `base` and tell addresses
    /// apart by the bits before `bits` (and after those of the level above).
    fn paint_in(
        &mut self,
        base: usize,
        bits: u8,
        first: u32,
        last: u32,
        class: u32,
        out: &mut Writer<'_>,
    ) -> Result<(), Refused> {
        let shift = 32 - u32::from(bits);
        let below = (1u32 << shift) - 1;
        let (strides, size) = (self.shape.strides, self.shape.strides.chunk());
        let leaves = if base == 0 { strides.root() } else { size };
        for leaf in (first >> shift)..=(last >> shift) {
            let at = base + leaf as usize % leaves;
            let (low, high) = (leaf << shift, (leaf << shift) | below);
            let now = self.words[at];
            if first <= low && high <= last {
                if now != class {
                    self.store(at, class, out);
                    self.release(now);
                }
                continue;
            }
            if now == class {
                continue;
            }
            let (from, to) = (first.max(low), last.min(high));
            if now & POINTER != 0 {
                let child = (now & !POINTER) as usize * size;
                self.paint_in(child, bits + strides.chunk_bits(), from, to, class, out)?;
                self.collapse(at, child, out);
                continue;
            }
            let chunk = self.free.pop().ok_or(Refused::NoChunk)?;
            let child = chunk as usize * size;
            for word in child..child + size {
                if self.words[word] != now {
                    self.store(word, now, out);
                }
            }
            self.paint_in(child, bits + strides.chunk_bits(), from, to, class, out)?;
            self.store(at, POINTER | chunk, out);
        }
        Ok(())
    }

    /// Replaces a chunk that tells nothing apart any more.
    fn collapse(&mut self, at: usize, child: usize, out: &mut Writer<'_>) {
        let class = self.words[child];
        if class & POINTER == 0
            && self.words[child..child + self.shape.strides.chunk()].iter().all(|leaf| *leaf == class)
        {
            let chunk = self.words[at];
            self.store(at, class, out);
            self.release(chunk);
        }
    }

    /// What a leaf led to is left by everything below it.
    fn release(&mut self, leaf: u32) {
        if leaf & POINTER == 0 {
            return;
        }
        let chunk = leaf & !POINTER;
        self.freed.push(chunk);
        let size = self.shape.strides.chunk();
        for at in chunk as usize * size..(chunk as usize + 1) * size {
            self.release(self.words[at]);
        }
    }

    /// Whether a change may want chunks that only have to become quiet. A prefix takes two
    /// at most for each level below the root, a host one where there is none on its way.
    pub fn is_short(&self, host: Option<u32>) -> bool {
        let strides = self.shape.strides;
        let levels = usize::from((32 - strides.root_bits()) / strides.chunk_bits());
        let wanted = host.map_or(2 * levels, |address| levels - self.depth(address));
        self.free.len() < wanted && !self.freed.is_empty()
    }

    /// Chunks on the way to an address.
    fn depth(&self, address: u32) -> usize {
        let strides = self.shape.strides;
        let mut bits = strides.root_bits();
        let mut leaf = self.words[(address >> (32 - bits)) as usize];
        let mut depth = 0;
        while leaf & POINTER != 0 {
            (bits, depth) = (bits + strides.chunk_bits(), depth + 1);
            let at = (leaf & !POINTER) as usize * strides.chunk();
            leaf = self.words[at + (address >> (32 - bits)) as usize % strides.chunk()];
        }
        depth
    }

    /// No reader is left in a freed chunk.
    pub fn quiesce(&mut self) {
        self.free.append(&mut self.freed);
    }

    fn store(&mut self, at: usize, value: u32, out: &mut Writer<'_>) {
        self.words[at] = value;
        out.word(at, value);
    }
}
