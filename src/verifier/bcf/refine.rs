//! Conditions of rejected checks: that the path to them is taken, and that the access leaves its bounds.

use bpftwin_uapi::Errno;
use bpftwin_uapi::bcf::{BCF_BOOL_AND, BCF_BOOL_OR, BCF_BV_ADD};
use bpftwin_uapi::insn::*;

use super::exprs::width;
use super::suffix::Suffix;
use super::symbolic::fit_s32;
use super::track::TrackError;
use super::{BATCH_SIZE, Bcf, CheckedAccess, Expr, MAX_WORDS};
use crate::verbose;
use crate::verifier::reg_type::RegType;
use crate::verifier::state::RegState;
use crate::verifier::{Features, Result, Verifier};

/// An access to memory whose bounds are to be refined: `struct bcf_mem_access_refine_ctx`.
#[derive(Clone, Copy)]
struct MemAccess {
    ptr_regno: u8,
    size: Size,
    /// The pointer's fixed offset and the instruction's.
    off: i32,
    /// Where the memory begins and ends.
    low: i32,
    high: i32,
}

#[derive(Clone, Copy)]
enum Size {
    Reg(u8),
    Bytes(i32),
}

/// A scalar whose value is to be proved to lie in a range, both ends of it included.
#[derive(Clone, Copy)]
struct ScalarRange {
    regno: u8,
    min: i64,
    max: i64,
}

/// What is to be refined.
#[derive(Clone, Copy)]
enum Subject {
    Access(MemAccess),
    Scalar(ScalarRange),
}

/// What became of an attempt.
enum Attempt {
    /// A condition is to be proved.
    Requested,
    /// The path ends here; a condition that says why may be among those to be proved later.
    Dropped {
        proof_needed: bool,
    },
    Failed,
}

impl Verifier {
    /// `bcf_prove_unreachable`: the present path is to be proved unreachable.
    #[cold]
    pub(in crate::verifier) fn bcf_prove_unreachable(&mut self) {
        if let Attempt::Requested | Attempt::Dropped { proof_needed: true } = self.bcf_refine(0, None) {
            verbose!(self, "bcf requested, try to prove the path unreachable\n");
        }
    }

    /// As [`Self::bcf_prove_unreachable`], where `result` is an error of a kind that asks for it.
    #[inline]
    pub(in crate::verifier) fn bcf_on_eacces<T>(&mut self, result: Result<T>) -> Result<T> {
        if let Err(errno) = result {
            self.bcf_on_error(errno);
        }
        result
    }

    #[cold]
    fn bcf_on_error(&mut self, errno: Errno) {
        if errno == Errno::EACCES {
            self.bcf_prove_unreachable();
        }
    }

    /// `bcf_refine_access_bound`: an access of `size` bytes, or as many as the size register that is checked says, at register
    /// `regno` plus `off` is to be proved to lie within `[low, high)`.
    #[cold]
    pub(in crate::verifier) fn bcf_refine_access_bound(
        &mut self,
        regno: u8,
        off: i32,
        low: i32,
        high: i32,
        size: i32,
    ) {
        let Some(bcf) = &self.bcf else { return };
        let size = if bcf.size_regno > 0 { Size::Reg(bcf.size_regno) } else { Size::Bytes(size) };
        let ptr = self.cur_reg(regno);
        let ptr_const = ptr.is_const();
        let ptr_off = ptr.smin_value.wrapping_add(off.into());
        let mut reg_mask = if ptr_const { 0 } else { 1 << regno };
        let known_size = match size {
            Size::Bytes(size) => Some((size as u32).into()),
            Size::Reg(size_regno) => {
                let reg = self.cur_reg(size_regno);
                if !reg.is_const() {
                    reg_mask |= 1 << size_regno;
                }
                reg.is_const().then_some(reg.var_off.value)
            }
        };
        let mem_size = high.wrapping_sub(low) as u32;
        if reg_mask == 0
            || mem_size == 0
            || ptr_const && !(i64::from(low)..i64::from(high)).contains(&ptr_off)
            || known_size.is_some_and(|size| size > mem_size.into())
        {
            return self.bcf_prove_unreachable();
        }
        let access = MemAccess { ptr_regno: regno, size, off, low, high };
        if let Attempt::Requested = self.bcf_refine(reg_mask, Some(Subject::Access(access))) {
            verbose!(self, "bcf requested, try to refine R{regno} access\n");
        }
    }

    /// As [`Self::bcf_refine_access_bound`], for rejections of an access that the published kernel does not refine: it only asks
    /// whether the path is unreachable.
    #[cold]
    pub(in crate::verifier) fn bcf_refine_wild_access(
        &mut self,
        regno: u8,
        off: i32,
        low: i32,
        high: i32,
        size: i32,
    ) {
        if self.bcf.as_ref().is_some_and(|bcf| bcf.options.auto) {
            self.bcf_refine_access_bound(regno, off, low, high, size);
        }
    }

    /// The value of register `regno`, a scalar, is to be proved to lie in `min..=max`. The published kernel does not refine scalars: there,
    /// the path is to be proved unreachable.
    #[cold]
    pub(in crate::verifier) fn bcf_refine_scalar(&mut self, regno: u8, min: i64, max: i64) {
        let Some(bcf) = &self.bcf else { return };
        if !bcf.options.auto || self.cur_reg(regno).is_const() {
            return self.bcf_prove_unreachable();
        }
        let range = ScalarRange { regno, min, max };
        if let Attempt::Requested = self.bcf_refine(1 << regno, Some(Subject::Scalar(range))) {
            verbose!(self, "bcf requested, try to refine R{regno}\n");
        }
    }

    /// `bcf_refine`: makes the condition of the present path, and of the subject if one is given. `reg_mask` are the registers in
    /// question; zero for all that are not constant pointers.
    fn bcf_refine(&mut self, mut reg_mask: u32, subject: Option<Subject>) -> Attempt {
        let Some(bcf) = &self.bcf else { return Attempt::Failed };
        let options = bcf.options;
        // Once for each rejection.
        if self.cur_state.speculative || bcf.requested || bcf.path_unreachable || self.not_emulated.is_some()
        {
            return Attempt::Failed;
        }
        if bcf.track_budget == 0 || bcf.kept > MAX_WORDS {
            return Attempt::Failed;
        }
        // An access on the way that was refined before: known to be safe.
        if self.tracking {
            if let Some(subject) = subject {
                let _ = self.refine(&subject);
            }
            return Attempt::Failed;
        }
        if reg_mask == 0 {
            let regs = &self.cur_state.cur_func().regs[..BPF_REG_FP as usize];
            for (i, reg) in regs.iter().enumerate() {
                let wanted = reg.type_ == RegType::SCALAR_VALUE || !reg.is_const();
                if reg.type_ != RegType::NOT_INIT && wanted {
                    reg_mask |= 1 << i;
                }
            }
            if reg_mask == 0 {
                return Attempt::Failed;
            }
        }
        let mut suffix = self.backtrack_states(reg_mask, options.whole_path);
        let mut tracked = self.bcf_track(suffix.base);
        // The whole path may be more than can be described.
        if options.whole_path && tracked == Err(TrackError::Failed) {
            suffix = self.backtrack_states(reg_mask, false);
            tracked = self.bcf_track(suffix.base);
        }
        // Who explains a rejection speaks of this path alone, and does not say what else is covered.
        if options.auto && !(options.explain && suffix.base.is_none()) && !self.may_depend_on_path(&suffix) {
            tracked = Err(TrackError::Failed);
        }
        let attempt = match tracked {
            Ok(()) => self.make_conditions(subject).unwrap_or(Attempt::Failed),
            Err(TrackError::Unreachable) => Attempt::Dropped { proof_needed: false },
            Err(TrackError::Failed) => Attempt::Failed,
        };
        if let Some(bcf) = &mut self.bcf {
            bcf.path_unreachable = matches!(attempt, Attempt::Dropped { .. });
            bcf.engaged |= !matches!(attempt, Attempt::Failed);
            if !options.auto {
                bcf.kept = bcf.exprs.len();
            }
        }
        for reg in &mut self.cur_state.cur_func_mut().regs {
            reg.bcf_expr = None;
        }
        // Another path to them has other conditions.
        for id in suffix.parents {
            self.states[id].state.children_unsafe = true;
        }
        attempt
    }

    /// What is found about the suffix holds for all that the walk takes for covered by it: no state was found equal to one of its
    /// checkpoints before (later ones are not, see `children_unsafe`) on another way, and values of its base that the conditions build upon
    /// are compared when other states are found equal to that. The published kernel makes sure of neither.
    fn may_depend_on_path(&mut self, suffix: &Suffix) -> bool {
        if suffix.parents.iter().any(|&id| self.states[id].hit_cnt > 0) {
            return false;
        }
        // A callback that runs by itself begins with arguments that are not those of a function verified on its own.
        if suffix.base.is_none() && self.cur_state.frames[0].in_async_callback_fn {
            return false;
        }
        let level = std::mem::take(&mut self.log.level);
        let regs = self.bcf.as_ref().map(|bcf| bcf.inherited.regs(!bcf.contradiction || !bcf.same_expr));
        let marked =
            suffix.base.zip(regs).is_none_or(|(base, regs)| self.mark_regs_precise(base, &regs).is_ok());
        self.log.level = level;
        marked
    }

    fn make_conditions(&mut self, subject: Option<Subject>) -> Result<Attempt> {
        if let Some(subject) = subject {
            self.refine(&subject)?;
        }
        let Some(bcf) = &mut self.bcf else { return Err(Errno::EFAULT) };
        if let (Some(path), Some(refine)) = (bcf.path_cond, bcf.refine_cond) {
            bcf.refine_cond = Some(bcf.exprs.binary(BCF_BOOL_AND, 0, path, refine));
        }
        match (bcf.path_cond, bcf.refine_cond) {
            (None, None) => return Ok(Attempt::Failed),
            (Some(path), None) if bcf.batch.len() < BATCH_SIZE && !bcf.options.explain => {
                bcf.batch.push(path);
                bcf.kept = bcf.exprs.len();
                return Ok(Attempt::Dropped { proof_needed: true });
            }
            _ => bcf.embed_batch(),
        }
        bcf.requested = true;
        Ok(Attempt::Requested)
    }

    fn refine(&mut self, subject: &Subject) -> Result<()> {
        match subject {
            Subject::Access(access) => self.refine_access(access),
            Subject::Scalar(range) => self.refine_scalar(range),
        }
    }

    /// The condition that the scalar leaves its range, and bounds as they are once it is refuted.
    fn refine_scalar(&mut self, range: &ScalarRange) -> Result<()> {
        let Some(bcf) = &mut self.bcf else { return Err(Errno::EFAULT) };
        let reg = &mut self.cur_state.cur_func_mut().regs[range.regno as usize];
        let expr = reg.bcf_expr.ok_or(Errno::EFAULT)?;
        let mut conds = Vec::new();
        if reg.smin_value < range.min {
            conds.push(bcf.exprs.pred(BPF_JSLT, expr, range.min as u64, false));
        }
        if reg.smax_value > range.max {
            conds.push(bcf.exprs.pred(BPF_JSGT, expr, range.max as u64, false));
        }
        bcf.refine_cond = bcf.exprs.join(BCF_BOOL_OR, &conds);
        reg.smin_value = reg.smin_value.max(range.min);
        reg.smax_value = reg.smax_value.min(range.max);
        reg.bounds_sync(self.features);
        Ok(())
    }

    /// `__bcf_refine_access_bound`: the condition that the access leaves its memory, and bounds as they are once it is refuted.
    fn refine_access(&mut self, access: &MemAccess) -> Result<()> {
        let Some(bcf) = &mut self.bcf else { return Err(Errno::EFAULT) };
        let regs = &mut self.cur_state.cur_func_mut().regs;
        let mut ptr = regs[access.ptr_regno as usize];
        let mut size = match access.size {
            Size::Reg(regno) => regs[regno as usize],
            Size::Bytes(bytes) => {
                let mut reg = RegState { type_: RegType::SCALAR_VALUE, ..RegState::ZERO };
                reg.mark_known((bytes as u32).into());
                reg
            }
        };
        let mut is_range = false;
        bcf.refine_cond = if ptr.is_const() {
            bcf.refine_size(self.features, access, &ptr, &mut size)
        } else if size.is_const() {
            bcf.refine_ptr(self.features, access, &mut ptr, &size)
        } else {
            is_range = true;
            bcf.refine_range(self.features, access, &mut ptr, &mut size)
        };
        // Also where there is no condition, because a register that nothing has read yet has no expression: another attempt finds
        // these bounds, too.
        regs[access.ptr_regno as usize] = ptr;
        if let Size::Reg(regno) = access.size {
            regs[regno as usize] = size;
        }
        self.cur_state.children_unsafe |= is_range;
        bcf.refine_cond.map(drop).ok_or(Errno::EFAULT)
    }
}

impl Bcf {
    /// Expressions of the pointer's variable part and of the size, of 32 bits where both are; whether they are.
    fn operands(&mut self, ptr: &RegState, size: &RegState) -> (Option<Expr>, Option<Expr>, bool) {
        let bit32 = fit_s32(ptr) && fit_s32(size);
        let mut view =
            |expr: Option<Expr>| expr.map(|expr| if bit32 { self.exprs.low32(expr) } else { expr });
        (view(ptr.bcf_expr), view(size.bcf_expr), bit32)
    }

    /// A constant pointer and a variable size: the size is at most what is left of the memory.
    fn refine_size(
        &mut self,
        features: Features,
        access: &MemAccess,
        ptr: &RegState,
        size: &mut RegState,
    ) -> Option<Expr> {
        let (_, size_expr, bit32) = self.operands(ptr, size);
        let off = access.off.wrapping_add(ptr.var_off.value as i32);
        let left = access.high.wrapping_sub(off) as i64 as u64;
        size.umax_value = left;
        size.umin_value = size.umin_value.min(left);
        size.bounds_sync(features);
        Some(self.exprs.pred(BPF_JGT, size_expr?, left, bit32))
    }

    /// A variable pointer and a constant size: the pointer's variable part lies where the access fits.
    fn refine_ptr(
        &mut self,
        features: Features,
        access: &MemAccess,
        ptr: &mut RegState,
        size: &RegState,
    ) -> Option<Expr> {
        let (off_expr, _, bit32) = self.operands(ptr, size);
        let bytes = size.var_off.value as u32 as i64;
        let off = i64::from(access.off);
        let first = self.first_off(access);
        let mut last = i64::from(access.high) - bytes - off;
        if !self.options.auto {
            // An unsigned number as published, even where it is negative.
            last = last as u32 as i64;
        }
        let too_low = ptr.smin_value < first;
        let too_high = self.highest(ptr, off.wrapping_add(bytes)) > access.high.into();
        if too_low {
            ptr.smin_value = first;
        }
        if too_high {
            ptr.smax_value = last;
        }
        ptr.bounds_sync(features);
        let off_expr = off_expr?;
        let high = self.exprs.pred(BPF_JSGT, off_expr, last as u64, bit32);
        Some(self.or_below(too_low, off_expr, first, bit32, high))
    }

    /// Both are variable: their sum lies within the memory. Which of them is too coarse is not known, so the access as a whole is
    /// remembered.
    fn refine_range(
        &mut self,
        features: Features,
        access: &MemAccess,
        ptr: &mut RegState,
        size: &mut RegState,
    ) -> Option<Expr> {
        let Size::Reg(size_regno) = access.size else { return None };
        let (mut off_expr, mut size_expr, mut bit32) = (ptr.bcf_expr, size.bcf_expr, false);
        // The sum of two halves may not fit a half, which the published kernel does not mind.
        if !self.options.auto || ptr.smax_value.saturating_add(size.smax_value) <= i32::MAX.into() {
            (off_expr, size_expr, bit32) = self.operands(ptr, size);
        }
        let off = i64::from(access.off);
        let (first, last) = (self.first_off(access), i64::from(access.high) - off);
        let (too_low, max_off) = (ptr.smin_value < first, ptr.smax_value);
        let too_high = self.highest(ptr, off) > access.high.into();
        if too_low {
            ptr.smin_value = first;
        }
        if too_high {
            ptr.smax_value = last;
        }
        size.umax_value = size.umax_value.min(access.high.wrapping_sub(access.low) as u32 as u64);
        ptr.bounds_sync(features);
        size.bounds_sync(features);
        let (off_expr, size_expr) = (off_expr?, size_expr?);
        let end = self.exprs.binary(BCF_BV_ADD, width(bit32), off_expr, size_expr);
        let mut high = self.exprs.pred(BPF_JSGT, end, last as u64, bit32);
        if self.options.auto && max_off > last {
            // The sum may wrap, unless the offset alone is not too large.
            let above = self.exprs.pred(BPF_JSGT, off_expr, last as u64, bit32);
            high = self.exprs.binary(BCF_BOOL_OR, 0, above, high);
        }
        let min_off = ptr.smin_value.saturating_add(off);
        self.access_checked = Some(CheckedAccess {
            size_regno,
            off: ptr.smin_value,
            size: (i64::from(access.high) - min_off) as i32,
        });
        Some(self.or_below(too_low, off_expr, first, bit32, high))
    }

    /// Where an access through `ptr` with distance `off` ends at the latest. As published, offsets without bound wrap around.
    fn highest(&self, ptr: &RegState, off: i64) -> i64 {
        if self.options.auto { ptr.smax_value.saturating_add(off) } else { ptr.smax_value.wrapping_add(off) }
    }

    /// The lowest variable part of the pointer's offset that is to be allowed. Regions other than the stack are checked with unsigned bounds,
    /// so that it may not be negative there; the published kernel would ask for the same proof over and over.
    fn first_off(&self, access: &MemAccess) -> i64 {
        let first = i64::from(access.low) - i64::from(access.off);
        if self.options.auto && access.low >= 0 { first.max(0) } else { first }
    }

    /// `high`, or the offset being below `first`, where that is possible.
    fn or_below(&mut self, too_low: bool, off: Expr, first: i64, bit32: bool, high: Expr) -> Expr {
        if !too_low {
            return high;
        }
        let low = self.exprs.pred(BPF_JSLT, off, first as u64, bit32);
        self.exprs.binary(BCF_BOOL_OR, 0, low, high)
    }

    /// One proof for all: the conditions of the dropped paths become part of the present one's.
    fn embed_batch(&mut self) {
        let Some(batch) = self.exprs.join(BCF_BOOL_OR, &self.batch) else { return };
        for cond in [&mut self.path_cond, &mut self.refine_cond] {
            if let Some(present) = *cond {
                *cond = Some(self.exprs.binary(BCF_BOOL_OR, 0, batch, present));
            }
        }
    }

    /// All paths are explored: whether dropped ones are left to prove unreachable.
    pub(super) fn request_batch(&mut self) -> bool {
        self.path_cond = self.exprs.join(BCF_BOOL_OR, &self.batch);
        self.refine_cond = None;
        self.requested = self.path_cond.is_some();
        self.requested
    }
}
