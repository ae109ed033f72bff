//! Arrays and per-CPU arrays: `kernel/bpf/arraymap.c`.

use std::sync::OnceLock;

use bpftwin_uapi::Errno;
use bpftwin_uapi::attr::{BPF_EXIST, BPF_F_LOCK, BPF_NOEXIST};

use super::special::SpecialFields;
use super::storage::{Shared, Sparse, Storage};
use super::{MapAttrs, Result};

/// Values of an array, all of which exist from the start.
pub struct ArrayMap {
    storage: Storage,
    special: SpecialFields,
    /// Slots of a value: the CPUs of a per-CPU array, else 1.
    slots: u32,
    /// The values once nobody can change them, kept for the verifier, which reads constants from there.
    constant: OnceLock<Box<[u8]>>,
}

/// Largest value area that is kept as a constant copy.
const CONSTANT_MAX: u64 = 64 << 20;

impl ArrayMap {
    /// An array of zeros.
    pub fn new(attrs: &MapAttrs, mmapable: bool, slots: u32) -> Result<Self> {
        let storage = if mmapable {
            let size = (u64::from(attrs.max_entries) * elem_size(attrs)).next_multiple_of(4096);
            Storage::Shared(Shared::new(size)?)
        } else {
            Storage::Sparse(Sparse::default())
        };
        Ok(ArrayMap { storage, special: SpecialFields::default(), slots, constant: OnceLock::new() })
    }

    /// Sets the special fields of a value, before the map is used.
    pub fn set_special(&mut self, special: SpecialFields) {
        self.special = special;
    }

    /// The mappable file, where there is one.
    pub fn shared(&self) -> Option<&Shared> {
        match &self.storage {
            Storage::Shared(shared) => Some(shared),
            Storage::Sparse(_) => None,
        }
    }

    pub(super) fn is_mapped_writable(&self) -> bool {
        self.shared().is_some_and(Shared::is_mapped_writable)
    }

    fn at(&self, attrs: &MapAttrs, index: u32, slot: u32) -> u64 {
        (u64::from(index) * u64::from(self.slots) + u64::from(slot)) * elem_size(attrs)
    }

    /// `array_map_lookup_elem`, `bpf_percpu_array_copy`: the value, or those of all CPUs one after the other.
    pub fn lookup(&self, attrs: &MapAttrs, key: &[u8], value: &mut [u8]) -> Result<()> {
        let index = index_of(key)?;
        if index >= attrs.max_entries {
            return Err(Errno::ENOENT);
        }
        let stride = if self.slots == 1 { value.len() } else { elem_size(attrs) as usize };
        for (slot, value) in value.chunks_mut(stride.max(1)).take(self.slots as usize).enumerate() {
            self.storage.read(self.at(attrs, index, slot as u32), value)?;
            self.special.init(value);
        }
        Ok(())
    }

    /// `array_map_update_elem`, `bpf_percpu_array_update`.
    pub fn update(
        &self,
        attrs: &MapAttrs,
        key: &[u8],
        value: &[u8],
        flags: u64,
        has_lock: bool,
    ) -> Result<()> {
        let percpu = attrs.map_type == bpftwin_uapi::MapType::PercpuArray;
        let index = index_of(key)?;
        let lock = if percpu { 0 } else { BPF_F_LOCK };
        if flags & !lock > BPF_EXIST {
            return Err(Errno::EINVAL);
        }
        if index >= attrs.max_entries {
            return Err(Errno::E2BIG);
        }
        if flags & BPF_NOEXIST != 0 {
            return Err(Errno::EEXIST);
        }
        if flags & BPF_F_LOCK != 0 && !has_lock {
            return Err(Errno::EINVAL);
        }
        let stride = if percpu { elem_size(attrs) as usize } else { value.len() };
        for (slot, value) in value.chunks(stride.max(1)).take(self.slots as usize).enumerate() {
            let at = self.at(attrs, index, slot as u32);
            let size = if self.special.is_empty() { value.len() } else { attrs.value_size as usize };
            for range in self.special.data_ranges(size.min(value.len())) {
                self.storage.write(at + range.start as u64, &value[range])?;
            }
        }
        Ok(())
    }

    /// `array_map_direct_value_addr` followed by a read.
    pub(super) fn read_direct(&self, attrs: &MapAttrs, off: u32, buf: &mut [u8]) -> Result<()> {
        if attrs.max_entries != 1 {
            return Err(Errno::ENOTSUPP);
        }
        if off >= attrs.value_size || buf.len() as u64 > elem_size(attrs) - u64::from(off) {
            return Err(Errno::EINVAL);
        }
        match self.constant.get() {
            Some(bytes) => {
                let start = off as usize;
                buf.copy_from_slice(bytes.get(start..start + buf.len()).ok_or(Errno::EINVAL)?);
                Ok(())
            }
            None => self.storage.read(u64::from(off), buf),
        }
    }

    /// Notes that the values do not change any more.
    pub(super) fn freeze(&self, attrs: &MapAttrs) {
        let size = elem_size(attrs);
        if attrs.max_entries != 1 || size > CONSTANT_MAX {
            return;
        }
        let mut bytes = vec![0; size as usize];
        if self.storage.read(0, &mut bytes).is_ok() {
            let _ = self.constant.set(bytes.into());
        }
    }

    /// All values one after the other, as `array_map_get_hash` digests them.
    pub fn read_all(&self, attrs: &MapAttrs) -> Result<Vec<u8>> {
        let size =
            usize::try_from(elem_size(attrs) * u64::from(attrs.max_entries)).map_err(|_| Errno::ENOMEM)?;
        let mut bytes = Vec::new();
        bytes.try_reserve_exact(size).map_err(|_| Errno::ENOMEM)?;
        bytes.resize(size, 0);
        self.storage.read(0, &mut bytes)?;
        Ok(bytes)
    }
}

fn elem_size(attrs: &MapAttrs) -> u64 {
    u64::from(attrs.value_size).next_multiple_of(8)
}

/// Index that a key holds.
pub fn index_of(key: &[u8]) -> Result<u32> {
    let bytes = key.first_chunk().ok_or(Errno::EINVAL)?;
    Ok(u32::from_ne_bytes(*bytes))
}

/// `array_map_get_next_key`.
pub fn next_index(max_entries: u32, key: Option<&[u8]>) -> Result<u32> {
    let index = key.map_or(Ok(u32::MAX), index_of)?;
    if index >= max_entries {
        return Ok(0);
    }
    if index == max_entries - 1 {
        return Err(Errno::ENOENT);
    }
    Ok(index + 1)
}
