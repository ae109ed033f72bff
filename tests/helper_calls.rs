//! Calls of helpers with all kinds of arguments, verified by the live kernel and by the emulated one: same errno, same log.
//!
//! Needs a kernel of the emulated series and the right to load programs; says so and passes where it has neither.

mod calls;
mod live;

use std::collections::BTreeMap;
use std::sync::Arc;

use bpftwin::helpers::{ProgCtx, get_helper_proto};
use bpftwin::kernel::config::KernelConfig;
use bpftwin::progs::has_prog_type;
use bpftwin::progs::maps::map_type_contains_progs;
use bpftwin::verifier::prog::Prog;
use bpftwin::verifier::reg_type::ArgType;
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Errno, HelperId, Insn, MapType, ProgType};
use calls::*;
use live::can_load;

/// The kernel is not locked down so far that `bpf_probe_write_user` is gone.
fn may_write_user() -> bool {
    let insns = [
        mov(1, 10),
        mov(2, 10),
        mov_imm(3, 0),
        call(HelperId::ProbeWriteUser as i32),
        Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
    ];
    !live::load(ProgType::Kprobe, 0, &insns).1.contains("cannot use helper")
}

/// Puts something random into register `dst`. R6: the context; R7: a value of the hash map; R8: an unknown scalar;
/// R9: where the context has one, a packet pointer. `fp[-64..-32]` is initialised.
fn random_arg(random: &mut Random, fds: &[i32], dst: u8, has_packet: bool, insns: &mut Vec<Insn>) {
    match random.below(20) {
        0 | 1 => insns.push(mov(dst, 6)),
        2 => insns.push(mov(dst, 7)),
        3 => {
            insns.push(mov(dst, 7));
            insns.push(add_imm(dst, [4, 40, 64][random.below(3)]));
        }
        4 => insns.push(mov(dst, 8)),
        5 | 6 => {
            insns.push(mov(dst, 8));
            insns.push(Insn::new(BPF_ALU64 | BPF_AND | BPF_K, dst, 0, 0, [7, 31, 63, 511][random.below(4)]));
        }
        7..=9 => {
            insns.push(mov(dst, 10));
            insns.push(add_imm(dst, [-64, -40, -32, -8, -512, -61][random.below(6)]));
        }
        10..=12 => insns.push(mov_imm(dst, [0, 1, 4, 8, 16, 24, 32, 64, -1, 100][random.below(10)])),
        13..=16 => insns.extend(ld_map(dst, fds[random.below(fds.len())])),
        17 if has_packet => insns.push(mov(dst, 9)),
        18 if has_packet => {
            insns.push(mov(dst, 9));
            insns.push(add_imm(dst, 4));
        }
        19 => {}
        _ => insns.push(mov_imm(dst, 0)),
    }
}

/// Puts something into register `dst` that has a good chance to be what the argument asks for.
fn fitting_arg(random: &mut Random, fds: &[i32], arg_type: ArgType, dst: u8, insns: &mut Vec<Insn>) {
    match arg_type.base() {
        ArgType::ARG_DONTCARE => {}
        ArgType::ARG_CONST_MAP_PTR => insns.extend(ld_map(dst, fds[random.below(3 * fds.len()) % fds.len()])),
        ArgType::ARG_PTR_TO_CTX => insns.push(mov(dst, 6)),
        ArgType::ARG_CONST_SIZE | ArgType::ARG_CONST_SIZE_OR_ZERO => match random.below(3) {
            0 => insns.push(mov_imm(dst, [0, 4, 8, 16, 24, 32][random.below(6)])),
            1 => {
                insns.push(mov(dst, 8));
                insns.push(Insn::new(BPF_ALU64 | BPF_AND | BPF_K, dst, 0, 0, [7, 15, 31][random.below(3)]));
            }
            _ => {
                insns.push(mov(dst, 8));
                insns.push(Insn::new(BPF_ALU64 | BPF_AND | BPF_K, dst, 0, 0, 15));
                insns.push(add_imm(dst, 1));
            }
        },
        ArgType::ARG_CONST_ALLOC_SIZE_OR_ZERO => insns.push(mov_imm(dst, 8 * random.below(4) as i32)),
        ArgType::ARG_PTR_TO_MEM
        | ArgType::ARG_PTR_TO_MAP_KEY
        | ArgType::ARG_PTR_TO_MAP_VALUE
        | ArgType::ARG_PTR_TO_STACK => match random.below(4) {
            0 => insns.push(mov(dst, 7)),
            1 if arg_type.may_be_null() => insns.push(mov_imm(dst, 0)),
            2 => {
                insns.push(mov(dst, 10));
                insns.push(add_imm(dst, [-104, -96, -80][random.below(3)]));
            }
            _ => {
                insns.push(mov(dst, 10));
                insns.push(add_imm(dst, [-64, -48, -40][random.below(3)]));
            }
        },
        _ => match random.below(3) {
            0 => insns.push(mov_imm(dst, 0)),
            1 => insns.push(mov_imm(dst, 1)),
            _ => insns.push(mov(dst, 8)),
        },
    }
}

fn has_packet(prog_type: ProgType) -> bool {
    matches!(
        prog_type,
        ProgType::SchedCls
            | ProgType::SchedAct
            | ProgType::Xdp
            | ProgType::LwtIn
            | ProgType::LwtXmit
            | ProgType::SkSkb
            | ProgType::CgroupSkb
    )
}

/// A value of the hash map into R7, an unknown scalar into R8, a packet pointer into R9; then a random call or two, and
/// a use of the result.
fn random_program(random: &mut Random, prog_type: ProgType, fds: &[i32]) -> Vec<Insn> {
    let mut insns = vec![mov(6, 1)];
    for i in 0..4 {
        insns.push(Insn::new(BPF_ST | BPF_DW | BPF_MEM, 10, 0, -64 + 8 * i, i32::from(i)));
    }
    let packet = has_packet(prog_type);
    if packet {
        let (data, end) = if prog_type == ProgType::Xdp { (0, 4) } else { (76, 80) };
        insns.push(ldx(BPF_W, 9, 6, data));
        insns.push(ldx(BPF_W, 2, 6, end));
        insns.push(mov(3, 9));
        insns.push(add_imm(3, 16));
        insns.push(Insn::new(BPF_JMP | BPF_JLE | BPF_X, 3, 2, 2, 0));
        insns.push(mov_imm(0, 0));
        insns.push(Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
    }
    insns.extend(ld_map(1, fds[0]));
    insns.push(mov(2, 10));
    insns.push(add_imm(2, -64));
    insns.push(call(HelperId::MapLookupElem as i32));
    insns.push(Insn::new(BPF_JMP | BPF_JNE | BPF_K, 0, 0, 2, 0));
    insns.push(mov_imm(0, 0));
    insns.push(Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
    insns.push(mov(7, 0));
    insns.push(ldx(BPF_DW, 8, 7, 0));
    for _ in 0..1 + random.below(2) {
        let prog = Prog { bpf_capable: true, perfmon_capable: true, ..Prog::new(prog_type, Vec::new()) };
        let (mut func, mut proto) = (0, Err(Errno::EINVAL));
        // Mostly helpers that the program may call.
        for _ in 0..8 {
            func = random.below(HelperId::ALL.len() + 1) as i32;
            proto = get_helper_proto(func, &ProgCtx::of(&prog));
            if proto.is_ok() {
                break;
            }
        }
        for regno in 1..=5 {
            match proto {
                Ok((_, proto)) if random.below(20) != 0 => {
                    fitting_arg(random, fds, proto.arg_type[regno as usize - 1], regno, &mut insns);
                }
                _ => random_arg(random, fds, regno, packet, &mut insns),
            }
        }
        insns.push(call(func));
        match random.below(8) {
            0 => insns.push(mov(8, 0)),
            1 => {
                insns.push(Insn::new(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1, 0));
                insns.push(ldx(BPF_DW, 1, 0, 0));
            }
            2 => {
                insns.push(mov(1, 0));
                let release = [HelperId::SkRelease, HelperId::RingbufDiscard, HelperId::RingbufSubmit];
                insns.push(mov_imm(2, 0));
                insns.push(Insn::new(BPF_JMP | BPF_JEQ | BPF_K, 1, 0, 1, 0));
                insns.push(call(release[random.below(3)] as i32));
            }
            _ => {}
        }
    }
    insns.push(mov_imm(0, 0));
    insns.push(Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0));
    insns
}

#[test]
fn random_calls_agree_with_the_kernel() {
    if !can_load() {
        return;
    }
    let count = std::env::var("HELPER_CALLS").ok().and_then(|n| n.parse().ok()).unwrap_or(3_000);
    let seed = std::env::var("HELPER_CALLS_SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(1u64);
    let kinds = [
        (MapType::Hash, 8, 48, 8),
        (MapType::Array, 4, 48, 8),
        (MapType::PercpuArray, 4, 32, 4),
        (MapType::ProgArray, 4, 4, 8),
        (MapType::PerfEventArray, 4, 4, 2),
        (MapType::StackTrace, 4, 800, 8),
        (MapType::CgroupArray, 4, 4, 1),
        (MapType::Devmap, 4, 4, 4),
        (MapType::Cpumap, 4, 4, 2),
        (MapType::Xskmap, 4, 4, 4),
        (MapType::Sockmap, 4, 4, 4),
        (MapType::Sockhash, 8, 4, 4),
        (MapType::Queue, 0, 16, 4),
        (MapType::BloomFilter, 0, 8, 4),
        (MapType::Ringbuf, 0, 0, 4096),
        (MapType::UserRingbuf, 0, 0, 4096),
        (MapType::ReuseportSockarray, 4, 8, 4),
    ];
    let mut fds = Vec::new();
    let mut maps = BTreeMap::new();
    for (map_type, key_size, value_size, max_entries) in kinds {
        if let Some((fd, map)) = create(map_type, key_size, value_size, max_entries) {
            fds.push(fd);
            maps.insert(fd, Arc::new(map));
        }
    }
    let shared: Vec<i32> = maps
        .values()
        .filter(|map| map_type_contains_progs(map.map_type))
        .map(|map| map.identity as i32)
        .collect();
    let world = Arc::new(World { maps, ..World::default() });
    let mut config = KernelConfig::of_host().unwrap_or_default();
    // Only the kernel itself tells where securityfs is not mounted.
    config.lockdown_bpf_write_user |= !may_write_user();
    let config = Arc::new(config);
    let types: Vec<ProgType> = ProgType::ALL
        .iter()
        .copied()
        .filter(|&prog_type| {
            let needs_target =
                matches!(prog_type, ProgType::Tracing | ProgType::Lsm | ProgType::Ext | ProgType::StructOps);
            has_prog_type(prog_type) && !needs_target
        })
        .collect();
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let (mut accepted, mut skipped, mut failures) = (0, BTreeMap::<String, u32>::new(), 0);
    for n in 0..count {
        let prog_type = types[random.below(types.len())];
        let insns = random_program(&mut random, prog_type, &fds);
        let answers = load(&world, &config, attributes(prog_type), &insns);
        if let Some(what) = answers.not_emulated {
            *skipped.entry(what).or_default() += 1;
            continue;
        }
        accepted += u32::from(answers.kernel.0 == 0);
        // After verification the kernel refuses maps of programs that another type of program claimed first.
        let claimed = |insn: &Insn| insn.is_ldimm64() && shared.contains(&insn.imm);
        let refused_later = answers.kernel.0 == libc::EINVAL
            && answers.emulated.0 == 0
            && answers.kernel.1 == answers.emulated.1
            && insns.iter().any(claimed);
        if answers.kernel != answers.emulated && !refused_later {
            failures += 1;
            if failures <= 5 {
                eprintln!(
                    "=== {n} {prog_type:?}\n--- kernel: {}\n{}\n--- emulated: {}\n{}",
                    answers.kernel.0, answers.kernel.1, answers.emulated.0, answers.emulated.1
                );
            }
        }
    }
    eprintln!("{count} programs, {accepted} accepted, {failures} differ, not emulated: {skipped:?}");
    assert_eq!(failures, 0);
}
