//! What a person who asks why a program is rejected gets to know of the rejection: the path to it, and what the condition's parts
//! are about.

use super::Expr;
use crate::verifier::backtrack::get_prev_insn_idx;
use crate::verifier::state_tree::StateRef;
use crate::verifier::{SubprogArg, Verifier};

/// The way to a rejection.
#[derive(Clone, Debug, Default)]
pub struct Trail {
    /// Instructions in the order in which they ran, the rejected one last. Begins with the first one of the function that is
    /// verified, which is not the main program's where a global function or a callback is verified on its own.
    pub insns: Vec<u32>,
    /// Arguments of the function that it begins with, where that is a global one which is verified for any arguments.
    pub args: Option<Vec<SubprogArg>>,
    /// Variables of the condition, in the order in which they were made.
    pub vars: Vec<TrailVar>,
    /// Conjuncts of the path condition, in order.
    pub conds: Vec<TrailCond>,
}

/// A variable of a condition: the value that a register had.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrailVar {
    /// Index of its node in the request.
    pub id: u32,
    /// Index into [`Trail::insns`] of the instruction that read the register.
    pub step: u32,
    pub frame: usize,
    pub regno: u8,
    /// A variable of 32 bits is extended by its sign.
    pub signed: bool,
}

/// A conjunct of a path condition.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct TrailCond {
    /// Index of its node in the request.
    pub id: u32,
    /// Index into [`Trail::insns`] of the jump, or of the instruction that read a register whose bounds these are.
    pub step: u32,
}

/// What a symbolic run notes for the [`Trail`].
#[derive(Default)]
pub(super) struct Notes {
    /// Instructions that the run has come to.
    pub steps: u32,
    pub vars: Vec<TrailVar>,
    pub conds: Vec<TrailCond>,
    /// The walk was stopped by a rejection; here is the path to it.
    pub trail: Option<Box<Trail>>,
}

impl Notes {
    pub fn begin(&mut self) {
        *self = Self::default();
    }

    /// Index of the instruction that the run is at.
    fn step(&self) -> u32 {
        self.steps.saturating_sub(1)
    }

    pub fn var(&mut self, id: u32, frame: usize, regno: u8, signed: bool) {
        let step = self.step();
        self.vars.push(TrailVar { id, step, frame, regno, signed });
    }

    pub fn cond(&mut self, cond: Expr) {
        let step = self.step();
        self.conds.push(TrailCond { id: cond.id(), step });
    }
}

impl Verifier {
    /// The walk ended with an error: keeps the path to it, where it is wanted.
    #[cold]
    pub(in crate::verifier) fn note_trail(&mut self) {
        if !self.bcf.as_ref().is_some_and(|bcf| bcf.options.explain) || self.cur_state.frames.is_empty() {
            return;
        }
        let insns = self.present_path();
        let begun = self.cur_state.frames.first().map_or(0, |frame| frame.subprogno as usize);
        let function = self.subprog_info.get(begun).filter(|function| begun != 0 && !function.is_async_cb);
        let args = function.and_then(|function| Some(function.args.get(..function.arg_cnt.into())?.to_vec()));
        let Some(bcf) = &mut self.bcf else { return };
        // Of an earlier condition, or of none that could be made.
        let same_path = bcf.notes.steps as usize + 1 == insns.len();
        let vars = if same_path { bcf.notes.vars.clone() } else { Vec::new() };
        let conds = if same_path { bcf.notes.conds.clone() } else { Vec::new() };
        bcf.notes.trail = Some(Box::new(Trail { insns, args, vars, conds }));
    }

    /// Instructions from where the function that is verified begins up to the present one, as jump histories tell.
    fn present_path(&self) -> Vec<u32> {
        let mut path = Vec::new();
        let mut st_ref = StateRef::Cur;
        let mut i = self.cur_state.insn_idx;
        let at_jmp_point = self.insn_aux.get(i as usize).is_some_and(|aux| aux.jmp_point);
        let noted = self
            .cur_state
            .jmp_history
            .last()
            .is_some_and(|last| last.idx == i && last.prev_idx == self.cur_state.last_insn_idx);
        // A state that is found to repeat itself has not noted its last jump yet.
        if at_jmp_point && !noted && i != self.cur_state.first_insn_idx {
            path.push(i);
            i = self.cur_state.last_insn_idx;
        }
        'states: loop {
            let st = self.state(st_ref);
            let mut history = st.jmp_history.len();
            loop {
                // Second halves of 64-bit immediates do not run.
                match self.prog.insns.get(i as usize) {
                    Some(insn) if insn.code != 0 => path.push(i),
                    Some(_) => {}
                    None => break 'states,
                }
                match get_prev_insn_idx(st, i, &mut history) {
                    Some(prev) => i = prev,
                    None => break,
                }
            }
            let Some(parent) = st.parent else { break };
            st_ref = StateRef::Cached(parent);
            i = self.state(st_ref).last_insn_idx;
        }
        path.reverse();
        path
    }
}
