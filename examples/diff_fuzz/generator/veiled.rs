//! Bounds that the verifier does not see: what a number was computed from, or what was computed from it, is compared in its place.

use bpftwin_uapi::ProgType;
use bpftwin_uapi::insn::*;

use super::scalar::size_bits;
use super::{Generator, Slot};
use crate::case::Case;
use crate::derived;
use crate::kernel::MAPS;
use crate::rng::Rng;

/// A program that computes numbers and accesses memory by them, and does nothing else.
pub(super) fn derived(rng: &mut Rng) -> Case {
    assert_eq!(MAPS[derived::MAP_FD as usize].value_size, derived::VALUE_SIZE);
    Case {
        prog_type: ProgType::SchedCls,
        attach_type: 0,
        prog_flags: 0,
        log_level: rng.pick(&[1, 2]),
        log_size: 1 << 22,
        gpl: true,
        fd_array: 0,
        insns: derived::Generator::new(rng.next()).program(),
        funcs: Vec::new(),
        lines: Vec::new(),
    }
}

/// A load that stops at a request has not ended its log: what a small buffer holds by then is no whole lines.
pub(super) fn whole_log(case: &mut Case) {
    case.log_size = 1 << 22;
}

impl Generator<'_> {
    /// Leaves the function unless the number is `limit` at most, mostly.
    pub(super) fn veiled_bound(&mut self, reg: u8, limit: i32) {
        let other = self.free_reg_but(&[reg]);
        if self.pinned & 1 << other != 0 {
            return;
        }
        if self.rng.chance(40) {
            // No longer a copy of anything.
            self.emit(BPF_ALU64 | BPF_MUL | BPF_K, reg, 0, 0, 1);
        }
        let wide = self.rng.chance(70);
        let (class, jump) = if wide { (BPF_ALU64, BPF_JMP) } else { (BPF_ALU, BPF_JMP32) };
        let jump = if self.rng.chance(85) { jump } else { BPF_JMP };
        if !wide {
            self.emit(BPF_ALU | BPF_MOV | BPF_X, reg, reg, 0, 0);
        }
        match self.rng.below(12) {
            0 => {
                let more = self.rng.range(-40, 40) as i32;
                self.mov(other, reg);
                self.emit(class | BPF_ADD | BPF_K, other, 0, 0, more);
                self.guard(jump, BPF_JGT, other, limit.saturating_add(more).max(0));
            }
            1 => {
                let bits = self.rng.range(1, 3) as i32;
                let (op, limit) = self.rng.pick(&[
                    (BPF_LSH, limit.checked_shl(bits as u32).unwrap_or(limit)),
                    (BPF_RSH, limit >> bits),
                    (BPF_ARSH, limit >> bits),
                ]);
                self.mov(other, reg);
                self.emit(class | op | BPF_K, other, 0, 0, bits);
                self.guard(jump, BPF_JGT, other, limit.max(0));
            }
            2 => {
                let factor = self.rng.pick(&[2, 3, 5, 10, 12]);
                self.mov(other, reg);
                self.emit(class | BPF_MUL | BPF_K, other, 0, 0, factor);
                self.guard(jump, BPF_JGT, other, limit.saturating_mul(factor));
            }
            3 => {
                // What is left of a whole that is known.
                let mask = self.rng.pick(&[15, 31, 63, 127]);
                self.emit(class | BPF_AND | BPF_K, reg, 0, 0, mask);
                self.mov_imm(other, mask);
                self.emit(class | BPF_SUB | BPF_X, other, reg, 0, 0);
                self.guard(jump, BPF_JLT, other, (mask - limit).max(0));
            }
            4 => {
                self.mov(other, reg);
                self.emit(class | BPF_NEG, other, 0, 0, 0);
                self.guard(jump, BPF_JSLT, other, -limit);
            }
            5 => {
                let flip = self.rng.pick(&[1, 3, 7, -1]);
                self.mov(other, reg);
                self.emit(class | BPF_XOR | BPF_K, other, 0, 0, flip);
                let op = if flip == -1 { BPF_JLT } else { BPF_JGT };
                self.guard(jump, op, other, if flip == -1 { !limit } else { limit });
            }
            6 => {
                let divisor = self.rng.pick(&[2, 3, 7, 16]);
                let (op, sign) = self.rng.pick(&[(BPF_DIV, 0), (BPF_DIV, 1), (BPF_MOD, 0)]);
                self.mov(other, reg);
                self.emit(class | op | BPF_K, other, 0, sign, divisor);
                self.guard(jump, BPF_JGT, other, limit / divisor);
            }
            7 => {
                let width = self.rng.pick(&[16, 32, 64]);
                let swap =
                    self.rng.pick(&[(BPF_ALU, BPF_TO_BE), (BPF_ALU64, BPF_TO_LE), (BPF_ALU, BPF_TO_LE)]);
                self.mov(other, reg);
                for _ in 0..2 {
                    self.emit(swap.0 | BPF_END | swap.1, other, 0, 0, width);
                }
                self.guard(jump, BPF_JGT, other, limit);
            }
            8 => self.through_the_stack(reg, other, jump, limit),
            9 => {
                // None of the bits that are too many.
                let bits = !((limit as u32 + 1).next_power_of_two() - 1) as i32;
                let at = self.insns.len();
                self.emit(jump | BPF_JSET | BPF_K, reg, 0, 1, bits);
                self.emit(BPF_JMP | BPF_JA, 0, 0, 0, 0);
                self.exit();
                self.patch(at + 1);
            }
            10 => {
                // Bounded by another register, which is bounded afterwards.
                self.new_number_in(other, reg);
                let at = self.insns.len();
                let op = self.rng.pick(&[BPF_JLE, BPF_JLT, BPF_JSLE, BPF_JEQ]);
                self.emit(jump | op | BPF_X, reg, other, 0, 0);
                self.exit();
                self.patch(at);
                self.guard(jump, BPF_JGT, other, limit);
            }
            _ => {
                // The sum of two, each of which is not negative.
                self.new_number_in(other, reg);
                self.emit(BPF_ALU64 | BPF_AND | BPF_K, other, 0, 0, 0xff);
                self.emit(class | BPF_ADD | BPF_X, other, reg, 0, 0);
                self.guard(jump, BPF_JGT, other, limit);
            }
        }
        self.set(other, super::Kind::Scalar(None));
    }

    /// Any number in `dst`, made of another if nothing else is at hand.
    fn new_number_in(&mut self, dst: u8, but: u8) {
        match self.reg_where(super::Kind::is_scalar).filter(|&reg| reg != dst && reg != but) {
            Some(src) => self.mov(dst, src),
            None => {
                self.mov(dst, but);
                self.emit(BPF_ALU64 | BPF_RSH | BPF_K, dst, 0, 0, 8);
            }
        }
    }

    /// What is compared is what was spilled, or a part of it.
    fn through_the_stack(&mut self, reg: u8, other: u8, jump: u8, limit: i32) {
        let slot = self.rng.below(super::SLOTS as u64) as usize;
        let off = self.slot_off(slot);
        self.emit(BPF_STX | BPF_MEM | BPF_DW, 10, reg, off, 0);
        self.model.slots[slot] = Slot::Bytes(0xff);
        let size = self.rng.pick(&[1, 2, 4, 8]);
        if self.rng.chance(30) {
            // Written again, smaller.
            self.emit(BPF_STX | BPF_MEM | size_bits(size), 10, reg, off, 0);
        }
        let at = if self.rng.chance(70) { 0 } else { size * self.rng.below((8 / size) as u64) as i32 };
        let mode = if size < 8 { self.rng.pick(&[BPF_MEM, BPF_MEM, BPF_MEMSX]) } else { BPF_MEM };
        self.emit(BPF_LDX | mode | size_bits(size), other, 10, off + at as i16, 0);
        if self.rng.chance(50) {
            // The part is used, the whole is compared.
            let signed = self.rng.pick(&[0, 8, 16, 32]);
            self.emit(BPF_ALU64 | BPF_MOV | BPF_X, reg, other, signed, 0);
            self.emit(BPF_LDX | BPF_MEM | BPF_DW, other, 10, off, 0);
        }
        self.guard(jump, BPF_JGT, other, limit);
    }
}
