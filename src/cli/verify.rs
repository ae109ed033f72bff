//! `bpftwin verify`: every program of the objects, each alone, through the emulated kernel.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use bpftwin_uapi::ProgType;
use clap::Args;

use super::backend::Backend;
use super::load::{self, Request, Verdict};
use super::object::{self, Object, ProgramInfo};
use super::output::{self, Row};
use super::verify_bcf::{self, BcfArgs};
use super::{Selection, usage_error, work};
use crate::kernel::settings::{Settings, series_by_name};
use crate::kernel::{Kernel, KernelSettings};
use crate::syscall::prog_load::auto::Prover;

#[derive(Args)]
pub struct Verify {
    #[command(flatten)]
    selection: Selection,

    /// Kernel series, or "host" for the one that runs here. Default: BPFTWIN_KERNEL, else as the host.
    #[arg(long, value_name = "K[,K...]", value_delimiter = ',')]
    kernel: Vec<String>,

    /// Level of the log that is kept: 1 the path to an error, 2 every state, 4 statistics alone.
    #[arg(long, value_name = "N", default_value_t = 0)]
    log_level: u32,

    /// Print a JSON object for each program and kernel, one a line.
    #[arg(long)]
    json: bool,

    #[command(flatten)]
    bcf: BcfArgs,

    /// Print the largest resident set of this process in the end.
    #[arg(long, hide = true)]
    peak_memory: bool,
}

/// A program to load: where it is, and what it is called.
pub struct Job {
    pub path: PathBuf,
    pub index: usize,
    pub info: ProgramInfo,
}

/// Opens the objects and lists the programs that are asked for.
pub fn jobs(selection: &Selection, btf: Option<&Path>) -> Result<Vec<Job>, String> {
    let mut jobs = Vec::new();
    for path in &selection.objects {
        object::check_file(path).map_err(|error| error.to_string())?;
        let object = Object::open(path, btf).map_err(|error| error.to_string())?;
        for (index, info) in object.programs().into_iter().enumerate() {
            if selection.progs.is_empty() || selection.progs.contains(&info.name) {
                jobs.push(Job { path: path.clone(), index, info });
            }
        }
    }
    if jobs.is_empty() {
        return Err(if selection.progs.is_empty() {
            "the objects hold no programs".into()
        } else {
            format!("the objects hold no program named {}", selection.progs.join(" or "))
        });
    }
    Ok(jobs)
}

/// Short name of an object in tables: as given.
pub fn object_name(path: &Path) -> String {
    path.display().to_string()
}

/// Name of a program type by number.
pub fn type_name(number: u32) -> String {
    ProgType::from_u32(number).map_or_else(|| format!("type {number}"), object::short_prog_type)
}

/// Largest resident set of this process, in KiB.
fn peak_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.trim().trim_end_matches(" kB").parse().ok()
}

impl Verify {
    pub fn run(self) -> ExitCode {
        let mut settings = match Settings::from_env() {
            Ok(settings) => settings,
            Err(error) => return usage_error(error),
        };
        self.selection.apply(&mut settings);
        let mut kernels = Vec::new();
        if self.kernel.is_empty() {
            kernels.push(settings.clone());
        }
        for name in &self.kernel {
            match series_by_name(name) {
                Ok(series) => kernels.push(Settings { series, ..settings.clone() }),
                Err(error) => return usage_error(error),
            }
        }
        if self.log_level & !15 != 0 {
            return usage_error(format_args!(
                "--log-level {}: levels are sums of 1, 2, 4 and 8",
                self.log_level
            ));
        }
        if let Err(error) = self.bcf.prepare(kernels.len()) {
            return usage_error(error);
        }
        let prover = self.bcf.prover(&settings);
        let custom_btf = settings.custom_btf();
        let jobs = match jobs(&self.selection, custom_btf) {
            Ok(jobs) => jobs,
            Err(error) => return usage_error(error),
        };
        let work_items: Vec<(&Job, &Settings)> =
            jobs.iter().flat_map(|job| kernels.iter().map(move |kernel| (job, kernel))).collect();
        let bar = output::progress(work_items.len(), self.json);
        let rows = work::in_parallel(&work_items, self.selection.jobs, |(job, settings)| {
            bar.set_message(job.info.name.clone());
            let row = self.verify(job, settings, prover.as_ref());
            bar.inc(1);
            row
        });
        bar.finish_and_clear();
        let status = self.print(rows);
        if self.peak_memory {
            eprintln!("peak memory: {} KiB", peak_memory().unwrap_or(0));
        }
        status
    }

    fn verify(&self, job: &Job, settings: &Settings, prover: Option<&Arc<Prover>>) -> Row {
        let settings_of_kernel =
            KernelSettings { quiet: true, prover: prover.cloned(), ..settings.kernel_settings() };
        let backend = Backend::emulated(Arc::new(Kernel::new(settings_of_kernel)));
        let request = Request {
            path: &job.path,
            index: job.index,
            btf: settings.custom_btf(),
            default_type: self.selection.prog_type.map(|kind| kind.0),
            log_level: self.log_level | 4,
            want_text: true,
            client: None,
        };
        let mut row = Row {
            object: object_name(&job.path),
            program: job.info.name.clone(),
            section: job.info.section.clone(),
            prog_type: String::new(),
            kernel: settings.series.to_string(),
            verdict: "error",
            errno: libc::EINVAL,
            insns: 0,
            total_states: 0,
            peak_states: 0,
            max_states_per_insn: 0,
            duration_us: 0,
            bcf: None,
            reason: None,
            source: None,
            log: None,
        };
        match load::load(request, &backend) {
            Ok(answer) => {
                let stats = answer.stats.unwrap_or_default();
                row.prog_type = type_name(answer.prog_type);
                row.verdict = answer.verdict.name();
                row.errno = answer.verdict.errno();
                row.insns = stats.insns;
                row.total_states = stats.total_states;
                row.peak_states = stats.peak_states;
                row.max_states_per_insn = stats.max_states_per_insn;
                row.duration_us = stats.duration_us;
                row.reason = output::reason(&answer.verdict, answer.last_line);
                row.source = answer.source_line;
                row.log = (self.log_level != 0).then_some(answer.log);
                if let Some(report) = answer.bcf {
                    if let Err(error) = self.bcf.dump(&job.path, &job.info.name, &report.requests) {
                        eprintln!("bpftwin: {error}");
                    }
                    row.bcf = Some(report.into());
                }
            }
            Err(error) => row.reason = output::reason(&Verdict::Error(error.to_string()), None),
        }
        row
    }

    fn print(&self, rows: Vec<Row>) -> ExitCode {
        if self.json {
            for row in &rows {
                if output::json_line(row).is_err() {
                    break;
                }
            }
        } else {
            if self.log_level != 0 {
                for row in &rows {
                    println!("{} {} ({}):", row.object, row.program, row.kernel);
                    print!("{}", row.log.as_deref().unwrap_or_default());
                }
            }
            println!("{}", output::table(&rows));
            output::explain(&rows);
        }
        let count = |verdict: &str| rows.iter().filter(|row| row.verdict == verdict).count();
        let accepted = count("accepted");
        if !self.json {
            println!(
                "\n{} programs: {accepted} accepted, {} rejected, {} not emulated, {} not loaded",
                rows.len(),
                count("rejected"),
                count("not_emulated"),
                count("error"),
            );
            if rows.iter().any(|row| row.bcf.is_some()) {
                println!("{}", verify_bcf::times(rows.iter().filter_map(|row| row.bcf.as_ref())));
            }
        }
        ExitCode::from(u8::from(accepted != rows.len()))
    }
}
