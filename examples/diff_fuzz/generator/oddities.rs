//! Things that are mostly wrong, each in a way that some check looks for.

use bpftwin_uapi::HelperId;
use bpftwin_uapi::insn::*;

use super::scalar::size_bits;
use super::{Class, FuncRole, Generator, Kind};
use crate::kernel::{MAPS, Value};

impl Generator<'_> {
    pub(super) fn oddity(&mut self) {
        match self.rng.below(20) {
            0 => self.modified_pointer(),
            1 => self.odd_atomic(),
            2 => self.odd_arithmetic(),
            3 => self.odd_lock(),
            4 => self.odd_release(),
            5 => self.variable_reserve(),
            6 => self.spill_to_caller(),
            7 => self.call_earlier(),
            8 => self.odd_move(),
            9 => self.odd_timer(),
            10 => self.return_pointer(),
            11 => self.read_only_output(),
            12 => self.huge_offset(),
            13 => self.store_pointer(),
            14 => self.uninitialized_argument(),
            15 => self.odd_map_helper(),
            16 => self.nested_compare(),
            17 => self.unbounded_loop(),
            18 => self.compare_and_use(),
            _ => self.wild(),
        }
    }

    fn any_pointer(&mut self) -> Option<u8> {
        self.reg_where(|kind| !matches!(kind, Kind::None | Kind::Scalar(_)))
    }

    /// A pointer with an offset, used.
    fn modified_pointer(&mut self) {
        let Some(ptr) = self.any_pointer() else { return };
        let copy = self.free_reg_but(&[ptr]);
        self.mov(copy, ptr);
        let imm = self.rng.pick(&[8, -8, 4, 1, -1, 64]);
        self.emit(BPF_ALU64 | BPF_ADD | BPF_K, copy, 0, 0, imm);
        self.set(copy, Kind::None);
        let size = self.rng.pick(&[1, 2, 4, 8]);
        let dst = self.free_reg_but(&[ptr, copy]);
        let off = if self.rng.chance(50) { -imm } else { 0 };
        self.emit(BPF_LDX | BPF_MEM | size_bits(size), dst, copy, off as i16, 0);
        self.set(dst, Kind::Scalar(None));
    }

    fn odd_atomic(&mut self) {
        let Some(ptr) = self.any_pointer() else { return };
        let src = self.scalar_reg();
        if src == ptr {
            return;
        }
        let op = self.rng.pick(&[BPF_ADD as i32, BPF_XCHG, BPF_LOAD_ACQ, BPF_STORE_REL, 0x22, BPF_CMPXCHG]);
        let size = self.rng.pick(&[BPF_W, BPF_DW, BPF_B]);
        let (dst, src) = if op == BPF_LOAD_ACQ { (src, ptr) } else { (ptr, src) };
        let off = self.rng.pick(&[0, 4, -8]);
        self.emit(BPF_STX | BPF_ATOMIC | size, dst, src, off, op);
        if op == BPF_LOAD_ACQ {
            self.set(dst, Kind::Scalar(None));
        } else if op != BPF_STORE_REL && op != i32::from(BPF_ADD) {
            self.set(src, Kind::Scalar(None));
        }
    }

    /// Operations that pointers do not take.
    fn odd_arithmetic(&mut self) {
        let Some(ptr) = self.any_pointer() else { return };
        let op = self.rng.pick(&[BPF_SUB, BPF_AND, BPF_OR, BPF_MUL, BPF_NEG, BPF_ADD, BPF_LSH, BPF_XOR]);
        let class = self.rng.pick(&[BPF_ALU64, BPF_ALU64, BPF_ALU]);
        let copy = self.free_reg_but(&[ptr]);
        let other = self.reg_where(|kind| kind != Kind::None).unwrap_or(ptr);
        match self.rng.below(3) {
            0 => {
                // Something and a pointer.
                let scalar = self.scalar_reg();
                self.mov(copy, scalar);
                self.emit(class | op | BPF_X, copy, ptr, 0, 0);
            }
            1 => {
                self.mov(copy, ptr);
                self.emit(class | op | BPF_X, copy, other, 0, 0);
            }
            _ => {
                self.mov(copy, ptr);
                let imm = if op == BPF_NEG { 0 } else { 3 };
                self.emit(class | op | BPF_K, copy, 0, 0, imm);
            }
        }
        self.set(copy, Kind::Scalar(None));
    }

    /// Locks twice, unlocks what is not locked, or something else.
    fn odd_lock(&mut self) {
        let maps: Vec<usize> = (0..MAPS.len()).filter(|&map| MAPS[map].value == Value::Lock).collect();
        let (a, b) = (self.rng.pick(&maps), self.rng.pick(&maps));
        let mut values = Vec::new();
        for map in [a, b] {
            let Some(value) = self.lookup(map) else { return };
            let to = 7 + values.len() as u8;
            if self.pinned & 1 << to != 0 {
                return;
            }
            self.mov(to, value);
            let at = self.insns.len();
            self.emit(BPF_JMP | BPF_JNE | BPF_K, to, 0, 0, 0);
            self.exit();
            self.patch(at);
            values.push(to);
        }
        let calls: &[(usize, HelperId)] = self.rng.pick(&[
            &[(0, HelperId::SpinLock), (1, HelperId::SpinLock)],
            &[(0, HelperId::SpinLock), (0, HelperId::SpinLock)],
            &[(0, HelperId::SpinLock), (1, HelperId::SpinUnlock)],
            &[(0, HelperId::SpinUnlock)],
            &[(0, HelperId::SpinLock), (0, HelperId::GetPrandomU32), (0, HelperId::SpinUnlock)],
            &[(0, HelperId::SpinLock), (0, HelperId::SpinUnlock)],
            &[(0, HelperId::SpinLock)],
        ]);
        let off = if self.rng.one_in(6) { 4 } else { 8 };
        for &(which, id) in calls {
            self.mov(1, values[which]);
            self.emit(BPF_ALU64 | BPF_ADD | BPF_K, 1, 0, 0, off);
            self.call_helper_id(id as i32);
        }
        self.set(0, Kind::None);
        for reg in values {
            self.set(reg, Kind::None);
        }
    }

    fn odd_release(&mut self) {
        let id = self.rng.pick(&[HelperId::SkRelease, HelperId::RingbufSubmit, HelperId::RingbufDiscard]);
        let Some(ptr) = self.reg_among(6..10, |kind| kind != Kind::None) else { return };
        self.mov(1, ptr);
        self.mov_imm(2, 0);
        self.call_helper_id(id as i32);
    }

    fn variable_reserve(&mut self) {
        let size = self.bounded_scalar(64);
        self.mov(2, size);
        let map = self.pick_map(|map_type| map_type == bpftwin_uapi::MapType::Ringbuf);
        self.ld_map(1, map);
        self.mov_imm(3, 0);
        self.call_helper_id(HelperId::RingbufReserve as i32);
    }

    fn spill_to_caller(&mut self) {
        let Some(ptr) =
            self.reg_where(|kind| matches!(kind, Kind::Mem { class: Class::Other, null: false, .. }))
        else {
            return;
        };
        let src = self.any_pointer().unwrap_or(10);
        let src = if self.rng.chance(50) { 10 } else { src };
        self.emit(BPF_STX | BPF_MEM | BPF_DW, ptr, src, 0, 0);
    }

    /// Recursion, or a call of the main function.
    fn call_earlier(&mut self) {
        let func = self.rng.below(self.current as u64 + 1) as usize;
        self.func_refs.push((self.insns.len(), func));
        self.emit(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 0);
        for reg in 0..6 {
            self.set(reg, Kind::None);
        }
        self.set(0, Kind::Scalar(None));
    }

    /// Moves of parts of pointers.
    fn odd_move(&mut self) {
        let Some(ptr) = self.any_pointer() else { return };
        let dst = self.free_reg_but(&[ptr]);
        let (class, off) = self.rng.pick(&[(BPF_ALU, 0), (BPF_ALU64, 8), (BPF_ALU64, 32), (BPF_ALU, 16)]);
        self.emit(class | BPF_MOV | BPF_X, dst, ptr, off, 0);
        self.set(dst, Kind::Scalar(None));
    }

    /// A timer of one map with another.
    fn odd_timer(&mut self) {
        let maps: Vec<usize> = (0..MAPS.len()).filter(|&map| MAPS[map].value == Value::Timer).collect();
        let (a, b) = (self.rng.pick(&maps), self.rng.pick(&maps));
        let Some(value) = self.lookup(a) else { return };
        self.null_check(value, |this| {
            this.mov(1, value);
            if this.rng.one_in(4) {
                this.emit(BPF_ALU64 | BPF_ADD | BPF_K, 1, 0, 0, 8);
            }
            this.ld_map(2, b);
            this.mov_imm(3, 1);
            this.call_helper_id(HelperId::TimerInit as i32);
        });
    }

    fn return_pointer(&mut self) {
        if self.funcs[self.current].role == FuncRole::Main && !self.rng.one_in(4) {
            return;
        }
        let Some(ptr) = self.any_pointer() else { return };
        let at = self.condition();
        self.emit(BPF_ALU64 | BPF_MOV | BPF_X, 0, ptr, 0, 0);
        self.emit(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
        self.patch(at);
    }

    /// Output of a helper where it may not write.
    fn read_only_output(&mut self) {
        let Some(frozen) = (0..MAPS.len()).find(|&map| MAPS[map].frozen) else { return };
        self.ld_pseudo(1, BPF_PSEUDO_MAP_VALUE, frozen as i32, 0);
        self.mov_imm(2, 8);
        self.mov(3, 10);
        let id = self.rng.pick(&[HelperId::ProbeReadKernel, HelperId::GetCurrentComm]);
        self.call_helper_id(id as i32);
    }

    fn huge_offset(&mut self) {
        let Some(ptr) = self.any_pointer() else { return };
        let copy = self.free_reg_but(&[ptr]);
        self.mov(copy, ptr);
        for _ in 0..self.rng.range(1, 3) {
            let imm = self.rng.pick(&[1 << 29, 1 << 28, -(1 << 29), i32::MAX, i32::MIN, 1 << 20]);
            self.emit(BPF_ALU64 | BPF_ADD | BPF_K, copy, 0, 0, imm);
        }
        self.set(copy, Kind::None);
    }

    fn store_pointer(&mut self) {
        let Some(ptr) = self.any_pointer() else { return };
        let to = self.reg_where(Kind::is_mem).unwrap_or(10);
        let off = if to == 10 { -8 * self.rng.range(1, 8) } else { 0 };
        let size = self.rng.pick(&[BPF_DW, BPF_DW, BPF_W]);
        self.emit(BPF_STX | BPF_MEM | size, to, ptr, off as i16, 0);
    }

    fn uninitialized_argument(&mut self) {
        let off = -8 * self.rng.range(1, 64) as i32;
        let map = self.pick_map(|map_type| map_type == bpftwin_uapi::MapType::Hash);
        self.stack_pointer(2, off);
        self.ld_map(1, map);
        let id = self.rng.pick(&[1, 3]);
        self.call_helper_id(id);
    }

    /// A helper with a map of any kind.
    fn odd_map_helper(&mut self) {
        let helpers = &self.profile.helpers;
        let with_map: Vec<_> = helpers.iter().filter(|helper| helper.1.arg_type[0].base().0 == 1).collect();
        if with_map.is_empty() {
            return;
        }
        let id = with_map[self.rng.below(with_map.len() as u64) as usize].0;
        let map = self.rng.below(MAPS.len() as u64) as usize;
        let key = self.stack_bytes(16, true);
        let value = self.stack_bytes(64, true);
        self.ld_map(1, map);
        self.stack_pointer(2, key);
        self.stack_pointer(3, value);
        self.mov_imm(4, 0);
        self.call_helper_id(id as i32);
    }

    /// Comparisons of the same numbers again and again, some of which cannot go both ways.
    fn nested_compare(&mut self) {
        let a = self.scalar_reg();
        let b = self.reg_where(Kind::is_scalar).unwrap_or(a);
        let mut jumps = Vec::new();
        for _ in 0..self.rng.range(2, 5) {
            let class = self.rng.pick(&[BPF_JMP, BPF_JMP32]);
            let op = self.rng.pick(&super::scalar::JUMPS);
            if self.rng.chance(50) {
                self.emit(class | op | BPF_X, a, b, 0, 0);
            } else {
                let imm = self.rng.range(-8, 40) as i32;
                self.emit(class | op | BPF_K, a, 0, 0, imm);
            }
            jumps.push(self.insns.len() - 1);
            if self.rng.chance(40) {
                let imm = self.rng.range(-4, 4) as i32;
                self.emit(BPF_ALU64 | BPF_ADD | BPF_K, a, 0, 0, imm);
            }
        }
        self.set(a, Kind::Scalar(None));
        for at in jumps {
            self.patch(at);
        }
    }

    /// A loop that nothing bounds, or that something bounds late.
    fn unbounded_loop(&mut self) {
        if !self.rng.one_in(12) {
            return;
        }
        let counter = self.scalar_reg();
        let step = self.rng.pick(&[0, 1, -1]);
        self.emit(BPF_ALU64 | BPF_ADD | BPF_K, counter, 0, 0, step);
        let op = self.rng.pick(&super::scalar::JUMPS);
        let imm = self.rng.number() as i32;
        self.emit(BPF_JMP | op | BPF_K, counter, 0, -2, imm);
        self.set(counter, Kind::Scalar(None));
    }

    /// Bounds a copy of a number that was spilled, filled, extended or truncated on the way.
    fn compare_and_use(&mut self) {
        let src = self.scalar_reg();
        let slot = self.rng.below(super::SLOTS as u64) as usize;
        let off = self.slot_off(slot);
        let (store, load) = self.rng.pick(&[
            (BPF_DW, BPF_DW),
            (BPF_W, BPF_W),
            (BPF_DW, BPF_W),
            (BPF_H, BPF_H),
            (BPF_B, BPF_B),
        ]);
        self.emit(BPF_STX | BPF_MEM | store, 10, src, off, 0);
        self.model.slots[slot] = super::Slot::Bytes(if store == BPF_DW { 0xff } else { 0x01 });
        let copy = self.free_reg_but(&[src]);
        let mode = if load != BPF_DW && self.rng.one_in(3) { BPF_MEMSX } else { BPF_MEM };
        self.emit(BPF_LDX | mode | load, copy, 10, off, 0);
        self.set(copy, Kind::Scalar(None));
        let (tested, used) = if self.rng.chance(50) { (src, copy) } else { (copy, src) };
        self.bound(tested, 31);
        let bound = self.kind(tested);
        if self.rng.chance(70) {
            self.set(used, bound);
            self.use_as_offset(used);
            self.set(used, Kind::Scalar(None));
        } else {
            // Filled again after the comparison.
            self.emit(BPF_LDX | BPF_MEM | load, copy, 10, off, 0);
            self.set(copy, bound);
            self.use_as_offset(copy);
            self.set(copy, Kind::Scalar(None));
        }
    }
}
