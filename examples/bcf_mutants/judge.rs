//! An independent judge of the checker: wherever the facts of a step's premises are true, its own fact has to be.
//!
//! Facts are evaluated under some assignments for the whole proof (corners, random values, and values that make as much of the
//! assumption true as a search finds). As a refutation has no model, that seldom makes all premises of a late step true; so steps
//! that follow from the form of their premises alone, which are most, are judged once more on their own: there the atoms of
//! the premises get any values, chosen so that the premises are true and the fact is not.

use std::fmt;
use std::hash::{Hash, Hasher};

use bpftwin::bcf::checker::{Checker, Policy, rules};
use bpftwin::bcf::eval::{Bv, Evaluator, Value};
use bpftwin::bcf::expr::{Arena, ExprId};
use bpftwin::bcf::proof::StepNo;
use bpftwin_uapi::bcf::*;
use rustc_hash::{FxHashMap, FxHashSet, FxHasher};

use super::mutate::Random;

/// Assignments for each proof; of these, near-models of the assumption.
const ASSIGNMENTS: usize = 20;
const NEAR_MODELS: usize = 6;
/// Attempts to refute one step on its own, and one of a proof that has had many.
const TRIALS: [usize; 2] = [24, 4];
const MANY: u64 = 4000;
/// Evaluations for each near-model.
const SEARCH: usize = 150;

/// What is the same for a proof and its mutants.
pub struct Judge {
    /// By the variables' ids, which are places in the file: 256 bits for each assignment.
    assignments: Vec<FxHashMap<ExprId, [u64; 4]>>,
    seed: u64,
    /// Steps that were judged, with their facts and premises.
    judged: FxHashSet<u64>,
    pub tally: Tally,
}

/// What was done.
#[derive(Clone, Copy, Default)]
pub struct Tally {
    /// Steps that the checker let pass.
    pub steps: u64,
    /// Of these, the first of their kind.
    pub judged: u64,
    /// Of these, the ones whose premises, if any, were true at least once.
    pub tested: u64,
}

/// A step that does not follow.
pub struct Unsound {
    pub step: StepNo,
    pub rule: &'static str,
    /// Values of variables, or of terms if the step was judged on its own.
    pub values: Counterexample,
}

impl fmt::Display for Unsound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} ({}) does not follow for {:x?}", self.step, self.rule, self.values)
    }
}

impl Judge {
    pub fn new(seed: u64) -> Judge {
        Judge { assignments: Vec::new(), seed, judged: FxHashSet::default(), tally: Tally::default() }
    }

    /// Judges all steps that the checker lets pass, even if it rejects a later one. The first proof should be the sound one.
    pub fn judge(&mut self, words: &[u32], policy: Policy) -> Result<(), Unsound> {
        let Ok(mut checker) = Checker::new(words, None, policy) else { return Ok(()) };
        if self.assignments.is_empty() {
            self.assignments = assignments(&checker, self.seed);
        }
        let mut evaluators = vec![Evaluator::new(); self.assignments.len()];
        let mut assigned = false;
        let mut facts: Vec<ExprId> = Vec::new();
        let mut prints = Fingerprints::default();
        loop {
            let number = facts.len() as StepNo;
            if number as usize == checker.steps().len() {
                return Ok(());
            }
            // Also an error if the last step passes and its fact is not `false`.
            let _ = checker.advance();
            if checker.report().steps == number {
                return Ok(());
            }
            let fact = checker.fact_expr(number);
            facts.push(fact);
            self.tally.steps += 1;
            let step = checker.steps().step(number);
            let rule = step.head.rule;
            let arena = checker.arena();
            let premises: Vec<ExprId> =
                step.premises.iter().map(|&premise| facts[premise as usize]).collect();
            prints.extend(arena);
            let print = prints.of_step(rule, &premises, fact);
            if !self.judged.insert(print) || is_exempt(rule, step.params, policy) {
                continue;
            }
            if !assigned {
                assigned = true;
                self.assign(arena, &mut evaluators);
            }
            let mut random = Random(self.seed ^ print);
            let trials = TRIALS[usize::from(self.tally.judged > MANY)];
            let tested = judge_step(arena, rule, &premises, fact, &mut evaluators, trials, &mut random)
                .map_err(|values| Unsound { step: number, rule: rules::name(rule), values })?;
            self.tally.judged += 1;
            self.tally.tested += u64::from(tested);
        }
    }

    /// Gives all variables their values. Those that the first proof did not have get random ones.
    fn assign(&self, arena: &Arena, evaluators: &mut [Evaluator]) {
        for id in nodes(arena, 0).filter(|&id| arena.is_variable(id)) {
            for (number, (evaluator, values)) in evaluators.iter_mut().zip(&self.assignments).enumerate() {
                let bits = values.get(&id).copied().unwrap_or_else(|| default_bits(self.seed, number, id));
                evaluator.assign(id, value(arena, id, bits));
            }
        }
    }
}

/// The assumption need not follow, and neither need what is taken on trust.
fn is_exempt(rule: u16, params: &[u32], policy: Policy) -> bool {
    match rule {
        BCF_RULE_ASSUME => true,
        BCF_RULE_POLY_NORM => policy == Policy::Reference,
        BCF_RULE_REWRITE => policy == Policy::Reference && params.first() == Some(&0),
        _ => false,
    }
}

/// All nodes from a node's id on.
fn nodes(arena: &Arena, from: usize) -> impl Iterator<Item = ExprId> + '_ {
    let mut at = from;
    std::iter::from_fn(move || {
        let id = ExprId(u32::try_from(at).ok()?);
        if at >= arena.len() {
            return None;
        }
        at += arena.words(id).len();
        Some(id)
    })
}

pub fn value(arena: &Arena, id: ExprId, bits: [u64; 4]) -> Value {
    let bit = |i: usize| bits[i / 64] >> (i % 64) & 1 != 0;
    match usize::from(arena.width(id)) {
        0 => Value::Bool(bit(0)),
        width => Value::Bv(Bv::from_bits((0..width).map(bit))),
    }
}

/// Values that depend on the assignment's number and the variable alone: corners, small ones, any.
fn default_bits(seed: u64, number: usize, id: ExprId) -> [u64; 4] {
    let mut random = Random(seed ^ (number as u64) << 32 ^ u64::from(id.0));
    let small = |value: u64| [value, 0, 0, 0];
    match number {
        0 => [0; 4],
        1 => [u64::MAX; 4],
        2 => small(1),
        3 => small(1 << random.below(64)),
        4 => small((1 << random.below(64)) - 1),
        5 => small(random.next() % 9),
        _ => match random.below(4) {
            0 => small(random.next() % 9),
            1 => small(1 << random.below(64)),
            _ => [(); 4].map(|()| random.next()),
        },
    }
}

/// Assignments for the variables of a proof. The last ones are near-models of what it assumes.
fn assignments(checker: &Checker<'_>, seed: u64) -> Vec<FxHashMap<ExprId, [u64; 4]>> {
    let arena = checker.arena();
    let variables: Vec<ExprId> = nodes(arena, 0).filter(|&id| arena.is_variable(id)).collect();
    let plain = |number| variables.iter().map(|&id| (id, default_bits(seed, number, id))).collect();
    let mut all: Vec<FxHashMap<_, _>> = (0..ASSIGNMENTS).map(plain).collect();
    let assumed = checker.steps().steps().find(|step| step.head.rule == BCF_RULE_ASSUME);
    let Some(goal) = assumed.and_then(|step| checker.ids().get(*step.params.first()?)) else { return all };
    let parts = conjuncts(arena, goal);
    let mut numbers: Vec<u64> = nodes(arena, 0).filter_map(|id| arena.bv_value(id)).take(40).collect();
    numbers.extend([0, 1, u64::MAX, 1 << 31, 1 << 63, 0xffff_ffff]);
    let mut random = Random(seed);
    for values in all.iter_mut().rev().take(NEAR_MODELS) {
        approach(arena, &parts, values, &variables, &numbers, &mut random);
    }
    all
}

/// The parts of nested conjunctions, 300 at most.
fn conjuncts(arena: &Arena, root: ExprId) -> Vec<ExprId> {
    let (mut parts, mut seen, mut stack) = (Vec::new(), FxHashSet::default(), vec![root]);
    while let Some(id) = stack.pop() {
        if !seen.insert(id) || parts.len() >= 300 {
            continue;
        }
        if arena.code(id) == BCF_BOOL_AND { stack.extend(arena.args(id)) } else { parts.push(id) }
    }
    parts
}

/// Changes one variable after the other as long as no fewer parts are true.
fn approach(
    arena: &Arena,
    parts: &[ExprId],
    values: &mut FxHashMap<ExprId, [u64; 4]>,
    variables: &[ExprId],
    numbers: &[u64],
    random: &mut Random,
) {
    if variables.is_empty() {
        return;
    }
    let count = |values: &FxHashMap<ExprId, [u64; 4]>| {
        let mut evaluator = Evaluator::new();
        values.iter().for_each(|(&id, &bits)| evaluator.assign(id, value(arena, id, bits)));
        parts.iter().filter(|&&part| evaluator.eval_bool(arena, part) == Some(true)).count()
    };
    let mut best = count(values);
    let effort = SEARCH.min(3_000_000 / arena.len().max(1));
    for _ in 0..effort {
        let id = variables[random.below(variables.len())];
        let before = values.get(&id).copied().unwrap_or_default();
        let number = numbers[random.below(numbers.len())];
        let low = match random.below(6) {
            0 => before[0] ^ 1 << random.below(64),
            1 => number.wrapping_add(1),
            2 => number.wrapping_sub(1),
            3 => random.next(),
            _ => number,
        };
        values.insert(id, [low, before[1], before[2], before[3]]);
        match count(values) {
            now if now >= best => best = now,
            _ => {
                values.insert(id, before);
            }
        }
    }
}

/// What terms say, whatever their ids.
#[derive(Default)]
struct Fingerprints {
    /// By id.
    prints: Vec<u64>,
}

impl Fingerprints {
    fn extend(&mut self, arena: &Arena) {
        for id in nodes(arena, self.prints.len()) {
            let words = arena.words(id);
            let mut hasher = FxHasher::default();
            words[0].hash(&mut hasher);
            match arena.code(id) {
                BCF_BV_CONST => words[1..].hash(&mut hasher),
                BCF_BV_VAR | BCF_BOOL_VAR => id.0.hash(&mut hasher),
                _ => arena.args(id).iter().for_each(|arg| self.prints[arg.0 as usize].hash(&mut hasher)),
            }
            self.prints.resize(id.0 as usize + words.len(), 0);
            self.prints[id.0 as usize] = hasher.finish();
        }
    }

    fn of_step(&self, rule: u16, premises: &[ExprId], fact: ExprId) -> u64 {
        let mut hasher = FxHasher::default();
        rule.hash(&mut hasher);
        premises.iter().for_each(|premise| self.prints[premise.0 as usize].hash(&mut hasher));
        self.prints[fact.0 as usize].hash(&mut hasher);
        hasher.finish()
    }
}

/// Values under which a step is wrong.
pub type Counterexample = Vec<(ExprId, Option<Value>)>;

/// Whether the premises were ever true.
pub fn judge_step(
    arena: &Arena,
    rule: u16,
    premises: &[ExprId],
    fact: ExprId,
    evaluators: &mut [Evaluator],
    trials: usize,
    random: &mut Random,
) -> Result<bool, Counterexample> {
    let mut tested = false;
    for evaluator in evaluators.iter_mut() {
        // A term without a truth value is no fact at all.
        let holds = evaluator.eval_bool(arena, fact);
        if holds == Some(true) && tested {
            continue;
        }
        let mut assumed = premises.iter().map(|&premise| evaluator.eval_bool(arena, premise));
        if holds.is_none() || assumed.all(|value| value == Some(true)) {
            tested = true;
            if holds != Some(true) {
                let variables = arena.reachable(&[premises, &[fact]].concat());
                let variables = variables.into_iter().filter(|&id| arena.is_variable(id));
                return Err(variables.map(|id| (id, evaluator.eval(arena, id))).collect());
            }
        }
    }
    if !premises.is_empty()
        && follows_by_form(rule)
        && let Some(alone) = Alone::new(arena, rule, premises, fact)
    {
        tested |= alone.refute(trials, random)?;
    }
    Ok(tested)
}

/// Whether a rule looks at no more of its premises than connectives and equalities.
fn follows_by_form(rule: u16) -> bool {
    let core = matches!(
        rule,
        BCF_RULE_SYMM
            | BCF_RULE_TRANS
            | BCF_RULE_CONG
            | BCF_RULE_TRUE_INTRO
            | BCF_RULE_TRUE_ELIM
            | BCF_RULE_FALSE_INTRO
            | BCF_RULE_FALSE_ELIM
    );
    core || rule & 0xe000 == BCF_RULE_BOOL
}

/// A step on its own: its premises and fact, with their atoms as unknowns.
struct Alone<'a> {
    arena: &'a Arena,
    premises: Vec<(ExprId, Vec<ExprId>)>,
    fact: (ExprId, Vec<ExprId>),
    /// All atoms of the premises.
    atoms: Vec<ExprId>,
}

/// What connectives and equalities are made of.
fn atoms(arena: &Arena, root: ExprId) -> Vec<ExprId> {
    let (mut atoms, mut seen, mut stack) = (Vec::new(), FxHashSet::default(), vec![root]);
    while let Some(id) = stack.pop() {
        if !seen.insert(id) {
            continue;
        }
        match arena.code(id) {
            BCF_BOOL_NOT | BCF_BOOL_AND | BCF_BOOL_OR | BCF_BOOL_XOR | BCF_BOOL_IMPLIES | BCF_BOOL_ITE
            | BCF_BOOL_EQ | BCF_BOOL_DISTINCT => stack.extend(arena.args(id)),
            BCF_BOOL_CONST | BCF_BV_CONST => {}
            _ => atoms.push(id),
        }
    }
    atoms
}

impl<'a> Alone<'a> {
    /// `None` where an atom of the premises cannot have any value, because the fact says more of it.
    fn new(arena: &'a Arena, rule: u16, premises: &[ExprId], fact: ExprId) -> Option<Alone<'a>> {
        let with_atoms = |id| (id, atoms(arena, id));
        let premises: Vec<_> = premises.iter().map(|&premise| with_atoms(premise)).collect();
        let mut fact = with_atoms(fact);
        let mut all: Vec<ExprId> = premises.iter().flat_map(|(_, atoms)| atoms).copied().collect();
        all.sort_unstable();
        all.dedup();
        if rule == BCF_RULE_CONG {
            // What f(x) is depends on x.
            if arena.args(fact.0).iter().any(|side| all.binary_search(side).is_ok()) {
                return None;
            }
            fact.1.clear();
        }
        all.extend(&fact.1);
        Some(Alone { arena, premises, fact, atoms: all })
    }

    /// Looks for values of the atoms under which the premises are true and the fact is not; tells whether they were ever true.
    fn refute(&self, trials: usize, random: &mut Random) -> Result<bool, Counterexample> {
        let mut tested = false;
        for trial in 0..trials {
            let mut values = self.start(trial, random);
            if trial.is_multiple_of(2) {
                self.steer(&self.fact, false, &mut values, random);
            }
            for _ in 0..3 {
                for premise in &self.premises {
                    self.steer(premise, true, &mut values, random);
                }
            }
            let mut evaluator = Evaluator::new();
            values.iter().for_each(|(&id, &value)| evaluator.assign(id, value));
            if self.premises.iter().all(|&(id, _)| evaluator.eval_bool(self.arena, id) == Some(true)) {
                let holds = evaluator.eval_bool(self.arena, self.fact.0);
                tested |= holds.is_some();
                if holds == Some(false) {
                    return Err(values.into_iter().map(|(id, value)| (id, Some(value))).collect());
                }
            }
        }
        Ok(tested)
    }

    fn start(&self, trial: usize, random: &mut Random) -> FxHashMap<ExprId, Value> {
        let common = [(); 4].map(|()| random.next());
        let mut pick = |&id: &ExprId| {
            let same = self.arena.is_bv(id) && !trial.is_multiple_of(3);
            let bits = if same { common } else { [(); 4].map(|()| random.next()) };
            (id, value(self.arena, id, bits))
        };
        self.atoms.iter().map(&mut pick).collect()
    }

    /// Changes atoms of a formula for it to become true, or false; that can fail.
    fn steer(
        &self,
        (root, atoms): &(ExprId, Vec<ExprId>),
        wanted: bool,
        values: &mut FxHashMap<ExprId, Value>,
        random: &mut Random,
    ) {
        let arena = self.arena;
        let mut evaluator = Evaluator::new();
        for &id in atoms {
            if let Some(&value) = values.get(&id) {
                evaluator.assign(id, value);
            }
        }
        let mut stack = vec![(*root, wanted)];
        let mut fuel = 2000;
        while let Some((id, wanted)) = stack.pop() {
            fuel -= 1;
            if fuel == 0 || evaluator.eval_bool(arena, id) == Some(wanted) {
                continue;
            }
            let args = arena.args(id);
            let any = |random: &mut Random| args[random.below(args.len())];
            match (arena.code(id), args) {
                (BCF_BOOL_NOT, &[x]) => stack.push((x, !wanted)),
                (BCF_BOOL_AND, _) if wanted => stack.extend(args.iter().map(|&arg| (arg, true))),
                (BCF_BOOL_OR, _) if !wanted => stack.extend(args.iter().map(|&arg| (arg, false))),
                (BCF_BOOL_AND | BCF_BOOL_OR, _) => stack.push((any(random), wanted)),
                (BCF_BOOL_IMPLIES, &[x, y]) if !wanted => stack.extend([(x, true), (y, false)]),
                (BCF_BOOL_IMPLIES, &[x, y]) => {
                    stack.push(if random.below(2) == 0 { (x, false) } else { (y, true) });
                }
                (BCF_BOOL_EQ | BCF_BOOL_DISTINCT, &[x, y]) if arena.is_bv(x) => {
                    let equal = wanted == (arena.code(id) == BCF_BOOL_EQ);
                    let (x, y) = if values.contains_key(&x) { (x, y) } else { (y, x) };
                    if let (Some(to), Some(old)) = (evaluator.eval(arena, y), values.get_mut(&x)) {
                        *old = if equal { to } else { value(arena, x, [(); 4].map(|()| random.next())) };
                    }
                }
                (BCF_BOOL_EQ | BCF_BOOL_DISTINCT | BCF_BOOL_XOR | BCF_BOOL_ITE, _) => {
                    let arg = any(random);
                    if let Some(value) = evaluator.eval_bool(arena, arg) {
                        stack.push((arg, !value));
                    }
                }
                _ => {
                    if let Some(value) = values.get_mut(&id) {
                        *value = Value::Bool(wanted);
                    }
                }
            }
        }
    }
}
