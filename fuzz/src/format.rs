//! Layout of the inputs of the `program` and `attr` targets, which is also what writes their seeds.
#![allow(dead_code)]

use bytemuck::{Pod, Zeroable};

/// Input of the `program` target: this, the instructions, the records of functions, lines and relocations, and BTF up
/// to the end.
#[derive(Clone, Copy, Default, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct ProgramHeader {
    pub prog_type: u8,
    pub attach_type: u8,
    /// `BPF_F_*` of the load, its low eight bits.
    pub flags: u8,
    /// Level in the low four bits; [`log_size`] of the high four.
    pub log: u8,
    /// Bits of [`caps`].
    pub caps: u8,
    pub func_infos: u8,
    pub line_infos: u8,
    pub core_relos: u8,
    pub attach_btf_id: u32,
    pub insns: u16,
    pub fd_array: u8,
    /// Makes BTF part of the load though there are no records of it.
    pub with_btf: u8,
}

/// Bits of [`ProgramHeader::caps`]: what the loader lacks, or does.
pub mod caps {
    pub const NO_BPF: u8 = 1;
    pub const NO_PERFMON: u8 = 2;
    pub const NO_NET_ADMIN: u8 = 4;
    pub const NO_SYS_ADMIN: u8 = 8;
    pub const NOT_GPL: u8 = 16;
    pub const NO_JIT: u8 = 32;
    /// Of the `attr` target: the kernel has BCF.
    pub const BCF: u8 = 64;
}

/// Bytes of the log buffer, by the high four bits of [`ProgramHeader::log`].
pub fn log_size(index: u8) -> u32 {
    [1 << 24, 1 << 16, 4096, 1025, 1024, 300, 128, 127, 64, 17, 3, 2, 1, 0, 1 << 29, u32::MAX]
        [index as usize & 15]
}

/// Calls of an input of the `attr` target follow this.
#[derive(Clone, Copy, Default, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct AttrHeader {
    /// The sysctl `kernel.unprivileged_bpf_disabled`.
    pub unprivileged_bpf_disabled: u8,
    /// Bits of [`caps`].
    pub caps: u8,
}

/// One call of the `attr` target; its attributes follow.
#[derive(Clone, Copy, Default, Debug, Pod, Zeroable)]
#[repr(C)]
pub struct CallHeader {
    pub cmd: u8,
    pub size: u8,
}

/// Where the input lies in the memory of the emulated caller.
pub const IMAGE_AT: u64 = 0x1000;
/// The memory ends this many bytes behind.
pub const IMAGE_SIZE: usize = 0x1_0000;
/// Descriptors of the emulated kernel's objects start here.
pub const FIRST_FD: i32 = 16;
/// BTF of the `program` target's program.
pub const PROGRAM_BTF_FD: u32 = 100;
