//! Vocabulary of memory accesses, shared by the verifier's checks and the program types.

use super::kptr::KernelKptr;
use super::reg_type::RegType;
use super::state::MapIdx;

/// Direction of an access: `enum bpf_access_type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessType {
    Read,
    Write,
}

/// Who accesses: `enum bpf_access_src`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum AccessSrc {
    /// An instruction.
    Direct,
    /// A helper, through a pointer that it was given.
    Helper,
}

/// What a program type tells of an access to its context: `struct bpf_insn_access_aux`.
#[derive(Clone, Copy, Debug)]
pub struct InsnAccessAux {
    /// Type of the value that a read yields.
    pub reg_type: RegType,
    /// The load extends the sign.
    pub is_ldsx: bool,
    /// Size of the whole field, where narrower reads of it are possible; zero otherwise.
    pub ctx_field_size: i32,
    /// Name of the structure in the kernel's BTF, where the program type knows no more of a `PTR_TO_BTF_ID`.
    pub btf_struct: Option<&'static str>,
    /// BTF object (see `Payload`), type and reference of a `PTR_TO_BTF_ID` that is read.
    pub btf: u32,
    pub btf_id: u32,
    pub ref_obj_id: u32,
    /// The value read is a return value of the traced function.
    pub is_retval: bool,
}

impl InsnAccessAux {
    /// As a check starts: a scalar, unless the program type says otherwise.
    pub const fn new(is_ldsx: bool) -> Self {
        Self {
            reg_type: RegType::SCALAR_VALUE,
            is_ldsx,
            ctx_field_size: 0,
            btf_struct: None,
            btf: 0,
            btf_id: 0,
            ref_obj_id: 0,
            is_retval: false,
        }
    }
}

/// What the arguments of a helper call have in common: `struct bpf_call_arg_meta`.
#[derive(Clone, Copy, Default, Debug)]
pub struct CallArgMeta {
    pub map_ptr: Option<MapIdx>,
    /// The helper initialises the memory it is given: it may be uninitialised stack.
    pub raw_mode: bool,
    pub pkt_access: bool,
    pub release_regno: u8,
    /// Stack memory that the helper writes: register and bytes. Set in raw mode only.
    pub regno: u8,
    pub access_size: i32,
    pub mem_size: u32,
    /// Upper bound of the last size argument.
    pub msize_max_value: u64,
    pub ref_obj_id: u32,
    pub dynptr_id: u32,
    pub map_uid: u32,
    pub func_id: i32,
    pub btf: u32,
    pub btf_id: u32,
    pub ret_btf: u32,
    pub ret_btf_id: u32,
    pub subprogno: u32,
    pub const_map_key: i64,
    /// What `bpf_kptr_xchg` exchanges.
    pub kptr: Option<KernelKptr>,
}
