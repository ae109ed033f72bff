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

impl BadAccess {
    /// The access as a sentence, with names for the helper that makes it (for accesses through arguments) and for its region.
    pub fn words(&self, helper: &str, region: &str) -> String {
        let BadAccess { insn, off, reg, .. } = *self;
        if self.wrong == Wrong::Uninitialised {
            return format!("instruction {insn} reads R{reg}, to which nothing was written");
        }
        let who = match self.arg {
            Some(arg) => format!("{helper} at instruction {insn}, through its argument {arg},"),
            None => format!("instruction {insn}"),
        };
        let what = match (self.size, self.arg) {
            // A pointer that is not followed.
            (0, Some(_)) if matches!(self.wrong, Wrong::NotAPointer | Wrong::Stale) => "memory".to_owned(),
            (1, _) => "1 byte".to_owned(),
            (size, _) if size >> 31 != 0 && size >> 32 == 0 => format!("{size} ({}) bytes", size as i32),
            (size, _) => format!("{} bytes", size as i64),
        };
        let place = match self.region {
            None => format!("at address {off:#x}"),
            // Offsets are addresses.
            Some(RegionKind::Kernel) => format!("of {region}"),
            Some(_) => format!("at offset {off} of {region}"),
        };
        let (start, end) = self.bounds;
        let why = match self.wrong {
            Wrong::OutOfBounds if start == 0 => format!("which has {end} bytes"),
            Wrong::OutOfBounds => format!("which has offsets {start} to {}", end.saturating_sub(1)),
            Wrong::Stale => "which is no longer there".to_owned(),
            Wrong::NotAPointer => "which is no memory".to_owned(),
            Wrong::ReadOnly => "which is read-only".to_owned(),
            Wrong::NotAllowed => "which is not allowed".to_owned(),
            Wrong::BadSize => "which is no valid size".to_owned(),
            Wrong::Uninitialised => String::new(),
        };
        format!("{who} {} {what} {place}, {why}", if self.write { "writes" } else { "reads" })
    }
}

impl fmt::Display for BadAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let region = self.region.map_or_else(String::new, |region| region.to_string());
        f.write_str(&self.words("the helper", &region))
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
