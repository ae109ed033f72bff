//! Why a program is rejected, and whether that is a bug of the program: `bpftwin explain`.
//!
//! The program is verified with a condition for each rejection that describes the whole path to it ([`Options::explain`]). A condition
//! that is refuted says that the verifier saw too little: the verification goes on, to the next rejection. One that is met gives values of
//! inputs; the program is run on them along the path ([`replay`]), and only if it comes to harm where it was rejected is it called a
//! bug. Everything else is unknown, with the reason. What to do comes from a table of known rejections ([`advice`]).

pub mod advice;
mod condition;
mod flow;
pub mod html;
pub mod model;
mod names;
mod replay;
mod report;
mod source;

use std::sync::Arc;
use std::time::{Duration, Instant};

use bpftwin_uapi::Errno;
use bpftwin_uapi::attr::{BPF_LOG_LEVEL1, ProgLoad};

use crate::bcf::checker::Policy;
use crate::bcf::prover;
use crate::btf::Btf;
use crate::kernel::Kernel;
use crate::kernel::settings::Diagnostics;
use crate::kernel::user_memory::UserMemory;
use crate::syscall::prog_load::{auto, check_input};
use crate::verifier::bcf::{Options, Step, Trail};
use crate::verifier::bpf_check_bcf;
use crate::verifier::input::{CheckInput, Outcome};
use crate::verifier::log::VecSink;
use crate::verifier::prog::{Objects, Prog};
use condition::{Answer, Condition};
use model::{Finding, Rejection};

/// How far an explanation goes.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For each condition.
    pub prover: prover::Limits,
    /// Time after which a program's next rejection is not looked for.
    pub total: Duration,
}

/// What is found of a program.
pub struct Explained {
    /// How the verification ended, with the proofs that were found for single paths.
    pub result: Result<(), Errno>,
    /// Proofs with which `BPFTWIN_BCF=auto` accepts the program, if it does.
    pub accepted_with: Option<usize>,
    pub not_emulated: Option<String>,
    pub rejections: Vec<Rejection>,
    /// Whatever comes behind the last rejection was not looked at.
    pub unfinished: bool,
    /// The kernel's log, without the lines that asking for a proof adds.
    pub log: String,
}

/// A rejection as the verification leaves it.
struct Found {
    errno: Errno,
    message: String,
    trail: Option<Trail>,
    condition: Option<Condition>,
    answer: Option<Answer>,
    /// Other paths to the same instruction, rejected with the same words, that were proved safe too.
    more_paths: usize,
}

impl Found {
    /// At the same instruction, with the same words, and proved safe as well.
    fn is_like(&self, other: &Found) -> bool {
        let last = |found: &Found| found.trail.as_ref().and_then(|trail| trail.insns.last().copied());
        let proved = |found: &Found| matches!(found.answer, Some(Answer::Refuted(_)));
        proved(self) && proved(other) && last(self) == last(other) && self.message == other.message
    }
}

/// Verifies the program that `attr` loads into `kernel`, and explains its rejections. `limits` say how long that may take.
pub fn explain(
    kernel: &Arc<Kernel>,
    memory: &Arc<dyn UserMemory + Send + Sync>,
    attr: &ProgLoad,
    limits: &Limits,
) -> Explained {
    let attr = ProgLoad { log_level: BPF_LOG_LEVEL1, ..*attr };
    let options = Options { auto: true, whole_path: true, explain: true };
    let sink = VecSink::default();
    let input = match check_input(kernel, memory, &attr, sink.clone(), Some(options)) {
        Ok(input) => input,
        Err(refusal) => {
            let not_emulated = refusal.not_emulated.map(Into::into);
            return Explained {
                result: Err(refusal.errno),
                accepted_with: None,
                not_emulated,
                rejections: Vec::new(),
                unfinished: false,
                log: String::new(),
            };
        }
    };
    let again = Again {
        prog: input.prog.clone(),
        objects: Arc::clone(&input.objects),
        attr,
        btf: input.btf_vmlinux.clone(),
    };
    let (found, unfinished, outcome) = verify(bpf_check_bcf(input), &sink, limits);
    let btf_vmlinux = kernel.btf_vmlinux();
    let rejections = report::report(&found, &outcome, btf_vmlinux.as_deref(), &limits.prover);
    let log = own_lines(&sink.text());
    let is_bug = rejections.iter().any(|rejection| matches!(rejection.finding, Finding::Bug { .. }));
    let accepted_with = if rejections.is_empty() || is_bug { None } else { again.accepted(limits) };
    let Outcome { result, not_emulated, .. } = outcome;
    Explained { result, accepted_with, not_emulated, rejections, unfinished, log }
}

/// What it takes to verify the program once more.
struct Again {
    prog: Prog,
    objects: Arc<dyn Objects>,
    attr: ProgLoad,
    btf: Option<Arc<Btf>>,
}

impl Again {
    /// Proofs with which the program is accepted as `BPFTWIN_BCF=auto` does it: sound for all paths.
    fn accepted(&self, limits: &Limits) -> Option<usize> {
        let auto =
            auto::Limits { condition: limits.prover.timeout, load: limits.total, ..auto::Limits::default() };
        let prover = auto::Prover::new(auto, auto::Conditions::Sound, false, Diagnostics::default());
        let (outcome, report) = prover.verify(&|bcf| CheckInput {
            prog: self.prog.clone(),
            attr: ProgLoad { log_level: 0, log_buf: 0, log_size: 0, ..self.attr },
            objects: Arc::clone(&self.objects),
            btf_vmlinux: self.btf.clone(),
            log_sink: None,
            bcf,
        });
        outcome.result.is_ok().then(|| report.proofs())
    }
}

/// Goes on from rejection to rejection as long as their conditions are refuted, and there is time. Gives whether time was short.
fn verify(mut step: Step, sink: &VecSink, limits: &Limits) -> (Vec<Found>, bool, Outcome) {
    let start = Instant::now();
    let mut found: Vec<Found> = Vec::new();
    loop {
        let suspended = match step {
            Step::Requested(suspended) => suspended,
            Step::Done(outcome) => {
                if let (Err(errno), None) = (outcome.result, &outcome.not_emulated) {
                    let trail = outcome.trail.as_deref().cloned();
                    let message = last_message(&sink.text());
                    found.push(Found { errno, message, trail, condition: None, answer: None, more_paths: 0 });
                }
                return (found, false, *outcome);
            }
        };
        let (errno, message) = (suspended.errno(), last_message(&sink.text()));
        let trail = suspended.trail().cloned();
        let condition = Condition::new(suspended.request(), trail.as_ref());
        let answer = condition.as_ref().map(|condition| condition.answer(&limits.prover));
        let proof = match &answer {
            Some(Answer::Refuted(refuted)) => Some((refuted.target, refuted.proof.clone())),
            _ => None,
        };
        let new = Found { errno, message, trail, condition, answer, more_paths: 0 };
        match found.iter_mut().find(|known| known.is_like(&new)) {
            Some(known) => known.more_paths += 1,
            None => found.push(new),
        }
        let is_proved = proof.is_some();
        step = match proof {
            Some((target, proof)) if start.elapsed() < limits.total => {
                suspended.resume(target, &proof, Policy::Strict)
            }
            _ => return (found, is_proved, *suspended.give_up(errno)),
        };
    }
}

fn is_message(line: &str) -> bool {
    const OTHERS: [&str; 3] = ["verification time ", "stack depth ", "processed "];
    !line.is_empty() && !is_bcf(line) && !OTHERS.iter().any(|start| line.starts_with(start))
}

/// Lines that are there only because proofs are asked for.
fn is_bcf(line: &str) -> bool {
    line.starts_with("bcf requested, ") || line.starts_with("bcf proof checked ") || line.starts_with("BCF: ")
}

fn last_message(log: &str) -> String {
    log.lines().rev().find(|line| is_message(line)).unwrap_or_default().to_owned()
}

fn own_lines(log: &str) -> String {
    log.lines().filter(|line| !is_bcf(line)).fold(String::new(), |text, line| text + line + "\n")
}
