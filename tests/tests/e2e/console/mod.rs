//! The console for people: links and sessions, what each allows, terminals, logs, files and forwards.

mod access;
mod browser;
mod content;
mod terminals;

use codex_e2e::Server;
use codex_e2e::console::{Browser, Console};
use serde_json::json;

/// The name under which a server is shown that is given by its address.
const REMOTE: &str = "/api/environments/remote";

async fn of(server: &Server) -> (Console, Browser) {
    let console = Console::start(&["--url", &server.url]).await;
    let owner = console.owner().await;
    (console, owner)
}

/// Starts a line of the shell, on a terminal or on pipes; the path of the process.
async fn start(browser: &Browser, command: &str, tty: bool) -> String {
    let wanted = json!({"command": command, "tty": tty, "rows": 24, "cols": 80});
    let reply = browser.ask("POST", &format!("{REMOTE}/processes"), Some(wanted)).await;
    assert_eq!(reply.status, 200, "{}", reply.json());
    let begun = reply.json();
    let word = |name: &str| begun[name].as_str().expect("an id").to_owned();
    format!("{REMOTE}/processes/{}/{}", word("sessionId"), word("processId"))
}

/// The scope of one process, from its path.
fn scope(process: &str) -> serde_json::Value {
    let words: Vec<&str> = process.split('/').collect();
    json!({"of": "process", "environment": words[3], "session": words[5], "process": words[6]})
}

/// A browser that has opened a further link, and the link's id.
async fn guest(
    console: &Console,
    owner: &Browser,
    role: &str,
    scope: serde_json::Value,
    seconds: u64,
) -> (Browser, u64) {
    let wanted = json!({"role": role, "scope": scope, "seconds": seconds, "name": "a guest"});
    let reply = owner.ask("POST", "/api/links", Some(wanted)).await;
    assert_eq!(reply.status, 200, "{}", reply.json());
    let made = reply.json();
    let key = made["url"].as_str().and_then(|url| url.split_once('#')).expect("a link").1.to_owned();
    codex_e2e::secrets::remember(&key);
    let mut browser = console.browser();
    assert_eq!(browser.sign_in(&key).await.status, 200);
    (browser, made["id"].as_u64().expect("an id"))
}
