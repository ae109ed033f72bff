//! Proofs with known answers: a folder of them in `BPFTWIN_TEST_BCF_PROOFS`, beside it a table `FOLDER.tsv` with the columns file,
//! bytes, errno of the published checker, POLY_NORM and rewrite steps that it took on trust, steps (0 where the file is no proof).

use std::path::PathBuf;

use bpftwin::bcf::checker::{CheckError, Examined, Policy, examine};

struct Answer {
    file: String,
    errno: i32,
    trusted_poly_norm: u32,
    trusted_rewrite: u32,
    steps: u32,
}

/// The folder and its table; `None` where the environment names none.
fn corpus() -> Option<(PathBuf, Vec<Answer>)> {
    let Some(folder) = std::env::var_os("BPFTWIN_TEST_BCF_PROOFS").map(PathBuf::from) else {
        eprintln!("skipped: BPFTWIN_TEST_BCF_PROOFS names no folder of proofs");
        return None;
    };
    let table = std::fs::read_to_string(folder.with_extension("tsv")).expect("a table beside the folder");
    let answers = table.lines().skip(1).map(|line| {
        let fields: Vec<&str> = line.split('\t').collect();
        let number = |i: usize| fields[i].parse().expect("a number");
        Answer {
            file: fields[0].into(),
            errno: number(2) as i32,
            trusted_poly_norm: number(3),
            trusted_rewrite: number(4),
            steps: number(5),
        }
    });
    Some((folder, answers.collect()))
}

/// Prints the differences and fails if there are any.
fn report(differences: &[String], files: usize) {
    for difference in differences {
        eprintln!("{difference}");
    }
    assert!(differences.is_empty(), "{} of {files} proofs differ", differences.len());
}

#[test]
fn reference_answers_as_the_published_checker() {
    let Some((folder, answers)) = corpus() else { return };
    let mut differences = Vec::new();
    for answer in &answers {
        let bytes = std::fs::read(folder.join(&answer.file)).expect("a proof");
        let Examined { verdict, steps, report } = examine(&bytes, None, Policy::Reference);
        let errno = verdict.as_ref().err().map_or(0, CheckError::errno);
        let trusted = (report.trusted_poly_norm, report.trusted_rewrite);
        let expected = (answer.errno, (answer.trusted_poly_norm, answer.trusted_rewrite), answer.steps);
        let answered = (errno, trusted, steps);
        if answered != expected {
            differences.push(format!("{}: {answered:?}, not {expected:?}: {verdict:?}", answer.file));
        }
    }
    report(&differences, answers.len());
}

#[test]
fn strict_accepts_what_needs_no_trust_in_rewrites() {
    let Some((folder, answers)) = corpus() else { return };
    let mut differences = Vec::new();
    for answer in &answers {
        let bytes = std::fs::read(folder.join(&answer.file)).expect("a proof");
        let Examined { verdict, report, .. } = examine(&bytes, None, Policy::Strict);
        // What the published checker rejects may well follow: it has restrictions that are not needed.
        let wrong = match verdict {
            Ok(()) => answer.trusted_rewrite != 0,
            Err(_) => answer.errno == 0 && answer.trusted_rewrite == 0,
        };
        if wrong || report.trusted_poly_norm != 0 || report.trusted_rewrite != 0 {
            differences.push(format!("{}: {verdict:?}", answer.file));
        }
    }
    report(&differences, answers.len());
}
