//! `bpftwin diff`: the same programs through the emulated kernel and the one that runs here.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::backend::Backend;
use super::load::{self, Answer, Request, Verdict};
use super::verify::{Job, jobs, object_name, type_name};
use super::{Selection, output, usage_error, work};
use crate::bcf::client::{Client, Conversation, Proofs};
use crate::bcf::{difference, prover};
use crate::kernel::profile::Bcf;
use crate::kernel::settings::Settings;
use crate::kernel::{Kernel, KernelSettings};
use crate::syscall::divergence::{self, Difference};

/// What `--bcf` is good for.
const AFTER_HELP: &str = "With --bcf, a kernel with the published patches and the emulated one (BPFTWIN_BCF=kernel) are loaded from by one
client, which proves what they ask for: each request is compared word by word, each error, how the load ends, and the log.
BPFTWIN_BCF_TIMEOUT, BPFTWIN_BCF_ROUNDS and BPFTWIN_BCF_MEMORY limit the client.

Exit status 0: no differences; 1: some, or programs that could not be compared; 2: usage, or the kernel that runs here cannot be
asked, or has no BCF.";

/// What answers the requests of both kernels.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Proofs, where there are any.
    Proved,
    /// A proof of anything, which the published checker believes: loads go on where conditions can be met.
    Claimed,
}

#[derive(Args)]
#[command(after_help = AFTER_HELP)]
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

    /// Compare what the two ask a client of BCF to prove. "claimed": answered with proofs of anything, so that loads go on where conditions
    /// can be met.
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "proved")]
    bcf: Option<Kind>,
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
    #[serde(flatten)]
    bcf: Option<BcfRow>,
}

/// How the requests compare.
#[derive(Serialize)]
struct BcfRow {
    bcf_requests: usize,
    /// A letter for each: `P` path condition proved, `R` refine condition proved, `N` both can be met, `U` unknown; `p` and `r` where
    /// that was claimed.
    bcf_answers: String,
    host_bcf_requests: usize,
    host_bcf_answers: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    bcf_difference: Option<difference::Difference>,
}

impl BcfRow {
    fn new(ours: &Conversation, host: &Conversation) -> Self {
        BcfRow {
            bcf_requests: ours.rounds.len(),
            bcf_answers: ours.answers(),
            host_bcf_requests: host.rounds.len(),
            host_bcf_answers: host.answers(),
            bcf_difference: difference::first_difference(ours, host),
        }
    }
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
        let client = self.bcf.map(|kind| Arc::new(client(kind, &settings)));
        if client.is_some() {
            if let Err(reason) = super::backend::host_has_bcf() {
                return usage_error(reason);
            }
            settings.bcf = Bcf::Kernel;
        }
        let bar = output::progress(jobs.len(), self.json);
        let rows = work::in_parallel(&jobs, self.selection.jobs, |job| {
            bar.set_message(job.info.name.clone());
            let row = self.compare(job, &settings, client.as_ref());
            bar.inc(1);
            row
        });
        bar.finish_and_clear();
        self.print(&rows)
    }

    fn compare(&self, job: &Job, settings: &Settings, client: Option<&Arc<Client>>) -> Row {
        let request = Request {
            path: &job.path,
            index: job.index,
            btf: settings.custom_btf(),
            default_type: self.selection.prog_type.map(|kind| kind.0),
            log_level: self.log_level,
            want_text: false,
            client,
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
            bcf: None,
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
            if self.bcf.is_some() {
                let counts: Vec<usize> =
                    rows.iter().filter_map(|row| Some(row.bcf.as_ref()?.host_bcf_requests)).collect();
                let asking = counts.iter().filter(|&&count| count > 0).count();
                println!("{asking} of them ask for proofs, {} times", counts.iter().sum::<usize>());
            }
        }
        ExitCode::from(u8::from(equal != rows.len()))
    }
}

/// Who answers both kernels' requests.
fn client(kind: Kind, settings: &Settings) -> Client {
    let limits = settings.bcf_limits;
    let search = prover::Limits { timeout: limits.condition, memory: limits.memory, effort: Duration::ZERO };
    let proofs = match kind {
        Kind::Proved => Proofs::Found,
        Kind::Claimed => Proofs::Claimed,
    };
    Client::new(search, limits.rounds, proofs)
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
                self.bcf = ours
                    .conversation
                    .as_ref()
                    .zip(host.conversation.as_ref())
                    .map(|(ours, host)| BcfRow::new(ours, host));
                let same_requests = self.bcf.as_ref().is_none_or(|bcf| bcf.bcf_difference.is_none());
                // Measured times, one for the verification and one for each proof, change the length by a few digits.
                let times = 1 + self.bcf.as_ref().map_or(0, |bcf| bcf.bcf_requests);
                let same_size = ours.log_true_size.abs_diff(host.log_true_size) as usize <= 8 * times;
                let same_errno = ours.verdict.errno() == host.verdict.errno();
                if same_errno && self.difference.is_none() && same_requests && same_size {
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
                if let Some(difference) = self.bcf.as_ref().and_then(|bcf| bcf.bcf_difference.as_ref()) {
                    print!("{difference}");
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
