//! `BPF_BTF_LOAD`.

use std::mem::offset_of;
use std::sync::Arc;

use bpftwin_uapi::Errno;
use bpftwin_uapi::attr::{BPF_F_TOKEN_FD, BtfLoad};

use super::map_create::bpf_token_get_from_fd;
use super::map_elem::{buffer, ensure};
use super::{Call, Result};
use crate::btf::{BTF_MAX_SIZE, Btf};
use crate::verifier::log::{Log, LogSink, UserLogSink};

pub(super) fn bpf_btf_load(call: &Call<'_>) -> Result {
    let attr: BtfLoad = call.part()?;
    ensure(attr.btf_flags & !BPF_F_TOKEN_FD == 0, Errno::EINVAL)?;
    if attr.btf_flags & BPF_F_TOKEN_FD != 0 {
        bpf_token_get_from_fd(call, attr.btf_token_fd)?;
    }
    ensure(call.caps.bpf(), Errno::EPERM)?;
    btf_new_fd(call, &attr)
}

/// `btf_new_fd`, and the outer part of `btf_parse`.
fn btf_new_fd(call: &Call<'_>, attr: &BtfLoad) -> Result {
    ensure(attr.btf_size as usize <= BTF_MAX_SIZE, Errno::E2BIG)?;
    let sink = (attr.btf_log_buf != 0).then(|| {
        Box::new(UserLogSink { memory: Arc::clone(call.memory), address: attr.btf_log_buf })
            as Box<dyn LogSink>
    });
    let mut log = Log::new(attr.btf_log_level, attr.btf_log_size, sink)?;
    let parsed = parse(call, attr, &mut log);
    // What is wrong with the log takes the place of what is wrong with the BTF.
    finalize_log(call, &mut log)?;
    call.kernel.publish_btf(parsed?)
}

fn parse(call: &Call<'_>, attr: &BtfLoad, log: &mut Log) -> Result<Btf> {
    let mut data = buffer(attr.btf_size.into())?;
    call.memory.read(attr.btf, &mut data)?;
    Btf::parse(data, log, &|| call.kernel.needed_btf_vmlinux())
}

/// `finalize_log`: tells the log's size where the caller's attributes have a field for it.
fn finalize_log(call: &Call<'_>, log: &mut Log) -> Result<()> {
    let (log_true_size, result) = log.finalize();
    let at = offset_of!(BtfLoad, btf_log_true_size);
    if call.size as usize >= at + size_of::<u32>() {
        call.put_attr(at, log_true_size)?;
    }
    result
}
