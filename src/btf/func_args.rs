//! What a function's BTF says of its arguments (`btf_prepare_func_args`): the verifier enters global functions with
//! these, and calls must pass them.

use bpftwin_uapi::{Errno, ProgType};

use crate::verifier::SubprogArg;
use crate::verifier::log::Log;
use crate::verifier::reg_type::ArgType;
use crate::verifier::reg_type::flag::{MEM_RDONLY, PTR_MAYBE_NULL, PTR_TRUSTED, PTR_UNTRUSTED};

use super::ctx::{bpf_log, btf_is_prog_ctx_type, btf_validate_prog_ctx_type};
use super::types::{BTF_FUNC_GLOBAL, BtfType};
use super::{Btf, FuncArgs};

/// Arguments that are passed in registers: `MAX_BPF_FUNC_REG_ARGS`.
const MAX_BPF_FUNC_REG_ARGS: usize = 5;

/// Tags on arguments, `arg:…`: `enum btf_arg_tag`.
mod tag {
    pub const CTX: u32 = 1 << 0;
    pub const NONNULL: u32 = 1 << 1;
    pub const TRUSTED: u32 = 1 << 2;
    pub const UNTRUSTED: u32 = 1 << 3;
    pub const NULLABLE: u32 = 1 << 4;
    pub const ARENA: u32 = 1 << 5;

    pub const NAMES: [(&str, u32); 6] = [
        ("arg:ctx", CTX),
        ("arg:trusted", TRUSTED),
        ("arg:untrusted", UNTRUSTED),
        ("arg:nonnull", NONNULL),
        ("arg:nullable", NULLABLE),
        ("arg:arena", ARENA),
    ];
}

/// The function that is asked about.
#[derive(Clone, Copy)]
pub struct FuncArgsQuery<'a> {
    /// The program's BTF.
    pub btf: &'a Btf,
    pub vmlinux: Option<&'a Btf>,
    /// Type of the function; zero where it has none.
    pub type_id: u32,
    pub subprog: usize,
    /// Linkage of the function: one of `BTF_FUNC_*`.
    pub linkage: u32,
    /// A call did not fit the prototype before.
    pub unreliable: bool,
    /// Type of the program, or of the one that an extension extends.
    pub prog_type: ProgType,
    pub expected_attach_type: u32,
}

/// `btf_prepare_func_args`: `EFAULT` where the program cannot be verified at all, `EINVAL` where the prototype is of no
/// use.
pub fn btf_prepare_func_args(query: &FuncArgsQuery<'_>, log: &mut Log) -> Result<FuncArgs, Errno> {
    let btf = query.btf;
    let is_global = query.linkage == BTF_FUNC_GLOBAL;
    // Static functions do without a usable prototype, in silence.
    macro_rules! unusable {
        ($($text:tt)*) => {{
            if is_global {
                bpf_log(log, format_args!($($text)*));
            }
            return Err(Errno::EINVAL);
        }};
    }

    if query.type_id == 0 {
        if !is_global {
            return Err(Errno::EINVAL);
        }
        bpf_log(log, format_args!("Global functions need valid BTF\n"));
        return Err(Errno::EFAULT);
    }
    let Some(func) = btf.type_by_id(query.type_id).filter(BtfType::is_func) else {
        bpf_log(log, format_args!("BTF of func#{} doesn't point to KIND_FUNC\n", query.subprog));
        return Err(Errno::EFAULT);
    };
    let fname = btf.type_name(&func);
    if query.unreliable {
        bpf_log(log, format_args!("verifier bug: unreliable BTF for function {fname}()\n"));
        return Err(Errno::EFAULT);
    }
    let Some(proto) = btf.type_by_id(func.type_()).filter(BtfType::is_func_proto) else {
        bpf_log(log, format_args!("Invalid type of function {fname}()\n"));
        return Err(Errno::EFAULT);
    };
    let nargs = proto.params().len();
    if nargs > MAX_BPF_FUNC_REG_ARGS {
        unusable!("Global function {fname}() with {nargs} > {MAX_BPF_FUNC_REG_ARGS} args. Buggy compiler.\n");
    }
    if !btf.skip_modifiers(proto.type_()).is_scalar() {
        unusable!("Global function {fname}() doesn't return scalar. Only those are supported.\n");
    }

    let mut result = FuncArgs { arg_cnt: nargs as u8, ..FuncArgs::default() };
    for (i, param) in proto.params().enumerate() {
        let tags = arg_tags(btf, log, &func, i, is_global)?;
        let t = btf.skip_modifiers(param.type_);
        if t.is_ptr()
            && let Some(arg) = pointer_arg(query, log, &t, i, tags, is_global)?
        {
            result.args[i] = arg;
            continue;
        }
        if tags != 0 {
            bpf_log(log, format_args!("arg#{i} has pointer tag, but is not a pointer type\n"));
            return Err(Errno::EINVAL);
        }
        if !t.is_scalar() {
            unusable!("Arg#{i} type {} in {fname}() is not supported yet.\n", t.kind_str());
        }
        result.args[i] = SubprogArg { arg_type: ArgType::ARG_ANYTHING, mem_size_or_btf_id: 0 };
    }
    Ok(result)
}

/// Tags on argument `i`.
fn arg_tags(btf: &Btf, log: &mut Log, func: &BtfType<'_>, i: usize, is_global: bool) -> Result<u32, Errno> {
    let mut tags = 0;
    let mut id = 0;
    while let Ok(next) = btf.find_next_decl_tag(func.id, i as i32, "arg:", id) {
        id = next;
        if !is_global {
            bpf_log(log, format_args!("arg#{i} type tag is not supported in static functions\n"));
            return Err(Errno::EOPNOTSUPP);
        }
        let value = btf.type_or_void(id).name_off;
        let Some((_, tag)) = tag::NAMES.iter().find(|(name, _)| btf.str_is(value, name)) else {
            bpf_log(log, format_args!("arg#{i} has unsupported set of tags\n"));
            return Err(Errno::EOPNOTSUPP);
        };
        tags |= tag;
    }
    Ok(tags)
}

fn arg(arg_type: u32, mem_size_or_btf_id: u32) -> Option<SubprogArg> {
    Some(SubprogArg { arg_type: ArgType(arg_type), mem_size_or_btf_id })
}

fn invalid_tags<T>(log: &mut Log, i: usize) -> Result<T, Errno> {
    bpf_log(log, format_args!("arg#{i} has invalid combination of tags\n"));
    Err(Errno::EINVAL)
}

/// Argument `i`, a pointer of type `t`. `None` where it means nothing: in static functions, for most types.
fn pointer_arg(
    query: &FuncArgsQuery<'_>,
    log: &mut Log,
    t: &BtfType<'_>,
    i: usize,
    tags: u32,
    is_global: bool,
) -> Result<Option<SubprogArg>, Errno> {
    let btf = query.btf;
    let has_kernel_btf = query.vmlinux.is_some();
    if tags & tag::CTX != 0 || btf_is_prog_ctx_type(log, btf, t, query.prog_type, has_kernel_btf) {
        if tags & !tag::CTX != 0 {
            return invalid_tags(log, i);
        }
        if tags & tag::CTX != 0 {
            let prog = (query.prog_type, query.expected_attach_type);
            btf_validate_prog_ctx_type(log, btf, t, i, prog, has_kernel_btf)?;
        }
        return Ok(arg(ArgType::ARG_PTR_TO_CTX.0, 0));
    }
    if is_dynptr_ptr(btf, t) {
        if tags != 0 {
            return invalid_tags(log, i);
        }
        return Ok(arg(ArgType::ARG_PTR_TO_DYNPTR.0 | MEM_RDONLY, 0));
    }
    if tags & tag::TRUSTED != 0 {
        if tags & tag::NONNULL != 0 {
            return invalid_tags(log, i);
        }
        let btf_id = ptr_to_btf_id(query, log, t, i)?;
        let nullable = if tags & tag::NULLABLE != 0 { PTR_MAYBE_NULL } else { 0 };
        return Ok(arg(ArgType::ARG_PTR_TO_BTF_ID.0 | PTR_TRUSTED | nullable, btf_id));
    }
    if tags & tag::UNTRUSTED != 0 {
        return untrusted_arg(query, log, t, i, tags);
    }
    if tags & tag::ARENA != 0 {
        if tags & !tag::ARENA != 0 {
            bpf_log(log, format_args!("arg#{i} arena cannot be combined with any other tags\n"));
            return Err(Errno::EINVAL);
        }
        return Ok(arg(ArgType::ARG_PTR_TO_ARENA.0, 0));
    }
    if !is_global {
        return Ok(None);
    }

    if tags & tag::NULLABLE != 0 {
        return invalid_tags(log, i);
    }
    let target = btf.skip_modifiers(t.type_());
    let size = match btf.resolve_size(target) {
        Ok(resolved) => resolved.size,
        Err(err) => {
            bpf_log(
                log,
                format_args!(
                    "arg#{i} reference type('{} {}') size cannot be determined: {}\n",
                    target.kind_str(),
                    btf.type_name(&target),
                    -err.0
                ),
            );
            return Err(Errno::EINVAL);
        }
    };
    let maybe_null = if tags & tag::NONNULL != 0 { 0 } else { PTR_MAYBE_NULL };
    Ok(arg(ArgType::ARG_PTR_TO_MEM.0 | maybe_null, size))
}

fn untrusted_arg(
    query: &FuncArgsQuery<'_>,
    log: &mut Log,
    t: &BtfType<'_>,
    i: usize,
    tags: u32,
) -> Result<Option<SubprogArg>, Errno> {
    if tags & !tag::UNTRUSTED != 0 {
        bpf_log(log, format_args!("arg#{i} untrusted cannot be combined with any other tags\n"));
        return Err(Errno::EINVAL);
    }
    let target = query.btf.skip_modifiers(t.type_());
    if target.is_void() || target.is_primitive() {
        return Ok(arg(ArgType::ARG_PTR_TO_MEM.0 | MEM_RDONLY | PTR_UNTRUSTED, 0));
    }
    let btf_id = ptr_to_btf_id(query, log, t, i)?;
    let Some(vmlinux) = query.vmlinux else { return Err(Errno::EINVAL) };
    let kernel_type = vmlinux.type_or_void(btf_id);
    if !kernel_type.is_struct() {
        bpf_log(
            log,
            format_args!(
                "arg#{i} has type {} '{}', but only struct or primitive types are allowed\n",
                kernel_type.kind_str(),
                // The kernel looks the program's name up among its own.
                vmlinux.display_name(t.name_off)
            ),
        );
        return Err(Errno::EINVAL);
    }
    Ok(arg(ArgType::ARG_PTR_TO_BTF_ID.0 | PTR_UNTRUSTED, btf_id))
}

/// `btf_is_dynptr_ptr`
fn is_dynptr_ptr(btf: &Btf, t: &BtfType<'_>) -> bool {
    let t = btf.skip_modifiers(t.type_());
    (t.is_struct() || t.is_fwd() && !t.kflag()) && btf.str_is(t.name_off, "bpf_dynptr")
}

/// The kernel's type of the name that pointer `t` is to: `btf_get_ptr_to_btf_id`.
fn ptr_to_btf_id(query: &FuncArgsQuery<'_>, log: &mut Log, t: &BtfType<'_>, i: usize) -> Result<u32, Errno> {
    let btf = query.btf;
    let target = btf.skip_modifiers(t.type_());
    let (kind_str, name) = (target.kind_str(), btf.display_name(target.name_off));
    let candidates =
        match query.vmlinux.ok_or(Errno::EINVAL).and_then(|vmlinux| btf.find_cands(&target, vmlinux)) {
            Ok(candidates) => candidates,
            Err(err) => {
                bpf_log(
                    log,
                    format_args!(
                        "arg#{i} reference type('{kind_str} {name}') candidate matching error: {}\n",
                        -err.0
                    ),
                );
                return Err(err);
            }
        };
    match candidates[..] {
        [id] => Ok(id),
        [] => {
            bpf_log(log, format_args!("arg#{i} reference type('{kind_str} {name}') has no matches\n"));
            Err(Errno::ENOENT)
        }
        _ => {
            bpf_log(log, format_args!("arg#{i} reference type('{kind_str} {name}') is ambiguous\n"));
            Err(Errno::ESRCH)
        }
    }
}

/// Length of a name without the flavour that sets versions of a type apart, `___flavour`: `bpf_core_essential_name_len`.
fn essential_name_len(name: &[u8]) -> usize {
    name.windows(5)
        .rposition(|w| w[0] != b'_' && &w[1..4] == b"___" && w[4] != b'_')
        .map_or(name.len(), |at| at + 1)
}

impl Btf {
    /// Types of `vmlinux` that type `local` of this object may stand for: the same kind, and the same name flavours
    /// aside (`bpf_core_find_cands`).
    fn find_cands(&self, local: &BtfType<'_>, vmlinux: &Btf) -> Result<Vec<u32>, Errno> {
        let name = self.str_by_offset(local.name_off).unwrap_or(&[]);
        if name.is_empty() {
            return Err(Errno::EINVAL);
        }
        let essential = &name[..essential_name_len(name)];
        let is_candidate = |t: &BtfType<'_>| {
            t.kind() == local.kind()
                && vmlinux.str_by_offset(t.name_off).is_some_and(|name| {
                    name.starts_with(essential) && essential_name_len(name) == essential.len()
                })
        };
        Ok(vmlinux.types().filter(is_candidate).map(|t| t.id).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flavours_are_cut() {
        assert_eq!(essential_name_len(b"task_struct"), 11);
        assert_eq!(essential_name_len(b"task_struct___old"), 11);
        assert_eq!(essential_name_len(b"a___b___c"), 5);
        assert_eq!(essential_name_len(b"___x"), 4);
        assert_eq!(essential_name_len(b"x____y"), 6);
        assert_eq!(essential_name_len(b""), 0);
    }
}
