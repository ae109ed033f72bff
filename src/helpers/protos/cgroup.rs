//! Helpers of the cgroup program types.
//!
//! Kernel: `kernel/bpf/cgroup.c`.

use super::prelude::*;

pub static GET_LOCAL_STORAGE: FuncProto = func(RET_PTR_TO_MAP_VALUE, &[ARG_CONST_MAP_PTR, ARG_ANYTHING]);
pub static GET_RETVAL: FuncProto = func(RET_INTEGER, &[]);
pub static SET_RETVAL: FuncProto = func(RET_INTEGER, &[ARG_ANYTHING]);
pub static SYSCTL_GET_NAME: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_PTR_TO_WRITE_MEM, ARG_CONST_SIZE, ARG_ANYTHING]);
pub static SYSCTL_GET_CURRENT_VALUE: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE]);
pub static SYSCTL_GET_NEW_VALUE: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE]);
pub static SYSCTL_SET_NEW_VALUE: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE]);
pub static GET_NETNS_COOKIE_SOCKOPT: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_CTX_OR_NULL]);
