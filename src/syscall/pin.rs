//! `BPF_OBJ_PIN` and `BPF_OBJ_GET`.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::PathBuf;

use bpftwin_uapi::Errno;
use bpftwin_uapi::attr::{BPF_F_PATH_FD, Obj};

use super::ids::BPF_OBJ_FLAG_MASK;
use super::map_create::bpf_get_file_flag;
use super::map_elem::ensure;
use super::path::{self, NewPath};
use super::{Call, Result};
use crate::kernel::objects::Object;
use crate::kernel::pins::is_in_bpffs;

/// `PATH_MAX`, the terminating zero included.
const PATH_MAX: usize = 4096;
const PAGE_SIZE: u64 = 4096;

pub(super) fn bpf_obj_pin(call: &Call<'_>) -> Result {
    let attr: Obj = call.part()?;
    ensure(attr.file_flags & !BPF_F_PATH_FD == 0, Errno::EINVAL)?;
    let dir_fd = path_fd(&attr)?;
    // bpf_fd_probe_obj(): maps, programs and links can be pinned.
    let file = call.kernel.file(attr.bpf_fd as i32)?.ok_or(Errno::EINVAL)?;
    if let Object::Btf(_) | Object::Bcf(_) = file.object {
        return Err(Errno::EINVAL);
    }
    let given = getname(call, attr.pathname)?;
    let pins = call.kernel.pins();
    let NewPath { dir, name, trailing_slash } = path::create(pins, dir_fd, &given)?;
    let path = dir.join(name);
    if is_in_bpffs(&path) {
        if trailing_slash {
            // What is there, or cannot be, is told first.
            return Err(pins.check_new(&path).err().unwrap_or(Errno::ENOENT));
        }
        pins.pin(&path, file.object.clone())?;
        return Ok(0);
    }
    ensure(!path::exists(&path)?, Errno::EEXIST)?;
    ensure(!trailing_slash, Errno::ENOENT)?;
    Err(Errno::EPERM)
}

pub(super) fn bpf_obj_get(call: &Call<'_>) -> Result {
    let attr: Obj = call.part()?;
    ensure(attr.bpf_fd == 0 && attr.file_flags & !(BPF_OBJ_FLAG_MASK | BPF_F_PATH_FD) == 0, Errno::EINVAL)?;
    let dir_fd = path_fd(&attr)?;
    let access = bpf_get_file_flag(attr.file_flags)?;
    let given = getname(call, attr.pathname)?;
    let pins = call.kernel.pins();
    let path = path::lookup(pins, dir_fd, &given)?;
    // A file outside is none of bpffs: bpf_inode_type() refuses it.
    ensure(is_in_bpffs(&path), Errno::EACCES)?;
    let object = pins.get(&path)?;
    match &object {
        Object::Map(map) => call.kernel.open_map(map.map(), access),
        Object::Prog(program) => call.kernel.open_program(program),
        Object::Btf(_) | Object::Bcf(_) => Err(Errno::EACCES),
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
            return Ok(PathBuf::from(OsString::from_vec(bytes)));
        }
    }
    Err(Errno::ENAMETOOLONG)
}
