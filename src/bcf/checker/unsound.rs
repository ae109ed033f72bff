//! Proofs of false from nothing, which the published checker accepts or would accept: each rests on one step that is wrong.

use super::testing::MiniProof;
use super::testing::Param::{self, Term, Word};
use super::{CheckError, Policy};
use crate::bcf::proof::StepNo;
use bpftwin_uapi::bcf::*;

/// A proof that assumes `true`, and the step that does.
fn from_nothing() -> (MiniProof, StepNo) {
    let mut proof = MiniProof::new();
    let truth = proof.step("ASSUME", &[], &[Term("true")]);
    (proof, truth)
}

/// Concludes false from a wrong equality of two constants, using up the assumption.
fn finish(mut proof: MiniProof, truth: StepNo, wrong: StepNo, [v, w]: [Param<'_>; 2]) -> MiniProof {
    let differ = proof.step("DISTINCT_VALUES", &[], &[v, w]);
    let absurd = proof.step("CONTRA", &[wrong, differ], &[]);
    let both = proof.step("AND_INTRO", &[truth, absurd], &[]);
    proof.step("AND_ELIM", &[both], &[Word(1)]);
    proof
}

#[track_caller]
fn is_rejected_for(proof: &MiniProof, wrong: &str) {
    for policy in [Policy::Strict, Policy::Reference] {
        match proof.check(policy) {
            Err(CheckError::Step { rule, .. }) => assert_eq!(rule, wrong, "{policy:?}"),
            other => panic!("{policy:?}: {other:?}"),
        }
    }
}

/// The way from a wrong equality to false is open: with a right one in its place the proof fails only there.
#[test]
fn the_rest_of_these_proofs_is_right() {
    let (mut proof, truth) = from_nothing();
    let equal = proof.step("EVALUATE", &[], &[Term("(bvadd #1:8 #1:8)")]);
    let proof = finish(proof, truth, equal, [Term("#1:8"), Term("#2:8")]);
    is_rejected_for(&proof, "CONTRA");
}

#[test]
fn cong_makes_constants_of_ids() {
    let (mut proof, truth) = from_nothing();
    let (sum, two) = (proof.term("(bvadd #1:8 #1:8)").0, proof.term("#2:8").0);
    let equal = proof.step("EVALUATE", &[], &[Term("(bvadd #1:8 #1:8)")]);
    let header = u32::from(BCF_BV_CONST) | 1 << 8 | 32 << 16;
    let wrong = proof.step("CONG", &[equal], &[Word(header)]);
    let (sum, two) = (format!("#{sum}:32"), format!("#{two}:32"));
    let proof = finish(proof, truth, wrong, [Term(&sum), Term(&two)]);
    is_rejected_for(&proof, "CONG");
}

/// Values of both sides, and between them a wrong equality.
fn by_values(rule: &str, [x, y]: [&str; 2], values: [&str; 2]) -> MiniProof {
    let (mut proof, truth) = from_nothing();
    let wrong = proof.step(rule, &[], &[Term(&format!("(= {x} {y})"))]);
    let x = proof.step("EVALUATE", &[], &[Term(x)]);
    let x = proof.step("SYMM", &[x], &[]);
    let y = proof.step("EVALUATE", &[], &[Term(y)]);
    let wrong = proof.step("TRANS", &[x, wrong, y], &[]);
    finish(proof, truth, wrong, values.map(Term))
}

#[test]
fn aci_norm_swaps_the_parts_of_a_concatenation() {
    let proof = by_values("ACI_NORM", ["(concat #1:8 #2:8)", "(concat #2:8 #1:8)"], ["#258:16", "#513:16"]);
    is_rejected_for(&proof, "ACI_NORM");
}

#[test]
fn aci_norm_sorts_the_arguments_of_a_lone_argument() {
    let sides = ["(or (bvult #1:8 #2:8) false)", "(or (bvult #2:8 #1:8) false)"];
    is_rejected_for(&by_values("ACI_NORM", sides, ["true", "false"]), "ACI_NORM");
}

#[test]
fn absorb_needs_the_constant() {
    is_rejected_for(&by_values("ABSORB", ["(bvand #3:8 #1:8)", "#0:8"], ["#1:8", "#0:8"]), "ABSORB");
}

#[test]
fn distinct_values_takes_lists_for_constants() {
    let (mut proof, truth) = from_nothing();
    let equal = proof.step("EVALUATE", &[], &[Term("(bvadd #1:8 #1:8)")]);
    let equal = proof.step("CONG", &[equal], &[Word(u32::from(BCF_LIST_VAL) | 1 << 8)]);
    let lists = [Term("(list bv (bvadd #1:8 #1:8))"), Term("(list bv #2:8)")];
    let proof = finish(proof, truth, equal, lists);
    is_rejected_for(&proof, "CONG");
}

#[test]
fn xor_elim_of_three() {
    let (mut proof, truth) = from_nothing();
    let xor = proof.step("EVALUATE", &[], &[Term("(xor true true true)")]);
    let xor = proof.step("TRUE_ELIM", &[xor], &[]);
    let wrong = proof.step("XOR_ELIM", &[xor], &[Word(1)]);
    let wrong = proof.step("FACTORING", &[wrong], &[Word(u32::from_ne_bytes([2, 0, 1, 0]))]);
    proof.step("CONTRA", &[truth, wrong], &[]);
    is_rejected_for(&proof, "XOR_ELIM");
}
