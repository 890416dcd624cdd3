//! The encrypted channel (section 7): identity, handshake, records.

mod identity;

pub use identity::Identity;

use clatter::crypto::rng::DefaultRng;
use clatter::crypto::{dh::X25519, kem::rust_crypto_ml_kem::MlKem768};

/// Why a handshake or a record failed. Nothing of it is sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoiseError {
    /// The system gave no randomness or a key could not be used.
    #[error("key material can't be made or used: {0}")]
    Keys(String),
}
