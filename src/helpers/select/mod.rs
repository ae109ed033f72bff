//! Which prototype of a helper a program gets: the `get_func_proto` of each program type. One function a type, with
//! the kernel's name; each falls back to the next more general.

mod base;
mod cgroup;
mod net;
mod tracing;

use bpftwin_uapi::{Errno, HelperId, ProgType};

use super::proto::{FuncProto, ProgCtx};

type Proto = Option<&'static FuncProto>;

/// The prototype of `func_id` for this program; `None` where its type or privileges do not allow the helper.
pub fn get_func_proto(func_id: HelperId, prog: &ProgCtx) -> Option<&'static FuncProto> {
    let get_func_proto = match prog.prog_type {
        // Extension programs come here under the type of what they extend.
        ProgType::Unspec | ProgType::Ext => return None,
        ProgType::SocketFilter => net::sk_filter_func_proto,
        ProgType::Kprobe => tracing::kprobe_prog_func_proto,
        ProgType::SchedCls | ProgType::SchedAct => net::tc_cls_act_func_proto,
        ProgType::Tracepoint => tracing::tp_prog_func_proto,
        ProgType::Xdp => net::xdp_func_proto,
        ProgType::PerfEvent => tracing::pe_prog_func_proto,
        ProgType::CgroupSkb => cgroup::cg_skb_func_proto,
        ProgType::CgroupSock => cgroup::sock_filter_func_proto,
        ProgType::LwtIn => net::lwt_in_func_proto,
        ProgType::LwtOut => net::lwt_out_func_proto,
        ProgType::LwtXmit => net::lwt_xmit_func_proto,
        ProgType::SockOps => cgroup::sock_ops_func_proto,
        ProgType::SkSkb => net::sk_skb_func_proto,
        ProgType::CgroupDevice => cgroup::cgroup_dev_func_proto,
        ProgType::SkMsg => net::sk_msg_func_proto,
        ProgType::RawTracepoint | ProgType::RawTracepointWritable => tracing::raw_tp_prog_func_proto,
        ProgType::CgroupSockAddr => cgroup::sock_addr_func_proto,
        ProgType::LwtSeg6local => net::lwt_seg6local_func_proto,
        ProgType::LircMode2 => base::lirc_mode2_func_proto,
        ProgType::SkReuseport => net::sk_reuseport_func_proto,
        ProgType::FlowDissector => net::flow_dissector_func_proto,
        ProgType::CgroupSysctl => cgroup::sysctl_func_proto,
        ProgType::CgroupSockopt => cgroup::cg_sockopt_func_proto,
        ProgType::Tracing => tracing::tracing_prog_func_proto,
        ProgType::StructOps => base::struct_ops_func_proto,
        ProgType::Lsm => tracing::bpf_lsm_func_proto,
        ProgType::SkLookup => net::sk_lookup_func_proto,
        ProgType::Syscall => tracing::syscall_prog_func_proto,
        ProgType::Netfilter => base::bpf_base_func_proto,
    };
    get_func_proto(func_id, prog)
}

/// The helper and its prototype behind the `imm` of a call: `ERANGE` where there is no helper of that number,
/// `EINVAL` where the program may not use it.
pub fn get_helper_proto(imm: i32, prog: &ProgCtx) -> Result<(HelperId, &'static FuncProto), Errno> {
    let func_id = u32::try_from(imm).ok().and_then(HelperId::from_u32).ok_or(Errno::ERANGE)?;
    let proto = get_func_proto(func_id, prog).ok_or(Errno::EINVAL)?;
    Ok((func_id, proto))
}

#[cfg(test)]
mod tests {
    use bpftwin_uapi::AttachType;

    use super::*;
    use crate::helpers::flags::bpf_helper_changes_pkt_data;
    use crate::helpers::proto::ProgCaps;
    use crate::kernel::config::KernelConfig;
    use crate::verifier::reg_type::{ArgType, flag::*};

    fn ctx(config: &KernelConfig, prog_type: ProgType, attach_type: Option<AttachType>) -> ProgCtx<'_> {
        ProgCtx {
            prog_type,
            expected_attach_type: attach_type.map_or(0, |t| t as u32),
            sleepable: false,
            caps: ProgCaps::ALL,
            config,
            attach_func: "",
            struct_ops: "",
            has_dst_prog: false,
        }
    }

    /// Every prototype that some program gets.
    fn for_each_proto(mut f: impl FnMut(HelperId, &'static FuncProto)) {
        let config = KernelConfig::default();
        for &prog_type in ProgType::ALL {
            for &attach_type in AttachType::ALL {
                for &id in HelperId::ALL {
                    if let Some(proto) = get_func_proto(id, &ctx(&config, prog_type, Some(attach_type))) {
                        f(id, proto);
                    }
                }
            }
        }
    }

    /// `check_func_proto`: a prototype that fails it makes the kernel report a bug of its own.
    #[test]
    fn prototypes_are_consistent() {
        for_each_proto(|id, proto| {
            let args = &proto.arg_type[..proto.num_params()];
            assert!(proto.arg_type[args.len()..].iter().all(|&arg| arg == ArgType::ARG_DONTCARE), "{id:?}");
            // check_raw_mode_ok
            let raw = args.iter().filter(|arg| arg.base() == ArgType::ARG_PTR_TO_MEM && arg.has(MEM_UNINIT));
            assert!(raw.count() <= 1, "{id:?}");
            // check_arg_pair_ok
            let is_size =
                |arg: &ArgType| matches!(*arg, ArgType::ARG_CONST_SIZE | ArgType::ARG_CONST_SIZE_OR_ZERO);
            assert!(!args.first().is_some_and(is_size), "{id:?}");
            for (i, arg) in args.iter().enumerate() {
                let next_is_size = args.get(i + 1).is_some_and(is_size);
                if arg.base() == ArgType::ARG_PTR_TO_MEM {
                    let fixed = arg.has(MEM_FIXED_SIZE);
                    assert_eq!(fixed, proto.arg_size[i] != 0, "{id:?}");
                    assert_ne!(fixed, next_is_size, "{id:?}");
                } else {
                    assert!(!next_is_size, "{id:?}");
                }
                // check_btf_id_ok
                let needs_btf_id =
                    [ArgType::ARG_PTR_TO_BTF_ID, ArgType::ARG_PTR_TO_SPIN_LOCK].contains(&arg.base());
                assert_eq!(needs_btf_id, proto.arg_btf_id[i].is_some(), "{id:?}");
            }
            assert!(args.iter().filter(|arg| arg.has(OBJ_RELEASE)).count() <= 1, "{id:?}");
            if bpf_helper_changes_pkt_data(id) {
                assert_eq!(args.first(), Some(&ArgType::ARG_PTR_TO_CTX), "{id:?}");
            }
        });
    }

    #[test]
    fn every_helper_is_someones() {
        let mut seen = vec![false; HelperId::ALL.len()];
        for_each_proto(|id, _| seen[id as usize] = true);
        let unseen: Vec<_> = HelperId::ALL.iter().filter(|&&id| !seen[id as usize]).collect();
        // Not a helper; one that only TCP congestion control has; one that the configuration lacks.
        assert_eq!(unseen, [&HelperId::Unspec, &HelperId::OverrideReturn, &HelperId::TcpSendAck]);
    }

    #[test]
    fn privileges_gate_helpers() {
        let config = KernelConfig::default();
        let allowed = |caps, id| {
            get_func_proto(id, &ProgCtx { caps, ..ctx(&config, ProgType::SocketFilter, None) }).is_some()
        };
        let bpf = ProgCaps { bpf: true, ..ProgCaps::NONE };
        assert!(allowed(ProgCaps::NONE, HelperId::MapLookupElem) && !allowed(ProgCaps::NONE, HelperId::Loop));
        assert!(allowed(bpf, HelperId::Loop) && !allowed(bpf, HelperId::TracePrintk));
        assert!(allowed(ProgCaps { perfmon: true, ..bpf }, HelperId::TracePrintk));
    }
}
