//! Context of the program types that see a packet as `struct __sk_buff`: socket filters, traffic control, cgroup
//! ingress and egress, light-weight tunnels, stream parsers and verdicts, flow dissectors (`net/core/filter.c`).

use super::layout::{Field, sk_buff::*, within};
use super::{AccessType, InsnAccessAux, Read, Write};
use crate::verifier::prog::Prog;
use crate::verifier::reg_type::RegType;

/// Addresses and ports of the packet's socket.
const SOCKET_FIELDS: Field = FAMILY.till(LOCAL_PORT);
/// All of `SOCKET_FIELDS` that hold addresses.
const ADDRESSES: Field = REMOTE_IP4.till(LOCAL_IP6);

/// The rules that all of these types share; each type forbids more before it asks here.
fn bpf_skb_is_valid_access(off: i32, size: i32, access: AccessType, info: &mut InsnAccessAux) -> bool {
    if !(0..SIZE).contains(&off) || off % size != 0 {
        return false;
    }
    if CB.contains(off) {
        return off + size <= CB.end;
    }
    if within(off, &[DATA, DATA_META, DATA_END]) {
        return !info.is_ldsx && size == 4;
    }
    if ADDRESSES.contains(off) {
        return size == 4;
    }
    if FLOW_KEYS.contains(off) {
        return false;
    }
    if HWTSTAMP.contains(off) {
        return access == Read && size == 8;
    }
    if TSTAMP.contains(off) {
        return size == 8;
    }
    if SK.contains(off) {
        return access == Read && info.pointer(RegType::PTR_TO_SOCK_COMMON_OR_NULL, size);
    }
    // `tstamp_type` is for traffic control alone, which handles it itself; behind it is padding.
    if GSO_SIZE.gap(HWTSTAMP).contains(off) {
        return false;
    }
    match access {
        Write => size == 4,
        Read => info.narrow(size, 4),
    }
}

/// Reading `data`, `data_end` or `data_meta` yields packet pointers.
fn packet_pointers(off: i32, info: &mut InsnAccessAux) {
    if DATA.contains(off) {
        info.reg_type = RegType::PTR_TO_PACKET;
    } else if DATA_END.contains(off) {
        info.reg_type = RegType::PTR_TO_PACKET_END;
    }
}

pub fn sk_filter_is_valid_access(off: i32, size: i32, access: AccessType, info: &mut InsnAccessAux) -> bool {
    if within(off, &[TC_CLASSID, DATA, DATA_META, DATA_END, SOCKET_FIELDS, TSTAMP, WIRE_LEN, HWTSTAMP]) {
        return false;
    }
    if access == Write && !CB.contains(off) {
        return false;
    }
    bpf_skb_is_valid_access(off, size, access, info)
}

pub fn cg_skb_is_valid_access(
    prog: &Prog,
    off: i32,
    size: i32,
    access: AccessType,
    info: &mut InsnAccessAux,
) -> bool {
    if within(off, &[TC_CLASSID, DATA_META, WIRE_LEN]) {
        return false;
    }
    if within(off, &[DATA, DATA_END]) && !prog.bpf_capable {
        return false;
    }
    if access == Write && !within(off, &[MARK, PRIORITY, CB]) && !(TSTAMP.contains(off) && prog.bpf_capable) {
        return false;
    }
    packet_pointers(off, info);
    bpf_skb_is_valid_access(off, size, access, info)
}

pub fn lwt_is_valid_access(off: i32, size: i32, access: AccessType, info: &mut InsnAccessAux) -> bool {
    if within(off, &[TC_CLASSID, SOCKET_FIELDS, DATA_META, TSTAMP, WIRE_LEN, HWTSTAMP]) {
        return false;
    }
    if access == Write && !within(off, &[MARK, PRIORITY, CB]) {
        return false;
    }
    packet_pointers(off, info);
    bpf_skb_is_valid_access(off, size, access, info)
}

pub fn tc_cls_act_is_valid_access(
    prog: &mut Prog,
    off: i32,
    size: i32,
    access: AccessType,
    info: &mut InsnAccessAux,
) -> bool {
    const WRITABLE: &[Field] = &[MARK, TC_INDEX, PRIORITY, TC_CLASSID, CB, TSTAMP, QUEUE_MAPPING];
    if access == Write && !within(off, WRITABLE) {
        return false;
    }
    packet_pointers(off, info);
    if DATA_META.contains(off) {
        info.reg_type = RegType::PTR_TO_PACKET_META;
    } else if SOCKET_FIELDS.contains(off) {
        return false;
    } else if TSTAMP_TYPE.contains(off) {
        // How `tstamp` is converted depends on whether the program knows of `tstamp_type`.
        prog.tstamp_type_access = true;
        return size == 1;
    }
    bpf_skb_is_valid_access(off, size, access, info)
}

pub fn sk_skb_is_valid_access(off: i32, size: i32, access: AccessType, info: &mut InsnAccessAux) -> bool {
    if within(off, &[TC_CLASSID, DATA_META, TSTAMP, WIRE_LEN, HWTSTAMP]) {
        return false;
    }
    if access == Write && !within(off, &[TC_INDEX, PRIORITY]) {
        return false;
    }
    if MARK.contains(off) {
        return false;
    }
    packet_pointers(off, info);
    bpf_skb_is_valid_access(off, size, access, info)
}

pub fn flow_dissector_is_valid_access(
    off: i32,
    size: i32,
    access: AccessType,
    info: &mut InsnAccessAux,
) -> bool {
    if !(0..SIZE).contains(&off) || off % size != 0 || access == Write {
        return false;
    }
    if within(off, &[DATA, DATA_END]) {
        if info.is_ldsx || size != 4 {
            return false;
        }
        packet_pointers(off, info);
        return true;
    }
    FLOW_KEYS.contains(off) && size == 8 && info.pointer(RegType::PTR_TO_FLOW_KEYS, size)
}
