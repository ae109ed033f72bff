//! Program types: what each may read and write of its context, may return and may be used for.
//!
//! One file per family of types. [`is_valid_access`] is the kernel's `bpf_verifier_ops::is_valid_access`; the rules
//! that the kernel keeps in its verifier as switches over program types are in [`rules`] and [`retval`].

pub mod ctx_type;
pub mod iter;
pub mod layout;
pub mod maps;
pub mod raw_tp_null_args;
pub mod retval;
pub mod rules;
pub mod tag;

mod cgroup;
mod netfilter;
mod sk;
mod skb;
mod sock;
mod sock_addr;
mod sock_ops;
mod trace;
mod xdp;

use bpftwin_uapi::{AttachType, ProgType};

use crate::verifier::prog::Prog;
use crate::verifier::reg_type::RegType;

pub use retval::{ReturnRange, return_range};
pub use rules::{
    can_be_sleepable, is_tracing_prog_type, may_access_direct_pkt_data, may_access_skb, resolve_prog_type,
};
pub use sock::{
    bpf_sock_common_is_valid_access, bpf_sock_is_valid_access, bpf_tcp_sock_is_valid_access,
    bpf_xdp_sock_is_valid_access,
};

pub use trace::bpf_tracing_ctx_access;

pub use crate::verifier::access::{AccessType, InsnAccessAux};

use AccessType::{Read, Write};

impl InsnAccessAux {
    /// A pointer field that is read whole.
    fn pointer(&mut self, reg_type: RegType, size: i32) -> bool {
        self.reg_type = reg_type;
        size == 8
    }

    /// A field of `field_size` bytes that may be accessed in part: `bpf_ctx_record_field_size` and
    /// `bpf_ctx_narrow_access_ok`.
    fn narrow(&mut self, size: i32, field_size: i32) -> bool {
        self.ctx_field_size = field_size;
        size <= field_size && size & (size - 1) == 0
    }
}

/// Whether `prog` may access `size` bytes at byte `off` of its context; what the access yields is left in `info`.
///
/// Remembers in `prog` what later steps ask for (`tstamp_type_access`). `size` is 1, 2, 4 or 8
/// for loads and stores. Program types that [`not_emulated`] names are refused.
pub fn is_valid_access(
    prog: &mut Prog,
    off: i32,
    size: i32,
    access: AccessType,
    info: &mut InsnAccessAux,
) -> bool {
    if size <= 0 {
        return false;
    }
    match prog.prog_type {
        ProgType::SocketFilter => skb::sk_filter_is_valid_access(off, size, access, info),
        ProgType::SchedCls | ProgType::SchedAct => {
            skb::tc_cls_act_is_valid_access(prog, off, size, access, info)
        }
        ProgType::CgroupSkb => skb::cg_skb_is_valid_access(prog, off, size, access, info),
        ProgType::LwtIn | ProgType::LwtOut | ProgType::LwtXmit | ProgType::LwtSeg6local => {
            skb::lwt_is_valid_access(off, size, access, info)
        }
        ProgType::SkSkb => skb::sk_skb_is_valid_access(off, size, access, info),
        ProgType::FlowDissector => skb::flow_dissector_is_valid_access(off, size, access, info),
        ProgType::Xdp => xdp::xdp_is_valid_access(prog, off, size, access, info),
        ProgType::CgroupSock => sock::sock_filter_is_valid_access(prog, off, size, access, info),
        ProgType::CgroupSockAddr => sock_addr::sock_addr_is_valid_access(prog, off, size, access, info),
        ProgType::SockOps => sock_ops::sock_ops_is_valid_access(off, size, access, info),
        ProgType::SkMsg => sk::sk_msg_is_valid_access(off, size, access, info),
        ProgType::SkReuseport => sk::sk_reuseport_is_valid_access(off, size, access, info),
        ProgType::SkLookup => sk::sk_lookup_is_valid_access(off, size, access, info),
        ProgType::CgroupDevice => cgroup::cgroup_dev_is_valid_access(off, size, access, info),
        ProgType::CgroupSysctl => cgroup::sysctl_is_valid_access(off, size, access, info),
        ProgType::CgroupSockopt => cgroup::cg_sockopt_is_valid_access(prog, off, size, access, info),
        ProgType::Kprobe => trace::kprobe_prog_is_valid_access(off, size, access),
        ProgType::Tracepoint => trace::tp_prog_is_valid_access(off, size, access),
        ProgType::RawTracepoint => bpf_tracing_ctx_access(off, size, access),
        ProgType::RawTracepointWritable => {
            trace::raw_tp_writable_prog_is_valid_access(off, size, access, info)
        }
        ProgType::PerfEvent => trace::pe_prog_is_valid_access(off, size, access, info),
        ProgType::LircMode2 => access == Read && off == 0 && size == 4,
        ProgType::Syscall => (0..i32::from(u16::MAX)).contains(&off) && off % size == 0,
        ProgType::Netfilter => netfilter::nf_is_valid_access(off, size, access, info),
        ProgType::Unspec | ProgType::Tracing | ProgType::StructOps | ProgType::Ext | ProgType::Lsm => false,
    }
}

/// Whether the kernel's configuration has this program type: `bpf_prog_types[type]` is not null.
pub const fn has_prog_type(prog_type: ProgType) -> bool {
    // CONFIG_BPF_LIRC_MODE2 is off in the configurations that the profiles stand for.
    !matches!(prog_type, ProgType::Unspec | ProgType::LircMode2)
}

/// What is missing for programs of this type, where they cannot be verified yet.
pub fn not_emulated(prog: &Prog) -> Option<&'static str> {
    match prog.prog_type {
        ProgType::Tracing => match AttachType::from_u32(prog.expected_attach_type) {
            Some(AttachType::TraceIter | AttachType::TraceRawTp) => None,
            _ => Some("tracing programs of functions"),
        },
        ProgType::Lsm => Some("LSM programs"),
        ProgType::Ext => Some("extension programs"),
        ProgType::StructOps => Some("struct_ops programs"),
        _ => None,
    }
}
