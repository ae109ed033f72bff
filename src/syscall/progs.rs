//! Commands on programs, the verification of new ones aside.

use bpftwin_uapi::Errno;
use bpftwin_uapi::attr::{BPF_STREAM_STDERR, BPF_STREAM_STDOUT, ProgBindMap, ProgStreamRead};

use super::map_elem::ensure;
use super::{Call, Result};

pub(super) fn bpf_prog_bind_map(call: &Call<'_>) -> Result {
    let attr: ProgBindMap = call.part()?;
    ensure(attr.flags == 0, Errno::EINVAL)?;
    let program = call.kernel.prog_by_fd(attr.prog_fd as i32)?;
    let map = call.kernel.map_by_fd(attr.map_fd as i32)?;
    program.bind_map(map);
    Ok(0)
}

/// Programs do not run, so that their streams are empty.
pub(super) fn prog_stream_read(call: &Call<'_>) -> Result {
    let attr: ProgStreamRead = call.part()?;
    call.kernel.prog_by_fd(attr.prog_fd as i32)?;
    ensure(matches!(attr.stream_id, BPF_STREAM_STDOUT | BPF_STREAM_STDERR), Errno::ENOENT)?;
    Ok(0)
}
