//! The helper table against the live kernel: who may call what, with how many arguments of which types, for which
//! result.
//!
//! Needs a kernel of the emulated series and the right to load programs; says so and passes where it has neither.

mod live;

use std::collections::HashSet;

use bpftwin::helpers::{
    BtfTypeRef, FuncProto, ProgCaps, ProgCtx, bpf_helper_changes_pkt_data, get_helper_proto,
};
use bpftwin::kernel::config::KernelConfig;
use bpftwin::verifier::reg_type::flag::*;
use bpftwin::verifier::reg_type::{ArgType, RetType};
use bpftwin_uapi::AttachType::{self, *};
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Errno, HelperId, Insn, ProgType};

use live::{LiveKernel, with_capabilities};

/// The structure that the probes have a pointer to.
const TASK: &str = "task_struct";
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;
const CAP_PERFMON: u32 = 38;
const CAP_BPF: u32 = 39;

/// A kind of program: what decides which helpers it may call.
#[derive(Clone, Copy, Debug)]
struct Subject {
    prog_type: ProgType,
    attach_type: Option<AttachType>,
    attach_func: &'static str,
    sleepable: bool,
}

const fn subject(prog_type: ProgType) -> Subject {
    Subject { prog_type, attach_type: None, attach_func: "", sleepable: false }
}

const fn attached(prog_type: ProgType, attach_type: AttachType) -> Subject {
    Subject { attach_type: Some(attach_type), ..subject(prog_type) }
}

const fn tracing(prog_type: ProgType, attach_type: AttachType, attach_func: &'static str) -> Subject {
    Subject { attach_func, ..attached(prog_type, attach_type) }
}

const fn sleepable(subject: Subject) -> Subject {
    Subject { sleepable: true, ..subject }
}

const SUBJECTS: &[Subject] = &[
    subject(ProgType::SocketFilter),
    subject(ProgType::Kprobe),
    sleepable(subject(ProgType::Kprobe)),
    attached(ProgType::Kprobe, TraceKprobeMulti),
    attached(ProgType::Kprobe, TraceKprobeSession),
    attached(ProgType::Kprobe, TraceUprobeMulti),
    sleepable(attached(ProgType::Kprobe, TraceUprobeSession)),
    subject(ProgType::SchedCls),
    attached(ProgType::SchedCls, TcxIngress),
    subject(ProgType::SchedAct),
    subject(ProgType::Tracepoint),
    subject(ProgType::Xdp),
    attached(ProgType::Xdp, XdpCpumap),
    subject(ProgType::PerfEvent),
    attached(ProgType::CgroupSkb, CgroupInetIngress),
    attached(ProgType::CgroupSkb, CgroupInetEgress),
    attached(ProgType::CgroupSock, CgroupInetSockCreate),
    attached(ProgType::CgroupSock, CgroupInetSockRelease),
    attached(ProgType::CgroupSock, CgroupInet4PostBind),
    attached(ProgType::CgroupSock, CgroupInet6PostBind),
    subject(ProgType::LwtIn),
    subject(ProgType::LwtOut),
    subject(ProgType::LwtXmit),
    subject(ProgType::LwtSeg6local),
    subject(ProgType::SockOps),
    attached(ProgType::SockOps, CgroupSockOps),
    subject(ProgType::SkSkb),
    attached(ProgType::SkSkb, SkSkbVerdict),
    subject(ProgType::CgroupDevice),
    attached(ProgType::CgroupDevice, CgroupDevice),
    subject(ProgType::SkMsg),
    attached(ProgType::SkMsg, SkMsgVerdict),
    subject(ProgType::RawTracepoint),
    subject(ProgType::RawTracepointWritable),
    attached(ProgType::CgroupSockAddr, CgroupInet4Bind),
    attached(ProgType::CgroupSockAddr, CgroupInet6Bind),
    attached(ProgType::CgroupSockAddr, CgroupInet4Connect),
    attached(ProgType::CgroupSockAddr, CgroupInet6Connect),
    attached(ProgType::CgroupSockAddr, CgroupUdp4Sendmsg),
    attached(ProgType::CgroupSockAddr, CgroupUdp6Sendmsg),
    attached(ProgType::CgroupSockAddr, CgroupUdp4Recvmsg),
    attached(ProgType::CgroupSockAddr, CgroupUdp6Recvmsg),
    attached(ProgType::CgroupSockAddr, CgroupInet4Getpeername),
    attached(ProgType::CgroupSockAddr, CgroupInet6Getpeername),
    attached(ProgType::CgroupSockAddr, CgroupInet4Getsockname),
    attached(ProgType::CgroupSockAddr, CgroupInet6Getsockname),
    attached(ProgType::CgroupSockAddr, CgroupUnixConnect),
    attached(ProgType::CgroupSockAddr, CgroupUnixSendmsg),
    attached(ProgType::CgroupSockAddr, CgroupUnixRecvmsg),
    attached(ProgType::CgroupSockAddr, CgroupUnixGetpeername),
    attached(ProgType::CgroupSockAddr, CgroupUnixGetsockname),
    attached(ProgType::SkReuseport, SkReuseportSelect),
    attached(ProgType::SkReuseport, SkReuseportSelectOrMigrate),
    subject(ProgType::FlowDissector),
    attached(ProgType::FlowDissector, FlowDissector),
    subject(ProgType::CgroupSysctl),
    attached(ProgType::CgroupSysctl, CgroupSysctl),
    attached(ProgType::CgroupSockopt, CgroupGetsockopt),
    attached(ProgType::CgroupSockopt, CgroupSetsockopt),
    attached(ProgType::SkLookup, SkLookup),
    sleepable(subject(ProgType::Syscall)),
    attached(ProgType::Netfilter, Netfilter),
    tracing(ProgType::Tracing, TraceFentry, "bpf_fentry_test1"),
    tracing(ProgType::Tracing, TraceFexit, "bpf_fentry_test1"),
    tracing(ProgType::Tracing, TraceFentry, "bpf_sk_storage_get"),
    tracing(ProgType::Tracing, TraceFentry, "vfs_truncate"),
    tracing(ProgType::Tracing, ModifyReturn, "bpf_modify_return_test"),
    tracing(ProgType::Tracing, TraceRawTp, "btf_trace_sched_switch"),
    tracing(ProgType::Tracing, TraceIter, "bpf_iter_task"),
    sleepable(tracing(ProgType::Tracing, TraceIter, "bpf_iter_task")),
    tracing(ProgType::Tracing, TraceIter, "bpf_iter_tcp"),
    tracing(ProgType::Tracing, TraceIter, "bpf_iter_unix"),
    tracing(ProgType::Lsm, LsmMac, "bpf_lsm_file_open"),
    sleepable(tracing(ProgType::Lsm, LsmMac, "bpf_lsm_file_open")),
    tracing(ProgType::Lsm, LsmMac, "bpf_lsm_file_permission"),
    tracing(ProgType::Lsm, LsmCgroup, "bpf_lsm_sock_graft"),
    tracing(ProgType::Lsm, LsmCgroup, "bpf_lsm_socket_post_create"),
    tracing(ProgType::Lsm, LsmCgroup, "bpf_lsm_socket_bind"),
];

impl Subject {
    fn ctx<'a>(&self, caps: ProgCaps, config: &'a KernelConfig) -> ProgCtx<'a> {
        ProgCtx {
            prog_type: self.prog_type,
            expected_attach_type: self.attach_type.map_or(0, |attach_type| attach_type as u32),
            sleepable: self.sleepable,
            caps,
            config,
            attach_func: self.attach_func,
            struct_ops: "",
            has_dst_prog: false,
        }
    }
}

/// The kernel's verdict on a call before it looks at the arguments.
#[derive(PartialEq, Eq, Debug)]
enum Availability {
    Available,
    OutOfRange,
    NotForType,
    Gpl,
    NotAllowed,
    MightSleep,
}

impl Availability {
    /// What the table says.
    fn ours(id: i32, prog: &ProgCtx, gpl_compatible: bool) -> Self {
        match get_helper_proto(id, prog) {
            Err(Errno::ERANGE) => Self::OutOfRange,
            Err(_) => Self::NotForType,
            Ok((_, proto)) if proto.gpl_only && !gpl_compatible => Self::Gpl,
            Ok((_, proto)) if !proto.is_allowed(prog) => Self::NotAllowed,
            Ok((_, proto)) if proto.might_sleep && !prog.sleepable => Self::MightSleep,
            Ok(_) => Self::Available,
        }
    }

    /// What the kernel's log says.
    fn theirs(log: &str) -> Self {
        let last = |text: &str| log.contains(text);
        if last("invalid func ") {
            Self::OutOfRange
        } else if last("program of this type cannot use helper ") {
            Self::NotForType
        } else if last("cannot call GPL-restricted function from non-GPL compatible program") {
            Self::Gpl
        } else if last("helper call is not allowed in probe") {
            Self::NotAllowed
        } else if last("helper call might sleep in a non-sleepable prog") {
            Self::MightSleep
        } else {
            Self::Available
        }
    }
}

#[test]
fn availability_agrees_with_the_kernel() {
    let Some(kernel) = LiveKernel::open() else { return };
    let privileges = [
        (&[CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF][..], ProgCaps::ALL),
        (&[CAP_NET_ADMIN, CAP_PERFMON, CAP_BPF], ProgCaps { sys_admin: false, ..ProgCaps::ALL }),
        (&[CAP_NET_ADMIN, CAP_BPF], ProgCaps { bpf: true, ..ProgCaps::NONE }),
    ];
    let config = KernelConfig::of_host().unwrap_or_default();
    let mut differences = Vec::new();
    let mut compared = 0;
    for (held, caps) in privileges {
        let found = with_capabilities(held, || {
            let mut found = Vec::new();
            for subject in SUBJECTS {
                let (result, log) = kernel.load(subject, &[exit()], c"GPL");
                // Refused before verification: for lack of privileges, or as the kernel lacks the type.
                if log.is_empty() {
                    if caps == ProgCaps::ALL {
                        eprintln!("{subject:?} does not load: {result:?}");
                    }
                    continue;
                }
                let prog = subject.ctx(caps, &config);
                for id in -1..=HelperId::ALL.len() as i32 + 2 {
                    for license in [c"GPL", c"Proprietary"] {
                        let gpl = license == c"GPL";
                        // Operations of these types must be under a GPL-compatible licence as a whole.
                        if !gpl && matches!(subject.prog_type, ProgType::Lsm) {
                            continue;
                        }
                        let insns = [call(id), mov_imm(0, 0), exit()];
                        let (_, log) = kernel.load(subject, &insns, license);
                        let theirs = Availability::theirs(&log);
                        let ours = Availability::ours(id, &prog, gpl);
                        compared += 1;
                        if ours != theirs {
                            found.push(format!(
                                "{subject:?} {held:?} {license:?} helper {id} {:?}: we {ours:?}, kernel {theirs:?}: {}",
                                HelperId::from_u32(id as u32),
                                complaint(&log)
                            ));
                        }
                    }
                }
            }
            found
        });
        differences.extend(found);
    }
    report("availability", compared, &differences);
}

#[test]
fn arguments_agree_with_the_kernel() {
    let Some(kernel) = LiveKernel::open() else { return };
    let mut probes = Probes { kernel: &kernel, caps: ProgCaps::ALL, differences: Vec::new(), compared: 0 };
    probes.all();
    report("arguments", probes.compared, &probes.differences);
}

/// Without `CAP_PERFMON`, reading uninitialised stack is refused: shows which arguments need not be initialised.
#[test]
fn uninitialised_arguments_agree_with_the_kernel() {
    let Some(kernel) = LiveKernel::open() else { return };
    let caps = ProgCaps { bpf: true, ..ProgCaps::NONE };
    let mut probes = Probes { kernel: &kernel, caps, differences: Vec::new(), compared: 0 };
    with_capabilities(&[CAP_NET_ADMIN, CAP_BPF], || probes.all());
    report("uninitialised arguments", probes.compared, &probes.differences);
}

/// Programs that show the type of one argument each.
struct Probes<'a> {
    kernel: &'a LiveKernel,
    /// What the calling thread holds.
    caps: ProgCaps,
    differences: Vec<String>,
    compared: usize,
}

impl Probes<'_> {
    /// Probes every prototype that is available to a program type, once a type.
    fn all(&mut self) {
        let config = KernelConfig::of_host().unwrap_or_default();
        let mut seen = HashSet::new();
        for subject in SUBJECTS {
            if self.load(subject, &[exit()]).is_empty() {
                continue;
            }
            let prog = subject.ctx(self.caps, &config);
            for &id in HelperId::ALL {
                let Ok((_, proto)) = get_helper_proto(id as i32, &prog) else { continue };
                let callable = Availability::ours(id as i32, &prog, true) == Availability::Available;
                if callable && seen.insert((subject.prog_type, id, std::ptr::from_ref(proto))) {
                    self.helper(subject, id, proto);
                }
            }
        }
    }

    fn has_task(&self) -> bool {
        self.caps.perfmon
    }

    fn helper(&mut self, subject: &Subject, id: HelperId, proto: &FuncProto) {
        let num_params = proto.num_params();
        let mut setup = self.prologue(subject);
        for i in 0..num_params {
            let (reg, arg) = (i as u8 + 1, proto.arg_type[i]);
            self.argument(subject, id, proto, i, &setup);
            let Some(valid) = self.valid_value(subject, reg, arg, proto.arg_btf_id[i]) else { return };
            setup.extend(valid);
        }
        if self.caps.perfmon && has_packet(subject) && id != HelperId::TailCall {
            let mut insns = setup.clone();
            insns.extend([
                call(id as i32),
                Insn::new(BPF_LDX | BPF_MEM | BPF_B, 1, 9, 0, 0),
                mov_imm(0, 0),
                exit(),
            ]);
            let log = self.load(subject, &insns);
            let text = if bpf_helper_changes_pkt_data(id) {
                "R9 invalid mem access 'scalar'"
            } else {
                "R9 offset is outside of the packet"
            };
            self.expect(
                log.contains(text) || log.contains("cannot pass map_type"),
                subject,
                id,
                0,
                "packet data",
                &log,
            );
        }
        // No further argument, and the result.
        let mut insns = setup;
        insns.extend([
            call(id as i32),
            Insn::new(BPF_LDX | BPF_MEM | BPF_DW, 1, 0, 0, 0),
            mov_imm(0, 0),
            exit(),
        ]);
        let log = self.load(subject, &insns);
        let unfinished = ["cannot pass map_type", "not supported for program type", "supported only for"]
            .iter()
            .any(|text| log.contains(text));
        if num_params < 5 {
            self.expect(
                !log.contains(&format!("R{} !read_ok", num_params + 1)),
                subject,
                id,
                num_params,
                "count",
                &log,
            );
        }
        if id == HelperId::TailCall || unfinished {
            return;
        }
        let result = match proto.ret_type {
            RetType::RET_INTEGER => "R0 invalid mem access 'scalar'",
            RetType::RET_VOID => "R0 !read_ok",
            RetType::RET_PTR_TO_MAP_VALUE => "processed",
            RetType::RET_PTR_TO_MAP_VALUE_OR_NULL => "R0 invalid mem access 'map_value_or_null'",
            RetType::RET_PTR_TO_SOCKET_OR_NULL => "R0 invalid mem access 'sock_or_null'",
            RetType::RET_PTR_TO_SOCK_COMMON_OR_NULL => "R0 invalid mem access 'sock_common_or_null'",
            RetType::RET_PTR_TO_TCP_SOCK_OR_NULL => "R0 invalid mem access 'tcp_sock_or_null'",
            RetType::RET_PTR_TO_RINGBUF_MEM_OR_NULL => "R0 invalid mem access 'ringbuf_mem_or_null'",
            RetType::RET_PTR_TO_BTF_ID_OR_NULL => "R0 invalid mem access 'ptr_or_null_'",
            RetType::RET_PTR_TO_BTF_ID_TRUSTED => "processed",
            _ => "",
        };
        self.expect(log.contains(result), subject, id, 0, "result", &log);
    }

    /// All probes of argument `i`, after `setup` of those before it.
    fn argument(&mut self, subject: &Subject, id: HelperId, proto: &FuncProto, i: usize, setup: &[Insn]) {
        let (n, arg) = (i as u8 + 1, proto.arg_type[i]);
        let rdonly_map = self.kernel.rdonly_map;
        let has_task = self.has_task();
        let perfmon = self.caps.perfmon;
        let mut probe =
            |value: &[Insn], rest: &[Insn], what: &str, expected: Option<&str>, unexpected: Option<&str>| {
                let mut insns = setup.to_vec();
                insns.extend_from_slice(value);
                insns.extend_from_slice(rest);
                insns.extend([call(id as i32), mov_imm(0, 0), exit()]);
                let log = self.load(subject, &insns);
                let good = expected.is_none_or(|text| log.contains(text))
                    && unexpected.is_none_or(|text| !log.contains(text));
                self.expect(good, subject, id, i, what, &log);
            };
        let is_memory = [ArgType::ARG_PTR_TO_MEM, ArgType::ARG_PTR_TO_MAP_VALUE, ArgType::ARG_PTR_TO_MAP_KEY];
        if !perfmon {
            if is_memory.contains(&arg.base()) {
                let size = if arg.base() == ArgType::ARG_PTR_TO_MEM && !arg.has(MEM_FIXED_SIZE) {
                    vec![mov_imm(n + 1, 8)]
                } else {
                    vec![]
                };
                let text = format!("invalid read from stack R{n} off");
                let (some, none) =
                    if arg.has(MEM_UNINIT) { (None, Some(&*text)) } else { (Some(&*text), None) };
                probe(&[mov_reg(n, 10), add_imm(n, -256)], &size, "uninitialised", some, none);
            }
            return;
        }
        if i > 0 {
            probe(&[], &[], "is an argument", Some(&format!("R{n} !read_ok")), None);
        }
        let type_complaint = format!("R{n} type=");
        if arg == ArgType::ARG_ANYTHING {
            probe(&[mov_reg(n, 10)], &[], "anything", None, Some(&type_complaint));
            return;
        }
        let types = compatible_types(arg);
        if matches!(arg.base(), ArgType::ARG_CONST_SIZE | ArgType::ARG_CONST_SIZE_OR_ZERO) {
            probe(
                &[mov_reg(n, 10)],
                &[],
                "size type",
                Some(&format!("R{n} type=fp expected={types}\n")),
                None,
            );
            let zero = format!("R{n} invalid zero-sized read");
            let (some, none) =
                if arg == ArgType::ARG_CONST_SIZE { (Some(&*zero), None) } else { (None, Some(&*zero)) };
            probe(&[mov_imm(n, 0)], &[], "zero size", some, none);
            return;
        }
        if arg == ArgType::ARG_CONST_ALLOC_SIZE_OR_ZERO {
            probe(
                &[mov_reg(n, 10)],
                &[],
                "size type",
                Some(&format!("R{n} type=fp expected={types}\n")),
                None,
            );
            return;
        }
        let scalar = format!("R{n} type=scalar expected={types}\n");
        probe(&[mov_imm(n, 1)], &[], "type", Some(&scalar), None);
        let (some, none) = if arg.may_be_null() { (None, Some(&*scalar)) } else { (Some(&*scalar), None) };
        probe(&[mov_imm(n, 0)], &[mov_imm(n + 1, 0)], "null", some, none);
        if arg.has(OBJ_RELEASE) && arg.base() == ArgType::ARG_PTR_TO_BTF_ID_SOCK_COMMON && has_sk(subject) {
            let text = format!("R{n} must be referenced when passed to release function");
            probe(&[mov_reg(n, 8)], &[], "release", Some(&text), None);
        }
        if let Some(BtfTypeRef::Struct(name)) = proto.arg_btf_id[i]
            && has_task
        {
            let text = format!("R{n} is of type task_struct but {name} is expected");
            let (some, none) = if name == TASK { (None, Some(&*text)) } else { (Some(&*text), None) };
            probe(&[mov_reg(n, 7)], &[], "BTF type", some, none);
        }
        if arg.base() == ArgType::ARG_PTR_TO_MEM {
            let size = if arg.has(MEM_FIXED_SIZE) { vec![] } else { vec![mov_imm(n + 1, 8)] };
            let forbidden = "write into map forbidden";
            let (some, none) =
                if arg.has(MEM_WRITE) { (Some(forbidden), None) } else { (None, Some(forbidden)) };
            probe(&ld_map(n, BPF_PSEUDO_MAP_VALUE, rdonly_map), &size, "direction", some, none);
        }
        if arg.has(MEM_FIXED_SIZE) {
            let verb = if arg.has(MEM_WRITE) { "write to" } else { "read from" };
            let text = format!("invalid {verb} stack R{n} off=-1 size={}", proto.arg_size[i]);
            probe(&[mov_reg(n, 10), add_imm(n, -1)], &[], "fixed size", Some(&text), None);
            let misaligned = "misaligned stack access";
            let (some, none) =
                if arg.has(MEM_ALIGNED) { (Some(misaligned), None) } else { (None, Some(misaligned)) };
            probe(&[mov_reg(n, 10), add_imm(n, -63)], &[], "alignment", some, none);
        }
        if has_packet(subject) {
            let refusal = "helper access to the packet is not allowed";
            let (some, none) = if proto.pkt_access { (None, Some(refusal)) } else { (Some(refusal), None) };
            probe(&[mov_reg(n, 9)], &[], "packet", some, none);
        }
    }

    /// R6: context. R7: current task, R8: socket, R9: packet; where the program type has them. 64 bytes of stack.
    fn prologue(&self, subject: &Subject) -> Vec<Insn> {
        let mut insns = vec![mov_reg(6, 1)];
        if has_sk(subject) {
            const SK: i16 = 168;
            insns.push(Insn::new(BPF_LDX | BPF_MEM | BPF_DW, 8, 1, SK, 0));
            insns.extend([Insn::new(BPF_JMP | BPF_JNE | BPF_K, 8, 0, 2, 0), mov_imm(0, 0), exit()]);
        }
        match subject.prog_type {
            ProgType::Xdp => insns.push(Insn::new(BPF_LDX | BPF_MEM | BPF_W, 9, 1, 0, 0)),
            ProgType::SchedCls | ProgType::SkSkb | ProgType::LwtXmit => {
                insns.push(Insn::new(BPF_LDX | BPF_MEM | BPF_W, 9, 1, 76, 0))
            }
            _ => {}
        }
        if self.has_task() {
            insns.extend([call(HelperId::GetCurrentTaskBtf as i32), mov_reg(7, 0)]);
        }
        insns.extend((1..=8).map(|slot| Insn::new(BPF_ST | BPF_MEM | BPF_DW, 10, 0, -8 * slot, 0)));
        insns
    }

    /// Sets a register so that the argument is accepted; `None` where that takes more than a few instructions.
    fn valid_value(
        &self,
        subject: &Subject,
        reg: u8,
        arg: ArgType,
        btf_id: Option<BtfTypeRef>,
    ) -> Option<Vec<Insn>> {
        let memory = [ArgType::ARG_PTR_TO_MAP_VALUE, ArgType::ARG_PTR_TO_MEM].contains(&arg.base());
        if arg.may_be_null() && !memory {
            return Some(vec![mov_imm(reg, 0)]);
        }
        Some(match arg.base() {
            ArgType::ARG_ANYTHING => vec![mov_imm(reg, 0)],
            ArgType::ARG_CONST_SIZE
            | ArgType::ARG_CONST_SIZE_OR_ZERO
            | ArgType::ARG_CONST_ALLOC_SIZE_OR_ZERO => {
                vec![mov_imm(reg, 8)]
            }
            ArgType::ARG_PTR_TO_CTX => vec![mov_reg(reg, 6)],
            ArgType::ARG_CONST_MAP_PTR => ld_map(reg, BPF_PSEUDO_MAP_FD, self.kernel.map).to_vec(),
            ArgType::ARG_PTR_TO_MAP_KEY | ArgType::ARG_PTR_TO_MAP_VALUE | ArgType::ARG_PTR_TO_MEM => {
                vec![mov_reg(reg, 10), add_imm(reg, -64)]
            }
            ArgType::ARG_PTR_TO_BTF_ID_SOCK_COMMON | ArgType::ARG_PTR_TO_SOCK_COMMON
                if has_sk(subject) && !arg.has(OBJ_RELEASE) =>
            {
                vec![mov_reg(reg, 8)]
            }
            ArgType::ARG_PTR_TO_BTF_ID if self.has_task() && btf_id == Some(BtfTypeRef::Struct(TASK)) => {
                vec![mov_reg(reg, 7)]
            }
            _ => return None,
        })
    }

    fn load(&self, subject: &Subject, insns: &[Insn]) -> String {
        self.kernel.load(subject, insns, c"GPL").1
    }

    fn expect(&mut self, good: bool, subject: &Subject, id: HelperId, arg: usize, what: &str, log: &str) {
        self.compared += 1;
        if !good {
            self.differences.push(format!(
                "{subject:?} {id:?} argument {}: {what}: {}",
                arg + 1,
                complaint(log)
            ));
        }
    }
}

/// Context has a socket at a known place.
fn has_sk(subject: &Subject) -> bool {
    matches!(subject.prog_type, ProgType::SchedCls | ProgType::CgroupSkb)
}

/// The probes have a pointer to the packet.
fn has_packet(subject: &Subject) -> bool {
    matches!(subject.prog_type, ProgType::Xdp | ProgType::SchedCls | ProgType::SkSkb | ProgType::LwtXmit)
}

/// Types of registers that fit an argument, as `check_reg_type` lists them.
fn compatible_types(arg: ArgType) -> &'static str {
    match arg.base() {
        ArgType::ARG_PTR_TO_MAP_KEY | ArgType::ARG_PTR_TO_MAP_VALUE | ArgType::ARG_PTR_TO_MEM => {
            "fp, pkt, pkt_meta, map_key, map_value, mem, ringbuf_mem, buf, trusted_ptr_"
        }
        ArgType::ARG_CONST_SIZE | ArgType::ARG_CONST_SIZE_OR_ZERO | ArgType::ARG_CONST_ALLOC_SIZE_OR_ZERO => {
            "scalar"
        }
        ArgType::ARG_CONST_MAP_PTR => "map_ptr",
        ArgType::ARG_PTR_TO_CTX => "ctx",
        ArgType::ARG_PTR_TO_SOCK_COMMON => "sock_common, sock, tcp_sock, xdp_sock",
        ArgType::ARG_PTR_TO_BTF_ID_SOCK_COMMON => "sock_common, sock, tcp_sock, xdp_sock, ptr_, trusted_ptr_",
        ArgType::ARG_PTR_TO_SOCKET => "sock",
        ArgType::ARG_PTR_TO_BTF_ID => "ptr_, trusted_ptr_, rcu_ptr_",
        ArgType::ARG_PTR_TO_SPIN_LOCK | ArgType::ARG_KPTR_XCHG_DEST => "map_value, ptr_",
        ArgType::ARG_PTR_TO_RINGBUF_MEM => "ringbuf_mem",
        ArgType::ARG_PTR_TO_PERCPU_BTF_ID => "percpu_ptr_, percpu_rcu_ptr_, percpu_trusted_ptr_",
        ArgType::ARG_PTR_TO_FUNC => "func",
        ArgType::ARG_PTR_TO_STACK => "fp",
        ArgType::ARG_PTR_TO_CONST_STR | ArgType::ARG_PTR_TO_TIMER => "map_value",
        ArgType::ARG_PTR_TO_DYNPTR => "fp, dynptr_ptr",
        _ => "?",
    }
}

/// The line of a log that says why.
fn complaint(log: &str) -> &str {
    log.lines().rfind(|line| !line.is_empty() && !line.starts_with("processed ")).unwrap_or("accepted")
}

fn report(what: &str, compared: usize, differences: &[String]) {
    eprintln!("{what}: {compared} programs compared");
    for line in differences.iter().take(60) {
        eprintln!("{line}");
    }
    assert!(differences.is_empty(), "{} differences", differences.len());
}

fn mov_imm(dst: u8, imm: i32) -> Insn {
    Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm)
}

fn mov_reg(dst: u8, src: u8) -> Insn {
    Insn::new(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
}

fn add_imm(dst: u8, imm: i32) -> Insn {
    Insn::new(BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, imm)
}

fn call(id: i32) -> Insn {
    Insn::new(BPF_JMP | BPF_CALL, 0, 0, 0, id)
}

fn exit() -> Insn {
    Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
}

fn ld_map(dst: u8, pseudo: u8, fd: i32) -> [Insn; 2] {
    [Insn::new(BPF_LD | BPF_IMM | BPF_DW, dst, pseudo, 0, fd), Insn::default()]
}
