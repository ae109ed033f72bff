//! The one BTF object of all programs and maps: value types, prototypes and functions, made once a process.

use bpftwin_uapi::btf::*;

/// Functions that a program's functions can be: the linkage, the prototype and so on, by index.
pub struct FuncKind {
    pub type_id: u32,
    pub global: bool,
    pub args: &'static [Arg],
    pub returns: Ret,
}

/// Parameter of a prototype.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arg {
    Int,
    Long,
    Char,
    PtrInt,
    PtrVal,
    PtrValNonnull,
    PtrVoid,
    PtrSkb,
    PtrXdp,
    PtrRegs,
    PtrVoidCtx,
    PtrPtr,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ret {
    Int,
    Void,
    Char,
    Ptr,
}

use Arg::*;

const PROTOS: &[(&[Arg], Ret)] = &[
    (&[], Ret::Int),
    (&[Int], Ret::Int),
    (&[Long, Int], Ret::Int),
    (&[PtrInt], Ret::Int),
    (&[PtrVal], Ret::Int),
    (&[PtrValNonnull, Long], Ret::Int),
    (&[PtrSkb], Ret::Int),
    (&[PtrXdp, Int], Ret::Int),
    (&[PtrRegs], Ret::Int),
    (&[PtrVoidCtx, Int], Ret::Int),
    (&[Int], Ret::Void),
    (&[Char, Int, Long], Ret::Char),
    (&[PtrVoid], Ret::Int),
    (&[Int, Int, Int, Int, Int], Ret::Int),
    (&[PtrInt], Ret::Ptr),
    (&[PtrPtr], Ret::Int),
    (&[PtrVal, PtrVal, Int], Ret::Int),
    (&[Long, PtrVoid], Ret::Int),
];

/// The object's bytes, and the types in it that maps and programs name.
pub struct FuzzBtf {
    pub bytes: Vec<u8>,
    pub funcs: Vec<FuncKind>,
    /// Offsets of source lines in the strings.
    pub lines: Vec<u32>,
    pub file: u32,
    pub int: u32,
    pub lock_value: u32,
    pub timer_value: u32,
    pub plain_value: u32,
}

/// Sizes of the value types.
pub const LOCK_VALUE_SIZE: u32 = 24;
pub const TIMER_VALUE_SIZE: u32 = 32;
pub const PLAIN_VALUE_SIZE: u32 = 16;

struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    next_id: u32,
}

impl Builder {
    fn string(&mut self, text: &str) -> u32 {
        if text.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(text.as_bytes());
        self.strings.push(0);
        at
    }

    fn add(&mut self, name: &str, kind: u32, vlen: u32, size_or_type: u32, tail: &[u32]) -> u32 {
        let name = self.string(name);
        for word in [name, kind << 24 | vlen, size_or_type].iter().chain(tail) {
            self.types.extend_from_slice(&word.to_le_bytes());
        }
        self.next_id += 1;
        self.next_id - 1
    }

    fn ptr(&mut self, to: u32) -> u32 {
        self.add("", BTF_KIND_PTR, 0, to, &[])
    }

    fn structure(&mut self, name: &str, size: u32, members: &[(&str, u32, u32)]) -> u32 {
        let tail: Vec<u32> = members
            .iter()
            .flat_map(|&(name, type_id, offset)| [self.string(name), type_id, offset * 8])
            .collect();
        self.add(name, BTF_KIND_STRUCT, members.len() as u32, size, &tail)
    }
}

impl FuzzBtf {
    pub fn build() -> FuzzBtf {
        let b = &mut Builder { types: Vec::new(), strings: vec![0], next_id: 1 };
        let int = b.add("int", BTF_KIND_INT, 0, 4, &[BTF_INT_SIGNED << 24 | 32]);
        let long = b.add("long", BTF_KIND_INT, 0, 8, &[BTF_INT_SIGNED << 24 | 64]);
        let char = b.add("char", BTF_KIND_INT, 0, 1, &[BTF_INT_SIGNED << 24 | 8]);
        let lock = b.structure("bpf_spin_lock", 4, &[("val", int, 0)]);
        let words = b.add("", BTF_KIND_ARRAY, 0, 0, &[long, int, 2]);
        let timer = b.structure("bpf_timer", 16, &[("__opaque", words, 0)]);
        let lock_value =
            b.structure("lock_value", LOCK_VALUE_SIZE, &[("a", long, 0), ("lock", lock, 8), ("b", long, 16)]);
        let timer_value = b.structure(
            "timer_value",
            TIMER_VALUE_SIZE,
            &[("timer", timer, 0), ("a", long, 16), ("b", long, 24)],
        );
        let plain_value =
            b.structure("val", PLAIN_VALUE_SIZE, &[("x", int, 0), ("y", int, 4), ("z", long, 8)]);
        let skb = b.structure("__sk_buff", 4, &[("len", int, 0)]);
        let xdp = b.structure("xdp_md", 4, &[("data", int, 0)]);
        let regs = b.structure("pt_regs", 8, &[("r15", long, 0)]);
        let user_regs = b.add("bpf_user_pt_regs_t", BTF_KIND_TYPEDEF, 0, regs, &[]);
        let ptr_int = b.ptr(int);
        let ptr_val = b.ptr(plain_value);
        let ptr_void = b.ptr(0);
        let ptr_skb = b.ptr(skb);
        let ptr_xdp = b.ptr(xdp);
        let ptr_regs = b.ptr(user_regs);
        let ptr_ptr = b.ptr(ptr_int);
        let arg_type = |arg: Arg| match arg {
            Int => int,
            Long => long,
            Char => char,
            PtrInt => ptr_int,
            PtrVal | PtrValNonnull => ptr_val,
            PtrVoid | PtrVoidCtx => ptr_void,
            PtrSkb => ptr_skb,
            PtrXdp => ptr_xdp,
            PtrRegs => ptr_regs,
            PtrPtr => ptr_ptr,
        };
        let mut funcs = Vec::new();
        for (index, &(args, returns)) in PROTOS.iter().enumerate() {
            let ret = match returns {
                Ret::Int => int,
                Ret::Void => 0,
                Ret::Char => char,
                Ret::Ptr => ptr_int,
            };
            let tail: Vec<u32> = args
                .iter()
                .enumerate()
                .flat_map(|(i, &arg)| [b.string(&format!("a{i}")), arg_type(arg)])
                .collect();
            let proto = b.add("", BTF_KIND_FUNC_PROTO, args.len() as u32, ret, &tail);
            for global in [false, true] {
                let name = format!("{}{index}", if global { "global_" } else { "local_" });
                let linkage = if global { BTF_FUNC_GLOBAL } else { BTF_FUNC_STATIC };
                let type_id = b.add(&name, BTF_KIND_FUNC, linkage, proto, &[]);
                for (i, &arg) in args.iter().enumerate() {
                    let tag = match arg {
                        PtrValNonnull => "arg:nonnull",
                        PtrVoidCtx => "arg:ctx",
                        _ => continue,
                    };
                    b.add(tag, BTF_KIND_DECL_TAG, 0, type_id, &[i as u32]);
                }
                funcs.push(FuncKind { type_id, global, args, returns });
            }
        }
        let lines = (0..8).map(|i| b.string(&format!("\tx{i} = y{i} + {i};"))).collect();
        let file = b.string("fuzz.c");
        let header = BtfHeader {
            magic: BTF_MAGIC,
            version: BTF_VERSION,
            flags: 0,
            hdr_len: 24,
            type_off: 0,
            type_len: b.types.len() as u32,
            str_off: b.types.len() as u32,
            str_len: b.strings.len() as u32,
        };
        let mut bytes = bytemuck::bytes_of(&header).to_vec();
        bytes.extend_from_slice(&b.types);
        bytes.extend_from_slice(&b.strings);
        FuzzBtf { bytes, funcs, lines, file, int, lock_value, timer_value, plain_value }
    }

    /// Functions whose prototype a predicate takes.
    pub fn funcs_where(&self, wanted: impl Fn(&FuncKind) -> bool) -> Vec<u32> {
        (0..self.funcs.len() as u32).filter(|&i| wanted(&self.funcs[i as usize])).collect()
    }
}
