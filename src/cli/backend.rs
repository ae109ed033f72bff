//! Who answers bpf(2) of the libbpf in this process: per thread, the real kernel or an emulated one. The binary
//! defines libc's `syscall` and `mmap` and hands calls on to here.

use std::cell::RefCell;
use std::ffi::{CStr, c_char};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use bpftwin_uapi::attr::{self, ATTR_SIZE_BCF, BPF_LOG_LEVEL, GetId, ProgLoad};
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Cmd, Errno, Insn, ProgType};

use crate::bcf::client::{self, Client, Conversation, Proofs};
use crate::bcf::prover::Limits;
use crate::kernel::mapping::MmapArgs;
use crate::kernel::{Kernel, own_memory, paths, raw};
use crate::syscall::prog_load::auto::Report;

/// Who answers.
#[derive(Clone)]
pub enum Backend {
    Host,
    Emulated(Arc<Kernel>),
}

impl Backend {
    /// An emulated kernel.
    pub fn emulated(kernel: Arc<Kernel>) -> Self {
        Backend::Emulated(kernel)
    }

    /// What was asked for and is not emulated, since this was last asked.
    pub fn take_not_emulated(&self) -> Option<String> {
        match self {
            Backend::Host => None,
            Backend::Emulated(kernel) => kernel.take_not_emulated(),
        }
    }

    /// What BCF did in the last load.
    fn take_bcf(&self) -> Option<Report> {
        match self {
            Backend::Host => None,
            Backend::Emulated(kernel) => kernel.take_bcf(),
        }
    }

    /// Answers one call.
    ///
    /// # Safety
    /// `attr` and the addresses in it are what the command takes.
    unsafe fn bpf(&self, cmd: u32, attr: u64, size: u32) -> Result<i64, Errno> {
        match self {
            // SAFETY: by the caller's promise.
            Backend::Host => unsafe { raw::bpf(cmd, attr, size) },
            Backend::Emulated(kernel) => {
                // A panic would be a bug, which is to cost one program's answer and not the whole run.
                let answer = AssertUnwindSafe(|| own_memory::bpf(kernel, cmd, attr, size));
                catch_unwind(answer)
                    .unwrap_or_else(|_| Err(kernel.not_emulated("this program (internal error)")))
            }
        }
    }
}

/// What became of the load that was waited for.
pub struct LoadRecord {
    pub result: Result<(), Errno>,
    /// `log_true_size`: bytes of the whole log with its terminating zero.
    pub log_true_size: u32,
    /// The log of a second load with text, made where the first one failed and had been asked for none.
    pub text_log: Option<Vec<u8>>,
    /// What BCF did in the first load.
    pub bcf: Option<Report>,
    /// The requests of the load, where a client answers them.
    pub conversation: Option<Conversation>,
}

/// The load that is waited for.
#[derive(Clone)]
pub struct Awaited {
    /// Address of the log buffer by which it is recognised.
    pub log_buf: u64,
    /// Whether to load a second time for text where it fails without.
    pub want_text: bool,
    /// Loads it, and answers what the kernel asks for.
    pub client: Option<Arc<Client>>,
}

/// Gets a load.
type Taker = Box<dyn FnOnce(&ProgLoad)>;

struct Calls {
    backend: Backend,
    awaited: Awaited,
    record: Option<LoadRecord>,
    /// Gets the load in the kernel's place.
    take: Option<Taker>,
}

thread_local! {
    static CALLS: RefCell<Option<Calls>> = const { RefCell::new(None) };
}

/// Runs `work` with this thread's bpf(2) calls answered by `backend`, and gives what became of the program load that is
/// waited for.
pub fn with_backend<T>(
    backend: Backend,
    awaited: Awaited,
    work: impl FnOnce() -> T,
) -> (T, Option<LoadRecord>) {
    CALLS.set(Some(Calls { backend, awaited, record: None, take: None }));
    let result = work();
    (result, CALLS.take().and_then(|calls| calls.record))
}

/// Runs `work` with this thread's bpf(2) calls answered by `kernel`, but for the program load whose log buffer is at `log_buf`: it goes
/// to `take`, and fails with `EINVAL` for the caller.
pub fn with_load_taken<T>(
    kernel: Arc<Kernel>,
    log_buf: u64,
    take: impl FnOnce(&ProgLoad) + 'static,
    work: impl FnOnce() -> T,
) -> T {
    let take: Option<Taker> = Some(Box::new(take));
    let backend = Backend::Emulated(kernel);
    let awaited = Awaited { log_buf, want_text: false, client: None };
    CALLS.set(Some(Calls { backend, awaited, record: None, take }));
    let result = work();
    CALLS.take();
    result
}

/// The load is somebody else's, who gets it.
fn taken(load: &ProgLoad) -> bool {
    let take = CALLS.with_borrow_mut(|calls| calls.as_mut().and_then(|calls| calls.take.take()));
    let Some(take) = take else { return false };
    // The caller is C, through which no panic may go.
    let _ = catch_unwind(AssertUnwindSafe(|| take(load)));
    true
}

/// bpf(2) of this process, with the kernel's convention for errors.
///
/// # Safety
/// As for bpf(2).
pub unsafe fn hook_bpf(cmd: u32, attr: u64, size: u32) -> i64 {
    let backend = CALLS
        .try_with(|calls| {
            let calls = calls.try_borrow().ok()?;
            calls.as_ref().map(|calls| (calls.backend.clone(), Some(calls.awaited.clone())))
        })
        .ok()
        .flatten();
    let (backend, awaited) = backend.unwrap_or((Backend::Host, None));
    let load = awaited.filter(|_| cmd == Cmd::ProgLoad as u32 && attr != 0).and_then(|awaited| {
        let load = read_attr(attr, size);
        (load.log_buf == awaited.log_buf && load.log_buf != 0).then_some((load, awaited))
    });
    let result = match load {
        Some((load, _)) if taken(&load) => Err(Errno::EINVAL),
        // SAFETY: by the caller's promise.
        Some((load, awaited)) => unsafe { recorded_load(&backend, load, attr, size, &awaited) },
        // SAFETY: by the caller's promise.
        None => unsafe { backend.bpf(cmd, attr, size) },
    };
    result.unwrap_or_else(|error| -i64::from(error.0))
}

/// mmap(2) of this process, with the kernel's convention for errors.
///
/// # Safety
/// As for mmap(2).
pub unsafe fn hook_mmap(addr: u64, len: u64, prot: i32, flags: i32, fd: i32, off: i64) -> i64 {
    // SAFETY: by the caller's promise.
    let pass = |fd: i32| unsafe {
        raw::syscall(libc::SYS_mmap, [addr, len, prot as u64, flags as u64, fd as u64, off as u64])
    };
    if fd >= 0
        && flags & libc::MAP_ANONYMOUS == 0
        && let Some(Backend::Emulated(kernel)) = current_backend()
    {
        let args = MmapArgs { len: len as usize, prot, flags, offset: off as u64 };
        match kernel.mmap(fd, args, |file| raw::check(pass(file))) {
            Some(Ok(address)) => return address,
            Some(Err(error)) => return -i64::from(error.0),
            None => {}
        }
    }
    pass(fd)
}

/// open(2) of this process, with the kernel's convention for errors: the kernel's BTF is that of the kernel that answers.
///
/// # Safety
/// As for open(2).
pub unsafe fn hook_open(path: *const c_char, flags: i32, mode: u32) -> i64 {
    if let Some(Backend::Emulated(kernel)) = current_backend()
        && !path.is_null()
    {
        // SAFETY: by the caller's promise.
        let path = unsafe { CStr::from_ptr(path) };
        match paths::open_vmlinux_btf(&kernel, path.to_bytes(), flags) {
            Some(Ok(fd)) => return fd.into(),
            Some(Err(error)) => return -i64::from(error.0),
            None => {}
        }
    }
    let args = [libc::AT_FDCWD as u64, path as u64, flags as u64, mode.into(), 0, 0];
    // SAFETY: passed on as it came.
    unsafe { raw::syscall(libc::SYS_openat, args) }
}

fn current_backend() -> Option<Backend> {
    CALLS.try_with(|calls| Some(calls.try_borrow().ok()?.as_ref()?.backend.clone())).ok().flatten()
}

/// Why the kernel that runs here cannot be asked, if it cannot.
pub fn host_unusable() -> Option<String> {
    let mut attr = GetId::default();
    // SAFETY: the attributes hold no addresses.
    match unsafe { raw::bpf(Cmd::ProgGetNextId as u32, &raw mut attr as u64, size_of::<GetId>() as u32) } {
        Ok(_) | Err(Errno::ENOENT) => None,
        Err(error) => Some(format!("bpf(2) fails with {error}")),
    }
}

/// Whether the kernel that runs here has BCF.
///
/// # Errors
/// A sentence about what it answers to a load that asks for it.
pub fn host_has_bcf() -> Result<(), String> {
    let insns = [
        Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 0),
        Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
    ];
    let attr = ProgLoad {
        prog_type: ProgType::SocketFilter as u32,
        insn_cnt: insns.len() as u32,
        insns: insns.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        ..ProgLoad::default()
    };
    let mut calls = client::Calls::new(attr, |attr: &mut ProgLoad| {
        // SAFETY: what the attributes point to is live.
        unsafe { raw::bpf(Cmd::ProgLoad as u32, attr as *mut ProgLoad as u64, size_of::<ProgLoad>() as u32) }
    });
    let conversation = Client::new(Limits::default(), 0, Proofs::Found).run(&mut calls);
    match conversation.result {
        Ok(fd) => {
            // SAFETY: a descriptor that was just made for us.
            unsafe { libc::close(fd as i32) };
            Ok(())
        }
        Err(_) if conversation.has_no_bcf() => Err("the kernel that runs here has no BCF".into()),
        Err(error) => Err(format!("the kernel that runs here refuses BCF with {error}")),
    }
}

fn read_attr(address: u64, size: u32) -> ProgLoad {
    let mut bytes = [0u8; ATTR_SIZE_BCF];
    let len = (size as usize).min(ATTR_SIZE_BCF);
    // SAFETY: libbpf in this process passes a live attribute union of this size.
    unsafe { std::ptr::copy_nonoverlapping(address as *const u8, bytes.as_mut_ptr(), len) };
    attr::part(&bytes)
}

/// # Safety
/// As for bpf(2).
unsafe fn recorded_load(
    backend: &Backend,
    load: ProgLoad,
    attr: u64,
    size: u32,
    awaited: &Awaited,
) -> Result<i64, Errno> {
    let cmd = Cmd::ProgLoad as u32;
    let (result, left, conversation) = match &awaited.client {
        None => {
            // SAFETY: by the caller's promise.
            let result = unsafe { backend.bpf(cmd, attr, size) };
            (result, read_attr(attr, size), None)
        }
        Some(client) => {
            let mut calls = client::Calls::new(load, |attr: &mut ProgLoad| {
                // SAFETY: the caller's load, and a buffer that the client keeps.
                unsafe { backend.bpf(cmd, attr as *mut ProgLoad as u64, size_of::<ProgLoad>() as u32) }
            });
            let conversation = client.run(&mut calls);
            (conversation.result, *calls.attr(), Some(conversation))
        }
    };
    let bcf = backend.take_bcf();
    let mut text_log = None;
    if awaited.want_text && result.is_err() && load.log_level & BPF_LOG_LEVEL == 0 {
        let mut buffer = vec![0u8; 1 << 20];
        let mut again = load;
        again.log_level = attr::BPF_LOG_LEVEL1;
        again.log_buf = buffer.as_mut_ptr() as u64;
        again.log_size = buffer.len() as u32;
        let size = size.min(size_of::<ProgLoad>() as u32);
        // SAFETY: the same load with a log buffer that lives.
        if let Ok(fd) = unsafe { backend.bpf(cmd, &raw mut again as u64, size) } {
            // SAFETY: a descriptor that was just made for us.
            unsafe { libc::close(fd as i32) };
        }
        text_log = Some(buffer);
    }
    let record = LoadRecord {
        result: result.map(|_| ()),
        log_true_size: left.log_true_size,
        text_log,
        bcf,
        conversation,
    };
    CALLS.with_borrow_mut(|calls| {
        if let Some(calls) = calls {
            calls.record = Some(record);
        }
    });
    result
}
