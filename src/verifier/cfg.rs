//! The control flow graph: `check_cfg` finds unreachable instructions, marks where states are kept and which subprograms
//! change packets or sleep; `compute_postorder` orders the instructions for data-flow analyses.
//!
//! Nodes are instructions, edges go to the instructions that may run next. For `check_cfg` a call has an edge to
//! its callee as well, for everything after it, calls just fall through.

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Errno, HelperId};

use super::{Result, Verifier};
use crate::helpers;
use crate::verbose;

/// `bpf_jmp_offset`: distance of a jump, in instructions, less one.
#[inline]
pub const fn bpf_jmp_offset(insn: Insn) -> i32 {
    if insn.code == BPF_JMP32 | BPF_JA { insn.imm } else { insn.off as i32 }
}

/// `bpf_insn_successors`: instructions that can run after `idx` in the same function, and their number.
#[inline]
pub fn bpf_insn_successors(insns: &[Insn], idx: u32) -> ([u32; 2], usize) {
    let Some(&insn) = insns.get(idx as usize) else { return ([0; 2], 0) };
    let (can_jump, can_fallthrough) = match insn.class() {
        BPF_JMP | BPF_JMP32 => match insn.op() {
            BPF_EXIT => (false, false),
            BPF_JA => (true, false),
            BPF_CALL | 0xf0 => (false, true),
            _ => (true, true),
        },
        _ => (false, true),
    };
    let mut successors = [0; 2];
    let mut count = 0;
    if can_fallthrough {
        successors[count] = idx + if insn.is_ldimm64() { 2 } else { 1 };
        count += 1;
    }
    if can_jump {
        successors[count] = idx.wrapping_add_signed(bpf_jmp_offset(insn)).wrapping_add(1);
        count += 1;
    }
    (successors, count)
}

/// An instruction in post-order, with what [`bpf_insn_successors`] says of it.
#[derive(Clone, Copy)]
pub struct Postordered {
    pub idx: u32,
    successors: [u32; 2],
    count: u32,
}

impl Postordered {
    #[inline]
    pub fn successors(&self) -> &[u32] {
        &self.successors[..self.count as usize]
    }
}

/// `is_may_goto_insn`
#[inline]
pub const fn is_may_goto_insn(insn: Insn) -> bool {
    insn.code == BPF_JMP | BPF_JCOND && insn.src_reg() == BPF_MAY_GOTO
}

/// Helper that a call instruction names, where it names one that exists.
#[inline]
pub fn called_helper(insn: Insn) -> Option<HelperId> {
    if !insn.is_helper_call() {
        return None;
    }
    u32::try_from(insn.imm).ok().and_then(HelperId::from_u32)
}

/// `is_sync_callback_calling_insn`, of helper calls.
pub fn is_sync_callback_calling_insn(insn: Insn) -> bool {
    called_helper(insn).is_some_and(helpers::is_sync_callback_calling_function)
}

/// `is_async_callback_calling_insn`, of helper calls.
pub fn is_async_callback_calling_insn(insn: Insn) -> bool {
    called_helper(insn).is_some_and(helpers::is_async_callback_calling_function)
}

/// How far the depth-first search is with an instruction: zero, or `DISCOVERED` with the edges taken, or `EXPLORED`.
type Mark = u8;
const DISCOVERED: Mark = 0x10;
const EXPLORED: Mark = 0x20;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Edge {
    Fallthrough = 1,
    Branch = 2,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Visit {
    Done,
    KeepExploring,
}

/// The depth-first search of `check_cfg`.
struct Search {
    marks: Vec<Mark>,
    stack: Vec<u32>,
}

impl Verifier {
    /// Non-recursive depth-first search over the whole program. Instructions must be reachable; without
    /// `CAP_BPF` there must be no loops.
    pub fn check_cfg(&mut self) -> Result<()> {
        let insn_cnt = self.prog.insns.len();
        let mut search = Search { marks: vec![0; insn_cnt], stack: Vec::with_capacity(insn_cnt) };
        self.walk_cfg(&mut search, 0)?;
        let exception_callback = self.exception_callback_subprog;
        if exception_callback != 0 {
            let start = self.subprog_info[exception_callback].start;
            if search.marks[start as usize] != EXPLORED {
                self.walk_cfg(&mut search, start)?;
            }
        }
        self.check_all_explored(&search.marks)?;
        self.prog.changes_pkt_data = self.subprog_info[0].changes_pkt_data;
        self.prog.might_sleep = self.subprog_info[0].might_sleep;
        Ok(())
    }

    fn walk_cfg(&mut self, search: &mut Search, start: u32) -> Result<()> {
        search.marks[start as usize] = DISCOVERED;
        search.stack.push(start);
        while let Some(&t) = search.stack.last() {
            if self.visit_insn(search, t)? == Visit::Done {
                search.marks[t as usize] = EXPLORED;
                search.stack.pop();
            }
        }
        Ok(())
    }

    fn check_all_explored(&mut self, marks: &[Mark]) -> Result<()> {
        let mut i = 0;
        while i < marks.len() {
            if marks[i] != EXPLORED {
                verbose!(self, "unreachable insn {i}\n");
                return Err(Errno::EINVAL);
            }
            if self.prog.insns[i].is_ldimm64() {
                if marks.get(i + 1).is_some_and(|&mark| mark != 0) {
                    verbose!(self, "jump into the middle of ldimm64 insn {i}\n");
                    return Err(Errno::EINVAL);
                }
                i += 1;
            }
            i += 1;
        }
        Ok(())
    }

    /// Takes the next edge of instruction `t`.
    fn visit_insn(&mut self, search: &mut Search, t: u32) -> Result<Visit> {
        let insn = self.prog.insns[t as usize];
        if insn.is_pseudo_func() {
            return self.visit_func_call_insn(search, t, true);
        }
        if !matches!(insn.class(), BPF_JMP | BPF_JMP32) {
            let size = if insn.is_ldimm64() { 2 } else { 1 };
            return self.push_insn(search, t, i64::from(t) + size, Edge::Fallthrough);
        }
        match insn.op() {
            BPF_EXIT => Ok(Visit::Done),
            BPF_CALL => {
                self.mark_call(t, insn);
                self.visit_func_call_insn(search, t, insn.src_reg() == BPF_PSEUDO_CALL)
            }
            BPF_JA => {
                if insn.src() != BPF_K {
                    return Err(Errno::EINVAL);
                }
                let off = if insn.class() == BPF_JMP { i32::from(insn.off) } else { insn.imm };
                let target = i64::from(t) + i64::from(off) + 1;
                let visit = self.push_insn(search, t, target, Edge::Fallthrough)?;
                if visit == Visit::Done {
                    self.mark_prune_point(target as u32);
                    self.mark_jmp_point(target as u32);
                }
                Ok(visit)
            }
            _ => {
                self.mark_prune_point(t);
                if is_may_goto_insn(insn) {
                    self.mark_force_checkpoint(t);
                }
                if self.push_insn(search, t, i64::from(t) + 1, Edge::Fallthrough)? == Visit::KeepExploring {
                    return Ok(Visit::KeepExploring);
                }
                self.push_insn(search, t, i64::from(t) + i64::from(insn.off) + 1, Edge::Branch)
            }
        }
    }

    /// What a call means for states kept at it, and for the subprogram that it stands in.
    fn mark_call(&mut self, t: u32, insn: Insn) {
        // Otherwise processing the call again would push the asynchronous state again.
        if is_async_callback_calling_insn(insn) {
            self.mark_prune_point(t);
        }
        // The callback is visited until a state repeats, so there must be states here to compare with.
        if is_sync_callback_calling_insn(insn) {
            self.insn_aux[t as usize].calls_callback = true;
            self.mark_force_checkpoint(t);
            self.mark_prune_point(t);
            self.mark_jmp_point(t);
        }
        if !insn.is_helper_call() {
            return;
        }
        if self.get_helper_proto(insn.imm).is_ok_and(|(_, proto)| proto.might_sleep) {
            self.subprog_at(t).might_sleep = true;
        }
        if called_helper(insn).is_some_and(helpers::bpf_helper_changes_pkt_data) {
            self.subprog_at(t).changes_pkt_data = true;
        }
    }

    fn visit_func_call_insn(&mut self, search: &mut Search, t: u32, visit_callee: bool) -> Result<Visit> {
        let insn = self.prog.insns[t as usize];
        let next = t + if insn.is_ldimm64() { 2 } else { 1 };
        if self.push_insn(search, t, i64::from(next), Edge::Fallthrough)? == Visit::KeepExploring {
            return Ok(Visit::KeepExploring);
        }
        self.mark_prune_point(next);
        // The exit of the callee leads here, which no straight line does.
        self.mark_jmp_point(next);
        if !visit_callee {
            return Ok(Visit::Done);
        }
        let callee = i64::from(t) + i64::from(insn.imm) + 1;
        self.mark_prune_point(t);
        self.merge_callee_effects(t, callee);
        self.push_insn(search, t, callee, Edge::Branch)
    }

    /// The last call of this for a call instruction comes when the callee is explored, so that its marks are final.
    fn merge_callee_effects(&mut self, t: u32, callee: i64) {
        let Some(w) = u32::try_from(callee).ok().filter(|&w| (w as usize) < self.prog.insns.len()) else {
            return;
        };
        let callee = self.subprog_at(w);
        let (changes_pkt_data, might_sleep) = (callee.changes_pkt_data, callee.might_sleep);
        let caller = self.subprog_at(t);
        caller.changes_pkt_data |= changes_pkt_data;
        caller.might_sleep |= might_sleep;
    }

    /// Follows the edge from `t` to `w`, unless that was done before.
    fn push_insn(&mut self, search: &mut Search, t: u32, w: i64, edge: Edge) -> Result<Visit> {
        if search.marks[t as usize] >= DISCOVERED | edge as Mark {
            return Ok(Visit::Done);
        }
        let Some(target) = u32::try_from(w).ok().filter(|&w| (w as usize) < search.marks.len()) else {
            self.verbose_linfo(t, format_args!("{t}: "));
            verbose!(self, "jump out of range from insn {t} to {w}\n");
            return Err(Errno::EINVAL);
        };
        if edge == Edge::Branch {
            self.mark_prune_point(target);
            self.mark_jmp_point(target);
        }
        match search.marks[target as usize] {
            0 => {
                search.marks[t as usize] = DISCOVERED | edge as Mark;
                search.marks[target as usize] = DISCOVERED;
                if search.stack.len() >= search.marks.len() {
                    return Err(Errno::E2BIG);
                }
                search.stack.push(target);
                Ok(Visit::KeepExploring)
            }
            EXPLORED => {
                search.marks[t as usize] = DISCOVERED | edge as Mark;
                Ok(Visit::Done)
            }
            _ => {
                if self.bpf_capable {
                    return Ok(Visit::Done);
                }
                self.verbose_linfo(t, format_args!("{t}: "));
                self.verbose_linfo(target, format_args!("{target}: "));
                verbose!(self, "back-edge from insn {t} to {target}\n");
                Err(Errno::EINVAL)
            }
        }
    }

    // Marks go to instructions of the program; the one behind its last is no instruction.

    fn mark_prune_point(&mut self, idx: u32) {
        if let Some(aux) = self.insn_aux.get_mut(idx as usize) {
            aux.prune_point = true;
        }
    }

    fn mark_jmp_point(&mut self, idx: u32) {
        if let Some(aux) = self.insn_aux.get_mut(idx as usize) {
            aux.jmp_point = true;
        }
    }

    fn mark_force_checkpoint(&mut self, idx: u32) {
        if let Some(aux) = self.insn_aux.get_mut(idx as usize) {
            aux.force_checkpoint = true;
        }
    }

    #[inline]
    pub fn is_prune_point(&self, insn_idx: u32) -> bool {
        self.insn_aux[insn_idx as usize].prune_point
    }

    #[inline]
    pub fn is_jmp_point(&self, insn_idx: u32) -> bool {
        self.insn_aux[insn_idx as usize].jmp_point
    }

    #[inline]
    pub fn is_force_checkpoint(&self, insn_idx: u32) -> bool {
        self.insn_aux[insn_idx as usize].force_checkpoint
    }

    #[inline]
    pub fn bpf_calls_callback(&self, insn_idx: u32) -> bool {
        self.insn_aux[insn_idx as usize].calls_callback
    }

    /// Fills [`insn_postorder`](Self::insn_postorder): the instructions of each subprogram, from its
    /// `postorder_start` on, in an order that has successors first, back-edges aside.
    pub fn compute_postorder(&mut self) -> Result<()> {
        let insns = &self.prog.insns;
        let mut postorder = Vec::with_capacity(insns.len());
        let mut marks: Vec<Mark> = vec![0; insns.len()];
        let mut stack = Vec::new();
        for subprog in &mut self.subprog_info[..self.subprog_cnt] {
            subprog.postorder_start = postorder.len() as u32;
            stack.push(subprog.start);
            while let Some(&top) = stack.last() {
                marks[top as usize] |= DISCOVERED;
                if marks[top as usize] & EXPLORED != 0 {
                    let (successors, count) = bpf_insn_successors(insns, top);
                    postorder.push(Postordered { idx: top, successors, count: count as u32 });
                    stack.pop();
                    continue;
                }
                let (successors, count) = bpf_insn_successors(insns, top);
                for &s in &successors[..count] {
                    if marks[s as usize] == 0 {
                        stack.push(s);
                        marks[s as usize] |= DISCOVERED;
                    }
                }
                marks[top as usize] |= EXPLORED;
            }
        }
        self.subprog_info[self.subprog_cnt].postorder_start = postorder.len() as u32;
        self.insn_postorder = postorder;
        Ok(())
    }

    /// Without function info nothing tells what a subprogram returns, which these instructions must know.
    pub fn check_abnormal_return(&mut self) -> Result<()> {
        for i in 1..self.subprog_cnt {
            if self.subprog_info[i].has_ld_abs {
                verbose!(self, "LD_ABS is not allowed in subprogs without BTF\n");
                return Err(Errno::EINVAL);
            }
            if self.subprog_info[i].has_tail_call {
                verbose!(self, "tail_call is not allowed in subprogs without BTF\n");
                return Err(Errno::EINVAL);
            }
        }
        Ok(())
    }
}
