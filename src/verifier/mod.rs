//! `bpf_check`: decides whether a program is safe to run, and says why not in its log.
//!
//! One phase a file, named as in the kernel. A verification is a value, [`Verifier`]: it owns what it needs, runs on
//! any thread, and many run at once.

pub mod access;
pub mod alignment;
pub mod alu;
pub mod arg_types;
pub mod attach;
pub mod backtrack;
pub mod bcf;
pub mod bounds;
pub mod bprintf;
pub mod btf_access;
pub mod callbacks;
pub mod cfg;
pub mod check;
pub mod check_btf;
pub mod coerce;
pub mod const_str;
pub mod disasm;
pub mod do_check;
pub mod facts;
pub mod fastcall;
mod fixups;
pub mod func_arg;
pub mod func_call;
pub mod func_exit;
pub mod helper_call;
pub mod helper_mem;
pub mod helper_ret;
pub mod inner_map;
pub mod input;
pub mod insn_aux;
pub mod jump;
pub mod kptr;
pub mod ld;
pub mod ldst;
pub mod linfo;
pub mod live_regs;
pub mod liveness;
pub mod log;
pub mod map_access;
pub mod map_compat;
pub mod map_fields;
pub mod mem;
pub mod print_state;
pub mod prog;
pub mod pseudo_btf;
pub mod refine;
pub mod refs;
pub mod reg_arg;
pub mod reg_type;
pub mod resolve;
pub mod return_code;
pub mod scalar;
pub mod scc;
pub mod stack;
pub mod stack_depth;
pub mod state;
pub mod state_tree;
pub mod states;
pub mod stats;
pub mod subprogs;
pub mod tnum;

pub use check::{bpf_check, bpf_check_bcf};

use std::sync::Arc;

use bpftwin_uapi::attr::ProgLoad;
use bpftwin_uapi::info::{FuncInfo, LineInfo};
use bpftwin_uapi::{Errno, HelperId};

use crate::btf::Btf;
use crate::helpers::{self, FuncProto, ProgCtx};
use cfg::Postordered;
use check_btf::RecSizes;
use insn_aux::InsnAux;
use log::Log;
use print_state::Scratched;
use prog::{Objects, Prog, VerifierMap};
use stack_depth::PrivStackMode;
use state::VerifierState;

/// Result of a phase or a check. The error ends the verification and is what bpf(2) returns.
pub type Result<T> = std::result::Result<T, Errno>;

/// Writes a formatted message to the log, where the caller asked for one: the kernel's `verbose()`.
#[macro_export]
macro_rules! verbose {
    ($env:expr, $($arg:tt)*) => {
        if $env.log.level != 0 {
            $env.log.write(format_args!($($arg)*));
        }
    };
}

/// Subprograms of a program, the hidden ones aside: `BPF_MAX_SUBPROGS`.
pub const BPF_MAX_SUBPROGS: usize = 256;
/// Maps that one program may use: `MAX_USED_MAPS`.
pub const MAX_USED_MAPS: usize = 64;
/// BTF objects that one program may use: `MAX_USED_BTFS`.
pub const MAX_USED_BTFS: usize = 64;
/// Largest variable offset of a memory access: `BPF_MAX_VAR_OFF`.
pub const BPF_MAX_VAR_OFF: i64 = 1 << 29;
/// Largest variable size of a memory argument: `BPF_MAX_VAR_SIZ`.
pub const BPF_MAX_VAR_SIZ: u64 = 1 << 29;

/// One subprogram: `struct bpf_subprog_info`.
#[derive(Clone, Debug, Default)]
pub struct SubprogInfo {
    /// First instruction.
    pub start: u32,
    /// Index of its first line info.
    pub linfo_idx: u32,
    /// Index of its first entry in [`Verifier::insn_postorder`].
    pub postorder_start: u32,
    /// Bytes of stack used.
    pub stack_depth: u16,
    pub stack_extra: u16,
    /// Offsets in `[-stack_depth, fastcall_stack_off)` serve spills and fills around fastcalls only.
    pub fastcall_stack_off: i16,
    pub has_tail_call: bool,
    pub tail_call_reachable: bool,
    pub has_ld_abs: bool,
    pub is_cb: bool,
    pub is_async_cb: bool,
    pub is_exception_cb: bool,
    pub args_cached: bool,
    pub keep_fastcall_stack: bool,
    pub changes_pkt_data: bool,
    pub might_sleep: bool,
    pub priv_stack_mode: PrivStackMode,
    pub arg_cnt: u8,
    pub args: [SubprogArg; 5],
}

/// Argument of a global function: `struct bpf_subprog_arg_info`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SubprogArg {
    pub arg_type: reg_type::ArgType,
    /// Size of the memory argument, or the BTF id of a `PTR_TO_BTF_ID` one.
    pub mem_size_or_btf_id: u32,
}

/// What calls found out about a function: `struct bpf_func_info_aux`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FuncInfoAux {
    /// Of `enum btf_func_linkage`.
    pub linkage: u16,
    /// A call did not match the BTF prototype.
    pub unreliable: bool,
    /// A global function that is called, and is to be verified.
    pub called: bool,
    pub verified: bool,
}

/// What later releases of a stable series got from newer ones.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Features {
    /// Byte swaps keep what is known: `scalar_byte_swap`.
    pub byte_swap_bounds: bool,
    /// Scalars may be linked at a distance by subtraction and by 32-bit additions, only live ones are, and states are compared by the base of
    /// their links.
    pub scalar_links: bool,
    /// Ranges that cross the sign boundary, and known bits, leave one value: `tnum_step`.
    pub sharp_bounds: bool,
    /// A write of plain bytes at a variable offset leaves no bytes of a spill that it may have hit: `scrub_special_slot`.
    pub scrubbed_spills: bool,
    /// Packet loads of classic BPF that fail return from the subprogram they are in: `check_ld_abs`.
    pub ld_abs_returns: bool,
    /// A packet pointer that is known to be at or beyond the end covers such pointers alone: `regsafe`.
    pub packet_ends: bool,
    /// Scalars linked at a distance keep expressions of their own in a symbolic run. As published, they get that of the register that
    /// was compared, as if there were no distance.
    pub linked_exprs: bool,
}

impl Features {
    /// 6.18.15, which BCF was published for.
    pub const EARLY: Self = Self {
        byte_swap_bounds: false,
        scalar_links: false,
        sharp_bounds: false,
        scrubbed_spills: false,
        ld_abs_returns: false,
        packet_ends: false,
        linked_exprs: false,
    };
    /// 6.18.44
    pub const LATE: Self = Self {
        byte_swap_bounds: true,
        scalar_links: true,
        sharp_bounds: true,
        scrubbed_spills: true,
        ld_abs_returns: true,
        packet_ends: true,
        linked_exprs: true,
    };
}

/// One verification of one program: `struct bpf_verifier_env`.
pub struct Verifier {
    pub prog: Prog,
    /// Attributes of the load, as the caller gave them.
    pub attr: ProgLoad,
    /// Record sizes to tell the caller, where its records have more than ours.
    pub rec_sizes: RecSizes,
    pub log: Log,
    /// Looks up the descriptors that the program names.
    pub objects: Arc<dyn Objects>,
    /// BTF of the emulated kernel, where it has one.
    pub btf_vmlinux: Option<Arc<Btf>>,
    /// The program's maps (the first `used_map_cnt`), then templates of inner maps, in order of first use.
    pub maps: Vec<Arc<VerifierMap>>,
    pub used_map_cnt: usize,
    /// Index into [`maps`](Self::maps) of each used map's inner-map template.
    pub inner_map_idx: Vec<Option<state::MapIdx>>,
    /// BTF objects that `fd_array` names.
    pub used_btfs: Vec<Arc<Btf>>,
    pub insn_aux: Vec<InsnAux>,
    /// Sorted by start; one more, behind the last, starts at the program's end.
    pub subprog_info: Vec<SubprogInfo>,
    pub subprog_cnt: usize,
    /// BTF types of the functions, one a subprogram; empty without function information.
    pub func_info: Vec<FuncInfo>,
    pub func_info_aux: Vec<FuncInfoAux>,
    /// Processor ids of the emulated kernel are below this.
    pub nr_cpu_ids: u32,
    /// Subprogram that is the exception callback, zero for none.
    pub exception_callback_subprog: usize,
    /// Instructions of each subprogram in post-order, see [`SubprogInfo::postorder_start`].
    pub insn_postorder: Vec<Postordered>,
    /// Strongly connected components, plus one.
    pub scc_cnt: u32,
    /// Visits of each component, by its number.
    pub scc_info: Vec<Vec<state_tree::SccVisit>>,
    /// What is missing where the verification ended with `EOPNOTSUPP` because it is not emulated.
    pub not_emulated: Option<String>,

    // Privileges.
    pub allow_ptr_leaks: bool,
    pub allow_uninit_stack: bool,
    pub bpf_capable: bool,
    pub bypass_spec_v1: bool,
    pub bypass_spec_v4: bool,

    /// Scalars that limit sanitised arithmetic are compared strictly.
    pub explore_alu_limits: bool,

    // Flags of the load.
    pub strict_alignment: bool,
    pub test_state_freq: bool,
    pub test_reg_invariants: bool,

    /// What differs between releases of a series.
    pub features: Features,

    // BCF.
    /// Follows one path symbolically, see [`bcf`].
    pub tracking: bool,
    /// None where BCF is off.
    pub bcf: Option<Box<bcf::Bcf>>,
    /// Time spent in all rounds but the present one.
    pub verification_time: std::time::Duration,

    // The walk.
    pub insn_idx: u32,
    pub prev_insn_idx: u32,
    /// Source of unique register ids.
    pub id_gen: u32,
    /// A program writes to packet data.
    pub seen_direct_write: bool,
    pub cur_state: Box<VerifierState>,
    /// Entry of the current state's jump history for the current instruction.
    pub cur_hist_ent: Option<usize>,
    /// Checkpoints, and copies of states that closed a loop.
    pub states: state_tree::StatePool,
    /// Branches to be explored, the next one last: `env->head`.
    pub stack: Vec<state_tree::StackElem>,
    /// Checkpoints by instruction and call site, oldest first.
    pub explored_states: Vec<Vec<state::StateId>>,
    /// Evicted checkpoints that are still referred to.
    pub free_list: Vec<state::StateId>,
    pub bt: backtrack::BacktrackState,
    pub idmap_scratch: states::IdMap,
    pub liveness: liveness::Liveness,
    /// Functions walked so far.
    pub pass_cnt: u32,

    // Counters, for heuristics and for the statistics.
    pub insn_processed: u32,
    pub prev_insn_processed: u32,
    pub jmps_processed: u32,
    pub prev_jmps_processed: u32,
    pub max_states_per_insn: u32,
    pub total_states: u32,
    pub peak_states: u32,
    pub explored_states_size: u32,
    /// Evicted checkpoints. What the end of a function's walk frees still counts, as in the kernel.
    pub free_list_size: u32,
    pub num_backedges: u32,

    // Line information and what the log remembers of its last lines.
    /// Checked line info of the program, sorted by instruction.
    pub linfo: Vec<LineInfo>,
    /// Index into [`linfo`](Self::linfo) of the source line last printed.
    pub prev_linfo: Option<usize>,
    /// What changed since the state was last printed.
    pub scratched: Scratched,
    /// Log position behind the last instruction printed.
    pub prev_log_pos: u64,
    /// Characters that it took.
    pub prev_insn_print_pos: u64,
}

impl Verifier {
    /// Ends the verification because `what` is not emulated.
    #[cold]
    pub fn not_emulated<T>(&mut self, what: impl Into<String>) -> Result<T> {
        self.not_emulated.get_or_insert_with(|| what.into());
        Err(Errno::EOPNOTSUPP)
    }

    /// The helper behind the `imm` of a call, and its prototype for this program: `ERANGE` for a number that is no
    /// helper's, `EINVAL` where the program may not call it.
    pub fn get_helper_proto(&self, imm: i32) -> Result<(HelperId, &'static FuncProto)> {
        helpers::get_helper_proto(imm, &ProgCtx::of(&self.prog))
    }
}
