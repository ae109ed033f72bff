//! Writes seeds for the fuzz targets: `fuzz_seeds DIRECTORY OBJECT...` fills `attr`, `btf` and `program` in the directory
//! from BPF objects, and from calls that make sense together, and `bcf_proof`, `bcf_request`, `bcf_smtlib` and `bcf_prove` from conditions.

#[path = "fuzz_seeds/bcf.rs"]
mod bcf;
#[allow(dead_code)]
#[path = "diff_fuzz/btf.rs"]
mod blob;
#[path = "../fuzz/src/format.rs"]
mod format;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use bpftwin_uapi::attr::*;
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Cmd, HelperId, Insn, MapType, ProgType};
use bytemuck::{Pod, Zeroable};
use object::read::elf::ElfFile64;
use object::{
    Object, ObjectSection, ObjectSymbol, RelocationFlags, RelocationTarget, SectionKind, SymbolKind,
};

use format::{AttrHeader, CallHeader, FIRST_FD, IMAGE_AT, IMAGE_SIZE, ProgramHeader};

type Error = Box<dyn std::error::Error>;
type Elf<'a> = ElfFile64<'a>;

/// Larger seeds slow the fuzzer down more than they help.
const SEED_MAX: usize = IMAGE_SIZE / 2;
/// Bytes of an instruction.
const INSN: usize = size_of::<Insn>();
/// `R_BPF_64_64`: of an `ldimm64`.
const R_BPF_64_64: u32 = 1;
/// `R_BPF_64_32`: of a call.
const R_BPF_64_32: u32 = 10;

/// Program types by the beginning of the section's name, and the attach type.
const SECTIONS: &[(&str, ProgType, u8)] = &[
    ("socket", ProgType::SocketFilter, 0),
    ("xdp", ProgType::Xdp, 37),
    ("tc", ProgType::SchedCls, 0),
    ("classifier", ProgType::SchedCls, 0),
    ("action", ProgType::SchedAct, 0),
    ("kprobe", ProgType::Kprobe, 0),
    ("uprobe", ProgType::Kprobe, 0),
    ("kretprobe", ProgType::Kprobe, 0),
    ("uretprobe", ProgType::Kprobe, 0),
    ("tracepoint", ProgType::Tracepoint, 0),
    ("tp/", ProgType::Tracepoint, 0),
    ("raw_tp", ProgType::RawTracepoint, 0),
    ("raw_tracepoint", ProgType::RawTracepoint, 0),
    ("perf_event", ProgType::PerfEvent, 41),
    ("cgroup_skb", ProgType::CgroupSkb, 0),
    ("cgroup/connect4", ProgType::CgroupSockAddr, 10),
    ("cgroup/connect6", ProgType::CgroupSockAddr, 11),
    ("cgroup/sock", ProgType::CgroupSock, 2),
    ("cgroup/dev", ProgType::CgroupDevice, 6),
    ("sockops", ProgType::SockOps, 3),
    ("sk_msg", ProgType::SkMsg, 7),
    ("sk_skb", ProgType::SkSkb, 4),
    ("sk_lookup", ProgType::SkLookup, 36),
];

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1).map(PathBuf::from);
    let Some(directory) = arguments.next() else {
        eprintln!("fuzz_seeds DIRECTORY OBJECT...");
        return ExitCode::from(2);
    };
    let mut seeds = Seeds { directory, count: 0 };
    let outcome = calls(&mut seeds).and_then(|()| bcf::all(&mut seeds)).and_then(|()| {
        arguments.try_for_each(|path| {
            of_object(&path, &mut seeds).map_err(|error| format!("{}: {error}", path.display()).into())
        })
    });
    match outcome {
        Ok(()) => {
            println!("{} seeds", seeds.count);
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("fuzz_seeds: {error}");
            ExitCode::FAILURE
        }
    }
}

struct Seeds {
    directory: PathBuf,
    count: usize,
}

impl Seeds {
    fn add(&mut self, target: &str, bytes: &[u8]) -> Result<(), Error> {
        let directory = self.directory.join(target);
        fs::create_dir_all(&directory)?;
        self.count += 1;
        Ok(fs::write(directory.join(format!("seed-{}", self.count)), bytes)?)
    }
}

/// A relocated program of an object.
struct Program {
    insns: Vec<Insn>,
    /// Section and its first instruction, by where they were put.
    parts: Vec<(String, usize, usize)>,
}

fn of_object(path: &Path, seeds: &mut Seeds) -> Result<(), Error> {
    let data = fs::read(path)?;
    let elf = Elf::parse(&*data)?;
    let btf = elf.section_by_name(".BTF").map_or(Ok(&[][..]), |section| section.data())?;
    if !btf.is_empty() && btf.len() <= SEED_MAX {
        for (how, log) in [(0, 0), (0, 2), (1, 0x17), (2, 0)] {
            seeds.add("btf", &[&[how, log], btf].concat())?;
        }
    }
    let ext = elf.section_by_name(".BTF.ext").map_or(Ok(&[][..]), |section| section.data())?;
    for symbol in elf.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let Some(section) = symbol.section_index().and_then(|index| elf.section_by_index(index).ok()) else {
            continue;
        };
        let name = section.name()?;
        let Some(&(_, prog_type, attach_type)) = SECTIONS.iter().find(|(start, ..)| name.starts_with(start))
        else {
            continue;
        };
        let Some(program) = relocate(&elf, &section, symbol.address() as usize, symbol.size() as usize)?
        else {
            continue;
        };
        let func_info = records(btf, ext, 8, 8, &program);
        let line_info = records(btf, ext, 16, 16, &program);
        for (log, with_info) in [(0, true), (1, false), (2, true), (0x2a, false)] {
            let mut header = ProgramHeader {
                prog_type: prog_type as u8,
                attach_type,
                log,
                insns: program.insns.len().try_into()?,
                ..ProgramHeader::default()
            };
            let mut body = bytemuck::cast_slice::<Insn, u8>(&program.insns).to_vec();
            let size = body.len() + func_info.len() + line_info.len() + btf.len();
            if with_info && size <= SEED_MAX && func_info.len() <= 8 * 255 && line_info.len() <= 16 * 255 {
                header.func_infos = (func_info.len() / 8) as u8;
                header.line_infos = (line_info.len() / 16) as u8;
                body.extend([&func_info[..], &line_info, btf].concat());
            }
            if body.len() <= SEED_MAX {
                seeds.add("program", &[bytemuck::bytes_of(&header), &body].concat())?;
            }
        }
    }
    Ok(())
}

/// The program at byte `start` of its section, with `.text` behind where it calls there. `None` where it needs what
/// seeds do not have.
fn relocate<'a>(
    elf: &Elf<'a>,
    section: &object::read::elf::ElfSection64<'a, '_>,
    start: usize,
    size: usize,
) -> Result<Option<Program>, Error> {
    let mut insns = insns_of(&section.data()?[start..start + size]);
    let own = section.name()?.to_owned();
    let mut parts = vec![(own, start / INSN, 0)];
    let text = elf.section_by_name(".text").filter(|text| text.kind() == SectionKind::Text);
    let text_at = insns.len();
    let mut calls_text = false;
    for (offset, relocation) in section.relocations() {
        let Some(at) = (offset as usize).checked_sub(start).filter(|&at| at < size).map(|at| at / INSN)
        else {
            continue;
        };
        calls_text |= relocate_one(elf, &mut insns, at, &relocation, text_at);
    }
    if let (true, Some(text)) = (calls_text, text) {
        insns.extend(insns_of(text.data()?));
        parts.push((".text".into(), 0, text_at));
        for (offset, relocation) in text.relocations() {
            relocate_one(elf, &mut insns, text_at + offset as usize / INSN, &relocation, text_at);
        }
    }
    Ok((insns.len() <= u16::MAX.into()).then_some(Program { insns, parts }))
}

fn insns_of(bytes: &[u8]) -> Vec<Insn> {
    bytes.chunks_exact(INSN).map(bytemuck::pod_read_unaligned).collect()
}

/// Whether it leads to `.text`.
fn relocate_one(
    elf: &Elf<'_>,
    insns: &mut [Insn],
    at: usize,
    relocation: &object::Relocation,
    text_at: usize,
) -> bool {
    let RelocationTarget::Symbol(symbol) = relocation.target() else { return false };
    let Ok(symbol) = elf.symbol_by_index(symbol) else { return false };
    let section = symbol.section_index().and_then(|index| elf.section_by_index(index).ok());
    let is_text = section.as_ref().is_some_and(|section| section.name() == Ok(".text"));
    let RelocationFlags::Elf { r_type } = relocation.flags() else { return false };
    let Some(insn) = insns.get_mut(at) else { return false };
    let target = symbol.address() as i32;
    match r_type {
        R_BPF_64_32 if is_text => {
            insn.imm = text_at as i32 + target / INSN as i32 + insn.imm - at as i32;
            if symbol.kind() != SymbolKind::Section {
                insn.imm = text_at as i32 + target / INSN as i32 - at as i32 - 1;
            }
            true
        }
        R_BPF_64_64 if is_text => {
            let byte = target + insn.imm;
            *insn = Insn { regs: insn.regs & 15 | BPF_PSEUDO_FUNC << 4, ..*insn };
            insn.imm = text_at as i32 + byte / INSN as i32 - at as i32 - 1;
            true
        }
        R_BPF_64_64 => {
            let pseudo = match &section {
                Some(section)
                    if section.name().is_ok_and(|name| name.starts_with(".maps") || name == "maps") =>
                {
                    BPF_PSEUDO_MAP_FD
                }
                _ => BPF_PSEUDO_MAP_VALUE,
            };
            *insn = Insn { regs: insn.regs & 15 | pseudo << 4, imm: (symbol.index().0 % 12) as i32, ..*insn };
            false
        }
        _ => false,
    }
}

/// The records of `.BTF.ext` at `header_at`, `size` bytes each, that are of the program's parts.
fn records(btf: &[u8], ext: &[u8], header_at: usize, size: usize, program: &Program) -> Vec<u8> {
    let mut found = BTreeMap::new();
    let _ = each_record(btf, ext, header_at, size, |section, record| {
        let insn = word(record, 0)? as usize / INSN;
        let part = |&&(ref name, first, at): &&(String, usize, usize)| {
            let end = program
                .parts
                .iter()
                .map(|part| part.2)
                .find(|&next| next > at)
                .unwrap_or(program.insns.len());
            name.as_bytes() == section && (first..first + end - at).contains(&insn)
        };
        if let Some((_, first, at)) = program.parts.iter().find(part) {
            let insn = insn - first + at;
            found.insert(insn, [&(insn as u32).to_ne_bytes(), &record[4..size]].concat());
        }
        Some(())
    });
    found.into_values().flatten().collect()
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn each_record(
    btf: &[u8],
    ext: &[u8],
    header_at: usize,
    size: usize,
    mut work: impl FnMut(&[u8], &[u8]) -> Option<()>,
) -> Option<()> {
    let hdr_len = word(ext, 4)? as usize;
    let start = hdr_len + word(ext, header_at)? as usize;
    let data = ext.get(start..start + word(ext, header_at + 4)? as usize)?;
    let rec_size = word(data, 0)? as usize;
    if rec_size < size {
        return None;
    }
    let strings = btf.get(word(btf, 4)? as usize + word(btf, 16)? as usize..)?;
    let mut at = 4;
    while at < data.len() {
        let name = strings.get(word(data, at)? as usize..)?.split(|&byte| byte == 0).next()?;
        let count = word(data, at + 4)? as usize;
        at += 8;
        for record in data.get(at..at + count * rec_size)?.chunks_exact(rec_size) {
            work(name, record)?;
        }
        at += count * rec_size;
    }
    Some(())
}

/// Calls of an input of the `attr` target under way. What they point to lies at the end of the input.
#[derive(Default)]
struct Calls {
    calls: Vec<u8>,
    data: Vec<u8>,
}

/// Where the data is put: behind the calls.
const DATA_AT: usize = 2048;

impl Calls {
    /// Address of a copy of `bytes`.
    fn data(&mut self, bytes: &[u8]) -> u64 {
        let at = self.data.len();
        self.data.extend_from_slice(bytes);
        self.data.resize(self.data.len().next_multiple_of(8), 0);
        IMAGE_AT + (DATA_AT + at) as u64
    }

    fn call<T: Pod>(&mut self, cmd: Cmd, attr: &T) {
        let bytes = bytemuck::bytes_of(attr);
        let size = bytes.len().min(ATTR_SIZE_BCF);
        let header = CallHeader { cmd: cmd as u8, size: size as u8 };
        self.calls.extend_from_slice(bytemuck::bytes_of(&header));
        self.calls.extend_from_slice(&bytes[..size]);
    }

    fn write(self, seeds: &mut Seeds) -> Result<(), Error> {
        self.write_for(AttrHeader::default(), seeds)
    }

    /// [`Self::write`], for a kernel or a caller of another kind.
    fn write_for(mut self, header: AttrHeader, seeds: &mut Seeds) -> Result<(), Error> {
        let mut bytes = [bytemuck::bytes_of(&header), &std::mem::take(&mut self.calls)].concat();
        if bytes.len() > DATA_AT {
            return Err("too many calls in a seed".into());
        }
        bytes.resize(DATA_AT, 0xff);
        bytes.extend_from_slice(&self.data);
        seeds.add("attr", &bytes)
    }
}

/// Calls that make sense together.
fn calls(seeds: &mut Seeds) -> Result<(), Error> {
    let blob = blob::FuzzBtf::build();
    seeds.add("btf", &[&[0, 2], &blob.bytes[..]].concat())?;
    for &map_type in MapType::ALL {
        for (key_size, value_size, max_entries, map_flags) in
            [(4, 8, 4, 0), (4, 4, 4, 0), (4, 8, 0, 1), (0, 8, 4, 0), (0, 0, 4096, 0), (8, 8, 4, 1)]
        {
            elements(
                seeds,
                MapCreate {
                    map_type: map_type as u32,
                    key_size,
                    value_size,
                    max_entries,
                    map_flags,
                    ..MapCreate::zeroed()
                },
            )?;
        }
    }
    let fd = FIRST_FD as u32;
    let mut c = Calls::default();
    let btf = c.data(&blob.bytes);
    let btf_size = blob.bytes.len() as u32;
    c.call(Cmd::BtfLoad, &BtfLoad { btf, btf_size, ..BtfLoad::zeroed() });
    let info = c.data(&[0; 256]);
    c.call(Cmd::ObjGetInfoByFd, &GetInfo { bpf_fd: fd, info_len: 32, info });
    c.call(Cmd::BtfGetNextId, &GetId::zeroed());
    c.call(Cmd::BtfGetFdById, &GetId { id: 1, ..GetId::zeroed() });
    for (value_size, id) in
        [(blob::LOCK_VALUE_SIZE, blob.lock_value), (blob::TIMER_VALUE_SIZE, blob.timer_value)]
    {
        c.call(
            Cmd::MapCreate,
            &MapCreate {
                map_type: MapType::Hash as u32,
                key_size: 4,
                value_size,
                max_entries: 2,
                btf_fd: fd,
                btf_key_type_id: blob.int,
                btf_value_type_id: id,
                ..MapCreate::zeroed()
            },
        );
    }
    c.write(seeds)?;
    suspended_load(seeds)?;
    programs(seeds)
}

/// A load that waits for a proof, and gets one that is none.
fn suspended_load(seeds: &mut Seeds) -> Result<(), Error> {
    let mut c = Calls::default();
    // A byte of the stack at a place that only its half is compared with.
    let insns = [
        Insn::new(BPF_JMP | BPF_CALL, 0, 0, 0, HelperId::GetPrandomU32 as i32),
        Insn::new(BPF_ALU | BPF_AND | BPF_K, 0, 0, 0, 255),
        Insn::new(BPF_ALU | BPF_MOV | BPF_X, 1, 0, 0, 0),
        Insn::new(BPF_ALU64 | BPF_MOV | BPF_X, 2, 10, 0, 0),
        Insn::new(BPF_ALU64 | BPF_ADD | BPF_K, 2, 0, 0, -16),
        Insn::new(BPF_ALU64 | BPF_ADD | BPF_X, 2, 0, 0, 0),
        Insn::new(BPF_ALU64 | BPF_RSH | BPF_K, 1, 0, 0, 1),
        Insn::new(BPF_JMP | BPF_JGT | BPF_K, 1, 0, 1, 4),
        Insn::new(BPF_LDX | BPF_MEM | BPF_B, 0, 2, 0, 0),
        Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
    ];
    let load = ProgLoad {
        prog_type: ProgType::Tracepoint as u32,
        insn_cnt: insns.len() as u32,
        insns: c.data(bytemuck::cast_slice(&insns)),
        license: c.data(b"GPL\0"),
        log_level: 2,
        log_size: 1024,
        log_buf: c.data(&[0; 1024]),
        bcf_buf: c.data(&[0; 1024]),
        bcf_buf_size: 1024,
        ..ProgLoad::zeroed()
    };
    c.call(Cmd::ProgLoad, &load);
    let info = c.data(&[0; 256]);
    c.call(Cmd::ObjGetInfoByFd, &GetInfo { bpf_fd: FIRST_FD as u32, info_len: 32, info });
    for flags in [BCF_F_PROOF_PROVIDED, BCF_F_PROOF_PROVIDED | BCF_F_PROOF_PATH_UNREACHABLE] {
        let proof = ProgLoad {
            bcf_fd: FIRST_FD as u32,
            bcf_flags: flags,
            bcf_buf_true_size: 1024,
            bcf_buf: c.data(bytemuck::cast_slice(bcf::CONTRADICTION)),
            ..load
        };
        c.call(Cmd::ProgLoad, &proof);
    }
    c.write_for(AttrHeader { caps: format::caps::BCF, ..AttrHeader::default() }, seeds)
}

/// Everything that can be done with the elements of one map.
fn elements(seeds: &mut Seeds, map: MapCreate) -> Result<(), Error> {
    let fd = FIRST_FD as u32;
    let mut c = Calls::default();
    let key = c.data(&[1, 0, 0, 0, 0, 0, 0, 0]);
    let value = c.data(&[7; 64]);
    let path = c.data(b"/sys/fs/bpf/a\0");
    let count = c.data(&[0; 64]);
    c.call(Cmd::MapCreate, &map);
    c.call(Cmd::MapCreate, &MapCreate { inner_map_fd: fd, ..map });
    let elem = MapElem { map_fd: fd, key, value, ..MapElem::zeroed() };
    for cmd in [Cmd::MapUpdateElem, Cmd::MapLookupElem, Cmd::MapGetNextKey, Cmd::MapDeleteElem] {
        c.call(cmd, &elem);
    }
    c.call(Cmd::MapUpdateElem, &MapElem { key: 0, ..elem });
    let batch =
        MapBatch { keys: key, values: value, count: 2, map_fd: fd, out_batch: count, ..MapBatch::zeroed() };
    for cmd in [Cmd::MapUpdateBatch, Cmd::MapLookupBatch, Cmd::MapDeleteBatch, Cmd::MapLookupAndDeleteBatch] {
        c.call(cmd, &batch);
    }
    c.call(Cmd::MapLookupAndDeleteElem, &MapElem { key: 0, ..elem });
    let pin = Obj { pathname: path, bpf_fd: fd, ..Obj::zeroed() };
    c.call(Cmd::ObjPin, &pin);
    c.call(Cmd::ObjGet, &Obj { bpf_fd: 0, ..pin });
    c.call(Cmd::MapGetNextId, &GetId::zeroed());
    c.call(Cmd::MapGetFdById, &GetId { id: 1, ..GetId::zeroed() });
    c.call(Cmd::ObjGetInfoByFd, &GetInfo { bpf_fd: fd, info_len: 88, info: count });
    c.call(Cmd::MapFreeze, &MapElem { map_fd: fd, ..MapElem::zeroed() });
    c.write(seeds)
}

/// Loading programs, and putting them into a map of programs.
fn programs(seeds: &mut Seeds) -> Result<(), Error> {
    let fd = FIRST_FD as u32;
    for &prog_type in ProgType::ALL {
        let mut c = Calls::default();
        let insns = [
            Insn::new(BPF_LD | BPF_IMM | BPF_DW, 1, BPF_PSEUDO_MAP_FD, 0, FIRST_FD),
            Insn::zeroed(),
            Insn::new(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 0),
            Insn::new(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
        ];
        let insns_at = c.data(bytemuck::cast_slice(&insns));
        let license = c.data(b"GPL\0");
        let log_buf = c.data(&[0; 1024]);
        let key = c.data(&[0; 8]);
        let value = c.data(&(fd + 1).to_ne_bytes());
        let info = c.data(&[0; 256]);
        let map = MapCreate {
            map_type: MapType::ProgArray as u32,
            key_size: 4,
            value_size: 4,
            max_entries: 2,
            ..MapCreate::zeroed()
        };
        c.call(Cmd::MapCreate, &map);
        c.call(
            Cmd::ProgLoad,
            &ProgLoad {
                prog_type: prog_type as u32,
                insn_cnt: insns.len() as u32,
                insns: insns_at,
                license,
                log_level: 2,
                log_size: 1024,
                log_buf,
                ..ProgLoad::zeroed()
            },
        );
        c.call(Cmd::MapUpdateElem, &MapElem { map_fd: fd, key, value, ..MapElem::zeroed() });
        c.call(Cmd::ObjGetInfoByFd, &GetInfo { bpf_fd: fd + 1, info_len: 232, info });
        c.call(Cmd::ProgGetNextId, &GetId::zeroed());
        c.call(Cmd::ProgGetFdById, &GetId { id: 1, ..GetId::zeroed() });
        c.call(Cmd::ProgBindMap, &[fd + 1, fd, 0]);
        c.write(seeds)?;
    }
    Ok(())
}
