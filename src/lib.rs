//! bpftwin: the kernel's bpf(2) in userspace.
//!
//! The emulated kernel is a value, [`kernel::Kernel`]; [`syscall`] answers bpf(2) calls on it, [`verifier`]
//! is its `bpf_check`.

pub mod bcf;
pub mod btf;
pub mod cli;
pub mod exec;
pub mod explain;
pub mod helpers;
pub mod kernel;
pub mod maps;
pub mod progs;
pub mod syscall;
pub mod verifier;
