//! The rules of section 2.4, row by row.

use std::time::UNIX_EPOCH;

use ring::hmac::{self, Algorithm, HMAC_SHA256, HMAC_SHA384, HMAC_SHA512};
use serde_json::{Value, json};

use super::*;

const SECRET: &str = "0123456789abcdef0123456789abcdef";
const NOW: u64 = 1_700_000_000;

fn signed(issuer: Option<&str>, audience: Option<&str>) -> Auth {
    Auth::new(AuthConfig::SignedBearer {
        secret: format!("  {SECRET}\n").into(),
        issuer: issuer.map(str::to_owned),
        audience: audience.map(str::to_owned),
        max_clock_skew: DEFAULT_CLOCK_SKEW,
    })
    .unwrap()
}

fn part(value: &Value) -> String {
    base64_simd::URL_SAFE_NO_PAD.encode_to_string(value.to_string())
}

fn token_with(header: &Value, claims: &Value, secret: &str, algorithm: Algorithm) -> String {
    let message = format!("{}.{}", part(header), part(claims));
    let signature = hmac::sign(&hmac::Key::new(algorithm, secret.as_bytes()), message.as_bytes());
    format!("{message}.{}", base64_simd::URL_SAFE_NO_PAD.encode_to_string(signature))
}

fn token(claims: &Value) -> String {
    token_with(&json!({"alg": "HS256"}), claims, SECRET, HMAC_SHA256)
}

fn check(auth: &Auth, token: &str) -> Result<(), &'static str> {
    auth.check(Some(format!("Bearer {token}").as_bytes()), UNIX_EPOCH + Duration::from_secs(NOW))
}

#[test]
fn claims_are_judged_by_the_table() {
    let auth = signed(None, None);
    let (invalid, expired, early) =
        (Err("invalid websocket jwt"), Err("expired websocket jwt"), Err("websocket jwt is not valid yet"));
    for (claims, expected) in [
        (json!({"exp": NOW + 60}), Ok(())),
        (json!({"exp": NOW - 30}), Ok(())),
        (json!({"exp": NOW - 31}), expired),
        (json!({"exp": -5}), expired),
        (json!({"exp": u64::MAX}), Ok(())),
        (json!({"exp": i64::MAX}), Ok(())),
        (json!({}), invalid),
        (json!({"exp": null}), invalid),
        (json!({"exp": 1e12}), invalid),
        (json!({"exp": "9999999999"}), invalid),
        (json!({"exp": NOW + 60, "nbf": NOW + 30}), Ok(())),
        (json!({"exp": NOW + 60, "nbf": NOW + 31}), early),
        (json!({"exp": NOW + 60, "nbf": 1.5}), invalid),
        (json!({"exp": NOW + 60, "iat": NOW + 100}), Ok(())),
        (json!({"exp": NOW + 60, "iat": "x", "iss": "any", "aud": ["any"]}), Ok(())),
        (json!([NOW]), invalid),
    ] {
        assert_eq!(check(&auth, &token(&claims)), expected, "{claims}");
    }
}

#[test]
fn issuer_and_audience_are_checked_when_asked_for() {
    let auth = signed(Some("me"), Some("you"));
    let (issuer, audience) = (Err("websocket jwt issuer mismatch"), Err("websocket jwt audience mismatch"));
    for (iss, aud, expected) in [
        (json!("me"), json!("you"), Ok(())),
        (json!("me"), json!(["x", "you"]), Ok(())),
        (json!("me"), json!(["x"]), audience),
        (json!("me"), json!([]), audience),
        (json!("me"), json!("x"), audience),
        (json!("me"), Value::Null, audience),
        (json!("x"), json!("you"), issuer),
        (json!(["me"]), json!("you"), issuer),
        (Value::Null, json!("you"), issuer),
    ] {
        let claims = json!({"exp": NOW, "iss": iss, "aud": aud});
        assert_eq!(check(&auth, &token(&claims)), expected, "{claims}");
    }
}

#[test]
fn only_hs256_with_our_secret_passes() {
    let auth = signed(None, None);
    let claims = json!({"exp": NOW + 60});
    let make = |header: Value, secret: &str, algorithm| token_with(&header, &claims, secret, algorithm);
    let other = "another secret that is long enough";
    let good = token(&claims);
    for (token, passes) in [
        (make(json!({"alg": "HS256", "typ": 5, "kid": [], "crit": ["x"]}), SECRET, HMAC_SHA256), true),
        (make(json!({"alg": "HS384"}), SECRET, HMAC_SHA384), false),
        (make(json!({"alg": "HS512"}), SECRET, HMAC_SHA512), false),
        (make(json!({"alg": "none"}), SECRET, HMAC_SHA256), false),
        (make(json!({"alg": "hs256"}), SECRET, HMAC_SHA256), false),
        (make(json!({}), SECRET, HMAC_SHA256), false),
        (make(json!({"alg": "HS256"}), other, HMAC_SHA256), false),
        (format!("{}.{}.", part(&json!({"alg": "none"})), part(&claims)), false),
        (format!("{good}.x"), false),
        (good.replace('.', ""), false),
        ("a.b.c".into(), false),
        (good, true),
    ] {
        let expected = if passes { Ok(()) } else { Err("invalid websocket jwt") };
        assert_eq!(check(&auth, &token), expected, "{token}");
    }
}

#[test]
fn the_header_is_read_with_patience() {
    let auth = Auth::new(AuthConfig::CapabilityToken(" s3cret\n".into())).unwrap();
    let invalid = Err("invalid authorization header");
    for (header, expected) in [
        (None, Err("missing websocket bearer token")),
        (Some("Bearer s3cret"), Ok(())),
        (Some("bEARER   s3cret  "), Ok(())),
        (Some("Bearer s3cre"), Err("invalid websocket bearer token")),
        (Some("Bearer s3cret s3cret"), Err("invalid websocket bearer token")),
        (Some("Basic s3cret"), invalid),
        (Some("s3cret"), invalid),
        (Some("Bearer"), invalid),
        (Some(""), invalid),
    ] {
        assert_eq!(auth.check(header.map(str::as_bytes), UNIX_EPOCH), expected, "{header:?}");
    }
    assert_eq!(auth.check(Some(b"Bearer \xff"), UNIX_EPOCH), invalid);
    assert_eq!(Auth::open().check(None, UNIX_EPOCH), Ok(()));
}

#[test]
fn a_digest_stands_for_its_token_in_any_case() {
    let digits = hex::encode(Sha256::digest("s3cret"));
    for digits in [digits.to_uppercase(), digits.clone()] {
        let auth = Auth::new(AuthConfig::CapabilitySha256(digits)).unwrap();
        assert_eq!(check(&auth, "s3cret"), Ok(()));
        assert!(check(&auth, "other").is_err());
    }
    for bad in ["", "12", &format!("{digits}0"), &digits.replacen(&digits[..1], "g", 1)] {
        let error = Auth::new(AuthConfig::CapabilitySha256(bad.into())).unwrap_err();
        assert!(matches!(error, AuthError::BadDigest), "{bad}");
    }
}

#[test]
fn secrets_come_from_files_and_are_never_shown() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("secret");
    let write = |text: &str| std::fs::write(&path, text).unwrap();
    let secret = |path: &Path| {
        let config = AuthConfig::secret_file(path, None, None, None)?;
        assert!(!format!("{config:?}").contains("0123"));
        Auth::new(config)
    };
    write(&format!("\n{SECRET}\n"));
    assert!(!format!("{:?}", secret(&path).unwrap()).contains("0123"));
    assert!(Auth::new(AuthConfig::token_file(&path).unwrap()).is_ok());
    write(&format!("  {}  ", &SECRET[1..]));
    assert!(matches!(secret(&path).unwrap_err(), AuthError::ShortSecret(31)));
    write(" \n");
    assert!(matches!(Auth::new(AuthConfig::token_file(&path).unwrap()), Err(AuthError::EmptyToken)));
    let missing = AuthConfig::token_file(&folder.path().join("none")).unwrap_err().to_string();
    assert!(missing.contains("none"), "{missing}");
}

#[test]
fn an_endless_file_is_refused_with_its_name_and_the_bound() {
    let endless = Path::new("/dev/zero");
    for refused in [AuthConfig::token_file(endless), AuthConfig::secret_file(endless, None, None, None)] {
        let sentence = refused.unwrap_err().to_string();
        assert!(sentence.contains("/dev/zero") && sentence.contains("more than 65536 bytes"), "{sentence}");
    }
}
