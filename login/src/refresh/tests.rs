//! Tests of `refresh`.

use super::*;
use crate::credentials::StoredCredentials;
use proptest::prelude::*;
use serde_json::json;

const NOW: &str = "2026-11-20T12:00:00Z";

fn jwt(payload: Value) -> String {
    format!("e30.{}.c2ln", base64_simd::URL_SAFE_NO_PAD.encode_to_string(payload.to_string()))
}

fn auth(access_token: &str, last_refresh: &str) -> Auth {
    let tokens = Tokens::new("e30.e30.c2ln".into(), access_token.into(), "r".into()).unwrap();
    Auth::from_chatgpt(StoredCredentials::from_chatgpt(tokens, None, last_refresh.parse().unwrap()))
}

#[test]
fn tokens_are_due_before_their_end_and_without_one_by_age() {
    let now: Timestamp = NOW.parse().unwrap();
    let ends_in = |minutes: i64| jwt(json!({"exp": now.as_second() + minutes * 60}));
    for (token, last_refresh, wanted) in [
        (ends_in(4), NOW, Some(RefreshReason::ProactiveExpiry)),
        (ends_in(5), NOW, Some(RefreshReason::ProactiveExpiry)),
        (ends_in(-100), NOW, Some(RefreshReason::ProactiveExpiry)),
        (ends_in(10), NOW, None),
        (ends_in(10), "2020-01-01T00:00:00Z", None),
        ("opaque".into(), "2026-11-12T13:00:00Z", None),
        ("opaque".into(), "2026-11-12T11:00:00Z", Some(RefreshReason::Scheduled)),
        (jwt(json!({})), "2026-11-12T11:00:00Z", Some(RefreshReason::Scheduled)),
    ] {
        assert_eq!(due(&auth(&token, last_refresh), now), wanted, "{token} {last_refresh}");
    }
    assert_eq!(due(&Auth::from_api_key("sk".into()), now), None);
    assert_eq!(due(&Auth::from_chatgpt(StoredCredentials::default()), now), None);
    let handed_in = json!({
        "auth_mode": "chatgptAuthTokens", "last_refresh": "2020-01-01T00:00:00Z",
        "tokens": {"id_token": "e30.e30.c2ln", "access_token": "opaque", "refresh_token": ""},
    });
    let handed_in = StoredCredentials::from_json(handed_in.to_string().as_bytes()).unwrap();
    assert_eq!(due(&Auth::from_chatgpt(handed_in), now), None);
}

#[test]
fn address_and_client_follow_override_origin_and_default() {
    let origin = Provenance { issuer: "https://issuer.test/".into(), client_id: "app_origin".into() };
    let default = format!("{DEFAULT_ISSUER}/oauth/token");
    let override_url = "http://127.0.0.1:1/refresh";
    for (refresh_url, client_id, provenance, url, client) in [
        (None, None, None, default.as_str(), DEFAULT_CLIENT_ID),
        (None, Some("app_var"), None, default.as_str(), "app_var"),
        (None, None, Some(&origin), "https://issuer.test/oauth/token", "app_origin"),
        (None, Some("app_var"), Some(&origin), "https://issuer.test/oauth/token", "app_origin"),
        (Some(override_url), None, None, override_url, DEFAULT_CLIENT_ID),
        (Some(override_url), Some("app_var"), None, override_url, "app_var"),
        (Some(override_url), Some("app_var"), Some(&origin), override_url, "app_origin"),
    ] {
        let variables = Variables {
            refresh_url: refresh_url.map(str::to_owned),
            client_id: client_id.map(str::to_owned),
            ..Variables::default()
        };
        let wanted = Endpoint { url: url.to_owned(), client_id: client.to_owned() };
        assert_eq!(endpoint(&variables, provenance), wanted);
    }
}

#[test]
fn refusals_fall_into_their_classes() {
    use PermanentFailure::{AlreadyUsed, Expired, Other, Revoked};
    for (status, body, wanted) in [
        (401, r#"{"error": {"code": "refresh_token_expired"}}"#, Some(Expired)),
        (401, r#"{"error": {"code": "Refresh_Token_Expired"}}"#, Some(Expired)),
        (400, r#"{"error": "refresh_token_reused"}"#, Some(AlreadyUsed)),
        (401, r#"{"code": "refresh_token_invalidated"}"#, Some(Revoked)),
        (401, r#"{"error": {"message": "no"}, "code": "refresh_token_reused"}"#, Some(AlreadyUsed)),
        (
            401,
            r#"{"error": {"code": "refresh_token_expired"}, "code": "refresh_token_reused"}"#,
            Some(Expired),
        ),
        (401, "no json", Some(Other)),
        (401, "", Some(Other)),
        (401, r#"{"error": "something"}"#, Some(Other)),
        (400, r#"{"error": "invalid_grant"}"#, Some(Other)),
        (400, r#"{"error": "invalid_request"}"#, None),
        (400, "", None),
        (403, r#"{"error": "invalid_grant"}"#, None),
        (429, "{}", None),
        (500, r#"{"error": "refresh_token_expired"}"#, None),
        (502, "<html>", None),
        (302, "", None),
    ] {
        let class = classify(StatusCode::from_u16(status).unwrap(), body.as_bytes());
        match wanted {
            Some(failure) => assert_eq!(class, RefreshError::Permanent(failure), "{status} {body}"),
            None => assert!(
                matches!(&class, RefreshError::Transient { status: Some(seen), .. } if *seen == status),
                "{status} {body}: {class:?}"
            ),
        }
    }
}

#[test]
fn each_permanent_failure_says_why_and_what_to_do() {
    use PermanentFailure::{AccountChanged, AlreadyUsed, Expired, Other, Revoked};
    for (failure, why) in [
        (Expired, "expired"),
        (AlreadyUsed, "already used"),
        (Revoked, "revoked"),
        (Other, "refused"),
        (AccountChanged, "another account"),
    ] {
        let text = RefreshError::Permanent(failure).to_string();
        assert!(text.contains(why) && text.ends_with("Log out and sign in again."), "{text}");
    }
}

#[test]
fn a_refresh_token_goes_out_encrypted_or_stays_here() {
    for (url, fine) in [
        ("https://auth.openai.com/oauth/token", true),
        ("http://127.0.0.1:80/oauth/token", true),
        ("http://localhost:1455/oauth/token", true),
        ("http://[::1]:80/", true),
        ("http://issuer.test/oauth/token", false),
        ("ftp://127.0.0.1/", false),
        ("issuer", false),
    ] {
        assert_eq!(check_address(url).is_ok(), fine, "{url}");
    }
}

proptest! {
    #[test]
    fn no_refusal_makes_the_reader_fail(status in 100..1000_u16, body: Vec<u8>, json in "[a-z\\[\\]{}:\",0-9]*") {
        let status = StatusCode::from_u16(status).unwrap();
        let _ = classify(status, &body);
        let _ = classify(status, format!("{{\"error\": {json}}}").as_bytes());
    }
}
