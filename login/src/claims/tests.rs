//! Tests of `claims`.

use super::*;
use proptest::prelude::*;
use serde_json::json;

fn jwt(payload: &str) -> String {
    format!("e30.{}.c2ln", base64_simd::URL_SAFE_NO_PAD.encode_to_string(payload))
}

#[test]
fn an_id_token_tells_email_plan_user_account_and_fedramp() {
    let claims = |auth: Value| IdClaims::read(&jwt(&json!({ AUTH_CLAIM: auth }).to_string())).unwrap();
    let full = json!({
        "email": "dev@example.test",
        AUTH_CLAIM: {
            "chatgpt_plan_type": "pro", "chatgpt_user_id": "user-1", "user_id": "user-2",
            "chatgpt_account_id": "acct-1", "chatgpt_account_is_fedramp": true, "more": [1],
        },
    });
    assert_eq!(
        IdClaims::read(&jwt(&full.to_string())).unwrap(),
        IdClaims {
            email: Some("dev@example.test".into()),
            plan: Some(Plan::Pro),
            user_id: Some("user-1".into()),
            account_id: Some("acct-1".into()),
            is_fedramp: true,
            has_account_claims: true,
        }
    );
    assert_eq!(claims(json!({"user_id": "user-2"})).user_id.as_deref(), Some("user-2"));
    assert!(!claims(json!({})).is_fedramp);
    let profile = jwt(r#"{"https://api.openai.com/profile": {"email": "p@example.test"}}"#);
    assert_eq!(IdClaims::read(&profile).unwrap().email.as_deref(), Some("p@example.test"));
}

#[test]
fn every_claim_may_be_missing_and_both_objects_may_be_null() {
    for payload in [
        "{}",
        r#"{"https://api.openai.com/auth": null, "https://api.openai.com/profile": null, "email": null}"#,
    ] {
        assert_eq!(IdClaims::read(&jwt(payload)).unwrap(), IdClaims::default(), "{payload}");
    }
}

#[test]
fn a_claim_of_the_wrong_type_makes_the_token_unusable() {
    for payload in [
        r#"{"email": 1}"#.to_owned(),
        json!({ AUTH_CLAIM: "text" }).to_string(),
        json!({ AUTH_CLAIM: [] }).to_string(),
        json!({ AUTH_CLAIM: {"chatgpt_plan_type": 1} }).to_string(),
        json!({ AUTH_CLAIM: {"chatgpt_account_is_fedramp": "true"} }).to_string(),
        json!({ AUTH_CLAIM: {"chatgpt_user_id": []} }).to_string(),
        json!({ AUTH_CLAIM: {"chatgpt_account_id": {}} }).to_string(),
        json!({ PROFILE_CLAIM: {"email": 1} }).to_string(),
        json!({ PROFILE_CLAIM: 1 }).to_string(),
        "[]".to_owned(),
        "null".to_owned(),
        "{".to_owned(),
    ] {
        assert_eq!(IdClaims::read(&jwt(&payload)), Err(ClaimsError::Json), "{payload}");
    }
}

#[test]
fn a_token_has_three_parts_and_a_payload_without_padding() {
    let payload = "e30";
    for (token, wanted) in [
        (format!("h.{payload}.s"), Ok(())),
        (format!("h.{payload}.s.fourth"), Ok(())),
        (format!("h.{payload}"), Err(ClaimsError::Format)),
        (format!("h.{payload}."), Err(ClaimsError::Format)),
        (format!(".{payload}.s"), Err(ClaimsError::Format)),
        ("h..s".to_owned(), Err(ClaimsError::Format)),
        (String::new(), Err(ClaimsError::Format)),
        ("h.e30=.s".to_owned(), Err(ClaimsError::Encoding)),
        ("h.e30\n.s".to_owned(), Err(ClaimsError::Encoding)),
        ("h.+/+/.s".to_owned(), Err(ClaimsError::Encoding)),
    ] {
        assert_eq!(IdClaims::read(&token).map(drop), wanted, "{token}");
    }
}

#[test]
fn plans_are_known_by_their_words_and_others_are_kept() {
    for (word, plan) in [
        ("free", Plan::Free),
        ("go", Plan::Go),
        ("plus", Plan::Plus),
        ("PRO", Plan::Pro),
        ("prolite", Plan::ProLite),
        ("team", Plan::Team),
        ("self_serve_business_usage_based", Plan::SelfServeBusinessUsageBased),
        ("business", Plan::Business),
        ("enterprise_cbp_usage_based", Plan::EnterpriseCbpUsageBased),
        ("enterprise", Plan::Enterprise),
        ("hc", Plan::Enterprise),
        ("edu", Plan::Edu),
        ("education", Plan::Edu),
        ("Mystery", Plan::Unknown("Mystery".into())),
    ] {
        assert_eq!(Plan::from(word.to_owned()), plan);
    }
}

#[test]
fn an_access_token_ends_when_it_says_so_and_an_opaque_one_never() {
    let at = |payload: &str| access_expiry(&jwt(payload)).map(|time| time.as_second());
    assert_eq!(at(r#"{"exp": 1700000000}"#), Some(1_700_000_000));
    assert_eq!(at(r#"{"exp": "1700000000"}"#), None);
    assert_eq!(at(r#"{"exp": 9223372036854775807}"#), None);
    assert_eq!(at("{}"), None);
    assert_eq!(access_expiry("opaque"), None);
}

proptest! {
    #[test]
    fn no_text_makes_the_reader_fail_otherwise_than_with_an_error(text in ".*", payload in ".*") {
        let _ = IdClaims::read(&text);
        let _ = IdClaims::read(&jwt(&payload));
        let _ = access_expiry(&jwt(&payload));
    }
}
