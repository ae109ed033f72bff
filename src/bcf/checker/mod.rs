//! Checks proofs: applies every step's rule to the facts of its premises.
//!
//! A proof refutes its goal: the first of its steps assumes it, each further step derives a fact from earlier ones, and the last
//! derives `false`. Rules stand in a table ([`rules`]), a file for each family; a rule is a function from a step to its fact.
//!
//! Terms are hash-consed, so that structural equality is equality of ids, and a fact is no node of the arena before a rule
//! needs it as a term ([`Fact`]). Time and memory stay within a small multiple of the proof's size: what walks terms does so once
//! for each node or pays with [`Checker::spend`], and what grows is measured after each step.

mod aci;
pub mod bitblast;
mod boolean;
mod bv;
mod cnf;
mod core;
mod error;
mod facts;
mod goal;
mod pattern;
pub mod poly;
mod resolution;
pub mod rewrite;
pub mod rewrites;
pub mod rules;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod unsound;

use std::borrow::Cow;

pub use error::{CheckError, RuleError};
pub use facts::Fact;
pub use goal::matches;

use super::eval::Evaluator;
use super::expr::{Arena, ExprId, IdMap, MAX_ARGS};
use super::proof::{FormatError, Proof, Step, StepNo};
use super::request::Goal;
use bpftwin_uapi::bcf::*;
use facts::Facts;

/// How much a proof is believed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Policy {
    /// Every step is checked; what cannot be is rejected.
    #[default]
    Strict,
    /// The answers of the published checker: POLY_NORM and rewrite 0 are taken on trust and counted, its restrictions hold; what
    /// it accepts though it is wrong, or crashes on, is rejected.
    Reference,
}

/// What was seen on the way through a proof.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Steps that were applied.
    pub steps: u32,
    /// REWRITE steps with the number 0, taken on trust.
    pub trusted_rewrite: u32,
    /// POLY_NORM steps taken on trust.
    pub trusted_poly_norm: u32,
    /// POLY_NORM steps that were checked.
    pub checked_poly_norm: u32,
}

/// Checks a proof, given as the words of a file; with a goal, that it is this goal which is refuted.
///
/// # Errors
/// Why it is no proof, or the step that does not follow.
pub fn check(words: &[u32], goal: Option<Goal<'_>>, policy: Policy) -> Result<Report, CheckError> {
    let mut checker = Checker::new(words, goal, policy)?;
    checker.run()?;
    Ok(checker.report)
}

/// [`check`] for bytes of any length and alignment.
///
/// # Errors
/// As [`check`].
pub fn check_bytes(bytes: &[u8], goal: Option<Goal<'_>>, policy: Policy) -> Result<Report, CheckError> {
    let examined = examine(bytes, goal, policy);
    examined.verdict.map(|()| examined.report)
}

/// What there is to say of a proof, accepted or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Examined {
    pub verdict: Result<(), CheckError>,
    /// Steps of the proof; 0 if it is none, or one of something else.
    pub steps: u32,
    /// Up to the step that does not follow.
    pub report: Report,
}

/// [`check_bytes`], but tells how far it came where a proof is rejected.
pub fn examine(bytes: &[u8], goal: Option<Goal<'_>>, policy: Policy) -> Examined {
    let no_proof = |error| Examined { verdict: Err(error), steps: 0, report: Report::default() };
    let words = match words_of(bytes) {
        Ok(words) => words,
        Err(error) => return no_proof(error.into()),
    };
    match Checker::new(&words, goal, policy) {
        Ok(mut checker) => {
            Examined { verdict: checker.run(), steps: checker.steps.len() as u32, report: checker.report }
        }
        Err(error) => no_proof(error),
    }
}

/// The words of a file, copied only if they are not aligned.
///
/// # Errors
/// When the bytes are no whole number of words.
pub fn words_of(bytes: &[u8]) -> Result<Cow<'_, [u32]>, FormatError> {
    if !bytes.len().is_multiple_of(4) {
        return Err(FormatError::Size(bytes.len()));
    }
    Ok(match bytemuck::try_cast_slice(bytes) {
        Ok(words) => Cow::Borrowed(words),
        Err(_) => {
            let mut words = vec![0u32; bytes.len() / 4];
            bytemuck::cast_slice_mut(&mut words).copy_from_slice(bytes);
            Cow::Owned(words)
        }
    })
}

/// A proof that is being checked.
///
/// [`check`] is all that most callers need; who wants to see each step's fact calls [`Checker::advance`] and [`Checker::fact`].
pub struct Checker<'a> {
    steps: Proof<'a>,
    /// All terms: the proof's and those that rules make.
    arena: Arena,
    policy: Policy,
    facts: Facts,
    report: Report,
    /// Values of closed terms.
    closed: Evaluator,
    evaluation: core::Evaluation,
    /// Buffer for literals and arguments.
    scratch: Vec<ExprId>,
    /// Nodes that rules may yet visit beyond those that the step names.
    fuel: u64,
    /// Most words that terms, and that clauses, may take.
    room: usize,
}

/// Words of terms and of clauses for each word of the proof, and what small proofs get in any case.
const ROOM: (usize, usize) = (8, 1 << 20);
/// Visits of nodes, likewise.
const FUEL: (u64, u64) = (32, 1 << 20);

impl<'a> Checker<'a> {
    /// Reads a proof and matches what it assumes with the goal.
    ///
    /// # Errors
    /// When it is no proof, or one of something else.
    pub fn new(words: &'a [u32], goal: Option<Goal<'_>>, policy: Policy) -> Result<Checker<'a>, CheckError> {
        let mut steps = Proof::parse(words)?;
        let arena = std::mem::take(&mut steps.arena);
        let checker = Checker {
            facts: Facts::new(steps.len(), arena.truth(true)),
            arena,
            policy,
            report: Report::default(),
            closed: Evaluator::new(),
            evaluation: core::Evaluation::default(),
            scratch: Vec::with_capacity(MAX_ARGS),
            fuel: FUEL.0 * words.len() as u64 + FUEL.1,
            room: ROOM.0 * words.len() + ROOM.1,
            steps,
        };
        checker.check_goal(goal)?;
        Ok(checker)
    }

    fn check_goal(&self, goal: Option<Goal<'_>>) -> Result<(), CheckError> {
        let assume = (0..).zip(self.steps.steps()).find(|(_, step)| step.head.rule == BCF_RULE_ASSUME);
        let Some((number, step)) = assume else { return Ok(()) };
        let assumed = core::assumed(self, &step);
        let matched = assumed.and_then(|assumed| match goal {
            Some(goal) => matches(&self.arena, assumed, goal, self.policy),
            None => Ok(()),
        });
        matched.map_err(|error| CheckError::Step { step: number, rule: rules::name(BCF_RULE_ASSUME), error })
    }

    /// Applies all steps that are left.
    ///
    /// # Errors
    /// The first step that does not follow; or the last one does not conclude `false`.
    pub fn run(&mut self) -> Result<(), CheckError> {
        while self.advance()?.is_some() {}
        Ok(())
    }

    /// Applies the next step; `None` when there is none left.
    ///
    /// # Errors
    /// As [`Checker::run`]. After an error there is nothing to go on with.
    pub fn advance(&mut self) -> Result<Option<StepNo>, CheckError> {
        let number = self.report.steps;
        if number as usize == self.steps.len() {
            return Ok(None);
        }
        let step = self.steps.step(number);
        let fact = self.apply(&step).map_err(|error| CheckError::Step {
            step: number,
            rule: rules::name(step.head.rule),
            error,
        })?;
        self.facts.add(fact);
        for &premise in step.premises {
            if self.steps.last_use(premise) == number {
                self.facts.release(premise);
            }
        }
        self.report.steps += 1;
        if self.report.steps as usize == self.steps.len() && !self.says(fact, self.arena.truth(false)) {
            return Err(CheckError::NoRefutation(number));
        }
        Ok(Some(number))
    }

    fn apply(&mut self, step: &Step<'_>) -> Result<Fact, RuleError> {
        let rule = rules::rule_of(step.head.rule).ok_or(RuleError::Invalid("no rule has this number"))?;
        let fact = (rule.apply)(self, step)?;
        if self.arena.len() > self.room || self.facts.live_literals() > self.room {
            return Err(RuleError::TooBig("the facts outgrow the proof by far"));
        }
        Ok(fact)
    }

    /// What was seen so far.
    pub fn report(&self) -> Report {
        self.report
    }

    pub fn arena(&self) -> &Arena {
        &self.arena
    }

    /// From raw ids of the file to nodes of the arena.
    pub fn ids(&self) -> &IdMap {
        &self.steps.ids
    }

    pub fn steps(&self) -> &Proof<'a> {
        &self.steps
    }

    /// The fact of a step that was applied and is not yet used for the last time, as a term.
    pub fn fact_expr(&mut self, number: StepNo) -> ExprId {
        let fact = self.fact(number);
        self.expr(fact)
    }
}

/// What rules use.
impl Checker<'_> {
    fn fact(&self, number: StepNo) -> Fact {
        self.facts.get(number)
    }

    /// The fact as a term.
    fn expr(&mut self, fact: Fact) -> ExprId {
        match fact {
            Fact::Expr(id) => id,
            Fact::Eq(x, y) => self.arena.eq(x, y),
            Fact::Clause(clause) => self.arena.intern(BCF_BOOL_OR, 0, self.facts.literals(clause)),
        }
    }

    /// Whether the fact is this term.
    #[inline]
    fn says(&self, fact: Fact, id: ExprId) -> bool {
        match fact {
            Fact::Expr(fact) => fact == id,
            Fact::Eq(x, y) => self.arena.match_op(id, BCF_BOOL_EQ) == Some([x, y]),
            Fact::Clause(clause) => {
                self.arena.code(id) == BCF_BOOL_OR && self.arena.args(id) == self.facts.literals(clause)
            }
        }
    }

    /// The literals of a fact that is a disjunction.
    #[inline]
    fn disjuncts(&self, fact: Fact) -> Option<&[ExprId]> {
        match fact {
            Fact::Clause(clause) => Some(self.facts.literals(clause)),
            Fact::Expr(id) if self.arena.code(id) == BCF_BOOL_OR => Some(self.arena.args(id)),
            _ => None,
        }
    }

    /// The sides of a premise that is an equality.
    #[inline]
    fn equality(&self, premise: StepNo) -> Result<[ExprId; 2], RuleError> {
        match self.fact(premise) {
            Fact::Eq(x, y) => Some([x, y]),
            Fact::Expr(id) => self.arena.match_op(id, BCF_BOOL_EQ),
            Fact::Clause(_) => None,
        }
        .ok_or(RuleError::Invalid("a premise must be an equality"))
    }

    /// What a premise negates.
    fn negated(&self, premise: StepNo) -> Result<ExprId, RuleError> {
        match self.fact(premise) {
            Fact::Expr(id) => self.arena.match_op(id, BCF_BOOL_NOT).map(|[x]| x),
            _ => None,
        }
        .ok_or(RuleError::Invalid("the premise must be a negation"))
    }

    /// A fact of its own for literals, which are Boolean terms: `false` for none, the literal for one.
    fn clause(&mut self, literals: &[ExprId]) -> Fact {
        match *literals {
            [] => Fact::Expr(self.arena.truth(false)),
            [literal] => Fact::Expr(literal),
            _ => self.facts.clause(literals),
        }
    }

    #[inline]
    fn not(&mut self, x: ExprId) -> ExprId {
        self.arena.not(x)
    }

    /// The term that a parameter names.
    #[inline]
    fn term(&self, raw: u32) -> Result<ExprId, RuleError> {
        self.steps.ids.get(raw).ok_or(RuleError::Invalid("a parameter is not the id of an expression"))
    }

    /// The Boolean term that a parameter names.
    fn formula(&self, raw: u32) -> Result<ExprId, RuleError> {
        let term = self.term(raw)?;
        ensure(self.arena.is_bool(term), "a parameter must be a Boolean expression")?;
        Ok(term)
    }

    /// Pays for visiting nodes, where that is not bounded by the size of the steps.
    ///
    /// # Errors
    /// When the proof makes more work than any honest one of its size.
    fn spend(&mut self, nodes: u64) -> Result<(), RuleError> {
        self.fuel = self.fuel.checked_sub(nodes).ok_or(RuleError::TooBig("too much work for its size"))?;
        Ok(())
    }
}

/// The premises and parameters of a step that must have exactly so many.
fn shape<const PREMISES: usize, const PARAMS: usize>(
    step: &Step<'_>,
) -> Result<([StepNo; PREMISES], [u32; PARAMS]), RuleError> {
    match (step.premises.try_into(), step.params.try_into()) {
        (Ok(premises), Ok(params)) => Ok((premises, params)),
        (Err(_), _) => Err(RuleError::Invalid("wrong number of premises")),
        (_, Err(_)) => Err(RuleError::Invalid("wrong number of parameters")),
    }
}

/// EINVAL with the expectation, unless it holds.
#[inline]
fn ensure(holds: bool, expected: &'static str) -> Result<(), RuleError> {
    if holds { Ok(()) } else { Err(RuleError::Invalid(expected)) }
}

/// A parameter that says which of two facts a rule concludes.
fn choice(param: u32) -> Result<bool, RuleError> {
    ensure(param <= 1, "the parameter must be 0 or 1")?;
    Ok(param == 1)
}
