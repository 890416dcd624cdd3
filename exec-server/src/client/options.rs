//! What a client is told of waits and bounds.

use std::sync::Arc;
use std::time::Duration;

use codex_outgoing::Outgoing;

/// Says whether something rests at the moment. It is asked before each attempt and must not wait.
#[derive(Clone, Default)]
pub struct Rest(Option<Arc<dyn Fn() -> bool + Send + Sync>>);

impl Rest {
    /// It rests while `rests` says so.
    pub fn new(rests: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(rests)))
    }

    /// Whether it rests now; never by default.
    pub fn now(&self) -> bool {
        self.0.as_ref().is_some_and(|rests| rests())
    }
}

impl std::fmt::Debug for Rest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Rest").field(&self.0.is_some()).finish()
    }
}

/// The waits and bounds of a client; the defaults are those of section 16.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Who connects, for the server's logs.
    pub client_name: String,
    /// How long the session is to live without a connection, where the server knows that; its own time by default (5.3).
    pub detached_time: Option<Duration>,
    /// For the connection and, on a websocket, its upgrade.
    pub connect_time: Duration,
    /// For `initialize` and its answer.
    pub initialize_time: Duration,
    /// After a loss, for as long as this a resume is tried; then everything fails.
    pub recovery_time: Duration,
    /// Between two attempts to resume.
    pub retry_pause: Duration,
    /// Between our pings, to a rendezvous and to a server that is reached over TCP: only we look after our connection.
    pub ping_interval: Duration,
    /// Without anything from either for this long, the connection counts as lost. The other side may have given us up long
    /// before, and then the session has been without us since: this and the time to come back have to fit into the life of a
    /// detached session, which is 80 s (5.3).
    pub silence_time: Duration,
    /// Bytes queued for one follower; then the socket is not read.
    pub queue_bytes: usize,
    /// The same while a call waits for its answer.
    pub queue_bytes_with_calls: usize,
    /// Bytes held back behind a missing number; then the gap is reported as lost.
    pub held_bytes: usize,
    /// Requests queued for the socket; then further calls wait.
    pub queued_requests: usize,
    /// For a server that was started as a child, from SIGTERM to SIGKILL.
    pub child_grace: Duration,
    /// Sent as `X-Request-ID` with the upgrade of each websocket, for the logs of whatever stands between; nothing is sent
    /// without one (15.2).
    pub request_id: Option<String>,
    /// While it says so, no attempt to come back is made after a loss.
    pub rest: Rest,
    /// Whom TLS trusts, and through which proxies servers, registries and rendezvous are reached.
    pub outgoing: Outgoing,
}

impl Default for ClientOptions {
    fn default() -> Self {
        Self {
            client_name: "codex-environment".into(),
            detached_time: None,
            connect_time: Duration::from_secs(10),
            initialize_time: Duration::from_secs(10),
            recovery_time: Duration::from_secs(25),
            retry_pause: Duration::from_millis(100),
            ping_interval: Duration::from_secs(15),
            silence_time: Duration::from_secs(45),
            queue_bytes: 2 << 20,
            queue_bytes_with_calls: 16 << 20,
            held_bytes: 4 << 20,
            queued_requests: 128,
            child_grace: Duration::from_secs(2),
            request_id: None,
            rest: Rest::default(),
            outgoing: Outgoing::default(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Limits;

    #[test]
    fn what_is_noticed_late_can_still_be_resumed() {
        let options = ClientOptions::default();
        let back = options.silence_time + options.connect_time + options.initialize_time;
        assert!(back < Limits::default().session.detached_time);
        assert!(options.ping_interval * 2 < options.silence_time, "one lost ping is no silence");
    }
}
