//! Every bound of the rendezvous, with its default and what happens when it is reached.

use std::time::Duration;

/// Longest environment or executor id.
pub const ID_BYTES: usize = 256;
/// Largest websocket message of a Noise relay (`remote.md` 8); more closes the socket with 1009.
pub const NOISE_MESSAGE_BYTES: usize = 256 << 10;
/// Largest websocket message of a plain relay (4.1); more closes the socket with 1009.
pub const PLAIN_MESSAGE_BYTES: usize = 16 << 20;
/// Largest body of a request to the registry; more is answered with 413.
pub const BODY_BYTES: usize = 16 << 10;
/// Largest head of a request; more is answered with 431.
pub const HEAD_BYTES: usize = 16 << 10;
/// What a queued frame costs besides its bytes.
pub const FRAME_OVERHEAD: usize = 64;

/// The bounds an operator may set. `Limits::default()` suits a machine with 1 GiB to spare.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections at once, sockets included. More are closed as soon as they are accepted.
    pub connections: usize,
    /// Requests and upgrades a token may make each second, on average. More are answered with 429,
    /// registrations with 503 and `registration_conflict`, which executors try again.
    pub requests_per_second: u32,
    /// Requests a token may save up for a burst.
    pub request_burst: u32,
    /// Environments registered with one token. At the bound the one whose executor has been away longest is
    /// forgotten; when none is away the registration is refused with 429.
    pub environments: usize,
    /// Harness sockets of one token. More are refused with 429.
    pub sockets: usize,
    /// Streams of all sockets of one token. Frames that would open more are answered with a reset.
    pub streams: usize,
    /// Streams of one harness socket, likewise. An executor keeps 128.
    pub socket_streams: usize,
    /// Longest stream id in bytes; frames with a longer one are dropped.
    pub stream_id_bytes: usize,
    /// Bytes queued for one socket. While its queue is full, the socket that writes to it is not read. One message of
    /// any size fits into an empty queue.
    pub queue_bytes: usize,
    /// Bytes queued for all sockets of one token. The socket whose queue goes over it is closed with 1013.
    pub token_queue_bytes: usize,
    /// How long a socket with a full queue may take no byte before it is closed with 1013.
    pub stall: Duration,
    /// How long a full harness queue may, in sum, keep the executor from being read while other harnesses use
    /// the same environment; then that harness is closed with 1013. Earned back at a quarter of the time.
    pub hold: Duration,
    /// Life of a harness's ticket and authorization. Older ones are refused; the harness asks again.
    pub ticket_life: Duration,
    /// Authorizations of one environment that wait for their handshake. At the bound the oldest is dropped.
    pub authorizations: usize,
    /// How long an environment is remembered while its executor is away.
    pub retention: Duration,
    /// How long a request's head may take, a TLS handshake, and the whole of a request.
    pub request_time: Duration,
    /// Pause between pings to a socket.
    pub ping_every: Duration,
    /// A socket from which nothing has come for this long is closed.
    pub silence: Duration,
    /// How long the last words of a socket may take, at its close and at the end of the program.
    pub farewell: Duration,
    /// How long a registration waits for the disk before it is answered all the same.
    pub store_time: Duration,
    /// Changes on their way to the disk, at least 2. More are answered with 503 and `registration_conflict`.
    pub store_queue: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 16_384,
            requests_per_second: 1_000,
            request_burst: 20_000,
            environments: 4_096,
            sockets: 8_192,
            streams: 16_384,
            socket_streams: 128,
            stream_id_bytes: 8 << 10,
            queue_bytes: 4 << 20,
            token_queue_bytes: 256 << 20,
            stall: Duration::from_secs(10),
            hold: Duration::from_secs(5),
            ticket_life: Duration::from_secs(60),
            authorizations: 1_024,
            retention: Duration::from_secs(7 * 24 * 3600),
            request_time: Duration::from_secs(10),
            ping_every: Duration::from_secs(30),
            silence: Duration::from_secs(90),
            farewell: Duration::from_secs(2),
            store_time: Duration::from_secs(5),
            store_queue: 4_096,
        }
    }
}

/// A bound that can't be set.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LimitError {
    /// There is no bound with this name.
    #[error("there is no limit `{name}`; there are: {known}")]
    Unknown {
        /// What was asked for.
        name: String,
        /// The names that exist.
        known: String,
    },
    /// Not a positive number.
    #[error("the limit `{name}` takes a positive whole number{unit}, not `{value}`")]
    Value {
        /// Name of the bound.
        name: String,
        /// The value that was given.
        value: String,
        /// Unit of the value.
        unit: &'static str,
    },
}

/// Names the bounds once for `set` and for the list in an error.
macro_rules! settable {
    ($($name:ident: $kind:ident),* $(,)?) => {
        /// The names [`Limits::set`] knows.
        const NAMES: &[&str] = &[$(stringify!($name)),*];

        impl Limits {
            /// Sets a bound by its name; times are in milliseconds.
            ///
            /// # Errors
            /// For an unknown name, and for what is no positive number.
            pub fn set(&mut self, name: &str, value: &str) -> Result<(), LimitError> {
                match name {
                    $(stringify!($name) => self.$name = settable!(@ $kind name value),)*
                    _ => return Err(LimitError::Unknown { name: name.to_owned(), known: NAMES.join(", ") }),
                }
                Ok(())
            }
        }
    };
    (@ number $name:ident $value:ident) => { positive($name, $value, "")? };
    (@ millis $name:ident $value:ident) => { Duration::from_millis(positive($name, $value, " of milliseconds")?) };
}

settable! {
    connections: number, requests_per_second: number, request_burst: number, environments: number,
    sockets: number, streams: number, socket_streams: number, stream_id_bytes: number, queue_bytes: number,
    token_queue_bytes: number, stall: millis, hold: millis, ticket_life: millis, authorizations: number,
    retention: millis, request_time: millis, ping_every: millis, silence: millis, farewell: millis,
    store_time: millis, store_queue: number,
}

fn positive<N: std::str::FromStr + PartialEq + From<u8>>(
    name: &str,
    value: &str,
    unit: &'static str,
) -> Result<N, LimitError> {
    let wrong = || LimitError::Value { name: name.to_owned(), value: value.to_owned(), unit };
    let number = value.parse().map_err(|_| wrong())?;
    if number == N::from(0) { Err(wrong()) } else { Ok(number) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_explained_to_operators() {
        let page = include_str!("../../docs/rendezvous.md");
        for name in NAMES {
            assert!(page.contains(&format!("| `{name}` |")), "{name}");
        }
    }

    #[test]
    fn every_limit_is_set_by_name_and_wrong_ones_are_told() {
        let mut limits = Limits::default();
        for name in NAMES {
            limits.set(name, "7").unwrap();
        }
        assert_eq!(
            (limits.queue_bytes, limits.stall, limits.request_burst),
            (7, Duration::from_millis(7), 7)
        );
        let unknown = limits.set("queue", "1").unwrap_err().to_string();
        assert!(unknown.contains("queue_bytes"), "{unknown}");
        for value in ["0", "-1", "x", ""] {
            let error = limits.set("stall", value).unwrap_err().to_string();
            assert!(error.contains("milliseconds"), "{error}");
        }
    }
}
