//! Any bytes in the attributes and in the proof.

use bpftwin::bcf::checker::{Policy, check_bytes};
use bpftwin::bcf::request::{Goal, Request};
use bpftwin_uapi::Cmd;
use bpftwin_uapi::attr::ProgLoad;

use crate::client::{bpf_raw, close, map_create, under_shim};
use crate::programs::{halved, halved_twice};
use crate::{BUF_WORDS, Load, WITH_BCF, proof_of};

/// A generator that is the same every time.
struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % n
    }

    fn of(&mut self, values: &[u64]) -> u64 {
        values[self.below(values.len() as u64) as usize]
    }
}

/// A page, and nothing behind.
fn page() -> u64 {
    // SAFETY: maps fresh memory and unmaps half of it.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap(std::ptr::null_mut(), 8192, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        libc::munmap(page.byte_add(4096), 4096);
        page as u64
    }
}

/// A copy that cannot be written.
fn read_only<T: bytemuck::Pod>(data: &[T]) -> u64 {
    let bytes: &[u8] = bytemuck::cast_slice(data);
    // SAFETY: fresh memory of the right size.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let copy = libc::mmap(std::ptr::null_mut(), bytes.len(), prot, flags, -1, 0);
        copy.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
        libc::mprotect(copy, bytes.len(), libc::PROT_READ);
        copy as u64
    }
}

#[test]
fn any_bytes_in_the_six_fields() {
    under_shim("hostile::any_bytes_in_the_six_fields", WITH_BCF, || {
        let mut random = Random(0x5eed);
        let edge = page() + 4096;
        let map = map_create(bpftwin_uapi::MapType::Array, 0).unwrap();
        let (mut load, mut other) = (Load::new(halved()), Load::new(halved()));
        let base = load.attr;
        let buf = base.bcf_buf;
        let (mut suspended, mut requests, mut ended) = (0, 0, 0);
        for _ in 0..20_000 {
            if suspended == 0 {
                other.attr = ProgLoad { bcf_fd: 0, bcf_flags: 0, bcf_buf_true_size: 0, ..base };
                other.request();
                suspended = other.attr.bcf_fd;
            }
            let any = random.below(1 << 53) << 11;
            let sizes = [0, 1, 4, 100, 195, 196, 4096, (BUF_WORDS * 4) as u64, u64::MAX, any];
            load.attr = ProgLoad {
                bcf_buf: random.of(&[0, buf, buf, buf, buf, edge, edge - 64, edge - 4096, u64::MAX, any]),
                bcf_buf_size: random.of(&sizes) as u32,
                bcf_buf_true_size: random.of(&sizes) as u32,
                bcf_fd: random.of(&[0, 0, suspended.into(), suspended.into(), map as u64, 99, u64::MAX, any])
                    as u32,
                bcf_flags: random.of(&[0, 0, 0, 1, 2, 2, 2, 3, 4, 6, 6, 7, 8, any]) as u32,
                ..base
            };
            if random.below(3) == 0 {
                (load.attr.bcf_fd, load.attr.bcf_buf_true_size, load.attr.bcf_flags) = (0, 0, 0);
            }
            let given = load.attr;
            let answer = load.call();
            assert!(
                matches!(answer, Err(libc::EINVAL | libc::EBADF | libc::EFAULT)),
                "{answer:?}: {given:?}"
            );
            if given.bcf_flags == 0 && load.attr.bcf_flags == 1 {
                requests += 1;
                close(load.attr.bcf_fd as i32);
            } else if answer == Err(libc::EFAULT) {
                assert!(given.bcf_flags & 2 != 0, "{given:?}");
            }
            if given.bcf_flags & 2 != 0 && given.bcf_fd == suspended && load.attr.log_true_size != 0 {
                ended += 1;
                close(suspended as i32);
                suspended = 0;
            }
        }
        assert!(requests > 100 && ended > 100, "{requests} {ended}");
    });
}

#[test]
fn damaged_proofs() {
    under_shim("hostile::damaged_proofs", WITH_BCF, || {
        let mut random = Random(0xdead);
        let mut load = Load::new(halved());
        let fresh = load.attr;
        let words = load.request();
        close(load.attr.bcf_fd as i32);
        let request = Request::parse(&words).unwrap();
        let goal = Goal { arena: &request.arena, root: request.refine_cond.unwrap() };
        let good: Vec<u8> = bytemuck::cast_slice(&proof_of(&words)).to_vec();
        let (mut accepted, mut errors) = (0, std::collections::BTreeSet::new());
        for round in 0..2000 {
            let mut proof = good.clone();
            match round % 4 {
                0 => proof.truncate(random.below(good.len() as u64) as usize),
                1 => (0..proof.len()).for_each(|at| proof[at] = random.below(256) as u8),
                2 => proof.extend((0..random.below(9)).map(|_| 0)),
                _ => {
                    for _ in 0..=random.below(3) {
                        let bit = random.below(good.len() as u64 * 8) as usize;
                        proof[bit / 8] ^= 1 << (bit % 8);
                    }
                }
            }
            load.attr = fresh;
            assert_eq!(load.request(), words);
            bytemuck::cast_slice_mut::<u32, u8>(&mut load.buf)[..proof.len()].copy_from_slice(&proof);
            (load.attr.bcf_flags, load.attr.bcf_buf_true_size) = (2, proof.len() as u32);
            // The checker has tests of its own; here its answer is to arrive.
            let expected = check_bytes(&proof, Some(goal), Policy::Reference).map_err(|error| error.errno());
            let answer = load.call();
            assert_eq!(answer.map(|_| ()), expected.map(|_| ()));
            let log = load.log_text();
            assert!(
                log.contains("\nprocessed 10 insns") == answer.is_err() && log.contains("processed"),
                "{log}"
            );
            match answer {
                Ok(fd) => {
                    accepted += 1;
                    close(fd);
                }
                Err(errno) => _ = errors.insert(errno),
            }
            // Whatever it was, there is no second try.
            (load.attr.bcf_flags, load.attr.bcf_buf_true_size) = (2, good.len() as u32);
            bytemuck::cast_slice_mut::<u32, u8>(&mut load.buf)[..good.len()].copy_from_slice(&good);
            assert_eq!(load.call(), Err(libc::EINVAL));
            close(load.attr.bcf_fd as i32);
        }
        assert!(errors.contains(&libc::EINVAL) && accepted < 1000, "{accepted} {errors:?}");
    });
}

#[test]
fn proofs_of_impossible_sizes() {
    under_shim("hostile::proofs_of_impossible_sizes", WITH_BCF, || {
        let edge = page() + 4096;
        // What cannot be a proof is not read.
        for (size, address, errno) in [
            (0u32, edge, libc::EINVAL),
            (12, edge, libc::EINVAL),
            (17, edge, libc::EINVAL),
            (32 << 20, edge, libc::EINVAL),
            (u32::MAX, edge, libc::EINVAL),
            (16, edge, libc::EFAULT),
            ((32 << 20) - 4, edge - 4096, libc::EFAULT),
        ] {
            let mut load = Load::new(halved());
            load.request();
            let attr = &mut load.attr;
            (attr.bcf_buf, attr.bcf_buf_size, attr.bcf_buf_true_size, attr.bcf_flags) =
                (address, u32::MAX, size, 2);
            assert_eq!(load.call(), Err(errno), "{size} {address:#x}");
            assert!(load.log_text().contains("\nprocessed 10 insns"), "{}", load.log_text());
            close(load.attr.bcf_fd as i32);
        }
    });
}

#[test]
fn conditions_that_are_not_there() {
    under_shim("hostile::conditions_that_are_not_there", WITH_BCF, || {
        let mut insns = halved();
        // Without the branch there is no path condition.
        insns.remove(8);
        let mut load = Load::new(insns);
        assert_eq!(crate::conditions(&load.request()).0, u32::MAX);
        load.attr.bcf_buf = page() + 4096;
        (load.attr.bcf_buf_true_size, load.attr.bcf_flags) = (64, 6);
        assert_eq!(load.call(), Err(libc::EINVAL));
        assert!(load.log_text().contains("\nprocessed "), "{}", load.log_text());
    });
}

#[test]
fn requests_that_cannot_be_told() {
    under_shim("hostile::requests_that_cannot_be_told", WITH_BCF, || {
        // The buffer ends too early.
        let mut load = Load::new(halved());
        load.attr.bcf_buf = page() + 4096 - 100;
        assert_eq!(load.call(), Err(libc::EINVAL));
        assert_eq!((load.attr.bcf_flags, load.attr.bcf_buf_true_size, load.attr.bcf_fd), (0, 196, 0));
        assert!(load.log_text().contains("\nprocessed 10 insns"), "{}", load.log_text());

        // A later one.
        let mut load = Load::new(halved_twice(0));
        let proof = proof_of(&load.request());
        load.attr.bcf_flags = 2;
        load.attr.bcf_buf_true_size = (proof.len() * 4) as u32;
        (load.attr.bcf_buf, load.attr.bcf_buf_size) = (read_only(&proof), (proof.len() * 4) as u32);
        assert_eq!(load.call(), Err(libc::EINVAL));
        assert_eq!(load.attr.bcf_flags, 2);
        assert!(load.log_text().contains("\nprocessed "), "{}", load.log_text());
        assert_eq!(load.call(), Err(libc::EINVAL));

        // The attributes cannot be written, nor the log's size at its end.
        let load = Load::new(halved());
        let attr = read_only(bytemuck::bytes_of(&load.attr));
        assert_eq!(bpf_raw(Cmd::ProgLoad, attr, size_of::<ProgLoad>()), Err(libc::EFAULT));
        assert!(load.log_text().contains("\nprocessed 10 insns"), "{}", load.log_text());
    });
}

#[test]
fn a_log_that_vanishes() {
    under_shim("hostile::a_log_that_vanishes", WITH_BCF, || {
        let mut load = Load::new(halved());
        let log = page();
        (load.attr.log_buf, load.attr.log_size) = (log, 4096);
        let proof = proof_of(&load.request());
        // SAFETY: the page is our own.
        unsafe { libc::munmap(log as *mut _, 4096) };
        assert_eq!(load.resume(2, &proof), Err(libc::EFAULT));
        assert_eq!(load.resume(2, &proof), Err(libc::EINVAL));
    });
}

#[test]
fn no_descriptor_is_left() {
    under_shim("hostile::no_descriptor_is_left", WITH_BCF, || {
        let mut load = Load::new(halved());
        // SAFETY: the structure is plain; descriptors are not used by others in this process.
        unsafe {
            let none = libc::rlimit { rlim_cur: 3, rlim_max: 4096 };
            assert_eq!(libc::setrlimit(libc::RLIMIT_NOFILE, &raw const none), 0);
        }
        // The flag is written first, and stays: the load has ended nevertheless.
        assert_eq!(load.call(), Err(libc::EINVAL));
        assert_eq!((load.attr.bcf_flags, load.attr.bcf_buf_true_size, load.attr.bcf_fd), (1, 196, 0));
        assert!(load.log_text().contains("\nprocessed 10 insns"), "{}", load.log_text());
    });
}
