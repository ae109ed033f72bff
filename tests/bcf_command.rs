//! `bpftwin bcf` as a person or a script uses it.

mod client;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use client::{forbid_bpf, text};
use serde_json::Value;

fn run(arguments: &[&str]) -> Output {
    let command = std::env::var_os("BPFTWIN_TEST_COMMAND").unwrap_or(env!("CARGO_BIN_EXE_bpftwin").into());
    let mut command = Command::new(command);
    command.arg("bcf").args(arguments);
    forbid_bpf(&mut command);
    command.output().unwrap()
}

#[track_caller]
fn expect(status: i32, arguments: &[&str]) -> String {
    let output = run(arguments);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {}", text(&output));
    String::from_utf8([output.stdout, output.stderr].concat()).unwrap()
}

fn json_lines(output: &str) -> Vec<Value> {
    output
        .lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// Files of a test.
struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Scratch {
        Scratch(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn bytes(&self, name: &str, bytes: &[u8]) -> String {
        std::fs::write(self.path(name), bytes).unwrap();
        self.path(name)
    }

    fn words(&self, name: &str, words: &[u32]) -> String {
        self.bytes(name, bytemuck::cast_slice(words))
    }
}

fn example() -> String {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/masked_index.smt2").display().to_string()
}

/// A node's header.
const fn node(code: u32, vlen: u32, params: u32) -> u32 {
    code | vlen << 8 | params << 16
}

/// A step's header.
const fn step(rule: u32, premises: u32, params: u32) -> u32 {
    rule | premises << 16 | params << 24
}

const AND: u32 = 0x01;
const NOT: u32 = 0x81;
const BOOL_VAR: u32 = 0x19;

/// `b and not b`, its expressions with the conjunction at word 3.
const CONTRADICTION: &[u32] = &[node(BOOL_VAR, 0, 0), node(NOT, 1, 0), 0, node(AND, 2, 0), 0, 1];

const ASSUME: u32 = 1;
const AND_ELIM: u32 = 0x2000 | 9;
const CONTRA: u32 = 0x2000 | 8;

/// Refutes `b and not b`.
const STEPS: &[u32] = &[
    step(ASSUME, 0, 1),
    3,
    step(AND_ELIM, 1, 1),
    0,
    0,
    step(AND_ELIM, 1, 1),
    0,
    1,
    step(CONTRA, 2, 0),
    1,
    2,
];

fn proof(exprs: &[u32], steps: &[u32]) -> Vec<u32> {
    [&[0x0bcf, exprs.len() as u32, steps.len() as u32], exprs, steps].concat()
}

fn request(path: i32, refine: i32) -> Vec<u32> {
    [CONTRADICTION, &[path as u32, refine as u32]].concat()
}

#[test]
fn proofs_are_checked() {
    let scratch = Scratch::new();
    let good = scratch.words("good.bcf", &proof(CONTRADICTION, STEPS));
    let printed = expect(0, &["check", &good]);
    assert!(printed.contains("1 proof: 1 accepted, 0 rejected"), "{printed}");
    // The premises of the last step swapped: not `x` and `not x` any more.
    let mut steps = STEPS.to_vec();
    steps[9..].reverse();
    let bad = scratch.words("bad.bcf", &proof(CONTRADICTION, &steps));
    let printed = expect(1, &["check", &good, &bad]);
    assert!(printed.contains("rejected (EINVAL)") && printed.contains("step 3 (CONTRA)"), "{printed}");
    let rows = json_lines(&expect(1, &["check", "--json", "--policy", "reference", &good, &bad]));
    let fields = |row: &Value| {
        format!(
            "{} {} {} {} {} {}",
            row["verdict"], row["errno"], row["policy"], row["steps"], row["step"], row["rule"]
        )
        .replace('"', "")
    };
    assert_eq!(
        rows.iter().map(fields).collect::<Vec<_>>(),
        ["accepted 0 reference 4 null null", "rejected 22 reference 4 3 CONTRA"]
    );
    assert_eq!(rows[0]["bytes"], 4 * (3 + CONTRADICTION.len() + STEPS.len()));
}

#[test]
fn a_proof_has_to_refute_its_goal() {
    let scratch = Scratch::new();
    let good = scratch.words("good.bcf", &proof(CONTRADICTION, STEPS));
    let goals = [
        scratch.words("request", &request(-1, 3)),
        scratch.words("path", &request(3, -1)),
        scratch.words("goal", &[&[3], CONTRADICTION].concat()),
        scratch.bytes("text", b"(declare-const x Bool) (assert (and x (not x)))"),
        scratch.words("recording", &[&[8], &request(0, 3)[..]].concat()),
    ];
    for goal in &goals {
        expect(0, &["check", "--goal", goal, &good]);
    }
    expect(0, &["check", "--goal", &goals[1], "--cond", "path", &good]);
    assert!(
        expect(2, &["check", "--goal", &goals[1], "--cond", "refine", &good]).contains("no refine condition")
    );
    for other in ["(assert false)", "(declare-const x Bool) (assert (and (not x) x))"] {
        let goal = scratch.bytes("other", other.as_bytes());
        let printed = expect(1, &["check", "--goal", &goal, &good]);
        assert!(printed.contains("step 0 (ASSUME)"), "{printed}");
    }
    assert!(expect(2, &["check", "--goal", &good, &good]).contains("is a proof"));
    let several = scratch.words("several", &[&[8], &request(3, 3)[..], &[8], &request(3, 3)].concat());
    assert!(expect(2, &["check", "--goal", &several, &good]).contains("holds 2 requests"));
}

#[test]
fn garbage_is_rejected_or_unreadable() {
    let scratch = Scratch::new();
    let whole = scratch.words("whole", &proof(CONTRADICTION, STEPS));
    let bytes = std::fs::read(&whole).unwrap();
    for len in 0..bytes.len() {
        let cut = scratch.bytes("cut", &bytes[..len]);
        expect(1, &["check", &cut]);
        expect(2, &["show", &cut]);
    }
    let mut seed = 1u64;
    let mut noise = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 33) as u8
    };
    for len in [1, 4, 12, 100, 4096] {
        let bytes: Vec<u8> = (0..len).map(|_| noise()).collect();
        let noise = scratch.bytes("noise", &bytes);
        expect(1, &["check", &noise]);
        expect(2, &["show", &noise]);
    }
    let directory = scratch.0.path().display().to_string();
    for (command, file, sentence) in [
        ("check", directory.as_str(), "is a directory"),
        ("show", &directory, "is a directory"),
        ("show", &scratch.path("missing"), "No such file"),
        ("check", &scratch.path("missing"), "No such file"),
        ("show", &scratch.bytes("empty", b""), "is empty"),
        ("show", &scratch.bytes("odd", b"12345"), "no whole number of words"),
        ("show", &scratch.bytes("bad.smt2", b"(assert\n x)"), "2:2: expected a name"),
    ] {
        let printed = expect(2, &[command, file]);
        assert!(printed.contains(sentence), "{command}: {printed}");
    }
    let rows = json_lines(&expect(2, &["check", "--json", &whole, &directory]));
    assert_eq!((&rows[0]["verdict"], &rows[1]["verdict"]), (&"accepted".into(), &"unreadable".into()));
}

#[test]
fn many_proofs_keep_their_order() {
    let scratch = Scratch::new();
    let good = proof(CONTRADICTION, STEPS);
    let files: Vec<String> = (0..200)
        .map(|i| scratch.words(&format!("{i}.bcf"), if i % 7 == 0 { &good[1..] } else { &good }))
        .collect();
    let arguments: Vec<&str> =
        ["check", "--json", "--jobs", "4"].into_iter().chain(files.iter().map(String::as_str)).collect();
    let rows = json_lines(&expect(1, &arguments));
    assert_eq!(rows.len(), 200);
    for (i, row) in rows.iter().enumerate() {
        assert_eq!(row["file"], files[i].as_str());
        assert_eq!(row["verdict"] == "accepted", i % 7 != 0);
    }
}

#[test]
fn proofs_and_conditions_are_shown() {
    let scratch = Scratch::new();
    let good = scratch.words("good.bcf", &proof(CONTRADICTION, STEPS));
    let printed = expect(0, &["show", &good]);
    for line in [
        "#0 ASSUME () ((bool_conj(2) b0 (bool_not(1) b0)))",
        "#3 CONTRA (@p1 @p2) ()",
        "    false",
        "4 steps: refuted",
    ] {
        assert!(printed.lines().any(|printed| printed == line), "{line}: {printed}");
    }
    let rows = json_lines(&expect(0, &["show", "--json", &good]));
    assert_eq!((&rows[1]["rule"], &rows[1]["fact"]), (&"AND_ELIM".into(), &"b0".into()));
    assert!(expect(0, &["show", "--smt", &good]).contains("(assert\n  (and b0 (not b0)))"));

    let both = scratch.words("both", &request(0, 3));
    let printed = expect(0, &["show", &both]);
    assert!(printed.contains("the path condition: 1 terms, b0 Boolean\nb0\n"), "{printed}");
    assert!(
        printed.contains("the refine condition: 3 terms, b0 Boolean\n(bool_conj(2) b0 (bool_not(1) b0))\n")
    );
    assert_eq!(expect(0, &["show", "--smt", &both]).matches("check-sat").count(), 1);
    let printed = expect(0, &["show", "--smt", "--cond", "path", &both]);
    assert!(
        printed.starts_with("; the path condition\n(set-logic QF_BV)\n(declare-fun b0 () Bool)\n"),
        "{printed}"
    );

    let recording = scratch.words("recording", &[&[8], &request(0, 3)[..], &[8], &request(-1, 3)].concat());
    let rows = json_lines(&expect(0, &["show", "--json", &recording]));
    let fields: Vec<String> =
        rows.iter().map(|row| format!("{}{}", row["request"], row["condition"])).collect();
    assert_eq!(fields, ["0\"path\"", "0\"refine\"", "1\"refine\""]);
    assert_eq!(json_lines(&expect(0, &["show", "--json", "--request", "1", &recording])).len(), 1);
    assert!(expect(2, &["show", "--request", "2", &recording]).contains("has no request 2: it holds 2"));
    // What is printed can be read.
    let text = scratch.bytes("text", expect(0, &["show", "--smt", &both]).as_bytes());
    assert!(expect(0, &["show", &text]).contains("(b0) Boolean"));
}

#[test]
fn conditions_are_proved() {
    let scratch = Scratch::new();
    let out = scratch.path("out.bcf");
    let printed = expect(0, &["prove", &example(), "-o", &out]);
    assert!(printed.starts_with("proved: the condition cannot be met"), "{printed}");
    expect(0, &["check", "--goal", &example(), &out]);
    expect(0, &["check", "--policy", "reference", &out]);

    // A condition that can be met, and one that cannot.
    let both = scratch.words("both", &request(0, 3));
    let rows = json_lines(&expect(0, &["prove", "--json", "-o", &out, &both]));
    let fields =
        |row: &Value| format!("{} {} {}", row["request"], row["verdict"], row["condition"]).replace('"', "");
    assert_eq!(fields(&rows[0]), "0 proved refine");
    assert_eq!(rows[0]["bytes"], std::fs::metadata(&out).unwrap().len());
    assert_eq!(rows[0]["proof"], out.as_str());
    expect(0, &["check", "--goal", &both, &out]);
    expect(1, &["check", "--goal", &both, "--cond", "path", &out]);
    let printed = expect(1, &["prove", "--cond", "path", &both]);
    assert_eq!(printed, "refuted: the path condition is met by\n    b0 = true\n");
    assert!(
        expect(0, &["prove", &scratch.words("path", &request(3, 0))])
            .starts_with("proved: the path condition")
    );

    let recording = [&[8], &request(0, 3)[..], &[8], &request(0, -1), &[8], &request(3, -1)].concat();
    let recording = scratch.words("recording", &recording);
    let rows = json_lines(&expect(1, &["prove", "--json", "-o", &out, &recording]));
    assert_eq!(
        rows.iter().map(fields).collect::<Vec<_>>(),
        ["0 proved refine", "1 refuted path", "2 proved path"]
    );
    assert_eq!(rows[2]["proof"], format!("{out}.2"));
    assert!(rows[1]["proof"].is_null() && !Path::new(&format!("{out}.1")).exists());
    expect(0, &["check", &format!("{out}.0"), &format!("{out}.2")]);
    expect(0, &["prove", "--request", "2", &recording]);
}

#[test]
fn models_have_the_names_of_the_text() {
    let scratch = Scratch::new();
    let text = scratch.bytes(
        "text",
        b"(declare-const index (_ BitVec 64)) (declare-const |a b| Bool)
          (assert (and |a b| (= index #x0000000000000abc)))",
    );
    let rows = json_lines(&expect(1, &["prove", "--smt", "--json", &text]));
    assert_eq!(rows[0]["verdict"], "refuted");
    let model = rows[0]["model"].as_array().unwrap();
    let value = |name: &str| model.iter().find(|assignment| assignment["name"] == name).unwrap();
    assert_eq!((&value("index")["value"], &value("index")["width"]), (&"0xabc".into(), &64.into()));
    assert_eq!(value("a b")["value"], "true");
}

#[test]
fn what_cannot_be_proved_has_its_status() {
    let scratch = Scratch::new();
    // The factors of a large prime: an hour's work, and one second to give up.
    let hard = scratch.bytes(
        "hard",
        b"(declare-const x (_ BitVec 64)) (declare-const y (_ BitVec 64))
          (assert (= (bvmul x y) (_ bv4611686018427387847 64)))
          (assert (bvult x #x0000000100000000)) (assert (bvult y #x0000000100000000))
          (assert (bvugt x #x0000000000000001)) (assert (bvugt y #x0000000000000001))",
    );
    let printed = expect(3, &["prove", "--timeout", "0.5", &hard]);
    assert!(printed.starts_with("unknown: the condition, after"), "{printed}");
    let good = scratch.words("good", &request(3, -1));
    let unwritable = scratch.path("no/such/folder");
    assert!(expect(2, &["prove", "-o", &unwritable, &good]).contains("cannot be written"));
    let proof = scratch.words("proof", &proof(CONTRADICTION, STEPS));
    assert!(expect(2, &["prove", &proof]).contains("is a proof"));
    for bytes in [&b"noise"[..], b"(assert", b"", &[0; 64]] {
        expect(2, &["prove", &scratch.bytes("noise", bytes)]);
    }
    assert!(expect(2, &["prove", "--cond", "refine", &good]).contains("has no refine condition"));
}

#[test]
fn usage_errors_are_status_2() {
    for arguments in [
        &["check"][..],
        &["show"],
        &["check", "--policy", "lax", "x"],
        &["check", "--cond", "path", "x"],
        &["show", "--smt", "--json", "x"],
        &["prove"],
        &["prove", "a", "b"],
        &["prove", "--timeout", "-1", "x"],
        &["fly"],
    ] {
        expect(2, arguments);
    }
    for command in ["check", "show", "prove"] {
        assert!(expect(0, &[command, "--help"]).contains("Example"));
    }
}

#[test]
fn conditions_in_text_are_shown() {
    let example = PathBuf::from(example());
    assert!(expect(0, &["show", &example.display().to_string()]).contains("of 64 bits"));
}
