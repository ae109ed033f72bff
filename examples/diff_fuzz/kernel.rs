//! The live kernel's bpf(2), and the objects in it that programs name.

use std::sync::Arc;

use bpftwin::btf::{Btf, BtfRecord, MapValue};
use bpftwin::verifier::log::Log;
use bpftwin::verifier::prog::{MapContents, VerifierMap};
use bpftwin_uapi::attr::*;
use bpftwin_uapi::info::MapInfo;
use bpftwin_uapi::{Cmd, Errno, MapType};
use bytemuck::{Pod, Zeroable};

use crate::btf::{FuzzBtf, LOCK_VALUE_SIZE, PLAIN_VALUE_SIZE, TIMER_VALUE_SIZE};

/// Makes a bpf(2) call whose attributes hold addresses of live objects only.
pub fn bpf<T: Pod>(cmd: Cmd, attr: &mut T) -> Result<i64, i32> {
    bpf_sized(cmd, attr, size_of::<T>().min(ATTR_SIZE))
}

/// [`bpf`] with the size of the attributes that the kernel is told.
pub fn bpf_sized<T: Pod>(cmd: Cmd, attr: &mut T, size: usize) -> Result<i64, i32> {
    assert!(size <= size_of::<T>());
    // SAFETY: the attributes are live, and so is what they point to.
    let result = unsafe { libc::syscall(libc::SYS_bpf, cmd as i32, attr as *mut T, size) };
    if result < 0 { Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)) } else { Ok(result) }
}

/// A descriptor that is closed when it is no longer used.
pub struct Fd(pub i32);

impl Drop for Fd {
    fn drop(&mut self) {
        // SAFETY: the descriptor is ours alone.
        unsafe { libc::close(self.0) };
    }
}

/// What a map's values are made of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    Bytes,
    Lock,
    Timer,
    Plain,
}

/// One map of the table that programs choose from.
#[derive(Clone, Copy, Debug)]
pub struct MapSpec {
    pub map_type: MapType,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    pub flags: u32,
    pub value: Value,
    /// Template of a map of maps, an index into the table.
    pub inner: Option<usize>,
    /// Frozen after its only value was filled.
    pub frozen: bool,
    /// What a frozen map holds, zeros behind it; a pattern where it is empty.
    text: &'static [u8],
}

impl MapSpec {
    const fn new(map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> Self {
        let value = Value::Bytes;
        MapSpec {
            map_type,
            key_size,
            value_size,
            max_entries,
            flags: 0,
            value,
            inner: None,
            frozen: false,
            text: b"",
        }
    }

    const fn flags(mut self, flags: u32) -> Self {
        self.flags = flags;
        self
    }

    const fn value(mut self, value: Value) -> Self {
        self.value = value;
        self
    }

    const fn inner(mut self, inner: usize) -> Self {
        self.inner = Some(inner);
        self
    }

    const fn frozen(mut self) -> Self {
        self.frozen = true;
        self
    }

    const fn text(mut self, text: &'static [u8]) -> Self {
        self.text = text;
        self.frozen()
    }

    /// Byte of a frozen map's value at an offset.
    fn frozen_byte(&self, at: usize) -> u8 {
        if !self.text.is_empty() {
            return self.text.get(at).copied().unwrap_or(0);
        }
        [0u8, 1, 0xff, 0x80, 7, 0, 0, 0x7f][at % 8].wrapping_add((at / 8) as u8)
    }

    /// The first program to use it binds the kernel's map to programs of its kind, so that every load needs a new one.
    pub fn is_bound_by_use(&self) -> bool {
        use MapType::*;
        matches!(
            self.map_type,
            ProgArray | Devmap | DevmapHash | Cpumap | CgroupStorage | PercpuCgroupStorage
        )
    }
}

use MapType::*;

/// The maps; programs name them by index.
pub const MAPS: &[MapSpec] = &[
    MapSpec::new(Array, 4, 16, 4),
    MapSpec::new(Array, 4, 64, 1),
    MapSpec::new(Hash, 8, 16, 8),
    MapSpec::new(Hash, 4, 48, 8).flags(BPF_F_NO_PREALLOC),
    MapSpec::new(PercpuArray, 4, 16, 2),
    MapSpec::new(PercpuHash, 4, 16, 4),
    MapSpec::new(LruHash, 16, 8, 16),
    MapSpec::new(LpmTrie, 8, 16, 4).flags(BPF_F_NO_PREALLOC),
    MapSpec::new(ProgArray, 4, 4, 4),
    MapSpec::new(PerfEventArray, 4, 4, 2),
    MapSpec::new(StackTrace, 4, 64, 4),
    // Maps of maps with templates that precede them.
    MapSpec::new(ArrayOfMaps, 4, 4, 2).inner(0),
    MapSpec::new(HashOfMaps, 4, 4, 2).inner(2),
    MapSpec::new(Ringbuf, 0, 0, 4096),
    MapSpec::new(Queue, 0, 8, 4),
    MapSpec::new(Stack, 0, 16, 4),
    MapSpec::new(BloomFilter, 0, 8, 16),
    MapSpec::new(Sockmap, 4, 4, 2),
    MapSpec::new(Sockhash, 8, 4, 2),
    MapSpec::new(CgroupArray, 4, 4, 2),
    MapSpec::new(Devmap, 4, 4, 2),
    MapSpec::new(Cpumap, 4, 4, 2),
    MapSpec::new(Xskmap, 4, 4, 2),
    MapSpec::new(Array, 4, 32, 1).flags(BPF_F_RDONLY_PROG).frozen(),
    MapSpec::new(Array, 4, LOCK_VALUE_SIZE, 2).value(Value::Lock),
    MapSpec::new(Hash, 4, LOCK_VALUE_SIZE, 2).value(Value::Lock),
    MapSpec::new(Array, 4, TIMER_VALUE_SIZE, 2).value(Value::Timer),
    MapSpec::new(Hash, 8, TIMER_VALUE_SIZE, 2).value(Value::Timer),
    MapSpec::new(Array, 4, 16, 2).flags(BPF_F_WRONLY_PROG),
    MapSpec::new(Array, 4, PLAIN_VALUE_SIZE, 4).value(Value::Plain),
    MapSpec::new(SkStorage, 4, PLAIN_VALUE_SIZE, 0).flags(BPF_F_NO_PREALLOC).value(Value::Plain),
    MapSpec::new(CgroupStorage, 16, 16, 0),
    MapSpec::new(ReuseportSockarray, 4, 8, 2),
    MapSpec::new(ArrayOfMaps, 4, 4, 2).inner(24),
    MapSpec::new(LruPercpuHash, 4, 8, 16),
    MapSpec::new(ArrayOfMaps, 4, 4, 2).inner(26),
    MapSpec::new(Array, 4, 40, 3).flags(BPF_F_MMAPABLE),
    MapSpec::new(UserRingbuf, 0, 0, 4096),
    MapSpec::new(TaskStorage, 4, PLAIN_VALUE_SIZE, 0).flags(BPF_F_NO_PREALLOC).value(Value::Plain),
    MapSpec::new(DevmapHash, 4, 4, 2),
    MapSpec::new(Array, 4, 1, 1),
    MapSpec::new(ArrayOfMaps, 4, 4, 2).inner(13),
    MapSpec::new(PercpuCgroupStorage, 16, 16, 0),
    MapSpec::new(Array, 4, 32, 1).flags(BPF_F_RDONLY_PROG).text(b"%d %s\0%llu\0plain\0%px %c\0%pI4"),
    MapSpec::new(Array, 4, 48, 1)
        .flags(BPF_F_RDONLY_PROG)
        .text(b"x=%5d %-4s%%\0%pks %pus\0%q\0%ld%lx%i\0%s%s%s%s\0%p"),
    MapSpec::new(Array, 4, 8, 1).flags(BPF_F_RDONLY_PROG).text(b"notended"),
];

struct Contents {
    spec: MapSpec,
}

impl MapContents for Contents {
    fn frozen(&self) -> bool {
        self.spec.frozen
    }

    fn read_value(&self, off: u32, buf: &mut [u8]) -> Result<(), Errno> {
        if self.spec.map_type != Array || self.spec.max_entries != 1 {
            return Err(Errno::ENOTSUPP);
        }
        if off >= self.spec.value_size {
            return Err(Errno::EINVAL);
        }
        for (i, byte) in buf.iter_mut().enumerate() {
            *byte = if self.spec.frozen { self.spec.frozen_byte(off as usize + i) } else { 0 };
        }
        Ok(())
    }
}

/// A map in the kernel, with its view.
pub struct LiveMap {
    pub fd: Fd,
    pub view: Arc<VerifierMap>,
}

/// Descriptors without a kernel, beyond any that a process has.
const OFFLINE_FDS: i32 = 1 << 24;

/// What all workers of a process share.
pub struct World {
    /// There is a kernel to compare with; otherwise descriptors are numbers that no process has.
    live: bool,
    pub fuzz: FuzzBtf,
    pub btf_fd: Fd,
    pub btf: Arc<Btf>,
    pub vmlinux: Option<Arc<Btf>>,
    /// None where the kernel does not make such a map, or where loads make their own.
    pub maps: Vec<Option<LiveMap>>,
}

impl World {
    /// With objects in the live kernel.
    pub fn new() -> Result<World, String> {
        let fuzz = FuzzBtf::build();
        let btf_fd = load_btf(&fuzz)?;
        World::with(true, fuzz, btf_fd)
    }

    #[allow(dead_code)] // For tests, which share this file.
    /// Without a kernel: only our side of a comparison works.
    pub fn offline() -> Result<World, String> {
        World::with(false, FuzzBtf::build(), Fd(OFFLINE_FDS))
    }

    fn with(live: bool, fuzz: FuzzBtf, btf_fd: Fd) -> Result<World, String> {
        let vmlinux =
            Btf::from_kernel_file(std::path::Path::new("/sys/kernel/btf/vmlinux")).ok().map(Arc::new);
        let mut log = Log::new(0, 0, None).map_err(|errno| errno.to_string())?;
        let btf = Btf::parse(fuzz.bytes.clone(), &mut log, &|| vmlinux.clone())
            .map_err(|errno| format!("our BTF check refuses the programs' BTF: {errno}"))?;
        let mut world = World { live, fuzz, btf_fd, btf: Arc::new(btf), vmlinux, maps: Vec::new() };
        for (index, spec) in MAPS.iter().enumerate() {
            let map = if spec.is_bound_by_use() {
                None
            } else {
                let map = world.create_map(index);
                if let Err(errno) = &map {
                    eprintln!("no {:?} map {index} here: errno {errno}", spec.map_type);
                }
                map.ok()
            };
            world.maps.push(map);
        }
        Ok(world)
    }

    /// Makes map `index` of the table.
    pub fn create_map(&self, index: usize) -> Result<LiveMap, i32> {
        let spec = MAPS[index];
        let mut attr = MapCreate {
            map_type: spec.map_type as u32,
            key_size: spec.key_size,
            value_size: spec.value_size,
            max_entries: spec.max_entries,
            map_flags: spec.flags,
            ..MapCreate::zeroed()
        };
        let value_type = match spec.value {
            Value::Bytes => 0,
            Value::Lock => self.fuzz.lock_value,
            Value::Timer => self.fuzz.timer_value,
            Value::Plain => self.fuzz.plain_value,
        };
        if value_type != 0 {
            let key_type = if spec.key_size == 4 { self.fuzz.int } else { self.fuzz.int + 1 };
            (attr.btf_fd, attr.btf_key_type_id, attr.btf_value_type_id) =
                (self.btf_fd.0 as u32, key_type, value_type);
        }
        let name = format!("map_{index}");
        attr.map_name[..name.len()].copy_from_slice(name.as_bytes());
        let inner = match spec.inner {
            Some(inner) => Some(self.maps[inner].as_ref().ok_or(libc::ENOENT)?),
            None => None,
        };
        attr.inner_map_fd = inner.map_or(0, |inner| inner.fd.0 as u32);
        let (fd, map_flags) = if self.live {
            live_map(&spec, &mut attr)?
        } else {
            (Fd(OFFLINE_FDS + 1 + index as i32), own_flags(&spec))
        };
        let record: Option<Arc<BtfRecord>> = match value_type {
            0 => None,
            id => self
                .btf
                .map_record(
                    &self.btf.type_or_void(id),
                    &MapValue {
                        map_type: spec.map_type,
                        map_flags: spec.flags,
                        value_size: spec.value_size,
                        bpf_capable: true,
                    },
                    &|| self.vmlinux.clone(),
                )
                .unwrap_or_default(),
        };
        let view = VerifierMap {
            identity: fd.0 as u64,
            map_type: spec.map_type,
            key_size: spec.key_size,
            value_size: spec.value_size,
            max_entries: spec.max_entries,
            map_flags,
            map_extra: 0,
            name,
            record,
            btf: (value_type != 0).then(|| Arc::clone(&self.btf)),
            btf_value_type_id: value_type,
            inner_map_meta: inner.map(|inner| template(&inner.view)),
            offloaded: false,
            excl_prog_sha: None,
            contents: Arc::new(Contents { spec }),
        };
        Ok(LiveMap { fd, view: Arc::new(view) })
    }
}

/// Makes a map in the kernel; its descriptor, and its flags as the kernel has them.
fn live_map(spec: &MapSpec, attr: &mut MapCreate) -> Result<(Fd, u32), i32> {
    let fd = Fd(bpf(Cmd::MapCreate, attr)? as i32);
    if spec.frozen {
        let key = 0u32;
        let value: Vec<u8> = (0..spec.value_size as usize).map(|at| spec.frozen_byte(at)).collect();
        let mut elem = MapElem {
            map_fd: fd.0 as u32,
            key: &raw const key as u64,
            value: value.as_ptr() as u64,
            ..MapElem::zeroed()
        };
        bpf(Cmd::MapUpdateElem, &mut elem)?;
        bpf(Cmd::MapFreeze, &mut MapElem { map_fd: fd.0 as u32, ..MapElem::zeroed() })?;
    }
    let mut info = MapInfo::zeroed();
    let mut query =
        GetInfo { bpf_fd: fd.0 as u32, info_len: size_of::<MapInfo>() as u32, info: &raw mut info as u64 };
    bpf(Cmd::ObjGetInfoByFd, &mut query)?;
    Ok((fd, info.map_flags))
}

/// The flags that the kernel gives a map: programs may not write to device maps.
fn own_flags(spec: &MapSpec) -> u32 {
    match spec.map_type {
        Devmap | DevmapHash => spec.flags | BPF_F_RDONLY_PROG,
        _ => spec.flags,
    }
}

/// Loads the programs' BTF into the kernel.
fn load_btf(fuzz: &FuzzBtf) -> Result<Fd, String> {
    let mut log = vec![0u8; 1 << 16];
    let mut attr = BtfLoad {
        btf: fuzz.bytes.as_ptr() as u64,
        btf_size: fuzz.bytes.len() as u32,
        btf_log_buf: log.as_mut_ptr() as u64,
        btf_log_size: log.len() as u32,
        btf_log_level: 1,
        ..BtfLoad::zeroed()
    };
    let fd = bpf(Cmd::BtfLoad, &mut attr)
        .map_err(|errno| format!("BTF refused, errno {errno}: {}", String::from_utf8_lossy(&log)))?;
    Ok(Fd(fd as i32))
}

/// What a map of maps keeps of its template: `bpf_map_meta_alloc`.
fn template(inner: &VerifierMap) -> Arc<VerifierMap> {
    Arc::new(VerifierMap {
        identity: inner.identity | 1 << 63,
        map_type: inner.map_type,
        key_size: inner.key_size,
        value_size: inner.value_size,
        max_entries: inner.max_entries,
        map_flags: inner.map_flags,
        map_extra: 0,
        name: String::new(),
        record: inner.record.clone(),
        btf: inner.btf.clone(),
        btf_value_type_id: 0,
        inner_map_meta: None,
        offloaded: false,
        excl_prog_sha: None,
        contents: Arc::clone(&inner.contents),
    })
}
