//! Helper functions that programs call by number: prototypes and properties as tables.
//!
//! [`get_func_proto`] tells which prototype of a helper a program gets, if any; [`protos`] has the prototypes,
//! [`flags`] what follows from the helper's number alone. The verifier asks through [`get_helper_proto`].

pub mod flags;
pub mod lsm_hooks;
pub mod proto;
pub mod protos;
mod select;

pub use flags::*;
pub use proto::{Allowed, BtfTypeRef, FuncProto, MAX_BPF_FUNC_REG_ARGS, ProgCaps, ProgCtx};
pub use select::{get_func_proto, get_helper_proto};
