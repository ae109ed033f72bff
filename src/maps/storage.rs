//! Zeroed bytes in any amount, of which only those that were written take memory; optionally in a file that
//! programs map.

use std::collections::HashMap;
use std::ffi::c_int;
use std::sync::{PoisonError, RwLock};

use bpftwin_uapi::Errno;

use super::Result;
use crate::kernel::stand_in::move_high;

const PAGE: u64 = 4096;

/// The bytes of an array map.
pub enum Storage {
    Sparse(Sparse),
    Shared(Shared),
}

impl Storage {
    /// Fills `to` with the bytes at `off`, which must lie inside.
    pub fn read(&self, off: u64, to: &mut [u8]) -> Result<()> {
        match self {
            Storage::Sparse(sparse) => {
                sparse.read(off, to);
                Ok(())
            }
            Storage::Shared(shared) => shared.read(off, to),
        }
    }

    /// Stores `from` at `off`; the range must lie inside.
    pub fn write(&self, off: u64, from: &[u8]) -> Result<()> {
        match self {
            Storage::Sparse(sparse) => {
                sparse.write(off, from);
                Ok(())
            }
            Storage::Shared(shared) => shared.write(off, from),
        }
    }
}

/// Pages that exist once they were written.
#[derive(Default)]
pub struct Sparse {
    pages: RwLock<HashMap<u64, Box<[u8; PAGE as usize]>>>,
}

/// Splits a range into its parts on each page: page number, offset on the page, range of the buffer.
fn parts(off: u64, len: usize) -> impl Iterator<Item = (u64, usize, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done >= len {
            return None;
        }
        let at = off + done as u64;
        let within = (at % PAGE) as usize;
        let count = (PAGE as usize - within).min(len - done);
        let range = done..done + count;
        done += count;
        Some((at / PAGE, within, range))
    })
}

impl Sparse {
    fn read(&self, off: u64, to: &mut [u8]) {
        let pages = self.pages.read().unwrap_or_else(PoisonError::into_inner);
        for (page, within, range) in parts(off, to.len()) {
            let count = range.len();
            match pages.get(&page) {
                Some(bytes) => to[range].copy_from_slice(&bytes[within..within + count]),
                None => to[range].fill(0),
            }
        }
    }

    fn write(&self, off: u64, from: &[u8]) {
        let mut pages = self.pages.write().unwrap_or_else(PoisonError::into_inner);
        for (page, within, range) in parts(off, from.len()) {
            let count = range.len();
            let bytes = pages.entry(page).or_insert_with(|| Box::new([0; PAGE as usize]));
            bytes[within..within + count].copy_from_slice(&from[range]);
        }
    }
}

/// An anonymous file that programs may map. It is accessed by reads and writes, since others change it at will.
pub struct Shared {
    fd: c_int,
    size: u64,
    device: u64,
    inode: u64,
}

impl Shared {
    /// A file of `size` zero bytes.
    pub fn new(size: u64) -> Result<Self> {
        let length = libc::off_t::try_from(size).map_err(|_| Errno::ENOMEM)?;
        // SAFETY: the name is a constant C string.
        let fd = unsafe { libc::syscall(libc::SYS_memfd_create, c"bpf-map".as_ptr(), libc::MFD_CLOEXEC) };
        if fd < 0 {
            return Err(Errno::ENOMEM);
        }
        let mut shared = Shared { fd: move_high(fd as c_int), size, device: 0, inode: 0 };
        // SAFETY: an all-zero stat is a valid value of the plain structure.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // SAFETY: both calls are on a descriptor of ours; the pointer is to a live, writable structure.
        let done = unsafe {
            libc::ftruncate(shared.fd, length) == 0
                && libc::syscall(libc::SYS_fstat, shared.fd, &raw mut stat) == 0
        };
        if !done {
            return Err(Errno::ENOMEM);
        }
        shared.device = stat.st_dev;
        shared.inode = stat.st_ino;
        Ok(shared)
    }

    /// The descriptor to map.
    pub fn fd(&self) -> c_int {
        self.fd
    }

    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether this process has a writable mapping of it.
    pub fn is_mapped_writable(&self) -> bool {
        let Ok(maps) = std::fs::read("/proc/self/maps") else { return false };
        maps.split(|&byte| byte == b'\n').any(|line| self.line_is_writable_mapping(line))
    }

    /// Of a line such as `7f00-7f01 rw-s 00000000 00:01 1234 /memfd:bpf-map`.
    fn line_is_writable_mapping(&self, line: &[u8]) -> bool {
        let mut words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
        let (Some(_), Some(perms), Some(_), Some(device), Some(inode)) =
            (words.next(), words.next(), words.next(), words.next(), words.next())
        else {
            return false;
        };
        let device = std::str::from_utf8(device).ok().and_then(|device| {
            let (major, minor) = device.split_once(':')?;
            Some(libc::makedev(u32::from_str_radix(major, 16).ok()?, u32::from_str_radix(minor, 16).ok()?))
        });
        let inode = std::str::from_utf8(inode).ok().and_then(|inode| inode.parse().ok());
        perms.get(1) == Some(&b'w')
            && perms.get(3) == Some(&b's')
            && device == Some(self.device)
            && inode == Some(self.inode)
    }

    fn read(&self, off: u64, to: &mut [u8]) -> Result<()> {
        let mut done = 0;
        while done < to.len() {
            let rest = &mut to[done..];
            // SAFETY: the pointer and the length are those of a live, writable slice.
            let count = unsafe {
                libc::pread(self.fd, rest.as_mut_ptr().cast(), rest.len(), off as i64 + done as i64)
            };
            match count {
                1.. => done += count as usize,
                0 => return Err(Errno::EFAULT),
                _ if std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {}
                _ => return Err(Errno::EFAULT),
            }
        }
        Ok(())
    }

    fn write(&self, off: u64, from: &[u8]) -> Result<()> {
        let mut done = 0;
        while done < from.len() {
            let rest = &from[done..];
            // SAFETY: the pointer and the length are those of a live slice.
            let count =
                unsafe { libc::pwrite(self.fd, rest.as_ptr().cast(), rest.len(), off as i64 + done as i64) };
            match count {
                1.. => done += count as usize,
                _ if std::io::Error::last_os_error().raw_os_error() == Some(libc::EINTR) => {}
                _ => return Err(Errno::ENOMEM),
            }
        }
        Ok(())
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: an all-zero stat is a valid value of the plain structure.
        let mut stat: libc::stat = unsafe { std::mem::zeroed() };
        // The program may have closed the number behind our back and use it for something else.
        // SAFETY: the pointer is to a live, writable structure; closing a number has no memory effects.
        unsafe {
            if libc::syscall(libc::SYS_fstat, self.fd, &raw mut stat) == 0
                && (stat.st_dev, stat.st_ino) == (self.device, self.inode)
            {
                libc::syscall(libc::SYS_close, self.fd);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sparse_across_pages() {
        let sparse = Sparse::default();
        sparse.write(PAGE - 2, &[1, 2, 3, 4]);
        let mut buf = [9; 6];
        sparse.read(PAGE - 3, &mut buf);
        assert_eq!(buf, [0, 1, 2, 3, 4, 0]);
    }

    #[test]
    fn shared_file_knows_its_mappings() {
        let shared = Shared::new(2 * PAGE).unwrap();
        shared.write(10, b"abc").unwrap();
        let mut buf = [0; 3];
        shared.read(10, &mut buf).unwrap();
        assert_eq!(&buf, b"abc");
        assert!(shared.read(2 * PAGE, &mut buf).is_err());
        assert!(!shared.is_mapped_writable());
        // SAFETY: a fresh mapping of a file of ours, which is unmapped below.
        let address = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE as usize,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                shared.fd(),
                0,
            )
        };
        assert_ne!(address, libc::MAP_FAILED);
        assert!(shared.is_mapped_writable());
        // SAFETY: it is the mapping made above.
        unsafe { libc::munmap(address, PAGE as usize) };
        assert!(!shared.is_mapped_writable());
    }
}
