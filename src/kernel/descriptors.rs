//! Descriptors of kernel objects. They are real ones: each open file of the emulated kernel is the write end of a
//! pipe of its own, so that dup, fork, close-on-exec and descriptor passing work as with any file. A copy is
//! recognised by the pipe's device and inode number. The read end stays with the table, and hangs up when the last
//! copy is closed anywhere, which is when the file's reference to its object is dropped.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bpftwin_uapi::Errno;

use super::objects::Object;

/// Where the table's own ends are put, out of the way of the descriptors that the program counts on.
const KEPT_FROM: libc::c_int = 1000;
/// Lookups between two sweeps.
const SWEEP_EVERY: u32 = 64;
/// Descriptors given to one poll(2), which refuses more than `RLIMIT_NOFILE`.
const POLL_CHUNK: usize = 32;

/// Access that an open file gives: the kernel's `f_mode`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access {
    pub read: bool,
    pub write: bool,
}

impl Access {
    pub const READ_WRITE: Access = Access { read: true, write: true };
    pub const READ: Access = Access { read: true, write: false };
    pub const WRITE: Access = Access { read: false, write: true };
}

/// An open file of the emulated kernel.
pub struct File {
    pub object: Object,
    pub access: Access,
}

/// Device and inode number of a pipe.
type Identity = (u64, u64);

/// The table's end of a pipe. The program may have closed the number behind our back and use it for something
/// else, so it is closed only while it still is the pipe.
struct KeptEnd {
    fd: libc::c_int,
    identity: Identity,
}

impl KeptEnd {
    fn is_ours(&self) -> bool {
        identity(self.fd) == Ok(self.identity)
    }
}

impl Drop for KeptEnd {
    fn drop(&mut self) {
        if self.is_ours() {
            close(self.fd);
        }
    }
}

struct Entry {
    file: Arc<File>,
    kept: KeptEnd,
}

#[derive(Default)]
struct Inner {
    files: HashMap<Identity, Entry>,
    lookups: u32,
}

/// The open files of an emulated kernel.
#[derive(Default)]
pub struct Descriptors {
    inner: Mutex<Inner>,
}

impl Descriptors {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Opens a file on an object at the lowest free descriptor, close-on-exec: `anon_inode_getfd`.
    pub fn open(&self, object: Object, access: Access) -> Result<i32, Errno> {
        let (client, kept) = pipe()?;
        self.lock().files.insert(kept.identity, Entry { file: Arc::new(File { object, access }), kept });
        Ok(client)
    }

    /// The file behind a descriptor: `EBADF` where there is none, `Ok(None)` where it is of another kind.
    pub fn get(&self, fd: i32) -> Result<Option<Arc<File>>, Errno> {
        let identity = identity(fd)?;
        let (file, dead) = {
            let mut inner = self.lock();
            inner.lookups += 1;
            let dead = if inner.lookups >= SWEEP_EVERY { inner.sweep() } else { Vec::new() };
            (inner.files.get(&identity).map(|entry| Arc::clone(&entry.file)), dead)
        };
        // Dropping an object may reach back to this table.
        drop(dead);
        Ok(file)
    }

    /// Drops the references of files that no process has open any more.
    pub fn sweep(&self) {
        let dead = self.lock().sweep();
        drop(dead);
    }
}

impl Inner {
    /// Takes out the entries whose pipe has hung up.
    fn sweep(&mut self) -> Vec<Entry> {
        self.lookups = 0;
        let mut polled: Vec<libc::pollfd> = self
            .files
            .values()
            .map(|entry| libc::pollfd { fd: entry.kept.fd, events: 0, revents: 0 })
            .collect();
        for chunk in polled.chunks_mut(POLL_CHUNK) {
            // SAFETY: the pointer and the length are those of a live, writable slice.
            if unsafe { libc::poll(chunk.as_mut_ptr(), chunk.len() as libc::nfds_t, 0) } < 0 {
                chunk.iter_mut().for_each(|poll| poll.revents = 0);
            }
        }
        let gone: Vec<Identity> = self
            .files
            .iter()
            .zip(&polled)
            .filter(|((_, entry), poll)| {
                poll.revents & (libc::POLLHUP | libc::POLLNVAL | libc::POLLERR) != 0 || !entry.kept.is_ours()
            })
            .map(|((identity, _), _)| *identity)
            .collect();
        gone.iter().filter_map(|identity| self.files.remove(identity)).collect()
    }
}

fn last_errno() -> Errno {
    Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

fn close(fd: libc::c_int) {
    // The raw call, since libc's may be intercepted by the preload library that this code lives in.
    // SAFETY: closing a descriptor number has no memory effects.
    unsafe { libc::syscall(libc::SYS_close, fd) };
}

/// Duplicates `fd`, close-on-exec, at the lowest free number from `from`.
fn dup_from(fd: libc::c_int, from: libc::c_int) -> Result<libc::c_int, Errno> {
    // SAFETY: F_DUPFD_CLOEXEC takes an integer and has no memory effects.
    let new = unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, from) };
    if new < 0 { Err(last_errno()) } else { Ok(new as libc::c_int) }
}

fn identity(fd: libc::c_int) -> Result<Identity, Errno> {
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

/// A pipe for a new file: the program's end at the lowest free number, and the table's end.
fn pipe() -> Result<(libc::c_int, KeptEnd), Errno> {
    let mut ends: [libc::c_int; 2] = [-1; 2];
    // SAFETY: the pointer is to two writable integers.
    if unsafe { libc::syscall(libc::SYS_pipe2, ends.as_mut_ptr(), libc::O_CLOEXEC | libc::O_NONBLOCK) } != 0 {
        return Err(last_errno());
    }
    let [read, write] = ends;
    let kept_fd = move_high(read);
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
    match identity(kept_fd) {
        Ok(identity) => Ok((client, KeptEnd { fd: kept_fd, identity })),
        Err(error) => {
            close(client);
            close(kept_fd);
            Err(error)
        }
    }
}
