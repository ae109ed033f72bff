//! Conditions as SMT-LIB text: parsed, printed, parsed again.
#![no_main]

use bpftwin::bcf::smtlib::parse;
use bpftwin_fuzz::smt::same_in_text;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    match parse(input) {
        Ok(condition) => same_in_text(&condition.arena, condition.root),
        Err(error) => assert!(error.line > 0 && error.column > 0 && !error.reason.is_empty()),
    }
});
