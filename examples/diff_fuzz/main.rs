//! Differential fuzzing: random BPF programs through this verifier and the live kernel's, errno and log compared.
//!
//! Needs a kernel of the emulated series and the right to load programs.

mod btf;
mod case;
#[path = "../../tests/soundness/generator.rs"]
#[allow(dead_code, reason = "shared with a test that runs the programs")]
mod derived;
mod generator;
mod kernel;
mod minimize;
mod ours;
mod report;
mod rng;
mod runner;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bpftwin::bcf::client::{Client, Proofs};
use bpftwin::bcf::prover::Limits;
use bpftwin::exec::Stop;
use bpftwin::kernel::config::KernelConfig;
use clap::{Parser, ValueEnum};

use case::Case;
use generator::{Profiles, Style};
use kernel::World;
use runner::{Divergence, Runner, Verdict};

/// Programs that take longer than this are reported as hanging.
const HANG: Duration = Duration::from_secs(120);
/// Programs that the kernel takes longer for are left out.
const SLOW: Duration = Duration::from_secs(4);

/// Requests of a program that are answered.
const ROUNDS: u32 = 40;

/// What answers requests for proofs.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Bcf {
    /// Proofs, where there are any.
    Proved,
    /// A proof of anything, which the published checker believes.
    Claimed,
}

/// What a worker does.
#[derive(Clone)]
struct Job {
    index: u64,
    since: Instant,
    thread: libc::pthread_t,
    tid: libc::pid_t,
    give_up: Arc<AtomicBool>,
}

/// Only there so that a signal interrupts.
extern "C" fn interrupted(_: libc::c_int) {}

#[derive(Parser)]
struct Options {
    /// Programs of another seed are other programs.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of programs.
    #[arg(long, default_value_t = 10_000)]
    count: u64,
    /// Number of the first program.
    #[arg(long, default_value_t = 0)]
    start: u64,
    #[arg(long, default_value_t = 2)]
    jobs: usize,
    /// Load into the live kernel alone, to see what it makes of the programs.
    #[arg(long)]
    kernel_only: bool,
    /// With `--kernel-only`: list every kind of log line instead of the reasons of rejections.
    #[arg(long)]
    lines: bool,
    /// Programs without mistakes made on purpose.
    #[arg(long)]
    clean: bool,
    /// Load as a client of BCF does, programs that are likely to ask for proofs, and compare what both ask for. "claimed": with proofs of
    /// anything, so that loads go far. Needs a kernel with BCF.
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "proved")]
    bcf: Option<Bcf>,
    /// Verify here alone.
    #[arg(long)]
    ours_only: bool,
    /// Verify here alone, and run what is accepted on N inputs: none may make a bad access. With `--bcf`, what proofs save as
    /// `BPFTWIN_BCF=auto` makes them.
    #[arg(long, value_name = "N", default_value_t = 0)]
    run: u32,
    /// Compares one stored program and shows both logs.
    #[arg(long, value_name = "FILE")]
    replay: Vec<PathBuf>,
    /// Prints and stores programs instead of running them.
    #[arg(long)]
    print: bool,
    /// Where divergent programs are stored.
    #[arg(long, default_value = "target/diff-fuzz")]
    out: PathBuf,
    /// Programs minimised of each kind of divergence.
    #[arg(long, default_value_t = 1)]
    examples: usize,
    /// Kinds of divergence that are shown.
    #[arg(long, default_value_t = 30)]
    show: usize,
}

impl Options {
    fn style(&self) -> Style {
        if self.bcf.is_some() {
            Style::Proofs
        } else if self.clean {
            Style::Clean
        } else {
            Style::Any
        }
    }

    fn is_ours_only(&self) -> bool {
        self.ours_only || self.run > 0
    }

    fn runner(&self, world: &Arc<World>, client: Option<Arc<Client>>) -> Runner {
        Runner::new(Arc::clone(world), client, self.run)
    }

    /// What a program's answer or answers come to.
    fn judge(&self, runner: &mut Runner, case: &Case) -> (runner::Answer, Verdict) {
        if self.kernel_only {
            (runner.kernel_only(case), Verdict::Equal)
        } else if self.is_ours_only() {
            runner.run(case)
        } else {
            runner.compare(case)
        }
    }

    fn client(&self) -> Option<Arc<Client>> {
        let limits = Limits { timeout: Duration::from_secs(5), memory: 256 << 20, effort: Duration::ZERO };
        let proofs = match self.bcf? {
            Bcf::Proved => Proofs::Found,
            Bcf::Claimed => Proofs::Claimed,
        };
        Some(Arc::new(Client::new(limits, ROUNDS, proofs)))
    }
}

/// One kind of divergence.
#[derive(Default)]
struct Bucket {
    count: u64,
    /// The first few programs, by number.
    examples: BTreeMap<u64, (Case, Divergence)>,
}

#[derive(Default)]
struct Summary {
    accepted: u64,
    rejected: u64,
    /// Instructions that the kernel processed in accepted programs.
    processed: u64,
    equal: u64,
    slow: u64,
    not_emulated: BTreeMap<String, u64>,
    buckets: BTreeMap<String, Bucket>,
    /// Last lines of rejected programs' logs.
    reasons: BTreeMap<String, u64>,
    /// Programs that asked for proofs.
    asking: u64,
    /// Requests by what became of them.
    requests: BTreeMap<char, u64>,
    /// Accepted programs that were run, by how it went; all, and those that asked for proofs.
    runs: BTreeMap<String, (u64, u64)>,
}

impl Summary {
    fn count_run(&mut self, answer: &runner::Answer) {
        let how = match &answer.ran {
            None => return,
            Some(Stop::Exit(_)) => "all runs returned".to_string(),
            Some(Stop::BadAccess(_)) => "a run made a bad access".to_string(),
            Some(stop) => stop.to_string(),
        };
        let proved = answer.conversation.as_ref().is_some_and(|conversation| !conversation.rounds.is_empty());
        let (count, with_proofs) = self.runs.entry(how).or_default();
        *count += 1;
        *with_proofs += u64::from(proved);
    }

    fn count_requests(&mut self, answer: &runner::Answer) {
        let Some(conversation) = &answer.conversation else { return };
        self.asking += u64::from(!conversation.rounds.is_empty());
        for round in &conversation.rounds {
            *self.requests.entry(round.answer).or_default() += 1;
        }
    }
}

fn main() -> ExitCode {
    let options = Options::parse();
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|place| format!("{}:{}", place.file(), place.line()));
        if !runner::VERIFYING.get() {
            eprintln!("{info}");
        }
        runner::PANIC_PLACE.with(|last| *last.borrow_mut() = place.unwrap_or_default());
    }));
    // SAFETY: the handler does nothing; without SA_RESTART it interrupts what waits.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = interrupted as *const () as usize;
        libc::sigaction(libc::SIGUSR1, &action, std::ptr::null_mut());
    }
    let world = match World::new() {
        Ok(world) => Arc::new(world),
        Err(message) => {
            eprintln!("diff-fuzz: {message}");
            return ExitCode::from(2);
        }
    };
    if options.bcf.is_some()
        && !options.is_ours_only()
        && !options.print
        && let Err(reason) = bpftwin::cli::host_has_bcf()
    {
        eprintln!("diff-fuzz: {reason}");
        return ExitCode::from(2);
    }
    if !options.replay.is_empty() {
        return replay(&options, &world);
    }
    let profiles = Profiles::new(&KernelConfig::of_host().unwrap_or_default());
    if options.print {
        for index in options.start..options.start + options.count {
            let case = generator::generate(&world, &profiles, options.seed, index, options.style());
            println!("program {index}\n{}", report::program(&case));
            store(&options, index, &case.store());
        }
        return ExitCode::SUCCESS;
    }
    let summary = Mutex::new(Summary::default());
    let next = AtomicU64::new(0);
    let done = AtomicU64::new(0);
    let started = Instant::now();
    let client = options.client();
    let running: Vec<Mutex<Option<Job>>> = (0..options.jobs).map(|_| Mutex::new(None)).collect();
    std::thread::scope(|scope| {
        for job in 0..options.jobs {
            let (world, profiles, options, summary) = (&world, &profiles, &options, &summary);
            let (next, done, running, client) = (&next, &done, &running, &client);
            std::thread::Builder::new()
                .stack_size(64 << 20)
                .spawn_scoped(scope, move || {
                    let mut runner = options.runner(world, client.clone());
                    loop {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= options.count {
                            break;
                        }
                        let index = options.start + number;
                        *lock(&running[job]) = Some(Job {
                            index,
                            since: Instant::now(),
                            // SAFETY: it has no preconditions.
                            thread: unsafe { libc::pthread_self() },
                            // SAFETY: it has no preconditions.
                            tid: unsafe { libc::gettid() },
                            give_up: Arc::clone(&runner.give_up),
                        });
                        work(&mut runner, profiles, options, index, summary);
                        *lock(&running[job]) = None;
                        done.fetch_add(1, Ordering::Relaxed);
                    }
                })
                .expect("a thread can be made");
        }
        watch(&options, &done, &running, started);
    });
    let summary = summary.into_inner().unwrap_or_else(PoisonError::into_inner);
    finish(&options, &world, summary, started)
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Shows progress, and ends the process where a program hangs.
fn watch(options: &Options, done: &AtomicU64, running: &[Mutex<Option<Job>>], started: Instant) {
    use std::io::IsTerminal;
    let bar = std::io::stderr().is_terminal().then(|| indicatif::ProgressBar::new(options.count));
    let mut reported = started;
    while done.load(Ordering::Relaxed) < options.count {
        std::thread::sleep(Duration::from_millis(100));
        for job in running {
            // The worker does not end while its entry is held.
            let job = lock(job);
            let Some(job) = &*job else { continue };
            // A kernel that follows a bad pointer ends the thread that asked.
            if !std::path::Path::new(&format!("/proc/self/task/{}", job.tid)).exists() {
                eprintln!("the kernel crashed on program {} of seed {}: see dmesg", job.index, options.seed);
                std::process::exit(4);
            }
            if job.since.elapsed() > HANG {
                eprintln!("program {} of seed {} hangs", job.index, options.seed);
                std::process::exit(3);
            }
            if job.since.elapsed() > SLOW {
                job.give_up.store(true, Ordering::Relaxed);
                // SAFETY: the thread lives, and the signal has a handler.
                unsafe { libc::pthread_kill(job.thread, libc::SIGUSR1) };
            }
        }
        match &bar {
            Some(bar) => bar.set_position(done.load(Ordering::Relaxed)),
            None if reported.elapsed() > Duration::from_secs(60) => {
                reported = Instant::now();
                eprintln!("{} of {} programs", done.load(Ordering::Relaxed), options.count);
            }
            None => {}
        }
    }
    if let Some(bar) = bar {
        bar.finish_and_clear();
    }
}

fn work(runner: &mut Runner, profiles: &Profiles, options: &Options, index: u64, summary: &Mutex<Summary>) {
    let world = Arc::clone(&runner.world);
    let case = generator::generate(&world, profiles, options.seed, index, options.style());
    let (kernel, verdict) = options.judge(runner, &case);
    let mut summary = lock(summary);
    summary.count_requests(&kernel);
    summary.count_run(&kernel);
    if kernel.errno == 0 {
        summary.accepted += 1;
        summary.processed += report::processed(&kernel);
    } else {
        summary.rejected += 1;
        if options.lines {
            for line in report::kinds_of_lines(&kernel) {
                *summary.reasons.entry(line).or_default() += 1;
            }
        } else if options.kernel_only {
            *summary.reasons.entry(report::reason(&kernel)).or_default() += 1;
        }
    }
    match verdict {
        Verdict::Equal => summary.equal += 1,
        Verdict::Slow => summary.slow += 1,
        Verdict::NotEmulated(what) => *summary.not_emulated.entry(what).or_default() += 1,
        Verdict::Diverges(divergence) => {
            let bucket = summary.buckets.entry(divergence.bucket.clone()).or_default();
            bucket.count += 1;
            bucket.examples.insert(index, (case, *divergence));
            if bucket.examples.len() > options.examples {
                bucket.examples.pop_last();
            }
        }
    }
}

/// Minimises and prints what diverged, and the summary.
fn finish(options: &Options, world: &Arc<World>, summary: Summary, started: Instant) -> ExitCode {
    let mut buckets: Vec<_> = summary.buckets.into_iter().collect();
    buckets.sort_by_key(|(name, bucket)| (std::cmp::Reverse(bucket.count), name.clone()));
    let diverging: u64 = buckets.iter().map(|(_, bucket)| bucket.count).sum();
    let mut runner = options.runner(world, options.client());
    for (name, bucket) in buckets.iter().take(options.show) {
        println!("== {} times: {name}", bucket.count);
        for (index, (case, divergence)) in &bucket.examples {
            let mut last = divergence.clone();
            // Should the kernel not survive smaller ones.
            store(options, *index, &case.store());
            let small =
                minimize::minimize(case, &mut |candidate| match options.judge(&mut runner, candidate).1 {
                    Verdict::Diverges(found) if found.bucket == *name => {
                        last = *found;
                        true
                    }
                    _ => false,
                });
            let text = format!("{}\n{}", report::comment(&report::divergence(&last)), small.store());
            let path = store(options, *index, &text);
            println!("-- program {index}, stored in {}", path.display());
            println!("{}{}", report::program(&small), report::divergence(&last));
        }
    }
    if buckets.len() > options.show {
        println!("== and {} kinds more", buckets.len() - options.show);
        for (name, bucket) in buckets.iter().skip(options.show) {
            println!("{:6} {name}", bucket.count);
        }
    }
    let mut reasons: Vec<_> = summary.reasons.into_iter().collect();
    reasons.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (reason, count) in reasons.iter().take(options.show) {
        println!("{count:6} {reason}");
    }
    let not_emulated: u64 = summary.not_emulated.values().sum();
    let programs = summary.accepted + summary.rejected;
    println!(
        "{} programs in {:.1} s: {} accepted ({:.1} %, {} instructions processed), {} rejected; {} equal, {} too slow for the kernel, {not_emulated} not emulated, {diverging} diverge in {} ways",
        options.count,
        started.elapsed().as_secs_f64(),
        summary.accepted,
        summary.accepted as f64 * 100.0 / programs.max(1) as f64,
        summary.processed,
        summary.rejected,
        summary.equal,
        summary.slow,
        buckets.len(),
    );
    if options.bcf.is_some() {
        let answers = summary.requests.iter().map(|(answer, count)| format!("{count} {answer}"));
        println!(
            "{} programs asked for proofs, {} times: {}",
            summary.asking,
            summary.requests.values().sum::<u64>(),
            answers.collect::<Vec<_>>().join(", ")
        );
    }
    for (how, (count, proved)) in &summary.runs {
        println!("{count:6} accepted ({proved} with proofs) and run: {how}");
    }
    for (what, count) in &summary.not_emulated {
        println!("{count:6} not emulated: {what}");
    }
    if diverging == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Stores a program.
fn store(options: &Options, index: u64, text: &str) -> PathBuf {
    let path = options.out.join(format!("{}-{index}.case", options.seed));
    if let Err(error) = std::fs::create_dir_all(&options.out).and_then(|()| std::fs::write(&path, text)) {
        eprintln!("diff-fuzz: {}: {error}", path.display());
    }
    path
}

fn replay(options: &Options, world: &Arc<World>) -> ExitCode {
    let mut runner = options.runner(world, options.client());
    let mut status = ExitCode::SUCCESS;
    for path in &options.replay {
        let case = match std::fs::read_to_string(path) {
            Ok(text) => Case::parse(&text),
            Err(error) => {
                eprintln!("diff-fuzz: {}: {error}", path.display());
                return ExitCode::from(2);
            }
        };
        let Some(case) = case else {
            eprintln!("diff-fuzz: {}: not a stored program", path.display());
            return ExitCode::from(2);
        };
        let (kernel, verdict) = options.judge(&mut runner, &case);
        println!("{}: kernel: errno {}", path.display(), kernel.errno);
        match verdict {
            Verdict::Equal => println!("equal"),
            Verdict::Slow => println!("too slow"),
            Verdict::NotEmulated(what) => println!("not emulated: {what}"),
            Verdict::Diverges(found) => {
                status = ExitCode::FAILURE;
                println!("{}{}", report::program(&case), report::divergence(&found));
            }
        }
        if options.replay.len() == 1 {
            println!("---- kernel\n{}", kernel.log);
            if let runner::Ours::Answer(answer) = runner.ours_only(&case) {
                println!("---- ours\n{}", answer.log);
            }
        }
    }
    status
}
