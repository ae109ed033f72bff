//! Files of proofs and conditions, and how they are told apart.

use std::borrow::Cow;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use bpftwin_uapi::bcf::BCF_MAGIC;
use clap::{Args, ValueEnum};

use super::Which;
use crate::bcf::checker::words_of;
use crate::bcf::expr::{Arena, ExprId};
use crate::bcf::print::Variable;
use crate::bcf::request::{Goal, Request};
use crate::bcf::smtlib;

/// Larger files are not read.
const SIZE_MAX: u64 = 256 << 20;

/// What a file holds.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A proof.
    Proof,
    /// A request buffer: expressions, then the ids of the path and the refine condition.
    Request,
    /// A recording: for each request its length in words, then its words.
    Requests,
    /// A goal file of the published checker: the id of the goal, then expressions.
    Goal,
    /// SMT-LIB text.
    Smt,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Format::Proof => "a proof",
            Format::Request => "a request",
            Format::Requests => "a recording of requests",
            Format::Goal => "a goal file",
            Format::Smt => "SMT-LIB text",
        }
    }
}

/// What of a file a command is about.
#[derive(Args)]
pub struct Only {
    /// Only this condition of a request.
    #[arg(long, value_enum)]
    pub cond: Option<Which>,

    /// Only this request of a recording; the first is 0.
    #[arg(long, value_name = "N")]
    pub request: Option<usize>,

    /// What FILE holds. Default: what it can be read as.
    #[arg(long, value_enum, value_name = "FORMAT")]
    pub format: Option<Format>,
}

/// A formula with a role.
#[derive(Clone, Copy)]
pub struct Condition {
    pub kind: Kind,
    pub root: ExprId,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Request(Which),
    Goal,
    Smt,
}

impl Kind {
    /// As in `--cond` and in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Request(Which::Path) => "path",
            Kind::Request(Which::Refine) => "refine",
            Kind::Goal => "goal",
            Kind::Smt => "smt",
        }
    }

    pub fn title(self) -> &'static str {
        match self {
            Kind::Request(Which::Path) => "the path condition",
            Kind::Request(Which::Refine) => "the refine condition",
            Kind::Goal => "the goal",
            Kind::Smt => "the condition",
        }
    }
}

/// The conditions of one request or file, in the order in which the prover takes them.
pub struct Conditions {
    pub arena: Arena,
    pub conditions: Vec<Condition>,
    /// Names of the variables that have one.
    names: Vec<(String, ExprId)>,
}

impl Conditions {
    fn of_request(request: Request, refine: Kind) -> Conditions {
        let path = request.path_cond.map(|root| Condition { kind: Kind::Request(Which::Path), root });
        let refine = request.refine_cond.map(|root| Condition { kind: refine, root });
        Conditions {
            arena: request.arena,
            conditions: path.into_iter().chain(refine).collect(),
            names: Vec::new(),
        }
    }

    /// Those that are asked for.
    ///
    /// # Errors
    /// When the one that is asked for is not there.
    pub fn select(&self, which: Option<Which>) -> Result<Vec<Condition>, String> {
        let Some(which) = which else { return Ok(self.conditions.clone()) };
        let kind = Kind::Request(which);
        match self.conditions.iter().find(|condition| condition.kind == kind) {
            Some(&condition) => Ok(vec![condition]),
            None => Err(format!("has no {} condition", kind.name())),
        }
    }

    /// The one that a proof is to refute: as asked for, else the last.
    ///
    /// # Errors
    /// As [`Conditions::select`].
    pub fn goal(&self, which: Option<Which>) -> Result<Goal<'_>, String> {
        let selected = self.select(which)?;
        let last = selected.last().ok_or("has no condition")?;
        Ok(Goal { arena: &self.arena, root: last.root })
    }

    /// The variable's name in the file, or else in print.
    pub fn variable_name(&self, id: ExprId) -> String {
        match self.names.iter().find(|(_, named)| *named == id) {
            Some((name, _)) => name.clone(),
            None => Variable { arena: &self.arena, id }.to_string(),
        }
    }
}

/// The requests with their numbers: all, or the one that is asked for.
///
/// # Errors
/// When that is not there.
pub fn numbered(requests: &[Conditions], only: Option<usize>) -> Result<Vec<(usize, &Conditions)>, String> {
    match only {
        None => Ok(requests.iter().enumerate().collect()),
        Some(number) => match requests.get(number) {
            Some(request) => Ok(vec![(number, request)]),
            None => Err(format!("has no request {number}: it holds {}", requests.len())),
        },
    }
}

/// A file that could be read.
pub enum Input {
    /// The words of a file that claims to be a proof.
    Proof(Vec<u32>),
    /// One for each request.
    Conditions(Vec<Conditions>),
}

/// The bytes of a file.
///
/// # Errors
/// What is wrong with it, in words that follow its name.
pub fn read(path: &Path) -> Result<Vec<u8>, String> {
    let unreadable = |error| format!("cannot be read: {error}");
    let file = File::open(path).map_err(unreadable)?;
    let metadata = file.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err("is a directory".into());
    }
    let mut bytes = Vec::with_capacity(metadata.len().min(SIZE_MAX) as usize);
    file.take(SIZE_MAX + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > SIZE_MAX {
        return Err(format!("is larger than {} MiB", SIZE_MAX >> 20));
    }
    Ok(bytes)
}

/// Reads a file and finds out what it holds unless `format` says so.
///
/// Text is what starts with a parenthesis or a comment and has no NUL byte; a proof has its magic number. A request, a recording and
/// a goal file have no mark: the file is what it can be read as, every expression and length checked.
///
/// # Errors
/// What is wrong with it; also when it can be read in more than one way.
pub fn load(path: &Path, format: Option<Format>) -> Result<Input, String> {
    let bytes = read(path)?;
    match format {
        Some(format) => decode(&bytes, format).map_err(|error| format!("is not {}: {error}", format.name())),
        None => detect(&bytes),
    }
}

fn words(bytes: &[u8]) -> Result<Cow<'_, [u32]>, String> {
    words_of(bytes).map_err(|_| format!("its {} bytes are no whole number of words", bytes.len()))
}

fn decode(bytes: &[u8], format: Format) -> Result<Input, String> {
    let request = |words| Request::parse(words).map_err(|error| error.to_string());
    let refine = Kind::Request(Which::Refine);
    let requests = match format {
        Format::Proof => return Ok(Input::Proof(words(bytes)?.into_owned())),
        Format::Request => vec![Conditions::of_request(request(&words(bytes)?)?, refine)],
        Format::Requests => recording(&words(bytes)?)?
            .map(|part| Ok(Conditions::of_request(request(part?)?, refine)))
            .collect::<Result<_, String>>()?,
        Format::Goal => {
            let goal = Request::parse_goal_file(&words(bytes)?).map_err(|error| error.to_string())?;
            vec![Conditions::of_request(goal, Kind::Goal)]
        }
        Format::Smt => {
            let smtlib::Condition { arena, root, variables } =
                smtlib::parse(bytes).map_err(|error| error.to_string())?;
            vec![Conditions {
                arena,
                conditions: vec![Condition { kind: Kind::Smt, root }],
                names: variables,
            }]
        }
    };
    Ok(Input::Conditions(requests))
}

/// The requests of a recording.
fn recording(words: &[u32]) -> Result<impl Iterator<Item = Result<&[u32], String>>, String> {
    if words.is_empty() {
        return Err("no requests".into());
    }
    let mut rest = words;
    Ok(std::iter::from_fn(move || {
        let (&len, behind) = rest.split_first()?;
        let part = behind.split_at_checked(len as usize);
        rest = part.map_or(&[], |(_, rest)| rest);
        Some(
            part.map(|(part, _)| part)
                .ok_or_else(|| format!("a request of {len} words where {} are left", behind.len())),
        )
    }))
}

fn is_text(bytes: &[u8]) -> bool {
    let first = bytes.iter().find(|byte| !byte.is_ascii_whitespace());
    matches!(first, Some(b'(' | b';')) && !bytes.contains(&0)
}

fn detect(bytes: &[u8]) -> Result<Input, String> {
    if bytes.is_empty() {
        return Err("is empty".into());
    }
    if is_text(bytes) {
        return decode(bytes, Format::Smt).map_err(|error| format!("is not a condition: {error}"));
    }
    let words = words(bytes).map_err(|error| format!("is neither SMT-LIB text nor words: {error}"))?;
    let counts = words.get(1..3).map_or(0, |counts| u64::from(counts[0]) + u64::from(counts[1]));
    let has_magic = words.first() == Some(&BCF_MAGIC);
    if has_magic && counts + 3 == words.len() as u64 {
        return Ok(Input::Proof(words.into_owned()));
    }
    let readings =
        [Format::Request, Format::Requests, Format::Goal].map(|format| (format, decode(bytes, format)));
    let (readable, not): (Vec<_>, Vec<_>) = readings.into_iter().partition(|(_, reading)| reading.is_ok());
    let names: Vec<&str> = readable.iter().map(|(format, _)| format.name()).collect();
    match names.len() {
        0 if has_magic => Ok(Input::Proof(words.into_owned())),
        0 => {
            let reasons: Vec<String> = not
                .into_iter()
                .filter_map(|(format, reading)| Some(format!("{} ({})", format.name(), reading.err()?)))
                .collect();
            Err(format!("is no proof, and not {}", reasons.join(", nor ")))
        }
        1 => readable.into_iter().next().map_or(Err(String::new()), |(_, reading)| reading),
        _ => Err(format!("can be read as {}: say with --format what it is", names.join(" or as "))),
    }
}
