//! Bloom filters: `kernel/bpf/bloom_filter.c`.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use bpftwin_uapi::Errno;
use bpftwin_uapi::attr::BPF_ANY;

use super::jhash::jhash;
use super::{MapAttrs, Result};

/// The bits that are set.
pub struct BloomFilter {
    bits: Mutex<HashSet<u32>>,
    mask: u32,
    nr_hash_funcs: u32,
}

/// Hash functions that `map_extra` asks for.
pub(super) fn nr_hash_funcs(map_extra: u64) -> u32 {
    match map_extra as u32 & 0xf {
        0 => 5,
        count => count,
    }
}

/// Size of the bit set: the smallest power of two at or above `entries * hashes / ln 2`, at least a word, and at most 2^32.
pub(super) fn bitset_bits(max_entries: u32, nr_hash_funcs: u32) -> u64 {
    const BITS_MAX: u64 = 1 << 32;
    let bits = max_entries
        .checked_mul(nr_hash_funcs)
        .and_then(|bits| (bits / 5).checked_mul(7))
        .filter(|&bits| bits <= 1 << 31);
    bits.map_or(BITS_MAX, |bits| u64::from(bits).max(64).next_power_of_two())
}

impl BloomFilter {
    /// An empty filter.
    pub fn new(attrs: &MapAttrs) -> Self {
        let nr_hash_funcs = nr_hash_funcs(attrs.map_extra);
        let mask = (bitset_bits(attrs.max_entries, nr_hash_funcs) - 1) as u32;
        BloomFilter { bits: Mutex::default(), mask, nr_hash_funcs }
    }

    fn positions<'a>(&'a self, value: &'a [u8]) -> impl Iterator<Item = u32> + 'a {
        // The kernel's seed is random, or zero where the map asks for it.
        (0..self.nr_hash_funcs).map(move |index| jhash(value, index) & self.mask)
    }

    /// `bloom_map_push_elem`.
    pub fn push(&self, value: &[u8], flags: u64) -> Result<()> {
        if flags != BPF_ANY {
            return Err(Errno::EINVAL);
        }
        self.bits.lock().unwrap_or_else(PoisonError::into_inner).extend(self.positions(value));
        Ok(())
    }

    /// `bloom_map_peek_elem`: `ENOENT` where the value was certainly never added.
    pub fn peek(&self, value: &[u8]) -> Result<()> {
        let bits = self.bits.lock().unwrap_or_else(PoisonError::into_inner);
        if self.positions(value).all(|bit| bits.contains(&bit)) { Ok(()) } else { Err(Errno::ENOENT) }
    }
}
