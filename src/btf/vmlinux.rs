//! BTF of the kernel and of its modules. It comes from the kernel itself or from a file that the user names, so
//! it is not checked as `BPF_BTF_LOAD` checks. Loading looks at the header and no more; the first look-up locates the
//! types, which takes about a millisecond. Whatever the bytes are, no look-up leaves them.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::types::{BTF_MAGIC, BTF_MAX_TYPE, TYPE_HEADER_SIZE, tail_size, word};
use super::{Btf, BtfHeader, Data, HEADER_SIZE};

/// Why a file's BTF cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BtfFileError {
    #[error("{path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: neither a BTF nor an ELF file with a .BTF section")]
    NoBtf { path: PathBuf },
    #[error("{path}: malformed BTF: {what} at byte {at}")]
    Malformed { path: PathBuf, what: &'static str, at: usize },
}

/// What is wrong with the bytes, and where.
struct Malformed(&'static str, usize);

impl Btf {
    /// BTF of a kernel from a raw BTF file or from the `.BTF` section of an ELF file.
    pub fn from_kernel_file(path: &Path) -> Result<Btf, BtfFileError> {
        Self::from_file(path, "vmlinux", None)
    }

    /// BTF of a module, on top of `vmlinux`.
    pub fn from_module_file(path: &Path, module: &str, vmlinux: Arc<Btf>) -> Result<Btf, BtfFileError> {
        Self::from_file(path, module, Some(vmlinux))
    }

    /// BTF of a kernel, or of a module where there is a `base`, from its bytes. `None` where they are malformed.
    pub fn from_kernel_bytes(data: Vec<u8>, name: &str, base: Option<Arc<Btf>>) -> Option<Btf> {
        Self::from_kernel_data(Data::Owned(data), name, base).ok()
    }

    fn from_file(path: &Path, name: &str, base: Option<Arc<Btf>>) -> Result<Btf, BtfFileError> {
        let io = |source| BtfFileError::Io { path: path.to_owned(), source };
        let data = map_or_read(path).map_err(io)?;
        let data = if data.starts_with(b"\x7fELF") {
            Data::Owned(elf_btf(&data).ok_or_else(|| BtfFileError::NoBtf { path: path.to_owned() })?)
        } else {
            data
        };
        if !data.starts_with(&BTF_MAGIC.to_ne_bytes()) {
            return Err(BtfFileError::NoBtf { path: path.to_owned() });
        }
        Self::from_kernel_data(data, name, base).map_err(|Malformed(what, at)| BtfFileError::Malformed {
            path: path.to_owned(),
            what,
            at,
        })
    }

    fn from_kernel_data(data: Data, name: &str, base: Option<Arc<Btf>>) -> Result<Btf, Malformed> {
        let hdr = BtfHeader::decode(&data);
        if hdr.magic != BTF_MAGIC || data.len() < HEADER_SIZE {
            return Err(Malformed("header", 0));
        }
        let section = |what, off: u32, len: u32| {
            let start = hdr.hdr_len as usize + off as usize;
            let end = start + len as usize;
            if end <= data.len() { Ok(start..end) } else { Err(Malformed(what, start)) }
        };
        let type_section = section("type section", hdr.type_off, hdr.type_len)?;
        let strings = section("string section", hdr.str_off, hdr.str_len)?;
        let mut btf = Btf::new(data, base, name, true);
        btf.hdr = hdr;
        btf.types_end = type_section.end;
        btf.strings = strings;
        Ok(btf)
    }

    /// Locates the types, up to the first one that is malformed.
    pub(super) fn scan(&self) -> Vec<u32> {
        let mut at = self.hdr.hdr_len as usize + self.hdr.type_off as usize;
        let data = self.data.get(..self.types_end).unwrap_or(&[]);
        // Types of vmlinux take 22 bytes on average.
        let mut types = Vec::with_capacity(data.len().saturating_sub(at) / 20);
        if self.base.is_none() {
            types.push(0);
        }
        while let Some(tail) = word(data, at + 4).and_then(tail_size)
            && at + TYPE_HEADER_SIZE + tail <= data.len()
            && (types.len() as u32) < BTF_MAX_TYPE
        {
            types.push(at as u32);
            at += TYPE_HEADER_SIZE + tail;
        }
        types
    }
}

impl BtfHeader {
    /// Decodes a header; fields past the end of the data, or past the header's own length, are zero.
    pub(super) fn decode(data: &[u8]) -> Self {
        let mut bytes = [0; HEADER_SIZE];
        let hdr_len = word(data, 4).unwrap_or(0) as usize;
        let len = hdr_len.min(HEADER_SIZE).min(data.len());
        bytes[..len].copy_from_slice(&data[..len]);
        let field = |at| word(&bytes, at).unwrap_or(0);
        BtfHeader {
            magic: u16::from_ne_bytes([bytes[0], bytes[1]]),
            version: bytes[2],
            flags: bytes[3],
            hdr_len: field(4),
            type_off: field(8),
            type_len: field(12),
            str_off: field(16),
            str_len: field(20),
        }
    }
}

/// Maps a file, or reads it where it cannot be mapped (`/sys/kernel/btf/vmlinux` can be since Linux 6.16).
fn map_or_read(path: &Path) -> std::io::Result<Data> {
    let mut file = File::open(path)?;
    // The kernel refuses shared mappings of its BTF.
    // SAFETY: the mapping is private and read-only. A file that is truncated while it is mapped would raise
    // SIGBUS, so only sysfs, whose BTF never changes, is mapped.
    let map = path
        .starts_with("/sys/kernel/btf")
        .then(|| unsafe { memmap2::MmapOptions::new().map_copy_read_only(&file) });
    if let Some(Ok(map)) = map {
        return Ok(Data::Mapped(map));
    }
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes)?;
    Ok(Data::Owned(bytes))
}

fn elf_btf(elf: &[u8]) -> Option<Vec<u8>> {
    use object::{Object, ObjectSection};
    let file = object::File::parse(elf).ok()?;
    Some(file.section_by_name(".BTF")?.data().ok()?.to_vec())
}
