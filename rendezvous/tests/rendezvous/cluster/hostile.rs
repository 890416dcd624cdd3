//! Tickets, nodes and brokers that are not what they seem. The worst that they can do is deny service.

use std::time::Duration;

use futures_util::StreamExt;

use super::*;

#[tokio::test]
async fn tickets_that_are_forged_foreign_or_expired_are_refused() {
    let cluster = Cluster::start(2).await;
    let [a, b] = &cluster.nodes[..] else { unreachable!() };
    let other = Broker::start().await;
    let foreign = Server::start_as(cluster.token.clone(), cluster.grant.clone(), |config| {
        joined(config, &other.url(), "the-secret-of-quite-another-cluster-of-nodes");
    })
    .await;
    let short = cluster.node(|config| config.limits.callers.retention = Duration::from_millis(1)).await;
    let good = text(&a.register("env").await["url"]);
    let expired = text(&short.register("late").await["url"]);
    let stranger = text(&foreign.register("env").await["url"]);
    let generation = good.split("generation=").nth(1).unwrap().split('&').next().unwrap();
    for (url, status, reason) in [
        (at(b, &good.replace("environment=env", "environment=other")), 401, "invalid_signature"),
        (at(b, &good.replace(&format!("generation={generation}"), "generation=1")), 401, "invalid_signature"),
        (at(b, &good.replace("role=executor", "role=harness")), 401, "invalid_signature"),
        (at(b, good.split("&signature").next().unwrap()), 400, "missing_signature"),
        (at(b, &stranger), 401, "invalid_signature"),
        (at(b, &expired), 401, "expired"),
    ] {
        let refused = Socket::open(&url).await.unwrap_err();
        assert_eq!((refused.0, refused.1.as_str()), (status, reason), "{url}");
    }
    // An agent's ticket is for one node.
    let _executor = Socket::open(at(a, &good)).await.unwrap();
    let way = text(&found(b, "env").await["url"]);
    let refused = Socket::open(at(b, &way)).await.unwrap_err();
    assert_eq!((refused.0, refused.1.as_str()), (401, "wrong_rendezvous_cluster"));
    let _harness = Socket::open(at(a, &way)).await.unwrap();
}

#[tokio::test]
async fn a_ticket_of_a_token_that_a_node_does_not_have_is_refused_there() {
    let cluster = Cluster::start(1).await;
    let (_, other) = mint(&[Role::Executor, Role::Harness], "*");
    let poor = cluster.node(|config| config.grants = vec![other]).await;
    let url = text(&cluster.nodes[0].register("env").await["url"]);
    let refused = Socket::open(at(&poor, &url)).await.unwrap_err();
    assert_eq!((refused.0, refused.1.as_str()), (401, "invalid_secret"));
}

#[tokio::test]
async fn a_node_with_another_secret_is_not_heard() {
    let cluster = Cluster::start(2).await;
    let [a, b] = &cluster.nodes[..] else { unreachable!() };
    let stranger = cluster.stranger("a-secret-that-somebody-else-has-made-up", |_| ()).await;
    let mut ours = executor(a, a, "env").await;
    let theirs = stranger.register("env").await;
    let _theirs = Socket::open(text(&theirs["url"])).await.unwrap();
    let _later = executor(a, a, "later").await;
    // What the stranger announced came before, and nobody believed it.
    found(b, "later").await;
    let way = found(b, "env").await;
    assert!(leads_to(&way["url"], a));
    let mut harness = Socket::open(text(&way["url"])).await.unwrap();
    harness.send(data("A", "ours")).await;
    assert_eq!(ours.socket.said().await, pair("A", "ours"));
    assert_eq!((a.rendezvous.nodes().len(), stranger.rendezvous.nodes().len()), (2, 1));
}

#[tokio::test]
async fn a_broker_that_listens_repeats_and_floods_learns_nothing_and_leads_nobody_astray() {
    let cluster = Cluster::start(2).await;
    let [a, b] = &cluster.nodes[..] else { unreachable!() };
    let spy = async_nats::connect(cluster.broker.url()).await.unwrap();
    let mut heard = spy.subscribe(">").await.unwrap();
    spy.flush().await.unwrap();
    let first = executor(a, a, "a-telling-name").await;
    let way = found(b, "a-telling-name").await;
    let authorization = text(&way["harness_key_authorization"]);
    let answer = b.validate("a-telling-name", &first.registration, 9, &authorization).await;
    assert_eq!(answer.1, json!({"valid": true}));
    // The environment moves; what was said before is repeated now.
    let mut second = executor(b, b, "a-telling-name").await;
    found(a, "a-telling-name").await;
    let mut messages = Vec::new();
    spy.publish("the-end", "".into()).await.unwrap();
    while let Some(message) = patiently(heard.next()).await.filter(|message| *message.subject != *"the-end") {
        messages.push(message);
    }
    assert!(messages.len() > 5, "{}", messages.len());
    for message in &messages {
        for told in ["a-telling-name", authorization.as_str(), &first.registration, SECRET] {
            let shown = message.payload.windows(told.len()).any(|window| window == told.as_bytes());
            assert!(!shown, "{told} stands in the clear in {}", message.subject);
        }
    }
    let inbox = spy.new_inbox();
    let mut answers = spy.subscribe(inbox.clone()).await.unwrap();
    for message in &messages {
        for subject in ["codex.rendezvous.1.news", "codex.rendezvous.1.ask", message.subject.as_str()] {
            let payload = message.payload.clone();
            spy.publish_with_reply(subject.to_owned(), inbox.clone(), payload).await.unwrap();
        }
    }
    for at in 0..20_000_u32 {
        spy.publish("codex.rendezvous.1.news", at.to_be_bytes().repeat(20).into()).await.unwrap();
    }
    spy.flush().await.unwrap();
    // Repeated questions are answered, but only their own asker can use that: an authorization is used up.
    patiently(answers.next()).await.unwrap();
    for node in [a, b] {
        let answer = node.validate("a-telling-name", &first.registration, 9, &authorization).await;
        assert_eq!(answer.1, json!({"valid": false}));
        let way = found(node, "a-telling-name").await;
        assert!(leads_to(&way["url"], b));
        let mut harness = Socket::open(text(&way["url"])).await.unwrap();
        harness.send(data("A", "still right")).await;
        assert_eq!(second.socket.said().await, pair("A", "still right"));
        harness.close().await;
        assert_eq!(second.socket.said().await, pair("A", "reset"));
    }
}

#[tokio::test]
async fn a_secret_is_changed_without_a_pause() {
    let cluster = Cluster::start(2).await;
    let [a, b] = &cluster.nodes[..] else { unreachable!() };
    let executor = executor(a, a, "env").await;
    let new = "the-secret-that-comes-after-the-first-one";
    for secrets in [format!("{SECRET}\n{new}"), format!("{new}\n{SECRET}"), new.to_owned()] {
        for node in [a, b] {
            node.rendezvous.replace_secrets(&ClusterSecrets::parse(&secrets).unwrap());
            for asked in [a, b] {
                assert!(leads_to(&found(asked, "env").await["url"], a), "{secrets}");
            }
        }
    }
    // With the old secret the old ticket is gone: executors register anew after a 4xx.
    let refused = Socket::open(at(b, &executor.url)).await.unwrap_err();
    assert_eq!((refused.0, refused.1.as_str()), (401, "invalid_signature"));
}
