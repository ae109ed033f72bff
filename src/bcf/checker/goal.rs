//! Whether what a proof assumes is the goal.

use rustc_hash::FxHashMap;

use super::{Policy, RuleError, ensure};
use crate::bcf::expr::{Arena, ExprId};
use crate::bcf::request::Goal;

/// Levels of terms, and variables below the root, that the published checker compares.
const REFERENCE_LEVELS: u32 = 128;
const REFERENCE_VARIABLES: usize = 256;

/// Checks that a term is the goal but for the names of variables: two variables of the one are never the same of the other.
///
/// # Errors
/// EINVAL if they differ, or if under [`Policy::Reference`] the goal is too deep or has too many variables.
pub fn matches(arena: &Arena, assumed: ExprId, goal: Goal<'_>, policy: Policy) -> Result<(), RuleError> {
    // As both sides have one node for each term, the renaming takes a node to one node only, and no two to the same.
    let mut renamed = FxHashMap::default();
    let mut variables = FxHashMap::default();
    let mut pairs = vec![(assumed, goal.root)];
    while let Some((x, y)) = pairs.pop() {
        if let Some(&known) = renamed.get(&x) {
            ensure(known == y, "the assumption must be the goal")?;
            continue;
        }
        ensure(arena.head(x) == goal.arena.head(y), "the assumption must be the goal")?;
        if arena.is_variable(x) {
            ensure(variables.insert(y, x).is_none(), "two variables of the assumption are one in the goal")?;
        }
        let (args, goal_args) = (arena.args(x), goal.arena.args(y));
        if args.is_empty() {
            let values = arena.words(x) == goal.arena.words(y);
            ensure(values, "the assumption must be the goal")?;
        }
        renamed.insert(x, y);
        pairs.extend(args.iter().copied().zip(goal_args.iter().copied()));
    }
    if policy == Policy::Reference {
        let below_root = variables.len() - usize::from(arena.is_variable(assumed));
        ensure(below_root <= REFERENCE_VARIABLES, "the goal has too many variables")?;
        ensure(levels(arena, assumed) <= REFERENCE_LEVELS, "the goal is too deep")?;
    }
    Ok(())
}

/// Nodes with arguments on the longest way down.
fn levels(arena: &Arena, root: ExprId) -> u32 {
    let mut levels = FxHashMap::default();
    for id in arena.reachable(&[root]) {
        let args = arena.args(id);
        let below = args.iter().filter_map(|arg| levels.get(arg)).max();
        levels.insert(id, below.map_or(0, |below: &u32| below + 1));
    }
    levels.get(&root).copied().unwrap_or(0)
}
