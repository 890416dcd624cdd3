//! Which credentials win, what is wrong with those that can't be used, and what the configuration hides.

use crate::support::{Home, Issuer, fresh, signed_in};
use codex_config::{LoginMethod, StoreMode};
use codex_login::{Auth, LoadError, Restrictions, Settings, SignInKind, StoredCredentials, Variables, load};
use serde_json::{Value, json};
use wiremock::matchers::{header, method, path};
use wiremock::{Mock, ResponseTemplate};

const WHOAMI: &str = "/v1/user-auth-credential/whoami";

/// A service that knows the personal access token `at-1`.
async fn service() -> Issuer {
    let service = Issuer::start().await;
    let answer = json!({
        "email": null, "chatgpt_user_id": "user-1", "chatgpt_account_id": "acct-P",
        "chatgpt_plan_type": "pro", "chatgpt_account_is_fedramp": true,
    });
    Mock::given(method("GET"))
        .and(path(WHOAMI))
        .and(header("authorization", "Bearer at-1"))
        .respond_with(ResponseTemplate::new(200).set_body_json(answer))
        .mount(&service.0)
        .await;
    service
}

fn variables(api_key: Option<&str>, access_token: Option<&str>, service: &Issuer) -> Variables {
    Variables {
        api_key: api_key.map(Into::into),
        access_token: access_token.map(Into::into),
        authapi_base_url: Some(service.0.uri()),
        ..Variables::default()
    }
}

fn bearer(auth: &Auth) -> &str {
    auth.bearer().unwrap().expose()
}

#[tokio::test]
async fn the_first_of_key_variable_memory_token_variable_and_store_wins() {
    let service = service().await;
    let stored = json!({"OPENAI_API_KEY": "sk-stored"});
    for (key, in_memory, token, mode, wanted) in [
        (Some("sk-var"), true, Some("at-1"), StoreMode::File, Some("sk-var")),
        (None, true, Some("at-1"), StoreMode::File, Some("sk-memory")),
        (None, false, Some("at-1"), StoreMode::File, Some("at-1")),
        (None, false, None, StoreMode::File, Some("sk-stored")),
        (None, true, Some("at-1"), StoreMode::Ephemeral, Some("sk-memory")),
        (None, false, Some("at-1"), StoreMode::Ephemeral, Some("at-1")),
        (None, false, None, StoreMode::Ephemeral, None),
    ] {
        let home = Home::with(&stored);
        if in_memory {
            let credentials = StoredCredentials::from_api_key("sk-memory".into());
            home.store(StoreMode::Ephemeral).save(&credentials).unwrap();
        }
        let settings = Settings { store: home.store(mode), ..home.settings(variables(key, token, &service)) };
        let auth = load(&settings).await.unwrap();
        assert_eq!(auth.as_ref().map(bearer), wanted);
        home.store(StoreMode::Ephemeral).remove().unwrap();
    }
}

#[tokio::test]
async fn the_key_variable_counts_only_where_it_should() {
    let home = Home::new();
    let variables = Variables { api_key: Some("sk-var".into()), ..Variables::default() };
    let settings = Settings { use_api_key_variable: false, ..home.settings(variables) };
    assert!(load(&settings).await.unwrap().is_none());
}

/// What is said of an agent's identity that is one.
const AGENT_IDENTITY: &str = "Agent Identity authentication is unavailable: this version can't sign in with it; use \
                              `codex login`, an API key or a personal access token";

#[tokio::test]
async fn a_bad_access_token_hides_the_store() {
    let service = service().await;
    for (token, wanted) in [
        ("a.b.c", "failed to decode agent identity JWT: invalid agent identity JWT format"),
        // One that decodes: {"iss":"https://chatgpt.com/codex-backend/agent-identity"}
        (
            "e30.eyJpc3MiOiJodHRwczovL2NoYXRncHQuY29tL2NvZGV4LWJhY2tlbmQvYWdlbnQtaWRlbnRpdHkifQ.c2ln",
            AGENT_IDENTITY,
        ),
        ("at-2", "personal access token metadata request failed with status 404 Not Found"),
    ] {
        let home = Home::with(&fresh());
        let error = load(&home.settings(variables(None, Some(token), &service))).await.unwrap_err();
        assert_eq!(error.to_string(), wanted);
    }
}

#[tokio::test]
async fn what_a_mode_lacks_is_said() {
    for (document, wanted) in [
        (json!({"auth_mode": "apikey"}), "API key auth is missing a key."),
        (
            json!({"auth_mode": "personalAccessToken"}),
            "personal access token auth is missing a personal access token.",
        ),
        (
            json!({"auth_mode": "agentIdentity"}),
            "agent identity auth is missing agent identity auth material.",
        ),
        (
            json!({"auth_mode": "agentIdentity", "agent_identity": "a.b.c"}),
            "failed to decode agent identity JWT: invalid agent identity JWT format",
        ),
        (json!({"auth_mode": "agentIdentity", "agent_identity": {"agent_runtime_id": "r"}}), AGENT_IDENTITY),
        (
            json!({"auth_mode": "headers"}),
            "this version can't use credentials of mode Headers; sign in again with `codex login`",
        ),
    ] {
        let home = Home::with(&document);
        let error = load(&home.settings(Variables::default())).await.unwrap_err();
        assert_eq!(error.to_string(), wanted);
    }
    let home = Home::new();
    std::fs::write(home.file(), "[]").unwrap();
    let error = load(&home.settings(Variables::default())).await.unwrap_err();
    assert!(matches!(error, LoadError::Store(_)));
    assert!(error.to_string().starts_with("failed to deserialize CLI auth from file: data error at line 1 "));
}

#[tokio::test]
async fn a_request_learns_what_it_needs_of_each_kind() {
    let service = service().await;
    let load = async |document: Value| {
        let home = Home::with(&document);
        load(&home.settings(variables(None, None, &service))).await.unwrap().unwrap()
    };
    let auth = load(json!({"OPENAI_API_KEY": "sk"})).await;
    assert_eq!((auth.kind(), auth.account_id(), auth.is_fedramp()), (SignInKind::ApiKey, None, false));
    assert!(!auth.is_chatgpt());

    let auth = load(json!({"personal_access_token": "at-1"})).await;
    assert_eq!(auth.kind(), SignInKind::PersonalAccessToken);
    assert_eq!((auth.account_id(), auth.is_fedramp(), bearer(&auth)), (Some("acct-P"), true, "at-1"));

    // The file's account counts, not the token's (login.md 4).
    let mut document = signed_in("bearer");
    document["tokens"]["account_id"] = json!("acct-FILE");
    let auth = load(document.clone()).await;
    assert_eq!(auth.kind(), SignInKind::Chatgpt);
    assert_eq!((auth.account_id(), bearer(&auth)), (Some("acct-FILE"), "bearer"));
    assert_eq!(auth.email(), Some("dev@example.test"));

    document["tokens"]["account_id"] = Value::Null;
    assert_eq!(load(document.clone()).await.account_id(), None);
    document["tokens"]["access_token"] = json!("");
    assert_eq!(bearer(&load(document.clone()).await), "", "an empty bearer is the caller's to refuse");
    document.as_object_mut().unwrap().remove("last_refresh");
    assert!(load(document).await.bearer().is_none());
    let auth = load(json!({})).await;
    assert!(auth.is_chatgpt() && auth.bearer().is_none());
}

#[tokio::test]
async fn what_the_configuration_forbids_counts_as_none_and_stays() {
    let service = service().await;
    let forced = |method| Restrictions { forced_method: Some(method), ..Restrictions::default() };
    let allowed = |method| Restrictions { allowed_methods: Some(vec![method]), ..Restrictions::default() };
    let only =
        |id: &str| Restrictions { workspaces: Some(vec!["x".into(), id.into()]), ..Restrictions::default() };
    let key = json!({"OPENAI_API_KEY": "sk"});
    let personal = json!({"personal_access_token": "at-1"});
    let mut elsewhere = fresh();
    elsewhere["tokens"]["account_id"] = json!("acct-2");
    let mut nowhere = fresh();
    nowhere["tokens"]["account_id"] = Value::Null;
    nowhere["tokens"]["id_token"] = json!("e30.e30.c2ln");
    for (document, restrictions, counts) in [
        (fresh(), forced(LoginMethod::Api), false),
        (fresh(), forced(LoginMethod::Chatgpt), true),
        (key.clone(), forced(LoginMethod::Chatgpt), false),
        (key.clone(), forced(LoginMethod::Api), true),
        (key.clone(), allowed(LoginMethod::Chatgpt), false),
        (personal.clone(), forced(LoginMethod::Api), false),
        (personal.clone(), forced(LoginMethod::Chatgpt), true),
        (fresh(), only("acct-1"), true),
        (fresh(), only("acct-9"), false),
        (elsewhere.clone(), only("acct-1"), false),
        (elsewhere, only("acct-2"), false),
        (nowhere, only("acct-1"), false),
        (key, only("acct-9"), true),
        (personal.clone(), only("acct-P"), true),
        (personal, only("acct-1"), false),
    ] {
        let home = Home::with(&document);
        let settings =
            Settings { restrictions: restrictions.clone(), ..home.settings(variables(None, None, &service)) };
        let auth = load(&settings).await.unwrap();
        assert_eq!(auth.is_some(), counts, "{document} {restrictions:?}");
        assert_eq!(home.read(), document);
    }
}
