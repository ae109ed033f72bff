//! The kernel that a process under the preload library sees: made at first use from the environment, one a process.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, OnceLock};

use bpftwin_uapi::Errno;

use super::mapping::MmapArgs;
use super::settings::{Mode, Settings};
use super::{Kernel, KernelSettings, own_memory, raw};
use crate::syscall::check::Checker;

/// Who answers bpf(2) in this process.
pub enum Session {
    Emulate(Arc<Kernel>),
    Check(Box<Checker>),
    /// The environment makes no sense; it was said on standard error.
    Broken,
}

static SESSION: OnceLock<Session> = OnceLock::new();

thread_local! {
    /// Set while code of ours runs on this thread: its own calls of libc are not the program's.
    static INSIDE: Cell<bool> = const { Cell::new(false) };
}

/// Marks the thread as inside of our code.
struct Inside;

impl Inside {
    /// `None` where it already is, or the thread is about to end.
    fn enter() -> Option<Self> {
        let was = INSIDE.try_with(|inside| inside.replace(true)).unwrap_or(true);
        (!was).then(|| Inside)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        let _ = INSIDE.try_with(|inside| inside.set(false));
    }
}

extern "C" fn at_exit() {
    if let Some(Session::Check(checker)) = SESSION.get() {
        let _inside = Inside::enter();
        let _ = catch_unwind(AssertUnwindSafe(|| checker.summary()));
    }
}

impl Session {
    fn from_env() -> Self {
        match Settings::from_env() {
            Ok(settings) if settings.mode == Mode::Check => {
                // SAFETY: registers a function that lives forever.
                unsafe { libc::atexit(at_exit) };
                Session::Check(Box::new(Checker::new(settings)))
            }
            Ok(settings) => {
                let prover = settings.prover();
                let settings = KernelSettings { prover, ..settings.kernel_settings() };
                Session::Emulate(Arc::new(Kernel::new(settings)))
            }
            Err(error) => {
                eprintln!("bpftwin: {error}");
                Session::Broken
            }
        }
    }
}

/// Does `work` for the program: marked as ours, and with a panic, which would be a bug, turned into an error.
fn for_program<T>(work: impl FnOnce(&'static Session) -> T) -> Option<Result<T, Errno>> {
    let _inside = Inside::enter()?;
    let work = AssertUnwindSafe(|| work(SESSION.get_or_init(Session::from_env)));
    Some(catch_unwind(work).map_err(|_| {
        eprintln!("bpftwin: internal error; please report it");
        Errno::EOPNOTSUPP
    }))
}

/// Runs `work` on the emulated kernel, if there is one and the calling thread is not in our code.
pub fn with_kernel<T>(
    work: impl FnOnce(&Arc<Kernel>) -> Option<Result<T, Errno>>,
) -> Option<Result<T, Errno>> {
    let answer = for_program(|session| match session {
        Session::Emulate(kernel) => work(kernel),
        Session::Check(_) | Session::Broken => None,
    })?;
    answer.unwrap_or_else(|error| Some(Err(error)))
}

/// bpf(2) of the program. The result is as the kernel leaves it, an error as `-errno`.
pub fn bpf(cmd: u32, attr: u64, size: u32) -> i64 {
    let answer = for_program(|session| match session {
        Session::Emulate(kernel) => own_memory::bpf(kernel, cmd, attr, size),
        Session::Check(checker) => checker.bpf(cmd, attr, size),
        Session::Broken => Err(Errno::ENOSYS),
    });
    let result = match answer {
        Some(answer) => answer.and_then(|result| result),
        // Our own code asks the real kernel.
        // SAFETY: such calls are made with attributes that live.
        None => unsafe { raw::bpf(cmd, attr, size) },
    };
    result.unwrap_or_else(|error| -i64::from(error.0))
}

/// mmap(2) of the program. The result is as the kernel leaves it, an error as `-errno`.
///
/// # Safety
/// As for mmap(2).
pub unsafe fn mmap(addr: u64, len: u64, prot: i32, flags: i32, fd: i32, off: i64) -> i64 {
    // SAFETY: by the caller's promise.
    let pass = |fd: i32| unsafe {
        raw::syscall(libc::SYS_mmap, [addr, len, prot as u64, flags as u64, fd as u64, off as u64])
    };
    // Before the first bpf(2) call there is no descriptor of ours, and no reason to make a kernel.
    if fd < 0 || flags & libc::MAP_ANONYMOUS != 0 || SESSION.get().is_none() {
        return pass(fd);
    }
    let args = MmapArgs { len: len as usize, prot, flags, offset: off as u64 };
    match with_kernel(|kernel| kernel.mmap(fd, args, |file| raw::check(pass(file)))) {
        Some(Ok(address)) => address,
        Some(Err(error)) => -i64::from(error.0),
        None => pass(fd),
    }
}

/// Puts the emulated kernel's release in the place of the host's.
pub fn fix_uname(name: &mut libc::utsname) {
    let release = with_kernel(|kernel| Some(Ok(kernel.profile().release.clone())));
    let Some(Ok(release)) = release else {
        return;
    };
    let host: Vec<u8> = name.release.iter().take_while(|&&c| c != 0).map(|&c| c as u8).collect();
    if host == release.as_bytes() {
        return;
    }
    store(&mut name.release, release.as_bytes());
    // Distributions put a version of their own in here, which libbpf believes rather than the release.
    store(&mut name.version, b"#1 SMP");
}

fn store(field: &mut [libc::c_char], text: &[u8]) {
    let len = text.len().min(field.len() - 1);
    field.fill(0);
    for (to, from) in field.iter_mut().zip(&text[..len]) {
        *to = *from as libc::c_char;
    }
}
