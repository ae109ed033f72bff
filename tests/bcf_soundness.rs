//! What passes, follows: of proofs that somebody damaged, each step that the checker lets pass is judged by evaluation.
//!
//! Takes proofs from the folder `BPFTWIN_TEST_BCF_PROOFS` and changes one word of each, `BPFTWIN_TEST_BCF_MUTANTS` times (1 by default).

use std::path::{Path, PathBuf};

use bpftwin::bcf::checker::{Policy, words_of};
use bpftwin::bcf::judge::judge;

/// Xorshift.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % end.max(1) as u64) as usize
    }
}

fn mutate(words: &mut [u32], random: &mut Random) {
    let at = 3 + random.below(words.len() - 3);
    words[at] = match random.below(4) {
        0 => words[at] ^ 1 << random.below(32),
        1 => words[3 + random.below(words.len() - 3)],
        2 => words[at].wrapping_add(1),
        _ => words[at] ^ 1 << (8 * random.below(4)),
    };
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("the folder");
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    files.sort();
    files
}

#[test]
fn what_passes_follows() {
    let Some(folder) = std::env::var_os("BPFTWIN_TEST_BCF_PROOFS").map(PathBuf::from) else {
        eprintln!("skipped: BPFTWIN_TEST_BCF_PROOFS names no folder of proofs");
        return;
    };
    let number = |name: &str, default| {
        std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok()).unwrap_or(default)
    };
    let mutants = number("BPFTWIN_TEST_BCF_MUTANTS", 1);
    let mut random = Random(number("BPFTWIN_TEST_SEED", 1).max(1));
    let (mut steps, mut wrong) = (0u64, Vec::new());
    for file in files(&folder) {
        let bytes = std::fs::read(&file).expect("a proof");
        let Ok(original) = words_of(&bytes) else { continue };
        // Those of a few thousand steps hold what the larger ones do.
        if !(4..=50_000).contains(&original.len()) {
            continue;
        }
        for mutant in 0..=mutants {
            let mut words = original.to_vec();
            if mutant > 0 {
                mutate(&mut words, &mut random);
            }
            for policy in [Policy::Strict, Policy::Reference] {
                match judge(&words, policy, u32::MAX, mutant) {
                    Ok(judged) => steps += u64::from(judged),
                    Err(error) => {
                        wrong.push(format!("{}, mutant {mutant}, {policy:?}: {error}", file.display()))
                    }
                }
            }
        }
    }
    eprintln!("{steps} steps judged");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
