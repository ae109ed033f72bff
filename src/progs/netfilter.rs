//! Context of netfilter programs: `struct bpf_nf_ctx` (`net/netfilter/nf_bpf_link.c`).

use super::layout::bpf_nf_ctx::*;
use super::{AccessType, InsnAccessAux, Write};
use crate::verifier::reg_type::{RegType, flag};

pub fn nf_is_valid_access(off: i32, size: i32, access: AccessType, info: &mut InsnAccessAux) -> bool {
    if !(0..SIZE).contains(&off) || off % size != 0 || access == Write || size != 8 {
        return false;
    }
    info.btf_struct = Some(if SKB.contains(off) {
        "sk_buff"
    } else if STATE.contains(off) {
        "nf_hook_state"
    } else {
        return false;
    });
    info.reg_type = RegType::PTR_TO_BTF_ID.with(flag::PTR_TRUSTED);
    true
}
