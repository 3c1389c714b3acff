//! Any text: the IR parser never panics; what it accepts prints to the same IR,
//! and the verifier looks at it without a panic.
#![no_main]

use libfuzzer_sys::fuzz_target;
use polc_compiler::ir;

fuzz_target!(|text: &str| {
    if let Ok(policy) = ir::parse(text) {
        let printed = policy.to_string();
        assert_eq!(ir::parse(&printed).as_ref(), Ok(&policy), "{printed}");
        let _ = ir::verify(&policy);
    }
});
