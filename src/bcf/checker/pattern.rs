//! Patterns of rewrites, compiled from their text to programs for a machine with a stack of terms and one of integers.

use bpftwin_uapi::bcf::*;

use super::rewrites::Param;
use crate::bcf::expr::{OPS, op_of};

/// Entries of the stack of terms, and of the stack of integers, that no pattern exceeds.
pub(super) const TERMS: usize = 16;
pub(super) const INTEGERS: usize = 8;
/// Levels of parentheses; the published checker's limit.
const MAX_DEPTH: usize = 64;

/// An instruction. Terms and integers come from, and go to, the tops of their stacks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Instr {
    /// Pushes argument `.0` of the rewrite.
    Arg(u8),
    Truth(bool),
    /// Pushes a constant of width 32.
    Number(u8),
    /// Applies an operator to the topmost `args` terms, some of which can be lists if `splice`.
    Node {
        code: u8,
        args: u8,
        splice: bool,
    },
    /// If-then-else on the topmost three terms; the type is that of the branches.
    Ite,
    /// The term's bits from and to integers: the end is on top.
    Extract,
    /// `sign_extend` or `zero_extend` by an integer.
    Extend(u8),
    /// `repeat` an integer number of times.
    Repeat,
    /// The constant that two integers say: value, then width.
    Const,
    /// The constant of ones of an integer's width.
    Ones,
    /// Pushes the value of argument `.0`, as an integer.
    Int(u8),
    /// Pushes an integer.
    Literal(u8),
    /// The topmost term's width becomes an integer.
    Width,
    /// Arithmetic on two integers, the second operand being on top.
    Arith(Arith),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Arith {
    Add,
    Sub,
    Mul,
    Shl,
}

/// Leaves one term.
pub(super) type Program = Box<[Instr]>;

/// What is wrong with a pattern's text: only ever seen by whoever edits the table.
#[derive(PartialEq, Eq, Debug)]
pub(super) struct PatternError(String);

pub(super) fn compile(text: &str, params: &[Param]) -> Result<Program, PatternError> {
    let mut compiler = Compiler { rest: text, params, program: Vec::new(), depth: 0, terms: 0, integers: 0 };
    compiler.term()?;
    match compiler.next() {
        None => Ok(compiler.program.into()),
        Some(token) => Err(PatternError(format!("{token:?} after the end of {text:?}"))),
    }
}

struct Compiler<'a> {
    rest: &'a str,
    params: &'a [Param],
    program: Vec<Instr>,
    depth: usize,
    /// Heights of the two stacks at this point of the program.
    terms: usize,
    integers: usize,
}

type Compiled<T = ()> = Result<T, PatternError>;

impl<'a> Compiler<'a> {
    /// The next token: a parenthesis, `width=`, or a word.
    fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_start();
        let len = match rest.bytes().next()? {
            b'(' | b')' => 1,
            _ if rest.starts_with("width=") => "width=".len(),
            _ => rest.find(|c: char| c.is_whitespace() || "()".contains(c)).unwrap_or(rest.len()),
        };
        let (token, rest) = rest.split_at(len);
        self.rest = rest;
        Some(token)
    }

    fn word(&mut self) -> Compiled<&'a str> {
        self.next().ok_or_else(|| self.error("the text ends too early"))
    }

    fn expect(&mut self, token: &str) -> Compiled {
        match self.word()? {
            found if found == token => Ok(()),
            found => Err(self.error(&format!("{found:?} instead of {token:?}"))),
        }
    }

    fn closes(&mut self) -> bool {
        self.rest.trim_start().starts_with(')')
    }

    fn error(&self, what: &str) -> PatternError {
        PatternError(format!("{what}, before {:?}", self.rest))
    }

    /// Appends an instruction that takes so many terms and integers and gives one term, or one integer.
    fn emit(&mut self, instr: Instr, terms: usize, integers: usize) -> Compiled {
        self.program.push(instr);
        self.terms = self.terms.checked_sub(terms).ok_or_else(|| self.error("too few terms"))?;
        self.integers = self.integers.checked_sub(integers).ok_or_else(|| self.error("too few integers"))?;
        match instr {
            Instr::Int(_) | Instr::Literal(_) | Instr::Width | Instr::Arith(_) => self.integers += 1,
            _ => self.terms += 1,
        }
        if self.terms > TERMS || self.integers > INTEGERS {
            return Err(self.error("a stack is too small"));
        }
        Ok(())
    }

    fn arg(&self, word: &str) -> Compiled<Option<(u8, Param)>> {
        let Some(digits) = word.strip_prefix('x') else { return Ok(None) };
        let Ok(index) = digits.parse::<u8>() else { return Ok(None) };
        match self.params.get(usize::from(index)) {
            Some(&param) => Ok(Some((index, param))),
            None => Err(self.error(&format!("there is no parameter {word}"))),
        }
    }

    fn number(word: &str) -> Option<u8> {
        word.strip_prefix('#')?.parse().ok()
    }

    /// A term; tells whether it can be a list.
    fn term(&mut self) -> Compiled<bool> {
        let word = self.word()?;
        if word == "(" {
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return Err(self.error("nested too deeply"));
            }
            self.operation()?;
            self.depth -= 1;
            return Ok(false);
        }
        if let Some((index, param)) = self.arg(word)? {
            self.emit(Instr::Arg(index), 0, 0)?;
            return Ok(matches!(param, Param::Bools | Param::Bvs));
        }
        match (word, Self::number(word)) {
            ("true" | "false", _) => self.emit(Instr::Truth(word == "true"), 0, 0)?,
            (_, Some(number)) => self.emit(Instr::Number(number), 0, 0)?,
            _ => return Err(self.error(&format!("{word:?} is no term"))),
        }
        Ok(false)
    }

    /// What follows an opening parenthesis, with the closing one.
    fn operation(&mut self) -> Compiled {
        match self.word()? {
            "(" => return self.indexed(),
            "bvconst" => {
                self.integer()?;
                self.expect("width=")?;
                self.integer()?;
                self.emit(Instr::Const, 0, 2)?;
            }
            "ones" => {
                self.expect("width=")?;
                self.integer()?;
                self.emit(Instr::Ones, 0, 1)?;
            }
            name => {
                let before = self.terms;
                let mut splice = false;
                while !self.closes() {
                    splice |= self.term()?;
                }
                let args = self.terms - before;
                if name == "ite" {
                    if args != 3 || splice {
                        return Err(self.error("ite of other than three terms"));
                    }
                    self.emit(Instr::Ite, args, 0)?;
                } else {
                    let code = operator(name).ok_or_else(|| self.error(&format!("no operator {name:?}")))?;
                    let op = op_of(code).ok_or_else(|| self.error("no such code"))?;
                    if !splice && !(op.min_args.into()..=op.max_args.into()).contains(&args) {
                        return Err(self.error(&format!("{args} arguments of {name}")));
                    }
                    self.emit(Instr::Node { code, args: args as u8, splice }, args, 0)?;
                }
            }
        }
        self.expect(")")
    }

    /// `extract x3 x2) x0)` and the like: operators with indices.
    fn indexed(&mut self) -> Compiled {
        let name = self.word()?;
        let (instr, indices) = match name {
            "extract" => (Instr::Extract, 2),
            "sign_extend" => (Instr::Extend(BCF_BV_SIGN_EXTEND), 1),
            "zero_extend" => (Instr::Extend(BCF_BV_ZERO_EXTEND), 1),
            "repeat" => (Instr::Repeat, 1),
            _ => return Err(self.error(&format!("no indexed operator {name:?}"))),
        };
        for _ in 0..indices {
            self.integer()?;
        }
        self.expect(")")?;
        if self.term()? {
            return Err(self.error(&format!("a list in {name}")));
        }
        self.emit(instr, 1, indices)?;
        self.expect(")")
    }

    fn integer(&mut self) -> Compiled {
        let word = self.word()?;
        if word != "(" {
            return match (self.arg(word)?, Self::number(word)) {
                (Some((index, Param::Int)), _) => self.emit(Instr::Int(index), 0, 0),
                (_, Some(number)) => self.emit(Instr::Literal(number), 0, 0),
                _ => Err(self.error(&format!("{word:?} is no integer"))),
            };
        }
        let arith = match self.word()? {
            "bvsize" => None,
            "bvadd" => Some(Arith::Add),
            "bvsub" => Some(Arith::Sub),
            "bvmul" => Some(Arith::Mul),
            "bvshl" => Some(Arith::Shl),
            name => return Err(self.error(&format!("no integer operator {name:?}"))),
        };
        match arith {
            None if self.term()? => return Err(self.error("the width of a list")),
            None => self.emit(Instr::Width, 1, 0)?,
            Some(arith) => {
                self.integer()?;
                self.integer()?;
                self.emit(Instr::Arith(arith), 0, 2)?;
            }
        }
        self.expect(")")
    }
}

/// The code of an operator without indices.
fn operator(name: &str) -> Option<u8> {
    if name == "bvsize" {
        return Some(BCF_BV_SIZE);
    }
    OPS.iter().find(|op| op.smt == Some(name)).map(|op| op.code)
}

#[cfg(test)]
mod tests {
    use super::super::rewrites::TABLE;
    use super::*;

    /// The texts that an entry is made of.
    #[test]
    fn the_table_compiles() {
        assert_eq!(TABLE.len(), 151);
        for (entry, number) in TABLE.iter().zip(1..) {
            assert_eq!(entry.number, number, "{}", entry.name);
            for text in entry.conditions.iter().chain([&entry.left, &entry.right]) {
                compile(text, entry.params).unwrap_or_else(|error| panic!("{}: {error:?}", entry.name));
            }
        }
    }

    #[test]
    fn programs_are_postfix() {
        let program =
            compile("(bvand x0 ((extract x2 #0) (bvnot x1)))", &[Param::Bvs, Param::Bv, Param::Int]);
        let expected = [
            Instr::Arg(0),
            Instr::Int(2),
            Instr::Literal(0),
            Instr::Arg(1),
            Instr::Node { code: BCF_BV_NOT, args: 1, splice: false },
            Instr::Extract,
            Instr::Node { code: BCF_BV_AND, args: 2, splice: true },
        ];
        assert_eq!(program.as_deref(), Ok(&expected[..]));
    }

    #[test]
    fn bad_patterns_are_told() {
        let params = [Param::Bv, Param::Int, Param::Bvs];
        for text in [
            "",
            "x3",
            "y",
            "(bvnot x0",
            "(bvnot x0))",
            "x0 x0",
            "(bvnot x0 x0)",
            "(frob x0)",
            "((extract x0 #0) x0)",
            "((extract #1) x0)",
            "((zero_extend #1) x2)",
            "(bvconst x1)",
            "(bvconst x0 width=x1)",
            "(ite x0 x0)",
            "()",
            "(= x0)",
            "(bvconst (bvurem x1 x1) width=x1)",
            "(ones width=(bvsize x2))",
        ] {
            assert!(compile(text, &params).is_err(), "{text}");
        }
        let deep = format!("{}x0{}", "(bvnot ".repeat(65), ")".repeat(65));
        assert!(compile(&deep, &params).is_err());
    }
}
