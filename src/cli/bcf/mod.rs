//! `bpftwin bcf`: conditions and proofs of BCF.

mod check;
mod input;
mod prove;
mod show;

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};

/// The two first commands, for the help.
const EXAMPLE: &str = "Example, a condition that is proved impossible, and the check of the proof:
  bpftwin bcf prove examples/masked_index.smt2 -o proof.bcf
  bpftwin bcf check --goal examples/masked_index.smt2 proof.bcf";

/// Make, check and print BCF proofs: that an access which a verifier could not judge cannot go wrong.
#[derive(Args)]
#[command(after_help = EXAMPLE)]
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
