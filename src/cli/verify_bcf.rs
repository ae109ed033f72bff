//! `bpftwin verify --bcf`: what the flags say, and what became of the proofs.

use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use comfy_table::Cell;
use serde::Serialize;

use super::output;
use crate::kernel::profile::Bcf;
use crate::kernel::settings::{Diagnostics, Settings, mebibytes, seconds};
use crate::syscall::prog_load::auto::{Conditions, Limits, Prover, Report};

/// Whose conditions are proved.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Kind {
    /// Sound ones; a program that they cannot save is answered as without BCF.
    Auto,
    /// Those of the published kernel, with its answers.
    Kernel,
}

#[derive(Args)]
#[command(next_help_heading = "Proofs")]
pub struct BcfArgs {
    /// Save programs that would be rejected with proofs that their accesses are safe, as BPFTWIN_BCF=auto does. "kernel": with the
    /// conditions and answers of the published kernel.
    #[arg(long, value_enum, num_args = 0..=1, require_equals = true, default_missing_value = "auto")]
    bcf: Option<Kind>,

    /// Time for one condition. Default: BPFTWIN_BCF_TIMEOUT, else 10.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    bcf_timeout: Option<Duration>,

    /// Time for a program, after which no further condition is begun. Default: BPFTWIN_BCF_LOAD_TIMEOUT, else 60.
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    bcf_load_timeout: Option<Duration>,

    /// Conditions of a program. Default: BPFTWIN_BCF_ROUNDS, else 1000.
    #[arg(long, value_name = "N")]
    bcf_rounds: Option<u32>,

    /// Memory for proving one condition. Default: BPFTWIN_BCF_MEMORY, else 256.
    #[arg(long, value_name = "MIB")]
    bcf_memory: Option<u32>,

    /// Write the requests of each program to FOLDER/OBJECT.PROGRAM.requests, slashes being underscores: for `bpftwin bcf`.
    #[arg(long, value_name = "FOLDER")]
    bcf_dump: Option<PathBuf>,
}

impl BcfArgs {
    /// Who proves, where anybody does.
    pub fn prover(&self, settings: &Settings) -> Option<Arc<Prover>> {
        let conditions = match self.bcf {
            Some(Kind::Auto) => Conditions::Sound,
            Some(Kind::Kernel) => Conditions::Published,
            None if settings.bcf == Bcf::Auto => Conditions::Sound,
            None => return None,
        };
        let mut limits: Limits = settings.bcf_limits;
        limits.condition = self.bcf_timeout.unwrap_or(limits.condition);
        limits.load = self.bcf_load_timeout.unwrap_or(limits.load);
        limits.rounds = self.bcf_rounds.unwrap_or(limits.rounds);
        limits.memory = self.bcf_memory.map_or(limits.memory, mebibytes);
        // The rows tell all.
        let quiet = Diagnostics::Off;
        Some(Arc::new(Prover::new(limits, conditions, self.bcf_dump.is_some(), quiet)))
    }

    /// Writes a program's requests where they are asked for and there are any.
    ///
    /// # Errors
    /// A sentence about what could not be written.
    pub fn dump(&self, object: &Path, program: &str, requests: &[Vec<u32>]) -> Result<(), String> {
        let Some(folder) = self.bcf_dump.as_ref().filter(|_| !requests.is_empty()) else { return Ok(()) };
        let path = folder.join(format!("{}.{}.requests", flat_name(object), program.replace('/', "_")));
        let words: Vec<u32> =
            requests.iter().flat_map(|request| [&[request.len() as u32], &request[..]].concat()).collect();
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        std::fs::write(&path, bytes).map_err(|error| format!("{} cannot be written: {error}", path.display()))
    }

    /// Makes ready for `kernels` kernels.
    ///
    /// # Errors
    /// What is wrong with the command line.
    pub fn prepare(&self, kernels: usize) -> Result<(), String> {
        let Some(folder) = &self.bcf_dump else { return Ok(()) };
        if kernels > 1 {
            return Err("--bcf-dump is for one kernel at a time".into());
        }
        std::fs::create_dir_all(folder)
            .map_err(|error| format!("--bcf-dump: {} cannot be made: {error}", folder.display()))
    }
}

/// A path as the name of a file.
fn flat_name(path: &Path) -> String {
    let parts = path.components().filter_map(|component| match component {
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
        part => Some(part.as_os_str().to_string_lossy()),
    });
    parts.collect::<Vec<_>>().join("_")
}

/// What BCF did for a program, as `--json` prints it.
#[derive(Serialize)]
pub struct BcfRow {
    /// Conditions that were to be proved.
    pub bcf_requests: usize,
    /// A letter for each: P path condition proved, R refine condition proved, N neither can be, U unknown.
    pub bcf_answers: String,
    pub bcf_proof_bytes: u64,
    pub bcf_verify_us: u64,
    pub bcf_prove_us: u64,
    pub bcf_check_us: u64,
    /// Of the last condition: `proved`, `refuted`, `unknown`, or `none`.
    pub bcf_last: &'static str,
    /// Why it is unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bcf_reason: Option<String>,
}

impl From<Report> for BcfRow {
    fn from(report: Report) -> Self {
        let micros = |time: Duration| time.as_micros() as u64;
        BcfRow {
            bcf_requests: report.rounds(),
            bcf_proof_bytes: report.proof_bytes,
            bcf_verify_us: micros(report.verifying),
            bcf_prove_us: micros(report.proving),
            bcf_check_us: micros(report.checking),
            bcf_last: report.last.name(),
            bcf_reason: report.reason,
            bcf_answers: report.answers,
        }
    }
}

/// Titles of the columns.
pub const COLUMNS: [&str; 5] = ["conditions", "last", "proofs", "proving", "checking"];

/// A row's cells in these columns.
pub fn cells(row: Option<&BcfRow>) -> [Cell; 5] {
    let Some(row) = row.filter(|row| row.bcf_requests > 0) else {
        return std::array::from_fn(|_| Cell::new("-"));
    };
    [
        Cell::new(row.bcf_requests),
        Cell::new(row.bcf_last),
        Cell::new(format!("{} B", row.bcf_proof_bytes)),
        Cell::new(output::time(row.bcf_prove_us)),
        Cell::new(output::time(row.bcf_check_us)),
    ]
}

/// Why proofs did not save a program, where it asked for any.
pub fn explanation(row: &BcfRow) -> Option<String> {
    let of = match row.bcf_requests {
        0 => return None,
        1 => "its condition".into(),
        requests => format!("the last of its {requests} conditions"),
    };
    Some(match (row.bcf_last, &row.bcf_reason) {
        ("refuted", _) => format!("no proof: {of} can be met"),
        ("unknown", Some(reason)) => format!("no proof: {of} is unknown: {reason}"),
        _ => format!("{of} is proved"),
    })
}

/// Where the time went, over all programs.
pub fn times<'a>(rows: impl Iterator<Item = &'a BcfRow>) -> String {
    let (mut verify, mut prove, mut check) = (0, 0, 0);
    for row in rows {
        verify += row.bcf_verify_us;
        prove += row.bcf_prove_us;
        check += row.bcf_check_us;
    }
    let time = output::time;
    format!("{} verifying, {} proving, {} checking proofs", time(verify), time(prove), time(check))
}
