//! A session's life: attached, detached, ended. No I/O.

use std::time::{Duration, Instant};

/// Names a connection of this server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct ConnectionId(pub(super) u64);

/// Where a session stands.
#[derive(Debug)]
pub(super) struct Life {
    state: State,
    last_detached: Option<Instant>,
    detached_time: Duration,
    /// The client has asked for that time.
    asked: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Attached(ConnectionId),
    Detached(Instant),
    Ended,
}

/// Why a connection can't have a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ResumeRefusal {
    /// Another connection has it and seems alive.
    Attached,
    /// Its time was up.
    Ended,
}

impl Life {
    pub(super) fn new(connection: ConnectionId, detached_time: Duration) -> Self {
        Self { state: State::Attached(connection), last_detached: None, detached_time, asked: false }
    }

    /// That of a session which an earlier server had: detached since it is known here.
    pub(super) fn detached(since: Instant, detached_time: Duration, asked: bool) -> Self {
        Self { state: State::Detached(since), last_detached: Some(since), detached_time, asked }
    }

    /// How long it lives without a connection.
    pub(super) fn detached_time(&self) -> Duration {
        self.detached_time
    }

    /// How long it lives without a connection, from its next loss on.
    pub(super) fn set_detached_time(&mut self, time: Duration) {
        self.detached_time = time;
        self.asked = true;
    }

    /// Whether the client asked for the time.
    pub(super) fn was_asked(&self) -> bool {
        self.asked
    }

    /// Whether a connection has it.
    pub(super) fn is_attached(&self) -> bool {
        matches!(self.state, State::Attached(_))
    }

    /// A connection resumes the session. At the deadline the end wins (5.3).
    pub(super) fn attach(&mut self, connection: ConnectionId, now: Instant) -> Result<(), ResumeRefusal> {
        match self.state {
            State::Attached(_) => Err(ResumeRefusal::Attached),
            State::Detached(since) if now < since + self.detached_time => {
                self.state = State::Attached(connection);
                Ok(())
            }
            State::Detached(_) | State::Ended => Err(ResumeRefusal::Ended),
        }
    }

    /// A connection is gone. When its time will be up, if it was the session's.
    pub(super) fn detach(&mut self, connection: ConnectionId, now: Instant) -> Option<Instant> {
        if self.state != State::Attached(connection) {
            return None;
        }
        self.state = State::Detached(now);
        self.last_detached = Some(now);
        Some(now + self.detached_time)
    }

    /// Whether the session has been detached without a break since `since`.
    pub(super) fn is_detached_since(&self, since: Instant) -> bool {
        self.state == State::Detached(since)
    }

    /// Whether the session was detached again after `since`.
    pub(super) fn was_detached_after(&self, since: Instant) -> bool {
        self.last_detached.is_some_and(|last| last > since)
    }

    /// Ends the session if its time is up; true the first time.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        match self.state {
            State::Detached(since) if now >= since + self.detached_time => self.end(),
            _ => false,
        }
    }

    /// Since when the session has been detached.
    pub(super) fn detached_since(&self) -> Option<Instant> {
        match self.state {
            State::Detached(since) => Some(since),
            State::Attached(_) | State::Ended => None,
        }
    }

    /// Ends the session if it has been detached without a break since `since`.
    pub(super) fn end_detached(&mut self, since: Instant) -> bool {
        self.is_detached_since(since) && self.end()
    }

    /// Ends the session if the connection has it.
    pub(super) fn end_attached(&mut self, connection: ConnectionId) -> bool {
        self.state == State::Attached(connection) && self.end()
    }

    /// Ends the session; true the first time.
    pub(super) fn end(&mut self) -> bool {
        std::mem::replace(&mut self.state, State::Ended) != State::Ended
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: ConnectionId = ConnectionId(1);
    const B: ConnectionId = ConnectionId(2);
    const TTL: Duration = Duration::from_secs(80);

    #[test]
    fn an_attached_session_refuses_a_newcomer_and_stays() {
        let now = Instant::now();
        let mut life = Life::new(A, TTL);
        assert_eq!(life.attach(B, now), Err(ResumeRefusal::Attached));
        assert_eq!(life.detach(B, now), None, "it was not B's");
        assert!(!life.expire(now + TTL * 2));
        assert!(life.detach(A, now).is_some());
    }

    #[test]
    fn a_detached_session_can_be_resumed_until_its_deadline_exactly() {
        let now = Instant::now();
        let just_before = now + TTL - Duration::from_nanos(1);
        let mut life = Life::new(A, TTL);
        life.detach(A, now);
        assert!(!life.expire(just_before));
        assert_eq!(life.attach(B, just_before), Ok(()));
        life.detach(B, now);
        assert_eq!(life.attach(A, now + TTL), Err(ResumeRefusal::Ended), "at the deadline the end wins");
        assert!(life.expire(now + TTL) && !life.expire(now + TTL), "it ends once");
    }

    #[test]
    fn a_timer_of_an_earlier_detachment_means_nothing() {
        let now = Instant::now();
        let mut life = Life::new(A, TTL);
        life.detach(A, now);
        life.attach(B, now).unwrap();
        let later = now + Duration::from_secs(50);
        life.detach(B, later);
        assert!(!life.is_detached_since(now) && life.is_detached_since(later));
        assert!(!life.expire(now + TTL));
    }
}
