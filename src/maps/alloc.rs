//! Which attributes `BPF_MAP_CREATE` takes for each map type: `map_alloc_check` and the checks inside `map_alloc` of
//! every map type, in their order.
//!
//! The two steps are apart because `map_create` looks at privileges in between.

use bpftwin_uapi::attr::{
    BPF_F_CLONE, BPF_F_INNER_MAP, BPF_F_LINK, BPF_F_MMAPABLE, BPF_F_NO_COMMON_LRU, BPF_F_NO_PREALLOC,
    BPF_F_NO_USER_CONV, BPF_F_NUMA_NODE, BPF_F_PRESERVE_ELEMS, BPF_F_RDONLY, BPF_F_RDONLY_PROG,
    BPF_F_SEGV_ON_FAULT, BPF_F_STACK_BUILD_ID, BPF_F_VTYPE_BTF_OBJ_FD, BPF_F_WRONLY, BPF_F_WRONLY_PROG,
    BPF_F_ZERO_SEED, MapCreate,
};
use bpftwin_uapi::{Errno, MapType};

use super::Result;
use crate::kernel::caps::{Cap, CapSet};
use crate::kernel::profile::Profile;

/// `NUMA_NO_NODE`.
const NUMA_NO_NODE: i32 = -1;
const PAGE_SIZE: u64 = 4096;
/// `KMALLOC_MAX_SIZE`.
pub(super) const KMALLOC_MAX_SIZE: u64 = 4 << 20;
/// `PCPU_MIN_UNIT_SIZE`: bounds a per-CPU value.
const PCPU_MIN_UNIT_SIZE: u64 = 32 << 10;
/// `MAX_BPF_STACK`.
const MAX_BPF_STACK: u32 = 512;
/// `BPF_LOCAL_STORAGE_MAX_VALUE_SIZE`: the size of an element is kept in 16 bits.
const LOCAL_STORAGE_MAX_VALUE_SIZE: u32 = 65535 - SIZEOF_LOCAL_STORAGE_ELEM;
/// `sizeof(struct bpf_local_storage_elem)`, which two cache lines make up.
const SIZEOF_LOCAL_STORAGE_ELEM: u32 = 128;
/// `sizeof(struct htab_elem)`.
pub(super) const SIZEOF_HTAB_ELEM: u64 = 48;
/// `sizeof(struct bucket)` of a hash table.
pub(super) const SIZEOF_BUCKET: u64 = 16;
/// `sizeof(struct bpf_array)` up to its values.
pub(super) const SIZEOF_ARRAY: u64 = 312;
/// Largest value of an LPM trie: `LPM_VAL_SIZE_MAX`, a node being 24 bytes.
const LPM_VAL_SIZE_MAX: u64 = KMALLOC_MAX_SIZE - 256 - 24;
/// `LPM_KEY_SIZE_MIN` to `LPM_KEY_SIZE_MAX`.
const LPM_KEY_SIZE: std::ops::RangeInclusive<u32> = 5..=260;

const BPF_F_ACCESS_MASK: u32 = BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
const ARRAY_CREATE_FLAG_MASK: u32 =
    BPF_F_NUMA_NODE | BPF_F_MMAPABLE | BPF_F_ACCESS_MASK | BPF_F_PRESERVE_ELEMS | BPF_F_INNER_MAP;
const HTAB_CREATE_FLAG_MASK: u32 =
    BPF_F_NO_PREALLOC | BPF_F_NO_COMMON_LRU | BPF_F_NUMA_NODE | BPF_F_ACCESS_MASK | BPF_F_ZERO_SEED;
const BLOOM_CREATE_FLAG_MASK: u32 = BPF_F_NUMA_NODE | BPF_F_ZERO_SEED | BPF_F_ACCESS_MASK;
const LPM_CREATE_FLAG_MASK: u32 = BPF_F_NO_PREALLOC | BPF_F_NUMA_NODE | BPF_F_ACCESS_MASK;
const QUEUE_STACK_CREATE_FLAG_MASK: u32 = BPF_F_NUMA_NODE | BPF_F_ACCESS_MASK;
const RINGBUF_CREATE_FLAG_MASK: u32 = BPF_F_NUMA_NODE;
const STACK_CREATE_FLAG_MASK: u32 = BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY | BPF_F_STACK_BUILD_ID;
const DEV_CREATE_FLAG_MASK: u32 = BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY;
const SOCK_CREATE_FLAG_MASK: u32 = BPF_F_NUMA_NODE | BPF_F_RDONLY | BPF_F_WRONLY;
const LOCAL_STORAGE_CREATE_FLAG_MASK: u32 = BPF_F_NUMA_NODE | BPF_F_ACCESS_MASK;
const BPF_LOCAL_STORAGE_CREATE_FLAG_MASK: u32 = BPF_F_NO_PREALLOC | BPF_F_CLONE;

/// Whether the profile's kernel has this map type built in.
pub fn has_map_type(profile: &Profile, map_type: MapType) -> bool {
    match map_type {
        MapType::Unspec => false,
        MapType::CgroupStorage | MapType::PercpuCgroupStorage => profile.cgroup_bpf,
        MapType::StackTrace => profile.perf_events,
        MapType::InodeStorage => profile.bpf_lsm,
        MapType::Devmap | MapType::DevmapHash | MapType::SkStorage | MapType::Cpumap => profile.net,
        MapType::Xskmap => profile.net && profile.xdp_sockets,
        MapType::Sockmap | MapType::Sockhash | MapType::ReuseportSockarray => {
            profile.net && profile.config.inet
        }
        _ => true,
    }
}

/// Capability that creating a map of a type needs, where it needs one: the table in `map_create`.
pub fn required_cap(map_type: MapType) -> Option<Cap> {
    match map_type {
        MapType::Unspec
        | MapType::Array
        | MapType::PercpuArray
        | MapType::ProgArray
        | MapType::PerfEventArray
        | MapType::CgroupArray
        | MapType::ArrayOfMaps
        | MapType::Hash
        | MapType::PercpuHash
        | MapType::HashOfMaps
        | MapType::Ringbuf
        | MapType::UserRingbuf
        | MapType::CgroupStorage
        | MapType::PercpuCgroupStorage => None,
        MapType::SkStorage
        | MapType::InodeStorage
        | MapType::TaskStorage
        | MapType::CgrpStorage
        | MapType::BloomFilter
        | MapType::LpmTrie
        | MapType::ReuseportSockarray
        | MapType::StackTrace
        | MapType::Queue
        | MapType::Stack
        | MapType::LruHash
        | MapType::LruPercpuHash
        | MapType::StructOps
        | MapType::Cpumap
        | MapType::Arena => Some(Cap::BPF),
        MapType::Sockmap | MapType::Sockhash | MapType::Devmap | MapType::DevmapHash | MapType::Xskmap => {
            Some(Cap::NET_ADMIN)
        }
    }
}

/// `bpf_map_attr_numa_node`.
pub fn numa_node(attr: &MapCreate) -> Option<u32> {
    let node = if attr.map_flags & BPF_F_NUMA_NODE != 0 { attr.numa_node as i32 } else { NUMA_NO_NODE };
    (node != NUMA_NO_NODE).then_some(node as u32)
}

fn ensure(good: bool, error: Errno) -> Result<()> {
    if good { Ok(()) } else { Err(error) }
}

/// `bpf_map_flags_access_ok`: a map that no program may read nor write is of no use.
fn access_ok(flags: u32) -> bool {
    let both = BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG;
    flags & both != both
}

/// `map_alloc_check` of the type.
pub fn alloc_check(map_type: MapType, attr: &MapCreate, caps: CapSet) -> Result<()> {
    match map_type {
        MapType::Array | MapType::PercpuArray => array_alloc_check(map_type, attr),
        MapType::ProgArray | MapType::PerfEventArray | MapType::CgroupArray | MapType::ArrayOfMaps => {
            ensure(attr.value_size == 4, Errno::EINVAL)?;
            ensure(attr.map_flags & (BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG) == 0, Errno::EINVAL)?;
            array_alloc_check(map_type, attr)
        }
        MapType::ReuseportSockarray => {
            ensure(matches!(attr.value_size, 4 | 8), Errno::EINVAL)?;
            array_alloc_check(map_type, attr)
        }
        MapType::Hash | MapType::PercpuHash | MapType::LruHash | MapType::LruPercpuHash => {
            htab_alloc_check(map_type, attr, caps)
        }
        MapType::HashOfMaps => {
            ensure(attr.value_size == 4, Errno::EINVAL)?;
            htab_alloc_check(map_type, attr, caps)
        }
        MapType::BloomFilter => ensure(u64::from(attr.value_size) <= KMALLOC_MAX_SIZE, Errno::E2BIG),
        MapType::Queue | MapType::Stack => {
            ensure(
                attr.max_entries != 0
                    && attr.key_size == 0
                    && attr.value_size != 0
                    && attr.map_flags & !QUEUE_STACK_CREATE_FLAG_MASK == 0
                    && access_ok(attr.map_flags),
                Errno::EINVAL,
            )?;
            ensure(u64::from(attr.value_size) <= KMALLOC_MAX_SIZE, Errno::E2BIG)
        }
        MapType::SkStorage | MapType::InodeStorage | MapType::TaskStorage | MapType::CgrpStorage => {
            ensure(
                attr.map_flags & !BPF_LOCAL_STORAGE_CREATE_FLAG_MASK == 0
                    && attr.map_flags & BPF_F_NO_PREALLOC != 0
                    && attr.max_entries == 0
                    && attr.key_size == 4
                    && attr.value_size != 0
                    && attr.btf_key_type_id != 0
                    && attr.btf_value_type_id != 0,
                Errno::EINVAL,
            )?;
            ensure(attr.value_size <= LOCAL_STORAGE_MAX_VALUE_SIZE, Errno::E2BIG)
        }
        MapType::Devmap | MapType::DevmapHash => {
            ensure(
                attr.max_entries != 0
                    && attr.key_size == 4
                    && matches!(attr.value_size, 4 | 8)
                    && attr.map_flags & !DEV_CREATE_FLAG_MASK == 0,
                Errno::EINVAL,
            )?;
            ensure(map_type == MapType::Devmap || attr.max_entries <= 1 << 31, Errno::EINVAL)
        }
        MapType::StructOps => ensure(
            attr.key_size == 4
                && attr.max_entries == 1
                && attr.map_flags & !(BPF_F_LINK | BPF_F_VTYPE_BTF_OBJ_FD) == 0
                && attr.btf_vmlinux_value_type_id != 0,
            Errno::EINVAL,
        ),
        MapType::Unspec
        | MapType::StackTrace
        | MapType::LpmTrie
        | MapType::Sockmap
        | MapType::Sockhash
        | MapType::Cpumap
        | MapType::Xskmap
        | MapType::CgroupStorage
        | MapType::PercpuCgroupStorage
        | MapType::Ringbuf
        | MapType::UserRingbuf
        | MapType::Arena => Ok(()),
    }
}

/// `array_map_alloc_check`.
fn array_alloc_check(map_type: MapType, attr: &MapCreate) -> Result<()> {
    let percpu = map_type == MapType::PercpuArray;
    ensure(
        attr.max_entries != 0
            && attr.key_size == 4
            && attr.value_size != 0
            && attr.map_flags & !ARRAY_CREATE_FLAG_MASK == 0
            && access_ok(attr.map_flags)
            && !(percpu && numa_node(attr).is_some()),
        Errno::EINVAL,
    )?;
    ensure(
        map_type == MapType::Array || attr.map_flags & (BPF_F_MMAPABLE | BPF_F_INNER_MAP) == 0,
        Errno::EINVAL,
    )?;
    ensure(map_type == MapType::PerfEventArray || attr.map_flags & BPF_F_PRESERVE_ELEMS == 0, Errno::EINVAL)?;
    ensure(attr.value_size <= i32::MAX as u32, Errno::E2BIG)?;
    ensure(!percpu || percpu_value_fits(attr.value_size), Errno::E2BIG)
}

fn percpu_value_fits(value_size: u32) -> bool {
    u64::from(value_size).next_multiple_of(8) <= PCPU_MIN_UNIT_SIZE
}

/// `htab_map_alloc_check`.
fn htab_alloc_check(map_type: MapType, attr: &MapCreate, caps: CapSet) -> Result<()> {
    let percpu = matches!(map_type, MapType::PercpuHash | MapType::LruPercpuHash);
    let lru = matches!(map_type, MapType::LruHash | MapType::LruPercpuHash);
    let percpu_lru = attr.map_flags & BPF_F_NO_COMMON_LRU != 0;
    ensure(attr.map_flags & BPF_F_ZERO_SEED == 0 || caps.sys_admin(), Errno::EPERM)?;
    ensure(attr.map_flags & !HTAB_CREATE_FLAG_MASK == 0 && access_ok(attr.map_flags), Errno::EINVAL)?;
    ensure(lru || !percpu_lru, Errno::EINVAL)?;
    ensure(!lru || attr.map_flags & BPF_F_NO_PREALLOC == 0, Errno::ENOTSUPP)?;
    ensure(numa_node(attr).is_none() || !(percpu || percpu_lru), Errno::EINVAL)?;
    ensure(attr.max_entries != 0 && attr.key_size != 0 && attr.value_size != 0, Errno::EINVAL)?;
    ensure(
        u64::from(attr.key_size) + u64::from(attr.value_size) < KMALLOC_MAX_SIZE - SIZEOF_HTAB_ELEM,
        Errno::E2BIG,
    )?;
    ensure(!percpu || percpu_value_fits(attr.value_size), Errno::E2BIG)
}

/// The memory that the allocations of one map need, against what the kernel has: allocations fail rather than
/// wake the out-of-memory killer.
struct Memory {
    left: u64,
}

impl Memory {
    /// `bpf_map_area_alloc`.
    fn area(&mut self, size: u64) -> Result<()> {
        self.left = self.left.checked_sub(size).ok_or(Errno::ENOMEM)?;
        Ok(())
    }
}

/// What `map_alloc` makes of the attributes.
pub struct Allocated {
    /// Entries as the map will report them.
    pub max_entries: u32,
    /// Flags as the map will report them, before those of the descriptor are taken out.
    pub map_flags: u32,
    /// Size of the hash table, where there is one.
    pub n_buckets: u32,
}

/// The checks and limits of the type's `map_alloc`, the one of `inner_map_fd` aside.
pub fn map_alloc(
    map_type: MapType,
    attr: &MapCreate,
    profile: &Profile,
    bypass_spec_v1: bool,
) -> Result<Allocated> {
    let memory = &mut Memory { left: profile.total_ram };
    let entries = u64::from(attr.max_entries);
    let mut allocated = Allocated { max_entries: attr.max_entries, map_flags: attr.map_flags, n_buckets: 0 };
    match map_type {
        MapType::Array
        | MapType::PercpuArray
        | MapType::ProgArray
        | MapType::PerfEventArray
        | MapType::CgroupArray
        | MapType::ArrayOfMaps => array_map_alloc(map_type, attr, profile, bypass_spec_v1, memory)?,
        MapType::ReuseportSockarray | MapType::Xskmap => {
            if map_type == MapType::Xskmap {
                ensure(
                    attr.max_entries != 0
                        && attr.key_size == 4
                        && attr.value_size == 4
                        && attr.map_flags & !DEV_CREATE_FLAG_MASK == 0,
                    Errno::EINVAL,
                )?;
            }
            memory.area(entries * 8)?;
        }
        MapType::Hash
        | MapType::PercpuHash
        | MapType::LruHash
        | MapType::LruPercpuHash
        | MapType::HashOfMaps => {
            (allocated.max_entries, allocated.n_buckets) = htab_map_alloc(map_type, attr, profile, memory)?;
        }
        MapType::StackTrace => stack_map_alloc(attr, profile, memory)?,
        MapType::LpmTrie => ensure(
            attr.max_entries != 0
                && attr.map_flags & BPF_F_NO_PREALLOC != 0
                && attr.map_flags & !LPM_CREATE_FLAG_MASK == 0
                && access_ok(attr.map_flags)
                && LPM_KEY_SIZE.contains(&attr.key_size)
                && (1..=LPM_VAL_SIZE_MAX).contains(&u64::from(attr.value_size)),
            Errno::EINVAL,
        )?,
        MapType::Devmap | MapType::DevmapHash => {
            // Programs get at the device's own index, and must not write it.
            allocated.map_flags |= BPF_F_RDONLY_PROG;
            let slots = if map_type == MapType::DevmapHash { entries.next_power_of_two() } else { entries };
            memory.area(slots * 8)?;
        }
        MapType::Sockmap => {
            ensure(
                attr.max_entries != 0
                    && attr.key_size == 4
                    && matches!(attr.value_size, 4 | 8)
                    && attr.map_flags & !SOCK_CREATE_FLAG_MASK == 0,
                Errno::EINVAL,
            )?;
            memory.area(entries * 8)?;
        }
        MapType::Sockhash => sock_hash_alloc(attr, memory)?,
        MapType::Cpumap => {
            ensure(
                attr.max_entries != 0
                    && attr.key_size == 4
                    && matches!(attr.value_size, 4 | 8)
                    && attr.map_flags & !BPF_F_NUMA_NODE == 0,
                Errno::EINVAL,
            )?;
            ensure(attr.max_entries <= profile.nr_cpus, Errno::E2BIG)?;
        }
        MapType::CgroupStorage | MapType::PercpuCgroupStorage => {
            let max_value_size = if map_type == MapType::PercpuCgroupStorage {
                LOCAL_STORAGE_MAX_VALUE_SIZE.min(PCPU_MIN_UNIT_SIZE as u32)
            } else {
                LOCAL_STORAGE_MAX_VALUE_SIZE
            };
            ensure(matches!(attr.key_size, 16 | 8), Errno::EINVAL)?;
            ensure(attr.value_size != 0, Errno::EINVAL)?;
            ensure(attr.value_size <= max_value_size, Errno::E2BIG)?;
            ensure(
                attr.map_flags & !LOCAL_STORAGE_CREATE_FLAG_MASK == 0 && access_ok(attr.map_flags),
                Errno::EINVAL,
            )?;
            ensure(attr.max_entries == 0, Errno::EINVAL)?;
        }
        MapType::Queue | MapType::Stack => {
            memory.area((entries + 1) * u64::from(attr.value_size))?;
        }
        MapType::Ringbuf | MapType::UserRingbuf => {
            ensure(attr.map_flags & !RINGBUF_CREATE_FLAG_MASK == 0, Errno::EINVAL)?;
            ensure(
                attr.key_size == 0
                    && attr.value_size == 0
                    && attr.max_entries.is_power_of_two()
                    && entries.is_multiple_of(PAGE_SIZE),
                Errno::EINVAL,
            )?;
            memory.area(entries)?;
        }
        MapType::BloomFilter => bloom_map_alloc(attr, memory)?,
        MapType::Arena => arena_map_alloc(attr)?,
        MapType::SkStorage
        | MapType::InodeStorage
        | MapType::TaskStorage
        | MapType::CgrpStorage
        | MapType::StructOps
        | MapType::Unspec => {}
    }
    Ok(allocated)
}

/// `array_map_alloc`.
fn array_map_alloc(
    map_type: MapType,
    attr: &MapCreate,
    profile: &Profile,
    bypass_spec_v1: bool,
    memory: &mut Memory,
) -> Result<()> {
    let elem_size = u64::from(attr.value_size).next_multiple_of(8);
    let mut entries = u64::from(attr.max_entries);
    if !bypass_spec_v1 {
        // Speculation stays inside of the index mask, so there is room for all of it.
        entries = entries.next_power_of_two();
        ensure(entries <= u64::from(u32::MAX), Errno::E2BIG)?;
    }
    if map_type == MapType::PercpuArray {
        memory.area(SIZEOF_ARRAY + entries * 8)?;
        return memory.area(u64::from(attr.max_entries) * elem_size * u64::from(profile.possible_cpus));
    }
    let size = if attr.map_flags & BPF_F_MMAPABLE != 0 {
        PAGE_SIZE + (entries * elem_size).next_multiple_of(PAGE_SIZE)
    } else {
        SIZEOF_ARRAY + entries.checked_mul(elem_size).ok_or(Errno::ENOMEM)?
    };
    memory.area(size)
}

/// `htab_map_alloc`. Returns the entries, and the size of the hash table.
fn htab_map_alloc(
    map_type: MapType,
    attr: &MapCreate,
    profile: &Profile,
    memory: &mut Memory,
) -> Result<(u32, u32)> {
    let percpu = matches!(map_type, MapType::PercpuHash | MapType::LruPercpuHash);
    let cpus = profile.possible_cpus.max(1);
    let mut entries = attr.max_entries;
    if attr.map_flags & BPF_F_NO_COMMON_LRU != 0 {
        // Each CPU's own list has the same number of elements.
        entries = entries.checked_next_multiple_of(cpus).unwrap_or(entries - entries % cpus);
    }
    ensure(entries <= 1 << 31, Errno::E2BIG)?;
    let n_buckets = entries.next_power_of_two();
    let value = if percpu { 8 } else { u64::from(attr.value_size).next_multiple_of(8) };
    let elem_size = SIZEOF_HTAB_ELEM + u64::from(attr.key_size).next_multiple_of(8) + value;
    ensure(u64::from(n_buckets) <= u64::from(u32::MAX) / SIZEOF_BUCKET, Errno::E2BIG)?;
    memory.area(u64::from(n_buckets) * SIZEOF_BUCKET)?;
    if attr.map_flags & BPF_F_NO_PREALLOC == 0 {
        let extra = matches!(map_type, MapType::Hash);
        let total = u64::from(entries) + if extra { u64::from(cpus) } else { 0 };
        memory.area(total * elem_size)?;
        if percpu {
            memory.area(total * u64::from(attr.value_size).next_multiple_of(8) * u64::from(cpus))?;
        }
    }
    Ok((entries, n_buckets))
}

/// `stack_map_alloc`.
fn stack_map_alloc(attr: &MapCreate, profile: &Profile, memory: &mut Memory) -> Result<()> {
    const SIZEOF_BUILD_ID: u32 = 32;
    ensure(attr.map_flags & !STACK_CREATE_FLAG_MASK == 0, Errno::EINVAL)?;
    ensure(
        attr.max_entries != 0
            && attr.key_size == 4
            && attr.value_size >= 8
            && attr.value_size.is_multiple_of(8),
        Errno::EINVAL,
    )?;
    let frame = if attr.map_flags & BPF_F_STACK_BUILD_ID != 0 { SIZEOF_BUILD_ID } else { 8 };
    ensure(
        attr.value_size.is_multiple_of(frame) && attr.value_size / frame <= profile.perf_event_max_stack,
        Errno::EINVAL,
    )?;
    ensure(attr.max_entries <= 1 << 31, Errno::E2BIG)?;
    memory.area(u64::from(attr.max_entries).next_power_of_two() * 8)?;
    memory.area((16 + u64::from(attr.value_size)) * u64::from(attr.max_entries))
}

/// `sock_hash_alloc`.
fn sock_hash_alloc(attr: &MapCreate, memory: &mut Memory) -> Result<()> {
    const SIZEOF_SHTAB_BUCKET: u64 = 16;
    ensure(
        attr.max_entries != 0
            && attr.key_size != 0
            && matches!(attr.value_size, 4 | 8)
            && attr.map_flags & !SOCK_CREATE_FLAG_MASK == 0,
        Errno::EINVAL,
    )?;
    ensure(attr.key_size <= MAX_BPF_STACK, Errno::E2BIG)?;
    let buckets = u64::from(attr.max_entries).next_power_of_two();
    ensure(buckets <= u64::from(u32::MAX) / SIZEOF_SHTAB_BUCKET, Errno::EINVAL)?;
    memory.area(buckets * SIZEOF_SHTAB_BUCKET)
}

/// `bloom_map_alloc`.
fn bloom_map_alloc(attr: &MapCreate, memory: &mut Memory) -> Result<()> {
    ensure(
        attr.key_size == 0
            && attr.value_size != 0
            && attr.max_entries != 0
            && attr.map_flags & !BLOOM_CREATE_FLAG_MASK == 0
            && access_ok(attr.map_flags)
            && attr.map_extra & !0xf == 0,
        Errno::EINVAL,
    )?;
    memory.area(super::bloom::bitset_bits(attr.max_entries, super::bloom::nr_hash_funcs(attr.map_extra)) / 8)
}

/// `arena_map_alloc`.
fn arena_map_alloc(attr: &MapCreate) -> Result<()> {
    const FLAGS: u32 = BPF_F_SEGV_ON_FAULT | BPF_F_MMAPABLE | BPF_F_NO_USER_CONV;
    ensure(
        attr.key_size == 0
            && attr.value_size == 0
            && attr.max_entries != 0
            && attr.map_flags & BPF_F_MMAPABLE != 0
            && attr.map_flags & !FLAGS == 0,
        Errno::EINVAL,
    )?;
    ensure(attr.map_extra.is_multiple_of(PAGE_SIZE), Errno::EINVAL)?;
    let range = u64::from(attr.max_entries) * PAGE_SIZE;
    ensure(range <= 1 << 32, Errno::E2BIG)?;
    let last = attr.map_extra.wrapping_add(range - 1);
    ensure(attr.map_extra >> 32 == last >> 32, Errno::ERANGE)
}
