//! An independent judge of the checker: whatever step it lets pass, of proofs that somebody damaged, its fact must be true wherever
//! the facts of its premises are.
//!
//! Takes proofs from the folder `BPFTWIN_TEST_BCF_PROOFS`, changes one word of each, `BPFTWIN_TEST_BCF_MUTANTS` times (1 by default), and
//! evaluates all facts for some values of the variables.

use std::path::{Path, PathBuf};

use bpftwin::bcf::checker::{Checker, Policy, words_of};
use bpftwin::bcf::eval::{Bv, Evaluator, Value};
use bpftwin::bcf::expr::{Arena, ExprId};
use bpftwin::bcf::proof::Step;

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

const ASSIGNMENTS: usize = 6;

/// Values for all variables of the arena: zero, ones, then random ones, some of them small.
fn assignment(arena: &Arena, variables: &[ExprId], number: usize, random: &mut Random) -> Evaluator {
    let mut evaluator = Evaluator::new();
    for &variable in variables {
        let bits = match number {
            0 => 0,
            1 => u64::MAX,
            _ if random.below(2) == 0 => random.next() % 9,
            _ => random.next(),
        };
        let value = match arena.width(variable) {
            0 => Value::Bool(bits & 1 != 0),
            width => Value::Bv(Bv::new(width, bits)),
        };
        evaluator.assign(variable, value);
    }
    evaluator
}

fn is_trusted(step: &Step<'_>) -> bool {
    step.head.rule == 0x4002 || (step.head.rule == 6 && step.params.first() == Some(&0))
}

/// Steps that are checked, or the first whose fact does not follow.
fn judge(words: &[u32], policy: Policy, random: &mut Random) -> Result<u32, String> {
    let Ok(mut checker) = Checker::new(words, None, policy) else { return Ok(0) };
    let ids = checker.ids().iter().map(|(_, id)| id);
    let variables: Vec<ExprId> = ids.filter(|&id| checker.arena().is_variable(id)).collect();
    let mut evaluators: Vec<Evaluator> =
        (0..ASSIGNMENTS).map(|number| assignment(checker.arena(), &variables, number, random)).collect();
    let mut facts: Vec<[bool; ASSIGNMENTS]> = Vec::new();
    while let Ok(Some(number)) = checker.advance() {
        let step = checker.steps().step(number);
        let fact = checker.fact_expr(number);
        let mut values = [true; ASSIGNMENTS];
        for (i, evaluator) in evaluators.iter_mut().enumerate() {
            values[i] = evaluator
                .eval_bool(checker.arena(), fact)
                .ok_or_else(|| format!("step {number} (rule {:#06x}) has no truth value", step.head.rule))?;
            let assumed = step.premises.iter().all(|&premise| facts[premise as usize][i]);
            let free = step.head.rule == 1 || (policy == Policy::Reference && is_trusted(&step));
            if assumed && !values[i] && !free {
                return Err(format!("step {number} (rule {:#06x}) does not follow", step.head.rule));
            }
        }
        facts.push(values);
    }
    Ok(facts.len() as u32)
}

fn mutate(words: &mut [u32], random: &mut Random) {
    let at = 3 + random.below(words.len() - 3);
    words[at] = match random.below(4) {
        0 => words[at] ^ 1 << random.below(32),
        1 => words[3 + random.below(words.len() - 3)],
        2 => words[at].wrapping_add(1),
        _ => words[at] ^ 1 << (8 * random.below(4)),
    };
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

#[test]
fn what_passes_follows() {
    let Some(folder) = std::env::var_os("BPFTWIN_TEST_BCF_PROOFS").map(PathBuf::from) else {
        eprintln!("skipped: BPFTWIN_TEST_BCF_PROOFS names no folder of proofs");
        return;
    };
    let number = |name: &str, default| {
        std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok()).unwrap_or(default)
    };
    let mutants = number("BPFTWIN_TEST_BCF_MUTANTS", 1);
    let mut random = Random(number("BPFTWIN_TEST_SEED", 1));
    let (mut steps, mut wrong) = (0u64, Vec::new());
    for file in files(&folder) {
        let bytes = std::fs::read(&file).expect("a proof");
        let Ok(original) = words_of(&bytes) else { continue };
        // Those of a few thousand steps hold what the larger ones do.
        if original.len() > 50_000 {
            continue;
        }
        for mutant in 0..=mutants {
            let mut words = original.to_vec();
            if mutant > 0 {
                mutate(&mut words, &mut random);
            }
            for policy in [Policy::Strict, Policy::Reference] {
                match judge(&words, policy, &mut random) {
                    Ok(checked) => steps += u64::from(checked),
                    Err(error) => wrong.push(format!("{}, {policy:?}: {error}", file.display())),
                }
            }
        }
    }
    eprintln!("{steps} steps judged");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
