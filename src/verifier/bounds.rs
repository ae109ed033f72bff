//! Bounds of registers: the 64- and 32-bit, signed and unsigned ranges and the tnum, and how each sharpens the
//! others.
//!
//! A register's value lies in the intersection of five sets: `[umin, umax]`, `[smin, smax]`, the two ranges of its low 32
//! bits, and `var_off`. After every operation [`RegState::bounds_sync`] propagates what one of them knows to the
//! others, in the kernel's order: the outcome is visible in the log and decides what is pruned.

use bpftwin_uapi::Errno;

use super::reg_type::{RegType, flag};
use super::state::{Payload, RegState};
use super::tnum::Tnum;
use super::{Features, Result, Verifier};
use crate::verbose;

impl RegState {
    /// `___mark_reg_known`: the value is `imm`; identity is kept.
    #[inline]
    pub fn set_known(&mut self, imm: u64) {
        self.bcf_expr = None;
        self.narrow_to(imm);
    }

    /// What is known of the value leaves only `imm`: it is still the value that it was.
    #[inline]
    fn narrow_to(&mut self, imm: u64) {
        self.var_off = Tnum::constant(imm);
        self.smin_value = imm as i64;
        self.smax_value = imm as i64;
        self.umin_value = imm;
        self.umax_value = imm;
        self.s32_min_value = imm as i32;
        self.s32_max_value = imm as i32;
        self.u32_min_value = imm as u32;
        self.u32_max_value = imm as u32;
    }

    /// `clear_scalar_id`: the value has no copies any more, nor a distance to any.
    #[inline]
    pub fn clear_scalar_id(&mut self) {
        self.id = 0;
        self.off = 0;
    }

    /// `__mark_reg_known`: the value (or variable offset) is `imm`; payload, fixed offset and ids are cleared.
    #[inline]
    pub fn mark_known(&mut self, imm: u64) {
        self.off = 0;
        self.payload = Payload::default();
        self.id = 0;
        self.ref_obj_id = 0;
        self.set_known(imm);
    }

    /// `__mark_reg32_known`
    pub fn mark32_known(&mut self, imm: u64) {
        self.var_off = self.var_off.const_subreg(imm as u32);
        self.s32_min_value = imm as i32;
        self.s32_max_value = imm as i32;
        self.u32_min_value = imm as u32;
        self.u32_max_value = imm as u32;
    }

    /// `__mark_reg_known_zero`
    #[inline]
    pub fn mark_known_zero(&mut self) {
        self.mark_known(0);
    }

    /// `__mark_reg_const_zero`: the scalar zero. `precise` is given where the program is not privileged.
    pub fn mark_const_zero(&mut self, precise: bool) {
        self.mark_known(0);
        self.type_ = RegType::SCALAR_VALUE;
        self.precise = precise;
    }

    /// `__mark_reg_unbounded`
    #[inline]
    pub fn mark_unbounded(&mut self) {
        self.mark64_unbounded();
        self.mark32_unbounded();
    }

    /// `__mark_reg64_unbounded`
    #[inline]
    pub fn mark64_unbounded(&mut self) {
        self.smin_value = i64::MIN;
        self.smax_value = i64::MAX;
        self.umin_value = 0;
        self.umax_value = u64::MAX;
    }

    /// `__mark_reg32_unbounded`
    #[inline]
    pub fn mark32_unbounded(&mut self) {
        self.s32_min_value = i32::MIN;
        self.s32_max_value = i32::MAX;
        self.u32_min_value = 0;
        self.u32_max_value = u32::MAX;
    }

    /// `__mark_reg_unknown_imprecise`: any scalar. `subreg_def` is kept.
    #[inline]
    pub fn mark_unknown_imprecise(&mut self) {
        let subreg_def = self.subreg_def;
        *self = RegState { subreg_def, ..RegState::UNKNOWN };
    }

    /// Any scalar, imprecise.
    pub const UNKNOWN: RegState = RegState {
        type_: RegType::SCALAR_VALUE,
        var_off: Tnum::UNKNOWN,
        smin_value: i64::MIN,
        smax_value: i64::MAX,
        umin_value: 0,
        umax_value: u64::MAX,
        s32_min_value: i32::MIN,
        s32_max_value: i32::MAX,
        u32_min_value: 0,
        u32_max_value: u32::MAX,
        ..RegState::ZERO
    };

    pub fn update32_bounds(&mut self) {
        let var32 = self.var_off.subreg();
        let (value, mask) = (var32.value as u32, var32.mask as u32);
        self.s32_min_value = self.s32_min_value.max((value | (mask & i32::MIN as u32)) as i32);
        self.s32_max_value = self.s32_max_value.min((value | (mask & i32::MAX as u32)) as i32);
        self.u32_min_value = self.u32_min_value.max(value);
        self.u32_max_value = self.u32_max_value.min(value | mask);
    }

    fn update64_bounds(&mut self, features: Features) {
        let Tnum { value, mask } = self.var_off;
        self.smin_value = self.smin_value.max((value | (mask & i64::MIN as u64)) as i64);
        self.smax_value = self.smax_value.min((value | (mask & i64::MAX as u64)) as i64);
        self.umin_value = self.umin_value.max(value);
        self.umax_value = self.umax_value.min(value | mask);

        if !features.sharp_bounds {
            return;
        }
        // The known bits and the unsigned range may have one value in common: the lower end, the largest of the known
        // bits, or one between.
        let next = self.var_off.step(self.umin_value);
        if self.umin_value & !mask == value {
            if next > self.umax_value {
                self.narrow_to(self.umin_value);
            }
        } else if next == value | mask || next <= self.umax_value && self.var_off.step(next) > self.umax_value
        {
            self.narrow_to(next);
        }
    }

    /// `__update_reg_bounds`: ranges learn from the known bits.
    pub fn update_bounds(&mut self, features: Features) {
        self.update32_bounds();
        self.update64_bounds(features);
    }

    fn narrow_s32(&mut self, min: i32, max: i32) {
        self.s32_min_value = self.s32_min_value.max(min);
        self.s32_max_value = self.s32_max_value.min(max);
    }

    fn narrow_u32(&mut self, min: u32, max: u32) {
        self.u32_min_value = self.u32_min_value.max(min);
        self.u32_max_value = self.u32_max_value.min(max);
    }

    /// `__reg32_deduce_bounds`: the 32-bit ranges learn from the 64-bit ones and from each other.
    fn deduce32_bounds(&mut self, features: Features) {
        let (umin, umax) = (self.umin_value, self.umax_value);
        let (smin, smax) = (self.smin_value, self.smax_value);
        // Equal upper halves: the lower halves are a range of their own.
        if umin >> 32 == umax >> 32 {
            self.narrow_u32(umin as u32, umax as u32);
            if umin as i32 <= umax as i32 {
                self.narrow_s32(umin as i32, umax as i32);
            }
        }
        if smin >> 32 == smax >> 32 {
            if smin as u32 <= smax as u32 {
                self.narrow_u32(smin as u32, smax as u32);
            }
            if smin as i32 <= smax as i32 {
                self.narrow_s32(smin as i32, smax as i32);
            }
        }
        // Upper halves that differ by one, while the lower half goes from negative to positive.
        if ((umin >> 32) as u32).wrapping_add(1) == (umax >> 32) as u32
            && (umin as i32) < 0
            && umax as i32 >= 0
        {
            self.narrow_s32(umin as i32, umax as i32);
        }
        if ((smin >> 32) as u32).wrapping_add(1) == (smax >> 32) as u32
            && (smin as i32) < 0
            && smax as i32 >= 0
        {
            self.narrow_s32(smin as i32, smax as i32);
        }
        // Ranges that do not cross the sign boundary hold in both readings.
        if self.u32_min_value as i32 <= self.u32_max_value as i32 {
            self.narrow_s32(self.u32_min_value as i32, self.u32_max_value as i32);
        }
        if self.s32_min_value as u32 <= self.s32_max_value as u32 {
            self.narrow_u32(self.s32_min_value as u32, self.s32_max_value as u32);
        } else if !features.sharp_bounds {
            // Ranges that wrap tell nothing of each other.
        } else if self.u32_max_value < self.s32_min_value as u32 {
            // The signed range wraps in the unsigned order, and only its non-negative part overlaps.
            self.s32_min_value = self.u32_min_value as i32;
            self.u32_max_value = self.u32_max_value.min(self.s32_max_value as u32);
        } else if (self.s32_max_value as u32) < self.u32_min_value {
            // Only its negative part overlaps.
            self.s32_max_value = self.u32_max_value as i32;
            self.u32_min_value = self.u32_min_value.max(self.s32_min_value as u32);
        }
    }

    /// `__reg64_deduce_bounds`: the signed and the unsigned 64-bit range learn from each other.
    fn deduce64_bounds(&mut self) {
        if self.umin_value as i64 <= self.umax_value as i64 {
            self.smin_value = self.smin_value.max(self.umin_value as i64);
            self.smax_value = self.smax_value.min(self.umax_value as i64);
        }
        if self.smin_value as u64 <= self.smax_value as u64 {
            self.umin_value = self.umin_value.max(self.smin_value as u64);
            self.umax_value = self.umax_value.min(self.smax_value as u64);
        } else if self.umax_value < self.smin_value as u64 {
            // The signed range wraps in the unsigned order, and only its non-negative part overlaps.
            self.smin_value = self.umin_value as i64;
            self.umax_value = self.umax_value.min(self.smax_value as u64);
        } else if (self.smax_value as u64) < self.umin_value {
            // Only its negative part overlaps.
            self.smax_value = self.umax_value as i64;
            self.umin_value = self.umin_value.max(self.smin_value as u64);
        }
    }

    /// `__reg_deduce_mixed_bounds`: the 64-bit ranges learn from the 32-bit ones.
    fn deduce_mixed_bounds(&mut self) {
        const HIGH: u64 = !0xffff_ffff;
        let low = (self.u32_min_value as u64, self.u32_max_value as u64);
        self.umin_value = self.umin_value.max((self.umin_value & HIGH) | low.0);
        self.umax_value = self.umax_value.min((self.umax_value & HIGH) | low.1);
        self.smin_value = self.smin_value.max(((self.smin_value as u64 & HIGH) | low.0) as i64);
        self.smax_value = self.smax_value.min(((self.smax_value as u64 & HIGH) | low.1) as i64);
        // After a sign extension: a non-negative low half rules out an upper half of all ones.
        if self.s32_min_value >= 0 && self.smin_value >= i32::MIN as i64 && self.smax_value <= i32::MAX as i64
        {
            self.smin_value = self.s32_min_value as i64;
            self.smax_value = self.s32_max_value as i64;
            self.umin_value = self.s32_min_value as u64;
            self.umax_value = self.s32_max_value as i64 as u64;
            self.var_off =
                self.var_off.intersect(Tnum::range(self.smin_value as u64, self.smax_value as u64));
        }
    }

    /// All that deduction reads.
    #[inline]
    fn ranges(&self) -> ([i64; 2], [u64; 2], [i32; 2], [u32; 2]) {
        (
            [self.smin_value, self.smax_value],
            [self.umin_value, self.umax_value],
            [self.s32_min_value, self.s32_max_value],
            [self.u32_min_value, self.u32_max_value],
        )
    }

    fn deduce_bounds(&mut self, features: Features) {
        self.deduce32_bounds(features);
        self.deduce64_bounds();
        self.deduce_mixed_bounds();
    }

    /// `__reg_bound_offset`: the known bits learn from the unsigned ranges.
    fn bound_offset(&mut self) {
        let var64 = self.var_off.intersect(Tnum::range(self.umin_value, self.umax_value));
        let var32 =
            var64.subreg().intersect(Tnum::range(self.u32_min_value as u64, self.u32_max_value as u64));
        self.var_off = var64.clear_subreg().or(var32);
    }

    /// `reg_bounds_sync`: brings all ranges and the known bits into agreement.
    pub fn bounds_sync(&mut self, features: Features) {
        self.update_bounds(features);
        // What learns nothing in one round learns nothing in the next.
        for _ in 0..3 {
            let before = self.ranges();
            self.deduce_bounds(features);
            if self.ranges() == before {
                break;
            }
        }
        self.bound_offset();
        self.update_bounds(features);
    }

    /// `__reg_assign_32_into_64`: 64-bit ranges of a zero-extended 32-bit value.
    pub fn assign_32_into_64(&mut self) {
        self.umin_value = self.u32_min_value as u64;
        self.umax_value = self.u32_max_value as u64;
        if self.s32_min_value >= 0 && self.s32_max_value >= 0 {
            self.smin_value = self.s32_min_value as i64;
            self.smax_value = self.s32_max_value as i64;
        } else {
            self.smin_value = 0;
            self.smax_value = u32::MAX as i64;
        }
    }

    /// `zext_32_to_64`: the upper half becomes zero.
    pub fn zext_32_to_64(&mut self) {
        self.var_off = self.var_off.subreg();
        self.assign_32_into_64();
    }

    fn invariant_violation(&self) -> Option<&'static str> {
        if self.umin_value > self.umax_value
            || self.smin_value > self.smax_value
            || self.u32_min_value > self.u32_max_value
            || self.s32_min_value > self.s32_max_value
        {
            return Some("range bounds violation");
        }
        if self.var_off.is_const() {
            let value = self.var_off.value;
            if self.umin_value != value
                || self.umax_value != value
                || self.smin_value != value as i64
                || self.smax_value != value as i64
            {
                return Some("const tnum out of sync with range bounds");
            }
        }
        if self.var_off.subreg_is_const() {
            let value = self.var_off.value as u32;
            if self.u32_min_value != value
                || self.u32_max_value != value
                || self.s32_min_value != value as i32
                || self.s32_max_value != value as i32
            {
                return Some("const subreg tnum out of sync with range bounds");
            }
        }
        None
    }

    /// `type_is_pkt_pointer` of the register's type.
    #[inline]
    pub fn is_pkt_pointer(&self) -> bool {
        let base = self.type_.base();
        base == RegType::PTR_TO_PACKET || base == RegType::PTR_TO_PACKET_META
    }

    /// `reg_is_pkt_pointer_any`
    #[inline]
    pub fn is_pkt_pointer_any(&self) -> bool {
        self.is_pkt_pointer() || self.type_ == RegType::PTR_TO_PACKET_END
    }

    /// `reg_is_dynptr_slice_pkt`
    #[inline]
    pub fn is_dynptr_slice_pkt(&self) -> bool {
        self.type_.base() == RegType::PTR_TO_MEM
            && self.type_.has_any(flag::DYNPTR_TYPE_SKB | flag::DYNPTR_TYPE_XDP | flag::DYNPTR_TYPE_SKB_META)
    }

    /// `reg_is_init_pkt_pointer`: as the context handed it out, not advanced since.
    pub fn is_init_pkt_pointer(&self, which: RegType) -> bool {
        self.type_ == which && self.id == 0 && self.off == 0 && self.var_off.equals_const(0)
    }
}

impl Verifier {
    /// `__mark_reg_unknown`
    #[inline]
    pub fn mark_reg_unknown(bpf_capable: bool, reg: &mut RegState) {
        reg.mark_unknown_imprecise();
        reg.precise = !bpf_capable;
    }

    /// `__mark_reg_not_init`
    #[inline]
    pub fn mark_reg_not_init(bpf_capable: bool, reg: &mut RegState) {
        Self::mark_reg_unknown(bpf_capable, reg);
        reg.type_ = RegType::NOT_INIT;
    }

    /// `mark_reg_unknown` on a register of the current frame.
    #[inline]
    pub fn mark_cur_reg_unknown(&mut self, regno: u8) {
        let capable = self.bpf_capable;
        Self::mark_reg_unknown(capable, self.cur_reg_mut(regno));
    }

    /// `mark_reg_not_init` on a register of the current frame.
    #[inline]
    pub fn mark_cur_reg_not_init(&mut self, regno: u8) {
        let capable = self.bpf_capable;
        Self::mark_reg_not_init(capable, self.cur_reg_mut(regno));
    }

    /// `mark_reg_known_zero` on a register of the current frame.
    #[inline]
    pub fn mark_cur_reg_known_zero(&mut self, regno: u8) {
        self.cur_reg_mut(regno).mark_known_zero();
    }

    /// A register of the current frame. `regno` comes from a four-bit field that was checked.
    #[inline]
    pub fn cur_reg(&self, regno: u8) -> &RegState {
        &self.cur_state.cur_func().regs[regno as usize]
    }

    #[inline]
    pub fn cur_reg_mut(&mut self, regno: u8) -> &mut RegState {
        &mut self.cur_state.cur_func_mut().regs[regno as usize]
    }

    /// `__mark_reg_s32_range`
    pub fn mark_reg_s32_range(&mut self, regno: u8, s32_min: i32, s32_max: i32) -> Result<()> {
        let features = self.features;
        let reg = self.cur_reg_mut(regno);
        reg.s32_min_value = reg.s32_min_value.max(s32_min);
        reg.s32_max_value = reg.s32_max_value.min(s32_max);
        reg.smin_value = reg.smin_value.max(s32_min as i64);
        reg.smax_value = reg.smax_value.min(s32_max as i64);
        reg.bounds_sync(features);
        let mut reg = *reg;
        let result = self.reg_bounds_sanity_check(&mut reg, "s32_range");
        *self.cur_reg_mut(regno) = reg;
        result
    }

    /// `reg_bounds_sanity_check`: contradictory bounds are forgotten, or end the verification under
    /// `BPF_F_TEST_REG_INVARIANTS`.
    #[inline]
    pub fn reg_bounds_sanity_check(&mut self, reg: &mut RegState, ctx: &str) -> Result<()> {
        match reg.invariant_violation() {
            None => Ok(()),
            Some(msg) => self.report_invariant_violation(reg, ctx, msg),
        }
    }

    /// [`reg_bounds_sanity_check`](Self::reg_bounds_sanity_check) on a register of the current frame.
    #[inline]
    pub fn cur_reg_bounds_sanity_check(&mut self, regno: u8, ctx: &str) -> Result<()> {
        let Some(msg) = self.cur_reg(regno).invariant_violation() else { return Ok(()) };
        let mut reg = *self.cur_reg(regno);
        let result = self.report_invariant_violation(&mut reg, ctx, msg);
        *self.cur_reg_mut(regno) = reg;
        result
    }

    #[cold]
    fn report_invariant_violation(&mut self, reg: &mut RegState, ctx: &str, msg: &str) -> Result<()> {
        verbose!(
            self,
            "verifier bug: REG INVARIANTS VIOLATION ({ctx}): {msg} u64=[{:#x}, {:#x}] s64=[{:#x}, {:#x}] \
             u32=[{:#x}, {:#x}] s32=[{:#x}, {:#x}] var_off=({:#x}, {:#x})\n",
            reg.umin_value,
            reg.umax_value,
            reg.smin_value,
            reg.smax_value,
            reg.u32_min_value,
            reg.u32_max_value,
            reg.s32_min_value,
            reg.s32_max_value,
            reg.var_off.value,
            reg.var_off.mask,
        );
        if self.test_reg_invariants {
            return Err(Errno::EFAULT);
        }
        reg.mark_unbounded();
        Ok(())
    }
}
