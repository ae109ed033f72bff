//! Searches by name and by tagged declaration, through indexes that are built at the first search.

use std::hash::{BuildHasher, RandomState};

use bpftwin_uapi::Errno;

use super::name::until_nul;
use super::types::kind;
use super::{Btf, BtfType};

/// The first type of each name, of one kind: a hash table of ids with open addressing. Names are compared in
/// the string section, so that the table is four bytes a slot.
pub(super) struct NameIndex {
    /// Zero is an empty slot: void has no name. The length is a power of two, and at most half is used.
    slots: Vec<u32>,
    /// Keyed, so that nobody can choose names that collide.
    hasher: RandomState,
}

impl NameIndex {
    fn build(btf: &Btf, kind: u32) -> Self {
        let count = btf.types().filter(|t| t.kind() == kind).count();
        let hasher = RandomState::new();
        let mut slots = vec![0; (count * 2).next_power_of_two().max(2)];
        let mask = slots.len() - 1;
        for t in btf.types().filter(|t| t.kind() == kind) {
            let Some(name) = btf.str_by_offset(t.name_off) else { continue };
            let mut slot = hasher.hash_one(name) as usize & mask;
            loop {
                if slots[slot] == 0 {
                    slots[slot] = t.id;
                    break;
                }
                if btf.type_by_id(slots[slot]).is_some_and(|other| btf.str_is(other.name_off, name)) {
                    break;
                }
                slot = (slot + 1) & mask;
            }
        }
        NameIndex { slots, hasher }
    }

    fn find(&self, btf: &Btf, name: &[u8]) -> Option<u32> {
        let mask = self.slots.len() - 1;
        let mut slot = self.hasher.hash_one(name) as usize & mask;
        loop {
            let id = self.slots[slot];
            if id == 0 {
                return None;
            }
            if btf.type_by_id(id).is_some_and(|t| btf.str_is(t.name_off, name)) {
                return Some(id);
            }
            slot = (slot + 1) & mask;
        }
    }
}

/// Declaration tags, as pairs of the tagged type and the tag, in ascending order.
pub(super) struct DeclTagIndex(Vec<(u32, u32)>);

impl DeclTagIndex {
    fn build(btf: &Btf) -> Self {
        let mut pairs: Vec<_> = (1..btf.nr_types())
            .filter_map(|id| btf.type_by_id(id))
            .filter(BtfType::is_decl_tag)
            .map(|tag| (tag.type_(), tag.id))
            .collect();
        pairs.sort_unstable();
        DeclTagIndex(pairs)
    }

    /// Tags on type `id` behind the tag `last_id`, by ascending id of the tag.
    fn of(&self, id: u32, last_id: u32) -> impl Iterator<Item = u32> + '_ {
        let first = self.0.partition_point(|&pair| pair <= (id, last_id));
        self.0[first..].iter().take_while(move |&&(target, _)| target == id).map(|&(_, tag)| tag)
    }
}

impl Btf {
    /// The first type of this name and kind: `btf_find_by_name_kind`. `ENOENT` where there is none.
    pub fn find_by_name_kind(&self, name: impl AsRef<[u8]>, kind: u32) -> Result<u32, Errno> {
        let name = name.as_ref();
        if let Some(base) = &self.base
            && let Ok(id) = base.find_by_name_kind(name, kind)
        {
            return Ok(id);
        }
        // The kernel's strcmp stops at a NUL, which no stored name contains.
        if name.contains(&0) {
            return Err(Errno::ENOENT);
        }
        let index = self.names.get(kind as usize).ok_or(Errno::ENOENT)?;
        index.get_or_init(|| NameIndex::build(self, kind)).find(self, name).ok_or(Errno::ENOENT)
    }

    /// The struct of this name; unions are of another kind.
    pub fn find_struct(&self, name: &str) -> Option<u32> {
        self.find_by_name_kind(name, kind::STRUCT).ok()
    }

    /// The next tag on component `comp_idx` (-1: the declaration itself) of type `target` whose value begins with
    /// `tag_key`, behind the tag `last_id`: `btf_find_next_decl_tag`. `ENOENT` where there is none.
    pub fn find_next_decl_tag(
        &self,
        target: u32,
        comp_idx: i32,
        tag_key: &str,
        last_id: u32,
    ) -> Result<u32, Errno> {
        self.decl_tags
            .get_or_init(|| DeclTagIndex::build(self))
            .of(target, last_id)
            .find(|&id| {
                self.type_by_id(id).is_some_and(|tag| {
                    tag.component_idx() == comp_idx && self.str_starts_with(tag.name_off, tag_key)
                })
            })
            .ok_or(Errno::ENOENT)
    }

    /// What follows `tag_key` in the only such tag: `btf_find_decl_tag_value`. `EEXIST` where there are several.
    pub fn find_decl_tag_value(&self, target: u32, comp_idx: i32, tag_key: &str) -> Result<&[u8], Errno> {
        self.decl_tag_rest(target, comp_idx, tag_key).map(until_nul)
    }

    /// The same without a look for the end of the value: it ends with a NUL.
    pub(super) fn decl_tag_rest(&self, target: u32, comp_idx: i32, tag_key: &str) -> Result<&[u8], Errno> {
        let id = self.find_next_decl_tag(target, comp_idx, tag_key, 0)?;
        if self.find_next_decl_tag(target, comp_idx, tag_key, id).is_ok() {
            return Err(Errno::EEXIST);
        }
        let rest = self.strings_from(self.type_or_void(id).name_off).unwrap_or(&[]);
        Ok(rest.get(tag_key.len()..).unwrap_or(&[]))
    }

    fn str_starts_with(&self, offset: u32, prefix: &str) -> bool {
        self.log_name(offset, prefix.len()) == prefix.as_bytes()
    }
}
