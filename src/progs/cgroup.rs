//! Contexts of cgroup programs that no packet or socket comes with: devices, sysctl, socket options
//! (`kernel/bpf/cgroup.c`).

use bpftwin_uapi::AttachType;

use super::layout::{bpf_cgroup_dev_ctx, bpf_sockopt, bpf_sysctl};
use super::{AccessType, InsnAccessAux, Read, Write};
use crate::verifier::prog::Prog;
use crate::verifier::reg_type::RegType;

pub fn cgroup_dev_is_valid_access(off: i32, size: i32, access: AccessType, info: &mut InsnAccessAux) -> bool {
    use bpf_cgroup_dev_ctx::*;
    if access == Write || off < 0 || off.saturating_add(size) > SIZE || off % size != 0 {
        return false;
    }
    if ACCESS_TYPE.contains(off) { info.narrow(size, 4) } else { size == 4 }
}

pub fn sysctl_is_valid_access(off: i32, size: i32, access: AccessType, info: &mut InsnAccessAux) -> bool {
    use bpf_sysctl::*;
    if off < 0 || off.saturating_add(size) > SIZE || off % size != 0 {
        return false;
    }
    match access {
        Read => (WRITE.contains(off) || FILE_POS.contains(off)) && info.narrow(size, 4),
        Write => FILE_POS.contains(off) && size == 4,
    }
}

pub fn cg_sockopt_is_valid_access(
    prog: &Prog,
    off: i32,
    size: i32,
    access: AccessType,
    info: &mut InsnAccessAux,
) -> bool {
    use bpf_sockopt::*;
    let attached_to = |hook: AttachType| prog.expected_attach_type == hook as u32;
    if !(0..SIZE).contains(&off) || off % size != 0 {
        return false;
    }
    if access == Write {
        return size == 4
            && if off == RETVAL.start {
                attached_to(AttachType::CgroupGetsockopt)
            } else if off == OPTNAME.start || off == LEVEL.start {
                attached_to(AttachType::CgroupSetsockopt)
            } else {
                off == OPTLEN.start
            };
    }
    for (field, reg_type) in [
        (SK, RegType::PTR_TO_SOCKET),
        (OPTVAL, RegType::PTR_TO_PACKET),
        (OPTVAL_END, RegType::PTR_TO_PACKET_END),
    ] {
        if field.contains(off) {
            return size == 8 && info.pointer(reg_type, size);
        }
    }
    size == 4 && (!RETVAL.contains(off) || attached_to(AttachType::CgroupGetsockopt))
}
