//! Making refutations smaller.
//!
//! A refutation is shrunk by deriving its lemmas again, from the empty clause backwards, where clauses that are used
//! anyway come cheaper than others ([`rederive`]), and by drawing lemmas that are used once into the lemma that uses
//! them ([`super::inline`]). Then the search is repeated in the clauses that were used, with other random choices, and
//! what it finds shrunk the same way; the smallest refutation wins.

use std::time::Instant;

use super::inline::inline;
use super::plan::{Clauses, Deriver, Lemma, Plan, Problem};
use super::propagate::{Measure, Propagator};
use super::schedule::schedule;
use super::search::{self, Found, Settings, Simplify};
use super::{Limits, Lit, Refutation};

/// Searches that are tried at most, and that may bring nothing before giving up.
const SEARCHES: i32 = 48;
const FRUITLESS_SEARCHES: u32 = 12;
/// How searches differ: in what way they simplify, and whether all clauses take part or those of the best refutation.
const VARIATIONS: [(Simplify, bool); 8] = [
    (Simplify::Rounds(1), true),
    (Simplify::Never, false),
    (Simplify::RoundsEliminating(3), true),
    (Simplify::Never, false),
    (Simplify::Never, true),
    (Simplify::Rounds(1), false),
    (Simplify::Never, false),
    (Simplify::RoundsEliminating(3), false),
];
/// Clauses up to which all take part in deriving lemmas again, not just those that are used already.
const SMALL: u32 = 20_000;
/// Rounds of deriving the lemmas again.
const ROUNDS: u32 = 4;

/// The smallest refutation found from this plan within the limits. `None` if none keeps to the bounds.
pub(super) fn shrink<C: AsRef<[Lit]>>(
    problem: &Problem,
    originals: &[C],
    plan: Plan,
    cost: &dyn Fn(u32) -> u32,
    limits: &Limits,
) -> Option<Refutation> {
    let end = Instant::now() + limits.effort;
    let mut shrinker = Shrinker {
        problem,
        originals,
        cost,
        limits,
        end: limits.deadline.map_or(end, |deadline| deadline.min(end)),
        best: None,
    };
    let by_propagation = plan.lemmas.len() <= 1;
    shrinker.consider(plan);
    if !by_propagation {
        shrinker.search_again();
    }
    shrinker.best.map(|(_, refutation)| refutation)
}

struct Shrinker<'a, C> {
    problem: &'a Problem,
    originals: &'a [C],
    cost: &'a dyn Fn(u32) -> u32,
    limits: &'a Limits,
    end: Instant,
    best: Option<(u64, Refutation)>,
}

impl<C: AsRef<[Lit]>> Shrinker<'_, C> {
    fn time_is_up(&self) -> bool {
        Instant::now() >= self.end
    }

    /// Makes refutations of the plan and of what it shrinks to. Says whether one is the best so far.
    fn consider(&mut self, mut plan: Plan) -> bool {
        let mut better = false;
        let mut least = u64::MAX;
        for _ in 0..=ROUNDS {
            better |= self.schedule(&plan);
            better |= self.schedule(&inline(self.problem, plan.clone()));
            let estimate = self.estimate(&plan);
            if estimate >= least || self.time_is_up() {
                break;
            }
            least = estimate;
            match rederive(self.problem, &plan, self.cost, self.end) {
                Some(shorter) => plan = shorter,
                None => break,
            }
        }
        better
    }

    /// Schedules the plan. Says whether that is the best refutation so far.
    fn schedule(&mut self, plan: &Plan) -> bool {
        let Some(refutation) = schedule(self.problem.vars, self.originals, plan, &self.limits.bounds) else {
            return false;
        };
        let bytes = refutation.bytes(self.cost);
        let better = self.best.as_ref().is_none_or(|(least, _)| bytes < *least);
        if better {
            self.best = Some((bytes, refutation));
        }
        better
    }

    /// A rough size of the refutation.
    fn estimate(&self, plan: &Plan) -> u64 {
        let core: u64 = core(self.problem, plan).into_iter().map(|id| u64::from((self.cost)(id))).sum();
        core + plan.lemmas.iter().map(lemma_bytes).sum::<u64>()
    }

    /// Searches with other settings, in all clauses or those of the best refutation.
    fn search_again(&mut self) {
        let mut fruitless = 0;
        for seed in 0..SEARCHES {
            if fruitless == FRUITLESS_SEARCHES || self.time_is_up() {
                break;
            }
            let (simplify, all) = VARIATIONS[seed as usize % VARIATIONS.len()];
            let mut clauses = match &self.best {
                Some((_, best)) if !all || self.problem.useful.len() > SMALL as usize => best.core(),
                _ => self.problem.useful.clone(),
            };
            if seed % 2 == 1 {
                clauses.reverse();
            }
            let settings = Settings { seed, simplify, phase: seed & 2 == 0 };
            let limits = Limits { deadline: Some(self.end), ..*self.limits };
            let better = match search::search_in(self.problem, &clauses, &settings, &limits) {
                Ok(Found::Plan(plan)) => self.consider(plan),
                _ => false,
            };
            fruitless = if better { 0 } else { fruitless + 1 };
        }
    }
}

/// The original clauses that the plan uses.
fn core(problem: &Problem, plan: &Plan) -> Vec<u32> {
    let originals = problem.clauses.len();
    let premises = plan.lemmas.iter().flat_map(Lemma::premises).chain([plan.empty]);
    let mut core: Vec<u32> = premises.filter(|&id| id < originals).collect();
    core.sort_unstable();
    core.dedup();
    core
}

/// The bytes of a chain without detours.
fn lemma_bytes(lemma: &Lemma) -> u64 {
    12 + 8 * lemma.reasons.len() as u64
}

/// Derives lemmas again, the last one first, as cheaply as can be when clauses already used need not be paid again.
/// When time is up the remaining lemmas stay as they are. `None` if that comes to nothing.
fn rederive(problem: &Problem, plan: &Plan, cost: &dyn Fn(u32) -> u32, end: Instant) -> Option<Plan> {
    let originals = problem.clauses.len();
    let mut clauses = problem.clauses.clone();
    let mut propagator = Propagator::new(problem.vars);
    let scope = if originals <= SMALL { problem.useful.clone() } else { core(problem, plan) };
    for id in scope {
        propagator.add(&clauses, id);
    }
    // What it takes to use a clause for the first time.
    let mut prices: Vec<u64> = (0..originals).map(|id| u64::from(cost(id))).collect();
    for (index, lemma) in plan.lemmas.iter().enumerate() {
        clauses.push(&lemma.lits);
        prices.push(lemma_bytes(lemma));
        if !lemma.lits.is_empty() {
            propagator.add(&clauses, originals + index as u32);
        }
    }
    let mut needed = vec![false; plan.lemmas.len()];
    *needed.last_mut()? = true;
    let mut lemmas = plan.lemmas.clone();
    for (index, lemma) in lemmas.iter_mut().enumerate().rev() {
        if !needed[index] {
            continue;
        }
        if Instant::now() < end {
            let weight = |id: u32| 8 + prices[id as usize];
            let below = originals + index as u32;
            let others = [Measure::Tree, Measure::Depth]
                .map(|measure| propagator.derive(&clauses, &lemma.lits, below, weight, measure));
            let price = |lemma: &Lemma| lemma.premises().map(weight).sum::<u64>();
            if let Some(other) = others.into_iter().flatten().min_by_key(price)
                && price(&other) < price(lemma)
            {
                *lemma = other;
            }
        }
        for id in lemma.premises() {
            prices[id as usize] = 0;
            if let Some(lemma) = id.checked_sub(originals) {
                needed[lemma as usize] = true;
            }
        }
    }
    normalize(problem, &lemmas)
}

/// Derives lemmas that may have become stronger than those that use them know. `None` if that fails.
fn normalize(problem: &Problem, lemmas: &[Lemma]) -> Option<Plan> {
    let originals = problem.clauses.len();
    let mut clauses: Clauses = problem.clauses.clone();
    let mut deriver = Deriver::new(problem.vars);
    let mut plan = Plan { lemmas: Vec::new(), empty: 0 };
    let mut ids = Vec::with_capacity(lemmas.len());
    for lemma in lemmas {
        let current = |id: u32| match id.checked_sub(originals) {
            None => id,
            Some(lemma) => ids[lemma as usize],
        };
        let hints = lemma.reasons.iter().rev().map(|&(_, reason)| reason).chain([lemma.start]);
        let derived = deriver.derive(&lemma.lits, hints.map(current), |id| clauses.get(id))?;
        let id = if derived.reasons.is_empty() {
            derived.start
        } else {
            clauses.push(&derived.lits);
            plan.lemmas.push(derived);
            clauses.len() - 1
        };
        ids.push(id);
        plan.empty = id;
        if clauses.get(id).is_empty() {
            break;
        }
    }
    plan.trim(originals);
    Some(plan)
}
