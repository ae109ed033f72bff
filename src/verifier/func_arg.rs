//! Arguments of helper calls: `check_func_arg` and what each kind of argument asks of its register.

use bpftwin_uapi::insn::BPF_REG_1;
use bpftwin_uapi::{Errno, HelperId, MapType};

use super::access::{AccessType, CallArgMeta};
use super::map_fields::SpinLockOp;
use super::reg_arg::RegArgType;
use super::reg_type::{ArgType, RegType, flag};
use super::state::{BPF_REG_SIZE, RegState, STACK_SPILL, STACK_ZERO};
use super::{Result, Verifier};
use crate::helpers::FuncProto;
use crate::verbose;

/// Lookups with a key that is known to be in range never fail: `can_elide_value_nullness`.
pub(super) fn can_elide_value_nullness(map_type: MapType) -> bool {
    matches!(map_type, MapType::Array | MapType::PercpuArray)
}

impl Verifier {
    /// `check_func_arg`: argument `arg`, counted from zero.
    pub(super) fn check_func_arg(
        &mut self,
        arg: usize,
        meta: &mut CallArgMeta,
        proto: &FuncProto,
    ) -> Result<()> {
        let regno = BPF_REG_1 + arg as u8;
        let mut arg_type = proto.arg_type[arg];
        if arg_type == ArgType::ARG_DONTCARE {
            return Ok(());
        }
        self.check_reg_arg(regno, RegArgType::SrcOp)?;
        if arg_type == ArgType::ARG_ANYTHING {
            if self.is_pointer_value(regno) {
                verbose!(self, "R{regno} leaks addr into helper function\n");
                return Err(Errno::EACCES);
            }
            return Ok(());
        }
        let reg = *self.cur_reg(regno);
        if reg.is_pkt_pointer() && !self.may_access_direct_pkt_data(Some(&*meta), AccessType::Read) {
            verbose!(self, "helper access to the packet is not allowed\n");
            return Err(Errno::EACCES);
        }
        if arg_type.base() == ArgType::ARG_PTR_TO_MAP_VALUE {
            arg_type = self.resolve_map_arg_type(meta, arg_type)?;
        }
        // The null pointer is a scalar; its type is right for any argument that may be null.
        if !(arg_type.may_be_null() && reg.is_null()) {
            let has_btf_id =
                matches!(arg_type.base(), ArgType::ARG_PTR_TO_BTF_ID | ArgType::ARG_PTR_TO_SPIN_LOCK);
            let btf_id = proto.arg_btf_id[arg].filter(|_| has_btf_id);
            self.check_reg_type(regno, arg_type, btf_id, meta)?;
            self.check_func_arg_reg_off(&reg, regno, arg_type)?;
        }
        if arg_type.has(flag::OBJ_RELEASE) {
            self.check_release_arg(&reg, regno, arg_type, meta)?;
        }
        if reg.ref_obj_id != 0 && arg_type.base() != ArgType::ARG_KPTR_XCHG_DEST {
            if meta.ref_obj_id != 0 {
                verbose!(
                    self,
                    "more than one arg with ref_obj_id R{regno} {} {}",
                    reg.ref_obj_id,
                    meta.ref_obj_id
                );
                return Err(Errno::EACCES);
            }
            meta.ref_obj_id = reg.ref_obj_id;
        }
        self.check_arg_of_type(arg, arg_type, &reg, meta, proto)
    }

    fn check_arg_of_type(
        &mut self,
        arg: usize,
        arg_type: ArgType,
        reg: &RegState,
        meta: &mut CallArgMeta,
        proto: &FuncProto,
    ) -> Result<()> {
        let regno = BPF_REG_1 + arg as u8;
        match arg_type.base() {
            ArgType::ARG_CONST_MAP_PTR => self.check_map_ptr_arg(reg, meta),
            ArgType::ARG_PTR_TO_MAP_KEY => self.check_map_key_arg(reg, regno, meta),
            ArgType::ARG_PTR_TO_MAP_VALUE => {
                if arg_type.may_be_null() && reg.is_null() {
                    return Ok(());
                }
                let Some(map_idx) = meta.map_ptr else {
                    verbose!(self, "verifier bug: invalid map_ptr to access map->value\n");
                    return Err(Errno::EFAULT);
                };
                let value_size = self.maps[map_idx as usize].value_size;
                meta.raw_mode = arg_type.has(flag::MEM_UNINIT);
                self.check_helper_mem_access(regno, value_size as i32, direction(arg_type), false, Some(meta))
            }
            ArgType::ARG_PTR_TO_PERCPU_BTF_ID => self.check_percpu_arg(regno, meta),
            ArgType::ARG_PTR_TO_SPIN_LOCK => self.check_spin_lock_arg(regno, meta),
            ArgType::ARG_PTR_TO_TIMER => self.process_timer_func(regno, meta),
            ArgType::ARG_PTR_TO_FUNC => {
                meta.subprogno = reg.subprogno();
                Ok(())
            }
            ArgType::ARG_PTR_TO_MEM => {
                // Unless its size is fixed, the memory is checked together with the size argument behind it.
                meta.raw_mode = arg_type.has(flag::MEM_UNINIT);
                if arg_type.has(flag::MEM_FIXED_SIZE) {
                    let size = proto.arg_size[arg] as i32;
                    self.check_helper_mem_access(regno, size, direction(arg_type), false, Some(meta))?;
                    if arg_type.has(flag::MEM_ALIGNED) {
                        self.check_ptr_alignment(regno, 0, size, true)?;
                    }
                }
                Ok(())
            }
            ArgType::ARG_CONST_SIZE | ArgType::ARG_CONST_SIZE_OR_ZERO => {
                let zero_size_allowed = arg_type.base() == ArgType::ARG_CONST_SIZE_OR_ZERO;
                let access =
                    proto.arg_type.get(arg.wrapping_sub(1)).copied().map_or(AccessType::Read, direction);
                self.check_mem_size_reg(regno, access, zero_size_allowed, meta)
            }
            ArgType::ARG_PTR_TO_DYNPTR => self.process_dynptr_func(reg, regno, arg_type),
            ArgType::ARG_CONST_ALLOC_SIZE_OR_ZERO => {
                if !reg.is_const() {
                    verbose!(self, "R{regno} is not a known constant'\n");
                    return Err(Errno::EACCES);
                }
                meta.mem_size = reg.var_off.value as u32;
                self.mark_chain_precision(regno)
            }
            ArgType::ARG_PTR_TO_CONST_STR => self.check_reg_const_str(reg, regno),
            ArgType::ARG_KPTR_XCHG_DEST => self.process_kptr_func(regno, meta),
            _ => Ok(()),
        }
    }

    /// `resolve_map_arg_type`: some maps hold sockets, and one only tells whether it knows a value.
    fn resolve_map_arg_type(&mut self, meta: &CallArgMeta, arg_type: ArgType) -> Result<ArgType> {
        let Some(map_idx) = meta.map_ptr else {
            verbose!(self, "verifier bug: invalid map_ptr to access map->type\n");
            return Err(Errno::EFAULT);
        };
        match self.maps[map_idx as usize].map_type {
            MapType::Sockmap | MapType::Sockhash if arg_type == ArgType::ARG_PTR_TO_MAP_VALUE => {
                Ok(ArgType::ARG_PTR_TO_BTF_ID_SOCK_COMMON)
            }
            MapType::Sockmap | MapType::Sockhash => {
                verbose!(self, "invalid arg_type for sockmap/sockhash\n");
                Err(Errno::EINVAL)
            }
            MapType::BloomFilter if meta.func_id == HelperId::MapPeekElem as i32 => {
                Ok(ArgType::ARG_PTR_TO_MAP_VALUE)
            }
            _ => Ok(arg_type),
        }
    }

    /// `check_func_arg_reg_off`: which offsets a pointer may have when it is passed.
    pub(super) fn check_func_arg_reg_off(
        &mut self,
        reg: &RegState,
        regno: u8,
        arg_type: ArgType,
    ) -> Result<()> {
        if arg_type.has(flag::OBJ_RELEASE) {
            // The object released may be anywhere; the pointer is to the dynptr that refers to it.
            if arg_type.base() == ArgType::ARG_PTR_TO_DYNPTR && reg.type_ == RegType::PTR_TO_STACK {
                return Ok(());
            }
            if reg.off != 0 {
                verbose!(
                    self,
                    "R{regno} must have zero offset when passed to release func or trusted arg to kfunc\n"
                );
                return Err(Errno::EINVAL);
            }
            return self.check_ptr_off_reg_fixed(reg, regno, false);
        }
        match offsets_allowed(reg.type_) {
            Offsets::Any => Ok(()),
            Offsets::Fixed => self.check_ptr_off_reg_fixed(reg, regno, true),
            Offsets::None => self.check_ptr_off_reg_fixed(reg, regno, false),
        }
    }

    fn check_release_arg(
        &mut self,
        reg: &RegState,
        regno: u8,
        arg_type: ArgType,
        meta: &mut CallArgMeta,
    ) -> Result<()> {
        if arg_type.base() == ArgType::ARG_PTR_TO_DYNPTR {
            if reg.type_ != RegType::PTR_TO_STACK {
                verbose!(self, "cannot release unowned const bpf_dynptr\n");
                return Err(Errno::EINVAL);
            }
            let spi = self.dynptr_get_spi(reg)?;
            let frame = &self.cur_state.frames[reg.frameno as usize];
            if spi.is_none_or(|spi| frame.stack[spi].spilled_ptr.ref_obj_id == 0) {
                verbose!(self, "arg {regno} is an unacquired reference\n");
                return Err(Errno::EINVAL);
            }
        } else if reg.ref_obj_id == 0 && !reg.is_null() {
            verbose!(self, "R{regno} must be referenced when passed to release function\n");
            return Err(Errno::EINVAL);
        }
        if meta.release_regno != 0 {
            verbose!(self, "verifier bug: more than one release argument\n");
            return Err(Errno::EFAULT);
        }
        meta.release_regno = regno;
        Ok(())
    }

    fn check_map_ptr_arg(&mut self, reg: &RegState, meta: &mut CallArgMeta) -> Result<()> {
        // The first pointer was that of a timer. Equal maps are not enough: two lookups in a map of maps give the
        // same template, and are told apart by their ids.
        if meta.map_ptr.is_some() && (meta.map_ptr != reg.map_ptr() || meta.map_uid != reg.map_uid()) {
            verbose!(
                self,
                "timer pointer in R1 map_uid={} doesn't match map pointer in R2 map_uid={}\n",
                meta.map_uid as i32,
                reg.map_uid() as i32
            );
            return Err(Errno::EINVAL);
        }
        meta.map_ptr = reg.map_ptr();
        meta.map_uid = reg.map_uid();
        Ok(())
    }

    fn check_map_key_arg(&mut self, reg: &RegState, regno: u8, meta: &mut CallArgMeta) -> Result<()> {
        let Some(map_idx) = meta.map_ptr else {
            verbose!(self, "verifier bug: invalid map_ptr to access map->key\n");
            return Err(Errno::EFAULT);
        };
        let map = &self.maps[map_idx as usize];
        let (key_size, elide) = (map.key_size, can_elide_value_nullness(map.map_type));
        self.check_helper_mem_access(regno, key_size as i32, AccessType::Read, false, None)?;
        if elide {
            meta.const_map_key = self.get_constant_map_key(reg, key_size)?.unwrap_or(-1);
        }
        Ok(())
    }

    /// `get_constant_map_key`: the key on the stack, where it is a known constant.
    fn get_constant_map_key(&mut self, key: &RegState, key_size: u32) -> Result<Option<i64>> {
        if !self.bpf_capable || key.type_ != RegType::PTR_TO_STACK || !key.is_const() {
            return Ok(None);
        }
        let stack_off = key.off.wrapping_add(key.var_off.value as i32);
        let slot = stack_off.wrapping_neg().wrapping_sub(1);
        let (Ok(spi), off) = (usize::try_from(slot / BPF_REG_SIZE as i32), slot as usize % BPF_REG_SIZE)
        else {
            return Ok(None);
        };
        let Some(stack) =
            self.cur_state.frames.get(key.frameno as usize).and_then(|frame| frame.stack.get(spi))
        else {
            return Ok(None);
        };
        // Bytes of the key that are within the slot, from its lowest on, as long as they are all alike.
        let run =
            |kind| stack.slot_type[..=off].iter().rev().take_while(|&&byte| byte == kind).count() as u32;
        if run(STACK_ZERO) >= key_size {
            return Ok(Some(0));
        }
        if !stack.is_spilled_scalar_reg() || run(STACK_SPILL) != key_size {
            return Ok(None);
        }
        let value = stack.spilled_ptr.var_off;
        if !value.is_const() {
            return Ok(None);
        }
        self.bt.set_frame_slot(key.frameno as usize, spi);
        self.mark_chain_precision_batch()?;
        Ok(Some(value.value as i64))
    }

    fn check_spin_lock_arg(&mut self, regno: u8, meta: &CallArgMeta) -> Result<()> {
        if self.in_rbtree_lock_required_cb() {
            verbose!(self, "can't spin_{{lock,unlock}} in rbtree cb\n");
            return Err(Errno::EACCES);
        }
        let lock = meta.func_id == HelperId::SpinLock as i32;
        if !lock && meta.func_id != HelperId::SpinUnlock as i32 {
            verbose!(self, "verifier bug: spin lock arg on unexpected helper\n");
            return Err(Errno::EFAULT);
        }
        self.process_spin_lock(regno, SpinLockOp { lock, resilient: false, irq: false })
    }

    /// `process_dynptr_func`: as nothing creates a dynptr, none that is expected is there.
    pub(super) fn process_dynptr_func(&mut self, reg: &RegState, regno: u8, arg_type: ArgType) -> Result<()> {
        if reg.type_ != RegType::PTR_TO_STACK && reg.type_ != RegType::CONST_PTR_TO_DYNPTR {
            verbose!(self, "arg#{} expected pointer to stack or const struct bpf_dynptr\n", regno - 1);
            return Err(Errno::EINVAL);
        }
        if arg_type.has(flag::MEM_UNINIT) || reg.type_ == RegType::CONST_PTR_TO_DYNPTR {
            return self.not_emulated("dynptrs");
        }
        self.dynptr_get_spi(reg)?;
        verbose!(self, "Expected an initialized dynptr as arg #{}\n", regno - 1);
        Err(Errno::EINVAL)
    }

    /// `dynptr_get_spi`: slot of the dynptr that the stack pointer would point to; reports where there can be none.
    fn dynptr_get_spi(&mut self, reg: &RegState) -> Result<Option<usize>> {
        const BPF_DYNPTR_NR_SLOTS: i32 = 2;
        if !reg.is_const() {
            verbose!(self, "dynptr has to be at a constant offset\n");
            return Ok(None);
        }
        let off = reg.off.wrapping_add(reg.var_off.value as i32);
        let spi = off.wrapping_neg().wrapping_sub(1) / BPF_REG_SIZE as i32;
        if off % BPF_REG_SIZE as i32 != 0 || spi + 1 < BPF_DYNPTR_NR_SLOTS {
            verbose!(self, "cannot pass in dynptr at an offset={off}\n");
            return Ok(None);
        }
        let allocated = self.cur_state.frames[reg.frameno as usize].stack.len();
        Ok(usize::try_from(spi).ok().filter(|&spi| spi < allocated))
    }

    /// `in_rbtree_lock_required_cb`: only callbacks of kfuncs require it, and these are not emulated.
    fn in_rbtree_lock_required_cb(&self) -> bool {
        false
    }
}

/// Offsets with which a pointer may be passed.
enum Offsets {
    None,
    Fixed,
    Any,
}

fn offsets_allowed(reg_type: RegType) -> Offsets {
    use RegType as R;
    const FIXED: [u32; 6] = [
        0,
        flag::MEM_ALLOC,
        flag::PTR_TRUSTED,
        flag::MEM_RCU,
        flag::MEM_ALLOC | flag::NON_OWN_REF,
        flag::MEM_ALLOC | flag::NON_OWN_REF | flag::MEM_RCU,
    ];
    let flags = reg_type.flags();
    let any = match reg_type.base() {
        R::PTR_TO_STACK
        | R::PTR_TO_PACKET
        | R::PTR_TO_PACKET_META
        | R::PTR_TO_MAP_KEY
        | R::PTR_TO_MAP_VALUE
        | R::PTR_TO_ARENA
        | R::SCALAR_VALUE => flags == 0,
        R::PTR_TO_MEM => flags == 0 || flags == flag::MEM_RDONLY || flags == flag::MEM_RINGBUF,
        R::PTR_TO_BUF => flags == 0 || flags == flag::MEM_RDONLY,
        R::PTR_TO_BTF_ID if FIXED.contains(&flags) => return Offsets::Fixed,
        _ => false,
    };
    if any { Offsets::Any } else { Offsets::None }
}

/// The helper writes the memory that the argument points to, or only reads it.
fn direction(arg_type: ArgType) -> AccessType {
    if arg_type.has(flag::MEM_WRITE) { AccessType::Write } else { AccessType::Read }
}
