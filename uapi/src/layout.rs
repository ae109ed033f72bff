//! Asserts that the wire structures are laid out as C compilers lay out those of Linux 6.18's `linux/bpf.h` and
//! `linux/btf.h`. The numbers are `sizeof` and `offsetof` of the headers; size 0 stands for a structure that the headers
//! only have as a nameless part of a union.

use std::mem::offset_of;

use crate::attr::*;
use crate::bcf::*;
use crate::btf::*;
use crate::info::*;

macro_rules! layout {
    ($($name:ident $size:literal { $($field:ident = $offset:literal,)* })*) => {
        $(const _: () = {
            assert!($size == 0 || size_of::<$name>() == $size);
            $(assert!(offset_of!($name, $field) == $offset);)*
        };)*
    };
}

layout! {
    MapCreate 0 { map_type = 0, key_size = 4, value_size = 8, max_entries = 12, map_flags = 16,
        inner_map_fd = 20, numa_node = 24, map_name = 28, map_ifindex = 44, btf_fd = 48,
        btf_key_type_id = 52, btf_value_type_id = 56, btf_vmlinux_value_type_id = 60, map_extra = 64,
        value_type_btf_obj_fd = 72, map_token_fd = 76, excl_prog_hash = 80, excl_prog_hash_size = 88, }
    MapElem 0 { map_fd = 0, key = 8, value = 16, flags = 24, }
    MapBatch 56 { in_batch = 0, out_batch = 8, keys = 16, values = 24, count = 32, map_fd = 36,
        elem_flags = 40, flags = 48, }
    ProgLoad 0 { prog_type = 0, insn_cnt = 4, insns = 8, license = 16, log_level = 24, log_size = 28,
        log_buf = 32, kern_version = 40, prog_flags = 44, prog_name = 48, prog_ifindex = 64,
        expected_attach_type = 68, prog_btf_fd = 72, func_info_rec_size = 76, func_info = 80,
        func_info_cnt = 88, line_info_rec_size = 92, line_info = 96, line_info_cnt = 104,
        attach_btf_id = 108, attach_prog_fd = 112, core_relo_cnt = 116, fd_array = 120,
        core_relos = 128, core_relo_rec_size = 136, log_true_size = 140, prog_token_fd = 144,
        fd_array_cnt = 148, signature = 152, signature_size = 160, keyring_id = 164, }
    Obj 0 { pathname = 0, bpf_fd = 8, file_flags = 12, path_fd = 16, }
    ProgAttach 0 { target_fd = 0, attach_bpf_fd = 4, attach_type = 8, attach_flags = 12,
        replace_bpf_fd = 16, relative_fd = 20, expected_revision = 24, }
    TestRun 80 { prog_fd = 0, retval = 4, data_size_in = 8, data_size_out = 12, data_in = 16,
        data_out = 24, repeat = 32, duration = 36, ctx_size_in = 40, ctx_size_out = 44, ctx_in = 48,
        ctx_out = 56, flags = 64, cpu = 68, batch_size = 72, }
    GetId 0 { id = 0, next_id = 4, open_flags = 8, fd_by_id_token_fd = 12, }
    GetInfo 16 { bpf_fd = 0, info_len = 4, info = 8, }
    ProgQuery 64 { target_fd = 0, attach_type = 4, query_flags = 8, attach_flags = 12, prog_ids = 16,
        count = 24, prog_attach_flags = 32, link_ids = 40, link_attach_flags = 48, revision = 56, }
    RawTracepointOpen 24 { name = 0, prog_fd = 8, cookie = 16, }
    BtfLoad 0 { btf = 0, btf_log_buf = 8, btf_size = 16, btf_log_size = 20, btf_log_level = 24,
        btf_log_true_size = 28, btf_flags = 32, btf_token_fd = 36, }
    TaskFdQuery 48 { pid = 0, fd = 4, flags = 8, buf_len = 12, buf = 16, prog_id = 24, fd_type = 28,
        probe_offset = 32, probe_addr = 40, }
    LinkCreate 64 { prog_fd = 0, target_fd = 4, attach_type = 8, flags = 12, target = 16, }
    LinkCreateIter 0 { iter_info = 0, iter_info_len = 8, }
    LinkCreatePerfEvent 8 { bpf_cookie = 0, }
    LinkCreateKprobeMulti 32 { flags = 0, cnt = 4, syms = 8, addrs = 16, cookies = 24, }
    LinkCreateTracing 16 { target_btf_id = 0, cookie = 8, }
    LinkCreateNetfilter 16 { pf = 0, hooknum = 4, priority = 8, flags = 12, }
    LinkCreateRelative 16 { relative_fd = 0, expected_revision = 8, }
    LinkCreateUprobeMulti 48 { path = 0, offsets = 8, ref_ctr_offsets = 16, cookies = 24, cnt = 32,
        flags = 36, pid = 40, }
    LinkUpdate 16 { link_fd = 0, new_prog_fd = 4, flags = 8, old_prog_fd = 12, }
    LinkDetach 4 { link_fd = 0, }
    EnableStats 4 { kind = 0, }
    IterCreate 8 { link_fd = 0, flags = 4, }
    ProgBindMap 12 { prog_fd = 0, map_fd = 4, flags = 8, }
    TokenCreate 8 { flags = 0, bpffs_fd = 4, }
    ProgStreamRead 24 { stream_buf = 0, stream_buf_len = 8, stream_id = 12, prog_fd = 16, }
    ProgInfo 232 { kind = 0, id = 4, tag = 8, jited_prog_len = 16, xlated_prog_len = 20,
        jited_prog_insns = 24, xlated_prog_insns = 32, load_time = 40, created_by_uid = 48,
        nr_map_ids = 52, map_ids = 56, name = 64, ifindex = 80, netns_dev = 88, netns_ino = 96,
        nr_jited_ksyms = 104, nr_jited_func_lens = 108, jited_ksyms = 112, jited_func_lens = 120,
        btf_id = 128, func_info_rec_size = 132, func_info = 136, nr_func_info = 144, nr_line_info = 148,
        line_info = 152, jited_line_info = 160, nr_jited_line_info = 168, line_info_rec_size = 172,
        jited_line_info_rec_size = 176, nr_prog_tags = 180, prog_tags = 184, run_time_ns = 192,
        run_cnt = 200, recursion_misses = 208, verified_insns = 216, attach_btf_obj_id = 220,
        attach_btf_id = 224, }
    MapInfo 104 { kind = 0, id = 4, key_size = 8, value_size = 12, max_entries = 16, map_flags = 20,
        name = 24, ifindex = 40, btf_vmlinux_value_type_id = 44, netns_dev = 48, netns_ino = 56,
        btf_id = 64, btf_key_type_id = 68, btf_value_type_id = 72, btf_vmlinux_id = 76, map_extra = 80,
        hash = 88, hash_size = 96, }
    BtfInfo 32 { btf = 0, btf_size = 8, id = 12, name = 16, name_len = 24, kernel_btf = 28, }
    LinkInfo 64 { kind = 0, id = 4, prog_id = 8, details = 16, }
    LinkInfoRawTracepoint 24 { tp_name = 0, tp_name_len = 8, cookie = 16, }
    LinkInfoTracing 24 { attach_type = 0, target_obj_id = 4, target_btf_id = 8, cookie = 16, }
    LinkInfoCgroup 16 { cgroup_id = 0, attach_type = 8, }
    LinkInfoIter 32 { target_name = 0, target_name_len = 8, map_id = 12, cgroup_id = 16, order = 24, }
    LinkInfoNetns 8 { netns_ino = 0, attach_type = 4, }
    LinkInfoXdp 4 { ifindex = 0, }
    LinkInfoStructOps 4 { map_id = 0, }
    LinkInfoNetfilter 16 { pf = 0, hooknum = 4, priority = 8, flags = 12, }
    LinkInfoKprobeMulti 32 { addrs = 0, count = 8, flags = 12, missed = 16, cookies = 24, }
    LinkInfoUprobeMulti 48 { path = 0, offsets = 8, ref_ctr_offsets = 16, cookies = 24, path_size = 32,
        count = 36, flags = 40, pid = 44, }
    LinkInfoPerfEvent 48 { kind = 0, name = 8, name_len = 16, offset = 20, words = 24, }
    LinkInfoNetdev 8 { ifindex = 0, attach_type = 4, }
    LinkInfoSockmap 8 { map_id = 0, attach_type = 4, }
    TokenInfo 32 { allowed_cmds = 0, allowed_maps = 8, allowed_progs = 16, allowed_attachs = 24, }
    FuncInfo 8 { insn_off = 0, type_id = 4, }
    LineInfo 16 { insn_off = 0, file_name_off = 4, line_off = 8, line_col = 12, }
    CoreRelo 16 { insn_off = 0, type_id = 4, access_str_off = 8, kind = 12, }
    BtfHeader 24 { magic = 0, version = 2, flags = 3, hdr_len = 4, type_off = 8, type_len = 12,
        str_off = 16, str_len = 20, }
    BtfType 12 { name_off = 0, info = 4, size_or_type = 8, }
    BtfEnum 8 { name_off = 0, val = 4, }
    BtfEnum64 12 { name_off = 0, val_lo32 = 4, val_hi32 = 8, }
    BtfArray 12 { elem_type = 0, index_type = 4, nelems = 8, }
    BtfMember 12 { name_off = 0, type_id = 4, offset = 8, }
    BtfParam 8 { name_off = 0, type_id = 4, }
    BtfVar 4 { linkage = 0, }
    BtfVarSecinfo 12 { type_id = 0, offset = 4, size = 8, }
    BtfDeclTag 4 { component_idx = 0, }
    BtfExtHeader 32 { magic = 0, version = 2, flags = 3, hdr_len = 4, func_info_off = 8,
        func_info_len = 12, line_info_off = 16, line_info_len = 20, core_relo_off = 24,
        core_relo_len = 28, }
    BtfExtInfoSec 8 { sec_name_off = 0, num_info = 4, }
    BcfHeader 12 { magic = 0, expr_cnt = 4, step_cnt = 8, }
    BcfExpr 4 { code = 0, vlen = 1, params = 2, }
    BcfStep 4 { rule = 0, premise_cnt = 2, param_cnt = 3, }
}

// Places that the headers give no structure for.
const _: () = {
    assert!(ATTR_SIZE == 168);
    assert!(size_of::<ProgLoad>() == ATTR_SIZE_BCF && offset_of!(ProgLoad, bcf_buf) == ATTR_SIZE);
    assert!(offset_of!(ProgLoad, bcf_flags) + 4 == ATTR_SIZE_BCF);
    assert!(offset_of!(ProgInfo, gpl_compatible) == 84);
    assert!(size_of::<LinkCreate>() == 64 && size_of::<LinkInfo>() == 64);
};
