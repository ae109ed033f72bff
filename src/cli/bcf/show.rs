//! `bpftwin bcf show`: proofs and conditions as text.

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::input::{self, Condition, Conditions, Input};
use crate::bcf::checker::{CheckError, Checker, Policy};
use crate::bcf::expr::ExprId;
use crate::bcf::print::{Bounds, Listing, StepText, Term, Variable};
use crate::bcf::proof::StepNo;
use crate::bcf::smtlib::Script;
use crate::cli::{output, usage_error};

/// Print a proof's steps with their facts, or the conditions of a request.
///
/// FILE holds a proof, a request, a recording of requests (for each its length in words, then its words), a goal file of the
/// published checker, or SMT-LIB text. Terms are printed in the published checker's syntax: (bv_add(2) v0 (_ bv1 64)), where v0 is
/// the variable at word 0 of the expressions, @t9 the term at word 9, and @p3 the fact of step 3.
///
/// Exit status 0: printed; 2: usage, or the file cannot be read.
#[derive(Args)]
#[command(
    after_help = "Example:\n  bpftwin bcf show proof.bcf\n  bpftwin bcf show --smt request.bin | cvc5 --lang smt2"
)]
pub struct Show {
    file: PathBuf,

    /// Print SMT-LIB that asks whether the condition can be met; of a proof, the formula that it refutes. Of a request's two
    /// conditions refine, unless --cond says path.
    #[arg(long)]
    smt: bool,

    #[command(flatten)]
    only: input::Only,

    /// Print a JSON object for each step or condition, one a line.
    #[arg(long, conflicts_with = "smt")]
    json: bool,
}

#[derive(Serialize)]
struct VariableRow {
    name: String,
    /// Bits; 0 for a Boolean.
    width: u8,
}

#[derive(Serialize)]
struct ConditionRow<'a> {
    /// Number of the request in its file.
    request: usize,
    condition: &'a str,
    variables: Vec<VariableRow>,
    nodes: usize,
    smt: String,
}

#[derive(Serialize)]
struct StepRow<'a> {
    step: StepNo,
    rule: &'a str,
    premises: &'a [StepNo],
    params: &'a [u32],
    text: String,
    /// Absent from the step on that does not follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    fact: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Show {
    pub fn run(self) -> ExitCode {
        let in_file = |error: String| usage_error(format_args!("{} {error}", self.file.display()));
        let input = match input::load(&self.file, self.only.format) {
            Ok(input) => input,
            Err(error) => return in_file(error),
        };
        let outcome = match &input {
            Input::Proof(_) if self.only.cond.is_some() || self.only.request.is_some() => {
                Err("is a proof: --cond and --request are for requests".into())
            }
            Input::Proof(words) => self.proof(words).map_err(|error| format!("is no proof: {error}")),
            Input::Conditions(requests) => self.requests(requests),
        };
        outcome.map_or_else(in_file, |()| ExitCode::SUCCESS)
    }

    fn requests(&self, requests: &[Conditions]) -> Result<(), String> {
        let mut selected = Vec::new();
        for (number, request) in input::numbered(requests, self.only.request)? {
            let mut conditions = request.select(self.only.cond)?;
            if self.smt {
                conditions.drain(..conditions.len().saturating_sub(1));
            }
            selected.extend(conditions.into_iter().map(|condition| (number, request, condition)));
        }
        output::print(|out| {
            for (i, &(number, request, condition)) in selected.iter().enumerate() {
                if i != 0 && !self.json {
                    writeln!(out)?;
                }
                let title = match requests.len() {
                    1 => condition.kind.title().to_string(),
                    _ => format!("request {number}, {}", condition.kind.title()),
                };
                self.condition(out, request, condition, number, &title)?;
            }
            Ok(())
        });
        Ok(())
    }

    fn condition(
        &self,
        out: &mut dyn Write,
        request: &Conditions,
        condition: Condition,
        number: usize,
        title: &str,
    ) -> io::Result<()> {
        let Conditions { arena, .. } = request;
        let root = condition.root;
        let script = Script { arena, root };
        if self.smt {
            return write!(out, "; {title}\n{script}");
        }
        let nodes = arena.reachable(&[root]);
        if self.json {
            let variables = nodes
                .iter()
                .filter(|&&id| arena.is_variable(id))
                .map(|&id| VariableRow { name: Variable { arena, id }.to_string(), width: arena.width(id) });
            let row = ConditionRow {
                request: number,
                condition: condition.kind.name(),
                variables: variables.collect(),
                nodes: nodes.len(),
                smt: script.to_string(),
            };
            return write_json(out, &row);
        }
        writeln!(out, "{title}: {} terms, {}", nodes.len(), variables_text(request, &nodes))?;
        writeln!(out, "{}", Listing { arena, root })
    }

    fn proof(&self, words: &[u32]) -> Result<(), CheckError> {
        let mut checker = furthest(words)?;
        if self.smt {
            let Some(assumed) = assumption(&checker) else { return Ok(()) };
            let script = Script { arena: checker.arena(), root: assumed };
            output::print(|out| write!(out, "; what the proof refutes\n{script}"));
            return Ok(());
        }
        output::print(|out| self.steps(out, &mut checker));
        Ok(())
    }

    fn steps(&self, out: &mut dyn Write, checker: &mut Checker<'_>) -> io::Result<()> {
        let count = checker.steps().len() as StepNo;
        let mut error = None;
        for number in 0..count {
            let is_checked = error.is_none();
            let applied = if is_checked { checker.advance() } else { Ok(None) };
            let fact = applied.as_ref().ok().copied().flatten().map(|number| checker.fact_expr(number));
            let arena = checker.arena();
            let term = |id, bounds| Term { arena, id, bounds }.to_string();
            let step = checker.steps().step(number);
            let bounds = Bounds::BRIEF;
            let text = StepText { number, step, arena, ids: checker.ids(), bounds };
            error = error.or(applied.err());
            let told = error.filter(|_| is_checked).map(|error| error.to_string());
            if self.json {
                let row = StepRow {
                    step: number,
                    rule: crate::bcf::checker::rules::name(step.head.rule),
                    premises: step.premises,
                    params: step.params,
                    text: text.to_string(),
                    fact: fact.map(|id| term(id, Bounds::FULL)),
                    error: told,
                };
                write_json(out, &row)?;
                continue;
            }
            writeln!(out, "{text}")?;
            if let Some(fact) = fact {
                writeln!(out, "    {}", term(fact, bounds))?;
            }
            if let Some(error) = told {
                writeln!(out, "    does not follow: {error}; no facts from here on")?;
            }
        }
        if !self.json && error.is_none() {
            let report = checker.report();
            let trusted = report.trusted_poly_norm + report.trusted_rewrite;
            let trust = if trusted == 0 { String::new() } else { format!(", {trusted} of them on trust") };
            writeln!(out, "{count} steps{trust}: refuted")?;
        }
        Ok(())
    }
}

fn write_json(out: &mut dyn Write, row: &impl Serialize) -> io::Result<()> {
    serde_json::to_writer(&mut *out, row)?;
    writeln!(out)
}

fn variables_text(request: &Conditions, nodes: &[ExprId]) -> String {
    let arena = &request.arena;
    let variables: Vec<String> = nodes
        .iter()
        .filter(|&&id| arena.is_variable(id))
        .map(|&id| {
            let name = Variable { arena, id }.to_string();
            let given = request.variable_name(id);
            let given = if given == name { String::new() } else { format!(" ({given})") };
            match arena.width(id) {
                0 => format!("{name}{given} Boolean"),
                width => format!("{name}{given} of {width} bits"),
            }
        })
        .collect();
    if variables.is_empty() { "no variables".into() } else { variables.join(", ") }
}

/// A checker for the policy under which more steps follow, so that as many facts as can be are there.
fn furthest(words: &[u32]) -> Result<Checker<'_>, CheckError> {
    let steps_that_follow = |policy| {
        let mut checker = Checker::new(words, None, policy)?;
        let _ = checker.run();
        Ok::<_, CheckError>(checker.report().steps)
    };
    let strict = steps_that_follow(Policy::Strict)?;
    let policy =
        if steps_that_follow(Policy::Reference)? > strict { Policy::Reference } else { Policy::Strict };
    Checker::new(words, None, policy)
}

/// What the proof assumes.
fn assumption(checker: &Checker<'_>) -> Option<ExprId> {
    let is_assume = |step: &crate::bcf::proof::Step<'_>| step.head.rule == bpftwin_uapi::bcf::BCF_RULE_ASSUME;
    let step = checker.steps().steps().find(is_assume)?;
    checker.ids().get(*step.params.first()?)
}
