//! What `bpf_check` is given: the program, and the objects that its instructions name by descriptor.

use std::sync::Arc;

use bpftwin_uapi::{Errno, Insn, MapType, ProgType};

use crate::btf::{Btf, BtfRecord};
use crate::kernel::config::KernelConfig;
use crate::progs::iter::CtxArg;

/// The program under verification: the parts of `struct bpf_prog` and `bpf_prog_aux` that matter.
#[derive(Clone)]
pub struct Prog {
    pub insns: Vec<Insn>,
    pub prog_type: ProgType,
    /// A number of `enum bpf_attach_type`; not checked for every program type.
    pub expected_attach_type: u32,
    pub gpl_compatible: bool,
    pub sleepable: bool,
    pub xdp_has_frags: bool,
    /// `prog->aux->dev_bound`: bound to a device by `BPF_F_XDP_DEV_BOUND_ONLY`.
    pub dev_bound: bool,
    /// `BPF_F_*` of `prog_flags`, as given.
    pub prog_flags: u32,
    /// Name as given, without trailing zeros.
    pub name: String,
    pub attach_btf_id: u32,
    /// BTF of the kernel or a module that `attach_btf_id` is of.
    pub attach_btf: Option<Arc<Btf>>,
    /// Prototype of the function that the program is attached to, in `attach_btf`, and its name. Set by verification.
    pub attach_func_proto: Option<u32>,
    pub attach_func_name: String,
    /// Attached to a tracepoint through its BTF: the prototype's first argument is not the program's.
    pub attach_btf_trace: bool,
    /// Pointers in the context that the iterator knows more of than the prototype: `ctx_arg_info`.
    pub ctx_args: &'static [CtxArg],
    /// Program that this one is attached to: `dst_prog`.
    pub dst_prog: Option<TargetProg>,
    /// Type of the program that an extension extends.
    pub saved_dst_prog_type: Option<ProgType>,
    pub btf: Option<Arc<Btf>>,
    /// Set by verification, asked for by later checks (`prog->aux->max_ctx_offset` and friends).
    pub max_ctx_offset: u32,
    pub max_pkt_offset: u32,
    pub max_tp_access: u32,
    pub max_rdonly_access: u32,
    pub max_rdwr_access: u32,
    pub cb_access: bool,
    pub dst_needed: bool,
    pub kprobe_override: bool,
    pub has_callchain_buf: bool,
    pub enforce_expected_attach_type: bool,
    pub tail_call_reachable: bool,
    /// The program knows of `__sk_buff::tstamp_type`, so that `tstamp` is not converted.
    pub tstamp_type_access: bool,
    /// The loader has `CAP_BPF`: `bpf_token_capable(prog->aux->token, CAP_BPF)`.
    pub bpf_capable: bool,
    /// The loader has `CAP_PERFMON`.
    pub perfmon_capable: bool,
    /// The loader has `CAP_SYS_ADMIN`.
    pub sys_admin_capable: bool,
    /// Of the kernel that it is loaded into.
    pub config: Arc<KernelConfig>,
    /// The main program, or what it calls, may change packet data or sleep.
    pub changes_pkt_data: bool,
    pub might_sleep: bool,
    /// Compiled for and run by a network device: `bpf_prog_is_offloaded`.
    pub offloaded: bool,
    /// SHA-256 over the instructions, map descriptors blanked; the tag is its first eight bytes.
    pub digest: [u8; 32],
    /// Identities of the shared and the per-CPU cgroup storage that the program uses.
    pub cgroup_storage: [Option<u64>; 2],
}

impl Prog {
    /// A program of this type, with nothing else said about it.
    pub fn new(prog_type: ProgType, insns: Vec<Insn>) -> Self {
        Self {
            insns,
            prog_type,
            expected_attach_type: 0,
            gpl_compatible: false,
            sleepable: false,
            xdp_has_frags: false,
            dev_bound: false,
            prog_flags: 0,
            name: String::new(),
            attach_btf_id: 0,
            attach_btf: None,
            attach_func_proto: None,
            attach_func_name: String::new(),
            attach_btf_trace: false,
            ctx_args: &[],
            dst_prog: None,
            saved_dst_prog_type: None,
            btf: None,
            max_ctx_offset: 0,
            max_pkt_offset: 0,
            max_tp_access: 0,
            max_rdonly_access: 0,
            max_rdwr_access: 0,
            cb_access: false,
            dst_needed: false,
            kprobe_override: false,
            has_callchain_buf: false,
            enforce_expected_attach_type: false,
            tail_call_reachable: false,
            tstamp_type_access: false,
            bpf_capable: false,
            perfmon_capable: false,
            sys_admin_capable: false,
            config: Arc::default(),
            changes_pkt_data: false,
            might_sleep: false,
            offloaded: false,
            digest: [0; 32],
            cgroup_storage: [None; 2],
        }
    }
}

/// A map as the verifier sees it: the parts of `struct bpf_map` that bear on safety.
pub struct VerifierMap {
    /// Two views are of the same map exactly when their identities are equal.
    pub identity: u64,
    pub map_type: MapType,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub map_flags: u32,
    pub map_extra: u64,
    pub name: String,
    /// Special fields of the value: spin lock, timer, kptrs and so on.
    pub record: Option<Arc<BtfRecord>>,
    pub btf: Option<Arc<Btf>>,
    pub btf_value_type_id: u32,
    /// Template that all inner maps of a map of maps conform to: `inner_map_meta`.
    pub inner_map_meta: Option<Arc<VerifierMap>>,
    /// Bound to a network device.
    pub offloaded: bool,
    /// Digest of the only program that may use the map, where it is exclusive.
    pub excl_prog_sha: Option<[u8; 32]>,
    /// Access to the map's present contents and state.
    pub contents: Arc<dyn MapContents>,
}

/// The present state of a map.
pub trait MapContents: Send + Sync {
    /// `bpf_map_is_rdonly`'s dynamic half: frozen, and no writer left.
    fn frozen(&self) -> bool;

    /// Reads `buf.len()` bytes at byte `off` of an array map's value area: `map_direct_value_addr`. `EINVAL` outside
    /// of it, `ENOTSUPP` for maps without direct access.
    fn read_value(&self, off: u32, buf: &mut [u8]) -> Result<(), Errno>;
}

/// A loaded program that another one is attached to: what of it matters there.
#[derive(Clone)]
pub struct TargetProg {
    pub prog_type: ProgType,
    pub expected_attach_type: u32,
    pub dev_bound: bool,
    pub offloaded: bool,
    pub btf: Option<Arc<Btf>>,
}

/// The loading program's view of the kernel's objects.
pub trait Objects: Send + Sync {
    /// The map behind a descriptor: `EBADF` where there is none, `EINVAL` for one of another kind.
    fn map_by_fd(&self, fd: i32) -> Result<Arc<VerifierMap>, Errno>;

    /// The BTF object behind a descriptor: `EBADF` where there is none, `EINVAL` for one of another kind.
    fn btf_by_fd(&self, fd: i32) -> Result<Arc<Btf>, Errno>;

    /// The program behind a descriptor, which another is to be attached to: `EBADF` where there is none, `EINVAL` for
    /// an object of another kind.
    fn prog_by_fd(&self, fd: i32) -> Result<TargetProg, Errno>;

    /// The BPF token behind a descriptor: `EBADF` where there is none, `EINVAL` for an object of another kind,
    /// `EOPNOTSUPP` for a token, which is not emulated.
    fn token_by_fd(&self, fd: i32) -> Result<(), Errno> {
        match self.map_by_fd(fd) {
            Err(Errno::EBADF) => Err(Errno::EBADF),
            _ => Err(Errno::EINVAL),
        }
    }

    /// Copies in what the load's attributes point to (fd_array, func_info, line_info, core_relos).
    fn read_user(&self, address: u64, buf: &mut [u8]) -> Result<(), Errno>;
}
