//! The prover on requests: whatever the condition, there is an answer, and the strict checker takes every proof.
#![no_main]

use std::time::Duration;

use bpftwin::bcf::checker::words_of;
use bpftwin::bcf::eval::Evaluator;
use bpftwin::bcf::prover::{Limits, Verdict, prove};
use bpftwin::bcf::request::Request;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let Ok(words) = words_of(input) else { return };
    let Ok(Request { arena, path_cond, refine_cond }) = Request::parse(&words) else { return };
    let limits =
        Limits { timeout: Duration::from_millis(500), memory: 256 << 20, effort: Duration::from_millis(20) };
    for root in path_cond.into_iter().chain(refine_cond) {
        // That a proof holds is asserted where it is made.
        if let Verdict::Refuted(model) = prove(&arena, root, &limits) {
            let mut evaluator = Evaluator::new();
            model.values.iter().for_each(|&(variable, value)| evaluator.assign(variable, value));
            assert_eq!(evaluator.eval_bool(&arena, root), Some(true), "a model that is none");
        }
    }
});
