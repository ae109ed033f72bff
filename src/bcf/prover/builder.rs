//! A proof under construction: steps with their facts, shared where they are equal, written without what is not needed.

use bpftwin_uapi::bcf::*;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use crate::bcf::checker::rewrite;
use crate::bcf::eval::{Evaluator, Value};
use crate::bcf::expr::{Arena, ExprId, MAX_ARGS};

/// A step of the proof under construction.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct StepId(u32);

/// A parameter of a step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Param {
    Expr(ExprId),
    Word(u32),
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Step {
    rule: u16,
    premises: SmallVec<[StepId; 3]>,
    params: SmallVec<[Param; 3]>,
}

/// `left = right`, by transitivity over the facts of `steps`; none when both are the same term.
#[derive(Clone, Debug)]
pub struct Equation {
    pub left: ExprId,
    pub right: ExprId,
    pub steps: SmallVec<[StepId; 2]>,
}

impl Equation {
    pub fn trivial(term: ExprId) -> Equation {
        Equation { left: term, right: term, steps: SmallVec::new() }
    }

    fn by(left: ExprId, right: ExprId, step: StepId) -> Equation {
        Equation { left, right, steps: SmallVec::from_slice(&[step]) }
    }

    pub fn is_trivial(&self) -> bool {
        self.left == self.right
    }

    /// `self.left = next.right`; the two must meet.
    pub fn then(mut self, next: &Equation) -> Equation {
        debug_assert_eq!(self.right, next.left);
        if self.left == next.right {
            return Equation::trivial(self.left);
        }
        self.steps.extend_from_slice(&next.steps);
        self.right = next.right;
        self
    }
}

/// What a word of a term costs in all: itself, its place in the table, the steps and clauses that are about it.
const BYTES_A_WORD: usize = 64;

/// The proof under construction.
#[derive(Clone)]
pub struct Builder {
    pub arena: Arena,
    /// Values of closed terms.
    closed: Evaluator,
    steps: Vec<Step>,
    index: FxHashMap<Step, StepId>,
    /// Words of terms at which making more ends.
    max_words: usize,
}

impl Builder {
    /// `memory` is the number of bytes that terms and steps may take, roughly.
    pub fn new(arena: Arena, memory: usize) -> Builder {
        let max_words = arena.len() + memory / BYTES_A_WORD;
        Builder { arena, closed: Evaluator::new(), steps: Vec::new(), index: FxHashMap::default(), max_words }
    }

    /// Whether there is no room for `words` more words of terms.
    pub fn is_full(&self, words: usize) -> bool {
        self.arena.len().saturating_add(words) > self.max_words
    }

    /// A step, or the one that is there already.
    pub fn step(&mut self, rule: u16, premises: &[StepId], params: &[Param]) -> StepId {
        let step = Step { rule, premises: premises.into(), params: params.into() };
        let new = StepId(self.steps.len() as u32);
        let steps = &mut self.steps;
        *self.index.entry(step).or_insert_with_key(|step| {
            steps.push(step.clone());
            new
        })
    }

    /// The one step whose fact is the equation.
    pub fn prove(&mut self, equation: &Equation) -> StepId {
        match &equation.steps[..] {
            [] => self.step(BCF_RULE_REFL, &[], &[Param::Expr(equation.left)]),
            &[step] => step,
            steps => {
                let mut last = steps[0];
                // A step has 255 premises at most.
                for chunk in steps[1..].chunks(MAX_ARGS - 1) {
                    let premises: SmallVec<[StepId; 8]> =
                        std::iter::once(last).chain(chunk.iter().copied()).collect();
                    last = self.step(BCF_RULE_TRANS, &premises, &[]);
                }
                last
            }
        }
    }

    pub fn symm(&mut self, equation: &Equation) -> Equation {
        if equation.is_trivial() {
            return equation.clone();
        }
        let step = self.prove(equation);
        Equation::by(equation.right, equation.left, self.step(BCF_RULE_SYMM, &[step], &[]))
    }

    /// `f(lefts) = f(rights)` for the operator `code` with `params`; `None` if that is ill-typed.
    pub fn cong(&mut self, code: u8, params: u16, args: &[Equation]) -> Option<Equation> {
        let lefts: SmallVec<[ExprId; 4]> = args.iter().map(|arg| arg.left).collect();
        let rights: SmallVec<[ExprId; 4]> = args.iter().map(|arg| arg.right).collect();
        let left = self.arena.add(code, params, &lefts).ok()?;
        if lefts == rights {
            return Some(Equation::trivial(left));
        }
        let right = self.arena.add(code, params, &rights).ok()?;
        let premises: SmallVec<[StepId; 4]> = args.iter().map(|arg| self.prove(arg)).collect();
        let header = self.arena.words(left)[0];
        Some(Equation::by(left, right, self.step(BCF_RULE_CONG, &premises, &[Param::Word(header)])))
    }

    /// `term = constant` for a closed term of at most 64 bits.
    pub fn evaluate(&mut self, term: ExprId) -> Option<Equation> {
        let value = match self.closed.eval(&self.arena, term)? {
            Value::Bool(value) => self.arena.truth(value),
            Value::Bv(value) if value.width() <= 64 => self.arena.bv_const(value.width(), value.to_u64()?),
            Value::Bv(_) => return None,
        };
        if value == term {
            return Some(Equation::trivial(term));
        }
        Some(Equation::by(term, value, self.step(BCF_RULE_EVALUATE, &[], &[Param::Expr(term)])))
    }

    /// The instance of a rewrite whose conditions are closed terms and hold.
    pub fn rewrite(&mut self, number: u32, args: &[ExprId]) -> Option<Equation> {
        let instance = rewrite::instantiate(&mut self.arena, &mut self.closed, number, args).ok()?;
        let mut premises: SmallVec<[StepId; 4]> = SmallVec::new();
        for &condition in &instance.conditions {
            let holds = self.evaluate(condition)?;
            if self.arena.bool_value(holds.right) != Some(true) {
                return None;
            }
            premises.push(self.prove(&holds));
        }
        let params: SmallVec<[Param; 8]> =
            std::iter::once(Param::Word(number)).chain(args.iter().map(|&arg| Param::Expr(arg))).collect();
        let step = self.step(BCF_RULE_REWRITE, &premises, &params);
        Some(Equation::by(instance.left, instance.right, step))
    }

    /// An equality that a rule of one parameter (BITBLAST, POLY_NORM, ACI_NORM, ABSORB) accepts as it stands.
    pub fn claim(&mut self, rule: u16, left: ExprId, right: ExprId) -> Equation {
        if left == right {
            return Equation::trivial(left);
        }
        let equality = self.arena.eq(left, right);
        Equation::by(left, right, self.step(rule, &[], &[Param::Expr(equality)]))
    }

    /// An equation that a step with these premises says.
    pub fn conclude(&mut self, rule: u16, premises: &[StepId], left: ExprId, right: ExprId) -> Equation {
        Equation::by(left, right, self.step(rule, premises, &[]))
    }

    /// The equation that a step is known to say.
    pub fn says(&self, step: StepId, left: ExprId, right: ExprId) -> Equation {
        Equation::by(left, right, step)
    }

    /// The integer argument of a rewrite.
    pub fn int(&mut self, value: u32) -> ExprId {
        self.arena.bv_const(32, value.into())
    }

    /// The proof that ends in `last`, as words: only the steps and terms that it needs.
    pub fn write(&self, last: StepId) -> Vec<u32> {
        let steps = self.needed(last);
        let number: FxHashMap<StepId, u32> = (0..).zip(&steps).map(|(number, &id)| (id, number)).collect();
        let mut roots: Vec<ExprId> = Vec::new();
        for &StepId(id) in &steps {
            roots.extend(self.steps[id as usize].params.iter().filter_map(|param| match param {
                Param::Expr(id) => Some(*id),
                Param::Word(_) => None,
            }));
        }
        let mut place: FxHashMap<ExprId, u32> = FxHashMap::default();
        let mut exprs: Vec<u32> = Vec::new();
        for id in self.arena.reachable(&roots) {
            place.insert(id, exprs.len() as u32);
            exprs.push(self.arena.words(id)[0]);
            match self.arena.bv_value(id) {
                Some(_) => exprs.extend_from_slice(&self.arena.words(id)[1..]),
                None => exprs.extend(self.arena.args(id).iter().map(|arg| place[arg])),
            }
        }
        let mut words = vec![BCF_MAGIC, exprs.len() as u32, 0];
        words.append(&mut exprs);
        let start = words.len();
        for &StepId(id) in &steps {
            let step = &self.steps[id as usize];
            words.push(
                u32::from(step.rule) | (step.premises.len() as u32) << 16 | (step.params.len() as u32) << 24,
            );
            words.extend(step.premises.iter().map(|premise| number[premise]));
            words.extend(step.params.iter().map(|param| match param {
                Param::Expr(id) => place[id],
                Param::Word(word) => *word,
            }));
        }
        words[2] = (words.len() - start) as u32;
        words
    }

    /// What `last` needs, ascending.
    fn needed(&self, last: StepId) -> Vec<StepId> {
        let mut seen = vec![false; last.0 as usize + 1];
        seen[last.0 as usize] = true;
        for id in (0..=last.0).rev() {
            if seen[id as usize] {
                for premise in &self.steps[id as usize].premises {
                    seen[premise.0 as usize] = true;
                }
            }
        }
        (0..=last.0).filter(|&id| seen[id as usize]).map(StepId).collect()
    }
}
