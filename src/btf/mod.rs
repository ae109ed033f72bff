//! BTF: parsing, the kernel's checks, and walks over types.

/// Stub of a BTF object.
pub struct Btf;

/// Stub of the special fields of a type.
pub struct BtfRecord;
