//! Inputs that go where none went before: runs that reached something new are varied, above all by making comparisons come
//! out the other way that never did.

use rustc_hash::FxHashMap;

use super::inputs::Origin;
use super::machine::{Machine, NOT_TAKEN, TAKEN};
use super::program::Program;
use super::random::{RandomInputs, Rng, Wish, interesting};
use super::stop::Stop;

/// Runs that are kept.
const MAX_POOL: usize = 512;

/// A run that reached something new.
struct Case {
    answers: Vec<(Origin, u64)>,
    /// Comparison at each jump whose other way is worth trying.
    wishes: Vec<(u32, Wish)>,
}

/// Runs a program on many inputs.
pub struct Search<'p> {
    program: &'p Program,
    rng: Rng,
    interesting: Vec<u64>,
    pool: Vec<Case>,
    executed: Vec<bool>,
    branches: Vec<u8>,
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
        }
    }

    /// Instructions that some run reached.
    pub fn executed(&self) -> &[bool] {
        &self.executed
    }

    /// One run of at most `limit` instructions: how it ended, and the answers that it was given.
    pub fn run(&mut self, limit: u64) -> (Stop, Vec<(Origin, u64)>) {
        let fixed = self.vary();
        let seed = self.rng.next();
        let interesting = std::mem::take(&mut self.interesting);
        let mut inputs = RandomInputs::with_fixed(Rng(seed), &interesting, fixed);
        let mut machine = Machine::new(self.program, &mut inputs);
        let stop = machine.run(limit);
        let is_new = self.learn(&machine);
        drop(machine);
        let RandomInputs { answers, wishes, .. } = inputs;
        if is_new && self.pool.len() < MAX_POOL {
            self.pool.push(Case { answers: answers.clone(), wishes: wishes.into_iter().collect() });
        }
        self.interesting = interesting;
        (stop, answers)
    }

    fn learn(&mut self, machine: &Machine<'_>) -> bool {
        let mut is_new = false;
        for (seen, &count) in self.executed.iter_mut().zip(machine.executions()) {
            is_new |= count != 0 && !*seen;
            *seen |= count != 0;
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
        let open = |&&(jump, _): &&(u32, Wish)| {
            self.branches.get(jump as usize).is_some_and(|&ways| ways != TAKEN | NOT_TAKEN)
        };
        let open: Vec<&(u32, Wish)> = case.wishes.iter().filter(open).collect();
        let wish = if open.is_empty() || self.rng.one_in(4) {
            case.wishes.get(self.rng.below(case.wishes.len()))
        } else {
            open.get(self.rng.below(open.len())).copied()
        };
        let wish = wish.filter(|_| !self.rng.one_in(4));
        match wish.and_then(|(_, wish)| Some((wish, case.answers.get(wish.answer as usize)?))) {
            Some((wish, &(origin, old))) => _ = fixed.insert(origin, grant(&mut self.rng, *wish, old)),
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

/// An answer that makes what was compared equal, nearly, if it got there by additions, moves or byte swaps.
fn grant(rng: &mut Rng, wish: Wish, old: u64) -> u64 {
    let near = [0, 0, 1, u64::MAX][rng.below(4)];
    let target = wish.other.wrapping_add(near);
    match rng.below(6) {
        0 => target,
        1 => (target as u16).swap_bytes().into(),
        2 => (target as u32).swap_bytes().into(),
        // Bits that were cut off or masked stay as they are.
        3 => old ^ wish.value ^ target,
        _ => old.wrapping_add(target.wrapping_sub(wish.value)),
    }
}
