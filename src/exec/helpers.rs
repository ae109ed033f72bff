//! Helpers, by their prototypes: memory arguments are checked as the helper would access them, what it writes is left to be
//! asked for, and what it returns is asked for within what is known of the helper.

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{HelperId, Insn};

use super::access::Access;
use super::inputs::{Origin, Range};
use super::machine::{Exec, Machine};
use super::memory::{Fill, KERNEL, RegionId, RegionKind, Value};
use super::program::Helper;
use super::stop::{Stop, Wrong};
use crate::helpers::{bpf_helper_changes_pkt_data, is_ptr_cast_function, is_sync_callback_calling_function};
use crate::verifier::BPF_MAX_VAR_SIZ;
use crate::verifier::access::AccessType;
use crate::verifier::reg_type::{ArgType, RegType, RetType, flag};

const MAX_ERRNO: i64 = 4095;

/// Helpers whose size argument is an `u64` or `size_t`. The others take an `u32`: the upper half of the register does not reach them.
const SIZES_OF_64_BITS: [HelperId; 10] = [
    HelperId::PerfEventOutput,
    HelperId::RingbufOutput,
    HelperId::SkbOutput,
    HelperId::XdpOutput,
    HelperId::Strtol,
    HelperId::Strtoul,
    HelperId::SysctlGetName,
    HelperId::SysctlGetCurrentValue,
    HelperId::SysctlGetNewValue,
    HelperId::SysctlSetNewValue,
];

/// What a call has to do with memory.
#[derive(Default)]
struct Args {
    map: Option<(u32, std::sync::Arc<crate::verifier::prog::VerifierMap>)>,
    key: Option<(RegionId, i64)>,
    value: Option<(RegionId, i64)>,
    /// Memory that the helper writes: argument, region, offset, bytes.
    writes: Vec<(u8, RegionId, i64, u64)>,
    /// Size argument that came last.
    size: u64,
    alloc_size: u64,
    released: Option<RegionId>,
}

impl Machine<'_> {
    pub(super) fn helper_call(&mut self, insn: Insn) -> Exec<()> {
        let Some(helper) = self.program.helper(self.pc) else {
            return self.unsupported(format!("helper {} in this program", insn.imm));
        };
        let args = self.check_args(helper)?;
        if is_sync_callback_calling_function(helper.id) {
            return self.callback_call(helper.id);
        }
        if helper.id == HelperId::TailCall {
            return self.tail_call();
        }
        let returned = self.returned(helper, &args)?;
        self.write_outputs(&args);
        if helper.id == HelperId::MapUpdateElem
            && returned.is_some_and(|value| value.bits == 0)
            && let (Some((number, map)), Some(key), Some(value)) = (&args.map, args.key, args.value)
        {
            let key = self.read_bytes(key.0, key.1, map.key_size)?;
            self.update(*number, map, &key, value)?;
        }
        if let Some(released) = args.released.filter(|&id| id != KERNEL) {
            let root = self.region(released).parent.unwrap_or(released);
            self.region_mut(root).live = false;
            self.regions
                .iter_mut()
                .filter(|region| region.parent == Some(root))
                .for_each(|view| view.live = false);
        }
        if bpf_helper_changes_pkt_data(helper.id) {
            self.packet_changed();
        }
        if !helper.proto.allow_fastcall {
            self.clobber_caller_saved();
        }
        self.regs[BPF_REG_0 as usize] = returned;
        self.pc += 1;
        Ok(())
    }

    /// Checks the arguments that are memory, as `check_func_arg` does for all values that they may have.
    fn check_args(&mut self, helper: Helper) -> Exec<Args> {
        let mut args = Args::default();
        for (i, &arg_type) in helper.proto.arg_type.iter().enumerate() {
            if arg_type == ArgType::ARG_DONTCARE {
                break;
            }
            self.check_arg(helper, i, arg_type, &mut args)?;
        }
        Ok(args)
    }

    fn check_arg(&mut self, helper: Helper, i: usize, arg_type: ArgType, args: &mut Args) -> Exec<()> {
        let reg = BPF_REG_1 + i as u8;
        let value = self.reg(reg)?;
        let is_null = value.region.is_none() && value.bits == 0;
        if arg_type.has(flag::OBJ_RELEASE) {
            args.released = value.region;
            if value.region.is_some_and(|id| !self.region(id).live) {
                let access = Access { pointer: value, reg, off: 0, size: 0, write: false, arg: Some(reg) };
                return self.bad_access(access, Wrong::Stale);
            }
        }
        if arg_type.may_be_null() && is_null && arg_type.base() != ArgType::ARG_PTR_TO_MEM {
            return Ok(());
        }
        match arg_type.base() {
            ArgType::ARG_CONST_MAP_PTR => args.map = Some(self.map_arg(reg)?),
            ArgType::ARG_PTR_TO_MAP_KEY => {
                let size = args.map.as_ref().map_or(0, |(_, map)| map.key_size);
                args.key = Some(self.check_mem_arg(reg, size.into(), false)?);
            }
            ArgType::ARG_PTR_TO_MAP_VALUE => {
                let Some((_, map)) = &args.map else { return Ok(()) };
                use bpftwin_uapi::MapType::{Sockhash, Sockmap};
                if matches!(map.map_type, Sockmap | Sockhash) {
                    return Ok(());
                }
                let size = map.value_size.into();
                // What a bloom filter is asked for is only read.
                let write =
                    arg_type.has(flag::MEM_WRITE) && map.map_type != bpftwin_uapi::MapType::BloomFilter;
                let (id, off) = self.check_mem_arg(reg, size, write)?;
                if write {
                    args.writes.push((reg, id, off, size));
                } else {
                    args.value = Some((id, off));
                }
            }
            ArgType::ARG_PTR_TO_MEM if arg_type.has(flag::MEM_FIXED_SIZE) => {
                let size = helper.proto.arg_size[i].into();
                let write = arg_type.has(flag::MEM_WRITE);
                let (id, off) = self.check_mem_arg(reg, size, write)?;
                if write {
                    args.writes.push((reg, id, off, size));
                }
            }
            ArgType::ARG_CONST_SIZE | ArgType::ARG_CONST_SIZE_OR_ZERO => {
                self.check_size_arg(helper, i, arg_type, args)?;
            }
            ArgType::ARG_CONST_ALLOC_SIZE_OR_ZERO => args.alloc_size = value.bits,
            ArgType::ARG_PTR_TO_DYNPTR => return self.unsupported("dynptrs"),
            ArgType::ARG_PTR_TO_CTX if value.region != Some(self.context) => {
                let access = Access { pointer: value, reg, off: 0, size: 0, write: false, arg: Some(reg) };
                return self.bad_access(access, Wrong::NotAPointer);
            }
            _ => {}
        }
        Ok(())
    }

    /// Argument `i` (from zero) is the size of the memory that the argument before it points to: `check_mem_size_reg`.
    fn check_size_arg(&mut self, helper: Helper, i: usize, arg_type: ArgType, args: &mut Args) -> Exec<()> {
        let Some(&mem_type) = i.checked_sub(1).and_then(|before| helper.proto.arg_type.get(before)) else {
            return Ok(());
        };
        let reg = BPF_REG_1 + i as u8;
        let mut size = self.reg(reg)?;
        self.note(size);
        if !SIZES_OF_64_BITS.contains(&helper.id) {
            size.bits = size.bits as u32 as u64;
        }
        let size = size.bits;
        let zero_allowed = arg_type.base() == ArgType::ARG_CONST_SIZE_OR_ZERO;
        let write = mem_type.has(flag::MEM_WRITE);
        let pointer = self.reg(reg - 1)?;
        args.size = size;
        if size >= BPF_MAX_VAR_SIZ || size == 0 && !zero_allowed {
            let access = Access { pointer, reg: reg - 1, off: 0, size, write, arg: Some(reg - 1) };
            return self.bad_access(access, Wrong::BadSize);
        }
        // With a null pointer there may go any size where null is allowed, and no pointer matters for no bytes.
        let is_null = pointer.region.is_none() && pointer.bits == 0;
        if size == 0 || is_null && mem_type.may_be_null() {
            return Ok(());
        }
        let (id, off) = self.check_mem_arg(reg - 1, size, write)?;
        if write {
            args.writes.push((reg - 1, id, off, size));
        }
        Ok(())
    }

    /// The helper accesses `size` bytes behind register `reg`.
    fn check_mem_arg(&mut self, reg: u8, size: u64, write: bool) -> Exec<(RegionId, i64)> {
        let access = Access { pointer: self.reg(reg)?, reg, off: 0, size, write, arg: Some(reg) };
        self.note_pointer(access.pointer);
        let (id, off) = self.check_access(access)?;
        match self.region(id).kind {
            RegionKind::Context if size != 0 => {
                let last = off.saturating_add(size as i64 - 1);
                let direction = if write { AccessType::Write } else { AccessType::Read };
                if self.program.ctx_access(last, 1, direction, false).is_none() {
                    return self.bad_access(access, Wrong::NotAllowed);
                }
            }
            RegionKind::Map { .. } => return self.bad_access(access, Wrong::NotAPointer),
            _ => {}
        }
        Ok((id, off))
    }

    fn write_outputs(&mut self, args: &Args) {
        let (insn, nth) = (self.pc, self.nth());
        for &(arg, id, off, size) in &args.writes {
            let end = off.saturating_add(size as i64);
            self.region_mut(id).fill(Fill { start: off, end, insn, nth, arg });
        }
    }

    /// R0 after the call; `None` where the helper returns nothing.
    fn returned(&mut self, helper: Helper, args: &Args) -> Exec<Option<Value>> {
        let ret_type = helper.proto.ret_type;
        let origin = Origin::Return { insn: self.pc, nth: self.nth() };
        let base = ret_type.base();
        match base {
            RetType::RET_VOID => return Ok(None),
            RetType::RET_INTEGER => {
                let range = return_range(helper.id, args.size, self.program.nr_cpus);
                return Ok(Some(self.ask(origin, range)));
            }
            RetType::RET_PTR_TO_MAP_VALUE
                if matches!(helper.id, HelperId::MapLookupElem | HelperId::MapLookupPercpuElem) =>
            {
                let (Some((number, map)), Some(key)) = (&args.map, args.key) else {
                    return self.unsupported(format!("helper {}", helper.id.name()));
                };
                let key = self.read_bytes(key.0, key.1, map.key_size)?;
                let is_percpu = helper.id == HelperId::MapLookupPercpuElem;
                let cpu = if is_percpu { Some(self.reg(BPF_REG_3)?.bits) } else { None };
                return self.lookup(*number, map, key, cpu).map(Some);
            }
            _ => {}
        }
        let choice = if ret_type.may_be_null() { self.choose_pointer() } else { Value::scalar(1) };
        if choice.bits == 0 {
            return Ok(Some(choice));
        }
        let kind = RegionKind::Helper { insn: self.pc, nth: self.nth() };
        let pointer = match base {
            RetType::RET_PTR_TO_MAP_VALUE => {
                let Some((_, map)) = &args.map else {
                    return self.unsupported(format!("helper {}", helper.id.name()));
                };
                let id = self.new_region(kind, 0, map.value_size.into())?;
                self.region_mut(id).map = Some(std::sync::Arc::clone(map));
                self.pointer_to(id, 0)
            }
            RetType::RET_PTR_TO_MEM => {
                let id = self.new_region(kind, 0, args.alloc_size.min(u64::from(u32::MAX)) as i64)?;
                self.pointer_to(id, 0)
            }
            RetType::RET_PTR_TO_SOCKET => self.socket(RegType::PTR_TO_SOCKET)?,
            RetType::RET_PTR_TO_SOCK_COMMON => self.socket(RegType::PTR_TO_SOCK_COMMON)?,
            RetType::RET_PTR_TO_TCP_SOCK => self.socket(RegType::PTR_TO_TCP_SOCK)?,
            RetType::RET_PTR_TO_BTF_ID | RetType::RET_PTR_TO_MEM_OR_BTF_ID => self.kernel_object(),
            _ => return self.unsupported(format!("what helper {} returns", helper.id.name())),
        };
        if is_ptr_cast_function(helper.id)
            && let (Some(of), Some(view)) = (self.reg(BPF_REG_1)?.region, pointer.region)
            && of != KERNEL
            && view != KERNEL
        {
            self.region_mut(view).parent = Some(self.region(of).parent.unwrap_or(of));
        }
        Ok(Some(Value { term: choice.term, ..pointer }))
    }

    /// A tail call leaves the program, or fails and goes on. The program that follows returns to where this function would.
    fn tail_call(&mut self) -> Exec<()> {
        let choice = Origin::Choice { insn: self.pc, nth: self.nth() };
        let leaves = self.ask(choice, Range::CHOICE);
        if self.decide(leaves, 0) {
            self.clobber_caller_saved();
            let origin = Origin::Return { insn: self.pc, nth: self.nth() };
            self.regs[BPF_REG_0 as usize] = Some(self.ask(origin, Range::FULL));
            self.pc += 1;
            return Ok(());
        }
        if self.frames.len() <= 1 {
            return Err(Stop::Exit(None));
        }
        self.packet_changed();
        let origin = Origin::Return { insn: self.pc, nth: self.nth() };
        let returned = self.ask(origin, Range::FULL);
        self.return_with(Some(returned))
    }
}

/// Values that the helper can return: `do_refine_retval_range`. `size` is its size argument.
fn return_range(helper: HelperId, size: u64, nr_cpus: u32) -> Range {
    match helper {
        HelperId::GetStack
        | HelperId::GetTaskStack
        | HelperId::ProbeReadStr
        | HelperId::ProbeReadKernelStr
        | HelperId::ProbeReadUserStr => Range::new(-MAX_ERRNO, size.min(BPF_MAX_VAR_SIZ) as i64),
        HelperId::GetSmpProcessorId => Range::new(0, i64::from(nr_cpus.saturating_sub(1))),
        _ => Range::FULL,
    }
}
