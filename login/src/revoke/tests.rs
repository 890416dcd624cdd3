//! Tests of `revoke`.

use super::*;
use serde_json::{Value, json};

fn body_of(document: Value) -> Option<Value> {
    let credentials = StoredCredentials::from_json(document.to_string().as_bytes()).unwrap();
    body(&Variables::default(), &credentials).map(|body| serde_json::to_value(&body).unwrap())
}

fn tokens(access: &str, refresh: &str) -> Value {
    json!({"id_token": "e30.e30.c2ln", "access_token": access, "refresh_token": refresh})
}

#[test]
fn the_refresh_token_goes_first_then_the_access_token() {
    assert_eq!(
        body_of(json!({"tokens": tokens("a", "r")})),
        Some(json!({"token": "r", "token_type_hint": "refresh_token", "client_id": DEFAULT_CLIENT_ID}))
    );
    assert_eq!(
        body_of(json!({"tokens": tokens("a", "")})),
        Some(json!({"token": "a", "token_type_hint": "access_token"}))
    );
    let mut origin = tokens("a", "r");
    origin["oauth_provenance"] = json!({"issuer": "https://i", "client_id": "app_own"});
    assert_eq!(body_of(json!({"tokens": origin})).unwrap()["client_id"], "app_own");
}

#[test]
fn what_is_no_sign_in_with_tokens_needs_no_request() {
    for document in [
        json!({}),
        json!({"OPENAI_API_KEY": "sk"}),
        json!({"auth_mode": "apikey", "OPENAI_API_KEY": "sk", "tokens": tokens("a", "r")}),
        json!({"personal_access_token": "at-1"}),
        json!({"tokens": tokens("", "")}),
    ] {
        assert_eq!(body_of(document.clone()), None, "{document}");
    }
}

#[test]
fn the_address_follows_the_overrides() {
    for (revoke_url, refresh_url, wanted) in [
        (None, None, "https://auth.openai.com/oauth/revoke"),
        (Some("http://r/x?y"), Some("http://t/oauth/token"), "http://r/x?y"),
        (None, Some("http://t:1/oauth/token?z=1"), "http://t:1/oauth/revoke"),
        (None, Some("no url"), "https://auth.openai.com/oauth/revoke"),
    ] {
        let variables = Variables {
            revoke_url: revoke_url.map(str::to_owned),
            refresh_url: refresh_url.map(str::to_owned),
            ..Variables::default()
        };
        assert_eq!(address(&variables), wanted);
    }
}
