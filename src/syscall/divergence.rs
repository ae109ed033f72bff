//! Comparison of our verifier log with the real kernel's.

use std::fmt;

use serde::Serialize;

/// Lines of the log before a difference that are shown with it.
const CONTEXT: usize = 3;

/// The first place where two logs differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// Line number in the logs, from 1.
    pub line: usize,
    /// Lines before it, equal in both.
    pub context: Vec<String>,
    /// Our line, where there is one.
    pub ours: Option<String>,
    /// The kernel's line, where there is one.
    pub kernel: Option<String>,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "  log, line {}:", self.line)?;
        for line in &self.context {
            writeln!(f, "          {line}")?;
        }
        writeln!(f, "    ours: {}", self.ours.as_deref().unwrap_or("<end>"))?;
        writeln!(f, "    host: {}", self.kernel.as_deref().unwrap_or("<end>"))
    }
}

/// Whether two lines say the same but for measured times and addresses of the kernel's memory.
fn same(ours: &str, kernel: &str) -> bool {
    if ours == kernel {
        return true;
    }
    if let (Some(ours), Some(kernel)) = (without_time(ours), without_time(kernel)) {
        return ours == kernel;
    }
    match (without_address(ours), without_address(kernel)) {
        (Some(ours), Some(kernel)) => ours == kernel,
        _ => false,
    }
}

/// What stands before and after the kernel address that an instruction such as `5: (18) r1 = 0xffff888100001000` loads,
/// and how many digits are there: the end of a full buffer may cut it.
fn without_address(line: &str) -> Option<(&str, usize, &str)> {
    let register = line.find("(18) r")? + 6;
    let (name, rest) = line[register..].split_once(" = 0x")?;
    let digits = rest.bytes().take_while(u8::is_ascii_hexdigit).count();
    let whole = digits == 16;
    let cut = digits < 16 && digits == rest.len();
    let is_address = name.len() <= 2 && rest.starts_with("ffff") && (whole || cut);
    is_address.then(|| (&line[..register + name.len()], digits, &rest[digits..]))
}

/// Whether two first lines are what is left of an instruction that loads an address, and differ in the address only:
/// of a log that is larger than its buffer the beginning is lost.
fn same_cut(ours: &str, kernel: &str) -> bool {
    let Some(at) = ours.bytes().zip(kernel.bytes()).position(|(a, b)| a != b) else {
        return false;
    };
    let rest = |line: &'_ str| {
        let digits = line.bytes().skip(at).take_while(u8::is_ascii_hexdigit).count();
        line.get(at + digits..).map(str::to_owned)
    };
    let Some(after) = rest(ours) else {
        return false;
    };
    // A whole instruction is not cut.
    ours.len() == kernel.len()
        && !ours[..at].contains("(18) r")
        && ours[..at].bytes().all(|byte| byte.is_ascii_hexdigit() || b":()r=x ".contains(&byte))
        && (after.trim().is_empty() || after.trim_start().starts_with("; R"))
        && rest(kernel).is_some_and(|other| other == after)
}

/// Whether two last lines end within an address, and are equal before it: what follows did not fit the buffer.
fn same_cut_end(ours: &str, kernel: &str) -> bool {
    let before = |line: &str| {
        let (before, digits) = line.rsplit_once("= 0x")?;
        let cut = before.contains("(18) r") && digits.bytes().all(|byte| byte.is_ascii_hexdigit());
        cut.then(|| before.to_owned())
    };
    ours.len() == kernel.len() && before(ours).is_some_and(|ours| before(kernel) == Some(ours))
}

/// What stands before and after a measured time: that of the verification, which ends a line, or that of a proof's check.
fn without_time(line: &str) -> Option<(&str, &str)> {
    let (before, rest) = line
        .rsplit_once("verification time ")
        .or_else(|| line.strip_prefix("bcf proof checked ").and_then(|rest| rest.split_once(" nth in ")))?;
    let (number, rest) = rest.split_once(' ')?;
    let is_time = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    let is_end = rest == "usec" || rest.starts_with("ns, size ");
    (is_time && is_end).then_some((before, rest))
}

/// Finds the first difference that is not a measured time.
pub fn first_difference(ours: &str, kernel: &str) -> Option<Difference> {
    if ours == kernel {
        return None;
    }
    let (mut ours, mut kernel) = (ours.split_inclusive('\n'), kernel.split_inclusive('\n'));
    let mut context: Vec<String> = Vec::new();
    for line in 1.. {
        let (our, real) = match (ours.next(), kernel.next()) {
            (None, None) => return None,
            (Some(our), Some(real))
                if line == 1 && same_cut(our, real)
                    || same_cut_end(our, real)
                    || same(our.trim_end_matches('\n'), real.trim_end_matches('\n'))
                        && our.ends_with('\n') == real.ends_with('\n') =>
            {
                if context.len() == CONTEXT {
                    context.remove(0);
                }
                context.push(clip(our));
                continue;
            }
            pair => pair,
        };
        return Some(Difference { line, context, ours: our.map(clip), kernel: real.map(clip) });
    }
    None
}

/// A line for a report, which is not to be flooded by one.
fn clip(line: &str) -> String {
    const MAX: usize = 600;
    let line = line.trim_end_matches('\n');
    match line.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn measured_times_are_no_difference() {
        assert_eq!(
            first_difference("a\nverification time 12 usec\nb\n", "a\nverification time 7 usec\nb\n"),
            None
        );
        let proof = |time, length| {
            format!(
                "bcf proof checked 1 nth in {time} ns, size 244 bytes, type path backtrack_length {length}\n"
            )
        };
        assert_eq!(first_difference(&proof(17, 0), &proof(72238, 0)), None);
        assert!(first_difference(&proof(17, 0), &proof(17, 1)).is_some());
        assert_eq!(first_difference("a 2verification time 12 usec\n", "a 2verification time 7 usec\n"), None);
        assert!(first_difference("verification time 12 usec\n", "verification time x usec\n").is_some());
    }

    #[test]
    fn addresses_are_no_difference() {
        let line = |address: &str| format!("5: (18) r1 = {address}       ; R1=map_ptr(ks=4,vs=8)\n");
        assert_eq!(first_difference(&line("0xffff888100001000"), &line("0xffffc90000a4d010")), None);
        assert_eq!(first_difference("5: (18) r1 = 0xffff88", "5: (18) r1 = 0xffffc9"), None);
        assert!(first_difference("5: (18) r1 = 0xffff88", "5: (18) r1 = 0xffffc").is_some());
        assert!(first_difference(&line("0x1"), &line("0x2")).is_some());
        assert!(first_difference(&line("0xffff888100001000"), &line("0x2")).is_some());
    }

    #[test]
    fn addresses_may_be_cut() {
        assert_eq!(
            first_difference("1100000 ; R2=map_value(ks=4)\n", "41d8000 ; R2=map_value(ks=4)\n"),
            None
        );
        assert_eq!(first_difference("xffffc95e41100000\n", "xffffc95e041d8000\n"), None);
        assert_eq!(first_difference("0: (18) r2 = 0xffffc963", "0: (18) r2 = 0xffffc900"), None);
        assert!(first_difference("0: (18) r2 = 0xffffc963", "1: (18) r2 = 0xffffc900").is_some());
        assert!(first_difference("0: (18) r2 = 0x1\n", "0: (18) r2 = 0x2\n").is_some());
        assert!(first_difference("0: R1=ctx() R10=fp0\n", "0: R1=ctx() R10=fp8\n").is_some());
        assert!(first_difference("processed 12 insns\n", "processed 13 insns\n").is_some());
    }

    #[test]
    fn first_difference_has_context() {
        let difference = first_difference("1\n2\n3\n4\n5\n", "1\n2\n3\n4\n6\n").unwrap();
        assert_eq!(difference.line, 5);
        assert_eq!(difference.context, ["2", "3", "4"]);
        assert_eq!(difference.ours.as_deref(), Some("5"));
        let difference = first_difference("1\n", "1\n2\n").unwrap();
        assert_eq!((difference.ours, difference.kernel.as_deref()), (None, Some("2")));
    }
}
