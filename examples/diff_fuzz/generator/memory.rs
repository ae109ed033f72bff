//! Memory: context, stack, map values, atomics.

use bpftwin::verifier::reg_type::RegType;
use bpftwin_uapi::MapType;
use bpftwin_uapi::insn::*;

use super::scalar::size_bits;
use super::{Class, Generator, Kind, SLOTS, Slot};
use crate::kernel::{MAPS, Value};

impl Generator<'_> {
    pub(super) fn context(&mut self) {
        let Some(ctx) = self.reg_where(|kind| kind == Kind::Ctx) else { return };
        if self.rng.chance(20) && !self.profile.writes.is_empty() {
            let fields = &self.profile.writes;
            let mut field = fields[self.rng.below(fields.len() as u64) as usize];
            if self.slip() {
                field.off += self.rng.range(-4, 4) as i16;
            }
            if self.rng.chance(40) {
                let imm = self.rng.number() as i32;
                self.emit(BPF_ST | BPF_MEM | size_bits(field.size), ctx, 0, field.off, imm);
            } else {
                let src = self.scalar_reg();
                if src != ctx {
                    self.emit(BPF_STX | BPF_MEM | size_bits(field.size), ctx, src, field.off, 0);
                }
            }
            return;
        }
        let fields = &self.profile.reads;
        if fields.is_empty() {
            return;
        }
        let pointers: Vec<_> = fields.iter().filter(|field| field.reg_type.0 != 1).copied().collect();
        let mut field = if !pointers.is_empty() && self.rng.chance(30) {
            self.rng.pick(&pointers)
        } else {
            fields[self.rng.below(fields.len() as u64) as usize]
        };
        if field.reg_type.base() == RegType::PTR_TO_BTF_ID && !self.rng.one_in(20) {
            return;
        }
        if self.slip() {
            field.off = field.off.wrapping_add(self.rng.range(-8, 8) as i16);
        }
        if self.slip() {
            field.size = self.rng.pick(&[1, 2, 4, 8]);
        }
        let dst = self.free_reg_but(&[ctx]);
        let mode =
            if field.reg_type.0 == 1 && field.size < 8 && self.rng.one_in(10) { BPF_MEMSX } else { BPF_MEM };
        self.emit(BPF_LDX | mode | size_bits(field.size), dst, ctx, field.off, 0);
        let id = self.new_id();
        let kind = match field.reg_type.base() {
            RegType::SCALAR_VALUE => {
                Kind::Scalar((field.size < 4 && mode == BPF_MEM).then(|| (1 << (8 * field.size)) - 1))
            }
            RegType::PTR_TO_PACKET => Kind::Pkt,
            RegType::PTR_TO_PACKET_END => Kind::PktEnd,
            RegType::PTR_TO_PACKET_META => Kind::Meta,
            RegType::PTR_TO_FLOW_KEYS => Kind::Mem { class: Class::FlowKeys, size: 56, null: false, id },
            RegType::PTR_TO_SOCK_COMMON | RegType::PTR_TO_SOCKET => {
                Kind::Mem { class: Class::Sock, size: 44, null: field.reg_type.may_be_null(), id }
            }
            RegType::PTR_TO_TP_BUFFER => Kind::Mem { class: Class::Other, size: 64, null: false, id },
            _ => Kind::None,
        };
        self.set(dst, kind);
        if let Kind::Mem { null: true, .. } = kind {
            let kept = if self.rng.chance(60) { self.keep(dst) } else { dst };
            self.null_check(dst, |this| {
                this.mem_access_at(kept);
                if kept >= 6 && this.rng.chance(60) {
                    this.socket_helper();
                }
            });
        }
    }

    pub(super) fn new_id(&mut self) -> u32 {
        self.next_id += 1;
        self.next_id
    }

    /// Offset of a slot from the frame pointer.
    pub(super) fn slot_off(&self, slot: usize) -> i16 {
        self.stack_base as i16 - 8 * (slot as i16 + 1)
    }

    fn slot(&mut self) -> usize {
        self.rng.below(SLOTS as u64) as usize
    }

    pub(super) fn stack(&mut self) {
        let slot = self.slot();
        let off = self.slot_off(slot);
        match self.rng.below(12) {
            0..3 => {
                // Spill, mostly whole.
                let Some(reg) = self.reg_where(|kind| kind != Kind::None) else { return };
                let kind = self.kind(reg);
                if kind.is_scalar() && self.rng.chance(35) {
                    let size = self.rng.pick(&[1, 2, 4, 4]);
                    let at = self.rng.pick(&[0, 0, 8 - size]);
                    self.emit(BPF_STX | BPF_MEM | size_bits(size), 10, reg, off + at as i16, 0);
                    self.write_bytes(slot, at, size);
                } else {
                    self.emit(BPF_STX | BPF_MEM | BPF_DW, 10, reg, off, 0);
                    self.model.slots[slot] = Slot::Spill(kind);
                }
            }
            3..5 => {
                let size = self.rng.pick(&[1, 2, 4, 8]);
                let at = size * self.rng.below((8 / size) as u64) as i32;
                let imm = if self.rng.chance(60) { 0 } else { self.rng.number() as i32 };
                self.emit(BPF_ST | BPF_MEM | size_bits(size), 10, 0, off + at as i16, imm);
                self.write_bytes(slot, at, size);
            }
            5..10 => self.fill(),
            10 => {
                // Through a pointer.
                let ptr = self.free_reg();
                let slot = self.rng.below(16) as usize;
                let off = self.slot_off(slot);
                self.stack_pointer(ptr, off.into());
                let size = self.rng.pick(&[1, 2, 4, 8]);
                let value = self.rng.number() as i32;
                self.emit(BPF_ST | BPF_MEM | size_bits(size), ptr, 0, 0, value);
                self.write_bytes(slot, 0, size);
            }
            _ => {
                // Anywhere, aligned or not.
                let size = self.rng.pick(&[1, 2, 4, 8]);
                let mut off = -self.rng.range(1, 200) as i16;
                if self.rng.chance(80) {
                    off = -(-off + size as i16 - 1) / size as i16 * size as i16;
                }
                if self.rng.chance(50) {
                    let dst = self.free_reg();
                    self.emit(BPF_LDX | BPF_MEM | size_bits(size), dst, 10, off, 0);
                    self.set(dst, Kind::Scalar(None));
                } else if i32::from(off) + size <= 0 {
                    self.emit(BPF_ST | BPF_MEM | size_bits(size), 10, 0, off, 0);
                    let last = (-off - 1) as usize / 8;
                    for slot in [last, last.saturating_sub(1)] {
                        if let Some(place) = self.model.slots.get_mut(slot) {
                            *place = if let Slot::None = *place { Slot::None } else { Slot::Bytes(0) };
                        }
                    }
                }
            }
        }
    }

    fn write_bytes(&mut self, slot: usize, at: i32, size: i32) {
        let Some(place) = self.model.slots.get_mut(slot) else { return };
        let mask = (((1u32 << size) - 1) << at) as u8;
        *place = match *place {
            Slot::Bytes(old) => Slot::Bytes(old | mask),
            Slot::None => Slot::Bytes(mask),
            // The rest of a spilled pointer may not be read.
            Slot::Spill(Kind::Scalar(_)) => Slot::Bytes(0xff),
            Slot::Spill(_) => Slot::Bytes(mask),
        };
    }

    /// Reads a slot, as it was written mostly.
    fn fill(&mut self) {
        let written: Vec<usize> = (0..SLOTS).filter(|&slot| self.model.slots[slot] != Slot::None).collect();
        if written.is_empty() {
            return;
        }
        let slot = self.rng.pick(&written);
        let off = self.slot_off(slot);
        let dst = self.free_reg();
        match self.model.slots[slot] {
            Slot::Spill(kind) => {
                if kind.is_scalar() && self.rng.chance(30) {
                    let size = self.rng.pick(&[1, 2, 4]);
                    let at = size * self.rng.below((8 / size) as u64) as i32;
                    let mode = self.rng.pick(&[BPF_MEM, BPF_MEM, BPF_MEMSX]);
                    self.emit(BPF_LDX | mode | size_bits(size), dst, 10, off + at as i16, 0);
                    self.set(dst, Kind::Scalar(None));
                } else {
                    self.emit(BPF_LDX | BPF_MEM | BPF_DW, dst, 10, off, 0);
                    self.set(dst, kind);
                }
            }
            Slot::Bytes(mask) => {
                let size = self.rng.pick(&[1, 2, 4, 8]);
                let choices: Vec<i32> = (0..8 / size)
                    .map(|i| i * size)
                    .filter(|at| {
                        let wanted = (((1u32 << size) - 1) << at) as u8;
                        mask & wanted == wanted
                    })
                    .collect();
                if choices.is_empty() {
                    return;
                }
                let at = self.rng.pick(&choices);
                let mode = if size < 8 { self.rng.pick(&[BPF_MEM, BPF_MEM, BPF_MEMSX]) } else { BPF_MEM };
                self.emit(BPF_LDX | mode | size_bits(size), dst, 10, off + at as i16, 0);
                let bound = (size < 4 && mode == BPF_MEM).then(|| (1u64 << (8 * size)) - 1);
                self.set(dst, Kind::Scalar(bound));
            }
            Slot::None => {}
        }
    }

    /// A frame pointer with an offset in a register.
    pub(super) fn stack_pointer(&mut self, reg: u8, off: i32) {
        self.mov(reg, 10);
        if off != 0 {
            self.emit(BPF_ALU64 | BPF_ADD | BPF_K, reg, 0, 0, off);
        }
        self.set(reg, Kind::Fp(off));
    }

    /// Writes `size` bytes of stack and returns their offset.
    pub(super) fn stack_bytes(&mut self, size: i32, initialized: bool) -> i32 {
        let slots = (size + 7) / 8;
        let last = self.rng.range(0, (SLOTS as i32 - slots).max(0).into()) as i32;
        let off = self.stack_base - 8 * (last + slots);
        for i in 0..slots {
            let slot = (last + slots - 1 - i) as usize;
            if slot >= SLOTS {
                continue;
            }
            let written = matches!(self.model.slots[slot], Slot::Bytes(0xff) | Slot::Spill(_));
            if !initialized {
                self.model.slots[slot] = Slot::Bytes(0xff);
            } else if !written && !self.slip() {
                let imm = if self.rng.chance(60) { 0 } else { self.rng.number() as i32 };
                self.emit(BPF_ST | BPF_MEM | BPF_DW, 10, 0, (off + 8 * i) as i16, imm);
                self.model.slots[slot] = Slot::Bytes(0xff);
            }
        }
        off
    }

    pub(super) fn variable_stack(&mut self) {
        let reg = self.bounded_scalar(31);
        if let Kind::Scalar(Some(bound)) = self.kind(reg) {
            self.variable_stack_with(reg, bound.min(64));
        }
    }

    /// Accesses the stack at an offset that a register holds.
    pub(super) fn variable_stack_with(&mut self, reg: u8, bound: u64) {
        let size = self.rng.pick(&[1, 2, 4, 8]);
        let reach = bound as i32 + size;
        let off = self.stack_bytes((reach + 7) / 8 * 8, true);
        let ptr = self.free_reg_but(&[reg]);
        self.stack_pointer(ptr, off);
        // Stack accesses are always to be aligned.
        if size > 1 && self.rng.chance(85) {
            self.emit(BPF_ALU64 | BPF_AND | BPF_K, reg, 0, 0, -size);
        }
        self.emit(BPF_ALU64 | BPF_ADD | BPF_X, ptr, reg, 0, 0);
        self.set(ptr, Kind::None);
        match self.rng.below(4) {
            0 => {
                let src = self.scalar_reg();
                if src != ptr {
                    self.emit(BPF_STX | BPF_MEM | size_bits(size), ptr, src, 0, 0);
                }
                self.spoil(off, reach);
            }
            1 => {
                self.emit(BPF_ST | BPF_MEM | size_bits(size), ptr, 0, 0, 0);
                self.spoil(off, reach);
            }
            _ => {
                let dst = self.free_reg_but(&[ptr]);
                self.emit(BPF_LDX | BPF_MEM | size_bits(size), dst, ptr, 0, 0);
                self.set(dst, Kind::Scalar(None));
            }
        }
    }

    /// Spilled values that a write at a variable offset may have hit are no more.
    fn spoil(&mut self, off: i32, reach: i32) {
        for slot in 0..SLOTS as i32 {
            let start = self.stack_base - 8 * (slot + 1);
            if start + 8 > off && start < off + reach {
                self.model.slots[slot as usize] = Slot::Bytes(0xff);
            }
        }
    }

    /// A map of one of these types, most of the time.
    pub(super) fn pick_map(&mut self, wanted: impl Fn(MapType) -> bool) -> usize {
        let maps: Vec<usize> = (0..MAPS.len())
            .filter(|&map| wanted(MAPS[map].map_type))
            .filter(|&map| self.world.maps[map].is_some() || MAPS[map].is_bound_by_use())
            .collect();
        if maps.is_empty() || self.slip() {
            return self.rng.below(MAPS.len() as u64) as usize;
        }
        self.rng.pick(&maps)
    }

    pub(super) fn map_lookup(&mut self, depth: u32) {
        use MapType::*;
        if self.rng.chance(20) {
            return self.direct_value();
        }
        let map = self.pick_map(|map_type| {
            matches!(
                map_type,
                Array
                    | Hash
                    | PercpuArray
                    | PercpuHash
                    | LruHash
                    | LpmTrie
                    | ArrayOfMaps
                    | HashOfMaps
                    | LruPercpuHash
            )
        });
        let value = MAPS[map].inner.map_or(MAPS[map].value, |inner| MAPS[inner].value);
        if matches!(value, Value::Lock | Value::Timer) && !self.may_lock() {
            return;
        }
        let Some(value) = self.lookup(map) else { return };
        let spec = MAPS[map];
        let budget = self.rng.range(1, 3);
        self.null_check(value, |this| {
            if let Some(inner) = spec.inner {
                // The value is a map: look it up once more.
                let map_reg = this.keep(value);
                let key = this.stack_bytes(MAPS[inner].key_size as i32, true);
                this.mov(1, map_reg);
                this.stack_pointer(2, key);
                this.call_helper_id(1);
                let id = this.new_id();
                let size = MAPS[inner].value_size as i32;
                this.set(0, Kind::Mem { class: Class::MapValue(inner), size, null: true, id });
                this.null_check(0, |this| this.mem_access_at(0));
                return;
            }
            for _ in 0..budget {
                this.mem_access_at(value);
            }
            if depth < 3 {
                this.block(depth + 1);
            }
        });
    }

    /// Looks an element up; returns the register with the value, which may be null.
    pub(super) fn lookup(&mut self, map: usize) -> Option<u8> {
        let spec = MAPS[map];
        let key = self.stack_bytes(spec.key_size.max(1) as i32, true);
        if spec.key_size == 4 && self.rng.chance(50) {
            // A constant key.
            let index = self.rng.below(u64::from(spec.max_entries) + 1) as i32;
            self.emit(BPF_ST | BPF_MEM | BPF_W, 10, 0, key as i16, index);
        }
        self.stack_pointer(2, key);
        self.ld_map(1, map);
        let helper = if spec.map_type == MapType::PercpuArray && self.rng.one_in(5) { 195 } else { 1 };
        if helper == 195 {
            let cpu = self.rng.pick(&[0, 1]);
            self.mov_imm(3, cpu);
        }
        self.call_helper_id(helper);
        let id = self.new_id();
        let size = spec.value_size as i32;
        self.set(0, Kind::Mem { class: Class::MapValue(map), size, null: true, id });
        if self.rng.chance(50) {
            let copy = self.keep(0);
            return Some(if self.rng.chance(70) { copy } else { 0 });
        }
        Some(0)
    }

    /// Copies a register to one that survives calls.
    pub(super) fn keep(&mut self, reg: u8) -> u8 {
        let pinned = self.pinned;
        let free = self
            .reg_among(6..10, |kind| matches!(kind, Kind::None | Kind::Scalar(_)))
            .filter(|&to| pinned & 1 << to == 0)
            .unwrap_or_else(|| self.rng.pick(&[7, 8, 9]));
        if self.pinned & 1 << free != 0 || free == reg {
            return reg;
        }
        self.mov(free, reg);
        free
    }

    /// The address of an array's only value.
    fn direct_value(&mut self) {
        let arrays: Vec<usize> = (0..MAPS.len())
            .filter(|&map| MAPS[map].map_type == MapType::Array && MAPS[map].max_entries == 1)
            .collect();
        let map = self.rng.pick(&arrays);
        let size = MAPS[map].value_size as i32;
        let off = if self.rng.chance(50) { 0 } else { self.rng.below(size as u64) as i32 };
        let off = if self.slip() { size + 1 } else { off };
        let dst = self.free_reg();
        self.ld_pseudo(dst, BPF_PSEUDO_MAP_VALUE, map as i32, off);
        let id = self.new_id();
        self.set(dst, Kind::Mem { class: Class::MapValue(map), size: size - off, null: false, id });
        for _ in 0..self.rng.range(1, 3) {
            self.mem_access_at(dst);
        }
    }

    pub(super) fn mem_access(&mut self) {
        if let Some(reg) = self.reg_where(Kind::is_mem) {
            self.mem_access_at(reg);
        }
    }

    /// Reads or writes memory that a pointer in a register points to.
    pub(super) fn mem_access_at(&mut self, ptr: u8) {
        let Kind::Mem { class, size, .. } = self.kind(ptr) else { return };
        let readonly = match class {
            Class::MapValue(map) => MAPS[map].frozen,
            Class::MapKey | Class::FlowKeys | Class::Sock | Class::Meta => true,
            Class::Packet => !self.may_write_packet(),
            _ => false,
        };
        let special =
            matches!(class, Class::MapValue(map) if matches!(MAPS[map].value, Value::Lock | Value::Timer));
        let packet = matches!(class, Class::Packet | Class::Meta);
        let variable = if self.veiled > 0 { 60 } else { 30 };
        if !special && class != Class::Sock && (!packet || self.slip()) && self.rng.chance(variable) {
            let reg = self.bounded_scalar((size.max(2) as u64 - 1).min(40));
            if let Kind::Scalar(Some(bound)) = self.kind(reg)
                && reg != ptr
            {
                return self.variable_access(ptr, reg, bound);
            }
        }
        let mut bytes = if class == Class::Sock { 4 } else { self.rng.pick(&[1, 2, 4, 8]) };
        while bytes > size.max(1) && !self.slip() {
            bytes /= 2;
        }
        let mut off = if size >= bytes { self.rng.range(0, (size - bytes).into()) as i32 } else { 0 };
        if class == Class::Other || self.rng.chance(75) {
            off -= off % bytes;
        }
        if class == Class::Sock && !self.slip() {
            off = self.rng.pick(&[0, 4, 24, 28, 40, 44, 52, 56, 72]);
        }
        if let Class::MapValue(map) = class
            && !self.slip()
        {
            // Beside the special field.
            match MAPS[map].value {
                Value::Lock => off = self.rng.pick(&[0, 16]),
                Value::Timer => off = self.rng.pick(&[16, 24]),
                _ => {}
            }
        }
        if self.slip() {
            off += self.rng.range(-9, 9) as i32;
        }
        self.access(ptr, off as i16, bytes, readonly);
    }

    fn access(&mut self, ptr: u8, off: i16, bytes: i32, readonly: bool) {
        let write_only = matches!(self.kind(ptr), Kind::Mem { class: Class::MapValue(map), .. }
            if MAPS[map].flags & bpftwin_uapi::attr::BPF_F_WRONLY_PROG != 0);
        let write = if readonly { self.slip() } else { write_only && !self.slip() || self.rng.chance(45) };
        if !write {
            let dst = self.free_reg_but(&[ptr]);
            let mode = if bytes < 8 && self.rng.one_in(8) { BPF_MEMSX } else { BPF_MEM };
            self.emit(BPF_LDX | mode | size_bits(bytes), dst, ptr, off, 0);
            let bound = (bytes < 4 && mode == BPF_MEM).then(|| (1u64 << (8 * bytes)) - 1);
            self.set(dst, Kind::Scalar(bound));
        } else if self.rng.chance(40) {
            let imm = self.rng.number() as i32;
            self.emit(BPF_ST | BPF_MEM | size_bits(bytes), ptr, 0, off, imm);
        } else if let Some(src) = self.reg_where(Kind::is_scalar) {
            self.emit(BPF_STX | BPF_MEM | size_bits(bytes), ptr, src, off, 0);
        }
    }

    /// Accesses memory at a variable offset from a pointer.
    pub(super) fn variable_access(&mut self, ptr: u8, reg: u8, bound: u64) {
        let Kind::Mem { class, size, id, .. } = self.kind(ptr) else { return };
        let readonly = match class {
            Class::MapValue(map) => MAPS[map].frozen,
            Class::Packet => !self.may_write_packet(),
            Class::Other | Class::Ringbuf => false,
            _ => true,
        };
        let copy = self.free_reg_but(&[ptr, reg]);
        self.mov(copy, ptr);
        if class == Class::Other && self.rng.chance(80) {
            self.emit(BPF_ALU64 | BPF_AND | BPF_K, reg, 0, 0, -8);
        }
        let op = if self.rng.one_in(15) { BPF_SUB } else { BPF_ADD };
        if op == BPF_SUB {
            self.emit(BPF_ALU64 | BPF_ADD | BPF_K, copy, 0, 0, bound as i32);
        }
        self.emit(BPF_ALU64 | op | BPF_X, copy, reg, 0, 0);
        let room = size - bound as i32;
        let class = if class == Class::Packet { Class::Other } else { class };
        self.set(copy, Kind::Mem { class, size: room, null: false, id });
        let bytes = self.rng.pick(&[1, 1, 2, 4, 8]).min(if room >= 8 { 8 } else { 1 });
        if room < bytes && !self.rng.one_in(8) {
            return;
        }
        let mut off = self.rng.range(0, (room - bytes).max(0).into()) as i16;
        if class == Class::Other {
            off -= off % bytes as i16;
        }
        self.access(copy, off, bytes, readonly);
        if class == Class::Other {
            self.set(copy, Kind::None);
        }
    }

    pub(super) fn atomic(&mut self) {
        let bytes = self.rng.pick(&[4, 8, 8, 1, 2]);
        let ops = [
            BPF_ADD as i32,
            BPF_AND as i32,
            BPF_OR as i32,
            BPF_XOR as i32,
            BPF_ADD as i32 | BPF_FETCH,
            BPF_AND as i32 | BPF_FETCH,
            BPF_OR as i32 | BPF_FETCH,
            BPF_XOR as i32 | BPF_FETCH,
            BPF_XCHG,
            BPF_CMPXCHG,
            BPF_LOAD_ACQ,
            BPF_STORE_REL,
        ];
        let op = self.rng.pick(&ops);
        let sized = matches!(op, BPF_LOAD_ACQ | BPF_STORE_REL);
        let bytes = if sized || self.slip() { bytes } else { bytes.max(4) };
        let target = self.reg_where(|kind| {
            matches!(kind, Kind::Mem { class: Class::MapValue(_) | Class::Ringbuf | Class::Other, size, null: false, .. } if size >= 8)
        });
        let (ptr, off) = match target {
            Some(ptr) if self.rng.chance(50) => {
                if let Kind::Mem { class: Class::MapValue(map), .. } = self.kind(ptr)
                    && (MAPS[map].frozen || MAPS[map].value != Value::Bytes)
                {
                    return;
                }
                (ptr, 0)
            }
            _ => {
                let off = self.stack_bytes(8, true);
                self.spoil(off, 8);
                (10, off as i16)
            }
        };
        if op == BPF_CMPXCHG && !self.kind(0).is_scalar() {
            let imm = self.rng.number() as i32;
            self.mov_imm(0, imm);
        }
        let operand = if op == BPF_LOAD_ACQ { self.free_reg_but(&[ptr]) } else { self.scalar_reg() };
        if operand == ptr {
            return;
        }
        if op == BPF_LOAD_ACQ {
            self.emit(BPF_STX | BPF_ATOMIC | size_bits(bytes), operand, ptr, off, op);
            self.set(operand, Kind::Scalar(None));
            return;
        }
        self.emit(BPF_STX | BPF_ATOMIC | size_bits(bytes), ptr, operand, off, op);
        if op == BPF_CMPXCHG {
            self.set(0, Kind::Scalar(None));
        } else if op & BPF_FETCH != 0 && !sized {
            self.set(operand, Kind::Scalar(None));
        }
    }
}
