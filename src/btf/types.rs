//! One BTF type as a view into its object: the wire records of `include/uapi/linux/btf.h`, decoded on access.
//!
//! A view is two words and three numbers; it is copied freely. Records behind the common header (members, enumerators,
//! parameters, …) are iterated in place, and reading past the end of the data yields nothing.

/// `BTF_MAGIC`
pub const BTF_MAGIC: u16 = 0xeb9f;
/// `BTF_VERSION`
pub const BTF_VERSION: u8 = 1;
/// Number of type ids, void included: `BTF_MAX_TYPE`.
pub const BTF_MAX_TYPE: u32 = 0x000f_ffff;
/// Largest offset into the string section: `BTF_MAX_NAME_OFFSET`.
pub const BTF_MAX_NAME_OFFSET: u32 = 0x00ff_ffff;
/// Largest BTF object that bpf(2) takes: `BTF_MAX_SIZE`.
pub const BTF_MAX_SIZE: usize = 16 * 1024 * 1024;
/// Bits of `info` that may be set: `BTF_INFO_MASK`.
pub const BTF_INFO_MASK: u32 = 0x9f00_ffff;

/// `BTF_INT_SIGNED`, an encoding of an integer.
pub const BTF_INT_SIGNED: u32 = 1;
/// `BTF_INT_CHAR`
pub const BTF_INT_CHAR: u32 = 2;
/// `BTF_INT_BOOL`
pub const BTF_INT_BOOL: u32 = 4;

/// Linkage of functions: `enum btf_func_linkage`.
pub const BTF_FUNC_STATIC: u32 = 0;
/// `BTF_FUNC_GLOBAL`
pub const BTF_FUNC_GLOBAL: u32 = 1;
/// `BTF_FUNC_EXTERN`
pub const BTF_FUNC_EXTERN: u32 = 2;

/// Linkage of variables: `BTF_VAR_STATIC`.
pub const BTF_VAR_STATIC: u32 = 0;
/// `BTF_VAR_GLOBAL_ALLOCATED`
pub const BTF_VAR_GLOBAL_ALLOCATED: u32 = 1;

/// Kinds of types, `BTF_KIND_*`, and their names in logs.
pub mod kind {
    pub const UNKN: u32 = 0;
    pub const INT: u32 = 1;
    pub const PTR: u32 = 2;
    pub const ARRAY: u32 = 3;
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const FWD: u32 = 7;
    pub const TYPEDEF: u32 = 8;
    pub const VOLATILE: u32 = 9;
    pub const CONST: u32 = 10;
    pub const RESTRICT: u32 = 11;
    pub const FUNC: u32 = 12;
    pub const FUNC_PROTO: u32 = 13;
    pub const VAR: u32 = 14;
    pub const DATASEC: u32 = 15;
    pub const FLOAT: u32 = 16;
    pub const DECL_TAG: u32 = 17;
    pub const TYPE_TAG: u32 = 18;
    pub const ENUM64: u32 = 19;
    /// Number of kinds: `NR_BTF_KINDS`.
    pub const COUNT: usize = 20;

    const NAMES: [&str; COUNT] = [
        "UNKNOWN",
        "INT",
        "PTR",
        "ARRAY",
        "STRUCT",
        "UNION",
        "ENUM",
        "FWD",
        "TYPEDEF",
        "VOLATILE",
        "CONST",
        "RESTRICT",
        "FUNC",
        "FUNC_PROTO",
        "VAR",
        "DATASEC",
        "FLOAT",
        "DECL_TAG",
        "TYPE_TAG",
        "ENUM64",
    ];

    /// Name of a kind in logs: `btf_kind_str`.
    pub fn name(kind: u32) -> &'static str {
        NAMES.get(kind as usize).copied().unwrap_or("UNKNOWN")
    }
}

/// Bytes of the header that every type begins with: `sizeof(struct btf_type)`.
pub const TYPE_HEADER_SIZE: usize = 12;

/// One type: `struct btf_type` with what follows it.
#[derive(Clone, Copy)]
pub struct BtfType<'a> {
    /// Id of the type in its object.
    pub id: u32,
    pub name_off: u32,
    pub info: u32,
    /// The union of `size` and `type`.
    pub size_or_type: u32,
    /// The data behind the header, up to the end of the type section.
    pub(super) tail: &'a [u8],
}

/// Two views of one BTF object are equal when they are of the same type.
impl PartialEq for BtfType<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.id == other.id
    }
}

impl std::fmt::Debug for BtfType<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "[{}] {} vlen={} size/type={}", self.id, self.kind_str(), self.vlen(), self.size_or_type)
    }
}

/// Member of a struct or union: `struct btf_member`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BtfMember {
    pub name_off: u32,
    pub type_: u32,
    /// Offset in bits, with the bit-field size in the upper eight bits where the struct has the kind flag; see
    /// [`BtfType::member_bit_offset`].
    pub offset: u32,
}

/// `struct btf_array`
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct BtfArray {
    pub type_: u32,
    pub index_type: u32,
    pub nelems: u32,
}

/// Parameter of a function prototype: `struct btf_param`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BtfParam {
    pub name_off: u32,
    pub type_: u32,
}

/// Enumerator of up to 32 bits: `struct btf_enum`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BtfEnum {
    pub name_off: u32,
    pub val: i32,
}

/// Enumerator of 64 bits: `struct btf_enum64`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BtfEnum64 {
    pub name_off: u32,
    pub val: u64,
}

/// Variable of a data section: `struct btf_var_secinfo`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BtfVarSecinfo {
    pub type_: u32,
    pub offset: u32,
    pub size: u32,
}

/// The word at byte `at`, where the data reaches that far.
#[inline]
pub(super) fn word(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
}

#[inline]
fn words<const N: usize>(chunk: &[u8]) -> [u32; N] {
    let mut out = [0; N];
    for (to, from) in out.iter_mut().zip(chunk.chunks_exact(4)) {
        *to = u32::from_ne_bytes([from[0], from[1], from[2], from[3]]);
    }
    out
}

impl BtfMember {
    #[inline]
    fn decode(chunk: &[u8]) -> Self {
        let [name_off, type_, offset] = words(chunk);
        Self { name_off, type_, offset }
    }
}

impl BtfVarSecinfo {
    fn decode(chunk: &[u8]) -> Self {
        let [type_, offset, size] = words(chunk);
        Self { type_, offset, size }
    }
}

impl<'a> BtfType<'a> {
    /// The type with id zero.
    pub const VOID: BtfType<'static> = BtfType { id: 0, name_off: 0, info: 0, size_or_type: 0, tail: &[] };

    /// Kind, one of [`kind`]'s constants.
    #[inline]
    pub fn kind(&self) -> u32 {
        self.info >> 24 & 0x1f
    }

    /// `btf_type_str`
    pub fn kind_str(&self) -> &'static str {
        kind::name(self.kind())
    }

    /// `btf_type_vlen`
    #[inline]
    pub fn vlen(&self) -> u32 {
        self.info & 0xffff
    }

    /// `btf_type_kflag`
    #[inline]
    pub fn kflag(&self) -> bool {
        self.info >> 31 != 0
    }

    /// Size in bytes of a type that has one: `t->size`.
    #[inline]
    pub fn size(&self) -> u32 {
        self.size_or_type
    }

    /// The type that this one refers to: `t->type`.
    #[inline]
    pub fn type_(&self) -> u32 {
        self.size_or_type
    }

    // Kinds, as the kernel's btf_type_is_*.

    #[inline]
    pub fn is_void(&self) -> bool {
        self.id == 0
    }
    #[inline]
    pub fn is_int(&self) -> bool {
        self.kind() == kind::INT
    }
    #[inline]
    pub fn is_ptr(&self) -> bool {
        self.kind() == kind::PTR
    }
    #[inline]
    pub fn is_array(&self) -> bool {
        self.kind() == kind::ARRAY
    }
    /// Struct or union: `btf_type_is_struct`.
    #[inline]
    pub fn is_struct(&self) -> bool {
        matches!(self.kind(), kind::STRUCT | kind::UNION)
    }
    /// A struct, no union: `__btf_type_is_struct`.
    #[inline]
    pub fn is_strict_struct(&self) -> bool {
        self.kind() == kind::STRUCT
    }
    /// `btf_is_any_enum`
    #[inline]
    pub fn is_any_enum(&self) -> bool {
        matches!(self.kind(), kind::ENUM | kind::ENUM64)
    }
    #[inline]
    pub fn is_fwd(&self) -> bool {
        self.kind() == kind::FWD
    }
    #[inline]
    pub fn is_typedef(&self) -> bool {
        self.kind() == kind::TYPEDEF
    }
    #[inline]
    pub fn is_volatile(&self) -> bool {
        self.kind() == kind::VOLATILE
    }
    #[inline]
    pub fn is_func(&self) -> bool {
        self.kind() == kind::FUNC
    }
    #[inline]
    pub fn is_func_proto(&self) -> bool {
        self.kind() == kind::FUNC_PROTO
    }
    #[inline]
    pub fn is_var(&self) -> bool {
        self.kind() == kind::VAR
    }
    #[inline]
    pub fn is_datasec(&self) -> bool {
        self.kind() == kind::DATASEC
    }
    #[inline]
    pub fn is_decl_tag(&self) -> bool {
        self.kind() == kind::DECL_TAG
    }
    #[inline]
    pub fn is_type_tag(&self) -> bool {
        self.kind() == kind::TYPE_TAG
    }
    /// A scalar: `btf_type_is_scalar`.
    #[inline]
    pub fn is_scalar(&self) -> bool {
        self.is_int() || self.is_any_enum()
    }
    /// Typedef, qualifier or type tag: the size is that of another type.
    #[inline]
    pub fn is_modifier(&self) -> bool {
        matches!(self.kind(), kind::TYPEDEF | kind::VOLATILE | kind::CONST | kind::RESTRICT | kind::TYPE_TAG)
    }
    /// `btf_type_nosize`
    pub fn is_nosize(&self) -> bool {
        self.is_void() || self.is_fwd() || self.is_func() || self.is_func_proto() || self.is_decl_tag()
    }
    /// `size` is the size: `btf_type_has_size`.
    pub fn has_size(&self) -> bool {
        matches!(
            self.kind(),
            kind::INT | kind::STRUCT | kind::UNION | kind::ENUM | kind::DATASEC | kind::FLOAT | kind::ENUM64
        )
    }
    pub(super) fn is_decl_tag_target(&self) -> bool {
        self.is_func() || self.is_struct() || self.is_var() || self.is_typedef()
    }
    pub(super) fn is_resolve_source_only(&self) -> bool {
        self.is_var() || self.is_decl_tag() || self.is_datasec()
    }
    pub(super) fn needs_resolve(&self) -> bool {
        self.is_modifier()
            || self.is_ptr()
            || self.is_struct()
            || self.is_array()
            || self.is_var()
            || self.is_func()
            || self.is_decl_tag()
            || self.is_datasec()
    }

    // What follows the header.

    /// Encoding, offset and width word of an integer: `btf_type_int`.
    #[inline]
    pub fn int_data(&self) -> u32 {
        word(self.tail, 0).unwrap_or(0)
    }
    /// `BTF_INT_ENCODING`
    pub fn int_encoding(&self) -> u32 {
        (self.int_data() & 0x0f00_0000) >> 24
    }
    /// `BTF_INT_OFFSET`
    pub fn int_offset(&self) -> u32 {
        (self.int_data() & 0x00ff_0000) >> 16
    }
    /// `BTF_INT_BITS`
    pub fn int_bits(&self) -> u32 {
        self.int_data() & 0xff
    }

    /// An integer of whole bytes, 1, 2, 4, 8 or 16 of them, at offset zero, and of `expected_size` bytes where
    /// that is not zero: `__btf_type_int_is_regular`.
    pub fn int_is_regular(&self, expected_size: u32) -> bool {
        let nr_bits = self.int_bits();
        let nr_bytes = nr_bits.div_ceil(8);
        nr_bits.is_multiple_of(8)
            && self.int_offset() == 0
            && nr_bytes <= 16
            && nr_bytes.is_power_of_two()
            && (expected_size == 0 || nr_bytes == expected_size)
    }
    /// `btf_type_is_i32`
    pub fn is_i32(&self) -> bool {
        self.is_int() && self.int_is_regular(4)
    }
    /// `btf_type_is_i64`
    pub fn is_i64(&self) -> bool {
        self.is_int() && self.int_is_regular(8)
    }
    /// `btf_type_is_primitive`
    pub fn is_primitive(&self) -> bool {
        self.is_int() && self.int_is_regular(0) || self.is_any_enum()
    }

    /// Element and index type and length of an array.
    pub fn array(&self) -> BtfArray {
        let [type_, index_type, nelems] = words(self.tail.get(..12).unwrap_or(&[]));
        BtfArray { type_, index_type, nelems }
    }

    fn records(&self, size: usize) -> std::slice::ChunksExact<'a, u8> {
        let len = (self.vlen() as usize * size).min(self.tail.len());
        self.tail[..len].chunks_exact(size)
    }

    #[inline]
    fn record(&self, index: u32, size: usize) -> Option<&'a [u8]> {
        if index >= self.vlen() {
            return None;
        }
        let at = index as usize * size;
        self.tail.get(at..at + size)
    }

    /// Members of a struct or union; of no other kind.
    #[inline]
    pub fn members(&self) -> impl ExactSizeIterator<Item = BtfMember> + Clone + use<'a> {
        self.records(12).map(BtfMember::decode)
    }
    /// Member by index.
    #[inline]
    pub fn member(&self, index: u32) -> Option<BtfMember> {
        self.record(index, 12).map(BtfMember::decode)
    }
    /// Offset of a member in bits: `__btf_member_bit_offset`.
    #[inline]
    pub fn member_bit_offset(&self, member: &BtfMember) -> u32 {
        if self.kflag() { member.offset & 0x00ff_ffff } else { member.offset }
    }
    /// Width of a bit field, zero for other members: `__btf_member_bitfield_size`.
    #[inline]
    pub fn member_bitfield_size(&self, member: &BtfMember) -> u32 {
        if self.kflag() { member.offset >> 24 } else { 0 }
    }

    /// Enumerators of an `ENUM`.
    pub fn enums(&self) -> impl ExactSizeIterator<Item = BtfEnum> + Clone + use<'a> {
        self.records(8).map(|chunk| {
            let [name_off, val] = words(chunk);
            BtfEnum { name_off, val: val as i32 }
        })
    }
    /// Enumerators of an `ENUM64`.
    pub fn enums64(&self) -> impl ExactSizeIterator<Item = BtfEnum64> + Clone + use<'a> {
        self.records(12).map(|chunk| {
            let [name_off, lo, hi] = words(chunk);
            BtfEnum64 { name_off, val: u64::from(hi) << 32 | u64::from(lo) }
        })
    }
    /// Parameters of a function prototype. A last one of type zero without name stands for `...`.
    pub fn params(&self) -> impl ExactSizeIterator<Item = BtfParam> + DoubleEndedIterator + Clone + use<'a> {
        self.records(8).map(|chunk| {
            let [name_off, type_] = words(chunk);
            BtfParam { name_off, type_ }
        })
    }
    /// Variables of a data section.
    pub fn vsis(&self) -> impl ExactSizeIterator<Item = BtfVarSecinfo> + Clone + use<'a> {
        self.records(12).map(BtfVarSecinfo::decode)
    }
    /// Variable of a data section by index.
    pub fn vsi(&self, index: u32) -> Option<BtfVarSecinfo> {
        self.record(index, 12).map(BtfVarSecinfo::decode)
    }
    /// Linkage of a variable.
    pub fn var_linkage(&self) -> u32 {
        word(self.tail, 0).unwrap_or(0)
    }
    /// Linkage of a function: one of `BTF_FUNC_*`.
    pub fn func_linkage(&self) -> u32 {
        self.vlen()
    }
    /// Member or argument that a declaration tag is on, -1 for the whole declaration.
    pub fn component_idx(&self) -> i32 {
        word(self.tail, 0).unwrap_or(0) as i32
    }
}

/// Bytes of the records that follow the header of a type, `None` for kinds that are not known.
pub(super) fn tail_size(info: u32) -> Option<usize> {
    let vlen = (info & 0xffff) as usize;
    Some(match info >> 24 & 0x1f {
        kind::INT | kind::VAR | kind::DECL_TAG => 4,
        kind::ARRAY => 12,
        kind::STRUCT | kind::UNION | kind::DATASEC | kind::ENUM64 => vlen * 12,
        kind::ENUM | kind::FUNC_PROTO => vlen * 8,
        kind::UNKN | 20.. => return None,
        _ => 0,
    })
}

const _: () = assert!(kind::COUNT == kind::ENUM64 as usize + 1);
