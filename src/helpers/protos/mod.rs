//! The prototype of every helper, a file per family, named after the kernel's without `bpf_` and `_proto`: what
//! the kernel calls `bpf_get_stackid_proto_tp` is [`trace::GET_STACKID_TP`] here.
//!
//! One helper id can have several prototypes: which of them a program gets is [`super::get_func_proto`]'s to say.

pub mod base;
pub mod cgroup;
pub mod hooks;
pub mod skb;
pub mod sock;
pub mod storage;
pub mod trace;
pub mod xdp;

/// Short names for the tables: argument and return types with the combinations of modifiers that recur.
mod prelude {
    pub use crate::helpers::proto::{Allowed, BtfTypeRef, FuncProto, func};
    pub use crate::verifier::reg_type::flag::*;
    use crate::verifier::reg_type::{ArgType, RetType};

    macro_rules! alias {
        ($of:ident: $($name:ident)*) => { $(pub const $name: $of = $of::$name;)* };
    }

    alias! { ArgType:
        ARG_CONST_MAP_PTR ARG_PTR_TO_MAP_KEY ARG_PTR_TO_MAP_VALUE ARG_CONST_SIZE ARG_CONST_SIZE_OR_ZERO
        ARG_PTR_TO_CTX ARG_ANYTHING ARG_PTR_TO_SPIN_LOCK ARG_PTR_TO_SOCK_COMMON ARG_PTR_TO_BTF_ID
        ARG_PTR_TO_RINGBUF_MEM ARG_CONST_ALLOC_SIZE_OR_ZERO ARG_PTR_TO_BTF_ID_SOCK_COMMON ARG_PTR_TO_PERCPU_BTF_ID
        ARG_PTR_TO_FUNC ARG_PTR_TO_CONST_STR ARG_PTR_TO_TIMER ARG_KPTR_XCHG_DEST ARG_PTR_TO_DYNPTR
        ARG_PTR_TO_MAP_VALUE_OR_NULL ARG_PTR_TO_CTX_OR_NULL ARG_PTR_TO_SOCKET_OR_NULL ARG_PTR_TO_STACK_OR_NULL
        ARG_PTR_TO_BTF_ID_OR_NULL ARG_PTR_TO_UNINIT_MEM ARG_PTR_TO_FIXED_SIZE_MEM
    }

    alias! { RetType:
        RET_INTEGER RET_VOID RET_PTR_TO_MAP_VALUE RET_PTR_TO_MEM_OR_BTF_ID RET_PTR_TO_BTF_ID
        RET_PTR_TO_MAP_VALUE_OR_NULL RET_PTR_TO_SOCKET_OR_NULL RET_PTR_TO_TCP_SOCK_OR_NULL
        RET_PTR_TO_SOCK_COMMON_OR_NULL RET_PTR_TO_RINGBUF_MEM_OR_NULL RET_PTR_TO_DYNPTR_MEM_OR_NULL
        RET_PTR_TO_BTF_ID_OR_NULL RET_PTR_TO_BTF_ID_TRUSTED
    }

    /// Memory that the helper only reads.
    pub const ARG_PTR_TO_RDONLY_MEM: ArgType = ArgType::ARG_PTR_TO_MEM.with(MEM_RDONLY);
    pub const ARG_PTR_TO_RDONLY_MEM_OR_NULL: ArgType = ARG_PTR_TO_RDONLY_MEM.with(PTR_MAYBE_NULL);
    /// Initialised memory that the helper writes to.
    pub const ARG_PTR_TO_WRITE_MEM: ArgType = ArgType::ARG_PTR_TO_MEM.with(MEM_WRITE);
    pub const ARG_PTR_TO_WRITE_MEM_OR_NULL: ArgType = ARG_PTR_TO_WRITE_MEM.with(PTR_MAYBE_NULL);
    /// Memory of [`FuncProto::arg_size`] bytes that the helper only reads.
    pub const ARG_PTR_TO_RDONLY_FIXED_SIZE_MEM: ArgType = ARG_PTR_TO_FIXED_SIZE_MEM.with(MEM_RDONLY);
    /// Aligned memory of [`FuncProto::arg_size`] bytes that the helper fills.
    pub const ARG_PTR_TO_UNINIT_FIXED_SIZE_MEM: ArgType =
        ARG_PTR_TO_FIXED_SIZE_MEM.with(MEM_UNINIT | MEM_WRITE | MEM_ALIGNED);

    /// `sizeof(struct iphdr)`
    pub const IPHDR: u32 = 20;
    /// `sizeof(struct ipv6hdr)`
    pub const IPV6HDR: u32 = 40;
    /// `sizeof(struct tcphdr)`
    pub const TCPHDR: u32 = 20;
}
