//! When the next event is due, for who plays a recording.

use std::time::{Duration, Instant};

/// The pace of a recording that is played.
#[derive(Debug)]
pub struct Schedule {
    speed: f64,
    idle_limit: Option<Duration>,
    due: Instant,
    /// How long it is until then, while it is paused.
    paused: Option<Duration>,
}

impl Schedule {
    /// Begins `now`. A `speed` of 2 takes half of the time; no pause of the recording counts as longer than `idle_limit`.
    #[must_use]
    pub fn new(speed: f64, idle_limit: Option<Duration>, now: Instant) -> Self {
        Self { speed, idle_limit, due: now, paused: None }
    }

    /// The next event comes so long after the one before.
    pub fn next(&mut self, after: Duration) {
        let limited = self.idle_limit.map_or(after, |limit| after.min(limit));
        let wait = Duration::try_from_secs_f64(limited.as_secs_f64() / self.speed).unwrap_or(Duration::MAX);
        match &mut self.paused {
            Some(left) => *left = left.saturating_add(wait),
            None => self.due = self.due.checked_add(wait).unwrap_or(self.due),
        }
    }

    /// When the event is due; none while paused.
    #[must_use]
    pub fn due(&self) -> Option<Instant> {
        self.paused.is_none().then_some(self.due)
    }

    /// Pauses, or goes on.
    pub fn toggle(&mut self, now: Instant) {
        match self.paused.take() {
            Some(left) => self.due = now.checked_add(left).unwrap_or(now),
            None => self.paused = Some(self.due.saturating_duration_since(now)),
        }
    }

    /// The event is due now, and the pause, if there is one, stays.
    pub fn skip(&mut self, now: Instant) {
        match &mut self.paused {
            Some(left) => *left = Duration::ZERO,
            None => self.due = now,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn speed_and_idle_limit_shorten_waits_and_no_delay_adds_up() {
        let begin = Instant::now();
        let mut schedule = Schedule::new(2.0, Some(SECOND * 4), begin);
        schedule.next(SECOND);
        assert_eq!(schedule.due(), Some(begin + SECOND / 2));
        schedule.next(SECOND * 60);
        assert_eq!(schedule.due(), Some(begin + SECOND / 2 + SECOND * 2));
    }

    #[test]
    fn a_pause_keeps_what_is_left() {
        let begin = Instant::now();
        let mut schedule = Schedule::new(1.0, None, begin);
        schedule.next(SECOND * 10);
        schedule.toggle(begin + SECOND * 3);
        assert_eq!(schedule.due(), None);
        schedule.toggle(begin + SECOND * 100);
        assert_eq!(schedule.due(), Some(begin + SECOND * 107));
        schedule.skip(begin + SECOND * 101);
        assert_eq!(schedule.due(), Some(begin + SECOND * 101));
    }
}
