//! What a descriptor of the emulated kernel answers to calls other than bpf(2): mmap(2), and what stands in `/proc`.

use std::fmt::Write;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use bpftwin_uapi::attr::BPF_F_RDONLY_PROG;
use bpftwin_uapi::{Errno, MapType};

use super::Kernel;
use super::descriptors::Access;
use super::objects::Object;
use crate::maps::storage::Shared;
use crate::maps::{Contents, Map, usage};

const PAGE_SIZE: u64 = 4096;

/// Arguments of mmap(2).
#[derive(Clone, Copy, Debug)]
pub struct MmapArgs {
    pub len: usize,
    pub prot: i32,
    pub flags: i32,
    /// Offset into the file, in bytes.
    pub offset: u64,
}

impl Kernel {
    /// mmap(2) of a descriptor: `None` where it is not of this kernel. Otherwise the map's file is given to `map`, which
    /// maps it with these arguments; no freezing gets in between.
    pub fn mmap<T>(
        &self,
        fd: i32,
        args: MmapArgs,
        map: impl FnOnce(i32) -> Result<T, Errno>,
    ) -> Option<Result<T, Errno>> {
        let file = self.file(fd).ok().flatten()?;
        Some(match &file.object {
            Object::Map(user_map) => mmap_map(self, user_map.map(), file.access, args, map),
            Object::Prog(_) | Object::Btf(_) | Object::Bcf(_) => Err(Errno::ENODEV),
        })
    }

    /// The bpf(2) part of a descriptor's `/proc/self/fdinfo` text: `bpf_map_show_fdinfo` and its likes.
    pub fn fdinfo(&self, fd: i32) -> Option<String> {
        let file = self.file(fd).ok().flatten()?;
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = match &file.object {
            Object::Map(map) => write_map_fdinfo(&mut text, map.map(), self.profile().possible_cpus),
            Object::Prog(program) => {
                let tag: String = program.loaded.tag.iter().map(|byte| format!("{byte:02x}")).collect();
                let insns = program.loaded.prog.insns.len() as u64;
                write!(
                    text,
                    "prog_type:\t{}\nprog_jited:\t1\nprog_tag:\t{tag}\nmemlock:\t{}\nprog_id:\t{}\nrun_time_ns:\t0\n\
                     run_cnt:\t0\nrecursion_misses:\t0\nverified_insns:\t{}\n",
                    program.loaded.prog.prog_type as u32,
                    (insns * 8 + SIZEOF_PROG).next_multiple_of(PAGE_SIZE),
                    program.id(),
                    program.loaded.verified_insns,
                )
            }
            Object::Btf(btf) => writeln!(text, "btf_id:\t{}", btf.id()),
            Object::Bcf(_) => Ok(()),
        };
        Some(text)
    }

    /// Target of a descriptor's `/proc/self/fd` link, such as `anon_inode:bpf-map`.
    pub fn link_target(&self, fd: i32) -> Option<&'static str> {
        Some(self.file(fd).ok().flatten()?.object.link_target())
    }
}

/// `sizeof(struct bpf_prog)`.
const SIZEOF_PROG: u64 = 72;

/// `bpf_map_mmap` and `array_map_mmap`, after the access checks of `do_mmap`.
fn mmap_map<T>(
    kernel: &Kernel,
    map: &Map,
    access: Access,
    args: MmapArgs,
    do_mmap: impl FnOnce(i32) -> Result<T, Errno>,
) -> Result<T, Errno> {
    if args.len == 0 || !args.offset.is_multiple_of(PAGE_SIZE) {
        return Err(Errno::EINVAL);
    }
    let shared = matches!(args.flags & libc::MAP_TYPE, libc::MAP_SHARED | libc::MAP_SHARED_VALIDATE);
    let writable = args.prot & libc::PROT_WRITE != 0;
    if shared && writable && !access.write || !access.read {
        return Err(Errno::EACCES);
    }
    let ringbuf = matches!(map.attrs.map_type, MapType::Ringbuf | MapType::UserRingbuf | MapType::Arena);
    if !ringbuf && map.attrs.map_type != MapType::Array || map.record.is_some() {
        return Err(Errno::ENOTSUPP);
    }
    // Of a file that cannot be written a shared mapping counts as a private one.
    if !shared || !access.write {
        return Err(Errno::EINVAL);
    }
    let _guard = map.freeze_lock();
    if writable && map.frozen() {
        return Err(Errno::EPERM);
    }
    if writable && map.attrs.map_flags & BPF_F_RDONLY_PROG != 0 {
        return Err(Errno::EACCES);
    }
    if ringbuf {
        return Err(kernel.not_emulated(&format!("mmap of {}", map.attrs.map_type.name())));
    }
    let Contents::Array(array) = &map.contents else { return Err(Errno::ENOTSUPP) };
    let backing = array.shared().ok_or(Errno::EINVAL)?;
    let end = args.offset.checked_add((args.len as u64).next_multiple_of(PAGE_SIZE)).ok_or(Errno::EINVAL)?;
    if end > backing.size() {
        return Err(Errno::EINVAL);
    }
    if writable {
        return do_mmap(backing.fd());
    }
    // Through a read-only file, so that the mapping cannot become writable later (VM_MAYWRITE).
    let read_only = reopen_read_only(backing)?;
    do_mmap(read_only.as_raw_fd())
}

fn reopen_read_only(backing: &Shared) -> Result<OwnedFd, Errno> {
    let path = format!("/proc/self/fd/{}\0", backing.fd());
    // The raw call, since libc's may be intercepted by the preload library that this code lives in.
    // SAFETY: the path is a C string.
    let fd = unsafe {
        libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC)
    };
    if fd < 0 {
        return Err(Errno::ENOMEM);
    }
    // SAFETY: the descriptor was just opened and nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// `bpf_map_show_fdinfo`.
fn write_map_fdinfo(text: &mut String, map: &Map, possible_cpus: u32) -> std::fmt::Result {
    let attrs = &map.attrs;
    write!(
        text,
        "map_type:\t{}\nkey_size:\t{}\nvalue_size:\t{}\nmax_entries:\t{}\nmap_flags:\t{:#x}\nmap_extra:\t{:#x}\nmemlock:\t{}\n\
         map_id:\t{}\nfrozen:\t{}\n",
        attrs.map_type as u32,
        attrs.key_size,
        attrs.value_size,
        attrs.max_entries,
        attrs.map_flags,
        attrs.map_extra,
        usage::map_mem_usage(map, possible_cpus),
        map.id(),
        u32::from(map.frozen()),
    )?;
    if let Some(prog_type) = map.owner_prog_type() {
        write!(text, "owner_prog_type:\t{}\nowner_jited:\t1\n", prog_type as u32)?;
    }
    Ok(())
}
