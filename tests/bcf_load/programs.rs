//! Programs that are safe, and that bounds alone cannot show to be.

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{HelperId, Insn};

pub fn mov_reg(dst: u8, src: u8) -> Insn {
    Insn::new(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
}

pub fn mov_imm(dst: u8, imm: i32) -> Insn {
    Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm)
}

fn alu_reg(op: u8, dst: u8, src: u8) -> Insn {
    Insn::new(BPF_ALU64 | op | BPF_X, dst, src, 0, 0)
}

fn alu_imm(op: u8, dst: u8, imm: i32) -> Insn {
    Insn::new(BPF_ALU64 | op | BPF_K, dst, 0, 0, imm)
}

fn jump_imm(op: u8, dst: u8, imm: i32, off: i16) -> Insn {
    Insn::new(BPF_JMP | op | BPF_K, dst, 0, off, imm)
}

fn call(helper: HelperId) -> Insn {
    Insn::new(BPF_JMP | BPF_CALL, 0, 0, 0, helper as i32)
}

pub fn exit() -> Insn {
    Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
}

/// A byte that is at most nine, which only its half is compared with, and the byte of the stack at that place.
pub fn halved() -> Vec<Insn> {
    let mut insns = byte_of_the_stack();
    insns.extend([mov_imm(0, 0), exit()]);
    insns
}

/// The same twice: two conditions, one after the other; with instructions between that make the second larger.
pub fn halved_twice(between: usize) -> Vec<Insn> {
    let mut insns = byte_of_the_stack();
    insns.push(call(HelperId::GetPrandomU32));
    insns.extend((0..between).map(|_| Insn::new(BPF_ALU | BPF_XOR | BPF_K, 0, 0, 0, 5)));
    insns.extend(&byte_of_the_stack()[1..]);
    insns.extend([mov_imm(0, 0), exit()]);
    insns
}

fn byte_of_the_stack() -> Vec<Insn> {
    vec![
        call(HelperId::GetPrandomU32),
        Insn::new(BPF_ALU | BPF_MOV | BPF_X, 0, 0, 0, 0),
        Insn::new(BPF_ALU | BPF_AND | BPF_K, 0, 0, 0, 255),
        Insn::new(BPF_ALU | BPF_MOV | BPF_X, 1, 0, 0, 0),
        mov_reg(2, 10),
        alu_imm(BPF_ADD, 2, -16),
        alu_reg(BPF_ADD, 2, 0),
        alu_imm(BPF_RSH, 1, 1),
        jump_imm(BPF_JGT, 1, 4, 1),
        Insn::new(BPF_LDX | BPF_MEM | BPF_B, 0, 2, 0, 0),
    ]
}
/// The same byte as the size of what a helper stores on the stack.
pub fn size_of_argument() -> Vec<Insn> {
    vec![
        call(HelperId::GetPrandomU32),
        alu_imm(BPF_AND, 0, 63),
        mov_reg(2, 0),
        mov_reg(1, 0),
        alu_imm(BPF_RSH, 1, 2),
        jump_imm(BPF_JGT, 1, 3, 4),
        mov_reg(1, 10),
        alu_imm(BPF_ADD, 1, -16),
        mov_imm(3, 0),
        call(HelperId::ProbeReadKernel),
        mov_imm(0, 0),
        exit(),
    ]
}

/// The same byte compared with smaller and smaller numbers, all larger than it can be; behind each comparison stands nonsense.
pub fn unreachable_reads(count: i32) -> Vec<Insn> {
    let mut insns = byte_of_the_stack();
    // Without the access.
    insns.truncate(8);
    insns.push(jump_imm(BPF_JGT, 1, 4, 2 * count as i16));
    for number in 0..count {
        insns.extend([jump_imm(BPF_JLE, 0, 250 - 10 * number, 1), mov_reg(3, 5)]);
    }
    insns.extend([mov_imm(0, 0), exit()]);
    insns
}

/// What is left of a map's value of 64 bytes behind a variable place in it: pointer and size are bounded together only.
pub fn rest_of_value(map: i32) -> Vec<Insn> {
    let mut insns = value_of(map, 10);
    insns.extend([
        mov_reg(6, 0),
        call(HelperId::GetPrandomU32),
        alu_imm(BPF_AND, 0, 31),
        mov_imm(2, 64),
        alu_reg(BPF_SUB, 2, 0),
        mov_reg(1, 6),
        alu_reg(BPF_ADD, 1, 0),
        mov_imm(3, 0),
        call(HelperId::ProbeReadKernel),
        mov_imm(0, 0),
        mov_imm(0, 0),
        exit(),
    ]);
    insns
}

/// A map's value in R0; where there is none, `skip` instructions are skipped.
fn value_of(map: i32, skip: i16) -> Vec<Insn> {
    let mut insns =
        vec![Insn::new(BPF_ST | BPF_MEM | BPF_W, 10, 0, -4, 0), mov_reg(2, 10), alu_imm(BPF_ADD, 2, -4)];
    insns.extend(map_of(1, map));
    insns.extend([call(HelperId::MapLookupElem), jump_imm(BPF_JEQ, 0, 0, skip)]);
    insns
}

fn map_of(dst: u8, map: i32) -> [Insn; 2] {
    [Insn::new(BPF_LD | BPF_IMM | BPF_DW, dst, BPF_PSEUDO_MAP_FD, 0, map), Insn::default()]
}

/// A path that nothing takes, to a memory argument whose size was just loaded.
pub fn size_not_read(map: i32) -> Vec<Insn> {
    let mut insns = value_of(map, 12);
    insns.extend([
        mov_reg(7, 0),
        call(HelperId::GetPrandomU32),
        mov_reg(6, 0),
        Insn::new(BPF_ALU | BPF_AND | BPF_K, 6, 0, 0, 255),
        mov_reg(8, 6),
        alu_imm(BPF_RSH, 8, 1),
        jump_imm(BPF_JGT, 6, 4, 5),
        jump_imm(BPF_JLT, 8, 3, 4),
        Insn::new(BPF_LDX | BPF_MEM | BPF_B, 2, 7, 0, 0),
        mov_reg(1, 7),
        mov_imm(3, 0),
        call(HelperId::ProbeReadKernel),
        mov_imm(0, 0),
        exit(),
    ]);
    insns
}

/// A memory argument at a variable place in a map's value of 64 bytes, with a size of 40 to 103.
pub fn place_and_size(map: i32) -> Vec<Insn> {
    let mut insns = value_of(map, 12);
    insns.extend([
        mov_reg(7, 0),
        call(HelperId::GetPrandomU32),
        mov_reg(6, 0),
        alu_imm(BPF_AND, 6, 31),
        call(HelperId::GetPrandomU32),
        mov_reg(2, 0),
        alu_imm(BPF_AND, 2, 63),
        alu_imm(BPF_ADD, 2, 40),
        mov_reg(1, 7),
        alu_reg(BPF_ADD, 1, 6),
        mov_imm(3, 0),
        call(HelperId::ProbeReadKernel),
        mov_imm(0, 0),
        exit(),
    ]);
    insns
}

/// An access to a map's value of 64 bytes at any non-negative place, and 60 bytes behind.
pub fn unbounded_place(map: i32) -> Vec<Insn> {
    let mut insns = value_of(map, 5);
    insns.extend([
        mov_reg(7, 0),
        call(HelperId::GetPrandomU32),
        alu_imm(BPF_RSH, 0, 1),
        alu_reg(BPF_ADD, 7, 0),
        Insn::new(BPF_LDX | BPF_MEM | BPF_DW, 0, 7, 60, 0),
        mov_imm(0, 0),
        exit(),
    ]);
    insns
}

/// A scalar that a pointer is subtracted from, behind an access at a variable place.
pub fn scalar_minus_pointer(map: i32) -> Vec<Insn> {
    let mut insns = value_of(map, 6);
    insns.extend([
        mov_reg(6, 0),
        call(HelperId::GetPrandomU32),
        alu_imm(BPF_AND, 0, 127),
        alu_reg(BPF_ADD, 6, 0),
        Insn::new(BPF_LDX | BPF_MEM | BPF_B, 1, 6, 0, 0),
        alu_reg(BPF_SUB, 0, 6),
        mov_imm(0, 0),
        exit(),
    ]);
    insns
}

/// Reads more bytes of a map's value than a condition has room for bounds of, before an access at a variable place.
pub fn many_reads(map: i32) -> Vec<Insn> {
    let mut insns = value_of(map, 6 + 2 * 260);
    insns.extend([
        mov_reg(7, 0),
        call(HelperId::GetPrandomU32),
        mov_reg(6, 0),
        alu_imm(BPF_AND, 6, 127),
        mov_reg(8, 7),
        alu_reg(BPF_ADD, 8, 6),
    ]);
    for _ in 0..260 {
        insns.extend([Insn::new(BPF_LDX | BPF_MEM | BPF_B, 0, 7, 0, 0), mov_reg(1, 0)]);
    }
    insns.extend([Insn::new(BPF_LDX | BPF_MEM | BPF_DW, 0, 8, 0, 0), mov_imm(0, 0), exit()]);
    insns
}

/// A path that nothing takes, to a call of `helper` with a map, whose first argument is nonsense.
pub fn dropped_call(helper: HelperId, map: i32) -> Vec<Insn> {
    let mut insns = vec![
        call(HelperId::GetPrandomU32),
        alu_imm(BPF_AND, 0, 127),
        mov_reg(6, 0),
        mov_reg(8, 6),
        alu_reg(BPF_ADD, 8, 6),
        jump_imm(BPF_JGT, 6, 4, 6),
        jump_imm(BPF_JLT, 8, 9, 5),
        mov_imm(1, 3),
    ];
    insns.extend(map_of(2, map));
    insns.extend([mov_reg(3, 6), call(helper), mov_imm(0, 0), exit()]);
    insns
}

/// The same byte as an index that is really too large: its half may be eight.
pub fn out_of_bounds() -> Vec<Insn> {
    let mut insns = halved();
    insns[8].imm = 8;
    insns
}
