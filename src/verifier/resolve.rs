//! Maps and other objects that instructions name: `resolve_pseudo_ldimm64` and `process_fd_array`.
//!
//! The kernel replaces descriptors in instructions by addresses, which the log shows to privileged loaders. Addresses here
//! are made up: alike for the same map, different for others, and in the kernel's half.

use std::sync::Arc;

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Errno, MapType};

use super::prog::VerifierMap;
use super::reg_type::RegType;
use super::{BPF_MAX_VAR_OFF, MAX_USED_BTFS, MAX_USED_MAPS, Result, Verifier};
use crate::btf::Btf;
use crate::progs::maps::{self, MapRefusal};
use crate::progs::tag::bpf_prog_calc_tag;
use crate::verbose;

impl Verifier {
    /// Takes note of the descriptors in `fd_array`, where the load says how many there are.
    pub fn process_fd_array(&mut self) -> Result<()> {
        let cnt = self.attr.fd_array_cnt;
        if cnt >= u32::MAX / 4 {
            verbose!(self, "fd_array_cnt is too big ({cnt})\n");
            return Err(Errno::EINVAL);
        }
        for i in 0..cnt {
            let fd = self.fd_array_entry(i as i32)?;
            self.add_fd_from_fd_array(fd)?;
        }
        Ok(())
    }

    /// Entry of `fd_array`. The index is an instruction's, and unchecked.
    fn fd_array_entry(&self, index: i32) -> Result<i32> {
        let mut fd = [0; 4];
        let address = self.attr.fd_array.wrapping_add((i64::from(index) * 4) as u64);
        self.objects.read_user(address, &mut fd).map_err(|_| Errno::EFAULT)?;
        Ok(i32::from_ne_bytes(fd))
    }

    fn add_fd_from_fd_array(&mut self, fd: i32) -> Result<()> {
        let err = match self.objects.map_by_fd(fd) {
            Ok(map) => return self.__add_used_map(map).map(drop),
            Err(err) => err,
        };
        if let Ok(btf) = self.objects.btf_by_fd(fd) {
            return self.__add_used_btf(btf);
        }
        verbose!(self, "fd {fd} is not pointing to valid bpf_map or btf\n");
        Err(err)
    }

    pub(super) fn __add_used_btf(&mut self, btf: Arc<Btf>) -> Result<()> {
        if self.used_btfs.iter().any(|used| used.uid() == btf.uid()) {
            return Ok(());
        }
        if self.used_btfs.len() >= MAX_USED_BTFS {
            verbose!(self, "The total number of btfs per program has reached the limit of {MAX_USED_BTFS}\n");
            return Err(Errno::E2BIG);
        }
        self.used_btfs.push(btf);
        Ok(())
    }

    /// Index of a map among the program's maps; it becomes one of them where it was not.
    fn __add_used_map(&mut self, map: Arc<VerifierMap>) -> Result<u32> {
        if let Some(i) = self.maps.iter().position(|used| used.identity == map.identity) {
            return Ok(i as u32);
        }
        if self.used_map_cnt >= MAX_USED_MAPS {
            verbose!(self, "The total number of maps per program has reached the limit of {MAX_USED_MAPS}\n");
            return Err(Errno::E2BIG);
        }
        self.check_map_prog_compatibility(&map)?;
        self.maps.push(map);
        self.used_map_cnt = self.maps.len();
        Ok(self.used_map_cnt as u32 - 1)
    }

    fn add_used_map(&mut self, fd: i32) -> Result<u32> {
        match self.objects.map_by_fd(fd) {
            Ok(map) => self.__add_used_map(map),
            Err(err) => {
                verbose!(self, "fd {fd} is not pointing to valid bpf_map\n");
                Err(err)
            }
        }
    }

    fn check_map_prog_compatibility(&mut self, map: &VerifierMap) -> Result<()> {
        match maps::check_map_prog_compatibility(&mut self.prog, map) {
            Ok(()) => Ok(()),
            Err(MapRefusal::NotEmulated(what)) => self.not_emulated(what),
            Err(MapRefusal::Refused(why, err)) => {
                verbose!(self, "{why}\n");
                Err(err)
            }
        }
    }

    /// Finds what `ldimm64` instructions name, and rejects unknown instructions on the way.
    pub fn resolve_pseudo_ldimm64(&mut self) -> Result<()> {
        self.prog.digest = bpf_prog_calc_tag(&self.prog.insns);
        let insn_cnt = self.prog.insns.len();
        let mut i = 0;
        while i < insn_cnt {
            let insn = self.prog.insns[i];
            if insn.class() == BPF_LDX && (!matches!(insn.mode(), BPF_MEM | BPF_MEMSX) || insn.imm != 0) {
                verbose!(self, "BPF_LDX uses reserved fields\n");
                return Err(Errno::EINVAL);
            }
            if insn.is_ldimm64() {
                self.resolve_ldimm64(i)?;
                i += 2;
                continue;
            }
            if !bpf_opcode_in_insntable(insn.code) {
                verbose!(self, "unknown opcode {:02x}\n", insn.code);
                return Err(Errno::EINVAL);
            }
            i += 1;
        }
        Ok(())
    }

    fn resolve_ldimm64(&mut self, i: usize) -> Result<()> {
        let insn = self.prog.insns[i];
        let next = self.prog.insns.get(i + 1).copied();
        let Some(next) = next.filter(|next| next.code == 0 && next.regs == 0 && next.off == 0) else {
            verbose!(self, "invalid bpf_ld_imm64 insn\n");
            return Err(Errno::EINVAL);
        };
        let by_index = match insn.src_reg() {
            0 => return Ok(()),
            BPF_PSEUDO_BTF_ID => return self.check_pseudo_btf_id(i, insn, next),
            BPF_PSEUDO_FUNC => {
                self.insn_aux[i].ptr_type = RegType::PTR_TO_FUNC;
                return Ok(());
            }
            BPF_PSEUDO_MAP_VALUE => false,
            BPF_PSEUDO_MAP_IDX_VALUE => true,
            BPF_PSEUDO_MAP_FD if next.imm == 0 => false,
            BPF_PSEUDO_MAP_IDX if next.imm == 0 => true,
            _ => {
                verbose!(self, "unrecognized bpf_ld_imm64 insn\n");
                return Err(Errno::EINVAL);
            }
        };
        let fd = if !by_index {
            insn.imm
        } else if self.attr.fd_array == 0 {
            verbose!(self, "fd_idx without fd_array is invalid\n");
            return Err(Errno::EPROTO);
        } else {
            self.fd_array_entry(insn.imm)?
        };
        let map_index = self.add_used_map(fd)?;
        let map = self.maps[map_index as usize].clone();
        self.insn_aux[i].map_index = map_index;
        let address = match insn.src_reg() {
            BPF_PSEUDO_MAP_FD | BPF_PSEUDO_MAP_IDX => map_address(&map),
            _ => {
                let off = next.imm as u32;
                self.check_direct_value(&map, off)?;
                self.insn_aux[i].map_off = off;
                value_address(&map).wrapping_add(u64::from(off))
            }
        };
        self.prog.insns[i].imm = address as i32;
        self.prog.insns[i + 1].imm = (address >> 32) as i32;
        Ok(())
    }

    /// The value of the map can be pointed to at `off`: `map_direct_value_addr` of the map types that have it.
    fn check_direct_value(&mut self, map: &VerifierMap, off: u32) -> Result<()> {
        if i64::from(off) >= BPF_MAX_VAR_OFF {
            verbose!(self, "direct value offset of {off} is not allowed\n");
            return Err(Errno::EINVAL);
        }
        if map.map_type != MapType::Array {
            verbose!(self, "no direct value access support for this map type\n");
            return Err(Errno::EINVAL);
        }
        let err = if map.max_entries != 1 {
            Errno::ENOTSUPP
        } else if off >= map.value_size {
            Errno::EINVAL
        } else {
            return Ok(());
        };
        verbose!(self, "invalid access to map value pointer, value_size={} off={off}\n", map.value_size);
        Err(err)
    }
}

/// A `struct bpf_map`, in the direct mapping.
fn map_address(map: &VerifierMap) -> u64 {
    0xffff_8881_0000_0000 | (map.identity & 0xf_ffff) << 12
}

/// An array's values, in the vmalloc area.
fn value_address(map: &VerifierMap) -> u64 {
    0xffff_c900_0000_0000 | (map.identity & 0x1f_ffff) << 20
}

/// The opcode is one that programs may have: `bpf_opcode_in_insntable`.
pub const fn bpf_opcode_in_insntable(code: u8) -> bool {
    let op = code & 0xf0;
    let size = code & 0x18;
    let mode = code & 0xe0;
    match code & 0x07 {
        BPF_ALU => match op {
            BPF_NEG => code & 0x08 == BPF_K,
            _ => op <= BPF_END,
        },
        BPF_ALU64 => match op {
            BPF_NEG | BPF_END => code & 0x08 == 0,
            _ => op <= BPF_END,
        },
        BPF_JMP => match op {
            BPF_JA | BPF_CALL | BPF_EXIT | BPF_JCOND => code & 0x08 == BPF_K,
            _ => op <= BPF_JSLE,
        },
        BPF_JMP32 => match op {
            BPF_JA => code & 0x08 == BPF_K,
            BPF_CALL | BPF_EXIT => false,
            _ => op <= BPF_JSLE,
        },
        BPF_STX => mode == BPF_MEM || mode == BPF_ATOMIC,
        BPF_ST => mode == BPF_MEM,
        BPF_LDX => mode == BPF_MEM || mode == BPF_MEMSX && size != BPF_DW,
        _ => code == BPF_LD | BPF_IMM | BPF_DW || (mode == BPF_ABS || mode == BPF_IND) && size != BPF_DW,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_opcodes() {
        let known = (0..=255).filter(|&code| bpf_opcode_in_insntable(code)).count();
        // 12 binary operations by two sources by two widths, negations and byte swaps; calls, exit, goto and may_goto; 11
        // conditions by two sources by two widths; atomics, stores, loads.
        assert_eq!(known, 48 + 2 + 3 + 5 + 44 + 4 + 8 + 7 + 7);
        for unknown in [0x00, 0x0d, 0x8d, 0x95 | 8, 0xdf, 0x99, 0xe6, 0xee, 0xf5, 0xe4, 0xd5 | 0xf0] {
            assert!(!bpf_opcode_in_insntable(unknown), "{unknown:#x}");
        }
    }
}
