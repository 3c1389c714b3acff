//! The look-up code.
//!
//! Registers: `r0` to `r5` are scratch, the four bytes below `fp-8` hold a map key,
//! the four below `fp-12` the best IPv6 prefix so far, the eight below `fp-16` a
//! pointer into the tree of IPv6 prefix lengths. A step costs its loads and a few
//! instructions where the table is addressed directly, else some fifteen and what the
//! verifier takes for a call, which is why addresses are loaded anew from the packet
//! state after each. IPv4 bytes are loaded one by one: a byte is bounded
//! for every verifier, where the result of a byte swap is not (Linux 5.10).

use super::buckets::{self, Keys, OVERFLOW};
use super::layout::{AddressLayout, Nets6, Table};
use super::lengths::node;
use super::trie::Strides;
use super::{AddressTables, lengths, trie};
use crate::abi::{Field, STATE_FAMILY};
use crate::bpf::{
    Access, AluOp, AsmError, Assembler, ByteOrder, Cond, Index, Insn, Label, Operand, Reg, Size, SwapBits,
    Width,
};

const KEY: i16 = -12;
const BEST: i16 = -16;
const NODE: i16 = -24;
/// Register of what a table holds.
const FOUND: Reg = Reg::R4;

/// One look-up: which address, and where the class goes.
#[derive(Copy, Clone, Debug)]
pub struct LookUp {
    /// Register that points to the packet state; `r6` to `r9`.
    pub state: Reg,
    /// The address: [`crate::abi::STATE_SRC`] or [`crate::abi::STATE_DST`].
    pub address: Field,
    /// Register that gets the class id, zero-extended; the verifier does not know that it
    /// is below [`AddressLayout::class_capacity`]. `r6` to `r9`, not `state`.
    pub class: Reg,
    /// Index of the first address map among the image's private maps.
    pub first_map: u32,
}

impl AddressTables {
    /// Appends the code of a look-up. It loses `r0` to `r5` and the sixteen bytes
    /// below `fp-8`.
    ///
    /// # Errors
    /// Only for labels of another assembler, which a caller cannot pass here.
    pub fn emit(&self, asm: &mut Assembler, look_up: LookUp) -> Result<(), AsmError> {
        self.layout.emit(asm, look_up)
    }
}

impl AddressLayout {
    /// As [`AddressTables::emit`].
    ///
    /// # Errors
    /// As there.
    pub fn emit(&self, asm: &mut Assembler, look_up: LookUp) -> Result<(), AsmError> {
        let (none, done, tagged) = (asm.new_label(), asm.new_label(), asm.new_label());
        // What is found goes there last, so that nothing found costs no jump.
        asm.push(Insn::mov(look_up.class, 0));
        let mut code = Code { asm, layout: self, at: look_up, none, done, tagged };
        code.families()?;
        let asm = code.asm;
        asm.bind(tagged)?;
        let class = (1 << lengths::CLASS_BITS) - 1;
        asm.push(Insn::Alu { width: Width::W32, op: AluOp::And, dst: FOUND, src: class.into() });
        asm.bind(done)?;
        asm.push(Insn::mov(look_up.class, FOUND));
        asm.bind(none)
    }
}

struct Code<'a> {
    asm: &'a mut Assembler,
    layout: &'a AddressLayout,
    at: LookUp,
    /// Nothing was found.
    none: Label,
    /// The class is in [`FOUND`].
    done: Label,
    /// It is there with more bits above it.
    tagged: Label,
}

impl Code<'_> {
    fn families(&mut self) -> Result<(), AsmError> {
        let four = self.layout.hosts4.is_some() || self.layout.nets4.is_some();
        let six = self.layout.hosts6.is_some() || self.layout.nets6.is_some();
        let v6 = self.asm.new_label();
        if four || six {
            self.asm.push(Insn::load(Size::B1, Reg::R1, self.at.state, STATE_FAMILY.offset));
        }
        if four {
            let other = if six { v6 } else { self.none };
            self.asm.jump_if(Width::W32, Cond::Ne, Reg::R1, 4, other);
            self.v4()?;
            self.asm.bind(v6)?;
        }
        if six {
            if !four {
                self.asm.jump_if(Width::W32, Cond::Eq, Reg::R1, 4, self.none);
            }
            self.v6()?;
        }
        if !four && !six {
            self.asm.jump(self.none);
        }
        Ok(())
    }

    fn v4(&mut self) -> Result<(), AsmError> {
        if let Some(shape) = self.layout.hosts4 {
            self.hosts(Table::Hosts4, &shape, 32)?;
        }
        if let Some(shape) = self.layout.nets4 {
            return self.trie(shape);
        }
        self.asm.jump(self.none);
        Ok(())
    }

    fn v6(&mut self) -> Result<(), AsmError> {
        if let Some(shape) = self.layout.hosts6 {
            self.hosts(Table::Hosts6, &shape, 128)?;
        }
        if let Some(nets) = &self.layout.nets6 {
            return self.nets6(nets);
        }
        self.asm.jump(self.none);
        Ok(())
    }

    /// Goes to `done` with the class of a listed address, or on.
    fn hosts(&mut self, table: Table, shape: &buckets::Shape, length: u8) -> Result<(), AsmError> {
        let miss = self.asm.new_label();
        for which in 0..2 {
            self.line(table, shape, length, which);
            self.key(shape.keys, length);
            let done = self.done;
            self.slots(shape.keys, done, |code, next| {
                code.asm.jump_if(Width::W32, Cond::Eq, FOUND, 0, next);
            })?;
            if which == 0 {
                self.jump_unless_overflow(miss);
            }
        }
        self.asm.bind(miss)
    }

    /// Leaves a pointer to the key's line in `r0`.
    fn line(&mut self, table: Table, shape: &buckets::Shape, length: u8, which: u8) {
        let [a, b] = shape.multipliers(which, length);
        self.key(shape.keys, length);
        self.network_order(shape.keys);
        if shape.salt(length) != 0 {
            self.asm.push(Insn::alu(AluOp::Add, Reg::R1, shape.salt(length) as i32));
        }
        if shape.keys == Keys::Full {
            self.asm.push(Insn::LoadImm64 { dst: Reg::R3, imm: b });
            self.asm.push(Insn::alu(AluOp::Mul, Reg::R2, Reg::R3));
        }
        self.asm.push(Insn::LoadImm64 { dst: Reg::R3, imm: a });
        self.asm.push(Insn::alu(AluOp::Mul, Reg::R1, Reg::R3));
        if shape.keys == Keys::Full {
            self.asm.push(Insn::alu(AluOp::Add, Reg::R1, Reg::R2));
        }
        self.line_of_hash(table, shape);
    }

    /// Brings the halves of a key in `r1` and `r2` into the order that hashes take.
    fn network_order(&mut self, keys: buckets::Keys) {
        let swap = |dst| Insn::Swap { order: ByteOrder::Big, bits: SwapBits::B64, dst };
        if keys != buckets::Keys::Word {
            self.asm.push(swap(Reg::R1));
        }
        if keys == buckets::Keys::Full {
            self.asm.push(swap(Reg::R2));
        }
    }

    /// Leaves a pointer to the line that the hash in `r1` names in `r0`.
    fn line_of_hash(&mut self, table: Table, shape: &buckets::Shape) {
        self.asm.push(Insn::alu(AluOp::Rsh, Reg::R1, 32));
        self.asm.push(Insn::alu(AluOp::Mul, Reg::R1, shape.lines as i32));
        self.asm.push(Insn::alu(AluOp::Rsh, Reg::R1, 32));
        self.value(table, Index::Reg(Reg::R1, u64::from(shape.lines)));
    }

    /// Leaves a pointer to a value of a table in `r0`. In a layout without that table
    /// nothing would be found.
    fn value(&mut self, table: Table, index: Index) {
        match self.layout.values(table, self.at.first_map) {
            Some(values) => self.asm.point(&values, index, KEY, self.none),
            None => self.asm.jump(self.none),
        }
    }

    /// Loads the address, cut to a prefix length, as keys lie in memory: into `r1`,
    /// and its second half into `r2`.
    fn key(&mut self, keys: Keys, length: u8) {
        let (state, at) = (self.at.state, self.at.address.offset);
        match keys {
            Keys::Word => self.asm.push(Insn::load(Size::B4, Reg::R1, state, at)),
            Keys::Half => self.half(Reg::R1, at, length),
            Keys::Full => {
                self.half(Reg::R1, at, length.min(64));
                self.half(Reg::R2, at + 8, length.saturating_sub(64));
            }
        }
    }

    /// Loads eight bytes of the address, of which the first `bits` bits count.
    fn half(&mut self, to: Reg, at: i16, bits: u8) {
        if bits == 0 {
            self.asm.push(Insn::mov(to, 0));
            return;
        }
        self.asm.push(Insn::load(Size::B8, to, self.at.state, at));
        if bits < 64 {
            self.asm.push(Insn::LoadImm64 { dst: Reg::R3, imm: lengths::mask(bits) });
            self.asm.push(Insn::alu(AluOp::And, to, Reg::R3));
        }
    }

    /// Compares a slot of the line at `r0` with the key in `r1` and `r2`.
    fn jump_unless_key(&mut self, keys: Keys, slot: usize, other: Label) {
        let at = (keys.key_at(slot) * 4) as i16;
        let (size, width) = match keys {
            Keys::Word => (Size::B4, Width::W32),
            Keys::Half | Keys::Full => (Size::B8, Width::W64),
        };
        self.asm.push(Insn::load(size, Reg::R3, Reg::R0, at));
        self.asm.jump_if(width, Cond::Ne, Reg::R3, Reg::R1, other);
        if keys == Keys::Full {
            self.asm.push(Insn::load(size, Reg::R3, Reg::R0, at + 8));
            self.asm.jump_if(width, Cond::Ne, Reg::R3, Reg::R2, other);
        }
    }

    /// Goes to `hit` with the value of the slot that has the key in `r1` and `r2`, unless
    /// `check` goes to the next one.
    ///
    /// A key of several words is compared once more after its value was read: the first
    /// compare may have met a free slot while another key was written to it, of which
    /// it saw a part. Once there is a value, that key stands there whole.
    fn slots(&mut self, keys: Keys, hit: Label, check: impl Fn(&mut Self, Label)) -> Result<(), AsmError> {
        for slot in 0..keys.slots() {
            let next = self.asm.new_label();
            self.jump_unless_key(keys, slot, next);
            self.load_value(keys, slot);
            check(self, next);
            if keys != Keys::Word {
                self.jump_unless_key(keys, slot, next);
            }
            self.asm.jump(hit);
            self.asm.bind(next)?;
        }
        Ok(())
    }

    /// Loads a slot's value.
    fn load_value(&mut self, keys: Keys, slot: usize) {
        let at = (keys.value_at(slot) * 4) as i16;
        self.asm.push(Insn::load(Size::B4, FOUND, Reg::R0, at));
    }

    /// Goes to `miss` unless keys of the line at `r0` are in their second line.
    fn jump_unless_overflow(&mut self, miss: Label) {
        self.asm.push(Insn::load(Size::B4, Reg::R3, Reg::R0, (OVERFLOW * 4) as i16));
        self.asm.jump_if(Width::W32, Cond::Eq, Reg::R3, 0, miss);
    }

    /// Goes to `tagged` with an IPv4 address's leaf.
    fn trie(&mut self, shape: trie::Shape) -> Result<(), AsmError> {
        let Some(values) = self.layout.values(Table::Nets4, self.at.first_map) else {
            self.asm.jump(self.none);
            return Ok(());
        };
        let (state, address) = (self.at.state, self.at.address.offset);
        let at_home = self.asm.new_label();
        let chunk_bytes = shape.strides.chunk() as i32 * 4;
        // Both the homes and a root in one piece go by the first half of the address.
        let is_one_piece = values.access == Access::Direct && shape.strides.root_bits() == 16;
        if is_one_piece || shape.homes().next().is_some() {
            self.asm.push(Insn::load(Size::B2, Reg::R1, state, address));
        }
        for (home, chunk) in shape.homes() {
            let leading = ((home >> trie::HOME_BITS) as u16).swap_bytes();
            self.asm.push(Insn::mov(FOUND, chunk as i32 * 4));
            self.asm.jump_if(Width::W32, Cond::Eq, Reg::R1, i32::from(leading), at_home);
        }
        let (step, mut bits) = (shape.strides.chunk_bits(), shape.strides.root_bits());
        if is_one_piece {
            self.asm.push(Insn::Swap { order: ByteOrder::Big, bits: SwapBits::B16, dst: Reg::R1 });
            // Some verifiers know nothing of what a swap leaves.
            self.asm.push(Insn::alu(AluOp::And, Reg::R1, 0xffff));
            self.asm.push(Insn::alu(AluOp::Lsh, Reg::R1, 2));
            self.asm.load_map_value(Reg::R0, values.map, 0);
            self.asm.push(Insn::alu(AluOp::Add, Reg::R0, Reg::R1));
            self.asm.push(Insn::load(Size::B4, FOUND, Reg::R0, 0));
        } else {
            // The root's chunk is named by the bits before the last ones it tells apart.
            let chunk = match shape.strides {
                Strides::Narrow => Index::First,
                Strides::Wide => {
                    self.asm.push(Insn::load(Size::B1, Reg::R1, state, address));
                    Index::Reg(Reg::R1, 1 << 8)
                }
                Strides::Sparse => {
                    self.asm.push(Insn::load(Size::B1, Reg::R1, state, address));
                    self.asm.push(Insn::alu(AluOp::Lsh, Reg::R1, 4));
                    self.bits(Reg::R2, 8, 4);
                    self.asm.push(Insn::alu(AluOp::Add, Reg::R1, Reg::R2));
                    Index::Reg(Reg::R1, 1 << 12)
                }
            };
            self.asm.point(&values, chunk, KEY, self.none);
            self.leaf(bits - step, step);
        }
        let last_chunk = shape.bytes() as i32 - chunk_bytes;
        while bits < 32 {
            // No class is that small a word.
            self.asm.jump_if(Width::W64, Cond::Gt, FOUND, last_chunk, self.tagged);
            if bits == trie::HOME_BITS {
                self.asm.bind(at_home)?;
            }
            if values.access == Access::Direct {
                // Added last: it comes last.
                self.asm.load_map_value(Reg::R0, values.map, 0);
                self.leaf_place(bits, step);
                self.asm.push(Insn::alu(AluOp::Add, Reg::R0, FOUND));
                self.asm.push(Insn::load(Size::B4, FOUND, Reg::R0, 0));
            } else {
                self.asm.push(Insn::alu(AluOp::Rsh, FOUND, chunk_bytes.trailing_zeros() as i32));
                self.asm.point(&values, FOUND, KEY, self.none);
                self.leaf(bits, step);
            }
            bits += step;
        }
        self.asm.jump(self.tagged);
        Ok(())
    }

    /// Adds the place of a leaf in its chunk to `r0`.
    fn leaf_place(&mut self, from: u8, count: u8) {
        self.bits(Reg::R1, from, count);
        self.asm.push(Insn::alu(AluOp::Lsh, Reg::R1, 2));
        self.asm.push(Insn::alu(AluOp::Add, Reg::R0, Reg::R1));
    }

    /// Loads the leaf of the chunk at `r0`.
    fn leaf(&mut self, from: u8, count: u8) {
        self.leaf_place(from, count);
        self.asm.push(Insn::load(Size::B4, FOUND, Reg::R0, 0));
    }

    /// Loads the `count` (4 or 8) bits of the address from bit `from` on.
    fn bits(&mut self, to: Reg, from: u8, count: u8) {
        let at = self.at.address.offset + i16::from(from / 8);
        self.asm.push(Insn::load(Size::B1, to, self.at.state, at));
        match (count, from % 8) {
            (4, 0) => self.asm.push(Insn::alu(AluOp::Rsh, to, 4)),
            (4, _) => self.asm.push(Insn::alu(AluOp::And, to, 15)),
            _ => {}
        }
    }

    /// Goes to `done` with the class of the longest IPv6 prefix.
    fn nets6(&mut self, nets: &Nets6) -> Result<(), AsmError> {
        self.asm.push(Insn::store(Size::B4, Reg::R10, BEST, 0));
        let end = self.asm.new_label();
        if lengths::is_data(&nets.lengths) {
            self.walk(nets, end)?;
        } else {
            self.search(nets, 0, nets.lengths.len(), end)?;
        }
        self.asm.bind(end)?;
        self.asm.push(Insn::load(Size::B4, FOUND, Reg::R10, BEST));
        self.asm.jump(self.tagged);
        Ok(())
    }

    /// Searches the lengths `from..to`; goes to `end` with the best so far on the
    /// stack, or to `done`.
    fn search(&mut self, nets: &Nets6, from: usize, to: usize, end: Label) -> Result<(), AsmError> {
        if from == to {
            self.asm.jump(end);
            return Ok(());
        }
        let mid = lengths::middle(from, to);
        let (hit, miss) = (self.asm.new_label(), self.asm.new_label());
        self.prefix(nets, nets.lengths[mid], hit, miss)?;
        self.asm.bind(hit)?;
        if mid + 1 == to {
            self.asm.jump(self.tagged);
        } else {
            self.asm.push(Insn::store(Size::B4, Reg::R10, BEST, FOUND));
            self.search(nets, mid + 1, to, end)?;
        }
        self.asm.bind(miss)?;
        self.search(nets, from, mid, end)
    }

    /// Goes to `hit` with the value of the address's prefix of a length, or to `miss`.
    fn prefix(&mut self, nets: &Nets6, length: u8, hit: Label, miss: Label) -> Result<(), AsmError> {
        let shape = &nets.buckets;
        for which in 0..2 {
            self.line(Table::Nets6, shape, length, which);
            self.key(shape.keys, length);
            let tag = Operand::Imm(lengths::value(length, 0) as i32);
            self.slots(shape.keys, hit, |code, next| code.jump_unless_tag(tag, next))?;
            if which == 0 {
                self.jump_unless_overflow(miss);
            }
        }
        self.asm.jump(miss);
        Ok(())
    }

    /// Leaves the class of a value that has this tag, or goes to `other`.
    fn jump_unless_tag(&mut self, tag: Operand, other: Label) {
        self.asm.push(Insn::Alu { width: Width::W32, op: AluOp::Xor, dst: FOUND, src: tag });
        // Another tag leaves one of the bits above the class.
        self.asm.jump_if(Width::W32, Cond::Gt, FOUND, (1 << lengths::CLASS_BITS) - 1, other);
    }

    /// Walks the tree of lengths; goes to `end` with the best on the stack.
    fn walk(&mut self, nets: &Nets6, end: Label) -> Result<(), AsmError> {
        let first = lengths::first_line(&nets.buckets, &nets.lengths);
        self.asm.push(Insn::mov(Reg::R1, first as i32));
        let depth = lengths::depth(&nets.lengths);
        for step in 1..=depth {
            let (hit, miss, next) = (self.asm.new_label(), self.asm.new_label(), self.asm.new_label());
            self.value(Table::Nets6, Reg::R1.into());
            self.asm.push(Insn::store(Size::B8, Reg::R10, NODE, Reg::R0));
            self.node_prefix(&nets.buckets, hit, miss)?;
            for (label, line) in [(miss, node::MISS), (hit, node::HIT)] {
                self.asm.bind(label)?;
                if label == hit {
                    self.asm.push(Insn::store(Size::B4, Reg::R10, BEST, FOUND));
                }
                self.asm.push(Insn::load(Size::B8, Reg::R5, Reg::R10, NODE));
                self.asm.push(Insn::load(Size::B4, Reg::R1, Reg::R5, line));
                self.asm.jump(next);
            }
            self.asm.bind(next)?;
            if step < depth {
                self.asm.jump_if(Width::W32, Cond::Eq, Reg::R1, 0, end);
            }
        }
        self.asm.jump(end);
        Ok(())
    }

    /// As [`Self::prefix`], of the length whose node the stack points to.
    fn node_prefix(&mut self, shape: &buckets::Shape, hit: Label, miss: Label) -> Result<(), AsmError> {
        for which in 0..2 {
            let multiplier = node::MULTIPLIER + 16 * which;
            self.node_key(shape.keys);
            self.network_order(shape.keys);
            self.asm.push(Insn::load(Size::B4, Reg::R3, Reg::R5, node::SALT));
            self.asm.push(Insn::alu(AluOp::Add, Reg::R1, Reg::R3));
            self.asm.push(Insn::load(Size::B8, Reg::R3, Reg::R5, multiplier));
            self.asm.push(Insn::alu(AluOp::Mul, Reg::R1, Reg::R3));
            if shape.keys == Keys::Full {
                self.asm.push(Insn::load(Size::B8, Reg::R3, Reg::R5, multiplier + 8));
                self.asm.push(Insn::alu(AluOp::Mul, Reg::R2, Reg::R3));
                self.asm.push(Insn::alu(AluOp::Add, Reg::R1, Reg::R2));
            }
            self.line_of_hash(Table::Nets6, shape);
            self.node_key(shape.keys);
            self.asm.push(Insn::load(Size::B4, Reg::R5, Reg::R5, node::TAG));
            self.slots(shape.keys, hit, |code, next| code.jump_unless_tag(Reg::R5.into(), next))?;
            if which == 0 {
                self.jump_unless_overflow(miss);
            }
        }
        self.asm.jump(miss);
        Ok(())
    }

    /// Loads the address, cut to the length of the node that the stack points to,
    /// into `r1` and `r2`, and the node into `r5`.
    fn node_key(&mut self, keys: Keys) {
        self.asm.push(Insn::load(Size::B8, Reg::R5, Reg::R10, NODE));
        let halves = if keys == Keys::Full { 2 } else { 1 };
        for (i, to) in [Reg::R1, Reg::R2].into_iter().take(halves).enumerate() {
            let at = 8 * i as i16;
            self.asm.push(Insn::load(Size::B8, to, self.at.state, self.at.address.offset + at));
            self.asm.push(Insn::load(Size::B8, Reg::R3, Reg::R5, node::MASK + at));
            self.asm.push(Insn::alu(AluOp::And, to, Reg::R3));
        }
    }
}
