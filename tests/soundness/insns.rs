//! Programs by hand.

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{HelperId, Insn};

use crate::generator::MAP_FD;

pub const R0: u8 = BPF_REG_0;
pub const R1: u8 = BPF_REG_1;
pub const R2: u8 = BPF_REG_2;
pub const R3: u8 = BPF_REG_3;
pub const R4: u8 = BPF_REG_4;
pub const R5: u8 = BPF_REG_5;
pub const FP: u8 = BPF_REG_FP;
/// The map's value.
pub const VALUE: u8 = BPF_REG_6;
/// Numbers that are computed with.
pub const A: u8 = BPF_REG_7;
pub const B: u8 = BPF_REG_8;
pub const CTX: u8 = BPF_REG_9;
/// Fields of the context that hold any 32 bits.
pub const MARK: i16 = 8;
pub const PRIORITY: i16 = 32;
pub const CB: i16 = 48;

pub fn mov(dst: u8, imm: i32) -> Insn {
    alu(BPF_MOV, dst, imm)
}

pub fn mov_reg(dst: u8, src: u8) -> Insn {
    alu_reg(BPF_MOV, dst, src)
}

pub fn alu(op: u8, dst: u8, imm: i32) -> Insn {
    Insn::new(BPF_ALU64 | op | BPF_K, dst, 0, 0, imm)
}

pub fn alu_reg(op: u8, dst: u8, src: u8) -> Insn {
    Insn::new(BPF_ALU64 | op | BPF_X, dst, src, 0, 0)
}

pub fn field(dst: u8, off: i16) -> Insn {
    Insn::new(BPF_LDX | BPF_MEM | BPF_W, dst, CTX, off, 0)
}

pub fn read_byte(src: u8) -> Insn {
    Insn::new(BPF_LDX | BPF_MEM | BPF_B, R0, src, 0, 0)
}

pub fn call(helper: HelperId) -> Insn {
    Insn::new(BPF_JMP | BPF_CALL, 0, 0, 0, helper as i32)
}

/// A jump of `class` over `off` instructions.
pub fn jump(class: u8, op: u8, dst: u8, imm: i32, off: i16) -> Insn {
    Insn::new(class | op | BPF_K, dst, 0, off, imm)
}

/// A jump of `class` to the end of the program: filled in by [`program`].
pub fn leave(class: u8, op: u8, dst: u8, imm: i32) -> Insn {
    jump(class, op, dst, imm, i16::MAX)
}

/// `body` with the context and the map's value in their registers, and the end.
pub fn program(body: &[Insn]) -> Vec<Insn> {
    let mut insns = vec![
        mov_reg(CTX, R1),
        Insn::new(BPF_ST | BPF_MEM | BPF_W, FP, 0, -4, 0),
        mov_reg(R2, FP),
        alu(BPF_ADD, R2, -4),
        Insn::new(BPF_LD | BPF_IMM | BPF_DW, R1, BPF_PSEUDO_MAP_FD, 0, MAP_FD),
        Insn::default(),
        call(HelperId::MapLookupElem),
        leave(BPF_JMP, BPF_JEQ, R0, 0),
        mov_reg(VALUE, R0),
    ];
    insns.extend(body);
    let end = insns.len();
    for (i, insn) in insns.iter_mut().enumerate().filter(|(_, insn)| insn.off == i16::MAX) {
        insn.off = (end - i - 1) as i16;
    }
    insns.extend([mov(R0, 0), Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)]);
    insns
}
