//! eBPF instructions: types, text, bytes and an assembler. Knows nothing of policy.
//!
//! ```text
//! Assembler ─finish─▶ Code ─encode(map → fd)─▶ bytes ─decode─▶ [Insn]
//! ```
//!
//! [`Insn`] names operations, not opcode bytes, and covers what generated
//! programs may use: instruction set v3, which Linux 5.10 and rbpf run alike.
//! Anything else (atomics, sign-extending loads, signed division, calls between
//! programs) has no value of this type, and [`decode`] refuses its bytes.

mod asm;
mod code;
mod decode;
mod display;
mod encode;
mod insn;
mod values;

pub use asm::{AsmError, Assembler, Label, Layout};
pub use code::{Code, CodeError};
pub use decode::{DecodeError, decode};
pub use display::{InsnText, Names};
pub use encode::encode;
pub use insn::{AluOp, ByteOrder, Cond, Helper, Insn, MapRef, Operand, Reg, Size, SwapBits, Width};
pub use values::{Access, Index, Values};
