//! Hash maps, per-CPU and LRU ones and hashes of maps: `kernel/bpf/hashtab.c`.
//!
//! Buckets are kept sorted by number, and in a bucket the newest element comes first, so that iteration meets the
//! elements in the order in which the kernel would with the same seed.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bpftwin_uapi::attr::{BPF_EXIST, BPF_F_LOCK, BPF_F_NO_PREALLOC, BPF_NOEXIST};
use bpftwin_uapi::{Errno, MapType};

use super::jhash::jhash;
use super::lru::Lru;
use super::special::SpecialFields;
use super::{Map, MapAttrs, Result};

/// A hash map.
pub struct Htab {
    special: SpecialFields,
    n_buckets: u32,
    /// CPUs that a per-CPU value has slots for, else 1.
    slots: u32,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    buckets: BTreeMap<u32, Vec<Element>>,
    len: u32,
    lru: Option<Lru>,
}

struct Element {
    key: Box<[u8]>,
    value: Value,
    /// Node of the LRU list, where the map has one.
    node: u32,
}

enum Value {
    Bytes(Box<[u8]>),
    Map(Arc<Map>),
}

/// What happened to one bucket of a batch.
pub struct BucketCopy {
    pub count: u32,
    pub keys: Vec<u8>,
    pub values: Vec<u8>,
}

impl Table {
    fn find(&self, bucket: u32, key: &[u8]) -> Option<&Element> {
        self.buckets.get(&bucket)?.iter().find(|element| *element.key == *key)
    }

    fn remove(&mut self, bucket: u32, key: &[u8]) -> Option<Element> {
        let elements = self.buckets.get_mut(&bucket)?;
        let at = elements.iter().position(|element| *element.key == *key)?;
        let element = elements.remove(at);
        if elements.is_empty() {
            self.buckets.remove(&bucket);
        }
        self.len -= 1;
        Some(element)
    }

    /// `htab_lru_map_delete_node`.
    fn remove_node(&mut self, bucket: u32, node: u32) -> bool {
        let Some(elements) = self.buckets.get_mut(&bucket) else { return false };
        let Some(at) = elements.iter().position(|element| element.node == node) else { return false };
        elements.remove(at);
        if elements.is_empty() {
            self.buckets.remove(&bucket);
        }
        self.len -= 1;
        true
    }

    fn add(&mut self, bucket: u32, element: Element) {
        self.buckets.entry(bucket).or_default().insert(0, element);
        self.len += 1;
    }
}

impl Htab {
    /// An empty map.
    pub fn new(attrs: &MapAttrs, n_buckets: u32, possible_cpus: u32) -> Self {
        let percpu = matches!(attrs.map_type, MapType::PercpuHash | MapType::LruPercpuHash);
        let table = Table { lru: is_lru(attrs).then(|| Lru::new(attrs, possible_cpus)), ..Table::default() };
        Htab {
            special: SpecialFields::default(),
            n_buckets: n_buckets.max(1),
            slots: if percpu { possible_cpus } else { 1 },
            table: Mutex::new(table),
        }
    }

    /// Sets the special fields of a value, before the map is used.
    pub fn set_special(&mut self, special: SpecialFields) {
        self.special = special;
    }

    /// Size of the hash table.
    pub fn n_buckets(&self) -> u32 {
        self.n_buckets
    }

    /// Elements in the map.
    pub fn len(&self) -> u32 {
        self.lock().len
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The kernel's seed is random, or zero where the map asks for it.
    fn bucket_of(&self, key: &[u8]) -> u32 {
        jhash(key, 0) & (self.n_buckets - 1)
    }

    /// Bytes of one slot of a value that user space passes.
    fn stride(&self, attrs: &MapAttrs) -> usize {
        let size = attrs.value_size as usize;
        if self.slots == 1 { size } else { size.next_multiple_of(8) }
    }

    /// Copies a value for user space: `bpf_percpu_hash_copy`, `copy_map_value`, `bpf_fd_htab_map_lookup_elem`.
    fn copy_out(&self, attrs: &MapAttrs, from: &Value, to: &mut [u8]) {
        match from {
            Value::Map(map) => {
                if let Some(to) = to.first_chunk_mut() {
                    *to = map.id().to_ne_bytes();
                }
            }
            Value::Bytes(bytes) => {
                let count = to.len().min(bytes.len());
                to[..count].copy_from_slice(&bytes[..count]);
                let stride = self.stride(attrs).max(1);
                to.chunks_mut(stride).for_each(|slot| self.special.init(slot));
            }
        }
    }

    /// Stores a value of user space over an old one: `copy_map_value`, `pcpu_copy_value`.
    fn copy_in(&self, attrs: &MapAttrs, to: &mut [u8], from: &[u8]) {
        let stride = self.stride(attrs).max(1);
        for (to, from) in to.chunks_mut(stride).zip(from.chunks(stride)) {
            let size = if self.special.is_empty() { from.len() } else { attrs.value_size as usize };
            self.special.copy(to, &from[..size.min(from.len())]);
        }
    }

    fn fresh(&self, attrs: &MapAttrs, from: &[u8]) -> Value {
        let mut bytes = vec![0; from.len()].into_boxed_slice();
        self.copy_in(attrs, &mut bytes, from);
        Value::Bytes(bytes)
    }

    /// `map_lookup_elem` of the system call.
    pub fn lookup(&self, attrs: &MapAttrs, key: &[u8], value: &mut [u8]) -> Result<()> {
        let table = self.lock();
        let element = table.find(self.bucket_of(key), key).ok_or(Errno::ENOENT)?;
        self.copy_out(attrs, &element.value, value);
        Ok(())
    }

    /// `map_update_elem` of the type, or `bpf_percpu_hash_update`.
    pub fn update(
        &self,
        attrs: &MapAttrs,
        key: &[u8],
        value: &[u8],
        flags: u64,
        has_lock: bool,
    ) -> Result<()> {
        match attrs.map_type {
            MapType::Hash => self.update_hash(attrs, key, value, flags, has_lock),
            MapType::LruHash => self.update_lru(attrs, key, value, flags),
            MapType::LruPercpuHash => self.update_lru_percpu(attrs, key, value, flags),
            _ => {
                if flags > BPF_EXIST {
                    return Err(Errno::EINVAL);
                }
                self.update_in_place(attrs, key, flags, |old| match old {
                    Some(Value::Bytes(old)) => {
                        self.copy_in(attrs, old, value);
                        None
                    }
                    _ => Some(self.fresh(attrs, value)),
                })
            }
        }
    }

    /// `bpf_fd_htab_map_update_elem` once the inner map is known to fit.
    pub fn update_map(&self, attrs: &MapAttrs, key: &[u8], map: Arc<Map>, flags: u64) -> Result<()> {
        if flags > BPF_EXIST {
            return Err(Errno::EINVAL);
        }
        let mut replaced = None;
        let result = self.update_in_place(attrs, key, flags, |old| match old {
            Some(old) => {
                replaced = Some(std::mem::replace(old, Value::Map(map)));
                None
            }
            None => Some(Value::Map(map)),
        });
        drop(replaced);
        result
    }

    /// `htab_map_update_elem`.
    fn update_hash(
        &self,
        attrs: &MapAttrs,
        key: &[u8],
        value: &[u8],
        flags: u64,
        has_lock: bool,
    ) -> Result<()> {
        if flags & !BPF_F_LOCK > BPF_EXIST || flags & BPF_F_LOCK != 0 && !has_lock {
            return Err(Errno::EINVAL);
        }
        let bucket = self.bucket_of(key);
        let mut table = self.lock();
        let exists = table.find(bucket, key).is_some();
        check_flags(exists, flags)?;
        if flags & BPF_F_LOCK != 0 && exists {
            return self.overwrite(&mut table, attrs, bucket, key, value);
        }
        if !exists && table.len >= attrs.max_entries {
            return Err(Errno::E2BIG);
        }
        let element = Element { key: key.into(), value: self.fresh(attrs, value), node: 0 };
        table.remove(bucket, key);
        table.add(bucket, element);
        Ok(())
    }

    fn overwrite(
        &self,
        table: &mut Table,
        attrs: &MapAttrs,
        bucket: u32,
        key: &[u8],
        value: &[u8],
    ) -> Result<()> {
        let elements = table.buckets.get_mut(&bucket).ok_or(Errno::ENOENT)?;
        let element = elements.iter_mut().find(|element| *element.key == *key).ok_or(Errno::ENOENT)?;
        if let Value::Bytes(old) = &mut element.value {
            self.copy_in(attrs, old, value);
        }
        Ok(())
    }

    /// `htab_map_update_elem_in_place`: `update` changes an old value, or makes a new one.
    fn update_in_place(
        &self,
        attrs: &MapAttrs,
        key: &[u8],
        flags: u64,
        update: impl FnOnce(Option<&mut Value>) -> Option<Value>,
    ) -> Result<()> {
        let bucket = self.bucket_of(key);
        let mut table = self.lock();
        check_flags(table.find(bucket, key).is_some(), flags)?;
        let full = table.len >= attrs.max_entries;
        let old = table
            .buckets
            .get_mut(&bucket)
            .and_then(|elements| elements.iter_mut().find(|element| *element.key == *key));
        match old {
            Some(element) => {
                update(Some(&mut element.value));
            }
            None if full => return Err(Errno::E2BIG),
            None => {
                if let Some(value) = update(None) {
                    table.add(bucket, Element { key: key.into(), value, node: 0 });
                }
            }
        }
        Ok(())
    }

    /// `prealloc_lru_pop`: a free node, for which old elements may have to go.
    fn lru_pop(&self, table: &mut Table, key: &[u8]) -> Result<u32> {
        let mut lru = table.lru.take().ok_or(Errno::ENOMEM)?;
        let node = lru.pop_free(|key, node| table.remove_node(self.bucket_of(key), node));
        if let Some(node) = node {
            lru.set_key(node, key);
        }
        table.lru = Some(lru);
        node.ok_or(Errno::ENOMEM)
    }

    /// `htab_lru_map_update_elem`.
    fn update_lru(&self, attrs: &MapAttrs, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
        if flags > BPF_EXIST {
            return Err(Errno::EINVAL);
        }
        let bucket = self.bucket_of(key);
        let table = &mut *self.lock();
        let node = self.lru_pop(table, key)?;
        if let Err(error) = check_flags(table.find(bucket, key).is_some(), flags) {
            table.push_free(node);
            return Err(error);
        }
        let old = table.remove(bucket, key);
        table.add(bucket, Element { key: key.into(), value: self.fresh(attrs, value), node });
        if let Some(old) = old {
            table.set_ref(node);
            table.push_free(old.node);
        }
        Ok(())
    }

    /// `__htab_lru_percpu_map_update_elem`.
    fn update_lru_percpu(&self, attrs: &MapAttrs, key: &[u8], value: &[u8], flags: u64) -> Result<()> {
        if flags > BPF_EXIST {
            return Err(Errno::EINVAL);
        }
        let bucket = self.bucket_of(key);
        let table = &mut *self.lock();
        let node = if flags == BPF_EXIST { None } else { Some(self.lru_pop(table, key)?) };
        let old = table.find(bucket, key).map(|element| element.node);
        if let Err(error) = check_flags(old.is_some(), flags) {
            node.into_iter().for_each(|node| table.push_free(node));
            return Err(error);
        }
        match (old, node) {
            (Some(old), node) => {
                table.set_ref(old);
                self.overwrite(table, attrs, bucket, key, value)?;
                node.into_iter().for_each(|node| table.push_free(node));
            }
            (None, Some(node)) => {
                table.add(bucket, Element { key: key.into(), value: self.fresh(attrs, value), node });
            }
            (None, None) => return Err(Errno::ENOENT),
        }
        Ok(())
    }

    /// `htab_map_delete_elem`, `htab_lru_map_delete_elem`.
    pub fn delete(&self, key: &[u8]) -> Result<()> {
        let removed = {
            let table = &mut *self.lock();
            let removed = table.remove(self.bucket_of(key), key);
            if let Some(element) = &removed {
                table.push_free(element.node);
            }
            removed
        };
        // What it held may reach back to this map when it goes.
        removed.map(drop).ok_or(Errno::ENOENT)
    }

    /// `__htab_map_lookup_and_delete_elem`.
    pub fn lookup_and_delete(&self, attrs: &MapAttrs, key: &[u8], value: &mut [u8]) -> Result<()> {
        let table = &mut *self.lock();
        let element = table.remove(self.bucket_of(key), key).ok_or(Errno::ENOENT)?;
        self.copy_out(attrs, &element.value, value);
        table.push_free(element.node);
        Ok(())
    }

    /// `htab_map_get_next_key`.
    pub fn next_key(&self, key: Option<&[u8]>) -> Result<Box<[u8]>> {
        let table = self.lock();
        let mut from = 0;
        if let Some(key) = key {
            let bucket = self.bucket_of(key);
            let elements = table.buckets.get(&bucket).map_or(&[][..], |elements| elements);
            if let Some(at) = elements.iter().position(|element| *element.key == *key) {
                if let Some(next) = elements.get(at + 1) {
                    return Ok(next.key.clone());
                }
                from = bucket + 1;
            }
        }
        let next = table.buckets.range(from..).next().and_then(|(_, elements)| elements.first());
        next.map(|element| element.key.clone()).ok_or(Errno::ENOENT)
    }

    /// The next bucket at or behind `from` that has elements, or the number of buckets.
    pub fn next_bucket(&self, from: u32) -> u32 {
        self.lock().buckets.range(from..).next().map_or(self.n_buckets, |(bucket, _)| *bucket)
    }

    /// Copies a whole bucket, and empties it where `delete` is set: a step of
    /// `__htab_map_lookup_and_delete_batch`. `ENOSPC` where it has more than `room` elements.
    pub fn copy_bucket(
        &self,
        attrs: &MapAttrs,
        bucket: u32,
        room: u32,
        value_size: usize,
        delete: bool,
    ) -> Result<BucketCopy> {
        let mut copy = BucketCopy { count: 0, keys: Vec::new(), values: Vec::new() };
        let removed = {
            let table = &mut *self.lock();
            let Some(elements) = table.buckets.get(&bucket) else { return Ok(copy) };
            copy.count = elements.len() as u32;
            if copy.count > room {
                return Err(Errno::ENOSPC);
            }
            for element in elements {
                copy.keys.extend_from_slice(&element.key);
                let start = copy.values.len();
                copy.values.resize(start + value_size, 0);
                self.copy_out(attrs, &element.value, &mut copy.values[start..]);
            }
            if delete {
                let removed = table.buckets.remove(&bucket).unwrap_or_default();
                table.len -= removed.len() as u32;
                removed.iter().rev().for_each(|element| table.push_free(element.node));
                removed
            } else {
                Vec::new()
            }
        };
        drop(removed);
        Ok(copy)
    }
}

impl Table {
    fn push_free(&mut self, node: u32) {
        if let Some(lru) = &mut self.lru {
            lru.push_free(node);
        }
    }

    fn set_ref(&mut self, node: u32) {
        if let Some(lru) = &mut self.lru {
            lru.set_ref(node);
        }
    }
}

fn is_lru(attrs: &MapAttrs) -> bool {
    matches!(attrs.map_type, MapType::LruHash | MapType::LruPercpuHash)
}

/// `check_flags`.
fn check_flags(exists: bool, flags: u64) -> Result<()> {
    match flags & !BPF_F_LOCK {
        BPF_NOEXIST if exists => Err(Errno::EEXIST),
        BPF_EXIST if !exists => Err(Errno::ENOENT),
        _ => Ok(()),
    }
}

/// Whether elements are made in advance.
pub fn is_prealloc(attrs: &MapAttrs) -> bool {
    attrs.map_flags & BPF_F_NO_PREALLOC == 0
}
