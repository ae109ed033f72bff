//! Programs of objects, verified in this process, with all that verification leaves.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, mpsc};

use bpftwin::bcf::checker::Policy;
use bpftwin::bcf::prover::{Limits, Verdict, prove};
use bpftwin::bcf::request::Request;
use bpftwin::cli;
use bpftwin::cli::object::{Object, take_warnings};
use bpftwin::kernel::own_memory::OwnMemory;
use bpftwin::kernel::settings::Settings;
use bpftwin::kernel::{Kernel, KernelObjects, KernelSettings};
use bpftwin::syscall::prog_load::{self, prepare};
use bpftwin::verifier::bcf::{Options, Step, Suspended, Target};
use bpftwin::verifier::input::{CheckInput, Outcome};
use bpftwin::verifier::log::VecSink;
use bpftwin::verifier::prog::Objects;
use bpftwin::verifier::{bpf_check, bpf_check_bcf};
use bpftwin_uapi::ProgType;
use bpftwin_uapi::attr::ProgLoad;

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
        let settings = KernelSettings { quiet: true, ..self.settings.kernel_settings() };
        let kernel = Arc::new(Kernel::new(settings));
        let (sender, receiver) = mpsc::channel();
        let take = {
            let (kernel, bcf) = (Arc::clone(&kernel), self.bcf);
            move |load: &ProgLoad| {
                // Whoever waits for it is below.
                let _ = sender.send(verify(&kernel, bcf, *load));
            }
        };
        cli::with_load_taken(kernel, log.as_ptr() as u64, take, || {
            let _ = object.load();
            drop(object);
        });
        let warnings = take_warnings();
        receiver.try_recv().unwrap_or_else(|_| Err(format!("not loaded: {warnings:?}")))
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
