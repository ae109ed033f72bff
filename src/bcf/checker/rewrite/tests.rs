use super::super::rewrites::*;
use super::*;
use crate::bcf::eval::Bv;

/// SplitMix64: the same instances in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.below(from.len() as u64) as usize]
    }
}

/// Makes arguments for one rewrite.
struct Search {
    random: Random,
    arena: Arena,
    closed: Evaluator,
    variables: Vec<ExprId>,
    /// With 0 for all variables: for terms whose value does not depend on them.
    zero: Evaluator,
}

impl Search {
    fn new(seed: u32) -> Search {
        let mut arena = Arena::new();
        let variables = (0..3).map(|_| arena.bool_var()).collect();
        let (closed, zero) = (Evaluator::new(), Evaluator::new());
        Search { random: Random(seed.into()), arena, closed, variables, zero }
    }

    fn variable(&mut self, width: u8) -> ExprId {
        let of_width: Vec<_> =
            self.variables.iter().copied().filter(|&v| self.arena.width(v) == width).collect();
        if of_width.len() >= 2 {
            return self.random.pick(&of_width);
        }
        let variable = self.arena.bv_var(width);
        self.variables.push(variable);
        self.zero.assign(variable, Value::Bv(Bv::new(width, 0)));
        variable
    }

    fn bv(&mut self, width: u8) -> ExprId {
        let variable = self.variable(width);
        match self.random.below(8) {
            0 => self.arena.intern(BCF_BV_NOT, width.into(), &[variable]),
            1 if width <= 64 => {
                let value = self.random.next();
                let value = self.random.pick(&[0, 1, u64::MAX, 1 << (width - 1), value]);
                self.arena.bv_const(width, value)
            }
            _ => variable,
        }
    }

    fn bool(&mut self) -> ExprId {
        let variable = self.random.pick(&[0, 1, 2]);
        let variable = self.variables[variable];
        match self.random.below(8) {
            0 => self.arena.not(variable),
            1 => self.arena.truth(true),
            2 => self.arena.truth(false),
            _ => variable,
        }
    }

    fn width(&mut self) -> u8 {
        let small = 1 + self.random.below(6) as u8;
        let wide = self.random.pick(&[8, 16, 31, 32, 33, 63, 64, 65, 128, 200, 255]);
        if self.random.below(8) == 0 { wide } else { small }
    }

    fn int(&mut self, widths: [u8; 2]) -> ExprId {
        let [a, b] = widths.map(u64::from);
        let power = 1 << self.random.below(33);
        let edge = [a, b, a - 1, a + 1, a + b, b - 1, power - 1, power, 32, !0, !power + 1, 1 << 31];
        let value = match self.random.below(4) {
            0 => self.random.pick(&edge),
            1 => self.random.below(1 << b.min(32)),
            _ => self.random.below(9),
        };
        self.arena.bv_const(32, value)
    }

    fn list(&mut self, kind: u8, width: u8) -> ExprId {
        let elements: Vec<ExprId> = (0..self.random.below(3))
            .map(|_| if kind == BCF_BV { self.bv(width) } else { self.bool() })
            .collect();
        self.arena.intern(BCF_LIST_VAL, kind.into(), &elements)
    }

    /// Arguments of the right types, equal to what conditions of the form `(= xN …)` say. Their instance can still be ill-typed.
    fn args(&mut self, rewrite: &Rewrite) -> Vec<ExprId> {
        // Some conditions compare integers with terms, which then are of 32 bits.
        let widths = if self.random.below(8) == 0 { [32; 2] } else { [self.width(), self.width()] };
        // The rewrites of any type: terms of one type.
        let any_is_bool = self.random.below(2) == 0;
        let mut args: Vec<ExprId> = Vec::new();
        for param in rewrite.entry.params {
            let other = 1 + self.random.below(6) as u8;
            let width = self.random.pick(&[widths[0], widths[0], widths[1], other]);
            args.push(match param {
                Param::Any if any_is_bool => self.bool(),
                Param::Any => self.bv(widths[0]),
                Param::Bool => self.bool(),
                Param::Bv => self.bv(width),
                Param::Bit => self.bv(1),
                Param::Int => self.int(widths),
                Param::Bools => self.list(BCF_BOOL, 0),
                Param::Bvs => self.list(BCF_BV, width),
            });
        }
        // In two rounds, because a later condition can settle what an earlier one uses.
        for _ in 0..2 {
            for (text, program) in rewrite.entry.conditions.iter().zip(&rewrite.conditions) {
                let Some(index) = text.strip_prefix("(= x").and_then(|rest| rest.split(' ').next()) else {
                    continue;
                };
                let Ok(index) = index.parse::<usize>() else { continue };
                let mut machine = Machine::new(&mut self.arena, &mut self.closed, &args);
                let Ok(condition) = machine.run(program) else { continue };
                let Some([_, value]) = self.arena.match_op(condition, BCF_BOOL_EQ) else { continue };
                if let Some(Value::Bv(value)) = self.zero.eval(&self.arena, value)
                    && let (width @ 1..=64, Some(value)) = (value.width(), value.to_u64())
                {
                    args[index] = self.arena.bv_const(width, value);
                }
            }
        }
        args
    }

    /// Values for variables: as many low bits of `bits` as they need, if given, or random ones.
    fn assignment(&mut self, variables: &[ExprId], mut bits: Option<u64>) -> Evaluator {
        let mut evaluator = Evaluator::new();
        for &variable in variables {
            let mode = self.random.below(8);
            let mut bit = || match (&mut bits, mode) {
                (Some(bits), _) => std::mem::replace(bits, *bits >> 1) & 1 != 0,
                (None, 0) => false,
                (None, 1) => true,
                (None, _) => self.random.below(2) == 1,
            };
            let value = match self.arena.width(variable) {
                0 => Value::Bool(bit()),
                width => Value::Bv(Bv::from_bits((0..width).map(|_| bit()).collect::<Vec<_>>().into_iter())),
            };
            evaluator.assign(variable, value);
        }
        evaluator
    }

    fn instantiate(&mut self, rewrite: &Rewrite, args: &[ExprId]) -> Result<Instance, RuleError> {
        instantiate(&mut self.arena, &mut self.closed, rewrite.entry.number, args)
    }

    fn show(&self, args: &[ExprId]) -> String {
        format!("{:x?}", args.iter().map(|&arg| self.arena.words(arg)).collect::<Vec<_>>())
    }

    /// Whether left and right agree wherever all conditions are true: under all assignments if there are at most `limit`, or else
    /// under a few random ones. `None` if the conditions are never true.
    fn holds(&mut self, instance: &Instance, limit: u64) -> Option<bool> {
        let mut roots = instance.conditions.to_vec();
        roots.extend([instance.left, instance.right]);
        let mut variables = self.arena.reachable(&roots);
        variables.retain(|&id| self.arena.is_variable(id));
        let bits: u32 = variables.iter().map(|&variable| u32::from(self.arena.width(variable)).max(1)).sum();
        let all = 1u64.checked_shl(bits).filter(|&all| all <= limit);
        let mut tried = false;
        for i in 0..all.unwrap_or(4) {
            let mut evaluator = self.assignment(&variables, all.map(|_| i));
            let arena = &self.arena;
            if instance
                .conditions
                .iter()
                .all(|&condition| evaluator.eval_bool(arena, condition) == Some(true))
            {
                tried = true;
                let left = evaluator.eval(arena, instance.left);
                if left.is_none() || left != evaluator.eval(arena, instance.right) {
                    return Some(false);
                }
            }
        }
        tried.then_some(true)
    }
}

fn rewrites() -> impl Iterator<Item = &'static Rewrite> {
    (1..=TABLE.len() as u32).map(|number| find(number).expect("compiles"))
}

/// These have no well-typed instance.
const DEAD: [u32; 2] = [BV_ZERO_EXTEND_EQ_CONST_1, BV_ZERO_EXTEND_EQ_CONST_2];

/// How many arguments are tried for each rewrite at most, and how many instances are enough.
const ATTEMPTS: usize = 12_000;
const ENOUGH: usize = 50;

/// Under conditions that are true, left and right have the same value.
#[test]
fn instances_are_true() {
    for rewrite in rewrites() {
        let entry = rewrite.entry;
        let mut search = Search::new(entry.number);
        let mut valid = 0;
        for _ in 0..ATTEMPTS {
            let args = search.args(rewrite);
            let Ok(instance) = search.instantiate(rewrite, &args) else { continue };
            match search.holds(&instance, 64) {
                Some(true) => valid += 1,
                Some(false) => panic!("{} is false of {}", entry.name, search.show(&args)),
                None => {}
            }
            if valid == ENOUGH {
                break;
            }
        }
        let enough = if DEAD.contains(&entry.number) { valid == 0 } else { valid >= 20 };
        assert!(enough, "{}: {valid} instances", entry.name);
    }
}

/// A list or a term of another type than the parameter's.
fn misfit(search: &mut Search, param: Param) -> ExprId {
    match param {
        Param::Any | Param::Bools => search.list(BCF_BV, 1),
        Param::Bool => search.bv(4),
        Param::Bit => search.bv(2),
        Param::Int => search.bv(31),
        Param::Bv => search.bool(),
        Param::Bvs => search.list(BCF_BOOL, 1),
    }
}

/// Every rewrite as a step: accepted with its conditions as premises, said in both ways; rejected with other premises or other
/// arguments.
#[test]
fn steps_are_accepted_and_rejected() {
    for rewrite in rewrites() {
        let entry = rewrite.entry;
        let mut search = Search::new(entry.number);
        let found = (0..ATTEMPTS).find_map(|_| {
            let args = search.args(rewrite);
            let instance = search.instantiate(rewrite, &args).ok()?;
            // Lists of Booleans have to be empty under the other policy.
            let plain = fits_all(&search.arena, rewrite, &args, Policy::Reference);
            (plain && search.holds(&instance, 16) == Some(true)).then_some((args, instance))
        });
        let Some((args, instance)) = found else {
            assert!(DEAD.contains(&entry.number), "{}", entry.name);
            let args = search.args(rewrite);
            assert!(search.instantiate(rewrite, &args).is_err(), "{}", entry.name);
            continue;
        };
        let fact = (instance.left, instance.right);
        let truth = search.arena.truth(true);
        let equal_to_true =
            instance.conditions.iter().map(|&c| search.arena.eq(c, truth)).collect::<Vec<_>>();
        for policy in [Policy::Strict, Policy::Reference] {
            let mut step = |args: &[ExprId], premises: &[ExprId]| {
                apply(&mut search.arena, &mut search.closed, entry.number, args, premises, policy)
            };
            let conditions = &instance.conditions;
            assert_eq!(step(&args, conditions), Ok(fact), "{}", entry.name);
            assert_eq!(step(&args, &equal_to_true), Ok(fact), "{}", entry.name);
            assert!(step(&args[1..], conditions).is_err(), "{}: an argument too few", entry.name);
            assert!(
                step(&[&args[..], &args[..1]].concat(), conditions).is_err(),
                "{}: one too many",
                entry.name
            );
            assert!(
                step(&args, &[conditions, &[truth][..]].concat()).is_err(),
                "{}: a premise too many",
                entry.name
            );
            for missing in 0..conditions.len() {
                let mut premises = conditions.to_vec();
                premises[missing] = truth;
                assert!(step(&args, &premises).is_err(), "{}: a wrong premise", entry.name);
                premises.remove(missing);
                assert!(step(&args, &premises).is_err(), "{}: a missing premise", entry.name);
            }
        }
        for (index, &param) in entry.params.iter().enumerate() {
            let mut args = args.clone();
            args[index] = misfit(&mut search, param);
            let wrong = Err(RuleError::Invalid("an argument of the rewrite has the wrong type"));
            assert_eq!(search.instantiate(rewrite, &args), wrong, "{} x{index}", entry.name);
        }
    }
}

/// Exactly the instances of BV_MULT_SLT_MULT_* that are true everywhere are allowed, for all widths from 1 to 3 of the factors.
#[test]
fn products_that_wrap_are_rejected() {
    for number in [BV_MULT_SLT_MULT_1, BV_MULT_SLT_MULT_2] {
        let rewrite = find(number).expect("compiles");
        for (n, m, w) in
            (0..63).map(|i| (1 + i / 7 % 3, 1 + i / 21, 1 + i % 7)).filter(|&(n, m, w)| w >= n.max(m))
        {
            let mut search = Search::new(number);
            let factors = [n, n, m].map(|width| search.arena.bv_var(width));
            let integers = [w - n, w - m, n, m].map(|value| search.arena.bv_const(32, value.into()));
            let args = [&factors[..], &integers].concat();
            let allowed = search.instantiate(rewrite, &args).is_ok();
            let mut machine = Machine::new(&mut search.arena, &mut search.closed, &args);
            let (left, right) = (machine.run(&rewrite.left), machine.run(&rewrite.right));
            let (left, right) = (left.expect("well typed"), right.expect("well typed"));
            let unchecked = Instance { conditions: Conditions::new(), left, right };
            let is_true = search.holds(&unchecked, 1 << 9) == Some(true);
            assert_eq!(allowed, is_true, "{}: {n} and {m} bits in {w}", rewrite.entry.name);
        }
    }
}

#[test]
fn merged_constants_that_wrap_are_rejected() {
    let (mut arena, mut closed) = (Arena::new(), Evaluator::new());
    let none = arena.intern(BCF_LIST_VAL, BCF_BV.into(), &[]);
    // The value and width of the high part, of the low part, and the sum of the widths.
    for (parts, merged) in [
        ([1, 1, 5, 4, 5], Some((5, 0x15))),
        ([1, 1, 0x7fff_ffff, 31, 32], Some((32, 0xffff_ffff))),
        ([0, 20, 5, 32, 52], Some((52, 5))),
        ([0, 1, 5, 63, 64], Some((64, 5))),
        ([1, 1, 0, 32, 33], None),
        ([1, 1, 0, 31, 33], None),
        ([3, 2, 0, 31, 33], None),
        ([1, 2, 0, 63, 65], None),
    ] {
        let integers = parts.map(|value| arena.bv_const(32, value));
        let args = [&[none][..], &integers, &[none]].concat();
        let instance = instantiate(&mut arena, &mut closed, BV_CONCAT_MERGE_CONST, &args);
        let expected = merged.map(|(width, value)| arena.bv_const(width, value));
        assert_eq!(instance.ok().map(|instance| instance.right), expected, "{parts:?}");
    }
}

#[test]
fn lists_are_spliced() {
    let (mut arena, mut closed) = (Arena::new(), Evaluator::new());
    let x = arena.bv_var(8);
    let y = arena.bv_var(8);
    let integer = arena.bv_const(32, 8);
    let list = |arena: &mut Arena, elements: &[ExprId]| arena.intern(BCF_LIST_VAL, BCF_BV.into(), elements);
    let (none, one) = (list(&mut arena, &[]), list(&mut arena, &[y]));
    let many = list(&mut arena, &[y; 254]);
    // The empty lists vanish; `bvxor` of the one that is left is itself.
    let mut simplify = |first, second| {
        let args = [first, none, second, x];
        let instance = instantiate(&mut arena, &mut closed, BV_XOR_SIMPLIFY_2, &args)?;
        Ok(arena.args(instance.right).to_vec())
    };
    assert_eq!(simplify(none, one), Ok(vec![y]));
    assert_eq!(simplify(none, none).map_err(|e: RuleError| e.errno()), Err(libc::EOPNOTSUPP));
    assert_eq!(simplify(many, none).map_err(|e| e.errno()), Err(libc::E2BIG));
    // Booleans' lists are empty to the published checker.
    let p = arena.bool_var();
    let none = arena.intern(BCF_LIST_VAL, BCF_BOOL.into(), &[]);
    let some = arena.intern(BCF_LIST_VAL, BCF_BOOL.into(), &[p]);
    for (list, policy, accepted) in
        [(none, Policy::Reference, true), (some, Policy::Reference, false), (some, Policy::Strict, true)]
    {
        let step = apply(&mut arena, &mut closed, BOOL_AND_CONF, &[list, p, none, none], &[], policy);
        assert_eq!(step.is_ok(), accepted);
    }
    assert_eq!(instantiate(&mut arena, &mut closed, 0, &[integer]).map_err(|e| e.errno()), Err(libc::EINVAL));
    assert_eq!(instantiate(&mut arena, &mut closed, 152, &[]).map_err(|e| e.errno()), Err(libc::EINVAL));
}

#[test]
fn integers_are_closed_terms() {
    let (mut arena, mut closed) = (Arena::new(), Evaluator::new());
    let x = arena.bv_var(8);
    let (three, four) = (arena.bv_const(32, 3), arena.bv_const(32, 4));
    let seven = arena.intern(BCF_BV_ADD, 32, &[three, four]);
    let variable = arena.bv_var(32);
    let width = arena.intern(BCF_BV_SIZE, 32, &[x]);
    let minus_one = arena.bv_const(32, u64::MAX);
    for (high, low, accepted) in [
        (four, three, true),
        (seven, three, true),
        (three, four, false),
        (width, three, false),
        (variable, three, false),
        (minus_one, three, false),
    ] {
        let instance = instantiate(&mut arena, &mut closed, BV_EXTRACT_NOT, &[x, low, high]);
        assert_eq!(instance.is_ok(), accepted);
    }
    let extended =
        instantiate(&mut arena, &mut closed, BV_ZERO_EXTEND_ELIMINATE, &[x, width]).expect("closed");
    assert_eq!(arena.width(extended.left), 16);
}
