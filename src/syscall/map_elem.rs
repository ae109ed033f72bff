//! Element commands, and `BPF_MAP_FREEZE`.

use std::sync::Arc;

use bpftwin_uapi::attr::{BPF_ANY, BPF_F_LOCK, MapElem};
use bpftwin_uapi::{Errno, MapType};

use super::{Call, Result};
use crate::kernel::descriptors::Access;
use crate::maps::fd_array::Element;
use crate::maps::{Contents, Map, MapOwner, UserMap, array, check_btf, meta};

/// Largest buffer that a call makes: no key or value that a map can have is larger, whatever its attributes.
const BUFFER_MAX: u64 = i32::MAX as u64;

/// `map_get_sys_perms`: what a descriptor allows, now that the map may be frozen.
pub(super) fn map_get_sys_perms(map: &Map, access: Access) -> Access {
    Access { write: access.write && !map.frozen(), ..access }
}

pub(super) fn ensure(good: bool, error: Errno) -> Result<()> {
    if good { Ok(()) } else { Err(error) }
}

/// A zeroed buffer for a value: `ENOMEM` where there is no memory for it.
pub(super) fn buffer(size: u64) -> Result<Vec<u8>> {
    let size = usize::try_from(size.min(BUFFER_MAX + 8)).map_err(|_| Errno::ENOMEM)?;
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
    bytes.resize(size, 0);
    Ok(bytes)
}

impl Call<'_> {
    fn map_file(&self, fd: u32) -> Result<(UserMap, Access)> {
        self.kernel.map_file(fd as i32)
    }

    /// `__bpf_copy_key`. A map without keys takes none.
    fn copy_key(&self, map: &Map, address: u64) -> Result<Vec<u8>> {
        if map.attrs.key_size == 0 {
            return if address != 0 { Err(Errno::EINVAL) } else { Ok(Vec::new()) };
        }
        let mut key = buffer(map.attrs.key_size.into())?;
        self.memory.read(address, &mut key)?;
        Ok(key)
    }

    pub(super) fn user_value_size(&self, map: &Map) -> u64 {
        map.attrs.user_value_size(self.kernel.profile().possible_cpus)
    }
}

/// `BPF_F_LOCK` needs a spin lock in the value.
pub(super) fn check_lock_flag(map: &Map, flags: u64) -> Result<()> {
    ensure(flags & BPF_F_LOCK == 0 || check_btf::has_spin_lock(map.record.as_deref()), Errno::EINVAL)
}

pub(super) fn map_lookup_elem(call: &Call<'_>) -> Result {
    let attr: MapElem = call.part()?;
    ensure(attr.flags & !BPF_F_LOCK == 0, Errno::EINVAL)?;
    let (map, access) = call.map_file(attr.map_fd)?;
    let map = map.map();
    ensure(map_get_sys_perms(map, access).read, Errno::EPERM)?;
    check_lock_flag(map, attr.flags)?;
    let key = call.copy_key(map, attr.key)?;
    let mut value = buffer(call.user_value_size(map))?;
    if map.attrs.map_type == MapType::BloomFilter {
        call.memory.read(attr.value, &mut value)?;
        bpf_map_copy_value(call, map, &key, &mut value)?;
        return Ok(0);
    }
    bpf_map_copy_value(call, map, &key, &mut value)?;
    call.memory.write(attr.value, &value)?;
    Ok(0)
}

pub(super) fn map_update_elem(call: &Call<'_>) -> Result {
    let attr: MapElem = call.part()?;
    let (map, access) = call.map_file(attr.map_fd)?;
    let map = map.map();
    let _writing = map.write_guard();
    ensure(map_get_sys_perms(map, access).write, Errno::EPERM)?;
    check_lock_flag(map, attr.flags)?;
    let key = call.copy_key(map, attr.key)?;
    let mut value = buffer(call.user_value_size(map))?;
    call.memory.read(attr.value, &mut value)?;
    bpf_map_update_value(call, map, &key, &value, attr.flags)?;
    Ok(0)
}

pub(super) fn map_delete_elem(call: &Call<'_>) -> Result {
    let attr: MapElem = call.part()?;
    let (map, access) = call.map_file(attr.map_fd)?;
    let map = map.map();
    let _writing = map.write_guard();
    ensure(map_get_sys_perms(map, access).write, Errno::EPERM)?;
    let key = call.copy_key(map, attr.key)?;
    bpf_map_delete_value(call, map, &key)?;
    Ok(0)
}

pub(super) fn map_get_next_key(call: &Call<'_>) -> Result {
    let attr: MapElem = call.part()?;
    let (map, access) = call.map_file(attr.map_fd)?;
    let map = map.map();
    ensure(map_get_sys_perms(map, access).read, Errno::EPERM)?;
    let key = if attr.key != 0 { Some(call.copy_key(map, attr.key)?) } else { None };
    let next = bpf_map_next_key(call, map, key.as_deref())?;
    call.memory.write(attr.value, &next)?;
    Ok(0)
}

pub(super) fn map_lookup_and_delete_elem(call: &Call<'_>) -> Result {
    let attr: MapElem = call.part()?;
    ensure(attr.flags & !BPF_F_LOCK == 0, Errno::EINVAL)?;
    let (map, access) = call.map_file(attr.map_fd)?;
    let map = map.map();
    let _writing = map.write_guard();
    let perms = map_get_sys_perms(map, access);
    ensure(perms.read && perms.write, Errno::EPERM)?;
    let map_type = map.attrs.map_type;
    let queue = matches!(map_type, MapType::Queue | MapType::Stack);
    ensure(attr.flags == 0 || !queue, Errno::EINVAL)?;
    check_lock_flag(map, attr.flags)?;
    let key = call.copy_key(map, attr.key)?;
    let mut value = buffer(call.user_value_size(map))?;
    match &map.contents {
        Contents::QueueStack(queue) => queue.get(&map.attrs, &mut value, true)?,
        Contents::Htab(htab) if map_type != MapType::HashOfMaps => {
            htab.lookup_and_delete(&map.attrs, &key, &mut value)?;
        }
        _ if map_type == MapType::StackTrace => return Err(elements_not_emulated(call, map)),
        _ => return Err(Errno::ENOTSUPP),
    }
    call.memory.write(attr.value, &value)?;
    Ok(0)
}

pub(super) fn map_freeze(call: &Call<'_>) -> Result {
    let attr: MapElem = call.part()?;
    let (map, access) = call.map_file(attr.map_fd)?;
    let map = map.map();
    ensure(map.attrs.map_type != MapType::StructOps && map.record.is_none(), Errno::ENOTSUPP)?;
    ensure(map_get_sys_perms(map, access).write, Errno::EPERM)?;
    map.freeze()?;
    Ok(0)
}

#[cold]
pub(super) fn elements_not_emulated(call: &Call<'_>, map: &Map) -> Errno {
    call.not_emulated(&format!("elements of {}", map.attrs.map_type.name()))
}

/// `bpf_map_copy_value`.
pub(super) fn bpf_map_copy_value(call: &Call<'_>, map: &Map, key: &[u8], value: &mut [u8]) -> Result<()> {
    let attrs = &map.attrs;
    match &map.contents {
        Contents::Array(array) => array.lookup(attrs, key, value),
        Contents::Htab(htab) => htab.lookup(attrs, key, value),
        Contents::LpmTrie(trie) => trie.lookup(key, value),
        Contents::FdArray(array) => {
            // Only some of them can show what they hold.
            ensure(matches!(attrs.map_type, MapType::ProgArray | MapType::ArrayOfMaps), Errno::ENOTSUPP)?;
            let id = array.lookup(array::index_of(key)?)?;
            if let Some(value) = value.first_chunk_mut() {
                *value = id.to_ne_bytes();
            }
            Ok(())
        }
        Contents::QueueStack(queue) => queue.get(attrs, value, false),
        Contents::Bloom(bloom) => bloom.peek(value),
        Contents::Opaque => match attrs.map_type {
            MapType::Ringbuf | MapType::UserRingbuf => Err(Errno::ENOTSUPP),
            _ => Err(elements_not_emulated(call, map)),
        },
    }
}

/// `bpf_map_update_value`.
pub(super) fn bpf_map_update_value(
    call: &Call<'_>,
    map: &Map,
    key: &[u8],
    value: &[u8],
    flags: u64,
) -> Result<()> {
    let attrs = &map.attrs;
    let has_lock = check_btf::has_spin_lock(map.record.as_deref());
    match &map.contents {
        Contents::Array(array) => array.update(attrs, key, value, flags, has_lock),
        Contents::Htab(htab) if attrs.map_type == MapType::HashOfMaps => {
            let inner = bpf_map_fd_get_ptr(call, map, array::index_of(value)?)?;
            htab.update_map(attrs, key, inner, flags)
        }
        Contents::Htab(htab) => htab.update(attrs, key, value, flags, has_lock),
        Contents::LpmTrie(trie) => trie.update(attrs, key, value, flags),
        Contents::FdArray(array) => {
            ensure(flags == BPF_ANY, Errno::EINVAL)?;
            let index = array::index_of(key)?;
            ensure(index < attrs.max_entries, Errno::E2BIG)?;
            let fd = array::index_of(value)?;
            array.set(index, fd_get_ptr(call, map, fd)?);
            Ok(())
        }
        Contents::QueueStack(queue) => queue.push(attrs, value, flags),
        Contents::Bloom(bloom) => bloom.push(value, flags),
        Contents::Opaque => match attrs.map_type {
            MapType::Ringbuf | MapType::UserRingbuf => Err(Errno::ENOTSUPP),
            _ => Err(elements_not_emulated(call, map)),
        },
    }
}

/// `map_delete_elem` of the type.
pub(super) fn bpf_map_delete_value(call: &Call<'_>, map: &Map, key: &[u8]) -> Result<()> {
    match &map.contents {
        Contents::Array(_) => Err(Errno::EINVAL),
        Contents::Htab(htab) => htab.delete(key),
        Contents::LpmTrie(trie) => trie.delete(key),
        Contents::FdArray(array) => {
            let index = array::index_of(key)?;
            ensure(index < map.attrs.max_entries, Errno::E2BIG)?;
            array.delete(index)
        }
        Contents::QueueStack(_) => Err(Errno::EINVAL),
        Contents::Bloom(_) => Err(Errno::EOPNOTSUPP),
        Contents::Opaque => match map.attrs.map_type {
            MapType::Ringbuf | MapType::UserRingbuf => Err(Errno::ENOTSUPP),
            _ => Err(elements_not_emulated(call, map)),
        },
    }
}

/// `map_get_next_key` of the type.
pub(super) fn bpf_map_next_key(call: &Call<'_>, map: &Map, key: Option<&[u8]>) -> Result<Box<[u8]>> {
    match &map.contents {
        Contents::Array(_) | Contents::FdArray(_) => {
            Ok(Box::new(array::next_index(map.attrs.max_entries, key)?.to_ne_bytes()))
        }
        Contents::Htab(htab) => htab.next_key(key),
        Contents::LpmTrie(trie) => trie.next_key(key),
        Contents::QueueStack(_) => Err(Errno::EINVAL),
        Contents::Bloom(_) => Err(Errno::EOPNOTSUPP),
        Contents::Opaque => match map.attrs.map_type {
            MapType::Ringbuf
            | MapType::UserRingbuf
            | MapType::SkStorage
            | MapType::InodeStorage
            | MapType::TaskStorage
            | MapType::CgrpStorage => Err(Errno::ENOTSUPP),
            MapType::Arena => Err(Errno::EOPNOTSUPP),
            _ => Err(elements_not_emulated(call, map)),
        },
    }
}

/// `bpf_map_fd_get_ptr`.
fn bpf_map_fd_get_ptr(call: &Call<'_>, map: &Map, fd: u32) -> Result<Arc<Map>> {
    let inner = call.kernel.map_by_fd(fd as i32)?;
    let fits = map.inner_map_meta.as_deref().is_some_and(|meta| meta::map_meta_equal(meta, &inner));
    if fits { Ok(inner) } else { Err(Errno::EINVAL) }
}

/// `map_fd_get_ptr` of the type.
fn fd_get_ptr(call: &Call<'_>, map: &Map, fd: u32) -> Result<Element> {
    match map.attrs.map_type {
        MapType::ArrayOfMaps => Ok(Element::Map(bpf_map_fd_get_ptr(call, map, fd)?)),
        MapType::ProgArray => {
            let program = call.kernel.prog_by_fd(fd as i32)?;
            let prog = &program.loaded.prog;
            ensure(
                MapOwner::may_be_in_maps(prog) && map.owner_compatible(&MapOwner::of(prog)),
                Errno::EINVAL,
            )?;
            Ok(Element::Prog(program))
        }
        _ => match call.kernel.file(fd as i32)? {
            // One of ours is neither an event nor a control group.
            Some(_) => Err(Errno::EBADF),
            None => Err(elements_not_emulated(call, map)),
        },
    }
}
