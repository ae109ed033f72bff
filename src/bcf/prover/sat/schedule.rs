//! From plans to chains of resolutions.
//!
//! A lemma's derivation is a graph: the start clause, and for each literal to resolve away the clause that is its
//! reason. Resolution merges no literals, so one that several clauses share has to be resolved as often as it occurs,
//! unless its copies are merged first. There are three ways, and which one is shortest depends on the graph:
//! - resolve every copy (8 bytes each; and the reason's own literals come again each time);
//! - cut: derive the reason's clause with its own literals resolved away as a step of its own, and resolve every copy
//!   with that (12 bytes more);
//! - merge: end the chain, factor, start another (24 bytes, for all literals at once).

use super::plan::{Lemma, Plan};
use super::refutation::{self, Derivation, Link, Refutation, Step};
use super::{Bounds, ClauseId, Lit};

/// Chooses the resolutions of a plan for `originals`. `None` if a clause grows beyond the bounds.
pub(super) fn schedule<C: AsRef<[Lit]>>(
    vars: u32,
    originals: &[C],
    plan: &Plan,
    bounds: &Bounds,
) -> Option<Refutation> {
    let mut scheduler = Scheduler {
        originals,
        bounds,
        steps: Vec::new(),
        ids: vec![None; originals.len() + plan.lemmas.len()],
        nodes_by_lit: vec![NONE; 2 * vars as usize],
    };
    for (index, lemma) in plan.lemmas.iter().enumerate() {
        let id = scheduler.lemma(lemma)?;
        scheduler.ids[originals.len() + index] = Some(id);
    }
    let empty = scheduler.ids.get(plan.empty as usize)?.unwrap_or(ClauseId(plan.empty));
    Some(Refutation { originals: originals.len() as u32, steps: scheduler.steps, empty })
}

const NONE: u32 = u32::MAX;

struct Scheduler<'a, C> {
    originals: &'a [C],
    bounds: &'a Bounds,
    steps: Vec<Step>,
    /// By the plan's ids: the clauses without repeated literals.
    ids: Vec<Option<ClauseId>>,
    /// Scratch, all [`NONE`] between lemmas.
    nodes_by_lit: Vec<u32>,
}

/// A literal to resolve away.
struct Node {
    lit: Lit,
    /// The clause with the negation.
    reason: ClauseId,
    /// The nodes of the other literals of the reason, all later ones.
    children: Vec<u32>,
    /// How many clauses have the literal.
    fanout: u32,
    /// Whether the reason is to be derived as a clause of its own.
    cut: bool,
    /// Then, that clause.
    lemma: Option<ClauseId>,
    /// How many links it takes to resolve away the literal and all that its reason brings.
    size: u64,
    /// Nodes of the chain under way that bring the literal and are not resolved yet.
    pending: u32,
    reached: bool,
}

/// One way to do a lemma.
#[derive(Clone, Copy, Debug)]
struct Style {
    /// Cut shared literals.
    cut: bool,
    /// Merge rather than resolve copies for more bytes than this.
    patience: u64,
}

const STYLES: [Style; 4] = [
    Style { cut: true, patience: u64::MAX },
    Style { cut: true, patience: 24 },
    Style { cut: false, patience: 24 },
    Style { cut: false, patience: 0 },
];

impl<C: AsRef<[Lit]>> Scheduler<'_, C> {
    fn clause(&self, id: ClauseId) -> &[Lit] {
        match (id.0 as usize).checked_sub(self.originals.len()) {
            None => self.originals[id.0 as usize].as_ref(),
            Some(step) => &self.steps[step].result,
        }
    }

    fn next_id(&self) -> ClauseId {
        ClauseId((self.originals.len() + self.steps.len()) as u32)
    }

    fn push(&mut self, step: Step) -> ClauseId {
        let id = self.next_id();
        self.steps.push(step);
        id
    }

    /// The clause of a plan's id, without repeated literals.
    fn resolve_id(&mut self, id: u32) -> Option<ClauseId> {
        if let Some(known) = self.ids[id as usize] {
            return Some(known);
        }
        let factored = self.factored(ClauseId(id))?;
        self.ids[id as usize] = Some(factored);
        Some(factored)
    }

    /// The clause itself, or the clause without its repeated literals.
    fn factored(&mut self, id: ClauseId) -> Option<ClauseId> {
        let mut result = self.clause(id).to_vec();
        let groups = refutation::factor(&mut result)?;
        if groups.is_empty() {
            return Some(id);
        }
        Some(self.push(Step { how: Derivation::Factor { clause: id, groups }, result }))
    }

    /// Derives a lemma in the cheapest style.
    fn lemma(&mut self, lemma: &Lemma) -> Option<ClauseId> {
        let start = self.resolve_id(lemma.start)?;
        let mut nodes = Vec::with_capacity(lemma.reasons.len());
        for &(lit, reason) in &lemma.reasons {
            self.nodes_by_lit[lit.index()] = nodes.len() as u32;
            let reason = self.resolve_id(reason)?;
            nodes.push(Node {
                lit,
                reason,
                children: Vec::new(),
                fanout: 0,
                cut: false,
                lemma: None,
                size: 1,
                pending: 0,
                reached: false,
            });
        }
        self.connect(start, &mut nodes);
        let base = self.steps.len();
        let mut best: Option<(u64, ClauseId, Vec<Step>)> = None;
        for style in STYLES {
            let shared = set_cuts(&mut nodes, style.cut);
            let done = self.derive(start, &mut nodes, style.patience);
            let steps = self.steps.split_off(base);
            if let Some(id) = done {
                let bytes = steps.iter().map(Step::bytes).sum();
                if best.as_ref().is_none_or(|(least, ..)| bytes < *least) {
                    best = Some((bytes, id, steps));
                }
            }
            if !shared {
                // There are no choices.
                break;
            }
        }
        for node in &nodes {
            self.nodes_by_lit[node.lit.index()] = NONE;
        }
        let (_, id, steps) = best?;
        self.steps.extend(steps);
        Some(id)
    }

    /// Finds the nodes' children and fanouts.
    fn connect(&self, start: ClauseId, nodes: &mut [Node]) {
        let children = |clause: &[Lit], nodes: &mut [Node]| -> Vec<u32> {
            let found = clause.iter().map(|lit| self.nodes_by_lit[lit.index()]).filter(|&node| node != NONE);
            found.inspect(|&node| nodes[node as usize].fanout += 1).collect()
        };
        children(self.clause(start), nodes);
        for index in 0..nodes.len() {
            nodes[index].children = children(self.clause(nodes[index].reason), nodes);
        }
    }

    /// Derives the lemma with the cuts chosen.
    fn derive(&mut self, start: ClauseId, nodes: &mut [Node], patience: u64) -> Option<ClauseId> {
        for index in (0..nodes.len()).rev().filter(|&index| nodes[index].cut).collect::<Vec<_>>() {
            let lemma = self.chain(nodes[index].reason, nodes, patience)?;
            nodes[index].lemma = Some(lemma);
        }
        self.chain(start, nodes, patience)
    }

    /// Resolves `start` until none of the nodes' literals is left.
    fn chain(&mut self, start: ClauseId, nodes: &mut [Node], patience: u64) -> Option<ClauseId> {
        let mut chain = Chain { start, links: Vec::new(), running: self.clause(start).to_vec() };
        // A derivation that was given up has left its marks.
        for node in nodes.iter_mut() {
            node.reached = false;
            node.pending = 0;
        }
        reach(nodes, chain.running.iter().map(|lit| self.nodes_by_lit[lit.index()]));
        loop {
            // Of the literals that will not come again, the one whose copies are the cheapest to resolve.
            let mut choice: Option<(u64, u32)> = None;
            for lit in chain.running.iter().rev() {
                let node = self.nodes_by_lit[lit.index()];
                if node == NONE || nodes[node as usize].pending > 0 {
                    continue;
                }
                let copies = chain.running.iter().filter(|other| *other == lit).count() as u64;
                let bytes = (copies - 1).saturating_mul(nodes[node as usize].size).saturating_mul(8);
                if choice.is_none_or(|(least, _)| bytes < least) {
                    choice = Some((bytes, node));
                    if bytes == 0 {
                        break;
                    }
                }
            }
            let Some((bytes, index)) = choice else { break };
            if bytes > patience {
                self.merge(&mut chain)?;
                continue;
            }
            let node = &nodes[index as usize];
            let clause = node.lemma.filter(|_| node.cut).unwrap_or(node.reason);
            while chain.running.contains(&node.lit) {
                self.link(&mut chain, Link { clause, pivot: node.lit })?;
            }
            if !node.cut {
                for place in 0..node.children.len() {
                    let child = nodes[index as usize].children[place] as usize;
                    nodes[child].pending -= 1;
                }
            }
        }
        let id = self.end(&mut chain);
        self.factored(id)
    }

    /// Adds a link, ending the chain and merging literals when the bounds ask for it.
    fn link(&mut self, chain: &mut Chain, link: Link) -> Option<()> {
        let adds = self.clause(link.clause).len() - 1;
        if chain.running.len() - 1 + adds > self.bounds.literals {
            self.merge(chain)?;
            if chain.running.len() - 1 + adds > self.bounds.literals {
                return None;
            }
        }
        if chain.links.len() + 1 >= self.bounds.premises {
            self.end(chain);
        }
        refutation::resolve(&mut chain.running, self.clause(link.clause), link.pivot)?;
        chain.links.push(link);
        Some(())
    }

    /// Makes a step of the chain so far, from which the chain then continues.
    fn end(&mut self, chain: &mut Chain) -> ClauseId {
        if !chain.links.is_empty() {
            let how = Derivation::Resolve { start: chain.start, links: std::mem::take(&mut chain.links) };
            chain.start = self.push(Step { how, result: chain.running.clone() });
        }
        chain.start
    }

    /// Merges the repeated literals of the chain.
    fn merge(&mut self, chain: &mut Chain) -> Option<()> {
        let id = self.end(chain);
        chain.start = self.factored(id)?;
        chain.running = self.clause(chain.start).to_vec();
        Some(())
    }
}

struct Chain {
    start: ClauseId,
    links: Vec<Link>,
    running: Vec<Lit>,
}

/// Chooses which shared literals to cut, and computes sizes. Says whether any literal is shared.
fn set_cuts(nodes: &mut [Node], cut: bool) -> bool {
    let mut shared = false;
    for index in (0..nodes.len()).rev() {
        let children = nodes[index].children.iter().map(|&child| {
            let child = &nodes[child as usize];
            if child.cut { 1 } else { child.size }
        });
        let size = children.fold(1u64, u64::saturating_add);
        let node = &mut nodes[index];
        node.lemma = None;
        node.size = size;
        // `fanout` copies cost 8·fanout·size bytes, cut 12 + 8·(size - 1) + 8·fanout.
        node.cut = cut && node.fanout > 1 && (size - 1).saturating_mul(u64::from(node.fanout) - 1) >= 2;
        if node.cut {
            node.size = 1;
        }
        shared |= node.fanout > 1;
    }
    shared
}

/// Counts for the nodes reached from `roots` what brings them.
fn reach(nodes: &mut [Node], roots: impl Iterator<Item = u32>) {
    for root in roots.filter(|&root| root != NONE) {
        nodes[root as usize].reached = true;
    }
    // Children are later than their parents.
    for index in 0..nodes.len() {
        if nodes[index].reached && !nodes[index].cut {
            for place in 0..nodes[index].children.len() {
                let child = nodes[index].children[place] as usize;
                nodes[child].reached = true;
                nodes[child].pending += 1;
            }
        }
    }
}
