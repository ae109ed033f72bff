//! Numbers: arithmetic, bounds, copies that stay linked, and precision.

use bpftwin_uapi::insn::*;

use super::{Generator, Kind};

/// Operations that two numbers take, with the offset that makes them signed.
const OPS: [(u8, i16); 15] = [
    (BPF_ADD, 0),
    (BPF_SUB, 0),
    (BPF_MUL, 0),
    (BPF_DIV, 0),
    (BPF_OR, 0),
    (BPF_AND, 0),
    (BPF_LSH, 0),
    (BPF_RSH, 0),
    (BPF_MOD, 0),
    (BPF_XOR, 0),
    (BPF_ARSH, 0),
    (BPF_DIV, 1),
    (BPF_MOD, 1),
    (BPF_ADD, 0),
    (BPF_AND, 0),
];

/// Comparisons of jumps.
pub const JUMPS: [u8; 11] =
    [BPF_JEQ, BPF_JGT, BPF_JGE, BPF_JSET, BPF_JNE, BPF_JSGT, BPF_JSGE, BPF_JLT, BPF_JLE, BPF_JSLT, BPF_JSLE];

impl Generator<'_> {
    /// One arithmetic instruction on numbers.
    pub(super) fn alu(&mut self) {
        let dst = self.scalar_reg();
        let wide = self.rng.chance(60);
        let class = if wide { BPF_ALU64 } else { BPF_ALU };
        let bits = if wide { 64 } else { 32 };
        let bound = match self.kind(dst) {
            Kind::Scalar(bound) => bound,
            _ => None,
        };
        match self.rng.below(20) {
            0 => {
                self.emit(class | BPF_NEG, dst, 0, 0, 0);
                self.set(dst, Kind::Scalar(None));
            }
            1 => {
                let width = self.rng.pick(&[16, 32, 64]);
                let (class, source) =
                    self.rng.pick(&[(BPF_ALU, BPF_TO_LE), (BPF_ALU, BPF_TO_BE), (BPF_ALU64, BPF_TO_LE)]);
                self.emit(class | BPF_END | source, dst, 0, 0, width);
                self.set(dst, Kind::Scalar((width == 16).then_some(0xffff)));
            }
            2 | 3 => {
                // Sign-extending and plain moves.
                let src = self.scalar_reg();
                let to = self.free_reg();
                let extend = self.rng.pick(&[0, 8, 16, if wide { 32 } else { 0 }]);
                self.emit(class | BPF_MOV | BPF_X, to, src, extend, 0);
                let kind = if extend == 0 && wide { self.kind(src) } else { Kind::Scalar(None) };
                self.set(to, kind);
            }
            _ => {
                let (op, off) = self.rng.pick(&OPS);
                let source = self.rng.chance(45).then(|| self.scalar_reg());
                let imm = match op {
                    BPF_LSH | BPF_RSH | BPF_ARSH => self.rng.below(bits) as i32,
                    BPF_AND if self.rng.chance(50) => self.rng.pick(&[1, 3, 7, 0xf, 0x3f, 0xff, 8]),
                    _ => self.rng.number() as i32,
                };
                let imm = if matches!(op, BPF_DIV | BPF_MOD) && imm == 0 && !self.slip() { 3 } else { imm };
                match source {
                    Some(src) => self.emit(class | op | BPF_X, dst, src, off, 0),
                    None => self.emit(class | op | BPF_K, dst, 0, off, imm),
                }
                let new = match (op, source, bound) {
                    (BPF_AND, None, _) if imm >= 0 => Some(imm as u64),
                    (BPF_RSH, None, Some(bound)) => Some(bound >> imm),
                    (BPF_ADD, None, Some(bound)) if imm >= 0 && wide => bound.checked_add(imm as u64),
                    (BPF_MUL, None, Some(bound)) if imm >= 0 && wide => bound.checked_mul(imm as u64),
                    (BPF_LSH, None, Some(bound)) if bound < 1 << 16 && imm < 16 => Some(bound << imm),
                    _ => None,
                };
                self.set(dst, Kind::Scalar(new.filter(|&bound| bound <= i32::MAX as u64)));
            }
        }
    }

    /// A number of unknown or known origin in a register.
    pub(super) fn new_scalar(&mut self, may_call: bool) -> u8 {
        let dst = self.free_reg();
        match self.rng.below(if may_call { 8 } else { 5 }) {
            0 | 1 => {
                let imm = self.rng.number() as i32;
                self.mov_imm(dst, imm);
            }
            2 => {
                let value = self.rng.number();
                self.ld_imm64(dst, value);
            }
            3 | 4 => {
                let fields: Vec<_> =
                    self.profile.reads.iter().filter(|f| f.reg_type.0 == 1).copied().collect();
                let ctx = self.reg_where(|kind| kind == Kind::Ctx);
                match ctx {
                    Some(ctx) if !fields.is_empty() => {
                        let field = self.rng.pick(&fields);
                        self.emit(BPF_LDX | BPF_MEM | size_bits(field.size), dst, ctx, field.off, 0);
                        let bound = (field.size < 4).then(|| (1u64 << (8 * field.size)) - 1);
                        self.set(dst, Kind::Scalar(bound));
                    }
                    _ => self.mov_imm(dst, 1),
                }
            }
            _ => {
                if self.locked {
                    self.mov_imm(dst, 7);
                } else {
                    let helper = self.rng.pick(&[7, 5, 8]);
                    self.call_helper_id(helper);
                    self.set(0, Kind::Scalar(None));
                    if dst != 0 {
                        self.mov(dst, 0);
                    }
                }
            }
        }
        dst
    }

    /// A register with a number from zero to `max`.
    pub(super) fn bounded_scalar(&mut self, max: u64) -> u8 {
        let fits = |kind| matches!(kind, Kind::Scalar(Some(bound)) if bound <= max);
        if self.rng.chance(40)
            && let Some(reg) = self.reg_where(fits)
        {
            return reg;
        }
        let reg = self.scalar_reg();
        self.bound(reg, max);
        reg
    }

    /// Bounds the number in a register.
    pub(super) fn bound(&mut self, reg: u8, max: u64) {
        let limit = self.rng.below(max + 1).max(max / 2) as i32;
        // Exits would leak what is held.
        let may_exit = self.held == 0 && !self.locked || self.slip();
        if may_exit && self.veiled > 0 && self.rng.chance(self.veiled) {
            self.veiled_bound(reg, limit);
            return self.set(reg, Kind::Scalar(Some(limit as u64)));
        }
        let choice = if may_exit { self.rng.below(9) } else { self.rng.below(3) };
        match choice {
            0 | 1 => {
                let mask = match self.rng.below(3) {
                    0 => limit & self.rng.number() as i32,
                    _ => ((u64::from(limit as u32) + 1).next_power_of_two() / 2).wrapping_sub(1) as i32,
                };
                let class = self.rng.pick(&[BPF_ALU64, BPF_ALU64, BPF_ALU]);
                self.emit(class | BPF_AND | BPF_K, reg, 0, 0, mask.max(0));
            }
            2 => {
                let bits = 63 - (u64::from(limit as u32) + 1).leading_zeros() as i32;
                self.emit(BPF_ALU64 | BPF_RSH | BPF_K, reg, 0, 0, 64 - bits.clamp(1, 63));
                if bits == 0 {
                    self.mov_imm(reg, 0);
                }
            }
            3 => self.guard(BPF_JMP, BPF_JGT, reg, limit),
            4 => self.guard(BPF_JMP, BPF_JGE, reg, limit.max(1)),
            5 => {
                self.guard(BPF_JMP, BPF_JSLT, reg, 0);
                self.guard(BPF_JMP, BPF_JSGT, reg, limit);
            }
            6 => {
                self.emit(BPF_ALU | BPF_MOV | BPF_X, reg, reg, 0, 0);
                let op = self.rng.pick(&[BPF_JGT, BPF_JGE]);
                self.guard(BPF_JMP32, op, reg, limit.max(1));
            }
            7 => {
                // The bound in a register.
                let other = self.free_reg_but(&[reg]);
                self.mov_imm(other, limit);
                let at = self.insns.len();
                self.emit(BPF_JMP | BPF_JLE | BPF_X, reg, other, 0, 0);
                self.exit();
                self.patch(at);
            }
            _ => {
                self.guard(BPF_JMP32, BPF_JSGT, reg, limit);
                self.guard(BPF_JMP32, BPF_JSLT, reg, 0);
                if self.rng.chance(95) {
                    self.emit(BPF_ALU | BPF_MOV | BPF_X, reg, reg, 0, 0);
                }
            }
        }
        self.set(reg, Kind::Scalar(Some(limit as u64)));
    }

    /// Leaves the function where the comparison holds.
    pub(super) fn guard(&mut self, class: u8, op: u8, reg: u8, imm: i32) {
        let at = self.insns.len();
        let inverse = match op {
            BPF_JGT => BPF_JLE,
            BPF_JGE => BPF_JLT,
            BPF_JLT => BPF_JGE,
            BPF_JSLT => BPF_JSGE,
            BPF_JSGT => BPF_JSLE,
            _ => BPF_JEQ,
        };
        if self.rng.chance(70) {
            self.emit(class | inverse | BPF_K, reg, 0, 0, imm);
            self.exit();
            self.patch(at);
        } else {
            self.emit(class | op | BPF_K, reg, 0, 1, imm);
            self.emit(BPF_JMP | BPF_JA, 0, 0, 0, 0);
            self.exit();
            self.patch(at + 1);
        }
    }

    /// Copies of a number, shifted by constants, one of which is bounded.
    pub(super) fn linked(&mut self) {
        let src = self.scalar_reg();
        let dst = self.free_reg_but(&[src]);
        let wide = self.rng.chance(75);
        self.emit(if wide { BPF_ALU64 } else { BPF_ALU } | BPF_MOV | BPF_X, dst, src, 0, 0);
        let mut added = 0;
        if self.rng.chance(60) {
            added = self.rng.range(-64, 64) as i32;
            let wide = self.rng.chance(70);
            let op = self.rng.pick(&[BPF_ADD, BPF_ADD, BPF_SUB]);
            self.emit(if wide { BPF_ALU64 } else { BPF_ALU } | op | BPF_K, dst, 0, 0, added);
            added = if op == BPF_SUB { -added } else { added };
        }
        self.set(dst, Kind::Scalar(None));
        if self.rng.chance(30) {
            let third = self.free_reg_but(&[src, dst]);
            self.mov(third, dst);
        }
        if self.rng.chance(25) {
            // A spilled copy stays linked as well.
            let slot = self.rng.below(super::SLOTS as u64) as usize;
            self.emit(BPF_STX | BPF_MEM | BPF_DW, 10, dst, self.slot_off(slot), 0);
            self.model.slots[slot] = super::Slot::Spill(Kind::Scalar(None));
        }
        let (tested, other) = if self.rng.chance(50) { (src, dst) } else { (dst, src) };
        self.bound(tested, 63);
        if let Kind::Scalar(Some(bound)) = self.kind(tested) {
            let shift = if tested == src { added } else { -added };
            let known = wide && shift >= 0;
            self.set(other, Kind::Scalar(known.then(|| bound + shift as u64)));
            if self.rng.chance(60) {
                self.use_as_offset(other);
            }
        }
    }

    /// A number that takes one of two values, used where its value matters.
    pub(super) fn precision(&mut self) {
        let cond = self.scalar_reg();
        let dst = self.free_reg_but(&[cond]);
        let (a, b) = (self.rng.range(0, 16) as i32, self.rng.range(0, 16) as i32);
        self.mov_imm(dst, a);
        let at = self.insns.len();
        let op = self.rng.pick(&JUMPS);
        let imm = self.rng.number() as i32;
        self.emit(BPF_JMP | op | BPF_K, cond, 0, 0, imm);
        self.mov_imm(dst, b);
        self.patch(at);
        self.set(dst, Kind::Scalar(Some(a.max(b) as u64)));
        for _ in 0..self.rng.below(3) {
            if self.budget > 0 {
                self.alu_keeping(dst);
            }
        }
        self.use_as_offset(dst);
    }

    /// Arithmetic on other registers than this.
    fn alu_keeping(&mut self, keep: u8) {
        let pinned = self.pinned;
        self.pinned |= 1 << keep;
        let reg = self.free_reg_but(&[keep]);
        let imm = self.rng.number() as i32;
        self.mov_imm(reg, imm);
        self.pinned = pinned;
    }

    /// Adds the number to a pointer and accesses memory there.
    pub(super) fn use_as_offset(&mut self, reg: u8) {
        let Kind::Scalar(Some(bound)) = self.kind(reg) else { return };
        if let Some(ptr) =
            self.reg_where(|kind| matches!(kind, Kind::Mem { size, null: false, .. } if size as u64 > bound))
        {
            self.variable_access(ptr, reg, bound);
        } else if bound < 100 {
            self.variable_stack_with(reg, bound);
        }
    }

    /// Any instruction at all.
    pub(super) fn wild(&mut self) {
        let code = match self.rng.below(3) {
            0 => self.rng.next() as u8,
            1 => BPF_ALU64 | self.rng.pick(&OPS).0 | self.rng.pick(&[BPF_K, BPF_X]),
            _ => {
                self.rng.pick(&[BPF_LDX, BPF_STX, BPF_ST])
                    | BPF_MEM
                    | self.rng.pick(&[BPF_B, BPF_H, BPF_W, BPF_DW])
            }
        };
        let dst = self.rng.below(11) as u8;
        let src = if code & BPF_X != 0 || matches!(code & 7, BPF_LDX | BPF_STX) {
            self.rng.below(11) as u8
        } else {
            0
        };
        let off = if code & 7 == BPF_JMP || code & 7 == BPF_JMP32 {
            self.rng.range(-2, 4)
        } else if matches!(code & 7, BPF_LDX | BPF_STX | BPF_ST) {
            self.rng.range(-64, 64)
        } else {
            0
        };
        let imm = if self.rng.chance(50) { self.rng.number() as i32 } else { 0 };
        self.emit(code, dst, src, off as i16, imm);
        if dst < 10 {
            self.set(dst, Kind::None);
        }
    }
}

/// `BPF_SIZE` for a number of bytes.
pub fn size_bits(bytes: i32) -> u8 {
    match bytes {
        1 => BPF_B,
        2 => BPF_H,
        4 => BPF_W,
        _ => BPF_DW,
    }
}
