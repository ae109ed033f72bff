//! Precision tracking: which scalars matter by their exact value.
//!
//! Scalars start out imprecise, and imprecise scalars are all alike when states are compared. Where a value decides about
//! safety (pointer arithmetic, a branch, a size argument), the walk goes back along the instructions that led here, over the
//! jump history of each checkpoint, and marks every register and stack slot that the value came from as precise in
//! the checkpoints it passes. Marks in the state that is not checkpointed yet do not matter. Mirrors
//! `kernel/bpf/backtrack.c`.

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Errno, HelperId};

use super::cfg::is_sync_callback_calling_insn;
use super::liveness::{FmtRegMask, FmtStackMask};
use super::log::BPF_LOG_LEVEL2;
use super::reg_type::RegType;
use super::state::{
    BPF_MAIN_FUNC, JmpHistoryEntry, MAX_CALL_FRAMES, RegState, StateId, VerifierState, insn_flag,
};
use super::state_tree::StateRef;
use super::{Result, Verifier};
use crate::verbose;

/// `BPF_REGMASK_ARGS`: R1 to R5.
const BPF_REGMASK_ARGS: u32 = 0x3e;

/// Registers and slots whose origin is being looked for: `struct backtrack_state`.
#[derive(Default, Clone, Debug)]
pub struct BacktrackState {
    frame: usize,
    reg_masks: [u32; MAX_CALL_FRAMES],
    stack_masks: [u64; MAX_CALL_FRAMES],
}

impl BacktrackState {
    pub fn reset(&mut self) {
        *self = Self::default();
    }

    /// Begins in frame `frame`, where the registers of `reg_mask` are wanted; slots that were before still are.
    pub fn begin(&mut self, frame: usize, reg_mask: u32) {
        self.frame = frame;
        self.reg_masks[frame] = reg_mask;
    }

    pub fn is_empty(&self) -> bool {
        (0..=self.frame).all(|i| self.reg_masks[i] == 0 && self.stack_masks[i] == 0)
    }

    pub fn set_frame_reg(&mut self, frame: usize, reg: u8) {
        self.reg_masks[frame] |= 1 << reg;
    }

    pub fn set_frame_slot(&mut self, frame: usize, spi: usize) {
        self.stack_masks[frame] |= 1 << spi;
    }

    fn set_reg(&mut self, reg: u8) {
        self.set_frame_reg(self.frame, reg);
    }

    fn clear_reg(&mut self, reg: u8) {
        self.reg_masks[self.frame] &= !(1 << reg);
    }

    fn is_reg_set(&self, reg: u8) -> bool {
        self.reg_masks[self.frame] >> reg & 1 != 0
    }

    fn reg_mask(&self) -> u32 {
        self.reg_masks[self.frame]
    }

    fn stack_mask(&self) -> u64 {
        self.stack_masks[self.frame]
    }

    /// `bt_sync_linked_regs`: where one of the linked registers is wanted, all are.
    fn sync_linked_regs(&mut self, hist: Option<JmpHistoryEntry>) {
        let Some(hist) = hist.filter(|hist| hist.linked_regs != 0) else { return };
        let linked = LinkedRegs::unpack(hist.linked_regs);
        let is_set = |e: &LinkedReg| {
            if e.is_reg {
                self.reg_masks[e.frameno as usize] >> e.spi_or_reg & 1 != 0
            } else {
                self.stack_masks[e.frameno as usize] >> e.spi_or_reg & 1 != 0
            }
        };
        if !linked.entries().iter().any(is_set) {
            return;
        }
        linked.entries().iter().for_each(|e| self.set_linked_reg(e));
    }

    fn set_linked_reg(&mut self, e: &LinkedReg) {
        if e.is_reg {
            self.set_frame_reg(e.frameno as usize, e.spi_or_reg);
        } else {
            self.set_frame_slot(e.frameno as usize, e.spi_or_reg as usize);
        }
    }
}

/// A register or spilled slot that shares its scalar id with others: `struct linked_reg`.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct LinkedReg {
    pub frameno: u8,
    /// Slot index or register number, see `is_reg`.
    pub spi_or_reg: u8,
    pub is_reg: bool,
}

impl LinkedReg {
    /// The register in `st`, which has it.
    pub fn reg_mut(self, st: &mut VerifierState) -> &mut RegState {
        let (frame, i) = (&mut st.frames[self.frameno as usize], self.spi_or_reg as usize);
        if self.is_reg { &mut frame.regs[i] } else { &mut frame.stack[i].spilled_ptr }
    }
}

/// The most registers that one jump can record as linked: `LINKED_REGS_MAX`.
pub const LINKED_REGS_MAX: usize = 6;

/// Registers linked at one jump: `struct linked_regs`.
#[derive(Clone, Copy, Default, Debug, PartialEq, Eq)]
pub struct LinkedRegs {
    cnt: usize,
    entries: [LinkedReg; LINKED_REGS_MAX],
}

impl LinkedRegs {
    pub fn entries(&self) -> &[LinkedReg] {
        &self.entries[..self.cnt]
    }

    pub fn len(&self) -> usize {
        self.cnt
    }

    pub fn is_empty(&self) -> bool {
        self.cnt == 0
    }

    /// Appends; false where there is no room left.
    pub fn push(&mut self, reg: LinkedReg) -> bool {
        if self.cnt == LINKED_REGS_MAX {
            return false;
        }
        self.entries[self.cnt] = reg;
        self.cnt += 1;
        true
    }

    pub fn clear(&mut self) {
        self.cnt = 0;
    }

    /// Packs ten bits an entry, the first in the highest, above a four-bit count.
    pub fn pack(&self) -> u64 {
        let packed = self.entries().iter().fold(0u64, |acc, e| {
            acc << 10 | e.frameno as u64 | (e.spi_or_reg as u64) << 3 | (e.is_reg as u64) << 9
        });
        packed << 4 | self.cnt as u64
    }

    /// Entries come out in the reverse of the order in which they were pushed.
    fn unpack(mut packed: u64) -> Self {
        let mut regs = Self { cnt: (packed as usize & 0xf).min(LINKED_REGS_MAX), ..Self::default() };
        packed >>= 4;
        for e in &mut regs.entries[..regs.cnt] {
            *e = LinkedReg {
                frameno: (packed & 7) as u8,
                spi_or_reg: (packed >> 3 & 0x3f) as u8,
                is_reg: packed >> 9 & 1 != 0,
            };
            packed >>= 10;
        }
        regs
    }
}

/// The history entry of `insn_idx`, where it is the last of the first `hist_end`: `get_jmp_hist_entry`.
pub fn get_jmp_hist_entry(st: &VerifierState, hist_end: usize, insn_idx: u32) -> Option<JmpHistoryEntry> {
    let entry = *st.jmp_history.get(hist_end.checked_sub(1)?)?;
    (entry.idx == insn_idx).then_some(entry)
}

/// The instruction that ran before `i` on the way to this state; none where the state begins: `get_prev_insn_idx`.
///
/// `history` counts the entries not consumed yet.
pub fn get_prev_insn_idx(st: &VerifierState, i: u32, history: &mut usize) -> Option<u32> {
    let cnt = *history;
    if i == st.first_insn_idx && (cnt == 0 || cnt == 1 && st.jmp_history[0].idx == i) {
        return None;
    }
    if cnt > 0 && st.jmp_history[cnt - 1].idx == i {
        *history -= 1;
        return Some(st.jmp_history[cnt - 1].prev_idx);
    }
    Some(i.wrapping_sub(1))
}

/// How the origin of a value cannot be followed further.
pub enum Backtrack {
    Continue,
    /// The kernel's `ENOTSUPP`: mark everything.
    GiveUp,
}

impl Verifier {
    /// `mark_chain_precision`: register `regno` of the current frame, a scalar, is needed precisely.
    pub fn mark_chain_precision(&mut self, regno: u8) -> Result<()> {
        self.mark_chain_precision_from(StateRef::Cur, Some(regno), &mut false)
    }

    /// `mark_chain_precision_batch`: as [`Self::mark_chain_precision`] for what is set in `self.bt`.
    pub fn mark_chain_precision_batch(&mut self) -> Result<()> {
        self.mark_chain_precision_from(StateRef::Cur, None, &mut false)
    }

    /// `__mark_chain_precision`: backtracks from `start` for what `self.bt` and `regno` ask for. `changed` is set
    /// where a mark is new.
    pub fn mark_chain_precision_from(
        &mut self,
        start: StateRef,
        regno: Option<u8>,
        changed: &mut bool,
    ) -> Result<()> {
        if !self.bpf_capable || self.tracking {
            return Ok(());
        }
        let st = self.state(start);
        let curframe = st.curframe();
        let last_idx = st.insn_idx as i64;
        if let Some(regno) = regno
            && st.frames[curframe].regs[regno as usize].type_ != RegType::SCALAR_VALUE
        {
            verbose!(self, "verifier bug: backtracking misuse\n");
            return Err(Errno::EFAULT);
        }
        self.bt.frame = curframe;
        if let Some(regno) = regno {
            self.bt.set_reg(regno);
        }
        self.mark_chain(start, last_idx, -1, changed)
    }

    /// Marks what `self.bt` asks for, in the checkpoints from `start` backwards. `last_idx` is the last instruction of the path to
    /// `start`, behind which `subseq_idx` follows; where nothing does (-1), it is the one about to run.
    fn mark_chain(
        &mut self,
        start: StateRef,
        mut last_idx: i64,
        mut subseq_idx: i64,
        changed: &mut bool,
    ) -> Result<()> {
        if self.bt.is_empty() {
            return Ok(());
        }
        let mut first_idx = self.state(start).first_insn_idx;
        let mut st_ref = start;
        let mut skip_first = subseq_idx < 0;
        loop {
            if self.log.level & BPF_LOG_LEVEL2 != 0 {
                verbose!(
                    self,
                    "mark_precise: frame{}: last_idx {last_idx} first_idx {first_idx} subseq_idx {subseq_idx} \n",
                    self.bt.frame
                );
            }
            if last_idx < 0 {
                return self.backtrack_func_entry(st_ref, changed);
            }
            let mut history = self.state(st_ref).jmp_history.len();
            let mut i = last_idx as u32;
            loop {
                if skip_first {
                    skip_first = false;
                } else {
                    let hist = get_jmp_hist_entry(self.state(st_ref), history, i);
                    if let Backtrack::GiveUp = self.backtrack_insn(i, subseq_idx, hist)? {
                        self.mark_all_scalars_precise(start);
                        self.bt.reset();
                        return Ok(());
                    }
                }
                if self.bt.is_empty() {
                    return Ok(());
                }
                subseq_idx = i as i64;
                match get_prev_insn_idx(self.state(st_ref), i, &mut history) {
                    None => break,
                    Some(prev) => i = prev,
                }
                if i as usize >= self.prog.insns.len() {
                    verbose!(self, "verifier bug: backtracking idx {}\n", i as i32);
                    return Err(Errno::EFAULT);
                }
            }
            let Some(parent) = self.state(st_ref).parent else { break };
            st_ref = StateRef::Cached(parent);
            self.mark_wanted_precise(st_ref, changed)?;
            if self.bt.is_empty() {
                return Ok(());
            }
            let st = self.state(st_ref);
            subseq_idx = first_idx as i64;
            last_idx = st.last_insn_idx as i32 as i64;
            first_idx = st.first_insn_idx;
        }
        if !self.bt.is_empty() {
            self.mark_all_scalars_precise(start);
            self.bt.reset();
        }
        Ok(())
    }

    /// The scalars `regs` of the checkpoint `id` are needed precisely.
    pub fn mark_regs_precise(&mut self, id: StateId, regs: &[LinkedReg]) -> Result<()> {
        self.bt.reset();
        for e in regs {
            let reg = e.reg_mut(&mut self.states[id].state);
            if !reg.precise {
                reg.precise = true;
                self.bt.set_linked_reg(e);
            }
        }
        let st = &self.states[id].state;
        self.bt.frame = st.curframe();
        let (last_idx, subseq_idx) = (st.last_insn_idx as i32 as i64, st.insn_idx as i64);
        let marked = self.mark_chain(StateRef::Cached(id), last_idx, subseq_idx, &mut false);
        self.bt.reset();
        marked
    }

    /// The walk reached the entry of a function that is verified on its own: only its arguments may be wanted.
    fn backtrack_func_entry(&mut self, st_ref: StateRef, changed: &mut bool) -> Result<()> {
        let (reg_mask, stack_mask) = (self.bt.reg_mask(), self.bt.stack_mask());
        let st = self.state(st_ref);
        let subprogno = st.frames[0].subprogno;
        let is_entry = st.frames.len() == 1 && subprogno > 0 && st.frames[0].callsite == BPF_MAIN_FUNC;
        if !is_entry || stack_mask != 0 || reg_mask & !BPF_REGMASK_ARGS != 0 {
            verbose!(
                self,
                "verifier bug: backtracking func entry subprog {subprogno} reg_mask {reg_mask:x} stack_mask {stack_mask:x}\n"
            );
            return Err(Errno::EFAULT);
        }
        self.bt.reg_masks[self.bt.frame] = 0;
        let frame = &mut self.state_mut(st_ref).frames[0];
        for (i, reg) in frame.regs.iter_mut().enumerate() {
            if reg_mask >> i & 1 != 0 && reg.type_ == RegType::SCALAR_VALUE {
                reg.precise = true;
                *changed = true;
            }
        }
        Ok(())
    }

    /// Marks what is wanted in a checkpoint; what is marked already, or no scalar, is wanted no longer.
    fn mark_wanted_precise(&mut self, st_ref: StateRef, changed: &mut bool) -> Result<()> {
        let StateRef::Cached(id) = st_ref else { return Ok(()) };
        for fr in (0..=self.bt.frame).rev() {
            let func = &mut self.states[id].state.frames[fr];
            let reg_mask = self.bt.reg_masks[fr];
            for i in (0..32).filter(|i| reg_mask >> i & 1 != 0) {
                let reg = &mut func.regs[i];
                if reg.type_ != RegType::SCALAR_VALUE || reg.precise {
                    self.bt.reg_masks[fr] &= !(1 << i);
                } else {
                    reg.precise = true;
                    *changed = true;
                }
            }
            let mut stack_mask = self.bt.stack_masks[fr];
            while stack_mask != 0 {
                let i = stack_mask.trailing_zeros() as usize;
                stack_mask &= stack_mask - 1;
                let total = func.stack.len();
                let Some(slot) = func.stack.get_mut(i) else {
                    verbose!(
                        self,
                        "verifier bug: stack slot {i}, total slots {total} (i >= func->allocated_stack / BPF_REG_SIZE)\n"
                    );
                    return Err(Errno::EFAULT);
                };
                if !slot.is_spilled_scalar_reg() || slot.spilled_ptr.precise {
                    self.bt.stack_masks[fr] &= !(1 << i);
                } else {
                    slot.spilled_ptr.precise = true;
                    *changed = true;
                }
            }
            if self.log.level & BPF_LOG_LEVEL2 != 0 {
                verbose!(
                    self,
                    "mark_precise: frame{fr}: parent state regs={} stack={}: ",
                    FmtRegMask(self.bt.reg_masks[fr]),
                    FmtStackMask(self.bt.stack_masks[fr])
                );
                self.print_state_ref(st_ref, fr);
            }
        }
        Ok(())
    }

    /// `backtrack_insn`: what is wanted before instruction `idx`, given what is wanted behind it. `subseq_idx` is the
    /// instruction that ran next.
    // Called for each instruction that is walked back over; the compiler leaves it apart otherwise.
    #[inline(always)]
    pub fn backtrack_insn(
        &mut self,
        idx: u32,
        subseq_idx: i64,
        hist: Option<JmpHistoryEntry>,
    ) -> Result<Backtrack> {
        let insn = self.prog.insns[idx as usize];
        let (dreg, sreg) = (insn.dst_reg(), insn.src_reg());
        if insn.code == 0 {
            return Ok(Backtrack::Continue);
        }
        if self.log.level & BPF_LOG_LEVEL2 != 0 {
            verbose!(
                self,
                "mark_precise: frame{}: regs={} stack={} before {idx}: ",
                self.bt.frame,
                FmtRegMask(self.bt.reg_mask()),
                FmtStackMask(self.bt.stack_mask())
            );
            self.verbose_insn(idx);
        }
        let bt = &mut self.bt;
        bt.sync_linked_regs(hist);

        match insn.class() {
            BPF_ALU | BPF_ALU64 => {
                if !bt.is_reg_set(dreg) || matches!(insn.op(), BPF_END | BPF_NEG) {
                    return Ok(Backtrack::Continue);
                }
                if insn.op() == BPF_MOV {
                    bt.clear_reg(dreg);
                }
                if insn.src() == BPF_X && sreg != BPF_REG_FP {
                    bt.set_reg(sreg);
                }
            }
            BPF_LDX => return Ok(self.backtrack_load(dreg, hist)),
            BPF_STX if insn.mode() == BPF_ATOMIC && insn.imm == BPF_LOAD_ACQ => {
                return Ok(self.backtrack_load(dreg, hist));
            }
            BPF_STX | BPF_ST => {
                if bt.is_reg_set(dreg) {
                    // A scalar is stored through: pointers were subtracted on the way.
                    return Ok(Backtrack::GiveUp);
                }
                let Some((frame, spi)) = stack_access(hist) else { return Ok(Backtrack::Continue) };
                if bt.stack_masks[frame] >> spi & 1 == 0 {
                    return Ok(Backtrack::Continue);
                }
                bt.stack_masks[frame] &= !(1 << spi);
                if insn.class() == BPF_STX {
                    bt.set_reg(sreg);
                }
            }
            BPF_JMP | BPF_JMP32 => {
                if insn.is_pseudo_call() {
                    return self.backtrack_call(idx, subseq_idx, insn.imm);
                } else if is_sync_callback_calling_insn(insn) && idx as i64 != subseq_idx - 1 {
                    return self.backtrack_callback_exit();
                } else if insn.op() == BPF_CALL {
                    return self.backtrack_helper_call(idx, subseq_idx, hist);
                } else if insn.op() == BPF_EXIT {
                    return self.backtrack_exit(subseq_idx);
                } else if insn.src() == BPF_X {
                    let bt = &mut self.bt;
                    if !bt.is_reg_set(dreg) && !bt.is_reg_set(sreg) {
                        return Ok(Backtrack::Continue);
                    }
                    let flags = hist.map_or(0, |hist| hist.flags);
                    if flags & insn_flag::SRC_REG_STACK == 0 {
                        bt.set_reg(sreg);
                    }
                    if flags & insn_flag::DST_REG_STACK == 0 {
                        bt.set_reg(dreg);
                    }
                }
            }
            _ => {
                if !bt.is_reg_set(dreg) {
                    return Ok(Backtrack::Continue);
                }
                bt.clear_reg(dreg);
                if matches!(insn.mode(), BPF_IND | BPF_ABS) {
                    return Ok(Backtrack::GiveUp);
                }
            }
        }
        self.bt.sync_linked_regs(hist);
        Ok(Backtrack::Continue)
    }

    /// A load into a wanted register: from the stack, the slot is wanted; from elsewhere the search ends.
    fn backtrack_load(&mut self, dreg: u8, hist: Option<JmpHistoryEntry>) -> Backtrack {
        let bt = &mut self.bt;
        if !bt.is_reg_set(dreg) {
            return Backtrack::Continue;
        }
        bt.clear_reg(dreg);
        if let Some((frame, spi)) = stack_access(hist) {
            bt.set_frame_slot(frame, spi);
            bt.sync_linked_regs(hist);
        }
        Backtrack::Continue
    }

    fn backtrack_call(&mut self, idx: u32, subseq_idx: i64, imm: i32) -> Result<Backtrack> {
        let target = (idx as i32).wrapping_add(imm).wrapping_add(1);
        let subprog = self.find_subprog(target).ok_or(Errno::EFAULT)?;
        let reg_mask = self.bt.reg_mask();
        if self.subprog_is_global(subprog) {
            if idx as i64 + 1 != subseq_idx {
                verbose!(self, "verifier bug: extra insn from subprog (idx + 1 != subseq_idx)\n");
            }
            if reg_mask & BPF_REGMASK_ARGS != 0 {
                verbose!(self, "verifier bug: global subprog unexpected regs {reg_mask:x}\n");
                return Err(Errno::EFAULT);
            }
            self.bt.clear_reg(BPF_REG_0);
            return Ok(Backtrack::Continue);
        }
        // The walk leaves the callee through its entry: only arguments may be wanted still.
        if reg_mask & !BPF_REGMASK_ARGS != 0 {
            verbose!(self, "verifier bug: static subprog unexpected regs {reg_mask:x}\n");
            return Err(Errno::EFAULT);
        }
        let stack_mask = self.bt.stack_mask();
        if stack_mask != 0 {
            verbose!(self, "verifier bug: static subprog leftover stack slots {stack_mask:x}\n");
            return Err(Errno::EFAULT);
        }
        self.bt.reg_masks[self.bt.frame] = 0;
        self.backtrack_subprog_exit()?;
        self.bt.reg_masks[self.bt.frame] |= reg_mask;
        Ok(Backtrack::Continue)
    }

    fn backtrack_callback_exit(&mut self) -> Result<Backtrack> {
        let reg_mask = self.bt.reg_mask();
        if reg_mask & !BPF_REGMASK_ARGS != 0 {
            verbose!(self, "verifier bug: callback unexpected regs {reg_mask:x}\n");
            return Err(Errno::EFAULT);
        }
        let stack_mask = self.bt.stack_mask();
        if stack_mask != 0 {
            verbose!(self, "verifier bug: callback leftover stack slots {stack_mask:x}\n");
            return Err(Errno::EFAULT);
        }
        // A callback's arguments do not come from the registers of the call.
        self.bt.reg_masks[self.bt.frame] = 0;
        self.backtrack_subprog_exit()?;
        Ok(Backtrack::Continue)
    }

    fn backtrack_helper_call(
        &mut self,
        idx: u32,
        subseq_idx: i64,
        hist: Option<JmpHistoryEntry>,
    ) -> Result<Backtrack> {
        let insn = self.prog.insns[idx as usize];
        if insn.src_reg() == BPF_PSEUDO_KFUNC_CALL && insn.imm == 0 {
            return Ok(Backtrack::GiveUp);
        }
        self.bt.clear_reg(BPF_REG_0);
        let reg_mask = self.bt.reg_mask();
        if reg_mask & BPF_REGMASK_ARGS != 0 {
            verbose!(self, "verifier bug: backtracking call unexpected regs {reg_mask:x}\n");
            return Err(Errno::EFAULT);
        }
        if insn.src_reg() == 0 && insn.imm == HelperId::TailCall as i32 && subseq_idx - idx as i64 != 1 {
            self.backtrack_subprog_enter()?;
        }
        self.bt.sync_linked_regs(hist);
        Ok(Backtrack::Continue)
    }

    /// The walk enters a callee, or a callback, from behind.
    fn backtrack_exit(&mut self, subseq_idx: i64) -> Result<Backtrack> {
        if subseq_idx >= 0 && self.bpf_calls_callback(subseq_idx as u32) {
            self.bt.reg_masks[self.bt.frame] &= !BPF_REGMASK_ARGS;
        }
        let reg_mask = self.bt.reg_mask();
        if reg_mask & BPF_REGMASK_ARGS != 0 {
            verbose!(self, "verifier bug: backtracking exit unexpected regs {reg_mask:x}\n");
            return Err(Errno::EFAULT);
        }
        // R0 is the callee's, unless this is the exit of a callback.
        let r0_precise = subseq_idx > 0
            && self.prog.insns[subseq_idx as usize - 1].is_pseudo_call()
            && self.bt.is_reg_set(BPF_REG_0);
        self.bt.clear_reg(BPF_REG_0);
        self.backtrack_subprog_enter()?;
        if r0_precise {
            self.bt.set_reg(BPF_REG_0);
        }
        Ok(Backtrack::Continue)
    }

    fn backtrack_subprog_enter(&mut self) -> Result<()> {
        if self.bt.frame == MAX_CALL_FRAMES - 1 {
            verbose!(self, "verifier bug: subprog enter from frame {}\n", self.bt.frame);
            return Err(Errno::EFAULT);
        }
        self.bt.frame += 1;
        Ok(())
    }

    fn backtrack_subprog_exit(&mut self) -> Result<()> {
        if self.bt.frame == 0 {
            verbose!(self, "verifier bug: subprog exit from frame 0\n");
            return Err(Errno::EFAULT);
        }
        self.bt.frame -= 1;
        Ok(())
    }

    /// `mark_all_scalars_precise`: in every checkpoint that led to `start`.
    pub fn mark_all_scalars_precise(&mut self, start: StateRef) {
        let level2 = self.log.level & BPF_LOG_LEVEL2 != 0;
        if level2 {
            let curframe = self.state(start).curframe();
            verbose!(self, "mark_precise: frame{curframe}: falling back to forcing all scalars precise\n");
        }
        let mut next = self.state(start).parent;
        while let Some(id) = next {
            let st = &mut self.states[id].state;
            next = st.parent;
            for (fr, func) in st.frames.iter_mut().enumerate() {
                for (i, reg) in func.regs[..BPF_REG_FP as usize].iter_mut().enumerate() {
                    if reg.type_ == RegType::SCALAR_VALUE && !reg.precise {
                        reg.precise = true;
                        if level2 {
                            verbose!(self, "force_precise: frame{fr}: forcing r{i} to be precise\n");
                        }
                    }
                }
                for (i, slot) in func.stack.iter_mut().enumerate() {
                    if slot.is_spilled_scalar_reg() && !slot.spilled_ptr.precise {
                        slot.spilled_ptr.precise = true;
                        if level2 {
                            verbose!(
                                self,
                                "force_precise: frame{fr}: forcing fp-{} to be precise\n",
                                (i + 1) * 8
                            );
                        }
                    }
                }
            }
        }
    }

    /// `push_jmp_history`: records the current instruction in the current state, with flags and linked registers.
    pub fn push_jmp_history(&mut self, insn_flags: u32, linked_regs: u64) -> Result<()> {
        if self.tracking {
            return Ok(());
        }
        if let Some(pos) = self.cur_hist_ent {
            let entry = &mut self.cur_state.jmp_history[pos];
            let (flags, linked) = (entry.flags, entry.linked_regs);
            entry.flags |= insn_flags;
            entry.linked_regs = linked_regs;
            if flags & insn_flags != 0 && flags & insn_flags != insn_flags {
                verbose!(
                    self,
                    "verifier bug: insn history: insn_idx {} cur flags {flags:x} new flags {insn_flags:x}\n",
                    self.insn_idx
                );
            }
            if linked != 0 {
                verbose!(
                    self,
                    "verifier bug: insn history: insn_idx {} linked_regs: {linked:#x}\n",
                    self.insn_idx
                );
            }
            return Ok(());
        }
        self.cur_hist_ent = Some(self.cur_state.jmp_history.len());
        self.cur_state.jmp_history.push(JmpHistoryEntry {
            idx: self.insn_idx,
            prev_idx: self.prev_insn_idx,
            flags: insn_flags,
            linked_regs,
        });
        Ok(())
    }
}

/// `mark_all_scalars_imprecise`: before a state becomes a checkpoint, inherited marks are forgotten.
pub fn mark_all_scalars_imprecise(st: &mut VerifierState) {
    for func in &mut st.frames {
        for reg in &mut func.regs[..BPF_REG_FP as usize] {
            if reg.type_ == RegType::SCALAR_VALUE {
                reg.precise = false;
            }
        }
        for slot in &mut func.stack {
            if slot.is_spilled_scalar_reg() {
                slot.spilled_ptr.precise = false;
            }
        }
    }
}

/// Frame and slot that the instruction of a history entry accessed through a stack pointer.
fn stack_access(hist: Option<JmpHistoryEntry>) -> Option<(usize, usize)> {
    let flags = hist?.flags;
    (flags & insn_flag::STACK_ACCESS != 0).then_some((
        (flags & insn_flag::FRAMENO_MASK) as usize,
        (flags >> insn_flag::SPI_SHIFT & insn_flag::SPI_MASK) as usize,
    ))
}

/// `insn_stack_access_flags`: history flags of an access to slot `spi` of frame `frameno`.
pub fn insn_stack_access_flags(frameno: usize, spi: usize) -> u32 {
    insn_flag::STACK_ACCESS | (spi as u32) << insn_flag::SPI_SHIFT | frameno as u32
}
