//! Addresses of the kernel's variables and functions in instructions: `BPF_PSEUDO_BTF_ID`.

use std::sync::Arc;

use bpftwin_uapi::{Errno, Insn};

use super::reg_type::{RegType, flag};
use super::{Result, Verifier};
use crate::btf::{Btf, kind};
use crate::verbose;

/// Section of variables that every CPU has a copy of.
const PERCPU_SECTION: &str = ".data..percpu";

impl Verifier {
    /// `check_pseudo_btf_id`: instruction `i` loads the address of a variable or function, by its BTF id.
    pub(super) fn check_pseudo_btf_id(&mut self, i: usize, insn: Insn, next: Insn) -> Result<()> {
        let btf = if next.imm != 0 {
            let Ok(btf) = self.objects.btf_by_fd(next.imm) else {
                verbose!(self, "invalid module BTF object FD specified.\n");
                return Err(Errno::EINVAL);
            };
            btf
        } else {
            let Some(btf) = self.btf_vmlinux.clone() else {
                verbose!(
                    self,
                    "kernel is missing BTF, make sure CONFIG_DEBUG_INFO_BTF=y is specified in Kconfig.\n"
                );
                return Err(Errno::EINVAL);
            };
            btf
        };
        self.__check_pseudo_btf_id(i, insn.imm, &btf)?;
        self.__add_used_btf(Arc::clone(&btf))?;
        let used = self.used_btfs.iter().position(|used| used.uid() == btf.uid());
        self.insn_aux[i].btf_var_btf =
            if btf.is_vmlinux() { 0 } else { used.map_or(0, |used| used as u32 + 1) };
        Ok(())
    }

    fn __check_pseudo_btf_id(&mut self, i: usize, id: i32, btf: &Btf) -> Result<()> {
        let Some(t) = btf.type_by_id(id as u32) else {
            verbose!(self, "ldimm64 insn specifies invalid btf_id {id}.\n");
            return Err(Errno::ENOENT);
        };
        if !t.is_var() && !t.is_func() {
            verbose!(self, "pseudo btf_id {id} in ldimm64 isn't KIND_VAR or KIND_FUNC\n");
            return Err(Errno::EINVAL);
        }
        if !btf.is_kernel() {
            return self.not_emulated("addresses of kernel symbols by a program's BTF");
        }
        if t.is_var() && !self.prog.config.kallsyms_all {
            verbose!(self, "ldimm64 failed to find the address for kernel symbol '{}'.\n", btf.type_name(&t));
            return Err(Errno::ENOENT);
        }
        let address = symbol_address(t.id);
        self.prog.insns[i].imm = address as i32;
        self.prog.insns[i + 1].imm = (address >> 32) as i32;

        let (reg_type, id_or_size) = if t.is_func() {
            (RegType::PTR_TO_MEM.with(flag::MEM_RDONLY), 0)
        } else if is_percpu(btf, t.id) {
            (RegType::PTR_TO_BTF_ID.with(flag::MEM_PERCPU), t.type_())
        } else {
            let target = btf.skip_modifiers(t.type_());
            if target.is_struct() {
                (RegType::PTR_TO_BTF_ID, t.type_())
            } else {
                match btf.resolve_size(target) {
                    Ok(resolved) => (RegType::PTR_TO_MEM.with(flag::MEM_RDONLY), resolved.size),
                    Err(err) => {
                        verbose!(
                            self,
                            "ldimm64 unable to resolve the size of type '{}': {}\n",
                            btf.type_name(&target),
                            -err.0
                        );
                        return Err(Errno::EINVAL);
                    }
                }
            }
        };
        let aux = &mut self.insn_aux[i];
        aux.btf_var_type = reg_type;
        aux.btf_var_id_or_size = id_or_size;
        Ok(())
    }

    /// The part of `check_ld_imm` for these instructions: the destination register, which has been reset.
    pub(super) fn load_btf_var(&mut self, dst: u8) -> Result<()> {
        let aux = self.insn_aux[self.insn_idx as usize];
        let reg = self.cur_reg_mut(dst);
        reg.type_ = aux.btf_var_type;
        match aux.btf_var_type.base() {
            RegType::PTR_TO_MEM => reg.set_mem_size(aux.btf_var_id_or_size),
            RegType::PTR_TO_BTF_ID => reg.set_btf_id(aux.btf_var_btf, aux.btf_var_id_or_size),
            _ => {
                verbose!(self, "verifier bug: pseudo btf id: unexpected dst reg type\n");
                return Err(Errno::EFAULT);
            }
        }
        Ok(())
    }
}

/// The variable is in the section of those that every CPU has. A module's section is its own, not that of its base.
fn is_percpu(btf: &Btf, var: u32) -> bool {
    let section = if btf.is_vmlinux() {
        btf.find_by_name_kind(PERCPU_SECTION, kind::DATASEC).ok().and_then(|id| btf.type_by_id(id))
    } else {
        btf.types().find(|t| t.is_datasec() && btf.str_is(t.name_off, PERCPU_SECTION))
    };
    section.is_some_and(|section| section.vsis().any(|vsi| vsi.type_ == var))
}

/// Made up, in the part of the address space where the kernel's image is.
fn symbol_address(btf_id: u32) -> u64 {
    0xffff_ffff_8000_0000 | u64::from(btf_id) << 4
}
