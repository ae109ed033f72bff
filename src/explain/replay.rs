//! Runs a program along the path to a rejection, on the values of a model, to see whether it comes to harm there.
//!
//! A model says what some of the inputs are. The others are zero at first; where a run leaves the path, those that the jump depends on
//! are changed so that it goes the other way; where the access comes to no harm, those that its address and size depend on are, and
//! the packet is made shorter.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};

use bpftwin_uapi::insn::*;
use rustc_hash::{FxHashMap, FxHashSet};

use super::advice::Fault;
use super::flow::Flow;
use crate::exec::{At, Change, Inputs, Machine, Origin, Program, Range, RegionKind, Stop, Value};

/// Runs for one model.
const MAX_RUNS: usize = 400;
/// Instructions of all runs for one model.
const MAX_STEPS: usize = 4_000_000;
/// Instructions behind the path, and of each function that the verifier does not walk into.
const MAX_DETOUR: usize = 100_000;
/// Bytes of a packet of which nothing is said.
const PACKET_SIZE: u64 = 1514;

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
    /// Number of the question in its step.
    nth: u32,
    pub at: At,
    pub origin: Origin,
    pub value: u64,
    range: Range,
    /// The model has it, or it was chosen for a purpose.
    pub decisive: bool,
}

impl Asked {
    /// Bytes of memory that it is, if it is such.
    pub fn size(&self) -> Option<u8> {
        self.origin.size()
    }

    /// Yes or no: a pointer or null, for one.
    pub fn is_choice(&self) -> bool {
        self.range.is_choice
    }
}

/// How it ended.
#[derive(Debug)]
pub enum Replayed {
    /// The fault, in words, and the inputs that lead to it.
    Fault { what: String, inputs: Vec<Asked> },
    /// A step has another value than the model says.
    Differs(Difference),
    Failed {
        why: String,
        /// Loads along the path that read what an earlier one had read: later step, earlier step.
        rereads: Vec<(u32, u32)>,
    },
}

/// A step whose value is not what the model says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Difference {
    pub step: u32,
    pub source: Source,
}

/// Where a value comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    /// The input that an earlier step read.
    Step(u32),
    /// It depends on inputs in some other way.
    Computed,
    /// It depends on none.
    Constant(u64),
}

/// Inputs that are chosen, beside the model's: by step of the path and number of the question in it.
type Choice = BTreeMap<(u32, u32), u64>;

/// What came of one run.
struct Ran {
    run: Run,
    /// Instructions of the path that it came to.
    begun: usize,
    /// Instructions that it took in all.
    steps: u64,
    /// What to change of its answers, by their number.
    changes: Vec<Change>,
    differs: Option<Difference>,
    rereads: Vec<(u32, u32)>,
}

/// How one run ended.
enum Run {
    Fault(String),
    /// A jump goes the wrong way.
    Left,
    Harmless,
    Ended(String),
}

struct Driver<'a> {
    position: &'a Cell<Option<u32>>,
    model: &'a FxHashMap<u32, u64>,
    choice: &'a Choice,
    asked: Vec<Asked>,
}

impl Inputs for Driver<'_> {
    fn value(&mut self, at: At, origin: Origin, range: Range) -> u64 {
        let step = self.position.get();
        let last = self.asked.last().filter(|asked| step.is_some() && asked.step == step);
        let nth = last.map_or(0, |last| last.nth + 1);
        let is_datum =
            matches!(origin, Origin::Memory { .. } | Origin::Filled { .. } | Origin::Return { .. });
        let chosen = step.and_then(|step| self.choice.get(&(step, nth)).copied());
        let known = step.filter(|_| is_datum && !range.is_choice);
        let found = chosen.or_else(|| known.and_then(|step| self.model.get(&step).copied()));
        let default = if matches!(origin, Origin::PacketSize { .. }) { PACKET_SIZE } else { 0 };
        let value = range.clamp(found.unwrap_or(default));
        self.asked.push(Asked { step, nth, at, origin, value, range, decisive: found.is_some() });
        value
    }
}

impl Replay<'_> {
    /// Looks for a run to the fault. `model` has values of steps: what a load reads, or a call returns.
    pub fn search(&self, model: &FxHashMap<u32, u64>) -> Replayed {
        let mut tried = FxHashSet::default();
        // What a run came to that was varied goes with its choices: those that came farthest are tried first.
        let mut open = BinaryHeap::from([(0usize, Reverse(0usize), Choice::new())]);
        let mut best = (0, "no run".to_owned(), Vec::new());
        let mut difference = None;
        let (mut runs, mut steps) = (0, 0);
        while let Some((_, _, choice)) = open.pop() {
            runs += 1;
            if runs > MAX_RUNS || steps > MAX_STEPS {
                break;
            }
            let position = Cell::new(None);
            let mut driver = Driver { position: &position, model, choice: &choice, asked: Vec::new() };
            let Ran { run, begun, steps: run_steps, changes, differs, rereads } = self.run(&mut driver);
            steps += run_steps as usize + driver.asked.len();
            if let Run::Fault(what) = run {
                return Replayed::Fault { what, inputs: driver.asked };
            }
            if begun >= best.0 {
                best = (begun, self.why(run), rereads);
            }
            // Where the model itself was changed, it is no wonder.
            if difference.is_none() && !choice.keys().any(|(step, _)| model.contains_key(step)) {
                difference = differs;
            }
            for change in changes {
                let mut next = choice.clone();
                for (answer, value) in change {
                    let Some(asked) = driver.asked.get(answer as usize) else { continue };
                    let Some(step) = asked.step else { continue };
                    next.insert((step, asked.nth), asked.range.clamp(value));
                }
                if next != choice && tried.insert(next.clone()) {
                    open.push((begun, Reverse(tried.len()), next));
                }
            }
        }
        match difference {
            Some(difference) if best.0 < self.path.len() => Replayed::Differs(difference),
            _ => Replayed::Failed { why: best.1, rereads: best.2 },
        }
    }

    fn why(&self, run: Run) -> String {
        match run {
            Run::Fault(what) | Run::Ended(what) => what,
            Run::Left => "the program goes another way on the values that were tried".into(),
            Run::Harmless if self.fault == Fault::Later => {
                "on the values that were tried, nothing that is done with the pointer leaves its memory"
                    .into()
            }
            Run::Harmless => "on the values that were tried, the access is one that may be made".into(),
        }
    }

    fn run(&self, driver: &mut Driver<'_>) -> Ran {
        let (position, model) = (driver.position, driver.model);
        let mut machine = Machine::new(self.program, &mut *driver);
        let mut unequal: Option<(u32, Value, Vec<u32>)> = None;
        let mut changes: Vec<Change> = Vec::new();
        let mut begun = 0;
        let mut ended = None;
        let mut loads: Vec<(u32, u32)> = Vec::new();
        // Offset of the last instruction's end in the packet.
        let mut packet_end = None;
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
                let jump = self.path.get(i.wrapping_sub(1)).copied();
                changes.extend(
                    machine.flips().into_iter().filter(|(of, _)| Some(*of) == jump).map(|(_, change)| change),
                );
                ended = Some(Run::Left);
                break;
            }
            begun = i + 1;
            let is_last = begun == self.path.len();
            if is_last {
                packet_end = accessed_packet(self.program, &machine);
                changes.extend(harm(self.program, &machine));
            }
            if let Some(stop) = machine.step() {
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
            if self.flow.steps.get(i).and_then(|step| step.reads).is_some_and(|read| !read.is_stack())
                && let Some(actual) = self.result(&machine, pc)
                && let [answer] = machine.answers_of(actual)[..]
            {
                loads.push((i as u32, answer));
            }
            if let (Some(&wanted), None) = (model.get(&(i as u32)), &unequal)
                && let Some(actual) = self.result(&machine, pc)
                && cut(self.program, pc, actual.bits) != cut(self.program, pc, wanted)
            {
                changes.push(machine.solve(actual, wanted));
                unequal = Some((i as u32, actual, machine.answers_of(actual)));
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
        let steps = machine.steps();
        drop(machine);
        if let Some(end) = packet_end
            && let Some(size) =
                driver.asked.iter().rposition(|asked| matches!(asked.origin, Origin::PacketSize { .. }))
        {
            changes.extend(
                [1, 2, 4, 8].map(|less| Change::from_slice(&[(size as u32, end.saturating_sub(less))])),
            );
        }
        changes.extend(self.other_keys(&driver.asked));
        let differs = unequal.map(|(step, value, answers)| {
            let source = match answers[..] {
                [] => Source::Constant(value.bits),
                [answer] => match driver.asked.get(answer as usize) {
                    Some(Asked { step: Some(earlier), value: read, .. })
                        if *earlier != step && *read == value.bits =>
                    {
                        Source::Step(*earlier)
                    }
                    _ => Source::Computed,
                },
                _ => Source::Computed,
            };
            Difference { step, source }
        });
        let earlier = |&(step, answer): &(u32, u32)| {
            let asked = driver.asked.get(answer as usize)?;
            asked
                .step
                .filter(|&earlier| earlier < step && asked.size().is_some())
                .map(|earlier| (step, earlier))
        };
        let rereads = loads.iter().filter_map(earlier).collect();
        Ran { run, begun, steps, changes, differs, rereads }
    }

    /// Changes with which a lookup that the last instruction builds upon may find nothing: keys that are behind an array's end.
    fn other_keys(&self, asked: &[Asked]) -> Vec<Change> {
        let Some(insn) = self.path.last().and_then(|&pc| self.program.insns().get(pc as usize)) else {
            return Vec::new();
        };
        let regno = if insn.class() == BPF_LDX { insn.src_reg() } else { insn.dst_reg() };
        let pointer = self.flow.last.get(usize::from(regno)).copied().flatten().and_then(|val| val.def);
        let Some(call) = pointer.map(|def| self.flow.root(def)) else { return Vec::new() };
        let Some(step) = self.flow.steps.get(call as usize).filter(|step| step.is_call) else {
            return Vec::new();
        };
        let key = self.flow.slice(step.uses.iter().copied());
        let of_key =
            |asked: &&(u32, &Asked)| asked.1.step.is_some_and(|step| key.binary_search(&step).is_ok());
        let asked = (0..).zip(asked).filter(|asked| of_key(&asked));
        asked.map(|(number, _)| Change::from_slice(&[(number, u64::from(u32::MAX))])).collect()
    }

    /// What a load or a call has just left in its register.
    fn result(&self, machine: &Machine<'_>, pc: u32) -> Option<Value> {
        let insn = self.program.insns().get(pc as usize)?;
        let regno = if insn.class() == BPF_LDX { insn.dst_reg() } else { BPF_REG_0 };
        machine.regs().get(usize::from(regno)).copied()?
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

/// Changes with which the instruction that comes next may do harm: null for pointers, offsets and sizes that are far out.
fn harm(program: &Program, machine: &Machine<'_>) -> Vec<Change> {
    const OFFSETS: [i64; 8] = [0x40, 0x400, 0x1_0000, 0x100_0000, 0x8000_0000, -1, -0x40, -0x1_0000];
    let Some(insn) = program.insns().get(machine.pc() as usize) else { return Vec::new() };
    let regs: &[u8] = match insn.class() {
        BPF_LDX => &[insn.src_reg()],
        BPF_ST | BPF_STX => &[insn.dst_reg()],
        BPF_ALU | BPF_ALU64 => &[insn.dst_reg(), insn.src_reg()],
        BPF_JMP if insn.op() == BPF_CALL => &[BPF_REG_1, BPF_REG_2, BPF_REG_3, BPF_REG_4, BPF_REG_5],
        _ => &[],
    };
    let values = regs.iter().filter_map(|&regno| machine.regs().get(usize::from(regno)).copied()?);
    let mut changes = Vec::new();
    for value in values.filter(|value| value.term.is_some()) {
        let start = if value.region.is_some() { value.bits } else { 0 };
        changes.push(machine.solve(value, 0));
        changes.extend(OFFSETS.map(|off| machine.solve(value, start.wrapping_add(off as u64))));
    }
    changes.retain(|change| !change.is_empty());
    changes
}

/// Where in the packet the access of the instruction that comes next ends, if it is to the packet.
fn accessed_packet(program: &Program, machine: &Machine<'_>) -> Option<u64> {
    let insn = program.insns().get(machine.pc() as usize)?;
    let offset = |regno: u8| {
        let value = machine.regs().get(usize::from(regno)).copied()??;
        let (kind, off) = machine.place(value)?;
        matches!(kind, RegionKind::Packet { .. }).then_some(off)
    };
    let end_of =
        |start: i64, insn: &Insn| start.saturating_add(i64::from(insn.off) + i64::from(insn.size_bytes()));
    let end = match insn.class() {
        BPF_LDX => end_of(offset(insn.src_reg())?, insn),
        BPF_ST | BPF_STX => end_of(offset(insn.dst_reg())?, insn),
        BPF_JMP if insn.op() == BPF_CALL => (BPF_REG_1..=BPF_REG_5).find_map(offset)?.saturating_add(1),
        _ => return None,
    };
    u64::try_from(end).ok()
}
