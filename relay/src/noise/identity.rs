//! Who an executor or a harness is: two key pairs, made once per process (6.1, 6.2).

use std::fmt;

use clatter::KeyPair;
use clatter::bytearray::ByteArray as _;
use clatter::traits::{Dh, Kem};
use codex_exec_protocol::registry::PublicKey;

use super::{DefaultRng, MlKem768, NoiseError, X25519};

/// The X25519 and ML-KEM-768 key pairs of this process. Wiped when dropped; `Debug` shows the public half only.
pub struct Identity {
    pub(super) x25519: KeyPair<<X25519 as Dh>::PubKey, <X25519 as Dh>::PrivateKey>,
    pub(super) mlkem768: KeyPair<<MlKem768 as Kem>::PubKey, <MlKem768 as Kem>::SecretKey>,
    public: PublicKey,
}

impl Identity {
    /// Makes both key pairs from the system's randomness.
    ///
    /// # Errors
    /// The system's randomness failed.
    pub fn generate() -> Result<Self, NoiseError> {
        let mut rng = DefaultRng;
        let x25519 = X25519::genkey_rng(&mut rng).map_err(|error| NoiseError::Keys(error.to_string()))?;
        let mlkem768 = MlKem768::genkey_rng(&mut rng).map_err(|error| NoiseError::Keys(error.to_string()))?;
        Self::new(x25519, mlkem768)
    }

    pub(super) fn new(
        x25519: KeyPair<<X25519 as Dh>::PubKey, <X25519 as Dh>::PrivateKey>,
        mlkem768: KeyPair<<MlKem768 as Kem>::PubKey, <MlKem768 as Kem>::SecretKey>,
    ) -> Result<Self, NoiseError> {
        let raw: Box<[u8]> = mlkem768.public.as_slice().into();
        let raw =
            raw.try_into().map_err(|_| NoiseError::Keys("the ML-KEM public key has a wrong size".into()))?;
        let public = PublicKey { x25519: x25519.public, mlkem768: raw };
        Ok(Self { x25519, mlkem768, public })
    }

    /// What others may know.
    pub fn public_key(&self) -> &PublicKey {
        &self.public
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("public", &self.public).finish_non_exhaustive()
    }
}
