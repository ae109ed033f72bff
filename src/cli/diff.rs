//! `bpftwin diff`: the same programs through the emulated kernel and the one that runs here.

use std::process::ExitCode;
use std::sync::Arc;

use clap::Args;
use serde::Serialize;

use super::backend::Backend;
use super::load::{self, Answer, Request, Verdict};
use super::verify::{Job, jobs, object_name, type_name};
use super::{Selection, output, usage_error, work};
use crate::kernel::settings::Settings;
use crate::kernel::{Kernel, KernelSettings};
use crate::syscall::divergence::{self, Difference};

#[derive(Args)]
pub struct Diff {
    #[command(flatten)]
    selection: Selection,

    /// Log level at which the answers are compared.
    #[arg(long, value_name = "N", default_value_t = 2)]
    log_level: u32,

    /// Print a JSON object for each program, one a line.
    #[arg(long)]
    json: bool,

    /// Print the times of both kernels too.
    #[arg(long)]
    times: bool,
}

/// How a program's two answers compare.
#[derive(Serialize)]
struct Row {
    object: String,
    program: String,
    prog_type: String,
    /// `equal`, `diverges`, `not_emulated` or `error`.
    outcome: &'static str,
    verdict: &'static str,
    errno: i32,
    host_verdict: &'static str,
    host_errno: i32,
    duration_us: u64,
    host_duration_us: u64,
    insns: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    difference: Option<Difference>,
}

impl Diff {
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
        let bar = output::progress(jobs.len(), self.json);
        let rows = work::in_parallel(&jobs, self.selection.jobs, |job| {
            bar.set_message(job.info.name.clone());
            let row = self.compare(job, &settings);
            bar.inc(1);
            row
        });
        bar.finish_and_clear();
        self.print(&rows)
    }

    fn compare(&self, job: &Job, settings: &Settings) -> Row {
        let request = Request {
            path: &job.path,
            index: job.index,
            btf: settings.custom_btf(),
            default_type: self.selection.prog_type.map(|kind| kind.0),
            log_level: self.log_level,
            want_text: false,
        };
        // The host first: libbpf remembers for the whole process what a kernel can do.
        let host = load::load(request, &Backend::Host);
        let ours = load::load(
            request,
            &Backend::emulated(Arc::new(Kernel::new(KernelSettings {
                quiet: true,
                ..settings.kernel_settings()
            }))),
        );
        let mut row = Row {
            object: object_name(&job.path),
            program: job.info.name.clone(),
            prog_type: String::new(),
            outcome: "error",
            verdict: "error",
            errno: libc::EINVAL,
            host_verdict: "error",
            host_errno: libc::EINVAL,
            duration_us: 0,
            host_duration_us: 0,
            insns: 0,
            reason: None,
            difference: None,
        };
        match (ours, host) {
            (Ok(ours), Ok(host)) => row.fill(&ours, &host),
            (Err(error), _) | (_, Err(error)) => row.reason = Some(error.to_string()),
        }
        row
    }

    fn print(&self, rows: &[Row]) -> ExitCode {
        let count = |outcome: &str| rows.iter().filter(|row| row.outcome == outcome).count();
        let equal = count("equal");
        if self.json {
            for row in rows {
                if output::json_line(row).is_err() {
                    break;
                }
            }
        } else {
            for row in rows {
                row.print(self.times);
            }
            println!(
                "{} programs: {equal} equal, {} diverge, {} not emulated, {} not loaded",
                rows.len(),
                count("diverges"),
                count("not_emulated"),
                count("error"),
            );
        }
        ExitCode::from(u8::from(equal != rows.len()))
    }
}

impl Row {
    fn fill(&mut self, ours: &Answer, host: &Answer) {
        self.prog_type = type_name(host.prog_type);
        self.verdict = ours.verdict.name();
        self.errno = ours.verdict.errno();
        self.host_verdict = host.verdict.name();
        self.host_errno = host.verdict.errno();
        self.duration_us = ours.stats.map_or(0, |stats| stats.duration_us);
        self.host_duration_us = host.stats.map_or(0, |stats| stats.duration_us);
        self.insns = host.stats.map_or(0, |stats| stats.insns);
        self.reason = output::reason(&ours.verdict, None);
        self.outcome = match (&ours.verdict, &host.verdict) {
            (Verdict::NotEmulated(_), _) => "not_emulated",
            // libbpf gave up on both: there is no answer to compare.
            (Verdict::Error(_), Verdict::Error(_)) => "error",
            _ => {
                self.difference = divergence::first_difference(&ours.log, &host.log);
                // Measured times change the length by a few digits.
                let same_size = ours.log_true_size.abs_diff(host.log_true_size) <= 8;
                if ours.verdict.errno() == host.verdict.errno() && self.difference.is_none() && same_size {
                    "equal"
                } else {
                    "diverges"
                }
            }
        };
    }

    fn print(&self, times: bool) {
        match self.outcome {
            "diverges" => {
                println!("DIVERGES {} {} ({})", self.object, self.program, self.prog_type);
                if self.errno != self.host_errno {
                    println!(
                        "  verdict: ours {} ({}), host {} ({})",
                        self.verdict,
                        bpftwin_uapi::Errno(self.errno),
                        self.host_verdict,
                        bpftwin_uapi::Errno(self.host_errno)
                    );
                }
                if let Some(difference) = &self.difference {
                    print!("{difference}");
                }
                if let Some(reason) = &self.reason {
                    println!("  {reason}");
                }
            }
            "equal" => {}
            outcome => {
                let reason = self.reason.as_deref().unwrap_or("no reason given");
                println!("{} {} {}: {reason}", outcome.to_uppercase(), self.object, self.program);
            }
        }
        if times {
            println!(
                "  {} {}: {} ours, {} host, {} instructions",
                self.object,
                self.program,
                output::time(self.duration_us),
                output::time(self.host_duration_us),
                self.insns
            );
        }
    }
}
