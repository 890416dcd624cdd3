//! What an operator is told of several nodes.

use codex_rendezvous::cluster::Health;
use codex_rendezvous::status::Status;

use super::*;

async fn status(node: &Server) -> Status {
    node.status(&node.token, "").await.expect("the token is an observer's")
}

#[tokio::test]
async fn any_node_tells_where_each_environment_is_and_who_uses_it() {
    let mut cluster = Cluster::start(3).await;
    let [a, b, c] = &cluster.nodes[..] else { unreachable!() };
    let mut used = executor(a, b, "used").await;
    let _idle = executor(a, c, "idle").await;
    let registered = b.register("registered").await;
    let mut harness = Socket::open(text(&found(a, "used").await["url"])).await.unwrap();
    for stream in ["1", "2"] {
        harness.send(data(stream, "open")).await;
        assert_eq!(used.socket.said().await, pair(stream, "open"));
    }
    let id = |node: &Server| Some(node.rendezvous.nodes()[0].node);
    let places = [
        ("idle", id(c), true, Some(0), Some(0)),
        ("registered", id(b), false, Some(0), Some(0)),
        ("used", id(b), true, Some(1), Some(2)),
    ];
    for asked in [a, b, c] {
        eventually("all is known", async || {
            let told = status(asked).await;
            assert_eq!((told.broker, told.nodes.len(), told.next), (Health::Connected, 3, None));
            assert_eq!(told.nodes[0].node, id(asked), "the one that answers comes first");
            let told = told.environments;
            let told =
                told.iter().map(|e| (e.environment.as_str(), e.node, e.attached, e.harnesses, e.streams));
            told.eq(places)
        })
        .await;
    }
    drop(registered);
    // The node that has them is gone.
    drop(cluster.nodes.remove(1));
    let a = &cluster.nodes[0];
    eventually("the node is missed", async || {
        assert_eq!(a.connect("used", 9).await.0, 503);
        let told = status(a).await;
        let used = told.environments.iter().find(|told| told.environment == "used").unwrap();
        told.nodes.len() == 2 && !used.attached && used.streams == Some(0)
    })
    .await;
}
