//! Starts the console, and ends it: one listener, one task for each connection.

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use codex_exec_server::client::{Client, Environments, State};
use codex_exec_server::protocol::process::{List, ListParams};
use codex_secret::Secret;
use futures_util::future::join_all;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tower_service::Service as _;
use url::Url;

use crate::access::NoGrant;
use crate::app::{App, Site};
use crate::http;
use crate::limits::Limits;
use crate::programs;

/// A pause behind a connection that could not be accepted: descriptors may be short. Our own pace: nothing outside depends on it.
const SHORT_PAUSE: Duration = Duration::from_millis(100);

/// How the console runs.
pub struct Config {
    /// Where to listen; port 0 lets the system choose.
    pub listen: SocketAddr,
    /// `https://…` or `http://…` as browsers reach it, where a proxy stands before it or a name leads to it. Only under this
    /// name, and under its own address, is it answered; its path is taken away by the proxy.
    pub public_url: Option<Url>,
    /// To serve TLS.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// What is shown. Each is reached through a client; one that is a part of this process has nothing to show.
    pub environments: Environments,
    /// Bounds of memory, sockets and time.
    pub limits: Limits,
}

/// Why the console can't start.
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
    /// The public URL is none.
    #[error("the public URL must be http://HOST or https://HOST, with a path at most")]
    PublicUrl,
}

/// A running console. Dropping it ends it at once; programs go on.
pub struct Console {
    app: Arc<App>,
    server: JoinHandle<()>,
}

impl fmt::Debug for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Console").field("url", &self.app.site.url()).finish_non_exhaustive()
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.server.abort();
        // Open terminals end with the right to look at them.
        self.app.access.revoke_all();
    }
}

impl Console {
    /// Listens, and serves until the value is dropped. Inside a tokio runtime.
    ///
    /// # Errors
    /// The address or the public URL can't be used.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let public_url = config.public_url.map(checked).transpose()?;
        let listen = |source| StartError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let site = Site::new(address, config.tls.is_some(), public_url)
            .map_err(|error| listen(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
        let tls = config.tls.map(TlsAcceptor::from);
        let app = Arc::new(App::new(config.environments, config.limits, site));
        let server = tokio::spawn(serve(listener, tls, Arc::clone(&app)));
        Ok(Self { app, server })
    }

    /// The page's address.
    pub fn url(&self) -> &str {
        self.app.site.url()
    }

    /// A link that makes whoever uses it first the owner of the console; good for [`Limits::first_link_life`].
    ///
    /// # Errors
    /// As many links are good as may be; a sentence.
    pub fn owner_link(&self) -> Result<Secret, String> {
        self.app.owner_link().map_err(|error: NoGrant| error.to_string())
    }

    /// Ends it: no page is answered any more, and programs that were started from it go on.
    pub async fn end(self) {
        self.server.abort();
        let environments = &self.app.environments;
        let names = environments.names();
        let left = names.iter().map(|name| async move {
            // One that is not connected has nothing of ours, and is not connected to for its end.
            if environments.status(name).is_ok_and(|status| status.state == State::Ready)
                && let Ok(Some(client)) = environments.client(name).await
            {
                leave(client).await;
            }
        });
        let _ = tokio::time::timeout(self.app.limits.request_time, join_all(left)).await;
        environments.close().await;
    }
}

/// Leaves a session with its programs behind; one without any is of no use to anybody.
async fn leave(client: Client) {
    let own = client.call::<List>(&ListParams::default()).await;
    match own.is_ok_and(|own| own.processes.iter().any(programs::is_running)) {
        true => client.leave().await,
        false => client.close().await,
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

async fn serve(listener: TcpListener, tls: Option<TlsAcceptor>, app: Arc<App>) {
    let routes = http::routes(Arc::clone(&app));
    let places = Arc::new(Semaphore::new(app.limits.connections));
    let patience = app.limits.request_time;
    // They end with the listener.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection");
                tokio::time::sleep(SHORT_PAUSE).await;
                continue;
            }
        };
        // Without it each answer would wait for a delayed acknowledgement.
        let _ = socket.set_nodelay(true);
        let (tls, routes) = (tls.clone(), routes.clone());
        connections.spawn(async move {
            connection(socket, tls, routes, patience).await;
            drop(place);
        });
    }
}

async fn connection(socket: TcpStream, tls: Option<TlsAcceptor>, routes: Router, patience: Duration) {
    match tls {
        None => answer(socket, routes, patience).await,
        Some(tls) => match tokio::time::timeout(patience, tls.accept(socket)).await {
            Ok(Ok(socket)) => answer(socket, routes, patience).await,
            Ok(Err(error)) => tracing::debug!(%error, "no TLS"),
            Err(_) => tracing::debug!("no TLS in time"),
        },
    }
}

async fn answer<S>(socket: S, routes: Router, patience: Duration)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(move |request: Request<Incoming>| {
        let mut routes = routes.clone();
        async move { Ok::<_, Infallible>(routes.call(request).await.unwrap_or_else(|never| match never {})) }
    });
    let mut http = http1::Builder::new();
    let serving = http
        .timer(TokioTimer::new())
        .header_read_timeout(patience)
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    // How a browser goes is its own matter.
    let _ = serving.await;
}
