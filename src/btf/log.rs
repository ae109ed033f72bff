//! What `BPF_BTF_LOAD` writes to its log: one line a type, its members behind it, and what is wrong with them.
//!
//! Every function here logs as many messages as the kernel does, since each message is cut at the length of the
//! kernel's buffer. Names are written as bytes: the kernel does not ask whether they are text.

use std::fmt::{self, Write as _};

use crate::verifier::log::{BPF_VERIFIER_TMP_LOG_SIZE, Log};

use super::types::{BTF_INT_BOOL, BTF_INT_CHAR, BTF_INT_SIGNED, BtfMember, BtfType, BtfVarSecinfo, kind};
use super::{Btf, BtfHeader};

/// The log of one check of one object.
pub(super) struct BtfLog<'a> {
    btf: &'a Btf,
    log: &'a mut Log,
    /// Type that is being looked at: `log_type_id`.
    pub type_id: u32,
    /// Members are being listed, and what is said of one follows its struct's line: `CHECK_META`.
    listing: bool,
    message: Message,
}

/// One message in the making.
#[derive(Default)]
struct Message(Vec<u8>);

impl fmt::Write for Message {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.0.extend_from_slice(text.as_bytes());
        Ok(())
    }
}

impl<'a> BtfLog<'a> {
    pub fn new(btf: &'a Btf, log: &'a mut Log, listing: bool) -> Self {
        BtfLog { btf, log, type_id: 0, listing, message: Message::default() }
    }

    fn needed(&self) -> bool {
        self.log.level != 0
    }

    fn flush(&mut self) {
        self.log.message(&self.message.0);
        self.message.0.clear();
    }

    fn name(&mut self, offset: u32) {
        self.message.0.extend_from_slice(self.btf.log_name(offset, BPF_VERIFIER_TMP_LOG_SIZE));
    }

    /// One message: `btf_verifier_log`.
    pub fn write(&mut self, args: fmt::Arguments<'_>) {
        if self.needed() {
            self.emit(args);
        }
    }

    fn emit(&mut self, args: fmt::Arguments<'_>) {
        // Writing to a vector does not fail.
        let _ = self.message.write_fmt(args);
        self.flush();
    }

    /// The line of a type with its details: `btf_verifier_log_type`. `text` is what is wrong with it.
    pub fn type_(&mut self, t: &BtfType<'_>, text: Option<fmt::Arguments<'_>>) {
        self.type_line(t, true, text);
    }

    /// The line of a type whose details may not be there: `btf_verifier_log_basic`.
    pub fn basic(&mut self, t: &BtfType<'_>, text: fmt::Arguments<'_>) {
        self.type_line(t, false, Some(text));
    }

    fn type_line(&mut self, t: &BtfType<'_>, details: bool, text: Option<fmt::Arguments<'_>>) {
        if !self.needed() {
            return;
        }
        let _ = write!(self.message, "[{}] {} ", self.type_id, t.kind_str());
        self.name(t.name_off);
        if details {
            self.message.0.push(b' ');
        }
        self.flush();
        if details {
            self.details(t);
        }
        self.end_line(text);
    }

    fn end_line(&mut self, text: Option<fmt::Arguments<'_>>) {
        if let Some(text) = text {
            self.emit(format_args!(" "));
            self.emit(text);
        }
        self.emit(format_args!("\n"));
    }

    /// The line of a struct's member: `btf_verifier_log_member`.
    pub fn member(&mut self, t: &BtfType<'_>, m: &BtfMember, text: Option<fmt::Arguments<'_>>) {
        if !self.needed() {
            return;
        }
        if !self.listing {
            self.type_(t, None);
        }
        self.message.0.push(b'\t');
        self.name(m.name_off);
        let _ = write!(self.message, " type_id={}", m.type_);
        let _ = if t.kflag() {
            let (size, offset) = (t.member_bitfield_size(m), t.member_bit_offset(m));
            write!(self.message, " bitfield_size={size} bits_offset={offset}")
        } else {
            write!(self.message, " bits_offset={}", m.offset)
        };
        self.flush();
        self.end_line(text);
    }

    /// The line of a variable in a data section: `btf_verifier_log_vsi`.
    pub fn vsi(&mut self, t: &BtfType<'_>, vsi: &BtfVarSecinfo, text: Option<fmt::Arguments<'_>>) {
        if !self.needed() {
            return;
        }
        if !self.listing {
            self.type_(t, None);
        }
        self.emit(format_args!("\t type_id={} offset={} size={}", vsi.type_, vsi.offset, vsi.size));
        self.end_line(text);
    }

    /// The line of an enumerator.
    pub fn enumerator(&mut self, name_off: u32, val: impl fmt::Display) {
        if !self.needed() {
            return;
        }
        self.message.0.push(b'\t');
        self.name(name_off);
        let _ = writeln!(self.message, " val={val}");
        self.flush();
    }

    /// `btf_verifier_log_hdr`
    pub fn header(&mut self, hdr: &BtfHeader, total_size: u32) {
        if !self.needed() {
            return;
        }
        self.emit(format_args!("magic: {:#x}\n", hdr.magic));
        self.emit(format_args!("version: {}\n", hdr.version));
        self.emit(format_args!("flags: {:#x}\n", hdr.flags));
        self.emit(format_args!("hdr_len: {}\n", hdr.hdr_len));
        self.emit(format_args!("type_off: {}\n", hdr.type_off));
        self.emit(format_args!("type_len: {}\n", hdr.type_len));
        self.emit(format_args!("str_off: {}\n", hdr.str_off));
        self.emit(format_args!("str_len: {}\n", hdr.str_len));
        self.emit(format_args!("btf_total_size: {total_size}\n"));
    }

    /// Each kind's `log_details`.
    fn details(&mut self, t: &BtfType<'_>) {
        match t.kind() {
            kind::INT => self.emit(format_args!(
                "size={} bits_offset={} nr_bits={} encoding={}",
                t.size(),
                t.int_offset(),
                t.int_bits(),
                int_encoding_str(t.int_encoding())
            )),
            kind::ARRAY => {
                let array = t.array();
                self.emit(format_args!(
                    "type_id={} index_type_id={} nr_elems={}",
                    array.type_, array.index_type, array.nelems
                ));
            }
            kind::STRUCT | kind::UNION | kind::ENUM | kind::ENUM64 | kind::DATASEC => {
                self.emit(format_args!("size={} vlen={}", t.size(), t.vlen()));
            }
            kind::FWD => self.emit(format_args!("{}", if t.kflag() { "union" } else { "struct" })),
            kind::FUNC_PROTO => self.func_proto(t),
            kind::VAR => self.emit(format_args!("type_id={} linkage={}", t.type_(), t.var_linkage())),
            kind::FLOAT => self.emit(format_args!("size={}", t.size())),
            kind::DECL_TAG => {
                self.emit(format_args!("type={} component_idx={}", t.type_(), t.component_idx()));
            }
            _ => self.emit(format_args!("type_id={}", t.type_())),
        }
    }

    fn func_proto(&mut self, t: &BtfType<'_>) {
        self.emit(format_args!("return={} args=(", t.type_()));
        let last = t.params().len().saturating_sub(1);
        for (i, param) in t.params().enumerate() {
            let separator = if i == 0 { "" } else { ", " };
            // Only a last parameter can be an ellipsis; others of type void are shown as they are.
            if i == last && param.type_ == 0 {
                self.emit(format_args!("{separator}vararg"));
                continue;
            }
            let _ = write!(self.message, "{separator}{} ", param.type_);
            self.name(param.name_off);
            self.flush();
        }
        if t.params().len() == 0 {
            self.emit(format_args!("void"));
        }
        self.emit(format_args!(")"));
    }
}

/// `btf_int_encoding_str`
fn int_encoding_str(encoding: u32) -> &'static str {
    match encoding {
        0 => "(none)",
        BTF_INT_SIGNED => "SIGNED",
        BTF_INT_CHAR => "CHAR",
        BTF_INT_BOOL => "BOOL",
        _ => "UNKN",
    }
}
