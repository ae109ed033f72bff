//! Pointers in the values of maps: kptrs, which point to objects of the kernel or of the program, and uptrs, which point to
//! memory of a task.
//!
//! A referenced kptr is only read, and exchanged with `bpf_kptr_xchg`; an unreferenced one is written as well, and what
//! is read of it cannot be trusted.

use std::sync::Arc;

use bpftwin_uapi::Errno;
use bpftwin_uapi::insn::{BPF_LDX, BPF_MEM, BPF_ST, BPF_STX};

use super::access::CallArgMeta;
use super::print_state::reg_type_str;
use super::reg_type::{RegType, flag};
use super::{Result, Verifier};
use crate::btf::{Btf, BtfField, StructAccess, field};
use crate::verbose;

/// Structures of the kernel that are freed after a grace period only: `rcu_protected_types`.
const RCU_PROTECTED_TYPES: [&str; 5] =
    ["prog_test_ref_kfunc", "cgroup", "bpf_cpumask", "task_struct", "bpf_crypto_ctx"];

/// A kptr to an object of the kernel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct KernelKptr {
    /// One of [`field::BPF_KPTR`]'s bits.
    pub field_type: u32,
    /// Id in the kernel's BTF.
    pub btf_id: u32,
}

impl Verifier {
    /// The field's target, where that is of a type of the kernel.
    fn kernel_kptr(&mut self, field: &BtfField) -> Result<(Arc<Btf>, KernelKptr)> {
        let kptr = field.kptr().filter(|kptr| kptr.kernel_btf.is_some());
        match (kptr, &self.btf_vmlinux) {
            (Some(kptr), Some(vmlinux)) if vmlinux.uid() == kptr.btf_uid => {
                Ok((Arc::clone(vmlinux), KernelKptr { field_type: field.type_, btf_id: kptr.btf_id }))
            }
            (None, _) => self.not_emulated("allocated objects"),
            _ => self.not_emulated("kptrs to objects of modules"),
        }
    }

    /// `check_map_kptr_access`: loads and stores of a pointer in a map's value, of which place and size were checked.
    pub(super) fn check_map_kptr_access(
        &mut self,
        regno: u8,
        value_regno: Option<u8>,
        insn_idx: u32,
        field: &BtfField,
    ) -> Result<()> {
        let insn = self.prog.insns[insn_idx as usize];
        let is_load = insn.class() == BPF_LDX;
        if insn.mode() != BPF_MEM {
            verbose!(self, "kptr in map can only be accessed using BPF_MEM instruction mode\n");
        } else if !is_load && field.type_ & (field::BPF_KPTR_REF | field::BPF_KPTR_PERCPU) != 0 {
            verbose!(self, "store to referenced kptr disallowed\n");
        } else if !is_load && field.type_ == field::BPF_UPTR {
            verbose!(self, "store to uptr disallowed\n");
        } else {
            match (insn.class(), value_regno) {
                (BPF_LDX, Some(value_regno)) if field.type_ == field::BPF_UPTR => {
                    return self.mark_uptr_ld_reg(regno, value_regno, field.offset);
                }
                (BPF_LDX, Some(value_regno)) => return self.load_kptr(value_regno, field),
                (BPF_STX, Some(value_regno)) => {
                    if self.cur_reg(value_regno).is_null() {
                        return Ok(());
                    }
                    let (_, kptr) = self.kernel_kptr(field)?;
                    return self.map_kptr_match_type(kptr, value_regno).map_err(|_| Errno::EACCES);
                }
                (BPF_ST, _) if insn.imm == 0 => return Ok(()),
                (BPF_ST, _) => {
                    let at = field.offset;
                    verbose!(self, "BPF_ST imm must be 0 when storing to kptr at off={at}\n");
                }
                _ => {
                    verbose!(self, "kptr in map can only be accessed using BPF_LDX/BPF_STX/BPF_ST\n");
                }
            }
        }
        Err(Errno::EACCES)
    }

    /// The register receives a kptr, as `btf_ld_kptr_type` says what it is worth.
    fn load_kptr(&mut self, value_regno: u8, field: &BtfField) -> Result<()> {
        let (btf, kptr) = self.kernel_kptr(field)?;
        let name = btf.type_name(&btf.type_or_void(kptr.btf_id)).to_string();
        // `rcu_safe_kptr`
        let rcu_safe = kptr.field_type == field::BPF_KPTR_PERCPU
            || kptr.field_type == field::BPF_KPTR_REF && RCU_PROTECTED_TYPES.contains(&name.as_str());
        let flags = match rcu_safe && self.in_rcu_cs() {
            true if kptr.field_type == field::BPF_KPTR_PERCPU => flag::MEM_RCU | flag::MEM_PERCPU,
            true => flag::MEM_RCU,
            false => flag::PTR_UNTRUSTED,
        };
        let access = StructAccess {
            reg_type: RegType::PTR_TO_BTF_ID,
            btf_id: kptr.btf_id,
            flags: flag::PTR_MAYBE_NULL | flags,
            field_name: 0,
        };
        self.mark_btf_ld_reg(value_regno, 0, &access)
    }

    /// `map_kptr_match_type`: the register can be the field's content.
    pub(super) fn map_kptr_match_type(&mut self, kptr: KernelKptr, regno: u8) -> Result<()> {
        let Some(kernel) = self.btf_vmlinux.clone() else { return Err(Errno::EFAULT) };
        let reg = *self.cur_reg(regno);
        let unreferenced = kptr.field_type == field::BPF_KPTR_UNREF;
        let mut name = String::new();
        if reg.type_.base() == RegType::PTR_TO_BTF_ID
            && let Some(btf) = self.btf_by_index(reg.btf()).cloned()
        {
            let permitted = match btf.is_kernel() {
                // Only what is not referenced may be anything.
                true if unreferenced => {
                    flag::PTR_MAYBE_NULL | flag::PTR_TRUSTED | flag::MEM_RCU | flag::PTR_UNTRUSTED
                }
                true => flag::PTR_MAYBE_NULL | flag::PTR_TRUSTED | flag::MEM_RCU,
                false if kptr.field_type == field::BPF_KPTR_PERCPU => {
                    flag::PTR_MAYBE_NULL | flag::MEM_ALLOC | flag::MEM_PERCPU
                }
                false => flag::PTR_MAYBE_NULL | flag::MEM_ALLOC,
            };
            if reg.type_.flags() & !permitted == 0 {
                name = btf.type_name(&btf.type_or_void(reg.btf_id())).to_string();
                self.check_ptr_off_reg_fixed(&reg, regno, true).map_err(|_| Errno::EACCES)?;
                let target = (&*kernel, kptr.btf_id);
                let off = reg.off as u32;
                if btf.struct_ids_match(&mut self.log, reg.btf_id(), off, target, !unreferenced) {
                    return Ok(());
                }
            }
        }
        let target = kernel.type_name(&kernel.type_or_void(kptr.btf_id)).to_string();
        let pointer = reg_type_str(RegType::PTR_TO_BTF_ID);
        verbose!(self, "invalid kptr access, R{regno} type={}{name} ", reg_type_str(reg.type_));
        verbose!(self, "expected={pointer}{target}");
        if unreferenced {
            let untrusted = reg_type_str(RegType::PTR_TO_BTF_ID.with(flag::PTR_UNTRUSTED));
            verbose!(self, " or {untrusted}{target}\n");
        } else {
            verbose!(self, "\n");
        }
        Err(Errno::EINVAL)
    }

    /// `mark_uptr_ld_reg`: memory of the size of the type that the pointer is declared for, or null.
    fn mark_uptr_ld_reg(&mut self, regno: u8, value_regno: u8, field_off: u32) -> Result<()> {
        let map = self.reg_map(regno)?;
        let size = map.record.as_ref().zip(map.btf.as_ref()).and_then(|(record, btf)| {
            let kptr = record.find(field_off, field::BPF_UPTR)?.kptr()?;
            Some(btf.type_by_id(kptr.btf_id)?.size_or_type)
        });
        let Some(size) = size else { return self.not_emulated("uptrs of kernel types") };
        let id = self.next_id();
        let reg = self.cur_reg_mut(value_regno);
        reg.mark_known_zero();
        reg.type_ = RegType::PTR_TO_MEM.with(flag::PTR_MAYBE_NULL);
        reg.set_mem_size(size);
        reg.id = id;
        Ok(())
    }

    /// `process_kptr_func`: the place that `bpf_kptr_xchg` exchanges.
    pub(super) fn process_kptr_func(&mut self, regno: u8, meta: &mut CallArgMeta) -> Result<()> {
        let reg = *self.cur_reg(regno);
        let map = match reg.map_ptr() {
            Some(map_idx) if reg.type_ == RegType::PTR_TO_MAP_VALUE => self.maps[map_idx as usize].clone(),
            _ => return self.not_emulated("allocated objects"),
        };
        if map.btf.is_none() {
            verbose!(self, "map '{}' has to have BTF in order to use bpf_kptr_xchg\n", map.name);
            return Err(Errno::EINVAL);
        }
        meta.map_ptr = reg.map_ptr();
        if !reg.is_const() {
            verbose!(self, "R{regno} doesn't have constant offset. kptr has to be at the constant offset\n");
            return Err(Errno::EINVAL);
        }
        let Some(record) = map.record.as_deref().filter(|record| record.has_field(field::BPF_KPTR)) else {
            verbose!(self, "R{regno} has no valid kptr\n");
            return Err(Errno::EINVAL);
        };
        let at = (reg.off as u32).wrapping_add(reg.var_off.value as u32);
        let Some(found) = record.find(at, field::BPF_KPTR) else {
            verbose!(self, "off={} doesn't point to kptr\n", at as i32);
            return Err(Errno::EACCES);
        };
        if found.type_ & (field::BPF_KPTR_REF | field::BPF_KPTR_PERCPU) == 0 {
            verbose!(self, "off={} kptr isn't referenced kptr\n", at as i32);
            return Err(Errno::EACCES);
        }
        let (_, kptr) = self.kernel_kptr(found)?;
        meta.kptr = Some(kptr);
        Ok(())
    }
}
