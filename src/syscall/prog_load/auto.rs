//! Programs that know nothing of BCF: what the verifier would reject is proved here and goes on, and the caller sees one load.
//!
//! A program that nothing can save gets the answer that it would have got without BCF, log and all: if any of its rejections had a consequence before, it is verified
//! again.

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bpftwin_uapi::Errno;

use crate::bcf::answers::{Answers, RequestAnswer};
use crate::bcf::checker::Policy;
use crate::bcf::prover;
use crate::kernel::settings::Diagnostics;
use crate::verifier::bcf::{Options, Step, Suspended, Target};
use crate::verifier::input::{CheckInput, Outcome, Stats};
use crate::verifier::{bpf_check, bpf_check_bcf};

/// How far a load goes for proofs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Limits {
    /// Time for one condition.
    pub condition: Duration,
    /// Time since the load's first condition after which no other is begun.
    pub load: Duration,
    /// Requests of one load.
    pub rounds: u32,
    /// Bytes for the search for one proof.
    pub memory: usize,
}

impl Default for Limits {
    /// What a build can wait for: proofs that exist are found within a tenth of a second, mostly; the longest known load makes 522
    /// requests; four searches at a time fit into about a GiB.
    fn default() -> Self {
        Limits {
            condition: Duration::from_secs(10),
            load: Duration::from_secs(60),
            rounds: 1000,
            memory: 256 << 20,
        }
    }
}

/// Which conditions are proved, and what is said where that fails.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Conditions {
    /// Sound ones. What is not proved is answered as without BCF.
    #[default]
    Sound,
    /// As published, and so are the answers.
    Published,
}

/// The answer to the last request of a load.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Last {
    /// There was no request.
    #[default]
    None,
    Proved,
    /// What would go wrong can be met.
    Refuted,
    Unknown,
}

impl Last {
    /// The word for it in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Last::None => "none",
            Last::Proved => "proved",
            Last::Refuted => "refuted",
            Last::Unknown => "unknown",
        }
    }
}

/// What BCF did in a load.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// A letter for each request: `P` the path condition was proved, `R` the refinement condition, `N` both have models, `U` unknown.
    pub answers: String,
    pub proof_bytes: u64,
    /// Time in the verifier, that for checking proofs aside.
    pub verifying: Duration,
    pub proving: Duration,
    pub checking: Duration,
    pub last: Last,
    /// Why the last answer is unknown.
    pub reason: Option<String>,
    /// The requests, where they are kept.
    pub requests: Vec<Vec<u32>>,
}

impl Report {
    /// Requests of the load.
    pub fn rounds(&self) -> usize {
        self.answers.len()
    }

    /// Requests that were proved.
    pub fn proofs(&self) -> usize {
        self.answers.bytes().filter(|answer| b"PR".contains(answer)).count()
    }

    fn add_times(&mut self, stats: &Stats) {
        self.verifying +=
            Duration::from_nanos(stats.verification_time.saturating_sub(stats.proof_check_time));
        self.checking += Duration::from_nanos(stats.proof_check_time);
    }

    fn count(&mut self, letter: char, last: Last, reason: Option<String>) {
        self.answers.push(letter);
        (self.last, self.reason) = (last, reason);
    }
}

/// Proves what the verifier asks for.
#[derive(Debug)]
pub struct Prover {
    limits: Limits,
    answers: Answers,
    conditions: Conditions,
    /// Requests are kept in the report.
    keep_requests: bool,
    diagnostics: Diagnostics,
}

/// A verification that ended, one way or the other.
struct Driven {
    outcome: Outcome,
    /// It was given up, since something was not proved.
    is_given_up: bool,
}

impl Prover {
    pub fn new(
        limits: Limits,
        conditions: Conditions,
        keep_requests: bool,
        diagnostics: Diagnostics,
    ) -> Self {
        let search =
            prover::Limits { timeout: limits.condition, memory: limits.memory, effort: Duration::ZERO };
        Prover { limits, answers: Answers::new(search), conditions, keep_requests, diagnostics }
    }

    /// Verifies a program with proofs where it takes them. `input` makes the verification's input, anew each time.
    pub fn verify(&self, input: &dyn Fn(Option<Options>) -> CheckInput) -> (Outcome, Report) {
        let mut report = Report::default();
        let is_sound = self.conditions == Conditions::Sound;
        let options = Options { auto: is_sound, ..Options::default() };
        let Driven { mut outcome, is_given_up } =
            self.drive(bpf_check_bcf(input(Some(options))), &mut report);
        report.add_times(&outcome.stats);
        // A program that is accepted with a log that does not fit is no rejection: its caller makes room.
        let stands = match outcome.result {
            Ok(()) => true,
            Err(errno) => errno == Errno::ENOSPC && !is_given_up,
        };
        if is_sound && !stands && outcome.bcf_engaged {
            outcome = bpf_check(input(None));
            report.add_times(&outcome.stats);
        }
        if report.rounds() > 0 {
            self.diagnostics.write(&tell(&outcome, &report));
        }
        (outcome, report)
    }

    fn drive(&self, mut step: Step, report: &mut Report) -> Driven {
        let mut deadline = None;
        loop {
            let suspended = match step {
                Step::Done(outcome) => return Driven { outcome: *outcome, is_given_up: false },
                Step::Requested(suspended) => suspended,
            };
            if self.keep_requests {
                report.requests.push(suspended.request().to_vec());
            }
            let start = Instant::now();
            let deadline = *deadline.get_or_insert_with(|| start + self.limits.load);
            let found = if report.rounds() >= self.limits.rounds as usize {
                report.count('U', Last::Unknown, Some("too many conditions".into()));
                None
            } else if start >= deadline {
                report.count('U', Last::Unknown, Some("the time for the load was up".into()));
                None
            } else {
                self.prove(&suspended, report)
            };
            report.proving += start.elapsed();
            match found {
                Some((target, proof)) => {
                    let proof: &[u8] = bytemuck::cast_slice(&proof);
                    report.proof_bytes += proof.len() as u64;
                    step = suspended.resume(target, proof, Policy::Strict);
                }
                None => {
                    let errno = suspended.errno();
                    return Driven { outcome: *suspended.give_up(errno), is_given_up: true };
                }
            }
        }
    }

    /// A proof of one of the conditions of a request.
    fn prove(&self, suspended: &Suspended, report: &mut Report) -> Option<(Target, Arc<[u32]>)> {
        let answer = self.answers.answer(suspended.request());
        let letter = answer.letter();
        match answer {
            RequestAnswer::Proved(target, proof) => {
                report.count(letter, Last::Proved, None);
                return Some((target, proof));
            }
            RequestAnswer::Refuted => report.count(letter, Last::Refuted, None),
            RequestAnswer::Unknown(reason) => report.count(letter, Last::Unknown, Some(reason)),
        }
        None
    }
}

/// A line about a load that took proofs, or would have.
fn tell(outcome: &Outcome, report: &Report) -> String {
    let mut line = format!("bpftwin: bcf: {} ", outcome.prog.name);
    let _ = match outcome.result {
        Ok(()) => write!(line, "accepted"),
        Err(errno) => write!(line, "rejected ({errno})"),
    };
    let _ = write!(
        line,
        ": {} of {} conditions proved, {} bytes of proofs, {} ms to prove, {} ms to check",
        report.proofs(),
        report.rounds(),
        report.proof_bytes,
        report.proving.as_millis(),
        report.checking.as_millis()
    );
    let _ = match (report.last, &report.reason) {
        (Last::Refuted, _) => write!(line, "; the last one can be met"),
        (Last::Unknown, Some(reason)) => write!(line, "; the last one is unknown: {reason}"),
        _ => Ok(()),
    };
    line.push('\n');
    line
}
