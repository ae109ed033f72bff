//! Strings of a BTF object, and what the kernel accepts as a name.
//!
//! Strings are bytes: only some of them are checked to be identifiers, and the kernel's idea of a letter includes the
//! upper half of Latin-1.

use std::borrow::Cow;

use super::types::BTF_MAX_NAME_OFFSET;
use super::{Btf, BtfType};

/// Longest name that is accepted: `KSYM_NAME_LEN`.
pub(super) const KSYM_NAME_LEN: usize = 512;

/// The kernel's `isalpha`, which knows Latin-1.
pub fn is_alpha(c: u8) -> bool {
    c.is_ascii_alphabetic() || c >= 0xc0 && c != 0xd7 && c != 0xf7
}

fn is_alnum(c: u8) -> bool {
    is_alpha(c) || c.is_ascii_digit()
}

/// The kernel's `isprint`, which knows Latin-1.
pub fn is_print(c: u8) -> bool {
    (0x20..0x7f).contains(&c) || c >= 0xa0
}

/// `__btf_name_char_ok`
fn name_char_ok(c: u8, first: bool) -> bool {
    (if first { is_alpha(c) } else { is_alnum(c) }) || c == b'_' || c == b'.'
}

/// Cuts `bytes` before the first NUL.
pub(super) fn until_nul(bytes: &[u8]) -> &[u8] {
    let len = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    &bytes[..len]
}

impl Btf {
    /// The strings from `offset` on, up to the end of their section.
    #[inline]
    pub(super) fn strings_from(&self, offset: u32) -> Option<&[u8]> {
        let Some(local) = offset.checked_sub(self.start_str_off) else {
            return self.base.as_ref()?.strings_from(offset);
        };
        self.data.get(self.strings.clone())?.get(local as usize..).filter(|rest| !rest.is_empty())
    }

    /// The string at an offset: `btf_str_by_offset`, `btf_name_by_offset`. `None` past the end.
    #[inline]
    pub fn str_by_offset(&self, offset: u32) -> Option<&[u8]> {
        self.strings_from(offset).map(until_nul)
    }

    /// The string at an offset as text; empty past the end. Bytes that are no UTF-8 are replaced.
    pub fn name_by_offset(&self, offset: u32) -> Cow<'_, str> {
        String::from_utf8_lossy(self.str_by_offset(offset).unwrap_or(&[]))
    }

    /// Name of a type as text; empty where it has none.
    pub fn type_name(&self, t: &BtfType<'_>) -> Cow<'_, str> {
        self.name_by_offset(t.name_off)
    }

    /// Whether the string at an offset is `name`.
    pub fn str_is(&self, offset: u32, name: impl AsRef<[u8]>) -> bool {
        let name = name.as_ref();
        self.strings_from(offset)
            .is_some_and(|rest| rest.starts_with(name) && rest.get(name.len()).is_none_or(|&next| next == 0))
    }

    /// Whether the string at an offset is empty; `None` past the end.
    pub(super) fn str_by_offset_is_empty(&self, offset: u32) -> Option<bool> {
        self.strings_from(offset).map(|rest| rest.first() == Some(&0))
    }

    /// What logs show at most `limit` bytes of for a name: `__btf_name_by_offset`.
    pub(super) fn log_name(&self, offset: u32, limit: usize) -> &[u8] {
        if offset == 0 {
            return b"(anon)";
        }
        match self.strings_from(offset) {
            Some(rest) => until_nul(&rest[..rest.len().min(limit)]),
            None => b"(invalid-name-offset)",
        }
    }

    /// The name as the kernel shows it in messages: `__btf_name_by_offset`.
    pub fn display_name(&self, offset: u32) -> Cow<'_, str> {
        String::from_utf8_lossy(self.log_name(offset, 1024))
    }

    /// `btf_name_offset_valid`
    pub fn name_offset_valid(&self, offset: u32) -> bool {
        offset <= BTF_MAX_NAME_OFFSET && self.strings_from(offset).is_some()
    }

    /// Letters, digits, `_` and `.`, at most [`KSYM_NAME_LEN`] of them: `btf_name_valid_identifier`.
    pub fn name_valid_identifier(&self, offset: u32) -> bool {
        let Some(rest) = self.strings_from(offset) else { return false };
        let name = until_nul(&rest[..rest.len().min(KSYM_NAME_LEN + 1)]);
        name.len() <= KSYM_NAME_LEN
            && name.iter().enumerate().all(|(i, &c)| name_char_ok(c, i == 0))
            && !name.is_empty()
    }

    /// Any printable characters: `btf_name_valid_section`.
    pub fn name_valid_section(&self, offset: u32) -> bool {
        let Some(rest) = self.strings_from(offset) else { return false };
        let name = until_nul(&rest[..rest.len().min(KSYM_NAME_LEN + 1)]);
        name.len() <= KSYM_NAME_LEN && !name.is_empty() && name.iter().all(|&c| is_print(c))
    }
}
