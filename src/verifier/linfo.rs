//! Source lines in the log: `find_linfo` and `verbose_linfo` of `kernel/bpf/log.c`.

use std::fmt;

use bpftwin_uapi::info::LineInfo;

use super::Verifier;

impl Verifier {
    /// Logs the source line of instruction `insn_off` behind `prefix`, unless it is the one last logged.
    #[inline]
    pub fn verbose_linfo(&mut self, insn_off: u32, prefix: impl fmt::Display) {
        if self.log.level != 0 && !self.linfo.is_empty() {
            self.verbose_linfo_slow(insn_off, prefix);
        }
    }

    fn verbose_linfo_slow(&mut self, insn_off: u32, prefix: impl fmt::Display) {
        let Some(index) = self.find_linfo(insn_off) else { return };
        let linfo = self.linfo[index];
        // Entries that differ in their column alone would print the same line again.
        if let Some(prev) = self.prev_linfo.and_then(|i| self.linfo.get(i))
            && prev.file_name_off == linfo.file_name_off
            && prev.line_num() == linfo.line_num()
        {
            return;
        }
        self.log.write(format_args!("{prefix}"));
        let btf = self.prog.btf.as_deref();
        let string =
            |offset| btf.and_then(|btf| btf.str_by_offset(offset)).unwrap_or(b"(invalid-name-offset)");
        self.log.message(ltrim(string(linfo.line_off)));
        let path = string(linfo.file_name_off);
        let name = path.rsplit(|&b| b == b'/').next().unwrap_or(path);
        // One message in the kernel: the end of the line goes first where the name is too long.
        let mut tail = itoa::Buffer::new();
        let line = tail.format(linfo.line_num());
        if name.len() + line.len() + 5 < super::log::BPF_VERIFIER_TMP_LOG_SIZE {
            self.log.push(" @ ");
            self.log.push_bytes(name);
            self.log.push_byte(b':');
            self.log.push(line);
            self.log.push_byte(b'\n');
        } else {
            let whole = [b" @ ", name, b":", line.as_bytes(), b"\n"].concat();
            self.log.message(&whole);
        }
        self.prev_linfo = Some(index);
    }

    /// The line info that covers an instruction: the last at or before it.
    fn find_linfo(&self, insn_off: u32) -> Option<usize> {
        if self.linfo.is_empty() || insn_off as usize >= self.prog.insns.len() {
            return None;
        }
        // Programs mostly run on within a line.
        let covers = |i: usize| {
            let next_start = |l: &LineInfo| l.insn_off <= insn_off;
            self.linfo[i].insn_off <= insn_off && !self.linfo.get(i + 1).is_some_and(next_start)
        };
        if let Some(prev) = self.prev_linfo.filter(|&i| i < self.linfo.len() && covers(i)) {
            return Some(prev);
        }
        Some(self.linfo.partition_point(|l| l.insn_off <= insn_off).saturating_sub(1))
    }
}

/// `isspace` of the kernel: ASCII blanks and the no-break space of Latin-1.
fn ltrim(text: &[u8]) -> &[u8] {
    let start = text.iter().position(|&b| !matches!(b, 9..=13 | b' ' | 0xa0)).unwrap_or(text.len());
    &text[start..]
}
