//! `union bpf_attr`: one structure for the part of each command (family), laid out as in the kernel's header.
//!
//! A caller passes a prefix of the union. Copy its bytes into a zeroed [`ATTR_SIZE`] buffer, then view the part that
//! the command uses with [`part`]. [`last_field_end`] says up to where a command's fields reach: bytes
//! behind must be zero (the kernel's `CHECK_ATTR`). Sizes and offsets are asserted in [`crate::layout`].

use bytemuck::Pod;

use crate::enums::Cmd;
use crate::wire;

/// `sizeof(union bpf_attr)` of Linux 6.18.
pub const ATTR_SIZE: usize = 168;
/// Size of the union where the kernel has BCF.
pub const ATTR_SIZE_BCF: usize = 192;
/// Bytes of an object's name with its terminating zero.
pub const BPF_OBJ_NAME_LEN: usize = 16;

wire! {
    /// `BPF_MAP_CREATE`.
    pub struct MapCreate {
        map_type: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
        inner_map_fd: u32,
        numa_node: u32,
        map_name: [u8; BPF_OBJ_NAME_LEN],
        map_ifindex: u32,
        btf_fd: u32,
        btf_key_type_id: u32,
        btf_value_type_id: u32,
        btf_vmlinux_value_type_id: u32,
        map_extra: u64,
        value_type_btf_obj_fd: i32,
        map_token_fd: i32,
        excl_prog_hash: u64,
        excl_prog_hash_size: u32,
        _pad: u32,
    }
}

wire! {
    /// `BPF_MAP_LOOKUP_ELEM`, `UPDATE`, `DELETE`, `LOOKUP_AND_DELETE`, `GET_NEXT_KEY` and `BPF_MAP_FREEZE`.
    pub struct MapElem {
        map_fd: u32,
        _pad: u32,
        key: u64,
        /// `value`, or `next_key`.
        value: u64,
        flags: u64,
    }
}

wire! {
    /// `BPF_MAP_*_BATCH`.
    pub struct MapBatch {
        in_batch: u64,
        out_batch: u64,
        keys: u64,
        values: u64,
        /// In: elements asked for; out: elements done.
        count: u32,
        map_fd: u32,
        elem_flags: u64,
        flags: u64,
    }
}

wire! {
    /// `BPF_PROG_LOAD`, with the fields of BCF behind those of 6.18.
    pub struct ProgLoad {
        prog_type: u32,
        insn_cnt: u32,
        insns: u64,
        license: u64,
        log_level: u32,
        log_size: u32,
        log_buf: u64,
        kern_version: u32,
        prog_flags: u32,
        prog_name: [u8; BPF_OBJ_NAME_LEN],
        prog_ifindex: u32,
        expected_attach_type: u32,
        prog_btf_fd: u32,
        func_info_rec_size: u32,
        func_info: u64,
        func_info_cnt: u32,
        line_info_rec_size: u32,
        line_info: u64,
        line_info_cnt: u32,
        attach_btf_id: u32,
        /// `attach_prog_fd`, or `attach_btf_obj_fd`.
        attach_prog_fd: u32,
        core_relo_cnt: u32,
        fd_array: u64,
        core_relos: u64,
        core_relo_rec_size: u32,
        /// Out: size of the whole log with its terminating zero.
        log_true_size: u32,
        prog_token_fd: i32,
        fd_array_cnt: u32,
        signature: u64,
        signature_size: u32,
        keyring_id: i32,
        /// BCF: buffer of requests and proofs.
        bcf_buf: u64,
        bcf_buf_size: u32,
        /// BCF: out with a request, in with a proof.
        bcf_buf_true_size: u32,
        /// BCF: out with the first request, in with a proof.
        bcf_fd: u32,
        /// BCF: `BCF_F_*`.
        bcf_flags: u32,
    }
}

wire! {
    /// `BPF_OBJ_PIN` and `BPF_OBJ_GET`.
    pub struct Obj {
        pathname: u64,
        bpf_fd: u32,
        file_flags: u32,
        path_fd: i32,
        _pad: u32,
    }
}

wire! {
    /// `BPF_PROG_ATTACH` and `BPF_PROG_DETACH`.
    pub struct ProgAttach {
        /// `target_fd`, or `target_ifindex`.
        target_fd: u32,
        attach_bpf_fd: u32,
        attach_type: u32,
        attach_flags: u32,
        replace_bpf_fd: u32,
        /// `relative_fd`, or `relative_id`.
        relative_fd: u32,
        expected_revision: u64,
    }
}

wire! {
    /// `BPF_PROG_TEST_RUN`.
    pub struct TestRun {
        prog_fd: u32,
        retval: u32,
        data_size_in: u32,
        data_size_out: u32,
        data_in: u64,
        data_out: u64,
        repeat: u32,
        duration: u32,
        ctx_size_in: u32,
        ctx_size_out: u32,
        ctx_in: u64,
        ctx_out: u64,
        flags: u32,
        cpu: u32,
        batch_size: u32,
        _pad: u32,
    }
}

wire! {
    /// `BPF_*_GET_NEXT_ID` and `BPF_*_GET_FD_BY_ID`.
    pub struct GetId {
        /// `start_id`, `prog_id`, `map_id`, `btf_id` or `link_id`.
        id: u32,
        next_id: u32,
        open_flags: u32,
        fd_by_id_token_fd: i32,
    }
}

wire! {
    /// `BPF_OBJ_GET_INFO_BY_FD`.
    pub struct GetInfo {
        bpf_fd: u32,
        info_len: u32,
        info: u64,
    }
}

wire! {
    /// `BPF_PROG_QUERY`.
    pub struct ProgQuery {
        /// `target_fd`, or `target_ifindex`.
        target_fd: u32,
        attach_type: u32,
        query_flags: u32,
        attach_flags: u32,
        prog_ids: u64,
        /// `prog_cnt`, or `count`.
        count: u32,
        _pad: u32,
        prog_attach_flags: u64,
        link_ids: u64,
        link_attach_flags: u64,
        revision: u64,
    }
}

wire! {
    /// `BPF_RAW_TRACEPOINT_OPEN`.
    pub struct RawTracepointOpen {
        name: u64,
        prog_fd: u32,
        _pad: u32,
        cookie: u64,
    }
}

wire! {
    /// `BPF_BTF_LOAD`.
    pub struct BtfLoad {
        btf: u64,
        btf_log_buf: u64,
        btf_size: u32,
        btf_log_size: u32,
        btf_log_level: u32,
        /// Out: size of the whole log with its terminating zero.
        btf_log_true_size: u32,
        btf_flags: u32,
        btf_token_fd: i32,
    }
}

wire! {
    /// `BPF_TASK_FD_QUERY`.
    pub struct TaskFdQuery {
        pid: u32,
        fd: u32,
        flags: u32,
        buf_len: u32,
        buf: u64,
        prog_id: u32,
        fd_type: u32,
        probe_offset: u64,
        probe_addr: u64,
    }
}

wire! {
    /// `BPF_LINK_CREATE`. The bytes of `target` are a union of the `LinkCreate*` structures; see
    /// [`LinkCreate::target`].
    pub struct LinkCreate {
        /// `prog_fd`, or `map_fd` of a struct_ops.
        prog_fd: u32,
        /// `target_fd`, or `target_ifindex`.
        target_fd: u32,
        attach_type: u32,
        flags: u32,
        target: [u64; 6],
    }
}

impl LinkCreate {
    /// One arm of the union at the end.
    pub fn target<T: Pod>(&self) -> T {
        bytemuck::pod_read_unaligned(&bytemuck::bytes_of(&self.target)[..size_of::<T>()])
    }
}

wire! {
    /// Iterators.
    pub struct LinkCreateIter {
        iter_info: u64,
        iter_info_len: u32,
        _pad: u32,
    }
}

wire! {
    /// Perf events.
    pub struct LinkCreatePerfEvent {
        bpf_cookie: u64,
    }
}

wire! {
    /// Multi-kprobes.
    pub struct LinkCreateKprobeMulti {
        flags: u32,
        cnt: u32,
        syms: u64,
        addrs: u64,
        cookies: u64,
    }
}

wire! {
    /// Tracing programs; `target_btf_id` alone for others that name a type.
    pub struct LinkCreateTracing {
        target_btf_id: u32,
        _pad: u32,
        cookie: u64,
    }
}

wire! {
    /// Netfilter hooks.
    pub struct LinkCreateNetfilter {
        pf: u32,
        hooknum: u32,
        priority: i32,
        flags: u32,
    }
}

wire! {
    /// tcx, netkit and cgroup links: place relative to another program or link.
    pub struct LinkCreateRelative {
        /// `relative_fd`, or `relative_id`.
        relative_fd: u32,
        _pad: u32,
        expected_revision: u64,
    }
}

wire! {
    /// Multi-uprobes.
    pub struct LinkCreateUprobeMulti {
        path: u64,
        offsets: u64,
        ref_ctr_offsets: u64,
        cookies: u64,
        cnt: u32,
        flags: u32,
        pid: u32,
        _pad: u32,
    }
}

wire! {
    /// `BPF_LINK_UPDATE`.
    pub struct LinkUpdate {
        link_fd: u32,
        /// `new_prog_fd`, or `new_map_fd`.
        new_prog_fd: u32,
        flags: u32,
        /// `old_prog_fd`, or `old_map_fd`.
        old_prog_fd: u32,
    }
}

wire! {
    /// `BPF_LINK_DETACH`.
    pub struct LinkDetach {
        link_fd: u32,
    }
}

wire! {
    /// `BPF_ENABLE_STATS`.
    pub struct EnableStats {
        kind: u32,
    }
}

wire! {
    /// `BPF_ITER_CREATE`.
    pub struct IterCreate {
        link_fd: u32,
        flags: u32,
    }
}

wire! {
    /// `BPF_PROG_BIND_MAP`.
    pub struct ProgBindMap {
        prog_fd: u32,
        map_fd: u32,
        flags: u32,
    }
}

wire! {
    /// `BPF_TOKEN_CREATE`.
    pub struct TokenCreate {
        flags: u32,
        bpffs_fd: u32,
    }
}

wire! {
    /// `BPF_PROG_STREAM_READ_BY_FD`.
    pub struct ProgStreamRead {
        stream_buf: u64,
        stream_buf_len: u32,
        stream_id: u32,
        prog_fd: u32,
        _pad: u32,
    }
}

/// Views a command's part of the union; `attr` holds the caller's bytes, and zeros behind them.
pub fn part<T: Pod>(attr: &[u8; ATTR_SIZE_BCF]) -> T {
    bytemuck::pod_read_unaligned(&attr[..size_of::<T>()])
}

/// Offset behind the last field that a command knows: behind `<CMD>_LAST_FIELD` of the kernel's
/// `kernel/bpf/syscall.c`. Non-zero bytes from here on are `EINVAL`. For `BPF_PROG_LOAD` see also
/// [`PROG_LOAD_LAST_FIELD_END_BCF`].
pub const fn last_field_end(cmd: Cmd) -> usize {
    match cmd {
        Cmd::MapCreate => 92,
        Cmd::MapLookupElem | Cmd::MapUpdateElem | Cmd::MapLookupAndDeleteElem => 32,
        Cmd::MapDeleteElem => 16,
        Cmd::MapGetNextKey => 24,
        Cmd::MapFreeze => 4,
        Cmd::ProgLoad => 168,
        Cmd::ObjPin | Cmd::ObjGet => 20,
        Cmd::ProgAttach | Cmd::ProgDetach => 32,
        Cmd::ProgTestRun => 76,
        Cmd::ProgGetNextId | Cmd::MapGetNextId | Cmd::BtfGetNextId | Cmd::LinkGetNextId => 8,
        Cmd::ProgGetFdById | Cmd::LinkGetFdById => 4,
        Cmd::MapGetFdById => 12,
        Cmd::BtfGetFdById => 16,
        Cmd::ObjGetInfoByFd => 16,
        Cmd::ProgQuery => 64,
        Cmd::RawTracepointOpen => 24,
        Cmd::BtfLoad => 40,
        Cmd::TaskFdQuery => 48,
        Cmd::MapLookupBatch | Cmd::MapLookupAndDeleteBatch | Cmd::MapUpdateBatch | Cmd::MapDeleteBatch => 56,
        Cmd::LinkCreate => 60,
        Cmd::LinkUpdate => 16,
        Cmd::LinkDetach => 4,
        Cmd::EnableStats => 4,
        Cmd::IterCreate => 8,
        Cmd::ProgBindMap => 12,
        Cmd::TokenCreate => 8,
        Cmd::ProgStreamReadByFd => 20,
    }
}

/// [`last_field_end`] of `BPF_PROG_LOAD` where the kernel has BCF.
pub const PROG_LOAD_LAST_FIELD_END_BCF: usize = ATTR_SIZE_BCF;

// `map_flags` of BPF_MAP_CREATE, `flags` of element commands, `file_flags` and `open_flags` share one space.
pub const BPF_ANY: u64 = 0;
pub const BPF_NOEXIST: u64 = 1;
pub const BPF_EXIST: u64 = 2;
pub const BPF_F_LOCK: u64 = 4;

pub const BPF_F_NO_PREALLOC: u32 = 1 << 0;
pub const BPF_F_NO_COMMON_LRU: u32 = 1 << 1;
pub const BPF_F_NUMA_NODE: u32 = 1 << 2;
pub const BPF_F_RDONLY: u32 = 1 << 3;
pub const BPF_F_WRONLY: u32 = 1 << 4;
pub const BPF_F_STACK_BUILD_ID: u32 = 1 << 5;
pub const BPF_F_ZERO_SEED: u32 = 1 << 6;
pub const BPF_F_RDONLY_PROG: u32 = 1 << 7;
pub const BPF_F_WRONLY_PROG: u32 = 1 << 8;
pub const BPF_F_CLONE: u32 = 1 << 9;
pub const BPF_F_MMAPABLE: u32 = 1 << 10;
pub const BPF_F_PRESERVE_ELEMS: u32 = 1 << 11;
pub const BPF_F_INNER_MAP: u32 = 1 << 12;
pub const BPF_F_LINK: u32 = 1 << 13;
pub const BPF_F_PATH_FD: u32 = 1 << 14;
pub const BPF_F_VTYPE_BTF_OBJ_FD: u32 = 1 << 15;
/// Also of `prog_flags` and `btf_flags`.
pub const BPF_F_TOKEN_FD: u32 = 1 << 16;
pub const BPF_F_SEGV_ON_FAULT: u32 = 1 << 17;
pub const BPF_F_NO_USER_CONV: u32 = 1 << 18;

// `prog_flags` of BPF_PROG_LOAD.
pub const BPF_F_STRICT_ALIGNMENT: u32 = 1 << 0;
pub const BPF_F_ANY_ALIGNMENT: u32 = 1 << 1;
pub const BPF_F_TEST_RND_HI32: u32 = 1 << 2;
pub const BPF_F_TEST_STATE_FREQ: u32 = 1 << 3;
pub const BPF_F_SLEEPABLE: u32 = 1 << 4;
pub const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;
pub const BPF_F_XDP_DEV_BOUND_ONLY: u32 = 1 << 6;
pub const BPF_F_TEST_REG_INVARIANTS: u32 = 1 << 7;

// `bcf_flags` of BPF_PROG_LOAD.
pub const BCF_F_PROOF_REQUESTED: u32 = 1 << 0;
pub const BCF_F_PROOF_PROVIDED: u32 = 1 << 1;
pub const BCF_F_PROOF_PATH_UNREACHABLE: u32 = 1 << 2;

// `attach_flags` of BPF_PROG_ATTACH.
pub const BPF_F_ALLOW_OVERRIDE: u32 = 1 << 0;
pub const BPF_F_ALLOW_MULTI: u32 = 1 << 1;
pub const BPF_F_REPLACE: u32 = 1 << 2;
pub const BPF_F_BEFORE: u32 = 1 << 3;
pub const BPF_F_AFTER: u32 = 1 << 4;
pub const BPF_F_ID: u32 = 1 << 5;
pub const BPF_F_PREORDER: u32 = 1 << 6;

// `flags` in the arms of BPF_LINK_CREATE.
pub const BPF_F_KPROBE_MULTI_RETURN: u32 = 1 << 0;
pub const BPF_F_UPROBE_MULTI_RETURN: u32 = 1 << 0;
pub const BPF_F_NETFILTER_IP_DEFRAG: u32 = 1 << 0;

// `query_flags` of BPF_PROG_QUERY.
pub const BPF_F_QUERY_EFFECTIVE: u32 = 1 << 0;

// `flags` of BPF_PROG_TEST_RUN.
pub const BPF_F_TEST_RUN_ON_CPU: u32 = 1 << 0;
pub const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;
pub const BPF_F_TEST_SKB_CHECKSUM_COMPLETE: u32 = 1 << 2;

// `type` of BPF_ENABLE_STATS.
pub const BPF_STATS_RUN_TIME: u32 = 0;

// `fd_type` of BPF_TASK_FD_QUERY.
pub const BPF_FD_TYPE_RAW_TRACEPOINT: u32 = 0;
pub const BPF_FD_TYPE_TRACEPOINT: u32 = 1;
pub const BPF_FD_TYPE_KPROBE: u32 = 2;
pub const BPF_FD_TYPE_KRETPROBE: u32 = 3;
pub const BPF_FD_TYPE_UPROBE: u32 = 4;
pub const BPF_FD_TYPE_URETPROBE: u32 = 5;

// `stream_id` of BPF_PROG_STREAM_READ_BY_FD.
pub const BPF_STREAM_STDOUT: u32 = 1;
pub const BPF_STREAM_STDERR: u32 = 2;

// `log_level` of BPF_PROG_LOAD and BPF_BTF_LOAD.
pub const BPF_LOG_LEVEL1: u32 = 1;
pub const BPF_LOG_LEVEL2: u32 = 2;
pub const BPF_LOG_STATS: u32 = 4;
pub const BPF_LOG_FIXED: u32 = 8;
/// Levels that ask for text: `BPF_LOG_LEVEL`.
pub const BPF_LOG_LEVEL: u32 = BPF_LOG_LEVEL1 | BPF_LOG_LEVEL2;
/// All flags that user space may set: `BPF_LOG_MASK`.
pub const BPF_LOG_MASK: u32 = BPF_LOG_LEVEL | BPF_LOG_STATS | BPF_LOG_FIXED;

/// `f_type` of statfs(2) on a BPF file system.
pub const BPF_FS_MAGIC: u64 = 0xcafe_4a11;
