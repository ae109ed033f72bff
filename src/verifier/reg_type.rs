//! Types of registers, helper arguments and helper return values: a base type in the low eight bits and
//! modifier flags above them, as `enum bpf_reg_type`, `bpf_arg_type`, `bpf_return_type` and `bpf_type_flag`.

/// Bits of the base type: `BPF_BASE_TYPE_BITS`.
pub const BPF_BASE_TYPE_BITS: u32 = 8;
const BASE_TYPE_MASK: u32 = (1 << BPF_BASE_TYPE_BITS) - 1;

/// Modifier flags that any of the three kinds of type can carry: `enum bpf_type_flag`.
pub mod flag {
    pub const PTR_MAYBE_NULL: u32 = 1 << 8;
    pub const MEM_RDONLY: u32 = 1 << 9;
    pub const MEM_RINGBUF: u32 = 1 << 10;
    pub const MEM_USER: u32 = 1 << 11;
    pub const MEM_PERCPU: u32 = 1 << 12;
    pub const OBJ_RELEASE: u32 = 1 << 13;
    pub const PTR_UNTRUSTED: u32 = 1 << 14;
    pub const MEM_UNINIT: u32 = 1 << 15;
    pub const DYNPTR_TYPE_LOCAL: u32 = 1 << 16;
    pub const DYNPTR_TYPE_RINGBUF: u32 = 1 << 17;
    pub const MEM_FIXED_SIZE: u32 = 1 << 18;
    pub const MEM_ALLOC: u32 = 1 << 19;
    pub const PTR_TRUSTED: u32 = 1 << 20;
    pub const MEM_RCU: u32 = 1 << 21;
    pub const NON_OWN_REF: u32 = 1 << 22;
    pub const DYNPTR_TYPE_SKB: u32 = 1 << 23;
    pub const DYNPTR_TYPE_XDP: u32 = 1 << 24;
    pub const MEM_ALIGNED: u32 = 1 << 25;
    pub const MEM_WRITE: u32 = 1 << 26;
    pub const DYNPTR_TYPE_SKB_META: u32 = 1 << 27;

    pub const DYNPTR_TYPE_FLAG_MASK: u32 =
        DYNPTR_TYPE_LOCAL | DYNPTR_TYPE_RINGBUF | DYNPTR_TYPE_SKB | DYNPTR_TYPE_XDP | DYNPTR_TYPE_SKB_META;
    /// `BPF_REG_TRUSTED_MODIFIERS`
    pub const BPF_REG_TRUSTED_MODIFIERS: u32 = MEM_ALLOC | PTR_TRUSTED | NON_OWN_REF;
}

use flag::*;

macro_rules! extended_type {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $value:expr,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
        #[repr(transparent)]
        pub struct $name(pub u32);

        impl $name {
            $($(#[$vdoc])* pub const $variant: $name = $name($value);)*

            /// The type without its modifiers: `base_type()`.
            #[inline]
            pub const fn base(self) -> Self {
                Self(self.0 & BASE_TYPE_MASK)
            }

            /// The modifiers alone: `type_flag()`.
            #[inline]
            pub const fn flags(self) -> u32 {
                self.0 & !BASE_TYPE_MASK
            }

            /// Has all of these modifiers.
            #[inline]
            pub const fn has(self, flags: u32) -> bool {
                self.0 & flags == flags
            }

            /// Has one of these modifiers at least.
            #[inline]
            pub const fn has_any(self, flags: u32) -> bool {
                self.0 & flags != 0
            }

            #[inline]
            pub const fn with(self, flags: u32) -> Self {
                Self(self.0 | flags)
            }

            #[inline]
            pub const fn without(self, flags: u32) -> Self {
                Self(self.0 & !flags)
            }

            /// `type_may_be_null()`
            #[inline]
            pub const fn may_be_null(self) -> bool {
                self.0 & PTR_MAYBE_NULL != 0
            }
        }
    };
}

extended_type! {
    /// What a register or a spilled slot holds: `enum bpf_reg_type`.
    RegType {
        NOT_INIT = 0,
        SCALAR_VALUE = 1,
        PTR_TO_CTX = 2,
        CONST_PTR_TO_MAP = 3,
        PTR_TO_MAP_VALUE = 4,
        PTR_TO_MAP_KEY = 5,
        PTR_TO_STACK = 6,
        PTR_TO_PACKET_META = 7,
        PTR_TO_PACKET = 8,
        PTR_TO_PACKET_END = 9,
        PTR_TO_FLOW_KEYS = 10,
        PTR_TO_SOCKET = 11,
        PTR_TO_SOCK_COMMON = 12,
        PTR_TO_TCP_SOCK = 13,
        PTR_TO_TP_BUFFER = 14,
        PTR_TO_XDP_SOCK = 15,
        PTR_TO_BTF_ID = 16,
        PTR_TO_MEM = 17,
        PTR_TO_ARENA = 18,
        PTR_TO_BUF = 19,
        PTR_TO_FUNC = 20,
        CONST_PTR_TO_DYNPTR = 21,
        PTR_TO_MAP_VALUE_OR_NULL = PTR_MAYBE_NULL | RegType::PTR_TO_MAP_VALUE.0,
        PTR_TO_SOCKET_OR_NULL = PTR_MAYBE_NULL | RegType::PTR_TO_SOCKET.0,
        PTR_TO_SOCK_COMMON_OR_NULL = PTR_MAYBE_NULL | RegType::PTR_TO_SOCK_COMMON.0,
        PTR_TO_TCP_SOCK_OR_NULL = PTR_MAYBE_NULL | RegType::PTR_TO_TCP_SOCK.0,
        PTR_TO_BTF_ID_OR_NULL = PTR_MAYBE_NULL | RegType::PTR_TO_BTF_ID.0,
    }
}

extended_type! {
    /// What a helper demands of an argument: `enum bpf_arg_type`.
    ArgType {
        ARG_DONTCARE = 0,
        ARG_CONST_MAP_PTR = 1,
        ARG_PTR_TO_MAP_KEY = 2,
        ARG_PTR_TO_MAP_VALUE = 3,
        ARG_PTR_TO_MEM = 4,
        ARG_PTR_TO_ARENA = 5,
        ARG_CONST_SIZE = 6,
        ARG_CONST_SIZE_OR_ZERO = 7,
        ARG_PTR_TO_CTX = 8,
        ARG_ANYTHING = 9,
        ARG_PTR_TO_SPIN_LOCK = 10,
        ARG_PTR_TO_SOCK_COMMON = 11,
        ARG_PTR_TO_SOCKET = 12,
        ARG_PTR_TO_BTF_ID = 13,
        ARG_PTR_TO_RINGBUF_MEM = 14,
        ARG_CONST_ALLOC_SIZE_OR_ZERO = 15,
        ARG_PTR_TO_BTF_ID_SOCK_COMMON = 16,
        ARG_PTR_TO_PERCPU_BTF_ID = 17,
        ARG_PTR_TO_FUNC = 18,
        ARG_PTR_TO_STACK = 19,
        ARG_PTR_TO_CONST_STR = 20,
        ARG_PTR_TO_TIMER = 21,
        ARG_KPTR_XCHG_DEST = 22,
        ARG_PTR_TO_DYNPTR = 23,
        ARG_PTR_TO_MAP_VALUE_OR_NULL = PTR_MAYBE_NULL | ArgType::ARG_PTR_TO_MAP_VALUE.0,
        ARG_PTR_TO_MEM_OR_NULL = PTR_MAYBE_NULL | ArgType::ARG_PTR_TO_MEM.0,
        ARG_PTR_TO_CTX_OR_NULL = PTR_MAYBE_NULL | ArgType::ARG_PTR_TO_CTX.0,
        ARG_PTR_TO_SOCKET_OR_NULL = PTR_MAYBE_NULL | ArgType::ARG_PTR_TO_SOCKET.0,
        ARG_PTR_TO_STACK_OR_NULL = PTR_MAYBE_NULL | ArgType::ARG_PTR_TO_STACK.0,
        ARG_PTR_TO_BTF_ID_OR_NULL = PTR_MAYBE_NULL | ArgType::ARG_PTR_TO_BTF_ID.0,
        ARG_PTR_TO_UNINIT_MEM = MEM_UNINIT | MEM_WRITE | ArgType::ARG_PTR_TO_MEM.0,
        ARG_PTR_TO_FIXED_SIZE_MEM = MEM_FIXED_SIZE | ArgType::ARG_PTR_TO_MEM.0,
    }
}

extended_type! {
    /// What a helper returns: `enum bpf_return_type`.
    RetType {
        RET_INTEGER = 0,
        RET_VOID = 1,
        RET_PTR_TO_MAP_VALUE = 2,
        RET_PTR_TO_SOCKET = 3,
        RET_PTR_TO_TCP_SOCK = 4,
        RET_PTR_TO_SOCK_COMMON = 5,
        RET_PTR_TO_MEM = 6,
        RET_PTR_TO_MEM_OR_BTF_ID = 7,
        RET_PTR_TO_BTF_ID = 8,
        RET_PTR_TO_MAP_VALUE_OR_NULL = PTR_MAYBE_NULL | RetType::RET_PTR_TO_MAP_VALUE.0,
        RET_PTR_TO_SOCKET_OR_NULL = PTR_MAYBE_NULL | RetType::RET_PTR_TO_SOCKET.0,
        RET_PTR_TO_TCP_SOCK_OR_NULL = PTR_MAYBE_NULL | RetType::RET_PTR_TO_TCP_SOCK.0,
        RET_PTR_TO_SOCK_COMMON_OR_NULL = PTR_MAYBE_NULL | RetType::RET_PTR_TO_SOCK_COMMON.0,
        RET_PTR_TO_RINGBUF_MEM_OR_NULL = PTR_MAYBE_NULL | MEM_RINGBUF | RetType::RET_PTR_TO_MEM.0,
        RET_PTR_TO_DYNPTR_MEM_OR_NULL = PTR_MAYBE_NULL | RetType::RET_PTR_TO_MEM.0,
        RET_PTR_TO_BTF_ID_OR_NULL = PTR_MAYBE_NULL | RetType::RET_PTR_TO_BTF_ID.0,
        RET_PTR_TO_BTF_ID_TRUSTED = PTR_TRUSTED | RetType::RET_PTR_TO_BTF_ID.0,
    }
}
