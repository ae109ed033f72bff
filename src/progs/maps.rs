//! Which maps a program may use: `check_map_prog_compatibility` of `kernel/bpf/verifier.c`. Which programs may
//! share a map of programs is told by [`MapOwner`](crate::maps::owner::MapOwner).

use bpftwin_uapi::{Errno, MapType, ProgType};

use super::rules::{is_tracing_prog_type, resolve_prog_type};
use crate::btf::field::*;
use crate::verifier::prog::{Prog, VerifierMap};

/// Why a program may not use a map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapRefusal {
    /// The line for the log, without its end, and the error.
    Refused(&'static str, Errno),
    NotEmulated(&'static str),
}

use MapRefusal::{NotEmulated, Refused};

/// Fields of values that tracing programs must not touch, with the line for the log. In the kernel's order; that for
/// socket filters comes before the locks.
const NOT_FOR_TRACING: [(u32, &str); 4] = [
    (BPF_LIST_HEAD | BPF_RB_ROOT, "tracing progs cannot use bpf_{list_head,rb_root} yet"),
    (BPF_SPIN_LOCK | BPF_RES_SPIN_LOCK, "tracing progs cannot use bpf_spin_lock yet"),
    (BPF_TIMER, "tracing progs cannot use bpf_timer yet"),
    (BPF_WORKQUEUE, "tracing progs cannot use bpf_wq yet"),
];

/// Checks that the program may use the map, which it has not used before, and remembers cgroup storages.
/// [`Prog::digest`] must be that of the instructions as they are.
pub fn check_map_prog_compatibility(prog: &mut Prog, map: &VerifierMap) -> Result<(), MapRefusal> {
    let prog_type = resolve_prog_type(prog);
    if map.excl_prog_sha.is_some_and(|sha| sha != prog.digest) {
        return Err(Refused("program's hash doesn't match map's excl_prog_hash", Errno::EACCES));
    }
    for (fields, message) in NOT_FOR_TRACING {
        if !map.record.as_ref().is_some_and(|record| record.has_field(fields)) {
            continue;
        }
        if fields & BPF_SPIN_LOCK != 0 && prog_type == ProgType::SocketFilter {
            return Err(Refused("socket filter progs cannot use bpf_spin_lock yet", Errno::EINVAL));
        }
        if is_tracing_prog_type(prog_type) {
            return Err(Refused(message, Errno::EINVAL));
        }
    }
    if prog.offloaded || map.offloaded {
        return Err(NotEmulated("maps of network devices"));
    }
    if map.map_type == MapType::StructOps {
        return Err(Refused("bpf_struct_ops map cannot be used in prog", Errno::EINVAL));
    }
    if prog.sleepable && !sleepable_may_use(map.map_type) {
        let message = "Sleepable programs can only use array, hash, ringbuf and local storage maps";
        return Err(Refused(message, Errno::EINVAL));
    }
    if let Some(stype) = cgroup_storage_type(map.map_type) {
        let slot = &mut prog.cgroup_storage[stype];
        if slot.is_some_and(|used| used != map.identity) {
            return Err(Refused("only one cgroup storage of each type is allowed", Errno::EBUSY));
        }
        *slot = Some(map.identity);
    }
    if map.map_type == MapType::Arena {
        return Err(NotEmulated("arenas"));
    }
    Ok(())
}

fn sleepable_may_use(map_type: MapType) -> bool {
    use MapType::*;
    matches!(
        map_type,
        Hash | LruHash
            | Array
            | PercpuHash
            | PercpuArray
            | LruPercpuHash
            | ArrayOfMaps
            | HashOfMaps
            | Ringbuf
            | UserRingbuf
            | InodeStorage
            | SkStorage
            | TaskStorage
            | CgrpStorage
            | Queue
            | Stack
            | Arena
    )
}

/// Index into [`Prog::cgroup_storage`].
fn cgroup_storage_type(map_type: MapType) -> Option<usize> {
    match map_type {
        MapType::CgroupStorage => Some(0),
        MapType::PercpuCgroupStorage => Some(1),
        _ => None,
    }
}

/// Maps whose elements are programs, or hold some, as the kernel counts them (`map_type_contains_progs`): without
/// `BPF_MAP_TYPE_DEVMAP_HASH`.
pub const fn map_type_contains_progs(map_type: MapType) -> bool {
    matches!(map_type, MapType::ProgArray | MapType::Devmap | MapType::Cpumap)
}
