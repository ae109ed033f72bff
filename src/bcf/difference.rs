//! How two kernels' requests for one program differ.

use std::fmt::{self, Write};

use bpftwin_uapi::Errno;
use serde::Serialize;

use super::client::{Conversation, Round};
use super::expr::{Arena, IdMap};
use super::print::{Bounds, Listing, Term};
use super::request::{Request, Target};

/// Lines of one condition that are shown.
const MAX_LINES: usize = 40;
/// Expressions that are shown from the first that differs on.
const EXPRS: usize = 3;

/// The first thing in which two conversations differ.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
pub struct Difference {
    /// Number of the request, from 1; one more than there are where the ends differ.
    pub request: usize,
    /// What differs.
    pub what: String,
    /// Ours, in a few lines.
    pub ours: String,
    /// The same of the kernel.
    pub kernel: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  bcf, request {}: {}", self.request, self.what)?;
        for (who, text) in [("ours", &self.ours), ("host", &self.kernel)] {
            let mut lines = text.lines();
            writeln!(f, "    {who}: {}", lines.next().unwrap_or_default())?;
            for line in lines {
                writeln!(f, "          {line}")?;
            }
        }
        Ok(())
    }
}

/// Finds the first difference.
pub fn first_difference(ours: &Conversation, kernel: &Conversation) -> Option<Difference> {
    let difference = |at: usize, what: &str, ours: String, kernel: String| {
        Some(Difference { request: at + 1, what: what.into(), ours, kernel })
    };
    for at in 0..ours.rounds.len().max(kernel.rounds.len()) {
        let (our, their) = (ours.rounds.get(at), kernel.rounds.get(at));
        let (Some(our), Some(their)) = (our, their) else {
            return difference(at, "one side alone asks", told(our, ours), told(their, kernel));
        };
        if our.request != their.request {
            return Some(Difference { request: at + 1, ..between(&our.request, &their.request) });
        }
        if our.errno != their.errno {
            return difference(at, "errors that go with it", name(our.errno), name(their.errno));
        }
        if our.answer != their.answer {
            return difference(at, "answers of the prover", our.answer.into(), their.answer.into());
        }
    }
    if ours.errno() != kernel.errno() {
        let [our, their] = [ours, kernel].map(|conversation| name(conversation.errno()));
        return difference(ours.rounds.len(), "ends of the load", our, their);
    }
    None
}

fn name(errno: i32) -> String {
    if errno == 0 { "accepted".into() } else { Errno(errno).to_string() }
}

/// A request, or how the load ended without it.
fn told(round: Option<&Round>, conversation: &Conversation) -> String {
    match round {
        None => format!("no request, {}", name(conversation.errno())),
        Some(round) => {
            let request = Read::new(&round.request);
            format!("{} with a request\n{}", name(round.errno), request.conditions())
        }
    }
}

/// A request, taken apart as far as that is possible.
struct Read<'a> {
    words: &'a [u32],
    exprs: Option<(Arena, IdMap)>,
    request: Option<Request>,
}

impl Read<'_> {
    fn new(words: &[u32]) -> Read<'_> {
        let exprs = words.len().checked_sub(2).and_then(|end| words.get(..end));
        Read {
            words,
            exprs: exprs.and_then(|exprs| Arena::parse(exprs).ok()),
            request: Request::parse(words).ok(),
        }
    }

    fn condition(&self, target: Target) -> String {
        let Some(request) = &self.request else { return "cannot be read".into() };
        let Some(root) = request.cond(target) else { return "none".into() };
        let text = Listing { arena: &request.arena, root }.to_string();
        let count = text.lines().count();
        if count <= MAX_LINES {
            return text;
        }
        // The end says most: that is where the conditions are.
        let last: Vec<&str> = text.lines().skip(count - MAX_LINES).collect();
        format!("({} lines before)\n{}", count - MAX_LINES, last.join("\n"))
    }

    fn conditions(&self) -> String {
        let [path, refine] = [Target::PathUnreachable, Target::Refine].map(|target| self.condition(target));
        format!("path condition:\n{path}\nrefine condition:\n{refine}")
    }

    /// The expressions from the one on that word `at` belongs to.
    fn from(&self, at: usize) -> String {
        let len = self.words.len();
        if at + 2 >= len {
            let ids: Vec<i32> = self.words.iter().rev().take(2).rev().map(|&word| word as i32).collect();
            return format!("conditions {ids:?}");
        }
        let Some((arena, ids)) = &self.exprs else {
            return format!("cannot be read; word {at} is {:#x}", self.words[at]);
        };
        let starts = |word: usize| ids.get(word as u32).is_some();
        let first = (0..=at).rev().find(|&word| starts(word)).unwrap_or(0);
        let mut text = String::new();
        for word in (first..len).filter(|&word| starts(word)).take(EXPRS) {
            let Some(id) = ids.get(word as u32) else { continue };
            let _ = writeln!(text, "word {word}: {}", Term { arena, id, bounds: Bounds::BRIEF });
        }
        text
    }
}

/// What tells two requests apart.
fn between(ours: &[u32], kernel: &[u32]) -> Difference {
    let at = ours.iter().zip(kernel).position(|(our, their)| our != their);
    let at = at.unwrap_or(ours.len().min(kernel.len()));
    let (ours, kernel) = (Read::new(ours), Read::new(kernel));
    let mut what = format!("differs from word {at} of {} and {} on", ours.words.len(), kernel.words.len());
    let (mut our, mut their) = (ours.from(at), kernel.from(at));
    for (target, title) in [(Target::PathUnreachable, "path condition"), (Target::Refine, "refine condition")]
    {
        let [our_cond, their_cond] = [&ours, &kernel].map(|request| request.condition(target));
        if our_cond == their_cond {
            let _ = write!(what, "; the {title}s are the same");
            continue;
        }
        for (text, cond) in [(&mut our, our_cond), (&mut their, their_cond)] {
            let _ = writeln!(text, "{title}:\n{cond}");
        }
    }
    Difference { request: 0, what, ours: our, kernel: their }
}

#[cfg(test)]
mod tests {
    use bpftwin_uapi::bcf::*;

    use super::*;

    /// `x & mask > 7` as the refine condition.
    fn request(mask: u32) -> Vec<u32> {
        let node = |code: u8, params: u16, args: &[u32]| {
            let head = BcfExpr { code, vlen: args.len() as u8, params };
            [&[bytemuck::cast(head)], args].concat()
        };
        [
            node(BCF_BV_VAR, 32, &[]),
            node(BCF_BV_CONST, 32, &[mask]),
            node(BCF_BV_AND, 32, &[0, 1]),
            node(BCF_BV_CONST, 32, &[7]),
            node(BCF_BOOL_UGT, 0, &[3, 6]),
            vec![u32::MAX, 8],
        ]
        .concat()
    }

    fn conversation(requests: &[Vec<u32>], result: Result<i64, Errno>) -> Conversation {
        let round = |request: &Vec<u32>| Round { errno: 22, request: request.clone(), answer: 'R' };
        Conversation { rounds: requests.iter().map(round).collect(), result }
    }

    #[test]
    fn a_term_that_differs_is_shown() {
        let (seven, three) = (request(7), request(3));
        let ours = conversation(&[seven.clone(), seven.clone()], Ok(3));
        let other = Conversation { result: Ok(4), ..ours.clone() };
        assert_eq!(first_difference(&ours, &other), None);
        let difference = first_difference(&ours, &conversation(&[seven, three], Ok(3))).unwrap();
        assert_eq!(difference.request, 2);
        assert!(difference.what.starts_with("differs from word 2 of 13 and 13 on"), "{difference}");
        assert!(difference.what.contains("the path conditions are the same"), "{difference}");
        assert!(difference.ours.starts_with("word 1: (_ bv7 32)\n"), "{difference}");
        assert!(difference.kernel.starts_with("word 1: (_ bv3 32)\n"), "{difference}");
        assert!(
            difference.kernel.ends_with("(bool_ugt(2) (bv_and(2) v0 (_ bv3 32)) (_ bv7 32))\n"),
            "{difference}"
        );
    }

    #[test]
    fn ends_and_garbage_differ() {
        let one = conversation(&[request(7)], Err(Errno::EACCES));
        let more = conversation(&[request(7), vec![1, 2, 3]], Err(Errno::EACCES));
        let difference = first_difference(&one, &more).unwrap();
        assert_eq!((difference.request, &*difference.ours), (2, "no request, EACCES"));
        assert!(difference.kernel.contains("cannot be read"), "{difference}");
        let end = conversation(&[request(7)], Ok(3));
        let difference = first_difference(&one, &end).unwrap();
        assert_eq!((&*difference.ours, &*difference.kernel), ("EACCES", "accepted"));
        assert!(first_difference(&more, &conversation(&[request(7), vec![1]], Ok(3))).is_some());
    }
}
