use bpftwin_uapi::bcf::*;
use proptest::prelude::*;

use super::builder::{self, Builder};
use super::norm::Normaliser;
use super::{Limits, Verdict, prove};
use crate::bcf::checker::{self, Policy};
use crate::bcf::eval::{Bv, Evaluator, Value};
use crate::bcf::expr::{Arena, ExprId};
use crate::bcf::smtlib::{self, Script};

const WIDTH: u8 = 3;

/// Bytes read as instructions that build terms of three bits over two variables; every sequence means something.
fn build(code: &[u8]) -> (Arena, [ExprId; 2], ExprId) {
    let mut arena = Arena::new();
    let variables = [arena.bv_var(WIDTH), arena.bv_var(WIDTH)];
    let mut terms = variables.to_vec();
    let mut formulas: Vec<ExprId> = vec![arena.truth(true)];
    let params = u16::from(WIDTH);
    for &[op, x, y] in code.as_chunks::<3>().0 {
        let pick = |list: &[ExprId], at: u8| list[usize::from(at) % list.len()];
        let (s, t) = (pick(&terms, x), pick(&terms, y));
        let (f, g) = (pick(&formulas, x), pick(&formulas, y));
        let extended = |arena: &mut Arena, code, extension: u8| {
            let head = u16::from(extension) << 8 | u16::from(WIDTH + extension);
            let wide = arena.intern(code, head, &[s]);
            let high = x % (extension + 1) + WIDTH - 1;
            arena.intern(BCF_BV_EXTRACT, u16::from(high) << 8 | u16::from(high + 1 - WIDTH), &[wide])
        };
        const BINARY: [u8; 10] = [
            BCF_BV_ADD,
            BCF_BV_SUB,
            BCF_BV_MUL,
            BCF_BV_OR,
            BCF_BV_AND,
            BCF_BV_XOR,
            BCF_BV_SHL,
            BCF_BV_LSHR,
            BCF_BV_ASHR,
            BCF_BV_ADD,
        ];
        const COMPARISONS: [u8; 10] = [
            BCF_BOOL_EQ,
            BCF_BOOL_DISTINCT,
            BCF_BOOL_UGT,
            BCF_BOOL_UGE,
            BCF_BOOL_ULT,
            BCF_BOOL_ULE,
            BCF_BOOL_SGT,
            BCF_BOOL_SGE,
            BCF_BOOL_SLT,
            BCF_BOOL_SLE,
        ];
        const JUNCTIONS: [u8; 5] = [BCF_BOOL_AND, BCF_BOOL_OR, BCF_BOOL_IMPLIES, BCF_BOOL_EQ, BCF_BOOL_XOR];
        match op % 40 {
            at @ 0..10 => terms.push(arena.intern(BINARY[usize::from(at)], params, &[s, t])),
            10..14 => terms.push(arena.bv_const(WIDTH, x.into())),
            14 => terms.push(arena.intern(BCF_BV_NEG, params, &[s])),
            15 => terms.push(arena.intern(BCF_BV_NOT, params, &[s])),
            16 => terms.push(extended(&mut arena, BCF_BV_ZERO_EXTEND, 1 + y % 4)),
            17 => terms.push(extended(&mut arena, BCF_BV_SIGN_EXTEND, 1 + y % 4)),
            18 => terms.push(arena.intern(BCF_BV_ITE, params, &[f, s, t])),
            at @ 20..30 => formulas.push(arena.intern(COMPARISONS[usize::from(at - 20)], 0, &[s, t])),
            at @ 30..35 => formulas.push(arena.intern(JUNCTIONS[usize::from(at - 30)], 0, &[f, g])),
            35 => formulas.push(arena.not(f)),
            36 => formulas.push(arena.intern(BCF_BOOL_ITE, 0, &[f, g, pick(&formulas, x ^ y)])),
            _ => {}
        }
    }
    let last: Vec<ExprId> = formulas.iter().rev().take(3).copied().collect();
    let root = match last[..] {
        [only] => only,
        _ => arena.intern(BCF_BOOL_AND, 0, &last),
    };
    (arena, variables, root)
}

fn has_model(arena: &Arena, variables: [ExprId; 2], root: ExprId) -> bool {
    (0..1u64 << (2 * WIDTH)).any(|values| {
        let mut evaluator = Evaluator::new();
        evaluator.assign(variables[0], Value::Bv(Bv::new(WIDTH, values)));
        evaluator.assign(variables[1], Value::Bv(Bv::new(WIDTH, values >> WIDTH)));
        evaluator.eval_bool(arena, root) == Some(true)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Proved exactly when no assignment of the variables satisfies it; a model satisfies it.
    #[test]
    fn verdicts_are_those_of_all_assignments(code in prop::collection::vec(any::<u8>(), 12..90)) {
        let (arena, variables, root) = build(&code);
        match prove(&arena, root, &Limits { effort: std::time::Duration::ZERO, ..Limits::default() }) {
            Verdict::Proved(_) => prop_assert!(!has_model(&arena, variables, root)),
            Verdict::Refuted(model) => {
                let mut evaluator = Evaluator::new();
                model.values.iter().for_each(|&(variable, value)| evaluator.assign(variable, value));
                prop_assert_eq!(evaluator.eval_bool(&arena, root), Some(true));
            }
            Verdict::Unknown(why) => prop_assert!(false, "{}", why),
        }
    }
}

#[test]
fn limits_give_a_clear_unknown() {
    // The factors of a prime of 62 bits: no proof in a moment.
    let mut arena = Arena::new();
    let params = 64;
    let [x, y] = [arena.bv_var(32), arena.bv_var(32)]
        .map(|factor| arena.intern(BCF_BV_ZERO_EXTEND, 32 << 8 | params, &[factor]));
    let product = arena.intern(BCF_BV_MUL, params, &[x, y]);
    let prime = arena.bv_const(64, (1 << 62) - 57);
    let mut parts = vec![arena.eq(product, prime)];
    for factor in [x, y] {
        let one = arena.bv_const(64, 1);
        parts.push(arena.intern(BCF_BOOL_UGT, 0, &[factor, one]));
    }
    let root = arena.intern(BCF_BOOL_AND, 0, &parts);
    let moment = Limits { timeout: std::time::Duration::from_millis(200), ..Limits::default() };
    assert!(matches!(prove(&arena, root, &moment), Verdict::Unknown(_)));
    let small = Limits { memory: 1 << 16, ..moment };
    assert!(matches!(prove(&arena, root, &small), Verdict::Unknown(_)));
}

/// Formulas and their normal forms, over `x`, `y` of 32 and `a` of 8 bits.
const NORMAL_FORMS: &[(&str, &str)] = &[
    ("(bvugt x y)", "(bvult y x)"),
    ("(bvsge x y)", "(not (bvslt x y))"),
    ("(distinct x #x00000007)", "(not (= x #x00000007))"),
    ("(bvult x #x00000000)", "false"),
    ("(bvult #xffffffff (bvmul x y))", "false"),
    ("(bvugt x #x00000000)", "(not (= x #x00000000))"),
    ("(bvult x #x00000001)", "(= x #x00000000)"),
    ("(= #x00000007 x)", "(= x #x00000007)"),
    ("(= (bvsub ((_ zero_extend 24) a) #x00000073) #x00000000)", "(= ((_ zero_extend 24) a) #x00000073)"),
    ("(bvult ((_ zero_extend 24) a) #x00000010)", "(bvult a #x10)"),
    ("(= (bvadd x (bvadd y #x00000001)) (bvadd y #x00000003))", "(= x #x00000002)"),
    ("(= (bvshl (bvadd x #x00000001) #x00000001) (bvadd x x))", "false"),
    ("(bvult (bvsub (bvadd x y) y) #x00000005)", "(bvult x #x00000005)"),
    ("(bvult (bvand (bvand x #x000000ff) #x0000000f) #x00000008)", "(bvult ((_ extract 3 0) x) #x8)"),
    ("(= (bvand ((_ zero_extend 24) a) #x000000ff) #x00000001)", "(= ((_ zero_extend 24) a) #x00000001)"),
    ("(bvult (bvand x #x00000000) #x00000001)", "true"),
    ("(and true (or false (bvult x y)))", "(bvult x y)"),
];

#[test]
fn formulas_come_to_their_normal_forms() {
    for (formula, form) in NORMAL_FORMS {
        // One script for both, so that they share their variables.
        let script = format!(
            "(declare-const x (_ BitVec 32))(declare-const y (_ BitVec 32))(declare-const a (_ BitVec 8))
             (assert (= {formula} {form}))"
        );
        let condition = smtlib::parse(script.as_bytes()).unwrap_or_else(|error| panic!("{formula}: {error}"));
        let [formula_id, form_id] =
            condition.arena.match_op(condition.root, BCF_BOOL_EQ).expect("an equality");
        let mut b = Builder::new(condition.arena, usize::MAX);
        let equation = Normaliser::new(true).norm(&mut b, formula_id);
        assert_eq!(
            equation.right,
            form_id,
            "{formula} became {}",
            Script { arena: &b.arena, root: equation.right }
        );
        // The equation holds: it contradicts its negation.
        let negated = {
            let equality = b.arena.eq(formula_id, form_id);
            b.arena.not(equality)
        };
        let assumed = b.step(BCF_RULE_ASSUME, &[], &[builder::Param::Expr(negated)]);
        let proved = b.prove(&equation);
        let last = b.step(BCF_RULE_CONTRA, &[proved, assumed], &[]);
        checker::check(&b.write(last), None, Policy::Strict)
            .unwrap_or_else(|error| panic!("{formula}: {error}"));
    }
}

/// Conditions and the bytes that their proofs may take.
const SIZES: &[(&str, usize)] = &[
    ("(and true (= a #x00) (= a #x63))", 152),
    ("(and (= #x53 a) (= #x44 a))", 152),
    ("(and (bvule x #x00000010) (bvugt x #x00000010))", 240),
    ("(and (bvult (bvadd x y) #x00000000) (= a #x00))", 160),
    ("(= ((_ zero_extend 24) a) #xffffffff)", 500),
];

#[test]
fn small_conditions_have_small_proofs() {
    for (formula, most) in SIZES {
        let script = format!(
            "(declare-const x (_ BitVec 32))(declare-const y (_ BitVec 32))(declare-const a (_ BitVec 8))(assert {formula})"
        );
        let condition = smtlib::parse(script.as_bytes()).unwrap_or_else(|error| panic!("{formula}: {error}"));
        match prove(&condition.arena, condition.root, &Limits::default()) {
            Verdict::Proved(words) => {
                assert!(words.len() * 4 <= *most, "{formula}: {} bytes", words.len() * 4)
            }
            other => panic!("{formula}: {other:?}"),
        }
    }
}
