//! Turns terms into bits: `term = from_bool(bits)` and `atom = formula over bits`, with a justification.
//!
//! The rule BITBLAST takes an operator whose arguments are bits already, so a term is blasted from its leaves: its arguments are
//! exchanged for their bits by congruence, then the operator is. What the rule does not know is rewritten to what it knows first.

use bpftwin_uapi::bcf::*;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::builder::{BITBLAST, Builder, Equation};
use super::slices;
use crate::bcf::checker::bitblast;
use crate::bcf::expr::ExprId;

const BV_EXTRACT_SIGN_EXTEND_3: u32 = 64;

/// Bits of terms, each made once.
#[derive(Clone, Default)]
pub struct Bits {
    /// `None`: there is no way to bits.
    known: FxHashMap<ExprId, Option<Equation>>,
}

impl Bits {
    pub fn new() -> Bits {
        Bits::default()
    }

    /// `term = from_bool(…)` for a bit-vector; `None` where the rules cannot say it (products, quotients).
    pub fn term(&mut self, b: &mut Builder, root: ExprId) -> Option<Equation> {
        let mut stack: SmallVec<[(ExprId, bool); 16]> = SmallVec::from_slice(&[(root, false)]);
        while let Some((id, ready)) = stack.pop() {
            if self.known.contains_key(&id) {
                continue;
            }
            if let Some(lowered) = lower(b, id) {
                if ready {
                    let bits = self.known.get(&lowered.right).cloned().flatten();
                    self.known.insert(id, bits.map(|bits| lowered.then(&bits)));
                } else {
                    stack.extend([(id, true), (lowered.right, false)]);
                }
            } else if ready {
                let bits = self.blast(b, id);
                self.known.insert(id, bits);
            } else {
                stack.push((id, true));
                stack.extend(
                    b.arena.args(id).iter().filter(|&&arg| b.arena.is_bv(arg)).map(|&arg| (arg, false)),
                );
            }
        }
        self.known.get(&root).cloned().flatten()
    }

    /// `atom = formula` for a comparison.
    pub fn atom(&mut self, b: &mut Builder, atom: ExprId) -> Option<Equation> {
        let args: SmallVec<[ExprId; 2]> = b.arena.args(atom).into();
        for &arg in &args {
            self.term(b, arg)?;
        }
        self.blast(b, atom)
    }

    /// Blasts an operator whose arguments have their bits.
    fn blast(&mut self, b: &mut Builder, id: ExprId) -> Option<Equation> {
        let head = b.arena.head(id);
        let args: SmallVec<[ExprId; 4]> = b.arena.args(id).into();
        let forms: Option<SmallVec<[Equation; 4]>> = args
            .iter()
            .map(|&arg| {
                if b.arena.is_bv(arg) { self.known.get(&arg)?.clone() } else { Some(Equation::trivial(arg)) }
            })
            .collect();
        if b.is_full(circuit_words(b, id)) {
            return None;
        }
        let over_bits = match args.is_empty() {
            true => Equation::trivial(id),
            false => b.cong(head.code, head.params, &forms?)?,
        };
        let bits = bitblast::blast(&mut b.arena, over_bits.right)?;
        let blasted = b.claim(BITBLAST, over_bits.right, bits.id);
        Some(over_bits.then(&blasted))
    }
}

/// About how many words the circuit of an operator takes.
fn circuit_words(b: &Builder, id: ExprId) -> usize {
    const WORDS_A_GATE: usize = 16;
    let args = b.arena.args(id);
    let width = usize::from(b.arena.width(id).max(args.first().map_or(0, |&arg| b.arena.width(arg))));
    let layers = match b.arena.code(id) {
        BCF_BV_MUL => width * args.len(),
        BCF_BV_SHL | BCF_BV_LSHR | BCF_BV_ASHR => 8,
        _ => args.len().max(1),
    };
    width * layers * WORDS_A_GATE
}

/// Rewrites an operator that BITBLAST does not take.
fn lower(b: &mut Builder, id: ExprId) -> Option<Equation> {
    let head = b.arena.head(id);
    let args: SmallVec<[ExprId; 4]> = b.arena.args(id).into();
    match head.code {
        BCF_BV_ZERO_EXTEND | BCF_BV_SHL => slices::as_concat(b, id),
        BCF_BV_REPEAT if b.arena.width(args[0]) == 1 => repeat_of_sign(b, args[0], head.params_high().into()),
        _ => None,
    }
}

/// `repeat n (extract top top x)` as bits of a sign-extended `x`.
fn repeat_of_sign(b: &mut Builder, bit: ExprId, count: u32) -> Option<Equation> {
    let head = b.arena.head(bit);
    if head.code != BCF_BV_EXTRACT {
        return None;
    }
    let x = b.arena.args(bit)[0];
    let width = u32::from(b.arena.width(x));
    if u32::from(head.params_high()) != width - 1 || width + count > 255 {
        return None;
    }
    let ints = [width, width + count - 1, count, count, width - 1].map(|value| b.int(value));
    let extracted = b.rewrite(BV_EXTRACT_SIGN_EXTEND_3, &[x, ints[0], ints[1], ints[2], ints[3], ints[4]])?;
    Some(b.symm(&extracted))
}
