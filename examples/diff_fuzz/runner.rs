//! Verifies a case here and in the live kernel, and compares the answers.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bpftwin::bcf;
use bpftwin::bcf::client::{Calls, Client, Conversation};
use bpftwin::btf::Btf;
use bpftwin::exec::Stop;
use bpftwin::kernel::config::KernelConfig;
use bpftwin::kernel::own_memory::OwnMemory;
use bpftwin::kernel::user_memory::UserMemory;
use bpftwin::verifier::prog::{Objects, TargetProg, VerifierMap};
use bpftwin_uapi::attr::*;
use bpftwin_uapi::info::{FuncInfo, LineInfo};
use bpftwin_uapi::insn::*;
use bpftwin_uapi::{Cmd, Errno, Insn};
use bytemuck::Zeroable;

use crate::case::Case;
use crate::kernel::{Fd, LiveMap, MAPS, World, bpf, bpf_sized};

thread_local! {
    /// Where the last panic of this thread happened.
    pub static PANIC_PLACE: RefCell<String> = const { RefCell::new(String::new()) };
    /// A panic of this thread would be one of the verifier.
    pub static VERIFYING: Cell<bool> = const { Cell::new(false) };
}

/// Answer to a load.
#[derive(Clone, PartialEq, Debug)]
pub struct Answer {
    /// Zero: accepted.
    pub errno: i32,
    pub log: String,
    pub log_true_size: Option<u32>,
    /// What was asked for, where a client of BCF answers.
    pub conversation: Option<Conversation>,
    /// How it went when the accepted program was run.
    pub ran: Option<Stop>,
}

impl Answer {
    /// One without a log.
    pub fn refused(errno: i32) -> Answer {
        Answer { errno, log: String::new(), log_true_size: None, conversation: None, ran: None }
    }
}

/// Our side of a comparison.
pub enum Ours {
    Answer(Answer),
    NotEmulated(String),
    Panicked(String),
}

/// How two answers differ.
#[derive(Clone, Debug)]
pub struct Divergence {
    /// Equal for divergences of one cause, mostly.
    pub bucket: String,
    pub ours_errno: i32,
    pub kernel_errno: i32,
    pub context: Vec<String>,
    pub ours: String,
    pub kernel: String,
}

impl Divergence {
    fn panic(message: String, kernel_errno: i32) -> Divergence {
        Divergence { kernel_errno, ours_errno: -1, ..Divergence::alone("panic", message) }
    }

    /// One that no kernel has a part in.
    fn alone(kind: &str, ours: String) -> Divergence {
        Divergence {
            bucket: format!("{kind}: {}", without_numbers(&ours)),
            ours_errno: 0,
            kernel_errno: 0,
            context: Vec::new(),
            ours,
            kernel: String::new(),
        }
    }
}

/// Result of a comparison.
pub enum Verdict {
    Equal,
    NotEmulated(String),
    /// The kernel takes too long.
    Slow,
    Diverges(Box<Divergence>),
}

/// The load of one case: attributes, and all that they point to.
struct Load {
    attr: ProgLoad,
    log: Vec<u8>,
    _insns: Vec<Insn>,
    _funcs: Vec<FuncInfo>,
    _lines: Vec<LineInfo>,
    _fd_array: Vec<i32>,
    /// Maps made for this load alone.
    own_maps: HashMap<usize, LiveMap>,
}

/// Objects as a load sees them.
struct CaseObjects {
    maps: HashMap<i32, Arc<VerifierMap>>,
    btf_fd: i32,
    btf: Arc<Btf>,
}

impl Objects for CaseObjects {
    fn map_by_fd(&self, fd: i32) -> Result<Arc<VerifierMap>, Errno> {
        if let Some(map) = self.maps.get(&fd) {
            return Ok(Arc::clone(map));
        }
        // SAFETY: fcntl checks the descriptor.
        let open = unsafe { libc::fcntl(fd, libc::F_GETFD) } >= 0;
        Err(if open { Errno::EINVAL } else { Errno::EBADF })
    }

    fn btf_by_fd(&self, fd: i32) -> Result<Arc<Btf>, Errno> {
        if fd == self.btf_fd {
            return Ok(Arc::clone(&self.btf));
        }
        Err(self.map_by_fd(fd).err().unwrap_or(Errno::EINVAL))
    }

    fn prog_by_fd(&self, fd: i32) -> Result<TargetProg, Errno> {
        Err(self.map_by_fd(fd).err().unwrap_or(Errno::EINVAL))
    }

    fn read_user(&self, address: u64, buf: &mut [u8]) -> Result<(), Errno> {
        OwnMemory.read(address, buf)
    }
}

/// Verifies cases. One a thread.
pub struct Runner {
    pub world: Arc<World>,
    /// The kernel is asked not to go on with what it verifies.
    pub give_up: Arc<AtomicBool>,
    config: Arc<KernelConfig>,
    log: Vec<u8>,
    /// Loads programs with proofs.
    client: Option<Arc<Client>>,
    /// Inputs that programs accepted here are run on.
    runs: u32,
}

impl Runner {
    pub fn new(world: Arc<World>, client: Option<Arc<Client>>, runs: u32) -> Self {
        let config = Arc::new(KernelConfig::of_host().unwrap_or_default());
        Runner { world, give_up: Arc::default(), config, log: Vec::new(), client, runs }
    }

    /// Both answers, compared.
    pub fn compare(&mut self, case: &Case) -> (Answer, Verdict) {
        let mut load = self.load(case);
        let kernel = self.kernel_answer(&mut load);
        if self.give_up.swap(false, Ordering::Relaxed) {
            self.log = load.log;
            return (kernel, Verdict::Slow);
        }
        let ours = self.our_answer(&mut load);
        self.log = load.log;
        let verdict = match ours {
            Ours::NotEmulated(what) => Verdict::NotEmulated(what),
            Ours::Panicked(message) => Verdict::Diverges(Box::new(Divergence::panic(message, kernel.errno))),
            Ours::Answer(ours) => match difference(&ours, &kernel) {
                None => Verdict::Equal,
                Some(divergence) => Verdict::Diverges(Box::new(divergence)),
            },
        };
        (kernel, verdict)
    }

    /// The live kernel's answer alone.
    pub fn kernel_only(&mut self, case: &Case) -> Answer {
        let mut load = self.load(case);
        let answer = self.kernel_answer(&mut load);
        self.give_up.store(false, Ordering::Relaxed);
        self.log = load.log;
        answer
    }

    /// Our answer alone, and how it went when the program was run, if it was accepted.
    pub fn run(&mut self, case: &Case) -> (Answer, Verdict) {
        match self.ours_only(case) {
            Ours::NotEmulated(what) => (Answer::refused(0), Verdict::NotEmulated(what)),
            Ours::Panicked(message) => {
                (Answer::refused(0), Verdict::Diverges(Box::new(Divergence::panic(message, 0))))
            }
            Ours::Answer(answer) => {
                let verdict = match &answer.ran {
                    Some(bad @ Stop::BadAccess(_)) => {
                        Verdict::Diverges(Box::new(Divergence::alone("accepted, but", bad.to_string())))
                    }
                    _ => Verdict::Equal,
                };
                (answer, verdict)
            }
        }
    }

    /// Our answer alone.
    pub fn ours_only(&mut self, case: &Case) -> Ours {
        let mut load = self.load(case);
        let answer = self.our_answer(&mut load);
        self.log = load.log;
        answer
    }

    fn load(&mut self, case: &Case) -> Load {
        let mut own_maps = HashMap::new();
        let mut insns = case.insns.clone();
        let mut second_half = false;
        for insn in &mut insns {
            if second_half {
                second_half = false;
                continue;
            }
            second_half = insn.is_ldimm64();
            if !second_half || !matches!(insn.src_reg(), BPF_PSEUDO_MAP_FD | BPF_PSEUDO_MAP_VALUE) {
                continue;
            }
            let index = insn.imm as usize;
            if MAPS.get(index).is_none_or(|spec| !spec.is_bound_by_use()) {
                let map = self.world.maps.get(index).and_then(Option::as_ref);
                insn.imm = map.map_or(insn.imm, |map| map.fd.0);
                continue;
            }
            if !own_maps.contains_key(&index)
                && let Ok(map) = self.world.create_map(index)
            {
                own_maps.insert(index, map);
            }
            insn.imm = own_maps.get(&index).map_or(insn.imm, |map| map.fd.0);
        }
        let fd_array = if case.fd_array != 0 { name_by_index(&mut insns) } else { Vec::new() };
        let fuzz = &self.world.fuzz;
        let funcs: Vec<FuncInfo> = case
            .funcs
            .iter()
            .map(|&(at, func)| FuncInfo {
                insn_off: at,
                type_id: fuzz.funcs.get(func as usize).map_or(0, |func| func.type_id),
            })
            .collect();
        let lines: Vec<LineInfo> = case
            .lines
            .iter()
            .map(|&(at, line)| LineInfo {
                insn_off: at,
                file_name_off: fuzz.file,
                line_off: fuzz.lines[line as usize % fuzz.lines.len()],
                line_col: line << 10,
            })
            .collect();
        let mut log = std::mem::take(&mut self.log);
        if log.len() < case.log_size as usize {
            log.resize(case.log_size as usize, 0);
        }
        let mut attr = ProgLoad {
            prog_type: case.prog_type as u32,
            expected_attach_type: case.attach_type,
            prog_flags: case.prog_flags,
            insns: insns.as_ptr() as u64,
            insn_cnt: insns.len() as u32,
            license: if case.gpl { c"GPL".as_ptr() as u64 } else { c"none".as_ptr() as u64 },
            log_level: case.log_level,
            ..ProgLoad::zeroed()
        };
        if case.fd_array != 0 {
            attr.fd_array = fd_array.as_ptr() as u64;
            attr.fd_array_cnt = if case.fd_array == 2 { fd_array.len() as u32 } else { 0 };
        }
        if case.log_level != 0 {
            (attr.log_buf, attr.log_size) = (log.as_mut_ptr() as u64, case.log_size);
        }
        if !funcs.is_empty() || !lines.is_empty() {
            attr.prog_btf_fd = self.world.btf_fd.0 as u32;
            attr.func_info = funcs.as_ptr() as u64;
            attr.func_info_cnt = funcs.len() as u32;
            attr.func_info_rec_size = size_of::<FuncInfo>() as u32;
            if !lines.is_empty() {
                attr.line_info = lines.as_ptr() as u64;
                attr.line_info_cnt = lines.len() as u32;
                attr.line_info_rec_size = size_of::<LineInfo>() as u32;
            }
        }
        Load { attr, log, _insns: insns, _funcs: funcs, _lines: lines, _fd_array: fd_array, own_maps }
    }

    fn kernel_answer(&self, load: &mut Load) -> Answer {
        let (mut attr, mut result, mut conversation) = self.kernel_load(load.attr);
        for _ in 0..20 {
            // The kernel gives up a verification when a signal is pending.
            let interrupted = matches!(result, Err(libc::EAGAIN | libc::EINTR));
            if !interrupted || self.give_up.load(Ordering::Relaxed) {
                break;
            }
            (attr, result, conversation) = self.kernel_load(load.attr);
        }
        let errno = match result {
            Ok(fd) => {
                drop(Fd(fd as i32));
                0
            }
            Err(errno) => errno,
        };
        let mut log = String::new();
        if attr.log_level != 0 {
            log = text_of(&load.log[..attr.log_size as usize]);
            load.log[0] = 0;
        }
        let log_true_size = (attr.log_true_size != 0).then_some(attr.log_true_size);
        Answer { errno, log, log_true_size, conversation, ran: None }
    }

    /// Loads into the live kernel: the attributes as they are left, the result, and what was asked for.
    fn kernel_load(&self, attr: ProgLoad) -> (ProgLoad, Result<i64, i32>, Option<Conversation>) {
        let Some(client) = &self.client else {
            let mut attr = attr;
            let result = bpf(Cmd::ProgLoad, &mut attr);
            return (attr, result, None);
        };
        let call = |attr: &mut ProgLoad| bpf_sized(Cmd::ProgLoad, attr, ATTR_SIZE_BCF).map_err(Errno);
        let mut calls = Calls::new(attr, call);
        let conversation = client.run(&mut calls);
        (*calls.attr(), conversation.result.map_err(|errno| errno.0), Some(conversation))
    }

    fn our_answer(&mut self, load: &mut Load) -> Ours {
        let mut maps: HashMap<i32, Arc<VerifierMap>> = HashMap::new();
        for map in load.own_maps.values().chain(self.world.maps.iter().flatten()) {
            maps.insert(map.fd.0, Arc::clone(&map.view));
        }
        let objects: Arc<dyn Objects> =
            Arc::new(CaseObjects { maps, btf_fd: self.world.btf_fd.0, btf: Arc::clone(&self.world.btf) });
        let (attr, world, config) = (load.attr, &self.world, &self.config);
        let (client, runs) = (self.client.as_deref(), self.runs);
        VERIFYING.set(true);
        let answer = catch_unwind(AssertUnwindSafe(|| {
            crate::ours::verify(attr, objects, world, config, client, runs)
        }));
        VERIFYING.set(false);
        answer.unwrap_or_else(|panic| {
            let message = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()))
                .unwrap_or_default();
            let place = PANIC_PLACE.with(|place| place.borrow().clone());
            Ours::Panicked(format!("{place}: {message}"))
        })
    }
}

/// Lets instructions name maps by their place in an array of descriptors, and returns that.
fn name_by_index(insns: &mut [Insn]) -> Vec<i32> {
    let mut fds = Vec::new();
    let mut second_half = false;
    for insn in insns {
        let skip = second_half;
        second_half = !skip && insn.is_ldimm64();
        let pseudo = match insn.src_reg() {
            BPF_PSEUDO_MAP_FD => BPF_PSEUDO_MAP_IDX,
            BPF_PSEUDO_MAP_VALUE => BPF_PSEUDO_MAP_IDX_VALUE,
            _ => continue,
        };
        if second_half {
            fds.push(insn.imm);
            *insn = Insn::new(insn.code, insn.dst_reg(), pseudo, insn.off, fds.len() as i32 - 1);
        }
    }
    fds
}

/// The text in a log buffer.
pub fn text_of(log: &[u8]) -> String {
    let end = log.iter().position(|&byte| byte == 0).unwrap_or(log.len());
    String::from_utf8_lossy(&log[..end]).into_owned()
}

/// The first difference, if there is one that counts.
fn difference(ours: &Answer, kernel: &Answer) -> Option<Divergence> {
    let of_logs = difference_of_logs(ours, kernel);
    let conversations = ours.conversation.as_ref().zip(kernel.conversation.as_ref());
    match conversations.and_then(|(ours, kernel)| bcf::difference::first_difference(ours, kernel)) {
        Some(of_requests) => Some(difference_of_requests(ours, kernel, of_requests, of_logs)),
        None => of_logs,
    }
}

fn difference_of_requests(
    ours: &Answer,
    kernel: &Answer,
    found: bcf::difference::Difference,
    of_logs: Option<Divergence>,
) -> Divergence {
    let first = |text: &str| without_numbers(text.lines().next().unwrap_or_default());
    let mut context = Vec::new();
    let mut bucket = format!("requests: {} <> {}", first(&found.ours), first(&found.kernel));
    if let Some(logs) = of_logs {
        bucket.push_str(&format!(", log: {}", logs.bucket));
        context.extend(logs.context);
        context.extend(logs.ours.lines().map(|line| format!("- {line}")));
        context.extend(logs.kernel.lines().map(|line| format!("+ {line}")));
    }
    context.push(format!("request {}: {}", found.request, found.what));
    Divergence {
        bucket,
        ours_errno: ours.errno,
        kernel_errno: kernel.errno,
        context,
        ours: found.ours,
        kernel: found.kernel,
    }
}

fn difference_of_logs(ours: &Answer, kernel: &Answer) -> Option<Divergence> {
    // Measured times shift what is left of a log that is too long.
    let enospc = ours.errno == libc::ENOSPC && kernel.errno == libc::ENOSPC;
    if enospc && kernel.log.contains("verification time ") {
        return None;
    }
    let mut context: Vec<String> = Vec::new();
    let mut lines = None;
    let (mut left, mut right) = (ours.log.lines(), kernel.log.lines());
    if enospc {
        // What is left of the first line may begin within an address.
        left.next();
        right.next();
    }
    loop {
        let pair = (left.next(), right.next());
        let (our, their) = match pair {
            (None, None) => break,
            (our, their) => (our.unwrap_or("<end>"), their.unwrap_or("<end>")),
        };
        if our == their || comparable(our) == comparable(their) {
            if context.len() == 3 {
                context.remove(0);
            }
            context.push(their.to_string());
            continue;
        }
        lines = Some((after(our, left), after(their, right)));
        break;
    }
    let same_errno = ours.errno == kernel.errno;
    if same_errno && lines.is_none() {
        // Measured times change the length by a few digits.
        let size = |answer: &Answer| i64::from(answer.log_true_size.unwrap_or(0));
        let times = 1 + ours.conversation.as_ref().map_or(0, |conversation| conversation.rounds.len());
        if (size(ours) - size(kernel)).abs() <= 8 * times as i64 {
            return None;
        }
        lines = Some((format!("log_true_size {}", size(ours)), format!("log_true_size {}", size(kernel))));
    }
    let (ours_text, kernel_text) = lines.unwrap_or_default();
    let first = |text: &'_ str| text.lines().next().unwrap_or("").to_string();
    let (our_part, kernel_part) = differing_parts(&first(&ours_text), &first(&kernel_text));
    let errnos =
        if same_errno { String::new() } else { format!("errno {} / {}: ", ours.errno, kernel.errno) };
    Some(Divergence {
        bucket: format!("{errnos}{our_part} <> {kernel_part}"),
        ours_errno: ours.errno,
        kernel_errno: kernel.errno,
        context,
        ours: ours_text,
        kernel: kernel_text,
    })
}

/// What tells two lines apart: of states the first part that differs, of other lines all; numbers replaced.
fn differing_parts(ours: &str, kernel: &str) -> (String, String) {
    let state = |line: &str| line.contains("R10=") || line.contains("; ") || line.starts_with("mark_precise");
    if !state(ours) || !state(kernel) {
        return (without_numbers(ours), without_numbers(kernel));
    }
    let (mut left, mut right) = (ours.split(' '), kernel.split(' '));
    loop {
        match (left.next(), right.next()) {
            (None, None) => return Default::default(),
            (our, their) if our == their => {}
            (our, their) => {
                let kind = without_numbers(ours.get(..12).unwrap_or(ours));
                let our = without_numbers(our.unwrap_or("<end>"));
                return (format!("{kind}.. {our}"), without_numbers(their.unwrap_or("<end>")));
            }
        }
    }
}

/// A line, and two that follow it.
fn after<'a>(first: &'a str, rest: std::str::Lines<'a>) -> String {
    std::iter::once(first).chain(rest.take(2)).collect::<Vec<_>>().join("\n")
}

/// A line without what differs from run to run: measured times, addresses of kernel objects.
pub fn comparable(line: &str) -> String {
    if let Some(at) = line.find("verification time ") {
        return line[..at].into();
    }
    if let Some(((before, _), (_, after))) = line.split_once(" nth in ").zip(line.split_once(" ns, size ")) {
        return format!("{before} nth, size {after}");
    }
    match line.find("(18) r").and_then(|at| Some(at + line[at..].find("= 0x")?)) {
        Some(at) if line.len() > at + 12 => {
            let digits = line[at + 4..].bytes().take_while(u8::is_ascii_hexdigit).count();
            format!("{}ADDRESS{}", &line[..at], &line[at + 4 + digits..])
        }
        _ => line.to_string(),
    }
}

/// The line with numbers replaced, and cut where what follows only repeats the difference.
fn without_numbers(line: &str) -> String {
    let mut text = String::new();
    let mut chars = line.chars().peekable();
    let mut previous = ' ';
    while let Some(c) = chars.next() {
        let register = matches!(previous, 'R' | 'r' | 'w') && c.is_ascii_digit();
        if c.is_ascii_digit() && (!previous.is_ascii_alphabetic() || register) {
            while chars.peek().is_some_and(|c| c.is_ascii_hexdigit() || *c == 'x') {
                chars.next();
            }
            text.push('N');
        } else {
            text.push(c);
        }
        previous = c;
        if text.len() > 160 {
            break;
        }
    }
    text
}
