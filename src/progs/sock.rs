//! Socket structures: `struct bpf_sock`, which is also the context of cgroup socket programs, `struct bpf_tcp_sock`
//! and `struct bpf_xdp_sock` (`net/core/filter.c`).

use bpftwin_uapi::AttachType;

use super::layout::{Field, bpf_sock::*, bpf_tcp_sock, bpf_xdp_sock, within};
use super::{AccessType, InsnAccessAux, Read};
use crate::verifier::prog::Prog;

/// Access to a `PTR_TO_SOCK_COMMON`, which may point to a socket that is not a full one.
pub fn bpf_sock_common_is_valid_access(
    off: i32,
    size: i32,
    access: AccessType,
    info: &mut InsnAccessAux,
) -> bool {
    !TYPE.till(PRIORITY).contains(off) && bpf_sock_is_valid_access(off, size, access, info)
}

/// Access to a `PTR_TO_SOCKET`. The direction does not matter here: the caller lets no write through.
pub fn bpf_sock_is_valid_access(off: i32, size: i32, _access: AccessType, info: &mut InsnAccessAux) -> bool {
    const NARROW_AT_START: [Field; 6] = [STATE, FAMILY, TYPE, PROTOCOL, SRC_PORT, RX_QUEUE_MAPPING];
    if !(0..SIZE).contains(&off) || size <= 0 || off % size != 0 {
        return false;
    }
    if NARROW_AT_START.iter().any(|field| off == field.start)
        || within(off, &[SRC_IP4, SRC_IP6, DST_IP4, DST_IP6])
    {
        return info.narrow(size, 4);
    }
    if DST_PORT.contains(off) {
        // The field once was four bytes wide, which stays allowed.
        return info.narrow(size, if size == 4 { 4 } else { 2 });
    }
    !DST_PORT.gap(DST_IP4).contains(off) && size == 4
}

/// Access to a `PTR_TO_TCP_SOCK`.
pub fn bpf_tcp_sock_is_valid_access(
    off: i32,
    size: i32,
    _access: AccessType,
    _info: &mut InsnAccessAux,
) -> bool {
    use bpf_tcp_sock::{BYTES_ACKED, BYTES_RECEIVED, ICSK_RETRANSMITS};
    if !(0..ICSK_RETRANSMITS.end).contains(&off) || size <= 0 || off % size != 0 {
        return false;
    }
    let wide = off == BYTES_RECEIVED.start || off == BYTES_ACKED.start;
    size == if wide { 8 } else { 4 }
}

/// Access to a `PTR_TO_XDP_SOCK`.
pub fn bpf_xdp_sock_is_valid_access(
    off: i32,
    size: i32,
    _access: AccessType,
    _info: &mut InsnAccessAux,
) -> bool {
    (0..bpf_xdp_sock::QUEUE_ID.end).contains(&off) && size == 4 && off % size == 0
}

pub fn sock_filter_is_valid_access(
    prog: &Prog,
    off: i32,
    size: i32,
    access: AccessType,
    info: &mut InsnAccessAux,
) -> bool {
    bpf_sock_is_valid_access(off, size, access, info)
        && sock_filter_check_attach_type(off, access, AttachType::from_u32(prog.expected_attach_type))
}

/// Fields that exist at some hooks only: `__sock_filter_check_attach_type`.
fn sock_filter_check_attach_type(off: i32, access: AccessType, attach_type: Option<AttachType>) -> bool {
    use AttachType::{CgroupInet4PostBind, CgroupInet6PostBind, CgroupInetSockCreate, CgroupInetSockRelease};
    if [BOUND_DEV_IF, MARK, PRIORITY].iter().any(|field| off == field.start) {
        return matches!(attach_type, Some(CgroupInetSockCreate | CgroupInetSockRelease));
    }
    let at_hook = if SRC_IP4.contains(off) {
        attach_type == Some(CgroupInet4PostBind)
    } else if SRC_IP6.contains(off) {
        attach_type == Some(CgroupInet6PostBind)
    } else if SRC_PORT.contains(off) {
        matches!(attach_type, Some(CgroupInet4PostBind | CgroupInet6PostBind))
    } else {
        true
    };
    at_hook && access == Read
}
