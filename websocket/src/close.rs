//! Close frames: what they say, and the codes that we send (RFC 6455, 7.4.1, and IANA's list of later ones).

use crate::frame::{CONTROL_BYTES, FrameError};

/// 1000: the purpose of the connection is fulfilled.
pub const NORMAL: u16 = 1000;
/// Bytes that are no websocket frame.
pub const PROTOCOL_ERROR: u16 = 1002;
/// The peer may not do what it does, or not any more.
pub const POLICY: u16 = 1008;
/// A message above the bound.
pub const TOO_BIG: u16 = 1009;
/// The service restarts, or the other side of it is gone: come back.
pub const RESTART: u16 = 1012;
/// The peer is too slow, or asks too much: come back later.
pub const TRY_LATER: u16 = 1013;

/// The payload of a close frame; a reason too long for a control frame is cut.
pub fn payload(code: u16, reason: &str) -> Vec<u8> {
    let mut longest = CONTROL_BYTES - 2;
    while !reason.is_char_boundary(longest.min(reason.len())) {
        longest -= 1;
    }
    let mut payload = code.to_be_bytes().to_vec();
    payload.extend_from_slice(&reason.as_bytes()[..longest.min(reason.len())]);
    payload
}

/// The code of a received close frame, which may have none.
///
/// # Errors
/// The payload has one byte, which is half a code.
pub fn code(payload: &[u8]) -> Result<Option<u16>, FrameError> {
    match payload {
        [] => Ok(None),
        [_] => Err(FrameError::HalfCode),
        [high, low, ..] => Ok(Some(u16::from_be_bytes([*high, *low]))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_as_it_was_written_and_a_long_reason_is_cut_between_characters() {
        assert_eq!(payload(NORMAL, ""), [0x03, 0xe8]);
        assert_eq!(code(&payload(RESTART, "later")), Ok(Some(RESTART)));
        assert_eq!(code(b""), Ok(None));
        assert_eq!(code(b"x"), Err(FrameError::HalfCode));
        for reason in ["é".repeat(100), "x".repeat(200), "x".repeat(123)] {
            let payload = payload(TRY_LATER, &reason);
            assert!(payload.len() <= CONTROL_BYTES && payload.len() >= CONTROL_BYTES - 1);
            assert!(std::str::from_utf8(&payload[2..]).is_ok());
        }
    }
}
