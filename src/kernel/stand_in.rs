//! Files of the host that stand in for those of the emulated kernel: the program gets one end, the descriptor table keeps the
//! other, by which it learns when the program's last copy is closed, in whichever process.

use std::mem;

use bpftwin_uapi::Errno;

/// Where the table's own ends are put, out of the way of the descriptors that the program counts on.
const KEPT_FROM: libc::c_int = 1000;

/// Device and inode number of a stand-in.
pub(super) type Identity = (u64, u64);

/// How the table's end learns that the other is closed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Watch {
    /// It is the read end of a pipe, which hangs up.
    Pipe,
    /// The program's end holds a lock on the file, which goes with it: flock(2).
    Lock,
}

/// The table's end. The program may have closed the number behind our back and use it for something else, so it is
/// closed only while it still is the stand-in.
pub(super) struct KeptEnd {
    pub fd: libc::c_int,
    pub identity: Identity,
    watch: Watch,
}

impl KeptEnd {
    pub fn is_ours(&self) -> bool {
        identity(self.fd) == Ok(self.identity)
    }

    /// Whether the other end is closed; of a pipe poll(2) tells instead.
    pub fn is_unlocked(&self) -> bool {
        // SAFETY: flock has no memory effects.
        self.watch == Watch::Lock
            && unsafe { libc::syscall(libc::SYS_flock, self.fd, libc::LOCK_EX | libc::LOCK_NB) } == 0
    }
}

impl Drop for KeptEnd {
    fn drop(&mut self) {
        if self.is_ours() {
            close(self.fd);
        }
    }
}

fn last_errno() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// close(2), by the raw call, since libc's may be intercepted by the preload library that this code lives in.
pub(crate) fn close(fd: libc::c_int) {
    // SAFETY: closing a descriptor number has no memory effects.
    unsafe { libc::syscall(libc::SYS_close, fd) };
}

/// Duplicates `fd`, close-on-exec, at the lowest free number from `from`.
fn dup_from(fd: libc::c_int, from: libc::c_int) -> Result<libc::c_int, Errno> {
    // SAFETY: F_DUPFD_CLOEXEC takes an integer and has no memory effects.
    let new = unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, from) };
    if new < 0 { Err(last_errno()) } else { Ok(new as libc::c_int) }
}

/// What is open at a number: `EBADF` where nothing is.
pub(super) fn identity(fd: libc::c_int) -> Result<Identity, Errno> {
    // SAFETY: an all-zero stat is a valid value of the plain structure.
    let mut stat: libc::stat = unsafe { mem::zeroed() };
    // SAFETY: the pointer is to a live, writable structure of the right type.
    if unsafe { libc::syscall(libc::SYS_fstat, fd, &raw mut stat) } != 0 {
        return Err(Errno::EBADF);
    }
    Ok((stat.st_dev, stat.st_ino))
}

/// Moves a descriptor out of the program's way, as far as the limit of open files allows.
pub(crate) fn move_high(fd: libc::c_int) -> libc::c_int {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live, writable structure of the right type.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) } == 0;
    let soft = if known { libc::c_int::try_from(limit.rlim_cur).unwrap_or(libc::c_int::MAX) } else { 0 };
    let from = if soft >= 2 * KEPT_FROM { KEPT_FROM } else { soft / 2 };
    match dup_from(fd, from) {
        Ok(high) => {
            close(fd);
            high
        }
        Err(_) => fd,
    }
}

/// The two ends of a stand-in, where both are open.
fn ends(client: libc::c_int, kept: libc::c_int, watch: Watch) -> Result<(libc::c_int, KeptEnd), Errno> {
    match identity(kept) {
        Ok(identity) => Ok((client, KeptEnd { fd: kept, identity, watch })),
        Err(error) => {
            close(client);
            close(kept);
            Err(error)
        }
    }
}

/// A pipe: the program's end, which it writes to, at the lowest free number, and the table's end.
pub(super) fn pipe() -> Result<(libc::c_int, KeptEnd), Errno> {
    let mut pipe: [libc::c_int; 2] = [-1; 2];
    // SAFETY: the pointer is to two writable integers.
    if unsafe { libc::syscall(libc::SYS_pipe2, pipe.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } != 0 {
        return Err(last_errno());
    }
    let [read, write] = pipe;
    let kept = move_high(read);
    let client = match dup_from(write, 0) {
        Ok(low) if low < write => {
            close(write);
            low
        }
        Ok(higher) => {
            close(higher);
            write
        }
        Err(_) => write,
    };
    ends(client, kept, Watch::Pipe)
}

/// A file that is open for reading and cannot be read (`EINVAL`), as one of the kernel without operations: it stands at the last
/// position that there is.
pub(super) fn unreadable() -> Result<(libc::c_int, KeptEnd), Errno> {
    // SAFETY: the name is a C string.
    let file = unsafe { libc::syscall(libc::SYS_memfd_create, c"bcf".as_ptr(), libc::MFD_CLOEXEC) };
    if file < 0 {
        return Err(last_errno());
    }
    let kept = move_high(file as libc::c_int);
    let path = format!("/proc/thread-self/fd/{kept}\0");
    let flags = libc::O_RDONLY | libc::O_CLOEXEC;
    // SAFETY: the path is a C string; the other calls have no memory effects.
    let client = unsafe {
        let client = libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags);
        if client < 0
            || libc::syscall(libc::SYS_lseek, client, i64::MAX, libc::SEEK_SET) < 0
            || libc::syscall(libc::SYS_flock, client, libc::LOCK_SH) < 0
        {
            let error = last_errno();
            close(client as libc::c_int);
            close(kept);
            return Err(error);
        }
        client
    };
    ends(client as libc::c_int, kept, Watch::Lock)
}
