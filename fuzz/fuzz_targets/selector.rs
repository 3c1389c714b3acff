//! Any text: the selector parser never panics, and what it accepts prints to
//! something that parses to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use polc_compiler::selector::Selector;

fuzz_target!(|text: &str| {
    match Selector::parse(text) {
        Ok(selector) => {
            let printed = selector.to_string();
            assert_eq!(Selector::parse(&printed).as_ref(), Ok(&selector), "{printed}");
        }
        Err(error) => assert!(error.start <= error.end && error.end <= text.len(), "{error:?}"),
    }
});
