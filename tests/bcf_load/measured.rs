//! What a kernel with BCF answered, call by call. The log's bytes were counted on 6.19.14.

use bpftwin_uapi::Cmd;
use bpftwin_uapi::attr::ProgLoad;
use bpftwin_uapi::info::ProgInfo;
use bytemuck::Zeroable;

use crate::client::{bpf, bpf_raw, close, under_shim};
use crate::programs::{halved, halved_twice};
use crate::{BUF_WORDS, Load, WITH_BCF, believed_proof, conditions, proof_of};

/// The last lines of the log, the measured ones aside.
const ASKED: &str = "bcf requested, try to refine R2 access\n";

fn statistics(insns: u32) -> String {
    format!(
        "processed {insns} insns (limit 1000000) max_states_per_insn 0 total_states 0 peak_states 0 mark_read 0\n"
    )
}

/// The words of the request, node by node, and the two conditions.
const REQUEST: &[u32] = &[
    0x0040_0018, // 0: a variable of 64 bits
    0x1f00_0138,
    0, // 1: its low half
    0x2040_0158,
    1, // 3
    0x0040_0208,
    255,
    0, // 5
    0x0020_0108,
    255, // 8
    0x0020_0250,
    1,
    8, // 10
    0x2040_0158,
    10, // 13
    0x0040_0208,
    0,
    0, // 15
    0x0040_0200,
    15,
    13, // 18
    0x0040_0208,
    1,
    0, // 21
    0x0020_0108,
    1, // 24
    0x0020_0270,
    10,
    24, // 26
    0x2040_0158,
    26, // 29
    0x0040_0208,
    4,
    0, // 31
    0x0000_02b1,
    29,
    31, // 34: the path condition
    0x1f00_0138,
    18, // 37
    0x0020_0108,
    15, // 39
    0x0000_0261,
    37,
    39, // 41
    0x0000_0201,
    34,
    41, // 44: the refinement condition
    34,
    44,
];

/// The number that the next descriptor gets.
fn lowest_free() -> i32 {
    // SAFETY: a descriptor call without memory effects.
    let fd = unsafe { libc::dup(0) };
    close(fd);
    fd
}

#[test]
fn a_load_without_a_buffer() {
    under_shim("measured::a_load_without_a_buffer", WITH_BCF, || {
        let mut load = Load::plain(halved());
        assert_eq!(load.call(), Err(libc::EINVAL));
        let log = load.log_text();
        assert!(log.ends_with(&format!("\n{}", statistics(10))) && !log.contains("bcf"), "{log}");
        assert_eq!((load.attr.log_true_size, log.len()), (1213, 1212), "{log}");
        assert_eq!((load.attr.bcf_flags, load.attr.bcf_fd, load.attr.bcf_buf_true_size), (0, 0, 0));
    });
}

#[test]
fn arguments_that_make_no_sense() {
    under_shim("measured::arguments_that_make_no_sense", WITH_BCF, || {
        type Spoil = fn(&mut ProgLoad);
        let rows: &[(&str, Spoil, i32)] = &[
            ("size without buffer", |attr| attr.bcf_buf = 0, libc::EINVAL),
            ("buffer without size", |attr| attr.bcf_buf_size = 0, libc::EINVAL),
            ("flags 1", |attr| attr.bcf_flags = 1, libc::EINVAL),
            ("flags 4", |attr| attr.bcf_flags = 4, libc::EINVAL),
            ("flags 8", |attr| attr.bcf_flags = 8, libc::EINVAL),
            ("descriptor without proof", |attr| attr.bcf_fd = 3, libc::EINVAL),
            ("true size without proof", |attr| attr.bcf_buf_true_size = 4, libc::EINVAL),
            ("no descriptor", |attr| (attr.bcf_flags, attr.bcf_fd) = (2, 99), libc::EBADF),
            ("no descriptor, path", |attr| (attr.bcf_flags, attr.bcf_fd) = (6, 99), libc::EBADF),
            (
                "proof larger than the buffer",
                |attr| {
                    (attr.bcf_flags, attr.bcf_buf_true_size, attr.bcf_fd) =
                        (2, (BUF_WORDS * 4) as u32 + 1, 99)
                },
                libc::EINVAL,
            ),
            (
                "proof without buffer",
                |attr| (attr.bcf_flags, attr.bcf_buf, attr.bcf_buf_size, attr.bcf_fd) = (2, 0, 0, 99),
                libc::EINVAL,
            ),
        ];
        for (what, spoil, errno) in rows {
            let mut load = Load::new(halved());
            // Only the first of the checks: none of the others is reached.
            load.attr.prog_flags = u32::MAX;
            spoil(&mut load.attr);
            let before = load.attr;
            assert_eq!(load.call(), Err(*errno), "{what}");
            assert_eq!(bytemuck::bytes_of(&load.attr), bytemuck::bytes_of(&before), "{what}");
            assert_eq!(load.log_text(), "", "{what}");
        }
        // SAFETY: the path is a C string.
        let file = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY) };
        let mut load = Load::new(halved());
        (load.attr.bcf_flags, load.attr.bcf_fd) = (2, file as u32);
        assert_eq!((load.call(), load.log_text().as_str()), (Err(libc::EINVAL), ""));
        close(file);
    });
}

#[test]
fn the_attributes_end_behind_the_flags() {
    under_shim("measured::the_attributes_end_behind_the_flags", WITH_BCF, || {
        let mut attr = [0u8; 200];
        attr[192] = 1;
        assert_eq!(bpf_raw(Cmd::ProgLoad, attr.as_ptr() as u64, 200), Err(libc::E2BIG));
        // Other commands have no fields there.
        (attr[192], attr[188]) = (0, 1);
        assert_eq!(bpf_raw(Cmd::MapFreeze, attr.as_ptr() as u64, 200), Err(libc::EINVAL));
        attr[..4].copy_from_slice(&99u32.to_ne_bytes());
        attr[188] = 0;
        assert_eq!(bpf_raw(Cmd::MapFreeze, attr.as_ptr() as u64, 200), Err(libc::EBADF));
    });
}

#[test]
fn without_bcf_there_are_no_such_attributes() {
    under_shim("measured::without_bcf_there_are_no_such_attributes", &[("BPFTWIN_BCF", "off")], || {
        let mut load = Load::new(halved());
        assert_eq!(load.call(), Err(libc::E2BIG));
        let mut load = Load::plain(halved());
        assert_eq!(load.call(), Err(libc::EINVAL));
        assert!(!load.log_text().contains("bcf"));
    });
}

#[test]
fn a_buffer_needs_the_capability() {
    let variables = [("BPFTWIN_BCF", "kernel"), ("BPFTWIN_CAPS", "cap_perfmon")];
    under_shim("measured::a_buffer_needs_the_capability", &variables, || {
        let mut load = Load::new(halved());
        assert_eq!((load.call(), load.log_text().as_str()), (Err(libc::EPERM), ""));
        // Unknown flags are told first.
        load.attr.prog_flags = 1 << 31;
        assert_eq!(load.call(), Err(libc::EINVAL));
    });
}

#[test]
fn a_buffer_that_is_too_small() {
    under_shim("measured::a_buffer_that_is_too_small", WITH_BCF, || {
        let mut load = Load::new(halved());
        load.attr.bcf_buf_size = 100;
        assert_eq!(load.call(), Err(libc::EINVAL));
        assert_eq!((load.attr.bcf_flags, load.attr.bcf_buf_true_size, load.attr.bcf_fd), (0, 196, 0));
        let log = load.log_text();
        assert!(log.ends_with(&format!("\n{ASKED}{}", statistics(10))), "{log}");
        assert_eq!(load.attr.log_true_size as usize, log.len() + 1);
        assert_eq!(load.buf[0], 0, "nothing of the request is told");
    });
}

#[test]
fn a_request() {
    under_shim("measured::a_request", WITH_BCF, || {
        let mut load = Load::new(halved());
        let lowest = lowest_free();
        assert_eq!(load.call(), Err(libc::EINVAL));
        let attr = &load.attr;
        assert_eq!((attr.bcf_flags, attr.bcf_buf_true_size, attr.log_true_size), (1, 196, 0));
        assert_eq!(attr.bcf_fd as i32, lowest);
        let log = load.log_text();
        assert!(log.ends_with(&format!("\n{ASKED}")), "{log}");
        assert_eq!(log.len(), 1153, "{log}");
        assert_eq!(&load.buf[..REQUEST.len()], REQUEST);
        assert_eq!(load.buf[REQUEST.len()], 0);

        let fd = load.attr.bcf_fd as i32;
        let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap();
        assert_eq!(link.to_str(), Some("anon_inode:bcf"));
        let mut byte = 0u8;
        // SAFETY: calls on a descriptor of this test, with a byte of its own.
        unsafe {
            assert_eq!(libc::fcntl(fd, libc::F_GETFD), libc::FD_CLOEXEC);
            assert_eq!(libc::fcntl(fd, libc::F_GETFL) & libc::O_ACCMODE, libc::O_RDONLY);
            assert_eq!(libc::read(fd, (&raw mut byte).cast(), 1), -1);
            assert_eq!(std::io::Error::last_os_error().raw_os_error(), Some(libc::EINVAL));
        }
        close(fd);
    });
}

#[test]
fn a_proof_of_the_refinement() {
    under_shim("measured::a_proof_of_the_refinement", WITH_BCF, || {
        let mut load = Load::new(halved());
        let proof = proof_of(&load.request());
        let (bcf_fd, lowest) = (load.attr.bcf_fd, lowest_free());
        let fd = load.resume(2, &proof).unwrap_or_else(|errno| panic!("{errno}: {}", load.log_text()));
        assert_eq!((fd, load.attr.bcf_flags, load.attr.bcf_fd), (lowest, 2, bcf_fd));
        // The log starts anew with success, and the instruction that failed counts twice.
        let statistics = load.log_text();
        assert!(statistics.starts_with("processed 14 insns (limit 1000000) "), "{statistics}");
        assert_eq!(statistics.lines().count(), 1);
        // The longest that it was counts.
        assert!(load.attr.log_true_size > 1154);
        let mut info = ProgInfo::zeroed();
        let mut attr = bpftwin_uapi::attr::GetInfo {
            bpf_fd: fd as u32,
            info_len: size_of::<ProgInfo>() as u32,
            info: &raw mut info as u64,
        };
        bpf(Cmd::ObjGetInfoByFd, &mut attr).unwrap();
        assert_eq!((info.kind, &info.name[..5], info.verified_insns), (5, b"test\0".as_slice(), 14));
    });
}

#[test]
fn a_proof_that_the_path_is_not_taken() {
    under_shim("measured::a_proof_that_the_path_is_not_taken", WITH_BCF, || {
        let mut load = Load::new(halved());
        let request = load.request();
        let proof = believed_proof(&request, conditions(&request).0);
        assert!(load.resume(6, &proof).is_ok(), "{}", load.log_text());
        assert_eq!(load.attr.bcf_flags, 6);
        assert!(load.log_text().starts_with("processed 12 insns "), "{}", load.log_text());
    });
}

#[test]
fn a_proof_of_something_else() {
    under_shim("measured::a_proof_of_something_else", WITH_BCF, || {
        let mut load = Load::new(halved());
        let request = load.request();
        let asked = load.log_text();
        let proof = believed_proof(&request, conditions(&request).0);
        assert_eq!(load.resume(2, &proof), Err(libc::EINVAL));
        assert_eq!(load.log_text(), format!("{asked}{}", statistics(10)));
        assert_eq!(load.attr.log_true_size as usize, load.log_text().len() + 1);
        // The load is over, the descriptor is there.
        let proof = proof_of(&request);
        let log = load.log_text();
        assert_eq!(load.resume(2, &proof), Err(libc::EINVAL));
        assert_eq!(load.log_text(), log);
    });
}

#[test]
fn only_the_first_call_counts() {
    under_shim("measured::only_the_first_call_counts", WITH_BCF, || {
        let mut load = Load::new(halved());
        let proof = proof_of(&load.request());
        let bcf_fd = load.attr.bcf_fd;
        load.attr = ProgLoad {
            bcf_buf: load.attr.bcf_buf,
            bcf_buf_size: load.attr.bcf_buf_size,
            bcf_fd,
            ..ProgLoad::zeroed()
        };
        assert!(load.resume(2, &proof).is_ok(), "{}", load.log_text());
        assert!(load.log_text().starts_with("processed 14 insns "), "{}", load.log_text());
        assert_ne!(load.attr.log_true_size, 0);
        // Nothing is left to go on with; the published kernel crashes here.
        assert_eq!(load.resume(2, &proof), Err(libc::EINVAL));
        assert_eq!(load.resume(6, &proof), Err(libc::EINVAL));
    });
}

#[test]
fn the_log_tells_of_proofs_at_level_2() {
    under_shim("measured::the_log_tells_of_proofs_at_level_2", WITH_BCF, || {
        let mut load = Load::new(halved());
        load.attr.log_level = 2;
        let proof = proof_of(&load.request());
        assert!(load.resume(2, &proof).is_ok());
        let log = load.log_text();
        let line =
            log.lines().find(|line| line.starts_with("bcf proof checked")).unwrap_or_else(|| panic!("{log}"));
        let words: Vec<&str> = line.split(' ').collect();
        let nanoseconds = words[6];
        assert!(nanoseconds.parse::<u64>().is_ok(), "{line}");
        let expected = format!(
            "bcf proof checked 1 nth in {nanoseconds} ns, size {} bytes, type range backtrack_length 0 track_length 10 cond_size 188",
            proof.len() * 4
        );
        assert_eq!(line, expected);
    });
}

#[test]
fn later_requests_are_told_to_the_call_that_they_answer() {
    under_shim("measured::later_requests_are_told_to_the_call_that_they_answer", WITH_BCF, || {
        let mut load = Load::new(halved_twice(0));
        let first = load.request();
        let bcf_fd = load.attr.bcf_fd;
        // Another buffer, and attributes of its own.
        let mut again = Load::new(Vec::new());
        again.attr.bcf_fd = bcf_fd;
        again.set_proof(2, &proof_of(&first));
        let second = again.request();
        assert_eq!((again.attr.bcf_fd, again.attr.log_true_size), (bcf_fd, 0));
        assert_eq!(second.len() as u32 * 4, again.attr.bcf_buf_true_size);
        assert!(load.log_text().ends_with(ASKED));
        load.attr.bcf_fd = bcf_fd;
        assert!(load.resume(2, &proof_of(&second)).is_ok(), "{}", load.log_text());
    });
}

#[test]
fn a_later_request_without_room() {
    under_shim("measured::a_later_request_without_room", WITH_BCF, || {
        let mut load = Load::new(halved_twice(20));
        let first = load.request();
        let proof = believed_proof(&first, conditions(&first).1);
        load.attr.bcf_buf_size = (proof.len() * 4) as u32;
        assert_eq!(load.resume(2, &proof), Err(libc::EINVAL));
        assert_eq!(load.attr.bcf_flags, 2);
        assert!(load.attr.bcf_buf_true_size > load.attr.bcf_buf_size);
        assert!(load.log_text().contains(&format!("{ASKED}processed ")), "{}", load.log_text());
        // That was its end.
        assert_eq!(load.resume(2, &proof), Err(libc::EINVAL));
        assert_eq!(load.attr.bcf_flags, 2);
    });
}
