//! Loads, stores and atomic operations, and the checks of every access.

use bpftwin_uapi::Insn;
use bpftwin_uapi::insn::*;

use super::alu;
use super::inputs::{Origin, Range};
use super::machine::{Exec, Machine};
use super::memory::{Fill, KERNEL, Read, RegionId, RegionKind, Value};
use super::stop::{BadAccess, Stop, Wrong};
use crate::btf::field;
use crate::verifier::access::AccessType;

/// An access to be checked.
#[derive(Clone, Copy)]
pub(super) struct Access {
    pub pointer: Value,
    /// Register of the pointer.
    pub reg: u8,
    pub off: i64,
    pub size: u64,
    pub write: bool,
    pub arg: Option<u8>,
}

impl Machine<'_> {
    pub(super) fn bad_access<T>(&self, access: Access, wrong: Wrong) -> Exec<T> {
        let region = access.pointer.region.map(|id| self.region(id));
        let address = access.pointer.bits.wrapping_add(access.off as u64);
        Err(Stop::BadAccess(BadAccess {
            insn: self.pc,
            wrong,
            write: access.write,
            arg: access.arg,
            reg: access.reg,
            region: region.map(|region| region.kind),
            bounds: region.map_or((0, 0), |region| (region.start, region.end)),
            off: address.wrapping_sub(region.map_or(0, |region| region.base)) as i64,
            size: access.size,
        }))
    }

    /// Checks an access; gives the region and the offset in it.
    pub(super) fn check_access(&self, access: Access) -> Exec<(RegionId, i64)> {
        let Some(id) = access.pointer.region else { return self.bad_access(access, Wrong::NotAPointer) };
        let region = self.region(id);
        let off = access.pointer.bits.wrapping_add(access.off as u64).wrapping_sub(region.base) as i64;
        if !region.live {
            return self.bad_access(access, Wrong::Stale);
        }
        match region.kind {
            // A null pointer, or a small number, that was read from kernel memory is followed with faults handled.
            RegionKind::Kernel if access.write => return self.bad_access(access, Wrong::ReadOnly),
            RegionKind::Kernel => return Ok((id, off)),
            RegionKind::Function { .. } => return self.bad_access(access, Wrong::NotAPointer),
            _ => {}
        }
        let inside = off >= region.start
            && i128::from(off) + i128::from(access.size) <= i128::from(region.end)
            && off <= region.end;
        if !inside {
            return self.bad_access(access, Wrong::OutOfBounds);
        }
        if access.write && !region.writable {
            return self.bad_access(access, Wrong::ReadOnly);
        }
        Ok((id, off))
    }

    /// An access of an instruction's own.
    fn direct(&mut self, reg: u8, insn: Insn, write: bool) -> Exec<Access> {
        let pointer = self.reg(reg)?;
        self.note_pointer(pointer);
        Ok(Access { pointer, reg, off: insn.off.into(), size: insn.size_bytes() as u64, write, arg: None })
    }

    pub(super) fn load_insn(&mut self, insn: Insn) -> Exec<()> {
        let is_signed = match insn.mode() {
            BPF_MEM => false,
            BPF_MEMSX if insn.size() != BPF_DW => true,
            _ => return self.unknown_opcode(insn),
        };
        let access = self.direct(insn.src_reg(), insn, false)?;
        let mut value = self.load(access, is_signed)?;
        if is_signed {
            let bits = insn.size_bytes() as i16 * 8;
            value.term = self.terms.alu(BPF_MOV, bits, true, Value::default(), value);
            value.bits = alu::sign_extend(value.bits, bits as u32);
        }
        self.set(insn.dst_reg(), value)
    }

    /// Loads 1 to 8 bytes.
    fn load(&mut self, access: Access, is_ldsx: bool) -> Exec<Value> {
        let (id, off) = self.check_access(access)?;
        let size = access.size as u8;
        if id == self.context {
            let Some(reg_type) = self.program.ctx_access(off, size.into(), AccessType::Read, is_ldsx) else {
                return self.bad_access(access, Wrong::NotAllowed);
            };
            return self.load_ctx(off, size, reg_type);
        }
        let mut value = self.read_memory(id, off, size)?;
        if size == 8 && value.region.is_none() && self.may_hold_kernel_pointer(id, off) {
            value.region = Some(KERNEL);
        }
        Ok(value)
    }

    /// Whether eight bytes of the region may be a pointer to a kernel object that the program follows.
    fn may_hold_kernel_pointer(&self, id: RegionId, off: i64) -> bool {
        let region = self.region(id);
        match region.kind {
            RegionKind::Kernel | RegionKind::Map { .. } => true,
            RegionKind::MapValue { .. } | RegionKind::Helper { .. } => {
                region.map.as_ref().and_then(|map| map.record.as_ref()).is_some_and(|record| {
                    let field = u32::try_from(off)
                        .ok()
                        .and_then(|off| record.find(off, field::BPF_KPTR | field::BPF_UPTR));
                    field.is_some()
                })
            }
            _ => false,
        }
    }

    /// Reads 1 to 8 bytes that were checked, asking for those that are not known.
    pub(super) fn read_memory(&mut self, id: RegionId, off: i64, size: u8) -> Exec<Value> {
        let mut read = self.region(id).read(off, size);
        if !matches!(read, Read::Known(_)) && self.read_constant(id, off, size) {
            read = self.region(id).read(off, size);
        }
        match read {
            Read::Known(value) => return Ok(self.with_parts(id, off, size, value)),
            Read::Unknown => {
                let fill = self.region(id).fill_of(off);
                let same = |i: u8| {
                    let other = self.region(id).fill_of(off.wrapping_add(i.into()));
                    other.map(|fill| (fill.insn, fill.nth, fill.arg))
                        == fill.map(|fill| (fill.insn, fill.nth, fill.arg))
                };
                if (1..size).all(same) {
                    let value = self.ask_for(id, off, size);
                    return Ok(value);
                }
                for i in 0..size {
                    self.ask_for(id, off.wrapping_add(i.into()), 1);
                }
            }
            Read::Partly(known) => {
                for i in (0..size).filter(|i| known >> i & 1 == 0) {
                    self.ask_for(id, off.wrapping_add(i.into()), 1);
                }
            }
        }
        match self.region(id).read(off, size) {
            Read::Known(value) => Ok(self.with_parts(id, off, size, value)),
            _ => self.unsupported("memory that stays unknown"),
        }
    }

    /// How a value depends on inputs that is read in other pieces than it was written in.
    fn with_parts(&mut self, id: RegionId, off: i64, size: u8, value: Value) -> Value {
        if value.term.is_some() || value.region.is_some() {
            return value;
        }
        let mut sum = Value::scalar(0);
        for (start, len, part) in self.region(id).parts(off, size) {
            let part = Value { region: None, ..part };
            let part = self.terms.with(BPF_AND, part, alu::truncate(u64::MAX, len.into()));
            let part = if start < off {
                self.terms.with(BPF_RSH, part, 8 * (off - start) as u64)
            } else {
                self.terms.with(BPF_LSH, part, 8 * (start - off) as u64)
            };
            let term = self.terms.alu(BPF_OR, 0, true, sum, part);
            sum = Value { bits: sum.bits | part.bits, region: None, term };
        }
        let mask = alu::truncate(u64::MAX, size.into());
        Value {
            term: if sum.term.is_some() { self.terms.with(BPF_AND, sum, mask).term } else { None },
            ..value
        }
    }

    fn ask_for(&mut self, id: RegionId, off: i64, size: u8) -> Value {
        let region = self.region(id);
        let origin = match region.fill_of(off) {
            Some(Fill { start, insn, nth, arg, .. }) => {
                Origin::Filled { insn, nth, arg, off: off.wrapping_sub(start), size }
            }
            None => Origin::Memory { region: region.kind, off, size },
        };
        let value = self.ask(origin, Range::of_size(size));
        self.region_mut(id).write(off, size, value);
        value
    }

    /// Contents of a map that nobody can change any more.
    fn read_constant(&mut self, id: RegionId, off: i64, size: u8) -> bool {
        let region = self.region(id);
        let (RegionKind::MapValue { entry: 0, .. }, Some(map)) = (region.kind, region.map.as_ref()) else {
            return false;
        };
        let mut bytes = [0u8; 8];
        let constant = map.is_rdonly()
            && map.has_direct_value_addr()
            && u32::try_from(off)
                .is_ok_and(|off| map.contents.read_value(off, &mut bytes[..usize::from(size)]).is_ok());
        if constant {
            self.region_mut(id).write(off, size, Value::scalar(u64::from_le_bytes(bytes)));
        }
        constant
    }

    /// Reads a key: as many bytes as asked for.
    pub(super) fn read_bytes(&mut self, id: RegionId, off: i64, len: u32) -> Exec<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len as usize);
        while bytes.len() < len as usize {
            let size = (len as usize - bytes.len()).min(8);
            let value = self.read_memory(id, off.wrapping_add(bytes.len() as i64), size as u8)?;
            self.note(value);
            bytes.extend_from_slice(&value.bits.to_le_bytes()[..size]);
        }
        Ok(bytes)
    }

    pub(super) fn store_insn(&mut self, insn: Insn) -> Exec<()> {
        match (insn.class(), insn.mode()) {
            (BPF_ST, BPF_MEM) => {
                let access = self.direct(insn.dst_reg(), insn, true)?;
                self.store(access, Value::scalar(insn.imm as i64 as u64))
            }
            (BPF_STX, BPF_MEM) => {
                let value = self.reg(insn.src_reg())?;
                let access = self.direct(insn.dst_reg(), insn, true)?;
                self.store(access, value)
            }
            (BPF_STX, BPF_ATOMIC) => self.atomic(insn),
            _ => self.unknown_opcode(insn),
        }
    }

    fn store(&mut self, access: Access, value: Value) -> Exec<()> {
        let (id, off) = self.check_access(access)?;
        if id == self.context
            && self.program.ctx_access(off, access.size as i32, AccessType::Write, false).is_none()
        {
            return self.bad_access(access, Wrong::NotAllowed);
        }
        self.region_mut(id).write(off, access.size as u8, value);
        Ok(())
    }

    fn atomic(&mut self, insn: Insn) -> Exec<()> {
        match insn.imm {
            BPF_LOAD_ACQ => {
                let access = self.direct(insn.src_reg(), insn, false)?;
                let value = self.load(access, false)?;
                return self.set(insn.dst_reg(), value);
            }
            BPF_STORE_REL => {
                let value = self.reg(insn.src_reg())?;
                let access = self.direct(insn.dst_reg(), insn, true)?;
                return self.store(access, value);
            }
            _ => {}
        }
        if !matches!(insn.size(), BPF_W | BPF_DW) {
            return self.unknown_opcode(insn);
        }
        let size = insn.size_bytes() as u32;
        let src = self.reg(insn.src_reg())?;
        let access = self.direct(insn.dst_reg(), insn, true)?;
        let old = self.load(Access { write: false, ..access }, false)?;
        match insn.imm {
            BPF_XCHG => {
                self.store(access, src)?;
                return self.set(insn.src_reg(), old);
            }
            BPF_CMPXCHG => {
                let expected = self.reg(BPF_REG_0)?;
                if alu::truncate(expected.bits, size) == old.bits {
                    self.store(access, src)?;
                }
                return self.set(BPF_REG_0, old);
            }
            _ => {}
        }
        let bits = match (insn.imm & !BPF_FETCH) as u8 {
            BPF_ADD => old.bits.wrapping_add(src.bits),
            BPF_OR => old.bits | src.bits,
            BPF_AND => old.bits & src.bits,
            BPF_XOR => old.bits ^ src.bits,
            _ => return self.unknown_opcode(insn),
        };
        let term = self.terms.alu((insn.imm & !BPF_FETCH) as u8, 0, true, old, src);
        self.store(access, Value { bits, region: None, term })?;
        if insn.imm & BPF_FETCH != 0 {
            self.set(insn.src_reg(), old)?;
        }
        Ok(())
    }

    /// `BPF_LD`: 64-bit immediates and packet loads of classic BPF.
    pub(super) fn ld(&mut self, insn: Insn) -> Exec<()> {
        if insn.is_ldimm64() {
            return self.ld_imm64(insn);
        }
        match insn.mode() {
            BPF_ABS | BPF_IND if insn.size() != BPF_DW => self.ld_abs(insn),
            _ => self.unknown_opcode(insn),
        }
    }

    fn ld_imm64(&mut self, insn: Insn) -> Exec<()> {
        let Some(next) = self.program.insns.get(self.pc as usize + 1) else {
            return self.unknown_opcode(insn);
        };
        let bits = u64::from(next.imm as u32) << 32 | u64::from(insn.imm as u32);
        let value = match (insn.src_reg(), self.program.map_use(self.pc)) {
            (0, _) => Value::scalar(bits),
            (BPF_PSEUDO_BTF_ID, _) => Value { bits, region: Some(KERNEL), term: None },
            (BPF_PSEUDO_FUNC, _) => {
                let start = (self.pc as i32).wrapping_add(insn.imm).wrapping_add(1) as u32;
                let function = self.new_region(RegionKind::Function { start }, 0, 0)?;
                self.pointer_to(function, 0)
            }
            (_, Some(map_use)) if map_use.is_value => {
                let value = self.element(map_use.map_idx, &0u32.to_le_bytes())?;
                self.pointer_to(value, map_use.map_off.into())
            }
            (_, Some(map_use)) => {
                let map = self.map_region(map_use.map_idx)?;
                self.pointer_to(map, 0)
            }
            _ => return self.unsupported("an immediate that names nothing known"),
        };
        self.set(insn.dst_reg(), value)?;
        self.pc += 2;
        Ok(())
    }

    /// A load from the packet in network byte order; it ends the function with zero where it fails.
    fn ld_abs(&mut self, insn: Insn) -> Exec<()> {
        let mut off = i64::from(insn.imm);
        if insn.mode() == BPF_IND {
            off = i64::from((self.reg(insn.src_reg())?.bits as i32).wrapping_add(insn.imm));
        }
        let size = insn.size_bytes();
        let packet = self.packet()?;
        let linear = off >= 0 && off + i64::from(size) <= self.region(packet).end;
        self.clobber_caller_saved();
        if !linear {
            // Behind the linear data there may be more, and negative offsets are those of fields beside the packet.
            let origin = Origin::Choice { insn: self.pc, nth: self.nth() };
            let fails = self.ask(origin, Range::CHOICE);
            if !self.decide(fails, 0) {
                self.set(BPF_REG_0, Value::scalar(0))?;
                return self.exit();
            }
        }
        let value = if linear {
            let value = self.read_memory(packet, off, size as u8)?;
            let term =
                if size == 1 { value.term } else { self.terms.end(BPF_ALU, BPF_TO_BE, 8 * size, value) };
            Value { bits: value.bits.swap_bytes() >> (64 - 8 * size), region: None, term }
        } else {
            let origin = Origin::Return { insn: self.pc, nth: self.nth() };
            self.ask(origin, Range::of_size(size as u8))
        };
        self.set(BPF_REG_0, value)?;
        self.pc += 1;
        Ok(())
    }
}
