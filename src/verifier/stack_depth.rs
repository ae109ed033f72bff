//! Stack that a chain of calls needs: `check_max_stack_depth`.

use bpftwin_uapi::insn::MAX_BPF_STACK;
use bpftwin_uapi::{Errno, ProgType};

use super::state::MAX_CALL_FRAMES;
use super::{Result, Verifier};
use crate::verbose;

/// Functions with less stack stay on the caller's: `BPF_PRIV_STACK_MIN_SIZE`.
const BPF_PRIV_STACK_MIN_SIZE: i32 = 64;

/// Where the stack of a function lives: `enum priv_stack_mode`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum PrivStackMode {
    #[default]
    Unknown,
    /// On the kernel stack.
    None,
    /// In memory of its own, which the JIT switches to.
    Adaptive,
}

/// What a walk from one entry point has found to fit the stack. A function walked at some depth and frame needs no
/// second walk at less of both: the number of call paths grows exponentially, that of what they find out does not.
struct Walked {
    /// Greatest depth that each function was called at in each frame, and all that it calls fit.
    depths: Vec<[i32; MAX_CALL_FRAMES]>,
}

impl Walked {
    fn new(subprog_cnt: usize) -> Self {
        Walked { depths: vec![[-1; MAX_CALL_FRAMES]; subprog_cnt] }
    }

    fn forget(&mut self) {
        self.depths.fill([-1; MAX_CALL_FRAMES]);
    }

    fn add(&mut self, idx: usize, frame: usize, depth: i32) {
        let known = &mut self.depths[idx][frame];
        *known = depth.max(*known);
    }

    fn covers(&self, idx: usize, frame: usize, depth: i32) -> bool {
        self.depths[idx].iter().skip(frame).any(|&known| known >= depth)
    }
}

impl Verifier {
    /// Every entry point's deepest chain of calls must fit the stack. Asynchronous callbacks are
    /// entry points.
    pub fn check_max_stack_depth(&mut self) -> Result<()> {
        let has_tail_call = self.subprog_info[..self.subprog_cnt].iter().any(|info| info.has_tail_call);
        let mode = if has_tail_call { PrivStackMode::None } else { self.bpf_enable_priv_stack() };
        // Asynchronous callbacks run on the kernel stack, and what they share with the main program does too. Going
        // backwards, that is known when the main program is looked at.
        for i in (0..self.subprog_cnt).rev() {
            if i == 0 || self.subprog_info[i].is_async_cb {
                self.check_max_stack_depth_subprog(i, i == 0 && mode == PrivStackMode::Adaptive)?;
            }
        }
        Ok(())
    }

    /// Whether programs of this type get a private stack, on an architecture whose JIT can (x86-64).
    fn bpf_enable_priv_stack(&self) -> PrivStackMode {
        if !self.prog.config.jit {
            return PrivStackMode::None;
        }
        match self.prog.prog_type {
            ProgType::Kprobe | ProgType::Tracepoint | ProgType::PerfEvent | ProgType::RawTracepoint => {
                PrivStackMode::Adaptive
            }
            // Iterators alone among tracing programs are not checked for recursion.
            ProgType::Tracing
                if self.prog.expected_attach_type != bpftwin_uapi::AttachType::TraceIter as u32 =>
            {
                PrivStackMode::Adaptive
            }
            _ => PrivStackMode::None,
        }
    }

    fn round_up_stack_depth(&self, depth: u16) -> i32 {
        if self.prog.config.jit {
            return depth.next_multiple_of(16).into();
        }
        // The interpreter's stacks come in these sizes.
        depth.max(1).next_multiple_of(32).into()
    }

    /// Walks the instructions of subprogram `entry`, and those of every callee at each of its call sites, as far as that
    /// can find out anything new.
    fn check_max_stack_depth_subprog(&mut self, entry: usize, priv_stack_supported: bool) -> Result<()> {
        // Instruction and subprogram to return to.
        let mut returns = [(0usize, 0usize); MAX_CALL_FRAMES];
        let mut frame = 0;
        let mut idx = entry;
        let mut i = self.subprog_info[entry].start as usize;
        let mut tail_call_reachable = false;
        let mut walked = Walked::new(self.subprog_cnt);
        // Whether a tail call had been seen when each frame was entered.
        let mut reachable_at_entry = [false; MAX_CALL_FRAMES];
        let mut depth = self.enter_subprog(idx, priv_stack_supported, 0, frame)?;
        loop {
            let Some((call, callee)) = self.next_callee(idx, i)? else {
                if tail_call_reachable {
                    self.mark_tail_call_reachable(&returns[..frame])?;
                }
                if self.subprog_info[0].tail_call_reachable {
                    self.prog.tail_call_reachable = true;
                }
                if frame == 0 {
                    return Ok(());
                }
                if self.subprog_info[idx].priv_stack_mode != PrivStackMode::Adaptive {
                    depth -= self.round_up_stack_depth(self.subprog_info[idx].stack_depth);
                }
                if reachable_at_entry[frame] == tail_call_reachable {
                    walked.add(idx, frame, depth);
                }
                frame -= 1;
                (i, idx) = returns[frame];
                continue;
            };
            returns[frame] = (call + 1, idx);
            if self.subprog_info[callee].has_tail_call && !tail_call_reachable {
                tail_call_reachable = true;
                // From here on, every function on the way to one that returns is marked.
                walked.forget();
            }
            if walked.covers(callee, frame + 1, depth) {
                if tail_call_reachable {
                    self.mark_tail_call_reachable(&returns[..=frame])?;
                }
                i = call + 1;
                continue;
            }
            idx = callee;
            i = self.subprog_info[callee].start as usize;
            if !priv_stack_supported {
                self.subprog_info[idx].priv_stack_mode = PrivStackMode::None;
            }
            frame += 1;
            if frame >= MAX_CALL_FRAMES {
                verbose!(self, "the call stack of {frame} frames is too deep !\n");
                return Err(Errno::E2BIG);
            }
            reachable_at_entry[frame] = tail_call_reachable;
            depth = self.enter_subprog(idx, priv_stack_supported, depth, frame)?;
        }
    }

    /// Adds the stack of subprogram `idx`, called in `frame`, to `depth`.
    fn enter_subprog(
        &mut self,
        idx: usize,
        priv_stack_supported: bool,
        depth: i32,
        frame: usize,
    ) -> Result<i32> {
        if !priv_stack_supported {
            self.subprog_info[idx].priv_stack_mode = PrivStackMode::None;
        }
        // A tail call leaves its caller's callers on the stack: with many in a row their stacks add up.
        if idx != 0 && self.subprog_info[idx].has_tail_call && depth >= 256 {
            verbose!(
                self,
                "tail_calls are not allowed when call stack of previous frames is {depth} bytes. Too large\n"
            );
            return Err(Errno::EACCES);
        }
        let subprog_depth = self.round_up_stack_depth(self.subprog_info[idx].stack_depth);
        let info = &mut self.subprog_info[idx];
        if priv_stack_supported
            && info.priv_stack_mode == PrivStackMode::Unknown
            && subprog_depth >= BPF_PRIV_STACK_MIN_SIZE
        {
            info.priv_stack_mode = PrivStackMode::Adaptive;
        }
        if info.priv_stack_mode == PrivStackMode::Adaptive {
            if subprog_depth > MAX_BPF_STACK {
                verbose!(self, "stack size of subprog {idx} is {subprog_depth}. Too large\n");
                return Err(Errno::EACCES);
            }
            return Ok(depth);
        }
        let depth = depth + subprog_depth;
        if depth > MAX_BPF_STACK {
            verbose!(self, "combined stack size of {} calls is {depth}. Too large\n", frame + 1);
            return Err(Errno::EACCES);
        }
        Ok(depth)
    }

    /// The next call of subprogram `idx` at or after instruction `i`, and the subprogram called.
    fn next_callee(&mut self, idx: usize, i: usize) -> Result<Option<(usize, usize)>> {
        let end = self.subprog_info[idx + 1].start as usize;
        for call in i..end {
            let insn = self.prog.insns[call];
            if !insn.is_pseudo_call() && !insn.is_pseudo_func() {
                continue;
            }
            let next_insn = call as i64 + i64::from(insn.imm) + 1;
            let Some(callee) = self.find_subprog(next_insn) else {
                verbose!(self, "verifier bug: callee not found at insn {next_insn} (sidx < 0)\n");
                return Err(Errno::EFAULT);
            };
            let info = &self.subprog_info[callee];
            if info.is_async_cb {
                if info.has_tail_call {
                    verbose!(self, "verifier bug: subprog has tail_call and async cb\n");
                    return Err(Errno::EFAULT);
                }
                // It runs on a stack of its own, unless it is called directly too.
                if !insn.is_pseudo_call() {
                    continue;
                }
                if info.is_exception_cb {
                    verbose!(self, "insn {call} cannot call exception cb directly");
                    return Err(Errno::EINVAL);
                }
            }
            return Ok(Some((call, callee)));
        }
        Ok(None)
    }

    fn mark_tail_call_reachable(&mut self, callers: &[(usize, usize)]) -> Result<()> {
        for &(_, caller) in callers {
            if self.subprog_info[caller].is_exception_cb {
                verbose!(self, "cannot tail call within exception cb\n");
                return Err(Errno::EINVAL);
            }
            self.subprog_info[caller].tail_call_reachable = true;
        }
        Ok(())
    }
}
