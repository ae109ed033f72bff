//! Loads that wait for a proof: the file that `bcf_fd` names owns the suspended verification.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bpftwin_uapi::attr::ProgLoad;

use super::{KernelObjects, raw};
use crate::verifier::bcf::Suspended;

/// What of a load is wanted again when its program is verified.
pub struct Load {
    /// Attributes of the first call; those of later ones but carry proofs.
    pub attr: ProgLoad,
    /// Keeps alive what the program refers to.
    pub objects: Arc<KernelObjects>,
    /// Nanoseconds since boot.
    pub load_time: u64,
    pub created_by_uid: u32,
}

/// A load that waits for a proof.
pub struct SuspendedLoad {
    pub load: Load,
    pub verification: Suspended,
}

/// An open `anon_inode:bcf` file.
pub struct BcfFile {
    /// The process that the verification takes place in.
    process: u64,
    suspended: Mutex<Option<SuspendedLoad>>,
}

impl BcfFile {
    /// A file of the calling process.
    pub fn new(suspended: SuspendedLoad) -> Self {
        BcfFile { process: process_id(), suspended: Mutex::new(Some(suspended)) }
    }

    fn lock(&self) -> MutexGuard<'_, Option<SuspendedLoad>> {
        self.suspended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether the file is of another process, which has forked this one. What it owns here is a copy.
    pub fn is_inherited(&self) -> bool {
        self.process != process_id()
    }

    /// Takes the load out, to go on with it. `None` where another thread has it, or where it has ended.
    pub fn take(&self) -> Option<SuspendedLoad> {
        self.lock().take()
    }

    /// Puts the load back, which waits for another proof.
    pub fn put_back(&self, suspended: SuspendedLoad) {
        *self.lock() = Some(suspended);
    }
}

fn process_id() -> u64 {
    // SAFETY: getpid has no preconditions.
    unsafe { raw::syscall(libc::SYS_getpid, [0; 6]) as u64 }
}
