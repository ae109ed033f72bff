//! Whole logs of small programs of every type against the live kernel: each context field, each helper, `BPF_LD_ABS`;
//! with all capabilities, and with those that leave pointers secret.
//!
//! Needs a kernel of the emulated series and the right to load programs; says so and passes where it has neither.
//! `BPFTWIN_DIFF_FULL` set: all offsets instead of a sample.

mod live;
mod twin;

use std::sync::Arc;

use bpftwin::kernel::caps::Caps;
use bpftwin::kernel::config::KernelConfig;
use bpftwin::kernel::profile::{Profile, Series};
use bpftwin::kernel::{Kernel, KernelSettings};
use bpftwin::progs::has_prog_type;
use bpftwin_uapi::attr::{ATTR_SIZE, BPF_F_SLEEPABLE, ProgLoad};
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{AttachType, Cmd, Errno, Insn, ProgType};
use twin::Pair;

const EXIT: Insn = Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);

const fn mov(register: u8, value: i32) -> Insn {
    Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, register, 0, 0, value)
}

const fn mov_reg(to: u8, from: u8) -> Insn {
    Insn::new(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0)
}

/// Runs programs on both kernels.
struct Comparison {
    pair: Pair,
    loads: u32,
    not_emulated: u32,
    differences: u32,
}

impl Comparison {
    fn run(&mut self, prog_type: ProgType, insns: &[Insn]) {
        let attach_type = match prog_type {
            ProgType::CgroupSockAddr => AttachType::CgroupInet4Connect as u32,
            ProgType::CgroupSockopt => AttachType::CgroupGetsockopt as u32,
            ProgType::SkLookup => AttachType::SkLookup as u32,
            ProgType::Netfilter => AttachType::Netfilter as u32,
            _ => 0,
        };
        let flags = if prog_type == ProgType::Syscall { BPF_F_SLEEPABLE } else { 0 };
        self.loads += 1;
        let ours = self.emulated(prog_type, attach_type, flags, insns);
        if ours.0 == Err(Errno::EOPNOTSUPP.0) {
            self.not_emulated += 1;
            return;
        }
        let theirs = live::load_flags(prog_type, attach_type, flags, insns);
        if ours != theirs {
            self.differences += 1;
            if self.differences <= 10 {
                eprintln!("{prog_type:?}: ours {:?}\n{}kernel {:?}\n{}", ours.0, ours.1, theirs.0, theirs.1);
            }
        }
    }

    fn emulated(
        &self,
        prog_type: ProgType,
        attach_type: u32,
        flags: u32,
        insns: &[Insn],
    ) -> (Result<(), i32>, String) {
        let mut log = vec![0u8; 1 << 14];
        let mut attr: ProgLoad = bytemuck::Zeroable::zeroed();
        attr.prog_type = prog_type as u32;
        attr.expected_attach_type = attach_type;
        attr.insns = insns.as_ptr() as u64;
        attr.insn_cnt = insns.len() as u32;
        attr.license = c"GPL".as_ptr() as u64;
        attr.log_level = 2;
        attr.log_buf = log.as_mut_ptr() as u64;
        attr.log_size = log.len() as u32;
        attr.prog_flags = flags;
        let result = self.pair.emulated(Cmd::ProgLoad, &raw mut attr as u64, ATTR_SIZE as u32);
        let result = result.map_err(|errno| errno.0).map(|fd| {
            // SAFETY: the descriptor is ours alone.
            unsafe { libc::close(fd) };
        });
        let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
        (result, String::from_utf8_lossy(&log[..end]).into_owned())
    }

    fn run_all(&mut self, prog_type: ProgType, stride: usize) {
        for off in (-8..200i16).step_by(stride) {
            for (size, code) in [(1, BPF_B), (2, BPF_H), (4, BPF_W), (8, BPF_DW)] {
                self.run(prog_type, &[mov(0, 1), Insn::new(BPF_LDX | BPF_MEM | code, 0, 1, off, 0), EXIT]);
                if size < 8 {
                    self.run(
                        prog_type,
                        &[mov(0, 1), Insn::new(BPF_LDX | BPF_MEMSX | code, 2, 1, off, 0), EXIT],
                    );
                }
                self.run(prog_type, &[mov(0, 1), Insn::new(BPF_STX | BPF_MEM | code, 1, 0, off, 0), EXIT]);
                self.run(prog_type, &[mov(0, 1), Insn::new(BPF_STX | BPF_ATOMIC | code, 1, 0, off, 0), EXIT]);
                let through = Insn::new(BPF_LDX | BPF_MEM | BPF_W, 3, 2, 4, 0);
                self.run(
                    prog_type,
                    &[mov(0, 1), Insn::new(BPF_LDX | BPF_MEM | code, 2, 1, off, 0), through, EXIT],
                );
            }
        }
        for id in 0..220 {
            let call = Insn::new(BPF_JMP | BPF_CALL, 0, 0, 0, id);
            self.run(prog_type, &[mov(0, 1), call, EXIT]);
            self.run(prog_type, &[mov(2, 0), mov(3, 0), mov(4, 0), mov(5, 0), call, EXIT]);
            let to_stack = [
                mov_reg(2, 10),
                Insn::new(BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, -8),
                Insn::new(BPF_ST | BPF_MEM | BPF_DW, 10, 0, -8, 0),
                mov(3, 8),
                mov(4, 0),
                mov(5, 0),
                call,
                mov(0, 1),
                EXIT,
            ];
            self.run(prog_type, &to_stack);
        }
        for (mode, source) in [(BPF_ABS, 0), (BPF_IND, 7)] {
            for code in [BPF_B, BPF_H, BPF_W, BPF_DW] {
                let load = Insn::new(BPF_LD | mode | code, 0, source, 0, 4);
                self.run(prog_type, &[mov_reg(6, 1), mov(7, 0), load, mov(0, 1), EXIT]);
            }
        }
    }
}

fn compare(stride: usize) -> u32 {
    let mut profile = Profile::new(Series::V6_18);
    if let Some(config) = KernelConfig::of_host() {
        profile.config = config;
    }
    let settings = KernelSettings { profile, caps: Caps::Real, ..KernelSettings::default() };
    let pair = Pair { kernel: Arc::new(Kernel::new(settings)), memory: twin::memory() };
    let mut comparison = Comparison { pair, loads: 0, not_emulated: 0, differences: 0 };
    for &prog_type in ProgType::ALL {
        // The others attach to a function and are nothing without.
        let attaches = [ProgType::Tracing, ProgType::StructOps, ProgType::Ext, ProgType::Lsm];
        if has_prog_type(prog_type) && !attaches.contains(&prog_type) {
            comparison.run_all(prog_type, stride);
        }
    }
    let Comparison { loads, not_emulated, differences, .. } = comparison;
    eprintln!("{loads} programs loaded, {not_emulated} not emulated, {differences} differ");
    differences
}

#[test]
fn logs_agree_with_the_kernel() {
    if !live::can_load() {
        return;
    }
    let full = std::env::var_os("BPFTWIN_DIFF_FULL").is_some();
    assert_eq!(compare(if full { 1 } else { 4 }), 0);
}

#[test]
fn logs_with_secret_pointers_agree_with_the_kernel() {
    const NET_ADMIN: u64 = 1 << 12;
    const BPF: u64 = 1 << 39;
    if !live::can_load() {
        return;
    }
    let full = std::env::var_os("BPFTWIN_DIFF_FULL").is_some();
    live::set_effective(BPF | NET_ADMIN);
    assert_eq!(compare(if full { 1 } else { 8 }), 0);
}
