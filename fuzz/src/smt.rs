//! What conditions mean before and after they were text.

use bpftwin::bcf::eval::{Bv, Evaluator, Value};
use bpftwin::bcf::expr::{Arena, ExprId};
use bpftwin::bcf::smtlib::{Condition, Script, parse};

/// Prints the condition as SMT-LIB, reads that, and evaluates both under some values of the variables.
///
/// # Panics
/// When the text cannot be read or means something else.
pub fn same_in_text(arena: &Arena, root: ExprId) {
    let text = Script { arena, root }.to_string();
    let Condition { arena: reread, root: reread_root, variables } = match parse(text.as_bytes()) {
        Ok(condition) => condition,
        // Concatenations of single bits and the like can outgrow the limit that the words kept.
        Err(error) if error.reason.contains("larger than a proof") => return,
        Err(error) => panic!("{error}\n{text}"),
    };
    for seed in [0, u64::MAX, 0x9e37_79b9_7f4a_7c15, 0x0123_4567_89ab_cdef] {
        let (mut before, mut after) = (Evaluator::new(), Evaluator::new());
        for id in arena.reachable(&[root]).into_iter().filter(|&id| arena.is_variable(id)) {
            before.assign(id, value(arena, id, seed));
        }
        for (name, id) in &variables {
            let original = ExprId(name[1..].parse().expect("a number"));
            after.assign(*id, value(arena, original, seed));
        }
        let expected = before.eval_bool(arena, root);
        assert!(expected.is_some(), "no value");
        assert_eq!(after.eval_bool(&reread, reread_root), expected, "{text}");
    }
}

/// A value for a variable: all zeros, all ones, or something that depends on its id.
fn value(arena: &Arena, id: ExprId, seed: u64) -> Value {
    let bits = if seed.wrapping_add(1) < 2 { seed } else { seed.wrapping_mul(u64::from(id.0) | 1) };
    match arena.width(id) {
        0 => Value::Bool(bits & 1 != 0),
        width => Value::Bv(Bv::from_bits((0..width).map(|i| bits.rotate_right(i.into()) & 1 != 0))),
    }
}
