//! What the symbolic run notes of each instruction: expressions of registers, and conditions of branches.
//!
//! A register gets a variable when it is first read, with its bounds as conditions; known bits are not exported. Constants
//! become expressions only where they meet something that is not constant. A pointer's expression is the variable part of its offset.

use bpftwin_uapi::Errno;
use bpftwin_uapi::bcf::*;
use bpftwin_uapi::insn::*;

use super::exprs::width;
use super::{Bcf, Expr};
use crate::verifier::refine::rev_opcode;
use crate::verifier::reg_type::RegType;
use crate::verifier::state::RegState;
use crate::verifier::{Result, Verifier};

/// Conditions that one conjunction holds.
const MAX_CONDS: usize = u8::MAX as usize;

/// An operand of an arithmetic instruction.
pub enum Operand {
    /// A register of the current frame, which keeps the expression that it gets.
    Reg(u8),
    Value(RegState),
}

/// Whether an operation can be carried out on 32 bits: what its operands and its result have in common.
#[derive(Clone, Copy)]
pub struct Fit {
    u32: bool,
    s32: bool,
}

impl Fit {
    pub fn of(reg: &RegState) -> Self {
        Self { u32: fit_u32(reg), s32: fit_s32(reg) }
    }

    pub fn and(self, other: Self) -> Self {
        Self { u32: self.u32 && other.u32, s32: self.s32 && other.s32 }
    }

    /// Shifts to the right bring in bits that 32 bits do not tell: the lower half's sign must be the value's.
    fn for_op(self, op: u8) -> Self {
        match op {
            BPF_RSH => Self { s32: false, ..self },
            BPF_ARSH => Self { u32: self.u32 && self.s32, ..self },
            _ => self,
        }
    }
}

/// The value is that of its lower half, zero-extended.
fn fit_u32(reg: &RegState) -> bool {
    reg.umin_value == u64::from(reg.u32_min_value) && reg.umax_value == u64::from(reg.u32_max_value)
}

/// The value is that of its lower half, sign-extended.
pub(super) fn fit_s32(reg: &RegState) -> bool {
    reg.smin_value == i64::from(reg.s32_min_value) && reg.smax_value == i64::from(reg.s32_max_value)
}

impl Bcf {
    /// `bcf_add_cond`: `E2BIG` where there are too many.
    fn add_cond(&mut self, cond: Expr) -> Result<()> {
        if self.br_conds.len() >= MAX_CONDS {
            return Err(Errno::E2BIG);
        }
        self.br_conds.push(cond);
        if self.options.explain {
            self.notes.cond(cond);
        }
        Ok(())
    }

    fn bound(&mut self, op: u8, expr: Expr, imm: u64, bit32: bool) -> Result<()> {
        let cond = self.exprs.pred(op, expr, imm, bit32);
        self.add_cond(cond)
    }

    /// `bcf_bound_reg32`
    fn bound_reg32(&mut self, expr: Expr, reg: &RegState) -> Result<()> {
        let (umin, umax) = (reg.u32_min_value, reg.u32_max_value);
        let (smin, smax) = (reg.s32_min_value, reg.s32_max_value);
        if umin != 0 {
            self.bound(BPF_JGE, expr, umin.into(), true)?;
        }
        if umax != u32::MAX {
            self.bound(BPF_JLE, expr, umax.into(), true)?;
        }
        if smin != i32::MIN && smin as u32 != umin {
            self.bound(BPF_JSGE, expr, smin as u64, true)?;
        }
        if smax != i32::MAX && smax as u32 != umax {
            self.bound(BPF_JSLE, expr, smax as u64, true)?;
        }
        Ok(())
    }

    /// `bcf_bound_reg`
    fn bound_reg64(&mut self, expr: Expr, reg: &RegState) -> Result<()> {
        let (umin, umax) = (reg.umin_value, reg.umax_value);
        let (smin, smax) = (reg.smin_value, reg.smax_value);
        if umin != 0 {
            self.bound(BPF_JGE, expr, umin, false)?;
        }
        if umax != u64::MAX {
            self.bound(BPF_JLE, expr, umax, false)?;
        }
        if smin != i64::MIN && smin as u64 != umin {
            self.bound(BPF_JSGE, expr, smin as u64, false)?;
        }
        if smax != i64::MAX && smax as u64 != umax {
            self.bound(BPF_JSLE, expr, smax as u64, false)?;
        }
        Ok(())
    }

    /// `bcf_reg_expr`: the register's expression, made now if it has none; of its lower half with `bit32`. `E2BIG` where
    /// its bounds are too many; the register then has the bare variable.
    pub fn reg_expr(&mut self, reg: &mut RegState, bit32: bool) -> Result<Expr> {
        let expr = match reg.bcf_expr {
            Some(expr) => expr,
            None => self.new_reg_expr(reg)?,
        };
        Ok(if bit32 { self.exprs.low32(expr) } else { expr })
    }

    fn new_reg_expr(&mut self, reg: &mut RegState) -> Result<Expr> {
        if reg.is_const() {
            self.inherited.rely_on_value(reg);
            return Ok(*reg.bcf_expr.insert(self.exprs.constant(reg.var_off.value, false)));
        }
        self.inherited.rely_on_bounds(reg);
        let (zext, sext) = (fit_u32(reg), fit_s32(reg));
        let var = self.exprs.var(zext || sext);
        reg.bcf_expr = Some(var);
        let expr = if zext {
            self.bound_reg32(var, reg)?;
            self.exprs.zext_32_to_64(var)
        } else if sext {
            self.bound_reg32(var, reg)?;
            self.exprs.sext_32_to_64(var)
        } else {
            self.bound_reg64(var, reg)?;
            var
        };
        Ok(*reg.bcf_expr.insert(expr))
    }

    /// `bcf_mov`: the low `size` bits of `src`, which `dst` got, extended to 64 bits; with `bit32` and `signed`, to 32 and then with
    /// zeros.
    pub fn mov(
        &mut self,
        dst: &RegState,
        src: &mut RegState,
        size: u16,
        bit32: bool,
        signed: bool,
    ) -> Result<Option<Expr>> {
        if dst.is_const() {
            return Ok(None);
        }
        let mut expr = self.reg_expr(src, bit32 || size == 32)?;
        if size != 32 {
            expr = self.exprs.extract(size, expr);
        }
        let bits = if bit32 && signed { 32 } else { 64 };
        expr = self.exprs.extend(bits - size, bits, signed, expr);
        if bits == 32 {
            expr = self.exprs.zext_32_to_64(expr);
        }
        Ok(Some(expr))
    }

    /// The operation `op` on two expressions, or on one for a negation.
    fn operation(&mut self, op: u8, bit32: bool, dst: Expr, src: Option<Expr>) -> Expr {
        let args = [dst, src.unwrap_or(dst)];
        let count = 1 + usize::from(src.is_some());
        self.exprs.node(BCF_BV | op, width(bit32), args[..count].iter().copied())
    }

    /// An equality with a constant that an earlier branch has ruled out, or the other way round: nothing takes this path. Tells
    /// whether it is the very same expression.
    fn contradicts(&self, cond: Expr) -> Option<bool> {
        let (code, lhs, rhs) = self.exprs.comparison(cond)?;
        let opposite = match code {
            BCF_BOOL_EQ => BCF_BOOL_DISTINCT,
            BCF_BOOL_DISTINCT => BCF_BOOL_EQ,
            _ => return None,
        };
        let value = self.exprs.value_of(rhs)?;
        let opposed = self.br_conds.iter().filter_map(|&earlier| {
            let (code, earlier_lhs, earlier_rhs) = self.exprs.comparison(earlier)?;
            let opposed = code == opposite
                && self.exprs.value_of(earlier_rhs) == Some(value)
                && self.same_value(earlier_lhs, lhs);
            opposed.then_some(earlier_lhs == lhs)
        });
        opposed.max()
    }

    /// The expressions are equal because they are made of the same words. Two variables are two values, which the published kernel
    /// does not know.
    fn same_value(&self, a: Expr, b: Expr) -> bool {
        let words = self.exprs.words_of(a);
        a == b || words == self.exprs.words_of(b) && (words.len() > 1 || !self.options.auto)
    }
}

// What the walk calls while it tracks is kept out of its functions.
impl Verifier {
    /// A register that is read gets an expression, unless it is constant.
    #[cold]
    pub(in crate::verifier) fn bcf_bind_reg(&mut self, regno: u8) -> Result<()> {
        let frame = self.cur_state.curframe();
        let reg = &mut self.cur_state.cur_func_mut().regs[regno as usize];
        let Some(bcf) = self.bcf.as_mut().filter(|_| !reg.is_const()) else { return Ok(()) };
        let first = bcf.exprs.len();
        let is_new = reg.bcf_expr.is_none();
        let bound = bcf.reg_expr(reg, false);
        // As published, a variable whose bounds no longer fit has none, and is not extended either.
        if bcf.options.auto {
            bound?;
        }
        if is_new && bcf.options.explain {
            bcf.notes.var(first as u32, frame, regno, !fit_u32(reg));
        }
        Ok(())
    }

    /// [`Bcf::mov`] between registers of the current frame.
    #[cold]
    pub(in crate::verifier) fn bcf_mov(
        &mut self,
        dst: u8,
        src: u8,
        size: u16,
        bit32: bool,
        signed: bool,
    ) -> Result<()> {
        let Some(bcf) = &mut self.bcf else { return Ok(()) };
        let regs = &mut self.cur_state.cur_func_mut().regs;
        let dst_reg = regs[dst as usize];
        let expr = bcf.mov(&dst_reg, &mut regs[src as usize], size, bit32, signed)?;
        regs[dst as usize].bcf_expr = expr;
        Ok(())
    }

    /// The expression of the low `size` bits of register `regno`, as a narrow spill keeps it.
    #[cold]
    pub(in crate::verifier) fn bcf_part(&mut self, regno: u8, size: u16) -> Result<Option<Expr>> {
        let Some(bcf) = &mut self.bcf else { return Ok(None) };
        let reg = &mut self.cur_state.cur_func_mut().regs[regno as usize];
        let dst = *reg;
        bcf.mov(&dst, reg, size, false, false)
    }

    /// The expression of register `regno`, for an operation that will change it.
    #[cold]
    pub(in crate::verifier) fn bcf_operand(&mut self, regno: u8) -> Result<Option<Expr>> {
        let Some(bcf) = &mut self.bcf else { return Ok(None) };
        let reg = &mut self.cur_state.cur_func_mut().regs[regno as usize];
        bcf.reg_expr(reg, false).map(Some)
    }

    /// What [`Self::bcf_scalar_result`] needs of register `dst`, which an operation with `src` is about to change.
    #[cold]
    pub(in crate::verifier) fn bcf_scalar_operands(
        &mut self,
        dst: u8,
        src: &RegState,
    ) -> Result<Option<(Option<Expr>, Fit)>> {
        let reg = *self.cur_reg(dst);
        let expr = if reg.is_const() && src.is_const() {
            // The result keeps the place of one operand alone.
            if let Some(bcf) = &mut self.bcf {
                bcf.inherited.rely_on_value(src);
            }
            reg.bcf_expr
        } else {
            self.bcf_operand(dst)?
        };
        Ok(Some((expr, Fit::of(&reg).and(Fit::of(src)))))
    }

    /// The result of an operation on scalars: its expression.
    #[cold]
    pub(in crate::verifier) fn bcf_scalar_result(
        &mut self,
        dst: u8,
        (expr, fit): (Option<Expr>, Fit),
        src: &RegState,
        op: u8,
        alu32: bool,
    ) -> Result<()> {
        let reg = self.cur_reg_mut(dst);
        // Byte swaps have no operation: their result is a value of its own.
        reg.bcf_expr = expr.filter(|_| op != BPF_END);
        if op == BPF_END {
            return Ok(());
        }
        let fit = fit.and(Fit::of(reg));
        self.bcf_alu(dst, Operand::Value(*src), op, alu32, fit)
    }

    /// `bcf_alu`: register `dst` became the result of `op`; its expression is still that of the operand. `fit` is what operands and
    /// result have in common.
    #[cold]
    pub(in crate::verifier) fn bcf_alu(
        &mut self,
        dst: u8,
        src: Operand,
        op: u8,
        alu32: bool,
        fit: Fit,
    ) -> Result<()> {
        let Some(bcf) = &mut self.bcf else { return Ok(()) };
        let regs = &mut self.cur_state.cur_func_mut().regs;
        if regs[dst as usize].is_const() {
            regs[dst as usize].bcf_expr = None;
            return Ok(());
        }
        let fit = if bcf.options.auto { fit.for_op(op) } else { fit };
        let bit32 = alu32 || fit.u32 || fit.s32;
        let dst_expr = bcf.reg_expr(&mut regs[dst as usize], bit32)?;
        let src_expr = match src {
            _ if op == BPF_NEG => None,
            Operand::Reg(regno) => Some(bcf.reg_expr(&mut regs[regno as usize], bit32)?),
            Operand::Value(mut reg) => Some(bcf.reg_expr(&mut reg, bit32)?),
        };
        let mut expr = bcf.operation(op, bit32, dst_expr, src_expr);
        if alu32 || fit.u32 {
            expr = bcf.exprs.zext_32_to_64(expr);
        } else if fit.s32 {
            expr = bcf.exprs.sext_32_to_64(expr);
        }
        regs[dst as usize].bcf_expr = Some(expr);
        Ok(())
    }

    /// `record_path_cond`: where the instruction before was a conditional jump of scalars, what it says of the way it went. False
    /// where it contradicts an earlier one.
    pub(super) fn record_path_cond(&mut self) -> Result<bool> {
        let Some(&insn) = self.prog.insns.get(self.prev_insn_idx as usize) else { return Ok(true) };
        let jmp32 = insn.class() == BPF_JMP32;
        if !jmp32 && insn.class() != BPF_JMP
            || matches!(insn.op(), BPF_CALL | BPF_EXIT | BPF_JA | BPF_JCOND)
            || insn.off == 0
        {
            return Ok(true);
        }
        let Some(bcf) = &mut self.bcf else { return Ok(true) };
        let regs = &mut self.cur_state.cur_func_mut().regs;
        let mut imm = RegState { type_: RegType::SCALAR_VALUE, ..RegState::ZERO };
        imm.mark_known(insn.imm as i64 as u64);
        let (dst, src) = (insn.dst_reg() as usize, insn.src_reg() as usize);
        let src_reg = if insn.src() == BPF_K { &imm } else { &regs[src] };
        if regs[dst].type_ != RegType::SCALAR_VALUE || src_reg.type_ != RegType::SCALAR_VALUE {
            return Ok(true);
        }
        let dst_expr = bcf.reg_expr(&mut regs[dst], jmp32)?;
        let src_reg = if insn.src() == BPF_K { &mut imm } else { &mut regs[src] };
        let src_expr = bcf.reg_expr(src_reg, jmp32)?;

        let fell_through = self.prev_insn_idx + 1 == self.insn_idx;
        let cond = if insn.op() == BPF_JSET {
            let and = bcf.exprs.binary(BCF_BV_AND, width(jmp32), dst_expr, src_expr);
            let zero = bcf.exprs.constant(0, jmp32);
            let code = if fell_through { BCF_BOOL_EQ } else { BCF_BOOL_DISTINCT };
            bcf.exprs.binary(code, 0, and, zero)
        } else {
            let op = if fell_through { rev_opcode(insn.op()) } else { insn.op() };
            bcf.exprs.binary(BCF_BOOL | op, 0, dst_expr, src_expr)
        };
        // As published, tests of bits contradict nothing.
        let may_contradict = insn.op() != BPF_JSET || bcf.options.auto;
        if may_contradict
            && !bcf.options.explain
            && let Some(same_expr) = bcf.contradicts(cond)
        {
            bcf.same_expr = same_expr;
            return Ok(false);
        }
        bcf.add_cond(cond)?;
        Ok(true)
    }
}
