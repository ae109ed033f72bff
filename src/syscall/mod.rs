//! bpf(2): dispatch, and one file per command family.

pub mod prog_load;
