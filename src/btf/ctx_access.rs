//! Contexts of programs that are attached to a function of the kernel: its arguments, eight bytes each, of the types
//! that its prototype gives them (`btf_ctx_access`).

use bpftwin_uapi::{AttachType, ProgType};

use super::ctx::bpf_log;
use super::{Btf, BtfParam, BtfType};
use crate::progs::raw_tp_null_args::raw_tp_null_args;
use crate::verifier::access::InsnAccessAux;
use crate::verifier::log::Log;
use crate::verifier::prog::Prog;
use crate::verifier::reg_type::RegType;
use crate::verifier::reg_type::flag::*;

/// Whether the program may read `size` bytes at byte `off` of its context, which is inside of any context there can be
/// and a multiple of `size`; what the read yields is left in `info`.
pub fn btf_ctx_access(log: &mut Log, prog: &Prog, off: i32, size: i32, info: &mut InsnAccessAux) -> bool {
    let (Some(btf), Some(proto)) = (prog.attach_btf.as_deref(), prog.attach_func_proto) else { return false };
    let proto = btf.type_or_void(proto);
    let access = CtxAccess { prog, btf, proto, off, size };
    access.check(log, info)
}

struct CtxAccess<'a> {
    prog: &'a Prog,
    btf: &'a Btf,
    proto: BtfType<'a>,
    off: i32,
    size: i32,
}

impl CtxAccess<'_> {
    fn check(&self, log: &mut Log, info: &mut InsnAccessAux) -> bool {
        let (btf, off) = (self.btf, self.off);
        let tname = &*self.prog.attach_func_name;
        if off % 8 != 0 {
            bpf_log(log, format_args!("func '{tname}' offset {off} is not multiple of 8\n"));
            return false;
        }
        let arg = self.arg_idx();
        // The first argument of a tracepoint's function is not for programs.
        let skipped = usize::from(self.prog.attach_btf_trace);
        let Some(param) = self.proto.params().nth(arg + skipped) else {
            bpf_log(log, format_args!("func '{tname}' doesn't have {}-th argument\n", arg + 1));
            return false;
        };
        let t = btf.skip_modifiers(param.type_);
        if is_small_int(&t) || t.is_any_enum() || t.is_struct() {
            return true;
        }
        if !t.is_ptr() {
            bpf_log(
                log,
                format_args!(
                    "func '{tname}' arg{arg} '{}' has type {}. Only pointer access is allowed\n",
                    btf.display_name(t.name_off),
                    t.kind_str()
                ),
            );
            return false;
        }
        if self.size != 8 {
            bpf_log(log, format_args!("func '{tname}' size {} must be 8\n", self.size));
            return false;
        }
        let special = self.prog.ctx_args.iter().find(|special| special.offset == off);
        if let Some(special) = special
            && special.reg_type.base() == RegType::PTR_TO_BUF
            && special.reg_type.may_be_null()
        {
            info.reg_type = special.reg_type;
            return true;
        }
        // A pointer to nothing that is known is as good as a number.
        let target = btf.skip_modifiers(t.type_());
        if target.is_void() || target.is_int() {
            return true;
        }
        if let Some(special) = special {
            info.reg_type = special.reg_type;
            info.btf = 0;
            info.btf_struct = special.btf_struct;
            return true;
        }
        self.check_struct_ptr(log, info, (arg, &param), &t)
    }

    /// Argument number that the offset is in: `btf_ctx_arg_idx`. Structures take several times eight bytes.
    fn arg_idx(&self) -> usize {
        let mut end = 0u64;
        for (i, param) in self.proto.params().enumerate() {
            let t = self.btf.skip_modifiers(param.type_);
            end += if t.is_ptr() { 8 } else { u64::from(t.size()).next_multiple_of(8) };
            if (self.off as u64) < end {
                return i;
            }
        }
        // Behind the arguments is the return value; neither it nor what follows can be read here.
        let t = self.btf.skip_modifiers(self.proto.type_());
        end += if t.is_ptr() { 8 } else { u64::from(t.size()).next_multiple_of(8) };
        self.proto.vlen() as usize + usize::from(self.off as u64 >= end)
    }

    /// A pointer whose type is all that is known of it.
    fn check_struct_ptr(
        &self,
        log: &mut Log,
        info: &mut InsnAccessAux,
        (arg, param): (usize, &BtfParam),
        ptr: &BtfType<'_>,
    ) -> bool {
        let btf = self.btf;
        let tname = &*self.prog.attach_func_name;
        let mut flags = if self.args_trusted() { PTR_TRUSTED } else { 0 };
        if self.is_nullable(param) {
            flags |= PTR_MAYBE_NULL;
        }
        let mut may_be_error = false;
        if self.prog.expected_attach_type == AttachType::TraceRawTp as u32 {
            match raw_tp_null_args(tname) {
                Some(mask) => {
                    let of_arg = mask >> (arg * 4).min(63);
                    if of_arg & 1 != 0 {
                        flags |= PTR_MAYBE_NULL;
                    }
                    may_be_error = of_arg & 2 != 0;
                }
                // Of the tracepoints of modules nothing is known.
                None if btf.is_module() => flags |= PTR_MAYBE_NULL,
                None => {}
            }
        }
        flags |= match btf.pointer_tag(ptr) {
            Some(b"user") => MEM_USER,
            Some(b"percpu") => MEM_PERCPU,
            _ => 0,
        };
        let target = btf.skip_modifiers(ptr.type_());
        info.reg_type = RegType::PTR_TO_BTF_ID.with(flags);
        info.btf = 0;
        info.btf_id = target.id;
        if !target.is_struct() {
            bpf_log(
                log,
                format_args!("func '{tname}' arg{arg} type {} is not a struct\n", target.kind_str()),
            );
            return false;
        }
        bpf_log(
            log,
            format_args!(
                "func '{tname}' arg{arg} has btf_id {} type {} '{}'\n",
                target.id,
                target.kind_str(),
                btf.display_name(target.name_off)
            ),
        );
        if may_be_error {
            bpf_log(log, format_args!("marking pointer arg{arg} as scalar as it may encode error"));
            info.reg_type = RegType::SCALAR_VALUE;
        }
        true
    }

    /// `prog_args_trusted`
    fn args_trusted(&self) -> bool {
        self.prog.prog_type == ProgType::Tracing
            && [AttachType::TraceRawTp, AttachType::TraceIter]
                .iter()
                .any(|&attach_type| self.prog.expected_attach_type == attach_type as u32)
    }

    /// `btf_param_match_suffix`
    fn is_nullable(&self, param: &BtfParam) -> bool {
        const SUFFIX: &[u8] = b"__nullable";
        self.btf
            .str_by_offset(param.name_off)
            .is_some_and(|name| name.len() > SUFFIX.len() && name.ends_with(SUFFIX))
    }
}

/// `btf_type_is_small_int`
fn is_small_int(t: &BtfType<'_>) -> bool {
    t.is_int() && t.size() <= 8
}
