//! Instructions as source lines and as text.

use bpftwin_uapi::Insn;
use bpftwin_uapi::info::LineInfo;
use bpftwin_uapi::insn::*;

use super::model::{Branch, Line, Place, Source};
use crate::verifier::disasm::print_bpf_insn;
use crate::verifier::input::Outcome;
use crate::verifier::log::{BPF_LOG_LEVEL1, Log, VecSink};

/// The text of a program: its instructions and its source lines.
pub struct Text<'a> {
    outcome: &'a Outcome,
    lines: Vec<LineInfo>,
}

const JUMPS: [(u8, &str); 11] = [
    (BPF_JEQ, "=="),
    (BPF_JGT, ">"),
    (BPF_JGE, ">="),
    (BPF_JSET, "&"),
    (BPF_JNE, "!="),
    (BPF_JSGT, "s>"),
    (BPF_JSGE, "s>="),
    (BPF_JLT, "<"),
    (BPF_JLE, "<="),
    (BPF_JSLT, "s<"),
    (BPF_JSLE, "s<="),
];

impl<'a> Text<'a> {
    pub fn new(outcome: &'a Outcome) -> Self {
        let records = outcome.line_info.chunks_exact(size_of::<LineInfo>());
        Text { outcome, lines: records.map(bytemuck::pod_read_unaligned).collect() }
    }

    pub fn insns(&self) -> &'a [Insn] {
        &self.outcome.prog.insns
    }

    pub fn insn(&self, pc: u32) -> Option<Insn> {
        self.insns().get(pc as usize).copied()
    }

    pub fn place(&self, insn: u32) -> Place {
        Place { insn, text: self.text(insn), source: self.source(insn) }
    }

    /// The instruction as the log prints it.
    pub fn text(&self, insn: u32) -> String {
        let sink = VecSink::default();
        let Ok(mut log) = Log::new(BPF_LOG_LEVEL1, u32::MAX >> 2, Some(Box::new(sink.clone()))) else {
            return String::new();
        };
        print_bpf_insn(&mut log, self.insns(), insn as usize, true, None);
        log.flush();
        sink.text().trim().to_owned()
    }

    /// The source line of an instruction: the last that begins at or before it.
    pub fn source(&self, insn: u32) -> Option<Source> {
        let next = self.lines.partition_point(|line| line.insn_off <= insn);
        let line = self.lines.get(next.checked_sub(1)?)?;
        let btf = self.outcome.prog.btf.as_ref()?;
        let string =
            |offset| btf.str_by_offset(offset).map(|text| String::from_utf8_lossy(text).into_owned());
        let path = string(line.file_name_off)?;
        let file = path.rsplit('/').next().unwrap_or(&path).to_owned();
        Some(Source { file, line: line.line_num(), text: string(line.line_off)?.trim().to_owned() })
    }

    /// The condition of a conditional jump; none for other instructions.
    pub fn condition(&self, insn: Insn) -> Option<String> {
        if !is_conditional(insn) {
            return None;
        }
        let (_, op) = JUMPS.iter().find(|(op, _)| *op == insn.op())?;
        let kind = if insn.class() == BPF_JMP32 { 'w' } else { 'r' };
        let is_unsigned = matches!(insn.op(), BPF_JGT | BPF_JGE | BPF_JLT | BPF_JLE | BPF_JSET);
        let right = match insn.imm {
            _ if insn.src() == BPF_X => format!("{kind}{}", insn.src_reg()),
            imm if imm < 0 && is_unsigned && insn.class() == BPF_JMP => format!("{:#x}", i64::from(imm)),
            imm if imm < 0 && is_unsigned => format!("{imm:#x}"),
            imm => imm.to_string(),
        };
        Some(format!("{kind}{} {op} {right}", insn.dst_reg()))
    }

    /// A path as lines, each once; but the last line is where the path ends.
    pub fn path(&self, steps: &[u32]) -> Vec<Line> {
        let mut lines: Vec<Line> = Vec::new();
        let mut keys = std::collections::HashMap::new();
        let mut current = None;
        for (i, &pc) in steps.iter().enumerate() {
            let source = self.source(pc);
            let key = source.as_ref().map_or((None, pc), |source| (Some(source.file.clone()), source.line));
            let is_behind = |index: &usize| i + 1 == steps.len() && index + 1 != lines.len();
            if keys.get(&key).is_some_and(is_behind) {
                keys.remove(&key);
            }
            let index = *keys.entry(key).or_insert_with(|| {
                let (at, text) = match source {
                    Some(source) => (source.at(), source.text),
                    None => (format!("insn {pc}"), self.text(pc)),
                };
                lines.push(Line { at, text, insn: pc, visits: 0, branches: Vec::new() });
                lines.len() - 1
            });
            let line = &mut lines[index];
            if current != Some(index) || line.insn == pc {
                line.visits += 1;
            }
            current = Some(index);
            let Some(held) = steps.get(i + 1).and_then(|&next| self.taken(pc, next)) else { continue };
            let branch = match line.branches.iter().position(|branch| branch.insn == pc) {
                Some(known) => &mut line.branches[known],
                None => {
                    let condition = self.insn(pc).and_then(|insn| self.condition(insn)).unwrap_or_default();
                    line.branches.push(Branch { insn: pc, condition, held: 0, failed: 0 });
                    let last = line.branches.len() - 1;
                    &mut line.branches[last]
                }
            };
            *(if held { &mut branch.held } else { &mut branch.failed }) += 1;
        }
        lines
    }

    /// Whether the condition of the jump at `pc` holds where the path goes on at `next`; none for other instructions.
    pub fn taken(&self, pc: u32, next: u32) -> Option<bool> {
        let insn = self.insn(pc)?;
        (is_conditional(insn) && insn.off != 0).then_some(next != pc + 1)
    }
}

/// Compares, and jumps or does not.
pub fn is_conditional(insn: Insn) -> bool {
    matches!(insn.class(), BPF_JMP | BPF_JMP32)
        && !matches!(insn.op(), BPF_CALL | BPF_EXIT | BPF_JA | BPF_JCOND)
}
