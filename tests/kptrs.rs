//! Random programs that load, store and exchange pointers to kernel objects in a map's value, through our verifier and the
//! live kernel: same verdict, same log at level 2.
//!
//! Needs a kernel of the emulated series and the right to load programs; says so and passes where it has neither.
//! `BPFTWIN_TEST_PROGRAMS` and `BPFTWIN_TEST_SEED` set the number of programs and where they start.

mod live;

use std::sync::Arc;

use bpftwin::kernel::config::KernelConfig;
use bpftwin::kernel::host::{Host, HostObjects, bpf};
use bpftwin::syscall::divergence::first_difference;
use bpftwin::syscall::prog_load::{Loader, prepare};
use bpftwin::verifier::bpf_check;
use bpftwin::verifier::input::CheckInput;
use bpftwin::verifier::log::VecSink;
use bpftwin_uapi::attr::{BtfLoad, MapCreate, ProgLoad};
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Cmd, Errno, HelperId, Insn, MapType, ProgType};

const LOG_SIZE: usize = 1 << 18;
/// Type ids of [`map_btf`].
const KEY_TYPE: u32 = 2;
const VALUE_TYPE: u32 = 16;
const VALUE_SIZE: u32 = 48;

/// BTF of a map whose value holds, eight bytes each: an unreferenced and a referenced pointer to a structure of the kernel's
/// tests, the same to a task, a referenced pointer to a control group, and a number.
fn map_btf() -> Vec<u8> {
    const INT: u32 = 1;
    const PTR: u32 = 2;
    const STRUCT: u32 = 4;
    const TYPE_TAG: u32 = 18;
    let mut strings = vec![0u8];
    let mut types: Vec<u32> = Vec::new();
    let mut name = |text: &str| {
        let at = strings.len() as u32;
        strings.extend_from_slice(text.as_bytes());
        strings.push(0);
        at
    };
    types.extend([name("u64"), INT << 24, 8, 64]);
    types.extend([name("u32"), INT << 24, 4, 32]);
    for object in ["prog_test_ref_kfunc", "task_struct", "cgroup"] {
        types.extend([name(object), STRUCT << 24, 0]);
    }
    let pointers = [("kptr_untrusted", 3), ("kptr", 3), ("kptr_untrusted", 4), ("kptr", 4), ("kptr", 5)];
    for (i, (tag, object)) in pointers.into_iter().enumerate() {
        types.extend([name(tag), TYPE_TAG << 24, object]);
        types.extend([0, PTR << 24, 6 + 2 * i as u32]);
    }
    types.extend([name("value"), STRUCT << 24 | 6, VALUE_SIZE]);
    for (i, member) in [7, 9, 11, 13, 15, 1].into_iter().enumerate() {
        types.extend([name(&format!("m{i}")), member, 64 * i as u32]);
    }
    let type_len = 4 * types.len() as u32;
    let header = [0x0001_eb9f, 24, 0, type_len, type_len, strings.len() as u32];
    let mut btf: Vec<u8> = header.iter().chain(&types).flat_map(|word| word.to_ne_bytes()).collect();
    btf.extend_from_slice(&strings);
    btf
}

/// A map of such values in the live kernel; `None` where that lacks the structures.
fn create_map() -> Option<i32> {
    let btf = map_btf();
    let mut load: BtfLoad = bytemuck::Zeroable::zeroed();
    load.btf = btf.as_ptr() as u64;
    load.btf_size = btf.len() as u32;
    // SAFETY: the BTF is live and of the size that is given.
    let btf_fd = unsafe { bpf(Cmd::BtfLoad, &mut load) }.expect("BTF loads");
    let mut create: MapCreate = bytemuck::Zeroable::zeroed();
    create.map_type = MapType::Array as u32;
    create.key_size = 4;
    create.value_size = VALUE_SIZE;
    create.max_entries = 1;
    create.btf_fd = btf_fd as u32;
    create.btf_key_type_id = KEY_TYPE;
    create.btf_value_type_id = VALUE_TYPE;
    // SAFETY: the attributes hold no addresses.
    unsafe { bpf(Cmd::MapCreate, &mut create) }.ok().map(|fd| fd as i32)
}

struct Generator<'a> {
    random: &'a mut dyn FnMut(usize) -> usize,
    insns: Vec<Insn>,
}

impl Generator<'_> {
    fn below(&mut self, n: usize) -> usize {
        (self.random)(n)
    }

    fn push(&mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) {
        self.insns.push(Insn::new(code, dst, src, off, imm));
    }

    fn mov(&mut self, dst: u8, src: u8) {
        self.push(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0);
    }

    fn add(&mut self, dst: u8, imm: i32) {
        self.push(BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, imm);
    }

    fn call(&mut self, helper: HelperId) {
        self.push(BPF_JMP | BPF_CALL, 0, 0, 0, helper as i32);
    }

    /// Ends the program unless the register is not null.
    fn null_check(&mut self, reg: u8) {
        self.push(BPF_JMP | BPF_JNE | BPF_K, reg, 0, 2, 0);
        self.push(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
        self.push(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    }

    fn any_pointer(&mut self) -> u8 {
        7 + self.below(3) as u8
    }

    fn field(&mut self) -> i16 {
        let odd = if self.below(25) == 0 { 1 + self.below(8) as i16 } else { 0 };
        8 * self.below(6) as i16 + odd
    }

    fn size(&mut self) -> u8 {
        if self.below(30) == 0 { BPF_W } else { BPF_DW }
    }

    fn xchg(&mut self, field: i16, new: Option<u8>, old: u8) {
        self.mov(1, 6);
        self.add(1, field.into());
        match new {
            Some(new) => self.mov(2, new),
            None => self.push(BPF_ALU64 | BPF_MOV | BPF_K, 2, 0, 0, 0),
        }
        self.call(HelperId::KptrXchg);
        self.mov(old, 0);
    }

    /// One step; registers 7 to 9 hold pointers or zero, register 6 the map's value.
    fn step(&mut self) {
        let (reg, field) = (self.any_pointer(), self.field());
        match self.below(20) {
            0..=4 => {
                let size = self.size();
                self.push(BPF_LDX | BPF_MEM | size, reg, 6, field, 0);
            }
            5..=6 => {
                let size = self.size();
                self.push(BPF_STX | BPF_MEM | size, 6, reg, field, 0);
            }
            7 => {
                let imm = i32::from(self.below(4) == 0);
                self.push(BPF_ST | BPF_MEM | BPF_DW, 6, 0, field, imm);
            }
            8..=10 => self.null_check(reg),
            11..=12 => {
                let at = 8 * self.below(12) as i16;
                self.push(BPF_LDX | BPF_MEM | BPF_DW, 1, reg, at, 0);
            }
            13 => {
                self.call(HelperId::GetCurrentTaskBtf);
                self.mov(reg, 0);
            }
            // Out, and back again where there was something.
            14..=16 => {
                let field = [8, 24, 32][self.below(3)];
                self.xchg(field, None, reg);
                self.null_check(reg);
                let to = if self.below(8) == 0 { self.field() } else { field };
                self.xchg(to, Some(reg), 0);
            }
            17 => {
                let new = self.any_pointer();
                self.xchg(field, Some(new), reg);
            }
            18 => {
                let register = [6, reg][self.below(2)];
                let by = [8, -8, 4, 0][self.below(4)];
                self.add(register, by);
            }
            _ => {
                self.push(BPF_LDX | BPF_MEM | BPF_DW, 1, 6, 40, 0);
                self.push(BPF_ALU64 | BPF_AND | BPF_K, 1, 0, 0, 7);
                let register = [6, reg][self.below(2)];
                self.push(BPF_ALU64 | BPF_ADD | BPF_X, register, 1, 0, 0);
            }
        }
    }
}

fn generate(random: &mut dyn FnMut(usize) -> usize, map: i32) -> Vec<Insn> {
    let mut generator = Generator { random, insns: Vec::new() };
    generator.push(BPF_ST | BPF_MEM | BPF_W, 10, 0, -4, 0);
    generator.mov(2, 10);
    generator.add(2, -4);
    generator.push(BPF_LD | BPF_DW | BPF_IMM, 1, 1, 0, map);
    generator.push(0, 0, 0, 0, 0);
    generator.call(HelperId::MapLookupElem);
    generator.null_check(0);
    generator.mov(6, 0);
    for reg in 7..=9 {
        generator.push(BPF_ALU64 | BPF_MOV | BPF_K, reg, 0, 0, 0);
    }
    for _ in 0..1 + generator.below(7) {
        generator.step();
    }
    generator.push(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
    generator.push(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
    generator.insns
}

fn kernel_answer(mut load: ProgLoad) -> (Result<(), Errno>, String) {
    let mut log = vec![0u8; LOG_SIZE];
    load.log_buf = log.as_mut_ptr() as u64;
    // SAFETY: all that the attributes name is live.
    let result = unsafe { bpf(Cmd::ProgLoad, &mut load) };
    if let Ok(fd) = result {
        // SAFETY: the descriptor is ours alone.
        unsafe { libc::close(fd as i32) };
    }
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    (result.map(|_| ()), String::from_utf8_lossy(&log[..end]).into_owned())
}

fn our_answer(mut load: ProgLoad, loader: &Loader) -> Result<(Result<(), Errno>, String), String> {
    let sink = VecSink::default();
    load.log_buf = 8;
    let prog = prepare(&load, loader).map_err(|refusal| format!("refused: {}", refusal.errno))?;
    let outcome = bpf_check(CheckInput {
        prog,
        attr: load,
        objects: Arc::clone(&loader.objects),
        btf_vmlinux: loader.btf_vmlinux.clone(),
        log_sink: Some(Box::new(sink.clone())),
        bcf: None,
    });
    match outcome.not_emulated {
        Some(what) => Err(what),
        None => Ok((outcome.result, sink.text())),
    }
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

#[test]
fn same_answers_as_the_live_kernel() {
    if !live::can_load() {
        return;
    }
    let host = Arc::new(Host::default());
    let (Some(map), Some(vmlinux)) = (create_map(), host.vmlinux()) else {
        eprintln!("SKIPPED: the live kernel has no BTF, or not the structures");
        return;
    };
    let loader = Loader {
        cap_bpf: true,
        cap_perfmon: true,
        cap_net_admin: true,
        cap_sys_admin: true,
        unprivileged_bpf_disabled: true,
        objects: Arc::new(HostObjects { host }),
        btf_vmlinux: Some(vmlinux),
        config: Arc::new(KernelConfig::of_host().unwrap_or_default()),
    };
    let mut state = variable("BPFTWIN_TEST_SEED", 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |n: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16) as usize % n
    };
    let (mut accepted, mut failures) = (0, Vec::new());
    let programs = variable("BPFTWIN_TEST_PROGRAMS", 2000);
    for n in 0..programs {
        let insns = generate(&mut random, map);
        let load = ProgLoad {
            prog_type: ProgType::Kprobe as u32,
            insns: insns.as_ptr() as u64,
            insn_cnt: insns.len() as u32,
            license: c"GPL".as_ptr() as u64,
            log_level: 2,
            log_size: LOG_SIZE as u32,
            ..bytemuck::Zeroable::zeroed()
        };
        let (result, log) = kernel_answer(load);
        accepted += u64::from(result.is_ok());
        match our_answer(load, &loader) {
            Ok((ours, our_log)) => {
                let difference = first_difference(&our_log, &log);
                if ours != result || difference.is_some() {
                    let difference = difference.map(|difference| difference.to_string()).unwrap_or_default();
                    failures.push(format!("program {n}: ours {ours:?}, kernel {result:?}\n{difference}"));
                }
            }
            Err(what) => failures.push(format!("program {n}: {what}, kernel {result:?}\n{log}")),
        }
    }
    println!("{programs} programs, {accepted} accepted");
    assert!(
        failures.is_empty(),
        "{} differ\n{}",
        failures.len(),
        failures[..failures.len().min(5)].join("\n")
    );
    assert!(accepted * 10 > programs, "only {accepted} of {programs} accepted");
}
