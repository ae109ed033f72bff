//! The checks of `bpf_prog_load` before verification, in the kernel's order.

use std::borrow::Cow;
use std::sync::Arc;

use bpftwin_uapi::attr::{self, BPF_OBJ_NAME_LEN, ProgLoad};
use bpftwin_uapi::{Errno, Insn, ProgType};

use super::attach::{self, AttachTarget};
use crate::btf::Btf;
use crate::kernel::config::KernelConfig;
use crate::progs;
use crate::verifier::prog::{Objects, Prog, TargetProg};

/// Instructions of an unprivileged program: `BPF_MAXINSNS`.
const BPF_MAXINSNS: u32 = 4096;
/// Instructions of a privileged program: `BPF_COMPLEXITY_LIMIT_INSNS`.
const BPF_COMPLEXITY_LIMIT_INSNS: u32 = 1_000_000;
/// Bytes that are read of a licence; what is behind them does not count.
const LICENSE_LEN: usize = 127;
/// Bytes of a signature: `KMALLOC_MAX_CACHE_SIZE`.
const SIGNATURE_MAX: u32 = 8192;
/// Pages do not get smaller: a string is read up to the next boundary of this many bytes at a time.
const PAGE_SIZE: u64 = 4096;

const KNOWN_FLAGS: u32 = attr::BPF_F_STRICT_ALIGNMENT
    | attr::BPF_F_ANY_ALIGNMENT
    | attr::BPF_F_TEST_STATE_FREQ
    | attr::BPF_F_SLEEPABLE
    | attr::BPF_F_TEST_RND_HI32
    | attr::BPF_F_XDP_HAS_FRAGS
    | attr::BPF_F_XDP_DEV_BOUND_ONLY
    | attr::BPF_F_TEST_REG_INVARIANTS
    | attr::BPF_F_TOKEN_FD;

/// Licences that give access to helpers for GPL programs: `license_is_gpl_compatible`.
const GPL_COMPATIBLE: [&[u8]; 6] =
    [b"GPL", b"GPL v2", b"GPL and additional rights", b"Dual BSD/GPL", b"Dual MIT/GPL", b"Dual MPL/GPL"];

/// Who loads, and on which kernel.
#[derive(Clone)]
pub struct Loader {
    /// `bpf_token_capable` without a token: the capability, or `CAP_SYS_ADMIN`.
    pub cap_bpf: bool,
    pub cap_perfmon: bool,
    pub cap_net_admin: bool,
    pub cap_sys_admin: bool,
    /// The sysctl `kernel.unprivileged_bpf_disabled` is not zero.
    pub unprivileged_bpf_disabled: bool,
    pub objects: Arc<dyn Objects>,
    /// BTF of the kernel, where it has one.
    pub btf_vmlinux: Option<Arc<Btf>>,
    pub config: Arc<KernelConfig>,
}

/// A load that does not get to verification.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    pub errno: Errno,
    /// What is missing, where the errno is `EOPNOTSUPP` because it is not emulated.
    pub not_emulated: Option<Cow<'static, str>>,
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self { errno, not_emulated: None }
    }
}

impl Refusal {
    fn not_emulated(what: &'static str) -> Self {
        Self { errno: Errno::EOPNOTSUPP, not_emulated: Some(what.into()) }
    }
}

/// Checks what can be checked before verification, and copies the program in. The dispatcher has checked that
/// attributes unknown to the command are zero.
pub fn prepare(attr: &ProgLoad, loader: &Loader) -> Result<Prog, Refusal> {
    if attr.prog_flags & !KNOWN_FLAGS != 0 {
        return Err(Errno::EINVAL.into());
    }
    let prog_type = ProgType::from_u32(attr.prog_type);
    let attach_type = attach::fixup_attach_type(prog_type, attr.expected_attach_type);
    if attr.prog_flags & attr::BPF_F_TOKEN_FD != 0 {
        match loader.objects.token_by_fd(attr.prog_token_fd) {
            Ok(()) | Err(Errno::EOPNOTSUPP) => return Err(Refusal::not_emulated("BPF tokens")),
            Err(errno) => return Err(errno.into()),
        }
    }
    if attr.bcf_buf != 0 && !loader.cap_bpf {
        return Err(Errno::EPERM.into());
    }
    check_privileges(attr, prog_type, loader)?;

    let target = attach_target(attr, loader)?;
    let to = AttachTarget {
        btf_id: attr.attach_btf_id,
        has_btf: matches!(target, Target::Btf(_)),
        has_prog: matches!(target, Target::Prog(_)),
    };
    attach::check_attach(prog_type, attach_type, to)?;

    let insns = copy_insns(attr, &*loader.objects)?;
    let license = read_string(&*loader.objects, attr.license, LICENSE_LEN)?;
    if attr.signature != 0 {
        return Err(signature(attr));
    }
    if attr.prog_ifindex != 0 {
        return Err(dev_bound(attr, prog_type));
    }
    let prog_type = match prog_type {
        Some(prog_type) if progs::has_prog_type(prog_type) => prog_type,
        _ => return Err(Errno::EINVAL.into()),
    };
    let name = object_name(&attr.prog_name)?;

    let mut prog = Prog::new(prog_type, insns);
    prog.expected_attach_type = attach_type;
    prog.gpl_compatible = GPL_COMPATIBLE.contains(&license.as_slice());
    prog.sleepable = attr.prog_flags & attr::BPF_F_SLEEPABLE != 0;
    prog.xdp_has_frags = attr.prog_flags & attr::BPF_F_XDP_HAS_FRAGS != 0;
    prog.prog_flags = attr.prog_flags;
    prog.name = name;
    prog.attach_btf_id = attr.attach_btf_id;
    prog.bpf_capable = loader.cap_bpf;
    prog.perfmon_capable = loader.cap_perfmon;
    prog.sys_admin_capable = loader.cap_sys_admin;
    prog.config = loader.config.clone();
    match target {
        Target::None => {}
        Target::Btf(btf) => prog.attach_btf = Some(btf),
        Target::Prog(target) => prog.dst_prog = Some(target),
    }
    Ok(prog)
}

/// Whether the caller may load programs of this size and type.
fn check_privileges(attr: &ProgLoad, prog_type: Option<ProgType>, loader: &Loader) -> Result<(), Errno> {
    if loader.unprivileged_bpf_disabled && !loader.cap_bpf {
        return Err(Errno::EPERM);
    }
    let limit = if loader.cap_bpf { BPF_COMPLEXITY_LIMIT_INSNS } else { BPF_MAXINSNS };
    if attr.insn_cnt == 0 || attr.insn_cnt > limit {
        return Err(Errno::E2BIG);
    }
    let for_everyone = matches!(prog_type, Some(ProgType::SocketFilter | ProgType::CgroupSkb));
    if !for_everyone && !loader.cap_bpf {
        return Err(Errno::EPERM);
    }
    if prog_type.is_some_and(attach::is_net_admin_prog_type) && !loader.cap_net_admin {
        return Err(Errno::EPERM);
    }
    if prog_type.is_some_and(attach::is_perfmon_prog_type) && !loader.cap_perfmon {
        return Err(Errno::EPERM);
    }
    Ok(())
}

enum Target {
    None,
    Btf(Arc<Btf>),
    Prog(TargetProg),
}

/// The descriptor of what to attach to may be a program's or a BTF object's; without one a type id is of vmlinux.
fn attach_target(attr: &ProgLoad, loader: &Loader) -> Result<Target, Errno> {
    if attr.attach_prog_fd != 0 {
        let fd = attr.attach_prog_fd as i32;
        if let Ok(target) = loader.objects.prog_by_fd(fd) {
            return Ok(Target::Prog(target));
        }
        let btf = loader.objects.btf_by_fd(fd).map_err(|_| Errno::EINVAL)?;
        return if btf.is_kernel() { Ok(Target::Btf(btf)) } else { Err(Errno::ENOTSUPP) };
    }
    match (attr.attach_btf_id, &loader.btf_vmlinux) {
        (0, _) => Ok(Target::None),
        (_, Some(btf)) => {
            // The kernel's is ready since it booted: finding the types is no part of verification.
            btf.nr_types();
            Ok(Target::Btf(Arc::clone(btf)))
        }
        (_, None) => Err(Errno::EINVAL),
    }
}

fn copy_insns(attr: &ProgLoad, objects: &dyn Objects) -> Result<Vec<Insn>, Errno> {
    let mut insns = vec![Insn::default(); attr.insn_cnt as usize];
    objects.read_user(attr.insns, bytemuck::cast_slice_mut(&mut insns)).map_err(|_| Errno::EFAULT)?;
    Ok(insns)
}

/// `strncpy_from_user`: the string at `address` without its terminating zero, at most `max` bytes of it.
fn read_string(objects: &dyn Objects, address: u64, max: usize) -> Result<Vec<u8>, Errno> {
    let mut text = Vec::with_capacity(max);
    while text.len() < max {
        let start = address.wrapping_add(text.len() as u64);
        let in_page = (PAGE_SIZE - start % PAGE_SIZE) as usize;
        let mut piece = vec![0; in_page.min(max - text.len())];
        objects.read_user(start, &mut piece).map_err(|_| Errno::EFAULT)?;
        if let Some(end) = piece.iter().position(|&byte| byte == 0) {
            text.extend_from_slice(&piece[..end]);
            break;
        }
        text.extend_from_slice(&piece);
    }
    Ok(text)
}

/// `bpf_prog_verify_signature`, up to the keys.
fn signature(attr: &ProgLoad) -> Refusal {
    if attr.signature_size > SIGNATURE_MAX {
        return Errno::EINVAL.into();
    }
    Refusal::not_emulated("program signatures")
}

/// `bpf_prog_dev_bound_init`, up to the device.
fn dev_bound(attr: &ProgLoad, prog_type: Option<ProgType>) -> Refusal {
    let flags = attr.prog_flags;
    let has_frags = flags & attr::BPF_F_XDP_HAS_FRAGS != 0;
    let bound_only = flags & attr::BPF_F_XDP_DEV_BOUND_ONLY != 0;
    let valid = match prog_type {
        Some(ProgType::SchedCls) => !bound_only,
        Some(ProgType::Xdp) => true,
        _ => false,
    };
    let known = attr::BPF_F_XDP_DEV_BOUND_ONLY | attr::BPF_F_XDP_HAS_FRAGS;
    if !valid || flags & !known != 0 || has_frags && !bound_only || !has_net_device(attr.prog_ifindex) {
        return Errno::EINVAL.into();
    }
    Refusal::not_emulated("programs bound to network devices")
}

/// Whether the caller's network namespace has a device with this index.
fn has_net_device(ifindex: u32) -> bool {
    nix::net::if_::if_indextoname(ifindex).is_ok()
}

/// `bpf_obj_name_cpy`
fn object_name(bytes: &[u8; BPF_OBJ_NAME_LEN]) -> Result<String, Errno> {
    let end = bytes.iter().position(|&byte| byte == 0).ok_or(Errno::EINVAL)?;
    let name = &bytes[..end];
    // The kernel's isalnum() knows the letters of Latin-1.
    let allowed = |byte: u8| {
        byte.is_ascii_alphanumeric()
            || matches!(byte, b'_' | b'.')
            || byte >= 0xc0 && !matches!(byte, 0xd7 | 0xf7)
    };
    if name.iter().all(|&byte| allowed(byte)) {
        Ok(String::from_utf8_lossy(name).into_owned())
    } else {
        Err(Errno::EINVAL)
    }
}
