//! Who may connect: capability tokens and signed bearer tokens (section 2.4).

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use codex_outgoing::file;
use codex_secret::Secret;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::carrier::Owner;
use super::jwt::{self, SignedBearer};

/// Clock skew granted to a signed token when nothing else is said (2.4).
pub const DEFAULT_CLOCK_SKEW: Duration = Duration::from_secs(30);
/// Shortest secret for signed tokens, in bytes (2.4). Fixed by the wire.
pub const SHORTEST_SECRET_BYTES: usize = 32;

/// How connections are to be checked, from values already read. Debug shows no secret.
pub enum AuthConfig {
    /// Anybody may connect.
    Open,
    /// The token itself; white space around it does not count.
    CapabilityToken(Secret),
    /// The SHA-256 of the token, as 64 hex digits of any case.
    CapabilitySha256(String),
    /// JSON web tokens signed with HS256.
    SignedBearer {
        /// The shared secret, at least 32 bytes; white space around it does not count.
        secret: Secret,
        /// What `iss` must be.
        issuer: Option<String>,
        /// What `aud` must be or hold.
        audience: Option<String>,
        /// How far the clocks may differ, counted in whole seconds.
        max_clock_skew: Duration,
    },
}

/// Why authentication can't be set up. Messages hold no secret.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// A file could not be read.
    #[error("cannot read {what} from {}: {source}", path.display())]
    Unreadable {
        /// What the file was to hold.
        what: &'static str,
        /// The file that was to be read.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The token is empty.
    #[error("the websocket token is empty; put a token into its file")]
    EmptyToken,
    /// Not a SHA-256.
    #[error("the websocket token's SHA-256 must be 64 hex digits")]
    BadDigest,
    /// A secret that could be guessed.
    #[error("the websocket shared secret has {0} bytes; it needs at least {SHORTEST_SECRET_BYTES}")]
    ShortSecret(usize),
}

impl AuthConfig {
    /// The capability token in a file; a relative path counts from the working directory.
    ///
    /// # Errors
    /// When the file can't be read as text.
    pub fn token_file(path: &Path) -> Result<Self, AuthError> {
        Ok(Self::CapabilityToken(read_secret("the websocket token", path)?))
    }

    /// Signed tokens with the secret in a file; `max_clock_skew` defaults to 30 seconds.
    ///
    /// # Errors
    /// When the file can't be read as text.
    pub fn secret_file(
        path: &Path,
        issuer: Option<String>,
        audience: Option<String>,
        max_clock_skew: Option<Duration>,
    ) -> Result<Self, AuthError> {
        let secret = read_secret("the websocket shared secret", path)?;
        let max_clock_skew = max_clock_skew.unwrap_or(DEFAULT_CLOCK_SKEW);
        Ok(Self::SignedBearer { secret, issuer, audience, max_clock_skew })
    }
}

fn read_secret(what: &'static str, path: &Path) -> Result<Secret, AuthError> {
    file::read_secret(path).map_err(|source| AuthError::Unreadable { what, path: path.to_owned(), source })
}

impl fmt::Debug for AuthConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "Open",
            Self::CapabilityToken(_) => "CapabilityToken(..)",
            Self::CapabilitySha256(_) => "CapabilitySha256(..)",
            Self::SignedBearer { .. } => "SignedBearer { .. }",
        })
    }
}

/// Checks the `Authorization` header of an upgrade.
pub struct Auth(Mode);

enum Mode {
    Open,
    Capability(Zeroizing<[u8; 32]>),
    Signed(SignedBearer),
}

impl Auth {
    /// Checks the configuration and makes it ready for use.
    ///
    /// # Errors
    /// For an empty token, a digest that is none, and a secret of fewer than 32 bytes.
    pub fn new(config: AuthConfig) -> Result<Self, AuthError> {
        Ok(Self(match config {
            AuthConfig::Open => Mode::Open,
            AuthConfig::CapabilityToken(token) if token.is_blank() => {
                return Err(AuthError::EmptyToken);
            }
            AuthConfig::CapabilityToken(token) => Mode::Capability(sha256(token.expose().trim().as_bytes())),
            AuthConfig::CapabilitySha256(digits) => {
                let mut digest = Zeroizing::new([0; 32]);
                hex::decode_to_slice(digits, &mut *digest).map_err(|_| AuthError::BadDigest)?;
                Mode::Capability(digest)
            }
            AuthConfig::SignedBearer { secret, issuer, audience, max_clock_skew } => {
                let secret = secret.expose().trim().as_bytes();
                if secret.len() < SHORTEST_SECRET_BYTES {
                    return Err(AuthError::ShortSecret(secret.len()));
                }
                SignedBearer::new(secret, issuer, audience, max_clock_skew)
                    .map(Mode::Signed)
                    .map_err(|_| AuthError::ShortSecret(secret.len()))?
            }
        }))
    }

    /// A check that lets anybody in.
    pub fn open() -> Self {
        Self(Mode::Open)
    }

    /// Whether anybody may connect.
    pub fn is_open(&self) -> bool {
        matches!(self.0, Mode::Open)
    }

    /// Lets the bearer of this `Authorization` header in, or gives the refusal's text (2.4).
    pub(super) fn check(&self, header: Option<&[u8]>, now: SystemTime) -> Result<(), &'static str> {
        let valid: &dyn Fn(&str) -> Result<(), &'static str> = match &self.0 {
            Mode::Open => return Ok(()),
            Mode::Capability(digest) => &|token| {
                let same = sha256(token.as_bytes()).ct_eq(&**digest);
                if same.into() { Ok(()) } else { Err("invalid websocket bearer token") }
            },
            Mode::Signed(signed) => &|token| signed.check(token, now),
        };
        valid(bearer_token(header.ok_or("missing websocket bearer token")?)?)
    }
}

impl Auth {
    /// The name of the token in a header that [`Self::check`] let in.
    pub(super) fn token_name(&self, header: Option<&[u8]>) -> Option<Arc<str>> {
        match &self.0 {
            Mode::Open => None,
            Mode::Capability(_) => Some("capability-token".into()),
            Mode::Signed(_) => jwt::subject(bearer_token(header?).ok()?).map(Into::into),
        }
    }

    /// Whose connection it is that [`Self::check`] let in with this header.
    pub(super) fn owner(&self, header: Option<&[u8]>) -> Owner {
        let Mode::Signed(_) = &self.0 else { return Owner::default() };
        let token = header.and_then(|header| bearer_token(header).ok()).unwrap_or_default();
        let digest = match jwt::subject(token) {
            Some(subject) => Sha256::digest([b"subject ", subject.as_bytes()].concat()),
            None => Sha256::digest([b"token ", token.as_bytes()].concat()),
        };
        Owner(Some(digest.into()))
    }
}

fn bearer_token(header: &[u8]) -> Result<&str, &'static str> {
    const INVALID: &str = "invalid authorization header";
    let header = std::str::from_utf8(header).map_err(|_| INVALID)?.trim();
    let (scheme, token) = header.split_once([' ', '\t']).ok_or(INVALID)?;
    if scheme.eq_ignore_ascii_case("bearer") { Ok(token.trim()) } else { Err(INVALID) }
}

fn sha256(bytes: &[u8]) -> Zeroizing<[u8; 32]> {
    Zeroizing::new(Sha256::digest(bytes).into())
}

impl fmt::Debug for Auth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.0 {
            Mode::Open => "Auth(open)",
            Mode::Capability(_) => "Auth(capability-token)",
            Mode::Signed(_) => "Auth(signed-bearer-token)",
        })
    }
}

#[cfg(test)]
mod tests;
