//! POLY_NORM: two bit-vector terms are one polynomial modulo 2^width.
//!
//! A term is read as a polynomial over its largest subterms that are no arithmetic, its *atoms*. `x = y` is checked by working off
//! `1·x − 1·y`: of all pending monomials the greatest is taken, one of its arithmetic factors replaced by what it stands for, and
//! the monomials that this makes are put back, until all have cancelled or one is left that is made of atoms only.
//!
//! Monomials are compared as descending lists of factors, arithmetic ones above atoms and otherwise by id. Arguments have lower
//! ids than their users, so what replaces a monomial is less than it. When a monomial is taken, all that will ever be added to
//! it has therefore come together: shared subterms are worked off once however often they occur, those that both sides have
//! cancel without being looked into, and the first monomial of atoms that does not vanish decides.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use bpftwin_uapi::bcf::*;
use smallvec::SmallVec;

use super::RuleError;
use crate::bcf::eval::Bv;
use crate::bcf::expr::{Arena, ExprId};

/// Most factors of a monomial.
const MAX_DEGREE: usize = 32;
/// Most monomials that are pending.
const MAX_PENDING: usize = 1 << 14;

/// Checks that `claim` is an equality of two bit-vector terms that are one polynomial, or of two equalities of such terms whose
/// differences are one polynomial, or one the negative of the other. Tells how much work it was, at most `budget`.
///
/// # Errors
/// `TooBig` if the budget or a limit on the polynomials is passed, else `Invalid`.
pub fn check(arena: &Arena, claim: ExprId, budget: u64) -> Result<u64, RuleError> {
    const DIFFERENT: RuleError = RuleError::Invalid("the sides are different polynomials");
    let [left, right] =
        arena.match_op(claim, BCF_BOOL_EQ).ok_or(RuleError::Invalid("the argument is not an equality"))?;
    let mut difference = Difference { arena, pending: BinaryHeap::new(), budget };
    if arena.is_bv(left) {
        if !difference.vanishes(&[left], &[right])? {
            return Err(DIFFERENT);
        }
    } else {
        let equations = (arena.match_op(left, BCF_BOOL_EQ), arena.match_op(right, BCF_BOOL_EQ));
        let (Some([a, b]), Some([c, d])) = equations else { return Err(DIFFERENT) };
        if !arena.is_bv(a) || arena.width(a) != arena.width(c) {
            return Err(DIFFERENT);
        }
        if !difference.vanishes(&[a, d], &[b, c])? && !difference.vanishes(&[a, c], &[b, d])? {
            return Err(DIFFERENT);
        }
    }
    Ok(budget - difference.budget)
}

/// The value of a constant, which may be extended by zeros.
fn constant(arena: &Arena, id: ExprId) -> Option<Bv> {
    let value = |id| arena.bv_value(id).map(|value| Bv::new(arena.width(id), value));
    match arena.match_op(id, BCF_BV_ZERO_EXTEND) {
        Some([narrow]) => value(narrow).map(|value| value.zero_extend(arena.width(id))),
        None => value(id),
    }
}

/// A term as a factor: in the order of ids, but arithmetic above atoms.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Factor {
    arithmetic: bool,
    id: ExprId,
}

impl Factor {
    fn new(arena: &Arena, id: ExprId) -> Factor {
        let arithmetic = match arena.code(id) {
            BCF_BV_ADD | BCF_BV_SUB | BCF_BV_NEG | BCF_BV_MUL | BCF_BV_NOT => true,
            BCF_BV_SHL => arena.args(id).get(1).is_some_and(|&by| constant(arena, by).is_some()),
            _ => false,
        };
        Factor { arithmetic, id }
    }
}

/// Factors, the greatest first.
type Factors = SmallVec<[Factor; 4]>;

/// A monomial that is yet to be worked off.
struct Monomial {
    factors: Factors,
    coefficient: Bv,
}

impl PartialEq for Monomial {
    fn eq(&self, other: &Monomial) -> bool {
        self.factors == other.factors
    }
}

impl Eq for Monomial {}

impl PartialOrd for Monomial {
    fn partial_cmp(&self, other: &Monomial) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Monomial {
    fn cmp(&self, other: &Monomial) -> Ordering {
        self.factors.cmp(&other.factors)
    }
}

/// A sum of monomials that is being worked off.
struct Difference<'a> {
    arena: &'a Arena,
    /// One monomial may be there more than once.
    pending: BinaryHeap<Monomial>,
    budget: u64,
}

impl Difference<'_> {
    /// Whether `plus − minus` is the zero polynomial. There must be a term, and all must be of one width.
    fn vanishes(&mut self, plus: &[ExprId], minus: &[ExprId]) -> Result<bool, RuleError> {
        self.pending.clear();
        let one = Bv::new(self.arena.width(plus[0]), 1);
        for &term in plus {
            self.add(&[], &[term], one)?;
        }
        for &term in minus {
            self.add(&[], &[term], one.neg())?;
        }
        while let Some(Monomial { factors, mut coefficient }) = self.pending.pop() {
            while let Some(same) = self.pending.peek().filter(|other| other.factors == factors) {
                coefficient = coefficient.add(same.coefficient);
                self.pending.pop();
            }
            if coefficient.is_zero() {
                continue;
            }
            match factors.split_first() {
                Some((factor, rest)) if factor.arithmetic => self.replace(factor.id, rest, coefficient)?,
                _ => return Ok(false),
            }
        }
        Ok(true)
    }

    /// Adds `coefficient · term · rest` as what `term`, which is arithmetic, stands for.
    fn replace(&mut self, term: ExprId, rest: &[Factor], coefficient: Bv) -> Result<(), RuleError> {
        let arena = self.arena;
        match (arena.code(term), arena.args(term)) {
            (BCF_BV_ADD, args) => args.iter().try_for_each(|&arg| self.add(rest, &[arg], coefficient)),
            (BCF_BV_SUB, &[a, b]) => {
                self.add(rest, &[a], coefficient)?;
                self.add(rest, &[b], coefficient.neg())
            }
            (BCF_BV_NEG, &[a]) => self.add(rest, &[a], coefficient.neg()),
            // ¬a = −a − 1
            (BCF_BV_NOT, &[a]) => {
                self.add(rest, &[a], coefficient.neg())?;
                self.add(rest, &[], coefficient.neg())
            }
            (BCF_BV_MUL, args) => self.add(rest, args, coefficient),
            (BCF_BV_SHL, &[a, by]) => {
                let by = constant(arena, by).ok_or(RuleError::Invalid("a shift by a constant"))?;
                self.add(rest, &[a], coefficient.shl(by))
            }
            _ => Err(RuleError::Invalid("no arithmetic")),
        }
    }

    /// Adds `coefficient · terms · rest`.
    fn add(&mut self, rest: &[Factor], terms: &[ExprId], mut coefficient: Bv) -> Result<(), RuleError> {
        let work = 1 + rest.len() as u64 + terms.len() as u64;
        self.budget =
            self.budget.checked_sub(work).ok_or(RuleError::TooBig("the polynomials are too much work"))?;
        let mut factors = Factors::from_slice(rest);
        for &term in terms {
            if let Some(value) = constant(self.arena, term) {
                coefficient = coefficient.mul(value);
                continue;
            }
            if factors.len() >= MAX_DEGREE {
                return Err(RuleError::TooBig("the degree of the polynomials is too high"));
            }
            let factor = Factor::new(self.arena, term);
            let at = factors.partition_point(|&other| other > factor);
            factors.insert(at, factor);
        }
        if coefficient.is_zero() {
            return Ok(());
        }
        if self.pending.len() >= MAX_PENDING {
            return Err(RuleError::TooBig("the polynomials have too many monomials"));
        }
        self.pending.push(Monomial { factors, coefficient });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bcf::checker::Policy;
    use crate::bcf::checker::testing::{Param, concludes};
    use crate::bcf::eval::{Evaluator, Value};
    use proptest::prelude::*;

    #[track_caller]
    fn strict(claim: &str) -> Result<bool, i32> {
        concludes(Policy::Strict, "POLY_NORM", &[], &[Param::Term(claim)], claim)
            .map_err(|error| error.errno())
    }

    #[test]
    fn equal_polynomials_are_accepted() {
        for claim in [
            "(= (bvsub a8 b8) (bvadd a8 (bvneg b8)))",
            "(= (bvadd (bvadd a8 #240:8) (concat b4 #0:4)) (bvadd (concat b4 #0:4) #240:8 a8))",
            "(= (bvmul #255:8 (bvsub a8 b8)) (bvmul #1:8 (bvsub b8 a8)))",
            "(= (bvadd (bvneg a8) #1:8 (bvneg a8)) (bvadd (bvmul a8 #254:8) #1:8))",
            "(= (bvmul (bvadd a8 b8) (bvsub a8 b8)) (bvsub (bvmul a8 a8) (bvmul b8 b8)))",
            "(= (bvshl a8 (zero_extend 4 #3:4)) (bvmul #8:8 a8))",
            "(= (bvshl a8 #8:8) #0:8)",
            "(= (bvnot (bvadd a8 b8)) (bvsub (bvnot a8) b8))",
            "(= (bvmul #16:8 a8 (bvshl b8 #4:8)) #0:8)",
            "(= (bvadd a200 (bvmul #12345:200 b200)) (bvsub (bvmul b200 #12345:200) (bvneg a200)))",
            "(= (= (bvadd a8 #1:8) b8) (= #1:8 (bvsub b8 a8)))",
            "(= a8 a8)",
        ] {
            let claim = claim.replace("#12345:200", "(zero_extend 136 #12345:64)");
            assert_eq!(strict(&claim), Ok(true), "{claim}");
        }
    }

    #[test]
    fn others_are_rejected() {
        for claim in [
            "(= a8 b8)",
            "(= (bvadd a8 b8) (bvadd a8 b8 #1:8))",
            "(= (bvsub a8 b8) (bvsub b8 a8))",
            "(= (bvmul a8 b8) (bvadd a8 b8))",
            "(= (bvmul #128:8 a8) #0:8)",
            "(= (zero_extend 4 (bvadd a4 b4)) (bvadd (zero_extend 4 a4) (zero_extend 4 b4)))",
            "(= (bvshl a8 b8) (bvshl b8 a8))",
            "(= (= a8 b8) (= a8 c8))",
            "(= (= a8 b8) (= a4 b4))",
            "(= p q)",
            "(= (= p q) (= q p))",
            "p",
        ] {
            assert_eq!(strict(claim), Err(libc::EINVAL), "{claim}");
        }
    }

    #[test]
    fn the_reference_trusts_equalities_only() {
        let trusts = |claim| concludes(Policy::Reference, "POLY_NORM", &[], &[Param::Term(claim)], claim);
        assert_eq!(trusts("(= a8 b8)"), Ok(true));
        assert_eq!(trusts("(= p q)"), Ok(true));
        assert!(trusts("(distinct a8 b8)").is_err());
    }

    #[test]
    fn sharing_costs_nothing_and_growth_is_bounded() {
        let mut arena = Arena::new();
        let nest = |arena: &mut Arena, code: u8, term: ExprId, depth: usize| {
            (0..depth).fold(term, |term, _| arena.intern(code, 64, &[term, term]))
        };
        let (x, y) = (arena.bv_var(64), arena.bv_var(64));
        let sum = arena.intern(BCF_BV_ADD, 64, &[x, y]);
        let mut answer = |left: ExprId, right: ExprId| {
            let claim = arena.eq(left, right);
            check(&arena, claim, 1 << 20)
        };
        let zero = |arena: &mut Arena| arena.bv_const(64, 0);
        assert!(answer(x, y).is_err());
        let (doubled, zero) = (nest(&mut arena, BCF_BV_ADD, sum, 1000), zero(&mut arena));
        let squared = nest(&mut arena, BCF_BV_MUL, x, 200);
        let product = (0..30).fold(sum, |product, _| {
            let other = arena.bv_var(64);
            let sum = arena.intern(BCF_BV_ADD, 64, &[other, x]);
            arena.intern(BCF_BV_MUL, 64, &[product, sum])
        });
        let mut answer = |left: ExprId| {
            let claim = arena.eq(left, zero);
            check(&arena, claim, 1 << 20)
        };
        assert!(answer(doubled).is_ok_and(|work| work < 10_000));
        assert!(matches!(answer(squared), Err(RuleError::TooBig(_))));
        assert!(matches!(answer(product), Err(RuleError::TooBig(_))));
    }

    /// A polynomial over three variables.
    #[derive(Clone, Debug)]
    enum Poly {
        Variable(usize),
        Constant(u64),
        Node(u8, Vec<Poly>),
    }

    fn poly() -> impl Strategy<Value = Poly> {
        let leaf = prop_oneof![(0usize..3).prop_map(Poly::Variable), any::<u64>().prop_map(Poly::Constant)];
        leaf.prop_recursive(4, 24, 4, |inner| {
            let some = prop::collection::vec(inner.clone(), 2..4);
            prop_oneof![
                (prop_oneof![Just(BCF_BV_ADD), Just(BCF_BV_MUL)], some)
                    .prop_map(|(code, args)| Poly::Node(code, args)),
                (inner.clone(), inner.clone()).prop_map(|(x, y)| Poly::Node(BCF_BV_SUB, vec![x, y])),
                inner.clone().prop_map(|x| Poly::Node(BCF_BV_NEG, vec![x])),
                inner.clone().prop_map(|x| Poly::Node(BCF_BV_NOT, vec![x])),
                (inner, 0u64..9).prop_map(|(x, by)| Poly::Node(BCF_BV_SHL, vec![x, Poly::Constant(by)])),
            ]
        })
    }

    const WIDTH: u8 = 7;

    fn term(arena: &mut Arena, variables: &[ExprId], poly: &Poly) -> ExprId {
        match poly {
            Poly::Variable(at) => variables[*at],
            Poly::Constant(value) => arena.bv_const(WIDTH, *value),
            Poly::Node(code, args) => {
                let args: Vec<_> = args.iter().map(|arg| term(arena, variables, arg)).collect();
                arena.intern(*code, WIDTH.into(), &args)
            }
        }
    }

    /// The same in other words: sums and products turned around and regrouped, negations as products.
    fn reworded(arena: &mut Arena, variables: &[ExprId], poly: &Poly) -> ExprId {
        let Poly::Node(code, args) = poly else { return term(arena, variables, poly) };
        let mut args: Vec<_> = args.iter().map(|arg| reworded(arena, variables, arg)).collect();
        let width = u16::from(WIDTH);
        let minus = arena.bv_const(WIDTH, u64::MAX);
        match *code {
            BCF_BV_ADD | BCF_BV_MUL => {
                args.reverse();
                let (first, rest) = (args[0], &args[1..]);
                rest.iter().fold(first, |acc, &arg| arena.intern(*code, width, &[acc, arg]))
            }
            BCF_BV_SUB => {
                let negative = arena.intern(BCF_BV_MUL, width, &[args[1], minus]);
                arena.intern(BCF_BV_ADD, width, &[negative, args[0]])
            }
            BCF_BV_NEG => arena.intern(BCF_BV_MUL, width, &[minus, args[0]]),
            BCF_BV_NOT => arena.intern(BCF_BV_SUB, width, &[minus, args[0]]),
            code => arena.intern(code, width, &args),
        }
    }

    proptest! {
        #[test]
        fn other_words_are_accepted_and_other_values_rejected(
            left in poly(),
            right in poly(),
            values: [u8; 3],
        ) {
            let mut arena = Arena::new();
            let variables = [(); 3].map(|()| arena.bv_var(WIDTH));
            let [x, other, y] = [
                term(&mut arena, &variables, &left),
                reworded(&mut arena, &variables, &left),
                term(&mut arena, &variables, &right),
            ];
            let mut answer = |x, y| {
                let claim = arena.eq(x, y);
                check(&arena, claim, 1 << 20)
            };
            prop_assert!(matches!(answer(x, other), Ok(_) | Err(RuleError::TooBig(_))));
            let related = answer(x, y).is_ok();
            let mut evaluator = Evaluator::new();
            for (&variable, value) in variables.iter().zip(values) {
                evaluator.assign(variable, Value::Bv(Bv::new(WIDTH, value.into())));
            }
            let [vx, vo, vy] = [x, other, y].map(|term| evaluator.eval(&arena, term));
            prop_assert_eq!(vx, vo);
            prop_assert!(!related || vx == vy);
        }
    }
}
