//! How values of a run were computed from inputs, and what inputs would make a value another one.

use bpftwin_uapi::insn::*;
use smallvec::SmallVec;

use super::alu;
use super::memory::Value;

/// A value of this run that depends on inputs.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TermId(u32);

#[derive(Clone, Copy)]
enum Op {
    /// The answer of this number.
    Answer(u32),
    Alu {
        op: u8,
        off: i16,
        is64: bool,
    },
    Swap {
        bits: u8,
    },
}

#[derive(Clone, Copy)]
struct Operand {
    bits: u64,
    term: Option<TermId>,
    is_pointer: bool,
}

impl From<Value> for Operand {
    fn from(value: Value) -> Self {
        Operand { bits: value.bits, term: value.term, is_pointer: value.region.is_some() }
    }
}

#[derive(Clone, Copy)]
struct Term {
    op: Op,
    left: Operand,
    right: Operand,
}

/// The answers to change, and what to change them to.
pub type Change = SmallVec<[(u32, u64); 2]>;

/// Operations that [`Terms::solve`] looks through, at most.
const MAX_DEPTH: usize = 128;
/// Operations that [`Terms::answers_of`] looks at, at most.
const MAX_VISITED: usize = 1 << 16;

#[derive(Default)]
pub(super) struct Terms {
    terms: Vec<Term>,
}

impl Terms {
    fn push(&mut self, term: Term) -> Option<TermId> {
        let id = u32::try_from(self.terms.len()).ok()?;
        self.terms.push(term);
        Some(TermId(id))
    }

    fn get(&self, id: TermId) -> Option<Term> {
        self.terms.get(id.0 as usize).copied()
    }

    /// The answer itself.
    pub fn answer(&mut self, number: u32, bits: u64) -> Option<TermId> {
        let left = Value::scalar(bits).into();
        self.push(Term { op: Op::Answer(number), left, right: Value::default().into() })
    }

    /// The result of an operation; none where it depends on no input.
    pub fn alu(&mut self, op: u8, off: i16, is64: bool, left: Value, right: Value) -> Option<TermId> {
        if left.term.is_none() && right.term.is_none() {
            return None;
        }
        if op == BPF_MOV && off == 0 && is64 {
            return right.term;
        }
        self.push(Term { op: Op::Alu { op, off, is64 }, left: left.into(), right: right.into() })
    }

    /// [`alu`](Self::alu) in 64 bits with a constant.
    pub fn with(&mut self, op: u8, left: Value, constant: u64) -> Value {
        let bits = alu::alu64(op, 0, left.bits, constant).unwrap_or(0);
        Value { bits, region: None, term: self.alu(op, 0, true, left, Value::scalar(constant)) }
    }

    /// The result of `BPF_END`.
    pub fn end(&mut self, class: u8, to: u8, bits: i32, value: Value) -> Option<TermId> {
        value.term?;
        if class == BPF_ALU && to == BPF_TO_LE {
            let mask = alu::truncate(u64::MAX, bits as u32 / 8);
            return self.with(BPF_AND, value, mask).term;
        }
        let right = Value::default().into();
        self.push(Term { op: Op::Swap { bits: bits as u8 }, left: value.into(), right })
    }

    /// Numbers of the answers that the values depend on, in order.
    pub fn answers_of(&self, terms: impl IntoIterator<Item = TermId>) -> Vec<u32> {
        let mut answers = Vec::new();
        let mut visited = rustc_hash::FxHashSet::default();
        let mut open: Vec<TermId> = terms.into_iter().collect();
        while let Some(id) = open.pop() {
            if visited.len() >= MAX_VISITED || !visited.insert(id) {
                continue;
            }
            let Some(term) = self.get(id) else { continue };
            if let Op::Answer(number) = term.op {
                answers.push(number);
            }
            open.extend([term.left.term, term.right.term].into_iter().flatten());
        }
        answers.sort_unstable();
        answers
    }

    /// Answers that would give the value the bits of `target`, as far as can be told by undoing one operation after another.
    pub fn solve(&self, term: TermId, target: u64) -> Change {
        let mut change = Change::new();
        // Terms with the value that they should have, and the bits of it that matter.
        let mut open: SmallVec<[(TermId, u64, u64); 8]> = SmallVec::from_slice(&[(term, target, u64::MAX)]);
        for _ in 0..MAX_DEPTH {
            let Some((id, target, mask)) = open.pop() else { break };
            let Some(term) = self.get(id) else { break };
            let Term { left, right, .. } = term;
            let mut want = |operand: Operand, target, mask| {
                if let Some(term) = operand.term {
                    open.push((term, target, mask));
                }
            };
            let (op, off, is64) = match term.op {
                Op::Answer(number) => {
                    let new = left.bits & !mask | target & mask;
                    match change.iter_mut().find(|(changed, _)| *changed == number) {
                        Some((_, bits)) => *bits = *bits & !mask | target & mask,
                        None => change.push((number, new)),
                    }
                    continue;
                }
                Op::Swap { bits } => {
                    let swap = |value| alu::end(BPF_ALU64, BPF_TO_LE, bits.into(), value).unwrap_or(0);
                    want(left, swap(target), swap(mask));
                    continue;
                }
                Op::Alu { op, off, is64 } => (op, off, is64),
            };
            let (width, mask) = if is64 { (64, mask) } else { (32, mask & 0xffff_ffff) };
            let shift = (right.bits % width) as u32;
            // A pointer depends on whether there is one; its offset is the other side.
            let goes_left = left.term.is_some() && !(left.is_pointer && right.term.is_some());
            match op {
                BPF_MOV if off == 0 => want(right, target, mask),
                BPF_MOV => want(right, target, mask & alu::truncate(u64::MAX, off as u32 / 8)),
                BPF_ADD if goes_left => want(left, target.wrapping_sub(right.bits), mask),
                BPF_ADD => want(right, target.wrapping_sub(left.bits), mask),
                BPF_SUB if goes_left => want(left, target.wrapping_add(right.bits), mask),
                BPF_SUB => want(right, left.bits.wrapping_sub(target), mask),
                BPF_NEG => want(left, target.wrapping_neg(), mask),
                BPF_XOR if left.term.is_some() => want(left, target ^ right.bits, mask),
                BPF_XOR => want(right, target ^ left.bits, mask),
                // Mostly bytes that are put together: each side gets its own bits.
                BPF_OR => {
                    want(left, target, if right.term.is_none() { mask & !right.bits } else { mask });
                    want(right, target, if left.term.is_none() { mask & !left.bits } else { mask });
                }
                BPF_AND if left.term.is_some() => want(left, target, mask & right.bits),
                BPF_AND => want(right, target, mask & left.bits),
                BPF_LSH => want(left, target >> shift, mask >> shift),
                BPF_RSH | BPF_ARSH => want(left, target << shift, mask << shift),
                BPF_MUL if left.term.is_some() => {
                    want(left, target.checked_div(right.bits).unwrap_or(0), mask)
                }
                BPF_MUL => want(right, target.checked_div(left.bits).unwrap_or(0), mask),
                BPF_DIV => want(left, target.wrapping_mul(right.bits), mask),
                _ => want(left, target, mask),
            }
        }
        change
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(terms: &mut Terms, number: u32, bits: u64) -> Value {
        Value { bits, region: None, term: terms.answer(number, bits) }
    }

    #[test]
    fn bytes_put_together_come_apart() {
        let mut terms = Terms::default();
        let (low, high) = (input(&mut terms, 0, 0), input(&mut terms, 1, 0));
        let high = terms.with(BPF_LSH, high, 8);
        let both = terms.alu(BPF_OR, 0, false, high, low).unwrap();
        assert_eq!(terms.answers_of([both]), [0, 1]);
        let mut change = terms.solve(both, 0xdd86).to_vec();
        change.sort_unstable();
        assert_eq!(change.iter().map(|(_, bits)| bits & 0xff).collect::<Vec<_>>(), [0x86, 0xdd]);
    }

    #[test]
    fn pointers_keep_their_choice() {
        let mut terms = Terms::default();
        let pointer = Value { region: Some(super::super::KERNEL), ..input(&mut terms, 0, 1) };
        let offset = input(&mut terms, 1, 0);
        let sum = terms.alu(BPF_ADD, 0, true, pointer, offset).unwrap();
        assert_eq!(terms.solve(sum, 65).as_slice(), [(1, 64)]);
    }

    #[test]
    fn undoes_arithmetic() {
        let mut terms = Terms::default();
        let value = input(&mut terms, 3, 0xffff_0000);
        // bswap32((value & 0xffff) + 5) - 7
        let masked = terms.with(BPF_AND, value, 0xffff);
        let sum = terms.with(BPF_ADD, masked, 5);
        let swapped = Value { bits: 0x0500_0000, region: None, term: terms.end(BPF_ALU, BPF_TO_BE, 32, sum) };
        let result = terms.with(BPF_SUB, swapped, 7);
        let change = terms.solve(result.term.unwrap(), 0x3412_0000 - 7);
        assert_eq!(change.as_slice(), [(3, 0xffff_122f)]);
    }
}
