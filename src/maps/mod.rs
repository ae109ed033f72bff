//! Maps: what `BPF_MAP_CREATE` allows for each type, and the contents of those whose elements are emulated.
//!
//! [`alloc`] holds each type's attribute checks and size limits, [`check_btf`] the rules for a map's BTF, [`meta`] what
//! makes an inner map fit an outer one. Contents live in one file per family; [`Contents`] is their sum.

pub mod alloc;
pub mod array;
pub mod bloom;
pub mod check_btf;
pub mod fd_array;
pub mod htab;
pub mod jhash;
pub mod lpm_trie;
pub mod lru;
pub mod meta;
pub mod owner;
pub mod queue_stack;
pub mod special;
pub mod storage;
pub mod usage;

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bpftwin_uapi::attr::BPF_OBJ_NAME_LEN;
use bpftwin_uapi::{Errno, MapType, ProgType, attr};

use crate::btf::BtfRecord;
use crate::kernel::ids::Id;
use crate::kernel::objects::BtfObject;
use crate::verifier::prog::{MapContents, VerifierMap};
use array::ArrayMap;
use bloom::BloomFilter;
use fd_array::FdArray;
use htab::Htab;
use lpm_trie::LpmTrie;
pub use owner::MapOwner;
use queue_stack::QueueStack;

/// Result of a map operation.
pub type Result<T> = std::result::Result<T, Errno>;

/// The attributes that a map keeps: the head of `struct bpf_map`.
#[derive(Clone, Debug)]
pub struct MapAttrs {
    pub map_type: MapType,
    pub key_size: u32,
    pub value_size: u32,
    pub max_entries: u32,
    /// Without the flags that belong to the descriptor.
    pub map_flags: u32,
    pub map_extra: u64,
}

impl MapAttrs {
    /// `bpf_map_init_from_attr`.
    pub fn from_attr(map_type: MapType, attr: &attr::MapCreate) -> Self {
        MapAttrs {
            map_type,
            key_size: attr.key_size,
            value_size: attr.value_size,
            max_entries: attr.max_entries,
            map_flags: attr.map_flags & !(attr::BPF_F_RDONLY | attr::BPF_F_WRONLY),
            map_extra: attr.map_extra,
        }
    }

    /// Bytes that user space passes for a value: `bpf_map_value_size`.
    pub fn user_value_size(&self, possible_cpus: u32) -> u64 {
        match self.map_type {
            MapType::PercpuHash
            | MapType::LruPercpuHash
            | MapType::PercpuArray
            | MapType::PercpuCgroupStorage => {
                u64::from(self.value_size).next_multiple_of(8) * u64::from(possible_cpus)
            }
            MapType::PerfEventArray
            | MapType::CgroupArray
            | MapType::ArrayOfMaps
            | MapType::ProgArray
            | MapType::HashOfMaps => 4,
            _ => u64::from(self.value_size),
        }
    }
}

/// What a map holds.
pub enum Contents {
    Array(ArrayMap),
    FdArray(FdArray),
    Htab(Htab),
    LpmTrie(LpmTrie),
    QueueStack(QueueStack),
    Bloom(BloomFilter),
    /// Types whose elements are not emulated.
    Opaque,
}

/// A map: `struct bpf_map`.
pub struct Map {
    pub(crate) id: Id,
    /// Number that no other map, and no template of inner maps, of this kernel has.
    pub(crate) identity: u64,
    pub attrs: MapAttrs,
    /// Name, padded with zeros.
    pub name: [u8; BPF_OBJ_NAME_LEN],
    pub btf: Option<Arc<BtfObject>>,
    pub btf_key_type_id: u32,
    pub btf_value_type_id: u32,
    pub btf_vmlinux_value_type_id: u32,
    pub record: Option<Arc<BtfRecord>>,
    /// Template that inner maps conform to.
    pub inner_map_meta: Option<Arc<VerifierMap>>,
    pub contents: Contents,
    /// Digest of the one program that may use it.
    pub excl_prog_sha: Option<[u8; 32]>,
    pub(crate) state: MapState,
}

/// The part of a map that changes and is not its contents.
#[derive(Default)]
pub(crate) struct MapState {
    frozen: AtomicBool,
    /// System calls that are writing: `writecnt`, writable mappings aside.
    writers: AtomicU64,
    /// Descriptors and pins: `usercnt`.
    users: AtomicU64,
    /// Serialises freezing against new writable mappings: `freeze_mutex`.
    freeze: Mutex<()>,
    owner: Mutex<Option<MapOwner>>,
}

impl Map {
    /// Its id.
    pub fn id(&self) -> u32 {
        self.id.get()
    }

    /// Name, without the padding.
    pub fn name(&self) -> String {
        name_of(&self.name)
    }

    /// Set by `BPF_MAP_FREEZE`.
    pub fn frozen(&self) -> bool {
        self.state.frozen.load(Ordering::Acquire)
    }

    /// `bpf_map_write_active`: a system call is writing, or a writable mapping exists.
    pub fn write_active(&self) -> bool {
        if self.state.writers.load(Ordering::Acquire) != 0 {
            return true;
        }
        matches!(&self.contents, Contents::Array(array) if array.is_mapped_writable())
    }

    /// Marks a writing system call for as long as the guard lives.
    pub fn write_guard(&self) -> WriteGuard<'_> {
        self.state.writers.fetch_add(1, Ordering::AcqRel);
        WriteGuard { map: self }
    }

    pub(crate) fn freeze_lock(&self) -> MutexGuard<'_, ()> {
        self.state.freeze.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The core of `map_freeze`.
    pub fn freeze(&self) -> Result<()> {
        let _guard = self.freeze_lock();
        if self.write_active() || self.frozen() {
            return Err(Errno::EBUSY);
        }
        if let Contents::Array(array) = &self.contents {
            array.freeze(&self.attrs);
        }
        self.state.frozen.store(true, Ordering::Release);
        Ok(())
    }

    /// `__bpf_prog_map_compatible`: the first program to use a map sets what all must agree on.
    pub fn owner_compatible(&self, program: &MapOwner) -> bool {
        let mut owner = self.state.owner.lock().unwrap_or_else(PoisonError::into_inner);
        match &*owner {
            Some(owner) => owner.accepts(program, self.attrs.map_type),
            None if !program.may_own() => false,
            None => {
                *owner = Some(program.clone());
                true
            }
        }
    }

    /// Type of the first program that used it, where there was one.
    pub fn owner_prog_type(&self) -> Option<ProgType> {
        let owner = self.state.owner.lock().unwrap_or_else(PoisonError::into_inner);
        owner.as_ref().map(|owner| owner.prog_type)
    }

    /// The verifier's view of it. The view keeps the map alive.
    pub fn verifier_map(self: &Arc<Self>) -> Arc<VerifierMap> {
        Arc::new(VerifierMap {
            identity: self.identity,
            map_type: self.attrs.map_type,
            key_size: self.attrs.key_size,
            value_size: self.attrs.value_size,
            max_entries: self.attrs.max_entries,
            map_flags: self.attrs.map_flags,
            map_extra: self.attrs.map_extra,
            name: self.name(),
            record: self.record.clone(),
            btf: self.btf.as_ref().map(|btf| Arc::clone(&btf.btf)),
            btf_value_type_id: self.btf_value_type_id,
            inner_map_meta: self.inner_map_meta.clone(),
            offloaded: false,
            excl_prog_sha: self.excl_prog_sha,
            contents: Arc::clone(self) as Arc<dyn MapContents>,
        })
    }

    /// What the last descriptor's going does to it: `map_release_uref`.
    fn release_uref(&self) {
        if let (MapType::ProgArray, Contents::FdArray(array)) = (self.attrs.map_type, &self.contents) {
            array.clear();
        }
    }
}

impl MapContents for Map {
    fn frozen(&self) -> bool {
        // A map with a writable mapping cannot be frozen, and a frozen one cannot be mapped writable.
        Map::frozen(self) && self.state.writers.load(Ordering::Acquire) == 0
    }

    fn read_value(&self, off: u32, buf: &mut [u8]) -> Result<()> {
        match &self.contents {
            Contents::Array(array) if self.attrs.map_type == MapType::Array => {
                array.read_direct(&self.attrs, off, buf)
            }
            _ => Err(Errno::ENOTSUPP),
        }
    }
}

/// A writing system call on a map.
pub struct WriteGuard<'a> {
    map: &'a Map,
}

impl Drop for WriteGuard<'_> {
    fn drop(&mut self) {
        self.map.state.writers.fetch_sub(1, Ordering::AcqRel);
    }
}

/// A reference to a map that user space holds, by a descriptor or a pin: `bpf_map_inc_with_uref`.
pub struct UserMap {
    map: Arc<Map>,
}

impl UserMap {
    /// Takes the reference.
    pub fn new(map: Arc<Map>) -> Self {
        map.state.users.fetch_add(1, Ordering::AcqRel);
        UserMap { map }
    }

    /// The map.
    pub fn map(&self) -> &Arc<Map> {
        &self.map
    }
}

impl Clone for UserMap {
    fn clone(&self) -> Self {
        UserMap::new(Arc::clone(&self.map))
    }
}

impl Drop for UserMap {
    fn drop(&mut self) {
        if self.map.state.users.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.map.release_uref();
        }
    }
}

/// Text of a name that is padded with zeros.
pub(crate) fn name_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// `bpf_obj_name_cpy`: letters, digits, `_` and `.`, ended by a zero, behind which nothing is copied.
pub fn bpf_obj_name_cpy(source: &[u8; BPF_OBJ_NAME_LEN]) -> Result<[u8; BPF_OBJ_NAME_LEN]> {
    let end = source.iter().position(|&byte| byte == 0).ok_or(Errno::EINVAL)?;
    let name = &source[..end];
    // The kernel's isalnum() knows Latin-1.
    let allowed = |byte: u8| matches!(byte, b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'_' | b'.' | 0xc0..=0xd6 | 0xd8..=0xf6 | 0xf8..=0xff);
    if !name.iter().all(|&byte| allowed(byte)) {
        // A bad byte is found before the missing end would be; both are the same error.
        return Err(Errno::EINVAL);
    }
    let mut copy = [0; BPF_OBJ_NAME_LEN];
    copy[..end].copy_from_slice(name);
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let mut name = *b"ok_name.1\0junk!!";
        assert_eq!(bpf_obj_name_cpy(&name), Ok(*b"ok_name.1\0\0\0\0\0\0\0"));
        name[2] = b'-';
        assert_eq!(bpf_obj_name_cpy(&name), Err(Errno::EINVAL));
        assert_eq!(bpf_obj_name_cpy(&[b'a'; 16]), Err(Errno::EINVAL));
    }
}
