//! Function and line information and CO-RE relocations that come with a program: `check_btf_info_early` and
//! `check_btf_info`.

use bpftwin_uapi::Errno;
use bpftwin_uapi::info::{CoreRelo, FuncInfo, LineInfo};
use bytemuck::Pod;

use super::{FuncInfoAux, Result, Verifier};
use crate::verbose;

/// Largest record of any kind: `MAX_FUNCINFO_REC_SIZE`.
const MAX_REC_SIZE: u32 = 252;
/// Bytes that are read at once.
const READ_CHUNK: usize = 64 << 10;

/// Sizes of records that the kernel knows, for the caller to find in its attributes after `E2BIG`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RecSizes {
    pub func_info: Option<u32>,
    pub line_info: Option<u32>,
    pub core_relo: Option<u32>,
}

/// An array of records in the caller's memory, whose size may differ from ours.
struct Records {
    address: u64,
    rec_size: usize,
    cnt: usize,
    chunk: Vec<u8>,
    /// First record in `chunk`.
    first: usize,
}

impl Records {
    fn new(address: u64, rec_size: u32, cnt: u32) -> Self {
        Self { address, rec_size: rec_size as usize, cnt: cnt as usize, chunk: Vec::new(), first: 0 }
    }

    /// Record `i`, which follows the one last read: its beginning, and `E2BIG` where it has more, other than zeros.
    fn next<T: Pod>(&mut self, env: &Verifier, i: usize) -> Result<T> {
        let in_chunk = self.chunk.len() / self.rec_size;
        if i >= self.first + in_chunk {
            self.first = i;
            self.fill(env)?;
        }
        let at = (i - self.first) * self.rec_size;
        let raw = &self.chunk[at..at + self.rec_size];
        let known = size_of::<T>().min(self.rec_size);
        if raw[known..].iter().any(|&b| b != 0) {
            return Err(Errno::E2BIG);
        }
        let mut record = T::zeroed();
        bytemuck::bytes_of_mut(&mut record)[..known].copy_from_slice(&raw[..known]);
        Ok(record)
    }

    /// Reads on from record `first`: many at once, or one where not all are accessible.
    fn fill(&mut self, env: &Verifier) -> Result<()> {
        let address = self.address.wrapping_add((self.first * self.rec_size) as u64);
        let many = (READ_CHUNK / self.rec_size).min(self.cnt - self.first).max(1);
        self.chunk.resize(many * self.rec_size, 0);
        if env.objects.read_user(address, &mut self.chunk).is_err() {
            self.chunk.truncate(self.rec_size);
            env.objects.read_user(address, &mut self.chunk)?;
        }
        Ok(())
    }
}

impl Verifier {
    /// Before subprograms are known.
    pub fn check_btf_info_early(&mut self) -> Result<()> {
        if self.attr.func_info_cnt == 0 && self.attr.line_info_cnt == 0 {
            return self.check_abnormal_return();
        }
        let btf = self.objects.btf_by_fd(self.attr.prog_btf_fd as i32)?;
        if btf.is_kernel() {
            return Err(Errno::EACCES);
        }
        self.prog.btf = Some(btf);
        self.check_btf_func_early()
    }

    /// Once they are.
    pub fn check_btf_info(&mut self) -> Result<()> {
        if self.attr.func_info_cnt == 0 && self.attr.line_info_cnt == 0 {
            return self.check_abnormal_return();
        }
        self.check_btf_func()?;
        self.check_btf_line()?;
        self.check_core_relo()
    }

    fn check_btf_func_early(&mut self) -> Result<()> {
        let nfuncs = self.attr.func_info_cnt;
        if nfuncs == 0 {
            return self.check_abnormal_return();
        }
        let rec_size = self.attr.func_info_rec_size;
        if !(size_of::<FuncInfo>() as u32..=MAX_REC_SIZE).contains(&rec_size) || !rec_size.is_multiple_of(4) {
            verbose!(self, "invalid func info rec size {rec_size}\n");
            return Err(Errno::EINVAL);
        }
        if u64::from(nfuncs) * size_of::<FuncInfo>() as u64 > i32::MAX as u64 {
            return Err(Errno::ENOMEM);
        }
        let mut records = Records::new(self.attr.func_info, rec_size, nfuncs);
        let mut func_info: Vec<FuncInfo> = Vec::new();
        for i in 0..nfuncs as usize {
            let record: FuncInfo = records.next(self, i).inspect_err(|&err| {
                if err == Errno::E2BIG {
                    verbose!(self, "nonzero tailing record in func info");
                    self.rec_sizes.func_info = Some(rec_size.min(size_of::<FuncInfo>() as u32));
                }
            })?;
            self.check_func_info_record(func_info.last().map(|prev| prev.insn_off), &record)?;
            func_info.push(record);
        }
        self.func_info = func_info;
        Ok(())
    }

    fn check_func_info_record(&mut self, prev: Option<u32>, record: &FuncInfo) -> Result<()> {
        match prev {
            None if record.insn_off != 0 => {
                verbose!(self, "nonzero insn_off {} for the first func info record", record.insn_off);
                return Err(Errno::EINVAL);
            }
            Some(prev) if record.insn_off <= prev => {
                verbose!(
                    self,
                    "same or smaller insn offset ({}) than previous func info record ({prev})",
                    record.insn_off
                );
                return Err(Errno::EINVAL);
            }
            _ => {}
        }
        let Some(btf) = &self.prog.btf else { return Err(Errno::EINVAL) };
        let Some(func) = btf.type_by_id(record.type_id).filter(|t| t.is_func()) else {
            verbose!(self, "invalid type id {} in func info", record.type_id as i32);
            return Err(Errno::EINVAL);
        };
        if !btf.type_by_id(func.type_()).is_some_and(|t| t.is_func_proto()) {
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    fn check_btf_func(&mut self) -> Result<()> {
        let nfuncs = self.attr.func_info_cnt as usize;
        if nfuncs == 0 {
            return self.check_abnormal_return();
        }
        if nfuncs != self.subprog_cnt {
            verbose!(self, "number of funcs in func_info doesn't match number of subprogs\n");
            return Err(Errno::EINVAL);
        }
        let Some(btf) = self.prog.btf.clone() else { return Err(Errno::EINVAL) };
        let mut info_aux = Vec::with_capacity(nfuncs);
        for i in 0..nfuncs {
            let record = self.func_info[i];
            if self.subprog_info[i].start != record.insn_off {
                verbose!(self, "func_info BTF section doesn't match subprog layout in BPF program\n");
                return Err(Errno::EINVAL);
            }
            let func = btf.type_or_void(record.type_id);
            info_aux.push(FuncInfoAux { linkage: func.vlen() as u16, ..FuncInfoAux::default() });
            let ret_type = btf.skip_modifiers(btf.type_or_void(func.type_()).type_());
            let scalar_return = ret_type.is_int() && ret_type.size() <= 8 || ret_type.is_any_enum();
            if i != 0 && !scalar_return && self.subprog_info[i].has_ld_abs {
                verbose!(self, "LD_ABS is only allowed in functions that return 'int'.\n");
                return Err(Errno::EINVAL);
            }
            if i != 0 && !scalar_return && self.subprog_info[i].has_tail_call {
                verbose!(self, "tail_call is only allowed in functions that return 'int'.\n");
                return Err(Errno::EINVAL);
            }
        }
        self.func_info_aux = info_aux;
        Ok(())
    }

    fn check_btf_line(&mut self) -> Result<()> {
        const SIZE: u32 = size_of::<LineInfo>() as u32;
        let nr_linfo = self.attr.line_info_cnt;
        let rec_size = self.attr.line_info_rec_size;
        if nr_linfo == 0 {
            return Ok(());
        }
        if nr_linfo > i32::MAX as u32 / SIZE
            || !(SIZE..=MAX_REC_SIZE).contains(&rec_size)
            || !rec_size.is_multiple_of(4)
        {
            return Err(Errno::EINVAL);
        }
        let mut records = Records::new(self.attr.line_info, rec_size, nr_linfo);
        let mut linfo: Vec<LineInfo> = Vec::new();
        // Subprogram whose first line is to come.
        let mut s = 0;
        for i in 0..nr_linfo as usize {
            let record: LineInfo = records.next(self, i).inspect_err(|&err| {
                if err == Errno::E2BIG {
                    verbose!(self, "nonzero tailing record in line_info");
                    self.rec_sizes.line_info = Some(SIZE);
                }
            })?;
            self.check_line_info_record(i, linfo.last().map(|prev| prev.insn_off), &record)?;
            if s != self.subprog_cnt {
                let info = &mut self.subprog_info[s];
                if record.insn_off == info.start {
                    info.linfo_idx = i as u32;
                    s += 1;
                } else if info.start < record.insn_off {
                    verbose!(self, "missing bpf_line_info for func#{s}\n");
                    return Err(Errno::EINVAL);
                }
            }
            linfo.push(record);
        }
        if s != self.subprog_cnt {
            let missing = self.subprog_cnt - s;
            verbose!(self, "missing bpf_line_info for {missing} funcs starting from func#{s}\n");
            return Err(Errno::EINVAL);
        }
        self.linfo = linfo;
        Ok(())
    }

    fn check_line_info_record(&mut self, i: usize, prev: Option<u32>, record: &LineInfo) -> Result<()> {
        let len = self.prog.insns.len();
        if prev.is_some_and(|prev| record.insn_off <= prev) || record.insn_off as usize >= len {
            verbose!(
                self,
                "Invalid line_info[{i}].insn_off:{} (prev_offset:{} prog->len:{len})\n",
                record.insn_off,
                prev.unwrap_or(0)
            );
            return Err(Errno::EINVAL);
        }
        if self.prog.insns[record.insn_off as usize].code == 0 {
            verbose!(self, "Invalid insn code at line_info[{i}].insn_off\n");
            return Err(Errno::EINVAL);
        }
        let has_string = |off| self.prog.btf.as_ref().is_some_and(|btf| btf.str_by_offset(off).is_some());
        if !has_string(record.line_off) || !has_string(record.file_name_off) {
            verbose!(self, "Invalid line_info[{i}].line_off or .file_name_off\n");
            return Err(Errno::EINVAL);
        }
        Ok(())
    }

    fn check_core_relo(&mut self) -> Result<()> {
        const SIZE: u32 = size_of::<CoreRelo>() as u32;
        let nr_core_relo = self.attr.core_relo_cnt;
        let rec_size = self.attr.core_relo_rec_size;
        if nr_core_relo == 0 {
            return Ok(());
        }
        if nr_core_relo > i32::MAX as u32 / SIZE
            || !(SIZE..=MAX_REC_SIZE).contains(&rec_size)
            || !rec_size.is_multiple_of(4)
        {
            return Err(Errno::EINVAL);
        }
        let mut records = Records::new(self.attr.core_relos, rec_size, nr_core_relo);
        let relo: CoreRelo = records.next(self, 0).inspect_err(|&err| {
            if err == Errno::E2BIG {
                verbose!(self, "nonzero tailing record in core_relo");
                self.rec_sizes.core_relo = Some(SIZE);
            }
        })?;
        let len = self.prog.insns.len();
        if !relo.insn_off.is_multiple_of(8) || relo.insn_off as usize / 8 >= len {
            verbose!(self, "Invalid core_relo[0].insn_off:{} prog->len:{len}\n", relo.insn_off);
            return Err(Errno::EINVAL);
        }
        self.not_emulated("CO-RE relocation by the kernel")
    }
}
