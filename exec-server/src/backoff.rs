//! How long to wait between attempts, whoever makes them: doubling, capped, with jitter from a source that is handed in.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Yields random numbers of `[0, 1)`.
pub type Jitter = Box<dyn FnMut() -> f64 + Send>;

/// Delays that double up to a cap, each multiplied by a random factor out of a range.
#[derive(Debug)]
pub(crate) struct Backoff {
    builder: ExponentialBuilder,
    delays: ExponentialBackoff,
    lowest: f64,
    highest: f64,
}

impl Backoff {
    /// Between attempts to connect to a rendezvous: about 1, 2, 4 … 30 s. Never earlier than a released executor of
    /// contracts A to D comes (5.1).
    pub(crate) fn of_plain_rendezvous() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(30), 1.0, 1.25)
    }

    /// The same for contract E, where released executors wait between half and all of it (8.1).
    pub(crate) fn of_noise_rendezvous() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(30), 0.5, 1.0)
    }

    /// After another executor took our place: 1, 2, 4 … 60 s and up to half of it more.
    pub(crate) fn of_displaced() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(60), 1.0, 1.5)
    }

    /// Between attempts to register: 0.5, 1, 2, 4, 5, 5 … s and up to half of it more (remote.md 6.1).
    pub(crate) fn of_registry() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(5), 1.0, 1.5)
    }

    /// Between a harness's attempts of one round through its registry: 0.4, 0.8 … 4 s and up to as much more. So the
    /// attempts come after about 0.6, 1.8 and 4 s, as those of released clients.
    pub(crate) fn of_registry_round() -> Self {
        Self::new(Duration::from_millis(400), Duration::from_secs(4), 1.0, 2.0)
    }

    /// Between attempts to come back after a loss, through services that others share: `pause` doubled up to 5 s, half of
    /// it at least: what breaks many connections at once must not bring all back at once.
    pub(crate) fn of_shared_reconnect(pause: Duration) -> Self {
        Self::new(pause, pause.max(Duration::from_secs(5)), 0.5, 1.0)
    }

    /// Between attempts to reach an environment that somebody asked for: 1, 2, 4 … 30 s and up to a quarter more (15.2).
    pub(crate) fn of_environment() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(30), 1.0, 1.25)
    }

    /// Always the same: between attempts to reach a server that is one's own.
    pub(crate) fn steady(pause: Duration) -> Self {
        Self::new(pause, pause, 1.0, 1.0)
    }

    fn new(first: Duration, cap: Duration, lowest: f64, highest: f64) -> Self {
        let builder = ExponentialBuilder::new().with_min_delay(first).with_max_delay(cap).without_max_times();
        Self { builder, delays: builder.build(), lowest, highest }
    }

    /// The next delay.
    pub(crate) fn next(&mut self, jitter: &mut dyn FnMut() -> f64) -> Duration {
        let delay = self.delays.next().unwrap_or_default();
        delay.mul_f64(self.lowest + (self.highest - self.lowest) * jitter())
    }

    /// Begins anew.
    pub(crate) fn reset(&mut self) {
        self.delays = self.builder.build();
    }
}

/// What to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Connect; the attempt may take this long.
    Try(Duration),
    /// Do nothing until then.
    Wait(Instant),
    /// The time is up.
    GiveUp,
}

/// Attempts after a lost connection (section 15.4): at once, then after pauses until the deadline. No clock of its own.
#[derive(Debug)]
pub(crate) struct Reconnect {
    deadline: Instant,
    pauses: Backoff,
    next: Instant,
}

impl Reconnect {
    /// A schedule for a connection lost at `now`, for as long as `time`.
    pub(crate) fn new(now: Instant, time: Duration, pauses: Backoff) -> Self {
        Self { deadline: now + time, pauses, next: now }
    }

    /// What to do at `now`. [`Self::failed`] follows a returned [`Step::Try`] that did not work.
    pub(crate) fn step(&mut self, now: Instant) -> Step {
        if now >= self.deadline {
            Step::GiveUp
        } else if now < self.next {
            Step::Wait(self.next.min(self.deadline))
        } else {
            Step::Try(self.deadline - now)
        }
    }

    /// An attempt failed at `now`: the pause counts from its end.
    pub(crate) fn failed(&mut self, now: Instant, jitter: &mut dyn FnMut() -> f64) {
        self.next = now + self.pauses.next(jitter);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(backoff: &mut Backoff, jitter: f64) -> Vec<f64> {
        let mut source: Jitter = Box::new(move || jitter);
        (0..7).map(|_| backoff.next(&mut source).as_secs_f64()).collect()
    }

    #[test]
    fn delays_double_up_to_their_cap_within_their_spread() {
        /// How it is made, and the seven delays at their least and at their most.
        type Case = (fn() -> Backoff, [f64; 7], [f64; 7]);
        let cases: [Case; 3] = [
            (
                Backoff::of_plain_rendezvous,
                [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0],
                [1.25, 2.5, 5.0, 10.0, 20.0, 37.5, 37.5],
            ),
            (
                Backoff::of_noise_rendezvous,
                [0.5, 1.0, 2.0, 4.0, 8.0, 15.0, 15.0],
                [1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0],
            ),
            (Backoff::of_registry, [0.5, 1.0, 2.0, 4.0, 5.0, 5.0, 5.0], [0.75, 1.5, 3.0, 6.0, 7.5, 7.5, 7.5]),
        ];
        for (make, least, most) in cases {
            assert_eq!(seconds(&mut make(), 0.0), least);
            assert_eq!(seconds(&mut make(), 1.0), most);
            let mut again = make();
            seconds(&mut again, 0.0);
            again.reset();
            assert_eq!(seconds(&mut again, 0.0), least, "a reset begins anew");
        }
    }

    /// The attempts of a schedule, each failing at once, as milliseconds from the loss; at most `most`.
    fn attempts(pauses: Backoff, jitter: f64, most: usize) -> Vec<u128> {
        let start = Instant::now();
        let mut jitter: Jitter = Box::new(move || jitter);
        let mut schedule = Reconnect::new(start, Duration::from_secs(25), pauses);
        let (mut now, mut attempts) = (start, Vec::new());
        while attempts.len() < most {
            match schedule.step(now) {
                Step::Try(left) => {
                    assert_eq!(left, Duration::from_secs(25) - (now - start));
                    attempts.push((now - start).as_millis());
                    schedule.failed(now, &mut jitter);
                }
                Step::Wait(until) => {
                    assert!(until > now, "a wait must move time on");
                    now = until;
                }
                Step::GiveUp => break,
            }
        }
        attempts
    }

    #[test]
    fn attempts_come_at_once_then_every_pause_until_the_time_is_up() {
        let attempts = attempts(Backoff::steady(Duration::from_millis(100)), 0.5, usize::MAX);
        assert_eq!((attempts.len(), &attempts[..3]), (250, &[0, 100, 200][..]));
    }

    #[test]
    fn a_slow_attempt_is_followed_by_a_pause_not_by_a_burst() {
        let start = Instant::now();
        let pauses = Backoff::steady(Duration::from_millis(100));
        let mut schedule = Reconnect::new(start, Duration::from_secs(25), pauses);
        assert!(matches!(schedule.step(start), Step::Try(_)));
        let later = start + Duration::from_secs(10);
        schedule.failed(later, &mut (Box::new(|| 0.5) as Jitter));
        assert_eq!(schedule.step(later), Step::Wait(later + Duration::from_millis(100)));
    }

    #[test]
    fn pauses_through_shared_services_grow() {
        let pauses = || Backoff::of_shared_reconnect(Duration::from_secs(1));
        assert_eq!(attempts(pauses(), 1.0, 6), [0, 1000, 3000, 7000, 12_000, 17_000]);
        assert_eq!(attempts(pauses(), 0.0, 6), [0, 500, 1500, 3500, 6000, 8500]);
    }
}
