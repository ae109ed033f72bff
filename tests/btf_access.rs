//! Random iterator and BTF tracepoint programs, which follow pointers through the kernel's structures and pass them to
//! helpers, through our verifier and the live kernel: same verdict, same log at level 2.
//!
//! Needs a kernel of the emulated series and the right to load programs; says so and passes where it has neither.
//! `BPFTWIN_TEST_PROGRAMS` and `BPFTWIN_TEST_SEED` set the number of programs and where they start.

mod live;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use bpftwin::btf::{Btf, BtfType};
use bpftwin::kernel::config::KernelConfig;
use bpftwin::syscall::prog_load::{Loader, prepare};
use bpftwin::verifier::bpf_check;
use bpftwin::verifier::input::CheckInput;
use bpftwin::verifier::log::LogSink;
use bpftwin::verifier::prog::{Objects, TargetProg, VerifierMap};
use bpftwin_uapi::attr::*;
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{AttachType, Cmd, Errno, HelperId, Insn, ProgType};

const LOG_SIZE: u32 = 1 << 19;

struct NoObjects;

impl Objects for NoObjects {
    fn map_by_fd(&self, _fd: i32) -> Result<Arc<VerifierMap>, Errno> {
        Err(Errno::EBADF)
    }

    fn btf_by_fd(&self, _fd: i32) -> Result<Arc<Btf>, Errno> {
        Err(Errno::EBADF)
    }

    fn prog_by_fd(&self, _fd: i32) -> Result<TargetProg, Errno> {
        Err(Errno::EBADF)
    }

    fn read_user(&self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        // SAFETY: the addresses are those of the test's own instructions and licence.
        unsafe { std::ptr::copy_nonoverlapping(address as *const u8, buf.as_mut_ptr(), buf.len()) };
        Ok(())
    }
}

#[derive(Clone)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl LogSink for Sink {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let mut log = self.0.lock().unwrap();
        let end = offset as usize + bytes.len();
        if log.len() < end {
            log.resize(end, 0);
        }
        log[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        let log = self.0.lock().unwrap();
        bytes.copy_from_slice(&log[offset as usize..offset as usize + bytes.len()]);
        Ok(())
    }
}

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// What programs are attached to.
struct Targets {
    btf: Arc<Btf>,
    iterators: Vec<u32>,
    tracepoints: Vec<u32>,
}

impl Targets {
    fn new(btf: Arc<Btf>) -> Self {
        let named = |prefix: &str, filter: fn(&BtfType<'_>) -> bool| -> Vec<u32> {
            btf.types().filter(|t| filter(t) && btf.type_name(t).starts_with(prefix)).map(|t| t.id).collect()
        };
        let iterators = named("bpf_iter_", |t| t.is_func());
        let known = |id: &u32| {
            let name = btf.type_name(&btf.type_or_void(*id)).into_owned();
            bpftwin::progs::iter::iter_target(&name).is_some()
        };
        let iterators = iterators.into_iter().filter(known).collect();
        let tracepoints = named("btf_trace_", |t| t.is_typedef());
        Targets { iterators, tracepoints, btf }
    }

    /// Structure that a pointer type leads to.
    fn pointee(&self, id: u32) -> Option<u32> {
        self.btf.resolve_ptr(id).filter(BtfType::is_struct).map(|t| t.id)
    }

    /// Structures that the arguments of the function or tracepoint point to.
    fn args(&self, id: u32) -> Vec<Option<u32>> {
        let t = self.btf.type_or_void(id);
        let (proto, skip) = if t.is_func() {
            (self.btf.type_or_void(t.type_()), 0)
        } else {
            (self.btf.type_or_void(self.btf.type_or_void(t.type_()).type_()), 1)
        };
        proto.params().skip(skip).map(|param| self.pointee(param.type_)).collect()
    }

    /// Offset and size of any member of a structure, and what it points to.
    fn member(&self, rng: &mut Rng, id: u32) -> Option<(u32, u32, Option<u32>)> {
        let mut t = self.btf.skip_modifiers(id);
        let mut off = 0;
        for _ in 0..8 {
            let vlen = t.vlen() as usize;
            if !t.is_struct() || vlen == 0 {
                return None;
            }
            // Pointers are what leads further.
            let mut member = t.member(rng.below(vlen) as u32)?;
            for _ in 0..3 {
                if self.pointee(member.type_).is_none() {
                    member = t.member(rng.below(vlen) as u32)?;
                }
            }
            off += t.member_bit_offset(&member) / 8;
            let inner = self.btf.skip_modifiers(member.type_);
            if inner.is_struct() && !rng.one_in(8) {
                t = inner;
                continue;
            }
            let resolved = self.btf.resolve_size(inner).ok()?;
            if resolved.t.is_array() {
                let size = resolved.elem.size().clamp(1, 8);
                let index = rng.below(resolved.total_nelems.max(1) as usize) as u32;
                return Some((off + index * size, size, None));
            }
            return Some((off, resolved.size, self.pointee(member.type_)));
        }
        None
    }
}

const EXIT: Insn = Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);

/// Registers that hold pointers; R6 is the context.
const POINTERS: [u8; 4] = [0, 7, 8, 9];

struct Generator<'a> {
    rng: &'a mut Rng,
    targets: &'a Targets,
    prog: Vec<Insn>,
    args: Vec<Option<u32>>,
    /// Offset of the socket in the context, negative for none.
    sk_offset: i16,
    /// What each register is believed to point to.
    points_to: [Option<u32>; 10],
}

impl Generator<'_> {
    fn push(&mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) {
        self.prog.push(Insn::new(code, dst, src, off, imm));
    }

    fn mov(&mut self, dst: u8, src: u8) {
        self.push(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0);
    }

    fn mov_imm(&mut self, dst: u8, imm: i32) {
        self.push(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm);
    }

    fn call(&mut self, func: HelperId) {
        self.push(BPF_JMP | BPF_CALL, 0, 0, 0, func as i32);
        self.points_to[0] = None;
    }

    /// A register that points to something, where there is one.
    fn pointer(&mut self) -> u8 {
        for _ in 0..6 {
            let reg = self.rng.pick(&POINTERS);
            if self.points_to[reg as usize].is_some() {
                return reg;
            }
        }
        7
    }

    fn load_arg(&mut self) {
        let dst = self.rng.pick(&POINTERS);
        if self.args.is_empty() {
            return self.load_socket(dst);
        }
        let arg =
            if self.rng.one_in(30) { self.rng.below(14) } else { self.rng.below(self.args.len().max(1)) };
        let size = if self.rng.one_in(20) { self.rng.pick(&[BPF_W, BPF_B]) } else { BPF_DW };
        self.push(BPF_LDX | BPF_MEM | size, dst, 6, arg as i16 * 8, 0);
        self.points_to[dst as usize] = self.args.get(arg).copied().flatten();
        if self.rng.one_in(2) {
            self.null_check(dst);
        }
    }

    /// The socket in the context of programs that have one; a task elsewhere.
    fn load_socket(&mut self, dst: u8) {
        let off = self.sk_offset;
        if off < 0 {
            self.call(HelperId::GetCurrentTaskBtf);
            self.points_to[0] = self.targets.btf.find_struct("task_struct");
            return;
        }
        self.push(BPF_LDX | BPF_MEM | BPF_DW, dst, 6, off, 0);
        self.null_check(dst);
        let func = self.rng.pick(&[HelperId::SkcToTcpSock, HelperId::SkcToUnixSock, HelperId::SkcToTcp6Sock]);
        self.mov(1, dst);
        self.call(func);
        self.points_to[0] = self.targets.btf.find_struct("tcp_sock");
        if self.rng.one_in(2) {
            self.null_check(0);
        }
    }

    fn null_check(&mut self, reg: u8) {
        self.push(BPF_JMP | BPF_JNE | BPF_K, reg, 0, 2, 0);
        self.mov_imm(0, 0);
        self.prog.push(EXIT);
    }

    fn load_member(&mut self) {
        let src = self.pointer();
        let dst = self.rng.pick(&POINTERS);
        let Some(id) = self.points_to[src as usize] else { return self.load_arg() };
        let Some((off, size, to)) = self.targets.member(self.rng, id) else { return };
        let (mut off, mut size) = (off as i32, size);
        if self.rng.one_in(12) {
            off += self.rng.pick(&[1, -1, 4, -4, 8, -8]);
        }
        if self.rng.one_in(12) {
            size = self.rng.pick(&[1, 2, 4, 8]);
        }
        let code = match size {
            1 => BPF_B,
            2 => BPF_H,
            4 => BPF_W,
            _ => BPF_DW,
        };
        let Ok(off) = i16::try_from(off) else { return };
        let mode = if size < 8 && self.rng.one_in(5) { BPF_MEMSX } else { BPF_MEM };
        if self.rng.one_in(60) {
            return self.push(BPF_STX | BPF_MEM | code, src, 6, off, 0);
        }
        if self.rng.one_in(60) {
            return self.push(BPF_ST | BPF_MEM | code, src, 0, off, 0);
        }
        self.push(BPF_LDX | mode | code, dst, src, off, 0);
        self.points_to[dst as usize] = to;
        if to.is_some() && self.rng.one_in(3) {
            self.null_check(dst);
        }
    }

    fn arithmetic(&mut self) {
        let reg = self.pointer();
        let imm = self.rng.pick(&[8, 16, -8, 1, 64, 0]);
        if self.rng.one_in(8) {
            self.push(BPF_ALU64 | BPF_ADD | BPF_X, reg, 9, 0, 0);
        } else {
            self.push(BPF_ALU64 | BPF_ADD | BPF_K, reg, 0, 0, imm);
        }
    }

    fn spill(&mut self) {
        let (src, dst) = (self.pointer(), self.rng.pick(&POINTERS));
        if self.rng.one_in(2) {
            self.push(BPF_STX | BPF_MEM | BPF_DW, 10, src, -16, 0);
            self.push(BPF_LDX | BPF_MEM | BPF_DW, dst, 10, -16, 0);
        } else {
            self.mov(dst, src);
        }
        self.points_to[dst as usize] = self.points_to[src as usize];
    }

    fn compare(&mut self) {
        let (a, b) = (self.pointer(), self.pointer());
        let op = self.rng.pick(&[BPF_JEQ, BPF_JNE, BPF_JGT]);
        if self.rng.one_in(2) {
            self.push(BPF_JMP | op | BPF_X, a, b, 1, 0);
        } else {
            self.push(BPF_JMP | op | BPF_K, a, 0, 1, 0);
        }
        let dst = self.pointer();
        self.mov(dst, a);
    }

    /// The sequence file, in R1.
    fn seq_file(&mut self) {
        self.push(BPF_LDX | BPF_MEM | BPF_DW, 1, 6, 0, 0);
        self.push(BPF_LDX | BPF_MEM | BPF_DW, 1, 1, 0, 0);
    }

    fn helper(&mut self) {
        use HelperId::*;
        let reg = self.pointer();
        let name = |generator: &Self| {
            let id = generator.points_to[reg as usize]?;
            let t = generator.targets.btf.type_or_void(id);
            Some(generator.targets.btf.type_name(&t).into_owned())
        };
        match self.rng.below(10) {
            0 => {
                self.seq_file();
                self.mov(2, 10);
                self.push(BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, -8);
                self.push(BPF_ST | BPF_MEM | BPF_DW, 10, 0, -8, 1);
                self.mov_imm(3, 8);
                self.call(SeqWrite);
            }
            1 => {
                self.seq_file();
                self.mov(2, reg);
                let size = self.rng.pick(&[8, 16, 4, 0, 256]);
                self.mov_imm(3, size);
                self.call(SeqWrite);
            }
            2 => {
                self.call(GetCurrentTaskBtf);
                self.points_to[0] = self.targets.btf.find_struct("task_struct");
            }
            3 => {
                self.mov(1, 10);
                self.push(BPF_ALU64 | BPF_ADD | BPF_K, 1, 0, 0, -8);
                self.mov_imm(2, 8);
                self.mov(3, reg);
                self.call(ProbeReadKernel);
            }
            4 => {
                self.mov(1, reg);
                let func = self.rng.pick(&[PerCpuPtr, ThisCpuPtr]);
                self.mov_imm(2, 0);
                self.call(func);
            }
            5 => {
                self.push(BPF_ST | BPF_MEM | BPF_DW, 10, 0, -32, 0);
                self.push(BPF_ST | BPF_MEM | BPF_DW, 10, 0, -24, 0);
                self.mov(1, reg);
                self.mov(2, 10);
                self.push(BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, -32);
                self.mov_imm(3, 16);
                self.mov_imm(4, 0);
                let func = self.rng.pick(&[DPath, GetTaskStack, GetSocketCookie]);
                self.call(func);
            }
            _ => {
                let func = match name(self).as_deref() {
                    Some("task_struct") => self.rng.pick(&[TaskPtRegs, GetTaskStack]),
                    Some("file") => SockFromFile,
                    Some("path") => DPath,
                    _ => self.rng.pick(&[
                        SkcToTcpSock,
                        SkcToTcp6Sock,
                        SkcToTcpRequestSock,
                        SkcToTcpTimewaitSock,
                        SkcToUdp6Sock,
                        SkcToUnixSock,
                        SkcToMptcpSock,
                        SkFullsock,
                        TcpSock,
                        SkRelease,
                        TaskPtRegs,
                        SockFromFile,
                    ]),
                };
                self.mov(1, reg);
                self.call(func);
                self.points_to[0] = match func {
                    SkcToTcpSock => self.targets.btf.find_struct("tcp_sock"),
                    SkcToTcp6Sock => self.targets.btf.find_struct("tcp6_sock"),
                    SkcToUdp6Sock => self.targets.btf.find_struct("udp6_sock"),
                    SkcToUnixSock => self.targets.btf.find_struct("unix_sock"),
                    TaskPtRegs => self.targets.btf.find_struct("pt_regs"),
                    SockFromFile => self.targets.btf.find_struct("socket"),
                    _ => None,
                };
                if self.rng.one_in(2) {
                    self.null_check(0);
                }
            }
        }
    }

    fn step(&mut self) {
        match self.rng.below(20) {
            0..=2 => self.load_arg(),
            3..=12 => self.load_member(),
            13 => self.arithmetic(),
            14 => self.spill(),
            15 => self.compare(),
            16 => {
                let reg = self.pointer();
                self.null_check(reg);
            }
            _ => self.helper(),
        }
    }
}

/// Type and attach type of a program, and what it is attached to.
fn pick_hook(rng: &mut Rng, targets: &Targets) -> (ProgType, u32, u32) {
    let iter = AttachType::TraceIter as u32;
    let raw_tp = AttachType::TraceRawTp as u32;
    match rng.below(40) {
        0 => (ProgType::Tracing, iter, rng.below(targets.btf.nr_types() as usize) as u32),
        1 => (ProgType::Tracing, raw_tp, rng.below(targets.btf.nr_types() as usize) as u32),
        2..=14 => (ProgType::Tracing, raw_tp, rng.pick(&targets.tracepoints)),
        15..=17 => (ProgType::Netfilter, AttachType::Netfilter as u32, 0),
        18..=19 => (ProgType::Kprobe, 0, 0),
        20..=21 => (ProgType::SchedCls, 0, 0),
        22 => (ProgType::SkLookup, AttachType::SkLookup as u32, 0),
        23 => (ProgType::CgroupSockAddr, AttachType::CgroupInet4Connect as u32, 0),
        _ => (ProgType::Tracing, iter, rng.pick(&targets.iterators)),
    }
}

fn generate(rng: &mut Rng, targets: &Targets, prog_type: ProgType, target: u32) -> Vec<Insn> {
    let args = match prog_type {
        ProgType::Netfilter => {
            ["nf_hook_state", "sk_buff"].iter().map(|name| targets.btf.find_struct(name)).collect()
        }
        ProgType::Tracing => targets.args(target),
        _ => Vec::new(),
    };
    let sk_offset = match prog_type {
        ProgType::SchedCls => 168,
        ProgType::SkLookup => 0,
        ProgType::CgroupSockAddr => 64,
        _ => -1,
    };
    let mut generator = Generator { rng, targets, prog: Vec::new(), args, sk_offset, points_to: [None; 10] };
    generator.mov(6, 1);
    for reg in POINTERS {
        generator.mov_imm(reg, 0);
    }
    generator.load_arg();
    for _ in 0..3 + generator.rng.below(8) {
        generator.step();
    }
    generator.mov_imm(0, 0);
    generator.prog.push(EXIT);
    generator.prog
}

fn kernel_answer(attr: &ProgLoad) -> (Result<(), Errno>, String) {
    let mut log = vec![0u8; LOG_SIZE as usize];
    let mut attr = *attr;
    attr.log_buf = log.as_mut_ptr() as u64;
    // SAFETY: the attributes point to memory that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, Cmd::ProgLoad as i32, &raw mut attr, ATTR_SIZE) };
    let result = if fd < 0 {
        Err(Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)))
    } else {
        // SAFETY: the descriptor is ours alone.
        unsafe { libc::close(fd as i32) };
        Ok(())
    };
    (result, text(&log))
}

/// Our answer, or what is not emulated.
fn our_answer(attr: &ProgLoad, loader: &Loader) -> Result<(Result<(), Errno>, String), String> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let mut attr = *attr;
    attr.log_buf = 8;
    let prog = match prepare(&attr, loader) {
        Ok(prog) => prog,
        Err(refusal) => return Ok((Err(refusal.errno), String::new())),
    };
    let outcome = bpf_check(CheckInput {
        prog,
        attr,
        objects: loader.objects.clone(),
        btf_vmlinux: loader.btf_vmlinux.clone(),
        log_sink: Some(Box::new(Sink(log.clone()))),
        bcf: None,
    });
    if let Some(what) = outcome.not_emulated {
        return Err(what);
    }
    let text = text(&log.lock().unwrap());
    Ok((outcome.result, text))
}

/// The log without its times.
fn text(log: &[u8]) -> String {
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    let log = String::from_utf8_lossy(&log[..end]);
    log.lines()
        .filter(|line| !line.starts_with("verification time"))
        .fold(String::new(), |text, line| text + line + "\n")
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn same_answers_as_the_live_kernel() {
    let vmlinux = Path::new("/sys/kernel/btf/vmlinux");
    if !live::can_load() || !vmlinux.exists() {
        return;
    }
    let btf = Arc::new(Btf::from_kernel_file(vmlinux).unwrap());
    let targets = Targets::new(Arc::clone(&btf));
    let loader = Loader {
        cap_bpf: true,
        cap_perfmon: true,
        cap_net_admin: true,
        cap_sys_admin: true,
        unprivileged_bpf_disabled: true,
        objects: Arc::new(NoObjects),
        btf_vmlinux: Some(btf),
        config: Arc::new(KernelConfig::of_host().unwrap_or_default()),
    };
    let mut rng = Rng(variable("BPFTWIN_TEST_SEED", 0x9e37_79b9_7f4a_7c15));
    let (mut accepted, mut different) = (0, Vec::new());
    let mut not_emulated: HashMap<String, u32> = HashMap::new();
    let programs = variable("BPFTWIN_TEST_PROGRAMS", 3000);
    for _ in 0..programs {
        let (prog_type, attach_type, target) = pick_hook(&mut rng, &targets);
        let insns = generate(&mut rng, &targets, prog_type, target);
        let mut attr: ProgLoad = bytemuck::Zeroable::zeroed();
        attr.prog_type = prog_type as u32;
        attr.expected_attach_type = attach_type;
        attr.attach_btf_id = target;
        attr.insns = insns.as_ptr() as u64;
        attr.insn_cnt = insns.len() as u32;
        attr.license = if rng.one_in(40) { c"MIT".as_ptr() } else { c"GPL".as_ptr() } as u64;
        attr.log_level = 2;
        attr.log_size = LOG_SIZE;
        let may_sleep = attach_type == AttachType::TraceIter as u32;
        attr.prog_flags = if may_sleep && rng.one_in(4) { BPF_F_SLEEPABLE } else { 0 };
        if rng.one_in(3) {
            attr.prog_flags |= BPF_F_TEST_STATE_FREQ;
        }
        let theirs = kernel_answer(&attr);
        match our_answer(&attr, &loader) {
            Err(what) => *not_emulated.entry(what).or_default() += 1,
            Ok(ours) if ours == theirs => accepted += u64::from(ours.0.is_ok()),
            Ok(ours) => different.push((attr, ours, theirs)),
        }
    }
    eprintln!("{programs} programs, {accepted} accepted, not emulated: {not_emulated:?}");
    if let Some((attr, ours, theirs)) = different.first() {
        panic!(
            "{} programs differ; one of them, type {} attached to {}:\nours: {:?}\n{}\nkernel: {:?}\n{}",
            different.len(),
            attr.prog_type,
            attr.attach_btf_id,
            ours.0,
            ours.1,
            theirs.0,
            theirs.1
        );
    }
}
