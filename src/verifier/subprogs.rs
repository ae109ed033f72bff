//! Where subprograms begin: `add_subprog_and_kfunc` and `check_subprogs`.

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Errno, HelperId};

use super::cfg::{bpf_jmp_offset, called_helper};
use super::log::BPF_LOG_LEVEL2;
use super::{BPF_MAX_SUBPROGS, Result, SubprogInfo, Verifier};
use crate::btf::kind;
use crate::verbose;

/// `linkage` of a function that other objects can see: `BTF_FUNC_GLOBAL`.
pub const BTF_FUNC_GLOBAL: u32 = 1;
/// Declaration tag of a program's exception callback, up to its name.
const EXCEPTION_CALLBACK_TAG: &str = "exception_callback:";

impl Verifier {
    /// Index of the subprogram that instruction `off` belongs to; zero where there are no subprograms yet.
    pub fn bpf_find_containing_subprog(&self, off: u32) -> usize {
        let subprogs = &self.subprog_info[..self.subprog_cnt];
        subprogs.partition_point(|info| info.start <= off).saturating_sub(1)
    }

    /// Index of the subprogram that starts at `off`.
    pub fn find_subprog(&self, off: impl TryInto<u32>) -> Option<usize> {
        let off = off.try_into().ok()?;
        self.subprog_info[..self.subprog_cnt].binary_search_by_key(&off, |info| info.start).ok()
    }

    /// The subprogram that instruction `off` belongs to.
    pub fn subprog_at(&mut self, off: u32) -> &mut SubprogInfo {
        let subprog = self.bpf_find_containing_subprog(off);
        &mut self.subprog_info[subprog]
    }

    /// Instructions of a subprogram.
    pub fn subprog_range(&self, subprog: usize) -> std::ops::Range<usize> {
        self.subprog_info[subprog].start as usize..self.subprog_info[subprog + 1].start as usize
    }

    fn add_subprog(&mut self, off: i64) -> Result<()> {
        if off < 0 || off >= self.prog.insns.len() as i64 {
            verbose!(self, "call to invalid destination\n");
            return Err(Errno::EINVAL);
        }
        if self.find_subprog(off).is_some() {
            return Ok(());
        }
        if self.subprog_cnt >= BPF_MAX_SUBPROGS {
            verbose!(self, "too many subprograms\n");
            return Err(Errno::E2BIG);
        }
        let at = self.subprog_info.partition_point(|info| i64::from(info.start) < off);
        self.subprog_info.insert(at, SubprogInfo { start: off as u32, ..SubprogInfo::default() });
        self.subprog_cnt += 1;
        Ok(())
    }

    /// Collects the starts of subprograms from calls and function addresses.
    pub fn add_subprog_and_kfunc(&mut self) -> Result<()> {
        self.subprog_info.clear();
        self.subprog_cnt = 0;
        self.add_subprog(0)?;
        for i in 0..self.prog.insns.len() {
            let insn = self.prog.insns[i];
            if !insn.is_pseudo_func() && !insn.is_pseudo_call() && !insn.is_pseudo_kfunc_call() {
                continue;
            }
            if !self.bpf_capable {
                verbose!(
                    self,
                    "loading/calling other bpf or kernel functions are allowed for CAP_BPF and CAP_SYS_ADMIN\n"
                );
                return Err(Errno::EPERM);
            }
            if insn.is_pseudo_kfunc_call() {
                self.add_kfunc_call(insn)?;
            } else {
                self.add_subprog(i64::from((i as i32).wrapping_add(insn.imm).wrapping_add(1)))?;
            }
        }
        self.add_exception_callback()?;
        let end = SubprogInfo { start: self.prog.insns.len() as u32, ..SubprogInfo::default() };
        self.subprog_info.push(end);
        if self.log.level & BPF_LOG_LEVEL2 != 0 {
            for i in 0..self.subprog_cnt {
                verbose!(self, "func#{i} @{}\n", self.subprog_info[i].start);
            }
        }
        Ok(())
    }

    /// The kernel's checks of a call of a kernel function, as far as they go without looking it up.
    fn add_kfunc_call(&mut self, insn: Insn) -> Result<()> {
        let (func_id, offset) = (insn.imm as u32, insn.off);
        let Some(btf_vmlinux) = self.btf_vmlinux.clone() else {
            verbose!(self, "calling kernel function is not supported without CONFIG_DEBUG_INFO_BTF\n");
            return Err(Errno::ENOTSUPP);
        };
        if !self.prog.config.jit {
            verbose!(self, "JIT is required for calling kernel function\n");
            return Err(Errno::ENOTSUPP);
        }
        if !self.prog.gpl_compatible {
            verbose!(self, "cannot call kernel function from non-GPL compatible program\n");
            return Err(Errno::EINVAL);
        }
        // What relocation leaves of a call that is not meant to be reached.
        if func_id == 0 && offset == 0 {
            return Ok(());
        }
        if offset < 0 {
            verbose!(self, "negative offset disallowed for kernel module function call\n");
            verbose!(self, "failed to find BTF for kernel function\n");
            return Err(Errno::EINVAL);
        }
        if offset == 0 && !btf_vmlinux.type_by_id(func_id).is_some_and(|t| t.is_func()) {
            verbose!(self, "kernel btf_id {func_id} is not a function\n");
            return Err(Errno::EINVAL);
        }
        self.not_emulated("kfunc calls")
    }

    /// `bpf_find_exception_callback_insn_off`, and what follows from it.
    fn add_exception_callback(&mut self) -> Result<()> {
        let (Some(main), Some(btf)) = (self.func_info.first(), self.prog.btf.clone()) else { return Ok(()) };
        let main_btf_id = main.type_id;
        if btf.type_by_id(main_btf_id).is_none() {
            verbose!(self, "invalid btf id for main subprog in func_info\n");
            return Err(Errno::EINVAL);
        }
        let name = match btf.find_decl_tag_value(main_btf_id, -1, EXCEPTION_CALLBACK_TAG) {
            Ok(name) => name,
            Err(Errno::ENOENT) => return Ok(()),
            Err(err) => {
                if err == Errno::EEXIST {
                    verbose!(self, "multiple exception callback tags for main subprog\n");
                }
                return Err(err);
            }
        };
        let printable = String::from_utf8_lossy(name);
        let id = match btf.find_by_name_kind(name, kind::FUNC) {
            Ok(id) => id,
            Err(err) => {
                verbose!(self, "exception callback '{printable}' could not be found in BTF\n");
                return Err(err);
            }
        };
        if btf.type_or_void(id).func_linkage() != BTF_FUNC_GLOBAL {
            verbose!(self, "exception callback '{printable}' must have global linkage\n");
            return Err(Errno::EINVAL);
        }
        let mut insn_off = 0;
        for i in 0..self.func_info.len() {
            if self.func_info[i].type_id == id {
                insn_off = self.func_info[i].insn_off;
                if insn_off == 0 {
                    verbose!(self, "invalid exception callback insn_off in func_info: 0\n");
                    verbose!(self, "exception callback type id not found in func_info\n");
                    return Err(Errno::EINVAL);
                }
            }
        }
        if insn_off == 0 {
            verbose!(self, "exception callback type id not found in func_info\n");
            return Err(Errno::EINVAL);
        }
        self.not_emulated("exception callbacks")
    }

    /// Jumps stay within their subprogram, and no subprogram runs into the next.
    pub fn check_subprogs(&mut self) -> Result<()> {
        let insn_cnt = self.prog.insns.len();
        let mut cur_subprog = 0;
        let mut range = self.subprog_range(0);
        for i in 0..insn_cnt {
            let insn = self.prog.insns[i];
            let code = insn.code;
            if called_helper(insn) == Some(HelperId::TailCall) {
                let info = &mut self.subprog_info[cur_subprog];
                info.has_tail_call = true;
                info.tail_call_reachable = true;
            }
            if insn.class() == BPF_LD && matches!(insn.mode(), BPF_ABS | BPF_IND) {
                self.subprog_info[cur_subprog].has_ld_abs = true;
            }
            if matches!(insn.class(), BPF_JMP | BPF_JMP32) && !matches!(insn.op(), BPF_EXIT | BPF_CALL) {
                let off = (i as i32).wrapping_add(bpf_jmp_offset(insn)).wrapping_add(1);
                if usize::try_from(off).map_or(true, |off| !range.contains(&off)) {
                    verbose!(self, "jump out of range from insn {i} to {off}\n");
                    return Err(Errno::EINVAL);
                }
            }
            if i + 1 == range.end {
                const GOTO: u8 = BPF_JMP | BPF_JA;
                const GOTOL: u8 = BPF_JMP32 | BPF_JA;
                if code != BPF_JMP | BPF_EXIT && code != GOTOL && code != GOTO {
                    verbose!(self, "last insn is not an exit or jmp\n");
                    return Err(Errno::EINVAL);
                }
                cur_subprog += 1;
                if cur_subprog < self.subprog_cnt {
                    range = self.subprog_range(cur_subprog);
                }
            }
        }
        Ok(())
    }
}
