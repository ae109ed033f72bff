//! `bpftwin bcf prove`: conditions that nothing meets, and the proof of it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::Args;
use comfy_table::{Cell, Color};
use serde::Serialize;

use super::EXAMPLE;
use super::input::{self, Condition, Conditions, Format, Input};
use crate::bcf::eval::Value;
use crate::bcf::proof::Proof;
use crate::bcf::prover::{Limits, Model, Verdict, prove};
use crate::cli::{USAGE, output, usage_error, work};
use crate::kernel::settings::{mebibytes, seconds};

/// Exit status where the prover has no answer.
const UNKNOWN: u8 = 3;

/// Prove that a condition cannot be met, or find out how it can.
///
/// FILE holds a request, a recording of requests, a goal file or SMT-LIB text. Of a request the path condition is tried first,
/// which says that the rejected access is reached at all, then the refine condition, which says that it goes wrong; a proof of
/// either is a reason to accept the program. A proof passes `bpftwin bcf check` before it is written.
///
/// Exit status 0: proved; 1: refuted, and the values of the variables are printed; 3: unknown; 2: usage, or a file cannot be read or
/// written. Of a recording: 0 if all are proved, else 1 if one is refuted.
#[derive(Args)]
#[command(after_help = EXAMPLE)]
pub struct Prove {
    file: PathBuf,

    /// FILE is SMT-LIB text. Needed only where it does not look so.
    #[arg(long, conflicts_with = "format")]
    smt: bool,

    #[command(flatten)]
    only: input::Only,

    /// Where the proof goes; of a recording, a dot and the request's number are appended.
    #[arg(short, long, value_name = "PROOF")]
    output: Option<PathBuf>,

    /// Seconds for one condition.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: Duration,

    /// Memory for one condition, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = 1024)]
    memory: u32,

    /// Print a JSON object for each request, one a line.
    #[arg(long)]
    json: bool,

    /// Requests proved at a time. Default: the number of CPUs.
    #[arg(long, value_name = "N")]
    jobs: Option<std::num::NonZeroUsize>,
}

/// One request's result as `--json` prints it.
#[derive(Serialize)]
struct Row {
    file: String,
    /// Number of the request in its file.
    request: usize,
    /// `proved`, `refuted` or `unknown`.
    verdict: &'static str,
    /// The condition that is proved; else the last that was tried.
    condition: &'static str,
    #[serde(skip)]
    title: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
    /// Values under which the condition holds.
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<Vec<Assignment>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    proof: Option<String>,
    bytes: usize,
    steps: usize,
    duration_us: u64,
    #[serde(skip)]
    words: Vec<u32>,
}

#[derive(Serialize)]
struct Assignment {
    name: String,
    /// Bits; 0 for a Boolean.
    width: u8,
    value: String,
}

struct Job<'a> {
    request: usize,
    conditions: &'a Conditions,
    selected: Vec<Condition>,
}

impl Prove {
    pub fn run(self) -> ExitCode {
        let in_file = |error: String| usage_error(format_args!("{} {error}", self.file.display()));
        let format = if self.smt { Some(Format::Smt) } else { self.only.format };
        let requests = match input::load(&self.file, format) {
            Ok(Input::Conditions(requests)) => requests,
            Ok(Input::Proof(_)) => return in_file("is a proof, not a condition".into()),
            Err(error) => return in_file(error),
        };
        let jobs = match self.jobs_of(&requests) {
            Ok(jobs) => jobs,
            Err(error) => return in_file(error),
        };
        let bar = output::progress(jobs.len(), self.json);
        let mut rows = work::in_parallel(&jobs, self.jobs, |job| {
            let row = self.prove(job);
            bar.inc(1);
            row
        });
        bar.finish_and_clear();
        let mut is_written = true;
        if let Some(output) = &self.output {
            for row in rows.iter_mut().filter(|row| row.verdict == "proved") {
                let path = proof_path(output, (requests.len() > 1).then_some(row.request));
                match std::fs::write(&path, bytemuck::cast_slice(&row.words)) {
                    Ok(()) => row.proof = Some(path.display().to_string()),
                    Err(error) => {
                        eprintln!("bpftwin: {} cannot be written: {error}", path.display());
                        is_written = false;
                    }
                }
            }
        }
        self.print(&rows);
        let has = |verdict| rows.iter().any(|row| row.verdict == verdict);
        ExitCode::from(match () {
            () if !is_written => USAGE,
            () if has("refuted") => 1,
            () if has("unknown") || rows.len() < jobs.len() => UNKNOWN,
            () => 0,
        })
    }

    fn jobs_of<'a>(&self, requests: &'a [Conditions]) -> Result<Vec<Job<'a>>, String> {
        input::numbered(requests, self.only.request)?
            .into_iter()
            .map(|(request, conditions)| {
                Ok(Job { request, conditions, selected: conditions.select(self.only.cond)? })
            })
            .collect()
    }

    fn prove(&self, job: &Job<'_>) -> Row {
        let limits = Limits {
            timeout: self.timeout,
            memory: mebibytes(self.memory),
            effort: Limits::default().effort.min(self.timeout),
        };
        let mut row = Row {
            file: self.file.display().to_string(),
            request: job.request,
            verdict: "unknown",
            condition: "",
            title: "",
            reason: None,
            model: None,
            proof: None,
            bytes: 0,
            steps: 0,
            duration_us: 0,
            words: Vec::new(),
        };
        let start = Instant::now();
        let mut unknown = None;
        for condition in &job.selected {
            row.condition = condition.kind.name();
            row.title = condition.kind.title();
            match prove(&job.conditions.arena, condition.root, &limits) {
                Verdict::Proved(words) => {
                    row.verdict = "proved";
                    row.bytes = words.len() * 4;
                    row.steps = Proof::parse(&words).map_or(0, |proof| proof.len());
                    row.words = words;
                    row.model = None;
                    break;
                }
                Verdict::Refuted(model) => {
                    row.verdict = "refuted";
                    row.model = Some(assignments(job.conditions, &model));
                }
                Verdict::Unknown(reason) => {
                    row.model = None;
                    unknown = Some((row.condition, row.title, reason));
                }
            }
        }
        // A request is refuted only where every condition is.
        if let Some((condition, title, reason)) = unknown.filter(|_| row.verdict != "proved") {
            row = Row { verdict: "unknown", condition, title, reason: Some(reason), model: None, ..row };
        }
        row.duration_us = start.elapsed().as_micros() as u64;
        row
    }

    fn print(&self, rows: &[Row]) {
        if self.json {
            for row in rows {
                if output::json_line(row).is_err() {
                    break;
                }
            }
            return;
        }
        output::print(|out| {
            if let [row] = rows {
                return print_one(out, row);
            }
            writeln!(out, "{}", table(rows))?;
            let count = |verdict: &str| rows.iter().filter(|row| row.verdict == verdict).count();
            writeln!(
                out,
                "\n{} requests: {} proved, {} refuted, {} unknown",
                rows.len(),
                count("proved"),
                count("refuted"),
                count("unknown")
            )
        });
    }
}

fn proof_path(output: &Path, request: Option<usize>) -> PathBuf {
    match request {
        None => output.into(),
        Some(number) => {
            let mut name = output.as_os_str().to_owned();
            name.push(format!(".{number}"));
            name.into()
        }
    }
}

fn assignments(conditions: &Conditions, model: &Model) -> Vec<Assignment> {
    let values = model.values.iter().map(|&(id, value)| {
        let (width, value) = match value {
            Value::Bool(value) => (0, value.to_string()),
            Value::Bv(value) => (value.width(), format!("{value:#x}")),
        };
        Assignment { name: conditions.variable_name(id), width, value }
    });
    values.collect()
}

fn print_one(out: &mut dyn std::io::Write, row: &Row) -> std::io::Result<()> {
    let time = output::time(row.duration_us);
    match row.verdict {
        "proved" => {
            writeln!(out, "proved: {} cannot be met", row.title)?;
            write!(out, "    {} steps, {} bytes, in {time}", row.steps, row.bytes)?;
            match &row.proof {
                Some(proof) => writeln!(out, "; written to {proof}"),
                None => writeln!(out),
            }
        }
        "refuted" => {
            writeln!(out, "refuted: {} is met by", row.title)?;
            let model = row.model.as_deref().unwrap_or_default();
            for Assignment { name, width, value } in model {
                match width {
                    0 => writeln!(out, "    {name} = {value}")?,
                    width => writeln!(out, "    {name} = {value} ({width} bits)")?,
                }
            }
            if model.is_empty() { writeln!(out, "    any values") } else { Ok(()) }
        }
        _ => writeln!(
            out,
            "unknown: {}, after {time}: {}",
            row.title,
            row.reason.as_deref().unwrap_or("no answer")
        ),
    }
}

fn table(rows: &[Row]) -> comfy_table::Table {
    let mut table = output::new_table(&["request", "condition", "verdict", "steps", "bytes", "time"]);
    for row in rows {
        let color = match row.verdict {
            "proved" => Color::Green,
            "refuted" => Color::Red,
            _ => Color::Yellow,
        };
        let verdict = match &row.reason {
            Some(reason) => format!("{}: {reason}", row.verdict),
            None => row.verdict.into(),
        };
        table.add_row([
            Cell::new(row.request),
            Cell::new(row.condition),
            Cell::new(verdict).fg(color),
            Cell::new(row.steps),
            Cell::new(row.bytes),
            Cell::new(output::time(row.duration_us)),
        ]);
    }
    output::align_numbers(&mut table, 3);
    table
}
