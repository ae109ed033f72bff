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

#[cfg(test)]
mod tests {
    use bpftwin_uapi::bcf::*;

    use super::super::testing::MiniProof;
    use super::*;

    fn matches(assumed: &str, goal: &str) -> bool {
        // Variables of the goal are other nodes.
        let (mut proof, mut request) = (MiniProof::new(), MiniProof::new());
        request.term("(= unused8 (bvnot unused8))");
        let (assumed, root) = (proof.term(assumed), request.term(goal));
        let goal = Goal { arena: &request.arena, root };
        let answers = [Policy::Strict, Policy::Reference]
            .map(|policy| super::matches(&proof.arena, assumed, goal, policy).is_ok());
        assert_eq!(answers[0], answers[1]);
        answers[0]
    }

    #[test]
    fn variables_are_renamed_one_to_one() {
        assert!(matches("p", "q"));
        assert!(matches("(bvult a8 b8)", "(bvult b8 a8)"));
        assert!(matches("(and p (or q p))", "(and q (or p q))"));
        assert!(matches("true", "true"));
        assert!(!matches("(bvult a8 a8)", "(bvult a8 b8)"));
        assert!(!matches("(bvult a8 b8)", "(bvult a8 a8)"));
        assert!(!matches("(and (bvult a8 b8) (bvult b8 c8))", "(and (bvult a8 b8) (bvult c8 b8))"));
        assert!(!matches("(bit 0 a8)", "(bit 0 a9)"));
        assert!(!matches("(bit 0 a8)", "(bit 1 a8)"));
        assert!(!matches("(= a8 #1:8)", "(= a8 #2:8)"));
        assert!(!matches("(and p q)", "(and p q q)"));
        assert!(!matches("true", "false"));
        assert!(!matches("true", "p"));
    }

    #[test]
    fn limits_of_the_published_checker() {
        let answers = |make: &dyn Fn(&mut Arena) -> ExprId| {
            let (mut proof, mut request) = (Arena::new(), Arena::new());
            let (assumed, root) = (make(&mut proof), make(&mut request));
            let goal = Goal { arena: &request, root };
            [Policy::Strict, Policy::Reference]
                .map(|policy| super::matches(&proof, assumed, goal, policy).is_ok())
        };
        // Each level uses the one below twice, and there are no more pairs than levels.
        let deep = |levels: usize| {
            move |arena: &mut Arena| {
                let leaf = arena.bool_var();
                (0..levels).fold(leaf, |term, _| arena.intern(BCF_BOOL_AND, 0, &[term, term]))
            }
        };
        assert_eq!(answers(&deep(128)), [true, true]);
        assert_eq!(answers(&deep(129)), [true, false]);
        let wide = |variables: usize| {
            move |arena: &mut Arena| {
                let all: Vec<ExprId> = (0..variables).map(|_| arena.bool_var()).collect();
                let (half, rest) = all.split_at(variables / 2);
                let halves = [half, rest].map(|half| arena.intern(BCF_BOOL_AND, 0, half));
                arena.intern(BCF_BOOL_AND, 0, &halves)
            }
        };
        assert_eq!(answers(&wide(256)), [true, true]);
        assert_eq!(answers(&wide(257)), [true, false]);
    }
}
