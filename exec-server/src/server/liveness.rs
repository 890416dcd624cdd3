//! Whether the peer of a connection still lives: pings, pongs and a newcomer's challenge. No I/O.

use std::time::{Duration, Instant};

use crate::Limits;

/// More than the system keeps for a connection whose peer takes nothing (the upper end of Linux' `tcp_wmem`).
const KEPT_BY_SOCKET: u64 = 4 << 20;

/// The state machine. Its owner tells it what happens and when, and asks what to do.
#[derive(Debug)]
pub(crate) struct Liveness {
    ping_interval: Duration,
    silence_time: Duration,
    challenge_time: Duration,
    last_heard: Instant,
    next_ping: Instant,
    challenged_until: Option<Instant>,
}

/// What a connection has to do next to learn whether its peer is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    Nothing,
    Ping,
    /// The peer counts as gone.
    Gone,
}

impl Liveness {
    pub(crate) fn new(now: Instant, limits: &Limits) -> Self {
        Self {
            ping_interval: limits.transport.ping_interval,
            silence_time: limits.transport.silence_time,
            challenge_time: limits.session.challenge_time,
            last_heard: now,
            next_ping: now + limits.transport.ping_interval,
            challenged_until: None,
        }
    }

    /// Of a virtual stream: the websocket below it is watched elsewhere, so only a challenge can find it gone.
    pub(crate) fn of_stream(now: Instant, limits: &Limits) -> Self {
        const NEVER: Duration = Duration::from_secs(u32::MAX as u64);
        let limits = limits.clone().with(|limits| {
            limits.transport.ping_interval = NEVER;
            limits.transport.silence_time = NEVER;
        });
        Self::new(now, &limits)
    }

    /// A sign of life.
    pub(crate) fn heard(&mut self, now: Instant) {
        self.last_heard = now;
        self.challenged_until = None;
    }

    /// This many bytes went out since the last call. More than a dead peer's socket would have taken is a sign of life:
    /// after a large answer on a slow line, a ping and its pong come late.
    pub(crate) fn taken(&mut self, bytes: u64, now: Instant) {
        if bytes > KEPT_BY_SOCKET {
            self.heard(now);
        }
    }

    /// Somebody else wants the session: a ping is to be sent, and answered in time.
    pub(crate) fn challenge(&mut self, now: Instant) {
        self.challenged_until.get_or_insert(now + self.challenge_time);
    }

    /// What is due at `now`.
    pub(crate) fn due(&mut self, now: Instant) -> Due {
        if self.gone_at() <= now {
            return Due::Gone;
        }
        if self.next_ping <= now {
            self.next_ping = now + self.ping_interval;
            return Due::Ping;
        }
        Due::Nothing
    }

    fn gone_at(&self) -> Instant {
        let silent = self.last_heard + self.silence_time;
        self.challenged_until.map_or(silent, |until| until.min(silent))
    }

    /// When to ask again.
    pub(crate) fn next_wake(&self) -> Instant {
        self.gone_at().min(self.next_ping)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn a_silent_peer_is_pinged_and_then_gone() {
        let start = Instant::now();
        let mut live = Liveness::new(start, &Limits::default());
        assert_eq!(live.due(start + seconds(29)), Due::Nothing);
        assert_eq!(live.due(start + seconds(30)), Due::Ping);
        assert_eq!(live.due(start + seconds(31)), Due::Nothing);
        assert_eq!(live.due(start + seconds(60)), Due::Ping);
        assert_eq!(live.next_wake(), start + seconds(90));
        assert_eq!(live.due(start + seconds(90)), Due::Gone);
    }

    #[test]
    fn a_peer_that_answers_stays() {
        let start = Instant::now();
        let mut live = Liveness::new(start, &Limits::default());
        for at in (10..1000).step_by(10) {
            assert_ne!(live.due(start + seconds(at)), Due::Gone);
            live.heard(start + seconds(at));
        }
    }

    #[test]
    fn a_peer_that_takes_a_large_answer_slowly_stays_and_one_that_takes_nothing_does_not() {
        let start = Instant::now();
        let mut live = Liveness::new(start, &Limits::default());
        for at in (30..=600).step_by(30) {
            live.taken(KEPT_BY_SOCKET + 1, start + seconds(at));
            assert_ne!(live.due(start + seconds(at)), Due::Gone, "at {at}");
        }
        live.taken(KEPT_BY_SOCKET, start + seconds(630));
        live.taken(1000, start + seconds(660));
        assert_eq!(live.due(start + seconds(690)), Due::Gone, "what the socket keeps proves nothing");
    }

    #[test]
    fn a_challenge_unanswered_for_two_seconds_lets_the_peer_go() {
        let start = Instant::now();
        let mut live = Liveness::new(start, &Limits::default());
        live.challenge(start + seconds(5));
        live.challenge(start + seconds(6));
        assert_eq!(live.due(start + seconds(6)), Due::Nothing);
        assert_eq!(live.due(start + seconds(7)), Due::Gone);
        live.heard(start + seconds(6));
        assert_eq!(live.due(start + seconds(7)), Due::Nothing);
    }
}
