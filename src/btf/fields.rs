//! Search for special fields in the types of map values and of allocated objects (`btf_parse_fields`).
//!
//! The search looks into nested structs and arrays. A struct in which nothing was found is remembered, so that it is
//! searched once however often it is nested.

use bpftwin_uapi::Errno;
use rustc_hash::FxHashMap;

use super::name::{KSYM_NAME_LEN, until_nul};
use super::record::{field::*, *};
use super::types::*;
use super::{Btf, KernelBtf, MAX_RESOLVE_DEPTH};

const PAGE_SIZE: u32 = 4096;

/// Kernel types that references to may be kept in maps, and the functions that release them, as the kernel's
/// `register_btf_id_dtor_kfuncs` calls name them.
const DTORS: [(&str, &str); 8] = [
    ("task_struct", "bpf_task_release_dtor"),
    ("cgroup", "bpf_cgroup_release_dtor"),
    ("bpf_cpumask", "bpf_cpumask_release_dtor"),
    ("bpf_crypto_ctx", "bpf_crypto_ctx_release_dtor"),
    // The name before 6.18's stable updates.
    ("bpf_crypto_ctx", "bpf_crypto_ctx_release"),
    ("sk_buff", "bpf_kfree_skb"),
    ("prog_test_ref_kfunc", "bpf_kfunc_call_test_release_dtor"),
    ("prog_test_member", "bpf_kfunc_call_memb_release_dtor"),
];

/// Structs that make the structs which have them as members worth a record: `alloc_obj_fields`.
const ALLOC_OBJ_FIELDS: [&str; 6] =
    ["bpf_spin_lock", "bpf_list_head", "bpf_list_node", "bpf_rb_root", "bpf_rb_node", "bpf_refcount"];

/// Fields of allocated objects.
const ALLOC_OBJ_FIELD_MASK: u32 = BPF_SPIN_LOCK
    | BPF_RES_SPIN_LOCK
    | BPF_LIST_HEAD
    | BPF_LIST_NODE
    | BPF_RB_ROOT
    | BPF_RB_NODE
    | BPF_REFCOUNT
    | BPF_KPTR;

/// A field that was found: `struct btf_field_info`.
#[derive(Clone, Copy)]
struct FieldInfo<'a> {
    type_: u32,
    off: u32,
    target: Target<'a>,
}

#[derive(Clone, Copy)]
enum Target<'a> {
    None,
    Kptr { type_id: u32 },
    GraphRoot { node_name: &'a [u8], value_btf_id: u32 },
}

/// A search for fields of the types in `mask`.
struct Finder<'a> {
    btf: &'a Btf,
    mask: u32,
    /// Fields found so far, [`BTF_FIELDS_MAX`] at most.
    infos: Vec<FieldInfo<'a>>,
    /// Structs without any field, with the depth of what is nested in them.
    empty: FxHashMap<u32, u32>,
}

impl Btf {
    /// Special fields of `t`, a struct or data section of `value_size` bytes, among the types in `field_mask`:
    /// `btf_parse_fields`. `None` where it has none.
    pub fn parse_fields(
        &self,
        t: &BtfType<'_>,
        field_mask: u32,
        value_size: u32,
        kernel: KernelBtf<'_>,
    ) -> Result<Option<BtfRecord>, Errno> {
        Finder::new(self, field_mask).parse_fields(t, value_size, kernel)
    }

    /// Record of an allocated object's type: `btf_find_struct_meta`.
    pub fn find_struct_meta(&self, btf_id: u32) -> Option<&StructMeta> {
        let at = self.struct_metas.binary_search_by_key(&btf_id, |meta| meta.btf_id).ok()?;
        self.struct_metas.get(at)
    }

    /// Structs that hold special fields and so have records for allocated objects: `btf_parse_struct_metas`.
    pub(super) fn parse_struct_metas(&self, kernel: KernelBtf<'_>) -> Result<Vec<StructMeta>, Errno> {
        let mut marks = vec![false; self.nr_types() as usize];
        let mut any = false;
        let mut mark = |id: u32| {
            if let Some(mark) = marks.get_mut(id as usize) {
                *mark = true;
                any = true;
            }
        };
        for name in ALLOC_OBJ_FIELDS {
            if let Ok(id) = self.find_by_name_kind(name, kind::STRUCT) {
                mark(id);
            }
        }
        for t in self.types() {
            if matches!(self.find_kptr(t, 0, BPF_KPTR), Ok(Some(_))) {
                mark(t.id);
            }
        }
        if !any {
            return Ok(Vec::new());
        }

        let mut finder = Finder::new(self, ALLOC_OBJ_FIELD_MASK);
        let mut metas = Vec::new();
        for t in self.types().filter(BtfType::is_strict_struct) {
            if !t.members().any(|m| marks.get(m.type_ as usize) == Some(&true)) {
                continue;
            }
            let record = finder.parse_fields(&t, t.size(), kernel)?.ok_or(Errno::EFAULT)?;
            metas.push(StructMeta { btf_id: t.id, record });
        }
        Ok(metas)
    }

    /// User pointers are to types that fit in a page, and ownership between allocated objects has no cycle:
    /// `btf_check_and_fixup_fields`.
    ///
    /// A type that has a list or tree node can be owned, one that has a head or root owns. The rule is that what a type
    /// of both sorts owns does not own anything itself.
    pub fn check_and_fixup_fields(&self, rec: &BtfRecord) -> Result<(), Errno> {
        if !rec.has_field(BPF_GRAPH_ROOT | BPF_UPTR) {
            return Ok(());
        }
        for field in &rec.fields {
            match &field.details {
                FieldDetails::Kptr(kptr) if field.type_ == BPF_UPTR => {
                    if kptr.kernel_btf.is_some() {
                        return Err(Errno::EINVAL);
                    }
                    match self.type_or_void(kptr.btf_id).size() {
                        0 => return Err(Errno::EINVAL),
                        size if size > PAGE_SIZE => return Err(Errno::E2BIG),
                        _ => {}
                    }
                }
                FieldDetails::GraphRoot(root) => {
                    let meta = self.find_struct_meta(root.value_btf_id).ok_or(Errno::EFAULT)?;
                    if rec.has_field(BPF_GRAPH_NODE) && meta.record.has_field(BPF_GRAPH_ROOT) {
                        return Err(Errno::ELOOP);
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// `t` is a pointer to a tagged struct: `btf_find_kptr`. `EINVAL` for tags that mean nothing.
    fn find_kptr(&self, t: BtfType<'_>, off: u32, mask: u32) -> Result<Option<FieldInfo<'_>>, Errno> {
        let t = if t.is_volatile() { self.type_or_void(t.type_()) } else { t };
        if !t.is_ptr() {
            return Ok(None);
        }
        let tag = self.type_or_void(t.type_());
        if !tag.is_type_tag() || tag.kflag() {
            return Ok(None);
        }
        if self.type_or_void(tag.type_()).is_type_tag() {
            return Err(Errno::EINVAL);
        }
        let is = |value: &str| self.str_is(tag.name_off, value);
        let type_ = if is("kptr_untrusted") {
            BPF_KPTR_UNREF
        } else if is("kptr") {
            BPF_KPTR_REF
        } else if is("percpu_kptr") {
            BPF_KPTR_PERCPU
        } else if is("uptr") {
            BPF_UPTR
        } else {
            return Err(Errno::EINVAL);
        };
        if type_ & mask == 0 {
            return Ok(None);
        }
        let target = self.skip_modifiers(tag.type_());
        if !target.is_strict_struct() {
            return Err(Errno::EINVAL);
        }
        Ok(Some(FieldInfo { type_, off, target: Target::Kptr { type_id: target.id } }))
    }

    /// `btf_find_graph_root`: `target` and `comp_idx` say where the tag is that names the values.
    fn find_graph_root(
        &self,
        target: u32,
        comp_idx: i32,
        off: u32,
        head_type: u32,
    ) -> Result<Option<FieldInfo<'_>>, Errno> {
        let value = self.decl_tag_rest(target, comp_idx, "contains:").map_err(|_| Errno::EINVAL)?;
        let end = value.iter().position(|&c| c == b':' || c == 0).ok_or(Errno::EINVAL)?;
        let (type_name, rest) = value.split_at(end);
        let [b':', rest @ ..] = rest else { return Err(Errno::EINVAL) };
        let value_btf_id = self.find_by_name_kind(type_name, kind::STRUCT)?;
        // No member has a name that is longer.
        let node_name = until_nul(&rest[..rest.len().min(KSYM_NAME_LEN + 1)]);
        if node_name.is_empty() {
            return Err(Errno::EINVAL);
        }
        Ok(Some(FieldInfo { type_: head_type, off, target: Target::GraphRoot { node_name, value_btf_id } }))
    }

    /// `btf_parse_kptr`
    fn parse_kptr(&self, type_: u32, type_id: u32, kernel: KernelBtf<'_>) -> Result<KptrField, Errno> {
        let t = self.type_or_void(type_id);
        let kernel_btf = kernel().ok_or(Errno::EINVAL)?;
        let name = self.log_name(t.name_off, usize::MAX);
        let Ok(btf_id) = kernel_btf.find_by_name_kind(name, t.kind()) else {
            // A type of the program's own, for objects from bpf_obj_new.
            return Ok(KptrField { kernel_btf: None, btf_uid: self.uid(), btf_id: type_id, dtor_btf_id: 0 });
        };
        let dtor_btf_id =
            if type_ == BPF_KPTR_REF { kernel_btf.find_dtor_kfunc(btf_id).ok_or(Errno::ENOENT)? } else { 0 };
        Ok(KptrField { btf_uid: kernel_btf.uid(), kernel_btf: Some(kernel_btf), btf_id, dtor_btf_id })
    }

    /// The function that releases objects of this kernel type: `btf_find_dtor_kfunc`.
    pub fn find_dtor_kfunc(&self, btf_id: u32) -> Option<u32> {
        let t = self.type_by_id(btf_id)?;
        DTORS
            .iter()
            .filter(|(object, _)| self.str_is(t.name_off, object))
            .find_map(|(_, dtor)| self.find_by_name_kind(dtor, kind::FUNC).ok())
    }

    /// `btf_parse_graph_root`: finds the node by which values hang in the list or tree.
    fn parse_graph_root(
        &self,
        node_name: &[u8],
        value_btf_id: u32,
        node_type_name: &str,
    ) -> Result<GraphRootField, Errno> {
        const NODE_ALIGN: u32 = 8;
        let mut root = None;
        for m in self.type_or_void(value_btf_id).members() {
            if self.log_name(m.name_off, KSYM_NAME_LEN + 1) != node_name {
                continue;
            }
            if root.is_some() {
                return Err(Errno::EINVAL);
            }
            let node = self.type_or_void(m.type_);
            if !node.is_strict_struct() || !self.str_is(node.name_off, node_type_name) {
                return Err(Errno::EINVAL);
            }
            // The kernel asks the node's type, not the value's, how the member's offset is to be read.
            let bit_offset = node.member_bit_offset(&m);
            if !bit_offset.is_multiple_of(8 * NODE_ALIGN) {
                return Err(Errno::EINVAL);
            }
            root = Some(GraphRootField { btf_uid: self.uid(), value_btf_id, node_offset: bit_offset / 8 });
        }
        root.ok_or(Errno::ENOENT)
    }
}

impl<'a> Finder<'a> {
    fn new(btf: &'a Btf, mask: u32) -> Self {
        Finder { btf, mask, infos: Vec::new(), empty: FxHashMap::default() }
    }

    fn parse_fields(
        &mut self,
        t: &BtfType<'_>,
        value_size: u32,
        kernel: KernelBtf<'_>,
    ) -> Result<Option<BtfRecord>, Errno> {
        self.infos.clear();
        if t.is_strict_struct() {
            self.find_struct_field(t, 0)?;
        } else if t.is_datasec() {
            self.find_datasec_var(t)?;
        } else {
            return Err(Errno::EINVAL);
        }
        if self.infos.is_empty() {
            return Ok(None);
        }
        self.record(value_size, kernel).map(Some)
    }

    /// Makes the record of the fields that were found.
    fn record(&self, value_size: u32, kernel: KernelBtf<'_>) -> Result<BtfRecord, Errno> {
        let mut rec = BtfRecord::new();
        let mut next_off = 0;
        for info in &self.infos {
            let (type_, offset) = (info.type_, info.off);
            let size = btf_field_type_size(type_);
            let end = offset.wrapping_add(size);
            if end > value_size {
                return Err(Errno::EFAULT);
            }
            if offset < next_off {
                return Err(Errno::EEXIST);
            }
            next_off = end;
            rec.field_mask |= type_;
            match type_ {
                BPF_SPIN_LOCK => rec.spin_lock_off = offset as i32,
                BPF_RES_SPIN_LOCK => rec.res_spin_lock_off = offset as i32,
                BPF_TIMER => rec.timer_off = offset as i32,
                BPF_WORKQUEUE => rec.wq_off = offset as i32,
                BPF_TASK_WORK => rec.task_work_off = offset as i32,
                BPF_REFCOUNT => rec.refcount_off = offset as i32,
                _ => {}
            }
            let details = match info.target {
                Target::None => FieldDetails::Plain,
                Target::Kptr { type_id } => FieldDetails::Kptr(self.btf.parse_kptr(type_, type_id, kernel)?),
                Target::GraphRoot { node_name, value_btf_id } => {
                    let node_type = if type_ == BPF_LIST_HEAD { "bpf_list_node" } else { "bpf_rb_node" };
                    FieldDetails::GraphRoot(self.btf.parse_graph_root(node_name, value_btf_id, node_type)?)
                }
            };
            rec.fields.push(BtfField { offset, size, type_, details });
        }

        let (lock, res_lock) = (rec.spin_lock_off >= 0, rec.res_spin_lock_off >= 0);
        let roots_unlocked = rec.has_field(BPF_GRAPH_ROOT) && !lock && !res_lock;
        let shared_uncounted =
            rec.refcount_off < 0 && rec.has_field(BPF_LIST_NODE) && rec.has_field(BPF_RB_NODE);
        if lock && res_lock || roots_unlocked || shared_uncounted {
            return Err(Errno::EINVAL);
        }
        rec.fields.sort_by_key(|field| field.offset);
        Ok(rec)
    }

    /// `btf_find_struct_field`. Returns how deep structs nest below.
    fn find_struct_field(&mut self, t: &BtfType<'_>, level: u32) -> Result<u32, Errno> {
        let mut seen_mask = 0;
        let mut depth = 0;
        for (i, m) in t.members().enumerate() {
            let bit_off = t.member_bit_offset(&m);
            if !bit_off.is_multiple_of(8) {
                return Err(Errno::EINVAL);
            }
            let place = Place { target: t.id, comp_idx: i as i32, off: bit_off / 8, size: 0, level };
            depth = depth.max(self.find_field_one(m.type_, &place, &mut seen_mask)?);
        }
        Ok(depth)
    }

    /// `btf_find_datasec_var`
    fn find_datasec_var(&mut self, t: &BtfType<'_>) -> Result<(), Errno> {
        let mut seen_mask = 0;
        for vsi in t.vsis() {
            let var = self.btf.type_or_void(vsi.type_);
            let place = Place { target: var.id, comp_idx: -1, off: vsi.offset, size: vsi.size, level: 0 };
            self.find_field_one(var.type_(), &place, &mut seen_mask)?;
        }
        Ok(())
    }

    /// `btf_find_field_one`. Returns how deep structs nest in the field.
    fn find_field_one(&mut self, type_id: u32, place: &Place, seen_mask: &mut u32) -> Result<u32, Errno> {
        let mut t = self.btf.type_or_void(type_id);
        let mut nelems = 1u32;
        let mut dimensions = 0;
        while t.is_array() {
            dimensions += 1;
            if dimensions == MAX_RESOLVE_DEPTH {
                return Err(Errno::E2BIG);
            }
            let array = t.array();
            nelems = nelems.wrapping_mul(array.nelems);
            t = self.btf.type_or_void(array.type_);
        }
        if nelems == 0 {
            return Ok(0);
        }

        let Some(found) = self.field_type(&t, seen_mask)? else {
            if t.is_strict_struct() && place.is_filled_by(t.size(), nelems) {
                return self.find_nested_struct(&t, place, nelems);
            }
            return Ok(0);
        };
        if !place.is_filled_by(found.size, nelems) || !place.off.is_multiple_of(found.align) {
            return Ok(0);
        }
        let info = match found.type_ {
            BPF_KPTR_REF => self.btf.find_kptr(t, place.off, self.mask)?,
            _ if !t.is_strict_struct() || t.size() != found.size => None,
            BPF_LIST_HEAD | BPF_RB_ROOT => {
                self.btf.find_graph_root(place.target, place.comp_idx, place.off, found.type_)?
            }
            type_ => Some(FieldInfo { type_, off: place.off, target: Target::None }),
        };
        let Some(info) = info else { return Ok(0) };
        if self.infos.len() >= BTF_FIELDS_MAX {
            return Err(Errno::E2BIG);
        }
        self.infos.push(info);
        if nelems > 1 {
            self.repeat_fields(self.infos.len() - 1, nelems, found.size)?;
        }
        Ok(0)
    }

    /// `btf_find_nested_struct`
    fn find_nested_struct(&mut self, t: &BtfType<'_>, place: &Place, nelems: u32) -> Result<u32, Errno> {
        let level = place.level + 1;
        let too_deep = |deepest: u32| deepest >= MAX_RESOLVE_DEPTH as u32;
        let known = self.empty.get(&t.id).copied();
        if too_deep(level + known.unwrap_or(0)) {
            return Err(Errno::E2BIG);
        }
        if let Some(depth) = known {
            return Ok(depth + 1);
        }
        let first = self.infos.len();
        let depth = self.find_struct_field(t, level)?;
        if self.infos.len() == first {
            self.empty.insert(t.id, depth);
            return Ok(depth + 1);
        }
        for info in &mut self.infos[first..] {
            info.off = info.off.wrapping_add(place.off);
        }
        if nelems > 1 {
            self.repeat_fields(first, nelems, t.size())?;
        }
        Ok(depth + 1)
    }

    /// The fields from `first` on are in each of `nelems` array elements: `btf_repeat_fields`.
    fn repeat_fields(&mut self, first: usize, nelems: u32, elem_size: u32) -> Result<(), Errno> {
        const REPEATABLE: u32 = BPF_KPTR | BPF_UPTR | BPF_LIST_HEAD | BPF_RB_ROOT;
        if self.infos[first..].iter().any(|info| info.type_ & REPEATABLE == 0) {
            return Err(Errno::EINVAL);
        }
        let count = self.infos.len() - first;
        if count as u64 * u64::from(nelems) > (BTF_FIELDS_MAX - first) as u64 {
            return Err(Errno::E2BIG);
        }
        for i in 1..nelems {
            for j in first..first + count {
                let mut info = self.infos[j];
                info.off = info.off.wrapping_add(i.wrapping_mul(elem_size));
                self.infos.push(info);
            }
        }
        Ok(())
    }

    /// What a field of type `t` may be: `btf_get_field_type`.
    fn field_type(&self, t: &BtfType<'_>, seen_mask: &mut u32) -> Result<Option<Candidate>, Errno> {
        for field in &FIELD_TYPES {
            if self.mask & field.type_ == 0 || !self.btf.str_is(t.name_off, field.name) {
                continue;
            }
            if field.is_unique {
                if *seen_mask & field.type_ != 0 {
                    return Err(Errno::E2BIG);
                }
                *seen_mask |= field.type_;
            }
            return Ok(Some(Candidate { type_: field.type_, size: field.size, align: field.align }));
        }
        let pointer = self.mask & (BPF_KPTR | BPF_UPTR) != 0 && !t.is_strict_struct();
        Ok(pointer.then_some(Candidate { type_: BPF_KPTR_REF, size: 8, align: 8 }))
    }
}

/// A type of fields that may match; all pointers go by the name of `BPF_KPTR_REF` here.
struct Candidate {
    type_: u32,
    size: u32,
    align: u32,
}

/// Where a field stands.
struct Place {
    /// Type that declaration tags are on, and the component of it.
    target: u32,
    comp_idx: i32,
    /// Byte offset.
    off: u32,
    /// Bytes that the field must fill; zero: any number.
    size: u32,
    level: u32,
}

impl Place {
    fn is_filled_by(&self, size: u32, nelems: u32) -> bool {
        self.size == 0 || self.size == size.wrapping_mul(nelems)
    }
}
