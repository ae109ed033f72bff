//! The same bpf(2) calls on maps to the emulated kernel and to the live one: equal results, equal outputs.
//!
//! Needs `CAP_SYS_ADMIN` and a live kernel of the emulated series; says so and passes where it has neither.
//! `BPFTWIN_DIFF_ITERATIONS` sets how long it runs.

mod twin;

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use bpftwin::kernel::caps::{Cap, CapSet, Caps};
use bpftwin_uapi::attr::{GetInfo, MapBatch, MapCreate, MapElem};
use bpftwin_uapi::info::MapInfo;
use bpftwin_uapi::{Cmd, Errno, MapType};
use twin::{Pair, Random, iterations, live, pair};

/// A likely map of a type, some of whose attributes were then changed.
fn random_map_create(random: &mut Random) -> MapCreate {
    let map_type = random.below(36) as u32;
    let mut attr = MapCreate { map_type, key_size: 4, value_size: 8, max_entries: 4, ..MapCreate::default() };
    match MapType::from_u32(map_type) {
        Some(MapType::Queue | MapType::Stack | MapType::BloomFilter) => attr.key_size = 0,
        Some(MapType::Ringbuf | MapType::UserRingbuf) => {
            (attr.key_size, attr.value_size, attr.max_entries) = (0, 0, 4096);
        }
        Some(MapType::Arena) => {
            (attr.key_size, attr.value_size, attr.map_flags) = (0, 0, 1 << 10);
        }
        Some(MapType::LpmTrie) => (attr.key_size, attr.map_flags) = (8, 1),
        Some(MapType::CgroupStorage | MapType::PercpuCgroupStorage) => {
            (attr.key_size, attr.max_entries) = (random.pick(&[8, 16]), 0);
        }
        Some(
            MapType::ProgArray
            | MapType::PerfEventArray
            | MapType::CgroupArray
            | MapType::ArrayOfMaps
            | MapType::HashOfMaps
            | MapType::Xskmap,
        ) => attr.value_size = 4,
        Some(MapType::SkStorage | MapType::InodeStorage | MapType::TaskStorage | MapType::CgrpStorage) => {
            (attr.max_entries, attr.map_flags, attr.btf_key_type_id, attr.btf_value_type_id) = (0, 1, 1, 1);
            attr.btf_fd = 9999;
        }
        Some(MapType::StructOps) => {
            (attr.max_entries, attr.btf_vmlinux_value_type_id) = (1, random.pick(&[0, 1]));
        }
        _ => {}
    }
    for _ in 0..random.below(4) {
        match random.below(15) {
            0 => attr.key_size = random.pick(&[0, 1, 3, 4, 5, 8, 16, 260, 261, 512, 513, 1 << 20, u32::MAX]),
            1 => {
                attr.value_size = random.pick(&[
                    0,
                    1,
                    4,
                    7,
                    8,
                    12,
                    16,
                    1016,
                    1024,
                    4064,
                    4072,
                    32760,
                    32768,
                    32769,
                    65406,
                    65407,
                    65408,
                    4194024,
                    4194025,
                    4194252,
                    4194253,
                    4194303,
                    4194304,
                    4194305,
                    i32::MAX as u32,
                    1 << 31,
                    u32::MAX,
                ]);
            }
            2 => {
                attr.max_entries = random.pick(&[
                    0,
                    1,
                    2,
                    3,
                    127,
                    256,
                    257,
                    4095,
                    4096,
                    8192,
                    12288,
                    1 << 20,
                    (1 << 20) + 1,
                    1 << 28,
                    (1 << 28) + 1,
                    1 << 31,
                    (1 << 31) + 1,
                    u32::MAX,
                ]);
            }
            3..=5 => attr.map_flags ^= 1 << random.below(20),
            6 => attr.map_flags = random.next() as u32 & 0x7ffff,
            7 => (attr.map_flags, attr.numa_node) = (attr.map_flags | 4, random.pick(&[0, 1, 64, u32::MAX])),
            8 => {
                attr.map_name = *b"name\0\0\0\0\0\0\0\0\0\0\0\0";
                let at = random.below(16) as usize;
                attr.map_name[at] = random.next() as u8;
            }
            9 => attr.map_ifindex = random.pick(&[0, 1, 7777]),
            10 => attr.inner_map_fd = random.pick(&[0, 9999, u32::MAX]),
            11 => attr.map_extra = random.pick(&[0, 1, 15, 16, 4096, 1 << 32, 0xffff_f000, u64::MAX - 4095]),
            12 => attr.btf_key_type_id = random.pick(&[0, 1]),
            13 => (attr.btf_value_type_id, attr.btf_fd) = (random.pick(&[0, 1]), random.pick(&[0, 9999])),
            _ => attr.excl_prog_hash_size = random.pick(&[0, 1, 32]),
        }
    }
    attr
}

/// Whether the live kernel would be asked for memory in an amount that decides about success.
fn takes_much_memory(attr: &MapCreate) -> bool {
    let entries = u64::from(attr.max_entries.max(1));
    let element = u64::from(attr.value_size) + u64::from(attr.key_size) + 64;
    let total = entries.saturating_mul(element);
    // Far more than there is fails at once; a little is granted.
    let lazily = attr.map_flags & 1 != 0;
    total > 64 << 20 && (total < 1 << 40 || lazily || attr.max_entries <= 1 << 31)
        || matches!(MapType::from_u32(attr.map_type), Some(MapType::BloomFilter)) && entries > 1 << 22
}

/// Compares what both kernels say of a new map, and closes it.
fn compare_created(pair: &Pair, attr: &MapCreate, live_fd: i32, emulated_fd: i32) {
    // SAFETY: both descriptors were just made and nobody else owns them.
    let (live_fd, emulated_fd) =
        unsafe { (OwnedFd::from_raw_fd(live_fd), OwnedFd::from_raw_fd(emulated_fd)) };
    let info = |fd: &OwnedFd, emulated: bool| {
        let mut info = MapInfo::default();
        let get = GetInfo {
            bpf_fd: fd.as_raw_fd() as u32,
            info_len: size_of::<MapInfo>() as u32,
            info: &raw mut info as u64,
        };
        let (at, size) = (&raw const get as u64, size_of::<GetInfo>() as u32);
        let result = if emulated {
            pair.emulated(Cmd::ObjGetInfoByFd, at, size)
        } else {
            live(Cmd::ObjGetInfoByFd, at, size)
        };
        assert_eq!(result, Ok(0));
        info.id = 0;
        format!("{info:?}")
    };
    assert_eq!(info(&live_fd, false), info(&emulated_fd, true), "information of {attr:?}");
    let fdinfo = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", live_fd.as_raw_fd())).unwrap();
    let ours = pair.kernel.fdinfo(emulated_fd.as_raw_fd()).unwrap();
    let facts = |text: &str| {
        let from = text.find("map_type:").unwrap();
        let kept = |line: &&str| !line.starts_with("map_id:") && !line.starts_with("memlock:");
        text[from..].lines().filter(kept).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(facts(&fdinfo), facts(&ours), "fdinfo of {attr:?}");
    let memlock = |text: &str| text.lines().find(|line| line.starts_with("memlock:")).unwrap().to_owned();
    if matches!(attr.map_type, 1 | 2 | 3 | 4 | 5 | 6 | 8 | 9 | 10 | 12 | 13 | 22 | 23 | 30) {
        assert_eq!(memlock(&fdinfo), memlock(&ours), "memory of {attr:?}");
    }
}

fn compare_creations(pair: &Pair, random: &mut Random, count: u32) {
    let (mut created, mut differ) = (0, 0);
    for _ in 0..count {
        let attr = random_map_create(random);
        if takes_much_memory(&attr) {
            continue;
        }
        let size = random.pick(&[92, 92, 92, 92, 72, 76, 80, 88, 44, 96]);
        let at = &raw const attr as u64;
        let theirs = live(Cmd::MapCreate, at, size);
        let ours = pair.emulated(Cmd::MapCreate, at, size);
        match (theirs, ours) {
            (Ok(theirs), Ok(ours)) => {
                created += 1;
                compare_created(pair, &attr, theirs, ours);
            }
            _ if theirs == ours || ours == Err(Errno::EOPNOTSUPP) && attr.map_type == 26 => {}
            _ => {
                differ += 1;
                eprintln!("live {theirs:?} emulated {ours:?} for size {size} {attr:?}");
                for fd in [theirs, ours].into_iter().flatten() {
                    // SAFETY: the descriptor was just made and nobody else owns it.
                    drop(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
        }
    }
    assert_eq!(differ, 0, "of {count} creations, {created} of which made a map on both sides");
    assert!(created * 20 > count, "only {created} of {count} creations made a map");
}

#[test]
fn creations() {
    let Some(pair) = pair(Caps::All) else { return };
    compare_creations(&pair, &mut Random::new(1), iterations(4000));
}

/// Leaves the calling thread with these capabilities.
fn limit_capabilities(numbers: &[u32]) {
    let mut words = [0u32; 6];
    for number in numbers {
        let word = if *number < 32 { 0 } else { 3 };
        words[word] |= 1 << (number % 32);
        words[word + 1] |= 1 << (number % 32);
    }
    let header = [0x2008_0522u32, 0];
    // SAFETY: version 3 of capset(2) reads a header of two words and two times three words of sets.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), words.as_ptr()) };
    assert_eq!(result, 0, "capset");
}

#[test]
fn creations_with_few_capabilities() {
    let sets: [(&[u32], CapSet); 5] = [
        (&[], CapSet::EMPTY),
        (&[39], CapSet::of(&[Cap::BPF])),
        (&[12], CapSet::of(&[Cap::NET_ADMIN])),
        (&[39, 12], CapSet::of(&[Cap::BPF, Cap::NET_ADMIN])),
        (&[21], CapSet::of(&[Cap::SYS_ADMIN])),
    ];
    for (index, (numbers, set)) in sets.into_iter().enumerate() {
        let Some(pair) = pair(Caps::Set(set)) else { return };
        std::thread::spawn(move || {
            limit_capabilities(numbers);
            let mut random = Random::new(10 + index as u64);
            let count = iterations(4000) / 4;
            for _ in 0..count {
                let attr = random_map_create(&mut random);
                if takes_much_memory(&attr) {
                    continue;
                }
                let at = &raw const attr as u64;
                let theirs = live(Cmd::MapCreate, at, 92);
                let ours = pair.emulated(Cmd::MapCreate, at, 92);
                assert_eq!(theirs.map(drop), ours.map(drop), "with {set:?}: {attr:?}");
                for fd in [theirs, ours].into_iter().flatten() {
                    // SAFETY: the descriptor was just made and nobody else owns it.
                    drop(unsafe { OwnedFd::from_raw_fd(fd) });
                }
            }
        })
        .join()
        .unwrap();
    }
}

/// Buffers that calls name; both kernels get them with the same bytes in.
#[derive(Clone, PartialEq, Eq)]
struct Buffers {
    key: Vec<u8>,
    value: Vec<u8>,
    keys: Vec<u8>,
    values: Vec<u8>,
    batch: Vec<u8>,
}

/// A map on both sides.
struct Maps {
    attr: MapCreate,
    live: OwnedFd,
    emulated: OwnedFd,
}

impl Maps {
    fn new(pair: &Pair, attr: MapCreate, inner: Option<&Maps>) -> Maps {
        let create = |emulated: bool| {
            let mut attr = attr;
            if let Some(inner) = inner {
                attr.inner_map_fd = inner.fd(emulated);
            }
            let (at, size) = (&raw const attr as u64, 92);
            let fd = if emulated {
                pair.emulated(Cmd::MapCreate, at, size)
            } else {
                live(Cmd::MapCreate, at, size)
            };
            // SAFETY: the descriptor was just made and nobody else owns it.
            unsafe {
                OwnedFd::from_raw_fd(
                    fd.unwrap_or_else(|error| panic!("{error} emulated {emulated}: {attr:?}")),
                )
            }
        };
        Maps { attr, live: create(false), emulated: create(true) }
    }

    fn fd(&self, emulated: bool) -> u32 {
        (if emulated { &self.emulated } else { &self.live }).as_raw_fd() as u32
    }
}

const ELEMENT_TYPES: [MapType; 11] = [
    MapType::LpmTrie,
    MapType::Array,
    MapType::PercpuArray,
    MapType::Hash,
    MapType::PercpuHash,
    MapType::LruHash,
    MapType::LruPercpuHash,
    MapType::Queue,
    MapType::Stack,
    MapType::ArrayOfMaps,
    MapType::HashOfMaps,
];

fn random_element_map(random: &mut Random) -> MapCreate {
    const ZERO_SEED: u32 = 1 << 6;
    let map_type = random.pick(&ELEMENT_TYPES);
    let mut attr = MapCreate {
        map_type: map_type as u32,
        key_size: random.pick(&[1, 2, 4, 5, 8, 12, 17]),
        value_size: random.pick(&[1, 4, 7, 8, 12, 24, 33]),
        max_entries: random.pick(&[1, 2, 3, 5, 8, 17, 40, 300]),
        ..MapCreate::default()
    };
    match map_type {
        MapType::Array | MapType::PercpuArray => {
            attr.key_size = 4;
            if map_type == MapType::Array && random.one_in(3) {
                attr.map_flags |= 1 << 10;
            }
        }
        MapType::LpmTrie => {
            (attr.key_size, attr.map_flags) = (random.pick(&[5, 6, 7, 8, 9, 12, 13, 20]), 1);
        }
        MapType::Queue | MapType::Stack => attr.key_size = 0,
        MapType::ArrayOfMaps => (attr.key_size, attr.value_size) = (4, 4),
        MapType::HashOfMaps => (attr.value_size, attr.map_flags) = (4, ZERO_SEED),
        MapType::LruHash | MapType::LruPercpuHash => {
            attr.map_flags = ZERO_SEED | if random.one_in(3) { 1 << 1 } else { 0 };
        }
        _ => attr.map_flags = ZERO_SEED | if random.one_in(3) { 1 } else { 0 },
    }
    if random.one_in(8) {
        attr.map_flags |= random.pick(&[1 << 3, 1 << 4]);
    }
    attr
}

/// One random call on the maps; returns both results, and what the call was.
fn random_call(
    pair: &Pair,
    random: &mut Random,
    maps: &Maps,
    inners: &[Maps],
    buffers: &mut [Buffers; 2],
) -> ([Result<i32, Errno>; 2], String) {
    let cmd = random.pick(&[
        Cmd::MapLookupElem,
        Cmd::MapLookupElem,
        Cmd::MapUpdateElem,
        Cmd::MapUpdateElem,
        Cmd::MapUpdateElem,
        Cmd::MapUpdateElem,
        Cmd::MapDeleteElem,
        Cmd::MapGetNextKey,
        Cmd::MapLookupAndDeleteElem,
        Cmd::MapLookupBatch,
        Cmd::MapLookupAndDeleteBatch,
        Cmd::MapUpdateBatch,
        Cmd::MapDeleteBatch,
        Cmd::MapFreeze,
    ]);
    let freeze = cmd == Cmd::MapFreeze;
    let cmd = if freeze && !random.one_in(20) { Cmd::MapLookupElem } else { cmd };
    // Few keys, so that they meet again; one past the end of an array now and then.
    let keys = u64::from(maps.attr.max_entries) + 1 + random.below(4);
    let mut bytes = |buffer: &mut Vec<u8>, element: usize, few: Option<u64>| {
        for chunk in buffer.chunks_mut(element.max(1)) {
            match few {
                Some(end) => {
                    let number = random.below(end).to_le_bytes();
                    chunk.fill(0);
                    let len = chunk.len().min(8);
                    chunk[..len].copy_from_slice(&number[..len]);
                }
                None => chunk.iter_mut().for_each(|byte| *byte = random.next() as u8),
            }
        }
    };
    let first = &mut buffers[0];
    let key_size = maps.attr.key_size as usize;
    bytes(&mut first.key, key_size, Some(keys));
    bytes(&mut first.keys, key_size, Some(keys));
    bytes(&mut first.value, 1 << 20, None);
    bytes(&mut first.values, 1 << 20, None);
    bytes(&mut first.batch, 4, Some(u64::from(maps.attr.max_entries) + 2));
    if maps.attr.map_type == MapType::LpmTrie as u32 {
        // Prefixes of few different data.
        for key in first.key.chunks_exact_mut(key_size).chain(first.keys.chunks_exact_mut(key_size)) {
            let prefixlen = random.below(key_size as u64 * 8 - 32 + 2) as u32;
            key[..4].copy_from_slice(&prefixlen.to_ne_bytes());
            key[4..].iter_mut().for_each(|byte| *byte = random.pick(&[0, 0, 0, 1, 128, 255]));
        }
    }
    buffers[1] = buffers[0].clone();
    let flags = if random.one_in(6) { random.below(9) } else { random.pick(&[0, 0, 0, 1, 2]) };
    let flags = if cmd == Cmd::MapUpdateElem || random.one_in(20) { flags } else { 0 };
    let null = |random: &mut Random, address: u64| if random.one_in(40) { 0 } else { address };
    let inner = random.below(inners.len() as u64 + 1) as usize;
    let batch = matches!(
        cmd,
        Cmd::MapLookupBatch | Cmd::MapLookupAndDeleteBatch | Cmd::MapUpdateBatch | Cmd::MapDeleteBatch
    );
    let count = random.below(9) as u32;
    let null_mask = random.next();
    let of_maps = matches!(maps.attr.map_type, 12 | 13);
    let results = [false, true].map(|emulated| {
        let mut local = Random(null_mask | 1);
        let buffers = &mut buffers[usize::from(emulated)];
        if of_maps {
            let fd = inners.get(inner).map_or(7777, |inner| inner.fd(emulated));
            buffers.value[..4].copy_from_slice(&fd.to_ne_bytes());
            buffers.values.chunks_exact_mut(4).for_each(|value| value.copy_from_slice(&fd.to_ne_bytes()));
        }
        let run = |at: u64, size: usize| {
            if emulated { pair.emulated(cmd, at, size as u32) } else { live(cmd, at, size as u32) }
        };
        if batch {
            let mut attr = MapBatch {
                in_batch: if local.one_in(2) { 0 } else { buffers.batch.as_ptr() as u64 },
                out_batch: null(&mut local, buffers.batch.as_mut_ptr() as u64 + 32),
                keys: null(&mut local, buffers.keys.as_mut_ptr() as u64),
                values: null(&mut local, buffers.values.as_mut_ptr() as u64),
                count,
                map_fd: maps.fd(emulated),
                elem_flags: if local.one_in(20) { flags } else { 0 },
                flags: if local.one_in(20) { flags } else { 0 },
            };
            let result = run(&raw mut attr as u64, size_of::<MapBatch>());
            buffers.batch[64..68].copy_from_slice(&attr.count.to_ne_bytes());
            result
        } else if cmd == Cmd::MapFreeze {
            let attr = maps.fd(emulated);
            run(&raw const attr as u64, 4)
        } else {
            let key = if key_size == 0 { 0 } else { buffers.key.as_mut_ptr() as u64 };
            let attr = MapElem {
                map_fd: maps.fd(emulated),
                key: if cmd == Cmd::MapGetNextKey && local.one_in(3) { 0 } else { null(&mut local, key) },
                value: if cmd == Cmd::MapDeleteElem {
                    0
                } else {
                    null(&mut local, buffers.value.as_mut_ptr() as u64)
                },
                flags: if matches!(cmd, Cmd::MapDeleteElem | Cmd::MapGetNextKey) { 0 } else { flags },
                ..MapElem::default()
            };
            run(&raw const attr as u64, size_of::<MapElem>())
        }
    });
    if of_maps {
        // Descriptors and ids differ between the kernels.
        buffers.iter_mut().for_each(|buffers| {
            buffers.value.fill(0);
            buffers.values.fill(0);
        });
    }
    (results, format!("{} key {:?} flags {flags} count {count}", cmd.name(), &buffers[0].key))
}

fn pin_to_cpu() {
    // SAFETY: an all-zero set is a valid value, and the calls get a live one of the right size.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut set);
        assert_eq!(libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set), 0);
    }
}

#[test]
fn element_operations() {
    let Some(pair) = pair(Caps::All) else { return };
    // Which element an LRU map gives up depends on the CPU.
    pin_to_cpu();
    let mut random = Random::new(2);
    let cpus = pair.kernel.profile().possible_cpus as usize;
    let mut done = 0;
    let target = iterations(20_000);
    while done < target {
        let attr = random_element_map(&mut random);
        let inner_attr =
            MapCreate { map_type: 2, key_size: 4, value_size: 8, max_entries: 3, ..MapCreate::default() };
        let inners = [
            Maps::new(&pair, inner_attr, None),
            Maps::new(&pair, inner_attr, None),
            Maps::new(&pair, MapCreate { max_entries: 2, ..inner_attr }, None),
        ];
        let maps = Maps::new(&pair, attr, Some(&inners[0]));
        let value_size = (attr.value_size as usize).next_multiple_of(8) * cpus;
        let empty = Buffers {
            key: vec![0; attr.key_size as usize],
            value: vec![0; value_size],
            keys: vec![0; attr.key_size as usize * 10],
            values: vec![0; value_size * 10],
            batch: vec![0; 80],
        };
        let mut history = Vec::new();
        let mut buffers = [empty.clone(), empty];
        for _ in 0..400 {
            let (results, what) = random_call(&pair, &mut random, &maps, &inners, &mut buffers);
            history.push(format!("{what} -> {:?}", results[0]));
            let [theirs, ours] = &buffers;
            let same = results[0] == results[1] && theirs == ours;
            if !same {
                let tail = history.len().saturating_sub(30);
                panic!(
                    "{attr:?}\n{}\nlive {:?} emulated {:?}\nkey {:?} {:?}\nvalue {:?} {:?}\nkeys {:?} {:?}\nvalues equal {}\nbatch {:?} {:?}",
                    history[tail..].join("\n"),
                    results[0],
                    results[1],
                    theirs.key,
                    ours.key,
                    theirs.value,
                    ours.value,
                    theirs.keys,
                    ours.keys,
                    theirs.values == ours.values,
                    theirs.batch,
                    ours.batch,
                );
            }
            done += 1;
        }
    }
}
