//! What the phases learn about each instruction: `struct bpf_insn_aux_data`.

use super::reg_type::RegType;
use super::state::MapIdx;

/// Flag of [`InsnAux::map_key_state`]: keys differ between paths, or are not constant.
pub const BPF_MAP_KEY_POISON: u64 = 1 << 63;
/// Flag of [`InsnAux::map_key_state`]: a key was seen.
pub const BPF_MAP_KEY_SEEN: u64 = 1 << 62;

/// The map that a call works on: `struct bpf_map_ptr_state`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct MapPtrState {
    pub map_ptr: Option<MapIdx>,
    /// Different paths bring different maps.
    pub poison: bool,
    pub unpriv: bool,
}

/// Whether a `bpf_loop` call could be inlined: `struct bpf_loop_inline_state`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LoopInlineState {
    pub initialized: bool,
    pub fit_for_inline: bool,
    pub callback_subprogno: u32,
}

/// Facts about one instruction: `struct bpf_insn_aux_data`, with the members of its unions side by side.
#[derive(Clone, Copy, Default, Debug)]
pub struct InsnAux {
    /// Pointer type of a load or store.
    pub ptr_type: RegType,
    /// Map of a `ldimm64`, as an index into the program's maps.
    pub map_index: u32,
    /// Offset from the base of the map's value that a `ldimm64` of a map value adds.
    pub map_off: u32,
    pub map_ptr_state: MapPtrState,
    pub map_key_state: u64,
    pub loop_inline_state: LoopInlineState,
    pub ctx_field_size: i32,
    /// Type that a `ldimm64` of a BTF variable yields (`btf_var.reg_type`), and its BTF id or memory size.
    pub btf_var_type: RegType,
    pub btf_var_btf: u32,
    pub btf_var_id_or_size: u32,
    /// [`Verifier::pass_cnt`](super::Verifier) of the last pass that processed it.
    pub seen: u32,
    pub alu_limit: u32,
    pub alu_state: u8,
    pub nospec: bool,
    pub nospec_result: bool,
    pub zext_dst: bool,
    pub needs_zext: bool,
    pub storage_get_func_atomic: bool,
    pub is_iter_next: bool,
    pub fastcall_pattern: bool,
    /// Spill/fill pairs around a fastcall.
    pub fastcall_spills_num: u8,
    pub jmp_point: bool,
    pub prune_point: bool,
    pub force_checkpoint: bool,
    pub calls_callback: bool,
    /// Strongly connected component, zero for a singleton.
    pub scc: u32,
    /// Registers alive before this instruction, as a bit set.
    pub live_regs_before: u16,
}
