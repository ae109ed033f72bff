//! What the arguments of one helper call have told so far: `struct bpf_call_arg_meta`.

use super::state::MapIdx;

/// Collected while the arguments are checked in order; later arguments and the return value depend on it.
#[derive(Clone, Copy, Default, Debug)]
pub struct CallArgMeta {
    pub map_ptr: Option<MapIdx>,
    /// The memory argument may be uninitialised: the helper fills it.
    pub raw_mode: bool,
    pub pkt_access: bool,
    /// Register that the helper releases, zero for none.
    pub release_regno: u8,
    /// Register whose memory, [`access_size`](Self::access_size) bytes, becomes `STACK_MISC` after the checks.
    pub regno: u8,
    pub access_size: i32,
    /// Size of the memory that the helper returns.
    pub mem_size: i32,
    /// Largest value of the size argument.
    pub msize_max_value: u64,
    pub ref_obj_id: u32,
    pub map_uid: u32,
    pub func_id: i32,
    /// BTF object and type id that a per-CPU argument names.
    pub ret_btf: u32,
    pub ret_btf_id: u32,
    pub subprogno: u32,
    /// Key of a lookup, -1 where it is not a known constant.
    pub const_map_key: i64,
}
