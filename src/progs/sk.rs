//! Contexts of the program types that choose or judge sockets: `struct sk_msg_md`, `struct sk_reuseport_md` and
//! `struct bpf_sk_lookup` (`net/core/filter.c`).

use super::layout::{bpf_sk_lookup, sk_msg_md, sk_reuseport_md, within};
use super::{AccessType, InsnAccessAux, Read};
use crate::verifier::reg_type::RegType;

pub fn sk_msg_is_valid_access(off: i32, size: i32, access: AccessType, info: &mut InsnAccessAux) -> bool {
    use sk_msg_md::*;
    if access != Read || off % size != 0 {
        return false;
    }
    if DATA.contains(off) {
        return info.pointer(RegType::PTR_TO_PACKET, size);
    }
    if DATA_END.contains(off) {
        return info.pointer(RegType::PTR_TO_PACKET_END, size);
    }
    if SK.contains(off) {
        return size == 8 && info.pointer(RegType::PTR_TO_SOCKET, size);
    }
    // What remains, from the family to the length, is 32-bit fields.
    FAMILY.till(LEN).contains(off) && size == 4
}

pub fn sk_reuseport_is_valid_access(
    off: i32,
    size: i32,
    access: AccessType,
    info: &mut InsnAccessAux,
) -> bool {
    use sk_reuseport_md::*;
    if !(0..SIZE).contains(&off) || off % size != 0 || access != Read {
        return false;
    }
    for (field, reg_type) in [
        (DATA, RegType::PTR_TO_PACKET),
        (DATA_END, RegType::PTR_TO_PACKET_END),
        (SK, RegType::PTR_TO_SOCKET),
        (MIGRATING_SK, RegType::PTR_TO_SOCK_COMMON_OR_NULL),
    ] {
        if off == field.start {
            return info.pointer(reg_type, size);
        }
    }
    if off == HASH.start {
        return size == 4;
    }
    // The protocol is a 16-bit field of `struct sk_buff`.
    if ETH_PROTOCOL.contains(off) && size < 2 {
        return false;
    }
    within(off, &[ETH_PROTOCOL, IP_PROTOCOL, BIND_INANY, LEN]) && info.narrow(size, 4)
}

pub fn sk_lookup_is_valid_access(off: i32, size: i32, access: AccessType, info: &mut InsnAccessAux) -> bool {
    use bpf_sk_lookup::*;
    const NARROW: &[super::layout::Field] =
        &[FAMILY, PROTOCOL, REMOTE_IP4, LOCAL_IP4, REMOTE_IP6, LOCAL_IP6, LOCAL_PORT, INGRESS_IFINDEX];
    if !(0..SIZE).contains(&off) || off % size != 0 || access != Read {
        return false;
    }
    if SK.contains(off) {
        return info.pointer(RegType::PTR_TO_SOCKET_OR_NULL, size);
    }
    if within(off, NARROW) {
        return info.narrow(size, 4);
    }
    if REMOTE_PORT.contains(off) {
        // The field once was four bytes wide, which stays allowed, and so does reading the padding behind it.
        return size == 4 || info.narrow(size, 2);
    }
    REMOTE_PORT.gap(LOCAL_IP4).contains(off) && info.narrow(size, 2)
}
