//! `bpftwin bcf`: conditions and proofs of BCF.

mod check;
mod input;
mod prove;
mod show;

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

/// Proofs of what the verifier could not see by itself.
#[derive(Args)]
pub struct Bcf {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Check(check::Check),
    Prove(prove::Prove),
    Show(show::Show),
}

/// Which of a request's two conditions.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Which {
    /// The path is taken at all.
    Path,
    /// The path is taken and the access leaves its bounds.
    Refine,
}

impl Bcf {
    pub fn run(self) -> ExitCode {
        match self.command {
            Command::Check(check) => check.run(),
            Command::Prove(prove) => prove.run(),
            Command::Show(show) => show.run(),
        }
    }
}
