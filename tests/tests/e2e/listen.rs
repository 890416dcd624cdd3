//! Listening, the HTTP surface, authentication, usage errors and the server's end (sections 2 and 18).

use std::time::{SystemTime, UNIX_EPOCH};

use base64_simd::URL_SAFE_NO_PAD;
use codex_e2e::client::guarded;
use codex_e2e::http::{ask, frame, upgrade_request, upgraded};
use codex_e2e::machine::{alive, children, eventually, pid_in};
use codex_e2e::server::ServerBuilder;
use codex_e2e::{Server, TestClient};
use ring::hmac;
use rustix::process::Signal;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

fn status_of(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .and_then(|word| word.parse().ok())
        .unwrap_or_else(|| panic!("no status: {answer:?}"))
}

#[tokio::test]
async fn the_http_surface_is_that_of_the_newest_release() {
    let server = Server::start().await;
    let plain = |verb: &str, path: &str| format!("{verb} {path} HTTP/1.1\r\nHost: x\r\n\r\n");
    let upgrade = upgrade_request("");
    let cases = [
        (upgrade.clone(), 101),
        (upgrade.replace("GET / ", "GET /?token=x "), 101),
        (upgrade.replace("Host: localhost", "Host: evil.example"), 101),
        (upgrade.replace("GET / ", "GET /other "), 404),
        (upgrade.replace("Version: 13", "Version: 12"), 400),
        (upgrade_request("Origin: http://localhost\r\n"), 403),
        (upgrade_request("Origin: null\r\n"), 403),
        (plain("GET", "/readyz"), 200),
        (plain("HEAD", "/readyz"), 200),
        (plain("POST", "/readyz"), 405),
        ("GET /readyz HTTP/1.1\r\nHost: x\r\nOrigin: null\r\n\r\n".into(), 403),
        (plain("GET", "/"), 400),
        (plain("POST", "/"), 405),
        (plain("HEAD", "/"), 405),
        (plain("GET", "/healthz"), 404),
        (plain("GET", "/livez"), 404),
        (plain("GET", "/metrics"), 404),
        (plain("POST", "/nope"), 404),
        (plain("HEAD", "/nope"), 404),
    ];
    for (request, status) in cases {
        let answer = ask(server.address(), &request).await;
        assert_eq!(status_of(&answer), status, "{request}\n{answer}");
    }
}

#[tokio::test]
async fn no_extension_and_no_subprotocol_is_ever_chosen() {
    let server = Server::start().await;
    for offer in ["Sec-WebSocket-Extensions: permessage-deflate\r\n", "Sec-WebSocket-Protocol: a, b\r\n"] {
        let answer = ask(server.address(), &upgrade_request(offer)).await.to_lowercase();
        assert_eq!(status_of(&answer), 101);
        assert!(answer.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{answer}");
        assert!(!answer.contains("extensions") && !answer.contains("protocol:"), "{answer}");
    }
}

#[tokio::test]
async fn pings_are_answered_between_fragments_of_one_message() {
    let server = Server::start().await;
    let mut stream = upgraded(server.address()).await;
    let text = br#"{"id":"fragmented","method":"no/such"}"#;
    let mut frames = frame(0x01, &text[..10]);
    frames.extend(frame(0x89, b"hello"));
    frames.extend(frame(0x00, &text[10..20]));
    frames.extend(frame(0x8a, b"unasked pong"));
    frames.extend(frame(0x80, &text[20..]));
    stream.write_all(&frames).await.unwrap();
    let mut seen = Vec::new();
    let both = async {
        let has = |seen: &[u8], part: &[u8]| seen.windows(part.len()).any(|window| window == part);
        while !(has(&seen, b"\x8a\x05hello") && has(&seen, b"\"fragmented\"")) {
            assert_ne!(stream.read_buf(&mut seen).await.unwrap(), 0, "{}", String::from_utf8_lossy(&seen));
        }
    };
    guarded("a pong and an answer", both).await;
}

#[tokio::test]
async fn broken_frames_end_the_connection_and_close_frames_are_answered() {
    let server = Server::start().await;
    let unmasked = [&[0x81, 2][..], b"{}"].concat();
    let cases = [
        ("invalid UTF-8", frame(0x81, b"\xff\xfe")),
        ("a reserved opcode", frame(0x83, b"x")),
        ("an unmasked frame", unmasked),
        ("an RSV bit", frame(0xc1, b"{}")),
    ];
    for (what, bytes) in cases {
        let mut stream = upgraded(server.address()).await;
        stream.write_all(&bytes).await.unwrap();
        let mut rest = Vec::new();
        guarded(what, stream.read_to_end(&mut rest)).await.ok();
        assert!(!rest.starts_with(&[0x81]), "{what}: no answer is expected");
    }
    let mut stream = upgraded(server.address()).await;
    stream.write_all(&frame(0x88, &1000u16.to_be_bytes())).await.unwrap();
    let mut rest = Vec::new();
    guarded("the end after a close frame", stream.read_to_end(&mut rest)).await.ok();
    assert_eq!(rest.first(), Some(&0x88), "a close frame is answered with one: {rest:?}");
}

#[tokio::test]
async fn a_server_pings_and_a_silent_peer_counts_as_gone() {
    let server = Server::builder().limit("ping_interval", 50).limit("silence_time", 400).start().await;
    let mut client = server.client().await;
    assert_eq!(client.expect_ping().await, b"");
    let session = client.session_id.clone();
    let mut silent = upgraded(server.address()).await;
    let mut rest = Vec::new();
    let end = async { guarded("the end of a silent connection", silent.read_to_end(&mut rest)).await.ok() };
    // Answers its pings meanwhile, by reading.
    tokio::select! {
        _ = end => {}
        never = async { loop { client.expect_ping().await; } } => never,
    }
    assert!(rest.windows(2).any(|two| two == [0x89, 0]), "it was pinged before: {rest:?}");
    // The first client answers by reading, and stays.
    assert_eq!(client.expect_ping().await, b"");
    assert_eq!(client.ok("environment/status", json!({})).await["status"], "ready");
    assert_eq!(client.session_id, session);
}

#[tokio::test]
async fn bad_addresses_and_flags_are_refused_in_one_line() {
    let cases: [(&[&str], i32); 17] = [
        (&["--listen", "stdio", "--ws-auth", "none"], 2),
        (&["--listen", "stdio", "--ws-auth", "capability-token", "--ws-token-file", "x"], 2),
        (&["--listen", "ws://0.0.0.0:0"], 2),
        (&["--ws-auth", "signed-bearer-token", "--ws-token-file", "token"], 2),
        (&["--ws-auth", "signed-bearer-token", "--ws-max-clock-skew-seconds", "86401"], 2),
        (&["--listen", "ws://localhost:0"], 1),
        (&["--listen", "wss://127.0.0.1:0"], 1),
        (&["--listen", "http://127.0.0.1:0"], 1),
        (&["--listen", "ws://127.0.0.1"], 1),
        (&["--listen", "ws://127.0.0.1:0/path"], 1),
        (&["--listen", "ws://127.0.0.1:99999"], 1),
        (&["--listen", ""], 1),
        (&["--listen", "unix://"], 1),
        (&["--concurrent-requests", "0"], 2),
        (&["--concurrent-requests", "many"], 2),
        (&["--ws-auth", "unheard-of"], 2),
        (&["--no-such-flag"], 2),
    ];
    for (arguments, code) in cases {
        let refused = Server::builder().without_listen().args(arguments.iter().copied()).refused().await;
        assert_eq!(refused.code, Some(code), "{arguments:?}: {refused:?}");
        assert_eq!(refused.stdout, "", "{arguments:?}");
        if code == 1 {
            assert_one_error_line(&refused.stderr);
        }
    }
}

fn assert_one_error_line(stderr: &str) {
    let lines: Vec<&str> = stderr.lines().filter(|line| line.starts_with("Error: ")).collect();
    assert_eq!(lines.len(), 1, "exactly one `Error:` line: {stderr:?}");
}

#[tokio::test]
async fn a_taken_port_is_a_start_error() {
    let server = Server::start().await;
    let refused = Server::builder().listen(server.url.clone()).refused().await;
    assert_eq!((refused.code, refused.stdout.as_str()), (Some(1), ""));
    assert_one_error_line(&refused.stderr);
}

#[tokio::test]
async fn the_default_address_is_a_free_port_of_loopback_and_ipv6_works() {
    let server = Server::builder().without_listen().args(["--concurrent-requests", "100000"]).start().await;
    assert!(server.address().ip().is_loopback() && server.address().port() != 0, "{}", server.url);
    server.client().await;
    let server = Server::builder().listen("ws://[::1]:0").start().await;
    assert!(server.url.starts_with("ws://[::1]:"), "{}", server.url);
    server.client().await;
}

#[tokio::test]
async fn a_public_address_needs_a_word_about_authentication() {
    for address in ["ws://0.0.0.0:0", "ws://[::]:0"] {
        let refused = Server::builder().listen(address).refused().await;
        assert_eq!((refused.code, refused.stdout.as_str()), (Some(2), ""), "{address}");
        assert!(refused.stderr.contains("--ws-auth"), "the flag to add is named: {}", refused.stderr);
        let server = Server::builder().listen(address).args(["--ws-auth", "none"]).start().await;
        assert_ne!(server.address().port(), 0);
    }
}

async fn upgrade_status(server: &Server, authorization: Option<&str>) -> u16 {
    let headers: Vec<(&'static str, &str)> =
        authorization.map(|value| ("authorization", value)).into_iter().collect();
    match TestClient::try_connect(&server.url, &headers).await {
        Ok(_) => 101,
        Err(status) => status,
    }
}

#[tokio::test]
async fn a_capability_token_opens_the_door_and_nothing_else_does() {
    let directory = tempfile::tempdir().unwrap();
    let token = codex_e2e::secret!("correct horse battery staple 0123456789");
    std::fs::write(directory.path().join("token"), format!("\n  {token}\n")).unwrap();
    let hash: String = Sha256::digest(token).iter().map(|byte| format!("{byte:02X}")).collect();
    for secret in [["--ws-token-file", "token"], ["--ws-token-sha256", &hash]] {
        let server = Server::builder()
            .cwd(directory.path())
            .args(["--ws-auth", "capability-token"])
            .args(secret)
            .start()
            .await;
        let cases = [
            (Some(format!("Bearer {token}")), 101),
            (Some(format!("bearer   {token}")), 101),
            (Some(format!("BEARER {token}")), 101),
            (Some(format!("Basic {token}")), 401),
            (Some(token.to_string()), 401),
            (Some("Bearer".to_string()), 401),
            (Some("Bearer wrong".to_string()), 401),
            (Some(format!("Bearer {token}x")), 401),
            (None, 401),
        ];
        for (authorization, status) in cases {
            let got = upgrade_status(&server, authorization.as_deref()).await;
            assert_eq!(got, status, "{secret:?} {authorization:?}");
        }
        let good = format!("Authorization: Bearer {token}\r\n");
        let raw = [
            (upgrade_request(&format!("{good}Origin: null\r\n")), 403),
            (upgrade_request(&format!("{good}Authorization: Bearer wrong\r\n")), 101),
            (upgrade_request(&format!("Authorization: Bearer wrong\r\n{good}")), 401),
            ("GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n".to_string(), 200),
            ("GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_string(), 400),
        ];
        for (request, status) in raw {
            let answer = ask(server.address(), &request).await;
            assert_eq!(status_of(&answer), status, "{request}\n{answer}");
            assert!(!answer.to_lowercase().contains("www-authenticate"), "{answer}");
        }
    }
}

#[tokio::test]
async fn a_query_is_no_token() {
    let hash: String = Sha256::digest("abc").iter().map(|byte| format!("{byte:02x}")).collect();
    let server =
        Server::builder().args(["--ws-auth", "capability-token", "--ws-token-sha256", &hash]).start().await;
    let request = upgrade_request("").replace("GET / ", "GET /?token=abc ");
    assert_eq!(status_of(&ask(server.address(), &request).await), 401);
}

pub(crate) const SECRET: &str = codex_e2e::secret!("0123456789abcdef0123456789abcdef");

/// A signed token: `HS256`, `HS384` or `HS512`.
pub(crate) fn token(algorithm: &str, secret: &str, claims: &Value) -> String {
    let part = |value: &Value| URL_SAFE_NO_PAD.encode_to_string(value.to_string());
    let message = format!("{}.{}", part(&json!({"typ": "JWT", "alg": algorithm})), part(claims));
    let key = match algorithm {
        "HS256" => hmac::HMAC_SHA256,
        "HS384" => hmac::HMAC_SHA384,
        _ => hmac::HMAC_SHA512,
    };
    let signature = hmac::sign(&hmac::Key::new(key, secret.as_bytes()), message.as_bytes());
    let token = format!("{message}.{}", URL_SAFE_NO_PAD.encode_to_string(signature));
    codex_e2e::secrets::remember(&token);
    token
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs().cast_signed()
}

async fn jwt_server(more: &[&str]) -> (Server, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("secret"), format!("{SECRET}\n")).unwrap();
    let server = Server::builder()
        .cwd(directory.path())
        .args(["--ws-auth", "signed-bearer-token", "--ws-shared-secret-file", "secret"])
        .args(more.iter().copied())
        .start()
        .await;
    (server, directory)
}

#[tokio::test]
async fn a_signed_token_is_checked_claim_by_claim() {
    let (server, _kept) = jwt_server(&[]).await;
    let hs256 = |claims: Value| token("HS256", SECRET, &claims);
    let unsigned = {
        let part =
            |text: &str| codex_e2e::base64(text).trim_end_matches('=').replace('+', "-").replace('/', "_");
        format!(
            "{}.{}.",
            part(r#"{"alg":"none","typ":"JWT"}"#),
            part(&format!(r#"{{"exp":{}}}"#, now() + 60))
        )
    };
    let cases = [
        ("good", hs256(json!({"exp": now() + 60})), 101),
        ("far future", hs256(json!({"exp": 99_999_999_999i64})), 101),
        ("late within the skew", hs256(json!({"exp": now() - 20})), 101),
        ("expired", hs256(json!({"exp": now() - 60})), 401),
        ("no exp", hs256(json!({})), 401),
        ("float exp", hs256(json!({"exp": now() as f64 + 60.5})), 401),
        ("string exp", hs256(json!({"exp": (now() + 60).to_string()})), 401),
        ("nbf within the skew", hs256(json!({"exp": now() + 60, "nbf": now() + 20})), 101),
        ("nbf ahead", hs256(json!({"exp": now() + 90, "nbf": now() + 60})), 401),
        ("iat ahead", hs256(json!({"exp": now() + 60, "iat": now() + 100})), 101),
        ("iss and aud unasked", hs256(json!({"exp": now() + 60, "iss": "x", "aud": "y"})), 101),
        (
            "wrong key",
            token("HS256", codex_e2e::secret!("another one of enough length!"), &json!({"exp": now() + 60})),
            401,
        ),
        ("HS384", token("HS384", SECRET, &json!({"exp": now() + 60})), 401),
        ("HS512", token("HS512", SECRET, &json!({"exp": now() + 60})), 401),
        ("none", unsigned, 401),
        ("garbage", "a.b.c".into(), 401),
    ];
    for (what, token, status) in cases {
        assert_eq!(upgrade_status(&server, Some(&format!("Bearer {token}"))).await, status, "{what}");
    }
    assert_eq!(upgrade_status(&server, None).await, 401);
}

#[tokio::test]
async fn issuer_audience_and_skew_are_checked_when_asked_for() {
    let flags = ["--ws-issuer", "me", "--ws-audience", "you", "--ws-max-clock-skew-seconds", "5"];
    let (server, _kept) = jwt_server(&flags).await;
    let cases = [
        (json!({"exp": now() + 60, "iss": "me", "aud": "you"}), 101),
        (json!({"exp": now() + 60, "iss": "me", "aud": ["other", "you"]}), 101),
        (json!({"exp": now() + 60, "iss": "me", "aud": ["other"]}), 401),
        (json!({"exp": now() + 60, "iss": "me"}), 401),
        (json!({"exp": now() + 60, "aud": "you"}), 401),
        (json!({"exp": now() + 60, "iss": "him", "aud": "you"}), 401),
        (json!({"exp": now() - 20, "iss": "me", "aud": "you"}), 401),
    ];
    for (claims, status) in cases {
        let bearer = format!("Bearer {}", token("HS256", SECRET, &claims));
        assert_eq!(upgrade_status(&server, Some(&bearer)).await, status, "{claims}");
    }
}

#[tokio::test]
async fn half_an_authentication_is_a_start_error() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("empty"), " \n").unwrap();
    std::fs::write(directory.path().join("short"), codex_e2e::secret!("too short")).unwrap();
    std::fs::write(directory.path().join("token"), codex_e2e::secret!("abc")).unwrap();
    let hash = "a".repeat(64);
    let cases: [&[&str]; 11] = [
        &["--ws-auth", "capability-token"],
        &["--ws-auth", "capability-token", "--ws-token-file", "token", "--ws-token-sha256", &hash],
        &["--ws-auth", "capability-token", "--ws-token-file", "missing"],
        &["--ws-auth", "capability-token", "--ws-token-file", "empty"],
        &["--ws-auth", "capability-token", "--ws-token-sha256", "abc"],
        &["--ws-auth", "capability-token", "--ws-token-file", "token", "--ws-issuer", "x"],
        &["--ws-token-file", "token"],
        &["--ws-token-sha256", &hash],
        &["--ws-auth", "signed-bearer-token"],
        &["--ws-auth", "signed-bearer-token", "--ws-shared-secret-file", "short"],
        &["--ws-auth", "signed-bearer-token", "--ws-shared-secret-file", "missing"],
    ];
    for arguments in cases {
        let refused = Server::builder().cwd(directory.path()).args(arguments.iter().copied()).refused().await;
        assert_eq!(
            (refused.code, refused.stdout.as_str()),
            (Some(1), ""),
            "{arguments:?}: {}",
            refused.stderr
        );
        assert_one_error_line(&refused.stderr);
        assert!(!refused.stderr.contains(&hash), "{}", refused.stderr);
    }
}

#[tokio::test]
async fn a_signal_ends_the_server_with_everything_it_started() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let directory = tempfile::tempdir().unwrap();
        // Whatever these tests run under, such as nohup.
        let mut server = Server::builder().under(["env", "--default-signal=HUP"]).start().await;
        let mut client = server.client().await;
        let pids = start_a_family(&mut client, directory.path()).await;
        let mut detached = server.client().await;
        detached
            .shell("d", &format!("echo $$ > {}/detached; exec sleep 1000", directory.path().display()))
            .await;
        let lonely = pid_in(&directory.path().join("detached")).await;
        drop(detached);
        server.signal(signal);
        assert_eq!(server.ended().await.code(), Some(0), "{signal:?}");
        client.expect_closed().await;
        assert_eq!(client.close_code, Some(1001), "{signal:?}");
        for pid in pids.into_iter().chain([lonely]) {
            eventually("every program ends with the server", || !alive(pid)).await;
        }
    }
}

#[tokio::test]
async fn a_server_under_nohup_outlives_its_terminal() {
    let mut server = Server::builder().under(["env", "--ignore-signal=HUP"]).start().await;
    server.signal(Signal::HUP);
    assert_eq!(server.client().await.run("p", "echo here").await.stdout(), "here\n");
    assert_eq!(server.stop().await.code(), Some(0));
}

/// A pipe program with a child of its own session, and a terminal program; their pids.
async fn start_a_family(client: &mut TestClient, directory: &std::path::Path) -> Vec<u32> {
    let at = directory.display();
    let tree =
        format!("setsid sh -c 'echo $$ > {at}/own-session; exec sleep 1000' & echo $$ > {at}/pipe; wait");
    client.shell("pipe", &tree).await;
    client.shell_with("pty", &format!("echo $$ > {at}/pty; exec sleep 1000"), json!({"tty": true})).await;
    let mut pids = Vec::new();
    for name in ["own-session", "pipe", "pty"] {
        pids.push(pid_in(&directory.join(name)).await);
    }
    pids
}

#[tokio::test]
async fn ended_programs_leave_no_zombies() {
    let server = Server::start().await;
    let mut client = server.client().await;
    for round in 0..20 {
        client.run(&format!("p{round}"), "(true &) ; exit 0").await;
    }
    eventually("the server has reaped all its children", || children(server.pid()).is_empty()).await;
}

#[tokio::test]
async fn nobody_reads_the_servers_stdin() {
    // The builder gives /dev/null; a websocket server must not take its end for its own.
    let server = Server::start().await;
    server.client().await.run("p", "true").await;
    server.client().await;
}

fn with_head_limits() -> ServerBuilder {
    Server::builder().limit("http_head_bytes", 4096).limit("handshake_time", 300)
}

#[tokio::test]
async fn an_upgrade_that_is_too_long_or_too_slow_is_given_up() {
    let server = with_head_limits().start().await;
    let long = upgrade_request(&format!("X-Long: {}\r\n", "x".repeat(8192)));
    assert_eq!(status_of(&ask(server.address(), &long).await), 431);
    let mut slow = tokio::net::TcpStream::connect(server.address()).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let mut rest = Vec::new();
    guarded("the end of a slow upgrade", slow.read_to_end(&mut rest)).await.ok();
}
