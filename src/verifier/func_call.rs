//! Calls of the program's own functions: `check_func_call`.
//!
//! A static function is verified anew for each call, in a frame of its own. A global one is verified once, for any
//! arguments that its BTF prototype admits; a call checks the arguments and goes on behind it.

use bpftwin_uapi::Errno;
use bpftwin_uapi::insn::{BPF_REG_0, BPF_REG_1, BPF_REG_5, Insn};

use super::access::CallArgMeta;
use super::log::BPF_LOG_LEVEL;
use super::reg_type::{ArgType, RegType, flag};
use super::state::{DEF_NOT_SUBREG, MAX_CALL_FRAMES};
use super::{Result, SubprogArg, Verifier};
use crate::btf::{BTF_FUNC_GLOBAL, FuncArgsQuery, btf_prepare_func_args};
use crate::helpers::BtfTypeRef;
use crate::progs::resolve_prog_type;
use crate::verbose;

/// Registers that a call scratches are R0 to R5: `CALLER_SAVED_REGS`.
pub(super) const CALLER_SAVED_REGS: u8 = 6;

impl Verifier {
    /// `check_func_call`: the call of a subprogram at `insn_idx`, which moves to before the callee's first
    /// instruction where the callee is to be verified now.
    pub fn check_func_call(&mut self, insn: Insn, insn_idx: &mut u32) -> Result<()> {
        let target = i64::from(*insn_idx) + i64::from(insn.imm) + 1;
        let Some(subprog) = self.find_subprog(target) else {
            verbose!(
                self,
                "verifier bug: target of func call at insn {} is not a program (subprog < 0)\n",
                target
            );
            return Err(Errno::EFAULT);
        };
        let args_match = self.btf_check_subprog_call(subprog)?;
        if self.subprog_is_global(subprog) {
            return self.check_global_call(subprog, args_match);
        }

        self.check_call_depth(self.cur_state.frames.len())?;
        let caller = self.cur_state.curframe();
        let mut callee = self.init_func_state(*insn_idx as i32, caller as u32 + 1, subprog as u32);
        let args = BPF_REG_1 as usize..=BPF_REG_5 as usize;
        callee.regs[args.clone()].copy_from_slice(&self.cur_state.cur_func().regs[args]);
        self.cur_state.frames.push(callee);
        self.clear_caller_saved_regs(caller);

        *insn_idx = self.subprog_info[subprog].start.wrapping_sub(1);
        self.bpf_reset_live_stack_callchain();
        if self.log.level & BPF_LOG_LEVEL != 0 {
            verbose!(self, "caller:\n");
            self.print_cur_state(caller, true);
            verbose!(self, "callee:\n");
            self.print_cur_state(caller + 1, true);
        }
        Ok(())
    }

    fn check_global_call(&mut self, subprog: usize, args_match: Result<()>) -> Result<()> {
        let state = &self.cur_state;
        if state.active_locks != 0 {
            verbose!(
                self,
                "global function calls are not allowed while holding a lock,\nuse static function instead\n"
            );
            return Err(Errno::EINVAL);
        }
        let atomic = state.active_rcu_lock
            || state.active_preempt_locks != 0
            || state.active_irq_id != 0
            || !state.in_sleepable;
        if self.subprog_info[subprog].might_sleep && atomic {
            verbose!(
                self,
                "global functions that may sleep are not allowed in non-sleepable context,\n\
                 i.e., in a RCU/IRQ/preempt-disabled section, or in\n\
                 a non-sleepable BPF program context\n"
            );
            return Err(Errno::EINVAL);
        }
        if let Err(err) = args_match {
            verbose!(
                self,
                "Caller passes invalid args into func#{subprog} ('{}')\n",
                self.subprog_name(subprog)
            );
            return Err(err);
        }
        verbose!(self, "Func#{subprog} ('{}') is global and assumed valid.\n", self.subprog_name(subprog));
        if self.subprog_info[subprog].changes_pkt_data {
            self.clear_all_pkt_pointers();
        }
        if let Some(aux) = self.func_info_aux.get_mut(subprog) {
            aux.called = true;
        }
        self.clear_caller_saved_regs(self.cur_state.curframe());
        self.mark_cur_reg_unknown(BPF_REG_0);
        self.cur_reg_mut(BPF_REG_0).subreg_def = DEF_NOT_SUBREG;
        Ok(())
    }

    /// The part of `setup_func_entry` that bounds the call stack, `frames` deep before the call.
    pub(super) fn check_call_depth(&mut self, frames: usize) -> Result<()> {
        if frames >= MAX_CALL_FRAMES {
            verbose!(self, "the call stack of {} frames is too deep\n", frames + 1);
            return Err(Errno::E2BIG);
        }
        Ok(())
    }

    /// `clear_caller_saved_regs`: the call leaves nothing in R0 to R5 of frame `frame`.
    pub(super) fn clear_caller_saved_regs(&mut self, frame: usize) {
        // `check_reg_arg` of a destination, as far as it concerns a call.
        let subreg_def = self.insn_idx as i32 + 1;
        let bpf_capable = self.bpf_capable;
        let regs = &mut self.cur_state.frames[frame].regs;
        for reg in &mut regs[..CALLER_SAVED_REGS as usize] {
            Self::mark_reg_not_init(bpf_capable, reg);
            reg.subreg_def = subreg_def;
        }
        for regno in 0..CALLER_SAVED_REGS {
            self.mark_reg_scratched(u32::from(regno));
        }
    }

    /// `btf_check_subprog_call`: whether the arguments fit the prototype. A verifier bug, and what is not emulated,
    /// are the outer error; without a usable prototype, or where they do not fit, the inner one is.
    pub(super) fn btf_check_subprog_call(&mut self, subprog: usize) -> Result<Result<()>> {
        let Some(info) = self.func_info.get(subprog) else { return Ok(Err(Errno::EINVAL)) };
        if info.type_id == 0 {
            return Err(Errno::EFAULT);
        }
        if self.func_info_aux.get(subprog).is_none_or(|aux| aux.unreliable) {
            return Ok(Err(Errno::EINVAL));
        }
        let result = self.btf_check_func_arg_match(subprog);
        if result.is_err()
            && let Some(aux) = self.func_info_aux.get_mut(subprog)
        {
            aux.unreliable = true;
        }
        if result == Err(Errno::EFAULT) || self.not_emulated.is_some() {
            result?;
        }
        Ok(result)
    }

    /// `btf_check_func_arg_match`
    fn btf_check_func_arg_match(&mut self, subprog: usize) -> Result<()> {
        self.btf_prepare_func_args(subprog)?;
        let info = &self.subprog_info[subprog];
        let (args, arg_cnt) = (info.args, info.arg_cnt as usize);
        for (i, arg) in args.iter().enumerate().take(arg_cnt) {
            self.check_subprog_arg(i, arg)?;
        }
        Ok(())
    }

    /// `btf_prepare_func_args`: reads the function's prototype into its [`SubprogInfo`](super::SubprogInfo), once.
    pub fn btf_prepare_func_args(&mut self, subprog: usize) -> Result<()> {
        if self.subprog_info[subprog].args_cached {
            return Ok(());
        }
        let (Some(info), Some(aux), Some(btf)) =
            (self.func_info.get(subprog), self.func_info_aux.get(subprog), self.prog.btf.as_deref())
        else {
            verbose!(self, "verifier bug: func_info undefined\n");
            return Err(Errno::EFAULT);
        };
        let query = FuncArgsQuery {
            btf,
            vmlinux: self.btf_vmlinux.as_deref(),
            type_id: info.type_id,
            subprog,
            linkage: aux.linkage.into(),
            unreliable: aux.unreliable,
            prog_type: resolve_prog_type(&self.prog),
            expected_attach_type: self.prog.expected_attach_type,
        };
        let found = btf_prepare_func_args(&query, &mut self.log)?;
        let info = &mut self.subprog_info[subprog];
        info.args = found.args;
        info.arg_cnt = found.arg_cnt;
        info.args_cached = true;
        Ok(())
    }

    /// Argument `i`, counted from zero, fits the prototype.
    fn check_subprog_arg(&mut self, i: usize, arg: &SubprogArg) -> Result<()> {
        let regno = BPF_REG_1 + i as u8;
        let reg = *self.cur_reg(regno);
        let arg_type = arg.arg_type;
        if arg_type == ArgType::ARG_ANYTHING {
            if reg.type_ != RegType::SCALAR_VALUE {
                verbose!(self, "R{regno} is not a scalar\n");
                return Err(Errno::EINVAL);
            }
            return Ok(());
        }
        // Untrusted arguments are read with faults handled: anything may be passed.
        if arg_type.has(flag::PTR_UNTRUSTED) {
            return Ok(());
        }
        match arg_type.base() {
            ArgType::ARG_PTR_TO_CTX if arg_type.flags() == 0 => {
                self.check_func_arg_reg_off(&reg, regno, ArgType::ARG_DONTCARE)?;
                if reg.type_ != RegType::PTR_TO_CTX {
                    verbose!(self, "arg#{i} expects pointer to ctx\n");
                    return Err(Errno::EINVAL);
                }
            }
            ArgType::ARG_PTR_TO_MEM => {
                self.check_func_arg_reg_off(&reg, regno, ArgType::ARG_DONTCARE)?;
                if let Err(err) = self.check_mem_reg(regno, arg.mem_size_or_btf_id) {
                    return Err(if self.not_emulated.is_some() { err } else { Errno::EINVAL });
                }
                if !arg_type.may_be_null() && reg.type_.may_be_null() {
                    verbose!(self, "arg#{i} is expected to be non-NULL\n");
                    return Err(Errno::EINVAL);
                }
            }
            ArgType::ARG_PTR_TO_ARENA => {
                if reg.type_ != RegType::PTR_TO_ARENA && reg.type_ != RegType::SCALAR_VALUE {
                    verbose!(self, "R{regno} is not a pointer to arena or scalar.\n");
                    return Err(Errno::EINVAL);
                }
            }
            ArgType::ARG_PTR_TO_DYNPTR if arg_type.flags() == flag::MEM_RDONLY => {
                self.check_func_arg_reg_off(&reg, regno, ArgType::ARG_PTR_TO_DYNPTR)?;
                self.process_dynptr_func(&reg, regno, arg_type)?;
            }
            ArgType::ARG_PTR_TO_BTF_ID => {
                if reg.is_null() && arg_type.may_be_null() {
                    return Ok(());
                }
                let btf_id = BtfTypeRef::Id(arg.mem_size_or_btf_id);
                self.check_reg_type(regno, arg_type, Some(btf_id), &CallArgMeta::default())?;
                self.check_func_arg_reg_off(&reg, regno, arg_type)?;
            }
            _ => {
                verbose!(self, "verifier bug: unrecognized arg#{i} type {}\n", arg_type.0 as i32);
                return Err(Errno::EFAULT);
            }
        }
        Ok(())
    }

    /// `subprog_is_global`
    pub fn subprog_is_global(&self, subprog: usize) -> bool {
        self.func_info_aux.get(subprog).is_some_and(|aux| u32::from(aux.linkage) == BTF_FUNC_GLOBAL)
    }

    /// `subprog_name`: empty without BTF.
    pub fn subprog_name(&self, subprog: usize) -> String {
        let name = || {
            let btf = self.prog.btf.as_deref()?;
            let t = btf.type_by_id(self.func_info.get(subprog)?.type_id)?;
            Some(btf.type_name(&t).into_owned())
        };
        name().unwrap_or_default()
    }
}
