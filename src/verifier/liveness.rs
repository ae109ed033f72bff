//! Live stack slots: which slots of which frame may still be read.
//!
//! As the walk visits instructions it records, for each pair of call chain and instruction, the slots that may be read
//! there (`may_read`, a growing union) and the slots that are always written there (`must_write`, a shrinking
//! intersection). From these a backward data-flow analysis computes, for each call chain `cc` and instruction `i`
//! with successors `s`:
//!
//! ```text
//! live_after[i]     = U live_before[s]
//! live_before[i]    = (live_after[i] \ must_write[i]) U may_read[i]
//! must_write_acc[i] = (intersection of must_write_acc[s]) U must_write[i]
//! ```
//!
//! What holds at the entry of a subprogram is transferred to the call instruction in its caller's call chain. The walk
//! asks only about states all of whose paths are explored, for which every mark is in place. Mirrors
//! `kernel/bpf/liveness.c`.

use std::fmt;

use rustc_hash::FxHashMap;

use super::cfg::Postordered;
use super::log::{BPF_LOG_LEVEL2, Log};
use super::state::{MAX_CALL_FRAMES, VerifierState};
use super::{Result, Verifier};

/// Call instructions that lead to a function, and the function's own start.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
struct Callchain {
    /// Call sites of the outer frames, then the start of the innermost function; zero behind.
    callsites: [u32; MAX_CALL_FRAMES],
    curframe: u32,
}

/// Marks of one instruction for the stack of one frame, a bit a slot.
#[derive(Clone, Copy, Default)]
struct FrameMasks {
    may_read: u64,
    must_write: u64,
    must_write_acc: u64,
    live_before: u64,
}

/// A function reached through one call chain: `struct func_instance`.
struct FuncInstance {
    callchain: Callchain,
    /// Starts of the functions on the chain, outermost first.
    sp_starts: [u32; MAX_CALL_FRAMES],
    insn_cnt: u32,
    /// Marks changed since the last propagation.
    updated: bool,
    /// A `must_write` set shrank since the last propagation.
    must_write_dropped: bool,
    /// Per frame of the chain, per instruction; allocated when a frame is first touched.
    frames: [Option<Box<[FrameMasks]>>; MAX_CALL_FRAMES],
    /// Instructions whose `must_write` has been initialised.
    must_write_set: Box<[bool]>,
}

impl FuncInstance {
    fn start(&self) -> u32 {
        self.sp_starts[self.callchain.curframe as usize]
    }

    fn masks(&self, frame: usize, insn_idx: u32) -> Option<&FrameMasks> {
        self.frames[frame].as_ref().map(|masks| &masks[(insn_idx - self.start()) as usize])
    }

    fn masks_mut(&mut self, frame: usize, insn_idx: u32) -> &mut FrameMasks {
        let idx = (insn_idx - self.start()) as usize;
        let insn_cnt = self.insn_cnt as usize;
        let masks = self.frames[frame]
            .get_or_insert_with(|| vec![FrameMasks::default(); insn_cnt].into_boxed_slice());
        &mut masks[idx]
    }

    fn mark_read(&mut self, frame: usize, insn_idx: u32, mask: u64) {
        let masks = self.masks_mut(frame, insn_idx);
        let may_read = masks.may_read | mask;
        let news = may_read != masks.may_read && may_read | masks.live_before != masks.live_before;
        masks.may_read = may_read;
        self.updated |= news;
    }

    fn live_before(&self, insn_idx: u32, frame: usize) -> u64 {
        self.masks(frame, insn_idx).map_or(0, |masks| masks.live_before)
    }
}

/// The analysis of one verification: `struct bpf_liveness`.
#[derive(Default)]
pub struct Liveness {
    instances: Vec<FuncInstance>,
    by_callchain: FxHashMap<Callchain, u32>,
    /// Instance of the current state, looked up when first needed.
    cur_instance: Option<u32>,
    /// Slots that the current instruction writes, submitted when it is done.
    write_masks: [u64; MAX_CALL_FRAMES],
    write_insn_idx: u32,
    /// Instances of the frames of the state that is asked about.
    query: [u32; MAX_CALL_FRAMES],
    query_curframe: usize,
    query_insn_idx: u32,
}

impl Liveness {
    fn commit_write_marks(&mut self, instance: u32) {
        let instance = &mut self.instances[instance as usize];
        let insn_idx = self.write_insn_idx;
        let idx = (insn_idx - instance.start()) as usize;
        let seen = instance.must_write_set[idx];
        for frame in 0..=instance.callchain.curframe as usize {
            let mut mask = self.write_masks[frame];
            if mask == 0 && !seen {
                continue;
            }
            let masks = instance.masks_mut(frame, insn_idx);
            // The kernel keeps 32 slots of the old set here: `commit_stack_write_marks` declares it too narrow.
            let old = masks.must_write & u64::from(u32::MAX);
            if seen {
                mask &= old;
            }
            if old != mask {
                masks.must_write = mask;
                instance.updated = true;
            }
            instance.must_write_dropped |= old & !mask != 0;
        }
        instance.must_write_set[idx] = true;
        self.write_insn_idx = 0;
    }
}

impl Verifier {
    fn compute_callchain(&self, st: &VerifierState, frame: usize) -> (Callchain, [u32; MAX_CALL_FRAMES]) {
        let mut chain = Callchain { curframe: frame as u32, ..Callchain::default() };
        let mut sp_starts = [0; MAX_CALL_FRAMES];
        for (start, outer) in sp_starts.iter_mut().zip(&st.frames[..=frame]) {
            *start = self.subprog_info[outer.subprogno as usize].start;
        }
        for (callsite, inner) in chain.callsites.iter_mut().zip(&st.frames[1..=frame]) {
            *callsite = inner.callsite as u32;
        }
        chain.callsites[frame] = sp_starts[frame];
        (chain, sp_starts)
    }

    fn lookup_callchain(&mut self, chain: Callchain, sp_starts: &[u32; MAX_CALL_FRAMES]) -> u32 {
        if let Some(&instance) = self.liveness.by_callchain.get(&chain) {
            return instance;
        }
        let start = sp_starts[chain.curframe as usize];
        let subprog = self.bpf_find_containing_subprog(start);
        let insn_cnt = self.subprog_info[subprog + 1].start - self.subprog_info[subprog].start;
        let instance = self.liveness.instances.len() as u32;
        self.liveness.instances.push(FuncInstance {
            callchain: chain,
            sp_starts: *sp_starts,
            insn_cnt,
            updated: false,
            must_write_dropped: false,
            frames: Default::default(),
            must_write_set: vec![false; insn_cnt as usize].into_boxed_slice(),
        });
        self.liveness.by_callchain.insert(chain, instance);
        instance
    }

    fn lookup_instance(&mut self, st: &VerifierState, frame: usize) -> u32 {
        let (chain, sp_starts) = self.compute_callchain(st, frame);
        self.lookup_callchain(chain, &sp_starts)
    }

    fn lookup_cur_instance(&mut self, frame: usize) -> u32 {
        let (chain, sp_starts) = self.compute_callchain(&self.cur_state, frame);
        self.lookup_callchain(chain, &sp_starts)
    }

    fn ensure_cur_instance(&mut self) -> u32 {
        match self.liveness.cur_instance {
            Some(instance) => instance,
            None => {
                let instance = self.lookup_cur_instance(self.cur_state.curframe());
                self.liveness.cur_instance = Some(instance);
                instance
            }
        }
    }

    /// The current call chain changes: the cached instance is stale.
    #[inline]
    pub fn bpf_reset_live_stack_callchain(&mut self) {
        if self.tracking {
            return;
        }
        self.liveness.cur_instance = None;
    }

    /// Instruction `insn_idx` may read the slots in `mask` of frame `frameno`.
    pub fn bpf_mark_stack_read(&mut self, frameno: usize, insn_idx: u32, mask: u64) -> Result<()> {
        if self.tracking {
            return Ok(());
        }
        let instance = self.ensure_cur_instance();
        self.liveness.instances[instance as usize].mark_read(frameno, insn_idx, mask);
        Ok(())
    }

    /// Starts to collect the writes of `insn_idx`.
    #[inline]
    pub fn bpf_reset_stack_write_marks(&mut self, insn_idx: u32) {
        if self.tracking {
            return;
        }
        self.ensure_cur_instance();
        self.liveness.write_insn_idx = insn_idx;
        self.liveness.write_masks = [0; MAX_CALL_FRAMES];
    }

    /// The instruction under way writes the slots in `mask` of frame `frameno`.
    #[inline]
    pub fn bpf_mark_stack_write(&mut self, frameno: usize, mask: u64) {
        if self.tracking {
            return;
        }
        self.liveness.write_masks[frameno] |= mask;
    }

    /// Submits the collected writes.
    #[inline]
    pub fn bpf_commit_stack_write_marks(&mut self) {
        if self.tracking {
            return;
        }
        if let Some(instance) = self.liveness.cur_instance {
            self.liveness.commit_write_marks(instance);
        }
    }

    /// Computes the fixed point for one instance and hands its result to the caller's.
    fn update_instance(&mut self, instance: u32) {
        let inst = &mut self.liveness.instances[instance as usize];
        let chain = inst.callchain;
        let curframe = chain.curframe as usize;
        if inst.must_write_dropped {
            for masks in inst.frames.iter_mut().flatten() {
                for insn in masks.iter_mut() {
                    insn.must_write_acc = 0;
                }
            }
        }
        let subprog = self.bpf_find_containing_subprog(self.liveness.instances[instance as usize].start());
        let range = self.subprog_info[subprog].postorder_start as usize
            ..self.subprog_info[subprog + 1].postorder_start as usize;
        let Self { insn_postorder, insn_aux, liveness, log, .. } = self;
        let inst = &mut liveness.instances[instance as usize];
        let start = inst.start();
        let mut rounds = 0;
        let mut changed = true;
        while changed {
            rounds += 1;
            changed = false;
            for (frame, masks) in inst.frames[..=curframe].iter_mut().enumerate() {
                let Some(masks) = masks else { continue };
                for insn in &insn_postorder[range.clone()] {
                    let Some((old, new)) = update_insn(masks, start, insn) else { continue };
                    changed = true;
                    if log.level & BPF_LOG_LEVEL2 != 0
                        && (new.may_read != 0
                            || new.must_write != 0
                            || insn.idx == start
                            || insn_aux[insn.idx as usize].prune_point)
                    {
                        let at = format_args!("{} frame {frame} insn {} ", FmtCallchain(&chain), insn.idx);
                        log_mask_change(log, at, "live", old.live_before, new.live_before);
                        log_mask_change(log, at, "written", old.must_write_acc, new.must_write_acc);
                    }
                }
            }
        }
        if log.level & BPF_LOG_LEVEL2 != 0 {
            log.write(format_args!(
                "{} live stack update done in {rounds} iterations\n",
                FmtCallchain(&chain)
            ));
        }
        if curframe > 0 {
            self.propagate_to_outer_instance(instance);
        }
    }

    /// Transfers the marks at the entry of `instance` to the call instruction that enters it.
    fn propagate_to_outer_instance(&mut self, instance: u32) {
        let inst = &self.liveness.instances[instance as usize];
        let curframe = inst.callchain.curframe as usize;
        let start = inst.start();
        let callsite = inst.callchain.callsites[curframe - 1];
        let sp_starts = inst.sp_starts;
        let mut outer_chain = inst.callchain;
        outer_chain.callsites[curframe] = 0;
        outer_chain.curframe -= 1;
        outer_chain.callsites[curframe - 1] = sp_starts[curframe - 1];
        let outer = self.lookup_callchain(outer_chain, &sp_starts);

        self.liveness.write_insn_idx = callsite;
        self.liveness.write_masks = [0; MAX_CALL_FRAMES];
        for frame in 0..curframe {
            let Some(&entry) = self.liveness.instances[instance as usize].masks(frame, start) else {
                continue;
            };
            self.liveness.write_masks[frame] |= entry.must_write_acc;
            self.liveness.instances[outer as usize].mark_read(frame, callsite, entry.live_before);
        }
        self.liveness.commit_write_marks(outer);
    }

    /// Propagates the marks of every frame of the current state. Called after each path and at each return from a
    /// subprogram.
    pub fn bpf_update_live_stack(&mut self) -> Result<()> {
        if self.tracking {
            return Ok(());
        }
        self.bpf_reset_live_stack_callchain();
        for frame in (0..self.cur_state.frames.len()).rev() {
            let instance = self.lookup_cur_instance(frame);
            if self.liveness.instances[instance as usize].updated {
                self.update_instance(instance);
                let instance = &mut self.liveness.instances[instance as usize];
                instance.updated = false;
                instance.must_write_dropped = false;
            }
        }
        Ok(())
    }

    /// Prepares [`Self::bpf_live_stack_slots`] for the state `st`.
    pub fn bpf_live_stack_query_init(&mut self, st: &VerifierState) {
        for frame in 0..st.frames.len() {
            self.liveness.query[frame] = self.lookup_instance(st, frame);
        }
        self.liveness.query_curframe = st.curframe();
        self.liveness.query_insn_idx = st.insn_idx;
    }

    /// Slots of frame `frameno` that may be read at or after the state that was prepared, a bit each: `bpf_stack_slot_alive`.
    pub fn bpf_live_stack_slots(&self, frameno: usize) -> u64 {
        let q = &self.liveness;
        let innermost = &q.instances[q.query[q.query_curframe] as usize];
        let mut slots = innermost.live_before(q.query_insn_idx, frameno);
        for frame in frameno..q.query_curframe {
            let callsite = innermost.callchain.callsites[frame];
            // A callback may run again; after a plain call, control goes on behind it.
            let at = if self.bpf_calls_callback(callsite) { callsite } else { callsite + 1 };
            slots |= q.instances[q.query[frame] as usize].live_before(at, frameno);
        }
        slots
    }
}

/// Recomputes what holds before one instruction of the function at `start` from its successors. Gives the old marks and the new ones
/// where they differ.
#[inline]
fn update_insn(masks: &mut [FrameMasks], start: u32, insn: &Postordered) -> Option<(FrameMasks, FrameMasks)> {
    let successors = insn.successors();
    if successors.is_empty() {
        return None;
    }
    let mut live_after = 0;
    let mut must_write_acc = u64::MAX;
    for &s in successors {
        let succ = &masks[(s - start) as usize];
        live_after |= succ.live_before;
        must_write_acc &= succ.must_write_acc;
    }
    let masks = &mut masks[(insn.idx - start) as usize];
    let old = *masks;
    masks.live_before = (live_after & !old.must_write) | old.may_read;
    masks.must_write_acc = must_write_acc | old.must_write;
    let changed = masks.live_before != old.live_before || masks.must_write_acc != old.must_write_acc;
    changed.then_some((old, *masks))
}

fn log_mask_change(log: &mut Log, at: fmt::Arguments<'_>, pfx: &str, old: u64, new: u64) {
    let changed = old ^ new;
    if changed == 0 {
        return;
    }
    log.write(at);
    if new & changed != 0 {
        log.write(format_args!("+{pfx} {} ", FmtStackMask(new & changed)));
    }
    if !new & changed != 0 {
        log.write(format_args!("-{pfx} {}", FmtStackMask(!new & changed)));
    }
    log.push("\n");
}

/// A call chain as the log prints it: `(7,21)`.
struct FmtCallchain<'a>(&'a Callchain);

impl fmt::Display for FmtCallchain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(")?;
        for i in 0..=self.0.curframe as usize {
            write!(f, "{}{}", if i > 0 { "," } else { "" }, self.0.callsites[i])?;
        }
        f.write_str(")")
    }
}

/// A set of stack slots as the log prints it: `-8,-24`. `bpf_fmt_stack_mask`.
pub struct FmtStackMask(pub u64);

impl fmt::Display for FmtStackMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for i in (0..64).filter(|i| self.0 >> i & 1 != 0) {
            write!(f, "{}-{}", if first { "" } else { "," }, (i + 1) * 8)?;
            first = false;
        }
        Ok(())
    }
}

/// A set of registers as the log prints it: `r0,r6`. `fmt_reg_mask`.
pub struct FmtRegMask(pub u32);

impl fmt::Display for FmtRegMask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut first = true;
        for i in (0..32).filter(|i| self.0 >> i & 1 != 0) {
            write!(f, "{}r{i}", if first { "" } else { "," })?;
            first = false;
        }
        Ok(())
    }
}
