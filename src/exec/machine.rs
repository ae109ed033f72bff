//! The machine: registers, frames, and the dispatch over instruction classes.

use std::sync::Arc;

use bpftwin_uapi::Insn;
use bpftwin_uapi::insn::*;
use rustc_hash::{FxHashMap, FxHashSet};

use super::alu;
use super::calls::Frame;
use super::inputs::{At, Inputs, Origin, Range};
use super::maps::Elements;
use super::memory::{KERNEL, Region, RegionId, RegionKind, Value};
use super::program::Program;
use super::stop::{BadAccess, Stop, Wrong};
use super::terms::{Change, TermId, Terms};
use crate::verifier::SubprogArg;
use crate::verifier::prog::VerifierMap;
use crate::verifier::reg_type::{ArgType, flag};

pub(super) type Exec<T> = Result<T, Stop>;

/// Address of the first region; the others follow in steps that no offset of a verified program bridges.
const FIRST_ADDRESS: u64 = 0xffff_8000_0000_0000;
const ADDRESS_STEP: u64 = 1 << 32;
/// Regions of a run.
const MAX_REGIONS: usize = 0x7000;
/// Addresses of kernel objects.
const KERNEL_OBJECTS: u64 = 0xffff_f800_0000_0000;

/// Bits of [`Machine::branches`].
pub const TAKEN: u8 = 1;
pub const NOT_TAKEN: u8 = 2;

#[derive(Clone, Copy)]
struct Comparison {
    op: u8,
    is_jmp32: bool,
    left: Value,
    right: Value,
    taken: bool,
}

/// One run of a program.
pub struct Machine<'p> {
    pub(super) program: &'p Program,
    inputs: &'p mut dyn Inputs,
    pub(super) regs: [Option<Value>; MAX_BPF_REG],
    pub(super) frames: Vec<Frame>,
    pub(super) pc: u32,
    steps: u64,
    executions: Vec<u32>,
    branches: Vec<u8>,
    /// The last comparison of each jump that depends on inputs.
    comparisons: FxHashMap<u32, Comparison>,
    /// What [`deciding`](Self::deciding) is about.
    deciding: FxHashSet<TermId>,
    stop: Option<Stop>,
    pub(super) regions: Vec<Region>,
    answers: u32,
    pub(super) terms: Terms,
    pub(super) frames_made: u32,
    pub(super) context: RegionId,
    /// Pointers that the context has, by the offset of their field.
    pub(super) ctx_pointers: FxHashMap<i64, Value>,
    /// The packet as it is now, once the program has asked for it.
    pub(super) packet: Option<RegionId>,
    pub(super) packet_size: Value,
    /// Where the packet's metadata begins, once the program has asked for it.
    pub(super) meta_start: Option<Value>,
    pub(super) packets_before: u32,
    /// The program's maps, and behind them those found in maps of maps.
    pub(super) maps: Vec<Arc<VerifierMap>>,
    pub(super) elements: Elements,
    kernel_objects: u64,
}

impl<'p> Machine<'p> {
    /// A run that has not begun: R1 is the context.
    pub fn new(program: &'p Program, inputs: &'p mut dyn Inputs) -> Machine<'p> {
        let mut machine = Machine {
            program,
            inputs,
            regs: [None; MAX_BPF_REG],
            frames: Vec::new(),
            pc: 0,
            steps: 0,
            executions: vec![0; program.insns.len()],
            branches: vec![0; program.insns.len()],
            comparisons: FxHashMap::default(),
            deciding: FxHashSet::default(),
            stop: None,
            regions: vec![Region::new(RegionKind::Kernel, 0, i64::MIN, i64::MAX)],
            answers: 0,
            terms: Terms::default(),
            frames_made: 0,
            context: KERNEL,
            ctx_pointers: FxHashMap::default(),
            packet: None,
            packet_size: Value::default(),
            meta_start: None,
            packets_before: 0,
            maps: program.maps.clone(),
            elements: Elements::default(),
            kernel_objects: 0,
        };
        // There is room for these: they are the first.
        if let Ok(context) = machine.new_region(RegionKind::Context, 0, i64::from(u16::MAX)) {
            machine.context = context;
            machine.regs[BPF_REG_1 as usize] = Some(machine.pointer_to(context, 0));
        }
        let _ = machine.push_frame(0);
        machine
    }

    /// Makes a run that has not begun one of the global function at `start` instead of the main program. Its arguments are asked for.
    pub fn begin_at(&mut self, start: u32, args: &[SubprogArg]) -> Result<(), Stop> {
        self.pc = start;
        self.regs[BPF_REG_1 as usize..=BPF_REG_5 as usize].fill(None);
        for (number, arg) in (1..=5).zip(args) {
            self.regs[usize::from(number)] = Some(self.argument(number, arg)?);
        }
        Ok(())
    }

    fn argument(&mut self, number: u8, arg: &SubprogArg) -> Exec<Value> {
        let origin = Origin::Argument { number };
        let arg_type = arg.arg_type;
        match arg_type.base() {
            ArgType::ARG_ANYTHING => return Ok(self.ask(origin, Range::FULL)),
            ArgType::ARG_PTR_TO_CTX => return Ok(self.pointer_to(self.context, 0)),
            _ => {}
        }
        let choice = if arg_type.may_be_null() { self.ask(origin, Range::CHOICE) } else { Value::scalar(1) };
        if choice.bits == 0 {
            return Ok(choice);
        }
        let pointer = match arg_type.base() {
            ArgType::ARG_PTR_TO_MEM if !arg_type.has(flag::PTR_UNTRUSTED) => {
                let size = arg.mem_size_or_btf_id.into();
                let memory = self.new_region(RegionKind::Argument { number }, 0, size)?;
                self.region_mut(memory).writable = !arg_type.has(flag::MEM_RDONLY);
                self.pointer_to(memory, 0)
            }
            ArgType::ARG_PTR_TO_MEM | ArgType::ARG_PTR_TO_BTF_ID => self.kernel_object(),
            _ => return self.unsupported("an argument of this type"),
        };
        Ok(Value { term: choice.term, ..pointer })
    }

    /// The instruction that comes next.
    pub fn pc(&self) -> u32 {
        self.pc
    }

    /// R0 to R10; `None` for those that hold nothing.
    pub fn regs(&self) -> &[Option<Value>; MAX_BPF_REG] {
        &self.regs
    }

    /// Functions that were called and have not returned, the main one included.
    pub fn depth(&self) -> usize {
        self.frames.len()
    }

    /// Instructions executed so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// How often each instruction was executed.
    pub fn executions(&self) -> &[u32] {
        &self.executions
    }

    /// Ways in which each conditional jump went: [`TAKEN`], [`NOT_TAKEN`], both or neither.
    pub fn branches(&self) -> &[u8] {
        &self.branches
    }

    /// What a region is, and the offset that the pointer has in it.
    pub fn place(&self, pointer: Value) -> Option<(RegionKind, i64)> {
        let region = self.regions.get(pointer.region?.0 as usize)?;
        Some((region.kind, pointer.bits.wrapping_sub(region.base) as i64))
    }

    /// Numbers of the answers that a value depends on, in order: the first question of the run is number 0.
    pub fn answers_of(&self, value: Value) -> Vec<u32> {
        self.terms.answers_of(value.term)
    }

    /// Answers that would give the value these bits, as far as can be told.
    pub fn solve(&self, value: Value, bits: u64) -> Change {
        value.term.map_or_else(Change::new, |term| self.terms.solve(term, bits))
    }

    /// Changes of answers that may make conditional jumps go the other way than they last did, each on its own.
    pub fn flips(&self) -> Vec<(u32, Change)> {
        let mut flips = Vec::new();
        for (&jump, comparison) in &self.comparisons {
            let Comparison { op, left, right, taken, .. } = *comparison;
            self.nearest(comparison, !taken, |change| flips.push((jump, change)));
            if op == BPF_JSET
                && let Some(term) = left.term
            {
                let target = if taken { left.bits & !right.bits } else { left.bits | right.bits };
                flips.push((jump, self.terms.solve(term, target)));
            }
        }
        flips
    }

    /// Changes of answers with which a comparison comes out as it did, but only just.
    pub fn edges(&self) -> Vec<Change> {
        let mut edges = Vec::new();
        for comparison in self.comparisons.values() {
            self.nearest(comparison, comparison.taken, |change| edges.push(change));
        }
        edges
    }

    /// Changes with which one side comes next to the other one, so that the comparison comes out as `outcome`.
    fn nearest(&self, comparison: &Comparison, outcome: bool, mut change: impl FnMut(Change)) {
        let Comparison { op, is_jmp32, left, right, .. } = *comparison;
        let goes = |left, right| alu::compare(op, is_jmp32, left, right) == Some(outcome);
        for near in [0, 1, u64::MAX] {
            let (new_left, new_right) = (right.bits.wrapping_add(near), left.bits.wrapping_add(near));
            if let Some(term) = left.term.filter(|_| goes(new_left, right.bits)) {
                change(self.terms.solve(term, new_left));
            }
            if let Some(term) = right.term.filter(|_| goes(left.bits, new_right)) {
                change(self.terms.solve(term, new_right));
            }
        }
    }

    /// Whether a value is what the present instruction, which is no comparison, makes its way dependent on.
    pub(super) fn decide(&mut self, left: Value, constant: u64) -> bool {
        let taken = left.bits == constant;
        self.compared(Comparison {
            op: BPF_JEQ,
            is_jmp32: false,
            left,
            right: Value::scalar(constant),
            taken,
        });
        taken
    }

    fn compared(&mut self, comparison: Comparison) {
        let Comparison { left, right, .. } = comparison;
        if left.term.is_some() || right.term.is_some() {
            self.comparisons.insert(self.pc, comparison);
            self.note(left);
            self.note(right);
        }
    }

    /// Numbers of the answers that the way of this run depends on, in order: those that are compared, or make an address, the
    /// size of an access, or the key of an element.
    pub fn deciding(&self) -> Vec<u32> {
        self.terms.answers_of(self.deciding.iter().copied())
    }

    /// The way of the run depends on `value`.
    pub(super) fn note(&mut self, value: Value) {
        self.deciding.extend(value.term);
    }

    /// The way of the run depends on where `pointer` points to.
    pub(super) fn note_pointer(&mut self, pointer: Value) {
        self.note(pointer);
        if pointer.region.is_some() && pointer.region == self.packet {
            self.note(self.packet_size);
            self.deciding.extend(self.meta_start.and_then(|start| start.term));
        }
    }

    /// How the run ended, once it has.
    pub fn stop(&self) -> Option<&Stop> {
        self.stop.as_ref()
    }

    /// Executes one instruction. Gives how the run ended, once it has.
    pub fn step(&mut self) -> Option<Stop> {
        if self.stop.is_none() {
            self.stop = self.execute().err();
        }
        self.stop.clone()
    }

    /// Runs to the end, or until `limit` instructions were executed.
    pub fn run(&mut self, limit: u64) -> Stop {
        while self.steps < limit {
            if let Some(stop) = self.step() {
                return stop;
            }
        }
        self.stop.clone().unwrap_or(Stop::Limit)
    }

    /// Runs along `path`, the indices of the instructions that are expected, in the order in which the verifier walks: a helper
    /// that calls back comes once more after each return of its callback. Ends early as the program does, or where another
    /// instruction than the expected one comes next. Gives how many instructions of the path were begun; the stop is `None`
    /// where all of them were executed and the run could go on.
    pub fn follow(&mut self, path: &[u32]) -> (usize, Option<Stop>) {
        for (begun, &expected) in path.iter().enumerate() {
            if self.pc != expected {
                return (begun, Some(Stop::LeftPath { insn: self.pc }));
            }
            if let Some(stop) = self.step() {
                return (begun + 1, Some(stop));
            }
        }
        (path.len(), None)
    }

    fn execute(&mut self) -> Exec<()> {
        let Some(&insn) = self.program.insns.get(self.pc as usize) else {
            return Err(Stop::Unsupported(format!("no instruction {}", self.pc)));
        };
        let executed = &mut self.executions[self.pc as usize];
        *executed = executed.saturating_add(1);
        self.steps += 1;
        match insn.class() {
            BPF_ALU | BPF_ALU64 => self.alu(insn)?,
            BPF_JMP | BPF_JMP32 => return self.jump(insn),
            BPF_LDX => self.load_insn(insn)?,
            BPF_ST | BPF_STX => self.store_insn(insn)?,
            _ => return self.ld(insn),
        }
        self.pc += 1;
        Ok(())
    }

    /// Asks for a value.
    pub(super) fn ask(&mut self, origin: Origin, range: Range) -> Value {
        let at = self.at();
        let bits = range.clamp(self.inputs.value(at, origin, range));
        let term = self.terms.answer(self.answers, bits);
        self.answers = self.answers.saturating_add(1);
        Value { bits, region: None, term }
    }

    fn at(&self) -> At {
        At { insn: self.pc, nth: self.nth(), step: self.steps.saturating_sub(1) }
    }

    /// How often the present instruction was executed before.
    pub(super) fn nth(&self) -> u32 {
        self.executions.get(self.pc as usize).map_or(0, |&n| n.saturating_sub(1))
    }

    pub(super) fn unsupported<T>(&self, what: impl Into<String>) -> Exec<T> {
        Err(Stop::Unsupported(what.into()))
    }

    pub(super) fn unknown_opcode<T>(&self, insn: Insn) -> Exec<T> {
        self.unsupported(format!("opcode {:#04x} of instruction {}", insn.code, self.pc))
    }

    pub(super) fn reg(&self, reg: u8) -> Exec<Value> {
        match self.regs.get(usize::from(reg)) {
            Some(Some(value)) => Ok(*value),
            _ => Err(Stop::BadAccess(BadAccess {
                insn: self.pc,
                wrong: Wrong::Uninitialised,
                write: false,
                arg: None,
                reg,
                region: None,
                bounds: (0, 0),
                off: 0,
                size: 0,
            })),
        }
    }

    pub(super) fn set(&mut self, reg: u8, value: Value) -> Exec<()> {
        match self.regs.get_mut(usize::from(reg)) {
            Some(slot) if reg != BPF_REG_FP => {
                *slot = Some(value);
                Ok(())
            }
            _ => self.unsupported(format!("a write to R{reg}")),
        }
    }

    pub(super) fn new_region(&mut self, kind: RegionKind, start: i64, end: i64) -> Exec<RegionId> {
        let id = self.regions.len();
        if id >= MAX_REGIONS {
            return Err(Stop::Limit);
        }
        let base = FIRST_ADDRESS + id as u64 * ADDRESS_STEP + ADDRESS_STEP / 2;
        self.regions.push(Region::new(kind, base, start, end));
        Ok(RegionId(id as u32))
    }

    pub(super) fn region(&self, id: RegionId) -> &Region {
        &self.regions[id.0 as usize]
    }

    pub(super) fn region_mut(&mut self, id: RegionId) -> &mut Region {
        &mut self.regions[id.0 as usize]
    }

    pub(super) fn pointer_to(&self, id: RegionId, off: i64) -> Value {
        Value { bits: self.region(id).address(off), region: Some(id), term: None }
    }

    /// Pointer to a kernel object of its own.
    pub(super) fn kernel_object(&mut self) -> Value {
        self.kernel_objects += 1;
        Value {
            bits: KERNEL_OBJECTS.wrapping_add(self.kernel_objects << 16),
            region: Some(KERNEL),
            term: None,
        }
    }

    /// Second operand of an arithmetic instruction or a comparison.
    fn operand(&self, insn: Insn) -> Exec<Value> {
        if insn.src() == BPF_X { self.reg(insn.src_reg()) } else { Ok(Value::scalar(insn.imm as i64 as u64)) }
    }

    fn alu(&mut self, insn: Insn) -> Exec<()> {
        let (dst, op, is64) = (insn.dst_reg(), insn.op(), insn.class() == BPF_ALU64);
        if op == BPF_END {
            let old = self.reg(dst)?;
            let Some(bits) = alu::end(insn.class(), insn.src(), insn.imm, old.bits) else {
                return self.unknown_opcode(insn);
            };
            let term = self.terms.end(insn.class(), insn.src(), insn.imm, old);
            return self.set(dst, Value { bits, region: None, term });
        }
        let src = if op == BPF_NEG { Value::default() } else { self.operand(insn)? };
        let old = if op == BPF_MOV { Value::default() } else { self.reg(dst)? };
        let compute = if is64 { alu::alu64 } else { alu::alu32 };
        let Some(bits) = compute(op, insn.off, old.bits, src.bits) else { return self.unknown_opcode(insn) };
        let region = match op {
            BPF_MOV if insn.off == 0 => src.region,
            BPF_ADD => sum_region(old.region, src.region),
            BPF_SUB => difference_region(old.region, src.region),
            _ => None,
        };
        let term = self.terms.alu(op, insn.off, is64, old, src);
        self.set(dst, Value { bits, region: region.filter(|_| is64), term })
    }

    fn jump(&mut self, insn: Insn) -> Exec<()> {
        match insn.op() {
            BPF_CALL => return self.call(insn),
            BPF_EXIT => return self.exit(),
            BPF_JA => {
                let off = if insn.class() == BPF_JMP32 { insn.imm } else { insn.off.into() };
                return self.go(off);
            }
            BPF_JCOND => {
                let origin = Origin::Choice { insn: self.pc, nth: self.nth() };
                let choice = self.ask(origin, Range::CHOICE);
                let stays = self.decide(choice, 0);
                return self.go(if stays { 0 } else { insn.off.into() });
            }
            _ => {}
        }
        let is_jmp32 = insn.class() == BPF_JMP32;
        let (left, right) = (self.reg(insn.dst_reg())?, self.operand(insn)?);
        let Some(taken) = alu::compare(insn.op(), is_jmp32, left.bits, right.bits) else {
            return self.unknown_opcode(insn);
        };
        self.compared(Comparison { op: insn.op(), is_jmp32, left, right, taken });
        if let Some(branches) = self.branches.get_mut(self.pc as usize) {
            *branches |= if taken { TAKEN } else { NOT_TAKEN };
        }
        self.go(if taken { insn.off.into() } else { 0 })
    }

    /// Goes `off` instructions behind the next one.
    pub(super) fn go(&mut self, off: i32) -> Exec<()> {
        match u32::try_from(i64::from(self.pc) + 1 + i64::from(off)) {
            Ok(pc) => self.pc = pc,
            Err(_) => return self.unsupported("a jump out of the program"),
        }
        Ok(())
    }
}

/// Adding to a pointer gives a pointer. What comes from kernel memory is a number if the other one is a pointer.
fn sum_region(left: Option<RegionId>, right: Option<RegionId>) -> Option<RegionId> {
    match (left, right) {
        (Some(pointer), None | Some(KERNEL)) | (None | Some(KERNEL), Some(pointer)) => Some(pointer),
        _ => None,
    }
}

/// The difference of two pointers is a number.
fn difference_region(left: Option<RegionId>, right: Option<RegionId>) -> Option<RegionId> {
    if right.is_none() || right == Some(KERNEL) && left != right { left } else { None }
}
