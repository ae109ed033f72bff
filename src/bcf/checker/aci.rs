//! Rules about operators that are associative, and most of them commutative and idempotent.

use bpftwin_uapi::bcf::*;
use rustc_hash::FxHashSet;

use super::{Checker, Fact, Policy, RuleError, ensure, shape};
use crate::bcf::expr::{Arena, ExprId, MAX_ARGS, low_mask};
use crate::bcf::proof::Step;

type Result<T> = std::result::Result<T, RuleError>;

/// Levels of one operator that the published checker looks through.
const REFERENCE_DEPTH: usize = 64;

/// What holds of an operator.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Laws {
    /// Associative.
    A,
    /// And commutative.
    Ac,
    /// And idempotent.
    Aci,
}

fn laws(code: u8) -> Option<Laws> {
    match code {
        BCF_BOOL_AND | BCF_BOOL_OR | BCF_BV_AND | BCF_BV_OR => Some(Laws::Aci),
        BCF_BV_XOR => Some(Laws::Ac),
        // The published checker sorts these too, and so finds that a concatenation's parts may be swapped.
        BCF_BV_CONCAT => Some(Laws::A),
        _ => None,
    }
}

/// ⊢ x = y, both being one expression up to the laws of their operator
pub(super) fn aci_norm(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([], [claim]) = shape(step)?;
    let claim = checker.term(claim)?;
    let [x, y] = checker.parts(claim, BCF_BOOL_EQ, "expects an equality")?;
    let (normal_x, normal_y) = (checker.flattened(x)?, checker.flattened(y)?);
    let same = match (normal_x, normal_y) {
        _ if x == y => true,
        (Some(mut normal_x), Some(mut normal_y)) if checker.arena.code(x) == checker.arena.code(y) => {
            if laws(checker.arena.code(x)) != Some(Laws::A) {
                normal_x.sort_unstable();
                normal_y.sort_unstable();
            }
            normal_x == normal_y
        }
        (normal_x, normal_y) => {
            checker.is_only(x, normal_x.as_deref(), y) || checker.is_only(y, normal_y.as_deref(), x)
        }
    };
    ensure(same, "the normal forms must be the same")?;
    Ok(Fact::Expr(claim))
}

/// ⊢ x = z, z being the constant that absorbs everything under x's operator, and an argument of x, if need be through nested uses
/// of that operator
pub(super) fn absorb(checker: &mut Checker<'_>, step: &Step<'_>) -> Result<Fact> {
    let ([], [claim]) = shape(step)?;
    let claim = checker.term(claim)?;
    let [x, zero] = checker.parts(claim, BCF_BOOL_EQ, "expects an equality")?;
    ensure(is_absorbing(&checker.arena, x, zero), "the right side must be the absorbing constant")?;
    checker.ensure_has_argument(x, zero)?;
    Ok(Fact::Expr(claim))
}

fn is_absorbing(arena: &Arena, x: ExprId, zero: ExprId) -> bool {
    match arena.code(x) {
        BCF_BOOL_OR => zero == arena.truth(true),
        BCF_BOOL_AND => zero == arena.truth(false),
        BCF_BV_AND => arena.bv_value(zero) == Some(0),
        BCF_BV_OR => arena.bv_value(zero) == Some(low_mask(arena.width(x))),
        _ => false,
    }
}

/// Whether an argument of `x` makes no difference to it.
fn is_neutral(arena: &Arena, x: ExprId, arg: ExprId) -> bool {
    match arena.code(x) {
        BCF_BOOL_OR => arg == arena.truth(false),
        BCF_BOOL_AND => arg == arena.truth(true),
        BCF_BV_AND => arena.bv_value(arg) == Some(low_mask(arena.width(x))),
        BCF_BV_OR | BCF_BV_XOR => arena.bv_value(arg) == Some(0),
        _ => false,
    }
}

impl Checker<'_> {
    /// Whether `x`, which has this normal form, is just `y`.
    fn is_only(&self, x: ExprId, normal: Option<&[ExprId]>, y: ExprId) -> bool {
        match normal {
            Some([]) => is_neutral(&self.arena, x, y),
            Some(&[only]) => only == y,
            _ => false,
        }
    }

    /// The arguments of nested uses of one operator, without neutral ones and, as far as that is a law, without those that occurred
    /// before; `None` where the operator is not even associative.
    fn flattened(&mut self, root: ExprId) -> Result<Option<Vec<ExprId>>> {
        let code = self.arena.code(root);
        let Some(laws) = laws(code) else { return Ok(None) };
        let mut normal: Vec<ExprId> = Vec::new();
        // Nested nodes that add nothing when they are met again.
        let mut idle = FxHashSet::default();
        // Nodes on the way down: the next argument, and the length of the normal form when it began.
        let mut path = vec![(root, 0, 0)];
        while let Some((id, next, before)) = path.pop() {
            let Some(&arg) = self.arena.args(id).get(next) else {
                if laws == Laws::Aci || normal.len() == before {
                    idle.insert(id);
                }
                continue;
            };
            path.push((id, next + 1, before));
            // Looking for duplicates is a part of the visit.
            self.spend(1 + normal.len() as u64 / 16)?;
            if is_neutral(&self.arena, root, arg) {
                continue;
            }
            if self.arena.code(arg) == code {
                if !idle.contains(&arg) {
                    if self.policy == Policy::Reference && path.len() >= REFERENCE_DEPTH {
                        return Err(RuleError::TooBig("the operator is nested too deeply"));
                    }
                    path.push((arg, 0, normal.len()));
                }
                continue;
            }
            if laws == Laws::Aci && normal.contains(&arg) {
                continue;
            }
            if normal.len() >= MAX_ARGS {
                return Err(RuleError::TooBig("the normal form gets more than 255 arguments"));
            }
            normal.push(arg);
        }
        Ok(Some(normal))
    }

    /// Whether `zero` is an argument of `root`, or of a node of the same operator that is.
    fn ensure_has_argument(&mut self, root: ExprId, zero: ExprId) -> Result<()> {
        let code = self.arena.code(root);
        let mut seen = FxHashSet::default();
        let mut path = vec![(root, 0)];
        while let Some((id, next)) = path.pop() {
            let Some(&arg) = self.arena.args(id).get(next) else { continue };
            path.push((id, next + 1));
            self.spend(1)?;
            if arg == zero {
                return Ok(());
            }
            if self.arena.code(arg) == code && seen.insert(arg) {
                if self.policy == Policy::Reference && path.len() >= REFERENCE_DEPTH {
                    return Err(RuleError::TooBig("the operator is nested too deeply"));
                }
                path.push((arg, 0));
            }
        }
        Err(RuleError::Invalid("the absorbing constant must be an argument"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Param::{Term, Word};
    use super::super::testing::{MiniProof, accepts, concludes, rejects};
    use super::*;
    use crate::bcf::checker::CheckError;

    fn normal(x: &str, y: &str) {
        for claim in [format!("(= {x} {y})"), format!("(= {y} {x})")] {
            accepts("ACI_NORM", &[], &[Term(&claim)], &claim);
        }
    }

    fn different(x: &str, y: &str) {
        rejects("ACI_NORM", &[], &[Term(&format!("(= {x} {y})"))]);
    }

    #[test]
    fn aci_norm() {
        normal("(or p (or q p) false)", "(or q p)");
        normal("(and p true)", "p");
        normal("(and true true)", "true");
        normal("(and (and p q) (and q r))", "(and p q r)");
        normal("(bvand a8 #255:8 (bvand b8 a8))", "(bvand b8 a8)");
        normal("(bvor a8 #0:8)", "a8");
        normal("(bvxor a8 (bvxor b8 #0:8) a8)", "(bvxor a8 a8 b8)");
        normal("(bvxor #0:8 #0:8)", "#0:8");
        normal("(concat a8 (concat b8 c8))", "(concat (concat a8 b8) c8)");
        normal("a8", "a8");
        different("(or p q)", "(or p r)");
        different("(or p q)", "(and p q)");
        different("(or p p)", "q");
        different("(bvxor a8 a8)", "a8");
        different("(bvxor a8 a8 b8)", "(bvxor a8 b8)");
        different("(bvadd a8 b8)", "(bvadd b8 a8)");
        different("(and p false)", "p");
        rejects("ACI_NORM", &[], &[Term("(or p q)")]);
    }

    /// The published checker sorts the parts.
    #[test]
    fn concatenation_is_not_commutative() {
        different("(concat a8 b8)", "(concat b8 a8)");
        different("(concat a8 (concat b8 c8))", "(concat a8 c8 b8)");
    }

    /// The published checker sorts the arguments of what is left, whatever it is.
    #[test]
    fn a_lone_argument_is_not_sorted() {
        different("(or (bvult a8 b8) false)", "(or (bvult b8 a8) false)");
        different("(bvand (bvsub a8 b8) #255:8)", "(bvand (bvsub b8 a8) #255:8)");
    }

    #[test]
    fn absorb() {
        for claim in [
            "(= (or p (or q true)) true)",
            "(= (and p false) false)",
            "(= (bvand a8 (bvand b8 #0:8)) #0:8)",
            "(= (bvor a8 #255:8) #255:8)",
        ] {
            accepts("ABSORB", &[], &[Term(claim)], claim);
        }
        for claim in [
            "(= (or p q) true)",
            "(= (or p (and q true)) true)",
            "(= (or p false) false)",
            "(= (bvor a8 #0:8) #0:8)",
            "(= (bvxor a8 #0:8) #0:8)",
            "(= true (or p true))",
            "(or p true)",
        ] {
            rejects("ABSORB", &[], &[Term(claim)]);
        }
    }

    fn nested(depth: usize, innermost: &str) -> String {
        let names = ["p", "q"];
        (0..depth).fold(innermost.to_owned(), |term, i| format!("(or {} {term})", names[i % 2]))
    }

    /// The published checker's stack overflows.
    #[test]
    fn nested_a_hundred_levels() {
        for (rule, claim) in [
            ("ABSORB", format!("(= {} true)", nested(100, "true"))),
            ("ACI_NORM", format!("(= {} (or p q))", nested(100, "q"))),
        ] {
            let by = |policy| concludes(policy, rule, &[], &[Term(&claim)], &claim);
            assert_eq!(by(Policy::Strict), Ok(true));
            assert_eq!(by(Policy::Reference).map_err(|error| error.errno()), Err(libc::E2BIG));
        }
    }

    /// A large claim that is made again and again would take time out of proportion to the proof's size.
    #[test]
    fn large_claims_are_not_made_again_and_again() {
        let answer = |claims| {
            let mut proof = MiniProof::new();
            let leaves: Vec<_> = (0..250).map(|i| proof.term(&format!("p{}", "x".repeat(i)))).collect();
            let nested = (0..4000).fold(leaves[0], |term, i| {
                proof.arena.intern(BCF_BOOL_AND, 0, &[term, leaves[i % leaves.len()]])
            });
            let claim = proof.arena.eq(nested, nested);
            let goal = proof.step("ASSUME", &[], &[Term("p")]);
            let claims: Vec<_> = (0..claims).map(|_| proof.step("ACI_NORM", &[], &[Word(claim.0)])).collect();
            let claims = proof.step("AND_INTRO", &claims, &[]);
            proof.step("AND_INTRO", &[goal, claims], &[]);
            proof.check(Policy::Strict).map_err(|error| error.errno())
        };
        assert_eq!(answer(3), Err(libc::EINVAL));
        assert_eq!(answer(100), Err(libc::E2BIG));
    }

    /// Terms that double 60 times are 60 nodes.
    #[test]
    fn shared_arguments_are_walked_once() {
        let errno = |rule, leaf: &str, code, other: &str| {
            let mut proof = MiniProof::new();
            let (leaf, other) = (proof.term(leaf), proof.term(other));
            let width = proof.arena.width(leaf).into();
            let doubled = (0..60).fold(leaf, |term, _| proof.arena.intern(code, width, &[term, term]));
            let claim = proof.arena.eq(doubled, other);
            let goal = proof.step("ASSUME", &[], &[Term("p")]);
            let claim = proof.step(rule, &[], &[Word(claim.0)]);
            proof.step("AND_INTRO", &[goal, claim], &[]);
            match proof.check(Policy::Strict) {
                Err(CheckError::NoRefutation(2)) => 0,
                Err(error) => error.errno(),
                Ok(_) => panic!("p is refuted"),
            }
        };
        assert_eq!(errno("ACI_NORM", "p", BCF_BOOL_AND, "p"), 0);
        assert_eq!(errno("ACI_NORM", "#0:8", BCF_BV_XOR, "#0:8"), 0);
        assert_eq!(errno("ACI_NORM", "a8", BCF_BV_XOR, "#0:8"), libc::E2BIG);
        assert_eq!(errno("ABSORB", "p", BCF_BOOL_AND, "false"), libc::EINVAL);
    }
}
