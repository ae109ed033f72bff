//! What the verifier sees of the kernel's objects.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use bpftwin_uapi::Errno;

use super::Kernel;
use super::objects::{BtfObject, Program};
use super::user_memory::UserMemory;
use crate::btf::Btf;
use crate::maps::Map;
use crate::verifier::prog::{Objects, TargetProg, VerifierMap};

/// The objects of an emulated kernel, for the verification of a program that a caller of it loads.
pub struct KernelObjects {
    /// A suspended verification, which has these, is itself owned by a descriptor of the kernel.
    kernel: Weak<Kernel>,
    memory: Arc<dyn UserMemory + Send + Sync>,
    found: Mutex<Found>,
}

/// What was looked up, which the program needs as long as it is verified.
#[derive(Default)]
struct Found {
    maps: Vec<Arc<Map>>,
    btfs: Vec<Arc<BtfObject>>,
    programs: Vec<Arc<Program>>,
}

/// Notes an object, once.
fn keep<T>(found: &mut Vec<Arc<T>>, object: &Arc<T>) {
    if !found.iter().any(|known| Arc::ptr_eq(known, object)) {
        found.push(Arc::clone(object));
    }
}

impl KernelObjects {
    /// The objects of `kernel`, for a caller with this memory.
    pub fn new(kernel: &Arc<Kernel>, memory: Arc<dyn UserMemory + Send + Sync>) -> Self {
        KernelObjects { kernel: Arc::downgrade(kernel), memory, found: Mutex::default() }
    }

    /// A map that was looked up, by its view's identity.
    pub fn map(&self, identity: u64) -> Option<Arc<Map>> {
        self.found().maps.iter().find(|map| map.identity == identity).cloned()
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.found.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn kernel(&self) -> Result<Arc<Kernel>, Errno> {
        self.kernel.upgrade().ok_or(Errno::EBADF)
    }
}

impl Objects for KernelObjects {
    fn map_by_fd(&self, fd: i32) -> Result<Arc<VerifierMap>, Errno> {
        let map = self.kernel()?.map_by_fd(fd)?;
        keep(&mut self.found().maps, &map);
        Ok(map.verifier_map())
    }

    fn btf_by_fd(&self, fd: i32) -> Result<Arc<Btf>, Errno> {
        let object = self.kernel()?.btf_by_fd(fd)?;
        keep(&mut self.found().btfs, &object);
        Ok(Arc::clone(&object.btf))
    }

    fn prog_by_fd(&self, fd: i32) -> Result<TargetProg, Errno> {
        let program = self.kernel()?.prog_by_fd(fd)?;
        keep(&mut self.found().programs, &program);
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
        self.kernel()?.file(fd)?;
        Err(Errno::EINVAL)
    }

    fn read_user(&self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        self.memory.read(address, buf)
    }
}
