//! Kernel objects that descriptors, pins and other objects refer to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bpftwin_uapi::Insn;
use bpftwin_uapi::attr::BPF_OBJ_NAME_LEN;

use super::bcf_file::BcfFile;
use super::ids::Id;
use crate::btf::Btf;
use crate::maps::{Map, UserMap};
use crate::verifier::prog::Prog;

/// What an open file or a pin refers to.
#[derive(Clone)]
pub enum Object {
    Map(UserMap),
    Prog(Arc<Program>),
    Btf(Arc<BtfObject>),
    /// A load that waits for a proof.
    Bcf(Arc<BcfFile>),
}

impl Object {
    /// Target of the `/proc/self/fd` link of a descriptor of it.
    pub fn link_target(&self) -> &'static str {
        match self {
            Object::Map(_) => "anon_inode:bpf-map",
            Object::Prog(_) => "anon_inode:bpf-prog",
            Object::Btf(_) => "anon_inode:btf",
            Object::Bcf(_) => "anon_inode:bcf",
        }
    }
}

/// A BTF object in the id table.
pub struct BtfObject {
    id: Id,
    pub btf: Arc<Btf>,
}

impl BtfObject {
    pub(super) fn new(id: Id, btf: Btf) -> Self {
        btf.set_id(id.get());
        BtfObject { id, btf: Arc::new(btf) }
    }

    /// Its id.
    pub fn id(&self) -> u32 {
        self.id.get()
    }
}

/// A place in a program where the 64-bit immediate names a map.
#[derive(Clone, Copy, Debug)]
pub struct MapRef {
    /// Index of the load's first instruction.
    pub insn: u32,
    /// Index into the used maps.
    pub map: usize,
    /// `BPF_PSEUDO_MAP_FD` or `BPF_PSEUDO_MAP_VALUE`, as a dump shows it.
    pub pseudo: u8,
    /// Offset into the value.
    pub off: u32,
}

/// A loaded program: `struct bpf_prog` with its `bpf_prog_aux`, as far as bpf(2) shows it.
pub struct LoadedProgram {
    pub prog: Prog,
    /// Name, padded with zeros.
    pub name: [u8; BPF_OBJ_NAME_LEN],
    pub tag: [u8; 8],
    /// Nanoseconds since boot.
    pub load_time: u64,
    pub created_by_uid: u32,
    /// Instructions that verification walked over.
    pub verified_insns: u32,
    pub used_maps: Vec<Arc<Map>>,
    pub map_refs: Vec<MapRef>,
    pub btf: Option<Arc<BtfObject>>,
    pub attach_btf: Option<Arc<BtfObject>>,
    /// Subprograms, the main program included; 0 where there is but the main program: `aux->func_cnt`.
    pub func_cnt: u32,
    /// Records of `struct bpf_func_info`, and of `struct bpf_line_info`, back to back.
    pub func_info: Vec<u8>,
    pub line_info: Vec<u8>,
    /// Tags of the subprograms, where there are any.
    pub func_tags: Vec<[u8; 8]>,
}

/// A program with its id.
pub struct Program {
    pub(super) id: Id,
    pub loaded: LoadedProgram,
    /// Maps bound to it by `BPF_PROG_BIND_MAP`, behind those that it uses.
    pub(super) bound_maps: Mutex<Vec<Arc<Map>>>,
}

impl Program {
    /// Its id.
    pub fn id(&self) -> u32 {
        self.id.get()
    }

    fn bound_maps(&self) -> MutexGuard<'_, Vec<Arc<Map>>> {
        self.bound_maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The maps that it uses, and then those bound to it.
    pub fn used_maps(&self) -> Vec<Arc<Map>> {
        let mut maps = self.loaded.used_maps.clone();
        maps.extend(self.bound_maps().iter().cloned());
        maps
    }

    /// Keeps a map alive with the program: the core of `bpf_prog_bind_map`.
    pub fn bind_map(&self, map: Arc<Map>) {
        let mut bound = self.bound_maps();
        let known = self.loaded.used_maps.iter().chain(bound.iter()).any(|used| Arc::ptr_eq(used, &map));
        if !known {
            bound.push(map);
        }
    }

    /// The instructions as user space may see them, with ids in the place of map addresses:
    /// `bpf_insn_prepare_dump`.
    pub fn dump_insns(&self) -> Vec<Insn> {
        let mut insns = self.loaded.prog.insns.clone();
        for map_ref in &self.loaded.map_refs {
            let first = map_ref.insn as usize;
            let (Some(map), Some([low, high])) =
                (self.loaded.used_maps.get(map_ref.map), insns.get_mut(first..first + 2))
            else {
                continue;
            };
            *low = Insn::new(low.code, low.dst_reg(), map_ref.pseudo, low.off, low.imm);
            low.imm = map.id() as i32;
            high.imm = map_ref.off as i32;
        }
        insns
    }
}
