//! Programs on which this verifier and the kernel once disagreed, each with the kernel's answer.
//!
//! `NAME.case` is a program as `scripts/diff-fuzz` stores it, named after the kernel function concerned; `NAME.log` is
//! the errno and the log of the kernel. Where the live kernel is of the emulated series and lets us load, it is asked
//! as well. With `UPDATE_EXPECTED=1` the kernel's answers are stored.
//!
//! Those in `bcf/` are loaded by a client that claims to have proved what is asked for; the answers, with the requests, are those of a
//! 6.18.15 with BCF's patches, which takes the client's word.

#[allow(dead_code)]
#[path = "../../examples/diff_fuzz/btf.rs"]
mod btf;
#[allow(dead_code)]
#[path = "../../examples/diff_fuzz/case.rs"]
mod case;
#[allow(dead_code)]
#[path = "../../examples/diff_fuzz/kernel.rs"]
mod kernel;
#[path = "../../examples/diff_fuzz/ours.rs"]
mod ours;
#[allow(dead_code)]
#[path = "../../examples/diff_fuzz/runner.rs"]
mod runner;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bpftwin::bcf::client::{Client, Proofs};
use bpftwin::bcf::prover::Limits;
use case::Case;
use kernel::World;
use runner::{Answer, Ours, Runner, comparable};

/// Programs in one folder, and how they are loaded.
struct Cases {
    folder: &'static str,
    with_bcf: bool,
}

const CASES: [Cases; 2] = [
    Cases { folder: "tests/divergences", with_bcf: false },
    Cases { folder: "tests/divergences/bcf", with_bcf: true },
];

impl Cases {
    fn all(&self) -> Vec<(PathBuf, Case)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(self.folder);
        let mut paths: Vec<PathBuf> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|extension| extension == "case"))
            .collect();
        paths.sort();
        paths
            .into_iter()
            .map(|path| {
                let case = Case::parse(&std::fs::read_to_string(&path).unwrap());
                (path.clone(), case.unwrap_or_else(|| panic!("{}: not a program", path.display())))
            })
            .collect()
    }

    fn runner(&self, world: &Arc<World>) -> Runner {
        let client = Client::new(Limits::default(), 40, Proofs::Claimed);
        Runner::new(Arc::clone(world), self.with_bcf.then(|| Arc::new(client)), 0)
    }
}

fn text(answer: &Answer) -> String {
    let mut text = String::new();
    for round in answer.conversation.iter().flat_map(|conversation| &conversation.rounds) {
        text.push_str(&format!("request, errno {}, answer {}\n", round.errno, round.answer));
        for words in round.request.chunks(8) {
            let words: Vec<String> = words.iter().map(|word| format!("{word:08x}")).collect();
            text.push_str(&format!("    {}\n", words.join(" ")));
        }
    }
    text.push_str(&format!("errno {}\n", answer.errno));
    for line in answer.log.lines() {
        text.push_str(&comparable(line));
        text.push('\n');
    }
    text
}

fn expected(case: &Path) -> String {
    std::fs::read_to_string(case.with_extension("log")).unwrap_or_default()
}

#[test]
fn answers_are_the_kernels() {
    let world = Arc::new(World::offline().unwrap());
    for cases in CASES {
        let mut runner = cases.runner(&world);
        for (path, case) in cases.all() {
            let answer = match runner.ours_only(&case) {
                Ours::Answer(answer) => text(&answer),
                Ours::NotEmulated(what) => format!("not emulated: {what}"),
                Ours::Panicked(message) => panic!("{}: {message}", path.display()),
            };
            assert!(answer == expected(&path), "{}:\n{answer}", path.display());
        }
    }
}

#[test]
fn expected_answers_are_the_live_kernels() {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let world = match World::new() {
        Ok(world) if release.starts_with("6.18.") => Arc::new(world),
        _ => {
            eprintln!("SKIPPED: no right to load programs, or not a 6.18 kernel");
            return;
        }
    };
    // A kernel with BCF is an early one.
    let with_bcf = bpftwin::cli::host_has_bcf().is_ok();
    for cases in CASES.iter().filter(|cases| cases.with_bcf == with_bcf) {
        let mut runner = cases.runner(&world);
        for (path, case) in cases.all() {
            let answer = text(&runner.kernel_only(&case));
            if std::env::var_os("UPDATE_EXPECTED").is_some() {
                std::fs::write(path.with_extension("log"), &answer).unwrap();
            }
            assert!(answer == expected(&path), "{}:\n{answer}", path.display());
        }
    }
}
