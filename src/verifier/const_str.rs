//! Strings in frozen read-only maps: arguments that must be constant, and the formats among them.

use bpftwin_uapi::Errno;

use super::access::AccessSrc;
use super::bprintf::format_is_valid;
use super::prog::VerifierMap;
use super::reg_type::RegType;
use super::state::RegState;
use super::{Result, Verifier};
use crate::verbose;

/// The string at byte `off` of the map's only value, without its terminating zero; `None` where it does not end within
/// the value.
fn read_str(map: &VerifierMap, off: u32) -> Result<Option<Vec<u8>>> {
    // `array_map_direct_value_addr`
    if map.max_entries != 1 {
        return Err(Errno::ENOTSUPP);
    }
    if off >= map.value_size {
        return Err(Errno::EINVAL);
    }
    let mut text = Vec::new();
    let mut buf = [0; 256];
    while (text.len() as u32) < map.value_size - off {
        let pos = off + text.len() as u32;
        let len = buf.len().min((map.value_size - pos) as usize);
        map.contents.read_value(pos, &mut buf[..len])?;
        if let Some(end) = buf[..len].iter().position(|&byte| byte == 0) {
            text.extend_from_slice(&buf[..end]);
            return Ok(Some(text));
        }
        text.extend_from_slice(&buf[..len]);
    }
    Ok(None)
}

/// Byte of the value that a pointer with constant variable part points to.
fn value_off(reg: &RegState) -> u32 {
    reg.off.wrapping_add(reg.var_off.value as i32) as u32
}

impl Verifier {
    /// `check_reg_const_str`: a string, known now and for ever.
    pub(super) fn check_reg_const_str(&mut self, reg: &RegState, regno: u8) -> Result<()> {
        let map = match reg.map_ptr() {
            Some(map_idx) if reg.type_ == RegType::PTR_TO_MAP_VALUE => self.maps[map_idx as usize].clone(),
            _ => return Err(Errno::EINVAL),
        };
        if !map.is_rdonly() {
            verbose!(self, "R{regno} does not point to a readonly map'\n");
            return Err(Errno::EACCES);
        }
        if !reg.is_const() {
            verbose!(self, "R{regno} is not a constant address'\n");
            return Err(Errno::EACCES);
        }
        if !map.has_direct_value_addr() {
            verbose!(self, "no direct value access support for this map type\n");
            return Err(Errno::EACCES);
        }
        let rest = (map.value_size as i32).wrapping_sub(reg.off);
        self.check_map_access(regno, reg.off, rest, false, AccessSrc::Helper)?;
        match read_str(&map, value_off(reg)) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => {
                verbose!(self, "string is not zero-terminated\n");
                Err(Errno::EINVAL)
            }
            Err(err) => {
                verbose!(self, "direct value access on string failed\n");
                Err(err)
            }
        }
    }

    /// `check_bpf_snprintf_call`: the format in R3 is valid for the arguments, R5 bytes of them.
    pub(super) fn check_bpf_snprintf_call(&mut self) -> Result<()> {
        let data_len = self.cur_reg(5).var_off.value;
        if !data_len.is_multiple_of(8) {
            return Err(Errno::EINVAL);
        }
        let fmt_reg = *self.cur_reg(3);
        let Some(map_idx) = fmt_reg.map_ptr() else { return Err(Errno::EFAULT) };
        let map = self.maps[map_idx as usize].clone();
        // Checked as an argument before: the string is there, and ends.
        let Ok(Some(fmt)) = read_str(&map, value_off(&fmt_reg)) else {
            verbose!(self, "failed to retrieve map value address\n");
            return Err(Errno::EFAULT);
        };
        if !format_is_valid(&fmt, (data_len / 8) as u32) {
            verbose!(self, "Invalid format string\n");
            return Err(Errno::EINVAL);
        }
        Ok(())
    }
}
