//! `bpftwin explain` on small programs, one for each kind of finding.

mod client;

use std::path::PathBuf;
use std::process::{Command, Output};

use client::{built, forbid_bpf, text};
use serde_json::Value;

fn run(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bpftwin"));
    command.arg("explain").args(arguments);
    command.env("BPFTWIN_KERNEL", "6.18").env_remove("BPFTWIN_CAPS").env_remove("BPFTWIN_BCF");
    forbid_bpf(&mut command);
    command.output().unwrap()
}

/// A compiled example, or a visible skip.
fn example(name: &str) -> Option<String> {
    let dir: Option<PathBuf> = built("BPFTWIN_TEST_OBJECTS", "../bpf");
    let path = dir.map(|dir| dir.join(name)).filter(|path| path.exists());
    if path.is_none() {
        eprintln!("SKIPPED: the examples are not compiled; scripts/test does that");
    }
    path.map(|path| path.display().to_string())
}

/// The only rejection of a program.
fn rejection(object: &str, prog: &str) -> Value {
    let output = run(&["--json", "--prog", prog, object]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    let explanation: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(explanation["verdict"], "rejected", "{explanation}");
    let rejections = explanation["rejections"].as_array().unwrap();
    assert_eq!(rejections.len(), 1, "{explanation}");
    let mut rejection = rejections[0].clone();
    rejection["accepted_with"] = explanation["accepted_with"].clone();
    rejection
}

/// The value of an input of a bug.
fn input(rejection: &Value, what: &str) -> u64 {
    let inputs = rejection["finding"]["inputs"].as_array().unwrap();
    let input = inputs.iter().find(|input| input["what"] == what);
    input.unwrap_or_else(|| panic!("no {what} in {rejection}"))["value"].as_u64().unwrap()
}

#[test]
fn what_is_proved_is_safe() {
    let Some(object) = example("explained.bpf.o") else { return };
    let rejection = rejection(&object, "half_is_checked");
    let finding = &rejection["finding"];
    assert_eq!(
        (finding["finding"].as_str(), finding["proved"].as_str()),
        (Some("safe"), Some("access")),
        "{rejection}"
    );
    // The proof needs the comparison with the half, which is about the field that the index comes from.
    let because = finding["because"].as_array().unwrap();
    let compares =
        |fact: &&Value| fact["text"].as_str().unwrap().contains("> 7: no — about context field len");
    assert!(because.iter().any(|fact| compares(&fact)), "{finding}");
    assert_eq!(rejection["accepted_with"], 1);
    let origin =
        rejection["values"].as_array().unwrap().iter().find(|value| value["source"] == "context field len");
    assert!(origin.is_some(), "{}", rejection["values"]);
}

#[test]
fn a_bug_comes_with_inputs_that_lead_to_it() {
    let Some(object) = example("explained.bpf.o") else { return };
    let rejection = rejection(&object, "one_byte_is_checked");
    assert_eq!(rejection["finding"]["finding"], "bug", "{rejection}");
    // 14 bytes of header and the one that is checked: the second one that is read is not there.
    assert_eq!(input(&rejection, "length of the packet"), 15);
    assert!(rejection["advice"].as_str().unwrap().contains("data_end"));
    let branches: Vec<&Value> = rejection["path"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|line| line["branches"].as_array().unwrap())
        .collect();
    assert_eq!(branches.len(), 1);
    assert_eq!((branches[0]["held"].as_u64(), branches[0]["failed"].as_u64()), (Some(0), Some(1)));
}

#[test]
fn a_bound_that_is_one_too_high_is_a_bug() {
    let Some(object) = example("dscp_classes.bpf.o") else { return };
    let rejection = rejection(&object, "count_classes");
    assert_eq!(rejection["finding"]["finding"], "bug", "{rejection}");
    // There are counters for the classes 0 to 47.
    assert_eq!(input(&rejection, "packet, byte 15") >> 2, 48);
    assert_eq!((input(&rejection, "packet, byte 12"), input(&rejection, "packet, byte 13")), (8, 0));
    let fault = rejection["finding"]["fault"].as_str().unwrap();
    assert!(fault.contains("offset 384 of a value of map counters, which has 384 bytes"), "{fault}");
    // What the program does not look at is not among the inputs that decide.
    let inputs = rejection["finding"]["inputs"].as_array().unwrap();
    assert!(inputs.iter().all(|input| input["decisive"] == true), "{inputs:?}");
}

#[test]
fn missing_checks_are_bugs() {
    let Some(object) = example("rejected.bpf.o") else { return };
    for (prog, fault) in
        [("unchecked_value", "which is no memory"), ("unchecked_index", "which has 128 bytes")]
    {
        let rejection = rejection(&object, prog);
        assert_eq!(rejection["finding"]["finding"], "bug", "{rejection}");
        assert!(rejection["finding"]["fault"].as_str().unwrap().contains(fault), "{rejection}");
    }
}

#[test]
fn what_no_run_meets_is_unknown() {
    let Some(object) = example("explained.bpf.o") else { return };
    let rejection = rejection(&object, "read_twice");
    assert_eq!(rejection["finding"]["finding"], "unknown", "{rejection}");
    let why = rejection["finding"]["why"].as_str().unwrap();
    assert!(why.contains("which the verifier takes for two values"), "{why}");
}

#[test]
fn rules_are_not_about_values() {
    let Some(object) = example("explained.bpf.o") else { return };
    let rejection = rejection(&object, "wrong_helper");
    assert_eq!(rejection["finding"]["finding"], "not_allowed", "{rejection}");
    assert!(rejection["advice"].as_str().unwrap().contains("bpf-helpers(7)"));
    assert!(!rejection["path"].as_array().unwrap().is_empty());
}

#[test]
fn a_leaked_reference_is_told_with_its_path() {
    let Some(object) = example("explained.bpf.o") else { return };
    let rejection = rejection(&object, "not_released");
    assert!(rejection["advice"].as_str().unwrap().contains("bpf_sk_release()"), "{rejection}");
    assert_eq!(input(&rejection, "bpf_sk_lookup_tcp() finds something"), 1);
    // What leaks is said, not what is returned.
    let fault = rejection["finding"]["fault"].as_str().unwrap();
    assert!(fault.contains("what bpf_sk_lookup_tcp() returned"), "{fault}");
    assert_eq!(rejection["values"][0]["source"], "result of bpf_sk_lookup_tcp()", "{rejection}");
}

#[test]
fn a_pointer_from_before_a_change_is_told_from_a_number() {
    let Some(object) = example("explained.bpf.o") else { return };
    let rejection = rejection(&object, "changed_in_between");
    assert_eq!(rejection["finding"]["finding"], "bug", "{rejection}");
    assert!(rejection["finding"]["fault"].as_str().unwrap().contains("no longer there"), "{rejection}");
    assert!(rejection["advice"].as_str().unwrap().contains("Load ctx->data and ctx->data_end again"));
}

#[test]
fn a_size_counts_as_the_helper_takes_it() {
    let Some(object) = example("explained.bpf.o") else { return };
    let rejection = rejection(&object, "half_a_register");
    // The helper takes the lower half of the size, which was compared: there is no harm.
    assert_eq!(rejection["finding"]["finding"], "unknown", "{rejection}");
}

#[test]
fn what_the_verifier_does_not_follow_is_named() {
    let Some(object) = example("explained.bpf.o") else { return };
    let rejection = rejection(&object, "some_remainder");
    assert_eq!(rejection["finding"]["finding"], "unknown", "{rejection}");
    let why = rejection["finding"]["why"].as_str().unwrap();
    assert!(why.contains("does not follow") && why.contains("%= 7"), "{why}");
}

#[test]
fn an_allowed_return_value_is_no_bug() {
    let Some(object) = example("explained.bpf.o") else { return };
    let rejection = rejection(&object, "returns_any");
    assert_eq!(rejection["finding"]["finding"], "bug", "{rejection}");
    assert!(input(&rejection, "context field len") > 3, "{rejection}");
}

#[test]
fn a_global_function_is_run_by_itself() {
    let Some(object) = example("explained.bpf.o") else { return };
    let rejection = rejection(&object, "calls_any");
    assert_eq!(rejection["by_itself"], true);
    let fault = rejection["finding"]["fault"].as_str().unwrap();
    assert!(fault.contains("the memory behind argument 1, which has 128 bytes"), "{fault}");
    assert_eq!(input(&rejection, "argument 1 is not NULL"), 1);
    assert!(input(&rejection, "argument 2") & 0x1f >= 16, "{rejection}");
}

#[test]
fn a_later_round_of_a_callback_is_found() {
    let Some(object) = example("explained.bpf.o") else { return };
    let rejection = rejection(&object, "eight_rounds");
    let fault = rejection["finding"]["fault"].as_str().unwrap();
    assert!(fault.contains("map explaine.bss (rounds[7]), which has 28 bytes"), "{fault}");
}

#[test]
fn text_and_page_say_the_same() {
    let Some(object) = example("explained.bpf.o") else { return };
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page.html");
    let output = run(&["--html", page.to_str().unwrap(), &object]);
    let printed = text(&output);
    let page = std::fs::read_to_string(page).unwrap();
    for words in
        ["half_is_checked", "length of the packet", "bpf_redirect", "context field len", "explained.bpf.c:"]
    {
        assert!(printed.contains(words), "{words}: {printed}");
        assert!(page.contains(words), "{words}");
    }
    assert!(printed.contains("11 programs: 0 accepted, 11 rejected"), "{printed}");
    // Colours are for terminals.
    assert!(!printed.contains('\u{1b}'));
    // Source text is escaped, and nothing is loaded from elsewhere.
    assert!(page.contains("if (data + sizeof(struct ethhdr) + 1 &gt; end)"));
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="));
}

#[test]
fn accepted_programs_need_no_words() {
    let Some(object) = example("xdp_ports.bpf.o") else { return };
    let output = run(&[&object]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("1 programs: 1 accepted, 0 rejected"), "{}", text(&output));
}
