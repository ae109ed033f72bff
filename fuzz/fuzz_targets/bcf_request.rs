//! Requests and goal files of BCF: the expressions, their meaning, and their text.
#![no_main]

use bpftwin::bcf::checker::{Policy, matches, words_of};
use bpftwin::bcf::print::{Bounds, Listing, Term};
use bpftwin::bcf::request::{Goal, Request};
use bpftwin_fuzz::smt::same_in_text;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(words) = words_of(input) else { return };
    for request in [Request::parse(&words), Request::parse_goal_file(&words)] {
        let Ok(Request { arena, path_cond, refine_cond }) = request else { continue };
        for root in path_cond.into_iter().chain(refine_cond) {
            let goal = Goal { arena: &arena, root };
            assert_eq!(matches(&arena, root, goal, Policy::Strict), Ok(()), "a condition is not itself");
            let _ = Listing { arena: &arena, root }.to_string();
            let _ = Term { arena: &arena, id: root, bounds: Bounds::FULL }.to_string();
            same_in_text(&arena, root);
        }
    }
});
