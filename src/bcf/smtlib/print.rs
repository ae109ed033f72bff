//! Printing: `declare-fun` for each variable, one `assert`, with a `let` for each node that is used more than once.
//!
//! The text is linear in the number of nodes. Bindings that do not need one another share a `let`, so that the nesting is as deep
//! as the term and no deeper.

use std::fmt::{self, Write};

use bpftwin_uapi::bcf::*;

use crate::bcf::expr::{Arena, ExprId, op_of};
use crate::bcf::print::{Uses, Variable};

/// A script that asks whether a condition can be satisfied; [`fmt::Display`] prints it.
///
/// Variables are `v` (bit-vectors) or `b` (Booleans) and their id. What SMT-LIB does not have is said otherwise: the bit of a
/// bit-vector as an equality of an `extract`, a bit-vector of Booleans as a `concat`, a width as a constant, and a condition of one
/// bit as its equality with `#b1`.
#[derive(Clone, Copy)]
pub struct Script<'a> {
    pub arena: &'a Arena,
    /// A Boolean term.
    pub root: ExprId,
}

impl fmt::Display for Script<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plan = Plan::new(self.arena, self.root);
        f.write_str("(set-logic QF_BV)\n")?;
        for &id in plan.uses.nodes.iter().filter(|&&id| self.arena.is_variable(id)) {
            let name = Variable { arena: self.arena, id };
            match self.arena.width(id) {
                0 => writeln!(f, "(declare-fun {name} () Bool)")?,
                width => writeln!(f, "(declare-fun {name} () (_ BitVec {width}))")?,
            }
        }
        f.write_str("(assert")?;
        for level in &plan.levels {
            f.write_str("\n  (let (")?;
            for (i, &id) in level.iter().enumerate() {
                let separator = if i == 0 { "" } else { "\n        " };
                write!(f, "{separator}(t{} ", id.0)?;
                plan.write_term(f, id)?;
                f.write_char(')')?;
            }
            f.write_char(')')?;
        }
        f.write_str("\n  ")?;
        if plan.is_shared(self.root) {
            write!(f, "t{}", self.root.0)?;
        } else {
            plan.write_term(f, self.root)?;
        }
        for _ in &plan.levels {
            f.write_char(')')?;
        }
        f.write_str(")\n(check-sat)\n(exit)\n")
    }
}

/// What is printed where.
struct Plan<'a> {
    arena: &'a Arena,
    uses: Uses,
    /// The nodes that are used more than once, those first that need none of the others.
    levels: Vec<Vec<ExprId>>,
}

/// The arguments that the text of a node contains.
fn printed_args(arena: &Arena, id: ExprId) -> &[ExprId] {
    if arena.code(id) == BCF_BV_SIZE { &[] } else { arena.args(id) }
}

impl<'a> Plan<'a> {
    fn new(arena: &'a Arena, root: ExprId) -> Plan<'a> {
        let uses = Uses::count(arena, root, printed_args);
        let mut plan = Plan { arena, uses, levels: Vec::new() };
        plan.find_levels();
        plan
    }

    /// A node's level is the number of levels that have to be bound before its term can be written.
    fn find_levels(&mut self) {
        let mut level_of = vec![0u32; self.arena.len()];
        for &id in &self.uses.nodes {
            let needed = printed_args(self.arena, id).iter().map(|&arg| {
                let level = level_of[arg.0 as usize];
                if self.is_shared(arg) { level + 1 } else { level }
            });
            let level = needed.max().unwrap_or(0);
            level_of[id.0 as usize] = level;
            if self.is_shared(id) {
                let level = level as usize;
                if self.levels.len() <= level {
                    self.levels.resize_with(level + 1, Vec::new);
                }
                self.levels[level].push(id);
            }
        }
    }

    /// Whether the node has a name of its own.
    fn is_shared(&self, id: ExprId) -> bool {
        let is_leaf = printed_args(self.arena, id).is_empty();
        self.uses.of(id) > 1 && !is_leaf
    }

    /// The node itself, its shared arguments by name.
    fn write_term(&self, out: &mut impl Write, id: ExprId) -> fmt::Result {
        let arena = self.arena;
        // What is still to be written, the next on top.
        let mut todo = Vec::new();
        open(arena, id, out, &mut todo)?;
        while let Some(piece) = todo.pop() {
            match piece {
                Piece::Text(text) => out.write_str(text)?,
                Piece::Bit(bit) => write!(out, "(= ((_ extract {bit} {bit}) ")?,
                Piece::Node(id) if self.is_shared(id) => write!(out, "t{}", id.0)?,
                Piece::Node(id) => open(arena, id, out, &mut todo)?,
            }
        }
        Ok(())
    }
}

enum Piece {
    Text(&'static str),
    Bit(u8),
    Node(ExprId),
}

/// Writes the beginning of a node, and puts the rest on the stack.
fn open(arena: &Arena, id: ExprId, out: &mut impl Write, todo: &mut Vec<Piece>) -> fmt::Result {
    let head = arena.head(id);
    let (low, high) = (head.params_low(), head.params_high());
    let args = arena.args(id);
    let first_piece = todo.len();
    match head.code {
        BCF_BV_CONST => write_const(out, arena.width(id), arena.bv_value(id).unwrap_or(0))?,
        BCF_BV_SIZE => write_const(out, low, args.first().map_or(0, |&arg| arena.width(arg).into()))?,
        BCF_BOOL_CONST => write!(out, "{}", head.params & 1 != 0)?,
        BCF_BV_VAR | BCF_BOOL_VAR => write!(out, "{}", Variable { arena, id })?,
        BCF_BOOL_BIT_OF => {
            todo.extend([Piece::Bit(low), Piece::Node(args[0]), Piece::Text(") #b1)")]);
        }
        BCF_BV_ITE if arena.is_bv(args[0]) => {
            todo.extend([Piece::Text("(ite (= "), Piece::Node(args[0]), Piece::Text(" #b1)")]);
            todo.extend(args[1..].iter().flat_map(|&arg| [Piece::Text(" "), Piece::Node(arg)]));
            todo.push(Piece::Text(")"));
        }
        BCF_BV_FROM_BOOL => {
            // The last argument is the highest bit.
            if args.len() > 1 {
                todo.push(Piece::Text("(concat "));
            }
            for (i, &arg) in args.iter().rev().enumerate() {
                todo.push(Piece::Text(if i == 0 { "(ite " } else { " (ite " }));
                todo.extend([Piece::Node(arg), Piece::Text(" #b1 #b0)")]);
            }
            if args.len() > 1 {
                todo.push(Piece::Text(")"));
            }
        }
        code => {
            match code {
                BCF_BV_EXTRACT => write!(out, "((_ extract {high} {low})")?,
                BCF_BV_SIGN_EXTEND => write!(out, "((_ sign_extend {high})")?,
                BCF_BV_ZERO_EXTEND => write!(out, "((_ zero_extend {high})")?,
                BCF_BV_REPEAT => write!(out, "((_ repeat {high})")?,
                _ => write!(out, "({}", op_of(code).and_then(|op| op.smt).unwrap_or("list"))?,
            }
            todo.extend(args.iter().flat_map(|&arg| [Piece::Text(" "), Piece::Node(arg)]));
            todo.push(Piece::Text(")"));
        }
    }
    todo[first_piece..].reverse();
    Ok(())
}

/// Hexadecimal or binary where the width allows, as both carry their width.
fn write_const(out: &mut impl Write, width: u8, value: u64) -> fmt::Result {
    match width {
        4..=64 if width.is_multiple_of(4) => {
            write!(out, "#x{value:0digits$x}", digits = usize::from(width / 4))
        }
        1..8 => write!(out, "#b{value:0digits$b}", digits = width.into()),
        _ => write!(out, "(_ bv{value} {width})"),
    }
}
