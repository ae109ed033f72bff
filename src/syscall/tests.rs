//! Calls as a program makes them, against a kernel of its own.

use std::collections::HashMap;

use bpftwin_uapi::attr::{MapCreate, MapElem, Obj, ProgLoad};
use bpftwin_uapi::{Cmd, Insn, MapType, ProgType};

use super::*;
use crate::kernel::KernelSettings;
use crate::kernel::profile::{Bcf, Profile, Series};

/// The test's own memory.
struct OwnMemory;

impl UserMemory for OwnMemory {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<()> {
        if address < 4096 {
            return Err(Errno::EFAULT);
        }
        // SAFETY: the tests pass addresses of live objects, or small ones.
        unsafe { std::ptr::copy_nonoverlapping(address as *const u8, to.as_mut_ptr(), to.len()) };
        Ok(())
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<()> {
        if address < 4096 {
            return Err(Errno::EFAULT);
        }
        // SAFETY: the tests pass addresses of live objects, or small ones.
        unsafe { std::ptr::copy_nonoverlapping(from.as_ptr(), address as *mut u8, from.len()) };
        Ok(())
    }
}

fn call<T>(kernel: &Arc<Kernel>, cmd: Cmd, attr: &T) -> Result {
    let memory: Arc<dyn UserMemory + Send + Sync> = Arc::new(OwnMemory);
    bpf(kernel, &memory, cmd as i32, std::ptr::from_ref(attr) as u64, size_of::<T>() as u32)
}

fn kernel() -> Arc<Kernel> {
    Arc::new(Kernel::new(KernelSettings { vmlinux_btf: None, ..KernelSettings::default() }))
}

fn map(kernel: &Arc<Kernel>, map_type: MapType, key_size: u32, value_size: u32, max_entries: u32) -> u32 {
    let attr =
        MapCreate { map_type: map_type as u32, key_size, value_size, max_entries, ..MapCreate::default() };
    call(kernel, Cmd::MapCreate, &attr).unwrap() as u32
}

#[test]
fn hash_elements() {
    let kernel = kernel();
    let fd = map(&kernel, MapType::Hash, 4, 8, 2);
    let mut seen = HashMap::new();
    for key in [1u32, 2, 3] {
        let value = u64::from(key) << 40;
        let attr = MapElem {
            map_fd: fd,
            key: &raw const key as u64,
            value: &raw const value as u64,
            ..MapElem::default()
        };
        seen.insert(key, call(&kernel, Cmd::MapUpdateElem, &attr));
    }
    assert_eq!((seen[&1], seen[&2], seen[&3]), (Ok(0), Ok(0), Err(Errno::E2BIG)));
    let (key, mut value) = (2u32, 0u64);
    let attr = MapElem {
        map_fd: fd,
        key: &raw const key as u64,
        value: &raw mut value as u64,
        ..MapElem::default()
    };
    assert_eq!(call(&kernel, Cmd::MapLookupElem, &attr), Ok(0));
    assert_eq!(value, 2 << 40);
}

#[test]
fn descriptors_keep_maps_alive() {
    let kernel = kernel();
    let fd = map(&kernel, MapType::Array, 4, 4, 1) as i32;
    // SAFETY: descriptor calls without memory effects, on a descriptor of this test.
    let copy = unsafe { libc::dup(fd) };
    assert_eq!(kernel.map_by_fd(copy).unwrap().id(), 1);
    // SAFETY: as above.
    unsafe { libc::close(fd) };
    assert_eq!(kernel.maps().next_from(1), Some(1));
    // SAFETY: as above.
    unsafe { libc::close(copy) };
    assert_eq!(kernel.maps().next_from(1), None);
}

#[test]
fn attribute_sizes() {
    let kernel = kernel();
    let mut attr = [0u8; 300];
    attr[299] = 1;
    assert_eq!(call(&kernel, Cmd::MapCreate, &attr), Err(Errno::E2BIG));
    attr[299] = 0;
    assert_eq!(call(&kernel, Cmd::MapCreate, &attr), Err(Errno::EINVAL));
    let memory: Arc<dyn UserMemory + Send + Sync> = Arc::new(OwnMemory);
    assert_eq!(bpf(&kernel, &memory, 0, 8, 16), Err(Errno::EFAULT));
    assert_eq!(bpf(&kernel, &memory, 999, attr.as_ptr() as u64, 16), Err(Errno::EINVAL));
}

fn elem(kernel: &Arc<Kernel>, cmd: Cmd, fd: u32, key: &[u8], value: &mut [u8]) -> Result {
    let attr = MapElem {
        map_fd: fd,
        key: key.as_ptr() as u64,
        value: value.as_mut_ptr() as u64,
        ..MapElem::default()
    };
    call(kernel, cmd, &attr)
}

#[test]
fn longest_prefix_wins() {
    let kernel = kernel();
    let attr = MapCreate {
        map_type: MapType::LpmTrie as u32,
        key_size: 8,
        value_size: 1,
        max_entries: 8,
        map_flags: 1,
        ..MapCreate::default()
    };
    let fd = call(&kernel, Cmd::MapCreate, &attr).unwrap() as u32;
    for (key, mut value) in [([16, 0, 0, 0, 192, 168, 0, 0], [1u8]), ([24, 0, 0, 0, 192, 168, 1, 0], [2])] {
        assert_eq!(elem(&kernel, Cmd::MapUpdateElem, fd, &key, &mut value), Ok(0));
    }
    let mut value = [0];
    assert_eq!(elem(&kernel, Cmd::MapLookupElem, fd, &[32, 0, 0, 0, 192, 168, 1, 7], &mut value), Ok(0));
    assert_eq!(value, [2]);
    assert_eq!(elem(&kernel, Cmd::MapLookupElem, fd, &[32, 0, 0, 0, 192, 168, 2, 7], &mut value), Ok(0));
    assert_eq!(value, [1]);
    assert_eq!(
        elem(&kernel, Cmd::MapLookupElem, fd, &[32, 0, 0, 0, 10, 0, 0, 1], &mut value),
        Err(Errno::ENOENT)
    );
}

#[test]
fn lru_makes_room() {
    let kernel = kernel();
    let fd = map(&kernel, MapType::LruHash, 4, 4, 8);
    for key in 0..100u32 {
        assert_eq!(elem(&kernel, Cmd::MapUpdateElem, fd, &key.to_ne_bytes(), &mut key.to_ne_bytes()), Ok(0));
    }
    let mut value = [0; 4];
    assert_eq!(elem(&kernel, Cmd::MapLookupElem, fd, &99u32.to_ne_bytes(), &mut value), Ok(0));
    assert_eq!(value, 99u32.to_ne_bytes());
    assert_eq!(elem(&kernel, Cmd::MapLookupElem, fd, &0u32.to_ne_bytes(), &mut value), Err(Errno::ENOENT));
}

#[test]
fn inner_maps_must_fit() {
    let kernel = kernel();
    let inners = [
        map(&kernel, MapType::Array, 4, 8, 2),
        map(&kernel, MapType::Array, 4, 8, 3),
        map(&kernel, MapType::Hash, 4, 8, 2),
    ];
    let attr = MapCreate {
        map_type: MapType::HashOfMaps as u32,
        key_size: 4,
        value_size: 4,
        max_entries: 2,
        inner_map_fd: inners[0],
        ..MapCreate::default()
    };
    let outer = call(&kernel, Cmd::MapCreate, &attr).unwrap() as u32;
    let results =
        inners.map(|inner| elem(&kernel, Cmd::MapUpdateElem, outer, &[1, 0, 0, 0], &mut inner.to_ne_bytes()));
    assert_eq!(results, [Ok(0), Err(Errno::EINVAL), Err(Errno::EINVAL)]);
    let mut id = [0; 4];
    assert_eq!(elem(&kernel, Cmd::MapLookupElem, outer, &[1, 0, 0, 0], &mut id), Ok(0));
    assert_eq!(u32::from_ne_bytes(id), kernel.map_by_fd(inners[0] as i32).unwrap().id());
    assert_eq!(call(&kernel, Cmd::MapCreate, &MapCreate { inner_map_fd: outer, ..attr }), Err(Errno::EINVAL));
}

#[test]
fn pins_keep_objects() {
    let kernel = kernel();
    let fd = map(&kernel, MapType::Array, 4, 4, 1);
    let path = c"/sys/fs/bpf/map";
    let attr = Obj { pathname: path.as_ptr() as u64, bpf_fd: fd, ..Obj::default() };
    assert_eq!(call(&kernel, Cmd::ObjPin, &attr), Ok(0));
    assert_eq!(call(&kernel, Cmd::ObjPin, &attr), Err(Errno::EEXIST));
    // SAFETY: a descriptor of this test, closed without memory effects.
    unsafe { libc::close(fd as i32) };
    assert_eq!(kernel.maps().next_from(1), Some(1));
    let get = Obj { bpf_fd: 0, file_flags: bpftwin_uapi::attr::BPF_F_RDONLY, ..attr };
    let fd = call(&kernel, Cmd::ObjGet, &get).unwrap();
    assert_eq!(elem(&kernel, Cmd::MapUpdateElem, fd as u32, &[0; 4], &mut [1; 4]), Err(Errno::EPERM));
    kernel.pins().unlink(std::path::Path::new("/sys/fs/bpf/map")).unwrap();
    // SAFETY: as above.
    unsafe { libc::close(fd) };
    assert_eq!(kernel.maps().next_from(1), None);
}

#[test]
fn suspended_loads_do_not_keep_their_kernel() {
    let kernel = Arc::new(Kernel::new(KernelSettings {
        profile: Profile::new(Series::V6_18).with_bcf(Bcf::Kernel),
        vmlinux_btf: None,
        ..KernelSettings::default()
    }));
    // A byte of the stack at a place that only its half is compared with.
    let insns = [
        (0x85, 0, 0, 7),
        (0x54, 0, 0, 255),
        (0xbc, 1, 0, 0),
        (0xbf, 2, 10, 0),
        (0x07, 2, 0, -16),
        (0x0f, 2, 0, 0),
        (0x77, 1, 0, 1),
        (0x25, 1, 0, 4),
        (0x71, 0, 2, 0),
        (0x95, 0, 0, 0),
    ]
    .map(|(code, dst, src, imm)| Insn::new(code, dst, src, i16::from(code == 0x25), imm));
    let mut request = [0u8; 4096];
    let mut attr = ProgLoad {
        prog_type: ProgType::Tracepoint as u32,
        insn_cnt: insns.len() as u32,
        insns: insns.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        bcf_buf: request.as_mut_ptr() as u64,
        bcf_buf_size: size_of_val(&request) as u32,
        ..ProgLoad::default()
    };
    let memory: Arc<dyn UserMemory + Send + Sync> = Arc::new(OwnMemory);
    let answer =
        bpf(&kernel, &memory, Cmd::ProgLoad as i32, &raw mut attr as u64, size_of::<ProgLoad>() as u32);
    assert_eq!((answer, attr.bcf_flags), (Err(Errno::EINVAL), 1));
    assert!(kernel.bcf_by_fd(attr.bcf_fd as i32).is_ok());
    let weak = Arc::downgrade(&kernel);
    drop(kernel);
    assert!(weak.upgrade().is_none());
    // SAFETY: a descriptor of this test, closed without memory effects.
    unsafe { libc::close(attr.bcf_fd as i32) };
}
