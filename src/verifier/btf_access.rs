//! Reads of the kernel's structures through pointers to them: `check_ptr_to_btf_access` and what pointers found there
//! are worth.
//!
//! A pointer is *trusted* (valid, and not null unless it says so), *RCU protected* (the same, until the end of the
//! critical section), *untrusted* (may be anything; reads of it are done with fault handling), or none of these: the
//! deprecated kind, that some helpers still take.

use std::sync::Arc;

use bpftwin_uapi::insn::{BPF_REG_0, BPF_REG_1};
use bpftwin_uapi::{Errno, ProgType};

use super::access::{AccessType, CallArgMeta};
use super::disasm::func_id_name;
use super::reg_type::{RegType, RetType, flag};
use super::state::RegState;
use super::{Result, Verifier};
use crate::btf::{Btf, StructAccess, safe};
use crate::helpers::{BtfTypeRef, FuncProto};
use crate::progs;
use crate::verbose;

impl Verifier {
    /// The BTF object that a register's number of one stands for, see [`RegState::btf`].
    pub fn btf_by_index(&self, index: u32) -> Option<&Arc<Btf>> {
        match index.checked_sub(1) {
            None => self.btf_vmlinux.as_ref(),
            Some(used) => self.used_btfs.get(used as usize),
        }
    }

    /// Id of a structure in the kernel's BTF, which a prototype names. Zero where the kernel is built without it.
    pub fn kernel_struct_id(&mut self, name: &str) -> Result<u32> {
        match &self.btf_vmlinux {
            Some(btf) => Ok(btf.find_struct(name).unwrap_or(0)),
            None => self.not_emulated(format!("struct {name} of a kernel without BTF")),
        }
    }

    /// `in_rcu_cs`: what RCU protects stays while the program runs, or this part of it.
    pub(super) fn in_rcu_cs(&self) -> bool {
        let state = &self.cur_state;
        state.active_rcu_lock || state.active_locks != 0 || !state.in_sleepable
    }

    /// `check_ptr_to_btf_access`: `size` bytes at `off`, the register's own offset included. What is read goes to
    /// `value_regno`.
    pub fn check_ptr_to_btf_access(
        &mut self,
        regno: u8,
        off: i32,
        size: i32,
        t: AccessType,
        value_regno: Option<u8>,
    ) -> Result<()> {
        let reg = *self.cur_reg(regno);
        let Some(btf) = self.btf_by_index(reg.btf()).cloned() else { return Err(Errno::EFAULT) };
        let tname = btf.type_name(&btf.type_or_void(reg.btf_id()));
        if !self.allow_ptr_leaks {
            verbose!(self, "'struct {tname}' access is allowed only to CAP_PERFMON and CAP_SYS_ADMIN\n");
            return Err(Errno::EPERM);
        }
        if !self.prog.gpl_compatible && btf.is_kernel() {
            verbose!(self, "Cannot access kernel 'struct {tname}' from non-GPL compatible program\n");
            return Err(Errno::EINVAL);
        }
        if off < 0 {
            verbose!(self, "R{regno} is ptr_{tname} invalid negative access: off={off}\n");
            return Err(Errno::EACCES);
        }
        if !reg.var_off.equals_const(0) {
            verbose!(
                self,
                "R{regno} is ptr_{tname} invalid variable offset: off={off}, var_off={}\n",
                reg.var_off
            );
            return Err(Errno::EACCES);
        }
        if reg.type_.has(flag::MEM_USER) {
            verbose!(self, "R{regno} is ptr_{tname} access user memory: off={off}\n");
            return Err(Errno::EACCES);
        }
        if reg.type_.has(flag::MEM_PERCPU) {
            verbose!(self, "R{regno} is ptr_{tname} access percpu memory: off={off}\n");
            return Err(Errno::EACCES);
        }
        if t == AccessType::Write {
            return self.check_btf_write(&reg);
        }
        let mut access =
            btf.struct_access(&mut self.log, reg.type_, reg.btf_id(), off as u32, size as u32)?;
        if access.reg_type == RegType::PTR_TO_BTF_ID {
            access.flags = self.trust_of(&btf, &reg, &access);
        }
        match value_regno {
            Some(value_regno) => self.mark_btf_ld_reg(value_regno, reg.btf(), &access),
            None => Ok(()),
        }
    }

    /// Some program types may write to a few members of some structures, all with the help of modules or kfuncs.
    fn check_btf_write(&mut self, reg: &RegState) -> Result<()> {
        let has_writable = matches!(
            progs::resolve_prog_type(&self.prog),
            ProgType::Xdp | ProgType::SchedCls | ProgType::SchedAct | ProgType::StructOps
        );
        if has_writable && !reg.type_.has(flag::MEM_ALLOC) {
            return self.not_emulated("writes to structures of the kernel");
        }
        if !reg.type_.has(flag::MEM_ALLOC) || reg.type_.has(flag::PTR_UNTRUSTED) {
            verbose!(self, "only read is supported\n");
            return Err(Errno::EACCES);
        }
        self.not_emulated("allocated objects")
    }

    /// Modifiers of a pointer that was read through `reg`.
    fn trust_of(&self, btf: &Btf, reg: &RegState, access: &StructAccess) -> u32 {
        // `clear_trusted_flags`
        const DEPRECATED: u32 = !(flag::BPF_REG_TRUSTED_MODIFIERS | flag::MEM_RCU);
        let mut flags = access.flags;
        if reg.type_.has(flag::PTR_UNTRUSTED) {
            return flag::PTR_UNTRUSTED;
        }
        if !reg.is_trusted() && !reg.type_.has(flag::MEM_RCU) {
            return flags & DEPRECATED;
        }
        let listed =
            |suffix| btf.nested_type_is_trusted(reg.btf_id(), access.field_name, access.btf_id, suffix);
        if listed(safe::TRUSTED) {
            return flags | flag::PTR_TRUSTED;
        }
        if listed(safe::TRUSTED_OR_NULL) {
            return flags | flag::PTR_TRUSTED | flag::PTR_MAYBE_NULL;
        }
        if !self.in_rcu_cs() || reg.type_.may_be_null() {
            return flag::PTR_UNTRUSTED;
        }
        if listed(safe::RCU) {
            return flags | flag::MEM_RCU;
        }
        let listed_or_null = listed(safe::RCU_OR_NULL);
        if flags & flag::MEM_RCU != 0 || listed_or_null {
            flags |= flag::MEM_RCU | flag::PTR_MAYBE_NULL;
            return if listed_or_null { flags & !flag::PTR_UNTRUSTED } else { flags };
        }
        if flags & (flag::MEM_PERCPU | flag::MEM_USER) != 0 { flags } else { flags & DEPRECATED }
    }

    /// `mark_btf_ld_reg`: the register receives what was read.
    pub fn mark_btf_ld_reg(&mut self, regno: u8, btf: u32, access: &StructAccess) -> Result<()> {
        if access.reg_type == RegType::SCALAR_VALUE {
            self.mark_cur_reg_unknown(regno);
            return Ok(());
        }
        let id = if access.flags & flag::PTR_MAYBE_NULL != 0 { self.next_id() } else { 0 };
        self.mark_cur_reg_known_zero(regno);
        let reg = self.cur_reg_mut(regno);
        reg.type_ = access.reg_type.with(access.flags);
        reg.id = id;
        if access.reg_type == RegType::PTR_TO_BTF_ID {
            reg.set_btf_id(btf, access.btf_id);
        } else {
            reg.set_mem_size(0);
        }
        Ok(())
    }

    /// The part of `check_ptr_to_map_access` that reads the structure behind a map, of type `btf_id`.
    pub(super) fn read_map_struct(
        &mut self,
        btf: &Arc<Btf>,
        btf_id: u32,
        off: i32,
        size: i32,
        value_regno: Option<u8>,
    ) -> Result<()> {
        let access =
            btf.struct_access(&mut self.log, RegType::PTR_TO_BTF_ID, btf_id, off as u32, size as u32)?;
        match value_regno {
            Some(value_regno) => self.mark_btf_ld_reg(value_regno, 0, &access),
            None => Ok(()),
        }
    }

    /// The last part of `check_reg_type`: a pointer to a structure is one to what the helper asks for.
    pub(super) fn check_btf_arg(&mut self, regno: u8, needed: u32, strict: bool) -> Result<()> {
        let reg = *self.cur_reg(regno);
        let (Some(btf), Some(vmlinux)) = (self.btf_by_index(reg.btf()).cloned(), self.btf_vmlinux.clone())
        else {
            return Err(Errno::EFAULT);
        };
        let matches =
            btf.struct_ids_match(&mut self.log, reg.btf_id(), reg.off as u32, (&vmlinux, needed), strict);
        if matches {
            return Ok(());
        }
        verbose!(
            self,
            "R{regno} is of type {} but {} is expected\n",
            btf.type_name(&btf.type_or_void(reg.btf_id())),
            vmlinux.type_name(&vmlinux.type_or_void(needed))
        );
        Err(Errno::EACCES)
    }

    /// R0 after a helper that returns a pointer to a structure: `RET_PTR_TO_BTF_ID`.
    pub(super) fn set_btf_id_return(
        &mut self,
        proto: &FuncProto,
        func_id: i32,
        meta: &CallArgMeta,
    ) -> Result<()> {
        let btf_id = match (proto.ret_btf_id, meta.kptr) {
            (Some(BtfTypeRef::Struct(name)), _) => self.kernel_struct_id(name)?,
            (Some(BtfTypeRef::Id(id)), _) => id,
            (Some(BtfTypeRef::Poison) | None, Some(kptr)) => kptr.btf_id,
            (Some(BtfTypeRef::Poison) | None, None) => return Err(Errno::EFAULT),
        };
        if btf_id == 0 {
            verbose!(
                self,
                "invalid return type {} of func {}#{func_id}\n",
                proto.ret_type.base().0,
                func_id_name(func_id)
            );
            return Err(Errno::EINVAL);
        }
        let flags = proto.ret_type.flags();
        let reg = self.cur_reg_mut(BPF_REG_0);
        reg.mark_known_zero();
        reg.type_ = RegType::PTR_TO_BTF_ID.with(flags);
        reg.set_btf_id(0, btf_id);
        Ok(())
    }

    /// R0 after `bpf_per_cpu_ptr` and `bpf_this_cpu_ptr`: `RET_PTR_TO_MEM_OR_BTF_ID`.
    pub(super) fn set_percpu_return(&mut self, ret_type: RetType, meta: &CallArgMeta) -> Result<()> {
        let Some(btf) = self.btf_by_index(meta.ret_btf).cloned() else { return Err(Errno::EFAULT) };
        let t = btf.skip_modifiers(meta.ret_btf_id);
        let flags = ret_type.flags();
        if !t.is_struct() {
            let size = match btf.resolve_size(t) {
                Ok(resolved) => resolved.size,
                Err(err) => {
                    verbose!(
                        self,
                        "unable to resolve the size of type '{}': {}\n",
                        btf.type_name(&t),
                        -err.0
                    );
                    return Err(Errno::EINVAL);
                }
            };
            let reg = self.cur_reg_mut(BPF_REG_0);
            reg.mark_known_zero();
            reg.type_ = RegType::PTR_TO_MEM.with(flags);
            reg.set_mem_size(size);
            return Ok(());
        }
        let reg = self.cur_reg_mut(BPF_REG_0);
        reg.mark_known_zero();
        reg.type_ = RegType::PTR_TO_BTF_ID.with(flags & !flag::MEM_RDONLY);
        reg.set_btf_id(meta.ret_btf, meta.ret_btf_id);
        Ok(())
    }

    /// `ARG_PTR_TO_PERCPU_BTF_ID`: what the variable is decides what the helper returns.
    pub(super) fn check_percpu_arg(&mut self, regno: u8, meta: &mut CallArgMeta) -> Result<()> {
        let reg = *self.cur_reg(regno);
        if reg.btf_id() == 0 {
            verbose!(self, "Helper has invalid btf_id in R{regno}\n");
            return Err(Errno::EACCES);
        }
        if regno == BPF_REG_1 && reg.type_.has(flag::MEM_RCU) {
            return self.not_emulated("allocated per-CPU objects");
        }
        meta.ret_btf = reg.btf();
        meta.ret_btf_id = reg.btf_id();
        Ok(())
    }
}

impl RegState {
    /// `is_trusted_reg`: pointers that are valid, and not null.
    pub fn is_trusted(&self) -> bool {
        if self.ref_obj_id != 0 {
            return true;
        }
        let unsafe_modifiers = self.type_.flags() & !flag::BPF_REG_TRUSTED_MODIFIERS != 0;
        match self.type_.base() {
            RegType::PTR_TO_SOCKET
            | RegType::PTR_TO_SOCK_COMMON
            | RegType::PTR_TO_TCP_SOCK
            | RegType::CONST_PTR_TO_MAP
                if !unsafe_modifiers =>
            {
                true
            }
            _ => self.type_.has_any(flag::BPF_REG_TRUSTED_MODIFIERS) && !unsafe_modifiers,
        }
    }
}
