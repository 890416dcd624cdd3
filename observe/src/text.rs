//! Texts of records: times, hashes, and what of a long text is shown.

use std::borrow::Cow;
use std::fmt::Write;
use std::time::SystemTime;

/// Bytes of a client's text that a record shows at most. Paths are no longer. A safeguard, far from any real use.
const LONGEST_TEXT: usize = 4096;

/// A time as records have it: RFC 3339, UTC, with microseconds.
pub fn timestamp(time: SystemTime) -> String {
    match jiff::Timestamp::try_from(time) {
        Ok(time) => format!("{time:.6}"),
        // A clock outside of the years -9999 to 9999.
        Err(_) => "unknown".to_owned(),
    }
}

/// What a record shows of a client's text: all of it, but for one that is very long.
pub fn cut(text: Cow<'_, str>) -> String {
    if text.len() <= LONGEST_TEXT {
        return text.into_owned();
    }
    let mut end = LONGEST_TEXT;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// The SHA-256 of a program's arguments, each followed by a NUL, in hex: what
/// `printf '%s\0' "$@" | sha256sum` gives for them.
pub fn args_hash<'a>(args: impl IntoIterator<Item = &'a str>) -> String {
    use sha2::Digest;
    let mut hash = sha2::Sha256::new();
    for arg in args {
        hash.update(arg.as_bytes());
        hash.update([0]);
    }
    hash.finalize().iter().fold(String::with_capacity(64), |mut hex, byte| {
        // Writing to a string does not fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}
