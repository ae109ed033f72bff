//! Random numbers that depend on the seed alone.

/// xorshift64*, seeded through splitmix64.
#[derive(Clone)]
pub struct Rng(u64);

impl Rng {
    pub fn new(seed: u64) -> Self {
        let mut z = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        Rng((z ^ (z >> 31)) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// Below `n`; zero for an `n` of zero.
    pub fn below(&mut self, n: u64) -> u64 {
        if n == 0 { 0 } else { (self.next() >> 11) % n }
    }

    /// Between two bounds, both inclusive.
    pub fn range(&mut self, min: i64, max: i64) -> i64 {
        min + self.below((max - min + 1) as u64) as i64
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }

    /// True in `percent` of all cases.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }

    /// An index, by weight.
    pub fn weighted(&mut self, weights: &[u32]) -> usize {
        let mut rest = self.below(weights.iter().map(|&w| u64::from(w)).sum());
        for (i, &weight) in weights.iter().enumerate() {
            if rest < u64::from(weight) {
                return i;
            }
            rest -= u64::from(weight);
        }
        0
    }

    /// A number that is interesting to a tracker of ranges and bits.
    pub fn number(&mut self) -> i64 {
        match self.below(10) {
            0..4 => self.range(0, 16),
            4 => self.range(-16, 64),
            5 => 1i64.wrapping_shl(self.below(64) as u32).wrapping_add(self.range(-1, 1)),
            6 => self.pick(&[
                i64::MAX,
                i64::MIN,
                i64::from(i32::MAX),
                i64::from(i32::MIN),
                0xffff_ffff,
                0x8000_0000,
                0x1_0000_0000,
                -1,
                0xffff,
                0x7fff_ffff_ffff,
            ]),
            7 => !1i64.wrapping_shl(self.below(64) as u32),
            8 => self.range(0, 4096),
            _ => self.next() as i64,
        }
    }
}
