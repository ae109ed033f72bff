//! Helpers of local storage: socket, task, inode and cgroup.
//!
//! Kernel: `kernel/bpf/bpf_*_storage.c`, `net/core/bpf_sk_storage.c`.

use super::prelude::*;

pub static CGRP_STORAGE_GET: FuncProto = func(
    RET_PTR_TO_MAP_VALUE_OR_NULL,
    &[ARG_CONST_MAP_PTR, ARG_PTR_TO_BTF_ID_OR_NULL, ARG_PTR_TO_MAP_VALUE_OR_NULL, ARG_ANYTHING],
)
.arg_btf_id(2, BtfTypeRef::Struct("cgroup"));
pub static CGRP_STORAGE_DELETE: FuncProto =
    func(RET_INTEGER, &[ARG_CONST_MAP_PTR, ARG_PTR_TO_BTF_ID_OR_NULL])
        .arg_btf_id(2, BtfTypeRef::Struct("cgroup"));
pub static INODE_STORAGE_GET: FuncProto = func(
    RET_PTR_TO_MAP_VALUE_OR_NULL,
    &[ARG_CONST_MAP_PTR, ARG_PTR_TO_BTF_ID_OR_NULL, ARG_PTR_TO_MAP_VALUE_OR_NULL, ARG_ANYTHING],
)
.arg_btf_id(2, BtfTypeRef::Struct("inode"));
pub static INODE_STORAGE_DELETE: FuncProto =
    func(RET_INTEGER, &[ARG_CONST_MAP_PTR, ARG_PTR_TO_BTF_ID_OR_NULL])
        .arg_btf_id(2, BtfTypeRef::Struct("inode"));
pub static TASK_STORAGE_GET_RECUR: FuncProto = func(
    RET_PTR_TO_MAP_VALUE_OR_NULL,
    &[ARG_CONST_MAP_PTR, ARG_PTR_TO_BTF_ID_OR_NULL, ARG_PTR_TO_MAP_VALUE_OR_NULL, ARG_ANYTHING],
)
.arg_btf_id(2, BtfTypeRef::Struct("task_struct"));
pub static TASK_STORAGE_GET: FuncProto = func(
    RET_PTR_TO_MAP_VALUE_OR_NULL,
    &[ARG_CONST_MAP_PTR, ARG_PTR_TO_BTF_ID_OR_NULL, ARG_PTR_TO_MAP_VALUE_OR_NULL, ARG_ANYTHING],
)
.arg_btf_id(2, BtfTypeRef::Struct("task_struct"));
pub static TASK_STORAGE_DELETE_RECUR: FuncProto =
    func(RET_INTEGER, &[ARG_CONST_MAP_PTR, ARG_PTR_TO_BTF_ID_OR_NULL])
        .arg_btf_id(2, BtfTypeRef::Struct("task_struct"));
pub static TASK_STORAGE_DELETE: FuncProto =
    func(RET_INTEGER, &[ARG_CONST_MAP_PTR, ARG_PTR_TO_BTF_ID_OR_NULL])
        .arg_btf_id(2, BtfTypeRef::Struct("task_struct"));
pub static SK_STORAGE_GET: FuncProto = func(
    RET_PTR_TO_MAP_VALUE_OR_NULL,
    &[ARG_CONST_MAP_PTR, ARG_PTR_TO_BTF_ID_SOCK_COMMON, ARG_PTR_TO_MAP_VALUE_OR_NULL, ARG_ANYTHING],
);
pub static SK_STORAGE_GET_CG_SOCK: FuncProto = func(
    RET_PTR_TO_MAP_VALUE_OR_NULL,
    &[ARG_CONST_MAP_PTR, ARG_PTR_TO_CTX, ARG_PTR_TO_MAP_VALUE_OR_NULL, ARG_ANYTHING],
);
pub static SK_STORAGE_DELETE: FuncProto =
    func(RET_INTEGER, &[ARG_CONST_MAP_PTR, ARG_PTR_TO_BTF_ID_SOCK_COMMON]);
pub static SK_STORAGE_GET_TRACING: FuncProto = func(
    RET_PTR_TO_MAP_VALUE_OR_NULL,
    &[ARG_CONST_MAP_PTR, ARG_PTR_TO_BTF_ID_OR_NULL, ARG_PTR_TO_MAP_VALUE_OR_NULL, ARG_ANYTHING],
)
.arg_btf_id(2, BtfTypeRef::Struct("sock_common"))
.allowed(Allowed::SkStorageTracing);
pub static SK_STORAGE_DELETE_TRACING: FuncProto =
    func(RET_INTEGER, &[ARG_CONST_MAP_PTR, ARG_PTR_TO_BTF_ID_OR_NULL])
        .arg_btf_id(2, BtfTypeRef::Struct("sock_common"))
        .allowed(Allowed::SkStorageTracing);
