//! Random programs that are accepted, with and without proofs, run on many inputs: none of them makes a bad access.
//!
//! The verifier, the conditions that BCF makes of rejections, the prover and the checker all have a part in a proof; the evaluator has
//! none of them. `BPFTWIN_DIFF_ITERATIONS` and `BPFTWIN_DIFF_SEED` make the test longer and another one.

mod generator;
mod insns;
mod published;
mod refined;

use std::sync::Arc;
use std::time::Duration;

use bpftwin::bcf::checker::Policy;
use bpftwin::bcf::prover::{Limits, Verdict, prove};
use bpftwin::bcf::request::Request;
use bpftwin::btf::Btf;
use bpftwin::exec::{Program, Search, Stop};
use bpftwin::verifier::bcf::{Options, Step, Suspended, Target};
use bpftwin::verifier::bpf_check_bcf;
use bpftwin::verifier::input::{CheckInput, Outcome};
use bpftwin::verifier::prog::{MapContents, Objects, Prog, TargetProg, VerifierMap};
use bpftwin_uapi::attr::ProgLoad;
use bpftwin_uapi::{Errno, Insn, MapType, ProgType};
use generator::{Generator, MAP_FD, VALUE_SIZE};

struct OneMap(Arc<VerifierMap>);

impl Objects for OneMap {
    fn map_by_fd(&self, fd: i32) -> Result<Arc<VerifierMap>, Errno> {
        if fd == MAP_FD { Ok(Arc::clone(&self.0)) } else { Err(Errno::EBADF) }
    }

    fn btf_by_fd(&self, _: i32) -> Result<Arc<Btf>, Errno> {
        Err(Errno::EBADF)
    }

    fn prog_by_fd(&self, _: i32) -> Result<TargetProg, Errno> {
        Err(Errno::EBADF)
    }

    fn read_user(&self, _: u64, _: &mut [u8]) -> Result<(), Errno> {
        Err(Errno::EFAULT)
    }
}

struct Unfrozen;

impl MapContents for Unfrozen {
    fn frozen(&self) -> bool {
        false
    }

    fn read_value(&self, _: u32, buf: &mut [u8]) -> Result<(), Errno> {
        buf.fill(0);
        Ok(())
    }
}

fn one_map() -> Arc<dyn Objects> {
    Arc::new(OneMap(Arc::new(VerifierMap {
        identity: 1,
        map_type: MapType::Array,
        key_size: 4,
        value_size: VALUE_SIZE,
        max_entries: 1,
        map_flags: 0,
        map_extra: 0,
        name: String::new(),
        record: None,
        btf: None,
        btf_value_type_id: 0,
        inner_map_meta: None,
        offloaded: false,
        excl_prog_sha: None,
        contents: Arc::new(Unfrozen),
    })))
}

/// Verifies with proofs of at most `rounds` conditions. Gives how many it took.
fn verify(
    objects: &Arc<dyn Objects>,
    insns: &[Insn],
    options: Options,
    rounds: usize,
) -> (Box<Outcome>, usize) {
    let mut prog = Prog::new(ProgType::SchedCls, insns.to_vec());
    (prog.bpf_capable, prog.perfmon_capable, prog.gpl_compatible) = (true, true, true);
    let attr: ProgLoad = bytemuck::Zeroable::zeroed();
    let mut step = bpf_check_bcf(CheckInput {
        prog,
        attr,
        objects: Arc::clone(objects),
        btf_vmlinux: None,
        log_sink: None,
        bcf: Some(options),
    });
    let mut proofs = 0;
    loop {
        match step {
            Step::Done(outcome) => return (outcome, proofs),
            Step::Requested(suspended) if proofs >= rounds => {
                let errno = suspended.errno();
                return (suspended.give_up(errno), proofs);
            }
            Step::Requested(suspended) => step = answer(suspended, &mut proofs),
        }
    }
}

fn answer(suspended: Suspended, proofs: &mut usize) -> Step {
    let limits = Limits { timeout: Duration::from_millis(200), memory: 1 << 26, effort: Duration::ZERO };
    let errno = suspended.errno();
    let request = Request::parse(suspended.request()).expect("a request that can be read");
    for (target, root) in
        [(Target::PathUnreachable, request.path_cond), (Target::Refine, request.refine_cond)]
    {
        if let Some(Verdict::Proved(words)) = root.map(|root| prove(&request.arena, root, &limits)) {
            let proof: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            *proofs += 1;
            return suspended.resume(target, &proof, Policy::Strict);
        }
    }
    Step::Done(suspended.give_up(errno))
}

fn variable(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

fn listing(insns: &[Insn]) -> String {
    let line = |(i, insn): (usize, &Insn)| {
        format!(
            "{i}: {:#04x} r{} r{} off {} imm {:#x}\n",
            insn.code,
            insn.dst_reg(),
            insn.src_reg(),
            insn.off,
            insn.imm
        )
    };
    insns.iter().enumerate().map(line).collect()
}

#[test]
fn accepted_programs_make_no_bad_access() {
    let objects = one_map();
    let programs = variable("BPFTWIN_DIFF_ITERATIONS", 600);
    let mut generator = Generator::new(variable("BPFTWIN_DIFF_SEED", 1));
    let (mut accepted, mut proved, mut reached, mut misbehaving, mut rejected) = (0, 0, 0, 0, 0);
    for number in 0..programs {
        let insns = generator.program();
        // The published kernel's conditions are known to say too little in places, so these are not judged.
        let options = Options { auto: true, whole_path: number % 4 == 0, ..Options::default() };
        let (outcome, proofs) = verify(&objects, &insns, options, 40);
        let program = Program::new(&outcome);
        let mut search = Search::new(&program, number);
        let is_accepted = outcome.result.is_ok();
        let runs = if proofs > 0 && is_accepted { 1000 } else { 100 };
        let mut bad = None;
        for _ in 0..runs {
            match search.run(10_000).0 {
                Stop::BadAccess(found) => bad = Some(found),
                Stop::Exit(_) => {}
                stop => panic!("program {number}: {stop}\n{}", listing(&insns)),
            }
            if bad.is_some() {
                break;
            }
        }
        if let (Some(bad), true) = (bad, is_accepted) {
            panic!("program {number}, accepted with {proofs} proofs: {bad}\n{}", listing(&insns));
        }
        accepted += u32::from(is_accepted);
        rejected += u32::from(!is_accepted);
        misbehaving += u32::from(bad.is_some());
        proved += u32::from(is_accepted && proofs > 0);
        reached += u32::from(is_accepted && proofs > 0 && generator.last_access_reached(search.executed()));
    }
    println!(
        "{programs} programs: {accepted} accepted, {proved} of them with proofs, {reached} of which got to their last access; \
         {rejected} rejected, {misbehaving} of them misbehave"
    );
    // The test is worth nothing if the generator's programs are all of a kind.
    assert!(proved * 100 > programs as u32 && accepted > proved && misbehaving * 4 > rejected);
}
