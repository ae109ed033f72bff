//! Build configuration of the emulated kernel, so far as it shows through bpf(2).

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
        lockdown_bpf_read_kernel: false,
        lockdown_bpf_write_user: false,
    };
}

impl Default for KernelConfig {
    fn default() -> Self {
        Self::DISTRIBUTION
    }
}
