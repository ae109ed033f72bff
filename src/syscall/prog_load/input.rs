//! A program load on an emulated kernel up to its verification, for those who verify the program themselves.

use std::sync::Arc;

use bpftwin_uapi::attr::ProgLoad;

use super::{Loader, Refusal, prepare};
use crate::kernel::caps::CapSet;
use crate::kernel::user_memory::UserMemory;
use crate::kernel::{Kernel, KernelObjects};
use crate::verifier::bcf;
use crate::verifier::input::CheckInput;
use crate::verifier::log::VecSink;
use crate::verifier::prog::Objects;

impl Loader {
    /// A caller with `caps` who loads on `kernel`. With `attaches`, the program names a function of the kernel by its BTF.
    pub fn on(kernel: &Kernel, caps: CapSet, objects: Arc<dyn Objects>, attaches: bool) -> Loader {
        Loader {
            cap_bpf: caps.bpf(),
            cap_perfmon: caps.perfmon(),
            cap_net_admin: caps.net_admin(),
            cap_sys_admin: caps.sys_admin(),
            unprivileged_bpf_disabled: kernel.unprivileged_bpf_disabled() != 0,
            objects,
            btf_vmlinux: if attaches { kernel.needed_btf_vmlinux() } else { kernel.btf_vmlinux() },
            config: Arc::new(kernel.profile().config.clone()),
        }
    }
}

/// What `bpf_check` is given for the load `attr` of a caller with this memory. The log goes to `log`, whatever the caller's own is.
///
/// # Errors
/// Where the load does not get to verification.
pub fn check_input(
    kernel: &Arc<Kernel>,
    memory: &Arc<dyn UserMemory + Send + Sync>,
    attr: &ProgLoad,
    log: VecSink,
    bcf: Option<bcf::Options>,
) -> Result<CheckInput, Refusal> {
    let objects: Arc<dyn Objects> = Arc::new(KernelObjects::new(kernel, Arc::clone(memory)));
    let loader = Loader::on(kernel, kernel.caps(), Arc::clone(&objects), attr.attach_btf_id != 0);
    let prog = prepare(attr, &loader)?;
    // Any address but null: the sink is ours.
    let attr = ProgLoad { log_buf: 1, log_size: u32::MAX >> 2, ..*attr };
    let btf_vmlinux = loader.btf_vmlinux;
    Ok(CheckInput { prog, attr, objects, btf_vmlinux, log_sink: Some(Box::new(log)), bcf })
}
