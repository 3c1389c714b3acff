//! Any bytes as a packet: the header parser never panics and looks at no byte
//! that is not there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use polc_runtime::packet::parse;

fuzz_target!(|bytes: &[u8]| {
    let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
    let _ = parse::parse(bytes, length);
    let _ = parse::addresses(bytes);
});
