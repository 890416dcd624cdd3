//! Look-up of personal access tokens and revocation, against a real server.

use crate::support::{Home, Issuer, fresh};
use codex_config::StoreMode;
use codex_login::{HttpClient, Variables, personal_token, revoke};
use serde_json::json;
use wiremock::matchers::{method, path};
use wiremock::{Mock, ResponseTemplate};

#[tokio::test]
async fn a_look_up_names_this_program_and_says_what_failed() {
    let whole = json!({
        "email": "dev@example.test", "chatgpt_user_id": "user-1", "chatgpt_account_id": "acct-1",
        "chatgpt_plan_type": "pro", "chatgpt_account_is_fedramp": false,
    });
    let mut partial = whole.clone();
    partial.as_object_mut().unwrap().remove("chatgpt_account_id");
    for (answer, wanted) in [
        (ResponseTemplate::new(200).set_body_json(&whole), Ok(())),
        (
            ResponseTemplate::new(401).set_body_string("at-secret"),
            Err("personal access token metadata request failed with status 401 Unauthorized"),
        ),
        (
            ResponseTemplate::new(200).set_body_json(&partial),
            Err("failed to decode personal access token metadata: data error at line 1 column "),
        ),
        (
            ResponseTemplate::new(200).set_body_string("<html>"),
            Err("failed to decode personal access token metadata: syntax error at line 1 column 1"),
        ),
    ] {
        let service = Issuer::start().await;
        Mock::given(method("GET"))
            .and(path("/base/v1/user-auth-credential/whoami"))
            .respond_with(answer)
            .mount(&service.0)
            .await;
        let variables = Variables {
            authapi_base_url: Some(format!("{}/base/", service.0.uri())),
            terminal: "xterm".into(),
            ..Variables::default()
        };
        let client = HttpClient::new("1.2.3", &variables);
        let result = personal_token::look_up(&client, &variables, &"at-secret".into()).await;
        match wanted {
            Ok(()) => assert_eq!(result.unwrap().account_id, "acct-1"),
            Err(text) => {
                let error = result.unwrap_err().to_string();
                assert!(error.starts_with(text) && !error.contains("at-secret"), "{error}");
            }
        }
        let request = &service.requests().await[0];
        assert_eq!(request.headers["authorization"], "Bearer at-secret");
        assert_eq!(request.headers["originator"], "codex_cli_rs");
        let agent = request.headers["user-agent"].to_str().unwrap();
        assert!(agent.starts_with("codex_cli_rs/1.2.3 (") && agent.ends_with(") xterm"), "{agent}");
    }
}

#[tokio::test]
async fn a_look_up_without_a_server_says_so() {
    let variables = Variables { authapi_base_url: Some("http://127.0.0.1:1".into()), ..Variables::default() };
    let client = HttpClient::new("1.2.3", &variables);
    let error = personal_token::look_up(&client, &variables, &"at-1".into()).await.unwrap_err().to_string();
    assert!(error.starts_with("failed to request personal access token metadata: "), "{error}");
}

#[tokio::test]
async fn a_sign_out_revokes_the_refresh_token() {
    let issuer = Issuer::start().await;
    Mock::given(method("POST"))
        .and(path("/oauth/revoke"))
        .respond_with(ResponseTemplate::new(200))
        .mount(&issuer.0)
        .await;
    let variables = Variables { originator: Some("me".into()), ..issuer.variables() };
    let client = HttpClient::new("1.2.3", &variables);
    let home = Home::with(&fresh());
    let credentials = home.store(StoreMode::File).load().unwrap().unwrap();
    revoke(&client, &variables, &credentials).await.unwrap();
    let requests = issuer.requests().await;
    assert_eq!(requests[0].headers["originator"], "me");
    assert_eq!(requests[0].headers["content-type"], "application/json");
    assert_eq!(
        issuer.bodies().await,
        [json!({
            "token": "r1", "token_type_hint": "refresh_token", "client_id": "app_EMoamEEZ73f0CkXaXp7hrann",
        })]
    );
}

#[tokio::test]
async fn a_refused_revocation_is_an_error_without_the_token() {
    let issuer = Issuer::answering(ResponseTemplate::new(200)).await;
    let variables = issuer.variables();
    let client = HttpClient::new("1.2.3", &variables);
    let home = Home::with(&fresh());
    let credentials = home.store(StoreMode::File).load().unwrap().unwrap();
    let error = revoke(&client, &variables, &credentials).await.unwrap_err();
    assert_eq!(error.to_string(), "the revocation was answered with status 404 Not Found");
}

#[tokio::test]
async fn a_proxy_carries_the_requests_unless_the_host_is_excepted() {
    let proxy = Issuer::start().await;
    Mock::given(method("POST")).respond_with(ResponseTemplate::new(200)).mount(&proxy.0).await;
    let home = Home::with(&fresh());
    let credentials = home.store(StoreMode::File).load().unwrap().unwrap();
    for (exception, carried) in [(None, true), (Some("issuer.invalid"), false)] {
        let mut variables = Variables {
            revoke_url: Some("http://issuer.invalid/oauth/revoke".into()),
            ..Variables::default()
        };
        variables.proxies.http = Some(proxy.0.uri());
        variables.proxies.none_for = exception.map(str::to_owned);
        let client = HttpClient::new("1.2.3", &variables);
        assert_eq!(revoke(&client, &variables, &credentials).await.is_ok(), carried);
    }
    assert_eq!(proxy.requests().await.len(), 1);
}
