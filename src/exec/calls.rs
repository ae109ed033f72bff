//! Calls between functions of the program, callbacks of helpers, and returns.

use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Errno, HelperId, Insn, MapType};

use super::inputs::{Origin, Range};
use super::machine::{Exec, Machine};
use super::memory::{RegionId, RegionKind, Value};
use super::stop::Stop;
use crate::verifier::state::MAX_CALL_FRAMES;

/// Iterations of `bpf_loop` at most: `BPF_MAX_LOOPS`.
const BPF_MAX_LOOPS: u64 = 1 << 23;
/// Elements that `bpf_for_each_map_elem` finds in a hash table, at most.
const MAX_ELEMENTS: i64 = 4;

/// A function that was called and has not returned.
pub(super) struct Frame {
    /// Instruction that comes after the return.
    return_to: u32,
    /// R6 to R9 and the frame pointer of the caller.
    saved: [Option<Value>; 5],
    stack: RegionId,
    /// A helper called it, to which it returns.
    is_callback: bool,
    /// Helper call of this function whose callback is running, or has just returned.
    pending: Option<Pending>,
}

/// A helper call with callbacks, between them.
#[derive(Clone, Copy)]
struct Pending {
    insn: u32,
    helper: HelperId,
    /// R1 to R5 of the call.
    args: [Option<Value>; 5],
    callback: u32,
    /// Callbacks made, and to make.
    made: u64,
    total: Value,
    /// What the last callback returned.
    returned: Value,
}

fn errno(errno: Errno) -> Value {
    Value::scalar(-i64::from(errno.0) as u64)
}

impl Machine<'_> {
    /// A frame for a function that returns to `return_to`; the frame pointer is set, the callee-saved registers are cleared.
    pub(super) fn push_frame(&mut self, return_to: u32) -> Exec<()> {
        if self.frames.len() >= MAX_CALL_FRAMES {
            return self.unsupported("more than eight nested calls");
        }
        let kind = RegionKind::Stack { serial: self.frames_made };
        self.frames_made += 1;
        let stack = self.new_region(kind, -i64::from(MAX_BPF_STACK), 0)?;
        let mut saved = [None; 5];
        saved.copy_from_slice(&self.regs[BPF_REG_6 as usize..=BPF_REG_10 as usize]);
        self.regs[BPF_REG_6 as usize..=BPF_REG_9 as usize].fill(None);
        self.regs[BPF_REG_FP as usize] = Some(self.pointer_to(stack, 0));
        self.frames.push(Frame { return_to, saved, stack, is_callback: false, pending: None });
        Ok(())
    }

    pub(super) fn clobber_caller_saved(&mut self) {
        self.regs[BPF_REG_0 as usize..=BPF_REG_5 as usize].fill(None);
    }

    pub(super) fn call(&mut self, insn: Insn) -> Exec<()> {
        match insn.src_reg() {
            0 => self.helper_call(insn),
            BPF_PSEUDO_CALL => {
                let Ok(callee) = u32::try_from(i64::from(self.pc) + 1 + i64::from(insn.imm)) else {
                    return self.unsupported("a call out of the program");
                };
                self.push_frame(self.pc + 1)?;
                self.regs[BPF_REG_0 as usize] = None;
                self.pc = callee;
                Ok(())
            }
            _ => self.unsupported("calls of kernel functions"),
        }
    }

    pub(super) fn exit(&mut self) -> Exec<()> {
        let returned = self.regs[BPF_REG_0 as usize];
        self.return_with(returned)
    }

    /// Leaves the present function.
    pub(super) fn return_with(&mut self, returned: Option<Value>) -> Exec<()> {
        if self.frames.len() <= 1 {
            return Err(Stop::Exit(returned));
        }
        let Some(frame) = self.frames.pop() else { return Err(Stop::Exit(returned)) };
        self.region_mut(frame.stack).live = false;
        self.clobber_caller_saved();
        self.regs[BPF_REG_6 as usize..=BPF_REG_10 as usize].copy_from_slice(&frame.saved);
        self.pc = frame.return_to;
        if !frame.is_callback {
            self.regs[BPF_REG_0 as usize] = returned;
            return Ok(());
        }
        if let Some(pending) = self.frames.last_mut().and_then(|caller| caller.pending.as_mut()) {
            pending.returned = returned.unwrap_or_default();
            let args = pending.args;
            self.regs[BPF_REG_1 as usize..=BPF_REG_5 as usize].copy_from_slice(&args);
        }
        Ok(())
    }

    /// A helper that calls a function of the program before it returns: begins, makes the next callback, or ends.
    pub(super) fn callback_call(&mut self, helper: HelperId) -> Exec<()> {
        let pc = self.pc;
        let running = self.frames.last_mut().and_then(|frame| frame.pending.take()).filter(|p| p.insn == pc);
        let mut pending = match running {
            Some(pending) => pending,
            None => match self.begin_callbacks(helper)? {
                Ok(pending) => pending,
                Err(result) => return self.finish_callbacks(result),
            },
        };
        if !self.decide(pending.returned, 0) || self.decide(pending.total, pending.made) {
            let result = match helper {
                HelperId::FindVma => pending.returned,
                _ => Value::scalar(pending.made),
            };
            return self.finish_callbacks(result);
        }
        let args = self.callback_args(&pending)?;
        pending.made += 1;
        if let Some(frame) = self.frames.last_mut() {
            frame.pending = Some(pending);
        }
        self.push_frame(pc)?;
        if let Some(frame) = self.frames.last_mut() {
            frame.is_callback = true;
        }
        self.clobber_caller_saved();
        self.regs[BPF_REG_1 as usize..=BPF_REG_5 as usize].copy_from_slice(&args);
        self.pc = pending.callback;
        Ok(())
    }

    /// The result of a call that makes no callback is the error.
    fn begin_callbacks(&mut self, helper: HelperId) -> Exec<Result<Pending, Value>> {
        let mut args = [None; 5];
        args.copy_from_slice(&self.regs[BPF_REG_1 as usize..=BPF_REG_5 as usize]);
        let callback_reg = if helper == HelperId::FindVma { BPF_REG_3 } else { BPF_REG_2 };
        let function = self.reg(callback_reg)?;
        let Some((RegionKind::Function { start }, 0)) = self.place(function) else {
            return self.unsupported("a callback that is no function");
        };
        let choice = Origin::Choice { insn: self.pc, nth: self.nth() };
        let flags = if helper == HelperId::FindVma { BPF_REG_5 } else { BPF_REG_4 };
        if self.reg(flags)?.bits != 0 {
            return Ok(Err(errno(Errno::EINVAL)));
        }
        let total = match helper {
            HelperId::Loop => {
                let count = self.reg(BPF_REG_1)?;
                let count = self.terms.with(BPF_AND, count, u32::MAX.into());
                if count.bits > BPF_MAX_LOOPS {
                    return Ok(Err(errno(Errno::E2BIG)));
                }
                count
            }
            HelperId::ForEachMapElem => {
                let (_, map) = self.map_arg(BPF_REG_1)?;
                match map.map_type {
                    MapType::Array | MapType::PercpuArray => Value::scalar(map.max_entries.into()),
                    _ => {
                        let most = MAX_ELEMENTS.min(map.max_entries.into());
                        self.ask(choice, Range::new(0, most))
                    }
                }
            }
            HelperId::FindVma => {
                let found = self.ask(choice, Range::CHOICE);
                if self.decide(found, 0) {
                    return Ok(Err(errno(Errno::ENOENT)));
                }
                found
            }
            _ => return self.unsupported(format!("helper {}", helper.name())),
        };
        Ok(Ok(Pending {
            insn: self.pc,
            helper,
            args,
            callback: start,
            made: 0,
            total,
            returned: Value::default(),
        }))
    }

    fn callback_args(&mut self, pending: &Pending) -> Exec<[Option<Value>; 5]> {
        let [first, _, third, fourth, _] = pending.args;
        Ok(match pending.helper {
            HelperId::Loop => [Some(Value::scalar(pending.made)), third, None, None, None],
            HelperId::ForEachMapElem => {
                let (number, map) = self.map_arg(BPF_REG_1)?;
                let (key, value) = self.nth_element(number, &map, pending.made as u32)?;
                [first, Some(key), Some(value), third, None]
            }
            _ => [first, Some(self.kernel_object()), fourth, None, None],
        })
    }

    fn finish_callbacks(&mut self, result: Value) -> Exec<()> {
        self.clobber_caller_saved();
        self.set(BPF_REG_0, result)?;
        self.pc += 1;
        Ok(())
    }
}
