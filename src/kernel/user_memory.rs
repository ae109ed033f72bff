//! The one door to the memory of the calling program.

use bpftwin_uapi::Errno;

/// Memory of the program that made a bpf(2) call. Addresses are the caller's; a range that is not mapped, or
/// that vanishes during the access, is `EFAULT`, as with the kernel's `copy_from_user` and `copy_to_user`.
pub trait UserMemory {
    /// Fills `to` with the bytes at `address`.
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Errno>;

    /// Stores `from` at `address`. On a fault an initial part may have been stored.
    fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno>;
}
