//! BITBLAST: a bit-vector term equals the vector of its bits, each a Boolean circuit over the bits of its arguments.
//!
//! The step claims `t = b`. `t` is one operator over arguments that are bits already (`from_bool` nodes), or a variable or
//! constant; `b` is a `from_bool` of circuits, or, when `t` is a comparison, one circuit. The circuits are fixed, gate by gate, and
//! unsimplified. With `a`, `b` the arguments' bits, least significant first, and `x_i = a_i ⊕ b_i`:
//!
//! | term | bit `i` |
//! | --- | --- |
//! | variable `v` | `bit-of(i, v)` |
//! | `bvand`, `bvor`, `bvxor` | `(a_i ∘ b_i) ∘ c_i …`, from the left |
//! | `bvadd` | `x_i ⊕ k_i`, `k_0 = false`, `k_(i+1) = (a_i ∧ b_i) ∨ (x_i ∧ k_i)`; further arguments are added to the sum |
//! | `bvsub`, `bvneg` | the same of `a` and `¬b` (of `¬a` and zero) with `k_0 = true` |
//! | `bvmul` | row by row: to bits `k…` of the sum so far is added `b_k ∧ a_0, b_k ∧ a_1, …` |
//! | shifts | `ite(b < width, stage, fill)`; a stage for each power of two, the smallest innermost |
//! | `ite(c, a, b)` | `(¬c ∨ a_i) ∧ (c ∨ b_i)` |
//! | the others | copies of bits |
//!
//! A comparison starts at the lowest bit, `¬a_0 ∧ b_0` (for "or equal" also `∨ (a_0 = b_0)`), and every further bit makes
//! `((a_i = b_i) ∧ below) ∨ (¬a_i ∧ b_i)`; with `a`, `b` exchanged at a sign bit.
//!
//! One description makes circuits ([`blast`]) and checks them ([`check`]): it is written over [`Gates`]. To check, no gate needs to be
//! searched: the claimed circuit is taken apart from the outputs down ([`Gates::input`]), then compared from the inputs up.

mod circuits;

use bpftwin_uapi::bcf::*;
use circuits::{comparison, vector};
use smallvec::SmallVec;

use super::{Policy, RuleError};
use crate::bcf::expr::{Arena, ExprId};

type Bits = SmallVec<[ExprId; 64]>;
type Hints<G> = SmallVec<[<G as Gates>::Hint; 64]>;

/// The circuit of a term, made by [`blast`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Blasted {
    /// A `from_bool` node for a bit-vector term, a formula for a comparison.
    pub id: ExprId,
    /// Whether the published checker knows the shape too; otherwise only [`Policy::Strict`] accepts the step.
    pub reference: bool,
}

/// The bits of a `from_bool` node, least significant first.
pub fn bits(arena: &Arena, id: ExprId) -> Option<&[ExprId]> {
    (arena.code(id) == BCF_BV_FROM_BOOL).then(|| arena.args(id))
}

/// Makes the circuit with which BITBLAST accepts `term = circuit`. Arguments of `term` that are bit-vectors must be `from_bool` nodes.
///
/// `None` if they are not, or if no policy has a circuit for the operator (division, `bvsize`, Boolean connectives).
pub fn blast(arena: &mut Arena, term: ExprId) -> Option<Blasted> {
    known_shape(arena, term, Policy::Strict).ok()?;
    let reference = known_shape(arena, term, Policy::Reference).is_ok();
    let id = if arena.is_bv(term) {
        let bits = vector(&mut Builder(arena), term, ())?;
        arena.intern(BCF_BV_FROM_BOOL, 0, &bits)
    } else {
        comparison(&mut Builder(arena), term, ())?
    };
    Some(Blasted { id, reference })
}

/// Checks that BITBLAST accepts `claim`, an equality `term = circuit`, and tells how many gates it looked at.
///
/// # Errors
/// `Unsupported` for operators that have no circuit (under the reference policy also for multiplication), else `Invalid`.
pub fn check(arena: &Arena, claim: ExprId, policy: Policy) -> Result<u64, RuleError> {
    let [term, circuit] =
        arena.match_op(claim, BCF_BOOL_EQ).ok_or(RuleError::Invalid("the argument is not an equality"))?;
    let gates = &mut Claimed { arena, visited: 0 };
    let equal = if arena.is_bv(term) {
        let claimed = bits(arena, circuit).ok_or(RuleError::Invalid("the right side is not made of bits"))?;
        known_shape(arena, term, policy)?;
        vector(gates, term, circuit).is_some_and(|bits| *bits == *claimed)
    } else {
        known_shape(arena, term, policy)?;
        comparison(gates, term, circuit) == Some(circuit)
    };
    let visited = gates.visited;
    if equal { Ok(visited) } else { Err(RuleError::Invalid("the right side is not the circuit of the term")) }
}

/// Whether the policy has a circuit for the term's operator over arguments like these.
fn known_shape(arena: &Arena, term: ExprId, policy: Policy) -> Result<(), RuleError> {
    let code = arena.code(term);
    let args = arena.args(term);
    let blasted = |arg: ExprId| bits(arena, arg).is_some();
    // A condition stays as it is, and bits are Boolean.
    let operands = match code {
        BCF_BV_ITE if args.first().is_some_and(|&cond| arena.is_bool(cond)) => &args[1..],
        BCF_BV_FROM_BOOL => &[],
        _ => args,
    };
    if !operands.iter().all(|&arg| blasted(arg)) {
        return Err(RuleError::Invalid("an argument of the term is not made of bits"));
    }
    let strict = policy == Policy::Strict;
    let known = match code {
        BCF_BV_VAR | BCF_BV_CONST | BCF_BV_NOT | BCF_BV_OR | BCF_BV_ADD | BCF_BV_SUB | BCF_BV_NEG
        | BCF_BV_SHL | BCF_BV_LSHR | BCF_BV_ASHR | BCF_BV_CONCAT | BCF_BV_EXTRACT | BCF_BV_SIGN_EXTEND
        | BCF_BOOL_ULT | BCF_BOOL_ULE => true,
        // The published checker looks for wrong gates in these.
        BCF_BV_AND | BCF_BV_XOR => strict,
        BCF_BV_ZERO_EXTEND | BCF_BV_REPEAT | BCF_BV_FROM_BOOL => strict,
        BCF_BV_ITE => strict || operands.len() == 2,
        // It wants a conjunction of all bits' equalities, and a bit below the sign.
        BCF_BOOL_EQ | BCF_BOOL_SLT | BCF_BOOL_SLE => {
            strict || args.first().is_some_and(|&arg| arena.width(arg) > 1)
        }
        BCF_BOOL_DISTINCT | BCF_BOOL_UGT | BCF_BOOL_UGE | BCF_BOOL_SGT | BCF_BOOL_SGE => strict,
        BCF_BV_MUL if strict => true,
        BCF_BV_MUL | BCF_BV_UDIV | BCF_BV_UREM | BCF_BV_SDIV | BCF_BV_SMOD => {
            return Err(RuleError::Unsupported("the operator has no circuit"));
        }
        _ => false,
    };
    if known { Ok(()) } else { Err(RuleError::Invalid("the term is not one that has a circuit")) }
}

/// Where gates come from: new ones, or those of a claimed circuit.
trait Gates {
    /// What is known of a gate before its inputs are: when checking, the gate that stands in its place; when making, nothing.
    type Hint: Copy;

    fn arena(&self) -> &Arena;

    /// What stands at an input of a gate; `None` if it has no such input.
    fn input(&self, gate: Self::Hint, index: usize) -> Option<Self::Hint>;

    /// The gate with these inputs; `None` if something else stands in its place.
    fn gate_with(&mut self, hint: Self::Hint, code: u8, params: u16, inputs: &[ExprId]) -> Option<ExprId>;

    fn gate(&mut self, hint: Self::Hint, code: u8, inputs: &[ExprId]) -> Option<ExprId> {
        self.gate_with(hint, code, 0, inputs)
    }

    fn truth(&self, value: bool) -> ExprId {
        self.arena().truth(value)
    }

    /// The bits of an argument, copied, for the arena may grow.
    fn bits(&self, id: ExprId) -> Option<Bits> {
        bits(self.arena(), id).map(Bits::from_slice)
    }

    /// What stands at each of a circuit's `width` outputs.
    fn outputs(&self, circuit: Self::Hint, width: usize) -> Option<Hints<Self>>
    where
        Self: Sized,
    {
        (0..width).map(|i| self.input(circuit, i)).collect()
    }
}

struct Builder<'a>(&'a mut Arena);

impl Gates for Builder<'_> {
    type Hint = ();

    fn arena(&self) -> &Arena {
        self.0
    }

    fn input(&self, (): (), _: usize) -> Option<()> {
        Some(())
    }

    fn gate_with(&mut self, (): (), code: u8, params: u16, inputs: &[ExprId]) -> Option<ExprId> {
        Some(self.0.intern(code, params, inputs))
    }
}

struct Claimed<'a> {
    arena: &'a Arena,
    /// Gates that were compared.
    visited: u64,
}

impl Gates for Claimed<'_> {
    type Hint = ExprId;

    fn arena(&self) -> &Arena {
        self.arena
    }

    #[inline]
    fn input(&self, gate: ExprId, index: usize) -> Option<ExprId> {
        self.arena.args(gate).get(index).copied()
    }

    #[inline]
    fn gate_with(&mut self, hint: ExprId, code: u8, params: u16, inputs: &[ExprId]) -> Option<ExprId> {
        self.visited += 1;
        let head = self.arena.head(hint);
        (head.code == code && head.params == params && self.arena.args(hint) == inputs).then_some(hint)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bcf::eval::{Bv, Evaluator, Value};
    use proptest::prelude::*;

    /// Operators over arguments of one width, with the number of arguments, and whether the published checker blasts them.
    const OPERATORS: &[(u8, usize, bool)] = &[
        (BCF_BV_NOT, 1, true),
        (BCF_BV_NEG, 1, true),
        (BCF_BV_ADD, 2, true),
        (BCF_BV_ADD, 4, true),
        (BCF_BV_SUB, 2, true),
        (BCF_BV_OR, 2, true),
        (BCF_BV_OR, 3, true),
        (BCF_BV_AND, 3, false),
        (BCF_BV_XOR, 3, false),
        (BCF_BV_MUL, 2, false),
        (BCF_BV_MUL, 3, false),
        (BCF_BV_SHL, 2, true),
        (BCF_BV_LSHR, 2, true),
        (BCF_BV_ASHR, 2, true),
        (BCF_BOOL_EQ, 2, true),
        (BCF_BOOL_ULT, 2, true),
        (BCF_BOOL_ULE, 2, true),
        (BCF_BOOL_SLT, 2, true),
        (BCF_BOOL_SLE, 2, true),
        (BCF_BOOL_DISTINCT, 2, false),
        (BCF_BOOL_UGT, 2, false),
        (BCF_BOOL_UGE, 2, false),
        (BCF_BOOL_SGT, 2, false),
        (BCF_BOOL_SGE, 2, false),
    ];

    /// A variable as its bits.
    fn variable(arena: &mut Arena, width: u8) -> (ExprId, ExprId) {
        let variable = arena.bv_var(width);
        (variable, blast(arena, variable).expect("variables have bits").id)
    }

    fn apply(arena: &mut Arena, code: u8, width: u8, args: &[ExprId]) -> ExprId {
        let params = if code & 7 == BCF_BV { width } else { 0 };
        arena.add(code, params.into(), args).expect("well typed")
    }

    fn accepts(arena: &mut Arena, term: ExprId, circuit: ExprId, policy: Policy) -> bool {
        let claim = arena.eq(term, circuit);
        check(arena, claim, policy).is_ok()
    }

    /// `circuit` with one of its gates, an input of an input of …, negated.
    fn damaged(arena: &mut Arena, circuit: ExprId, path: &mut impl Iterator<Item = usize>) -> ExprId {
        let head = arena.head(circuit);
        let mut args = arena.args(circuit).to_vec();
        if arena.is_bool(circuit) && (head.code == BCF_BOOL_BIT_OF || args.is_empty()) {
            return arena.not(circuit);
        }
        match path.next() {
            Some(step) => {
                let at = step % args.len();
                args[at] = damaged(arena, args[at], path);
                arena.add(head.code, head.params, &args).expect("well typed")
            }
            None if head.code == BCF_BV_FROM_BOOL => {
                args[0] = arena.not(args[0]);
                arena.add(head.code, head.params, &args).expect("well typed")
            }
            None => arena.not(circuit),
        }
    }

    /// The circuit of a term says what the term says, is accepted, and is no more once damaged.
    fn judge(
        arena: &mut Arena,
        term: ExprId,
        reference: bool,
        values: &[(ExprId, Value)],
        path: &[usize],
    ) -> Result<(), TestCaseError> {
        let made = blast(arena, term).expect("a known operator");
        prop_assert_eq!(made.reference, reference);
        prop_assert!(accepts(arena, term, made.id, Policy::Strict));
        prop_assert_eq!(accepts(arena, term, made.id, Policy::Reference), reference);
        let damaged = damaged(arena, made.id, &mut path.iter().copied());
        prop_assert!(!accepts(arena, term, damaged, Policy::Strict));
        let mut evaluator = Evaluator::new();
        for &(variable, value) in values {
            evaluator.assign(variable, value);
        }
        let value = evaluator.eval(arena, term);
        prop_assert!(value.is_some());
        prop_assert_eq!(evaluator.eval(arena, made.id), value);
        Ok(())
    }

    proptest! {
        #[test]
        fn circuits_mean_their_terms(
            which in 0..OPERATORS.len(),
            width in prop_oneof![1u8..9, 31u8..34, 63u8..66],
            values: [u64; 4],
            small: bool,
            path in prop::collection::vec(0usize..64, 0..12),
        ) {
            let mut arena = Arena::new();
            let (code, count, reference) = OPERATORS[which];
            let cut = |value| if small { value % (u64::from(width) + 2) } else { value };
            let (mut args, mut assigned) = (Vec::new(), Vec::new());
            for &value in &values[..count] {
                let (variable, bits) = variable(&mut arena, width);
                args.push(bits);
                assigned.push((variable, Value::Bv(Bv::new(width, cut(value)))));
            }
            let lone = matches!(code, BCF_BOOL_EQ | BCF_BOOL_SLT | BCF_BOOL_SLE) && width == 1;
            let term = apply(&mut arena, code, width, &args);
            judge(&mut arena, term, reference && !lone, &assigned, &path)?;
        }

        #[test]
        fn copies_and_choices_mean_their_terms(
            width in 1u8..40,
            more in 1u8..40,
            value: u64,
            cond: bool,
            path in prop::collection::vec(0usize..64, 0..4),
        ) {
            let mut arena = Arena::new();
            let (x, bits) = variable(&mut arena, width);
            let c = arena.bool_var();
            let values = [(x, Value::Bv(Bv::new(width, value))), (c, Value::Bool(cond))];
            let wider = u16::from(more) << 8 | u16::from(width + more);
            let other = arena.bv_const(width, value >> 7);
            let other = blast(&mut arena, other).expect("constants have bits").id;
            let low = width.min(more) - 1;
            let bit = arena.add(BCF_BV_FROM_BOOL, 0, &[c]).expect("well typed");
            let terms = [
                (BCF_BV_SIGN_EXTEND, wider, vec![bits], true),
                (BCF_BV_ZERO_EXTEND, wider, vec![bits], false),
                (BCF_BV_REPEAT, u16::from(3u8) << 8 | u16::from(width * 3), vec![bits], false),
                (BCF_BV_EXTRACT, u16::from(width - 1) << 8 | u16::from(low), vec![bits], true),
                (BCF_BV_CONCAT, (width * 2 + 1).into(), vec![bits, bit, other], true),
                (BCF_BV_ITE, width.into(), vec![c, bits, other], true),
                (BCF_BV_ITE, width.into(), vec![bit, bits, other], false),
            ];
            for (code, params, args, reference) in terms {
                let term = arena.add(code, params, &args).expect("well typed");
                judge(&mut arena, term, reference, &values, &path)?;
            }
            prop_assert!(accepts(&mut arena, bits, bits, Policy::Strict));
            prop_assert!(!accepts(&mut arena, bits, bits, Policy::Reference));
        }
    }

    #[test]
    fn what_has_no_circuit_is_told_apart() {
        let mut arena = Arena::new();
        let (x, bits) = variable(&mut arena, 8);
        let mut answer = |code: u8, args: &[ExprId], policy| {
            let term = apply(&mut arena, code, 8, args);
            let claim = if arena.is_bv(term) { arena.eq(term, bits) } else { arena.not(term) };
            let claim = if arena.is_bv(term) { claim } else { arena.eq(term, claim) };
            check(&arena, claim, policy).map_err(|error| error.errno())
        };
        assert_eq!(answer(BCF_BV_UDIV, &[bits, bits], Policy::Strict), Err(libc::EOPNOTSUPP));
        assert_eq!(answer(BCF_BV_MUL, &[bits, bits], Policy::Reference), Err(libc::EOPNOTSUPP));
        assert_eq!(answer(BCF_BV_MUL, &[bits, x], Policy::Reference), Err(libc::EINVAL));
        assert_eq!(answer(BCF_BV_ADD, &[bits, x], Policy::Strict), Err(libc::EINVAL));
        assert_eq!(answer(BCF_BOOL_ULT, &[bits, x], Policy::Strict), Err(libc::EINVAL));
        assert_eq!(answer(BCF_BOOL_UGT, &[bits, bits], Policy::Reference), Err(libc::EINVAL));
        let claim = arena.not(arena.truth(true));
        assert!(check(&arena, claim, Policy::Strict).is_err());
        let claim = arena.eq(claim, claim);
        assert!(check(&arena, claim, Policy::Strict).is_err());
        assert_eq!(blast(&mut arena, claim), None);
    }

    /// Per-bit gates of the wrong kind, which the published checker takes for a conjunction.
    #[test]
    fn conjunction_is_not_distinct() {
        let mut arena = Arena::new();
        let [(_, x), (_, y)] = [(); 2].map(|()| variable(&mut arena, 4));
        let term = apply(&mut arena, BCF_BV_AND, 4, &[x, y]);
        let pairs: Vec<_> = arena.args(x).iter().copied().zip(arena.args(y).iter().copied()).collect();
        let gates: Vec<_> =
            pairs.iter().map(|&(x, y)| apply(&mut arena, BCF_BOOL_DISTINCT, 4, &[x, y])).collect();
        let circuit = arena.add(BCF_BV_FROM_BOOL, 0, &gates).expect("well typed");
        for policy in [Policy::Strict, Policy::Reference] {
            assert!(!accepts(&mut arena, term, circuit, policy));
        }
    }

    #[test]
    fn the_widest_terms_are_no_trouble() {
        let mut arena = Arena::new();
        let args: Vec<_> = (0..255).map(|_| variable(&mut arena, 255).1).collect();
        let term = apply(&mut arena, BCF_BV_ADD, 255, &args);
        let circuit = blast(&mut arena, term).expect("a known operator").id;
        assert!(accepts(&mut arena, term, circuit, Policy::Reference));
    }
}
