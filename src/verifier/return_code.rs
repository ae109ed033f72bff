//! The value that a program returns: `check_return_code`.

use bpftwin_uapi::Errno;

use super::print_state::reg_type_str;
use super::reg_arg::RegArgType;
use super::reg_type::RegType;
use super::state::{RegState, RetvalRange};
use super::tnum::Tnum;
use super::{Result, Verifier};
use crate::progs::{ReturnRange, return_range};
use crate::verbose;

/// `retval_range_within`
pub fn retval_range_within(range: RetvalRange, reg: &RegState) -> bool {
    i64::from(range.minval) <= reg.smin_value && reg.smax_value <= i64::from(range.maxval)
}

impl Verifier {
    /// `verbose_invalid_scalar`
    pub fn verbose_invalid_scalar(&mut self, reg: &RegState, range: RetvalRange, ctx: &str, reg_name: &str) {
        verbose!(self, "{ctx} the register {reg_name} has");
        if reg.smin_value > i64::MIN {
            verbose!(self, " smin={}", reg.smin_value);
        }
        if reg.smax_value < i64::MAX {
            verbose!(self, " smax={}", reg.smax_value);
        }
        if reg.smin_value == i64::MIN && reg.smax_value == i64::MAX {
            verbose!(self, " unknown scalar value");
        }
        verbose!(self, " should have been in [{}, {}]\n", range.minval, range.maxval);
    }

    /// `check_return_code`: register `regno` holds what the program (or an asynchronous callback) may return.
    pub fn check_return_code(&mut self, regno: u8, reg_name: &str) -> Result<()> {
        let frame = &self.cur_state.frames[0];
        let in_async_callback_fn = frame.in_async_callback_fn;
        let callback_ret_range = frame.callback_ret_range;
        let is_subprog = frame.subprogno != 0;
        let in_exception_callback_fn = frame.in_exception_callback_fn;

        self.check_reg_arg(regno, RegArgType::SrcOp)?;
        if self.is_pointer_value(regno) {
            verbose!(self, "R{regno} leaks addr as return value\n");
            return Err(Errno::EACCES);
        }
        if in_async_callback_fn {
            return self.enforce_retval(
                regno,
                reg_name,
                callback_ret_range,
                "At async callback return",
                Tnum::UNKNOWN,
            );
        }
        if is_subprog && !in_exception_callback_fn {
            let type_ = self.cur_reg(regno).type_;
            if type_ != RegType::SCALAR_VALUE {
                verbose!(
                    self,
                    "At subprogram exit the register R{regno} is not a scalar value ({})\n",
                    reg_type_str(type_)
                );
                return Err(Errno::EINVAL);
            }
            return Ok(());
        }
        let (minval, maxval, enforce) = match return_range(&self.prog) {
            ReturnRange::Any => return Ok(()),
            ReturnRange::Unsupported => return Err(Errno::ENOTSUPP),
            ReturnRange::AttachFunction => return self.not_emulated("return values of attach functions"),
            ReturnRange::Within(min, max) => (min, max, Tnum::UNKNOWN),
            ReturnRange::WithinEnforcing { min, max, enforce_min, enforce_max } => {
                (min, max, Tnum::range(enforce_min, enforce_max))
            }
        };
        self.enforce_retval(regno, reg_name, RetvalRange { minval, maxval }, "At program exit", enforce)
    }

    /// `enforce`: a value certain to be in this set ties the program to its attach type.
    fn enforce_retval(
        &mut self,
        regno: u8,
        reg_name: &str,
        range: RetvalRange,
        exit_ctx: &str,
        enforce: Tnum,
    ) -> Result<()> {
        let reg = *self.cur_reg(regno);
        if reg.type_ != RegType::SCALAR_VALUE {
            verbose!(
                self,
                "{exit_ctx} the register R{regno} is not a known value ({})\n",
                reg_type_str(reg.type_)
            );
            return Err(Errno::EINVAL);
        }
        self.mark_chain_precision(regno)?;
        if !retval_range_within(range, &reg) {
            self.verbose_invalid_scalar(&reg, range, exit_ctx, reg_name);
            return Err(Errno::EINVAL);
        }
        if !enforce.is_unknown() && enforce.contains(reg.var_off) {
            self.prog.enforce_expected_attach_type = true;
        }
        Ok(())
    }
}
