//! What user space sees of the subprograms of a loaded program: what `jit_subprogs` of `kernel/bpf/verifier.c` leaves in
//! the instructions, and the subprograms' tags.

use bpftwin_uapi::Insn;

use crate::progs::tag::bpf_prog_calc_tag;

/// Where modules of an x86-64 kernel begin, which stands in for addresses of subprograms when their tags are made.
const MODULES_VADDR: u64 = 0xffff_ffff_c000_0000;

/// Puts the numbers of subprograms, which begin at `starts`, into the instructions that refer to them. Gives the
/// subprograms' tags; none where there is but the main program.
pub fn number_subprogs(insns: &mut [Insn], starts: &[u32]) -> Vec<[u8; 8]> {
    if starts.len() <= 1 {
        return Vec::new();
    }
    let mut hashed = insns.to_vec();
    for idx in 0..insns.len() {
        let insn = insns[idx];
        if !insn.is_pseudo_call() && !insn.is_pseudo_func() {
            continue;
        }
        let callee = (idx as i64 + i64::from(insn.imm) + 1) as u32;
        let Ok(subprog) = starts.binary_search(&callee) else {
            continue;
        };
        hashed[idx].off = subprog as i16;
        if insn.is_pseudo_call() {
            hashed[idx].imm = 1;
            insns[idx].off = insn.imm as i16;
            insns[idx].imm = subprog as i32;
        } else if idx + 1 < insns.len() {
            hashed[idx].imm = MODULES_VADDR as u32 as i32;
            hashed[idx + 1].imm = (MODULES_VADDR >> 32) as i32;
            insns[idx + 1].imm = subprog as i32;
        }
    }
    let ends = starts.iter().skip(1).map(|&end| end as usize).chain([hashed.len()]);
    let bodies =
        starts.iter().zip(ends).map(|(&start, end)| hashed.get(start as usize..end).unwrap_or_default());
    bodies.map(|body| tag_of(&bpf_prog_calc_tag(body))).collect()
}

/// The part of a program's digest that user space sees.
pub fn tag_of(digest: &[u8; 32]) -> [u8; 8] {
    let mut tag = [0; 8];
    tag.copy_from_slice(&digest[..8]);
    tag
}
