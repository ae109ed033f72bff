//! `BPF_OBJ_PIN` and `BPF_OBJ_GET`.

use std::ffi::{CString, OsStr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use bpftwin_uapi::Errno;
use bpftwin_uapi::attr::{BPF_F_PATH_FD, Obj};

use super::ids::BPF_OBJ_FLAG_MASK;
use super::map_create::bpf_get_file_flag;
use super::map_elem::ensure;
use super::{Call, Result};
use crate::kernel::objects::Object;
use crate::kernel::pins::{is_in_bpffs, normalize};

/// `PATH_MAX`, the terminating zero included.
const PATH_MAX: usize = 4096;
const PAGE_SIZE: u64 = 4096;

pub(super) fn bpf_obj_pin(call: &Call<'_>) -> Result {
    let attr: Obj = call.part()?;
    ensure(attr.file_flags & !BPF_F_PATH_FD == 0, Errno::EINVAL)?;
    let dir_fd = path_fd(&attr)?;
    // bpf_fd_probe_obj(): maps, programs and links can be pinned.
    let file = call.kernel.file(attr.bpf_fd as i32)?.ok_or(Errno::EINVAL)?;
    if let Object::Btf(_) = file.object {
        return Err(Errno::EINVAL);
    }
    let given = getname(call, attr.pathname)?;
    let path = resolve(dir_fd, &given, false)?;
    if !is_in_bpffs(&path) {
        return Err(outside_error(dir_fd, &given));
    }
    ensure(!given.as_os_str().as_bytes().ends_with(b"/"), Errno::ENOENT)?;
    call.kernel.pins().pin(&path, file.object.clone())?;
    Ok(0)
}

pub(super) fn bpf_obj_get(call: &Call<'_>) -> Result {
    let attr: Obj = call.part()?;
    ensure(attr.bpf_fd == 0 && attr.file_flags & !(BPF_OBJ_FLAG_MASK | BPF_F_PATH_FD) == 0, Errno::EINVAL)?;
    let dir_fd = path_fd(&attr)?;
    let access = bpf_get_file_flag(attr.file_flags)?;
    let given = getname(call, attr.pathname)?;
    let path = resolve(dir_fd, &given, true)?;
    if !is_in_bpffs(&path) {
        // A file that is there is none of bpffs: bpf_inode_type() refuses it, unless its permissions do.
        stat_at(dir_fd, &given, 0)?;
        return Err(Errno::EACCES);
    }
    let object = call.kernel.pins().get(&path)?;
    match &object {
        Object::Map(map) => call.kernel.open_map(map.map(), access),
        Object::Prog(program) => call.kernel.open_program(program),
        Object::Btf(_) => Err(Errno::EACCES),
    }
}

/// The directory that a relative path starts from. A descriptor for it must come with its flag.
fn path_fd(attr: &Obj) -> Result<i32> {
    if attr.file_flags & BPF_F_PATH_FD != 0 {
        return Ok(attr.path_fd);
    }
    ensure(attr.path_fd == 0, Errno::EINVAL)?;
    Ok(libc::AT_FDCWD)
}

/// Copies in a path: `getname`.
fn getname(call: &Call<'_>, address: u64) -> Result<PathBuf> {
    let mut bytes = Vec::new();
    while bytes.len() < PATH_MAX {
        // Up to the end of a page at a time, since the string may end right before one that is not there.
        let at = address.wrapping_add(bytes.len() as u64);
        let count = (PAGE_SIZE - at % PAGE_SIZE).min((PATH_MAX - bytes.len()) as u64) as usize;
        let start = bytes.len();
        bytes.resize(start + count, 0);
        call.memory.read(at, &mut bytes[start..])?;
        if let Some(end) = bytes[start..].iter().position(|&byte| byte == 0) {
            bytes.truncate(start + end);
            ensure(!bytes.is_empty(), Errno::ENOENT)?;
            return Ok(PathBuf::from(std::ffi::OsString::from_vec(bytes)));
        }
    }
    Err(Errno::ENAMETOOLONG)
}

fn last_errno() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

fn stat_at(dir_fd: i32, path: &Path, flags: libc::c_int) -> Result<libc::stat> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: an all-zero stat is a valid value of the plain structure.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // The raw call, since libc's may be intercepted by the preload library that this code lives in.
    // SAFETY: the path is a C string and the structure live and writable.
    let result = unsafe { libc::syscall(libc::SYS_newfstatat, dir_fd, path.as_ptr(), &raw mut stat, flags) };
    if result == 0 { Ok(stat) } else { Err(last_errno()) }
}

/// The absolute path, with links of the host's file system resolved as far as it leads there; `follow` the last
/// component's too. Paths of the emulated bpffs are resolved as text.
fn resolve(dir_fd: i32, path: &Path, follow: bool) -> Result<PathBuf> {
    let absolute = if path.is_absolute() {
        path.to_path_buf()
    } else {
        let base = if dir_fd == libc::AT_FDCWD {
            std::env::current_dir().map_err(|_| Errno::ENOENT)?
        } else {
            let link = format!("/proc/self/fd/{dir_fd}");
            std::fs::read_link(link).map_err(|_| Errno::EBADF)?
        };
        base.join(path)
    };
    let clean = normalize(&absolute);
    if is_in_bpffs(&clean) {
        return Ok(clean);
    }
    // A link may lead into the emulated bpffs, whose place need not exist on the host.
    let mut resolved = PathBuf::from("/");
    let mut links = 0;
    let mut rest: Vec<std::ffi::OsString> =
        clean.iter().rev().filter(|name| *name != OsStr::new("/")).map(OsStr::to_owned).collect();
    while let Some(name) = rest.pop() {
        if name == OsStr::new("..") {
            resolved.pop();
            continue;
        }
        let next = resolved.join(&name);
        if is_in_bpffs(&next) || !follow && rest.is_empty() {
            resolved = next;
            continue;
        }
        match std::fs::read_link(&next) {
            Ok(target) => {
                links += 1;
                ensure(links <= 40, Errno::ELOOP)?;
                if target.is_absolute() {
                    resolved = PathBuf::from("/");
                }
                rest.extend(target.iter().rev().filter(|name| *name != OsStr::new("/")).map(OsStr::to_owned));
            }
            Err(_) => resolved = next,
        }
    }
    Ok(normalize(&resolved))
}

/// Why a pin outside of the emulated bpffs fails: the errors of `start_creating_user_path` come first.
fn outside_error(dir_fd: i32, path: &Path) -> Errno {
    let bytes = path.as_os_str().as_bytes();
    let trimmed = match bytes.iter().rposition(|&byte| byte != b'/') {
        Some(last) => &bytes[..=last],
        None => return Errno::EEXIST,
    };
    let parent = match trimmed.iter().rposition(|&byte| byte == b'/') {
        Some(0) => Path::new("/"),
        Some(slash) => Path::new(OsStr::from_bytes(&trimmed[..slash])),
        None => Path::new("."),
    };
    match stat_at(dir_fd, parent, 0) {
        Err(error) => return error,
        Ok(stat) if stat.st_mode & libc::S_IFMT != libc::S_IFDIR => return Errno::ENOTDIR,
        Ok(_) => {}
    }
    let name = &trimmed[trimmed.iter().rposition(|&byte| byte == b'/').map_or(0, |slash| slash + 1)..];
    if matches!(name, b"." | b"..") {
        return Errno::EEXIST;
    }
    match stat_at(dir_fd, Path::new(OsStr::from_bytes(trimmed)), libc::AT_SYMLINK_NOFOLLOW) {
        Ok(_) => Errno::EEXIST,
        Err(Errno::ENOENT) if trimmed.len() != bytes.len() => Errno::ENOENT,
        Err(Errno::ENOENT) => Errno::EPERM,
        Err(error) => error,
    }
}
