//! The running kernel: loads programs, with fewer capabilities where asked.

use std::ffi::CStr;
use std::path::Path;

use bpftwin::btf::Btf;
use bpftwin_uapi::AttachType;
use bpftwin_uapi::attr::{ATTR_SIZE, BPF_F_RDONLY_PROG, MapCreate, ProgLoad};
use bpftwin_uapi::btf::{BTF_KIND_FUNC, BTF_KIND_TYPEDEF};
use bpftwin_uapi::{Cmd, Errno, Insn, MapType, ProgType};

use crate::Subject;

const BPF_F_SLEEPABLE: u32 = 1 << 4;

/// What the probes need of the running kernel.
pub struct LiveKernel {
    btf: Btf,
    /// An array of one 8-byte value.
    pub map: i32,
    /// The same, read-only for programs.
    pub rdonly_map: i32,
}

impl LiveKernel {
    /// `None`, with a note on standard error, where the kernel is another or does not let us load programs.
    pub fn open() -> Option<Self> {
        let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let btf = Btf::from_kernel_file(Path::new("/sys/kernel/btf/vmlinux"));
        let maps = (map_create(0), map_create(BPF_F_RDONLY_PROG));
        let (true, Ok(btf), (Ok(map), Ok(rdonly_map))) = (release.starts_with("6.18."), btf, maps) else {
            eprintln!("SKIPPED: no right to load programs, or not a 6.18 kernel");
            return None;
        };
        Some(Self { btf, map, rdonly_map })
    }

    /// Loads a program; gives the result and the log at level 1.
    pub fn load(&self, subject: &Subject, insns: &[Insn], license: &CStr) -> (Result<(), i32>, String) {
        let mut log = vec![0u8; 1 << 13];
        let mut attr: ProgLoad = bytemuck::Zeroable::zeroed();
        attr.prog_type = subject.prog_type as u32;
        attr.expected_attach_type = subject.attach_type.map_or(0, |attach_type| attach_type as u32);
        attr.attach_btf_id = self.attach_btf_id(subject);
        attr.insns = insns.as_ptr() as u64;
        attr.insn_cnt = insns.len() as u32;
        attr.license = license.as_ptr() as u64;
        attr.log_level = 1;
        attr.log_buf = log.as_mut_ptr() as u64;
        attr.log_size = log.len() as u32;
        attr.prog_flags = if subject.sleepable { BPF_F_SLEEPABLE } else { 0 };
        let result = bpf(Cmd::ProgLoad, &mut attr).map(|fd| {
            // SAFETY: the descriptor is ours alone.
            unsafe { libc::close(fd) };
        });
        let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
        (result, String::from_utf8_lossy(&log[..end]).into_owned())
    }

    fn attach_btf_id(&self, subject: &Subject) -> u32 {
        if subject.attach_func.is_empty() {
            return 0;
        }
        let raw_tp =
            subject.prog_type == ProgType::Tracing && subject.attach_type == Some(AttachType::TraceRawTp);
        let kind = if raw_tp { BTF_KIND_TYPEDEF } else { BTF_KIND_FUNC };
        self.btf.find_by_name_kind(subject.attach_func, kind).unwrap_or(0)
    }
}

/// Runs `f` on a thread that holds the given capabilities alone.
pub fn with_capabilities<T: Send>(capabilities: &[u32], f: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            set_capabilities(capabilities);
            f()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Sets the calling thread's effective and permitted capabilities.
fn set_capabilities(capabilities: &[u32]) {
    const LINUX_CAPABILITY_VERSION_3: u32 = 0x2008_0522;
    let header = [LINUX_CAPABILITY_VERSION_3, 0];
    // Effective, permitted and inheritable, of the low and then of the high 32.
    let mut sets = [0u32; 6];
    for &capability in capabilities {
        let word = capability as usize / 32 * 3;
        sets[word] |= 1 << (capability % 32);
        sets[word + 1] |= 1 << (capability % 32);
    }
    // SAFETY: header and sets have the layout of version 3.
    let result = unsafe { libc::syscall(libc::SYS_capset, header.as_ptr(), sets.as_ptr()) };
    assert_eq!(result, 0, "capset: {}", std::io::Error::last_os_error());
}

fn map_create(flags: u32) -> Result<i32, i32> {
    let mut attr: MapCreate = bytemuck::Zeroable::zeroed();
    attr.map_type = MapType::Array as u32;
    attr.key_size = 4;
    attr.value_size = 8;
    attr.max_entries = 1;
    attr.map_flags = flags;
    bpf(Cmd::MapCreate, &mut attr)
}

/// The real system call; the error is the errno.
fn bpf<T: bytemuck::Pod>(cmd: Cmd, attr: &mut T) -> Result<i32, i32> {
    let size = size_of::<T>().min(ATTR_SIZE);
    // SAFETY: the attributes, and what they point to, outlive the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, cmd as i32, std::ptr::from_mut(attr), size) };
    if fd < 0 {
        return Err(std::io::Error::last_os_error().raw_os_error().unwrap_or(Errno::EINVAL.0));
    }
    Ok(fd as i32)
}
