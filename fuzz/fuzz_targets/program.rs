//! Programs, with everything that a load can say about them, through `prepare` and `bpf_check`.
#![no_main]

use std::sync::Arc;

use bpftwin::btf::{BTF_MAX_SIZE, Btf};
use bpftwin::kernel::config::KernelConfig;
use bpftwin::syscall::prog_load::{Loader, prepare};
use bpftwin::verifier::bpf_check;
use bpftwin::verifier::input::CheckInput;
use bpftwin::verifier::log::{Log, LogSink, VecSink};
use bpftwin_fuzz::descriptors;
use bpftwin_fuzz::format::{IMAGE_AT, IMAGE_SIZE, PROGRAM_BTF_FD, ProgramHeader, caps, log_size};
use bpftwin_fuzz::memory::Image;
use bpftwin_fuzz::mutate::{self, Random};
use bpftwin_fuzz::world::{Sight, WORLD};
use bpftwin_uapi::attr::ProgLoad;
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

/// Largest logs that are kept.
const LOG_MAX: u32 = 1 << 24;

fuzz_target!(|input: &[u8]| {
    descriptors::guard();
    run(input);
});

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut random = Random::new(seed);
    if random.below(4) != 0
        && let Some(size) = mutate::program(data, size, max_size, &mut random)
    {
        return size;
    }
    fuzzer_mutate(data, size, max_size)
});

/// Takes the sections of the input one after the other.
struct Sections<'a> {
    rest: &'a [u8],
    address: u64,
}

impl Sections<'_> {
    /// Address and number of at most `count` records of `size` bytes.
    fn take(&mut self, count: usize, size: usize) -> (u64, u32) {
        let count = count.min(self.rest.len() / size);
        let address = self.address;
        self.rest = &self.rest[count * size..];
        self.address += (count * size) as u64;
        (address, count as u32)
    }
}

fn run(input: &[u8]) {
    let Some((head, body)) =
        input[..input.len().min(IMAGE_SIZE)].split_at_checked(size_of::<ProgramHeader>())
    else {
        return;
    };
    let header: ProgramHeader = bytemuck::pod_read_unaligned(head);
    let mut sections = Sections { rest: body, address: IMAGE_AT + head.len() as u64 };
    let (insns, insn_cnt) = sections.take(header.insns.into(), 8);
    let (func_info, func_info_cnt) = sections.take(header.func_infos.into(), 8);
    let (line_info, line_info_cnt) = sections.take(header.line_infos.into(), 16);
    let (core_relos, core_relo_cnt) = sections.take(header.core_relos.into(), 16);
    let (fd_array, fd_array_cnt) = sections.take(header.fd_array.into(), 4);
    let btf = if sections.rest.is_empty() || sections.rest.len() > BTF_MAX_SIZE {
        Some(Arc::clone(&WORLD.blob_btf))
    } else {
        Btf::parse(sections.rest.to_vec(), &mut Log::disabled(), &|| WORLD.vmlinux.clone()).ok().map(Arc::new)
    };
    let has_btf = header.with_btf & 1 != 0 || func_info_cnt | line_info_cnt | core_relo_cnt != 0;

    // Without a level there is no buffer either, mostly.
    let log_size = if header.log == 0 { 0 } else { log_size(header.log >> 4) };
    let attr = ProgLoad {
        prog_type: header.prog_type.into(),
        insn_cnt,
        insns,
        license: IMAGE_AT + IMAGE_SIZE as u64 - 8,
        log_level: u32::from(header.log & 15),
        log_size,
        log_buf: u64::from(header.log & 15 != 0),
        prog_flags: header.flags.into(),
        expected_attach_type: header.attach_type.into(),
        prog_btf_fd: if has_btf { PROGRAM_BTF_FD } else { 0 },
        func_info_rec_size: 8,
        func_info,
        func_info_cnt,
        line_info_rec_size: 16,
        line_info,
        line_info_cnt,
        attach_btf_id: header.attach_btf_id,
        attach_prog_fd: if header.with_btf & 2 != 0 { 102 } else { 0 },
        core_relo_cnt,
        fd_array,
        core_relos,
        core_relo_rec_size: 16,
        fd_array_cnt: if header.with_btf & 4 != 0 { fd_array_cnt } else { 0 },
        ..ProgLoad::default()
    };
    let memory = Image::new(input);
    memory.store(
        IMAGE_SIZE - 8,
        if header.caps & caps::NOT_GPL != 0 { b"none\0\0\0\0" } else { b"GPL\0\0\0\0\0" },
    );
    let objects = Arc::new(Sight { memory, btf });
    let config = KernelConfig { jit: header.caps & caps::NO_JIT == 0, ..KernelConfig::default() };
    let loader = Loader {
        cap_bpf: header.caps & caps::NO_BPF == 0,
        cap_perfmon: header.caps & caps::NO_PERFMON == 0,
        cap_net_admin: header.caps & caps::NO_NET_ADMIN == 0,
        cap_sys_admin: header.caps & caps::NO_SYS_ADMIN == 0,
        unprivileged_bpf_disabled: false,
        objects: objects.clone(),
        btf_vmlinux: WORLD.vmlinux.clone(),
        config: Arc::new(config),
    };
    let Ok(prog) = prepare(&attr, &loader) else { return };
    let sink = VecSink::default();
    let outcome = bpf_check(CheckInput {
        prog,
        attr,
        objects,
        btf_vmlinux: WORLD.vmlinux.clone(),
        log_sink: (attr.log_buf != 0).then(|| Box::new(sink.clone()) as Box<dyn LogSink>),
        bcf: None,
    });
    let logged = sink.0.lock().map_or(0, |bytes| bytes.len());
    assert!(logged <= log_size as usize, "the log overflows its buffer");
    assert!(log_size > LOG_MAX || logged <= LOG_MAX as usize);
    if let Err(errno) = outcome.result {
        assert!(errno.0 > 0, "an error without a number");
        let reason = outcome.not_emulated.is_some();
        assert!(errno.0 != libc::EOPNOTSUPP || reason, "not emulated without a reason");
    }
}
