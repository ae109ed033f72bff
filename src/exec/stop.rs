//! How a run ends.

use std::fmt;

use super::memory::{RegionKind, Value};

/// Why a run ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Stop {
    /// The program returned, with what it left in R0; with nothing where a tail call took its place.
    Exit(Option<Value>),
    /// The program did what no program may do.
    BadAccess(BadAccess),
    /// As many instructions were executed as were allowed.
    Limit,
    /// What the evaluator does not have.
    Unsupported(String),
    /// The run went on to this instruction and not to the one expected, see [`Machine::follow`](super::Machine::follow).
    LeftPath { insn: u32 },
}

/// What is wrong with an access.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Wrong {
    /// Not all of it is inside of the region.
    OutOfBounds,
    /// The memory was given back before, or its frame was left, or the packet was changed.
    Stale,
    /// The address is a number, null among them, or a pointer to what is no memory.
    NotAPointer,
    /// The memory can only be read.
    ReadOnly,
    /// The program type does not allow it: an access to the context.
    NotAllowed,
    /// A size of zero, or a negative or too large one, for memory that a helper accesses.
    BadSize,
    /// A register is read that nothing was written to.
    Uninitialised,
}

/// An access that no program may make.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadAccess {
    pub insn: u32,
    pub wrong: Wrong,
    pub write: bool,
    /// Argument of the helper that accesses the memory (1 to 5); `None` for an access of the instruction's own.
    pub arg: Option<u8>,
    /// Register that is read uninitialised, or that the address comes from.
    pub reg: u8,
    /// Memory that the pointer is for, if it is a pointer.
    pub region: Option<RegionKind>,
    /// Allowed offsets: `[start, end)`.
    pub bounds: (i64, i64),
    /// Offset in the region, or the number that was taken for an address.
    pub off: i64,
    pub size: u64,
}

impl fmt::Display for BadAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let BadAccess { insn, off, size, reg, .. } = self;
        let verb = if self.write { "write" } else { "read" };
        write!(f, "instruction {insn}: ")?;
        if self.wrong == Wrong::Uninitialised {
            return write!(f, "R{reg} is read before it is written");
        }
        if let Some(arg) = self.arg {
            write!(f, "argument {arg} of the helper: ")?;
        }
        match self.region {
            Some(region) => write!(f, "{verb} of {size} bytes at offset {off} of {region}")?,
            None => write!(f, "{verb} of {size} bytes at address {off:#x}")?,
        }
        let (start, end) = self.bounds;
        match self.wrong {
            Wrong::OutOfBounds => write!(f, ", which has offsets {start} to {end}"),
            Wrong::Stale => write!(f, ", which is no longer there"),
            Wrong::NotAPointer => write!(f, ", which is no memory"),
            Wrong::ReadOnly => write!(f, ", which is read-only"),
            Wrong::NotAllowed => write!(f, ", which is not allowed"),
            Wrong::BadSize => write!(f, ", which is no valid size"),
            Wrong::Uninitialised => Ok(()),
        }
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Stop::Exit(Some(value)) => write!(f, "returned {}", value.bits),
            Stop::Exit(None) => f.write_str("left by a tail call or without a value"),
            Stop::BadAccess(bad) => bad.fmt(f),
            Stop::Limit => f.write_str("too many instructions"),
            Stop::Unsupported(what) => write!(f, "not supported: {what}"),
            Stop::LeftPath { insn } => write!(f, "left the path at instruction {insn}"),
        }
    }
}
