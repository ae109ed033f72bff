//! What the rewriting phases of the kernel note about a verified program on the way: helpers that change how it is run
//! (`do_misc_fixups`), and where it names maps (`convert_pseudo_ld_imm64`).

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Errno, HelperId};

use super::input::MapUse;
use super::{Result, Verifier};
use crate::verbose;

/// Offsets into a packet are below this: `MAX_PACKET_OFF`.
const MAX_PACKET_OFF: u32 = 0xffff;

/// Helpers whose calls are made into what their map's type has for it.
const INLINED_WITH_MAP: &[HelperId] = &[
    HelperId::MapLookupElem,
    HelperId::MapUpdateElem,
    HelperId::MapDeleteElem,
    HelperId::MapPushElem,
    HelperId::MapPopElem,
    HelperId::MapPeekElem,
    HelperId::RedirectMap,
    HelperId::ForEachMapElem,
    HelperId::MapLookupPercpuElem,
];

impl Verifier {
    /// A call whose every path was dropped before its map was known: as published, BCF's kernel rejects a tail call, and crashes on any
    /// other.
    pub fn check_calls_with_map(&mut self) -> Result<()> {
        if !self.bcf.as_ref().is_some_and(|bcf| bcf.as_published()) {
            return Ok(());
        }
        let calls = self.prog.insns.iter().zip(&self.insn_aux);
        let unknown = calls
            .filter(|(insn, aux)| {
                aux.seen != 0 && insn.is_helper_call() && aux.map_ptr_state.map_ptr.is_none()
            })
            .filter_map(|(insn, _)| HelperId::from_u32(insn.imm as u32))
            .find(|&helper| helper == HelperId::TailCall || INLINED_WITH_MAP.contains(&helper));
        match unknown {
            None => Ok(()),
            Some(helper) => {
                if helper == HelperId::TailCall {
                    verbose!(self, "adding tail call poke descriptor failed\n");
                }
                Err(Errno::EINVAL)
            }
        }
    }

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
