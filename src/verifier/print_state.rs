//! Registers, stack slots and whole states in the log: the second half of `kernel/bpf/log.c`.
//!
//! At log level 2 this runs for every instruction: everything is appended to the log's stage piece by piece, nothing
//! is formatted into temporaries.

use std::fmt;
use std::sync::Arc;

use super::Verifier;
use super::log::Log;
use super::prog::VerifierMap;
use super::reg_type::RegType;
use super::reg_type::flag::*;
use super::state::*;
use crate::btf::Btf;

/// Columns that an instruction takes before its state, at least: `BPF_LOG_ALIGNMENT`.
const BPF_LOG_ALIGNMENT: u64 = 40;
/// Steps in which that grows: `BPF_LOG_MIN_ALIGNMENT`.
const BPF_LOG_MIN_ALIGNMENT: u64 = 8;

/// Letter of each `STACK_*`.
const SLOT_TYPE_CHAR: [u8; 7] = *b"?rm0dif";
/// Stack slots of a dynptr.
const BPF_DYNPTR_NR_SLOTS: usize = 2;

/// Registers and stack slots that changed since the state was last printed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scratched {
    pub regs: u32,
    pub stack_slots: u64,
}

impl Scratched {
    /// As [`Verifier`] starts, and whenever the whole state is due: everything.
    pub const ALL: Scratched = Scratched { regs: u32::MAX, stack_slots: u64::MAX };
    pub const NONE: Scratched = Scratched { regs: 0, stack_slots: 0 };
}

impl Verifier {
    #[inline]
    pub fn mark_reg_scratched(&mut self, regno: u32) {
        self.scratched.regs |= 1 << (regno & 31);
    }

    #[inline]
    pub fn mark_stack_slot_scratched(&mut self, spi: u32) {
        self.scratched.stack_slots |= 1 << (spi & 63);
    }

    #[inline]
    pub fn mark_verifier_state_scratched(&mut self) {
        self.scratched = Scratched::ALL;
    }

    #[inline]
    pub fn mark_verifier_state_clean(&mut self) {
        self.scratched = Scratched::NONE;
    }

    #[inline]
    pub fn verifier_state_scratched(&self) -> bool {
        self.scratched != Scratched::NONE
    }

    /// Logs frame `frameno` of the current state: `print_verifier_state(env, env->cur_state, frameno, print_all)`.
    pub fn print_cur_state(&mut self, frameno: usize, print_all: bool) {
        let scratched = if print_all { Scratched::ALL } else { self.scratched };
        if self.log.level != 0 {
            let mut printer = StatePrinter {
                log: &mut self.log,
                maps: &self.maps,
                btf_vmlinux: self.btf_vmlinux.as_deref(),
                used_btfs: &self.used_btfs,
            };
            printer.print_verifier_state(&self.cur_state, frameno, scratched);
        }
        if !print_all {
            self.mark_verifier_state_clean();
        }
    }

    /// Logs frame `frameno` of any state: all of it, or what changed since a state was last printed.
    pub fn print_verifier_state(&mut self, state: &VerifierState, frameno: usize, print_all: bool) {
        let scratched = if print_all { Scratched::ALL } else { self.scratched };
        if self.log.level != 0 {
            let mut printer = StatePrinter {
                log: &mut self.log,
                maps: &self.maps,
                btf_vmlinux: self.btf_vmlinux.as_deref(),
                used_btfs: &self.used_btfs,
            };
            printer.print_verifier_state(state, frameno, scratched);
        }
        if !print_all {
            self.mark_verifier_state_clean();
        }
    }

    /// Logs what changed in frame `frameno` of the current state, behind the instruction where that was just
    /// printed: `print_insn_state`.
    pub fn print_insn_state(&mut self, frameno: usize) {
        if self.log.level == 0 {
            return self.mark_verifier_state_clean();
        }
        self.print_insn_prefix();
        let mut printer = StatePrinter {
            log: &mut self.log,
            maps: &self.maps,
            btf_vmlinux: self.btf_vmlinux.as_deref(),
            used_btfs: &self.used_btfs,
        };
        printer.print_verifier_state(&self.cur_state, frameno, self.scratched);
        self.mark_verifier_state_clean();
    }

    fn print_insn_prefix(&mut self) {
        if self.prev_log_pos != 0 && self.prev_log_pos == self.log.end_pos() {
            // Continue the instruction's line.
            self.log.reset(self.prev_log_pos - 1);
            const BLANKS: &[u8; 48] = &[b' '; 48];
            let mut blanks = vlog_alignment(self.prev_insn_print_pos) as usize;
            while blanks > 0 {
                let n = blanks.min(BLANKS.len());
                self.log.push_bytes(&BLANKS[..n]);
                blanks -= n;
            }
            self.log.push_byte(b';');
        } else {
            self.log.push_u64(u64::from(self.insn_idx));
            self.log.push_byte(b':');
        }
    }
}

/// Blanks that bring the state behind an instruction of `pos` characters to its column.
fn vlog_alignment(pos: u64) -> u64 {
    (pos + BPF_LOG_MIN_ALIGNMENT / 2).max(BPF_LOG_ALIGNMENT).next_multiple_of(BPF_LOG_MIN_ALIGNMENT) - pos - 1
}

/// Name of a register's type as the log prints it: `reg_type_str`. A `PTR_TO_BTF_ID` ends in an underscore, for the name of the
/// structure to follow.
#[derive(Clone, Copy)]
pub struct RegTypeStr(RegType);

/// `reg_type_str`
pub fn reg_type_str(reg_type: RegType) -> RegTypeStr {
    RegTypeStr(reg_type)
}

impl RegTypeStr {
    fn pieces(self, mut each: impl FnMut(&'static str)) {
        const PREFIXES: [(u32, &str); 7] = [
            (MEM_RDONLY, "rdonly_"),
            (MEM_RINGBUF, "ringbuf_"),
            (MEM_USER, "user_"),
            (MEM_PERCPU, "percpu_"),
            (MEM_RCU, "rcu_"),
            (PTR_UNTRUSTED, "untrusted_"),
            (PTR_TRUSTED, "trusted_"),
        ];
        if self.0.flags() != 0 {
            for (flag, prefix) in PREFIXES {
                if self.0.has(flag) {
                    each(prefix);
                }
            }
        }
        let base = self.0.base();
        each(match base {
            RegType::SCALAR_VALUE => "scalar",
            RegType::PTR_TO_CTX => "ctx",
            RegType::CONST_PTR_TO_MAP => "map_ptr",
            RegType::PTR_TO_MAP_VALUE => "map_value",
            RegType::PTR_TO_STACK => "fp",
            RegType::PTR_TO_PACKET => "pkt",
            RegType::PTR_TO_PACKET_META => "pkt_meta",
            RegType::PTR_TO_PACKET_END => "pkt_end",
            RegType::PTR_TO_FLOW_KEYS => "flow_keys",
            RegType::PTR_TO_SOCKET => "sock",
            RegType::PTR_TO_SOCK_COMMON => "sock_common",
            RegType::PTR_TO_TCP_SOCK => "tcp_sock",
            RegType::PTR_TO_TP_BUFFER => "tp_buffer",
            RegType::PTR_TO_XDP_SOCK => "xdp_sock",
            RegType::PTR_TO_BTF_ID => "ptr_",
            RegType::PTR_TO_MEM => "mem",
            RegType::PTR_TO_ARENA => "arena",
            RegType::PTR_TO_BUF => "buf",
            RegType::PTR_TO_FUNC => "func",
            RegType::PTR_TO_MAP_KEY => "map_key",
            RegType::CONST_PTR_TO_DYNPTR => "dynptr_ptr",
            _ => "?",
        });
        if self.0.may_be_null() {
            each(if base == RegType::PTR_TO_BTF_ID { "or_null_" } else { "_or_null" });
        }
    }
}

impl fmt::Display for RegTypeStr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut result = Ok(());
        self.pieces(|piece| result = result.and_then(|()| f.write_str(piece)));
        result
    }
}

/// `dynptr_type_str`, for the numbers of `enum bpf_dynptr_type`.
pub fn dynptr_type_str(dynptr_type: u32) -> &'static str {
    match dynptr_type {
        0 => "<invalid>",
        1 => "local",
        2 => "ringbuf",
        3 => "skb",
        4 => "xdp",
        5 => "skb_meta",
        _ => "<unknown>",
    }
}

/// `iter_state_str`, for the numbers of `enum bpf_iter_state`.
pub fn iter_state_str(state: u32) -> &'static str {
    match state {
        0 => "<invalid>",
        1 => "active",
        2 => "drained",
        _ => "<unknown>",
    }
}

/// Appends states to a log.
pub struct StatePrinter<'a> {
    pub log: &'a mut Log,
    /// [`Verifier::maps`]
    pub maps: &'a [Arc<VerifierMap>],
    /// BTF of the kernel, which has the names of its structures.
    pub btf_vmlinux: Option<&'a Btf>,
    /// [`Verifier::used_btfs`]
    pub used_btfs: &'a [Arc<Btf>],
}

impl StatePrinter<'_> {
    /// `print_verifier_state`: the scratched parts of one frame, references and callback marks, and the end of the line.
    pub fn print_verifier_state(&mut self, vstate: &VerifierState, frameno: usize, scratched: Scratched) {
        let Some(state) = vstate.frames.get(frameno) else { return };
        if state.frameno != 0 {
            self.log.push(" frame");
            self.log.push_u64(u64::from(state.frameno));
            self.log.push_byte(b':');
        }
        for (i, reg) in state.regs.iter().enumerate() {
            if reg.type_ == RegType::NOT_INIT || scratched.regs >> i & 1 == 0 {
                continue;
            }
            self.log.push(" R");
            self.log.push_u64(i as u64);
            self.log.push_byte(b'=');
            self.print_reg_state(state, reg);
        }
        self.print_stack(state, scratched);
        self.print_refs(vstate);
        if state.in_callback_fn {
            self.log.push(" cb");
        }
        if state.in_async_callback_fn {
            self.log.push(" async_cb");
        }
        self.log.push_byte(b'\n');
    }

    fn print_stack(&mut self, state: &FuncState, scratched: Scratched) {
        let mut i = 0;
        // Slots of the frame are fewer than the bits of the set.
        while i < state.stack.len() {
            if scratched.stack_slots >> (i & 63) & 1 != 0 {
                i = self.print_slot(state, i);
            }
            i += 1;
        }
    }

    /// Prints slot `i`, and returns the last slot that belongs to it.
    fn print_slot(&mut self, state: &FuncState, i: usize) -> usize {
        let slot = &state.stack[i];
        let types = slot.slot_type;
        if types == [STACK_INVALID; BPF_REG_SIZE] {
            return i;
        }
        let chars = types.map(|t| SLOT_TYPE_CHAR[usize::from(t) % SLOT_TYPE_CHAR.len()]);
        match types[BPF_REG_SIZE - 1] {
            STACK_SPILL => {
                self.print_slot_name(i);
                // What lies above a spilled subregister.
                let above = types.iter().position(|&t| t == STACK_SPILL).unwrap_or(BPF_REG_SIZE);
                self.log.push_bytes(&chars[..above]);
                self.print_reg_state(state, &slot.spilled_ptr);
                i
            }
            STACK_DYNPTR => self.print_dynptr(state, i + BPF_DYNPTR_NR_SLOTS - 1),
            STACK_ITER => {
                self.print_iter(&slot.spilled_ptr, i);
                i
            }
            _ => {
                self.print_slot_name(i);
                self.log.push_bytes(&chars);
                i
            }
        }
    }

    /// ` fp%d=`
    fn print_slot_name(&mut self, i: usize) {
        self.log.push(" fp-");
        self.log.push_u64(((i + 1) * BPF_REG_SIZE) as u64);
        self.log.push_byte(b'=');
    }

    fn print_dynptr(&mut self, state: &FuncState, i: usize) -> usize {
        let Some(slot) = state.stack.get(i) else { return i };
        let reg = &slot.spilled_ptr;
        self.print_slot_name(i);
        self.log.push("dynptr_");
        self.log.push(dynptr_type_str(reg.payload.0[0]));
        self.log.push_byte(b'(');
        let mut sep = Separator::default();
        for (name, value) in [("id=", reg.id), ("ref_id=", reg.ref_obj_id), ("dynptr_id=", reg.dynptr_id())] {
            if value != 0 {
                sep.next(self.log, name);
                self.log.push_i64(i64::from(value as i32));
            }
        }
        self.log.push_byte(b')');
        i
    }

    /// Only the iterator's main slot has a reference; the others are silent.
    fn print_iter(&mut self, reg: &RegState, i: usize) {
        if reg.ref_obj_id == 0 {
            return;
        }
        let [_, _, state_depth] = reg.payload.0;
        self.print_slot_name(i);
        self.log.push("iter_<invalid>(ref_id=");
        self.log.push_i64(i64::from(reg.ref_obj_id as i32));
        self.log.push(",state=");
        self.log.push(iter_state_str(state_depth & 3));
        self.log.push(",depth=");
        self.log.push_u64(u64::from(state_depth >> 2));
        self.log.push_byte(b')');
    }

    fn print_refs(&mut self, vstate: &VerifierState) {
        let Some(first) = vstate.refs.first().filter(|r| r.id != 0) else { return };
        self.log.push(" refs=");
        self.log.push_i64(i64::from(first.id as i32));
        for r in &vstate.refs[1..] {
            if r.id != 0 {
                self.log.push_byte(b',');
                self.log.push_i64(i64::from(r.id as i32));
            }
        }
    }

    /// `print_reg_state`
    fn print_reg_state(&mut self, state: &FuncState, reg: &RegState) {
        let t = reg.type_;
        if t == RegType::SCALAR_VALUE {
            if reg.precise {
                self.log.push_byte(b'P');
            }
            if reg.var_off.is_const() {
                return self.verbose_snum(reg.var_off.value as i64);
            }
            self.log.push("scalar");
        } else {
            reg_type_str(t).pieces(|piece| self.log.push(piece));
        }
        if t == RegType::PTR_TO_ARENA {
            return;
        }
        if t == RegType::PTR_TO_STACK {
            if state.frameno != u32::from(reg.frameno) {
                self.log.push_byte(b'[');
                self.log.push_u64(u64::from(reg.frameno));
                self.log.push_byte(b']');
            }
            if reg.var_off.is_const() {
                return self.verbose_snum((reg.var_off.value as i64).wrapping_add(i64::from(reg.off)));
            }
        }
        if t.base() == RegType::PTR_TO_BTF_ID {
            self.print_type_name(reg.btf(), reg.btf_id());
        }
        self.log.push_byte(b'(');
        self.print_attributes(reg);
        self.log.push_byte(b')');
    }

    /// `btf_type_name`, of a type of the object with this number, see [`RegState::btf`].
    fn print_type_name(&mut self, btf: u32, btf_id: u32) {
        let btf = match btf.checked_sub(1) {
            None => self.btf_vmlinux,
            Some(used) => self.used_btfs.get(used as usize).map(|btf| &**btf),
        };
        if let Some(btf) = btf
            && let Some(t) = btf.type_by_id(btf_id)
        {
            self.log.push(&btf.type_name(&t));
        }
    }

    fn print_attributes(&mut self, reg: &RegState) {
        let t = reg.type_;
        let base = t.base();
        let mut sep = Separator::default();
        if reg.id != 0 {
            sep.next(self.log, "id=");
            self.log.push_u64(u64::from(reg.id & !BPF_ADD_CONST));
        }
        if reg.id & BPF_ADD_CONST != 0 {
            self.log.push_i64_signed(i64::from(reg.off));
        }
        if t == RegType::SCALAR_VALUE {
            return self.print_value(reg, &mut sep);
        }
        if reg.ref_obj_id != 0 {
            sep.next(self.log, "ref_obj_id=");
            self.log.push_i64(i64::from(reg.ref_obj_id as i32));
        }
        if base == RegType::PTR_TO_BTF_ID && t.has(MEM_ALLOC | NON_OWN_REF) {
            sep.next(self.log, "non_own_ref");
        }
        if matches!(base, RegType::CONST_PTR_TO_MAP | RegType::PTR_TO_MAP_KEY | RegType::PTR_TO_MAP_VALUE) {
            self.print_map(reg, &mut sep);
        }
        if reg.off != 0 {
            sep.next(self.log, "off=");
            self.verbose_snum(i64::from(reg.off));
        }
        if matches!(base, RegType::PTR_TO_PACKET | RegType::PTR_TO_PACKET_META) {
            sep.next(self.log, "r=");
            self.verbose_unum(reg.range() as i64 as u64);
        }
        if base == RegType::PTR_TO_MEM {
            sep.next(self.log, "sz=");
            self.verbose_unum(u64::from(reg.mem_size()));
        }
        if t == RegType::CONST_PTR_TO_DYNPTR {
            sep.next(self.log, "type=");
            self.log.push(dynptr_type_str(reg.payload.0[0]));
        }
        self.print_value(reg, &mut sep);
    }

    fn print_map(&mut self, reg: &RegState, sep: &mut Separator) {
        let Some(map) = reg.map_ptr().and_then(|i| self.maps.get(i as usize)) else { return };
        if !map.name.is_empty() {
            sep.next(self.log, "map=");
            self.log.push(&map.name);
        }
        sep.next(self.log, "ks=");
        self.log.push_i64(i64::from(map.key_size as i32));
        self.log.push(",vs=");
        self.log.push_i64(i64::from(map.value_size as i32));
    }

    /// The value of a scalar, or the variable part of a pointer's offset.
    fn print_value(&mut self, reg: &RegState, sep: &mut Separator) {
        if reg.var_off.is_const() {
            if reg.var_off.value != 0 {
                sep.next(self.log, "imm=");
                self.verbose_snum(reg.var_off.value as i64);
            }
            return;
        }
        self.print_scalar_ranges(reg, sep);
        if !reg.var_off.is_unknown() {
            sep.next(self.log, "var_off=(");
            self.log.push_hex(reg.var_off.value);
            self.log.push("; ");
            self.log.push_hex(reg.var_off.mask);
            self.log.push_byte(b')');
        }
    }

    /// `print_scalar_ranges`: bounds that say something; equal ones share one value.
    fn print_scalar_ranges(&mut self, reg: &RegState, sep: &mut Separator) {
        let bounds = [
            ("smin=", reg.smin_value as u64, reg.smin_value == i64::MIN),
            ("smax=", reg.smax_value as u64, reg.smax_value == i64::MAX),
            ("umin=", reg.umin_value, reg.umin_value == 0),
            ("umax=", reg.umax_value, reg.umax_value == u64::MAX),
            ("smin32=", snum32(reg.s32_min_value), reg.s32_min_value == i32::MIN),
            ("smax32=", snum32(reg.s32_max_value), reg.s32_max_value == i32::MAX),
            ("umin32=", u64::from(reg.u32_min_value), reg.u32_min_value == 0),
            ("umax32=", u64::from(reg.u32_max_value), reg.u32_max_value == u32::MAX),
        ];
        // Bits of bounds that are still to be printed; signed ones are 0, 1, 4 and 5.
        let mut due = bounds.iter().rev().fold(0u32, |set, b| set << 1 | u32::from(!b.2));
        let signed = |i: usize| 0b0011_0011 >> i & 1 != 0;
        while due != 0 {
            let first = due.trailing_zeros() as usize;
            due &= due - 1;
            let (name, value, _) = bounds[first];
            let negative = signed(first) && (value as i64) < 0;
            sep.next(self.log, name);
            let mut other = first + 2;
            while other < bounds.len() {
                let (name, other_value, _) = bounds[other];
                let other_negative = signed(other) && (other_value as i64) < 0;
                if due >> other & 1 != 0 && other_value == value && other_negative == negative {
                    due &= !(1 << other);
                    self.log.push(name);
                }
                other += 2;
            }
            if signed(first) {
                self.verbose_snum(value as i64);
            } else {
                self.verbose_unum(value);
            }
        }
    }

    fn verbose_unum(&mut self, num: u64) {
        if num <= u64::from(u16::MAX) {
            self.log.push_u64(num);
        } else {
            self.log.push_hex(num);
        }
    }

    fn verbose_snum(&mut self, num: i64) {
        if i16::try_from(num).is_ok() {
            self.log.push_i64(num);
        } else {
            self.log.push_hex(num as u64);
        }
    }
}

/// A 32-bit bound, sign-extended only where it is printed in decimal.
fn snum32(value: i32) -> u64 {
    if i16::try_from(value).is_ok() { i64::from(value) as u64 } else { u64::from(value as u32) }
}

/// Puts a comma before every attribute but the first.
#[derive(Default)]
struct Separator {
    started: bool,
}

impl Separator {
    #[inline]
    fn next(&mut self, log: &mut Log, name: &str) {
        if self.started {
            log.push_byte(b',');
        }
        self.started = true;
        log.push(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::verifier::log::VecSink;
    use crate::verifier::tnum::Tnum;

    fn text(reg: RegState) -> String {
        let sink = VecSink::default();
        let mut log = Log::new(2, 4096, Some(Box::new(sink.clone()))).unwrap();
        StatePrinter { log: &mut log, maps: &[], btf_vmlinux: None, used_btfs: &[] }
            .print_reg_state(&FuncState::default(), &reg);
        log.finalize().1.unwrap();
        sink.text()
    }

    fn unknown() -> RegState {
        RegState {
            type_: RegType::SCALAR_VALUE,
            var_off: Tnum::UNKNOWN,
            smin_value: i64::MIN,
            smax_value: i64::MAX,
            umax_value: u64::MAX,
            s32_min_value: i32::MIN,
            s32_max_value: i32::MAX,
            u32_max_value: u32::MAX,
            ..RegState::ZERO
        }
    }

    #[test]
    fn registers() {
        assert_eq!(text(unknown()), "scalar()");
        assert_eq!(text(RegState { id: 3 | BPF_ADD_CONST, off: -1, ..unknown() }), "scalar(id=3-1)");
        let byte = RegState {
            smin_value: 0,
            smax_value: 255,
            umax_value: 255,
            s32_min_value: 0,
            s32_max_value: 255,
            u32_max_value: 255,
            var_off: Tnum { value: 0, mask: 255 },
            ..unknown()
        };
        assert_eq!(text(byte), "scalar(smin=smin32=0,smax=umax=smax32=umax32=255,var_off=(0x0; 0xff))");
        let negative = RegState { smin_value: -70000, s32_min_value: -70000, smax_value: -1, ..unknown() };
        assert_eq!(text(negative), "scalar(smin=0xfffffffffffeee90,smax=-1,smin32=0xfffeee90)");
        let constant = RegState { var_off: Tnum::constant(-5i64 as u64), precise: true, ..unknown() };
        assert_eq!(text(constant), "P-5");
        let fp = RegState { type_: RegType::PTR_TO_STACK, off: -16, ..RegState::ZERO };
        assert_eq!(text(fp), "fp-16");
        assert_eq!(text(RegState { frameno: 1, ..fp }), "fp[1]-16");
        let mut packet = RegState { type_: RegType::PTR_TO_PACKET, off: 14, id: 2, ..RegState::ZERO };
        packet.set_range(34);
        assert_eq!(text(packet), "pkt(id=2,off=14,r=34)");
        let socket =
            RegState { type_: RegType::PTR_TO_SOCKET_OR_NULL, id: 1, ref_obj_id: 1, ..RegState::ZERO };
        assert_eq!(text(socket), "sock_or_null(id=1,ref_obj_id=1)");
    }

    #[test]
    fn states_align_in_columns() {
        assert_eq!(vlog_alignment(10), 29);
        assert_eq!(vlog_alignment(36), 3);
        assert_eq!(vlog_alignment(37), 10);
        assert_eq!(vlog_alignment(45), 10);
    }
}
