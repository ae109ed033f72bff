//! Runs a program along the path to a rejection, on the values of a model, to see whether it comes to harm there.
//!
//! A model says what some of the inputs are. The others are zero at first; where a run leaves the path, those that the jump depends on
//! are changed so that it goes the other way; where the access comes to no harm, those that its address and size depend on are, and
//! the packet is made shorter.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::Instant;

use bpftwin_uapi::insn::*;
use rustc_hash::{FxHashMap, FxHashSet};

use super::flow::Flow;
use crate::exec::{At, BadAccess, Change, Inputs, Machine, Origin, Program, Range, RegionKind, Stop, Value};
use crate::verifier::SubprogArg;

/// Runs for one model.
const MAX_RUNS: usize = 400;
/// Instructions of all runs for one model.
const MAX_STEPS: usize = 4_000_000;
/// Instructions behind the path, and of each function that the verifier does not walk into.
const MAX_DETOUR: usize = 100_000;
/// Instructions behind the path in which the rejected one may be visited again.
const MAX_LATER_VISITS: usize = 2000;
/// Bytes of a packet of which nothing is said.
const PACKET_SIZE: u64 = 1514;

/// What has to come of a run for it to show the harm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Harm {
    /// The rejected instruction accesses memory that it must not, on this visit or a later one.
    Access,
    /// That, or a later instruction accesses such memory with what this one computes.
    Later,
    /// The program gets there.
    Reached,
    /// The program gets there, and this register has no value.
    Unset(u8),
    /// The program gets there, and this register is null.
    Null(u8),
    /// The program gets there, and what the call at this instruction returned is not null.
    Held(u32),
    /// R0 is none of the values from the first to the second.
    Returns(i64, i64),
    /// The program gets there, and does not come to an end.
    Endless,
}

/// The harm that a run came to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    Access(BadAccess),
    Reached,
    Unset(u8),
    Null(u8),
    /// What the call at this instruction returned is not released.
    Held(u32),
    Returns(i64),
    /// Instructions behind the path.
    Endless(usize),
}

/// What to run.
pub struct Replay<'a> {
    pub program: &'a Program,
    pub path: &'a [u32],
    /// Arguments of the global function that the path begins with; none for the main program.
    pub args: Option<&'a [SubprogArg]>,
    pub flow: &'a Flow,
    pub harm: Harm,
    /// No run begins after this.
    pub deadline: Instant,
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
    /// The way of the run depends on it.
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
    /// The fault, and the inputs that lead to it.
    Fault { fault: Fault, inputs: Vec<Asked> },
    /// A step has another value than the model says.
    Differs(Difference),
    Failed {
        why: String,
        /// Loads along the path that read what an earlier one had read: later step, earlier step.
        rereads: Vec<(u32, u32)>,
        /// The first step at which a run had another value than the model says.
        difference: Option<Difference>,
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
    Fault(Fault),
    /// A jump goes the wrong way.
    Left,
    Harmless,
    Ended(String),
}

/// What there is to see at the end of a path.
struct Shown {
    fault: Option<Fault>,
    /// What it depends on, and values of it for which there may be harm.
    value: Option<Value>,
    wanted: Vec<i64>,
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
        self.asked.push(Asked { step, nth, at, origin, value, range, decisive: false });
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
            if runs > MAX_RUNS || steps > MAX_STEPS || runs > 1 && Instant::now() > self.deadline {
                break;
            }
            let position = Cell::new(None);
            let mut driver = Driver { position: &position, model, choice: &choice, asked: Vec::new() };
            let Ran { run, begun, steps: run_steps, changes, differs, rereads } = self.run(&mut driver);
            steps += run_steps as usize + driver.asked.len();
            if let Run::Fault(fault) = run {
                return Replayed::Fault { fault, inputs: driver.asked };
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
            _ => Replayed::Failed { why: best.1, rereads: best.2, difference },
        }
    }

    fn why(&self, run: Run) -> String {
        match run {
            Run::Ended(what) => what,
            Run::Left => "the program goes another way on all values that were tried".into(),
            Run::Fault(_) | Run::Harmless => match self.harm {
                Harm::Access => "on all values that were tried, the access is inside of its memory",
                Harm::Later => {
                    "on all values that were tried, what is done with the pointer stays inside of its memory"
                }
                Harm::Null(_) => "on all values that were tried, the pointer is not null",
                Harm::Held(_) => "on all values that were tried, there is nothing to release",
                Harm::Returns(..) => "on all values that were tried, the value that is returned is allowed",
                Harm::Endless => "on all values that were tried, the loop comes to an end",
                Harm::Unset(_) => "on all values that were tried, the register has a value",
                Harm::Reached => "no run gets there",
            }
            .into(),
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
        let mut held = None;
        let mut about = None;
        // Offset of the last instruction's end in the packet.
        let mut packet_end = None;
        if let (Some(args), Some(&start)) = (self.args, self.path.first()) {
            position.set(Some(0));
            ended = machine.begin_at(start, args).err().map(|stop| Run::Ended(stop.to_string()));
        }
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
                match self.shown(&machine, held) {
                    // It takes the instruction to show it.
                    None => changes.extend(harm(self.program, &machine)),
                    Some(shown) => {
                        changes.extend(
                            shown
                                .wanted
                                .iter()
                                .filter_map(|&bits| Some(machine.solve(shown.value?, bits as u64))),
                        );
                        about = shown.value;
                        ended = Some(shown.fault.map_or(Run::Harmless, Run::Fault));
                        break;
                    }
                }
            }
            if let Some(stop) = machine.step() {
                ended = Some(match stop {
                    Stop::BadAccess(bad) if is_last && self.harm != Harm::Endless => {
                        Run::Fault(Fault::Access(bad))
                    }
                    stop => Run::Ended(stop.to_string()),
                });
                break;
            }
            if self.harm == Harm::Held(pc) {
                held = self.result(&machine, pc);
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
        let run = ended.unwrap_or_else(|| {
            position.set(None);
            self.behind(&mut machine)
        });
        let steps = machine.steps();
        let mut deciding = Vec::new();
        if let Run::Fault(_) = run {
            deciding = machine.deciding();
            deciding.extend(about.map(|value| machine.answers_of(value)).unwrap_or_default());
        }
        let edges = if packet_end.is_some() { machine.edges() } else { Vec::new() };
        drop(machine);
        for answer in deciding {
            if let Some(asked) = driver.asked.get_mut(answer as usize) {
                asked.decisive = true;
            }
        }
        if let Some(end) = packet_end
            && let Some(size) =
                driver.asked.iter().rposition(|asked| matches!(asked.origin, Origin::PacketSize { .. }))
        {
            changes.extend(
                [1, 2, 4, 8].map(|less| Change::from_slice(&[(size as u32, end.saturating_sub(less))])),
            );
            // As short as the comparisons allow.
            changes.extend(
                edges.into_iter().filter(|edge| edge.iter().all(|(answer, _)| *answer == size as u32)),
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

    /// The harm that shows before the last instruction is executed. `held` is what is to be released.
    fn shown(&self, machine: &Machine<'_>, held: Option<Value>) -> Option<Shown> {
        let reg = |regno: u8| machine.regs().get(usize::from(regno)).copied().flatten();
        Some(match self.harm {
            Harm::Access | Harm::Later | Harm::Endless => return None,
            Harm::Unset(regno) => {
                let value = reg(regno);
                Shown { fault: value.is_none().then_some(Fault::Unset(regno)), value, wanted: Vec::new() }
            }
            Harm::Null(regno) => {
                let value = reg(regno);
                let is_null = value.is_some_and(|value| value.bits == 0);
                Shown { fault: is_null.then_some(Fault::Null(regno)), value, wanted: vec![0] }
            }
            Harm::Reached => Shown { fault: Some(Fault::Reached), value: None, wanted: Vec::new() },
            Harm::Held(call) => {
                let is_held = held.is_none_or(|value| value.bits != 0);
                Shown { fault: is_held.then_some(Fault::Held(call)), value: held, wanted: vec![1] }
            }
            Harm::Returns(first, last) => {
                let value = reg(BPF_REG_0);
                let is_allowed = |value: i64| (first..=last).contains(&value);
                // Of a return value, 32 bits may count or all of them.
                let bits = value.map(|value| value.bits);
                let bad = bits.filter(|&bits| !is_allowed(bits as i64) && !is_allowed((bits as i32).into()));
                let wanted = vec![last.saturating_add(1), first.saturating_sub(1), -1, i32::MAX.into()];
                Shown { fault: bad.map(|bits| Fault::Returns((bits as i32).into())), value, wanted }
            }
        })
    }

    /// Runs on behind the path.
    fn behind(&self, machine: &mut Machine<'_>) -> Run {
        let limit = match self.harm {
            Harm::Access => MAX_LATER_VISITS,
            Harm::Later | Harm::Endless => MAX_DETOUR,
            _ => return Run::Harmless,
        };
        match machine.run(machine.steps() + limit as u64) {
            Stop::BadAccess(bad) if self.harm == Harm::Later => Run::Fault(Fault::Access(bad)),
            // The rejected instruction again, in the next round of a loop.
            Stop::BadAccess(bad) if self.harm == Harm::Access && self.path.last() == Some(&bad.insn) => {
                Run::Fault(Fault::Access(bad))
            }
            Stop::Limit if self.harm == Harm::Endless => Run::Fault(Fault::Endless(limit)),
            _ => Run::Harmless,
        }
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

    /// What an instruction has just left in its register.
    fn result(&self, machine: &Machine<'_>, pc: u32) -> Option<Value> {
        let insn = self.program.insns().get(pc as usize)?;
        let regno = match insn.class() {
            BPF_LDX | BPF_ALU | BPF_ALU64 => insn.dst_reg(),
            _ => BPF_REG_0,
        };
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
