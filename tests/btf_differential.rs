//! Compares our `BPF_BTF_LOAD` with the running kernel's: real BTF, cases made by hand, and mutations of both go to
//! each; errno and log must be equal.
//!
//! Needs bpf(2) and a kernel of the emulated series; skipped, and says so, without. `BPFTWIN_TEST_OBJECTS` names ELF
//! objects, or directories of them, to take BTF from (colon-separated); `BPFTWIN_FUZZ_ITERATIONS` the number of
//! mutations; `BPFTWIN_FUZZ_SEED` where they start.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bpftwin::btf::{Btf, MapValue, kind};
use bpftwin::verifier::log::{Log, VecSink};
use bpftwin_uapi::MapType;
use object::{Object, ObjectSection};

const LOG_SIZE: usize = 8 << 20;
const BPF_BTF_LOAD: i32 = 18;
const BPF_MAP_CREATE: i32 = 0;

/// errno (zero: accepted), log, and its true size.
#[derive(PartialEq)]
struct Outcome {
    errno: i32,
    log: Vec<u8>,
    true_size: u32,
}

#[repr(C)]
#[derive(Default)]
struct LoadAttr {
    btf: u64,
    log_buf: u64,
    btf_size: u32,
    log_size: u32,
    log_level: u32,
    log_true_size: u32,
    flags: u32,
    token_fd: i32,
}

fn kernel_load(data: &[u8], level: u32, buffer: &mut [u8]) -> Outcome {
    let mut attr = LoadAttr {
        btf: data.as_ptr() as u64,
        btf_size: data.len() as u32,
        log_buf: if level == 0 { 0 } else { buffer.as_mut_ptr() as u64 },
        log_size: if level == 0 { 0 } else { buffer.len() as u32 },
        log_level: level,
        ..Default::default()
    };
    buffer[0] = 0;
    // SAFETY: the attributes and what they point to outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_BTF_LOAD, &mut attr, size_of::<LoadAttr>()) };
    let errno = if fd < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 };
    if fd >= 0 {
        // SAFETY: the descriptor was just made and nobody else knows it.
        unsafe { libc::close(fd as i32) };
    }
    let len = buffer.iter().position(|&b| b == 0).unwrap_or(buffer.len());
    Outcome { errno, log: buffer[..len].to_vec(), true_size: attr.log_true_size }
}

#[repr(C)]
#[derive(Default)]
struct MapAttr {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    name: [u8; 16],
    ifindex: u32,
    btf_fd: u32,
    btf_key_type_id: u32,
    btf_value_type_id: u32,
}

/// Loads `data` for good; `None` where the kernel refuses it.
fn kernel_btf_fd(data: &[u8]) -> Option<std::os::fd::OwnedFd> {
    let mut attr = LoadAttr { btf: data.as_ptr() as u64, btf_size: data.len() as u32, ..Default::default() };
    // SAFETY: the attributes and what they point to outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_BTF_LOAD, &mut attr, size_of::<LoadAttr>()) };
    // SAFETY: the descriptor was just made and nobody else knows it.
    (fd >= 0).then(|| unsafe { std::os::fd::FromRawFd::from_raw_fd(fd as i32) })
}

/// errno of `BPF_MAP_CREATE`.
fn kernel_map(attr: &mut MapAttr) -> i32 {
    // SAFETY: the attributes outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, BPF_MAP_CREATE, attr, size_of::<MapAttr>()) };
    if fd < 0 {
        return std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    }
    // SAFETY: the descriptor was just made and nobody else knows it.
    unsafe { libc::close(fd as i32) };
    0
}

fn our_load(data: &[u8], level: u32, vmlinux: &Option<Arc<Btf>>) -> Outcome {
    let sink = VecSink::default();
    let size = if level == 0 { 0 } else { LOG_SIZE as u32 };
    let boxed = (level != 0).then(|| Box::new(sink.clone()) as _);
    let mut log = Log::new(level, size, boxed).expect("log attributes");
    let result = Btf::parse(data.to_vec(), &mut log, &|| vmlinux.clone());
    let (true_size, finalized) = log.finalize();
    let errno = result.err().or(finalized.err()).map_or(0, |e| e.0);
    let bytes = sink.0.lock().unwrap();
    let len = bytes.iter().position(|&b| b == 0).unwrap_or(bytes.len());
    Outcome { errno, log: bytes[..len].to_vec(), true_size }
}

fn word_at(data: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(data.get(at..at + 4)?.try_into().ok()?))
}

/// xorshift64*: deterministic and good enough.
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n.max(1) as u64) as usize
    }
}

/// Writes BTF by hand: types as words, strings by name.
#[derive(Default)]
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Builder {
    fn new() -> Self {
        Builder { types: Vec::new(), strings: vec![0] }
    }

    fn str(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }

    fn words(&mut self, words: &[u32]) {
        for word in words {
            self.types.extend_from_slice(&word.to_ne_bytes());
        }
    }

    fn ty(&mut self, name: &str, kind: u32, kflag: bool, vlen: u32, size_or_type: u32, tail: &[u32]) {
        let name = self.str(name);
        self.words(&[name, u32::from(kflag) << 31 | kind << 24 | vlen, size_or_type]);
        self.words(tail);
    }

    fn finish(&self) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend_from_slice(&0xeb9f_u16.to_ne_bytes());
        out.extend_from_slice(&[1, 0]);
        for word in [24, 0, self.types.len() as u32, self.types.len() as u32, self.strings.len() as u32] {
            out.extend_from_slice(&word.to_ne_bytes());
        }
        out.extend_from_slice(&self.types);
        out.extend_from_slice(&self.strings);
        out
    }
}

/// One type of each kind and the special fields, small enough that a mutation mostly hits something.
fn handmade() -> Vec<Vec<u8>> {
    let mut all = Vec::new();

    let mut b = Builder::new();
    b.ty("int", kind::INT, false, 0, 4, &[0x0100_0020]); // 1
    b.ty("", kind::PTR, false, 0, 4, &[]); // 2
    b.ty("", kind::ARRAY, false, 0, 0, &[1, 1, 4]); // 3
    let (a, c, d) = (b.str("a"), b.str("b"), b.str("c"));
    b.ty("s", kind::STRUCT, false, 3, 32, &[a, 1, 0, c, 2, 64, d, 3, 128]); // 4
    b.ty("u", kind::UNION, false, 2, 8, &[a, 1, 0, c, 2, 0]); // 5
    b.ty("e", kind::ENUM, false, 2, 4, &[a, 0, c, 0xffff_ffff]); // 6
    b.ty("es", kind::ENUM, true, 2, 4, &[a, 0, c, 0xffff_ffff]); // 7
    b.ty("e64", kind::ENUM64, true, 2, 8, &[a, 1, 0, c, 0xffff_fffe, 0xffff_ffff]); // 8
    b.ty("fw", kind::FWD, true, 0, 0, &[]); // 9
    b.ty("td", kind::TYPEDEF, false, 0, 11, &[]); // 10
    b.ty("", kind::CONST, false, 0, 12, &[]); // 11
    b.ty("", kind::VOLATILE, false, 0, 4, &[]); // 12
    b.ty("", kind::RESTRICT, false, 0, 2, &[]); // 13
    b.ty("", kind::FUNC_PROTO, false, 3, 1, &[a, 1, c, 2, 0, 0]); // 14
    b.ty("f", kind::FUNC, false, 1, 14, &[]); // 15
    b.ty("v", kind::VAR, false, 0, 1, &[1]); // 16
    b.ty("w", kind::VAR, false, 0, 13, &[0]); // 17
    b.ty(".data", kind::DATASEC, false, 2, 16, &[16, 0, 4, 17, 8, 8]); // 18
    b.ty("float", kind::FLOAT, false, 0, 4, &[]); // 19
    b.ty("arg:ctx", kind::DECL_TAG, false, 0, 15, &[1]); // 20
    b.ty("tag", kind::TYPE_TAG, false, 0, 11, &[]); // 21
    b.ty("sk", kind::STRUCT, true, 4, 64, &[a, 1, 0x0300_0000, c, 7, 0x0500_0003, d, 19, 32, 0, 21, 64]); // 22
    b.ty("", kind::PTR, false, 0, 21, &[]); // 23
    b.ty("", kind::FUNC_PROTO, false, 0, 0, &[]); // 24
    b.ty("", kind::FUNC_PROTO, false, 1, 0, &[0, 0]); // 25
    b.ty("char", kind::INT, false, 0, 1, &[0x0200_0008]); // 26
    b.ty("bool", kind::INT, false, 0, 1, &[0x0400_0008]); // 27
    b.ty("u128", kind::INT, false, 0, 16, &[0x0000_0080]); // 28
    all.push(b.finish());

    let mut b = Builder::new();
    b.ty("u32", kind::INT, false, 0, 4, &[0x20]); // 1
    b.ty("u64", kind::INT, false, 0, 8, &[0x40]); // 2
    b.ty("", kind::ARRAY, false, 0, 0, &[2, 1, 2]); // 3
    b.ty("", kind::ARRAY, false, 0, 0, &[2, 1, 3]); // 4
    b.ty("", kind::ARRAY, false, 0, 0, &[2, 1, 4]); // 5
    let o = b.str("__opaque");
    b.ty("bpf_spin_lock", kind::STRUCT, false, 1, 4, &[o, 1, 0]); // 6
    b.ty("bpf_list_head", kind::STRUCT, false, 1, 16, &[o, 3, 0]); // 7
    b.ty("bpf_list_node", kind::STRUCT, false, 1, 24, &[o, 4, 0]); // 8
    b.ty("bpf_rb_root", kind::STRUCT, false, 1, 16, &[o, 3, 0]); // 9
    b.ty("bpf_rb_node", kind::STRUCT, false, 1, 32, &[o, 5, 0]); // 10
    b.ty("bpf_refcount", kind::STRUCT, false, 1, 4, &[o, 1, 0]); // 11
    b.ty("bpf_timer", kind::STRUCT, false, 1, 16, &[o, 3, 0]); // 12
    let (n, m, l, h, r, k) =
        (b.str("node"), b.str("rb"), b.str("lock"), b.str("head"), b.str("root"), b.str("k"));
    b.ty("elem", kind::STRUCT, false, 3, 64, &[n, 8, 0, m, 10, 192, r, 11, 448]); // 13
    b.ty("owner", kind::STRUCT, false, 3, 40, &[l, 6, 0, h, 7, 64, r, 9, 192]); // 14
    b.ty("contains:elem:node", kind::DECL_TAG, false, 0, 14, &[1]); // 15
    b.ty("contains:elem:rb", kind::DECL_TAG, false, 0, 14, &[2]); // 16
    b.ty("task_struct", kind::STRUCT, false, 0, 8, &[]); // 17
    b.ty("kptr", kind::TYPE_TAG, false, 0, 17, &[]); // 18
    b.ty("", kind::PTR, false, 0, 18, &[]); // 19
    b.ty("prog_test_ref_kfunc", kind::STRUCT, false, 0, 8, &[]); // 20
    b.ty("kptr_untrusted", kind::TYPE_TAG, false, 0, 20, &[]); // 21
    b.ty("", kind::PTR, false, 0, 21, &[]); // 22
    b.ty("", kind::ARRAY, false, 0, 0, &[22, 1, 3]); // 23
    b.ty("holder", kind::STRUCT, false, 3, 48, &[k, 19, 0, l, 23, 64, h, 6, 256]); // 24
    b.ty("", kind::ARRAY, false, 0, 0, &[24, 1, 2]); // 25
    b.ty("nest", kind::STRUCT, false, 2, 96, &[k, 24, 0, l, 19, 384]); // 26
    b.ty("local", kind::STRUCT, false, 1, 8, &[k, 2, 0]); // 27
    b.ty("percpu_kptr", kind::TYPE_TAG, false, 0, 27, &[]); // 28
    b.ty("", kind::PTR, false, 0, 28, &[]); // 29
    b.ty("", kind::VOLATILE, false, 0, 29, &[]); // 30
    b.ty("pc", kind::STRUCT, false, 2, 16, &[k, 30, 0, l, 29, 64]); // 31
    b.ty("both", kind::STRUCT, false, 3, 48, &[n, 8, 0, l, 6, 192, h, 7, 256]); // 32
    b.ty("contains:elem:node", kind::DECL_TAG, false, 0, 32, &[2]); // 33
    b.ty("outer", kind::STRUCT, false, 2, 32, &[l, 6, 0, h, 7, 64]); // 34
    b.ty("contains:both:node", kind::DECL_TAG, false, 0, 34, &[1]); // 35
    all.push(b.finish());

    // Chains that are followed to the end and chains that are too deep, and long names.
    for depth in [28, 40] {
        let mut b = Builder::new();
        b.ty("int", kind::INT, false, 0, 4, &[0x0100_0020]);
        for i in 0..depth {
            b.ty("", [kind::PTR, kind::CONST, kind::VOLATILE][i % 3], false, 0, i as u32 + 3, &[]);
        }
        b.ty(&"n".repeat(511), kind::TYPEDEF, false, 0, 1, &[]);
        b.ty(&"tag ".repeat(400), kind::TYPE_TAG, false, 0, 1, &[]);
        all.push(b.finish());
    }
    all
}

/// What libbpf does to an object's BTF before it loads it: sections get sizes, and externs become globals.
fn sanitize(data: &mut [u8]) {
    let Some(btf) = Btf::from_kernel_bytes(data.to_vec(), "", None) else { return };
    let header = *btf.header();
    let mut at = (header.hdr_len + header.type_off) as usize;
    let put = |data: &mut [u8], at: usize, value: u32| data[at..at + 4].copy_from_slice(&value.to_ne_bytes());
    for t in btf.types() {
        let vlen = t.vlen() as usize;
        let size = match t.kind() {
            kind::INT | kind::DECL_TAG => 4,
            kind::VAR => {
                if t.var_linkage() == 2 {
                    put(data, at + 12, 1);
                }
                4
            }
            kind::FUNC => {
                if vlen == 2 {
                    put(data, at + 4, kind::FUNC << 24 | 1);
                }
                0
            }
            kind::ARRAY => 12,
            kind::DATASEC => {
                let mut end = 0;
                for (i, vsi) in t.vsis().enumerate() {
                    put(data, at + 12 + i * 12 + 4, end);
                    end += vsi.size.max(1);
                    put(data, at + 12 + i * 12 + 8, vsi.size.max(1));
                }
                put(data, at + 8, end.max(1));
                vlen * 12
            }
            kind::STRUCT | kind::UNION | kind::ENUM64 => vlen * 12,
            kind::ENUM | kind::FUNC_PROTO => vlen * 8,
            _ => 0,
        };
        at += 12 + size;
    }
}

fn objects(path: &Path, out: &mut Vec<PathBuf>) {
    if let Ok(entries) = std::fs::read_dir(path) {
        let mut entries: Vec<_> = entries.flatten().map(|entry| entry.path()).collect();
        entries.sort();
        entries.iter().for_each(|entry| objects(entry, out));
    } else if path.extension().is_some_and(|ext| ext == "o") {
        out.push(path.to_owned());
    }
}

fn seeds() -> Vec<(String, Vec<u8>)> {
    let mut seeds: Vec<_> =
        handmade().into_iter().enumerate().map(|(i, data)| (format!("handmade {i}"), data)).collect();
    let mut paths = Vec::new();
    for root in std::env::var("BPFTWIN_TEST_OBJECTS").unwrap_or_default().split(':').filter(|s| !s.is_empty())
    {
        objects(Path::new(root), &mut paths);
    }
    for path in paths {
        let Ok(elf) = std::fs::read(&path) else { continue };
        let Ok(file) = object::File::parse(&*elf) else { continue };
        let Some(Ok(data)) = file.section_by_name(".BTF").map(|section| section.data()) else { continue };
        let mut data = data.to_vec();
        sanitize(&mut data);
        seeds.push((path.display().to_string(), data));
    }
    seeds
}

fn mutate(data: &mut Vec<u8>, rng: &mut Rng) {
    const VALUES: [u32; 24] = [
        0,
        1,
        2,
        3,
        4,
        7,
        8,
        9,
        16,
        31,
        32,
        33,
        64,
        127,
        128,
        255,
        0xffff,
        0x1_0000,
        0xf_ffff,
        0x10_0000,
        0x100_0000,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
    ];
    let types_end = (word_at(data, 4).unwrap_or(0) as usize)
        .saturating_add(word_at(data, 12).unwrap_or(0) as usize)
        .min(data.len());
    for _ in 0..1 + rng.below(3) {
        if data.len() < 28 {
            return;
        }
        // Mostly words of the type section, whose meaning is that of their position.
        let in_types = 24 + rng.below(types_end.saturating_sub(24) / 4) * 4;
        let at = if in_types + 4 <= data.len() { in_types } else { 0 };
        let word = word_at(data, at).unwrap_or(0);
        let mut put = |value: u32| data[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        match rng.below(14) {
            0..=2 => put(VALUES[rng.below(VALUES.len())]),
            3..=4 => put(word ^ 1 << rng.below(32)),
            5..=6 => put(word.wrapping_add(rng.below(9) as u32).wrapping_sub(4)),
            7 => {
                let other = 24 + rng.below(types_end.saturating_sub(28) / 4) * 4;
                if let Some(value) = word_at(data, other) {
                    data[at..at + 4].copy_from_slice(&value.to_ne_bytes());
                }
            }
            8 => put(rng.below(64) as u32),
            9 => put(word & 0x80ff_ffff | (rng.below(22) as u32) << 24),
            10 => {
                let at = rng.below(data.len());
                data[at] = rng.next() as u8;
            }
            11 => {
                let strings = types_end.min(data.len() - 1);
                let at = strings + rng.below(data.len() - strings);
                data[at] = [0, b' ', b'.', b'9', 0xc0, 0xff, b'a', 1][rng.below(8)];
            }
            12 => {
                let at = rng.below(6) * 4;
                let value = word_at(data, at).unwrap_or(0);
                let value = if rng.below(2) == 0 {
                    value ^ 1 << rng.below(32)
                } else {
                    VALUES[rng.below(VALUES.len())]
                };
                data[at..at + 4].copy_from_slice(&value.to_ne_bytes());
            }
            _ => match rng.below(3) {
                0 => data.truncate(rng.below(data.len())),
                1 => {
                    // Remove a word of the types and keep the header right.
                    data.drain(at..at + 4);
                    for field in [12, 16] {
                        let value = word_at(data, field).unwrap_or(4).wrapping_sub(4);
                        data[field..field + 4].copy_from_slice(&value.to_ne_bytes());
                    }
                }
                _ => {
                    // A longer header.
                    let hdr_len = word_at(data, 4).unwrap_or(0).wrapping_add(4);
                    data[4..8].copy_from_slice(&hdr_len.to_ne_bytes());
                    data.splice(24..24, [0, 0, 0, (rng.below(4) == 0) as u8]);
                }
            },
        }
    }
}

fn first_difference(a: &[u8], b: &[u8]) -> String {
    let lines = |log: &[u8]| String::from_utf8_lossy(log).lines().map(str::to_owned).collect::<Vec<_>>();
    let (a, b) = (lines(a), lines(b));
    for i in 0..a.len().max(b.len()) {
        if a.get(i) != b.get(i) {
            return format!("line {i}\n  kernel: {:?}\n  ours:   {:?}", a.get(i), b.get(i));
        }
    }
    "none by lines".to_owned()
}

fn env_number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn btf_load_agrees_with_the_kernel() {
    let mut buffer = vec![0; LOG_SIZE];
    let probe = kernel_load(&handmade()[0], 0, &mut buffer);
    if matches!(probe.errno, libc::EPERM | libc::ENOSYS) {
        eprintln!("skipped: bpf(2) is not permitted here (errno {})", probe.errno);
        return;
    }
    let vmlinux = Btf::from_kernel_file(Path::new("/sys/kernel/btf/vmlinux")).ok().map(Arc::new);

    let seeds = seeds();
    let mut failures = 0;
    let mut counts = std::collections::BTreeMap::<i32, u64>::new();
    let mut compare = |name: &str, data: &[u8], level: u32, buffer: &mut [u8]| {
        let kernel = kernel_load(data, level, buffer);
        let ours = our_load(data, level, &vmlinux);
        *counts.entry(kernel.errno).or_default() += 1;
        if kernel != ours {
            failures += 1;
            if failures <= 20 {
                eprintln!(
                    "{name}: errno {} by the kernel, {} by us; log sizes {} and {}; first difference: {}",
                    kernel.errno,
                    ours.errno,
                    kernel.true_size,
                    ours.true_size,
                    first_difference(&kernel.log, &ours.log)
                );
                if let Ok(dir) = std::env::var("BPFTWIN_FUZZ_KEEP") {
                    let _ = std::fs::write(Path::new(&dir).join(format!("{failures}.btf")), data);
                }
            }
        }
    };
    for (name, data) in &seeds {
        for level in [0, 1, 2, 4] {
            compare(name, data, level, &mut buffer);
        }
    }
    // More types than there are ids; the log does not fit in the buffer.
    let mut b = Builder::new();
    for _ in 0..(16 << 20) / 12 - 3 {
        b.ty("", kind::PTR, false, 0, 0, &[]);
    }
    let many = b.finish();
    compare("too many types", &many, 0, &mut buffer);
    compare("too many types", &many, 1, &mut buffer);
    let iterations = env_number("BPFTWIN_FUZZ_ITERATIONS", 2000);
    let mut rng = Rng(env_number("BPFTWIN_FUZZ_SEED", 1) | 1 << 40);
    for i in 0..iterations {
        // The handmade cases are few but dense.
        let pick = if rng.below(2) == 0 { rng.below(4) } else { rng.below(seeds.len()) };
        let (name, data) = &seeds[pick];
        let mut data = data.clone();
        mutate(&mut data, &mut rng);
        compare(&format!("{name}, mutation {i}"), &data, 1 + (i % 2) as u32, &mut buffer);
    }
    eprintln!("{} seeds, {iterations} mutations, by the kernel's errno: {counts:?}", seeds.len());
    assert_eq!(failures, 0, "the outcomes differ");
}

/// Every struct of the handmade cases, and of mutations of them, as the value of maps of several types.
#[test]
fn map_values_agree_with_the_kernel() {
    let mut buffer = vec![0; LOG_SIZE];
    let probe = kernel_load(&handmade()[1], 0, &mut buffer);
    if matches!(probe.errno, libc::EPERM | libc::ENOSYS) {
        eprintln!("skipped: bpf(2) is not permitted here (errno {})", probe.errno);
        return;
    }
    let vmlinux = Btf::from_kernel_file(Path::new("/sys/kernel/btf/vmlinux")).ok().map(Arc::new);
    let mut rng = Rng(env_number("BPFTWIN_FUZZ_SEED", 1) | 1 << 40);
    let mut counts = std::collections::BTreeMap::<i32, u64>::new();
    let mut failures = 0;
    for i in 0..env_number("BPFTWIN_FUZZ_ITERATIONS", 2000) / 4 {
        let mut data = handmade().swap_remove(1);
        if i != 0 {
            mutate(&mut data, &mut rng);
        }
        let Some(fd) = kernel_btf_fd(&data) else { continue };
        let btf = Btf::parse(data, &mut Log::disabled(), &|| vmlinux.clone()).expect("the kernel takes it");
        let good_key = btf.type_id_size(1).is_some_and(|(t, size)| t.is_i32() && size == 4);
        for t in btf.types() {
            for map_type in [MapType::Hash, MapType::Array, MapType::PercpuHash] {
                let Some((value_type, value_size)) = btf.type_id_size(t.id) else { continue };
                if value_size == 0 || value_size > 4096 || !good_key {
                    continue;
                }
                let mut attr = MapAttr {
                    map_type: map_type as u32,
                    key_size: 4,
                    value_size,
                    max_entries: 1,
                    btf_fd: std::os::fd::AsRawFd::as_raw_fd(&fd) as u32,
                    btf_key_type_id: 1,
                    btf_value_type_id: t.id,
                    ..Default::default()
                };
                let kernel = kernel_map(&mut attr);
                let map = MapValue { map_type, value_size, map_flags: 0, bpf_capable: true };
                let ours = btf.map_record(&value_type, &map, &|| vmlinux.clone()).err().map_or(0, |e| e.0);
                *counts.entry(kernel).or_default() += 1;
                if kernel != ours {
                    failures += 1;
                    eprintln!(
                        "mutation {i}, {map_type:?} of {t:?}: errno {kernel} by the kernel, {ours} by us"
                    );
                }
            }
        }
    }
    eprintln!("maps by the kernel's errno: {counts:?}");
    assert_eq!(failures, 0, "the outcomes differ");
}
