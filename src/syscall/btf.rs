//! `BPF_BTF_LOAD`.

use bpftwin_uapi::Errno;
use bpftwin_uapi::attr::{BPF_F_TOKEN_FD, BtfLoad};

use super::map_create::bpf_token_get_from_fd;
use super::map_elem::ensure;
use super::{Call, Result};

pub(super) fn bpf_btf_load(call: &Call<'_>) -> Result {
    let attr: BtfLoad = call.part()?;
    ensure(attr.btf_flags & !BPF_F_TOKEN_FD == 0, Errno::EINVAL)?;
    if attr.btf_flags & BPF_F_TOKEN_FD != 0 {
        bpf_token_get_from_fd(call, attr.btf_token_fd)?;
    }
    ensure(call.caps.bpf(), Errno::EPERM)?;
    Err(call.not_emulated("BPF_BTF_LOAD"))
}
