//! `codex login status`: what it says in each state, and that it asks nobody.

use codex_e2e::issuer::{Issuer, access_token, id_token};
use codex_e2e::login::{Ended, Home};
use codex_e2e::proxy::Proxy;
use codex_e2e::secrets::secret;
use serde_json::{Value, json};

const CHECKED_LATER: &str = "Authentication is checked when you send a request.";

/// A ChatGPT sign-in of this account, long expired.
fn chatgpt(account: &str) -> Value {
    json!({
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": null,
        "tokens": {
            "id_token": id_token(account),
            "access_token": access_token(),
            "refresh_token": secret("refresh"),
            "account_id": account,
        },
        "last_refresh": "2020-01-01T00:00:00Z",
    })
}

fn api_key(key: &str) -> Value {
    json!({ "auth_mode": "apikey", "OPENAI_API_KEY": key })
}

#[tokio::test]
async fn every_state_of_the_file_has_its_line_and_exit_code() {
    let masked = "API key configured - sk-proj-***ABCDE";
    let cases: Vec<(&str, Value, i32, Vec<&str>)> = vec![
        ("a key", api_key("sk-proj-s3cr3t-1234ABCDE"), 0, vec![masked, CHECKED_LATER]),
        ("a short key", api_key("s3cr3t-890123"), 0, vec!["API key configured - ***", CHECKED_LATER]),
        (
            "a key of 14 bytes",
            api_key("s3cr3ts3cr3t-4"),
            0,
            vec!["API key configured - s3cr3ts3***r3t-4", CHECKED_LATER],
        ),
        (
            "a key that is no ASCII",
            api_key("ключключ-s3cr3t-секретный"),
            0,
            vec!["API key configured - ключключ***етный", CHECKED_LATER],
        ),
        (
            "no mode, a key",
            json!({ "OPENAI_API_KEY": "sk-proj-s3cr3t-1234ABCDE" }),
            0,
            vec![masked, CHECKED_LATER],
        ),
        ("ChatGPT, expired", chatgpt("acct-1"), 0, vec!["Logged in using ChatGPT"]),
        ("an empty object", json!({}), 0, vec!["Logged in using ChatGPT"]),
        (
            "ChatGPT with a key",
            {
                let mut both = chatgpt("acct-1");
                both["OPENAI_API_KEY"] = json!(secret("exchanged-key"));
                both
            },
            0,
            vec!["Logged in using ChatGPT"],
        ),
        (
            "no key",
            json!({ "auth_mode": "apikey" }),
            1,
            vec!["Error checking login status: API key auth is missing a key."],
        ),
        (
            "no personal token",
            json!({ "auth_mode": "personalAccessToken" }),
            1,
            vec![
                "Error checking login status: personal access token auth is missing a personal access token.",
            ],
        ),
        (
            "no agent identity",
            json!({ "auth_mode": "agentIdentity" }),
            1,
            vec!["Error checking login status: agent identity auth is missing agent identity auth material."],
        ),
    ];
    let home = Home::new();
    home.run(&["login", "status"]).await.assert(1, &["Not logged in"]);
    for (name, auth, code, lines) in cases {
        home.write("auth.json", &auth);
        let ended = home.run(&["login", "status"]).await;
        assert_eq!(ended.stderr.lines().collect::<Vec<_>>(), lines, "{name}");
        assert_eq!((ended.status.code(), ended.stdout.as_str()), (Some(code), ""), "{name}");
        assert_eq!(home.auth(), Some(auth), "{name}: the file is left alone");
    }
    assert!(!home.path().join("log").exists(), "who only looks leaves no trace");
}

#[tokio::test]
async fn an_unusable_file_is_told_without_its_content() {
    let home = Home::new();
    let mut bad_id = chatgpt("acct-1");
    bad_id["tokens"]["id_token"] = json!(secret("no-jwt"));
    let mut no_refresh = chatgpt("acct-1");
    no_refresh["tokens"].as_object_mut().unwrap().remove("refresh_token");
    let bad = [
        String::new(),
        secret("no-json"),
        json!([secret("list")]).to_string(),
        json!({ "auth_mode": "chatGPT" }).to_string(),
        json!({ "OPENAI_API_KEY": { "value": secret("key") } }).to_string(),
        bad_id.to_string(),
        no_refresh.to_string(),
    ];
    for text in bad {
        home.write("auth.json", &text);
        let ended = home.run(&["login", "status"]).await;
        let line = ended.stderr.strip_suffix('\n').unwrap_or_default();
        assert!(
            line.starts_with("Error checking login status: failed to deserialize CLI auth from file: ")
                && !line.contains('\n'),
            "{text}: {ended:?}"
        );
        assert_eq!(ended.status.code(), Some(1));
    }
}

#[tokio::test]
async fn chatgpt_is_told_without_a_request_even_when_expired() {
    let issuer = Issuer::good("acct-1").await;
    let mut home = Home::new();
    for name in
        ["CODEX_REFRESH_TOKEN_URL_OVERRIDE", "CODEX_REVOKE_TOKEN_URL_OVERRIDE", "CODEX_AUTHAPI_BASE_URL"]
    {
        home.set(name, issuer.url("/oauth/token"));
    }
    for name in ["HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY"] {
        home.set(name, issuer.url(""));
    }
    home.write("auth.json", chatgpt("acct-1"));
    home.run(&["login", "status"]).await.assert(0, &["Logged in using ChatGPT"]);
    assert_eq!(issuer.paths(), Vec::<String>::new());
}

#[tokio::test]
async fn variables_with_keys_do_not_count() {
    let mut home = Home::new();
    home.set("OPENAI_API_KEY", secret("openai"));
    home.set("CODEX_API_KEY", secret("codex"));
    home.run(&["login", "status"]).await.assert(1, &["Not logged in"]);
}

#[tokio::test]
async fn a_personal_token_is_looked_up_from_the_file_and_from_the_variable() {
    const WHOAMI: &str = "/base/v1/user-auth-credential/whoami";
    let issuer = Issuer::start().await;
    let owner = json!({
        "email": null, "chatgpt_user_id": "user-1", "chatgpt_account_id": "acct-1", "chatgpt_plan_type": "pro",
        "chatgpt_account_is_fedramp": false,
    });
    issuer.answer(WHOAMI, "200 OK", &owner);
    let mut home = Home::new();
    home.set("CODEX_AUTHAPI_BASE_URL", issuer.url("/base"));
    let token = format!("at-{}", secret("personal"));
    home.write("auth.json", json!({ "OPENAI_API_KEY": null, "personal_access_token": token }));
    home.run(&["login", "status"]).await.assert(0, &["Logged in using personal access token"]);
    let asked = issuer.asked();
    assert_eq!((asked.len(), asked[0].method.as_str()), (1, "GET"));
    assert_eq!(asked[0].header("authorization"), Some(format!("Bearer {token}").as_str()));
    assert_eq!(asked[0].header("originator"), Some("codex_cli_rs"));

    // The variable beats the file.
    home.write("auth.json", chatgpt("acct-1"));
    home.set("CODEX_ACCESS_TOKEN", format!(" {token} "));
    home.run(&["login", "status"]).await.assert(0, &["Logged in using personal access token"]);

    let failures = [
        (
            "401 Unauthorized",
            "{}",
            "personal access token metadata request failed with status 401 Unauthorized",
        ),
        ("200 OK", "{}", "failed to decode personal access token metadata: "),
    ];
    for (status, body, message) in failures {
        issuer.forget(WHOAMI);
        issuer.answer(WHOAMI, status, body);
        let ended = home.run(&["login", "status"]).await;
        assert!(ended.stderr.starts_with(&format!("Error checking login status: {message}")), "{ended:?}");
        assert_eq!(ended.status.code(), Some(1));
    }
    home.set("CODEX_AUTHAPI_BASE_URL", "http://127.0.0.1:1");
    let ended = home.run(&["login", "status"]).await;
    let message = "Error checking login status: failed to request personal access token metadata: ";
    assert!(ended.stderr.starts_with(message), "{ended:?}");

    // A bad value is an error, not a fall-through to the file.
    home.set("CODEX_ACCESS_TOKEN", secret("no-jwt"));
    home.run(&["login", "status"]).await.assert(
        1,
        &["Error checking login status: failed to decode agent identity JWT: invalid agent identity JWT format"],
    );
}

#[tokio::test]
async fn what_the_configuration_forbids_counts_as_not_signed_in_and_stays() {
    let cases = [
        (chatgpt("acct-1"), "forced_login_method=api", 1),
        (chatgpt("acct-1"), "forced_login_method=chatgpt", 0),
        (api_key("sk-proj-s3cr3t-1234ABCDE"), "forced_login_method=chatgpt", 1),
        (api_key("sk-proj-s3cr3t-1234ABCDE"), "forced_login_method=api", 0),
        (chatgpt("acct-1"), "forced_chatgpt_workspace_id=acct-2", 1),
        (chatgpt("acct-1"), "forced_chatgpt_workspace_id=[\"acct-2\", \"acct-1\"]", 0),
        (api_key("sk-proj-s3cr3t-1234ABCDE"), "forced_chatgpt_workspace_id=acct-2", 0),
    ];
    let home = Home::new();
    for (auth, setting, code) in cases {
        home.write("auth.json", &auth);
        let ended = home.run(&["login", "status", "-c", setting]).await;
        assert_eq!(ended.status.code(), Some(code), "{setting}: {ended:?}");
        assert_eq!(ended.stderr == "Not logged in\n", code == 1, "{setting}: {ended:?}");
        assert_eq!(home.auth(), Some(auth));
    }
}

#[tokio::test]
async fn a_home_or_a_setting_that_is_bad_is_told() {
    let mut home = Home::new();
    home.run(&["login", "status", "-c", "noequals"])
        .await
        .assert(1, &["Error parsing -c overrides: Invalid override (missing '='): noequals"]);
    home.write("config.toml", "model = ");
    let path = std::fs::canonicalize(home.path()).unwrap().join("config.toml");
    let line = format!(
        "Error loading configuration: {}:1:9: string values must be quoted, expected literal string",
        path.display()
    );
    for arguments in [&["login", "status"][..], &["logout"], &["login"], &["login", "--device-auth"]] {
        home.run(arguments).await.assert(1, &[&line]);
    }
    let missing = home.beside("missing").to_str().unwrap().to_owned();
    home.set("CODEX_HOME", &missing);
    let line = format!(
        "Error loading configuration: CODEX_HOME points to {missing:?}, but that path does not exist"
    );
    for arguments in [&["login", "status"][..], &["logout"], &["login"]] {
        home.run(arguments).await.assert(1, &[&line]);
    }
}

/// A service token that names its account.
fn workload_token(account: &str) -> String {
    let part = |value: Value| {
        codex_e2e::base64(value.to_string()).trim_end_matches('=').replace('+', "-").replace('/', "_")
    };
    let claims = json!({"https://api.openai.com/auth": {"chatgpt_account_id": account}});
    format!("{}.{}.{}", part(json!({"alg": "none"})), part(claims), part(json!(secret("signature"))))
}

#[tokio::test]
async fn a_workloads_identity_goes_before_everything_and_a_fault_of_it_is_an_error() {
    let issuer = Issuer::start().await;
    let proxy = Proxy::start("auth.openai.com", issuer.address()).await;
    let mut home = Home::new();
    home.write("auth.json", api_key("sk-proj-s3cr3t-1234ABCDE"));
    home.set("CODEX_ACCESS_TOKEN", secret("no-personal-token"));
    let certificate = home.beside("ca.pem");
    std::fs::write(&certificate, &proxy.certificate).expect("written");
    home.set("CODEX_CA_CERTIFICATE", certificate.to_str().expect("text"));
    home.set("HTTPS_PROXY", proxy.url.clone());
    home.set("CODEX_REFRESH_TOKEN_URL_OVERRIDE", issuer.url("/never"));
    let token = home.beside("token");
    std::fs::write(&token, format!("{}\n", secret("platform-jwt"))).expect("written");
    home.set("OPENAI_IDENTITY_TOKEN_FILE", token.to_str().expect("text"));

    const PREFIX: &str = "Error checking login status: ";
    let told = |run: &Ended| run.stderr.lines().next().unwrap_or_default().to_owned();
    let run = home.run(&["login", "status"]).await;
    assert_eq!(told(&run), format!("{PREFIX}workload identity requires OPENAI_FEDERATION_RULE_ID"));
    home.set("OPENAI_FEDERATION_RULE_ID", "rule-1");
    let answer = |token: &str| json!({"access_token": token, "token_type": "Bearer", "expires_in": 3600});
    issuer.answer("/oauth/token", "400 Bad Request", json!({}));
    issuer.answer("/oauth/token", "200 OK", answer(&secret("opaque")));
    issuer.answer("/oauth/token", "200 OK", answer(&workload_token("acct-1")));
    for expected in ["was rejected with HTTP 400", "returned an invalid response"] {
        let run = home.run(&["login", "status"]).await;
        assert_eq!(run.status.code(), Some(1));
        assert_eq!(told(&run), format!("{PREFIX}the workload identity token exchange {expected}"));
    }
    let run = home.run(&["login", "status"]).await;
    assert_eq!((run.status.code(), told(&run).as_str()), (Some(0), "Logged in using workload identity"));
    let asked = issuer.asked();
    let form = String::from_utf8(asked.last().expect("it was asked").body.clone()).expect("text");
    assert_eq!(
        form,
        format!(
            "grant_type=urn%3Aietf%3Aparams%3Aoauth%3Agrant-type%3Ajwt-bearer&assertion={}&federation_rule_id=rule-1",
            secret("platform-jwt")
        )
    );
    assert!(proxy.targets().iter().all(|target| target == "auth.openai.com:443"));
    drop(proxy);
    let run = home.run(&["login", "status"]).await;
    assert_eq!(told(&run), format!("{PREFIX}the workload identity token exchange is unavailable"));
}
