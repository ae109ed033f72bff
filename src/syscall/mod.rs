//! bpf(2): dispatch and the rules for the size of its attributes (`__sys_bpf`), and one file per command family.

mod batch;
mod btf;
pub mod check;
pub mod divergence;
mod ids;
mod info;
mod map_create;
mod map_elem;
mod path;
mod pin;
pub mod prog_load;
mod progs;
mod token;

use std::sync::Arc;

use bpftwin_uapi::attr::{self, ATTR_SIZE_BCF};
use bpftwin_uapi::{Cmd, Errno};
use bytemuck::Pod;

use crate::kernel::Kernel;
use crate::kernel::caps::CapSet;
use crate::kernel::user_memory::UserMemory;

/// Result of a command: the descriptor, count or zero that bpf(2) returns.
pub type Result<T = i32> = std::result::Result<T, Errno>;

/// Structures from user space larger than this are refused unseen: `PAGE_SIZE`.
const SILLY_LARGE: u32 = 4096;

/// One bpf(2) call.
pub(crate) struct Call<'a> {
    pub kernel: &'a Arc<Kernel>,
    pub memory: &'a Arc<dyn UserMemory + Send + Sync>,
    pub cmd: Cmd,
    /// Capabilities of the caller.
    pub caps: CapSet,
    /// The caller's attributes, with zeros behind.
    pub attr: [u8; ATTR_SIZE_BCF],
    /// Where the attributes are in the caller's memory.
    pub uattr: u64,
    /// Bytes of them that the kernel knows.
    pub size: u32,
}

/// Answers bpf(2): `cmd`, the address of the attributes, and their size.
pub fn bpf(
    kernel: &Arc<Kernel>,
    memory: &Arc<dyn UserMemory + Send + Sync>,
    cmd: i32,
    uattr: u64,
    size: u32,
) -> Result {
    let known = kernel.profile().attr_size.min(ATTR_SIZE_BCF);
    bpf_check_uarg_tail_zero(&**memory, uattr, known, size)?;
    let size = size.min(known as u32);
    let mut attr = [0; ATTR_SIZE_BCF];
    memory.read(uattr, &mut attr[..size as usize])?;
    let cmd = u32::try_from(cmd).ok().and_then(Cmd::from_u32).ok_or(Errno::EINVAL)?;
    dispatch(&Call { kernel, memory, cmd, caps: kernel.caps(), attr, uattr, size })
}

fn dispatch(call: &Call<'_>) -> Result {
    match call.cmd {
        Cmd::MapCreate => map_create::map_create(call),
        Cmd::MapLookupElem => map_elem::map_lookup_elem(call),
        Cmd::MapUpdateElem => map_elem::map_update_elem(call),
        Cmd::MapDeleteElem => map_elem::map_delete_elem(call),
        Cmd::MapGetNextKey => map_elem::map_get_next_key(call),
        Cmd::MapLookupAndDeleteElem => map_elem::map_lookup_and_delete_elem(call),
        Cmd::MapFreeze => map_elem::map_freeze(call),
        Cmd::MapLookupBatch | Cmd::MapLookupAndDeleteBatch | Cmd::MapUpdateBatch | Cmd::MapDeleteBatch => {
            batch::bpf_map_do_batch(call)
        }
        Cmd::ProgLoad => prog_load::bpf_prog_load(call),
        Cmd::ProgBindMap => progs::bpf_prog_bind_map(call),
        Cmd::ProgStreamReadByFd => progs::prog_stream_read(call),
        Cmd::ObjPin => pin::bpf_obj_pin(call),
        Cmd::ObjGet => pin::bpf_obj_get(call),
        Cmd::ProgGetNextId | Cmd::MapGetNextId | Cmd::BtfGetNextId | Cmd::LinkGetNextId => {
            ids::bpf_obj_get_next_id(call)
        }
        Cmd::ProgGetFdById => ids::bpf_prog_get_fd_by_id(call),
        Cmd::MapGetFdById => ids::bpf_map_get_fd_by_id(call),
        Cmd::BtfGetFdById => ids::bpf_btf_get_fd_by_id(call),
        Cmd::LinkGetFdById => ids::bpf_link_get_fd_by_id(call),
        Cmd::ObjGetInfoByFd => info::bpf_obj_get_info_by_fd(call),
        Cmd::BtfLoad => btf::bpf_btf_load(call),
        Cmd::TokenCreate => token::token_create(call),
        Cmd::ProgAttach
        | Cmd::ProgDetach
        | Cmd::ProgTestRun
        | Cmd::ProgQuery
        | Cmd::RawTracepointOpen
        | Cmd::TaskFdQuery
        | Cmd::LinkCreate
        | Cmd::LinkUpdate
        | Cmd::LinkDetach
        | Cmd::EnableStats
        | Cmd::IterCreate => {
            call.check_attr()?;
            Err(call.not_emulated(call.cmd.name()))
        }
    }
}

impl Call<'_> {
    /// `CHECK_ATTR`: no byte behind the command's last field is set.
    pub fn check_attr(&self) -> Result<()> {
        let end = match self.cmd {
            // Where there is no BCF its fields are behind the end of the union.
            Cmd::ProgLoad => attr::PROG_LOAD_LAST_FIELD_END_BCF,
            cmd => attr::last_field_end(cmd),
        };
        if self.attr[end..].iter().any(|&byte| byte != 0) { Err(Errno::EINVAL) } else { Ok(()) }
    }

    /// The command's own part of the attributes, after [`Call::check_attr`].
    pub fn part<T: Pod>(&self) -> Result<T> {
        self.check_attr()?;
        Ok(attr::part(&self.attr))
    }

    /// `put_user` to a field of the caller's attributes.
    pub fn put_attr(&self, offset: usize, value: u32) -> Result<()> {
        self.memory.write(self.uattr.wrapping_add(offset as u64), &value.to_ne_bytes())
    }

    /// The answer to what is not emulated.
    pub fn not_emulated(&self, what: &str) -> Errno {
        self.kernel.not_emulated(what)
    }
}

/// `bpf_check_uarg_tail_zero`: a structure larger than the kernel's own may only have zeros behind.
pub(crate) fn bpf_check_uarg_tail_zero(
    memory: &dyn UserMemory,
    address: u64,
    expected: usize,
    actual: u32,
) -> Result<()> {
    if actual > SILLY_LARGE {
        return Err(Errno::E2BIG);
    }
    let actual = actual as usize;
    if actual <= expected {
        return Ok(());
    }
    let mut tail = [0; SILLY_LARGE as usize];
    let tail = &mut tail[..actual - expected];
    memory.read(address.wrapping_add(expected as u64), tail)?;
    if tail.iter().any(|&byte| byte != 0) { Err(Errno::E2BIG) } else { Ok(()) }
}

#[cfg(test)]
mod tests;
