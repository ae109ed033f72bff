//! What a map's BTF must look like: `map_check_btf` of `kernel/bpf/syscall.c` and of each map type.

use std::sync::Arc;

use bpftwin_uapi::{Errno, MapType};

use super::special::SpecialFields;
use super::{MapAttrs, Result};
use crate::btf::field::{BPF_REFCOUNT, BPF_SPIN_LOCK};
use crate::btf::{Btf, BtfRecord, BtfType, KernelBtf, MapValue};
use crate::kernel::caps::CapSet;

/// `map_check_btf`: checks the key and value types, and finds the value's special fields.
pub fn map_check_btf(
    attrs: &MapAttrs,
    btf: &Btf,
    key_id: u32,
    value_id: u32,
    caps: CapSet,
    kernel: KernelBtf<'_>,
) -> Result<Option<Arc<BtfRecord>>> {
    let key_type = if key_id != 0 {
        let (key_type, key_size) = btf.type_id_size(key_id).ok_or(Errno::EINVAL)?;
        if key_size != attrs.key_size {
            return Err(Errno::EINVAL);
        }
        key_type
    } else {
        if !has_check(attrs.map_type) {
            return Err(Errno::EINVAL);
        }
        btf.type_or_void(0)
    };
    let (value_type, value_size) = btf.type_id_size(value_id).ok_or(Errno::EINVAL)?;
    if value_size != attrs.value_size {
        return Err(Errno::EINVAL);
    }
    let value = MapValue {
        map_type: attrs.map_type,
        value_size,
        map_flags: attrs.map_flags,
        bpf_capable: caps.bpf(),
    };
    let record = btf.map_record(&value_type, &value, kernel)?;
    type_check(attrs, btf, key_type, value_type)?;
    Ok(record)
}

/// Whether the type has a `map_check_btf` of its own, without which the key must have a type.
fn has_check(map_type: MapType) -> bool {
    !matches!(
        map_type,
        MapType::Unspec
            | MapType::ProgArray
            | MapType::Hash
            | MapType::PercpuHash
            | MapType::LruHash
            | MapType::LruPercpuHash
            | MapType::Queue
            | MapType::Stack
            | MapType::Ringbuf
            | MapType::UserRingbuf
            | MapType::ReuseportSockarray
            | MapType::StructOps
    )
}

/// `map_check_btf` of the map type.
fn type_check(attrs: &MapAttrs, btf: &Btf, key_type: BtfType<'_>, value_type: BtfType<'_>) -> Result<()> {
    let ensure = |good: bool| if good { Ok(()) } else { Err(Errno::EINVAL) };
    match attrs.map_type {
        MapType::Array | MapType::PercpuArray => {
            if key_type.is_void() {
                // Of .bss, .data, .rodata: the map is one section.
                return ensure(
                    attrs.map_type == MapType::Array && attrs.max_entries == 1 && value_type.is_datasec(),
                );
            }
            ensure(key_type.is_i32())
        }
        MapType::SkStorage | MapType::InodeStorage | MapType::TaskStorage | MapType::CgrpStorage => {
            ensure(key_type.is_i32())
        }
        MapType::BloomFilter => ensure(key_type.is_void()),
        MapType::LpmTrie => ensure(key_type.is_strict_struct()),
        MapType::Arena => Ok(()),
        MapType::CgroupStorage | MapType::PercpuCgroupStorage => {
            cgroup_storage_check_btf(attrs, btf, key_type)
        }
        MapType::PerfEventArray
        | MapType::CgroupArray
        | MapType::ArrayOfMaps
        | MapType::HashOfMaps
        | MapType::StackTrace
        | MapType::Devmap
        | MapType::DevmapHash
        | MapType::Cpumap
        | MapType::Xskmap
        | MapType::Sockmap
        | MapType::Sockhash => Err(Errno::ENOTSUPP),
        _ => Ok(()),
    }
}

/// `cgroup_storage_check_btf`: the key is a cgroup's inode number, or that and an attach type.
fn cgroup_storage_check_btf(attrs: &MapAttrs, btf: &Btf, key_type: BtfType<'_>) -> Result<()> {
    let good = if attrs.key_size == 16 {
        key_type.is_strict_struct()
            && key_type.vlen() == 2
            && key_type
                .members()
                .zip([(0, 8), (8, 4)])
                .all(|(member, (offset, size))| btf.member_is_reg_int(&key_type, &member, offset, size))
    } else {
        key_type.is_i64()
    };
    if good { Ok(()) } else { Err(Errno::EINVAL) }
}

/// Where the special fields of a value are.
pub fn special_fields(record: &BtfRecord) -> SpecialFields {
    let fields = record.fields.iter().map(|field| (field.offset, field.size)).collect();
    let refcounts = record.fields.iter().filter(|field| field.type_ == BPF_REFCOUNT);
    SpecialFields::new(fields, refcounts.map(|field| field.offset).collect())
}

/// Whether a value has a lock that `BPF_F_LOCK` takes: `btf_record_has_field(record, BPF_SPIN_LOCK)`.
pub fn has_spin_lock(record: Option<&BtfRecord>) -> bool {
    record.is_some_and(|record| record.field_mask & BPF_SPIN_LOCK != 0)
}
