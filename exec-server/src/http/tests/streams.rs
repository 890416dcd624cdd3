//! Streamed bodies and their numbering.

use codex_exec_protocol::http::BodyDeltaParams;

use super::*;

/// Every delta of a stream.
async fn deltas(http: &LocalHttp, params: RequestParams) -> Vec<BodyDeltaParams> {
    let (head, mut body) = http.open_stream(params).await.unwrap();
    assert!(head.body.0.is_empty());
    let mut deltas = Deltas::new(&mut body, "r1".into());
    let mut all = Vec::new();
    while let Some(delta) = deltas.next().await {
        all.push(delta);
    }
    all
}

fn check(all: &[BodyDeltaParams], body: &[u8], error: Option<&str>) {
    let seqs: Vec<u64> = all.iter().map(|d| d.seq.0).collect();
    assert_eq!(seqs, (1..=all.len() as u64).collect::<Vec<_>>());
    let (last, before) = all.split_last().unwrap();
    assert!(last.done && last.delta.0.is_empty());
    assert!(before.iter().all(|d| !d.done && d.error.is_none() && !d.delta.0.is_empty()));
    assert_eq!(before.iter().flat_map(|d| d.delta.0.clone()).collect::<Vec<_>>(), body);
    match error {
        None => assert_eq!(last.error, None),
        Some(part) => assert!(last.error.as_deref().unwrap().contains(part), "{:?}", last.error),
    }
    assert!(all.iter().all(|d| d.request_id == "r1"));
}

#[tokio::test]
async fn a_stream_is_numbered_from_one_and_ends_with_an_empty_done() {
    let peer = Peer::start(script).await;
    let http = http();
    check(&deltas(&http, params(&peer.url("/"), json!({}))).await, b"hello", None);
    check(&deltas(&http, params(&peer.url("/big-chunked"), json!({}))).await, &[b'x'; 100], None);
    check(&deltas(&http, params(&peer.url("/none"), json!({}))).await, b"", None);
}

#[tokio::test]
async fn a_body_that_breaks_or_takes_too_long_ends_with_the_reason() {
    let peer = Peer::start(script).await;
    let http = http();
    check(&deltas(&http, params(&peer.url("/trunc"), json!({}))).await, b"half", Some(""));
    check(
        &deltas(&http, params(&peer.url("/half"), json!({"timeoutMs": 300}))).await,
        b"half",
        Some("timed out"),
    );
}

#[tokio::test]
async fn a_stream_over_the_limit_of_buffered_bodies_passes() {
    let peer = Peer::start(script).await;
    let http = http_with(&Limits::default().with(|limits| limits.http.http_body_bytes = 9));
    check(&deltas(&http, params(&peer.url("/big"), json!({}))).await, &[b'x'; 100], None);
}
