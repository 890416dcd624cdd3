//! A home directory, credentials to put there, an issuer to ask, and child processes of this test binary.

use codex_config::StoreMode;
use codex_login::{HttpClient, Restrictions, Settings, Store, Variables};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;
use wiremock::matchers::{method, path};
use wiremock::{Mock, MockServer, Request, ResponseTemplate};

/// How long any wait may last before the test fails.
pub(crate) const GUARD: Duration = Duration::from_secs(60);

/// A home directory of its own.
pub(crate) struct Home(TempDir);

impl Home {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn with(document: &Value) -> Self {
        let home = Self::new();
        home.write(document);
        home
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self) -> PathBuf {
        self.path().join("auth.json")
    }

    pub(crate) fn store(&self, mode: StoreMode) -> Store {
        Store::new(self.path(), mode)
    }

    pub(crate) fn write(&self, document: &Value) {
        // As a careful writer does: a reader never sees half of it.
        let temporary = self.path().join("test.tmp");
        std::fs::write(&temporary, serde_json::to_string_pretty(document).unwrap()).unwrap();
        std::fs::rename(temporary, self.file()).unwrap();
    }

    pub(crate) fn read(&self) -> Value {
        serde_json::from_slice(&std::fs::read(self.file()).unwrap()).unwrap()
    }

    pub(crate) fn settings(&self, variables: Variables) -> Settings {
        settings(self.path(), variables)
    }

    /// The names in the home directory, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

pub(crate) fn settings(home: &Path, variables: Variables) -> Settings {
    Settings {
        store: Store::new(home, StoreMode::File),
        restrictions: Restrictions::default(),
        client: HttpClient::new("1.2.3", &variables),
        variables,
        use_api_key_variable: true,
    }
}

pub(crate) fn mode_of(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

/// A JWT with this payload and no real signature.
pub(crate) fn jwt(payload: &Value) -> String {
    format!("e30.{}.c2ln", base64_simd::URL_SAFE_NO_PAD.encode_to_string(payload.to_string()))
}

pub(crate) fn id_token(account_id: &str) -> String {
    jwt(&json!({
        "email": "dev@example.test",
        "https://api.openai.com/auth": {"chatgpt_account_id": account_id, "chatgpt_plan_type": "pro"},
    }))
}

/// An access token that ends so many minutes from now; `name` tells it from others.
pub(crate) fn access_token(name: &str, minutes: i64) -> String {
    let now = i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).unwrap();
    jwt(&json!({"name": name, "exp": now + minutes * 60}))
}

/// A sign-in whose tokens are fresh for another hour.
pub(crate) fn fresh() -> Value {
    signed_in(&access_token("old", 60))
}

/// A sign-in whose tokens are due.
pub(crate) fn due() -> Value {
    signed_in(&access_token("old", 1))
}

pub(crate) fn signed_in(access_token: &str) -> Value {
    json!({
        "auth_mode": "chatgpt",
        "OPENAI_API_KEY": null,
        "tokens": {
            "id_token": id_token("acct-1"),
            "access_token": access_token,
            "refresh_token": "r1",
            "login_owner_id": "NFopQrwpEenB0g0zoB1tC_FTOvYUk8W-Wu0kfvFolSg",
            "account_id": "acct-1",
            "from-the-future": {"kept": true},
        },
        // With all nine digits, as it is written.
        "last_refresh": format!("{:.9}", jiff::Timestamp::now()),
        "from-the-future": [1, null],
    })
}

/// An HTTP server that issues tokens.
pub(crate) struct Issuer(pub(crate) MockServer);

impl Issuer {
    pub(crate) async fn start() -> Self {
        Self(MockServer::start().await)
    }

    /// An issuer that gives every client these answers.
    pub(crate) async fn answering(answer: ResponseTemplate) -> Self {
        let issuer = Self::start().await;
        Mock::given(method("POST")).and(path("/oauth/token")).respond_with(answer).mount(&issuer.0).await;
        issuer
    }

    /// An issuer that first does `work`, as something that happens while a request is on its way.
    pub(crate) async fn meanwhile(work: impl Fn() + Send + Sync + 'static, answer: ResponseTemplate) -> Self {
        let issuer = Self::start().await;
        let respond = move |_: &Request| {
            work();
            answer.clone()
        };
        Mock::given(method("POST")).and(path("/oauth/token")).respond_with(respond).mount(&issuer.0).await;
        issuer
    }

    /// Variables that send refreshes here.
    pub(crate) fn variables(&self) -> Variables {
        Variables { refresh_url: Some(format!("{}/oauth/token", self.0.uri())), ..Variables::default() }
    }

    pub(crate) async fn requests(&self) -> Vec<Request> {
        self.0.received_requests().await.unwrap()
    }

    /// The bodies of all requests so far.
    pub(crate) async fn bodies(&self) -> Vec<Value> {
        self.requests().await.iter().map(|request| request.body_json().unwrap()).collect()
    }
}

/// The answer that gives new tokens.
pub(crate) fn new_tokens() -> ResponseTemplate {
    ResponseTemplate::new(200).set_body_json(json!({
        "id_token": id_token("acct-1"),
        "access_token": access_token("new", 60),
        "refresh_token": "r2",
    }))
}

/// This test binary again, running only the ignored test `name`, a child's part.
pub(crate) fn child(name: &str) -> Command {
    let mut command = children(name);
    command.args(["--exact", "--nocapture", "--test-threads=1"]);
    command
}

/// This test binary again, running all ignored tests whose names begin so.
pub(crate) fn children(names: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([names, "--ignored"]).stdin(Stdio::null());
    // A keyring of the developer's must never be touched.
    command.env_remove("DBUS_SESSION_BUS_ADDRESS").env("XDG_RUNTIME_DIR", "/nonexistent");
    command
}

/// What a parent told its child, none if nobody did: somebody runs all ignored tests.
pub(crate) fn told(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

/// The name in an access token made by [`access_token`].
pub(crate) fn name_in(token: &str) -> String {
    codex_login::claims::payload(token).unwrap()["name"].as_str().unwrap().to_owned()
}
