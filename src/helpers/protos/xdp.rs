//! Helpers of XDP.
//!
//! Kernel: `net/core/filter.c`.

use super::prelude::*;

pub static XDP_GET_BUFF_LEN: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_CTX]);
pub static XDP_GET_BUFF_LEN_TRACE: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_BTF_ID]).arg_btf_id(1, BtfTypeRef::Struct("xdp_buff"));
pub static XDP_ADJUST_HEAD: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_ANYTHING]);
pub static XDP_LOAD_BYTES: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_ANYTHING, ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE]);
pub static XDP_STORE_BYTES: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_ANYTHING, ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE]);
pub static XDP_ADJUST_TAIL: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_ANYTHING]);
pub static XDP_ADJUST_META: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_ANYTHING]);
pub static XDP_REDIRECT: FuncProto = func(RET_INTEGER, &[ARG_ANYTHING, ARG_ANYTHING]);
pub static XDP_REDIRECT_MAP: FuncProto = func(RET_INTEGER, &[ARG_CONST_MAP_PTR, ARG_ANYTHING, ARG_ANYTHING]);
pub static XDP_EVENT_OUTPUT: FuncProto = func(
    RET_INTEGER,
    &[ARG_PTR_TO_CTX, ARG_CONST_MAP_PTR, ARG_ANYTHING, ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE_OR_ZERO],
)
.gpl_only();
pub static XDP_OUTPUT: FuncProto = func(
    RET_INTEGER,
    &[ARG_PTR_TO_BTF_ID, ARG_CONST_MAP_PTR, ARG_ANYTHING, ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE_OR_ZERO],
)
.gpl_only()
.arg_btf_id(1, BtfTypeRef::Struct("xdp_buff"));
pub static XDP_FIB_LOOKUP: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_PTR_TO_WRITE_MEM, ARG_CONST_SIZE, ARG_ANYTHING]).gpl_only();
pub static XDP_CHECK_MTU: FuncProto = func(
    RET_INTEGER,
    &[
        ARG_PTR_TO_CTX,
        ARG_ANYTHING,
        ARG_PTR_TO_FIXED_SIZE_MEM.with(MEM_WRITE | MEM_ALIGNED),
        ARG_ANYTHING,
        ARG_ANYTHING,
    ],
)
.gpl_only()
.arg_size(3, 4);
pub static XDP_SK_LOOKUP_UDP: FuncProto = func(
    RET_PTR_TO_SOCKET_OR_NULL,
    &[ARG_PTR_TO_CTX, ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING, ARG_ANYTHING],
)
.pkt_access();
pub static XDP_SKC_LOOKUP_TCP: FuncProto = func(
    RET_PTR_TO_SOCK_COMMON_OR_NULL,
    &[ARG_PTR_TO_CTX, ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING, ARG_ANYTHING],
)
.pkt_access();
pub static XDP_SK_LOOKUP_TCP: FuncProto = func(
    RET_PTR_TO_SOCKET_OR_NULL,
    &[ARG_PTR_TO_CTX, ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING, ARG_ANYTHING],
)
.pkt_access();
