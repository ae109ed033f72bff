//! Damages proofs and judges what the checker still lets pass:
//! `bcf_mutants [--mutants N] [--seed N] [--threads N] [--min-words N] [--max-words N] FILE|FOLDER…`
//!
//! Each proof gets N mutants (100 by default): a bit of a word flipped, a word copied from elsewhere, one added, two words swapped, and the
//! like. Both policies check each of them, and under `strict` every step that passes, also of mutants that are rejected later, is
//! judged by evaluation (see `judge.rs`). When a mutant is accepted that assumes something else than its original, the prover
//! is asked whether that can be refuted at all.
//!
//! Prints what was done, which mutants only one policy accepts and why, and the slowest check. Exit status 1 if a step does not
//! follow, or an assumption is refuted that has a model; 101 if the checker panics.

mod judge;
mod mutate;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bpftwin::bcf::checker::{CheckError, Checker, Policy, check, words_of};
use bpftwin::bcf::expr::ExprId;
use bpftwin::bcf::prover::{Limits, Verdict, prove};
use bpftwin_uapi::bcf::BCF_RULE_ASSUME;
use judge::{Judge, Tally};
use mutate::{Random, mutate};

struct Options {
    mutants: usize,
    seed: u64,
    threads: usize,
    /// Of proofs.
    words: std::ops::RangeInclusive<usize>,
    files: Vec<PathBuf>,
}

fn options() -> Result<Options, String> {
    let mut options = Options { mutants: 100, seed: 1, threads: 2, words: 0..=usize::MAX, files: Vec::new() };
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        let mut number = || {
            let value = args.next().ok_or_else(|| format!("{arg} needs a number"))?;
            value.parse::<usize>().map_err(|error| format!("{arg} {value}: {error}"))
        };
        match arg.as_str() {
            "--mutants" => options.mutants = number()?,
            "--seed" => options.seed = number()? as u64,
            "--threads" => options.threads = number()?,
            "--min-words" => options.words = number()?..=*options.words.end(),
            "--max-words" => options.words = *options.words.start()..=number()?,
            _ if arg.starts_with('-') => return Err(format!("no option {arg}")),
            _ => options.files.extend(files(PathBuf::from(arg))?),
        }
    }
    if options.files.is_empty() { Err("which proofs?".into()) } else { Ok(options) }
}

/// The file, or the files with the extension `bcf` of the folder.
fn files(path: PathBuf) -> Result<Vec<PathBuf>, String> {
    if !path.is_dir() {
        return Ok(vec![path]);
    }
    let entries = std::fs::read_dir(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "bcf"));
    files.sort();
    Ok(files)
}

/// What came out.
#[derive(Default)]
struct Totals {
    proofs: usize,
    mutants: usize,
    strict: usize,
    reference: usize,
    /// Accepted mutants with another assumption, and of these the ones that the prover refutes as well.
    other_goals: usize,
    other_goals_proved: usize,
    tally: Tally,
    /// Mutants that one policy accepts, by the answer of the other.
    only: BTreeMap<String, usize>,
    slowest: Option<(Duration, String)>,
    wrong: Vec<String>,
}

/// A rejection without its place.
fn reason(error: &CheckError) -> String {
    match error {
        CheckError::Format(_) => "format".into(),
        CheckError::Step { rule, error, .. } => format!("{rule}: {error}"),
        CheckError::NoRefutation(_) => "no refutation".into(),
    }
}

/// One proof and its mutants.
fn run(file: &PathBuf, number: usize, options: &Options, totals: &Mutex<Totals>) {
    let bytes = std::fs::read(file).unwrap_or_default();
    let Ok(original) = words_of(&bytes) else { return };
    if !options.words.contains(&original.len()) {
        return;
    }
    let accepts = |policy| check(&original, None, policy).is_ok();
    if !accepts(Policy::Strict) && !accepts(Policy::Reference) {
        return;
    }
    let mut random = Random(options.seed << 32 ^ number as u64);
    let mut judge = Judge::new(random.next());
    let mut mine = Totals { proofs: 1, ..Totals::default() };
    let mut goals: HashMap<Vec<u32>, bool> = HashMap::new();
    let own_goal = assumption(&original);
    for mutant in 0..=options.mutants {
        let mut words = original.to_vec();
        // What the checker accepts without damage has to follow, too.
        let damage = if mutant == 0 { None } else { Some(mutate(&mut words, &mut random)) };
        let what = || {
            let damage = damage.as_ref().map_or("unchanged".into(), |damage| damage.to_string());
            format!("{}: {damage}", file.display())
        };
        let start = Instant::now();
        let strict = check(&words, None, Policy::Strict);
        let time = start.elapsed();
        if mine.slowest.as_ref().is_none_or(|(slowest, _)| time > *slowest) {
            mine.slowest = Some((time, what()));
        }
        let reference = check(&words, None, Policy::Reference);
        if mutant > 0 {
            mine.mutants += 1;
            mine.strict += usize::from(strict.is_ok());
            mine.reference += usize::from(reference.is_ok());
            let only = match (&strict, &reference) {
                (Ok(_), Err(error)) => Some(format!("only strict; reference: {}", reason(error))),
                (Err(error), Ok(_)) => Some(format!("only reference; strict: {}", reason(error))),
                _ => None,
            };
            if let Some(only) = only {
                *mine.only.entry(only).or_default() += 1;
            }
        }
        if let Err(unsound) = judge.judge(&words, Policy::Strict) {
            mine.wrong.push(format!("{}: {unsound}", what()));
        }
        if strict.is_ok()
            && let Some((goal, formula)) = assumption(&words)
            && own_goal.as_ref().is_none_or(|(_, own)| *own != formula)
        {
            let limits =
                Limits { effort: Duration::ZERO, timeout: Duration::from_secs(5), ..Limits::default() };
            let proved =
                *goals.entry(formula).or_insert_with(|| match prove_assumption(&words, goal, &limits) {
                    Some(Verdict::Proved(_)) => true,
                    Some(Verdict::Refuted(model)) => {
                        mine.wrong.push(format!("{}: the assumption has the model {model:x?}", what()));
                        false
                    }
                    _ => false,
                });
            mine.other_goals += 1;
            mine.other_goals_proved += usize::from(proved);
        }
    }
    mine.tally = judge.tally;
    for wrong in &mine.wrong {
        println!("{wrong}");
    }
    let mut totals = totals.lock().expect("no thread panics");
    totals.proofs += mine.proofs;
    totals.mutants += mine.mutants;
    totals.strict += mine.strict;
    totals.reference += mine.reference;
    totals.other_goals += mine.other_goals;
    totals.other_goals_proved += mine.other_goals_proved;
    totals.tally.steps += mine.tally.steps;
    totals.tally.judged += mine.tally.judged;
    totals.tally.tested += mine.tally.tested;
    for (only, count) in mine.only {
        *totals.only.entry(only).or_default() += count;
    }
    totals.slowest = totals.slowest.take().max(mine.slowest);
    totals.wrong.extend(mine.wrong);
}

/// What a proof assumes: its place in the file, and all words on which its meaning depends.
fn assumption(words: &[u32]) -> Option<(ExprId, Vec<u32>)> {
    let checker = Checker::new(words, None, Policy::Strict).ok()?;
    let step = checker.steps().steps().find(|step| step.head.rule == BCF_RULE_ASSUME)?;
    let goal = checker.ids().get(*step.params.first()?)?;
    let nodes = checker.arena().reachable(&[goal]);
    Some((goal, nodes.iter().flat_map(|&id| [&[id.0], checker.arena().words(id)].concat()).collect()))
}

fn prove_assumption(words: &[u32], goal: ExprId, limits: &Limits) -> Option<Verdict> {
    let checker = Checker::new(words, None, Policy::Strict).ok()?;
    Some(prove(checker.arena(), goal, limits))
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("bcf_mutants: {error}");
            return ExitCode::from(2);
        }
    };
    let (totals, next, panicked) =
        (Mutex::new(Totals::default()), AtomicUsize::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let work = || {
            while let number = next.fetch_add(1, Ordering::Relaxed)
                && let Some(file) = options.files.get(number)
            {
                run(file, number, &options, &totals);
                eprint!("\r{}/{} files", number + 1, options.files.len());
            }
        };
        let threads: Vec<_> = (0..options.threads.max(1)).map(|_| scope.spawn(work)).collect();
        for thread in threads {
            if thread.join().is_err() {
                panicked.store(true, Ordering::Relaxed);
            }
        }
    });
    eprintln!();
    if panicked.into_inner() {
        println!("the checker panics");
        return ExitCode::from(101);
    }
    let totals = totals.into_inner().expect("no thread panics");
    println!(
        "{} accepted proofs, {} mutants: {} accepted by strict, {} by reference",
        totals.proofs, totals.mutants, totals.strict, totals.reference
    );
    let Tally { steps, judged, tested } = totals.tally;
    println!("{steps} steps passed, {judged} different ones judged, {tested} of them with true premises");
    println!(
        "{} accepted mutants with another assumption; the prover refutes it, too, for {}",
        totals.other_goals, totals.other_goals_proved
    );
    for (only, count) in &totals.only {
        println!("{count:6} {only}");
    }
    if let Some((time, what)) = &totals.slowest {
        println!("slowest check: {time:?}, {what}");
    }
    println!("{} wrong", totals.wrong.len());
    ExitCode::from(u8::from(!totals.wrong.is_empty()))
}
