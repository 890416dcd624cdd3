//! Hosts that no rule decides: the client is asked, and everything but a plain "allow" is a denial.

use codex_e2e::Server;

use super::*;

/// A proxy without rules, whose client promises to decide in time.
fn asking(patience_ms: u64) -> Value {
    let settings = proxy(json!({"allowLocalBinding": true}));
    json!({"networkProxy": {"proxy": settings, "policyDecisionTimeoutMs": patience_ms}})
}

async fn question(client: &mut TestClient) -> Value {
    client.until(|message| message["method"] == "network/policyRequest").await
}

#[tokio::test]
async fn the_client_decides_what_no_rule_does() {
    let (origin, server) = (origin().await, Server::start().await);
    let mut client = server.client().await;
    let port = origin.address.port();
    let (get, tunnel) = (format!("get http://localhost:{port}/"), format!("tunnel localhost:{port}"));
    let refusal = |text: &str| json!({"error": {"code": -32601, "message": text}});
    let decision = |decision: Value| json!({"result": {"decision": decision}});
    let cases = [
        (decision(json!({"type": "allow"})), "200", "allow", "allowed", true),
        (decision(json!({"type": "deny", "reason": "because"})), "403", "deny", "because", false),
        (decision(json!({"type": "ask", "reason": "a person"})), "403", "ask", "a person", false),
        (decision(json!({"type": "deny"})), "403", "deny", "not_allowed", false),
        (decision(json!({"type": "ask"})), "403", "ask", "not_allowed", false),
        (decision(json!({"type": "perhaps"})), "403", "deny", "not_allowed", false),
        (decision(json!("allow")), "403", "deny", "not_allowed", false),
        (json!({"result": {"type": "allow"}}), "403", "deny", "not_allowed", false),
        (json!({"result": null}), "403", "deny", "not_allowed", false),
        (refusal("unknown"), "403", "deny", "not_allowed", false),
    ];
    let mut number = 0;
    for (answer, status, word, reason, overridden) in cases {
        for (errand, protocol) in [(&get, "http"), (&tunnel, "https_connect")] {
            number += 1;
            let id = format!("p{number}");
            start(&mut client, &id, &[errand], asking(30_000)).await;
            let asked = question(&mut client).await;
            // Numbers of the server's own, from 1 on this connection.
            let request = json!({"protocol": protocol, "host": "localhost", "port": port});
            let expected = json!({"id": number, "method": "network/policyRequest", "params": {"processId": id, "request": request}});
            assert_eq!(asked, expected);
            let mut answer = answer.clone();
            answer["id"] = json!(number);
            client.send_raw(&answer.to_string()).await;
            let report = client.next_notification("network/policyDecision").await;
            let said = [&report["decision"], &report["source"], &report["reason"], &report["policyOverride"]];
            assert_eq!(
                said,
                [&json!(word), &json!("decider"), &json!(reason), &json!(overridden)],
                "{report}"
            );
            let told = finish(&mut client, &id).await;
            assert!(told[0].starts_with(&format!("HTTP/1.1 {status}")), "{told:?}");
            assert!(status == "200" || protocol != "http" || told[0].contains(reason), "{told:?}");
        }
    }
    assert_eq!(origin.heads().len(), 2);
}

#[tokio::test]
async fn what_a_rule_decides_is_not_asked() {
    let server = Server::start().await;
    let mut client = server.client().await;
    let mut more = asking(30_000);
    more["networkProxy"]["proxy"]["domains"] = json!({"denied.test": "deny", "*.invalid": "allow"});
    more["networkProxy"]["proxy"]["allowLocalBinding"] = json!(false);
    start(
        &mut client,
        "p",
        &["get http://denied.test/", "get http://127.0.0.1/", "get http://a.invalid/"],
        more,
    )
    .await;
    for reason in ["denied", "not_allowed_local", "allowed"] {
        let next = client.until(|m| m["method"].as_str().is_some_and(|m| m.starts_with("network/"))).await;
        assert_eq!(
            (&next["method"], &next["params"]["reason"]),
            (&json!("network/policyDecision"), &json!(reason))
        );
    }
    finish(&mut client, "p").await;
}

#[tokio::test]
async fn what_is_to_be_reviewed_is_asked_though_it_is_allowed() {
    let (origin, server) = (origin().await, Server::start().await);
    let mut client = server.client().await;
    let get = format!("get http://localhost:{}/", origin.address.port());
    let mut more = asking(30_000);
    more["networkProxy"]["proxy"]["domains"] = json!({"localhost": "allow"});
    more["networkProxy"]["proxy"]["reviewDomains"] = json!(["localhost"]);
    start(&mut client, "p", &[&get], more.clone()).await;
    let asked = question(&mut client).await;
    client.send_raw(&json!({"id": asked["id"], "result": {"decision": {"type": "allow"}}}).to_string()).await;
    assert!(finish(&mut client, "p").await[0].starts_with("HTTP/1.1 200"));
    let report = client.next_notification("network/policyDecision").await;
    let said = (&report["decision"], &report["source"], &report["policyOverride"]);
    assert_eq!(said, (&json!("allow"), &json!("decider"), &json!(false)), "a rule allowed it: {report}");
    more["networkProxy"].as_object_mut().unwrap().remove("policyDecisionTimeoutMs");
    assert!(visit(&mut client, &[&get], more).await[0].starts_with("HTTP/1.1 403"), "nobody can be asked");
}

#[tokio::test]
async fn silence_is_a_denial_and_a_late_or_second_answer_changes_nothing() {
    let (origin, server) = (origin().await, Server::start().await);
    let mut client = server.client().await;
    let get = format!("get http://localhost:{}/", origin.address.port());
    start(&mut client, "p", &[&get], asking(1)).await;
    let asked = question(&mut client).await;
    let told = finish(&mut client, "p").await;
    assert!(told[0].starts_with("HTTP/1.1 403"), "{told:?}");
    let report = client.next_notification("network/policyDecision").await;
    assert_eq!((&report["decision"], &report["reason"]), (&json!("deny"), &json!("not_allowed")));
    let allow = json!({"id": asked["id"], "result": {"decision": {"type": "allow"}}}).to_string();
    client.send_raw(&allow).await;
    client.send_raw(&allow).await;
    assert!(origin.heads().is_empty());
    client.ok("environment/status", Value::Null).await;

    // What was never asked can't be answered (4.3).
    client.send_raw(&json!({"id": 2, "result": {"decision": {"type": "allow"}}}).to_string()).await;
    client.expect_closed().await;
}

#[tokio::test]
async fn a_client_that_goes_away_denies_and_its_successor_is_asked() {
    let (origin, server) = (origin().await, Server::start().await);
    let mut client = server.client().await;
    let get = format!("get http://localhost:{}/", origin.address.port());
    let mut more = asking(86_400_000);
    more["pipeStdin"] = json!(true);
    start(&mut client, "p", &[&get, "wait", &get], more).await;
    question(&mut client).await;
    let session = client.session_id.clone();
    drop(client);
    let mut client = TestClient::connect(&server.url).await;
    while client.resume(&session).await.is_err() {
        client = TestClient::connect(&server.url).await;
    }
    // The first request was denied by then, or will be without anybody being asked.
    let mut seen = String::new();
    let mut after = 0;
    while !seen.contains("visit: waiting") {
        let read = client.read("p", after, 10_000).await;
        after = read["nextSeq"].as_u64().unwrap() - 1;
        for chunk in read["chunks"].as_array().unwrap() {
            seen.push_str(&String::from_utf8_lossy(&codex_e2e::bytes_of(&chunk["chunk"])));
        }
    }
    assert!(seen.contains("visit: HTTP/1.1 403"), "{seen}");
    client.ok("process/closeStdin", json!({"processId": "p"})).await;
    let asked = question(&mut client).await;
    assert_eq!(asked["id"], 1, "each connection counts for itself");
    client.send_raw(&json!({"id": 1, "result": {"decision": {"type": "allow"}}}).to_string()).await;
    // The denial of the first request may be reported to the successor as well.
    client.until(|m| m["method"] == "network/policyDecision" && m["params"]["policyOverride"] == true).await;
    client.until(|m| m["method"] == "process/closed").await;
    assert_eq!(origin.heads().len(), 1);
}
