//! What the rewriting phases of the kernel note about a verified program on the way: helpers that change how it is run
//! (`do_misc_fixups`), and where it names maps (`convert_pseudo_ld_imm64`).

use bpftwin_uapi::HelperId;
use bpftwin_uapi::insn::*;

use super::Verifier;
use super::input::MapUse;

/// Offsets into a packet are below this: `MAX_PACKET_OFF`.
const MAX_PACKET_OFF: u32 = 0xffff;

impl Verifier {
    /// Notes in the program which helpers it calls that its runs must be prepared for. Calls that no path reaches do
    /// not count, they are removed before.
    pub fn note_helpers(&mut self) {
        for (insn, aux) in self.prog.insns.iter().zip(&self.insn_aux) {
            if aux.seen == 0 || !insn.is_helper_call() {
                continue;
            }
            match HelperId::from_u32(insn.imm as u32) {
                Some(HelperId::GetRouteRealm) => self.prog.dst_needed = true,
                Some(HelperId::OverrideReturn) => self.prog.kprobe_override = true,
                Some(HelperId::TailCall) => {
                    // The program that comes next may do what this one does not.
                    self.prog.cb_access = true;
                    self.prog.max_pkt_offset = MAX_PACKET_OFF;
                }
                _ => {}
            }
        }
    }

    /// Instructions that name a map with their 64-bit immediate.
    pub fn map_uses(&self) -> Vec<MapUse> {
        let uses = self.prog.insns.iter().zip(&self.insn_aux).enumerate();
        uses.filter(|(_, (insn, _))| insn.is_ldimm64())
            .filter_map(|(insn_idx, (insn, aux))| {
                let is_value = match insn.src_reg() {
                    BPF_PSEUDO_MAP_FD | BPF_PSEUDO_MAP_IDX => false,
                    BPF_PSEUDO_MAP_VALUE | BPF_PSEUDO_MAP_IDX_VALUE => true,
                    _ => return None,
                };
                let map_off = if is_value { aux.map_off } else { 0 };
                Some(MapUse { insn_idx: insn_idx as u32, map_idx: aux.map_index, is_value, map_off })
            })
            .collect()
    }
}
