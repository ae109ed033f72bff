//! Programs that sound conditions accept, and the published ones do not ask about: numbers and accesses without a bound.

use bpftwin::exec::{Program, Search, Stop};
use bpftwin::verifier::bcf::Options;
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{HelperId, Insn};

use crate::insns::*;
use crate::{listing, one_map, verify};

/// Accepted with `proofs` proofs if they are sound, not at all if they are as published; no run makes a bad access.
fn assert_saved(body: &[Insn], proofs: usize) {
    let insns = program(body);
    let objects = one_map();
    let (published, _) = verify(&objects, &insns, Options::default(), 40);
    assert!(published.result.is_err(), "accepted\n{}", listing(&insns));
    let (outcome, taken) = verify(&objects, &insns, Options { auto: true, ..Options::default() }, 40);
    assert_eq!((outcome.result, taken), (Ok(()), proofs), "\n{}", listing(&insns));
    let checked = Program::new(&outcome);
    let mut search = Search::new(&checked, 1);
    for _ in 0..2000 {
        let stop = search.run(1000).0;
        assert!(matches!(stop, Stop::Exit(_)), "{stop}\n{}", listing(&insns));
    }
}

fn assert_rejected(body: &[Insn]) {
    let insns = program(body);
    let (outcome, _) = verify(&one_map(), &insns, Options { auto: true, ..Options::default() }, 40);
    assert!(outcome.result.is_err(), "accepted\n{}", listing(&insns));
}

/// B is A - 1, which the verifier has forgotten, four times over; A is at most `max` and not zero.
fn decremented_index(max: i32) -> Vec<Insn> {
    vec![
        field(A, MARK),
        leave(BPF_JMP, BPF_JGT, A, max),
        mov_reg(B, A),
        alu(BPF_MUL, B, 1),
        alu(BPF_ADD, B, -1),
        leave(BPF_JMP, BPF_JEQ, A, 0),
        alu(BPF_LSH, B, 2),
        alu_reg(BPF_ADD, VALUE, B),
        read_byte(VALUE),
    ]
}

/// `bpf_skb_load_bytes` of A - 1 bytes to the 16 at FP - 16, where A is not zero and at most `max`.
fn decremented_size(max: i32) -> Vec<Insn> {
    vec![
        field(A, PRIORITY),
        mov_reg(R4, A),
        alu(BPF_MUL, R4, 1),
        alu(BPF_ADD, R4, -1),
        leave(BPF_JMP, BPF_JLE, A, 1),
        leave(BPF_JMP, BPF_JGT, A, max),
        mov_reg(R1, CTX),
        mov(R2, 0),
        mov_reg(R3, FP),
        alu(BPF_ADD, R3, -16),
        call(HelperId::SkbLoadBytes),
    ]
}

/// The number that the pointer is moved by first, then the access.
#[test]
fn a_number_without_a_bound() {
    assert_saved(&decremented_index(14), 2);
    assert_rejected(&decremented_index(18));
}

/// The size's range, and then what is left of the stack: two proofs for one instruction.
#[test]
fn a_size_that_may_be_negative() {
    assert_saved(&decremented_size(17), 2);
    assert_rejected(&decremented_size(18));
}

/// A symbolic run comes by an instruction that was refined twice.
#[test]
fn a_path_behind_two_proofs_for_one_instruction() {
    let mut body = decremented_size(17);
    body.extend(decremented_index(14));
    assert_saved(&body, 4);
}
