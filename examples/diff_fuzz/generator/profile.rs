//! What programs of each type can do: valid context accesses and helpers, found by asking the rules themselves.

use bpftwin::helpers::{FuncProto, ProgCaps, ProgCtx, get_func_proto};
use bpftwin::kernel::config::KernelConfig;
use bpftwin::progs::{AccessType, InsnAccessAux, is_valid_access};
use bpftwin::verifier::prog::Prog;
use bpftwin::verifier::reg_type::RegType;
use bpftwin_uapi::attr::BPF_F_SLEEPABLE;
use bpftwin_uapi::{AttachType, HelperId, ProgType};

use crate::rng::Rng;

/// A context access that the type allows.
#[derive(Clone, Copy, Debug)]
pub struct CtxField {
    pub off: i16,
    pub size: i32,
    pub reg_type: RegType,
}

/// Where a type's packet pointers are.
#[derive(Clone, Copy, Debug)]
pub struct PacketFields {
    pub data: i16,
    pub data_end: i16,
    pub data_meta: Option<i16>,
    pub size: i32,
}

pub struct TypeProfile {
    pub prog_type: ProgType,
    pub attach_type: u32,
    pub flags: u32,
    pub reads: Vec<CtxField>,
    pub writes: Vec<CtxField>,
    pub packet: Option<PacketFields>,
    pub helpers: Vec<(HelperId, &'static FuncProto)>,
    /// Values that a program may return.
    pub returns: (i32, i32),
    weight: u32,
}

/// All of them.
pub struct Profiles(Vec<TypeProfile>);

use AttachType as A;
use ProgType as P;

const TYPES: &[(ProgType, Option<AttachType>, u32)] = &[
    (P::SocketFilter, None, 12),
    (P::SchedCls, None, 20),
    (P::SchedAct, None, 2),
    (P::Xdp, None, 14),
    (P::CgroupSkb, Some(A::CgroupInetEgress), 5),
    (P::CgroupSkb, Some(A::CgroupInetIngress), 3),
    (P::Kprobe, None, 8),
    (P::Tracepoint, None, 6),
    (P::RawTracepoint, None, 5),
    (P::RawTracepointWritable, None, 2),
    (P::PerfEvent, None, 4),
    (P::SkSkb, None, 4),
    (P::SkMsg, None, 4),
    (P::SockOps, Some(A::CgroupSockOps), 4),
    (P::CgroupSock, Some(A::CgroupInetSockCreate), 2),
    (P::CgroupSock, Some(A::CgroupInet6PostBind), 1),
    (P::CgroupSockAddr, Some(A::CgroupInet4Connect), 2),
    (P::CgroupSockAddr, Some(A::CgroupInet6Bind), 2),
    (P::CgroupSockAddr, Some(A::CgroupUdp4Recvmsg), 1),
    (P::CgroupDevice, Some(A::CgroupDevice), 2),
    (P::CgroupSysctl, Some(A::CgroupSysctl), 2),
    (P::CgroupSockopt, Some(A::CgroupSetsockopt), 3),
    (P::CgroupSockopt, Some(A::CgroupGetsockopt), 2),
    (P::SkLookup, Some(A::SkLookup), 3),
    (P::SkReuseport, Some(A::SkReuseportSelect), 3),
    (P::FlowDissector, Some(A::FlowDissector), 3),
    (P::LwtIn, None, 2),
    (P::LwtOut, None, 1),
    (P::LwtXmit, None, 3),
    (P::LwtSeg6local, None, 1),
    (P::Netfilter, Some(A::Netfilter), 2),
    (P::Syscall, None, 5),
];

const SIZE: i16 = 600;

impl Profiles {
    pub fn new(config: &KernelConfig) -> Self {
        Profiles(
            TYPES.iter().map(|&(t, attach, weight)| TypeProfile::new(t, attach, weight, config)).collect(),
        )
    }

    pub fn pick(&self, rng: &mut Rng) -> &TypeProfile {
        let weights: Vec<u32> = self.0.iter().map(|profile| profile.weight).collect();
        &self.0[rng.weighted(&weights)]
    }
}

impl TypeProfile {
    fn new(prog_type: ProgType, attach: Option<AttachType>, weight: u32, config: &KernelConfig) -> Self {
        let attach_type = attach.map_or(0, |attach| attach as u32);
        let mut prog = Prog::new(prog_type, Vec::new());
        prog.expected_attach_type = attach_type;
        prog.gpl_compatible = true;
        let mut fields = |access| {
            let mut fields = Vec::new();
            for off in 0..SIZE {
                for size in [1, 2, 4, 8] {
                    let mut info = InsnAccessAux::new(false);
                    if off as i32 % size == 0
                        && is_valid_access(&mut prog, i32::from(off), size, access, &mut info)
                    {
                        fields.push(CtxField { off, size, reg_type: info.reg_type });
                    }
                }
            }
            fields
        };
        let reads = fields(AccessType::Read);
        let writes = fields(AccessType::Write);
        let field = |reg_type| reads.iter().find(|field| field.reg_type == reg_type);
        let packet =
            field(RegType::PTR_TO_PACKET).zip(field(RegType::PTR_TO_PACKET_END)).map(|(data, data_end)| {
                PacketFields {
                    data: data.off,
                    data_end: data_end.off,
                    data_meta: field(RegType::PTR_TO_PACKET_META).map(|field| field.off),
                    size: data.size,
                }
            });
        let ctx = ProgCtx {
            prog_type,
            expected_attach_type: attach_type,
            sleepable: prog_type == ProgType::Syscall,
            caps: ProgCaps::ALL,
            config,
            attach_func: "",
            struct_ops: "",
            has_dst_prog: false,
        };
        let helpers = HelperId::ALL.iter().filter_map(|&id| Some((id, get_func_proto(id, &ctx)?))).collect();
        let returns = match bpftwin::progs::return_range(&prog) {
            bpftwin::progs::ReturnRange::Within(min, max) => (min, max),
            bpftwin::progs::ReturnRange::WithinEnforcing { min, .. } => (min, 1),
            _ => (0, 2),
        };
        let flags = if prog_type == ProgType::Syscall { BPF_F_SLEEPABLE } else { 0 };
        TypeProfile { prog_type, attach_type, flags, reads, writes, packet, helpers, returns, weight }
    }
}
