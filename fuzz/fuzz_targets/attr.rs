//! Sequences of bpf(2) calls with any attributes.
#![no_main]

use std::sync::Arc;

use bpftwin::kernel::caps::{Cap, CapSet, Caps};
use bpftwin::kernel::profile::{Bcf, Profile, Series};
use bpftwin::kernel::user_memory::UserMemory;
use bpftwin::kernel::{Kernel, KernelSettings};
use bpftwin_fuzz::descriptors;
use bpftwin_fuzz::format::{AttrHeader, CallHeader, IMAGE_AT, IMAGE_SIZE, caps};
use bpftwin_fuzz::memory::Image;
use bpftwin_uapi::Cmd;
use bpftwin_uapi::attr::ProgLoad;
use libfuzzer_sys::fuzz_target;

const CALLS_MAX: usize = 64;

fuzz_target!(|input: &[u8]| {
    descriptors::guard();
    let before = descriptors::count();
    run(&input[..input.len().min(IMAGE_SIZE)]);
    assert_eq!(before, descriptors::count(), "descriptors are left open");
});

fn capabilities(lacks: u8) -> Caps {
    let has = [
        (caps::NO_BPF, Cap::BPF),
        (caps::NO_PERFMON, Cap::PERFMON),
        (caps::NO_NET_ADMIN, Cap::NET_ADMIN),
        (caps::NO_SYS_ADMIN, Cap::SYS_ADMIN),
    ];
    let has: Vec<Cap> = has.into_iter().filter(|(bit, _)| lacks & bit == 0).map(|(_, cap)| cap).collect();
    Caps::Set(CapSet::of(&has))
}

fn run(input: &[u8]) {
    let Some((head, mut rest)) = input.split_at_checked(size_of::<AttrHeader>()) else { return };
    let header: AttrHeader = bytemuck::pod_read_unaligned(head);
    let kernel = Arc::new(Kernel::new(KernelSettings {
        vmlinux_btf: None,
        profile: Profile::new(Series::NEWEST).with_bcf(if header.caps & caps::BCF != 0 {
            Bcf::Kernel
        } else {
            Bcf::Off
        }),
        quiet: true,
        caps: capabilities(header.caps),
        unprivileged_bpf_disabled: header.unprivileged_bpf_disabled % 3,
        ..KernelSettings::default()
    }));
    let memory: Arc<dyn UserMemory + Send + Sync> = Arc::new(Image::new(input));
    let mut open = Vec::new();
    for _ in 0..CALLS_MAX {
        let Some((head, attr)) = rest.split_at_checked(size_of::<CallHeader>()) else { break };
        let call: CallHeader = bytemuck::pod_read_unaligned(head);
        let address = IMAGE_AT + (input.len() - attr.len()) as u64;
        rest = attr.get(call.size.into()..).unwrap_or_default();
        let given = load_of(&*memory, &call, address, call.size.into());
        let result = bpftwin::syscall::bpf(&kernel, &memory, call.cmd.into(), address, call.size.into());
        if let (Ok(fd), Some(cmd)) = (result, Cmd::from_u32(call.cmd.into()))
            && makes_descriptor(cmd)
        {
            open.push(fd);
        }
        // A request is told whatever the size of the attributes.
        if let (Some(given), Some(after)) = (given, load_of(&*memory, &call, address, size_of::<ProgLoad>()))
            && given.bcf_buf_size != 0
            && given.bcf_flags == 0
            && after.bcf_flags == 1
        {
            open.push(after.bcf_fd as i32);
        }
        if let Err(errno) = result {
            assert!(errno.0 > 0, "an error without a number");
        }
        if call.cmd & 0xc0 == 0x40 {
            close(open.pop());
        }
    }
    open.into_iter().for_each(|fd| close(Some(fd)));
    kernel.sweep();
}

/// The first bytes of a program load's attributes, and zeros behind.
fn load_of(memory: &dyn UserMemory, call: &CallHeader, address: u64, size: usize) -> Option<ProgLoad> {
    let mut load = ProgLoad::default();
    let size = size.min(size_of::<ProgLoad>());
    memory.read(address, &mut bytemuck::bytes_of_mut(&mut load)[..size]).ok()?;
    (call.cmd == Cmd::ProgLoad as u8).then_some(load)
}

fn makes_descriptor(cmd: Cmd) -> bool {
    matches!(
        cmd,
        Cmd::MapCreate
            | Cmd::ProgLoad
            | Cmd::ObjGet
            | Cmd::BtfLoad
            | Cmd::ProgGetFdById
            | Cmd::MapGetFdById
            | Cmd::BtfGetFdById
    )
}

fn close(fd: Option<i32>) {
    if let Some(fd) = fd {
        // SAFETY: a call returned it, and nobody else knows it.
        assert_eq!(0, unsafe { libc::close(fd) }, "a call returned a descriptor that is not open");
    }
}
