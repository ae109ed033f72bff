//! Context access rules of every program type against the live kernel: all offsets, sizes and directions.
//!
//! Needs a kernel of the emulated series and the right to load programs; says so and passes where it has neither.

mod live;

use bpftwin::progs::{
    AccessType, InsnAccessAux, bpf_sock_common_is_valid_access, bpf_sock_is_valid_access,
    bpf_tcp_sock_is_valid_access, has_prog_type, is_valid_access, layout,
};
use bpftwin::verifier::prog::Prog;
use bpftwin::verifier::reg_type::{RegType, flag};
use bpftwin_uapi::AttachType::{self, *};
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{HelperId, Insn, ProgType};
use live::{can_load, load};

/// Program types with the size of their contexts and the attach types that make a difference.
const SUBJECTS: &[(ProgType, i32, &[AttachType])] = &[
    (ProgType::SocketFilter, layout::sk_buff::SIZE, &[]),
    (ProgType::Kprobe, layout::pt_regs::SIZE, &[TraceKprobeMulti, TraceUprobeSession]),
    (ProgType::SchedCls, layout::sk_buff::SIZE, &[TcxIngress, NetkitPeer]),
    (ProgType::SchedAct, layout::sk_buff::SIZE, &[]),
    (ProgType::Tracepoint, 256, &[]),
    (ProgType::Xdp, layout::xdp_md::SIZE, &[Xdp, XdpDevmap, XdpCpumap]),
    (ProgType::PerfEvent, layout::bpf_perf_event_data::SIZE, &[]),
    (ProgType::CgroupSkb, layout::sk_buff::SIZE, &[CgroupInetIngress, CgroupInetEgress]),
    (
        ProgType::CgroupSock,
        layout::bpf_sock::SIZE,
        &[CgroupInetSockCreate, CgroupInetSockRelease, CgroupInet4PostBind, CgroupInet6PostBind],
    ),
    (ProgType::LwtIn, layout::sk_buff::SIZE, &[]),
    (ProgType::LwtOut, layout::sk_buff::SIZE, &[]),
    (ProgType::LwtXmit, layout::sk_buff::SIZE, &[]),
    (ProgType::SockOps, layout::bpf_sock_ops::SIZE, &[CgroupSockOps]),
    (ProgType::SkSkb, layout::sk_buff::SIZE, &[SkSkbStreamParser, SkSkbVerdict]),
    (ProgType::CgroupDevice, layout::bpf_cgroup_dev_ctx::SIZE, &[CgroupDevice]),
    (ProgType::SkMsg, layout::sk_msg_md::SIZE, &[SkMsgVerdict]),
    (ProgType::RawTracepoint, 96, &[]),
    (
        ProgType::CgroupSockAddr,
        layout::bpf_sock_addr::SIZE,
        &[
            CgroupInet4Bind,
            CgroupInet6Bind,
            CgroupInet4Connect,
            CgroupInet6Connect,
            CgroupUdp4Sendmsg,
            CgroupUdp6Sendmsg,
            CgroupUdp4Recvmsg,
            CgroupUdp6Recvmsg,
            CgroupInet4Getpeername,
            CgroupInet6Getpeername,
            CgroupInet4Getsockname,
            CgroupInet6Getsockname,
            CgroupUnixConnect,
            CgroupUnixSendmsg,
            CgroupUnixRecvmsg,
            CgroupUnixGetpeername,
            CgroupUnixGetsockname,
        ],
    ),
    (ProgType::LwtSeg6local, layout::sk_buff::SIZE, &[]),
    (ProgType::SkReuseport, layout::sk_reuseport_md::SIZE, &[SkReuseportSelect, SkReuseportSelectOrMigrate]),
    (ProgType::FlowDissector, layout::sk_buff::SIZE, &[FlowDissector]),
    (ProgType::CgroupSysctl, layout::bpf_sysctl::SIZE, &[CgroupSysctl]),
    (ProgType::RawTracepointWritable, 96, &[]),
    (ProgType::CgroupSockopt, layout::bpf_sockopt::SIZE, &[CgroupGetsockopt, CgroupSetsockopt]),
    (ProgType::SkLookup, layout::bpf_sk_lookup::SIZE, &[SkLookup]),
    (ProgType::Syscall, 64, &[]),
    (ProgType::Netfilter, layout::bpf_nf_ctx::SIZE, &[Netfilter]),
];

#[derive(Clone, Copy, PartialEq, Debug)]
enum Kind {
    Load,
    LoadSigned,
    Store,
    StoreImm,
}

struct Case {
    prog_type: ProgType,
    attach_type: u32,
    kind: Kind,
    off: i16,
    size: i32,
}

#[test]
fn context_access_agrees_with_the_kernel() {
    if !can_load() {
        return;
    }
    let mut loads = 0;
    let mut differences = Vec::new();
    for &(prog_type, ctx_size, attach_types) in SUBJECTS {
        assert!(has_prog_type(prog_type));
        let attach_types: Vec<u32> =
            if attach_types.is_empty() { vec![0] } else { attach_types.iter().map(|&t| t as u32).collect() };
        for attach_type in attach_types {
            for case in cases(prog_type, attach_type, ctx_size) {
                loads += 1;
                differences.extend(difference(&case));
            }
        }
    }
    eprintln!("{loads} programs loaded");
    for line in differences.iter().take(100) {
        eprintln!("{line}");
    }
    assert!(differences.is_empty(), "{} differences", differences.len());
}

fn cases(prog_type: ProgType, attach_type: u32, ctx_size: i32) -> impl Iterator<Item = Case> {
    const KINDS: [(Kind, &[i32]); 4] = [
        (Kind::Load, &[1, 2, 4, 8]),
        (Kind::LoadSigned, &[1, 2, 4]),
        (Kind::Store, &[1, 2, 4, 8]),
        (Kind::StoreImm, &[1, 2, 4, 8]),
    ];
    // Far offsets show the bounds of contexts without a structure.
    let offsets = (-9..ctx_size + 17).chain([4096, 8184, 8192, 16384, 32760, 32767, -4096, -32768]);
    offsets.flat_map(move |off| {
        KINDS.iter().flat_map(move |&(kind, sizes)| {
            sizes.iter().map(move |&size| Case { prog_type, attach_type, kind, off: off as i16, size })
        })
    })
}

/// Tells the difference between our answer and the kernel's, if there is one.
fn difference(case: &Case) -> Option<String> {
    let Case { prog_type, attach_type, kind, off, size } = *case;
    let size_code = [BPF_B, BPF_H, BPF_W, BPF_DW][size.trailing_zeros() as usize];
    let access = match kind {
        Kind::Load => Insn::new(BPF_LDX | BPF_MEM | size_code, 0, 1, off, 0),
        Kind::LoadSigned => Insn::new(BPF_LDX | BPF_MEMSX | size_code, 0, 1, off, 0),
        Kind::Store => Insn::new(BPF_STX | BPF_MEM | size_code, 1, 0, off, 0),
        Kind::StoreImm => Insn::new(BPF_ST | BPF_MEM | size_code, 1, 0, off, 0),
    };
    let mov = Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1);
    let insns = [mov, access, mov, Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)];

    let mut prog = Prog::new(prog_type, insns.to_vec());
    prog.expected_attach_type = attach_type;
    prog.bpf_capable = true;
    let mut info = InsnAccessAux::new(kind == Kind::LoadSigned);
    let direction =
        if matches!(kind, Kind::Load | Kind::LoadSigned) { AccessType::Read } else { AccessType::Write };
    let ours = is_valid_access(&mut prog, off.into(), size, direction, &mut info);

    let (result, log) = load(prog_type, attach_type, &insns);
    let refusal = format!("invalid bpf_context access off={off} size={size}\n");
    let theirs = match result {
        Ok(()) => true,
        Err(_) if log.contains(&refusal) => false,
        Err(errno) => {
            // Allowed by the type, refused by the verifier for another reason; netfilter's pointers for example.
            return Some(format!(
                "{prog_type:?}/{attach_type} {kind:?} off {off} size {size}: errno {errno}, {log}"
            ));
        }
    };
    if ours != theirs {
        return Some(format!(
            "{prog_type:?}/{attach_type} {kind:?} off {off} size {size}: we {ours}, kernel {theirs}"
        ));
    }
    if theirs && direction == AccessType::Read {
        let register = log
            .split_once("\n1: (")
            .and_then(|(_, rest)| rest.split_once("; R0="))
            .map_or("", |(_, rest)| rest);
        let expected = reg_type_prefix(info.reg_type);
        let shown =
            if expected == "scalar" { scalar_is_shown(register) } else { register.starts_with(expected) };
        if !shown {
            return Some(format!(
                "{prog_type:?}/{attach_type} {kind:?} off {off} size {size}: we {expected}, kernel {log}"
            ));
        }
    }
    None
}

/// Reads through socket pointers, which have rules of their own.
#[test]
fn socket_access_agrees_with_the_kernel() {
    if !can_load() {
        return;
    }
    type Rule = fn(i32, i32, AccessType, &mut InsnAccessAux) -> bool;
    const NOP: i32 = 0;
    let subjects: [(i32, i32, Rule); 3] = [
        (NOP, layout::bpf_sock::SIZE, bpf_sock_common_is_valid_access),
        (HelperId::SkFullsock as i32, layout::bpf_sock::SIZE, bpf_sock_is_valid_access),
        (HelperId::TcpSock as i32, layout::bpf_tcp_sock::SIZE, bpf_tcp_sock_is_valid_access),
    ];
    for (helper, struct_size, rule) in subjects {
        for off in -9..struct_size + 17 {
            for size in [1, 2, 4, 8] {
                let ours = rule(off, size, AccessType::Read, &mut InsnAccessAux::new(false));
                let convert = match helper {
                    NOP => Insn::new(BPF_ALU64 | BPF_MOV | BPF_X, 0, 1, 0, 0),
                    id => Insn::new(BPF_JMP | BPF_CALL, 0, 0, 0, id),
                };
                let size_code = [BPF_B, BPF_H, BPF_W, BPF_DW][(size as u32).trailing_zeros() as usize];
                let insns = [
                    Insn::new(BPF_LDX | BPF_MEM | BPF_DW, 1, 1, layout::sk_buff::SK.start as i16, 0),
                    Insn::new(BPF_JMP | BPF_JNE | BPF_K, 1, 0, 2, 0),
                    Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0),
                    Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
                    convert,
                    Insn::new(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1, 0),
                    Insn::new(BPF_LDX | BPF_MEM | size_code, 0, 0, off as i16, 0),
                    Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0),
                    Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
                ];
                let (result, log) = load(ProgType::SchedCls, 0, &insns);
                let refused = result.is_err() && log.contains(&format!(" access off={off} size={size}\n"));
                // The upper halves of 64-bit fields of a TCP socket pass the check, and then no conversion exists.
                let unconverted = log.contains("error during ctx access conversion");
                assert!(
                    refused || unconverted || result.is_ok(),
                    "helper {helper} off {off} size {size}: {log}"
                );
                assert_eq!(ours, !refused, "helper {helper} off {off} size {size}: {log}");
            }
        }
    }
}

fn scalar_is_shown(register: &str) -> bool {
    register.starts_with("scalar") || register.starts_with(|c: char| c.is_ascii_digit())
}

fn reg_type_prefix(reg_type: RegType) -> &'static str {
    const TRUSTED: RegType = RegType(RegType::PTR_TO_BTF_ID.0 | flag::PTR_TRUSTED);
    match reg_type {
        RegType::SCALAR_VALUE => "scalar",
        RegType::PTR_TO_PACKET => "pkt(",
        RegType::PTR_TO_PACKET_META => "pkt_meta(",
        RegType::PTR_TO_PACKET_END => "pkt_end(",
        RegType::PTR_TO_FLOW_KEYS => "flow_keys(",
        RegType::PTR_TO_SOCKET => "sock(",
        RegType::PTR_TO_SOCKET_OR_NULL => "sock_or_null(",
        RegType::PTR_TO_SOCK_COMMON_OR_NULL => "sock_common_or_null(",
        RegType::PTR_TO_TP_BUFFER => "tp_buffer(",
        TRUSTED => "trusted_ptr_",
        _ => "?",
    }
}
