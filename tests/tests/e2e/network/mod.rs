//! The managed network (13): what goes through a program's proxy, who is asked and told, and that nothing goes past it.

mod datagrams;
mod inside;
mod lives;
mod questions;
mod rules;
mod sandboxed;
mod transparent;
mod upstream;
mod visitor;

use std::sync::Arc;

use codex_e2e::client::start_params;
use codex_e2e::http::{Asked, Origin, plain};
use codex_e2e::{Ended, TestClient};
use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;

use visitor::{told, visiting};

/// Settings of a proxy, with these members changed.
pub(crate) fn proxy(more: Value) -> Value {
    let mut settings = json!({
        "enabled": true, "enableSocks5": true, "enableSocks5Udp": false, "allowUpstreamProxy": false,
        "dangerouslyAllowAllUnixSockets": false, "mode": "full", "allowLocalBinding": false,
    });
    let members = settings.as_object_mut().expect("an object");
    members.extend(more.as_object().expect("an object of settings").clone());
    settings
}

/// A proxy that lets through to `localhost`.
fn to_localhost() -> Value {
    json!({"networkProxy": {"proxy": proxy(json!({"allowLocalBinding": true, "domains": {"localhost": "allow"}}))}})
}

/// Answers every request with its method, its target and the headers that matter here.
async fn origin() -> Origin {
    Origin::start(Arc::new(|asked: Asked, mut stream| {
        async move {
            let head = asked.head.to_lowercase();
            let kept = ["host", "x-own", "x-hop", "proxy-authorization", "connection"];
            let headers: Vec<&str> = head
                .lines()
                .filter(|line| kept.iter().any(|name| line.starts_with(&format!("{name}:"))))
                .collect();
            let text = format!("{} {} {}", asked.method, asked.target, headers.join(" "));
            let _ = stream.write_all(&plain("200 OK", "", text.as_bytes())).await;
        }
        .boxed()
    }))
    .await
}

/// Starts a visitor with more params, without waiting for it.
async fn start(client: &mut TestClient, id: &str, errands: &[impl AsRef<str>], more: Value) {
    let answer = client.call("process/start", start_params(id, visiting(errands), more)).await;
    assert!(answer.is_ok(), "{answer:?}");
}

/// What a visitor told, who must have come to its end.
async fn finish(client: &mut TestClient, id: &str) -> Vec<String> {
    said(&client.finish(id).await)
}

fn said(ended: &Ended) -> Vec<String> {
    let output = ended.stdout();
    assert_eq!(ended.code(), 0, "{output}{}", ended.text("stderr"));
    told(&output)
}

/// Runs a visitor to its end.
async fn visit(client: &mut TestClient, errands: &[impl AsRef<str>], more: Value) -> Vec<String> {
    static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
    let id = format!("v{}", NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
    start(client, &id, errands, more).await;
    finish(client, &id).await
}
