//! What terms mean: evaluation as SMT-LIB defines it, for bit-vectors of up to 255 bits.
//!
//! Division by zero gives all ones, the remainder by zero the dividend; shifts by the width or more give zero (or copies of the sign).
//! These are not eBPF's rules: the conditions never contain such an operation where the difference shows.

use std::cmp::Ordering;
use std::fmt;

use bpftwin_uapi::bcf::*;

use super::expr::{Arena, ExprId};

const LIMBS: usize = 4;
const LIMB_BITS: usize = 64;

/// A bit-vector of 1 to 255 bits; bits above the width are 0.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Bv {
    width: u8,
    /// Least significant first.
    limbs: [u64; LIMBS],
}

/// Limbs that a value of this width needs.
fn limbs(width: u8) -> usize {
    usize::from(width).div_ceil(LIMB_BITS)
}

/// The value of a term.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Value {
    Bool(bool),
    Bv(Bv),
}

impl fmt::Debug for Bv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:#x}:{}", self.width)
    }
}

impl fmt::LowerHex for Bv {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits: String = self.limbs.iter().rev().map(|limb| format!("{limb:016x}")).collect();
        let digits = digits.trim_start_matches('0');
        f.pad_integral(true, "0x", if digits.is_empty() { "0" } else { digits })
    }
}

// Named as in SMT-LIB; operators would hide that widths must agree.
#[allow(clippy::should_implement_trait)]
impl Bv {
    /// `value` cut to `width` bits.
    pub fn new(width: u8, value: u64) -> Bv {
        Bv { width, limbs: [value, 0, 0, 0] }.masked()
    }

    /// From bits, least significant first.
    pub fn from_bits(bits: impl ExactSizeIterator<Item = bool>) -> Bv {
        let mut value = Bv::new(bits.len() as u8, 0);
        for (i, bit) in bits.enumerate() {
            value.limbs[i / LIMB_BITS % LIMBS] |= u64::from(bit) << (i % LIMB_BITS);
        }
        value
    }

    pub fn ones(width: u8) -> Bv {
        Bv { width, limbs: [u64::MAX; LIMBS] }.masked()
    }

    pub fn width(&self) -> u8 {
        self.width
    }

    /// The value, where it fits 64 bits.
    pub fn to_u64(&self) -> Option<u64> {
        if self.limbs[1..].iter().all(|&limb| limb == 0) { Some(self.limbs[0]) } else { None }
    }

    pub fn bit(&self, index: u8) -> bool {
        self.limbs[usize::from(index) / LIMB_BITS] >> (usize::from(index) % LIMB_BITS) & 1 != 0
    }

    pub fn is_zero(&self) -> bool {
        self.limbs == [0; LIMBS]
    }

    fn sign(&self) -> bool {
        self.bit(self.width - 1)
    }

    fn masked(mut self) -> Bv {
        for (i, limb) in self.limbs.iter_mut().enumerate() {
            let bits = usize::from(self.width).saturating_sub(i * LIMB_BITS);
            if bits < LIMB_BITS {
                *limb &= (1 << bits) - 1;
            }
        }
        self
    }

    fn zip(self, other: Bv, f: impl Fn(u64, u64) -> u64) -> Bv {
        let mut limbs = self.limbs;
        for (limb, &other) in limbs.iter_mut().zip(&other.limbs) {
            *limb = f(*limb, other);
        }
        Bv { limbs, ..self }.masked()
    }

    pub fn and(self, other: Bv) -> Bv {
        self.zip(other, |x, y| x & y)
    }

    pub fn or(self, other: Bv) -> Bv {
        self.zip(other, |x, y| x | y)
    }

    pub fn xor(self, other: Bv) -> Bv {
        self.zip(other, |x, y| x ^ y)
    }

    pub fn not(self) -> Bv {
        self.zip(self, |x, _| !x)
    }

    pub fn add(self, other: Bv) -> Bv {
        self.add_carry(other, false)
    }

    fn add_carry(self, other: Bv, mut carry: bool) -> Bv {
        let mut limbs = self.limbs;
        for (limb, &other) in limbs.iter_mut().zip(&other.limbs) {
            let (sum, first) = limb.overflowing_add(other);
            let (sum, second) = sum.overflowing_add(carry.into());
            *limb = sum;
            carry = first | second;
        }
        Bv { limbs, ..self }.masked()
    }

    pub fn sub(self, other: Bv) -> Bv {
        self.add_carry(other.not(), true)
    }

    pub fn neg(self) -> Bv {
        Bv::new(self.width, 0).sub(self)
    }

    pub fn mul(self, other: Bv) -> Bv {
        let mut limbs = [0u64; LIMBS];
        for i in 0..LIMBS {
            let mut carry = 0u128;
            for j in 0..LIMBS - i {
                let sum =
                    u128::from(limbs[i + j]) + u128::from(self.limbs[i]) * u128::from(other.limbs[j]) + carry;
                limbs[i + j] = sum as u64;
                carry = sum >> LIMB_BITS;
            }
        }
        Bv { limbs, ..self }.masked()
    }

    /// Quotient and remainder; all ones and the dividend when `divisor` is zero.
    fn div_rem(self, divisor: Bv) -> (Bv, Bv) {
        if divisor.is_zero() {
            return (Bv::ones(self.width), self);
        }
        if let (Some(x), Some(y)) = (self.to_u64(), divisor.to_u64()) {
            return (Bv::new(self.width, x / y), Bv::new(self.width, x % y));
        }
        let (mut quotient, mut rest) = (Bv::new(self.width, 0), Bv::new(self.width, 0));
        for i in (0..self.width).rev() {
            // The bit that falls out of the top counts: then the rest is larger than any divisor.
            let overflow = rest.sign();
            rest = rest.shl_by(1).or(Bv::new(self.width, self.bit(i).into()));
            if overflow || rest.ucmp(&divisor) != Ordering::Less {
                rest = rest.sub(divisor);
                quotient.limbs[usize::from(i) / LIMB_BITS] |= 1 << (usize::from(i) % LIMB_BITS);
            }
        }
        (quotient, rest)
    }

    pub fn udiv(self, divisor: Bv) -> Bv {
        self.div_rem(divisor).0
    }

    pub fn urem(self, divisor: Bv) -> Bv {
        self.div_rem(divisor).1
    }

    fn abs(self) -> Bv {
        if self.sign() { self.neg() } else { self }
    }

    pub fn sdiv(self, divisor: Bv) -> Bv {
        let quotient = self.abs().udiv(divisor.abs());
        if self.sign() == divisor.sign() { quotient } else { quotient.neg() }
    }

    /// `bvsmod`: the remainder that has the sign of the divisor.
    pub fn smod(self, divisor: Bv) -> Bv {
        let rest = self.abs().urem(divisor.abs());
        if rest.is_zero() {
            return rest;
        }
        match (self.sign(), divisor.sign()) {
            (false, false) => rest,
            (true, false) => rest.neg().add(divisor),
            (false, true) => rest.add(divisor),
            (true, true) => rest.neg(),
        }
    }

    /// The shift amount as a number; the width if it is that or more.
    fn amount(self, width: u8) -> u8 {
        self.to_u64().map_or(width, |amount| amount.min(width.into()) as u8)
    }

    fn shl_by(self, amount: u8) -> Bv {
        let (limbs, bits) = (usize::from(amount) / LIMB_BITS, usize::from(amount) % LIMB_BITS);
        let mut shifted = [0; LIMBS];
        for (i, limb) in shifted.iter_mut().enumerate().skip(limbs) {
            *limb = self.limbs[i - limbs] << bits;
            if bits > 0 && i > limbs {
                *limb |= self.limbs[i - limbs - 1] >> (LIMB_BITS - bits);
            }
        }
        Bv { limbs: shifted, ..self }.masked()
    }

    fn lshr_by(self, amount: u8) -> Bv {
        let (limbs, bits) = (usize::from(amount) / LIMB_BITS, usize::from(amount) % LIMB_BITS);
        let mut shifted = [0; LIMBS];
        for (i, limb) in shifted.iter_mut().enumerate().take(LIMBS - limbs) {
            *limb = self.limbs[i + limbs] >> bits;
            if bits > 0 && i + limbs + 1 < LIMBS {
                *limb |= self.limbs[i + limbs + 1] << (LIMB_BITS - bits);
            }
        }
        Bv { limbs: shifted, ..self }
    }

    pub fn shl(self, amount: Bv) -> Bv {
        self.shl_by(amount.amount(self.width))
    }

    pub fn lshr(self, amount: Bv) -> Bv {
        self.lshr_by(amount.amount(self.width))
    }

    pub fn ashr(self, amount: Bv) -> Bv {
        if self.sign() { self.not().lshr(amount).not() } else { self.lshr(amount) }
    }

    /// Bits `low` to `high`.
    pub fn extract(self, high: u8, low: u8) -> Bv {
        Bv { width: high - low + 1, ..self.lshr_by(low) }.masked()
    }

    /// To `width` bits, which are no fewer than now, with zeros above.
    pub fn zero_extend(self, width: u8) -> Bv {
        Bv { width, ..self }
    }

    /// To `width` bits, which are no fewer than now, with copies of the sign above.
    pub fn sign_extend(self, width: u8) -> Bv {
        if self.sign() { self.not().zero_extend(width).not() } else { self.zero_extend(width) }
    }

    /// `self` above `low`; the widths must sum to 255 at most.
    pub fn concat(self, low: Bv) -> Bv {
        let width = self.width + low.width;
        self.zero_extend(width).shl_by(low.width).or(low.zero_extend(width))
    }

    pub fn ucmp(&self, other: &Bv) -> Ordering {
        self.limbs.iter().rev().cmp(other.limbs.iter().rev())
    }

    pub fn scmp(&self, other: &Bv) -> Ordering {
        other.sign().cmp(&self.sign()).then(self.ucmp(other))
    }
}

/// Values of terms under one assignment, each computed once.
///
/// An evaluator belongs to one arena. It takes a word for each of the arena's, and for each value as many limbs as it has.
#[derive(Clone, Default)]
pub struct Evaluator {
    /// By id: [`NO_VALUE`], a truth value, or [`FIRST_PLACE`] and the index of the value's first limb.
    places: Vec<u32>,
    limbs: Vec<u64>,
}

const NO_VALUE: u32 = 0;
const TRUTHS: [u32; 2] = [1, 2];
const FIRST_PLACE: u32 = 3;

impl Evaluator {
    pub fn new() -> Evaluator {
        Evaluator::default()
    }

    /// Gives a variable (or any term) its value, which must be of its type.
    pub fn assign(&mut self, id: ExprId, value: Value) {
        let index = id.0 as usize;
        if self.places.len() <= index {
            self.places.resize(index + 1, NO_VALUE);
        }
        self.places[index] = match value {
            Value::Bool(value) => TRUTHS[usize::from(value)],
            Value::Bv(value) => {
                let place = self.limbs.len() as u32 + FIRST_PLACE;
                self.limbs.extend_from_slice(&value.limbs[..limbs(value.width)]);
                place
            }
        };
    }

    fn get(&self, arena: &Arena, id: ExprId) -> Option<Value> {
        match *self.places.get(id.0 as usize)? {
            NO_VALUE => None,
            truth if truth < FIRST_PLACE => Some(Value::Bool(truth == TRUTHS[1])),
            place => {
                let start = (place - FIRST_PLACE) as usize;
                let mut value = Bv::new(arena.width(id), 0);
                let stored = self.limbs.get(start..start + limbs(value.width))?;
                value.limbs[..stored.len()].copy_from_slice(stored);
                Some(Value::Bv(value))
            }
        }
    }

    fn has(&self, id: ExprId) -> bool {
        self.places.get(id.0 as usize).is_some_and(|&place| place != NO_VALUE)
    }

    /// The value of a term; `None` if it holds a variable that has no value, or is a list.
    pub fn eval(&mut self, arena: &Arena, root: ExprId) -> Option<Value> {
        let mut stack = vec![(root, false)];
        while let Some((id, ready)) = stack.pop() {
            if self.has(id) {
                continue;
            }
            if ready {
                let value = self.apply(arena, id)?;
                self.assign(id, value);
            } else {
                stack.push((id, true));
                // A width is known without a value.
                if arena.code(id) != BCF_BV_SIZE {
                    stack.extend(arena.args(id).iter().map(|&arg| (arg, false)));
                }
            }
        }
        self.get(arena, root)
    }

    /// The value of a Boolean term.
    pub fn eval_bool(&mut self, arena: &Arena, root: ExprId) -> Option<bool> {
        match self.eval(arena, root)? {
            Value::Bool(value) => Some(value),
            Value::Bv(_) => None,
        }
    }

    fn bv(&self, arena: &Arena, id: ExprId) -> Option<Bv> {
        match self.get(arena, id)? {
            Value::Bv(value) => Some(value),
            Value::Bool(_) => None,
        }
    }

    fn bool(&self, arena: &Arena, id: ExprId) -> Option<bool> {
        match self.get(arena, id)? {
            Value::Bool(value) => Some(value),
            Value::Bv(_) => None,
        }
    }

    /// The value of a node whose arguments have theirs.
    fn apply(&self, arena: &Arena, id: ExprId) -> Option<Value> {
        if arena.is_bool(id) {
            self.apply_bool(arena, id).map(Value::Bool)
        } else {
            self.apply_bv(arena, id).map(Value::Bv)
        }
    }

    fn apply_bool(&self, arena: &Arena, id: ExprId) -> Option<bool> {
        let head = arena.head(id);
        let args = arena.args(id);
        let all = || args.iter().map(|&arg| self.bool(arena, arg));
        let unsigned = || Some(self.bv(arena, args[0])?.ucmp(&self.bv(arena, args[1])?));
        let signed = || Some(self.bv(arena, args[0])?.scmp(&self.bv(arena, args[1])?));
        Some(match head.code {
            BCF_BOOL_CONST => head.params & 1 != 0,
            BCF_BOOL_NOT => !self.bool(arena, args[0])?,
            BCF_BOOL_AND => all().try_fold(true, |acc, value| Some(acc & value?))?,
            BCF_BOOL_OR => all().try_fold(false, |acc, value| Some(acc | value?))?,
            BCF_BOOL_XOR => all().try_fold(false, |acc, value| Some(acc ^ value?))?,
            BCF_BOOL_IMPLIES => !self.bool(arena, args[0])? | self.bool(arena, args[1])?,
            BCF_BOOL_ITE => self.bool(arena, if self.bool(arena, args[0])? { args[1] } else { args[2] })?,
            BCF_BOOL_BIT_OF => self.bv(arena, args[0])?.bit(head.params_low()),
            BCF_BOOL_EQ => self.get(arena, args[0])? == self.get(arena, args[1])?,
            BCF_BOOL_DISTINCT => self.get(arena, args[0])? != self.get(arena, args[1])?,
            BCF_BOOL_UGT => unsigned()?.is_gt(),
            BCF_BOOL_UGE => unsigned()?.is_ge(),
            BCF_BOOL_ULT => unsigned()?.is_lt(),
            BCF_BOOL_ULE => unsigned()?.is_le(),
            BCF_BOOL_SGT => signed()?.is_gt(),
            BCF_BOOL_SGE => signed()?.is_ge(),
            BCF_BOOL_SLT => signed()?.is_lt(),
            BCF_BOOL_SLE => signed()?.is_le(),
            _ => return None,
        })
    }

    fn apply_bv(&self, arena: &Arena, id: ExprId) -> Option<Bv> {
        let head = arena.head(id);
        let args = arena.args(id);
        let width = arena.width(id);
        let fold = |f: fn(Bv, Bv) -> Bv| {
            let (&first, rest) = args.split_first()?;
            rest.iter().try_fold(self.bv(arena, first)?, |acc, &arg| Some(f(acc, self.bv(arena, arg)?)))
        };
        Some(match head.code {
            BCF_BV_CONST => Bv::new(width, arena.bv_value(id)?),
            BCF_BV_ADD => fold(Bv::add)?,
            BCF_BV_SUB => fold(Bv::sub)?,
            BCF_BV_MUL => fold(Bv::mul)?,
            BCF_BV_UDIV => fold(Bv::udiv)?,
            BCF_BV_UREM => fold(Bv::urem)?,
            BCF_BV_SDIV => fold(Bv::sdiv)?,
            BCF_BV_SMOD => fold(Bv::smod)?,
            BCF_BV_OR => fold(Bv::or)?,
            BCF_BV_AND => fold(Bv::and)?,
            BCF_BV_XOR => fold(Bv::xor)?,
            BCF_BV_SHL => fold(Bv::shl)?,
            BCF_BV_LSHR => fold(Bv::lshr)?,
            BCF_BV_ASHR => fold(Bv::ashr)?,
            BCF_BV_CONCAT => fold(Bv::concat)?,
            BCF_BV_NEG => self.bv(arena, args[0])?.neg(),
            BCF_BV_NOT => self.bv(arena, args[0])?.not(),
            BCF_BV_EXTRACT => self.bv(arena, args[0])?.extract(head.params_high(), head.params_low()),
            BCF_BV_SIGN_EXTEND => self.bv(arena, args[0])?.sign_extend(width),
            BCF_BV_ZERO_EXTEND => self.bv(arena, args[0])?.zero_extend(width),
            BCF_BV_REPEAT => {
                let part = self.bv(arena, args[0])?;
                (1..head.params_high()).fold(part, |acc, _| acc.concat(part))
            }
            BCF_BV_SIZE => Bv::new(width, arena.width(args[0]).into()),
            BCF_BV_FROM_BOOL => {
                let bits: Option<Vec<bool>> = args.iter().map(|&arg| self.bool(arena, arg)).collect();
                Bv::from_bits(bits?.into_iter())
            }
            BCF_BV_ITE => {
                let taken = match self.get(arena, args[0])? {
                    Value::Bool(value) => value,
                    Value::Bv(value) => !value.is_zero(),
                };
                self.bv(arena, if taken { args[1] } else { args[2] })?
            }
            _ => return None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn signed(value: u64, width: u8) -> i64 {
        (value << (64 - width)) as i64 >> (64 - width)
    }

    proptest! {
        /// Against the machine's own arithmetic, at widths it has and has not.
        #[test]
        fn operations_agree_with_u64(width in 1u8..=64, x: u64, y: u64, shift in 0u64..70) {
            let (bx, by) = (Bv::new(width, x), Bv::new(width, y));
            let (x, y) = (bx.to_u64().unwrap_or(0), by.to_u64().unwrap_or(0));
            let is = |value: u64| Bv::new(width, value);
            prop_assert_eq!(bx.add(by), is(x.wrapping_add(y)));
            prop_assert_eq!(bx.sub(by), is(x.wrapping_sub(y)));
            prop_assert_eq!(bx.mul(by), is(x.wrapping_mul(y)));
            prop_assert_eq!(bx.udiv(by), is(x.checked_div(y).unwrap_or(u64::MAX)));
            prop_assert_eq!(bx.urem(by), is(x.checked_rem(y).unwrap_or(x)));
            prop_assert_eq!(bx.ucmp(&by), x.cmp(&y));
            let (sx, sy) = (signed(x, width), signed(y, width));
            prop_assert_eq!(bx.scmp(&by), sx.cmp(&sy));
            if y != 0 {
                prop_assert_eq!(bx.sdiv(by), is(sx.wrapping_div(sy) as u64));
                let rest = sx.wrapping_rem(sy);
                let smod = if rest != 0 && (rest < 0) != (sy < 0) { rest.wrapping_add(sy) } else { rest };
                prop_assert_eq!(bx.smod(by), is(smod as u64));
            }
            let amount = is(shift);
            let shift = amount.to_u64().unwrap_or(0);
            let fits = shift < u64::from(width);
            prop_assert_eq!(bx.shl(amount), is(if fits { x << shift } else { 0 }));
            prop_assert_eq!(bx.lshr(amount), is(if fits { x >> shift } else { 0 }));
            prop_assert_eq!(bx.ashr(amount), is((sx >> shift.min(63)) as u64));
        }

        #[test]
        fn parts_make_up_the_whole(width in 2u8..=255, cut in 1u8..255, limbs: [u64; 4]) {
            let whole = Bv { width, limbs }.masked();
            let cut = 1 + cut % (width - 1);
            let (high, low) = (whole.extract(width - 1, cut), whole.extract(cut - 1, 0));
            prop_assert_eq!(high.concat(low), whole);
            prop_assert_eq!(whole.sub(whole), Bv::new(width, 0));
            let divisor = low.zero_extend(width);
            prop_assert_eq!(whole.udiv(divisor).mul(divisor).add(whole.urem(divisor)), whole);
            prop_assert_eq!(low.sign_extend(width).extract(cut - 1, 0), low);
        }
    }

    #[test]
    fn shared_terms_are_evaluated_once() {
        let mut arena = Arena::new();
        let x = arena.bv_var(8);
        let mut term = x;
        for _ in 0..100 {
            term = arena.intern(BCF_BV_ADD, 8, &[term, term]);
        }
        let mut evaluator = Evaluator::new();
        assert_eq!(evaluator.eval(&arena, term), None);
        evaluator.assign(x, Value::Bv(Bv::new(8, 3)));
        assert_eq!(evaluator.eval(&arena, term), Some(Value::Bv(Bv::new(8, 0))));
    }
}
