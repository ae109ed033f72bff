//! An independent judge of the checker: whatever step passes, its fact must be true wherever the facts of its premises are. It
//! evaluates them all for some values of the variables, and knows no rule.

use bpftwin::bcf::checker::{Checker, Policy, rules};
use bpftwin::bcf::eval::{Bv, Evaluator, Value};
use bpftwin::bcf::expr::{Arena, ExprId};
use bpftwin::bcf::proof::{Step, StepNo};
use bpftwin_uapi::bcf::*;

/// A step that the checker lets pass though it does not follow.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Unsound {
    pub step: StepNo,
    pub rule: &'static str,
    pub wrong: &'static str,
}

/// Assignments that facts are evaluated under.
const ASSIGNMENTS: usize = 6;

/// Judges the steps that pass, at most `limit` of them, and tells how many those are. Steps that are taken on trust are left out.
///
/// # Errors
/// The first step whose fact is false where those of its premises are true, or is no formula.
pub fn judge(words: &[u32], policy: Policy, limit: u32, seed: u64) -> Result<u32, Unsound> {
    let Ok(mut checker) = Checker::new(words, None, policy) else { return Ok(0) };
    let mut random = Random(seed);
    let mut evaluators: Vec<Evaluator> =
        (0..ASSIGNMENTS).map(|number| assignment(&checker, number, &mut random)).collect();
    let mut facts: Vec<[bool; ASSIGNMENTS]> = Vec::new();
    while (facts.len() as u32) < limit
        && let Ok(Some(number)) = checker.advance()
    {
        let step = checker.steps().step(number);
        let fact = checker.fact_expr(number);
        let unsound = |wrong| Unsound { step: number, rule: rules::name(step.head.rule), wrong };
        let mut values = [true; ASSIGNMENTS];
        for (i, evaluator) in evaluators.iter_mut().enumerate() {
            let value = evaluator.eval_bool(checker.arena(), fact);
            values[i] = value.ok_or_else(|| unsound("its fact has no truth value"))?;
            let premises_hold = step.premises.iter().all(|&premise| facts[premise as usize][i]);
            if premises_hold && !values[i] && !is_believed(&step, policy) {
                return Err(unsound("its fact is false where those of its premises are true"));
            }
        }
        facts.push(values);
    }
    Ok(facts.len() as u32)
}

/// Whether nobody claims that the fact follows.
fn is_believed(step: &Step<'_>, policy: Policy) -> bool {
    let trusted = match step.head.rule {
        BCF_RULE_REWRITE => step.params.first() == Some(&0),
        BCF_RULE_POLY_NORM => true,
        _ => false,
    };
    step.head.rule == BCF_RULE_ASSUME || (trusted && policy == Policy::Reference)
}

/// Values for all variables: zeros, ones, then random ones, some of them small.
fn assignment(checker: &Checker<'_>, number: usize, random: &mut Random) -> Evaluator {
    let arena: &Arena = checker.arena();
    let terms = checker.ids().iter().map(|(_, id)| id);
    let variables: Vec<ExprId> = terms.filter(|&id| arena.is_variable(id)).collect();
    let mut evaluator = Evaluator::new();
    for variable in variables {
        let bits = match number {
            0 => 0,
            1 => u64::MAX,
            _ if random.next() & 1 == 0 => random.next() % 9,
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

/// SplitMix64.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }
}
