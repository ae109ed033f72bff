//! Memory accesses of instructions: [`Verifier::check_mem_access`] dispatches on the kind of memory that the pointer is
//! for, checks the access, and marks the register that a read goes to.
//!
//! An access is at the pointer's fixed offset (`reg.off`), plus the instruction's offset (both in `off`), plus any value
//! within the pointer's bounds. The stack has a file of its own (`stack.rs`), alignment another.

use bpftwin_uapi::Errno;
use bpftwin_uapi::insn::*;

use super::access::{AccessType, CallArgMeta, InsnAccessAux};
use super::print_state::reg_type_str;
use super::reg_type::{RegType, flag};
use super::state::{BPF_REG_SIZE, DEF_NOT_SUBREG, RegState};
use super::{BPF_MAX_VAR_OFF, Result, Verifier};
use crate::btf::btf_ctx_access;
use crate::progs;
use crate::verbose;

/// `sizeof(struct bpf_flow_keys)`
const FLOW_KEYS_SIZE: u64 = 56;

/// `bpf_size_to_bytes` of the size bits of an opcode.
#[inline]
pub(super) const fn bpf_size_to_bytes(bpf_size: u8) -> i32 {
    match bpf_size {
        BPF_B => 1,
        BPF_H => 2,
        BPF_W => 4,
        _ => 8,
    }
}

impl RegType {
    /// `type_is_sk_pointer`
    #[inline]
    pub fn is_sk_pointer(self) -> bool {
        matches!(
            self,
            RegType::PTR_TO_SOCKET
                | RegType::PTR_TO_SOCK_COMMON
                | RegType::PTR_TO_TCP_SOCK
                | RegType::PTR_TO_XDP_SOCK
        )
    }

    /// `type_is_rdonly_mem`
    #[inline]
    pub fn is_rdonly_mem(self) -> bool {
        self.has_any(flag::MEM_RDONLY)
    }
}

/// What message names the memory, where a value that would leak a pointer goes.
fn leak_target(reg_type: RegType) -> &'static str {
    match reg_type.base() {
        RegType::PTR_TO_MAP_VALUE => "map",
        RegType::PTR_TO_CTX => "ctx",
        RegType::PTR_TO_PACKET | RegType::PTR_TO_PACKET_META => "packet",
        RegType::PTR_TO_FLOW_KEYS => "flow keys",
        _ => "mem",
    }
}

impl Verifier {
    /// Whether `size` bits of memory at register `regno` plus `off` may be read or written (`t`).
    ///
    /// `value_regno` is the register that is stored, or that receives what is loaded; `None` where the value stored is an
    /// immediate or unknown, or the value loaded does not matter. `bpf_size` are the size bits of an opcode.
    #[allow(clippy::too_many_arguments)]
    pub fn check_mem_access(
        &mut self,
        insn_idx: u32,
        regno: u8,
        off: i32,
        bpf_size: u8,
        t: AccessType,
        value_regno: Option<u8>,
        strict_alignment_once: bool,
        is_ldsx: bool,
    ) -> Result<()> {
        let checked = self.do_check_mem_access(
            insn_idx,
            regno,
            off,
            bpf_size,
            t,
            value_regno,
            strict_alignment_once,
            is_ldsx,
        );
        self.bcf_on_eacces(checked)
    }

    #[allow(clippy::too_many_arguments)]
    fn do_check_mem_access(
        &mut self,
        insn_idx: u32,
        regno: u8,
        off: i32,
        bpf_size: u8,
        t: AccessType,
        value_regno: Option<u8>,
        strict_alignment_once: bool,
        is_ldsx: bool,
    ) -> Result<()> {
        let size = bpf_size_to_bytes(bpf_size);
        self.check_ptr_alignment(regno, off, size, strict_alignment_once)?;

        let reg = self.cur_reg(regno);
        let reg_type = reg.type_;
        let off = off.wrapping_add(reg.off);
        match reg_type {
            RegType::PTR_TO_STACK => {
                self.check_stack_access_within_bounds(regno, off, size, t)?;
                match t {
                    AccessType::Read => self.check_stack_read(regno, off, size, value_regno)?,
                    AccessType::Write => self.check_stack_write(regno, off, size, value_regno, insn_idx)?,
                }
            }
            RegType::PTR_TO_MAP_VALUE => {
                self.access_map_value(insn_idx, regno, off, size, t, value_regno, is_ldsx)?;
            }
            RegType::PTR_TO_CTX => self.access_ctx(insn_idx, regno, off, size, t, value_regno, is_ldsx)?,
            RegType::PTR_TO_MAP_KEY => {
                if t == AccessType::Write {
                    verbose!(self, "write to change key R{regno} not allowed\n");
                    return Err(Errno::EACCES);
                }
                let key_size = self.reg_map(regno)?.key_size;
                self.check_mem_region_access(regno, off, size, key_size, false)?;
                self.load_unknown(value_regno);
            }
            RegType::PTR_TO_FLOW_KEYS => {
                self.check_value_leak(reg_type, t, value_regno)?;
                self.check_flow_keys_access(off, size)?;
                self.load_unknown(value_regno.filter(|_| t == AccessType::Read));
            }
            RegType::PTR_TO_TP_BUFFER => {
                self.check_tp_buffer_access(regno, off, size)?;
                self.load_unknown(value_regno.filter(|_| t == AccessType::Read));
            }
            RegType::CONST_PTR_TO_MAP => {
                self.check_ptr_to_map_access(regno, off, size, t, value_regno)?;
            }
            RegType::PTR_TO_ARENA => self.load_unknown(value_regno.filter(|_| t == AccessType::Read)),
            _ => self.access_by_base_type(insn_idx, regno, off, size, t, value_regno)?,
        }

        if size < BPF_REG_SIZE as i32
            && t == AccessType::Read
            && let Some(value_regno) = value_regno
        {
            let features = self.features;
            let reg = self.cur_reg_mut(value_regno);
            if reg.type_ == RegType::SCALAR_VALUE {
                if is_ldsx {
                    reg.coerce_reg_to_size_sx(size);
                } else {
                    reg.coerce_reg_to_size(size, features);
                }
                if reg.bcf_expr.is_some() {
                    self.bcf_mov(value_regno, value_regno, 8 * size as u16, false, is_ldsx)?;
                }
            }
        }
        Ok(())
    }

    /// Memory whose pointer types carry modifiers.
    fn access_by_base_type(
        &mut self,
        insn_idx: u32,
        regno: u8,
        off: i32,
        size: i32,
        t: AccessType,
        value_regno: Option<u8>,
    ) -> Result<()> {
        let reg = self.cur_reg(regno);
        let reg_type = reg.type_;
        let rdonly = reg_type.is_rdonly_mem();
        let write = t == AccessType::Write;
        match reg_type.base() {
            RegType::PTR_TO_MEM => {
                if reg_type.may_be_null() {
                    return self.invalid_mem_access(regno, reg_type);
                }
                if write && rdonly {
                    return self.cannot_write_into(regno, reg_type);
                }
                self.check_value_leak(reg_type, t, value_regno)?;
                // Untrusted memory is read with fault handling: its bounds do not matter.
                if !(rdonly && reg_type.has_any(flag::PTR_UNTRUSTED)) {
                    let mem_size = self.cur_reg(regno).mem_size();
                    self.check_mem_region_access(regno, off, size, mem_size, false)?;
                }
                self.load_unknown(value_regno.filter(|_| !write || rdonly));
            }
            RegType::PTR_TO_PACKET | RegType::PTR_TO_PACKET_META => {
                if write && !self.may_access_direct_pkt_data(None, t) {
                    verbose!(self, "cannot write into packet\n");
                    return Err(Errno::EACCES);
                }
                self.check_value_leak(reg_type, t, value_regno)?;
                self.check_packet_access(regno, off, size, false)?;
                self.load_unknown(value_regno.filter(|_| !write));
            }
            RegType::PTR_TO_BTF_ID if !reg_type.may_be_null() => {
                self.check_ptr_to_btf_access(regno, off, size, t, value_regno)?;
            }
            RegType::PTR_TO_BUF if !reg_type.may_be_null() => {
                if rdonly && write {
                    return self.cannot_write_into(regno, reg_type);
                }
                self.check_buffer_access(regno, off, size)?;
                self.load_unknown(value_regno.filter(|_| rdonly || !write));
            }
            _ if reg_type.is_sk_pointer() => {
                if write {
                    return self.cannot_write_into(regno, reg_type);
                }
                self.check_sock_access(insn_idx, regno, off, size, t)?;
                self.load_unknown(value_regno);
            }
            _ => return self.invalid_mem_access(regno, reg_type),
        }
        Ok(())
    }

    #[cold]
    fn invalid_mem_access(&mut self, regno: u8, reg_type: RegType) -> Result<()> {
        verbose!(self, "R{regno} invalid mem access '{}'\n", reg_type_str(reg_type));
        Err(Errno::EACCES)
    }

    #[cold]
    pub(super) fn cannot_write_into(&mut self, regno: u8, reg_type: RegType) -> Result<()> {
        verbose!(self, "R{regno} cannot write into {}\n", reg_type_str(reg_type));
        Err(Errno::EACCES)
    }

    /// A load leaves any scalar.
    #[inline]
    fn load_unknown(&mut self, value_regno: Option<u8>) {
        if let Some(regno) = value_regno {
            self.mark_cur_reg_unknown(regno);
        }
    }

    /// Pointers must not be stored where others can read them.
    #[inline]
    pub(super) fn check_value_leak(
        &mut self,
        reg_type: RegType,
        t: AccessType,
        value_regno: Option<u8>,
    ) -> Result<()> {
        if let Some(value_regno) = value_regno
            && t == AccessType::Write
            && self.is_pointer_value(value_regno)
        {
            verbose!(self, "R{value_regno} leaks addr into {}\n", leak_target(reg_type));
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    #[allow(clippy::too_many_arguments)]
    fn access_ctx(
        &mut self,
        insn_idx: u32,
        regno: u8,
        off: i32,
        size: i32,
        t: AccessType,
        value_regno: Option<u8>,
        is_ldsx: bool,
    ) -> Result<()> {
        self.check_value_leak(RegType::PTR_TO_CTX, t, value_regno)?;
        self.check_ptr_off_reg(regno)?;
        let mut info = InsnAccessAux::new(is_ldsx);
        if let Err(err) = self.check_ctx_access(insn_idx, off, size, t, &mut info) {
            self.verbose_linfo(insn_idx, format_args!("; "));
            return Err(err);
        }
        let Some(value_regno) = value_regno.filter(|_| t == AccessType::Read) else { return Ok(()) };
        if info.reg_type == RegType::SCALAR_VALUE {
            self.mark_cur_reg_unknown(value_regno);
            return Ok(());
        }
        let btf_id = self.ctx_field_btf_id(&info)?;
        let reg = &mut self.cur_state.cur_func_mut().regs[value_regno as usize];
        reg.mark_known_zero();
        if info.reg_type.may_be_null() {
            self.id_gen += 1;
            reg.id = self.id_gen;
        }
        // The load may be rewritten to another width than the instruction's: a pointer is never a subregister.
        reg.subreg_def = DEF_NOT_SUBREG;
        if info.reg_type.base() == RegType::PTR_TO_BTF_ID {
            reg.set_btf_id(info.btf, btf_id);
            reg.ref_obj_id = info.ref_obj_id;
        }
        reg.type_ = info.reg_type;
        Ok(())
    }

    /// BTF id of a pointer read from the context, which program types may give by name.
    fn ctx_field_btf_id(&mut self, info: &InsnAccessAux) -> Result<u32> {
        let Some(name) = info.btf_struct else { return Ok(info.btf_id) };
        self.kernel_struct_id(name)
    }

    /// `__check_mem_access`: an access at fixed offset `off` of a region of `mem_size` bytes.
    #[inline]
    fn check_region_bounds(
        &mut self,
        regno: u8,
        off: i32,
        size: i32,
        mem_size: u32,
        zero_size_allowed: bool,
    ) -> Result<()> {
        let size_ok = size > 0 || (size == 0 && zero_size_allowed);
        if off >= 0 && size_ok && off as u64 + size as u64 <= mem_size as u64 {
            return Ok(());
        }
        self.report_region_bounds(regno, off, size, mem_size)
    }

    #[cold]
    fn report_region_bounds(&mut self, regno: u8, off: i32, size: i32, mem_size: u32) -> Result<()> {
        let (reg_type, id) = (self.cur_reg(regno).type_, self.cur_reg(regno).id);
        let signed_size = mem_size as i32;
        match reg_type {
            RegType::PTR_TO_MAP_KEY => {
                verbose!(self, "invalid access to map key, key_size={signed_size} off={off} size={size}\n");
            }
            RegType::PTR_TO_MAP_VALUE => {
                verbose!(
                    self,
                    "invalid access to map value, value_size={signed_size} off={off} size={size}\n"
                );
            }
            RegType::PTR_TO_PACKET | RegType::PTR_TO_PACKET_META | RegType::PTR_TO_PACKET_END => {
                verbose!(
                    self,
                    "invalid access to packet, off={off} size={size}, R{regno}(id={},off={off},r={signed_size})\n",
                    id as i32
                );
            }
            _ => verbose!(self, "invalid access to memory, mem_size={mem_size} off={off} size={size}\n"),
        }
        Err(Errno::EACCES)
    }

    #[cold]
    fn report_negative_min(&mut self, regno: u8) -> Result<()> {
        verbose!(
            self,
            "R{regno} min value is negative, either use unsigned index or do a if (index >=0) check.\n"
        );
        Err(Errno::EACCES)
    }

    /// `check_mem_region_access`: an access to a region of `mem_size` bytes, at both ends of the pointer's bounds.
    pub fn check_mem_region_access(
        &mut self,
        regno: u8,
        off: i32,
        size: i32,
        mem_size: u32,
        zero_size_allowed: bool,
    ) -> Result<()> {
        let reg = self.cur_reg(regno);
        let (smin, umax) = (reg.smin_value, reg.umax_value);
        let min = smin.wrapping_add(off as i64);
        if smin < 0 && (smin == i64::MIN || min != min as i32 as i64 || min < 0) {
            let rejected = self.report_negative_min(regno);
            self.bcf_refine_wild_access(regno, off, 0, mem_size as i32, size);
            return rejected;
        }
        if let Err(err) = self.check_region_bounds(regno, min as i32, size, mem_size, zero_size_allowed) {
            verbose!(self, "R{regno} min value is outside of the allowed memory range\n");
            self.bcf_refine_access_bound(regno, off, 0, mem_size as i32, size);
            return Err(err);
        }
        if umax >= BPF_MAX_VAR_OFF as u64 {
            verbose!(self, "R{regno} unbounded memory access, make sure to bounds check any such access\n");
            self.bcf_refine_wild_access(regno, off, 0, mem_size as i32, size);
            return Err(Errno::EACCES);
        }
        let max = umax.wrapping_add(off as i64 as u64) as i32;
        if let Err(err) = self.check_region_bounds(regno, max, size, mem_size, zero_size_allowed) {
            verbose!(self, "R{regno} max value is outside of the allowed memory range\n");
            self.bcf_refine_access_bound(regno, off, 0, mem_size as i32, size);
            return Err(err);
        }
        Ok(())
    }

    /// `check_ptr_off_reg`: the pointer in `regno` is as it was handed out.
    pub fn check_ptr_off_reg(&mut self, regno: u8) -> Result<()> {
        let reg = self.cur_reg(regno);
        if reg.off == 0 && reg.var_off.equals_const(0) {
            return Ok(());
        }
        let reg = *reg;
        self.check_ptr_off_reg_fixed(&reg, regno, false)
    }

    /// `__check_ptr_off_reg`: the pointer has no variable offset, and no fixed one either unless `fixed_off_ok`.
    pub fn check_ptr_off_reg_fixed(&mut self, reg: &RegState, regno: u8, fixed_off_ok: bool) -> Result<()> {
        let off = reg.off;
        if off < 0 {
            verbose!(self, "negative offset {} ptr R{regno} off={off} disallowed\n", reg_type_str(reg.type_));
        } else if !fixed_off_ok && off != 0 {
            verbose!(
                self,
                "dereference of modified {} ptr R{regno} off={off} disallowed\n",
                reg_type_str(reg.type_)
            );
        } else if !reg.var_off.equals_const(0) {
            verbose!(
                self,
                "variable {} access var_off={} disallowed\n",
                reg_type_str(reg.type_),
                reg.var_off
            );
        } else {
            return Ok(());
        }
        Err(Errno::EACCES)
    }

    /// `may_access_direct_pkt_data`: whether packets are accessed through pointers at all. `meta` is given for an
    /// argument of a helper.
    pub fn may_access_direct_pkt_data(&mut self, meta: Option<&CallArgMeta>, t: AccessType) -> bool {
        let prog_type = progs::resolve_prog_type(&self.prog);
        let access = progs::may_access_direct_pkt_data(prog_type, meta.map(|meta| meta.pkt_access), t);
        self.seen_direct_write |= access.direct_write;
        access.allowed
    }

    /// `check_packet_access`: an access within the part of the packet that is known to exist.
    pub fn check_packet_access(
        &mut self,
        regno: u8,
        off: i32,
        size: i32,
        zero_size_allowed: bool,
    ) -> Result<()> {
        let reg = self.cur_reg(regno);
        let (range, umax) = (reg.range(), reg.umax_value);
        if reg.smin_value < 0 {
            return self.report_negative_min(regno);
        }
        let result = if range < 0 {
            Err(Errno::EINVAL)
        } else {
            self.check_region_bounds(regno, off, size, range as u32, zero_size_allowed)
        };
        if result.is_err() {
            verbose!(self, "R{regno} offset is outside of the packet\n");
            return result;
        }
        let last = (off as i64 as u64).wrapping_add(umax).wrapping_add(size as i64 as u64).wrapping_sub(1);
        self.prog.max_pkt_offset = self.prog.max_pkt_offset.max(last as u32);
        Ok(())
    }

    /// `check_ctx_access`: an access to the context, whose fields the program type knows.
    fn check_ctx_access(
        &mut self,
        insn_idx: u32,
        off: i32,
        size: i32,
        t: AccessType,
        info: &mut InsnAccessAux,
    ) -> Result<()> {
        let valid = if self.prog.attach_func_proto.is_some() {
            progs::bpf_tracing_ctx_access(off, size, t)
                && btf_ctx_access(&mut self.log, &self.prog, off, size, info)
        } else {
            progs::is_valid_access(&mut self.prog, off, size, t, info)
        };
        if !valid {
            verbose!(self, "invalid bpf_context access off={off} size={size}\n");
            return Err(Errno::EACCES);
        }
        if info.reg_type.base() == RegType::PTR_TO_BTF_ID {
            if info.ref_obj_id != 0 && !self.cur_state.find_reference_state(info.ref_obj_id) {
                verbose!(self, "invalid bpf_context access off={off}. Reference may already be released\n");
                return Err(Errno::EACCES);
            }
        } else {
            self.insn_aux[insn_idx as usize].ctx_field_size = info.ctx_field_size;
        }
        self.prog.max_ctx_offset = self.prog.max_ctx_offset.max(off.wrapping_add(size) as u32);
        Ok(())
    }

    fn check_flow_keys_access(&mut self, off: i32, size: i32) -> Result<()> {
        if size < 0 || off < 0 || off as u64 + size as u64 > FLOW_KEYS_SIZE {
            verbose!(self, "invalid access to flow keys off={off} size={size}\n");
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    fn check_sock_access(
        &mut self,
        insn_idx: u32,
        regno: u8,
        off: i32,
        size: i32,
        t: AccessType,
    ) -> Result<()> {
        let reg = self.cur_reg(regno);
        let reg_type = reg.type_;
        if reg.smin_value < 0 {
            return self.report_negative_min(regno);
        }
        let mut info = InsnAccessAux::new(false);
        let valid = match reg_type {
            RegType::PTR_TO_SOCK_COMMON => progs::bpf_sock_common_is_valid_access(off, size, t, &mut info),
            RegType::PTR_TO_SOCKET => progs::bpf_sock_is_valid_access(off, size, t, &mut info),
            RegType::PTR_TO_TCP_SOCK => progs::bpf_tcp_sock_is_valid_access(off, size, t, &mut info),
            RegType::PTR_TO_XDP_SOCK => progs::bpf_xdp_sock_is_valid_access(off, size, t, &mut info),
            _ => false,
        };
        if valid {
            self.insn_aux[insn_idx as usize].ctx_field_size = info.ctx_field_size;
            return Ok(());
        }
        verbose!(self, "R{regno} invalid {} access off={off} size={size}\n", reg_type_str(reg_type));
        Err(Errno::EACCES)
    }

    /// `__check_buffer_access`: buffers of unknown size are accessed at fixed offsets; the size is checked when the
    /// program is attached.
    fn check_buffer_offset(&mut self, buf_info: &str, regno: u8, off: i32, size: i32) -> Result<()> {
        if off < 0 {
            verbose!(self, "R{regno} invalid {buf_info} buffer access: off={off}, size={size}\n");
            return Err(Errno::EACCES);
        }
        let var_off = self.cur_reg(regno).var_off;
        if !var_off.equals_const(0) {
            verbose!(self, "R{regno} invalid variable buffer offset: off={off}, var_off={var_off}\n");
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    fn check_tp_buffer_access(&mut self, regno: u8, off: i32, size: i32) -> Result<()> {
        self.check_buffer_offset("tracepoint", regno, off, size)?;
        let end = off.wrapping_add(size) as u32;
        self.prog.max_tp_access = self.prog.max_tp_access.max(end);
        Ok(())
    }

    /// `check_buffer_access`; how far the program reaches is remembered in `max_rdonly_access` or `max_rdwr_access`.
    pub(super) fn check_buffer_access(&mut self, regno: u8, off: i32, size: i32) -> Result<()> {
        let rdonly = self.cur_reg(regno).type_.is_rdonly_mem();
        self.check_buffer_offset(if rdonly { "rdonly" } else { "rdwr" }, regno, off, size)?;
        let end = off.wrapping_add(size) as u32;
        let max_access =
            if rdonly { &mut self.prog.max_rdonly_access } else { &mut self.prog.max_rdwr_access };
        *max_access = (*max_access).max(end);
        Ok(())
    }

    /// `is_ctx_reg`
    #[inline]
    pub fn is_ctx_reg(&self, regno: u8) -> bool {
        self.cur_reg(regno).type_ == RegType::PTR_TO_CTX
    }

    /// `is_sk_reg`
    #[inline]
    pub fn is_sk_reg(&self, regno: u8) -> bool {
        self.cur_reg(regno).type_.is_sk_pointer()
    }

    /// `is_pkt_reg`
    #[inline]
    pub fn is_pkt_reg(&self, regno: u8) -> bool {
        self.cur_reg(regno).is_pkt_pointer()
    }

    /// `is_flow_key_reg`
    #[inline]
    pub fn is_flow_key_reg(&self, regno: u8) -> bool {
        self.cur_reg(regno).type_ == RegType::PTR_TO_FLOW_KEYS
    }

    /// `is_arena_reg`
    #[inline]
    pub fn is_arena_reg(&self, regno: u8) -> bool {
        self.cur_reg(regno).type_ == RegType::PTR_TO_ARENA
    }
}
