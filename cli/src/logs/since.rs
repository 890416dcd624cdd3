//! `--since`: a time, or how long ago.

use std::time::Duration;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, civil};

use crate::values::span;

/// A time, in milliseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Since(pub(super) u64);

/// As `docker logs` takes it: how long ago, as `15m`, or a time, as `2026-11-30T08:00:00Z`, without a zone that of this
/// machine, or the seconds since 1970.
pub(super) fn since(text: &str) -> Result<Since, String> {
    of(text, Timestamp::now(), TimeZone::system())
}

fn of(text: &str, now: Timestamp, zone: TimeZone) -> Result<Since, String> {
    let ago = |ago: Duration| now.checked_sub(SignedDuration::try_from(ago).unwrap_or_default()).ok();
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    let seconds = || {
        let time = Duration::try_from_secs_f64(text.parse().ok()?).ok()?;
        Timestamp::from_millisecond(i64::try_from(time.as_millis()).ok()?).ok()
    };
    let here = || text.parse::<civil::DateTime>().ok()?.to_zoned(zone).ok().map(|time| time.timestamp());
    let time = match is_number {
        true => seconds(),
        false => span(text).ok().and_then(ago).or_else(|| text.parse().ok()).or_else(here),
    };
    time.and_then(|time| u64::try_from(time.as_millisecond()).ok()).map(Since).ok_or_else(|| {
        "expected how long ago, as 90s, 15m, 8h or 2d, or a time, as 2026-11-30T08:00:00Z or seconds since 1970".into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_as_docker_takes_them() {
        let now: Timestamp = "2026-11-30T08:00:00Z".parse().unwrap();
        let zone = TimeZone::fixed(jiff::tz::offset(2));
        let ms = |text: &str| u64::try_from(text.parse::<Timestamp>().unwrap().as_millisecond()).unwrap();
        for (text, meant) in [
            ("15m", "2026-11-30T07:45:00Z"),
            ("2d", "2026-11-28T08:00:00Z"),
            ("2026-11-30T07:59:59.5Z", "2026-11-30T07:59:59.5Z"),
            ("2026-11-30T09:00:00+01:00", "2026-11-30T08:00:00Z"),
            ("2026-11-30T09:00:00", "2026-11-30T07:00:00Z"),
            ("2026-11-30", "2026-11-29T22:00:00Z"),
            ("1764489600", "2025-11-30T08:00:00Z"),
            ("1764489600.25", "2025-11-30T08:00:00.25Z"),
        ] {
            assert_eq!(of(text, now, zone.clone()), Ok(Since(ms(meant))), "{text}");
        }
        for wrong in ["", "soon", "1w", "2026-13-01", "-5", "1.2.3"] {
            assert!(of(wrong, now, zone.clone()).is_err(), "{wrong}");
        }
    }
}
