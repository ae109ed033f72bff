//! Which programs may share a map of programs: `bpf_prog_map_compatible` of `kernel/bpf/core.c`.

use bpftwin_uapi::{MapType, ProgType};

use crate::verifier::prog::Prog;

/// What the first program set for all that use a map, or are in it: `struct bpf_map_owner`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MapOwner {
    pub prog_type: ProgType,
    pub expected_attach_type: u32,
    pub xdp_has_frags: bool,
    /// Identities of the shared and the per-CPU cgroup storage.
    pub cgroup_storage: [Option<u64>; 2],
    /// Function that a tracing program is attached to: object and type id.
    pub attach_func_proto: Option<(u32, u32)>,
    kprobe_override: bool,
}

impl MapOwner {
    /// What a program asks for.
    pub fn of(prog: &Prog) -> Self {
        let tracing =
            matches!(prog.prog_type, ProgType::Tracing | ProgType::Lsm | ProgType::Ext | ProgType::StructOps);
        MapOwner {
            prog_type: prog.saved_dst_prog_type.unwrap_or(prog.prog_type),
            expected_attach_type: prog.expected_attach_type,
            xdp_has_frags: prog.xdp_has_frags,
            cgroup_storage: prog.cgroup_storage,
            attach_func_proto: (tracing && prog.attach_btf_id != 0)
                .then(|| (prog.attach_btf.as_ref().map_or(0, |btf| btf.id()), prog.attach_btf_id)),
            kprobe_override: prog.kprobe_override,
        }
    }

    /// Whether a program can be an element of maps at all.
    pub fn may_be_in_maps(prog: &Prog) -> bool {
        prog.prog_type != ProgType::Ext && !prog.dev_bound && !prog.offloaded
    }

    /// Whether a program may join a map that has no owner yet.
    pub fn may_own(&self) -> bool {
        !self.kprobe_override
    }

    /// `__bpf_prog_map_compatible` with an owner.
    pub fn accepts(&self, program: &MapOwner, map_type: MapType) -> bool {
        let storage_fits = self
            .cgroup_storage
            .iter()
            .zip(&program.cgroup_storage)
            .all(|(own, other)| own == other || other.is_none());
        program.may_own()
            && self.prog_type == program.prog_type
            && self.xdp_has_frags == program.xdp_has_frags
            && (map_type != MapType::ProgArray || self.expected_attach_type == program.expected_attach_type)
            && storage_fits
            && self.attach_func_proto == program.attach_func_proto
    }
}
