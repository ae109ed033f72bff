//! Contexts of tracing programs that need no BTF: kprobes, tracepoints, raw tracepoints, perf events
//! (`kernel/trace/bpf_trace.c`).

use super::layout::{bpf_perf_event_data, pt_regs};
use super::{AccessType, InsnAccessAux, Read};
use crate::verifier::reg_type::RegType;

/// Largest tracepoint record: `PERF_MAX_TRACE_SIZE`.
const PERF_MAX_TRACE_SIZE: i32 = 8192;
/// `MAX_BPF_FUNC_ARGS`
const MAX_BPF_FUNC_ARGS: i32 = 12;

pub fn kprobe_prog_is_valid_access(off: i32, size: i32, access: AccessType) -> bool {
    // Early point releases of 6.18 let uprobes write to their registers; later ones do not.
    (0..pt_regs::SIZE).contains(&off)
        && off % size == 0
        && off.saturating_add(size) <= pt_regs::SIZE
        && access == Read
}

pub fn tp_prog_is_valid_access(off: i32, size: i32, access: AccessType) -> bool {
    // The kernel compares with the size of a pointer, which is unsigned: a negative offset passes.
    let below_record = (0..8).contains(&off);
    !below_record && off < PERF_MAX_TRACE_SIZE && access == Read && off % size == 0
}

/// An access to numbers and pointers, eight bytes each, as far as any context of these goes: `bpf_tracing_ctx_access`.
pub fn bpf_tracing_ctx_access(off: i32, size: i32, access: AccessType) -> bool {
    (0..8 * MAX_BPF_FUNC_ARGS).contains(&off) && access == Read && off % size == 0
}

pub fn raw_tp_writable_prog_is_valid_access(
    off: i32,
    size: i32,
    access: AccessType,
    info: &mut InsnAccessAux,
) -> bool {
    if off == 0 && (access != Read || !info.pointer(RegType::PTR_TO_TP_BUFFER, size)) {
        return false;
    }
    bpf_tracing_ctx_access(off, size, access)
}

pub fn pe_prog_is_valid_access(off: i32, size: i32, access: AccessType, info: &mut InsnAccessAux) -> bool {
    use bpf_perf_event_data::*;
    if !(0..SIZE).contains(&off) || access != Read || off % size != 0 {
        return false;
    }
    if SAMPLE_PERIOD.till(ADDR).contains(off) { info.narrow(size, 8) } else { size == 8 }
}
