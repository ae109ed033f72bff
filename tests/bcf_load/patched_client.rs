//! A client as the patched libbpf is one: it asks for requests with every load, has them proved by a command, and goes on until it
//! has a program.

use std::path::Path;
use std::process::Command;

use bpftwin::bcf::client::{Calls, Client, Conversation, Proofs};
use bpftwin::bcf::difference::first_difference;
use bpftwin::bcf::prover::Limits;
use bpftwin_uapi::{Cmd, Errno};

use crate::client::{bpf, close, text, under_shim};
use crate::descriptors::map_of_64;
use crate::programs::{
    halved, halved_twice, out_of_bounds, rest_of_value, size_of_argument, unreachable_reads,
};
use crate::{Load, WITH_BCF};

/// What libbpf's prover callback does: the request in the load's buffer becomes a proof, or there is none.
fn prove(load: &mut Load, dir: &Path) -> bool {
    let (request, proof) = (dir.join("request"), dir.join("proof"));
    let words = &load.buf[..load.attr.bcf_buf_true_size as usize / 4];
    std::fs::write(&request, bytemuck::cast_slice::<u32, u8>(words)).unwrap();
    let command = std::env::var_os("BPFTWIN_TEST_COMMAND").unwrap_or(env!("CARGO_BIN_EXE_bpftwin").into());
    let mut command = Command::new(command);
    command.env_remove("LD_PRELOAD").args(["bcf", "prove", "--json", "--output"]).arg(&proof).arg(&request);
    let output = command.output().unwrap();
    match output.status.code() {
        Some(0) => {}
        Some(1) => return false,
        _ => panic!("{}", text(&output)),
    }
    let row: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let flags = match row["condition"].as_str() {
        Some("path") => 4,
        Some("refine") => 0,
        _ => panic!("{row}"),
    };
    let proof = std::fs::read(proof).unwrap();
    load.set_proof(flags, &bpftwin::bcf::checker::words_of(&proof).unwrap());
    true
}

/// libbpf's loop: the last answer, and the requests that were proved.
fn load_with_prover(load: &mut Load) -> (Result<i32, i32>, u32) {
    let dir = tempfile::tempdir().unwrap();
    let mut answer = load.call();
    let mut proved = 0;
    while answer.is_err() && load.attr.bcf_flags & 1 != 0 {
        if !prove(load, dir.path()) {
            break;
        }
        proved += 1;
        assert!(proved < 100, "no end: {}", load.log_text());
        load.attr.bcf_flags |= 2;
        answer = load.call();
    }
    (answer, proved)
}

#[test]
fn safe_programs_are_loaded() {
    under_shim("patched_client::safe_programs_are_loaded", WITH_BCF, || {
        let map = map_of_64();
        let programs = [
            ("halved", halved(), 1),
            ("twice", halved_twice(0), 2),
            ("size", size_of_argument(), 1),
            ("rest", rest_of_value(map), 1),
            // Paths that nothing takes are told of together, sixteen with the next one, and the others at the end.
            ("unreachable", unreachable_reads(1), 1),
            ("many unreachable", unreachable_reads(20), 2),
        ];
        for (name, insns, requests) in programs {
            let mut plain = Load::plain(insns.clone());
            assert!(plain.call().is_err(), "{name} needs no proof");
            let mut load = Load::new(insns);
            let (answer, proved) = load_with_prover(&mut load);
            let fd = answer
                .unwrap_or_else(|errno| panic!("{name}: {errno}, {proved} proved: {}", load.log_text()));
            assert_eq!(proved, requests, "{name}");
            close(fd);
            close(load.attr.bcf_fd as i32);
        }
    });
}

#[test]
fn a_bug_is_not_proved() {
    under_shim("patched_client::a_bug_is_not_proved", WITH_BCF, || {
        let mut load = Load::new(out_of_bounds());
        assert_eq!(load_with_prover(&mut load), (Err(libc::EINVAL), 0));
        assert!(load.log_text().ends_with("bcf requested, try to refine R2 access\n"));
        close(load.attr.bcf_fd as i32);
    });
}

/// Loads with the library's client.
fn talk(client: &Client, insns: Vec<bpftwin_uapi::Insn>) -> Conversation {
    let load = Load::plain(insns);
    let mut calls = Calls::new(load.attr, |attr| bpf(Cmd::ProgLoad, attr).map(i64::from).map_err(Errno));
    let conversation = client.run(&mut calls);
    if let Ok(fd) = conversation.result {
        close(fd as i32);
    }
    conversation
}

#[test]
fn the_librarys_client_does_the_same() {
    under_shim("patched_client::the_librarys_client_does_the_same", WITH_BCF, || {
        let client = |rounds, proofs| Client::new(Limits::default(), rounds, proofs);
        let proves = client(10, Proofs::Found);
        let map = map_of_64();
        for (insns, answers, errno) in [
            (halved(), "R", 0),
            (halved_twice(0), "RR", 0),
            (rest_of_value(map), "R", 0),
            (unreachable_reads(20), "PP", 0),
            (out_of_bounds(), "N", libc::EINVAL),
        ] {
            let conversation = talk(&proves, insns.clone());
            assert_eq!((&*conversation.answers(), conversation.errno()), (answers, errno));
            assert_eq!(first_difference(&conversation, &talk(&proves, insns)), None);
        }
        let given_up = talk(&client(1, Proofs::Found), halved_twice(0));
        assert_eq!((&*given_up.answers(), given_up.errno()), ("RU", libc::EINVAL));
        // What can be met is believed as well.
        let claimed = talk(&client(10, Proofs::Claimed), out_of_bounds());
        assert!(claimed.result.is_ok() && ["r", "p"].contains(&&*claimed.answers()), "{claimed:?}");
        let difference = first_difference(&talk(&proves, out_of_bounds()), &claimed).unwrap();
        assert_eq!((difference.request, &*difference.what), (1, "answers of the prover"));
    });
}
