//! Returns from functions and callbacks: `prepare_func_exit`.

use bpftwin_uapi::Errno;
use bpftwin_uapi::insn::BPF_REG_0;

use super::log::BPF_LOG_LEVEL;
use super::reg_type::RegType;
use super::return_code::retval_range_within;
use super::state::{RegState, RetvalRange};
use super::state_tree::StateRef;
use super::{Result, Verifier};
use crate::verbose;

impl Verifier {
    /// `prepare_func_exit`: the current frame returns, and `insn_idx` moves to where its caller goes on.
    pub fn prepare_func_exit(&mut self, insn_idx: &mut u32) -> Result<()> {
        self.bpf_update_live_stack()?;
        let r0 = *self.cur_reg(BPF_REG_0);
        if r0.type_ == RegType::PTR_TO_STACK {
            verbose!(self, "cannot return stack pointer to the caller\n");
            return Err(Errno::EINVAL);
        }
        let callee_frame = self.cur_state.curframe();
        let Some(caller_frame) = callee_frame.checked_sub(1) else { return Err(Errno::EFAULT) };
        let callee = self.cur_state.cur_func();
        let callsite = callee.callsite as u32;
        let in_callback_fn = callee.in_callback_fn;
        if in_callback_fn {
            let range = callee.callback_ret_range;
            self.check_callback_return(&r0, range, callsite, *insn_idx)?;
        } else {
            self.cur_state.frames[caller_frame].regs[BPF_REG_0 as usize] = r0;
        }
        // A callback returns to the call of its helper, which then decides about another visit.
        *insn_idx = if in_callback_fn { callsite } else { callsite.wrapping_add(1) };
        if self.log.level & BPF_LOG_LEVEL != 0 {
            verbose!(self, "returning from callee:\n");
            self.print_cur_state(callee_frame, true);
            verbose!(self, "to caller at {}:\n", *insn_idx as i32);
            self.print_cur_state(caller_frame, true);
        }
        self.cur_state.frames.pop();

        // The kernel forgets here what imprecise scalars hold, so that visits of the callback converge.
        if in_callback_fn {
            self.bcf_stray();
        }
        if in_callback_fn && let Some(prev) = self.find_prev_entry(StateRef::Cur, *insn_idx) {
            self.widen_cur_state(prev);
        }
        Ok(())
    }

    fn check_callback_return(
        &mut self,
        r0: &RegState,
        range: RetvalRange,
        callsite: u32,
        insn_idx: u32,
    ) -> Result<()> {
        if r0.type_ != RegType::SCALAR_VALUE {
            verbose!(self, "R0 not a scalar value\n");
            return Err(Errno::EACCES);
        }
        self.mark_chain_precision(BPF_REG_0)?;
        if !retval_range_within(range, r0) {
            self.verbose_invalid_scalar(r0, range, "At callback return", "R0");
            return Err(Errno::EINVAL);
        }
        if !self.insn_aux[callsite as usize].calls_callback {
            verbose!(self, "verifier bug: in callback at {insn_idx}, callsite {callsite} !calls_callback\n");
            return Err(Errno::EFAULT);
        }
        Ok(())
    }
}
