//! The JSON bodies of the registry (`remote.md` sections 2, 3 and 6), for executor, registry and harness alike.

use std::collections::BTreeMap;
use std::fmt;

use codex_secret::Secret;
use serde::{Deserialize, Serialize};

/// The `suite` of a public key object (section 7; the hashed protocol name differs).
pub const SUITE: &str = "Noise_hybridIK_X25519+MLKEM768_AESGCM_SHA256";
/// The `security_profile` of contract E.
pub const NOISE_PROFILE: &str = "noise_hybrid_ik_v1";
/// Bytes of a raw X25519 public key.
pub const X25519_BYTES: usize = 32;
/// Bytes of a raw ML-KEM-768 public key.
pub const MLKEM768_BYTES: usize = 1184;
/// Longest `harness_key_authorization` in bytes (section 7).
pub const AUTHORIZATION_BYTES: usize = 4096;
/// The header of 6.3 that names the stream of a handshake, when its id is a UUID.
pub const STREAM_ID_HEADER: &str = "x-codex-noise-stream-id";
/// What a rendezvous may put on a refused upgrade (8.1).
pub const REJECTION_HEADER: &str = "x-codex-rendezvous-rejection-reason";
/// What our rendezvous says, with 1012, to an executor when a newer one has registered its environment (section 10).
pub const SUPERSEDED: &str = "a newer executor of this environment has registered";
/// The error code of a registration that is to be tried again, with 503 (6.1).
pub const REGISTRATION_CONFLICT: &str = "registration_conflict";
/// The error code of a registration that is to be tried again, with 502 (6.1).
pub const AUTHENTICATION_UNAVAILABLE: &str = "authentication_service_unavailable";

/// The public halves of an identity. On the wire an object with exactly three members, keys in base64 (6.1).
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "PublicKeyObject", into = "PublicKeyObject")]
pub struct PublicKey {
    /// The X25519 key, 32 bytes.
    pub x25519: [u8; X25519_BYTES],
    /// The ML-KEM-768 key, 1184 bytes.
    pub mlkem768: Box<[u8; MLKEM768_BYTES]>,
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PublicKey(")?;
        self.x25519.iter().take(4).try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str("…)")
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct PublicKeyObject {
    suite: String,
    x25519_public_key: String,
    mlkem768_public_key: String,
}

/// A public key object that can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Another kind of key.
    #[error("unsupported suite {0:?}: expected {SUITE:?}")]
    Suite(String),
    /// Not the base64 of a key.
    #[error("{member} is not the standard base64 of {bytes} bytes")]
    Key {
        /// The member of the object.
        member: &'static str,
        /// How many bytes the key has.
        bytes: usize,
    },
}

impl TryFrom<PublicKeyObject> for PublicKey {
    type Error = PublicKeyError;

    fn try_from(object: PublicKeyObject) -> Result<Self, PublicKeyError> {
        if object.suite != SUITE {
            return Err(PublicKeyError::Suite(object.suite));
        }
        Ok(Self {
            x25519: *raw("x25519_public_key", &object.x25519_public_key)?,
            mlkem768: raw("mlkem768_public_key", &object.mlkem768_public_key)?,
        })
    }
}

fn raw<const N: usize>(member: &'static str, text: &str) -> Result<Box<[u8; N]>, PublicKeyError> {
    let wrong = PublicKeyError::Key { member, bytes: N };
    let bytes = crate::bytes::decode(text).map_err(|_| wrong.clone())?;
    bytes.into_boxed_slice().try_into().map_err(|_| wrong)
}

impl From<PublicKey> for PublicKeyObject {
    fn from(key: PublicKey) -> Self {
        Self {
            suite: SUITE.to_owned(),
            x25519_public_key: base64_simd::STANDARD.encode_to_string(key.x25519),
            mlkem768_public_key: base64_simd::STANDARD.encode_to_string(key.mlkem768.as_slice()),
        }
    }
}

/// Contract A: the body of a registration (2.1).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CloudRegister {
    /// `codex-exec-server-` and 64 hexadecimal digits; constant over reconnects.
    pub idempotency_id: String,
    /// The service makes one when it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub environment_id: Option<String>,
    /// The name that people see.
    pub name: String,
    /// Always empty from our executors.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Always empty from our executors.
    #[serde(default)]
    pub metadata: BTreeMap<String, String>,
}

/// Contract A: the answer to a registration (2.1).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CloudRegistered {
    /// Id of the executor.
    pub id: String,
    /// The environment it serves.
    pub environment_id: String,
    /// Where to connect; holds a ticket.
    pub url: Secret,
}

/// Contracts C and C': the answer to a registration, which has no body (section 3).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ExecutorRegistered {
    /// May differ from the requested one; only printed.
    pub executor_id: String,
    /// Where to connect; holds a ticket.
    pub url: Secret,
}

/// Contract D: the answer to a registration, which has no body (section 3).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct EnvironmentRegistered {
    /// May differ from the requested one; only printed.
    pub environment_id: String,
    /// Where to connect; holds a ticket.
    pub url: Secret,
}

/// Contract F: what runs on the websocket.
pub const DIRECT_TRANSPORT: &str = "direct_jsonrpc_v1";

/// Contract F: the body of a registration (section 11).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DirectRegister {
    /// Always [`DIRECT_TRANSPORT`].
    pub transport: String,
}

/// Contract F: the answer to a registration (section 11). Nothing of it is empty.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DirectRegistered {
    /// The one asked for, else the answer is refused.
    pub environment_id: String,
    /// [`DIRECT_TRANSPORT`], else the answer is refused.
    pub transport: String,
    /// Names this registration.
    pub registration_id: String,
    /// Where to connect; may hold a ticket.
    pub url: Secret,
}

/// Contract E: the body of a registration (6.1).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NoiseRegister {
    /// Always [`NOISE_PROFILE`].
    pub security_profile: String,
    /// The executor's identity, constant for its process.
    pub executor_public_key: PublicKey,
}

/// Contract E: the answer to a registration (6.1).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct NoiseRegistered {
    /// The one asked for, else the answer is refused.
    pub environment_id: String,
    /// Where to connect; holds a ticket.
    pub url: Secret,
    /// [`NOISE_PROFILE`], else the answer is refused.
    pub security_profile: String,
    /// Part of every handshake's prologue.
    pub executor_registration_id: String,
}

/// The body of `/connect` (6.2).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Connect {
    /// The harness's identity, constant for its process.
    pub harness_public_key: PublicKey,
}

/// The answer to `/connect` (6.2): what one websocket attempt needs.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Connected {
    /// The one asked for, else the answer is refused.
    pub environment_id: String,
    /// Where to connect; holds a ticket.
    pub url: Secret,
    /// [`NOISE_PROFILE`], else the answer is refused.
    pub security_profile: String,
    /// Part of the handshake's prologue.
    pub executor_registration_id: String,
    /// Whom the handshake has to reach.
    pub executor_public_key: PublicKey,
    /// Goes encrypted to the executor, which has it validated; at most [`AUTHORIZATION_BYTES`].
    pub harness_key_authorization: Secret,
}

/// The body of `/validate` (6.3).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Validate {
    /// The executor's own registration.
    pub executor_registration_id: String,
    /// The key that shook hands.
    pub harness_public_key: PublicKey,
    /// What that harness brought.
    pub harness_key_authorization: Secret,
}

/// The answer to `/validate` (6.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Validated {
    /// Only `true` authorises.
    #[serde(default)]
    pub valid: bool,
}

/// The body of an error answer (1.2).
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct ErrorBody {
    /// Code and sentence, where the body has them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorDetail>,
}

/// A code for programs and a sentence for people, both optional (1.2).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// What programs act on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// A sentence for people.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl ErrorBody {
    /// A body with both members.
    pub fn new(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { error: Some(ErrorDetail { code: Some(code.into()), message: Some(message.into()) }) }
    }
}
