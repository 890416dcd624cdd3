//! When a peer is asked for a sign of life.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior};

use crate::client::options::ClientOptions;

/// Pings don't come more often, whatever the options say. A safeguard, far from any real use.
const SHORTEST_INTERVAL: Duration = Duration::from_millis(1);

/// Ticks when a ping is due.
pub(super) fn pings(options: &ClientOptions) -> Interval {
    let interval = options.ping_interval.max(SHORTEST_INTERVAL);
    let mut pings = tokio::time::interval_at(Instant::now() + interval, interval);
    pings.set_missed_tick_behavior(MissedTickBehavior::Delay);
    pings
}
