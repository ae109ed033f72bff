//! Kernel profiles: which kernel is emulated. What changed between series is a named feature here; nothing else
//! compares versions.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use bpftwin_uapi::attr::{ATTR_SIZE, ATTR_SIZE_BCF};

use super::config::KernelConfig;

/// A kernel series that there is a profile for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Series {
    V6_18,
}

impl Series {
    /// All series, oldest first.
    pub const ALL: &[Series] = &[Series::V6_18];

    /// The newest series.
    pub const NEWEST: Series = Series::V6_18;

    /// Major and minor number.
    pub const fn version(self) -> (u32, u32) {
        match self {
            Series::V6_18 => (6, 18),
        }
    }

    /// The series of a release string as uname(2) reports it, where there is a profile for it.
    pub fn of_release(release: &str) -> Option<Series> {
        let mut numbers = release.split(|c: char| !c.is_ascii_digit());
        let version = (numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?);
        Series::ALL.iter().copied().find(|series| series.version() == version)
    }
}

impl fmt::Display for Series {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.version();
        write!(f, "{major}.{minor}")
    }
}

/// The setting names a series without a profile.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("no profile for kernel \"{0}\"")]
pub struct UnknownSeries(String);

impl FromStr for Series {
    type Err = UnknownSeries;

    fn from_str(text: &str) -> Result<Self, UnknownSeries> {
        Series::of_release(text).ok_or_else(|| UnknownSeries(text.into()))
    }
}

/// Whether programs that BCF can save are saved: `BPFTWIN_BCF`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Bcf {
    #[default]
    Off,
    /// The load's BCF attributes work, as on a kernel that has BCF.
    Kernel,
    /// Proved and accepted without the caller's doing.
    Auto,
}

/// One emulated kernel: its series, features, and the facts of its configuration and machine that bpf(2) shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub series: Series,
    /// Release as uname(2) reports it.
    pub release: String,
    /// Options that decide which helpers there are.
    pub config: KernelConfig,
    /// `sizeof(union bpf_attr)`.
    pub attr_size: usize,
    pub bcf: Bcf,
    /// `num_possible_cpus()`: per-CPU values have one slot for each.
    pub possible_cpus: u32,
    /// `CONFIG_NR_CPUS`: bounds cpu maps.
    pub nr_cpus: u32,
    /// Online NUMA nodes are those below this number.
    pub numa_nodes: u32,
    /// `sysctl_perf_event_max_stack`.
    pub perf_event_max_stack: u32,
    /// Bytes of memory; a map that cannot fit is `ENOMEM`.
    pub total_ram: u64,
    /// `CONFIG_CGROUP_BPF`.
    pub cgroup_bpf: bool,
    /// `CONFIG_BPF_LSM`.
    pub bpf_lsm: bool,
    /// `CONFIG_NET`.
    pub net: bool,
    /// `CONFIG_XDP_SOCKETS`.
    pub xdp_sockets: bool,
    /// `CONFIG_PERF_EVENTS`.
    pub perf_events: bool,
}

impl Profile {
    /// The profile of a series, with the configuration that distributions ship, on the machine at hand.
    pub fn new(series: Series) -> Profile {
        let (major, minor) = series.version();
        Profile {
            series,
            release: format!("{major}.{minor}.0"),
            config: KernelConfig::default(),
            attr_size: ATTR_SIZE,
            bcf: Bcf::Off,
            possible_cpus: possible_cpus(),
            nr_cpus: 256,
            numa_nodes: 1,
            perf_event_max_stack: 127,
            total_ram: total_ram(),
            cgroup_bpf: true,
            bpf_lsm: true,
            net: true,
            xdp_sockets: true,
            perf_events: true,
        }
    }

    /// The same kernel with or without BCF, which no released one has.
    pub fn with_bcf(self, bcf: Bcf) -> Profile {
        let attr_size = if bcf == Bcf::Kernel { ATTR_SIZE_BCF } else { ATTR_SIZE };
        Profile { attr_size, bcf, ..self }
    }
}

/// Number of CPUs that the host could have, which is what libbpf reads from the same file.
fn possible_cpus() -> u32 {
    let count = std::fs::read_to_string("/sys/devices/system/cpu/possible")
        .ok()
        .and_then(|text| count_cpu_list(text.trim()))
        .unwrap_or(0);
    if count != 0 {
        return count;
    }
    std::thread::available_parallelism().map_or(1, |n| n.get() as u32)
}

/// `nr_cpu_ids` of the machine at hand: ids of CPUs are below it.
pub fn nr_cpu_ids() -> u32 {
    static NR_CPU_IDS: OnceLock<u32> = OnceLock::new();
    *NR_CPU_IDS.get_or_init(|| {
        // The list is in ascending order.
        let text = std::fs::read_to_string("/sys/devices/system/cpu/possible").unwrap_or_default();
        let last = text.trim().rsplit([',', '-']).next().and_then(|id| id.parse::<u32>().ok());
        last.map_or_else(possible_cpus, |last| last.saturating_add(1))
    })
}

/// Counts the CPUs of a list such as `0-3,8`.
fn count_cpu_list(text: &str) -> Option<u32> {
    let mut count = 0u32;
    for range in text.split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u32, u32) = (first.parse().ok()?, last.parse().ok()?);
        count = count.checked_add(last.checked_sub(first)?.checked_add(1)?)?;
    }
    Some(count)
}

fn total_ram() -> u64 {
    // SAFETY: sysconf has no preconditions.
    let (pages, size) = unsafe { (libc::sysconf(libc::_SC_PHYS_PAGES), libc::sysconf(libc::_SC_PAGESIZE)) };
    match (u64::try_from(pages), u64::try_from(size)) {
        (Ok(pages), Ok(size)) => pages.saturating_mul(size),
        _ => u64::MAX,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn series_of_releases() {
        assert_eq!(Series::of_release("6.18.44-fc-v657"), Some(Series::V6_18));
        assert_eq!("6.18".parse(), Ok(Series::V6_18));
        assert_eq!(Series::of_release("6.1.0"), None);
        assert_eq!(Series::of_release("host"), None);
    }

    #[test]
    fn cpu_lists() {
        assert_eq!(count_cpu_list("0"), Some(1));
        assert_eq!(count_cpu_list("0-3,8,10-11"), Some(7));
        assert_eq!(count_cpu_list("3-1"), None);
    }
}
