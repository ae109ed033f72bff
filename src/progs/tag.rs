//! The digest that identifies a program (`bpf_prog_calc_tag` of `kernel/bpf/core.c`).

use bpftwin_uapi::Insn;
use bpftwin_uapi::insn::{BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE};
use sha2::{Digest, Sha256};

/// SHA-256 over the instructions, with the descriptors of maps and the offsets into their values blanked, which
/// differ from load to load. The first eight bytes are the tag that user space sees.
pub fn bpf_prog_calc_tag(insns: &[Insn]) -> [u8; 32] {
    let mut blanked = insns.to_vec();
    let mut after_map = false;
    for insn in &mut blanked {
        if !after_map
            && insn.is_ldimm64()
            && matches!(insn.src_reg(), BPF_PSEUDO_MAP_FD | BPF_PSEUDO_MAP_VALUE)
        {
            after_map = true;
            insn.imm = 0;
        } else {
            if after_map && insn.code == 0 && insn.regs == 0 && insn.off == 0 {
                insn.imm = 0;
            }
            after_map = false;
        }
    }
    Sha256::digest(bytemuck::cast_slice::<Insn, u8>(&blanked)).into()
}

#[cfg(test)]
mod tests {
    use bpftwin_uapi::insn::*;

    use super::*;

    #[test]
    fn descriptors_do_not_matter() {
        let exit = Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
        let ld_map = |fd, off| {
            [
                Insn::new(BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_VALUE, 0, fd),
                Insn::new(0, 0, 0, 0, off),
                exit,
            ]
        };
        assert_eq!(bpf_prog_calc_tag(&ld_map(3, 8)), bpf_prog_calc_tag(&ld_map(4, 16)));
        let plain =
            |imm| [Insn::new(BPF_LD | BPF_IMM | BPF_DW, 1, 0, 0, imm), Insn::new(0, 0, 0, 0, 0), exit];
        assert_ne!(bpf_prog_calc_tag(&plain(3)), bpf_prog_calc_tag(&plain(4)));
    }
}
