//! Instructions against their text and bytes, and the round trip of both coders.

use proptest::prelude::*;

use super::*;
use crate::bpf::{Names, Reg::*, encode};

fn insn(width: Width, op: AluOp, dst: Reg, src: impl Into<Operand>) -> Insn {
    Insn::Alu { width, op, dst, src: src.into() }
}

fn jump_if(width: Width, cond: Cond, dst: Reg, src: impl Into<Operand>, off: i16) -> Insn {
    Insn::JumpIf { width, cond, dst, src: src.into(), off }
}

/// Bytes by the layout in `encode.rs`.
fn table() -> Vec<(Insn, &'static str, &'static str)> {
    use {AluOp::*, Cond::*, Size::*, Width::*};
    vec![
        (Insn::mov(R6, R1), "r6 = r1", "bf16000000000000"),
        (insn(W32, Mov, R0, 2), "w0 = 2", "b400000002000000"),
        (insn(W64, Add, R2, -4), "r2 += -4", "07020000fcffffff"),
        (insn(W32, Sub, R3, R4), "w3 -= w4", "1c43000000000000"),
        (insn(W64, Mul, R1, 3), "r1 *= 3", "2701000003000000"),
        (insn(W64, Div, R1, R2), "r1 /= r2", "3f21000000000000"),
        (insn(W32, Or, R1, 1), "w1 |= 1", "4401000001000000"),
        (insn(W64, And, R1, 255), "r1 &= 255", "57010000ff000000"),
        (insn(W64, Lsh, R1, 32), "r1 <<= 32", "6701000020000000"),
        (insn(W32, Rsh, R1, 8), "w1 >>= 8", "7401000008000000"),
        (insn(W64, Mod, R1, 7), "r1 %= 7", "9701000007000000"),
        (insn(W64, Xor, R1, R1), "r1 ^= r1", "af11000000000000"),
        (insn(W64, Arsh, R1, 3), "r1 s>>= 3", "c701000003000000"),
        (Insn::Neg { width: W64, dst: R5 }, "r5 = -r5", "8705000000000000"),
        (
            Insn::Swap { order: ByteOrder::Big, bits: SwapBits::B16, dst: R1 },
            "r1 = be16 r1",
            "dc01000010000000",
        ),
        (
            Insn::Swap { order: ByteOrder::Little, bits: SwapBits::B64, dst: R1 },
            "r1 = le64 r1",
            "d401000040000000",
        ),
        (Insn::load(B1, R1, R9, 45), "r1 = *(u8 *)(r9 + 45)", "71912d0000000000"),
        (Insn::load(B2, R1, R9, 42), "r1 = *(u16 *)(r9 + 42)", "69912a0000000000"),
        (Insn::load(B4, R2, R10, -4), "r2 = *(u32 *)(r10 - 4)", "61a2fcff00000000"),
        (Insn::load(B8, R2, R7, 8), "r2 = *(u64 *)(r7 + 8)", "7972080000000000"),
        (Insn::store(B4, R10, -4, 0), "*(u32 *)(r10 - 4) = 0", "620afcff00000000"),
        (Insn::store(B4, R9, 72, R1), "*(u32 *)(r9 + 72) = r1", "6319480000000000"),
        (Insn::store(B1, R9, 0, -1), "*(u8 *)(r9 + 0) = -1", "72090000ffffffff"),
        (
            Insn::LoadImm64 { dst: R2, imm: 0x1122_3344_8877_6655 },
            "r2 = 0x1122334488776655 ll",
            "18020000556677880000000044332211",
        ),
        (Insn::LoadMap { dst: R1, map: MapRef::Fd(5) }, "r1 = map[fd 5]", "18110000050000000000000000000000"),
        (
            Insn::LoadMapValue { dst: R1, map: MapRef::Fd(5), offset: 0 },
            "r1 = value[fd 5]",
            "18210000050000000000000000000000",
        ),
        (
            Insn::LoadMapValue { dst: R3, map: MapRef::Fd(5), offset: 0x102 },
            "r3 = value[fd 5] + 258",
            "18230000050000000000000002010000",
        ),
        (Insn::Jump { off: 3 }, "goto +3", "0500030000000000"),
        (jump_if(W32, Ne, R1, 6, 3), "if w1 != 0x6 goto +3", "5601030006000000"),
        (jump_if(W64, Eq, R0, 0, -2), "if r0 == 0x0 goto -2", "1500feff00000000"),
        (jump_if(W64, Set, R1, R2, 1), "if r1 & r2 goto +1", "4d21010000000000"),
        (jump_if(W32, Gt, R1, 80, 1), "if w1 > 0x50 goto +1", "2601010050000000"),
        (jump_if(W32, Ge, R1, 80, 1), "if w1 >= 0x50 goto +1", "3601010050000000"),
        (jump_if(W32, Lt, R1, 80, 1), "if w1 < 0x50 goto +1", "a601010050000000"),
        (jump_if(W32, Le, R1, 80, 1), "if w1 <= 0x50 goto +1", "b601010050000000"),
        (jump_if(W64, SignedGt, R1, R3, 1), "if r1 s> r3 goto +1", "6d31010000000000"),
        (jump_if(W64, SignedGe, R1, 0, 1), "if r1 s>= 0x0 goto +1", "7501010000000000"),
        (jump_if(W64, SignedLt, R1, 0, 1), "if r1 s< 0x0 goto +1", "c501010000000000"),
        (jump_if(W32, SignedLe, R1, 0, 1), "if w1 s<= 0x0 goto +1", "d601010000000000"),
        (Insn::Call(Helper::TAIL_CALL), "call bpf_tail_call#12", "850000000c000000"),
        (Insn::Call(Helper(77)), "call helper#77", "850000004d000000"),
        (Insn::Exit, "exit", "9500000000000000"),
    ]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[test]
fn instructions_have_these_texts_and_bytes() {
    for (insn, text, bytes) in table() {
        assert_eq!(insn.to_string(), text);
        let encoded = encode(&[insn], |_| 0);
        assert_eq!(hex(&encoded), bytes, "{text}");
        assert_eq!(encoded.len() as u32, insn.slots() * 8, "{text}");
        assert_eq!(decode(&encoded), Ok(vec![insn]), "{text}");
    }
}

#[test]
fn names_replace_numbers() {
    let jump = jump_if(Width::W32, Cond::Ne, R1, 6, 3);
    assert_eq!(jump.text(Names { target: Some("rule4"), map: None }).to_string(), "if w1 != 0x6 goto rule4");
    let map = Insn::LoadMap { dst: R1, map: MapRef::Private(0) };
    assert_eq!(map.text(Names { target: None, map: Some("rows") }).to_string(), "r1 = map[rows]");
}

#[test]
fn maps_resolve_when_encoded() {
    let shared = Insn::LoadMap { dst: R1, map: MapRef::Shared("state") };
    let bytes = encode(&[shared], |map| if map == MapRef::Shared("state") { 9 } else { 0 });
    assert_eq!(decode(&bytes), Ok(vec![Insn::LoadMap { dst: R1, map: MapRef::Fd(9) }]));
}

#[test]
fn foreign_bytes_are_refused() {
    let bytes = |hex: &str| -> Vec<u8> {
        (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
    };
    let opcode = |opcode| DecodeError::Opcode { slot: 0, opcode };
    let field = |opcode| DecodeError::Field { slot: 0, opcode };
    let cases = [
        ("95", DecodeError::Length { len: 1 }),
        ("1801000000000000", DecodeError::HalfConstant { slot: 0 }),
        ("18010000000000009500000000000000", DecodeError::HalfConstant { slot: 0 }),
        ("18310000000000000000000000000000", field(0x18)),
        ("bf1b000000000000", DecodeError::Register { slot: 0, number: 11 }),
        ("bff1000000000000", DecodeError::Register { slot: 0, number: 15 }),
        ("bf11080000000000", field(0xbf)),  // movsx
        ("3f21010000000000", field(0x3f)),  // sdiv
        ("d701000010000000", opcode(0xd7)), // bswap
        ("dc01000011000000", field(0xdc)),
        ("8f01000000000000", opcode(0x8f)),
        ("0600000001000000", opcode(0x06)), // gotol
        ("8510000001000000", field(0x85)),  // call of another program
        ("8600000001000000", opcode(0x86)),
        ("9501000000000000", field(0x95)),
        ("db12000000000000", opcode(0xdb)), // atomic add
        ("8112000000000000", opcode(0x81)), // sign-extending load
        ("3000000000000000", opcode(0x30)), // packet load
    ];
    for (hex, want) in cases {
        assert_eq!(decode(&bytes(hex)), Err(want), "{hex}");
    }
}

fn any_insn() -> impl Strategy<Value = Insn> {
    let reg = || (0u8..11).prop_map(|n| Reg::ALL[usize::from(n)]);
    let operand = || prop_oneof![reg().prop_map(Operand::Reg), any::<i32>().prop_map(Operand::Imm)];
    let width = || prop_oneof![Just(Width::W32), Just(Width::W64)];
    let size = || prop_oneof![Just(Size::B1), Just(Size::B2), Just(Size::B4), Just(Size::B8)];
    let op = (0..16u8).prop_filter_map("operation", |b| alu_op(b << 4));
    let cond = (0..16u8).prop_filter_map("condition", |b| super::cond(b << 4));
    let order = prop_oneof![Just(ByteOrder::Little), Just(ByteOrder::Big)];
    let bits = prop_oneof![Just(SwapBits::B16), Just(SwapBits::B32), Just(SwapBits::B64)];
    prop_oneof![
        (width(), op, reg(), operand()).prop_map(|(width, op, dst, src)| Insn::Alu { width, op, dst, src }),
        (width(), reg()).prop_map(|(width, dst)| Insn::Neg { width, dst }),
        (order, bits, reg()).prop_map(|(order, bits, dst)| Insn::Swap { order, bits, dst }),
        (size(), reg(), reg(), any::<i16>()).prop_map(|(size, dst, base, off)| Insn::Load {
            size,
            dst,
            base,
            off
        }),
        (size(), reg(), any::<i16>(), operand()).prop_map(|(size, base, off, src)| Insn::Store {
            size,
            base,
            off,
            src
        }),
        (reg(), any::<u64>()).prop_map(|(dst, imm)| Insn::LoadImm64 { dst, imm }),
        (reg(), any::<i32>()).prop_map(|(dst, fd)| Insn::LoadMap { dst, map: MapRef::Fd(fd) }),
        (reg(), any::<i32>(), any::<u32>()).prop_map(|(dst, fd, offset)| Insn::LoadMapValue {
            dst,
            map: MapRef::Fd(fd),
            offset
        }),
        any::<i16>().prop_map(|off| Insn::Jump { off }),
        (width(), cond, reg(), operand(), any::<i16>())
            .prop_map(|(width, cond, dst, src, off)| Insn::JumpIf { width, cond, dst, src, off }),
        any::<i32>().prop_map(|n| Insn::Call(Helper(n))),
        Just(Insn::Exit),
    ]
}

proptest! {
    #[test]
    fn decoding_inverts_encoding(insns in proptest::collection::vec(any_insn(), 0..40)) {
        prop_assert_eq!(decode(&encode(&insns, |_| 0)), Ok(insns));
    }

    #[test]
    fn what_decodes_encodes_to_itself(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        if let Ok(insns) = decode(&bytes) {
            prop_assert_eq!(encode(&insns, |_| 0), bytes);
        }
    }
}
