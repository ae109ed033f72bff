//! Context of programs on TCP socket events: `struct bpf_sock_ops` (`net/core/filter.c`).

use super::layout::bpf_sock_ops::*;
use super::{AccessType, InsnAccessAux, Write};
use crate::verifier::reg_type::RegType;

pub fn sock_ops_is_valid_access(off: i32, size: i32, access: AccessType, info: &mut InsnAccessAux) -> bool {
    if !(0..SIZE).contains(&off) || off % size != 0 {
        return false;
    }
    if access == Write {
        return (off == REPLY.start || off == SK_TXHASH.start) && size == 4;
    }
    if BYTES_RECEIVED.till(BYTES_ACKED).contains(off) || SKB_HWTSTAMP.contains(off) {
        return size == 8;
    }
    for (field, reg_type) in [
        (SK, RegType::PTR_TO_SOCKET_OR_NULL),
        (SKB_DATA, RegType::PTR_TO_PACKET),
        (SKB_DATA_END, RegType::PTR_TO_PACKET_END),
    ] {
        if field.contains(off) {
            return info.pointer(reg_type, size);
        }
    }
    if off == SKB_TCP_FLAGS.start {
        return info.narrow(size, 4);
    }
    size == 4
}
