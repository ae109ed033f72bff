//! The command `bpftwin` as a person or a script uses it.

mod client;

use std::path::PathBuf;
use std::process::{Command, Output};

use client::{built, forbid_bpf, text};

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpftwin"));
    command.args(arguments).env_remove("BPFTWIN_KERNEL").env_remove("BPFTWIN_CAPS");
    forbid_bpf(&mut command);
    command.output().unwrap()
}

/// The compiled examples, or a visible skip.
fn examples() -> Option<PathBuf> {
    let dir = built("BPFTWIN_TEST_OBJECTS", "../bpf").filter(|dir| dir.join("xdp_ports.bpf.o").exists());
    if dir.is_none() {
        eprintln!("SKIPPED: the examples are not compiled; scripts/test does that");
    }
    dir
}

#[test]
fn examples_have_their_verdicts() {
    let Some(dir) = examples() else { return };
    let mut arguments = vec!["verify".to_string(), "--json".into()];
    for name in ["exec_log", "masked_index", "rejected", "sock_limits", "tc_mark", "xdp_ports"] {
        arguments.push(dir.join(format!("{name}.bpf.o")).display().to_string());
    }
    let output = run(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let rows: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let verdicts: Vec<String> = rows
        .iter()
        .map(|row| {
            format!("{} {} {} {}", row["program"], row["prog_type"], row["verdict"], row["errno"])
                .replace('"', "")
        })
        .collect();
    assert_eq!(
        verdicts,
        [
            "log_exec tracepoint accepted 0",
            "masked_index socket_filter rejected 13",
            "masked_index_off_by_one socket_filter rejected 13",
            "unchecked_value socket_filter rejected 13",
            "unchecked_index socket_filter rejected 13",
            "bind_range cgroup_sock_addr accepted 0",
            "clamp_window sock_ops accepted 0",
            "mark sched_cls accepted 0",
            "count_ports xdp accepted 0",
        ]
    );
    assert!(rows.iter().all(|row| row["insns"].as_u64().unwrap() > 0));
    assert_eq!(rows[3]["reason"], "R0 invalid mem access 'map_value_or_null'");
    assert!(rows[4]["source"].as_str().unwrap().starts_with("return value[skb->len]; @ rejected.bpf.c:"));
}

#[test]
fn the_table_is_for_people() {
    let Some(dir) = examples() else { return };
    let object = dir.join("rejected.bpf.o").display().to_string();
    let output = run(&["verify", "--prog", "unchecked_index", &object]);
    let printed = text(&output);
    assert!(printed.contains("rejected (EACCES)"), "{printed}");
    assert!(printed.contains("at: return value[skb->len];"), "{printed}");
    let output = run(&["verify", "--prog", "unchecked_index", "--log-level", "2", &object]);
    assert!(text(&output).contains("0: R1=ctx() R10=fp0"), "{}", text(&output));
}

#[test]
fn proofs_save_programs() {
    let Some(dir) = examples() else { return };
    let object = dir.join("masked_index.bpf.o").display().to_string();
    let output = run(&["verify", "--bcf", "--json", &object]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let rows: Vec<serde_json::Value> = String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let [safe, wrong] = &rows[..] else { panic!("{rows:?}") };
    assert_eq!((&safe["verdict"], &safe["bcf_last"]), (&"accepted".into(), &"proved".into()), "{safe}");
    assert_eq!((&wrong["verdict"], &wrong["bcf_last"]), (&"rejected".into(), &"refuted".into()), "{wrong}");
    assert!(safe["bcf_requests"] == 1 && safe["bcf_proof_bytes"].as_u64() > Some(0), "{safe}");
    let printed = text(&run(&["verify", "--bcf", &object]));
    assert!(printed.contains("no proof: its condition can be met"), "{printed}");
    assert!(printed.contains("proving"), "{printed}");
}

#[test]
fn wrong_input_gets_a_sentence() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("text"), "hello").unwrap();
    std::fs::write(path("empty"), "").unwrap();
    std::fs::write(path("short"), b"\x7fELF\x02\x01").unwrap();
    for (file, sentence) in [
        (path("missing"), "No such file"),
        (path("text"), "is not an ELF file"),
        (path("empty"), "is empty"),
        (path("short"), "is truncated"),
        (dir.path().display().to_string(), "directory"),
        ("/proc/self/exe".into(), "not for BPF"),
    ] {
        let output = run(&["verify", &file]);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
        assert!(text(&output).contains(sentence), "{}", text(&output));
    }
}

#[test]
fn wrong_usage_is_status_2() {
    for arguments in [
        &["verify"][..],
        &["verify", "--kernel", "2.4", "x.o"],
        &["verify", "--prog-type", "nonsense", "x.o"],
        &["fly"],
        &["run", "--mode", "guess", "--", "true"],
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    }
    assert_eq!(run(&["--help"]).status.code(), Some(0));
}

#[test]
fn truncated_objects_do_no_harm() {
    let Some(dir) = examples() else { return };
    let whole = std::fs::read(dir.join("xdp_ports.bpf.o")).unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let path = scratch.path().join("cut.bpf.o");
    for len in (0..whole.len()).step_by(whole.len() / 16) {
        std::fs::write(&path, &whole[..len]).unwrap();
        let output = run(&["verify", path.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(2), "{len}: {}", text(&output));
    }
}
