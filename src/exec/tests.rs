//! Small programs, each for one thing that the machine must do right.

use std::sync::Arc;

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Errno, HelperId, Insn, MapType, ProgType};

use super::*;
use crate::verifier::input::MapUse;
use crate::verifier::prog::{MapContents, Prog, VerifierMap};

const R0: u8 = BPF_REG_0;
const R1: u8 = BPF_REG_1;
const R2: u8 = BPF_REG_2;
const R3: u8 = BPF_REG_3;
const R4: u8 = BPF_REG_4;
const R6: u8 = BPF_REG_6;
const FP: u8 = BPF_REG_FP;

fn mov(dst: u8, imm: i32) -> Insn {
    Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm)
}

fn mov_reg(dst: u8, src: u8) -> Insn {
    Insn::new(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
}

fn alu(op: u8, dst: u8, imm: i32) -> Insn {
    Insn::new(BPF_ALU64 | op | BPF_K, dst, 0, 0, imm)
}

fn alu_reg(op: u8, dst: u8, src: u8) -> Insn {
    Insn::new(BPF_ALU64 | op | BPF_X, dst, src, 0, 0)
}

fn jump(op: u8, dst: u8, imm: i32, off: i16) -> Insn {
    Insn::new(BPF_JMP | op | BPF_K, dst, 0, off, imm)
}

fn load(size: u8, dst: u8, src: u8, off: i16) -> Insn {
    Insn::new(BPF_LDX | BPF_MEM | size, dst, src, off, 0)
}

fn store(size: u8, dst: u8, off: i16, src: u8) -> Insn {
    Insn::new(BPF_STX | BPF_MEM | size, dst, src, off, 0)
}

fn store_imm(size: u8, dst: u8, off: i16, imm: i32) -> Insn {
    Insn::new(BPF_ST | BPF_MEM | size, dst, 0, off, imm)
}

fn call(helper: HelperId) -> Insn {
    Insn::new(BPF_JMP | BPF_CALL, 0, 0, 0, helper as i32)
}

fn map_ptr(dst: u8) -> [Insn; 2] {
    [Insn::new(BPF_LD | BPF_IMM | BPF_DW, dst, BPF_PSEUDO_MAP_FD, 0, 0), Insn::default()]
}

const EXIT: Insn = Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);

struct NoContents;

impl MapContents for NoContents {
    fn frozen(&self) -> bool {
        false
    }

    fn read_value(&self, _: u32, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::EINVAL)
    }
}

fn map(map_type: MapType, value_size: u32, max_entries: u32) -> Arc<VerifierMap> {
    Arc::new(VerifierMap {
        identity: 1,
        map_type,
        key_size: 4,
        value_size,
        max_entries,
        map_flags: 0,
        map_extra: 0,
        name: String::new(),
        record: None,
        btf: None,
        btf_value_type_id: 0,
        inner_map_meta: None,
        offloaded: false,
        excl_prog_sha: None,
        contents: Arc::new(NoContents),
    })
}

/// A privileged program; its 64-bit immediates are all of the map.
fn program_of(prog_type: ProgType, insns: &[Insn], map: Option<Arc<VerifierMap>>) -> Program {
    let mut prog = Prog::new(prog_type, insns.to_vec());
    (prog.bpf_capable, prog.perfmon_capable, prog.gpl_compatible) = (true, true, true);
    let uses = insns.iter().enumerate().filter(|(_, insn)| insn.is_ldimm64() && insn.src_reg() != 0);
    let uses: Vec<MapUse> = uses
        .filter(|(_, insn)| !insn.is_pseudo_func())
        .map(|(i, insn)| MapUse {
            insn_idx: i as u32,
            map_idx: 0,
            is_value: insn.src_reg() == BPF_PSEUDO_MAP_VALUE,
            map_off: 0,
        })
        .collect();
    Program::from_parts(prog, map.into_iter().collect(), &uses)
}

fn run_with(program: &Program, table: &[(Origin, u64)]) -> Stop {
    let mut inputs = TableInputs::new(table.iter().copied(), Zeros);
    Machine::new(program, &mut inputs).run(10_000)
}

fn run(insns: &[Insn]) -> Stop {
    run_with(&program_of(ProgType::SchedCls, insns, None), &[])
}

fn returns(insns: &[Insn]) -> u64 {
    match run(insns) {
        Stop::Exit(Some(value)) => value.bits,
        stop => panic!("{stop}"),
    }
}

fn bad(stop: Stop) -> BadAccess {
    match stop {
        Stop::BadAccess(bad) => bad,
        stop => panic!("{stop}"),
    }
}

#[test]
fn pointers_survive_the_stack() {
    // The spilled frame pointer is used again; half of it is a number.
    let spill = [mov_reg(R1, FP), alu(BPF_ADD, R1, -16), store(BPF_DW, FP, -8, R1)];
    let through = [load(BPF_DW, R2, FP, -8), store_imm(BPF_W, R2, 0, 77), load(BPF_W, R0, FP, -16), EXIT];
    assert_eq!(returns(&[&spill[..], &through].concat()), 77);
    let half = [load(BPF_W, R2, FP, -8), store_imm(BPF_W, R2, 0, 77), mov(R0, 0), EXIT];
    assert_eq!(bad(run(&[&spill[..], &half].concat())).wrong, Wrong::NotAPointer);
}

#[test]
fn stack_bounds() {
    assert_eq!(returns(&[store_imm(BPF_B, FP, -512, 5), load(BPF_B, R0, FP, -512), EXIT]), 5);
    for (size, off) in [(BPF_B, 0), (BPF_DW, -7), (BPF_B, -513)] {
        let found = bad(run(&[store_imm(size, FP, off, 0), mov(R0, 0), EXIT]));
        assert_eq!((found.wrong, found.off, found.write), (Wrong::OutOfBounds, off.into(), true));
    }
    let uninitialised = bad(run(&[mov_reg(R0, R3), EXIT]));
    assert_eq!((uninitialised.wrong, uninitialised.reg), (Wrong::Uninitialised, R3));
}

#[test]
fn loads_extend() {
    let first = store_imm(BPF_DW, FP, -8, -2);
    assert_eq!(returns(&[first, load(BPF_H, R0, FP, -8), EXIT]), 0xfffe);
    let signed = Insn::new(BPF_LDX | BPF_MEMSX | BPF_H, R0, FP, -8, 0);
    assert_eq!(returns(&[first, signed, EXIT]), -2i64 as u64);
}

#[test]
fn atomics() {
    let atomic = |size: u8, op: i32| Insn::new(BPF_STX | BPF_ATOMIC | size, FP, R1, -8, op);
    let begin = |value, r1| [store_imm(BPF_DW, FP, -8, value), mov(R1, r1)];
    let fetch_add = [atomic(BPF_W, i32::from(BPF_ADD) | BPF_FETCH), load(BPF_DW, R0, FP, -8)];
    // The upper half of the memory is left alone; what is fetched is zero-extended.
    assert_eq!(returns(&[&begin(-1, 3)[..], &fetch_add, &[EXIT]].concat()), 0xffff_ffff_0000_0002);
    let fetched = [fetch_add[0], mov_reg(R0, R1), EXIT];
    assert_eq!(returns(&[&begin(-1, 3)[..], &fetched].concat()), 0xffff_ffff);
    for (expected, after) in [(5, 9), (6, 5)] {
        let exchange = [mov(R0, expected), atomic(BPF_DW, BPF_CMPXCHG), alu(BPF_MUL, R0, 100)];
        let sum = [load(BPF_DW, R2, FP, -8), alu_reg(BPF_ADD, R0, R2), EXIT];
        assert_eq!(returns(&[&begin(5, 9)[..], &exchange, &sum].concat()), 500 + after);
    }
}

#[test]
fn calls_save_registers_and_leave_their_stack() {
    let callee = [store_imm(BPF_DW, FP, -8, 1), mov_reg(R0, FP), alu(BPF_ADD, R0, -8), mov(R6, 9), EXIT];
    let pseudo_call = |off| Insn::new(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, off);
    let saved = [mov(R6, 4), pseudo_call(2), mov_reg(R0, R6), EXIT];
    assert_eq!(returns(&[&saved[..], &callee].concat()), 4);
    // R1 is gone after the call, and so is the memory that the callee points to.
    let clobbered = [mov(R1, 4), pseudo_call(2), mov_reg(R0, R1), EXIT];
    assert_eq!(bad(run(&[&clobbered[..], &callee].concat())).wrong, Wrong::Uninitialised);
    let dangling = [pseudo_call(2), load(BPF_DW, R0, R0, 0), EXIT];
    assert_eq!(bad(run(&[&dangling[..], &callee].concat())).wrong, Wrong::Stale);
}

/// Reads the packet's byte 13 if it is long enough by the program's own check.
fn packet_program(checked: i32) -> Program {
    let insns = [
        load(BPF_W, R2, R1, 76),
        load(BPF_W, R3, R1, 80),
        mov_reg(R4, R2),
        alu(BPF_ADD, R4, checked),
        mov(R0, 0),
        Insn::new(BPF_JMP | BPF_JGT | BPF_X, R4, R3, 1, 0),
        load(BPF_B, R0, R2, 13),
        EXIT,
    ];
    program_of(ProgType::SchedCls, &insns, None)
}

#[test]
fn packets_end_where_they_end() {
    let size = |bytes| [(Origin::PacketSize { packet: 0 }, bytes)];
    let good = packet_program(14);
    for bytes in [0, 13, 14, 1500] {
        assert!(matches!(run_with(&good, &size(bytes)), Stop::Exit(_)), "{bytes}");
    }
    let wrong = packet_program(13);
    let found = bad(run_with(&wrong, &size(13)));
    assert_eq!((found.wrong, found.off, found.bounds), (Wrong::OutOfBounds, 13, (0, 13)));
    let byte = Origin::Memory { region: RegionKind::Packet { packet: 0 }, off: 13, size: 1 };
    let stop = run_with(&good, &[(Origin::PacketSize { packet: 0 }, 14), (byte, 0xab)]);
    assert!(matches!(stop, Stop::Exit(Some(Value { bits: 0xab, .. }))));
}

#[test]
fn helpers_make_packet_pointers_stale() {
    let insns = [
        mov_reg(R6, R1),
        load(BPF_W, BPF_REG_7, R1, 76),
        mov(R2, 0),
        call(HelperId::SkbPullData),
        load(BPF_B, R0, BPF_REG_7, 0),
        EXIT,
    ];
    let program = program_of(ProgType::SchedCls, &insns, None);
    let found = bad(run_with(&program, &[(Origin::PacketSize { packet: 0 }, 100)]));
    assert_eq!((found.insn, found.wrong), (4, Wrong::Stale));
}

#[test]
fn context_fields_are_the_program_types() {
    let of = |off: i16, size| program_of(ProgType::SchedCls, &[load(size, R0, R1, off), EXIT], None);
    let mark = Origin::Memory { region: RegionKind::Context, off: 8, size: 4 };
    let Stop::Exit(Some(value)) = run_with(&of(8, BPF_W), &[(mark, 0x1_2345_6789)]) else { panic!() };
    assert_eq!(value.bits, 0x2345_6789);
    assert_eq!(bad(run_with(&of(192, BPF_W), &[])).wrong, Wrong::NotAllowed);
    // The socket is null or not, which is asked for under the name of the field.
    let socket =
        [load(BPF_DW, R2, R1, 168), mov(R0, 7), jump(BPF_JEQ, R2, 0, 1), load(BPF_W, R0, R2, 4), EXIT];
    let program = program_of(ProgType::SchedCls, &socket, None);
    assert!(matches!(run_with(&program, &[]), Stop::Exit(Some(Value { bits: 7, .. }))));
    let field = Origin::Memory { region: RegionKind::Context, off: 168, size: 8 };
    assert!(matches!(run_with(&program, &[(field, 1)]), Stop::Exit(Some(Value { bits: 0, .. }))));
}

/// Adds what the map has under the key 1 to the bytes `at` of its value, and reads there.
fn lookup_program(kind: MapType, at: i32) -> Program {
    let key = [store_imm(BPF_W, FP, -4, 1), mov_reg(R2, FP), alu(BPF_ADD, R2, -4)];
    let rest = [
        call(HelperId::MapLookupElem),
        jump(BPF_JEQ, R0, 0, 4),
        load(BPF_W, R1, R0, 0),
        alu_reg(BPF_ADD, R0, R1),
        load(BPF_W, R0, R0, at as i16),
        EXIT,
        mov(R0, 1),
        EXIT,
    ];
    let insns = [&map_ptr(R1)[..], &key, &rest].concat();
    program_of(ProgType::SchedCls, &insns, Some(map(kind, 16, 4)))
}

#[test]
fn map_values_have_bounds() {
    let first = Origin::Memory { region: RegionKind::MapValue { map: 0, entry: 1 }, off: 0, size: 4 };
    let program = lookup_program(MapType::Array, 0);
    assert!(matches!(run_with(&program, &[(first, 12)]), Stop::Exit(_)));
    for (off, at) in [(13, 13), (0xffff_ffff, 0xffff_ffff)] {
        let found = bad(run_with(&program, &[(first, off)]));
        assert_eq!((found.off, found.bounds, found.size), (at, (0, 16), 4));
    }
    // Elements of hash tables need not be there.
    let program = lookup_program(MapType::Hash, 0);
    assert!(matches!(run_with(&program, &[]), Stop::Exit(Some(Value { bits: 1, .. }))));
    let found = Origin::Return { insn: 5, nth: 0 };
    let first = Origin::Memory { region: RegionKind::MapValue { map: 0, entry: 0 }, off: 0, size: 4 };
    assert!(matches!(run_with(&program, &[(found, 1), (first, 16)]), Stop::BadAccess(_)));
}

#[test]
fn helpers_check_their_memory() {
    // bpf_probe_read_kernel(fp - 16, R2, 0), where R2 comes from the context; then reads what was filled.
    let insns = [
        load(BPF_DW, R2, R1, 8),
        mov_reg(R1, FP),
        alu(BPF_ADD, R1, -16),
        mov(R3, 0),
        call(HelperId::ProbeReadKernelStr),
        load(BPF_H, R1, FP, -14),
        alu_reg(BPF_ADD, R0, R1),
        EXIT,
    ];
    let program = program_of(ProgType::Kprobe, &insns, None);
    let size = |bytes| (Origin::Memory { region: RegionKind::Context, off: 8, size: 8 }, bytes);
    let filled = Origin::Filled { insn: 4, nth: 0, arg: 1, off: 2, size: 2 };
    let result = Origin::Return { insn: 4, nth: 0 };
    let stop = run_with(&program, &[size(16), (filled, 5), (result, 1000)]);
    // No more than the size is returned.
    assert!(matches!(stop, Stop::Exit(Some(Value { bits: 21, .. }))), "{stop}");
    let found = bad(run_with(&program, &[size(17)]));
    assert_eq!((found.wrong, found.arg, found.off, found.size), (Wrong::OutOfBounds, Some(1), -16, 17));
    assert_eq!(bad(run_with(&program, &[size(-1i64 as u64)])).wrong, Wrong::BadSize);
}

#[test]
fn loops_call_back() {
    // Counts three callbacks, the last of which says to stop.
    let main = [
        store_imm(BPF_DW, FP, -8, 0),
        mov(R1, 10),
        Insn::new(BPF_LD | BPF_IMM | BPF_DW, R2, BPF_PSEUDO_FUNC, 0, 8),
        Insn::default(),
        mov_reg(R3, FP),
        alu(BPF_ADD, R3, -8),
        mov(R4, 0),
        call(HelperId::Loop),
        load(BPF_DW, R1, FP, -8),
        alu_reg(BPF_ADD, R0, R1),
        EXIT,
    ];
    let callback = [
        load(BPF_DW, R3, R2, 0),
        alu(BPF_ADD, R3, 100),
        store(BPF_DW, R2, 0, R3),
        mov(R0, 0),
        jump(BPF_JNE, R1, 2, 1),
        mov(R0, 1),
        EXIT,
    ];
    let insns = [&main[..], &callback].concat();
    assert_eq!(returns(&insns), 303);
    // The path is as the verifier walks it: the call comes again after each return.
    let program = program_of(ProgType::SchedCls, &insns, None);
    let once = [11, 12, 13, 14, 15, 17, 7];
    let path: Vec<u32> = [0, 1, 2, 4, 5, 6, 7].into_iter().chain(once).chain(once).collect();
    let mut zeros = Zeros;
    let mut machine = Machine::new(&program, &mut zeros);
    assert_eq!(machine.follow(&path), (path.len(), None));
    assert_eq!(machine.follow(&[8]), (0, Some(Stop::LeftPath { insn: 11 })));
}

#[test]
fn tail_calls_leave_or_go_on() {
    let tail_call = [mov(R3, 0), call(HelperId::TailCall), mov(R0, 5), EXIT];
    let insns = [&map_ptr(R2)[..], &tail_call].concat();
    let program = program_of(ProgType::SchedCls, &insns, Some(map(MapType::ProgArray, 4, 1)));
    assert!(matches!(run_with(&program, &[]), Stop::Exit(Some(Value { bits: 5, .. }))));
    let leaves = Origin::Choice { insn: 3, nth: 0 };
    assert_eq!(run_with(&program, &[(leaves, 1)]), Stop::Exit(None));
}

#[test]
fn classic_loads_swap_and_end_the_program() {
    let insns =
        [mov_reg(R6, R1), Insn::new(BPF_LD | BPF_ABS | BPF_H, 0, 0, 0, 12), alu(BPF_ADD, R0, 1), EXIT];
    let program = program_of(ProgType::SchedCls, &insns, None);
    let size = Origin::PacketSize { packet: 0 };
    let field = Origin::Memory { region: RegionKind::Packet { packet: 0 }, off: 12, size: 2 };
    let stop = run_with(&program, &[(size, 14), (field, 0x0008)]);
    assert!(matches!(stop, Stop::Exit(Some(Value { bits: 0x801, .. }))), "{stop}");
    let fails = Origin::Choice { insn: 1, nth: 0 };
    let stop = run_with(&program, &[(size, 13), (fails, 1)]);
    assert!(matches!(stop, Stop::Exit(Some(Value { bits: 0, .. }))), "{stop}");
}

#[test]
fn any_bytes_run_to_some_end() {
    let mut seed = 1u64;
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        seed >> 24
    };
    for _ in 0..20_000 {
        let insns: Vec<Insn> = (0..12)
            .map(|_| {
                let bits = next();
                // Mostly instructions that there are, so that runs get somewhere.
                let code = [0xb7, 0xbf, 0x07, 0x0f, 0x61, 0x7b, 0x15, 0x85, 0xdb, 0x95, bits as u8];
                let code = code[(next() % code.len() as u64) as usize];
                Insn::new(
                    code,
                    (bits >> 8) as u8,
                    (bits >> 12) as u8 & 0xf,
                    (bits >> 16) as i16 % 24,
                    next() as i32 % 64,
                )
            })
            .collect();
        let program = program_of(ProgType::SchedCls, &insns, Some(map(MapType::Array, 8, 1)));
        let mut search = Search::new(&program, next());
        search.run(1000);
    }
}

/// A search finds the way through comparisons that chance does not find.
#[test]
fn searches_pass_comparisons() {
    let swap = Insn::new(BPF_ALU | BPF_END | BPF_TO_BE, R2, 0, 0, 32);
    let insns = [
        load(BPF_W, R2, R1, 8),
        swap,
        jump(BPF_JNE, R2, 0x1234_5678, 4),
        load(BPF_W, R3, R1, 32),
        alu(BPF_ADD, R3, 1000),
        jump(BPF_JNE, R3, 0x7654_3210, 1),
        load(BPF_W, R0, FP, 0),
        mov(R0, 0),
        EXIT,
    ];
    let program = program_of(ProgType::SchedCls, &insns, None);
    let mut search = Search::new(&program, 1);
    let found = (0..2000).find(|_| matches!(search.run(100).0, Stop::BadAccess(_)));
    assert!(found.is_some(), "{:?}", search.executed());
}
