//! `BPF_*_GET_NEXT_ID` and `BPF_*_GET_FD_BY_ID`.

use std::mem::offset_of;

use bpftwin_uapi::attr::{BPF_F_RDONLY, BPF_F_TOKEN_FD, BPF_F_WRONLY, GetId};
use bpftwin_uapi::{Cmd, Errno};

use super::map_create::{bpf_get_file_flag, bpf_token_get_from_fd};
use super::map_elem::ensure;
use super::{Call, Result};

/// `BPF_OBJ_FLAG_MASK`.
pub(super) const BPF_OBJ_FLAG_MASK: u32 = BPF_F_RDONLY | BPF_F_WRONLY;

pub(super) fn bpf_obj_get_next_id(call: &Call<'_>) -> Result {
    let attr: GetId = call.part()?;
    ensure(attr.id < i32::MAX as u32, Errno::EINVAL)?;
    ensure(call.caps.sys_admin(), Errno::EPERM)?;
    let from = attr.id + 1;
    let next = match call.cmd {
        Cmd::ProgGetNextId => call.kernel.programs().next_from(from),
        Cmd::MapGetNextId => call.kernel.maps().next_from(from),
        Cmd::BtfGetNextId => call.kernel.btfs().next_from(from),
        // No links can be made.
        _ => None,
    };
    call.put_attr(offset_of!(GetId, next_id), next.ok_or(Errno::ENOENT)?)?;
    Ok(0)
}

pub(super) fn bpf_prog_get_fd_by_id(call: &Call<'_>) -> Result {
    let attr: GetId = call.part()?;
    ensure(call.caps.sys_admin(), Errno::EPERM)?;
    let program = call.kernel.programs().get(attr.id).ok_or(Errno::ENOENT)?;
    call.kernel.open_program(&program)
}

pub(super) fn bpf_map_get_fd_by_id(call: &Call<'_>) -> Result {
    let attr: GetId = call.part()?;
    ensure(attr.open_flags & !BPF_OBJ_FLAG_MASK == 0, Errno::EINVAL)?;
    ensure(call.caps.sys_admin(), Errno::EPERM)?;
    let access = bpf_get_file_flag(attr.open_flags)?;
    let map = call.kernel.maps().get(attr.id).ok_or(Errno::ENOENT)?;
    call.kernel.open_map(&map, access)
}

pub(super) fn bpf_btf_get_fd_by_id(call: &Call<'_>) -> Result {
    let attr: GetId = call.part()?;
    ensure(attr.open_flags & !BPF_F_TOKEN_FD == 0, Errno::EINVAL)?;
    if attr.open_flags & BPF_F_TOKEN_FD != 0 {
        bpf_token_get_from_fd(call, attr.fd_by_id_token_fd)?;
    }
    ensure(call.caps.sys_admin(), Errno::EPERM)?;
    let btf = call.kernel.btfs().get(attr.id).ok_or(Errno::ENOENT)?;
    call.kernel.open_btf(&btf)
}

pub(super) fn bpf_link_get_fd_by_id(call: &Call<'_>) -> Result {
    call.check_attr()?;
    ensure(call.caps.sys_admin(), Errno::EPERM)?;
    // No links can be made.
    Err(Errno::ENOENT)
}
