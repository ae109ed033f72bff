//! The walk: `do_check` follows one path after another, instruction by instruction, until every path ends or one fails.

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Errno, HelperId, Insn};

use super::log::{BPF_LOG_LEVEL, BPF_LOG_LEVEL2};
use super::reg_type::{ArgType, RegType, flag};
use super::state::*;
use super::stats::BPF_COMPLEXITY_LIMIT_INSNS;
use super::{Result, Verifier};
use crate::verbose;

/// `prev_insn_idx` where no instruction has run: -1.
const NO_INSN: u32 = u32::MAX;

/// Where the walk goes after an instruction.
enum Next {
    /// To `self.insn_idx`.
    Insn,
    /// The path ends: `PROCESS_BPF_EXIT`.
    PathEnd,
}

impl Verifier {
    /// `do_check_main`: walks the main program.
    pub fn do_check_main(&mut self) -> Result<()> {
        if self.bcf.as_ref().is_some_and(|bcf| bcf.subprog != 0) {
            return Ok(());
        }
        self.do_check_common(0)
    }

    /// `do_check_subprogs`: walks every global function that was called, each for any arguments of its types.
    pub fn do_check_subprogs(&mut self) -> Result<()> {
        if self.func_info_aux.is_empty() {
            return Ok(());
        }
        let mut first = 1;
        if let Some(bcf) = self.bcf.as_ref().filter(|_| self.resumed()) {
            first = bcf.subprog;
        }
        loop {
            let mut new_cnt = 0;
            for i in std::mem::replace(&mut first, 1)..self.subprog_cnt {
                if !self.subprog_is_global(i)
                    || !self.func_info_aux[i].called
                    || self.func_info_aux[i].verified
                {
                    continue;
                }
                if let Some(bcf) = &mut self.bcf {
                    bcf.subprog = i;
                }
                self.do_check_common(i)?;
                if self.log.level & BPF_LOG_LEVEL != 0 {
                    let name = self.subprog_name(i).to_owned();
                    verbose!(self, "Func#{i} ('{name}') is safe for any args that match its prototype\n");
                }
                self.func_info_aux[i].verified = true;
                new_cnt += 1;
            }
            if new_cnt == 0 {
                return Ok(());
            }
        }
    }

    /// `do_check_common`: walks the function `subprog` from its entry, or from where a proof was asked for.
    pub(super) fn do_check_common(&mut self, subprog: usize) -> Result<()> {
        let begun = if self.take_resumed() { Ok(()) } else { self.begin_function(subprog) };
        let result = begun.and_then(|()| self.do_check());
        if result.is_err() && !self.tracking {
            self.note_trail();
        }
        if self.tracking || self.bcf_requested() {
            return result;
        }
        if result.is_ok() && self.log.level & BPF_LOG_LEVEL2 == 0 {
            self.log.reset(0);
        }
        self.free_states();
        result
    }

    /// The current state becomes that at the entry of `subprog`.
    fn begin_function(&mut self, subprog: usize) -> Result<()> {
        self.insn_idx = self.subprog_info[subprog].start;
        self.prev_insn_idx = NO_INSN;
        self.prev_linfo = None;
        self.pass_cnt += 1;
        let frame = self.init_func_state(BPF_MAIN_FUNC, 0, subprog as u32);
        *self.cur_state = VerifierState {
            frames: vec![frame],
            branches: 1,
            in_sleepable: self.prog.sleepable,
            first_insn_idx: self.subprog_info[subprog].start,
            last_insn_idx: NO_INSN,
            ..VerifierState::default()
        };
        self.init_args(subprog)
    }

    /// Registers as a caller passes them.
    fn init_args(&mut self, subprog: usize) -> Result<()> {
        if subprog == 0 {
            if !self.func_info_aux.is_empty() {
                let ok = self.btf_prepare_func_args(0).is_ok();
                let sub = &self.subprog_info[0];
                if !ok || sub.arg_cnt != 1 || sub.args[0].arg_type != ArgType::ARG_PTR_TO_CTX {
                    self.func_info_aux[0].unreliable = true;
                }
            }
            let ctx = self.cur_reg_mut(BPF_REG_1);
            ctx.type_ = RegType::PTR_TO_CTX;
            ctx.mark_known_zero();
            return Ok(());
        }
        let name = self.subprog_name(subprog).to_owned();
        verbose!(self, "Validating {name}() func#{subprog}...\n");
        self.btf_prepare_func_args(subprog)?;
        for i in 0..self.subprog_info[subprog].arg_cnt as usize {
            self.init_arg(subprog, i)?;
        }
        Ok(())
    }

    /// Argument `i` of the global function `subprog`, as its type says.
    fn init_arg(&mut self, subprog: usize, i: usize) -> Result<()> {
        let arg = self.subprog_info[subprog].args[i];
        let regno = BPF_REG_1 + i as u8;
        let bpf_capable = self.bpf_capable;
        match arg.arg_type {
            ArgType::ARG_PTR_TO_CTX => {
                let reg = self.cur_reg_mut(regno);
                reg.type_ = RegType::PTR_TO_CTX;
                reg.mark_known_zero();
            }
            ArgType::ARG_ANYTHING => Self::mark_reg_unknown(bpf_capable, self.cur_reg_mut(regno)),
            t if t.base() == ArgType::ARG_PTR_TO_MEM => {
                if t.may_be_null() {
                    self.id_gen += 1;
                }
                let id = if t.may_be_null() { self.id_gen } else { 0 };
                let reg = self.cur_reg_mut(regno);
                reg.type_ = RegType::PTR_TO_MEM
                    .with(t.0 & (flag::PTR_MAYBE_NULL | flag::PTR_UNTRUSTED | flag::MEM_RDONLY));
                reg.mark_known_zero();
                reg.set_mem_size(arg.mem_size_or_btf_id);
                reg.id = id;
            }
            t if t.base() == ArgType::ARG_PTR_TO_BTF_ID => {
                let id = self.next_id();
                let flags = t.0 & (flag::PTR_MAYBE_NULL | flag::PTR_UNTRUSTED | flag::PTR_TRUSTED);
                let reg = self.cur_reg_mut(regno);
                reg.type_ = RegType::PTR_TO_BTF_ID.with(flags);
                reg.mark_known_zero();
                reg.set_btf_id(0, arg.mem_size_or_btf_id);
                reg.id = id;
            }
            t if t.base() == ArgType::ARG_PTR_TO_DYNPTR => {
                return self.not_emulated("dynptrs as arguments of global functions");
            }
            t if t.base() == ArgType::ARG_PTR_TO_ARENA => {
                return self.not_emulated("arena pointers as arguments of global functions");
            }
            t => {
                verbose!(self, "verifier bug: unhandled arg#{i} type {}\n", t.0);
                return Err(Errno::EFAULT);
            }
        }
        Ok(())
    }

    /// `free_states`
    fn free_states(&mut self) {
        while let Some(elem) = self.stack.pop() {
            self.states.recycle(elem.st);
        }
        self.states.clear();
        self.free_list.clear();
        self.explored_states.iter_mut().for_each(Vec::clear);
        self.scc_info.iter_mut().for_each(Vec::clear);
    }

    /// `do_check`
    pub(super) fn do_check(&mut self) -> Result<()> {
        let mut do_print_state = false;
        let mut prev_insn_idx = self.prev_insn_idx;
        if self.take_path_unreachable() {
            if !self.end_path()? {
                return Ok(());
            }
            prev_insn_idx = self.prev_insn_idx;
            do_print_state = true;
        }
        loop {
            self.cur_hist_ent = None;
            self.prev_insn_idx = prev_insn_idx;
            let Some(&insn) = self.prog.insns.get(self.insn_idx as usize) else {
                verbose!(
                    self,
                    "invalid insn idx {} insn_cnt {}\n",
                    self.insn_idx as i32,
                    self.prog.insns.len()
                );
                return Err(Errno::EFAULT);
            };
            self.insn_processed += 1;
            if self.insn_processed > BPF_COMPLEXITY_LIMIT_INSNS {
                verbose!(self, "BPF program is too large. Processed {} insn\n", self.insn_processed);
                return Err(Errno::E2BIG);
            }
            self.cur_state.last_insn_idx = self.prev_insn_idx;
            self.cur_state.insn_idx = self.insn_idx;

            let mut path_ends = false;
            if self.insn_aux[self.insn_idx as usize].prune_point && self.is_state_visited(self.insn_idx)? {
                self.print_safe(do_print_state);
                path_ends = true;
            } else {
                if self.insn_aux[self.insn_idx as usize].jmp_point {
                    self.push_jmp_history(0, 0)?;
                }
                if self.tracking {
                    match self.bcf_follow()? {
                        Some(on_path) => path_ends = !on_path,
                        None => return Ok(()),
                    }
                }
                if !path_ends {
                    if self.log.level & BPF_LOG_LEVEL != 0 {
                        self.print_insn(&mut do_print_state);
                    }
                    self.insn_aux[self.insn_idx as usize].seen = self.pass_cnt;
                    prev_insn_idx = self.insn_idx;
                    self.bpf_reset_stack_write_marks(self.insn_idx);
                    let mut refined = 0;
                    let next = loop {
                        match self.do_check_insn(&insn, &mut do_print_state) {
                            Ok(next) => {
                                self.bpf_commit_stack_write_marks();
                                break next;
                            }
                            // Marks of an instruction that failed do not matter: the path ends.
                            Err(errno) => {
                                if let Some(next) = self.recover(errno, &mut refined)? {
                                    break next;
                                }
                            }
                        }
                    };
                    path_ends = matches!(next, Next::PathEnd);
                    if path_ends {
                        self.bcf_lose_path();
                    }
                }
            }
            if path_ends {
                if !self.end_path()? {
                    return Ok(());
                }
                prev_insn_idx = self.prev_insn_idx;
                do_print_state = true;
            }
        }
    }

    /// `process_bpf_exit`: goes on with the branch pushed last; false where none is left.
    fn end_path(&mut self) -> Result<bool> {
        let pop_log = self.log.level & BPF_LOG_LEVEL2 == 0;
        self.mark_verifier_state_scratched();
        self.update_branch_counts()?;
        self.bpf_update_live_stack()?;
        Ok(self.pop_stack(pop_log))
    }

    /// What an instruction that failed comes to with BCF. In a symbolic run it was refined before, as often as it asked for it, and is now
    /// once more (none: it is to be checked again); otherwise the path may be one that nothing takes.
    #[cold]
    fn recover(&mut self, errno: Errno, refined: &mut usize) -> Result<Option<Next>> {
        if self.tracking && *refined < self.refinements_of_insn() {
            *refined += 1;
            return Ok(None);
        }
        if self.tracking || !self.take_path_unreachable() {
            return Err(errno);
        }
        verbose!(self, "BCF: unreachable path detected at insn {}, skipping\n", self.insn_idx);
        Ok(Some(Next::PathEnd))
    }

    /// Logs that the current state is covered by an explored one.
    fn print_safe(&mut self, do_print_state: bool) {
        if self.log.level & BPF_LOG_LEVEL == 0 {
            return;
        }
        if do_print_state {
            verbose!(self, "\nfrom {} to {}: safe\n", self.prev_insn_idx as i32, self.insn_idx);
        } else {
            verbose!(self, "{}: safe\n", self.insn_idx);
        }
    }

    /// Logs the state where a path begins or the state changed, the source line, and the instruction.
    fn print_insn(&mut self, do_print_state: &mut bool) {
        let curframe = self.cur_state.curframe();
        if self.log.level & BPF_LOG_LEVEL2 != 0 && *do_print_state {
            verbose!(self, "\nfrom {} to {}:", self.prev_insn_idx as i32, self.insn_idx);
            self.print_cur_state(curframe, true);
            *do_print_state = false;
        }
        if self.verifier_state_scratched() {
            self.print_insn_state(curframe);
        }
        self.verbose_linfo(self.insn_idx, format_args!("; "));
        self.prev_log_pos = self.log.end_pos();
        self.log.push_u64(self.insn_idx.into());
        self.log.push(": ");
        self.verbose_insn(self.insn_idx);
        self.prev_insn_print_pos = self.log.end_pos() - self.prev_log_pos;
        self.prev_log_pos = self.log.end_pos();
    }

    /// `do_check_insn`
    fn do_check_insn(&mut self, insn: &Insn, do_print_state: &mut bool) -> Result<Next> {
        match insn.class() {
            BPF_ALU | BPF_ALU64 => self.check_alu_op(insn)?,
            BPF_LDX => self.check_load_mem(*insn, false, insn.mode() == BPF_MEMSX, true, "ldx")?,
            BPF_STX if insn.mode() == BPF_ATOMIC => self.check_atomic(*insn)?,
            BPF_STX => {
                if insn.mode() != BPF_MEM || insn.imm != 0 {
                    verbose!(self, "BPF_STX uses reserved fields\n");
                    return Err(Errno::EINVAL);
                }
                self.check_store_reg(*insn, false)?;
            }
            BPF_ST => {
                if insn.mode() != BPF_MEM || insn.src_reg() != 0 {
                    verbose!(self, "BPF_ST uses reserved fields\n");
                    return Err(Errno::EINVAL);
                }
                self.check_store_imm(*insn)?;
            }
            BPF_LD => self.check_ld(insn)?,
            _ => return self.check_jmp(insn, do_print_state),
        }
        self.insn_idx += 1;
        Ok(Next::Insn)
    }

    fn check_ld(&mut self, insn: &Insn) -> Result<()> {
        match insn.mode() {
            BPF_ABS | BPF_IND => self.check_ld_abs(insn),
            BPF_IMM => {
                self.check_ld_imm(insn)?;
                self.insn_idx += 1;
                if let Some(aux) = self.insn_aux.get_mut(self.insn_idx as usize) {
                    aux.seen = self.pass_cnt;
                }
                Ok(())
            }
            _ => {
                verbose!(self, "invalid BPF_LD mode\n");
                Err(Errno::EINVAL)
            }
        }
    }

    /// Jumps, calls and exits.
    fn check_jmp(&mut self, insn: &Insn, do_print_state: &mut bool) -> Result<Next> {
        self.jmps_processed += 1;
        let is_jmp32 = insn.class() == BPF_JMP32;
        let mut insn_idx = self.insn_idx;
        match insn.op() {
            BPF_CALL => {
                let checked = self.check_call(insn, &mut insn_idx);
                self.bcf_on_eacces(checked)?;
                self.mark_reg_scratched(BPF_REG_0.into());
            }
            BPF_JA => {
                if insn.src() != BPF_K
                    || insn.src_reg() != 0
                    || insn.dst_reg() != 0
                    || !is_jmp32 && insn.imm != 0
                    || is_jmp32 && insn.off != 0
                {
                    verbose!(self, "BPF_JA uses reserved fields\n");
                    return Err(Errno::EINVAL);
                }
                let distance = if is_jmp32 { insn.imm } else { insn.off.into() };
                insn_idx = insn_idx.wrapping_add(distance as u32);
            }
            BPF_EXIT => {
                if insn.src() != BPF_K
                    || insn.imm != 0
                    || insn.src_reg() != 0
                    || insn.dst_reg() != 0
                    || is_jmp32
                {
                    verbose!(self, "BPF_EXIT uses reserved fields\n");
                    return Err(Errno::EINVAL);
                }
                return self.process_bpf_exit_full(do_print_state);
            }
            _ => self.check_cond_jmp_op(insn, &mut insn_idx)?,
        }
        self.insn_idx = insn_idx.wrapping_add(1);
        Ok(Next::Insn)
    }

    fn check_call(&mut self, insn: &Insn, insn_idx: &mut u32) -> Result<()> {
        let src = insn.src_reg();
        if insn.src() != BPF_K
            || src != BPF_PSEUDO_KFUNC_CALL && insn.off != 0
            || !matches!(src, 0 | BPF_PSEUDO_CALL | BPF_PSEUDO_KFUNC_CALL)
            || insn.dst_reg() != 0
            || insn.class() == BPF_JMP32
        {
            verbose!(self, "BPF_CALL uses reserved fields\n");
            return Err(Errno::EINVAL);
        }
        if self.cur_state.active_locks != 0 && src == 0 && insn.imm != HelperId::SpinUnlock as i32 {
            verbose!(self, "function calls are not allowed while holding a lock\n");
            return Err(Errno::EINVAL);
        }
        match src {
            BPF_PSEUDO_CALL => self.check_func_call(*insn, insn_idx),
            BPF_PSEUDO_KFUNC_CALL => self.not_emulated("kfunc calls"),
            _ => self.check_helper_call(*insn, insn_idx),
        }
    }

    /// `process_bpf_exit_full`: returns to the caller, or ends the path.
    fn process_bpf_exit_full(&mut self, do_print_state: &mut bool) -> Result<Next> {
        let in_main = self.cur_state.frames.len() == 1;
        self.check_resource_leak(false, in_main, "BPF_EXIT instruction in main prog")?;
        if !in_main {
            let mut insn_idx = self.insn_idx;
            self.prepare_func_exit(&mut insn_idx)?;
            self.insn_idx = insn_idx;
            *do_print_state = true;
            return Ok(Next::Insn);
        }
        self.check_return_code(BPF_REG_0, "R0")?;
        Ok(Next::PathEnd)
    }
}
