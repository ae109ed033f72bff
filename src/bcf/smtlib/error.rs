//! What is wrong with a script, and where.

/// Why a script is no condition that the format can say.
pub type Reason = std::borrow::Cow<'static, str>;

/// The first thing that is wrong: line and column (from 1, columns in characters), and what was found or expected.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{line}:{column}: {reason}")]
pub struct ParseError {
    pub line: usize,
    pub column: usize,
    pub reason: Reason,
}

impl ParseError {
    pub(super) fn new(text: &[u8], at: usize, reason: Reason) -> ParseError {
        let before = text.get(..at).unwrap_or(text);
        let line_start = before.iter().rposition(|&byte| byte == b'\n').map_or(0, |newline| newline + 1);
        let is_character_start = |byte: &&u8| **byte & 0xc0 != 0x80;
        ParseError {
            line: 1 + before.iter().filter(|&&byte| byte == b'\n').count(),
            column: 1 + before[line_start..].iter().filter(is_character_start).count(),
            reason,
        }
    }
}
