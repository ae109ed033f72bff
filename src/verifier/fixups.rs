//! What of the kernel's rewriting phases shows without them being done: the stack that rewritten programs take, and
//! callbacks that dead code removal leaves without their function.

use bpftwin_uapi::insn::*;

use super::cfg::{bpf_jmp_offset, is_may_goto_insn};
use super::{Result, Verifier};

/// Stack of an inlined `bpf_loop`: three registers.
const LOOP_STACK: u16 = 24;
/// Stack of a function with `may_goto`, where the JIT gives it a time limit: a counter and a time.
const TIMED_MAY_GOTO_STACK: u16 = 16;
/// The same without a time limit.
const MAY_GOTO_STACK: u16 = 8;

impl Verifier {
    /// `jit_subprogs` finds no function for the address of a callback that no path called, and which was removed.
    pub fn check_removed_callbacks(&mut self) -> Result<()> {
        let live = |subprog: usize| self.insn_aux[self.subprog_info[subprog].start as usize].seen != 0;
        if (0..self.subprog_cnt).filter(|&subprog| live(subprog)).count() <= 1 {
            return Ok(());
        }
        let removed = self.prog.insns.iter().zip(&self.insn_aux).enumerate().any(|(i, (insn, aux))| {
            insn.is_pseudo_func()
                && aux.seen != 0
                && self
                    .find_subprog((i as i32).wrapping_add(insn.imm) + 1)
                    .is_some_and(|callee| !live(callee))
        });
        if removed {
            return self.not_emulated("addresses of callbacks that are never called");
        }
        Ok(())
    }

    /// Stack depths of the subprograms that remain after the rewriting phases.
    pub fn rewritten_stack_depths(&self) -> Vec<u16> {
        let may_gotos = self.may_gotos_that_remain();
        let mut depths = Vec::with_capacity(self.subprog_cnt);
        for subprog in 0..self.subprog_cnt {
            let range = self.subprog_range(subprog);
            if self.insn_aux[range.start].seen == 0 {
                continue;
            }
            let mut depth = self.subprog_info[subprog].stack_depth;
            if self.insn_aux[range.clone()].iter().any(|aux| aux.loop_inline_state.fit_for_inline) {
                depth = depth.next_multiple_of(8) + LOOP_STACK;
            }
            if may_gotos[range].contains(&true) {
                depth += if self.prog.config.jit { TIMED_MAY_GOTO_STACK } else { MAY_GOTO_STACK };
            }
            depths.push(depth);
        }
        depths
    }

    /// For each instruction, whether it is a `may_goto` that is left after dead code, branches with one live side
    /// and jumps to the next instruction are gone: `opt_hard_wire_dead_code_branches`, `opt_remove_dead_code`,
    /// `opt_remove_nops`.
    fn may_gotos_that_remain(&self) -> Vec<bool> {
        let insns = &self.prog.insns;
        if !insns.iter().any(|&insn| is_may_goto_insn(insn)) {
            return vec![false; insns.len()];
        }
        let seen = |i: i64| {
            usize::try_from(i).ok().and_then(|i| self.insn_aux.get(i)).is_some_and(|aux| aux.seen != 0)
        };
        let mut gone: Vec<bool> = self.insn_aux.iter().map(|aux| aux.seen == 0).collect();
        let mut second_half = false;
        // Where each jump goes that is a candidate for removal.
        let jumps: Vec<Option<usize>> = insns
            .iter()
            .enumerate()
            .map(|(i, &insn)| {
                let skip = second_half;
                second_half = !skip && insn.is_ldimm64();
                let target = i as i64 + 1 + i64::from(bpf_jmp_offset(insn));
                let class = insn.class();
                if skip || class != BPF_JMP && class != BPF_JMP32 || matches!(insn.op(), BPF_CALL | BPF_EXIT)
                {
                    return None;
                }
                let goes_to = if insn.op() == BPF_JA || is_may_goto_insn(insn) || !seen(i as i64 + 1) {
                    target
                } else if !seen(target) {
                    i as i64 + 1
                } else {
                    return None;
                };
                usize::try_from(goes_to).ok()
            })
            .collect();
        // A jump over nothing but removed instructions goes as well, which may leave another one with nothing to jump
        // over.
        loop {
            let mut changed = false;
            for (i, target) in jumps.iter().enumerate() {
                let Some(target) = *target else { continue };
                // A long jump is not taken for a `goto +0`.
                let long = insns[i].code == BPF_JMP32 | BPF_JA;
                if !long && !gone[i] && target > i && gone[i + 1..target.min(gone.len())].iter().all(|&g| g) {
                    gone[i] = true;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
        }
        insns.iter().zip(gone).map(|(&insn, gone)| is_may_goto_insn(insn) && !gone).collect()
    }
}
