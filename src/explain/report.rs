//! From what the verification leaves to what a person reads.

use std::time::Instant;

use bpftwin_uapi::insn::*;
use rustc_hash::FxHashMap;

use super::Found;
use super::advice::{self, Kind, Known};
use super::condition::{Answer, Condition, Equal, Refuted};
use super::flow::{Flow, Question, Target as Pointee, Val};
use super::model::*;
use super::names::Names;
use super::replay::{Asked, Difference, Fault, Harm, Replay, Replayed, Source};
use super::source::Text;
use crate::bcf::prover::Limits;
use crate::btf::Btf;
use crate::exec::Program;
use crate::helpers::is_async_callback_calling_function;
use crate::verifier::SubprogArg;
use crate::verifier::bcf::{Target, Trail, TrailVar};
use crate::verifier::input::Outcome;
use crate::verifier::reg_type::ArgType;

/// Models that are tried for one rejection, each with what the run on the one before taught.
const MAX_MODELS: usize = 12;
/// Values that are listed along a path.
const MAX_VALUES: usize = 24;
/// Instructions of a path of which values are followed.
const MAX_FOLLOWED: usize = 100_000;

/// Says of each rejection what there is to say.
pub(super) fn report(
    found: &[Found],
    outcome: &Outcome,
    btf: Option<&Btf>,
    limits: &Limits,
) -> Vec<Rejection> {
    let program = Program::new(outcome);
    let text = Text::new(outcome);
    let names = Names { outcome, program: &program, text: &text, btf_vmlinux: btf };
    let reporter = Reporter { names: &names, limits };
    found.iter().map(|found| reporter.rejection(found)).collect()
}

struct Reporter<'a> {
    names: &'a Names<'a>,
    limits: &'a Limits,
}

/// One rejection and its path.
struct Case<'a> {
    found: &'a Found,
    path: &'a [u32],
    args: Option<&'a [SubprogArg]>,
    flow: Flow,
    /// What makes it a bug; none where no values do.
    harm: Option<Harm>,
    deadline: Instant,
}

impl Case<'_> {
    /// The step that made the value of a variable.
    fn origin(&self, var: &TrailVar) -> Option<u32> {
        let vars = &self.found.condition.as_ref()?.vars;
        let index = vars.iter().position(|other| other == var)?;
        let def = self.flow.asked.get(index).copied().flatten()?.def?;
        Some(self.flow.root(def))
    }

    fn pc(&self, step: u32) -> u32 {
        self.path.get(step as usize).copied().unwrap_or(0)
    }

    /// What is known of a pointer that the verifier takes for a number, from what it once was.
    fn refined(&self, known: &'static Known) -> &'static Known {
        let is_number =
            ["R* invalid mem access 'scalar'", "R* type=scalar expected=*"].contains(&known.pattern);
        let register = named_registers(&self.found.message).first().copied();
        let held = register.and_then(|regno| self.flow.last.get(usize::from(regno)).copied().flatten());
        match held.and_then(|val| val.target) {
            Some(Pointee::Packet | Pointee::PacketEnd) if is_number => &advice::STALE_PACKET,
            Some(Pointee::Result(_)) if is_number => &advice::RELEASED,
            _ => known,
        }
    }
}

impl Reporter<'_> {
    fn rejection(&self, found: &Found) -> Rejection {
        let known = advice::look_up(&found.message);
        let empty = Trail::default();
        let trail = found.trail.as_ref().unwrap_or(&empty);
        let questions: Vec<Question> =
            found.condition.iter().flat_map(|condition| &condition.vars).map(question).collect();
        let path = &trail.insns[..];
        let followed = if path.len() > MAX_FOLLOWED { &[] } else { path };
        let args = trail.args.as_deref();
        let flow = Flow::new(self.names.program, followed, &targets(args), &questions);
        let harm = known.and_then(|known| harm(known.kind, &found.message));
        let case = Case { found, path, args, flow, harm, deadline: Instant::now() + self.limits.timeout };
        let values = self.values(&case);
        let known = known.map(|known| case.refined(known));
        Rejection {
            errno: found.errno.0,
            message: found.message.clone(),
            place: path.last().map(|&pc| self.names.text.place(pc)),
            more_paths: found.more_paths,
            steps: path.len(),
            path: self.names.text.path(path),
            values,
            finding: self.finding(&case),
            by_itself: args.is_some(),
            meaning: known.map(|known| known.meaning),
            advice: known.map(|known| known.advice),
        }
    }

    /// What the check is about: registers that the message names, or else those that the instruction uses.
    fn registers(&self, case: &Case<'_>) -> Vec<u8> {
        let mut regs = named_registers(&case.found.message);
        let insn = case.path.last().and_then(|&pc| self.names.text.insn(pc));
        let (Some(&pc), Some(insn)) = (case.path.last(), insn) else { return regs };
        let is_call = insn.class() == BPF_JMP && insn.op() == BPF_CALL;
        if let (true, Some(proto)) = (is_call, self.names.program.proto_at(pc)) {
            // The size behind the memory.
            let is_size = |regno: &u8| {
                proto.arg_type.get(usize::from(*regno) - 1).is_some_and(|arg| {
                    matches!(arg.base(), ArgType::ARG_CONST_SIZE | ArgType::ARG_CONST_SIZE_OR_ZERO)
                })
            };
            let sizes: Vec<u8> = regs
                .iter()
                .map(|regno| regno + 1)
                .filter(|regno| *regno <= BPF_REG_5)
                .filter(is_size)
                .collect();
            regs.extend(sizes.into_iter().filter(|size| !regs.contains(size)).collect::<Vec<_>>());
        }
        if !regs.is_empty() || case.harm.is_none() || matches!(case.harm, Some(Harm::Held(_) | Harm::Reached))
        {
            return regs;
        }
        match insn.class() {
            BPF_LDX => vec![insn.src_reg()],
            BPF_ST => vec![insn.dst_reg()],
            BPF_JMP if is_call => {
                let count = self.names.program.proto_at(pc).map_or(0, |proto| proto.num_params());
                (BPF_REG_1..=BPF_REG_5).take(count).collect()
            }
            BPF_STX => vec![insn.dst_reg(), insn.src_reg()],
            BPF_ALU | BPF_ALU64 if insn.src() == BPF_X => vec![insn.dst_reg(), insn.src_reg()],
            BPF_ALU | BPF_ALU64 => vec![insn.dst_reg()],
            BPF_JMP | BPF_JMP32 if !matches!(insn.op(), BPF_EXIT | BPF_JA) => vec![insn.dst_reg()],
            _ => Vec::new(),
        }
    }

    fn values(&self, case: &Case<'_>) -> Vec<Origin> {
        let held = |regno: u8| case.flow.last.get(usize::from(regno)).copied().flatten();
        let start = self.registers(case).into_iter().filter_map(held).filter_map(|Val { def, .. }| def);
        let acquired = match case.harm {
            Some(Harm::Held(pc)) => case.path.iter().rposition(|&other| other == pc).map(|step| step as u32),
            _ => None,
        };
        let steps = case.flow.slice(start.chain(acquired));
        // The last ones, and all beginnings.
        let skipped = steps.len().saturating_sub(MAX_VALUES);
        let mut values: Vec<Origin> = Vec::new();
        for (i, &step) in steps.iter().enumerate() {
            let source = self.names.source(&case.flow, case.path, step);
            if i < skipped && source.is_none() {
                continue;
            }
            let pc = case.pc(step);
            let value = Origin { register: self.written(pc), place: self.names.text.place(pc), source };
            if !values.contains(&value) {
                values.push(value);
            }
        }
        let skipped = values.len().saturating_sub(2 * MAX_VALUES);
        values.drain(..skipped);
        values
    }

    /// The register that an instruction writes.
    fn written(&self, pc: u32) -> String {
        match self.names.text.insn(pc) {
            Some(insn) if matches!(insn.class(), BPF_ALU | BPF_ALU64 | BPF_LDX) || insn.is_ldimm64() => {
                format!("R{}", insn.dst_reg())
            }
            Some(insn) if matches!(insn.class(), BPF_ST | BPF_STX) => "stack".into(),
            _ => "R0".into(),
        }
    }

    fn finding(&self, case: &Case<'_>) -> Finding {
        match (&case.found.answer, &case.found.condition, case.harm) {
            (Some(Answer::Refuted(refuted)), Some(condition), _) => self.safe(case, condition, refuted),
            (.., None) if advice::look_up(&case.found.message).is_none() => Finding::Unknown {
                why:
                    "this message is not in the table: it is not known what has to happen for it to be a bug"
                        .into(),
            },
            (.., None) => Finding::NotAllowed { why: "a rule of the kernel, whatever the values are".into() },
            (.., Some(_)) if case.path.is_empty() => Finding::NotAllowed {
                why: "the program is rejected as a whole, not for one of its paths".into(),
            },
            (Some(Answer::Met(values)), Some(condition), Some(harm)) => {
                self.try_models(case, harm, condition, values.clone())
            }
            (Some(Answer::Unknown(why)), _, Some(harm)) => {
                self.try_runs(case, harm, &format!("the prover gave up: {why}"))
            }
            (_, _, Some(harm)) => {
                self.try_runs(case, harm, "there is no proof, as no condition can be made of this path")
            }
        }
    }

    fn safe(&self, case: &Case<'_>, condition: &Condition, refuted: &Refuted) -> Finding {
        let core = condition.core(refuted.target);
        let because = core.iter().filter_map(|&i| self.fact(case, condition, i)).collect();
        Finding::Safe {
            proved: match (refuted.target, case.harm) {
                (Target::PathUnreachable, _) => "path",
                (Target::Refine, Some(Harm::Later)) => "offset",
                (Target::Refine, _) => "access",
            },
            proof_bytes: refuted.proof.len(),
            prove_us: refuted.prove_time.as_micros() as u64,
            check_us: refuted.check_time.as_micros() as u64,
            because,
        }
    }

    /// A conjunct in words.
    fn fact(&self, case: &Case<'_>, condition: &Condition, index: usize) -> Option<Fact> {
        let cond = condition.conds.get(index)?;
        if let Some(bound) = condition.bound(cond) {
            let var = condition.vars.get(bound.var)?;
            let step = case.origin(var).unwrap_or(var.step);
            let what = self.names.source(&case.flow, case.path, step);
            let what = what.unwrap_or_else(|| self.names.text.text(case.pc(step)));
            let place = self.names.text.place(case.pc(step));
            return Some(Fact {
                place,
                text: format!("R{} ({what}) {} {}", var.regno, bound.op, bound.value),
            });
        }
        let pc = case.pc(cond.step);
        let text = self.names.text;
        let condition_text = text.condition(text.insn(pc)?)?;
        let held = case.path.get(cond.step as usize + 1).and_then(|&next| text.taken(pc, next))?;
        let mut words = format!("{condition_text}: {}", if held { "yes" } else { "no" });
        let mut about: Vec<String> = Vec::new();
        for var in condition.vars_of(cond) {
            let origin = condition.vars.get(var).and_then(|var| case.origin(var));
            let Some(origin) = origin else { continue };
            if let Some(source) = self.names.source(&case.flow, case.path, origin) {
                let source = format!("{source}, {}", text.place(case.pc(origin)).at());
                if !about.contains(&source) {
                    about.push(source);
                }
            }
        }
        if !about.is_empty() {
            words += &format!(" — about {}", about.join("; "));
        }
        Some(Fact { place: text.place(pc), text: words })
    }

    /// Runs the program on chosen inputs, where no model says which.
    fn try_runs(&self, case: &Case<'_>, harm: Harm, no_proof: &str) -> Finding {
        let (why, notes) = match self.replay(case, harm, &FxHashMap::default()) {
            Ok(Replayed::Fault { fault, inputs }) => return self.bug(fault, &inputs),
            Ok(Replayed::Failed { why, rereads, .. }) => (why, self.unseen(case, &rereads)),
            Ok(Replayed::Differs(_)) => return Finding::Unknown { why: no_proof.into() },
            Err(why) => (why, Vec::new()),
        };
        Finding::Unknown { why: with_notes(format!("{no_proof}; {why}"), &notes) }
    }

    fn replay(&self, case: &Case<'_>, harm: Harm, model: &FxHashMap<u32, u64>) -> Result<Replayed, String> {
        let into_callback = |pair: &[u32]| {
            let helper = self.names.program.helper_at(pair[0]);
            helper.is_some_and(is_async_callback_calling_function) && pair[1] != pair[0] + 1
        };
        if case.args.is_none() && case.path.first() != Some(&0) || case.path.windows(2).any(into_callback) {
            return Err("what is rejected is in a callback that runs later, which is not run".into());
        }
        if case.flow.steps.is_empty() {
            return Err("the path is too long to be run".into());
        }
        let replay = Replay {
            program: self.names.program,
            path: case.path,
            args: case.args,
            flow: &case.flow,
            harm,
            deadline: case.deadline,
        };
        Ok(replay.search(model))
    }

    /// Runs the program on a model. Where a value turns out to be tied to another, which the condition does not know, asks for a
    /// model that knows.
    fn try_models(
        &self,
        case: &Case<'_>,
        harm: Harm,
        condition: &Condition,
        mut values: Vec<(TrailVar, u64)>,
    ) -> Finding {
        let unknown = |why: String| Finding::Unknown { why };
        let mut ties: Vec<(TrailVar, Equal)> = Vec::new();
        let mut notes: Vec<String> = Vec::new();
        let mut extra: FxHashMap<u32, u64> = FxHashMap::default();
        for _ in 0..MAX_MODELS {
            let mut model = extra.clone();
            model.extend(values.iter().filter_map(|(var, value)| Some((case.origin(var)?, *value))));
            let difference = match self.replay(case, harm, &model) {
                Err(why) => return unknown(why),
                Ok(Replayed::Fault { fault, inputs }) => return self.bug(fault, &inputs),
                Ok(Replayed::Failed { why, rereads, difference }) => {
                    notes.extend(self.unseen(case, &rereads));
                    let computed = difference.filter(|difference| difference.source == Source::Computed);
                    notes.extend(computed.map(|difference| self.not_followed(case, difference.step)));
                    notes.dedup();
                    let short =
                        "what the verifier knows of this path does not exclude it, but no run showed it: ";
                    return unknown(with_notes(format!("{short}{why}"), &notes));
                }
                Ok(Replayed::Differs(difference)) => difference,
            };
            let Difference { step, source } = difference;
            let of_step =
                |wanted: u32| condition.vars.iter().copied().find(|var| case.origin(var) == Some(wanted));
            let Some(var) = of_step(step) else { break };
            let here = self.names.text.place(case.pc(step)).at();
            match source {
                Source::Step(earlier) => {
                    notes.push(self.reread(case, step, earlier));
                    match of_step(earlier) {
                        Some(other) => ties.push((var, Equal::Var(other))),
                        None => {
                            let wanted = model.get(&step).copied().unwrap_or(0);
                            if extra.insert(earlier, wanted) == Some(wanted) {
                                break;
                            }
                            continue;
                        }
                    }
                }
                Source::Constant(value) => {
                    notes.push(format!(
                        "the value at {here} is always {value}, which the verifier does not know"
                    ));
                    ties.push((var, Equal::Value(value)));
                }
                Source::Computed => {
                    notes.push(self.not_followed(case, step));
                    break;
                }
            }
            values = match condition.met_with(&ties, self.limits) {
                Answer::Met(values) => values,
                Answer::Unknown(why) if why.is_empty() => {
                    return unknown(format!(
                        "what the verifier knows of this path does not exclude it, but no run can come to it: {}",
                        notes.join("; ")
                    ));
                }
                Answer::Unknown(why) => {
                    return unknown(with_notes(format!("the prover gave up: {why}"), &notes));
                }
                Answer::Refuted(_) => break,
            };
        }
        let short = "what the verifier knows of this path does not exclude it, but no run showed it";
        unknown(with_notes(short.into(), &notes))
    }

    /// A value that the program computes, and the verifier takes for any number.
    fn not_followed(&self, case: &Case<'_>, step: u32) -> String {
        let place = self.names.text.place(case.pc(step));
        format!("the verifier does not follow {} at {}", place.text, place.at())
    }

    /// Two loads of one value.
    fn reread(&self, case: &Case<'_>, later: u32, earlier: u32) -> String {
        let at = |step| self.names.text.place(case.pc(step)).at();
        format!(
            "what is read at {} is what was read at {}, which the verifier takes for two values",
            at(later),
            at(earlier)
        )
    }

    /// What the verifier does not see of the values that the rejected check is about: that two loads read the same, and what bounds the result
    /// of a division has.
    fn unseen(&self, case: &Case<'_>, rereads: &[(u32, u32)]) -> Vec<String> {
        let held = |regno: u8| case.flow.last.get(usize::from(regno)).copied().flatten()?.def;
        let about = case.flow.slice(self.registers(case).into_iter().filter_map(held));
        let wanted = rereads.iter().filter(|(later, _)| about.binary_search(later).is_ok());
        let is_division = |step: &u32| {
            let insn = self.names.text.insn(case.pc(*step));
            insn.is_some_and(|insn| {
                matches!(insn.class(), BPF_ALU | BPF_ALU64) && matches!(insn.op(), BPF_DIV | BPF_MOD)
            })
        };
        let divisions = about.iter().copied().filter(is_division);
        let mut notes: Vec<String> =
            wanted.map(|&(later, earlier)| self.reread(case, later, earlier)).collect();
        notes.extend(divisions.map(|step| self.not_followed(case, step)));
        notes.dedup();
        notes
    }

    fn bug(&self, fault: Fault, inputs: &[Asked]) -> Finding {
        let mut listed: Vec<Input> = Vec::new();
        // What the functions that the path goes by ask for has no step.
        for asked in inputs.iter().filter(|asked| asked.step.is_some() || asked.decisive) {
            let input = Input {
                what: self.names.input(asked),
                value: asked.value,
                is_choice: asked.is_choice(),
                place: self.names.text.place(asked.at.insn),
                decisive: asked.decisive,
            };
            if !listed.contains(&input) {
                listed.push(input);
            }
        }
        let fault = match fault {
            Fault::Access(bad) => self.names.bad_access(&bad),
            Fault::Reached => "the program gets there".into(),
            Fault::Unset(regno) => format!("the program gets there, and nothing was written to R{regno}"),
            Fault::Null(regno) => format!("the program gets there, and R{regno} is NULL"),
            Fault::Held(call) => format!(
                "the program gets there, and what {} returned at {} is still held",
                self.names.callee(call),
                self.names.text.place(call).at()
            ),
            Fault::Returns(value) => format!("the program gets there, and R0 is {value}"),
            Fault::Endless(steps) => {
                format!("the program gets there, and {steps} instructions later it is still running")
            }
        };
        Finding::Bug { inputs: listed, fault }
    }
}

/// What R1 and those behind it point to where a path begins.
fn targets(args: Option<&[SubprogArg]>) -> Vec<Option<Pointee>> {
    let Some(args) = args else { return vec![Some(Pointee::Context)] };
    let target = |(number, arg): (u8, &SubprogArg)| match arg.arg_type.base() {
        ArgType::ARG_PTR_TO_CTX => Some(Pointee::Context),
        ArgType::ARG_PTR_TO_MEM => Some(Pointee::Argument(number)),
        ArgType::ARG_ANYTHING => None,
        _ => Some(Pointee::Other),
    };
    (1..).zip(args).map(target).collect()
}

/// What a run has to come to for a rejection of this kind, with this message, to be a bug.
fn harm(kind: Kind, message: &str) -> Option<Harm> {
    let register = || named_registers(message).first().copied();
    Some(match kind {
        Kind::Rule => return None,
        Kind::Access => Harm::Access,
        Kind::Later => Harm::Later,
        Kind::Endless => Harm::Endless,
        Kind::Reached => Harm::Reached,
        Kind::Unset => register().map_or(Harm::Reached, Harm::Unset),
        Kind::Null => register().map_or(Harm::Reached, Harm::Null),
        Kind::Leak => {
            number_behind(message, "alloc_insn=").map_or(Harm::Reached, |call| Harm::Held(call as u32))
        }
        Kind::Returns => {
            let first = number_behind(message, "should have been in [");
            let last = number_behind(message, ", ");
            first.zip(last).map_or(Harm::Reached, |(first, last)| Harm::Returns(first, last))
        }
    })
}

/// The number behind the last occurrence of `words`.
fn number_behind(message: &str, words: &str) -> Option<i64> {
    let (_, rest) = message.rsplit_once(words)?;
    let end = rest.find(|c: char| !c.is_ascii_digit() && c != '-').unwrap_or(rest.len());
    rest[..end].parse().ok()
}

fn with_notes(why: String, notes: &[String]) -> String {
    if notes.is_empty() { why } else { format!("{why} ({})", notes.join("; ")) }
}

fn question(var: &TrailVar) -> Question {
    Question { step: var.step, frame: var.frame, regno: var.regno }
}

/// Registers in a message: `R3`, `R10`, `arg2`.
fn named_registers(message: &str) -> Vec<u8> {
    let words = message.split(|c: char| !c.is_ascii_alphanumeric());
    let number = |word: &str| {
        let digits = word.strip_prefix('R').or_else(|| word.strip_prefix("arg"))?;
        digits.parse::<u8>().ok().filter(|&regno| regno <= BPF_REG_FP)
    };
    let mut regs: Vec<u8> = words.filter_map(number).collect();
    regs.dedup();
    regs
}
