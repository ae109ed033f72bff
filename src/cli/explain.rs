//! `bpftwin explain`: why programs are rejected, and what to do.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bpftwin_uapi::Errno;
use clap::Args;
use comfy_table::{Attribute, Cell, Color, ContentArrangement, Row, Table, presets};

use super::backend::with_load_taken;
use super::object::{Object, OpenError, take_warnings};
use super::verify::{Job, jobs, object_name, type_name};
use super::{Selection, output, usage_error, work};
use crate::bcf::prover;
use crate::explain::model::{BY_ITSELF, Branch, Explanation, Finding, Line, Rejection, proved_words};
use crate::explain::{Explained, Limits, explain, html};
use crate::kernel::own_memory::OwnMemory;
use crate::kernel::settings::{Settings, seconds, series_by_name};
use crate::kernel::user_memory::UserMemory;
use crate::kernel::{Kernel, KernelSettings};

/// Bytes of the log buffer by which the load is recognised; nothing is written to it.
const LOG_SIZE: usize = 4096;
/// Lines of a path that are printed without `--full`.
const LINES: usize = 30;
/// Inputs that are printed without `--full`.
const INPUTS: usize = 20;
/// Branches of a line that are printed without `--full`.
const BRANCHES: usize = 6;
/// Columns of text that does not go to a terminal.
const COLUMNS: u16 = 110;

#[derive(Args)]
pub struct Explain {
    #[command(flatten)]
    selection: Selection,

    /// Kernel series, or "host" for the one that runs here. Default: BPFTWIN_KERNEL, else as the host.
    #[arg(long, value_name = "K")]
    kernel: Option<String>,

    /// Print a JSON object for each program, one a line.
    #[arg(long)]
    json: bool,

    /// Write one page with everything to this file.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,

    /// Print paths with all their lines, and all inputs.
    #[arg(long)]
    full: bool,

    /// Seconds to spend on each condition.
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    timeout: Duration,

    /// Seconds after which the next rejection of a program is not looked for.
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = seconds)]
    total_time: Duration,
}

impl Explain {
    pub fn run(self) -> ExitCode {
        let mut settings = match Settings::from_env() {
            Ok(settings) => settings,
            Err(error) => return usage_error(error),
        };
        self.selection.apply(&mut settings);
        if let Some(name) = &self.kernel {
            match series_by_name(name) {
                Ok(series) => settings.series = series,
                Err(error) => return usage_error(error),
            }
        }
        let jobs = match jobs(&self.selection, settings.custom_btf()) {
            Ok(jobs) => jobs,
            Err(error) => return usage_error(error),
        };
        let bar = output::progress(jobs.len(), self.json);
        let explanations = work::in_parallel(&jobs, self.selection.jobs, |job| {
            bar.set_message(job.info.name.clone());
            let explanation = self.explain(job, &settings);
            bar.inc(1);
            explanation
        });
        bar.finish_and_clear();
        if let Some(file) = &self.html
            && let Err(error) = std::fs::write(file, html::page(&explanations))
        {
            return usage_error(format_args!("{}: {error}", file.display()));
        }
        self.print(&explanations);
        ExitCode::from(u8::from(explanations.iter().any(|explanation| explanation.verdict != "accepted")))
    }

    fn explain(&self, job: &Job, settings: &Settings) -> Explanation {
        let mut explanation = Explanation {
            object: object_name(&job.path),
            program: job.info.name.clone(),
            section: job.info.section.clone(),
            prog_type: String::new(),
            kernel: settings.series.to_string(),
            verdict: "error",
            reason: None,
            rejections: Vec::new(),
            unfinished: false,
            accepted_with: None,
            log: String::new(),
        };
        match self.load(job, settings) {
            Err(error) => explanation.reason = Some(error.to_string()),
            Ok((prog_type, None)) => {
                explanation.prog_type = type_name(prog_type);
                let reason = take_warnings().into_iter().next();
                explanation.reason =
                    Some(reason.unwrap_or_else(|| "the program could not be looked at".into()));
            }
            Ok((prog_type, Some(explained))) => {
                explanation.prog_type = type_name(prog_type);
                explanation.fill(explained);
            }
        }
        explanation
    }

    /// Gives the program's type, and what was found of it once it came to be loaded.
    fn load(&self, job: &Job, settings: &Settings) -> Result<(u32, Option<Explained>), OpenError> {
        let kernel = Arc::new(Kernel::new(KernelSettings { quiet: true, ..settings.kernel_settings() }));
        let mut buffer = vec![0u8; LOG_SIZE];
        let mut object = Object::open(&job.path, settings.custom_btf())?;
        let prog_type = object.select(job.index, self.selection.prog_type.map(|kind| kind.0));
        object.set_log(job.index, 1, &mut buffer);
        let address = buffer.as_ptr() as u64;
        let prover = prover::Limits {
            timeout: self.timeout,
            effort: Duration::from_millis(100),
            ..prover::Limits::default()
        };
        let limits = Limits { prover, total: self.total_time };
        let explained = Arc::new(Mutex::new(None));
        let take = {
            let (kernel, explained) = (Arc::clone(&kernel), Arc::clone(&explained));
            move |attr: &_| {
                let memory: Arc<dyn UserMemory + Send + Sync> = Arc::new(OwnMemory);
                let found = explain(&kernel, &memory, attr, &limits);
                *explained.lock().unwrap_or_else(PoisonError::into_inner) = Some(found);
            }
        };
        with_load_taken(kernel, address, take, || {
            let _ = object.load();
            // Closing the object closes descriptors of the same kernel.
            drop(object);
        });
        let explained = explained.lock().unwrap_or_else(PoisonError::into_inner).take();
        Ok((prog_type, explained))
    }

    fn print(&self, explanations: &[Explanation]) {
        if self.json {
            for explanation in explanations {
                if output::json_line(explanation).is_err() {
                    break;
                }
            }
            return;
        }
        let printer = Printer { full: self.full };
        output::print(|out| {
            for explanation in explanations {
                printer.explanation(out, explanation)?;
            }
            summary(out, explanations)
        });
    }
}

impl Explanation {
    fn fill(&mut self, explained: Explained) {
        let Explained { result, accepted_with, not_emulated, rejections, unfinished, log } = explained;
        self.unfinished = unfinished;
        (self.verdict, self.reason) = match (result, not_emulated) {
            (_, Some(what)) => ("not_emulated", Some(what)),
            (Err(errno), None) if rejections.is_empty() => ("error", Some(format!("not verified: {errno}"))),
            (Ok(()), None) if rejections.is_empty() => ("accepted", None),
            _ => ("rejected", None),
        };
        self.accepted_with = accepted_with;
        self.rejections = rejections;
        self.log = if self.verdict == "rejected" { log } else { String::new() };
    }
}

fn summary(out: &mut dyn Write, explanations: &[Explanation]) -> std::io::Result<()> {
    let count =
        |verdict: &str| explanations.iter().filter(|explanation| explanation.verdict == verdict).count();
    let findings = explanations
        .iter()
        .flat_map(|explanation| &explanation.rejections)
        .map(|rejection| rejection.finding.name());
    let findings: Vec<&str> = findings.collect();
    let found = |name: &str| findings.iter().filter(|finding| **finding == name).count();
    writeln!(
        out,
        "{} programs: {} accepted, {} rejected, {} not emulated, {} not loaded",
        explanations.len(),
        count("accepted"),
        count("rejected"),
        count("not_emulated"),
        count("error"),
    )?;
    writeln!(
        out,
        "{} rejections: {} safe, {} bugs, {} unknown, {} not allowed",
        findings.len(),
        found("safe"),
        found("bug"),
        found("unknown"),
        found("not allowed"),
    )
}

struct Printer {
    full: bool,
}

impl Printer {
    fn explanation(&self, out: &mut dyn Write, explanation: &Explanation) -> std::io::Result<()> {
        if explanation.verdict == "accepted" {
            return Ok(());
        }
        let title = format!("{} {} ({})", explanation.object, explanation.program, explanation.prog_type);
        if let Some(reason) = &explanation.reason {
            let what = if explanation.verdict == "error" { "not loaded" } else { "not emulated" };
            writeln!(out, "{title}: {what}: {reason}\n")?;
            return Ok(());
        }
        for (i, rejection) in explanation.rejections.iter().enumerate() {
            let nth = if explanation.rejections.len() > 1 {
                format!(", rejection {}", i + 1)
            } else {
                String::new()
            };
            writeln!(out, "{}", title_line(format!("{title}{nth}")))?;
            self.rejection(out, rejection)?;
        }
        if let Some(end) = explanation.end() {
            writeln!(out, "{end}\n")?;
        }
        Ok(())
    }

    fn rejection(&self, out: &mut dyn Write, rejection: &Rejection) -> std::io::Result<()> {
        let mut head = table(&[]);
        head.add_row(["kernel", &format!("{} ({})", rejection.message, Errno(rejection.errno))]);
        if let Some(place) = &rejection.place {
            let at = place
                .source
                .as_ref()
                .map_or_else(String::new, |source| format!("{}  {}\n", source.at(), source.text));
            head.add_row(["at", &format!("{at}{}: {}", place.insn, place.text)]);
        }
        if let Some(more) = rejection.other_paths() {
            head.add_row(["also on", &more]);
        }
        if rejection.by_itself {
            head.add_row(["function", BY_ITSELF]);
        }
        if let Some(meaning) = rejection.meaning {
            head.add_row(["meaning", meaning]);
        }
        let (word, color) = match &rejection.finding {
            Finding::Safe { .. } => ("safe", Color::Green),
            Finding::Bug { .. } => ("a bug", Color::Red),
            Finding::Unknown { .. } => ("unknown", Color::Yellow),
            Finding::NotAllowed { .. } => ("not allowed", Color::Yellow),
        };
        let finding = format!("{word}: {}", in_words(&rejection.finding));
        head.add_row(vec![Cell::new("finding"), Cell::new(finding).fg(color)]);
        if let Some(advice) = rejection.advice {
            head.add_row(["what to do", advice]);
        }
        writeln!(out, "{}", head.trim_fmt())?;
        self.details(out, &rejection.finding)?;
        if !rejection.values.is_empty() {
            let mut values = table(&["where the values come from", "", ""]);
            for value in &rejection.values {
                let source = value.source.as_deref().unwrap_or_default();
                values.add_row([&format!("  {}", value.place.at()), &value.place.text, source]);
            }
            writeln!(out, "{}", values.trim_fmt())?;
        }
        self.path(out, rejection)?;
        writeln!(out)
    }

    fn details(&self, out: &mut dyn Write, finding: &Finding) -> std::io::Result<()> {
        match finding {
            Finding::Safe { because, .. } if !because.is_empty() => {
                let mut facts = table(&["what the proof puts together", ""]);
                for fact in because {
                    facts.add_row([&format!("  {}", fact.place.at()), &fact.text]);
                }
                writeln!(out, "{}", facts.trim_fmt())
            }
            Finding::Bug { inputs, .. } if !inputs.is_empty() => {
                let mut listed = table(&["inputs", "", ""]);
                let decisive = inputs.iter().filter(|input| input.decisive).count();
                let shown = if self.full { usize::MAX } else { INPUTS };
                for input in inputs.iter().filter(|input| input.decisive || self.full).take(shown) {
                    listed.add_row([
                        format!("  {}", input.place.at()),
                        input.what.clone(),
                        input.choice().map_or_else(|| number(input.value), Into::into),
                    ]);
                }
                if decisive > shown {
                    listed.add_row([format!("  and {} more; --full prints them", decisive - shown)]);
                }
                let others = inputs.len() - decisive;
                if others != 0 && !self.full {
                    listed.add_row([format!("  and {others} that decide nothing; --full prints them")]);
                }
                writeln!(out, "{}", listed.trim_fmt())
            }
            _ => Ok(()),
        }
    }

    fn path(&self, out: &mut dyn Write, rejection: &Rejection) -> std::io::Result<()> {
        if rejection.path.is_empty() {
            return Ok(());
        }
        let title = format!("path, {} instructions", rejection.steps);
        let mut path = table(&[title.as_str(), "", ""]);
        let skipped = if self.full { 0 } else { rejection.path.len().saturating_sub(LINES) };
        if skipped != 0 {
            path.add_row([format!("  {skipped} lines before; --full prints them")]);
        }
        for (i, line) in rejection.path.iter().enumerate().skip(skipped) {
            path.add_row(self.path_row(line, i + 1 == rejection.path.len()));
        }
        writeln!(out, "{}", path.trim_fmt())
    }

    fn path_row(&self, line: &Line, is_last: bool) -> Row {
        let visits = if line.visits > 1 { format!(" ×{}", line.visits) } else { String::new() };
        let mark = if is_last { ">" } else { " " };
        // An unrolled loop has the same branch again and again.
        let mut ways: Vec<(String, usize)> = Vec::new();
        for way in line.branches.iter().map(Branch::way) {
            match ways.iter_mut().find(|(known, _)| *known == way) {
                Some((_, times)) => *times += 1,
                None => ways.push((way, 1)),
            }
        }
        let shown = if self.full { ways.len() } else { BRANCHES };
        let more = ways.len().saturating_sub(shown);
        let first = (more != 0).then(|| format!("{more} before"));
        let text = |(way, times)| if times > 1 { format!("{way} ×{times}") } else { way };
        let ways: Vec<String> = first.into_iter().chain(ways.into_iter().skip(more).map(text)).collect();
        Row::from([format!("{mark} {}{visits}", line.at), line.text.clone(), ways.join("\n")])
    }
}

/// A finding as a sentence.
pub fn in_words(finding: &Finding) -> String {
    match finding {
        Finding::Safe { proved, proof_bytes: 0, .. } => proved_words(proved).into(),
        Finding::Safe { proved, proof_bytes, prove_us, check_us, .. } => {
            format!(
                "{}; proved in {}, a proof of {proof_bytes} bytes that was checked in {}",
                proved_words(proved),
                output::time(*prove_us),
                output::time(*check_us)
            )
        }
        Finding::Bug { fault, inputs } => {
            let decides = inputs.iter().any(|input| input.decisive);
            format!("a run on {}: {fault}", if decides { "the inputs below" } else { "any input" })
        }
        Finding::Unknown { why } | Finding::NotAllowed { why } => why.clone(),
    }
}

/// Decimal, and hexadecimal where that says more.
fn number(value: u64) -> String {
    match value {
        0..1024 => value.to_string(),
        _ if value as i64 <= -1 && value as i64 >= -4096 => (value as i64).to_string(),
        _ => format!("{value} ({value:#x})"),
    }
}

/// A table without lines. Its text is wrapped to the terminal's width, or to [`COLUMNS`].
fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_content_arrangement(ContentArrangement::Dynamic);
    if !std::io::stdout().is_terminal() {
        table.set_width(COLUMNS);
    }
    if !header.is_empty() {
        table.set_header(header.iter().map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
    }
    table
}

/// A line in bold letters, on a terminal.
fn title_line(title: String) -> String {
    let mut line = table(&[]);
    line.add_row([Cell::new(title).add_attribute(Attribute::Bold)]);
    line.trim_fmt()
}
