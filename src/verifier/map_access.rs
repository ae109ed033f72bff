//! Accesses to maps: values and their special fields, constants of read-only maps, and the kernel's own map structures.

use bpftwin_uapi::attr::BPF_F_RDONLY_PROG;
use bpftwin_uapi::{Errno, MapType};

use super::access::{AccessSrc, AccessType};
use super::prog::VerifierMap;
use super::reg_type::RegType;
use super::state::MapIdx;
use super::{Result, Verifier};
use crate::btf::{btf_field_type_name, field};
use crate::verbose;

/// Programs may only write to the map.
const BPF_F_WRONLY_PROG: u32 = 1 << 8;

impl Verifier {
    #[allow(clippy::too_many_arguments)]
    pub(super) fn access_map_value(
        &mut self,
        insn_idx: u32,
        regno: u8,
        off: i32,
        size: i32,
        t: AccessType,
        value_regno: Option<u8>,
        is_ldsx: bool,
    ) -> Result<()> {
        self.check_value_leak(RegType::PTR_TO_MAP_VALUE, t, value_regno)?;
        self.check_map_access_type(regno, off, size, t)?;
        self.check_map_access(regno, off, size, false, AccessSrc::Direct)?;
        let var_off = self.cur_reg(regno).var_off;
        if var_off.is_const() {
            let at = off.wrapping_add(var_off.value as i32) as u32;
            let map = self.reg_map(regno)?;
            if let Some(record) = &map.record
                && let Some(field) = record.find(at, field::BPF_KPTR | field::BPF_UPTR)
            {
                let field = field.clone();
                return self.check_map_kptr_access(regno, value_regno, insn_idx, &field);
            }
        }
        let Some(value_regno) = value_regno.filter(|_| t == AccessType::Read) else { return Ok(()) };

        // The contents of a read-only map are constants.
        if var_off.is_const() {
            let map = self.reg_map(regno)?;
            if map.is_rdonly() && map.has_direct_value_addr() {
                let value = bpf_map_direct_read(map, off.wrapping_add(var_off.value as i32), size, is_ldsx)?;
                let reg = self.cur_reg_mut(value_regno);
                reg.type_ = RegType::SCALAR_VALUE;
                reg.mark_known(value);
                return Ok(());
            }
        }
        self.mark_cur_reg_unknown(value_regno);
        Ok(())
    }

    /// Map of a register that points to one, or into one.
    #[inline]
    pub fn reg_map(&self, regno: u8) -> Result<&VerifierMap> {
        match self.cur_reg(regno).map_ptr().and_then(|idx: MapIdx| self.maps.get(idx as usize)) {
            Some(map) => Ok(map),
            None => Err(Errno::EFAULT),
        }
    }

    /// `check_map_access_type`: whether programs may read or write this map.
    pub fn check_map_access_type(&mut self, regno: u8, off: i32, size: i32, t: AccessType) -> Result<()> {
        let map = self.reg_map(regno)?;
        let (forbidden, what) = match t {
            AccessType::Write => (map.map_flags & BPF_F_RDONLY_PROG != 0, "write into"),
            AccessType::Read => {
                (map.map_flags & (BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG) == BPF_F_WRONLY_PROG, "read from")
            }
        };
        if !forbidden {
            return Ok(());
        }
        let value_size = map.value_size as i32;
        verbose!(self, "{what} map forbidden, value_size={value_size} off={off} size={size}\n");
        Err(Errno::EACCES)
    }

    /// `check_map_access`: an access to a map's value, which keeps off its special fields.
    pub fn check_map_access(
        &mut self,
        regno: u8,
        off: i32,
        size: i32,
        zero_size_allowed: bool,
        src: AccessSrc,
    ) -> Result<()> {
        let map = self.reg_map(regno)?;
        let has_record = map.record.is_some();
        let value_size = map.value_size;
        self.check_mem_region_access(regno, off, size, value_size, zero_size_allowed)?;
        if has_record {
            return self.check_map_special_fields(regno, off, size, src);
        }
        Ok(())
    }

    fn check_map_special_fields(&mut self, regno: u8, off: i32, size: i32, src: AccessSrc) -> Result<()> {
        let reg = self.cur_reg(regno);
        let var_off = reg.var_off;
        let begin = reg.smin_value.wrapping_add(off as i64);
        let end = reg.umax_value.wrapping_add(off as i64 as u64).wrapping_add(size as i64 as u64);
        let Some(record) = self.reg_map(regno)?.record.clone() else { return Ok(()) };
        for field in &record.fields {
            let p = field.offset;
            if begin >= p.wrapping_add(field.size) as i64 || p as u64 >= end {
                continue;
            }
            let name = btf_field_type_name(field.type_);
            let at = (off as i64 as u64).wrapping_add(var_off.value);
            if field.type_ & (field::BPF_KPTR | field::BPF_UPTR) == 0 {
                verbose!(self, "{name} cannot be accessed directly by load/store\n");
            } else if src != AccessSrc::Direct {
                verbose!(self, "{name} cannot be accessed indirectly by helper\n");
            } else if !var_off.is_const() {
                verbose!(self, "{name} access cannot have variable offset\n");
            } else if p as u64 != at {
                verbose!(self, "{name} access misaligned expected={p} off={at}\n");
            } else if size != 8 {
                verbose!(self, "{name} access size must be BPF_DW\n");
            } else {
                continue;
            }
            return Err(Errno::EACCES);
        }
        Ok(())
    }

    /// `check_ptr_to_map_access`: reads of the kernel's `struct bpf_map` and what contains it.
    pub(super) fn check_ptr_to_map_access(
        &mut self,
        regno: u8,
        off: i32,
        size: i32,
        t: AccessType,
        value_regno: Option<u8>,
    ) -> Result<()> {
        let Some(btf) = self.btf_vmlinux.clone() else {
            verbose!(self, "map_ptr access not supported without CONFIG_DEBUG_INFO_BTF\n");
            return Err(Errno::ENOTSUPP);
        };
        let map_type = self.reg_map(regno)?.map_type;
        let found = map_btf_struct(map_type).and_then(|tname| Some((tname, btf.find_struct(tname)?)));
        let Some((tname, btf_id)) = found else {
            verbose!(self, "map_ptr access not supported for map type {}\n", map_type as u32);
            return Err(Errno::ENOTSUPP);
        };
        if !self.allow_ptr_leaks {
            verbose!(self, "'struct {tname}' access is allowed only to CAP_PERFMON and CAP_SYS_ADMIN\n");
            return Err(Errno::EPERM);
        }
        if off < 0 {
            verbose!(self, "R{regno} is {tname} invalid negative access: off={off}\n");
            return Err(Errno::EACCES);
        }
        if t != AccessType::Read {
            verbose!(self, "only read from {tname} is supported\n");
            return Err(Errno::EACCES);
        }
        self.read_map_struct(&btf, btf_id, off, size, value_regno)
    }
}

impl VerifierMap {
    /// `bpf_map_is_rdonly`: neither programs nor user space can change the map any more.
    pub fn is_rdonly(&self) -> bool {
        self.map_flags & BPF_F_RDONLY_PROG != 0 && self.contents.frozen()
    }

    /// The map's operations have `map_direct_value_addr`.
    pub fn has_direct_value_addr(&self) -> bool {
        matches!(self.map_type, MapType::Array | MapType::Arena)
    }
}

/// `bpf_map_direct_read`: `size` bytes at `off` of the map's only value.
fn bpf_map_direct_read(map: &VerifierMap, off: i32, size: i32, is_ldsx: bool) -> Result<u64> {
    // `array_map_direct_value_addr`: of one entry only.
    if map.max_entries != 1 {
        return Err(Errno::ENOTSUPP);
    }
    if off as u32 >= map.value_size {
        return Err(Errno::EINVAL);
    }
    let mut bytes = [0; 8];
    map.contents.read_value(off as u32, &mut bytes[..size as usize])?;
    let value = u64::from_le_bytes(bytes);
    Ok(match (is_ldsx, size) {
        (true, 1) => value as i8 as u64,
        (true, 2) => value as i16 as u64,
        (true, 4) => value as i32 as u64,
        _ => value,
    })
}

/// Kernel structure behind a map of this type: what `map_btf_id` stands for.
fn map_btf_struct(map_type: MapType) -> Option<&'static str> {
    use MapType::*;
    Some(match map_type {
        Unspec => return None,
        Array | PercpuArray | ProgArray | PerfEventArray | CgroupArray | ArrayOfMaps => "bpf_array",
        Hash | PercpuHash | LruHash | LruPercpuHash | HashOfMaps => "bpf_htab",
        StackTrace => "bpf_stack_map",
        LpmTrie => "lpm_trie",
        Devmap | DevmapHash => "bpf_dtab",
        Sockmap => "bpf_stab",
        Sockhash => "bpf_shtab",
        Cpumap => "bpf_cpu_map",
        Xskmap => "xsk_map",
        CgroupStorage | PercpuCgroupStorage => "bpf_cgroup_storage_map",
        ReuseportSockarray => "reuseport_array",
        Queue | Stack => "bpf_queue_stack",
        SkStorage | InodeStorage | TaskStorage | CgrpStorage => "bpf_local_storage_map",
        StructOps => "bpf_struct_ops_map",
        Ringbuf | UserRingbuf => "bpf_ringbuf_map",
        BloomFilter => "bpf_bloom_filter",
        Arena => "bpf_arena",
    })
}
