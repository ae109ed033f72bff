//! Maps of maps: what the template of inner maps keeps, and which maps conform to it (`kernel/bpf/map_in_map.c`).

use std::sync::Arc;

use bpftwin_uapi::attr::BPF_F_INNER_MAP;
use bpftwin_uapi::{Errno, MapType};

use super::{Map, Result};
use crate::verifier::prog::{MapContents, VerifierMap};

/// Whether maps of a type can be inner maps: those that have `map_meta_equal`.
fn can_be_inner(map_type: MapType) -> bool {
    !matches!(
        map_type,
        MapType::ProgArray
            | MapType::ArrayOfMaps
            | MapType::HashOfMaps
            | MapType::CgroupStorage
            | MapType::PercpuCgroupStorage
            | MapType::StructOps
    )
}

/// The contents of a template: there are none.
struct NoContents;

impl MapContents for NoContents {
    fn frozen(&self) -> bool {
        false
    }

    fn read_value(&self, _off: u32, _buf: &mut [u8]) -> Result<()> {
        Err(Errno::ENOTSUPP)
    }
}

/// `bpf_map_meta_alloc`: the template that `inner` makes, with an identity of its own.
pub fn bpf_map_meta_alloc(inner: &Map, identity: u64) -> Result<Arc<VerifierMap>> {
    if inner.inner_map_meta.is_some() {
        return Err(Errno::EINVAL);
    }
    if !can_be_inner(inner.attrs.map_type) {
        return Err(Errno::ENOTSUPP);
    }
    Ok(Arc::new(VerifierMap {
        identity,
        map_type: inner.attrs.map_type,
        key_size: inner.attrs.key_size,
        value_size: inner.attrs.value_size,
        max_entries: inner.attrs.max_entries,
        map_flags: inner.attrs.map_flags,
        map_extra: 0,
        name: String::new(),
        record: inner.record.clone(),
        btf: inner.btf.as_ref().map(|btf| Arc::clone(&btf.btf)),
        btf_value_type_id: 0,
        inner_map_meta: None,
        offloaded: false,
        excl_prog_sha: None,
        contents: Arc::new(NoContents),
    }))
}

/// `map_meta_equal` of the template's type.
pub fn map_meta_equal(meta: &VerifierMap, map: &Map) -> bool {
    let attrs = &map.attrs;
    let same = meta.map_type == attrs.map_type
        && meta.key_size == attrs.key_size
        && meta.value_size == attrs.value_size
        && meta.map_flags == attrs.map_flags
        && meta.record == map.record;
    let any_size = match meta.map_type {
        MapType::Array => meta.map_flags & BPF_F_INNER_MAP != 0,
        MapType::Xskmap => false,
        _ => true,
    };
    same && (any_size || meta.max_entries == attrs.max_entries)
}
