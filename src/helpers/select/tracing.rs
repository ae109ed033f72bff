//! Helpers of the tracing program types, LSM and syscall programs.

use bpftwin_uapi::AttachType::*;
use bpftwin_uapi::HelperId::{self, *};

use super::base::bpf_base_func_proto;
use super::cgroup::cgroup_common_func_proto;
use crate::helpers::lsm_hooks::{is_locked_sockopt_hook, is_unlocked_sockopt_hook};
use crate::helpers::proto::ProgCtx;
use crate::helpers::protos::{base, hooks, skb, sock, storage, trace, xdp};
use crate::helpers::select::Proto;

/// What all tracing types share.
fn bpf_tracing_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    let config = prog.config;
    match func_id {
        GetSmpProcessorId => return Some(&base::GET_SMP_PROCESSOR_ID),
        ProbeRead | ProbeReadStr if config.arch_has_non_overlapping_address_space => {
            let proto =
                if func_id == ProbeRead { &trace::PROBE_READ_COMPAT } else { &trace::PROBE_READ_COMPAT_STR };
            return (!config.lockdown_bpf_read_kernel).then_some(proto);
        }
        GetFuncIp => return Some(&trace::GET_FUNC_IP_TRACING),
        _ => {}
    }
    bpf_base_func_proto(func_id, prog).or_else(|| {
        let may = func_id == ProbeWriteUser && prog.caps.sys_admin && !config.lockdown_bpf_write_user;
        may.then_some(&trace::PROBE_WRITE_USER)
    })
}

/// `BPF_PROG_TYPE_KPROBE`
pub(super) fn kprobe_prog_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    let kprobe_multi = prog.attaches_as(TraceKprobeMulti) || prog.attaches_as(TraceKprobeSession);
    let uprobe_multi = prog.attaches_as(TraceUprobeMulti) || prog.attaches_as(TraceUprobeSession);
    Some(match func_id {
        PerfEventOutput => &trace::PERF_EVENT_OUTPUT,
        GetStackid => &trace::GET_STACKID,
        GetStack if prog.sleepable => &trace::GET_STACK_SLEEPABLE,
        GetStack => &trace::GET_STACK,
        OverrideReturn if prog.config.bpf_kprobe_override => &trace::OVERRIDE_RETURN,
        GetFuncIp if kprobe_multi => &trace::GET_FUNC_IP_KPROBE_MULTI,
        GetFuncIp if uprobe_multi => &trace::GET_FUNC_IP_UPROBE_MULTI,
        GetFuncIp => &trace::GET_FUNC_IP_KPROBE,
        GetAttachCookie if kprobe_multi => &trace::GET_ATTACH_COOKIE_KMULTI,
        GetAttachCookie if uprobe_multi => &trace::GET_ATTACH_COOKIE_UMULTI,
        GetAttachCookie => &trace::GET_ATTACH_COOKIE_TRACE,
        _ => return bpf_tracing_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_TRACEPOINT`
pub(super) fn tp_prog_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    Some(match func_id {
        PerfEventOutput => &trace::PERF_EVENT_OUTPUT_TP,
        GetStackid => &trace::GET_STACKID_TP,
        GetStack => &trace::GET_STACK_TP,
        GetAttachCookie => &trace::GET_ATTACH_COOKIE_TRACE,
        _ => return bpf_tracing_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_PERF_EVENT`
pub(super) fn pe_prog_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    Some(match func_id {
        PerfEventOutput => &trace::PERF_EVENT_OUTPUT_TP,
        GetStackid => &trace::GET_STACKID_PE,
        GetStack => &trace::GET_STACK_PE,
        PerfProgReadValue => &trace::PERF_PROG_READ_VALUE,
        ReadBranchRecords => &trace::READ_BRANCH_RECORDS,
        GetAttachCookie => &trace::GET_ATTACH_COOKIE_PE,
        _ => return bpf_tracing_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_RAW_TRACEPOINT` and its writable variant
pub(super) fn raw_tp_prog_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    Some(match func_id {
        PerfEventOutput => &trace::PERF_EVENT_OUTPUT_RAW_TP,
        GetStackid => &trace::GET_STACKID_RAW_TP,
        GetStack => &trace::GET_STACK_RAW_TP,
        GetAttachCookie => &trace::GET_ATTACH_COOKIE_TRACING,
        _ => return bpf_tracing_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_TRACING`
pub(super) fn tracing_prog_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    if !prog.config.bpf_events {
        return bpf_base_func_proto(func_id, prog);
    }
    let iter = prog.attaches_as(TraceIter);
    Some(match func_id {
        SkbOutput => &skb::SKB_OUTPUT,
        XdpOutput => &xdp::XDP_OUTPUT,
        SkcToTcp6Sock => &sock::SKC_TO_TCP6_SOCK,
        SkcToTcpSock => &sock::SKC_TO_TCP_SOCK,
        SkcToTcpTimewaitSock => &sock::SKC_TO_TCP_TIMEWAIT_SOCK,
        SkcToTcpRequestSock => &sock::SKC_TO_TCP_REQUEST_SOCK,
        SkcToUdp6Sock => &sock::SKC_TO_UDP6_SOCK,
        SkcToUnixSock => &sock::SKC_TO_UNIX_SOCK,
        SkcToMptcpSock => &sock::SKC_TO_MPTCP_SOCK,
        SkStorageGet => &storage::SK_STORAGE_GET_TRACING,
        SkStorageDelete => &storage::SK_STORAGE_DELETE_TRACING,
        SockFromFile => &sock::SOCK_FROM_FILE,
        GetSocketCookie => &sock::GET_SOCKET_PTR_COOKIE,
        XdpGetBuffLen => &xdp::XDP_GET_BUFF_LEN_TRACE,
        SeqPrintf | SeqWrite | SeqPrintfBtf if !iter => return None,
        SeqPrintf => &trace::SEQ_PRINTF,
        SeqWrite => &trace::SEQ_WRITE,
        SeqPrintfBtf => &trace::SEQ_PRINTF_BTF,
        DPath => &trace::D_PATH,
        GetFuncArg | GetFuncRet | GetFuncArgCnt if !prog.has_trampoline() => return None,
        GetFuncArg => &trace::GET_FUNC_ARG,
        GetFuncRet => &trace::GET_FUNC_RET,
        GetFuncArgCnt => &trace::GET_FUNC_ARG_CNT,
        GetAttachCookie => {
            let raw_tp = prog.prog_type == bpftwin_uapi::ProgType::Tracing && prog.attaches_as(TraceRawTp);
            return (raw_tp || prog.has_trampoline()).then_some(&trace::GET_ATTACH_COOKIE_TRACING);
        }
        _ => {
            return raw_tp_prog_func_proto(func_id, prog)
                .or_else(|| iter.then(|| bpf_iter_get_func_proto(func_id, prog)).flatten());
        }
    })
}

/// What particular iterators add.
fn bpf_iter_get_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    match (func_id, prog.attach_func) {
        (Setsockopt, "bpf_iter_tcp" | "bpf_iter_unix") => Some(&sock::SK_SETSOCKOPT),
        (Getsockopt, "bpf_iter_tcp" | "bpf_iter_unix") => Some(&sock::SK_GETSOCKOPT),
        _ => None,
    }
}

/// `BPF_PROG_TYPE_LSM`
pub(super) fn bpf_lsm_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    let cgroup = prog.attaches_as(LsmCgroup);
    if cgroup && let Some(proto) = cgroup_common_func_proto(func_id, prog) {
        return Some(proto);
    }
    Some(match func_id {
        InodeStorageGet => &storage::INODE_STORAGE_GET,
        InodeStorageDelete => &storage::INODE_STORAGE_DELETE,
        SkStorageGet => &storage::SK_STORAGE_GET,
        SkStorageDelete => &storage::SK_STORAGE_DELETE,
        SpinLock => &base::SPIN_LOCK,
        SpinUnlock => &base::SPIN_UNLOCK,
        BprmOptsSet => &hooks::BPRM_OPTS_SET,
        ImaInodeHash => &hooks::IMA_INODE_HASH,
        ImaFileHash => &hooks::IMA_FILE_HASH,
        GetAttachCookie => return prog.has_trampoline().then_some(&hooks::GET_ATTACH_COOKIE),
        Setsockopt | Getsockopt if !cgroup => return None,
        Setsockopt if is_locked_sockopt_hook(prog.attach_func) => &sock::SK_SETSOCKOPT,
        Setsockopt if is_unlocked_sockopt_hook(prog.attach_func) => &sock::UNLOCKED_SK_SETSOCKOPT,
        Getsockopt if is_locked_sockopt_hook(prog.attach_func) => &sock::SK_GETSOCKOPT,
        Getsockopt if is_unlocked_sockopt_hook(prog.attach_func) => &sock::UNLOCKED_SK_GETSOCKOPT,
        Setsockopt | Getsockopt => return None,
        _ => return tracing_prog_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_SYSCALL`
pub(super) fn syscall_prog_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    Some(match func_id {
        SysBpf => return prog.caps.perfmon.then_some(&base::SYS_BPF),
        BtfFindByNameKind => &base::BTF_FIND_BY_NAME_KIND,
        SysClose => &base::SYS_CLOSE,
        KallsymsLookupName => &base::KALLSYMS_LOOKUP_NAME,
        _ => return tracing_prog_func_proto(func_id, prog),
    })
}
