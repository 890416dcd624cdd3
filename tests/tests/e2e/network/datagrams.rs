//! Datagrams by SOCKS (13): the same rules as for connections, and no answer but of the host that was judged.

use codex_e2e::Server;
use tokio::net::UdpSocket;

use super::*;
use crate::sandbox::{Ground, enforceable, read_only};

/// Answers each datagram with itself, and keeps it.
struct Echo {
    port: u16,
    seen: Arc<parking_lot::Mutex<Vec<String>>>,
}

impl Echo {
    async fn start() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (port, seen) = (socket.local_addr().unwrap().port(), Arc::default());
        let kept: Arc<parking_lot::Mutex<Vec<String>>> = Arc::clone(&seen);
        tokio::spawn(async move {
            let mut datagram = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut datagram).await {
                kept.lock().push(String::from_utf8_lossy(&datagram[..length]).into_owned());
                let _ = socket.send_to(&datagram[..length], from).await;
            }
        });
        Self { port, seen }
    }
}

/// A proxy that carries datagrams, with these members changed.
fn carrying(more: Value) -> Value {
    let mut settings = proxy(json!({
        "enableSocks5Udp": true, "allowLocalBinding": true,
        "domains": {"localhost": "allow", "denied.test": "deny"},
    }));
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"networkProxy": {"proxy": settings}})
}

#[tokio::test]
async fn datagrams_go_to_allowed_hosts_and_their_answers_come_back() {
    let (echo, server) = (Echo::start().await, Server::start().await);
    let mut client = server.client().await;
    let port = echo.port;
    let errand = format!("datagrams 3 denied.test:{port} localhost:{port}");
    start(&mut client, "p", &[errand], carrying(json!({}))).await;
    let mut reports = Vec::new();
    for _ in 0..2 {
        reports.push(client.next_notification("network/policyDecision").await);
    }
    let told = finish(&mut client, "p").await;
    assert_eq!(told, [format!("localhost:{port} 0,localhost:{port} 1,localhost:{port} 2,")]);
    assert!(echo.seen.lock().iter().all(|seen| seen.starts_with("localhost")), "{:?}", echo.seen.lock());
    reports.sort_by_key(|report| report["host"].to_string());
    for (report, host, decision, reason) in
        [(&reports[0], "denied.test", "deny", "denied"), (&reports[1], "localhost", "allow", "allowed")]
    {
        assert!(report["client"].as_str().unwrap().starts_with("127.0.0.1:"), "{report}");
        let expected = json!({
            "processId": "p", "timestamp": report["timestamp"], "scope": "domain", "decision": decision,
            "source": "baseline_policy", "reason": reason, "protocol": "socks5_udp", "host": host, "port": port,
            "method": null, "client": report["client"], "policyOverride": false,
        });
        assert_eq!(*report, expected, "once for each host, not for each datagram");
    }
}

#[tokio::test]
async fn a_host_that_no_rule_decides_is_asked_about_once() {
    let (echo, server) = (Echo::start().await, Server::start().await);
    let mut client = server.client().await;
    let mut asking = carrying(json!({"domains": {}}));
    asking["networkProxy"]["policyDecisionTimeoutMs"] = json!(30_000);
    let errand = format!("datagrams 2 localhost:{}", echo.port);
    start(&mut client, "p", &[errand], asking).await;
    let question = client.until(|message| message["method"] == "network/policyRequest").await;
    let request = json!({"protocol": "socks5_udp", "host": "localhost", "port": echo.port});
    assert_eq!(question["params"], json!({"processId": "p", "request": request}));
    let allow = json!({"id": question["id"], "result": {"decision": {"type": "allow"}}});
    client.send_raw(&allow.to_string()).await;
    let told = finish(&mut client, "p").await;
    assert_eq!(told, [format!("localhost:{0} 0,localhost:{0} 1,", echo.port)]);
}

#[tokio::test]
async fn no_datagram_passes_where_it_may_not() {
    let (echo, server) = (Echo::start().await, Server::start().await);
    let proxied = Server::builder().args(["--tcp-upstream-proxy", "127.0.0.1:9"]).start().await;
    let errand = format!("datagrams 1 localhost:{}", echo.port);
    let mut client = server.client().await;
    assert_eq!(
        visit(&mut client, &[&errand], carrying(json!({"enableSocks5Udp": false}))).await,
        ["SOCKS 7"]
    );
    for (server, more, decision, reason) in [
        (&server, json!({"mode": "limited"}), "deny", "method_not_allowed"),
        (&server, json!({"allowLocalBinding": false}), "deny", "not_allowed_local"),
        // What stands between this machine and the world carries connections only.
        (&proxied, json!({"allowUpstreamProxy": true}), "allow", "allowed"),
    ] {
        let mut client = server.client().await;
        // It waits for an answer that never comes; the session's end ends it.
        start(&mut client, "p", &[&errand], carrying(more.clone())).await;
        let report = client.next_notification("network/policyDecision").await;
        assert_eq!((&report["decision"], &report["reason"]), (&json!(decision), &json!(reason)), "{more}");
    }
    assert!(echo.seen.lock().is_empty());
}

#[tokio::test]
async fn under_a_sandbox_they_are_the_only_datagrams_that_pass() {
    if !enforceable() {
        return;
    }
    let (echo, server) = (Echo::start().await, Server::start().await);
    let mut client = server.client().await;
    let (ground, port) = (Ground::new(), echo.port);
    let mut more = carrying(json!({}));
    more["sandbox"] = read_only(&ground);
    more["enforceManagedNetwork"] = true.into();
    let errands = [format!("datagrams 2 localhost:{port}"), format!("udp 127.0.0.1:{port}")];
    let told = visit(&mut client, &errands, more).await;
    assert_eq!(told[0], format!("localhost:{port} 0,localhost:{port} 1,"));
    assert!(told[1].starts_with("failed"), "{told:?}");
    assert_eq!(*echo.seen.lock(), [format!("localhost:{port} 0"), format!("localhost:{port} 1")]);
}
