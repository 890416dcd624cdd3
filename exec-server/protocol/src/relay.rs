//! The relay's frames (`remote.md` section 4) as protobuf messages (proto3, package `codex.relay.v1`).

use bytes::Bytes;

/// One websocket message between an executor, a rendezvous and a harness.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct RelayMessageFrame {
    /// Always 1.
    #[prost(uint32, tag = "1")]
    pub version: u32,
    /// The virtual stream; any string that is not blank.
    #[prost(string, tag = "2")]
    pub stream_id: String,
    /// Reserved by the published description; no release sends or reads it.
    #[prost(uint32, tag = "3")]
    pub ack: u32,
    /// Reserved likewise.
    #[prost(uint32, tag = "4")]
    pub ack_bits: u32,
    /// W3C trace context, since 0.169.
    #[prost(string, optional, tag = "11")]
    pub traceparent: Option<String>,
    /// W3C trace context, since 0.169.
    #[prost(string, optional, tag = "12")]
    pub tracestate: Option<String>,
    /// What the frame is for.
    #[prost(oneof = "relay_message_frame::Body", tags = "5, 6, 7, 8, 9, 10")]
    pub body: Option<relay_message_frame::Body>,
}

/// What belongs to [`RelayMessageFrame`].
pub mod relay_message_frame {
    /// What a frame is for.
    #[derive(Clone, PartialEq, Eq, Hash, prost::Oneof)]
    pub enum Body {
        /// A message.
        #[prost(message, tag = "5")]
        Data(super::RelayData),
        /// An acknowledgement.
        #[prost(message, tag = "6")]
        AckFrame(super::RelayAck),
        /// The opening of a stream.
        #[prost(message, tag = "7")]
        Resume(super::RelayResume),
        /// The end of a stream.
        #[prost(message, tag = "8")]
        Reset(super::RelayReset),
        /// A sign of life.
        #[prost(message, tag = "9")]
        Heartbeat(super::RelayHeartbeat),
        /// A step of the Noise handshake.
        #[prost(message, tag = "10")]
        Handshake(super::RelayHandshake),
    }
}

/// A JSON-RPC message (plain relay) or an encrypted record (Noise relay).
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct RelayData {
    /// Counts from 0 for each stream, direction and websocket.
    #[prost(uint32, tag = "1")]
    pub seq: u32,
    /// Always 0: no release cuts messages into segments.
    #[prost(uint32, tag = "2")]
    pub segment_index: u32,
    /// Always 1.
    #[prost(uint32, tag = "3")]
    pub segment_count: u32,
    /// The message. `Bytes` keeps it inside the buffer of the websocket message that it came in.
    #[prost(bytes = "bytes", tag = "4")]
    pub payload: Bytes,
}

/// Ignored by every release.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct RelayAck {}

/// Sent by a harness when it opens a stream; ignored by executors.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct RelayResume {
    /// The first message that the harness wants.
    #[prost(uint32, tag = "1")]
    pub next_seq: u32,
}

/// Ends a stream.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct RelayReset {
    /// Never empty.
    #[prost(string, tag = "1")]
    pub reason: String,
}

/// Ignored by every release.
#[derive(Clone, Copy, PartialEq, Eq, Hash, prost::Message)]
pub struct RelayHeartbeat {}

/// One Noise handshake message.
#[derive(Clone, PartialEq, Eq, Hash, prost::Message)]
pub struct RelayHandshake {
    /// The message.
    #[prost(bytes = "bytes", tag = "1")]
    pub payload: Bytes,
}
