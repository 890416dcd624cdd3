//! Slow sockets: paced while they move, closed when they stall, and nobody else's trouble.

use std::time::Duration;

use futures_util::SinkExt;
use tokio_tungstenite::tungstenite::Message;

use crate::support::{Server, Socket, data, eventually, pair};

/// More than all buffers between two programs hold: the queue here, and what the system keeps for sockets.
const FLOOD: usize = 40 << 20;
const PIECE: usize = 64 << 10;

/// Sends a flood on stream A; ends when all is sent or the socket is gone.
async fn flood(socket: &mut Socket) -> bool {
    for at in 0..FLOOD / PIECE {
        let mut piece = vec![0; PIECE];
        piece[..8].copy_from_slice(&(at as u64).to_be_bytes());
        if socket.0.send(Message::Binary(data("A", piece))).await.is_err() {
            return false;
        }
    }
    true
}

fn number(frame: &[u8]) -> u64 {
    let payload = &frame[frame.len() - PIECE..];
    u64::from_be_bytes(payload[..8].try_into().unwrap())
}

async fn open(executor: &mut Socket, harness: &mut Socket, id: &str) {
    harness.send(data(id, "open")).await;
    assert_eq!(executor.said().await, pair(id, "open"));
}

#[tokio::test]
async fn a_harness_that_pauses_gets_every_byte_in_the_end() {
    let server = Server::start_with(|config| config.limits.queues.queue_bytes = 1 << 20).await;
    let mut executor = server.executor("env").await.socket;
    let mut harness = server.harness("env").await;
    open(&mut executor, &mut harness, "A").await;
    let sender = tokio::spawn(async move { (flood(&mut executor).await, executor) });
    // Wait until the queue is full and the executor is held: the gauge says so.
    eventually("the queue is full", async || {
        let (_, metrics) = server.get("/metrics").await;
        let queued = metrics.lines().find_map(|line| line.strip_prefix("rendezvous_queued_bytes "));
        queued.unwrap().parse::<u64>().unwrap() > (1 << 20) - 2 * PIECE as u64
    })
    .await;
    for at in 0..(FLOOD / PIECE) as u64 {
        assert_eq!(number(&harness.receive().await), at);
    }
    assert!(sender.await.unwrap().0);
}

#[tokio::test]
async fn a_stalled_harness_is_closed_and_the_others_go_on() {
    let server = Server::start_with(|config| {
        config.limits.queues.queue_bytes = 1 << 20;
        config.limits.queues.stall = Duration::from_millis(300);
    })
    .await;
    let mut executor = server.executor("env").await.socket;
    let mut stalled = server.harness("env").await;
    let mut healthy = server.harness("env").await;
    open(&mut executor, &mut stalled, "A").await;
    open(&mut executor, &mut healthy, "B").await;
    assert!(flood(&mut executor).await, "the executor is held for a moment only");
    executor.send(data("B", "still here")).await;
    assert_eq!(healthy.said().await, pair("B", "still here"));
    assert_eq!(executor.said().await, pair("A", "reset"));
    let (_, metrics) = server.get("/metrics").await;
    assert!(metrics.contains(r#"closed_sockets_total{reason="slow"} 1"#), "{metrics}");
}

#[tokio::test]
async fn a_harness_that_holds_its_neighbours_up_is_closed_though_it_moves() {
    let server = Server::start_with(|config| {
        config.limits.queues.queue_bytes = 256 << 10;
        config.limits.queues.hold = Duration::from_millis(50);
    })
    .await;
    let mut executor = server.executor("env").await.socket;
    let mut crawling = server.harness("env").await;
    let mut healthy = server.harness("env").await;
    open(&mut executor, &mut crawling, "A").await;
    open(&mut executor, &mut healthy, "B").await;
    let crawl = tokio::spawn(async move {
        use futures_util::StreamExt;
        while let Some(Ok(_)) = crawling.0.next().await {
            // Its pace, which is what is tested: slower than its neighbours, and never still.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert!(flood(&mut executor).await);
    executor.send(data("B", "still here")).await;
    assert_eq!(healthy.said().await, pair("B", "still here"));
    assert_eq!(executor.said().await, pair("A", "reset"));
    crawl.abort();
}

#[tokio::test]
async fn a_stalled_environment_is_not_another_one_s_trouble() {
    let server = Server::start_with(|config| config.limits.queues.queue_bytes = 256 << 10).await;
    let mut flooded = server.executor("slow").await.socket;
    let mut quick = server.executor("quick").await.socket;
    let mut stalled = server.harness("slow").await;
    let mut healthy = server.harness("quick").await;
    open(&mut flooded, &mut stalled, "A").await;
    open(&mut quick, &mut healthy, "A").await;
    let flooding = tokio::spawn(async move { flood(&mut flooded).await });
    for at in 0..100 {
        quick.send(data("A", format!("{at}"))).await;
        assert_eq!(healthy.said().await, pair("A", &at.to_string()));
    }
    flooding.abort();
}

#[tokio::test]
async fn a_stalled_executor_is_closed_and_may_come_back() {
    let server = Server::start_with(|config| {
        config.limits.queues.queue_bytes = 256 << 10;
        config.limits.queues.stall = Duration::from_millis(300);
    })
    .await;
    let executor = server.executor("env").await;
    let mut harness = server.harness("env").await;
    // The executor's socket is not read.
    flood(&mut harness).await;
    assert_eq!(harness.closed().await.0, 1012);
    let mut executor = Socket::open(&executor.url).await.unwrap();
    let mut harness = server.harness("env").await;
    open(&mut executor, &mut harness, "A").await;
}
