//! Helpers of every program type: maps, time, tasks, locks, timers, ring buffers, callbacks, dynptrs.
//!
//! Kernel: `kernel/bpf/helpers.c`, `ringbuf.c`, `bpf_iter.c`, `task_iter.c`, `syscall.c`, `btf.c`, `core.c`.

use super::prelude::*;

pub static TAIL_CALL: FuncProto = func(RET_VOID, &[ARG_PTR_TO_CTX, ARG_CONST_MAP_PTR, ARG_ANYTHING]);
pub static MAP_LOOKUP_ELEM: FuncProto =
    func(RET_PTR_TO_MAP_VALUE_OR_NULL, &[ARG_CONST_MAP_PTR, ARG_PTR_TO_MAP_KEY]).pkt_access();
pub static MAP_UPDATE_ELEM: FuncProto =
    func(RET_INTEGER, &[ARG_CONST_MAP_PTR, ARG_PTR_TO_MAP_KEY, ARG_PTR_TO_MAP_VALUE, ARG_ANYTHING])
        .pkt_access();
pub static MAP_DELETE_ELEM: FuncProto =
    func(RET_INTEGER, &[ARG_CONST_MAP_PTR, ARG_PTR_TO_MAP_KEY]).pkt_access();
pub static MAP_PUSH_ELEM: FuncProto =
    func(RET_INTEGER, &[ARG_CONST_MAP_PTR, ARG_PTR_TO_MAP_VALUE, ARG_ANYTHING]).pkt_access();
pub static MAP_POP_ELEM: FuncProto =
    func(RET_INTEGER, &[ARG_CONST_MAP_PTR, ARG_PTR_TO_MAP_VALUE.with(MEM_UNINIT | MEM_WRITE)]);
pub static MAP_PEEK_ELEM: FuncProto =
    func(RET_INTEGER, &[ARG_CONST_MAP_PTR, ARG_PTR_TO_MAP_VALUE.with(MEM_UNINIT | MEM_WRITE)]);
pub static MAP_LOOKUP_PERCPU_ELEM: FuncProto =
    func(RET_PTR_TO_MAP_VALUE_OR_NULL, &[ARG_CONST_MAP_PTR, ARG_PTR_TO_MAP_KEY, ARG_ANYTHING]).pkt_access();
pub static GET_PRANDOM_U32: FuncProto = func(RET_INTEGER, &[]);
pub static GET_SMP_PROCESSOR_ID: FuncProto = func(RET_INTEGER, &[]).allow_fastcall();
pub static GET_NUMA_NODE_ID: FuncProto = func(RET_INTEGER, &[]);
pub static KTIME_GET_NS: FuncProto = func(RET_INTEGER, &[]);
pub static KTIME_GET_BOOT_NS: FuncProto = func(RET_INTEGER, &[]);
pub static KTIME_GET_COARSE_NS: FuncProto = func(RET_INTEGER, &[]);
pub static KTIME_GET_TAI_NS: FuncProto = func(RET_INTEGER, &[]);
pub static GET_CURRENT_PID_TGID: FuncProto = func(RET_INTEGER, &[]);
pub static GET_CURRENT_UID_GID: FuncProto = func(RET_INTEGER, &[]);
pub static GET_CURRENT_COMM: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE]);
pub static SPIN_LOCK: FuncProto = func(RET_VOID, &[ARG_PTR_TO_SPIN_LOCK]).arg_btf_id(1, BtfTypeRef::Poison);
pub static SPIN_UNLOCK: FuncProto = func(RET_VOID, &[ARG_PTR_TO_SPIN_LOCK]).arg_btf_id(1, BtfTypeRef::Poison);
pub static JIFFIES64: FuncProto = func(RET_INTEGER, &[]);
pub static GET_CURRENT_CGROUP_ID: FuncProto = func(RET_INTEGER, &[]);
pub static GET_CURRENT_ANCESTOR_CGROUP_ID: FuncProto = func(RET_INTEGER, &[ARG_ANYTHING]);
pub static STRTOL: FuncProto = func(
    RET_INTEGER,
    &[ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE, ARG_ANYTHING, ARG_PTR_TO_UNINIT_FIXED_SIZE_MEM],
)
.arg_size(4, 8);
pub static STRTOUL: FuncProto = func(
    RET_INTEGER,
    &[ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE, ARG_ANYTHING, ARG_PTR_TO_UNINIT_FIXED_SIZE_MEM],
)
.arg_size(4, 8);
pub static STRNCMP: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE, ARG_PTR_TO_CONST_STR]);
pub static GET_NS_CURRENT_PID_TGID: FuncProto =
    func(RET_INTEGER, &[ARG_ANYTHING, ARG_ANYTHING, ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE]);
pub static GET_RAW_SMP_PROCESSOR_ID: FuncProto = func(RET_INTEGER, &[]);
pub static EVENT_OUTPUT_DATA: FuncProto = func(
    RET_INTEGER,
    &[ARG_PTR_TO_CTX, ARG_CONST_MAP_PTR, ARG_ANYTHING, ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE_OR_ZERO],
)
.gpl_only();
pub static COPY_FROM_USER: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING]).might_sleep();
pub static COPY_FROM_USER_TASK: FuncProto = func(
    RET_INTEGER,
    &[ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING, ARG_PTR_TO_BTF_ID, ARG_ANYTHING],
)
.gpl_only()
.might_sleep()
.arg_btf_id(4, BtfTypeRef::Struct("task_struct"));
pub static PER_CPU_PTR: FuncProto = func(
    RET_PTR_TO_MEM_OR_BTF_ID.with(PTR_MAYBE_NULL | MEM_RDONLY),
    &[ARG_PTR_TO_PERCPU_BTF_ID, ARG_ANYTHING],
);
pub static THIS_CPU_PTR: FuncProto =
    func(RET_PTR_TO_MEM_OR_BTF_ID.with(MEM_RDONLY), &[ARG_PTR_TO_PERCPU_BTF_ID]);
pub static SNPRINTF: FuncProto = func(
    RET_INTEGER,
    &[
        ARG_PTR_TO_WRITE_MEM_OR_NULL,
        ARG_CONST_SIZE_OR_ZERO,
        ARG_PTR_TO_CONST_STR,
        ARG_PTR_TO_RDONLY_MEM_OR_NULL,
        ARG_CONST_SIZE_OR_ZERO,
    ],
)
.gpl_only();
pub static TIMER_INIT: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_TIMER, ARG_CONST_MAP_PTR, ARG_ANYTHING]).gpl_only();
pub static TIMER_SET_CALLBACK: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_TIMER, ARG_PTR_TO_FUNC]).gpl_only();
pub static TIMER_START: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_TIMER, ARG_ANYTHING, ARG_ANYTHING]).gpl_only();
pub static TIMER_CANCEL: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_TIMER]).gpl_only();
pub static KPTR_XCHG: FuncProto =
    func(RET_PTR_TO_BTF_ID_OR_NULL, &[ARG_KPTR_XCHG_DEST, ARG_PTR_TO_BTF_ID_OR_NULL.with(OBJ_RELEASE)])
        .arg_btf_id(2, BtfTypeRef::Poison)
        .ret_btf_id(BtfTypeRef::Poison);
pub static DYNPTR_FROM_MEM: FuncProto = func(
    RET_INTEGER,
    &[
        ARG_PTR_TO_UNINIT_MEM,
        ARG_CONST_SIZE_OR_ZERO,
        ARG_ANYTHING,
        ARG_PTR_TO_DYNPTR.with(DYNPTR_TYPE_LOCAL | MEM_UNINIT | MEM_WRITE),
    ],
);
pub static DYNPTR_READ: FuncProto = func(
    RET_INTEGER,
    &[
        ARG_PTR_TO_UNINIT_MEM,
        ARG_CONST_SIZE_OR_ZERO,
        ARG_PTR_TO_DYNPTR.with(MEM_RDONLY),
        ARG_ANYTHING,
        ARG_ANYTHING,
    ],
);
pub static DYNPTR_WRITE: FuncProto = func(
    RET_INTEGER,
    &[
        ARG_PTR_TO_DYNPTR.with(MEM_RDONLY),
        ARG_ANYTHING,
        ARG_PTR_TO_RDONLY_MEM,
        ARG_CONST_SIZE_OR_ZERO,
        ARG_ANYTHING,
    ],
);
pub static DYNPTR_DATA: FuncProto = func(
    RET_PTR_TO_DYNPTR_MEM_OR_NULL,
    &[ARG_PTR_TO_DYNPTR.with(MEM_RDONLY), ARG_ANYTHING, ARG_CONST_ALLOC_SIZE_OR_ZERO],
);
pub static CURRENT_TASK_UNDER_CGROUP: FuncProto = func(RET_INTEGER, &[ARG_CONST_MAP_PTR, ARG_ANYTHING]);
pub static SYS_BPF: FuncProto = func(RET_INTEGER, &[ARG_ANYTHING, ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE]);
pub static SYS_CLOSE: FuncProto = func(RET_INTEGER, &[ARG_ANYTHING]);
pub static KALLSYMS_LOOKUP_NAME: FuncProto = func(
    RET_INTEGER,
    &[ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING, ARG_PTR_TO_UNINIT_FIXED_SIZE_MEM],
)
.arg_size(4, 8);
pub static RINGBUF_RESERVE: FuncProto =
    func(RET_PTR_TO_RINGBUF_MEM_OR_NULL, &[ARG_CONST_MAP_PTR, ARG_CONST_ALLOC_SIZE_OR_ZERO, ARG_ANYTHING]);
pub static RINGBUF_SUBMIT: FuncProto =
    func(RET_VOID, &[ARG_PTR_TO_RINGBUF_MEM.with(OBJ_RELEASE), ARG_ANYTHING]);
pub static RINGBUF_DISCARD: FuncProto =
    func(RET_VOID, &[ARG_PTR_TO_RINGBUF_MEM.with(OBJ_RELEASE), ARG_ANYTHING]);
pub static RINGBUF_OUTPUT: FuncProto =
    func(RET_INTEGER, &[ARG_CONST_MAP_PTR, ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE_OR_ZERO, ARG_ANYTHING]);
pub static RINGBUF_QUERY: FuncProto = func(RET_INTEGER, &[ARG_CONST_MAP_PTR, ARG_ANYTHING]);
pub static RINGBUF_RESERVE_DYNPTR: FuncProto = func(
    RET_INTEGER,
    &[
        ARG_CONST_MAP_PTR,
        ARG_ANYTHING,
        ARG_ANYTHING,
        ARG_PTR_TO_DYNPTR.with(DYNPTR_TYPE_RINGBUF | MEM_UNINIT | MEM_WRITE),
    ],
);
pub static RINGBUF_SUBMIT_DYNPTR: FuncProto =
    func(RET_VOID, &[ARG_PTR_TO_DYNPTR.with(DYNPTR_TYPE_RINGBUF | OBJ_RELEASE), ARG_ANYTHING]);
pub static RINGBUF_DISCARD_DYNPTR: FuncProto =
    func(RET_VOID, &[ARG_PTR_TO_DYNPTR.with(DYNPTR_TYPE_RINGBUF | OBJ_RELEASE), ARG_ANYTHING]);
pub static USER_RINGBUF_DRAIN: FuncProto =
    func(RET_INTEGER, &[ARG_CONST_MAP_PTR, ARG_PTR_TO_FUNC, ARG_PTR_TO_STACK_OR_NULL, ARG_ANYTHING]);
pub static FIND_VMA: FuncProto = func(
    RET_INTEGER,
    &[ARG_PTR_TO_BTF_ID, ARG_ANYTHING, ARG_PTR_TO_FUNC, ARG_PTR_TO_STACK_OR_NULL, ARG_ANYTHING],
)
.arg_btf_id(1, BtfTypeRef::Struct("task_struct"));
pub static BTF_FIND_BY_NAME_KIND: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_RDONLY_MEM, ARG_CONST_SIZE, ARG_ANYTHING, ARG_ANYTHING]);
pub static FOR_EACH_MAP_ELEM: FuncProto =
    func(RET_INTEGER, &[ARG_CONST_MAP_PTR, ARG_PTR_TO_FUNC, ARG_PTR_TO_STACK_OR_NULL, ARG_ANYTHING]);
pub static LOOP: FuncProto =
    func(RET_INTEGER, &[ARG_ANYTHING, ARG_PTR_TO_FUNC, ARG_PTR_TO_STACK_OR_NULL, ARG_ANYTHING]);
