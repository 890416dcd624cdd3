//! Makes the stream to a server: straight, or through the tunnel of a proxy (`CONNECT`).

use std::io;
use std::pin::pin;

use http_body_util::Empty;
use hyper::body::Bytes;
use hyper::client::conn::http1;
use hyper::header::{HOST, PROXY_AUTHORIZATION};
use hyper::{Method, Request, Uri};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::connect::proxy::{SocksV4, SocksV5};
use hyper_util::client::proxy::matcher::Intercept;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_tungstenite::MaybeTlsStream;
use tower_service::Service as _;
use url::{Host, Url};

use crate::{Outgoing, OutgoingError};

/// Longest head of a proxy's answer, in bytes. A safeguard, far from any real use.
const PROXY_HEAD_BYTES: usize = 16 << 10;

/// Where SOCKS proxies listen that name no port.
const SOCKS_PORT: u16 = 1080;

/// A stream to a server, below the server's own TLS. The leg to a proxy may have TLS of its own.
pub type Stream = MaybeTlsStream<TcpStream>;

/// Why there is no stream. Messages show of a proxy its host and port.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The URL has no host or port.
    #[error("the address has no host or port")]
    Address,
    /// The server itself can't be reached.
    #[error("{0}")]
    Server(#[source] io::Error),
    /// The proxy can't be reached, or refused.
    #[error("the proxy {proxy} {problem}")]
    Proxy {
        /// Its host and port.
        proxy: String,
        /// What it did, as the end of a sentence.
        problem: String,
    },
    /// Certificates or proxies that can't be used.
    #[error(transparent)]
    Settings(#[from] OutgoingError),
}

impl Outgoing {
    /// Whether a proxy stands between us and a URL. False also where the proxies that are set can't be used.
    pub fn goes_through_proxy(&self, url: &Url) -> bool {
        matches!(self.shared.proxies.on_the_way(url), Ok(Some(_)))
    }

    /// Connects to a URL's host and port, with `TCP_NODELAY`. The caller bounds the time.
    ///
    /// # Errors
    /// When nobody listens, or a proxy on the way does not let it through.
    pub async fn dial(&self, url: &Url) -> Result<Stream, DialError> {
        let host = url.host().ok_or(DialError::Address)?;
        let port = url.port_or_known_default().ok_or(DialError::Address)?;
        match self.shared.proxies.on_the_way(url)? {
            Some(proxy) => self.tunnel(&proxy, &format!("{host}:{port}")).await,
            None => {
                let stream = match host {
                    Host::Domain(name) => TcpStream::connect((name, port)).await,
                    Host::Ipv4(ip) => TcpStream::connect((ip, port)).await,
                    Host::Ipv6(ip) => TcpStream::connect((ip, port)).await,
                };
                Ok(MaybeTlsStream::Plain(undelayed(stream).map_err(DialError::Server)?))
            }
        }
    }

    async fn tunnel(&self, proxy: &Intercept, target: &str) -> Result<Stream, DialError> {
        let uri = proxy.uri();
        let failed = |problem: String| DialError::Proxy { proxy: name_of(proxy), problem };
        match uri.scheme_str().unwrap_or_default() {
            "http" | "https" => {}
            "socks4" | "socks4a" | "socks5" | "socks5h" => {
                return socks(proxy, target).await.map(MaybeTlsStream::Plain).map_err(failed);
            }
            scheme => {
                return Err(failed(format!(
                    "has the scheme {scheme}, which this program does not speak; use http, https or socks5h"
                )));
            }
        }
        connect(self.to_proxy(proxy).await?, proxy, target).await.map_err(failed)
    }

    /// A stream to an HTTP proxy itself, with TLS where its address says so.
    pub(crate) async fn to_proxy(&self, proxy: &Intercept) -> Result<Stream, DialError> {
        let uri = proxy.uri();
        let secure = uri.scheme_str() == Some("https");
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let failed = |problem: String| DialError::Proxy { proxy: name_of(proxy), problem };
        let unreachable = |error: io::Error| failed(format!("can't be reached: {error}"));
        let stream = undelayed(TcpStream::connect((host, port)).await).map_err(unreachable)?;
        Ok(match secure {
            false => MaybeTlsStream::Plain(stream),
            true => {
                let server = ServerName::try_from(host.to_owned())
                    .map_err(|_| failed("has a name that no certificate can have".into()))?;
                let connector = TlsConnector::from(self.tls_client().await?);
                MaybeTlsStream::Rustls(connector.connect(server, stream).await.map_err(unreachable)?)
            }
        })
    }
}

/// A proxy as messages show it.
fn name_of(proxy: &Intercept) -> String {
    proxy.uri().authority().map_or_else(String::new, ToString::to_string)
}

/// A way through a SOCKS proxy. As in curl, the schemes with `a` and `h` let the proxy look up names, the others us.
async fn socks(proxy: &Intercept, target: &str) -> Result<TcpStream, String> {
    let scheme = proxy.uri().scheme_str().unwrap_or_default();
    let host = proxy.uri().host().unwrap_or_default();
    let port = proxy.uri().port_u16().unwrap_or(SOCKS_PORT);
    let at: Uri = format!("http://{host}:{port}").parse().map_err(|_| "has no usable address".to_owned())?;
    let target: Uri =
        format!("tcp://{target}").parse().map_err(|_| format!("can't be asked for {target}"))?;
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let failed = |error: &dyn std::error::Error| format!("did not let us through: {error}");
    let stream = if scheme.starts_with("socks4") {
        let mut proxy = SocksV4::new(at, connector).local_dns(scheme == "socks4");
        proxy.call(target).await.map_err(|error| failed(&error))?
    } else {
        let mut socks = SocksV5::new(at, connector).local_dns(scheme == "socks5");
        if let Some((user, password)) = proxy.raw_auth() {
            socks = socks.with_auth(user.to_owned(), password.to_owned());
        }
        socks.call(target).await.map_err(|error| failed(&error))?
    };
    Ok(stream.into_inner())
}

fn undelayed(stream: io::Result<TcpStream>) -> io::Result<TcpStream> {
    let stream = stream?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Asks for the tunnel; what went wrong in words that follow the proxy's name.
async fn connect(stream: Stream, proxy: &Intercept, target: &str) -> Result<Stream, String> {
    let broke = |error: hyper::Error| format!("broke off: {error}");
    let authority: Uri = target.parse().map_err(|_| format!("can't be asked for {target}"))?;
    let mut request = Request::builder().method(Method::CONNECT).uri(authority).header(HOST, target);
    if let Some(credentials) = proxy.basic_auth() {
        request = request.header(PROXY_AUTHORIZATION, credentials);
    }
    let request = request.body(Empty::<Bytes>::new()).map_err(|error| error.to_string())?;
    let (mut sender, connection) = http1::Builder::new()
        .max_buf_size(PROXY_HEAD_BYTES)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(broke)?;
    let mut asked = pin!(async {
        let answer = sender.send_request(request).await.map_err(broke)?;
        let status = answer.status();
        if !status.is_success() {
            return Err(format!("refused a tunnel to {target} with {status}"));
        }
        hyper::upgrade::on(answer).await.map_err(broke)
    });
    let mut connection = pin!(connection.with_upgrades());
    let upgraded = tokio::select! {
        biased;
        upgraded = &mut asked => upgraded,
        // It ends when it has handed over the tunnel; a failure is the answer's as well.
        _ = &mut connection => asked.await,
    }?;
    let parts = upgraded.downcast::<TokioIo<Stream>>().map_err(|_| "gave another stream".to_owned())?;
    if !parts.read_buf.is_empty() {
        return Err("sent something before the server was spoken to".into());
    }
    Ok(parts.io.into_inner())
}
