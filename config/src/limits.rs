//! `[exec_server.limits]`: the server's bounds by their names, each with the range in which it makes sense.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::number::Number;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// One second, in milliseconds.
const SECOND: u64 = 1000;
const HOUR: u64 = 3600 * SECOND;
const DAY: u64 = 24 * HOUR;

macro_rules! limits {
    ($($(#[doc = $doc:literal])* $name:ident: $min:tt ..= $max:tt,)*) => {
        /// The server's bounds. What is not given keeps its default. Sizes are bytes, times are milliseconds.
        #[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
        #[serde(default)]
        #[schemars(deny_unknown_fields)]
        pub struct Limits {
            $($(#[doc = $doc])* pub $name: Option<Number<$min, $max>>,)*
        }

        impl Limits {
            /// The names of all bounds.
            pub const NAMES: &[&str] = &[$(stringify!($name)),*];

            /// The bounds that are set: name and value, in bytes, pieces or milliseconds.
            pub fn given(&self) -> Vec<(&'static str, u64)> {
                [$((stringify!($name), self.$name.map(Number::get))),*]
                    .into_iter()
                    .filter_map(|(name, value)| value.map(|value| (name, value)))
                    .collect()
            }
        }
    };
}

limits! {
    /// Connections at once; one more is refused with HTTP 503.
    connections: 1..=1_000_000,
    /// Sessions, attached and detached; one more `initialize` is refused.
    sessions: 1..=1_000_000,
    /// Processes of one session; one more start evicts the oldest closed one, or is refused.
    processes_per_session: 1..=1_000_000,
    /// Output retained for one process, in bytes; then the oldest goes, or the program waits.
    retained_output_bytes: { 4 * KIB }..=GIB,
    /// Largest chunk of output, in bytes; the size of one read.
    output_chunk_bytes: KIB..={ 16 * MIB },
    /// Largest received websocket frame, in bytes; a larger one ends the connection.
    frame_bytes: { 4 * KIB }..=GIB,
    /// Largest received websocket message, in bytes; a larger one ends the connection.
    message_bytes: { 4 * KIB }..=GIB,
    /// Longest line received on a pipe or Unix socket, in bytes; a longer one ends the connection.
    line_bytes: { 4 * KIB }..=GIB,
    /// Largest HTTP request head of an upgrade, in bytes; a larger one is answered with 431.
    http_head_bytes: KIB..=MIB,
    /// Time for a peer to send its HTTP head or first line, in milliseconds; then the connection ends.
    handshake_time: 1..=HOUR,
    /// Encoded answers and notifications that wait for one connection's socket, in bytes; then no more is encoded.
    outgoing_bytes: { 4 * KIB }..=GIB,
    /// Requests of one connection in work or waiting for their answer to be sent; then the reader stops reading.
    requests_in_flight: 1..=1_000_000,
    /// Bytes of the requests in flight; then the reader stops reading.
    in_flight_bytes: { 4 * KIB }..={ 16 * GIB },
    /// Memory of one connection's answers that hold files or directories, in bytes, and once more of those that hold HTTP
    /// bodies; more wait. A single larger one goes alone.
    answer_bytes: { 4 * KIB }..={ 16 * GIB },
    /// Slow requests (files, HTTP) of one connection that run, or whose answers wait for the socket, at once; more wait
    /// their turn.
    concurrent_requests: 1..=4_294_967_295,
    /// Bytes queued for one process's stdin; then the next write waits for its answer.
    queued_write_bytes: KIB..=GIB,
    /// Writes queued for one process's stdin; then the next write waits for its answer.
    queued_writes: 1..=1_000_000,
    /// Ids of writes remembered for one process, so that a repeated write is not done twice; the oldest goes first.
    remembered_write_ids: 1..=1_000_000,
    /// Life of a session without connection, in milliseconds; then everything it owns ends.
    detached_time: 1..={ 7 * DAY },
    /// How long a full log stalls its program with nobody attached, in milliseconds; then the oldest output goes.
    hold_time: 0..={ 7 * DAY },
    /// Life of an ended process's record after its output closed, in milliseconds.
    ended_process_time: 1..={ 7 * DAY },
    /// How long an attached connection may take to answer the ping that a newcomer sets off, in milliseconds.
    challenge_time: 1..={ 60 * SECOND },
    /// Time between pings of the server, in milliseconds.
    ping_interval: 1..=HOUR,
    /// Without any sign of life for this long, in milliseconds, a peer counts as gone. Keep it above `ping_interval`.
    silence_time: 1..=DAY,
    /// Open file handles of one connection; one more is refused.
    file_handles: 1..=1_000_000,
    /// Longest id of a file handle, in bytes.
    handle_id_bytes: 1..={ 64 * KIB },
    /// Largest file that is read whole, in bytes; a larger one is refused.
    read_file_bytes: 1..={ 4 * GIB },
    /// Largest block of a file, in bytes; a larger one is refused.
    block_bytes: 1..={ 64 * MIB },
    /// Paths of one watch for missing files; for more the answer is that they can't be watched.
    watched_paths: 1..=1_000_000,
    /// Depth of a walk; a larger option is refused.
    walk_depth: 1..=4_096,
    /// Directories of a walk.
    walk_directories: 1..=10_000_000,
    /// Entries of a walk.
    walk_entries: 1..=10_000_000,
    /// Size of a walk's result in bytes, counted as 64 bytes and the URI for each entry.
    walk_result_bytes: KIB..=GIB,
    /// Helpers for file operations under sandboxes, of one connection at once; more operations wait for one.
    file_helpers: 1..=1_024,
    /// Those of them that are kept ready between operations; the one that was not used for the longest time goes.
    idle_file_helpers: 0..=1_024,
    /// Entries of a sandbox's profile; more are refused.
    sandbox_entries: 1..=65_536,
    /// Names looked at to find what the patterns of a profile deny; for more the profile is refused.
    sandbox_scanned_names: 1..=100_000_000,
    /// Paths denied by the patterns of a profile, each of which costs a mount; for more it is refused.
    sandbox_matches: 1..=65_536,
    /// Largest buffered HTTP response body, in bytes; for a larger one the advice is to stream it.
    http_body_bytes: 1..={ 4 * GIB },
    /// Running HTTP streams of one connection; one more is refused.
    http_streams: 1..=65_536,
    /// Redirects followed for one HTTP request; one more is an error.
    http_redirects: 0..=1_000,
    /// Connections of one process to its network proxy at once, at most a sixteenth of the descriptors that the server
    /// may open; more wait.
    network_connections: 1..=65_536,
    /// Largest HTTP request head at a network proxy, in bytes; a larger one is answered with 431.
    network_head_bytes: { 8 * KIB }..=MIB,
    /// Time for a program to send a request's head to its network proxy, or its next one, in milliseconds; then the
    /// connection ends.
    network_head_time: 1..=HOUR,
    /// Time for a network proxy to look a host up and to connect to it, in milliseconds; then it answers with 504.
    network_connect_time: 1..=HOUR,
    /// Questions about hosts that one connection has not answered; more wait their turn.
    network_questions: 1..=65_536,
    /// Messages of a virtual stream that wait for their turn, in bytes; one more ends the stream.
    stream_incoming_bytes: { 64 * KIB }..=GIB,
    /// Messages of a virtual stream that wait for the websocket, in bytes; then nothing more is encoded for it.
    stream_outgoing_bytes: { 4 * KIB }..=GIB,
    /// Longest message on a relay, in bytes; a longer answer becomes an error.
    stream_message_bytes: { 64 * KIB }..={ 64 * MIB },
    /// Open streams on the websocket to a rendezvous; one more is refused.
    relay_streams: 1..=65_536,
    /// Handshakes of streams that wait for the registry at once; one more is refused.
    relay_handshakes: 1..=65_536,
    /// Failed handshakes on one websocket; then all are refused for `relay_failure_pause`.
    relay_failures: 1..=1_000_000,
    /// How long handshakes are refused after too many failed ones, in milliseconds.
    relay_failure_pause: 1..=HOUR,
    /// Incomplete messages of all streams on one websocket, in bytes; the stream that goes beyond it is closed.
    relay_assembled_bytes: { 64 * KIB }..={ 16 * GIB },
    /// Largest wait that a request may ask for, in milliseconds; longer ones are cut to it.
    longest_wait: 1..={ 7 * DAY },
}
