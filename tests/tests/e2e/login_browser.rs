//! `codex login` by browser, on the real ports, against an issuer behind an HTTPS proxy.
//!
//! The browser flow knows one issuer only, so the test does what a company's network does: it sets a proxy and trusts
//! the proxy's certificate. The ports are fixed, so everything here runs one after the other, and waits for other
//! runs of these tests on this machine; a foreign program on a port makes the test check what is said then.

use std::fs::Permissions;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::PermissionsExt;

use codex_e2e::GUARD;
use codex_e2e::http::ask;
use codex_e2e::issuer::{Issuer, access_token, id_token};
use codex_e2e::login::{Home, Running};
use codex_e2e::proxy::Proxy;
use codex_e2e::secrets::secret;
use codex_e2e::turn::Turn;
use serde_json::{Value, json};
use url::Url;

/// Held by whoever uses the ports, also in another checkout's run or another user's.
async fn ports() -> Turn {
    tokio::task::spawn_blocking(|| Turn::wait("login-ports")).await.unwrap()
}

struct Stage {
    issuer: Issuer,
    proxy: Proxy,
    home: Home,
}

impl Stage {
    async fn new() -> Self {
        let issuer = Issuer::good("acct-1").await;
        let proxy = Proxy::start("auth.openai.com", issuer.address()).await;
        let mut home = Home::new();
        let certificate = home.beside("ca.pem");
        std::fs::write(&certificate, &proxy.certificate).unwrap();
        home.set("CODEX_CA_CERTIFICATE", certificate.to_str().unwrap());
        home.set("HTTPS_PROXY", &proxy.url);
        Self { issuer, proxy, home }
    }

    /// Starts a sign-in and waits until it listens. None when both ports are taken by somebody else.
    async fn start(&self, arguments: &[&str]) -> Option<Visit> {
        let running = self.home.start(&[&["login"], arguments].concat());
        let url = running
            .wait_for("the authorize URL", |_, stderr| {
                if stderr.contains("is already in use") {
                    return Some(None);
                }
                let shown = stderr.contains("On a remote or headless machine?");
                let url = stderr.lines().find(|line| line.starts_with("https://")).map(str::to_owned);
                if shown { Some(url) } else { None }
            })
            .await;
        let Some(url) = url else {
            running.end().await.assert(1, &["Error logging in: Port 127.0.0.1:1457 is already in use"]);
            return None;
        };
        let url = Url::parse(&url).unwrap();
        let redirect = Url::parse(&parameter(&url, "redirect_uri")).unwrap();
        Some(Visit { running, url, port: redirect.port().unwrap() })
    }
}

fn parameter(url: &Url, name: &str) -> String {
    url.query_pairs().find(|(key, _)| key == name).unwrap().1.into_owned()
}

/// A sign-in that waits for the browser.
struct Visit {
    running: Running,
    url: Url,
    port: u16,
}

impl Visit {
    /// Fetches a path of the callback server and gives the answer as text, body included.
    async fn get(&self, path: &str) -> String {
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\n\r\n", self.port);
        ask((Ipv4Addr::LOCALHOST, self.port).into(), &request).await
    }

    async fn come_back(&self, query: &str) -> String {
        self.get(&format!("/auth/callback?{query}&state={}", parameter(&self.url, "state"))).await
    }

    /// The first lines on stderr.
    fn greeting(&self) -> Vec<String> {
        let text = format!(
            "Starting local login server on http://localhost:{}.\n\
             If your browser did not open, navigate to this URL to authenticate:\n\n{}\n\n\
             On a remote or headless machine? Use `codex login --device-auth` instead.",
            self.port, self.url
        );
        text.lines().map(str::to_owned).collect()
    }

    /// Waits for the end, which says these lines after the greeting.
    async fn end(self, code: i32, lines: &[&str]) {
        let greeting = self.greeting();
        let expected: Vec<&str> = greeting.iter().map(String::as_str).chain(lines.iter().copied()).collect();
        self.running.end().await.assert(code, &expected);
    }
}

fn location(answer: &str) -> String {
    answer
        .lines()
        .find_map(|line| line.strip_prefix("location: "))
        .unwrap_or_else(|| panic!("{answer}"))
        .to_owned()
}

#[tokio::test]
async fn the_browser_flow_on_its_real_ports() {
    let _ports = ports().await;
    a_good_sign_in().await;
    failures().await;
    a_second_sign_in_takes_over().await;
    ctrl_c().await;
    taken_ports().await;
}

async fn a_good_sign_in() {
    let mut stage = Stage::new().await;
    let opened = stage.home.beside("opened");
    let script = stage.home.beside("browser");
    let text = format!(
        "#!/bin/sh\necho noise\necho noise >&2\nprintf %s \"$1\" >{0}.tmp && mv {0}.tmp {0}\n",
        opened.display()
    );
    std::fs::write(&script, text).unwrap();
    std::fs::set_permissions(&script, Permissions::from_mode(0o755)).unwrap();
    stage.home.set("BROWSER", script.to_str().unwrap());
    stage.home.write(
        "auth.json",
        json!({
            "auth_mode": "chatgpt",
            "tokens": { "id_token": id_token("acct-0"), "access_token": "a", "refresh_token": secret("old") },
        }),
    );
    // Both are for the device flow only.
    let ignored = ["--experimental_issuer", "http://127.0.0.1:1", "--experimental_client-id", "x"];
    let Some(visit) = stage.start(&ignored).await else { return };
    assert_eq!(stage.home.auth().unwrap()["tokens"]["refresh_token"], secret("old"), "still signed in");
    assert!(stage.issuer.paths().is_empty());
    assert!(visit.url.as_str().starts_with("https://auth.openai.com/oauth/authorize?"), "{}", visit.url);
    assert_eq!(parameter(&visit.url, "client_id"), "app_EMoamEEZ73f0CkXaXp7hrann");
    codex_e2e::client::guarded("the browser", async {
        while !opened.exists() {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(std::fs::read_to_string(&opened).unwrap(), visit.url.as_str());

    let wrong = visit.get(&format!("/auth/callback?code={}&state=wrong", secret("code"))).await;
    assert!(wrong.starts_with("HTTP/1.1 400 Bad Request\r\n"), "{wrong}");
    let back = visit.come_back(&format!("code={}", secret("code"))).await;
    assert!(back.starts_with("HTTP/1.1 302 Found\r\n"), "{back}");
    let last_page = Url::parse(&location(&back)).unwrap();
    assert_eq!(parameter(&last_page, "platform_url"), "https://platform.openai.com");
    assert!(!last_page.as_str().contains("s3cr3t-"), "no token in an address");
    let auth = stage.home.auth().expect("saved before the redirect");
    assert_eq!(auth["auth_mode"], "chatgpt");
    assert_eq!(auth["OPENAI_API_KEY"], secret("exchanged-key"));
    assert_eq!(auth["tokens"]["access_token"], access_token());
    assert_eq!(auth["tokens"]["account_id"], "acct-1");
    assert_eq!(
        auth["tokens"]["oauth_provenance"],
        json!({ "issuer": "https://auth.openai.com", "client_id": "app_EMoamEEZ73f0CkXaXp7hrann" })
    );
    let page = visit.get(&format!("{}?{}", last_page.path(), last_page.query().unwrap())).await;
    assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
    let (state, port) = (parameter(&visit.url, "state"), visit.port);
    visit.end(0, &["Successfully logged in"]).await;

    assert_eq!(stage.issuer.paths().last().unwrap(), "/oauth/revoke");
    assert_eq!(stage.issuer.asked().last().unwrap().json()["token"], secret("old"));
    let exchange = stage.issuer.asked()[0].form();
    assert_eq!(exchange["code"], secret("code"));
    assert_eq!(exchange["redirect_uri"], format!("http://127.0.0.1:{port}/auth/callback"));
    assert!(stage.proxy.targets().iter().all(|target| target == "auth.openai.com:443"));
    let log = stage.home.log();
    assert!(log.contains("signed in by browser"), "{log}");
    for hidden in [&state, &exchange["code_verifier"]] {
        assert!(!log.contains(hidden), "{log}");
    }
}

async fn failures() {
    let refused = json!({ "error": "invalid_grant", "error_description": format!("bad {}", secret("code")) });
    let cases: [(&str, &[&str], Value, &[&str]); 4] = [
        (
            "error=access_denied&error_description=no",
            &[],
            Value::Null,
            &["OAuth callback error: Sign-in failed: no", "Error logging in: Sign-in failed: no"],
        ),
        (
            "x=1",
            &[],
            Value::Null,
            &["Error logging in: Missing authorization code. Sign-in could not be completed."],
        ),
        (
            "code=s3cr3t-code",
            &[],
            refused,
            &[
                "Token exchange error: token endpoint returned status 400 Bad Request: bad [redacted]",
                "Error logging in: Token exchange failed: token endpoint returned status 400 Bad Request: bad \
                 [redacted]",
            ],
        ),
        (
            "code=s3cr3t-code",
            &["-c", "forced_chatgpt_workspace_id=[\"a\", \"b\"]"],
            Value::Null,
            &[
                "Workspace restriction error: Login is restricted to workspace id(s) a, b.",
                "Error logging in: Login is restricted to workspace id(s) a, b.",
            ],
        ),
    ];
    for (query, arguments, refusal, lines) in cases {
        let stage = Stage::new().await;
        if !refusal.is_null() {
            stage.issuer.forget("/oauth/token");
            stage.issuer.answer("/oauth/token", "400 Bad Request", refusal);
        }
        let Some(visit) = stage.start(arguments).await else { return };
        let page = visit.come_back(query).await;
        assert!(page.starts_with("HTTP/1.1 200 OK\r\n"), "{page}");
        visit.end(1, lines).await;
        assert!(stage.home.auth().is_none());
    }
    let stage = Stage::new().await;
    let Some(visit) = stage.start(&[]).await else { return };
    // In the way of the save: nothing takes the place of a directory that is not empty.
    std::fs::create_dir_all(stage.home.path().join("auth.json/x")).unwrap();
    visit.come_back("code=s3cr3t-code").await;
    let running = visit.running;
    let ended = running.end().await;
    let lines: Vec<&str> = ended.stderr.lines().rev().take(2).collect();
    assert_eq!(lines[0], "Error logging in: Sign-in completed but credentials could not be saved locally.");
    assert!(lines[1].starts_with("Persist error: "), "{ended:?}");
    assert_eq!(ended.status.code(), Some(1));
}

async fn a_second_sign_in_takes_over() {
    let (first, second) = (Stage::new().await, Stage::new().await);
    let Some(old) = first.start(&[]).await else { return };
    let Some(new) = second.start(&[]).await else { return };
    assert_eq!(new.port, old.port);
    old.end(1, &["Error logging in: Login cancelled"]).await;
    let answer = new.get("/cancel").await;
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    new.end(1, &["Error logging in: Login cancelled"]).await;
}

async fn ctrl_c() {
    let stage = Stage::new().await;
    let Some(visit) = stage.start(&[]).await else { return };
    let port = visit.port;
    visit.running.interrupt();
    visit.end(130, &[]).await;
    assert!(hold(port).await.is_some(), "the port is free again");
}

async fn taken_ports() {
    // Held by somebody who never answers; if a foreign program holds it already, that will do as well.
    let first = hold(1455).await;
    let stage = Stage::new().await;
    if let Some(visit) = stage.start(&[]).await {
        assert_eq!(visit.port, 1457, "the first port is taken: {first:?}");
        visit.get("/cancel").await;
        visit.end(1, &["Error logging in: Login cancelled"]).await;
    }
    let second = hold(1457).await;
    assert!(stage.start(&[]).await.is_none(), "both ports are taken: {first:?} {second:?}");
}

/// Takes a port. A program that was just started by an ended sign-in (its browser) may have a copy of the socket for a
/// moment; a port that stays taken belongs to a foreign program.
async fn hold(port: u16) -> Option<TcpListener> {
    let taken = async {
        loop {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                Ok(listener) => return listener,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    };
    tokio::time::timeout(GUARD / 4, taken).await.ok()
}
