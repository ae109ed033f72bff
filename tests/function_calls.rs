//! Random programs of several functions, callbacks, references and locks, verified by the live kernel and by the emulated
//! one: same errno, same log.
//!
//! Needs a kernel of the emulated series and the right to load programs; says so and passes where it has neither.

mod calls;
mod live;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use bpftwin::btf::Btf;
use bpftwin::kernel::config::KernelConfig;
use bpftwin::verifier::log::Log;
use bpftwin_uapi::attr::*;
use bpftwin_uapi::info::FuncInfo;
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Cmd, HelperId, Insn, MapType, ProgType};
use calls::*;
use live::can_load;

/// Ids of the types in [`btf_blob`].
mod id {
    pub const INT: u32 = 1;
    pub const LOCK_VALUE: u32 = 8;
    pub const TIMER_VALUE: u32 = 10;
    /// `int f(struct __sk_buff *ctx)`, global.
    pub const MAIN: u32 = 17;
}

/// A prototype that a function may have: the id of a function type with it.
const STATIC_FUNCS: [u32; 4] = [18, 19, 20, 21];
const GLOBAL_FUNCS: [u32; 4] = [17, 22, 23, 24];

#[derive(Default)]
struct Blob {
    types: Vec<u8>,
    strings: Vec<u8>,
}

impl Blob {
    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }

    fn ty(&mut self, name: &str, kind: u32, vlen: u32, size_or_type: u32, tail: &[u32]) {
        let name = self.string(name);
        for word in [name, kind << 24 | vlen, size_or_type].iter().chain(tail) {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
    }
}

fn btf_blob() -> Vec<u8> {
    const INT: u32 = 1;
    const PTR: u32 = 2;
    const ARRAY: u32 = 3;
    const STRUCT: u32 = 4;
    const FUNC: u32 = 12;
    const PROTO: u32 = 13;
    let mut b = Blob { strings: vec![0], ..Blob::default() };
    let (x, lock, y, z, val, t, ctx, p, a) = (
        b.string("x"),
        b.string("lock"),
        b.string("y"),
        b.string("z"),
        b.string("val"),
        b.string("t"),
        b.string("ctx"),
        b.string("p"),
        b.string("a"),
    );
    b.ty("int", INT, 0, 4, &[1 << 24 | 32]); // 1
    b.ty("long", INT, 0, 8, &[1 << 24 | 64]); // 2
    b.ty("", PTR, 0, 1, &[]); // 3: int *
    b.ty("__sk_buff", STRUCT, 1, 4, &[x, 1, 0]); // 4
    b.ty("", PTR, 0, 4, &[]); // 5: struct __sk_buff *
    b.ty("", PTR, 0, 0, &[]); // 6: void *
    b.ty("bpf_spin_lock", STRUCT, 1, 4, &[val, 1, 0]); // 7
    b.ty("lock_value", STRUCT, 3, 24, &[x, 1, 0, lock, 7, 32, y, 13, 64]); // 8
    b.ty("bpf_timer", STRUCT, 1, 16, &[val, 13, 0]); // 9
    b.ty("timer_value", STRUCT, 3, 32, &[y, 2, 0, t, 9, 64, z, 2, 192]); // 10
    b.ty("", PROTO, 1, 1, &[ctx, 5]); // 11: int (struct __sk_buff *)
    b.ty("", PROTO, 2, 1, &[a, 1, p, 6]); // 12: int (int, void *)
    b.ty("", ARRAY, 0, 0, &[2, 1, 2]); // 13: long [2]
    b.ty("", PROTO, 2, 1, &[ctx, 5, p, 3]); // 14: int (struct __sk_buff *, int *)
    b.ty("", PROTO, 2, 1, &[a, 2, x, 1]); // 15: int (long, int)
    b.ty("", PROTO, 0, 0, &[]); // 16: void (void)
    b.ty("main", FUNC, 1, 11, &[]); // 17
    b.ty("cb", FUNC, 0, 12, &[]); // 18
    b.ty("s1", FUNC, 0, 14, &[]); // 19
    b.ty("s2", FUNC, 0, 15, &[]); // 20
    b.ty("s3", FUNC, 0, 16, &[]); // 21
    b.ty("g1", FUNC, 1, 14, &[]); // 22
    b.ty("g2", FUNC, 1, 15, &[]); // 23
    b.ty("g3", FUNC, 1, 12, &[]); // 24
    let mut blob = Vec::new();
    blob.extend_from_slice(&0xeb9f_u16.to_le_bytes());
    blob.extend_from_slice(&[1, 0]);
    for word in [24, 0, b.types.len() as u32, b.types.len() as u32, b.strings.len() as u32] {
        blob.extend_from_slice(&word.to_le_bytes());
    }
    blob.extend(b.types);
    blob.extend(b.strings);
    blob
}

fn bpf<T>(cmd: Cmd, attr: &mut T, size: usize) -> i32 {
    // SAFETY: the attributes point to live memory, and the size is that of the structure.
    unsafe { libc::syscall(libc::SYS_bpf, cmd as i32, std::ptr::from_mut(attr), size) as i32 }
}

/// What the generated code works on.
struct Fds {
    hash: i32,
    array: i32,
    lock: i32,
    timer: i32,
    ringbuf: i32,
    progs: i32,
    outer: i32,
}

struct Function {
    type_id: u32,
    insns: Vec<Insn>,
    /// Calls and function pointers to be resolved: instruction, and function.
    refs: Vec<(usize, usize)>,
}

fn jmp_imm(op: u8, dst: u8, imm: i32, off: i16) -> Insn {
    Insn::new(BPF_JMP | op | BPF_K, dst, 0, off, imm)
}

fn exit() -> Insn {
    Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
}

fn st(size: u8, dst: u8, off: i16, imm: i32) -> Insn {
    Insn::new(BPF_ST | size | BPF_MEM, dst, 0, off, imm)
}

fn stx(size: u8, dst: u8, src: u8, off: i16) -> Insn {
    Insn::new(BPF_STX | size | BPF_MEM, dst, src, off, 0)
}

struct Generator<'a> {
    random: &'a mut Random,
    fds: &'a Fds,
    /// Type of each function.
    functions: Vec<u32>,
}

impl Generator<'_> {
    fn one_in(&mut self, n: usize) -> bool {
        self.random.below(n) == 0
    }

    fn pick(&mut self, from: &[i32]) -> i32 {
        from[self.random.below(from.len())]
    }

    /// Something into `dst`, of the kind that a function of ours may take.
    fn value(&mut self, dst: u8, out: &mut Vec<Insn>) {
        match self.random.below(10) {
            0..3 => out.push(mov(dst, 6)),
            3..5 => {
                out.push(mov(dst, 10));
                let off = self.pick(&[-16, -8, -24]);
                out.push(add_imm(dst, off));
            }
            5 => out.push(mov(dst, 7)),
            6 => out.push(mov(dst, 8)),
            _ => {
                let imm = self.pick(&[0, 1, 2, 5, 100, -1]);
                out.push(mov_imm(dst, imm));
            }
        }
    }

    /// What the function's prototype asks for, mostly.
    fn call_function(&mut self, f: &mut Function, callee: Option<usize>) {
        let count = self.functions.len();
        let callee = callee.unwrap_or_else(|| if count > 1 { 1 + self.random.below(count - 1) } else { 0 });
        if self.one_in(8) {
            self.value(1, &mut f.insns);
            self.value(2, &mut f.insns);
        } else {
            match self.functions[callee] {
                id::MAIN | 22 | 19 => f.insns.push(mov(1, 6)),
                _ => f.insns.push(mov(1, 8)),
            }
            match self.functions[callee] {
                23 | 20 => f.insns.push(mov_imm(2, 1)),
                _ => {
                    f.insns.push(mov(2, 10));
                    f.insns.push(add_imm(2, -16));
                }
            }
        }
        f.refs.push((f.insns.len(), callee));
        f.insns.push(Insn::new(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 0));
    }

    fn ld_func(&mut self, dst: u8, f: &mut Function) {
        let statics: Vec<usize> =
            (0..self.functions.len()).filter(|&i| STATIC_FUNCS.contains(&self.functions[i])).collect();
        let callee = if statics.is_empty() || self.one_in(30) {
            self.random.below(self.functions.len())
        } else {
            statics[self.random.below(statics.len())]
        };
        f.refs.push((f.insns.len(), callee));
        f.insns.push(Insn::new(BPF_LD | BPF_IMM | BPF_DW, dst, BPF_PSEUDO_FUNC, 0, 0));
        f.insns.push(Insn::new(0, 0, 0, 0, 0));
    }

    fn callback_ctx(&mut self, dst: u8, f: &mut Function) {
        if self.one_in(3) {
            f.insns.push(mov_imm(dst, 0));
        } else {
            f.insns.push(mov(dst, 10));
            f.insns.push(add_imm(dst, -16));
        }
    }

    fn loop_call(&mut self, f: &mut Function) {
        match self.random.below(3) {
            0 => f.insns.push(mov(1, 8)),
            _ => {
                let n = self.pick(&[0, 1, 2, 3, 10, 1000]);
                f.insns.push(mov_imm(1, n));
            }
        }
        self.ld_func(2, f);
        self.callback_ctx(3, f);
        let flags = i32::from(self.one_in(10));
        f.insns.push(mov_imm(4, flags));
        f.insns.push(call(HelperId::Loop as i32));
    }

    fn for_each(&mut self, f: &mut Function) {
        let fd = self.pick(&[self.fds.hash, self.fds.array, self.fds.lock, self.fds.timer, self.fds.progs]);
        f.insns.extend(ld_map(1, fd));
        self.ld_func(2, f);
        self.callback_ctx(3, f);
        f.insns.push(mov_imm(4, 0));
        f.insns.push(call(HelperId::ForEachMapElem as i32));
    }

    /// A lookup with the key at `fp - 8`, into R7 where it succeeds.
    fn lookup(&mut self, f: &mut Function, fd: i32) {
        let key = self.pick(&[0, 1, 7, 8, 100]);
        let size = if self.one_in(3) { BPF_DW } else { BPF_W };
        f.insns.push(st(size, 10, -8, key));
        f.insns.extend(ld_map(1, fd));
        f.insns.push(mov(2, 10));
        f.insns.push(add_imm(2, -8));
        f.insns.push(call(HelperId::MapLookupElem as i32));
        if !self.one_in(12) {
            f.insns.push(jmp_imm(BPF_JNE, 0, 0, 2));
            f.insns.push(mov_imm(0, 0));
            f.insns.push(exit());
        }
        f.insns.push(mov(7, 0));
    }

    fn locked(&mut self, f: &mut Function) {
        self.lookup(f, self.fds.lock);
        f.insns.push(mov(1, 7));
        let off = if self.one_in(10) { 0 } else { 4 };
        f.insns.push(add_imm(1, off));
        f.insns.push(call(HelperId::SpinLock as i32));
        match self.random.below(6) {
            0 => f.insns.push(st(BPF_W, 7, 0, 1)),
            1 => self.call_function(f, None),
            2 => f.insns.push(st(BPF_W, 7, 4, 1)),
            3 => f.insns.push(call(HelperId::KtimeGetNs as i32)),
            _ => f.insns.push(ldx(BPF_DW, 8, 7, 8)),
        }
        if self.one_in(8) {
            self.lookup(f, self.fds.lock);
        }
        if !self.one_in(10) {
            f.insns.push(mov(1, 7));
            f.insns.push(add_imm(1, 4));
            f.insns.push(call(HelperId::SpinUnlock as i32));
        }
    }

    fn timer(&mut self, f: &mut Function) {
        let inner = self.one_in(3);
        if inner {
            self.lookup(f, self.fds.outer);
            f.insns.push(stx(BPF_DW, 10, 7, -32));
            f.insns.push(mov(9, 7));
            f.insns.push(st(BPF_W, 10, -8, 1));
            f.insns.push(mov(1, 7));
            f.insns.push(mov(2, 10));
            f.insns.push(add_imm(2, -8));
            f.insns.push(call(HelperId::MapLookupElem as i32));
            f.insns.push(jmp_imm(BPF_JNE, 0, 0, 2));
            f.insns.push(mov_imm(0, 0));
            f.insns.push(exit());
            f.insns.push(mov(7, 0));
        } else {
            self.lookup(f, self.fds.timer);
        }
        let off = if self.one_in(10) { 0 } else { 8 };
        if !self.one_in(4) {
            f.insns.push(mov(1, 7));
            f.insns.push(add_imm(1, off));
            if inner {
                f.insns.push(mov(2, 9));
            } else {
                f.insns.extend(ld_map(2, self.fds.timer));
            }
            f.insns.push(mov_imm(3, 1));
            f.insns.push(call(HelperId::TimerInit as i32));
        }
        f.insns.push(mov(1, 7));
        f.insns.push(add_imm(1, off));
        self.ld_func(2, f);
        f.insns.push(call(HelperId::TimerSetCallback as i32));
    }

    fn ringbuf(&mut self, f: &mut Function) {
        f.insns.extend(ld_map(1, self.fds.ringbuf));
        let size = self.pick(&[8, 16, 0, 64]);
        f.insns.push(mov_imm(2, size));
        f.insns.push(mov_imm(3, 0));
        f.insns.push(call(HelperId::RingbufReserve as i32));
        let exits = self.one_in(2);
        f.insns.push(jmp_imm(BPF_JNE, 0, 0, if exits { 2 } else { 1 }));
        if exits {
            f.insns.push(mov_imm(0, 0));
            f.insns.push(exit());
        } else {
            f.insns.push(Insn::new(BPF_JMP | BPF_JA, 0, 0, 5, 0));
        }
        f.insns.push(mov(9, 0));
        let off = self.pick(&[0, 0, 8]) as i16;
        f.insns.push(if self.one_in(2) { st(BPF_DW, 9, off, 1) } else { stx(BPF_DW, 9, 8, off) });
        if exits && self.one_in(6) {
            self.call_function(f, None);
        }
        f.insns.push(mov(1, 9));
        f.insns.push(mov_imm(2, 0));
        let release = self.pick(&[HelperId::RingbufSubmit as i32, HelperId::RingbufDiscard as i32]);
        if !self.one_in(10) {
            f.insns.push(call(release));
        }
        if self.one_in(10) {
            f.insns.push(mov(1, 9));
            f.insns.push(mov_imm(2, 0));
            f.insns.push(call(release));
        }
    }

    fn tail_call(&mut self, f: &mut Function) {
        f.insns.push(mov(1, 6));
        f.insns.extend(ld_map(2, self.fds.progs));
        match self.random.below(3) {
            0 => f.insns.push(mov(3, 8)),
            _ => {
                let index = self.pick(&[0, 1, 7, 8]);
                f.insns.push(mov_imm(3, index));
            }
        }
        f.insns.push(call(HelperId::TailCall as i32));
    }

    fn statement(&mut self, f: &mut Function) {
        match self.random.below(20) {
            0..4 => self.call_function(f, None),
            4..6 => self.loop_call(f),
            6 => self.for_each(f),
            7 => self.locked(f),
            8 => self.timer(f),
            9 => self.ringbuf(f),
            10 => self.tail_call(f),
            11 => {
                let fd = self.pick(&[self.fds.hash, self.fds.array]);
                self.lookup(f, fd);
            }
            12 => {
                let op = [BPF_JGT, BPF_JEQ, BPF_JSLT, BPF_JSET][self.random.below(4)];
                let imm = self.pick(&[0, 1, 5, 1000]);
                f.insns.push(jmp_imm(op, 8, imm, 2));
                f.insns.push(mov_imm(8, imm));
                f.insns.push(st(BPF_DW, 10, -24, imm));
            }
            13 => {
                // A global counter, or the caller's variable.
                f.insns.push(ldx(BPF_DW, 8, 10, -16));
                f.insns.push(add_imm(8, 1));
                f.insns.push(stx(BPF_DW, 10, 8, -16));
            }
            14 => {
                f.insns.push(call(HelperId::GetPrandomU32 as i32));
                f.insns.push(mov(8, 0));
            }
            15 => {
                f.insns.push(Insn::new(BPF_ALU64 | BPF_AND | BPF_K, 8, 0, 0, 7));
                f.insns.push(mov(1, 10));
                f.insns.push(Insn::new(BPF_ALU64 | BPF_ADD | BPF_X, 1, 8, 0, 0));
                f.insns.push(st(BPF_B, 1, -24, 1));
            }
            16 => f.insns.push(ldx(BPF_W, 8, 6, 0)),
            17 => f.insns.push(ldx(BPF_DW, 8, 7, 0)),
            18 => {
                f.insns.push(ldx(BPF_DW, 8, 7, 0));
                f.insns.push(add_imm(8, 1));
                f.insns.push(stx(BPF_DW, 7, 8, 0));
            }
            _ => f.insns.push(mov(8, 0)),
        }
    }

    fn function(&mut self, index: usize, called: &[usize]) -> Function {
        let type_id = self.functions[index];
        let mut f = Function { type_id, insns: Vec::new(), refs: Vec::new() };
        f.insns.push(mov(6, 1));
        if index == 0 || self.one_in(3) {
            f.insns.push(mov_imm(7, 3));
        } else {
            f.insns.push(mov(7, 2));
        }
        let known = self.pick(&[0, 0, 1, 5]);
        f.insns.push(mov_imm(8, known));
        f.insns.push(st(BPF_DW, 10, -8, 0));
        f.insns.push(st(BPF_DW, 10, -16, 1));
        let statements = self.random.below(if index == 0 { 4 } else { 3 }) + usize::from(index == 0);
        for _ in 0..statements {
            self.statement(&mut f);
        }
        if index == 0 {
            for callee in 1..self.functions.len() {
                if !called.contains(&callee) {
                    self.call_function(&mut f, Some(callee));
                }
            }
        }
        match self.random.below(8) {
            0 => f.insns.push(mov_imm(0, 1)),
            1 => f.insns.push(mov(0, 8)),
            2 if self.one_in(4) => f.insns.push(mov_imm(0, 5)),
            3 if self.one_in(4) => f.insns.push(mov(0, 10)),
            4 => f.insns.push(mov(0, 7)),
            _ => f.insns.push(mov_imm(0, 0)),
        }
        f.insns.push(exit());
        f
    }
}

fn program(random: &mut Random, fds: &Fds) -> (Vec<Insn>, Vec<FuncInfo>) {
    let functions = (0..1 + random.below(4))
        .map(|index| match random.below(3) {
            _ if index == 0 => id::MAIN,
            0 => GLOBAL_FUNCS[random.below(4)],
            _ => STATIC_FUNCS[random.below(4)],
        })
        .collect::<Vec<_>>();
    let count = functions.len();
    let mut generator = Generator { random, fds, functions };
    // The main function last: it calls what nobody else does.
    let mut parts: Vec<Function> = (1..count).map(|index| generator.function(index, &[])).collect();
    let called: Vec<usize> =
        parts.iter().flat_map(|part| part.refs.iter().map(|&(_, callee)| callee)).collect();
    parts.insert(0, generator.function(0, &called));
    let mut starts = Vec::new();
    let mut insns = Vec::new();
    for part in &parts {
        starts.push(insns.len());
        insns.extend_from_slice(&part.insns);
    }
    for (part, &start) in parts.iter().zip(&starts) {
        for &(at, callee) in &part.refs {
            insns[start + at].imm = starts[callee] as i32 - (start + at) as i32 - 1;
        }
    }
    let infos = parts.iter().zip(&starts);
    let infos = infos.map(|(part, &start)| FuncInfo { insn_off: start as u32, type_id: part.type_id });
    (insns, infos.collect())
}

fn create_with_btf(map_type: MapType, value_size: u32, btf_fd: i32, btf: &Arc<Btf>, value: u32) -> World {
    let mut attr: MapCreate = bytemuck::Zeroable::zeroed();
    attr.map_type = map_type as u32;
    attr.key_size = 4;
    attr.value_size = value_size;
    attr.max_entries = 8;
    attr.btf_fd = btf_fd as u32;
    attr.btf_key_type_id = id::INT;
    attr.btf_value_type_id = value;
    attr.map_name = *b"special\0\0\0\0\0\0\0\0\0";
    let fd = bpf(Cmd::MapCreate, &mut attr, size_of::<MapCreate>());
    let mut world = World::default();
    if fd >= 0 {
        let mut map = view(fd, map_type, 4, value_size, 8);
        map.name = "special".into();
        map.btf = Some(btf.clone());
        map.btf_value_type_id = value;
        map.record = btf
            .type_by_id(value)
            .and_then(|t| {
                btf.parse_fields(&t, bpftwin::btf::field::MAP_VALUE_FIELDS, value_size, &|| None).ok()?
            })
            .map(Arc::new);
        world.maps.insert(fd, Arc::new(map));
    }
    world
}

#[test]
fn random_functions_agree_with_the_kernel() {
    if !can_load() {
        return;
    }
    let setting = |name, default| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let count = setting("FUNCTION_CALLS", 3_000u64);
    let seed = setting("FUNCTION_CALLS_SEED", 1);
    let blob = btf_blob();
    let mut attr: BtfLoad = bytemuck::Zeroable::zeroed();
    let mut btf_log = vec![0u8; 4096];
    attr.btf = blob.as_ptr() as u64;
    attr.btf_size = blob.len() as u32;
    attr.btf_log_buf = btf_log.as_mut_ptr() as u64;
    attr.btf_log_size = 4096;
    attr.btf_log_level = 1;
    let btf_fd = bpf(Cmd::BtfLoad, &mut attr, size_of::<BtfLoad>());
    assert!(btf_fd >= 0, "{}", String::from_utf8_lossy(&btf_log));
    let btf = Arc::new(Btf::parse(blob, &mut Log::disabled(), &|| None).unwrap());

    let btf_vmlinux = Btf::from_kernel_file(Path::new("/sys/kernel/btf/vmlinux")).map(Arc::new).ok();
    let mut world = World { btf_vmlinux, ..World::default() };
    world.btfs.insert(btf_fd, btf.clone());
    let mut add = |map_type, key_size, value_size, max_entries| {
        let (fd, map) = create(map_type, key_size, value_size, max_entries).unwrap();
        world.maps.insert(fd, Arc::new(map));
        fd
    };
    let hash = add(MapType::Hash, 4, 16, 8);
    let array = add(MapType::Array, 4, 16, 8);
    let ringbuf = add(MapType::Ringbuf, 0, 0, 4096);
    let progs = add(MapType::ProgArray, 4, 4, 8);
    let special = |world: &mut World, map_type, size, value| {
        let other = create_with_btf(map_type, size, btf_fd, &btf, value);
        let (fd, map) = other.maps.into_iter().next().unwrap();
        world.maps.insert(fd, map);
        fd
    };
    let lock = special(&mut world, MapType::Hash, 24, id::LOCK_VALUE);
    let timer = special(&mut world, MapType::Array, 32, id::TIMER_VALUE);
    let outer = {
        let mut attr: MapCreate = bytemuck::Zeroable::zeroed();
        attr.map_type = MapType::ArrayOfMaps as u32;
        attr.key_size = 4;
        attr.value_size = 4;
        attr.max_entries = 8;
        attr.inner_map_fd = timer as u32;
        let fd = bpf(Cmd::MapCreate, &mut attr, size_of::<MapCreate>());
        let mut map = view(fd, MapType::ArrayOfMaps, 4, 4, 8);
        let inner = &world.maps[&timer];
        let mut template = view(-1, MapType::Array, 4, 32, 8);
        template.record = inner.record.clone();
        template.btf = inner.btf.clone();
        map.inner_map_meta = Some(Arc::new(template));
        world.maps.insert(fd, Arc::new(map));
        fd
    };
    let fds = Fds { hash, array, lock, timer, ringbuf, progs, outer };
    let world = Arc::new(world);
    let config = Arc::new(KernelConfig::of_host().unwrap_or_default());

    let mut random = Random(u64::wrapping_mul(seed, 0x9e37_79b9_7f4a_7c15) | 1);
    let (mut accepted, mut skipped, mut failures) = (0, BTreeMap::<String, u32>::new(), 0);
    let mut messages = BTreeMap::<String, u32>::new();
    for n in 0..count {
        let (insns, infos) = program(&mut random, &fds);
        let mut attr = attributes(ProgType::SchedCls);
        attr.prog_btf_fd = btf_fd as u32;
        attr.func_info = infos.as_ptr() as u64;
        attr.func_info_cnt = infos.len() as u32;
        attr.func_info_rec_size = size_of::<FuncInfo>() as u32;
        let answers = load(&world, &config, attr, &insns);
        if let Some(what) = answers.not_emulated {
            *skipped.entry(what).or_default() += 1;
            continue;
        }
        accepted += u32::from(answers.kernel.0 == 0);
        if let Some(message) = answers.kernel.1.lines().rev().nth(1).filter(|_| answers.kernel.0 != 0) {
            let digits = |c: char| if c.is_ascii_digit() { '#' } else { c };
            *messages.entry(message.chars().map(digits).collect()).or_default() += 1;
        }
        // A failure of the rewriting behind verification.
        let no_jit = answers.kernel.1.contains("verifier bug: No program to jit");
        if answers.kernel != answers.emulated && !no_jit {
            failures += 1;
            if failures <= 5 {
                eprintln!(
                    "=== {n}\n--- kernel: {}\n{}\n--- emulated: {}\n{}",
                    answers.kernel.0, answers.kernel.1, answers.emulated.0, answers.emulated.1
                );
            }
        }
    }
    for (message, times) in messages.iter().filter(|(message, _)| message.len() < 100) {
        eprintln!("MSG {times:6} {message}");
    }
    eprintln!("{count} programs, {accepted} accepted, {failures} differ, not emulated: {skipped:?}");
    assert_eq!(failures, 0);
}
