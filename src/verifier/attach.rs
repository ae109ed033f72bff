//! `check_attach_btf_id`: whether the program fits what it is to be attached to.

use bpftwin_uapi::{AttachType, Errno, ProgType};

use super::{Result, Verifier};
use crate::btf::{Btf, BtfType, kind};
use crate::progs;
use crate::progs::iter::iter_target;
use crate::verbose;

/// Arguments of a function that programs can be attached to: `MAX_BPF_FUNC_ARGS`.
const MAX_BPF_FUNC_ARGS: usize = 12;
/// What the names of the types of tracepoints begin with.
const TRACE_PREFIX: &str = "btf_trace_";

/// What the program is attached to: `struct bpf_attach_target_info`.
struct AttachTargetInfo {
    /// Prototype.
    proto: u32,
    name: String,
}

impl Verifier {
    /// Rules of sleepable programs, and those of the types that are attached to a function of the kernel or of another
    /// program, up to what needs that function.
    pub fn check_attach_btf_id(&mut self) -> Result<()> {
        let prog_type = self.prog.prog_type;
        if prog_type == ProgType::Syscall {
            if self.prog.sleepable {
                return Ok(());
            }
            verbose!(self, "Syscall programs can only be sleepable\n");
            return Err(Errno::EINVAL);
        }
        if self.prog.sleepable && !progs::can_be_sleepable(&self.prog) {
            verbose!(
                self,
                "Only fentry/fexit/fmod_ret, lsm, iter, uprobe, and struct_ops programs can be sleepable\n"
            );
            return Err(Errno::EINVAL);
        }
        match prog_type {
            ProgType::StructOps => self.check_struct_ops_btf_id(),
            ProgType::Tracing | ProgType::Lsm | ProgType::Ext => self.check_attach_func(),
            _ => Ok(()),
        }
    }

    fn check_struct_ops_btf_id(&mut self) -> Result<()> {
        if !self.prog.gpl_compatible {
            verbose!(self, "struct ops programs must have a GPL compatible license\n");
            return Err(Errno::EINVAL);
        }
        if self.prog.attach_btf_id == 0 {
            return Err(Errno::ENOTSUPP);
        }
        self.not_emulated("struct_ops programs")
    }

    /// Checks the function, and notes what of it the program's context depends on.
    fn check_attach_func(&mut self) -> Result<()> {
        let target = self.bpf_check_attach_target()?;
        self.prog.attach_func_proto = Some(target.proto);
        self.prog.attach_func_name = target.name;
        if self.prog.expected_attach_type == AttachType::TraceRawTp as u32 {
            self.prog.attach_btf_trace = true;
            return Ok(());
        }
        // `bpf_iter_prog_supported`
        let iter = iter_target(&self.prog.attach_func_name).ok_or(Errno::EINVAL)?;
        self.prog.ctx_args = iter.ctx_args;
        Ok(())
    }

    /// `bpf_check_attach_target`, of which what only iterators and tracepoints do not need is not emulated.
    fn bpf_check_attach_target(&mut self) -> Result<AttachTargetInfo> {
        let btf_id = self.prog.attach_btf_id;
        if btf_id == 0 {
            verbose!(self, "Tracing programs must provide btf_id\n");
            return Err(Errno::EINVAL);
        }
        let btf = match &self.prog.dst_prog {
            Some(target) => target.btf.clone(),
            None => self.prog.attach_btf.clone(),
        };
        let Some(btf) = btf else {
            verbose!(
                self,
                "FENTRY/FEXIT program can only be attached to another program annotated with BTF\n"
            );
            return Err(Errno::EINVAL);
        };
        let Some(t) = btf.type_by_id(btf_id) else {
            verbose!(self, "attach_btf_id {} is invalid\n", btf_id);
            return Err(Errno::EINVAL);
        };
        let Some(name) = btf.str_by_offset(t.name_off) else {
            verbose!(self, "attach_btf_id {} doesn't have a name\n", btf_id);
            return Err(Errno::EINVAL);
        };
        let name = String::from_utf8_lossy(name).into_owned();
        if self.prog.dst_prog.is_some() {
            return self.not_emulated("programs attached to other programs");
        }
        if self.prog.prog_type == ProgType::Ext {
            verbose!(self, "Cannot replace kernel functions\n");
            return Err(Errno::EINVAL);
        }
        match AttachType::from_u32(self.prog.expected_attach_type) {
            Some(AttachType::TraceRawTp) => self.check_attach_tracepoint(&btf, &t, name),
            Some(AttachType::TraceIter) => {
                let proto = self.attach_proto(&btf, &t)?;
                self.btf_distill_func_proto(&btf, &proto, &name)?;
                if btf.is_module() {
                    return self.not_emulated("iterators of modules");
                }
                Ok(AttachTargetInfo { proto: proto.id, name })
            }
            Some(
                AttachType::ModifyReturn
                | AttachType::LsmMac
                | AttachType::LsmCgroup
                | AttachType::TraceFentry
                | AttachType::TraceFexit,
            ) => {
                let proto = self.attach_proto(&btf, &t)?;
                self.btf_distill_func_proto(&btf, &proto, &name)?;
                let what = progs::not_emulated(&self.prog).unwrap_or("attached programs");
                self.not_emulated(what)
            }
            _ => Err(Errno::EINVAL),
        }
    }

    /// Prototype of the function `t` that the program names.
    fn attach_proto<'a>(&mut self, btf: &'a Btf, t: &BtfType<'_>) -> Result<BtfType<'a>> {
        if !t.is_func() {
            verbose!(self, "attach_btf_id {} is not a function\n", t.id);
            return Err(Errno::EINVAL);
        }
        btf.type_by_id(t.type_()).filter(BtfType::is_func_proto).ok_or(Errno::EINVAL)
    }

    /// A tracepoint, through the type that is made for it. The prototype of its function has the names of the arguments;
    /// events of a class share one, and have only the type, which lacks these names.
    fn check_attach_tracepoint(
        &mut self,
        btf: &Btf,
        t: &BtfType<'_>,
        name: String,
    ) -> Result<AttachTargetInfo> {
        if !t.is_typedef() {
            verbose!(self, "attach_btf_id {} is not a typedef\n", t.id);
            return Err(Errno::EINVAL);
        }
        let Some(tracepoint) = name.strip_prefix(TRACE_PREFIX) else {
            verbose!(self, "attach_btf_id {} points to wrong type name {name}\n", t.id);
            return Err(Errno::EINVAL);
        };
        if btf.is_module() {
            return self.not_emulated("tracepoints of modules");
        }
        let func = btf.find_by_name_kind(format!("__bpf_trace_{tracepoint}"), kind::FUNC).ok();
        let of_func = func.and_then(|func| btf.type_by_id(btf.type_or_void(func).type_()));
        let of_type =
            || btf.type_by_id(t.type_()).filter(BtfType::is_ptr).map(|ptr| btf.type_or_void(ptr.type_()));
        let proto = of_func.or_else(of_type).filter(BtfType::is_func_proto).ok_or(Errno::EINVAL)?;
        Ok(AttachTargetInfo { proto: proto.id, name: tracepoint.to_owned() })
    }

    /// The checks of `btf_distill_func_proto`: the function can be called through a trampoline.
    fn btf_distill_func_proto(&mut self, btf: &Btf, proto: &BtfType<'_>, name: &str) -> Result<()> {
        let nargs = proto.params().len();
        if nargs > MAX_BPF_FUNC_ARGS {
            verbose!(self, "The function {name} has {nargs} arguments. Too many.\n");
            return Err(Errno::EINVAL);
        }
        let (ret, ret_size) = sized_type(btf, proto.type_());
        if ret_size.is_none() || ret.is_struct() {
            verbose!(self, "The function {name} return type {} is unsupported.\n", ret.kind_str());
            return Err(Errno::EINVAL);
        }
        for (i, param) in proto.params().enumerate() {
            if i + 1 == nargs && param.type_ == 0 {
                verbose!(self, "The function {name} with variable args is unsupported.\n");
                return Err(Errno::EINVAL);
            }
            match sized_type(btf, param.type_) {
                (_, Some(0)) => {
                    verbose!(self, "The function {name} has malformed void argument.\n");
                    return Err(Errno::EINVAL);
                }
                (_, Some(..=16)) => {}
                (t, _) => {
                    verbose!(self, "The function {name} arg{i} type {} is unsupported.\n", t.kind_str());
                    return Err(Errno::EINVAL);
                }
            }
        }
        Ok(())
    }
}

/// The type behind modifiers, and its size where it can be passed: `__get_type_size`.
fn sized_type(btf: &Btf, id: u32) -> (BtfType<'_>, Option<u32>) {
    if id == 0 {
        return (BtfType::VOID, Some(0));
    }
    let t = btf.skip_modifiers(id);
    let size = if t.is_ptr() {
        Some(8)
    } else if t.is_int() || t.is_any_enum() || t.is_struct() {
        Some(t.size())
    } else {
        None
    };
    (t, size)
}
