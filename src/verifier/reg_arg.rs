//! Operands: may a register be read or written, and how wide is the definition that a read sees. `check_reg_arg`.

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Errno, Insn};

use super::reg_type::RegType;
use super::state::{DEF_NOT_SUBREG, RegState};
use super::{Result, Verifier};
use crate::verbose;

/// How an instruction uses a register: `enum reg_arg_type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RegArgType {
    SrcOp,
    /// Written; its old value is forgotten.
    DstOp,
    /// Written; the caller says what it holds.
    DstOpNoMark,
}

/// `is_reg64`: the instruction uses all 64 bits of the register.
fn is_reg64(insn: &Insn, reg: &RegState, t: RegArgType) -> bool {
    let is_src = t == RegArgType::SrcOp;
    match insn.class() {
        BPF_JMP => match insn.op() {
            BPF_CALL => insn.src_reg() != BPF_PSEUDO_CALL && is_src,
            _ => true,
        },
        BPF_ALU64 => !(insn.op() == BPF_END && matches!(insn.imm, 16 | 32)),
        BPF_ALU => insn.op() == BPF_END && insn.imm == 64,
        BPF_JMP32 => false,
        BPF_LDX => is_src || insn.size() == BPF_DW || insn.mode() == BPF_MEMSX,
        BPF_STX => is_src && reg.type_ != RegType::SCALAR_VALUE || insn.size() == BPF_DW,
        BPF_LD => insn.mode() == BPF_IMM || is_src,
        _ => true,
    }
}

impl Verifier {
    /// `check_reg_arg`: the current instruction uses register `regno` of the current frame.
    pub fn check_reg_arg(&mut self, regno: u8, t: RegArgType) -> Result<()> {
        if regno as usize >= MAX_BPF_REG {
            verbose!(self, "R{regno} is invalid\n");
            return Err(Errno::EINVAL);
        }
        self.mark_reg_scratched(regno.into());
        let insn = self.prog.insns[self.insn_idx as usize];
        let reg = &mut self.cur_state.cur_func_mut().regs[regno as usize];
        let rw64 = is_reg64(&insn, reg, t);
        if t == RegArgType::SrcOp {
            if reg.type_ == RegType::NOT_INIT {
                verbose!(self, "R{regno} !read_ok\n");
                return self.reg_arg_rejected();
            }
            // `mark_insn_zext`: the reader needs the upper half that the definition left to be cleared.
            if regno != BPF_REG_FP && rw64 && reg.subreg_def != DEF_NOT_SUBREG {
                let def = reg.subreg_def as usize - 1;
                reg.subreg_def = DEF_NOT_SUBREG;
                if let Some(aux) = self.insn_aux.get_mut(def) {
                    aux.zext_dst = true;
                }
            }
            if self.tracking {
                self.bcf_bind_reg(regno)?;
            }
            return Ok(());
        }
        if regno == BPF_REG_FP {
            verbose!(self, "frame pointer is read only\n");
            return self.reg_arg_rejected();
        }
        reg.subreg_def = if rw64 { DEF_NOT_SUBREG } else { self.insn_idx as i32 + 1 };
        if t == RegArgType::DstOp {
            Self::mark_reg_unknown(self.bpf_capable, reg);
        }
        Ok(())
    }

    /// The register may not be used so; but the path may be one that nothing takes.
    #[cold]
    fn reg_arg_rejected(&mut self) -> Result<()> {
        self.bcf_prove_unreachable();
        Err(Errno::EACCES)
    }
}
