//! BCF: the wire format of conditions and proofs. Words are 32 bits in the host's byte order.
//!
//! A proof is a [`BcfHeader`], then expression nodes, then steps. A request is expression nodes, then two words:
//! the path condition and the refinement condition, each the id of a node or -1.

use crate::wire;

pub const BCF_MAGIC: u32 = 0x0bcf;
/// A proof is smaller than this.
pub const BCF_MAX_PROOF_SIZE: u32 = 32 * 1024 * 1024;

wire! {
    /// Head of a proof.
    #[derive(PartialEq, Eq)]
    pub struct BcfHeader {
        magic: u32,
        /// Words (not nodes) of the expression area.
        expr_cnt: u32,
        /// Words (not steps) of the step area.
        step_cnt: u32,
    }
}

wire! {
    /// First word of an expression node; `vlen` argument words follow.
    #[derive(PartialEq, Eq, Hash)]
    pub struct BcfExpr {
        /// Type in bits 0 to 2, operation in bits 3 to 7.
        code: u8,
        vlen: u8,
        params: u16,
    }
}

impl BcfExpr {
    /// `BCF_BV`, `BCF_BOOL` or `BCF_LIST`, or a number that no type has.
    pub const fn kind(&self) -> u8 {
        self.code & 0x07
    }

    /// The operation without the type.
    pub const fn op(&self) -> u8 {
        self.code & 0xf8
    }

    pub const fn params_low(&self) -> u8 {
        self.params as u8
    }

    pub const fn params_high(&self) -> u8 {
        (self.params >> 8) as u8
    }
}

wire! {
    /// First word of a step; premises (step numbers), then parameters follow.
    #[derive(PartialEq, Eq, Hash)]
    pub struct BcfStep {
        /// Class in bits 13 to 15, number in bits 0 to 12.
        rule: u16,
        premise_cnt: u8,
        param_cnt: u8,
    }
}

impl BcfStep {
    /// `BCF_RULE_*`, or a number that no class has.
    pub const fn rule_class(&self) -> u16 {
        self.rule & 0xe000
    }

    /// Number in its class, from 1.
    pub const fn rule_number(&self) -> u16 {
        self.rule & 0x1fff
    }
}

// Types of an expression.
pub const BCF_BV: u8 = 0;
pub const BCF_BOOL: u8 = 1;
pub const BCF_LIST: u8 = 2;

// Operations with the type in them. Arithmetic and comparisons carry the codes of BPF's ALU and jump operations.
pub const BCF_BV_ADD: u8 = 0x00;
pub const BCF_BV_SUB: u8 = 0x10;
pub const BCF_BV_MUL: u8 = 0x20;
pub const BCF_BV_UDIV: u8 = 0x30;
pub const BCF_BV_OR: u8 = 0x40;
pub const BCF_BV_AND: u8 = 0x50;
pub const BCF_BV_SHL: u8 = 0x60;
pub const BCF_BV_LSHR: u8 = 0x70;
pub const BCF_BV_NEG: u8 = 0x80;
pub const BCF_BV_UREM: u8 = 0x90;
pub const BCF_BV_XOR: u8 = 0xa0;
pub const BCF_BV_SDIV: u8 = 0xb0;
pub const BCF_BV_ASHR: u8 = 0xc0;
pub const BCF_BV_SMOD: u8 = 0xd0;
pub const BCF_BV_CONST: u8 = 0x08;
pub const BCF_BV_VAR: u8 = 0x18;
pub const BCF_BV_ITE: u8 = 0x28;
pub const BCF_BV_EXTRACT: u8 = 0x38;
pub const BCF_BV_SIGN_EXTEND: u8 = 0x48;
pub const BCF_BV_ZERO_EXTEND: u8 = 0x58;
pub const BCF_BV_SIZE: u8 = 0x68;
pub const BCF_BV_NOT: u8 = 0x78;
pub const BCF_BV_FROM_BOOL: u8 = 0x88;
pub const BCF_BV_CONCAT: u8 = 0x98;
pub const BCF_BV_REPEAT: u8 = 0xa8;

pub const BCF_BOOL_CONST: u8 = 0x09;
pub const BCF_BOOL_VAR: u8 = 0x19;
pub const BCF_BOOL_ITE: u8 = 0x29;
pub const BCF_BOOL_AND: u8 = 0x01;
pub const BCF_BOOL_OR: u8 = 0x41;
pub const BCF_BOOL_XOR: u8 = 0x39;
pub const BCF_BOOL_NOT: u8 = 0x81;
pub const BCF_BOOL_IMPLIES: u8 = 0x91;
pub const BCF_BOOL_BIT_OF: u8 = 0x49;
pub const BCF_BOOL_EQ: u8 = 0x11;
pub const BCF_BOOL_DISTINCT: u8 = 0x51;
pub const BCF_BOOL_UGT: u8 = 0x21;
pub const BCF_BOOL_UGE: u8 = 0x31;
pub const BCF_BOOL_ULT: u8 = 0xa1;
pub const BCF_BOOL_ULE: u8 = 0xb1;
pub const BCF_BOOL_SGT: u8 = 0x61;
pub const BCF_BOOL_SGE: u8 = 0x71;
pub const BCF_BOOL_SLT: u8 = 0xc1;
pub const BCF_BOOL_SLE: u8 = 0xd1;

pub const BCF_LIST_VAL: u8 = 0x0a;

// Classes of rules.
pub const BCF_RULE_CORE: u16 = 0x0000;
pub const BCF_RULE_BOOL: u16 = 0x2000;
pub const BCF_RULE_BV: u16 = 0x4000;

// Rules, with their class.
pub const BCF_RULE_ASSUME: u16 = BCF_RULE_CORE | 1;
pub const BCF_RULE_EVALUATE: u16 = BCF_RULE_CORE | 2;
pub const BCF_RULE_DISTINCT_VALUES: u16 = BCF_RULE_CORE | 3;
pub const BCF_RULE_ACI_NORM: u16 = BCF_RULE_CORE | 4;
pub const BCF_RULE_ABSORB: u16 = BCF_RULE_CORE | 5;
pub const BCF_RULE_REWRITE: u16 = BCF_RULE_CORE | 6;
pub const BCF_RULE_REFL: u16 = BCF_RULE_CORE | 7;
pub const BCF_RULE_SYMM: u16 = BCF_RULE_CORE | 8;
pub const BCF_RULE_TRANS: u16 = BCF_RULE_CORE | 9;
pub const BCF_RULE_CONG: u16 = BCF_RULE_CORE | 10;
pub const BCF_RULE_TRUE_INTRO: u16 = BCF_RULE_CORE | 11;
pub const BCF_RULE_TRUE_ELIM: u16 = BCF_RULE_CORE | 12;
pub const BCF_RULE_FALSE_INTRO: u16 = BCF_RULE_CORE | 13;
pub const BCF_RULE_FALSE_ELIM: u16 = BCF_RULE_CORE | 14;
pub const BCF_RULE_RESOLUTION: u16 = BCF_RULE_BOOL | 1;
pub const BCF_RULE_FACTORING: u16 = BCF_RULE_BOOL | 2;
pub const BCF_RULE_REORDERING: u16 = BCF_RULE_BOOL | 3;
pub const BCF_RULE_SPLIT: u16 = BCF_RULE_BOOL | 4;
pub const BCF_RULE_EQ_RESOLVE: u16 = BCF_RULE_BOOL | 5;
pub const BCF_RULE_MODUS_PONENS: u16 = BCF_RULE_BOOL | 6;
pub const BCF_RULE_NOT_NOT_ELIM: u16 = BCF_RULE_BOOL | 7;
pub const BCF_RULE_CONTRA: u16 = BCF_RULE_BOOL | 8;
pub const BCF_RULE_AND_ELIM: u16 = BCF_RULE_BOOL | 9;
pub const BCF_RULE_AND_INTRO: u16 = BCF_RULE_BOOL | 10;
pub const BCF_RULE_NOT_OR_ELIM: u16 = BCF_RULE_BOOL | 11;
pub const BCF_RULE_IMPLIES_ELIM: u16 = BCF_RULE_BOOL | 12;
pub const BCF_RULE_NOT_IMPLIES_ELIM: u16 = BCF_RULE_BOOL | 13;
pub const BCF_RULE_EQUIV_ELIM: u16 = BCF_RULE_BOOL | 14;
pub const BCF_RULE_NOT_EQUIV_ELIM: u16 = BCF_RULE_BOOL | 15;
pub const BCF_RULE_XOR_ELIM: u16 = BCF_RULE_BOOL | 16;
pub const BCF_RULE_NOT_XOR_ELIM: u16 = BCF_RULE_BOOL | 17;
pub const BCF_RULE_ITE_ELIM: u16 = BCF_RULE_BOOL | 18;
pub const BCF_RULE_NOT_ITE_ELIM: u16 = BCF_RULE_BOOL | 19;
pub const BCF_RULE_NOT_AND: u16 = BCF_RULE_BOOL | 20;
pub const BCF_RULE_CNF_AND_POS: u16 = BCF_RULE_BOOL | 21;
pub const BCF_RULE_CNF_AND_NEG: u16 = BCF_RULE_BOOL | 22;
pub const BCF_RULE_CNF_OR_POS: u16 = BCF_RULE_BOOL | 23;
pub const BCF_RULE_CNF_OR_NEG: u16 = BCF_RULE_BOOL | 24;
pub const BCF_RULE_CNF_IMPLIES_POS: u16 = BCF_RULE_BOOL | 25;
pub const BCF_RULE_CNF_IMPLIES_NEG: u16 = BCF_RULE_BOOL | 26;
pub const BCF_RULE_CNF_EQUIV_POS: u16 = BCF_RULE_BOOL | 27;
pub const BCF_RULE_CNF_EQUIV_NEG: u16 = BCF_RULE_BOOL | 28;
pub const BCF_RULE_CNF_XOR_POS: u16 = BCF_RULE_BOOL | 29;
pub const BCF_RULE_CNF_XOR_NEG: u16 = BCF_RULE_BOOL | 30;
pub const BCF_RULE_CNF_ITE_POS: u16 = BCF_RULE_BOOL | 31;
pub const BCF_RULE_CNF_ITE_NEG: u16 = BCF_RULE_BOOL | 32;
pub const BCF_RULE_ITE_EQ: u16 = BCF_RULE_BOOL | 33;
pub const BCF_RULE_BITBLAST: u16 = BCF_RULE_BV | 1;
pub const BCF_RULE_POLY_NORM: u16 = BCF_RULE_BV | 2;
pub const BCF_RULE_POLY_NORM_EQ: u16 = BCF_RULE_BV | 3;
