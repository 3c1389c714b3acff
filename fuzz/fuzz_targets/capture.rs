//! Any bytes as a capture file: the reader never panics, and every packet that
//! it gives is within what was read.
#![no_main]

use libfuzzer_sys::fuzz_target;
use polc_runtime::packet::{Capture, addresses};

fuzz_target!(|bytes: &[u8]| {
    let Ok(mut capture) = Capture::new(bytes) else { return };
    while let Ok(Some(packet)) = capture.next_packet() {
        assert!(packet.frame.len() as u32 <= packet.wire_len);
        addresses(packet.frame);
    }
});
