//! `BPF_BTF_LOAD`: header, sections, and the order of the checks (`btf_parse`).

use std::sync::Arc;

use bpftwin_uapi::Errno;

use crate::verifier::log::Log;

use super::check::{check_all_metas, reject};
use super::log::BtfLog;
use super::resolve::{check_all_types, check_type_tags};
use super::types::*;
use super::{Btf, BtfHeader, Data, HEADER_SIZE};

/// Looks up the kernel's own BTF; `None` where the kernel has none. Called only where an object names kernel types.
pub type KernelBtf<'a> = &'a dyn Fn() -> Option<Arc<Btf>>;

impl Btf {
    /// Checks and takes in an object as `BPF_BTF_LOAD` does, with the kernel's errors and log.
    ///
    /// The caller has checked the size against [`BTF_MAX_SIZE`], and finalizes the log.
    pub fn parse(data: Vec<u8>, log: &mut Log, kernel: KernelBtf<'_>) -> Result<Btf, Errno> {
        let mut btf = Btf::new(Data::Owned(data), None, "", false);
        btf.parse_hdr(log)?;
        btf.parse_str_sec(log)?;
        btf.parse_type_sec(log)?;
        check_type_tags(&btf, log)?;
        btf.struct_metas = btf.parse_struct_metas(kernel)?;
        for meta in &btf.struct_metas {
            btf.check_and_fixup_fields(&meta.record)?;
        }
        Ok(btf)
    }

    /// `btf_parse_hdr`
    fn parse_hdr(&mut self, log: &mut Log) -> Result<(), Errno> {
        let hdr = BtfHeader::decode(&self.data);
        let data_size = self.data.len() as u32;
        let mut log = BtfLog::new(self, log, true);
        // magic, version, flags and hdr_len.
        if data_size < 8 {
            reject!(log, text "hdr_len not found");
        }
        if data_size < hdr.hdr_len {
            reject!(log, text "btf_header not found");
        }
        let unknown_fields = self.data.get(HEADER_SIZE..hdr.hdr_len as usize).unwrap_or(&[]);
        if unknown_fields.iter().any(|&byte| byte != 0) {
            log.write(format_args!("Unsupported btf_header"));
            return Err(Errno::E2BIG);
        }

        // A header that is too short for its own length field has none.
        log.header(&hdr, data_size);
        if hdr.magic != BTF_MAGIC {
            reject!(log, text "Invalid magic");
        }
        if hdr.version != BTF_VERSION {
            log.write(format_args!("Unsupported version"));
            return Err(Errno::ENOTSUPP);
        }
        if hdr.flags != 0 {
            log.write(format_args!("Unsupported flags"));
            return Err(Errno::ENOTSUPP);
        }
        if data_size == hdr.hdr_len {
            reject!(log, text "No data");
        }
        check_sec_info(&mut log, &hdr, data_size)?;
        self.hdr = hdr;
        Ok(())
    }

    /// Start of a section, whose offset counts from the end of the header.
    fn section(&self, off: u32, len: u32) -> std::ops::Range<usize> {
        let start = self.hdr.hdr_len as usize + off as usize;
        start..start + len as usize
    }

    /// `btf_parse_str_sec`
    fn parse_str_sec(&mut self, log: &mut Log) -> Result<(), Errno> {
        let section = self.section(self.hdr.str_off, self.hdr.str_len);
        let mut log = BtfLog::new(self, log, true);
        if section.end != self.data.len() {
            reject!(log, text "String section is not at the end");
        }
        match self.data.get(section.clone()) {
            Some([0]) => {}
            Some([0, .., 0]) if section.len() as u32 - 1 <= BTF_MAX_NAME_OFFSET => {}
            _ => reject!(log, text "Invalid string section"),
        }
        self.strings = section;
        Ok(())
    }

    /// `btf_parse_type_sec`
    fn parse_type_sec(&mut self, log: &mut Log) -> Result<(), Errno> {
        let section = self.section(self.hdr.type_off, self.hdr.type_len);
        if !self.hdr.type_off.is_multiple_of(4) {
            reject!(BtfLog::new(self, log, true), text "Unaligned type_off");
        }
        if self.hdr.type_len == 0 {
            reject!(BtfLog::new(self, log, true), text "No type found");
        }
        self.types_end = section.end;
        self.types = check_all_metas(self, log, section)?.into();
        self.resolved = check_all_types(self, log)?;
        Ok(())
    }
}

/// The two sections follow each other without gap, and nothing follows them: `btf_check_sec_info`.
fn check_sec_info(log: &mut BtfLog<'_>, hdr: &BtfHeader, data_size: u32) -> Result<(), Errno> {
    let mut sections = [(hdr.type_off, hdr.type_len), (hdr.str_off, hdr.str_len)];
    // The kernel sorts by the sign of 32-bit differences, which is no order for far apart values.
    let off_diff = hdr.type_off.wrapping_sub(hdr.str_off) as i32;
    let len_diff = hdr.type_len.wrapping_sub(hdr.str_len) as i32;
    if (if off_diff != 0 { off_diff } else { len_diff }) >= 0 {
        sections.swap(0, 1);
    }

    let expected_total = data_size - hdr.hdr_len;
    let mut total = 0u32;
    for (off, len) in sections {
        if expected_total < off {
            reject!(log, text "Invalid section offset");
        }
        if total < off {
            reject!(log, text "Unsupported section found");
        }
        if total > off {
            reject!(log, text "Section overlap found");
        }
        if expected_total - total < len {
            reject!(log, text "Total section length too long");
        }
        total += len;
    }
    if expected_total != total {
        reject!(log, text "Unsupported section found");
    }
    Ok(())
}
