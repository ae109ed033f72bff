//! Build configuration of the emulated kernel, so far as it shows through bpf(2).

use std::fs;
use std::io::Read;

/// Options of the kernel's configuration and boot that decide which helpers there are. Fields are named after the
/// `CONFIG_` symbols.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KernelConfig {
    /// Tracing program types and their helpers.
    pub bpf_events: bool,
    pub bpf_kprobe_override: bool,
    pub cgroups: bool,
    pub cgroup_net_classid: bool,
    pub sock_cgroup_data: bool,
    pub inet: bool,
    pub xfrm: bool,
    pub syn_cookies: bool,
    pub ipv6_seg6_bpf: bool,
    /// Kernel and user addresses never coincide, so that `bpf_probe_read` can tell them apart.
    pub arch_has_non_overlapping_address_space: bool,
    /// The JIT is on: `prog->jit_requested`.
    pub jit: bool,
    /// The kernel knows the addresses of its variables by name, not of functions alone.
    pub kallsyms_all: bool,
    /// `LOCKDOWN_BPF_READ_KERNEL`: programs may not read kernel memory.
    pub lockdown_bpf_read_kernel: bool,
    /// `LOCKDOWN_BPF_WRITE_USER`: programs may not write user memory.
    pub lockdown_bpf_write_user: bool,
}

impl KernelConfig {
    /// Configuration of a distribution's kernel on x86-64, not locked down.
    pub const DISTRIBUTION: KernelConfig = KernelConfig {
        bpf_events: true,
        bpf_kprobe_override: false,
        cgroups: true,
        cgroup_net_classid: true,
        sock_cgroup_data: true,
        inet: true,
        xfrm: true,
        syn_cookies: true,
        ipv6_seg6_bpf: true,
        arch_has_non_overlapping_address_space: true,
        jit: true,
        kallsyms_all: true,
        lockdown_bpf_read_kernel: false,
        lockdown_bpf_write_user: false,
    };
}

type Field = fn(&mut KernelConfig) -> &mut bool;

/// Fields that are a `CONFIG_` symbol each.
const SYMBOLS: &[(&str, Field)] = &[
    ("CONFIG_BPF_EVENTS", |config| &mut config.bpf_events),
    ("CONFIG_BPF_KPROBE_OVERRIDE", |config| &mut config.bpf_kprobe_override),
    ("CONFIG_CGROUPS", |config| &mut config.cgroups),
    ("CONFIG_CGROUP_NET_CLASSID", |config| &mut config.cgroup_net_classid),
    ("CONFIG_SOCK_CGROUP_DATA", |config| &mut config.sock_cgroup_data),
    ("CONFIG_INET", |config| &mut config.inet),
    ("CONFIG_XFRM", |config| &mut config.xfrm),
    ("CONFIG_SYN_COOKIES", |config| &mut config.syn_cookies),
    ("CONFIG_IPV6_SEG6_BPF", |config| &mut config.ipv6_seg6_bpf),
    ("CONFIG_ARCH_HAS_NON_OVERLAPPING_ADDRESS_SPACE", |config| {
        &mut config.arch_has_non_overlapping_address_space
    }),
    ("CONFIG_BPF_JIT", |config| &mut config.jit),
    ("CONFIG_KALLSYMS_ALL", |config| &mut config.kallsyms_all),
    ("CONFIG_LOCK_DOWN_KERNEL_FORCE_CONFIDENTIALITY", |config| &mut config.lockdown_bpf_read_kernel),
];

impl KernelConfig {
    /// Reads a kernel's `.config`.
    pub fn from_kconfig(text: &str) -> Self {
        let enabled = |symbol: &str| {
            text.lines().any(|line| {
                line.split_once('=').is_some_and(|(name, value)| name == symbol && matches!(value, "y" | "m"))
            })
        };
        let mut config = Self::DISTRIBUTION;
        for (symbol, field) in SYMBOLS {
            *field(&mut config) = enabled(symbol);
        }
        config.lockdown_bpf_write_user =
            config.lockdown_bpf_read_kernel || enabled("CONFIG_LOCK_DOWN_KERNEL_FORCE_INTEGRITY");
        config
    }

    /// Of the running kernel: its configuration, lockdown and JIT switch. `None` where it publishes no configuration.
    pub fn of_host() -> Option<Self> {
        let mut config = Self::from_kconfig(&host_kconfig()?);
        if let Ok(lockdown) = fs::read_to_string("/sys/kernel/security/lockdown") {
            config.lockdown_bpf_read_kernel = lockdown.contains("[confidentiality]");
            config.lockdown_bpf_write_user = !lockdown.contains("[none]");
        }
        if let Ok(jit) = fs::read_to_string("/proc/sys/net/core/bpf_jit_enable") {
            config.jit = jit.trim() != "0";
        }
        Some(config)
    }
}

fn host_kconfig() -> Option<String> {
    let mut text = String::new();
    if let Ok(file) = fs::File::open("/proc/config.gz")
        && flate2::read::GzDecoder::new(file).read_to_string(&mut text).is_ok()
    {
        return Some(text);
    }
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").ok()?;
    fs::read_to_string(format!("/boot/config-{}", release.trim())).ok()
}

impl Default for KernelConfig {
    fn default() -> Self {
        Self::DISTRIBUTION
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kconfig_is_read() {
        let config = KernelConfig::from_kconfig(
            "CONFIG_INET=y\nCONFIG_IPV6_SEG6_BPF=m\n# CONFIG_XFRM is not set\nCONFIG_INET_DIAG=y\n",
        );
        assert!(config.inet && config.ipv6_seg6_bpf && !config.xfrm && !config.lockdown_bpf_write_user);
    }
}
