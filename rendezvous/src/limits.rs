//! Every bound of the rendezvous, with its default and what happens when it is reached.

use std::time::Duration;

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

/// One second, in the milliseconds that bounds of time are counted in.
const SECOND: u64 = 1000;
const DAY: u64 = 24 * 3600 * SECOND;
const MIB: u64 = 1 << 20;
/// As good as unbounded; a bound of more would be a mistake.
const MANY: u64 = 1 << 40;

codex_limits::limits! {
    /// The bounds an operator may set. `Limits::default()` suits a machine with 1 GiB to spare.
    pub struct Limits {
        /// What the holders of one token may do and keep.
        callers: CallerLimits {
            /// Connections at once, sockets included. More are closed as soon as they are accepted.
            connections: usize = 16_384, 1..=MANY;
            /// Requests and upgrades a token may make each second, on average. More are answered with 429,
            /// registrations with 503 and `registration_conflict`, which executors try again.
            requests_per_second: u32 = 1_000, 1..=4_294_967_295;
            /// Requests a token may save up for a burst.
            request_burst: u32 = 20_000, 1..=4_294_967_295;
            /// Environments registered with one token. At the bound the one whose executor has been away longest is
            /// forgotten; when none is away the registration is refused with 429.
            environments: usize = 4_096, 1..=MANY;
            /// Harness sockets of one token. More are refused with 429.
            sockets: usize = 8_192, 1..=MANY;
            /// Streams of all sockets of one token. Frames that would open more are answered with a reset.
            streams: usize = 16_384, 1..=MANY;
            /// Streams of one harness socket, likewise. An executor keeps 128.
            socket_streams: usize = 128, 1..=MANY;
            /// Longest stream id in bytes; frames with a longer one are dropped.
            stream_id_bytes: usize = 8 << 10, 1..=MANY;
            /// Authorizations of one environment that wait for their handshake. At the bound the oldest is dropped.
            authorizations: usize = 1_024, 1..=MANY;
            /// Life of a harness's ticket and authorization. Older ones are refused; the harness asks again.
            ticket_life: Duration = 60 * SECOND, 1..={ 365 * DAY };
            /// How long an environment is remembered whose executor is away.
            retention: Duration = 7 * DAY, 1..={ 365 * DAY };
        }
        /// What is queued for a socket, and how long it may stand still.
        queues: QueueLimits {
            /// Bytes queued for one socket. While its queue is full, whoever writes to it is not read. One message of
            /// any size fits into an empty queue.
            queue_bytes: usize = 4 * MIB, 1..=MANY;
            /// Bytes queued for all sockets of one token. The socket whose queue goes over it is closed with 1013.
            token_queue_bytes: usize = 256 * MIB, 1..=MANY;
            /// How long a socket with a full queue may take no byte before it is closed with 1013.
            stall: Duration = 10 * SECOND, 1..={ 365 * DAY };
            /// How long a full harness queue may, in sum, keep the executor from being read while other harnesses use
            /// the same environment; then that harness is closed with 1013. Earned back at a quarter of the time.
            hold: Duration = 5 * SECOND, 1..={ 365 * DAY };
        }
        /// How long requests and silences may last.
        times: TimeLimits {
            /// How long a request's head may take, a TLS handshake, and the whole of a request.
            request_time: Duration = 10 * SECOND, 1..={ 365 * DAY };
            /// Pause between pings to a socket.
            ping_every: Duration = 30 * SECOND, 1..={ 365 * DAY };
            /// A socket from which nothing has come for this long is closed.
            silence: Duration = 90 * SECOND, 1..={ 365 * DAY };
            /// How long a node that ends takes to send its executors to other nodes. Without another node it takes no time.
            drain_time: Duration = 10 * SECOND, 1..={ 365 * DAY };
            /// How long the last words of a socket may take, at its close and at the end of the program.
            farewell: Duration = 2 * SECOND, 1..={ 365 * DAY };
        }
        /// The audit file.
        audit: AuditLimits {
            /// Size of the audit file in bytes; before it grows beyond, it becomes `FILE.1`, and a new one is begun.
            audit_file_bytes: u64 = 64 * MIB, 4096..=MANY;
            /// Renamed audit files that are kept; for one more the oldest goes.
            audit_old_files: usize = 8, 1..=1_000;
            /// Records that wait for the audit file, with those of requests under way; a request beyond is counted as not
            /// recorded, or refused with 503 where records are required.
            audit_records: usize = 4_096, 1..=1_000_000;
        }
        /// What is on its way to the disk.
        store: StoreLimits {
            /// How long a registration waits for the disk before it is answered all the same.
            store_time: Duration = 5 * SECOND, 1..={ 365 * DAY };
            /// Changes on their way to the disk, at least 2. More are answered with 503 and `registration_conflict`.
            store_queue: usize = 4_096, 2..=MANY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_limit_is_explained_to_operators() {
        let page = include_str!("../../docs/rendezvous.md");
        for limit in Limits::DECLARED {
            assert!(page.contains(&format!("| `{}` |", limit.name)), "{}", limit.name);
            assert!(limit.allows(limit.default), "{}", limit.name);
        }
    }
}
