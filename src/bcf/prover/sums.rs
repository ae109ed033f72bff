//! Sums of multiples of terms, and the one order in which they are written.

use bpftwin_uapi::bcf::*;
use smallvec::SmallVec;

use super::builder::Builder;
use crate::bcf::expr::{ExprId, low_mask};

/// A sum of multiples of terms, modulo 2^width; width up to 64.
#[derive(Clone, Default, Debug)]
pub struct Sum {
    /// By ascending id; no coefficient is 0.
    pub terms: SmallVec<[(ExprId, u64); 4]>,
    pub constant: u64,
}

impl Sum {
    /// Adds a multiple of another sum; `mask` has `width` ones.
    pub fn add(&mut self, other: &Sum, factor: u64, mask: u64) {
        for &(term, coefficient) in &other.terms {
            let coefficient = coefficient.wrapping_mul(factor);
            match self.terms.binary_search_by_key(&term, |&(term, _)| term) {
                Ok(at) => self.terms[at].1 = self.terms[at].1.wrapping_add(coefficient),
                Err(at) => self.terms.insert(at, (term, coefficient)),
            }
        }
        for (_, coefficient) in &mut self.terms {
            *coefficient &= mask;
        }
        self.terms.retain(|(_, coefficient)| *coefficient != 0);
        self.constant = self.constant.wrapping_add(other.constant.wrapping_mul(factor)) & mask;
    }
}

/// The terms of a sum: `a + b - c + 5`, every coefficient as a sum of shifted terms.
pub fn build(b: &mut Builder, sum: &Sum, width: u8) -> Option<ExprId> {
    let mask = low_mask(width);
    let params = u16::from(width);
    let (mut plus, mut minus): (SmallVec<[ExprId; 8]>, SmallVec<[ExprId; 8]>) = Default::default();
    for &(term, coefficient) in &sum.terms {
        for (power, negative) in signed_powers(coefficient, width) {
            let part = if power == 0 {
                term
            } else {
                let by = b.arena.bv_const(width, power.into());
                b.arena.intern(BCF_BV_SHL, params, &[term, by])
            };
            if negative { minus.push(part) } else { plus.push(part) }
        }
    }
    let add = |b: &mut Builder, total: Option<ExprId>, part: ExprId| {
        Some(match total {
            Some(total) => b.arena.intern(BCF_BV_ADD, params, &[total, part]),
            None => part,
        })
    };
    let mut total = None;
    for part in plus {
        total = add(b, total, part);
    }
    let mut constant = sum.constant & mask;
    for part in minus {
        let from = match total {
            Some(total) => total,
            // `5 - x` rather than `0 - x + 5`.
            None => b.arena.bv_const(width, std::mem::take(&mut constant)),
        };
        total = Some(b.arena.intern(BCF_BV_SUB, params, &[from, part]));
    }
    if constant != 0 || total.is_none() {
        let constant = b.arena.bv_const(width, constant);
        total = add(b, total, constant);
    }
    total
}

/// A number as a sum of powers of two with signs, few of them (the non-adjacent form), modulo 2^width.
fn signed_powers(coefficient: u64, width: u8) -> SmallVec<[(u8, bool); 4]> {
    let mut rest = u128::from(coefficient & low_mask(width));
    let mut powers = SmallVec::new();
    for power in 0..width {
        if rest & 1 != 0 {
            let negative = rest & 3 == 3 && power + 1 < width;
            powers.push((power, negative));
            rest = if negative { rest + 1 } else { rest - 1 };
        }
        rest >>= 1;
    }
    powers
}

/// A sum that is to be 0, as two sides: what is subtracted, and the constant, go to the right.
pub fn split_equation(b: &mut Builder, sum: &Sum, width: u8) -> Option<(ExprId, ExprId)> {
    let mask = low_mask(width);
    let opposite = |value: u64| value.wrapping_neg() & mask;
    let (mut left, mut right) = (Sum::default(), Sum { constant: opposite(sum.constant), ..Sum::default() });
    for &(term, coefficient) in &sum.terms {
        if coefficient > mask >> 1 && sum.terms.len() > 1 {
            right.terms.push((term, opposite(coefficient)));
        } else {
            left.terms.push((term, coefficient));
        }
    }
    Some((build(b, &left, width)?, build(b, &right, width)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn powers_add_up_to_the_number() {
        for width in [1, 3, 8, 32, 64] {
            for number in [0, 1, 3, 5, 7, 10, 0xff, 0x5555, 0xffff_fff6, u64::MAX, u64::MAX - 9, 1 << 63] {
                let sum = signed_powers(number, width).iter().fold(0u64, |sum, &(power, negative)| {
                    if negative { sum.wrapping_sub(1 << power) } else { sum.wrapping_add(1 << power) }
                });
                assert_eq!(sum & low_mask(width), number & low_mask(width), "{number:#x} of {width} bits");
            }
        }
        assert_eq!(signed_powers(10, 32).len(), 2);
        assert_eq!(signed_powers(u64::MAX, 64).as_slice(), [(0, true)]);
    }
}
