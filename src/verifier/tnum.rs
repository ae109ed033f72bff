//! Tristate numbers: for each bit of a 64-bit word, known zero, known one, or unknown.
//!
//! A [`Tnum`] with value `v` and mask `m` stands for all `x` with `x & !m == v`; `v & m == 0` always holds. The
//! operations are those of the kernel's `kernel/bpf/tnum.c`, which are sound and, but for multiplication, optimal.

/// A set of 64-bit words given by known bits: `struct tnum`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Tnum {
    pub value: u64,
    pub mask: u64,
}

impl Tnum {
    /// Any word: `tnum_unknown`.
    pub const UNKNOWN: Tnum = Tnum { value: 0, mask: u64::MAX };

    #[inline]
    pub const fn constant(value: u64) -> Tnum {
        Tnum { value, mask: 0 }
    }

    #[inline]
    pub const fn is_const(self) -> bool {
        self.mask == 0
    }

    #[inline]
    pub const fn equals_const(self, value: u64) -> bool {
        self.mask == 0 && self.value == value
    }

    #[inline]
    pub const fn is_unknown(self) -> bool {
        self.mask == u64::MAX
    }

    /// The smallest tnum that holds every word from `min` to `max`, both included: `tnum_range`.
    #[inline]
    pub const fn range(min: u64, max: u64) -> Tnum {
        let chi = min ^ max;
        let bits = 64 - chi.leading_zeros();
        if bits > 63 {
            return Self::UNKNOWN;
        }
        let delta = (1u64 << bits) - 1;
        Tnum { value: min & !delta, mask: delta }
    }

    #[inline]
    pub const fn lshift(self, shift: u8) -> Tnum {
        let s = (shift & 63) as u32;
        Tnum { value: self.value << s, mask: self.mask << s }
    }

    #[inline]
    pub const fn rshift(self, shift: u8) -> Tnum {
        let s = (shift & 63) as u32;
        Tnum { value: self.value >> s, mask: self.mask >> s }
    }

    /// Arithmetic shift of a word of `bitness` (32 or 64) bits.
    #[inline]
    pub const fn arshift(self, shift: u8, bitness: u8) -> Tnum {
        if bitness == 32 {
            let s = (shift & 31) as u32;
            Tnum {
                value: ((self.value as i32) >> s) as u32 as u64,
                mask: ((self.mask as i32) >> s) as u32 as u64,
            }
        } else {
            let s = (shift & 63) as u32;
            Tnum { value: ((self.value as i64) >> s) as u64, mask: ((self.mask as i64) >> s) as u64 }
        }
    }

    #[inline]
    pub const fn add(self, other: Tnum) -> Tnum {
        let sm = self.mask.wrapping_add(other.mask);
        let sv = self.value.wrapping_add(other.value);
        let sigma = sm.wrapping_add(sv);
        let chi = sigma ^ sv;
        let mu = chi | self.mask | other.mask;
        Tnum { value: sv & !mu, mask: mu }
    }

    #[inline]
    pub const fn sub(self, other: Tnum) -> Tnum {
        let dv = self.value.wrapping_sub(other.value);
        let alpha = dv.wrapping_add(self.mask);
        let beta = dv.wrapping_sub(other.mask);
        let chi = alpha ^ beta;
        let mu = chi | self.mask | other.mask;
        Tnum { value: dv & !mu, mask: mu }
    }

    /// Two's complement negation: `tnum_neg`.
    #[inline]
    pub const fn neg(self) -> Tnum {
        Tnum::constant(0).sub(self)
    }

    #[inline]
    pub const fn and(self, other: Tnum) -> Tnum {
        let alpha = self.value | self.mask;
        let beta = other.value | other.mask;
        let v = self.value & other.value;
        Tnum { value: v, mask: alpha & beta & !v }
    }

    #[inline]
    pub const fn or(self, other: Tnum) -> Tnum {
        let v = self.value | other.value;
        let mu = self.mask | other.mask;
        Tnum { value: v, mask: mu & !v }
    }

    #[inline]
    pub const fn xor(self, other: Tnum) -> Tnum {
        let v = self.value ^ other.value;
        let mu = self.mask | other.mask;
        Tnum { value: v & !mu, mask: mu }
    }

    /// Long multiplication over the bits of `self`; an unknown bit takes the union of both cases.
    pub const fn mul(self, other: Tnum) -> Tnum {
        let (mut a, mut b) = (self, other);
        let mut acc = Tnum::constant(0);
        while a.value | a.mask != 0 {
            if a.value & 1 != 0 {
                acc = acc.add(b);
            } else if a.mask & 1 != 0 {
                acc = acc.union(acc.add(b));
            }
            a = a.rshift(1);
            b = b.lshift(1);
        }
        acc
    }

    /// Some word is in both sets: `tnum_overlap`.
    #[inline]
    pub const fn overlap(self, other: Tnum) -> bool {
        let mu = !self.mask & !other.mask;
        self.value & mu == other.value & mu
    }

    /// Words in both sets, where there are any: `tnum_intersect`.
    #[inline]
    pub const fn intersect(self, other: Tnum) -> Tnum {
        let v = self.value | other.value;
        let mu = self.mask & other.mask;
        Tnum { value: v & !mu, mask: mu }
    }

    /// The smallest tnum that holds both sets: `tnum_union`.
    #[inline]
    pub const fn union(self, other: Tnum) -> Tnum {
        let v = self.value & other.value;
        let mu = (self.value ^ other.value) | self.mask | other.mask;
        Tnum { value: v & !mu, mask: mu }
    }

    /// The lowest `size` bytes, zero-extended: `tnum_cast`.
    #[inline]
    pub const fn cast(self, size: u8) -> Tnum {
        let keep = if size >= 8 { u64::MAX } else { (1u64 << (size * 8)) - 1 };
        Tnum { value: self.value & keep, mask: self.mask & keep }
    }

    /// Every word is a multiple of `size`, a power of two or zero: `tnum_is_aligned`.
    #[inline]
    pub const fn is_aligned(self, size: u64) -> bool {
        size == 0 || (self.value | self.mask) & (size - 1) == 0
    }

    /// `other` is a subset of this set: `tnum_in`.
    #[inline]
    pub const fn contains(self, other: Tnum) -> bool {
        if other.mask & !self.mask != 0 {
            return false;
        }
        self.value == other.value & !self.mask
    }

    /// The smallest member above `z`; the largest one, where there is none: `tnum_step`.
    pub const fn step(self, z: u64) -> u64 {
        let max = self.value | self.mask;
        if z >= max {
            return max;
        }
        if z < self.value {
            return self.value;
        }
        // Members are `value + s` for the submasks `s` of the mask: find the next submask above `z - value`. Ones in
        // the known positions pass a carry on; below the highest known position that is one, every position does.
        let distance = z - self.value;
        let known = distance & !self.mask;
        let below = if known == 0 { 0 } else { u64::MAX >> known.leading_zeros() };
        let next = (distance | below | !self.mask).wrapping_add(1) & self.mask;
        self.value | next
    }

    /// The low 32 bits: `tnum_subreg`.
    #[inline]
    pub const fn subreg(self) -> Tnum {
        self.cast(4)
    }

    #[inline]
    pub const fn clear_subreg(self) -> Tnum {
        Tnum { value: self.value >> 32 << 32, mask: self.mask >> 32 << 32 }
    }

    #[inline]
    pub const fn with_subreg(self, subreg: Tnum) -> Tnum {
        self.clear_subreg().or(subreg.subreg())
    }

    #[inline]
    pub const fn const_subreg(self, value: u32) -> Tnum {
        self.with_subreg(Tnum::constant(value as u64))
    }

    /// `tnum_subreg_is_const`
    #[inline]
    pub const fn subreg_is_const(self) -> bool {
        self.mask as u32 == 0
    }
}

/// As the verifier log prints it (`tnum_strn`): a constant where it is one, small ones in decimal; else `(value; mask)`.
impl std::fmt::Display for Tnum {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Tnum { value, mask: 0 } if *value <= u64::from(u16::MAX) => write!(f, "{value}"),
            Tnum { value, mask: 0 } => write!(f, "{value:#x}"),
            Tnum { value, mask } => write!(f, "({value:#x}; {mask:#x})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_finds_the_next_member() {
        for mask in 0..32u64 {
            for value in (0..32u64).filter(|value| value & mask == 0) {
                let tnum = Tnum { value, mask };
                let members: Vec<u64> = (0..32).filter(|x| x & !mask == value).collect();
                for z in 0..40 {
                    let next = members.iter().copied().find(|&x| x > z).unwrap_or(value | mask);
                    assert_eq!(tnum.step(z), next, "{tnum:?} {z}");
                }
            }
        }
    }
}
