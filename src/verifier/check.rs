//! `bpf_check`: the phases of a verification, in order.

use std::time::{Duration, Instant};

use bpftwin_uapi::attr::{
    BPF_F_ANY_ALIGNMENT, BPF_F_STRICT_ALIGNMENT, BPF_F_TEST_REG_INVARIANTS, BPF_F_TEST_STATE_FREQ,
};

use super::bcf::{Bcf, Step, Suspended};
use super::check_btf::RecSizes;
use super::input::{CheckInput, Outcome, Stats};
use super::log::Log;
use super::print_state::Scratched;
use super::{Features, Result, Verifier};

/// Verifies a program; with BCF, up to the first condition that is to be proved.
pub fn bpf_check_bcf(input: CheckInput) -> Step {
    let start = Instant::now();
    let mut env = match Verifier::new(input) {
        Ok(env) => env,
        Err(outcome) => return Step::Done(outcome),
    };
    if let Err(errno) = env.check_before_walk() {
        return Step::Done(Box::new(env.conclude(Err(errno), start)));
    }
    env.go_on(start)
}

/// Verifies a program without BCF.
pub fn bpf_check(input: CheckInput) -> Outcome {
    match bpf_check_bcf(CheckInput { bcf: None, ..input }) {
        Step::Done(outcome) => *outcome,
        // Nothing is requested where BCF is off.
        Step::Requested(suspended) => {
            let errno = suspended.errno();
            *suspended.give_up(errno)
        }
    }
}

impl Verifier {
    /// A verification that is about to begin; its outcome, where the log's attributes make no sense.
    fn new(input: CheckInput) -> std::result::Result<Box<Self>, Box<Outcome>> {
        let CheckInput { prog, attr, objects, btf_vmlinux, log_sink, bcf } = input;
        let sink = log_sink.filter(|_| attr.log_buf != 0);
        let (log, bad_log) = match Log::new(attr.log_level, attr.log_size, sink) {
            Ok(log) => (log, None),
            Err(err) => (Log::disabled(), Some(err)),
        };
        let insn_cnt = prog.insns.len();
        let perfmon = prog.perfmon_capable;
        let env = Box::new(Self {
            features: if bcf.is_some_and(|options| !options.auto) { Features::EARLY } else { Features::LATE },
            tracking: false,
            bcf: bcf.filter(|_| prog.bpf_capable).map(|options| Box::new(Bcf::new(options))),
            verification_time: Duration::ZERO,
            rec_sizes: RecSizes::default(),
            log,
            objects,
            btf_vmlinux,
            maps: Vec::new(),
            used_map_cnt: 0,
            inner_map_idx: Vec::new(),
            used_btfs: Vec::new(),
            insn_aux: vec![Default::default(); insn_cnt],
            subprog_info: Vec::new(),
            subprog_cnt: 0,
            func_info: Vec::new(),
            func_info_aux: Vec::new(),
            nr_cpu_ids: crate::kernel::profile::nr_cpu_ids(),
            exception_callback_subprog: 0,
            insn_postorder: Vec::new(),
            scc_cnt: 0,
            scc_info: Vec::new(),
            explore_alu_limits: false,
            not_emulated: None,
            allow_ptr_leaks: perfmon,
            allow_uninit_stack: perfmon,
            bpf_capable: prog.bpf_capable,
            bypass_spec_v1: perfmon,
            bypass_spec_v4: perfmon,
            strict_alignment: attr.prog_flags & (BPF_F_STRICT_ALIGNMENT | BPF_F_ANY_ALIGNMENT)
                == BPF_F_STRICT_ALIGNMENT,
            test_state_freq: prog.bpf_capable && attr.prog_flags & BPF_F_TEST_STATE_FREQ != 0,
            test_reg_invariants: attr.prog_flags & BPF_F_TEST_REG_INVARIANTS != 0,
            insn_idx: 0,
            prev_insn_idx: 0,
            id_gen: 0,
            seen_direct_write: false,
            cur_state: Box::default(),
            cur_hist_ent: None,
            states: Default::default(),
            stack: Vec::new(),
            explored_states: Vec::new(),
            free_list: Vec::new(),
            bt: Default::default(),
            idmap_scratch: Default::default(),
            liveness: Default::default(),
            pass_cnt: 0,
            insn_processed: 0,
            prev_insn_processed: 0,
            jmps_processed: 0,
            prev_jmps_processed: 0,
            max_states_per_insn: 0,
            total_states: 0,
            peak_states: 0,
            explored_states_size: 0,
            free_list_size: 0,
            num_backedges: 0,
            linfo: Vec::new(),
            prev_linfo: None,
            scratched: Scratched::NONE,
            prev_log_pos: 0,
            prev_insn_print_pos: 0,
            prog,
            attr,
        });
        match bad_log {
            None => Ok(env),
            Some(err) => Err(Box::new(env.into_outcome(Err(err), None, Stats::default()))),
        }
    }

    /// The walk, from its beginning or from where a proof was asked for, and what comes behind it.
    pub(super) fn go_on(mut self: Box<Self>, start: Instant) -> Step {
        let walked = if self.walk_done() {
            Ok(())
        } else {
            self.do_check_main().and_then(|()| self.do_check_subprogs())
        };
        match self.bcf_request_after(walked) {
            Some(errno) => {
                self.verification_time += start.elapsed();
                self.log.flush();
                Step::Requested(Suspended::new(self, errno))
            }
            None => {
                let verified = walked.and_then(|()| self.check_after_walk());
                Step::Done(Box::new(self.conclude(verified, start)))
            }
        }
    }

    /// Statistics and the end of the log. `start` is when the last of the verification's rounds began.
    pub(super) fn conclude(mut self: Box<Self>, verified: Result<()>, start: Instant) -> Outcome {
        self.verification_time += start.elapsed();
        let mut stats = self.stats();
        stats.verification_time = u64::try_from(self.verification_time.as_nanos()).unwrap_or(u64::MAX);
        self.print_verification_stats(&stats, verified.is_ok());
        let (log_true_size, logged) = self.log.finalize();
        // Trouble with the log hides what the verification found.
        let result = logged.and(verified);
        self.into_outcome(result, Some(log_true_size), stats)
    }

    fn check_before_walk(&mut self) -> Result<()> {
        self.process_fd_array()?;
        self.check_btf_info_early()?;
        self.add_subprog_and_kfunc()?;
        self.check_subprogs()?;
        self.check_btf_info()?;
        self.resolve_pseudo_ldimm64()?;
        self.check_cfg()?;
        self.compute_postorder()?;
        self.check_attach_btf_id()?;
        self.compute_scc()?;
        self.compute_live_registers()?;
        self.mark_fastcall_patterns()?;
        if !self.bypass_spec_v1 || !self.bypass_spec_v4 {
            return self.not_emulated("speculative paths of unprivileged programs");
        }
        self.add_inner_map_templates();
        self.explored_states = vec![Vec::new(); self.prog.insns.len()];
        self.scc_info.resize_with(self.scc_cnt as usize + 1, Vec::new);
        Ok(())
    }

    fn check_after_walk(&mut self) -> Result<()> {
        self.remove_fastcall_spills_fills()?;
        self.check_max_stack_depth()?;
        self.check_removed_callbacks()?;
        self.check_calls_with_map()?;
        self.note_helpers();
        Ok(())
    }

    fn stats(&self) -> Stats {
        Stats {
            insn_processed: self.insn_processed,
            max_states_per_insn: self.max_states_per_insn,
            total_states: self.total_states,
            peak_states: self.peak_states,
            longest_mark_read: 0,
            verification_time: 0,
            proof_check_time: self.bcf.as_ref().map_or(0, |bcf| bcf.check_time.as_nanos() as u64),
        }
    }

    fn into_outcome(
        mut self: Box<Self>,
        result: Result<()>,
        log_true_size: Option<u32>,
        stats: Stats,
    ) -> Outcome {
        let map_uses = self.map_uses();
        self.maps.truncate(self.used_map_cnt);
        let bcf_engaged = self.bcf.as_ref().is_some_and(|bcf| bcf.engaged);
        let trail = self.take_trail();
        Outcome {
            result,
            log_true_size,
            not_emulated: self.not_emulated,
            rec_sizes: self.rec_sizes,
            stats,
            used_maps: self.maps,
            map_uses,
            subprog_starts: self
                .subprog_info
                .iter()
                .take(self.subprog_cnt)
                .map(|subprog| subprog.start)
                .collect(),
            func_info: bytemuck::cast_slice(&self.func_info).to_vec(),
            line_info: bytemuck::cast_slice(&self.linfo).to_vec(),
            bcf_engaged,
            trail,
            prog: self.prog,
        }
    }
}
