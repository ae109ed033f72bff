//! Rules that the kernel's verifier keeps as switches over program types (`kernel/bpf/verifier.c`).

use bpftwin_uapi::AttachType::{self, *};
use bpftwin_uapi::ProgType;

use super::{AccessType, Write};
use crate::verifier::prog::Prog;

/// Type whose rules apply: an extension's is its target's.
#[inline]
pub fn resolve_prog_type(prog: &Prog) -> ProgType {
    match prog.saved_dst_prog_type {
        Some(target) if prog.prog_type == ProgType::Ext => target,
        _ => prog.prog_type,
    }
}

/// Whether `BPF_LD_ABS` and `BPF_LD_IND` may be used.
pub const fn may_access_skb(prog_type: ProgType) -> bool {
    matches!(prog_type, ProgType::SocketFilter | ProgType::SchedCls | ProgType::SchedAct)
}

/// Answer of [`may_access_direct_pkt_data`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct DirectAccess {
    pub allowed: bool,
    /// The caller sets `env->seen_direct_write`.
    pub direct_write: bool,
}

/// Whether packet data may be accessed through pointers. `helper_pkt_access` is, for an argument of a helper,
/// `Some` of the prototype's `pkt_access`.
pub fn may_access_direct_pkt_data(
    prog_type: ProgType,
    helper_pkt_access: Option<bool>,
    access: AccessType,
) -> DirectAccess {
    const NO: DirectAccess = DirectAccess { allowed: false, direct_write: false };
    match prog_type {
        ProgType::LwtIn
        | ProgType::LwtOut
        | ProgType::LwtSeg6local
        | ProgType::SkReuseport
        | ProgType::FlowDissector
        | ProgType::CgroupSkb
            if access == Write =>
        {
            NO
        }
        ProgType::LwtIn
        | ProgType::LwtOut
        | ProgType::LwtSeg6local
        | ProgType::SkReuseport
        | ProgType::FlowDissector
        | ProgType::CgroupSkb
        | ProgType::SchedCls
        | ProgType::SchedAct
        | ProgType::Xdp
        | ProgType::LwtXmit
        | ProgType::SkSkb
        | ProgType::SkMsg => match helper_pkt_access {
            Some(allowed) => DirectAccess { allowed, direct_write: false },
            // Reads count as well: the kernel sets the flag for every access of these types.
            None => DirectAccess { allowed: true, direct_write: true },
        },
        ProgType::CgroupSockopt => DirectAccess { allowed: true, direct_write: access == Write },
        _ => NO,
    }
}

/// Program types whose programs run in tracing contexts, where locks and timers are out of bounds.
pub const fn is_tracing_prog_type(prog_type: ProgType) -> bool {
    matches!(
        prog_type,
        ProgType::Kprobe
            | ProgType::Tracepoint
            | ProgType::PerfEvent
            | ProgType::RawTracepoint
            | ProgType::RawTracepointWritable
    )
}

/// Whether `BPF_F_SLEEPABLE` fits the program's type.
pub fn can_be_sleepable(prog: &Prog) -> bool {
    match prog.prog_type {
        ProgType::Tracing => matches!(
            AttachType::from_u32(prog.expected_attach_type),
            Some(TraceFentry | TraceFexit | ModifyReturn | TraceIter)
        ),
        ProgType::Lsm | ProgType::Kprobe | ProgType::StructOps => true,
        _ => false,
    }
}
