//! The IPv4 trie as it is in memory, and the stores that change it.

use super::super::trie::{HOME_BITS, Leaf, Shape};
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
        let word = Leaf::Class(class).word();
        let strides = self.shape.strides;
        // What the levels above homes say of addresses there is never read.
        let (mut from, mut to) = (Some(first), Some(last));
        for (low, chunk) in self.shape.homes() {
            let high = low | ((1 << HOME_BITS) - 1);
            if first > high || last < low {
                continue;
            }
            let bits = HOME_BITS + strides.chunk_bits();
            self.paint_in(chunk, bits, first.max(low), last.min(high), word, out)?;
            if first >= low {
                from = high.checked_add(1);
            }
            if last <= high {
                to = low.checked_sub(1);
            }
        }
        match from.zip(to).filter(|(from, to)| from <= to) {
            Some((from, to)) => self.paint_in(0, strides.root_bits(), from, to, word, out),
            None => Ok(()),
        }
    }

    /// Likewise a leaf's word, among the leaves that start at word `base` and tell
    /// addresses apart by the bits before `bits` (and after those of the level above).
    fn paint_in(
        &mut self,
        base: usize,
        bits: u8,
        first: u32,
        last: u32,
        painted: u32,
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
                if now != painted {
                    self.store(at, painted, out);
                    self.release(now);
                }
                continue;
            }
            if now == painted {
                continue;
            }
            let (from, to) = (first.max(low), last.min(high));
            if let Leaf::Chunk(child) = Leaf::of(now) {
                self.paint_in(child, bits + strides.chunk_bits(), from, to, painted, out)?;
                self.collapse(at, child, out);
                continue;
            }
            let child = self.free.pop().ok_or(Refused::NoChunk)? as usize * size;
            for word in child..child + size {
                if self.words[word] != now {
                    self.store(word, now, out);
                }
            }
            self.paint_in(child, bits + strides.chunk_bits(), from, to, painted, out)?;
            self.store(at, Leaf::Chunk(child).word(), out);
        }
        Ok(())
    }

    /// Replaces a chunk that tells nothing apart any more.
    fn collapse(&mut self, at: usize, child: usize, out: &mut Writer<'_>) {
        let first = self.words[child];
        if matches!(Leaf::of(first), Leaf::Class(_))
            && self.words[child..child + self.shape.strides.chunk()].iter().all(|leaf| *leaf == first)
        {
            let chunk = self.words[at];
            self.store(at, first, out);
            self.release(chunk);
        }
    }

    /// What a leaf led to is left by everything below it.
    fn release(&mut self, leaf: u32) {
        let Leaf::Chunk(chunk) = Leaf::of(leaf) else { return };
        let size = self.shape.strides.chunk();
        self.freed.push((chunk / size) as u32);
        for at in chunk..chunk + size {
            self.release(self.words[at]);
        }
    }

    /// Whether a change may want chunks that only have to become quiet. A prefix takes two
    /// at most for each level below the root, a host one where there is none on its way.
    pub fn is_short(&self, host: Option<u32>) -> bool {
        let strides = self.shape.strides;
        let levels = |bits: u8| usize::from((32 - bits) / strides.chunk_bits());
        let wanted = host.map_or(2 * levels(strides.root_bits()), |address| levels(self.told_apart(address)));
        self.free.len() < wanted && !self.freed.is_empty()
    }

    /// Bits that the leaf of an address tells apart.
    fn told_apart(&self, address: u32) -> u8 {
        let strides = self.shape.strides;
        let (mut at, mut bits) = self.shape.start(address);
        while let Leaf::Chunk(chunk) = Leaf::of(self.words[at]) {
            bits += strides.chunk_bits();
            at = chunk + (address >> (32 - bits)) as usize % strides.chunk();
        }
        bits
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
