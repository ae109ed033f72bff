//! The condition of a rejection: whether it can be met, by which values, and what refutes it.

use std::time::{Duration, Instant};

use bpftwin_uapi::bcf::*;

use crate::bcf::checker::{self, Policy};
use crate::bcf::eval::{Bv, Value};
use crate::bcf::expr::{Arena, ExprId, IdMap};
use crate::bcf::prover::{self, Limits, Model, Verdict};
use crate::bcf::request::Goal;
use crate::verifier::bcf::{Target, Trail, TrailCond, TrailVar};

/// Time for finding out what a proof needs.
const CORE_TIME: Duration = Duration::from_millis(1500);
/// Conjuncts beyond which that is not tried.
const MAX_CORE: usize = 200;

/// The condition of a rejection, with what its parts are about.
pub struct Condition {
    arena: Arena,
    ids: IdMap,
    path: Option<ExprId>,
    refine: Option<ExprId>,
    pub vars: Vec<TrailVar>,
    pub conds: Vec<TrailCond>,
}

/// A condition that is refuted.
pub struct Refuted {
    pub target: Target,
    pub proof: Vec<u8>,
    pub prove_time: Duration,
    pub check_time: Duration,
}

/// The answer about a condition.
pub enum Answer {
    Refuted(Box<Refuted>),
    /// A value for each variable that has one.
    Met(Vec<(TrailVar, u64)>),
    Unknown(String),
}

/// A bound, as a person writes it.
pub struct Bound {
    /// Index into [`Condition::vars`].
    pub var: usize,
    pub op: &'static str,
    pub value: i128,
}

impl Condition {
    /// Reads a request.
    pub fn new(words: &[u32], trail: Option<&Trail>) -> Option<Condition> {
        let (exprs, &[path, refine]) = words.split_last_chunk()?;
        let (arena, ids) = Arena::parse(exprs).ok()?;
        let root = |id: u32| ids.get(id).filter(|&root| arena.is_bool(root));
        let (path, refine) = (root(path), root(refine));
        let (vars, conds) = trail.map(|trail| (trail.vars.clone(), trail.conds.clone())).unwrap_or_default();
        Some(Condition { path, refine, vars, conds, arena, ids })
    }

    /// Asks the prover.
    pub fn answer(&self, limits: &Limits) -> Answer {
        let mut why = "there is no condition".to_owned();
        for (root, target) in [(self.path, Target::PathUnreachable), (self.refine, Target::Refine)] {
            let Some(root) = root else { continue };
            let start = Instant::now();
            match prover::prove(&self.arena, root, limits) {
                Verdict::Proved(words) => return self.refuted(root, target, &words, start.elapsed()),
                Verdict::Refuted(model) if target == Target::Refine || self.refine.is_none() => {
                    return Answer::Met(self.values(&self.arena, &model));
                }
                Verdict::Refuted(_) => {}
                Verdict::Unknown(reason) => why = reason,
            }
        }
        Answer::Unknown(why)
    }

    fn refuted(&self, root: ExprId, target: Target, words: &[u32], prove_time: Duration) -> Answer {
        let proof: Vec<u8> = bytemuck::cast_slice(words).to_vec();
        let start = Instant::now();
        let goal = Goal { arena: &self.arena, root };
        match checker::check_bytes(&proof, Some(goal), Policy::Strict) {
            Err(error) => Answer::Unknown(error.to_string()),
            Ok(_) => {
                let check_time = start.elapsed();
                Answer::Refuted(Box::new(Refuted { target, proof, prove_time, check_time }))
            }
        }
    }

    /// Values under which the condition and all of `equal` hold: variables that have the same value, or a value.
    pub fn met_with(&self, equal: &[(TrailVar, Equal)], limits: &Limits) -> Answer {
        let mut arena = self.arena.clone();
        let Some(root) = self.refine.or(self.path) else {
            return Answer::Unknown("there is no condition".into());
        };
        let mut parts = vec![root];
        for (var, other) in equal {
            let Some(id) = self.ids.get(var.id) else { continue };
            let width = arena.width(id);
            let other = match other {
                Equal::Var(other) => self.ids.get(other.id).filter(|&other| arena.width(other) == width),
                Equal::Value(value) => {
                    Some(arena.bv_const(width, Bv::new(width, *value).to_u64().unwrap_or(*value)))
                }
            };
            if let Some(other) = other.filter(|&other| other != id) {
                parts.push(arena.eq(id, other));
            }
        }
        let root = conjunction(&mut arena, &parts);
        match prover::prove(&arena, root, limits) {
            Verdict::Proved(_) => Answer::Unknown(String::new()),
            Verdict::Refuted(model) => Answer::Met(self.values(&arena, &model)),
            Verdict::Unknown(why) => Answer::Unknown(why),
        }
    }

    /// The model's values, as registers hold them.
    fn values(&self, arena: &Arena, model: &Model) -> Vec<(TrailVar, u64)> {
        let value = |var: &TrailVar| {
            let id = self.ids.get(var.id)?;
            let (_, value) = model.values.iter().find(|(of, _)| *of == id)?;
            let Value::Bv(bits) = value else { return None };
            let bits = bits.to_u64()?;
            let extended =
                if arena.width(id) == 32 && var.signed { bits as u32 as i32 as i64 as u64 } else { bits };
            Some((*var, extended))
        };
        self.vars.iter().filter_map(value).collect()
    }

    /// The bound that a conjunct is, if it is one.
    pub fn bound(&self, cond: &TrailCond) -> Option<Bound> {
        let id = self.ids.get(cond.id)?;
        let &[left, right] = self.arena.args(id) else { return None };
        let var = self.vars.iter().position(|var| self.ids.get(var.id) == Some(left))?;
        let value = self.arena.bv_value(right)?;
        let (op, is_signed) = match self.arena.code(id) {
            BCF_BOOL_UGE => ("≥", false),
            BCF_BOOL_ULE => ("≤", false),
            BCF_BOOL_SGE => ("s≥", true),
            BCF_BOOL_SLE => ("s≤", true),
            _ => return None,
        };
        let value = match (is_signed, self.arena.width(right)) {
            (false, _) => value.into(),
            (true, 32) => (value as u32 as i32).into(),
            (true, _) => (value as i64).into(),
        };
        Some(Bound { var, op, value })
    }

    /// Variables that a conjunct speaks of, as indices into [`Condition::vars`].
    pub fn vars_of(&self, cond: &TrailCond) -> Vec<usize> {
        let Some(root) = self.ids.get(cond.id) else { return Vec::new() };
        let mut seen = std::collections::HashSet::new();
        let mut stack = vec![root];
        let mut vars = Vec::new();
        while let Some(id) = stack.pop() {
            if !seen.insert(id) {
                continue;
            }
            vars.extend(self.vars.iter().position(|var| self.ids.get(var.id) == Some(id)));
            stack.extend(self.arena.args(id));
        }
        vars.sort_unstable();
        vars
    }

    /// Conjuncts of the path condition that a proof of `target` needs, as indices into [`conds`](Self::conds): as many as can be are
    /// left out. None where they are too many.
    pub fn core(&self, target: Target) -> Vec<usize> {
        let ids: Vec<Option<ExprId>> = self.conds.iter().map(|cond| self.ids.get(cond.id)).collect();
        let mut kept: Vec<usize> = (0..ids.len()).filter(|&i| ids[i].is_some()).collect();
        if kept.len() > MAX_CORE {
            return Vec::new();
        }
        let access = match (target, self.refine, self.path) {
            // A conjunction of the path condition and the access.
            (Target::Refine, Some(refine), Some(_)) => self.arena.args(refine).last().copied(),
            (Target::Refine, refine, _) => refine,
            _ => None,
        };
        let deadline = Instant::now() + CORE_TIME;
        let limits =
            Limits { timeout: Duration::from_millis(200), effort: Duration::ZERO, ..Limits::default() };
        let mut chunk = kept.len().div_ceil(2).max(1);
        loop {
            let mut at = 0;
            while at < kept.len() && Instant::now() < deadline {
                let end = (at + chunk).min(kept.len());
                let rest: Vec<usize> = [&kept[..at], &kept[end..]].concat();
                let mut arena = self.arena.clone();
                let parts: Vec<ExprId> =
                    access.into_iter().chain(rest.iter().filter_map(|&i| ids[i])).collect();
                let root = conjunction(&mut arena, &parts);
                if matches!(prover::prove(&arena, root, &limits), Verdict::Proved(_)) {
                    kept = rest;
                } else {
                    at = end;
                }
            }
            if chunk == 1 {
                return kept;
            }
            chunk = chunk.div_ceil(2);
        }
    }
}

/// What a variable is equal to.
pub enum Equal {
    Var(TrailVar),
    Value(u64),
}

/// All of `parts`; in conjunctions of at most as many as one can hold.
fn conjunction(arena: &mut Arena, parts: &[ExprId]) -> ExprId {
    match *parts {
        [] => arena.truth(true),
        [part] => part,
        _ if parts.len() <= usize::from(u8::MAX) => arena.intern(BCF_BOOL_AND, 0, parts),
        _ => {
            let (left, right) = parts.split_at(parts.len() / 2);
            let pair = [conjunction(arena, left), conjunction(arena, right)];
            arena.intern(BCF_BOOL_AND, 0, &pair)
        }
    }
}
