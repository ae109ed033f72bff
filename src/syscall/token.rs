//! `BPF_TOKEN_CREATE`: the emulated kernel's callers live in the first user namespace, where there are no tokens.

use bpftwin_uapi::Errno;
use bpftwin_uapi::attr::TokenCreate;

use super::{Call, Result};

/// `token_create` and `bpf_token_create`, up to where they end in the first user namespace. Which descriptors are of
/// the bpf file system's root is not known; all but those of objects are taken to be.
pub(super) fn token_create(call: &Call<'_>) -> Result {
    let attr: TokenCreate = call.part()?;
    if attr.flags != 0 {
        return Err(Errno::EINVAL);
    }
    if call.kernel.file(attr.bpffs_fd as i32)?.is_some() {
        return Err(Errno::EINVAL);
    }
    Err(if call.caps.bpf() { Errno::EOPNOTSUPP } else { Errno::EPERM })
}
