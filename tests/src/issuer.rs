//! Plays the sign-in service: answers each path from a script, and remembers what it was asked.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::sync::Notify;

use crate::http::{Asked, Origin, plain};
use crate::secrets::secret;

/// A sign-in service on loopback; dropping it ends it.
pub struct Issuer {
    origin: Origin,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    script: Mutex<HashMap<String, VecDeque<Reply>>>,
    asked: Mutex<Vec<Asked>>,
    news: Notify,
}

/// One answer of the script.
#[derive(Debug, Clone)]
enum Reply {
    Answer(&'static str, String),
    /// The request is taken and never answered.
    Silence,
    /// The request is taken and the connection ended.
    HangUp,
}

impl Issuer {
    /// Starts a service that answers every path with 404 until told otherwise.
    pub async fn start() -> Self {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let origin = Origin::start(Arc::new(move |asked, mut stream| {
            let state = Arc::clone(&shared);
            Box::pin(async move {
                let reply = state.take(asked);
                match reply {
                    Reply::Answer(status, body) => {
                        let answer = plain(status, "content-type: application/json\r\n", body.as_bytes());
                        let _ = stream.write_all(&answer).await;
                    }
                    Reply::Silence => std::future::pending().await,
                    Reply::HangUp => {}
                }
            })
        }))
        .await;
        Self { origin, state }
    }

    /// A service at which everything goes well: device code, tokens of this account, API key, revocation.
    pub async fn good(account: &str) -> Self {
        let issuer = Self::start().await;
        issuer.answer("/api/accounts/deviceauth/usercode", "200 OK", device_code());
        issuer.answer("/api/accounts/deviceauth/token", "200 OK", granted());
        issuer.answer("/oauth/token", "200 OK", tokens(account));
        issuer.answer("/oauth/token", "200 OK", json!({ "access_token": secret("exchanged-key") }));
        issuer.answer("/oauth/revoke", "200 OK", json!({}));
        issuer
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.origin.address
    }

    /// `http://127.0.0.1:PORT` and a path.
    pub fn url(&self, path: &str) -> String {
        self.origin.url(path)
    }

    /// Adds an answer for a path; answers are given in this order, the last one for good.
    pub fn answer(&self, path: &str, status: &'static str, body: impl ToString) {
        self.push(path, Reply::Answer(status, body.to_string()));
    }

    /// Lets a path be without an answer.
    pub fn silence(&self, path: &str) {
        self.push(path, Reply::Silence);
    }

    /// Lets the connection end instead of an answer.
    pub fn hang_up(&self, path: &str) {
        self.push(path, Reply::HangUp);
    }

    /// Forgets the answers of a path.
    pub fn forget(&self, path: &str) {
        self.state.script.lock().expect("no panic holds it").remove(path);
    }

    fn push(&self, path: &str, reply: Reply) {
        self.state
            .script
            .lock()
            .expect("no panic holds it")
            .entry(path.to_owned())
            .or_default()
            .push_back(reply);
    }

    /// What was asked so far, in order.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().expect("no panic holds it").clone()
    }

    /// The paths asked so far, in order.
    pub fn paths(&self) -> Vec<String> {
        self.asked().iter().map(|asked| path_of(&asked.target).to_owned()).collect()
    }

    /// Waits until this path was asked.
    pub async fn wait_for(&self, path: &str) {
        crate::client::guarded(path, async {
            loop {
                let news = self.state.news.notified();
                if self.paths().iter().any(|asked| asked == path) {
                    return;
                }
                news.await;
            }
        })
        .await;
    }
}

impl State {
    fn take(&self, asked: Asked) -> Reply {
        let path = path_of(&asked.target).to_owned();
        self.asked.lock().expect("no panic holds it").push(asked);
        self.news.notify_waiters();
        let mut script = self.script.lock().expect("no panic holds it");
        match script.get_mut(&path) {
            Some(replies) if replies.len() > 1 => replies.pop_front(),
            Some(replies) => replies.front().cloned(),
            None => None,
        }
        .unwrap_or(Reply::Answer("404 Not Found", "{}".to_owned()))
    }
}

fn path_of(target: &str) -> &str {
    target.split('?').next().unwrap_or(target)
}

impl Asked {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).expect("a JSON body")
    }

    /// The body as a form.
    pub fn form(&self) -> BTreeMap<String, String> {
        url::form_urlencoded::parse(&self.body).into_owned().collect()
    }

    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().skip(1).find_map(|line| {
            let (header, value) = line.split_once(':')?;
            header.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// A JWT with this payload, whose signature carries the mark of secrets.
pub fn jwt(name: &str, payload: &Value) -> String {
    let payload = base64_simd::URL_SAFE_NO_PAD.encode_to_string(payload.to_string());
    format!("e30.{payload}.{}", secret(name))
}

/// An id token of this account.
pub fn id_token(account: &str) -> String {
    jwt(
        "id",
        &json!({
            "email": "dev@example.test",
            "https://api.openai.com/auth": { "chatgpt_account_id": account, "chatgpt_user_id": "user-1" },
        }),
    )
}

/// An access token that has expired long ago.
pub fn access_token() -> String {
    jwt("access", &json!({ "exp": 1, "https://api.openai.com/auth": { "chatgpt_plan_type": "pro" } }))
}

/// The tokens of this account, as the token endpoint answers.
pub fn tokens(account: &str) -> Value {
    json!({
        "id_token": id_token(account),
        "access_token": access_token(),
        "refresh_token": secret("refresh"),
    })
}

/// A device code that may be polled without pause.
pub fn device_code() -> Value {
    json!({ "device_auth_id": secret("device"), "user_code": "ABCD-1234", "interval": "0" })
}

/// The answer once the code was entered.
pub fn granted() -> Value {
    json!({
        "authorization_code": secret("code"),
        "code_challenge": "challenge",
        "code_verifier": secret("verifier"),
    })
}
