//! Templates of inner maps, and what a pointer that was compared with null becomes.

use super::Verifier;
use super::reg_type::{RegType, flag};
use super::state::{MapIdx, RegState};
use crate::btf::field;
use bpftwin_uapi::MapType;

impl Verifier {
    /// Gives the inner-map templates of the program's maps an index each, behind the maps. To be called before the walk.
    pub fn add_inner_map_templates(&mut self) {
        self.inner_map_idx.clear();
        for i in 0..self.used_map_cnt {
            let template = self.maps[i].inner_map_meta.clone();
            let idx = template.map(|template| {
                self.maps.push(template);
                self.maps.len() as MapIdx - 1
            });
            self.inner_map_idx.push(idx);
        }
    }

    /// `mark_ptr_not_null_reg`: the pointer is known not to be null, which makes the result of a lookup what the map
    /// holds.
    pub fn mark_ptr_not_null_reg(&self, reg: &mut RegState) {
        if reg.type_.base() != RegType::PTR_TO_MAP_VALUE {
            reg.type_ = reg.type_.without(flag::PTR_MAYBE_NULL);
            return;
        }
        let Some(map_idx) = reg.map_ptr() else { return };
        if let Some(inner_idx) = self.inner_map_idx.get(map_idx as usize).copied().flatten() {
            reg.type_ = RegType::CONST_PTR_TO_MAP;
            reg.set_map_ptr(inner_idx);
            // The id, unique to the lookup, tells inner maps apart where it matters.
            let ids_matter = field::BPF_TIMER | field::BPF_WORKQUEUE | field::BPF_TASK_WORK;
            let record = self.maps[inner_idx as usize].record.as_deref();
            if record.is_some_and(|record| record.has_field(ids_matter)) {
                reg.set_map_uid(reg.id);
            }
            return;
        }
        reg.type_ = match self.maps[map_idx as usize].map_type {
            MapType::Xskmap => RegType::PTR_TO_XDP_SOCK,
            MapType::Sockmap | MapType::Sockhash => RegType::PTR_TO_SOCKET,
            _ => RegType::PTR_TO_MAP_VALUE,
        };
    }
}
