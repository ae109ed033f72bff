//! User memory of a caller in this process.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock};

use bpftwin_uapi::Errno;

use super::user_memory::UserMemory;
use super::{Kernel, raw};
use crate::syscall;

/// The memory of this process, by the kernel's own copying: a bad address, or one whose page another thread unmaps
/// meanwhile, is `EFAULT` and never a signal.
#[derive(Clone, Copy, Debug, Default)]
pub struct OwnMemory;

/// Set once process_vm_readv(2) turned out to be forbidden here, as in containers with an old seccomp profile.
static USE_PIPE: AtomicBool = AtomicBool::new(false);

/// Answers a bpf(2) call of this process on `kernel`.
pub fn bpf(kernel: &Arc<Kernel>, cmd: u32, attr: u64, size: u32) -> Result<i64, Errno> {
    static MEMORY: LazyLock<Arc<dyn UserMemory + Send + Sync>> = LazyLock::new(|| Arc::new(OwnMemory));
    syscall::bpf(kernel, &MEMORY, cmd as i32, attr, size).map(i64::from)
}

impl UserMemory for OwnMemory {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Errno> {
        if to.is_empty() {
            return Ok(());
        }
        if !USE_PIPE.load(Ordering::Relaxed) {
            match transfer(libc::SYS_process_vm_readv, to.as_mut_ptr() as u64, address, to.len()) {
                Err(Errno::EPERM | Errno::ENOSYS) => USE_PIPE.store(true, Ordering::Relaxed),
                result => return result,
            }
        }
        let pipe = Pipe::new()?;
        let mut address = address;
        for chunk in to.chunks_mut(PIPE_CHUNK) {
            pipe.pass(address, chunk.as_mut_ptr() as u64, chunk.len())?;
            address = address.wrapping_add(chunk.len() as u64);
        }
        Ok(())
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno> {
        if from.is_empty() {
            return Ok(());
        }
        if !USE_PIPE.load(Ordering::Relaxed) {
            match transfer(libc::SYS_process_vm_writev, from.as_ptr() as u64, address, from.len()) {
                Err(Errno::EPERM | Errno::ENOSYS) => USE_PIPE.store(true, Ordering::Relaxed),
                result => return result,
            }
        }
        let pipe = Pipe::new()?;
        let mut address = address;
        for chunk in from.chunks(PIPE_CHUNK) {
            pipe.pass(chunk.as_ptr() as u64, address, chunk.len())?;
            address = address.wrapping_add(chunk.len() as u64);
        }
        Ok(())
    }
}

/// Copies between `local`, which is ours, and `remote`, an address of the caller's.
fn transfer(call: i64, local: u64, remote: u64, len: usize) -> Result<(), Errno> {
    let local = [local, len as u64];
    let remote = [remote, len as u64];
    // SAFETY: getpid has no preconditions. The copy touches only the local buffer, which is live for `len` bytes, and
    // the caller's memory, which it checks itself.
    let copied = unsafe {
        let pid = raw::syscall(libc::SYS_getpid, [0; 6]) as u64;
        raw::check(raw::syscall(call, [pid, local.as_ptr() as u64, 1, remote.as_ptr() as u64, 1, 0]))?
    };
    if copied as usize == len { Ok(()) } else { Err(Errno::EFAULT) }
}

/// What an empty pipe always takes at once.
const PIPE_CHUNK: usize = 4096;

/// Copies by way of a pipe: write(2) and read(2) check addresses as well.
struct Pipe {
    read: u64,
    write: u64,
}

impl Pipe {
    fn new() -> Result<Self, Errno> {
        let mut ends = [0i32; 2];
        let flags = (libc::O_CLOEXEC | libc::O_NONBLOCK) as u64;
        // SAFETY: the pointer is to two writable integers.
        raw::check(unsafe { raw::syscall(libc::SYS_pipe2, [ends.as_mut_ptr() as u64, flags, 0, 0, 0, 0]) })?;
        Ok(Self { read: ends[0] as u64, write: ends[1] as u64 })
    }

    fn pass(&self, from: u64, to: u64, len: usize) -> Result<(), Errno> {
        // SAFETY: one of the addresses is a live buffer of ours of `len` bytes; the kernel checks the other.
        let (written, read) = unsafe {
            (
                raw::check(raw::syscall(libc::SYS_write, [self.write, from, len as u64, 0, 0, 0]))?,
                raw::check(raw::syscall(libc::SYS_read, [self.read, to, len as u64, 0, 0, 0]))?,
            )
        };
        if written as usize == len && read as usize == len { Ok(()) } else { Err(Errno::EFAULT) }
    }
}

impl Drop for Pipe {
    fn drop(&mut self) {
        for end in [self.read, self.write] {
            // SAFETY: closes descriptors of our own.
            unsafe { raw::syscall(libc::SYS_close, [end, 0, 0, 0, 0, 0]) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unmapped() -> u64 {
        // SAFETY: maps and unmaps a fresh page.
        unsafe {
            let page = libc::mmap(
                std::ptr::null_mut(),
                8192,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            );
            libc::munmap(page.byte_add(4096), 4096);
            page as u64
        }
    }

    #[test]
    fn copies_and_faults() {
        let page = unmapped();
        for pipe in [false, true] {
            USE_PIPE.store(pipe, Ordering::Relaxed);
            let text = *b"hello, kernel";
            let mut to = [0; 13];
            OwnMemory.read(text.as_ptr() as u64, &mut to).unwrap();
            assert_eq!(to, text);
            OwnMemory.write(to.as_mut_ptr() as u64, b"HELLO").unwrap();
            assert_eq!(&to, b"HELLO, kernel");
            assert_eq!(OwnMemory.read(0, &mut to), Err(Errno::EFAULT));
            assert_eq!(OwnMemory.read(page + 4090, &mut to), Err(Errno::EFAULT));
            assert_eq!(OwnMemory.write(page, b"read-only"), Err(Errno::EFAULT));
            let mut big = vec![7u8; 100_000];
            let from = vec![8u8; 100_000];
            OwnMemory.read(from.as_ptr() as u64, &mut big).unwrap();
            assert_eq!(big, from);
        }
        USE_PIPE.store(false, Ordering::Relaxed);
    }
}
