//! `BPF_MAP_CREATE`: `map_create` of `kernel/bpf/syscall.c`.

use std::sync::Arc;

use bpftwin_uapi::attr::{
    BPF_F_INNER_MAP, BPF_F_MMAPABLE, BPF_F_RDONLY, BPF_F_TOKEN_FD, BPF_F_VTYPE_BTF_OBJ_FD, BPF_F_WRONLY,
    MapCreate,
};
use bpftwin_uapi::{Errno, MapType};

use super::{Call, Result};
use crate::btf::BtfRecord;
use crate::kernel::descriptors::Access;
use crate::kernel::objects::BtfObject;
use crate::maps::alloc::{self, Allocated};
use crate::maps::array::ArrayMap;
use crate::maps::bloom::BloomFilter;
use crate::maps::fd_array::FdArray;
use crate::maps::htab::Htab;
use crate::maps::lpm_trie::LpmTrie;
use crate::maps::queue_stack::QueueStack;
use crate::maps::{Contents, Map, MapAttrs, MapState, bpf_obj_name_cpy, check_btf, meta};
use crate::verifier::prog::VerifierMap;

/// `SHA256_DIGEST_SIZE`.
const SHA256_DIGEST_SIZE: usize = 32;

/// `bpf_get_file_flag`: the access that flags ask for.
pub(super) fn bpf_get_file_flag(flags: u32) -> Result<Access> {
    match (flags & BPF_F_RDONLY != 0, flags & BPF_F_WRONLY != 0) {
        (true, true) => Err(Errno::EINVAL),
        (true, false) => Ok(Access::READ),
        (false, true) => Ok(Access::WRITE),
        (false, false) => Ok(Access::READ_WRITE),
    }
}

/// What `map_alloc` made: nothing of it is in the id table yet.
struct New {
    attrs: MapAttrs,
    inner_map_meta: Option<Arc<VerifierMap>>,
    contents: Contents,
}

/// What the BTF attributes say of a map.
#[derive(Default)]
struct MapBtf {
    btf: Option<Arc<BtfObject>>,
    record: Option<Arc<BtfRecord>>,
    key_type_id: u32,
    value_type_id: u32,
    vmlinux_value_type_id: u32,
}

pub(super) fn map_create(call: &Call<'_>) -> Result {
    let mut attr: MapCreate = call.part()?;
    let profile = call.kernel.profile();
    let numa_node = alloc::numa_node(&attr);
    let token_flag = attr.map_flags & BPF_F_TOKEN_FD != 0;
    attr.map_flags &= !BPF_F_TOKEN_FD;

    if attr.btf_vmlinux_value_type_id != 0 {
        if attr.map_type != MapType::StructOps as u32
            || attr.btf_key_type_id != 0
            || attr.btf_value_type_id != 0
        {
            return Err(Errno::EINVAL);
        }
    } else if attr.btf_key_type_id != 0 && attr.btf_value_type_id == 0 {
        return Err(Errno::EINVAL);
    }
    if attr.map_extra != 0
        && attr.map_type != MapType::BloomFilter as u32
        && attr.map_type != MapType::Arena as u32
    {
        return Err(Errno::EINVAL);
    }
    let access = bpf_get_file_flag(attr.map_flags)?;
    if numa_node.is_some_and(|node| node >= profile.numa_nodes) {
        return Err(Errno::EINVAL);
    }
    let map_type = MapType::from_u32(attr.map_type).ok_or(Errno::EINVAL)?;
    if !alloc::has_map_type(profile, map_type) {
        return Err(Errno::EINVAL);
    }
    alloc::alloc_check(map_type, &attr, call.caps)?;
    if token_flag {
        bpf_token_get_from_fd(call, attr.map_token_fd)?;
    }
    if call.kernel.unprivileged_bpf_disabled() != 0 && !call.caps.bpf() {
        return Err(Errno::EPERM);
    }
    if alloc::required_cap(map_type).is_some_and(|cap| !call.caps.capable_or_admin(cap)) {
        return Err(Errno::EPERM);
    }

    let mut new = map_alloc(call, map_type, &attr)?;
    let name = bpf_obj_name_cpy(&attr.map_name)?;
    let btf = map_btf(call, &attr, &new.attrs)?;
    if let Some(record) = &btf.record {
        let special = check_btf::special_fields(record);
        match &mut new.contents {
            Contents::Array(array) => array.set_special(special),
            Contents::Htab(htab) => htab.set_special(special),
            _ => {}
        }
    }
    let excl_prog_sha = excl_prog_sha(call, &attr)?;
    let identity = call.kernel.new_cookie();
    call.kernel.publish_map(
        |id| Map {
            id,
            identity,
            attrs: new.attrs,
            name,
            btf: btf.btf,
            btf_key_type_id: btf.key_type_id,
            btf_value_type_id: btf.value_type_id,
            btf_vmlinux_value_type_id: btf.vmlinux_value_type_id,
            record: btf.record,
            inner_map_meta: new.inner_map_meta,
            contents: new.contents,
            excl_prog_sha,
            state: MapState::default(),
        },
        access,
    )
}

/// `bpf_token_get_from_fd`, in a kernel in which no tokens can be made.
pub(super) fn bpf_token_get_from_fd(call: &Call<'_>, fd: i32) -> Result<()> {
    call.kernel.file(fd)?;
    Err(Errno::EINVAL)
}

/// `map_alloc` of the type.
fn map_alloc(call: &Call<'_>, map_type: MapType, attr: &MapCreate) -> Result<New> {
    if attr.map_ifindex != 0 {
        return Err(offload_map_alloc(call, map_type, attr));
    }
    if map_type == MapType::StructOps {
        return Err(struct_ops_map_alloc(call, attr));
    }
    let profile = call.kernel.profile();
    let inner_map_meta = match map_type {
        MapType::ArrayOfMaps | MapType::HashOfMaps => {
            let inner = call.kernel.map_by_fd(attr.inner_map_fd as i32)?;
            Some(meta::bpf_map_meta_alloc(&inner, call.kernel.new_cookie())?)
        }
        _ => None,
    };
    // bpf_bypass_spec_v1() is perfmon_capable(), on a CPU with mitigations on.
    let Allocated { max_entries, map_flags, n_buckets } =
        alloc::map_alloc(map_type, attr, profile, call.caps.perfmon())?;
    let attrs = MapAttrs::from_attr(map_type, &MapCreate { max_entries, map_flags, ..*attr });
    let contents = match map_type {
        MapType::Array => {
            let mmapable = attr.map_flags & BPF_F_MMAPABLE != 0;
            debug_assert!(attr.map_flags & BPF_F_INNER_MAP == 0 || map_type == MapType::Array);
            Contents::Array(ArrayMap::new(&attrs, mmapable, 1)?)
        }
        MapType::PercpuArray => Contents::Array(ArrayMap::new(&attrs, false, profile.possible_cpus)?),
        MapType::ProgArray | MapType::PerfEventArray | MapType::CgroupArray | MapType::ArrayOfMaps => {
            Contents::FdArray(FdArray::default())
        }
        MapType::Hash
        | MapType::PercpuHash
        | MapType::LruHash
        | MapType::LruPercpuHash
        | MapType::HashOfMaps => Contents::Htab(Htab::new(&attrs, n_buckets, profile.possible_cpus)),
        MapType::LpmTrie => Contents::LpmTrie(LpmTrie::default()),
        MapType::Queue | MapType::Stack => Contents::QueueStack(QueueStack::default()),
        MapType::BloomFilter => Contents::Bloom(BloomFilter::new(&attrs)),
        _ => Contents::Opaque,
    };
    Ok(New { attrs, inner_map_meta, contents })
}

/// `bpf_map_offload_map_alloc`, in a kernel whose devices cannot offload.
fn offload_map_alloc(call: &Call<'_>, map_type: MapType, attr: &MapCreate) -> Errno {
    if !call.caps.sys_admin() {
        return Errno::EPERM;
    }
    if !matches!(map_type, MapType::Array | MapType::Hash) {
        return Errno::EINVAL;
    }
    // bpf_dev_offload_check(): no such device, or one that does not offload.
    let mut name = [0 as libc::c_char; libc::IF_NAMESIZE];
    // SAFETY: the buffer has the IF_NAMESIZE bytes that the call may fill.
    let known = unsafe { !libc::if_indextoname(attr.map_ifindex, name.as_mut_ptr()).is_null() };
    if known { Errno::EOPNOTSUPP } else { Errno::EINVAL }
}

/// `bpf_struct_ops_map_alloc`, as far as it does not look at the kernel's types.
fn struct_ops_map_alloc(call: &Call<'_>, attr: &MapCreate) -> Errno {
    if attr.map_flags & BPF_F_VTYPE_BTF_OBJ_FD != 0 {
        return match call.kernel.btf_by_fd(attr.value_type_btf_obj_fd) {
            Err(error) => error,
            Ok(btf) if !btf.btf.is_module() => Errno::EINVAL,
            Ok(_) => call.not_emulated("struct_ops maps"),
        };
    }
    if call.kernel.needed_btf_vmlinux().is_none() {
        return Errno::ENOTSUPP;
    }
    call.not_emulated("struct_ops maps")
}

/// The map's BTF, and what it says of its value.
fn map_btf(call: &Call<'_>, attr: &MapCreate, attrs: &MapAttrs) -> Result<MapBtf> {
    if attr.btf_key_type_id == 0 && attr.btf_value_type_id == 0 && attr.btf_vmlinux_value_type_id == 0 {
        return Ok(MapBtf::default());
    }
    let object = call.kernel.btf_by_fd(attr.btf_fd as i32)?;
    if object.btf.is_kernel() {
        return Err(Errno::EACCES);
    }
    let record = if attr.btf_value_type_id != 0 {
        let (key, value) = (attr.btf_key_type_id, attr.btf_value_type_id);
        check_btf::map_check_btf(attrs, &object.btf, key, value, call.caps, &|| {
            call.kernel.needed_btf_vmlinux()
        })?
    } else {
        None
    };
    Ok(MapBtf {
        btf: Some(object),
        record,
        key_type_id: attr.btf_key_type_id,
        value_type_id: attr.btf_value_type_id,
        vmlinux_value_type_id: attr.btf_vmlinux_value_type_id,
    })
}

fn excl_prog_sha(call: &Call<'_>, attr: &MapCreate) -> Result<Option<[u8; SHA256_DIGEST_SIZE]>> {
    if attr.excl_prog_hash == 0 {
        return if attr.excl_prog_hash_size != 0 { Err(Errno::EINVAL) } else { Ok(None) };
    }
    if attr.excl_prog_hash_size as usize != SHA256_DIGEST_SIZE {
        return Err(Errno::EINVAL);
    }
    let mut digest = [0; SHA256_DIGEST_SIZE];
    call.memory.read(attr.excl_prog_hash, &mut digest)?;
    Ok(Some(digest))
}
