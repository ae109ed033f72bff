//! Programs that compute with inputs, branch on what they computed, and then access memory by it. There are loops and functions.

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{HelperId, Insn};

/// Descriptor and value size of the map, an array of one entry.
pub const MAP_FD: i32 = 1;
pub const VALUE_SIZE: u32 = 64;

/// Registers for numbers. R6 is the context, R7 points to the map's value, R1 to R5 are for accesses.
const NUMBERS: [u8; 3] = [BPF_REG_0, BPF_REG_8, BPF_REG_9];
/// The same in functions.
const FUNCTION_NUMBERS: [u8; 3] = [BPF_REG_0, BPF_REG_1, BPF_REG_2];
/// Counts the rounds of a loop.
const COUNTER: u8 = BPF_REG_2;
const CTX: u8 = BPF_REG_6;
const VALUE: u8 = BPF_REG_7;
/// Bytes below the frame pointer that are initialised, and accessed at variable offsets.
const BUFFER: i32 = 64;
/// Where numbers are spilled, below the buffer.
const SPILLS: i16 = -128;
/// Fields of the context that hold any number.
const FIELDS: [i16; 4] = [8, 12, 16, 32];

pub struct Generator {
    rng: u64,
    insns: Vec<Insn>,
    /// Jumps to the end of the program.
    to_exit: Vec<usize>,
    /// Calls, whose function comes in the end.
    calls: Vec<usize>,
    /// Spilled numbers, eight bytes each.
    spilled: usize,
    numbers: [u8; 3],
    in_loop: bool,
    last_access: usize,
}

fn reg_op(class: u8, op: u8, dst: u8, src: u8) -> Insn {
    Insn::new(class | op | BPF_X, dst, src, 0, 0)
}

fn imm_op(class: u8, op: u8, dst: u8, imm: i32) -> Insn {
    Insn::new(class | op | BPF_K, dst, 0, 0, imm)
}

impl Generator {
    pub fn new(seed: u64) -> Self {
        Generator {
            rng: seed,
            insns: Vec::new(),
            to_exit: Vec::new(),
            calls: Vec::new(),
            spilled: 0,
            numbers: NUMBERS,
            in_loop: false,
            last_access: 0,
        }
    }

    /// splitmix64
    fn next(&mut self) -> u64 {
        self.rng = self.rng.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.rng;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }

    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len())]
    }

    fn number(&mut self) -> u8 {
        self.numbers[self.below(3)]
    }

    fn class(&mut self) -> u8 {
        self.pick(&[BPF_ALU64, BPF_ALU64, BPF_ALU])
    }

    fn jump_class(&mut self) -> u8 {
        self.pick(&[BPF_JMP, BPF_JMP, BPF_JMP32])
    }

    fn constant(&mut self) -> i32 {
        match self.below(8) {
            0 => self.pick(&[-1, i32::MAX, i32::MIN, 0xff, 0xffff]),
            1 => self.next() as i32,
            2 => -(self.below(72) as i32),
            _ => self.below(72) as i32,
        }
    }

    /// Whether the last access of the last program was executed.
    pub fn last_access_reached(&self, executed: &[bool]) -> bool {
        executed.get(self.last_access).is_some_and(|&executed| executed)
    }

    /// A program; it is accepted, or takes proofs, or is wrong.
    pub fn program(&mut self) -> Vec<Insn> {
        (self.insns, self.to_exit, self.calls) = (Vec::new(), Vec::new(), Vec::new());
        (self.numbers, self.spilled) = (NUMBERS, 0);
        self.insns.push(reg_op(BPF_ALU64, BPF_MOV, CTX, BPF_REG_1));
        self.insns.push(Insn::new(BPF_LD | BPF_IMM | BPF_DW, VALUE, BPF_PSEUDO_MAP_VALUE, 0, MAP_FD));
        self.insns.push(Insn::default());
        for slot in 1..=BUFFER / 8 {
            self.insns.push(Insn::new(BPF_ST | BPF_MEM | BPF_DW, BPF_REG_FP, 0, -8 * slot as i16, 0));
        }
        for dst in NUMBERS {
            self.input(dst);
        }
        for _ in 0..1 + self.below(2) {
            for _ in 0..1 + self.below(8) {
                self.statement();
            }
            self.guarded_access();
        }
        self.insns.push(imm_op(BPF_ALU64, BPF_MOV, BPF_REG_0, 0));
        self.exit(1);
        for call in std::mem::take(&mut self.calls) {
            self.insns[call].imm = (self.insns.len() - call - 1) as i32;
            self.function();
        }
        self.insns.clone()
    }

    /// The end of a function, with the jumps to `before` instructions in front of it.
    fn exit(&mut self, before: usize) {
        let exit = self.insns.len() - before;
        for jump in std::mem::take(&mut self.to_exit) {
            self.insns[jump].off = (exit - jump - 1) as i16;
        }
        self.insns.push(Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
    }

    /// Computes a number from two.
    fn function(&mut self) {
        (self.numbers, self.spilled) = (FUNCTION_NUMBERS, 0);
        self.insns.push(reg_op(BPF_ALU64, BPF_MOV, BPF_REG_0, BPF_REG_1));
        for _ in 0..1 + self.below(4) {
            self.statement();
        }
        self.exit(0);
    }

    fn call(&mut self) {
        for arg in [BPF_REG_1, BPF_REG_2] {
            let number = self.number();
            self.insns.push(reg_op(BPF_ALU64, BPF_MOV, arg, number));
        }
        self.calls.push(self.insns.len());
        self.insns.push(Insn::new(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 0));
    }

    fn in_function(&self) -> bool {
        self.numbers == FUNCTION_NUMBERS
    }

    /// A few statements, a few times.
    fn rounds(&mut self) {
        self.insns.push(imm_op(BPF_ALU64, BPF_MOV, COUNTER, 0));
        let start = self.insns.len();
        self.in_loop = true;
        for _ in 0..1 + self.below(3) {
            self.statement();
        }
        self.in_loop = false;
        self.insns.push(imm_op(BPF_ALU64, BPF_ADD, COUNTER, 1));
        let off = start as i64 - self.insns.len() as i64 - 1;
        let rounds = 2 + self.below(3) as i32;
        self.insns.push(Insn::new(BPF_JMP | BPF_JLT | BPF_K, COUNTER, 0, off as i16, rounds));
    }

    /// Loads any number.
    fn input(&mut self, dst: u8) {
        let insn = match self.below(5) {
            0 => Insn::new(BPF_LDX | BPF_MEM | BPF_DW, dst, VALUE, 8 * self.below(8) as i16, 0),
            1 => {
                let size = self.pick(&[BPF_B, BPF_H, BPF_W]);
                Insn::new(BPF_LDX | BPF_MEMSX | size, dst, VALUE, 8 * self.below(8) as i16, 0)
            }
            2 => {
                let size = self.pick(&[BPF_B, BPF_H]);
                Insn::new(BPF_LDX | BPF_MEM | size, dst, VALUE, 8 * self.below(8) as i16, 0)
            }
            _ => Insn::new(BPF_LDX | BPF_MEM | BPF_W, dst, CTX, self.pick(&FIELDS), 0),
        };
        self.insns.push(insn);
    }

    fn statement(&mut self) {
        let (dst, src) = (self.number(), self.number());
        match self.below(16) {
            // Functions have no pointers to read from, loops no room for calls.
            0 if !self.in_function() => self.input(dst),
            14 if !self.in_function() && !self.in_loop => self.rounds(),
            15 if !self.in_function() && !self.in_loop => self.call(),
            1 | 2 => {
                let (class, op) =
                    (self.class(), self.pick(&[BPF_ADD, BPF_SUB, BPF_XOR, BPF_OR, BPF_AND, BPF_MUL]));
                self.insns.push(reg_op(class, op, dst, src));
            }
            3 => {
                let (class, op) = (self.class(), self.pick(&[BPF_ADD, BPF_SUB, BPF_XOR, BPF_OR, BPF_MUL]));
                let imm = self.constant();
                self.insns.push(imm_op(class, op, dst, imm));
            }
            4 | 5 => {
                let (class, mask) =
                    (self.class(), self.pick(&[1, 3, 7, 15, 31, 32, 48, 56, 60, 63, 127, 255]));
                self.insns.push(imm_op(class, BPF_AND, dst, mask));
            }
            6 => {
                let (class, op) = (self.class(), self.pick(&[BPF_LSH, BPF_RSH, BPF_ARSH]));
                let count = self.below(if class == BPF_ALU { 32 } else { 64 });
                let count = match self.below(4) {
                    0 => count,
                    1 if class == BPF_ALU => 31,
                    1 => 63,
                    _ => count % 4,
                };
                self.insns.push(imm_op(class, op, dst, count as i32));
            }
            7 => {
                let (class, op) = (self.class(), self.pick(&[BPF_LSH, BPF_RSH, BPF_ARSH]));
                self.insns.push(reg_op(class, op, dst, src));
            }
            8 => {
                let class = self.class();
                let insn = match self.below(4) {
                    0 => imm_op(class, BPF_NEG, dst, 0),
                    1 => Insn::new(class | BPF_MOV | BPF_X, dst, src, self.pick(&[8, 16]), 0),
                    2 => Insn::new(BPF_ALU | BPF_END | BPF_TO_BE, dst, 0, 0, self.pick(&[16, 32, 64])),
                    _ => {
                        let op = self.pick(&[BPF_DIV, BPF_MOD]);
                        Insn::new(
                            class | op | BPF_K,
                            dst,
                            0,
                            self.pick(&[0, 0, 1]),
                            1 + self.below(70) as i32,
                        )
                    }
                };
                self.insns.push(insn);
            }
            9 => {
                let class = self.class();
                self.insns.push(reg_op(class, BPF_MOV, dst, src));
            }
            10 => self.guard(dst),
            11 => self.branch(dst, src),
            _ => self.spill_or_fill(dst),
        }
    }

    /// A comparison with a constant, or of two numbers, one way of which ends the program.
    fn guard(&mut self, reg: u8) {
        let class = self.jump_class();
        let op =
            self.pick(&[BPF_JGT, BPF_JGE, BPF_JLT, BPF_JSGT, BPF_JSLT, BPF_JSLE, BPF_JNE, BPF_JEQ, BPF_JSET]);
        let op = if self.one_in(2) { BPF_JGT } else { op };
        self.to_exit.push(self.insns.len());
        if self.one_in(4) {
            let other = self.number();
            self.insns.push(Insn::new(class | op | BPF_X, reg, other, 0, 0));
        } else {
            let imm = self.constant();
            self.insns.push(Insn::new(class | op | BPF_K, reg, 0, 0, imm));
        }
    }

    /// A comparison that skips a few statements.
    fn branch(&mut self, dst: u8, src: u8) {
        let at = self.insns.len();
        let (class, imm) = (self.jump_class(), self.constant());
        let op = self.pick(&[BPF_JGT, BPF_JLT, BPF_JEQ, BPF_JSGE, BPF_JSET]);
        if self.one_in(3) {
            self.insns.push(Insn::new(class | op | BPF_X, dst, src, 0, 0));
        } else {
            self.insns.push(Insn::new(class | op | BPF_K, dst, 0, 0, imm));
        }
        let spilled = self.spilled;
        for _ in 0..1 + self.below(2) {
            // Neither branches in branches, nor what may be skipped to be filled later.
            loop {
                let before = self.insns.len();
                let (exits, calls) = (self.to_exit.len(), self.calls.len());
                self.statement();
                if self.spilled == spilled {
                    break;
                }
                self.insns.truncate(before);
                self.to_exit.truncate(exits);
                self.calls.truncate(calls);
                self.spilled = spilled;
            }
        }
        self.insns[at].off = (self.insns.len() - at - 1) as i16;
    }

    fn spill_or_fill(&mut self, reg: u8) {
        let size = self.pick(&[BPF_B, BPF_H, BPF_W, BPF_DW, BPF_DW, BPF_DW]);
        if self.spilled == 0 || self.one_in(2) {
            if self.spilled == 4 {
                return;
            }
            let off = SPILLS - 8 * self.spilled as i16;
            // All eight bytes, and then perhaps some of them again.
            self.insns.push(Insn::new(BPF_STX | BPF_MEM | BPF_DW, BPF_REG_FP, reg, off, 0));
            if size != BPF_DW {
                self.insns.push(Insn::new(BPF_STX | BPF_MEM | size, BPF_REG_FP, reg, off, 0));
            }
            self.spilled += 1;
        } else {
            let off = SPILLS - 8 * self.below(self.spilled) as i16;
            let signed = size != BPF_DW && self.one_in(3);
            let mode = if signed { BPF_MEMSX } else { BPF_MEM };
            self.insns.push(Insn::new(BPF_LDX | mode | size, reg, BPF_REG_FP, off, 0));
        }
    }

    /// An access by a number, which something was compared before that the number can be computed back from.
    fn guarded_access(&mut self) {
        let offset = self.number();
        let size = self.number();
        if !self.one_in(4) {
            self.derived_guard(offset);
        }
        let on_stack = self.one_in(2);
        let pointer = BPF_REG_3;
        self.insns.push(reg_op(BPF_ALU64, BPF_MOV, pointer, if on_stack { BPF_REG_FP } else { VALUE }));
        if on_stack {
            self.insns.push(imm_op(BPF_ALU64, BPF_ADD, pointer, -BUFFER));
        }
        if !self.one_in(8) {
            let op = if self.one_in(12) { BPF_SUB } else { BPF_ADD };
            self.insns.push(reg_op(BPF_ALU64, op, pointer, offset));
        }
        if self.one_in(4) {
            self.sized_access(size);
            return;
        }
        let bytes = self.pick(&[BPF_B, BPF_B, BPF_H, BPF_W, BPF_DW]);
        let off = if self.one_in(3) { self.below(8) as i16 } else { 0 };
        self.last_access = self.insns.len();
        if self.one_in(2) {
            self.insns.push(Insn::new(BPF_LDX | BPF_MEM | bytes, BPF_REG_4, pointer, off, 0));
        } else {
            self.insns.push(Insn::new(BPF_ST | BPF_MEM | bytes, pointer, 0, off, 1));
        }
    }

    /// Compares something that was computed from the number, with the constant of a size.
    fn derived_guard(&mut self, number: u8) {
        let derived = BPF_REG_5;
        self.insns.push(reg_op(BPF_ALU64, BPF_MOV, derived, number));
        for _ in 0..self.below(3) {
            let class = if self.one_in(4) { BPF_ALU } else { BPF_ALU64 };
            let insn = match self.below(6) {
                0 => imm_op(class, BPF_ADD, derived, self.constant()),
                1 => imm_op(class, BPF_SUB, derived, self.below(9) as i32),
                2 => reg_op(class, BPF_ADD, derived, self.number()),
                3 => imm_op(class, BPF_LSH, derived, self.below(4) as i32),
                4 => imm_op(class, BPF_RSH, derived, self.below(4) as i32),
                _ => imm_op(class, BPF_XOR, derived, self.below(64) as i32),
            };
            self.insns.push(insn);
        }
        self.to_exit.push(self.insns.len());
        let limit = self.pick(&[3, 7, 7, 15, 15, 31, 48, 56, 60, 63, 64]);
        let class = self.jump_class();
        self.insns.push(Insn::new(class | BPF_JGT | BPF_K, derived, 0, 0, limit));
    }

    /// bpf_skb_load_bytes(ctx, 0, pointer, size)
    fn sized_access(&mut self, size: u8) {
        if !self.one_in(3) {
            self.derived_guard(size);
        }
        self.insns.push(reg_op(BPF_ALU64, BPF_MOV, BPF_REG_4, size));
        if self.one_in(3) {
            self.insns.push(imm_op(BPF_ALU64, BPF_AND, BPF_REG_4, self_mask(size)));
        }
        if self.one_in(2) {
            self.to_exit.push(self.insns.len());
            self.insns.push(Insn::new(BPF_JMP | BPF_JEQ | BPF_K, BPF_REG_4, 0, 0, 0));
        }
        self.insns.push(reg_op(BPF_ALU64, BPF_MOV, BPF_REG_1, CTX));
        self.insns.push(imm_op(BPF_ALU64, BPF_MOV, BPF_REG_2, 0));
        self.last_access = self.insns.len();
        self.insns.push(Insn::new(BPF_JMP | BPF_CALL, 0, 0, 0, HelperId::SkbLoadBytes as i32));
    }
}

/// A mask for sizes, different for different registers.
fn self_mask(reg: u8) -> i32 {
    if reg == BPF_REG_8 { 63 } else { 31 }
}
