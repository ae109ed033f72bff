//! `bpftwin bench`: verification times of the emulated kernel against those of the kernel that runs here, taken in
//! turns. Both are what the verifier itself reports.

use std::process::{Command, ExitCode};
use std::sync::Arc;

use clap::Args;

use super::backend::Backend;
use super::load::{self, Request, Stats, Verdict};
use super::verify::{Job, jobs, object_name};
use super::{Selection, output, usage_error};
use crate::kernel::settings::Settings;
use crate::kernel::{Kernel, KernelSettings};

/// Log levels that are timed: statistics alone, and every state with statistics.
const LEVELS: [u32; 2] = [4, 6];

#[derive(Args)]
pub struct Bench {
    #[command(flatten)]
    selection: Selection,

    /// Rounds; the best time of each kernel counts.
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: u32,

    /// Programs that take the kernel less than this are left out of the geometric mean: the clock is too coarse.
    #[arg(long, value_name = "MICROSECONDS", default_value_t = 20)]
    min: u64,
}

/// Best times of a program, in microseconds, by level.
struct Times {
    ours: [u64; LEVELS.len()],
    host: [u64; LEVELS.len()],
    insns: u64,
}

impl Bench {
    pub fn run(self) -> ExitCode {
        let mut settings = match Settings::from_env() {
            Ok(settings) => settings,
            Err(error) => return usage_error(error),
        };
        self.selection.apply(&mut settings);
        if let Some(reason) = super::backend::host_unusable() {
            return usage_error(format_args!("the kernel that runs here cannot be asked: {reason}"));
        }
        let jobs = match jobs(&self.selection, settings.custom_btf()) {
            Ok(jobs) => jobs,
            Err(error) => return usage_error(error),
        };
        let bar = output::progress(jobs.len(), false);
        let mut measured = Vec::new();
        for job in &jobs {
            bar.set_message(job.info.name.clone());
            if let Some(times) = self.measure(job, &settings) {
                measured.push((job, times));
            }
            bar.inc(1);
        }
        bar.finish_and_clear();
        self.print(&measured, jobs.len());
        ExitCode::SUCCESS
    }

    /// `None` where there is nothing to compare.
    fn measure(&self, job: &Job, settings: &Settings) -> Option<Times> {
        let mut times = Times { ours: [u64::MAX; 2], host: [u64::MAX; 2], insns: 0 };
        for _ in 0..self.rounds.max(1) {
            for (i, log_level) in LEVELS.into_iter().enumerate() {
                let request = Request {
                    path: &job.path,
                    index: job.index,
                    btf: settings.custom_btf(),
                    default_type: self.selection.prog_type.map(|kind| kind.0),
                    log_level,
                    want_text: false,
                    client: None,
                };
                let host = timed(request, &Backend::Host)?;
                let kernel = Kernel::new(KernelSettings { quiet: true, ..settings.kernel_settings() });
                let ours = timed(request, &Backend::emulated(Arc::new(kernel)))?;
                times.host[i] = times.host[i].min(host.duration_us);
                times.ours[i] = times.ours[i].min(ours.duration_us);
                times.insns = host.insns;
            }
        }
        Some(times)
    }

    fn print(&self, measured: &[(&Job, Times)], all: usize) {
        println!(
            "{:>9} {:>11} {:>11} {:>7} {:>11} {:>11} {:>7}  program",
            "insns", "ours, 0", "host, 0", "ratio", "ours, 2", "host, 2", "ratio"
        );
        for (job, times) in measured {
            let [ours, ours_2] = times.ours;
            let [host, host_2] = times.host;
            println!(
                "{:>9} {:>8} us {:>8} us {:>7.2} {:>8} us {:>8} us {:>7.2}  {} {}",
                times.insns,
                ours,
                host,
                ratio(ours, host),
                ours_2,
                host_2,
                ratio(ours_2, host_2),
                object_name(&job.path),
                job.info.name,
            );
        }
        println!("\n{} of {all} programs compared, best of {} rounds", measured.len(), self.rounds.max(1));
        for (i, level) in [0, 2].into_iter().enumerate() {
            let sum =
                |of: fn(&Times) -> [u64; 2]| measured.iter().map(|(_, times)| of(times)[i]).sum::<u64>();
            let (ours, host) = (sum(|times| times.ours), sum(|times| times.host));
            let long = measured.iter().filter(|(_, times)| times.host[i] >= self.min);
            let logs: Vec<f64> = long.map(|(_, times)| ratio(times.ours[i], times.host[i]).ln()).collect();
            let mean = (logs.iter().sum::<f64>() / logs.len().max(1) as f64).exp();
            println!(
                "log level {level}: sum {} ours, {} host, ratio {:.2}; geometric mean of {} ratios {mean:.2}",
                output::time(ours),
                output::time(host),
                ratio(ours, host),
                logs.len(),
            );
        }
        if let Some((job, times)) = measured.iter().max_by_key(|(_, times)| times.insns)
            && let Some(kib) = self.peak_memory(job)
        {
            println!(
                "peak memory of verifying {} {} ({} instructions): {} MiB",
                object_name(&job.path),
                job.info.name,
                times.insns,
                kib / 1024
            );
        }
    }

    /// Largest resident set, in KiB, of a process that verifies just this program.
    fn peak_memory(&self, job: &Job) -> Option<u64> {
        let mut command = Command::new(std::env::current_exe().ok()?);
        command
            .args(["verify", "--json", "--peak-memory", "--jobs", "1", "--prog", &job.info.name])
            .arg(&job.path);
        if let Some(kind) = self.selection.prog_type {
            command.args(["--prog-type", &super::object::short_prog_type(kind.0)]);
        }
        let output = command.output().ok()?;
        let last = String::from_utf8(output.stderr).ok()?;
        last.lines().last()?.strip_prefix("peak memory: ")?.strip_suffix(" KiB")?.parse().ok()
    }
}

fn timed(request: Request<'_>, backend: &Backend) -> Option<Stats> {
    let answer = load::load(request, backend).ok()?;
    match answer.verdict {
        Verdict::Accepted | Verdict::Rejected(_) => answer.stats,
        Verdict::NotEmulated(_) | Verdict::Error(_) => None,
    }
}

fn ratio(ours: u64, host: u64) -> f64 {
    ours.max(1) as f64 / host.max(1) as f64
}
