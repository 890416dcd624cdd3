//! `last_refresh`: RFC 3339 in full, nanoseconds, UTC (login.md 2.1).

use jiff::Timestamp;

/// The most digits of a second's fraction that count; more are cut off.
const FRACTION_DIGITS: usize = 9;

/// Reads a full RFC 3339 time. The library's parser takes much more (dates without time, words for zones).
pub(super) fn parse(text: &str) -> Option<Timestamp> {
    let (date_time, rest) = text.split_at_checked("2026-11-20T09:35:45".len())?;
    let shape = date_time.bytes().zip(*b"dddd-dd-ddTdd:dd:dd").all(|(byte, wanted)| match wanted {
        b'd' => byte.is_ascii_digit(),
        b'T' => matches!(byte, b'T' | b't' | b' '),
        _ => byte == wanted,
    });
    if !shape {
        return None;
    }
    let (fraction, offset) = match rest.strip_prefix('.') {
        None => ("", rest),
        Some(rest) => {
            let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
            if digits == 0 {
                return None;
            }
            let (fraction, offset) = rest.split_at(digits);
            (&fraction[..digits.min(FRACTION_DIGITS)], offset)
        }
    };
    let zoned = matches!(offset, "Z" | "z")
        || (offset.len() == "+00:00".len()
            && offset.bytes().zip(*b"sdd:dd").all(|(byte, wanted)| match wanted {
                b'd' => byte.is_ascii_digit(),
                b's' => matches!(byte, b'+' | b'-'),
                _ => byte == wanted,
            }));
    let point = if fraction.is_empty() { "" } else { "." };
    if zoned { format!("{date_time}{point}{fraction}{offset}").parse().ok() } else { None }
}

/// Writes a time as released programs do.
pub(super) fn format(time: Timestamp) -> String {
    format!("{time:.9}")
}
