//! An issuer on loopback, tokens, and a browser that visits the callback server.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use codex_secret::Secret;
use reqwest::{StatusCode, redirect};
use serde_json::{Value, json};
use tokio::sync::oneshot;
use url::Url;
use wiremock::matchers::{body_string_contains, method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

use crate::signin::{Browser, Issuer, Notice, SignIn, SignInError, SignedIn, Waits, sign_in_by_browser};

/// A client that follows no redirect, for servers on this machine.
fn client() -> reqwest::Client {
    let local = codex_outgoing::Outgoing::local_http().unwrap();
    local.redirect(redirect::Policy::none()).build().unwrap()
}

/// What a sign-in needs, with short waits that only a test of slowness meets.
pub(super) fn sign_in(issuer: &str) -> SignIn {
    SignIn {
        issuer: Issuer { url: issuer.to_owned(), client_id: "app_test".to_owned() },
        http: client(),
        workspaces: None,
        waits: Waits { request: Duration::from_secs(30), device_code: Duration::from_secs(30) },
    }
}

/// A JWT with this payload.
pub(super) fn jwt(payload: &Value) -> String {
    format!("e30.{}.c2ln", base64_simd::URL_SAFE_NO_PAD.encode_to_string(payload.to_string()))
}

/// An id token of this account.
pub(super) fn id_token(account: &str) -> String {
    jwt(&json!({ "https://api.openai.com/auth": {
        "chatgpt_account_id": account, "organization_id": "org-1", "project_id": "proj 1", "is_org_owner": true,
    }}))
}

/// The issuer's answer to a good code.
pub(super) fn tokens(id_token: &str) -> ResponseTemplate {
    let access = jwt(&json!({ "https://api.openai.com/auth": { "chatgpt_plan_type": "pro" } }));
    ResponseTemplate::new(200)
        .set_body_json(json!({ "id_token": id_token, "access_token": access, "refresh_token": "refresh-1" }))
}

/// An issuer that answers the exchange of a code with `exchange` and every other exchange with `key`.
pub(super) async fn issuer(exchange: ResponseTemplate, key: ResponseTemplate) -> MockServer {
    let server = MockServer::start().await;
    for (grant, answer) in [("grant_type=authorization_code", exchange), ("grant_type=urn", key)] {
        Mock::given(method("POST"))
            .and(path("/oauth/token"))
            .and(body_string_contains(grant))
            .respond_with(answer)
            .mount(&server)
            .await;
    }
    server
}

/// An issuer that hands out tokens and an API key.
pub(super) async fn good_issuer() -> MockServer {
    let key = ResponseTemplate::new(200).set_body_json(json!({ "access_token": "sk-exchanged" }));
    issuer(tokens(&id_token("acct-1")), key).await
}

/// An issuer that answers every connection with these bytes and then holds it (`hold`) or ends it.
pub(super) fn raw_issuer(answer: &'static [u8], hold: bool) -> String {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let mut held = Vec::new();
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 16 << 10]);
            let _ = stream.write_all(answer);
            if hold {
                held.push(stream);
            }
        }
    });
    url
}

/// A form body, decoded.
pub(super) fn form(request: &Request) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(&request.body).into_owned().collect()
}

/// The requests whose body has this text.
pub(super) async fn asked(issuer: &MockServer, text: &str) -> Vec<Request> {
    let requests = issuer.received_requests().await.unwrap();
    requests.into_iter().filter(|request| String::from_utf8_lossy(&request.body).contains(text)).collect()
}

/// What a visit of the callback server brought.
pub(super) struct Visited {
    pub(super) status: StatusCode,
    pub(super) location: Option<String>,
    pub(super) content_type: String,
    pub(super) closes: bool,
    pub(super) body: String,
}

/// The browser's view of a sign-in.
pub(super) struct Visitor {
    pub(super) port: u16,
    pub(super) url: Url,
}

impl Visitor {
    /// A parameter of the authorize URL.
    pub(super) fn parameter(&self, name: &str) -> String {
        self.url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned()
    }

    /// Visits a path of the callback server, without following a redirect.
    pub(super) async fn get(&self, path: &str) -> Visited {
        self.get_at(&format!("http://127.0.0.1:{}{path}", self.port)).await
    }

    pub(super) async fn get_at(&self, url: &str) -> Visited {
        let response = client().get(url).send().await.unwrap();
        let header = |name| response.headers().get(name).map(|value: &_| value.to_str().unwrap().to_owned());
        Visited {
            status: response.status(),
            location: header("location"),
            content_type: header("content-type").unwrap_or_default(),
            closes: header("connection").is_some_and(|value| value == "close"),
            body: response.text().await.unwrap(),
        }
    }

    /// Comes back from the issuer with our state and this query.
    pub(super) async fn come_back(&self, query: &str) -> Visited {
        self.get(&format!("/auth/callback?{query}&state={}", self.parameter("state"))).await
    }
}

/// What happened to a sign-in.
pub(super) struct Outcome<T> {
    pub(super) result: Result<(), SignInError>,
    pub(super) saved: Option<SignedIn>,
    pub(super) no_auth_claims: bool,
    pub(super) seen: T,
}

impl<T> Outcome<T> {
    pub(super) fn message(&self) -> String {
        self.result.as_ref().unwrap_err().to_string()
    }

    pub(super) fn first_line(&self) -> Option<String> {
        self.result.as_ref().unwrap_err().first_line()
    }

    /// The saved id, access, refresh token and API key.
    pub(super) fn saved(&self) -> (String, String, String, Option<String>) {
        let saved = self.saved.as_ref().unwrap();
        let text = |secret: &Secret| secret.expose().to_owned();
        (
            text(&saved.id_token),
            text(&saved.access_token),
            text(&saved.refresh_token),
            saved.api_key.as_ref().map(text),
        )
    }
}

/// Runs a browser sign-in while `script` plays the browser.
pub(super) async fn browse<T>(sign_in: &SignIn, script: impl AsyncFnOnce(&Visitor) -> T) -> Outcome<T> {
    browse_on(&[0], sign_in, Ok(()), script).await
}

/// The same on these ports, with a save that ends like this.
pub(super) async fn browse_on<T>(
    ports: &[u16],
    sign_in: &SignIn,
    save: Result<(), &str>,
    script: impl AsyncFnOnce(&Visitor) -> T,
) -> Outcome<T> {
    let browser = Browser { ports: ports.to_vec(), originator: "codex_cli_rs".to_owned() };
    let (sender, told) = oneshot::channel();
    let mut sender = Some(sender);
    let no_auth_claims = RefCell::new(false);
    let saved = RefCell::new(None);
    let tell = |notice: Notice<'_>| match notice {
        Notice::Visit { port, url } => {
            let _ = sender.take().unwrap().send(Visitor { port, url: url.parse().unwrap() });
        }
        Notice::NoAuthClaims => *no_auth_claims.borrow_mut() = true,
        Notice::EnterCode { .. } => panic!("no code in a browser sign-in"),
    };
    let keep = async |signed_in| {
        save?;
        *saved.borrow_mut() = Some(signed_in);
        Ok::<_, &str>(())
    };
    let flow = sign_in_by_browser(sign_in, &browser, tell, keep);
    let (result, seen) = tokio::join!(flow, async { script(&told.await.unwrap()).await });
    Outcome { result, saved: saved.into_inner(), no_auth_claims: no_auth_claims.into_inner(), seen }
}
