//! Path walks over the host's file system with the emulated bpffs mounted in it: `filename_create` and
//! `filename_lookup` of the kernel's `fs/namei.c`.

use std::ffi::{CString, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bpftwin_uapi::Errno;

use super::Result;
use crate::kernel::pins::{BPFFS_ROOT, Node, Pins, is_in_bpffs};

/// Links that one walk follows: `MAXSYMLINKS`.
const MAX_LINKS: u32 = 40;

/// Where a new file is to be made.
pub(super) struct NewPath {
    pub dir: PathBuf,
    pub name: OsString,
    /// Slashes follow the name, which only suits a directory.
    pub trailing_slash: bool,
}

/// A walk under way.
struct Walk<'a> {
    pins: &'a Pins,
    /// Where it is: a directory, but for the last step.
    at: PathBuf,
    at_dir: bool,
    /// Components to go, last first.
    rest: Vec<OsString>,
    links: u32,
}

/// Where a path leads, with links followed.
pub(super) fn lookup(pins: &Pins, dir_fd: i32, path: &Path) -> Result<PathBuf> {
    let mut walk = Walk::new(pins, dir_fd, path)?;
    while let Some(name) = walk.rest.pop() {
        walk.step(name)?;
    }
    if !walk.at_dir && has_trailing_slash(path) {
        return Err(Errno::ENOTDIR);
    }
    Ok(walk.at)
}

/// The place that a path names for a new file: all but the last component must lead somewhere.
pub(super) fn create(pins: &Pins, dir_fd: i32, path: &Path) -> Result<NewPath> {
    let mut walk = Walk::new(pins, dir_fd, path)?;
    loop {
        let name = walk.rest.pop().ok_or(Errno::EEXIST)?;
        if walk.rest.is_empty() {
            if name == OsStr::new(".") || name == OsStr::new("..") {
                return Err(Errno::EEXIST);
            }
            return Ok(NewPath { dir: walk.at, name, trailing_slash: has_trailing_slash(path) });
        }
        walk.step(name)?;
        walk.ensure_dir()?;
    }
}

/// Whether a path outside of the emulated bpffs is there, the last component's link aside.
pub(super) fn exists(path: &Path) -> Result<bool> {
    match lstat(path) {
        Ok(_) => Ok(true),
        Err(Errno::ENOENT) => Ok(false),
        Err(error) => Err(error),
    }
}

fn has_trailing_slash(path: &Path) -> bool {
    path.as_os_str().as_bytes().ends_with(b"/")
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = OsString> {
    path.split(|&byte| byte == b'/')
        .filter(|name| !name.is_empty())
        .map(|name| OsStr::from_bytes(name).to_owned())
}

fn lstat(path: &Path) -> Result<libc::stat> {
    let path = CString::new(path.as_os_str().as_bytes()).map_err(|_| Errno::EINVAL)?;
    // SAFETY: an all-zero stat is a valid value of the plain structure.
    let mut stat: libc::stat = unsafe { std::mem::zeroed() };
    // The raw call, since libc's may be intercepted by the preload library that this code lives in.
    // SAFETY: the path is a C string and the structure live and writable.
    let result = unsafe {
        libc::syscall(
            libc::SYS_newfstatat,
            libc::AT_FDCWD,
            path.as_ptr(),
            &raw mut stat,
            libc::AT_SYMLINK_NOFOLLOW,
        )
    };
    if result == 0 {
        return Ok(stat);
    }
    Err(Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO)))
}

impl<'a> Walk<'a> {
    fn new(pins: &'a Pins, dir_fd: i32, path: &Path) -> Result<Self> {
        let at = if path.is_absolute() {
            PathBuf::from("/")
        } else if dir_fd == libc::AT_FDCWD {
            std::env::current_dir().map_err(|_| Errno::ENOENT)?
        } else {
            std::fs::read_link(format!("/proc/self/fd/{dir_fd}")).map_err(|_| Errno::EBADF)?
        };
        let rest = components(path.as_os_str().as_bytes()).rev().collect();
        let mut walk = Walk { pins, at, at_dir: true, rest, links: 0 };
        walk.at_dir = path.is_absolute() || walk.is_dir()?;
        walk.ensure_dir()?;
        Ok(walk)
    }

    fn ensure_dir(&self) -> Result<()> {
        if self.at_dir { Ok(()) } else { Err(Errno::ENOTDIR) }
    }

    /// Whether the place where a relative walk starts is a directory.
    fn is_dir(&self) -> Result<bool> {
        if is_in_bpffs(&self.at) {
            return Ok(matches!(self.pins.stat(&self.at)?.node, Node::Dir));
        }
        Ok(lstat(&self.at).is_ok_and(|stat| stat.st_mode & libc::S_IFMT == libc::S_IFDIR))
    }

    /// One component further.
    fn step(&mut self, name: OsString) -> Result<()> {
        self.ensure_dir()?;
        if name == OsStr::new(".") {
            return Ok(());
        }
        if name == OsStr::new("..") {
            self.at.pop();
            return Ok(());
        }
        let next = self.at.join(name);
        if Path::new(BPFFS_ROOT).starts_with(&next) {
            // The way to the emulated bpffs is there, whatever the host has.
            self.at = next;
        } else if is_in_bpffs(&next) {
            self.at_dir = matches!(self.pins.stat(&next)?.node, Node::Dir);
            self.at = next;
        } else {
            self.host_step(next)?;
        }
        Ok(())
    }

    fn host_step(&mut self, next: PathBuf) -> Result<()> {
        let kind = lstat(&next)?.st_mode & libc::S_IFMT;
        if kind != libc::S_IFLNK {
            self.at_dir = kind == libc::S_IFDIR;
            self.at = next;
            return Ok(());
        }
        self.links += 1;
        if self.links > MAX_LINKS {
            return Err(Errno::ELOOP);
        }
        let target = std::fs::read_link(&next).map_err(|_| Errno::ENOENT)?;
        if target.is_absolute() {
            self.at = PathBuf::from("/");
        }
        self.rest.extend(components(target.as_os_str().as_bytes()).rev());
        Ok(())
    }
}
