//! Instructions as text, in the style of bpftool and LLVM.

use std::fmt;

use super::insn::{AluOp, ByteOrder, Cond, Insn, MapRef, Operand, Reg, Size, SwapBits, Width};

/// Names to print instead of numbers.
#[derive(Copy, Clone, Debug, Default)]
pub struct Names<'a> {
    /// Label to print for the jump target instead of `+3`.
    pub target: Option<&'a str>,
    /// Name to print for the map.
    pub map: Option<&'a str>,
}

/// An instruction to print; see [`Insn::text`].
#[derive(Copy, Clone, Debug)]
pub struct InsnText<'a> {
    insn: Insn,
    names: Names<'a>,
}

impl Insn {
    /// The instruction as text with names where given.
    pub fn text(self, names: Names<'_>) -> InsnText<'_> {
        InsnText { insn: self, names }
    }
}

impl fmt::Display for Insn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.text(Names::default()).fmt(f)
    }
}

impl fmt::Display for InsnText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.insn {
            Insn::Alu { width, op, dst, src } => {
                write!(f, "{} {} {}", Wide(width, dst), op.symbol(), WideOperand(width, src))
            }
            Insn::Neg { width, dst } => write!(f, "{} = -{}", Wide(width, dst), Wide(width, dst)),
            Insn::Swap { order, bits, dst } => write!(f, "{dst} = {}{} {dst}", order.prefix(), bits.bits()),
            Insn::Load { size, dst, base, off } => write!(f, "{dst} = {}", Place(size, base, off)),
            Insn::Store { size, base, off, src } => {
                write!(f, "{} = {}", Place(size, base, off), WideOperand(Width::W64, src))
            }
            Insn::LoadImm64 { dst, imm } => write!(f, "{dst} = {imm:#x} ll"),
            Insn::LoadMap { dst, map } => match self.names.map {
                Some(name) => write!(f, "{dst} = map[{name}]"),
                None => write!(f, "{dst} = map[{map}]"),
            },
            Insn::LoadMapValue { dst, map, offset } => {
                match self.names.map {
                    Some(name) => write!(f, "{dst} = value[{name}]")?,
                    None => write!(f, "{dst} = value[{map}]")?,
                }
                if offset > 0 { write!(f, " + {offset}") } else { Ok(()) }
            }
            Insn::Jump { off } => write!(f, "goto {}", Target(self.names.target, off)),
            Insn::JumpIf { width, cond, dst, src, off } => {
                write!(f, "if {} {} ", Wide(width, dst), cond.symbol())?;
                match src {
                    Operand::Reg(reg) => Wide(width, reg).fmt(f)?,
                    Operand::Imm(imm) => write!(f, "{imm:#x}")?,
                }
                write!(f, " goto {}", Target(self.names.target, off))
            }
            Insn::Call(helper) => write!(f, "call {}#{}", helper.name().unwrap_or("helper"), helper.0),
            Insn::Exit => f.write_str("exit"),
        }
    }
}

impl fmt::Display for Reg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "r{}", self.number())
    }
}

impl fmt::Display for MapRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared(name) => f.write_str(name),
            Self::Private(index) => write!(f, "private {index}"),
            Self::Fd(fd) => write!(f, "fd {fd}"),
        }
    }
}

struct Wide(Width, Reg);

impl fmt::Display for Wide {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = match self.0 {
            Width::W32 => 'w',
            Width::W64 => 'r',
        };
        write!(f, "{letter}{}", self.1.number())
    }
}

struct WideOperand(Width, Operand);

impl fmt::Display for WideOperand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1 {
            Operand::Reg(reg) => Wide(self.0, reg).fmt(f),
            Operand::Imm(imm) => imm.fmt(f),
        }
    }
}

struct Place(Size, Reg, i16);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = if self.2 < 0 { '-' } else { '+' };
        write!(f, "*(u{} *)({} {sign} {})", u32::from(self.0.bytes()) * 8, self.1, self.2.unsigned_abs())
    }
}

struct Target<'a>(Option<&'a str>, i16);

impl fmt::Display for Target<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(label) => f.write_str(label),
            None => write!(f, "{:+}", self.1),
        }
    }
}

impl AluOp {
    fn symbol(self) -> &'static str {
        match self {
            Self::Add => "+=",
            Self::Sub => "-=",
            Self::Mul => "*=",
            Self::Div => "/=",
            Self::Or => "|=",
            Self::And => "&=",
            Self::Lsh => "<<=",
            Self::Rsh => ">>=",
            Self::Mod => "%=",
            Self::Xor => "^=",
            Self::Mov => "=",
            Self::Arsh => "s>>=",
        }
    }
}

impl Cond {
    fn symbol(self) -> &'static str {
        match self {
            Self::Eq => "==",
            Self::Ne => "!=",
            Self::Gt => ">",
            Self::Ge => ">=",
            Self::Lt => "<",
            Self::Le => "<=",
            Self::Set => "&",
            Self::SignedGt => "s>",
            Self::SignedGe => "s>=",
            Self::SignedLt => "s<",
            Self::SignedLe => "s<=",
        }
    }
}

impl ByteOrder {
    fn prefix(self) -> &'static str {
        match self {
            Self::Little => "le",
            Self::Big => "be",
        }
    }
}

impl SwapBits {
    /// 16, 32 or 64.
    pub const fn bits(self) -> i32 {
        match self {
            Self::B16 => 16,
            Self::B32 => 32,
            Self::B64 => 64,
        }
    }
}
