//! Starts the registry and rendezvous, and ends them: one process, one port.

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::middleware::AddExtension;
use axum_server::Handle;
use axum_server::accept::Accept;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use codex_observe::Audit;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use url::Url;

use crate::acceptor::BoundedAcceptor;
use crate::app::{App, Parts};
use crate::audit::Record;
use crate::cluster::{
    Alone, ClusterConfig, ClusterSecrets, Directory, Nats, NodeStatus, Owner, SharedTokensError,
};
use crate::file;
use crate::http;
use crate::limits::{HEAD_BYTES, Limits};
use crate::store::{Store, StoreError};
use crate::switch::{InProcess, Switch};
use crate::threads::{MOST_THREADS, Threads, Workers};
use crate::ticket::Signer;
use crate::tokens::Grant;

/// What the keys of tickets are made for.
const TICKETS: &str = "tickets";

/// How often environments that nobody uses are looked for.
const SWEEP: Duration = Duration::from_secs(600);

/// How the rendezvous runs. `Debug` shows no secret: grants hold only hashes.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// `https://…` or `http://…` as executors and harnesses reach it, when a proxy stands before it or names
    /// lead to it. Without it, websocket addresses repeat the host that a request came to.
    pub public_url: Option<Url>,
    /// Certificate and key, to serve TLS.
    pub tls: Option<TlsFiles>,
    /// The tokens in force.
    pub grants: Vec<Grant>,
    /// Where registrations are kept; without it a restart forgets them, and executors register again.
    pub store: Option<PathBuf>,
    /// Carry plain relays too, whose content can be read here.
    pub allow_plain: bool,
    /// Answer `/metrics` without a token.
    pub open_metrics: bool,
    /// Where requests and sockets are recorded, if anywhere.
    pub audit: Option<Audit<Record>>,
    /// Bounds of memory, sockets and time.
    pub limits: Limits,
    /// Threads that sockets are spread over, from 1 to [`MOST_THREADS`]; those of one environment stay on one. With 1 all is
    /// done by who polls.
    pub threads: usize,
    /// The other nodes, if this is to be one of several. Plain relays can't be steered to the right one, so they are not
    /// carried then.
    pub cluster: Option<ClusterConfig>,
}

/// A certificate chain and its key, in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TlsFiles {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// Why the rendezvous can't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address can't be listened on.
    #[error("can't listen on {address}: {source}")]
    Listen {
        /// The address that can't be used.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The certificate or its key can't be used.
    #[error("can't use the TLS file {}: {reason}", path.display())]
    Tls {
        /// The file that can't be used.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The public URL is none.
    #[error("the public URL must be http://HOST or https://HOST, with a path at most")]
    PublicUrl,
    /// The node's URL is none, or missing.
    #[error(
        "agents have to be told where this node is: its URL must be http://HOST or https://HOST, with a path at most, \
         and can't be left out where the node listens on all addresses"
    )]
    NodeUrl,
    /// The system starts no further thread.
    #[error("can't start a thread: {0}; --threads 1 needs none")]
    Threads(io::Error),
    /// The store can't be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The cluster's broker, or the tokens that it keeps, can't be used.
    #[error(transparent)]
    Cluster(#[from] SharedTokensError),
}

/// A running registry and rendezvous. Dropping it ends it at once.
pub struct Rendezvous {
    app: Running,
    handle: Handle<SocketAddr>,
    server: Task<io::Result<()>>,
    _sweeper: Task<()>,
    tls: Option<RustlsConfig>,
    cluster: Option<Arc<Nats>>,
    address: SocketAddr,
    _workers: Workers,
}

impl fmt::Debug for Rendezvous {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Rendezvous").field("address", &self.address).finish_non_exhaustive()
    }
}

/// The shared state; its sockets end when it is dropped.
struct Running(Arc<App>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A task that ends with its owner.
struct Task<T>(JoinHandle<T>);

impl<T> Drop for Task<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Rendezvous {
    /// Binds the address and serves until the value is dropped.
    ///
    /// # Errors
    /// When the address, the TLS files, the public URL or the store can't be used.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_on(config, Arc::new(InProcess::new())).await
    }

    /// As [`Self::start`], with a switch of one's own.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_on(config: Config, switch: Arc<dyn Switch>) -> Result<Self, StartError> {
        let public_url = config.public_url.map(checked).transpose()?;
        let tls = config.tls.as_ref().map(load_tls).transpose()?.map(RustlsConfig::from_config);
        let listen = |source| StartError::Listen { address: config.listen, source };
        let listener = std::net::TcpListener::bind(config.listen).map_err(listen)?;
        listener.set_nonblocking(true).map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let scheme = if tls.is_some() { "https" } else { "http" };
        let local_url = Url::parse(&format!("{scheme}://{address}"))
            .map_err(|error| listen(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let queue = config.limits.store.store_queue;
        // Opening reads the whole store; nothing else runs yet.
        let store = config.store.as_deref().map(|path| Store::open(path, queue)).transpose()?;
        let workers =
            Workers::start(config.threads.clamp(1, MOST_THREADS) - 1).map_err(StartError::Threads)?;
        let connections = config.limits.callers.connections;
        let request_time = config.limits.times.request_time;
        let node_url = match &config.cluster {
            None => None,
            Some(cluster) => Some(node_url(cluster, config.listen, &local_url)?),
        };
        let cluster = match &config.cluster {
            None => None,
            Some(cluster) => {
                let (url, retention) = (node_url.clone(), config.limits.callers.retention);
                let url = url.unwrap_or_else(|| local_url.clone());
                Some(Arc::new(Nats::join(cluster, url, retention).await?))
            }
        };
        let directory: Arc<dyn Directory> = match &cluster {
            None => Arc::new(Alone),
            Some(nats) => Arc::clone(nats) as _,
        };
        let app = App::new(Parts {
            limits: config.limits,
            grants: config.grants,
            shared_grants: cluster.as_ref().map(|nats| nats.shared_tokens()).unwrap_or_default(),
            allow_plain: config.allow_plain && config.cluster.is_none(),
            open_metrics: config.open_metrics,
            audit: config.audit,
            switch,
            threads: Threads::new(&workers),
            store,
            directory,
            signer: config.cluster.as_ref().map_or_else(Signer::new, |c| Signer::of(c.secrets.keys(TICKETS))),
            public_url,
            node_url,
            local_url,
        });
        if let Some(nats) = &cluster {
            let owner: Arc<dyn Owner> = Arc::clone(&app) as _;
            nats.serve(Arc::downgrade(&owner));
        }
        let acceptor = BoundedAcceptor::new(connections, Arc::clone(&app.metrics));
        let handle = Handle::new();
        let server = axum_server::from_tcp(listener).map_err(listen)?.handle(handle.clone());
        let server = match &tls {
            None => serve(server.acceptor(acceptor), &app, request_time),
            Some(tls) => {
                let acceptor =
                    RustlsAcceptor::new(tls.clone()).handshake_timeout(request_time).acceptor(acceptor);
                serve(server.acceptor(acceptor), &app, request_time)
            }
        };
        let sweeper = Task(tokio::spawn(sweep(Arc::clone(&app))));
        let app = Running(app);
        Ok(Self { app, handle, server, _sweeper: sweeper, tls, cluster, address, _workers: workers })
    }

    /// The address that it listens on.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens, as an URL.
    pub fn local_url(&self) -> &str {
        self.app.0.local_url.as_str().trim_end_matches('/')
    }

    /// The URL for executors and harnesses: the public one, or else the local one.
    pub fn registry_url(&self) -> &str {
        self.app
            .0
            .public_url
            .as_ref()
            .map_or_else(|| self.local_url(), |url| url.as_str().trim_end_matches('/'))
    }

    /// Puts other tokens in force. Sockets are closed if their token is gone or allows less.
    pub fn replace_tokens(&self, grants: Vec<Grant>) {
        self.app.0.replace_tokens(grants);
    }

    /// Takes a new certificate for connections from now on.
    ///
    /// # Errors
    /// When the files can't be used; the old certificate stays.
    pub fn replace_certificate(&self, files: &TlsFiles) -> Result<(), StartError> {
        if let Some(tls) = &self.tls {
            tls.reload_from_config(load_tls(files)?);
        }
        Ok(())
    }

    /// All nodes that are known, this one first; empty for a single one.
    pub fn nodes(&self) -> Vec<NodeStatus> {
        self.app.0.directory.nodes()
    }

    /// Takes other secrets of the cluster from now on. Tickets are good as long as one of them signed them.
    pub fn replace_secrets(&self, secrets: &ClusterSecrets) {
        if let Some(nats) = &self.cluster {
            nats.replace_secrets(secrets);
            self.app.0.signer.replace(secrets.keys(TICKETS));
        }
    }

    /// Waits until listening fails; it does not end otherwise.
    ///
    /// # Errors
    /// Why connections can't be accepted any more.
    pub async fn failed(&mut self) -> io::Result<()> {
        (&mut self.server.0).await.map_err(io::Error::other)?
    }

    /// Sends executors to other nodes, if there are any. Then refuses new connections, closes every socket with 1012, and
    /// returns when all have been told.
    pub async fn drain(self) {
        self.app.0.leave().await;
        self.app.0.drain().await;
        if let Some(nats) = &self.cluster {
            nats.gone().await;
        }
        self.handle.graceful_shutdown(Some(self.app.0.limits.times.farewell));
        let mut server = self.server;
        let _ = (&mut server.0).await;
        let app = Arc::clone(&self.app.0);
        let ended = move || {
            app.close_store();
            if let Some(audit) = &app.audit {
                audit.flush();
            }
        };
        let _ = tokio::task::spawn_blocking(ended).await;
    }
}

fn serve<A>(
    mut server: axum_server::Server<SocketAddr, A>,
    app: &Arc<App>,
    request_time: Duration,
) -> Task<io::Result<()>>
where
    A: Accept<TcpStream, AddExtension<axum::Router, ConnectInfo<SocketAddr>>> + Clone + Send + Sync + 'static,
    A::Stream: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send,
    A::Service: axum_server::service::SendService<axum::http::Request<hyper::body::Incoming>> + Send,
    A::Future: Send,
{
    // Websockets need HTTP/1.1, and nothing else here gains from HTTP/2.
    let mut builder = Builder::new(TokioExecutor::new()).http1_only();
    builder.http1().timer(TokioTimer::new()).header_read_timeout(request_time).max_buf_size(HEAD_BYTES);
    *server.http_builder() = builder;
    Task(tokio::spawn(
        server.serve(http::routes(Arc::clone(app)).into_make_service_with_connect_info::<SocketAddr>()),
    ))
}

async fn sweep(app: Arc<App>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        app.sweep();
    }
}

/// Where agents reach this node.
fn node_url(cluster: &ClusterConfig, listen: SocketAddr, local: &Url) -> Result<Url, StartError> {
    match &cluster.node_url {
        Some(url) => checked(url.clone()).map_err(|_| StartError::NodeUrl),
        None if listen.ip().is_unspecified() => Err(StartError::NodeUrl),
        None => Ok(local.clone()),
    }
}

fn checked(url: Url) -> Result<Url, StartError> {
    let good = matches!(url.scheme(), "http" | "https")
        && url.has_host()
        && url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if good { Ok(url) } else { Err(StartError::PublicUrl) }
}

/// Reads a certificate and its key, to serve HTTP/1.1 over TLS with them.
///
/// # Errors
/// [`StartError::Tls`], which names the file and what is wrong with it.
pub fn load_tls(files: &TlsFiles) -> Result<Arc<rustls::ServerConfig>, StartError> {
    let wrong = |path: &Path, reason: String| StartError::Tls { path: path.to_owned(), reason };
    let read = |path: &Path| file::read(path).map_err(|error| wrong(path, error.to_string()));
    let chain = CertificateDer::pem_slice_iter(&read(&files.certificate)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| wrong(&files.certificate, error.to_string()))?;
    if chain.is_empty() {
        return Err(wrong(&files.certificate, "it holds no certificate in PEM".to_owned()));
    }
    let key = PrivateKeyDer::from_pem_slice(&read(&files.key)?).map_err(|error| {
        let none = matches!(error, rustls::pki_types::pem::Error::NoItemsFound);
        let reason = if none { "it holds no private key in PEM".to_owned() } else { error.to_string() };
        wrong(&files.key, reason)
    })?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| wrong(&files.certificate, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, key);
    let mut config = config.map_err(|error| wrong(&files.key, error.to_string()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
