//! The file format of proofs: header, expression area, steps.
//!
//! Only the structure is checked here: sizes, typed expressions, steps that refer to earlier steps, one ASSUME, no step in vain.
//! What the steps claim is the [checker's](super::checker) business.

use bpftwin_uapi::bcf::*;

use super::expr::{Arena, ExprError, IdMap};

/// Number of a step: its place in the proof, from 0.
pub type StepNo = u32;

/// A proof whose structure is sound.
pub struct Proof<'a> {
    /// The expression area as it came.
    pub exprs: &'a [u32],
    pub arena: Arena,
    /// From raw ids of the file to nodes of `arena`.
    pub ids: IdMap,
    steps: &'a [u32],
    /// Word index in `steps` of each step.
    starts: Vec<u32>,
    /// For each step, the last step that uses it as a premise; its own number for the last step.
    last_use: Vec<StepNo>,
}

/// One step: a rule applied to the facts of earlier steps.
#[derive(Clone, Copy)]
pub struct Step<'a> {
    pub head: BcfStep,
    /// Numbers of earlier steps.
    pub premises: &'a [StepNo],
    /// Raw ids of expressions, integers or packed data, by rule.
    pub params: &'a [u32],
}

/// What is wrong with a file that is no proof. The published checker answers EINVAL.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum FormatError {
    #[error(
        "a proof is larger than 12 and smaller than 33554432 bytes, and a multiple of 4; this has {0} bytes"
    )]
    Size(usize),
    #[error("not a proof of this machine's byte order: the magic is {0:#x}, not 0xbcf")]
    Magic(u32),
    #[error(
        "{exprs} words of expressions and {steps} of steps do not make up the {words} words that follow the header"
    )]
    Counts { exprs: u32, steps: u32, words: usize },
    #[error(transparent)]
    Expr(#[from] ExprError),
    #[error("step {0} reaches over the end of the steps")]
    Truncated(StepNo),
    #[error("step {step}: no rule has the number {rule:#06x}")]
    Rule { step: StepNo, rule: u16 },
    #[error("step {step} uses step {premise}, which does not come before it")]
    Premise { step: StepNo, premise: StepNo },
    #[error("step {0} is a second ASSUME")]
    SecondAssume(StepNo),
    #[error("no step is an ASSUME")]
    NoAssume,
    #[error("a proof has two steps at least; this has {0}")]
    TooShort(usize),
    #[error("step {0} is used by no later step")]
    Unused(StepNo),
}

/// Rules in each class: core, Boolean, bit-vector.
pub const RULES: [(u16, u16); 3] = [(BCF_RULE_CORE, 14), (BCF_RULE_BOOL, 33), (BCF_RULE_BV, 3)];

fn is_rule(rule: u16) -> bool {
    let (class, number) = (rule & 0xe000, rule & 0x1fff);
    RULES.iter().any(|&(known, last)| class == known && (1..=last).contains(&number))
}

impl<'a> Proof<'a> {
    /// Reads a proof.
    ///
    /// # Errors
    /// The first thing that is wrong with its structure, in the order of the published checker: header, expressions, steps.
    pub fn parse(words: &'a [u32]) -> Result<Proof<'a>, FormatError> {
        let bytes = words.len() * 4;
        let (&[magic, exprs, steps], rest) =
            words.split_first_chunk().filter(|(_, rest)| !rest.is_empty()).ok_or(FormatError::Size(bytes))?;
        if bytes >= BCF_MAX_PROOF_SIZE as usize {
            return Err(FormatError::Size(bytes));
        }
        if magic != BCF_MAGIC {
            return Err(FormatError::Magic(magic));
        }
        if exprs < 1 || steps < 2 || u64::from(exprs) + u64::from(steps) != rest.len() as u64 {
            return Err(FormatError::Counts { exprs, steps, words: rest.len() });
        }
        let (exprs, steps) = rest.split_at(exprs as usize);
        let (arena, ids) = Arena::parse(exprs)?;
        let starts = find_steps(steps)?;
        let mut proof = Proof { exprs, arena, ids, steps, starts, last_use: Vec::new() };
        proof.last_use = proof.find_last_uses()?;
        Ok(proof)
    }

    /// Number of steps.
    pub fn len(&self) -> usize {
        self.starts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.starts.is_empty()
    }

    #[inline]
    pub fn step(&self, number: StepNo) -> Step<'a> {
        step_at(self.steps, self.starts[number as usize])
    }

    pub fn steps(&self) -> impl Iterator<Item = Step<'a>> + '_ {
        self.starts.iter().map(|&start| step_at(self.steps, start))
    }

    /// The last step that has this one as a premise.
    #[inline]
    pub fn last_use(&self, number: StepNo) -> StepNo {
        self.last_use[number as usize]
    }

    fn find_last_uses(&self) -> Result<Vec<StepNo>, FormatError> {
        let mut last_use = vec![0; self.len()];
        for (number, step) in (0..).zip(self.steps()) {
            for &premise in step.premises {
                last_use[premise as usize] = number;
            }
        }
        let last = self.len() as u32 - 1;
        last_use[last as usize] = last;
        match last_use.iter().position(|&last| last == 0) {
            Some(unused) => Err(FormatError::Unused(unused as u32)),
            None => Ok(last_use),
        }
    }
}

/// The step at a word index that [`find_steps`] found.
#[inline]
fn step_at(words: &[u32], start: u32) -> Step<'_> {
    let words = &words[start as usize..];
    let head: BcfStep = bytemuck::cast(words[0]);
    let (premises, rest) = words[1..].split_at(head.premise_cnt.into());
    Step { head, premises, params: &rest[..head.param_cnt.into()] }
}

fn find_steps(words: &[u32]) -> Result<Vec<u32>, FormatError> {
    let mut starts = Vec::with_capacity(words.len() / 4);
    let mut assumed = false;
    let mut at = 0;
    while at < words.len() {
        let number = starts.len() as u32;
        let head: BcfStep = bytemuck::cast(words[at]);
        let end = at + 1 + usize::from(head.premise_cnt) + usize::from(head.param_cnt);
        if end > words.len() {
            return Err(FormatError::Truncated(number));
        }
        if !is_rule(head.rule) {
            return Err(FormatError::Rule { step: number, rule: head.rule });
        }
        let step = step_at(words, at as u32);
        if let Some(&premise) = step.premises.iter().find(|&&premise| premise >= number) {
            return Err(FormatError::Premise { step: number, premise });
        }
        if head.rule == BCF_RULE_ASSUME && std::mem::replace(&mut assumed, true) {
            return Err(FormatError::SecondAssume(number));
        }
        starts.push(at as u32);
        at = end;
    }
    if starts.len() < 2 {
        return Err(FormatError::TooShort(starts.len()));
    }
    if !assumed {
        return Err(FormatError::NoAssume);
    }
    Ok(starts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(rule: u16, premises: u32, params: u32) -> u32 {
        u32::from(rule) | premises << 16 | params << 24
    }

    fn proof(steps: &[u32]) -> Vec<u32> {
        // One expression: `false`.
        [&[BCF_MAGIC, 1, steps.len() as u32, BCF_BOOL_CONST.into()], steps].concat()
    }

    #[test]
    fn structure_is_checked() {
        let assume = [step(BCF_RULE_ASSUME, 0, 1), 0];
        let refl = [step(7, 0, 1), 0];
        let contra = |a, b| [step(BCF_RULE_BOOL | 8, 2, 0), a, b];
        let parse = |steps: &[u32]| Proof::parse(&proof(steps)).map(|proof| proof.len());
        assert_eq!(parse(&[&assume[..], &refl, &contra(0, 1)].concat()), Ok(3));
        assert_eq!(
            parse(&[&assume[..], &refl, &contra(0, 2)].concat()),
            Err(FormatError::Premise { step: 2, premise: 2 })
        );
        assert_eq!(parse(&[&assume[..], &refl, &contra(0, 0)].concat()), Err(FormatError::Unused(1)));
        assert_eq!(parse(&[&assume[..], &assume, &contra(0, 1)].concat()), Err(FormatError::SecondAssume(1)));
        assert_eq!(parse(&[&refl[..], &refl, &contra(0, 1)].concat()), Err(FormatError::NoAssume));
        assert_eq!(parse(&assume), Err(FormatError::TooShort(1)));
        assert_eq!(parse(&[step(15, 0, 0), 0]), Err(FormatError::Rule { step: 0, rule: 15 }));
        assert_eq!(parse(&[step(7, 0, 9), 0]), Err(FormatError::Truncated(0)));
        assert_eq!(Proof::parse(&[BCF_MAGIC, 1, 2]).map(|_| ()), Err(FormatError::Size(12)));
        assert_eq!(Proof::parse(&[1, 1, 2, 0, 0, 0]).map(|_| ()), Err(FormatError::Magic(1)));
    }
}
