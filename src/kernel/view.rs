//! What the verifier sees of the kernel's objects.

use std::sync::{Arc, Mutex, PoisonError};

use bpftwin_uapi::Errno;

use super::Kernel;
use super::user_memory::UserMemory;
use crate::btf::Btf;
use crate::maps::Map;
use crate::verifier::prog::{Objects, TargetProg, VerifierMap};

/// The objects of an emulated kernel, for the verification of a program that a caller of it loads.
pub struct KernelObjects {
    kernel: Arc<Kernel>,
    memory: Arc<dyn UserMemory + Send + Sync>,
    /// Maps that were looked up.
    maps: Mutex<Vec<Arc<Map>>>,
}

impl KernelObjects {
    /// The objects of `kernel`, for a caller with this memory.
    pub fn new(kernel: Arc<Kernel>, memory: Arc<dyn UserMemory + Send + Sync>) -> Self {
        KernelObjects { kernel, memory, maps: Mutex::default() }
    }

    /// A map that was looked up, by its view's identity.
    pub fn map(&self, identity: u64) -> Option<Arc<Map>> {
        let maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        maps.iter().find(|map| map.identity == identity).cloned()
    }
}

impl Objects for KernelObjects {
    fn map_by_fd(&self, fd: i32) -> Result<Arc<VerifierMap>, Errno> {
        let map = self.kernel.map_by_fd(fd)?;
        let view = map.verifier_map();
        let mut maps = self.maps.lock().unwrap_or_else(PoisonError::into_inner);
        if !maps.iter().any(|known| Arc::ptr_eq(known, &map)) {
            maps.push(map);
        }
        Ok(view)
    }

    fn btf_by_fd(&self, fd: i32) -> Result<Arc<Btf>, Errno> {
        Ok(Arc::clone(&self.kernel.btf_by_fd(fd)?.btf))
    }

    fn prog_by_fd(&self, fd: i32) -> Result<TargetProg, Errno> {
        let program = self.kernel.prog_by_fd(fd)?;
        let prog = &program.loaded.prog;
        Ok(TargetProg {
            prog_type: prog.prog_type,
            expected_attach_type: prog.expected_attach_type,
            dev_bound: prog.dev_bound,
            offloaded: prog.offloaded,
            btf: prog.btf.clone(),
        })
    }

    fn token_by_fd(&self, fd: i32) -> Result<(), Errno> {
        // There are no tokens: any file is of another kind.
        self.kernel.file(fd)?;
        Err(Errno::EINVAL)
    }

    fn read_user(&self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        self.memory.read(address, buf)
    }
}
