//! HTTP as a proxy speaks it: requests passed on, and tunnels by `CONNECT`.

use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use codex_exec_protocol::network::Protocol;
use codex_outgoing::{Forward, Stream};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Frame, Incoming, SizeHint};
use hyper::header::{self, HeaderMap, HeaderName, HeaderValue};
use hyper::http::uri::{Authority, PathAndQuery, Scheme};
use hyper::upgrade::OnUpgrade;
use hyper::{Method, Request, Response, StatusCode, Uri, Version};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio::task::AbortHandle;

use super::host::HostName;
use super::judge::{Judge, Kind, ProxyRefusal};
use super::policy::Wish;
use super::tunnel;
use crate::Limits;

/// Headers that concern one connection and not the request (RFC 9110, 7.6.1), beyond those that `Connection` names.
const OF_ONE_HOP: [HeaderName; 9] = [
    header::CONNECTION,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// The smallest bound of a head that the HTTP library accepts. Fixed by the library.
const LEAST_HEAD_BYTES: usize = 8 << 10;

/// Header lines of one head; more are answered with 431. As many as fit into a head of the usual bound.
/// A safeguard, far from any real use.
const MOST_HEADERS: usize = 1024;

type AnyBody = BoxBody<Bytes, hyper::Error>;

/// What becomes of a connection after its `CONNECT` was answered.
struct Tunnel {
    program: OnUpgrade,
    target: Stream,
}

/// What the requests of one connection share.
struct Conversation {
    judge: Arc<Judge>,
    client: Option<String>,
    head_bytes: usize,
    tunnel: Mutex<Option<Tunnel>>,
}

/// Serves one connection of a program until it ends.
pub(super) async fn serve(stream: TcpStream, client: Option<String>, judge: Arc<Judge>, limits: &Limits) {
    let head_bytes = limits.network.network_head_bytes.max(LEAST_HEAD_BYTES);
    let shared = Arc::new(Conversation { judge, client, head_bytes, tunnel: Mutex::default() });
    let asked = Arc::clone(&shared);
    let service = hyper::service::service_fn(move |request| {
        let shared = Arc::clone(&asked);
        async move { Ok::<_, Infallible>(shared.answer(request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.network.network_head_time.min(limits.connection.longest_wait))
        .max_buf_size(head_bytes)
        .max_headers(MOST_HEADERS)
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    if let Err(error) = served.await {
        tracing::debug!(%error, "a program's connection to its network proxy ended");
    }
    let tunnel = shared.tunnel.lock().take();
    if let Some(Tunnel { program, mut target }) = tunnel
        && let Ok(program) = program.await
    {
        tunnel::carry(&mut TokioIo::new(program), &mut target).await;
    }
}

impl Conversation {
    async fn answer(&self, request: Request<Incoming>) -> Response<AnyBody> {
        let answered = if request.method() == Method::CONNECT {
            self.open_tunnel(request).await
        } else {
            self.pass_on(request).await
        };
        answered.unwrap_or_else(|(status, sentence)| say(status, sentence))
    }

    async fn open_tunnel(&self, mut request: Request<Incoming>) -> Result<Response<AnyBody>, Said> {
        let target = request.uri().authority().filter(|_| request.uri().path_and_query().is_none());
        let wish = wish_of(&request, Protocol::HttpsConnect, target, None)?;
        let target = self.judge.admit_http(&wish, self.client.as_deref()).await.map_err(said)?.stream;
        let program = hyper::upgrade::on(&mut request);
        *self.tunnel.lock() = Some(Tunnel { program, target });
        Ok(Response::new(Full::default().map_err(|never| match never {}).boxed()))
    }

    async fn pass_on(&self, mut request: Request<Incoming>) -> Result<Response<AnyBody>, Said> {
        if request.uri().scheme() != Some(&Scheme::HTTP) {
            return Err(wrong("send a whole http:// URL, or CONNECT for other schemes"));
        }
        let chunked = is_chunked(request.headers())?;
        let mut wish = wish_of(&request, Protocol::Http, request.uri().authority(), Some(80))?;
        wish.has_body = !request.body().is_end_stream();
        let Forward { stream: target, takes_whole, authorization } =
            self.judge.admit_http(&wish, self.client.as_deref()).await.map_err(said)?;

        strip(request.headers_mut());
        if let Some(authorization) = authorization {
            request.headers_mut().insert(header::PROXY_AUTHORIZATION, authorization);
        }
        // Unless told otherwise, the HTTP library leaves out bodies of requests that usually have none.
        if wish.has_body && (chunked || request.body().size_hint().exact().is_none()) {
            request.headers_mut().remove(header::CONTENT_LENGTH);
            request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static(CHUNKED));
        }
        let host = if wish.port == 80 {
            wish.host.in_url()
        } else {
            format!("{}:{}", wish.host.in_url(), wish.port)
        };
        let no_host = || wrong("the host can't be put in a header");
        let whole = takes_whole.then(|| host.parse::<Authority>()).transpose().map_err(|_| no_host())?;
        let host = HeaderValue::from_str(&host).map_err(|_| no_host())?;
        request.headers_mut().insert(header::HOST, host);
        *request.version_mut() = Version::HTTP_11;
        let path = request.uri().path_and_query().cloned();
        let mut uri = Uri::from(path.unwrap_or_else(|| PathAndQuery::from_static("/"))).into_parts();
        if let Some(authority) = whole {
            (uri.scheme, uri.authority) = (Some(Scheme::HTTP), Some(authority));
        }
        *request.uri_mut() = Uri::from_parts(uri).map_err(|_| wrong("the URL can't be passed on"))?;
        let sent = self.send(target, request).await;
        sent.map_err(|error| {
            let sentence = format!(
                "The network proxy of this program: {}:{} gave no answer: {error}.",
                wish.host.in_url(),
                wish.port
            );
            (StatusCode::BAD_GATEWAY, sentence)
        })
    }

    async fn send(&self, target: Stream, request: Request<Incoming>) -> hyper::Result<Response<AnyBody>> {
        let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
            .preserve_header_case(true)
            .max_buf_size(self.head_bytes.saturating_mul(4))
            .max_headers(MOST_HEADERS)
            .handshake(TokioIo::new(target))
            .await?;
        let connection = tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a proxied connection ended");
            }
        });
        let connection = Connection(connection.abort_handle());
        let mut response = sender.send_request(request).await?;
        strip(response.headers_mut());
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(say(
                StatusCode::BAD_GATEWAY,
                "The host changed the protocol without being asked.".into(),
            ));
        }
        Ok(response.map(|body| HostBody { body, _connection: connection }.boxed()))
    }
}

/// Where a request wants to go. Host and URL have to agree, or the request could reach another host than the one judged.
fn wish_of(
    request: &Request<Incoming>,
    protocol: Protocol,
    authority: Option<&Authority>,
    default_port: Option<u16>,
) -> Result<Wish, Said> {
    let unclear = || wrong("name one host and port to go to");
    let authority = authority.ok_or_else(unclear)?;
    let (host, port) = parts(authority).ok_or_else(unclear)?;
    let port = port.or(default_port).filter(|port| *port != 0).ok_or_else(unclear)?;
    let mut named = request.headers().get_all(header::HOST).iter();
    // Nobody behind the proxy reads this header of a tunnel.
    if protocol != Protocol::HttpsConnect
        && let Some(name) = named.next()
    {
        let name: Option<Authority> = name.to_str().ok().and_then(|name| name.parse().ok());
        let agrees = name
            .as_ref()
            .and_then(parts)
            .is_some_and(|(other, other_port)| other == host && other_port.is_none_or(|other| other == port));
        if !agrees || named.next().is_some() {
            return Err(wrong("the Host header names another host than the request line"));
        }
    }
    let method = Some(request.method().as_str().to_owned());
    Ok(Wish { protocol, host, port, method, has_body: false })
}

/// Host and port, if there is nothing else.
fn parts(authority: &Authority) -> Option<(HostName, Option<u16>)> {
    let host = authority.host();
    let behind = authority.as_str().strip_prefix(host)?;
    let port = match behind.strip_prefix(':') {
        None if behind.is_empty() => None,
        Some("") => None,
        Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(digits.parse().ok()?),
        _ => return None,
    };
    Some((HostName::parse(host).ok()?, port))
}

const CHUNKED: &str = "chunked";

/// Whether the body comes in chunks. Any further coding would be lost together with its header.
fn is_chunked(headers: &HeaderMap) -> Result<bool, Said> {
    let mut codings = headers.get_all(header::TRANSFER_ENCODING).iter();
    match (codings.next(), codings.next()) {
        (None, _) => Ok(false),
        (Some(only), None) if only.as_bytes().trim_ascii().eq_ignore_ascii_case(CHUNKED.as_bytes()) => {
            Ok(true)
        }
        _ => Err((
            StatusCode::NOT_IMPLEMENTED,
            "The network proxy of this program knows no other Transfer-Encoding than chunked.".to_owned(),
        )),
    }
}

/// Takes off what concerns one connection only.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    // The length is that of the request itself, whatever its headers say.
    for name in named.iter().chain(&OF_ONE_HOP).filter(|name| **name != header::CONTENT_LENGTH) {
        headers.remove(name);
    }
}

/// A status and what people read.
type Said = (StatusCode, String);

fn wrong(what: &str) -> Said {
    (StatusCode::BAD_REQUEST, format!("The network proxy of this program can't take the request: {what}."))
}

fn said(refusal: ProxyRefusal) -> Said {
    let status = match refusal.kind {
        Kind::Forbidden => StatusCode::FORBIDDEN,
        Kind::NotFound | Kind::Unreachable => StatusCode::BAD_GATEWAY,
        Kind::TimedOut => StatusCode::GATEWAY_TIMEOUT,
    };
    (status, refusal.sentence)
}

fn say(status: StatusCode, mut sentence: String) -> Response<AnyBody> {
    sentence.push('\n');
    let mut response = Response::new(Full::from(sentence).map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    let text = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, text);
    response
}

/// A connection to a host; it ends when dropped.
struct Connection(AbortHandle);

impl Drop for Connection {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A host's answer, with the connection that it comes over.
struct HostBody {
    body: Incoming,
    _connection: Connection,
}

impl Body for HostBody {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<hyper::Result<Frame<Bytes>>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
