//! Copies of values around their special fields: locks, timers, kernel pointers and so on are neither shown to
//! user space nor overwritten by it.

/// The parts of a value that are not data, sorted by offset.
#[derive(Clone, Debug, Default)]
pub struct SpecialFields {
    /// Offset and size of each.
    fields: Vec<(u32, u32)>,
    /// Offsets of reference counts, which are one at first.
    refcounts: Vec<u32>,
}

impl SpecialFields {
    /// Of fields in any order, with the offsets of those that are reference counts.
    pub fn new(mut fields: Vec<(u32, u32)>, refcounts: Vec<u32>) -> Self {
        fields.sort_unstable();
        SpecialFields { fields, refcounts }
    }

    /// The ranges of a value of `size` bytes that are data: what `copy_map_value` copies.
    pub fn data_ranges(&self, size: usize) -> impl Iterator<Item = std::ops::Range<usize>> + '_ {
        let starts = std::iter::once(0).chain(self.fields.iter().map(|&(off, len)| (off + len) as usize));
        let ends = self.fields.iter().map(|&(off, _)| off as usize).chain(std::iter::once(size));
        starts
            .zip(ends)
            .map(move |(start, end)| start.min(size)..end.min(size))
            .filter(|range| !range.is_empty())
    }

    /// `copy_map_value`: the data of `from` into `to`.
    pub fn copy(&self, to: &mut [u8], from: &[u8]) {
        let size = to.len().min(from.len());
        for range in self.data_ranges(size) {
            to[range.clone()].copy_from_slice(&from[range]);
        }
    }

    /// `check_and_init_map_value`: resets the special fields of a copy.
    pub fn init(&self, value: &mut [u8]) {
        for &(off, len) in &self.fields {
            let end = ((off + len) as usize).min(value.len());
            if let Some(field) = value.get_mut(off as usize..end) {
                field.fill(0);
            }
        }
        for &off in &self.refcounts {
            let count = value.get_mut(off as usize..).and_then(|field| field.first_chunk_mut());
            if let Some(count) = count {
                *count = 1u32.to_ne_bytes();
            }
        }
    }

    /// Whether there are any.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_around() {
        let special = SpecialFields::new(vec![(8, 2), (2, 4)], Vec::new());
        let mut to = [0u8; 12];
        special.copy(&mut to, &[1; 12]);
        assert_eq!(to, [1, 1, 0, 0, 0, 0, 1, 1, 0, 0, 1, 1]);
        let mut value = [1u8; 12];
        special.init(&mut value);
        assert_eq!(value, to);
    }
}
