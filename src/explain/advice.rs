//! Known rejections: what the kernel's message means, and what to do about it.
//!
//! The tables are searched from their top; `*` in a pattern stands for any text, also none. A pattern has to match a whole line of the
//! message.

mod memory;
mod rules;

/// What has to happen in a run for the rejection to be more than caution.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The rejected instruction accesses memory that it must not.
    Access,
    /// That, or a later instruction accesses such memory with what this one computes.
    Later,
    /// It is enough that the program gets there.
    Reached,
    /// The register that the message names has no value there.
    Unset,
    /// The register that the message names is null there.
    Null,
    /// What was acquired was not null.
    Leak,
    /// What is returned is out of the range that the message names.
    Returns,
    /// The program does not come to an end.
    Endless,
    /// Nothing: a rule of the kernel, whatever the values are.
    Rule,
}

/// A rejection that is known.
#[derive(Debug)]
pub struct Known {
    /// A line of the kernel's message, without its end of line.
    pub pattern: &'static str,
    pub kind: Kind,
    pub meaning: &'static str,
    pub advice: &'static str,
}

const fn known(pattern: &'static str, kind: Kind, meaning: &'static str, advice: &'static str) -> Known {
    Known { pattern, kind, meaning, advice }
}

/// A packet pointer that the verifier takes for a number.
pub static STALE_PACKET: Known = known(
    "",
    Kind::Access,
    "The pointer into the packet is from before a call that may change the packet, and cannot be used any more.",
    "Load ctx->data and ctx->data_end again behind the call, and check the bounds again; or read what is needed before the call.",
);

/// What a call returned, and the verifier takes for a number.
pub static RELEASED: Known = known(
    "",
    Kind::Access,
    "What the call returned was given back (released, submitted), or its section was left; the pointer cannot be used any more.",
    "Read what is needed before it is given back, and give it back once only.",
);

/// The entry for a message: the first one that one of its lines matches.
pub fn look_up(message: &str) -> Option<&'static Known> {
    tables().find(|known| message.lines().any(|line| matches(known.pattern, line)))
}

fn tables() -> impl Iterator<Item = &'static Known> {
    memory::KNOWN.iter().chain(rules::KNOWN)
}

fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(rest) = text.strip_prefix(parts.next().unwrap_or_default()) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    let Some(mut rest) = rest.strip_suffix(last) else { return false };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_whole_messages() {
        for (message, pattern) in [
            ("R0 invalid mem access 'map_value_or_null'", "R* invalid mem access '*_or_null'"),
            ("R3 invalid mem access 'scalar'", "R* invalid mem access 'scalar'"),
            ("R0 !read_ok", "R0 !read_ok"),
            ("R7 !read_ok", "R* !read_ok"),
            (
                "program of this type cannot use helper bpf_probe_read#4",
                "program of this type cannot use helper *",
            ),
            (
                "invalid access to packet, off=0 size=4, R2(id=3,off=0,r=0)\nR2 offset is outside of the packet",
                "invalid access to packet, *",
            ),
            (
                "R1 type=scalar expected=fp\nCaller passes invalid args into func#1 ('f')",
                "Caller passes invalid args into func#* ('*')",
            ),
            ("Unreleased reference id=3 alloc_insn=7", "Unreleased reference id=* alloc_insn=*"),
            ("invalid stack R10 off=-520 size=8", "invalid* stack R* off=* size=*"),
            (
                "invalid access to map value, value_size=8 off=4 size=8",
                "invalid access to map value, value_size=* off=* size=*",
            ),
        ] {
            assert_eq!(look_up(message).map(|known| known.pattern), Some(pattern), "{message}");
        }
        assert!(look_up("R0 !read_ok and more").is_none());
        assert!(look_up("").is_none());
        assert!(matches("a*b*c", "a b b c") && !matches("a*b*c", "a c b"));
    }

    /// An entry behind one that takes all its messages would never be found.
    #[test]
    fn no_entry_hides_another() {
        for (i, known) in tables().enumerate() {
            let sample = known.pattern.replace('*', "3");
            let found = tables().position(|other| matches(other.pattern, &sample));
            assert_eq!(
                found,
                Some(i),
                "{} is hidden by {}",
                known.pattern,
                tables().nth(found.unwrap_or(0)).unwrap().pattern
            );
        }
    }
}
