//! Helpers bound to particular hooks: LSM, TCP congestion control, infrared decoders.
//!
//! Kernel: `kernel/bpf/bpf_lsm.c`, `net/ipv4/bpf_tcp_ca.c`, `drivers/media/rc/bpf-lirc.c`.

use super::prelude::*;

pub static BPRM_OPTS_SET: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_BTF_ID, ARG_ANYTHING]).arg_btf_id(1, BtfTypeRef::Struct("linux_binprm"));
pub static IMA_INODE_HASH: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_BTF_ID, ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE])
        .might_sleep()
        .arg_btf_id(1, BtfTypeRef::Struct("inode"))
        .allowed(Allowed::SleepableLsmHook);
pub static IMA_FILE_HASH: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_BTF_ID, ARG_PTR_TO_UNINIT_MEM, ARG_CONST_SIZE])
        .might_sleep()
        .arg_btf_id(1, BtfTypeRef::Struct("file"))
        .allowed(Allowed::SleepableLsmHook);
pub static GET_ATTACH_COOKIE: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_CTX]);
pub static TCP_SEND_ACK: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_BTF_ID, ARG_ANYTHING]).arg_btf_id(1, BtfTypeRef::Struct("tcp_sock"));
pub static RC_REPEAT: FuncProto = func(RET_INTEGER, &[ARG_PTR_TO_CTX]).gpl_only();
pub static RC_KEYDOWN: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_ANYTHING, ARG_ANYTHING, ARG_ANYTHING]).gpl_only();
pub static RC_POINTER_REL: FuncProto =
    func(RET_INTEGER, &[ARG_PTR_TO_CTX, ARG_ANYTHING, ARG_ANYTHING]).gpl_only();
