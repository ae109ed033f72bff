//! Format strings of the printing helpers: the part of `bpf_bprintf_prepare` that judges a format without its
//! arguments.

/// Whether a constant format (without its terminating zero) is well-formed and has arguments for all of its
/// specifiers.
pub fn format_is_valid(fmt: &[u8], num_args: u32) -> bool {
    check_format(fmt, num_args).is_some()
}

/// Ends a `%p` or `%s` where no modifier follows: the kernel's `isspace` or `ispunct`, or the end.
fn ends_specifier(c: u8) -> bool {
    c == 0 || is_space(c) || c.is_ascii_punctuation()
}

fn is_space(c: u8) -> bool {
    matches!(c, b'\t'..=b'\r' | b' ')
}

fn check_format(fmt: &[u8], num_args: u32) -> Option<()> {
    // Past the end there is the terminating zero, which every test below treats as a mismatch.
    let at = |i: usize| fmt.get(i).copied().unwrap_or(0);
    let mut num_spec = 0;
    let mut i = 0;
    while i < fmt.len() {
        let c = at(i);
        if !(b' '..=b'~').contains(&c) && !is_space(c) {
            return None;
        }
        if c != b'%' {
            i += 1;
            continue;
        }
        if at(i + 1) == b'%' {
            i += 2;
            continue;
        }
        if num_spec >= num_args {
            return None;
        }
        num_spec += 1;
        i = skip_specifier(&at, i + 1)?;
    }
    Some(())
}

/// Reads one specifier from behind its `%`; gives the index behind it.
fn skip_specifier(at: &impl Fn(usize) -> u8, mut i: usize) -> Option<usize> {
    while matches!(at(i), b'0' | b'+' | b'-' | b' ') {
        i += 1;
    }
    if matches!(at(i), b'1'..=b'9') {
        i += 1;
        while at(i).is_ascii_digit() {
            i += 1;
        }
    }
    match at(i) {
        b'p' => skip_pointer(at, i),
        b's' => ends_specifier(at(i + 1)).then_some(i + 1),
        b'c' => Some(i + 1),
        _ => {
            for _ in 0..2 {
                if at(i) == b'l' {
                    i += 1;
                }
            }
            matches!(at(i), b'i' | b'd' | b'u' | b'x' | b'X').then_some(i + 1)
        }
    }
}

/// `%p` and its extensions; `i` is at the `p`.
fn skip_pointer(at: &impl Fn(usize) -> u8, i: usize) -> Option<usize> {
    match (at(i + 1), at(i + 2)) {
        (c, _) if ends_specifier(c) => Some(i + 1),
        (b'k' | b'u', b's') => ends_specifier(at(i + 3)).then_some(i + 3),
        (b'K' | b'x' | b's' | b'S' | b'B', _) => Some(i + 2),
        (b'i' | b'I', b'4' | b'6') => Some(i + 3),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::format_is_valid;

    #[test]
    fn formats() {
        for (fmt, args, valid) in [
            ("", 0, true),
            ("100%% %d", 1, true),
            ("%d", 0, false),
            ("%-08llx %lu %i", 3, true),
            ("%lld %c", 2, true),
            ("%llld", 1, false),
            ("%f", 1, false),
            ("%", 1, false),
            ("%5", 1, false),
            ("%s, %pks.", 2, true),
            ("%sx", 1, false),
            ("%pkx", 1, false),
            ("%p %px %pB %pS %pK", 5, true),
            ("%pI4 %pi6", 2, true),
            ("%pI5", 1, false),
            ("%pa", 1, false),
            ("tab\t\u{7f}", 0, false),
            ("\u{e4}", 0, false),
            ("one %d is enough", 3, true),
        ] {
            assert_eq!(format_is_valid(fmt.as_bytes(), args), valid, "{fmt:?}");
        }
    }
}
