//! Context of cgroup programs on socket addresses: `struct bpf_sock_addr` (`net/core/filter.c`).

use bpftwin_uapi::AttachType::{self, *};

use super::layout::{Field, bpf_sock_addr::*, within};
use super::{AccessType, InsnAccessAux, Read, Write};
use crate::verifier::prog::Prog;
use crate::verifier::reg_type::RegType;

/// Address fields, with the hooks that have them.
const ADDRESSES: [(Field, &[AttachType]); 4] = [
    (
        USER_IP4,
        &[
            CgroupInet4Bind,
            CgroupInet4Connect,
            CgroupInet4Getpeername,
            CgroupInet4Getsockname,
            CgroupUdp4Sendmsg,
            CgroupUdp4Recvmsg,
        ],
    ),
    (
        USER_IP6,
        &[
            CgroupInet6Bind,
            CgroupInet6Connect,
            CgroupInet6Getpeername,
            CgroupInet6Getsockname,
            CgroupUdp6Sendmsg,
            CgroupUdp6Recvmsg,
        ],
    ),
    (MSG_SRC_IP4, &[CgroupUdp4Sendmsg]),
    (MSG_SRC_IP6, &[CgroupUdp6Sendmsg]),
];

pub fn sock_addr_is_valid_access(
    prog: &Prog,
    off: i32,
    size: i32,
    access: AccessType,
    info: &mut InsnAccessAux,
) -> bool {
    if !(0..SIZE).contains(&off) || off % size != 0 {
        return false;
    }
    let address = ADDRESSES.iter().find(|(field, _)| field.contains(off));
    if let Some((_, hooks)) = address
        && !hooks.iter().any(|&hook| hook as u32 == prog.expected_attach_type)
    {
        return false;
    }
    if address.is_some() || USER_PORT.contains(off) {
        if access == Read {
            info.ctx_field_size = 4;
        }
        return match access {
            _ if wide_access_ok(off, size, USER_IP6) || wide_access_ok(off, size, MSG_SRC_IP6) => true,
            Read => info.narrow(size, 4),
            Write => size == 4,
        };
    }
    if SK.contains(off) {
        return access == Read && size == 8 && info.pointer(RegType::PTR_TO_SOCKET, size);
    }
    within(off, &[USER_FAMILY, FAMILY, TYPE, PROTOCOL]) && access == Read && size == 4
}

/// Eight aligned bytes inside of an IPv6 address: `bpf_ctx_wide_access_ok`.
fn wide_access_ok(off: i32, size: i32, field: Field) -> bool {
    size == 8 && off >= field.start && off + 8 <= field.end && off % 8 == 0
}
