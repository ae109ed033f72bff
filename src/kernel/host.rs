//! The kernel that runs here, seen through its bpf(2): what the verification of a program needs of maps, BTF and
//! programs that live there.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use bpftwin_uapi::attr::{BPF_F_TOKEN_FD, GetId, GetInfo, MapElem, ProgLoad};
use bpftwin_uapi::info::{BtfInfo, MapInfo, ProgInfo};
use bpftwin_uapi::insn::{BPF_ALU64, BPF_CALL, BPF_EXIT, BPF_JMP, BPF_K, BPF_MOV, BPF_X};
use bpftwin_uapi::{Cmd, Errno, HelperId, Insn, MapType, ProgType};
use bytemuck::{Pod, Zeroable};

use super::own_memory::OwnMemory;
use super::raw;
use super::settings::VMLINUX_BTF;
use super::user_memory::UserMemory;
use crate::btf::{Btf, MapValue};
use crate::verifier::log::Log;
use crate::verifier::prog::{MapContents, Objects, TargetProg, VerifierMap};

/// Parsed BTF objects that are kept.
const MAX_BTFS: usize = 256;
/// Where descriptors of our own go, out of the way of the program's.
const OWN_FDS_FROM: i32 = 700;

/// Makes a bpf(2) call with attributes of our own.
///
/// # Safety
/// The addresses in `attr` must be what the command takes.
pub unsafe fn bpf<T: Pod>(cmd: Cmd, attr: &mut T) -> Result<i64, Errno> {
    // SAFETY: the attributes are live and of the size that is given; their addresses are the caller's promise.
    unsafe { raw::bpf(cmd as u32, (attr as *mut T) as u64, size_of::<T>() as u32) }
}

/// A descriptor of our own.
pub struct OwnFd(i32);

impl OwnFd {
    /// A copy of another descriptor.
    fn copy_of(fd: i32) -> Result<Self, Errno> {
        for from in [OWN_FDS_FROM, 0] {
            let args = [fd as u64, libc::F_DUPFD_CLOEXEC as u64, from as u64, 0, 0, 0];
            // SAFETY: F_DUPFD_CLOEXEC takes an integer.
            match raw::check(unsafe { raw::syscall(libc::SYS_fcntl, args) }) {
                Ok(copy) => return Ok(OwnFd(copy as i32)),
                // Beyond the limit of open files: anywhere then.
                Err(Errno::EINVAL) => continue,
                Err(error) => return Err(error),
            }
        }
        Err(Errno::EMFILE)
    }

    /// A descriptor of an object by its id.
    fn by_id(cmd: Cmd, id: u32) -> Result<Self, Errno> {
        let mut attr = GetId { id, ..GetId::default() };
        // SAFETY: the attributes hold no addresses.
        let fd = OwnFd(unsafe { bpf(cmd, &mut attr)? } as i32);
        OwnFd::copy_of(fd.0)
    }

    /// The number.
    pub fn raw(&self) -> i32 {
        self.0
    }
}

impl Drop for OwnFd {
    fn drop(&mut self) {
        // SAFETY: closes a descriptor of our own.
        unsafe { raw::syscall(libc::SYS_close, [self.0 as u64, 0, 0, 0, 0, 0]) };
    }
}

/// `BPF_OBJ_GET_INFO_BY_FD`; `info` may hold addresses to fill.
fn info_by_fd<T: Pod>(fd: i32, info: &mut T) -> Result<(), Errno> {
    let mut attr =
        GetInfo { bpf_fd: fd as u32, info_len: size_of::<T>() as u32, info: (info as *mut T) as u64 };
    // SAFETY: `info` is live and of the length that is given.
    unsafe { bpf(Cmd::ObjGetInfoByFd, &mut attr) }.map(|_| ())
}

/// Kinds of descriptors.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Map,
    Prog,
    Btf,
    Token,
    Other,
}

/// The kind of a descriptor: `EBADF` where there is none.
fn kind_of(fd: i32) -> Result<Kind, Errno> {
    let path = format!("/proc/self/fd/{fd}\0");
    let mut target = [0u8; 64];
    let args =
        [libc::AT_FDCWD as u64, path.as_ptr() as u64, target.as_mut_ptr() as u64, target.len() as u64, 0, 0];
    // SAFETY: the path is a C string, the buffer is writable for its length.
    let len = raw::check(unsafe { raw::syscall(libc::SYS_readlinkat, args) }).map_err(|_| Errno::EBADF)?;
    Ok(match &target[..(len as usize).min(target.len())] {
        b"anon_inode:bpf-map" => Kind::Map,
        b"anon_inode:bpf-prog" => Kind::Prog,
        b"anon_inode:btf" => Kind::Btf,
        b"anon_inode:bpf-token" => Kind::Token,
        _ => Kind::Other,
    })
}

fn expect(fd: i32, kind: Kind) -> Result<(), Errno> {
    if kind_of(fd)? == kind { Ok(()) } else { Err(Errno::EINVAL) }
}

/// The value after `name:` in `/proc/self/fdinfo`.
fn fdinfo(fd: i32, name: &str) -> Option<String> {
    let text = std::fs::read_to_string(format!("/proc/self/fdinfo/{fd}")).ok()?;
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim().to_string()))
}

/// What is remembered of the running kernel's objects.
#[derive(Default)]
pub struct Host {
    vmlinux: OnceLock<Option<Arc<Btf>>>,
    btfs: Mutex<HashMap<u32, Arc<Btf>>>,
    /// Templates of inner maps, by the id of the map of maps.
    templates: Mutex<HashMap<u32, Arc<VerifierMap>>>,
    /// Why an object could not be looked up that the kernel itself knows.
    hidden: Mutex<Option<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Host {
    /// The kernel's own BTF, where it shows one.
    pub fn vmlinux(&self) -> Option<Arc<Btf>> {
        self.vmlinux.get_or_init(|| Btf::from_kernel_file(Path::new(VMLINUX_BTF)).ok().map(Arc::new)).clone()
    }

    /// The sysctl `kernel.unprivileged_bpf_disabled`.
    pub fn unprivileged_bpf_disabled() -> bool {
        std::fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled")
            .is_ok_and(|text| text.trim() != "0")
    }

    /// Whether programs cannot have `bpf_probe_write_user`, as under lockdown: nothing else tells where securityfs is not
    /// mounted, so a program is loaded that calls it.
    pub fn locks_write_user() -> bool {
        let insn = |code, dst, src, imm| Insn::new(code, dst, src, 0, imm);
        let insns = [
            insn(BPF_ALU64 | BPF_MOV | BPF_X, 1, 10, 0),
            insn(BPF_ALU64 | BPF_MOV | BPF_X, 2, 10, 0),
            insn(BPF_ALU64 | BPF_MOV | BPF_K, 3, 0, 0),
            insn(BPF_JMP | BPF_CALL, 0, 0, HelperId::ProbeWriteUser as i32),
            insn(BPF_JMP | BPF_EXIT, 0, 0, 0),
        ];
        let mut log = [0u8; 4096];
        let mut load = ProgLoad {
            prog_type: ProgType::Kprobe as u32,
            insn_cnt: insns.len() as u32,
            insns: insns.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            log_level: 1,
            log_size: log.len() as u32,
            log_buf: log.as_mut_ptr() as u64,
            ..ProgLoad::zeroed()
        };
        // SAFETY: instructions, license and log buffer are live and of the lengths that are given.
        match unsafe { bpf(Cmd::ProgLoad, &mut load) } {
            Ok(fd) => {
                drop(OwnFd(fd as i32));
                false
            }
            Err(_) => String::from_utf8_lossy(&log).contains("cannot use helper"),
        }
    }

    /// What could not be looked up since this was last asked.
    pub fn take_hidden(&self) -> Option<String> {
        lock(&self.hidden).take()
    }

    /// Remembers BTF that was just loaded: looking it up by its id later may not be allowed.
    pub fn note_btf(&self, fd: i32) {
        let _ = self.btf_by_fd(fd);
    }

    /// Remembers the template of a map of maps that was just created with `inner_map_fd`.
    pub fn note_map_of_maps(&self, fd: i32, inner_map_fd: i32) {
        let mut info = MapInfo::zeroed();
        if info_by_fd(fd, &mut info).is_err() {
            return;
        }
        if let Ok(template) = self.map_by_fd(inner_map_fd).map(template_of) {
            lock(&self.templates).insert(info.id, template);
        }
    }

    /// The map behind a descriptor.
    pub fn map_by_fd(&self, fd: i32) -> Result<Arc<VerifierMap>, Errno> {
        expect(fd, Kind::Map)?;
        let mut info = MapInfo::zeroed();
        info_by_fd(fd, &mut info)?;
        let map_type = MapType::from_u32(info.kind).ok_or(Errno::EOPNOTSUPP)?;
        let btf = if info.btf_id == 0 { None } else { Some(self.btf_by_id(info.btf_id)?) };
        let record = match &btf {
            Some(btf) if info.btf_value_type_id != 0 => {
                let value = btf.type_or_void(info.btf_value_type_id);
                let map = MapValue {
                    map_type,
                    value_size: info.value_size,
                    map_flags: info.map_flags,
                    bpf_capable: true,
                };
                btf.map_record(&value, &map, &|| self.vmlinux()).unwrap_or_default()
            }
            _ => None,
        };
        let inner_map_meta = match map_type {
            MapType::ArrayOfMaps | MapType::HashOfMaps => self.template(fd, &info),
            _ => None,
        };
        let end = info.name.iter().position(|&byte| byte == 0).unwrap_or(info.name.len());
        Ok(Arc::new(VerifierMap {
            identity: u64::from(info.id),
            map_type,
            key_size: info.key_size,
            value_size: info.value_size,
            max_entries: info.max_entries,
            map_flags: info.map_flags & !BPF_F_TOKEN_FD,
            map_extra: info.map_extra,
            name: String::from_utf8_lossy(&info.name[..end]).into_owned(),
            record,
            btf,
            btf_value_type_id: info.btf_value_type_id,
            inner_map_meta,
            offloaded: info.ifindex != 0,
            excl_prog_sha: None,
            contents: Arc::new(HostContents {
                fd: OwnFd::copy_of(fd)?,
                map_type,
                value_size: info.value_size,
                max_entries: info.max_entries,
                value: OnceLock::new(),
            }),
        }))
    }

    /// The template of a map of maps: remembered from its creation, or else one of the maps in it, which conform to the
    /// template in all that programs see but the number of entries of some.
    fn template(&self, fd: i32, info: &MapInfo) -> Option<Arc<VerifierMap>> {
        if let Some(template) = lock(&self.templates).get(&info.id) {
            return Some(Arc::clone(template));
        }
        let mut key = vec![0u8; info.key_size as usize];
        let mut next = vec![0u8; info.key_size as usize];
        let mut first = true;
        for _ in 0..info.max_entries.min(64) {
            let mut attr = MapElem {
                map_fd: fd as u32,
                key: if first { 0 } else { key.as_ptr() as u64 },
                value: next.as_mut_ptr() as u64,
                ..MapElem::zeroed()
            };
            // SAFETY: both keys are live and of the map's key size.
            unsafe { bpf(Cmd::MapGetNextKey, &mut attr) }.ok()?;
            std::mem::swap(&mut key, &mut next);
            first = false;
            let mut id = 0u32;
            let mut attr = MapElem {
                map_fd: fd as u32,
                key: key.as_ptr() as u64,
                value: &raw mut id as u64,
                ..MapElem::zeroed()
            };
            // SAFETY: the key is of the map's key size; values of maps of maps are ids of four bytes.
            if unsafe { bpf(Cmd::MapLookupElem, &mut attr) }.is_ok()
                && let Ok(inner) = OwnFd::by_id(Cmd::MapGetFdById, id)
            {
                return self.map_by_fd(inner.raw()).ok().map(template_of);
            }
        }
        None
    }

    /// The BTF object behind a descriptor.
    pub fn btf_by_fd(&self, fd: i32) -> Result<Arc<Btf>, Errno> {
        expect(fd, Kind::Btf)?;
        let mut info = BtfInfo::zeroed();
        info_by_fd(fd, &mut info)?;
        self.btf(fd, info)
    }

    fn btf_by_id(&self, id: u32) -> Result<Arc<Btf>, Errno> {
        if let Some(btf) = lock(&self.btfs).get(&id) {
            return Ok(Arc::clone(btf));
        }
        let fd = OwnFd::by_id(Cmd::BtfGetFdById, id).inspect_err(|error| {
            *lock(&self.hidden) = Some(format!("BTF of a map or program that cannot be looked up ({error})"));
        })?;
        self.btf_by_fd(fd.raw())
    }

    fn btf(&self, fd: i32, info: BtfInfo) -> Result<Arc<Btf>, Errno> {
        if let Some(btf) = lock(&self.btfs).get(&info.id) {
            return Ok(Arc::clone(btf));
        }
        let mut name = [0u8; 64];
        let mut data = vec![0u8; info.btf_size as usize];
        let mut full = BtfInfo {
            btf: data.as_mut_ptr() as u64,
            btf_size: info.btf_size,
            name: name.as_mut_ptr() as u64,
            name_len: name.len() as u32,
            ..BtfInfo::zeroed()
        };
        info_by_fd(fd, &mut full)?;
        let end = name.iter().position(|&byte| byte == 0).unwrap_or(name.len());
        let name = String::from_utf8_lossy(&name[..end]);
        let btf = match (info.kernel_btf != 0, &*name) {
            (true, "vmlinux") => self.vmlinux().ok_or(Errno::EOPNOTSUPP)?,
            (true, module) => Arc::new(
                Btf::from_kernel_bytes(data, module, Some(self.vmlinux().ok_or(Errno::EOPNOTSUPP)?))
                    .ok_or(Errno::EOPNOTSUPP)?,
            ),
            (false, _) => {
                let mut log = Log::new(0, 0, None)?;
                Arc::new(Btf::parse(data, &mut log, &|| self.vmlinux())?)
            }
        };
        let mut btfs = lock(&self.btfs);
        if btfs.len() >= MAX_BTFS {
            btfs.clear();
        }
        btfs.insert(info.id, Arc::clone(&btf));
        Ok(btf)
    }
}

/// What a map of maps keeps of its template: `bpf_map_meta_alloc`.
fn template_of(inner: Arc<VerifierMap>) -> Arc<VerifierMap> {
    Arc::new(VerifierMap {
        // Apart from the maps that are in use: ids have 32 bits.
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
        contents: Arc::new(NoContents),
    })
}

struct NoContents;

impl MapContents for NoContents {
    fn frozen(&self) -> bool {
        false
    }

    fn read_value(&self, _off: u32, _buf: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::ENOTSUPP)
    }
}

/// Contents of a map of the running kernel.
struct HostContents {
    fd: OwnFd,
    map_type: MapType,
    value_size: u32,
    max_entries: u32,
    /// The value of a frozen array, read once.
    value: OnceLock<Result<Vec<u8>, Errno>>,
}

impl MapContents for HostContents {
    fn frozen(&self) -> bool {
        fdinfo(self.fd.raw(), "frozen").is_some_and(|frozen| frozen == "1")
    }

    fn read_value(&self, off: u32, buf: &mut [u8]) -> Result<(), Errno> {
        if self.map_type != MapType::Array || self.max_entries != 1 {
            return Err(Errno::ENOTSUPP);
        }
        let size = u64::from(self.value_size).next_multiple_of(8);
        if off >= self.value_size || buf.len() as u64 > size - u64::from(off) {
            return Err(Errno::EINVAL);
        }
        if buf.is_empty() {
            return Ok(());
        }
        let value = self.value.get_or_init(|| {
            let mut value = vec![0u8; size as usize];
            let key = 0u32;
            let mut attr = MapElem {
                map_fd: self.fd.raw() as u32,
                key: &raw const key as u64,
                value: value.as_mut_ptr() as u64,
                ..MapElem::zeroed()
            };
            // SAFETY: the key has the four bytes of an array's, the buffer at least the value's size.
            unsafe { bpf(Cmd::MapLookupElem, &mut attr) }.map(|_| value)
        });
        let value = value.as_ref().map_err(|error| *error)?;
        let off = off as usize;
        buf.copy_from_slice(value.get(off..off + buf.len()).ok_or(Errno::EINVAL)?);
        Ok(())
    }
}

/// The running kernel's objects, for the verification of a program that this process loads there.
pub struct HostObjects {
    pub host: Arc<Host>,
}

impl Objects for HostObjects {
    fn map_by_fd(&self, fd: i32) -> Result<Arc<VerifierMap>, Errno> {
        self.host.map_by_fd(fd)
    }

    fn btf_by_fd(&self, fd: i32) -> Result<Arc<Btf>, Errno> {
        self.host.btf_by_fd(fd)
    }

    fn prog_by_fd(&self, fd: i32) -> Result<TargetProg, Errno> {
        expect(fd, Kind::Prog)?;
        let mut info = ProgInfo::zeroed();
        info_by_fd(fd, &mut info)?;
        let btf = if info.btf_id == 0 { None } else { Some(self.host.btf_by_id(info.btf_id)?) };
        Ok(TargetProg {
            prog_type: ProgType::from_u32(info.kind).ok_or(Errno::EOPNOTSUPP)?,
            // The kernel does not tell.
            expected_attach_type: 0,
            dev_bound: info.ifindex != 0,
            offloaded: false,
            btf,
        })
    }

    fn token_by_fd(&self, fd: i32) -> Result<(), Errno> {
        match kind_of(fd)? {
            Kind::Token => Err(Errno::EOPNOTSUPP),
            _ => Err(Errno::EINVAL),
        }
    }

    fn read_user(&self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        OwnMemory.read(address, buf)
    }
}
