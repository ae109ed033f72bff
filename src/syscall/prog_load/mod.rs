//! `BPF_PROG_LOAD`: `bpf_prog_load` of `kernel/bpf/syscall.c`.
//!
//! [`prepare`] is all that comes before verification. It needs no emulated kernel, only a view of objects, so that
//! the loads of another kernel can be checked as well. [`load`] is the whole of it on an emulated kernel, [`bcf`] what it does
//! where a proof can save the program.

pub mod attach;
mod bcf;
mod input;
mod load;
mod prepare;
mod subprogs;

pub use input::check_input;
pub(super) use load::bpf_prog_load;
pub use prepare::{Loader, Refusal, prepare};
