//! Values of flags that several commands take: names, times, variables.

use std::time::Duration;

/// About 31 years: what is beyond is a slip. A safeguard, far from any real use.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(1_000_000_000);

/// The name of a program.
pub(crate) fn name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    match (1..=64).contains(&text.len()) && text.bytes().all(plain) {
        true => Ok(text.to_owned()),
        false => Err("expected 1 to 64 letters, digits, `-`, `_` and `.`".into()),
    }
}

/// A time as `90`, `90s`, `15m`, `8h` or `2d`.
pub(crate) fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = match text.char_indices().next_back() {
        Some((at, 's')) => (&text[..at], 1),
        Some((at, 'm')) => (&text[..at], 60),
        Some((at, 'h')) => (&text[..at], 3_600),
        Some((at, 'd')) => (&text[..at], 86_400),
        _ => (text, 1),
    };
    let time =
        number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).map(Duration::from_secs);
    time.filter(|time| !time.is_zero() && *time <= LONGEST_TIMEOUT)
        .ok_or_else(|| "expected a time as 90, 90s, 15m, 8h or 2d".into())
}

/// A variable as a flag gives it.
pub(crate) fn variable(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".into()),
    }
}

/// A number of seconds, with fractions.
pub(crate) fn seconds(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| !time.is_zero() && *time <= LONGEST_TIMEOUT).ok_or_else(|| {
        format!("expected a number of seconds above 0 and up to {}", LONGEST_TIMEOUT.as_secs())
    })
}

/// The same, or 0 for no time at all.
pub(crate) fn seconds_or_0(text: &str) -> Result<Duration, String> {
    let time = text.parse().ok().and_then(|seconds: f64| Duration::try_from_secs_f64(seconds).ok());
    time.filter(|time| *time <= LONGEST_TIMEOUT)
        .ok_or_else(|| format!("expected a number of seconds, 0 to {}", LONGEST_TIMEOUT.as_secs()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_taken_as_written_or_refused_with_what_is_right() {
        assert_eq!(variable("A=b=c"), Ok(("A".into(), "b=c".into())));
        assert_eq!(variable("A="), Ok(("A".into(), String::new())));
        assert!(variable("=x").is_err() && variable("A").is_err());
        assert_eq!(seconds("1.5"), Ok(Duration::from_millis(1500)));
        for (text, seconds) in [("90", 90), ("90s", 90), ("15m", 900), ("8h", 28_800), ("2d", 172_800)] {
            assert_eq!(span(text), Ok(Duration::from_secs(seconds)));
        }
        for wrong in ["", "0", "d", "-1", "1w", "1.5h", "99999999999999999999d"] {
            assert!(span(wrong).is_err(), "{wrong}");
        }
        assert!(name("a.b-c_1").is_ok() && name("a b").is_err() && name("").is_err());
        for wrong in ["0", "-1", "NaN", "inf", "1e300", "1000000001", "soon"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
