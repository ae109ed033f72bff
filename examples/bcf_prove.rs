//! Measures the prover: `cargo run --release --example bcf_prove -- [--answers FILE] FILE…`
//!
//! Takes BCF proofs (their goals are proved anew and the sizes compared) and recorded requests (`*.requests`: for each request its
//! length in words, then its words). Prints one line a condition, then a summary.

use std::time::{Duration, Instant};

use bpftwin::bcf::expr::{Arena, ExprId};
use bpftwin::bcf::proof::Proof;
use bpftwin::bcf::prover::{Limits, Verdict, prove};
use bpftwin::bcf::request::Request;
use bpftwin_uapi::bcf::BCF_RULE_ASSUME;

fn words(path: &str) -> Vec<u32> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{path}: {error}"));
    bytes.chunks_exact(4).map(|word| u32::from_le_bytes([word[0], word[1], word[2], word[3]])).collect()
}

#[derive(Default)]
struct Tally {
    proved: usize,
    refuted: usize,
    unknown: usize,
    ratios: Vec<f64>,
    bytes: Vec<usize>,
    slowest: Duration,
    total: Duration,
}

fn judge(tally: &mut Tally, name: &str, arena: &Arena, root: ExprId, published: Option<usize>) -> char {
    let start = Instant::now();
    let verdict = prove(arena, root, &Limits::default());
    let took = start.elapsed();
    tally.slowest = tally.slowest.max(took);
    tally.total += took;
    let published_text = published.map(|bytes| bytes.to_string()).unwrap_or_default();
    match verdict {
        Verdict::Proved(words) => {
            let bytes = words.len() * 4;
            if let Ok(folder) = std::env::var("BCF_OUT") {
                let raw: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
                let _ = std::fs::write(format!("{folder}/{}.bcf", name.replace('/', "_")), raw);
            }
            println!("{name}\tproved\t{bytes}\t{published_text}\t{took:?}");
            tally.proved += 1;
            tally.bytes.push(bytes);
            tally.ratios.extend(published.map(|published| bytes as f64 / published as f64));
            'P'
        }
        Verdict::Refuted(_) => {
            println!("{name}\trefuted\t\t{published_text}\t{took:?}");
            tally.refuted += 1;
            'S'
        }
        Verdict::Unknown(why) => {
            println!("{name}\tunknown\t\t{published_text}\t{took:?}\t{why}");
            tally.unknown += 1;
            'U'
        }
    }
}

fn main() {
    let mut tally = Tally::default();
    for path in std::env::args().skip(1) {
        let words = words(&path);
        let name = path.rsplit('/').next().unwrap_or(&path);
        if !name.ends_with(".requests") {
            let proof = match Proof::parse(&words) {
                Ok(proof) => proof,
                Err(error) => {
                    println!("{name}\tnot read: {error}");
                    continue;
                }
            };
            let goal = proof
                .steps()
                .find(|step| step.head.rule == BCF_RULE_ASSUME)
                .and_then(|step| proof.ids.get(step.params[0]));
            if let Some(goal) = goal {
                judge(&mut tally, name, &proof.arena, goal, Some(words.len() * 4));
            }
            continue;
        }
        let mut at = 0;
        let mut index = 0;
        let mut answers = String::new();
        while at < words.len() {
            let len = words[at] as usize;
            let request = Request::parse(&words[at + 1..at + 1 + len])
                .unwrap_or_else(|error| panic!("{name} {index}: {error}"));
            at += 1 + len;
            let path_answer = request
                .path_cond
                .map(|root| judge(&mut tally, &format!("{name}#{index}.path"), &request.arena, root, None));
            let refine_answer = match path_answer {
                Some('P') => None,
                _ => request.refine_cond.map(|root| {
                    judge(&mut tally, &format!("{name}#{index}.refine"), &request.arena, root, None)
                }),
            };
            answers.push(match (path_answer, refine_answer) {
                (Some('P'), _) => 'P',
                (_, Some('P')) => 'R',
                (Some('U'), _) | (_, Some('U')) => 'U',
                _ => 'N',
            });
            index += 1;
        }
        println!("{name}\tanswers\t{answers}");
    }
    tally.ratios.sort_by(f64::total_cmp);
    tally.bytes.sort_unstable();
    let median = |values: &[f64]| values.get(values.len() / 2).copied().unwrap_or(f64::NAN);
    println!(
        "proved {} refuted {} unknown {}; median ratio {:.3}; ratio <= 1: {}; median bytes {:?}; slowest {:?}; total {:?}",
        tally.proved,
        tally.refuted,
        tally.unknown,
        median(&tally.ratios),
        tally.ratios.iter().filter(|&&ratio| ratio <= 1.0).count(),
        tally.bytes.get(tally.bytes.len() / 2),
        tally.slowest,
        tally.total,
    );
}
