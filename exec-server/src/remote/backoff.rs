//! How long to wait between attempts: doubling, capped, with jitter from a source that is handed in.

use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBackoff, ExponentialBuilder};

/// Yields random numbers of `[0, 1)`.
pub type Jitter = Box<dyn FnMut() -> f64 + Send>;

/// Delays that double up to a cap, each multiplied by a random factor out of a range.
#[derive(Debug)]
pub(super) struct Backoff {
    builder: ExponentialBuilder,
    delays: ExponentialBackoff,
    lowest: f64,
    highest: f64,
}

impl Backoff {
    /// Between attempts to connect to a rendezvous: about 1, 2, 4 … 30 s. Never earlier than a released executor of
    /// contracts A to D comes (5.1).
    pub(super) fn of_plain_rendezvous() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(30), 1.0, 1.25)
    }

    /// The same for contract E, where released executors wait between half and all of it (8.1).
    pub(super) fn of_noise_rendezvous() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(30), 0.5, 1.0)
    }

    /// After another executor took our place: 1, 2, 4 … 60 s and up to half of it more.
    pub(super) fn of_displaced() -> Self {
        Self::new(Duration::from_secs(1), Duration::from_secs(60), 1.0, 1.5)
    }

    /// Between attempts to register: 0.5, 1, 2, 4, 5, 5 … s and up to half of it more (6.1).
    pub(super) fn of_registry() -> Self {
        Self::new(Duration::from_millis(500), Duration::from_secs(5), 1.0, 1.5)
    }

    fn new(first: Duration, cap: Duration, lowest: f64, highest: f64) -> Self {
        let builder = ExponentialBuilder::new().with_min_delay(first).with_max_delay(cap).without_max_times();
        Self { builder, delays: builder.build(), lowest, highest }
    }

    /// The next delay.
    pub(super) fn next(&mut self, jitter: &mut Jitter) -> Duration {
        let delay = self.delays.next().unwrap_or_default();
        delay.mul_f64(self.lowest + (self.highest - self.lowest) * jitter())
    }

    /// Begins anew.
    pub(super) fn reset(&mut self) {
        self.delays = self.builder.build();
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
}
