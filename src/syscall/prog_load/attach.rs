//! What the program type demands of the other attributes and of the caller (`kernel/bpf/syscall.c`).

use bpftwin_uapi::AttachType::{self, *};
use bpftwin_uapi::{Errno, ProgType};

/// Largest type id: `BTF_MAX_TYPE`.
const BTF_MAX_TYPE: u32 = 0x000f_ffff;

/// `bpf_prog_load_fixup_attach_type`: the types that got attach types later have a default.
pub fn fixup_attach_type(prog_type: Option<ProgType>, expected_attach_type: u32) -> u32 {
    match (prog_type, expected_attach_type) {
        (Some(ProgType::CgroupSock), 0) => CgroupInetSockCreate as u32,
        (Some(ProgType::SkReuseport), 0) => SkReuseportSelect as u32,
        (_, given) => given,
    }
}

/// What a load names to attach to.
#[derive(Clone, Copy, Default)]
pub struct AttachTarget {
    /// `attach_btf_id`
    pub btf_id: u32,
    /// A BTF object of the kernel was named, or follows from `btf_id`.
    pub has_btf: bool,
    /// A program was named.
    pub has_prog: bool,
}

/// `bpf_prog_load_check_attach`
pub fn check_attach(
    prog_type: Option<ProgType>,
    attach_type: u32,
    target: AttachTarget,
) -> Result<(), Errno> {
    use ProgType::{Ext, Lsm, StructOps, Tracing};
    let btf_id_valid = target.btf_id == 0
        || target.btf_id <= BTF_MAX_TYPE
            && (target.has_btf || target.has_prog)
            && matches!(prog_type, Some(Tracing | Lsm | StructOps | Ext));
    let btf_valid = !target.has_btf || target.btf_id != 0 && !target.has_prog;
    let prog_valid = !target.has_prog || matches!(prog_type, Some(Tracing | Ext));
    if btf_id_valid && btf_valid && prog_valid && attach_type_valid(prog_type, attach_type) {
        Ok(())
    } else {
        Err(Errno::EINVAL)
    }
}

/// Whether the program type knows the attach type; many types do not look at it.
fn attach_type_valid(prog_type: Option<ProgType>, attach_type: u32) -> bool {
    let Some(prog_type) = prog_type else {
        return true;
    };
    let valid: &[AttachType] = match prog_type {
        ProgType::CgroupSock => {
            &[CgroupInetSockCreate, CgroupInetSockRelease, CgroupInet4PostBind, CgroupInet6PostBind]
        }
        ProgType::CgroupSockAddr => &[
            CgroupInet4Bind,
            CgroupInet6Bind,
            CgroupInet4Connect,
            CgroupInet6Connect,
            CgroupUnixConnect,
            CgroupInet4Getpeername,
            CgroupInet6Getpeername,
            CgroupUnixGetpeername,
            CgroupInet4Getsockname,
            CgroupInet6Getsockname,
            CgroupUnixGetsockname,
            CgroupUdp4Sendmsg,
            CgroupUdp6Sendmsg,
            CgroupUnixSendmsg,
            CgroupUdp4Recvmsg,
            CgroupUdp6Recvmsg,
            CgroupUnixRecvmsg,
        ],
        ProgType::CgroupSkb => &[CgroupInetIngress, CgroupInetEgress],
        ProgType::CgroupSockopt => &[CgroupSetsockopt, CgroupGetsockopt],
        ProgType::SkLookup => &[SkLookup],
        ProgType::SkReuseport => &[SkReuseportSelect, SkReuseportSelectOrMigrate],
        ProgType::Netfilter => &[Netfilter],
        ProgType::Syscall | ProgType::Ext => return attach_type == 0,
        _ => return true,
    };
    valid.iter().any(|&known| known as u32 == attach_type)
}

/// Types that need `CAP_NET_ADMIN`.
pub const fn is_net_admin_prog_type(prog_type: ProgType) -> bool {
    use ProgType::*;
    matches!(
        prog_type,
        SchedCls
            | SchedAct
            | Xdp
            | LwtIn
            | LwtOut
            | LwtXmit
            | LwtSeg6local
            | SkSkb
            | SkMsg
            | FlowDissector
            | CgroupDevice
            | CgroupSock
            | CgroupSockAddr
            | CgroupSockopt
            | CgroupSysctl
            | SockOps
            | Ext
            | Netfilter
    )
}

/// Types that need `CAP_PERFMON`.
pub const fn is_perfmon_prog_type(prog_type: ProgType) -> bool {
    use ProgType::*;
    matches!(
        prog_type,
        Kprobe
            | Tracepoint
            | PerfEvent
            | RawTracepoint
            | RawTracepointWritable
            | Tracing
            | Lsm
            | StructOps
            | Ext
    )
}
