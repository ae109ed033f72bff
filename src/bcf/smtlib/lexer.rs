//! Tokens of SMT-LIB 2.6.

use super::error::{ParseError, Reason};

/// A word of the text.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Token<'a> {
    Open,
    Close,
    /// `x`, or `|x|`, which is the same but never a reserved word.
    Symbol {
        name: &'a [u8],
        quoted: bool,
    },
    /// `:name`.
    Keyword(&'a [u8]),
    Numeral(&'a [u8]),
    /// The digits after `#b`.
    Binary(&'a [u8]),
    /// The digits after `#x`.
    Hex(&'a [u8]),
    /// A string or a decimal: no term has one.
    Other,
    End,
}

/// A token and where it starts.
pub type Placed<'a> = (Token<'a>, usize);

pub struct Lexer<'a> {
    text: &'a [u8],
    at: usize,
    peeked: Option<Placed<'a>>,
}

fn is_symbol_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"~!@$%^&*_-+=<>.?/".contains(&byte)
}

impl<'a> Lexer<'a> {
    pub fn new(text: &'a [u8]) -> Lexer<'a> {
        Lexer { text, at: 0, peeked: None }
    }

    pub fn next(&mut self) -> Result<Placed<'a>, ParseError> {
        match self.peeked.take() {
            Some(token) => Ok(token),
            None => self.scan(),
        }
    }

    pub fn peek(&mut self) -> Result<Placed<'a>, ParseError> {
        let token = self.next()?;
        self.peeked = Some(token);
        Ok(token)
    }

    /// The error at a byte of the text.
    pub fn error(&self, at: usize, reason: impl Into<Reason>) -> ParseError {
        ParseError::new(self.text, at, reason.into())
    }

    /// Takes bytes while they are of a kind.
    fn run(&mut self, is_part: impl Fn(u8) -> bool) -> &'a [u8] {
        let rest = self.text.get(self.at..).unwrap_or_default();
        let len = rest.iter().position(|&byte| !is_part(byte)).unwrap_or(rest.len());
        self.at += len;
        &rest[..len]
    }

    fn scan(&mut self) -> Result<Placed<'a>, ParseError> {
        loop {
            self.run(|byte| byte.is_ascii_whitespace());
            if self.text.get(self.at) != Some(&b';') {
                break;
            }
            self.run(|byte| byte != b'\n');
        }
        let start = self.at;
        let Some(&first) = self.text.get(start) else { return Ok((Token::End, start)) };
        self.at += 1;
        let token = match first {
            b'(' => Token::Open,
            b')' => Token::Close,
            b':' => Token::Keyword(self.run(is_symbol_byte)),
            b'|' => {
                let name = self.run(|byte| byte != b'|' && byte != b'\\');
                if self.text.get(self.at) != Some(&b'|') {
                    return Err(self.error(start, "a symbol that a second `|` does not end"));
                }
                self.at += 1;
                Token::Symbol { name, quoted: true }
            }
            b'"' => {
                // Two quotation marks are one that does not end the string.
                loop {
                    self.run(|byte| byte != b'"');
                    if self.at >= self.text.len() {
                        return Err(self.error(start, "a string that does not end"));
                    }
                    self.at += 1;
                    if self.text.get(self.at) != Some(&b'"') {
                        break Token::Other;
                    }
                    self.at += 1;
                }
            }
            b'#' => {
                let base = self.text.get(self.at).copied();
                self.at += 1;
                match base {
                    Some(b'b') => Token::Binary(self.digits(start, |byte| matches!(byte, b'0' | b'1'))?),
                    Some(b'x') => Token::Hex(self.digits(start, |byte| byte.is_ascii_hexdigit())?),
                    _ => return Err(self.error(start, "expected #b or #x before the digits of a constant")),
                }
            }
            b'0'..=b'9' => {
                self.at = start;
                let digits = self.run(|byte| byte.is_ascii_digit());
                if self.text.get(self.at) == Some(&b'.') {
                    self.at += 1;
                    self.run(|byte| byte.is_ascii_digit());
                    Token::Other
                } else {
                    Token::Numeral(digits)
                }
            }
            byte if is_symbol_byte(byte) => {
                self.at = start;
                Token::Symbol { name: self.run(is_symbol_byte), quoted: false }
            }
            byte => {
                let shown = byte.escape_ascii();
                return Err(self.error(start, format!("the byte '{shown}', which starts nothing in SMT-LIB")));
            }
        };
        Ok((token, start))
    }

    /// At least one digit, and no other letters behind.
    fn digits(&mut self, start: usize, is_digit: impl Fn(u8) -> bool) -> Result<&'a [u8], ParseError> {
        let word = self.run(is_symbol_byte);
        if word.is_empty() || !word.iter().all(|&byte| is_digit(byte)) {
            return Err(self.error(start, "a constant whose digits are none, or not of its base"));
        }
        Ok(word)
    }
}
