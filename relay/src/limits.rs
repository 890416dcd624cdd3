//! The bounds of the relay, and what happens at each.

use std::time::Duration;

/// The bounds; the defaults are those of `remote.md` sections 4, 7.1 and 8. The server's
/// settings replace what people may want to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayLimits {
    /// Open streams of one websocket; one more is refused by a reset (Noise) or not made (plain).
    pub streams: usize,
    /// Handshakes that wait for the registry; of one more, that of the harness with the most is refused by a reset.
    pub handshakes: usize,
    /// Failed handshakes of one harness; then its handshakes are refused for [`Self::failure_pause`].
    pub failures: u32,
    /// How long a harness is refused after too many failures.
    pub failure_pause: Duration,
    /// How far a record may be ahead of the expected one, and how many may be held; beyond it the stream closes.
    pub window: u32,
    /// Bytes of held records of one stream; beyond it the stream closes.
    pub held_bytes: usize,
    /// Longest JSON-RPC message in Noise, below 4 GiB; a longer one closes the stream, or is not sent.
    pub message_bytes: usize,
    /// Bytes of incomplete incoming messages over all streams; the stream that goes beyond it is closed.
    pub assembled_bytes: usize,
    /// Longest JSON-RPC message in a plain relay, so that its frame stays below 16 MiB; a longer one is not sent.
    pub plain_message_bytes: usize,
    /// Bytes queued for one stream; then it takes no further message.
    pub queued_bytes: usize,
    /// Resets and handshake answers that wait for the socket; then no handshake begins, and no reset is sent.
    pub queued_control: usize,
    /// Longest stream id in bytes; a frame with a longer one is dropped.
    pub stream_id_bytes: usize,
}

const KIB: usize = 1 << 10;
const MIB: usize = 1 << 20;

/// The longest JSON-RPC message in Noise that a released program takes (7.1).
const LONGEST_NOISE_MESSAGE: usize = 64 * MIB;
/// The longest JSON-RPC message in a plain relay: its frame has to stay below 16 MiB (4.1).
const LONGEST_PLAIN_MESSAGE: usize = 16 * MIB - 32 * KIB;

impl Default for RelayLimits {
    fn default() -> Self {
        Self {
            streams: 128,
            handshakes: 32,
            failures: 8,
            failure_pause: Duration::from_secs(10),
            window: 64,
            held_bytes: MIB,
            message_bytes: LONGEST_NOISE_MESSAGE,
            assembled_bytes: 256 * MIB,
            plain_message_bytes: LONGEST_PLAIN_MESSAGE,
            queued_bytes: 512 * KIB,
            queued_control: 1024,
            stream_id_bytes: 16 * KIB,
        }
    }
}
