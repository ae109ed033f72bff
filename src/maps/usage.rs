//! Memory that the kernel would use for a map, as `/proc` tells it: `map_mem_usage` of each type.

use bpftwin_uapi::MapType;
use bpftwin_uapi::attr::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC};

use super::alloc::{SIZEOF_ARRAY, SIZEOF_BUCKET, SIZEOF_HTAB_ELEM};
use super::{Contents, Map, bloom};

const PAGE_SIZE: u64 = 4096;
/// `HASHTAB_MAP_LOCK_COUNT`.
const LOCKS: u64 = 8;
/// `sizeof(struct bpf_htab)`.
const SIZEOF_HTAB: u64 = 832;
/// `sizeof(struct bpf_map)`, rounded as the structures that start with it are.
const SIZEOF_MAP: u64 = 312;

/// Bytes that the kernel would account for the map.
pub fn map_mem_usage(map: &Map, possible_cpus: u32) -> u64 {
    let attrs = &map.attrs;
    let entries = u64::from(attrs.max_entries);
    let cpus = u64::from(possible_cpus);
    let value = u64::from(attrs.value_size).next_multiple_of(8);
    match attrs.map_type {
        MapType::Array if attrs.map_flags & BPF_F_MMAPABLE != 0 => {
            SIZEOF_ARRAY.next_multiple_of(PAGE_SIZE) + (entries * value).next_multiple_of(PAGE_SIZE)
        }
        MapType::PercpuArray => SIZEOF_ARRAY + entries * 8 + entries * value * cpus,
        MapType::Array
        | MapType::ProgArray
        | MapType::PerfEventArray
        | MapType::CgroupArray
        | MapType::ArrayOfMaps => SIZEOF_ARRAY + entries * value,
        MapType::Hash
        | MapType::PercpuHash
        | MapType::LruHash
        | MapType::LruPercpuHash
        | MapType::HashOfMaps => htab_map_mem_usage(map, cpus),
        MapType::Queue | MapType::Stack => SIZEOF_MAP + (entries + 1) * u64::from(attrs.value_size),
        MapType::BloomFilter => {
            SIZEOF_MAP + bloom::bitset_bits(attrs.max_entries, bloom::nr_hash_funcs(attrs.map_extra)) / 8
        }
        MapType::Ringbuf | MapType::UserRingbuf => SIZEOF_MAP + 3 * PAGE_SIZE + entries,
        MapType::ReuseportSockarray | MapType::Xskmap | MapType::Devmap | MapType::Sockmap => {
            SIZEOF_MAP + entries * 8
        }
        MapType::LpmTrie => {
            let Contents::LpmTrie(trie) = &map.contents else { return 0 };
            let data = u64::from(attrs.key_size.saturating_sub(4));
            (24 + data + u64::from(attrs.value_size)) * u64::from(trie.len())
        }
        _ => SIZEOF_MAP,
    }
}

/// `htab_map_mem_usage`.
fn htab_map_mem_usage(map: &Map, cpus: u64) -> u64 {
    let attrs = &map.attrs;
    let Contents::Htab(htab) = &map.contents else { return SIZEOF_HTAB };
    let value = u64::from(attrs.value_size).next_multiple_of(8);
    let percpu = matches!(attrs.map_type, MapType::PercpuHash | MapType::LruPercpuHash);
    let lru = matches!(attrs.map_type, MapType::LruHash | MapType::LruPercpuHash);
    let elem =
        SIZEOF_HTAB_ELEM + u64::from(attrs.key_size).next_multiple_of(8) + if percpu { 8 } else { value };
    let mut usage = SIZEOF_HTAB + SIZEOF_BUCKET * u64::from(htab.n_buckets()) + 4 * cpus * LOCKS;
    if attrs.map_flags & BPF_F_NO_PREALLOC == 0 {
        let extra = !percpu && !lru && attrs.map_type != MapType::HashOfMaps;
        let entries = u64::from(attrs.max_entries) + if extra { cpus } else { 0 };
        usage += elem * entries;
        if percpu {
            usage += value * cpus * entries;
        } else if !lru {
            usage += 8 * cpus;
        }
    } else {
        let used = u64::from(htab.len());
        let per_element = if percpu { 16 + value * cpus } else { 0 };
        usage += (elem + 8 + per_element) * used;
    }
    usage
}
