//! Breaks programs a little.

use bpftwin_uapi::Insn;

use crate::case::Case;
use crate::rng::Rng;

/// Changes one thing of a program.
pub fn mutate(case: &mut Case, rng: &mut Rng) {
    let len = case.insns.len();
    if len == 0 {
        return;
    }
    let at = rng.below(len as u64) as usize;
    let insn = &mut case.insns[at];
    match rng.below(14) {
        0 => insn.code ^= 1 << rng.below(8),
        1 => insn.regs = insn.regs & 0xf0 | rng.below(11) as u8,
        2 => insn.regs = insn.regs & 0x0f | (rng.below(11) as u8) << 4,
        3 => insn.off = insn.off.wrapping_add(rng.range(-9, 9) as i16),
        4 => insn.imm = insn.imm.wrapping_add(rng.range(-9, 9) as i32),
        5 => insn.imm = rng.number() as i32,
        6..9 => {
            let mut removed = vec![false; len];
            removed[at] = true;
            if insn.is_ldimm64() && at + 1 < len {
                removed[at + 1] = true;
            }
            if len > 2 {
                *case = case.without(&removed);
            }
        }
        9 => {
            let other = rng.below(len as u64) as usize;
            let plain = |insn: &Insn| !matches!(insn.class(), 5 | 6 | 0) && insn.code != 0;
            if plain(&case.insns[at]) && plain(&case.insns[other]) {
                case.insns.swap(at, other);
            }
        }
        10 => {
            let other = rng.below(len as u64) as usize;
            let copy = case.insns[other];
            if !matches!(copy.class(), 5 | 6 | 0) {
                case.insns[at] = copy;
            }
        }
        11 => case.prog_flags ^= 1 << rng.below(9),
        12 => {
            if let Some(func) = case.funcs.len().checked_sub(1) {
                let func = rng.below(func as u64 + 1) as usize;
                match rng.below(3) {
                    0 => case.funcs[func].0 = case.funcs[func].0.wrapping_add(rng.range(-1, 1) as u32),
                    1 => case.funcs[func].1 = rng.below(38) as u32,
                    _ => _ = case.funcs.remove(func),
                }
                let len = case.insns.len() as u32;
                case.funcs.retain(|func| func.0 <= len);
            }
        }
        _ => insn.off = rng.range(-16, 16) as i16,
    }
}
