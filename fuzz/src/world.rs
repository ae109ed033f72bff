//! What programs of the `program` target can name: maps of every kind that can be made, and the host's BTF.

use std::path::Path;
use std::sync::{Arc, LazyLock};

use bpftwin::btf::Btf;
use bpftwin::kernel::user_memory::UserMemory;
use bpftwin::kernel::{Kernel, KernelSettings};
use bpftwin::verifier::log::Log;
use bpftwin::verifier::prog::{Objects, TargetProg, VerifierMap};
use bpftwin_uapi::attr::{BtfLoad, MapCreate};
use bpftwin_uapi::{Cmd, Errno, MapType, ProgType};
use bytemuck::Pod;

use crate::blob::{FuzzBtf, LOCK_VALUE_SIZE, PLAIN_VALUE_SIZE, TIMER_VALUE_SIZE};
use crate::format::{IMAGE_AT, PROGRAM_BTF_FD};
use crate::memory::Image;

/// Made once.
pub struct World {
    pub maps: Vec<Arc<VerifierMap>>,
    /// BTF that programs use which bring none.
    pub blob: FuzzBtf,
    pub blob_btf: Arc<Btf>,
    pub vmlinux: Option<Arc<Btf>>,
}

/// The world.
pub static WORLD: LazyLock<World> = LazyLock::new(World::new);

fn call<T: Pod>(kernel: &Arc<Kernel>, cmd: Cmd, attr: &T, data: &[u8]) -> Result<i32, Errno> {
    let image = Image::new(bytemuck::bytes_of(attr));
    image.store(4096, data);
    let memory: Arc<dyn UserMemory + Send + Sync> = Arc::new(image);
    bpftwin::syscall::bpf(kernel, &memory, cmd as i32, IMAGE_AT, size_of::<T>() as u32)
}

const BPF_F_NO_PREALLOC: u32 = 1;
const BPF_F_RDONLY_PROG: u32 = 1 << 7;
const BPF_F_WRONLY_PROG: u32 = 1 << 8;
const BPF_F_INNER_MAP: u32 = 1 << 12;

impl World {
    fn new() -> World {
        let settings = KernelSettings { vmlinux_btf: None, quiet: true, ..KernelSettings::default() };
        let kernel = Arc::new(Kernel::new(settings));
        let blob = FuzzBtf::build();
        let load = BtfLoad { btf: IMAGE_AT + 4096, btf_size: blob.bytes.len() as u32, ..BtfLoad::default() };
        let btf_fd = call(&kernel, Cmd::BtfLoad, &load, &blob.bytes).expect("the fixed BTF is valid");
        let array = MapCreate {
            map_type: MapType::Array as u32,
            key_size: 4,
            value_size: PLAIN_VALUE_SIZE,
            max_entries: 4,
            ..MapCreate::default()
        };
        let typed = MapCreate { btf_fd: btf_fd as u32, btf_key_type_id: blob.int, ..array };
        let lock = MapCreate { value_size: LOCK_VALUE_SIZE, btf_value_type_id: blob.lock_value, ..typed };
        let timer = MapCreate { value_size: TIMER_VALUE_SIZE, btf_value_type_id: blob.timer_value, ..typed };
        let mut attrs = vec![
            array,
            lock,
            timer,
            MapCreate { map_type: MapType::Hash as u32, ..lock },
            MapCreate { map_type: MapType::Hash as u32, ..timer },
            MapCreate { map_flags: BPF_F_RDONLY_PROG, ..array },
            MapCreate { map_flags: BPF_F_WRONLY_PROG, max_entries: 1, value_size: 4096, ..array },
            MapCreate { map_flags: BPF_F_INNER_MAP, ..array },
        ];
        for &map_type in MapType::ALL {
            for (key_size, value_size) in [(4, 4), (4, 8), (8, 40), (0, 8), (0, 0), (16, 4)] {
                for map_flags in [0, BPF_F_NO_PREALLOC] {
                    for max_entries in [4, 4096, 0] {
                        let map_type = map_type as u32;
                        attrs.push(MapCreate {
                            map_type,
                            key_size,
                            value_size,
                            max_entries,
                            map_flags,
                            ..array
                        });
                    }
                }
            }
            let map_type = map_type as u32;
            let storage = MapCreate { map_type, max_entries: 0, map_flags: BPF_F_NO_PREALLOC, ..typed };
            attrs.push(MapCreate { btf_value_type_id: blob.plain_value, ..storage });
        }
        let mut maps: Vec<Arc<VerifierMap>> = Vec::new();
        let mut of_type = [0; 64];
        let mut inner = 0;
        for attr in attrs {
            let Ok(fd) = call(&kernel, Cmd::MapCreate, &MapCreate { inner_map_fd: inner, ..attr }, &[])
                .or_else(|_| call(&kernel, Cmd::MapCreate, &attr, &[]))
            else {
                continue;
            };
            if inner == 0 {
                inner = fd as u32;
            }
            of_type[attr.map_type as usize] += 1;
            if (maps.len() < 8 || of_type[attr.map_type as usize] <= 2)
                && let Ok(map) = kernel.map_by_fd(fd)
            {
                maps.push(map.verifier_map());
            }
        }
        let blob_btf = Btf::parse(blob.bytes.clone(), &mut Log::disabled(), &|| None);
        World {
            maps,
            blob_btf: Arc::new(blob_btf.expect("the fixed BTF is valid")),
            blob,
            vmlinux: Btf::from_kernel_file(Path::new("/sys/kernel/btf/vmlinux")).ok().map(Arc::new),
        }
    }
}

/// What one program sees of the world. Descriptors are indices into the maps.
pub struct Sight {
    pub memory: Image,
    pub btf: Option<Arc<Btf>>,
}

impl Objects for Sight {
    fn map_by_fd(&self, fd: i32) -> Result<Arc<VerifierMap>, Errno> {
        match usize::try_from(fd).ok().and_then(|at| WORLD.maps.get(at)) {
            Some(map) => Ok(Arc::clone(map)),
            None if fd == PROGRAM_BTF_FD as i32 => Err(Errno::EINVAL),
            None => Err(Errno::EBADF),
        }
    }

    fn btf_by_fd(&self, fd: i32) -> Result<Arc<Btf>, Errno> {
        match (fd, &self.btf, &WORLD.vmlinux) {
            (fd, Some(btf), _) if fd == PROGRAM_BTF_FD as i32 => Ok(Arc::clone(btf)),
            (101, _, Some(btf)) => Ok(Arc::clone(btf)),
            (102, _, _) => Err(Errno::EINVAL),
            _ => Err(Errno::EBADF),
        }
    }

    fn prog_by_fd(&self, fd: i32) -> Result<TargetProg, Errno> {
        if fd != 102 {
            return Err(if (0..102).contains(&fd) { Errno::EINVAL } else { Errno::EBADF });
        }
        Ok(TargetProg {
            prog_type: ProgType::Xdp,
            expected_attach_type: 0,
            dev_bound: false,
            offloaded: false,
            btf: Some(Arc::clone(&WORLD.blob_btf)),
        })
    }

    fn read_user(&self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        self.memory.read(address, buf)
    }
}
