//! A node on several threads does what it does on one.

use codex_rendezvous::Config;

use crate::support::{Executor, Server, Socket, data, eventually, mint, pair};

fn on_three(config: &mut Config) {
    config.threads = 3;
}

#[tokio::test]
async fn environments_on_several_threads_do_not_mix_and_keep_their_order() {
    let server = Server::start_with(on_three).await;
    let mut environments: Vec<(Executor, Socket, Socket)> = Vec::new();
    for at in 0..9 {
        let id = format!("env-{at}");
        environments.push((server.executor(&id).await, server.harness(&id).await, server.harness(&id).await));
    }
    for round in 0..50 {
        for (at, (executor, first, second)) in environments.iter_mut().enumerate() {
            for (stream, harness) in [("1", first), ("2", second)] {
                let said = format!("{round} to {at}");
                harness.send(data(stream, said.clone())).await;
                assert_eq!(executor.socket.said().await, pair(stream, &said));
                executor.socket.send(data(stream, format!("back {said}"))).await;
                assert_eq!(harness.said().await, pair(stream, &format!("back {said}")));
            }
        }
    }
    let (mut executor, mut first, mut second) = environments.pop().unwrap();
    executor.socket.close().await;
    assert_eq!((first.closed().await.0, second.closed().await.0), (1012, 1012));
    // The one that comes back is let in wherever there is room.
    executor.socket = Socket::open(&executor.url).await.unwrap();
    let mut harness = server.harness("env-8").await;
    harness.send(data("3", "again")).await;
    assert_eq!(executor.socket.said().await, pair("3", "again"));
    let drained = tokio::join!(server.rendezvous.drain(), executor.socket.closed(), harness.closed());
    assert_eq!((drained.1.0, drained.2.0), (1012, 1012));
    for (mut executor, mut first, _) in environments {
        assert_eq!((executor.socket.closed().await.0, first.closed().await.0), (1012, 1012));
    }
}

#[tokio::test]
async fn a_node_that_is_dropped_cuts_the_sockets_of_all_its_threads() {
    let server = Server::start_with(on_three).await;
    let mut sockets = Vec::new();
    for at in 0..6 {
        sockets.push(server.executor(&format!("env-{at}")).await.socket);
    }
    let address = server.rendezvous.address();
    drop(server);
    for socket in &mut sockets {
        socket.ended().await;
    }
    eventually("its port is free", async || std::net::TcpListener::bind(address).is_ok()).await;
}

#[tokio::test]
async fn a_token_that_is_taken_away_loses_its_sockets_on_all_threads() {
    let server = Server::start_with(on_three).await;
    let mut sockets = Vec::new();
    for at in 0..6 {
        sockets.push(server.executor(&format!("env-{at}")).await.socket);
    }
    let (_, other) = mint(&[codex_rendezvous::tokens::Role::Observer], "*");
    server.rendezvous.replace_tokens(vec![other]);
    for socket in &mut sockets {
        assert_eq!(socket.closed().await.0, 1008);
    }
}
