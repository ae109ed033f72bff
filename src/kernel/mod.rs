//! The emulated kernel as a value: object tables, descriptors, user memory, capabilities, profiles.

pub mod config;
pub mod user_memory;
