//! Memory of the emulated caller: a small image that holds the input. Every other address faults.

use std::sync::{Arc, Mutex, PoisonError};

use bpftwin::kernel::user_memory::UserMemory;
use bpftwin_uapi::Errno;

use crate::format::{IMAGE_AT, IMAGE_SIZE};

/// The image; addresses count from [`IMAGE_AT`].
#[derive(Clone)]
pub struct Image(Arc<Mutex<Vec<u8>>>);

impl Image {
    /// The input, and zeros behind.
    pub fn new(input: &[u8]) -> Self {
        let mut bytes = input[..input.len().min(IMAGE_SIZE)].to_vec();
        bytes.resize(IMAGE_SIZE, 0);
        Image(Arc::new(Mutex::new(bytes)))
    }

    /// Stores `from` at byte `at` of the image.
    pub fn store(&self, at: usize, from: &[u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)[at..at + from.len()].copy_from_slice(from);
    }

    fn with<T>(&self, address: u64, len: usize, work: impl FnOnce(&mut [u8]) -> T) -> Result<T, Errno> {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let start =
            address.checked_sub(IMAGE_AT).and_then(|at| usize::try_from(at).ok()).ok_or(Errno::EFAULT)?;
        let end = start.checked_add(len).ok_or(Errno::EFAULT)?;
        Ok(work(bytes.get_mut(start..end).ok_or(Errno::EFAULT)?))
    }
}

impl UserMemory for Image {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Errno> {
        self.with(address, to.len(), |bytes| to.copy_from_slice(bytes))
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno> {
        self.with(address, from.len(), |bytes| bytes.copy_from_slice(from))
    }
}
