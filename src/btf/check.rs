//! First pass over the types of a loaded object: each alone, in order, and its line in the log
//! (`btf_check_all_metas`). Nothing here follows a reference; that is [`resolve`](super::resolve).

use bpftwin_uapi::Errno;

use crate::verifier::log::Log;

use super::Btf;
use super::log::BtfLog;
use super::types::*;

/// Ends a check with the given error, and a message to the log through `$log.$level(…)`.
macro_rules! reject {
    ($log:expr, type $t:expr, $($text:tt)*) => {{
        $log.type_($t, Some(format_args!($($text)*)));
        return Err(Errno::EINVAL);
    }};
    ($log:expr, basic $t:expr, $($text:tt)*) => {{
        $log.basic($t, format_args!($($text)*));
        return Err(Errno::EINVAL);
    }};
    ($log:expr, member $t:expr, $m:expr, $($text:tt)*) => {{
        $log.member($t, $m, Some(format_args!($($text)*)));
        return Err(Errno::EINVAL);
    }};
    ($log:expr, vsi $t:expr, $v:expr, $($text:tt)*) => {{
        $log.vsi($t, $v, Some(format_args!($($text)*)));
        return Err(Errno::EINVAL);
    }};
    ($log:expr, text $($text:tt)*) => {{
        $log.write(format_args!($($text)*));
        return Err(Errno::EINVAL);
    }};
}
pub(super) use reject;

/// Bits of the widest integer: `BITS_PER_U128`.
pub(super) const BITS_PER_U128: u32 = 128;
/// Bits of an integer's word that may be set: `BTF_INT_MASK`.
const BTF_INT_MASK: u32 = 0x0fff_ffff;

/// Checks every type of `section`, a range of the object's data, and returns where each stands.
pub(super) fn check_all_metas(
    btf: &Btf,
    log: &mut Log,
    section: std::ops::Range<usize>,
) -> Result<Vec<u32>, Errno> {
    let mut check = MetaCheck { btf, log: BtfLog::new(btf, log, true) };
    // Void, of an object without base.
    let mut types = vec![0];
    let mut at = section.start;
    check.log.type_id = 1;
    while at < section.end {
        let size = check.check_meta(at, section.end - at)?;
        if types.len() as u32 == BTF_MAX_TYPE {
            // The kernel complains, and goes on without the types that are too many.
            check.log.write(format_args!("Exceeded max num of types"));
        } else {
            types.push(at as u32);
        }
        at += size;
        check.log.type_id += 1;
    }
    Ok(types)
}

struct MetaCheck<'a> {
    btf: &'a Btf,
    log: BtfLog<'a>,
}

impl MetaCheck<'_> {
    /// Checks the type at byte `at`, with `left` bytes up to the end of its section. Returns its size.
    fn check_meta(&mut self, at: usize, left: usize) -> Result<usize, Errno> {
        let id = self.log.type_id;
        if left < TYPE_HEADER_SIZE {
            reject!(self.log, text "[{id}] meta_left:{left} meta_needed:{TYPE_HEADER_SIZE}");
        }
        let Some(t) = self.btf.type_at(id, at) else { return Err(Errno::EINVAL) };
        let t = &t;
        if t.info & !BTF_INFO_MASK != 0 {
            reject!(self.log, text "[{id}] Invalid btf_info:{:x}", t.info);
        }
        if t.kind() as usize >= kind::COUNT || t.kind() == kind::UNKN {
            reject!(self.log, text "[{id}] Invalid kind:{}", t.kind());
        }
        if !self.btf.name_offset_valid(t.name_off) {
            reject!(self.log, text "[{id}] Invalid name_offset:{}", t.name_off);
        }
        let needed = tail_size(t.info).unwrap_or(0);
        if t.tail.len() < needed {
            reject!(self.log, basic t, "meta_left:{} meta_needed:{needed}", t.tail.len());
        }
        match t.kind() {
            kind::INT => self.int(t)?,
            kind::ARRAY => self.array(t)?,
            kind::STRUCT | kind::UNION => self.struct_(t)?,
            kind::ENUM | kind::ENUM64 => self.any_enum(t)?,
            kind::FWD => self.fwd(t)?,
            kind::FUNC => self.func(t)?,
            kind::FUNC_PROTO => self.func_proto(t)?,
            kind::VAR => self.var(t)?,
            kind::DATASEC => self.datasec(t)?,
            kind::FLOAT => self.float(t)?,
            kind::DECL_TAG => self.decl_tag(t)?,
            _ => self.reference(t)?,
        }
        Ok(TYPE_HEADER_SIZE + needed)
    }

    fn no_vlen(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        if t.vlen() != 0 {
            reject!(self.log, type t, "vlen != 0");
        }
        Ok(())
    }

    fn no_kflag(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        if t.kflag() {
            reject!(self.log, type t, "Invalid btf_info kind_flag");
        }
        Ok(())
    }

    /// No name, or else one that is an identifier.
    fn valid_name_or_none(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        if t.name_off == 0 { Ok(()) } else { self.valid_name(t) }
    }

    fn valid_name(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        if t.name_off == 0 || !self.btf.name_valid_identifier(t.name_off) {
            reject!(self.log, type t, "Invalid name");
        }
        Ok(())
    }

    fn no_name(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        if t.name_off != 0 {
            reject!(self.log, type t, "Invalid name");
        }
        Ok(())
    }

    /// The value of a tag.
    fn has_value(&self, t: &BtfType<'_>) -> bool {
        self.btf.str_by_offset_is_empty(t.name_off) == Some(false)
    }

    fn int(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        self.no_vlen(t)?;
        self.no_kflag(t)?;
        let int_data = t.int_data();
        if int_data & !BTF_INT_MASK != 0 {
            reject!(self.log, basic t, "Invalid int_data:{int_data:x}");
        }
        let nr_bits = t.int_bits() + t.int_offset();
        if nr_bits > BITS_PER_U128 {
            reject!(self.log, type t, "nr_bits exceeds {BITS_PER_U128}");
        }
        if nr_bits.div_ceil(8) > t.size() {
            reject!(self.log, type t, "nr_bits exceeds type_size");
        }
        if !matches!(t.int_encoding(), 0 | BTF_INT_SIGNED | BTF_INT_CHAR | BTF_INT_BOOL) {
            self.log.type_(t, Some(format_args!("Unsupported encoding")));
            return Err(Errno::ENOTSUPP);
        }
        self.log.type_(t, None);
        Ok(())
    }

    /// Pointers and modifiers: `btf_ref_type_check_meta`.
    fn reference(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        self.no_vlen(t)?;
        if !t.is_type_tag() {
            self.no_kflag(t)?;
        }
        if t.type_() > BTF_MAX_TYPE {
            reject!(self.log, type t, "Invalid type_id");
        }
        match t.kind() {
            kind::TYPEDEF => self.valid_name(t)?,
            kind::TYPE_TAG if self.has_value(t) => {}
            kind::TYPE_TAG => reject!(self.log, type t, "Invalid name"),
            _ => self.no_name(t)?,
        }
        self.log.type_(t, None);
        Ok(())
    }

    fn fwd(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        self.no_vlen(t)?;
        if t.type_() != 0 {
            reject!(self.log, type t, "type != 0");
        }
        self.valid_name(t)?;
        self.log.type_(t, None);
        Ok(())
    }

    fn array(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        self.no_name(t)?;
        self.no_vlen(t)?;
        self.no_kflag(t)?;
        if t.size() != 0 {
            reject!(self.log, type t, "size != 0");
        }
        let array = t.array();
        if array.type_ == 0 || array.type_ > BTF_MAX_TYPE {
            reject!(self.log, type t, "Invalid elem");
        }
        if array.index_type == 0 || array.index_type > BTF_MAX_TYPE {
            reject!(self.log, type t, "Invalid index");
        }
        self.log.type_(t, None);
        Ok(())
    }

    fn struct_(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        let is_union = t.kind() == kind::UNION;
        self.valid_name_or_none(t)?;
        self.log.type_(t, None);

        let mut last_offset = 0;
        for m in t.members() {
            if !self.btf.name_offset_valid(m.name_off) {
                reject!(self.log, member t, &m, "Invalid member name_offset:{}", m.name_off);
            }
            if m.name_off != 0 && !self.btf.name_valid_identifier(m.name_off) {
                reject!(self.log, member t, &m, "Invalid name");
            }
            if m.type_ == 0 || m.type_ > BTF_MAX_TYPE {
                reject!(self.log, member t, &m, "Invalid type_id");
            }
            let offset = t.member_bit_offset(&m);
            if is_union && offset != 0 || last_offset > offset {
                reject!(self.log, member t, &m, "Invalid member bits_offset");
            }
            if offset.div_ceil(8) > t.size() {
                reject!(self.log, member t, &m, "Member bits_offset exceeds its struct size");
            }
            self.log.member(t, &m, None);
            last_offset = offset;
        }
        Ok(())
    }

    fn any_enum(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        if t.size() > 8 || !t.size().is_power_of_two() {
            reject!(self.log, type t, "Unexpected size");
        }
        self.valid_name_or_none(t)?;
        self.log.type_(t, None);

        if t.kind() == kind::ENUM {
            for e in t.enums() {
                self.enumerator_name(t, e.name_off)?;
                match t.kflag() {
                    true => self.log.enumerator(e.name_off, e.val),
                    false => self.log.enumerator(e.name_off, e.val as u32),
                }
            }
        } else {
            for e in t.enums64() {
                self.enumerator_name(t, e.name_off)?;
                match t.kflag() {
                    true => self.log.enumerator(e.name_off, e.val as i64),
                    false => self.log.enumerator(e.name_off, e.val),
                }
            }
        }
        Ok(())
    }

    fn enumerator_name(&mut self, t: &BtfType<'_>, name_off: u32) -> Result<(), Errno> {
        if !self.btf.name_offset_valid(name_off) {
            reject!(self.log, text "\tInvalid name_offset:{name_off}");
        }
        if name_off == 0 || !self.btf.name_valid_identifier(name_off) {
            reject!(self.log, type t, "Invalid name");
        }
        Ok(())
    }

    fn func_proto(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        self.no_name(t)?;
        self.no_kflag(t)?;
        self.log.type_(t, None);
        Ok(())
    }

    fn func(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        self.valid_name(t)?;
        if t.func_linkage() > BTF_FUNC_GLOBAL {
            reject!(self.log, type t, "Invalid func linkage");
        }
        self.no_kflag(t)?;
        self.log.type_(t, None);
        Ok(())
    }

    fn var(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        self.no_vlen(t)?;
        self.no_kflag(t)?;
        self.valid_name(t)?;
        if t.type_() == 0 || t.type_() > BTF_MAX_TYPE {
            reject!(self.log, type t, "Invalid type_id");
        }
        if !matches!(t.var_linkage(), BTF_VAR_STATIC | BTF_VAR_GLOBAL_ALLOCATED) {
            reject!(self.log, type t, "Linkage not supported");
        }
        self.log.type_(t, None);
        Ok(())
    }

    fn datasec(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        if t.size() == 0 {
            reject!(self.log, type t, "size == 0");
        }
        self.no_kflag(t)?;
        if t.name_off == 0 || !self.btf.name_valid_section(t.name_off) {
            reject!(self.log, type t, "Invalid name");
        }
        self.log.type_(t, None);

        let (mut last_end, mut sum) = (0u64, 0u64);
        for vsi in t.vsis() {
            if vsi.type_ == 0 || vsi.type_ > BTF_MAX_TYPE {
                reject!(self.log, vsi t, &vsi, "Invalid type_id");
            }
            if u64::from(vsi.offset) < last_end || vsi.offset >= t.size() {
                reject!(self.log, vsi t, &vsi, "Invalid offset");
            }
            if vsi.size == 0 || vsi.size > t.size() {
                reject!(self.log, vsi t, &vsi, "Invalid size");
            }
            // The kernel adds in 32 bits.
            last_end = u64::from(vsi.offset.wrapping_add(vsi.size));
            if last_end > u64::from(t.size()) {
                reject!(self.log, vsi t, &vsi, "Invalid offset+size");
            }
            self.log.vsi(t, &vsi, None);
            sum += u64::from(vsi.size);
        }
        if u64::from(t.size()) < sum {
            reject!(self.log, type t, "Invalid btf_info size");
        }
        Ok(())
    }

    fn float(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        self.no_vlen(t)?;
        self.no_kflag(t)?;
        if !matches!(t.size(), 2 | 4 | 8 | 12 | 16) {
            reject!(self.log, type t, "Invalid type_size");
        }
        self.log.type_(t, None);
        Ok(())
    }

    fn decl_tag(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        if !self.has_value(t) {
            reject!(self.log, type t, "Invalid value");
        }
        self.no_vlen(t)?;
        if t.component_idx() < -1 {
            reject!(self.log, type t, "Invalid component_idx");
        }
        self.log.type_(t, None);
        Ok(())
    }
}
