//! Requests against a real server on loopback.

mod packed;
mod peer;
mod proxies;
mod streams;
mod vectors;

use codex_exec_protocol::ErrorCode;
use codex_exec_protocol::http::RequestParams;
use peer::{Peer, Reply, raw, reply};
use serde_json::{Value, json};

use super::*;

fn http() -> LocalHttp {
    http_with(&Limits::default())
}

fn http_with(limits: &Limits) -> LocalHttp {
    LocalHttp::new(limits, |name| match name {
        "GIVEN" => Some("from-env".into()),
        "BROKEN" => Some("line\nbreak".into()),
        "OPENAI_API_KEY" | "openai_api_key" => Some("sk-secret".into()),
        _ => None,
    })
}

fn params(url: &str, more: Value) -> RequestParams {
    let mut all = json!({"method": "GET", "url": url, "requestId": "r1"});
    all.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    serde_json::from_value(all).unwrap()
}

/// Everything that a script may be asked for in these tests.
fn script(target: &str) -> Reply {
    match target {
        "/redir" => reply("302 Found\r\nlocation: /echo", b""),
        "/loop" => reply("302 Found\r\nlocation: /loop", b""),
        "/away" => reply("302 Found\r\nlocation: ftp://127.0.0.1/", b""),
        "/none" => reply("404 Not Found", b""),
        "/odd" => raw(
            "HTTP/1.1 200 OK\r\nX-Up: 1\r\nx-up: 2\r\nx-odd: caf\u{e9}\r\ncontent-length: 0\r\n\r\n",
            false,
        ),
        "/trunc" => raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", false),
        "/hang" => raw("", true),
        "/half" => raw("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf", true),
        "/junk" => raw("not http at all\r\n\r\n", false),
        "/big" => reply("200 OK", &[b'x'; 100]),
        "/big-chunked" => {
            let body = format!("64\r\n{}\r\n0\r\n\r\n", "x".repeat(100));
            raw(&format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{body}"), false)
        }
        _ => reply("200 OK", b"hello"),
    }
}

#[tokio::test]
async fn a_request_adds_accept_host_and_length_and_nothing_else() {
    let peer = Peer::start(script).await;
    let headers = json!([{"name": "X-A", "value": "1"}, {"name": "x-a", "value": "2"}, {"name": "Content-Type", "value": "text/plain"}]);
    let result = http()
        .request(params(
            &peer.url("/echo?x=1"),
            json!({"method": "POST", "headers": headers, "bodyBase64": "Ym9keQ=="}),
        ))
        .await
        .unwrap();
    assert_eq!((result.status, result.body.0.as_slice()), (200, &b"hello"[..]));
    let expected = format!(
        "POST /echo?x=1 HTTP/1.1\r\nx-a: 1\r\nx-a: 2\r\ncontent-type: text/plain\r\naccept-encoding: zstd,gzip\r\naccept: */*\r\nhost: {}\r\ncontent-length: 4\r\n\r\nbody",
        peer.address
    );
    assert_eq!(peer.last(), expected);
}

#[tokio::test]
async fn the_method_goes_out_as_it_is_written() {
    let peer = Peer::start(script).await;
    for method in ["get", "FOO", "DELETE", "m-search"] {
        http().request(params(&peer.url("/"), json!({"method": method}))).await.unwrap();
        assert!(peer.last().starts_with(&format!("{method} / HTTP/1.1\r\n")), "{method}");
    }
    let head = http().request(params(&peer.url("/big"), json!({"method": "HEAD"}))).await.unwrap();
    assert!(head.body.0.is_empty());
    assert!(head.headers.iter().any(|h| h.name == "content-length" && h.value == "100"));
}

#[tokio::test]
async fn user_info_becomes_basic_auth_unless_the_client_brings_its_own() {
    let peer = Peer::start(script).await;
    let url = format!("http://us%40er:p%3Aw@{}/", peer.address);
    http().request(params(&url, json!({}))).await.unwrap();
    assert!(peer.last().contains("\r\nauthorization: Basic dXNAZXI6cDp3\r\n"), "{}", peer.last());
    let own = json!({"headers": [{"name": "Authorization", "value": "Bearer t"}]});
    http().request(params(&url, own)).await.unwrap();
    assert!(peer.last().contains("\r\nauthorization: Bearer t\r\n"));
    assert!(!peer.last().contains("Basic"));
}

#[tokio::test]
async fn a_header_takes_the_rest_of_its_value_from_a_variable() {
    let peer = Peer::start(script).await;
    let headers = json!([{"name": "x-t", "value": "Bearer ", "valueEnvVar": "GIVEN"}]);
    http().request(params(&peer.url("/"), json!({"headers": headers}))).await.unwrap();
    assert!(peer.last().contains("\r\nx-t: Bearer from-env\r\n"));
}

#[tokio::test]
async fn params_that_make_no_request_are_refused_without_showing_a_secret() {
    let header = |name: &str, value: &str, variable: Option<&str>| {
        let mut header = json!({"name": name, "value": value});
        if let Some(variable) = variable {
            header["valueEnvVar"] = variable.into();
        }
        json!({"headers": [header]})
    };
    let ok = "http://127.0.0.1:1/";
    let cases = [
        (ok, json!({"method": "G ET"})),
        (ok, json!({"method": ""})),
        ("ftp://x/y", json!({})),
        ("file:///etc/hostname", json!({})),
        ("://x", json!({})),
        ("", json!({})),
        ("http://", json!({})),
        ("http://u:sk-secret@bad host/", json!({})),
        (ok, header("bad name", "1", None)),
        (ok, header("", "1", None)),
        (ok, header("x", "sk-secret\nb", None)),
        (ok, header("x", "sk-secret", Some("NOT_SET"))),
        (ok, header("x", "sk-secret", Some(""))),
        (ok, header("x", "", Some("BROKEN"))),
        (ok, header("x", "", Some("OPENAI_API_KEY"))),
        (ok, header("x", "", Some("openai_api_key"))),
        (ok, header("x", "", Some("Codex_Exec_Server_Noise_Anything"))),
        (ok, header("x", "", Some("CODEX_EXEC_SERVER_REMOTE_BEARER_TOKEN"))),
    ];
    for (url, more) in cases {
        let error = http().request(params(url, more.clone())).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::INVALID_PARAMS, "{url} {more}: {error}");
        assert!(!error.message.contains("secret") && !error.message.contains("break\n"), "{error}");
    }
}

#[tokio::test]
async fn redirects_are_followed_with_a_referer_up_to_the_limit_or_not_at_all() {
    let peer = Peer::start(script).await;
    let http = http_with(&Limits::default().with(|limits| limits.http.http_redirects = 3));
    let followed = http.request(params(&peer.url("/redir"), json!({}))).await.unwrap();
    assert_eq!((followed.status, followed.body.0.as_slice()), (200, &b"hello"[..]));
    assert!(peer.last().contains(&format!("\r\nreferer: {}\r\n", peer.url("/redir"))), "{}", peer.last());

    let stopped = http.request(params(&peer.url("/redir"), json!({"redirectPolicy": "stop"}))).await.unwrap();
    assert_eq!(stopped.status, 302);
    assert!(stopped.headers.iter().any(|h| h.name == "location" && h.value == "/echo"));

    let before = peer.seen().len();
    let error = http.request(params(&peer.url("/loop"), json!({}))).await.unwrap_err();
    assert_eq!(error.code, ErrorCode::INTERNAL);
    assert!(error.message.contains("too many redirects"), "{error}");
    assert_eq!(peer.seen().len() - before, 4);
}

#[tokio::test]
async fn credentials_do_not_follow_a_redirect_to_another_host() {
    let other = Peer::start(script).await;
    let target = other.url("/echo");
    let peer = Peer::start(move |_| reply(&format!("302 Found\r\nlocation: {target}"), b"")).await;
    let headers = json!([{"name": "authorization", "value": "Bearer t"}, {"name": "cookie", "value": "c=1"}]);
    http().request(params(&peer.url("/"), json!({"headers": headers}))).await.unwrap();
    assert!(peer.last().contains("authorization: Bearer t"));
    let there = other.last();
    assert!(!there.contains("authorization") && !there.contains("cookie"), "{there}");
}

#[tokio::test]
async fn every_status_is_a_success_and_odd_headers_are_left_out() {
    let peer = Peer::start(script).await;
    let missing = http().request(params(&peer.url("/none"), json!({}))).await.unwrap();
    assert_eq!(missing.status, 404);
    let odd = http().request(params(&peer.url("/odd"), json!({}))).await.unwrap();
    let pairs: Vec<_> = odd.headers.iter().map(|h| (h.name.as_str(), h.value.as_str())).collect();
    assert_eq!(pairs, [("x-up", "1"), ("x-up", "2"), ("content-length", "0")]);
}

#[tokio::test]
async fn failures_of_the_network_say_why_and_hide_what_a_url_may_hide() {
    let peer = Peer::start(script).await;
    // Bound and never accepted from again: nobody listens there once it is dropped.
    let closed = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let limit = json!({"timeoutMs": 100});
    for (url, more, why) in [
        (format!("http://u:hidden@{closed}/p?key=hidden#hidden"), json!({}), "onnection refused"),
        ("http://no-such-host.invalid/?key=hidden".into(), json!({}), "no-such-host.invalid/ failed"),
        (peer.url("/hang"), limit.clone(), "timed out"),
        (peer.url("/half"), limit, "timed out"),
        (peer.url("/"), json!({"timeoutMs": 0}), "timeoutMs is 0"),
        (peer.url("/trunc"), json!({}), "failed to read http/request response body: "),
        (peer.url("/junk"), json!({}), "failed"),
        (peer.url("/away"), json!({}), "failed"),
    ] {
        let error = http().request(params(&url, more)).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::INTERNAL, "{url}");
        assert!(error.message.contains(why), "{url}: {error}");
        assert!(!error.message.contains("hidden"), "{error}");
    }
}

#[tokio::test]
async fn a_content_length_must_be_the_bodys() {
    let peer = Peer::start(script).await;
    for (lengths, body, fine) in [
        (vec!["4"], Some("Ym9keQ=="), true),
        (vec!["0"], None, true),
        (vec!["1"], Some("Ym9keQ=="), false),
        (vec!["100"], Some("Ym9keQ=="), false),
        (vec!["x"], Some("Ym9keQ=="), false),
        (vec!["4", "5"], Some("Ym9keQ=="), false),
        (vec!["4"], None, false),
    ] {
        let headers: Vec<_> = lengths.iter().map(|l| json!({"name": "Content-Length", "value": l})).collect();
        let more = json!({"method": "POST", "headers": headers, "bodyBase64": body});
        let outcome =
            http().request(params(&peer.url("/"), more)).await.map(|r| r.status).map_err(|e| e.code);
        assert_eq!(
            outcome,
            if fine { Ok(200) } else { Err(ErrorCode::INVALID_PARAMS) },
            "{lengths:?} {body:?}"
        );
    }
}

#[tokio::test]
async fn a_buffered_body_over_the_limit_is_refused_with_the_advice_to_stream() {
    let peer = Peer::start(script).await;
    let exact = http_with(&Limits::default().with(|limits| limits.http.http_body_bytes = 100));
    let tight = http_with(&Limits::default().with(|limits| limits.http.http_body_bytes = 99));
    for path in ["/big", "/big-chunked"] {
        let whole = exact.request(params(&peer.url(path), json!({}))).await.unwrap();
        assert_eq!(whole.body.0.len(), 100);
        let error = tight.request(params(&peer.url(path), json!({}))).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::INTERNAL);
        assert!(error.message.contains("99 bytes") && error.message.contains("streamResponse"), "{error}");
    }
    // A HEAD's length is not a body.
    let head = tight.request(params(&peer.url("/big"), json!({"method": "HEAD"}))).await.unwrap();
    assert_eq!(head.status, 200);
}

#[tokio::test]
async fn more_than_a_hundred_headers_are_taken_up_to_the_limit() {
    let peer = Peer::start(|target| {
        let count: usize = target.trim_start_matches('/').parse().unwrap();
        let lines: String = (1..count).map(|number| format!("x-{number}: {number}\r\n")).collect();
        raw(&format!("HTTP/1.1 200 OK\r\n{lines}content-length: 0\r\n\r\n"), false)
    })
    .await;
    for count in [100, 101, 5_000] {
        let answer = http().request(params(&peer.url(&format!("/{count}")), json!({}))).await.unwrap();
        assert_eq!(answer.headers.len(), count);
    }
    let error = http().request(params(&peer.url("/5001"), json!({}))).await.unwrap_err();
    assert!(error.message.contains("message head is too large"), "{error}");
    let few = http_with(&Limits::default().with(|limits| limits.http.http_response_headers = 120));
    assert!(few.request(params(&peer.url("/120"), json!({}))).await.is_ok());
    assert!(few.request(params(&peer.url("/121"), json!({}))).await.is_err());
}

#[test]
fn a_new_service_has_built_no_client() {
    let http = http();
    assert!(http.client.get().is_none() && http.plain.get().is_none());
}
