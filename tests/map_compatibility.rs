//! Which program types may use which map types, against the live kernel.
//!
//! Needs a kernel of the emulated series and the right to load programs; says so and passes where it has neither.

mod live;

use std::sync::Arc;

use bpftwin::maps::owner::MapOwner;
use bpftwin::progs::has_prog_type;
use bpftwin::progs::maps::{MapRefusal, check_map_prog_compatibility, map_type_contains_progs};
use bpftwin::progs::rules::can_be_sleepable;
use bpftwin::syscall::prog_load::attach::fixup_attach_type;
use bpftwin::verifier::prog::{MapContents, Prog, VerifierMap};
use bpftwin_uapi::attr::{ATTR_SIZE, BPF_F_SLEEPABLE, MapCreate};
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{AttachType, Cmd, Errno, Insn, MapType, ProgType};
use live::{can_load, load_flags};

struct Nothing;

impl MapContents for Nothing {
    fn frozen(&self) -> bool {
        false
    }

    fn read_value(&self, _off: u32, _buf: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::ENOTSUPP)
    }
}

#[test]
fn map_types_agree_with_the_kernel() {
    if !can_load() {
        return;
    }
    let mut loads = 0;
    for &map_type in MapType::ALL {
        let Some(fd) = create(map_type) else {
            continue;
        };
        let mut owner: Option<MapOwner> = None;
        for &prog_type in ProgType::ALL {
            if !has_prog_type(prog_type) || prog_type == ProgType::Ext {
                continue;
            }
            let attach_type = match prog_type {
                ProgType::CgroupSockAddr => AttachType::CgroupInet4Connect as u32,
                ProgType::CgroupSockopt => AttachType::CgroupGetsockopt as u32,
                ProgType::SkLookup => AttachType::SkLookup as u32,
                ProgType::Netfilter => AttachType::Netfilter as u32,
                _ => fixup_attach_type(Some(prog_type), 0),
            };
            let mut prog = Prog::new(prog_type, Vec::new());
            prog.expected_attach_type = attach_type;
            for flags in [0, BPF_F_SLEEPABLE] {
                prog.sleepable = flags != 0;
                let syscall = prog_type == ProgType::Syscall;
                if syscall != prog.sleepable && (syscall || !can_be_sleepable(&prog)) || attaches(prog_type) {
                    continue;
                }
                loads += 1;
                let insns = [
                    Insn::new(BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_FD, 0, fd),
                    Insn::default(),
                    Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1),
                    Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
                ];
                let (result, log) = load_flags(prog_type, attach_type, flags, &insns);
                match check_map_prog_compatibility(&mut prog.clone(), &view(map_type)) {
                    Ok(()) => {
                        // The first program to use it binds a map of programs.
                        let this = MapOwner::of(&prog);
                        let admitted = !map_type_contains_progs(map_type)
                            || owner.get_or_insert_with(|| this.clone()).accepts(&this, map_type);
                        let expected = if admitted { Ok(()) } else { Err(libc::EINVAL) };
                        assert_eq!(result, expected, "{map_type:?} {prog_type:?}: {log}");
                    }
                    Err(MapRefusal::Refused(message, errno)) => {
                        assert_eq!(result, Err(errno.0), "{map_type:?} {prog_type:?}: {log}");
                        assert!(log.contains(&format!("{message}\n")), "{map_type:?} {prog_type:?}: {log}");
                    }
                    Err(MapRefusal::NotEmulated(_)) => {}
                }
            }
        }
        // SAFETY: the descriptor is ours alone.
        unsafe { libc::close(fd) };
    }
    eprintln!("{loads} programs loaded");
}

/// Types that need something to attach to.
fn attaches(prog_type: ProgType) -> bool {
    matches!(prog_type, ProgType::Tracing | ProgType::Lsm | ProgType::StructOps)
}

fn create(map_type: MapType) -> Option<i32> {
    [(4, 4, 4), (0, 0, 4096), (0, 4, 4), (8, 8, 0), (16, 4, 0)].into_iter().find_map(
        |(key, value, entries)| {
            let mut attr: MapCreate = bytemuck::Zeroable::zeroed();
            attr.map_type = map_type as u32;
            attr.key_size = key;
            attr.value_size = value;
            attr.max_entries = entries;
            // SAFETY: the attributes are a live object of the kernel's size for the command, zero-padded.
            let fd = unsafe {
                let mut bytes = [0u8; ATTR_SIZE];
                let part = bytemuck::bytes_of(&attr);
                bytes[..part.len()].copy_from_slice(part);
                libc::syscall(libc::SYS_bpf, Cmd::MapCreate as i32, bytes.as_mut_ptr(), ATTR_SIZE)
            };
            (fd >= 0).then_some(fd as i32)
        },
    )
}

fn view(map_type: MapType) -> VerifierMap {
    VerifierMap {
        identity: 1,
        map_type,
        key_size: 4,
        value_size: 4,
        max_entries: 4,
        map_flags: 0,
        map_extra: 0,
        name: String::new(),
        record: None,
        btf: None,
        btf_value_type_id: 0,
        inner_map_meta: None,
        offloaded: false,
        excl_prog_sha: None,
        contents: Arc::new(Nothing),
    }
}
