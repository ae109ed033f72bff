//! What a comparison tells: its outcome where the operands' bounds decide it, and what each outcome says about the
//! operands. `is_branch_taken`, `regs_refine_cond_op`.

use bpftwin_uapi::insn::*;

use super::reg_type::{RegType, flag};
use super::state::RegState;
use super::tnum::Tnum;

/// [`RegState::range`] of a packet pointer known to be at or behind the packet's end: `AT_PKT_END`.
pub const AT_PKT_END: i32 = -1;
/// [`RegState::range`] of a packet pointer known to be behind the packet's end: `BEYOND_PKT_END`.
pub const BEYOND_PKT_END: i32 = -2;

/// The complement of `BPF_JSET`, which has no operation of its own.
const JSET_REVERSED: u8 = BPF_JSET | BPF_X;

/// `is_reg_const`
#[inline]
pub fn is_reg_const(reg: &RegState, subreg32: bool) -> bool {
    reg.type_ == RegType::SCALAR_VALUE
        && if subreg32 { reg.var_off.subreg_is_const() } else { reg.var_off.is_const() }
}

/// `reg_const_value`: the value of a register for which [`is_reg_const`] holds.
#[inline]
pub fn reg_const_value(reg: &RegState, subreg32: bool) -> u64 {
    if subreg32 { reg.var_off.value as u32 as u64 } else { reg.var_off.value }
}

/// `flip_opcode`: the operation for exchanged operands.
fn flip_opcode(opcode: u8) -> u8 {
    match opcode {
        BPF_JGE => BPF_JLE,
        BPF_JGT => BPF_JLT,
        BPF_JLE => BPF_JGE,
        BPF_JLT => BPF_JGT,
        BPF_JSGE => BPF_JSLE,
        BPF_JSGT => BPF_JSLT,
        BPF_JSLE => BPF_JSGE,
        BPF_JSLT => BPF_JSGT,
        BPF_JEQ | BPF_JNE | BPF_JSET => opcode,
        _ => 0,
    }
}

/// `rev_opcode`: the operation that holds where `opcode` does not.
pub fn rev_opcode(opcode: u8) -> u8 {
    match opcode {
        BPF_JEQ => BPF_JNE,
        BPF_JNE => BPF_JEQ,
        BPF_JSET => JSET_REVERSED,
        JSET_REVERSED => BPF_JSET,
        BPF_JGE => BPF_JLT,
        BPF_JGT => BPF_JLE,
        BPF_JLE => BPF_JGT,
        BPF_JLT => BPF_JGE,
        BPF_JSGE => BPF_JSLT,
        BPF_JSGT => BPF_JSLE,
        BPF_JSLE => BPF_JSGT,
        BPF_JSLT => BPF_JSGE,
        _ => 0,
    }
}

/// Bounds of a register at the width of a comparison.
struct Bounds {
    t: Tnum,
    umin: u64,
    umax: u64,
    smin: i64,
    smax: i64,
}

impl Bounds {
    fn of(reg: &RegState, is_jmp32: bool) -> Self {
        if is_jmp32 {
            Bounds {
                t: reg.var_off.subreg(),
                umin: reg.u32_min_value.into(),
                umax: reg.u32_max_value.into(),
                smin: reg.s32_min_value.into(),
                smax: reg.s32_max_value.into(),
            }
        } else {
            Bounds {
                t: reg.var_off,
                umin: reg.umin_value,
                umax: reg.umax_value,
                smin: reg.smin_value,
                smax: reg.smax_value,
            }
        }
    }
}

/// Whether the values can be, and must be, equal.
fn is_equal(reg1: &RegState, reg2: &RegState, a: &Bounds, b: &Bounds, is_jmp32: bool) -> Option<bool> {
    if a.t.is_const() && b.t.is_const() {
        return Some(a.t.value == b.t.value);
    }
    let disjoint = !a.t.overlap(b.t)
        || a.umin > b.umax
        || a.umax < b.umin
        || a.smin > b.smax
        || a.smax < b.smin
        || !is_jmp32
            && (reg1.u32_min_value > reg2.u32_max_value
                || reg1.u32_max_value < reg2.u32_min_value
                || reg1.s32_min_value > reg2.s32_max_value
                || reg1.s32_max_value < reg2.s32_min_value);
    disjoint.then_some(false)
}

/// `Some(true)` where `always`, `Some(false)` where `never`.
#[inline]
fn decide(always: bool, never: bool) -> Option<bool> {
    if always {
        Some(true)
    } else if never {
        Some(false)
    } else {
        None
    }
}

/// `is_scalar_branch_taken`
fn is_scalar_branch_taken(reg1: &RegState, reg2: &RegState, opcode: u8, is_jmp32: bool) -> Option<bool> {
    let (a, b) = (Bounds::of(reg1, is_jmp32), Bounds::of(reg2, is_jmp32));
    match opcode {
        BPF_JEQ => is_equal(reg1, reg2, &a, &b, is_jmp32),
        BPF_JNE => is_equal(reg1, reg2, &a, &b, is_jmp32).map(|equal| !equal),
        BPF_JSET => {
            let (t1, t2) = if is_reg_const(reg2, is_jmp32) { (a.t, b.t) } else { (b.t, a.t) };
            if !t2.is_const() {
                return None;
            }
            decide(!t1.mask & t1.value & t2.value != 0, (t1.mask | t1.value) & t2.value == 0)
        }
        BPF_JGT => decide(a.umin > b.umax, a.umax <= b.umin),
        BPF_JSGT => decide(a.smin > b.smax, a.smax <= b.smin),
        BPF_JLT => decide(a.umax < b.umin, a.umin >= b.umax),
        BPF_JSLT => decide(a.smax < b.smin, a.smin >= b.smax),
        BPF_JGE => decide(a.umin >= b.umax, a.umax < b.umin),
        BPF_JSGE => decide(a.smin >= b.smax, a.smax < b.smin),
        BPF_JLE => decide(a.umax <= b.umin, a.umin > b.umax),
        BPF_JSLE => decide(a.smax <= b.smin, a.smin > b.smax),
        _ => None,
    }
}

/// `is_pkt_ptr_branch_taken`: a packet pointer that was compared with the packet's end before.
fn is_pkt_ptr_branch_taken(dst: &RegState, src: &RegState, opcode: u8) -> Option<bool> {
    let (pkt, opcode) = if src.type_ == RegType::PTR_TO_PACKET_END {
        (dst, opcode)
    } else if dst.type_ == RegType::PTR_TO_PACKET_END {
        (src, flip_opcode(opcode))
    } else {
        return None;
    };
    if pkt.range() >= 0 {
        return None;
    }
    match opcode {
        BPF_JLE | BPF_JGT if pkt.range() == BEYOND_PKT_END => Some(opcode == BPF_JGT),
        BPF_JLT | BPF_JGE if matches!(pkt.range(), BEYOND_PKT_END | AT_PKT_END) => Some(opcode == BPF_JGE),
        _ => None,
    }
}

/// `reg_not_null`: a pointer that is certain not to be null.
pub fn reg_not_null(reg: &RegState) -> bool {
    if reg.type_.may_be_null() {
        return false;
    }
    match reg.type_.base() {
        RegType::PTR_TO_SOCKET
        | RegType::PTR_TO_TCP_SOCK
        | RegType::PTR_TO_MAP_VALUE
        | RegType::PTR_TO_MAP_KEY
        | RegType::PTR_TO_SOCK_COMMON
        | RegType::CONST_PTR_TO_MAP => true,
        RegType::PTR_TO_MEM => !reg.type_.has(flag::PTR_UNTRUSTED),
        // `is_trusted_reg`
        RegType::PTR_TO_BTF_ID => {
            reg.ref_obj_id != 0
                || reg.type_.has_any(flag::BPF_REG_TRUSTED_MODIFIERS)
                    && reg.type_.flags() & !flag::BPF_REG_TRUSTED_MODIFIERS == 0
        }
        _ => false,
    }
}

/// `is_branch_taken`: the outcome of `reg1 <opcode> reg2`, where it is certain.
pub fn is_branch_taken(reg1: &RegState, reg2: &RegState, mut opcode: u8, is_jmp32: bool) -> Option<bool> {
    if !is_jmp32 && reg1.is_pkt_pointer_any() && reg2.is_pkt_pointer_any() {
        return is_pkt_ptr_branch_taken(reg1, reg2, opcode);
    }
    if reg1.type_ == RegType::SCALAR_VALUE && reg2.type_ == RegType::SCALAR_VALUE {
        return is_scalar_branch_taken(reg1, reg2, opcode, is_jmp32);
    }
    let (mut ptr, mut scalar) = (reg1, reg2);
    if !is_reg_const(scalar, is_jmp32) {
        opcode = flip_opcode(opcode);
        (ptr, scalar) = (scalar, ptr);
    }
    if !is_reg_const(scalar, is_jmp32) || !reg_not_null(ptr) || reg_const_value(scalar, is_jmp32) != 0 {
        return None;
    }
    match opcode {
        BPF_JEQ => Some(false),
        BPF_JNE => Some(true),
        _ => None,
    }
}

/// Intersects both registers' 64-bit (or 32-bit) ranges.
fn refine_equal(regs: &mut [RegState; 2], r1: usize, r2: usize, is_jmp32: bool) {
    let (a, b) = (regs[r1], regs[r2]);
    if is_jmp32 {
        let t = a.var_off.subreg().intersect(b.var_off.subreg());
        for r in [r1, r2] {
            let reg = &mut regs[r];
            reg.u32_min_value = a.u32_min_value.max(b.u32_min_value);
            reg.u32_max_value = a.u32_max_value.min(b.u32_max_value);
            reg.s32_min_value = a.s32_min_value.max(b.s32_min_value);
            reg.s32_max_value = a.s32_max_value.min(b.s32_max_value);
            reg.var_off = reg.var_off.with_subreg(t);
        }
    } else {
        let t = a.var_off.intersect(b.var_off);
        for r in [r1, r2] {
            let reg = &mut regs[r];
            reg.umin_value = a.umin_value.max(b.umin_value);
            reg.umax_value = a.umax_value.min(b.umax_value);
            reg.smin_value = a.smin_value.max(b.smin_value);
            reg.smax_value = a.smax_value.min(b.smax_value);
            reg.var_off = t;
        }
    }
}

/// Moves the bounds of `reg` off `val`, where it is one of them.
fn refine_not_equal(reg: &mut RegState, val: u64, is_jmp32: bool) {
    macro_rules! exclude {
        ($min:ident, $max:ident, $t:ty) => {
            if reg.$min == val as $t {
                reg.$min = reg.$min.wrapping_add(1);
            }
            if reg.$max == val as $t {
                reg.$max = reg.$max.wrapping_sub(1);
            }
        };
    }
    if is_jmp32 {
        exclude!(u32_min_value, u32_max_value, u32);
        exclude!(s32_min_value, s32_max_value, i32);
    } else {
        exclude!(umin_value, umax_value, u64);
        exclude!(smin_value, smax_value, i64);
    }
}

/// `regs_refine_cond_op`: `regs[r1] <opcode> regs[r2]` holds. Both may be the same register.
pub fn regs_refine_cond_op(
    regs: &mut [RegState; 2],
    mut r1: usize,
    mut r2: usize,
    mut opcode: u8,
    is_jmp32: bool,
) {
    if matches!(opcode, BPF_JGE | BPF_JGT | BPF_JSGE | BPF_JSGT) {
        opcode = flip_opcode(opcode);
        std::mem::swap(&mut r1, &mut r2);
    }
    if matches!(opcode, BPF_JNE | BPF_JSET | JSET_REVERSED) {
        if !is_reg_const(&regs[r2], is_jmp32) {
            std::mem::swap(&mut r1, &mut r2);
        }
        if !is_reg_const(&regs[r2], is_jmp32) {
            return;
        }
    }
    // `regs[r1]` at most, `regs[r2]` at least what the other is; the second is looked up after the first changed.
    macro_rules! order {
        ($min:ident, $max:ident, $strict:literal) => {{
            regs[r1].$max = regs[r1].$max.min(regs[r2].$max.wrapping_sub($strict));
            regs[r2].$min = regs[r1].$min.wrapping_add($strict).max(regs[r2].$min);
        }};
    }
    match (opcode, is_jmp32) {
        (BPF_JEQ, _) => refine_equal(regs, r1, r2, is_jmp32),
        (BPF_JNE, _) => {
            let val = reg_const_value(&regs[r2], is_jmp32);
            refine_not_equal(&mut regs[r1], val, is_jmp32);
        }
        (BPF_JSET, _) => {
            let val = reg_const_value(&regs[r2], is_jmp32);
            if val.is_power_of_two() {
                let reg = &mut regs[r1];
                reg.var_off = if is_jmp32 {
                    reg.var_off.with_subreg(reg.var_off.subreg().or(Tnum::constant(val)))
                } else {
                    reg.var_off.or(Tnum::constant(val))
                };
            }
        }
        (JSET_REVERSED, _) => {
            let val = reg_const_value(&regs[r2], is_jmp32);
            let reg = &mut regs[r1];
            reg.mark_unbounded();
            reg.var_off = if is_jmp32 {
                reg.var_off.with_subreg(reg.var_off.subreg().and(Tnum::constant(!val)))
            } else {
                reg.var_off.and(Tnum::constant(!val))
            };
        }
        (BPF_JLE, true) => order!(u32_min_value, u32_max_value, 0),
        (BPF_JLE, false) => order!(umin_value, umax_value, 0),
        (BPF_JLT, true) => order!(u32_min_value, u32_max_value, 1),
        (BPF_JLT, false) => order!(umin_value, umax_value, 1),
        (BPF_JSLE, true) => order!(s32_min_value, s32_max_value, 0),
        (BPF_JSLE, false) => order!(smin_value, smax_value, 0),
        (BPF_JSLT, true) => order!(s32_min_value, s32_max_value, 1),
        (BPF_JSLT, false) => order!(smin_value, smax_value, 1),
        _ => {}
    }
}
