//! `BPF_LD`: 64-bit immediates, which may name maps and functions, and the packet loads of classic BPF.

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Errno, Insn, MapType, ProgType};

use super::reg_arg::RegArgType;
use super::reg_type::RegType;
use super::{Result, Verifier};
use crate::progs::resolve_prog_type;
use crate::verbose;

/// `BTF_FUNC_STATIC`
const BTF_FUNC_STATIC: u16 = 0;

impl Verifier {
    /// `check_ld_imm`
    pub fn check_ld_imm(&mut self, insn: &Insn) -> Result<()> {
        let dst = insn.dst_reg();
        if insn.size() != BPF_DW {
            verbose!(self, "invalid BPF_LD_IMM insn\n");
            return Err(Errno::EINVAL);
        }
        if insn.off != 0 {
            verbose!(self, "BPF_LD_IMM64 uses reserved fields\n");
            return Err(Errno::EINVAL);
        }
        self.check_reg_arg(dst, RegArgType::DstOp)?;
        if insn.src_reg() == 0 {
            let high = self.prog.insns.get(self.insn_idx as usize + 1).map_or(0, |next| next.imm);
            let imm = (high as u32 as u64) << 32 | insn.imm as u32 as u64;
            let reg = self.cur_reg_mut(dst);
            reg.type_ = RegType::SCALAR_VALUE;
            reg.mark_known(imm);
            return Ok(());
        }
        self.mark_cur_reg_known_zero(dst);
        let aux = self.insn_aux[self.insn_idx as usize];
        match insn.src_reg() {
            BPF_PSEUDO_BTF_ID => self.load_btf_var(dst),
            BPF_PSEUDO_FUNC => self.load_func(insn),
            BPF_PSEUDO_MAP_VALUE | BPF_PSEUDO_MAP_IDX_VALUE => {
                let bpf_capable = self.bpf_capable;
                let is_arena = self.maps[aux.map_index as usize].map_type == MapType::Arena;
                let reg = self.cur_reg_mut(dst);
                reg.set_map_ptr(aux.map_index);
                if is_arena {
                    Self::mark_reg_unknown(bpf_capable, reg);
                } else {
                    reg.type_ = RegType::PTR_TO_MAP_VALUE;
                    reg.off = aux.map_off as i32;
                }
                Ok(())
            }
            BPF_PSEUDO_MAP_FD | BPF_PSEUDO_MAP_IDX => {
                let reg = self.cur_reg_mut(dst);
                reg.set_map_ptr(aux.map_index);
                reg.type_ = RegType::CONST_PTR_TO_MAP;
                Ok(())
            }
            _ => {
                verbose!(self, "verifier bug: unexpected src reg value for ldimm64\n");
                Err(Errno::EFAULT)
            }
        }
    }

    /// Address of a subprogram, to be used as a callback.
    fn load_func(&mut self, insn: &Insn) -> Result<()> {
        let target = (self.insn_idx as i32).wrapping_add(insn.imm).wrapping_add(1);
        let subprogno = self.find_subprog(target);
        if self.func_info_aux.is_empty() {
            verbose!(self, "missing btf func_info\n");
            return Err(Errno::EINVAL);
        }
        let linkage = subprogno.and_then(|i| self.func_info_aux.get(i)).map(|aux| aux.linkage);
        let (Some(subprogno), Some(BTF_FUNC_STATIC)) = (subprogno, linkage) else {
            verbose!(self, "callback function not static\n");
            return Err(Errno::EINVAL);
        };
        let reg = self.cur_reg_mut(insn.dst_reg());
        reg.type_ = RegType::PTR_TO_FUNC;
        reg.set_subprogno(subprogno as u32);
        Ok(())
    }

    /// `check_ld_abs`: loads of classic BPF, which end the program where they leave the packet.
    pub fn check_ld_abs(&mut self, insn: &Insn) -> Result<()> {
        const CTX_REG: u8 = BPF_REG_6;
        // `may_access_skb`
        if !matches!(
            resolve_prog_type(&self.prog),
            ProgType::SocketFilter | ProgType::SchedCls | ProgType::SchedAct
        ) {
            verbose!(self, "BPF_LD_[ABS|IND] instructions not allowed for this program type\n");
            return Err(Errno::EINVAL);
        }
        if insn.dst_reg() != 0
            || insn.off != 0
            || insn.size() == BPF_DW
            || insn.mode() == BPF_ABS && insn.src_reg() != 0
        {
            verbose!(self, "BPF_LD_[ABS|IND] uses reserved fields\n");
            return Err(Errno::EINVAL);
        }
        self.check_reg_arg(CTX_REG, RegArgType::SrcOp)?;
        self.check_resource_leak(false, true, "BPF_LD_[ABS|IND]")?;
        if self.cur_reg(CTX_REG).type_ != RegType::PTR_TO_CTX {
            verbose!(self, "at the time of BPF_LD_ABS|IND R6 != pointer to skb\n");
            return Err(Errno::EINVAL);
        }
        if insn.mode() == BPF_IND {
            self.check_reg_arg(insn.src_reg(), RegArgType::SrcOp)?;
        }
        self.check_ptr_off_reg(CTX_REG)?;
        for regno in BPF_REG_0..=BPF_REG_5 {
            self.mark_cur_reg_not_init(regno);
            self.check_reg_arg(regno, RegArgType::DstOpNoMark)?;
        }
        self.mark_cur_reg_unknown(BPF_REG_0);
        self.cur_reg_mut(BPF_REG_0).subreg_def = self.insn_idx as i32 + 1;
        if self.features.ld_abs_returns && self.cur_state.frames.len() > 1 {
            self.return_from_ld_abs()?;
        }
        Ok(())
    }

    /// A packet load that fails returns zero from the subprogram it is in. `insn_idx` is left before the caller's next
    /// instruction, as the walk steps on by one.
    fn return_from_ld_abs(&mut self) -> Result<()> {
        self.mark_reg_scratched(u32::from(BPF_REG_0));
        let mut insn_idx = self.insn_idx;
        self.push_stack(insn_idx + 1, insn_idx, false)?;
        self.mark_cur_reg_known_zero(BPF_REG_0);
        self.prepare_func_exit(&mut insn_idx)?;
        self.insn_idx = insn_idx.wrapping_sub(1);
        Ok(())
    }
}
