//! The device flow against an issuer on loopback.

use std::cell::RefCell;
use std::time::Duration;

use serde_json::{Value, json};
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, ResponseTemplate};

use super::support::{asked, form, id_token, jwt, raw_issuer, sign_in, tokens};
use crate::signin::{Notice, SignIn, SignInError, SignedIn, sign_in_by_device};

const USER_CODE: &str = "/api/accounts/deviceauth/usercode";
const TOKEN: &str = "/api/accounts/deviceauth/token";

struct Outcome {
    result: Result<(), SignInError>,
    saved: Option<SignedIn>,
    shown: Option<(String, String)>,
    no_auth_claims: bool,
}

async fn sign_in_with(sign_in: &SignIn, save: Result<(), &str>) -> Outcome {
    let (shown, no_auth_claims, saved) = (RefCell::new(None), RefCell::new(false), RefCell::new(None));
    let tell = |notice: Notice<'_>| match notice {
        Notice::EnterCode { page, code } => *shown.borrow_mut() = Some((page.to_owned(), code.to_owned())),
        Notice::NoAuthClaims => *no_auth_claims.borrow_mut() = true,
        Notice::Visit { .. } => panic!("no visit in a device sign-in"),
    };
    let result = sign_in_by_device(sign_in, tell, async |signed_in| {
        save?;
        *saved.borrow_mut() = Some(signed_in);
        Ok::<_, &str>(())
    })
    .await;
    Outcome {
        result,
        saved: saved.into_inner(),
        shown: shown.into_inner(),
        no_auth_claims: no_auth_claims.into_inner(),
    }
}

fn code() -> ResponseTemplate {
    ResponseTemplate::new(200)
        .set_body_json(json!({ "device_auth_id": "dev-1", "user_code": "ABCD-1234", "interval": "0" }))
}

fn granted() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(
        json!({ "authorization_code": "code-1", "code_challenge": "challenge-1", "code_verifier": "verifier-1" }),
    )
}

/// An issuer whose answers to the poll come in this order; the last one is for good.
async fn issuer(
    code: ResponseTemplate,
    polls: Vec<ResponseTemplate>,
    exchange: ResponseTemplate,
) -> MockServer {
    let server = MockServer::start().await;
    Mock::given(method("POST")).and(path(USER_CODE)).respond_with(code).mount(&server).await;
    Mock::given(method("POST")).and(path("/oauth/token")).respond_with(exchange).mount(&server).await;
    let last = polls.len() - 1;
    for (at, poll) in polls.into_iter().enumerate() {
        let mut mock = Mock::given(method("POST")).and(path(TOKEN)).respond_with(poll);
        if at < last {
            mock = mock.up_to_n_times(1);
        }
        mock.mount(&server).await;
    }
    server
}

async fn failure_of(code: ResponseTemplate, poll: ResponseTemplate, exchange: ResponseTemplate) -> String {
    let issuer = issuer(code, vec![poll], exchange).await;
    let outcome = sign_in_with(&sign_in(&issuer.uri()), Ok(())).await;
    assert!(outcome.saved.is_none());
    outcome.result.unwrap_err().to_string()
}

#[tokio::test]
async fn it_polls_until_the_code_was_entered_and_exchanges_with_the_issuers_verifier() {
    let polls =
        vec![ResponseTemplate::new(403), ResponseTemplate::new(404), ResponseTemplate::new(403), granted()];
    let issuer = issuer(code(), polls, tokens(&id_token("acct-1"))).await;
    let base = issuer.uri();
    // A slash at the end belongs to the provenance, not to the URLs.
    let outcome = sign_in_with(&sign_in(&format!("{base}/")), Ok(())).await;
    outcome.result.unwrap();
    assert_eq!(outcome.shown, Some((format!("{base}/codex/device"), "ABCD-1234".to_owned())));
    let saved = outcome.saved.unwrap();
    assert_eq!(saved.id_token.expose(), id_token("acct-1"));
    assert_eq!(saved.refresh_token.expose(), "refresh-1");
    assert!(saved.api_key.is_none());
    assert!(!outcome.no_auth_claims);

    let requests = issuer.received_requests().await.unwrap();
    let paths: Vec<&str> = requests.iter().map(|request| request.url.path()).collect();
    assert_eq!(paths, [USER_CODE, TOKEN, TOKEN, TOKEN, TOKEN, "/oauth/token"], "and no key exchange");
    let body = |at: usize| serde_json::from_slice::<Value>(&requests[at].body).unwrap();
    assert_eq!(body(0), json!({ "client_id": "app_test" }));
    assert_eq!(body(1), json!({ "device_auth_id": "dev-1", "user_code": "ABCD-1234" }));
    let redirect_uri = format!("{base}/deviceauth/callback");
    let expected = [
        ("client_id", "app_test"),
        ("code", "code-1"),
        ("code_verifier", "verifier-1"),
        ("grant_type", "authorization_code"),
        ("redirect_uri", &redirect_uri),
    ];
    assert_eq!(form(&requests[5]), expected.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    for request in &requests {
        for header in ["originator", "user-agent", "authorization"] {
            assert!(!request.headers.contains_key(header), "{header}");
        }
    }
}

#[tokio::test]
async fn the_code_request_may_fail_in_every_way() {
    let broken = |body: Value| ResponseTemplate::new(200).set_body_json(body);
    let unusable = "device code request failed: the issuer's answer can't be used: ";
    let cases = [
        (
            ResponseTemplate::new(404),
            "device code login is not enabled for this Codex server. Use the browser login or verify the server URL.",
        ),
        (ResponseTemplate::new(500), "device code request failed with status 500 Internal Server Error"),
        (ResponseTemplate::new(403), "device code request failed with status 403 Forbidden"),
        (ResponseTemplate::new(302), "device code request failed with status 302 Found"),
        (ResponseTemplate::new(200).set_body_string("no JSON"), unusable),
        (broken(json!({ "device_auth_id": "d", "user_code": "c", "interval": 5 })), unusable),
        (broken(json!({ "device_auth_id": "d", "user_code": "c", "interval": "five" })), unusable),
        (broken(json!({ "device_auth_id": "d", "user_code": "c", "interval": "-1" })), unusable),
        (broken(json!({ "device_auth_id": "d", "user_code": "c", "interval": "" })), unusable),
        (broken(json!({ "user_code": "c" })), unusable),
        (broken(json!({ "device_auth_id": "d" })), unusable),
    ];
    for (code, expected) in cases {
        let message = failure_of(code, granted(), tokens(&id_token("acct-1"))).await;
        assert!(message == expected || (expected == unusable && message.starts_with(unusable)), "{message}");
    }
}

#[tokio::test]
async fn the_interval_is_a_string_or_absent_and_the_code_has_two_names() {
    let bodies = [
        json!({ "device_auth_id": "dev-1", "user_code": "ABCD-1234", "interval": " 0 " }),
        json!({ "device_auth_id": "dev-1", "user_code": "ABCD-1234", "interval": "18446744073709551615" }),
        json!({ "device_auth_id": "dev-1", "user_code": "ABCD-1234" }),
        json!({ "device_auth_id": "dev-1", "usercode": "ABCD-1234", "more": [] }),
    ];
    for body in bodies {
        let code = ResponseTemplate::new(200).set_body_json(&body);
        let issuer = issuer(code, vec![granted()], tokens(&id_token("acct-1"))).await;
        let outcome = sign_in_with(&sign_in(&issuer.uri()), Ok(())).await;
        outcome.result.unwrap_or_else(|error| panic!("{body}: {error}"));
        assert_eq!(outcome.shown.unwrap().1, "ABCD-1234");
    }
}

#[tokio::test]
async fn a_code_with_control_characters_can_not_play_with_the_terminal() {
    let code = ResponseTemplate::new(200)
        .set_body_json(json!({ "device_auth_id": "dev-1", "user_code": "AB\u{1b}]0;x\u{7}CD" }));
    let issuer = issuer(code, vec![granted()], tokens(&id_token("acct-1"))).await;
    let outcome = sign_in_with(&sign_in(&issuer.uri()), Ok(())).await;
    assert_eq!(outcome.shown.unwrap().1, "AB\u{fffd}]0;x\u{fffd}CD");
    let polls = asked(&issuer, "device_auth_id").await;
    let body: Value = serde_json::from_slice(&polls[0].body).unwrap();
    assert_eq!(body["user_code"], "AB\u{1b}]0;x\u{7}CD", "the issuer gets back what it gave");
}

#[tokio::test]
async fn a_poll_ends_at_any_other_answer() {
    let unusable = "device auth failed: the issuer's answer can't be used: ";
    let cases = [
        (ResponseTemplate::new(400), "device auth failed with status 400 Bad Request"),
        (ResponseTemplate::new(429), "device auth failed with status 429 Too Many Requests"),
        (ResponseTemplate::new(500), "device auth failed with status 500 Internal Server Error"),
        (ResponseTemplate::new(200).set_body_string("no JSON"), unusable),
        (
            ResponseTemplate::new(200)
                .set_body_json(json!({ "authorization_code": "c", "code_verifier": "v" })),
            unusable,
        ),
        (
            ResponseTemplate::new(200)
                .set_body_json(json!({ "authorization_code": "c", "code_challenge": "v" })),
            unusable,
        ),
    ];
    for (poll, expected) in cases {
        let message = failure_of(code(), poll, tokens(&id_token("acct-1"))).await;
        assert!(message == expected || (expected == unusable && message.starts_with(unusable)), "{message}");
    }
}

#[tokio::test]
async fn nobody_who_enters_the_code_is_a_timeout() {
    let issuer = issuer(code(), vec![ResponseTemplate::new(403)], granted()).await;
    let mut sign_in = sign_in(&issuer.uri());
    sign_in.waits.device_code = Duration::ZERO;
    let error = sign_in_with(&sign_in, Ok(())).await.result.unwrap_err();
    assert!(matches!(error, SignInError::DeviceTimeout(_)), "{error}");
    let default = SignInError::DeviceTimeout(crate::signin::Waits::default().device_code);
    assert_eq!(default.to_string(), "device auth timed out after 15 minutes");
}

#[tokio::test]
async fn an_interval_beyond_the_deadline_is_cut_short() {
    let code = ResponseTemplate::new(200)
        .set_body_json(json!({ "device_auth_id": "dev-1", "user_code": "c", "interval": "999999999" }));
    let issuer = issuer(code, vec![ResponseTemplate::new(403)], granted()).await;
    let mut sign_in = sign_in(&issuer.uri());
    sign_in.waits.device_code = Duration::from_millis(100);
    let error = sign_in_with(&sign_in, Ok(())).await.result.unwrap_err();
    assert!(matches!(error, SignInError::DeviceTimeout(_)), "{error}");
    let polls = asked(&issuer, "device_auth_id").await.len();
    assert!((1..=2).contains(&polls), "{polls} polls");
}

#[tokio::test]
async fn a_failed_exchange_is_told_with_its_status() {
    let cases = [
        (
            ResponseTemplate::new(400).set_body_json(json!({ "error": "invalid_grant" })),
            "device code exchange failed: token endpoint returned status 400 Bad Request: invalid_grant",
        ),
        (
            ResponseTemplate::new(200).set_body_string("no JSON"),
            "device code exchange failed: OAuth token response is invalid",
        ),
        (tokens("unreadable"), "invalid ID token format"),
    ];
    for (exchange, expected) in cases {
        assert_eq!(failure_of(code(), granted(), exchange).await, expected);
    }
}

#[tokio::test]
async fn workspace_rule_save_failure_and_missing_claims_are_as_in_the_browser_flow() {
    let good = issuer(code(), vec![granted()], tokens(&id_token("acct-1"))).await;
    let mut restricted = sign_in(&good.uri());
    restricted.workspaces = Some(vec!["a".to_owned(), "b".to_owned()]);
    let outcome = sign_in_with(&restricted, Ok(())).await;
    assert_eq!(outcome.result.unwrap_err().to_string(), "Login is restricted to workspace id(s) a, b.");
    assert!(outcome.saved.is_none());

    let unsaved = sign_in_with(&sign_in(&good.uri()), Err("the disk is full")).await;
    assert_eq!(unsaved.result.unwrap_err().to_string(), "the disk is full");

    let bare = issuer(code(), vec![granted()], tokens(&jwt(&json!({})))).await;
    let outcome = sign_in_with(&sign_in(&bare.uri()), Ok(())).await;
    outcome.result.unwrap();
    assert!(outcome.no_auth_claims);
}

#[tokio::test]
async fn a_broken_or_silent_issuer_is_told() {
    for (bytes, hold) in [(b"".as_slice(), false), (b"garbage\r\n\r\n", false), (b"", true)] {
        let mut sign_in = sign_in(&raw_issuer(bytes, hold));
        if hold {
            sign_in.waits.request = Duration::from_millis(200);
        }
        let message = sign_in_with(&sign_in, Ok(())).await.result.unwrap_err().to_string();
        assert!(message.starts_with("device code request failed: "), "{message}");
    }
}

#[tokio::test]
async fn what_broke_the_last_look_is_told_when_time_is_up() {
    let gone = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap();
    let mut sign_in = sign_in(&format!("http://{gone}"));
    sign_in.waits.device_code = Duration::ZERO;
    let code = serde_json::from_value(json!({ "device_auth_id": "d", "user_code": "c" })).unwrap();
    let error = crate::signin::device::wait_for_grant(&sign_in, &code).await.map(drop).unwrap_err();
    assert!(matches!(error, SignInError::DeviceAuth(_)), "{error}");
}
