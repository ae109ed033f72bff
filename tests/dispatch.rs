//! bpf(2) with arbitrary attributes: no input may panic or hang the emulated kernel.

mod twin;

use std::sync::Arc;

use bpftwin::kernel::user_memory::UserMemory;
use bpftwin::kernel::{Kernel, KernelSettings};
use bpftwin_uapi::Errno;
use bpftwin_uapi::attr::MapCreate;
use twin::{Random, iterations};

/// Memory that is there for addresses with bit 40 clear, and holds the same few bytes everywhere.
struct AnyMemory;

impl UserMemory for AnyMemory {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Errno> {
        if address >> 40 & 1 != 0 {
            return Err(Errno::EFAULT);
        }
        let pattern = [0u8, 0, 1, 0, 5, b'a', 0x95, 3];
        to.iter_mut()
            .enumerate()
            .for_each(|(i, byte)| *byte = pattern[(address as usize ^ i) % pattern.len()]);
        Ok(())
    }

    fn write(&self, address: u64, _from: &[u8]) -> Result<(), Errno> {
        if address >> 40 & 1 != 0 { Err(Errno::EFAULT) } else { Ok(()) }
    }
}

/// [`AnyMemory`], but for the attributes of a call.
struct AttrMemory {
    attr: [u8; 256],
}

const ATTR_AT: u64 = 0x7000_0000;

impl UserMemory for AttrMemory {
    fn read(&self, address: u64, to: &mut [u8]) -> Result<(), Errno> {
        let start = address.wrapping_sub(ATTR_AT) as usize;
        match self.attr.get(start..start.saturating_add(to.len())) {
            Some(bytes) => {
                to.copy_from_slice(bytes);
                Ok(())
            }
            None => AnyMemory.read(address, to),
        }
    }

    fn write(&self, address: u64, from: &[u8]) -> Result<(), Errno> {
        AnyMemory.write(address, from)
    }
}

#[test]
fn any_attributes() {
    let mut random = Random::new(20);
    let kernel = Arc::new(Kernel::new(KernelSettings { vmlinux_btf: None, ..KernelSettings::default() }));
    let mut fds: Vec<i32> = Vec::new();
    for round in 0..iterations(20_000) {
        let mut attr = [0u8; 256];
        let words = random.below(24) as usize;
        for word in attr.chunks_exact_mut(4).take(words) {
            let value = match random.below(8) {
                0 => random.next() as u32,
                1 => 1 << random.below(32),
                2 if !fds.is_empty() => random.pick(&fds) as u32,
                _ => random.below(34) as u32,
            };
            word.copy_from_slice(&value.to_ne_bytes());
        }
        let mut cmd = random.below(42) as i32 - 2;
        if random.one_in(4) {
            cmd = 0;
            let likely = MapCreate {
                map_type: random.below(34) as u32,
                key_size: random.pick(&[4, 4, 8, 0]),
                value_size: random.pick(&[4, 8, 1, 33]),
                max_entries: random.pick(&[1, 2, 1000, 4096]),
                map_flags: random.pick(&[0, 0, 1, 2, 1 << 10]),
                ..MapCreate::default()
            };
            attr[..48].copy_from_slice(&bytemuck::bytes_of(&likely)[..48]);
        }
        if cmd == 0 && u32::from_ne_bytes(attr[8..12].try_into().unwrap()) > 1 << 22 {
            continue;
        }
        if (24..28).contains(&cmd) {
            // The kernel, too, goes through all elements of a batch while their memory is there.
            attr[34..36].fill(0);
        }
        let memory: Arc<dyn UserMemory + Send + Sync> = Arc::new(AttrMemory { attr });
        let size = random.pick(&[168, 168, 168, 40, 0, 200, 5000]);
        let result = bpftwin::syscall::bpf(&kernel, &memory, cmd, ATTR_AT, size);
        if let (Ok(fd @ 3..), 0 | 5 | 7 | 13 | 14 | 18 | 19) = (result, cmd) {
            fds.push(fd);
        }
        if fds.len() > 60 || round % 5000 == 0 {
            // SAFETY: they were made above, and nobody else knows them.
            fds.drain(..).for_each(|fd| assert_eq!(0, unsafe { libc::close(fd) }));
        }
    }
}
