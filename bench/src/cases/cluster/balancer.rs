//! The one name before the nodes: passes connections on to nodes that are ready.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Result;

/// Between two looks at the nodes.
const CHECK_EVERY: Duration = Duration::from_millis(100);
/// Of a thread that carries one direction.
const STACK: usize = 96 << 10;

/// A running balancer; its threads end with it, but for those that carry connections.
pub(super) struct Balancer {
    pub(super) address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    nodes: Mutex<Vec<SocketAddr>>,
    ready: Mutex<Vec<SocketAddr>>,
    turn: AtomicUsize,
    over: AtomicBool,
}

impl Balancer {
    /// Listens on a free port, before no nodes yet.
    pub(super) fn start() -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let shared = Arc::<Shared>::default();
        let (checks, accepts) = (Arc::clone(&shared), Arc::clone(&shared));
        std::thread::spawn(move || {
            while !checks.over.load(Ordering::Relaxed) {
                let nodes = checks.nodes.lock().unwrap_or_else(PoisonError::into_inner).clone();
                let ready = nodes.into_iter().filter(|node| is_ready(*node)).collect();
                *checks.ready.lock().unwrap_or_else(PoisonError::into_inner) = ready;
                std::thread::sleep(CHECK_EVERY);
            }
        });
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                if accepts.over.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(stream) = stream else { continue };
                let shared = Arc::clone(&accepts);
                let _ = std::thread::Builder::new().stack_size(STACK).spawn(move || shared.carry(stream));
            }
        });
        Ok(Self { address, shared })
    }

    /// As a URL.
    pub(super) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stands before these nodes.
    pub(super) fn stand_before(&self, nodes: Vec<SocketAddr>) {
        *self.shared.nodes.lock().unwrap_or_else(PoisonError::into_inner) = nodes;
    }

    /// How many nodes are ready.
    pub(super) fn ready(&self) -> usize {
        self.shared.ready.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Drop for Balancer {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
    }
}

impl Shared {
    fn carry(&self, near: TcpStream) {
        let ready = self.ready.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        for at in 0..ready.len() {
            let Ok(far) = TcpStream::connect(ready[(turn + at) % ready.len()]) else { continue };
            let (Ok(near_too), Ok(far_too)) = (near.try_clone(), far.try_clone()) else { return };
            let _ = (near.set_nodelay(true), far.set_nodelay(true));
            let back = std::thread::Builder::new().stack_size(STACK).spawn(move || copy(far_too, near_too));
            copy(near, far);
            if let Ok(back) = back {
                let _ = back.join();
            }
            return;
        }
    }
}

fn copy(mut from: TcpStream, mut to: TcpStream) {
    let mut bytes = [0; 16 << 10];
    while let Ok(read @ 1..) = from.read(&mut bytes) {
        if to.write_all(&bytes[..read]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}

fn is_ready(node: SocketAddr) -> bool {
    let asked = || -> std::io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&node, Duration::from_millis(500))?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        Ok(head.ends_with(b" 200"))
    };
    asked().unwrap_or(false)
}
