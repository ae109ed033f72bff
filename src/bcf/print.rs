//! Terms and steps as text, in the syntax of the published checker's log.
//!
//! `(bool_ult(2) v7 (_ bv5 32))`: an operator is followed by the number of its arguments, `((_ extract 7 0) …)` are indexed
//! operators, `(_ bv5 32)` is 5 in 32 bits. `@t9` stands for the term at word 9 of the expressions, `@p3` for the fact of step 3.
//! One thing differs: a variable is `v` (a bit-vector) or `b` (a Boolean) and its id, as in the SMT-LIB output; the published
//! checker's `(bv_var(0) 32)` does not tell one variable from another.
//!
//! As trees terms can be exponentially larger than in memory, so depth and size are bounded always.

use std::fmt::{self, Write};

use bpftwin_uapi::bcf::*;

use super::checker::{rewrite, rules};
use super::expr::{Arena, ExprId, IdMap, op_of};
use super::proof::{Step, StepNo};

/// How much of a term is printed.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Operators inside one another; arguments of the innermost are `@t`.
    pub depth: usize,
    /// Arguments of an operator; `…` stands for the rest.
    pub args: usize,
    /// Bytes after which arguments are `@t` only.
    pub size: usize,
}

impl Bounds {
    /// A line or two: for facts and parameters of steps.
    pub const BRIEF: Bounds = Bounds { depth: 4, args: 8, size: 160 };
    /// What a person may want to read at once.
    pub const FULL: Bounds = Bounds { depth: 64, args: 255, size: 4 << 10 };
}

/// A term that [`fmt::Display`] prints.
#[derive(Clone, Copy)]
pub struct Term<'a> {
    pub arena: &'a Arena,
    pub id: ExprId,
    pub bounds: Bounds,
}

/// Counts what passes.
struct Counted<'a, 'b> {
    inner: &'a mut fmt::Formatter<'b>,
    written: usize,
}

impl Write for Counted<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.written += text.len();
        self.inner.write_str(text)
    }
}

impl fmt::Display for Term<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bounds { depth, args, size } = self.bounds;
        let cut = |_, open, written| open >= depth || written >= size;
        write_term(&mut Counted { inner: f, written: 0 }, self.arena, self.id, args, cut)
    }
}

/// Prints a term. `cut` is asked, with how many operators are open and how many bytes are written, which arguments to print as `@t`.
fn write_term(
    out: &mut Counted<'_, '_>,
    arena: &Arena,
    id: ExprId,
    max_args: usize,
    cut: impl Fn(ExprId, usize, usize) -> bool,
) -> fmt::Result {
    if write_leaf(out, arena, id)? {
        return Ok(());
    }
    write_head(out, arena, id)?;
    // Operators that are open, each with how many of its arguments are printed.
    let mut open = vec![(id, 0)];
    while let Some(&mut (node, ref mut printed)) = open.last_mut() {
        let args = arena.args(node);
        let Some(&arg) = args.get(*printed) else {
            out.write_char(')')?;
            open.pop();
            continue;
        };
        out.write_char(' ')?;
        if *printed >= max_args {
            out.write_char('…')?;
            *printed = args.len();
            continue;
        }
        *printed += 1;
        if write_leaf(out, arena, arg)? {
            continue;
        }
        if cut(arg, open.len(), out.written) {
            write!(out, "@t{}", arg.0)?;
            continue;
        }
        write_head(out, arena, arg)?;
        open.push((arg, 0));
    }
    Ok(())
}

/// A whole term that [`fmt::Display`] prints: a line `@t9 = …` for each node that is used more than once, and the term in the end. The
/// text is linear in the number of nodes.
#[derive(Clone, Copy)]
pub struct Listing<'a> {
    pub arena: &'a Arena,
    pub root: ExprId,
}

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let &Listing { arena, root } = self;
        let uses = Uses::count(arena, root, Arena::args);
        let out = &mut Counted { inner: f, written: 0 };
        let is_named = |id, _, _| uses.of(id) > 1;
        for &id in uses.nodes.iter().filter(|&&id| uses.of(id) > 1 && !arena.args(id).is_empty()) {
            write!(out, "@t{} = ", id.0)?;
            write_term(out, arena, id, usize::MAX, is_named)?;
            out.write_char('\n')?;
        }
        write_term(out, arena, root, usize::MAX, is_named)
    }
}

/// How often each node of a term stands in another.
pub(super) struct Uses {
    /// The nodes of the term, arguments first.
    pub nodes: Vec<ExprId>,
    /// By id.
    counts: Vec<u32>,
}

impl Uses {
    /// `args` gives those arguments of a node that are printed.
    pub fn count(arena: &Arena, root: ExprId, args: impl Fn(&Arena, ExprId) -> &[ExprId]) -> Uses {
        let mut uses = Uses { nodes: Vec::new(), counts: vec![0; arena.len()] };
        let mut stack = vec![root];
        uses.counts[root.0 as usize] = 1;
        while let Some(id) = stack.pop() {
            uses.nodes.push(id);
            for &arg in args(arena, id) {
                let count = &mut uses.counts[arg.0 as usize];
                if *count == 0 {
                    stack.push(arg);
                }
                *count = count.saturating_add(1);
            }
        }
        uses.nodes.sort_unstable();
        uses
    }

    pub fn of(&self, id: ExprId) -> u32 {
        self.counts[id.0 as usize]
    }
}

/// Prints a constant or a variable; false, and nothing printed, for any other node.
fn write_leaf(out: &mut impl Write, arena: &Arena, id: ExprId) -> Result<bool, fmt::Error> {
    if let Some(value) = arena.bv_value(id) {
        write!(out, "(_ bv{value} {})", arena.width(id))?;
    } else if let Some(value) = arena.bool_value(id) {
        write!(out, "{value}")?;
    } else if arena.is_variable(id) {
        write!(out, "{}", Variable { arena, id })?;
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// The name of a variable: `v` or `b` and its id.
pub struct Variable<'a> {
    pub arena: &'a Arena,
    pub id: ExprId,
}

impl fmt::Display for Variable<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let letter = if self.arena.is_bool(self.id) { 'b' } else { 'v' };
        write!(f, "{letter}{}", self.id.0)
    }
}

fn write_head(out: &mut impl Write, arena: &Arena, id: ExprId) -> fmt::Result {
    let head = arena.head(id);
    let (low, high) = (head.params_low(), head.params_high());
    match head.code {
        BCF_BV_EXTRACT => write!(out, "((_ extract {high} {low})"),
        BCF_BV_SIGN_EXTEND => write!(out, "((_ sign_extend {high})"),
        BCF_BV_ZERO_EXTEND => write!(out, "((_ zero_extend {high})"),
        BCF_BV_REPEAT => write!(out, "((_ repeat {high})"),
        BCF_BOOL_BIT_OF => write!(out, "((_ bit {low})"),
        code => write!(out, "({}({})", op_of(code).map_or("unknown", |op| op.name), head.vlen),
    }
}

/// A step that [`fmt::Display`] prints: `#7 CONG (@p3 @p5) (bool_eq(2))`.
pub struct StepText<'a> {
    pub number: StepNo,
    pub step: Step<'a>,
    pub arena: &'a Arena,
    /// From the raw ids in the parameters to nodes of `arena`.
    pub ids: &'a IdMap,
    /// Of each term among the parameters, which are `@t` once they take more than a few times the size.
    pub bounds: Bounds,
}

/// Sizes of a term after which a step's parameters are cut.
const STEP_SIZES: usize = 4;

/// What a step's parameters are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Params {
    /// Ids of expressions.
    Terms,
    /// An index, or a choice.
    Index,
    /// The id of an expression, then an index.
    TermIndex,
    /// The number of a rewrite, then ids of expressions.
    Rewrite,
    /// The header word of an expression.
    Header,
    /// Polarities of the pivots, a bit each in words, then the ids of the pivots.
    Pivots,
    /// Positions in a clause, packed.
    Packed,
}

impl Params {
    fn of(rule: &str) -> Params {
        match rule {
            "REWRITE" => Params::Rewrite,
            "CONG" => Params::Header,
            "RESOLUTION" => Params::Pivots,
            "FACTORING" | "REORDERING" => Params::Packed,
            "NOT_AND" => Params::Index,
            rule if rule.ends_with("_ELIM") => Params::Index,
            rule if rule.starts_with("CNF_") => Params::TermIndex,
            _ => Params::Terms,
        }
    }
}

impl fmt::Display for StepText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rule = rules::name(self.step.head.rule);
        let out = &mut Counted { inner: f, written: 0 };
        write!(out, "#{} {rule} (", self.number)?;
        for (i, premise) in self.step.premises.iter().enumerate() {
            write!(out, "{}@p{premise}", separator(i))?;
        }
        out.write_str(") (")?;
        out.written = 0;
        self.write_params(out, Params::of(rule))?;
        out.write_char(')')
    }
}

fn separator(i: usize) -> &'static str {
    if i == 0 { "" } else { " " }
}

impl StepText<'_> {
    fn write_params(&self, f: &mut Counted<'_, '_>, kind: Params) -> fmt::Result {
        let polarity_words = self.step.premises.len().saturating_sub(1).div_ceil(32);
        for (i, &param) in self.step.params.iter().enumerate() {
            f.write_str(separator(i))?;
            match (kind, i) {
                (Params::Rewrite, 0) => f.write_str(rewrite_name(param))?,
                (Params::Pivots, i) if i < polarity_words => write!(f, "{param:#b}")?,
                (Params::Terms | Params::Rewrite | Params::Pivots, _) | (Params::TermIndex, 0) => {
                    self.write_term(f, param)?;
                }
                (Params::Index | Params::TermIndex, _) => write!(f, "{param}")?,
                (Params::Header, 0) => write_operator(f, param)?,
                (Params::Header | Params::Packed, _) => write!(f, "{param:#x}")?,
            }
        }
        Ok(())
    }

    fn write_term(&self, f: &mut Counted<'_, '_>, raw: u32) -> fmt::Result {
        match self.ids.get(raw) {
            Some(id) if f.written < STEP_SIZES * self.bounds.size => {
                write!(f, "{}", Term { arena: self.arena, id, bounds: self.bounds })
            }
            _ => write!(f, "@t{raw}"),
        }
    }
}

/// Number 0 is the published checker's step on trust.
fn rewrite_name(number: u32) -> &'static str {
    if number == 0 { "trusted" } else { rewrite::name(number).unwrap_or("unknown") }
}

/// A header word, as what it makes of its arguments.
fn write_operator(f: &mut impl Write, word: u32) -> fmt::Result {
    let head: BcfExpr = bytemuck::cast(word);
    let name = op_of(head.code).map_or("unknown", |op| op.name);
    match head.params {
        0 => write!(f, "{name}({})", head.vlen),
        params => write!(f, "{name}({}) {params:#x}", head.vlen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_are_printed_as_the_checker_does() {
        let mut arena = Arena::new();
        let x = arena.bv_var(32);
        let five = arena.bv_const(8, 5);
        let low = arena.intern(BCF_BV_EXTRACT, 0x0700, &[x]);
        let less = arena.intern(BCF_BOOL_ULT, 0, &[low, five]);
        let bit = arena.intern(BCF_BOOL_BIT_OF, 3, &[x]);
        let both = arena.intern(BCF_BOOL_AND, 0, &[less, bit, arena.truth(true)]);
        let print = |id, bounds| Term { arena: &arena, id, bounds }.to_string();
        let v = x.0;
        assert_eq!(
            print(both, Bounds::FULL),
            format!("(bool_conj(3) (bool_ult(2) ((_ extract 7 0) v{v}) (_ bv5 8)) ((_ bit 3) v{v}) true)")
        );
        let (l, e) = (less.0, low.0);
        assert_eq!(print(both, Bounds { depth: 1, args: 1, size: 99 }), format!("(bool_conj(3) @t{l} …)"));
        assert_eq!(
            print(less, Bounds { depth: 9, args: 9, size: 0 }),
            format!("(bool_ult(2) @t{e} (_ bv5 8))")
        );
        assert_eq!(print(x, Bounds::BRIEF), format!("v{v}"));
        let twice = arena.intern(BCF_BV_ADD, 8, &[low, low]);
        assert_eq!(
            Listing { arena: &arena, root: twice }.to_string(),
            format!("@t{e} = ((_ extract 7 0) v{v})\n(bv_add(2) @t{e} @t{e})")
        );
    }

    #[test]
    fn exponential_trees_are_cut() {
        let mut arena = Arena::new();
        let mut x = arena.bv_var(32);
        for _ in 0..10_000 {
            x = arena.intern(BCF_BV_ADD, 32, &[x, x]);
        }
        let text = Term { arena: &arena, id: x, bounds: Bounds::FULL }.to_string();
        assert!(text.len() < 2 * Bounds::FULL.size, "{}", text.len());
    }
}
