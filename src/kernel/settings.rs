//! What the environment says about the emulated kernel and the mode of the preload library.

use std::ffi::OsString;
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::KernelSettings;
use super::caps::Caps;
use super::config::KernelConfig;
use super::profile::{Bcf, Profile, Series};
use crate::syscall::prog_load::auto::{Conditions, Limits, Prover};

/// Where a kernel shows its own BTF.
pub const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// What happens to a bpf(2) call.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Mode {
    /// The emulated kernel answers.
    #[default]
    Emulate,
    /// The real kernel answers, and its answers to program loads are compared with ours.
    Check,
}

impl Mode {
    /// The word for it in `BPFTWIN_MODE`.
    pub const fn name(self) -> &'static str {
        match self {
            Mode::Emulate => "emulate",
            Mode::Check => "check",
        }
    }
}

impl FromStr for Mode {
    type Err = SettingError;

    fn from_str(text: &str) -> Result<Self, SettingError> {
        match text {
            "emulate" => Ok(Mode::Emulate),
            "check" => Ok(Mode::Check),
            "record" => Err(SettingError("mode record is not emulated yet".into())),
            other => Err(SettingError(format!("unknown mode \"{other}\"; known are emulate and check"))),
        }
    }
}

/// Where diagnostics go: `BPFTWIN_LOG`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Diagnostics {
    #[default]
    Off,
    Stderr,
    File(PathBuf),
}

impl Diagnostics {
    /// Writes a report in one piece, so that those of several processes do not mix. Where the file cannot be written it goes to standard
    /// error.
    pub fn write(&self, text: &str) {
        match self {
            Diagnostics::Off => return,
            Diagnostics::Stderr => {}
            Diagnostics::File(path) => {
                if let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path)
                    && file.write_all(text.as_bytes()).is_ok()
                {
                    return;
                }
            }
        }
        let _ = std::io::stderr().lock().write_all(text.as_bytes());
    }
}

/// A setting that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct SettingError(String);

impl fmt::Display for SettingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// All settings.
#[derive(Clone, Debug)]
pub struct Settings {
    pub mode: Mode,
    pub series: Series,
    pub caps: Caps,
    pub btf: PathBuf,
    pub diagnostics: Diagnostics,
    /// `BPFTWIN_BCF`.
    pub bcf: Bcf,
    /// `BPFTWIN_BCF_TIMEOUT` and `BPFTWIN_BCF_LOAD_TIMEOUT` in seconds, `BPFTWIN_BCF_ROUNDS`, `BPFTWIN_BCF_MEMORY` in MiB: how far
    /// [`Bcf::Auto`] goes.
    pub bcf_limits: Limits,
    /// `BPFTWIN_CHECK_LOG_LEVEL`: in check mode, compare at this level too.
    pub check_log_level: u32,
    /// `BPFTWIN_DUMP`: folder for the programs that diverge in check mode.
    pub dump: Option<PathBuf>,
}

impl Default for Settings {
    fn default() -> Self {
        Settings {
            mode: Mode::default(),
            series: host_series().unwrap_or(Series::NEWEST),
            caps: Caps::All,
            btf: PathBuf::from(VMLINUX_BTF),
            diagnostics: Diagnostics::default(),
            bcf: Bcf::default(),
            bcf_limits: Limits::default(),
            check_log_level: 0,
            dump: None,
        }
    }
}

impl Settings {
    /// Reads the environment of this process.
    pub fn from_env() -> Result<Self, SettingError> {
        Self::from_variables(|name| std::env::var_os(name))
    }

    fn from_variables(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, SettingError> {
        let text = |name: &str| variable(name).map(|value| value.to_string_lossy().into_owned());
        let mut settings = Settings::default();
        if let Some(mode) = text("BPFTWIN_MODE").filter(|mode| !mode.is_empty()) {
            settings.mode = mode.parse().map_err(|error: SettingError| named("BPFTWIN_MODE", error.0))?;
        }
        if let Some(kernel) = text("BPFTWIN_KERNEL").filter(|kernel| !kernel.is_empty()) {
            settings.series = series_by_name(&kernel).map_err(|error| named("BPFTWIN_KERNEL", error.0))?;
        }
        if let Some(caps) = text("BPFTWIN_CAPS") {
            settings.caps = caps.parse().map_err(|error| named("BPFTWIN_CAPS", error))?;
        }
        if let Some(btf) = variable("BPFTWIN_BTF").filter(|btf| !btf.is_empty()) {
            settings.btf = PathBuf::from(btf);
        }
        settings.diagnostics = match variable("BPFTWIN_LOG") {
            None => Diagnostics::Off,
            Some(value) => match value.to_str() {
                Some("" | "0" | "off") => Diagnostics::Off,
                Some("1" | "on" | "stderr") => Diagnostics::Stderr,
                _ => Diagnostics::File(PathBuf::from(value)),
            },
        };
        settings.bcf = match text("BPFTWIN_BCF").as_deref() {
            None | Some("" | "off") => Bcf::Off,
            Some("kernel") => Bcf::Kernel,
            Some("auto") => Bcf::Auto,
            Some(other) => return Err(SettingError(format!("BPFTWIN_BCF: unknown value \"{other}\""))),
        };
        let limits = &mut settings.bcf_limits;
        for (name, time) in
            [("BPFTWIN_BCF_TIMEOUT", &mut limits.condition), ("BPFTWIN_BCF_LOAD_TIMEOUT", &mut limits.load)]
        {
            if let Some(value) = text(name).filter(|value| !value.is_empty()) {
                *time = seconds(&value).map_err(|error| named(name, error))?;
            }
        }
        let number = |name: &str| {
            let value = text(name).filter(|value| !value.is_empty());
            let parse = |value: String| {
                value.parse::<u32>().map_err(|_| named(name, format_args!("\"{value}\" is not a number")))
            };
            value.map(parse).transpose()
        };
        if let Some(rounds) = number("BPFTWIN_BCF_ROUNDS")? {
            limits.rounds = rounds;
        }
        if let Some(memory) = number("BPFTWIN_BCF_MEMORY")? {
            limits.memory = mebibytes(memory);
        }
        if let Some(level) = number("BPFTWIN_CHECK_LOG_LEVEL")? {
            settings.check_log_level = level;
        }
        settings.dump = variable("BPFTWIN_DUMP").filter(|dump| !dump.is_empty()).map(PathBuf::from);
        Ok(settings)
    }

    /// The emulated kernel that these settings ask for; without a [`prover`](Self::prover), which not all who ask for a kernel want.
    pub fn kernel_settings(&self) -> KernelSettings {
        let mut profile = Profile::new(self.series).with_bcf(self.bcf);
        if let Some(release) =
            host_release().filter(|release| Series::of_release(release) == Some(self.series))
        {
            profile.release = release;
            if self.custom_btf().is_none()
                && let Some(config) = KernelConfig::of_host()
            {
                profile.config = config;
            }
        }
        KernelSettings {
            profile,
            caps: self.caps,
            vmlinux_btf: Some(self.btf.clone()),
            ..KernelSettings::default()
        }
    }

    /// Who proves what callers do not, where that is wanted.
    pub fn prover(&self) -> Option<Arc<Prover>> {
        (self.bcf == Bcf::Auto).then(|| {
            Arc::new(Prover::new(self.bcf_limits, Conditions::Sound, false, self.diagnostics.clone()))
        })
    }

    /// The BTF file, where it is another one than the running kernel's.
    pub fn custom_btf(&self) -> Option<&Path> {
        Some(self.btf.as_path()).filter(|btf| *btf != Path::new(VMLINUX_BTF))
    }
}

fn named(variable: &str, error: impl fmt::Display) -> SettingError {
    SettingError(format!("{variable}: {error}"))
}

/// A time in seconds, such as `0.5`.
///
/// # Errors
/// What a time is.
pub fn seconds(text: &str) -> Result<Duration, String> {
    const MOST: f64 = 1e6;
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=MOST).contains(&seconds) => Ok(Duration::from_secs_f64(seconds)),
        _ => Err(format!("expected a number of 0 to {MOST}")),
    }
}

/// Bytes of this many MiB.
pub fn mebibytes(number: u32) -> usize {
    (number as usize).saturating_mul(1 << 20)
}

/// The series with this name: a number such as `6.18`, or `host`.
pub fn series_by_name(name: &str) -> Result<Series, SettingError> {
    if name == "host" {
        return host_series()
            .ok_or_else(|| SettingError("there is no profile for the kernel that runs here".into()));
    }
    name.parse().map_err(|_| {
        let known: Vec<String> = Series::ALL.iter().map(Series::to_string).collect();
        SettingError(format!("no profile for kernel \"{name}\"; there are {}, and host", known.join(", ")))
    })
}

/// Release of the running kernel.
fn host_release() -> Option<String> {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").ok().map(|release| release.trim().to_string())
}

fn host_series() -> Option<Series> {
    Series::of_release(&host_release()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(variables: &[(&str, &str)]) -> Result<Settings, SettingError> {
        Settings::from_variables(|name| {
            variables.iter().find(|(known, _)| *known == name).map(|(_, value)| OsString::from(value))
        })
    }

    #[test]
    fn reads_variables() {
        let read = settings(&[
            ("BPFTWIN_MODE", "check"),
            ("BPFTWIN_KERNEL", "6.18"),
            ("BPFTWIN_LOG", "/tmp/log"),
            ("BPFTWIN_CHECK_LOG_LEVEL", "2"),
            ("BPFTWIN_BCF", "auto"),
            ("BPFTWIN_BCF_TIMEOUT", "0.5"),
            ("BPFTWIN_BCF_ROUNDS", "7"),
        ])
        .unwrap();
        assert_eq!((read.mode, read.series, read.check_log_level), (Mode::Check, Series::V6_18, 2));
        assert_eq!(read.diagnostics, Diagnostics::File("/tmp/log".into()));
        assert_eq!(read.custom_btf(), None);
        let limits = Limits { condition: Duration::from_millis(500), rounds: 7, ..Limits::default() };
        assert_eq!((read.bcf, read.bcf_limits), (Bcf::Auto, limits));
        assert!(read.prover().is_some());
    }

    #[test]
    fn refuses_nonsense() {
        assert!(settings(&[("BPFTWIN_MODE", "guess")]).is_err());
        assert!(settings(&[("BPFTWIN_KERNEL", "2.4")]).is_err());
        assert!(settings(&[("BPFTWIN_CAPS", "cap_fly")]).is_err());
        assert!(settings(&[("BPFTWIN_BCF_TIMEOUT", "-1")]).is_err());
        assert!(settings(&[("BPFTWIN_BCF_MEMORY", "much")]).is_err());
    }
}
