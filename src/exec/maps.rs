//! Maps and their elements, as helpers find them.

use std::sync::Arc;

use bpftwin_uapi::MapType;
use bpftwin_uapi::attr::BPF_F_RDONLY_PROG;
use rustc_hash::FxHashMap;

use super::access::Access;
use super::inputs::{Origin, Range};
use super::machine::{Exec, Machine};
use super::memory::{RegionId, RegionKind, Value};
use super::stop::Wrong;
use crate::verifier::prog::VerifierMap;
use crate::verifier::reg_type::RegType;

/// Bytes of a value that an update copies. Each eight of them may be asked for.
const MAX_VALUE_SIZE: u32 = 1 << 20;
/// Maps that a run can find in maps of maps.
const MAX_INNER_MAPS: usize = 64;

/// What the run knows of the contents of maps.
#[derive(Default)]
pub(super) struct Elements {
    /// Regions of values by map and key.
    values: FxHashMap<(u32, Box<[u8]>), RegionId>,
    /// Number of elements that are known of each map.
    counts: FxHashMap<u32, u32>,
    maps: FxHashMap<u32, RegionId>,
    inner: FxHashMap<(u32, Box<[u8]>), u32>,
}

fn is_array(map_type: MapType) -> bool {
    matches!(map_type, MapType::Array | MapType::PercpuArray | MapType::ArrayOfMaps)
}

impl Machine<'_> {
    /// The region that stands for a map.
    pub(super) fn map_region(&mut self, number: u32) -> Exec<RegionId> {
        if let Some(&id) = self.elements.maps.get(&number) {
            return Ok(id);
        }
        let Some(map) = self.maps.get(number as usize).cloned() else {
            return self.unsupported(format!("map {number}"));
        };
        // Programs with the kernel's BTF may read the map's structure.
        let id = self.new_region(RegionKind::Map { map: number }, 0, 4096)?;
        let region = self.region_mut(id);
        region.writable = false;
        region.map = Some(map);
        self.elements.maps.insert(number, id);
        Ok(id)
    }

    /// The map that a register points to, and its number.
    pub(super) fn map_arg(&self, reg: u8) -> Exec<(u32, Arc<VerifierMap>)> {
        let pointer = self.reg(reg)?;
        if let Some((RegionKind::Map { map: number }, 0)) = self.place(pointer)
            && let Some(map) = self.maps.get(number as usize)
        {
            return Ok((number, Arc::clone(map)));
        }
        let access = Access { pointer, reg, off: 0, size: 0, write: false, arg: Some(reg) };
        self.bad_access(access, Wrong::NotAPointer)
    }

    /// The value of the element with this key, which there is from now on.
    pub(super) fn element(&mut self, number: u32, key: &[u8]) -> Exec<RegionId> {
        if let Some(&id) = self.elements.values.get(&(number, key.into())) {
            return Ok(id);
        }
        let Some(map) = self.maps.get(number as usize).cloned() else {
            return self.unsupported(format!("map {number}"));
        };
        let known = self.elements.counts.entry(number).or_insert(0);
        let mut entry = *known;
        *known = known.saturating_add(1);
        if is_array(map.map_type) {
            entry = key.first_chunk().map_or(0, |&index| u32::from_le_bytes(index));
        }
        let id = self.new_region(RegionKind::MapValue { map: number, entry }, 0, map.value_size.into())?;
        let region = self.region_mut(id);
        region.writable = map.map_flags & BPF_F_RDONLY_PROG == 0;
        region.map = Some(map);
        self.elements.values.insert((number, key.into()), id);
        Ok(id)
    }

    /// Key and value of an element that a callback is given.
    pub(super) fn nth_element(&mut self, number: u32, map: &VerifierMap, nth: u32) -> Exec<(Value, Value)> {
        let key_size = map.key_size;
        let key = self.new_region(RegionKind::MapKey { map: number, entry: nth }, 0, key_size.into())?;
        if is_array(map.map_type) {
            self.region_mut(key).write(0, 4, Value::scalar(nth.into()));
        }
        self.region_mut(key).writable = false;
        let bytes = self.read_bytes(key, 0, key_size)?;
        let value = self.element(number, &bytes)?;
        Ok((self.pointer_to(key, 0), self.pointer_to(value, 0)))
    }

    /// `bpf_map_lookup_elem`, and its variant for the value of one CPU.
    pub(super) fn lookup(
        &mut self,
        number: u32,
        map: &VerifierMap,
        key: Vec<u8>,
        cpu: Option<u64>,
    ) -> Exec<Value> {
        if is_array(map.map_type) {
            let index = key.first_chunk().map_or(0, |&index| u32::from_le_bytes(index));
            if index >= map.max_entries {
                return Ok(Value::scalar(0));
            }
        }
        let always = cpu.is_none() && matches!(map.map_type, MapType::Array | MapType::PercpuArray);
        let choice = if always { Value::scalar(1) } else { self.choose_pointer() };
        if choice.bits == 0 {
            return Ok(choice);
        }
        let pointer = self.found(number, map, key, cpu)?;
        Ok(Value { term: choice.term, ..pointer })
    }

    /// What a lookup finds, where it finds something.
    fn found(&mut self, number: u32, map: &VerifierMap, mut key: Vec<u8>, cpu: Option<u64>) -> Exec<Value> {
        if let Some(inner) = map.inner_map_meta.clone() {
            let key = (number, key.into_boxed_slice());
            let inner_number = match self.elements.inner.get(&key) {
                Some(&inner_number) => inner_number,
                None => {
                    if self.elements.inner.len() >= MAX_INNER_MAPS {
                        return self.unsupported("so many inner maps");
                    }
                    self.maps.push(inner);
                    let inner_number = self.maps.len() as u32 - 1;
                    self.elements.inner.insert(key, inner_number);
                    inner_number
                }
            };
            let id = self.map_region(inner_number)?;
            return Ok(self.pointer_to(id, 0));
        }
        match map.map_type {
            MapType::Sockmap | MapType::Sockhash => return self.socket(RegType::PTR_TO_SOCKET),
            MapType::Xskmap => return self.socket(RegType::PTR_TO_XDP_SOCK),
            _ => {}
        }
        if let Some(cpu) = cpu {
            key.extend_from_slice(&cpu.to_le_bytes());
        }
        let value = self.element(number, &key)?;
        Ok(self.pointer_to(value, 0))
    }

    /// Whether the call returns a pointer (1) or null (0).
    pub(super) fn choose_pointer(&mut self) -> Value {
        let origin = Origin::Return { insn: self.pc(), nth: self.nth() };
        self.ask(origin, Range::CHOICE)
    }

    /// The effect of a `bpf_map_update_elem` that succeeded.
    pub(super) fn update(
        &mut self,
        number: u32,
        map: &VerifierMap,
        key: &[u8],
        from: (RegionId, i64),
    ) -> Exec<()> {
        if !matches!(map.map_type, MapType::Array | MapType::Hash | MapType::LruHash) {
            return Ok(());
        }
        let index = key.first_chunk().map_or(0, |&index| u32::from_le_bytes(index));
        if map.map_type == MapType::Array && index >= map.max_entries {
            return Ok(());
        }
        if map.value_size > MAX_VALUE_SIZE {
            return self.unsupported("updates of values this large");
        }
        let value = self.element(number, key)?;
        let mut off = 0;
        while off < i64::from(map.value_size) {
            let size = (i64::from(map.value_size) - off).min(8) as u8;
            let bytes = self.read_memory(from.0, from.1.wrapping_add(off), size)?;
            self.region_mut(value).write(off, size, Value { region: None, ..bytes });
            off += i64::from(size);
        }
        Ok(())
    }
}
