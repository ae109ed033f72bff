//! `struct bpf_insn` and its encoding: classes, sizes, modes, operations, sources and pseudo registers.
//!
//! Constants carry the kernel's names, so that code that decodes reads like RFC 9669 and the kernel.

use bytemuck::{Pod, Zeroable};

/// One 8-byte BPF instruction: `struct bpf_insn`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct Insn {
    pub code: u8,
    /// Destination register in the low four bits, source register in the high four.
    pub regs: u8,
    pub off: i16,
    pub imm: i32,
}

impl Insn {
    pub const fn new(code: u8, dst: u8, src: u8, off: i16, imm: i32) -> Self {
        Self { code, regs: (dst & 0xf) | (src << 4), off, imm }
    }

    #[inline]
    pub const fn dst_reg(self) -> u8 {
        self.regs & 0xf
    }

    #[inline]
    pub const fn src_reg(self) -> u8 {
        self.regs >> 4
    }

    /// Instruction class: `BPF_CLASS(code)`.
    #[inline]
    pub const fn class(self) -> u8 {
        self.code & 0x07
    }

    /// Operation of an ALU or jump instruction: `BPF_OP(code)`.
    #[inline]
    pub const fn op(self) -> u8 {
        self.code & 0xf0
    }

    /// Operand source of an ALU or jump instruction, `BPF_K` or `BPF_X`: `BPF_SRC(code)`.
    #[inline]
    pub const fn src(self) -> u8 {
        self.code & 0x08
    }

    /// Access size of a load or store: `BPF_SIZE(code)`.
    #[inline]
    pub const fn size(self) -> u8 {
        self.code & 0x18
    }

    /// Access mode of a load or store: `BPF_MODE(code)`.
    #[inline]
    pub const fn mode(self) -> u8 {
        self.code & 0xe0
    }

    /// Bytes that a load or store touches: `bpf_size_to_bytes(BPF_SIZE(code))`.
    #[inline]
    pub const fn size_bytes(self) -> i32 {
        match self.size() {
            BPF_B => 1,
            BPF_H => 2,
            BPF_W => 4,
            _ => 8,
        }
    }

    /// First half of a 16-byte `BPF_LD | BPF_IMM | BPF_DW`.
    #[inline]
    pub const fn is_ldimm64(self) -> bool {
        self.code == BPF_LD | BPF_IMM | BPF_DW
    }

    /// `bpf_helper_call`: a call of a helper by number.
    #[inline]
    pub const fn is_helper_call(self) -> bool {
        self.code == BPF_JMP | BPF_CALL && self.src_reg() == 0
    }

    /// `bpf_pseudo_call`: a call of another subprogram.
    #[inline]
    pub const fn is_pseudo_call(self) -> bool {
        self.code == BPF_JMP | BPF_CALL && self.src_reg() == BPF_PSEUDO_CALL
    }

    /// `bpf_pseudo_kfunc_call`: a call of a kernel function by BTF id.
    #[inline]
    pub const fn is_pseudo_kfunc_call(self) -> bool {
        self.code == BPF_JMP | BPF_CALL && self.src_reg() == BPF_PSEUDO_KFUNC_CALL
    }

    /// `bpf_pseudo_func`: a `ldimm64` of a subprogram's address.
    #[inline]
    pub const fn is_pseudo_func(self) -> bool {
        self.is_ldimm64() && self.src_reg() == BPF_PSEUDO_FUNC
    }
}

// Classes.
pub const BPF_LD: u8 = 0x00;
pub const BPF_LDX: u8 = 0x01;
pub const BPF_ST: u8 = 0x02;
pub const BPF_STX: u8 = 0x03;
pub const BPF_ALU: u8 = 0x04;
pub const BPF_JMP: u8 = 0x05;
pub const BPF_JMP32: u8 = 0x06;
pub const BPF_ALU64: u8 = 0x07;

// Sizes.
pub const BPF_W: u8 = 0x00;
pub const BPF_H: u8 = 0x08;
pub const BPF_B: u8 = 0x10;
pub const BPF_DW: u8 = 0x18;

// Modes.
pub const BPF_IMM: u8 = 0x00;
pub const BPF_ABS: u8 = 0x20;
pub const BPF_IND: u8 = 0x40;
pub const BPF_MEM: u8 = 0x60;
pub const BPF_LEN: u8 = 0x80;
pub const BPF_MSH: u8 = 0xa0;
pub const BPF_MEMSX: u8 = 0x80;
pub const BPF_ATOMIC: u8 = 0xc0;
/// Kernel-internal mode of a load with an exception table entry.
pub const BPF_PROBE_MEM: u8 = 0x20;

// ALU operations.
pub const BPF_ADD: u8 = 0x00;
pub const BPF_SUB: u8 = 0x10;
pub const BPF_MUL: u8 = 0x20;
pub const BPF_DIV: u8 = 0x30;
pub const BPF_OR: u8 = 0x40;
pub const BPF_AND: u8 = 0x50;
pub const BPF_LSH: u8 = 0x60;
pub const BPF_RSH: u8 = 0x70;
pub const BPF_NEG: u8 = 0x80;
pub const BPF_MOD: u8 = 0x90;
pub const BPF_XOR: u8 = 0xa0;
pub const BPF_MOV: u8 = 0xb0;
pub const BPF_ARSH: u8 = 0xc0;
pub const BPF_END: u8 = 0xd0;

// Directions of `BPF_END`.
pub const BPF_TO_LE: u8 = 0x00;
pub const BPF_TO_BE: u8 = 0x08;

// Operand sources.
pub const BPF_K: u8 = 0x00;
pub const BPF_X: u8 = 0x08;

// Jump operations.
pub const BPF_JA: u8 = 0x00;
pub const BPF_JEQ: u8 = 0x10;
pub const BPF_JGT: u8 = 0x20;
pub const BPF_JGE: u8 = 0x30;
pub const BPF_JSET: u8 = 0x40;
pub const BPF_JNE: u8 = 0x50;
pub const BPF_JSGT: u8 = 0x60;
pub const BPF_JSGE: u8 = 0x70;
pub const BPF_CALL: u8 = 0x80;
pub const BPF_EXIT: u8 = 0x90;
pub const BPF_JLT: u8 = 0xa0;
pub const BPF_JLE: u8 = 0xb0;
pub const BPF_JSLT: u8 = 0xc0;
pub const BPF_JSLE: u8 = 0xd0;
pub const BPF_JCOND: u8 = 0xe0;

/// `src_reg` of a `BPF_JCOND`: `may_goto`.
pub const BPF_MAY_GOTO: u8 = 0;

// Operations of `BPF_ATOMIC` (in `imm`), beside the ALU ones.
pub const BPF_FETCH: i32 = 0x01;
pub const BPF_XCHG: i32 = 0xe0 | BPF_FETCH;
pub const BPF_CMPXCHG: i32 = 0xf0 | BPF_FETCH;
pub const BPF_LOAD_ACQ: i32 = 0x100;
pub const BPF_STORE_REL: i32 = 0x110;

// `src_reg` of a `ldimm64`.
pub const BPF_PSEUDO_MAP_FD: u8 = 1;
pub const BPF_PSEUDO_MAP_VALUE: u8 = 2;
pub const BPF_PSEUDO_BTF_ID: u8 = 3;
pub const BPF_PSEUDO_FUNC: u8 = 4;
pub const BPF_PSEUDO_MAP_IDX: u8 = 5;
pub const BPF_PSEUDO_MAP_IDX_VALUE: u8 = 6;

// `src_reg` of a call.
pub const BPF_PSEUDO_CALL: u8 = 1;
pub const BPF_PSEUDO_KFUNC_CALL: u8 = 2;

// Registers.
pub const BPF_REG_0: u8 = 0;
pub const BPF_REG_1: u8 = 1;
pub const BPF_REG_2: u8 = 2;
pub const BPF_REG_3: u8 = 3;
pub const BPF_REG_4: u8 = 4;
pub const BPF_REG_5: u8 = 5;
pub const BPF_REG_6: u8 = 6;
pub const BPF_REG_7: u8 = 7;
pub const BPF_REG_8: u8 = 8;
pub const BPF_REG_9: u8 = 9;
/// The read-only frame pointer, `BPF_REG_FP`.
pub const BPF_REG_10: u8 = 10;
pub const BPF_REG_FP: u8 = BPF_REG_10;
/// Number of registers that a program can name.
pub const MAX_BPF_REG: usize = 11;
/// Bytes of stack of one frame.
pub const MAX_BPF_STACK: i32 = 512;
