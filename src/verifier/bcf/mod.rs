//! BCF: where bounds are too coarse to accept an access, the path to it becomes a condition that user space may refute.
//!
//! A check that fails asks for help ([`refine`]). The instructions that the value in question comes from are looked up by
//! backtracking ([`suffix`]), and run again with an expression for each register ([`track`], [`symbolic`]); branches on the way become
//! the path condition, the access the refinement condition. The verification is then suspended, as a value ([`suspend`]), until a proof
//! arrives. Everything about a path being unreachable can wait: such paths are dropped at once, their conditions gathered and
//! handed out together.
//!
//! Mirrors patch sets 1 and 6 of BCF. Where they are unsound, [`Options::auto`] is not, see `docs/bcf.md`.

mod exprs;
mod inherited;
mod refine;
mod suffix;
mod suspend;
mod symbolic;
mod track;
mod trail;

pub use exprs::Expr;
pub use suspend::{Step, Suspended, Target};
pub(super) use symbolic::{Fit, Operand};
pub use trail::{Trail, TrailCond, TrailVar};

use std::time::Duration;

use exprs::Exprs;
use inherited::Inherited;
use suffix::Script;
use trail::Notes;

use super::Verifier;

/// How conditions are made.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Options {
    /// Conditions say all that is needed. Otherwise they are those of the published kernel, to the word, which in places say less.
    pub auto: bool,
    /// Conditions describe the path from its beginning, where they can, so that a model is an input of the program.
    pub whole_path: bool,
    /// A person wants to know: every rejection has a condition of its own, even where its parts contradict each other, and a
    /// [`Trail`]. What is proved holds for the one path: that the verification goes on is no acceptance of the program.
    pub explain: bool,
}

/// Conditions of dropped paths that are handed out together at the latest.
const BATCH_SIZE: usize = 16;

/// Instructions of all symbolic runs of a verification; then nothing is asked for any more. Recorded programs stay far below. The
/// published kernel has no such limit, and can be kept busy for hours.
const TRACK_BUDGET: u32 = 1 << 27;

/// Words of expressions beyond which nothing is asked for any more: 256 MiB.
const MAX_WORDS: usize = 1 << 26;

/// State of BCF in a verification: `struct bcf_refine_state`.
pub struct Bcf {
    options: Options,
    exprs: Exprs,
    /// Conditions of the branches that the symbolic run has taken.
    br_conds: Vec<Expr>,
    path_cond: Option<Expr>,
    refine_cond: Option<Expr>,
    /// Conditions of the paths that were dropped since the last request.
    batch: Vec<Expr>,
    /// Words that stay until a proof is accepted: those that the batch needs; as published, also those of attempts that failed.
    kept: usize,
    /// A rejection had a consequence other than that it stands.
    pub(super) engaged: bool,
    /// A condition waits to be handed out.
    requested: bool,
    /// The current path ends here.
    path_unreachable: bool,
    /// The symbolic run found conditions that exclude each other.
    contradiction: bool,
    /// Whether they say opposite things of one expression, so that it does not matter what that is.
    same_expr: bool,
    /// What the symbolic run took over from the state where it began.
    inherited: Inherited,
    /// The symbolic run took one of several ways that the walk took together, see [`Verifier::bcf_stray`].
    stray: bool,
    /// All paths are explored.
    walk_done: bool,
    /// [`Verifier::cur_state`] is where the last round stopped.
    resumed: bool,
    /// The function that is walked, zero for the main program.
    pub(super) subprog: usize,
    /// The path that is followed symbolically.
    script: Script,
    /// For the [`Trail`], where one is wanted.
    notes: Notes,
    /// Size register of the memory argument that is checked, zero for none.
    size_regno: u8,
    /// The memory argument whose access is proved.
    access_checked: Option<CheckedAccess>,
    /// Steps of all backtracking and symbolic runs since a proof was accepted, for the log.
    backtrack_length: u32,
    track_length: u32,
    /// Instructions that symbolic runs may still take.
    track_budget: u32,
    /// Proofs that were accepted.
    check_nth: u32,
    /// Time that checking proofs took.
    pub(super) check_time: Duration,
}

/// An access through a variable pointer of a variable size that is proved to lie in a range.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct CheckedAccess {
    /// Register that holds the size.
    size_regno: u8,
    /// Variable part of the pointer where the range begins.
    off: i64,
    size: i32,
}

impl Bcf {
    pub fn new(options: Options) -> Self {
        Self {
            options,
            exprs: Exprs::default(),
            br_conds: Vec::new(),
            path_cond: None,
            refine_cond: None,
            batch: Vec::new(),
            kept: 0,
            engaged: false,
            requested: false,
            path_unreachable: false,
            contradiction: false,
            same_expr: false,
            inherited: Inherited::default(),
            stray: false,
            walk_done: false,
            resumed: false,
            subprog: 0,
            script: Script::default(),
            notes: Notes::default(),
            size_regno: 0,
            access_checked: None,
            backtrack_length: 0,
            track_length: 0,
            track_budget: TRACK_BUDGET,
            check_nth: 0,
            check_time: Duration::ZERO,
        }
    }

    /// Conditions and answers are those of the published kernel.
    pub(super) fn as_published(&self) -> bool {
        !self.options.auto
    }
}

impl Verifier {
    /// The walk goes on where a proof was asked for: its current state is there already.
    pub(super) fn resumed(&self) -> bool {
        self.bcf.as_ref().is_some_and(|bcf| bcf.resumed)
    }

    /// [`Self::resumed`], asked by the one who does so.
    pub(super) fn take_resumed(&mut self) -> bool {
        self.bcf.as_mut().is_some_and(|bcf| std::mem::take(&mut bcf.resumed))
    }

    /// The symbolic run comes by a place where its state and the walk's may differ: the walk forgets what a loop has changed, or
    /// splits one value in two without a trace in its history. What the run finds would not hold for all that the walk stands for,
    /// which the published kernel does not mind.
    pub(super) fn bcf_stray(&mut self) {
        if let Some(bcf) = self.bcf.as_mut().filter(|_| self.tracking) {
            bcf.stray = true;
        }
    }

    /// How often one instruction may have been refined: for the number of bytes and for where they are, of two memory arguments. The published
    /// kernel's symbolic run tries it once more.
    pub(super) fn refinements_of_insn(&self) -> usize {
        if self.bcf.as_ref().is_some_and(|bcf| bcf.options.auto) { 4 } else { 1 }
    }

    /// The symbolic run can no longer tell the path from others.
    pub(super) fn bcf_lose_path(&mut self) {
        if let Some(bcf) = self.bcf.as_mut().filter(|_| self.tracking) {
            bcf.script.lose();
        }
    }

    /// All paths are explored; what was left to prove, is proved.
    pub(super) fn walk_done(&self) -> bool {
        self.bcf.as_ref().is_some_and(|bcf| bcf.walk_done)
    }

    /// Register `regno` is the size of the memory argument that is checked; zero for none.
    pub(super) fn set_size_regno(&mut self, regno: u8) {
        if let Some(bcf) = &mut self.bcf {
            bcf.size_regno = regno;
        }
    }

    /// Variable offset and size of the range that the memory argument with size register `regno` is proved to lie in.
    pub(super) fn take_checked_access(&mut self, regno: u8) -> Option<(i64, i32)> {
        let bcf = self.bcf.as_mut()?;
        let checked = bcf.access_checked.take_if(|checked| checked.size_regno == regno)?;
        Some((checked.off, checked.size))
    }

    pub(super) fn bcf_requested(&self) -> bool {
        self.bcf.as_ref().is_some_and(|bcf| bcf.requested)
    }

    /// The path to the rejection that ended the walk, where it is wanted.
    pub(super) fn take_trail(&mut self) -> Option<Box<Trail>> {
        self.bcf.as_mut().and_then(|bcf| bcf.notes.trail.take())
    }

    /// Whether the current path ends, because nothing takes it; asked once.
    pub(super) fn take_path_unreachable(&mut self) -> bool {
        self.bcf.as_mut().is_some_and(|bcf| std::mem::take(&mut bcf.path_unreachable))
    }
}
