//! Loads one program of an object in one kernel, and takes its answer apart.

use std::path::Path;
use std::sync::Arc;

use bpftwin_uapi::{Errno, ProgType};

use super::backend::{Awaited, Backend, with_backend};
use super::object::{Object, OpenError, take_warnings};
use crate::bcf::client::{Client, Conversation};
use crate::syscall::prog_load::auto::Report;

/// Bytes of log buffer to start with. Pages that nobody writes cost nothing.
const LOG_SIZE: usize = 64 << 20;
/// The kernel takes no larger log buffer: `UINT_MAX >> 2`.
const MAX_LOG_SIZE: usize = (u32::MAX >> 2) as usize;

/// What to load.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub path: &'a Path,
    /// Number of the program in its object.
    pub index: usize,
    pub btf: Option<&'a Path>,
    pub default_type: Option<ProgType>,
    pub log_level: u32,
    /// Load a rejected program again for the text of the log.
    pub want_text: bool,
    /// Loads the program as a client of BCF does.
    pub client: Option<&'a Arc<Client>>,
}

/// How a kernel decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    Rejected(Errno),
    /// What is missing.
    NotEmulated(String),
    /// The kernel was not asked for the program; why.
    Error(String),
}

impl Verdict {
    pub fn name(&self) -> &'static str {
        match self {
            Verdict::Accepted => "accepted",
            Verdict::Rejected(_) => "rejected",
            Verdict::NotEmulated(_) => "not_emulated",
            Verdict::Error(_) => "error",
        }
    }

    /// The error number, 0 for none.
    pub fn errno(&self) -> i32 {
        match self {
            Verdict::Accepted => 0,
            Verdict::Rejected(error) => error.0,
            Verdict::NotEmulated(_) => Errno::EOPNOTSUPP.0,
            Verdict::Error(_) => libc::EINVAL,
        }
    }
}

/// The statistics at the end of a log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    pub duration_us: u64,
    pub insns: u64,
    pub max_states_per_insn: u64,
    pub total_states: u64,
    pub peak_states: u64,
}

impl Stats {
    /// Finds the statistics, which level 4 (and 1, and 2) puts at the end.
    pub fn parse(log: &str) -> Option<Stats> {
        let mut stats = Stats::default();
        let mut found = false;
        for line in log.lines().rev().take(8) {
            if let Some(rest) = line.strip_prefix("verification time ") {
                stats.duration_us = first_number(rest);
            } else if let Some(rest) = line.strip_prefix("processed ") {
                stats.insns = first_number(rest);
                let after = |name: &str| rest.split_once(name).map_or(0, |(_, rest)| first_number(rest));
                stats.max_states_per_insn = after(" max_states_per_insn ");
                stats.total_states = after(" total_states ");
                stats.peak_states = after(" peak_states ");
                found = true;
            }
        }
        found.then_some(stats)
    }
}

fn first_number(text: &str) -> u64 {
    text.split(|c: char| !c.is_ascii_digit()).next().and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

/// A kernel's answer.
pub struct Answer {
    pub verdict: Verdict,
    /// A number of `enum bpf_prog_type`.
    pub prog_type: u32,
    pub stats: Option<Stats>,
    pub log: String,
    pub log_true_size: u32,
    /// What BCF did, where it could do anything.
    pub bcf: Option<Report>,
    /// What the kernel asked for, where a client answered.
    pub conversation: Option<Conversation>,
    /// Last message of the log, where the program was rejected.
    pub last_line: Option<String>,
    /// The source line that it is about, where the program has line information.
    pub source_line: Option<String>,
}

/// Loads a program.
pub fn load(request: Request<'_>, backend: &Backend) -> Result<Answer, OpenError> {
    let mut log_size = LOG_SIZE;
    loop {
        let mut buffer = vec![0u8; log_size];
        let mut object = Object::open(request.path, request.btf)?;
        let prog_type = object.select(request.index, request.default_type);
        object.set_log(request.index, request.log_level, &mut buffer);
        let address = buffer.as_ptr() as u64;
        let awaited =
            Awaited { log_buf: address, want_text: request.want_text, client: request.client.cloned() };
        let (loaded, record) = with_backend(backend.clone(), awaited, || {
            let loaded = object.load();
            // Closing the object closes descriptors of the same kernel.
            drop(object);
            loaded
        });
        let warnings = take_warnings();
        let Some(record) = record else {
            let reason = warnings.into_iter().next();
            let errno = loaded.err().unwrap_or(libc::EINVAL);
            let reason = reason.unwrap_or_else(|| std::io::Error::from_raw_os_error(errno).to_string());
            let verdict = match backend.take_not_emulated() {
                Some(what) => Verdict::NotEmulated(what),
                None => Verdict::Error(reason),
            };
            return Ok(Answer {
                verdict,
                prog_type,
                stats: None,
                log: String::new(),
                log_true_size: 0,
                bcf: None,
                conversation: None,
                last_line: None,
                source_line: None,
            });
        };
        let true_size = record.log_true_size as usize;
        if record.result == Err(Errno::ENOSPC) && true_size > log_size && true_size <= MAX_LOG_SIZE {
            log_size = true_size;
            continue;
        }
        let verdict = match record.result {
            Ok(()) => Verdict::Accepted,
            Err(error) => match backend.take_not_emulated() {
                Some(what) if error == Errno::EOPNOTSUPP => Verdict::NotEmulated(what),
                _ => Verdict::Rejected(error),
            },
        };
        let log = text_of(&buffer);
        let (mut last_line, mut source_line) = (None, None);
        if let Verdict::Rejected(_) = verdict {
            let text = record.text_log.as_deref().map_or_else(|| log.clone(), text_of);
            (last_line, source_line) = blame(&text);
        }
        let stats = Stats::parse(&log);
        return Ok(Answer {
            verdict,
            prog_type,
            stats,
            log,
            log_true_size: record.log_true_size,
            bcf: record.bcf,
            conversation: record.conversation,
            last_line,
            source_line,
        });
    }
}

fn text_of(buffer: &[u8]) -> String {
    let end = buffer.iter().position(|byte| *byte == 0).unwrap_or(buffer.len());
    String::from_utf8_lossy(&buffer[..end]).into_owned()
}

/// The last message of a log, and the source line before it.
fn blame(log: &str) -> (Option<String>, Option<String>) {
    let mut lines = log.lines().rev().skip_while(|line| is_statistics(line) || line.is_empty());
    let last = lines.next().map(str::to_string);
    let source =
        log.lines().rev().find_map(|line| line.strip_prefix("; ")).map(|line| line.trim().to_string());
    (last, source)
}

/// Whether a line is of the statistics that end a log.
pub fn is_statistics(line: &str) -> bool {
    ["verification time ", "stack depth ", "processed "].iter().any(|start| line.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "\
0: R1=ctx() R10=fp0
; return *value; @ prog.c:12
4: (61) r0 = *(u32 *)(r0 +0)
R0 invalid mem access 'map_value_or_null'
verification time 112 usec
stack depth 8
processed 5 insns (limit 1000000) max_states_per_insn 1 total_states 2 peak_states 3 mark_read 0
";

    #[test]
    fn takes_a_log_apart() {
        let stats = Stats::parse(LOG).unwrap();
        assert_eq!(
            stats,
            Stats { duration_us: 112, insns: 5, max_states_per_insn: 1, total_states: 2, peak_states: 3 }
        );
        let (last, source) = blame(LOG);
        assert_eq!(last.as_deref(), Some("R0 invalid mem access 'map_value_or_null'"));
        assert_eq!(source.as_deref(), Some("return *value; @ prog.c:12"));
    }
}
