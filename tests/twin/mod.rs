//! One call to both kernels, the emulated and the live one, and what tests that compare them share.
#![allow(dead_code)]

use std::fs::File;
use std::os::fd::{FromRawFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::Arc;

use bpftwin::kernel::caps::Caps;
use bpftwin::kernel::profile::{Profile, Series};
use bpftwin::kernel::user_memory::UserMemory;
use bpftwin::kernel::{Kernel, KernelSettings};
use bpftwin_uapi::attr::MapCreate;
use bpftwin_uapi::{Cmd, Errno};

/// The test's own memory, by way of a file that reports faults.
struct OwnMemory(File);

impl UserMemory for OwnMemory {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Errno> {
        self.0.read_exact_at(to, address).map_err(|_| Errno::EFAULT)
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno> {
        self.0.write_all_at(from, address).map_err(|_| Errno::EFAULT)
    }
}

pub type Memory = Arc<dyn UserMemory + Send + Sync>;

pub fn memory() -> Memory {
    Arc::new(OwnMemory(File::options().read(true).write(true).open("/proc/self/mem").unwrap()))
}

/// bpf(2) of the live kernel.
pub fn live(cmd: Cmd, attr: u64, size: u32) -> Result<i32, Errno> {
    // SAFETY: the attributes name memory of this test only.
    let result = unsafe { libc::syscall(libc::SYS_bpf, cmd as i32, attr, size) };
    if result < 0 {
        Err(Errno(std::io::Error::last_os_error().raw_os_error().unwrap()))
    } else {
        Ok(result as i32)
    }
}

pub struct Pair {
    pub kernel: Arc<Kernel>,
    pub memory: Memory,
}

impl Pair {
    pub fn emulated(&self, cmd: Cmd, attr: u64, size: u32) -> Result<i32, Errno> {
        bpftwin::syscall::bpf(&self.kernel, &self.memory, cmd as i32, attr, size)
    }
}

/// A kernel with these capabilities, or `None` where there is nothing to compare it with.
pub fn pair(caps: Caps) -> Option<Pair> {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let Some(series) = Series::of_release(&release) else {
        eprintln!("SKIPPED: no profile for the live kernel {release}");
        return None;
    };
    let attr = MapCreate { map_type: 2, key_size: 4, value_size: 4, max_entries: 1, ..MapCreate::default() };
    match live(Cmd::MapCreate, &raw const attr as u64, size_of::<MapCreate>() as u32) {
        // SAFETY: the descriptor was just made and nobody else owns it.
        Ok(fd) => drop(unsafe { OwnedFd::from_raw_fd(fd) }),
        Err(error) => {
            eprintln!("SKIPPED: the live kernel does not let this test use bpf(2): {error}");
            return None;
        }
    }
    let disabled = std::fs::read_to_string("/proc/sys/kernel/unprivileged_bpf_disabled").unwrap();
    let kernel = Kernel::new(KernelSettings {
        profile: Profile::new(series),
        caps,
        unprivileged_bpf_disabled: disabled.trim().parse().unwrap(),
        vmlinux_btf: None,
        ..KernelSettings::default()
    });
    Some(Pair { kernel: Arc::new(kernel), memory: memory() })
}

pub fn iterations(default: u32) -> u32 {
    std::env::var("BPFTWIN_DIFF_ITERATIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// xorshift64*
pub struct Random(pub u64);

impl Random {
    pub fn new(test: u64) -> Self {
        let seed = std::env::var("BPFTWIN_DIFF_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or(1u64);
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ test.wrapping_mul(0xff51_afd7_ed55_8ccd) | 1)
    }

    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 16) % end
    }

    pub fn one_in(&mut self, count: u64) -> bool {
        self.below(count) == 0
    }

    pub fn pick<T: Copy>(&mut self, items: &[T]) -> T {
        items[self.below(items.len() as u64) as usize]
    }
}
