//! Turns terms into bits: `term = from_bool(bits)` and `atom = formula over bits`, with a justification.
//!
//! The rule BITBLAST takes an operator whose arguments are bits already, so a term is blasted from its leaves: its arguments are
//! exchanged for their bits by congruence, then the operator is. What the rule does not know is rewritten to what it knows first.

use bpftwin_uapi::bcf::*;
use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::builder::{Builder, Equation};
use super::slices;
use crate::bcf::checker::bitblast;
use crate::bcf::checker::rewrites::{BV_EXTRACT_SIGN_EXTEND_3, BV_EXTRACT_WHOLE};
use crate::bcf::expr::ExprId;

/// Bits of terms, each made once.
#[derive(Clone, Default)]
pub struct Bits {
    /// `None`: there is no way to bits, or no room for them.
    known: FxHashMap<ExprId, Option<Equation>>,
}

impl Bits {
    pub fn new() -> Bits {
        Bits::default()
    }

    /// `term = from_bool(…)` for a bit-vector; `None` where no rule says it (quotients), or there is no room for it.
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
        let blasted = b.claim(BCF_RULE_BITBLAST, over_bits.right, bits.id);
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
        BCF_BV_REPEAT if b.arena.width(args[0]) == 1 && head.params_high() < u8::MAX => {
            repeated_bit(b, id, args[0])
        }
        _ => None,
    }
}

/// `repeat n bit` as the upper bits of `sign_extend n bit`.
fn repeated_bit(b: &mut Builder, id: ExprId, bit: ExprId) -> Option<Equation> {
    let head = b.arena.head(id);
    let [zero, one, count] = [0, 1, u32::from(head.params_high())].map(|value| b.int(value));
    // (extract n 1 (sign_extend n bit)) = (repeat n (extract 0 0 bit))
    let upper = b.rewrite(BV_EXTRACT_SIGN_EXTEND_3, &[bit, one, count, count, count, zero])?;
    let whole = b.rewrite(BV_EXTRACT_WHOLE, &[bit, zero])?;
    let repeated = b.cong(BCF_BV_REPEAT, head.params, &[whole])?;
    Some(b.symm(&upper.then(&repeated)))
}
