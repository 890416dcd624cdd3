//! Relay frames: what an incoming message is worth, and outgoing frames written once, in place.
//!
//! Released programs send no acks and ignore them, heartbeats too. Ours use both, since what lies between rendezvous and
//! harness is lost when that socket breaks, and the rendezvous's pongs say nothing of it: a harness acks before
//! all data, which tells that it can, and then whenever a heartbeat asks. Acks are not encrypted; a rendezvous that forges
//! them makes an executor forget output early, which the harness is told of like of any other loss.

use bytes::Bytes;
use codex_exec_protocol::relay::relay_message_frame::Body as Wire;
use codex_exec_protocol::relay::{
    RelayAck, RelayHandshake, RelayHeartbeat, RelayMessageFrame, RelayReset, RelayResume,
};
use prost::Message as _;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};

/// The one version there is.
pub const VERSION: u32 = 1;
/// The reason of the reset by which an executor that is stopped takes leave of each harness: its programs end with it, so
/// there is nothing to come back to. Released harnesses take it as any other reset.
pub const EXECUTOR_STOPPED: &str = "executor_stopped";
/// Field numbers of the hand-written data frame (4).
mod field {
    pub(super) const VERSION: u32 = 1;
    pub(super) const STREAM_ID: u32 = 2;
    pub(super) const DATA: u32 = 5;
    pub(super) const SEQ: u32 = 1;
    pub(super) const SEGMENT_COUNT: u32 = 3;
    pub(super) const PAYLOAD: u32 = 4;
}

/// A frame that passed the checks of 4.2 and 8.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The stream that it belongs to; never blank.
    pub stream_id: String,
    /// What the frame says of the stream.
    pub body: Body,
}

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A JSON-RPC message (plain) or an encrypted record (Noise).
    Data {
        /// Counts from 0.
        seq: u32,
        /// The message or the record; never empty.
        payload: Bytes,
    },
    /// One Noise message, never empty.
    Handshake(Bytes),
    /// The stream has ended; the reason is not blank.
    Reset(String),
    /// The harness has taken every data frame up to this number. Only our own says so (see the module's words).
    Ack(u32),
    /// The executor asks for an [`Self::Ack`].
    Heartbeat,
    /// A resume: of no meaning to either end.
    Idle,
}

/// Why a message is dropped.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// No frame at all.
    #[error("not a relay frame: {0}")]
    Undecodable(#[from] prost::DecodeError),
    /// A frame of another version than ours.
    #[error("relay frame of version {0}; only version 1 is known")]
    Version(u32),
    /// Nothing but white space.
    #[error("relay frame with a blank stream id")]
    StreamId,
    /// Longer than the bound.
    #[error("relay frame with a stream id of {0} bytes")]
    LongStreamId(usize),
    /// A frame that says nothing.
    #[error("relay frame without a body")]
    NoBody,
    /// A data frame or a handshake without a byte.
    #[error("relay frame with an empty payload")]
    Empty,
    /// Other than segment 0 of 1.
    #[error("relay frame with segment {index} of {count}; messages are never cut into segments")]
    Segment {
        /// The index of the segment, from 0.
        index: u32,
        /// How many segments the message is said to have.
        count: u32,
    },
    /// A reset that does not say why.
    #[error("relay reset without a reason")]
    Reason,
}

/// Reads a binary websocket message. Payloads stay where they are.
///
/// # Errors
/// Whatever makes an executor drop a frame (4.2, 8) or a harness end its connection (9.1).
pub fn parse(message: Bytes, longest_stream_id: usize) -> Result<Frame, FrameError> {
    let frame = RelayMessageFrame::decode(message)?;
    if frame.version != VERSION {
        return Err(FrameError::Version(frame.version));
    }
    if frame.stream_id.trim().is_empty() {
        return Err(FrameError::StreamId);
    }
    if frame.stream_id.len() > longest_stream_id {
        return Err(FrameError::LongStreamId(frame.stream_id.len()));
    }
    let body = match frame.body.ok_or(FrameError::NoBody)? {
        Wire::Data(data) if (data.segment_index, data.segment_count) != (0, 1) => {
            return Err(FrameError::Segment { index: data.segment_index, count: data.segment_count });
        }
        Wire::Data(data) => Body::Data { seq: data.seq, payload: filled(data.payload)? },
        Wire::Handshake(handshake) => Body::Handshake(filled(handshake.payload)?),
        Wire::Reset(reset) if reset.reason.trim().is_empty() => return Err(FrameError::Reason),
        Wire::Reset(reset) => Body::Reset(reset.reason),
        Wire::AckFrame(_) => Body::Ack(frame.ack),
        Wire::Heartbeat(_) => Body::Heartbeat,
        Wire::Resume(_) => Body::Idle,
    };
    Ok(Frame { stream_id: frame.stream_id, body })
}

/// The same for an executor, which drops what is no frame and goes on (4.2, 8).
pub(crate) fn parse_or_drop(message: Bytes, longest_stream_id: usize) -> Option<Frame> {
    parse(message, longest_stream_id).inspect_err(|error| tracing::debug!(%error, "frame dropped")).ok()
}

fn filled(payload: Bytes) -> Result<Bytes, FrameError> {
    if payload.is_empty() { Err(FrameError::Empty) } else { Ok(payload) }
}

/// A frame that ends a stream.
pub fn reset(stream_id: &str, reason: &str) -> Bytes {
    encode(stream_id, Wire::Reset(RelayReset { reason: reason.to_owned() }))
}

/// A frame with one Noise handshake message.
pub fn handshake(stream_id: &str, payload: Bytes) -> Bytes {
    encode(stream_id, Wire::Handshake(RelayHandshake { payload }))
}

/// What a harness sends first on a stream.
pub fn resume(stream_id: &str) -> Bytes {
    encode(stream_id, Wire::Resume(RelayResume { next_seq: 0 }))
}

/// Tells the executor that every data frame up to this number was taken.
pub fn ack(stream_id: &str, seq: u32) -> Bytes {
    encode_acking(stream_id, seq, Wire::AckFrame(RelayAck {}))
}

/// Asks the harness for an ack.
pub fn heartbeat(stream_id: &str) -> Bytes {
    encode(stream_id, Wire::Heartbeat(RelayHeartbeat {}))
}

fn encode(stream_id: &str, body: Wire) -> Bytes {
    encode_acking(stream_id, 0, body)
}

fn encode_acking(stream_id: &str, ack: u32, body: Wire) -> Bytes {
    let frame = RelayMessageFrame {
        version: VERSION,
        stream_id: stream_id.to_owned(),
        ack,
        body: Some(body),
        ..RelayMessageFrame::default()
    };
    frame.encode_to_vec().into()
}

/// A data frame up to its payload, in a buffer with room for exactly the `payload` bytes that the caller appends
/// (at least one). So a payload is written once, where it will be sent from.
pub(crate) fn data_head(stream_id: &str, seq: u32, payload: usize) -> Vec<u8> {
    let seq_bytes = if seq == 0 { 0 } else { 1 + encoded_len_varint(seq.into()) };
    let data = seq_bytes + 2 + 1 + encoded_len_varint(payload as u64) + payload;
    let head = 2 + 1 + encoded_len_varint(stream_id.len() as u64) + stream_id.len();
    let mut out = Vec::with_capacity(head + 1 + encoded_len_varint(data as u64) + data);
    encode_key(field::VERSION, WireType::Varint, &mut out);
    encode_varint(VERSION.into(), &mut out);
    encode_key(field::STREAM_ID, WireType::LengthDelimited, &mut out);
    encode_varint(stream_id.len() as u64, &mut out);
    out.extend_from_slice(stream_id.as_bytes());
    encode_key(field::DATA, WireType::LengthDelimited, &mut out);
    encode_varint(data as u64, &mut out);
    if seq != 0 {
        encode_key(field::SEQ, WireType::Varint, &mut out);
        encode_varint(seq.into(), &mut out);
    }
    encode_key(field::SEGMENT_COUNT, WireType::Varint, &mut out);
    encode_varint(1, &mut out);
    encode_key(field::PAYLOAD, WireType::LengthDelimited, &mut out);
    encode_varint(payload as u64, &mut out);
    out
}

/// A data frame with this payload, which is not empty.
pub(crate) fn data(stream_id: &str, seq: u32, payload: &[u8]) -> Bytes {
    let mut out = data_head(stream_id, seq, payload.len());
    out.extend_from_slice(payload);
    out.into()
}

#[cfg(test)]
mod tests {
    use codex_exec_protocol::relay::RelayData;
    use proptest::prelude::*;

    use super::*;

    fn hex(text: &str) -> Bytes {
        hex::decode(text.replace(' ', "")).unwrap().into()
    }

    fn read(message: Bytes) -> Result<Body, FrameError> {
        parse(message, 64).map(|frame| frame.body)
    }

    #[test]
    fn frames_have_the_captured_bytes() {
        assert_eq!(resume("S1"), hex("08 01 12 02 53 31 3a 00"));
        let payload = [b'x'; 70];
        assert_eq!(data("S1", 0, &payload)[..12], hex("08 01 12 02 53 31 2a 4a 18 01 22 46"));
        assert_eq!(data("S1", 1, &payload[..36])[..14], hex("08 01 12 02 53 31 2a 2a 08 01 18 01 22 24"));
    }

    #[test]
    fn every_frame_that_is_to_be_dropped_is_told_apart() {
        let frame = |version, stream_id: &str, body| {
            let frame =
                RelayMessageFrame { version, stream_id: stream_id.into(), body, ..Default::default() };
            read(frame.encode_to_vec().into())
        };
        let piece = |segment_index, segment_count, payload: &'static [u8]| {
            Some(Wire::Data(RelayData {
                seq: 3,
                segment_index,
                segment_count,
                payload: Bytes::from_static(payload),
            }))
        };
        let reset = |reason: &str| Some(Wire::Reset(RelayReset { reason: reason.into() }));
        assert_eq!(
            frame(1, "s", piece(0, 1, b"x")),
            Ok(Body::Data { seq: 3, payload: Bytes::from_static(b"x") })
        );
        assert_eq!(frame(1, " s", reset("bye")), Ok(Body::Reset("bye".into())));
        assert_eq!(frame(0, "s", reset("bye")), Err(FrameError::Version(0)));
        assert_eq!(frame(2, "s", reset("bye")), Err(FrameError::Version(2)));
        assert_eq!(frame(1, "", reset("bye")), Err(FrameError::StreamId));
        assert_eq!(frame(1, " \t", reset("bye")), Err(FrameError::StreamId));
        assert_eq!(frame(1, &"s".repeat(65), reset("bye")), Err(FrameError::LongStreamId(65)));
        assert_eq!(frame(1, "s", None), Err(FrameError::NoBody));
        assert_eq!(frame(1, "s", piece(0, 1, b"")), Err(FrameError::Empty));
        assert_eq!(frame(1, "s", piece(1, 1, b"x")), Err(FrameError::Segment { index: 1, count: 1 }));
        assert_eq!(frame(1, "s", piece(0, 0, b"x")), Err(FrameError::Segment { index: 0, count: 0 }));
        assert_eq!(frame(1, "s", piece(0, 2, b"x")), Err(FrameError::Segment { index: 0, count: 2 }));
        assert_eq!(frame(1, "s", reset("")), Err(FrameError::Reason));
        let empty = Wire::Handshake(RelayHandshake { payload: Bytes::new() });
        assert_eq!(frame(1, "s", Some(empty)), Err(FrameError::Empty));
        assert_eq!(read(resume("s")), Ok(Body::Idle));
        for bytes in [&b""[..], b"{\"id\":1}", b"\x08"] {
            let refused = read(Bytes::copy_from_slice(bytes)).unwrap_err();
            assert!(matches!(refused, FrameError::Undecodable(_) | FrameError::Version(0)), "{refused}");
        }
    }

    proptest! {
        #[test]
        fn a_data_frame_has_the_bytes_of_the_schema(
            stream_id in "\\PC{1,40}", seq in prop_oneof![0u32..300, any::<u32>()], length in 1usize..40_000,
        ) {
            let payload = Bytes::from(vec![b'p'; length]);
            let body = RelayData { seq, segment_index: 0, segment_count: 1, payload: payload.clone() };
            let frame = data(&stream_id, seq, &payload);
            prop_assert_eq!(&frame, &encode(&stream_id, Wire::Data(body)));
            let head = data_head(&stream_id, seq, length);
            prop_assert_eq!(head.capacity(), frame.len());
        }

        #[test]
        fn no_bytes_make_the_reader_fail(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = read(bytes.into());
        }
    }
}
