//! `codex login --device-auth` against an issuer on loopback.

use codex_e2e::issuer::{Issuer, access_token, granted, id_token, jwt};
use codex_e2e::login::{Ended, Home};
use codex_e2e::secrets::secret;
use jiff::Timestamp;
use serde_json::{Value, json};

const USER_CODE: &str = "/api/accounts/deviceauth/usercode";
const TOKEN: &str = "/api/accounts/deviceauth/token";
const EXCHANGE: &str = "/oauth/token";
const REVOKE: &str = "/oauth/revoke";

/// A home whose credentials are revoked at `issuer`.
fn home(issuer: &Issuer) -> Home {
    let mut home = Home::new();
    home.set("CODEX_REVOKE_TOKEN_URL_OVERRIDE", issuer.url(REVOKE));
    home
}

async fn sign_in(home: &Home, issuer: &str, more: &[&str]) -> Ended {
    let arguments = [&["login", "--device-auth", "--experimental_issuer", issuer], more].concat();
    home.run(&arguments).await
}

fn chatgpt(refresh_token: &str) -> Value {
    json!({
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": null,
        "tokens": {
            "id_token": id_token("acct-0"), "access_token": access_token(), "refresh_token": refresh_token,
            "account_id": "acct-0",
        },
        "last_refresh": "2020-01-01T00:00:00Z",
    })
}

#[tokio::test]
async fn the_code_is_shown_on_stdout_and_the_tokens_are_stored_with_their_provenance() {
    let issuer = Issuer::good("acct-1").await;
    issuer.forget(TOKEN);
    issuer.answer(TOKEN, "403 Forbidden", "");
    issuer.answer(TOKEN, "404 Not Found", "");
    issuer.answer(TOKEN, "200 OK", granted());
    let home = home(&issuer);
    // The slash at the end is kept in the provenance, and only there.
    let before = Timestamp::now();
    let ended = sign_in(&home, &issuer.url("/"), &["--experimental_client-id", "app_test"]).await;
    assert_eq!(
        (ended.status.code(), ended.stderr.as_str()),
        (Some(0), "Successfully logged in\n"),
        "{ended:?}"
    );
    let version = std::env!("CARGO_PKG_VERSION");
    for shown in [version, &issuer.url("/codex/device"), "ABCD-1234", "(expires in 15 minutes)", "\x1b[94m"] {
        assert!(ended.stdout.contains(shown), "{shown}: {}", ended.stdout);
    }
    let mut auth = home.auth().unwrap();
    let tokens = auth["tokens"].as_object_mut().unwrap();
    assert_eq!(tokens.remove("login_owner_id").unwrap().as_str().unwrap().len(), 43);
    let refreshed = auth.as_object_mut().unwrap().remove("last_refresh").unwrap();
    assert!(refreshed.as_str().unwrap().ends_with('Z'), "{refreshed}");
    // The program's clock is the test's, also where that is moved (`.ci/later`).
    let refreshed: Timestamp = refreshed.as_str().unwrap().parse().unwrap();
    assert!(before <= refreshed && refreshed <= Timestamp::now(), "{before} {refreshed}");
    assert_eq!(
        auth,
        json!({
            "auth_mode": "chatgpt",
            "OPENAI_API_KEY": null,
            "tokens": {
                "id_token": id_token("acct-1"),
                "access_token": access_token(),
                "refresh_token": secret("refresh"),
                "oauth_provenance": { "issuer": issuer.url("/"), "client_id": "app_test" },
                "account_id": "acct-1",
            },
        })
    );
    assert_eq!(issuer.paths(), [USER_CODE, TOKEN, TOKEN, TOKEN, EXCHANGE]);
    let asked = issuer.asked();
    assert_eq!(asked[0].json(), json!({ "client_id": "app_test" }));
    let form = asked[4].form();
    assert_eq!(form["redirect_uri"], issuer.url("/deviceauth/callback"));
    assert_eq!(form["code_verifier"], secret("verifier"));
    for request in &asked {
        assert_eq!(
            (request.header("originator"), request.header("user-agent")),
            (None, None),
            "{}",
            request.target
        );
    }
    home.run(&["login", "status"]).await.assert(0, &["Logged in using ChatGPT"]);
    let log = home.log();
    assert!(log.contains("signed in by device code"), "{log}");
    for hidden in ["ABCD-1234", "acct-1", "dev@example.test"] {
        assert!(!log.contains(hidden), "{log}");
    }
}

#[tokio::test]
async fn device_auth_wins_over_a_key_on_stdin() {
    let issuer = Issuer::good("acct-1").await;
    let home = home(&issuer);
    let url = issuer.url("");
    let arguments = ["login", "--with-api-key", "--device-auth", "--experimental_issuer", &url];
    let ended = home.run_with(&arguments, &secret("key")).await;
    assert_eq!(
        (ended.status.code(), ended.stderr.as_str()),
        (Some(0), "Successfully logged in\n"),
        "{ended:?}"
    );
    assert_eq!(home.auth().unwrap()["auth_mode"], "chatgpt");
}

#[tokio::test]
async fn every_failure_has_its_line_and_stores_nothing() {
    let other = jwt("id", &json!({ "https://api.openai.com/auth": { "chatgpt_account_id": "acct-2" } }));
    let exchange =
        |id_token: &str| json!({ "id_token": id_token, "access_token": "a", "refresh_token": "r" });
    let cases: Vec<(&str, &'static str, String, &str)> = vec![
        (
            USER_CODE,
            "404 Not Found",
            String::new(),
            "device code login is not enabled for this Codex server. Use the browser login or verify the server URL.",
        ),
        (
            USER_CODE,
            "500 Internal Server Error",
            secret("body"),
            "device code request failed with status 500 Internal Server Error",
        ),
        (TOKEN, "400 Bad Request", secret("body"), "device auth failed with status 400 Bad Request"),
        (
            EXCHANGE,
            "400 Bad Request",
            json!({ "error": { "message": format!("no such code {}", secret("code")) } }).to_string(),
            "device code exchange failed: token endpoint returned status 400 Bad Request: no such code [redacted]",
        ),
        (EXCHANGE, "200 OK", "{}".to_owned(), "device code exchange failed: OAuth token response is invalid"),
        (
            EXCHANGE,
            "200 OK",
            exchange("no-jwt").to_string(),
            "Login is restricted to workspace id(s) acct-1.",
        ),
        (EXCHANGE, "200 OK", exchange(&other).to_string(), "Login is restricted to workspace id(s) acct-1."),
    ];
    for (path, status, body, message) in cases {
        let issuer = Issuer::good("acct-1").await;
        issuer.forget(path);
        issuer.answer(path, status, body);
        let home = home(&issuer);
        let ended = sign_in(&home, &issuer.url(""), &["-c", "forced_chatgpt_workspace_id=acct-1"]).await;
        assert_eq!(ended.stderr, format!("Error logging in: {message}\n"));
        assert_eq!(ended.status.code(), Some(1));
        assert!(home.auth().is_none());
    }
}

#[tokio::test]
async fn the_old_sign_in_goes_when_the_new_one_is_there() {
    for (auth, revoked) in [
        (chatgpt(&secret("old-refresh")), true),
        (json!({ "auth_mode": "apikey", "OPENAI_API_KEY": secret("key") }), false),
    ] {
        let issuer = Issuer::good("acct-1").await;
        issuer.forget(USER_CODE);
        let home = home(&issuer);
        home.write("auth.json", &auth);
        assert_eq!(sign_in(&home, &issuer.url(""), &[]).await.status.code(), Some(1));
        assert_eq!(home.auth().unwrap(), auth, "a sign-in that fails signs nobody out");
        assert_eq!(issuer.paths(), [USER_CODE]);

        let issuer = Issuer::good("acct-1").await;
        let home = self::home(&issuer);
        home.write("auth.json", &auth);
        assert_eq!(sign_in(&home, &issuer.url(""), &[]).await.status.code(), Some(0));
        assert_eq!(home.auth().unwrap()["tokens"]["refresh_token"], secret("refresh"));
        let flow = [USER_CODE, TOKEN, EXCHANGE];
        assert_eq!(issuer.paths(), if revoked { [&flow[..], &[REVOKE]].concat() } else { flow.to_vec() });
        if revoked {
            assert_eq!(issuer.asked()[3].json()["token"], secret("old-refresh"));
        }
    }
}

#[tokio::test]
async fn a_broken_connection_does_not_end_the_wait_for_the_user() {
    let issuer = Issuer::good("acct-1").await;
    issuer.forget(TOKEN);
    issuer.answer(TOKEN, "403 Forbidden", "");
    // Twice, since a connection that was kept from before is worth a second try by itself.
    issuer.hang_up(TOKEN);
    issuer.hang_up(TOKEN);
    issuer.answer(TOKEN, "200 OK", granted());
    let home = home(&issuer);
    let ended = sign_in(&home, &issuer.url(""), &[]).await;
    assert_eq!(
        (ended.status.code(), ended.stderr.as_str()),
        (Some(0), "Successfully logged in\n"),
        "{ended:?}"
    );
    assert!(home.auth().is_some());
}

#[tokio::test]
async fn certificates_that_can_not_be_read_sign_nobody_out() {
    let issuer = Issuer::good("acct-1").await;
    let mut home = home(&issuer);
    home.set("CODEX_CA_CERTIFICATE", "/no/such/file");
    home.write("auth.json", chatgpt(&secret("refresh")));
    let ended = sign_in(&home, &issuer.url(""), &[]).await;
    assert!(ended.stderr.starts_with("Error logging in: can't read the CA certificates"), "{ended:?}");
    assert_eq!(ended.status.code(), Some(1));
    assert!(home.auth().is_some() && issuer.paths().is_empty());
}

#[tokio::test]
async fn what_can_not_be_saved_is_told() {
    let issuer = Issuer::good("acct-1").await;
    let home = home(&issuer);
    let url = issuer.url("");
    let keyring = ["-c", "cli_auth_credentials_store=keyring"];
    let ended = sign_in(&home, &url, &keyring).await;
    assert_eq!(ended.status.code(), Some(1));
    assert!(
        ended.stderr.starts_with("Error logging in: failed to load CLI auth from keyring: "),
        "{ended:?}"
    );
    // With `auto`, a missing keyring only means the file.
    let ended = sign_in(&home, &url, &["-c", "cli_auth_credentials_store=auto"]).await;
    assert_eq!(
        (ended.status.code(), ended.stderr.as_str()),
        (Some(0), "Successfully logged in\n"),
        "{ended:?}"
    );
    assert!(home.auth().is_some());
}

#[tokio::test]
async fn a_token_without_account_claims_is_told_and_signs_in() {
    let issuer = Issuer::good("acct-1").await;
    issuer.forget(EXCHANGE);
    let bare = jwt("id", &json!({ "email": "dev@example.test" }));
    issuer.answer(
        EXCHANGE,
        "200 OK",
        json!({ "id_token": bare, "access_token": secret("access"), "refresh_token": secret("refresh") }),
    );
    let home = home(&issuer);
    let ended = sign_in(&home, &issuer.url(""), &[]).await;
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(
        (ended.status.code(), lines.len(), lines[1]),
        (Some(0), 2, "Successfully logged in"),
        "{ended:?}"
    );
    assert!(lines[0].contains("https://api.openai.com/auth"), "{ended:?}");
    assert_eq!(home.auth().unwrap()["tokens"]["account_id"], Value::Null);
}

#[tokio::test]
async fn ctrl_c_ends_the_wait_with_130() {
    for silent in [TOKEN, USER_CODE, REVOKE] {
        let issuer = Issuer::good("acct-1").await;
        issuer.forget(silent);
        issuer.silence(silent);
        let home = home(&issuer);
        home.write("auth.json", chatgpt(&secret("old-refresh")));
        let url = issuer.url("");
        let running = home.start(&["login", "--device-auth", "--experimental_issuer", &url]);
        codex_e2e::client::guarded(silent, async {
            while !issuer.paths().iter().any(|path| path == silent) {
                tokio::task::yield_now().await;
            }
        })
        .await;
        running.interrupt();
        let ended = running.end().await;
        assert_eq!((ended.status.code(), ended.stderr.as_str()), (Some(130), ""), "{silent}: {ended:?}");
        let kept = home.auth().unwrap()["tokens"]["refresh_token"] == secret("old-refresh");
        assert_eq!(kept, silent != REVOKE, "{silent}");
    }
}
