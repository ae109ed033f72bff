//! Programs of objects, verified in this process, with all that verification leaves.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::ffi::{c_int, c_long, c_void};
use std::path::Path;
use std::sync::Arc;

use bpftwin::bcf::checker::Policy;
use bpftwin::bcf::prover::{Limits, Verdict, prove};
use bpftwin::bcf::request::Request;
use bpftwin::cli::object::{Object, take_warnings};
use bpftwin::kernel::mapping::MmapArgs;
use bpftwin::kernel::own_memory::{self, OwnMemory};
use bpftwin::kernel::settings::Settings;
use bpftwin::kernel::{Kernel, KernelObjects, KernelSettings, raw};
use bpftwin::syscall::prog_load::{self, prepare};
use bpftwin::verifier::bcf::{Options, Step, Suspended, Target};
use bpftwin::verifier::input::{CheckInput, Outcome};
use bpftwin::verifier::log::VecSink;
use bpftwin::verifier::prog::Objects;
use bpftwin::verifier::{bpf_check, bpf_check_bcf};
use bpftwin_uapi::attr::{self, ATTR_SIZE_BCF, ProgLoad};
use bpftwin_uapi::{Cmd, Errno, ProgType};

/// A verification.
pub struct Loaded {
    pub outcome: Box<Outcome>,
    pub proofs: usize,
    /// Instructions at which BCF was needed.
    pub refined: BTreeSet<u32>,
}

impl Loaded {
    /// Instructions of the program, the second halves of 64-bit immediates aside.
    pub fn seen(&self) -> usize {
        let insns = &self.outcome.prog.insns;
        insns.len() - insns.iter().filter(|insn| insn.is_ldimm64()).count()
    }
}

struct Calls {
    kernel: Arc<Kernel>,
    bcf: bool,
    /// Log buffer by which the load is recognised.
    log_buf: u64,
    loaded: Option<Result<Loaded, String>>,
}

thread_local! {
    static CALLS: RefCell<Option<Calls>> = const { RefCell::new(None) };
}

pub struct Loader {
    settings: Settings,
    bcf: bool,
}

impl Loader {
    pub fn new(bcf: bool) -> Self {
        Loader { settings: Settings::from_env().expect("the environment's settings"), bcf }
    }

    pub fn custom_btf(&self) -> Option<&Path> {
        self.settings.custom_btf()
    }

    /// Verifies a program of an object; the reason where it does not get that far.
    pub fn load(&self, path: &Path, index: usize, default_type: ProgType) -> Result<Loaded, String> {
        let mut object = Object::open(path, self.custom_btf()).map_err(|error| error.to_string())?;
        let mut log = vec![0u8; 4096];
        object.select(index, Some(default_type));
        object.set_log(index, 4, &mut log);
        let kernel = Kernel::new(KernelSettings { quiet: true, ..self.settings.kernel_settings() });
        CALLS.set(Some(Calls {
            kernel: Arc::new(kernel),
            bcf: self.bcf,
            log_buf: log.as_ptr() as u64,
            loaded: None,
        }));
        let _ = object.load();
        drop(object);
        let calls = CALLS.take();
        let warnings = take_warnings();
        calls.and_then(|calls| calls.loaded).unwrap_or_else(|| Err(format!("not loaded: {warnings:?}")))
    }
}

fn verify(kernel: &Arc<Kernel>, bcf: bool, mut load: ProgLoad) -> Result<Loaded, String> {
    let objects: Arc<dyn Objects> = Arc::new(KernelObjects::new(kernel, Arc::new(OwnMemory)));
    let loader = prog_load::Loader {
        cap_bpf: true,
        cap_perfmon: true,
        cap_net_admin: true,
        cap_sys_admin: true,
        unprivileged_bpf_disabled: true,
        objects: Arc::clone(&objects),
        btf_vmlinux: kernel.needed_btf_vmlinux(),
        config: Arc::new(kernel.profile().config.clone()),
    };
    let prog = prepare(&load, &loader).map_err(|refusal| format!("refused: {}", refusal.errno))?;
    let sink = VecSink::default();
    (load.log_level, load.log_size) = (if bcf { 2 } else { 0 }, u32::MAX >> 2);
    if !bcf {
        (load.log_buf, load.log_size) = (0, 0);
    }
    let input = CheckInput {
        prog,
        attr: load,
        objects,
        btf_vmlinux: loader.btf_vmlinux,
        log_sink: bcf.then(|| Box::new(sink.clone()) as _),
        bcf: bcf.then_some(Options { auto: true, ..Options::default() }),
    };
    if !bcf {
        return Ok(Loaded { outcome: Box::new(bpf_check(input)), proofs: 0, refined: BTreeSet::new() });
    }
    let mut proofs = 0;
    let mut step = bpf_check_bcf(input);
    let outcome = loop {
        match step {
            Step::Done(outcome) => break outcome,
            Step::Requested(suspended) => {
                step = answer(suspended);
                proofs += 1;
            }
        }
    };
    Ok(Loaded { outcome, proofs, refined: refined(&sink.text()) })
}

/// Proves one of the conditions, the path's first, or gives up.
fn answer(suspended: Suspended) -> Step {
    let errno = suspended.errno();
    let Ok(request) = Request::parse(suspended.request()) else {
        return Step::Done(suspended.give_up(errno));
    };
    for (target, root) in
        [(Target::PathUnreachable, request.path_cond), (Target::Refine, request.refine_cond)]
    {
        if let Some(Verdict::Proved(words)) = root.map(|root| prove(&request.arena, root, &Limits::default()))
        {
            let proof: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            return suspended.resume(target, &proof, Policy::Strict);
        }
    }
    Step::Done(suspended.give_up(errno))
}

/// Instructions that the log shows right before BCF says that it is needed.
fn refined(log: &str) -> BTreeSet<u32> {
    let mut refined = BTreeSet::new();
    let mut current: Option<u32> = None;
    for line in log.lines() {
        if line.starts_with("bcf requested") || line.starts_with("BCF: ") {
            refined.extend(current);
        } else if let Some((number, rest)) = line.split_once(": (")
            && rest.as_bytes().get(2) == Some(&b')')
        {
            current = number.parse().ok().or(current);
        }
    }
    refined
}

fn bpf(cmd: u32, address: u64, size: u32) -> Result<i64, Errno> {
    CALLS.with_borrow_mut(|calls| {
        // SAFETY: a call of libbpf's in this process, passed on as it came.
        let Some(calls) = calls else { return unsafe { raw::bpf(cmd, address, size) } };
        if cmd == Cmd::ProgLoad as u32 && address != 0 {
            let mut bytes = [0u8; ATTR_SIZE_BCF];
            let len = (size as usize).min(bytes.len());
            // SAFETY: libbpf passes a live attribute union of this size.
            unsafe { std::ptr::copy_nonoverlapping(address as *const u8, bytes.as_mut_ptr(), len) };
            let load: ProgLoad = attr::part(&bytes);
            if load.log_buf == calls.log_buf {
                calls.loaded = Some(verify(&calls.kernel, calls.bcf, load));
                // What becomes of the object does not matter any more.
                return Err(Errno::EINVAL);
            }
        }
        own_memory::bpf(&calls.kernel, cmd, address, size)
    })
}

fn libc_result(result: Result<i64, Errno>) -> i64 {
    result.unwrap_or_else(|error| {
        // SAFETY: the location of this thread's errno is always valid.
        unsafe { *libc::__errno_location() = error.0 };
        -1
    })
}

/// `syscall(2)`, which libbpf makes its calls by.
///
/// # Safety
/// As for the system call that is made.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn syscall(number: c_long, a: u64, b: u64, c: u64, d: u64, e: u64, f: u64) -> c_long {
    if number == libc::SYS_bpf {
        return libc_result(bpf(a as u32, b, c as u32));
    }
    // SAFETY: passed on as it came.
    libc_result(raw::check(unsafe { raw::syscall(number, [a, b, c, d, e, f]) }))
}

/// `mmap(2)`.
///
/// # Safety
/// As for mmap(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap(
    addr: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    off: i64,
) -> *mut c_void {
    let args = [addr as u64, len as u64, prot as u64, flags as u64, fd as u64, off as u64];
    let pass = |fd: i32| {
        // SAFETY: passed on as it came, but for the descriptor.
        let result =
            unsafe { raw::syscall(libc::SYS_mmap, [args[0], args[1], args[2], args[3], fd as u64, args[5]]) };
        raw::check(result)
    };
    let of_kernel = || {
        let kernel = CALLS.try_with(|calls| Some(Arc::clone(&calls.try_borrow().ok()?.as_ref()?.kernel)));
        kernel.ok()??.mmap(fd, MmapArgs { len, prot, flags, offset: off as u64 }, pass)
    };
    let is_file = fd >= 0 && flags & libc::MAP_ANONYMOUS == 0;
    libc_result(is_file.then(of_kernel).flatten().unwrap_or_else(|| pass(fd))) as *mut c_void
}

/// `mmap64`, the same where addresses have 64 bits.
///
/// # Safety
/// As for mmap(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mmap64(
    addr: *mut c_void,
    len: usize,
    prot: c_int,
    flags: c_int,
    fd: c_int,
    off: i64,
) -> *mut c_void {
    // SAFETY: passed on as it came.
    unsafe { mmap(addr, len, prot, flags, fd, off) }
}
