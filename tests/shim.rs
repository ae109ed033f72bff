//! The preload library as its clients see it. Each test runs itself again under the library, with a seccomp filter that
//! kills it if it ever calls the host's bpf(2).

mod client;

use std::ffi::{CStr, CString};
use std::sync::atomic::{AtomicBool, Ordering};

use bpftwin_uapi::attr::{BPF_F_MMAPABLE, BPF_F_RDONLY_PROG, BPF_FS_MAGIC, GetInfo, MapElem, Obj, ProgLoad};
use bpftwin_uapi::info::{MapInfo, ProgInfo};
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Cmd, Insn, MapType};
use bytemuck::Zeroable;
use client::*;

/// Two pages of which the second is gone.
fn edge() -> u64 {
    // SAFETY: maps fresh memory and unmaps half of it.
    unsafe {
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let page = libc::mmap(std::ptr::null_mut(), 8192, prot, flags, -1, 0);
        libc::munmap(page.byte_add(4096), 4096);
        page as u64 + 4096
    }
}

/// The library comes before all others in the process that it is loaded into, which may be one of C++, or have no C++ runtime.
#[test]
fn the_library_brings_nothing_of_cpp() {
    use object::{Object, ObjectSymbol};

    let Some(shim) = shim() else { return };
    let data = std::fs::read(shim).unwrap();
    let library = object::File::parse(&*data).unwrap();
    let exported = library.dynamic_symbols().filter(|symbol| symbol.is_definition());
    let exported: Vec<&str> = exported.map(|symbol| symbol.name().unwrap()).collect();
    assert!(exported.contains(&"syscall"), "{exported:?}");
    let foreign: Vec<_> =
        exported.iter().filter(|name| name.starts_with("_Z") || name.contains('$')).collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    let mut imported = library.dynamic_symbols().filter(|symbol| symbol.is_undefined());
    let missing = imported.find(|symbol| symbol.name().is_ok_and(|name| name.starts_with("_Z")));
    assert!(missing.is_none(), "{:?}", missing.map(|symbol| symbol.name()));
}

#[test]
fn bad_pointers_are_efault() {
    under_shim("bad_pointers_are_efault", &[], || {
        let edge = edge();
        for address in [0, 1, edge, edge - 8, u64::MAX - 8, 1 << 63] {
            assert_eq!(bpf_raw(Cmd::MapCreate, address, 72), Err(libc::EFAULT), "{address:#x}");
        }
        let fd = map_create(MapType::Array, 0).unwrap();
        for (key, value) in [(0, edge - 8), (edge - 4, 0), (edge - 2, edge - 8), (edge - 4, edge - 7)] {
            let mut attr = MapElem { map_fd: fd as u32, key, value, ..MapElem::zeroed() };
            assert_eq!(bpf(Cmd::MapLookupElem, &mut attr), Err(libc::EFAULT), "{key:#x} {value:#x}");
            assert_eq!(bpf(Cmd::MapUpdateElem, &mut attr), Err(libc::EFAULT), "{key:#x} {value:#x}");
        }
        let mut attr = ProgLoad { prog_type: 1, insn_cnt: 2, insns: edge, license: 1, ..ProgLoad::zeroed() };
        assert_eq!(bpf(Cmd::ProgLoad, &mut attr), Err(libc::EFAULT));
        let insns = trivial();
        attr.insns = insns.as_ptr() as u64;
        assert_eq!(bpf(Cmd::ProgLoad, &mut attr), Err(libc::EFAULT));
    });
}

#[test]
fn a_page_may_vanish() {
    under_shim("a_page_may_vanish", &[], || {
        let fd = map_create(MapType::Array, 0).unwrap();
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: fresh memory of our own, which only the kernel's copies touch.
        let page = unsafe { libc::mmap(std::ptr::null_mut(), 4096, prot, flags, -1, 0) } as u64;
        let stop = AtomicBool::new(false);
        let (mut good, mut bad) = (0, 0);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    // SAFETY: the page is our own.
                    unsafe {
                        libc::mprotect(page as *mut _, 4096, libc::PROT_NONE);
                        libc::mprotect(page as *mut _, 4096, prot);
                    }
                }
            });
            for _ in 0..20_000 {
                let mut attr = MapElem { map_fd: fd as u32, key: page, value: page + 8, ..MapElem::zeroed() };
                match bpf(Cmd::MapLookupElem, &mut attr) {
                    Ok(_) => good += 1,
                    Err(libc::EFAULT) => bad += 1,
                    Err(other) => panic!("errno {other}"),
                }
            }
            stop.store(true, Ordering::Relaxed);
        });
        assert!(good + bad == 20_000 && good != 0);
    });
}

#[test]
fn attributes_may_be_longer_with_zeros_only() {
    under_shim("attributes_may_be_longer_with_zeros_only", &[], || {
        let mut attr = [0u8; 256];
        let create = [MapType::Array as u32, 4, 8, 1];
        attr[..16].copy_from_slice(bytemuck::cast_slice(&create));
        let call = |attr: &[u8], size| bpf_raw(Cmd::MapCreate, attr.as_ptr() as u64, size);
        assert!(call(&attr, 256).is_ok());
        assert!(call(&attr, 16).is_ok());
        attr[200] = 1;
        assert_eq!(call(&attr, 256), Err(libc::E2BIG));
        assert!(call(&attr, 200).is_ok());
        attr[150] = 1;
        assert_eq!(call(&attr, 200), Err(libc::EINVAL));
        assert_eq!(call(&attr, 5000), Err(libc::E2BIG));
    });
}

#[test]
fn descriptors_are_real() {
    under_shim("descriptors_are_real", &[], || {
        let fd = map_create(MapType::Hash, 0).unwrap();
        let mut info = MapInfo::zeroed();
        let mut attr =
            GetInfo { bpf_fd: fd as u32, info_len: size_of::<MapInfo>() as u32, info: &raw mut info as u64 };
        bpf(Cmd::ObjGetInfoByFd, &mut attr).unwrap();
        let id = info.id;
        update(fd, 1, 11).unwrap();
        // SAFETY: the calls of this test are on descriptors of its own.
        unsafe {
            assert_eq!(libc::fcntl(fd, libc::F_GETFD), libc::FD_CLOEXEC);
            let copy = libc::dup(fd);
            assert_eq!(libc::dup2(fd, 200), 200);
            close(fd);
            assert_eq!(lookup(fd, 1), Err(libc::EBADF));
            assert_eq!(lookup(copy, 1), Ok(11));
            assert_eq!(lookup(200, 1), Ok(11));
            close(copy);

            // A child has it too, and its closing does not take it from us.
            let child = libc::fork();
            if child == 0 {
                libc::_exit(if lookup(200, 1) == Ok(11) { 0 } else { 1 });
            }
            let mut status = 0;
            libc::waitpid(child, &mut status, 0);
            assert_eq!(status, 0);
            assert_eq!(lookup(200, 1), Ok(11));

            // It travels through a socket.
            let received = send_to_self(200);
            close(200);
            assert_eq!(lookup(received, 1), Ok(11));
            let again = fd_by_id(Cmd::MapGetFdById, id).unwrap();
            assert_eq!(lookup(again, 1), Ok(11));
            close(again);

            // Other descriptors are other errors.
            let file = libc::open(c"/dev/null".as_ptr(), libc::O_RDONLY);
            assert_eq!(lookup(file, 1), Err(libc::EINVAL));

            // The object goes with the last descriptor, however that is closed.
            libc::close_range(received as u32, received as u32, 0);
            assert_eq!(fd_by_id(Cmd::MapGetFdById, id), Err(libc::ENOENT));
        }
    });
}

/// Sends a descriptor through a socket pair and receives it again.
unsafe fn send_to_self(fd: i32) -> i32 {
    let mut pair = [0; 2];
    let mut byte = 0u8;
    let mut data = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut control = [0u64; 8];
    // SAFETY: every pointer is to a live local; the control buffer has room for one descriptor.
    unsafe {
        assert_eq!(libc::socketpair(libc::AF_UNIX, libc::SOCK_STREAM, 0, pair.as_mut_ptr()), 0);
        let mut message: libc::msghdr = std::mem::zeroed();
        message.msg_iov = &mut data;
        message.msg_iovlen = 1;
        message.msg_control = control.as_mut_ptr().cast();
        message.msg_controllen = libc::CMSG_SPACE(4) as _;
        let header = libc::CMSG_FIRSTHDR(&message);
        (*header).cmsg_level = libc::SOL_SOCKET;
        (*header).cmsg_type = libc::SCM_RIGHTS;
        (*header).cmsg_len = libc::CMSG_LEN(4) as _;
        libc::CMSG_DATA(header).cast::<i32>().write_unaligned(fd);
        assert_eq!(libc::sendmsg(pair[0], &message, 0), 1);
        control.fill(0);
        assert_eq!(libc::recvmsg(pair[1], &mut message, 0), 1);
        let received = libc::CMSG_DATA(libc::CMSG_FIRSTHDR(&message)).cast::<i32>().read_unaligned();
        close(pair[0]);
        close(pair[1]);
        received
    }
}

fn link_of(fd: i32) -> String {
    std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap().to_string_lossy().into_owned()
}

#[test]
fn the_kernel_shows_itself() {
    let dir = tempfile::tempdir().unwrap();
    let btf = dir.path().join("btf");
    // A header and an empty string: BTF without types.
    std::fs::write(&btf, [0x9f, 0xeb, 1, 0, 24, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0])
        .unwrap();
    let variables = [("BPFTWIN_BTF", btf.to_str().unwrap()), ("BPFTWIN_KERNEL", "6.18")];
    under_shim("the_kernel_shows_itself", &variables, || {
        let map = map_create(MapType::Array, 0).unwrap();
        let prog = prog_load(&trivial(), &mut Vec::new()).unwrap();
        assert_eq!(link_of(map), "anon_inode:bpf-map");
        assert_eq!(link_of(prog), "anon_inode:bpf-prog");
        let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{map}")).unwrap();
        assert!(info.contains("\nmap_type:\t2\nkey_size:\t4\nvalue_size:\t8\nmax_entries:\t4\n"), "{info}");
        assert!(info.contains("\nfrozen:\t0\n"), "{info}");
        assert_eq!(std::fs::read("/sys/kernel/btf/vmlinux").unwrap().len(), 25);
        let disabled = std::fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled").unwrap();
        assert_eq!(disabled, "2\n");
        // SAFETY: the structure is plain and writable.
        let release = unsafe {
            let mut name: libc::utsname = std::mem::zeroed();
            assert_eq!(libc::uname(&mut name), 0);
            CStr::from_ptr(name.release.as_ptr()).to_string_lossy().into_owned()
        };
        assert!(release.starts_with("6.18"), "{release}");

        let mut info = ProgInfo::zeroed();
        let mut attr = GetInfo {
            bpf_fd: prog as u32,
            info_len: size_of::<ProgInfo>() as u32,
            info: &raw mut info as u64,
        };
        bpf(Cmd::ObjGetInfoByFd, &mut attr).unwrap();
        assert_eq!((info.kind, info.xlated_prog_len, info.verified_insns), (1, 16, 2));
    });
}

#[test]
fn pins_are_files() {
    under_shim("pins_are_files", &[], || {
        let fd = map_create(MapType::Array, 0).unwrap();
        update(fd, 3, 33).unwrap();
        let path = |name: &str| CString::new(format!("/sys/fs/bpf/bpftwin-test/{name}")).unwrap();
        let (dir, pin) = (path(""), path("pin"));
        let mut attr = Obj { pathname: pin.as_ptr() as u64, bpf_fd: fd as u32, ..Obj::zeroed() };
        assert_eq!(bpf(Cmd::ObjPin, &mut attr), Err(libc::ENOENT));
        std::fs::create_dir("/sys/fs/bpf/bpftwin-test").unwrap();
        bpf(Cmd::ObjPin, &mut attr).unwrap();
        assert_eq!(bpf(Cmd::ObjPin, &mut attr), Err(libc::EEXIST));
        close(fd);
        // SAFETY: paths are C strings, the structures are plain and writable.
        unsafe {
            let mut statfs: libc::statfs = std::mem::zeroed();
            assert_eq!(libc::statfs(dir.as_ptr(), &mut statfs), 0);
            assert_eq!(statfs.f_type as u64, BPF_FS_MAGIC);
            let mut stat: libc::stat = std::mem::zeroed();
            assert_eq!(libc::stat(pin.as_ptr(), &mut stat), 0);
            assert_eq!(stat.st_mode & libc::S_IFMT, libc::S_IFREG);
            assert_eq!(libc::access(pin.as_ptr(), libc::F_OK), 0);
        }
        let mut attr = Obj { pathname: pin.as_ptr() as u64, ..Obj::zeroed() };
        let again = bpf(Cmd::ObjGet, &mut attr).unwrap();
        assert_eq!(lookup(again, 3), Ok(33));
        std::fs::rename("/sys/fs/bpf/bpftwin-test/pin", "/sys/fs/bpf/bpftwin-test/other").unwrap();
        assert_eq!(bpf(Cmd::ObjGet, &mut attr), Err(libc::ENOENT));
        std::fs::rename("/sys/fs/bpf/bpftwin-test/other", "/sys/fs/bpf/bpftwin-test/pin").unwrap();
        assert!(std::fs::rename("/sys/fs/bpf/bpftwin-test/pin", "/tmp/pin").is_err());
        assert!(std::fs::remove_dir("/sys/fs/bpf/bpftwin-test").is_err());
        std::fs::remove_file("/sys/fs/bpf/bpftwin-test/pin").unwrap();
        std::fs::remove_dir("/sys/fs/bpf/bpftwin-test").unwrap();
        assert_eq!(bpf(Cmd::ObjGet, &mut attr), Err(libc::ENOENT));
    });
}

#[test]
fn array_values_are_mapped() {
    under_shim("array_values_are_mapped", &[], || {
        let map = |fd: i32, prot| {
            // SAFETY: a fresh mapping.
            let address = unsafe { libc::mmap(std::ptr::null_mut(), 4096, prot, libc::MAP_SHARED, fd, 0) };
            if address == libc::MAP_FAILED {
                return Err(std::io::Error::last_os_error().raw_os_error().unwrap());
            }
            Ok(address.cast::<u64>())
        };
        let fd = map_create(MapType::Array, BPF_F_MMAPABLE).unwrap();
        let values = map(fd, libc::PROT_READ | libc::PROT_WRITE).unwrap();
        // SAFETY: the mapping holds four values.
        unsafe {
            values.add(2).write_volatile(77);
            assert_eq!(lookup(fd, 2), Ok(77));
            update(fd, 1, 66).unwrap();
            assert_eq!(values.add(1).read_volatile(), 66);
        }
        let fd = map_create(MapType::Array, BPF_F_MMAPABLE | BPF_F_RDONLY_PROG).unwrap();
        assert_eq!(map(fd, libc::PROT_READ | libc::PROT_WRITE), Err(libc::EACCES));
        assert!(map(fd, libc::PROT_READ).is_ok());
        let fd = map_create(MapType::Array, 0).unwrap();
        assert_eq!(map(fd, libc::PROT_READ), Err(libc::EINVAL));
    });
}

#[test]
fn programs_are_verified() {
    under_shim("programs_are_verified", &[], || {
        let mut log = vec![0; 4096];
        assert!(prog_load(&trivial(), &mut log).is_ok());
        let leak = [Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)];
        assert_eq!(prog_load(&leak, &mut log), Err(libc::EACCES));
        let text = CStr::from_bytes_until_nul(&log).unwrap().to_string_lossy();
        assert!(text.starts_with("0: R1=ctx() R10=fp0\n0: (95) exit\nR0 !read_ok\n"), "{text}");
        assert!(text.contains("processed 1 insns (limit 1000000)"), "{text}");
    });
}

#[test]
fn capabilities_are_those_that_are_set() {
    let variables = [("BPFTWIN_CAPS", "cap_net_admin")];
    under_shim("capabilities_are_those_that_are_set", &variables, || {
        assert_eq!(map_create(MapType::Array, 0), Err(libc::EPERM));
        assert_eq!(prog_load(&trivial(), &mut Vec::new()), Err(libc::EPERM));
    });
}

#[test]
fn what_is_missing_is_said() {
    under_shim("what_is_missing_is_said", &[], || {
        let mut attr = [0u64; 2];
        assert_eq!(bpf(Cmd::EnableStats, &mut attr), Err(libc::EOPNOTSUPP));
    });
}
