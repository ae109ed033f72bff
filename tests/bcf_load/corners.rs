//! What the published kernel does where a condition cannot be made, or says less than was meant. Measured on 6.18.15.

use bpftwin_uapi::attr::MapCreate;
use bpftwin_uapi::{Cmd, HelperId, Insn, MapType};
use bytemuck::Zeroable;

use crate::client::{bpf, under_shim};
use crate::descriptors::map_of_64;
use crate::programs::{
    dropped_call, many_reads, place_and_size, scalar_minus_pointer, size_not_read, unbounded_place,
};
use crate::{Load, WITH_BCF, believed_proof, conditions};

/// A load with a log at level 2 that has asked for a proof and got it: of the path condition with the flags 6, of the refinement
/// condition with 2.
#[track_caller]
fn proved(insns: Vec<Insn>, flags: u32) -> (Load, Result<i32, i32>) {
    let mut load = Load::new(insns);
    load.attr.log_level = 2;
    let request = load.request();
    let (path, refine) = conditions(&request);
    let proof = believed_proof(&request, if flags == 2 { refine } else { path });
    let result = load.resume(flags, &proof);
    (load, result)
}

/// A size that nothing has read yet has no expression, so that the access cannot be refined. The second attempt has the words of both, and
/// the steps.
#[test]
fn an_attempt_that_failed_leaves_its_words() {
    under_shim("corners::an_attempt_that_failed_leaves_its_words", WITH_BCF, || {
        let (load, result) = proved(size_not_read(map_of_64()), 6);
        let log = load.log_text();
        assert!(result.is_ok(), "{log}");
        assert!(log.contains("type path backtrack_length 14 track_length 28 cond_size 304\n"), "{log}");
    });
}

#[test]
fn both_registers_of_a_range_are_refined() {
    under_shim("corners::both_registers_of_a_range_are_refined", WITH_BCF, || {
        let (load, result) = proved(place_and_size(map_of_64()), 2);
        let log = load.log_text();
        assert!(result.is_ok(), "{log}");
        let refined =
            "R2=scalar(smin=umin=smin32=umin32=40,smax=umax=smax32=umax32=64,var_off=(0x0; 0x7f)) R3=0";
        assert!(log.contains(refined), "{log}");
    });
}

/// The end of the access, as the kernel computes it, is negative, so that the upper bound stays.
#[test]
fn ends_without_bound_wrap_around() {
    under_shim("corners::ends_without_bound_wrap_around", WITH_BCF, || {
        let (load, result) = proved(unbounded_place(map_of_64()), 2);
        assert_eq!((result, load.attr.bcf_flags), (Err(libc::EACCES), 1));
        let log = load.log_text();
        let (_, log) = log.split_once("bcf proof checked 1 nth").unwrap();
        assert!(log.contains("vs=64,smin=0,umax=0x7fffffffffffffff,"), "{log}");
    });
}

#[test]
fn variables_stay_bare_where_their_bounds_have_no_room() {
    under_shim("corners::variables_stay_bare_where_their_bounds_have_no_room", WITH_BCF, || {
        let (load, result) = proved(many_reads(map_of_64()), 2);
        let log = load.log_text();
        assert!(result.is_ok(), "{log}");
        assert!(log.contains("type range backtrack_length 525 track_length 533 cond_size 9396\n"), "{log}");
    });
}

/// The kernel does not know the map of a call whose every path was dropped. It rejects tail calls, and crashes on others.
#[test]
fn calls_that_were_dropped_have_no_map() {
    under_shim("corners::calls_that_were_dropped_have_no_map", WITH_BCF, || {
        let mut attr = MapCreate {
            map_type: MapType::ProgArray as u32,
            key_size: 4,
            value_size: 4,
            max_entries: 4,
            ..MapCreate::zeroed()
        };
        let progs = bpf(Cmd::MapCreate, &mut attr).unwrap();
        let (load, result) = proved(dropped_call(HelperId::TailCall, progs), 6);
        let log = load.log_text();
        assert_eq!(result, Err(libc::EINVAL), "{log}");
        assert!(log.contains("\nadding tail call poke descriptor failed\nprocessed "), "{log}");
        let (load, result) = proved(dropped_call(HelperId::MapDeleteElem, map_of_64()), 6);
        assert_eq!(result, Err(libc::EINVAL), "{}", load.log_text());
    });
}

/// The scalar has the pointer's type when the subtraction is rejected, and when it is tried again. The published kernel crashes as soon as it
/// prints it.
#[test]
fn a_scalar_of_a_pointers_type() {
    under_shim("corners::a_scalar_of_a_pointers_type", WITH_BCF, || {
        let (mut load, result) = proved(scalar_minus_pointer(map_of_64()), 2);
        assert_eq!((result, load.attr.bcf_flags), (Err(libc::EACCES), 1), "{}", load.log_text());
        let request = load.buf[..load.attr.bcf_buf_true_size as usize / 4].to_vec();
        let proof = believed_proof(&request, conditions(&request).1);
        let result = load.resume(2, &proof);
        assert!(result.is_ok(), "{}", load.log_text());
    });
}
