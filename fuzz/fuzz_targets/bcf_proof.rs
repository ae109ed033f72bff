//! Proofs of BCF: the file, the rules under both policies, whether what passes is true, and the printing of steps and facts.
#![no_main]

use bpftwin::bcf::checker::{Checker, Policy, check_bytes, words_of};
use bpftwin::bcf::print::{Bounds, StepText, Term};
use bpftwin_fuzz::judge::judge;
use libfuzzer_sys::fuzz_target;

/// Steps of a proof that are printed, and that are judged.
const PRINTED: u32 = 200;

fuzz_target!(|input: &[u8]| {
    let Ok(words) = words_of(input) else { return };
    for policy in [Policy::Strict, Policy::Reference] {
        let checked = check_bytes(input, None, policy);
        let Ok(mut checker) = Checker::new(&words, None, policy) else {
            assert!(checked.is_err());
            continue;
        };
        loop {
            match checker.advance() {
                Ok(Some(number)) if number < PRINTED => print(&mut checker, number),
                Ok(Some(_)) => {}
                Ok(None) => break assert_eq!(checked, Ok(checker.report())),
                Err(error) => break assert_eq!(checked, Err(error)),
            }
        }
        if let Err(error) = judge(&words, policy, PRINTED, words.len() as u64) {
            panic!("{policy:?}: {error:?}");
        }
    }
});

fn print(checker: &mut Checker<'_>, number: u32) {
    let id = checker.fact_expr(number);
    let arena = checker.arena();
    assert!(arena.is_bool(id), "the fact of step {number} is no formula");
    let step = checker.steps().step(number);
    let fact = Term { arena, id, bounds: Bounds::FULL }.to_string();
    let step = StepText { number, step, arena, ids: checker.ids(), bounds: Bounds::BRIEF }.to_string();
    assert!(fact.len() < 1 << 16 && step.len() < 1 << 20);
}
