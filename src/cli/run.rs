//! `bpftwin run`: a command under the preload library.

use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode};

use clap::Args;

use super::usage_error;
use crate::kernel::settings::{Mode, series_by_name};

/// File name of the preload library.
const SHIM: &str = "libbpftwin_shim.so";

/// Settings that have no option.
const ENVIRONMENT: &str = "\
Environment, of the command too:
  BPFTWIN_BTF   the emulated kernel's BTF, a raw BTF or an ELF file
  BPFTWIN_CAPS  capabilities of the caller: all, real, or a comma list
  BPFTWIN_BCF   off; kernel: BPF_PROG_LOAD hands out conditions and takes proofs; auto: they are proved here
  BPFTWIN_LOG   where reports go: 1 for standard error, or a file";

#[derive(Args)]
#[command(after_help = ENVIRONMENT)]
pub struct Run {
    /// Kernel series, or "host" for the one that runs here.
    #[arg(long, value_name = "K")]
    kernel: Option<String>,

    /// emulate: no real bpf(2) call is made; check: the real kernel answers, and its answers to program loads are
    /// compared with ours; record is not emulated yet.
    #[arg(long, value_name = "M")]
    mode: Option<Mode>,

    /// Command to run, with its arguments.
    #[arg(required = true, last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

impl Run {
    pub fn run(self) -> ExitCode {
        let Some(shim) = find_shim() else {
            return usage_error(format_args!(
                "{SHIM} is not beside the command, nor in ../lib; BPFTWIN_SHIM can name it"
            ));
        };
        let Some((program, arguments)) = self.command.split_first() else {
            return usage_error("no command given");
        };
        let mut command = Command::new(program);
        command.args(arguments);
        let mut preload = OsString::from(shim);
        if let Some(others) = std::env::var_os("LD_PRELOAD").filter(|others| !others.is_empty()) {
            preload.push(":");
            preload.push(others);
        }
        command.env("LD_PRELOAD", preload);
        if let Some(kernel) = self.kernel {
            if let Err(error) = series_by_name(&kernel) {
                return usage_error(error);
            }
            command.env("BPFTWIN_KERNEL", kernel);
        }
        if let Some(mode) = self.mode {
            command.env("BPFTWIN_MODE", mode.name());
        }
        let error = command.exec();
        usage_error(format_args!("{}: {error}", program.to_string_lossy()))
    }
}

/// The preload library: named by BPFTWIN_SHIM, beside this executable, or in the `lib` folder next to its folder.
fn find_shim() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("BPFTWIN_SHIM") {
        return Some(PathBuf::from(named)).filter(|path| path.is_file());
    }
    let executable = std::env::current_exe().ok()?;
    let dir = executable.parent()?;
    [dir.join(SHIM), dir.join("../lib").join(SHIM), dir.join("../lib/bpftwin").join(SHIM)]
        .into_iter()
        .find(|path| path.is_file())
}
