//! Special fields of map values, and which maps may have them: the middle part of `map_check_btf`.

use std::sync::Arc;

use bpftwin_uapi::Errno;
use bpftwin_uapi::MapType::{self, *};
use bpftwin_uapi::attr::{BPF_F_RDONLY_PROG, BPF_F_WRONLY_PROG};

use super::record::{BtfRecord, field::*};
use super::{Btf, BtfType, KernelBtf};

/// A map that is being made, as far as its values' special fields matter.
#[derive(Clone, Copy, Debug)]
pub struct MapValue {
    pub map_type: MapType,
    pub value_size: u32,
    pub map_flags: u32,
    /// The caller has `CAP_BPF`.
    pub bpf_capable: bool,
}

impl Btf {
    /// The special fields of a map's value type: `None` where it has none, or none that can be made sense of, which the
    /// kernel lets pass until a program asks for them. `EPERM`, `EACCES` and `EOPNOTSUPP` where the map may not have them.
    pub fn map_record(
        &self,
        value_type: &BtfType<'_>,
        map: &MapValue,
        kernel: KernelBtf<'_>,
    ) -> Result<Option<Arc<BtfRecord>>, Errno> {
        let Ok(Some(record)) = self.parse_fields(value_type, MAP_VALUE_FIELDS, map.value_size, kernel) else {
            return Ok(None);
        };
        if !map.bpf_capable {
            return Err(Errno::EPERM);
        }
        if map.map_flags & (BPF_F_RDONLY_PROG | BPF_F_WRONLY_PROG) != 0 {
            return Err(Errno::EACCES);
        }
        let fields = (0..u32::BITS).map(|bit| record.field_mask & 1 << bit).filter(|&field| field != 0);
        for field in fields {
            if !maps_with_field(field).contains(&map.map_type) {
                return Err(Errno::EOPNOTSUPP);
            }
        }
        self.check_and_fixup_fields(&record)?;
        Ok(Some(Arc::new(record)))
    }
}

/// Map types whose values may have fields of this type.
fn maps_with_field(field: u32) -> &'static [MapType] {
    match field {
        BPF_SPIN_LOCK | BPF_RES_SPIN_LOCK => {
            &[Hash, Array, CgroupStorage, SkStorage, InodeStorage, TaskStorage, CgrpStorage]
        }
        BPF_TIMER | BPF_WORKQUEUE | BPF_TASK_WORK | BPF_LIST_HEAD | BPF_RB_ROOT => &[Hash, LruHash, Array],
        BPF_KPTR_UNREF | BPF_KPTR_REF | BPF_KPTR_PERCPU | BPF_REFCOUNT => &[
            Hash,
            PercpuHash,
            LruHash,
            LruPercpuHash,
            Array,
            PercpuArray,
            SkStorage,
            InodeStorage,
            TaskStorage,
            CgrpStorage,
        ],
        BPF_UPTR => &[TaskStorage],
        _ => &[],
    }
}
