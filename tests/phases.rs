//! Phases before the walk against the live kernel: what the log says up to the live registers, for random programs.
//!
//! Needs a kernel of the emulated series and the right to load programs; says so and passes where it has neither.

mod live;

use std::path::Path;
use std::sync::Arc;

use bpftwin::btf::Btf;
use bpftwin::verifier::check::bpf_check;
use bpftwin::verifier::input::CheckInput;
use bpftwin::verifier::log::VecSink;
use bpftwin::verifier::prog::{Objects, Prog, TargetProg, VerifierMap};
use bpftwin_uapi::attr::{ATTR_SIZE, ProgLoad};
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Cmd, Errno, Insn, ProgType};

struct NoObjects;

impl Objects for NoObjects {
    fn map_by_fd(&self, _: i32) -> Result<Arc<VerifierMap>, Errno> {
        Err(Errno::EBADF)
    }

    fn prog_by_fd(&self, _: i32) -> Result<TargetProg, Errno> {
        Err(Errno::EBADF)
    }

    fn btf_by_fd(&self, _: i32) -> Result<Arc<Btf>, Errno> {
        Err(Errno::EBADF)
    }

    fn read_user(&self, _: u64, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::EFAULT)
    }
}

/// A small generator of numbers: the test must be the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        ((self.0 >> 33) % u64::from(n)) as u32
    }

    fn one_in(&mut self, n: u32) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u32) as usize]
    }
}

const TYPES: &[ProgType] =
    &[ProgType::SocketFilter, ProgType::Kprobe, ProgType::Xdp, ProgType::SchedCls, ProgType::CgroupSkb];

/// One instruction, or the two halves of one, of a program of about `len`.
fn instruction(r: &mut Random, at: usize, len: usize, subprogs: &[usize], out: &mut Vec<Insn>) {
    let (dst, src) = (r.below(10) as u8, r.below(10) as u8);
    let target = |r: &mut Random| (r.below(len as u32) as i32 - at as i32 - 1) as i16;
    let forward = |r: &mut Random| r.below(4.min((len - at) as u32)) as i16;
    let alu =
        [BPF_ADD, BPF_SUB, BPF_MUL, BPF_OR, BPF_AND, BPF_LSH, BPF_RSH, BPF_XOR, BPF_MOV, BPF_ARSH, BPF_DIV];
    let jmp = [BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET, BPF_JNE, BPF_JSGT, BPF_JSLT, BPF_JLT, BPF_JLE];
    let insn = match r.below(16) {
        0..3 => Insn::new(r.pick(&[BPF_ALU, BPF_ALU64]) | r.pick(&alu) | BPF_X, dst, src, 0, 0),
        3 => Insn::new(
            r.pick(&[BPF_ALU, BPF_ALU64]) | r.pick(&alu) | BPF_K,
            dst,
            0,
            0,
            r.below(1 << 20) as i32,
        ),
        4 => Insn::new(
            BPF_STX | BPF_MEM | r.pick(&[BPF_B, BPF_H, BPF_W, BPF_DW]),
            10,
            src,
            -8 * (1 + r.below(9) as i16),
            0,
        ),
        5 => Insn::new(
            BPF_LDX | r.pick(&[BPF_MEM, BPF_MEMSX]) | r.pick(&[BPF_B, BPF_H, BPF_W]),
            dst,
            src,
            r.below(40) as i16,
            0,
        ),
        6 => Insn::new(BPF_ST | BPF_MEM | BPF_DW, dst, 0, -8, r.below(1000) as i32),
        7 => {
            let imm =
                r.pick(&[0, 1, 0x40, 0x41, 0x50, 0xa1, BPF_XCHG, BPF_CMPXCHG, BPF_LOAD_ACQ, BPF_STORE_REL]);
            Insn::new(BPF_STX | BPF_ATOMIC | r.pick(&[BPF_W, BPF_DW]), dst, src, -16, imm)
        }
        // Whether there is bpf_probe_write_user depends on the live kernel's lockdown.
        8 => match r.below(216) {
            36 => Insn::new(BPF_JMP | BPF_CALL, 0, 0, 0, 7),
            id => Insn::new(BPF_JMP | BPF_CALL, 0, 0, 0, id as i32),
        },
        9 if !subprogs.is_empty() => {
            let imm = r.pick(subprogs) as i32 - at as i32 - 1;
            if r.one_in(4) {
                out.push(Insn::new(BPF_LD | BPF_IMM | BPF_DW, dst, BPF_PSEUDO_FUNC, 0, imm));
                Insn::default()
            } else {
                Insn::new(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, imm)
            }
        }
        10 => {
            out.push(Insn::new(BPF_LD | BPF_IMM | BPF_DW, dst, 0, 0, r.below(1 << 30) as i32));
            Insn::new(0, 0, 0, 0, r.below(5) as i32)
        }
        11 => Insn::new(r.pick(&[BPF_JMP, BPF_JMP32]) | r.pick(&jmp) | BPF_X, dst, src, forward(r), 0),
        12 => Insn::new(
            r.pick(&[BPF_JMP, BPF_JMP32]) | r.pick(&jmp) | BPF_K,
            dst,
            0,
            if r.one_in(3) { target(r) } else { forward(r) },
            -1,
        ),
        13 => match r.below(6) {
            0 => Insn::new(BPF_JMP | BPF_JA, 0, 0, forward(r), 0),
            1 => Insn::new(BPF_JMP32 | BPF_JA, 0, 0, 0, i32::from(forward(r))),
            2 => Insn::new(BPF_JMP | BPF_JCOND, 0, 0, forward(r), 0),
            3 => Insn::new(BPF_LD | r.pick(&[BPF_ABS, BPF_IND]) | BPF_W, 0, src, 0, 14),
            4 => Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
            _ => Insn::new(BPF_JMP | BPF_JA, 0, 0, target(r), 0),
        },
        14 => Insn::new(r.pick(&[BPF_ALU, BPF_ALU64]) | BPF_END, dst, 0, 0, r.pick(&[16, 32, 64])),
        _ if r.one_in(40) => Insn::new(r.below(256) as u8, dst, src, 0, 0),
        _ => Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, 7),
    };
    out.push(insn);
}

fn program(r: &mut Random) -> Vec<Insn> {
    let lens: Vec<usize> = (0..1 + r.below(4) * r.below(2)).map(|_| 2 + r.below(14) as usize).collect();
    let starts: Vec<usize> = lens.iter().scan(0, |at, len| Some(std::mem::replace(at, *at + len))).collect();
    let mut out = Vec::new();
    for (i, (&start, &len)) in starts.iter().zip(&lens).enumerate() {
        // Mostly without recursion.
        let callees = if r.one_in(20) { &starts[..] } else { &starts[i + 1..] };
        while out.len() < start + len - 2 {
            let at = out.len() - start;
            let before = out.len();
            let mut one = Vec::new();
            let callees: Vec<usize> = callees.iter().map(|&c| c.wrapping_sub(start)).collect();
            instruction(r, at, len, &callees, &mut one);
            out.extend(one);
            if out.len() > start + len - 2 {
                out.truncate(before);
                out.push(Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1));
            }
        }
        out.push(Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0));
        out.push(Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
    }
    out
}

/// Puts something into every register, and into some of the stack.
fn initialise(r: &mut Random, insns: &mut Vec<Insn>) {
    let mut head = Vec::new();
    for regno in [0, 2, 3, 4, 5, 6, 7, 8, 9] {
        head.push(match r.below(6) {
            0 => Insn::new(BPF_ALU64 | BPF_MOV | BPF_X, regno, 10, 0, 0),
            1 => Insn::new(BPF_ALU64 | BPF_MOV | BPF_X, regno, 1, 0, 0),
            2 => Insn::new(BPF_LDX | BPF_MEM | BPF_W, regno, 1, 0, 0),
            _ => Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, regno, 0, 0, r.below(100) as i32 - 30),
        });
    }
    for slot in 1..r.below(4) as i16 {
        head.push(Insn::new(BPF_STX | BPF_MEM | BPF_DW, 10, r.below(10) as u8, -8 * slot, 0));
    }
    insns.splice(0..0, head);
}

fn ours(btf: &Option<Arc<Btf>>, prog_type: ProgType, insns: &[Insn]) -> (Result<(), Errno>, String) {
    let sink = VecSink::default();
    let mut attr: ProgLoad = bytemuck::Zeroable::zeroed();
    attr.log_level = 2 | 8;
    attr.log_buf = 1;
    attr.log_size = 1 << 16;
    let mut prog = Prog::new(prog_type, insns.to_vec());
    prog.bpf_capable = true;
    prog.perfmon_capable = true;
    prog.sys_admin_capable = true;
    prog.gpl_compatible = true;
    let outcome = bpf_check(CheckInput {
        prog,
        attr,
        objects: Arc::new(NoObjects),
        btf_vmlinux: btf.clone(),
        log_sink: Some(Box::new(sink.clone())),
        bcf: None,
    });
    (outcome.result, sink.text())
}

/// Loads into the live kernel; the log keeps its beginning.
fn load(prog_type: ProgType, insns: &[Insn]) -> (Result<(), i32>, String) {
    let mut log = vec![0u8; 1 << 16];
    let mut attr: ProgLoad = bytemuck::Zeroable::zeroed();
    attr.prog_type = prog_type as u32;
    attr.insns = insns.as_ptr() as u64;
    attr.insn_cnt = insns.len() as u32;
    attr.license = c"GPL".as_ptr() as u64;
    attr.log_level = 2 | 8;
    attr.log_buf = log.as_mut_ptr() as u64;
    attr.log_size = log.len() as u32;
    // SAFETY: the attributes point to memory that outlives the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, Cmd::ProgLoad as i32, &raw mut attr, ATTR_SIZE) };
    let result = if fd < 0 {
        Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    } else {
        // SAFETY: the descriptor is ours alone.
        unsafe { libc::close(fd as i32) };
        Ok(())
    };
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    (result, String::from_utf8_lossy(&log[..end]).into_owned())
}

/// The log up to the live registers, and whether there is more.
fn head(log: &str) -> (String, bool) {
    let mut lines: Vec<&str> = Vec::new();
    let mut in_live_regs = false;
    for line in log.lines() {
        in_live_regs |= line == "Live regs before insn:";
        // State of the first instruction, or what is said of its loop.
        if in_live_regs && (line.starts_with("0: R1=") || line.starts_with("SCC enter")) {
            return (lines.join("\n"), true);
        }
        lines.push(line);
    }
    (lines.join("\n"), in_live_regs)
}

#[test]
fn logs_begin_alike() {
    if !live::can_load() {
        return;
    }
    let btf = Btf::from_kernel_file(Path::new("/sys/kernel/btf/vmlinux")).ok().map(Arc::new);
    let mut r = Random(1);
    let (mut passed, mut failed, mut differ) = (0, 0, 0);
    for n in 0..10_000 {
        let insns = program(&mut r);
        let prog_type = r.pick(TYPES);
        let (our_result, our_log) = ours(&btf, prog_type, &insns);
        let (live_result, live_log) = load(prog_type, &insns);
        let (our_head, live_head) = (head(&our_log), head(&live_log));
        let (same, what) = if live_head.1 {
            passed += 1;
            (our_log.starts_with(&live_head.0), "live registers")
        } else {
            failed += 1;
            let same_error = our_result.map_err(|err| err.0) == live_result;
            (same_error && our_head.0 == live_head.0, "error")
        };
        if !same {
            differ += 1;
            if differ <= 5 {
                eprintln!(
                    "#{n} {prog_type:?} {what}\nours: {our_result:?}\n{our_log}\nlive: {live_result:?}\n{}\n",
                    live_head.0
                );
            }
        }
    }
    eprintln!("{passed} got to the walk, {failed} did not");
    assert!(passed > 1000 && failed > 500);
    assert_eq!(differ, 0);
}

/// Functions each of which could call the next one fifty times make more paths than can be walked.
#[test]
fn stack_depth_of_many_call_paths() {
    const LEVELS: i32 = 6;
    const CALLS: i32 = 50;
    let mut insns = Vec::new();
    for level in 1..=LEVELS {
        insns.push(Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0));
        insns.push(Insn::new(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, CALLS as i16, 0));
        for _ in 0..CALLS {
            let distance = level * (CALLS + 3) - insns.len() as i32 - 1;
            insns.push(Insn::new(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, distance));
        }
        insns.push(Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
    }
    insns.push(Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0));
    insns.push(Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
    assert_eq!(ours(&None, ProgType::SocketFilter, &insns).0, Ok(()));
}

#[test]
#[ignore = "a fuzzer"]
fn whole_logs_alike() {
    if !live::can_load() {
        return;
    }
    let btf = Btf::from_kernel_file(Path::new("/sys/kernel/btf/vmlinux")).ok().map(Arc::new);
    let mut r = Random(std::env::var("SEED").ok().and_then(|s| s.parse().ok()).unwrap_or(7));
    let count = std::env::var("COUNT").ok().and_then(|s| s.parse().ok()).unwrap_or(2000);
    let (mut accepted, mut differ, mut missing) = (0, 0, 0);
    for n in 0..count {
        let mut insns = program(&mut r);
        initialise(&mut r, &mut insns);
        let prog_type = r.pick(TYPES);
        let (our_result, our_log) = ours(&btf, prog_type, &insns);
        if our_result == Err(Errno::EOPNOTSUPP) {
            missing += 1;
            continue;
        }
        let (live_result, live_log) = load(prog_type, &insns);
        accepted += u32::from(live_result.is_ok());
        if our_result.map_err(|err| err.0) != live_result || our_log != live_log {
            differ += 1;
            if differ <= 5 {
                eprintln!("#{n} {prog_type:?} {our_result:?} {live_result:?}");
                let mut lines = our_log.lines().zip(live_log.lines());
                let at = lines.position(|(a, b)| a != b).unwrap_or(0);
                for line in our_log.lines().skip(at.saturating_sub(12)).take(15) {
                    eprintln!("  ours {line}");
                }
                for line in live_log.lines().skip(at).take(3) {
                    eprintln!("  live {line}");
                }
            }
        }
    }
    eprintln!("{accepted} accepted, {differ} differ, {missing} not emulated");
    assert_eq!(differ, 0);
}
