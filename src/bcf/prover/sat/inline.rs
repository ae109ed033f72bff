//! Drawing lemmas into the lemmas that use them.

use rustc_hash::FxHashMap;

use super::Lit;
use super::plan::{Clauses, Lemma, Plan, Problem};

/// Resolutions of a chain at most: beyond that they do not get shorter, only take longer to arrange.
const MAX_REASONS: usize = 1000;

/// Draws every lemma that is used once into its user where that can be done.
pub(super) fn inline(problem: &Problem, mut plan: Plan) -> Plan {
    let originals = problem.clauses.len();
    let mut clauses = problem.clauses.clone();
    let mut uses = vec![0u32; plan.lemmas.len()];
    for lemma in &plan.lemmas {
        clauses.push(&lemma.lits);
        for id in lemma.premises() {
            if let Some(used) = id.checked_sub(originals) {
                uses[used as usize] += 1;
            }
        }
    }
    for user in 0..plan.lemmas.len() {
        while let Some(larger) = draw_in_one(&plan, user, &uses, &clauses, originals) {
            larger
                .premises()
                .filter_map(|id| id.checked_sub(originals))
                .for_each(|used| uses[used as usize] += 1);
            let mut gone = vec![std::mem::replace(&mut plan.lemmas[user], larger)];
            while let Some(lemma) = gone.pop() {
                for used in lemma.premises().filter_map(|id| id.checked_sub(originals)) {
                    uses[used as usize] -= 1;
                    if uses[used as usize] == 0 {
                        gone.push(plan.lemmas[used as usize].clone());
                    }
                }
            }
        }
    }
    plan.trim(originals);
    plan
}

/// The lemma `user` with one of its premises drawn in.
fn draw_in_one(plan: &Plan, user: usize, uses: &[u32], clauses: &Clauses, originals: u32) -> Option<Lemma> {
    let lemma = &plan.lemmas[user];
    if lemma.reasons.len() > MAX_REASONS {
        return None;
    }
    let single = |id: u32| {
        let index = id.checked_sub(originals)? as usize;
        (uses[index] == 1).then(|| &plan.lemmas[index])
    };
    let start = single(lemma.start).and_then(|premise| {
        let reasons = lemma.reasons.iter().copied().collect();
        arrange(clauses, &lemma.lits, premise.start, reasons, &premise.reasons)
    });
    start.or_else(|| {
        lemma.reasons.iter().find_map(|&(lit, reason)| {
            let (reason, added) = rotate(single(reason)?, !lit, clauses)?;
            let mut reasons: FxHashMap<Lit, u32> = lemma.reasons.iter().copied().collect();
            reasons.insert(lit, reason);
            arrange(clauses, &lemma.lits, lemma.start, reasons, &added)
        })
    })
}

/// The lemma's derivation as one that starts from a clause with the literal `lit`: that clause and its reasons. `None`
/// if it has no single such clause, or one cannot come first.
fn rotate(lemma: &Lemma, lit: Lit, clauses: &Clauses) -> Option<(u32, Vec<(Lit, u32)>)> {
    let mut reasons = lemma.reasons.clone();
    let mut wanted = lit;
    let mut first = None;
    let mut turned = Vec::new();
    // The resolution that removes `wanted` from its only clause, seen from the other side, removes `!wanted`.
    loop {
        let mut owners = lemma.premises().filter(|&id| clauses.get(id).contains(&wanted));
        let (Some(owner), None) = (owners.next(), owners.next()) else { return None };
        let next = match owner == lemma.start {
            true => None,
            false => {
                let place = reasons.iter().position(|&(_, reason)| reason == owner)?;
                Some(reasons.swap_remove(place).0)
            }
        };
        match first {
            None => first = Some(owner),
            Some(_) => turned.push((!wanted, owner)),
        }
        let Some(next) = next else {
            reasons.extend(turned);
            return Some((first?, reasons));
        };
        wanted = next;
    }
}

/// Puts reasons in order so that `target` is derived from `start`. `None` if they go in circles, resolve on both a
/// literal and its negation, or derive another clause: even a subset of the target would leave its users resolving
/// literals that no longer come.
fn arrange(
    clauses: &Clauses,
    target: &[Lit],
    start: u32,
    mut reasons: FxHashMap<Lit, u32>,
    added: &[(Lit, u32)],
) -> Option<Lemma> {
    for &(lit, reason) in added {
        if target.binary_search(&lit).is_err() {
            reasons.entry(lit).or_insert(reason);
        }
    }
    // Depth first; a literal is listed when all that its reason brings is, so the list has to be read backwards.
    let mut states: FxHashMap<Lit, bool> = FxHashMap::default();
    let mut order = Vec::new();
    let mut lits = Vec::new();
    let mut stack: Vec<(Lit, bool)> = clauses.get(start).iter().map(|&lit| (lit, false)).collect();
    while let Some((lit, leaving)) = stack.pop() {
        if leaving {
            states.insert(lit, true);
            order.push((lit, *reasons.get(&lit)?));
            continue;
        }
        match states.get(&lit) {
            Some(true) => continue,
            Some(false) => return None,
            None => {}
        }
        if states.contains_key(&!lit) {
            return None;
        }
        let Some(&reason) = reasons.get(&lit) else {
            target.binary_search(&lit).ok()?;
            states.insert(lit, true);
            lits.push(lit);
            continue;
        };
        states.insert(lit, false);
        stack.push((lit, true));
        stack.extend(clauses.get(reason).iter().filter(|other| **other != !lit).map(|&other| (other, false)));
    }
    order.reverse();
    lits.sort_unstable();
    (lits == target).then_some(Lemma { lits, start, reasons: order })
}
