//! Compares the prover with an SMT solver on random formulas: `cargo run --release --example bcf_judge -- [COUNT [SEED [SOLVER]]]`
//!
//! The formulas have the shape of the verifier's conditions: conjunctions of comparisons of extended, masked, shifted and summed values.
//! SOLVER reads SMT-LIB from standard input and answers `sat` or `unsat`; default: cvc5. Exit status 1 if the two ever differ.

use std::io::Write;
use std::process::{Command, ExitCode, Stdio};

use bpftwin::bcf::expr::{Arena, ExprId};
use bpftwin::bcf::prover::{Limits, Verdict, prove};
use bpftwin::bcf::smtlib::Script;
use bpftwin_uapi::bcf::*;

/// splitmix64.
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

    fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }
}

struct Formula {
    arena: Arena,
    random: Random,
    variables: Vec<ExprId>,
}

impl Formula {
    /// A number that programs compare with: small, a power of two or next to it, or anything.
    fn number(&mut self, width: u8) -> u64 {
        let power = 1u64 << self.random.below(u64::from(width));
        match self.random.below(5) {
            0 => self.random.below(16),
            1 => power,
            2 => power.wrapping_sub(1),
            3 => power.wrapping_neg(),
            _ => self.random.next(),
        }
    }

    fn constant(&mut self, width: u8) -> ExprId {
        let value = self.number(width);
        self.arena.bv_const(width, value)
    }

    fn variable(&mut self, width: u8) -> ExprId {
        let arena = &self.arena;
        let fitting: Vec<ExprId> =
            self.variables.iter().copied().filter(|&v| arena.width(v) == width).collect();
        if !fitting.is_empty() && self.random.below(4) != 0 {
            return self.random.pick(&fitting);
        }
        let variable = self.arena.bv_var(width);
        self.variables.push(variable);
        variable
    }

    fn term(&mut self, width: u8, depth: u32) -> ExprId {
        if depth == 0 || self.random.below(6) == 0 {
            return if self.random.below(4) == 0 { self.constant(width) } else { self.variable(width) };
        }
        let params = u16::from(width);
        match self.random.below(12) {
            0..=2 => {
                let code = self.random.pick(&[BCF_BV_ADD, BCF_BV_ADD, BCF_BV_SUB, BCF_BV_OR, BCF_BV_XOR]);
                let args = [self.term(width, depth - 1), self.term(width, depth - 1)];
                self.arena.intern(code, params, &args)
            }
            3..=5 => {
                let code = self.random.pick(&[BCF_BV_AND, BCF_BV_AND, BCF_BV_ADD, BCF_BV_SUB, BCF_BV_OR]);
                let args = [self.term(width, depth - 1), self.constant(width)];
                self.arena.intern(code, params, &args)
            }
            6 | 7 => {
                let code = self.random.pick(&[BCF_BV_SHL, BCF_BV_LSHR, BCF_BV_ASHR]);
                let by = self.random.below(u64::from(width));
                let args = [self.term(width, depth - 1), self.arena.bv_const(width, by)];
                self.arena.intern(code, params, &args)
            }
            8 | 9 if width > 8 => {
                let narrow = self.random.pick(&[8, width / 2]);
                let inner = self.term(narrow, depth - 1);
                let code = self.random.pick(&[BCF_BV_ZERO_EXTEND, BCF_BV_ZERO_EXTEND, BCF_BV_SIGN_EXTEND]);
                self.arena.intern(code, u16::from(width - narrow) << 8 | params, &[inner])
            }
            10 if width < 64 => {
                let wide = self.term(width * 2, depth - 1);
                let low = self.random.pick(&[0, 0, width]);
                self.arena.intern(BCF_BV_EXTRACT, u16::from(low + width - 1) << 8 | u16::from(low), &[wide])
            }
            11 => {
                let cond = self.comparison(depth - 1);
                let args = [cond, self.term(width, depth - 1), self.term(width, depth - 1)];
                self.arena.intern(BCF_BV_ITE, params, &args)
            }
            _ => self.variable(width),
        }
    }

    fn comparison(&mut self, depth: u32) -> ExprId {
        let width = self.random.pick(&[8, 16, 32, 32, 64]);
        let x = self.term(width, depth);
        let y = if self.random.below(3) == 0 { self.term(width, depth) } else { self.constant(width) };
        let code = self.random.pick(&[
            BCF_BOOL_EQ,
            BCF_BOOL_DISTINCT,
            BCF_BOOL_ULT,
            BCF_BOOL_ULE,
            BCF_BOOL_UGT,
            BCF_BOOL_UGE,
            BCF_BOOL_SLT,
            BCF_BOOL_SLE,
            BCF_BOOL_SGT,
            BCF_BOOL_SGE,
        ]);
        self.arena.intern(code, 0, &[x, y])
    }

    fn formula(&mut self) -> ExprId {
        let mut parts = Vec::new();
        for _ in 0..2 + self.random.below(5) {
            let part = self.comparison(3);
            let part = match self.random.below(6) {
                0 => {
                    let other = self.comparison(2);
                    self.arena.intern(BCF_BOOL_OR, 0, &[part, other])
                }
                1 => self.arena.not(part),
                _ => part,
            };
            parts.push(part);
        }
        self.arena.intern(BCF_BOOL_AND, 0, &parts)
    }
}

/// The solver's answer, its first word.
fn ask(solver: &str, text: &str) -> std::io::Result<String> {
    let mut words = solver.split_whitespace();
    let mut child = Command::new(words.next().unwrap_or("cvc5"))
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(text.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    Ok(String::from_utf8_lossy(&output.stdout).split_whitespace().next().unwrap_or("").to_string())
}

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let count: u64 = args.first().map_or(1000, |count| count.parse().expect("COUNT is a number"));
    let seed: u64 = args.get(1).map_or(1, |seed| seed.parse().expect("SEED is a number"));
    let solver = args.get(2).map_or("cvc5 --lang smt2 --tlimit=20000", String::as_str);
    let (mut proved, mut refuted, mut unknown, mut silent, mut different) = (0, 0, 0, 0, 0);
    for number in 0..count {
        let random = Random(seed.wrapping_mul(1_000_003).wrapping_add(number));
        let mut formula = Formula { arena: Arena::new(), random, variables: Vec::new() };
        let root = formula.formula();
        let ours = match prove(&formula.arena, root, &Limits::default()) {
            Verdict::Proved(_) => "unsat",
            Verdict::Refuted(_) => "sat",
            Verdict::Unknown(why) => {
                println!("{number}: unknown: {why}");
                unknown += 1;
                continue;
            }
        };
        if ours == "sat" {
            refuted += 1
        } else {
            proved += 1
        }
        let text = Script { arena: &formula.arena, root }.to_string();
        let theirs = ask(solver, &text).unwrap_or_else(|error| panic!("{solver}: {error}"));
        if theirs != "sat" && theirs != "unsat" {
            silent += 1;
        } else if theirs != ours {
            println!("{number}: {ours}, but the solver says {theirs}:\n{text}");
            different += 1;
        }
    }
    println!(
        "{count} formulas: {proved} proved, {refuted} refuted, {unknown} unknown; {silent} without an answer of the solver, {different} different"
    );
    ExitCode::from(u8::from(different > 0))
}
