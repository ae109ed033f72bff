//! Types of contexts: `BPF_PROG_TYPE` of `include/linux/bpf_types.h`, of which the kernel makes `struct
//! bpf_ctx_convert` in its BTF.

use bpftwin_uapi::ProgType::{self, *};

/// Types of the context of a program type.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct CtxType {
    /// Names of the type that programs declare: that of a typedef, then that of the type behind it. None for a plain
    /// pointer.
    pub prog: &'static [&'static str],
    /// Name of the kernel's own type. None for a plain pointer.
    pub kern: Option<&'static str>,
}

const fn of(prog: &'static [&'static str], kern: &'static str) -> CtxType {
    CtxType { prog, kern: Some(kern) }
}

/// Context of a program type: `find_canonical_prog_ctx_type` and `find_kern_ctx_type_id`.
pub const fn ctx_type(prog_type: ProgType) -> CtxType {
    match prog_type {
        SocketFilter | SchedCls | SchedAct | CgroupSkb | LwtIn | LwtOut | LwtXmit | LwtSeg6local | SkSkb => {
            of(&["__sk_buff"], "sk_buff")
        }
        FlowDissector => of(&["__sk_buff"], "bpf_flow_dissector"),
        Xdp => of(&["xdp_md"], "xdp_buff"),
        CgroupSock => of(&["bpf_sock"], "sock"),
        CgroupSockAddr => of(&["bpf_sock_addr"], "bpf_sock_addr_kern"),
        SockOps => of(&["bpf_sock_ops"], "bpf_sock_ops_kern"),
        SkMsg => of(&["sk_msg_md"], "sk_msg"),
        Kprobe => of(&["bpf_user_pt_regs_t", "pt_regs"], "pt_regs"),
        Tracepoint => of(&["__u64", "unsigned long long"], "u64"),
        PerfEvent => of(&["bpf_perf_event_data"], "bpf_perf_event_data_kern"),
        RawTracepoint | RawTracepointWritable => of(&["bpf_raw_tracepoint_args"], "u64"),
        CgroupDevice => of(&["bpf_cgroup_dev_ctx"], "bpf_cgroup_dev_ctx"),
        CgroupSysctl => of(&["bpf_sysctl"], "bpf_sysctl_kern"),
        CgroupSockopt => of(&["bpf_sockopt"], "bpf_sockopt_kern"),
        LircMode2 => of(&["__u32", "unsigned int"], "u32"),
        SkReuseport => of(&["sk_reuseport_md"], "sk_reuseport_kern"),
        SkLookup => of(&["bpf_sk_lookup"], "bpf_sk_lookup_kern"),
        Netfilter => of(&["bpf_nf_ctx"], "bpf_nf_ctx"),
        Unspec | Tracing | StructOps | Ext | Lsm | Syscall => CtxType { prog: &[], kern: None },
    }
}
