//! The command `bpftwin`: one file per subcommand.

mod backend;
mod bcf;
mod bench;
mod diff;
mod explain;
mod load;
pub mod object;
mod output;
mod run;
mod verify;
mod verify_bcf;
mod work;

use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use backend::{hook_bpf, hook_mmap, hook_open, host_has_bcf, with_load_taken};

use crate::kernel::caps::Caps;
use crate::kernel::settings::Settings;
use object::ProgTypeArg;

/// Exit status where the input or the command line is wrong.
const USAGE: u8 = 2;

/// The kernel's bpf(2) in userspace: verify BPF programs as Linux would, without a kernel that does it.
#[derive(Parser)]
#[command(name = "bpftwin", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Verify every program of BPF objects and print a table.
    Verify(verify::Verify),
    /// Say why programs are rejected: the path, the values, whether it is a bug, and what to do.
    Explain(explain::Explain),
    /// Compare the emulated kernel's answers with those of the kernel that runs here.
    Diff(diff::Diff),
    /// Compare verification times with those of the kernel that runs here.
    Bench(bench::Bench),
    /// Run a command with its bpf(2) calls answered by the emulated kernel.
    Run(run::Run),
    Bcf(bcf::Bcf),
}

/// What `verify` and `diff` share: which objects and programs, and how they are loaded.
#[derive(Args, Clone)]
struct Selection {
    /// BPF ELF objects.
    #[arg(required = true, value_name = "OBJECT")]
    objects: Vec<std::path::PathBuf>,

    /// Only programs with this name; may be given more than once.
    #[arg(long = "prog", value_name = "NAME")]
    progs: Vec<String>,

    /// Type of programs whose section names none, such as xdp or sched_cls.
    #[arg(long, value_name = "TYPE")]
    prog_type: Option<ProgTypeArg>,

    /// Capabilities of the loader in the emulated kernel: all, real, or a comma list. Default: BPFTWIN_CAPS, else all.
    #[arg(long, value_name = "CAPS")]
    caps: Option<Caps>,

    /// vmlinux BTF or ELF file of the emulated kernel. Default: BPFTWIN_BTF, else /sys/kernel/btf/vmlinux.
    #[arg(long, value_name = "FILE")]
    btf: Option<std::path::PathBuf>,

    /// Programs verified at a time. Default: the number of CPUs.
    #[arg(long, value_name = "N")]
    jobs: Option<std::num::NonZeroUsize>,
}

impl Selection {
    /// Puts what the command line says over the environment's settings.
    fn apply(&self, settings: &mut Settings) {
        if let Some(caps) = self.caps {
            settings.caps = caps;
        }
        if let Some(btf) = &self.btf {
            settings.btf = btf.clone();
        }
    }
}

/// Runs the command with the arguments of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
        }
    };
    match cli.command {
        Command::Verify(verify) => verify.run(),
        Command::Explain(explain) => explain.run(),
        Command::Diff(diff) => diff.run(),
        Command::Bench(bench) => bench.run(),
        Command::Run(run) => run.run(),
        Command::Bcf(bcf) => bcf.run(),
    }
}

/// Prints why the command cannot go on, and gives the exit status for it.
fn usage_error(message: impl std::fmt::Display) -> ExitCode {
    eprintln!("bpftwin: {message}");
    ExitCode::from(USAGE)
}
