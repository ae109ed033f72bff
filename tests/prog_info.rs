//! What object information says of a loaded program, on the emulated and on the live kernel.
//!
//! Needs a kernel of the emulated series and the right to load programs; says so and passes where it has neither.

mod live;

use std::sync::Arc;

use bpftwin::kernel::user_memory::UserMemory;
use bpftwin::kernel::{Kernel, KernelSettings};
use bpftwin_uapi::attr::{ATTR_SIZE, GetInfo, MapCreate, ProgLoad};
use bpftwin_uapi::info::ProgInfo;
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Cmd, Errno, Insn, MapType, ProgType};
use bytemuck::{Pod, Zeroable};

/// The test's own memory; all addresses are of live objects.
struct OwnMemory;

impl UserMemory for OwnMemory {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Errno> {
        // SAFETY: see the type.
        unsafe { std::ptr::copy_nonoverlapping(address as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno> {
        // SAFETY: see the type.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), address as *mut u8, from.len()) };
        Ok(())
    }
}

/// One of the two kernels.
enum Side {
    Emulated(Arc<Kernel>),
    Live,
}

impl Side {
    fn bpf<T: Pod>(&self, cmd: Cmd, attr: &mut T) -> i32 {
        let mut bytes = [0u8; ATTR_SIZE];
        let len = size_of::<T>().min(ATTR_SIZE);
        bytes[..len].copy_from_slice(&bytemuck::bytes_of(attr)[..len]);
        let result = match self {
            Side::Emulated(kernel) => {
                let memory: Arc<dyn UserMemory + Send + Sync> = Arc::new(OwnMemory);
                let answer = bpftwin::syscall::bpf(
                    kernel,
                    &memory,
                    cmd as i32,
                    bytes.as_mut_ptr() as u64,
                    ATTR_SIZE as u32,
                );
                answer.unwrap_or_else(|errno| panic!("{cmd:?}: {errno}"))
            }
            // SAFETY: the attributes name live memory only.
            Side::Live => unsafe {
                libc::syscall(libc::SYS_bpf, cmd as i32, bytes.as_mut_ptr(), ATTR_SIZE) as i32
            },
        };
        assert!(result >= 0, "{cmd:?}: {}", std::io::Error::last_os_error());
        bytemuck::bytes_of_mut(attr)[..len].copy_from_slice(&bytes[..len]);
        result
    }

    /// Loads a program that uses a map; its information and instructions, with what differs between kernels blanked.
    fn load(&self) -> (ProgInfo, Vec<Insn>, [[u8; 8]; 4]) {
        let mut map = MapCreate {
            map_type: MapType::Array as u32,
            key_size: 4,
            value_size: 16,
            max_entries: 1,
            ..Zeroable::zeroed()
        };
        let map_fd = self.bpf(Cmd::MapCreate, &mut map);
        // Calls a subprogram behind another one, so that its number is not its distance.
        let insns = [
            Insn::new(BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_FD, 0, map_fd),
            Insn::default(),
            Insn::new(BPF_LD | BPF_IMM | BPF_DW, 2, BPF_PSEUDO_MAP_VALUE, 0, map_fd),
            Insn::new(0, 0, 0, 0, 8),
            Insn::new(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 4),
            Insn::new(BPF_JMP | BPF_CALL, 0, BPF_PSEUDO_CALL, 0, 1),
            Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
            Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1),
            Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
            Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1),
            Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
        ];
        let mut prog = ProgLoad {
            prog_type: ProgType::SocketFilter as u32,
            insn_cnt: insns.len() as u32,
            insns: insns.as_ptr() as u64,
            license: c"GPL".as_ptr() as u64,
            prog_name: *b"named.prog\0\0\0\0\0\0",
            ..Zeroable::zeroed()
        };
        let prog_fd = self.bpf(Cmd::ProgLoad, &mut prog);
        let mut info: ProgInfo = Zeroable::zeroed();
        let mut xlated = [Insn::default(); 16];
        let mut map_ids = [0u32; 4];
        let mut tags = [[0u8; 8]; 4];
        info.xlated_prog_insns = xlated.as_mut_ptr() as u64;
        info.xlated_prog_len = size_of_val(&xlated) as u32;
        info.map_ids = map_ids.as_mut_ptr() as u64;
        info.nr_map_ids = 4;
        info.prog_tags = tags.as_mut_ptr() as u64;
        info.nr_prog_tags = 4;
        let mut query = GetInfo {
            bpf_fd: prog_fd as u32,
            info_len: size_of::<ProgInfo>() as u32,
            info: &raw mut info as u64,
        };
        self.bpf(Cmd::ObjGetInfoByFd, &mut query);
        for fd in [map_fd, prog_fd] {
            // SAFETY: the descriptors are ours alone.
            unsafe { libc::close(fd) };
        }

        let mut xlated = xlated[..info.xlated_prog_len as usize / 8].to_vec();
        for insn in &mut xlated {
            if insn.is_ldimm64() {
                assert_eq!(insn.imm as u32, map_ids[0]);
                insn.imm = 0;
            }
        }
        assert!(info.id != 0 && info.load_time != 0);
        (info.id, info.load_time) = (0, 0);
        (info.xlated_prog_insns, info.map_ids, info.prog_tags) = (0, 0, 0);
        // Code for the machine is the other kernel's business.
        (info.jited_prog_len, info.nr_jited_ksyms, info.nr_jited_func_lens) = (0, 0, 0);
        (info.run_time_ns, info.run_cnt) = (0, 0);
        (info, xlated, tags)
    }
}

#[test]
fn program_information_agrees_with_the_kernel() {
    if !live::can_load() {
        return;
    }
    let kernel = Arc::new(Kernel::new(KernelSettings::default()));
    let (ours, our_insns, our_tags) = Side::Emulated(kernel).load();
    let (theirs, their_insns, their_tags) = Side::Live.load();
    assert_eq!(our_insns, their_insns);
    assert_eq!(our_tags, their_tags);
    assert_eq!(format!("{ours:?}"), format!("{theirs:?}"));
}
