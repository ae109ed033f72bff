//! Small proofs for tests, in text.
//!
//! Terms are S-expressions with the operators of SMT-LIB (`(bvadd a8 b8)`) or, where it has none, the checker's (`(from_bool p q)`);
//! indices come first (`(extract 7 0 a8)`, `(zero_extend 8 a8)`, `(bit 3 a8)`, `(size 32 a8)`), and so does a list's element type
//! (`(list bv a8 b8)`). Names are variables: with digits at the end, bit-vectors of so many bits (`a8`); else Boolean (`p`).
//! `#5:8` is a constant of 8 bits.

use bpftwin_uapi::bcf::*;
use rustc_hash::FxHashMap;

use super::{CheckError, Checker, Policy, Report, RuleError, rules};
use crate::bcf::expr::{Arena, ExprId, OPS};
use crate::bcf::proof::StepNo;

/// A parameter of a step.
#[derive(Clone, Copy)]
pub enum Param<'a> {
    Term(&'a str),
    Word(u32),
}

/// A proof in the making.
pub struct MiniProof {
    pub arena: Arena,
    variables: FxHashMap<String, ExprId>,
    steps: Vec<u32>,
    count: StepNo,
}

impl MiniProof {
    pub fn new() -> MiniProof {
        MiniProof { arena: Arena::new(), variables: FxHashMap::default(), steps: Vec::new(), count: 0 }
    }

    /// The term that a text says. Its id is also the raw id in the file.
    #[track_caller]
    pub fn term(&mut self, text: &str) -> ExprId {
        let spaced = text.replace('(', " ( ").replace(')', " ) ");
        let mut tokens = spaced.split_whitespace().peekable();
        let term = self.parse(&mut tokens);
        assert_eq!(tokens.next(), None, "after the term {text}");
        term
    }

    #[track_caller]
    fn parse(&mut self, tokens: &mut Tokens<'_>) -> ExprId {
        match tokens.next().expect("a term") {
            "(" => self.parse_application(tokens),
            "true" => self.arena.truth(true),
            "false" => self.arena.truth(false),
            token if token.starts_with('#') => {
                let (value, width) = token[1..].split_once(':').expect("#value:width");
                self.arena.bv_const(width.parse().expect("a width"), value.parse().expect("a value"))
            }
            name => self.variable(name),
        }
    }

    fn variable(&mut self, name: &str) -> ExprId {
        let width = name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok();
        let arena = &mut self.arena;
        let fresh = || match width {
            Some(width) => arena.bv_var(width),
            None => arena.bool_var(),
        };
        *self.variables.entry(name.into()).or_insert_with(fresh)
    }

    #[track_caller]
    fn parse_application(&mut self, tokens: &mut Tokens<'_>) -> ExprId {
        let operator = tokens.next().expect("an operator");
        let mut number = || tokens.next().and_then(|token| token.parse::<u16>().ok()).expect("an index");
        let (code, params) = match operator {
            "extract" => (BCF_BV_EXTRACT, number() << 8 | number()),
            "sign_extend" => (BCF_BV_SIGN_EXTEND, number() << 8),
            "zero_extend" => (BCF_BV_ZERO_EXTEND, number() << 8),
            "repeat" => (BCF_BV_REPEAT, number() << 8),
            "bit" => (BCF_BOOL_BIT_OF, number()),
            "size" => (BCF_BV_SIZE, number()),
            "from_bool" => (BCF_BV_FROM_BOOL, 0),
            "list" => (BCF_LIST_VAL, u16::from(tokens.next() == Some("bool"))),
            name => (
                OPS.iter()
                    .find(|op| op.smt == Some(name))
                    .unwrap_or_else(|| panic!("no operator {name}"))
                    .code,
                0,
            ),
        };
        let mut args = Vec::new();
        while tokens.peek() != Some(&")") {
            args.push(self.parse(tokens));
        }
        tokens.next();
        let (code, width) = self.code_and_width(code, params, &args);
        self.arena.add(code, params | width, &args).unwrap_or_else(|e| panic!("{operator}: {e}"))
    }

    /// `ite` is of its branches' type; widths that no index tells follow from the arguments.
    fn code_and_width(&self, code: u8, params: u16, args: &[ExprId]) -> (u8, u16) {
        let width = |index: usize| u16::from(self.arena.width(args[index]));
        match code {
            BCF_BV_ITE | BCF_BOOL_ITE if self.arena.is_bool(args[1]) => (BCF_BOOL_ITE, 0),
            BCF_BV_ITE | BCF_BOOL_ITE => (BCF_BV_ITE, width(1)),
            BCF_BV_SIGN_EXTEND | BCF_BV_ZERO_EXTEND => (code, width(0) + (params >> 8)),
            BCF_BV_REPEAT => (code, width(0) * (params >> 8)),
            BCF_BV_CONCAT => (code, (0..args.len()).map(width).sum()),
            BCF_BV_EXTRACT | BCF_BV_SIZE | BCF_BV_FROM_BOOL => (code, 0),
            _ if code & 7 == BCF_BV => (code, width(0)),
            _ => (code, 0),
        }
    }

    /// Appends a step.
    #[track_caller]
    pub fn step(&mut self, rule: &str, premises: &[StepNo], params: &[Param<'_>]) -> StepNo {
        let rule = rules::number(rule).unwrap_or_else(|| panic!("no rule {rule}"));
        self.steps.push(u32::from(rule) | (premises.len() as u32) << 16 | (params.len() as u32) << 24);
        self.steps.extend(premises);
        for param in params {
            let word = match *param {
                Param::Term(text) => self.term(text).0,
                Param::Word(word) => word,
            };
            self.steps.push(word);
        }
        self.count += 1;
        self.count - 1
    }

    /// The file.
    pub fn words(&self) -> Vec<u32> {
        let mut exprs = Vec::new();
        while exprs.len() < self.arena.len() {
            exprs.extend_from_slice(self.arena.words(ExprId(exprs.len() as u32)));
        }
        let header = [BCF_MAGIC, exprs.len() as u32, self.steps.len() as u32];
        [&header, &exprs[..], &self.steps].concat()
    }

    pub fn check(&self, policy: Policy) -> Result<Report, CheckError> {
        super::check(&self.words(), None, policy)
    }
}

type Tokens<'t> = std::iter::Peekable<std::str::SplitWhitespace<'t>>;

/// Whether a rule concludes `expected` from these facts; it gets them as the parts of what the proof assumes.
#[track_caller]
pub fn concludes(
    policy: Policy,
    rule: &str,
    premises: &[&str],
    params: &[Param<'_>],
    expected: &str,
) -> Result<bool, RuleError> {
    let mut proof = MiniProof::new();
    let expected = proof.term(expected);
    let premises: Vec<StepNo> = match *premises {
        [] => {
            proof.step("ASSUME", &[], &[Param::Term("true")]);
            Vec::new()
        }
        [premise] => vec![proof.step("ASSUME", &[], &[Param::Term(premise)])],
        _ => {
            let goal = format!("(and {})", premises.join(" "));
            let goal = proof.step("ASSUME", &[], &[Param::Term(&goal)]);
            let parts = 0..premises.len() as u32;
            parts.map(|i| proof.step("AND_ELIM", &[goal], &[Param::Word(i)])).collect()
        }
    };
    let step = proof.step(rule, &premises, params);
    if premises.is_empty() {
        proof.step("AND_INTRO", &[0, step], &[]);
    }
    let words = proof.words();
    let mut checker = Checker::new(&words, None, policy).expect("a proof by its structure");
    loop {
        match checker.advance() {
            Ok(Some(number)) if number < step => {}
            Ok(Some(_)) | Err(CheckError::NoRefutation(_)) => return Ok(checker.fact_expr(step) == expected),
            Err(CheckError::Step { step: failed, error, .. }) if failed == step => return Err(error),
            other => panic!("before the step: {other:?}"),
        }
    }
}

/// Asserts that both policies let a rule conclude `expected`.
#[track_caller]
pub fn accepts(rule: &str, premises: &[&str], params: &[Param<'_>], expected: &str) {
    for policy in [Policy::Strict, Policy::Reference] {
        assert_eq!(
            concludes(policy, rule, premises, params, expected),
            Ok(true),
            "{policy:?} {rule}: {expected}"
        );
    }
}

/// Asserts that both policies reject a step with EINVAL.
#[track_caller]
pub fn rejects(rule: &str, premises: &[&str], params: &[Param<'_>]) {
    for policy in [Policy::Strict, Policy::Reference] {
        let concluded = concludes(policy, rule, premises, params, "true");
        let errno = concluded.map_err(|error| error.errno());
        assert_eq!(errno, Err(libc::EINVAL), "{policy:?} {rule} {premises:?}");
    }
}
