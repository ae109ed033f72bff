//! Random programs of loads, stores and atomic operations, through our verifier and the live kernel: same verdict, same
//! log at level 2.
//!
//! Needs a kernel of the emulated series and the right to load programs; says so and passes where it has neither.

mod live;

use std::sync::{Arc, Mutex};

use bpftwin::btf::Btf;
use bpftwin::syscall::prog_load::{Loader, prepare};
use bpftwin::verifier::bpf_check;
use bpftwin::verifier::input::CheckInput;
use bpftwin::verifier::log::LogSink;
use bpftwin::verifier::prog::{MapContents, Objects, TargetProg, VerifierMap};
use bpftwin_uapi::attr::*;
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Cmd, Errno, Insn, MapType, ProgType};

const VALUE_SIZE: u32 = 48;
const LOG_SIZE: u32 = 1 << 18;

/// An array of one entry, with its value.
struct OneEntry {
    value: [u8; VALUE_SIZE as usize],
    frozen: bool,
}

impl MapContents for OneEntry {
    fn frozen(&self) -> bool {
        self.frozen
    }

    fn read_value(&self, off: u32, buf: &mut [u8]) -> Result<(), Errno> {
        let bytes = self.value.get(off as usize..off as usize + buf.len()).ok_or(Errno::EINVAL)?;
        buf.copy_from_slice(bytes);
        Ok(())
    }
}

struct Maps(Vec<(i32, Arc<VerifierMap>)>);

impl Objects for Maps {
    fn map_by_fd(&self, fd: i32) -> Result<Arc<VerifierMap>, Errno> {
        self.0.iter().find(|(of, _)| *of == fd).map(|(_, map)| map.clone()).ok_or(Errno::EBADF)
    }

    fn btf_by_fd(&self, _fd: i32) -> Result<Arc<Btf>, Errno> {
        Err(Errno::EBADF)
    }

    fn prog_by_fd(&self, _fd: i32) -> Result<TargetProg, Errno> {
        Err(Errno::EBADF)
    }

    fn read_user(&self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        // SAFETY: the addresses are those of the test's own instructions and licence.
        unsafe { std::ptr::copy_nonoverlapping(address as *const u8, buf.as_mut_ptr(), buf.len()) };
        Ok(())
    }
}

#[derive(Clone)]
struct Sink(Arc<Mutex<Vec<u8>>>);

impl LogSink for Sink {
    fn write(&mut self, offset: u64, bytes: &[u8]) -> Result<(), Errno> {
        let mut log = self.0.lock().unwrap();
        let end = offset as usize + bytes.len();
        if log.len() < end {
            log.resize(end, 0);
        }
        log[offset as usize..end].copy_from_slice(bytes);
        Ok(())
    }

    fn read(&mut self, offset: u64, bytes: &mut [u8]) -> Result<(), Errno> {
        let log = self.0.lock().unwrap();
        bytes.copy_from_slice(&log[offset as usize..offset as usize + bytes.len()]);
        Ok(())
    }
}

fn bpf<T>(cmd: Cmd, attr: &mut T) -> i32 {
    // SAFETY: the attributes point to live memory, or to none.
    unsafe { libc::syscall(libc::SYS_bpf, cmd as i32, &raw mut *attr, size_of::<T>()) as i32 }
}

/// Creates a map in the kernel, and its image for us.
fn make_map(map_flags: u32, frozen: bool) -> (i32, Arc<VerifierMap>) {
    let mut attr: MapCreate = bytemuck::Zeroable::zeroed();
    attr.map_type = MapType::Array as u32;
    attr.key_size = 4;
    attr.value_size = VALUE_SIZE;
    attr.max_entries = 1;
    attr.map_flags = map_flags;
    let fd = bpf(Cmd::MapCreate, &mut attr);
    assert!(fd >= 0);
    let value: [u8; VALUE_SIZE as usize] = std::array::from_fn(|i| (i * 37 + 128) as u8);
    let key = 0u32;
    let mut elem: MapElem = bytemuck::Zeroable::zeroed();
    elem.map_fd = fd as u32;
    elem.key = &raw const key as u64;
    elem.value = value.as_ptr() as u64;
    assert_eq!(bpf(Cmd::MapUpdateElem, &mut elem), 0);
    if frozen {
        let mut elem: MapElem = bytemuck::Zeroable::zeroed();
        elem.map_fd = fd as u32;
        assert_eq!(bpf(Cmd::MapFreeze, &mut elem), 0);
    }
    let map = VerifierMap {
        identity: fd as u64,
        map_type: MapType::Array,
        key_size: 4,
        value_size: VALUE_SIZE,
        max_entries: 1,
        map_flags,
        map_extra: 0,
        name: String::new(),
        record: None,
        btf: None,
        btf_value_type_id: 0,
        inner_map_meta: None,
        offloaded: false,
        excl_prog_sha: None,
        contents: Arc::new(OneEntry { value, frozen }),
    };
    (fd, Arc::new(map))
}

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len() as u64) as usize]
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

const fn mov64_reg(dst: u8, src: u8) -> Insn {
    Insn::new(BPF_ALU64 | BPF_MOV | BPF_X, dst, src, 0, 0)
}

const fn mov64_imm(dst: u8, imm: i32) -> Insn {
    Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, dst, 0, 0, imm)
}

const EXIT: Insn = Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0);

/// Registers that hold scalars at first.
const SCALARS: [u8; 3] = [0, 1, 2];

/// A program under construction, and what its registers point to.
struct Generator<'a> {
    rng: &'a mut Rng,
    prog: Vec<Insn>,
    /// How far below the frame R7 points, in slots.
    r7_slots: i16,
    /// Bytes that may be accessed behind R8.
    r8_size: i16,
    r8_writable: bool,
}

impl Generator<'_> {
    fn push(&mut self, code: u8, dst: u8, src: u8, off: i16, imm: i32) {
        self.prog.push(Insn::new(code, dst, src, off, imm));
    }

    fn add(&mut self, dst: u8, imm: i32) {
        self.push(BPF_ALU64 | BPF_ADD | BPF_K, dst, 0, 0, imm);
    }

    /// Scalars in R0 to R2 (unknown, bounded, constant), anything in R3 to R5, the context in R6.
    fn scalars(&mut self, prog_type: ProgType) {
        self.prog.push(mov64_reg(6, 1));
        let field = if prog_type == ProgType::Xdp { 12 } else { 0 };
        for reg in SCALARS {
            if self.rng.one_in(4) {
                let imm = self.rng.pick(&[0, 0, 1, -1, 0x1234_5678, -200, 65535, 128]);
                self.prog.push(mov64_imm(reg, imm));
                continue;
            }
            self.push(BPF_LDX | BPF_MEM | BPF_W, reg, 6, field, 0);
            if self.rng.one_in(4) {
                continue;
            }
            let mask = self.rng.pick(&[0x7, 0x8, 0xff, 0x1ff, 0x18, 0x80, 0x38]);
            self.push(BPF_ALU64 | BPF_AND | BPF_K, reg, 0, 0, mask);
            if self.rng.one_in(4) {
                self.push(BPF_ALU64 | BPF_SUB | BPF_K, reg, 0, 0, 4);
            }
        }
        for reg in 3..6 {
            let from = self.rng.pick(&[0, 1, 2, 6, 10]);
            let imm = self.rng.below(3) as i32;
            self.prog.push(if self.rng.one_in(3) { mov64_imm(reg, imm) } else { mov64_reg(reg, from) });
        }
    }

    /// The stack in R7, a map value or a packet in R8, one of them at a variable offset in R9.
    fn pointers(&mut self, prog_type: ProgType, fds: &[i32]) {
        self.r7_slots = self.rng.below(5) as i16;
        self.prog.push(mov64_reg(7, 10));
        self.add(7, -i32::from(self.r7_slots) * 8);
        if prog_type == ProgType::Xdp && self.rng.one_in(2) {
            self.r8_size = self.rng.pick(&[8, 14, 20]);
            self.r8_writable = true;
            self.push(BPF_LDX | BPF_MEM | BPF_W, 8, 6, 0, 0);
            self.push(BPF_LDX | BPF_MEM | BPF_W, 3, 6, 4, 0);
            self.prog.push(mov64_reg(4, 8));
            self.add(4, self.r8_size.into());
            self.push(BPF_JMP | BPF_JLE | BPF_X, 4, 3, 2, 0);
            self.prog.push(mov64_imm(0, 0));
            self.prog.push(EXIT);
        } else {
            let which = self.rng.below(fds.len() as u64) as usize;
            let off = self.rng.pick(&[0, 0, 8, 16, 40]);
            self.r8_size = VALUE_SIZE as i16 - off as i16;
            self.r8_writable = which == 0 || which == 3;
            self.push(BPF_LD | BPF_IMM | BPF_DW, 8, BPF_PSEUDO_MAP_VALUE, 0, fds[which]);
            self.push(0, 0, 0, 0, off);
        }
        let base = self.rng.pick(&[8, 8, 10, 10, 7]);
        self.prog.push(mov64_reg(9, base));
        let index = self.rng.pick(&SCALARS);
        if self.rng.one_in(2) {
            let mask = self.rng.pick(&[0x7, 0x8, 0x18]);
            self.push(BPF_ALU64 | BPF_AND | BPF_K, index, 0, 0, mask);
        }
        self.push(BPF_ALU64 | BPF_ADD | BPF_X, 9, index, 0, 0);
        if base != 8 {
            let down = self.rng.pick(&[-64, -32, -24, -40, -512]);
            self.add(9, down);
        }
    }

    /// Pointer and offset of an access of `bytes`; mostly a permitted one.
    fn place(&mut self, bytes: i16, write: bool) -> (u8, i16) {
        let rng = &mut *self.rng;
        let wild = rng.one_in(40);
        let ptr = match rng.below(12) {
            0 if wild || !write => 6,
            0..=4 => 10,
            5..=7 => 7,
            8 | 9 if self.r8_writable || !write || wild => 8,
            _ if write && !self.r8_writable && !wild => 10,
            _ => 9,
        };
        let step = rng.below(6) as i16 * bytes;
        let off = match ptr {
            10 => -step - bytes,
            7 => -self.r7_slots.min(2) * 8 + 8 * rng.below(2) as i16 - step - bytes,
            8 if !wild => rng.below((self.r8_size / bytes).max(1) as u64) as i16 * bytes,
            6 => rng.below(20) as i16 * 4,
            _ => step,
        };
        (ptr, if wild { off + 1 } else { off })
    }

    fn step(&mut self) {
        let size = if self.rng.one_in(2) { BPF_DW } else { self.rng.pick(&[BPF_B, BPF_H, BPF_W, BPF_DW]) };
        let bytes = Insn::new(size, 0, 0, 0, 0).size_bytes() as i16;
        let dst = self.rng.below(6) as u8;
        let value = if self.rng.one_in(8) {
            self.rng.below(10) as u8
        } else if size == BPF_DW {
            self.rng.below(8) as u8
        } else {
            self.rng.below(3) as u8
        };
        match self.rng.below(12) {
            0..=3 => {
                let (ptr, off) = self.place(bytes, true);
                self.push(BPF_STX | BPF_MEM | size, ptr, value, off, 0);
            }
            4..=7 => {
                let (ptr, off) = self.place(bytes, false);
                let mode = if size != BPF_DW && self.rng.one_in(3) { BPF_MEMSX } else { BPF_MEM };
                self.push(BPF_LDX | mode | size, dst, ptr, off, 0);
            }
            8 => {
                let (ptr, off) = self.place(bytes, true);
                let imm = self.rng.pick(&[0, 0, 1, -1, 70000]);
                self.push(BPF_ST | BPF_MEM | size, ptr, 0, off, imm);
            }
            9 => {
                let narrow = bytes < 4 && !self.rng.one_in(10);
                let (size, bytes) = if narrow { (BPF_W, 4) } else { (size, bytes) };
                let fetch = if self.rng.one_in(2) { BPF_FETCH } else { 0 };
                let rare = if self.rng.one_in(20) { 0x77 } else { BPF_XCHG };
                let imm = self.rng.pick(&[
                    BPF_ADD as i32 | fetch,
                    BPF_OR as i32 | fetch,
                    BPF_AND as i32 | fetch,
                    BPF_XOR as i32 | fetch,
                    BPF_XCHG,
                    BPF_CMPXCHG,
                    BPF_LOAD_ACQ,
                    BPF_STORE_REL,
                    rare,
                ]);
                let (ptr, off) = self.place(bytes, true);
                let (dst, src) = if imm == BPF_LOAD_ACQ { (dst, ptr) } else { (ptr, value) };
                self.push(BPF_STX | BPF_ATOMIC | size, dst, src, off, imm);
            }
            10 => {
                // Precision, and paths that meet again.
                let op = self.rng.pick(&[BPF_JGT, BPF_JEQ, BPF_JSLT]);
                let imm = self.rng.below(9) as i32;
                self.push(BPF_JMP | op, dst, 0, 1, 7);
                self.prog.push(mov64_imm(dst, imm));
            }
            _ => {
                let from = self.rng.below(6) as u8;
                let code = self.rng.pick(&[BPF_ALU | BPF_MOV | BPF_X, BPF_ALU64 | BPF_MOV | BPF_X]);
                let width = self.rng.pick(&[0, 8, 16]);
                self.push(code, dst, from, width, 0);
            }
        }
    }
}

/// One program.
fn generate(rng: &mut Rng, prog_type: ProgType, fds: &[i32]) -> Vec<Insn> {
    let mut generator = Generator { rng, prog: Vec::new(), r7_slots: 0, r8_size: 0, r8_writable: false };
    generator.scalars(prog_type);
    generator.pointers(prog_type, fds);
    for _ in 0..4 + generator.rng.below(14) {
        generator.step();
    }
    generator.prog.push(mov64_imm(0, 0));
    generator.prog.push(EXIT);
    generator.prog
}

fn load_attr(prog_type: ProgType, flags: u32, insns: &[Insn]) -> ProgLoad {
    let mut attr: ProgLoad = bytemuck::Zeroable::zeroed();
    attr.prog_type = prog_type as u32;
    attr.insns = insns.as_ptr() as u64;
    attr.insn_cnt = insns.len() as u32;
    attr.license = c"GPL".as_ptr() as u64;
    attr.log_level = 2;
    attr.log_size = LOG_SIZE;
    attr.prog_flags = flags;
    attr
}

fn kernel_answer(attr: &ProgLoad) -> (Result<(), Errno>, String) {
    let mut log = vec![0u8; LOG_SIZE as usize];
    let mut attr = *attr;
    attr.log_buf = log.as_mut_ptr() as u64;
    let fd = bpf(Cmd::ProgLoad, &mut attr);
    let result = if fd < 0 {
        Err(Errno(std::io::Error::last_os_error().raw_os_error().unwrap_or(0)))
    } else {
        // SAFETY: the descriptor is ours alone.
        unsafe { libc::close(fd) };
        Ok(())
    };
    (result, text(&log))
}

fn our_answer(attr: &ProgLoad, loader: &Loader) -> Option<(Result<(), Errno>, String)> {
    let log = Arc::new(Mutex::new(Vec::new()));
    let mut attr = *attr;
    attr.log_buf = 8;
    let prog = match prepare(&attr, loader) {
        Ok(prog) => prog,
        Err(refusal) => return Some((Err(refusal.errno), String::new())),
    };
    let outcome = bpf_check(CheckInput {
        prog,
        attr,
        objects: loader.objects.clone(),
        btf_vmlinux: loader.btf_vmlinux.clone(),
        log_sink: Some(Box::new(Sink(log.clone()))),
        bcf: None,
    });
    if outcome.not_emulated.is_some() {
        return None;
    }
    let text = text(&log.lock().unwrap());
    Some((outcome.result, text))
}

/// The log without its times, and without the addresses of map values.
fn text(log: &[u8]) -> String {
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    let mut text = String::new();
    for line in String::from_utf8_lossy(&log[..end]).lines() {
        if line.starts_with("verification time") {
            continue;
        }
        match line.split_once("(18) r8 = 0x") {
            Some((before, after)) => {
                text += before;
                text += "(18) r8 = ADDRESS";
                text += after.trim_start_matches(|c: char| c.is_ascii_hexdigit()).trim_start();
            }
            None => text += line,
        }
        text.push('\n');
    }
    text
}

#[test]
fn memory_accesses_agree_with_the_kernel() {
    if !live::can_load() {
        return;
    }
    let maps = vec![
        make_map(0, false),
        make_map(BPF_F_RDONLY_PROG, true),
        make_map(BPF_F_RDONLY_PROG, false),
        make_map(1 << 8, false),
    ];
    let fds: Vec<i32> = maps.iter().map(|(fd, _)| *fd).collect();
    let loader = Loader {
        cap_bpf: true,
        cap_perfmon: true,
        cap_net_admin: true,
        cap_sys_admin: true,
        unprivileged_bpf_disabled: true,
        objects: Arc::new(Maps(maps)),
        btf_vmlinux: None,
        config: Arc::default(),
    };
    let count: usize = std::env::var("PROGRAMS").ok().and_then(|n| n.parse().ok()).unwrap_or(1500);
    let mut rng =
        Rng(std::env::var("SEED").ok().and_then(|n| n.parse().ok()).unwrap_or(0x1234_5678_9abc_def1));
    let (mut differences, mut accepted, mut skipped) = (0, 0, 0);
    for _ in 0..count {
        let prog_type =
            rng.pick(&[ProgType::Xdp, ProgType::SocketFilter, ProgType::SchedCls, ProgType::SockOps]);
        let mut flags = if rng.one_in(6) { BPF_F_STRICT_ALIGNMENT } else { 0 };
        if rng.one_in(3) {
            flags |= BPF_F_TEST_STATE_FREQ;
        }
        let insns = generate(&mut rng, prog_type, &fds);
        let attr = load_attr(prog_type, flags, &insns);
        let (theirs, their_log) = kernel_answer(&attr);
        accepted += usize::from(theirs.is_ok());
        let Some((ours, our_log)) = our_answer(&attr, &loader) else {
            skipped += 1;
            continue;
        };
        if (ours, &our_log) != (theirs, &their_log) {
            differences += 1;
            if differences <= 5 {
                let (line, (a, b)) = our_log
                    .lines()
                    .chain(["<end>"])
                    .zip(their_log.lines().chain(["<end>"]))
                    .enumerate()
                    .find(|(_, (a, b))| a != b)
                    .unwrap_or((0, ("", "")));
                eprintln!(
                    "{prog_type:?}: we {ours:?}, kernel {theirs:?}; log line {line}:\n-{b}\n+{a}\n{their_log}"
                );
            }
        }
    }
    eprintln!("{count} programs, {accepted} accepted, {skipped} not emulated, {differences} differences");
    assert_eq!(differences, 0);
}
