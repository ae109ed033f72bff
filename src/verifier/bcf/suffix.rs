//! The part of the present path that the values in question come from: its last checkpoints, found by backtracking.

use super::{Bcf, Verifier};
use crate::verifier::backtrack::{Backtrack, get_jmp_hist_entry, get_prev_insn_idx};
use crate::verifier::state::{JmpHistoryEntry, StateId};
use crate::verifier::state_tree::StateRef;

/// Jumps of a path, to walk it again.
#[derive(Default)]
pub struct Script {
    history: Vec<JmpHistoryEntry>,
    /// Entries that the walk has come by.
    pos: usize,
    /// The instruction before the one that failed.
    last_insn_idx: u32,
    /// The instruction that failed.
    insn_idx: u32,
    arrived: bool,
    /// Whether the path is followed to the letter. As published, the end of the history is taken for the end of the path.
    strict: bool,
    /// Branches that were left to be explored before the last instruction.
    branches: usize,
    /// Conditions and states are those of different paths.
    lost: bool,
}

/// Where the walk along a [`Script`] stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathMatch {
    Match,
    /// The walk has left the path.
    Mismatch,
    /// The instruction that failed is next.
    Done,
}

impl Script {
    /// `bcf_match_path`: the walk goes from `prev_insn_idx` to `insn_idx`.
    /// `branches` are left to be explored.
    pub fn step(
        &mut self,
        prev_insn_idx: u32,
        insn_idx: u32,
        is_jmp_point: bool,
        branches: usize,
    ) -> PathMatch {
        let place = self.place(prev_insn_idx, insn_idx, is_jmp_point);
        self.arrived = place == PathMatch::Done;
        match place {
            // The path is the other branch of the last instruction, or this was no way along it.
            PathMatch::Mismatch => self.lost |= branches <= self.branches,
            _ => self.branches = branches,
        }
        place
    }

    /// The walk takes two branches for one, or ends before the path does.
    pub fn lose(&mut self) {
        self.lost = true;
    }

    /// What was found is not about the path.
    pub fn is_lost(&self) -> bool {
        self.strict && self.lost
    }

    /// The walk came to the instruction that failed. As published, a walk that lost the path counts, too.
    pub fn arrived(&self) -> bool {
        self.arrived
    }

    fn place(&mut self, prev_insn_idx: u32, insn_idx: u32, is_jmp_point: bool) -> PathMatch {
        let (strict, last) = (self.strict, insn_idx == self.insn_idx);
        let at_end = |pos: usize| {
            pos >= self.history.len() && prev_insn_idx == self.last_insn_idx && (last || !strict)
        };
        let Some(next) = self.history.get(self.pos) else {
            return if at_end(self.pos) {
                PathMatch::Done
            } else if strict && is_jmp_point {
                PathMatch::Mismatch
            } else {
                PathMatch::Match
            };
        };
        if next.prev_idx == prev_insn_idx {
            if next.idx != insn_idx {
                return PathMatch::Mismatch;
            }
            self.pos += 1;
            return if at_end(self.pos) { PathMatch::Done } else { PathMatch::Match };
        }
        if is_jmp_point { PathMatch::Mismatch } else { PathMatch::Match }
    }
}

/// A suffix of the present path.
pub struct Suffix {
    /// Checkpoint that it begins with, none for the function's beginning.
    pub base: Option<StateId>,
    /// Checkpoints behind it.
    pub parents: Vec<StateId>,
}

impl Verifier {
    /// `backtrack_states`: the shortest suffix of the path, in whole checkpoints, that defines the registers `reg_mask` of the
    /// current frame.
    pub(super) fn backtrack_states(&mut self, reg_mask: u32, whole_path: bool) -> Suffix {
        let level = std::mem::take(&mut self.log.level);
        let mut backtrack_length = 0;
        let base = if whole_path { None } else { self.find_base_state(reg_mask, &mut backtrack_length) };
        self.bt.reset();
        self.log.level = level;

        let mut parents = Vec::new();
        let mut next = self.cur_state.parent;
        while let Some(id) = next.filter(|_| next != base) {
            parents.push(id);
            next = self.states[id].state.parent;
        }
        parents.reverse();
        let mut history = Vec::new();
        for &id in &parents {
            history.extend_from_slice(&self.states[id].state.jmp_history);
        }
        history.extend_from_slice(&self.cur_state.jmp_history);
        let st = &self.cur_state;
        if let Some(bcf) = &mut self.bcf {
            let script = Script {
                history,
                last_insn_idx: st.last_insn_idx,
                insn_idx: st.insn_idx,
                strict: bcf.options.auto,
                ..Script::default()
            };
            let Bcf { script: slot, backtrack_length: length, .. } = &mut **bcf;
            *slot = script;
            *length = length.saturating_add(backtrack_length);
        }
        Suffix { base, parents }
    }

    fn find_base_state(&mut self, reg_mask: u32, steps: &mut u32) -> Option<StateId> {
        self.bt.begin(self.cur_state.curframe(), reg_mask);
        let mut st_ref = StateRef::Cur;
        let mut first_idx = self.cur_state.first_insn_idx;
        let mut last_idx = self.cur_state.insn_idx;
        let mut subseq_idx: i64 = -1;
        // The instruction that failed had no effect.
        let mut skip_first = true;
        loop {
            let parent = self.state(st_ref).parent.filter(|_| last_idx as i32 >= 0)?;
            let mut history = self.state(st_ref).jmp_history.len();
            let mut i = last_idx;
            loop {
                *steps += 1;
                if skip_first {
                    skip_first = false;
                } else {
                    let hist = get_jmp_hist_entry(self.state(st_ref), history, i);
                    let Ok(Backtrack::Continue) = self.backtrack_insn(i, subseq_idx, hist) else {
                        return None;
                    };
                }
                if self.bt.is_empty() {
                    return Some(parent);
                }
                subseq_idx = i.into();
                match get_prev_insn_idx(self.state(st_ref), i, &mut history) {
                    None => break,
                    Some(prev) => i = prev,
                }
                if i as usize >= self.prog.insns.len() {
                    return None;
                }
            }
            st_ref = StateRef::Cached(parent);
            subseq_idx = first_idx.into();
            let st = self.state(st_ref);
            last_idx = st.last_insn_idx;
            first_idx = st.first_insn_idx;
        }
    }
}
