//! Names for where values come from: fields of the context, values of maps, results of helpers.

use bpftwin_uapi::insn::*;

use super::flow::{Flow, Read, Target, helper_name};
use super::replay::Asked;
use super::source::Text;
use crate::btf::Btf;
use crate::exec::{BadAccess, Origin, Program, RegionKind};
use crate::progs::ctx_type::ctx_type;
use crate::verifier::input::Outcome;

/// Members that are looked for within members.
const MAX_NESTING: usize = 4;

/// What is known of a program's surroundings.
pub struct Names<'a> {
    pub outcome: &'a Outcome,
    pub program: &'a Program,
    pub text: &'a Text<'a>,
    pub btf_vmlinux: Option<&'a Btf>,
}

impl Names<'_> {
    /// Where the value of a step comes from, if that step is its beginning.
    pub fn source(&self, flow: &Flow, path: &[u32], step: u32) -> Option<String> {
        let &pc = path.get(step as usize)?;
        let insn = self.text.insn(pc)?;
        match insn.class() {
            BPF_LDX => self.read(flow.steps.get(step as usize)?.reads?, path),
            BPF_JMP if insn.op() == BPF_CALL => Some(self.call(pc)),
            BPF_LD if !insn.is_ldimm64() => Some("bytes of the packet".into()),
            BPF_LD => {
                let map_use = self.program.map_use(pc).filter(|map_use| map_use.is_value)?;
                let variable = self.variable(map_use.map_idx, map_use.map_off.into())?;
                Some(format!("address of {}", variable.trim_end_matches("[0]")))
            }
            BPF_STX if insn.mode() == BPF_ATOMIC => Some("what was in memory before".into()),
            _ => None,
        }
    }

    fn call(&self, pc: u32) -> String {
        match (self.program.helper_at(pc), self.text.insn(pc)) {
            (Some(id), _) => format!("result of {}", helper_name(id)),
            (None, Some(insn)) if insn.src_reg() == BPF_PSEUDO_CALL => "result of a function".into(),
            _ => "result of a call".into(),
        }
    }

    fn read(&self, read: Read, path: &[u32]) -> Option<String> {
        let off = i64::from(read.off);
        Some(match read.target {
            Some(Target::Context) => self.context(off),
            Some(Target::Packet) => "bytes of the packet".into(),
            Some(Target::MapValue(map)) => format!("value of map {}", self.map(map)),
            Some(Target::Stack { .. }) => match read.filled_by.and_then(|step| path.get(step as usize)) {
                Some(&call) => format!("what {} wrote to the stack", self.callee(call)),
                None => return None,
            },
            Some(Target::Result(step)) => {
                format!(
                    "what {} gave a pointer to",
                    self.callee(path.get(step as usize).copied().unwrap_or(0))
                )
            }
            Some(Target::Argument(number)) => format!("what argument {number} points to"),
            _ => "memory of the kernel".into(),
        })
    }

    /// The helper that an instruction calls.
    pub fn callee(&self, pc: u32) -> String {
        self.program.helper_at(pc).map_or_else(|| "the call".into(), helper_name)
    }

    fn context(&self, off: i64) -> String {
        let prog = &self.outcome.prog;
        let field = ctx_type(prog.prog_type).prog.iter().find_map(|name| {
            let in_btf = |btf: &Btf| Some(member(btf, btf.find_struct(name)?, off, 0)).flatten();
            prog.btf.as_deref().and_then(in_btf).or_else(|| self.btf_vmlinux.and_then(in_btf))
        });
        match field {
            Some(field) => format!("context field {field}"),
            None if prog.attach_func_proto.is_some() && off % 8 == 0 => format!("argument {}", off / 8),
            None => format!("context at offset {off}"),
        }
    }

    /// A bad access as a sentence.
    pub fn bad_access(&self, bad: &BadAccess) -> String {
        let region = match bad.region {
            Some(RegionKind::MapValue { map, .. }) => match self.variable(map, bad.off) {
                Some(variable) => format!("map {} ({variable})", self.map(map)),
                None => format!("a value of map {}", self.map(map)),
            },
            Some(region) => self.region(region),
            None => String::new(),
        };
        bad.words(&self.callee(bad.insn), &region)
    }

    fn region(&self, region: RegionKind) -> String {
        match region {
            RegionKind::MapValue { map, .. } => format!("a value of map {}", self.map(map)),
            RegionKind::MapKey { map, .. } => format!("a key of map {}", self.map(map)),
            RegionKind::Map { map } => format!("map {}", self.map(map)),
            RegionKind::Helper { insn, .. } => format!("the memory from {}", self.callee(insn)),
            RegionKind::Kernel => region.to_string(),
            region => format!("the {region}"),
        }
    }

    /// The variable (of a map that holds global ones) at an offset.
    fn variable(&self, map: u32, off: i64) -> Option<String> {
        let map = self.outcome.used_maps.get(map as usize)?;
        let btf = map.btf.as_deref()?;
        if !btf.type_by_id(map.btf_value_type_id)?.is_datasec() {
            return None;
        }
        member(btf, map.btf_value_type_id, off, 0)
    }

    fn map(&self, number: u32) -> String {
        match self.outcome.used_maps.get(number as usize) {
            Some(map) if !map.name.is_empty() => map.name.clone(),
            _ => format!("number {number}"),
        }
    }

    /// An input of a run.
    pub fn input(&self, asked: &Asked) -> String {
        let range = |off: i64, size: u8| match size {
            1 => format!("byte {off}"),
            _ => format!("bytes {off} to {}", off.wrapping_add(i64::from(size) - 1)),
        };
        match asked.origin {
            Origin::Memory { region, off, size } => match region {
                RegionKind::Context => self.context(off),
                RegionKind::Packet { .. } => format!("packet, {}", range(off, size)),
                RegionKind::MapValue { map, entry } => {
                    let field = self.outcome.used_maps.get(map as usize).and_then(|map| {
                        let btf = map.btf.as_deref()?;
                        member(btf, map.btf_value_type_id, off, 0)
                    });
                    let part = field.unwrap_or_else(|| range(off, size));
                    format!("map {}, element {entry}, {part}", self.map(map))
                }
                RegionKind::Stack { .. } => format!("stack, {}", range(off, size)),
                RegionKind::Kernel => "memory of the kernel".into(),
                RegionKind::Socket { name, .. } => {
                    let field = self.btf_vmlinux.and_then(|btf| member(btf, btf.find_struct(name)?, off, 0));
                    format!("socket, {}", field.unwrap_or_else(|| range(off, size)))
                }
                region => format!("{}, {}", self.region(region), range(off, size)),
            },
            Origin::Filled { insn, off, size, .. } => {
                format!("what {} wrote, {}", self.callee(insn), range(off, size))
            }
            Origin::Return { insn, .. } if asked.is_choice() => {
                format!("{} finds something", self.callee(insn))
            }
            Origin::Return { insn, .. } => self.call(insn),
            Origin::Argument { number } if asked.is_choice() => format!("argument {number} is not NULL"),
            Origin::Argument { number } => format!("argument {number}"),
            Origin::Choice { .. } => "what the kernel decides here".into(),
            Origin::PacketSize { .. } => "length of the packet".into(),
            Origin::MetaSize { .. } => "length of the packet's metadata".into(),
        }
    }
}

/// The member of a structure at a byte offset: `cb[2]`, `remote.ip4`.
fn member(btf: &Btf, id: u32, off: i64, nesting: usize) -> Option<String> {
    let mut found = btf.type_by_id(id)?;
    // Modifiers and typedefs.
    for _ in 0..16 {
        if !found.is_modifier() {
            break;
        }
        found = btf.type_by_id(found.type_())?;
    }
    if nesting > MAX_NESTING {
        return None;
    }
    if found.is_array() {
        let array = found.array();
        let size = i64::from(size_of_type(btf, array.type_)?);
        let inner = member(btf, array.type_, off.checked_rem(size)?, nesting + 1);
        let index = off.checked_div(size)?;
        return Some(match inner {
            Some(inner) => format!("[{index}].{inner}"),
            None => format!("[{index}]"),
        });
    }
    if found.is_datasec() {
        let variables = found.vsis().filter(|variable| i64::from(variable.offset) <= off);
        let best = variables.max_by_key(|variable| variable.offset)?;
        let variable = btf.type_by_id(best.type_)?;
        let name =
            btf.str_by_offset(variable.name_off).map(|name| String::from_utf8_lossy(name).into_owned())?;
        let inner = member(btf, variable.type_(), off - i64::from(best.offset), nesting + 1);
        return Some(joined(name, inner));
    }
    if !found.is_struct() {
        return None;
    }
    let bits = off.checked_mul(8)?;
    let members = found.members().filter(|member| i64::from(found.member_bit_offset(member)) <= bits);
    let best = members.max_by_key(|member| found.member_bit_offset(member))?;
    let name = btf.str_by_offset(best.name_off).map(|name| String::from_utf8_lossy(name).into_owned())?;
    let start = i64::from(found.member_bit_offset(&best)) / 8;
    Some(joined(name, member(btf, best.type_, off - start, nesting + 1)))
}

fn joined(name: String, inner: Option<String>) -> String {
    match inner {
        Some(inner) if inner.starts_with('[') => format!("{name}{inner}"),
        Some(inner) if name.is_empty() => inner,
        Some(inner) => format!("{name}.{inner}"),
        None => name,
    }
}

fn size_of_type(btf: &Btf, id: u32) -> Option<u32> {
    btf.type_id_size(id).map(|(_, size)| size)
}
