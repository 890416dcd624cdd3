//! Every bound of the server, in one place: its default, and what happens at it.

use std::time::Duration;

/// The bounds. `Default` gives the released programs' values where `protocol.md` section 16 has one, but for larger chunks
/// of output, which cost less for each byte, and longer queues of writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once; one more is refused with HTTP 503.
    pub connections: usize,
    /// Sessions, attached and detached; one more `initialize` is refused with `-32600`.
    pub sessions: usize,
    /// Processes of one session; one more start evicts the oldest closed one, or is refused with `-32600`.
    pub processes_per_session: usize,
    /// Output retained for one process, over all streams; then the oldest goes, or the program waits.
    pub retained_output_bytes: usize,
    /// Largest chunk of output, the size of one read.
    pub output_chunk_bytes: usize,
    /// Received websocket frame; a larger one ends the connection (2.3).
    pub frame_bytes: usize,
    /// Received websocket message; a larger one ends the connection (2.3).
    pub message_bytes: usize,
    /// Received line on a pipe or Unix socket; a longer one ends the connection (3).
    pub line_bytes: usize,
    /// HTTP request head of an upgrade; a larger one is answered with 431.
    pub http_head_bytes: usize,
    /// Time for a peer to send its HTTP head or first line; then the connection ends.
    pub handshake_time: Duration,
    /// Encoded answers and notifications that wait for a socket, for one connection; then nothing more is encoded.
    pub outgoing_bytes: usize,
    /// Requests of one connection in work or waiting for their answer to be sent; then the reader stops reading.
    pub requests_in_flight: usize,
    /// Bytes of the requests in flight; then the reader stops reading.
    pub in_flight_bytes: usize,
    /// Memory of one connection's answers that hold files or directories, and once more of those that hold HTTP bodies,
    /// from before they are read until the socket took them; more wait. A single larger one goes alone.
    pub answer_bytes: usize,
    /// Slow requests (files, HTTP) of one connection that run, or whose answers the socket has not taken, at once;
    /// more wait their turn. A waiting `process/read` or `process/wait` needs no turn.
    pub concurrent_requests: usize,
    /// Bytes queued for one process's stdin; then the next write waits for its answer.
    pub queued_write_bytes: usize,
    /// Writes queued for one process's stdin; then the next write waits for its answer.
    pub queued_writes: usize,
    /// `writeId`s remembered for one process; the oldest is forgotten first (8.4).
    pub remembered_write_ids: usize,
    /// Life of a session without connection; then everything it owns ends (5.3).
    pub detached_time: Duration,
    /// How long a full log stalls its program with nobody attached; then the oldest output goes.
    pub hold_time: Duration,
    /// Life of an ended process's record after close (8.6).
    pub ended_process_time: Duration,
    /// How long an attached connection may take to answer the ping that a newcomer sets off.
    pub challenge_time: Duration,
    /// Between pings of the server (2.3).
    pub ping_interval: Duration,
    /// Without any sign of life for this long, a peer counts as gone.
    pub silence_time: Duration,
    /// Open file handles of one connection (10.10); one more is refused with `-32600`.
    pub file_handles: usize,
    /// Length of a file handle's id in bytes (10.10).
    pub handle_id_bytes: usize,
    /// Largest file for `fs/readFile` (10.1); a larger one is refused with `-32600`.
    pub read_file_bytes: u64,
    /// Largest block (10.10); a larger one is refused with `-32600`.
    pub block_bytes: u64,
    /// Paths of one `fs/watchMissing` (10.11); more make it answer false.
    pub watched_paths: usize,
    /// Depth of a walk (10.7); a larger option is refused with `-32600`.
    pub walk_depth: u64,
    /// Directories of a walk (10.7).
    pub walk_directories: u64,
    /// Entries of a walk (10.7).
    pub walk_entries: u64,
    /// Size of a walk's result, counted as 64 bytes and the URI for each entry (10.7).
    pub walk_result_bytes: usize,
    /// Helpers for file operations under sandboxes, of one connection at once; more operations wait for one.
    pub file_helpers: usize,
    /// Those of them that are kept ready between operations; the one that was not used for the longest time goes.
    pub idle_file_helpers: usize,
    /// Entries of a sandbox's profile; more are refused with `-32600`.
    pub sandbox_entries: usize,
    /// Names looked at to find what the patterns of a profile deny; for more the profile is refused with `-32600`.
    pub sandbox_scanned_names: usize,
    /// Paths denied by the patterns of a profile, each of which costs a mount; for more it is refused with `-32600`.
    pub sandbox_matches: usize,
    /// Buffered HTTP response body; a larger one is `-32603`, with the advice to stream it.
    pub http_body_bytes: usize,
    /// Running HTTP streams of one connection; one more is refused with `-32602`.
    pub http_streams: usize,
    /// Redirects followed for one request; one more is `-32603`.
    pub http_redirects: usize,
    /// Connections of one process to its network proxy at once, at most a sixteenth of the descriptors that the server
    /// may open; more wait (13).
    pub network_connections: usize,
    /// HTTP request head at a network proxy; a larger one is answered with 431.
    pub network_head_bytes: usize,
    /// Time for a program to send a request's head to its network proxy, or its next one; then the connection ends.
    pub network_head_time: Duration,
    /// Time for a network proxy to look a host up and to connect to it; then it answers with 504.
    pub network_connect_time: Duration,
    /// `network/policyRequest`s that one connection has not answered; more wait their turn, and their time runs.
    pub network_questions: usize,
    /// Bytes of a virtual stream's messages that wait for their turn; one more message ends the stream (remote.md 8).
    pub stream_incoming_bytes: usize,
    /// Bytes of a virtual stream's messages that wait for the websocket; then nothing more is encoded for it.
    pub stream_outgoing_bytes: usize,
    /// Longest message on a relay (remote.md 7.1); a longer answer becomes `-32603`.
    pub stream_message_bytes: usize,
    /// Open streams of one rendezvous' websocket; one more is refused (Noise) or not made (plain relay).
    pub relay_streams: usize,
    /// Handshakes that wait for the registry at once; one more is refused.
    pub relay_handshakes: usize,
    /// Failed handshakes of one websocket; then all are refused for `relay_failure_pause`.
    pub relay_failures: u32,
    /// How long handshakes are refused after too many failed ones.
    pub relay_failure_pause: Duration,
    /// Incomplete messages of all streams of one websocket; the stream that goes beyond it is closed.
    pub relay_assembled_bytes: usize,
    /// Largest wait of a request (`waitMs`, `timeoutMs`, `graceMs`); longer ones are cut to it.
    pub longest_wait: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        const MIB: usize = 1 << 20;
        Self {
            connections: 1024,
            sessions: 1024,
            processes_per_session: 1024,
            retained_output_bytes: MIB,
            output_chunk_bytes: 64 << 10,
            frame_bytes: 16 * MIB,
            message_bytes: 64 * MIB,
            line_bytes: 64 * MIB,
            http_head_bytes: 16 << 10,
            handshake_time: Duration::from_secs(30),
            outgoing_bytes: 512 << 10,
            requests_in_flight: 1024,
            in_flight_bytes: 64 * MIB,
            answer_bytes: 64 * MIB,
            concurrent_requests: 64,
            queued_write_bytes: 8 * MIB,
            queued_writes: 4096,
            remembered_write_ids: 4096,
            detached_time: Duration::from_secs(80),
            hold_time: Duration::from_secs(30),
            ended_process_time: Duration::from_secs(80),
            challenge_time: Duration::from_secs(2),
            ping_interval: Duration::from_secs(30),
            silence_time: Duration::from_secs(90),
            file_handles: 128,
            handle_id_bytes: 32,
            read_file_bytes: 512 << 20,
            block_bytes: 1 << 20,
            watched_paths: 64,
            walk_depth: 64,
            walk_directories: 10_000,
            walk_entries: 50_000,
            walk_result_bytes: 4 * MIB,
            file_helpers: 8,
            idle_file_helpers: 4,
            sandbox_entries: 1024,
            sandbox_scanned_names: 200_000,
            sandbox_matches: 1024,
            http_body_bytes: 512 * MIB,
            http_streams: 128,
            http_redirects: 10,
            network_connections: 256,
            network_head_bytes: 64 << 10,
            network_head_time: Duration::from_secs(60),
            network_connect_time: Duration::from_secs(30),
            network_questions: 64,
            stream_incoming_bytes: 64 * MIB,
            stream_outgoing_bytes: 256 << 10,
            stream_message_bytes: 64 * MIB,
            relay_streams: 128,
            relay_handshakes: 32,
            relay_failures: 8,
            relay_failure_pause: Duration::from_secs(10),
            relay_assembled_bytes: 256 * MIB,
            longest_wait: Duration::from_secs(24 * 3600),
        }
    }
}

/// What a limit's text says: a whole number, or milliseconds for a time.
trait FromNumber {
    fn from_number(number: u64) -> Option<Self>
    where
        Self: Sized;
}

impl FromNumber for usize {
    fn from_number(number: u64) -> Option<Self> {
        Self::try_from(number).ok()
    }
}

impl FromNumber for u32 {
    fn from_number(number: u64) -> Option<Self> {
        Self::try_from(number).ok()
    }
}

impl FromNumber for u64 {
    fn from_number(number: u64) -> Option<Self> {
        Some(number)
    }
}

impl FromNumber for Duration {
    fn from_number(number: u64) -> Option<Self> {
        Some(Self::from_millis(number))
    }
}

/// A limit that can't be set.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LimitError {
    /// No limit of this name.
    #[error("unknown limit {0:?}")]
    Unknown(String),
    /// Not a whole number in range.
    #[error("limit {name} takes a whole number (milliseconds for a time), not {value:?}")]
    Value {
        /// The limit.
        name: String,
        /// What was given.
        value: String,
    },
}

impl Limits {
    /// Sets the limit `name` from text: a whole number, or milliseconds for a time.
    ///
    /// # Errors
    /// An unknown name, or a value that is no number in range.
    pub fn set(&mut self, name: &str, value: &str) -> Result<(), LimitError> {
        let wrong = || LimitError::Value { name: name.to_owned(), value: value.to_owned() };
        let number: u64 = value.parse().map_err(|_| wrong())?;
        macro_rules! set {
            ($($field:ident)*) => {
                match name {
                    $(stringify!($field) => self.$field = FromNumber::from_number(number).ok_or_else(wrong)?,)*
                    _ => return Err(LimitError::Unknown(name.to_owned())),
                }
            };
        }
        set! {
            connections
            sessions
            processes_per_session
            retained_output_bytes
            output_chunk_bytes
            frame_bytes
            message_bytes
            line_bytes
            http_head_bytes
            handshake_time
            outgoing_bytes
            requests_in_flight
            in_flight_bytes
            answer_bytes
            concurrent_requests
            queued_write_bytes
            queued_writes
            remembered_write_ids
            detached_time
            hold_time
            ended_process_time
            challenge_time
            ping_interval
            silence_time
            file_handles
            handle_id_bytes
            read_file_bytes
            block_bytes
            watched_paths
            walk_depth
            walk_directories
            walk_entries
            walk_result_bytes
            file_helpers
            idle_file_helpers
            sandbox_entries
            sandbox_scanned_names
            sandbox_matches
            http_body_bytes
            http_streams
            http_redirects
            network_connections
            network_head_bytes
            network_head_time
            network_connect_time
            network_questions
            stream_incoming_bytes
            stream_outgoing_bytes
            stream_message_bytes
            relay_streams
            relay_handshakes
            relay_failures
            relay_failure_pause
            relay_assembled_bytes
            longest_wait
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_set_by_name() {
        let mut limits = Limits::default();
        limits.set("sessions", "3").unwrap();
        limits.set("detached_time", "1500").unwrap();
        assert_eq!((limits.sessions, limits.detached_time), (3, Duration::from_millis(1500)));
        assert_eq!(limits.set("nope", "1"), Err(LimitError::Unknown("nope".into())));
        assert!(limits.set("sessions", "-1").is_err());
    }
}
