//! Printed conditions mean what they meant; text means what SMT-LIB says.

use bpftwin_uapi::bcf::*;

use super::{Condition, Script, parse};
use crate::bcf::eval::{Bv, Evaluator, Value};
use crate::bcf::expr::{Arena, ExprId, MAX_CONST_WIDTH, OPS};

/// A generator of numbers, good enough to choose by (splitmix64).
struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let x = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let x = (x ^ x >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ x >> 31
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound.max(1) as u64) as usize
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn value(&mut self, arena: &Arena, id: ExprId) -> Value {
        match arena.width(id) {
            0 => Value::Bool(self.next() & 1 != 0),
            width => {
                let bits: Vec<bool> = (0..width).map(|_| self.next() & 1 != 0).collect();
                Value::Bv(Bv::from_bits(bits.into_iter()))
            }
        }
    }
}

/// Grows random terms by trying random headers over random terms, and takes what is well typed.
fn random_condition(rng: &mut Rng) -> (Arena, ExprId) {
    let mut arena = Arena::new();
    let widths: Vec<u8> = (0..3).map(|_| rng.pick(&[1, 1, 2, 3, 8, 32, 33, 64, 100])).collect();
    let mut pool: Vec<ExprId> = vec![arena.truth(true), arena.truth(false)];
    for &width in &widths {
        pool.push(arena.bv_var(width));
        pool.push(arena.bv_var(width));
        let value = rng.next();
        pool.push(arena.bv_const(width.min(MAX_CONST_WIDTH), value));
        pool.push(arena.bool_var());
    }
    while pool.len() < 60 {
        let op = &OPS[rng.below(OPS.len())];
        if op.code & 7 == BCF_LIST || op.max_args == 0 {
            continue;
        }
        let extra = if op.max_args > op.min_args { rng.below(3) } else { 0 };
        let args: Vec<ExprId> = (0..usize::from(op.min_args) + extra)
            .map(|_| pool[pool.len() - 1 - rng.below(pool.len())])
            .collect();
        let width = arena.width(args[0]);
        let sum: u32 = args.iter().map(|&arg| u32::from(arena.width(arg))).sum();
        let by = rng.below(8) as u8;
        let packed = |high: u8, low: u8| u16::from(high) << 8 | u16::from(low);
        let params = match op.code {
            BCF_BV_EXTRACT => packed(rng.next() as u8, by),
            BCF_BV_SIGN_EXTEND | BCF_BV_ZERO_EXTEND => packed(by, width.wrapping_add(by)),
            BCF_BV_REPEAT => packed(by, width.wrapping_mul(by)),
            BCF_BV_CONCAT => sum as u16,
            BCF_BV_FROM_BOOL => 0,
            BCF_BV_ITE => arena.width(args[1]).into(),
            BCF_BOOL_BIT_OF => by.into(),
            code if code & 7 == BCF_BOOL => 0,
            _ => width.into(),
        };
        if let Ok(term) = arena.add(op.code, params, &args) {
            pool.push(term);
        }
    }
    let booleans: Vec<ExprId> = pool.into_iter().filter(|&id| arena.is_bool(id)).collect();
    let root = arena.intern(BCF_BOOL_XOR, 0, &booleans[booleans.len().saturating_sub(6)..]);
    (arena, root)
}

#[test]
fn printed_conditions_are_equivalent() {
    let mut rng = Rng(1);
    let mut codes = rustc_hash::FxHashSet::default();
    for _ in 0..500 {
        let (arena, root) = random_condition(&mut rng);
        codes.extend(arena.reachable(&[root]).iter().map(|&id| arena.code(id)));
        let text = Script { arena: &arena, root }.to_string();
        let Condition { arena: reread, root: reread_root, variables } =
            parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}\n{text}"));
        for _ in 0..8 {
            let (mut ours, mut theirs) = (Evaluator::new(), Evaluator::new());
            for id in arena.reachable(&[root]).into_iter().filter(|&id| arena.is_variable(id)) {
                ours.assign(id, rng.value(&arena, id));
            }
            for (name, id) in &variables {
                let original = ExprId(name[1..].parse().expect("a number"));
                theirs.assign(*id, ours.eval(&arena, original).expect("assigned"));
            }
            let expected = ours.eval_bool(&arena, root);
            assert!(expected.is_some());
            assert_eq!(theirs.eval_bool(&reread, reread_root), expected, "{text}");
        }
    }
    let missing: Vec<&str> = OPS
        .iter()
        .filter(|op| op.code != BCF_LIST_VAL && !codes.contains(&op.code))
        .map(|op| op.name)
        .collect();
    assert!(missing.is_empty(), "not drawn: {missing:?}");
}

/// Evaluates a closed condition.
fn truth(text: &str) -> bool {
    let condition = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"));
    Evaluator::new().eval_bool(&condition.arena, condition.root).expect("closed")
}

#[test]
fn text_means_what_smt_lib_says() {
    for term in [
        "(= #xff (_ bv255 8) #b11111111)",
        "(distinct #x1 #x2 #x3)",
        "(not (distinct #x1 #x2 #x1))",
        "(=> false false false)",
        "(not (=> true true false))",
        "(= (bvnand #xc #xa) #x7)",
        "(= (bvnor #xc #xa) #x1)",
        "(= (bvxnor #xc #xa) #x9)",
        "(= (bvcomp #xc #xc) #b1)",
        "(= (bvcomp #xc #xd) #b0)",
        "(= (bvsrem #xf9 #x03) #xff)",
        "(= (bvsrem #x07 #xfd) #x01)",
        "(= (bvsrem #x87 #x00) #x87)",
        "(= (bvsrem #x80 #xff) #x00)",
        "(= ((_ rotate_left 9) #x81) #x03)",
        "(= ((_ rotate_right 1) #x81) #xc0)",
        "(= ((_ rotate_right 8) #x81) #x81)",
        "(= ((_ repeat 3) #xa) #xaaa)",
        "(= (bvadd #x1 #x2 #x3 #xf) #x5)",
        "(= ((_ extract 79 72) #x123456789abcdef01234) #x12)",
        "(= (_ bv36893488147419103233 68) #x20000000000000001)",
        "(let ((x #x1) (y #x2)) (let ((x y) (y x)) (and (= x #x2) (= y #x1))))",
        "(let ((|let| true)) |let|)",
        "(! (= #x1 #x1) :named here :pattern (a b))",
        "(and true)",
    ] {
        assert!(truth(&format!("(set-logic QF_BV) ; a comment\n(assert {term})(check-sat)")), "{term}");
    }
    assert!(!truth(
        "(assert true) (set-info :source |(|) (echo \"a \"\"(\") (assert false) (exit) what follows"
    ));
    assert!(truth(
        "(define-fun twice ((x (_ BitVec 8))) (_ BitVec 8) (bvadd x x))
         (define-fun four () (_ BitVec 8) (twice (twice #x01)))
         (define-const |a name| Bool (= four #x04))
         (assert |a name|)"
    ));
}

#[test]
fn variables_keep_their_names() {
    let text =
        "(declare-fun |r 0| () (_ BitVec 64)) (declare-const b Bool) (assert (or b (bvult |r 0| |r 0|)))";
    let condition = parse(text.as_bytes()).expect("well formed");
    let names: Vec<(&str, u8)> =
        condition.variables.iter().map(|(name, id)| (name.as_str(), condition.arena.width(*id))).collect();
    assert_eq!(names, [("r 0", 64), ("b", 0)]);
}

#[test]
fn errors_tell_where_and_what() {
    for (text, error) in [
        ("", "1:1: no `assert` in the script: expected a condition"),
        ("(assert", "1:8: expected a term, found the end of the text"),
        ("(assert true", "1:13: expected `)`, found the end of the text"),
        ("\n (assert é)", "2:10: the byte '\\xc3', which starts nothing in SMT-LIB"),
        (
            "(assert (bvult #x1 #x01))",
            "1:10: `bvult`: expected bit-vectors of one width, found (_ BitVec 4) (_ BitVec 8)",
        ),
        ("(assert (bvadd #x1 #x2))", "1:9: expected a Boolean term, found one of sort (_ BitVec 4)"),
        ("(assert (and #x1))", "1:10: `and`: expected Booleans, found (_ BitVec 4)"),
        ("(assert (not true false))", "1:10: `not`: expected 1 argument, found 2"),
        ("(assert (f true))", "1:10: expected a function of QF_BV, found `f`"),
        ("(assert x)", "1:9: expected a name that is declared or bound, found `x`"),
        (
            "(assert (= ((_ extract 4 0) #x1) #b11111))",
            "1:16: `extract`: bits 4 to 0 are not those of a bit-vector of 4 bits",
        ),
        (
            "(assert (= ((_ repeat 65) #x1) #x1))",
            "1:16: `repeat`: a bit-vector of 260 bits: the format has 255 at most",
        ),
        ("(declare-fun x () (_ BitVec 256))", "1:29: expected a width of 1 to 255 bits"),
        ("(declare-fun x () Bool) (declare-fun x () Bool)", "1:38: `x` has a meaning already"),
        (
            "(declare-fun f (Bool) Bool)",
            "1:17: a function that is not defined: QF_BV has variables only, expected `)`",
        ),
        ("(assert (= (_ bv16 4) #x0))", "1:15: a value that 4 bits do not hold"),
        ("(assert (let ((x true) (x false)) x))", "1:25: `x` is bound twice"),
        (
            "(assert true) (check-sat) (assert false)",
            "1:28: a second condition behind `check-sat`: expected one condition in a script",
        ),
        (
            "(push 1)",
            "1:2: the command `push` is not supported: expected declarations, definitions, `assert`, `check-sat` or `exit`",
        ),
        ("(assert (forall ((x Bool)) x))", "1:10: expected a function of QF_BV, found `forall`"),
    ] {
        assert_eq!(parse(text.as_bytes()).map(|_| ()).map_err(|error| error.to_string()), Err(error.into()));
    }
}

#[test]
fn hostile_text_is_no_burden() {
    let deep = format!("(assert {}true{})", "(not ".repeat(200_000), ")".repeat(200_000));
    let condition = parse(deep.as_bytes()).expect("deep");
    assert!(parse(Script { arena: &condition.arena, root: condition.root }.to_string().as_bytes()).is_ok());
    let wide = format!("(declare-const b Bool)(assert (and{}))", " b".repeat(10_000));
    assert!(parse(wide.as_bytes()).is_ok());
    let same = format!("(assert (distinct{}))", " true".repeat(100_000));
    assert!(parse(same.as_bytes()).is_err());
    // Each function applies the one before twice.
    let mut doubling = String::from("(define-fun f0 ((x (_ BitVec 8))) (_ BitVec 8) (bvadd x #x01))");
    for i in 1..64 {
        doubling += &format!("(define-fun f{i} ((x (_ BitVec 8))) (_ BitVec 8) (f{0} (f{0} x)))", i - 1);
    }
    let error = parse(doubling.as_bytes()).map(|_| ()).expect_err("too large").to_string();
    assert!(error.contains("too large") || error.contains("larger"), "{error}");
}
