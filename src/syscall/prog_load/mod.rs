//! `BPF_PROG_LOAD`: `bpf_prog_load` of `kernel/bpf/syscall.c`.
//!
//! [`prepare`] is all that comes before verification. It needs no emulated kernel, only a view of objects, so that
//! the loads of another kernel can be checked as well.

pub mod attach;
mod prepare;

pub use prepare::{Loader, Refusal, prepare};
