//! Sizes of types.

use bpftwin_uapi::Errno;

use super::types::kind;
use super::{Btf, BtfMember, BtfType, MAX_RESOLVE_DEPTH};

/// Size of a pointer.
pub(super) const PTR_SIZE: u32 = 8;

/// A type with its size, arrays taken apart: the results of `__btf_resolve_size`.
#[derive(Clone, Copy, Debug)]
pub struct ResolvedSize<'a> {
    /// The outermost array, or else the type without modifiers.
    pub t: BtfType<'a>,
    /// Bytes of the whole.
    pub size: u32,
    /// Innermost element; the type itself where it is no array.
    pub elem: BtfType<'a>,
    /// Id by which the innermost array names its element, zero where there is no array.
    pub elem_id: u32,
    /// Elements of all dimensions, one where there is no array.
    pub total_nelems: u32,
    /// Id of the last type reached through a modifier, zero where there was none.
    pub type_id: u32,
}

impl Btf {
    /// Size of a type by following it, without the results of parsing; works for kernel BTF: `btf_resolve_size`.
    /// `EINVAL` for types without size and sizes beyond 32 bits.
    pub fn resolve_size<'a>(&'a self, t: BtfType<'a>) -> Result<ResolvedSize<'a>, Errno> {
        let mut outermost_array = None;
        let mut elem_id = 0;
        let mut type_id = 0;
        let mut nelems = 1u32;
        let mut elem = t;
        for _ in 0..MAX_RESOLVE_DEPTH {
            let size = match elem.kind() {
                kind::INT | kind::STRUCT | kind::UNION | kind::ENUM | kind::FLOAT | kind::ENUM64 => {
                    elem.size()
                }
                kind::PTR => PTR_SIZE,
                kind::ARRAY => {
                    outermost_array = outermost_array.or(Some(elem));
                    let array = elem.array();
                    nelems = nelems.checked_mul(array.nelems).ok_or(Errno::EINVAL)?;
                    elem_id = array.type_;
                    elem = self.type_by_id(array.type_).ok_or(Errno::EINVAL)?;
                    continue;
                }
                _ if elem.is_modifier() => {
                    type_id = elem.type_();
                    elem = self.type_by_id(type_id).ok_or(Errno::EINVAL)?;
                    continue;
                }
                _ => return Err(Errno::EINVAL),
            };
            let size = nelems.checked_mul(size).ok_or(Errno::EINVAL)?;
            let t = outermost_array.unwrap_or(elem);
            return Ok(ResolvedSize { t, size, elem, elem_id, total_nelems: nelems, type_id });
        }
        Err(Errno::EINVAL)
    }

    /// The type that the size of type `id` is that of, and the size: `btf_type_id_size`. The view's `id` is what the
    /// kernel returns through `type_id`. `None` for types without size. For BTF loaded through bpf(2) only.
    pub fn type_id_size(&self, id: u32) -> Option<(BtfType<'_>, u32)> {
        self.type_id_size_in(&self.resolved, id)
    }

    /// The same with what is resolved so far.
    pub(super) fn type_id_size_in(&self, resolved: &Resolved, id: u32) -> Option<(BtfType<'_>, u32)> {
        let t = self.type_by_id(id)?;
        if t.is_nosize() {
            return None;
        }
        if let Some(size) = own_size(resolved, &t) {
            return Some((t, size));
        }
        let target = self.type_by_id(resolved.id(id))?;
        if target.is_nosize() {
            return None;
        }
        let size = own_size(resolved, &target)?;
        Some((target, size))
    }

    /// The member is a whole integer of this size at this offset, both in bytes: `btf_member_is_reg_int`.
    pub fn member_is_reg_int(
        &self,
        s: &BtfType<'_>,
        m: &BtfMember,
        expected_offset: u32,
        expected_size: u32,
    ) -> bool {
        let Some((t, _)) = self.type_id_size(m.type_) else { return false };
        if !t.is_int() {
            return false;
        }
        if s.kflag() {
            return s.member_bitfield_size(m) == 0
                && s.member_bit_offset(m).div_ceil(8) == expected_offset
                && t.int_bits().div_ceil(8) == expected_size;
        }
        t.int_offset() == 0
            && m.offset.is_multiple_of(8)
            && m.offset / 8 == expected_offset
            && t.int_bits().is_multiple_of(8)
            && t.int_bits() / 8 == expected_size
    }
}

/// What the second pass of parsing found, by type id. Empty for kernel BTF.
#[derive(Default)]
pub(super) struct Resolved {
    /// What each modifier, pointer, array and variable leads to.
    pub ids: Vec<u32>,
    /// Size of each array.
    pub sizes: Vec<u32>,
    /// The first type behind each modifier that is none. Chains can be as long as there are types.
    pub chain_ends: Vec<u32>,
}

impl Resolved {
    /// `btf_resolved_type_id`
    pub fn id(&self, id: u32) -> u32 {
        self.ids.get(id as usize).copied().unwrap_or(0)
    }

    /// `btf_resolved_type_size`
    pub fn size(&self, id: u32) -> u32 {
        self.sizes.get(id as usize).copied().unwrap_or(0)
    }
}

fn own_size(resolved: &Resolved, t: &BtfType<'_>) -> Option<u32> {
    if t.has_size() {
        Some(t.size())
    } else if t.is_array() {
        Some(resolved.size(t.id))
    } else {
        t.is_ptr().then_some(PTR_SIZE)
    }
}
