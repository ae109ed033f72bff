//! `BPF_MAP_*_BATCH`: `bpf_map_do_batch`, and the batch operations of map types.

use std::mem::offset_of;

use bpftwin_uapi::attr::{BPF_F_LOCK, MapBatch};
use bpftwin_uapi::{Cmd, Errno, MapType};

use super::map_elem::{
    bpf_map_copy_value, bpf_map_delete_value, bpf_map_next_key, bpf_map_update_value, buffer,
    check_lock_flag, ensure, map_get_sys_perms,
};
use super::{Call, Result};
use crate::maps::htab::Htab;
use crate::maps::{Contents, Map};

pub(super) fn bpf_map_do_batch(call: &Call<'_>) -> Result {
    let has_read = matches!(call.cmd, Cmd::MapLookupBatch | Cmd::MapLookupAndDeleteBatch);
    let has_write = call.cmd != Cmd::MapLookupBatch;
    let attr: MapBatch = call.part()?;
    let (map, access) = call.kernel.map_file(attr.map_fd as i32)?;
    let map = map.map();
    let _writing = has_write.then(|| map.write_guard());
    let perms = map_get_sys_perms(map, access);
    ensure(!has_read || perms.read, Errno::EPERM)?;
    ensure(!has_write || perms.write, Errno::EPERM)?;
    match (&map.contents, map.attrs.map_type, call.cmd) {
        (Contents::Htab(htab), _, Cmd::MapLookupBatch) => htab_batch(call, map, htab, &attr, false),
        (Contents::Htab(htab), _, Cmd::MapLookupAndDeleteBatch) => htab_batch(call, map, htab, &attr, true),
        (Contents::Htab(_), _, Cmd::MapDeleteBatch) => generic_map_delete_batch(call, map, &attr),
        (Contents::Htab(_), _, _) => generic_map_update_batch(call, map, &attr),
        (_, MapType::Array | MapType::PercpuArray | MapType::ArrayOfMaps, Cmd::MapLookupBatch) => {
            generic_map_lookup_batch(call, map, &attr)
        }
        (_, MapType::Array | MapType::PercpuArray | MapType::ArrayOfMaps, Cmd::MapUpdateBatch) => {
            generic_map_update_batch(call, map, &attr)
        }
        (Contents::LpmTrie(_), _, Cmd::MapLookupBatch) => generic_map_lookup_batch(call, map, &attr),
        (Contents::LpmTrie(_), _, Cmd::MapUpdateBatch) => generic_map_update_batch(call, map, &attr),
        (Contents::LpmTrie(_), _, Cmd::MapDeleteBatch) => generic_map_delete_batch(call, map, &attr),
        (_, MapType::Sockmap | MapType::Sockhash, Cmd::MapLookupBatch) => {
            Err(super::map_elem::elements_not_emulated(call, map))
        }
        _ => Err(Errno::ENOTSUPP),
    }
}

fn check_elem_flags(map: &Map, attr: &MapBatch) -> Result<()> {
    ensure(attr.elem_flags & !BPF_F_LOCK == 0, Errno::EINVAL)?;
    check_lock_flag(map, attr.elem_flags)
}

fn put_count(call: &Call<'_>, count: u32) -> Result<()> {
    call.put_attr(offset_of!(MapBatch, count), count)
}

/// Address of an element of an array in user memory.
fn at(base: u64, index: u32, size: u64) -> u64 {
    base.wrapping_add(u64::from(index).wrapping_mul(size))
}

/// The count is stored whatever ended the batch; that it cannot be is the error then.
fn finish(call: &Call<'_>, count: u32, result: Result<()>) -> Result {
    put_count(call, count)?;
    result.map(|()| 0)
}

fn generic_map_delete_batch(call: &Call<'_>, map: &Map, attr: &MapBatch) -> Result {
    check_elem_flags(map, attr)?;
    if attr.count == 0 {
        return Ok(0);
    }
    put_count(call, 0)?;
    let key_size = u64::from(map.attrs.key_size);
    let mut key = buffer(key_size)?;
    let mut done = 0;
    let result = loop {
        if done == attr.count {
            break Ok(());
        }
        let step = call
            .memory
            .read(at(attr.keys, done, key_size), &mut key)
            .and_then(|()| bpf_map_delete_value(call, map, &key));
        if step.is_err() {
            break step;
        }
        done += 1;
    };
    finish(call, done, result)
}

fn generic_map_update_batch(call: &Call<'_>, map: &Map, attr: &MapBatch) -> Result {
    check_elem_flags(map, attr)?;
    let value_size = call.user_value_size(map);
    if attr.count == 0 {
        return Ok(0);
    }
    put_count(call, 0)?;
    let key_size = u64::from(map.attrs.key_size);
    let (mut key, mut value) = (buffer(key_size)?, buffer(value_size)?);
    let mut done = 0;
    let result = loop {
        if done == attr.count {
            break Ok(());
        }
        let step = call
            .memory
            .read(at(attr.keys, done, key_size), &mut key)
            .and_then(|()| call.memory.read(at(attr.values, done, value_size), &mut value))
            .and_then(|()| bpf_map_update_value(call, map, &key, &value, attr.elem_flags));
        if step.is_err() {
            break step;
        }
        done += 1;
    };
    finish(call, done, result)
}

fn generic_map_lookup_batch(call: &Call<'_>, map: &Map, attr: &MapBatch) -> Result {
    check_elem_flags(map, attr)?;
    let value_size = call.user_value_size(map);
    if attr.count == 0 {
        return Ok(0);
    }
    put_count(call, 0)?;
    let key_size = u64::from(map.attrs.key_size);
    let mut value = buffer(value_size)?;
    let mut previous: Option<Box<[u8]>> = None;
    if attr.in_batch != 0 {
        let mut key = buffer(key_size)?;
        call.memory.read(attr.in_batch, &mut key)?;
        previous = Some(key.into());
    }
    let mut done = 0;
    let result = loop {
        if done == attr.count {
            break Ok(());
        }
        let key = match bpf_map_next_key(call, map, previous.as_deref()) {
            Ok(key) => key,
            Err(error) => break Err(error),
        };
        match bpf_map_copy_value(call, map, &key, &mut value) {
            Ok(()) => {
                call.memory.write(at(attr.keys, done, key_size), &key)?;
                call.memory.write(at(attr.values, done, value_size), &value)?;
                done += 1;
            }
            Err(Errno::ENOENT) => {}
            Err(error) => return Err(error),
        }
        previous = Some(key);
    };
    put_count(call, done)?;
    if let (1.., Some(key)) = (done, &previous) {
        call.memory.write(attr.out_batch, key)?;
    }
    result.map(|()| 0)
}

/// `__htab_map_lookup_and_delete_batch`: whole buckets at a time.
fn htab_batch(call: &Call<'_>, map: &Map, htab: &Htab, attr: &MapBatch, delete: bool) -> Result {
    check_elem_flags(map, attr)?;
    ensure(attr.flags == 0, Errno::EINVAL)?;
    if attr.count == 0 {
        return Ok(0);
    }
    put_count(call, 0)?;
    let mut batch = 0;
    if attr.in_batch != 0 {
        let mut bytes = [0; 4];
        call.memory.read(attr.in_batch, &mut bytes)?;
        batch = u32::from_ne_bytes(bytes);
    }
    ensure(batch < htab.n_buckets(), Errno::ENOENT)?;
    let key_size = u64::from(map.attrs.key_size);
    let value_size = if map.attrs.map_type == MapType::HashOfMaps {
        u64::from(map.attrs.value_size)
    } else {
        call.user_value_size(map)
    };
    let mut total = 0;
    let result = loop {
        let next = htab.next_bucket(batch);
        if next >= htab.n_buckets() {
            batch = htab.n_buckets();
            break Err(Errno::ENOENT);
        }
        batch = next;
        match htab.copy_bucket(&map.attrs, batch, attr.count - total, value_size as usize, delete) {
            // What does not fit is left for the next call, unless there is nothing to show for this one.
            Err(Errno::ENOSPC) => break if total == 0 { Err(Errno::ENOSPC) } else { Ok(()) },
            Err(error) => break Err(error),
            Ok(copy) => {
                call.memory.write(at(attr.keys, total, key_size), &copy.keys)?;
                call.memory.write(at(attr.values, total, value_size), &copy.values)?;
                total += copy.count;
                batch += 1;
                if batch >= htab.n_buckets() {
                    break Err(Errno::ENOENT);
                }
            }
        }
    };
    call.memory.write(attr.out_batch, &batch.to_ne_bytes())?;
    finish(call, total, result)
}
