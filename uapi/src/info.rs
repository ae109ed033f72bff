//! What `BPF_OBJ_GET_INFO_BY_FD` fills in, and the debug records that `BPF_PROG_LOAD` takes.

use bytemuck::Pod;

use crate::attr::BPF_OBJ_NAME_LEN;
use crate::wire;

/// Bytes of a program's tag.
pub const BPF_TAG_SIZE: usize = 8;
/// Bytes of a build id.
pub const BPF_BUILD_ID_SIZE: usize = 20;

wire! {
    /// `struct bpf_prog_info`.
    pub struct ProgInfo {
        kind: u32,
        id: u32,
        tag: [u8; BPF_TAG_SIZE],
        jited_prog_len: u32,
        xlated_prog_len: u32,
        jited_prog_insns: u64,
        xlated_prog_insns: u64,
        /// Nanoseconds since boot.
        load_time: u64,
        created_by_uid: u32,
        nr_map_ids: u32,
        map_ids: u64,
        name: [u8; BPF_OBJ_NAME_LEN],
        ifindex: u32,
        /// Bit 0; the others are padding.
        gpl_compatible: u32,
        netns_dev: u64,
        netns_ino: u64,
        nr_jited_ksyms: u32,
        nr_jited_func_lens: u32,
        jited_ksyms: u64,
        jited_func_lens: u64,
        btf_id: u32,
        func_info_rec_size: u32,
        func_info: u64,
        nr_func_info: u32,
        nr_line_info: u32,
        line_info: u64,
        jited_line_info: u64,
        nr_jited_line_info: u32,
        line_info_rec_size: u32,
        jited_line_info_rec_size: u32,
        nr_prog_tags: u32,
        prog_tags: u64,
        run_time_ns: u64,
        run_cnt: u64,
        recursion_misses: u64,
        verified_insns: u32,
        attach_btf_obj_id: u32,
        attach_btf_id: u32,
        _pad: u32,
    }
}

wire! {
    /// `struct bpf_map_info`.
    pub struct MapInfo {
        kind: u32,
        id: u32,
        key_size: u32,
        value_size: u32,
        max_entries: u32,
        map_flags: u32,
        name: [u8; BPF_OBJ_NAME_LEN],
        ifindex: u32,
        btf_vmlinux_value_type_id: u32,
        netns_dev: u64,
        netns_ino: u64,
        btf_id: u32,
        btf_key_type_id: u32,
        btf_value_type_id: u32,
        btf_vmlinux_id: u32,
        map_extra: u64,
        hash: u64,
        hash_size: u32,
        _pad: u32,
    }
}

wire! {
    /// `struct bpf_btf_info`.
    pub struct BtfInfo {
        btf: u64,
        btf_size: u32,
        id: u32,
        name: u64,
        name_len: u32,
        kernel_btf: u32,
    }
}

wire! {
    /// `struct bpf_link_info`. The bytes of `details` are a union of the `LinkInfo*` structures; see
    /// [`LinkInfo::details`].
    pub struct LinkInfo {
        kind: u32,
        id: u32,
        prog_id: u32,
        _pad: u32,
        details: [u64; 6],
    }
}

impl LinkInfo {
    /// One arm of the union at the end.
    pub fn details<T: Pod>(&self) -> T {
        bytemuck::pod_read_unaligned(&bytemuck::bytes_of(&self.details)[..size_of::<T>()])
    }

    /// Sets one arm of the union at the end.
    pub fn set_details<T: Pod>(&mut self, arm: T) {
        bytemuck::bytes_of_mut(&mut self.details)[..size_of::<T>()].copy_from_slice(bytemuck::bytes_of(&arm));
    }
}

wire! {
    /// Raw tracepoint link.
    pub struct LinkInfoRawTracepoint {
        tp_name: u64,
        tp_name_len: u32,
        _pad: u32,
        cookie: u64,
    }
}

wire! {
    /// Tracing link.
    pub struct LinkInfoTracing {
        attach_type: u32,
        target_obj_id: u32,
        target_btf_id: u32,
        _pad: u32,
        cookie: u64,
    }
}

wire! {
    /// Cgroup link.
    pub struct LinkInfoCgroup {
        cgroup_id: u64,
        attach_type: u32,
        _pad: u32,
    }
}

wire! {
    /// Iterator link; the last three words depend on what it iterates over.
    pub struct LinkInfoIter {
        target_name: u64,
        target_name_len: u32,
        map_id: u32,
        /// `cgroup_id`, or thread id (low half) and process id (high half).
        cgroup_id: u64,
        order: u32,
        _pad: u32,
    }
}

wire! {
    /// Network namespace link.
    pub struct LinkInfoNetns {
        netns_ino: u32,
        attach_type: u32,
    }
}

wire! {
    /// XDP link.
    pub struct LinkInfoXdp {
        ifindex: u32,
    }
}

wire! {
    /// struct_ops link.
    pub struct LinkInfoStructOps {
        map_id: u32,
    }
}

wire! {
    /// Netfilter link.
    pub struct LinkInfoNetfilter {
        pf: u32,
        hooknum: u32,
        priority: i32,
        flags: u32,
    }
}

wire! {
    /// Multi-kprobe link.
    pub struct LinkInfoKprobeMulti {
        addrs: u64,
        count: u32,
        flags: u32,
        missed: u64,
        cookies: u64,
    }
}

wire! {
    /// Multi-uprobe link.
    pub struct LinkInfoUprobeMulti {
        path: u64,
        offsets: u64,
        ref_ctr_offsets: u64,
        cookies: u64,
        path_size: u32,
        count: u32,
        flags: u32,
        pid: u32,
    }
}

wire! {
    /// Perf event link: `kind` is `BPF_PERF_EVENT_*` and says what the words behind it are.
    pub struct LinkInfoPerfEvent {
        kind: u32,
        _pad: u32,
        /// Name of the file, function or tracepoint; `config` of other events.
        name: u64,
        /// Its length; `type` of other events.
        name_len: u32,
        offset: u32,
        /// uprobe: cookie, ref_ctr_offset; kprobe: addr, missed, cookie; others: cookie.
        words: [u64; 3],
    }
}

wire! {
    /// tcx and netkit link.
    pub struct LinkInfoNetdev {
        ifindex: u32,
        attach_type: u32,
    }
}

wire! {
    /// Sockmap link.
    pub struct LinkInfoSockmap {
        map_id: u32,
        attach_type: u32,
    }
}

wire! {
    /// `struct bpf_token_info`.
    pub struct TokenInfo {
        allowed_cmds: u64,
        allowed_maps: u64,
        allowed_progs: u64,
        allowed_attachs: u64,
    }
}

wire! {
    /// `struct bpf_func_info`: BTF type of the function that starts at an instruction.
    #[derive(PartialEq, Eq)]
    pub struct FuncInfo {
        /// In instructions (in `.BTF.ext`: in bytes from the section's start).
        insn_off: u32,
        type_id: u32,
    }
}

wire! {
    /// `struct bpf_line_info`: source line from an instruction on.
    #[derive(PartialEq, Eq)]
    pub struct LineInfo {
        /// In instructions (in `.BTF.ext`: in bytes from the section's start).
        insn_off: u32,
        file_name_off: u32,
        line_off: u32,
        line_col: u32,
    }
}

impl LineInfo {
    /// Line number, from 1: `BPF_LINE_INFO_LINE_NUM`.
    pub const fn line_num(&self) -> u32 {
        self.line_col >> 10
    }

    /// Column: `BPF_LINE_INFO_LINE_COL`.
    pub const fn column(&self) -> u32 {
        self.line_col & 0x3ff
    }
}

wire! {
    /// `struct bpf_core_relo`.
    #[derive(PartialEq, Eq)]
    pub struct CoreRelo {
        /// In bytes.
        insn_off: u32,
        type_id: u32,
        access_str_off: u32,
        /// `BPF_CORE_*`.
        kind: u32,
    }
}

// `kind` of `LinkInfoPerfEvent`.
pub const BPF_PERF_EVENT_UNSPEC: u32 = 0;
pub const BPF_PERF_EVENT_UPROBE: u32 = 1;
pub const BPF_PERF_EVENT_URETPROBE: u32 = 2;
pub const BPF_PERF_EVENT_KPROBE: u32 = 3;
pub const BPF_PERF_EVENT_KRETPROBE: u32 = 4;
pub const BPF_PERF_EVENT_TRACEPOINT: u32 = 5;
pub const BPF_PERF_EVENT_EVENT: u32 = 6;

// `kind` of `CoreRelo`.
pub const BPF_CORE_FIELD_BYTE_OFFSET: u32 = 0;
pub const BPF_CORE_FIELD_BYTE_SIZE: u32 = 1;
pub const BPF_CORE_FIELD_EXISTS: u32 = 2;
pub const BPF_CORE_FIELD_SIGNED: u32 = 3;
pub const BPF_CORE_FIELD_LSHIFT_U64: u32 = 4;
pub const BPF_CORE_FIELD_RSHIFT_U64: u32 = 5;
pub const BPF_CORE_TYPE_ID_LOCAL: u32 = 6;
pub const BPF_CORE_TYPE_ID_TARGET: u32 = 7;
pub const BPF_CORE_TYPE_EXISTS: u32 = 8;
pub const BPF_CORE_TYPE_SIZE: u32 = 9;
pub const BPF_CORE_ENUMVAL_EXISTS: u32 = 10;
pub const BPF_CORE_ENUMVAL_VALUE: u32 = 11;
pub const BPF_CORE_TYPE_MATCHES: u32 = 12;
