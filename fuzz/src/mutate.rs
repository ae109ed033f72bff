//! Mutations of whole instructions: those of bytes rarely leave a program that gets beyond its first checks.

use std::ops::Range;

use bpftwin_uapi::insn::*;

use crate::format::ProgramHeader;

/// Small and fast.
pub struct Random(pub u64);

impl Random {
    /// A number from a seed of few bits.
    pub fn new(seed: u32) -> Self {
        Random((u64::from(seed) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// A number below `n`.
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }
}

const INSN: usize = size_of::<bpftwin_uapi::Insn>();
const HEADER: usize = size_of::<ProgramHeader>();

/// Mutates instructions of the `program` target's input in place; the new size, or `None` where it has none.
pub fn program(data: &mut [u8], size: usize, max_size: usize, random: &mut Random) -> Option<usize> {
    let mut header: ProgramHeader = *bytemuck::try_from_bytes(data.get(..HEADER)?).ok()?;
    let count = usize::from(header.insns).min(size.checked_sub(HEADER)? / INSN);
    if count == 0 {
        return None;
    }
    let mut size = size;
    for _ in 0..1 + random.below(4) {
        let count = usize::from(header.insns).min((size - HEADER) / INSN);
        let at = HEADER + INSN * random.below(count);
        match random.below(10) {
            0 if size + INSN <= max_size.min(data.len()) => {
                let from = HEADER + INSN * random.below(count);
                let copy: [u8; INSN] = data[from..from + INSN].try_into().ok()?;
                data.copy_within(at..size, at + INSN);
                data[at..at + INSN].copy_from_slice(&copy);
                header.insns = header.insns.saturating_add(1);
                size += INSN;
            }
            1 if count > 1 => {
                data.copy_within(at + INSN..size, at);
                header.insns = count as u16 - 1;
                size -= INSN;
            }
            2 => {
                let other = HEADER + INSN * random.below(count);
                (0..INSN).for_each(|byte| data.swap(at + byte, other + byte));
            }
            3 => mutate_header(&mut header, random),
            _ => mutate_insn(&mut data[at..at + INSN], count, random),
        }
    }
    data[..HEADER].copy_from_slice(bytemuck::bytes_of(&header));
    Some(size)
}

fn mutate_header(header: &mut ProgramHeader, random: &mut Random) {
    match random.below(5) {
        0 => header.prog_type = random.below(34) as u8,
        1 => header.attach_type = random.below(59) as u8,
        2 => header.flags ^= 1 << random.below(8),
        3 => header.log = random.pick(&[0, 0, 0, 1, 2, 4, 7, 8, 9, 10]) | (random.below(16) as u8) << 4,
        _ => header.caps = random.pick(&[0, 0, 0, 1, 2, 4, 8, 16, 32]),
    }
}

const CODES: &[u8] = &[
    BPF_ALU64 | BPF_MOV | BPF_X,
    BPF_ALU64 | BPF_MOV | BPF_K,
    BPF_ALU64 | BPF_ADD | BPF_X,
    BPF_ALU64 | BPF_ADD | BPF_K,
    BPF_ALU64 | BPF_AND | BPF_K,
    BPF_ALU64 | BPF_MUL | BPF_X,
    BPF_ALU64 | BPF_DIV | BPF_X,
    BPF_ALU64 | BPF_MOD | BPF_K,
    BPF_ALU64 | BPF_LSH | BPF_X,
    BPF_ALU64 | BPF_ARSH | BPF_K,
    BPF_ALU | BPF_SUB | BPF_X,
    BPF_ALU | BPF_RSH | BPF_K,
    BPF_ALU | BPF_NEG,
    BPF_ALU | BPF_END,
    BPF_LDX | BPF_MEM | BPF_DW,
    BPF_LDX | BPF_MEM | BPF_B,
    BPF_LDX | BPF_MEMSX | BPF_W,
    BPF_STX | BPF_MEM | BPF_DW,
    BPF_STX | BPF_ATOMIC | BPF_W,
    BPF_STX | BPF_ATOMIC | BPF_DW,
    BPF_ST | BPF_MEM | BPF_W,
    BPF_LD | BPF_IMM | BPF_DW,
    BPF_LD | BPF_ABS | BPF_W,
    BPF_LD | BPF_IND | BPF_B,
    BPF_JMP | BPF_JA,
    BPF_JMP32 | BPF_JA,
    BPF_JMP | BPF_JEQ | BPF_K,
    BPF_JMP | BPF_JSGT | BPF_X,
    BPF_JMP32 | BPF_JLE | BPF_X,
    BPF_JMP | BPF_JSET | BPF_K,
    BPF_JMP | BPF_JCOND,
    BPF_JMP | BPF_CALL,
    BPF_JMP | BPF_EXIT,
];

fn mutate_insn(insn: &mut [u8], count: usize, random: &mut Random) {
    const OFF: Range<usize> = 2..4;
    const IMM: Range<usize> = 4..8;
    match random.below(6) {
        0 => insn[0] = random.pick(CODES),
        1 => insn[0] ^= 1 << random.below(8),
        2 => insn[1] = (random.below(11) | random.below(11) << 4) as u8,
        3 => {
            let off = match random.below(3) {
                0 => random.below(2 * count + 1) as i16 - count as i16,
                1 => -8 * random.below(66) as i16,
                _ => random.pick(&[0, 1, 2, 4, 8, 16, 64, 76, 512, 4096, i16::MIN, i16::MAX, -1]),
            };
            insn[OFF].copy_from_slice(&off.to_ne_bytes());
        }
        4 => {
            let imm = match random.below(4) {
                0 => random.below(215) as i32,
                1 => random.below(2 * count + 1) as i32 - count as i32,
                2 => 1 << random.below(32),
                _ => random.pick(&[0, 1, -1, 8, 32, 63, 64, i32::MIN, i32::MAX, 0xe1, 0xf1, 0x100, 0x110]),
            };
            insn[IMM].copy_from_slice(&imm.to_ne_bytes());
        }
        _ => {
            let helper = bpftwin_uapi::Insn::new(BPF_JMP | BPF_CALL, 0, 0, 0, random.below(213) as i32);
            let call = bpftwin_uapi::Insn::new(
                BPF_JMP | BPF_CALL,
                0,
                BPF_PSEUDO_CALL,
                0,
                random.below(count) as i32,
            );
            insn.copy_from_slice(bytemuck::bytes_of(&random.pick(&[helper, call])));
        }
    }
}
