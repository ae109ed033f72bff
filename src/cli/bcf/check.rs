//! `bpftwin bcf check`: are these proofs?

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use bpftwin_uapi::Errno;
use clap::{Args, ValueEnum};
use comfy_table::{Cell, Color};
use serde::Serialize;

use super::input::{self, Conditions, Format, Input};
use super::{EXAMPLE, Which};
use crate::bcf::checker::{self, CheckError, Policy};
use crate::bcf::request::Goal;
use crate::cli::{USAGE, output, usage_error, work};

/// Check proofs, step by step.
///
/// A proof refutes a formula: the one that its ASSUME step names, or with --goal the one that is asked for. Under the strict
/// policy every step is checked. Under the reference policy the answer is the published checker's, which takes POLY_NORM and
/// rewrite 0 on trust; how often is told.
///
/// Exit status 0: all accepted; 1: some rejected; 2: usage, or a file cannot be read.
#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub struct Check {
    /// Files of proofs.
    #[arg(required = true, value_name = "PROOF")]
    proofs: Vec<PathBuf>,

    /// How much is believed.
    #[arg(long, value_enum, default_value_t = PolicyArg::Strict)]
    policy: PolicyArg,

    /// The condition that the proofs have to refute: a request, a goal file, or SMT-LIB text. Without it, any.
    #[arg(long, value_name = "FILE")]
    goal: Option<PathBuf>,

    /// Which condition of the request. Default: refine, or path where that is the only one.
    #[arg(long, value_enum, requires = "goal")]
    cond: Option<Which>,

    /// What the goal's file holds. Default: what it can be read as.
    #[arg(long, value_enum, value_name = "FORMAT", requires = "goal")]
    format: Option<Format>,

    /// Print a JSON object for each proof, one a line.
    #[arg(long)]
    json: bool,

    /// Proofs checked at a time. Default: the number of CPUs.
    #[arg(long, value_name = "N")]
    jobs: Option<std::num::NonZeroUsize>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum PolicyArg {
    /// No step on trust.
    Strict,
    /// As the published checker answers.
    Reference,
}

impl PolicyArg {
    fn name(self) -> &'static str {
        match self {
            PolicyArg::Strict => "strict",
            PolicyArg::Reference => "reference",
        }
    }
}

/// One proof's result as `--json` prints it.
#[derive(Serialize)]
struct Row {
    file: String,
    /// `accepted`, `rejected` or `unreadable`.
    verdict: &'static str,
    /// The published checker's errno for a rejection.
    errno: i32,
    policy: &'static str,
    bytes: usize,
    /// Steps of the proof; 0 where the file is none.
    steps: u32,
    trusted_poly_norm: u32,
    trusted_rewrite: u32,
    /// POLY_NORM steps that were not taken on trust.
    checked_poly_norm: u32,
    /// The step that does not follow.
    #[serde(skip_serializing_if = "Option::is_none")]
    step: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    duration_us: u64,
}

impl Check {
    pub fn run(self) -> ExitCode {
        let conditions = match self.load_goal() {
            Ok(conditions) => conditions,
            Err(error) => return usage_error(error),
        };
        let goal = match conditions.as_ref().map(|conditions| conditions.goal(self.cond)).transpose() {
            Ok(goal) => goal,
            Err(error) => {
                let path = self.goal.as_deref().unwrap_or_else(|| Path::new(""));
                return usage_error(format_args!("{} {error}", path.display()));
            }
        };
        let bar = output::progress(self.proofs.len(), self.json);
        let rows = work::in_parallel(&self.proofs, self.jobs, |path| {
            let row = self.check(path, goal);
            bar.inc(1);
            row
        });
        bar.finish_and_clear();
        self.print(&rows)
    }

    fn load_goal(&self) -> Result<Option<Conditions>, String> {
        let Some(path) = &self.goal else { return Ok(None) };
        let in_file = |error: String| format!("{}: {error}", path.display());
        match input::load(path, self.format).map_err(in_file)? {
            Input::Proof(_) => Err(in_file("is a proof, not the condition of one".into())),
            Input::Conditions(mut requests) => match requests.len() {
                0 | 1 => Ok(requests.pop()),
                several => Err(in_file(format!("holds {several} requests, and a proof has one goal"))),
            },
        }
    }

    fn check(&self, path: &Path, goal: Option<Goal<'_>>) -> Row {
        let mut row = Row {
            file: path.display().to_string(),
            verdict: "unreadable",
            errno: 0,
            policy: self.policy.name(),
            bytes: 0,
            steps: 0,
            trusted_poly_norm: 0,
            trusted_rewrite: 0,
            checked_poly_norm: 0,
            step: None,
            rule: None,
            reason: None,
            duration_us: 0,
        };
        let bytes = match input::read(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                row.reason = Some(error);
                return row;
            }
        };
        row.bytes = bytes.len();
        let policy = match self.policy {
            PolicyArg::Strict => Policy::Strict,
            PolicyArg::Reference => Policy::Reference,
        };
        let start = Instant::now();
        let examined = checker::examine(&bytes, goal, policy);
        row.duration_us = start.elapsed().as_micros() as u64;
        row.steps = examined.steps;
        row.trusted_poly_norm = examined.report.trusted_poly_norm;
        row.trusted_rewrite = examined.report.trusted_rewrite;
        row.checked_poly_norm = examined.report.checked_poly_norm;
        row.verdict = "accepted";
        if let Err(error) = examined.verdict {
            row.verdict = "rejected";
            row.errno = error.errno();
            if let CheckError::Step { step, rule, .. } = error {
                row.step = Some(step);
                row.rule = Some(rule);
            }
            row.reason = Some(error.to_string());
        }
        row
    }

    fn print(&self, rows: &[Row]) -> ExitCode {
        let count = |verdict: &str| rows.iter().filter(|row| row.verdict == verdict).count();
        let (accepted, rejected, unreadable) = (count("accepted"), count("rejected"), count("unreadable"));
        if self.json {
            for row in rows {
                if output::json_line(row).is_err() {
                    break;
                }
            }
        } else {
            output::print(|out| {
                writeln!(out, "{}", table(rows))?;
                for row in rows {
                    if let Some(reason) = &row.reason {
                        writeln!(out, "\n{}: {}\n    {reason}", row.file, verdict_text(row))?;
                    }
                }
                let noun = if rows.len() == 1 { "proof" } else { "proofs" };
                write!(out, "\n{} {noun}: {accepted} accepted, {rejected} rejected", rows.len())?;
                if unreadable != 0 {
                    write!(out, ", {unreadable} not readable")?;
                }
                writeln!(out)
            });
        }
        match (unreadable + self.proofs.len() - rows.len(), rejected) {
            (0, 0) => ExitCode::SUCCESS,
            (0, _) => ExitCode::FAILURE,
            _ => ExitCode::from(USAGE),
        }
    }
}

/// `rejected (EINVAL)`.
fn verdict_text(row: &Row) -> String {
    match row.verdict {
        "rejected" => format!("rejected ({})", Errno(row.errno)),
        other => other.into(),
    }
}

fn table(rows: &[Row]) -> comfy_table::Table {
    let mut table = output::new_table(&["proof", "verdict", "steps", "on trust", "bytes", "time"]);
    for row in rows {
        let color = match row.verdict {
            "accepted" => Color::Green,
            "rejected" => Color::Red,
            _ => Color::Yellow,
        };
        table.add_row([
            Cell::new(&row.file),
            Cell::new(verdict_text(row)).fg(color),
            Cell::new(row.steps),
            Cell::new(u64::from(row.trusted_poly_norm) + u64::from(row.trusted_rewrite)),
            Cell::new(row.bytes),
            Cell::new(output::time(row.duration_us)),
        ]);
    }
    output::align_numbers(&mut table, 2);
    table
}
