//! What the fuzz targets share.

#[path = "../../examples/diff_fuzz/btf.rs"]
#[allow(dead_code)]
pub mod blob;
pub mod descriptors;
pub mod format;
pub mod judge;
pub mod memory;
pub mod mutate;
pub mod smt;
pub mod world;
