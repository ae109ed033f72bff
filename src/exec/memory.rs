//! Checked memory: regions with bounds, bytes that become known when they are first written or asked for, and the provenance of
//! pointers that are stored in them.

use std::fmt;
use std::sync::Arc;

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::terms::TermId;
use crate::verifier::prog::VerifierMap;

/// What a region is; names it in origins and reports. The same in every run that takes the same path.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum RegionKind {
    /// The frame of a function: 512 bytes below the frame pointer, which is offset zero. `serial` counts all frames of the run,
    /// the main function's is 0.
    Stack {
        serial: u32,
    },
    Context,
    /// Packet data, and metadata at negative offsets.
    Packet {
        packet: u32,
    },
    /// The value of the `entry`th element that the run came to know of map number `map`; of an array, its index.
    MapValue {
        map: u32,
        entry: u32,
    },
    /// The key of such an element, as a callback gets it.
    MapKey {
        map: u32,
        entry: u32,
    },
    /// The map itself; maps found in maps of maps come behind those that the program names.
    Map {
        map: u32,
    },
    /// Memory that the helper call at this instruction returned: a ring buffer's record, local storage.
    Helper {
        insn: u32,
        nth: u32,
    },
    /// A socket, as programs see it; `insn` read it from the context or called the helper that found it.
    Socket {
        insn: u32,
        nth: u32,
        /// The structure that programs see.
        name: &'static str,
    },
    FlowKeys,
    /// What an argument of the global function that the run begins with points to.
    Argument {
        number: u8,
    },
    /// A buffer of the context, whose size is compared with the program's needs when it is attached.
    Buffer {
        field: i32,
    },
    /// All memory of the kernel behind pointers with a BTF type: any address can be read, as faults are handled; none can be
    /// written. Offsets are addresses.
    Kernel,
    /// The code of a function of the program.
    Function {
        start: u32,
    },
}

impl fmt::Display for RegionKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RegionKind::Stack { .. } => f.write_str("stack"),
            RegionKind::Context => f.write_str("context"),
            RegionKind::Packet { .. } => f.write_str("packet"),
            RegionKind::MapValue { map, .. } => write!(f, "value of map {map}"),
            RegionKind::MapKey { map, .. } => write!(f, "key of map {map}"),
            RegionKind::Map { map } => write!(f, "map {map}"),
            RegionKind::Helper { insn, .. } => write!(f, "memory from the call at {insn}"),
            RegionKind::Socket { .. } => f.write_str("socket"),
            RegionKind::FlowKeys => f.write_str("struct bpf_flow_keys"),
            RegionKind::Argument { number } => write!(f, "memory behind argument {number}"),
            RegionKind::Buffer { .. } => f.write_str("buffer"),
            RegionKind::Kernel => f.write_str("kernel memory"),
            RegionKind::Function { .. } => f.write_str("function"),
        }
    }
}

/// A region of this run.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct RegionId(pub(super) u32);

/// [`RegionKind::Kernel`]: always there, and of the weakest provenance, as any number read from kernel memory may be a
/// pointer to more of it.
pub const KERNEL: RegionId = RegionId(0);

/// A 64-bit value of a register.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Value {
    pub bits: u64,
    /// Region that it is a pointer into, if it is one.
    pub region: Option<RegionId>,
    /// How it was computed, if it depends on inputs; see [`Machine::answers_of`](super::Machine::answers_of).
    pub term: Option<TermId>,
}

impl Value {
    /// A number.
    pub const fn scalar(bits: u64) -> Value {
        Value { bits, region: None, term: None }
    }
}

/// What the bits of stored values do not tell.
#[derive(Clone, Copy)]
struct Tag {
    at: u8,
    size: u8,
    region: Option<RegionId>,
    term: Option<TermId>,
}

const CHUNK: i64 = 64;

/// 64 bytes of a region.
struct Chunk {
    bytes: [u8; CHUNK as usize],
    /// A bit for each byte that is known.
    known: u64,
    tags: SmallVec<[Tag; 2]>,
}

impl Chunk {
    fn new() -> Chunk {
        Chunk { bytes: [0; CHUNK as usize], known: 0, tags: SmallVec::new() }
    }

    /// Drops the tags of values of which a byte is in `[off, end)`; the chunk begins at `start`.
    fn forget_tags(&mut self, start: i64, off: i64, end: i64) {
        self.tags.retain(|tag| {
            let first = start.wrapping_add(tag.at.into());
            first >= end || first.saturating_add(tag.size.into()) <= off
        });
    }
}

/// A helper's output, whose bytes are not asked for before they are read.
#[derive(Clone, Copy)]
pub(super) struct Fill {
    pub start: i64,
    pub end: i64,
    pub insn: u32,
    pub nth: u32,
    pub arg: u8,
}

pub(super) struct Region {
    pub kind: RegionKind,
    /// Address of offset zero.
    pub base: u64,
    /// Offsets that may be accessed.
    pub start: i64,
    pub end: i64,
    pub writable: bool,
    /// Cleared when the memory is given back, or the frame is left.
    pub live: bool,
    /// What it is given back with: the socket that it is another view of.
    pub parent: Option<RegionId>,
    /// Map that it is, or is a value or key of.
    pub map: Option<Arc<VerifierMap>>,
    chunks: FxHashMap<i64, Chunk>,
    fills: Vec<Fill>,
}

/// Bytes of a read, as far as they are known.
pub(super) enum Read {
    Known(Value),
    /// None of them.
    Unknown,
    /// Some of them; a bit for each known byte.
    Partly(u8),
}

impl Region {
    pub fn new(kind: RegionKind, base: u64, start: i64, end: i64) -> Region {
        Region {
            kind,
            base,
            start,
            end,
            writable: true,
            live: true,
            parent: None,
            map: None,
            chunks: FxHashMap::default(),
            fills: Vec::new(),
        }
    }

    /// Pointer to offset `off`. Its region is for the caller to add.
    pub fn address(&self, off: i64) -> u64 {
        self.base.wrapping_add(off as u64)
    }

    fn byte(&self, off: i64) -> Option<u8> {
        let chunk = self.chunks.get(&off.div_euclid(CHUNK))?;
        let at = off.rem_euclid(CHUNK) as usize;
        (chunk.known >> at & 1 != 0).then_some(chunk.bytes[at])
    }

    /// Reads `size` bytes (1 to 8), little-endian.
    pub fn read(&self, off: i64, size: u8) -> Read {
        let (mut bits, mut known) = (0u64, 0u8);
        for i in 0..size {
            if let Some(byte) = self.byte(off.wrapping_add(i.into())) {
                bits |= u64::from(byte) << (8 * i);
                known |= 1 << i;
            }
        }
        if known == 0 {
            return Read::Unknown;
        }
        if known.count_ones() < u32::from(size) {
            return Read::Partly(known);
        }
        let mut value = Value::scalar(bits);
        let (chunk, at) = (self.chunks.get(&off.div_euclid(CHUNK)), off.rem_euclid(CHUNK) as u8);
        let whole = chunk.and_then(|chunk| chunk.tags.iter().find(|tag| tag.at == at && tag.size == size));
        if let Some(tag) = whole {
            (value.region, value.term) = (tag.region, tag.term);
        }
        Read::Known(value)
    }

    /// Values in memory that depend on inputs and have bytes in `[off, off + size)`, with their offset.
    pub fn parts(&self, off: i64, size: u8) -> SmallVec<[(i64, u8, Value); 8]> {
        let mut parts = SmallVec::new();
        let end = off.saturating_add(size.into());
        for index in off.saturating_sub(7).div_euclid(CHUNK)..=end.saturating_sub(1).div_euclid(CHUNK) {
            let Some(chunk) = self.chunks.get(&index) else { continue };
            for tag in chunk.tags.iter().filter(|tag| tag.term.is_some()) {
                let start = index.wrapping_mul(CHUNK).wrapping_add(tag.at.into());
                if start < end
                    && start.saturating_add(tag.size.into()) > off
                    && let Read::Known(value) = self.read(start, tag.size)
                {
                    parts.push((start, tag.size, value));
                }
            }
        }
        parts
    }

    /// Writes the low `size` bytes (1 to 8).
    pub fn write(&mut self, off: i64, size: u8, value: Value) {
        let end = off.saturating_add(size.into());
        for index in off.saturating_sub(7).div_euclid(CHUNK)..=end.saturating_sub(1).div_euclid(CHUNK) {
            if let Some(chunk) = self.chunks.get_mut(&index) {
                chunk.forget_tags(index.wrapping_mul(CHUNK), off, end);
            }
        }
        for i in 0..size {
            let at = off.wrapping_add(i.into());
            let chunk = self.chunks.entry(at.div_euclid(CHUNK)).or_insert_with(Chunk::new);
            let at = at.rem_euclid(CHUNK) as usize;
            chunk.bytes[at] = (value.bits >> (8 * i)) as u8;
            chunk.known |= 1 << at;
        }
        let at = off.rem_euclid(CHUNK) as u8;
        let region = value.region.filter(|_| size == 8);
        let tagged = region.is_some() || value.term.is_some();
        if tagged && let Some(chunk) = self.chunks.get_mut(&off.div_euclid(CHUNK)) {
            chunk.tags.push(Tag { at, size, region, term: value.term });
        }
    }

    /// Makes `len` bytes unknown.
    pub fn forget(&mut self, off: i64, len: i64) {
        if len <= 0 {
            return;
        }
        let end = off.saturating_add(len);
        let touched = off.saturating_sub(7).div_euclid(CHUNK)..=end.saturating_sub(1).div_euclid(CHUNK);
        self.chunks.retain(|index, chunk| {
            if !touched.contains(index) {
                return true;
            }
            let start = index.wrapping_mul(CHUNK);
            chunk.forget_tags(start, off, end);
            for at in 0..CHUNK {
                if (off..end).contains(&start.wrapping_add(at)) {
                    chunk.known &= !(1 << at);
                }
            }
            chunk.known != 0
        });
    }

    /// A helper writes to `[fill.start, fill.end)`.
    pub fn fill(&mut self, fill: Fill) {
        self.forget(fill.start, fill.end.saturating_sub(fill.start));
        self.fills.retain(|old| old.start < fill.start || old.end > fill.end);
        self.fills.push(fill);
    }

    /// The last fill that covers the byte.
    pub fn fill_of(&self, off: i64) -> Option<Fill> {
        self.fills.iter().rev().find(|fill| fill.start <= off && off < fill.end).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stack() -> Region {
        Region::new(RegionKind::Stack { serial: 0 }, 0x1000, -512, 0)
    }

    fn known(region: &Region, off: i64, size: u8) -> Value {
        match region.read(off, size) {
            Read::Known(value) => value,
            _ => panic!("{size} bytes at {off} are not known"),
        }
    }

    #[test]
    fn pointers_survive_whole_and_not_in_part() {
        let mut region = stack();
        let pointer = Value { bits: 0xffff_8880_1234_5678, region: Some(RegionId(3)), term: None };
        region.write(-16, 8, pointer);
        assert_eq!(known(&region, -16, 8), pointer);
        assert_eq!(known(&region, -16, 4), Value::scalar(0x1234_5678));
        region.write(-9, 1, Value::scalar(0));
        assert_eq!(known(&region, -16, 8), Value::scalar(0x00ff_8880_1234_5678));
    }

    #[test]
    fn bytes_become_unknown_where_a_helper_writes() {
        let mut region = stack();
        for off in [-24, -16, -8] {
            region.write(off, 8, Value { bits: 7, region: Some(RegionId(1)), term: None });
        }
        region.fill(Fill { start: -20, end: -12, insn: 5, nth: 0, arg: 1 });
        assert!(matches!(region.read(-24, 8), Read::Partly(0x0f)));
        assert!(matches!(region.read(-20, 8), Read::Unknown));
        assert_eq!(known(&region, -8, 8).region, Some(RegionId(1)));
        assert_eq!(known(&region, -24, 4), Value::scalar(7));
        assert_eq!(region.fill_of(-13).map(|fill| fill.insn), Some(5));
        assert!(region.fill_of(-12).is_none());
        // A fill that hides another replaces it.
        region.fill(Fill { start: -24, end: 0, insn: 6, nth: 0, arg: 1 });
        assert_eq!(region.fills.len(), 1);
    }

    #[test]
    fn values_may_cross_chunks() {
        let mut region = stack();
        region.write(60, 8, Value { bits: 0x0807_0605_0403_0201, region: Some(RegionId(4)), term: None });
        assert_eq!(known(&region, 60, 8).bits, 0x0807_0605_0403_0201);
        assert_eq!(known(&region, 64, 4).bits, 0x0807_0605);
        region.write(66, 1, Value::scalar(0xff));
        assert_eq!(known(&region, 60, 8), Value::scalar(0x08ff_0605_0403_0201));
    }
}
