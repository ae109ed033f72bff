//! BPF ELF objects through libbpf: opening them with sentences for what is wrong, and preparing one program to be
//! loaded alone, as veristat does.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char};
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::ptr::{self, NonNull};
use std::str::FromStr;
use std::sync::Once;

use bpftwin_uapi::{AttachType, MapType, ProgType};
use libbpf_sys as sys;

/// Entries that a hash-like map keeps.
const MAX_HASH_ENTRIES: u32 = 4096;

/// A program type as a person writes it: `xdp`, `sched_cls`, `BPF_PROG_TYPE_XDP`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ProgTypeArg(pub ProgType);

impl FromStr for ProgTypeArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let name = text.to_ascii_lowercase();
        let name = name.strip_prefix("bpf_prog_type_").unwrap_or(&name);
        let name = match name {
            "tc" | "tcx" | "cls" | "classifier" => "sched_cls",
            "action" | "act" => "sched_act",
            "socket" => "socket_filter",
            "raw_tp" => "raw_tracepoint",
            "tp" => "tracepoint",
            other => other,
        };
        ProgType::ALL
            .iter()
            .copied()
            .find(|kind| *kind != ProgType::Unspec && short_prog_type(*kind) == name)
            .map(ProgTypeArg)
            .ok_or_else(|| {
                let known: Vec<String> =
                    ProgType::ALL.iter().skip(1).map(|kind| short_prog_type(*kind)).collect();
                format!("unknown program type; known are {}", known.join(", "))
            })
    }
}

/// A program type's short name: `sched_cls`.
pub fn short_prog_type(kind: ProgType) -> String {
    kind.name().trim_start_matches("BPF_PROG_TYPE_").to_ascii_lowercase()
}

thread_local! {
    /// Warnings of libbpf on this thread since they were last taken.
    static WARNINGS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

unsafe extern "C" {
    fn vsnprintf(to: *mut c_char, size: usize, format: *const c_char, args: *mut sys::__va_list_tag) -> i32;
}

unsafe extern "C" fn collect_warning(
    level: sys::libbpf_print_level,
    format: *const c_char,
    args: *mut sys::__va_list_tag,
) -> i32 {
    if level != sys::LIBBPF_WARN {
        return 0;
    }
    let mut text = [0u8; 1024];
    // SAFETY: libbpf gives a format and its arguments; the buffer is writable for its length.
    let len = unsafe { vsnprintf(text.as_mut_ptr().cast(), text.len(), format, args) };
    let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
    // A program's log comes this way too; it is long, and we have it already.
    if !text.windows(8).any(|part| part == b"-- BEGIN") {
        let text = String::from_utf8_lossy(text).trim().trim_start_matches("libbpf: ").to_string();
        let _ = WARNINGS.try_with(|warnings| warnings.borrow_mut().push(text));
    }
    len
}

/// The warnings of libbpf on this thread, which forgets them.
pub fn take_warnings() -> Vec<String> {
    WARNINGS.with(|warnings| std::mem::take(&mut *warnings.borrow_mut()))
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: std::io::Error },
    #[error("{}: is empty", path.display())]
    Empty { path: PathBuf },
    #[error("{}: is not an ELF file", path.display())]
    NotElf { path: PathBuf },
    #[error("{}: is an ELF file, but not a little-endian 64-bit one", path.display())]
    WrongElf { path: PathBuf },
    #[error("{}: is an ELF file for machine {machine}, not for BPF (247)", path.display())]
    WrongMachine { path: PathBuf, machine: u16 },
    #[error("{}: is truncated: its section table reaches to byte {end}, the file has {size}", path.display())]
    Truncated { path: PathBuf, end: u64, size: u64 },
    #[error("{}: cannot be opened as a BPF object: {reason}", path.display())]
    Libbpf { path: PathBuf, reason: String },
}

fn word<const N: usize>(header: &[u8; 64], at: usize) -> [u8; N] {
    let mut word = [0; N];
    word.copy_from_slice(&header[at..at + N]);
    word
}

/// Looks at the file's header, so that a person learns what is wrong in terms of the file.
pub fn check_file(path: &Path) -> Result<(), OpenError> {
    let io = |error| OpenError::Io { path: path.into(), error };
    let metadata = std::fs::metadata(path).map_err(io)?;
    if metadata.is_dir() {
        return Err(io(std::io::Error::from_raw_os_error(libc::EISDIR)));
    }
    let size = metadata.len();
    let mut start = Vec::with_capacity(64);
    File::open(path).map_err(io)?.take(64).read_to_end(&mut start).map_err(io)?;
    if start.is_empty() {
        return Err(OpenError::Empty { path: path.into() });
    }
    if !start.starts_with(b"\x7fELF") {
        return Err(OpenError::NotElf { path: path.into() });
    }
    let Ok(header): Result<[u8; 64], _> = start.try_into() else {
        return Err(OpenError::Truncated { path: path.into(), end: 64, size });
    };
    if header[4..6] != [2, 1] {
        return Err(OpenError::WrongElf { path: path.into() });
    }
    let machine = u16::from_le_bytes(word(&header, 18));
    if machine != 247 {
        return Err(OpenError::WrongMachine { path: path.into(), machine });
    }
    let sections = u64::from_le_bytes(word(&header, 40));
    let (entry, count) = (u16::from_le_bytes(word(&header, 58)), u16::from_le_bytes(word(&header, 60)));
    let end = sections.saturating_add(u64::from(entry) * u64::from(count));
    if end > size {
        return Err(OpenError::Truncated { path: path.into(), end, size });
    }
    Ok(())
}

/// A program of an object, as the object describes it.
#[derive(Clone, Debug)]
pub struct ProgramInfo {
    pub name: String,
    pub section: String,
}

/// An object opened by libbpf.
pub struct Object {
    raw: NonNull<sys::bpf_object>,
}

impl Object {
    /// Opens an object. `btf` is the kernel BTF for CO-RE, where it is not the running kernel's.
    pub fn open(path: &Path, btf: Option<&Path>) -> Result<Self, OpenError> {
        static PRINT: Once = Once::new();
        PRINT.call_once(|| {
            // SAFETY: the callback has the signature that libbpf wants, and lives forever.
            unsafe { sys::libbpf_set_print(Some(collect_warning)) };
        });
        take_warnings();
        let broken = |reason: String| OpenError::Libbpf { path: path.into(), reason };
        let c_path = CString::new(path.as_os_str().as_bytes()).map_err(|error| broken(error.to_string()))?;
        let c_btf = match btf {
            Some(btf) => {
                Some(CString::new(btf.as_os_str().as_bytes()).map_err(|error| broken(error.to_string()))?)
            }
            None => None,
        };
        let options = sys::bpf_object_open_opts {
            sz: size_of::<sys::bpf_object_open_opts>() as sys::size_t,
            btf_custom_path: c_btf.as_ref().map_or(ptr::null(), |btf| btf.as_ptr()),
            ..Default::default()
        };
        // SAFETY: path and options live through the call; libbpf copies what it keeps.
        let raw = unsafe { sys::bpf_object__open_file(c_path.as_ptr(), &raw const options) };
        NonNull::new(raw).map(|raw| Object { raw }).ok_or_else(|| {
            let error = std::io::Error::last_os_error();
            broken(take_warnings().pop().unwrap_or_else(|| error.to_string()))
        })
    }

    fn raw_programs(&self) -> impl Iterator<Item = *mut sys::bpf_program> {
        let mut last = ptr::null_mut();
        std::iter::from_fn(move || {
            // SAFETY: the object lives; `last` is null or a program of it.
            last = unsafe { sys::bpf_object__next_program(self.raw.as_ptr(), last) };
            (!last.is_null()).then_some(last)
        })
    }

    fn raw_maps(&self) -> impl Iterator<Item = *mut sys::bpf_map> {
        let mut last = ptr::null_mut();
        std::iter::from_fn(move || {
            // SAFETY: the object lives; `last` is null or a map of it.
            last = unsafe { sys::bpf_object__next_map(self.raw.as_ptr(), last) };
            (!last.is_null()).then_some(last)
        })
    }

    /// The object's programs in its own order.
    pub fn programs(&self) -> Vec<ProgramInfo> {
        self.raw_programs()
            .map(|prog| {
                // SAFETY: libbpf's strings of a living program.
                unsafe {
                    ProgramInfo {
                        name: text(sys::bpf_program__name(prog)),
                        section: text(sys::bpf_program__section_name(prog)),
                    }
                }
            })
            .collect()
    }

    /// Leaves just the program number `index` to be loaded, with its type and its maps seen to. Gives its type.
    pub fn select(&mut self, index: usize, default_type: Option<ProgType>) -> u32 {
        let mut kind = 0;
        for (i, prog) in self.raw_programs().enumerate() {
            // SAFETY: a program of this living object, which is not loaded yet.
            unsafe {
                sys::bpf_program__set_autoload(prog, i == index);
                if i != index {
                    continue;
                }
                if let (sys::BPF_PROG_TYPE_UNSPEC, Some(default)) =
                    (sys::bpf_program__type(prog), default_type)
                {
                    sys::bpf_program__set_type(prog, default as u32);
                }
                if sys::bpf_program__type(prog) == sys::BPF_PROG_TYPE_EXT {
                    self.guess_replaced(prog);
                }
                kind = sys::bpf_program__type(prog);
                self.prepare_maps(prog);
            }
        }
        kind
    }

    /// Asks for the log of the selected program.
    pub fn set_log(&mut self, index: usize, level: u32, buffer: &mut [u8]) {
        if let Some(prog) = self.raw_programs().nth(index) {
            // SAFETY: a program of this living object; the caller keeps the buffer until the load is over.
            unsafe {
                sys::bpf_program__set_log_level(prog, level);
                sys::bpf_program__set_log_buf(prog, buffer.as_mut_ptr().cast(), buffer.len() as sys::size_t);
            }
        }
    }

    /// Creates maps and BTF, and loads the selected program. The error is a positive error number.
    pub fn load(&mut self) -> Result<(), i32> {
        // SAFETY: the object lives and was not loaded before: this may be called but once, and says so otherwise.
        match unsafe { sys::bpf_object__load(self.raw.as_ptr()) } {
            0 => Ok(()),
            error => Err(-error),
        }
    }

    /// # Safety
    /// `prog` is a program of this object.
    unsafe fn prepare_maps(&self, prog: *mut sys::bpf_program) {
        for map in self.raw_maps() {
            // SAFETY: a map of this living object, which is not created yet.
            unsafe {
                sys::bpf_map__set_pin_path(map, ptr::null());
                match MapType::from_u32(sys::bpf_map__type(map)) {
                    Some(
                        MapType::SkStorage
                        | MapType::TaskStorage
                        | MapType::InodeStorage
                        | MapType::CgroupStorage
                        | MapType::PercpuCgroupStorage
                        | MapType::CgrpStorage,
                    ) => {}
                    Some(MapType::StructOps) => self.mask_other_ops(map, prog),
                    Some(
                        MapType::Hash
                        | MapType::PercpuHash
                        | MapType::LruHash
                        | MapType::LruPercpuHash
                        | MapType::HashOfMaps
                        | MapType::LpmTrie
                        | MapType::Sockhash
                        | MapType::DevmapHash,
                    ) => {
                        let entries = sys::bpf_map__max_entries(map).clamp(1, MAX_HASH_ENTRIES);
                        sys::bpf_map__set_max_entries(map, entries);
                    }
                    _ if sys::bpf_map__max_entries(map) == 0 => {
                        sys::bpf_map__set_max_entries(map, 1);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Takes all programs but `prog` out of a struct_ops map, or else they would be loaded with it.
    ///
    /// # Safety
    /// `map` and `prog` are of this object.
    unsafe fn mask_other_ops(&self, map: *mut sys::bpf_map, prog: *mut sys::bpf_program) {
        // SAFETY: BTF and initial value live as long as the object; every offset is checked against the value's size.
        unsafe {
            let btf = sys::bpf_object__btf(self.raw.as_ptr());
            let ops = sys::btf__type_by_id(btf, sys::bpf_map__btf_value_type_id(map));
            let mut size: sys::size_t = 0;
            let value = sys::bpf_map__initial_value(map, &raw mut size).cast::<u8>();
            if ops.is_null() || value.is_null() || kind(ops) != sys::BTF_KIND_STRUCT {
                return;
            }
            let members = ops.add(1).cast::<sys::btf_member>();
            for i in 0..vlen(ops) {
                let member = *members.add(i);
                let member_type = sys::btf__type_by_id(btf, member.type_);
                let offset = (member.offset / 8) as usize;
                let fits = offset + size_of::<usize>() <= size as usize;
                if member_type.is_null() || kind(member_type) != sys::BTF_KIND_PTR || !fits {
                    continue;
                }
                let slot = value.add(offset).cast::<*mut sys::bpf_program>();
                if slot.read_unaligned() != prog {
                    slot.write_unaligned(ptr::null_mut());
                }
            }
        }
    }

    /// Gives a program that replaces another the type of that other, guessed from its context argument.
    ///
    /// # Safety
    /// `prog` is a program of this object.
    unsafe fn guess_replaced(&self, prog: *mut sys::bpf_program) {
        // SAFETY: types live as long as the object's BTF; each pointer is checked before it is followed.
        unsafe {
            let btf = sys::bpf_object__btf(self.raw.as_ptr());
            if btf.is_null() {
                return;
            }
            let id = sys::btf__find_by_name_kind(btf, sys::bpf_program__name(prog), sys::BTF_KIND_FUNC);
            let Ok(id) = u32::try_from(id) else { return };
            let function = sys::btf__type_by_id(btf, id);
            if function.is_null() {
                return;
            }
            let proto = sys::btf__type_by_id(btf, (*function).__bindgen_anon_1.type_);
            if proto.is_null() || kind(proto) != sys::BTF_KIND_FUNC_PROTO || vlen(proto) != 1 {
                return;
            }
            let argument = skip_modifiers(btf, (*proto.add(1).cast::<sys::btf_param>()).type_);
            if argument.is_null() || kind(argument) != sys::BTF_KIND_PTR {
                return;
            }
            let context = skip_modifiers(btf, (*argument).__bindgen_anon_1.type_);
            if context.is_null() {
                return;
            }
            let name = text(sys::btf__name_by_offset(btf, (*context).name_off));
            if let Some((kind, attach)) = type_by_context(&name) {
                sys::bpf_program__set_type(prog, kind as u32);
                sys::bpf_program__set_expected_attach_type(prog, attach);
            }
        }
    }
}

impl Drop for Object {
    fn drop(&mut self) {
        // SAFETY: opened by us, and not used afterwards.
        unsafe { sys::bpf_object__close(self.raw.as_ptr()) };
    }
}

/// Program types by the names of their contexts in user space and in the kernel.
fn type_by_context(name: &str) -> Option<(ProgType, u32)> {
    let (kind, attach) = match name {
        "__sk_buff" | "sk_buff" => (ProgType::SchedCls, None),
        "bpf_sock" | "sock" => (ProgType::CgroupSock, Some(AttachType::CgroupInet4PostBind)),
        "bpf_sock_addr" | "bpf_sock_addr_kern" => {
            (ProgType::CgroupSockAddr, Some(AttachType::CgroupInet4Bind))
        }
        "bpf_sock_ops" | "bpf_sock_ops_kern" => (ProgType::SockOps, Some(AttachType::CgroupSockOps)),
        "sk_msg_md" | "sk_msg" => (ProgType::SkMsg, Some(AttachType::SkMsgVerdict)),
        "bpf_cgroup_dev_ctx" => (ProgType::CgroupDevice, Some(AttachType::CgroupDevice)),
        "bpf_sysctl" | "bpf_sysctl_kern" => (ProgType::CgroupSysctl, Some(AttachType::CgroupSysctl)),
        "bpf_sockopt" | "bpf_sockopt_kern" => (ProgType::CgroupSockopt, Some(AttachType::CgroupSetsockopt)),
        "sk_reuseport_md" | "sk_reuseport_kern" => {
            (ProgType::SkReuseport, Some(AttachType::SkReuseportSelectOrMigrate))
        }
        "bpf_sk_lookup" | "bpf_sk_lookup_kern" => (ProgType::SkLookup, Some(AttachType::SkLookup)),
        "xdp_md" | "xdp_buff" => (ProgType::Xdp, Some(AttachType::Xdp)),
        "bpf_user_pt_regs_t" | "pt_regs" => (ProgType::Kprobe, None),
        "bpf_perf_event_data" | "bpf_perf_event_data_kern" => (ProgType::PerfEvent, None),
        "bpf_raw_tracepoint_args" => (ProgType::RawTracepoint, None),
        _ => return None,
    };
    Some((kind, attach.map_or(0, |attach| attach as u32)))
}

/// # Safety
/// Null, or a string that ends.
unsafe fn text(raw: *const c_char) -> String {
    if raw.is_null() {
        return String::new();
    }
    // SAFETY: by the caller's promise.
    unsafe { CStr::from_ptr(raw) }.to_string_lossy().into_owned()
}

/// # Safety
/// A type of BTF that lives.
unsafe fn kind(of: *const sys::btf_type) -> u32 {
    // SAFETY: by the caller's promise.
    unsafe { (*of).info >> 24 & 0x1f }
}

/// # Safety
/// A type of BTF that lives.
unsafe fn vlen(of: *const sys::btf_type) -> usize {
    // SAFETY: by the caller's promise.
    unsafe { ((*of).info & 0xffff) as usize }
}

/// # Safety
/// BTF that lives.
unsafe fn skip_modifiers(btf: *const sys::btf, mut id: u32) -> *const sys::btf_type {
    loop {
        // SAFETY: libbpf checks the id; a type is followed only if there is one.
        unsafe {
            let found = sys::btf__type_by_id(btf, id);
            let modifier = !found.is_null()
                && matches!(
                    kind(found),
                    sys::BTF_KIND_CONST
                        | sys::BTF_KIND_VOLATILE
                        | sys::BTF_KIND_RESTRICT
                        | sys::BTF_KIND_TYPE_TAG
                );
            if !modifier {
                return found;
            }
            id = (*found).__bindgen_anon_1.type_;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn program_types_by_name() {
        assert_eq!("xdp".parse(), Ok(ProgTypeArg(ProgType::Xdp)));
        assert_eq!("BPF_PROG_TYPE_SCHED_CLS".parse(), Ok(ProgTypeArg(ProgType::SchedCls)));
        assert_eq!("tc".parse(), Ok(ProgTypeArg(ProgType::SchedCls)));
        assert!("unspec".parse::<ProgTypeArg>().is_err());
    }

    #[test]
    fn says_what_is_wrong_with_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.o");
        assert!(matches!(check_file(&path), Err(OpenError::Io { .. })));
        std::fs::write(&path, "").unwrap();
        assert!(matches!(check_file(&path), Err(OpenError::Empty { .. })));
        std::fs::write(&path, "#!/bin/sh").unwrap();
        assert!(matches!(check_file(&path), Err(OpenError::NotElf { .. })));
        let mut elf = [0u8; 64];
        elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
        elf[18] = 62;
        std::fs::write(&path, elf).unwrap();
        assert!(matches!(check_file(&path), Err(OpenError::WrongMachine { machine: 62, .. })));
        elf[18] = 247;
        (elf[41], elf[58], elf[60]) = (1, 64, 2);
        std::fs::write(&path, elf).unwrap();
        assert!(matches!(check_file(&path), Err(OpenError::Truncated { end: 384, size: 64, .. })));
    }
}
