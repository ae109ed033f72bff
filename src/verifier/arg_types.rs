//! Which register types satisfy which helper argument types: `check_reg_type` and its tables.

use bpftwin_uapi::{Errno, HelperId};

use super::access::CallArgMeta;
use super::disasm::func_id_name;
use super::print_state::reg_type_str;
use super::reg_type::{ArgType, RegType, flag};
use super::{Result, Verifier};
use crate::helpers::BtfTypeRef;
use crate::verbose;

use RegType as R;

/// Types that an argument may have, in the order in which the log lists them: `struct bpf_reg_types`.
type RegTypes = &'static [RegType];

const BTF_ID: RegType = R::PTR_TO_BTF_ID;

static SOCK_TYPES: RegTypes =
    &[R::PTR_TO_SOCK_COMMON, R::PTR_TO_SOCKET, R::PTR_TO_TCP_SOCK, R::PTR_TO_XDP_SOCK];
static BTF_ID_SOCK_COMMON_TYPES: RegTypes = &[
    R::PTR_TO_SOCK_COMMON,
    R::PTR_TO_SOCKET,
    R::PTR_TO_TCP_SOCK,
    R::PTR_TO_XDP_SOCK,
    BTF_ID,
    BTF_ID.with(flag::PTR_TRUSTED),
];
static MEM_TYPES: RegTypes = &[
    R::PTR_TO_STACK,
    R::PTR_TO_PACKET,
    R::PTR_TO_PACKET_META,
    R::PTR_TO_MAP_KEY,
    R::PTR_TO_MAP_VALUE,
    R::PTR_TO_MEM,
    R::PTR_TO_MEM.with(flag::MEM_RINGBUF),
    R::PTR_TO_BUF,
    BTF_ID.with(flag::PTR_TRUSTED),
];
static MAP_VALUE_OR_ALLOCATED: RegTypes = &[R::PTR_TO_MAP_VALUE, BTF_ID.with(flag::MEM_ALLOC)];
static BTF_PTR_TYPES: RegTypes = &[BTF_ID, BTF_ID.with(flag::PTR_TRUSTED), BTF_ID.with(flag::MEM_RCU)];
static PERCPU_BTF_PTR_TYPES: RegTypes = &[
    BTF_ID.with(flag::MEM_PERCPU),
    BTF_ID.with(flag::MEM_PERCPU | flag::MEM_RCU),
    BTF_ID.with(flag::MEM_PERCPU | flag::PTR_TRUSTED),
];
static DYNPTR_TYPES: RegTypes = &[R::PTR_TO_STACK, R::CONST_PTR_TO_DYNPTR];

/// `compatible_reg_types`
fn compatible_reg_types(arg_type: ArgType) -> Option<RegTypes> {
    use ArgType as A;
    Some(match arg_type.base() {
        A::ARG_PTR_TO_MAP_KEY | A::ARG_PTR_TO_MAP_VALUE | A::ARG_PTR_TO_MEM => MEM_TYPES,
        A::ARG_CONST_SIZE | A::ARG_CONST_SIZE_OR_ZERO | A::ARG_CONST_ALLOC_SIZE_OR_ZERO => &[R::SCALAR_VALUE],
        A::ARG_CONST_MAP_PTR => &[R::CONST_PTR_TO_MAP],
        A::ARG_PTR_TO_CTX => &[R::PTR_TO_CTX],
        A::ARG_PTR_TO_SOCK_COMMON => SOCK_TYPES,
        A::ARG_PTR_TO_BTF_ID_SOCK_COMMON => BTF_ID_SOCK_COMMON_TYPES,
        A::ARG_PTR_TO_SOCKET => &[R::PTR_TO_SOCKET],
        A::ARG_PTR_TO_BTF_ID => BTF_PTR_TYPES,
        A::ARG_PTR_TO_SPIN_LOCK | A::ARG_KPTR_XCHG_DEST => MAP_VALUE_OR_ALLOCATED,
        A::ARG_PTR_TO_RINGBUF_MEM => const { &[R::PTR_TO_MEM.with(flag::MEM_RINGBUF)] },
        A::ARG_PTR_TO_PERCPU_BTF_ID => PERCPU_BTF_PTR_TYPES,
        A::ARG_PTR_TO_FUNC => &[R::PTR_TO_FUNC],
        A::ARG_PTR_TO_STACK => &[R::PTR_TO_STACK],
        A::ARG_PTR_TO_CONST_STR | A::ARG_PTR_TO_TIMER => &[R::PTR_TO_MAP_VALUE],
        A::ARG_PTR_TO_DYNPTR => DYNPTR_TYPES,
        _ => return None,
    })
}

/// The register's type without the modifiers that the argument type accepts either way.
fn folded_type(reg_type: RegType, arg_type: ArgType, func_id: i32, regno: u8) -> RegType {
    let mut folded = reg_type;
    if arg_type.has(flag::MEM_RDONLY) {
        folded = folded.without(flag::MEM_RDONLY);
    }
    if arg_type.may_be_null() {
        folded = folded.without(flag::PTR_MAYBE_NULL);
    }
    if arg_type.base() == ArgType::ARG_PTR_TO_MEM {
        folded = folded.without(flag::DYNPTR_TYPE_FLAG_MASK);
    }
    // The new content of a kptr may be an object of the program's own.
    if func_id == HelperId::KptrXchg as i32 && regno == 2 && folded.has(flag::MEM_ALLOC) {
        folded = folded.without(flag::MEM_ALLOC | flag::MEM_PERCPU);
    }
    folded
}

impl Verifier {
    /// `check_reg_type`: the register is of a type that the argument takes.
    pub(super) fn check_reg_type(
        &mut self,
        regno: u8,
        arg_type: ArgType,
        arg_btf_id: Option<BtfTypeRef>,
        meta: &CallArgMeta,
    ) -> Result<()> {
        let Some(compatible) = compatible_reg_types(arg_type) else {
            verbose!(self, "verifier bug: unsupported arg type {}\n", arg_type.0);
            return Err(Errno::EFAULT);
        };
        let reg_type = self.cur_reg(regno).type_;
        if !compatible.contains(&folded_type(reg_type, arg_type, meta.func_id, regno)) {
            return self.report_reg_type(regno, reg_type, compatible);
        }
        if reg_type.base() != R::PTR_TO_BTF_ID {
            return Ok(());
        }
        if std::ptr::eq(compatible, MEM_TYPES) {
            if !arg_type.has(flag::MEM_RDONLY) {
                verbose!(
                    self,
                    "{}() may write into memory pointed by R{regno} type={}\n",
                    func_id_name(meta.func_id),
                    reg_type_str(reg_type)
                );
                return Err(Errno::EACCES);
            }
            return Ok(());
        }
        self.check_struct_arg(regno, reg_type, arg_type, arg_btf_id, meta)
    }

    /// A pointer to a structure, whose modifiers suit the argument.
    fn check_struct_arg(
        &mut self,
        regno: u8,
        reg_type: RegType,
        arg_type: ArgType,
        arg_btf_id: Option<BtfTypeRef>,
        meta: &CallArgMeta,
    ) -> Result<()> {
        let func_id = meta.func_id;
        const TRUSTED: u32 = flag::PTR_TRUSTED;
        const NULL: u32 = flag::PTR_MAYBE_NULL;
        const RCU: u32 = flag::MEM_RCU;
        const PERCPU: u32 = flag::MEM_PERCPU;
        match reg_type.flags() {
            0 | TRUSTED | RCU | NULL => {}
            flags if flags == TRUSTED | NULL || flags == RCU | NULL => {}
            flags if flags == PERCPU || flags == PERCPU | RCU || flags == PERCPU | TRUSTED => return Ok(()),
            flags if flags & flag::MEM_ALLOC != 0 => return self.not_emulated("allocated objects"),
            _ => {
                verbose!(self, "verifier bug: invalid PTR_TO_BTF_ID register for type match\n");
                return Err(Errno::EFAULT);
            }
        }
        let release = arg_type.has(flag::OBJ_RELEASE);
        if reg_type.may_be_null() && (!arg_type.may_be_null() || release) {
            verbose!(self, "Possibly NULL pointer passed to helper arg{regno}\n");
            return Err(Errno::EACCES);
        }
        if func_id == HelperId::KptrXchg as i32 {
            return match meta.kptr {
                Some(kptr) => self.map_kptr_match_type(kptr, regno).map_err(|_| Errno::EACCES),
                None => Err(Errno::EFAULT),
            };
        }
        let needed = match arg_btf_id {
            Some(BtfTypeRef::Struct(name)) => self.kernel_struct_id(name)?,
            Some(BtfTypeRef::Id(id)) => id,
            Some(BtfTypeRef::Poison) => {
                verbose!(self, "verifier internal error:");
                verbose!(self, "R{regno} has non-overwritten BPF_PTR_POISON type\n");
                return Err(Errno::EACCES);
            }
            None if arg_type.base() == ArgType::ARG_PTR_TO_BTF_ID_SOCK_COMMON => {
                self.kernel_struct_id("sock_common")?
            }
            None => {
                verbose!(self, "verifier bug: missing arg compatible BTF ID\n");
                return Err(Errno::EFAULT);
            }
        };
        // Any kind of socket can be released: each begins with the part that all have in common.
        let strict = release && func_id != HelperId::SkRelease as i32;
        self.check_btf_arg(regno, needed, strict)
    }

    #[cold]
    fn report_reg_type(&mut self, regno: u8, reg_type: RegType, compatible: RegTypes) -> Result<()> {
        verbose!(self, "R{regno} type={} expected=", reg_type_str(reg_type));
        for (i, &expected) in compatible.iter().enumerate() {
            let end = if i + 1 == compatible.len() { "\n" } else { ", " };
            verbose!(self, "{}{end}", reg_type_str(expected));
        }
        Err(Errno::EACCES)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifiers_fold_only_where_the_argument_has_them() {
        let mem = R::PTR_TO_MEM.with(flag::MEM_RDONLY | flag::PTR_MAYBE_NULL | flag::DYNPTR_TYPE_SKB);
        let plain = folded_type(mem, ArgType::ARG_PTR_TO_MEM, 0, 1);
        assert_eq!(plain, mem.without(flag::DYNPTR_TYPE_SKB));
        let lenient = ArgType::ARG_PTR_TO_MEM_OR_NULL.with(flag::MEM_RDONLY);
        assert_eq!(folded_type(mem, lenient, 0, 1), R::PTR_TO_MEM);
        assert_eq!(folded_type(mem, ArgType::ARG_PTR_TO_MAP_KEY, 0, 1), mem);
    }
}
