//! Loads that go on with proofs: the `bcf_` attributes of `BPF_PROG_LOAD`, as patch sets 1 and 6 of BCF have them.
//!
//! Where a condition is to be proved, the first call returns the verifier's error, tells the condition, and leaves a descriptor
//! that owns the load. Each further call gives the descriptor and a proof; the last returns the program's descriptor.

use std::mem::offset_of;
use std::sync::Arc;

use bpftwin_uapi::Errno;
use bpftwin_uapi::attr::{
    BCF_F_PROOF_PATH_UNREACHABLE, BCF_F_PROOF_PROVIDED, BCF_F_PROOF_REQUESTED, ProgLoad,
};
use bpftwin_uapi::bcf::{BCF_MAX_PROOF_SIZE, BcfHeader};

use super::load::finish;
use crate::bcf::checker::Policy;
use crate::kernel::bcf_file::{BcfFile, Load, SuspendedLoad};
use crate::kernel::stand_in;
use crate::syscall::{Call, Result};
use crate::verifier::bcf::{Step, Suspended, Target};

/// The checks of the attributes, which come before all others of the load.
pub(super) fn check_attrs(attr: &ProgLoad) -> Result<()> {
    let has_buf = attr.bcf_buf != 0;
    let valid = has_buf == (attr.bcf_buf_size != 0)
        && attr.bcf_flags & !(BCF_F_PROOF_PROVIDED | BCF_F_PROOF_PATH_UNREACHABLE) == 0
        && if attr.bcf_flags & BCF_F_PROOF_PROVIDED != 0 {
            has_buf && attr.bcf_buf_true_size <= attr.bcf_buf_size
        } else {
            attr.bcf_fd == 0 && attr.bcf_buf_true_size == 0 && attr.bcf_flags == 0
        };
    if valid { Ok(()) } else { Err(Errno::EINVAL) }
}

/// `do_request_bcf` of a load's first call: what waits for a proof gets a descriptor.
pub(super) fn request(call: &Call<'_>, load: Load, verification: Suspended) -> Result {
    let errno = verification.errno();
    let attr = load.attr;
    let told = tell(call, &attr, &verification);
    let file = Arc::new(BcfFile::new(SuspendedLoad { load, verification }));
    match told.and_then(|()| open(call, &file)) {
        Ok(()) => Err(errno),
        Err(_) => give_up(call, &file, errno),
    }
}

/// Goes on with a load: the call gives a proof.
pub(super) fn resume(call: &Call<'_>, attr: &ProgLoad) -> Result {
    let file = call.kernel.bcf_by_fd(attr.bcf_fd as i32)?;
    if file.is_inherited() {
        return Err(call.not_emulated("a bcf_fd in another process than the one that it was made in"));
    }
    // The published kernel crashes where the load has ended.
    let SuspendedLoad { load, verification } = file.take().ok_or(Errno::EINVAL)?;
    let target = if attr.bcf_flags & BCF_F_PROOF_PATH_UNREACHABLE != 0 {
        Target::PathUnreachable
    } else {
        Target::Refine
    };
    let step = match proof_of(call, attr, &verification, target) {
        Ok(proof) => verification.resume(target, &proof, Policy::Reference),
        Err(errno) => Step::Done(verification.give_up(errno)),
    };
    match step {
        Step::Done(outcome) => finish(call, load, *outcome),
        Step::Requested(verification) => {
            let errno = verification.errno();
            if tell(call, attr, &verification).is_err() {
                return finish(call, load, *verification.give_up(errno));
            }
            file.put_back(SuspendedLoad { load, verification });
            Err(errno)
        }
    }
}

/// Tells the condition. Where that fails the request is as if it had not been, but for what is written already.
fn tell(call: &Call<'_>, attr: &ProgLoad, verification: &Suspended) -> Result<()> {
    let request: &[u8] = bytemuck::cast_slice(verification.request());
    let size = u32::try_from(request.len()).map_err(|_| Errno::ENOSPC)?;
    call.put_attr(offset_of!(ProgLoad, bcf_buf_true_size), size)?;
    if size > attr.bcf_buf_size {
        return Err(Errno::ENOSPC);
    }
    call.memory.write(attr.bcf_buf, request)?;
    call.put_attr(offset_of!(ProgLoad, bcf_flags), BCF_F_PROOF_REQUESTED)
}

/// Gives the load its descriptor.
fn open(call: &Call<'_>, file: &Arc<BcfFile>) -> Result<()> {
    let fd = call.kernel.open_bcf(Arc::clone(file))?;
    call.put_attr(offset_of!(ProgLoad, bcf_fd), fd as u32).inspect_err(|_| stand_in::close(fd))
}

/// Ends the load with the verifier's error.
fn give_up(call: &Call<'_>, file: &BcfFile, errno: Errno) -> Result {
    match file.take() {
        Some(SuspendedLoad { load, verification }) => finish(call, load, *verification.give_up(errno)),
        // Another thread that knows the descriptor was faster.
        None => Err(errno),
    }
}

/// The caller's proof, where there is a condition for it and its size is that of a proof.
fn proof_of(call: &Call<'_>, attr: &ProgLoad, verification: &Suspended, target: Target) -> Result<Vec<u8>> {
    let [.., path_cond, refine_cond] = *verification.request() else { return Err(Errno::EINVAL) };
    let cond = match target {
        Target::Refine => refine_cond,
        Target::PathUnreachable => path_cond,
    };
    let size = attr.bcf_buf_true_size as usize;
    let is_size =
        size > size_of::<BcfHeader>() && size < BCF_MAX_PROOF_SIZE as usize && size.is_multiple_of(4);
    if (cond as i32) < 0 || !is_size {
        return Err(Errno::EINVAL);
    }
    let mut proof = vec![0; size];
    call.memory.read(attr.bcf_buf, &mut proof)?;
    Ok(proof)
}
