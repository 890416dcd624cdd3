//! When to try again after a lost connection (section 15.4); no I/O and no clock of its own.

use std::time::{Duration, Instant};

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Connect; the attempt may take this long.
    Try(Duration),
    /// Do nothing until then.
    Wait(Instant),
    /// The time is up.
    GiveUp,
}

/// At once, then after pauses until the deadline. Where they may grow they double from the first to the longest, and
/// each is between half and all of that at random: what breaks many connections at once must not bring all back at once.
#[derive(Debug)]
pub(super) struct Reconnect {
    deadline: Instant,
    first_pause: Duration,
    pause: Duration,
    longest_pause: Duration,
    next: Instant,
}

impl Reconnect {
    /// A schedule for a connection lost at `now`.
    pub(super) fn new(now: Instant, time: Duration, pause: Duration, longest_pause: Duration) -> Self {
        Self { deadline: now + time, first_pause: pause, pause, longest_pause, next: now }
    }

    /// What to do at `now`. A returned [`Step::Try`] counts as made.
    pub(super) fn step(&mut self, now: Instant) -> Step {
        if now >= self.deadline {
            return Step::GiveUp;
        }
        if now < self.next {
            return Step::Wait(self.next.min(self.deadline));
        }
        self.next = now + self.pause;
        Step::Try(self.deadline - now)
    }

    /// An attempt failed at `now`: the pause counts from its end. `random` is between 0 and 1.
    pub(super) fn failed(&mut self, now: Instant, random: f64) {
        if self.longest_pause > self.first_pause {
            self.next = now + self.pause.mul_f64(0.5 + random.clamp(0.0, 1.0) / 2.0);
            self.pause = (self.pause * 2).min(self.longest_pause);
        } else if self.next <= now {
            self.next = now + self.pause;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attempts_come_at_once_then_every_pause_until_the_time_is_up() {
        let start = Instant::now();
        let mut now = start;
        let pause = Duration::from_millis(100);
        let mut schedule = Reconnect::new(now, Duration::from_secs(25), pause, pause);
        let mut attempts = Vec::new();
        loop {
            match schedule.step(now) {
                Step::Try(left) => {
                    assert_eq!(left, Duration::from_secs(25) - (now - start));
                    attempts.push(now - start);
                }
                Step::Wait(until) => {
                    assert!(until > now, "a wait must move time on");
                    now = until;
                }
                Step::GiveUp => break,
            }
        }
        assert_eq!(attempts.len(), 250);
        assert_eq!(attempts[..3], [0, 100, 200].map(Duration::from_millis));
        assert_eq!(now - start, Duration::from_secs(25));
    }

    #[test]
    fn a_slow_attempt_is_followed_by_a_pause_not_by_a_burst() {
        let start = Instant::now();
        let pause = Duration::from_millis(100);
        let mut schedule = Reconnect::new(start, Duration::from_secs(25), pause, pause);
        assert!(matches!(schedule.step(start), Step::Try(_)));
        let later = start + Duration::from_secs(10);
        schedule.failed(later, 0.5);
        assert_eq!(schedule.step(later), Step::Wait(later + Duration::from_millis(100)));
    }

    #[test]
    fn pauses_grow_where_they_may() {
        let start = Instant::now();
        let (first, longest) = (Duration::from_millis(100), Duration::from_millis(500));
        for (random, expected) in [(1.0, [0, 100, 300, 700, 1200, 1700]), (0.0, [0, 50, 150, 350, 600, 850])]
        {
            let mut schedule = Reconnect::new(start, Duration::from_secs(25), first, longest);
            let mut now = start;
            let mut attempts = Vec::new();
            while attempts.len() < 6 {
                match schedule.step(now) {
                    Step::Try(_) => {
                        attempts.push((now - start).as_millis());
                        schedule.failed(now, random);
                    }
                    Step::Wait(until) => now = until,
                    Step::GiveUp => panic!("too early"),
                }
            }
            assert_eq!(attempts, expected);
        }
    }
}
