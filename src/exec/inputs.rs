//! Where the values come from that a program does not compute itself, and the names by which they are asked for.

use rustc_hash::FxHashMap;

use super::memory::RegionKind;

/// The name of one value of a run: what it is asked for. The same in every run that takes the same path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Origin {
    /// Bytes `[off, off + size)` of memory that nobody wrote before they were read: a field of the context, a map value, a
    /// byte of the packet (offsets count from its start), kernel memory (offsets are addresses).
    Memory { region: RegionKind, off: i64, size: u8 },
    /// Bytes of the memory that a helper filled through argument `arg` (1 to 5); `off` counts from where the argument pointed.
    Filled { insn: u32, nth: u32, arg: u8, off: i64, size: u8 },
    /// What the helper call at instruction `insn` returned when it was executed for the `nth` time, counted from zero. Of
    /// pointers that may be null: 0 for null, 1 for one that is not.
    Return { insn: u32, nth: u32 },
    /// An argument (1 to 5) of the global function that the run begins with. Of pointers that may be null: 0 for null, 1 for one
    /// that is not.
    Argument { number: u8 },
    /// Which way it goes where the program has no say: 1 if a tail call leaves the program, if `may_goto` leaves its loop, if a
    /// packet load of classic BPF fails behind the linear data; the number of elements that `bpf_for_each_map_elem` finds.
    Choice { insn: u32, nth: u32 },
    /// Bytes of packet data. Each helper that may change the packet makes a new one.
    PacketSize { packet: u32 },
    /// Bytes of metadata in front of the packet.
    MetaSize { packet: u32 },
}

/// Where a run is when it asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct At {
    pub insn: u32,
    /// How often this instruction was executed before.
    pub nth: u32,
    /// How many instructions were executed before.
    pub step: u64,
}

/// The values that an answer may have, both ends included, as signed 64-bit numbers. What lies outside is taken to the
/// nearer end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Range {
    pub min: i64,
    pub max: i64,
    /// Yes or no, such as a pointer or null: no number.
    pub is_choice: bool,
}

impl Range {
    /// The numbers from `min` to `max`.
    pub const fn new(min: i64, max: i64) -> Range {
        Range { min, max, is_choice: false }
    }

    /// Every 64-bit number.
    pub const FULL: Range = Range::new(i64::MIN, i64::MAX);
    /// One for yes, zero for no.
    pub const CHOICE: Range = Range { min: 0, max: 1, is_choice: true };

    /// Every unsigned number of `size` bytes, 1 to 8.
    pub const fn of_size(size: u8) -> Range {
        match size {
            1 => Range::new(0, 0xff),
            2 => Range::new(0, 0xffff),
            3 => Range::new(0, 0xff_ffff),
            4 => Range::new(0, 0xffff_ffff),
            5 => Range::new(0, (1 << 40) - 1),
            6 => Range::new(0, (1 << 48) - 1),
            7 => Range::new(0, (1 << 56) - 1),
            _ => Range::FULL,
        }
    }

    pub fn contains(self, value: u64) -> bool {
        (self.min..=self.max).contains(&(value as i64))
    }

    /// The number of the range that is nearest to `value`.
    pub fn clamp(self, value: u64) -> u64 {
        (value as i64).clamp(self.min, self.max.max(self.min)) as u64
    }
}

/// A source of values. It is asked for each origin at most once in a run, but for [`Origin::Memory`] of memory that a helper
/// may have changed in between.
pub trait Inputs {
    /// The value of `origin`, within `range`.
    fn value(&mut self, at: At, origin: Origin, range: Range) -> u64;
}

impl<T: Inputs + ?Sized> Inputs for &mut T {
    fn value(&mut self, at: At, origin: Origin, range: Range) -> u64 {
        (**self).value(at, origin, range)
    }
}

/// Zero for everything, or the value nearest to zero that is possible.
#[derive(Clone, Copy, Default, Debug)]
pub struct Zeros;

impl Inputs for Zeros {
    fn value(&mut self, _: At, _: Origin, _: Range) -> u64 {
        0
    }
}

/// Values from a table by their origin; another source for the origins that the table does not have. Remembers what was asked.
pub struct TableInputs<F = Zeros> {
    table: FxHashMap<Origin, u64>,
    fallback: F,
    /// Every answer of the run: origin, value, and whether it is from the table.
    pub asked: Vec<(At, Origin, u64, bool)>,
}

impl<F: Inputs> TableInputs<F> {
    pub fn new(table: impl IntoIterator<Item = (Origin, u64)>, fallback: F) -> Self {
        TableInputs { table: table.into_iter().collect(), fallback, asked: Vec::new() }
    }

    /// A byte that a wider origin of the table covers, or a wider value that the table has in pieces.
    fn find(&self, origin: Origin) -> Option<u64> {
        if let Some(&value) = self.table.get(&origin) {
            return Some(value);
        }
        let size = origin.size()?;
        // A wider entry that contains what is asked for.
        for wider in [2u8, 4, 8] {
            for back in 0..i64::from(wider) {
                if i64::from(size) + back > i64::from(wider) {
                    break;
                }
                if let Some(&value) = self.table.get(&origin.moved(-back, wider)) {
                    return Some(value >> (8 * back));
                }
            }
        }
        (0..size).try_fold(0, |value, i| {
            let byte = self.table.get(&origin.moved(i.into(), 1))?;
            Some(value | (byte & 0xff) << (8 * i))
        })
    }
}

impl<F: Inputs> Inputs for TableInputs<F> {
    fn value(&mut self, at: At, origin: Origin, range: Range) -> u64 {
        let found = self.find(origin);
        let value = found.unwrap_or_else(|| self.fallback.value(at, origin, range));
        let value = origin.cut(value);
        self.asked.push((at, origin, value, found.is_some()));
        value
    }
}

impl Origin {
    /// Bytes of memory that it names, where it names any.
    pub fn size(self) -> Option<u8> {
        match self {
            Origin::Memory { size, .. } | Origin::Filled { size, .. } => Some(size),
            _ => None,
        }
    }

    /// Other bytes of the same memory.
    pub fn moved(self, by: i64, new_size: u8) -> Origin {
        match self {
            Origin::Memory { region, off, .. } => {
                Origin::Memory { region, off: off.wrapping_add(by), size: new_size }
            }
            Origin::Filled { insn, nth, arg, off, .. } => {
                Origin::Filled { insn, nth, arg, off: off.wrapping_add(by), size: new_size }
            }
            other => other,
        }
    }

    fn cut(self, value: u64) -> u64 {
        match self.size() {
            Some(size) => super::alu::truncate(value, size.into()),
            None => value,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_answer_for_parts_and_for_wholes() {
        let of = |off, size| Origin::Memory { region: RegionKind::Context, off, size };
        let at = At { insn: 0, nth: 0, step: 0 };
        let table = [(of(0, 8), 0x8877_6655_4433_2211), (of(8, 1), 0xaa), (of(9, 1), 0xbb)];
        let mut inputs = TableInputs::new(table, Zeros);
        let mut ask = |off, size| inputs.value(at, of(off, size), Range::of_size(size));
        assert_eq!(ask(0, 8), 0x8877_6655_4433_2211);
        assert_eq!(ask(2, 2), 0x4433);
        assert_eq!(ask(7, 1), 0x88);
        assert_eq!(ask(8, 2), 0xbbaa);
        // One byte of it is not in the table.
        assert_eq!(ask(8, 4), 0);
        assert_eq!(inputs.asked.iter().filter(|asked| asked.3).count(), 4);
    }

    #[test]
    fn ranges_clamp_as_signed_numbers() {
        let range = Range::new(-4095, 64);
        assert_eq!(range.clamp(65), 64);
        assert_eq!(range.clamp(u64::MAX), u64::MAX);
        assert_eq!(range.clamp(i64::MIN as u64), (-4095i64) as u64);
        assert!(Range::of_size(4).contains(0xffff_ffff) && !Range::of_size(4).contains(1 << 32));
    }
}
