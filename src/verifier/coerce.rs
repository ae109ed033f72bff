//! Truncation and sign extension of registers: what a narrow load, a narrow move or a sign extension leaves of the
//! bounds.

use super::Features;
use super::state::RegState;
use super::tnum::Tnum;

/// Smallest and largest value of a signed integer of `size` (1, 2 or 4) bytes.
#[inline]
const fn signed_range(size: i32) -> (i64, i64) {
    let max = i64::MAX >> (64 - 8 * size as u32);
    (-max - 1, max)
}

/// Sign-extends the low `size` (1, 2 or 4) bytes.
#[inline]
const fn sign_extend(value: u64, size: i32) -> i64 {
    let shift = 64 - 8 * size as u32;
    ((value << shift) as i64) >> shift
}

impl RegState {
    /// `coerce_reg_to_size`: keeps the low `size` bytes, of which there are fewer than eight, and clears the others.
    pub fn coerce_reg_to_size(&mut self, size: i32, features: Features) {
        self.var_off = self.var_off.cast(size as u8);
        let mask = (1u64 << (8 * size as u32)) - 1;
        if self.umin_value & !mask == self.umax_value & !mask {
            self.umin_value &= mask;
            self.umax_value &= mask;
        } else {
            self.umin_value = 0;
            self.umax_value = mask;
        }
        self.smin_value = self.umin_value as i64;
        self.smax_value = self.umax_value as i64;
        // 32-bit ranges survive where all of the 32 bits do.
        if size < 4 {
            self.mark32_unbounded();
        }
        self.bounds_sync(features);
    }

    /// `coerce_reg_to_size_sx`: sign-extends the low `size` (1, 2 or 4) bytes to 64 bits.
    pub fn coerce_reg_to_size_sx(&mut self, size: i32) {
        if self.var_off.is_const() {
            self.set_known(sign_extend(self.var_off.value, size) as u64);
            return;
        }
        let bits = 8 * size as u32;
        if self.smax_value as u64 >> bits == self.smin_value as u64 >> bits {
            let a = sign_extend(self.smax_value as u64, size);
            let b = sign_extend(self.smin_value as u64, size);
            let (min, max) = (a.min(b), a.max(b));
            // Of one sign: signed and unsigned order agree.
            if (min >= 0) == (max >= 0) {
                self.smin_value = min;
                self.smax_value = max;
                self.umin_value = min as u64;
                self.umax_value = max as u64;
                self.s32_min_value = min as i32;
                self.s32_max_value = max as i32;
                self.u32_min_value = min as u32;
                self.u32_max_value = max as u32;
                self.var_off = Tnum::range(min as u64, max as u64);
                return;
            }
        }
        self.set_sext64_default_val(size);
    }

    /// Any sign-extended value of `size` bytes.
    fn set_sext64_default_val(&mut self, size: i32) {
        let (min, max) = signed_range(size);
        self.smin_value = min;
        self.smax_value = max;
        self.s32_min_value = min as i32;
        self.s32_max_value = max as i32;
        self.umin_value = 0;
        self.umax_value = u64::MAX;
        self.u32_min_value = 0;
        self.u32_max_value = u32::MAX;
        self.var_off = Tnum::UNKNOWN;
    }

    /// `coerce_subreg_to_size_sx`: sign-extends the low `size` (1 or 2) bytes to 32 bits. The caller extends the result
    /// with zeros ([`zext_32_to_64`](Self::zext_32_to_64)).
    pub fn coerce_subreg_to_size_sx(&mut self, size: i32) {
        if self.var_off.is_const() {
            let value = sign_extend(self.var_off.value, size);
            self.var_off = Tnum::constant(value as u64);
            self.s32_min_value = value as i32;
            self.s32_max_value = value as i32;
            self.u32_min_value = value as u32;
            self.u32_max_value = value as u32;
            return;
        }
        let bits = 8 * size as u32;
        if self.s32_max_value as u32 >> bits == self.s32_min_value as u32 >> bits {
            let a = sign_extend(self.s32_max_value as u64, size) as i32;
            let b = sign_extend(self.s32_min_value as u64, size) as i32;
            let (min, max) = (a.min(b), a.max(b));
            if (min >= 0) == (max >= 0) {
                self.s32_min_value = min;
                self.s32_max_value = max;
                self.u32_min_value = min as u32;
                self.u32_max_value = max as u32;
                self.var_off = Tnum::range(min as i64 as u64, max as i64 as u64).subreg();
                return;
            }
        }
        self.set_sext32_default_val(size);
    }

    fn set_sext32_default_val(&mut self, size: i32) {
        let (min, max) = signed_range(size);
        self.s32_min_value = min as i32;
        self.s32_max_value = max as i32;
        self.u32_min_value = 0;
        self.u32_max_value = u32::MAX;
        self.var_off = Tnum::UNKNOWN.subreg();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unsigned(min: u64, max: u64) -> RegState {
        let mut reg = RegState { umin_value: min, umax_value: max, ..RegState::UNKNOWN };
        reg.bounds_sync(Features::LATE);
        reg
    }

    fn signed(min: i64, max: i64) -> RegState {
        let mut reg = RegState { smin_value: min, smax_value: max, ..RegState::UNKNOWN };
        reg.bounds_sync(Features::LATE);
        reg
    }

    #[test]
    fn truncation_keeps_a_range_within_one_block() {
        let mut reg = unsigned(0x1_0010, 0x1_0020);
        reg.coerce_reg_to_size(2, Features::LATE);
        assert_eq!((reg.umin_value, reg.umax_value), (0x10, 0x20));
        assert_eq!((reg.s32_min_value, reg.s32_max_value), (0x10, 0x20));
        let mut reg = unsigned(0x10, 0x1_0020);
        reg.coerce_reg_to_size(2, Features::LATE);
        assert_eq!((reg.umin_value, reg.umax_value, reg.smax_value), (0, 0xffff, 0xffff));
        assert_eq!(reg.var_off, Tnum { value: 0, mask: 0xffff });
    }

    #[test]
    fn sign_extension_of_constants() {
        let mut reg = RegState::UNKNOWN;
        reg.set_known(0x1234_5680);
        reg.coerce_reg_to_size_sx(1);
        assert_eq!((reg.smin_value, reg.umax_value, reg.s32_min_value), (-128, (-128i64) as u64, -128));
        let mut reg = RegState::UNKNOWN;
        reg.set_known(0x8000);
        reg.coerce_subreg_to_size_sx(2);
        assert_eq!((reg.s32_min_value, reg.u32_min_value), (-32768, 0xffff_8000));
        // The 64-bit ranges are left to the zero extension that follows.
        assert_eq!(reg.umin_value, 0x8000);
        reg.zext_32_to_64();
        assert_eq!((reg.umin_value, reg.umax_value), (0xffff_8000, 0xffff_8000));
    }

    #[test]
    fn sign_extension_of_ranges() {
        // Of one sign after the extension: the range survives.
        let mut reg = signed(0x80, 0xff);
        reg.coerce_reg_to_size_sx(1);
        assert_eq!((reg.smin_value, reg.smax_value), (-128, -1));
        assert_eq!((reg.u32_min_value, reg.u32_max_value), (0xffff_ff80, 0xffff_ffff));
        // Of both signs: any value of the size.
        let mut reg = signed(0x70, 0x90);
        reg.coerce_reg_to_size_sx(1);
        assert_eq!((reg.smin_value, reg.smax_value), (-128, 127));
        assert_eq!((reg.umin_value, reg.umax_value, reg.var_off), (0, u64::MAX, Tnum::UNKNOWN));
        let mut reg = signed(i64::MIN, i64::MAX);
        reg.coerce_reg_to_size_sx(4);
        assert_eq!((reg.smin_value, reg.smax_value), (i32::MIN as i64, i32::MAX as i64));
        let mut reg = RegState { s32_min_value: 0x8000, s32_max_value: 0x8010, ..RegState::UNKNOWN };
        reg.coerce_subreg_to_size_sx(2);
        assert_eq!((reg.s32_min_value, reg.s32_max_value), (-32768, -32752));
        assert_eq!(reg.var_off, Tnum { value: 0xffff_8000, mask: 0x1f });
    }
}
