//! Generates programs. A model of what each register and stack slot holds keeps most statements sensible; some are
//! slightly wrong on purpose, and a few mutations at the end break what they like.

mod calls;
mod extremes;
mod flow;
mod memory;
mod mutate;
mod oddities;
mod packet;
mod profile;
mod scalar;
mod veiled;

use bpftwin_uapi::attr::*;
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Insn, ProgType};

use crate::btf::{Arg, FuzzBtf};
use crate::case::Case;
use crate::kernel::World;
use crate::rng::Rng;
pub use profile::Profiles;
use profile::TypeProfile;

/// What kind of memory a pointer points to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    MapValue(usize),
    MapKey,
    Ringbuf,
    Packet,
    Meta,
    /// Memory of a caller, of a global function's argument, or a helper's.
    Other,
    FlowKeys,
    Sock,
}

/// What a register or stack slot holds, as far as the generator knows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// Nothing that may be read.
    None,
    /// A number; its largest value, where it is known and the number is not negative.
    Scalar(Option<u64>),
    Ctx,
    /// Frame pointer with this offset.
    Fp(i32),
    Map(usize),
    /// `size` bytes from the pointer on may be accessed.
    Mem {
        class: Class,
        size: i32,
        null: bool,
        id: u32,
    },
    /// Packet pointer without a known range.
    Pkt,
    Meta,
    PktEnd,
}

impl Kind {
    fn is_scalar(self) -> bool {
        matches!(self, Kind::Scalar(_))
    }

    fn is_mem(self) -> bool {
        matches!(self, Kind::Mem { null: false, .. })
    }
}

/// A stack slot of eight bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Slot {
    None,
    /// Bytes that are written, some perhaps not.
    Bytes(u8),
    Spill(Kind),
}

/// Slots of the stack that the generator uses.
const SLOTS: usize = 24;

/// State of the model at one point of a function.
#[derive(Clone)]
struct Model {
    regs: [Kind; 10],
    slots: [Slot; SLOTS],
}

impl Model {
    fn empty() -> Self {
        Model { regs: [Kind::None; 10], slots: [Slot::None; SLOTS] }
    }

    /// What holds on both of two paths.
    fn join(&mut self, other: &Model) {
        for (mine, theirs) in self.regs.iter_mut().zip(other.regs) {
            *mine = join(*mine, theirs);
        }
        for (mine, theirs) in self.slots.iter_mut().zip(other.slots) {
            *mine = match (*mine, theirs) {
                (a, b) if a == b => a,
                (Slot::Spill(a), Slot::Spill(b)) => match join(a, b) {
                    Kind::None => Slot::Bytes(0xff),
                    kind => Slot::Spill(kind),
                },
                (Slot::Bytes(a), Slot::Bytes(b)) => Slot::Bytes(a & b),
                (Slot::None, _) | (_, Slot::None) => Slot::None,
                (Slot::Bytes(a), Slot::Spill(_)) | (Slot::Spill(_), Slot::Bytes(a)) => Slot::Bytes(a),
            };
        }
    }
}

fn join(a: Kind, b: Kind) -> Kind {
    match (a, b) {
        (a, b) if a == b => a,
        (Kind::Scalar(Some(a)), Kind::Scalar(Some(b))) => Kind::Scalar(Some(a.max(b))),
        (Kind::Scalar(_), Kind::Scalar(_)) => Kind::Scalar(None),
        _ => Kind::None,
    }
}

/// How a function came to be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum FuncRole {
    Main,
    Static,
    Global,
    Callback,
}

/// A function that is to be generated.
#[derive(Clone)]
struct FuncPlan {
    role: FuncRole,
    /// Index in the table of BTF functions.
    btf_func: u32,
    /// R1 to R5 at entry.
    args: [Kind; 5],
    depth: u32,
    start: usize,
}

/// Generator of one program.
pub struct Generator<'a> {
    rng: Rng,
    fuzz: &'a FuzzBtf,
    world: &'a World,
    profile: &'a TypeProfile,
    insns: Vec<Insn>,
    model: Model,
    funcs: Vec<FuncPlan>,
    /// Instructions that name a function, by index in `funcs`.
    func_refs: Vec<(usize, usize)>,
    current: usize,
    /// Instructions that the current function may still have.
    budget: i32,
    use_btf: bool,
    /// Where the current function's slots begin.
    stack_base: i32,
    /// Registers that keep their kind, in loops.
    pinned: u16,
    /// References that are held; an exit would leak them.
    held: u32,
    /// A lock is held: no calls.
    locked: bool,
    next_id: u32,
    /// How often things are done wrong on purpose, in a thousand.
    sloppy: u64,
    /// How often a number is bounded in a way that the verifier does not see, in a hundred.
    veiled: u64,
}

/// What programs are like.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Style {
    Any,
    /// Without mistakes made on purpose.
    Clean,
    /// Safe in ways that the verifier does not see, or just not.
    Proofs,
}

/// A program by its number.
pub fn generate(world: &World, profiles: &Profiles, seed: u64, index: u64, style: Style) -> Case {
    let mut rng = Rng::new(seed.wrapping_mul(0x1_0000_0001).wrapping_add(index));
    if style == Style::Proofs && rng.one_in(4) {
        return veiled::derived(&mut rng);
    }
    if style == Style::Any && rng.one_in(800) {
        return extremes::extreme(&mut rng);
    }
    let profile = profiles.pick(&mut rng);
    let (sloppy, veiled) = match style {
        Style::Any => (rng.pick(&[0, 0, 0, 5, 20, 60]), 0),
        Style::Clean => (0, 0),
        Style::Proofs => (rng.pick(&[0, 0, 0, 5, 20]), rng.pick(&[20, 50, 90])),
    };
    let use_btf = rng.chance(40);
    let generator = Generator {
        rng,
        fuzz: &world.fuzz,
        world,
        profile,
        insns: Vec::new(),
        model: Model::empty(),
        funcs: Vec::new(),
        func_refs: Vec::new(),
        current: 0,
        budget: 0,
        stack_base: 0,
        use_btf,
        pinned: 0,
        held: 0,
        locked: false,
        next_id: 1,
        sloppy,
        veiled,
    };
    generator.run(style)
}

impl Generator<'_> {
    fn run(mut self, style: Style) -> Case {
        let main = self.fuzz.funcs_where(|func| !func.global && func.args == [Arg::PtrVoid])[0];
        let args = [Kind::Ctx, Kind::None, Kind::None, Kind::None, Kind::None];
        self.funcs.push(FuncPlan { role: FuncRole::Main, btf_func: main, args, depth: 0, start: 0 });
        while self.current < self.funcs.len() {
            self.function();
            self.current += 1;
        }
        let mut case = self.finish();
        if style == Style::Clean {
            return case;
        }
        if style == Style::Proofs {
            veiled::whole_log(&mut case);
            if !self.rng.one_in(8) {
                return case;
            }
        }
        let mutations = self.rng.pick(&[0, 0, 0, 0, 0, 0, 0, 1, 1, 2]);
        for _ in 0..mutations {
            mutate::mutate(&mut case, &mut self.rng);
        }
        case
    }

    fn finish(&mut self) -> Case {
        for (at, func) in std::mem::take(&mut self.func_refs) {
            self.insns[at].imm = self.funcs[func].start as i32 - at as i32 - 1;
        }
        let rng = &mut self.rng;
        let mut prog_flags = self.profile.flags;
        for (flag, chance) in [
            (BPF_F_TEST_STATE_FREQ, 20),
            (BPF_F_STRICT_ALIGNMENT, 6),
            (BPF_F_ANY_ALIGNMENT, 3),
            (BPF_F_TEST_REG_INVARIANTS, 10),
            (BPF_F_TEST_RND_HI32, 2),
        ] {
            if rng.chance(chance) {
                prog_flags |= flag;
            }
        }
        if self.profile.prog_type == ProgType::Kprobe && rng.chance(6) {
            prog_flags |= BPF_F_SLEEPABLE;
        }
        if self.profile.prog_type == ProgType::Xdp && rng.chance(15) {
            prog_flags |= BPF_F_XDP_HAS_FRAGS;
        }
        let mut log_level = rng.pick(&[2, 2, 2, 2, 2, 2, 6, 6, 6, 1, 5, 0, 2 | 8, 7, 6]);
        let log_size = if rng.chance(3) { rng.range(1, 9000) as u32 } else { 1 << 22 };
        if log_size < 1 << 20 {
            // Measured times would shift what is kept.
            log_level &= !BPF_LOG_STATS;
        }
        if rng.one_in(300) {
            log_level |= 16;
        }
        if log_level == BPF_LOG_FIXED {
            log_level |= BPF_LOG_LEVEL1;
        }
        let funcs: Vec<(u32, u32)> = if self.use_btf {
            self.funcs.iter().map(|func| (func.start as u32, func.btf_func)).collect()
        } else {
            Vec::new()
        };
        let mut lines = Vec::new();
        if self.use_btf && rng.chance(40) {
            let mut second_half = false;
            for (at, insn) in self.insns.iter().enumerate() {
                let starts = funcs.iter().any(|func| func.0 as usize == at);
                if !second_half && (starts || rng.chance(30)) {
                    lines.push((at as u32, rng.below(8) as u32));
                }
                second_half = !second_half && insn.is_ldimm64();
            }
        }
        if !lines.is_empty() && rng.one_in(25) {
            let at = rng.below(lines.len() as u64) as usize;
            match rng.below(3) {
                0 => _ = lines.remove(at),
                1 => lines[at].0 = lines[at].0.wrapping_add(rng.range(-1, 3) as u32),
                _ => lines.push((self.insns.len() as u32, 0)),
            }
        }
        Case {
            prog_type: self.profile.prog_type,
            attach_type: self.profile.attach_type,
            prog_flags,
            log_level,
            log_size,
            gpl: rng.chance(95),
            fd_array: rng.pick(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 2]),
            insns: std::mem::take(&mut self.insns),
            funcs,
            lines,
        }
    }

    /// Generates the current function.
    fn function(&mut self) {
        let plan = self.funcs[self.current].clone();
        self.funcs[self.current].start = self.insns.len();
        self.model = Model::empty();
        self.model.regs[1..6].copy_from_slice(&plan.args);
        (self.pinned, self.held, self.locked) = (0, 0, false);
        self.stack_base = self.rng.pick(&[0, 0, 0, 0, 0, 0, 0, 0, -8, -64, -192, -320]);
        self.budget = match plan.role {
            FuncRole::Main => self.rng.pick(&[6, 15, 25, 40, 40, 60, 100, 160, 300]),
            _ => self.rng.pick(&[4, 10, 20, 40]),
        };
        // Arguments survive calls in R6 to R9.
        for arg in 0..5u8 {
            let kind = plan.args[arg as usize];
            let keep = if kind == Kind::Ctx { 92 } else { 40 };
            let to = if kind == Kind::Ctx { 6 } else { 7 + arg % 3 };
            if kind != Kind::None && self.rng.chance(keep) && self.kind(to) == Kind::None {
                self.mov(to, arg + 1);
            }
        }
        self.block(0);
        self.exit();
    }

    /// Wrong on purpose this time.
    fn slip(&mut self) -> bool {
        let sloppy = self.sloppy;
        self.rng.below(1000) < sloppy
    }

    fn kind(&self, reg: u8) -> Kind {
        self.model.regs.get(reg as usize).copied().unwrap_or(Kind::Fp(0))
    }

    fn set(&mut self, reg: u8, kind: Kind) {
        if let Some(place) = self.model.regs.get_mut(reg as usize) {
            *place = kind;
        }
    }

    fn emit(&mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) {
        self.insns.push(Insn::new(code, dst, src, off, imm));
        self.budget -= 1;
    }

    fn mov(&mut self, dst: u8, src: u8) {
        self.emit(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0);
        let kind = self.kind(src);
        self.set(dst, kind);
    }

    fn mov_imm(&mut self, dst: u8, imm: i32) {
        let class = if self.rng.chance(70) { BPF_ALU64 } else { BPF_ALU };
        self.emit(class | BPF_MOV | BPF_K, dst, 0, 0, imm);
        self.set(dst, Kind::Scalar((imm >= 0).then_some(imm as u64)));
    }

    /// A 64-bit immediate.
    fn ld_imm64(&mut self, dst: u8, value: i64) {
        self.ld_pseudo(dst, 0, value as i32, (value >> 32) as i32);
        self.set(dst, Kind::Scalar(u64::try_from(value).ok()));
    }

    fn ld_pseudo(&mut self, dst: u8, pseudo: u8, low: i32, high: i32) {
        self.emit(BPF_LD | BPF_IMM | BPF_DW, dst, pseudo, 0, low);
        self.emit(0, 0, 0, 0, high);
    }

    fn ld_map(&mut self, dst: u8, map: usize) {
        self.ld_pseudo(dst, BPF_PSEUDO_MAP_FD, map as i32, 0);
        self.set(dst, Kind::Map(map));
    }

    /// A register that holds what the predicate wants.
    fn reg_where(&mut self, wanted: impl Fn(Kind) -> bool) -> Option<u8> {
        self.reg_among(0..10, wanted)
    }

    fn reg_among(&mut self, regs: std::ops::Range<u8>, wanted: impl Fn(Kind) -> bool) -> Option<u8> {
        let found: Vec<u8> = regs.filter(|&reg| wanted(self.kind(reg))).collect();
        if found.is_empty() { None } else { Some(self.rng.pick(&found)) }
    }

    /// A register to overwrite: rather one that holds nothing precious.
    fn free_reg(&mut self) -> u8 {
        let pinned = self.pinned;
        let ctx_regs = (0..10u8).filter(|&reg| self.kind(reg) == Kind::Ctx).count();
        let free: Vec<u8> = (0..10u8)
            .filter(|&reg| pinned & 1 << reg == 0)
            .filter(|&reg| match self.kind(reg) {
                Kind::None => true,
                Kind::Scalar(_) => true,
                Kind::Ctx => ctx_regs > 1,
                _ => false,
            })
            .collect();
        let empty: Vec<u8> = free.iter().copied().filter(|&reg| self.kind(reg) == Kind::None).collect();
        if !empty.is_empty() && self.rng.chance(60) {
            return self.rng.pick(&empty);
        }
        if !free.is_empty() && !self.rng.one_in(12) {
            return self.rng.pick(&free);
        }
        let others: Vec<u8> =
            (0..10u8).filter(|&reg| pinned & 1 << reg == 0 && self.kind(reg) != Kind::Ctx).collect();
        if others.is_empty() { 0 } else { self.rng.pick(&others) }
    }

    /// A register to overwrite that is none of these.
    fn free_reg_but(&mut self, used: &[u8]) -> u8 {
        for _ in 0..20 {
            let reg = self.free_reg();
            if !used.contains(&reg) {
                return reg;
            }
        }
        (0..10).find(|reg| !used.contains(reg) && self.pinned & 1 << reg == 0).unwrap_or(0)
    }

    /// A register with a number; makes one where there is none.
    fn scalar_reg(&mut self) -> u8 {
        if self.rng.chance(85)
            && let Some(reg) = self.reg_where(Kind::is_scalar)
        {
            return reg;
        }
        // A call would spoil what the statement holds in registers.
        self.new_scalar(false)
    }

    fn block(&mut self, depth: u32) {
        let count = self.rng.range(1, if depth == 0 { 30 } else { 5 });
        for _ in 0..count {
            if self.budget <= 0 {
                break;
            }
            self.statement(depth);
        }
    }

    fn statement(&mut self, depth: u32) {
        if self.slip() {
            return self.wild();
        }
        let deep = if depth >= 3 { 0 } else { 1 };
        let call = u32::from(!self.locked);
        let many = if self.veiled > 0 { 2 } else { 1 };
        let weights = [
            24,                                 // alu
            6,                                  // new scalar
            10,                                 // bound
            8,                                  // linked scalars
            11 * deep,                          // branch
            5 * deep,                           // loop
            deep,                               // may_goto loop
            8,                                  // context
            12,                                 // stack
            4 * many,                           // variable stack offset
            14 * call * many,                   // map access
            12 * many,                          // memory access
            10 * deep,                          // packet
            14 * call * many,                   // helper
            5 * call,                           // function call
            3 * call,                           // callback
            4 * call,                           // references
            2 * call,                           // lock
            2 * call,                           // tail call
            3 * call,                           // ld_abs
            5,                                  // atomic
            2,                                  // early exit
            5,                                  // precision
            2,                                  // pointer comparisons
            1,                                  // jump over
            1 + 2 * u32::from(self.sloppy > 0), // oddities
        ];
        match self.rng.weighted(&weights) {
            0 => self.alu(),
            1 => _ = self.new_scalar(true),
            2 => _ = self.bounded_scalar(255),
            3 => self.linked(),
            4 => self.branch(depth),
            5 => self.counted_loop(depth),
            6 => self.may_goto_loop(depth),
            7 => self.context(),
            8 => self.stack(),
            9 => self.variable_stack(),
            10 => self.map_lookup(depth),
            11 => self.mem_access(),
            12 => self.packet(depth),
            13 => self.helper(),
            14 => self.function_call(),
            15 => self.callback(),
            16 => self.reference(depth),
            17 => self.lock(depth),
            18 => self.tail_call(),
            19 => self.ld_abs(),
            20 => self.atomic(),
            21 => self.early_exit(),
            22 => self.precision(),
            23 => self.pointer_comparison(),
            24 => self.jump_over(),
            _ => self.oddity(),
        }
    }
}
