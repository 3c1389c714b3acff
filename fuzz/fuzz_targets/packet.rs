//! Any bytes as a packet: the header parser never panics and looks at no byte
//! that is not there.
#![no_main]

use libfuzzer_sys::fuzz_target;
use polc_runtime::packet::{addresses, parse};

fuzz_target!(|bytes: &[u8]| {
    let _ = parse::parse(bytes);
    let _ = addresses(bytes);
});
