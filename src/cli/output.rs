//! What the command prints: the table of a verification, lines of JSON, progress.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use comfy_table::{Attribute, Cell, CellAlignment, Color, ContentArrangement, Table, presets};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::load::Verdict;
use super::verify_bcf::{self, BcfRow};

/// One program's result as `--json` prints it.
#[derive(Serialize)]
pub struct Row {
    pub object: String,
    pub program: String,
    pub section: String,
    pub prog_type: String,
    pub kernel: String,
    pub verdict: &'static str,
    pub errno: i32,
    pub insns: u64,
    pub total_states: u64,
    pub peak_states: u64,
    pub max_states_per_insn: u64,
    pub duration_us: u64,
    #[serde(flatten)]
    pub bcf: Option<BcfRow>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub log: Option<String>,
}

/// Prints a value as a line of JSON. The error is the reader's having gone.
pub fn json_line(value: &impl Serialize) -> std::io::Result<()> {
    let line = serde_json::to_string(value).map_err(std::io::Error::other)?;
    writeln!(std::io::stdout().lock(), "{line}")
}

/// Prints to standard output. That its reader has gone is no error.
pub fn print(write: impl FnOnce(&mut dyn Write) -> std::io::Result<()>) {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let _ = write(&mut out).and_then(|()| out.flush());
}

/// A progress bar on a terminal, nothing elsewhere.
pub fn progress(len: usize, quiet: bool) -> ProgressBar {
    if quiet || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(len as u64);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} {wide_msg}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}

/// The table that a person reads.
pub fn table(rows: &[Row]) -> Table {
    let several_kernels = rows.windows(2).any(|pair| pair[0].kernel != pair[1].kernel);
    let mut header = vec!["object", "program", "type"];
    if several_kernels {
        header.push("kernel");
    }
    header.extend(["verdict", "instructions", "states", "time"]);
    let first_number = header.len() - 3;
    let with_bcf = rows.iter().any(|row| row.bcf.is_some());
    if with_bcf {
        header.extend(verify_bcf::COLUMNS);
    }
    let mut table = new_table(&header);
    for row in rows {
        let color = match row.verdict {
            "accepted" => Color::Green,
            "rejected" => Color::Red,
            _ => Color::Yellow,
        };
        let mut cells = vec![Cell::new(&row.object), Cell::new(&row.program), Cell::new(&row.prog_type)];
        if several_kernels {
            cells.push(Cell::new(&row.kernel));
        }
        cells.push(Cell::new(verdict_text(row)).fg(color));
        cells.extend([Cell::new(row.insns), Cell::new(row.total_states), Cell::new(time(row.duration_us))]);
        if with_bcf {
            cells.extend(verify_bcf::cells(row.bcf.as_ref()));
        }
        table.add_row(cells);
    }
    align_numbers(&mut table, first_number);
    table
}

/// A table with no rows yet. It fits a terminal, and elsewhere its lines are as long as they have to be.
pub fn new_table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING);
    let on_terminal = std::io::stdout().is_terminal();
    table.set_content_arrangement(if on_terminal {
        ContentArrangement::Dynamic
    } else {
        ContentArrangement::Disabled
    });
    table.set_header(header.iter().map(|title| Cell::new(title).add_attribute(Attribute::Bold)));
    table
}

/// Aligns the columns from `first` on to the right.
pub fn align_numbers(table: &mut Table, first: usize) {
    for column in table.column_iter_mut().skip(first) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// `rejected (EACCES)`.
fn verdict_text(row: &Row) -> String {
    match row.verdict {
        "rejected" => format!("rejected ({})", bpftwin_uapi::Errno(row.errno)),
        "not_emulated" => "not emulated".into(),
        other => other.into(),
    }
}

/// A time with a unit that fits it.
pub fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

/// Prints what is behind every verdict but acceptance.
pub fn explain(rows: &[Row]) {
    for row in rows.iter().filter(|row| row.verdict != "accepted") {
        println!("\n{} {}: {}", row.object, row.program, verdict_text(row));
        if let Some(reason) = &row.reason {
            println!("    {reason}");
        }
        if let Some(bcf) = row.bcf.as_ref().and_then(verify_bcf::explanation) {
            println!("    {bcf}");
        }
        if let Some(source) = &row.source {
            println!("    at: {source}");
        }
    }
}

/// Text of a verdict's reason, where it has one of its own.
pub fn reason(verdict: &Verdict, last_line: Option<String>) -> Option<String> {
    match verdict {
        Verdict::Accepted => None,
        Verdict::Rejected(_) => last_line,
        Verdict::NotEmulated(reason) | Verdict::Error(reason) => Some(reason.clone()),
    }
}
