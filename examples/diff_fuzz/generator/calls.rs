//! Calls: helpers with arguments as their prototypes ask, functions, callbacks, references, locks, tail calls.

use bpftwin::helpers::FuncProto;
use bpftwin::verifier::reg_type::{ArgType, RetType, flag};
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{HelperId, MapType, ProgType};

use super::{Class, FuncPlan, FuncRole, Generator, Kind};
use crate::btf::{Arg, Ret};
use crate::kernel::{MAPS, Value};

/// Where an argument comes from, before it is moved to its register.
#[derive(Clone, Copy)]
enum Source {
    Reg(u8),
    Imm(i32),
    Fp(i32),
    Map(usize),
    MapValue(usize, i32),
}

impl Generator<'_> {
    /// Emits a call of a helper; registers are left as a call leaves them.
    pub(super) fn call_helper_id(&mut self, id: i32) {
        self.emit(BPF_JMP | BPF_CALL, 0, 0, 0, id);
        for reg in 0..6 {
            self.set(reg, Kind::None);
        }
        self.set(0, Kind::Scalar(None));
    }

    /// A call of some helper that the program type has.
    pub(super) fn helper(&mut self) {
        if self.slip() && self.rng.one_in(3) {
            // One that it may not have.
            let id = self.rng.below(220) as i32;
            return self.call_helper_id(id);
        }
        let helpers = &self.profile.helpers;
        let (id, proto) = helpers[self.rng.below(helpers.len() as u64) as usize];
        if is_special(id, proto) && !self.rng.one_in(60) {
            return;
        }
        if proto.might_sleep && self.profile.flags == 0 && !self.slip() {
            return;
        }
        self.call_helper(id, proto);
    }

    fn call_helper(&mut self, id: HelperId, proto: &FuncProto) {
        let map = self.map_for(id);
        let Some(sources) = self.arguments(proto, map) else { return };
        for (i, &source) in sources.iter().enumerate() {
            self.argument(i as u8 + 1, source);
        }
        self.call_helper_id(id as i32);
        self.result(id, proto.ret_type, map);
        if invalidates_packets(id) {
            self.forget_packets();
        }
    }

    /// A helper that takes a socket.
    pub(super) fn socket_helper(&mut self) {
        if self.locked {
            return;
        }
        let takes_socket = |proto: &FuncProto| {
            proto.arg_type.iter().any(|arg| {
                matches!(
                    arg.base(),
                    ArgType::ARG_PTR_TO_SOCK_COMMON
                        | ArgType::ARG_PTR_TO_SOCKET
                        | ArgType::ARG_PTR_TO_BTF_ID_SOCK_COMMON
                )
            })
        };
        let helpers: Vec<_> =
            self.profile.helpers.iter().filter(|helper| takes_socket(helper.1)).copied().collect();
        if helpers.is_empty() {
            return;
        }
        let (id, proto) = self.rng.pick(&helpers);
        if !is_special(id, proto) || self.rng.one_in(10) {
            self.call_helper(id, proto);
        }
    }

    fn forget_packets(&mut self) {
        for reg in 0..10 {
            if matches!(
                self.kind(reg),
                Kind::Pkt | Kind::PktEnd | Kind::Meta | Kind::Mem { class: Class::Packet | Class::Meta, .. }
            ) {
                self.set(reg, Kind::None);
            }
        }
    }

    /// A map that suits the helper.
    fn map_for(&mut self, id: HelperId) -> usize {
        use MapType::*;
        let wanted: &[MapType] = match id {
            HelperId::TailCall => &[ProgArray],
            HelperId::PerfEventRead | HelperId::PerfEventOutput | HelperId::PerfEventReadValue => {
                &[PerfEventArray]
            }
            HelperId::GetStackid => &[StackTrace],
            HelperId::RingbufOutput | HelperId::RingbufReserve | HelperId::RingbufQuery => &[Ringbuf],
            HelperId::RedirectMap => &[Devmap, Cpumap, Xskmap, DevmapHash],
            HelperId::SkRedirectMap | HelperId::MsgRedirectMap | HelperId::SockMapUpdate => &[Sockmap],
            HelperId::SkRedirectHash | HelperId::MsgRedirectHash | HelperId::SockHashUpdate => &[Sockhash],
            HelperId::MapPushElem | HelperId::MapPopElem | HelperId::MapPeekElem => {
                &[Queue, Stack, BloomFilter]
            }
            HelperId::SkSelectReuseport => &[ReuseportSockarray, Sockmap],
            HelperId::SkbUnderCgroup | HelperId::CurrentTaskUnderCgroup => &[CgroupArray],
            HelperId::SkStorageGet | HelperId::SkStorageDelete => &[SkStorage],
            HelperId::GetLocalStorage => &[CgroupStorage],
            HelperId::MapLookupPercpuElem => &[PercpuArray, PercpuHash, LruPercpuHash],
            HelperId::ForEachMapElem => &[Array, Hash, PercpuArray, PercpuHash, LruHash],
            _ if self.sloppy > 0 && self.rng.one_in(15) => {
                &[Queue, Sockmap, Ringbuf, StackTrace, ArrayOfMaps]
            }
            _ => &[Array, Hash, LruHash, PercpuHash, LpmTrie, PercpuArray],
        };
        self.pick_map(|map_type| wanted.contains(&map_type))
    }

    /// Sources for all arguments; `None` where something is missing.
    fn arguments(&mut self, proto: &FuncProto, map: usize) -> Option<Vec<Source>> {
        let mut sources = Vec::new();
        let mut sizes = [0i32; 5];
        for i in 0..proto.num_params() {
            let arg = proto.arg_type[i];
            let next = proto.arg_type.get(i + 1).map_or(0, |arg| arg.base().0);
            let sized = next == ArgType::ARG_CONST_SIZE.0 || next == ArgType::ARG_CONST_SIZE_OR_ZERO.0;
            if arg.may_be_null() && self.rng.chance(25) {
                sources.push(Source::Imm(0));
                continue;
            }
            let source = match arg.base() {
                ArgType::ARG_CONST_MAP_PTR => Source::Map(map),
                ArgType::ARG_PTR_TO_MAP_KEY => self.memory(MAPS[map].key_size as i32, arg),
                ArgType::ARG_PTR_TO_MAP_VALUE => self.memory(MAPS[map].value_size as i32, arg),
                ArgType::ARG_PTR_TO_MEM => {
                    let size = if arg.has(flag::MEM_FIXED_SIZE) {
                        proto.arg_size[i] as i32
                    } else {
                        self.rng.pick(&[1, 4, 8, 8, 16, 20, 28, 40, 64])
                    };
                    if sized {
                        sizes[i + 1] = size;
                    }
                    self.memory(size, arg)
                }
                ArgType::ARG_CONST_SIZE | ArgType::ARG_CONST_SIZE_OR_ZERO => {
                    let size = if sizes[i] == 0 { 0 } else { sizes[i] };
                    self.size(size, arg.base() == ArgType::ARG_CONST_SIZE_OR_ZERO)
                }
                ArgType::ARG_CONST_ALLOC_SIZE_OR_ZERO => Source::Imm(self.rng.pick(&[0, 8, 24, 64])),
                ArgType::ARG_PTR_TO_CTX => Source::Reg(self.reg_among(6..10, |kind| kind == Kind::Ctx)?),
                ArgType::ARG_ANYTHING => match self.reg_among(6..10, Kind::is_scalar) {
                    Some(reg) if self.rng.chance(40) => Source::Reg(reg),
                    _ => Source::Imm(self.rng.pick(&[0, 0, 0, 1, 2, 8, 64, -1, 0x1000])),
                },
                ArgType::ARG_PTR_TO_SOCK_COMMON
                | ArgType::ARG_PTR_TO_SOCKET
                | ArgType::ARG_PTR_TO_BTF_ID_SOCK_COMMON => Source::Reg(self.reg_among(6..10, |kind| {
                    matches!(kind, Kind::Mem { class: Class::Sock, null: false, .. })
                })?),
                ArgType::ARG_PTR_TO_CONST_STR => {
                    let frozen: Vec<usize> = (0..MAPS.len()).filter(|&map| MAPS[map].frozen).collect();
                    let map = self.rng.pick(&frozen);
                    let off: i32 = self.rng.pick(&[0, 0, 0, 6, 11, 13, 17, 22]);
                    Source::MapValue(map, off.min(MAPS[map].value_size as i32 - 1))
                }
                ArgType::ARG_PTR_TO_STACK => Source::Fp(self.stack_bytes(8, true)),
                _ => Source::Imm(0),
            };
            sources.push(source);
        }
        if (self.slip() || self.sloppy > 0 && self.rng.one_in(12)) && !sources.is_empty() {
            let which = self.rng.below(sources.len() as u64) as usize;
            sources[which] = match self.rng.below(6) {
                3 => Source::MapValue(self.rng.pick(&[1, 23, 36, 40]), 0),
                4 => Source::Imm(0),
                0 => Source::Imm(self.rng.number() as i32),
                1 => Source::Fp(-self.rng.range(0, 600) as i32),
                2 => Source::Reg(self.rng.range(6, 9) as u8),
                _ => Source::Map(self.rng.below(MAPS.len() as u64) as usize),
            };
        }
        Some(sources)
    }

    /// Memory of a size for an argument.
    fn memory(&mut self, size: i32, arg: ArgType) -> Source {
        let output = arg.has_any(flag::MEM_UNINIT | flag::MEM_WRITE);
        let is_frozen = |class| matches!(class, Class::MapValue(map) if MAPS[map].frozen);
        let fits = |kind| {
            matches!(kind, Kind::Mem { class, size: room, null: false, .. }
                if room >= size && !(output && is_frozen(class)) && matches!(class, Class::MapValue(_) | Class::Ringbuf | Class::Other | Class::Packet))
        };
        if self.rng.chance(35)
            && let Some(reg) = self.reg_among(6..10, fits)
        {
            return Source::Reg(reg);
        }
        if self.rng.one_in(12)
            && let Some(map) = self.direct_map(size)
            && !(output && MAPS[map].frozen)
        {
            return Source::MapValue(map, 0);
        }
        Source::Fp(self.stack_bytes(size.max(1), !arg.has(flag::MEM_UNINIT)))
    }

    fn direct_map(&mut self, size: i32) -> Option<usize> {
        let maps: Vec<usize> = (0..MAPS.len())
            .filter(|&map| {
                let spec = MAPS[map];
                spec.map_type == MapType::Array && spec.max_entries == 1 && spec.value_size as i32 >= size
            })
            .collect();
        if maps.is_empty() { None } else { Some(self.rng.pick(&maps)) }
    }

    /// The size of the memory argument before.
    fn size(&mut self, size: i32, zero: bool) -> Source {
        if size == 0 || self.rng.chance(60) {
            return Source::Imm(size);
        }
        if self.slip()
            && let Some(reg) = self.reg_among(6..10, Kind::is_scalar)
        {
            return Source::Reg(reg);
        }
        // A bounded number, which for some helpers must not be zero.
        let reg = self.rng.pick(&[7, 8, 9]);
        if self.pinned & 1 << reg != 0 || !matches!(self.kind(reg), Kind::None | Kind::Scalar(_)) {
            return Source::Imm(size);
        }
        let bounded = self.bounded_scalar(size as u64 - 1);
        if bounded != reg {
            self.mov(reg, bounded);
        }
        if !zero {
            if self.rng.chance(60) || self.held > 0 || self.locked {
                self.emit(BPF_ALU64 | BPF_ADD | BPF_K, reg, 0, 0, 1);
            } else {
                self.emit(BPF_JMP | BPF_JNE | BPF_K, reg, 0, 2, 0);
                self.emit(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0);
                self.emit(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);
            }
        }
        Source::Reg(reg)
    }

    fn argument(&mut self, reg: u8, source: Source) {
        match source {
            Source::Reg(from) => self.mov(reg, from),
            Source::Imm(imm) => self.mov_imm(reg, imm),
            Source::Fp(off) => self.stack_pointer(reg, off),
            Source::Map(map) => self.ld_map(reg, map),
            Source::MapValue(map, off) => {
                self.ld_pseudo(reg, BPF_PSEUDO_MAP_VALUE, map as i32, off);
                self.set(reg, Kind::None);
            }
        }
    }

    /// What a helper leaves in R0.
    fn result(&mut self, id: HelperId, ret: RetType, map: usize) {
        let new_id = self.new_id();
        let null = ret.may_be_null();
        let kind = match ret.base() {
            RetType::RET_VOID => Kind::None,
            RetType::RET_INTEGER => Kind::Scalar(None),
            RetType::RET_PTR_TO_MAP_VALUE => {
                Kind::Mem { class: Class::MapValue(map), size: MAPS[map].value_size as i32, null, id: new_id }
            }
            RetType::RET_PTR_TO_SOCKET | RetType::RET_PTR_TO_SOCK_COMMON => {
                Kind::Mem { class: Class::Sock, size: 44, null, id: new_id }
            }
            RetType::RET_PTR_TO_TCP_SOCK => Kind::Mem { class: Class::Sock, size: 80, null, id: new_id },
            _ => Kind::None,
        };
        self.set(0, kind);
        match kind {
            Kind::Mem { null: true, .. } => {
                if self.rng.chance(50) {
                    self.keep(0);
                }
                self.null_check(0, |this| this.mem_access_at(0));
            }
            Kind::Scalar(_) if self.rng.chance(25) => {
                // Many a helper returns an error or a length.
                let at = self.insns.len();
                self.emit(BPF_JMP | BPF_JSGE | BPF_K, 0, 0, 0, 0);
                if self.held == 0 && !self.locked {
                    self.exit();
                } else {
                    self.mov_imm(0, 0);
                }
                self.patch(at);
                if id == HelperId::ProbeReadStr || self.rng.chance(30) {
                    self.use_as_offset(0);
                }
            }
            _ => {}
        }
    }

    /// Acquires something, works on it and gives it back.
    pub(super) fn reference(&mut self, depth: u32) {
        if depth >= 3 {
            return;
        }
        if self.rng.chance(60) {
            self.ringbuf(depth);
        } else {
            self.socket(depth);
        }
    }

    /// Values with locks and timers are of use to the program type.
    pub(super) fn may_lock(&mut self) -> bool {
        let able = !bpftwin::progs::is_tracing_prog_type(self.profile.prog_type)
            && self.profile.prog_type != ProgType::SocketFilter;
        able || self.slip()
    }

    fn has_helper(&self, id: HelperId) -> bool {
        self.profile.helpers.iter().any(|helper| helper.0 == id)
    }

    fn ringbuf(&mut self, depth: u32) {
        if !self.has_helper(HelperId::RingbufReserve) {
            return;
        }
        let map = self.pick_map(|map_type| map_type == MapType::Ringbuf);
        let size = self.rng.pick(&[8, 16, 24, 64]);
        self.ld_map(1, map);
        self.mov_imm(2, size);
        self.mov_imm(3, 0);
        self.call_helper_id(HelperId::RingbufReserve as i32);
        let id = self.new_id();
        self.set(0, Kind::Mem { class: Class::Ringbuf, size, null: true, id });
        let kept = self.keep(0);
        let release = self.rng.pick(&[HelperId::RingbufSubmit, HelperId::RingbufDiscard]);
        if kept == 0 {
            return self.null_check(0, |this| {
                this.mov(1, 0);
                this.mov_imm(2, 0);
                this.call_helper_id(release as i32);
                this.set(0, Kind::None);
            });
        }
        let tested = if self.rng.chance(50) { kept } else { 0 };
        self.null_check(tested, |this| {
            this.hold(kept, depth, |this| {
                this.mov(1, kept);
                this.mov_imm(2, 0);
                this.call_helper_id(release as i32);
                this.set(0, Kind::None);
            });
        });
    }

    /// Runs a body with a reference in `kept`, which the release takes.
    fn hold(&mut self, kept: u8, depth: u32, release: impl FnOnce(&mut Self)) {
        let pinned = self.pinned;
        self.pinned |= 1 << kept;
        self.held += 1;
        let kind = self.kind(kept);
        for _ in 0..self.rng.below(3) {
            self.mem_access_at(kept);
        }
        if self.rng.chance(60) {
            self.block(depth + 1);
        }
        self.held -= 1;
        self.pinned = pinned;
        if self.slip() || self.kind(kept) != kind {
            return;
        }
        release(self);
        if let Kind::Mem { id, .. } = kind {
            for reg in 0..10 {
                if matches!(self.kind(reg), Kind::Mem { id: same, .. } if same == id) {
                    self.set(reg, Kind::None);
                }
            }
        }
    }

    fn socket(&mut self, depth: u32) {
        let id = self.rng.pick(&[HelperId::SkLookupTcp, HelperId::SkLookupUdp, HelperId::SkcLookupTcp]);
        if !self.has_helper(id) {
            return;
        }
        let Some(ctx) = self.reg_among(6..10, |kind| kind == Kind::Ctx) else { return };
        let size = self.rng.pick(&[12, 36]);
        let tuple = self.stack_bytes(size, true);
        self.mov(1, ctx);
        self.stack_pointer(2, tuple);
        self.mov_imm(3, size);
        self.mov_imm(4, 0);
        self.mov_imm(5, 0);
        self.call_helper_id(id as i32);
        let new_id = self.new_id();
        self.set(0, Kind::Mem { class: Class::Sock, size: 44, null: true, id: new_id });
        let kept = self.keep(0);
        if kept == 0 {
            return self.null_check(0, |this| {
                this.mov(1, 0);
                this.call_helper_id(HelperId::SkRelease as i32);
            });
        }
        let tested = if self.rng.chance(50) { kept } else { 0 };
        self.null_check(tested, |this| {
            this.hold(kept, depth, |this| {
                this.mov(1, kept);
                this.call_helper_id(HelperId::SkRelease as i32);
            });
        });
    }

    /// A spin lock around a few accesses.
    pub(super) fn lock(&mut self, depth: u32) {
        if !self.has_helper(HelperId::SpinLock) || depth >= 3 || !self.may_lock() {
            return;
        }
        let maps: Vec<usize> = (0..MAPS.len()).filter(|&map| MAPS[map].value == Value::Lock).collect();
        let map = self.rng.pick(&maps);
        let Some(value) = self.lookup(map) else { return };
        let kept = if value >= 6 { value } else { self.keep(value) };
        if kept < 6 {
            return;
        }
        self.null_check(kept, |this| {
            let pinned = this.pinned;
            this.pinned |= 1 << kept;
            this.mov(1, kept);
            this.emit(BPF_ALU64 | BPF_ADD | BPF_K, 1, 0, 0, 8);
            this.call_helper_id(HelperId::SpinLock as i32);
            this.set(0, Kind::None);
            this.locked = true;
            for _ in 0..this.rng.range(1, 3) {
                this.mem_access_at(kept);
            }
            if this.rng.chance(30) {
                this.block(depth + 2);
            }
            this.locked = false;
            this.pinned = pinned;
            if this.slip() {
                return;
            }
            this.mov(1, kept);
            this.emit(BPF_ALU64 | BPF_ADD | BPF_K, 1, 0, 0, 8);
            this.call_helper_id(HelperId::SpinUnlock as i32);
            this.set(0, Kind::None);
        });
    }

    pub(super) fn tail_call(&mut self) {
        if self.held > 0 && !self.slip() {
            return;
        }
        let Some(ctx) = self.reg_among(6..10, |kind| kind == Kind::Ctx) else { return };
        let map = self.pick_map(|map_type| map_type == MapType::ProgArray);
        self.mov(1, ctx);
        self.ld_map(2, map);
        match self.reg_among(6..10, Kind::is_scalar) {
            Some(reg) if self.rng.chance(40) => self.mov(3, reg),
            _ => {
                let index = self.rng.range(0, 4) as i32;
                self.mov_imm(3, index);
            }
        }
        self.call_helper_id(HelperId::TailCall as i32);
        self.forget_packets();
    }

    /// A call of a function of the program.
    pub(super) fn function_call(&mut self) {
        let depth = self.funcs[self.current].depth;
        if self.rng.chance(40) && self.call_again() {
            return;
        }
        if self.funcs.len() > 10 || depth >= 7 && !self.slip() {
            return;
        }
        if self.use_btf && self.rng.chance(45) {
            return self.global_call(depth);
        }
        let mut args = [Kind::None; 5];
        let count = self.rng.below(5) as u8;
        for i in 0..count {
            let source = self.any_argument();
            self.argument(i + 1, source);
            args[i as usize] = self.seen_by_callee(self.kind(i + 1));
        }
        let candidates = self.fuzz.funcs_where(|func| !func.global && func.returns == Ret::Int);
        let btf_func = self.rng.pick(&candidates);
        self.funcs.push(FuncPlan { role: FuncRole::Static, btf_func, args, depth: depth + 1, start: 0 });
        self.emit_call(self.funcs.len() - 1);
        self.forget_packets();
    }

    fn emit_call(&mut self, func: usize) {
        self.func_refs.push((self.insns.len(), func));
        self.emit(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 0);
        for reg in 0..6 {
            self.set(reg, Kind::None);
        }
        self.set(0, Kind::Scalar(None));
        // The callee may have written to memory of this frame.
        for slot in &mut self.model.slots {
            if let super::Slot::Spill(kind) = slot
                && kind.is_scalar()
            {
                *slot = super::Slot::Bytes(0xff);
            }
        }
    }

    /// Calls a function that is called elsewhere already.
    fn call_again(&mut self) -> bool {
        let later: Vec<usize> = (self.current + 1..self.funcs.len())
            .filter(|&func| matches!(self.funcs[func].role, FuncRole::Static | FuncRole::Global))
            .collect();
        if later.is_empty() {
            return false;
        }
        let func = self.rng.pick(&later);
        let plan = self.funcs[func].clone();
        if plan.role == FuncRole::Global {
            let args = self.fuzz.funcs[plan.btf_func as usize].args;
            return self.global_arguments(args).is_some_and(|()| {
                self.emit_call(func);
                true
            });
        }
        for (i, wanted) in plan.args.into_iter().enumerate() {
            let source = match wanted {
                Kind::None => continue,
                Kind::Scalar(_) => Source::Imm(self.rng.range(0, 40) as i32),
                Kind::Ctx => match self.reg_among(6..10, |kind| kind == Kind::Ctx) {
                    Some(reg) => Source::Reg(reg),
                    None => return false,
                },
                Kind::Mem { class: Class::Other, size, .. } => Source::Fp(self.stack_bytes(size, true)),
                Kind::Map(map) => Source::Map(map),
                Kind::Mem { class: Class::MapValue(map), .. } if MAPS[map].max_entries == 1 => {
                    Source::MapValue(map, 0)
                }
                _ => return false,
            };
            self.argument(i as u8 + 1, source);
        }
        self.emit_call(func);
        self.forget_packets();
        true
    }

    /// An argument of a static function.
    fn any_argument(&mut self) -> Source {
        match self.rng.below(6) {
            0 => Source::Imm(self.rng.number() as i32),
            1 => Source::Fp(self.stack_bytes(16, true)),
            2 => match self.direct_map(8) {
                Some(map) => Source::MapValue(map, 0),
                None => Source::Imm(1),
            },
            3 => match self.reg_among(6..10, |kind| kind == Kind::Ctx) {
                Some(reg) => Source::Reg(reg),
                None => Source::Imm(2),
            },
            _ => match self.reg_among(6..10, |kind| kind != Kind::None) {
                Some(reg) => Source::Reg(reg),
                None => Source::Imm(3),
            },
        }
    }

    /// What the callee sees of an argument: pointers to this frame's stack are memory to it.
    fn seen_by_callee(&mut self, kind: Kind) -> Kind {
        match kind {
            Kind::Fp(off) if off < 0 => {
                let id = self.new_id();
                Kind::Mem { class: Class::Other, size: (-off).min(16), null: false, id }
            }
            Kind::Fp(_) => Kind::None,
            Kind::Mem { class: Class::Ringbuf | Class::Sock, .. } if self.held > 0 => Kind::None,
            kind => kind,
        }
    }

    fn global_call(&mut self, depth: u32) {
        let sloppy = self.slip();
        let skb = matches!(
            self.profile.prog_type,
            ProgType::SocketFilter
                | ProgType::SchedCls
                | ProgType::SchedAct
                | ProgType::CgroupSkb
                | ProgType::LwtXmit
                | ProgType::LwtIn
                | ProgType::LwtOut
                | ProgType::SkSkb
        );
        let prog_type = self.profile.prog_type;
        let candidates = self.fuzz.funcs_where(|func| {
            func.global
                && (sloppy
                    || matches!(func.returns, Ret::Int | Ret::Char)
                        && func.args.iter().all(|arg| match arg {
                            Arg::PtrSkb => skb,
                            Arg::PtrXdp => prog_type == ProgType::Xdp,
                            Arg::PtrRegs => prog_type == ProgType::Kprobe,
                            Arg::PtrPtr | Arg::PtrVoid => false,
                            _ => true,
                        }))
        });
        let btf_func = self.rng.pick(&candidates);
        let params = self.fuzz.funcs[btf_func as usize].args;
        if self.global_arguments(params).is_none() {
            return;
        }
        let mut args = [Kind::None; 5];
        for (place, &param) in args.iter_mut().zip(params) {
            let id = self.new_id();
            let memory = |size, null| Kind::Mem { class: Class::Other, size, null, id };
            *place = match param {
                Arg::Int | Arg::Long | Arg::Char | Arg::PtrVoid => Kind::Scalar(None),
                Arg::PtrInt => memory(4, true),
                Arg::PtrPtr => memory(8, true),
                Arg::PtrVal => memory(16, true),
                Arg::PtrValNonnull => memory(16, false),
                Arg::PtrSkb | Arg::PtrXdp | Arg::PtrRegs | Arg::PtrVoidCtx => Kind::Ctx,
            };
        }
        self.funcs.push(FuncPlan { role: FuncRole::Global, btf_func, args, depth: depth + 1, start: 0 });
        self.emit_call(self.funcs.len() - 1);
        self.forget_packets();
    }

    /// Arguments as a global function's prototype asks.
    fn global_arguments(&mut self, params: &[Arg]) -> Option<()> {
        let mut sources = Vec::new();
        for &param in params {
            let pointer = |this: &mut Self, size, null: bool| {
                if null && this.rng.chance(20) {
                    Source::Imm(0)
                } else if this.rng.chance(25)
                    && let Some(map) = this.direct_map(size)
                {
                    Source::MapValue(map, 0)
                } else {
                    Source::Fp(this.stack_bytes(size, true))
                }
            };
            sources.push(match param {
                Arg::Int | Arg::Long | Arg::Char => match self.reg_among(6..10, Kind::is_scalar) {
                    Some(reg) if self.rng.chance(50) => Source::Reg(reg),
                    _ => Source::Imm(self.rng.number() as i32),
                },
                Arg::PtrInt | Arg::PtrPtr => pointer(self, 8, true),
                Arg::PtrVal => pointer(self, 16, true),
                Arg::PtrValNonnull => pointer(self, 16, false),
                Arg::PtrVoid => Source::Imm(0),
                Arg::PtrSkb | Arg::PtrXdp | Arg::PtrRegs | Arg::PtrVoidCtx => {
                    Source::Reg(self.reg_among(6..10, |kind| kind == Kind::Ctx)?)
                }
            });
        }
        if self.sloppy > 0 && !sources.is_empty() && self.rng.one_in(10) {
            let which = self.rng.below(sources.len() as u64) as usize;
            sources[which] = self.any_argument();
        }
        for (i, source) in sources.into_iter().enumerate() {
            self.argument(i as u8 + 1, source);
        }
        Some(())
    }

    /// `bpf_loop`, `bpf_for_each_map_elem` and timers.
    pub(super) fn callback(&mut self) {
        if !self.use_btf && !self.slip() || self.funcs.len() > 8 {
            return;
        }
        let depth = self.funcs[self.current].depth + 1;
        if depth > 5 {
            return;
        }
        let id = self.new_id();
        let stack = |size| Kind::Mem { class: Class::Other, size, null: false, id };
        match self.rng.below(5) {
            0..3 => {
                let ctx = self.rng.chance(70).then(|| self.stack_bytes(16, true));
                match self.reg_among(6..10, Kind::is_scalar) {
                    Some(reg) if self.rng.chance(40) => self.mov(1, reg),
                    _ => {
                        let rounds = self.rng.pick(&[0, 1, 2, 5, 100, 1 << 23]);
                        self.mov_imm(1, rounds);
                    }
                }
                let second = ctx.map_or(Kind::Scalar(Some(0)), |_| stack(16));
                self.ld_func(2, [Kind::Scalar(None), second, Kind::None, Kind::None, Kind::None], depth);
                match ctx {
                    Some(off) => self.stack_pointer(3, off),
                    None => self.mov_imm(3, 0),
                }
                self.mov_imm(4, 0);
                self.call_helper_id(HelperId::Loop as i32);
            }
            3 => {
                let map = self.map_for(HelperId::ForEachMapElem);
                let ctx = self.stack_bytes(16, true);
                self.ld_map(1, map);
                let args = [
                    Kind::Map(map),
                    Kind::Mem { class: Class::MapKey, size: MAPS[map].key_size as i32, null: false, id },
                    Kind::Mem {
                        class: Class::MapValue(map),
                        size: MAPS[map].value_size as i32,
                        null: false,
                        id: id + 1,
                    },
                    stack(16),
                    Kind::None,
                ];
                self.next_id += 2;
                self.ld_func(2, args, depth);
                self.stack_pointer(3, ctx);
                self.mov_imm(4, 0);
                self.call_helper_id(HelperId::ForEachMapElem as i32);
            }
            _ => self.timer(depth),
        }
        // What the callback wrote to is known less well.
        for slot in &mut self.model.slots {
            if let super::Slot::Spill(Kind::Scalar(_)) = slot {
                *slot = super::Slot::Bytes(0xff);
            }
        }
    }

    fn timer(&mut self, depth: u32) {
        if !self.has_helper(HelperId::TimerInit) || !self.may_lock() {
            return;
        }
        let maps: Vec<usize> = (0..MAPS.len()).filter(|&map| MAPS[map].value == Value::Timer).collect();
        let map = self.rng.pick(&maps);
        let Some(value) = self.lookup(map) else { return };
        let kept = if value >= 6 { value } else { self.keep(value) };
        if kept < 6 {
            return;
        }
        self.null_check(kept, |this| {
            if this.rng.chance(60) {
                this.mov(1, kept);
                this.ld_map(2, map);
                let clock = this.rng.pick(&[0, 1, 7]);
                this.mov_imm(3, clock);
                this.call_helper_id(HelperId::TimerInit as i32);
            }
            if this.rng.chance(70) {
                this.mov(1, kept);
                let id = this.new_id();
                this.next_id += 2;
                let args = [
                    Kind::Map(map),
                    Kind::Mem { class: Class::MapKey, size: MAPS[map].key_size as i32, null: false, id },
                    Kind::Mem {
                        class: Class::MapValue(map),
                        size: MAPS[map].value_size as i32,
                        null: false,
                        id: id + 1,
                    },
                    Kind::None,
                    Kind::None,
                ];
                this.ld_func(2, args, depth);
                this.call_helper_id(HelperId::TimerSetCallback as i32);
            }
            if this.rng.chance(50) {
                this.mov(1, kept);
                this.mov_imm(2, 1000);
                let flags = this.rng.pick(&[0, 1, 2]);
                this.mov_imm(3, flags);
                this.call_helper_id(HelperId::TimerStart as i32);
            } else {
                this.mov(1, kept);
                this.call_helper_id(HelperId::TimerCancel as i32);
            }
        });
    }

    /// The address of a new callback.
    fn ld_func(&mut self, reg: u8, args: [Kind; 5], depth: u32) {
        let global = self.slip();
        let candidates = self.fuzz.funcs_where(|func| func.global == global && func.returns == Ret::Int);
        let btf_func = self.rng.pick(&candidates);
        self.funcs.push(FuncPlan { role: FuncRole::Callback, btf_func, args, depth, start: 0 });
        self.func_refs.push((self.insns.len(), self.funcs.len() - 1));
        self.ld_pseudo(reg, BPF_PSEUDO_FUNC, 0, 0);
        self.set(reg, Kind::None);
    }
}

/// Helpers that a statement of their own calls, or that need what is not emulated.
fn is_special(id: HelperId, proto: &FuncProto) -> bool {
    let special_arg = proto.arg_type.iter().any(|arg| {
        matches!(
            arg.base(),
            ArgType::ARG_PTR_TO_SPIN_LOCK
                | ArgType::ARG_PTR_TO_BTF_ID
                | ArgType::ARG_PTR_TO_RINGBUF_MEM
                | ArgType::ARG_PTR_TO_PERCPU_BTF_ID
                | ArgType::ARG_PTR_TO_FUNC
                | ArgType::ARG_PTR_TO_TIMER
                | ArgType::ARG_KPTR_XCHG_DEST
                | ArgType::ARG_PTR_TO_DYNPTR
                | ArgType::ARG_PTR_TO_ARENA
        ) || arg.has(flag::OBJ_RELEASE)
    });
    special_arg
        || matches!(
            id,
            HelperId::TailCall
                | HelperId::RingbufReserve
                | HelperId::SkLookupTcp
                | HelperId::SkLookupUdp
                | HelperId::SkcLookupTcp
        )
        || matches!(proto.ret_type.base(), RetType::RET_PTR_TO_BTF_ID | RetType::RET_PTR_TO_MEM_OR_BTF_ID)
}

fn invalidates_packets(id: HelperId) -> bool {
    use HelperId::*;
    matches!(
        id,
        SkbStoreBytes
            | SkbPullData
            | SkbVlanPush
            | SkbVlanPop
            | SkbChangeProto
            | SkbChangeHead
            | SkbChangeTail
            | SkbAdjustRoom
            | CloneRedirect
            | L3CsumReplace
            | L4CsumReplace
            | XdpAdjustHead
            | XdpAdjustMeta
            | XdpAdjustTail
            | MsgPullData
            | MsgPushData
            | MsgPopData
            | LwtPushEncap
            | LwtSeg6StoreBytes
            | LwtSeg6AdjustSrh
            | LwtSeg6Action
            | StoreHdrOpt
            | LoadHdrOpt
    )
}
