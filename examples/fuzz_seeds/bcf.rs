//! Seeds for the targets of BCF: conditions as text and as requests, and proofs.

use std::time::Duration;

use bpftwin::bcf::expr::{Arena, ExprId};
use bpftwin::bcf::prover::{Limits, Verdict, prove};
use bpftwin::bcf::smtlib::{Condition, parse};

use super::{Error, Seeds};

/// Assertions over `x` and `y` of 64 bits, `s` of 8, and the Booleans `p` and `q`, that have every operator in them.
const ASSERTIONS: &[&str] = &[
    "(and p (not p))",
    "(and (or p q) (or p (not q)) (or (not p) q) (or (not p) (not q)))",
    "(and (= p q) (xor p q) (=> p q))",
    "(not (= (ite p x y) (ite (not p) y x)))",
    "(bvult (bvand x #x000000000000000f) (bvand x y #x000000000000000f (_ bv3 64)))",
    "(and (bvule x #x0000000000000004) (bvugt ((_ extract 31 0) x) #x00000004))",
    "(distinct (bvadd x y) (bvadd y x))",
    "(distinct (bvsub x y) (bvneg (bvsub y x)))",
    "(distinct (bvmul x (_ bv3 64)) (bvadd x x x))",
    "(bvsgt ((_ sign_extend 56) s) (_ bv127 64))",
    "(bvsle ((_ zero_extend 56) s) (_ bv18446744073709551615 64))",
    "(bvuge (bvurem x #x0000000000000008) #x0000000000000008)",
    "(and (bvuge (bvudiv x #x0000000000000002) x) (bvugt x #x0000000000000000))",
    "(bvslt (bvsmod x #x0000000000000010) (bvsrem y (bvsdiv y x)))",
    "(not (= (bvlshr (bvshl x #x0000000000000020) #x0000000000000020) ((_ zero_extend 32) ((_ extract 31 0) x))))",
    "(bvsge (bvashr x #x000000000000003f) #x0000000000000001)",
    "(not (= (concat s s s) ((_ repeat 3) s)))",
    "(= (bvxor x y) (bvor x (bvnot y)) (bvxnor x (bvnor x y)))",
    "(not (= ((_ rotate_left 3) s) ((_ rotate_right 5) s)))",
    "(let ((a (bvcomp x y)) (b (bvnand s s))) (let ((a (ite (= a #b1) b #x00))) (bvult a s)))",
];

const DECLARATIONS: &str = "(set-logic QF_BV)
(declare-fun x () (_ BitVec 64)) (declare-const y (_ BitVec 64)) (declare-const s (_ BitVec 8))
(declare-const p Bool) (declare-const |q| Bool)
(define-fun twice ((a (_ BitVec 8))) (_ BitVec 8) (bvadd a a))
";

/// Refutes `b and not b`: the conjunction is assumed, taken apart, and its parts contradict each other.
pub const CONTRADICTION: &[u32] = &[
    0x0bcf, 6, 11, 0x19, 0x181, 0, 0x201, 0, 1, 0x100_0001, 3, 0x101_2009, 0, 0, 0x101_2009, 0, 1,
    0x002_2008, 1, 2,
];

pub fn all(seeds: &mut Seeds) -> Result<(), Error> {
    seeds.add("bcf_proof", bytemuck::cast_slice(CONTRADICTION))?;
    one(seeds, include_str!("../masked_index.smt2"))?;
    for assertion in ASSERTIONS {
        one(seeds, &format!("{DECLARATIONS}(assert {assertion})\n(check-sat)\n"))?;
    }
    Ok(())
}

/// A condition in all its forms, and its proof if it has one.
fn one(seeds: &mut Seeds, text: &str) -> Result<(), Error> {
    seeds.add("bcf_smtlib", text.as_bytes())?;
    let Condition { arena, root, .. } = parse(text.as_bytes())?;
    let words = words(&arena);
    for target in ["bcf_request", "bcf_prove"] {
        seeds.add(target, bytemuck::cast_slice(&[&words[..], &[u32::MAX, root.0]].concat()))?;
    }
    seeds.add("bcf_request", bytemuck::cast_slice(&[&[root.0], &words[..]].concat()))?;
    let timeout = Duration::from_secs(2);
    if let Verdict::Proved(proof) =
        prove(&arena, root, &Limits { timeout, effort: timeout, ..Limits::default() })
    {
        seeds.add("bcf_proof", bytemuck::cast_slice(&proof))?;
    }
    Ok(())
}

/// All terms as they stand in a file.
fn words(arena: &Arena) -> Vec<u32> {
    let mut words = Vec::new();
    while words.len() < arena.len() {
        words.extend_from_slice(arena.words(ExprId(words.len() as u32)));
    }
    words
}
