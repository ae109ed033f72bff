//! Random numbers that depend on the seed alone, and damage done to proofs with them.

use std::fmt;

use bpftwin_uapi::bcf::BCF_MAGIC;

/// SplitMix64.
#[derive(Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ mixed >> 31
    }

    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end.max(1) as u64) as usize
    }
}

/// Words that were changed: place in the file, and what stands there now.
pub struct Mutation {
    kind: &'static str,
    words: Vec<(usize, u32)>,
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.kind)?;
        self.words.iter().try_for_each(|(at, word)| write!(f, ", word {at} = {word:#x}"))
    }
}

/// Words of a proof's header.
const HEADER: usize = 3;

/// Changes a word or two of a proof; as often one of the steps as one of the expressions, seldom one of the header.
pub fn mutate(words: &mut [u32], random: &mut Random) -> Mutation {
    let exprs = match *words {
        [BCF_MAGIC, exprs, ..] => (exprs as usize).min(words.len() - HEADER),
        _ => 0,
    };
    let steps = HEADER + exprs;
    let place = |random: &mut Random| match random.below(32) {
        0 => random.below(words.len()),
        1..16 => HEADER + random.below(exprs),
        _ => (steps + random.below(words.len() - steps)).min(words.len() - 1),
    };
    let at = place(random);
    let other = place(random);
    let (kind, changed) = match random.below(12) {
        0..=2 => ("a bit flipped", vec![(at, words[at] ^ 1 << random.below(32))]),
        3 => ("a low bit flipped", vec![(at, words[at] ^ 1 << random.below(6))]),
        4 => ("one more", vec![(at, words[at].wrapping_add(1))]),
        5 => ("one less", vec![(at, words[at].wrapping_sub(1))]),
        6 | 7 => ("another word copied", vec![(at, words[other])]),
        8 => ("a small number", vec![(at, random.below(40) as u32)]),
        9 => ("an id, or a step's number", vec![(at, random.below(exprs.max(1)) as u32)]),
        10 => {
            let next = (at + 1) % words.len();
            ("neighbours swapped", vec![(at, words[next]), (next, words[at])])
        }
        _ => ("two words swapped", vec![(at, words[other]), (other, words[at])]),
    };
    for &(at, word) in &changed {
        words[at] = word;
    }
    Mutation { kind, words: changed }
}
