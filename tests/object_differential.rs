//! Pins, ids, information, access modes and BTF of maps: the same calls to the emulated kernel and to the live one.

mod twin;

use std::ffi::CString;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use bpftwin::kernel::caps::Caps;
use bpftwin::kernel::mapping::MmapArgs;
use bpftwin_uapi::attr::{BtfLoad, GetId, GetInfo, MapCreate, MapElem, Obj, ProgLoad};
use bpftwin_uapi::info::{BtfInfo, MapInfo, ProgInfo};
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Cmd, Errno, Insn, MapType, ProgType};
use twin::{Pair, Random, iterations, live, pair};

/// An object on both sides: the live kernel's descriptor and the emulated one's.
struct Both(OwnedFd, OwnedFd);

impl Both {
    fn fd(&self, emulated: bool) -> u32 {
        (if emulated { &self.1 } else { &self.0 }).as_raw_fd() as u32
    }
}

/// Runs a command on both sides and compares the results.
fn both(
    pair: &Pair,
    cmd: Cmd,
    what: &str,
    mut call: impl FnMut(bool, &dyn Fn(u64, u32) -> Result<i32, Errno>) -> Result<i32, Errno>,
) -> Result<Option<Both>, Errno> {
    let theirs = call(false, &|at, size| live(cmd, at, size));
    let ours = call(true, &|at, size| pair.emulated(cmd, at, size));
    match (theirs, ours) {
        (Ok(theirs), Ok(ours)) => {
            let makes_fd = matches!(
                cmd,
                Cmd::MapCreate
                    | Cmd::ProgLoad
                    | Cmd::BtfLoad
                    | Cmd::ObjGet
                    | Cmd::MapGetFdById
                    | Cmd::ProgGetFdById
                    | Cmd::BtfGetFdById
            );
            // SAFETY: the descriptors were just made and nobody else owns them.
            Ok(makes_fd.then(|| unsafe { Both(OwnedFd::from_raw_fd(theirs), OwnedFd::from_raw_fd(ours)) }))
        }
        _ => {
            assert_eq!(theirs, ours, "{} {what}", cmd.name());
            Err(theirs.unwrap_err())
        }
    }
}

fn size<T>(_: &T) -> u32 {
    size_of::<T>() as u32
}

fn create(pair: &Pair, attr: MapCreate, btf: Option<&Both>) -> Result<Both, Errno> {
    both(pair, Cmd::MapCreate, &format!("{attr:?}"), |emulated, run| {
        let mut attr = attr;
        if let Some(btf) = btf {
            attr.btf_fd = btf.fd(emulated);
        }
        run(&raw const attr as u64, 92)
    })
    .map(Option::unwrap)
}

fn array(value_size: u32, max_entries: u32) -> MapCreate {
    MapCreate { map_type: 2, key_size: 4, value_size, max_entries, ..MapCreate::default() }
}

fn load(pair: &Pair, prog_type: ProgType, attach_type: u32, insns: &[Insn]) -> Result<Both, Errno> {
    both(pair, Cmd::ProgLoad, "program", |_, run| {
        let attr = ProgLoad {
            prog_type: prog_type as u32,
            expected_attach_type: attach_type,
            insns: insns.as_ptr() as u64,
            insn_cnt: insns.len() as u32,
            license: c"GPL".as_ptr() as u64,
            ..ProgLoad::default()
        };
        run(&raw const attr as u64, 168)
    })
    .map(Option::unwrap)
}

fn trivial() -> [Insn; 2] {
    [Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0), Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)]
}

/// Writes BTF by hand.
#[derive(Default)]
struct BtfWriter {
    types: Vec<u32>,
    strings: Vec<u8>,
}

impl BtfWriter {
    fn name(&mut self, name: &str) -> u32 {
        if self.strings.is_empty() {
            self.strings.push(0);
        }
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        at
    }

    fn add(&mut self, name: &str, kind: u32, vlen: u32, size_or_type: u32, rest: &[u32]) {
        let name = self.name(name);
        self.types.extend_from_slice(&[name, kind << 24 | vlen, size_or_type]);
        self.types.extend_from_slice(rest);
    }

    fn structure(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) {
        let rest: Vec<u32> =
            members.iter().flat_map(|(name, type_id, off)| [self.name(name), *type_id, off * 8]).collect();
        self.add(name, 4, members.len() as u32, size, &rest);
    }

    fn finish(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        let type_len = self.types.len() as u32 * 4;
        for word in [0x1_eb9f, 24, 0, type_len, type_len, self.strings.len() as u32] {
            bytes.extend_from_slice(&u32::to_ne_bytes(word));
        }
        self.types.iter().for_each(|word| bytes.extend_from_slice(&word.to_ne_bytes()));
        bytes.extend_from_slice(&self.strings);
        bytes
    }
}

/// Types that maps have for keys and values.
fn btf_bytes() -> Vec<u8> {
    let mut btf = BtfWriter::default();
    btf.add("int", 1, 0, 4, &[1 << 24 | 32]); // 1
    btf.add("u64", 1, 0, 8, &[64]); // 2
    btf.structure("bpf_spin_lock", 4, &[("val", 1, 0)]); // 3
    btf.structure("locked", 8, &[("a", 1, 0), ("l", 3, 4)]); // 4
    btf.add("", 3, 0, 0, &[2, 1, 2]); // 5: u64[2]
    btf.structure("bpf_timer", 16, &[("o", 5, 0)]); // 6
    btf.structure("timed", 24, &[("t", 6, 0), ("x", 2, 16)]); // 7
    btf.structure("lpm_key", 8, &[("p", 1, 0), ("d", 1, 4)]); // 8
    btf.structure("cgroup_key", 16, &[("i", 2, 0), ("t", 1, 8)]); // 9
    btf.add("var", 14, 0, 1, &[1]); // 10
    btf.add(".data", 15, 1, 4, &[10, 0, 4]); // 11
    btf.structure("plain", 8, &[("a", 1, 0), ("b", 1, 4)]); // 12
    btf.structure("other", 8, &[("a", 1, 0), ("l", 1, 4)]); // 13
    btf.structure("bpf_wq", 16, &[("o", 5, 0)]); // 14
    btf.structure("worked", 24, &[("t", 14, 0), ("x", 2, 16)]); // 15
    btf.structure("bpf_refcount", 4, &[("v", 1, 0)]); // 16
    btf.structure("counted", 8, &[("a", 1, 0), ("l", 16, 4)]); // 17
    btf.add("alias", 8, 0, 4, &[]); // 18: typedef of locked
    btf.structure("both", 32, &[("l", 3, 0), ("x", 1, 4), ("t", 6, 8), ("y", 2, 24)]); // 19
    btf.finish()
}

fn load_btf(pair: &Pair, data: &[u8]) -> Both {
    both(pair, Cmd::BtfLoad, "", |_, run| {
        let attr = BtfLoad { btf: data.as_ptr() as u64, btf_size: data.len() as u32, ..BtfLoad::default() };
        run(&raw const attr as u64, 40)
    })
    .unwrap()
    .unwrap()
}

#[test]
fn btf_of_maps() {
    let Some(pair) = pair(Caps::All) else { return };
    let btf = load_btf(&pair, &btf_bytes());
    let mut random = Random::new(5);
    let mut created = 0;
    for _ in 0..iterations(6000) {
        let map_type = 1 + random.below(33) as u32;
        let (value_type, value_size) = random.pick(&[
            (1, 4),
            (2, 8),
            (4, 8),
            (7, 24),
            (11, 4),
            (12, 8),
            (13, 8),
            (15, 24),
            (17, 8),
            (18, 8),
            (19, 32),
            (0, 8),
            (99, 8),
        ]);
        let (key_type, key_size) =
            random.pick(&[(1, 4), (1, 4), (1, 4), (2, 8), (8, 8), (9, 16), (0, 4), (0, 0), (5, 16)]);
        let mut attr = MapCreate {
            map_type,
            key_size,
            value_size,
            max_entries: random.pick(&[1, 1, 2, 0]),
            btf_key_type_id: key_type,
            btf_value_type_id: value_type,
            map_flags: random.pick(&[0, 0, 0, 1, 1, 1 << 7, 1 << 8]),
            ..MapCreate::default()
        };
        if matches!(attr.map_type, 12 | 13 | 26) {
            continue;
        }
        if random.one_in(10) {
            attr.value_size += 1;
        }
        if let Ok(map) = create(&pair, attr, Some(&btf)) {
            created += 1;
            compare_map_info(&pair, &map, size_of::<MapInfo>() as u32, 0, 0);
            let what = format!("{attr:?}");
            // Frozen: not with special fields.
            let _ = both(&pair, Cmd::MapFreeze, &what, |emulated, run| {
                let attr = map.fd(emulated);
                run(&raw const attr as u64, 4)
            });
            if matches!(map_type, 1 | 2 | 5 | 6 | 9 | 10) && attr.key_size != 0 {
                locked_elements(&pair, &map, &attr, &mut random);
            }
        }
    }
    assert!(created > 50, "only {created} maps were made");
}

/// Updates and look-ups of values with special fields, with `BPF_F_LOCK` and without.
fn locked_elements(pair: &Pair, map: &Both, attr: &MapCreate, random: &mut Random) {
    let room = attr.value_size.next_multiple_of(8) as usize * pair.kernel.profile().possible_cpus as usize;
    for _ in 0..4 {
        let key = vec![0u8; attr.key_size as usize];
        let cmd = random.pick(&[Cmd::MapUpdateElem, Cmd::MapLookupElem, Cmd::MapLookupAndDeleteElem]);
        let flags = random.pick(&[0, 4, 5, 6, 1]);
        let fill: Vec<u8> = (0..room).map(|_| random.next() as u8).collect();
        let mut values = [fill.clone(), fill];
        let _ = both(pair, cmd, &format!("{attr:?} flags {flags}"), |emulated, run| {
            let elem = MapElem {
                map_fd: map.fd(emulated),
                key: key.as_ptr() as u64,
                value: values[usize::from(emulated)].as_mut_ptr() as u64,
                flags,
                ..MapElem::default()
            };
            run(&raw const elem as u64, size(&elem))
        });
        assert_eq!(values[0], values[1], "{} {attr:?} flags {flags}", cmd.name());
    }
}

/// Compares the information on a map, given so many bytes, these of them set.
fn compare_map_info(pair: &Pair, map: &Both, len: u32, hash: u64, hash_size: u32) {
    let mut seen: Vec<(MapInfo, u32)> = Vec::new();
    let _ = both(pair, Cmd::ObjGetInfoByFd, &format!("map, {len} bytes"), |emulated, run| {
        let mut info = MapInfo { hash, hash_size, ..MapInfo::default() };
        let get = GetInfo { bpf_fd: map.fd(emulated), info_len: len, info: &raw mut info as u64 };
        let result = run(&raw const get as u64, size(&get));
        (info.id, info.btf_id) = (0, u32::from(info.btf_id != 0));
        seen.push((info, get.info_len));
        result
    });
    assert_eq!(format!("{:?}", seen[0]), format!("{:?}", seen[1]));
}

#[test]
fn information_sizes() {
    let Some(pair) = pair(Caps::All) else { return };
    let map = create(&pair, array(8, 2), None).unwrap();
    for len in [0, 1, 4, 7, 40, 64, 96, 103, 104] {
        compare_map_info(&pair, &map, len, 0, 0);
    }
    let digest = [0u8; 32];
    for hash_size in [0, 31, 32] {
        compare_map_info(&pair, &map, 104, digest.as_ptr() as u64, hash_size);
        compare_map_info(&pair, &map, 104, 0, hash_size);
    }
    let freeze = |pair: &Pair| {
        both(pair, Cmd::MapFreeze, "", |emulated, run| {
            let attr = map.fd(emulated);
            run(&raw const attr as u64, 4)
        })
    };
    freeze(&pair).unwrap();
    assert_eq!(freeze(&pair).err(), Some(Errno::EPERM));
    let mut digests = [[0u8; 32]; 2];
    both(&pair, Cmd::ObjGetInfoByFd, "digest", |emulated, run| {
        let info = MapInfo {
            hash: digests[usize::from(emulated)].as_mut_ptr() as u64,
            hash_size: 32,
            ..MapInfo::default()
        };
        let get = GetInfo { bpf_fd: map.fd(emulated), info_len: 104, info: &raw const info as u64 };
        run(&raw const get as u64, size(&get))
    })
    .unwrap();
    assert_eq!(digests[0], digests[1]);
    for len in [105u32, 200, 4096, 4097, 1 << 30] {
        let big = vec![0u8; 4200];
        let mut dirty = big.clone();
        dirty[180] = 1;
        for buffer in [&big, &dirty] {
            let _ = both(&pair, Cmd::ObjGetInfoByFd, &format!("{len} bytes"), |emulated, run| {
                let mut buffer = buffer.clone();
                let get =
                    GetInfo { bpf_fd: map.fd(emulated), info_len: len, info: buffer.as_mut_ptr() as u64 };
                run(&raw const get as u64, size(&get))
            });
        }
    }
    for fd in [-1, 0, 9999] {
        let _ = both(&pair, Cmd::ObjGetInfoByFd, "no object", |_, run| {
            let get = GetInfo { bpf_fd: fd as u32, info_len: 8, info: 0 };
            run(&raw const get as u64, size(&get))
        });
    }
    btf_information(&pair);
    program_information(&pair);
}

fn btf_information(pair: &Pair) {
    let data = btf_bytes();
    let btf = load_btf(pair, &data);
    for (room, name_len, named) in [
        (0, 0, false),
        (10, 0, false),
        (1 << 20, 0, false),
        (8, 4, true),
        (8, 1, true),
        (8, 4, false),
        (8, 0, true),
    ] {
        let mut seen = Vec::new();
        let _ = both(pair, Cmd::ObjGetInfoByFd, "btf", |emulated, run| {
            let mut copy = vec![0xaau8; data.len() + 16];
            let mut name = [0xaau8; 8];
            let mut info = BtfInfo {
                btf: copy.as_mut_ptr() as u64,
                btf_size: room,
                name: if named { name.as_mut_ptr() as u64 } else { 0 },
                name_len,
                ..BtfInfo::default()
            };
            let get = GetInfo { bpf_fd: btf.fd(emulated), info_len: 32, info: &raw mut info as u64 };
            let result = run(&raw const get as u64, size(&get));
            (info.btf, info.name, info.id) = (0, 0, 0);
            seen.push((copy, name, format!("{info:?}"), get.info_len));
            result
        });
        assert!(seen[0] == seen[1], "room {room} name_len {name_len}: {:?} {:?}", seen[0], seen[1]);
    }
}

fn program_information(pair: &Pair) {
    let program = load(pair, ProgType::SocketFilter, 0, &trivial()).unwrap();
    for len in [0, 40, 80, 128, 192, 232] {
        for (records, record_size) in [(0, 0), (1, 8), (1, 4), (0, 5)] {
            let mut seen = Vec::new();
            let _ = both(pair, Cmd::ObjGetInfoByFd, "program", |emulated, run| {
                let mut info = ProgInfo {
                    nr_func_info: records,
                    func_info_rec_size: record_size,
                    gpl_compatible: 0xffff_fffe,
                    ..ProgInfo::default()
                };
                let get = GetInfo { bpf_fd: program.fd(emulated), info_len: len, info: &raw mut info as u64 };
                let result = run(&raw const get as u64, size(&get));
                (info.id, info.load_time, info.jited_prog_len) = (0, 0, 0);
                seen.push((format!("{info:?}"), get.info_len));
                result
            });
            assert_eq!(seen[0], seen[1], "{len} bytes, {records} records of {record_size}");
        }
    }
}

#[test]
fn fdinfo() {
    let Some(pair) = pair(Caps::All) else { return };
    let program = load(&pair, ProgType::SocketFilter, 0, &trivial()).unwrap();
    let btf = load_btf(&pair, &btf_bytes());
    for (object, first, link) in [(&program, "prog_type:", "bpf-prog"), (&btf, "btf_id:", "btf")] {
        let theirs = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", object.0.as_raw_fd())).unwrap();
        let ours = pair.kernel.fdinfo(object.1.as_raw_fd()).unwrap();
        let facts = |text: &str| {
            let lines = text[text.find(first).unwrap()..].lines();
            lines
                .map(|line| {
                    if line.contains("_id:") { line.split('\t').next().unwrap() } else { line }.to_owned()
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(facts(&theirs), facts(&ours));
        let target = std::fs::read_link(format!("/proc/self/fd/{}", object.0.as_raw_fd())).unwrap();
        assert_eq!(target.to_str(), pair.kernel.link_target(object.1.as_raw_fd()));
        assert!(target.to_str().unwrap().contains(link));
    }
}

fn pin(pair: &Pair, object: &Both, path: &str, flags: u32, path_fd: i32) -> Result<Option<Both>, Errno> {
    let path = CString::new(path).unwrap();
    both(pair, Cmd::ObjPin, &format!("{path:?} flags {flags} path_fd {path_fd}"), |emulated, run| {
        let attr = Obj {
            pathname: path.as_ptr() as u64,
            bpf_fd: object.fd(emulated),
            file_flags: flags,
            path_fd,
            ..Obj::default()
        };
        run(&raw const attr as u64, size(&attr))
    })
}

fn get(pair: &Pair, path: &str, flags: u32) -> Result<Both, Errno> {
    let path = CString::new(path).unwrap();
    both(pair, Cmd::ObjGet, &format!("{path:?} flags {flags}"), |_, run| {
        let attr = Obj { pathname: path.as_ptr() as u64, file_flags: flags, ..Obj::default() };
        run(&raw const attr as u64, size(&attr))
    })
    .map(Option::unwrap)
}

/// Removes a file of the live bpffs and of the emulated one.
fn unlink(pair: &Pair, path: &str) {
    let theirs = std::fs::remove_file(path).map_err(|error| Errno(error.raw_os_error().unwrap()));
    let ours = pair.kernel.pins().unlink(path.as_ref());
    assert_eq!(theirs, ours, "unlink {path}");
}

/// Gives the calling thread a bpffs at the usual place, which no other has.
fn mount_bpffs() -> bool {
    let none = std::ptr::null();
    // SAFETY: the strings are constants; the calls have no memory effects.
    unsafe {
        libc::unshare(libc::CLONE_NEWNS) == 0
            && libc::mount(none, c"/".as_ptr(), none, libc::MS_REC | libc::MS_PRIVATE, none.cast()) == 0
            && libc::mount(c"bpf".as_ptr(), c"/sys/fs/bpf".as_ptr(), c"bpf".as_ptr(), 0, none.cast()) == 0
    }
}

#[test]
fn pins() {
    let Some(pair) = pair(Caps::All) else { return };
    let thread = std::thread::spawn(move || {
        if mount_bpffs() { compare_pins(&pair) } else { eprintln!("SKIPPED: cannot mount a bpffs") }
    });
    thread.join().unwrap();
}

fn compare_pins(pair: &Pair) {
    let base = format!("/sys/fs/bpf/bpftwin_{}", std::process::id());
    std::fs::create_dir(&base).unwrap();
    pair.kernel.pins().mkdir(base.as_ref(), 0o755).unwrap();
    let map = create(pair, array(8, 2), None).unwrap();
    let program = load(pair, ProgType::SocketFilter, 0, &trivial()).unwrap();
    let btf = load_btf(pair, &btf_bytes());
    let outside = std::env::temp_dir().join(format!("bpftwin_{}", std::process::id()));
    std::fs::create_dir(&outside).unwrap();
    std::fs::write(outside.join("file"), "x").unwrap();
    std::os::unix::fs::symlink(&base, outside.join("link")).unwrap();
    let outside_dir = outside.to_str().unwrap();

    let long = "x".repeat(300);
    for name in [
        "map",
        "map",
        "with.dot",
        "no/such",
        "map/under",
        "",
        "/",
        ".",
        "..",
        "./other",
        "slash/",
        long.as_str(),
        "../x.y",
        "dot.dir/x",
    ] {
        let _ = pin(pair, &map, &format!("{base}/{name}"), 0, 0);
        let _ = pin(pair, &map, &format!("{outside_dir}/{name}"), 0, 0);
        let _ = pin(pair, &map, name, 0, 0);
        let _ = get(pair, &format!("{base}/{name}"), 0).map(drop);
        let _ = get(pair, &format!("{outside_dir}/{name}"), 0).map(drop);
    }
    for name in ["file", "link", "link/linked", "file/x", "link/linked"] {
        let _ = pin(pair, &map, &format!("{outside_dir}/{name}"), 0, 0);
        let _ = get(pair, &format!("{outside_dir}/{name}"), 0).map(drop);
    }
    let _ = pin(pair, &btf, &format!("{base}/btf"), 0, 0);
    pin(pair, &program, &format!("{base}/prog"), 0, 0).unwrap();
    for flags in [0, 8, 16, 24, 1, 1 << 14] {
        let _ = get(pair, &format!("{base}/map"), flags).map(|map| access_modes(pair, &map));
        let _ = get(pair, &format!("{base}/prog"), flags).map(drop);
        let _ = pin(pair, &map, &format!("{base}/flags{flags}"), flags, 0);
        let _ = pin(pair, &map, &format!("{base}/flags_fd{flags}"), flags, 9999);
    }
    // The pin keeps the map alive, with its contents.
    drop(map);
    let map = get(pair, &format!("{base}/map"), 0).unwrap();
    compare_map_info(pair, &map, 104, 0, 0);
    for name in ["map", "other", "linked", "prog", "flags0", "nothing"] {
        if name == "nothing" || pair.kernel.pins().stat(format!("{base}/{name}").as_ref()).is_ok() {
            unlink(pair, &format!("{base}/{name}"));
        }
    }
    std::fs::remove_dir_all(&outside).unwrap();
    let theirs =
        std::fs::read_dir(&base).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut theirs: Vec<String> = theirs.collect();
    theirs.sort();
    let ours: Vec<String> =
        pair.kernel.pins().list(base.as_ref()).unwrap().into_iter().map(|(name, _)| name).collect();
    for name in &theirs {
        let _ = std::fs::remove_file(format!("{base}/{name}"));
    }
    std::fs::remove_dir(&base).unwrap();
    assert_eq!(theirs, ours);
}

/// What a descriptor of a map allows.
fn access_modes(pair: &Pair, map: &Both) {
    let (key, mut value) = (0u32, 0u64);
    for cmd in [Cmd::MapLookupElem, Cmd::MapUpdateElem, Cmd::MapDeleteElem, Cmd::MapGetNextKey] {
        let _ = both(pair, cmd, "access mode", |emulated, run| {
            let attr = MapElem {
                map_fd: map.fd(emulated),
                key: &raw const key as u64,
                value: if cmd == Cmd::MapDeleteElem { 0 } else { &raw mut value as u64 },
                ..MapElem::default()
            };
            run(&raw const attr as u64, size(&attr))
        });
    }
}

#[test]
fn program_arrays() {
    let Some(pair) = pair(Caps::All) else { return };
    let attr = MapCreate { map_type: MapType::ProgArray as u32, ..array(4, 3) };
    let maps = [create(&pair, attr, None).unwrap(), create(&pair, attr, None).unwrap()];
    let programs = [
        load(&pair, ProgType::SocketFilter, 0, &trivial()).unwrap(),
        load(&pair, ProgType::SocketFilter, 0, &trivial()).unwrap(),
        load(&pair, ProgType::Xdp, 0, &trivial()).unwrap(),
        load(&pair, ProgType::Xdp, 37, &trivial()).unwrap(),
        load(&pair, ProgType::CgroupSkb, 0, &trivial()).unwrap(),
        load(&pair, ProgType::CgroupSkb, 1, &trivial()).unwrap(),
    ];
    let mut random = Random::new(6);
    for _ in 0..400 {
        let map = &maps[random.below(2) as usize];
        let key = random.below(4) as u32;
        let program = random.below(8) as usize;
        let flags = if random.one_in(10) { 1 } else { 0 };
        let cmd = random.pick(&[
            Cmd::MapUpdateElem,
            Cmd::MapUpdateElem,
            Cmd::MapLookupElem,
            Cmd::MapDeleteElem,
            Cmd::MapGetNextKey,
        ]);
        let mut found = [0u32; 2];
        let result = both(&pair, cmd, &format!("key {key} program {program}"), |emulated, run| {
            let mut value = match program {
                6 => map.fd(emulated),
                7 => 9999,
                at => programs[at].fd(emulated),
            };
            let attr = MapElem {
                map_fd: map.fd(emulated),
                key: &raw const key as u64,
                value: if cmd == Cmd::MapDeleteElem { 0 } else { &raw mut value as u64 },
                flags: if cmd == Cmd::MapUpdateElem { flags } else { 0 },
                ..MapElem::default()
            };
            let result = run(&raw const attr as u64, size(&attr));
            found[usize::from(emulated)] = value;
            result
        });
        if cmd == Cmd::MapLookupElem && result.is_ok() {
            // The ids differ, but they must be of programs.
            let is_there = |emulated: bool, id: u32| {
                let attr = GetId { id, ..GetId::default() };
                let (at, size) = (&raw const attr as u64, 4);
                if emulated {
                    pair.emulated(Cmd::ProgGetFdById, at, size)
                } else {
                    live(Cmd::ProgGetFdById, at, size)
                }
            };
            for (emulated, id) in [(false, found[0]), (true, found[1])] {
                // SAFETY: the descriptor was just made and nobody else owns it.
                drop(unsafe { OwnedFd::from_raw_fd(is_there(emulated, id).unwrap()) });
            }
        }
    }
}

#[test]
fn ids() {
    let Some(pair) = pair(Caps::All) else { return };
    for (cmd, limit) in [
        (Cmd::MapGetNextId, 8),
        (Cmd::ProgGetNextId, 8),
        (Cmd::BtfGetNextId, 8),
        (Cmd::LinkGetNextId, 8),
        (Cmd::MapGetFdById, 12),
        (Cmd::ProgGetFdById, 4),
        (Cmd::BtfGetFdById, 16),
        (Cmd::LinkGetFdById, 4),
    ] {
        for id in [i32::MAX as u32 - 1, i32::MAX as u32, u32::MAX] {
            for flags in [0, 8, 24, 1 << 16] {
                let _ = both(&pair, cmd, &format!("id {id} flags {flags}"), |_, run| {
                    let attr = GetId {
                        id,
                        open_flags: if limit >= 12 { flags } else { 0 },
                        fd_by_id_token_fd: if limit >= 16 { 9999 } else { 0 },
                        ..GetId::default()
                    };
                    run(&raw const attr as u64, size(&attr))
                });
            }
        }
    }
    let map = create(&pair, array(4, 1), None).unwrap();
    let id = pair.kernel.map_by_fd(map.1.as_raw_fd()).unwrap().id();
    let attr = GetId { id: id - 1, ..GetId::default() };
    assert_eq!(pair.emulated(Cmd::MapGetNextId, &raw const attr as u64, size(&attr)), Ok(0));
    // SAFETY: the call stored to it.
    assert_eq!(unsafe { std::ptr::read_volatile(&raw const attr.next_id) }, id);
}

/// A mapping of both sides' map: addresses, or the error.
fn mmap(
    pair: &Pair,
    map: &Both,
    len: usize,
    prot: i32,
    flags: i32,
    offset: u64,
) -> Result<[usize; 2], Errno> {
    let real = |fd: i32| {
        // SAFETY: a fresh mapping somewhere, which the test unmaps.
        let at = unsafe { libc::mmap(std::ptr::null_mut(), len, prot, flags, fd, offset as i64) };
        if at == libc::MAP_FAILED {
            Err(Errno(std::io::Error::last_os_error().raw_os_error().unwrap()))
        } else {
            Ok(at as usize)
        }
    };
    let theirs = real(map.0.as_raw_fd());
    let args = MmapArgs { len, prot, flags, offset };
    let ours = pair.kernel.mmap(map.1.as_raw_fd(), args, real).expect("a descriptor of the emulated kernel");
    assert_eq!(theirs.map(drop), ours.map(drop), "mmap len {len} prot {prot} flags {flags} offset {offset}");
    Ok([theirs?, ours?])
}

fn freeze(pair: &Pair, map: &Both) -> Result<(), Errno> {
    let result = both(pair, Cmd::MapFreeze, "", |emulated, run| {
        let attr = map.fd(emulated);
        run(&raw const attr as u64, 4)
    });
    result.map(drop)
}

#[test]
fn mappings() {
    const READ: i32 = libc::PROT_READ;
    const WRITE: i32 = libc::PROT_READ | libc::PROT_WRITE;
    let Some(pair) = pair(Caps::All) else { return };
    let btf = load_btf(&pair, &btf_bytes());
    let mmapable = MapCreate { map_flags: 1 << 10, ..array(100, 50) };
    for attr in [
        mmapable,
        array(100, 50),
        MapCreate { map_flags: 1 << 10 | 1 << 7, ..mmapable },
        MapCreate { map_flags: 1 << 10 | 1 << 3, ..mmapable },
        MapCreate { map_flags: 1 << 10 | 1 << 4, ..mmapable },
        MapCreate { map_type: 1, ..array(8, 4) },
        MapCreate { map_type: 6, ..array(8, 4) },
        MapCreate { btf_key_type_id: 1, btf_value_type_id: 4, value_size: 8, ..mmapable },
    ] {
        let map = create(&pair, attr, Some(&btf)).unwrap();
        for prot in [READ, WRITE, libc::PROT_NONE] {
            for flags in [libc::MAP_SHARED, libc::MAP_PRIVATE] {
                for (len, offset) in [(1, 0), (4096, 4096), (8192, 0), (8193, 0), (4096, 8192), (0, 0)] {
                    if let Ok(at) = mmap(&pair, &map, len, prot, flags, offset) {
                        // SAFETY: the mappings were made above.
                        at.iter().for_each(|at| assert_eq!(0, unsafe { libc::munmap(*at as *mut _, len) }));
                    }
                }
            }
        }
    }
    let map = create(&pair, mmapable, None).unwrap();
    let at = mmap(&pair, &map, 4096, WRITE, libc::MAP_SHARED, 0).unwrap();
    for at in at {
        // SAFETY: it is mapped for writing.
        unsafe { ((at + 104) as *mut u64).write_volatile(0x1234_5678) };
    }
    let mut values = [[0u8; 100]; 2];
    both(&pair, Cmd::MapLookupElem, "mapped", |emulated, run| {
        let key = 1u32;
        let attr = MapElem {
            map_fd: map.fd(emulated),
            key: &raw const key as u64,
            value: values[usize::from(emulated)].as_mut_ptr() as u64,
            ..MapElem::default()
        };
        run(&raw const attr as u64, size(&attr))
    })
    .unwrap();
    assert_eq!(values[0], values[1]);
    assert_eq!(values[0][..4], [0x78, 0x56, 0x34, 0x12]);
    assert_eq!(freeze(&pair, &map), Err(Errno::EBUSY), "a writable mapping is there");
    // SAFETY: the mappings were made above.
    at.iter().for_each(|at| assert_eq!(0, unsafe { libc::munmap(*at as *mut _, 4096) }));
    assert_eq!(freeze(&pair, &map), Ok(()));
    assert_eq!(mmap(&pair, &map, 4096, WRITE, libc::MAP_SHARED, 0), Err(Errno::EPERM));
    let at = mmap(&pair, &map, 4096, READ, libc::MAP_SHARED, 0).unwrap();
    for at in at {
        // SAFETY: it is a mapping of the test's own.
        let result = unsafe { libc::mprotect(at as *mut _, 4096, WRITE) };
        assert_eq!(result, -1, "a read-only mapping must not become writable");
    }
}
