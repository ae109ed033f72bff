//! The command `bpftwin`. See `bpftwin::cli`.

mod libc_calls;

use std::process::ExitCode;

fn main() -> ExitCode {
    bpftwin::cli::main()
}
