//! Special fields of a map value or of an allocated object: what they are, where, and how they are found in a record.

use std::sync::Arc;

use super::Btf;

/// Types of special fields, a bit each: `enum btf_field_type`.
pub mod field {
    pub const BPF_SPIN_LOCK: u32 = 1 << 0;
    pub const BPF_TIMER: u32 = 1 << 1;
    pub const BPF_KPTR_UNREF: u32 = 1 << 2;
    pub const BPF_KPTR_REF: u32 = 1 << 3;
    pub const BPF_KPTR_PERCPU: u32 = 1 << 4;
    pub const BPF_KPTR: u32 = BPF_KPTR_UNREF | BPF_KPTR_REF | BPF_KPTR_PERCPU;
    pub const BPF_LIST_HEAD: u32 = 1 << 5;
    pub const BPF_LIST_NODE: u32 = 1 << 6;
    pub const BPF_RB_ROOT: u32 = 1 << 7;
    pub const BPF_RB_NODE: u32 = 1 << 8;
    pub const BPF_GRAPH_NODE: u32 = BPF_RB_NODE | BPF_LIST_NODE;
    pub const BPF_GRAPH_ROOT: u32 = BPF_RB_ROOT | BPF_LIST_HEAD;
    pub const BPF_REFCOUNT: u32 = 1 << 9;
    pub const BPF_WORKQUEUE: u32 = 1 << 10;
    pub const BPF_UPTR: u32 = 1 << 11;
    pub const BPF_RES_SPIN_LOCK: u32 = 1 << 12;
    pub const BPF_TASK_WORK: u32 = 1 << 13;

    /// Fields that a map value may have; `map_check_btf` asks for these.
    pub const MAP_VALUE_FIELDS: u32 = BPF_SPIN_LOCK
        | BPF_RES_SPIN_LOCK
        | BPF_TIMER
        | BPF_KPTR
        | BPF_LIST_HEAD
        | BPF_RB_ROOT
        | BPF_REFCOUNT
        | BPF_WORKQUEUE
        | BPF_UPTR
        | BPF_TASK_WORK;
}

use field::*;

/// Special fields of one value at most: `BTF_FIELDS_MAX`.
pub const BTF_FIELDS_MAX: usize = 11;

/// What is known of a type of special fields.
pub(super) struct FieldType {
    pub type_: u32,
    /// Name of the struct that marks the field.
    pub name: &'static str,
    pub size: u32,
    pub align: u32,
    /// A value has one at most.
    pub is_unique: bool,
}

const fn field_type(type_: u32, name: &'static str, size: u32, align: u32, is_unique: bool) -> FieldType {
    FieldType { type_, name, size, align, is_unique }
}

/// Fields that are recognised by the name of their type, in the order of the search.
pub(super) const FIELD_TYPES: [FieldType; 10] = [
    field_type(BPF_SPIN_LOCK, "bpf_spin_lock", 4, 4, true),
    field_type(BPF_RES_SPIN_LOCK, "bpf_res_spin_lock", 4, 4, true),
    field_type(BPF_TIMER, "bpf_timer", 16, 8, true),
    field_type(BPF_WORKQUEUE, "bpf_wq", 16, 8, true),
    field_type(BPF_TASK_WORK, "bpf_task_work", 8, 8, true),
    field_type(BPF_LIST_HEAD, "bpf_list_head", 16, 8, false),
    field_type(BPF_LIST_NODE, "bpf_list_node", 24, 8, false),
    field_type(BPF_RB_ROOT, "bpf_rb_root", 16, 8, false),
    field_type(BPF_RB_NODE, "bpf_rb_node", 32, 8, false),
    field_type(BPF_REFCOUNT, "bpf_refcount", 4, 4, false),
];

/// Size of a field of this type: `btf_field_type_size`. Pointers to kernel objects and to pages of the user are words.
pub fn btf_field_type_size(type_: u32) -> u32 {
    FIELD_TYPES.iter().find(|f| f.type_ == type_).map_or(8, |f| f.size)
}

/// Name of a type of fields in messages: `btf_field_type_name`.
pub fn btf_field_type_name(type_: u32) -> &'static str {
    match type_ {
        BPF_KPTR_UNREF | BPF_KPTR_REF => "kptr",
        BPF_KPTR_PERCPU => "percpu_kptr",
        BPF_UPTR => "uptr",
        _ => FIELD_TYPES.iter().find(|f| f.type_ == type_).map_or("unknown", |f| f.name),
    }
}

/// Details of a field, by its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldDetails {
    /// Locks, timers, nodes, reference counts.
    Plain,
    /// Pointer to a kernel object, to an allocated object, or to user memory: `struct btf_field_kptr`.
    Kptr(KptrField),
    /// List head or tree root: `struct btf_field_graph_root`.
    GraphRoot(GraphRootField),
}

/// `struct btf_field_kptr`
#[derive(Clone, Debug)]
pub struct KptrField {
    /// The kernel's BTF, where the kernel has the type; `None`: the BTF that the record was made from.
    pub kernel_btf: Option<Arc<Btf>>,
    /// [`Btf::uid`] of the one that `btf_id` is an id in.
    pub btf_uid: u64,
    pub btf_id: u32,
    /// Id of the kernel's function that releases the object, in `kernel_btf`; zero where there is none.
    pub dtor_btf_id: u32,
}

impl PartialEq for KptrField {
    fn eq(&self, other: &Self) -> bool {
        (self.btf_uid, self.btf_id, self.dtor_btf_id) == (other.btf_uid, other.btf_id, other.dtor_btf_id)
    }
}

impl Eq for KptrField {}

/// `struct btf_field_graph_root`. The record of the values is that of
/// [`Btf::find_struct_meta`]`(value_btf_id)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GraphRootField {
    /// [`Btf::uid`] of the BTF that the record was made from.
    pub btf_uid: u64,
    pub value_btf_id: u32,
    /// Offset of the node in the value, in bytes.
    pub node_offset: u32,
}

/// One special field: `struct btf_field`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BtfField {
    pub offset: u32,
    pub size: u32,
    /// One of [`field`]'s bits.
    pub type_: u32,
    pub details: FieldDetails,
}

impl BtfField {
    /// The pointer's details, where the field is one.
    pub fn kptr(&self) -> Option<&KptrField> {
        match &self.details {
            FieldDetails::Kptr(kptr) => Some(kptr),
            _ => None,
        }
    }

    /// The root's details, where the field is one.
    pub fn graph_root(&self) -> Option<&GraphRootField> {
        match &self.details {
            FieldDetails::GraphRoot(root) => Some(root),
            _ => None,
        }
    }
}

/// Special fields of one type: `struct btf_record`. Equal records are those of `btf_record_equal`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BtfRecord {
    /// Types of the fields.
    pub field_mask: u32,
    /// Offsets of fields that there is one of at most; negative where there is none.
    pub spin_lock_off: i32,
    pub res_spin_lock_off: i32,
    pub timer_off: i32,
    pub wq_off: i32,
    pub refcount_off: i32,
    pub task_work_off: i32,
    /// By ascending offset.
    pub fields: Vec<BtfField>,
}

impl BtfRecord {
    pub(super) fn new() -> Self {
        const NONE: i32 = -bpftwin_uapi::Errno::EINVAL.0;
        BtfRecord {
            field_mask: 0,
            spin_lock_off: NONE,
            res_spin_lock_off: NONE,
            timer_off: NONE,
            wq_off: NONE,
            refcount_off: NONE,
            task_work_off: NONE,
            fields: Vec::new(),
        }
    }

    /// There are fields of any of these types: `btf_record_has_field`.
    #[inline]
    pub fn has_field(&self, field_mask: u32) -> bool {
        self.field_mask & field_mask != 0
    }

    /// The field that begins at `offset`, if it is of one of these types: `btf_record_find`.
    pub fn find(&self, offset: u32, field_mask: u32) -> Option<&BtfField> {
        if !self.has_field(field_mask) {
            return None;
        }
        let at = self.fields.binary_search_by_key(&offset, |field| field.offset).ok()?;
        self.fields.get(at).filter(|field| field.type_ & field_mask != 0)
    }
}

/// A struct with special fields: `struct btf_struct_meta`.
#[derive(Debug)]
pub struct StructMeta {
    pub btf_id: u32,
    pub record: BtfRecord,
}
