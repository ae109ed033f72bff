//! Arithmetic, byte swaps and comparisons of BPF on concrete numbers (RFC 9669).

use bpftwin_uapi::insn::*;

/// Sign extension of the low `bits` bits, 8 to 64.
pub fn sign_extend(value: u64, bits: u32) -> u64 {
    let unused = 64 - bits.clamp(1, 64);
    ((value << unused) as i64 >> unused) as u64
}

/// The low `bytes` bytes, 1 to 8.
pub fn truncate(value: u64, bytes: u32) -> u64 {
    if bytes >= 8 { value } else { value & ((1 << (8 * bytes)) - 1) }
}

/// Result of a 64-bit operation other than `BPF_END`; `off` is the instruction's, which makes division signed and moves
/// sign-extend. `None` for what is no instruction.
pub fn alu64(op: u8, off: i16, dst: u64, src: u64) -> Option<u64> {
    Some(match (op, off) {
        (BPF_ADD, 0) => dst.wrapping_add(src),
        (BPF_SUB, 0) => dst.wrapping_sub(src),
        (BPF_MUL, 0) => dst.wrapping_mul(src),
        (BPF_DIV, 0) => dst.checked_div(src).unwrap_or(0),
        (BPF_DIV, 1) => match src {
            0 => 0,
            _ => (dst as i64).wrapping_div(src as i64) as u64,
        },
        (BPF_MOD, 0) => dst.checked_rem(src).unwrap_or(dst),
        (BPF_MOD, 1) => match src {
            0 => dst,
            _ => (dst as i64).wrapping_rem(src as i64) as u64,
        },
        (BPF_OR, 0) => dst | src,
        (BPF_AND, 0) => dst & src,
        (BPF_XOR, 0) => dst ^ src,
        (BPF_LSH, 0) => dst << (src & 63),
        (BPF_RSH, 0) => dst >> (src & 63),
        (BPF_ARSH, 0) => ((dst as i64) >> (src & 63)) as u64,
        (BPF_NEG, 0) => dst.wrapping_neg(),
        (BPF_MOV, 0) => src,
        (BPF_MOV, 8 | 16 | 32) => sign_extend(src, off as u32),
        _ => return None,
    })
}

/// Result of a 32-bit operation, zero-extended; see [`alu64`].
pub fn alu32(op: u8, off: i16, dst: u64, src: u64) -> Option<u64> {
    let (dst, src) = (dst as u32, src as u32);
    let result = match (op, off) {
        (BPF_DIV, 0) => dst.checked_div(src).unwrap_or(0),
        (BPF_DIV, 1) => match src {
            0 => 0,
            _ => (dst as i32).wrapping_div(src as i32) as u32,
        },
        (BPF_MOD, 0) => dst.checked_rem(src).unwrap_or(dst),
        (BPF_MOD, 1) => match src {
            0 => dst,
            _ => (dst as i32).wrapping_rem(src as i32) as u32,
        },
        (BPF_LSH, 0) => dst << (src & 31),
        (BPF_RSH, 0) => dst >> (src & 31),
        (BPF_ARSH, 0) => ((dst as i32) >> (src & 31)) as u32,
        (BPF_MOV, 32) => return None,
        // The low half of these does not depend on the high halves of the operands.
        _ => alu64(op, off, dst.into(), src.into())? as u32,
    };
    Some(result.into())
}

/// Result of `BPF_END`: `class` tells byte swaps to an order (`BPF_ALU`, with `to` for which) from unconditional ones
/// (`BPF_ALU64`). The machine is little-endian.
pub fn end(class: u8, to: u8, bits: i32, value: u64) -> Option<u64> {
    let swap = class == BPF_ALU64 || to == BPF_TO_BE;
    Some(match (bits, swap) {
        (16, true) => (value as u16).swap_bytes().into(),
        (32, true) => (value as u32).swap_bytes().into(),
        (64, true) => value.swap_bytes(),
        (16, false) => (value as u16).into(),
        (32, false) => (value as u32).into(),
        (64, false) => value,
        _ => return None,
    })
}

/// Whether a conditional jump is taken. `is_jmp32` compares low halves. `None` for what is no comparison.
pub fn compare(op: u8, is_jmp32: bool, dst: u64, src: u64) -> Option<bool> {
    let (dst, src, signed_dst, signed_src) = if is_jmp32 {
        let (dst, src) = (dst as u32, src as u32);
        (dst.into(), src.into(), i64::from(dst as i32), i64::from(src as i32))
    } else {
        (dst, src, dst as i64, src as i64)
    };
    Some(match op {
        BPF_JEQ => dst == src,
        BPF_JNE => dst != src,
        BPF_JGT => dst > src,
        BPF_JGE => dst >= src,
        BPF_JLT => dst < src,
        BPF_JLE => dst <= src,
        BPF_JSET => dst & src != 0,
        BPF_JSGT => signed_dst > signed_src,
        BPF_JSGE => signed_dst >= signed_src,
        BPF_JSLT => signed_dst < signed_src,
        BPF_JSLE => signed_dst <= signed_src,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bcf::eval::Bv;

    const MIN: u64 = i64::MIN as u64;
    const NEG: u64 = u64::MAX;

    #[test]
    fn division_has_no_traps() {
        let rows = [
            // op, signed, dst, src, 64 bits, 32 bits
            (BPF_DIV, 0, 7, 0, 0, 0),
            (BPF_MOD, 0, 0x1_0000_0007, 0, 0x1_0000_0007, 7),
            (BPF_DIV, 1, 7, 0, 0, 0),
            (BPF_MOD, 1, NEG, 0, NEG, 0xffff_ffff),
            (BPF_DIV, 1, MIN, NEG, MIN, 0),
            (BPF_DIV, 1, 0x8000_0000, NEG, 0xffff_ffff_8000_0000, 0x8000_0000),
            (BPF_MOD, 1, MIN, NEG, 0, 0),
            (BPF_DIV, 1, 9u64.wrapping_neg(), 2, 4u64.wrapping_neg(), 0xffff_fffc),
            (BPF_MOD, 1, 9u64.wrapping_neg(), 2, NEG, 0xffff_ffff),
            (BPF_DIV, 0, NEG, 2, NEG >> 1, 0x7fff_ffff),
        ];
        for (op, signed, dst, src, wide, narrow) in rows {
            assert_eq!(alu64(op, signed, dst, src), Some(wide), "{op:#x} {dst:#x} {src:#x}");
            assert_eq!(alu32(op, signed, dst, src), Some(narrow), "{op:#x} {dst:#x} {src:#x}");
        }
    }

    #[test]
    fn shifts_mask_their_count() {
        assert_eq!(alu64(BPF_LSH, 0, 1, 65), Some(2));
        assert_eq!(alu32(BPF_LSH, 0, 0x8000_0001, 33), Some(2));
        assert_eq!(alu64(BPF_ARSH, 0, MIN, 63), Some(NEG));
        assert_eq!(alu32(BPF_ARSH, 0, 0x8000_0000, 31), Some(0xffff_ffff));
        assert_eq!(alu32(BPF_RSH, 0, NEG, 32), Some(0xffff_ffff));
    }

    #[test]
    fn narrow_results_are_zero_extended() {
        assert_eq!(alu32(BPF_ADD, 0, NEG, 1), Some(0));
        assert_eq!(alu32(BPF_SUB, 0, 0, 1), Some(0xffff_ffff));
        assert_eq!(alu32(BPF_NEG, 0, 1, 0), Some(0xffff_ffff));
        assert_eq!(alu32(BPF_MOV, 8, 0, 0x80), Some(0xffff_ff80));
        assert_eq!(alu64(BPF_MOV, 8, 0, 0x80), Some(0xffff_ffff_ffff_ff80));
        assert_eq!(alu64(BPF_MOV, 32, 0, 0x8000_0000), Some(0xffff_ffff_8000_0000));
        assert_eq!(alu32(BPF_MOV, 32, 0, 1), None);
        assert_eq!(alu64(BPF_ADD, 1, 0, 1), None);
    }

    #[test]
    fn byte_order() {
        let value = 0x0102_0304_0506_0708;
        assert_eq!(end(BPF_ALU, BPF_TO_BE, 16, value), Some(0x0807));
        assert_eq!(end(BPF_ALU, BPF_TO_LE, 32, value), Some(0x0506_0708));
        assert_eq!(end(BPF_ALU64, BPF_TO_LE, 64, value), Some(0x0807_0605_0403_0201));
        assert_eq!(end(BPF_ALU64, BPF_TO_LE, 8, value), None);
    }

    #[test]
    fn comparisons() {
        assert_eq!(compare(BPF_JSGT, false, 0, NEG), Some(true));
        assert_eq!(compare(BPF_JGT, false, 0, NEG), Some(false));
        assert_eq!(compare(BPF_JSLT, true, 0x8000_0000, 0), Some(true));
        assert_eq!(compare(BPF_JSLT, false, 0x8000_0000, 0), Some(false));
        assert_eq!(compare(BPF_JEQ, true, 1 << 32, 0), Some(true));
        assert_eq!(compare(BPF_JSET, false, 6, 1), Some(false));
        assert_eq!(compare(BPF_CALL, false, 0, 0), None);
    }

    /// What SMT-LIB says of the operation, where that is the same.
    fn by_terms(op: u8, width: u8, dst: u64, src: u64) -> Option<u64> {
        let (dst, src) = (Bv::new(width, dst), Bv::new(width, src));
        let count = src.and(Bv::new(width, u64::from(width) - 1));
        let result = match op {
            BPF_ADD => dst.add(src),
            BPF_SUB => dst.sub(src),
            BPF_MUL => dst.mul(src),
            BPF_DIV if !src.is_zero() => dst.udiv(src),
            BPF_MOD => dst.urem(src),
            BPF_OR => dst.or(src),
            BPF_AND => dst.and(src),
            BPF_XOR => dst.xor(src),
            BPF_LSH => dst.shl(count),
            BPF_RSH => dst.lshr(count),
            BPF_ARSH => dst.ashr(count),
            BPF_NEG => dst.neg(),
            _ => return None,
        };
        result.to_u64()
    }

    #[test]
    fn agrees_with_bit_vectors() {
        let mut rng = crate::exec::random::Rng(1);
        let corners = [0, 1, 2, 31, 32, 63, 64, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, NEG >> 1, MIN, NEG];
        let mut compared = 0;
        for round in 0..4000 {
            let mut pick = || match rng.below(3) {
                0 => corners[rng.below(corners.len())],
                1 => rng.next(),
                _ => rng.next() >> rng.below(64),
            };
            let (dst, src) = (pick(), pick());
            for op in (BPF_ADD..=BPF_ARSH).step_by(0x10) {
                for (width, ours) in [(64, alu64(op, 0, dst, src)), (32, alu32(op, 0, dst, src))] {
                    if let Some(theirs) = by_terms(op, width, dst, src) {
                        assert_eq!(ours, Some(theirs), "{round}: {op:#x} {width} {dst:#x} {src:#x}");
                        compared += 1;
                    }
                }
            }
        }
        assert!(compared > 4000 * 22, "{compared}");
    }
}
