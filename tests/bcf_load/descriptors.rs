//! What lives as long as `bcf_fd`, and who may use it.

use std::sync::Barrier;

use bpftwin_uapi::attr::{GetInfo, MapCreate, MapElem, Obj, ProgBindMap};
use bpftwin_uapi::{Cmd, MapType};
use bytemuck::Zeroable;

use crate::client::{bpf, close, fd_by_id, map_create, prog_load, trivial, under_shim};
use crate::programs::{halved, rest_of_value};
use crate::{Load, WITH_BCF, proof_of};

#[test]
fn copies_are_the_same_file() {
    under_shim("descriptors::copies_are_the_same_file", WITH_BCF, || {
        let mut load = Load::new(halved());
        let proof = proof_of(&load.request());
        let fd = load.attr.bcf_fd as i32;
        // SAFETY: descriptor calls without memory effects.
        let (first, second) = unsafe { (libc::dup(fd), libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 100)) };
        close(fd);
        load.attr.bcf_fd = fd as u32;
        assert_eq!(load.resume(2, &proof), Err(libc::EBADF));
        load.attr.bcf_fd = second as u32;
        assert!(load.resume(2, &proof).is_ok());
        load.attr.bcf_fd = first as u32;
        assert_eq!(load.resume(2, &proof), Err(libc::EINVAL));
    });
}

#[test]
fn other_commands_do_not_take_it() {
    under_shim("descriptors::other_commands_do_not_take_it", WITH_BCF, || {
        let mut load = Load::new(halved());
        load.request();
        let fd = load.attr.bcf_fd;
        let mut info = [0u8; 256];
        let mut attr = GetInfo { bpf_fd: fd, info_len: 256, info: info.as_mut_ptr() as u64 };
        assert_eq!(bpf(Cmd::ObjGetInfoByFd, &mut attr), Err(libc::EINVAL));
        let path = c"/sys/fs/bpf/suspended";
        let mut attr = Obj { pathname: path.as_ptr() as u64, bpf_fd: fd, ..Obj::zeroed() };
        assert_eq!(bpf(Cmd::ObjPin, &mut attr), Err(libc::EINVAL));
        let mut attr = MapElem { map_fd: fd, ..MapElem::zeroed() };
        assert_eq!(bpf(Cmd::MapLookupElem, &mut attr), Err(libc::EINVAL));
        let mut attr = ProgBindMap { prog_fd: fd, ..ProgBindMap::zeroed() };
        assert_eq!(bpf(Cmd::ProgBindMap, &mut attr), Err(libc::EINVAL));
        let mut attr = MapCreate {
            map_type: MapType::ArrayOfMaps as u32,
            key_size: 4,
            value_size: 4,
            max_entries: 1,
            inner_map_fd: fd,
            ..MapCreate::zeroed()
        };
        assert_eq!(bpf(Cmd::MapCreate, &mut attr), Err(libc::EINVAL));
    });
}

#[test]
fn other_descriptors_are_no_suspended_loads() {
    under_shim("descriptors::other_descriptors_are_no_suspended_loads", WITH_BCF, || {
        let mut load = Load::new(halved());
        let proof = proof_of(&load.request());
        let fd = load.attr.bcf_fd;
        let map = map_create(MapType::Array, 0).unwrap();
        let prog = prog_load(&trivial(), &mut Vec::new()).unwrap();
        for other in [map, prog, 0] {
            load.attr.bcf_fd = other as u32;
            assert_eq!(load.resume(2, &proof), Err(libc::EINVAL), "{other}");
        }
        for none in [u32::MAX, 1 << 31, 77_777] {
            load.attr.bcf_fd = none;
            assert_eq!(load.resume(2, &proof), Err(libc::EBADF), "{none}");
        }
        // None of these was the load's end.
        load.attr.bcf_fd = fd;
        assert!(load.resume(2, &proof).is_ok());
    });
}

fn map_id(fd: i32) -> u32 {
    let mut info = bpftwin_uapi::info::MapInfo::zeroed();
    let mut attr =
        GetInfo { bpf_fd: fd as u32, info_len: size_of_val(&info) as u32, info: &raw mut info as u64 };
    bpf(Cmd::ObjGetInfoByFd, &mut attr).unwrap();
    info.id
}

/// An array of one value of 64 bytes.
pub fn map_of_64() -> i32 {
    let mut attr = MapCreate {
        map_type: MapType::Array as u32,
        key_size: 4,
        value_size: 64,
        max_entries: 1,
        ..MapCreate::zeroed()
    };
    bpf(Cmd::MapCreate, &mut attr).unwrap()
}

#[test]
fn what_the_program_refers_to_lives_on() {
    under_shim("descriptors::what_the_program_refers_to_lives_on", WITH_BCF, || {
        let alive = |id| fd_by_id(Cmd::MapGetFdById, id).map(close);
        for resume in [false, true] {
            let map = map_of_64();
            let id = map_id(map);
            let mut load = Load::new(rest_of_value(map));
            let request = load.request();
            close(map);
            assert_eq!(alive(id), Ok(()));
            let mut prog = -1;
            if resume {
                prog = load.resume(2, &proof_of(&request)).unwrap_or_else(|_| panic!("{}", load.log_text()));
                assert_eq!(alive(id), Ok(()));
            }
            close(load.attr.bcf_fd as i32);
            assert_eq!(alive(id), if resume { Ok(()) } else { Err(libc::ENOENT) });
            close(prog);
            assert_eq!(alive(id), Err(libc::ENOENT));
        }
    });
}

#[test]
fn a_child_cannot_go_on_with_it() {
    under_shim("descriptors::a_child_cannot_go_on_with_it", WITH_BCF, || {
        let mut load = Load::new(halved());
        let proof = proof_of(&load.request());
        // SAFETY: the child makes calls on descriptors, and ends.
        unsafe {
            let child = libc::fork();
            if child == 0 {
                let answer = load.resume(2, &proof);
                let again = load.resume(6, &[]);
                close(load.attr.bcf_fd as i32);
                let gone = load.resume(2, &proof);
                // A load of its own is its own.
                let mut own = Load::new(halved());
                let done = own.call() == Err(libc::EINVAL) && own.attr.bcf_flags == 1;
                let own_done = done && own.resume(2, &proof).is_ok();
                let expected =
                    (answer, again, gone) == (Err(libc::EOPNOTSUPP), Err(libc::EOPNOTSUPP), Err(libc::EBADF));
                libc::_exit(i32::from(!(expected && own_done)));
            }
            let mut status = 0;
            libc::waitpid(child, &mut status, 0);
            assert_eq!(status, 0);
        }
        assert!(load.resume(2, &proof).is_ok(), "{}", load.log_text());
    });
}

#[test]
fn one_thread_goes_on_with_it() {
    under_shim("descriptors::one_thread_goes_on_with_it", WITH_BCF, || {
        const THREADS: usize = 4;
        for _ in 0..50 {
            let mut load = Load::new(halved());
            let proof = proof_of(&load.request());
            let barrier = Barrier::new(THREADS);
            let attr = load.attr;
            let resume = || {
                let mut buf = proof.clone();
                let mut attr = attr;
                attr.bcf_buf = buf.as_mut_ptr() as u64;
                (attr.bcf_buf_size, attr.bcf_buf_true_size) = (buf.len() as u32 * 4, buf.len() as u32 * 4);
                attr.bcf_flags = 2;
                barrier.wait();
                bpf(Cmd::ProgLoad, &mut attr)
            };
            let answers: Vec<Result<i32, i32>> = std::thread::scope(|scope| {
                let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(resume)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let (good, bad): (Vec<_>, Vec<_>) = answers.into_iter().partition(Result::is_ok);
            assert_eq!((good.len(), bad), (1, vec![Err(libc::EINVAL); THREADS - 1]));
            close(good[0].unwrap());
            close(load.attr.bcf_fd as i32);
        }
    });
}

/// Resident memory of this process, in KiB.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// `BPFTWIN_TEST_ROUNDS` asks for more.
#[test]
fn loads_that_nobody_goes_on_with_are_freed() {
    under_shim("descriptors::loads_that_nobody_goes_on_with_are_freed", WITH_BCF, || {
        const WARM_UP: u64 = 100;
        let rounds = std::env::var("BPFTWIN_TEST_ROUNDS").map_or(400, |rounds| rounds.parse().unwrap());
        let mut load = Load::new(halved());
        let fresh = load.attr;
        let descriptors = || std::fs::read_dir("/proc/self/fd").unwrap().count();
        let (mut first, mut before) = (0, 0);
        for round in 0..rounds {
            load.attr = fresh;
            load.request();
            let fd = load.attr.bcf_fd as i32;
            if round == WARM_UP {
                (first, before) = (fd, resident());
            }
            assert!(round <= WARM_UP || fd == first, "descriptors are left open");
            close(fd);
        }
        let after = resident();
        eprintln!("{rounds} rounds: {before} KiB resident after {WARM_UP}, {after} KiB at the end");
        assert!(after < before + 2048, "{before} KiB, then {after} KiB");
        assert!(descriptors() < 20, "{}", descriptors());
    });
}
