//! The emulated kernel as a value: object tables, descriptors, user memory, capabilities, profiles.
//!
//! Many kernels can live in one process; each is shared freely between threads. [`crate::syscall::bpf`] answers a
//! bpf(2) call on one. Objects are reference counted as in the kernel: descriptors, pins, and programs and maps that
//! use them keep them alive, the id tables do not.

pub mod bcf_file;
pub mod caps;
pub mod config;
pub mod descriptors;
pub mod host;
pub mod ids;
pub mod mapping;
pub mod objects;
pub mod own_memory;
pub mod paths;
pub mod pins;
pub mod profile;
pub mod raw;
pub mod session;
pub mod settings;
pub(crate) mod stand_in;
pub mod user_memory;
mod view;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bpftwin_uapi::Errno;

use crate::btf::Btf;
use crate::maps::{Map, UserMap};
use crate::syscall::prog_load::auto::{Prover, Report};
use bcf_file::BcfFile;
use caps::{CapSet, Caps};
use descriptors::{Access, Descriptors, File};
use ids::{Id, IdTable};
use objects::{BtfObject, LoadedProgram, Object, Program};
use pins::Pins;
use profile::{Profile, Series};
pub use view::KernelObjects;

/// Id of the kernel's own BTF: the first one made.
const VMLINUX_BTF_ID: u32 = 1;

/// What an emulated kernel is made from.
#[derive(Clone, Debug)]
pub struct KernelSettings {
    pub profile: Profile,
    pub caps: Caps,
    /// The sysctl `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: u8,
    /// File with the kernel's BTF, raw or in an ELF section, or `None` for a kernel without.
    pub vmlinux_btf: Option<PathBuf>,
    /// Nothing is said on standard error: the caller asks by [`Kernel::take_not_emulated`].
    pub quiet: bool,
    /// Saves programs with proofs of its own.
    pub prover: Option<Arc<Prover>>,
}

impl Default for KernelSettings {
    fn default() -> Self {
        KernelSettings {
            profile: Profile::new(Series::NEWEST),
            caps: Caps::All,
            unprivileged_bpf_disabled: 2,
            vmlinux_btf: Some(PathBuf::from("/sys/kernel/btf/vmlinux")),
            quiet: false,
            prover: None,
        }
    }
}

/// An emulated kernel.
pub struct Kernel {
    profile: Profile,
    caps: Caps,
    unprivileged_bpf_disabled: AtomicU8,
    vmlinux_btf_path: Option<PathBuf>,
    vmlinux: OnceLock<Result<Arc<BtfObject>, VmlinuxError>>,
    maps: IdTable<Map>,
    programs: IdTable<Program>,
    btfs: IdTable<BtfObject>,
    descriptors: Descriptors,
    pins: Pins,
    next_cookie: AtomicU64,
    /// What was said on standard error, or not said where that is not wanted.
    reported: Mutex<BTreeSet<String>>,
    last_not_emulated: Mutex<Option<String>>,
    quiet: bool,
    prover: Option<Arc<Prover>>,
    last_bcf: Mutex<Option<Report>>,
}

/// Why the kernel's own BTF is not there.
#[derive(Clone, Debug, thiserror::Error)]
pub enum VmlinuxError {
    #[error("the emulated kernel has no BTF")]
    Absent,
    #[error("cannot read the kernel's BTF from {path}: {reason}")]
    Unreadable { path: String, reason: String },
}

impl Kernel {
    /// Boots a kernel.
    pub fn new(settings: KernelSettings) -> Self {
        let has_btf = settings.vmlinux_btf.is_some();
        Kernel {
            profile: settings.profile,
            caps: settings.caps,
            unprivileged_bpf_disabled: AtomicU8::new(settings.unprivileged_bpf_disabled),
            vmlinux_btf_path: settings.vmlinux_btf,
            vmlinux: OnceLock::new(),
            maps: IdTable::new(1),
            programs: IdTable::new(1),
            btfs: IdTable::new(if has_btf { VMLINUX_BTF_ID + 1 } else { VMLINUX_BTF_ID }),
            descriptors: Descriptors::default(),
            pins: Pins::default(),
            next_cookie: AtomicU64::new(1),
            reported: Mutex::new(BTreeSet::new()),
            last_not_emulated: Mutex::new(None),
            quiet: settings.quiet,
            prover: settings.prover,
            last_bcf: Mutex::default(),
        }
    }

    /// Which kernel this is.
    pub fn profile(&self) -> &Profile {
        &self.profile
    }

    /// The file with the kernel's BTF, where it has one.
    pub fn vmlinux_btf_path(&self) -> Option<&Path> {
        self.vmlinux_btf_path.as_deref()
    }

    /// Capabilities of the calling thread.
    pub fn caps(&self) -> CapSet {
        self.caps.current()
    }

    /// The sysctl `kernel.unprivileged_bpf_disabled`: 0, 1 (for good) or 2.
    pub fn unprivileged_bpf_disabled(&self) -> u8 {
        self.unprivileged_bpf_disabled.load(Ordering::Relaxed)
    }

    /// Sets the sysctl; once it is 1 it stays (`bpf_unpriv_handler`).
    pub fn set_unprivileged_bpf_disabled(&self, value: u8) -> Result<(), Errno> {
        if !self.caps().sys_admin() {
            return Err(Errno::EPERM);
        }
        if value > 2 {
            return Err(Errno::EINVAL);
        }
        if self.unprivileged_bpf_disabled() == 1 && value != 1 {
            return Err(Errno::EPERM);
        }
        self.unprivileged_bpf_disabled.store(value, Ordering::Relaxed);
        Ok(())
    }

    /// The pins of the emulated bpffs.
    pub fn pins(&self) -> &Pins {
        &self.pins
    }

    /// The kernel's own BTF, read when first asked for.
    pub fn vmlinux(&self) -> Result<Arc<BtfObject>, VmlinuxError> {
        self.vmlinux.get_or_init(|| self.load_vmlinux()).clone()
    }

    /// The kernel's own BTF, parsed: `bpf_get_btf_vmlinux`. Without one it is `None`, as on a kernel that was built
    /// without.
    pub fn btf_vmlinux(&self) -> Option<Arc<Btf>> {
        Some(Arc::clone(&self.vmlinux().ok()?.btf))
    }

    /// [`Kernel::btf_vmlinux`] for something that needs it: says on standard error why it is not there.
    pub fn needed_btf_vmlinux(&self) -> Option<Arc<Btf>> {
        match self.vmlinux() {
            Ok(object) => Some(Arc::clone(&object.btf)),
            Err(error) => {
                self.report(&format!("bpftwin: {error}"));
                None
            }
        }
    }

    fn load_vmlinux(&self) -> Result<Arc<BtfObject>, VmlinuxError> {
        let path = self.vmlinux_btf_path.as_ref().ok_or(VmlinuxError::Absent)?;
        let unreadable =
            |reason: String| VmlinuxError::Unreadable { path: path.display().to_string(), reason };
        let btf = Btf::from_kernel_file(path).map_err(|error| unreadable(error.to_string()))?;
        self.btfs
            .insert_at(VMLINUX_BTF_ID, |id| BtfObject::new(id, btf))
            .ok_or_else(|| unreadable("no id left".into()))
    }

    /// Puts a map into the id table and gives it its first descriptor.
    pub(crate) fn publish_map(&self, make: impl FnOnce(Id) -> Map, access: Access) -> Result<i32, Errno> {
        let map = self.maps.insert(make).ok_or(Errno::ENOSPC)?;
        self.open_map(&map, access)
    }

    /// Puts a verified program into the id table and gives it its first descriptor.
    pub fn publish_program(&self, loaded: LoadedProgram) -> Result<i32, Errno> {
        let program = self
            .programs
            .insert(|id| Program { id, loaded, bound_maps: Mutex::default() })
            .ok_or(Errno::ENOSPC)?;
        self.open_program(&program)
    }

    /// Puts BTF of user space into the id table and gives it its first descriptor.
    pub(crate) fn publish_btf(&self, btf: Btf) -> Result<i32, Errno> {
        let object = self.btfs.insert(|id| BtfObject::new(id, btf)).ok_or(Errno::ENOSPC)?;
        self.open_btf(&object)
    }

    /// `bpf_map_new_fd`.
    pub fn open_map(&self, map: &Arc<Map>, access: Access) -> Result<i32, Errno> {
        self.descriptors.open(Object::Map(UserMap::new(Arc::clone(map))), access)
    }

    /// `bpf_prog_new_fd`.
    pub fn open_program(&self, program: &Arc<Program>) -> Result<i32, Errno> {
        self.descriptors.open(Object::Prog(Arc::clone(program)), Access::READ_WRITE)
    }

    /// `__btf_new_fd`.
    pub fn open_btf(&self, btf: &Arc<BtfObject>) -> Result<i32, Errno> {
        self.descriptors.open(Object::Btf(Arc::clone(btf)), Access::READ)
    }

    /// A descriptor that owns a load which waits for a proof.
    pub fn open_bcf(&self, file: Arc<BcfFile>) -> Result<i32, Errno> {
        // They are large, and those that are closed are often not asked for again.
        self.descriptors.sweep();
        self.descriptors.open(Object::Bcf(file), Access::READ)
    }

    /// The open file behind a descriptor: `EBADF` for no file, `None` for one that is not of this kernel.
    pub fn file(&self, fd: i32) -> Result<Option<Arc<File>>, Errno> {
        self.descriptors.get(fd)
    }

    /// The map behind a descriptor and the access that the descriptor gives: `EBADF` for no file, `EINVAL` for another
    /// kind.
    pub fn map_file(&self, fd: i32) -> Result<(UserMap, Access), Errno> {
        match self.file(fd)?.as_deref() {
            Some(File { object: Object::Map(map), access }) => Ok((map.clone(), *access)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// `bpf_map_get`.
    pub fn map_by_fd(&self, fd: i32) -> Result<Arc<Map>, Errno> {
        Ok(Arc::clone(self.map_file(fd)?.0.map()))
    }

    /// `bpf_prog_get`: `EBADF` for no file, `EINVAL` for another kind.
    pub fn prog_by_fd(&self, fd: i32) -> Result<Arc<Program>, Errno> {
        match self.file(fd)?.as_deref() {
            Some(File { object: Object::Prog(program), .. }) => Ok(Arc::clone(program)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// `btf_get_by_fd`: `EBADF` for no file, `EINVAL` for another kind.
    pub fn btf_by_fd(&self, fd: i32) -> Result<Arc<BtfObject>, Errno> {
        match self.file(fd)?.as_deref() {
            Some(File { object: Object::Btf(btf), .. }) => Ok(Arc::clone(btf)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The load behind a `bcf_fd`: `EBADF` for no file, `EINVAL` for another kind.
    pub fn bcf_by_fd(&self, fd: i32) -> Result<Arc<BcfFile>, Errno> {
        match self.file(fd)?.as_deref() {
            Some(File { object: Object::Bcf(file), .. }) => Ok(Arc::clone(file)),
            _ => Err(Errno::EINVAL),
        }
    }

    /// The live maps by id.
    pub fn maps(&self) -> &IdTable<Map> {
        self.descriptors.sweep();
        &self.maps
    }

    /// The live programs by id.
    pub fn programs(&self) -> &IdTable<Program> {
        self.descriptors.sweep();
        &self.programs
    }

    /// The live BTF objects by id, the kernel's own among them where it has one.
    pub fn btfs(&self) -> &IdTable<BtfObject> {
        self.descriptors.sweep();
        let _ = self.btf_vmlinux();
        &self.btfs
    }

    /// Drops what is referred to only by descriptors that are closed everywhere.
    pub fn sweep(&self) {
        self.descriptors.sweep();
    }

    /// A number that no other object of this kernel gets.
    pub(crate) fn new_cookie(&self) -> u64 {
        self.next_cookie.fetch_add(1, Ordering::Relaxed)
    }

    /// The last thing that was asked for and is not emulated, which is forgotten.
    pub fn take_not_emulated(&self) -> Option<String> {
        self.last_not_emulated.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Who proves what callers do not.
    pub fn prover(&self) -> Option<&Prover> {
        self.prover.as_deref()
    }

    /// Notes what BCF did in a load.
    pub(crate) fn note_bcf(&self, report: Report) {
        *self.last_bcf.lock().unwrap_or_else(PoisonError::into_inner) = Some(report);
    }

    /// What BCF did in the last load that it could help, which is forgotten.
    pub fn take_bcf(&self) -> Option<Report> {
        self.last_bcf.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// The answer to what is not emulated: says so on standard error, once for each `what`.
    #[cold]
    pub fn not_emulated(&self, what: &str) -> Errno {
        *self.last_not_emulated.lock().unwrap_or_else(PoisonError::into_inner) = Some(what.to_owned());
        self.report(&format!("bpftwin: not emulated: {what}"));
        Errno::EOPNOTSUPP
    }

    fn report(&self, line: &str) {
        let mut reported = self.reported.lock().unwrap_or_else(PoisonError::into_inner);
        if reported.insert(line.to_owned()) && !self.quiet {
            eprintln!("{line}");
        }
    }
}
