//! Check mode: a program load is verified by us, then by the real kernel, and the two answers are compared.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

use bpftwin_uapi::attr::{self, ATTR_SIZE, ATTR_SIZE_BCF, BPF_LOG_LEVEL2, MapCreate, ProgLoad};
use bpftwin_uapi::{Cmd, Errno, Insn, MapType, ProgType};
use serde::Serialize;

use super::divergence::{self, Difference};
use super::prog_load::auto::{Conditions, Last, Prover};
use super::prog_load::{Loader, Refusal, prepare};
use crate::btf::Btf;
use crate::kernel::caps::{Cap, Caps};
use crate::kernel::config::KernelConfig;
use crate::kernel::host::{Host, HostObjects};
use crate::kernel::own_memory::OwnMemory;
use crate::kernel::profile::{Bcf, Profile};
use crate::kernel::raw;
use crate::kernel::settings::{Diagnostics, Settings};
use crate::kernel::user_memory::UserMemory;
use crate::verifier::bpf_check;
use crate::verifier::input::CheckInput;
use crate::verifier::log::VecSink;
use crate::verifier::prog::{Objects, Prog};

/// Bytes of our own log buffer to start with; pages that nobody writes cost nothing.
const LOG_SIZE: u32 = 64 << 20;
/// The kernel takes no larger log buffer: `UINT_MAX >> 2`.
const MAX_LOG_SIZE: u32 = u32::MAX >> 2;

/// Checks the loads of this process.
pub struct Checker {
    host: Arc<Host>,
    settings: Settings,
    /// The running kernel's, where it tells: found at the first load.
    config: OnceLock<Arc<KernelConfig>>,
    /// Where it is to be said what proofs would do for rejected programs.
    prover: Option<Prover>,
    counts: Counts,
}

#[derive(Default)]
struct Counts {
    /// Process that these are the counts of: a child of fork starts anew.
    process: AtomicU32,
    loads: AtomicU64,
    equal: AtomicU64,
    diverging: AtomicU64,
    not_emulated: AtomicU64,
    skipped: AtomicU64,
}

/// A load as our verifier takes it.
struct Prepared {
    prog: Prog,
    objects: Arc<dyn Objects>,
    btf_vmlinux: Option<Arc<Btf>>,
}

/// An answer to a load.
struct Answer {
    result: Result<(), Errno>,
    log_true_size: Option<u32>,
    log: String,
    not_emulated: Option<String>,
}

impl Answer {
    fn errno(&self) -> Errno {
        self.result.err().unwrap_or(Errno(0))
    }
}

/// What is wrong with our answer.
#[derive(Serialize)]
struct Divergence {
    /// Log level of the comparison.
    log_level: u32,
    ours: String,
    kernel: String,
    ours_log_true_size: Option<u32>,
    kernel_log_true_size: Option<u32>,
    difference: Option<Difference>,
}

impl Checker {
    pub fn new(settings: Settings) -> Self {
        Checker {
            host: Arc::new(Host::default()),
            config: OnceLock::new(),
            prover: (settings.bcf == Bcf::Auto)
                .then(|| Prover::new(settings.bcf_limits, Conditions::Sound, false, Diagnostics::Off)),
            settings,
            counts: Counts::default(),
        }
    }

    /// Answers a call as the real kernel does, and compares where it is a program load.
    pub fn bpf(&self, cmd: u32, attr: u64, size: u32) -> Result<i64, Errno> {
        // SAFETY: the calling program's own call, passed on as it came.
        let pass = || unsafe { raw::bpf(cmd, attr, size) };
        match Cmd::from_u32(cmd) {
            Some(Cmd::ProgLoad) => self.prog_load(attr, size, pass),
            Some(Cmd::MapCreate) => {
                let result = pass();
                if let (Ok(fd), Some(bytes)) = (result, read_attr(attr, size)) {
                    let create: MapCreate = attr::part(&bytes);
                    let of_maps = [MapType::ArrayOfMaps as u32, MapType::HashOfMaps as u32];
                    if of_maps.contains(&create.map_type) {
                        self.host.note_map_of_maps(fd as i32, create.inner_map_fd as i32);
                    }
                }
                result
            }
            Some(Cmd::BtfLoad) => {
                let result = pass();
                if let Ok(fd) = result {
                    self.host.note_btf(fd as i32);
                }
                result
            }
            _ => pass(),
        }
    }

    fn prog_load(
        &self,
        address: u64,
        size: u32,
        pass: impl FnOnce() -> Result<i64, Errno>,
    ) -> Result<i64, Errno> {
        self.counts.enter();
        // Loads that do not get as far as their attributes have nothing to compare.
        let Some(bytes) = read_attr(address, size).filter(|bytes| bytes[ATTR_SIZE..].iter().all(|b| *b == 0))
        else {
            self.counts.skipped.fetch_add(1, Ordering::Relaxed);
            return pass();
        };
        let load: ProgLoad = attr::part(&bytes);
        let ours = self.ours(&load);
        let full = (self.settings.check_log_level != 0
            && load.log_level != BPF_LOG_LEVEL2 | attr::BPF_LOG_FIXED)
            .then(|| self.full_logs(&load));
        let result = pass();
        let theirs = host_answer(&load, address, size, result);
        self.judge(&load, &ours, &theirs, full);
        if ours.result.is_err() && theirs.result.is_err() {
            self.report_proofs(&load);
        }
        result
    }

    fn config(&self) -> Arc<KernelConfig> {
        let of_host = || {
            let mut config =
                KernelConfig::of_host().unwrap_or_else(|| Profile::new(self.settings.series).config);
            config.lockdown_bpf_write_user |= Host::locks_write_user();
            Arc::new(config)
        };
        Arc::clone(self.config.get_or_init(of_host))
    }

    /// A load as our verifier takes it.
    fn prepare(&self, load: &ProgLoad) -> Result<Prepared, Refusal> {
        self.host.take_hidden();
        let objects: Arc<dyn Objects> = Arc::new(HostObjects { host: Arc::clone(&self.host) });
        let caps = Caps::Real.current();
        let loader = Loader {
            cap_bpf: caps.capable_or_admin(Cap::BPF),
            cap_perfmon: caps.capable_or_admin(Cap::PERFMON),
            cap_net_admin: caps.capable_or_admin(Cap::NET_ADMIN),
            cap_sys_admin: caps.sys_admin(),
            unprivileged_bpf_disabled: Host::unprivileged_bpf_disabled(),
            objects: Arc::clone(&objects),
            btf_vmlinux: self.host.vmlinux(),
            config: self.config(),
        };
        let prog = prepare(load, &loader)?;
        Ok(Prepared { prog, objects, btf_vmlinux: loader.btf_vmlinux })
    }

    /// Our answer to a load.
    fn ours(&self, load: &ProgLoad) -> Answer {
        let Prepared { prog, objects, btf_vmlinux } = match self.prepare(load) {
            Ok(prepared) => prepared,
            Err(refusal) => {
                return Answer {
                    result: Err(refusal.errno),
                    log_true_size: None,
                    log: String::new(),
                    not_emulated: refusal
                        .not_emulated
                        .map(|what| what.into_owned())
                        .or_else(|| self.host.take_hidden()),
                };
            }
        };
        let sink = VecSink::default();
        let outcome = bpf_check(CheckInput {
            prog,
            attr: *load,
            objects,
            btf_vmlinux,
            log_sink: (load.log_buf != 0).then(|| Box::new(sink.clone()) as _),
            bcf: None,
        });
        Answer {
            result: outcome.result,
            log_true_size: outcome.log_true_size,
            log: sink.text(),
            not_emulated: outcome.not_emulated.or_else(|| self.host.take_hidden()),
        }
    }

    /// Tells whether proofs would save a program that is rejected.
    fn report_proofs(&self, load: &ProgLoad) {
        let (Some(prover), Ok(prepared)) = (&self.prover, self.prepare(load)) else { return };
        let silent = ProgLoad { log_level: 0, log_buf: 0, log_size: 0, ..*load };
        let (outcome, proofs) = prover.verify(&|bcf| CheckInput {
            prog: prepared.prog.clone(),
            attr: silent,
            objects: Arc::clone(&prepared.objects),
            btf_vmlinux: prepared.btf_vmlinux.clone(),
            log_sink: None,
            bcf,
        });
        let found = match (outcome.result, proofs.last) {
            (Ok(()), Last::None) => ", though no input takes the path to it".into(),
            (Ok(()), _) => match proofs.proofs() {
                1 => ", 1 proof would make it safe".into(),
                count => format!(", {count} proofs would make it safe"),
            },
            (Err(_), Last::Refuted) => {
                "; no proof would make it safe: what would go wrong can be met".to_owned()
            }
            (Err(_), Last::Unknown) => {
                let reason = proofs.reason.as_deref().unwrap_or("no answer");
                format!("; whether proofs would make it safe is unknown: {reason}")
            }
            // It asks for nothing that could be proved, or not in the end.
            (Err(_), Last::None | Last::Proved) => return,
        };
        let (name, kind) = title(load);
        self.report(&format!(
            "bpftwin: check: the running kernel rejects this{found} (prog {name}, type {kind}, {} bytes of proofs, {} ms)\n",
            proofs.proof_bytes,
            proofs.proving.as_millis()
        ));
    }

    /// Both answers to the load at log level 2, into buffers of our own.
    fn full_logs(&self, load: &ProgLoad) -> (Answer, Answer) {
        let mut load = *load;
        load.log_level = self.settings.check_log_level;
        let mut size = LOG_SIZE;
        loop {
            let mut buffer = vec![0u8; size as usize];
            load.log_buf = buffer.as_mut_ptr() as u64;
            load.log_size = size;
            // SAFETY: the calling program's load, with a log buffer that lives.
            let result = unsafe { raw::bpf(Cmd::ProgLoad as u32, &raw mut load as u64, ATTR_SIZE as u32) };
            if let Ok(fd) = result {
                // SAFETY: a descriptor that was just made for us.
                unsafe { raw::syscall(libc::SYS_close, [fd as u64, 0, 0, 0, 0, 0]) };
            }
            if result == Err(Errno::ENOSPC) && load.log_true_size > size && load.log_true_size <= MAX_LOG_SIZE
            {
                size = load.log_true_size;
                continue;
            }
            let theirs = Answer {
                result: result.map(|_| ()),
                log_true_size: Some(load.log_true_size),
                log: text_of(&buffer),
                not_emulated: None,
            };
            // A buffer that is too small for the whole log, as the largest one may be, keeps the same part of both.
            return (self.ours(&load), theirs);
        }
    }

    fn judge(&self, load: &ProgLoad, ours: &Answer, theirs: &Answer, full: Option<(Answer, Answer)>) {
        let (name, kind) = title(load);
        let missing =
            ours.not_emulated.as_ref().or(full.as_ref().and_then(|(ours, _)| ours.not_emulated.as_ref()));
        if let Some(what) = missing {
            self.counts.not_emulated.fetch_add(1, Ordering::Relaxed);
            self.report(&format!(
                "bpftwin: check: not emulated: {what} (prog {name}, type {kind}, kernel {})\n",
                verdict(theirs)
            ));
            return;
        }
        let shown = full.as_ref().map_or((ours, theirs), |(ours, theirs)| (ours, theirs));
        if is_policy(load, shown) {
            self.counts.skipped.fetch_add(1, Ordering::Relaxed);
            self.report(&format!(
                "bpftwin: check: not compared: refused before the verifier by a policy of this host (prog {name}, \
                 type {kind}, ours {})\n",
                verdict(ours)
            ));
            return;
        }
        let divergence = compare(load.log_level, ours, theirs).or_else(|| {
            full.as_ref().and_then(|(ours, theirs)| compare(self.settings.check_log_level, ours, theirs))
        });
        let Some(divergence) = divergence else {
            self.counts.equal.fetch_add(1, Ordering::Relaxed);
            if let Diagnostics::File(_) = self.settings.diagnostics {
                self.report(&format!(
                    "bpftwin: check: equal (prog {name}, type {kind}, {})\n",
                    verdict(theirs)
                ));
            }
            return;
        };
        self.counts.diverging.fetch_add(1, Ordering::Relaxed);
        let mut text =
            format!("bpftwin: check: DIVERGES (prog {name}, type {kind}, level {})\n", divergence.log_level);
        if divergence.ours != divergence.kernel {
            let _ = writeln!(text, "  verdict: ours {}, host {}", divergence.ours, divergence.kernel);
        }
        if divergence.ours_log_true_size != divergence.kernel_log_true_size {
            let _ = writeln!(
                text,
                "  log_true_size: ours {:?}, host {:?}",
                divergence.ours_log_true_size, divergence.kernel_log_true_size
            );
        }
        if let Some(difference) = &divergence.difference {
            let _ = write!(text, "{difference}");
        }
        if let Some(dir) = &self.settings.dump {
            match dump(dir, load, &name, &divergence, shown) {
                Ok(path) => _ = writeln!(text, "  dump: {}", path.display()),
                Err(error) => _ = writeln!(text, "  no dump: {error}"),
            }
        }
        self.report(&text);
    }

    /// Reports are wanted: without a place for them they go to standard error.
    fn report(&self, text: &str) {
        match &self.settings.diagnostics {
            Diagnostics::Off => Diagnostics::Stderr.write(text),
            place => place.write(text),
        }
    }

    /// Reports the counts of this process, where it made any loads.
    pub fn summary(&self) {
        let counts = &self.counts;
        if counts.process.load(Ordering::Relaxed) != std::process::id() {
            return;
        }
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        self.report(&format!(
            "bpftwin: check: {} program loads: {} equal, {} diverge, {} not emulated, {} not compared\n",
            get(&counts.loads),
            get(&counts.equal),
            get(&counts.diverging),
            get(&counts.not_emulated),
            get(&counts.skipped),
        ));
    }
}

impl Counts {
    fn enter(&self) {
        let process = std::process::id();
        if self.process.swap(process, Ordering::Relaxed) != process {
            for count in [&self.loads, &self.equal, &self.diverging, &self.not_emulated, &self.skipped] {
                count.store(0, Ordering::Relaxed);
            }
        }
        self.loads.fetch_add(1, Ordering::Relaxed);
    }
}

/// Name and type of a load's program, as reports show them.
fn title(load: &ProgLoad) -> (String, String) {
    let kind = ProgType::from_u32(load.prog_type).map_or("?", ProgType::name);
    (text_of(&load.prog_name), kind.trim_start_matches("BPF_PROG_TYPE_").to_ascii_lowercase())
}

fn verdict(answer: &Answer) -> String {
    match answer.result {
        Ok(()) => "accepted".into(),
        Err(error) => error.to_string(),
    }
}

fn text_of(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

/// The caller's attributes with zeros behind them, where they can be read.
fn read_attr(address: u64, size: u32) -> Option<[u8; ATTR_SIZE_BCF]> {
    let mut bytes = [0u8; ATTR_SIZE_BCF];
    let len = (size as usize).min(bytes.len());
    OwnMemory.read(address, &mut bytes[..len]).ok()?;
    Some(bytes)
}

/// The real kernel's answer, as the caller sees it.
fn host_answer(load: &ProgLoad, address: u64, size: u32, result: Result<i64, Errno>) -> Answer {
    let after: Option<ProgLoad> = read_attr(address, size).map(|bytes| attr::part(&bytes));
    let true_size = after.map(|after| after.log_true_size).filter(|_| size as usize >= 144);
    let mut log = String::new();
    if load.log_buf != 0 && load.log_level != 0 {
        let mut buffer = vec![0u8; load.log_size.min(true_size.unwrap_or(u32::MAX)) as usize];
        if OwnMemory.read(load.log_buf, &mut buffer).is_ok() {
            log = text_of(&buffer);
        }
    }
    Answer { result: result.map(|_| ()), log_true_size: true_size, log, not_emulated: None }
}

/// Whether the host's refusal is that of a security module: programs that attach to code of the kernel get `EPERM` and
/// no word, where nothing of what we know forbids them.
fn is_policy(load: &ProgLoad, (ours, theirs): (&Answer, &Answer)) -> bool {
    let attaches = [ProgType::Tracing, ProgType::Lsm, ProgType::Ext].map(|kind| kind as u32);
    attaches.contains(&load.prog_type)
        && theirs.result == Err(Errno::EPERM)
        && theirs.log.is_empty()
        && (ours.result.is_ok() || !ours.log.is_empty())
}

fn compare(log_level: u32, ours: &Answer, theirs: &Answer) -> Option<Divergence> {
    let difference = divergence::first_difference(&ours.log, &theirs.log);
    let same_size = match (ours.log_true_size, theirs.log_true_size) {
        // Measured times change the length by a few digits.
        (Some(ours), Some(theirs)) => ours.abs_diff(theirs) <= 8,
        _ => true,
    };
    if ours.errno() == theirs.errno() && difference.is_none() && same_size {
        return None;
    }
    Some(Divergence {
        log_level,
        ours: verdict(ours),
        kernel: verdict(theirs),
        ours_log_true_size: ours.log_true_size,
        kernel_log_true_size: theirs.log_true_size,
        difference,
    })
}

/// A program that diverges, for replay.
#[derive(Serialize)]
struct Dump<'a> {
    name: &'a str,
    prog_type: u32,
    expected_attach_type: u32,
    prog_flags: u32,
    log_level: u32,
    license: String,
    attach_btf_id: u32,
    func_info_cnt: u32,
    line_info_cnt: u32,
    core_relo_cnt: u32,
    fd_array_cnt: u32,
    /// Eight bytes each, as stored.
    insns: Vec<String>,
    divergence: &'a Divergence,
}

static DUMPS: AtomicU32 = AtomicU32::new(0);

fn dump(
    dir: &Path,
    load: &ProgLoad,
    name: &str,
    divergence: &Divergence,
    (ours, theirs): (&Answer, &Answer),
) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(dir)?;
    let mut insns = vec![Insn::default(); load.insn_cnt.min(1_000_000) as usize];
    let _ = OwnMemory.read(load.insns, bytemuck::cast_slice_mut(&mut insns));
    let mut license = [0u8; 128];
    for (i, byte) in license.iter_mut().enumerate() {
        if OwnMemory.read(load.license + i as u64, std::slice::from_mut(byte)).is_err() || *byte == 0 {
            break;
        }
    }
    let dump = Dump {
        name,
        prog_type: load.prog_type,
        expected_attach_type: load.expected_attach_type,
        prog_flags: load.prog_flags,
        log_level: load.log_level,
        license: text_of(&license),
        attach_btf_id: load.attach_btf_id,
        func_info_cnt: load.func_info_cnt,
        line_info_cnt: load.line_info_cnt,
        core_relo_cnt: load.core_relo_cnt,
        fd_array_cnt: load.fd_array_cnt,
        insns: insns
            .iter()
            .map(|insn| bytemuck::bytes_of(insn).iter().map(|byte| format!("{byte:02x}")).collect())
            .collect(),
        divergence,
    };
    let name = name.replace('/', "_");
    let number = DUMPS.fetch_add(1, Ordering::Relaxed);
    let base = dir.join(format!("{name}-{}-{number}", std::process::id()));
    let path = base.with_extension("json");
    std::fs::write(&path, serde_json::to_vec_pretty(&dump).map_err(std::io::Error::other)?)?;
    std::fs::write(base.with_extension("ours.log"), &ours.log)?;
    std::fs::write(base.with_extension("host.log"), &theirs.log)?;
    Ok(path)
}
