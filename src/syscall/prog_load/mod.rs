//! `BPF_PROG_LOAD`: `bpf_prog_load` of `kernel/bpf/syscall.c`.
//!
//! [`prepare`] is all that comes before verification. It needs no emulated kernel, only a view of objects, so that
//! the loads of another kernel can be checked as well. [`load`] is the whole of it on an emulated kernel, [`bcf`] what it does
//! where a proof of the caller's can save the program, [`auto`] where the proof is ours.

pub mod attach;
pub mod auto;
mod bcf;
mod input;
mod load;
mod prepare;
mod subprogs;

pub use input::check_input;
pub(super) use load::bpf_prog_load;
pub use prepare::{Loader, Refusal, prepare};
