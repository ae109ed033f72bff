//! `BPF_PROG_LOAD` on an emulated kernel: from the attributes to the descriptor.

use std::mem::offset_of;
use std::sync::Arc;

use bpftwin_uapi::Errno;
use bpftwin_uapi::attr::{BCF_F_PROOF_PROVIDED, BPF_OBJ_NAME_LEN, ProgLoad};
use bpftwin_uapi::insn::{BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE};

use super::subprogs::{number_subprogs, tag_of};
use super::{Loader, bcf, prepare};
use crate::kernel::KernelObjects;
use crate::kernel::bcf_file::Load;
use crate::kernel::objects::{LoadedProgram, MapRef};
use crate::kernel::profile::Bcf;
use crate::maps::Map;
use crate::maps::owner::MapOwner;
use crate::progs::maps::map_type_contains_progs;
use crate::syscall::{Call, Result};
use crate::verifier::bcf::{Options, Step};
use crate::verifier::bpf_check_bcf;
use crate::verifier::input::{CheckInput, Outcome};
use crate::verifier::log::{LogSink, UserLogSink};
use crate::verifier::prog::Prog;

/// `bpf_prog_load`
pub(in crate::syscall) fn bpf_prog_load(call: &Call<'_>) -> Result {
    let attr: ProgLoad = call.part()?;
    bcf::check_attrs(&attr)?;
    if attr.bcf_flags & BCF_F_PROOF_PROVIDED != 0 {
        return bcf::resume(call, &attr);
    }
    let objects = Arc::new(KernelObjects::new(call.kernel, Arc::clone(call.memory)));
    let loader = Loader::on(call.kernel, call.caps, objects.clone(), attr.attach_btf_id != 0);
    let prog = prepare(&attr, &loader).map_err(|refusal| match refusal.not_emulated {
        Some(what) => call.not_emulated(&what),
        None => refusal.errno,
    })?;
    // SAFETY: getuid has no preconditions.
    let created_by_uid = unsafe { libc::getuid() };
    let load = Load { attr, objects: Arc::clone(&objects), load_time: boot_time(), created_by_uid };

    let log_sink = UserLogSink { memory: Arc::clone(call.memory), address: attr.log_buf };
    let input = |prog: Prog, bcf| CheckInput {
        prog,
        attr,
        objects: load.objects.clone(),
        btf_vmlinux: loader.btf_vmlinux.clone(),
        log_sink: (attr.log_buf != 0).then(|| Box::new(log_sink.clone()) as Box<dyn LogSink>),
        bcf,
    };
    if let Some(prover) = call.kernel.prover() {
        let (outcome, report) = prover.verify(&|bcf| input(prog.clone(), bcf));
        call.kernel.note_bcf(report);
        return finish(call, load, outcome);
    }
    let step = bpf_check_bcf(input(prog, bcf_options(call.kernel.profile().bcf, &attr)));
    match step {
        Step::Done(outcome) => finish(call, load, *outcome),
        Step::Requested(verification) => bcf::request(call, load, verification),
    }
}

/// Whether rejected accesses become conditions, and for whom.
fn bcf_options(bcf: Bcf, attr: &ProgLoad) -> Option<Options> {
    match bcf {
        Bcf::Kernel => (attr.bcf_buf_size != 0).then(Options::default),
        Bcf::Off | Bcf::Auto => None,
    }
}

/// What follows verification: the caller's attributes, the program, and its descriptor.
pub(super) fn finish(call: &Call<'_>, load: Load, outcome: Outcome) -> Result {
    write_back(call, &outcome)?;
    if let Err(errno) = outcome.result {
        return Err(outcome.not_emulated.as_deref().map_or(errno, |what| call.not_emulated(what)));
    }
    let used_maps = outcome.used_maps.iter().map(|map| load.objects.map(map.identity));
    let used_maps: Vec<Arc<Map>> = used_maps.collect::<Option<_>>().ok_or(Errno::EFAULT)?;
    bpf_check_tail_call(&outcome, &used_maps)?;
    call.kernel.publish_program(loaded_program(call, &load, outcome, used_maps))
}

/// What verification stores in the caller's attributes. A fault hides its result.
fn write_back(call: &Call<'_>, outcome: &Outcome) -> Result<()> {
    let sizes = outcome.rec_sizes;
    for (offset, size) in [
        (offset_of!(ProgLoad, func_info_rec_size), sizes.func_info),
        (offset_of!(ProgLoad, line_info_rec_size), sizes.line_info),
        (offset_of!(ProgLoad, core_relo_rec_size), sizes.core_relo),
    ] {
        if let Some(size) = size {
            call.put_attr(offset, size)?;
        }
    }
    let offset = offset_of!(ProgLoad, log_true_size);
    match outcome.log_true_size {
        // Callers from before the field was there do not get it.
        Some(size) if call.size as usize >= offset + size_of::<u32>() => call.put_attr(offset, size),
        _ => Ok(()),
    }
}

/// Whether the program fits the others of the maps of programs that it uses.
fn bpf_check_tail_call(outcome: &Outcome, used_maps: &[Arc<Map>]) -> Result<()> {
    let owner = MapOwner::of(&outcome.prog);
    let of_programs = used_maps.iter().filter(|map| map_type_contains_progs(map.attrs.map_type));
    for map in of_programs {
        if !map.owner_compatible(&owner) {
            return Err(Errno::EINVAL);
        }
    }
    Ok(())
}

fn loaded_program(call: &Call<'_>, load: &Load, outcome: Outcome, used_maps: Vec<Arc<Map>>) -> LoadedProgram {
    let Outcome { mut prog, stats, map_uses, subprog_starts, func_info, line_info, .. } = outcome;
    let func_tags = number_subprogs(&mut prog.insns, &subprog_starts);
    let object_of = |btf: &Arc<crate::btf::Btf>| call.kernel.btfs().get(btf.id());
    LoadedProgram {
        name: padded_name(&load.attr),
        tag: tag_of(&prog.digest),
        load_time: load.load_time,
        created_by_uid: load.created_by_uid,
        verified_insns: stats.insn_processed,
        used_maps,
        map_refs: map_uses
            .iter()
            .map(|map_use| MapRef {
                insn: map_use.insn_idx,
                map: map_use.map_idx as usize,
                pseudo: if map_use.is_value { BPF_PSEUDO_MAP_VALUE } else { BPF_PSEUDO_MAP_FD },
                off: map_use.map_off,
            })
            .collect(),
        btf: prog.btf.as_ref().and_then(object_of),
        attach_btf: prog.attach_btf.as_ref().and_then(object_of),
        func_cnt: func_tags.len() as u32,
        func_info,
        line_info,
        func_tags,
        prog,
    }
}

/// The name up to its end, which `prepare` has found, and zeros.
fn padded_name(attr: &ProgLoad) -> [u8; BPF_OBJ_NAME_LEN] {
    let mut ended = false;
    attr.prog_name.map(|byte| {
        ended |= byte == 0;
        if ended { 0 } else { byte }
    })
}

/// `ktime_get_boottime_ns`
fn boot_time() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_BOOTTIME)
        .map_or(0, |time| time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}
