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

/// Bytes of the log's end that are kept.
const LOG_BYTES: usize = 1 << 16;
/// Bytes of the log's end in which the message of a rejection is.
const MESSAGE_BYTES: usize = 1 << 13;
/// Lines of a message.
const MESSAGE_LINES: usize = 4;
/// Paths to one instruction behind which no more are looked for if the whole program can be accepted.
pub const ENOUGH_PATHS: usize = 100;

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
    /// The end of the kernel's log, without the lines that asking for a proof adds.
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
    let (found, unfinished, outcome, mut accepted_with) =
        verify(bpf_check_bcf(input), &sink, limits, || again.accepted(limits));
    let btf_vmlinux = kernel.btf_vmlinux();
    let mut rejections = report::report(&found, &outcome, btf_vmlinux.as_deref(), &limits.prover);
    let log = own_lines(&sink.tail(LOG_BYTES));
    // What can be met on a whole path, nothing refutes that is said of a part of it.
    let is_met = found.iter().any(|found| matches!(found.answer, Some(Answer::Met(_))));
    let is_bug = rejections.iter().any(|rejection| matches!(rejection.finding, Finding::Bug { .. }));
    if accepted_with.is_none() && !found.is_empty() && !is_met && !is_bug {
        accepted_with = Some(again.accepted(limits));
    }
    let accepted_with = accepted_with.flatten();
    if accepted_with.is_some() {
        rejections.iter_mut().for_each(Rejection::accepted);
    }
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

/// What a verification with explanations comes to: the rejections, whether time was short, how it ended, and what `accepted` said
/// if it was asked.
type Verified = (Vec<Found>, bool, Outcome, Option<Option<usize>>);

/// Goes on from rejection to rejection as long as their conditions are refuted, and there is time. `accepted` tells, at some cost,
/// with how many proofs the program is accepted.
fn verify(mut step: Step, sink: &VecSink, limits: &Limits, accepted: impl Fn() -> Option<usize>) -> Verified {
    let start = Instant::now();
    let mut found: Vec<Found> = Vec::new();
    let mut accepted_with = None;
    loop {
        let suspended = match step {
            Step::Requested(suspended) => suspended,
            Step::Done(outcome) => {
                if let (Err(errno), None) = (outcome.result, &outcome.not_emulated) {
                    let trail = outcome.trail.as_deref().cloned();
                    let message = message(&sink.tail(MESSAGE_BYTES));
                    found.push(Found { errno, message, trail, condition: None, answer: None, more_paths: 0 });
                }
                return (found, false, *outcome, accepted_with);
            }
        };
        let (errno, message) = (suspended.errno(), message(&sink.tail(MESSAGE_BYTES)));
        let trail = suspended.trail().cloned();
        let condition = Condition::new(suspended.request(), trail.as_ref());
        let answer = condition.as_ref().map(|condition| condition.answer(&limits.prover));
        let proof = match &answer {
            Some(Answer::Refuted(refuted)) => Some((refuted.target, refuted.proof.clone())),
            _ => None,
        };
        let new = Found { errno, message, trail, condition, answer, more_paths: 0 };
        let mut is_enough = false;
        match found.iter_mut().find(|known| known.is_like(&new)) {
            Some(known) => {
                known.more_paths += 1;
                if known.more_paths == ENOUGH_PATHS && accepted_with.is_none() {
                    accepted_with = Some(accepted());
                }
                is_enough = known.more_paths >= ENOUGH_PATHS && accepted_with.flatten().is_some();
            }
            None => found.push(new),
        }
        let is_proved = proof.is_some();
        step = match proof {
            Some((target, proof)) if !is_enough && start.elapsed() < limits.total => {
                suspended.resume(target, &proof, Policy::Strict)
            }
            _ => return (found, is_proved, *suspended.give_up(errno), accepted_with),
        };
    }
}

/// Lines that are there only because proofs are asked for.
fn is_bcf(line: &str) -> bool {
    line.starts_with("bcf requested, ") || line.starts_with("bcf proof checked ") || line.starts_with("BCF: ")
}

/// The message at the end of a log: the lines behind the last instruction or state.
fn message(log: &str) -> String {
    const STATISTICS: [&str; 3] = ["verification time ", "stack depth ", "processed "];
    // The states of a loop.
    const STATES: [&str; 2] = ["cur state:", "old state:"];
    let is_other = |line: &&str| {
        let starts = |starts: &[&str]| starts.iter().any(|start| line.starts_with(start));
        line.is_empty() || is_bcf(line) || starts(&STATISTICS) || starts(&STATES)
    };
    let lines = log.lines().rev().filter(|line| !is_other(line)).take_while(|line| !is_progress(line));
    // One message of the kernel has no end of line.
    let lines = lines.map(|line| line.split_once("processed ").map_or(line, |(own, _)| own));
    let mut lines: Vec<&str> = lines.take(MESSAGE_LINES).collect();
    lines.reverse();
    lines.join("\n")
}

/// Instructions, source lines and states.
fn is_progress(line: &str) -> bool {
    const STARTS: [&str; 8] =
        ["; ", " ", "from ", "caller:", "callee:", "returning from ", "to caller at ", "Validating "];
    let number = line.trim_start_matches(|c: char| c.is_ascii_digit());
    STARTS.iter().any(|start| line.starts_with(start))
        || line.starts_with("Func#")
        || number.len() < line.len() && number.starts_with(": ")
}

fn own_lines(log: &str) -> String {
    log.lines().filter(|line| !is_bcf(line)).fold(String::new(), |text, line| text + line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_the_lines_behind_the_last_instruction() {
        let log = "0: R1=ctx() R10=fp0\n; x = a[i]; @ p.c:3\n7: (79) r1 = *(u64 *)(r0 +0)\n\
                   invalid access to map value, value_size=8 off=8 size=8\n\
                   R0 max value is outside of the allowed memory range\n\
                   bcf requested, try to refine R0 access\nprocessed 8 insns (limit 1000000)\n";
        assert_eq!(
            message(log),
            "invalid access to map value, value_size=8 off=8 size=8\nR0 max value is outside of the allowed memory range"
        );
        let log = "from 3 to 2: R1=0 R10=fp0\n2: (05) goto pc-1\ninfinite loop detected at insn 2\n\
                   cur state: R1=0 R10=fp0\nold state: R1=P0 R10=fp0\n";
        assert_eq!(message(log), "infinite loop detected at insn 2");
        assert_eq!(message(""), "");
    }
}
