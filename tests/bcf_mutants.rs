//! What passes, follows: the prover's proofs are damaged, and each step that the checker still lets pass is judged by evaluation,
//! on its own where the premises contradict each other. `examples/bcf_mutants` does the same with proofs of files, and reports more.

#[path = "../examples/bcf_mutants/judge.rs"]
mod judge;
#[path = "../examples/bcf_mutants/mutate.rs"]
mod mutate;

use bpftwin::bcf::checker::{Policy, check, rules};
use bpftwin::bcf::eval::Evaluator;
use bpftwin::bcf::expr::{Arena, ExprId};
use bpftwin::bcf::prover::{Limits, Verdict, prove};
use bpftwin::bcf::smtlib;
use bpftwin_uapi::bcf::*;
use judge::{Judge, judge_step};
use mutate::{Random, mutate};

/// Conditions without a model whose proofs, together, apply most rules. `a` to `d` have 16 bits.
const CONDITIONS: &[&str] = &[
    "(bvult (bvadd a #x0001) #x0001) (bvult a #x00ff)",
    "(bvugt (bvand a #x000f) #x000b) (bvuge (bvsub #x000f (bvand a #x000f)) #x0004)",
    "(not (= (bvadd (bvmul a #x0004) a) (bvmul #x0005 a)))",
    "(bvslt (bvadd ((_ sign_extend 16) a) #x00008000) #x00000000)",
    "(bvugt (bvlshr a #x0004) #x0fff)",
    "(not (= (bvxor a b a) b))",
    "(bvult a b) (bvult b c) (bvult c a)",
    "(or (bvugt a #x0010) (= a #x0003)) (bvule a #x0010) (distinct a #x0003)",
    "(= (concat a b) (concat c d)) (not (and (= a c) (= b d)))",
    "(bvugt (ite (bvult a b) a b) a)",
    "(= ((_ extract 7 0) a) #x7f) (= (bvand a #x00ff) #x0000) (bvult a #x0100)",
    "(bvult (bvshl a (bvand b #x0003)) a) (bvult a #x0100)",
];

fn prove_text(assertions: &str) -> Vec<u32> {
    let variables = ["a", "b", "c", "d"].map(|name| format!("(declare-const {name} (_ BitVec 16))"));
    let script = format!("(set-logic QF_BV){}(assert (and true {assertions}))", variables.concat());
    let condition = smtlib::parse(script.as_bytes()).unwrap_or_else(|error| panic!("{assertions}: {error}"));
    let limits = Limits { effort: std::time::Duration::ZERO, ..Limits::default() };
    match prove(&condition.arena, condition.root, &limits) {
        Verdict::Proved(words) => words,
        other => panic!("{assertions}: {other:?}"),
    }
}

/// Judges a proof and its mutants; how many steps were seen to follow.
fn judge_mutants(original: &[u32], mutants: u64, seed: u64) -> u64 {
    let (mut judge, mut random) = (Judge::new(seed), Random(seed));
    for mutant in 0..=mutants {
        let mut words = original.to_vec();
        let damage = (mutant > 0).then(|| mutate(&mut words, &mut random));
        for policy in [Policy::Strict, Policy::Reference] {
            if let Err(unsound) = judge.judge(&words, policy) {
                let damage = damage.map_or("unchanged".to_owned(), |damage| damage.to_string());
                panic!("{policy:?}, {damage}: {unsound}\n{words:x?}");
            }
        }
    }
    judge.tally.tested
}

#[test]
fn what_passes_follows() {
    let mut tested = 0;
    for (assertions, seed) in CONDITIONS.iter().zip(1..) {
        let proof = prove_text(assertions);
        check(&proof, None, Policy::Strict).expect("a proof");
        tested += judge_mutants(&proof, 250, seed);
    }
    assert!(tested > 2000, "{tested} steps");
}

/// The judge itself: it finds values for which a wrong step is wrong, and none for which a right one is.
#[test]
fn the_judge_sees_what_is_wrong() {
    let mut arena = Arena::new();
    let [p, q, r] = [(); 3].map(|()| arena.bool_var());
    let [x, y, z] = [(); 3].map(|()| arena.bv_var(32));
    let [not_p, not_r] = [p, r].map(|id| arena.not(id));
    let mut or = |args: &[ExprId]| arena.intern(BCF_BOOL_OR, 0, args);
    let (pq, not_p_r, qr, q_not_r) = (or(&[p, q]), or(&[not_p, r]), or(&[q, r]), or(&[q, not_r]));
    let mut eq = |x, y| arena.eq(x, y);
    let (xy, yz, xz, zx) = (eq(x, y), eq(y, z), eq(x, z), eq(z, x));
    let (fx, fy) = (arena.intern(BCF_BV_NOT, 32, &[x]), arena.intern(BCF_BV_NOT, 32, &[y]));
    let minus_y = arena.intern(BCF_BV_NEG, 32, &[y]);
    let (same, other) = (arena.eq(fx, fy), arena.eq(fx, minus_y));
    for (rule, premises, right, wrong) in [
        (BCF_RULE_RESOLUTION, &[pq, not_p_r][..], qr, q_not_r),
        (BCF_RULE_TRANS, &[xy, yz], xz, not_p),
        (BCF_RULE_SYMM, &[xz], zx, xy),
        (BCF_RULE_CONG, &[xy], same, other),
        (BCF_RULE_AND_INTRO, &[xy], xy, yz),
    ] {
        // No assignment is given: all has to come from the form of the step.
        let judge = |fact| judge_step(&arena, rule, premises, fact, &mut [], 24, &mut Random(1));
        assert_eq!(judge(right).ok(), Some(true), "{}", rules::name(rule));
        assert!(judge(wrong).is_err(), "{}", rules::name(rule));
    }
    // A step without premises is judged by assignments alone.
    let mut evaluator = Evaluator::new();
    for (id, bits) in [(p, 0), (q, 0), (r, 0), (x, 7), (y, 8), (z, 9)] {
        evaluator.assign(id, judge::value(&arena, id, [bits; 4]));
    }
    let judge = |fact| {
        judge_step(&arena, BCF_RULE_REFL, &[], fact, &mut [evaluator.clone()], 24, &mut Random(1)).ok()
    };
    assert_eq!([judge(not_p), judge(same), judge(pq), judge(x)], [Some(true), None, None, None]);
}
