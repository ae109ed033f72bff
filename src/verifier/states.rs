//! Pruning: is the current state covered by one that was explored before?
//!
//! At prune points the current state is compared with the checkpoints of the same instruction and call chain. A checkpoint
//! covers it when every value that the current state allows is one that the checkpoint allowed, as far as anything was
//! done with it: dead registers and slots do not count, nor do the values of imprecise scalars. Inside loops that are not
//! settled yet, liveness and precision are not known, so comparison is stricter there. Mirrors `kernel/bpf/states.c`.

use bpftwin_uapi::Errno;
use bpftwin_uapi::insn::{BPF_REG_FP, MAX_BPF_REG};

use super::backtrack::mark_all_scalars_imprecise;
use super::cfg::is_may_goto_insn;
use super::insn_aux::InsnAux;
use super::log::BPF_LOG_LEVEL2;
use super::reg_type::RegType;
use super::state::*;
use super::state_tree::StateRef;
use super::{Features, Result, Verifier};
use crate::verbose;

/// Checkpoints that an unprivileged program may leave at one instruction: `BPF_COMPLEXITY_LIMIT_STATES`.
const BPF_COMPLEXITY_LIMIT_STATES: u32 = 64;
/// Rounds after which loops are settled by force: `MAX_BACKEDGE_ITERS`.
const MAX_BACKEDGE_ITERS: u32 = 64;

/// A slot of eight bytes of which nothing is known. Its bits tell apart `STACK_INVALID` and `STACK_MISC`, and no other two types.
const ALL_MISC: u64 = u64::from_le_bytes([STACK_MISC; BPF_REG_SIZE]);

/// How alike states must be: `enum exact_level`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExactLevel {
    /// The checkpoint's liveness and precision decide what counts.
    NotExact,
    /// All is equal, up to the naming of ids.
    Exact,
    /// Every scalar counts as precise.
    RangeWithin,
}

/// Correspondence of ids between an old and the current state: `struct bpf_idmap`.
#[derive(Default)]
pub struct IdMap {
    tmp_id_gen: u32,
    pairs: Vec<(u32, u32)>,
}

impl IdMap {
    fn reset(&mut self, id_gen: u32) {
        self.tmp_id_gen = id_gen;
        self.pairs.clear();
    }

    /// `check_ids`: the ids correspond, or can be made to.
    #[inline]
    fn check_ids(&mut self, old_id: u32, cur_id: u32) -> bool {
        if (old_id != 0) != (cur_id != 0) {
            return false;
        }
        old_id == 0 || self.check_nonzero_ids(old_id, cur_id)
    }

    fn check_nonzero_ids(&mut self, old_id: u32, cur_id: u32) -> bool {
        for &(old, cur) in &self.pairs {
            if old == old_id {
                return cur == cur_id;
            }
            if cur == cur_id {
                return false;
            }
        }
        self.pairs.push((old_id, cur_id));
        true
    }

    /// `check_scalar_ids`: the old scalar's links hold for the current one, too. An old scalar without an id relied on none; a
    /// current one without an id is linked to no other.
    #[inline]
    fn check_scalar_ids(&mut self, mut old_id: u32, mut cur_id: u32, features: Features) -> bool {
        if old_id == 0 {
            if features.scalar_links {
                return true;
            }
            self.tmp_id_gen = self.tmp_id_gen.wrapping_add(1);
            old_id = self.tmp_id_gen;
        }
        if cur_id == 0 {
            self.tmp_id_gen = self.tmp_id_gen.wrapping_add(1);
            cur_id = self.tmp_id_gen;
        }
        self.check_nonzero_ids(old_id, cur_id)
            && (old_id & BPF_ADD_CONST == 0
                || !features.scalar_links
                || self.check_ids(old_id & !BPF_ADD_CONST, cur_id & !BPF_ADD_CONST))
    }
}

/// `range_within`: the bounds of `cur` lie within those of `old`.
#[inline]
fn range_within(old: &RegState, cur: &RegState) -> bool {
    old.umin_value <= cur.umin_value
        && old.umax_value >= cur.umax_value
        && old.smin_value <= cur.smin_value
        && old.smax_value >= cur.smax_value
        && old.u32_min_value <= cur.u32_min_value
        && old.u32_max_value >= cur.u32_max_value
        && old.s32_min_value <= cur.s32_min_value
        && old.s32_max_value >= cur.s32_max_value
}

/// Type, fixed offset and payload are equal: the members before `var_off`.
#[inline]
fn same_kind(a: &RegState, b: &RegState) -> bool {
    a.type_ == b.type_ && a.off == b.off && a.payload == b.payload
}

/// All members before `id` are equal.
#[inline]
fn same_up_to_id(a: &RegState, b: &RegState) -> bool {
    same_kind(a, b)
        && a.var_off == b.var_off
        && a.smin_value == b.smin_value
        && a.smax_value == b.smax_value
        && a.umin_value == b.umin_value
        && a.umax_value == b.umax_value
        && a.s32_min_value == b.s32_min_value
        && a.s32_max_value == b.s32_max_value
        && a.u32_min_value == b.u32_min_value
        && a.u32_max_value == b.u32_max_value
}

/// `regs_exact`: equal in all that a comparison can see, up to the naming of ids.
fn regs_exact(old: &RegState, cur: &RegState, idmap: &mut IdMap) -> bool {
    same_up_to_id(old, cur)
        && idmap.check_ids(old.id, cur.id)
        && idmap.check_ids(old.ref_obj_id, cur.ref_obj_id)
}

/// `widen_imprecise_scalars`: scalars that differ from those of the loop's last round, and are not needed precisely,
/// become unknown, so that the loop converges.
fn widen_imprecise_scalars(
    idmap: &mut IdMap,
    bpf_capable: bool,
    old: &VerifierState,
    cur: &mut VerifierState,
) {
    let mut maybe_widen_reg = |old: &RegState, cur: &mut RegState| {
        if old.type_ == RegType::SCALAR_VALUE
            && cur.type_ == RegType::SCALAR_VALUE
            && !old.precise
            && !cur.precise
            && !regs_exact(old, cur, idmap)
        {
            Verifier::mark_reg_unknown(bpf_capable, cur);
        }
    };
    for (old_frame, cur_frame) in old.frames.iter().zip(&mut cur.frames).rev() {
        for (old_reg, cur_reg) in old_frame.regs.iter().zip(&mut cur_frame.regs) {
            maybe_widen_reg(old_reg, cur_reg);
        }
        for (old_slot, cur_slot) in old_frame.stack.iter().zip(&mut cur_frame.stack) {
            if old_slot.is_spilled_reg() && cur_slot.is_spilled_reg() {
                maybe_widen_reg(&old_slot.spilled_ptr, &mut cur_slot.spilled_ptr);
            }
        }
    }
}

/// One comparison of two states, with the parts of the verifier that it asks.
struct Comparison<'a> {
    idmap: &'a mut IdMap,
    insn_aux: &'a [InsnAux],
    allow_uninit_stack: bool,
    /// Eight slot types in a word: the bits by which a type that counts differs from `STACK_INVALID`.
    used_types: u64,
    explore_alu_limits: bool,
    exact: ExactLevel,
    features: Features,
}

impl Comparison<'_> {
    fn regs_exact(&mut self, old: &RegState, cur: &RegState) -> bool {
        regs_exact(old, cur, self.idmap)
    }

    /// `regsafe`: what was safe with `old` is safe with `cur`.
    #[inline]
    fn regsafe(&mut self, old: &RegState, cur: &RegState) -> bool {
        if self.exact == ExactLevel::Exact {
            return self.regs_exact(old, cur);
        }
        let not_exact = self.exact == ExactLevel::NotExact;
        if old.type_ == RegType::NOT_INIT && (not_exact || cur.type_ == RegType::NOT_INIT) {
            return true;
        }
        if old.type_ != cur.type_ {
            return false;
        }
        match old.type_.base() {
            RegType::SCALAR_VALUE => {
                if self.explore_alu_limits {
                    return same_up_to_id(old, cur)
                        && self.idmap.check_scalar_ids(old.id, cur.id, self.features);
                }
                if !old.precise && not_exact {
                    return true;
                }
                self.scalar_safe(old, cur)
            }
            RegType::PTR_TO_MAP_KEY
            | RegType::PTR_TO_MAP_VALUE
            | RegType::PTR_TO_MEM
            | RegType::PTR_TO_BUF
            | RegType::PTR_TO_TP_BUFFER => {
                same_kind(old, cur)
                    && range_within(old, cur)
                    && old.var_off.contains(cur.var_off)
                    && self.idmap.check_ids(old.id, cur.id)
                    && self.idmap.check_ids(old.ref_obj_id, cur.ref_obj_id)
            }
            RegType::PTR_TO_PACKET_META | RegType::PTR_TO_PACKET => {
                let range_safe = if self.features.packet_ends && (old.range() < 0 || cur.range() < 0) {
                    // At or beyond the packet's end.
                    old.range() == cur.range()
                } else {
                    old.range() <= cur.range()
                };
                range_safe
                    && old.off == cur.off
                    && self.idmap.check_ids(old.id, cur.id)
                    && range_within(old, cur)
                    && old.var_off.contains(cur.var_off)
            }
            RegType::PTR_TO_STACK => self.regs_exact(old, cur) && old.frameno == cur.frameno,
            RegType::PTR_TO_ARENA => true,
            _ => self.regs_exact(old, cur),
        }
    }

    fn scalar_safe(&mut self, old: &RegState, cur: &RegState) -> bool {
        // A link at a distance must be one of the same kind and distance.
        let asks = old.id != 0 || !self.features.scalar_links;
        if asks && old.id & BPF_ADD_CONST != cur.id & BPF_ADD_CONST
            || old.id & BPF_ADD_CONST != 0 && old.off != cur.off
        {
            return false;
        }
        self.idmap.check_scalar_ids(old.id, cur.id, self.features)
            && range_within(old, cur)
            && old.var_off.contains(cur.var_off)
    }

    fn is_stack_all_misc(&self, slot: &StackState) -> bool {
        let types = u64::from_le_bytes(slot.slot_type);
        types == ALL_MISC || self.allow_uninit_stack && types & !ALL_MISC == 0
    }

    /// The scalar that a 64-bit load of the slot yields, where it yields one: `scalar_reg_for_stack`.
    fn scalar_reg_for_stack<'s>(&self, slot: &'s StackState) -> Option<&'s RegState> {
        if slot.is_spilled_scalar_reg64() {
            Some(&slot.spilled_ptr)
        } else if self.is_stack_all_misc(slot) {
            Some(&RegState::UNKNOWN)
        } else {
            None
        }
    }

    /// `stacksafe`
    fn stacksafe(&mut self, old: &FuncState, cur: &FuncState) -> bool {
        old.stack.iter().enumerate().all(|(spi, old_slot)| self.slot_safe(old_slot, cur.stack.get(spi)))
    }

    fn slot_safe(&mut self, old: &StackState, cur: Option<&StackState>) -> bool {
        let not_exact = self.exact == ExactLevel::NotExact;
        // A byte each, zero for those that nothing relied on.
        let used = u64::from_le_bytes(old.slot_type) & self.used_types;
        if used == 0 && not_exact {
            return true;
        }
        let Some(cur) = cur else { return false };
        let same = old.slot_type == cur.slot_type;
        if used == 0 {
            return same;
        }
        let first = used.trailing_zeros() as usize / 8;
        if !not_exact && old.slot_type[..=first] != cur.slot_type[..=first] {
            return false;
        }
        if let Some(old_reg) = self.scalar_reg_for_stack(old)
            && let Some(cur_reg) = self.scalar_reg_for_stack(cur)
        {
            return self.regsafe(old_reg, cur_reg);
        }
        let is_used = |i: usize| used >> (8 * i) & 0xff != 0;
        let type_safe = |i| {
            let (old, cur) = (old.slot_type[i], cur.slot_type[i]);
            !is_used(i) || old == cur || old == STACK_MISC && cur == STACK_ZERO
        };
        let last = BPF_REG_SIZE - 1;
        (same || not_exact && (first..=last).all(type_safe))
            && (!is_used(last)
                || old.slot_type[last] != cur.slot_type[last]
                || self.slot_object_safe(old, cur))
    }

    /// What the slot holds as a whole, its type being the same in both states.
    fn slot_object_safe(&mut self, old: &StackState, cur: &StackState) -> bool {
        let (old_reg, cur_reg) = (&old.spilled_ptr, &cur.spilled_ptr);
        match old.slot_type[BPF_REG_SIZE - 1] {
            STACK_SPILL => self.regsafe(old_reg, cur_reg),
            STACK_DYNPTR | STACK_IRQ_FLAG => {
                old_reg.payload == cur_reg.payload
                    && self.idmap.check_ids(old_reg.ref_obj_id, cur_reg.ref_obj_id)
            }
            STACK_MISC | STACK_ZERO | STACK_INVALID => true,
            _ => false,
        }
    }

    /// `refsafe`
    fn refsafe(&mut self, old: &VerifierState, cur: &VerifierState) -> bool {
        if old.refs.len() != cur.refs.len()
            || old.active_locks != cur.active_locks
            || old.active_preempt_locks != cur.active_preempt_locks
            || old.active_rcu_lock != cur.active_rcu_lock
            || !self.idmap.check_ids(old.active_irq_id, cur.active_irq_id)
            || !self.idmap.check_ids(old.active_lock_id, cur.active_lock_id)
            || old.active_lock_ptr != cur.active_lock_ptr
        {
            return false;
        }
        old.refs.iter().zip(&cur.refs).all(|(old, cur)| {
            self.idmap.check_ids(old.id, cur.id)
                && old.type_ == cur.type_
                && (old.type_ & REF_TYPE_LOCK_MASK == 0 || old.ptr == cur.ptr)
        })
    }

    /// `func_states_equal`
    fn func_states_equal(&mut self, old: &FuncState, cur: &FuncState, insn_idx: u32) -> bool {
        let live_regs = self.insn_aux[insn_idx as usize].live_regs_before;
        old.callback_depth <= cur.callback_depth
            && (0..MAX_BPF_REG).all(|i| live_regs >> i & 1 == 0 || self.regsafe(&old.regs[i], &cur.regs[i]))
            && self.stacksafe(old, cur)
    }

    /// `states_equal`: the old state covers the current one.
    fn states_equal(&mut self, old: &VerifierState, cur: &VerifierState) -> bool {
        if old.frames.len() != cur.frames.len()
            || old.speculative && !cur.speculative
            || old.in_sleepable != cur.in_sleepable
            || !self.refsafe(old, cur)
        {
            return false;
        }
        old.frames.iter().zip(&cur.frames).enumerate().all(|(i, (old_frame, cur_frame))| {
            old_frame.callsite == cur_frame.callsite
                && self.func_states_equal(old_frame, cur_frame, old.frame_insn_idx(i))
        })
    }
}

/// `states_maybe_looping`: the registers of the current frame did not change at all.
fn states_maybe_looping(old: &VerifierState, cur: &VerifierState) -> bool {
    old.frames.len() == cur.frames.len()
        && old
            .cur_func()
            .regs
            .iter()
            .zip(&cur.cur_func().regs)
            .all(|(old, cur)| same_up_to_id(old, cur) && old.id == cur.id && old.ref_obj_id == cur.ref_obj_id)
}

/// What became of the comparison with one checkpoint.
enum Visit {
    Hit,
    Miss,
}

impl Verifier {
    /// `states_equal` of a checkpoint and the current state.
    fn states_equal(&mut self, old: StateId, exact: ExactLevel) -> bool {
        self.idmap_scratch.reset(self.id_gen);
        Comparison {
            idmap: &mut self.idmap_scratch,
            insn_aux: &self.insn_aux,
            allow_uninit_stack: self.allow_uninit_stack,
            used_types: if self.allow_uninit_stack { !ALL_MISC } else { u64::MAX },
            explore_alu_limits: self.explore_alu_limits,
            exact,
            features: self.features,
        }
        .states_equal(&self.states[old].state, &self.cur_state)
    }

    /// `explored_state`: the bucket of checkpoints that may match the current state at `insn_idx`.
    fn explored_state(&self, insn_idx: u32) -> usize {
        let callsite = self.cur_state.cur_func().callsite;
        (insn_idx ^ callsite as u32) as usize % self.explored_states.len()
    }

    /// `clean_verifier_state`: forgets dead registers and slots of a finished state, so that more states match it.
    fn clean_verifier_state(&mut self, id: StateId) {
        let mut st = std::mem::take(&mut self.states[id].state);
        self.bpf_live_stack_query_init(&st);
        st.cleaned = true;
        let bpf_capable = self.bpf_capable;
        for fr in 0..st.frames.len() {
            let insn_idx = st.frame_insn_idx(fr);
            let live_regs = self.insn_aux[insn_idx as usize].live_regs_before;
            let frame = &mut st.frames[fr];
            for (i, reg) in frame.regs[..BPF_REG_FP as usize].iter_mut().enumerate() {
                if live_regs >> i & 1 == 0 {
                    Self::mark_reg_not_init(bpf_capable, reg);
                }
            }
            let live_slots = self.bpf_live_stack_slots(frame.frameno as usize);
            for (spi, slot) in frame.stack.iter_mut().enumerate() {
                if live_slots >> spi & 1 == 0 {
                    Self::mark_reg_not_init(bpf_capable, &mut slot.spilled_ptr);
                    slot.slot_type = [STACK_INVALID; BPF_REG_SIZE];
                }
            }
        }
        self.states[id].state = st;
    }

    /// `clean_live_states`: cleans the finished checkpoints that the current state is about to be compared with.
    fn clean_live_states(&mut self, bucket: usize, insn_idx: u32) {
        for i in (0..self.explored_states[bucket].len()).rev() {
            let id = self.explored_states[bucket][i];
            let st = &self.states[id].state;
            if st.branches != 0
                || st.cleaned
                || st.insn_idx != insn_idx
                || !st.same_callsites(&self.cur_state)
                || self.incomplete_read_marks(st)
            {
                continue;
            }
            self.clean_verifier_state(id);
        }
    }

    /// `find_prev_entry`: the nearest state on the present path that `cur`, too, has come by at `insn_idx`.
    pub fn find_prev_entry(&self, cur: StateRef, insn_idx: u32) -> Option<StateId> {
        if self.tracking {
            return None;
        }
        let cur = self.state(cur);
        let bucket = self.explored_state(insn_idx);
        self.explored_states[bucket].iter().rev().copied().find(|&id| {
            let st = &self.states[id].state;
            st.insn_idx == insn_idx
                && st.branches != 0
                && st.same_callsites(cur)
                && st.dfs_depth < cur.dfs_depth
        })
    }

    /// Widens the current state against `old`: [`widen_imprecise_scalars`].
    pub fn widen_cur_state(&mut self, old: StateId) {
        self.idmap_scratch.reset(self.id_gen);
        let old = &self.states[old].state;
        widen_imprecise_scalars(&mut self.idmap_scratch, self.bpf_capable, old, &mut self.cur_state);
    }

    /// Widens the state pushed last against `old`: [`widen_imprecise_scalars`].
    pub fn widen_queued_state(&mut self, old: StateId) {
        self.idmap_scratch.reset(self.id_gen);
        let old = &self.states[old].state;
        if let Some(elem) = self.stack.last_mut() {
            widen_imprecise_scalars(&mut self.idmap_scratch, self.bpf_capable, old, &mut elem.st);
        }
    }

    /// `propagate_precision`: scalars that are precise in a checkpoint become so on the way to the state it covers.
    fn propagate_precision(&mut self, old: StateId, cur: StateRef, changed: &mut bool) -> Result<()> {
        let level2 = self.log.level & BPF_LOG_LEVEL2 != 0;
        let state = &self.states[old].state;
        for fr in (0..state.frames.len()).rev() {
            let frame = &state.frames[fr];
            let mut first = true;
            for (i, reg) in frame.regs[..BPF_REG_FP as usize].iter().enumerate() {
                if reg.type_ != RegType::SCALAR_VALUE || !reg.precise {
                    continue;
                }
                if level2 {
                    if first {
                        verbose!(self, "frame {fr}: propagating r{i}");
                    } else {
                        verbose!(self, ",r{i}");
                    }
                }
                self.bt.set_frame_reg(fr, i as u8);
                first = false;
            }
            for (i, slot) in frame.stack.iter().enumerate() {
                if !slot.is_spilled_scalar_reg() || !slot.spilled_ptr.precise {
                    continue;
                }
                if level2 {
                    if first {
                        verbose!(self, "frame {fr}: propagating fp-{}", (i + 1) * BPF_REG_SIZE);
                    } else {
                        verbose!(self, ",fp-{}", (i + 1) * BPF_REG_SIZE);
                    }
                }
                self.bt.set_frame_slot(fr, i);
                first = false;
            }
            if !first {
                verbose!(self, "\n");
            }
        }
        self.mark_chain_precision_from(cur, None, changed)
    }

    /// `propagate_backedges`: carries precision around the loops of a component until nothing changes.
    pub fn propagate_backedges(&mut self, backedges: &[StateId]) -> Result<()> {
        let mut rounds = 0;
        loop {
            if rounds > MAX_BACKEDGE_ITERS {
                if self.log.level & BPF_LOG_LEVEL2 != 0 {
                    verbose!(self, "propagate_backedges: too many iterations\n");
                }
                for &id in backedges.iter().rev() {
                    self.mark_all_scalars_precise(StateRef::Cached(id));
                }
                return Ok(());
            }
            rounds += 1;
            let mut changed = false;
            for &id in backedges.iter().rev() {
                if let Some(equal) = self.states[id].state.equal_state {
                    self.propagate_precision(equal, StateRef::Cached(id), &mut changed)?;
                }
            }
            if !changed {
                return Ok(());
            }
        }
    }

    /// `is_state_visited`: true where the current state is covered by a checkpoint. Otherwise the state may become a
    /// checkpoint itself.
    pub fn is_state_visited(&mut self, insn_idx: u32) -> Result<bool> {
        if self.tracking {
            return Ok(false);
        }
        let force_checkpoint = self.insn_aux[insn_idx as usize].force_checkpoint;
        let force_new_state =
            self.test_state_freq || force_checkpoint || self.cur_state.jmp_history.len() > 40;
        let mut add_new_state = force_new_state
            || self.jmps_processed - self.prev_jmps_processed >= 2
                && self.insn_processed - self.prev_insn_processed >= 8;

        let bucket = self.explored_state(insn_idx);
        self.clean_live_states(bucket, insn_idx);

        let mut states_cnt = 0;
        // Whether the state is in a loop that is not settled yet. As in the kernel, a hit at a callback call leaves it
        // as the checkpoint before left it.
        let mut in_loop = false;
        // Newest first; entries behind the position may go away.
        let mut pos = self.explored_states[bucket].len();
        while pos > 0 {
            pos -= 1;
            states_cnt += 1;
            let id = self.explored_states[bucket][pos];
            if self.states[id].state.insn_idx != insn_idx {
                continue;
            }
            match self.visit_checkpoint(id, insn_idx, force_new_state, &mut add_new_state, &mut in_loop)? {
                Visit::Hit => {
                    self.states[id].hit_cnt += 1;
                    self.settle_hit(id, insn_idx, in_loop)?;
                    return Ok(true);
                }
                Visit::Miss => {
                    let entry = &mut self.states[id];
                    if add_new_state {
                        entry.miss_cnt += 1;
                    }
                    let n = if force_checkpoint && entry.state.branches > 0 { 64 } else { 3 };
                    if entry.miss_cnt > entry.hit_cnt * n + n {
                        entry.in_free_list = true;
                        self.explored_states[bucket].remove(pos);
                        self.free_list.push(id);
                        self.free_list_size += 1;
                        self.explored_states_size -= 1;
                        self.maybe_free_verifier_state(id);
                    }
                }
            }
        }
        self.max_states_per_insn = self.max_states_per_insn.max(states_cnt);
        if !self.bpf_capable && states_cnt > BPF_COMPLEXITY_LIMIT_STATES || !add_new_state {
            return Ok(false);
        }
        self.add_checkpoint(bucket, insn_idx);
        Ok(false)
    }

    /// Compares the current state with one checkpoint of its instruction.
    fn visit_checkpoint(
        &mut self,
        id: StateId,
        insn_idx: u32,
        force_new_state: bool,
        add_new_state: &mut bool,
        in_loop: &mut bool,
    ) -> Result<Visit> {
        let old = &self.states[id].state;
        if old.children_unsafe {
            return Ok(Visit::Miss);
        }
        if old.branches == 0 {
            *in_loop = self.incomplete_read_marks(old);
            let exact = if *in_loop { ExactLevel::RangeWithin } else { ExactLevel::NotExact };
            return Ok(if self.states_equal(id, exact) { Visit::Hit } else { Visit::Miss });
        }
        // The checkpoint is on the present path, or its other branches are still to be explored.
        let frame = old.cur_func();
        let other_async_entry =
            frame.in_async_callback_fn && frame.async_entry_cnt != self.cur_state.cur_func().async_entry_cnt;
        if !other_async_entry && self.check_loop(id, insn_idx, in_loop)? {
            return Ok(Visit::Hit);
        }
        if !force_new_state
            && self.jmps_processed - self.prev_jmps_processed < 20
            && self.insn_processed - self.prev_insn_processed < 100
        {
            *add_new_state = false;
        }
        Ok(Visit::Miss)
    }

    /// Loops that converge (true), and loops that never end (an error).
    fn check_loop(&mut self, id: StateId, insn_idx: u32, in_loop: &mut bool) -> Result<bool> {
        let may_goto_depth = self.states[id].state.may_goto_depth;
        if is_may_goto_insn(self.prog.insns[insn_idx as usize])
            && may_goto_depth != self.cur_state.may_goto_depth
            && self.states_equal(id, ExactLevel::RangeWithin)
        {
            *in_loop = true;
            return Ok(true);
        }
        if self.bpf_calls_callback(insn_idx) {
            return Ok(self.states_equal(id, ExactLevel::RangeWithin));
        }
        let old = &self.states[id].state;
        if states_maybe_looping(old, &self.cur_state)
            && may_goto_depth == self.cur_state.may_goto_depth
            && old.callback_unroll_depth == self.cur_state.callback_unroll_depth
            && self.states_equal(id, ExactLevel::Exact)
        {
            return self.report_infinite_loop(id, insn_idx);
        }
        Ok(false)
    }

    fn report_infinite_loop<T>(&mut self, id: StateId, insn_idx: u32) -> Result<T> {
        self.verbose_linfo(insn_idx, format_args!("; "));
        verbose!(self, "infinite loop detected at insn {insn_idx}\n");
        let curframe = self.cur_state.curframe();
        verbose!(self, "cur state:");
        self.print_state_ref(StateRef::Cur, curframe);
        verbose!(self, "old state:");
        self.print_state_ref(StateRef::Cached(id), curframe);
        Err(Errno::EINVAL)
    }

    /// The current state is covered by checkpoint `id`: what the checkpoint learned holds on the present path, too.
    fn settle_hit(&mut self, id: StateId, insn_idx: u32, in_loop: bool) -> Result<()> {
        if self.insn_aux[self.insn_idx as usize].jmp_point {
            self.push_jmp_history(0, 0)?;
        }
        self.propagate_precision(id, StateRef::Cur, &mut false)?;
        if in_loop {
            let backedge = self.states.insert_copy(&self.cur_state);
            let st = &mut self.states[backedge].state;
            st.equal_state = Some(id);
            st.insn_idx = insn_idx;
            self.add_scc_backedge(id, backedge)?;
        }
        Ok(())
    }

    /// Remembers the current state; the walk goes on in a child of it.
    fn add_checkpoint(&mut self, bucket: usize, insn_idx: u32) {
        self.total_states += 1;
        self.explored_states_size += 1;
        self.update_peak_states();
        self.prev_jmps_processed = self.jmps_processed;
        self.prev_insn_processed = self.insn_processed;
        if self.bpf_capable {
            mark_all_scalars_imprecise(&mut self.cur_state);
        }
        let id = self.states.insert_copy(&self.cur_state);
        let new = &mut self.states[id].state;
        new.insn_idx = insn_idx;
        new.children_unsafe = std::mem::take(&mut self.cur_state.children_unsafe);
        let (branches, dfs_depth) = (new.branches, new.dfs_depth);
        if branches != 1 {
            verbose!(
                self,
                "verifier bug: is_state_visited:branches_to_explore={branches} insn {insn_idx} (new->branches != 1)\n"
            );
        }
        self.maybe_enter_scc(id);
        let cur = &mut self.cur_state;
        cur.parent = Some(id);
        cur.first_insn_idx = insn_idx;
        cur.dfs_depth = dfs_depth + 1;
        cur.jmp_history.clear();
        self.explored_states[bucket].push(id);
    }
}
