//! `syscall`, `mmap` and `open` in the place of libc's: the libbpf in here makes its system calls through them, so that
//! [`bpftwin::cli`] can answer bpf(2) itself. Part of every binary that loads objects.

use std::ffi::{c_char, c_int, c_long, c_void};

use bpftwin::cli;
use bpftwin::kernel::raw::{self, libc_result};

/// `syscall(2)`.
///
/// # Safety
/// As for the system call that is made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(number: c_long, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> c_long {
    // SAFETY: passed on as it came.
    libc_result(unsafe {
        if number == libc::SYS_bpf {
            cli::hook_bpf(a as u32, b, c as u32)
        } else {
            raw::syscall(number, [a, b, c, d, e, f])
        }
    })
}

/// `open(2)`. The mode is there where `flags` ask for it; a register that nobody set is harmless otherwise.
///
/// # Safety
/// As for open(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    // SAFETY: passed on as it came.
    libc_result(unsafe { cli::hook_open(path, flags, mode) }) as c_int
}

/// `open64`, the same where addresses have 64 bits.
///
/// # Safety
/// As for open(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn open64(path: *const c_char, flags: c_int, mode: libc::mode_t) -> c_int {
    // SAFETY: passed on as it came.
    unsafe { open(path, flags, mode) }
}

/// `mmap(2)`.
///
/// # Safety
/// As for mmap(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap(
    addr: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    off: i64,
) -> *mut c_void {
    // SAFETY: passed on as it came.
    libc_result(unsafe { cli::hook_mmap(addr as u64, len as u64, prot, flags, fd, off) }) as *mut c_void
}

/// `mmap64`, the same where addresses have 64 bits.
///
/// # Safety
/// As for mmap(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap64(
    addr: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    off: i64,
) -> *mut c_void {
    // SAFETY: passed on as it came.
    unsafe { mmap(addr, len, prot, flags, fd, off) }
}
