//! The encrypted channel (section 7): identity, handshake, records.

mod handshake;
mod identity;
mod records;
#[cfg(test)]
mod tests;

pub use identity::Identity;

pub(super) use handshake::{Accepted, HandshakeAnswer, Initiated, Parties, accept, initiate};
pub(super) use records::Channel;

use clatter::crypto::kem::rust_crypto_ml_kem::MlKem768;
use clatter::crypto::{dh::X25519, rng::DefaultRng};

/// Why a handshake or a record failed. Peers learn nothing of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoiseError {
    /// The system gave no randomness.
    #[error("no key can be made: {0}")]
    Keys(String),
    /// A handshake message that can't be one by its length.
    #[error("a handshake message of {0} bytes: too short or too long")]
    Length(usize),
    /// A handshake message that was not made for this stream and this identity, or was changed.
    #[error("the handshake failed: {0}")]
    Handshake(String),
    /// The authorization is no text or too long.
    #[error("the handshake's authorization is not UTF-8 text of at most {limit} bytes")]
    Authorization {
        /// The bound, in bytes.
        limit: usize,
    },
    /// The second message of the handshake says something unknown.
    #[error("the handshake's answer carries an unknown payload")]
    Payload,
    /// A record above 60 KiB.
    #[error("a record of {0} bytes: longer than the protocol allows")]
    RecordLength(usize),
    /// A record that was changed, repeated or made for another stream.
    #[error("a record can't be decrypted")]
    Record,
    /// A message's length is 0 or above the bound.
    #[error("a message of {bytes} bytes: empty, or above the bound of {limit}")]
    MessageLength {
        /// What its prefix says.
        bytes: usize,
        /// The bound, in bytes.
        limit: usize,
    },
    /// A message that is no JSON-RPC.
    #[error("a message that is not JSON-RPC")]
    Message,
    /// A record too far ahead of the expected one.
    #[error("record {seq} came while {expected} was expected: too far ahead, one must be lost")]
    Window {
        /// The number of the record that came.
        seq: u32,
        /// The number of the record that is next.
        expected: u64,
    },
    /// Too much waits for a missing record.
    #[error("more than {limit} bytes wait for a missing record")]
    Held {
        /// The bound, in bytes.
        limit: usize,
    },
    /// Incomplete messages of all streams take too much memory.
    #[error("incomplete messages of more than {limit} bytes")]
    Assembled {
        /// The bound, in bytes.
        limit: usize,
    },
    /// A stream has used up its numbers.
    #[error("the stream has sent as many records as there are numbers")]
    Exhausted,
}
