//! Any bytes: the instruction decoder never panics, and what it accepts prints
//! and encodes to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use polc_compiler::bpf::{self, MapRef};

fuzz_target!(|bytes: &[u8]| {
    let Ok(instructions) = bpf::decode(bytes) else { return };
    for instruction in &instructions {
        assert!(!instruction.to_string().is_empty());
    }
    let map = |map: MapRef| match map {
        MapRef::Fd(fd) => fd,
        other => panic!("decoded a map that bytes cannot name: {other}"),
    };
    assert_eq!(bpf::encode(&instructions, map), bytes);
});
