//! The abstract state of a program: registers, stack frames, and the verifier states that hold them.
//!
//! States are copied at every branch and compared at every checkpoint, so they are plain data: a register is
//! `Copy`, a frame owns one vector for its stack, and nothing is shared.

use bpftwin_uapi::insn::{MAX_BPF_REG, MAX_BPF_STACK};

use super::bcf::Expr;
use super::reg_type::RegType;
use super::tnum::Tnum;

/// Bytes of one stack slot and of one register: `BPF_REG_SIZE`.
pub const BPF_REG_SIZE: usize = 8;
/// Depth of the call stack: `MAX_CALL_FRAMES`.
pub const MAX_CALL_FRAMES: usize = 8;
/// Flag in [`RegState::id`]: the register is linked to others at a constant distance, kept in `off`, by a 64-bit addition.
pub const BPF_ADD_CONST64: u32 = 1 << 31;
/// As [`BPF_ADD_CONST64`], by a 32-bit addition.
pub const BPF_ADD_CONST32: u32 = 1 << 30;
pub const BPF_ADD_CONST: u32 = BPF_ADD_CONST64 | BPF_ADD_CONST32;
/// `callsite` of the outermost frame: `BPF_MAIN_FUNC`.
pub const BPF_MAIN_FUNC: i32 = -1;
/// [`RegState::subreg_def`] where no 32-bit definition is pending: `DEF_NOT_SUBREG`.
pub const DEF_NOT_SUBREG: i32 = 0;

/// Index of a map in [`Verifier::maps`](super::Verifier::maps), which holds the program's maps and, behind
/// them, the inner-map templates of maps of maps.
pub type MapIdx = u32;

/// Type-dependent part of a register: the anonymous union of `struct bpf_reg_state`.
///
/// Which words are meaningful follows from [`RegState::type_`]; unused words are zero, so that two payloads
/// are equal exactly when the kernel's unions are.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Payload(pub [u32; 3]);

/// What is known of one register or spilled slot: `struct bpf_reg_state`.
///
/// Bounds and `var_off` describe the value of a scalar, or the variable part of a pointer's offset.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(C)]
pub struct RegState {
    pub type_: RegType,
    /// Fixed part of a pointer's offset; or the distance between linked scalars ([`BPF_ADD_CONST`]).
    pub off: i32,
    pub payload: Payload,
    pub id: u32,
    pub var_off: Tnum,
    pub smin_value: i64,
    pub smax_value: i64,
    pub umin_value: u64,
    pub umax_value: u64,
    pub s32_min_value: i32,
    pub s32_max_value: i32,
    pub u32_min_value: u32,
    pub u32_max_value: u32,
    pub ref_obj_id: u32,
    /// Index of the instruction, plus one, that defined the low 32 bits; [`DEF_NOT_SUBREG`] otherwise.
    pub subreg_def: i32,
    pub frameno: u8,
    /// The exact value matters for safety; imprecise scalars are all alike to state comparison.
    pub precise: bool,
    /// Expression of the value or of the variable part of the offset, in a symbolic run.
    pub bcf_expr: Option<Expr>,
}

impl Default for RegState {
    fn default() -> Self {
        Self::ZERO
    }
}

impl RegState {
    /// All-zero register, of type `NOT_INIT`.
    pub const ZERO: RegState = RegState {
        type_: RegType::NOT_INIT,
        off: 0,
        payload: Payload([0; 3]),
        id: 0,
        var_off: Tnum { value: 0, mask: 0 },
        smin_value: 0,
        smax_value: 0,
        umin_value: 0,
        umax_value: 0,
        s32_min_value: 0,
        s32_max_value: 0,
        u32_min_value: 0,
        u32_max_value: 0,
        ref_obj_id: 0,
        subreg_def: 0,
        frameno: 0,
        precise: false,
        bcf_expr: None,
    };

    /// Bytes behind a packet pointer that are known to be accessible, or a sentinel
    /// (`BEYOND_PKT_END`, `AT_PKT_END`).
    #[inline]
    pub fn range(&self) -> i32 {
        self.payload.0[0] as i32
    }

    #[inline]
    pub fn set_range(&mut self, range: i32) {
        self.payload.0[0] = range as u32;
    }

    /// Map of a map pointer, map key or map value. Stored plus one, so that zero means none.
    #[inline]
    pub fn map_ptr(&self) -> Option<MapIdx> {
        self.payload.0[0].checked_sub(1)
    }

    #[inline]
    pub fn set_map_ptr(&mut self, map: MapIdx) {
        self.payload.0[0] = map + 1;
    }

    /// Distinguishes lookups of inner maps: non-zero for registers that point to inner maps.
    #[inline]
    pub fn map_uid(&self) -> u32 {
        self.payload.0[1]
    }

    #[inline]
    pub fn set_map_uid(&mut self, uid: u32) {
        self.payload.0[1] = uid;
    }

    /// Size in bytes of a `PTR_TO_MEM` region.
    #[inline]
    pub fn mem_size(&self) -> u32 {
        self.payload.0[0]
    }

    #[inline]
    pub fn set_mem_size(&mut self, size: u32) {
        self.payload.0[0] = size;
    }

    /// Type of a `PTR_TO_BTF_ID`, in the object [`btf`](Self::btf).
    #[inline]
    pub fn btf_id(&self) -> u32 {
        self.payload.0[1]
    }

    /// BTF object of a `PTR_TO_BTF_ID`: zero for the kernel's.
    #[inline]
    pub fn btf(&self) -> u32 {
        self.payload.0[0]
    }

    #[inline]
    pub fn set_btf_id(&mut self, btf: u32, btf_id: u32) {
        self.payload.0 = [btf, btf_id, 0];
    }

    /// Id of the dynptr that a slice came from.
    #[inline]
    pub fn dynptr_id(&self) -> u32 {
        self.payload.0[1]
    }

    /// Subprogram of a `PTR_TO_FUNC`.
    #[inline]
    pub fn subprogno(&self) -> u32 {
        self.payload.0[0]
    }

    #[inline]
    pub fn set_subprogno(&mut self, subprogno: u32) {
        self.payload.0[0] = subprogno;
    }

    /// `tnum_is_const(reg->var_off)`
    #[inline]
    pub fn is_const(&self) -> bool {
        self.var_off.is_const()
    }

    /// `register_is_null`: the constant scalar zero.
    #[inline]
    pub fn is_null(&self) -> bool {
        self.type_ == RegType::SCALAR_VALUE && self.var_off.equals_const(0)
    }
}

/// What one byte of the stack holds: `enum bpf_stack_slot_type`.
pub type SlotType = u8;
pub const STACK_INVALID: SlotType = 0;
pub const STACK_SPILL: SlotType = 1;
pub const STACK_MISC: SlotType = 2;
pub const STACK_ZERO: SlotType = 3;
pub const STACK_DYNPTR: SlotType = 4;
pub const STACK_ITER: SlotType = 5;
pub const STACK_IRQ_FLAG: SlotType = 6;

/// Eight bytes of stack: `struct bpf_stack_state`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
#[repr(C)]
pub struct StackState {
    pub spilled_ptr: RegState,
    /// Type of each byte, from the highest address (`fp - 8 * spi - 1`) down to the lowest.
    pub slot_type: [SlotType; BPF_REG_SIZE],
}

impl StackState {
    /// `is_spilled_reg`
    #[inline]
    pub fn is_spilled_reg(&self) -> bool {
        self.slot_type[BPF_REG_SIZE - 1] == STACK_SPILL
    }

    /// `is_spilled_scalar_reg`
    #[inline]
    pub fn is_spilled_scalar_reg(&self) -> bool {
        self.is_spilled_reg() && self.spilled_ptr.type_ == RegType::SCALAR_VALUE
    }

    /// `is_spilled_scalar_reg64`: a scalar spilled with all of its eight bytes.
    #[inline]
    pub fn is_spilled_scalar_reg64(&self) -> bool {
        self.slot_type[0] == STACK_SPILL && self.spilled_ptr.type_ == RegType::SCALAR_VALUE
    }
}

/// Range that a return value must lie in: `struct bpf_retval_range`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct RetvalRange {
    pub minval: i32,
    pub maxval: i32,
}

/// One stack frame: `struct bpf_func_state`.
#[derive(Clone, Debug, Default)]
pub struct FuncState {
    pub regs: [RegState; MAX_BPF_REG],
    /// Index of the call instruction that entered this frame, [`BPF_MAIN_FUNC`] for the outermost.
    pub callsite: i32,
    /// Depth of the frame, zero for the outermost.
    pub frameno: u32,
    pub subprogno: u32,
    /// Incremented at every start of an asynchronous callback, to tell unbounded recursion of timers.
    pub async_entry_cnt: u32,
    pub callback_ret_range: RetvalRange,
    pub in_callback_fn: bool,
    pub in_async_callback_fn: bool,
    pub in_exception_callback_fn: bool,
    /// Simulated iterations of the callback that frame `frameno + 1` runs.
    pub callback_depth: u32,
    /// `stack[i]` describes bytes `[fp - 8 * (i + 1), fp - 8 * i)`.
    pub stack: Vec<StackState>,
}

impl FuncState {
    /// Bytes of stack that are described, a multiple of eight: `allocated_stack`.
    #[inline]
    pub fn allocated_stack(&self) -> i32 {
        (self.stack.len() * BPF_REG_SIZE) as i32
    }
}

/// Kind of an acquired reference: `enum ref_state_type`. A bit set, as release functions search for several.
pub type RefStateType = u32;
pub const REF_TYPE_PTR: RefStateType = 1 << 1;
pub const REF_TYPE_IRQ: RefStateType = 1 << 2;
pub const REF_TYPE_LOCK: RefStateType = 1 << 3;
pub const REF_TYPE_RES_LOCK: RefStateType = 1 << 4;
pub const REF_TYPE_RES_LOCK_IRQ: RefStateType = 1 << 5;
pub const REF_TYPE_LOCK_MASK: RefStateType = REF_TYPE_LOCK | REF_TYPE_RES_LOCK | REF_TYPE_RES_LOCK_IRQ;

/// What a lock lives in: the kernel keeps the `bpf_map` or `btf` pointer here.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum LockOwner {
    #[default]
    None,
    Map(MapIdx),
    Btf(u32),
}

/// An acquired reference, lock or saved interrupt state: `struct bpf_reference_state`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ReferenceState {
    pub type_: RefStateType,
    /// Unique id, even where one instruction acquires several times.
    pub id: u32,
    /// Instruction that acquired it.
    pub insn_idx: u32,
    pub ptr: LockOwner,
}

/// Flags of [`JmpHistoryEntry`]: a stack access in the low bits (frame number, slot index).
pub mod insn_flag {
    pub const FRAMENO_MASK: u32 = 0x7;
    pub const SPI_MASK: u32 = 0x3f;
    pub const SPI_SHIFT: u32 = 3;
    pub const STACK_ACCESS: u32 = 1 << 9;
    pub const DST_REG_STACK: u32 = 1 << 10;
    pub const SRC_REG_STACK: u32 = 1 << 11;
}

/// One step that backtracking must not reconstruct by itself: `struct bpf_jmp_history_entry`.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct JmpHistoryEntry {
    pub idx: u32,
    pub prev_idx: u32,
    /// Of [`insn_flag`].
    pub flags: u32,
    /// Registers linked by scalar id at this jump, packed ten bits each.
    pub linked_regs: u64,
}

/// Index of a checkpoint in the verifier's table of states.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct StateId(pub u32);

/// State of the whole program at one point of one path: `struct bpf_verifier_state`.
#[derive(Clone, Debug, Default)]
pub struct VerifierState {
    /// Frames from the outermost; the last is the current one.
    pub frames: Vec<Box<FuncState>>,
    pub parent: Option<StateId>,
    pub refs: Vec<ReferenceState>,
    /// Paths from this state that are still to be explored.
    pub branches: u32,
    pub insn_idx: u32,
    pub active_locks: u32,
    pub active_preempt_locks: u32,
    pub active_irq_id: u32,
    pub active_lock_id: u32,
    pub active_lock_ptr: LockOwner,
    pub active_rcu_lock: bool,
    pub speculative: bool,
    pub in_sleepable: bool,
    pub cleaned: bool,
    /// States behind this one were refined for the path that led to them: it covers no other.
    pub children_unsafe: bool,
    pub first_insn_idx: u32,
    pub last_insn_idx: u32,
    /// For a back-edge state, the cached state that it was found equal to.
    pub equal_state: Option<StateId>,
    pub jmp_history: Vec<JmpHistoryEntry>,
    pub dfs_depth: u32,
    pub callback_unroll_depth: u32,
    pub may_goto_depth: u32,
}

impl VerifierState {
    /// Index of the current frame.
    #[inline]
    pub fn curframe(&self) -> usize {
        self.frames.len() - 1
    }

    /// The current frame. A state that is verified always has one.
    #[inline]
    pub fn cur_func(&self) -> &FuncState {
        &self.frames[self.frames.len() - 1]
    }

    #[inline]
    pub fn cur_func_mut(&mut self) -> &mut FuncState {
        let last = self.frames.len() - 1;
        &mut self.frames[last]
    }

    /// Visits the registers and the spilled registers of every frame: `bpf_for_each_reg_in_vstate`.
    #[inline]
    pub fn for_each_reg_mut(&mut self, mut visit: impl FnMut(&mut RegState)) {
        for frame in &mut self.frames {
            frame.regs.iter_mut().for_each(&mut visit);
            for slot in frame.stack.iter_mut().filter(|slot| slot.is_spilled_reg()) {
                visit(&mut slot.spilled_ptr);
            }
        }
    }
}

/// Slots of the deepest possible stack.
pub const MAX_STACK_SLOTS: usize = MAX_BPF_STACK as usize / BPF_REG_SIZE;
