//! Runs a program along the path to a rejection, on the values of a model, to see whether it comes to harm there.
//!
//! A model says what some of the inputs are. The others are chosen: zero first; where a run leaves the path or comes to no harm, the
//! pointers that may be null, the length of the packet and numbers that were compared are varied.

use std::cell::Cell;
use std::collections::VecDeque;

use bpftwin_uapi::insn::*;
use rustc_hash::FxHashMap;

use super::advice::Fault;
use super::flow::Flow;
use super::source::is_conditional;
use crate::exec::{At, Inputs, Machine, Origin, Program, Range, RegionKind, Stop, Value};

/// Runs for one model.
const MAX_RUNS: usize = 100;
/// Instructions of all runs for one model.
const MAX_STEPS: usize = 4_000_000;
/// Instructions behind the path, and of each function that the verifier does not walk into.
const MAX_DETOUR: usize = 100_000;
/// Bytes of the packet to begin with.
const FIRST_PACKET_SIZE: u64 = 1514;

/// What to run.
pub struct Replay<'a> {
    pub program: &'a Program,
    pub path: &'a [u32],
    pub flow: &'a Flow,
    pub fault: Fault,
}

/// An input that a run asked for.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Index into the path; none behind it, and in functions that the path goes by.
    pub step: Option<u32>,
    pub at: At,
    pub origin: Origin,
    pub value: u64,
    range: Range,
    /// The model has it, or it was chosen for a purpose.
    pub decisive: bool,
}

impl Asked {
    /// Yes or no: a pointer or null, for one.
    pub fn is_choice(&self) -> bool {
        self.range == Range::BOOL
    }
}

/// How it ended.
#[derive(Debug)]
pub enum Replayed {
    /// The fault, in words, and the inputs that lead to it.
    Fault {
        what: String,
        inputs: Vec<Asked>,
    },
    /// A step has another value than the model says.
    Differs(Difference),
    Failed(String),
}

/// A step whose value is not what the model says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Difference {
    pub step: u32,
    /// The value that it has.
    pub value: u64,
    /// The step at which the same value was read before, if it is an input.
    pub same_as: Option<u32>,
}

/// Inputs that are chosen, beside the model's.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
struct Choice {
    packet_size: u64,
    /// By step of the path and number of the question in it.
    values: FxHashMap<(u32, u32), u64>,
}

/// How one run ended.
enum Run {
    Fault(String),
    /// The jump at this step goes the wrong way.
    Left(u32),
    Harmless,
    Ended(String),
}

struct Driver<'a> {
    position: &'a Cell<Option<u32>>,
    model: &'a FxHashMap<u32, u64>,
    choice: &'a Choice,
    asked: Vec<Asked>,
    /// The last comparison: number of the answer, its value as it was compared, and the other one.
    compared: Option<(u32, u64, u64)>,
}

impl Inputs for Driver<'_> {
    fn value(&mut self, at: At, origin: Origin, range: Range) -> u64 {
        let step = self.position.get();
        let nth =
            self.asked.iter().rev().take_while(|asked| step.is_some() && asked.step == step).count() as u32;
        let is_datum =
            matches!(origin, Origin::Memory { .. } | Origin::Filled { .. } | Origin::Return { .. });
        let chosen = step.and_then(|step| self.choice.values.get(&(step, nth)).copied());
        let known =
            step.filter(|_| is_datum && range != Range::BOOL).and_then(|step| self.model.get(&step).copied());
        let found = match origin {
            Origin::PacketSize { .. } => Some(self.choice.packet_size),
            _ => chosen.or(known),
        };
        let value = range_clamp(range, found.unwrap_or(0));
        self.asked.push(Asked { step, at, origin, value, range, decisive: found.is_some() });
        value
    }

    fn compared(&mut self, _: At, answer: u32, value: u64, other: u64) {
        self.compared = Some((answer, value, other));
    }
}

fn range_clamp(range: Range, value: u64) -> u64 {
    if range.contains(value) {
        value
    } else {
        (value as i64).clamp(range.min, range.max.max(range.min)) as u64
    }
}

impl Replay<'_> {
    /// Looks for a run to the fault. `model` has values of steps: what a load reads, or a call returns.
    pub fn search(&self, model: &FxHashMap<u32, u64>) -> Replayed {
        let first = Choice { packet_size: FIRST_PACKET_SIZE, values: FxHashMap::default() };
        let mut tried = vec![first.clone()];
        let mut queue = VecDeque::from([first]);
        let mut steps = 0;
        // What the run that came farthest ended with.
        let mut best: (u32, String) = (0, "no run".into());
        let mut difference = None;
        while let Some(choice) = queue.pop_front() {
            steps += self.path.len();
            if tried.len() > MAX_RUNS || steps > MAX_STEPS {
                break;
            }
            let position = Cell::new(None);
            let mut driver =
                Driver { position: &position, model, choice: &choice, asked: Vec::new(), compared: None };
            let mut sizes = Vec::new();
            let (run, differs) = self.run(&mut driver, &mut sizes);
            let mut next: Vec<Choice> = Vec::new();
            match run {
                Run::Fault(what) => return Replayed::Fault { what, inputs: driver.asked },
                Run::Left(step) => {
                    if step >= best.0 {
                        best = (step, "the program goes another way on these values".into());
                    }
                    next.extend(self.repairs(step, &driver));
                }
                Run::Harmless => best = (u32::MAX, self.harmless().into()),
                Run::Ended(why) => {
                    let at = position.get().unwrap_or(0);
                    if at >= best.0 {
                        best = (at, why);
                    }
                }
            }
            difference = difference.or(differs);
            sizes.sort_unstable();
            sizes.dedup();
            next.extend(sizes.iter().map(|&packet_size| Choice { packet_size, ..choice.clone() }));
            for choice in next {
                if !tried.contains(&choice) {
                    tried.push(choice.clone());
                    queue.push_back(choice);
                }
            }
        }
        match difference {
            Some(difference) => Replayed::Differs(difference),
            None => Replayed::Failed(best.1),
        }
    }

    fn harmless(&self) -> &'static str {
        match self.fault {
            Fault::Later => {
                "on the values that were tried, nothing that is done with the pointer leaves its memory"
            }
            _ => "on the values that were tried, the access is one that may be made",
        }
    }

    fn run(&self, driver: &mut Driver<'_>, sizes: &mut Vec<u64>) -> (Run, Option<Difference>) {
        let (position, model) = (driver.position, driver.model);
        let mut differs = None;
        let mut machine = Machine::new(self.program, &mut *driver);
        // Answers and the steps that they were given at are found in the driver afterwards.
        let mut unequal: Option<(u32, Value)> = None;
        let mut ended = None;
        for (i, &pc) in self.path.iter().enumerate() {
            let depth = self.flow.steps.get(i).map_or(1, |step| step.frame + 1);
            position.set(None);
            if machine.pc() != pc && machine.depth() > depth {
                ended = detour(&mut machine, depth);
            }
            position.set(Some(i as u32));
            if ended.is_some() {
                break;
            }
            if machine.pc() != pc {
                ended = Some(Run::Left(i.saturating_sub(1) as u32));
                break;
            }
            let is_last = i + 1 == self.path.len();
            packet_sizes(self.program, &machine, is_last, sizes);
            let stop = machine.step();
            if let Some(stop) = stop {
                ended = Some(match stop {
                    Stop::BadAccess(bad) if is_last => Run::Fault(bad.to_string()),
                    _ if is_last && self.fault == Fault::Reached => Run::Fault(String::new()),
                    stop => Run::Ended(stop.to_string()),
                });
                break;
            }
            if is_last && self.fault == Fault::Reached {
                ended = Some(Run::Fault(String::new()));
                break;
            }
            if let (Some(&wanted), None) = (model.get(&(i as u32)), unequal)
                && let Some(actual) = self.result(&machine, pc)
                && cut(self.program, pc, actual.bits) != cut(self.program, pc, wanted)
            {
                unequal = Some((i as u32, actual));
            }
        }
        let run = match ended {
            Some(run) => run,
            None if self.fault == Fault::Later => {
                position.set(None);
                match machine.run(machine.steps() + MAX_DETOUR as u64) {
                    Stop::BadAccess(bad) => Run::Fault(bad.to_string()),
                    _ => Run::Harmless,
                }
            }
            None => Run::Harmless,
        };
        drop(machine);
        if let Some((step, value)) = unequal {
            let answer = value.answer.and_then(|answer| driver.asked.get(answer as usize));
            let same_as = answer.and_then(|asked| asked.step).filter(|&earlier| earlier != step);
            differs = Some(Difference { step, value: value.bits, same_as });
        }
        (run, differs)
    }

    /// What a load or a call has just left in its register.
    fn result(&self, machine: &Machine<'_>, pc: u32) -> Option<Value> {
        let insn = self.program.insns().get(pc as usize)?;
        let regno = if insn.class() == BPF_LDX { insn.dst_reg() } else { BPF_REG_0 };
        machine.regs().get(usize::from(regno)).copied()?
    }

    /// Choices with which the jump at `step` may go the other way.
    fn repairs(&self, step: u32, driver: &Driver<'_>) -> Vec<Choice> {
        let mut repairs = Vec::new();
        let mut change = |asked: &Asked, value: u64| {
            let Some(at) = asked.step.filter(|at| !driver.model.contains_key(at)) else { return };
            let first = driver.asked.iter().position(|other| other.step == Some(at)).unwrap_or(0);
            let here = driver.asked.iter().position(|other| std::ptr::eq(other, asked)).unwrap_or(first);
            let mut choice = driver.choice.clone();
            choice.values.insert((at, (here - first) as u32), value);
            repairs.push(choice);
        };
        let uses = self.flow.steps.get(step as usize).map(|step| step.uses.clone()).unwrap_or_default();
        let origins = self.flow.slice(uses);
        for asked in &driver.asked {
            if asked.range == Range::BOOL
                && asked.step.is_some_and(|at| origins.binary_search(&at).is_ok() || at == step)
            {
                change(asked, 1 - asked.value.min(1));
            }
        }
        if let Some((answer, value, other)) = driver.compared
            && let Some(asked) = driver.asked.get(answer as usize)
            && asked.range != Range::BOOL
        {
            for target in [other, other.wrapping_add(1), other.wrapping_sub(1)] {
                change(asked, asked.value.wrapping_add(target.wrapping_sub(value)));
            }
        }
        repairs
    }
}

/// The bits that the instruction's result has of an input.
fn cut(program: &Program, pc: u32, bits: u64) -> u64 {
    match program.insns().get(pc as usize) {
        Some(insn) if insn.class() == BPF_LDX && insn.size_bytes() < 8 => {
            bits & ((1 << (8 * insn.size_bytes())) - 1)
        }
        _ => bits,
    }
}

/// Runs a function that the path goes by, up to where it returns to depth `depth`.
fn detour(machine: &mut Machine<'_>, depth: usize) -> Option<Run> {
    for _ in 0..MAX_DETOUR {
        if machine.depth() <= depth {
            return None;
        }
        if let Some(stop) = machine.step() {
            return Some(Run::Ended(format!("in a function on the way: {stop}")));
        }
    }
    Some(Run::Ended("a function on the way takes too long".into()))
}

/// Lengths of the packet for which the instruction that comes next would do something else: those around what is compared with
/// its end, and those that end within an access.
fn packet_sizes(program: &Program, machine: &Machine<'_>, is_last: bool, sizes: &mut Vec<u64>) {
    let Some(&insn) = program.insns().get(machine.pc() as usize) else { return };
    let offset = |regno: u8| {
        let value = machine.regs().get(usize::from(regno)).copied()??;
        let (kind, off) = machine.place(value)?;
        matches!(kind, RegionKind::Packet { .. }).then_some(off)
    };
    let mut add = |size: i64| {
        if (0..=0xffff).contains(&size) {
            sizes.push(size as u64);
        }
    };
    if is_conditional(insn) && insn.src() == BPF_X {
        for off in [offset(insn.dst_reg()), offset(insn.src_reg())].into_iter().flatten() {
            [off - 1, off, off + 1].into_iter().for_each(&mut add);
        }
    }
    if !is_last {
        return;
    }
    let access = match insn.class() {
        BPF_LDX => offset(insn.src_reg()),
        BPF_ST | BPF_STX => offset(insn.dst_reg()),
        _ => None,
    };
    if let Some(off) = access {
        let start = off + i64::from(insn.off);
        [start, start + i64::from(insn.size_bytes()) - 1].into_iter().for_each(&mut add);
    }
    if insn.class() == BPF_JMP && insn.op() == BPF_CALL {
        (BPF_REG_1..=BPF_REG_5).filter_map(offset).for_each(&mut add);
    }
}
