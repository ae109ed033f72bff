//! `BPFTWIN_BCF=kernel`: loads that go on with proofs, as a patched client sees them. Each test runs itself again under the
//! preload library.

#[path = "../client/mod.rs"]
mod client;
mod corners;
mod descriptors;
mod hostile;
mod measured;
mod patched_client;
mod programs;

use std::time::Duration;

use bpftwin::bcf::prover::{Limits, Verdict, prove};
use bpftwin::bcf::request::Request;
use bpftwin_uapi::attr::ProgLoad;
use bpftwin_uapi::bcf::*;
use bpftwin_uapi::{Cmd, Insn, ProgType};
use bytemuck::Zeroable;

/// The environment of a kernel with BCF.
const WITH_BCF: &[(&str, &str)] = &[("BPFTWIN_BCF", "kernel"), ("BPFTWIN_KERNEL", "6.18")];
const LOG_SIZE: usize = 1 << 20;
const BUF_WORDS: usize = 1 << 18;

/// One load, with all that its calls point to.
struct Load {
    insns: Vec<Insn>,
    attr: ProgLoad,
    log: Vec<u8>,
    /// Requests and proofs.
    buf: Vec<u32>,
}

impl Load {
    /// A load of a tracepoint program whose caller knows nothing of BCF, with a log at level 1.
    fn plain(insns: Vec<Insn>) -> Load {
        let mut load =
            Load { insns, attr: ProgLoad::zeroed(), log: vec![0; LOG_SIZE], buf: vec![0; BUF_WORDS] };
        load.attr = ProgLoad {
            prog_type: ProgType::Tracepoint as u32,
            insn_cnt: load.insns.len() as u32,
            insns: load.insns.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            log_level: 1,
            log_buf: load.log.as_mut_ptr() as u64,
            log_size: LOG_SIZE as u32,
            ..ProgLoad::zeroed()
        };
        load.attr.prog_name[..4].copy_from_slice(b"test");
        load
    }

    /// One that has a buffer for requests.
    fn new(insns: Vec<Insn>) -> Load {
        let mut load = Load::plain(insns);
        (load.attr.bcf_buf, load.attr.bcf_buf_size) = (load.buf.as_mut_ptr() as u64, (BUF_WORDS * 4) as u32);
        load
    }

    fn call(&mut self) -> Result<i32, i32> {
        client::bpf(Cmd::ProgLoad, &mut self.attr)
    }

    /// [`Self::call`], which is to ask for a proof: the request.
    #[track_caller]
    fn request(&mut self) -> Vec<u32> {
        self.call().expect_err("a proof is asked for");
        assert_eq!(self.attr.bcf_flags, 1, "{}", self.log_text());
        self.buf[..self.attr.bcf_buf_true_size as usize / 4].to_vec()
    }

    /// Puts a proof into the attributes: 2 for the refinement condition, 6 for the path condition.
    fn set_proof(&mut self, flags: u32, proof: &[u32]) {
        self.buf[..proof.len()].copy_from_slice(proof);
        (self.attr.bcf_flags, self.attr.bcf_buf_true_size) = (flags, (proof.len() * 4) as u32);
    }

    fn resume(&mut self, flags: u32, proof: &[u32]) -> Result<i32, i32> {
        self.set_proof(flags, proof);
        self.call()
    }

    fn log_text(&self) -> String {
        let end = self.log.iter().position(|&byte| byte == 0).unwrap_or(self.log.len());
        String::from_utf8_lossy(&self.log[..end]).into_owned()
    }
}

/// Our own prover's proof of a request's refinement condition.
fn proof_of(request: &[u32]) -> Vec<u32> {
    let request = Request::parse(request).unwrap();
    let limits = Limits { effort: Duration::ZERO, ..Limits::default() };
    match prove(&request.arena, request.refine_cond.unwrap(), &limits) {
        Verdict::Proved(proof) => proof,
        verdict => panic!("{verdict:?}"),
    }
}

/// Three steps which the published checker believes, whatever the condition: it equals false, says a rewrite without a name.
fn believed_proof(request: &[u32], cond: u32) -> Vec<u32> {
    let exprs = &request[..request.len() - 2];
    let (goal, truth) = (cond, exprs.len() as u32);
    let node = |code: u8, vlen: u8| u32::from(code) | u32::from(vlen) << 8;
    let step = |rule: u16, premises: u8, params: u8| {
        u32::from(rule) | u32::from(premises) << 16 | u32::from(params) << 24
    };
    let areas = [
        exprs,
        &[node(BCF_BOOL_CONST, 0), node(BCF_BOOL_EQ, 2), goal, truth],
        &[step(BCF_RULE_ASSUME, 0, 1), goal],
        &[step(BCF_RULE_REWRITE, 0, 2), 0, truth + 1],
        &[step(BCF_RULE_EQ_RESOLVE, 2, 0), 0, 1],
    ];
    let mut proof = vec![BCF_MAGIC, truth + 4, 8];
    proof.extend(areas.concat());
    proof
}

/// The path condition and the refinement condition of a request.
fn conditions(request: &[u32]) -> (u32, u32) {
    let [.., path, refine] = *request else { panic!("no request") };
    (path, refine)
}
