//! Control flow: branches, loops, exits, null checks.

use bpftwin_uapi::insn::*;

use super::scalar::JUMPS;
use super::{FuncRole, Generator, Kind, Slot};

impl Generator<'_> {
    /// Lets the jump at `at` go to the next instruction that is emitted.
    pub(super) fn patch(&mut self, at: usize) {
        let distance = self.insns.len() as i32 - at as i32 - 1;
        let insn = &mut self.insns[at];
        if insn.class() == BPF_JMP32 && insn.op() == BPF_JA {
            insn.imm = distance;
        } else {
            insn.off = distance as i16;
        }
    }

    fn patch_to(&mut self, at: usize, target: usize) {
        let distance = target as i32 - at as i32 - 1;
        let insn = &mut self.insns[at];
        if insn.class() == BPF_JMP32 && insn.op() == BPF_JA {
            insn.imm = distance;
        } else {
            insn.off = distance as i16;
        }
    }

    fn jump(&mut self) -> usize {
        if self.rng.chance(80) {
            self.emit(BPF_JMP | BPF_JA, 0, 0, 0, 0);
        } else {
            self.emit(BPF_JMP32 | BPF_JA, 0, 0, 0, 0);
        }
        self.insns.len() - 1
    }

    /// Sets R0 and leaves the function; the model stays as it is, for the paths that go on.
    pub(super) fn exit(&mut self) {
        let (min, max) = match self.funcs[self.current].role {
            FuncRole::Main => self.profile.returns,
            FuncRole::Callback => (0, 0),
            _ => (0, 9),
        };
        let keep = self.kind(0).is_scalar() && self.rng.chance(15);
        if !keep || max < 2 && self.rng.chance(95) {
            let value =
                if self.slip() { self.rng.range(-2, 4) } else { self.rng.range(min.into(), max.into()) };
            self.emit(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, value as i32);
        }
        self.emit(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    }

    pub(super) fn early_exit(&mut self) {
        if (self.held > 0 || self.locked) && !self.rng.one_in(20) {
            return;
        }
        let at = self.condition();
        self.exit();
        self.patch(at);
    }

    /// A conditional jump on a number; returns where it is.
    pub(super) fn condition(&mut self) -> usize {
        let reg = self.scalar_reg();
        let class = if self.rng.chance(65) { BPF_JMP } else { BPF_JMP32 };
        let op = self.rng.pick(&JUMPS);
        if self.rng.chance(30)
            && let Some(other) = self.reg_where(Kind::is_scalar)
        {
            self.emit(class | op | BPF_X, reg, other, 0, 0);
        } else {
            let imm = match self.kind(reg) {
                Kind::Scalar(Some(bound)) if bound < 1 << 30 && self.rng.chance(60) => {
                    self.rng.below(bound + 2) as i32
                }
                _ => self.rng.number() as i32,
            };
            self.emit(class | op | BPF_K, reg, 0, 0, imm);
        }
        self.insns.len() - 1
    }

    /// if/else, or if alone.
    pub(super) fn branch(&mut self, depth: u32) {
        let at = self.condition();
        let before = self.model.clone();
        self.block(depth + 1);
        if self.rng.chance(50) {
            let over = self.jump();
            self.patch(at);
            let first = std::mem::replace(&mut self.model, before);
            self.block(depth + 1);
            self.patch(over);
            self.model.join(&first);
        } else {
            self.patch(at);
            self.model.join(&before);
        }
    }

    /// Forgets what a loop's body may not rely on in its second round.
    fn enter_loop(&mut self) -> u16 {
        let pinned = self.pinned;
        for reg in 0..6 {
            self.set(reg, Kind::None);
        }
        for reg in 6..10 {
            match self.kind(reg) {
                Kind::None => {}
                Kind::Scalar(_) => self.set(reg, Kind::Scalar(None)),
                _ => self.pinned |= 1 << reg,
            }
        }
        for slot in &mut self.model.slots {
            if let Slot::Spill(Kind::Scalar(_)) = slot {
                *slot = Slot::Bytes(0xff);
            }
        }
        pinned
    }

    pub(super) fn counted_loop(&mut self, depth: u32) {
        let pinned = self.pinned;
        let rounds = self.rng.range(1, 9) as i32;
        let step = self.rng.pick(&[1, 1, 1, 2, 3]);
        let in_stack = self.rng.chance(20);
        let slot = self.rng.below(super::SLOTS as u64) as usize;
        let off = self.slot_off(slot);
        let counter = (6..10).find(|&reg| self.kind(reg) == Kind::None).unwrap_or(9);
        if self.pinned & 1 << counter != 0 {
            return;
        }
        self.mov_imm(counter, 0);
        if in_stack {
            self.emit(BPF_STX | BPF_MEM | BPF_DW, 10, counter, off, 0);
            self.model.slots[slot] = Slot::Bytes(0xff);
        }
        self.enter_loop();
        self.pinned |= 1 << counter;
        let top = self.insns.len();
        let before = self.model.clone();
        let bound = (rounds + step) as u64;
        self.set(counter, Kind::Scalar(Some(bound)));
        self.block(depth + 1);
        let escape = self.rng.one_in(4).then(|| self.condition());
        if in_stack {
            self.emit(BPF_LDX | BPF_MEM | BPF_DW, counter, 10, off, 0);
        }
        let class = self.rng.pick(&[BPF_ALU64, BPF_ALU64, BPF_ALU]);
        self.emit(class | BPF_ADD | BPF_K, counter, 0, 0, step);
        if in_stack {
            self.emit(BPF_STX | BPF_MEM | BPF_DW, 10, counter, off, 0);
        }
        let op = self.rng.pick(&[BPF_JLT, BPF_JLT, BPF_JSLT, BPF_JLE, BPF_JNE]);
        let class = self.rng.pick(&[BPF_JMP, BPF_JMP, BPF_JMP32]);
        let last = if op == BPF_JNE { rounds * step } else { rounds };
        self.emit(class | op | BPF_K, counter, 0, 0, last);
        let back = self.insns.len() - 1;
        self.patch_to(back, top);
        if let Some(escape) = escape {
            self.patch(escape);
        }
        self.model.join(&before);
        self.pinned = pinned;
    }

    pub(super) fn may_goto_loop(&mut self, depth: u32) {
        let pinned = self.enter_loop();
        let before = self.model.clone();
        if self.rng.chance(60) {
            let top = self.insns.len();
            self.emit(BPF_JMP | BPF_JCOND, 0, 0, 0, 0);
            self.block(depth + 1);
            let back = self.jump();
            self.patch_to(back, top);
            self.patch(top);
        } else {
            let top = self.insns.len();
            self.block(depth + 1);
            self.emit(BPF_JMP | BPF_JCOND, 0, 0, 1, 0);
            let back = self.jump();
            self.patch_to(back, top);
        }
        self.model.join(&before);
        self.pinned = pinned;
    }

    pub(super) fn jump_over(&mut self) {
        let at = self.jump();
        // What is jumped over cannot be reached, which the kernel refuses.
        if self.rng.one_in(30) {
            self.alu();
        }
        self.patch(at);
    }

    /// Tests a pointer that may be null; the body runs where it is not.
    pub(super) fn null_check(&mut self, reg: u8, body: impl FnOnce(&mut Self)) {
        let Kind::Mem { class, size, id, .. } = self.kind(reg) else { return };
        let checked = Kind::Mem { class, size, null: false, id };
        let form = match self.held {
            0 if self.rng.one_in(60) => 2,
            0 => self.rng.pick(&[0, 1, 3, 4, 5]),
            _ => self.rng.pick(&[1, 1, 3, 4]),
        };
        let at = self.insns.len();
        let mark = |this: &mut Self| {
            for other in 0..10 {
                if matches!(this.kind(other), Kind::Mem { id: same, .. } if same == id) {
                    this.set(other, checked);
                }
            }
        };
        match form {
            0 | 5 => {
                // if (p != 0) goto on; exit;
                self.emit(BPF_JMP | BPF_JNE | BPF_K, reg, 0, 0, 0);
                self.exit();
                self.patch(at);
                mark(self);
                body(self);
            }
            2 => {
                // Against a register that holds zero.
                let zero = self.free_reg_but(&[reg]);
                self.mov_imm(zero, 0);
                let at = self.insns.len();
                if self.rng.chance(50) {
                    self.emit(BPF_JMP | BPF_JNE | BPF_X, reg, zero, 0, 0);
                } else {
                    self.emit(BPF_JMP | BPF_JNE | BPF_X, zero, reg, 0, 0);
                }
                self.exit();
                self.patch(at);
                mark(self);
                body(self);
            }
            3 => {
                // if (p != 0) { body } with a jump around.
                self.emit(BPF_JMP | BPF_JNE | BPF_K, reg, 0, 1, 0);
                self.emit(BPF_JMP | BPF_JA, 0, 0, 0, 0);
                let before = self.model.clone();
                mark(self);
                body(self);
                self.patch(at + 1);
                self.forget(id, &before);
            }
            _ => {
                // if (p == 0) goto end; body; end:
                self.emit(BPF_JMP | BPF_JEQ | BPF_K, reg, 0, 0, 0);
                let before = self.model.clone();
                mark(self);
                body(self);
                self.patch(at);
                self.forget(id, &before);
            }
        }
    }

    /// After a body that not every path took: pointers with this id are no use any more.
    fn forget(&mut self, id: u32, before: &super::Model) {
        self.model.join(before);
        for reg in 0..10 {
            if matches!(self.kind(reg), Kind::Mem { id: same, .. } if same == id) {
                self.set(reg, Kind::None);
            }
        }
    }

    pub(super) fn pointer_comparison(&mut self) {
        let Some(a) = self.reg_where(|kind| !kind.is_scalar() && kind != Kind::None) else { return };
        let op = self.rng.pick(&JUMPS);
        let at = self.insns.len();
        match self.rng.below(3) {
            0 => self.emit(BPF_JMP | op | BPF_K, a, 0, 0, 0),
            1 => {
                let other = self.reg_where(|kind| kind != Kind::None).unwrap_or(a);
                self.emit(BPF_JMP | op | BPF_X, a, other, 0, 0);
            }
            _ => self.emit(BPF_JMP | BPF_JNE | BPF_X, a, 10, 0, 0),
        }
        let before = self.model.clone();
        self.alu();
        self.patch(at);
        self.model.join(&before);
    }
}
