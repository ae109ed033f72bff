//! BTF: parsing, the kernel's checks, and walks over types. The counterpart of `kernel/bpf/btf.c`.
//!
//! [`Btf`] is one object: the bytes as loaded, with an index of where each type stands. [`BtfType`] is a view of one
//! type in it. Objects are immutable once parsed and shared as `Arc<Btf>`.
//!
//! - `parse`, `check`, `resolve`, `log`: what `BPF_BTF_LOAD` checks, and the log it writes
//! - `vmlinux`: the kernel's own BTF, which is trusted and not checked
//! - `record`, `fields`: special fields of map values and allocated objects
//! - `func_args`, `ctx`: what the verifier expects of the arguments of global functions
//! - `ctx_access`: contexts of programs that are attached to the kernel's functions
//! - `walk`: what lies where in the kernel's structures
//! - `size`, `name`, `index`: sizes, names and searches by name

mod check;
mod ctx;
mod ctx_access;
mod fields;
mod func_args;
mod index;
mod log;
mod map_value;
mod name;
mod parse;
mod record;
mod resolve;
mod size;
mod types;
mod vmlinux;
mod walk;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};

pub use ctx::{btf_is_prog_ctx_type, btf_is_projection_of};
pub use ctx_access::btf_ctx_access;
pub use func_args::{FuncArgsQuery, btf_prepare_func_args};
use index::{DeclTagIndex, NameIndex};
pub use map_value::MapValue;
pub use name::{is_alpha, is_print};
pub use parse::KernelBtf;
pub use record::*;
use size::Resolved;
pub use size::ResolvedSize;
pub use types::*;
pub use vmlinux::BtfFileError;
pub use walk::{StructAccess, safe};

/// Arguments of a function, as the verifier sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FuncArgs {
    pub arg_cnt: u8,
    pub args: [crate::verifier::SubprogArg; 5],
}

/// Depth of nested types that are followed: `MAX_RESOLVE_DEPTH`.
pub const MAX_RESOLVE_DEPTH: usize = 32;

/// Header of a BTF object: `struct btf_header`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct BtfHeader {
    pub magic: u16,
    pub version: u8,
    pub flags: u8,
    pub hdr_len: u32,
    pub type_off: u32,
    pub type_len: u32,
    pub str_off: u32,
    pub str_len: u32,
}

/// `sizeof(struct btf_header)`
const HEADER_SIZE: usize = 24;

/// Bytes of an object: owned, or the kernel's own, mapped.
enum Data {
    Owned(Vec<u8>),
    Mapped(memmap2::Mmap),
}

impl std::ops::Deref for Data {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Data::Owned(bytes) => bytes,
            Data::Mapped(map) => map,
        }
    }
}

/// A BTF object: `struct btf`.
///
/// Ids below `start_id` and string offsets below `start_str_off` belong to the base object of a split one; every
/// look-up follows them there.
pub struct Btf {
    data: Data,
    hdr: BtfHeader,
    /// Where in `data` each type stands, by id less `start_id`. Void, id zero of an object without base, has an entry.
    /// Kernel BTF is scanned for its types when they are first asked for.
    types: OnceLock<Vec<u32>>,
    /// End of the type section in `data`.
    types_end: usize,
    /// The string section in `data`.
    strings: std::ops::Range<usize>,
    resolved: Resolved,
    /// Structs that hold special fields, by ascending id.
    struct_metas: Vec<StructMeta>,
    base: Option<Arc<Btf>>,
    start_id: u32,
    start_str_off: u32,
    /// Id in the kernel's table of BTF objects; set once by [`Btf::set_id`].
    id: OnceLock<u32>,
    name: String,
    kernel_btf: bool,
    uid: u64,
    names: [OnceLock<NameIndex>; kind::COUNT],
    decl_tags: OnceLock<DeclTagIndex>,
}

/// Two handles are of the same object.
impl PartialEq for Btf {
    fn eq(&self, other: &Self) -> bool {
        self.uid == other.uid
    }
}

impl Eq for Btf {}

impl fmt::Debug for Btf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Btf {{ id: {}, name: {:?}, types: {} }}", self.id(), self.name, self.nr_types())
    }
}

impl Btf {
    /// An object over `data` without any type yet.
    fn new(data: Data, base: Option<Arc<Btf>>, name: &str, kernel_btf: bool) -> Self {
        static NEXT_UID: AtomicU64 = AtomicU64::new(1);
        let (start_id, start_str_off) =
            base.as_ref().map_or((0, 0), |base| (base.nr_types(), base.start_str_off + base.hdr.str_len));
        Btf {
            data,
            hdr: BtfHeader::default(),
            types: OnceLock::new(),
            types_end: 0,
            strings: 0..0,
            resolved: Resolved::default(),
            struct_metas: Vec::new(),
            base,
            start_id,
            start_str_off,
            id: OnceLock::new(),
            name: name.to_owned(),
            kernel_btf,
            uid: NEXT_UID.fetch_add(1, Ordering::Relaxed),
            names: Default::default(),
            decl_tags: OnceLock::new(),
        }
    }

    /// Id in the table of BTF objects, zero before it has one.
    pub fn id(&self) -> u32 {
        self.id.get().copied().unwrap_or(0)
    }

    /// Gives the object its id. A second call changes nothing.
    pub fn set_id(&self, id: u32) {
        let _ = self.id.set(id);
    }

    /// Name: `vmlinux`, a module's name, or empty for objects loaded through bpf(2).
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Of the kernel or of a module: `btf_is_kernel`.
    pub fn is_kernel(&self) -> bool {
        self.kernel_btf
    }

    /// `btf_is_vmlinux`
    pub fn is_vmlinux(&self) -> bool {
        self.kernel_btf && self.base.is_none()
    }

    /// `btf_is_module`
    pub fn is_module(&self) -> bool {
        self.kernel_btf && self.base.is_some()
    }

    /// The object that a split one extends.
    pub fn base_btf(&self) -> Option<&Arc<Btf>> {
        self.base.as_ref()
    }

    /// The bytes as they were loaded.
    pub fn raw(&self) -> &[u8] {
        &self.data
    }

    /// The header, as far as the object has one.
    pub fn header(&self) -> &BtfHeader {
        &self.hdr
    }

    /// Number that no other object of this process has, ever.
    pub fn uid(&self) -> u64 {
        self.uid
    }

    /// Number of types, void and those of the base included: `btf_nr_types`. Ids are below it.
    #[inline]
    pub fn nr_types(&self) -> u32 {
        self.start_id + self.offsets().len() as u32
    }

    /// Type by id: `btf_type_by_id`.
    #[inline]
    pub fn type_by_id(&self, id: u32) -> Option<BtfType<'_>> {
        let Some(local) = id.checked_sub(self.start_id) else {
            return self.base.as_ref()?.type_by_id(id);
        };
        let at = *self.offsets().get(local as usize)?;
        if id == 0 {
            return Some(BtfType::VOID);
        }
        self.type_at(id, at as usize)
    }

    #[inline]
    fn offsets(&self) -> &[u32] {
        self.types.get_or_init(|| self.scan())
    }

    /// Decodes the type that stands at byte `at` of the data.
    #[inline]
    fn type_at(&self, id: u32, at: usize) -> Option<BtfType<'_>> {
        let data = self.data.get(at..self.types_end)?;
        Some(BtfType {
            id,
            name_off: word(data, 0)?,
            info: word(data, 4)?,
            size_or_type: word(data, 8)?,
            tail: &data[TYPE_HEADER_SIZE..],
        })
    }

    /// The type, or void where there is none. For ids that parsing has checked.
    #[inline]
    pub fn type_or_void(&self, id: u32) -> BtfType<'_> {
        self.type_by_id(id).unwrap_or(BtfType::VOID)
    }

    /// Every type by ascending id, void and the base's types left out.
    pub fn types(&self) -> impl Iterator<Item = BtfType<'_>> {
        (self.start_id.max(1)..self.nr_types()).filter_map(|id| self.type_by_id(id))
    }

    /// Follows typedefs, qualifiers and type tags: `btf_type_skip_modifiers`. The view's `id` is what the kernel
    /// returns through `res_id`.
    #[inline]
    pub fn skip_modifiers(&self, id: u32) -> BtfType<'_> {
        let t = self.type_or_void(id);
        if !t.is_modifier() {
            return t;
        }
        match self.resolved.chain_ends.get(id as usize) {
            Some(&end) => self.type_or_void(end),
            None => self.skip_while(t, |t| t.is_modifier()),
        }
    }

    /// The same, up to the first typedef: `btf_type_skip_qualifiers`.
    pub fn skip_qualifiers(&self, id: u32) -> BtfType<'_> {
        self.skip_while(self.type_or_void(id), |t| t.is_modifier() && !t.is_typedef())
    }

    /// Follows references as long as `skip` says so. A cycle, which only unchecked BTF can have, ends as void.
    fn skip_while<'a>(&'a self, mut t: BtfType<'a>, skip: impl Fn(&BtfType<'_>) -> bool) -> BtfType<'a> {
        let mut steps = self.nr_types();
        while skip(&t) {
            if steps == 0 {
                return BtfType::VOID;
            }
            steps -= 1;
            t = self.type_or_void(t.type_());
        }
        t
    }

    /// What a pointer points to, modifiers skipped on both sides; `None` for other types: `btf_type_resolve_ptr`.
    pub fn resolve_ptr(&self, id: u32) -> Option<BtfType<'_>> {
        let t = self.skip_modifiers(id);
        t.is_ptr().then(|| self.skip_modifiers(t.type_()))
    }

    /// Prototype behind a pointer to function: `btf_type_resolve_func_ptr`.
    pub fn resolve_func_ptr(&self, id: u32) -> Option<BtfType<'_>> {
        self.resolve_ptr(id).filter(BtfType::is_func_proto)
    }
}

#[cfg(test)]
mod tests;
