//! `check_attach_btf_id`: whether the program fits what it is to be attached to.

use bpftwin_uapi::{Errno, ProgType};

use super::{Result, Verifier};
use crate::progs;
use crate::verbose;

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
            ProgType::Tracing | ProgType::Lsm | ProgType::Ext => self.check_attach_target(),
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

    /// The beginning of `bpf_check_attach_target`.
    fn check_attach_target(&mut self) -> Result<()> {
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
        if btf.type_by_id(btf_id).is_none() {
            verbose!(self, "attach_btf_id {} is invalid\n", btf_id);
            return Err(Errno::EINVAL);
        }
        let what = progs::not_emulated(&self.prog).unwrap_or("attached programs");
        self.not_emulated(what)
    }
}
