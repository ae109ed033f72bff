//! The verifier under test.

use std::sync::Arc;

use bpftwin::kernel::config::KernelConfig;
use bpftwin::syscall::prog_load::{Loader, prepare};
use bpftwin::verifier::bpf_check;
use bpftwin::verifier::input::CheckInput;
use bpftwin::verifier::log::{LogSink, VecSink};
use bpftwin::verifier::prog::Objects;
use bpftwin_uapi::attr::ProgLoad;

use crate::kernel::World;
use crate::runner::{Answer, Ours};

/// Verifies a load here.
pub fn verify(attr: ProgLoad, objects: Arc<dyn Objects>, world: &World, config: &Arc<KernelConfig>) -> Ours {
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
                None => {
                    Ours::Answer(Answer { errno: refusal.errno.0, log: String::new(), log_true_size: None })
                }
            };
        }
    };
    let sink = VecSink::default();
    let outcome = bpf_check(CheckInput {
        prog,
        attr,
        objects,
        btf_vmlinux: world.vmlinux.clone(),
        log_sink: (attr.log_buf != 0).then(|| Box::new(sink.clone()) as Box<dyn LogSink>),
        bcf: None,
    });
    if let Some(what) = outcome.not_emulated {
        return Ours::NotEmulated(what);
    }
    Ours::Answer(Answer {
        errno: outcome.result.err().map_or(0, |errno| errno.0),
        log: sink.text(),
        log_true_size: outcome.log_true_size.filter(|&size| size != 0),
    })
}
