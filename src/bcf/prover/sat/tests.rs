use proptest::prelude::*;

use super::*;

fn lit(number: i32) -> Lit {
    Lit::new(number.unsigned_abs() - 1, number > 0)
}

fn clauses(numbers: &[&[i32]]) -> Vec<Vec<Lit>> {
    numbers.iter().map(|clause| clause.iter().map(|&number| lit(number)).collect()).collect()
}

/// Solves, and checks the answer.
fn solve_checked(vars: u32, clauses: &[Vec<Lit>], limits: &Limits) -> Outcome {
    let outcome = solve(vars, clauses, &|_| 12, limits);
    match &outcome {
        Outcome::Sat(model) => {
            let holds = |lit: &Lit| model[lit.var() as usize] == lit.is_positive();
            assert!(clauses.iter().all(|clause| clause.iter().any(holds)), "{model:?} is no model");
        }
        Outcome::Unsat(refutation) => {
            refutation
                .check(clauses, &limits.bounds)
                .unwrap_or_else(|fault| panic!("{fault}: {refutation:?}"));
        }
        Outcome::Unknown(_) => {}
    }
    outcome
}

fn quick() -> Limits {
    Limits { effort: Duration::from_millis(5), ..Limits::default() }
}

fn refuted(vars: u32, clauses: &[Vec<Lit>], limits: &Limits) -> Refutation {
    match solve_checked(vars, clauses, limits) {
        Outcome::Unsat(refutation) => refutation,
        other => panic!("{other:?}"),
    }
}

/// `holes + 1` pigeons do not fit in `holes` holes.
fn pigeons(holes: u32) -> (u32, Vec<Vec<Lit>>) {
    let at = |pigeon: u32, hole: u32, positive| Lit::new(pigeon * holes + hole, positive);
    let mut clauses: Vec<Vec<Lit>> =
        (0..=holes).map(|pigeon| (0..holes).map(|hole| at(pigeon, hole, true)).collect()).collect();
    for hole in 0..holes {
        for pigeon in 0..=holes {
            clauses.extend((0..pigeon).map(|other| vec![at(pigeon, hole, false), at(other, hole, false)]));
        }
    }
    ((holes + 1) * holes, clauses)
}

/// Clauses of circuits.
#[derive(Default)]
struct Circuit {
    vars: u32,
    clauses: Vec<Vec<Lit>>,
}

impl Circuit {
    fn fresh(&mut self) -> Lit {
        self.vars += 1;
        Lit::new(self.vars - 1, true)
    }

    fn word(&mut self, bits: usize) -> Vec<Lit> {
        (0..bits).map(|_| self.fresh()).collect()
    }

    fn xor(&mut self, a: Lit, b: Lit) -> Lit {
        let f = self.fresh();
        self.clauses.extend([vec![!f, a, b], vec![!f, !a, !b], vec![f, !a, b], vec![f, a, !b]]);
        f
    }

    fn and(&mut self, a: Lit, b: Lit) -> Lit {
        let f = self.fresh();
        self.clauses.extend([vec![!f, a], vec![!f, b], vec![f, !a, !b]]);
        f
    }

    fn or(&mut self, a: Lit, b: Lit) -> Lit {
        !self.and(!a, !b)
    }

    fn add(&mut self, a: &[Lit], b: &[Lit]) -> Vec<Lit> {
        let mut carry: Option<Lit> = None;
        let mut sum = Vec::new();
        for (&a, &b) in a.iter().zip(b) {
            let half = self.xor(a, b);
            let both = self.and(a, b);
            let Some(old) = carry else {
                sum.push(half);
                carry = Some(both);
                continue;
            };
            sum.push(self.xor(half, old));
            let passed = self.and(half, old);
            carry = Some(self.or(both, passed));
        }
        sum
    }

    fn less(&mut self, a: &[Lit], b: &[Lit], or_equal: bool) -> Lit {
        let mut result = self.fresh();
        self.clauses.push(vec![if or_equal { result } else { !result }]);
        for (&a, &b) in a.iter().zip(b) {
            let differ = self.xor(a, b);
            let here = self.and(!a, b);
            let before = self.and(!differ, result);
            result = self.or(here, before);
        }
        result
    }

    fn differ(&mut self, a: &[Lit], b: &[Lit]) {
        let differences = a.iter().zip(b).map(|(&a, &b)| self.xor(a, b)).collect();
        self.clauses.push(differences);
    }
}

/// a + b = b + a, or associativity.
fn adders(bits: usize, three: bool) -> (u32, Vec<Vec<Lit>>) {
    let mut circuit = Circuit::default();
    let [a, b, c] = [(); 3].map(|()| circuit.word(bits));
    let (left, right) = if three {
        let (ab, bc) = (circuit.add(&a, &b), circuit.add(&b, &c));
        (circuit.add(&ab, &c), circuit.add(&a, &bc))
    } else {
        (circuit.add(&a, &b), circuit.add(&b, &a))
    };
    circuit.differ(&left, &right);
    (circuit.vars, circuit.clauses)
}

/// x <= c and y <= d, and not x + y <= c + d, without overflow; as verifiers ask.
fn bounds(bits: usize, c: u64, d: u64) -> (u32, Vec<Vec<Lit>>) {
    let mut circuit = Circuit::default();
    let (x, y) = (circuit.word(bits), circuit.word(bits));
    let mut constant = |value: u64| -> Vec<Lit> {
        let bits = circuit.word(bits);
        for (place, &bit) in bits.iter().enumerate() {
            circuit.clauses.push(vec![if value >> place & 1 == 1 { bit } else { !bit }]);
        }
        bits
    };
    let (limit_x, limit_y, limit) = (constant(c), constant(d), constant(c + d));
    let first = circuit.less(&x, &limit_x, true);
    let second = circuit.less(&y, &limit_y, true);
    let sum = circuit.add(&x, &y);
    let third = circuit.less(&sum, &limit, true);
    circuit.clauses.extend([vec![first], vec![second], vec![!third]]);
    (circuit.vars, circuit.clauses)
}

/// An order without a least element.
fn ordering(items: u32) -> (u32, Vec<Vec<Lit>>) {
    let less = |a: u32, b: u32| Lit::new(a * items + b, true);
    let mut clauses = Vec::new();
    for a in 0..items {
        clauses.push((0..items).filter(|&b| b != a).map(|b| less(b, a)).collect());
        for b in (0..items).filter(|&b| b != a) {
            clauses.push(vec![!less(a, b), !less(b, a)]);
            for c in (0..items).filter(|&c| c != a && c != b) {
                clauses.push(vec![!less(a, b), !less(b, c), less(a, c)]);
            }
        }
    }
    (items * items, clauses)
}

fn random(vars: u32, count: usize, mut seed: u64) -> (u32, Vec<Vec<Lit>>) {
    let mut next = |below: u32| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 33) as u32 % below
    };
    let clauses = (0..count).map(|_| (0..3).map(|_| Lit::new(next(vars), next(2) == 0)).collect()).collect();
    (vars, clauses)
}

#[test]
fn propagation_suffices() {
    let chain = clauses(&[&[1], &[-1, 2], &[-1, -2, 3], &[-3, 4], &[-3, -4]]);
    let refutation = refuted(4, &chain, &quick());
    assert_eq!(refutation.core(), [0, 1, 2, 3, 4]);
    // An empty clause, and a contradiction of two.
    assert_eq!(refuted(0, &clauses(&[&[]]), &quick()).empty, ClauseId(0));
    assert_eq!(refuted(1, &clauses(&[&[1], &[-1]]), &quick()).steps.len(), 1);
    // Of two contradictions the shorter one.
    let two = clauses(&[&[1], &[-1, 2], &[-2, 3], &[-3], &[-4, -1], &[4]]);
    assert_eq!(refuted(4, &two, &quick()).core(), [0, 4, 5]);
}

#[test]
fn repeated_literals_and_tautologies() {
    let repeated = clauses(&[&[1, 1, 2], &[1, -2, 1], &[-1, -1, 3, -1], &[-1, -3], &[3, -3]]);
    refuted(3, &repeated, &quick());
    refuted(1, &clauses(&[&[1, 1, 1], &[-1, -1]]), &quick());
    assert!(matches!(solve_checked(3, &repeated[..3], &quick()), Outcome::Sat(_)));
}

#[test]
fn families() {
    for (vars, clauses) in [
        pigeons(5),
        adders(4, false),
        adders(4, true),
        bounds(16, 1000, 255),
        ordering(8),
        random(60, 300, 1),
        random(80, 400, 7),
    ] {
        refuted(vars, &clauses, &quick());
    }
}

#[test]
fn effort_shrinks() {
    let cost = |_| 12;
    for (vars, clauses) in [adders(8, false), random(60, 300, 1)] {
        let none = refuted(vars, &clauses, &Limits { effort: Duration::ZERO, ..Limits::default() });
        let some = refuted(vars, &clauses, &Limits { effort: Duration::from_secs(1), ..Limits::default() });
        assert!(some.bytes(&cost) < none.bytes(&cost));
    }
}

#[test]
fn small_bounds_split_chains() {
    let (vars, clauses) = bounds(16, 1000, 255);
    let limits = Limits { bounds: Bounds { literals: 30, premises: 3 }, ..quick() };
    refuted(vars, &clauses, &limits);
    let limits = Limits { bounds: Bounds { literals: 1, premises: 3 }, ..quick() };
    assert!(matches!(solve(vars, &clauses, &|_| 12, &limits), Outcome::Unknown(Unknown::Bounds)));
}

#[test]
fn limits_hold() {
    let (vars, clauses) = pigeons(12);
    let unknown = |limits| match solve(vars, &clauses, &|_| 12, &limits) {
        Outcome::Unknown(reason) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(unknown(Limits { conflicts: Some(100), ..quick() }), Unknown::Conflicts);
    assert_eq!(unknown(Limits { memory: 100_000, ..quick() }), Unknown::Memory);
    let start = Instant::now();
    let deadline = Some(start + Duration::from_millis(200));
    assert_eq!(unknown(Limits { deadline, ..quick() }), Unknown::Deadline);
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(matches!(solve(1, &[[lit(2)]], &|_| 12, &quick()), Outcome::Unknown(Unknown::Input)));
}

#[test]
fn check_finds_faults() {
    let chain = clauses(&[&[1], &[-1, 2], &[-2]]);
    let good = refuted(2, &chain, &quick());
    let bounds = Bounds::default();
    let mut other = good.clone();
    other.steps[0].result.push(lit(1));
    assert_eq!(other.check(&chain, &bounds), Err(refutation::Fault::Result { step: 0 }));
    assert!(good.check(&chain[..2], &bounds).is_err());
    let mut unused = good.clone();
    unused.steps.push(good.steps[0].clone());
    unused.empty = ClauseId(unused.empty.0 + 1);
    assert_eq!(unused.check(&chain, &bounds), Err(refutation::Fault::Unused { step: 0 }));
}

fn has_model(vars: u32, clauses: &[Vec<Lit>]) -> bool {
    (0..1u32 << vars).any(|model| {
        clauses
            .iter()
            .all(|clause| clause.iter().any(|lit| (model >> lit.var() & 1 == 1) == lit.is_positive()))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn agrees_with_brute_force(
        numbers in prop::collection::vec(prop::collection::vec((0..6u32, any::<bool>()), 0..5), 0..40)
            .prop_filter("too easy", |clauses| clauses.iter().filter(|clause| clause.len() < 2).count() < 3),
    ) {
        let clauses: Vec<Vec<Lit>> = numbers
            .iter()
            .map(|clause| clause.iter().map(|&(var, positive)| Lit::new(var, positive)).collect())
            .collect();
        let limits = Limits { effort: Duration::from_millis(1), ..Limits::default() };
        let expected = has_model(6, &clauses);
        match solve_checked(6, &clauses, &limits) {
            Outcome::Sat(_) => prop_assert!(expected),
            Outcome::Unsat(_) => prop_assert!(!expected),
            Outcome::Unknown(reason) => prop_assert!(false, "{}", reason),
        }
    }
}
