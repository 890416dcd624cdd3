//! `codex logout`: revokes, removes, and says what it did.

use codex_e2e::issuer::{Issuer, access_token, id_token};
use codex_e2e::login::Home;
use codex_e2e::secrets::secret;
use serde_json::{Value, json};

fn chatgpt(refresh_token: &str, access_token: &str) -> Value {
    json!({
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": null,
        "tokens": {
            "id_token": id_token("acct-1"),
            "access_token": access_token,
            "refresh_token": refresh_token,
            "account_id": "acct-1",
        },
        "last_refresh": "2020-01-01T00:00:00Z",
    })
}

#[tokio::test]
async fn what_is_stored_is_revoked_by_its_kind_and_removed() {
    let (refresh, access) = (secret("refresh"), access_token());
    let revoke_refresh = json!({
        "token": refresh, "token_type_hint": "refresh_token", "client_id": "app_EMoamEEZ73f0CkXaXp7hrann",
    });
    let cases = [
        (chatgpt(&refresh, &access), Some(revoke_refresh)),
        (chatgpt("", &access), Some(json!({ "token": access, "token_type_hint": "access_token" }))),
        (chatgpt("", ""), None),
        (json!({ "auth_mode": "apikey", "OPENAI_API_KEY": secret("key") }), None),
        (json!({ "OPENAI_API_KEY": null, "personal_access_token": format!("at-{}", secret("x")) }), None),
        (json!({}), None),
        // What can't be read is removed all the same.
        (json!([1]), None),
    ];
    for (auth, expected) in cases {
        let issuer = Issuer::good("acct-1").await;
        let mut home = Home::new();
        home.set("CODEX_REVOKE_TOKEN_URL_OVERRIDE", issuer.url("/oauth/revoke"));
        home.write("auth.json", &auth);
        home.run(&["logout"]).await.assert(0, &["Successfully logged out"]);
        assert!(home.auth().is_none());
        let asked: Vec<Value> = issuer.asked().iter().map(codex_e2e::http::Asked::json).collect();
        assert_eq!(asked, Vec::from_iter(expected), "{auth}");
        for request in issuer.asked() {
            assert_eq!(request.header("originator"), Some("codex_cli_rs"));
            assert!(request.header("user-agent").is_some());
        }
        home.run(&["logout"]).await.assert(0, &["Not logged in"]);
    }
}

#[tokio::test]
async fn trouble_with_the_revocation_is_only_logged() {
    let issuer = Issuer::start().await;
    issuer.answer("/oauth/revoke", "500 Internal Server Error", secret("body"));
    for url in [issuer.url("/oauth/revoke"), "http://127.0.0.1:1/oauth/revoke".to_owned()] {
        let mut home = Home::new();
        home.set("CODEX_REVOKE_TOKEN_URL_OVERRIDE", url);
        home.write("auth.json", chatgpt(&secret("refresh"), &access_token()));
        home.run(&["logout"]).await.assert(0, &["Successfully logged out"]);
        assert!(home.auth().is_none());
        assert!(home.log().contains("could not be revoked"), "{}", home.log());
    }
}

#[tokio::test]
async fn a_refresh_override_moves_the_revocation() {
    let issuer = Issuer::good("acct-1").await;
    let mut home = Home::new();
    home.set("CODEX_REFRESH_TOKEN_URL_OVERRIDE", issuer.url("/elsewhere/token?x=1"));
    home.write("auth.json", chatgpt(&secret("refresh"), &access_token()));
    home.run(&["logout"]).await.assert(0, &["Successfully logged out"]);
    assert_eq!(issuer.paths(), ["/oauth/revoke"]);
    assert_eq!(issuer.asked()[0].target, "/oauth/revoke");
}

#[tokio::test]
async fn a_store_that_does_not_answer_is_an_error() {
    let home = Home::new();
    let auth = json!({ "auth_mode": "apikey", "OPENAI_API_KEY": secret("key") });
    home.write("auth.json", &auth);
    for store in ["keyring", "auto"] {
        let ended = home.run(&["logout", "-c", &format!("cli_auth_credentials_store={store}")]).await;
        assert_eq!(ended.status.code(), Some(1), "{ended:?}");
        let line = "Error logging out: failed to delete auth from keyring: ";
        assert!(ended.stderr.starts_with(line), "{ended:?}");
        assert_eq!(home.auth().as_ref(), Some(&auth), "the file stays");
    }
}
