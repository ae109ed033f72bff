//! The circuits themselves, written over [`Gates`].
//!
//! Each function gets what stands in the place of its outputs, and finds from it what stands in the place of inner gates.

use bpftwin_uapi::bcf::*;
use smallvec::SmallVec;

use super::{Bits, Gates, Hints, bits};
use crate::bcf::expr::ExprId;

/// The bits of a bit-vector term, whose circuit is claimed to be `circuit`.
pub(super) fn vector<G: Gates>(gates: &mut G, term: ExprId, circuit: G::Hint) -> Option<Bits> {
    let arena = gates.arena();
    let head = arena.head(term);
    let width = usize::from(arena.width(term));
    let args: SmallVec<[ExprId; 8]> = arena.args(term).into();
    match (head.code, args.as_slice()) {
        (BCF_BV_VAR, []) => (0..width)
            .map(|i| gates.gate_with(gates.input(circuit, i)?, BCF_BOOL_BIT_OF, i as u16, &[term]))
            .collect(),
        (BCF_BV_CONST, _) => {
            let value = arena.bv_value(term)?;
            Some((0..width).map(|i| gates.truth(value >> i & 1 != 0)).collect())
        }
        (BCF_BV_NOT, &[a]) => {
            let outputs = gates.outputs(circuit, width)?;
            negated(gates, &gates.bits(a)?, &outputs)
        }
        (BCF_BV_AND, args) => bitwise(gates, BCF_BOOL_AND, args, width, circuit),
        (BCF_BV_OR, args) => bitwise(gates, BCF_BOOL_OR, args, width, circuit),
        (BCF_BV_XOR, args) => bitwise(gates, BCF_BOOL_XOR, args, width, circuit),
        (BCF_BV_ADD, args) => sum(gates, args, width, circuit),
        (BCF_BV_SUB, &[a, b]) => {
            let outputs = gates.outputs(circuit, width)?;
            let at = addends(gates, &outputs, 1)?;
            let not_b = negated(gates, &gates.bits(b)?, &at)?;
            add(gates, &gates.bits(a)?, &not_b, true, &outputs)
        }
        (BCF_BV_NEG, &[a]) => {
            let outputs = gates.outputs(circuit, width)?;
            let at = addends(gates, &outputs, 0)?;
            let not_a = negated(gates, &gates.bits(a)?, &at)?;
            let zero = Bits::from_elem(gates.truth(false), width);
            add(gates, &not_a, &zero, true, &outputs)
        }
        (BCF_BV_MUL, args) => product(gates, args, width, circuit),
        (BCF_BV_SHL | BCF_BV_LSHR | BCF_BV_ASHR, &[a, b]) => shift(gates, head.code, a, b, circuit),
        (BCF_BV_ITE, &[cond, then, other]) => {
            let cond = if arena.is_bool(cond) { cond } else { *bits(arena, cond)?.first()? };
            select(gates, cond, &gates.bits(then)?, &gates.bits(other)?, circuit)
        }
        (BCF_BV_CONCAT, args) => {
            let mut all = Bits::with_capacity(width);
            for &arg in args.iter().rev() {
                all.extend_from_slice(bits(arena, arg)?);
            }
            Some(all)
        }
        (BCF_BV_EXTRACT, &[a]) => {
            let (low, high) = (head.params_low().into(), head.params_high().into());
            bits(arena, a)?.get(low..=high).map(Bits::from_slice)
        }
        (BCF_BV_SIGN_EXTEND, &[a]) => extended(gates.bits(a)?, width, None),
        (BCF_BV_ZERO_EXTEND, &[a]) => extended(gates.bits(a)?, width, Some(gates.truth(false))),
        (BCF_BV_REPEAT, &[a]) => {
            let a = bits(arena, a)?;
            Some(a.iter().copied().cycle().take(width).collect())
        }
        (BCF_BV_FROM_BOOL, args) => Some(args.into()),
        _ => None,
    }
}

/// More bits above: `fill`, or copies of the highest.
fn extended(mut bits: Bits, width: usize, fill: Option<ExprId>) -> Option<Bits> {
    let fill = fill.or(bits.last().copied())?;
    bits.resize(width, fill);
    Some(bits)
}

fn negated<G: Gates>(gates: &mut G, bits: &[ExprId], hints: &[G::Hint]) -> Option<Bits> {
    bits.iter().zip(hints).map(|(&bit, &hint)| gates.gate(hint, BCF_BOOL_NOT, &[bit])).collect()
}

fn bitwise<G: Gates>(
    gates: &mut G,
    code: u8,
    args: &[ExprId],
    width: usize,
    circuit: G::Hint,
) -> Option<Bits> {
    let (&first, rest) = args.split_first()?;
    let mut all = Bits::with_capacity(width);
    let mut hints = Hints::<G>::new();
    for i in 0..width {
        hints.clear();
        let mut hint = gates.input(circuit, i)?;
        for _ in rest {
            hints.push(hint);
            hint = gates.input(hint, 0)?;
        }
        let mut bit = *bits(gates.arena(), first)?.get(i)?;
        for (&arg, &hint) in rest.iter().zip(hints.iter().rev()) {
            let other = *bits(gates.arena(), arg)?.get(i)?;
            bit = gates.gate(hint, code, &[bit, other])?;
        }
        all.push(bit);
    }
    Some(all)
}

/// What stands at an addend of the adder with these sums: 0 the left, 1 the right.
fn addends<G: Gates>(gates: &G, sums: &[G::Hint], side: usize) -> Option<Hints<G>> {
    sums.iter().map(|&sum| gates.input(gates.input(sum, 0)?, side)).collect()
}

/// A ripple-carry adder; the carry out of the top is dropped.
fn add<G: Gates>(gates: &mut G, a: &[ExprId], b: &[ExprId], carry: bool, sums: &[G::Hint]) -> Option<Bits> {
    let mut carry = gates.truth(carry);
    let mut all = Bits::with_capacity(sums.len());
    let mut inputs = a.iter().zip(b).zip(sums).peekable();
    while let Some(((&a, &b), &sum)) = inputs.next() {
        let half = gates.gate(gates.input(sum, 0)?, BCF_BOOL_XOR, &[a, b])?;
        all.push(gates.gate(sum, BCF_BOOL_XOR, &[half, carry])?);
        if let Some(&(_, &next)) = inputs.peek() {
            let next = gates.input(next, 1)?;
            let both = gates.gate(gates.input(next, 0)?, BCF_BOOL_AND, &[a, b])?;
            let passed = gates.gate(gates.input(next, 1)?, BCF_BOOL_AND, &[half, carry])?;
            carry = gates.gate(next, BCF_BOOL_OR, &[both, passed])?;
        }
    }
    Some(all)
}

fn sum<G: Gates>(gates: &mut G, args: &[ExprId], width: usize, circuit: G::Hint) -> Option<Bits> {
    let (&first, rest) = args.split_first()?;
    // From the last addition to the first.
    let mut sums: SmallVec<[Hints<G>; 2]> = SmallVec::new();
    let mut hints = gates.outputs(circuit, width)?;
    for i in 0..rest.len() {
        let before = if i + 1 < rest.len() { Some(addends(gates, &hints, 0)?) } else { None };
        sums.push(hints);
        hints = before.unwrap_or_default();
    }
    let mut total = gates.bits(first)?;
    for (&arg, sums) in rest.iter().zip(sums.iter().rev()) {
        total = add(gates, &total, &gates.bits(arg)?, false, sums)?;
    }
    Some(total)
}

fn product<G: Gates>(gates: &mut G, args: &[ExprId], width: usize, circuit: G::Hint) -> Option<Bits> {
    let (&first, rest) = args.split_first()?;
    // From the last multiplication to the first: the sums after each row, then what stands at the left factor's bits.
    let mut products: SmallVec<[Vec<Hints<G>>; 2]> = SmallVec::new();
    let mut outputs = gates.outputs(circuit, width)?;
    for _ in rest {
        let rows = rows(gates, outputs, width)?;
        outputs = rows.last()?.iter().map(|&bit| gates.input(bit, 1)).collect::<Option<_>>()?;
        products.push(rows);
    }
    let mut total = gates.bits(first)?;
    for (&arg, rows) in rest.iter().zip(products.iter().rev()) {
        total = multiply(gates, &total, &gates.bits(arg)?, rows)?;
    }
    Some(total)
}

/// What stands at the sums after each row of a multiplier with these outputs, from the last row up; row `k` has bits `k…` only.
fn rows<G: Gates>(gates: &G, outputs: Hints<G>, width: usize) -> Option<Vec<Hints<G>>> {
    let mut rows: Vec<Hints<G>> = Vec::with_capacity(width);
    for row in (0..width).rev() {
        let mut hints = Hints::<G>::from_slice(outputs.get(row..=row)?);
        if let Some(below) = rows.last() {
            hints.extend(addends(gates, below, 0)?);
        }
        rows.push(hints);
    }
    Some(rows)
}

fn multiply<G: Gates>(gates: &mut G, a: &[ExprId], b: &[ExprId], rows: &[Hints<G>]) -> Option<Bits> {
    let mut all = Bits::new();
    let mut total = Bits::new();
    for (row, (&b, sums)) in b.iter().zip(rows.iter().rev()).enumerate() {
        let at = if row == 0 { sums.clone() } else { addends(gates, sums, 1)? };
        let part: Option<Bits> =
            a.iter().zip(&at).map(|(&a, &hint)| gates.gate(hint, BCF_BOOL_AND, &[b, a])).collect();
        total = if row == 0 { part? } else { add(gates, &total, &part?, false, sums)? };
        all.push(total.remove(0));
    }
    Some(all)
}

/// A barrel shifter: stage `s` shifts by `2^s` if bit `s` of the amount is set; the outermost gates catch amounts that are too large.
fn shift<G: Gates>(gates: &mut G, code: u8, a: ExprId, b: ExprId, circuit: G::Hint) -> Option<Bits> {
    let (a, b) = (gates.bits(a)?, gates.bits(b)?);
    let width = a.len();
    let left = code == BCF_BV_SHL;
    let fill = if code == BCF_BV_ASHR { *a.last()? } else { gates.truth(false) };
    let stages = width.next_power_of_two().trailing_zeros() as usize;
    let from_outside = |i: usize, stage: usize| if left { i < 1 << stage } else { i + (1 << stage) >= width };

    let outputs = gates.outputs(circuit, width)?;
    let mut hints: SmallVec<[Hints<G>; 8]> = SmallVec::new();
    hints.push(outputs.iter().map(|&output| gates.input(output, 1)).collect::<Option<_>>()?);
    for stage in (1..stages).rev() {
        let kept = |(i, &bit)| gates.input(bit, if left || from_outside(i, stage) { 2 } else { 1 });
        let before = hints.last()?.iter().enumerate().map(kept).collect::<Option<_>>()?;
        hints.push(before);
    }

    let size: Bits = (0..width).map(|i| gates.truth(i < 8 && width >> i & 1 != 0)).collect();
    let in_range = less(gates, &b, &size, false, gates.input(*outputs.first()?, 0)?)?;
    let mut shifted = a;
    for (stage, hints) in (0..stages).zip(hints.iter().rev()) {
        let by = *b.get(stage)?;
        let bit = |(i, &hint): (usize, &G::Hint)| {
            let kept = shifted[i];
            if from_outside(i, stage) {
                gates.gate(hint, BCF_BOOL_ITE, &[by, fill, kept])
            } else if left {
                gates.gate(hint, BCF_BOOL_ITE, &[by, shifted[i - (1 << stage)], kept])
            } else {
                let not = gates.gate(gates.input(hint, 0)?, BCF_BOOL_NOT, &[by])?;
                gates.gate(hint, BCF_BOOL_ITE, &[not, kept, shifted[i + (1 << stage)]])
            }
        };
        let next = hints.iter().enumerate().map(bit).collect::<Option<_>>()?;
        shifted = next;
    }
    shifted
        .iter()
        .zip(&outputs)
        .map(|(&bit, &hint)| gates.gate(hint, BCF_BOOL_ITE, &[in_range, bit, fill]))
        .collect()
}

fn select<G: Gates>(
    gates: &mut G,
    cond: ExprId,
    then: &[ExprId],
    other: &[ExprId],
    circuit: G::Hint,
) -> Option<Bits> {
    let mut all = Bits::with_capacity(then.len());
    for (i, (&then, &other)) in then.iter().zip(other).enumerate() {
        let bit = gates.input(circuit, i)?;
        let (left, right) = (gates.input(bit, 0)?, gates.input(bit, 1)?);
        let not = gates.gate(gates.input(left, 0)?, BCF_BOOL_NOT, &[cond])?;
        let left = gates.gate(left, BCF_BOOL_OR, &[not, then])?;
        let right = gates.gate(right, BCF_BOOL_OR, &[cond, other])?;
        all.push(gates.gate(bit, BCF_BOOL_AND, &[left, right])?);
    }
    Some(all)
}

/// The circuit of a comparison, which is claimed to be `circuit`.
pub(super) fn comparison<G: Gates>(gates: &mut G, term: ExprId, circuit: G::Hint) -> Option<ExprId> {
    let arena = gates.arena();
    let &[a, b] = arena.args(term) else { return None };
    let code = arena.code(term);
    let (a, b) = (gates.bits(a)?, gates.bits(b)?);
    match code {
        BCF_BOOL_EQ => equal(gates, &a, &b, circuit),
        BCF_BOOL_DISTINCT => {
            let equal = equal(gates, &a, &b, gates.input(circuit, 0)?)?;
            gates.gate(circuit, BCF_BOOL_NOT, &[equal])
        }
        BCF_BOOL_ULT => less(gates, &a, &b, false, circuit),
        BCF_BOOL_ULE => less(gates, &a, &b, true, circuit),
        BCF_BOOL_UGT => less(gates, &b, &a, false, circuit),
        BCF_BOOL_UGE => less(gates, &b, &a, true, circuit),
        BCF_BOOL_SLT => signed_less(gates, &a, &b, false, circuit),
        BCF_BOOL_SLE => signed_less(gates, &a, &b, true, circuit),
        BCF_BOOL_SGT => signed_less(gates, &b, &a, false, circuit),
        BCF_BOOL_SGE => signed_less(gates, &b, &a, true, circuit),
        _ => None,
    }
}

/// The conjunction of the bits' equalities, or the equality of the only bits.
fn equal<G: Gates>(gates: &mut G, a: &[ExprId], b: &[ExprId], circuit: G::Hint) -> Option<ExprId> {
    if let (&[a], &[b]) = (a, b) {
        return gates.gate(circuit, BCF_BOOL_EQ, &[a, b]);
    }
    let mut all = Bits::with_capacity(a.len());
    for (i, (&a, &b)) in a.iter().zip(b).enumerate() {
        all.push(gates.gate(gates.input(circuit, i)?, BCF_BOOL_EQ, &[a, b])?);
    }
    gates.gate(circuit, BCF_BOOL_AND, &all)
}

fn less<G: Gates>(
    gates: &mut G,
    a: &[ExprId],
    b: &[ExprId],
    or_equal: bool,
    circuit: G::Hint,
) -> Option<ExprId> {
    let ((&a0, a), (&b0, b)) = (a.split_first()?, b.split_first()?);
    // What stands for the comparison of all bits up to the last, the last but one, ….
    let mut hints = Hints::<G>::new();
    let mut hint = circuit;
    for _ in a {
        hints.push(hint);
        hint = gates.input(gates.input(hint, 0)?, 1)?;
    }
    let mut below;
    if or_equal {
        below = below_bit(gates, a0, b0, gates.input(hint, 0)?)?;
        let same = gates.gate(gates.input(hint, 1)?, BCF_BOOL_EQ, &[a0, b0])?;
        below = gates.gate(hint, BCF_BOOL_OR, &[below, same])?;
    } else {
        below = below_bit(gates, a0, b0, hint)?;
    }
    for ((&a, &b), &hint) in a.iter().zip(b).zip(hints.iter().rev()) {
        let same = same_and(gates, a, b, below, gates.input(hint, 0)?)?;
        let differs = below_bit(gates, a, b, gates.input(hint, 1)?)?;
        below = gates.gate(hint, BCF_BOOL_OR, &[same, differs])?;
    }
    Some(below)
}

/// `¬a ∧ b`
fn below_bit<G: Gates>(gates: &mut G, a: ExprId, b: ExprId, hint: G::Hint) -> Option<ExprId> {
    let not = gates.gate(gates.input(hint, 0)?, BCF_BOOL_NOT, &[a])?;
    gates.gate(hint, BCF_BOOL_AND, &[not, b])
}

/// `(a = b) ∧ rest`
fn same_and<G: Gates>(gates: &mut G, a: ExprId, b: ExprId, rest: ExprId, hint: G::Hint) -> Option<ExprId> {
    let same = gates.gate(gates.input(hint, 0)?, BCF_BOOL_EQ, &[a, b])?;
    gates.gate(hint, BCF_BOOL_AND, &[same, rest])
}

fn signed_less<G: Gates>(
    gates: &mut G,
    a: &[ExprId],
    b: &[ExprId],
    or_equal: bool,
    circuit: G::Hint,
) -> Option<ExprId> {
    let ((&a_sign, a), (&b_sign, b)) = (a.split_last()?, b.split_last()?);
    // A lone sign has no bits below it to compare.
    let alone = a.is_empty();
    if alone && !or_equal {
        return negative_below(gates, a_sign, b_sign, circuit);
    }
    let (same, differs) = (gates.input(circuit, 0)?, gates.input(circuit, 1)?);
    let same = if alone {
        gates.gate(same, BCF_BOOL_EQ, &[a_sign, b_sign])?
    } else {
        let below = less(gates, a, b, or_equal, gates.input(same, 1)?)?;
        same_and(gates, a_sign, b_sign, below, same)?
    };
    let differs = negative_below(gates, a_sign, b_sign, differs)?;
    gates.gate(circuit, BCF_BOOL_OR, &[same, differs])
}

/// `a ∧ ¬b`: of two signs, only the first is set.
fn negative_below<G: Gates>(gates: &mut G, a: ExprId, b: ExprId, hint: G::Hint) -> Option<ExprId> {
    let not = gates.gate(gates.input(hint, 1)?, BCF_BOOL_NOT, &[b])?;
    gates.gate(hint, BCF_BOOL_AND, &[a, not])
}
