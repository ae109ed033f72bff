//! Preload library: catches the libc entry points through which a program reaches bpf(2), and those by which it learns
//! of the kernel from files. What they answer is decided in `bpftwin::kernel::session`; here is only the C side.
//!
//! The functions are declared with the fixed arguments of their variadic prototypes, which the calling conventions of
//! Linux pass alike. Everything that does not concern BPF goes on to the next definition in line, usually libc's.

mod files;
mod hidden;
mod next;

use std::ffi::{c_int, c_long, c_void};

use bpftwin::kernel::raw::{self, libc_result};
use bpftwin::kernel::session;

/// `syscall(2)`.
///
/// # Safety
/// As for the system call that is made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(number: c_long, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> c_long {
    let result = if number == libc::SYS_bpf {
        session::bpf(a as u32, b, c as u32)
    } else {
        // SAFETY: passed on as it came.
        unsafe { raw::syscall(number, [a, b, c, d, e, f]) }
    };
    libc_result(result)
}

/// `mmap(2)`: the value area of an emulated array map is in a file of its own.
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
    // SAFETY: passed on as it came, but for the descriptor.
    let result = unsafe { session::mmap(addr as u64, len as u64, prot, flags, fd, off) };
    libc_result(result) as *mut c_void
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

/// `uname(2)`: the emulated kernel's release.
///
/// # Safety
/// `buf` is writable, or bad, which is then EFAULT.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn uname(buf: *mut libc::utsname) -> c_int {
    // SAFETY: the kernel checks the address.
    let result = unsafe { raw::syscall(libc::SYS_uname, [buf as u64, 0, 0, 0, 0, 0]) };
    if result == 0 {
        // SAFETY: the kernel has just written there.
        session::fix_uname(unsafe { &mut *buf });
    }
    libc_result(result) as c_int
}
