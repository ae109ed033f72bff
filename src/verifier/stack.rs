//! The stack: what a write leaves in its slots, what a read makes of them.
//!
//! Each slot of eight bytes holds either a spilled register, whose bytes are of type `STACK_SPILL`, or bytes that are each
//! invalid, anything (`STACK_MISC`) or zero (`STACK_ZERO`). A register that is spilled keeps all that is known of it, and
//! a fill of the same bytes brings it back; any other access falls back on bytes. [`Verifier::check_mem_access`] calls
//! these functions after it has checked alignment and bounds, so that slots exist and an access of fixed offset touches
//! one slot alone.

use bpftwin_uapi::insn::{BPF_MEM, BPF_ST, MAX_BPF_STACK};
use bpftwin_uapi::{Errno, Insn};

use super::access::{AccessType, CallArgMeta};
use super::reg_type::RegType;
use super::state::*;
use super::{BPF_MAX_VAR_OFF, Result, Verifier};
use crate::verbose;

/// Slot of the byte at stack offset `off`.
#[inline]
fn get_spi(off: i32) -> usize {
    (!off) as u32 as usize / BPF_REG_SIZE
}

/// Its index in `StackState::slot_type`, which begins at the highest address.
#[inline]
fn slot_byte(off: i32) -> usize {
    (!off) as u32 as usize % BPF_REG_SIZE
}

impl StackState {
    /// `is_stack_slot_special`: holds a register or an object of the kernel's, not plain bytes.
    #[inline]
    pub fn is_special(&self) -> bool {
        !matches!(self.slot_type[BPF_REG_SIZE - 1], STACK_INVALID | STACK_MISC | STACK_ZERO)
    }

    /// `save_register_state`: the lowest `size` bytes of the slot become a spill of `reg`.
    #[inline]
    pub fn save_register_state(&mut self, reg: &RegState, size: usize) {
        self.spilled_ptr = *reg;
        let (rest, spilled) = self.slot_type.split_at_mut(BPF_REG_SIZE - size);
        spilled.fill(STACK_SPILL);
        rest.iter_mut().for_each(mark_stack_slot_misc);
    }

    /// Bytes of a spill become plain bytes: `scrub_spilled_slot` on the whole slot.
    #[inline]
    pub fn scrub(&mut self) {
        for slot_type in &mut self.slot_type {
            if *slot_type != STACK_INVALID {
                *slot_type = STACK_MISC;
            }
        }
    }

    /// `scrub_special_slot`: a write of plain bytes destroys what was spilled to the slot.
    #[inline]
    fn scrub_special(&mut self) {
        self.erase_spilled();
        if self.is_special() {
            self.scrub();
        }
    }

    #[inline]
    fn erase_spilled(&mut self) {
        self.spilled_ptr.type_ = RegType::NOT_INIT;
        self.spilled_ptr.bcf_expr = None;
    }

    /// Bytes of the spill that the slot holds.
    #[inline]
    fn spill_size(&self) -> usize {
        1 + self.slot_type[..BPF_REG_SIZE - 1].iter().rev().take_while(|&&t| t == STACK_SPILL).count()
    }
}

/// `mark_stack_slot_misc`: invalid bytes stay so, and zeros, which are the more precise.
#[inline]
pub fn mark_stack_slot_misc(slot_type: &mut SlotType) {
    if !matches!(*slot_type, STACK_ZERO | STACK_INVALID) {
        *slot_type = STACK_MISC;
    }
}

/// `is_spillable_regtype`
pub fn is_spillable_regtype(reg_type: RegType) -> bool {
    matches!(
        reg_type.base(),
        RegType::PTR_TO_MAP_VALUE
            | RegType::PTR_TO_STACK
            | RegType::PTR_TO_CTX
            | RegType::PTR_TO_PACKET
            | RegType::PTR_TO_PACKET_META
            | RegType::PTR_TO_PACKET_END
            | RegType::PTR_TO_FLOW_KEYS
            | RegType::CONST_PTR_TO_MAP
            | RegType::PTR_TO_SOCKET
            | RegType::PTR_TO_SOCK_COMMON
            | RegType::PTR_TO_TCP_SOCK
            | RegType::PTR_TO_XDP_SOCK
            | RegType::PTR_TO_BTF_ID
            | RegType::PTR_TO_BUF
            | RegType::PTR_TO_MEM
            | RegType::PTR_TO_FUNC
            | RegType::PTR_TO_MAP_KEY
            | RegType::PTR_TO_ARENA
    )
}

/// `get_reg_width`: bits that the register's value needs.
#[inline]
fn get_reg_width(reg: &RegState) -> u32 {
    u64::BITS - reg.umax_value.leading_zeros()
}

fn is_bpf_st_mem(insn: Insn) -> bool {
    insn.class() == BPF_ST && insn.mode() == BPF_MEM
}

/// `insn_stack_access_flags`
#[inline]
fn insn_stack_access_flags(frame: usize, spi: usize) -> u32 {
    insn_flag::STACK_ACCESS | ((spi as u32) << insn_flag::SPI_SHIFT) | frame as u32
}

impl Verifier {
    /// The frame that a pointer to stack points into: `func(env, reg)`.
    #[inline]
    fn stack_frame_of(&self, regno: u8) -> usize {
        self.cur_reg(regno).frameno as usize
    }

    #[inline]
    fn stack_slot(&self, frame: usize, spi: usize) -> &StackState {
        &self.cur_state.frames[frame].stack[spi]
    }

    #[inline]
    fn stack_slot_mut(&mut self, frame: usize, spi: usize) -> &mut StackState {
        &mut self.cur_state.frames[frame].stack[spi]
    }

    /// Makes the stack of a frame at least `size` bytes deep, and remembers the depth in its subprogram.
    pub fn grow_stack_state(&mut self, frame: usize, size: i32) {
        let slots = (size as usize).div_ceil(BPF_REG_SIZE);
        let func = &mut self.cur_state.frames[frame];
        if func.stack.len() >= slots {
            return;
        }
        func.stack.resize(slots, StackState::default());
        let subprog = &mut self.subprog_info[func.subprogno as usize];
        subprog.stack_depth = subprog.stack_depth.max((slots * BPF_REG_SIZE) as u16);
    }

    /// Dynptrs cannot exist yet: a slot that holds one would be a fault of this verifier.
    #[inline]
    fn destroy_if_dynptr_stack_slot(&mut self, frame: usize, spi: usize) -> Result<()> {
        if self.stack_slot(frame, spi).slot_type[0] == STACK_DYNPTR {
            return self.not_emulated("dynptrs");
        }
        Ok(())
    }

    /// `check_stack_read`: reads `size` bytes at `off`, which includes the pointer's fixed offset alone.
    ///
    /// Without `dst_regno` the value goes to no register.
    pub fn check_stack_read(
        &mut self,
        ptr_regno: u8,
        off: i32,
        size: i32,
        dst_regno: Option<u8>,
    ) -> Result<()> {
        let var_off = self.cur_reg(ptr_regno).var_off;
        if var_off.is_const() {
            let frame = self.stack_frame_of(ptr_regno);
            return self.check_stack_read_fixed_off(
                frame,
                off.wrapping_add(var_off.value as i32),
                size,
                dst_regno,
            );
        }
        let Some(dst_regno) = dst_regno else {
            verbose!(
                self,
                "variable offset stack pointer cannot be passed into helper function; var_off={var_off} off={off} size={size}\n"
            );
            return Err(Errno::EACCES);
        };
        self.check_stack_read_var_off(ptr_regno, off, size, dst_regno)
    }

    /// `check_stack_write`: writes `size` bytes at `off`, which includes the pointer's fixed offset alone.
    ///
    /// Without `value_regno` the value is an immediate of the instruction, or unknown.
    pub fn check_stack_write(
        &mut self,
        ptr_regno: u8,
        off: i32,
        size: i32,
        value_regno: Option<u8>,
        insn_idx: u32,
    ) -> Result<()> {
        let var_off = self.cur_reg(ptr_regno).var_off;
        let frame = self.stack_frame_of(ptr_regno);
        if var_off.is_const() {
            let off = off.wrapping_add(var_off.value as i32);
            self.check_stack_write_fixed_off(frame, off, size, value_regno, insn_idx)
        } else {
            self.check_stack_write_var_off(frame, ptr_regno, off, size, value_regno, insn_idx)
        }
    }

    fn check_stack_write_fixed_off(
        &mut self,
        frame: usize,
        off: i32,
        size: i32,
        value_regno: Option<u8>,
        insn_idx: u32,
    ) -> Result<()> {
        let spi = get_spi(off);
        let aligned = off % BPF_REG_SIZE as i32 == 0;
        let whole = size == BPF_REG_SIZE as i32;
        if !self.allow_ptr_leaks {
            let slot = self.stack_slot(frame, spi);
            if slot.is_spilled_reg() && !slot.is_spilled_scalar_reg() && !whole {
                verbose!(self, "attempt to corrupt spilled pointer on stack\n");
                return Err(Errno::EACCES);
            }
        }
        if !self.bypass_spec_v4 {
            self.sanitize_stack_write(frame, spi, size, value_regno, insn_idx);
        }
        self.destroy_if_dynptr_stack_slot(frame, spi)?;
        if aligned && whole {
            self.bpf_mark_stack_write(frame, 1 << spi);
        }
        self.check_fastcall_stack_contract(self.cur_state.frames[frame].subprogno, insn_idx, off);
        self.mark_stack_slot_scratched(spi as u32);

        let curframe = self.cur_state.curframe();
        let insn = self.prog.insns[insn_idx as usize];
        match value_regno {
            Some(regno) => {
                let reg = &mut self.cur_state.frames[curframe].regs[regno as usize];
                if aligned && reg.type_ == RegType::SCALAR_VALUE && self.bpf_capable {
                    let fits = get_reg_width(reg) <= 8 * size as u32;
                    if fits {
                        Self::assign_scalar_id_before_mov(&mut self.id_gen, reg);
                    }
                    let mut saved = *reg;
                    if !fits {
                        saved.id = 0;
                    }
                    if self.tracking && !whole {
                        saved.bcf_expr = self.bcf_part(regno, 8 * size as u16)?;
                    }
                    self.stack_slot_mut(frame, spi).save_register_state(&saved, size as usize);
                } else if is_spillable_regtype(reg.type_) {
                    let saved = *reg;
                    if !whole {
                        self.verbose_linfo(insn_idx, format_args!("; "));
                        verbose!(self, "invalid size of register spill\n");
                        return Err(Errno::EACCES);
                    }
                    if frame != curframe && saved.type_ == RegType::PTR_TO_STACK {
                        verbose!(self, "cannot spill pointers to stack into stack frame of the caller\n");
                        return Err(Errno::EINVAL);
                    }
                    self.stack_slot_mut(frame, spi).save_register_state(&saved, size as usize);
                } else {
                    let zero = reg.is_null();
                    return self.write_stack_bytes(frame, off, size, zero, value_regno);
                }
            }
            None if aligned && is_bpf_st_mem(insn) && self.bpf_capable => {
                let mut saved = RegState::ZERO;
                saved.mark_known(insn.imm as i64 as u64);
                saved.type_ = RegType::SCALAR_VALUE;
                self.stack_slot_mut(frame, spi).save_register_state(&saved, size as usize);
            }
            None => {
                let zero = is_bpf_st_mem(insn) && insn.imm == 0;
                return self.write_stack_bytes(frame, off, size, zero, None);
            }
        }
        self.push_jmp_history(insn_stack_access_flags(frame, spi), 0)
    }

    /// A write of plain bytes, zeros or anything. It destroys what was spilled there.
    fn write_stack_bytes(
        &mut self,
        frame: usize,
        off: i32,
        size: i32,
        zero: bool,
        value_regno: Option<u8>,
    ) -> Result<()> {
        self.stack_slot_mut(frame, get_spi(off)).scrub_special();
        let mut slot_type = STACK_MISC;
        if zero {
            // Zeros are trusted by later states, so the register that they come from must be exact.
            match value_regno {
                Some(regno) => self.mark_chain_precision(regno)?,
                None => self.mark_chain_precision_batch()?,
            }
            slot_type = STACK_ZERO;
        }
        let slot = self.stack_slot_mut(frame, get_spi(off));
        for i in 0..size {
            slot.slot_type[slot_byte(off + i)] = slot_type;
        }
        Ok(())
    }

    /// Where stores may be overtaken by loads, a write over other than plain bytes is followed by a barrier.
    #[cold]
    fn sanitize_stack_write(
        &mut self,
        frame: usize,
        spi: usize,
        size: i32,
        value_regno: Option<u8>,
        insn_idx: u32,
    ) {
        let spills = value_regno.is_some_and(|regno| is_spillable_regtype(self.cur_reg(regno).type_));
        let over = self.stack_slot(frame, spi).slot_type[..size as usize]
            .iter()
            .any(|t| !matches!(*t, STACK_MISC | STACK_ZERO));
        if spills || over {
            self.insn_aux[insn_idx as usize].nospec_result = true;
        }
    }

    /// A write somewhere in a range: every byte of it may be written or not.
    fn check_stack_write_var_off(
        &mut self,
        frame: usize,
        ptr_regno: u8,
        off: i32,
        size: i32,
        value_regno: Option<u8>,
        insn_idx: u32,
    ) -> Result<()> {
        let ptr = self.cur_reg(ptr_regno);
        let min_off = ptr.smin_value.wrapping_add(off as i64) as i32;
        let max_off = ptr.smax_value.wrapping_add(off as i64).wrapping_add(size as i64) as i32;
        let insn = self.prog.insns[insn_idx as usize];
        let writing_zero = match value_regno {
            Some(regno) => self.cur_reg(regno).is_null(),
            None => is_bpf_st_mem(insn) && insn.imm == 0,
        };
        for i in min_off..max_off {
            self.destroy_if_dynptr_stack_slot(frame, get_spi(i))?;
        }
        self.check_fastcall_stack_contract(self.cur_state.frames[frame].subprogno, insn_idx, min_off);

        let features = self.features;
        // Some byte stays a zero because a zero is written.
        let mut zero_used = false;
        for i in min_off..max_off {
            let (spi, byte) = (get_spi(i), slot_byte(i));
            self.mark_stack_slot_scratched(spi as u32);
            let old = self.stack_slot(frame, spi).slot_type[byte];
            if !self.allow_ptr_leaks && old != STACK_MISC && old != STACK_ZERO {
                verbose!(
                    self,
                    "spilled ptr in range of var-offset stack write; insn {insn_idx}, ptr off: {i}"
                );
                return Err(Errno::EINVAL);
            }
            let slot = self.stack_slot_mut(frame, spi);
            if writing_zero
                && old == STACK_SPILL
                && slot.is_spilled_scalar_reg()
                && slot.spilled_ptr.var_off.equals_const(0)
            {
                zero_used = true;
                continue;
            }
            if features.scrubbed_spills {
                slot.scrub_special();
            } else {
                slot.erase_spilled();
            }
            let old = slot.slot_type[byte];
            let mut new = STACK_MISC;
            if writing_zero && old == STACK_ZERO {
                new = STACK_ZERO;
                zero_used = true;
            }
            if old == STACK_INVALID && !self.allow_uninit_stack {
                verbose!(
                    self,
                    "uninit stack in range of var-offset write prohibited for !root; insn {insn_idx}, off: {i}"
                );
                return Err(Errno::EINVAL);
            }
            self.stack_slot_mut(frame, spi).slot_type[byte] = new;
        }
        match value_regno {
            _ if !zero_used => Ok(()),
            Some(regno) => self.mark_chain_precision(regno),
            None => self.mark_chain_precision_batch(),
        }
    }

    /// The register takes bytes `[min_off, max_off)`: zero when they all are, otherwise any scalar.
    fn mark_reg_stack_read(&mut self, frame: usize, min_off: i32, max_off: i32, dst_regno: u8) {
        let mut all_zero = true;
        for i in min_off..max_off {
            let spi = get_spi(i);
            self.mark_stack_slot_scratched(spi as u32);
            if self.stack_slot(frame, spi).slot_type[slot_byte(i)] != STACK_ZERO {
                all_zero = false;
                break;
            }
        }
        if all_zero {
            self.mark_cur_reg_const_zero(dst_regno);
        } else {
            self.mark_cur_reg_unknown(dst_regno);
        }
    }

    #[inline]
    fn mark_cur_reg_const_zero(&mut self, regno: u8) {
        let precise = !self.bpf_capable;
        self.cur_reg_mut(regno).mark_const_zero(precise);
    }

    fn check_stack_read_fixed_off(
        &mut self,
        frame: usize,
        off: i32,
        size: i32,
        dst_regno: Option<u8>,
    ) -> Result<()> {
        let spi = get_spi(off);
        let curframe = self.cur_state.curframe();
        self.mark_stack_slot_scratched(spi as u32);
        self.check_fastcall_stack_contract(self.cur_state.frames[curframe].subprogno, self.insn_idx, off);
        self.bpf_mark_stack_read(frame, self.insn_idx, 1 << spi)?;

        let slot = self.stack_slot(frame, spi);
        if !slot.is_spilled_reg() {
            self.check_readable_bytes(frame, off, size)?;
            if let Some(dst_regno) = dst_regno {
                self.mark_reg_stack_read(frame, off, off + size, dst_regno);
            }
            return Ok(());
        }
        let spill_size = slot.spill_size();
        let is_scalar = slot.spilled_ptr.type_ == RegType::SCALAR_VALUE;
        if size as usize != BPF_REG_SIZE || spill_size != BPF_REG_SIZE {
            if !is_scalar {
                self.verbose_linfo(self.insn_idx, format_args!("; "));
                verbose!(self, "invalid size of register fill\n");
                return Err(Errno::EACCES);
            }
            let Some(dst_regno) = dst_regno else { return Ok(()) };
            if !self.fill_part_of_spill(frame, off, size, spill_size, dst_regno)? {
                return Ok(());
            }
        } else if let Some(dst_regno) = dst_regno {
            let reg = slot.spilled_ptr;
            *self.cur_reg_mut(dst_regno) = reg;
        } else if !self.allow_ptr_leaks && !is_scalar {
            verbose!(self, "leaking pointer from stack off {off}\n");
            return Err(Errno::EACCES);
        }
        self.push_jmp_history(insn_stack_access_flags(frame, spi), 0)
    }

    /// Reads a spilled scalar with another size than it was spilled with, or at another place. Tells whether the
    /// spilled register's state was restored, which backtracking has to follow.
    fn fill_part_of_spill(
        &mut self,
        frame: usize,
        off: i32,
        size: i32,
        spill_size: usize,
        dst_regno: u8,
    ) -> Result<bool> {
        let slot = self.stack_slot(frame, get_spi(off));
        // Narrower fills begin with the slot's first byte: little endian alone is emulated.
        if size as usize <= spill_size && off % BPF_REG_SIZE as i32 == 0 {
            let mut reg = slot.spilled_ptr;
            if get_reg_width(&reg) > 8 * size as u32 {
                reg.clear_scalar_id();
            }
            let dst = self.cur_reg_mut(dst_regno);
            reg.subreg_def = dst.subreg_def;
            *dst = reg;
            return Ok(true);
        }
        let spilled_zero = slot.spilled_ptr.var_off.equals_const(0);
        let (mut spill_cnt, mut zero_cnt) = (0, 0);
        for i in 0..size {
            match self.stack_slot(frame, get_spi(off)).slot_type[slot_byte(off + i)] {
                STACK_SPILL => spill_cnt += 1,
                STACK_ZERO => zero_cnt += 1,
                STACK_MISC => {}
                STACK_INVALID if self.allow_uninit_stack => {}
                _ => return self.invalid_stack_read(off, i, size),
            }
        }
        if spill_cnt == size && spilled_zero {
            self.mark_cur_reg_const_zero(dst_regno);
            return Ok(true);
        }
        if zero_cnt == size {
            self.mark_cur_reg_const_zero(dst_regno);
        } else {
            self.mark_cur_reg_unknown(dst_regno);
        }
        Ok(false)
    }

    fn check_readable_bytes(&mut self, frame: usize, off: i32, size: i32) -> Result<()> {
        let slot = self.stack_slot(frame, get_spi(off));
        for i in 0..size {
            match slot.slot_type[slot_byte(off + i)] {
                STACK_MISC | STACK_ZERO => {}
                STACK_INVALID if self.allow_uninit_stack => {}
                _ => return self.invalid_stack_read(off, i, size),
            }
        }
        Ok(())
    }

    #[cold]
    fn invalid_stack_read<T>(&mut self, off: i32, i: i32, size: i32) -> Result<T> {
        verbose!(self, "invalid read from stack off {off}+{i} size {size}\n");
        Err(Errno::EACCES)
    }

    fn check_stack_read_var_off(&mut self, ptr_regno: u8, off: i32, size: i32, dst_regno: u8) -> Result<()> {
        self.check_stack_range_initialized(ptr_regno, off, size, false, AccessType::Read, None)?;
        let reg = self.cur_reg(ptr_regno);
        let frame = reg.frameno as usize;
        let min_off = reg.smin_value.wrapping_add(off as i64) as i32;
        let max_off = reg.smax_value.wrapping_add(off as i64) as i32;
        self.mark_reg_stack_read(frame, min_off, max_off.wrapping_add(size), dst_regno);
        self.check_fastcall_stack_contract(self.cur_state.frames[frame].subprogno, self.insn_idx, min_off);
        Ok(())
    }

    /// Whether the access is within the stack, which grows as needed. `off` includes the pointer's fixed offset alone.
    pub fn check_stack_access_within_bounds(
        &mut self,
        regno: u8,
        off: i32,
        access_size: i32,
        access: AccessType,
    ) -> Result<()> {
        let reg = self.cur_reg(regno);
        let frame = reg.frameno as usize;
        let (min_off, max_off);
        if reg.var_off.is_const() {
            min_off = (reg.var_off.value as i64).wrapping_add(off as i64);
            max_off = min_off.wrapping_add(access_size as i64);
        } else {
            if reg.smax_value >= BPF_MAX_VAR_OFF || reg.smin_value <= -BPF_MAX_VAR_OFF {
                let direction = stack_access_direction(access);
                verbose!(self, "invalid unbounded variable-offset{direction} stack R{regno}\n");
                let low = self.stack_min_off(frame, access);
                self.bcf_refine_wild_access(regno, off, low, 0, access_size);
                return Err(Errno::EACCES);
            }
            min_off = reg.smin_value + off as i64;
            max_off = reg.smax_value + off as i64 + access_size as i64;
        }
        let err = if !self.stack_slot_within_bounds(min_off, frame, access) {
            Errno::EACCES
        } else if max_off > 0 {
            Errno::EINVAL
        } else if access_size < 0 {
            Errno::EFAULT
        } else {
            self.grow_stack_state(frame, -min_off as i32);
            return Ok(());
        };
        let var_off = self.cur_reg(regno).var_off;
        let direction = stack_access_direction(access);
        if var_off.is_const() {
            verbose!(self, "invalid{direction} stack R{regno} off={off} size={access_size}\n");
        } else {
            verbose!(
                self,
                "invalid variable-offset{direction} stack R{regno} var_off={var_off} off={off} size={access_size}\n"
            );
        }
        if err != Errno::EFAULT {
            let low = self.stack_min_off(frame, access);
            self.bcf_refine_access_bound(regno, off, low, 0, access_size);
        }
        Err(err)
    }

    /// The lowest offset that may be accessed.
    #[inline]
    fn stack_min_off(&self, frame: usize, access: AccessType) -> i32 {
        if access == AccessType::Write || self.allow_uninit_stack {
            -MAX_BPF_STACK
        } else {
            -self.cur_state.frames[frame].allocated_stack()
        }
    }

    /// `check_stack_slot_within_bounds`
    #[inline]
    fn stack_slot_within_bounds(&self, off: i64, frame: usize, access: AccessType) -> bool {
        off >= self.stack_min_off(frame, access) as i64 && off <= -1
    }

    /// A helper or a variable-offset read accesses `access_size` bytes of stack: they must be initialised, unless
    /// `meta` is in raw mode and the offset is fixed; then the caller simulates the helper's writes.
    ///
    /// A helper that may write (`access`) leaves anything in its range.
    pub fn check_stack_range_initialized(
        &mut self,
        regno: u8,
        off: i32,
        access_size: i32,
        zero_size_allowed: bool,
        access: AccessType,
        meta: Option<&mut CallArgMeta>,
    ) -> Result<()> {
        if access_size == 0 && !zero_size_allowed {
            verbose!(self, "invalid zero-sized read\n");
            return Err(Errno::EACCES);
        }
        let clobber = access == AccessType::Write;
        self.check_stack_access_within_bounds(regno, off, access_size, access)?;

        let reg = self.cur_reg(regno);
        let frame = reg.frameno as usize;
        let var_off = reg.var_off;
        let (min_off, max_off);
        let mut raw = meta.filter(|meta| meta.raw_mode);
        if var_off.is_const() {
            min_off = (var_off.value as i32).wrapping_add(off);
            max_off = min_off;
        } else {
            min_off = reg.smin_value.wrapping_add(off as i64) as i32;
            max_off = reg.smax_value.wrapping_add(off as i64) as i32;
            if !self.bypass_spec_v1 {
                verbose!(
                    self,
                    "R{regno} variable offset stack access prohibited for !root, var_off={var_off}\n"
                );
                return Err(Errno::EACCES);
            }
            raw = None;
        }
        let end = max_off.wrapping_add(access_size);
        if let Some(meta) = raw {
            for i in min_off..end {
                let slot = self.cur_state.frames[frame].stack.get(get_spi(i));
                if slot.is_some_and(|slot| slot.slot_type[slot_byte(i)] == STACK_DYNPTR) {
                    verbose!(self, "potential write to dynptr at off={i} disallowed\n");
                    return Err(Errno::EACCES);
                }
            }
            meta.access_size = access_size;
            meta.regno = regno;
            return Ok(());
        }

        let mut read_mask = 0;
        for i in min_off..end {
            let (spi, byte) = (get_spi(i), slot_byte(i));
            let (allow_uninit, allow_leaks, capable) =
                (self.allow_uninit_stack, self.allow_ptr_leaks, self.bpf_capable);
            let Some(slot) = self.cur_state.frames[frame].stack.get_mut(spi) else {
                verbose!(self, "allocated_stack too small\n");
                return Err(Errno::EFAULT);
            };
            match slot.slot_type[byte] {
                STACK_MISC => {}
                STACK_ZERO => {
                    if clobber {
                        slot.slot_type[byte] = STACK_MISC;
                    }
                }
                STACK_INVALID if allow_uninit => {
                    if clobber {
                        slot.slot_type[byte] = STACK_MISC;
                    }
                }
                _ if slot.is_spilled_reg()
                    && (slot.spilled_ptr.type_ == RegType::SCALAR_VALUE || allow_leaks) =>
                {
                    if clobber {
                        Self::mark_reg_unknown(capable, &mut slot.spilled_ptr);
                        slot.scrub();
                    }
                }
                _ => {
                    let at = i - min_off;
                    if var_off.is_const() {
                        verbose!(
                            self,
                            "invalid read from stack R{regno} off {min_off}+{at} size {access_size}\n"
                        );
                    } else {
                        verbose!(
                            self,
                            "invalid read from stack R{regno} var_off {var_off}+{at} size {access_size}\n"
                        );
                    }
                    // What comes before is read, should the rejection be no end.
                    if read_mask != 0 {
                        self.bpf_mark_stack_read(frame, self.insn_idx, read_mask)?;
                    }
                    return Err(Errno::EACCES);
                }
            }
            read_mask |= 1u64 << (spi % 64);
        }
        // Writes are not marked: the helper may leave some of the bytes as they were.
        if read_mask != 0 {
            self.bpf_mark_stack_read(frame, self.insn_idx, read_mask)?;
        }
        Ok(())
    }
}

fn stack_access_direction(access: AccessType) -> &'static str {
    match access {
        AccessType::Read => " read from",
        AccessType::Write => " write to",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_map_to_slots_and_bytes() {
        assert_eq!((get_spi(-1), slot_byte(-1)), (0, 0));
        assert_eq!((get_spi(-8), slot_byte(-8)), (0, 7));
        assert_eq!((get_spi(-9), slot_byte(-9)), (1, 0));
        assert_eq!((get_spi(-512), slot_byte(-512)), (63, 7));
    }

    #[test]
    fn a_narrow_spill_keeps_zeros_of_the_rest() {
        let mut slot = StackState {
            slot_type: [
                STACK_ZERO,
                STACK_INVALID,
                STACK_SPILL,
                STACK_SPILL,
                STACK_SPILL,
                STACK_SPILL,
                STACK_SPILL,
                STACK_SPILL,
            ],
            ..Default::default()
        };
        slot.save_register_state(&RegState::UNKNOWN, 4);
        assert_eq!(slot.slot_type[..4], [STACK_ZERO, STACK_INVALID, STACK_MISC, STACK_MISC]);
        assert_eq!(slot.slot_type[4..], [STACK_SPILL; 4]);
        assert_eq!(slot.spill_size(), 4);
    }
}
