//! The instruction type and its parts.

/// A register. `R0` holds results, `R1`–`R5` arguments (lost at a call),
/// `R6`–`R9` survive calls, `R10` is the read-only frame pointer.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Reg {
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    R10,
}

impl Reg {
    /// Every register, by number.
    pub const ALL: [Self; 11] = [
        Self::R0,
        Self::R1,
        Self::R2,
        Self::R3,
        Self::R4,
        Self::R5,
        Self::R6,
        Self::R7,
        Self::R8,
        Self::R9,
        Self::R10,
    ];

    /// The register's number, 0 to 10.
    pub const fn number(self) -> u8 {
        self as u8
    }

    /// The register of a number, `None` above 10.
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }
}

/// Operand width of arithmetic and compares. A 32-bit operation clears the
/// upper half of its destination.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Width {
    /// 32 bits; registers print as `w3`.
    W32,
    /// 64 bits; registers print as `r3`.
    W64,
}

/// Size of a memory access.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Size {
    /// One byte.
    B1,
    /// Two bytes.
    B2,
    /// Four bytes.
    B4,
    /// Eight bytes.
    B8,
}

impl Size {
    /// Size in bytes.
    pub const fn bytes(self) -> u8 {
        match self {
            Self::B1 => 1,
            Self::B2 => 2,
            Self::B4 => 4,
            Self::B8 => 8,
        }
    }
}

/// Two-operand arithmetic. Division and remainder are unsigned.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum AluOp {
    Add,
    Sub,
    Mul,
    Div,
    Or,
    And,
    /// Left shift.
    Lsh,
    /// Right shift that fills with zeros.
    Rsh,
    Mod,
    Xor,
    Mov,
    /// Right shift that fills with the sign.
    Arsh,
}

/// Second operand: a register, or a constant that is sign-extended to the
/// operation's width.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operand {
    /// A register.
    Reg(Reg),
    /// A constant.
    Imm(i32),
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Self {
        Self::Reg(reg)
    }
}

impl From<i32> for Operand {
    fn from(imm: i32) -> Self {
        Self::Imm(imm)
    }
}

/// Condition of a jump; unsigned unless it says signed.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Cond {
    Eq,
    Ne,
    Gt,
    Ge,
    Lt,
    Le,
    /// The operands have a bit in common.
    Set,
    SignedGt,
    SignedGe,
    SignedLt,
    SignedLe,
}

/// Target byte order of a swap.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ByteOrder {
    /// Little endian.
    Little,
    /// Big endian: network order.
    Big,
}

/// How many low bits a byte swap keeps; the rest becomes 0.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SwapBits {
    /// 16 bits.
    B16,
    /// 32 bits.
    B32,
    /// 64 bits.
    B64,
}

/// A helper function of the kernel, by its number in `enum bpf_func_id`.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Helper(pub i32);

impl Helper {
    /// `void *bpf_map_lookup_elem(map, key)`.
    pub const MAP_LOOKUP_ELEM: Self = Self(1);
    /// `long bpf_map_update_elem(map, key, value, flags)`.
    pub const MAP_UPDATE_ELEM: Self = Self(2);
    /// `long bpf_map_delete_elem(map, key)`.
    pub const MAP_DELETE_ELEM: Self = Self(3);
    /// `u64 bpf_ktime_get_ns()`.
    pub const KTIME_GET_NS: Self = Self(5);
    /// `long bpf_tail_call(ctx, prog_array, index)`.
    pub const TAIL_CALL: Self = Self(12);

    /// The helper's name, where this module knows it.
    pub fn name(self) -> Option<&'static str> {
        Some(match self {
            Self::MAP_LOOKUP_ELEM => "bpf_map_lookup_elem",
            Self::MAP_UPDATE_ELEM => "bpf_map_update_elem",
            Self::MAP_DELETE_ELEM => "bpf_map_delete_elem",
            Self::KTIME_GET_NS => "bpf_ktime_get_ns",
            Self::TAIL_CALL => "bpf_tail_call",
            _ => return None,
        })
    }
}

/// What a map reference stands for.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MapRef {
    /// A map that all programs of a host share, by name.
    Shared(&'static str),
    /// A map that belongs to this program's image: index into its maps.
    Private(u32),
    /// A file descriptor, as decoded bytes hold it.
    Fd(i32),
}

/// One instruction. Jump offsets count slots from the slot after the jump.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash)]
pub enum Insn {
    /// `dst = dst op src`; for [`AluOp::Mov`] `dst = src`.
    Alu {
        /// Width of both operands.
        width: Width,
        /// Operation.
        op: AluOp,
        /// Destination and first operand.
        dst: Reg,
        /// Second operand.
        src: Operand,
    },
    /// `dst = -dst`.
    Neg {
        /// Width of the operand.
        width: Width,
        /// The register.
        dst: Reg,
    },
    /// Converts between the machine's byte order and another one. The verifier
    /// of Linux 5.10 takes the result for unbounded.
    Swap {
        /// The other byte order.
        order: ByteOrder,
        /// Width.
        bits: SwapBits,
        /// The register.
        dst: Reg,
    },
    /// `dst = *(size *)(base + off)`, zero-extended.
    Load {
        /// Size of the access.
        size: Size,
        /// Destination.
        dst: Reg,
        /// Address.
        base: Reg,
        /// Offset in bytes.
        off: i16,
    },
    /// `*(size *)(base + off) = src`.
    Store {
        /// Size of the access.
        size: Size,
        /// Address.
        base: Reg,
        /// Offset in bytes.
        off: i16,
        /// Register or (sign-extended) constant to store.
        src: Operand,
    },
    /// `dst = imm`, 64 bits; two slots.
    LoadImm64 {
        /// Destination.
        dst: Reg,
        /// Constant.
        imm: u64,
    },
    /// `dst = address of map`; two slots.
    LoadMap {
        /// Destination.
        dst: Reg,
        /// The map.
        map: MapRef,
    },
    /// `dst = address of the map's only value + offset`; two slots. The map must be an
    /// array of one value, which the kernel addresses without a look-up.
    LoadMapValue {
        /// Destination.
        dst: Reg,
        /// The map.
        map: MapRef,
        /// Bytes into the value; less than its size.
        offset: u32,
    },
    /// Goes on `off` slots further.
    Jump {
        /// Offset in slots.
        off: i16,
    },
    /// Goes on `off` slots further if the condition holds.
    JumpIf {
        /// Width of the compare.
        width: Width,
        /// Condition.
        cond: Cond,
        /// First operand.
        dst: Reg,
        /// Second operand.
        src: Operand,
        /// Offset in slots.
        off: i16,
    },
    /// Calls a helper: arguments in `R1`–`R5`, result in `R0`.
    Call(Helper),
    /// Ends the program with the result in `R0`.
    Exit,
}

impl Insn {
    /// Slots of 8 bytes that the instruction takes: 2 for 64-bit constants and
    /// map references, else 1.
    pub const fn slots(&self) -> u32 {
        match self {
            Self::LoadImm64 { .. } | Self::LoadMap { .. } | Self::LoadMapValue { .. } => 2,
            _ => 1,
        }
    }

    /// The jump offset, `None` for anything but a jump.
    pub const fn jump_offset(&self) -> Option<i16> {
        match self {
            Self::Jump { off } | Self::JumpIf { off, .. } => Some(*off),
            _ => None,
        }
    }

    /// The map that the instruction refers to.
    pub const fn map(&self) -> Option<MapRef> {
        match self {
            Self::LoadMap { map, .. } | Self::LoadMapValue { map, .. } => Some(*map),
            _ => None,
        }
    }

    /// Whether the next instruction can never run because of this one.
    pub const fn ends_block(&self) -> bool {
        matches!(self, Self::Jump { .. } | Self::Exit)
    }

    /// `dst = src`, 64 bits.
    pub fn mov(dst: Reg, src: impl Into<Operand>) -> Self {
        Self::Alu { width: Width::W64, op: AluOp::Mov, dst, src: src.into() }
    }

    /// 64-bit arithmetic.
    pub fn alu(op: AluOp, dst: Reg, src: impl Into<Operand>) -> Self {
        Self::Alu { width: Width::W64, op, dst, src: src.into() }
    }

    /// A load.
    pub const fn load(size: Size, dst: Reg, base: Reg, off: i16) -> Self {
        Self::Load { size, dst, base, off }
    }

    /// A store.
    pub fn store(size: Size, base: Reg, off: i16, src: impl Into<Operand>) -> Self {
        Self::Store { size, base, off, src: src.into() }
    }

    /// The same jump with another offset; anything but a jump stays as it is.
    pub(super) const fn with_jump_offset(self, to: i16) -> Self {
        match self {
            Self::Jump { .. } => Self::Jump { off: to },
            Self::JumpIf { width, cond, dst, src, .. } => Self::JumpIf { width, cond, dst, src, off: to },
            other => other,
        }
    }
}
