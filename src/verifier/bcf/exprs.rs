//! Expressions of the symbolic run, as words in the order in which they are made.
//!
//! What user space gets is this array, so nothing is shared or left out: an expression that is asked for twice is there twice. Ids
//! are indices of first words.

use std::num::NonZeroU32;

use bpftwin_uapi::bcf::*;

/// An expression of [`Exprs`]: the index of its first word, plus one so that a register without takes no room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Expr(NonZeroU32);

impl Expr {
    /// Id in the array of words.
    pub fn id(self) -> u32 {
        self.0.get() - 1
    }
}

/// `params` of an extension of 32 bits to 64.
const EXTEND_32_TO_64: u16 = 32 << 8 | 64;

/// Bits of a bit-vector's 32-bit or 64-bit form.
pub const fn width(bit32: bool) -> u16 {
    if bit32 { 32 } else { 64 }
}

/// The expression array: `bcf->exprs`.
#[derive(Default)]
pub struct Exprs {
    words: Vec<u32>,
}

impl Exprs {
    pub fn words(&self) -> &[u32] {
        &self.words
    }

    pub fn len(&self) -> usize {
        self.words.len()
    }

    /// Drops all words from `len` on.
    pub fn truncate(&mut self, len: usize) {
        self.words.truncate(len);
    }

    /// A node. `code` is one of `BCF_*`, with its type in it.
    pub fn node(&mut self, code: u8, params: u16, args: impl ExactSizeIterator<Item = Expr>) -> Expr {
        let vlen = u8::try_from(args.len()).unwrap_or(u8::MAX);
        let expr = self.head(code, vlen, params);
        self.words.extend(args.take(vlen.into()).map(Expr::id));
        expr
    }

    fn head(&mut self, code: u8, vlen: u8, params: u16) -> Expr {
        self.words.push(bytemuck::cast(BcfExpr { code, vlen, params }));
        // Never zero, and far below 2^32 words: a run is a million instructions.
        Expr(NonZeroU32::new(self.words.len() as u32).unwrap_or(NonZeroU32::MIN))
    }

    fn head_of(&self, expr: Expr) -> BcfExpr {
        bytemuck::cast(self.words[expr.id() as usize])
    }

    fn arg(&self, expr: Expr, i: usize) -> u32 {
        self.words[expr.id() as usize + 1 + i]
    }

    /// The node's words, its arguments' ids among them.
    pub fn words_of(&self, expr: Expr) -> &[u32] {
        let start = expr.id() as usize;
        &self.words[start..=start + usize::from(self.head_of(expr).vlen)]
    }

    /// `bcf_val`
    pub fn constant(&mut self, value: u64, bit32: bool) -> Expr {
        let expr = self.head(BCF_BV_CONST, if bit32 { 1 } else { 2 }, width(bit32));
        self.words.push(value as u32);
        if !bit32 {
            self.words.push((value >> 32) as u32);
        }
        expr
    }

    /// `bcf_var`
    pub fn var(&mut self, bit32: bool) -> Expr {
        self.head(BCF_BV_VAR, 0, width(bit32))
    }

    /// A node of two arguments.
    pub fn binary(&mut self, code: u8, params: u16, a: Expr, b: Expr) -> Expr {
        self.node(code, params, [a, b].into_iter())
    }

    /// The low `size` bits: `bcf_extract`.
    pub fn extract(&mut self, size: u16, expr: Expr) -> Expr {
        self.node(BCF_BV_EXTRACT, (size - 1) << 8, [expr].into_iter())
    }

    /// Makes `bits` bits of `bits - by`: `bcf_extend`.
    pub fn extend(&mut self, by: u16, bits: u16, signed: bool, expr: Expr) -> Expr {
        let code = if signed { BCF_BV_SIGN_EXTEND } else { BCF_BV_ZERO_EXTEND };
        self.node(code, by << 8 | bits, [expr].into_iter())
    }

    pub fn zext_32_to_64(&mut self, expr: Expr) -> Expr {
        self.extend(32, 64, false, expr)
    }

    pub fn sext_32_to_64(&mut self, expr: Expr) -> Expr {
        self.extend(32, 64, true, expr)
    }

    /// The low 32 bits of 64: `bcf_expr32`.
    pub fn low32(&mut self, expr: Expr) -> Expr {
        let head = self.head_of(expr);
        match head.code {
            BCF_BV_ZERO_EXTEND | BCF_BV_SIGN_EXTEND if head.params == EXTEND_32_TO_64 => {
                let arg = self.arg(expr, 0);
                NonZeroU32::new(arg + 1).map_or(expr, Expr)
            }
            BCF_BV_CONST => {
                let low = self.arg(expr, 0);
                self.constant(low.into(), true)
            }
            _ => self.extract(32, expr),
        }
    }

    /// A comparison with a constant: `bcf_add_pred`. `op` is the jump operation.
    pub fn pred(&mut self, op: u8, lhs: Expr, imm: u64, bit32: bool) -> Expr {
        let rhs = self.constant(imm, bit32);
        self.binary(BCF_BOOL | op, 0, lhs, rhs)
    }

    /// All of `conds`, or one of them (`code`); a single one stands for itself.
    pub fn join(&mut self, code: u8, conds: &[Expr]) -> Option<Expr> {
        match *conds {
            [] => None,
            [cond] => Some(cond),
            _ => Some(self.node(code, 0, conds.iter().copied())),
        }
    }

    /// The constant that `expr` is.
    pub fn value_of(&self, expr: Expr) -> Option<u64> {
        let head = self.head_of(expr);
        (head.code == BCF_BV_CONST).then(|| {
            let high = if head.vlen > 1 { self.arg(expr, 1) } else { 0 };
            u64::from(self.arg(expr, 0)) | u64::from(high) << 32
        })
    }

    /// Code and arguments of a comparison.
    pub fn comparison(&self, expr: Expr) -> Option<(u8, Expr, Expr)> {
        let head = self.head_of(expr);
        if head.kind() != BCF_BOOL || head.vlen != 2 {
            return None;
        }
        let arg = |i| NonZeroU32::new(self.arg(expr, i) + 1).map(Expr);
        Some((head.code, arg(0)?, arg(1)?))
    }
}
