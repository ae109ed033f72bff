//! Programs at the verifier's limits.

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Insn, ProgType};

use crate::case::Case;
use crate::rng::Rng;

const RANDOM: Insn = Insn::new(BPF_JMP | BPF_CALL, 0, 0, 0, 7);
const EXIT: Insn = Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);

const fn mov(dst: u8, imm: i32) -> Insn {
    Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm)
}

/// A program that is too much of something, or almost.
pub fn extreme(rng: &mut Rng) -> Case {
    let insns = match rng.below(5) {
        0 => pending_jumps(rng),
        1 => functions(rng),
        2 => instructions(rng),
        3 => call_chain(rng),
        _ => stack_sum(rng),
    };
    Case {
        prog_type: rng.pick(&[ProgType::SocketFilter, ProgType::SchedCls, ProgType::Kprobe]),
        attach_type: 0,
        prog_flags: 0,
        log_level: rng.pick(&[0, 1, 4, 5]),
        log_size: 1 << 22,
        gpl: true,
        fd_array: 0,
        insns,
        funcs: Vec::new(),
        lines: Vec::new(),
    }
}

/// Branches that all wait to be explored: `BPF_COMPLEXITY_LIMIT_JMP_SEQ`.
fn pending_jumps(rng: &mut Rng) -> Vec<Insn> {
    let count = 8190 + rng.below(6) as i32;
    let mut insns = vec![RANDOM];
    for i in 0..count {
        insns.push(Insn::new(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, (count - i - 1) as i16, i + 1));
    }
    // Nothing that forks a scalar: 6.18.44 follows a null pointer in maybe_fork_scalars where there are too many jumps.
    if rng.chance(50) {
        insns.push(Insn::new(BPF_JMP | BPF_JCOND, 0, 0, 0, 0));
    }
    insns.extend([mov(0, 0), EXIT]);
    insns
}

/// Many functions: `BPF_MAX_SUBPROGS`.
fn functions(rng: &mut Rng) -> Vec<Insn> {
    let count = 253 + rng.below(6) as i32;
    let mut insns = Vec::new();
    for i in 0..count {
        let distance = (count - i - 1) + 2 + 2 * i;
        insns.push(Insn::new(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, distance));
    }
    insns.extend([mov(0, 0), EXIT]);
    for _ in 0..count {
        insns.extend([mov(0, 1), EXIT]);
    }
    insns
}

/// A loop that takes about as many instructions as may be processed.
fn instructions(rng: &mut Rng) -> Vec<Insn> {
    let rounds = rng.pick(&[249_990, 333_330, 333_340, 400_000]);
    vec![
        mov(6, 0),
        RANDOM,
        Insn::new(BPF_ALU64 | BPF_ADD | BPF_K, 6, 0, 0, 1),
        Insn::new(BPF_JMP | BPF_JLT | BPF_K, 6, 0, -3, rounds),
        mov(0, 0),
        EXIT,
    ]
}

/// Calls about as deep as they may be, with some stack each.
fn call_chain(rng: &mut Rng) -> Vec<Insn> {
    let depth = rng.range(6, 9) as usize;
    let stack = rng.pick(&[0, 8, 32, 64, 72, 100]);
    let mut insns = Vec::new();
    for i in 0..depth {
        if stack != 0 {
            insns.push(Insn::new(BPF_ST | BPF_MEM | BPF_B, 10, 0, -(stack as i16), 0));
        }
        if i + 1 < depth {
            insns.push(Insn::new(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 1));
        } else {
            insns.push(mov(0, 0));
        }
        insns.push(EXIT);
    }
    insns
}

/// Two calls whose stacks add up to about the limit, one before a tail call.
fn stack_sum(rng: &mut Rng) -> Vec<Insn> {
    let (a, b) = (rng.range(200, 300), rng.range(200, 300));
    let mut insns = vec![
        Insn::new(BPF_ALU64 | BPF_MOV | BPF_X, 6, 1, 0, 0),
        Insn::new(BPF_ST | BPF_MEM | BPF_B, 10, 0, -a as i16, 0),
        Insn::new(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 2),
        mov(0, 0),
        EXIT,
        Insn::new(BPF_ST | BPF_MEM | BPF_B, 10, 0, -b as i16, 0),
    ];
    if rng.chance(40) {
        // The map of programs is the first of its kind in the table.
        let map =
            crate::kernel::MAPS.iter().position(|spec| spec.map_type == bpftwin_uapi::MapType::ProgArray);
        insns.push(Insn::new(BPF_LD | BPF_IMM | BPF_DW, 2, BPF_PSEUDO_MAP_FD, 0, map.unwrap_or(0) as i32));
        insns.push(Insn::default());
        insns.push(mov(3, 0));
        insns.push(Insn::new(BPF_JMP | BPF_CALL, 0, 0, 0, 12));
    }
    insns.extend([mov(0, 0), EXIT]);
    insns
}
