//! System calls of the host without libc, whose entry points the preload library replaces.

use bpftwin_uapi::Errno;

/// Makes a system call; the result is as the kernel leaves it, an error as `-errno`.
///
/// # Safety
/// As for the system call that is made.
#[cfg(target_arch = "x86_64")]
pub unsafe fn syscall(number: i64, args: [u64; 6]) -> i64 {
    let result: i64;
    // SAFETY: the kernel's calling convention, which clobbers rcx and r11 only; what the call itself does is the
    // caller's responsibility.
    unsafe {
        std::arch::asm!(
            "syscall",
            inlateout("rax") number => result,
            in("rdi") args[0],
            in("rsi") args[1],
            in("rdx") args[2],
            in("r10") args[3],
            in("r8") args[4],
            in("r9") args[5],
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

/// Makes a system call; the result is as the kernel leaves it, an error as `-errno`.
///
/// # Safety
/// As for the system call that is made.
#[cfg(target_arch = "aarch64")]
pub unsafe fn syscall(number: i64, args: [u64; 6]) -> i64 {
    let result: i64;
    // SAFETY: the kernel's calling convention; what the call itself does is the caller's responsibility.
    unsafe {
        std::arch::asm!(
            "svc 0",
            in("x8") number,
            inlateout("x0") args[0] => result,
            in("x1") args[1],
            in("x2") args[2],
            in("x3") args[3],
            in("x4") args[4],
            in("x5") args[5],
            options(nostack),
        );
    }
    result
}

/// The result of a system call as Rust has it.
pub fn check(result: i64) -> Result<i64, Errno> {
    if (-4095..0).contains(&result) { Err(Errno(-result as i32)) } else { Ok(result) }
}

/// The kernel's answer to a system call as libc's wrappers give it: sets `errno` and gives -1 where it is an error.
pub fn libc_result(result: i64) -> i64 {
    match check(result) {
        Ok(result) => result,
        Err(error) => {
            // SAFETY: the location of this thread's errno is always valid.
            unsafe { *libc::__errno_location() = error.0 };
            -1
        }
    }
}

/// The host's own bpf(2).
///
/// # Safety
/// What `attr` and the addresses in it point to must be what the command takes.
pub unsafe fn bpf(cmd: u32, attr: u64, size: u32) -> Result<i64, Errno> {
    // SAFETY: by the caller's promise.
    check(unsafe { syscall(libc::SYS_bpf, [u64::from(cmd), attr, u64::from(size), 0, 0, 0]) })
}
