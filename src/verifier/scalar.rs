//! Transfer functions of scalar arithmetic: from the bounds and known bits of the operands to those of the result.
//!
//! Each operation computes the 32- and 64-bit ranges on their own where that is sound, and takes the rest from the known
//! bits. The kernel's `scalar_min_max_*` and `scalar32_min_max_*`, operand by operand.

use bpftwin_uapi::Insn;
use bpftwin_uapi::insn::*;

use super::Features;
use super::state::RegState;
use super::tnum::Tnum;

/// `is_safe_to_compute_dst_reg_range`: the operation has a transfer function, and a shift is by a known distance.
pub fn is_computable(insn: &Insn, src: &RegState) -> bool {
    let alu64 = insn.class() == BPF_ALU64;
    match insn.op() {
        BPF_ADD | BPF_SUB | BPF_NEG | BPF_AND | BPF_XOR | BPF_OR | BPF_MUL | BPF_END => true,
        BPF_LSH | BPF_RSH | BPF_ARSH => {
            let (src_is_const, bitness) = if alu64 {
                let is_const = src.var_off.is_const()
                    && src.smin_value == src.smax_value
                    && src.umin_value == src.umax_value;
                (is_const, 64)
            } else {
                let is_const = src.var_off.subreg_is_const()
                    && src.s32_min_value == src.s32_max_value
                    && src.u32_min_value == src.u32_max_value;
                (is_const, 32)
            };
            src_is_const && src.umax_value < bitness
        }
        _ => false,
    }
}

/// Both bounds plus the other operand's; everything where one of the sums overflows.
macro_rules! add_signed {
    ($min:expr, $max:expr, $src_min:expr, $src_max:expr, $t:ty) => {
        match ($min.checked_add($src_min), $max.checked_add($src_max)) {
            (Some(min), Some(max)) => ($min, $max) = (min, max),
            _ => ($min, $max) = (<$t>::MIN, <$t>::MAX),
        }
    };
}

macro_rules! sub_signed {
    ($min:expr, $max:expr, $src_min:expr, $src_max:expr, $t:ty) => {
        match ($min.checked_sub($src_max), $max.checked_sub($src_min)) {
            (Some(min), Some(max)) => ($min, $max) = (min, max),
            _ => ($min, $max) = (<$t>::MIN, <$t>::MAX),
        }
    };
}

/// Both sums wrap, or none does: the range stays a range.
macro_rules! add_unsigned {
    ($min:expr, $max:expr, $src_min:expr, $src_max:expr, $t:ty) => {{
        let (min, min_overflow) = $min.overflowing_add($src_min);
        let (max, max_overflow) = $max.overflowing_add($src_max);
        ($min, $max) = if !min_overflow && max_overflow { (0, <$t>::MAX) } else { (min, max) };
    }};
}

macro_rules! sub_unsigned {
    ($min:expr, $max:expr, $src_min:expr, $src_max:expr, $t:ty) => {{
        let (min, min_underflow) = $min.overflowing_sub($src_max);
        let (max, max_underflow) = $max.overflowing_sub($src_min);
        ($min, $max) = if min_underflow && !max_underflow { (0, <$t>::MAX) } else { (min, max) };
    }};
}

macro_rules! mul_unsigned {
    ($min:expr, $max:expr, $src_min:expr, $src_max:expr, $t:ty) => {
        match ($max.checked_mul($src_max), $min.checked_mul($src_min)) {
            (Some(max), Some(min)) => ($min, $max) = (min, max),
            _ => ($min, $max) = (0, <$t>::MAX),
        }
    };
}

macro_rules! mul_signed {
    ($min:expr, $max:expr, $src_min:expr, $src_max:expr, $t:ty) => {
        match (
            $min.checked_mul($src_min),
            $min.checked_mul($src_max),
            $max.checked_mul($src_min),
            $max.checked_mul($src_max),
        ) {
            (Some(a), Some(b), Some(c), Some(d)) => {
                ($min, $max) = (a.min(b).min(c.min(d)), a.max(b).max(c.max(d)))
            }
            _ => ($min, $max) = (<$t>::MIN, <$t>::MAX),
        }
    };
}

impl RegState {
    pub fn scalar_add(&mut self, src: &RegState) {
        self.min_max_add(src);
        self.var_off = self.var_off.add(src.var_off);
    }

    /// Ranges of a sum, without the known bits.
    fn min_max_add(&mut self, src: &RegState) {
        add_signed!(self.s32_min_value, self.s32_max_value, src.s32_min_value, src.s32_max_value, i32);
        add_unsigned!(self.u32_min_value, self.u32_max_value, src.u32_min_value, src.u32_max_value, u32);
        add_signed!(self.smin_value, self.smax_value, src.smin_value, src.smax_value, i64);
        add_unsigned!(self.umin_value, self.umax_value, src.umin_value, src.umax_value, u64);
    }

    fn min_max_sub(&mut self, src: &RegState) {
        sub_signed!(self.s32_min_value, self.s32_max_value, src.s32_min_value, src.s32_max_value, i32);
        sub_unsigned!(self.u32_min_value, self.u32_max_value, src.u32_min_value, src.u32_max_value, u32);
        sub_signed!(self.smin_value, self.smax_value, src.smin_value, src.smax_value, i64);
        sub_unsigned!(self.umin_value, self.umax_value, src.umin_value, src.umax_value, u64);
    }

    pub fn scalar_sub(&mut self, src: &RegState) {
        self.min_max_sub(src);
        self.var_off = self.var_off.sub(src.var_off);
    }

    pub fn scalar_neg(&mut self) {
        let old = *self;
        self.mark_known(0);
        self.min_max_sub(&old);
        self.var_off = old.var_off.neg();
    }

    pub fn scalar_mul(&mut self, src: &RegState) {
        self.var_off = self.var_off.mul(src.var_off);
        mul_unsigned!(self.u32_min_value, self.u32_max_value, src.u32_min_value, src.u32_max_value, u32);
        mul_signed!(self.s32_min_value, self.s32_max_value, src.s32_min_value, src.s32_max_value, i32);
        mul_unsigned!(self.umin_value, self.umax_value, src.umin_value, src.umax_value, u64);
        mul_signed!(self.smin_value, self.smax_value, src.smin_value, src.smax_value, i64);
    }

    /// Signed ranges from the unsigned ones, where these do not cross the sign boundary.
    fn signed32_from_unsigned(&mut self) {
        let (min, max) = (self.u32_min_value as i32, self.u32_max_value as i32);
        (self.s32_min_value, self.s32_max_value) = if min <= max { (min, max) } else { (i32::MIN, i32::MAX) };
    }

    fn signed64_from_unsigned(&mut self) {
        let (min, max) = (self.umin_value as i64, self.umax_value as i64);
        (self.smin_value, self.smax_value) = if min <= max { (min, max) } else { (i64::MIN, i64::MAX) };
    }

    /// The frame of AND, OR and XOR: constants fold; otherwise `ranges` gives the unsigned ranges from the result's known
    /// bits (`self.var_off`, set before) and both operands' old ranges.
    fn bitwise(
        &mut self,
        features: Features,
        src: &RegState,
        var_off: Tnum,
        ranges32: impl Fn(&RegState, &RegState, u32, u32) -> (u32, u32),
        ranges64: impl Fn(&RegState, &RegState, u64, u64) -> (u64, u64),
    ) {
        self.var_off = var_off;
        let var32 = var_off.subreg();
        if src.var_off.subreg_is_const() && var_off.subreg_is_const() {
            self.mark32_known(var32.value);
        } else {
            (self.u32_min_value, self.u32_max_value) =
                ranges32(self, src, var32.value as u32, (var32.value | var32.mask) as u32);
            self.signed32_from_unsigned();
        }
        if src.var_off.is_const() && self.var_off.is_const() {
            self.mark_known(self.var_off.value);
            return;
        }
        let Tnum { value, mask } = self.var_off;
        (self.umin_value, self.umax_value) = ranges64(self, src, value, value | mask);
        self.signed64_from_unsigned();
        self.update_bounds(features);
    }

    pub fn scalar_and(&mut self, src: &RegState, features: Features) {
        self.bitwise(
            features,
            src,
            self.var_off.and(src.var_off),
            |dst, src, min, _| (min, dst.u32_max_value.min(src.u32_max_value)),
            |dst, src, min, _| (min, dst.umax_value.min(src.umax_value)),
        );
    }

    pub fn scalar_or(&mut self, src: &RegState, features: Features) {
        self.bitwise(
            features,
            src,
            self.var_off.or(src.var_off),
            |dst, src, _, max| (dst.u32_min_value.max(src.u32_min_value), max),
            |dst, src, _, max| (dst.umin_value.max(src.umin_value), max),
        );
    }

    pub fn scalar_xor(&mut self, src: &RegState, features: Features) {
        self.bitwise(
            features,
            src,
            self.var_off.xor(src.var_off),
            |_, _, min, max| (min, max),
            |_, _, min, max| (min, max),
        );
    }

    fn lsh32_ranges(&mut self, umin: u64, umax: u64) {
        self.s32_min_value = i32::MIN;
        self.s32_max_value = i32::MAX;
        if umax > 31 || self.u32_max_value as u64 > 1 << (31 - umax) {
            self.u32_min_value = 0;
            self.u32_max_value = u32::MAX;
        } else {
            self.u32_min_value <<= umin;
            self.u32_max_value <<= umax;
        }
    }

    /// 32-bit left shift by the constant in `src`, below 32.
    pub fn scalar32_lsh(&mut self, src: &RegState) {
        let subreg = self.var_off.subreg();
        self.lsh32_ranges(src.u32_min_value.into(), src.u32_max_value.into());
        self.var_off = subreg.lshift(src.u32_min_value as u8).subreg();
        self.mark64_unbounded();
        self.update32_bounds();
    }

    /// 64-bit left shift by the constant in `src`, below 64.
    pub fn scalar_lsh(&mut self, src: &RegState, features: Features) {
        let (umin, umax) = (src.umin_value, src.umax_value);
        // `<< 32` begins a sign extension: the low half's sign becomes the sign.
        let by_32 = umin == 32 && umax == 32;
        let keeps = |bound: i32| by_32 && (bound >= 0 || features.sharp_bounds);
        self.smax_value =
            if keeps(self.s32_max_value) { (self.s32_max_value as i64) << 32 } else { i64::MAX };
        self.smin_value =
            if keeps(self.s32_min_value) { (self.s32_min_value as i64) << 32 } else { i64::MIN };
        if self.umax_value > 1 << (63 - umax) {
            self.umin_value = 0;
            self.umax_value = u64::MAX;
        } else {
            self.umin_value <<= umin;
            self.umax_value <<= umax;
        }
        self.lsh32_ranges(umin, umax);
        self.var_off = self.var_off.lshift(umin as u8);
        self.update_bounds(features);
    }

    pub fn scalar32_rsh(&mut self, src: &RegState) {
        let subreg = self.var_off.subreg();
        self.s32_min_value = i32::MIN;
        self.s32_max_value = i32::MAX;
        self.var_off = subreg.rshift(src.u32_min_value as u8);
        self.u32_min_value >>= src.u32_max_value;
        self.u32_max_value >>= src.u32_min_value;
        self.mark64_unbounded();
        self.update32_bounds();
    }

    pub fn scalar_rsh(&mut self, src: &RegState, features: Features) {
        self.smin_value = i64::MIN;
        self.smax_value = i64::MAX;
        self.var_off = self.var_off.rshift(src.umin_value as u8);
        self.umin_value >>= src.umax_value;
        self.umax_value >>= src.umin_value;
        self.mark32_unbounded();
        self.update_bounds(features);
    }

    pub fn scalar32_arsh(&mut self, src: &RegState) {
        let shift = src.u32_min_value;
        self.s32_min_value >>= shift;
        self.s32_max_value >>= shift;
        self.var_off = self.var_off.subreg().arshift(shift as u8, 32);
        self.u32_min_value = 0;
        self.u32_max_value = u32::MAX;
        self.mark64_unbounded();
        self.update32_bounds();
    }

    pub fn scalar_arsh(&mut self, src: &RegState, features: Features) {
        let shift = src.umin_value;
        self.smin_value >>= shift;
        self.smax_value >>= shift;
        self.var_off = self.var_off.arshift(shift as u8, 64);
        self.umin_value = 0;
        self.umax_value = u64::MAX;
        self.mark32_unbounded();
        self.update_bounds(features);
    }

    /// `scalar_byte_swap`: byte order conversion on a little-endian machine.
    pub fn scalar_byte_swap(&mut self, insn: &Insn, features: Features) {
        let swaps = insn.class() == BPF_ALU64 || insn.src() == BPF_TO_BE;
        if swaps || insn.imm != 64 {
            self.clear_scalar_id();
        }
        if swaps {
            self.var_off = match insn.imm {
                16 => self.var_off.bswap16(),
                32 => self.var_off.bswap32(),
                _ => self.var_off.bswap64(),
            };
            self.mark_unbounded();
        }
        if insn.imm != 64 {
            self.coerce_reg_to_size(insn.imm / 8, features);
        }
    }

    /// Ranges and known bits of `self + delta`, not synchronised.
    pub fn add_const(&mut self, delta: i64) {
        let mut src = RegState::ZERO;
        src.set_known(delta as u64);
        self.scalar_add(&src);
    }
}

impl Tnum {
    fn bswap16(self) -> Tnum {
        Tnum { value: (self.value as u16).swap_bytes().into(), mask: (self.mask as u16).swap_bytes().into() }
    }

    fn bswap32(self) -> Tnum {
        Tnum { value: (self.value as u32).swap_bytes().into(), mask: (self.mask as u32).swap_bytes().into() }
    }

    fn bswap64(self) -> Tnum {
        Tnum { value: self.value.swap_bytes(), mask: self.mask.swap_bytes() }
    }
}
