//! The login commands over a real Secret Service.

use codex_e2e::issuer::Issuer;
use codex_e2e::login::Home;
use codex_e2e::secret_service::SecretService;
use codex_e2e::secrets::secret;
use serde_json::json;

#[tokio::test]
async fn a_sign_in_lives_in_the_keyring_and_leaves_it_at_logout() {
    let service = tokio::task::spawn_blocking(SecretService::start).await.unwrap();
    let Some(service) = service else { return };
    for store in ["keyring", "auto"] {
        let issuer = Issuer::good("acct-1").await;
        let mut home = Home::new();
        home.set("DBUS_SESSION_BUS_ADDRESS", service.address());
        home.set("CODEX_REVOKE_TOKEN_URL_OVERRIDE", issuer.url("/oauth/revoke"));
        home.write("config.toml", format!("cli_auth_credentials_store = \"{store}\""));
        // A stray file does not count beside the entry, and goes with the first save.
        home.write("auth.json", json!({ "auth_mode": "apikey", "OPENAI_API_KEY": secret("stray") }));

        let ended = home.run_with(&["login", "--with-api-key"], "sk-proj-s3cr3t-1234ABCDE").await;
        assert_eq!(ended.status.code(), Some(0), "{ended:?}");
        assert!(home.auth().is_none(), "{store}");
        let checked_later = "Authentication is checked when you send a request.";
        home.run(&["login", "status"])
            .await
            .assert(0, &["API key configured - sk-proj-***ABCDE", checked_later]);

        let url = issuer.url("");
        let device = ["login", "--device-auth", "--experimental_issuer", &url];
        let ended = home.run(&device).await;
        assert_eq!(
            (ended.status.code(), ended.stderr.as_str()),
            (Some(0), "Successfully logged in\n"),
            "{ended:?}"
        );
        home.run(&["login", "status"]).await.assert(0, &["Logged in using ChatGPT"]);
        assert!(home.auth().is_none(), "{store}");

        home.run(&["logout"]).await.assert(0, &["Successfully logged out"]);
        assert_eq!(issuer.paths().last().map(String::as_str), Some("/oauth/revoke"));
        home.run(&["login", "status"]).await.assert(1, &["Not logged in"]);
        home.run(&["logout"]).await.assert(0, &["Not logged in"]);
    }
}
