//! Tests that run themselves again under the preload library, and what they share.

#![allow(dead_code, reason = "each test uses its part")]

use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Output};

use bpftwin_uapi::attr::{GetId, MapCreate, MapElem, ProgLoad};
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Cmd, Insn, MapType, ProgType};
use bytemuck::{Pod, Zeroable};

/// Set in the process that runs under the preload library.
const CLIENT: &str = "BPFTWIN_TEST_CLIENT";

/// Where the build left something: named by a variable, or beside the test's own folder.
pub fn built(variable: &str, name: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(variable) {
        return Some(PathBuf::from(path));
    }
    let deps = std::env::current_exe().ok()?;
    let profile = deps.parent()?.parent()?;
    Some(profile.join(name)).filter(|path| path.exists())
}

/// The preload library, or a visible skip.
pub fn shim() -> Option<PathBuf> {
    let shim = built("BPFTWIN_TEST_SHIM", "libbpftwin_shim.so");
    if shim.is_none() {
        eprintln!("SKIPPED: no preload library here; build the whole workspace first");
    }
    shim
}

/// Makes every bpf(2) of the command kill it.
pub fn forbid_bpf(command: &mut Command) {
    let forbid = || {
        let load_number = libc::sock_filter { code: 0x20, jt: 0, jf: 0, k: 0 };
        let is_bpf = libc::sock_filter { code: 0x15, jt: 0, jf: 1, k: libc::SYS_bpf as u32 };
        let kill = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_KILL_PROCESS };
        let allow = libc::sock_filter { code: 0x06, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };
        let mut filter = [load_number, is_bpf, kill, allow];
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: both calls take integers and a program that lives.
        let done = unsafe {
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
                && libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) == 0
        };
        if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
    };
    // SAFETY: the closure makes system calls only.
    unsafe { command.pre_exec(forbid) };
}

/// Runs `body` in a process of its own under the preload library, where bpf(2) of the host is deadly. `test` is the
/// full name of the calling test.
pub fn under_shim(test: &str, variables: &[(&str, &str)], body: impl FnOnce()) {
    if std::env::var_os(CLIENT).is_some() {
        return body();
    }
    let Some(shim) = shim() else { return };
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(CLIENT, "1").env("LD_PRELOAD", shim);
    command.env_remove("BPFTWIN_MODE").env_remove("BPFTWIN_LOG");
    command.envs(variables.iter().copied());
    forbid_bpf(&mut command);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("1 passed"), "no such test: {}", text(&output));
}

/// All that a command printed.
pub fn text(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// bpf(2) through libc: the error is the errno.
pub fn bpf_raw(cmd: Cmd, attr: u64, size: usize) -> Result<i32, i32> {
    // SAFETY: the preload library checks every address.
    let result = unsafe { libc::syscall(libc::SYS_bpf, cmd as libc::c_long, attr, size) };
    if result < 0 { Err(std::io::Error::last_os_error().raw_os_error().unwrap()) } else { Ok(result as i32) }
}

/// bpf(2) with attributes that exist.
pub fn bpf<T: Pod>(cmd: Cmd, attr: &mut T) -> Result<i32, i32> {
    bpf_raw(cmd, (attr as *mut T) as u64, size_of::<T>())
}

/// A map of four 4-byte keys and 8-byte values.
pub fn map_create(map_type: MapType, flags: u32) -> Result<i32, i32> {
    let mut attr = MapCreate {
        map_type: map_type as u32,
        key_size: 4,
        value_size: 8,
        max_entries: 4,
        map_flags: flags,
        ..MapCreate::zeroed()
    };
    attr.map_name[..4].copy_from_slice(b"test");
    bpf(Cmd::MapCreate, &mut attr)
}

pub fn update(fd: i32, key: u32, value: u64) -> Result<i32, i32> {
    let mut attr = MapElem {
        map_fd: fd as u32,
        key: &raw const key as u64,
        value: &raw const value as u64,
        ..MapElem::zeroed()
    };
    bpf(Cmd::MapUpdateElem, &mut attr)
}

pub fn lookup(fd: i32, key: u32) -> Result<u64, i32> {
    let mut value = 0u64;
    let mut attr = MapElem {
        map_fd: fd as u32,
        key: &raw const key as u64,
        value: &raw mut value as u64,
        ..MapElem::zeroed()
    };
    bpf(Cmd::MapLookupElem, &mut attr).map(|_| value)
}

pub fn fd_by_id(cmd: Cmd, id: u32) -> Result<i32, i32> {
    bpf(cmd, &mut GetId { id, ..GetId::zeroed() })
}

/// Loads a socket filter; the log, where one is wanted, is put into `log`.
pub fn prog_load(insns: &[Insn], log: &mut Vec<u8>) -> Result<i32, i32> {
    let mut attr = ProgLoad {
        prog_type: ProgType::SocketFilter as u32,
        insn_cnt: insns.len() as u32,
        insns: insns.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..ProgLoad::zeroed()
    };
    if !log.is_empty() {
        (attr.log_level, attr.log_buf, attr.log_size) = (1, log.as_mut_ptr() as u64, log.len() as u32);
    }
    bpf(Cmd::ProgLoad, &mut attr)
}

/// `r0 = 0; exit`
pub fn trivial() -> [Insn; 2] {
    [Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0), Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)]
}

pub fn close(fd: i32) {
    // SAFETY: closes a number.
    unsafe { libc::close(fd) };
}
