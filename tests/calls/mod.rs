//! One load, verified by the live kernel and by the emulated one.
#![allow(dead_code)]

use std::collections::BTreeMap;
use std::sync::Arc;

use bpftwin::btf::Btf;
use bpftwin::kernel::config::KernelConfig;
use bpftwin::syscall::prog_load::attach::fixup_attach_type;
use bpftwin::syscall::prog_load::{Loader, prepare};
use bpftwin::verifier::bpf_check;
use bpftwin::verifier::input::CheckInput;
use bpftwin::verifier::log::VecSink;
use bpftwin::verifier::prog::{MapContents, Objects, TargetProg, VerifierMap};
use bpftwin_uapi::attr::*;
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{AttachType, Cmd, Errno, Insn, MapType, ProgType};

/// `BPF_F_RDONLY_PROG`
const BPF_F_RDONLY_PROG: u32 = 1 << 7;
const LOG_SIZE: usize = 1 << 17;

/// A map that nobody writes to.
struct Contents {
    size: u32,
}

impl MapContents for Contents {
    fn frozen(&self) -> bool {
        false
    }

    fn read_value(&self, off: u32, buf: &mut [u8]) -> Result<(), Errno> {
        if off as usize + buf.len() > self.size as usize {
            return Err(Errno::EINVAL);
        }
        buf.fill(0);
        Ok(())
    }
}

/// Maps and BTF objects of this process, as the emulated kernel is to see them.
#[derive(Default)]
pub struct World {
    pub maps: BTreeMap<i32, Arc<VerifierMap>>,
    pub btfs: BTreeMap<i32, Arc<Btf>>,
    /// BTF of the kernel, where programs have BTF.
    pub btf_vmlinux: Option<Arc<Btf>>,
}

impl Objects for World {
    fn map_by_fd(&self, fd: i32) -> Result<Arc<VerifierMap>, Errno> {
        self.maps.get(&fd).cloned().ok_or(Errno::EBADF)
    }

    fn btf_by_fd(&self, fd: i32) -> Result<Arc<Btf>, Errno> {
        self.btfs.get(&fd).cloned().ok_or(Errno::EBADF)
    }

    fn prog_by_fd(&self, _fd: i32) -> Result<TargetProg, Errno> {
        Err(Errno::EBADF)
    }

    fn read_user(&self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        // SAFETY: all addresses here are of live buffers of this process.
        unsafe { std::ptr::copy_nonoverlapping(address as *const u8, buf.as_mut_ptr(), buf.len()) };
        Ok(())
    }
}

fn comparable(text: &str) -> String {
    let untimed = |line: &&str| !line.starts_with("verification time");
    text.lines().filter(untimed).map(without_addresses).collect::<Vec<_>>().join("\n")
}

/// Addresses of maps are the kernel's own.
fn without_addresses(line: &str) -> String {
    match line.find("0xffff") {
        Some(at) if line.contains("(18) r") && line.len() >= at + 18 => {
            format!("{}MAP{}", &line[..at], &line[at + 18..])
        }
        _ => line.to_owned(),
    }
}

/// Both answers to one load.
pub struct Answers {
    pub kernel: (i32, String),
    pub emulated: (i32, String),
    pub not_emulated: Option<String>,
}

/// Attributes of a load of this type, the program aside.
pub fn attributes(prog_type: ProgType) -> ProgLoad {
    let mut attr: ProgLoad = bytemuck::Zeroable::zeroed();
    attr.prog_type = prog_type as u32;
    attr.expected_attach_type = match prog_type {
        ProgType::CgroupSockAddr => AttachType::CgroupInet4Connect as u32,
        ProgType::CgroupSockopt => AttachType::CgroupGetsockopt as u32,
        ProgType::SkLookup => AttachType::SkLookup as u32,
        ProgType::Netfilter => AttachType::Netfilter as u32,
        _ => fixup_attach_type(Some(prog_type), 0),
    };
    attr.prog_flags = if prog_type == ProgType::Syscall { BPF_F_SLEEPABLE } else { 0 };
    attr
}

/// Loads into both kernels.
pub fn load(world: &Arc<World>, config: &Arc<KernelConfig>, mut attr: ProgLoad, insns: &[Insn]) -> Answers {
    let mut buf = vec![0u8; LOG_SIZE];
    attr.insns = insns.as_ptr() as u64;
    attr.insn_cnt = insns.len() as u32;
    attr.license = c"GPL".as_ptr() as u64;
    attr.log_level = 2;
    attr.log_buf = buf.as_mut_ptr() as u64;
    attr.log_size = buf.len() as u32;

    // SAFETY: the attributes point to memory that outlives the call, and its size is that of 6.18's structure.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, Cmd::ProgLoad as i32, &raw mut attr, ATTR_SIZE) };
    let errno = if fd < 0 { std::io::Error::last_os_error().raw_os_error().unwrap_or(0) } else { 0 };
    if fd >= 0 {
        // SAFETY: the descriptor is ours alone.
        unsafe { libc::close(fd as i32) };
    }
    let end = buf.iter().position(|&byte| byte == 0).unwrap_or(buf.len());
    let kernel = (errno, comparable(&String::from_utf8_lossy(&buf[..end])));

    let loader = Loader {
        cap_bpf: true,
        cap_perfmon: true,
        cap_net_admin: true,
        cap_sys_admin: true,
        unprivileged_bpf_disabled: true,
        objects: world.clone(),
        btf_vmlinux: world.btf_vmlinux.clone(),
        config: config.clone(),
    };
    let prog = match prepare(&attr, &loader) {
        Ok(prog) => prog,
        Err(refusal) => {
            let not_emulated = refusal.not_emulated.map(|what| what.into_owned());
            return Answers { kernel, emulated: (refusal.errno.0, String::new()), not_emulated };
        }
    };
    let sink = VecSink::default();
    let outcome = bpf_check(CheckInput {
        prog,
        attr,
        objects: world.clone(),
        btf_vmlinux: world.btf_vmlinux.clone(),
        log_sink: Some(Box::new(sink.clone())),
        bcf: None,
    });
    let errno = outcome.result.err().map_or(0, |errno| errno.0);
    let log = comparable(&sink.text());
    Answers { kernel, emulated: (errno, log), not_emulated: outcome.not_emulated }
}

/// View of a map without BTF.
pub fn view(fd: i32, map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> VerifierMap {
    VerifierMap {
        identity: fd as u64,
        map_type,
        key_size,
        value_size,
        max_entries,
        // Lookups in device maps point into the map itself, which is therefore read-only to programs.
        map_flags: if map_type == MapType::Devmap { BPF_F_RDONLY_PROG } else { 0 },
        map_extra: 0,
        name: String::new(),
        record: None,
        btf: None,
        btf_value_type_id: 0,
        inner_map_meta: None,
        offloaded: false,
        excl_prog_sha: None,
        contents: Arc::new(Contents { size: value_size }),
    }
}

/// Creates a map in the live kernel, and its view.
pub fn create(
    map_type: MapType,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
) -> Option<(i32, VerifierMap)> {
    let mut attr: MapCreate = bytemuck::Zeroable::zeroed();
    attr.map_type = map_type as u32;
    attr.key_size = key_size;
    attr.value_size = value_size;
    attr.max_entries = max_entries;
    // SAFETY: plain attributes; the size is that of the structure.
    let fd =
        unsafe { libc::syscall(libc::SYS_bpf, Cmd::MapCreate as i32, &raw mut attr, size_of::<MapCreate>()) };
    let map = view(fd as i32, map_type, key_size, value_size, max_entries);
    (fd >= 0).then_some((fd as i32, map))
}

/// Small, fast and the same on every run.
pub struct Random(pub u64);

impl Random {
    pub fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as usize % n
    }
}

pub fn mov(dst: u8, src: u8) -> Insn {
    Insn::new(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
}

pub fn mov_imm(dst: u8, imm: i32) -> Insn {
    Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm)
}

pub fn add_imm(dst: u8, imm: i32) -> Insn {
    Insn::new(BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, imm)
}

pub fn call(func: i32) -> Insn {
    Insn::new(BPF_JMP | BPF_CALL, 0, 0, 0, func)
}

pub fn ldx(size: u8, dst: u8, src: u8, off: i16) -> Insn {
    Insn::new(BPF_LDX | size | BPF_MEM, dst, src, off, 0)
}

pub fn ld_map(dst: u8, fd: i32) -> [Insn; 2] {
    [Insn::new(BPF_LD | BPF_IMM | BPF_DW, dst, BPF_PSEUDO_MAP_FD, 0, fd), Insn::new(0, 0, 0, 0, 0)]
}
