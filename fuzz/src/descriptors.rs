//! Watches over what a target may not touch: descriptors that it leaves open, and the host's bpf(2).

use std::sync::Once;

use crate::format::FIRST_FD;

/// Prepares the process, once: the descriptors of emulated objects start at [`FIRST_FD`], and calls that no emulation
/// may make end the process.
pub fn guard() {
    static GUARD: Once = Once::new();
    GUARD.call_once(|| {
        loop {
            // SAFETY: the path is a C string.
            let fd = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR | libc::O_CLOEXEC) };
            assert!(fd >= 0, "no descriptors");
            if fd >= FIRST_FD {
                // SAFETY: it was opened above.
                unsafe { libc::close(fd) };
                break;
            }
        }
        forbid();
    });
}

/// Open descriptors of this process.
pub fn count() -> usize {
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count())
}

extern "C" fn forbidden(_signal: libc::c_int) {
    // The fuzzer saves the input when it sees this.
    // SAFETY: abort may be called in a signal handler.
    unsafe { libc::abort() }
}

/// Calls that change the host, or reach beyond this process.
const FORBIDDEN: &[i64] = &[
    libc::SYS_bpf,
    libc::SYS_mount,
    libc::SYS_mkdirat,
    libc::SYS_mknodat,
    libc::SYS_symlinkat,
    libc::SYS_linkat,
    libc::SYS_renameat2,
    libc::SYS_fchmodat,
    libc::SYS_fchownat,
    libc::SYS_truncate,
    libc::SYS_setxattr,
    libc::SYS_ptrace,
    libc::SYS_connect,
    libc::SYS_sendto,
    libc::SYS_setns,
    libc::SYS_unshare,
    libc::SYS_perf_event_open,
];

/// A seccomp filter that turns each of the [`FORBIDDEN`] calls into a signal.
fn forbid() {
    let statement = |code: u32, k: u32| libc::sock_filter { code: code as u16, jt: 0, jf: 0, k };
    // The number of the call is the first word of what a filter sees.
    let mut filter = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
    for (at, &call) in FORBIDDEN.iter().enumerate() {
        filter.push(libc::sock_filter {
            code: (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
            jt: (FORBIDDEN.len() - at) as u8,
            jf: 0,
            k: call as u32,
        });
    }
    filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
    filter.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_TRAP));
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: the handler only aborts; the filter lives during the call.
    unsafe {
        libc::signal(libc::SIGSYS, forbidden as extern "C" fn(libc::c_int) as libc::sighandler_t);
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        assert_eq!(
            0,
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
            "no seccomp"
        );
    }
}
