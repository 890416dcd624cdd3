//! The browser flow from the authorize URL to the last page.

use std::sync::Arc;
use std::time::Duration;

use reqwest::StatusCode;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::sync::oneshot;
use wiremock::ResponseTemplate;

use super::support::{asked, browse, browse_on, form, good_issuer, id_token, issuer, jwt, sign_in, tokens};
use crate::signin::SignInError;

#[tokio::test]
async fn a_good_callback_is_exchanged_saved_and_redirected_and_the_last_page_ends_it() {
    let issuer = good_issuer().await;
    let outcome = browse(&sign_in(&issuer.uri()), async |visitor| {
        let redirect = visitor.come_back("code=code-1").await;
        assert_eq!(redirect.status, StatusCode::FOUND);
        let location = redirect.location.unwrap();
        assert_eq!(
            location,
            format!(
                "http://127.0.0.1:{}/success?needs_setup=true&org_id=org-1&project_id=proj+1&plan_type=pro\
                 &platform_url=https%3A%2F%2Fplatform.api.openai.org",
                visitor.port
            )
        );
        let page = visitor.get_at(&location).await;
        assert_eq!((page.status, page.content_type.as_str()), (StatusCode::OK, "text/html; charset=utf-8"));
        assert!(page.closes, "the last page closes its connection");
        (visitor.parameter("code_challenge"), visitor.port)
    })
    .await;
    outcome.result.as_ref().unwrap();
    let (id, _, refresh, key) = outcome.saved();
    assert_eq!(
        (id, refresh.as_str(), key.as_deref()),
        (id_token("acct-1"), "refresh-1", Some("sk-exchanged"))
    );
    assert!(!outcome.no_auth_claims);

    let (challenge, port) = outcome.seen;
    let exchanges = asked(&issuer, "authorization_code").await;
    let [exchange] = exchanges.as_slice() else { panic!("{} exchanges", exchanges.len()) };
    let mut sent = form(exchange);
    let verifier = sent.remove("code_verifier").unwrap();
    let digest = Sha256::digest(&verifier);
    assert_eq!(base64_simd::URL_SAFE_NO_PAD.encode_to_string(digest), challenge);
    let redirect_uri = format!("http://127.0.0.1:{port}/auth/callback");
    let expected = [
        ("client_id", "app_test"),
        ("code", "code-1"),
        ("grant_type", "authorization_code"),
        ("redirect_uri", &redirect_uri),
    ];
    assert_eq!(sent, expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    for header in ["originator", "user-agent", "authorization"] {
        assert!(!exchange.headers.contains_key(header), "{header}");
    }
    let keys = asked(&issuer, "requested_token").await;
    let [key] = keys.as_slice() else { panic!("{} key exchanges", keys.len()) };
    let expected = [
        ("client_id", "app_test".to_owned()),
        ("grant_type", "urn:ietf:params:oauth:grant-type:token-exchange".to_owned()),
        ("requested_token", "openai-api-key".to_owned()),
        ("subject_token", id_token("acct-1")),
        ("subject_token_type", "urn:ietf:params:oauth:token-type:id_token".to_owned()),
    ];
    assert_eq!(form(key), expected.map(|(name, value)| (name.to_owned(), value)).into());
}

#[tokio::test]
async fn the_authorize_url_has_every_parameter_of_the_spec() {
    let mut sign_in = sign_in("http://127.0.0.1:9/");
    sign_in.workspaces = Some(vec!["acct-1".to_owned(), "acct-2".to_owned()]);
    let outcome = browse(&sign_in, async |visitor| {
        visitor.get("/cancel").await;
        (visitor.url.clone(), visitor.port)
    })
    .await;
    let (url, port) = outcome.seen;
    assert!(url.as_str().starts_with("http://127.0.0.1:9/oauth/authorize?"), "{url}");
    let mut parameters: Vec<(String, String)> = url.query_pairs().into_owned().collect();
    parameters.sort();
    let lengths: Vec<usize> = parameters
        .extract_if(.., |(name, _)| name == "code_challenge" || name == "state")
        .map(|(_, value)| value.len())
        .collect();
    assert_eq!(lengths, [43, 43], "SHA-256 and 32 random bytes in base64url");
    let redirect_uri = format!("http://127.0.0.1:{port}/auth/callback");
    let expected = [
        ("allowed_workspace_id", "acct-1,acct-2"),
        ("client_id", "app_test"),
        ("code_challenge_method", "S256"),
        ("codex_cli_simplified_flow", "true"),
        ("id_token_add_organizations", "true"),
        ("originator", "codex_cli_rs"),
        ("redirect_uri", &redirect_uri),
        ("response_type", "code"),
        ("scope", "openid profile email offline_access api.connectors.read api.connectors.invoke"),
    ];
    assert_eq!(parameters, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
}

#[tokio::test]
async fn visits_beside_the_flow_change_nothing() {
    let issuer = good_issuer().await;
    let outcome = browse(&sign_in(&issuer.uri()), async |visitor| {
        let state = visitor.parameter("state");
        let wrong_states = [
            "/auth/callback".to_owned(),
            "/auth/callback?code=code-1".to_owned(),
            "/auth/callback?code=code-1&state=".to_owned(),
            "/auth/callback?code=code-1&state=wrong".to_owned(),
            format!("/auth/callback?code=code-1&state={state}x"),
            "/auth/callback?error=access_denied&state=wrong".to_owned(),
        ];
        for path in wrong_states {
            let answer = visitor.get(&path).await;
            assert_eq!(
                (answer.status, answer.body.as_str()),
                (StatusCode::BAD_REQUEST, "State mismatch"),
                "{path}"
            );
        }
        for path in ["/", "/favicon.ico", "/auth/callback/", "/success", "/cancel/x", "//auth/callback"] {
            let answer = visitor.get(path).await;
            assert_eq!((answer.status, answer.body.as_str()), (StatusCode::NOT_FOUND, "Not Found"), "{path}");
        }
        let location = visitor.come_back("code=code-1").await.location.unwrap();
        assert_eq!(visitor.get("/nothing").await.status, StatusCode::NOT_FOUND, "also after the save");
        visitor.get_at(&location).await;
    })
    .await;
    outcome.result.as_ref().unwrap();
    assert_eq!(asked(&issuer, "authorization_code").await.len(), 1);
}

#[tokio::test]
async fn a_second_tab_gets_the_answer_of_the_first_and_the_code_is_used_once() {
    let slow = tokens(&id_token("acct-1")).set_delay(Duration::from_millis(300));
    let issuer = issuer(slow, ResponseTemplate::new(500)).await;
    let outcome = browse(&sign_in(&issuer.uri()), async |visitor| {
        let (first, second, third) = tokio::join!(
            visitor.come_back("code=code-1"),
            visitor.come_back("code=code-1"),
            visitor.get("/elsewhere"),
        );
        assert_eq!(third.status, StatusCode::NOT_FOUND);
        assert!(first.location.is_some());
        assert_eq!(first.location, second.location);
        let late = visitor.come_back("code=code-1").await;
        assert_eq!(late.location, first.location, "a tab reloaded after the save");
        visitor.get_at(&late.location.unwrap()).await;
    })
    .await;
    outcome.result.as_ref().unwrap();
    assert_eq!(asked(&issuer, "authorization_code").await.len(), 1);
}

#[tokio::test]
async fn it_is_saved_before_the_redirect_and_not_over_before_the_last_page() {
    let issuer = good_issuer().await;
    let sign_in = sign_in(&issuer.uri());
    let saved = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let (sender, told) = oneshot::channel();
    let mut sender = Some(sender);
    let browser = crate::signin::Browser { ports: vec![0], originator: "codex_cli_rs".to_owned() };
    let flow = crate::signin::sign_in_by_browser(
        &sign_in,
        &browser,
        |notice| {
            if let crate::signin::Notice::Visit { port, url } = notice {
                let visitor = super::support::Visitor { port, url: url.parse().unwrap() };
                let _ = sender.take().unwrap().send(visitor);
            }
        },
        async |_| {
            saved.store(true, std::sync::atomic::Ordering::SeqCst);
            Ok::<_, String>(())
        },
    );
    let mut flow = std::pin::pin!(flow);
    let script = async {
        let visitor = told.await.unwrap();
        let location = visitor.come_back("code=code-1").await.location.unwrap();
        (visitor, location)
    };
    let (visitor, location) = tokio::select! {
        seen = script => seen,
        outcome = flow.as_mut() => panic!("over before the last page: {outcome:?}"),
    };
    assert!(saved.load(std::sync::atomic::Ordering::SeqCst));
    let (outcome, _) = tokio::join!(flow, visitor.get_at(&location));
    outcome.unwrap();
}

#[tokio::test]
async fn cancel_ends_it_in_every_phase() {
    let slow = tokens(&id_token("acct-1")).set_delay(Duration::from_secs(60));
    let slow = issuer(slow, ResponseTemplate::new(500)).await;
    let good = good_issuer().await;
    for (issuer, phase, saved) in
        [(&good, "waiting", false), (&slow, "exchanging", false), (&good, "saved", true)]
    {
        let outcome = browse(&sign_in(&issuer.uri()), async |visitor| {
            let cancel = async {
                let answer = visitor.get("/cancel").await;
                assert_eq!(
                    (answer.status, answer.body.as_str()),
                    (StatusCode::OK, "Login cancelled"),
                    "{phase}"
                );
            };
            match phase {
                "exchanging" => {
                    let (callback, ()) = tokio::join!(visitor.come_back("code=code-1"), async {
                        while asked(issuer, "authorization_code").await.is_empty() {
                            tokio::task::yield_now().await;
                        }
                        cancel.await;
                    });
                    assert_eq!(callback.status, StatusCode::SERVICE_UNAVAILABLE);
                }
                "saved" => {
                    visitor.come_back("code=code-1").await;
                    cancel.await;
                }
                _ => cancel.await,
            }
        })
        .await;
        assert!(matches!(outcome.result, Err(SignInError::Cancelled)), "{phase}: {:?}", outcome.result);
        assert_eq!(outcome.message(), "Login cancelled");
        assert_eq!(outcome.saved.is_some(), saved, "{phase}");
    }
}

#[tokio::test]
async fn a_token_without_account_claims_signs_in_and_says_so() {
    let issuer =
        issuer(tokens(&jwt(&json!({ "email": "dev@example.test" }))), ResponseTemplate::new(500)).await;
    let outcome = browse(&sign_in(&issuer.uri()), async |visitor| {
        let location = visitor.come_back("code=code-1").await.location.unwrap();
        assert!(
            location.contains("/success?needs_setup=false&org_id=&project_id=&plan_type=pro&"),
            "{location}"
        );
        visitor.get_at(&location).await;
    })
    .await;
    outcome.result.as_ref().unwrap();
    assert!(outcome.no_auth_claims);
}

#[tokio::test]
async fn an_account_of_an_allowed_workspace_signs_in() {
    let issuer = good_issuer().await;
    let mut sign_in = sign_in(&issuer.uri());
    sign_in.workspaces = Some(vec!["acct-0".to_owned(), "acct-1".to_owned()]);
    let outcome = browse(&sign_in, async |visitor| {
        let location = visitor.come_back("code=code-1").await.location.unwrap();
        visitor.get_at(&location).await;
    })
    .await;
    outcome.result.unwrap();
}

#[tokio::test]
async fn any_failure_of_the_key_exchange_is_no_key_and_no_failure() {
    let answers = [
        ResponseTemplate::new(401).set_body_json(json!({ "error": "no_organization" })),
        ResponseTemplate::new(500),
        ResponseTemplate::new(200).set_body_string("no JSON"),
        ResponseTemplate::new(200).set_body_json(json!({ "token": "sk" })),
        ResponseTemplate::new(302).insert_header("location", "/elsewhere"),
        tokens(&id_token("acct-1")).set_delay(Duration::from_secs(60)),
    ];
    for (at, key) in answers.into_iter().enumerate() {
        let issuer = issuer(tokens(&id_token("acct-1")), key).await;
        let mut sign_in = sign_in(&issuer.uri());
        if at == 5 {
            sign_in.waits.request = Duration::from_secs(5);
        }
        let outcome = browse_on(&[0], &sign_in, Ok(()), async |visitor| {
            let location = visitor.come_back("code=code-1").await.location.unwrap();
            visitor.get_at(&location).await;
        })
        .await;
        outcome.result.as_ref().unwrap();
        assert_eq!(outcome.saved().3, None, "case {at}");
    }
}
