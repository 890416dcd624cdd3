//! Signed bearer tokens: compact JSON web tokens with HS256 and the claims of section 2.4.
//!
//! `jsonwebtoken` checks signatures. Headers and claims are read here: it refuses a `typ`, `kid` or `crit` of the wrong type,
//! which released servers ignore, and judges times by its own clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::crypto::{self, CryptoProvider, JwtVerifier, KeyUtils};
use jsonwebtoken::errors::{ErrorKind, new_error};
use jsonwebtoken::signature::{self, Verifier};
use jsonwebtoken::{Algorithm, DecodingKey};
use ring::hmac;
use serde_json::Value;

const INVALID: &str = "invalid websocket jwt";

/// HS256 on the HMAC that TLS links anyway: the backends of `jsonwebtoken` bring RSA and every curve along.
const HS256: &CryptoProvider = &CryptoProvider {
    signer_factory: |_, _| Err(new_error(ErrorKind::InvalidAlgorithm)),
    verifier_factory: verifier,
    key_utils: KeyUtils::new_unimplemented(),
};

struct Hs256(hmac::Key);

fn verifier(algorithm: &Algorithm, key: &DecodingKey) -> jsonwebtoken::errors::Result<Box<dyn JwtVerifier>> {
    if *algorithm != Algorithm::HS256 {
        return Err(new_error(ErrorKind::InvalidAlgorithm));
    }
    Ok(Box::new(Hs256(hmac::Key::new(hmac::HMAC_SHA256, key.try_get_as_bytes()?))))
}

impl Verifier<Vec<u8>> for Hs256 {
    fn verify(&self, message: &[u8], tag: &Vec<u8>) -> Result<(), signature::Error> {
        hmac::verify(&self.0, message, tag).map_err(|_| signature::Error::new())
    }
}

impl JwtVerifier for Hs256 {
    fn algorithm(&self) -> Algorithm {
        Algorithm::HS256
    }
}

/// Checks tokens. The key wipes itself when dropped.
pub(super) struct SignedBearer {
    key: DecodingKey,
    issuer: Option<String>,
    audience: Option<String>,
    skew: i128,
}

impl SignedBearer {
    /// # Errors
    /// The secret is empty.
    pub(super) fn new(
        secret: &[u8],
        issuer: Option<String>,
        audience: Option<String>,
        skew: Duration,
    ) -> jsonwebtoken::errors::Result<Self> {
        // The process has one provider. Another that is there already knows HS256 as well.
        let _ = HS256.install_default();
        let key = DecodingKey::from_secret(secret)?;
        Ok(Self { key, issuer, audience, skew: i128::from(skew.as_secs()) })
    }

    /// Accepts the token, or gives the refusal's text. The signature comes first: nothing that an unsigned
    /// token claims is looked at.
    pub(super) fn check(&self, token: &str, now: SystemTime) -> Result<(), &'static str> {
        let (signed, signature) = token.rsplit_once('.').ok_or(INVALID)?;
        let (header, claims) = signed.split_once('.').ok_or(INVALID)?;
        if json(header)?.get("alg").and_then(Value::as_str) != Some("HS256") {
            return Err(INVALID);
        }
        match crypto::verify(signature, signed.as_bytes(), &self.key, Algorithm::HS256) {
            Ok(true) => self.check_claims(&json(claims)?, seconds(now)),
            Ok(false) | Err(_) => Err(INVALID),
        }
    }

    fn check_claims(&self, claims: &Value, now: i128) -> Result<(), &'static str> {
        let expires = integer(claims.get("exp"))?.ok_or(INVALID)?;
        let not_before = integer(claims.get("nbf"))?;
        if now > expires + self.skew {
            return Err("expired websocket jwt");
        }
        if not_before.is_some_and(|start| now < start - self.skew) {
            return Err("websocket jwt is not valid yet");
        }
        let text = |value: &Value, expected: &String| value.as_str() == Some(expected);
        if let Some(issuer) = &self.issuer
            && !claims.get("iss").is_some_and(|value| text(value, issuer))
        {
            return Err("websocket jwt issuer mismatch");
        }
        if let Some(audience) = &self.audience {
            let found = match claims.get("aud") {
                Some(Value::Array(list)) => list.iter().any(|value| text(value, audience)),
                Some(value) => text(value, audience),
                None => false,
            };
            if !found {
                return Err("websocket jwt audience mismatch");
            }
        }
        Ok(())
    }
}

/// Whom a token that was checked is about, where it says so.
pub(super) fn subject(token: &str) -> Option<String> {
    json(token.split('.').nth(1)?).ok()?.get("sub")?.as_str().map(str::to_owned)
}

/// One part of a token: an object in base64url without padding.
fn json(part: &str) -> Result<Value, &'static str> {
    let bytes = base64_simd::URL_SAFE_NO_PAD.decode_to_vec(part).map_err(|_| INVALID)?;
    let value: Value = serde_json::from_slice(&bytes).map_err(|_| INVALID)?;
    if value.is_object() { Ok(value) } else { Err(INVALID) }
}

/// A time claim; missing and null are none, anything but an integer is refused.
fn integer(value: Option<&Value>) -> Result<Option<i128>, &'static str> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let integer = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
            integer.map(Some).ok_or(INVALID)
        }
    }
}

fn seconds(now: SystemTime) -> i128 {
    match now.duration_since(UNIX_EPOCH) {
        Ok(after) => i128::from(after.as_secs()),
        Err(before) => -i128::from(before.duration().as_secs()),
    }
}
