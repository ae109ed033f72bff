//! The checks of `BPF_PROG_LOAD` before verification against the live kernel.
//!
//! The kernel writes `log_true_size` back once verification has run, which tells how far a load got.
//! Needs a kernel of the emulated series and the right to load programs; says so and passes where it has neither.

mod live;

use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::Arc;

use bpftwin::btf::Btf;
use bpftwin::progs::tag::bpf_prog_calc_tag;
use bpftwin::syscall::prog_load::{Loader, prepare};
use bpftwin::verifier::prog::{Objects, TargetProg, VerifierMap};
use bpftwin_uapi::attr::*;
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Cmd, Errno, Insn, ProgType};

const MOV: Insn = Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
const EXIT: Insn = Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
const PROGRAM: [Insn; 2] = [MOV, EXIT];
const NOT_WRITTEN: u32 = 0xdead_beef;

/// Objects of this process, none of which is a program or a map.
struct NoObjects;

impl Objects for NoObjects {
    fn map_by_fd(&self, fd: i32) -> Result<Arc<VerifierMap>, Errno> {
        // SAFETY: fcntl checks the descriptor.
        let open = unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
        Err(if open { Errno::EINVAL } else { Errno::EBADF })
    }

    fn btf_by_fd(&self, fd: i32) -> Result<Arc<Btf>, Errno> {
        self.map_by_fd(fd)?;
        Err(Errno::EINVAL)
    }

    fn prog_by_fd(&self, fd: i32) -> Result<TargetProg, Errno> {
        self.map_by_fd(fd)?;
        Err(Errno::EINVAL)
    }

    fn read_user(&self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        let local = libc::iovec { iov_base: buf.as_mut_ptr().cast(), iov_len: buf.len() };
        let remote = libc::iovec { iov_base: address as *mut _, iov_len: buf.len() };
        // SAFETY: fills a live buffer; the kernel checks the other address.
        let read = unsafe { libc::process_vm_readv(libc::getpid(), &local, 1, &remote, 1, 0) };
        if read == buf.len() as isize { Ok(()) } else { Err(Errno::EFAULT) }
    }
}

#[derive(Clone, Copy, PartialEq, Debug)]
enum Answer {
    Verified,
    Refused(Errno),
}

fn kernel_answer(attr: &ProgLoad) -> Answer {
    let mut attr = *attr;
    attr.log_true_size = NOT_WRITTEN;
    // SAFETY: a bad pointer in the attributes is an error to the kernel; the size is that of 6.18's structure.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, Cmd::ProgLoad as i32, &raw mut attr, ATTR_SIZE) };
    let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
    if fd >= 0 {
        // SAFETY: the descriptor is ours alone.
        unsafe { libc::close(fd as i32) };
    }
    if attr.log_true_size != NOT_WRITTEN { Answer::Verified } else { Answer::Refused(Errno(errno)) }
}

fn template() -> ProgLoad {
    let mut attr: ProgLoad = bytemuck::Zeroable::zeroed();
    attr.prog_type = ProgType::SocketFilter as u32;
    attr.insns = PROGRAM.as_ptr() as u64;
    attr.insn_cnt = 2;
    attr.license = c"GPL".as_ptr() as u64;
    attr
}

fn cases() -> Vec<ProgLoad> {
    let mut cases = Vec::new();
    let mut add = |change: &dyn Fn(&mut ProgLoad)| {
        let mut attr = template();
        change(&mut attr);
        cases.push(attr);
    };
    let file = std::fs::File::open("/dev/null").unwrap();
    let file_fd = file.as_raw_fd() as u32;
    std::mem::forget(file);
    for prog_type in 0..36 {
        for attach_type in 0..62 {
            add(&|attr| (attr.prog_type, attr.expected_attach_type) = (prog_type, attach_type));
        }
        for bit in 0..20 {
            add(&|attr| (attr.prog_type, attr.prog_flags) = (prog_type, 1 << bit));
        }
        for btf_id in [1, 0xf_ffff, 0x10_0000] {
            for fd in [0, 9999, file_fd] {
                add(&|attr| {
                    (attr.prog_type, attr.attach_btf_id, attr.attach_prog_fd) = (prog_type, btf_id, fd);
                });
            }
        }
        for flags in
            [0, BPF_F_XDP_HAS_FRAGS, BPF_F_XDP_DEV_BOUND_ONLY, BPF_F_XDP_HAS_FRAGS | BPF_F_XDP_DEV_BOUND_ONLY]
        {
            add(&|attr| (attr.prog_type, attr.prog_ifindex, attr.prog_flags) = (prog_type, 99_999, flags));
        }
        add(&|attr| (attr.prog_type, attr.insn_cnt) = (prog_type, 0));
        add(&|attr| (attr.prog_type, attr.insns) = (prog_type, 0));
        add(&|attr| (attr.prog_type, attr.license) = (prog_type, 8));
        add(&|attr| (attr.prog_type, attr.prog_name) = (prog_type, *b"bad-name\0\0\0\0\0\0\0\0"));
        add(&|attr| (attr.prog_type, attr.attach_prog_fd) = (prog_type, 9999));
    }
    for insn_cnt in [4096, 4097, 1_000_000, 1_000_001, u32::MAX] {
        add(&|attr| (attr.insn_cnt, attr.insns) = (insn_cnt, 16));
    }
    for fd in [-1, 9999, file_fd as i32] {
        add(&|attr| (attr.prog_flags, attr.prog_token_fd) = (BPF_F_TOKEN_FD, fd));
    }
    for byte in 0..=255 {
        add(&|attr| attr.prog_name[3] = byte);
        add(&|attr| (attr.prog_name[0], attr.prog_name[1]) = (b'x', byte));
    }
    add(&|attr| attr.prog_name = *b"exactly_sixteen_");
    add(&|attr| (attr.signature, attr.signature_size) = (8, 8193));
    let page = page_before_hole();
    for (start, fill) in [(4000, 4096), (4000, 4095), (3960, 4096), (3969, 4096), (3970, 4096)] {
        let text: Vec<u8> = (0..4096).map(|i| if i >= start && i < fill { b'x' } else { 0 }).collect();
        // SAFETY: the page is mapped and writable. Each case gets its own copy, which is never unmapped.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), page as *mut u8, 4096) };
        let page = page_before_hole();
        // SAFETY: as above.
        unsafe { std::ptr::copy_nonoverlapping(text.as_ptr(), page as *mut u8, 4096) };
        add(&|attr| attr.license = page + start as u64);
        add(&|attr| attr.insns = page + 4096 - 8);
    }
    cases
}

/// A page with an unmapped one behind it.
fn page_before_hole() -> u64 {
    // SAFETY: maps fresh pages and unmaps the second.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap(std::ptr::null_mut(), 8192, libc::PROT_READ | libc::PROT_WRITE, flags, -1, 0);
        assert_ne!(page, libc::MAP_FAILED);
        libc::munmap(page.byte_add(4096), 4096);
        page as u64
    }
}

fn compare(cases: &[ProgLoad], cap_bpf: bool, cap_perfmon: bool, cap_net_admin: bool) -> usize {
    let loader = Loader {
        cap_bpf,
        cap_perfmon,
        cap_net_admin,
        cap_sys_admin: cap_bpf && cap_perfmon && cap_net_admin,
        unprivileged_bpf_disabled: true,
        objects: Arc::new(NoObjects),
        btf_vmlinux: vmlinux(),
        config: Arc::default(),
    };
    let mut differences = 0;
    for attr in cases {
        let ours = match prepare(attr, &loader) {
            Ok(_) => Answer::Verified,
            Err(refusal) if refusal.not_emulated.is_some() => continue,
            Err(refusal) => Answer::Refused(refusal.errno),
        };
        let theirs = kernel_answer(attr);
        // Some hosts keep programs that attach to kernel functions out by policy.
        let by_policy = theirs == Answer::Refused(Errno::EPERM)
            && [ProgType::Tracing, ProgType::Lsm, ProgType::Ext].iter().any(|&t| t as u32 == attr.prog_type);
        if ours != theirs && !by_policy {
            differences += 1;
            if differences < 30 {
                eprintln!("we {ours:?}, kernel {theirs:?}: {attr:?}");
            }
        }
    }
    differences
}

fn vmlinux() -> Option<Arc<Btf>> {
    Btf::from_kernel_file(Path::new("/sys/kernel/btf/vmlinux")).ok().map(Arc::new)
}

fn can_load() -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let disabled = std::fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled").unwrap_or_default();
    let able = release.starts_with("6.18.")
        && disabled.trim() != "0"
        && kernel_answer(&ProgLoad { prog_type: ProgType::Kprobe as u32, ..template() }) == Answer::Verified;
    if !able {
        eprintln!("SKIPPED: no right to load programs, or not a 6.18 kernel that keeps bpf(2) to itself");
    }
    able
}

#[test]
fn checks_before_verification_agree_with_the_kernel() {
    if !can_load() {
        return;
    }
    let cases = cases();
    const NET_ADMIN: u64 = 1 << 12;
    const SYS_ADMIN: u64 = 1 << 21;
    const PERFMON: u64 = 1 << 38;
    const BPF: u64 = 1 << 39;
    let all = [NET_ADMIN, PERFMON, BPF];
    let sets =
        (0..8u64).map(|bits| (0..3).filter(|i| bits >> i & 1 != 0).map(|i| all[i]).sum()).chain([SYS_ADMIN]);
    let mut differences = 0;
    for caps in sets {
        let cases = &cases;
        differences += std::thread::scope(|scope| {
            let compare = move || {
                live::set_effective(caps);
                let has = |cap: u64| caps & (cap | SYS_ADMIN) != 0;
                compare(cases, has(BPF), has(PERFMON), has(NET_ADMIN))
            };
            scope.spawn(compare).join().unwrap()
        });
    }
    assert_eq!(differences, 0);
    eprintln!("{} loads compared", cases.len() * 9);
}

#[test]
fn tag_agrees_with_the_kernel() {
    if !can_load() {
        return;
    }
    let attr = template();
    let mut info = [0u8; 40];
    // SAFETY: as in `kernel_answer`; the information is written to a live buffer of the size named.
    unsafe {
        let fd = libc::syscall(libc::SYS_bpf, Cmd::ProgLoad as i32, &raw const attr, ATTR_SIZE);
        assert!(fd >= 0);
        let mut query: GetInfo = bytemuck::Zeroable::zeroed();
        query.bpf_fd = fd as u32;
        query.info_len = info.len() as u32;
        query.info = info.as_mut_ptr() as u64;
        let size = size_of::<GetInfo>();
        assert_eq!(libc::syscall(libc::SYS_bpf, Cmd::ObjGetInfoByFd as i32, &raw mut query, size), 0);
        libc::close(fd as i32);
    }
    assert_eq!(info[8..16], bpf_prog_calc_tag(&PROGRAM)[..8]);
}
