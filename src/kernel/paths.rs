//! What a program finds at the paths by which a kernel shows itself: BTF, sysctls, `/proc/self/fd` and the bpf file
//! system. Each function answers `None` for paths that are not the emulated kernel's.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bpftwin_uapi::Errno;
use bpftwin_uapi::attr::BPF_FS_MAGIC;

use super::pins::{Inode, Node, is_in_bpffs, normalize};
use super::session::with_kernel;
use super::settings::VMLINUX_BTF;
use super::{Kernel, raw};

/// Device number of the emulated bpf file system: one that no host gives out.
const BPFFS_DEV: u64 = 0xb9f;

type Answer<T> = Option<Result<T, Errno>>;

/// A path that the emulated kernel answers for.
enum Place {
    Bpffs(PathBuf),
    VmlinuxBtf,
    Sysctl(Sysctl),
    /// Link of a descriptor in `/proc/self/fd`.
    FdLink(i32),
    FdInfo(i32),
}

#[derive(Clone, Copy)]
enum Sysctl {
    UnprivilegedBpfDisabled,
    Osrelease,
}

impl Place {
    fn of(path: &[u8]) -> Option<Self> {
        let path = normalize(Path::new(OsStr::from_bytes(path)));
        if is_in_bpffs(&path) {
            return Some(Place::Bpffs(path));
        }
        if path == Path::new(VMLINUX_BTF) {
            return Some(Place::VmlinuxBtf);
        }
        match path.to_str()? {
            "/proc/sys/kernel/unprivileged_bpf_disabled" => {
                Some(Place::Sysctl(Sysctl::UnprivilegedBpfDisabled))
            }
            "/proc/sys/kernel/osrelease" => Some(Place::Sysctl(Sysctl::Osrelease)),
            text => {
                let number = |dir: &str| own_process_entry(text)?.strip_prefix(dir)?.parse().ok();
                if let Some(fd) = number("fdinfo/") {
                    return Some(Place::FdInfo(fd));
                }
                let fd = number("fd/").or_else(|| text.strip_prefix("/dev/fd/")?.parse().ok());
                fd.map(Place::FdLink)
            }
        }
    }
}

/// What is behind `/proc/self/` or this process's `/proc/PID/`.
fn own_process_entry(path: &str) -> Option<&str> {
    let rest = path.strip_prefix("/proc/")?;
    let (process, entry) = rest.split_once('/')?;
    let ours = matches!(process, "self" | "thread-self") || process.parse() == Ok(std::process::id());
    ours.then_some(entry)
}

/// The emulated kernel's BTF is the host's.
fn shows_host_btf(kernel: &Kernel) -> bool {
    kernel.vmlinux_btf_path() == Some(Path::new(VMLINUX_BTF))
}

/// open(2) of the kernel's BTF: the emulated kernel's, unless that is the host's.
pub fn open_vmlinux_btf(kernel: &Kernel, path: &[u8], flags: i32) -> Answer<i32> {
    if !matches!(Place::of(path), Some(Place::VmlinuxBtf)) || shows_host_btf(kernel) {
        return None;
    }
    Some(match kernel.vmlinux() {
        Ok(_) if flags & libc::O_ACCMODE != libc::O_RDONLY => Err(Errno::EACCES),
        Ok(btf) => file_with(c"btf-vmlinux", btf.btf.raw(), flags),
        Err(_) => {
            // Says what is missing.
            let _ = kernel.needed_btf_vmlinux();
            Err(Errno::ENOENT)
        }
    })
}

/// open(2).
pub fn open(path: &[u8], flags: i32) -> Answer<i32> {
    with_kernel(|kernel| {
        let writing = flags & libc::O_ACCMODE != libc::O_RDONLY;
        match Place::of(path)? {
            Place::Bpffs(path) => Some(open_in_bpffs(kernel, &path, flags)),
            Place::VmlinuxBtf => open_vmlinux_btf(kernel, path, flags),
            Place::Sysctl(_) if writing => Some(Err(kernel.not_emulated("writing sysctls through /proc"))),
            Place::Sysctl(sysctl) => Some(file_with(c"sysctl", sysctl.text(kernel).as_bytes(), flags)),
            Place::FdInfo(fd) => {
                let text = kernel.fdinfo(fd)?;
                let text = format!("pos:\t0\nflags:\t02000002\nmnt_id:\t15\nino:\t1\n{text}");
                Some(file_with(c"fdinfo", text.as_bytes(), flags))
            }
            Place::FdLink(fd) => kernel.file(fd).ok()?.map(|_| Err(Errno(libc::ENXIO))),
        }
    })
}

impl Sysctl {
    fn text(self, kernel: &Kernel) -> String {
        match self {
            Sysctl::UnprivilegedBpfDisabled => format!("{}\n", kernel.unprivileged_bpf_disabled()),
            Sysctl::Osrelease => format!("{}\n", kernel.profile().release),
        }
    }
}

/// Pins cannot be opened. Directories can, which is enough to name the file system in a call; the descriptor cannot
/// be read as a directory.
fn open_in_bpffs(kernel: &Kernel, path: &Path, flags: i32) -> Result<i32, Errno> {
    match kernel.pins().stat(path) {
        Ok(Inode { node: Node::Pin(_), .. }) => Err(Errno::EIO),
        Ok(_) if flags & libc::O_ACCMODE != libc::O_RDONLY => Err(Errno::EISDIR),
        Ok(_) => file_with(c"bpffs", &[], flags),
        // The file system has no files of its own.
        Err(Errno::ENOENT) if flags & libc::O_CREAT != 0 => Err(Errno::EPERM),
        Err(error) => Err(error),
    }
}

/// A descriptor of a file with these contents.
fn file_with(name: &std::ffi::CStr, contents: &[u8], flags: i32) -> Result<i32, Errno> {
    let cloexec = if flags & libc::O_CLOEXEC != 0 { u64::from(libc::MFD_CLOEXEC) } else { 0 };
    // SAFETY: the name is a C string.
    let fd = raw::check(unsafe {
        raw::syscall(libc::SYS_memfd_create, [name.as_ptr() as u64, cloexec, 0, 0, 0, 0])
    })? as u64;
    let mut at = 0;
    while at < contents.len() {
        let rest = &contents[at..];
        // SAFETY: the buffer is live for its length.
        let written = raw::check(unsafe {
            raw::syscall(libc::SYS_pwrite64, [fd, rest.as_ptr() as u64, rest.len() as u64, at as u64, 0, 0])
        });
        match written {
            Ok(count) if count > 0 => at += count as usize,
            _ => {
                // SAFETY: closes a descriptor of our own.
                unsafe { raw::syscall(libc::SYS_close, [fd, 0, 0, 0, 0, 0]) };
                return Err(written.err().unwrap_or(Errno::EIO));
            }
        }
    }
    Ok(fd as i32)
}

/// access(2).
pub fn access(path: &[u8], mode: i32) -> Answer<()> {
    with_kernel(|kernel| match Place::of(path)? {
        Place::Bpffs(path) => Some(kernel.pins().stat(&path).map(|_| ())),
        Place::VmlinuxBtf if shows_host_btf(kernel) => None,
        Place::VmlinuxBtf => Some(match kernel.vmlinux() {
            Ok(_) if mode & (libc::W_OK | libc::X_OK) != 0 => Err(Errno::EACCES),
            Ok(_) => Ok(()),
            Err(_) => {
                let _ = kernel.needed_btf_vmlinux();
                Err(Errno::ENOENT)
            }
        }),
        Place::Sysctl(_) if mode & libc::X_OK != 0 => Some(Err(Errno::EACCES)),
        Place::Sysctl(_) => Some(Ok(())),
        Place::FdLink(_) | Place::FdInfo(_) => None,
    })
}

fn zeroed_stat() -> libc::stat {
    // SAFETY: an all-zero stat is a valid value of the plain structure.
    unsafe { std::mem::zeroed() }
}

/// stat(2) and lstat(2).
pub fn stat(path: &[u8]) -> Answer<libc::stat> {
    with_kernel(|kernel| match Place::of(path)? {
        Place::Bpffs(path) => Some(kernel.pins().stat(&path).map(|inode| {
            let mut stat = zeroed_stat();
            let kind = if let Node::Dir = inode.node { libc::S_IFDIR } else { libc::S_IFREG };
            stat.st_mode = kind | inode.mode;
            stat.st_nlink = if let Node::Dir = inode.node { 2 } else { 1 };
            stat.st_ino = inode.ino;
            stat.st_dev = BPFFS_DEV;
            stat.st_blksize = 4096;
            stat
        })),
        Place::VmlinuxBtf if shows_host_btf(kernel) => None,
        Place::VmlinuxBtf => Some(match kernel.vmlinux() {
            Ok(btf) => {
                let mut stat = zeroed_stat();
                stat.st_mode = libc::S_IFREG | 0o444;
                stat.st_nlink = 1;
                stat.st_ino = 1;
                stat.st_size = btf.btf.raw().len() as i64;
                stat.st_blksize = 4096;
                Ok(stat)
            }
            Err(_) => {
                let _ = kernel.needed_btf_vmlinux();
                Err(Errno::ENOENT)
            }
        }),
        Place::Sysctl(_) | Place::FdLink(_) | Place::FdInfo(_) => None,
    })
}

/// statfs(2).
pub fn statfs(path: &[u8]) -> Answer<libc::statfs> {
    with_kernel(|kernel| match Place::of(path)? {
        Place::Bpffs(path) => Some(kernel.pins().stat(&path).map(|_| {
            // SAFETY: an all-zero statfs is a valid value of the plain structure.
            let mut statfs: libc::statfs = unsafe { std::mem::zeroed() };
            statfs.f_type = BPF_FS_MAGIC as _;
            statfs.f_bsize = 4096;
            statfs.f_namelen = 255;
            statfs.f_frsize = 4096;
            statfs
        })),
        _ => None,
    })
}

/// readlink(2).
pub fn readlink(path: &[u8]) -> Answer<&'static str> {
    with_kernel(|kernel| match Place::of(path)? {
        Place::FdLink(fd) => kernel.link_target(fd).map(Ok),
        Place::Bpffs(path) => Some(kernel.pins().stat(&path).map_or_else(Err, |_| Err(Errno::EINVAL))),
        _ => None,
    })
}

fn in_bpffs<T>(path: &[u8], work: impl FnOnce(&Kernel, &Path) -> Result<T, Errno>) -> Answer<T> {
    with_kernel(|kernel| match Place::of(path)? {
        Place::Bpffs(path) => Some(work(kernel, &path)),
        _ => None,
    })
}

/// mkdir(2).
pub fn mkdir(path: &[u8], mode: u32) -> Answer<()> {
    in_bpffs(path, |kernel, path| kernel.pins().mkdir(path, mode))
}

/// rmdir(2).
pub fn rmdir(path: &[u8]) -> Answer<()> {
    in_bpffs(path, |kernel, path| kernel.pins().rmdir(path))
}

/// unlink(2).
pub fn unlink(path: &[u8]) -> Answer<()> {
    in_bpffs(path, |kernel, path| kernel.pins().unlink(path))
}

/// rename(2); `EXDEV` where but one of the paths is in the bpf file system.
pub fn rename(from: &[u8], to: &[u8]) -> Answer<()> {
    with_kernel(|kernel| match (Place::of(from), Place::of(to)) {
        (Some(Place::Bpffs(from)), Some(Place::Bpffs(to))) => Some(kernel.pins().rename(&from, &to)),
        (Some(Place::Bpffs(_)), _) | (_, Some(Place::Bpffs(_))) => Some(Err(Errno::EXDEV)),
        _ => None,
    })
}

/// A directory's entries: names, and whether they are directories themselves.
pub fn list(path: &[u8]) -> Answer<Vec<(String, bool)>> {
    in_bpffs(path, |kernel, path| {
        let entries = kernel.pins().list(path)?;
        Ok(entries.into_iter().map(|(name, inode)| (name, matches!(inode.node, Node::Dir))).collect())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recognises_places() {
        assert!(matches!(Place::of(b"/sys/fs/bpf/a/b"), Some(Place::Bpffs(_))));
        assert!(matches!(Place::of(b"/sys//kernel/btf/vmlinux"), Some(Place::VmlinuxBtf)));
        assert!(matches!(Place::of(b"/proc/self/fd/7"), Some(Place::FdLink(7))));
        assert!(matches!(Place::of(b"/dev/fd/7"), Some(Place::FdLink(7))));
        let own = format!("/proc/{}/fdinfo/12", std::process::id());
        assert!(matches!(Place::of(own.as_bytes()), Some(Place::FdInfo(12))));
        assert!(Place::of(b"/proc/1/fd/7").is_none() && Place::of(b"/sys/fs/bpfx").is_none());
    }
}
