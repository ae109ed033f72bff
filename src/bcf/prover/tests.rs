use bpftwin_uapi::bcf::*;
use proptest::prelude::*;

use super::{Limits, Verdict, prove};
use crate::bcf::eval::{Bv, Evaluator, Value};
use crate::bcf::expr::{Arena, ExprId};

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
    // 40-bit factors of a prime: no proof in a moment.
    let mut arena = Arena::new();
    let params = 64;
    let [x, y] = [arena.bv_var(32), arena.bv_var(32)]
        .map(|factor| arena.intern(BCF_BV_ZERO_EXTEND, 32 << 8 | params, &[factor]));
    let product = arena.intern(BCF_BV_MUL, params, &[x, y]);
    let prime = arena.bv_const(64, 0xffff_fff0_0000_0037);
    let mut parts = vec![arena.eq(product, prime)];
    for factor in [x, y] {
        let one = arena.bv_const(64, 1);
        parts.push(arena.intern(BCF_BOOL_UGT, 0, &[factor, one]));
    }
    let root = arena.intern(BCF_BOOL_AND, 0, &parts);
    let moment = Limits { timeout: std::time::Duration::from_millis(300), ..Limits::default() };
    assert!(matches!(prove(&arena, root, &moment), Verdict::Unknown(_)));
    let small = Limits { memory: 1 << 16, ..moment };
    assert!(matches!(prove(&arena, root, &small), Verdict::Unknown(_)));
}
