//! What an operator is told, and who is told nothing.

use codex_rendezvous::cluster::Health;
use codex_rendezvous::tokens::Role;

use crate::support::{Server, data, mint, pair};

#[tokio::test]
async fn an_observer_is_told_of_its_environments_and_nobody_else_of_any() {
    let server = Server::start().await;
    let mut executor = server.executor("a").await.socket;
    let _other = server.executor("b").await;
    let mut harness = server.harness("a").await;
    harness.send(data("1", "open")).await;
    assert_eq!(executor.said().await, pair("1", "open"));
    let told = server.status(&server.token, "").await.unwrap();
    assert_eq!((told.broker, told.nodes.len(), told.next), (Health::Alone, 1, None));
    let node = &told.nodes[0];
    assert_eq!(
        (node.node, node.levels.executors, node.levels.harnesses, node.levels.streams),
        (None, 2, 1, 1)
    );
    assert!(node.url.starts_with(server.rendezvous.local_url()), "{}", node.url);
    let seen: Vec<_> = told
        .environments
        .iter()
        .map(|e| (e.environment.as_str(), e.attached, e.harnesses, e.streams))
        .collect();
    assert_eq!(seen, [("a", true, Some(1), Some(1)), ("b", true, Some(0), Some(0))]);
    assert_eq!(server.status(&server.token, "?after=a").await.unwrap().environments.len(), 1);
    let (narrow, narrow_grant) = mint(&[Role::Observer], "b");
    let (harness_token, harness_grant) = mint(&[Role::Harness, Role::Executor], "*");
    server.rendezvous.replace_tokens(vec![server.grant.clone(), narrow_grant, harness_grant]);
    let told = server.status(&narrow, "").await.unwrap().environments;
    assert_eq!(told.iter().map(|e| e.environment.as_str()).collect::<Vec<_>>(), ["b"]);
    for (token, code) in [(harness_token.as_str(), 403), ("wrong", 401)] {
        assert_eq!(server.status(token, "").await.unwrap_err(), code);
    }
}

#[tokio::test]
async fn many_environments_come_page_by_page() {
    let server = Server::start().await;
    for at in 0..codex_rendezvous::status::PAGE + 1 {
        server.register(&format!("e{at:05}")).await;
    }
    let first = server.status(&server.token, "").await.unwrap();
    assert_eq!((first.environments.len(), first.next.as_deref()), (1_000, Some("e00999")));
    let second = server.status(&server.token, "?after=e00999").await.unwrap();
    assert_eq!((second.environments.len(), second.next), (1, None));
}
