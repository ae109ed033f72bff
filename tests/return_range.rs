//! Return values of every program type and attach type against the live kernel.
//!
//! Needs a kernel of the emulated series and the right to load programs; says so and passes where it has neither.

mod live;

use bpftwin::progs::{ReturnRange, has_prog_type, return_range};
use bpftwin::syscall::prog_load::attach::{AttachTarget, check_attach, fixup_attach_type};
use bpftwin::verifier::prog::Prog;
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{AttachType, HelperId, Insn, ProgType};
use live::{can_load, load};

#[test]
fn return_ranges_agree_with_the_kernel() {
    if !can_load() {
        return;
    }
    let mut loads = 0;
    for &prog_type in ProgType::ALL {
        if !has_prog_type(prog_type) {
            continue;
        }
        let attach_types = AttachType::ALL.iter().map(|&attach_type| attach_type as u32);
        for attach_type in attach_types.map(|given| fixup_attach_type(Some(prog_type), given)) {
            if check_attach(Some(prog_type), attach_type, AttachTarget::default()).is_err() {
                continue;
            }
            let mut prog = Prog::new(prog_type, Vec::new());
            prog.expected_attach_type = attach_type;
            let (min, max) = match return_range(&prog) {
                ReturnRange::Any => (i32::MIN, i32::MAX),
                ReturnRange::Within(min, max) | ReturnRange::WithinEnforcing { min, max, .. } => (min, max),
                // Refused before they return, without something to attach to.
                ReturnRange::Unsupported | ReturnRange::AttachFunction => continue,
            };
            if prog_type == ProgType::Tracing {
                continue;
            }
            for value in -2..6 {
                let insns = [Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, value), EXIT];
                loads += 1;
                compare(prog_type, attach_type, &insns, (min..=max).contains(&value));
            }
            let call = Insn::new(BPF_JMP | BPF_CALL, 0, 0, 0, HelperId::KtimeGetNs as i32);
            compare(prog_type, attach_type, &[call, EXIT], (min, max) == (i32::MIN, i32::MAX));
        }
    }
    eprintln!("{loads} programs loaded");
}

const EXIT: Insn = Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);

fn compare(prog_type: ProgType, attach_type: u32, insns: &[Insn], allowed: bool) {
    let (result, log) = load(prog_type, attach_type, insns);
    if result == Err(libc::EPERM) && prog_type == ProgType::Ext {
        return; // kept out by the host's policy
    }
    let refused = log.contains("At program exit the register R0 has ");
    assert!(refused || result.is_ok(), "{prog_type:?}/{attach_type}: {result:?} {log}");
    assert_eq!(allowed, !refused, "{prog_type:?}/{attach_type}: {log}");
}
