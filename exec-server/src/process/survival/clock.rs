//! The boot clock, by which deadlines are kept over servers.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Milliseconds of the boot clock, which goes on while the machine sleeps.
pub(crate) fn boot_ms() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    let ms = Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
        .as_millis();
    u64::try_from(ms).unwrap_or(u64::MAX)
}
