//! A TCP proxy whose connections a test cuts, and whose target it takes away or moves.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use rustix::net::sockopt::set_socket_linger;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// A running proxy; dropping it ends it, with its connections.
pub struct Cutter {
    address: SocketAddr,
    target: Arc<Mutex<Option<SocketAddr>>>,
    cuts: watch::Sender<u64>,
    task: JoinHandle<()>,
}

impl Cutter {
    /// Listens on a free port.
    pub async fn start(target: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        let target = Arc::new(Mutex::new(Some(target)));
        let cuts = watch::Sender::new(0);
        let (shared, cut) = (Arc::clone(&target), cuts.clone());
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let target = *shared.lock().expect("no panic holds it");
                // Seen before the connection is made, so that a cut meanwhile counts.
                let cut = cut.subscribe();
                tokio::spawn(carry(stream, target, cut));
            }
        });
        Self { address, target, cuts, task }
    }

    /// As a URL.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Breaks every connection, with a reset on both sides.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Where new connections lead from now on; nowhere: they are closed at once.
    pub fn point(&self, target: Option<SocketAddr>) {
        *self.target.lock().expect("no panic holds it") = target;
    }
}

impl Drop for Cutter {
    fn drop(&mut self) {
        self.task.abort();
        self.cut();
    }
}

async fn carry(mut stream: TcpStream, target: Option<SocketAddr>, mut cut: watch::Receiver<u64>) {
    let Some(target) = target else { return };
    let Ok(mut there) = TcpStream::connect(target).await else { return };
    for socket in [&stream, &there] {
        let _ = socket.set_nodelay(true);
    }
    tokio::select! {
        _ = copy_bidirectional(&mut stream, &mut there) => {}
        _ = cut.changed() => {
            for socket in [&stream, &there] {
                // What is under way is lost, as when a machine vanishes.
                let _ = set_socket_linger(socket, Some(std::time::Duration::ZERO));
            }
        }
    }
}
