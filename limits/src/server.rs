//! Every bound of the exec-server, in groups by owner.
//!
//! The defaults are the released programs' where `protocol.md` section 16 has one, but for larger chunks of output, which
//! cost less for each byte, and longer queues of writes.

use std::time::Duration;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
/// Milliseconds.
const SECOND: u64 = 1000;
const MINUTE: u64 = 60 * SECOND;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

crate::limits! {
    /// The exec-server's bounds. Sizes are bytes.
    pub struct Limits {
        /// Accepting connections and reading what they send.
        transport: TransportLimits {
            /// Connections at once; one more is refused with HTTP 503.
            connections: usize = 1024, 1..=1_000_000;
            /// Connections that have not said yet what they are; when one more comes, the oldest of whoever has most of them goes.
            waiting_connections: usize = 128, 1..=1_000_000;
            /// Received websocket frame; a larger one ends the connection (2.3).
            frame_bytes: usize = 16 * MIB, { 4 * KIB }..=GIB;
            /// Received websocket message; a larger one ends the connection (2.3).
            message_bytes: usize = 64 * MIB, { 4 * KIB }..=GIB;
            /// Received line on a pipe or Unix socket; a longer one ends the connection (3).
            line_bytes: usize = 64 * MIB, { 4 * KIB }..=GIB;
            /// HTTP request head of an upgrade; a larger one is answered with 431.
            http_head_bytes: usize = 16 * KIB, KIB..=MIB;
            /// Time for a peer to send its HTTP head or first line; then the connection ends.
            handshake_time: Duration = 10 * SECOND, 1..=HOUR;
            /// Between pings of the server (2.3).
            ping_interval: Duration = 30 * SECOND, 1..=HOUR;
            /// Without any sign of life for this long, a peer counts as gone.
            silence_time: Duration = 90 * SECOND, 1..=DAY;
        }
        /// The requests and answers of one connection.
        connection: ConnectionLimits {
            /// Requests of one connection in work or waiting for their answer to be sent; then the reader stops reading.
            requests_in_flight: usize = 1024, 1..=1_000_000;
            /// Bytes of the requests in flight; then the reader stops reading.
            in_flight_bytes: usize = 64 * MIB, { 4 * KIB }..={ 16 * GIB };
            /// Memory of one connection's answers that hold files or directories, and once more of those that hold HTTP bodies,
            /// from before they are read until the socket took them; more wait. A single larger one goes alone.
            answer_bytes: usize = 64 * MIB, { 4 * KIB }..={ 16 * GIB };
            /// Slow requests (files, HTTP) of one connection that run, or whose answers the socket has not taken, at once;
            /// more wait their turn. A waiting `process/read` or `process/wait` needs no turn.
            concurrent_requests: usize = 64, 1..=4_294_967_295;
            /// Encoded answers and notifications that wait for a socket, for one connection; then nothing more is encoded.
            outgoing_bytes: usize = 512 * KIB, { 4 * KIB }..=GIB;
            /// Largest wait of a request (`waitMs`, `timeoutMs`, `graceMs`); longer ones are cut to it.
            longest_wait: Duration = DAY, 1..={ 7 * DAY };
        }
        /// Sessions and how long they live.
        session: SessionLimits {
            /// Sessions, attached and detached; for one more `initialize` one that nobody needs makes room, else it is
            /// refused with `-32600`.
            sessions: usize = 1024, 1..=1_000_000;
            /// Life of a session without connection; then everything it owns ends (5.3).
            detached_time: Duration = 80 * SECOND, 1..={ 7 * DAY };
            /// Longest life of a session without connection that a client may ask for (`detachedMs`); a longer one is cut to it.
            longest_detached_time: Duration = 7 * DAY, 1..={ 365 * DAY };
            /// How long an attached connection may take to answer the ping that a newcomer sets off.
            challenge_time: Duration = 2 * SECOND, 1..=MINUTE;
            /// Processes of one session; one more start evicts the oldest closed one, or is refused with `-32600`.
            processes_per_session: usize = 1024, 1..=1_000_000;
        }
        /// One process: its output and its input.
        process: ProcessLimits {
            /// Output retained for one process, over all streams; then the oldest goes, or the program waits.
            retained_output_bytes: usize = MIB, { 4 * KIB }..=GIB;
            /// Largest chunk of output, the size of one read.
            output_chunk_bytes: usize = 64 * KIB, KIB..={ 16 * MIB };
            /// How long a full log stalls its program with nobody attached; then the oldest output goes.
            hold_time: Duration = 30 * SECOND, 0..={ 7 * DAY };
            /// Life of an ended process's record after close (8.6).
            ended_process_time: Duration = 80 * SECOND, 1..={ 7 * DAY };
            /// Bytes queued for one process's stdin; then the next write waits for its answer.
            queued_write_bytes: usize = 8 * MIB, KIB..=GIB;
            /// Writes queued for one process's stdin; then the next write waits for its answer.
            queued_writes: usize = 4096, 1..=1_000_000;
            /// `writeId`s remembered for one process; the oldest is forgotten first (8.4).
            remembered_write_ids: usize = 4096, 1..=1_000_000;
            /// States of login shells that are remembered (21.9); for one more the oldest is forgotten.
            login_states: usize = 64, 1..=65_536;
            /// How long the state of a login shell is remembered (21.9); then the next command logs in again.
            login_state_time: Duration = HOUR, 0..=DAY;
            /// State of a login shell (21.9); a larger one is not remembered.
            login_state_bytes: usize = 4 * MIB, KIB..={ 64 * MIB };
            /// Time for a login whose state is to be remembered (21.9); then the command logs in itself.
            login_time: Duration = 10 * SECOND, 1..=HOUR;
        }
        /// Logs of output on disk.
        logs: LogLimits {
            /// Output kept on disk for one process, with what is said about it; then its oldest part goes.
            log_bytes: u64 = 256 * MIB, { 64 * KIB }..={ 1024 * GIB };
            /// Part of a log that goes at once.
            log_segment_bytes: u64 = 4 * MIB, { 16 * KIB }..=GIB;
            /// All logs on disk together; then the log that ended first goes, and when none is left, the oldest parts of others.
            all_log_bytes: u64 = 4 * GIB, { 64 * KIB }..={ 1024 * GIB };
            /// How long a log is kept on disk after its end.
            log_time: Duration = DAY, { SECOND }..={ 365 * DAY };
            /// Logs listed in one answer; the rest is for the next.
            listed_logs: usize = 1000, 1..=65_536;
        }
        /// The audit file.
        audit: AuditLimits {
            /// Size of the audit file; before it grows beyond, it becomes `FILE.1`, and a new one is begun. A longer line gets a
            /// file of its own.
            audit_file_bytes: u64 = 64 * MIB, { 4 * KIB }..={ 1024 * GIB };
            /// Renamed audit files that are kept; for one more the oldest goes.
            audit_old_files: usize = 8, 1..=1_000;
            /// Records that wait for the audit file, with those of requests that are under way; a request beyond is counted as
            /// not recorded, or refused with `-32603` where records are required.
            audit_records: usize = 4096, 1..=1_000_000;
        }
        /// The `fs/*` methods.
        files: FileLimits {
            /// Open file handles of one connection (10.10); one more is refused with `-32600`.
            file_handles: usize = 128, 1..=1_000_000;
            /// Length of a file handle's id in bytes (10.10).
            handle_id_bytes: usize = 32, 1..={ 64 * KIB };
            /// Largest file for `fs/readFile` (10.1); a larger one is refused with `-32600`.
            read_file_bytes: u64 = 512 * MIB, 1..={ 4 * GIB };
            /// Largest block (10.10); a larger one is refused with `-32600`.
            block_bytes: u64 = MIB, 1..={ 64 * MIB };
            /// Paths of one `fs/watchMissing` (10.11); more make it answer false.
            watched_paths: usize = 64, 1..=1_000_000;
            /// Depth of a walk (10.7); a larger option is refused with `-32600`.
            walk_depth: u64 = 64, 1..=4_096;
            /// Directories of a walk (10.7).
            walk_directories: u64 = 10_000, 1..=10_000_000;
            /// Entries of a walk (10.7).
            walk_entries: u64 = 50_000, 1..=10_000_000;
            /// Size of a walk's result, counted as 64 bytes and the URI for each entry (10.7).
            walk_result_bytes: usize = 4 * MIB, KIB..=GIB;
        }
        /// Profiles of sandboxes, and the helpers that work on files under them.
        sandbox: SandboxLimits {
            /// Helpers for file operations under sandboxes, of one connection at once; more operations wait for one.
            file_helpers: usize = 8, 1..=1_024;
            /// Those of them that are kept ready between operations; the one that was not used for the longest time goes.
            idle_file_helpers: usize = 4, 0..=1_024;
            /// Entries of a sandbox's profile; more are refused with `-32600`.
            sandbox_entries: usize = 1024, 1..=65_536;
            /// Names looked at to find what the patterns of a profile deny; for more the profile is refused with `-32600`.
            sandbox_scanned_names: usize = 10_000_000, 1..=100_000_000;
            /// Paths denied by the patterns of a profile, each of which costs a mount; for more it is refused with `-32600`.
            sandbox_matches: usize = 32_768, 1..=65_536;
        }
        /// What clients ask of the machine's configuration and of what is installed on it.
        discovery: DiscoveryLimits {
            /// Keys of one `environmentConfig/read` (12.1); more are refused with `-32602`.
            config_paths: usize = 64, 1..=65_536;
            /// Answer to an `environmentConfig/read` (12.1); a longer one is `-32603`.
            config_answer_bytes: usize = MIB, KIB..={ 64 * MIB };
            /// Roots of one `capabilityRoots/discoverV1` (12.2); more are refused with `-32602`.
            capability_roots: usize = 64, 1..=4_096;
            /// Largest file of a skill or plugin (12.2); a larger one is left out with a warning.
            capability_file_bytes: usize = MIB, KIB..={ 64 * MIB };
            /// Files of one root of skills and plugins, together (12.2); more are left out with a warning.
            capability_root_bytes: usize = 16 * MIB, KIB..=GIB;
        }
        /// `http/request`.
        http: HttpLimits {
            /// Buffered HTTP response body; a larger one is `-32603`, with the advice to stream it.
            http_body_bytes: usize = 512 * MIB, 1..={ 4 * GIB };
            /// Running HTTP streams of one connection; one more is refused with `-32602`.
            http_streams: usize = 128, 1..=65_536;
            /// Redirects followed for one request; one more is `-32603`.
            http_redirects: usize = 10, 0..=1_000;
            /// Header lines of one response over HTTP/1; with more it is `-32603`. curl has the same bound.
            http_response_headers: usize = 5_000, 100..=16_384;
        }
        /// The filtering proxies of programs.
        network: NetworkLimits {
            /// Connections of one process to its network proxy at once, at most a sixteenth of the descriptors that the server
            /// may open; more wait (13).
            network_connections: usize = 256, 1..=65_536;
            /// Names that one process with transparent TCP may have resolved; more are answered with SERVFAIL (21.3).
            network_names: usize = 16_384, 1..=131_070;
            /// HTTP request head at a network proxy; a larger one is answered with 431.
            network_head_bytes: usize = 64 * KIB, { 8 * KIB }..=MIB;
            /// Time for a program to send a request's head to its network proxy, or its next one; then the connection ends.
            network_head_time: Duration = 60 * SECOND, 1..=HOUR;
            /// Time for a network proxy to look a host up and to connect to it; then it answers with 504.
            network_connect_time: Duration = 30 * SECOND, 1..=HOUR;
            /// How long nothing may come or go between a program and a host that it exchanges datagrams with; the next one is
            /// judged anew (13).
            network_datagram_time: Duration = 60 * SECOND, 1..=HOUR;
            /// `network/policyRequest`s that one connection has not answered; more wait their turn, and their time runs.
            network_questions: usize = 64, 1..=65_536;
        }
        /// Byte streams that clients have from and to this machine's network.
        tcp: TcpLimits {
            /// Streams and listeners of one connection; one more is refused with `-32600`.
            tcp_streams: usize = 128, 1..=65_536;
            /// Reads, and writes, of one stream that wait at once; one more is refused with `-32600`.
            tcp_stream_requests: usize = 4, 1..=1_024;
            /// Largest piece of a stream: a longer `tcp/write` is refused with `-32602`, a `tcp/read` gives no more.
            tcp_piece_bytes: usize = MIB, KIB..={ 16 * MIB };
            /// Time to look a host up and to connect to it; then `tcp/connect` is `-32603`.
            tcp_connect_time: Duration = 30 * SECOND, 1..=HOUR;
        }
        /// Virtual streams through a rendezvous.
        relay: StreamLimits {
            /// Bytes of a virtual stream's messages that wait for their turn; one more message ends the stream (remote.md 8).
            stream_incoming_bytes: usize = 64 * MIB, { 64 * KIB }..=GIB;
            /// Messages of all streams of one websocket that wait for their connections, in bytes; beyond it the next stream that is
            /// behind and gets another message is ended.
            all_incoming_bytes: usize = 256 * MIB, { 4 * KIB }..={ 16 * GIB };
            /// Bytes of a virtual stream's messages that wait for the websocket; then nothing more is encoded for it.
            stream_outgoing_bytes: usize = 256 * KIB, { 4 * KIB }..=GIB;
            /// Longest message on a relay (remote.md 7.1); a longer answer becomes `-32603`.
            stream_message_bytes: usize = 64 * MIB, { 64 * KIB }..={ 64 * MIB };
            /// Open streams of one rendezvous' websocket; one more is refused (Noise) or not made (plain relay).
            relay_streams: usize = 128, 1..=65_536;
            /// Handshakes that wait for the registry at once; of one more, that of the harness with the most is refused.
            relay_handshakes: usize = 32, 1..=65_536;
            /// Failed handshakes of one harness; then its handshakes are refused for `relay_failure_pause`.
            relay_failures: u32 = 8, 1..=1_000_000;
            /// How long handshakes are refused after too many failed ones.
            relay_failure_pause: Duration = 10 * SECOND, 1..=HOUR;
            /// Incomplete messages of all streams of one websocket; the stream that goes beyond it is closed.
            relay_assembled_bytes: usize = 256 * MIB, { 64 * KIB }..={ 16 * GIB };
        }
    }
}
