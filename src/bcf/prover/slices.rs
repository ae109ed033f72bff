//! Slices of terms: what an extract takes out of a concatenation, an extension or a shift; masks as slices.
//!
//! A mask of low ones is an extract and an extension, `x & 7` is `(zero_extend (extract 2 0 x))`, and a slice of a concatenation is a
//! slice of its parts. So comparisons with constants get as narrow as the masks make them.

use bpftwin_uapi::bcf::*;
use smallvec::SmallVec;

use super::builder::{Builder, Equation};
use crate::bcf::checker::rewrites::{
    BV_AND_CONCAT_PULLUP, BV_EXTRACT_CONCAT_1, BV_EXTRACT_CONCAT_2, BV_EXTRACT_CONCAT_3, BV_EXTRACT_EXTRACT,
    BV_EXTRACT_SIGN_EXTEND_1, BV_EXTRACT_WHOLE, BV_SHL_BY_CONST_1, BV_ZERO_EXTEND_ELIMINATE,
};
use crate::bcf::expr::{ExprId, low_mask};

/// One step of `(extract high low x)` towards slices of the parts of `x`.
pub fn extract(b: &mut Builder, term: ExprId, x: ExprId) -> Option<Equation> {
    let head = b.arena.head(term);
    let (high, low) = (u32::from(head.params_high()), u32::from(head.params_low()));
    let inner = b.arena.head(x);
    let args: SmallVec<[ExprId; 4]> = b.arena.args(x).into();
    if low == 0 && high + 1 == u32::from(b.arena.width(x)) {
        let high = b.int(high);
        return b.rewrite(BV_EXTRACT_WHOLE, &[x, high]);
    }
    match inner.code {
        BCF_BV_EXTRACT => {
            let (inner_high, inner_low) = (u32::from(inner.params_high()), u32::from(inner.params_low()));
            let ints =
                [inner_low, inner_high, low, high, inner_low + high, inner_low + low].map(|int| b.int(int));
            b.rewrite(BV_EXTRACT_EXTRACT, &[args[0], ints[0], ints[1], ints[2], ints[3], ints[4], ints[5]])
        }
        BCF_BV_CONCAT => extract_concat(b, high, low, &args),
        // The parts show when the extension or the shift is written as a concatenation.
        BCF_BV_ZERO_EXTEND | BCF_BV_SHL => {
            let parts = as_concat(b, x)?;
            b.cong(BCF_BV_EXTRACT, head.params, &[parts])
        }
        BCF_BV_SIGN_EXTEND if high < u32::from(b.arena.width(args[0])) => {
            let ints = [low, high, inner.params_high().into()].map(|int| b.int(int));
            b.rewrite(BV_EXTRACT_SIGN_EXTEND_1, &[args[0], ints[0], ints[1], ints[2]])
        }
        _ => None,
    }
}

/// A zero extension or a shift by a constant as a concatenation.
pub fn as_concat(b: &mut Builder, x: ExprId) -> Option<Equation> {
    let head = b.arena.head(x);
    let args: SmallVec<[ExprId; 2]> = b.arena.args(x).into();
    match head.code {
        BCF_BV_ZERO_EXTEND if head.params_high() > 0 => {
            let extension = b.int(head.params_high().into());
            b.rewrite(BV_ZERO_EXTEND_ELIMINATE, &[args[0], extension])
        }
        BCF_BV_SHL => {
            let width = u32::from(b.arena.width(x));
            let amount =
                b.arena.bv_value(args[1]).filter(|amount| (1..width.into()).contains(amount))? as u32;
            let rest = [amount, width, width - 1 - amount].map(|int| b.int(int));
            b.rewrite(BV_SHL_BY_CONST_1, &[args[0], rest[0], rest[1], rest[2]])
        }
        _ => None,
    }
}

/// A slice of a concatenation: of the last part, of the parts above it, or of both.
fn extract_concat(b: &mut Builder, high: u32, low: u32, parts: &[ExprId]) -> Option<Equation> {
    let (&last, above) = parts.split_last()?;
    let (&second, front) = above.split_last()?;
    let front = list(b, front)?;
    let size = u32::from(b.arena.width(last));
    if high < size {
        let ints = [low, high].map(|int| b.int(int));
        return b.rewrite(BV_EXTRACT_CONCAT_1, &[last, front, second, ints[0], ints[1]]);
    }
    if low >= size {
        let ints = [low, high, high - size, low - size].map(|int| b.int(int));
        return b.rewrite(BV_EXTRACT_CONCAT_3, &[last, second, front, ints[0], ints[1], ints[2], ints[3]]);
    }
    let ints = [low, high, high - size, size - 1].map(|int| b.int(int));
    b.rewrite(BV_EXTRACT_CONCAT_2, &[last, front, second, ints[0], ints[1], ints[2], ints[3]])
}

/// Terms as a list argument of a rewrite.
fn list(b: &mut Builder, terms: &[ExprId]) -> Option<ExprId> {
    b.arena.add(BCF_LIST_VAL, BCF_BV.into(), terms).ok()
}

/// `x & 0..01..1` as the extension of a slice of `x`.
pub fn low_mask_of(b: &mut Builder, term: ExprId, args: &[ExprId]) -> Option<Equation> {
    let &[x, constant] = args else { return None };
    let value = b.arena.bv_value(constant)?;
    let ones = value.trailing_ones() as u8;
    let width = b.arena.width(term);
    if ones == 0 || ones >= width || value != low_mask(ones) {
        return None;
    }
    // The constant in two parts.
    let (zeros, all) = (b.arena.bv_const(width - ones, 0), b.arena.bv_const(ones, u64::MAX));
    let joined = b.arena.add(BCF_BV_CONCAT, width.into(), &[zeros, all]).ok()?;
    let parts = b.evaluate(joined)?;
    let parts = b.symm(&parts);
    let split = b.cong(BCF_BV_AND, width.into(), &[Equation::trivial(x), parts])?;
    // And of the parts.
    let (with, none) = (list(b, &[x])?, list(b, &[])?);
    let ints = [u32::from(width) - 1, ones.into(), u32::from(ones) - 1].map(|int| b.int(int));
    let pulled =
        b.rewrite(BV_AND_CONCAT_PULLUP, &[with, none, all, zeros, none, ints[0], ints[1], ints[2]])?;
    // The upper part is zero, the lower one the slice.
    let [above, below] = b.arena.match_op::<2>(pulled.right, BCF_BV_CONCAT)?;
    let above = b.claim(BCF_RULE_ABSORB, above, zeros);
    let slice = *b.arena.args(below).first()?;
    let below = b.claim(BCF_RULE_ACI_NORM, below, slice);
    let sliced = b.cong(BCF_BV_CONCAT, width.into(), &[above, below])?;
    // Back to an extension, which comparisons can drop.
    let extension = b.int(u32::from(width - ones));
    let extended = b.rewrite(BV_ZERO_EXTEND_ELIMINATE, &[slice, extension])?;
    let extended = b.symm(&extended);
    Some(split.then(&pulled).then(&sliced).then(&extended))
}
