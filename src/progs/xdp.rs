//! Context of XDP programs: `struct xdp_md` (`net/core/filter.c`).

use bpftwin_uapi::AttachType;

use super::layout::xdp_md::*;
use super::{AccessType, InsnAccessAux, Write};
use crate::verifier::prog::Prog;
use crate::verifier::reg_type::RegType;

pub fn xdp_is_valid_access(
    prog: &Prog,
    off: i32,
    size: i32,
    access: AccessType,
    info: &mut InsnAccessAux,
) -> bool {
    if off == EGRESS_IFINDEX.start && prog.expected_attach_type != AttachType::XdpDevmap as u32 {
        return false;
    }
    let valid = (0..SIZE).contains(&off) && off % size == 0 && size == 4;
    if access == Write {
        return prog.offloaded && off == RX_QUEUE_INDEX.start && valid;
    }
    let pointer = if off == DATA.start {
        RegType::PTR_TO_PACKET
    } else if off == DATA_META.start {
        RegType::PTR_TO_PACKET_META
    } else if off == DATA_END.start {
        RegType::PTR_TO_PACKET_END
    } else {
        return valid;
    };
    if info.is_ldsx {
        return false;
    }
    info.reg_type = pointer;
    valid
}
