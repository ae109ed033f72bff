//! A client of a kernel with BCF: it loads a program, and proves what the kernel asks for until the load ends or nothing can be proved.

use bpftwin_uapi::Errno;
use bpftwin_uapi::attr::{
    BCF_F_PROOF_PATH_UNREACHABLE, BCF_F_PROOF_PROVIDED, BCF_F_PROOF_REQUESTED, ProgLoad,
};
use bpftwin_uapi::bcf::*;

use super::answers::{Answers, RequestAnswer};
use super::checker::{Policy, check};
use super::expr::ExprId;
use super::prover::Limits;
use super::request::{Goal, Request, Target};

/// Bytes for requests and proofs; the published libbpf has as many.
const BUF_SIZE: usize = 8 << 20;

/// A program load that goes on with proofs.
pub trait Load {
    /// The first call.
    fn start(&mut self) -> Reply;

    /// A call with a proof for the last request.
    fn resume(&mut self, target: Target, proof: &[u32]) -> Reply;
}

/// What a kernel says to a call.
#[derive(Clone, Debug)]
pub struct Reply {
    /// What the call returns; an error goes with a request, too.
    pub result: Result<i64, Errno>,
    /// The words of a request; the load goes on with a proof.
    pub request: Option<Vec<u32>>,
}

/// A request and what became of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Round {
    /// The error that the call with the request returned.
    pub errno: i32,
    pub request: Vec<u32>,
    /// [`RequestAnswer::letter`]; small where it was not proved but claimed.
    pub answer: char,
}

/// A load from its first call to its last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Conversation {
    pub rounds: Vec<Round>,
    /// What the last call returned.
    pub result: Result<i64, Errno>,
}

impl Conversation {
    /// The letters of all rounds.
    pub fn answers(&self) -> String {
        self.rounds.iter().map(|round| round.answer).collect()
    }

    /// Zero if the program was accepted.
    pub fn errno(&self) -> i32 {
        self.result.err().map_or(0, |errno| errno.0)
    }

    /// The kernel does not know the attributes of BCF.
    pub fn has_no_bcf(&self) -> bool {
        self.rounds.is_empty() && self.result == Err(Errno::E2BIG)
    }
}

/// Where proofs come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Proofs {
    /// Conditions are proved.
    #[default]
    Found,
    /// Whatever the condition, a proof that the published checker believes. Loads get far, and nothing is to be run.
    Claimed,
}

/// Asks one kernel after the other, with the same proofs for the same conditions.
#[derive(Debug)]
pub struct Client {
    answers: Answers,
    rounds: usize,
    proofs: Proofs,
}

impl Client {
    /// `limits` are those of each condition, `rounds` the most requests that are answered.
    pub fn new(limits: Limits, rounds: u32, proofs: Proofs) -> Client {
        Client { answers: Answers::new(limits), rounds: rounds as usize, proofs }
    }

    /// Loads a program.
    pub fn run(&self, load: &mut impl Load) -> Conversation {
        let mut rounds = Vec::new();
        let mut reply = load.start();
        loop {
            let (Err(errno), Some(request)) = (reply.result, reply.request) else {
                return Conversation { rounds, result: reply.result };
            };
            let (answer, proof) =
                if rounds.len() < self.rounds { self.answer(&request) } else { ('U', None) };
            rounds.push(Round { errno: errno.0, request, answer });
            let Some((target, proof)) = proof else {
                return Conversation { rounds, result: Err(errno) };
            };
            reply = load.resume(target, &proof);
        }
    }

    fn answer(&self, words: &[u32]) -> (char, Option<(Target, Vec<u32>)>) {
        let request = Request::parse(words).ok();
        let claim = |target| {
            let request = request.as_ref()?;
            Some((target, claimed_proof(words, request, target)?))
        };
        match self.proofs {
            Proofs::Claimed => {
                // Either may be, and both kernels are told the same.
                let target = match words.len() % 3 {
                    0 => Target::PathUnreachable,
                    _ => Target::Refine,
                };
                let other = if target == Target::Refine { Target::PathUnreachable } else { Target::Refine };
                match claim(target).or_else(|| claim(other)) {
                    Some((Target::PathUnreachable, proof)) => ('p', Some((Target::PathUnreachable, proof))),
                    Some((Target::Refine, proof)) => ('r', Some((Target::Refine, proof))),
                    None => ('U', None),
                }
            }
            Proofs::Found => {
                let answer = self.answers.answer(words);
                let proof = match &answer {
                    RequestAnswer::Proved(target, proof) => {
                        let goal = request.as_ref().and_then(|request| {
                            Some(Goal { arena: &request.arena, root: request.cond(*target)? })
                        });
                        // What only the strict checker takes, the published one is to believe.
                        let taken = check(proof, goal, Policy::Reference).is_ok();
                        if taken { Some((*target, proof.to_vec())) } else { claim(*target) }
                    }
                    RequestAnswer::Refuted | RequestAnswer::Unknown(_) => None,
                };
                (answer.letter(), proof)
            }
        }
    }
}

/// Three steps that the published checker takes for a proof, whatever the condition: it equals false, says a rewrite without a name.
fn claimed_proof(words: &[u32], request: &Request, target: Target) -> Option<Vec<u32>> {
    let exprs = words.get(..words.len().checked_sub(2)?)?;
    let ExprId(goal) = request.cond(target)?;
    let falsehood = u32::try_from(exprs.len()).ok()?;
    let expr = |code, vlen| bytemuck::cast::<_, u32>(BcfExpr { code, vlen, params: 0 });
    let step =
        |rule, premise_cnt, param_cnt| bytemuck::cast::<_, u32>(BcfStep { rule, premise_cnt, param_cnt });
    let is_false = [expr(BCF_BOOL_CONST, 0), expr(BCF_BOOL_EQ, 2), goal, falsehood];
    let steps = [
        &[step(BCF_RULE_ASSUME, 0, 1), goal][..],
        &[step(BCF_RULE_REWRITE, 0, 2), 0, falsehood + 1],
        &[step(BCF_RULE_EQ_RESOLVE, 2, 0), 0, 1],
    ]
    .concat();
    let header = [BCF_MAGIC, falsehood + is_false.len() as u32, steps.len() as u32];
    Some([&header[..], exprs, &is_false, &steps].concat())
}

/// A load by bpf(2).
pub struct Calls<F> {
    attr: ProgLoad,
    buf: Vec<u32>,
    bpf: F,
}

impl<F: FnMut(&mut ProgLoad) -> Result<i64, Errno>> Calls<F> {
    /// A load with attributes of a client that knows nothing of BCF, what they point to being there for as long as this is; `bpf` makes a
    /// call.
    pub fn new(attr: ProgLoad, bpf: F) -> Calls<F> {
        Calls { attr, buf: vec![0; BUF_SIZE / 4], bpf }
    }

    /// The attributes as the kernel left them.
    pub fn attr(&self) -> &ProgLoad {
        &self.attr
    }

    fn call(&mut self) -> Reply {
        let result = (self.bpf)(&mut self.attr);
        let is_request = result.is_err() && self.attr.bcf_flags & BCF_F_PROOF_REQUESTED != 0;
        let words = self.buf.get(..self.attr.bcf_buf_true_size as usize / 4);
        Reply { result, request: words.filter(|_| is_request).map(<[u32]>::to_vec) }
    }
}

impl<F: FnMut(&mut ProgLoad) -> Result<i64, Errno>> Load for Calls<F> {
    fn start(&mut self) -> Reply {
        self.attr.bcf_buf = self.buf.as_mut_ptr() as u64;
        self.attr.bcf_buf_size = BUF_SIZE as u32;
        self.call()
    }

    fn resume(&mut self, target: Target, proof: &[u32]) -> Reply {
        let Some(place) = self.buf.get_mut(..proof.len()) else {
            return Reply { result: Err(Errno::E2BIG), request: None };
        };
        place.copy_from_slice(proof);
        self.attr.bcf_buf_true_size = size_of_val(proof) as u32;
        self.attr.bcf_flags = match target {
            Target::Refine => BCF_F_PROOF_PROVIDED,
            Target::PathUnreachable => BCF_F_PROOF_PROVIDED | BCF_F_PROOF_PATH_UNREACHABLE,
        };
        self.call()
    }
}

impl<F> Drop for Calls<F> {
    fn drop(&mut self) {
        if self.attr.bcf_fd != 0 {
            let _ = nix::unistd::close(self.attr.bcf_fd as i32);
        }
    }
}
