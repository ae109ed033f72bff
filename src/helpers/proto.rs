//! What the verifier must know of a helper: `struct bpf_func_proto`, and the program it is chosen for.

use bpftwin_uapi::{AttachType, ProgType};

use super::lsm_hooks;
use crate::kernel::config::KernelConfig;
use crate::progs::resolve_prog_type;
use crate::verifier::prog::Prog;
use crate::verifier::reg_type::flag::*;
use crate::verifier::reg_type::{ArgType, RetType};

/// Arguments that a helper can take: `MAX_BPF_FUNC_REG_ARGS`.
pub const MAX_BPF_FUNC_REG_ARGS: usize = 5;

/// Type in the kernel's BTF that a pointer must be of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BtfTypeRef {
    /// The structure of this name.
    Struct(&'static str),
    /// The type of this id: of an argument of the program's own function.
    Id(u32),
    /// Known only at the call, from the map or field concerned: `BPF_PTR_POISON`.
    Poison,
}

/// A condition on the program beyond its type: the `allowed` callbacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Allowed {
    /// `bpf_d_path_allowed`
    DPath,
    /// `bpf_ima_inode_hash_allowed`
    SleepableLsmHook,
    /// `bpf_sk_storage_tracing_allowed`
    SkStorageTracing,
}

/// Prototype of a helper: `struct bpf_func_proto`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FuncProto {
    /// Only for programs under a GPL-compatible licence.
    pub gpl_only: bool,
    /// Memory arguments may point into the packet.
    pub pkt_access: bool,
    /// Only for sleepable contexts.
    pub might_sleep: bool,
    /// Scratches R0 (unless void) and the registers of its arguments alone.
    pub allow_fastcall: bool,
    pub ret_type: RetType,
    /// `ARG_DONTCARE` from the first unused argument on.
    pub arg_type: [ArgType; MAX_BPF_FUNC_REG_ARGS],
    /// Bytes of `MEM_FIXED_SIZE` arguments.
    pub arg_size: [u32; MAX_BPF_FUNC_REG_ARGS],
    pub arg_btf_id: [Option<BtfTypeRef>; MAX_BPF_FUNC_REG_ARGS],
    pub ret_btf_id: Option<BtfTypeRef>,
    pub allowed: Option<Allowed>,
}

/// Starts a prototype from its return type and argument types; the methods below add the rest.
pub const fn func(ret_type: RetType, args: &[ArgType]) -> FuncProto {
    let mut arg_type = [ArgType::ARG_DONTCARE; MAX_BPF_FUNC_REG_ARGS];
    let mut i = 0;
    while i < args.len() {
        arg_type[i] = args[i];
        i += 1;
    }
    FuncProto {
        gpl_only: false,
        pkt_access: false,
        might_sleep: false,
        allow_fastcall: false,
        ret_type,
        arg_type,
        arg_size: [0; MAX_BPF_FUNC_REG_ARGS],
        arg_btf_id: [None; MAX_BPF_FUNC_REG_ARGS],
        ret_btf_id: None,
        allowed: None,
    }
}

/// Builders for the tables: evaluated at compile time. Arguments are counted from one, as registers are.
impl FuncProto {
    pub(super) const fn gpl_only(mut self) -> Self {
        self.gpl_only = true;
        self
    }

    pub(super) const fn pkt_access(mut self) -> Self {
        self.pkt_access = true;
        self
    }

    pub(super) const fn might_sleep(mut self) -> Self {
        self.might_sleep = true;
        self
    }

    pub(super) const fn allow_fastcall(mut self) -> Self {
        self.allow_fastcall = true;
        self
    }

    pub(super) const fn arg_size(mut self, arg: usize, bytes: u32) -> Self {
        self.arg_size[arg - 1] = bytes;
        self
    }

    pub(super) const fn arg_btf_id(mut self, arg: usize, id: BtfTypeRef) -> Self {
        self.arg_btf_id[arg - 1] = Some(id);
        self
    }

    pub(super) const fn ret_btf_id(mut self, id: BtfTypeRef) -> Self {
        self.ret_btf_id = Some(id);
        self
    }

    pub(super) const fn allowed(mut self, allowed: Allowed) -> Self {
        self.allowed = Some(allowed);
        self
    }
}

impl FuncProto {
    /// Number of arguments.
    pub fn num_params(&self) -> usize {
        self.arg_type.iter().take_while(|&&arg| arg != ArgType::ARG_DONTCARE).count()
    }

    /// Gives up the reference that one of its arguments holds.
    pub fn is_release_function(&self) -> bool {
        self.arg_type.iter().any(|arg| arg.has(OBJ_RELEASE))
    }

    /// Whether this program may call it, so far as the prototype itself says: the `allowed` callback.
    pub fn is_allowed(&self, prog: &ProgCtx) -> bool {
        self.allowed.is_none_or(|allowed| allowed.holds(prog))
    }
}

impl Allowed {
    fn holds(self, prog: &ProgCtx) -> bool {
        match self {
            Allowed::DPath => match prog.prog_type {
                ProgType::Tracing if prog.attaches_as(AttachType::TraceIter) => true,
                ProgType::Lsm => lsm_hooks::is_sleepable_hook(prog.attach_func),
                _ => lsm_hooks::is_d_path_function(prog.attach_func),
            },
            Allowed::SleepableLsmHook => lsm_hooks::is_sleepable_hook(prog.attach_func),
            Allowed::SkStorageTracing => {
                !prog.has_dst_prog
                    && match AttachType::from_u32(prog.expected_attach_type) {
                        Some(AttachType::TraceIter | AttachType::TraceRawTp) => true,
                        Some(AttachType::TraceFentry | AttachType::TraceFexit) => {
                            !prog.attach_func.starts_with("bpf_sk_storage")
                        }
                        _ => false,
                    }
            }
        }
    }
}

/// Answers of `bpf_token_capable` for the loading task (or its token): a capability counts as held also through
/// `CAP_SYS_ADMIN`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ProgCaps {
    pub bpf: bool,
    pub perfmon: bool,
    pub sys_admin: bool,
}

impl ProgCaps {
    /// Of a privileged task.
    pub const ALL: ProgCaps = ProgCaps { bpf: true, perfmon: true, sys_admin: true };
    /// Of an unprivileged task.
    pub const NONE: ProgCaps = ProgCaps { bpf: false, perfmon: false, sys_admin: false };
}

/// The program that wants to call a helper: the parts of `struct bpf_prog` that the choice depends on.
#[derive(Clone, Copy, Debug)]
pub struct ProgCtx<'a> {
    /// For an extension program, the type of the program that it extends.
    pub prog_type: ProgType,
    /// A number of `enum bpf_attach_type`, as given at load after the kernel's fix-ups.
    pub expected_attach_type: u32,
    pub sleepable: bool,
    pub caps: ProgCaps,
    pub config: &'a KernelConfig,
    /// Function, hook (`bpf_lsm_file_open`), iterator (`bpf_iter_tcp`) or structure member (`release`) that it
    /// attaches to; empty for the types that name none.
    pub attach_func: &'a str,
    /// Structure of operations that a struct_ops program belongs to; else empty.
    pub struct_ops: &'a str,
    /// Attaches to another BPF program.
    pub has_dst_prog: bool,
}

impl<'a> ProgCtx<'a> {
    /// Of a program that is being verified.
    pub fn of(prog: &'a Prog) -> Self {
        let struct_ops = prog.prog_type == ProgType::StructOps;
        let (attach_name, member_name) = attach_names(prog).unwrap_or_default();
        Self {
            prog_type: resolve_prog_type(prog),
            expected_attach_type: prog.expected_attach_type,
            sleepable: prog.sleepable,
            caps: ProgCaps {
                bpf: prog.bpf_capable,
                perfmon: prog.perfmon_capable,
                sys_admin: prog.sys_admin_capable,
            },
            config: &prog.config,
            attach_func: if struct_ops { member_name } else { attach_name },
            struct_ops: if struct_ops { attach_name } else { "" },
            has_dst_prog: prog.dst_prog.is_some(),
        }
    }
}

/// Name of the type that the program attaches to, and of its member where the attach type counts members.
fn attach_names(prog: &Prog) -> Option<(&str, &str)> {
    let btf = prog.attach_btf.as_deref()?;
    let name = |offset| btf.str_by_offset(offset).and_then(|name| std::str::from_utf8(name).ok());
    let attach_type = btf.type_by_id(prog.attach_btf_id)?;
    let member = attach_type.is_struct().then(|| attach_type.member(prog.expected_attach_type)).flatten();
    Some((name(attach_type.name_off)?, member.and_then(|member| name(member.name_off)).unwrap_or_default()))
}

impl ProgCtx<'_> {
    /// `prog->expected_attach_type == attach_type`
    #[inline]
    pub fn attaches_as(&self, attach_type: AttachType) -> bool {
        self.expected_attach_type == attach_type as u32
    }

    /// Runs on a BPF trampoline: `bpf_prog_has_trampoline`.
    pub fn has_trampoline(&self) -> bool {
        use AttachType::*;
        match self.prog_type {
            ProgType::Tracing => [TraceFentry, TraceFexit, ModifyReturn].iter().any(|&t| self.attaches_as(t)),
            ProgType::Lsm => self.attaches_as(LsmMac),
            _ => false,
        }
    }
}
