//! How much the console takes, holds and waits for.

use std::time::Duration;

/// The bounds of the console. Sizes are bytes.
#[derive(Debug, Clone)]
pub struct Limits {
    /// Connections of browsers at once; more wait to be accepted.
    pub connections: usize,
    /// Terminals that are open at once, in all windows; one more is refused.
    pub terminals: usize,
    /// Links and sessions that are good at once; one more is refused.
    pub grants: usize,
    /// Forwards at once; one more is refused.
    pub forwards: usize,
    /// Connections that one forward carries at once; more wait to be accepted.
    pub forwarded_connections: usize,
    /// Time for a browser to send the head of a request, or a body that is no file.
    pub request_time: Duration,
    /// How long the link that the command prints is good.
    pub first_link_life: Duration,
    /// How long whoever used that link stays signed in.
    pub session_life: Duration,
    /// The longest that a further link and its session may be good.
    pub longest_link_life: Duration,
    /// Output that a page has not drawn yet; then no more is sent until it has.
    pub undrawn_bytes: u64,
    /// Output that is asked of an exec-server at once.
    pub read_bytes: u64,
    /// Bytes that one search looks through; then the page asks for the next part.
    pub searched_bytes: u64,
    /// Lines that one search finds; then the page asks for the next part.
    pub found_lines: usize,
    /// Between pings to a page; after three without a sign of life the terminal is closed.
    pub ping_interval: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 256,
            terminals: 64,
            grants: 256,
            forwards: 64,
            forwarded_connections: 64,
            request_time: Duration::from_secs(20),
            first_link_life: Duration::from_secs(15 * 60),
            session_life: Duration::from_secs(12 * 3600),
            longest_link_life: Duration::from_secs(30 * 86_400),
            undrawn_bytes: 128 << 10,
            read_bytes: 64 << 10,
            searched_bytes: 16 << 20,
            found_lines: 200,
            ping_interval: Duration::from_secs(15),
        }
    }
}
