//! A program, prepared to be run many times.

use std::sync::{Arc, Mutex, PoisonError};

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{HelperId, Insn};

use crate::btf::btf_ctx_access;
use crate::helpers::{FuncProto, ProgCtx, get_helper_proto};
use crate::kernel::profile::nr_cpu_ids;
use crate::progs::{self, ctx_type::ctx_type};
use crate::verifier::access::{AccessType, InsnAccessAux};
use crate::verifier::input::{MapUse, Outcome};
use crate::verifier::log::Log;
use crate::verifier::prog::{Prog, VerifierMap};
use crate::verifier::reg_type::RegType;

/// A helper call as the program gets it.
#[derive(Clone, Copy)]
pub(super) struct Helper {
    pub id: HelperId,
    pub proto: &'static FuncProto,
}

/// A program to run: the instructions as verification leaves them, and the maps that they name.
pub struct Program {
    pub(super) insns: Vec<Insn>,
    /// Without instructions. Program types that judge accesses to the context note in it what they saw.
    prog: Mutex<Prog>,
    pub(super) maps: Vec<Arc<VerifierMap>>,
    /// By instruction.
    map_uses: Vec<Option<MapUse>>,
    helpers: Vec<Option<Helper>>,
    pub(super) nr_cpus: u32,
}

impl Program {
    /// A program that was verified, whatever the verdict.
    pub fn new(outcome: &Outcome) -> Program {
        Self::from_parts(outcome.prog.clone(), outcome.used_maps.clone(), &outcome.map_uses)
    }

    /// A program, the maps that it uses, and the instructions that name them. Calls and function addresses are relative, as
    /// at load.
    pub fn from_parts(mut prog: Prog, maps: Vec<Arc<VerifierMap>>, map_uses: &[MapUse]) -> Program {
        let insns = std::mem::take(&mut prog.insns);
        let mut uses = vec![None; insns.len()];
        for map_use in map_uses {
            if let Some(slot) = uses.get_mut(map_use.insn_idx as usize) {
                *slot = Some(*map_use);
            }
        }
        let ctx = ProgCtx::of(&prog);
        let helper = |insn: &Insn| {
            let (id, proto) = insn.is_helper_call().then(|| get_helper_proto(insn.imm, &ctx).ok())??;
            Some(Helper { id, proto })
        };
        let helpers = insns.iter().map(helper).collect();
        Program { insns, maps, map_uses: uses, helpers, nr_cpus: nr_cpu_ids(), prog: Mutex::new(prog) }
    }

    /// The instructions. The second half of a 64-bit immediate counts as one.
    pub fn insns(&self) -> &[Insn] {
        &self.insns
    }

    /// The maps that the program names.
    pub fn maps(&self) -> &[Arc<VerifierMap>] {
        &self.maps
    }

    /// Helper that the instruction calls, where it calls one that the program may call.
    pub fn helper_at(&self, insn: u32) -> Option<HelperId> {
        self.helper(insn).map(|helper| helper.id)
    }

    /// Prototype of that helper.
    pub fn proto_at(&self, insn: u32) -> Option<&'static FuncProto> {
        self.helper(insn).map(|helper| helper.proto)
    }

    pub(super) fn helper(&self, insn: u32) -> Option<Helper> {
        self.helpers.get(insn as usize).copied().flatten()
    }

    /// What an instruction that names a map names, with its 64-bit immediate.
    pub fn map_use(&self, insn: u32) -> Option<MapUse> {
        self.map_uses.get(insn as usize).copied().flatten()
    }

    /// The context is a `struct __sk_buff`.
    pub(super) fn ctx_is_skb(&self) -> bool {
        let prog = self.prog.lock().unwrap_or_else(PoisonError::into_inner);
        ctx_type(prog.prog_type).kern == Some("sk_buff")
    }

    /// What an access to the context yields; `None` where it is not allowed: `check_ctx_access`.
    pub fn ctx_access(&self, off: i64, size: i32, t: AccessType, is_ldsx: bool) -> Option<RegType> {
        let off = i32::try_from(off).ok()?;
        let mut prog = self.prog.lock().unwrap_or_else(PoisonError::into_inner);
        let mut info = InsnAccessAux::new(is_ldsx);
        let allowed = if prog.attach_func_proto.is_some() {
            progs::bpf_tracing_ctx_access(off, size, t)
                && btf_ctx_access(&mut Log::disabled(), &prog, off, size, &mut info)
        } else {
            progs::is_valid_access(&mut prog, off, size, t, &mut info)
        };
        allowed.then_some(info.reg_type)
    }

    /// Constants that the program compares or computes with, each once.
    pub fn constants(&self) -> Vec<u64> {
        let mut constants: Vec<u64> = Vec::new();
        for (i, insn) in self.insns.iter().enumerate() {
            match insn.class() {
                BPF_ALU | BPF_ALU64 | BPF_JMP | BPF_JMP32
                    if insn.src() == BPF_K
                        && !matches!(insn.op(), BPF_CALL | BPF_EXIT | BPF_JA | BPF_END) =>
                {
                    constants.push(insn.imm as i64 as u64);
                }
                _ if insn.is_ldimm64() && insn.src_reg() == 0 => {
                    let high = self.insns.get(i + 1).map_or(0, |next| next.imm);
                    constants.push(u64::from(high as u32) << 32 | u64::from(insn.imm as u32));
                }
                _ => {}
            }
        }
        constants.sort_unstable();
        constants.dedup();
        constants
    }
}
