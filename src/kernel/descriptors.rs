//! Descriptors of kernel objects. They are real ones: each open file of the emulated kernel is a file of the host's, mostly the
//! write end of a pipe of its own ([`stand_in`]), so that dup, fork, close-on-exec and descriptor passing work as with
//! any file. A copy is recognised by the file's device and inode number. Another end stays with the table, and tells when the
//! last copy is closed anywhere, which is when the file's reference to its object is dropped.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bpftwin_uapi::Errno;

use super::objects::Object;
use super::stand_in::{self, Identity, KeptEnd};

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
        let (client, kept) = match object {
            Object::Bcf(_) => stand_in::unreadable()?,
            _ => stand_in::pipe()?,
        };
        self.lock().files.insert(kept.identity, Entry { file: Arc::new(File { object, access }), kept });
        Ok(client)
    }

    /// The file behind a descriptor: `EBADF` where there is none, `Ok(None)` where it is of another kind.
    pub fn get(&self, fd: i32) -> Result<Option<Arc<File>>, Errno> {
        let identity = stand_in::identity(fd)?;
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
    /// Takes out the entries whose last descriptor is closed.
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
                poll.revents & (libc::POLLHUP | libc::POLLNVAL | libc::POLLERR) != 0
                    || !entry.kept.is_ours()
                    || entry.kept.is_unlocked()
            })
            .map(|((identity, _), _)| *identity)
            .collect();
        gone.iter().filter_map(|identity| self.files.remove(identity)).collect()
    }
}
