//! Keys: random texts that open something, known here by their hash.

use base64_simd::URL_SAFE_NO_PAD;
use codex_secret::Secret;
use sha2::{Digest, Sha256};

/// How the keys of links begin, so that scanners for leaked secrets know them.
const PREFIX: &str = "cxc_";

/// The SHA-256 of a key, which is too random to be found from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct KeyHash([u8; 32]);

impl KeyHash {
    pub(super) fn of(key: &str) -> Self {
        Self(Sha256::digest(key.as_bytes()).into())
    }
}

/// A new key of 256 random bits.
pub(super) fn mint() -> Secret {
    let bytes = rand::random::<[u8; 32]>();
    Secret::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode_to_string(bytes)))
}
