//! Makes a program that diverges as small as it can be.

use bpftwin_uapi::Insn;
use bpftwin_uapi::insn::*;

use crate::case::Case;

/// Reduces a case for as long as `diverges` says yes.
pub fn minimize(case: &Case, diverges: &mut dyn FnMut(&Case) -> bool) -> Case {
    let mut best = case.clone();
    let mut tries = 0;
    let mut attempt = |candidate: Case, best: &mut Case| {
        tries += 1;
        if tries < 3000 && candidate != *best && diverges(&candidate) {
            *best = candidate;
            true
        } else {
            false
        }
    };
    for round in 0..4 {
        let before = best.clone();
        for level in [2, 1, 6] {
            if best.log_level != 2 && best.log_level != level {
                let candidate = Case { log_level: level, log_size: 1 << 22, ..best.clone() };
                if attempt(candidate, &mut best) {
                    break;
                }
            }
        }
        if !best.lines.is_empty() {
            let candidate = Case { lines: Vec::new(), ..best.clone() };
            attempt(candidate, &mut best);
        }
        if best.fd_array != 0 {
            let candidate = Case { fd_array: 0, ..best.clone() };
            attempt(candidate, &mut best);
        }
        for bit in 0..9 {
            if best.prog_flags & 1 << bit != 0 {
                let candidate = Case { prog_flags: best.prog_flags & !(1 << bit), ..best.clone() };
                attempt(candidate, &mut best);
            }
        }
        let mut chunk = (best.insns.len() / 2).max(1);
        loop {
            let mut at = 0;
            while at < best.insns.len() {
                let mut removed = vec![false; best.insns.len()];
                let end = (at + chunk).min(best.insns.len());
                removed[at..end].fill(true);
                close_over_pairs(&best.insns, &mut removed);
                if removed.iter().all(|&gone| gone) || !attempt(best.without(&removed), &mut best) {
                    at += chunk;
                }
            }
            if chunk == 1 {
                break;
            }
            chunk /= 2;
        }
        if best.insns.len() < 200 {
            simplify(&mut best, &mut attempt);
        }
        if !best.funcs.is_empty() {
            let candidate = Case { funcs: Vec::new(), lines: Vec::new(), ..best.clone() };
            attempt(candidate, &mut best);
        }
        if best == before || round == 3 {
            break;
        }
    }
    best
}

/// Both halves of a 16-byte instruction go, or none.
fn close_over_pairs(insns: &[Insn], removed: &mut [bool]) {
    let mut at = 0;
    while at + 1 < insns.len() {
        if insns[at].is_ldimm64() {
            let gone = removed[at] || removed[at + 1];
            (removed[at], removed[at + 1]) = (gone, gone);
            at += 1;
        }
        at += 1;
    }
}

/// Replaces instructions by simpler ones.
fn simplify(best: &mut Case, attempt: &mut dyn FnMut(Case, &mut Case) -> bool) {
    let mut at = 0;
    while at < best.insns.len() {
        let insn = best.insns[at];
        if insn.is_ldimm64() {
            at += 2;
            continue;
        }
        let mut candidates = Vec::new();
        let is_jump = matches!(insn.class(), BPF_JMP | BPF_JMP32);
        if is_jump && insn.op() != BPF_CALL && insn.op() != BPF_EXIT && insn.code != BPF_JMP | BPF_JA {
            candidates.push(Insn::new(BPF_JMP | BPF_JA, 0, 0, insn.off, 0));
        }
        if insn.class() == BPF_LDX || insn.is_helper_call() {
            candidates.push(Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, insn.dst_reg().min(9), 0, 0, 0));
        }
        if !insn.is_helper_call() && insn.imm != 0 && insn.code != BPF_JMP | BPF_CALL {
            candidates.push(Insn { imm: 0, ..insn });
            candidates.push(Insn { imm: 1, ..insn });
        }
        for candidate in candidates {
            let mut case = best.clone();
            case.insns[at] = candidate;
            attempt(case, best);
        }
        at += 1;
    }
}
