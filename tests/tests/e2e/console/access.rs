//! Who may see what, how long, and from where.

use std::time::{Duration, Instant};

use codex_e2e::Server;
use codex_e2e::console::Console;
use codex_e2e::login::Home;
use serde_json::json;

use super::{REMOTE, guest, of, scope, start};

#[tokio::test]
async fn a_link_signs_in_once_and_the_session_is_a_cookie_that_only_the_browser_sees() {
    let server = Server::start().await;
    let mut console = Console::start(&["--url", &server.url]).await;
    assert_eq!(console.link(), format!("http://{}/#{}", console.address, console.key()));
    let (nobody, mut owner) = (console.browser(), console.browser());
    assert_eq!(nobody.ask("GET", "/api/environments", None).await.status, 401);
    let signed = owner.sign_in(console.key()).await;
    assert_eq!((signed.status, signed.json()["role"].as_str()), (200, Some("own")));
    let cookie = signed.header("set-cookie").unwrap().to_owned();
    for word in ["HttpOnly", "SameSite=Strict", "Path=/;", "Max-Age="] {
        assert!(cookie.contains(word), "{cookie}");
    }
    assert!(cookie.starts_with(&format!("codex-console-{}=", console.address.port())), "{cookie}");
    let again = nobody.clone().sign_in(console.key()).await;
    assert_eq!((again.status, again.json()["error"].as_str()), (401, Some("used_link")));
    assert_eq!(owner.get("/api/environments").await["environments"][0]["name"], "remote");
    // The link's key opens nothing by itself, in no place.
    let stolen = format!("codex-console-{}={}", console.address.port(), console.key());
    let mut thief = console.browser();
    thief.cookie = Some(stolen);
    assert_eq!(thief.ask("GET", "/api/environments", None).await.status, 401);
    console.another_link().await;
    assert_eq!(console.owner().await.get("/api/session").await["role"], "own");
    assert_eq!(owner.ask("DELETE", "/api/session", None).await.status, 204);
    assert_eq!(owner.ask("GET", "/api/environments", None).await.status, 401, "signed out");
    assert_eq!(console.end().await, Some(0));
}

#[tokio::test]
async fn only_the_page_itself_is_answered_and_it_may_load_nothing_from_elsewhere() {
    let server = Server::start().await;
    let (console, owner) = of(&server).await;
    let (own, port) = (console.address.to_string(), console.address.port());
    let cookie = owner.cookie.clone().unwrap();
    for (line, headers, status) in [
        ("GET /api/session", format!("host: {own}"), 200),
        ("GET /api/session", format!("host: localhost:{port}"), 200),
        ("GET /api/session", format!("host: evil.example:{port}"), 421),
        ("GET /api/session", "host: 127.0.0.1".into(), 421),
        ("GET /", "host: evil.example".into(), 421),
        ("GET /api/session", format!("host: {own}\r\norigin: http://{own}"), 200),
        ("GET /api/session", format!("host: {own}\r\norigin: http://evil.example"), 403),
        ("GET /api/session", format!("host: {own}\r\norigin: null"), 403),
        ("GET /api/session", format!("host: {own}\r\nsec-fetch-site: cross-site"), 403),
        ("GET /", format!("host: {own}\r\nsec-fetch-site: cross-site"), 200),
        ("DELETE /api/links/99", format!("host: {own}"), 403),
        ("DELETE /api/links/99", format!("host: {own}\r\norigin: https://{own}"), 403),
        ("DELETE /api/links/99", format!("host: {own}\r\norigin: http://{own}"), 404),
        ("GET /api/nothing", format!("host: {own}"), 404),
        ("GET /page/../Cargo.toml", format!("host: {own}"), 404),
    ] {
        let request =
            format!("{line} HTTP/1.1\r\n{headers}\r\ncookie: {cookie}\r\nconnection: close\r\n\r\n");
        let reply = owner.raw(request.as_bytes()).await;
        assert_eq!(reply.status, status, "{line} {headers}: {}", reply.json());
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"), "{line}");
        assert!(reply.header("content-security-policy").unwrap().starts_with("default-src 'none'"), "{line}");
    }
    let page = owner.ask("GET", "/", None).await;
    let policy = page.header("content-security-policy").unwrap();
    for rule in ["script-src 'self';", "connect-src 'self';", "frame-ancestors 'none'", "base-uri 'none'"] {
        assert!(policy.contains(rule), "{policy}");
    }
    let nonce = policy.split("'nonce-").nth(1).and_then(|rest| rest.split('\'').next()).unwrap();
    assert!(nonce.len() == 32 && String::from_utf8_lossy(&page.body).contains(nonce));
    assert_ne!(owner.ask("GET", "/", None).await.header("content-security-policy"), Some(policy));
    let script = owner.ask("GET", "/page/main.js", None).await;
    assert_eq!(script.header("content-type"), Some("text/javascript; charset=utf-8"));
}

#[tokio::test]
async fn a_link_allows_what_it_says_and_nothing_else() {
    let server = Server::start().await;
    let (console, owner) = of(&server).await;
    let (mine, other) = (start(&owner, "cat", true).await, start(&owner, "cat", true).await);
    let everything = json!({"of": "environment", "environment": "remote"});
    let (look, _) = guest(&console, &owner, "look", everything.clone(), 600).await;
    let (types, _) = guest(&console, &owner, "type", everything, 600).await;
    let (one, _) = guest(&console, &owner, "type", scope(&mine), 600).await;
    let elsewhere = json!({"of": "environment", "environment": "another"});
    let (away, _) = guest(&console, &owner, "type", elsewhere, 600).await;
    let wanted = json!({"command": "true"});
    let signal = json!({"signal": "continue"});
    let forward = json!({"environment": "remote", "port": 1});
    let link = json!({"role": "look", "scope": {"of": "all"}, "seconds": 60});
    // In order: who may look, who may type, who may do so with one process, and whose link is for another environment.
    for (method, path, body, statuses) in [
        ("GET", format!("{REMOTE}/processes"), None, [200, 200, 200, 404]),
        ("GET", REMOTE.to_owned(), None, [200, 200, 200, 404]),
        ("GET", format!("{mine}/output"), None, [200, 200, 200, 404]),
        ("GET", format!("{other}/output"), None, [200, 200, 404, 404]),
        ("GET", format!("{other}/output/download"), None, [200, 200, 404, 404]),
        ("POST", format!("{mine}/signal"), Some(&signal), [403, 204, 204, 404]),
        ("POST", format!("{other}/signal"), Some(&signal), [403, 204, 404, 404]),
        ("POST", format!("{REMOTE}/processes"), Some(&wanted), [403, 200, 403, 404]),
        ("GET", format!("{REMOTE}/logs"), None, [200, 200, 403, 404]),
        ("GET", format!("{REMOTE}/directory?path=/"), None, [403, 200, 403, 404]),
        ("GET", format!("{REMOTE}/file?path=/etc/hostname"), None, [403, 200, 403, 404]),
        ("PUT", format!("{REMOTE}/file?path=/nosuch&name=x"), None, [403, 404, 403, 404]),
        ("GET", "/api/forwards".to_owned(), None, [403; 4]),
        ("POST", "/api/forwards".to_owned(), Some(&forward), [403; 4]),
        ("GET", "/api/links".to_owned(), None, [403; 4]),
        ("POST", "/api/links".to_owned(), Some(&link), [403; 4]),
    ] {
        let mut seen = Vec::new();
        for browser in [&look, &types, &one, &away] {
            seen.push(browser.ask(method, &path, body.cloned()).await.status);
        }
        assert_eq!(seen, statuses, "{method} {path}");
    }
    assert_eq!(one.get(&format!("{REMOTE}/processes")).await["processes"].as_array().unwrap().len(), 1);
    assert!(away.get("/api/environments").await["environments"].as_array().unwrap().is_empty());
    assert!(one.terminal(&other).await.is_err() && away.terminal(&mine).await.is_err());
    // An owner's link is for everything, no link is good for ever, and a name is a name.
    for wrong in [
        json!({"role": "own", "scope": scope(&mine), "seconds": 60}),
        json!({"role": "look", "scope": {"of": "all"}, "seconds": 0}),
        json!({"role": "look", "scope": {"of": "all"}, "seconds": 1u64 << 40}),
        json!({"role": "look", "scope": {"of": "all"}, "seconds": 60, "name": "x".repeat(101)}),
        json!({"role": "all", "scope": {"of": "all"}, "seconds": 60}),
    ] {
        let status = owner.ask("POST", "/api/links", Some(wrong.clone())).await.status;
        assert!((400..500).contains(&status), "{wrong}: {status}");
    }
}

#[tokio::test]
async fn a_revoked_link_ends_within_a_second_and_an_expired_one_by_itself_open_terminals_too() {
    let server = Server::start().await;
    let (console, owner) = of(&server).await;
    let process = start(&owner, "cat", true).await;
    let (look, id) = guest(&console, &owner, "look", scope(&process), 600).await;
    let mut terminal = look.terminal(&process).await.unwrap();
    terminal.told("process").await;
    let revoked = Instant::now();
    assert_eq!(owner.ask("DELETE", &format!("/api/links/{id}"), None).await.status, 204);
    assert_eq!(terminal.closed().await, Some(4001));
    assert!(revoked.elapsed() < Duration::from_secs(1), "{:?}", revoked.elapsed());
    assert_eq!(look.ask("GET", "/api/session", None).await.status, 401);
    assert!(look.terminal(&process).await.is_err());

    let (brief, id) = guest(&console, &owner, "type", scope(&process), 2).await;
    let mut terminal = brief.terminal(&process).await.unwrap();
    assert_eq!(terminal.closed().await, Some(4001));
    assert_eq!(brief.ask("GET", "/api/session", None).await.status, 401);
    let left = owner.get("/api/links").await;
    assert!(left["links"].as_array().unwrap().iter().all(|link| link["id"] != id), "{left}");
    // The owner's own terminal goes on.
    let mut terminal = owner.terminal(&process).await.unwrap();
    terminal.type_text("still here\r").await;
    terminal.until("still here").await;
}

#[tokio::test]
async fn an_address_that_others_can_reach_wants_tls_or_a_proxy() {
    let home = Home::new();
    for (arguments, words) in [
        (&["--listen", "0.0.0.0:0"][..], "add --tls-cert and --tls-key, or --public-url"),
        (&["--listen", "[::]:0"], "can be reached from other machines"),
        (&["--public-url", "http://box.example"], "has no TLS"),
        (&["--public-url", "https://u:p@box.example"], "must be http://HOST or https://HOST"),
        (&["--listen", "0.0.0.0:0", "--tls-cert", "c", "--tls-key", "k"], "add --public-url"),
        (&["--listen", "localhost:1"], "host names are not looked up"),
        (&["--tls-cert", "c"], "--tls-key"),
    ] {
        let ended = home.run(&[&["exec-server", "console"], arguments].concat()).await;
        assert_eq!(ended.status.code(), Some(2), "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains(words) && ended.stdout.is_empty(), "{arguments:?}: {ended:?}");
    }
    let ended = home.run(&["exec-server", "console", "-E", "nobody"]).await;
    assert!(
        ended.status.code() == Some(1) && ended.stderr.contains("no environment \"nobody\""),
        "{ended:?}"
    );
}
