//! `BPF_OBJ_GET_INFO_BY_FD`.

use std::mem::offset_of;
use std::sync::Arc;

use bpftwin_uapi::Errno;
use bpftwin_uapi::attr::GetInfo;
use bpftwin_uapi::info::{BtfInfo, FuncInfo, LineInfo, MapInfo, ProgInfo};
use bytemuck::Pod;
use sha2::{Digest, Sha256};

use super::map_elem::ensure;
use super::{Call, Result, bpf_check_uarg_tail_zero};
use crate::kernel::objects::{BtfObject, Object, Program};
use crate::maps::{Contents, Map};

/// `SHA256_DIGEST_SIZE`.
const SHA256_DIGEST_SIZE: u32 = 32;

pub(super) fn bpf_obj_get_info_by_fd(call: &Call<'_>) -> Result {
    let attr: GetInfo = call.part()?;
    let file = match call.kernel.file(attr.bpf_fd as i32) {
        Err(_) => return Err(Errno::EBADFD),
        Ok(file) => file.ok_or(Errno::EINVAL)?,
    };
    match &file.object {
        Object::Prog(program) => bpf_prog_get_info_by_fd(call, &attr, program),
        Object::Map(map) => bpf_map_get_info_by_fd(call, &attr, map.map()),
        Object::Btf(btf) => btf_get_info_by_fd(call, &attr, btf),
        Object::Bcf(_) => Err(Errno::EINVAL),
    }
}

/// Copies in as much of an information structure as the caller has.
fn copy_in<T: Pod>(call: &Call<'_>, attr: &GetInfo) -> Result<T> {
    bpf_check_uarg_tail_zero(&**call.memory, attr.info, size_of::<T>(), attr.info_len)?;
    let mut info = T::zeroed();
    let len = size_of::<T>().min(attr.info_len as usize);
    call.memory.read(attr.info, &mut bytemuck::bytes_of_mut(&mut info)[..len])?;
    Ok(info)
}

/// Copies out as much of it as the caller has room for, and says how much that was.
fn copy_out<T: Pod>(call: &Call<'_>, attr: &GetInfo, info: &T) -> Result<()> {
    let len = size_of::<T>().min(attr.info_len as usize);
    call.memory.write(attr.info, &bytemuck::bytes_of(info)[..len])?;
    call.put_attr(offset_of!(GetInfo, info_len), len as u32)
}

/// `bpf_map_get_info_by_fd`.
fn bpf_map_get_info_by_fd(call: &Call<'_>, attr: &GetInfo, map: &Map) -> Result {
    let mut info: MapInfo = copy_in(call, attr)?;
    info.kind = map.attrs.map_type as u32;
    info.id = map.id();
    info.key_size = map.attrs.key_size;
    info.value_size = map.attrs.value_size;
    info.max_entries = map.attrs.max_entries;
    info.map_flags = map.attrs.map_flags;
    info.map_extra = map.attrs.map_extra;
    info.name = map.name;
    if let Some(btf) = &map.btf {
        info.btf_id = btf.id();
        info.btf_key_type_id = map.btf_key_type_id;
        info.btf_value_type_id = map.btf_value_type_id;
    }
    info.btf_vmlinux_value_type_id = map.btf_vmlinux_value_type_id;
    if info.hash != 0 {
        let Contents::Array(array) = &map.contents else { return Err(Errno::EINVAL) };
        ensure(map.attrs.map_type == bpftwin_uapi::MapType::Array, Errno::EINVAL)?;
        ensure(info.hash_size == SHA256_DIGEST_SIZE, Errno::EINVAL)?;
        ensure(map.frozen(), Errno::EPERM)?;
        let digest: [u8; 32] = Sha256::digest(array.read_all(&map.attrs)?).into();
        call.memory.write(info.hash, &digest)?;
    } else {
        ensure(info.hash_size == 0, Errno::EINVAL)?;
    }
    copy_out(call, attr, &info)?;
    Ok(0)
}

/// `btf_get_info_by_fd`.
fn btf_get_info_by_fd(call: &Call<'_>, attr: &GetInfo, object: &BtfObject) -> Result {
    let mut info: BtfInfo = copy_in(call, attr)?;
    let data = object.btf.raw();
    info.id = object.id();
    call.memory.write(info.btf, &data[..data.len().min(info.btf_size as usize)])?;
    info.btf_size = data.len() as u32;
    info.kernel_btf = object.btf.is_kernel().into();
    ensure((info.name == 0) == (info.name_len == 0), Errno::EINVAL)?;
    let room = info.name_len as usize;
    let mut name = object.btf.name().as_bytes().to_vec();
    info.name_len = name.len() as u32;
    name.push(0);
    let mut result = Ok(0);
    if info.name != 0 {
        if room < name.len() {
            name.truncate(room);
            name[room - 1] = 0;
            result = Err(Errno::ENOSPC);
        }
        call.memory.write(info.name, &name)?;
    }
    copy_out(call, attr, &info)?;
    result
}

/// `set_info_rec_size`: record sizes are given as they are, or not at all.
fn set_info_rec_size(info: &mut ProgInfo) -> Result<()> {
    let fits = |count: u32, given: u32, size: usize| count == 0 && given == 0 || given == size as u32;
    ensure(fits(info.nr_func_info, info.func_info_rec_size, size_of::<FuncInfo>()), Errno::EINVAL)?;
    ensure(fits(info.nr_line_info, info.line_info_rec_size, size_of::<LineInfo>()), Errno::EINVAL)?;
    ensure(fits(info.nr_jited_line_info, info.jited_line_info_rec_size, 8), Errno::EINVAL)?;
    info.func_info_rec_size = size_of::<FuncInfo>() as u32;
    info.line_info_rec_size = size_of::<LineInfo>() as u32;
    info.jited_line_info_rec_size = 8;
    Ok(())
}

/// Copies out as many of `items` as there is room for, and returns how many there are.
fn copy_array<T: Pod>(call: &Call<'_>, address: u64, room: u32, items: &[T]) -> Result<u32> {
    let count = items.len().min(room as usize);
    if count != 0 {
        call.memory.write(address, bytemuck::cast_slice(&items[..count]))?;
    }
    Ok(items.len() as u32)
}

/// `bpf_prog_get_info_by_fd`. Programs are not compiled; what would show the machine code is as for a caller who may
/// not see kernel addresses.
fn bpf_prog_get_info_by_fd(call: &Call<'_>, attr: &GetInfo, program: &Arc<Program>) -> Result {
    let mut info: ProgInfo = copy_in(call, attr)?;
    let loaded = &program.loaded;
    let prog = &loaded.prog;
    info.kind = prog.prog_type as u32;
    info.id = program.id();
    info.load_time = loaded.load_time;
    info.created_by_uid = loaded.created_by_uid;
    info.gpl_compatible = info.gpl_compatible & !1 | u32::from(prog.gpl_compatible);
    info.tag = loaded.tag;
    info.name = loaded.name;
    let map_ids: Vec<u32> = program.used_maps().iter().map(|map| map.id()).collect();
    info.nr_map_ids = copy_array(call, info.map_ids, info.nr_map_ids, &map_ids)?;
    set_info_rec_size(&mut info)?;
    (info.run_time_ns, info.run_cnt, info.recursion_misses) = (0, 0, 0);
    info.verified_insns = loaded.verified_insns;
    if let Some(btf) = &loaded.btf {
        info.btf_id = btf.id();
    }
    if call.caps.bpf() {
        fill_debug_info(call, &mut info, program)?;
    } else {
        info.jited_prog_len = 0;
        info.xlated_prog_len = 0;
        info.nr_jited_ksyms = 0;
        info.nr_jited_func_lens = 0;
        info.nr_func_info = 0;
        info.nr_line_info = 0;
        info.nr_jited_line_info = 0;
    }
    copy_out(call, attr, &info)?;
    Ok(0)
}

/// The part of the information that needs `CAP_BPF`.
fn fill_debug_info(call: &Call<'_>, info: &mut ProgInfo, program: &Program) -> Result<()> {
    let loaded = &program.loaded;
    let insns = program.dump_insns();
    let bytes: &[u8] = bytemuck::cast_slice(&insns);
    info.xlated_prog_len = copy_array(call, info.xlated_prog_insns, info.xlated_prog_len, bytes)?;
    info.jited_prog_len = 0;
    let functions = loaded.func_cnt.max(1);
    for (count, address) in [
        (&mut info.nr_jited_ksyms, &mut info.jited_ksyms),
        (&mut info.nr_jited_func_lens, &mut info.jited_func_lens),
    ] {
        if *count != 0 {
            *address = 0;
        }
        *count = functions;
    }
    info.attach_btf_id = loaded.prog.attach_btf_id;
    if let Some(btf) = &loaded.prog.attach_btf {
        info.attach_btf_obj_id = btf.id();
    }
    info.nr_func_info = copy_records(call, info.func_info, info.nr_func_info, &loaded.func_info, 8)?;
    info.nr_line_info = copy_records(call, info.line_info, info.nr_line_info, &loaded.line_info, 16)?;
    info.nr_jited_line_info = 0;
    let tags =
        if loaded.func_tags.is_empty() { std::slice::from_ref(&loaded.tag) } else { &loaded.func_tags };
    info.nr_prog_tags = copy_array(call, info.prog_tags, info.nr_prog_tags, tags)?;
    Ok(())
}

/// [`copy_array`] of records of `size` bytes that stand back to back.
fn copy_records(call: &Call<'_>, address: u64, room: u32, records: &[u8], size: usize) -> Result<u32> {
    let room = (room as usize).saturating_mul(size);
    copy_array(call, address, u32::try_from(room).unwrap_or(u32::MAX), records)?;
    Ok((records.len() / size) as u32)
}
