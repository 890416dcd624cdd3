//! Peers that compress their bodies (21.2).

use std::io::Write as _;

use codex_exec_protocol::http::RequestResult;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

const TEXT: &[u8] = b"{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{}}";

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn zstd(text: &[u8]) -> Vec<u8> {
    ::zstd::bulk::compress(text, 3).unwrap()
}

/// `/CODING/KIND`: a body of this kind, said to have this coding.
fn packing(target: &str) -> Reply {
    let (coding, kind) = target[1..].split_once('/').unwrap();
    let body = match kind {
        "gzip" => gzip(TEXT),
        "zstd" => zstd(TEXT),
        "twice" => [gzip(TEXT), gzip(TEXT)].concat(),
        "frames" => [zstd(TEXT), zstd(TEXT)].concat(),
        "cut" => gzip(TEXT)[..20].to_vec(),
        "plain" => TEXT.to_vec(),
        "large" => gzip(&vec![b'x'; 20_000_000]),
        _ => Vec::new(),
    };
    let coding = coding.replace('_', ", ");
    let chunked = target.contains("chunked");
    let head = format!("200 OK\r\netag: \"1\"\r\nvary: accept-encoding\r\ncontent-encoding: {coding}");
    if !chunked {
        return reply(&head, &body);
    }
    raw(&format!("HTTP/1.1 {head}\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"), false)
}

fn names(result: &RequestResult) -> Vec<&str> {
    result.headers.iter().map(|header| header.name.as_str()).collect()
}

#[tokio::test]
async fn gzip_and_zstd_are_undone_once_and_everything_else_is_left_as_it_is() {
    let peer = Peer::start(packing).await;
    let http = http();
    let twice = [TEXT, TEXT].concat();
    for (target, expected) in [
        ("/gzip/gzip", TEXT),
        ("/zstd/zstd", TEXT),
        ("/gzip/twice", &twice),
        ("/zstd/frames", &twice),
        ("/gzip/empty", b""),
        ("/zstd/empty", b""),
    ] {
        let unpacked = http.request(params(&peer.url(target), json!({}))).await.unwrap();
        assert_eq!((unpacked.status, unpacked.body.0.as_slice()), (200, expected), "{target}");
        assert_eq!(names(&unpacked), ["etag", "vary", "connection"], "{target}");
    }
    for coding in ["x-gzip", "GZIP", "deflate", "br", "identity", "gzip_gzip", "gzip_zstd"] {
        let packed = http.request(params(&peer.url(&format!("/{coding}/gzip")), json!({}))).await.unwrap();
        assert_eq!(packed.body.0, gzip(TEXT), "{coding}");
        assert_eq!(
            names(&packed),
            ["etag", "vary", "content-encoding", "content-length", "connection"],
            "{coding}"
        );
    }
    let chunked = http.request(params(&peer.url("/gzip/chunked"), json!({}))).await.unwrap();
    assert_eq!(names(&chunked), ["etag", "vary", "transfer-encoding"]);
}

#[tokio::test]
async fn the_peer_is_asked_for_both_unless_the_client_asks_for_something() {
    let peer = Peer::start(packing).await;
    let http = http();
    for more in [
        json!({}),
        json!({"method": "HEAD"}),
        json!({"method": "POST", "bodyBase64": "Ym9keQ=="}),
        json!({"headers": [{"name": "range", "value": "bytes=0-"}]}),
        json!({"streamResponse": true}),
    ] {
        let result = http.request(params(&peer.url("/gzip/gzip"), more.clone())).await.unwrap();
        assert_eq!(peer.last().matches("accept-encoding: zstd,gzip\r\n").count(), 1, "{more}");
        assert_eq!(names(&result), ["etag", "vary", "connection"], "{more}");
        assert_eq!(result.body.0.is_empty(), more["method"] == "HEAD", "{more}");
    }
    let own = json!({"headers": [{"name": "Accept-Encoding", "value": "identity"}]});
    let result = http.request(params(&peer.url("/gzip/gzip"), own)).await.unwrap();
    let head = peer.last().to_ascii_lowercase();
    assert!(head.contains("accept-encoding: identity\r\n") && head.matches("accept-encoding").count() == 1);
    assert_eq!(result.body.0, TEXT, "a peer that compresses all the same");
}

#[tokio::test]
async fn what_cannot_be_undone_is_an_error_in_the_released_words() {
    let peer = Peer::start(packing).await;
    for target in ["/gzip/cut", "/gzip/plain", "/zstd/plain", "/zstd/gzip", "/gzip/zstd"] {
        let error = http().request(params(&peer.url(target), json!({}))).await.unwrap_err();
        assert_eq!(error.code, ErrorCode::INTERNAL);
        assert_eq!(
            error.message, "failed to read http/request response body: error decoding response body",
            "{target}"
        );
    }
    let (head, mut body) = http().open_stream(params(&peer.url("/gzip/cut"), json!({}))).await.unwrap();
    assert_eq!(names(&head), ["etag", "vary", "connection"]);
    let mut deltas = Deltas::new(&mut body, "r".into());
    let (mut text, mut last) = (Vec::new(), None);
    while let Some(delta) = deltas.next().await {
        text.extend_from_slice(&delta.delta.0);
        last = Some((delta.done, delta.error));
    }
    assert!(!text.is_empty() && TEXT.starts_with(&text), "what could be undone");
    assert_eq!(last, Some((true, Some("error decoding response body".to_owned()))));
}

#[tokio::test]
async fn the_bound_of_buffered_bodies_counts_what_was_unpacked() {
    let peer = Peer::start(packing).await;
    let large = http().request(params(&peer.url("/gzip/large"), json!({}))).await.unwrap();
    assert_eq!(large.body.0.len(), 20_000_000);
    let tight = http_with(&Limits::default().with(|limits| limits.http.http_body_bytes = 19_999_999));
    let error = tight.request(params(&peer.url("/gzip/large"), json!({}))).await.unwrap_err();
    assert!(error.message.contains("larger than 19999999 bytes"), "{error}");
}
