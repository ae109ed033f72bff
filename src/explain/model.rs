//! An explanation as data: what `--json` prints, and what text and page are made of.

use serde::Serialize;

use super::ENOUGH_PATHS;

/// What there is to say of one program.
#[derive(Serialize, Debug)]
pub struct Explanation {
    pub object: String,
    pub program: String,
    pub section: String,
    pub prog_type: String,
    pub kernel: String,
    /// `accepted`, `rejected`, `not_emulated` or `error`.
    pub verdict: &'static str,
    /// Why there is nothing to explain, where the program is neither accepted nor rejected.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// In the order in which the verifier comes to them: the next one is there only if the one before is proved safe.
    pub rejections: Vec<Rejection>,
    /// Time was up, or enough was seen of a program that is accepted with proofs: what comes behind the last rejection was not looked at.
    pub unfinished: bool,
    /// Proofs with which `BPFTWIN_BCF=auto` accepts the program. Then not all paths to a rejection are counted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accepted_with: Option<usize>,
    /// The end of the kernel's log of the last rejection.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub log: String,
}

impl Explanation {
    /// What the proofs come to, where there are some.
    pub fn end(&self) -> Option<String> {
        if self.verdict != "rejected" {
            return None;
        }
        match self.accepted_with {
            Some(0) => Some(
                "With BPFTWIN_BCF=auto the verifier finds out by itself, and accepts the program.".into(),
            ),
            Some(1) => {
                Some("With BPFTWIN_BCF=auto, which takes a proof, the verifier accepts the program.".into())
            }
            Some(proofs) => Some(format!(
                "With BPFTWIN_BCF=auto, which takes {proofs} proofs, the verifier accepts the program."
            )),
            None if self.unfinished => Some("Time was up: there may be more rejections.".into()),
            None => None,
        }
    }
}

/// One rejection.
#[derive(Serialize, Debug)]
pub struct Rejection {
    pub errno: i32,
    /// One line or more.
    pub message: String,
    /// The rejected instruction; none where the program is rejected as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub place: Option<Place>,
    /// Other paths to the same instruction that are rejected with the same words, and were proved safe too.
    pub more_paths: usize,
    /// Instructions on the path.
    pub steps: usize,
    /// The path, each source line once, in the order in which it comes to them; the rejected one is the last.
    pub path: Vec<Line>,
    /// What the check is about and where it comes from, along the path.
    pub values: Vec<Origin>,
    pub finding: Finding,
    /// The path begins with a global function, which the kernel verifies by itself, for any arguments of its types; so was it looked at.
    pub by_itself: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub meaning: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<&'static str>,
}

impl Rejection {
    /// What is to be said of the paths that are not shown.
    pub fn other_paths(&self) -> Option<String> {
        let count = match self.more_paths {
            0 => return None,
            1 => "1 other path".to_owned(),
            n if n < ENOUGH_PATHS => format!("{n} other paths"),
            n => format!("at least {n} other paths"),
        };
        Some(format!("{count} to this instruction, proved safe too"))
    }

    /// The program is accepted with proofs: what was not settled for this path is.
    pub fn accepted(&mut self) {
        if let Finding::Unknown { .. } = self.finding {
            let because = Vec::new();
            self.finding =
                Finding::Safe { proved: "program", proof_bytes: 0, prove_us: 0, check_us: 0, because };
        }
    }
}

/// What is to be said of a rejection [by itself](Rejection::by_itself).
pub const BY_ITSELF: &str = "The path begins with a global function, which the kernel verifies by itself, for any arguments of its types. Its callers were \
     not looked at: what they never pass is no excuse. A static function is verified with the arguments that it gets.";

/// An instruction, and its source line where that is known.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Place {
    pub insn: u32,
    /// As the kernel's log prints it.
    pub text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<Source>,
}

/// A source line.
#[derive(Serialize, Clone, PartialEq, Eq, Hash, Debug)]
pub struct Source {
    pub file: String,
    pub line: u32,
    pub text: String,
}

impl Source {
    /// `prog.c:12`
    pub fn at(&self) -> String {
        format!("{}:{}", self.file, self.line)
    }
}

impl Place {
    /// `prog.c:12`, or the instruction's number.
    pub fn at(&self) -> String {
        self.source.as_ref().map_or_else(|| format!("insn {}", self.insn), Source::at)
    }
}

/// A line of the path: a source line, or an instruction where there are none.
#[derive(Serialize, Debug)]
pub struct Line {
    pub at: String,
    pub text: String,
    /// First instruction on the path that is of this line.
    pub insn: u32,
    /// How often the path comes to it.
    pub visits: u32,
    pub branches: Vec<Branch>,
}

/// Conditional jumps of one instruction along the path.
#[derive(Serialize, Debug)]
pub struct Branch {
    pub insn: u32,
    /// `r2 > 64`
    pub condition: String,
    /// How often it held, and how often not.
    pub held: u32,
    pub failed: u32,
}

impl Branch {
    /// `r2 > 64: yes`
    pub fn way(&self) -> String {
        match (self.held, self.failed) {
            (_, 0) => format!("{}: yes", self.condition),
            (0, _) => format!("{}: no", self.condition),
            (held, failed) => format!("{}: {held}× yes, {failed}× no", self.condition),
        }
    }
}

/// A value that the rejected check is about, or that such a value is computed from.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Origin {
    pub register: String,
    pub place: Place,
    /// Where the value comes from, if this is its beginning: a field of the context, a helper's result, …
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// The answer to the question whether it is a bug.
#[derive(Serialize, Debug)]
#[serde(tag = "finding", rename_all = "snake_case")]
pub enum Finding {
    /// The condition is refuted, with a proof that the strict checker takes.
    Safe {
        /// `path`: nothing takes it; `access`: whatever takes it, the access is inside of its memory; `offset`: whatever takes it, the
        /// offset that is added to a pointer is small enough (what is accessed with the pointer is checked later); `program`: the
        /// program is accepted as a whole, with [proofs](Explanation::accepted_with) of its own.
        proved: &'static str,
        proof_bytes: usize,
        prove_us: u64,
        check_us: u64,
        /// What the proof needs: facts that the verifier does not put together.
        because: Vec<Fact>,
    },
    /// Inputs that drive the program along the path into the fault; it was run on them.
    Bug {
        inputs: Vec<Input>,
        fault: String,
    },
    Unknown {
        why: String,
    },
    /// Not a matter of values.
    NotAllowed {
        why: String,
    },
}

impl Finding {
    /// `safe`, `bug`, `unknown`, `not allowed`
    pub fn name(&self) -> &'static str {
        match self {
            Finding::Safe { .. } => "safe",
            Finding::Bug { .. } => "bug",
            Finding::Unknown { .. } => "unknown",
            Finding::NotAllowed { .. } => "not allowed",
        }
    }
}

/// What [`Finding::Safe`] says, in words.
pub fn proved_words(proved: &str) -> &'static str {
    match proved {
        "path" => "no input takes this path",
        "program" => "the program is accepted as a whole, as is said below",
        "offset" => "whatever takes this path, the offset is one that may be added to the pointer",
        _ => "whatever takes this path, the access is inside of its memory",
    }
}

/// A part of a condition that its proof needs.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Fact {
    pub place: Place,
    pub text: String,
}

impl Input {
    /// The value in words, where it is a choice.
    pub fn choice(&self) -> Option<&'static str> {
        self.is_choice.then_some(if self.value == 0 { "no" } else { "yes" })
    }
}

/// An input of the program and its value.
#[derive(Serialize, Clone, PartialEq, Eq, Debug)]
pub struct Input {
    pub what: String,
    pub value: u64,
    /// The value is 1 for yes, or 0 for no.
    pub is_choice: bool,
    pub place: Place,
    /// The value decides: it is from the condition's model, or the path needs it.
    pub decisive: bool,
}
