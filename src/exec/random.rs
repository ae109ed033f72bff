//! Random inputs that reach far: corners of every width, and the constants that the program itself compares with.

use rustc_hash::FxHashMap;

use super::alu::truncate;
use super::inputs::{At, Inputs, Origin, Range};
use super::program::Program;

/// splitmix64: small, and good enough to choose by.
#[derive(Clone, Debug)]
pub(super) struct Rng(pub u64);

impl Rng {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// A number below `n`, zero for none.
    pub fn below(&mut self, n: usize) -> usize {
        (self.next() % (n as u64).max(1)) as usize
    }

    pub fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// Values that are likely to matter to a program.
pub(super) fn interesting(program: &Program) -> Vec<u64> {
    let mut values = program.constants();
    for map in program.maps() {
        values.extend([map.value_size, map.key_size, map.max_entries].map(u64::from));
    }
    values.sort_unstable();
    values.dedup();
    values
}

/// Random values from a seed: the same for the same seed and program, if the program asks in the same order.
pub struct RandomInputs<'a> {
    rng: Rng,
    interesting: &'a [u64],
    /// Answers that are given.
    fixed: FxHashMap<Origin, u64>,
    /// Answers of the run, in order.
    pub(super) answers: Vec<(Origin, u64)>,
}

impl<'a> RandomInputs<'a> {
    /// `interesting` are values that are likely to matter, see [`Program::constants`].
    pub fn new(seed: u64, interesting: &'a [u64]) -> Self {
        Self::with_fixed(Rng(seed), interesting, FxHashMap::default())
    }

    pub(super) fn with_fixed(rng: Rng, interesting: &'a [u64], fixed: FxHashMap<Origin, u64>) -> Self {
        RandomInputs { rng, interesting, fixed, answers: Vec::new() }
    }

    /// Answers of the run so far, in the order of the questions.
    pub fn answers(&self) -> &[(Origin, u64)] {
        &self.answers
    }

    fn draw(&mut self, origin: Origin, range: Range) -> u64 {
        let rng = &mut self.rng;
        match (origin, range) {
            (Origin::Choice { .. }, Range::CHOICE) => return u64::from(rng.one_in(8)),
            (_, Range::CHOICE) => return u64::from(!rng.one_in(5)),
            // Most helpers succeed most of the time, and say so with a zero.
            (Origin::Return { .. }, Range::FULL) if rng.one_in(2) => return 0,
            (Origin::Return { .. }, Range { min: ..=-4095, .. }) if rng.one_in(8) => {
                return (1 + rng.below(134) as u64).wrapping_neg();
            }
            (Origin::PacketSize { .. }, _) if rng.one_in(2) => {
                return [0, 14, 34, 42, 54, 64, 128, 1500, 9000, 0xffff][rng.below(10)];
            }
            (Origin::MetaSize { .. }, _) if rng.one_in(2) => return 0,
            _ => {}
        }
        let value = match rng.below(8) {
            0 => [range.min, range.min.saturating_add(1), range.max, range.max.saturating_sub(1)]
                [rng.below(4)] as u64,
            1 | 2 if !self.interesting.is_empty() => {
                let value = self.interesting[rng.below(self.interesting.len())];
                let value = value.wrapping_add([0, 0, 1, u64::MAX][rng.below(4)]);
                match rng.below(6) {
                    0 => (value as u16).swap_bytes().into(),
                    1 => (value as u32).swap_bytes().into(),
                    _ => value,
                }
            }
            3 => (1u64 << rng.below(64)).wrapping_add([0, 1, u64::MAX][rng.below(3)]),
            4 => [0, 1, u64::MAX, 0x7f, 0x80, 0xff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, i64::MAX as u64]
                [rng.below(10)],
            5 => rng.below(65) as u64,
            _ => rng.next() >> rng.below(64),
        };
        fit(value, range)
    }
}

/// The value, or another one that is in the range.
pub(super) fn fit(value: u64, range: Range) -> u64 {
    if range.contains(value) {
        return value;
    }
    let span = (range.max as u64).wrapping_sub(range.min as u64).wrapping_add(1);
    match span {
        0 => value,
        _ => (range.min as u64).wrapping_add(value % span),
    }
}

impl Inputs for RandomInputs<'_> {
    fn value(&mut self, _: At, origin: Origin, range: Range) -> u64 {
        let value = match self.fixed.get(&origin) {
            Some(&value) => value,
            None => self.draw(origin, range),
        };
        let value = origin.size().map_or(value, |size| truncate(value, size.into()));
        self.answers.push((origin, value));
        value
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fit_their_range() {
        let mut inputs = RandomInputs::new(7, &[34, 0x800]);
        let at = At { insn: 0, nth: 0, step: 0 };
        let mut seen = [false; 3];
        for nth in 0..4000 {
            for range in [Range::new(-4095, 64), Range::of_size(2), Range::new(0, 0)] {
                let value = inputs.value(at, Origin::Return { insn: 1, nth }, range);
                assert!(range.contains(value), "{value:#x} {range:?}");
                seen[0] |= value == 64;
                seen[1] |= value == 0x800;
                seen[2] |= value == -4095i64 as u64;
            }
        }
        assert_eq!(seen, [true; 3]);
    }
}
