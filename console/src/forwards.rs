//! Ports of environments' machines, made reachable on this machine's loopback.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use codex_exec_server::client::Environments;
use parking_lot::Mutex;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};

use crate::programs::{self, ProgramError};

/// A pause behind a connection that could not be accepted. Our own pace: nothing outside depends on it.
const SHORT_PAUSE: std::time::Duration = std::time::Duration::from_millis(100);

/// Where connections of a forward lead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) environment: String,
    pub(crate) host: String,
    pub(crate) port: u16,
}

/// A forward as it is listed.
#[derive(Debug, Serialize)]
pub(crate) struct Listed {
    pub(crate) id: u64,
    pub(crate) environment: String,
    /// Where it is listened on here.
    pub(crate) local: SocketAddr,
    pub(crate) host: String,
    pub(crate) port: u16,
    /// Connections that were carried so far.
    pub(crate) carried: u64,
    /// Why the last connection led nowhere; none if it did lead somewhere.
    pub(crate) trouble: Option<String>,
}

/// Why there is no forward.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    /// The port here can't be had.
    #[error("can't listen on 127.0.0.1:{port}: {error}")]
    Listen { port: u16, error: std::io::Error },
    /// There are as many as may be.
    #[error("there are {0} forwards already; stop one first")]
    TooMany(usize),
}

/// All forwards. Dropping it ends them.
#[derive(Debug)]
pub(crate) struct Forwards {
    most: usize,
    connections: usize,
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    next: u64,
    running: BTreeMap<u64, Running>,
}

#[derive(Debug)]
struct Running {
    forward: Arc<Forward>,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[derive(Debug)]
struct Forward {
    target: Target,
    local: SocketAddr,
    carried: AtomicU64,
    trouble: Mutex<Option<String>>,
}

impl Forwards {
    pub(crate) fn new(most: usize, connections: usize) -> Self {
        Self { most, connections, table: Mutex::default() }
    }

    /// Listens on this port of loopback, 0 for a free one, until it is stopped.
    ///
    /// # Errors
    /// The port can't be had, or there are too many.
    pub(crate) async fn start(
        &self,
        environments: Environments,
        target: Target,
        port: u16,
    ) -> Result<Listed, ForwardError> {
        let listen = |error| ForwardError::Listen { port, error };
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await.map_err(listen)?;
        let local = listener.local_addr().map_err(listen)?;
        let forward =
            Arc::new(Forward { target, local, carried: AtomicU64::new(0), trouble: Mutex::default() });
        let mut table = self.table.lock();
        if table.running.len() >= self.most {
            return Err(ForwardError::TooMany(self.most));
        }
        table.next += 1;
        let id = table.next;
        let places = Arc::new(Semaphore::new(self.connections));
        let task = tokio::spawn(serve(listener, environments, Arc::clone(&forward), places));
        let listed = forward.listed(id);
        table.running.insert(id, Running { forward, task });
        Ok(listed)
    }

    /// Ends a forward and its connections; false if there is none of this id.
    pub(crate) fn stop(&self, id: u64) -> bool {
        self.table.lock().running.remove(&id).is_some()
    }

    pub(crate) fn list(&self) -> Vec<Listed> {
        self.table.lock().running.iter().map(|(id, running)| running.forward.listed(*id)).collect()
    }
}

impl Forward {
    fn listed(&self, id: u64) -> Listed {
        let Target { environment, host, port } = self.target.clone();
        Listed {
            id,
            environment,
            local: self.local,
            host,
            port,
            carried: self.carried.load(Ordering::Relaxed),
            trouble: self.trouble.lock().clone(),
        }
    }

    async fn carry(&self, environments: &Environments, mut here: TcpStream) -> Result<(), ProgramError> {
        let Target { environment, host, port } = &self.target;
        let client = programs::client(environments, environment).await?;
        let there = client.tcp_connect(host, *port).await?;
        self.carried.fetch_add(1, Ordering::Relaxed);
        *self.trouble.lock() = None;
        let (reader, writer) = here.split();
        // What breaks later is told by the connection itself.
        let _ = there.join(reader, writer).await;
        Ok(())
    }
}

async fn serve(
    listener: TcpListener,
    environments: Environments,
    forward: Arc<Forward>,
    places: Arc<Semaphore>,
) {
    // Its connections end with it.
    let mut carried = JoinSet::new();
    loop {
        while carried.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let here = match listener.accept().await {
            Ok((here, _)) => here,
            Err(error) => {
                *forward.trouble.lock() = Some(format!("can't take a connection: {error}"));
                tokio::time::sleep(SHORT_PAUSE).await;
                continue;
            }
        };
        let _ = here.set_nodelay(true);
        let (environments, forward) = (environments.clone(), Arc::clone(&forward));
        carried.spawn(async move {
            if let Err(error) = forward.carry(&environments, here).await {
                *forward.trouble.lock() = Some(error.to_string());
            }
            drop(place);
        });
    }
}
