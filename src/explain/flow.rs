//! Where values come from along a path: for each instruction on it, which earlier ones made the values that it uses.
//!
//! One walk forward over the path keeps, for every register and stack slot, the step that wrote it, and what pointers point to, as far as it
//! is plain. This serves explanations alone: nothing is judged by it.

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{HelperId, Insn};
use smallvec::SmallVec;

use crate::exec::Program;
use crate::verifier::access::AccessType;
use crate::verifier::reg_type::{RegType, RetType, flag};

/// What a pointer points to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Target {
    Context,
    /// Frame by depth; the offset is from the frame pointer, where it is known.
    Stack {
        frame: usize,
        off: Option<i32>,
    },
    Packet,
    PacketEnd,
    Map(u32),
    MapValue(u32),
    /// What the call at this step returned.
    Result(u32),
    /// The memory that this argument (1 to 5) of the function points to which the path begins with.
    Argument(u8),
    Other,
}

/// A value: the step that made it, and what it points to if it is a pointer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Val {
    /// None for what the function began with.
    pub def: Option<u32>,
    pub target: Option<Target>,
}

/// What a step reads from memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Read {
    pub target: Option<Target>,
    /// Offset of the instruction; for the stack, from the frame pointer.
    pub off: i32,
    pub size: u8,
    /// The call that wrote it, of memory on the stack that a helper filled.
    pub filled_by: Option<u32>,
}

impl Read {
    pub fn is_stack(&self) -> bool {
        matches!(self.target, Some(Target::Stack { .. }))
    }
}

/// An instruction on the path.
#[derive(Clone, Default, Debug)]
pub struct Step {
    /// Steps that made what this one uses.
    pub uses: SmallVec<[u32; 2]>,
    /// Hands on what it uses, unchanged.
    pub copies: bool,
    pub reads: Option<Read>,
    pub is_call: bool,
    /// Depth of its frame.
    pub frame: usize,
}

/// The values along a path.
pub struct Flow {
    pub steps: Vec<Step>,
    /// What the registers of the last step's frame hold before it.
    pub last: [Option<Val>; MAX_BPF_REG],
    /// Answers to the questions of [`Flow::new`].
    pub asked: Vec<Option<Val>>,
}

/// Which value is in a register before a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Question {
    pub step: u32,
    pub frame: usize,
    pub regno: u8,
}

struct Slot {
    off: i32,
    size: i32,
    def: u32,
    val: Option<Val>,
}

#[derive(Default)]
struct Frame {
    regs: [Option<Val>; MAX_BPF_REG],
    slots: Vec<Slot>,
    /// Where a helper wrote from, and the call.
    fills: Vec<(i32, u32)>,
}

impl Frame {
    fn new(depth: usize) -> Frame {
        let mut frame = Frame::default();
        let target = Some(Target::Stack { frame: depth, off: Some(0) });
        frame.regs[BPF_REG_FP as usize] = Some(Val { def: None, target });
        frame
    }
}

/// The deepest call chain that is followed; the verifier has none deeper.
const MAX_DEPTH: usize = 16;

/// Bytes on the stack behind an argument that are taken for what it points to.
const ARG_BYTES: i32 = 16;

struct Walk<'a> {
    program: &'a Program,
    path: &'a [u32],
    frames: Vec<Frame>,
}

impl Flow {
    /// Walks `path`. `questions` are in the order of their steps; `args` is what R1 and those behind it point to in the beginning.
    pub fn new(program: &Program, path: &[u32], args: &[Option<Target>], questions: &[Question]) -> Flow {
        let mut walk = Walk { program, path, frames: vec![Frame::new(0)] };
        for (reg, &target) in
            walk.frames[0].regs[BPF_REG_1 as usize..=BPF_REG_5 as usize].iter_mut().zip(args)
        {
            *reg = Some(Val { def: None, target });
        }
        let mut flow =
            Flow { steps: Vec::with_capacity(path.len()), last: [None; MAX_BPF_REG], asked: Vec::new() };
        let mut questions = questions.iter().peekable();
        for i in 0..path.len() {
            while let Some(question) = questions.next_if(|question| question.step as usize <= i) {
                let frame = walk.frames.get(question.frame);
                flow.asked
                    .push(frame.and_then(|frame| frame.regs.get(usize::from(question.regno)).copied()?));
            }
            if i + 1 == path.len() {
                flow.last = walk.top().regs;
            }
            let mut step = Step { frame: walk.frames.len() - 1, ..Step::default() };
            walk.step(i as u32, &mut step);
            flow.steps.push(step);
        }
        flow.asked.extend(questions.map(|_| None));
        flow
    }

    /// The step that made a value, behind moves and spills.
    pub fn root(&self, mut step: u32) -> u32 {
        while let Some(&Step { copies: true, ref uses, .. }) = self.steps.get(step as usize) {
            match uses.first() {
                Some(&earlier) if earlier < step => step = earlier,
                _ => break,
            }
        }
        step
    }

    /// All steps that made the values of `start`, back to loads, calls and constants; moves and spills are left out. In the path's
    /// order.
    pub fn slice(&self, start: impl IntoIterator<Item = u32>) -> Vec<u32> {
        let mut wanted: Vec<u32> = start.into_iter().map(|step| self.root(step)).collect();
        let mut found = std::collections::BTreeSet::new();
        while let Some(step) = wanted.pop() {
            if found.insert(step)
                && let Some(Step { uses, is_call: false, .. }) = self.steps.get(step as usize)
            {
                wanted.extend(uses.iter().map(|&earlier| self.root(earlier)));
            }
        }
        found.into_iter().collect()
    }
}

impl Walk<'_> {
    fn top(&mut self) -> &mut Frame {
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    fn reg(&mut self, regno: u8) -> Option<Val> {
        self.top().regs.get(usize::from(regno)).copied().flatten()
    }

    fn set(&mut self, regno: u8, step: u32, target: Option<Target>) {
        if let Some(reg) = self.top().regs.get_mut(usize::from(regno)) {
            *reg = Some(Val { def: Some(step), target });
        }
    }

    fn step(&mut self, at: u32, step: &mut Step) {
        let Some(&insn) = self.path.get(at as usize).and_then(|&pc| self.program.insns().get(pc as usize))
        else {
            return;
        };
        let mut uses = |val: Option<Val>| step.uses.extend(val.and_then(|val| val.def));
        match insn.class() {
            BPF_ALU | BPF_ALU64 => {
                let (old, src) = (self.reg(insn.dst_reg()), self.reg(insn.src_reg()));
                let has_src = insn.src() == BPF_X && !matches!(insn.op(), BPF_NEG | BPF_END);
                if insn.op() != BPF_MOV {
                    uses(old);
                }
                if has_src {
                    uses(src);
                }
                step.copies = insn.op() == BPF_MOV && has_src && insn.class() == BPF_ALU64 && insn.off == 0;
                let target =
                    if step.copies { src.and_then(|val| val.target) } else { sum(insn, old, src, has_src) };
                self.set(insn.dst_reg(), at, target);
            }
            BPF_LDX => self.load(insn, at, step),
            BPF_ST | BPF_STX => self.store(insn, at, step),
            BPF_LD => self.ld(insn, at),
            _ => self.jump(insn, at, step),
        }
    }

    fn load(&mut self, insn: Insn, at: u32, step: &mut Step) {
        let base = self.reg(insn.src_reg()).and_then(|val| val.target);
        let size = insn.size_bytes() as u8;
        let mut read = Read { target: base, off: insn.off.into(), size, filled_by: None };
        let mut target = None;
        match base {
            Some(Target::Context) => {
                let allowed = self.program.ctx_access(insn.off.into(), size.into(), AccessType::Read, false);
                target = allowed.and_then(|reg_type| match reg_type.base() {
                    RegType::SCALAR_VALUE => None,
                    RegType::PTR_TO_PACKET | RegType::PTR_TO_PACKET_META => Some(Target::Packet),
                    RegType::PTR_TO_PACKET_END => Some(Target::PacketEnd),
                    _ => Some(Target::Other),
                });
            }
            Some(Target::Stack { frame, off: Some(off) }) => {
                let off = off.saturating_add(insn.off.into());
                read.off = off;
                if let Some(frame) = self.frames.get(frame) {
                    let exact =
                        frame.slots.iter().find(|slot| slot.off == off && slot.size == i32::from(size));
                    if let Some(slot) = exact {
                        step.uses.push(slot.def);
                        step.copies = size == 8;
                        target = slot.val.and_then(|val| val.target);
                    } else {
                        let overlap = |slot: &&Slot| {
                            slot.off < off.saturating_add(size.into())
                                && off < slot.off.saturating_add(slot.size)
                        };
                        step.uses.extend(frame.slots.iter().filter(overlap).map(|slot| slot.def));
                        if step.uses.is_empty() {
                            read.filled_by =
                                frame.fills.iter().rev().find(|(start, _)| *start <= off).map(|fill| fill.1);
                        }
                    }
                }
            }
            _ => {}
        }
        step.reads = Some(read);
        self.set(insn.dst_reg(), at, target);
    }

    fn store(&mut self, insn: Insn, at: u32, step: &mut Step) {
        let base = self.reg(insn.dst_reg()).and_then(|val| val.target);
        let val = if insn.class() == BPF_STX { self.reg(insn.src_reg()) } else { None };
        step.uses.extend(val.and_then(|val| val.def));
        let size = insn.size_bytes();
        if insn.class() == BPF_STX && insn.mode() == BPF_ATOMIC {
            // What was there is returned in a register.
            if let Some(Target::Stack { frame, off: Some(off) }) = base {
                self.overwrite(frame, off.saturating_add(insn.off.into()), size);
            }
            if insn.imm & BPF_FETCH != 0 {
                let regno = if insn.imm == BPF_CMPXCHG { BPF_REG_0 } else { insn.src_reg() };
                self.set(regno, at, None);
            }
            return;
        }
        step.copies = insn.class() == BPF_STX && size == 8;
        let Some(Target::Stack { frame, off: Some(off) }) = base else { return };
        let off = off.saturating_add(insn.off.into());
        self.overwrite(frame, off, size);
        if let Some(frame) = self.frames.get_mut(frame) {
            frame.slots.push(Slot { off, size, def: at, val: val.filter(|_| size == 8) });
        }
    }

    /// Forgets what was stored to `size` bytes of a frame's stack.
    fn overwrite(&mut self, frame: usize, off: i32, size: i32) {
        if let Some(frame) = self.frames.get_mut(frame) {
            frame.slots.retain(|slot| {
                slot.off >= off.saturating_add(size) || slot.off.saturating_add(slot.size) <= off
            });
        }
    }

    fn ld(&mut self, insn: Insn, at: u32) {
        if !insn.is_ldimm64() {
            self.set(BPF_REG_0, at, None);
            return;
        }
        let map_use = self.path.get(at as usize).and_then(|&pc| self.program.map_use(pc));
        let target = match map_use {
            Some(map_use) if map_use.is_value => Some(Target::MapValue(map_use.map_idx)),
            Some(map_use) => Some(Target::Map(map_use.map_idx)),
            None => None,
        };
        self.set(insn.dst_reg(), at, target);
    }

    fn jump(&mut self, insn: Insn, at: u32, step: &mut Step) {
        match insn.op() {
            BPF_EXIT => {
                let returned = self.reg(BPF_REG_0);
                step.uses.extend(returned.and_then(|val| val.def));
                if self.frames.len() > 1 {
                    self.frames.pop();
                    self.clobber();
                    self.top().regs[BPF_REG_0 as usize] = returned;
                }
            }
            BPF_CALL => self.call(insn, at, step),
            BPF_JA | BPF_JCOND => {}
            _ => {
                let src = if insn.src() == BPF_X { self.reg(insn.src_reg()) } else { None };
                let dst = self.reg(insn.dst_reg());
                step.uses.extend([dst, src].into_iter().flatten().filter_map(|val| val.def));
            }
        }
    }

    fn clobber(&mut self) {
        for regno in BPF_REG_1..=BPF_REG_5 {
            self.top().regs[regno as usize] = None;
        }
    }

    fn call(&mut self, insn: Insn, at: u32, step: &mut Step) {
        step.is_call = true;
        let args: Vec<Option<Val>> = (BPF_REG_1..=BPF_REG_5).map(|regno| self.reg(regno)).collect();
        let pc = self.path.get(at as usize).copied().unwrap_or(0);
        let goes_in = self.path.get(at as usize + 1).is_some_and(|&next| next != pc + 1);
        let proto = self.program.proto_at(pc);
        let count = match proto {
            Some(proto) => proto.num_params(),
            None => args.len(),
        };
        step.uses.extend(args.iter().take(count).flatten().filter_map(|val| val.def));
        for val in args.iter().take(count).flatten() {
            let Some(Target::Stack { frame, off: Some(off) }) = val.target else { continue };
            let Some(frame) = self.frames.get(frame) else { continue };
            let slots =
                frame.slots.iter().filter(|slot| (off..off.saturating_add(ARG_BYTES)).contains(&slot.off));
            step.uses.extend(slots.map(|slot| slot.def));
        }
        let mut target = None;
        if let Some(proto) = proto {
            target = self.returned(proto.ret_type.base(), &args, at);
            for (arg, val) in proto.arg_type.iter().zip(&args) {
                if let Some(Val { target: Some(Target::Stack { frame, off: Some(off) }), .. }) = *val
                    && arg.has(flag::MEM_WRITE)
                    && let Some(frame) = self.frames.get_mut(frame)
                {
                    frame.slots.retain(|slot| slot.off < off);
                    frame.fills.push((off, at));
                }
            }
        }
        self.clobber();
        self.set(BPF_REG_0, at, target);
        if goes_in && self.frames.len() < MAX_DEPTH {
            let is_func = insn.src_reg() == BPF_PSEUDO_CALL;
            let mut frame = Frame::new(self.frames.len());
            for (regno, arg) in (1..).zip(&args) {
                // Arguments of callbacks are the helper's.
                let given = Val { def: Some(at), target: Some(Target::Result(at)) };
                frame.regs[regno] = if is_func { *arg } else { Some(given) };
            }
            self.frames.push(frame);
        }
    }

    fn returned(&self, ret: RetType, args: &[Option<Val>], at: u32) -> Option<Target> {
        let map = args.first().copied().flatten().and_then(|val| val.target);
        match (ret, map) {
            (RetType::RET_PTR_TO_MAP_VALUE, Some(Target::Map(map))) => Some(Target::MapValue(map)),
            (RetType::RET_INTEGER | RetType::RET_VOID, _) => None,
            _ => Some(Target::Result(at)),
        }
    }
}

/// What the result of an operation points to.
fn sum(insn: Insn, old: Option<Val>, src: Option<Val>, has_src: bool) -> Option<Target> {
    if insn.class() != BPF_ALU64 {
        return None;
    }
    let target = |val: Option<Val>| val.and_then(|val| val.target);
    let moved = |by: i32| match target(old) {
        Some(Target::Stack { frame, off }) => {
            Some(Target::Stack { frame, off: off.and_then(|off| off.checked_add(by)) })
        }
        other => other,
    };
    let blurred = |target| match target {
        Some(Target::Stack { frame, .. }) => Some(Target::Stack { frame, off: None }),
        other => other,
    };
    match (insn.op(), has_src) {
        (BPF_ADD, false) => moved(insn.imm),
        (BPF_SUB, false) => moved(insn.imm.checked_neg()?),
        (BPF_ADD, true) => blurred(target(old).or(target(src))),
        (BPF_SUB, true) if target(src).is_none() => blurred(target(old)),
        _ => None,
    }
}

/// Name of a helper as programs call it.
pub fn helper_name(id: HelperId) -> String {
    format!("bpf_{}()", id.name())
}
