//! Programs that the published conditions accept, and that make a bad access: where these say too little. Sound conditions must not
//! accept them. Each program is about one place of `docs/bcf.md`.

use bpftwin::exec::{Program, Search, Stop};
use bpftwin::verifier::bcf::Options;
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{HelperId, Insn};

use crate::generator::VALUE_SIZE;
use crate::insns::*;
use crate::{listing, one_map, verify};

/// Only the published conditions accept the program; it makes a bad access.
fn assert_unsound(body: &[Insn]) {
    let insns = program(body);
    let objects = one_map();
    let (published, proofs) = verify(&objects, &insns, Options::default(), 40);
    assert!(published.result.is_ok(), "rejected after {proofs} proofs\n{}", listing(&insns));
    let checked = Program::new(&published);
    let mut search = Search::new(&checked, 1);
    let is_bad = (0..20_000).any(|_| matches!(search.run(1000).0, Stop::BadAccess(_)));
    assert!(is_bad, "no bad access found\n{}", listing(&insns));
    for whole_path in [false, true] {
        let options = Options { auto: true, whole_path, ..Options::default() };
        let (sound, _) = verify(&objects, &insns, options, 40);
        assert!(sound.result.is_err(), "accepted\n{}", listing(&insns));
    }
}

/// One value is not 5 and another is: that is no contradiction.
#[test]
fn two_variables_are_not_one() {
    assert_unsound(&[
        field(A, MARK),
        field(B, PRIORITY),
        leave(BPF_JMP32, BPF_JEQ, A, 5),
        leave(BPF_JMP32, BPF_JNE, B, 5),
        read_byte(A),
    ]);
}

/// B is A + 10 and at least 10: that is not known of A.
#[test]
fn a_register_at_a_distance_has_an_expression_of_its_own() {
    assert_unsound(&[
        field(A, MARK),
        alu(BPF_AND, A, 0xff),
        mov_reg(B, A),
        alu(BPF_ADD, B, 10),
        leave(BPF_JMP, BPF_JGT, B, 20),
        leave(BPF_JMP, BPF_JGT, A, 5),
        read_byte(A),
    ]);
}

/// The upper half of 2^31 is zero, so bits that are shifted in are zeros.
#[test]
fn a_half_does_not_tell_what_an_arithmetic_shift_brings_in() {
    assert_unsound(&[
        field(A, MARK),
        alu(BPF_ARSH, A, 1),
        Insn::new(BPF_JMP | BPF_JSET | BPF_K, A, 0, 1, 0x4000_0000),
        Insn::new(BPF_JMP | BPF_JA, 0, 0, i16::MAX, 0),
        leave(BPF_JMP, BPF_JGT, A, i32::MAX),
        read_byte(A),
    ]);
}

/// Offset and size are 31 bits each, their sum is not.
#[test]
fn the_sum_of_two_halves_may_not_fit() {
    assert_unsound(&[
        field(A, MARK),
        alu(BPF_AND, A, i32::MAX),
        mov_reg(B, A),
        alu(BPF_AND, B, 0x7fff_ff00),
        leave(BPF_JMP, BPF_JNE, B, 0x7fff_ff00),
        field(R2, PRIORITY),
        alu(BPF_AND, R2, 0x1fc),
        alu(BPF_OR, R2, 0x100),
        alu_reg(BPF_ADD, VALUE, A),
        mov_reg(R1, VALUE),
        mov(R3, 0),
        mov(R4, 0),
        mov(R5, 0),
        call(HelperId::CsumDiff),
    ]);
}

/// A is followed as -1 and as 0; the history does not tell which.
#[test]
fn a_value_that_is_split_is_not_the_other_half() {
    assert_unsound(&[
        field(B, PRIORITY),
        leave(BPF_JMP, BPF_JLT, B, 40),
        leave(BPF_JMP, BPF_JGT, B, 40 + VALUE_SIZE as i32 - 1),
        field(A, MARK),
        alu(BPF_LSH, A, 32),
        alu(BPF_ARSH, A, 63),
        alu(BPF_AND, A, 40),
        alu_reg(BPF_SUB, B, A),
        alu_reg(BPF_ADD, VALUE, B),
        read_byte(VALUE),
    ]);
}

/// A condition that builds on A being 0 does not hold for all that the checkpoint stands for.
#[test]
fn a_checkpoint_stands_for_other_values_of_what_is_not_precise() {
    let mut body = vec![
        field(R1, CB),
        field(R2, CB + 4),
        field(R3, CB + 8),
        mov(A, -100),
        jump(BPF_JMP, BPF_JEQ, R1, 7, 1),
        mov(A, 0),
        leave(BPF_JMP, BPF_JEQ, R3, 7),
    ];
    // Checkpoints are made after eight instructions and two jumps.
    body.extend([mov(R0, 0); 8]);
    body.extend([
        leave(BPF_JMP, BPF_JEQ, R2, 7),
        field(R1, MARK),
        mov_reg(B, R1),
        alu(BPF_AND, B, 0xff),
        alu(BPF_AND, R1, 0xff),
        alu_reg(BPF_ADD, B, A),
        leave(BPF_JMP, BPF_JGT, B, 10),
        leave(BPF_JMP, BPF_JLE, R1, 10),
        // What is wanted of the path is R1 alone.
        mov(R0, 0),
        mov(A, 0),
        mov(B, 0),
        mov(R2, 0),
        mov(R3, 0),
        read_byte(R1),
    ]);
    assert_unsound(&body);
}
