//! Alignment of memory accesses: demanded of the stack always, of other memory under `BPF_F_STRICT_ALIGNMENT` and for
//! atomic operations.

use bpftwin_uapi::Errno;

use super::reg_type::RegType;
use super::tnum::Tnum;
use super::{Result, Verifier};
use crate::verbose;

/// Packets are taken to begin two bytes behind an aligned address: `NET_IP_ALIGN`.
const NET_IP_ALIGN: i32 = 2;

/// What messages call memory of this type.
fn pointer_desc(reg_type: RegType) -> &'static str {
    match reg_type {
        RegType::PTR_TO_FLOW_KEYS => "flow keys ",
        RegType::PTR_TO_MAP_KEY => "key ",
        RegType::PTR_TO_MAP_VALUE => "value ",
        RegType::PTR_TO_CTX => "context ",
        RegType::PTR_TO_STACK => "stack ",
        RegType::PTR_TO_SOCKET => "sock ",
        RegType::PTR_TO_SOCK_COMMON => "sock_common ",
        RegType::PTR_TO_TCP_SOCK => "tcp_sock ",
        RegType::PTR_TO_XDP_SOCK => "xdp_sock ",
        _ => "",
    }
}

impl Verifier {
    /// `check_ptr_alignment` of an access through register `regno`; `off` is the instruction's offset.
    #[inline]
    pub(super) fn check_ptr_alignment(
        &mut self,
        regno: u8,
        off: i32,
        size: i32,
        strict_once: bool,
    ) -> Result<()> {
        let reg = self.cur_reg(regno);
        let reg_type = reg.type_;
        // Spills and fills rely on accesses that stay within a slot.
        let strict = self.strict_alignment || strict_once || reg_type == RegType::PTR_TO_STACK;
        if !strict || size == 1 || reg_type == RegType::PTR_TO_ARENA {
            return Ok(());
        }
        let is_packet = matches!(reg_type, RegType::PTR_TO_PACKET | RegType::PTR_TO_PACKET_META);
        let ip_align = if is_packet { NET_IP_ALIGN } else { 0 };
        let fixed = ip_align.wrapping_add(reg.off).wrapping_add(off);
        if reg.var_off.add(Tnum::constant(fixed as i64 as u64)).is_aligned(size as u64) {
            return Ok(());
        }
        let (var_off, reg_off) = (reg.var_off, reg.off);
        if is_packet {
            verbose!(self, "misaligned packet access off {ip_align}+{var_off}+{reg_off}+{off} size {size}\n");
        } else {
            let desc = pointer_desc(reg_type);
            verbose!(self, "misaligned {desc}access off {var_off}+{reg_off}+{off} size {size}\n");
        }
        Err(Errno::EACCES)
    }
}
