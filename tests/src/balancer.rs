//! A TCP balancer before several nodes, as one would stand there: it asks `/readyz`, and leads each connection to the next
//! node that is ready.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// A node that says nothing for so long is not ready.
const PROBE: Duration = Duration::from_secs(5);

/// A running balancer; dropping it ends it. Connections that it has made go on.
pub struct Balancer {
    address: SocketAddr,
    nodes: Arc<Mutex<Vec<SocketAddr>>>,
    task: JoinHandle<()>,
}

impl Balancer {
    /// Listens on a free port, before no nodes yet.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let nodes = Arc::<Mutex<Vec<SocketAddr>>>::default();
        let known = Arc::clone(&nodes);
        let task = tokio::spawn(async move {
            for turn in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let mut nodes = known.lock().expect("no panic holds it").clone();
                if !nodes.is_empty() {
                    let first = turn % nodes.len();
                    nodes.rotate_left(first);
                }
                tokio::spawn(carry(stream, nodes));
            }
        });
        Self { address, nodes, task }
    }

    /// As a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stands before one more node.
    pub fn add(&self, node: SocketAddr) {
        self.nodes.lock().expect("no panic holds it").push(node);
    }

    /// Stands before a node no more.
    pub fn remove(&self, node: SocketAddr) {
        self.nodes.lock().expect("no panic holds it").retain(|known| *known != node);
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn carry(mut stream: TcpStream, nodes: Vec<SocketAddr>) {
    for node in nodes {
        if !timeout(PROBE, is_ready(node)).await.unwrap_or(false) {
            continue;
        }
        let Ok(mut there) = TcpStream::connect(node).await else { continue };
        for socket in [&stream, &there] {
            let _ = socket.set_nodelay(true);
        }
        let _ = copy_bidirectional(&mut stream, &mut there).await;
        return;
    }
}

async fn is_ready(node: SocketAddr) -> bool {
    let Ok(mut stream) = TcpStream::connect(node).await else { return false };
    let request = "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut head = [0; 12];
    stream.write_all(request.as_bytes()).await.is_ok()
        && stream.read_exact(&mut head).await.is_ok()
        && head.ends_with(b" 200")
}
