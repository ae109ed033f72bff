//! The verifier under test.

use std::sync::Arc;

use bpftwin::bcf::checker::Policy;
use bpftwin::bcf::client::{Client, Load, Reply};
use bpftwin::bcf::request::Target;
use bpftwin::exec::{Program, Search, Stop};
use bpftwin::kernel::config::KernelConfig;
use bpftwin::syscall::prog_load::{Loader, prepare};
use bpftwin::verifier::bcf::{Options, Step, Suspended};
use bpftwin::verifier::input::{CheckInput, Outcome};
use bpftwin::verifier::log::{LogSink, VecSink};
use bpftwin::verifier::prog::Objects;
use bpftwin::verifier::{bpf_check, bpf_check_bcf};
use bpftwin_uapi::Errno;
use bpftwin_uapi::attr::ProgLoad;

use crate::kernel::World;
use crate::runner::{Answer, Ours};

/// Instructions of a run at most.
const RUN_LIMIT: u64 = 20_000;

/// A load that goes on with proofs.
struct Steps {
    policy: Policy,
    input: Option<CheckInput>,
    suspended: Option<Suspended>,
    outcome: Option<Box<Outcome>>,
}

impl Steps {
    fn go_on(&mut self, step: Step) -> Reply {
        match step {
            Step::Done(outcome) => {
                let result = outcome.result.map(|()| 0);
                self.outcome = Some(outcome);
                Reply { result, request: None }
            }
            Step::Requested(suspended) => {
                let (errno, request) = (suspended.errno(), suspended.request().to_vec());
                self.suspended = Some(suspended);
                Reply { result: Err(errno), request: Some(request) }
            }
        }
    }
}

impl Load for Steps {
    fn start(&mut self) -> Reply {
        let Some(input) = self.input.take() else {
            return Reply { result: Err(Errno::EINVAL), request: None };
        };
        self.go_on(bpf_check_bcf(input))
    }

    fn resume(&mut self, target: Target, proof: &[u32]) -> Reply {
        let Some(suspended) = self.suspended.take() else {
            return Reply { result: Err(Errno::EINVAL), request: None };
        };
        self.go_on(suspended.resume(target, bytemuck::cast_slice(proof), self.policy))
    }
}

/// Verifies a load here. An accepted program is run on `runs` inputs; if these are any, a client's conditions and checker are those of
/// `BPFTWIN_BCF=auto`.
pub fn verify(
    attr: ProgLoad,
    objects: Arc<dyn Objects>,
    world: &World,
    config: &Arc<KernelConfig>,
    client: Option<&Client>,
    runs: u32,
) -> Ours {
    let loader = Loader {
        cap_bpf: true,
        cap_perfmon: true,
        cap_net_admin: true,
        cap_sys_admin: true,
        unprivileged_bpf_disabled: true,
        objects: Arc::clone(&objects),
        btf_vmlinux: world.vmlinux.clone(),
        config: Arc::clone(config),
    };
    let prog = match prepare(&attr, &loader) {
        Ok(prog) => prog,
        Err(refusal) => {
            return match refusal.not_emulated {
                Some(what) => Ours::NotEmulated(what.into()),
                None => Ours::Answer(Answer::refused(refusal.errno.0)),
            };
        }
    };
    let sink = VecSink::default();
    let input = CheckInput {
        prog,
        attr,
        objects,
        btf_vmlinux: world.vmlinux.clone(),
        log_sink: (attr.log_buf != 0).then(|| Box::new(sink.clone()) as Box<dyn LogSink>),
        bcf: client.map(|_| Options { auto: runs > 0, ..Options::default() }),
    };
    let Some(client) = client else {
        return answer(bpf_check(input), &sink, runs);
    };
    let policy = if runs > 0 { Policy::Strict } else { Policy::Reference };
    let mut steps = Steps { input: Some(input), suspended: None, outcome: None, policy };
    let conversation = client.run(&mut steps);
    let mut ours = match steps.outcome {
        Some(outcome) => answer(*outcome, &sink, runs),
        None => Ours::Answer(Answer { log: sink.text(), ..Answer::refused(conversation.errno()) }),
    };
    if let Ours::Answer(answer) = &mut ours {
        answer.conversation = Some(conversation);
    }
    ours
}

fn answer(outcome: Outcome, sink: &VecSink, runs: u32) -> Ours {
    let ran = if outcome.result.is_ok() { run(&outcome, runs) } else { None };
    if let Some(what) = outcome.not_emulated {
        return Ours::NotEmulated(what);
    }
    Ours::Answer(Answer {
        ran,
        log: sink.text(),
        log_true_size: outcome.log_true_size.filter(|&size| size != 0),
        ..Answer::refused(outcome.result.err().map_or(0, |errno| errno.0))
    })
}

/// Runs an accepted program. Gives the first run that did not return by itself, a bad access before any other.
fn run(outcome: &Outcome, runs: u32) -> Option<Stop> {
    let program = Program::new(outcome);
    let mut search = Search::new(&program, 1);
    let mut worst = None;
    for _ in 0..runs {
        match search.run(RUN_LIMIT).0 {
            bad @ Stop::BadAccess(_) => return Some(bad),
            stop @ (Stop::Limit | Stop::Unsupported(_)) => worst = Some(stop),
            stop => worst = worst.or(Some(stop)),
        }
    }
    worst
}
