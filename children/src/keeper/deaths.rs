//! How servers die, and how often is too often.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// So many deaths within [`LATELY`] are too many.
/// A safeguard, far from any real use.
const TOO_MANY: usize = 5;
/// For how long a death counts.
/// A safeguard, far from any real use.
const LATELY: Duration = Duration::from_secs(60);
/// How long the start after a second death waits; twice as long after each that follows. Our own pace: nothing outside
/// depends on it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// How a server died.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Death {
    /// The signal that killed it; none for a panic.
    pub signal: Option<i32>,
    /// How many have died within the last minute, this one included.
    pub lately: usize,
}

impl Death {
    /// Whether no other server is to follow.
    pub(super) const fn is_one_too_many(&self) -> bool {
        self.lately >= TOO_MANY
    }

    /// How long to wait before the next start.
    pub(super) fn pause(&self) -> Duration {
        let Some(doublings) = self.lately.checked_sub(2) else { return Duration::ZERO };
        let doublings = u32::try_from(doublings).unwrap_or(u32::MAX);
        FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(doublings))
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.signal {
            Some(signal) => write!(f, "the server was killed by signal {signal}"),
            None => f.write_str("the server stopped in a panic"),
        }
    }
}

/// When servers died, lately.
#[derive(Debug, Default)]
pub(super) struct Deaths(VecDeque<Instant>);

impl Deaths {
    /// Counts one that happens now.
    pub(super) fn count(&mut self, signal: Option<i32>) -> Death {
        let now = Instant::now();
        self.0.push_back(now);
        while self.0.front().is_some_and(|death| now.duration_since(*death) > LATELY) {
            self.0.pop_front();
        }
        Death { signal, lately: self.0.len() }
    }
}
