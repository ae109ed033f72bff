//! How fast proofs are checked on one core: `bcf_speed FOLDER [PASSES]` checks all files of a folder again and again, in memory, and
//! prints megabytes a second for each policy, and for a plain pass that sums up all words.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use bpftwin::bcf::checker::{Policy, check, words_of};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args_os().skip(1);
    let folder = PathBuf::from(args.next().ok_or("which folder of proofs?")?);
    let passes: u32 = args.next().and_then(|passes| passes.to_str()?.parse().ok()).unwrap_or(10);

    let mut proofs = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_file() {
            proofs.push(words_of(&std::fs::read(path)?)?.into_owned());
        }
    }
    proofs.sort_by_key(Vec::len);
    let bytes: usize = proofs.iter().map(|proof| proof.len() * 4).sum();
    println!("{} files, {bytes} bytes, {passes} passes", proofs.len());

    let policies = [("reference", Policy::Reference), ("strict", Policy::Strict)];
    for (name, policy) in policies {
        let (mut accepted, mut steps) = (0, 0u64);
        let time = fastest(passes, || {
            (accepted, steps) = (0, 0);
            for proof in &proofs {
                if let Ok(report) = check(black_box(proof), None, policy) {
                    accepted += 1;
                    steps += u64::from(report.steps);
                }
            }
        });
        print_speed(name, bytes, time);
        println!("           {accepted} accepted, {steps} steps in them");
    }
    let time = fastest(passes, || {
        for proof in &proofs {
            black_box(black_box(proof).iter().fold(0u32, |sum, &word| sum.wrapping_add(word)));
        }
    });
    print_speed("plain pass", bytes, time);
    Ok(())
}

/// The time of the fastest of some passes: what disturbs a pass only makes it slower.
fn fastest(passes: u32, mut pass: impl FnMut()) -> Duration {
    let time = || {
        let start = Instant::now();
        pass();
        start.elapsed()
    };
    std::iter::repeat_with(time).take(passes.max(1) as usize).min().unwrap_or_default()
}

fn print_speed(name: &str, bytes: usize, time: Duration) {
    println!("{name:<10} {:>9.1} MB/s", bytes as f64 / 1e6 / time.as_secs_f64());
}
