//! Scalars that a symbolic run takes over from the state where it begins.
//!
//! That state covers others in which such a scalar has any value at all, unless it is marked precise. So a scalar whose value or bounds
//! a condition builds upon must be marked, and no others, since precise scalars make more states differ. The published kernel
//! marks none.

use crate::verifier::backtrack::LinkedReg;
use crate::verifier::reg_type::RegType;
use crate::verifier::state::{BPF_REG_SIZE, MAX_STACK_SLOTS, RegState, STACK_SPILL, VerifierState};

/// Word of a scalar's payload, which has no use for it, that says where in the first state it came from; zero for nowhere.
const ORIGIN: usize = 2;
/// Places of one frame.
const FRAME: usize = 2 * MAX_STACK_SLOTS;

/// What a symbolic run relied upon.
#[derive(Default)]
pub struct Inherited {
    values: Vec<u32>,
    bounds: Vec<u32>,
}

impl Inherited {
    /// The run begins in `st`: its imprecise scalars are to be told from others.
    pub fn begin(&mut self, st: &mut VerifierState) {
        for (frame, func) in st.frames.iter_mut().enumerate() {
            for (i, reg) in func.regs.iter_mut().enumerate() {
                mark(reg, frame * FRAME + i);
            }
            for (i, slot) in func.stack.iter_mut().enumerate() {
                if slot.slot_type[BPF_REG_SIZE - 1] == STACK_SPILL {
                    mark(&mut slot.spilled_ptr, frame * FRAME + MAX_STACK_SLOTS + i);
                }
            }
        }
    }

    pub fn clear(&mut self) {
        self.values.clear();
        self.bounds.clear();
    }

    /// The value of `reg`, which is constant, is relied upon.
    pub fn rely_on_value(&mut self, reg: &RegState) {
        note(&mut self.values, reg);
    }

    /// The bounds of `reg` are relied upon.
    pub fn rely_on_bounds(&mut self, reg: &RegState) {
        note(&mut self.bounds, reg);
    }

    /// The scalars of the first state that were relied upon: for their values, and for their bounds if these matter.
    pub fn regs(&self, bounds: bool) -> Vec<LinkedReg> {
        let bounds: &[u32] = if bounds { &self.bounds } else { &[] };
        self.values.iter().chain(bounds).map(|&origin| reg_at(origin as usize - 1)).collect()
    }
}

fn mark(reg: &mut RegState, index: usize) {
    if reg.type_ == RegType::SCALAR_VALUE {
        reg.payload.0[ORIGIN] = if reg.precise { 0 } else { index as u32 + 1 };
    }
}

fn note(list: &mut Vec<u32>, reg: &RegState) {
    let origin = reg.payload.0[ORIGIN];
    if reg.type_ == RegType::SCALAR_VALUE && origin != 0 && !list.contains(&origin) {
        list.push(origin);
    }
}

fn reg_at(index: usize) -> LinkedReg {
    let (frameno, i) = ((index / FRAME) as u8, index % FRAME);
    match i.checked_sub(MAX_STACK_SLOTS) {
        Some(spi) => LinkedReg { frameno, spi_or_reg: spi as u8, is_reg: false },
        None => LinkedReg { frameno, spi_or_reg: i as u8, is_reg: true },
    }
}
