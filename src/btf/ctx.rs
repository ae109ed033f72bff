//! Which types of a program's BTF stand for its context.

use std::fmt;

use bpftwin_uapi::enums::AttachType;
use bpftwin_uapi::{Errno, ProgType};

use crate::progs::ctx_type::ctx_type;
use crate::verifier::log::Log;

use super::{Btf, BtfType};

/// A type that programs use for their context under another name than the kernel does: `btf_is_projection_of`.
pub fn btf_is_projection_of(pname: &str, tname: &str) -> bool {
    matches!((pname, tname), ("__sk_buff", "sk_buff") | ("xdp_md", "xdp_buff"))
}

/// Name of the registers that a perf event program sees, the type behind `bpf_user_pt_regs_t`.
const USER_PT_REGS: &str = if cfg!(target_arch = "aarch64") { "user_pt_regs" } else { "pt_regs" };

/// The kernel's `bpf_log`.
pub(super) fn bpf_log(log: &mut Log, args: fmt::Arguments<'_>) {
    if log.level != 0 {
        log.write(args);
    }
}

/// Whether pointer `t` is to the context of programs of this type, by the name of what it points to:
/// `btf_is_prog_ctx_type`. `has_kernel_btf`: the kernel has BTF, without which no type is a context.
pub fn btf_is_prog_ctx_type(
    log: &mut Log,
    btf: &Btf,
    t: &BtfType<'_>,
    prog_type: ProgType,
    has_kernel_btf: bool,
) -> bool {
    if prog_type == ProgType::Kprobe {
        let t = btf.skip_qualifiers(t.type_());
        if t.is_typedef() && btf.str_is(t.name_off, "bpf_user_pt_regs_t") {
            return true;
        }
    }
    let t = btf.skip_modifiers(t.type_());
    if !t.is_struct() {
        return false;
    }
    if !has_kernel_btf {
        bpf_log(log, format_args!("btf_vmlinux is malformed\n"));
        return false;
    }
    let names = ctx_type(prog_type).prog;
    let tname = btf.type_name(&t);
    names.iter().any(|&name| btf_is_projection_of(name, &tname) || name == tname)
}

/// Whether argument `arg` of type `t`, which is tagged as context, can be one: `btf_validate_prog_ctx_type`.
pub(super) fn btf_validate_prog_ctx_type(
    log: &mut Log,
    btf: &Btf,
    t: &BtfType<'_>,
    arg: usize,
    (prog_type, attach_type): (ProgType, u32),
    has_kernel_btf: bool,
) -> Result<(), Errno> {
    if !t.is_ptr() {
        bpf_log(log, format_args!("arg#{arg} type isn't a pointer\n"));
        return Err(Errno::EINVAL);
    }
    if matches!(prog_type, ProgType::Kprobe | ProgType::PerfEvent) {
        let t = btf.skip_qualifiers(t.type_());
        if t.is_typedef() && btf.str_is(t.name_off, "bpf_user_pt_regs_t") {
            return Ok(());
        }
    }
    let t = btf.skip_modifiers(t.type_());
    if t.is_void() {
        return Ok(());
    }
    let tname = btf.type_name(&t);
    if tname.is_empty() {
        bpf_log(log, format_args!("arg#{arg} type doesn't have a name\n"));
        return Err(Errno::EINVAL);
    }
    if is_special_ctx(&t, &tname, prog_type, AttachType::from_u32(attach_type)) {
        return Ok(());
    }
    if !has_kernel_btf {
        bpf_log(log, format_args!("btf_vmlinux is malformed\n"));
        return Err(Errno::EINVAL);
    }

    // Contexts of these two types are numbers.
    let numeric = matches!(prog_type, ProgType::Tracepoint | ProgType::LircMode2);
    let Some(ctx_tname) = ctx_type(prog_type).prog.last().filter(|_| !numeric) else {
        bpf_log(log, format_args!("arg#{arg} should be void pointer\n"));
        return Err(Errno::EINVAL);
    };
    if !t.is_strict_struct() || *ctx_tname != tname {
        bpf_log(log, format_args!("arg#{arg} should be `struct {ctx_tname} *`\n"));
        return Err(Errno::EINVAL);
    }
    Ok(())
}

/// Types that are good as context beside the one that the program type has.
fn is_special_ctx(
    t: &BtfType<'_>,
    tname: &str,
    prog_type: ProgType,
    attach_type: Option<AttachType>,
) -> bool {
    let is_struct = |name: &str| t.is_strict_struct() && tname == name;
    let is_u64 = t.is_int() && t.size() == 8;
    match prog_type {
        ProgType::Kprobe => is_struct("pt_regs"),
        ProgType::PerfEvent => is_struct(USER_PT_REGS),
        ProgType::RawTracepoint | ProgType::RawTracepointWritable => is_u64,
        ProgType::Tracing => match attach_type {
            Some(AttachType::TraceRawTp) => is_struct("bpf_raw_tracepoint_args") || is_u64,
            Some(AttachType::TraceIter) => t.is_strict_struct() && tname.starts_with("bpf_iter__"),
            Some(AttachType::TraceFentry | AttachType::TraceFexit | AttachType::ModifyReturn) => is_u64,
            _ => false,
        },
        ProgType::Lsm | ProgType::StructOps => is_u64,
        ProgType::Tracepoint | ProgType::Syscall | ProgType::Ext => true,
        _ => false,
    }
}
