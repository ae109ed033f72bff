//! What a verification is given, and what it leaves.

use std::sync::Arc;

use bpftwin_uapi::Errno;
use bpftwin_uapi::attr::ProgLoad;

use super::bcf;
use super::check_btf::RecSizes;
use super::log::LogSink;
use super::prog::{Objects, Prog, VerifierMap};
use crate::btf::Btf;

/// Input of `bpf_check`.
pub struct CheckInput {
    /// The program, as [`prepare`](crate::syscall::prog_load::prepare) left it.
    pub prog: Prog,
    /// The load's attributes: log, BTF, function and line information, relocations, `fd_array`.
    pub attr: ProgLoad,
    /// Looks up the descriptors that the program and the attributes name.
    pub objects: Arc<dyn Objects>,
    /// BTF of the kernel, where it has one.
    pub btf_vmlinux: Option<Arc<Btf>>,
    /// Where the log goes, unless `attr.log_buf` is null.
    pub log_sink: Option<Box<dyn LogSink>>,
    /// How rejected accesses become conditions to prove; none where BCF is off.
    pub bcf: Option<bcf::Options>,
}

/// Instruction that names a map with its 64-bit immediate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MapUse {
    /// First half of the `ldimm64`.
    pub insn_idx: u32,
    /// Index into [`Outcome::used_maps`].
    pub map_idx: u32,
    /// Names an address inside of the map's value, `map_off` bytes behind its start; else the map itself.
    pub is_value: bool,
    pub map_off: u32,
}

/// Measures of a verification: what `print_verification_stats` shows.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Stats {
    pub insn_processed: u32,
    pub max_states_per_insn: u32,
    pub total_states: u32,
    pub peak_states: u32,
    pub longest_mark_read: u32,
    /// Nanoseconds.
    pub verification_time: u64,
    /// Nanoseconds of these that went into checking proofs.
    pub proof_check_time: u64,
}

/// What `bpf_check` leaves.
pub struct Outcome {
    pub result: Result<(), Errno>,
    /// Size that the whole log would have needed; none where the log's attributes were bad, which leaves the
    /// caller's field alone.
    pub log_true_size: Option<u32>,
    /// What is missing, where `result` is `EOPNOTSUPP` because it is not emulated.
    pub not_emulated: Option<String>,
    /// Record sizes to write to the caller's attributes, where its records have more in them than ours.
    pub rec_sizes: RecSizes,
    pub stats: Stats,
    /// The program, with what verification learnt of it.
    pub prog: Prog,
    /// Maps of the program, in order of first use.
    pub used_maps: Vec<Arc<VerifierMap>>,
    pub map_uses: Vec<MapUse>,
    /// First instructions of the subprograms, the main one's among them.
    pub subprog_starts: Vec<u32>,
    /// Records of `struct bpf_func_info` and `struct bpf_line_info` as they were checked, back to back.
    pub func_info: Vec<u8>,
    pub line_info: Vec<u8>,
    /// BCF had a part in it: without, the outcome would have been another.
    pub bcf_engaged: bool,
    /// The path to the rejection, where [`bcf::Options::explain`] asks for it and there is one.
    pub trail: Option<Box<bcf::Trail>>,
}
