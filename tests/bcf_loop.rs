//! The loop of requests and proofs: recorded ones of a kernel with BCF, and programs that know nothing of it.
//!
//! `BPFTWIN_TEST_BCF_LOOP` names a folder of recordings: `programs.tsv` (object, program, errno, processed instructions, states, states at
//! the peak, rounds, their answers, the file with the requests), `vmlinux.btf`, and the requests; the objects are beside it.

#[path = "bcf_load/programs.rs"]
#[allow(dead_code, reason = "shared with the tests of the kernel's side")]
mod programs;

mod client;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use bpftwin_uapi::attr::ProgLoad;
use bpftwin_uapi::{Cmd, Insn, ProgType};
use bytemuck::Zeroable;
use client::{bpf, text, under_shim};

/// A row of the table.
struct Recorded {
    program: String,
    errno: i64,
    /// Instructions, states, states at the peak; none where the load was given up.
    counts: Option<[u64; 3]>,
    answers: String,
    requests: Option<PathBuf>,
}

fn recorded(folder: &Path) -> BTreeMap<String, Vec<Recorded>> {
    let table = std::fs::read_to_string(folder.join("programs.tsv")).expect("a table in the folder");
    let mut objects: BTreeMap<String, Vec<Recorded>> = BTreeMap::new();
    for line in table.lines().skip(1) {
        let fields: Vec<&str> = line.split('\t').collect();
        let number = |i: usize| fields[i].parse::<u64>().expect("a number");
        let given_up = fields[3].is_empty();
        objects.entry(fields[0].into()).or_default().push(Recorded {
            program: fields[1].into(),
            errno: number(2) as i64,
            counts: (!given_up).then(|| [3, 4, 5].map(number)),
            answers: fields[7].into(),
            requests: Some(fields[8]).filter(|file| !file.is_empty()).map(|file| folder.join(file)),
        });
    }
    objects
}

/// Rows of `verify --bcf=kernel` by program.
fn verified(
    folder: &Path,
    object: &str,
    programs: &[Recorded],
    dump: &Path,
) -> BTreeMap<String, serde_json::Value> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpftwin"));
    command.current_dir(folder.parent().expect("objects beside the folder"));
    command.args(["verify", "--json", "--bcf=kernel", "--bcf-dump"]).arg(dump).arg(object);
    for program in programs {
        command.args(["--prog", &program.program]);
    }
    if object.starts_with("cilium/") {
        command.args(["--prog-type", "sched_cls"]);
    }
    command.env("BPFTWIN_KERNEL", "6.18").env("BPFTWIN_BTF", folder.join("vmlinux.btf"));
    let output = command.output().unwrap();
    let rows = String::from_utf8_lossy(&output.stdout);
    let rows = rows.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).expect("JSON"));
    rows.map(|row| (row["program"].as_str().unwrap_or_default().to_string(), row)).collect()
}

/// What of a row is not as recorded.
fn differences(recorded: &Recorded, row: &serde_json::Value, dumped: &Path) -> Vec<String> {
    let mut differences = Vec::new();
    let mut compare = |what: &str, ours: String, theirs: String| {
        if ours != theirs {
            differences.push(format!("{what} {ours}, recorded {theirs}"));
        }
    };
    compare("errno", row["errno"].to_string(), recorded.errno.to_string());
    compare("answers", row["bcf_answers"].as_str().unwrap_or_default().into(), recorded.answers.clone());
    if let Some(counts) = recorded.counts {
        let ours = ["insns", "total_states", "peak_states"].map(|count| row[count].as_u64().unwrap_or(0));
        compare("counts", format!("{ours:?}"), format!("{counts:?}"));
    }
    let read = |path: &Path| std::fs::read(path).unwrap_or_default();
    let theirs = recorded.requests.as_deref().map(read).unwrap_or_default();
    if read(dumped) != theirs {
        differences.push("the requests".into());
    }
    differences
}

#[test]
fn requests_and_answers_are_as_recorded() {
    let Some(folder) = std::env::var_os("BPFTWIN_TEST_BCF_LOOP").map(PathBuf::from) else {
        eprintln!("SKIPPED: BPFTWIN_TEST_BCF_LOOP names no folder of recorded loads");
        return;
    };
    let folder = folder.canonicalize().expect("a folder");
    let dump = tempfile::tempdir().unwrap();
    let (mut programs, mut wrong) = (0, 0);
    for (object, recorded) in recorded(&folder) {
        let rows = verified(&folder, &object, &recorded, dump.path());
        for recorded in &recorded {
            programs += 1;
            let file = format!("{}.{}.requests", object.replace('/', "_"), recorded.program);
            let row = rows.get(&recorded.program).cloned().unwrap_or_default();
            let differences = differences(recorded, &row, &dump.path().join(file));
            if !differences.is_empty() {
                wrong += 1;
                eprintln!("{object} {}: {}", recorded.program, differences.join("; "));
            }
        }
    }
    assert!(programs > 0 && wrong == 0, "{wrong} of {programs} programs differ");
}

/// Loads a tracepoint program with a log at level 1, and gives the log with the answer.
fn load(insns: &[Insn]) -> (Result<(), i32>, String) {
    let mut log = vec![0u8; 1 << 16];
    let mut attr = ProgLoad {
        prog_type: ProgType::Tracepoint as u32,
        insn_cnt: insns.len() as u32,
        insns: insns.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        log_level: 1,
        log_buf: log.as_mut_ptr() as u64,
        log_size: log.len() as u32,
        ..ProgLoad::zeroed()
    };
    attr.prog_name[..4].copy_from_slice(b"test");
    let result = bpf(Cmd::ProgLoad, &mut attr).map(client::close);
    let end = log.iter().position(|&byte| byte == 0).unwrap();
    (result, String::from_utf8_lossy(&log[..end]).into_owned())
}

const AUTO: (&str, &str) = ("BPFTWIN_BCF", "auto");
const KERNEL: (&str, &str) = ("BPFTWIN_KERNEL", "6.18");

#[test]
fn a_program_that_knows_nothing_is_saved() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let reports = ("BPFTWIN_LOG", log.path().to_str().unwrap());
    under_shim("a_program_that_knows_nothing_is_saved", &[AUTO, KERNEL, reports], || {
        let (result, log) = load(&programs::halved());
        assert_eq!(result, Ok(()), "{log}");
        assert!(log.starts_with("processed 14 insns ") && log.lines().count() == 1, "{log}");
        let (result, log) = load(&programs::halved_twice(0));
        assert_eq!(result, Ok(()), "{log}");
        // A long way between: terms of any depth fit onto a stack that is small.
        let small = std::thread::Builder::new().stack_size(256 << 10);
        let deep = small.spawn(|| load(&programs::halved_twice(500)).0).unwrap().join();
        assert_eq!(deep.unwrap(), Ok(()));
        let reports = std::fs::read_to_string(std::env::var_os("BPFTWIN_LOG").unwrap()).unwrap();
        assert!(reports.contains("bpftwin: bcf: test accepted: 1 of 1 conditions proved"), "{reports}");
        assert!(reports.contains("bpftwin: bcf: test accepted: 2 of 2 conditions proved"), "{reports}");
    });
}

#[test]
fn a_program_that_is_not_saved_has_the_log_of_old() {
    under_shim("a_program_that_is_not_saved_has_the_log_of_old", &[AUTO, KERNEL], || {
        let (result, log) = load(&programs::out_of_bounds());
        assert_eq!(result, Err(libc::EINVAL), "{log}");
        assert!(log.contains("invalid variable-offset") && !log.contains("bcf"), "{log}");
    });
}

#[test]
fn rounds_have_a_limit() {
    under_shim("rounds_have_a_limit", &[AUTO, KERNEL, ("BPFTWIN_BCF_ROUNDS", "1")], || {
        assert_eq!(load(&programs::halved()).0, Ok(()));
        let (result, log) = load(&programs::halved_twice(1));
        assert_eq!(result, Err(libc::EINVAL), "{log}");
    });
}

#[test]
fn limits_that_make_no_sense_are_told() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpftwin"));
    let output = command.args(["verify", "x.o"]).env("BPFTWIN_BCF_TIMEOUT", "soon").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output).contains("BPFTWIN_BCF_TIMEOUT"), "{}", text(&output));
}
