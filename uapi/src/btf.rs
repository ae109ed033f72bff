//! BTF and `.BTF.ext` as they are stored: `include/uapi/linux/btf.h`.

use crate::wire;

pub const BTF_MAGIC: u16 = 0xeb9f;
pub const BTF_VERSION: u8 = 1;
/// Largest type id.
pub const BTF_MAX_TYPE: u32 = 0x000f_ffff;
/// Largest offset into the strings.
pub const BTF_MAX_NAME_OFFSET: u32 = 0x00ff_ffff;
/// Largest number of members, parameters, enumerators or variables.
pub const BTF_MAX_VLEN: u32 = 0xffff;
/// Largest whole object: `BTF_MAX_SIZE` of the kernel.
pub const BTF_MAX_SIZE: u32 = 16 * 1024 * 1024;

wire! {
    /// `struct btf_header`. Offsets count from the end of the header.
    #[derive(PartialEq, Eq)]
    pub struct BtfHeader {
        magic: u16,
        version: u8,
        flags: u8,
        hdr_len: u32,
        type_off: u32,
        type_len: u32,
        str_off: u32,
        str_len: u32,
    }
}

wire! {
    /// `struct btf_type`: head of every type; what follows depends on the kind.
    #[derive(PartialEq, Eq)]
    pub struct BtfType {
        name_off: u32,
        /// Bits 0 to 15 vlen, 24 to 28 kind, 31 kind flag.
        info: u32,
        /// `size` or `type`, as the kind has it.
        size_or_type: u32,
    }
}

impl BtfType {
    /// `BTF_INFO_KIND`: a number, also one that no kind has.
    #[inline]
    pub const fn kind(&self) -> u32 {
        (self.info >> 24) & 0x1f
    }

    /// `BTF_INFO_VLEN`: number of members, parameters, enumerators or variables.
    #[inline]
    pub const fn vlen(&self) -> u32 {
        self.info & 0xffff
    }

    /// `BTF_INFO_KFLAG`.
    #[inline]
    pub const fn kflag(&self) -> bool {
        self.info >> 31 != 0
    }
}

pub const BTF_KIND_UNKN: u32 = 0;
pub const BTF_KIND_INT: u32 = 1;
pub const BTF_KIND_PTR: u32 = 2;
pub const BTF_KIND_ARRAY: u32 = 3;
pub const BTF_KIND_STRUCT: u32 = 4;
pub const BTF_KIND_UNION: u32 = 5;
pub const BTF_KIND_ENUM: u32 = 6;
pub const BTF_KIND_FWD: u32 = 7;
pub const BTF_KIND_TYPEDEF: u32 = 8;
pub const BTF_KIND_VOLATILE: u32 = 9;
pub const BTF_KIND_CONST: u32 = 10;
pub const BTF_KIND_RESTRICT: u32 = 11;
pub const BTF_KIND_FUNC: u32 = 12;
pub const BTF_KIND_FUNC_PROTO: u32 = 13;
pub const BTF_KIND_VAR: u32 = 14;
pub const BTF_KIND_DATASEC: u32 = 15;
pub const BTF_KIND_FLOAT: u32 = 16;
pub const BTF_KIND_DECL_TAG: u32 = 17;
pub const BTF_KIND_TYPE_TAG: u32 = 18;
pub const BTF_KIND_ENUM64: u32 = 19;
pub const NR_BTF_KINDS: u32 = 20;
pub const BTF_KIND_MAX: u32 = NR_BTF_KINDS - 1;

// The word behind BTF_KIND_INT.
pub const BTF_INT_SIGNED: u32 = 1 << 0;
pub const BTF_INT_CHAR: u32 = 1 << 1;
pub const BTF_INT_BOOL: u32 = 1 << 2;

/// `BTF_INT_*` of the word behind `BTF_KIND_INT`.
pub const fn btf_int_encoding(word: u32) -> u32 {
    (word & 0x0f00_0000) >> 24
}

/// Bit offset of the word behind `BTF_KIND_INT`.
pub const fn btf_int_offset(word: u32) -> u32 {
    (word & 0x00ff_0000) >> 16
}

/// Number of bits of the word behind `BTF_KIND_INT`.
pub const fn btf_int_bits(word: u32) -> u32 {
    word & 0x0000_00ff
}

wire! {
    /// `struct btf_enum`.
    pub struct BtfEnum {
        name_off: u32,
        val: i32,
    }
}

wire! {
    /// `struct btf_enum64`.
    pub struct BtfEnum64 {
        name_off: u32,
        val_lo32: u32,
        val_hi32: u32,
    }
}

wire! {
    /// `struct btf_array`.
    pub struct BtfArray {
        elem_type: u32,
        index_type: u32,
        nelems: u32,
    }
}

wire! {
    /// `struct btf_member`.
    pub struct BtfMember {
        name_off: u32,
        type_id: u32,
        /// In bits; with the kind flag set the high 8 bits are the bit-field's size.
        offset: u32,
    }
}

impl BtfMember {
    /// Size of the bit-field, where the kind flag is set: `BTF_MEMBER_BITFIELD_SIZE`.
    pub const fn bitfield_size(&self) -> u32 {
        self.offset >> 24
    }

    /// Offset in bits, where the kind flag is set: `BTF_MEMBER_BIT_OFFSET`.
    pub const fn bit_offset(&self) -> u32 {
        self.offset & 0xff_ffff
    }
}

wire! {
    /// `struct btf_param`.
    pub struct BtfParam {
        name_off: u32,
        type_id: u32,
    }
}

wire! {
    /// `struct btf_var`.
    pub struct BtfVar {
        /// `BTF_VAR_*`.
        linkage: u32,
    }
}

pub const BTF_VAR_STATIC: u32 = 0;
pub const BTF_VAR_GLOBAL_ALLOCATED: u32 = 1;
pub const BTF_VAR_GLOBAL_EXTERN: u32 = 2;

// Linkage of a function: the vlen of BTF_KIND_FUNC.
pub const BTF_FUNC_STATIC: u32 = 0;
pub const BTF_FUNC_GLOBAL: u32 = 1;
pub const BTF_FUNC_EXTERN: u32 = 2;

wire! {
    /// `struct btf_var_secinfo`.
    pub struct BtfVarSecinfo {
        type_id: u32,
        offset: u32,
        size: u32,
    }
}

wire! {
    /// `struct btf_decl_tag`.
    pub struct BtfDeclTag {
        /// Member or argument that the tag is on; -1: the thing itself.
        component_idx: i32,
    }
}

wire! {
    /// Head of `.BTF.ext`. The last two fields are missing in old objects (`hdr_len` 24).
    pub struct BtfExtHeader {
        magic: u16,
        version: u8,
        flags: u8,
        hdr_len: u32,
        func_info_off: u32,
        func_info_len: u32,
        line_info_off: u32,
        line_info_len: u32,
        core_relo_off: u32,
        core_relo_len: u32,
    }
}

wire! {
    /// Head of the records of one ELF section in a subsection of `.BTF.ext` (which starts with the record size).
    pub struct BtfExtInfoSec {
        sec_name_off: u32,
        num_info: u32,
    }
}
