//! Helpers of the tracing program types.
//!
//! Kernel: `kernel/trace/bpf_trace.c`, `kernel/bpf/stackmap.c`.

use super::prelude::*;

pub static GET_STACKID: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_CONST_MAP_PTR, ARG_ANYTHING]).gpl_only();
pub static GET_STACKID_PE: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_CONST_MAP_PTR, ARG_ANYTHING]);
pub static GET_STACK: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING])
        .gpl_only();
pub static GET_STACK_SLEEPABLE: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING])
        .gpl_only();
pub static GET_TASK_STACK: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_BTF_ID, ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING])
        .arg_btf_id(1, BtfTypeRef::Struct("task_struct"));
pub static GET_TASK_STACK_SLEEPABLE: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_BTF_ID, ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING])
        .arg_btf_id(1, BtfTypeRef::Struct("task_struct"));
pub static GET_STACK_PE: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING])
        .gpl_only();
pub static OVERRIDE_RETURN: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_ANYTHING]).gpl_only();
pub static PROBE_READ_USER: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING]).gpl_only();
pub static PROBE_READ_USER_STR: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING]).gpl_only();
pub static PROBE_READ_KERNEL: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING]).gpl_only();
pub static PROBE_READ_KERNEL_STR: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING]).gpl_only();
pub static PROBE_READ_COMPAT: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING]).gpl_only();
pub static PROBE_READ_COMPAT_STR: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING]).gpl_only();
pub static PROBE_WRITE_USER: FuncProto =
    func(RET_INTEGER, &[ARG_ANYTHING, ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE]).gpl_only();
pub static TRACE_PRINTK: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE]).gpl_only();
pub static TRACE_VPRINTK: FuncProto = func(
    RET_INTEGER,
    &[ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE, ARG_PTR_TO_RDONLY_MEM_OR_NULL, ARG_CONST_SIZE_OR_ZERO],
)
.gpl_only();
pub static SEQ_PRINTF: FuncProto = func(
    RET_INTEGER,
    &[
        ARG_PTR_TO_BTF_ID,
        ARG_PTR_TO_RDONLY_MEM,
        ARG_CONST_SIZE,
        ARG_PTR_TO_RDONLY_MEM_OR_NULL,
        ARG_CONST_SIZE_OR_ZERO,
    ],
)
.gpl_only()
.arg_btf_id(1, BtfTypeRef::Struct("seq_file"));
pub static SEQ_WRITE: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_BTF_ID, ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE_OR_ZERO])
        .gpl_only()
        .arg_btf_id(1, BtfTypeRef::Struct("seq_file"));
pub static SEQ_PRINTF_BTF: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_BTF_ID, ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING])
        .gpl_only()
        .arg_btf_id(1, BtfTypeRef::Struct("seq_file"));
pub static PERF_EVENT_READ: FuncProto = func(RET_INTEGER, &[ARG_CONST_MAP_PTR, ARG_ANYTHING]).gpl_only();
pub static PERF_EVENT_READ_VALUE: FuncProto =
    func(RET_INTEGER, &[ARG_CONST_MAP_PTR, ARG_ANYTHING, ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE]).gpl_only();
pub static PERF_EVENT_OUTPUT: FuncProto = func(
    RET_INTEGER,
    &[ARG_PTR_TO_CTX, ARG_CONST_MAP_PTR, ARG_ANYTHING, ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE_OR_ZERO],
)
.gpl_only();
pub static GET_CURRENT_TASK: FuncProto = func(RET_INTEGER, &[]).gpl_only();
pub static GET_CURRENT_TASK_BTF: FuncProto =
    func(RET_PTR_TO_BTF_ID_TRUSTED, &[]).gpl_only().ret_btf_id(BtfTypeRef::Struct("task_struct"));
pub static TASK_PT_REGS: FuncProto = func(RET_PTR_TO_BTF_ID, &[ARG_PTR_TO_BTF_ID])
    .gpl_only()
    .arg_btf_id(1, BtfTypeRef::Struct("task_struct"))
    .ret_btf_id(BtfTypeRef::Struct("pt_regs"));
pub static SEND_SIGNAL: FuncProto = func(RET_INTEGER, &[ARG_ANYTHING]);
pub static SEND_SIGNAL_THREAD: FuncProto = func(RET_INTEGER, &[ARG_ANYTHING]);
pub static D_PATH: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_BTF_ID, ARG_PTR_TO_WRITE_MEM, ARG_CONST_SIZE_OR_ZERO])
        .arg_btf_id(1, BtfTypeRef::Struct("path"))
        .allowed(Allowed::DPath);
pub static SNPRINTF_BTF: FuncProto = func(
    RET_INTEGER,
    &[ARG_PTR_TO_WRITE_MEM, ARG_CONST_SIZE, ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE, ARG_ANYTHING],
);
pub static GET_FUNC_IP_TRACING: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_CTX]).gpl_only();
pub static GET_FUNC_IP_KPROBE: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_CTX]).gpl_only();
pub static GET_FUNC_IP_KPROBE_MULTI: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_CTX]);
pub static GET_ATTACH_COOKIE_KMULTI: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_CTX]);
pub static GET_FUNC_IP_UPROBE_MULTI: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_CTX]);
pub static GET_ATTACH_COOKIE_UMULTI: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_CTX]);
pub static GET_ATTACH_COOKIE_TRACE: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_CTX]);
pub static GET_ATTACH_COOKIE_PE: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_CTX]);
pub static GET_ATTACH_COOKIE_TRACING: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_CTX]);
pub static GET_BRANCH_SNAPSHOT: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE_OR_ZERO]).gpl_only();
pub static GET_FUNC_ARG: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_ANYTHING, ARG_PTR_TO_UNINIT_FIXED_SIZE_MEM]).arg_size(3, 8);
pub static GET_FUNC_RET: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_PTR_TO_UNINIT_FIXED_SIZE_MEM]).arg_size(2, 8);
pub static GET_FUNC_ARG_CNT: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_CTX]);
pub static PERF_EVENT_OUTPUT_TP: FuncProto = func(
    RET_INTEGER,
    &[ARG_PTR_TO_CTX, ARG_CONST_MAP_PTR, ARG_ANYTHING, ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE_OR_ZERO],
)
.gpl_only();
pub static GET_STACKID_TP: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_CONST_MAP_PTR, ARG_ANYTHING]).gpl_only();
pub static GET_STACK_TP: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING])
        .gpl_only();
pub static PERF_PROG_READ_VALUE: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE]).gpl_only();
pub static READ_BRANCH_RECORDS: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_PTR_TO_WRITE_MEM_OR_NULL, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING])
        .gpl_only();
pub static PERF_EVENT_OUTPUT_RAW_TP: FuncProto = func(
    RET_INTEGER,
    &[ARG_PTR_TO_CTX, ARG_CONST_MAP_PTR, ARG_ANYTHING, ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE_OR_ZERO],
)
.gpl_only();
pub static GET_STACKID_RAW_TP: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_CONST_MAP_PTR, ARG_ANYTHING]).gpl_only();
pub static GET_STACK_RAW_TP: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING])
        .gpl_only();
