//! Peers that compress their answers (21.2), as a client sees them through the server.

use std::io::Write as _;
use std::sync::Arc;

use codex_e2e::client::guarded;
use codex_e2e::http::{Answer, Origin, plain};
use codex_e2e::machine::peak_memory;
use codex_e2e::{Server, bytes_of};
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::Semaphore;

const RESULT: &str = "{\"jsonrpc\":\"2.0\",\"id\":0,\"result\":{\"protocolVersion\":\"2025-06-18\"}}";

fn gzip(text: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap()
}

fn chunk(bytes: &[u8]) -> Vec<u8> {
    [format!("{:x}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

const CHUNKED: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ntransfer-encoding: chunked\r\nconnection: close\r\n\r\n";

#[tokio::test]
async fn an_mcp_server_that_always_compresses_is_understood() {
    let answer: Answer = Arc::new(|asked, mut stream| {
        Box::pin(async move {
            assert!(
                asked.head.to_lowercase().contains("\r\naccept-encoding: zstd,gzip\r\n"),
                "{}",
                asked.head
            );
            let (coding, body) = match asked.target.as_str() {
                "/gzip" => ("gzip", gzip(RESULT.as_bytes())),
                _ => ("zstd", zstd::bulk::compress(RESULT.as_bytes(), 3).unwrap()),
            };
            let head = format!("content-type: application/json\r\ncontent-encoding: {coding}\r\n");
            stream.write_all(&plain("200 OK", &head, &body)).await.ok();
        })
    });
    let origin = Origin::start(answer).await;
    let server = Server::start().await;
    let mut client = server.client().await;
    for path in ["/gzip", "/zstd"] {
        let request =
            json!({"method": "POST", "url": origin.url(path), "requestId": "r", "bodyBase64": "e30="});
        let answer = client.ok("http/request", request).await;
        assert_eq!(String::from_utf8(bytes_of(&answer["bodyBase64"])).unwrap(), RESULT, "{path}");
        assert!(!answer["headers"].to_string().contains("content-encoding"), "{answer}");
    }
}

#[tokio::test]
async fn a_stream_is_unpacked_as_it_arrives() {
    let seen = Arc::new(Semaphore::new(0));
    let (told, first, second) = (Arc::clone(&seen), "event: one\n\n", "event: two\n\n");
    let answer: Answer = Arc::new(move |_, mut stream| {
        let told = Arc::clone(&told);
        Box::pin(async move {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
            encoder.write_all(first.as_bytes()).unwrap();
            encoder.flush().unwrap();
            stream.write_all(&[CHUNKED, &chunk(&std::mem::take(encoder.get_mut()))].concat()).await.unwrap();
            // The second event is only sent once the client has seen the first.
            told.acquire().await.unwrap().forget();
            encoder.write_all(second.as_bytes()).unwrap();
            let rest = encoder.finish().unwrap();
            stream.write_all(&[chunk(&rest), b"0\r\n\r\n".to_vec()].concat()).await.unwrap();
        })
    });
    let origin = Origin::start(answer).await;
    let server = Server::start().await;
    let mut client = server.client().await;
    let request = json!({"method": "GET", "url": origin.url("/"), "requestId": "r", "streamResponse": true});
    client.ok("http/request", request).await;
    let (mut text, mut told) = (String::new(), false);
    loop {
        let delta = client.next_notification("http/request/bodyDelta").await;
        text.push_str(&String::from_utf8(bytes_of(&delta["deltaBase64"])).unwrap());
        if delta["done"] == true {
            assert!(delta["error"].is_null(), "{delta}");
            break;
        }
        if text == first && !told {
            seen.add_permits(1);
            told = true;
        }
    }
    assert_eq!(text, format!("{first}{second}"));
}

/// A gzip body of 20 MB zeros in 19 kB, again and again, for as long as somebody reads.
fn bomb() -> Answer {
    Arc::new(|_, mut stream| {
        Box::pin(async move {
            let member = chunk(&gzip(&vec![0; 20_000_000]));
            stream.write_all(CHUNKED).await.ok();
            for _ in 0..1000 {
                if stream.write_all(&member).await.is_err() {
                    break;
                }
            }
            stream.read_u8().await.ok();
        })
    })
}

#[tokio::test]
async fn twenty_gigabytes_in_a_few_kilobytes_end_at_the_bound_with_flat_memory() {
    let origin = Origin::start(bomb()).await;
    let server = Server::builder().args(["--limit", "http_body_bytes=8388608"]).start().await;
    let mut client = server.client().await;
    let before = peak_memory(server.pid());
    let request = json!({"method": "GET", "url": origin.url("/"), "requestId": "r"});
    let (code, text) = client.call("http/request", request).await.unwrap_err();
    assert!(code == -32603 && text.contains("larger than 8388608 bytes"), "{text}");
    let grown = peak_memory(server.pid()) - before;
    // The bound, a vector that doubles below it, and what the buffers of the connections hold.
    assert!(grown < 40 << 20, "{} KiB", grown >> 10);
}

#[tokio::test]
async fn a_streamed_one_takes_no_memory_either_and_holds_nobody_up() {
    let origin = Origin::start(bomb()).await;
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut other = server.client().await;
    let before = peak_memory(server.pid());
    let request = json!({"method": "GET", "url": origin.url("/"), "requestId": "r", "streamResponse": true});
    client.ok("http/request", request).await;
    let (mut bytes, mut deltas) = (0, 0);
    while bytes < 30_000_000 {
        let delta = guarded("a delta", client.next_notification("http/request/bodyDelta")).await;
        bytes += bytes_of(&delta["deltaBase64"]).len();
        deltas += 1;
        if deltas % 50 == 0 {
            other.ok("environment/status", json!({})).await;
        }
    }
    let grown = peak_memory(server.pid()) - before;
    assert!(grown < 40 << 20, "{} KiB", grown >> 10);
}
