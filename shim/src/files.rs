//! Files by which a program learns of the kernel, and the bpf file system.
//!
//! Each entry point asks `bpftwin::kernel::paths` whether the path is one of the emulated kernel's, and goes on to libc
//! if it is not.

use std::ffi::{CStr, c_char, c_int, c_uint, c_void};

use bpftwin::kernel::paths;
use bpftwin_uapi::Errno;

use crate::next::next;

/// The caller's path, where it is an absolute one that could be the emulated kernel's.
///
/// # Safety
/// Null or a C string.
unsafe fn candidate<'a>(path: *const c_char) -> Option<&'a [u8]> {
    // Cheap tests first: most calls are about other files.
    // SAFETY: by the caller's promise; the second byte is looked at only if the first is not the end.
    unsafe {
        if path.is_null()
            || *path != b'/' as c_char
            || !matches!(*path.add(1) as u8, b's' | b'p' | b'd' | b'/')
        {
            return None;
        }
        let bytes = CStr::from_ptr(path).to_bytes();
        (bytes.starts_with(b"/sys/")
            || bytes.starts_with(b"/proc/")
            || bytes.starts_with(b"/dev/fd/")
            || bytes.starts_with(b"//"))
        .then_some(bytes)
    }
}

fn fail(error: Errno) -> c_int {
    // SAFETY: the location of this thread's errno is always valid.
    unsafe { *libc::__errno_location() = error.0 };
    -1
}

fn done(result: Result<(), Errno>) -> c_int {
    result.map_or_else(fail, |()| 0)
}

/// What the emulated kernel answers about the path, if it is one of its own.
///
/// # Safety
/// Null or a C string.
unsafe fn ask<T>(path: *const c_char, answer: impl FnOnce(&[u8]) -> Option<T>) -> Option<T> {
    // SAFETY: by the caller's promise.
    answer(unsafe { candidate(path) }?)
}

macro_rules! opens {
    ($($name:ident $text:literal;)*) => {$(
        /// # Safety
        /// As for open(2).
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
            // SAFETY: passed on as it came.
            unsafe {
                match ask(path, |path| paths::open(path, flags)) {
                    Some(result) => result.unwrap_or_else(fail),
                    None => next!($text, fn(*const c_char, c_int, c_uint) -> c_int)(path, flags, mode),
                }
            }
        }
    )*};
}

opens! {
    open c"open";
    open64 c"open64";
    __open_2 c"__open_2";
    __open64_2 c"__open64_2";
}

macro_rules! openats {
    ($($name:ident $text:literal;)*) => {$(
        /// # Safety
        /// As for openat(2).
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(dir: c_int, path: *const c_char, flags: c_int, mode: c_uint) -> c_int {
            // SAFETY: passed on as it came.
            unsafe {
                match ask(path, |path| paths::open(path, flags)) {
                    Some(result) => result.unwrap_or_else(fail),
                    None => {
                        next!($text, fn(c_int, *const c_char, c_int, c_uint) -> c_int)(dir, path, flags, mode)
                    }
                }
            }
        }
    )*};
}

openats! {
    openat c"openat";
    openat64 c"openat64";
    __openat_2 c"__openat_2";
    __openat64_2 c"__openat64_2";
}

/// Flags of open(2) for a mode of fopen(3).
fn flags_of_mode(mode: &[u8]) -> c_int {
    let mut flags = match mode.first() {
        Some(b'w' | b'a') => libc::O_WRONLY,
        _ => libc::O_RDONLY,
    };
    if mode.contains(&b'+') {
        flags = libc::O_RDWR;
    }
    if mode.contains(&b'e') {
        flags |= libc::O_CLOEXEC;
    }
    flags
}

macro_rules! fopens {
    ($($name:ident $text:literal;)*) => {$(
        /// # Safety
        /// As for fopen(3).
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(path: *const c_char, mode: *const c_char) -> *mut libc::FILE {
            // SAFETY: passed on as it came; the mode is a C string.
            unsafe {
                let flags = |mode: *const c_char| flags_of_mode(CStr::from_ptr(mode).to_bytes());
                match ask(path, |path| paths::open(path, flags(mode))) {
                    Some(Ok(fd)) => libc::fdopen(fd, mode),
                    Some(Err(error)) => {
                        fail(error);
                        std::ptr::null_mut()
                    }
                    None => {
                        static NEXT: crate::next::Next = crate::next::Next::new($text);
                        let address = NEXT.address();
                        if address.is_null() {
                            fail(Errno::ENOSYS);
                            return std::ptr::null_mut();
                        }
                        std::mem::transmute::<
                            *mut c_void,
                            unsafe extern "C" fn(*const c_char, *const c_char) -> *mut libc::FILE,
                        >(address)(path, mode)
                    }
                }
            }
        }
    )*};
}

fopens! {
    fopen c"fopen";
    fopen64 c"fopen64";
}

/// # Safety
/// As for access(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn access(path: *const c_char, mode: c_int) -> c_int {
    // SAFETY: passed on as it came.
    unsafe {
        match ask(path, |path| paths::access(path, mode)) {
            Some(result) => done(result),
            None => next!(c"access", fn(*const c_char, c_int) -> c_int)(path, mode),
        }
    }
}

/// # Safety
/// As for access(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn euidaccess(path: *const c_char, mode: c_int) -> c_int {
    // SAFETY: passed on as it came.
    unsafe {
        match ask(path, |path| paths::access(path, mode)) {
            Some(result) => done(result),
            None => next!(c"euidaccess", fn(*const c_char, c_int) -> c_int)(path, mode),
        }
    }
}

/// # Safety
/// As for faccessat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn faccessat(dir: c_int, path: *const c_char, mode: c_int, flags: c_int) -> c_int {
    // SAFETY: passed on as it came.
    unsafe {
        match ask(path, |path| paths::access(path, mode)) {
            Some(result) => done(result),
            None => {
                next!(c"faccessat", fn(c_int, *const c_char, c_int, c_int) -> c_int)(dir, path, mode, flags)
            }
        }
    }
}

macro_rules! stats {
    ($($name:ident $text:literal;)*) => {$(
        /// # Safety
        /// As for stat(2).
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(path: *const c_char, buf: *mut libc::stat) -> c_int {
            // SAFETY: passed on as it came; a caller gives a writable buffer.
            unsafe {
                match ask(path, paths::stat) {
                    Some(Ok(stat)) => {
                        buf.write_unaligned(stat);
                        0
                    }
                    Some(Err(error)) => fail(error),
                    None => next!($text, fn(*const c_char, *mut libc::stat) -> c_int)(path, buf),
                }
            }
        }
    )*};
}

stats! {
    stat c"stat";
    stat64 c"stat64";
    lstat c"lstat";
    lstat64 c"lstat64";
}

macro_rules! versioned_stats {
    ($($name:ident $text:literal;)*) => {$(
        /// # Safety
        /// As for stat(2).
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(version: c_int, path: *const c_char, buf: *mut libc::stat) -> c_int {
            // SAFETY: passed on as it came; a caller gives a writable buffer.
            unsafe {
                match ask(path, paths::stat) {
                    Some(Ok(stat)) => {
                        buf.write_unaligned(stat);
                        0
                    }
                    Some(Err(error)) => fail(error),
                    None => {
                        next!($text, fn(c_int, *const c_char, *mut libc::stat) -> c_int)(version, path, buf)
                    }
                }
            }
        }
    )*};
}

versioned_stats! {
    __xstat c"__xstat";
    __xstat64 c"__xstat64";
    __lxstat c"__lxstat";
    __lxstat64 c"__lxstat64";
}

macro_rules! fstatats {
    ($($name:ident $text:literal;)*) => {$(
        /// # Safety
        /// As for fstatat(2).
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            dir: c_int,
            path: *const c_char,
            buf: *mut libc::stat,
            flags: c_int,
        ) -> c_int {
            // SAFETY: passed on as it came; a caller gives a writable buffer.
            unsafe {
                match ask(path, paths::stat) {
                    Some(Ok(stat)) => {
                        buf.write_unaligned(stat);
                        0
                    }
                    Some(Err(error)) => fail(error),
                    None => next!($text, fn(c_int, *const c_char, *mut libc::stat, c_int) -> c_int)(
                        dir, path, buf, flags,
                    ),
                }
            }
        }
    )*};
}

fstatats! {
    fstatat c"fstatat";
    fstatat64 c"fstatat64";
}

/// # Safety
/// As for statx(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn statx(
    dir: c_int,
    path: *const c_char,
    flags: c_int,
    mask: c_uint,
    buf: *mut libc::statx,
) -> c_int {
    // SAFETY: passed on as it came; a caller gives a writable buffer.
    unsafe {
        match ask(path, paths::stat) {
            Some(Ok(stat)) => {
                let mut full: libc::statx = std::mem::zeroed();
                full.stx_mask = libc::STATX_BASIC_STATS;
                full.stx_blksize = stat.st_blksize as u32;
                full.stx_nlink = stat.st_nlink as u32;
                full.stx_uid = stat.st_uid;
                full.stx_gid = stat.st_gid;
                full.stx_mode = stat.st_mode as u16;
                full.stx_ino = stat.st_ino;
                full.stx_size = stat.st_size as u64;
                full.stx_dev_major = libc::major(stat.st_dev);
                full.stx_dev_minor = libc::minor(stat.st_dev);
                buf.write_unaligned(full);
                0
            }
            Some(Err(error)) => fail(error),
            None => next!(c"statx", fn(c_int, *const c_char, c_int, c_uint, *mut libc::statx) -> c_int)(
                dir, path, flags, mask, buf,
            ),
        }
    }
}

macro_rules! statfses {
    ($($name:ident $text:literal;)*) => {$(
        /// # Safety
        /// As for statfs(2).
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(path: *const c_char, buf: *mut libc::statfs) -> c_int {
            // SAFETY: passed on as it came; a caller gives a writable buffer.
            unsafe {
                match ask(path, paths::statfs) {
                    Some(Ok(statfs)) => {
                        buf.write_unaligned(statfs);
                        0
                    }
                    Some(Err(error)) => fail(error),
                    None => next!($text, fn(*const c_char, *mut libc::statfs) -> c_int)(path, buf),
                }
            }
        }
    )*};
}

statfses! {
    statfs c"statfs";
    statfs64 c"statfs64";
}

/// Stores a link's target as readlink(2) does: cut to the buffer, without a terminating zero.
///
/// # Safety
/// `buf` is writable for `len` bytes.
unsafe fn store_link(target: Result<&str, Errno>, buf: *mut c_char, len: usize) -> isize {
    match target {
        Ok(target) => {
            let count = target.len().min(len);
            // SAFETY: by the caller's promise.
            unsafe { std::ptr::copy_nonoverlapping(target.as_ptr().cast(), buf, count) };
            count as isize
        }
        Err(error) => fail(error) as isize,
    }
}

/// # Safety
/// As for readlink(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn readlink(path: *const c_char, buf: *mut c_char, len: usize) -> isize {
    // SAFETY: passed on as it came.
    unsafe {
        match ask(path, paths::readlink) {
            Some(target) => store_link(target, buf, len),
            None => next!(c"readlink", fn(*const c_char, *mut c_char, usize) -> isize)(path, buf, len),
        }
    }
}

/// # Safety
/// As for readlinkat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn readlinkat(dir: c_int, path: *const c_char, buf: *mut c_char, len: usize) -> isize {
    // SAFETY: passed on as it came.
    unsafe {
        match ask(path, paths::readlink) {
            Some(target) => store_link(target, buf, len),
            None => next!(c"readlinkat", fn(c_int, *const c_char, *mut c_char, usize) -> isize)(
                dir, path, buf, len,
            ),
        }
    }
}

/// # Safety
/// As for mkdir(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdir(path: *const c_char, mode: c_uint) -> c_int {
    // SAFETY: passed on as it came.
    unsafe {
        match ask(path, |path| paths::mkdir(path, mode)) {
            Some(result) => done(result),
            None => next!(c"mkdir", fn(*const c_char, c_uint) -> c_int)(path, mode),
        }
    }
}

/// # Safety
/// As for mkdirat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mkdirat(dir: c_int, path: *const c_char, mode: c_uint) -> c_int {
    // SAFETY: passed on as it came.
    unsafe {
        match ask(path, |path| paths::mkdir(path, mode)) {
            Some(result) => done(result),
            None => next!(c"mkdirat", fn(c_int, *const c_char, c_uint) -> c_int)(dir, path, mode),
        }
    }
}

/// # Safety
/// As for rmdir(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rmdir(path: *const c_char) -> c_int {
    // SAFETY: passed on as it came.
    unsafe {
        match ask(path, paths::rmdir) {
            Some(result) => done(result),
            None => next!(c"rmdir", fn(*const c_char) -> c_int)(path),
        }
    }
}

/// # Safety
/// As for unlink(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlink(path: *const c_char) -> c_int {
    // SAFETY: passed on as it came.
    unsafe {
        match ask(path, paths::unlink) {
            Some(result) => done(result),
            None => next!(c"unlink", fn(*const c_char) -> c_int)(path),
        }
    }
}

/// # Safety
/// As for remove(3).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn remove(path: *const c_char) -> c_int {
    let removed = |path: &[u8]| {
        Some(match paths::unlink(path)? {
            Err(Errno::EISDIR) => paths::rmdir(path)?,
            result => result,
        })
    };
    // SAFETY: passed on as it came.
    unsafe {
        match ask(path, removed) {
            Some(result) => done(result),
            None => next!(c"remove", fn(*const c_char) -> c_int)(path),
        }
    }
}

/// # Safety
/// As for unlinkat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn unlinkat(dir: c_int, path: *const c_char, flags: c_int) -> c_int {
    let removed =
        |path: &[u8]| if flags & libc::AT_REMOVEDIR != 0 { paths::rmdir(path) } else { paths::unlink(path) };
    // SAFETY: passed on as it came.
    unsafe {
        match ask(path, removed) {
            Some(result) => done(result),
            None => next!(c"unlinkat", fn(c_int, *const c_char, c_int) -> c_int)(dir, path, flags),
        }
    }
}

/// What glibc's checks of buffer sizes call: the same, after the check that the compiler could not make.
///
/// # Safety
/// As for readlink(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __readlink_chk(
    path: *const c_char,
    buf: *mut c_char,
    len: usize,
    size: usize,
) -> isize {
    // SAFETY: passed on as it came; a length that is too large goes to libc, which ends the program.
    unsafe {
        if len > size {
            return next!(c"__readlink_chk", fn(*const c_char, *mut c_char, usize, usize) -> isize)(
                path, buf, len, size,
            );
        }
        readlink(path, buf, len)
    }
}

/// # Safety
/// As for readlinkat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn __readlinkat_chk(
    dir: c_int,
    path: *const c_char,
    buf: *mut c_char,
    len: usize,
    size: usize,
) -> isize {
    // SAFETY: passed on as it came; a length that is too large goes to libc, which ends the program.
    unsafe {
        if len > size {
            return next!(c"__readlinkat_chk", fn(c_int, *const c_char, *mut c_char, usize, usize) -> isize)(
                dir, path, buf, len, size,
            );
        }
        readlinkat(dir, path, buf, len)
    }
}

/// # Safety
/// Null or C strings.
unsafe fn renamed(from: *const c_char, to: *const c_char) -> Option<Result<(), Errno>> {
    // SAFETY: by the caller's promise.
    let (from, to) = unsafe { (candidate(from), candidate(to)) };
    match (from, to) {
        (None, None) => None,
        (from, to) => paths::rename(from.unwrap_or_default(), to.unwrap_or_default()),
    }
}

/// # Safety
/// As for rename(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn rename(from: *const c_char, to: *const c_char) -> c_int {
    // SAFETY: passed on as it came.
    unsafe {
        match renamed(from, to) {
            Some(result) => done(result),
            None => next!(c"rename", fn(*const c_char, *const c_char) -> c_int)(from, to),
        }
    }
}

/// # Safety
/// As for renameat(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn renameat(
    from_dir: c_int,
    from: *const c_char,
    to_dir: c_int,
    to: *const c_char,
) -> c_int {
    // SAFETY: passed on as it came.
    unsafe {
        match renamed(from, to) {
            Some(result) => done(result),
            None => next!(c"renameat", fn(c_int, *const c_char, c_int, *const c_char) -> c_int)(
                from_dir, from, to_dir, to,
            ),
        }
    }
}
