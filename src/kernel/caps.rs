//! Capabilities of the calling thread, as the emulated kernel sees them.

use std::fmt;
use std::str::FromStr;

/// Names of `include/uapi/linux/capability.h`, in numerical order.
const NAMES: &[&str] = &[
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// A capability, by its number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cap(u8);

impl Cap {
    pub const NET_ADMIN: Cap = Cap(12);
    pub const SYS_ADMIN: Cap = Cap(21);
    pub const PERFMON: Cap = Cap(38);
    pub const BPF: Cap = Cap(39);
}

/// A set of capabilities.
#[derive(Clone, Copy, PartialEq, Eq, Default)]
pub struct CapSet(u64);

impl CapSet {
    /// No capability.
    pub const EMPTY: CapSet = CapSet(0);
    /// Every capability there is.
    pub const ALL: CapSet = CapSet(u64::MAX);

    /// The set of exactly these.
    pub fn of(caps: &[Cap]) -> Self {
        CapSet(caps.iter().fold(0, |set, cap| set | 1 << cap.0))
    }

    /// `capable()`: exactly this capability.
    pub const fn capable(self, cap: Cap) -> bool {
        self.0 >> cap.0 & 1 != 0
    }

    /// `bpf_token_capable()` without a token: the capability, or `CAP_SYS_ADMIN` in its place.
    pub const fn capable_or_admin(self, cap: Cap) -> bool {
        self.capable(cap) || self.capable(Cap::SYS_ADMIN)
    }

    /// `bpf_capable()`.
    pub const fn bpf(self) -> bool {
        self.capable_or_admin(Cap::BPF)
    }

    /// `perfmon_capable()`.
    pub const fn perfmon(self) -> bool {
        self.capable_or_admin(Cap::PERFMON)
    }

    /// `bpf_net_capable()`.
    pub const fn net_admin(self) -> bool {
        self.capable_or_admin(Cap::NET_ADMIN)
    }

    /// `capable(CAP_SYS_ADMIN)`.
    pub const fn sys_admin(self) -> bool {
        self.capable(Cap::SYS_ADMIN)
    }
}

impl fmt::Debug for CapSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let held = NAMES.iter().enumerate().filter(|(bit, _)| self.0 >> bit & 1 != 0);
        f.debug_set().entries(held.map(|(_, name)| name)).finish()
    }
}

/// Which capabilities a caller has: the `BPFTWIN_CAPS` setting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Caps {
    /// All of them, whoever asks.
    All,
    /// The calling thread's own effective ones.
    Real,
    /// These.
    Set(CapSet),
}

impl Caps {
    /// The set that the calling thread has now.
    pub fn current(self) -> CapSet {
        match self {
            Caps::All => CapSet::ALL,
            Caps::Real => CapSet(real_effective()),
            Caps::Set(set) => set,
        }
    }
}

/// The setting names a capability that does not exist.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown capability \"{0}\"")]
pub struct UnknownCap(String);

impl FromStr for Caps {
    type Err = UnknownCap;

    fn from_str(text: &str) -> Result<Self, UnknownCap> {
        match text {
            "all" => return Ok(Caps::All),
            "real" => return Ok(Caps::Real),
            _ => {}
        }
        let mut set = 0;
        for word in text.split(',').map(str::trim).filter(|word| !word.is_empty() && *word != "none") {
            let lower = word.to_ascii_lowercase();
            let name = lower.strip_prefix("cap_").unwrap_or(&lower);
            let bit = NAMES.iter().position(|known| *known == name).ok_or_else(|| UnknownCap(word.into()))?;
            set |= 1 << bit;
        }
        Ok(Caps::Set(CapSet(set)))
    }
}

/// The calling thread's effective capabilities as the host's `capable()` would judge them: none outside of the
/// initial user namespace.
fn real_effective() -> u64 {
    let in_init_user_ns = std::fs::read_to_string("/proc/self/uid_map").is_ok_and(|map| {
        let mut words = map.split_whitespace();
        words.next() == Some("0") && words.next() == Some("0") && words.next() == Some("4294967295")
    });
    if !in_init_user_ns {
        return 0;
    }
    #[repr(C)]
    struct Header {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Clone, Copy, Default)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut data = [Data::default(); 2];
    // SAFETY: version 3 of capget(2) fills two data elements; both pointers are to live, writable objects.
    let result = unsafe { libc::syscall(libc::SYS_capget, &raw mut header, data.as_mut_ptr()) };
    if result != 0 {
        return 0;
    }
    u64::from(data[0].effective) | u64::from(data[1].effective) << 32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_settings() {
        assert_eq!("all".parse(), Ok(Caps::All));
        assert_eq!("real".parse(), Ok(Caps::Real));
        let set = CapSet::of(&[Cap::BPF, Cap::NET_ADMIN]);
        assert_eq!("CAP_BPF, net_admin".parse(), Ok(Caps::Set(set)));
        assert_eq!("".parse(), Ok(Caps::Set(CapSet::EMPTY)));
        assert!("cap_fly".parse::<Caps>().is_err());
    }

    #[test]
    fn sys_admin_stands_in() {
        let admin = CapSet::of(&[Cap::SYS_ADMIN]);
        assert!(admin.bpf() && admin.perfmon() && admin.net_admin() && !admin.capable(Cap::BPF));
        let bpf = CapSet::of(&[Cap::BPF]);
        assert!(bpf.bpf() && !bpf.perfmon() && !bpf.sys_admin());
    }
}
