//! From what the verification leaves to what a person reads.

use bpftwin_uapi::insn::*;
use rustc_hash::FxHashMap;

use super::Found;
use super::advice::{self, Fault, Known};
use super::condition::{Answer, Condition, Equal, Refuted};
use super::flow::{Flow, Question, Val};
use super::model::*;
use super::names::Names;
use super::replay::{Difference, Replay, Replayed, Source};
use super::source::Text;
use crate::bcf::prover::Limits;
use crate::btf::Btf;
use crate::exec::Program;
use crate::verifier::bcf::{Target, Trail, TrailVar};
use crate::verifier::input::Outcome;

/// Models that are tried for one rejection, each with what the run on the one before taught.
const MAX_MODELS: usize = 12;
/// Values that are listed along a path.
const MAX_VALUES: usize = 24;

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
    flow: Flow,
    fault: Fault,
}

impl Case<'_> {
    /// The path begins with the main program, so that a run of the program can take it.
    fn is_main(&self) -> bool {
        self.path.first() == Some(&0)
    }

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
}

impl Reporter<'_> {
    fn rejection(&self, found: &Found) -> Rejection {
        let known = advice::look_up(&found.message);
        let empty = Trail::default();
        let trail = found.trail.as_ref().unwrap_or(&empty);
        let questions: Vec<Question> =
            found.condition.iter().flat_map(|condition| &condition.vars).map(question).collect();
        let path = &trail.insns[..];
        let flow = Flow::new(self.names.program, path, path.first() == Some(&0), &questions);
        let case = Case { found, path, flow, fault: known.map_or(Fault::Access, |known| known.fault) };
        let values = self.values(&case);
        Rejection {
            errno: found.errno.0,
            message: found.message.clone(),
            place: path.last().map(|&pc| self.names.text.place(pc)),
            more_paths: found.more_paths,
            steps: path.len(),
            path: self.names.text.path(path),
            values,
            finding: self.finding(&case, known),
            meaning: known.map(|known| known.meaning),
            advice: known.map(|known| known.advice),
        }
    }

    /// What the check is about: registers that the message names, or else those that the instruction uses.
    fn registers(&self, case: &Case<'_>) -> Vec<u8> {
        let named = named_registers(&case.found.message);
        if !named.is_empty() {
            return named;
        }
        let Some(&pc) = case.path.last() else { return Vec::new() };
        let Some(insn) = self.names.text.insn(pc) else { return Vec::new() };
        match insn.class() {
            BPF_LDX => vec![insn.src_reg()],
            BPF_ST => vec![insn.dst_reg()],
            BPF_JMP if insn.op() == BPF_CALL => {
                let count = self.names.program.proto_at(pc).map_or(0, |proto| proto.num_params());
                (BPF_REG_1..=BPF_REG_5).take(count).collect()
            }
            BPF_JMP if insn.op() == BPF_EXIT => vec![BPF_REG_0],
            BPF_STX => vec![insn.dst_reg(), insn.src_reg()],
            BPF_ALU | BPF_ALU64 if insn.src() == BPF_X => vec![insn.dst_reg(), insn.src_reg()],
            BPF_ALU | BPF_ALU64 => vec![insn.dst_reg()],
            _ => Vec::new(),
        }
    }

    fn values(&self, case: &Case<'_>) -> Vec<Origin> {
        let held = |regno: u8| case.flow.last.get(usize::from(regno)).copied().flatten();
        let start = self.registers(case).into_iter().filter_map(held).filter_map(|Val { def, .. }| def);
        let steps = case.flow.slice(start);
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

    fn finding(&self, case: &Case<'_>, known: Option<&Known>) -> Finding {
        match (&case.found.answer, &case.found.condition) {
            (Some(Answer::Refuted(refuted)), Some(condition)) => self.safe(case, condition, refuted),
            _ if case.fault == Fault::Rule => {
                Finding::NoCondition { why: "a rule that no value of an input has to do with".into() }
            }
            _ if case.path.is_empty() => Finding::NoCondition {
                why: "the program is rejected as a whole, not for one of its paths".into(),
            },
            (Some(Answer::Met(values)), Some(condition)) => self.try_models(case, condition, values.clone()),
            (Some(Answer::Unknown(why)), _) => Finding::Unknown { why: format!("the prover gave up: {why}") },
            _ => self.without_condition(case, known),
        }
    }

    fn safe(&self, case: &Case<'_>, condition: &Condition, refuted: &Refuted) -> Finding {
        let core = condition.core(refuted.target);
        let because = core.iter().filter_map(|&i| self.fact(case, condition, i)).collect();
        Finding::Safe {
            proved: if refuted.target == Target::PathUnreachable { "path" } else { "access" },
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

    /// A path that no condition is asked for: it is run on chosen inputs.
    fn without_condition(&self, case: &Case<'_>, known: Option<&Known>) -> Finding {
        if known.is_none() {
            return Finding::Unknown {
                why: "the kernel asks for no condition here, and the message is not known".into(),
            };
        }
        let what = "no condition could be made of this path, on which the verifier joins or splits values, or which has too many or no \
                    branches";
        match self.replay(case, &FxHashMap::default()) {
            Ok(Replayed::Fault { what, inputs }) => self.bug(case, what, &inputs),
            Ok(Replayed::Failed { why, rereads }) => {
                Finding::Unknown { why: with_notes(format!("{what}; {why}"), &self.rereads(case, &rereads)) }
            }
            Err(why) => Finding::Unknown { why: format!("{what}; {why}") },
            Ok(Replayed::Differs(_)) => Finding::Unknown { why: what.into() },
        }
    }

    fn replay(&self, case: &Case<'_>, model: &FxHashMap<u32, u64>) -> Result<Replayed, String> {
        if !case.is_main() {
            return Err("the function is verified by itself, for any arguments; no run of the whole program was looked for".into());
        }
        let replay =
            Replay { program: self.names.program, path: case.path, flow: &case.flow, fault: case.fault };
        Ok(replay.search(model))
    }

    /// Runs the program on a model. Where a value turns out to be tied to another, which the condition does not know, asks for a
    /// model that knows.
    fn try_models(
        &self,
        case: &Case<'_>,
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
            let difference = match self.replay(case, &model) {
                Err(why) => return unknown(why),
                Ok(Replayed::Fault { what, inputs }) => return self.bug(case, what, &inputs),
                Ok(Replayed::Failed { why, rereads }) => {
                    notes.extend(self.rereads(case, &rereads));
                    notes.dedup();
                    let short = "the condition can be met, but a run on its values does not come to harm: ";
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
                    notes.push(format!("the verifier does not know how the value at {here} is computed"));
                    break;
                }
            }
            values = match condition.met_with(&ties, self.limits) {
                Answer::Met(values) => values,
                Answer::Unknown(why) if why.is_empty() => {
                    return unknown(format!(
                        "the condition says too little to be proved; no run meets it: {}",
                        notes.join("; ")
                    ));
                }
                Answer::Unknown(why) => {
                    return unknown(with_notes(format!("the prover gave up: {why}"), &notes));
                }
                Answer::Refuted(_) => break,
            };
        }
        unknown(with_notes(
            "no run on the condition's values comes to the rejected instruction".into(),
            &notes,
        ))
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

    /// Of loads that read the same again, those that the rejected check is about.
    fn rereads(&self, case: &Case<'_>, rereads: &[(u32, u32)]) -> Vec<String> {
        let held = |regno: u8| case.flow.last.get(usize::from(regno)).copied().flatten()?.def;
        let about = case.flow.slice(self.registers(case).into_iter().filter_map(held));
        let wanted = rereads.iter().filter(|(later, _)| about.binary_search(later).is_ok());
        let mut notes: Vec<String> =
            wanted.map(|&(later, earlier)| self.reread(case, later, earlier)).collect();
        notes.dedup();
        notes
    }

    fn bug(&self, case: &Case<'_>, what: String, inputs: &[super::replay::Asked]) -> Finding {
        let mut listed: Vec<Input> = Vec::new();
        for asked in inputs.iter().filter(|asked| asked.step.is_some()) {
            let input = Input {
                what: self.names.input(asked),
                value: asked.value,
                place: self.names.text.place(asked.at.insn),
                decisive: asked.decisive,
            };
            if !listed.contains(&input) {
                listed.push(input);
            }
        }
        let what = self.names.with_maps(&what);
        let fault =
            if what.is_empty() { format!("the program gets there: {}", case.found.message) } else { what };
        Finding::Bug { inputs: listed, fault }
    }
}

fn with_notes(why: String, notes: &[String]) -> String {
    if notes.is_empty() { why } else { format!("{why} ({})", notes.join("; ")) }
}

fn question(var: &TrailVar) -> Question {
    Question { step: var.step, frame: var.frame, regno: var.regno }
}

/// Registers in a message: `R3`, `R10`.
fn named_registers(message: &str) -> Vec<u8> {
    let words = message.split(|c: char| !c.is_ascii_alphanumeric());
    let number = |word: &str| word.strip_prefix('R')?.parse::<u8>().ok().filter(|&regno| regno <= BPF_REG_FP);
    let mut regs: Vec<u8> = words.filter_map(number).collect();
    regs.dedup();
    regs
}
