//! One program with all that its load depends on, as a value that can be stored and replayed.

use std::fmt::Write;

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Insn, ProgType};

/// A program load. The `imm` of an instruction that names a map is the map's index in the table of maps.
#[derive(Clone, PartialEq, Debug)]
pub struct Case {
    pub prog_type: ProgType,
    pub attach_type: u32,
    pub prog_flags: u32,
    pub log_level: u32,
    pub log_size: u32,
    pub gpl: bool,
    /// Maps are named by their place in `fd_array`: not, so, or with the array's length given.
    pub fd_array: u32,
    pub insns: Vec<Insn>,
    /// First instruction of each function, and its index in the table of functions. Empty: no BTF.
    pub funcs: Vec<(u32, u32)>,
    /// Instruction and index in the table of source lines.
    pub lines: Vec<(u32, u32)>,
}

impl Case {
    /// Where instruction `at` jumps to or which function it names, if it does.
    pub fn target(&self, at: usize) -> Option<usize> {
        let insn = self.insns[at];
        let distance = match insn.class() {
            BPF_JMP if insn.op() == BPF_CALL => {
                if !insn.is_pseudo_call() {
                    return None;
                }
                i64::from(insn.imm)
            }
            BPF_LD if insn.is_pseudo_func() => i64::from(insn.imm),
            BPF_JMP if insn.op() == BPF_EXIT => return None,
            BPF_JMP32 if insn.op() == BPF_JA => i64::from(insn.imm),
            BPF_JMP | BPF_JMP32 => i64::from(insn.off),
            _ => return None,
        };
        usize::try_from(at as i64 + 1 + distance).ok().filter(|&target| target <= self.insns.len())
    }

    /// Lets instruction `at`, which has a target, name another one.
    pub fn set_target(&mut self, at: usize, target: usize) {
        let distance = target as i64 - at as i64 - 1;
        let insn = &mut self.insns[at];
        let long = insn.is_pseudo_call()
            || insn.is_pseudo_func()
            || insn.class() == BPF_JMP32 && insn.op() == BPF_JA;
        if long {
            insn.imm = distance as i32;
        } else {
            insn.off = distance as i16;
        }
    }

    /// The program without some of its instructions; jumps to them go to what follows them.
    pub fn without(&self, removed: &[bool]) -> Case {
        let mut new_index = Vec::with_capacity(self.insns.len() + 1);
        let mut kept = 0usize;
        for &gone in removed {
            new_index.push(kept);
            kept += usize::from(!gone);
        }
        new_index.push(kept);
        let mut case = self.clone();
        case.insns.clear();
        let mut targets = Vec::new();
        let mut second_half = false;
        for (i, &insn) in self.insns.iter().enumerate() {
            if !removed[i] {
                if let Some(target) = self.target(i).filter(|_| !second_half) {
                    targets.push((case.insns.len(), new_index[target]));
                }
                case.insns.push(insn);
            }
            second_half = !second_half && insn.is_ldimm64();
        }
        for (at, target) in targets {
            case.set_target(at, target);
        }
        let moved = |list: &[(u32, u32)]| {
            let mut list: Vec<_> = list
                .iter()
                .map(|&(at, what)| (new_index.get(at as usize).map_or(at, |&new| new as u32), what))
                .collect();
            list.dedup_by_key(|entry| entry.0);
            list
        };
        case.funcs = moved(&self.funcs);
        case.lines = moved(&self.lines);
        case
    }

    /// The case as text.
    pub fn store(&self) -> String {
        let mut text = format!(
            "type {}\nattach {}\nflags {:#x}\nlog_level {}\nlog_size {}\ngpl {}\n",
            self.prog_type as u32,
            self.attach_type,
            self.prog_flags,
            self.log_level,
            self.log_size,
            u32::from(self.gpl)
        );
        if self.fd_array != 0 {
            let _ = writeln!(text, "fd_array {}", self.fd_array);
        }
        for (at, func) in &self.funcs {
            let _ = writeln!(text, "func {at} {func}");
        }
        for (at, line) in &self.lines {
            let _ = writeln!(text, "line {at} {line}");
        }
        for insn in &self.insns {
            let _ = writeln!(text, "insn {:016x}", u64::from_le_bytes(bytemuck::cast(*insn)));
        }
        text
    }

    /// A stored case. Lines that begin with `#` are comments.
    pub fn parse(text: &str) -> Option<Case> {
        let mut case = Case {
            prog_type: ProgType::SocketFilter,
            attach_type: 0,
            prog_flags: 0,
            log_level: 2,
            log_size: 1 << 22,
            gpl: true,
            fd_array: 0,
            insns: Vec::new(),
            funcs: Vec::new(),
            lines: Vec::new(),
        };
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let mut words = line.split_whitespace();
            let (Some(name), Some(value)) = (words.next(), words.next()) else { continue };
            let number = || match value.strip_prefix("0x") {
                Some(hex) => u32::from_str_radix(hex, 16).ok(),
                None => value.parse().ok(),
            };
            match name {
                "type" => case.prog_type = ProgType::from_u32(number()?)?,
                "attach" => case.attach_type = number()?,
                "flags" => case.prog_flags = number()?,
                "log_level" => case.log_level = number()?,
                "log_size" => case.log_size = number()?,
                "gpl" => case.gpl = number()? != 0,
                "fd_array" => case.fd_array = number()?,
                "func" => case.funcs.push((number()?, words.next()?.parse().ok()?)),
                "line" => case.lines.push((number()?, words.next()?.parse().ok()?)),
                "insn" => {
                    let word = u64::from_str_radix(value, 16).ok()?;
                    case.insns.push(bytemuck::cast(word.to_le_bytes()));
                }
                _ => return None,
            }
        }
        Some(case)
    }
}
