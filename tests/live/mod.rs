//! Loads into the live kernel, for tests that compare with it.

#![allow(dead_code)]

use bpftwin_uapi::attr::{ATTR_SIZE, BPF_F_SLEEPABLE, ProgLoad};
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Cmd, Insn, ProgType};

/// Loads into the live kernel; gives the result and the log at level 2.
pub fn load(prog_type: ProgType, attach_type: u32, insns: &[Insn]) -> (Result<(), i32>, String) {
    load_flags(
        prog_type,
        attach_type,
        if prog_type == ProgType::Syscall { BPF_F_SLEEPABLE } else { 0 },
        insns,
    )
}

/// Loads with these flags.
pub fn load_flags(
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
    // SAFETY: the attributes point to memory that outlives the call, and its size is that of 6.18's structure.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, Cmd::ProgLoad as i32, &raw mut attr, ATTR_SIZE) };
    let result = if fd < 0 {
        Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(0))
    } else {
        // SAFETY: the descriptor is ours alone.
        unsafe { libc::close(fd as i32) };
        Ok(())
    };
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    (result, String::from_utf8_lossy(&log[..end]).into_owned())
}

/// Whether the kernel is of the emulated series and lets us load; says so where not.
pub fn can_load() -> bool {
    let exit =
        [Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0), Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)];
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let able = release.starts_with("6.18.") && load(ProgType::Kprobe, 0, &exit).0.is_ok();
    if !able {
        eprintln!("SKIPPED: no right to load programs, or not a 6.18 kernel");
    }
    able
}

/// Effective capabilities of this thread.
pub fn set_effective(caps: u64) {
    #[repr(C)]
    struct Header(u32, i32);
    let mut header = Header(0x2008_0522, 0);
    let mut data = [[0u32; 3]; 2];
    // SAFETY: version 3 of the calls takes two elements; all pointers are to live objects.
    unsafe {
        assert_eq!(libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()), 0);
        data[0][0] = caps as u32 & data[0][1];
        data[1][0] = (caps >> 32) as u32 & data[1][1];
        assert_eq!(libc::syscall(libc::SYS_capset, &raw mut header, data.as_ptr()), 0);
    }
}
