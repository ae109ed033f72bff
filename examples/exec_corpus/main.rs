//! Runs programs that the verifier accepts on many inputs, every memory access checked:
//! `exec_corpus [--runs N] [--limit N] [--seconds N] [--seed N] [--prog NAME] [--bcf] OBJECT…`
//!
//! One line a program, tab-separated: object, program, verdict, runs, how they ended (returned, bad accesses, limit of
//! instructions, not supported), instructions that were reached of all, and the first bad access or
//! the first thing not supported. `--bcf` proves what it takes to accept a program, and runs only programs that needed BCF;
//! it adds the number of proofs, and the instructions at which it was needed, with the number of runs that reached them.
//! `--rejected` runs programs that stay rejected instead: a bad access of theirs is a bug, and the verifier is right.
//! Exit status 1 if a verified program made a bad access.

#[path = "../../src/libc_calls.rs"]
mod libc_calls;
mod load;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bpftwin::cli::object::{Object, ProgTypeArg};
use bpftwin::exec::{Machine, NOT_TAKEN, Program, Search, Stop, TAKEN, TableInputs, Zeros};
use clap::Parser;
use load::{Loaded, Loader};

#[derive(Parser)]
struct Args {
    /// Runs of each program.
    #[arg(long, default_value_t = 1000)]
    runs: u32,
    /// Instructions of a run at most.
    #[arg(long, default_value_t = 100_000)]
    limit: u64,
    /// Time for the runs of a program at most.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    #[arg(long, default_value_t = 1)]
    seed: u64,
    #[arg(long)]
    prog: Option<String>,
    /// Prove what it takes.
    #[arg(long)]
    bcf: bool,
    /// Run the programs that are rejected, and not those that are accepted.
    #[arg(long)]
    rejected: bool,
    /// Type of programs whose section names none.
    #[arg(long, default_value = "sched_cls")]
    prog_type: ProgTypeArg,
    /// Print jumps that always went the same way.
    #[arg(long)]
    one_way: bool,
    /// Print the instructions of the first bad run.
    #[arg(long)]
    trace: bool,
    #[arg(required = true)]
    objects: Vec<PathBuf>,
}

#[derive(Default)]
struct Tally {
    runs: u32,
    returned: u32,
    bad: u32,
    limit: u32,
    unsupported: u32,
    first: Option<String>,
    /// Runs that reached each of the instructions asked about.
    reached: BTreeMap<u32, u32>,
}

fn main() -> ExitCode {
    let args = Args::parse();
    let loader = Loader::new(args.bcf);
    let mut failed = false;
    for path in &args.objects {
        let programs = match Object::open(path, loader.custom_btf()) {
            Ok(object) => object.programs(),
            Err(error) => {
                eprintln!("{error}");
                continue;
            }
        };
        for (index, info) in programs.iter().enumerate() {
            if args.prog.as_ref().is_some_and(|name| *name != info.name) {
                continue;
            }
            failed |= judge(&args, &loader, path, index, &info.name);
        }
    }
    ExitCode::from(u8::from(failed))
}

/// Verifies a program and runs it. Gives whether it made a bad access.
fn judge(args: &Args, loader: &Loader, path: &Path, index: usize, name: &str) -> bool {
    let object = path.file_name().unwrap_or_default().to_string_lossy();
    let loaded = match loader.load(path, index, args.prog_type.0) {
        Ok(loaded) => loaded,
        Err(reason) => {
            println!("{object}\t{name}\t{reason}");
            return false;
        }
    };
    let accepted = loaded.outcome.result.is_ok();
    let verdict = match loaded.outcome.result {
        Ok(()) => "accepted".into(),
        Err(errno) => format!("rejected ({errno})"),
    };
    let needed_bcf = loaded.proofs > 0 || !loaded.refined.is_empty();
    if accepted == args.rejected || accepted && args.bcf && !needed_bcf {
        println!("{object}\t{name}\t{verdict}");
        return false;
    }
    let (tally, line) = run(args, &loaded);
    println!("{object}\t{name}\t{verdict}\t{line}");
    accepted && tally.bad > 0
}

fn run(args: &Args, loaded: &Loaded) -> (Tally, String) {
    let program = Program::new(&loaded.outcome);
    let mut search = Search::new(&program, args.seed);
    let mut tally = Tally::default();
    let start = Instant::now();
    while tally.runs < args.runs && start.elapsed() < Duration::from_secs(args.seconds) {
        let (stop, answers) = search.run(args.limit);
        tally.runs += 1;
        for &insn in &loaded.refined {
            *tally.reached.entry(insn).or_default() += u32::from(search.reached_last(insn));
        }
        match &stop {
            Stop::Exit(_) => tally.returned += 1,
            Stop::Limit | Stop::LeftPath { .. } => tally.limit += 1,
            Stop::Unsupported(_) => tally.unsupported += 1,
            Stop::BadAccess(_) => {
                if args.trace && (tally.bad == 0) {
                    trace(&program, &answers);
                }
                tally.bad += 1;
            }
        }
        if matches!(stop, Stop::BadAccess(_)) || matches!(stop, Stop::Unsupported(_)) && tally.first.is_none()
        {
            tally.first.get_or_insert_with(|| stop.to_string());
        }
    }
    if args.one_way {
        let jumps =
            search.branches().iter().enumerate().filter(|(_, ways)| [TAKEN, NOT_TAKEN].contains(ways));
        for (jump, ways) in jumps {
            eprintln!(
                "always {}: {}",
                if *ways == TAKEN { "taken" } else { "not taken" },
                show(&program, jump)
            );
        }
    }
    let reached = search.executed().iter().filter(|&&executed| executed).count();
    let all = loaded.seen();
    let mut line = format!(
        "{}\t{}\t{}\t{}\t{}\t{reached}/{all}\t{}",
        tally.runs,
        tally.returned,
        tally.bad,
        tally.limit,
        tally.unsupported,
        tally.first.as_deref().unwrap_or_default(),
    );
    if args.bcf {
        let refined: Vec<String> =
            tally.reached.iter().map(|(insn, runs)| format!("{insn}: {runs}")).collect();
        line += &format!("\t{} proofs\t{}", loaded.proofs, refined.join(", "));
    }
    (tally, line)
}

fn show(program: &Program, at: usize) -> String {
    let insn = program.insns()[at];
    let (dst, src) = (insn.dst_reg(), insn.src_reg());
    format!("{at}: {:#04x} r{dst} r{src} off {} imm {:#x}", insn.code, insn.off, insn.imm)
}

/// Prints the instructions of a run, with what they leave in registers, and the inputs.
fn trace(program: &Program, answers: &[(bpftwin::exec::Origin, u64)]) {
    let mut inputs = TableInputs::new(answers.iter().copied(), Zeros);
    let mut machine = Machine::new(program, &mut inputs);
    let stop = loop {
        let pc = machine.pc();
        let before = *machine.regs();
        let stop = machine.step();
        let mut line = show(program, pc as usize);
        for (reg, (old, new)) in before.iter().zip(machine.regs()).enumerate() {
            if let Some(value) = new.filter(|_| old != new) {
                line += &format!(" R{reg}={:#x}", value.bits);
                if let Some((region, off)) = machine.place(value) {
                    line += &format!(" ({region} + {off})");
                }
            }
        }
        eprintln!("{line}");
        if let Some(stop) = stop {
            break stop;
        }
    };
    eprintln!("{stop}");
    for (at, origin, value, _) in &inputs.asked {
        eprintln!("  {}: {origin:?} = {value:#x}", at.insn);
    }
}
