//! Walks into structures of the kernel: what lies at an offset of one (`btf_struct_walk` and what is built on it).
//!
//! A pointer to a structure may be used where one to its first member is asked for, so that walks descend: at each level
//! the member that the access falls into is a pointer, a scalar, or a structure to go on with.

use bpftwin_uapi::Errno;

use super::ctx::bpf_log;
use super::types::kind;
use super::{Btf, BtfMember, BtfType, btf_field_type_name};
use crate::verifier::log::Log;
use crate::verifier::reg_type::RegType;
use crate::verifier::reg_type::flag::*;

/// What an access meets.
enum Walk {
    /// A pointer to a struct or union.
    Ptr(Step),
    /// A pointer to anything else.
    PtrUntrusted,
    Scalar,
    /// A member that is itself a structure, and that the access begins at.
    Struct(u32),
}

/// A pointer that was found.
struct Step {
    btf_id: u32,
    flags: u32,
    field: BtfMember,
}

/// What a read of a structure's member yields: the results of `btf_struct_access`.
#[derive(Clone, Copy, Debug)]
pub struct StructAccess {
    /// A scalar, `PTR_TO_BTF_ID` or, for untrusted pointers to no structure, `PTR_TO_MEM`.
    pub reg_type: RegType,
    /// What the pointer is to.
    pub btf_id: u32,
    /// Modifiers that follow from where the pointer was found.
    pub flags: u32,
    /// Name of the member, as an offset into the strings; zero without.
    pub field_name: u32,
}

impl StructAccess {
    const SCALAR: StructAccess =
        StructAccess { reg_type: RegType::SCALAR_VALUE, btf_id: 0, flags: 0, field_name: 0 };
}

/// Which members of a structure keep their parent's trust, by suffix of the name of the structure that lists them.
pub mod safe {
    pub const RCU: &str = "__safe_rcu";
    pub const RCU_OR_NULL: &str = "__safe_rcu_or_null";
    pub const TRUSTED: &str = "__safe_trusted";
    pub const TRUSTED_OR_NULL: &str = "__safe_trusted_or_null";
}

impl Btf {
    /// `size` bytes at `off` of type `id`, which a pointer with `reg_type`'s modifiers leads to: `btf_struct_access`.
    pub fn struct_access(
        &self,
        log: &mut Log,
        reg_type: RegType,
        mut id: u32,
        off: u32,
        size: u32,
    ) -> Result<StructAccess, Errno> {
        let is_alloc = reg_type.has(MEM_ALLOC);
        if is_alloc && let Some(meta) = self.find_struct_meta(id) {
            let end = off.wrapping_add(size);
            for field in &meta.record.fields {
                if off < field.offset.wrapping_add(field.size) && field.offset < end {
                    bpf_log(
                        log,
                        format_args!("direct access to {} is disallowed\n", btf_field_type_name(field.type_)),
                    );
                    return Err(Errno::EACCES);
                }
            }
        }
        let mut off = off;
        let mut flags = 0;
        // Each step leads into a smaller part of the structure, in BTF that makes sense.
        for _ in 0..MAX_WALK {
            let Some(t) = self.type_by_id(id) else { break };
            match self.struct_walk(log, t, off, size, &mut flags)? {
                // Pointers in a program's own objects are not known to be valid.
                Walk::Ptr(_) if is_alloc => return Ok(StructAccess::SCALAR),
                Walk::Ptr(step) => {
                    return Ok(StructAccess {
                        reg_type: RegType::PTR_TO_BTF_ID,
                        btf_id: step.btf_id,
                        flags: step.flags,
                        field_name: step.field.name_off,
                    });
                }
                Walk::PtrUntrusted => {
                    return Ok(StructAccess {
                        reg_type: RegType::PTR_TO_MEM,
                        flags: MEM_RDONLY | PTR_UNTRUSTED,
                        ..StructAccess::SCALAR
                    });
                }
                Walk::Scalar => return Ok(StructAccess::SCALAR),
                Walk::Struct(member) => {
                    id = member;
                    off = 0;
                }
            }
        }
        Err(Errno::EINVAL)
    }

    /// Whether a pointer to type `id` plus `off` is also one to `need_id` of `need_btf`, as the structure begins with
    /// it there: `btf_struct_ids_match`. `strict`: members do not count.
    pub fn struct_ids_match(
        &self,
        log: &mut Log,
        mut id: u32,
        mut off: u32,
        (need_btf, need_id): (&Btf, u32),
        strict: bool,
    ) -> bool {
        if off == 0 && self.same_type(id, need_btf, need_id) {
            return true;
        }
        if strict {
            return false;
        }
        let mut flags = 0;
        for _ in 0..MAX_WALK {
            let Some(t) = self.type_by_id(id) else { break };
            match self.struct_walk(log, t, off, 1, &mut flags) {
                Ok(Walk::Struct(member)) if self.same_type(member, need_btf, need_id) => return true,
                Ok(Walk::Struct(member)) => id = member,
                _ => break,
            }
            off = 0;
        }
        false
    }

    /// `btf_types_are_same`: types of a base object are those of the objects that extend it.
    fn same_type(&self, id: u32, other: &Btf, other_id: u32) -> bool {
        id == other_id && (self == other || self.owner_of(id) == other.owner_of(id))
    }

    /// Number of the object in a chain of split ones that type `id` is defined by.
    fn owner_of(&self, id: u32) -> u64 {
        match &self.base {
            Some(base) if id < self.start_id => base.owner_of(id),
            _ => self.uid,
        }
    }

    /// Whether the structure listing trusted members of type `parent` under `suffix` has the member `field_name`, a
    /// pointer to `btf_id`: `btf_nested_type_is_trusted`.
    pub fn nested_type_is_trusted(&self, parent: u32, field_name: u32, btf_id: u32, suffix: &str) -> bool {
        const SAFE_NAME_MAX: usize = 64;
        let Some(walked) = self.type_by_id(parent) else { return false };
        let mut name = self.str_by_offset(walked.name_off).unwrap_or(&[]).to_vec();
        name.extend_from_slice(suffix.as_bytes());
        if name.len() >= SAFE_NAME_MAX {
            return false;
        }
        let Ok(safe_id) = self.find_by_name_kind(&name, walked.kind()) else { return false };
        let field_name = self.display_name(field_name);
        self.type_or_void(safe_id).members().any(|member| {
            let t = self.type_or_void(member.type_);
            t.is_ptr()
                && self.skip_modifiers(t.type_()).id == btf_id
                && self.display_name(member.name_off) == field_name
        })
    }

    /// One level of a walk, and those below that the access does not begin at: `btf_struct_walk`. Numbers wrap as the
    /// kernel's unsigned ones do, for offsets may be negative.
    fn struct_walk<'a>(
        &'a self,
        log: &mut Log,
        t: BtfType<'a>,
        mut off: u32,
        size: u32,
        flags: &mut u32,
    ) -> Result<Walk, Errno> {
        let mut t = t;
        for _ in 0..MAX_WALK {
            if t.is_modifier() {
                t = self.skip_modifiers(t.type_());
            }
            if !t.is_struct() {
                bpf_log(log, format_args!("Type '{}' is not a struct\n", self.display_name(t.name_off)));
                return Err(Errno::EINVAL);
            }
            // Which member of a union is valid nobody knows; wrappers of a single one are an exception.
            if t.kind() == kind::UNION && t.vlen() != 1 {
                *flags |= PTR_UNTRUSTED;
            }
            if off.wrapping_add(size) > t.size() {
                match self.flexible_array_element(&t, off) {
                    Some((elem, _)) if elem.is_int() => return Ok(Walk::Scalar),
                    Some((elem, elem_off)) => {
                        (t, off) = (elem, elem_off);
                        continue;
                    }
                    None => {
                        let tname = self.display_name(t.name_off);
                        bpf_log(log, format_args!("access beyond struct {tname} at off {off} size {size}\n"));
                        return Err(Errno::EACCES);
                    }
                }
            }
            match self.find_member(log, &t, off, size, flags)? {
                Found::End(walk) => return Ok(walk),
                Found::Inside(inner, inner_off) => (t, off) = (inner, inner_off),
            }
        }
        Err(Errno::EINVAL)
    }

    /// Element that the access behind the end of the structure falls into, and where in it: of an array without length
    /// at the structure's end, of integers or structures.
    fn flexible_array_element<'a>(&'a self, t: &BtfType<'a>, off: u32) -> Option<(BtfType<'a>, u32)> {
        let member = t.member(t.vlen().checked_sub(1)?)?;
        let array = Some(self.skip_modifiers(member.type_)).filter(BtfType::is_array)?.array();
        if array.nelems != 0 {
            return None;
        }
        let at = off.checked_sub(t.member_bit_offset(&member) / 8)?;
        let elem = self.skip_modifiers(array.type_);
        if elem.is_int() {
            return Some((elem, 0));
        }
        if !elem.is_struct() {
            return None;
        }
        Some((elem, at.checked_rem(elem.size())?))
    }

    /// The member of `t` that the access falls into.
    fn find_member<'a>(
        &'a self,
        log: &mut Log,
        t: &BtfType<'a>,
        off: u32,
        size: u32,
        flags: &mut u32,
    ) -> Result<Found<'a>, Errno> {
        let tname = || self.display_name(t.name_off);
        let end = off.wrapping_add(size);
        for member in t.members() {
            let bit_offset = t.member_bit_offset(&member);
            let mut moff = bit_offset / 8;
            if end <= moff {
                break;
            }
            let bits = t.member_bitfield_size(&member);
            if bits != 0 {
                // Of a bit field the whole must be accessed. It may begin behind unnamed bits.
                if off <= moff && (bit_offset + bits).div_ceil(8) <= end {
                    return Ok(Found::End(Walk::Scalar));
                }
                continue;
            }
            if off < moff {
                break;
            }
            let mname = || self.display_name(member.name_off);
            let Ok(resolved) = self.resolve_size(self.type_or_void(member.type_)) else {
                bpf_log(log, format_args!("field {} doesn't have size\n", mname()));
                return Err(Errno::EFAULT);
            };
            // End of the whole member; what follows is about one element of an array.
            let mend = moff.wrapping_add(resolved.size);
            if off >= mend {
                continue;
            }
            let mut msize = resolved.size;
            let mut mid = if resolved.type_id != 0 { resolved.type_id } else { member.type_ };
            if resolved.t.is_array() {
                msize = msize.checked_div(resolved.total_nelems).unwrap_or(0);
                let Some(index) = (off - moff).checked_div(msize) else { continue };
                moff += index * msize;
                mid = resolved.elem_id;
            }
            let mtype = resolved.elem;
            if mtype.is_struct() {
                return Ok(if off == moff {
                    Found::End(Walk::Struct(mid))
                } else {
                    Found::Inside(mtype, off - moff)
                });
            }
            if mtype.is_ptr() {
                if msize != size || off != moff {
                    bpf_log(
                        log,
                        format_args!(
                            "cannot access ptr member {} with moff {moff} in struct {} with off {off} size {size}\n",
                            mname(),
                            tname()
                        ),
                    );
                    return Err(Errno::EACCES);
                }
                return Ok(Found::End(self.pointer_member(&mtype, member, flags)));
            }
            if end > mend && *flags & PTR_UNTRUSTED == 0 {
                bpf_log(
                    log,
                    format_args!(
                        "access beyond the end of member {} (mend:{mend}) in struct {} with off {off} size {size}\n",
                        mname(),
                        tname()
                    ),
                );
                return Err(Errno::EACCES);
            }
            return Ok(Found::End(Walk::Scalar));
        }
        bpf_log(log, format_args!("struct {} doesn't have field at offset {}\n", tname(), off as i32));
        Err(Errno::EINVAL)
    }

    /// What a member of pointer type `ptr` leads to.
    fn pointer_member(&self, ptr: &BtfType<'_>, field: BtfMember, flags: &mut u32) -> Walk {
        let target = self.skip_modifiers(ptr.type_());
        if !target.is_struct() {
            return Walk::PtrUntrusted;
        }
        *flags |= match self.pointer_tag(ptr) {
            Some(b"user") => MEM_USER,
            Some(b"percpu") => MEM_PERCPU,
            Some(b"rcu") => MEM_RCU,
            _ => 0,
        };
        Walk::Ptr(Step { btf_id: target.id, flags: *flags, field })
    }

    /// Tag of the address space that a pointer type leads to, where it has one.
    pub(super) fn pointer_tag(&self, ptr: &BtfType<'_>) -> Option<&[u8]> {
        let tag = self.type_or_void(ptr.type_());
        if tag.is_type_tag() && !tag.kflag() { self.str_by_offset(tag.name_off) } else { None }
    }
}

enum Found<'a> {
    End(Walk),
    /// Somewhere in a member that is a structure.
    Inside(BtfType<'a>, u32),
}

/// Structures nested in one another that are followed; kernel BTF, which is not checked, could nest them in a circle.
const MAX_WALK: usize = 512;

#[cfg(test)]
mod tests {
    use super::*;

    const STRINGS: &[u8] = b"\0u64\0in\0out\0num\0next\0arr\0tail\0rcu\0";

    fn name(text: &str) -> u32 {
        let text = format!("\0{text}\0");
        STRINGS.windows(text.len()).position(|at| at == text.as_bytes()).unwrap() as u32 + 1
    }

    /// `struct in { u64 num; struct in __rcu *next; }` and
    /// `struct out { u64 num; struct in arr[2]; struct in tail[]; }`
    fn btf() -> Btf {
        let info = |kind: u32, vlen: u32| kind << 24 | vlen;
        let types: Vec<u32> = [
            vec![name("u64"), info(kind::INT, 0), 8, 64],
            vec![name("in"), info(kind::STRUCT, 2), 16],
            vec![name("num"), 1, 0, name("next"), 3, 64],
            vec![0, info(kind::PTR, 0), 4],
            vec![name("rcu"), info(kind::TYPE_TAG, 0), 2],
            vec![0, info(kind::ARRAY, 0), 0, 2, 1, 2],
            vec![0, info(kind::ARRAY, 0), 0, 2, 1, 0],
            vec![name("out"), info(kind::STRUCT, 3), 40],
            vec![name("num"), 1, 0, name("arr"), 5, 64, name("tail"), 6, 320],
        ]
        .concat();
        let type_len = types.len() as u32 * 4;
        let header = [0x0001_eb9f, 24, 0, type_len, type_len, STRINGS.len() as u32];
        let mut bytes: Vec<u8> = header.iter().chain(&types).flat_map(|word| word.to_ne_bytes()).collect();
        bytes.extend_from_slice(STRINGS);
        Btf::from_kernel_bytes(bytes, "vmlinux", None).unwrap()
    }

    #[test]
    fn accesses() {
        let btf = btf();
        let access = |off, size| {
            let access = btf.struct_access(&mut Log::disabled(), RegType::PTR_TO_BTF_ID, 7, off, size)?;
            Ok::<_, Errno>((access.reg_type, access.btf_id, access.flags))
        };
        let scalar = Ok((RegType::SCALAR_VALUE, 0, 0));
        let pointer = Ok((RegType::PTR_TO_BTF_ID, 2, MEM_RCU));
        assert_eq!(access(0, 4), scalar);
        // Elements of arrays, with and without a length.
        assert_eq!(access(24, 8), scalar);
        assert_eq!(access(32, 8), pointer);
        assert_eq!(access(40 + 160, 8), scalar);
        assert_eq!(access(48 + 160, 8), pointer);
        assert_eq!(access(32, 4), Err(Errno::EACCES));
        // Eight bytes from one before the beginning.
        assert_eq!(access(u32::MAX, 8), Err(Errno::EINVAL));
    }

    #[test]
    fn pointers_to_first_members() {
        let btf = btf();
        let matches = |off, strict| btf.struct_ids_match(&mut Log::disabled(), 7, off, (&btf, 2), strict);
        assert!(!matches(0, false));
        assert!(matches(8, false) && matches(24, false));
        assert!(!matches(8, true) && !matches(16, false));
    }
}
