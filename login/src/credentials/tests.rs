//! Tests of `credentials`.

use super::*;
use proptest::prelude::*;
use serde_json::{Value, json};

/// An id token whose payload is `{}`.
const ID_TOKEN: &str = "e30.e30.c2ln";

fn read(document: &Value) -> Result<StoredCredentials, DocumentError> {
    StoredCredentials::from_json(document.to_string().as_bytes())
}

fn tokens() -> Value {
    json!({"id_token": ID_TOKEN, "access_token": "a", "refresh_token": "r"})
}

#[test]
fn the_kind_is_the_one_named_else_what_the_document_holds() {
    for (document, kind) in [
        (json!({}), SignInKind::Chatgpt),
        (json!({"agent_identity": "a.b.c"}), SignInKind::Chatgpt),
        (json!({"OPENAI_API_KEY": null}), SignInKind::Chatgpt),
        (json!({"OPENAI_API_KEY": "sk"}), SignInKind::ApiKey),
        (json!({"OPENAI_API_KEY": "sk", "bedrock_access_keys": {}}), SignInKind::BedrockAccessKeys),
        (json!({"bedrock_api_key": {}, "bedrock_access_keys": {}}), SignInKind::BedrockApiKey),
        (json!({"personal_access_token": "at-1", "bedrock_api_key": {}}), SignInKind::PersonalAccessToken),
        (json!({"auth_mode": null, "OPENAI_API_KEY": "sk"}), SignInKind::ApiKey),
        (json!({"auth_mode": "apikey"}), SignInKind::ApiKey),
        (json!({"auth_mode": "chatgpt", "OPENAI_API_KEY": "sk"}), SignInKind::Chatgpt),
        (json!({"auth_mode": "chatgptAuthTokens"}), SignInKind::ChatgptAuthTokens),
        (json!({"auth_mode": "agentIdentity"}), SignInKind::AgentIdentity),
        (json!({"auth_mode": "headers"}), SignInKind::Headers),
        (json!({"auth_mode": "personalAccessToken"}), SignInKind::PersonalAccessToken),
        (json!({"auth_mode": "bedrockApiKey"}), SignInKind::BedrockApiKey),
        (json!({"auth_mode": "bedrockAccessKeys"}), SignInKind::BedrockAccessKeys),
    ] {
        assert_eq!(read(&document).unwrap().kind(), kind, "{document}");
    }
}

#[test]
fn what_is_no_credentials_is_refused_by_class_and_place_without_the_value() {
    let with = |change: fn(&mut Value)| {
        let mut tokens = tokens();
        change(&mut tokens);
        json!({ "tokens": tokens }).to_string()
    };
    for (document, class) in [
        (String::new(), "unexpected end"),
        ("{".to_owned(), "unexpected end"),
        ("s3cret".to_owned(), "syntax"),
        ("{}}".to_owned(), "syntax"),
        ("[]".to_owned(), "data"),
        (r#""s3cret""#.to_owned(), "data"),
        ("null".to_owned(), "data"),
        (r#"{"auth_mode": "ApiKey"}"#.to_owned(), "data"),
        (r#"{"auth_mode": "chatGPT"}"#.to_owned(), "data"),
        (r#"{"auth_mode": "s3cret"}"#.to_owned(), "data"),
        (r#"{"auth_mode": 1}"#.to_owned(), "syntax"),
        (r#"{"OPENAI_API_KEY": 1}"#.to_owned(), "data"),
        (r#"{"OPENAI_API_KEY": ["s3cret"]}"#.to_owned(), "data"),
        (r#"{"tokens": "s3cret"}"#.to_owned(), "data"),
        (r#"{"tokens": []}"#.to_owned(), "data"),
        (r#"{"personal_access_token": {}}"#.to_owned(), "data"),
        (r#"{"agent_identity": 5}"#.to_owned(), "data"),
        (with(|tokens| tokens["id_token"] = json!("s3cret")), "data"),
        (with(|tokens| tokens["id_token"] = json!("e30.WzFd.c2ln")), "data"),
        (with(|tokens| tokens["id_token"] = json!(null)), "data"),
        (with(|tokens| tokens["access_token"] = json!(null)), "data"),
        (with(|tokens| tokens["refresh_token"] = json!(1)), "data"),
        (with(|tokens| tokens["account_id"] = json!(1)), "data"),
        (with(|tokens| drop(tokens.as_object_mut().unwrap().remove("id_token"))), "data"),
        (with(|tokens| drop(tokens.as_object_mut().unwrap().remove("access_token"))), "data"),
        (with(|tokens| drop(tokens.as_object_mut().unwrap().remove("refresh_token"))), "data"),
        (with(|tokens| tokens["oauth_provenance"] = json!({"issuer": "https://i"})), "data"),
        (with(|tokens| tokens["oauth_provenance"] = json!({"issuer": 1, "client_id": "s3cret"})), "data"),
        (with(|tokens| tokens["oauth_provenance"] = json!(["s3cret"])), "data"),
        (r#"{"last_refresh": 1700000000}"#.to_owned(), "data"),
        (r#"{"last_refresh": "yesterday"}"#.to_owned(), "data"),
    ] {
        let error = StoredCredentials::from_json(document.as_bytes()).unwrap_err();
        assert_eq!(error.class, class, "{document}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("{class} error at line ")), "{text}");
        assert!(!text.contains("s3cret"), "{text}");
    }
    let error = StoredCredentials::from_json(b"{\n  \"auth_mode\": \"x\"\n}").unwrap_err();
    assert_eq!((error.line, error.column), (2, 18));
}

#[test]
fn a_time_is_full_rfc_3339_in_any_zone() {
    for (text, wanted) in [
        ("2026-11-20T09:35:45.516421625Z", Some("2026-11-20T09:35:45.516421625Z")),
        ("2026-11-20T09:35:45Z", Some("2026-11-20T09:35:45.000000000Z")),
        ("2026-11-20t09:35:45z", Some("2026-11-20T09:35:45.000000000Z")),
        ("2026-11-20 09:35:45Z", Some("2026-11-20T09:35:45.000000000Z")),
        ("2026-11-20T10:35:45.5+01:00", Some("2026-11-20T09:35:45.500000000Z")),
        ("2026-11-20T09:35:45.51642162599Z", Some("2026-11-20T09:35:45.516421625Z")),
        ("2026-11-20T09:35:45", None),
        ("2026-11-20T09:35Z", None),
        ("2026-11-20", None),
        ("2026-11-20T09:35:45.Z", None),
        ("2026-11-20T09:35:45+01", None),
        ("2026-13-20T09:35:45Z", None),
        ("2026-11-20T09:35:45[Europe/Berlin]", None),
        ("1763631345", None),
        ("", None),
    ] {
        let read = time::parse(text).map(time::format);
        assert_eq!(read.as_deref(), wanted, "{text}");
    }
}

#[test]
fn an_api_key_is_written_as_released_programs_do() {
    let credentials = StoredCredentials::from_api_key("sk-proj-1234567890ABCDE".into());
    let wanted = "{\n  \"auth_mode\": \"apikey\",\n  \"OPENAI_API_KEY\": \"sk-proj-1234567890ABCDE\"\n}";
    assert_eq!(std::str::from_utf8(&credentials.to_pretty_json().unwrap()).unwrap(), wanted);
}

#[test]
fn a_personal_token_is_written_without_a_mode() {
    let credentials = StoredCredentials::from_personal_access_token("at-abc".into());
    let wanted = "{\n  \"OPENAI_API_KEY\": null,\n  \"personal_access_token\": \"at-abc\"\n}";
    assert_eq!(std::str::from_utf8(&credentials.to_pretty_json().unwrap()).unwrap(), wanted);
}

#[test]
fn a_sign_in_is_written_in_the_order_of_released_programs() {
    let tokens = Tokens::new(ID_TOKEN.into(), "a".into(), "r".into()).unwrap();
    let tokens = tokens
        .with_login_owner_id("owner".into())
        .with_provenance(Provenance { issuer: "https://i/".into(), client_id: "app".into() });
    let at = "2026-11-20T09:35:45Z".parse().unwrap();
    let json = StoredCredentials::from_chatgpt(tokens, None, at).to_compact_json().unwrap();
    assert_eq!(
        std::str::from_utf8(&json).unwrap(),
        format!(
            "{{\"auth_mode\":\"chatgpt\",\"OPENAI_API_KEY\":null,\"tokens\":{{\"id_token\":\"{ID_TOKEN}\",\
             \"access_token\":\"a\",\"refresh_token\":\"r\",\
             \"oauth_provenance\":{{\"issuer\":\"https://i/\",\"client_id\":\"app\"}},\
             \"login_owner_id\":\"owner\",\"account_id\":null}},\"last_refresh\":\"2026-11-20T09:35:45.000000000Z\"}}"
        )
    );
}

#[test]
fn nothing_secret_shows_in_debug() {
    let mut tokens = tokens();
    tokens["access_token"] = json!("s3cret-access");
    tokens["refresh_token"] = json!("s3cret-refresh");
    tokens["future"] = json!("s3cret-future");
    let document = json!({
        "OPENAI_API_KEY": "s3cret-key", "tokens": tokens, "agent_identity": "s3cret-agent",
        "personal_access_token": "s3cret-personal", "bedrock_api_key": {"key": "s3cret"}, "mystery": ["s3cret"],
    });
    let shown = format!("{:?}", read(&document).unwrap());
    assert!(!shown.contains("s3cret") && !shown.contains(ID_TOKEN), "{shown}");
    assert!(shown.contains("mystery"), "the names of unknown members help: {shown}");
}

#[test]
fn sign_ins_are_the_same_when_their_secrets_are() {
    let one = json!({"tokens": tokens(), "last_refresh": "2026-11-20T09:35:45Z"});
    let mut other = one.clone();
    other["last_refresh"] = json!("2026-11-21T09:35:45Z");
    other["more"] = json!(1);
    assert!(read(&one).unwrap().same_secrets(&read(&other).unwrap()));
    for (name, value) in [("access_token", "b"), ("refresh_token", "s"), ("account_id", "x")] {
        let mut other = one.clone();
        other["tokens"][name] = json!(value);
        assert!(!read(&one).unwrap().same_secrets(&read(&other).unwrap()), "{name}");
    }
    assert!(!read(&one).unwrap().same_secrets(&read(&json!({})).unwrap()));
    assert!(
        !read(&json!({"OPENAI_API_KEY": "a"}))
            .unwrap()
            .same_secrets(&StoredCredentials::from_api_key("b".into()))
    );
}

#[test]
fn an_owner_id_is_43_characters_and_never_the_same() {
    let (one, other) = (new_login_owner_id(), new_login_owner_id());
    assert_eq!(one.len(), 43);
    assert!(one.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_')));
    assert_ne!(one, other);
}

#[test]
fn a_refresh_keeps_what_it_does_not_bring() {
    let mut document = json!({"auth_mode": "chatgpt", "tokens": tokens(), "more": {"a": 1}});
    document["tokens"]["account_id"] = json!("acct-FILE");
    document["tokens"]["oauth_provenance"] = json!({"issuer": "i", "client_id": "c"});
    document["tokens"]["kept"] = json!([true]);
    let before = read(&document).unwrap();
    let tokens = before.tokens().unwrap();
    let token_of_another_account = format!(
        "e30.{}.c2ln",
        base64_simd::URL_SAFE_NO_PAD.encode_to_string(
            json!({"https://api.openai.com/auth": {"chatgpt_account_id": "acct-2"}}).to_string()
        )
    );
    let renewed =
        tokens.renewed(Some(token_of_another_account.into()), None, Some("r2".into()), true).unwrap();
    assert_eq!(renewed.account_id(), Some("acct-FILE"));
    assert_eq!(renewed.access_token().expose(), "a");
    assert_eq!(renewed.refresh_token().expose(), "r2");
    let after = before.renewed(renewed, "2026-11-20T09:35:45Z".parse().unwrap());
    let after: Value = serde_json::from_slice(&after.to_compact_json().unwrap()).unwrap();
    assert_eq!(after["more"], json!({"a": 1}));
    assert_eq!(after["tokens"]["kept"], json!([true]));
    assert_eq!(after["tokens"]["oauth_provenance"]["client_id"], "c");
    assert!(tokens.renewed(None, None, None, false).unwrap().provenance().is_none());
    assert!(tokens.renewed(Some("broken".into()), None, None, true).is_err());
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".*".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 16, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map("[a-z]{1,8}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn any_unknown_member_survives_at_every_level(top in any_json(), inner in any_json(), key in ".*") {
        let mut tokens = tokens();
        tokens["oauth_provenance"] = json!({"issuer": "i", "client_id": "c", "x-unknown": inner.clone()});
        tokens["x-unknown"] = inner;
        tokens["account_id"] = Value::Null;
        let document = json!({
            "auth_mode": "chatgpt", "OPENAI_API_KEY": key, "tokens": tokens, "x-unknown": top,
        });
        let written = read(&document).unwrap().to_pretty_json().unwrap();
        prop_assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), document);
    }

    #[test]
    fn no_bytes_make_the_reader_fail_otherwise_than_with_an_error(bytes: Vec<u8>, json in any_json()) {
        let _ = StoredCredentials::from_json(&bytes);
        let _ = read(&json);
        let _ = read(&json!({"tokens": json}));
    }
}
