//! Memory that is handed to helpers and global functions: a pointer, and the number of bytes behind it.

use bpftwin_uapi::insn::BPF_B;
use bpftwin_uapi::{Errno, ProgType};

use super::access::{AccessSrc, AccessType, CallArgMeta};
use super::print_state::reg_type_str;
use super::reg_type::RegType;
use super::{BPF_MAX_VAR_SIZ, Result, Verifier};
use crate::progs;
use crate::verbose;

/// Largest size of a memory argument that is not constant.
const MAX_SIZE: i64 = BPF_MAX_VAR_SIZ as i64 - 1;

/// The program type rewrites accesses to its context: `convert_ctx_access` of its operations.
fn has_convert_ctx_access(prog_type: ProgType) -> bool {
    use ProgType::*;
    !matches!(
        prog_type,
        Unspec
            | Kprobe
            | Tracepoint
            | RawTracepoint
            | RawTracepointWritable
            | Tracing
            | CgroupDevice
            | LircMode2
            | Syscall
            | StructOps
            | Ext
            | Lsm
            | Netfilter
    )
}

impl Verifier {
    /// As [`Self::check_helper_memory`]; a rejection may become a condition to prove.
    pub fn check_helper_mem_access(
        &mut self,
        regno: u8,
        access_size: i32,
        access_type: AccessType,
        zero_size_allowed: bool,
        meta: Option<&mut CallArgMeta>,
    ) -> Result<()> {
        let checked = self.check_helper_memory(regno, access_size, access_type, zero_size_allowed, meta);
        self.bcf_on_eacces(checked)
    }

    /// A helper accesses `access_size` bytes behind register `regno`. `meta` in raw mode allows it to be uninitialised
    /// stack, see [`check_stack_range_initialized`](Self::check_stack_range_initialized).
    fn check_helper_memory(
        &mut self,
        regno: u8,
        access_size: i32,
        access_type: AccessType,
        zero_size_allowed: bool,
        meta: Option<&mut CallArgMeta>,
    ) -> Result<()> {
        let reg = self.cur_reg(regno);
        let (reg_type, off) = (reg.type_, reg.off);
        let write = access_type == AccessType::Write;
        match reg_type.base() {
            RegType::PTR_TO_STACK => self.check_stack_range_initialized(
                regno,
                off,
                access_size,
                zero_size_allowed,
                access_type,
                meta,
            ),
            RegType::PTR_TO_PACKET | RegType::PTR_TO_PACKET_META => {
                self.check_packet_access(regno, off, access_size, zero_size_allowed)
            }
            RegType::PTR_TO_MAP_KEY => {
                if write {
                    return self.cannot_write_into(regno, reg_type);
                }
                let key_size = self.reg_map(regno)?.key_size;
                self.check_mem_region_access(regno, off, access_size, key_size, false)
            }
            RegType::PTR_TO_MAP_VALUE => {
                self.check_map_access_type(regno, off, access_size, access_type)?;
                self.check_map_access(regno, off, access_size, zero_size_allowed, AccessSrc::Helper)
            }
            RegType::PTR_TO_MEM => {
                if write && reg_type.is_rdonly_mem() {
                    return self.cannot_write_into(regno, reg_type);
                }
                let mem_size = reg.mem_size();
                self.check_mem_region_access(regno, off, access_size, mem_size, zero_size_allowed)
            }
            RegType::PTR_TO_BUF => {
                if write && reg_type.is_rdonly_mem() {
                    return self.cannot_write_into(regno, reg_type);
                }
                self.check_buffer_access(regno, off, access_size)
            }
            RegType::PTR_TO_BTF_ID => {
                self.check_ptr_to_btf_access(regno, off, access_size, AccessType::Read, None)
            }
            // The context's layout is not known to the verifier: its last byte is accessed instead.
            RegType::PTR_TO_CTX if !has_convert_ctx_access(progs::resolve_prog_type(&self.prog)) => {
                if access_size == 0 {
                    return if zero_size_allowed { Ok(()) } else { Err(Errno::EACCES) };
                }
                let last = access_size.wrapping_sub(1);
                self.check_mem_access(self.insn_idx, regno, last, BPF_B, access_type, None, false, false)
            }
            _ => {
                if zero_size_allowed && access_size == 0 && reg.is_null() {
                    return Ok(());
                }
                verbose!(self, "R{regno} type={} ", reg_type_str(reg_type));
                verbose!(self, "expected={}\n", reg_type_str(RegType::PTR_TO_STACK));
                Err(Errno::EACCES)
            }
        }
    }

    /// Register `regno` is the size of the memory behind register `regno - 1`.
    pub fn check_mem_size_reg(
        &mut self,
        regno: u8,
        access_type: AccessType,
        zero_size_allowed: bool,
        meta: &mut CallArgMeta,
    ) -> Result<()> {
        let reg = self.cur_reg(regno);
        let (smin, umin, umax) = (reg.smin_value, reg.umin_value, reg.umax_value);
        // Bounds the helper's return value, see `do_refine_retval_range`.
        meta.msize_max_value = umax;
        // Of a variable size the helper may fill a part only, so all of the memory must be initialised.
        let meta = if reg.var_off.is_const() { Some(meta) } else { None };
        if smin < 0 {
            verbose!(self, "R{regno} min value is negative, either use unsigned or 'var &= const'\n");
            self.bcf_refine_scalar(regno, i64::from(!zero_size_allowed), MAX_SIZE);
            return Err(Errno::EACCES);
        }
        if umin == 0 && !zero_size_allowed {
            verbose!(self, "R{regno} invalid zero-sized read: u64=[{},{}]\n", umin as i64, umax as i64);
            self.bcf_refine_scalar(regno, 1, MAX_SIZE);
            return Err(Errno::EACCES);
        }
        if umax >= BPF_MAX_VAR_SIZ {
            verbose!(self, "R{regno} unbounded memory access, use 'var &= const' or 'if (var < const)'\n");
            self.bcf_refine_scalar(regno, i64::from(!zero_size_allowed), MAX_SIZE);
            return Err(Errno::EACCES);
        }
        let ptr_regno = regno.saturating_sub(1);
        match self.take_checked_access(regno) {
            Some((off, size)) => {
                // The access is proved to lie in this range.
                let saved = *self.cur_reg(ptr_regno);
                self.cur_reg_mut(ptr_regno).set_known(off as u64);
                let checked =
                    self.check_helper_mem_access(ptr_regno, size, access_type, zero_size_allowed, meta);
                *self.cur_reg_mut(ptr_regno) = saved;
                checked?;
            }
            None => {
                self.set_size_regno(regno);
                let checked = self.check_helper_mem_access(
                    ptr_regno,
                    umax as i32,
                    access_type,
                    zero_size_allowed,
                    meta,
                );
                self.set_size_regno(0);
                checked?;
            }
        }
        self.mark_chain_precision(regno)
    }

    /// Register `regno` points to `mem_size` bytes that may be read and written, or is null.
    pub fn check_mem_reg(&mut self, regno: u8, mem_size: u32) -> Result<()> {
        let saved = *self.cur_reg(regno);
        if saved.is_null() {
            return Ok(());
        }
        // Taken to be not null, for the length of the check.
        let may_be_null = saved.type_.may_be_null();
        if may_be_null {
            let mut reg = saved;
            self.mark_ptr_not_null_reg(&mut reg);
            *self.cur_reg_mut(regno) = reg;
        }
        let mut result = self.check_helper_mem_access(regno, mem_size as i32, AccessType::Read, true, None);
        if result.is_ok() {
            result = self.check_helper_mem_access(regno, mem_size as i32, AccessType::Write, true, None);
        }
        if may_be_null {
            *self.cur_reg_mut(regno) = saved;
        }
        result
    }
}
