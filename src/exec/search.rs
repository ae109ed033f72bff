//! Inputs that go where none went before: runs that reached something new are varied, above all by making comparisons come
//! out the other way that never did.

use rustc_hash::FxHashMap;

use super::inputs::Origin;
use super::machine::{Machine, NOT_TAKEN, TAKEN};
use super::program::Program;
use super::random::{RandomInputs, Rng, interesting};
use super::stop::Stop;
use super::terms::Change;

/// Runs that are kept.
const MAX_POOL: usize = 512;

/// A run that reached something new.
struct Case {
    answers: Vec<(Origin, u64)>,
    /// Changes of answers that may make a jump go the other way.
    flips: Vec<(u32, Change)>,
}

/// Runs a program on many inputs.
pub struct Search<'p> {
    program: &'p Program,
    rng: Rng,
    interesting: Vec<u64>,
    pool: Vec<Case>,
    executed: Vec<bool>,
    branches: Vec<u8>,
    /// Instructions of the last run.
    last: Vec<bool>,
}

impl<'p> Search<'p> {
    pub fn new(program: &'p Program, seed: u64) -> Self {
        let count = program.insns().len();
        Search {
            program,
            rng: Rng(seed),
            interesting: interesting(program),
            pool: Vec::new(),
            executed: vec![false; count],
            branches: vec![0; count],
            last: vec![false; count],
        }
    }

    /// Instructions that some run reached.
    pub fn executed(&self) -> &[bool] {
        &self.executed
    }

    /// Ways in which each conditional jump went in some run, see [`Machine::branches`].
    pub fn branches(&self) -> &[u8] {
        &self.branches
    }

    /// Whether the last run reached the instruction.
    pub fn reached_last(&self, insn: u32) -> bool {
        self.last.get(insn as usize).is_some_and(|&reached| reached)
    }

    /// One run of at most `limit` instructions: how it ended, and the answers that it was given.
    pub fn run(&mut self, limit: u64) -> (Stop, Vec<(Origin, u64)>) {
        let fixed = self.vary();
        let seed = self.rng.next();
        let interesting = std::mem::take(&mut self.interesting);
        let mut inputs = RandomInputs::with_fixed(Rng(seed), &interesting, fixed);
        let mut machine = Machine::new(self.program, &mut inputs);
        let stop = machine.run(limit);
        let is_new = self.learn(&machine) && self.pool.len() < MAX_POOL;
        let flips = if is_new { machine.flips() } else { Vec::new() };
        drop(machine);
        let RandomInputs { answers, .. } = inputs;
        if is_new {
            self.pool.push(Case { answers: answers.clone(), flips });
        }
        self.interesting = interesting;
        (stop, answers)
    }

    fn learn(&mut self, machine: &Machine<'_>) -> bool {
        let mut is_new = false;
        let executed = self.executed.iter_mut().zip(&mut self.last).zip(machine.executions());
        for ((seen, last), &count) in executed {
            *last = count != 0;
            is_new |= *last && !*seen;
            *seen |= *last;
        }
        for (seen, &ways) in self.branches.iter_mut().zip(machine.branches()) {
            is_new |= ways & !*seen != 0;
            *seen |= ways;
        }
        is_new
    }

    fn vary(&mut self) -> FxHashMap<Origin, u64> {
        if self.pool.is_empty() || self.rng.one_in(4) {
            return FxHashMap::default();
        }
        let case = &self.pool[self.rng.below(self.pool.len())];
        let mut fixed: FxHashMap<Origin, u64> = case.answers.iter().copied().collect();
        let open = |&&(jump, _): &&(u32, Change)| {
            self.branches.get(jump as usize).is_some_and(|&ways| ways != TAKEN | NOT_TAKEN)
        };
        let open: Vec<&(u32, Change)> = case.flips.iter().filter(open).collect();
        let flip = if open.is_empty() || self.rng.one_in(4) {
            case.flips.get(self.rng.below(case.flips.len()))
        } else {
            open.get(self.rng.below(open.len())).copied()
        };
        match flip.filter(|_| !self.rng.one_in(4)) {
            Some((_, change)) => {
                for &(answer, bits) in change {
                    if let Some(&(origin, _)) = case.answers.get(answer as usize) {
                        fixed.insert(origin, bits);
                    }
                }
            }
            None => {
                // Some answers are drawn again.
                for _ in 0..=self.rng.below(4) {
                    if let Some((origin, _)) = case.answers.get(self.rng.below(case.answers.len())) {
                        fixed.remove(origin);
                    }
                }
            }
        }
        fixed
    }
}
