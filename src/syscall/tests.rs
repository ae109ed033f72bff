//! Calls as a program makes them, against a kernel of its own.

use std::collections::HashMap;

use bpftwin_uapi::attr::{MapCreate, MapElem};
use bpftwin_uapi::{Cmd, MapType};

use super::*;
use crate::kernel::KernelSettings;

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
    assert_eq!(kernel.map_by_fd(fd).err(), Some(Errno::EBADF));
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
