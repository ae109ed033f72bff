//! Second pass over the types of a loaded object: where references lead, that they end, that members fit
//! (`btf_check_all_types`).
//!
//! The walk is depth-first with a stack of [`MAX_RESOLVE_DEPTH`] entries. What ends a branch depends on where it began: a
//! pointer needs its modifiers and pointers resolved, but not the struct behind them; a struct or array needs
//! everything that its size depends on. Each type is finished once, so the pass is linear in the size of the object.

use bpftwin_uapi::Errno;

use crate::verifier::log::Log;

use super::check::{BITS_PER_U128, reject};
use super::log::BtfLog;
use super::types::*;
use super::{Btf, MAX_RESOLVE_DEPTH, Resolved};

/// `enum visit_state`
#[derive(Clone, Copy, PartialEq, Eq)]
enum VisitState {
    NotVisited,
    Visited,
    Resolved,
}

/// What the walk was begun for, and so what ends it: `enum resolve_mode`.
#[derive(Clone, Copy, PartialEq, Eq)]
enum ResolveMode {
    Tbd,
    Ptr,
    StructOrArray,
}

/// A type on the stack: `struct resolve_vertex`.
#[derive(Clone, Copy)]
struct ResolveVertex<'a> {
    t: BtfType<'a>,
    next_member: u32,
}

struct Resolver<'a> {
    btf: &'a Btf,
    log: BtfLog<'a>,
    resolved: Resolved,
    visit_states: Vec<VisitState>,
    stack: Vec<ResolveVertex<'a>>,
    mode: ResolveMode,
}

/// Checks all types against each other. The object has no base.
pub(super) fn check_all_types(btf: &Btf, log: &mut Log) -> Result<Resolved, Errno> {
    let nr_types = btf.nr_types() as usize;
    let mut resolver = Resolver {
        btf,
        log: BtfLog::new(btf, log, false),
        resolved: Resolved {
            ids: vec![0; nr_types],
            sizes: vec![0; nr_types],
            chain_ends: vec![0; nr_types],
        },
        visit_states: vec![VisitState::NotVisited; nr_types],
        stack: Vec::with_capacity(MAX_RESOLVE_DEPTH),
        mode: ResolveMode::Tbd,
    };
    for t in btf.types() {
        resolver.log.type_id = t.id;
        if t.needs_resolve() && !resolver.is_resolved(t.id) {
            resolver.resolve(t)?;
        }
        if t.is_func_proto() {
            resolver.func_proto_check(&t)?;
        }
    }
    Ok(resolver.resolved)
}

/// Type tags come before the other modifiers of a chain, and chains end: `btf_check_type_tags`.
pub(super) fn check_type_tags(btf: &Btf, log: &mut Log) -> Result<(), Errno> {
    let mut log = BtfLog::new(btf, log, false);
    let mut good_id = 0;
    for first in btf.types() {
        if !first.is_modifier() {
            continue;
        }
        let mut t = first;
        let mut in_tags = t.is_type_tag();
        let mut chain_limit = MAX_RESOLVE_DEPTH;
        while t.is_modifier() {
            if chain_limit == 0 {
                log.write(format_args!("Max chain length or cycle detected"));
                return Err(Errno::ELOOP);
            }
            chain_limit -= 1;
            if !t.is_type_tag() {
                in_tags = false;
            } else if !in_tags {
                reject!(log, text "Type tags don't precede modifiers");
            }
            if t.id <= good_id {
                break;
            }
            t = btf.type_by_id(t.type_()).ok_or(Errno::EINVAL)?;
        }
        good_id = first.id;
    }
    Ok(())
}

impl<'a> Resolver<'a> {
    fn is_resolved(&self, id: u32) -> bool {
        self.visit_states.get(id as usize) == Some(&VisitState::Resolved)
    }

    /// `env_type_is_resolve_sink`
    fn is_sink(&self, t: &BtfType<'_>) -> bool {
        match self.mode {
            ResolveMode::Tbd => !t.needs_resolve(),
            ResolveMode::Ptr => !t.is_modifier() && !t.is_ptr(),
            ResolveMode::StructOrArray => !t.is_modifier() && !t.is_array() && !t.is_struct(),
        }
    }

    /// The walk must go through `t` first.
    fn is_pending(&self, t: &BtfType<'_>) -> bool {
        !self.is_sink(t) && !self.is_resolved(t.id)
    }

    /// `env_stack_push`
    fn push(&mut self, t: BtfType<'a>) -> Result<(), Errno> {
        if self.stack.len() == MAX_RESOLVE_DEPTH {
            return Err(Errno::E2BIG);
        }
        match self.visit_states.get_mut(t.id as usize) {
            Some(state @ VisitState::NotVisited) => *state = VisitState::Visited,
            _ => return Err(Errno::EEXIST),
        }
        self.stack.push(ResolveVertex { t, next_member: 0 });
        if self.mode == ResolveMode::Tbd {
            if t.is_ptr() {
                self.mode = ResolveMode::Ptr;
            } else if t.is_struct() || t.is_array() {
                self.mode = ResolveMode::StructOrArray;
            }
        }
        Ok(())
    }

    /// Pushes `t`, and notes which member of the type above it comes next.
    fn push_member(&mut self, t: BtfType<'a>, next_member: u32) -> Result<(), Errno> {
        if let Some(top) = self.stack.last_mut() {
            top.next_member = next_member;
        }
        self.push(t)
    }

    /// `env_stack_pop_resolved`
    fn pop_resolved(&mut self, resolved_id: u32, resolved_size: u32) {
        if let Some(v) = self.stack.pop() {
            let id = v.t.id as usize;
            self.resolved.ids[id] = resolved_id;
            self.resolved.sizes[id] = resolved_size;
            self.visit_states[id] = VisitState::Resolved;
        }
    }

    fn type_id_size(&self, id: u32) -> Option<(BtfType<'a>, u32)> {
        self.btf.type_id_size_in(&self.resolved, id)
    }

    /// `btf_type_id_resolve`
    fn resolved_type(&self, id: u32) -> BtfType<'a> {
        self.btf.type_or_void(self.resolved.id(id))
    }

    /// `btf_resolve`
    fn resolve(&mut self, t: BtfType<'a>) -> Result<(), Errno> {
        let save_type_id = self.log.type_id;
        self.mode = ResolveMode::Tbd;
        let mut result = self.push(t);
        while result.is_ok()
            && let Some(v) = self.stack.last().copied()
        {
            self.log.type_id = v.t.id;
            result = self.step(v);
        }

        self.log.type_id = t.id;
        match result {
            Err(Errno::E2BIG) => {
                self.log.type_(&t, Some(format_args!("Exceeded max resolving depth:{MAX_RESOLVE_DEPTH}")));
            }
            Err(Errno::EEXIST) => self.log.type_(&t, Some(format_args!("Loop detected"))),
            Ok(()) if !self.resolve_valid(&t) => reject!(self.log, type &t, "Invalid resolve state"),
            _ => {}
        }
        self.log.type_id = save_type_id;
        result
    }

    /// The outcome is one that users of resolved types can rely on: `btf_resolve_valid`.
    fn resolve_valid(&self, t: &BtfType<'_>) -> bool {
        if !self.is_resolved(t.id) {
            return false;
        }
        let (id, size) = (self.resolved.id(t.id), self.resolved.size(t.id));
        if t.is_struct() || t.is_datasec() {
            return id == 0 && size == 0;
        }
        if t.is_decl_tag() || t.is_func() {
            return id != 0 && size == 0;
        }
        if t.is_modifier() || t.is_ptr() || t.is_var() {
            return self
                .btf
                .type_by_id(id)
                .is_some_and(|t| !t.is_modifier() && !t.is_var() && !t.is_datasec());
        }
        if t.is_array() {
            let array = t.array();
            return self.type_id_size(array.type_).is_some_and(|(elem, elem_size)| {
                !elem.is_modifier() && array.nelems.wrapping_mul(elem_size) == size
            });
        }
        false
    }

    /// Each kind's `resolve`: finishes the type on top of the stack, or pushes what it waits for.
    fn step(&mut self, v: ResolveVertex<'a>) -> Result<(), Errno> {
        match v.t.kind() {
            kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG => {
                self.modifier(v)
            }
            kind::VAR => self.var(v),
            kind::PTR => self.ptr(v),
            kind::ARRAY => self.array(v),
            kind::STRUCT | kind::UNION => self.struct_(v),
            kind::FUNC => {
                self.func_check(&v.t)?;
                self.pop_resolved(v.t.type_(), 0);
                Ok(())
            }
            kind::DATASEC => self.datasec(v),
            kind::DECL_TAG => self.decl_tag(v),
            _ => reject!(self.log, basic & v.t, "Unsupported resolve"),
        }
    }

    /// What a reference leads to, where that is a type that others can refer to.
    fn next_type(&mut self, v: &ResolveVertex<'a>) -> Result<BtfType<'a>, Errno> {
        match self.btf.type_by_id(v.t.type_()) {
            Some(next) if !next.is_resolve_source_only() => Ok(next),
            _ => reject!(self.log, type &v.t, "Invalid type_id"),
        }
    }

    /// The pointer that a resolved modifier stopped at, where the present walk must go on from there.
    fn pending_ptr_behind(&self, next: &BtfType<'_>) -> Option<BtfType<'a>> {
        if !next.is_modifier() {
            return None;
        }
        let ptr = self.resolved_type(next.id);
        (ptr.is_ptr() && self.is_pending(&ptr)).then_some(ptr)
    }

    /// The id that a modifier or pointer to `next` resolves to. Types without size are fine for them if they are void,
    /// forward declarations or function prototypes.
    fn sized_or_opaque(&mut self, v: &ResolveVertex<'a>, next: BtfType<'a>) -> Result<u32, Errno> {
        if let Some((t, _)) = self.type_id_size(next.id) {
            return Ok(t.id);
        }
        let target = if self.is_resolved(next.id) { self.resolved_type(next.id) } else { next };
        if !target.is_void() && !target.is_fwd() && !target.is_func_proto() {
            reject!(self.log, type &v.t, "Invalid type_id");
        }
        Ok(target.id)
    }

    fn modifier(&mut self, v: ResolveVertex<'a>) -> Result<(), Errno> {
        let next = self.next_type(&v)?;
        if self.is_pending(&next) {
            return self.push(next);
        }
        let resolved_id = self.sized_or_opaque(&v, next)?;
        let end = if next.is_modifier() { self.resolved.chain_ends[next.id as usize] } else { next.id };
        self.resolved.chain_ends[v.t.id as usize] = end;
        self.pop_resolved(resolved_id, 0);
        Ok(())
    }

    fn var(&mut self, v: ResolveVertex<'a>) -> Result<(), Errno> {
        let next = self.next_type(&v)?;
        if self.is_pending(&next) {
            return self.push(next);
        }
        if let Some(ptr) = self.pending_ptr_behind(&next) {
            return self.push(ptr);
        }
        let Some((t, _)) = self.type_id_size(next.id) else {
            reject!(self.log, type &v.t, "Invalid type_id");
        };
        self.pop_resolved(t.id, 0);
        Ok(())
    }

    fn ptr(&mut self, v: ResolveVertex<'a>) -> Result<(), Errno> {
        let next = self.next_type(&v)?;
        if self.is_pending(&next) {
            return self.push(next);
        }
        if let Some(ptr) = self.pending_ptr_behind(&next) {
            return self.push(ptr);
        }
        let resolved_id = self.sized_or_opaque(&v, next)?;
        self.pop_resolved(resolved_id, 0);
        Ok(())
    }

    /// A type that something can consist of.
    fn component_type(&self, id: u32) -> Option<BtfType<'a>> {
        self.btf.type_by_id(id).filter(|t| !t.is_nosize() && !t.is_resolve_source_only())
    }

    fn array(&mut self, v: ResolveVertex<'a>) -> Result<(), Errno> {
        let array = v.t.array();
        let Some(index_type) = self.component_type(array.index_type) else {
            reject!(self.log, type &v.t, "Invalid index");
        };
        if self.is_pending(&index_type) {
            return self.push(index_type);
        }
        match self.type_id_size(index_type.id) {
            Some((t, _)) if t.is_int() && t.int_is_regular(0) => {}
            _ => reject!(self.log, type &v.t, "Invalid index"),
        }

        let Some(elem_type) = self.component_type(array.type_) else {
            reject!(self.log, type &v.t, "Invalid elem");
        };
        if self.is_pending(&elem_type) {
            return self.push(elem_type);
        }
        let Some((elem, elem_size)) = self.type_id_size(elem_type.id) else {
            reject!(self.log, type &v.t, "Invalid elem");
        };
        if elem.is_int() && !elem.int_is_regular(0) {
            reject!(self.log, type &v.t, "Invalid array of int");
        }
        let Some(size) = elem_size.checked_mul(array.nelems) else {
            reject!(self.log, type &v.t, "Array size overflows U32_MAX");
        };
        self.pop_resolved(elem.id, size);
        Ok(())
    }

    fn struct_(&mut self, v: ResolveVertex<'a>) -> Result<(), Errno> {
        // The walk came back from the member before the next one; its size is known by now.
        if let Some(last) = v.next_member.checked_sub(1).and_then(|i| v.t.member(i)) {
            if !self.is_resolved(last.type_) {
                return Err(Errno::EINVAL);
            }
            self.check_member(&v.t, &last, self.btf.type_or_void(last.type_))?;
        }
        for i in v.next_member..v.t.vlen() {
            let Some(m) = v.t.member(i) else { break };
            let Some(member_type) = self.component_type(m.type_) else {
                reject!(self.log, member & v.t, &m, "Invalid member");
            };
            if self.is_pending(&member_type) {
                return self.push_member(member_type, i + 1);
            }
            self.check_member(&v.t, &m, member_type)?;
        }
        self.pop_resolved(0, 0);
        Ok(())
    }

    fn datasec(&mut self, v: ResolveVertex<'a>) -> Result<(), Errno> {
        self.mode = ResolveMode::Tbd;
        for i in v.next_member..v.t.vlen() {
            let Some(vsi) = v.t.vsi(i) else { break };
            let Some(var) = self.btf.type_by_id(vsi.type_).filter(|t| t.is_var()) else {
                reject!(self.log, vsi & v.t, &vsi, "Not a VAR kind member");
            };
            if self.is_pending(&var) {
                return self.push_member(var, i + 1);
            }
            let Some((_, size)) = self.type_id_size(var.type_()) else {
                reject!(self.log, vsi & v.t, &vsi, "Invalid type");
            };
            if vsi.size < size {
                reject!(self.log, vsi & v.t, &vsi, "Invalid size");
            }
        }
        self.pop_resolved(0, 0);
        Ok(())
    }

    fn decl_tag(&mut self, v: ResolveVertex<'a>) -> Result<(), Errno> {
        let Some(target) = self.btf.type_by_id(v.t.type_()).filter(BtfType::is_decl_tag_target) else {
            reject!(self.log, type &v.t, "Invalid type_id");
        };
        if self.is_pending(&target) {
            return self.push(target);
        }
        let component_idx = v.t.component_idx();
        if component_idx != -1 {
            if target.is_var() || target.is_typedef() {
                reject!(self.log, type &v.t, "Invalid component_idx");
            }
            let declaration = if target.is_struct() { target } else { self.btf.type_or_void(target.type_()) };
            if component_idx as u32 >= declaration.vlen() {
                reject!(self.log, type &v.t, "Invalid component_idx");
            }
        }
        self.pop_resolved(target.id, 0);
        Ok(())
    }

    /// `btf_func_check`
    fn func_check(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        let Some(proto) = self.btf.type_by_id(t.type_()).filter(BtfType::is_func_proto) else {
            reject!(self.log, type t, "Invalid type_id");
        };
        for (i, param) in proto.params().enumerate() {
            if param.name_off == 0 && param.type_ != 0 {
                reject!(self.log, type t, "Invalid arg#{}", i + 1);
            }
        }
        Ok(())
    }

    /// `btf_func_proto_check`
    fn func_proto_check(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        if t.type_() != 0 {
            let Some(ret) = self.btf.type_by_id(t.type_()).filter(|t| !t.is_resolve_source_only()) else {
                reject!(self.log, type t, "Invalid return type");
            };
            if ret.needs_resolve() && !self.is_resolved(ret.id) {
                self.resolve(ret)?;
            }
            if self.type_id_size(ret.id).is_none() {
                reject!(self.log, type t, "Invalid return type");
            }
        }

        let mut nr_args = t.params().len();
        if let Some(last) = t.params().next_back()
            && last.type_ == 0
        {
            if last.name_off != 0 {
                reject!(self.log, type t, "Invalid arg#{nr_args}");
            }
            nr_args -= 1;
        }
        for (i, param) in t.params().take(nr_args).enumerate() {
            let arg = i + 1;
            let Some(arg_type) = self.btf.type_by_id(param.type_).filter(|t| !t.is_resolve_source_only())
            else {
                reject!(self.log, type t, "Invalid arg#{arg}");
            };
            let name_off = param.name_off;
            if name_off != 0
                && !(self.btf.name_offset_valid(name_off) && self.btf.name_valid_identifier(name_off))
            {
                reject!(self.log, type t, "Invalid arg#{arg}");
            }
            if arg_type.needs_resolve() && !self.is_resolved(arg_type.id) {
                self.resolve(arg_type)?;
            }
            if self.type_id_size(arg_type.id).is_none() {
                reject!(self.log, type t, "Invalid arg#{arg}");
            }
        }
        Ok(())
    }

    /// The member lies in its struct, as far as its kind can tell: `check_member` and `check_kflag_member`.
    fn check_member(&mut self, s: &BtfType<'_>, m: &BtfMember, t: BtfType<'a>) -> Result<(), Errno> {
        if !t.is_modifier() {
            return self.check_plain_member(s, m, &t);
        }
        let Some((t, _)) = self.type_id_size(m.type_) else {
            reject!(self.log, member s, m, "Invalid member");
        };
        let resolved_member = BtfMember { type_: t.id, ..*m };
        self.check_plain_member(s, &resolved_member, &t)
    }

    fn check_plain_member(&mut self, s: &BtfType<'_>, m: &BtfMember, t: &BtfType<'a>) -> Result<(), Errno> {
        match (t.kind(), s.kflag()) {
            (kind::INT, false) => self.int_member(s, m, t),
            (kind::INT, true) => self.int_kflag_member(s, m, t),
            (kind::ENUM | kind::ENUM64, false) => self.aligned_member(s, m, t.size()),
            (kind::ENUM | kind::ENUM64, true) => self.enum_kflag_member(s, m),
            (kind::PTR | kind::ARRAY | kind::STRUCT | kind::UNION | kind::FLOAT, kflag) => {
                if kflag && s.member_bitfield_size(m) != 0 {
                    reject!(self.log, member s, m, "Invalid member bitfield_size");
                }
                match t.kind() {
                    kind::PTR => self.aligned_member(s, m, super::size::PTR_SIZE),
                    kind::ARRAY => self.aligned_member(s, m, self.resolved.size(t.id)),
                    kind::FLOAT => self.float_member(s, m, t),
                    _ => self.aligned_member(s, m, t.size()),
                }
            }
            (_, false) => reject!(self.log, basic s, "Unsupported check_member"),
            (_, true) => reject!(self.log, basic s, "Unsupported check_kflag_member"),
        }
    }

    /// A member of whole bytes.
    fn aligned_member(&mut self, s: &BtfType<'_>, m: &BtfMember, size: u32) -> Result<(), Errno> {
        if !m.offset.is_multiple_of(8) {
            reject!(self.log, member s, m, "Member is not byte aligned");
        }
        // Members begin inside of their struct, so this does not wrap; see MetaCheck::struct_.
        if s.size().wrapping_sub(m.offset / 8) < size {
            reject!(self.log, member s, m, "Member exceeds struct_size");
        }
        Ok(())
    }

    fn int_member(&mut self, s: &BtfType<'_>, m: &BtfMember, t: &BtfType<'_>) -> Result<(), Errno> {
        let Some(bits_off) = m.offset.checked_add(t.int_offset()) else {
            reject!(self.log, member s, m, "bits_offset exceeds U32_MAX");
        };
        self.bits_fit(s, m, bits_off, t.int_bits())
    }

    /// `nr_bits` bits at `bits_off` are inside of the struct, and an access to them is no wider than 16 bytes.
    fn bits_fit(&mut self, s: &BtfType<'_>, m: &BtfMember, bits_off: u32, nr_bits: u32) -> Result<(), Errno> {
        let bytes_offset = bits_off / 8;
        let nr_copy_bits = nr_bits + bits_off % 8;
        if nr_copy_bits > BITS_PER_U128 {
            reject!(self.log, member s, m, "nr_copy_bits exceeds 128");
        }
        if s.size() < bytes_offset || s.size() - bytes_offset < nr_copy_bits.div_ceil(8) {
            reject!(self.log, member s, m, "Member exceeds struct_size");
        }
        Ok(())
    }

    fn int_kflag_member(&mut self, s: &BtfType<'_>, m: &BtfMember, t: &BtfType<'_>) -> Result<(), Errno> {
        if !t.int_is_regular(0) {
            reject!(self.log, member s, m, "Invalid member base type");
        }
        let mut nr_bits = s.member_bitfield_size(m);
        let bits_off = s.member_bit_offset(m);
        if nr_bits == 0 {
            if !bits_off.is_multiple_of(8) {
                reject!(self.log, member s, m, "Invalid member offset");
            }
            nr_bits = t.int_bits();
        } else if nr_bits > t.int_bits() {
            reject!(self.log, member s, m, "Invalid member bitfield_size");
        }
        self.bits_fit(s, m, bits_off, nr_bits)
    }

    fn enum_kflag_member(&mut self, s: &BtfType<'_>, m: &BtfMember) -> Result<(), Errno> {
        const INT_BITS: u32 = 32;
        let mut nr_bits = s.member_bitfield_size(m);
        let bits_off = s.member_bit_offset(m);
        if nr_bits == 0 {
            if !bits_off.is_multiple_of(8) {
                reject!(self.log, member s, m, "Member is not byte aligned");
            }
            nr_bits = INT_BITS;
        } else if nr_bits > INT_BITS {
            reject!(self.log, member s, m, "Invalid member bitfield_size");
        }
        if s.size() < (bits_off + nr_bits).div_ceil(8) {
            reject!(self.log, member s, m, "Member exceeds struct_size");
        }
        Ok(())
    }

    fn float_member(&mut self, s: &BtfType<'_>, m: &BtfMember, t: &BtfType<'_>) -> Result<(), Errno> {
        let align_bits = t.size().min(8) * 8;
        if !m.offset.is_multiple_of(align_bits) {
            reject!(self.log, member s, m, "Member is not properly aligned");
        }
        if u64::from(m.offset / 8) + u64::from(t.size()) > u64::from(s.size()) {
            reject!(self.log, member s, m, "Member exceeds struct_size");
        }
        Ok(())
    }
}
