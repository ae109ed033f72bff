//! Helpers that most program types share, and the types that have few of their own.

use bpftwin_uapi::HelperId::{self, *};

use crate::helpers::proto::ProgCtx;
use crate::helpers::protos::{base, hooks, skb, sock, storage, trace};
use crate::helpers::select::Proto;

/// What every program type may use, as far as its privileges go.
pub(super) fn bpf_base_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    unprivileged_func_proto(func_id)
        .or_else(|| prog.caps.bpf.then(|| cap_bpf_func_proto(func_id, prog)).flatten())
        .or_else(|| {
            (prog.caps.bpf && prog.caps.perfmon).then(|| cap_perfmon_func_proto(func_id, prog)).flatten()
        })
}

/// Helpers of everybody.
fn unprivileged_func_proto(func_id: HelperId) -> Proto {
    Some(match func_id {
        MapLookupElem => &base::MAP_LOOKUP_ELEM,
        MapUpdateElem => &base::MAP_UPDATE_ELEM,
        MapDeleteElem => &base::MAP_DELETE_ELEM,
        MapPushElem => &base::MAP_PUSH_ELEM,
        MapPopElem => &base::MAP_POP_ELEM,
        MapPeekElem => &base::MAP_PEEK_ELEM,
        MapLookupPercpuElem => &base::MAP_LOOKUP_PERCPU_ELEM,
        GetPrandomU32 => &base::GET_PRANDOM_U32,
        GetSmpProcessorId => &base::GET_RAW_SMP_PROCESSOR_ID,
        GetNumaNodeId => &base::GET_NUMA_NODE_ID,
        TailCall => &base::TAIL_CALL,
        KtimeGetNs => &base::KTIME_GET_NS,
        KtimeGetBootNs => &base::KTIME_GET_BOOT_NS,
        KtimeGetTaiNs => &base::KTIME_GET_TAI_NS,
        RingbufOutput => &base::RINGBUF_OUTPUT,
        RingbufReserve => &base::RINGBUF_RESERVE,
        RingbufSubmit => &base::RINGBUF_SUBMIT,
        RingbufDiscard => &base::RINGBUF_DISCARD,
        RingbufQuery => &base::RINGBUF_QUERY,
        Strncmp => &base::STRNCMP,
        Strtol => &base::STRTOL,
        Strtoul => &base::STRTOUL,
        GetCurrentPidTgid => &base::GET_CURRENT_PID_TGID,
        GetNsCurrentPidTgid => &base::GET_NS_CURRENT_PID_TGID,
        GetCurrentUidGid => &base::GET_CURRENT_UID_GID,
        _ => return None,
    })
}

/// Helpers that need `CAP_BPF`.
fn cap_bpf_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    let config = prog.config;
    Some(match func_id {
        SpinLock => &base::SPIN_LOCK,
        SpinUnlock => &base::SPIN_UNLOCK,
        Jiffies64 => &base::JIFFIES64,
        PerCpuPtr => &base::PER_CPU_PTR,
        ThisCpuPtr => &base::THIS_CPU_PTR,
        TimerInit => &base::TIMER_INIT,
        TimerSetCallback => &base::TIMER_SET_CALLBACK,
        TimerStart => &base::TIMER_START,
        TimerCancel => &base::TIMER_CANCEL,
        KptrXchg => &base::KPTR_XCHG,
        ForEachMapElem => &base::FOR_EACH_MAP_ELEM,
        Loop => &base::LOOP,
        UserRingbufDrain => &base::USER_RINGBUF_DRAIN,
        RingbufReserveDynptr => &base::RINGBUF_RESERVE_DYNPTR,
        RingbufSubmitDynptr => &base::RINGBUF_SUBMIT_DYNPTR,
        RingbufDiscardDynptr => &base::RINGBUF_DISCARD_DYNPTR,
        DynptrFromMem => &base::DYNPTR_FROM_MEM,
        DynptrRead => &base::DYNPTR_READ,
        DynptrWrite => &base::DYNPTR_WRITE,
        DynptrData => &base::DYNPTR_DATA,
        CgrpStorageGet if config.cgroups => &storage::CGRP_STORAGE_GET,
        CgrpStorageDelete if config.cgroups => &storage::CGRP_STORAGE_DELETE,
        GetCurrentCgroupId if config.cgroups => &base::GET_CURRENT_CGROUP_ID,
        GetCurrentAncestorCgroupId if config.cgroups => &base::GET_CURRENT_ANCESTOR_CGROUP_ID,
        CurrentTaskUnderCgroup if config.cgroups => &base::CURRENT_TASK_UNDER_CGROUP,
        GetCgroupClassid if config.cgroup_net_classid => &skb::GET_CGROUP_CLASSID_CURR,
        // Programs that could recur into themselves get variants that notice, under the same prototype.
        TaskStorageGet => &storage::TASK_STORAGE_GET,
        TaskStorageDelete => &storage::TASK_STORAGE_DELETE,
        _ => return None,
    })
}

/// Helpers that need `CAP_PERFMON` too.
fn cap_perfmon_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    let config = prog.config;
    Some(match func_id {
        GetCurrentComm => &base::GET_CURRENT_COMM,
        CopyFromUser => &base::COPY_FROM_USER,
        CopyFromUserTask => &base::COPY_FROM_USER_TASK,
        Snprintf => &base::SNPRINTF,
        FindVma => &base::FIND_VMA,
        // The others are part of the tracing subsystem.
        _ if !config.bpf_events => return None,
        TracePrintk => &trace::TRACE_PRINTK,
        GetCurrentTask => &trace::GET_CURRENT_TASK,
        GetCurrentTaskBtf => &trace::GET_CURRENT_TASK_BTF,
        ProbeReadUser => &trace::PROBE_READ_USER,
        ProbeReadUserStr => &trace::PROBE_READ_USER_STR,
        ProbeReadKernel if !config.lockdown_bpf_read_kernel => &trace::PROBE_READ_KERNEL,
        ProbeReadKernelStr if !config.lockdown_bpf_read_kernel => &trace::PROBE_READ_KERNEL_STR,
        SnprintfBtf => &trace::SNPRINTF_BTF,
        TaskPtRegs => &trace::TASK_PT_REGS,
        TraceVprintk => &trace::TRACE_VPRINTK,
        PerfEventReadValue => &trace::PERF_EVENT_READ_VALUE,
        PerfEventRead => &trace::PERF_EVENT_READ,
        SendSignal => &trace::SEND_SIGNAL,
        SendSignalThread => &trace::SEND_SIGNAL_THREAD,
        GetTaskStack if prog.sleepable => &trace::GET_TASK_STACK_SLEEPABLE,
        GetTaskStack => &trace::GET_TASK_STACK,
        GetBranchSnapshot => &trace::GET_BRANCH_SNAPSHOT,
        _ => return None,
    })
}

/// What the program types around sockets and packets share.
pub(super) fn bpf_sk_base_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    let proto = match func_id {
        SkcToTcp6Sock => &sock::SKC_TO_TCP6_SOCK,
        SkcToTcpSock => &sock::SKC_TO_TCP_SOCK,
        SkcToTcpTimewaitSock => &sock::SKC_TO_TCP_TIMEWAIT_SOCK,
        SkcToTcpRequestSock => &sock::SKC_TO_TCP_REQUEST_SOCK,
        SkcToUdp6Sock => &sock::SKC_TO_UDP6_SOCK,
        SkcToUnixSock => &sock::SKC_TO_UNIX_SOCK,
        SkcToMptcpSock => &sock::SKC_TO_MPTCP_SOCK,
        KtimeGetCoarseNs => return Some(&base::KTIME_GET_COARSE_NS),
        _ => return bpf_base_func_proto(func_id, prog),
    };
    prog.caps.perfmon.then_some(proto)
}

/// `BPF_PROG_TYPE_STRUCT_OPS`: only TCP congestion control adds to the base.
pub(super) fn struct_ops_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    match prog.struct_ops {
        "tcp_congestion_ops" => bpf_tcp_ca_get_func_proto(func_id, prog),
        _ => bpf_base_func_proto(func_id, prog),
    }
}

fn bpf_tcp_ca_get_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    // A congestion control that is retiring must not allocate any more.
    let retiring = prog.attach_func == "release";
    Some(match func_id {
        TcpSendAck => &hooks::TCP_SEND_ACK,
        SkStorageGet => &storage::SK_STORAGE_GET,
        SkStorageDelete => &storage::SK_STORAGE_DELETE,
        Setsockopt | Getsockopt if retiring => return None,
        Setsockopt => &sock::SK_SETSOCKOPT,
        Getsockopt => &sock::SK_GETSOCKOPT,
        KtimeGetCoarseNs => &base::KTIME_GET_COARSE_NS,
        _ => return bpf_base_func_proto(func_id, prog),
    })
}

/// `BPF_PROG_TYPE_LIRC_MODE2`: its own list alone.
pub(super) fn lirc_mode2_func_proto(func_id: HelperId, prog: &ProgCtx) -> Proto {
    Some(match func_id {
        RcRepeat => &hooks::RC_REPEAT,
        RcKeydown => &hooks::RC_KEYDOWN,
        RcPointerRel => &hooks::RC_POINTER_REL,
        MapLookupElem => &base::MAP_LOOKUP_ELEM,
        MapUpdateElem => &base::MAP_UPDATE_ELEM,
        MapDeleteElem => &base::MAP_DELETE_ELEM,
        MapPushElem => &base::MAP_PUSH_ELEM,
        MapPopElem => &base::MAP_POP_ELEM,
        MapPeekElem => &base::MAP_PEEK_ELEM,
        KtimeGetNs => &base::KTIME_GET_NS,
        KtimeGetBootNs => &base::KTIME_GET_BOOT_NS,
        TailCall => &base::TAIL_CALL,
        GetPrandomU32 => &base::GET_PRANDOM_U32,
        TracePrintk if prog.caps.perfmon && prog.config.bpf_events => &trace::TRACE_PRINTK,
        _ => return None,
    })
}
