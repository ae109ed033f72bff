//! Which registers are alive before each instruction: `compute_live_registers`.
//!
//! A backward data-flow analysis. For each instruction `I`, with the sets `use` of registers read and `def` of registers
//! written:
//!
//! ```text
//! out(I) = union of in(S) over the successors S of I
//! in(I)  = (out(I) \ def(I)) + use(I)
//! ```
//!
//! iterated in post-order until nothing changes. [`InsnAux::live_regs_before`](super::insn_aux::InsnAux) is `in`.

use bpftwin_uapi::insn::*;

use super::log::BPF_LOG_LEVEL2;
use super::{Result, Verifier};
use crate::verbose;

/// R0 to R5: `ALL_CALLER_SAVED_REGS`.
pub const ALL_CALLER_SAVED_REGS: u16 = 0x3f;

/// Sets of registers, bit by bit.
#[derive(Clone, Copy, Default)]
struct LiveRegs {
    uses: u16,
    def: u16,
    before: u16,
    after: u16,
}

impl Verifier {
    pub fn compute_live_registers(&mut self) -> Result<()> {
        let mut state: Vec<LiveRegs> =
            self.prog.insns.iter().map(|&insn| self.compute_insn_live_regs(insn)).collect();
        let mut changed = true;
        while changed {
            changed = false;
            for insn in &self.insn_postorder {
                let after = insn.successors().iter().fold(0, |set, &s| set | state[s as usize].before);
                let live = &mut state[insn.idx as usize];
                let before = after & !live.def | live.uses;
                if after != live.after || before != live.before {
                    live.before = before;
                    live.after = after;
                    changed = true;
                }
            }
        }
        for (aux, live) in self.insn_aux.iter_mut().zip(&state) {
            aux.live_regs_before = live.before;
        }
        if self.log.level & BPF_LOG_LEVEL2 != 0 {
            self.print_live_registers();
        }
        Ok(())
    }

    fn print_live_registers(&mut self) {
        verbose!(self, "Live regs before insn:\n");
        let mut i = 0;
        while i < self.prog.insns.len() {
            let aux = self.insn_aux[i];
            if aux.scc != 0 {
                verbose!(self, "{:3} ", aux.scc);
            } else {
                verbose!(self, "    ");
            }
            verbose!(self, "{i:3}: ");
            let mut line = [b'.'; 11];
            for regno in 0..BPF_REG_10 {
                if aux.live_regs_before >> regno & 1 != 0 {
                    line[usize::from(regno)] = b'0' + regno;
                }
            }
            line[10] = b' ';
            self.log.push_bytes(&line);
            self.verbose_insn(i as u32);
            i += if self.prog.insns[i].is_ldimm64() { 2 } else { 1 };
        }
    }

    /// Registers that an instruction reads and writes.
    fn compute_insn_live_regs(&self, insn: Insn) -> LiveRegs {
        const R0: u16 = 1;
        /// For what is no valid instruction: reads everything.
        const ALL: u16 = 0xffff;
        let src = 1u16 << insn.src_reg();
        let dst = 1u16 << insn.dst_reg();
        let operand = if insn.src() == BPF_K { 0 } else { src };
        let (uses, def) = match insn.class() {
            BPF_LD if insn.mode() == BPF_IMM && insn.size() == BPF_DW => (0, dst),
            BPF_LDX if matches!(insn.mode(), BPF_MEM | BPF_MEMSX) => (src, dst),
            BPF_ST if insn.mode() == BPF_MEM => (dst, 0),
            BPF_STX if insn.mode() == BPF_MEM => (dst | src, 0),
            BPF_STX if insn.mode() == BPF_ATOMIC => match insn.imm {
                BPF_CMPXCHG => (R0 | dst | src, R0),
                BPF_LOAD_ACQ => (src, dst),
                BPF_STORE_REL => (dst | src, 0),
                imm => (dst | src, if imm & BPF_FETCH != 0 { src } else { 0 }),
            },
            BPF_ALU | BPF_ALU64 => match insn.op() {
                BPF_END => (dst, dst),
                BPF_MOV => (operand, dst),
                _ => (dst | operand, dst),
            },
            BPF_JMP | BPF_JMP32 => match insn.op() {
                BPF_JA | BPF_JCOND => (0, 0),
                BPF_EXIT => (R0, 0),
                BPF_CALL => match self.get_call_summary(insn) {
                    Some(call) => (args_mask(call.num_params), ALL_CALLER_SAVED_REGS),
                    None => (ALL_CALLER_SAVED_REGS & !R0, ALL_CALLER_SAVED_REGS),
                },
                _ => (dst | operand, 0),
            },
            _ => (ALL, 0),
        };
        LiveRegs { uses, def, ..LiveRegs::default() }
    }
}

/// Registers R1 to R`num_params`.
pub fn args_mask(num_params: u8) -> u16 {
    ((1u16 << (num_params + 1)) - 1) & !1
}
