//! How fast proofs are checked on one core: `bcf_speed FOLDER [PASSES]` checks all files of a folder again and again, in memory, and
//! prints megabytes a second for each policy, and for a plain pass that sums up all words.

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

use bpftwin::bcf::checker::{Policy, check, words_of};
use nix::time::ClockId;

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

    for (name, policy) in [("reference", Policy::Reference), ("strict", Policy::Strict)] {
        measure(name, policy, &proofs, passes);
        let accepted: Vec<_> =
            proofs.iter().filter(|proof| check(proof, None, policy).is_ok()).cloned().collect();
        measure("  accepted", policy, &accepted, passes);
    }
    let time = fastest(passes, || {
        for proof in &proofs {
            black_box(black_box(proof).iter().fold(0u32, |sum, &word| sum.wrapping_add(word)));
        }
    });
    print_speed("plain pass", bytes, time);
    Ok(())
}

fn measure(name: &str, policy: Policy, proofs: &[Vec<u32>], passes: u32) {
    let mut steps = 0;
    let time = fastest(passes, || {
        let reports = proofs.iter().filter_map(|proof| check(black_box(proof), None, policy).ok());
        steps = reports.map(|report| report.steps).sum();
    });
    print_speed(name, proofs.iter().map(|proof| proof.len() * 4).sum(), time);
    if steps > 0 {
        println!("           {} ns for each of {steps} accepted steps", time.as_nanos() / u128::from(steps));
    }
}

/// The time on the processor of the fastest of some passes: what disturbs a pass only makes it slower.
fn fastest(passes: u32, mut pass: impl FnMut()) -> Duration {
    let now = || ClockId::CLOCK_THREAD_CPUTIME_ID.now().map(Duration::from).unwrap_or_default();
    let time = || {
        let start = now();
        pass();
        now() - start
    };
    std::iter::repeat_with(time).take(passes.max(1) as usize).min().unwrap_or_default()
}

fn print_speed(name: &str, bytes: usize, time: Duration) {
    println!("{name:<10} {:>9.1} MB/s", bytes as f64 / 1e6 / time.as_secs_f64());
}
