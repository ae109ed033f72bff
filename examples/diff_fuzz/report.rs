//! Programs and divergences as text.

use std::fmt::Write;

use bpftwin::verifier::disasm::print_bpf_insn;
use bpftwin::verifier::log::{Log, VecSink};

use crate::case::Case;
use crate::runner::{Answer, Divergence, text_of};

/// A program, disassembled, with what its load depends on.
pub fn program(case: &Case) -> String {
    let mut text = format!(
        "{:?} attach {} flags {:#x} log level {} size {}{}{}\n",
        case.prog_type,
        case.attach_type,
        case.prog_flags,
        case.log_level,
        case.log_size,
        if case.gpl { "" } else { " not GPL" },
        if case.fd_array == 0 { "" } else { " fd_array" }
    );
    let mut second_half = false;
    for (at, insn) in case.insns.iter().enumerate() {
        if second_half {
            second_half = false;
            continue;
        }
        second_half = insn.is_ldimm64();
        if let Some(func) = case.funcs.iter().find(|func| func.0 as usize == at) {
            let _ = writeln!(text, "  func {}:", func.1);
        }
        let sink = VecSink::default();
        if let Ok(mut log) = Log::new(1, 1 << 12, Some(Box::new(sink.clone()))) {
            print_bpf_insn(&mut log, &case.insns, at, true, None);
            let _ = log.finalize();
        }
        let line = text_of(sink.text().as_bytes());
        let _ = write!(text, "  {at:3}: {}", if line.is_empty() { "?\n" } else { &line });
    }
    text
}

/// A divergence, with the lines around it.
pub fn divergence(found: &Divergence) -> String {
    let mut text = format!("errno: ours {}, kernel {}\n", found.ours_errno, found.kernel_errno);
    for line in &found.context {
        let _ = writeln!(text, "    {line}");
    }
    for line in found.ours.lines() {
        let _ = writeln!(text, "  - {line}");
    }
    for line in found.kernel.lines() {
        let _ = writeln!(text, "  + {line}");
    }
    text
}

/// Text as comment lines of a stored case.
pub fn comment(text: &str) -> String {
    text.lines().map(|line| format!("# {line}\n")).collect()
}

/// Why a program was rejected, with numbers replaced.
pub fn reason(answer: &Answer) -> String {
    let is_reason = |line: &&str| {
        ["processed ", "stack depth ", "verification time "].iter().all(|start| !line.starts_with(start))
    };
    let last = answer.log.lines().rev().filter(is_reason).find(|line| !line.is_empty());
    let line: String =
        last.unwrap_or("").chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).take(90).collect();
    format!("errno {}: {line}", answer.errno)
}

/// The lines of a log that are no instructions and no states, with numbers replaced.
pub fn kinds_of_lines(answer: &Answer) -> std::collections::BTreeSet<String> {
    answer
        .log
        .lines()
        .filter(|line| !line.contains(": (") && !line.contains("R10=") && !line.contains(": R"))
        .map(|line| line.chars().map(|c| if c.is_ascii_digit() { '#' } else { c }).take(120).collect())
        .collect()
}

/// Instructions processed, as the log says.
pub fn processed(answer: &Answer) -> u64 {
    let line = answer.log.lines().rev().find_map(|line| line.strip_prefix("processed "));
    line.and_then(|line| line.split(' ').next()?.parse().ok()).unwrap_or(0)
}
