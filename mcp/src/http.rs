//! The tools over HTTP: streamable HTTP of the Model Context Protocol, at `/mcp`, for many clients at once.
//!
//! Who may connect is decided before a byte of a request is looked at: the token, and the `Origin` that a browser sends for
//! a page that it shows.

use std::convert::Infallible;
use std::sync::Arc;

use codex_secret::Secret;
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tower_service::Service as _;

use crate::server::Lender;

/// Where the tools are.
const PATH: &str = "/mcp";

/// Who may use the tools over HTTP.
#[derive(Debug, Clone, Default)]
pub struct HttpAccess {
    /// The token that each request has to bear; without it every request is let in.
    pub token: Option<Secret>,
    /// Origins of web pages that may use the tools, as `https://host:port`; others are refused.
    pub origins: Vec<String>,
}

type Service = StreamableHttpService<Lender, LocalSessionManager>;
type HttpResponse = Response<BoxBody<Bytes, Infallible>>;

/// Serves the tools on a listener, until this is dropped.
pub async fn serve_http(listener: TcpListener, lender: Lender, access: HttpAccess) {
    let limits = lender.limits().clone();
    let loopback = listener.local_addr().is_ok_and(|address| address.ip().is_loopback());
    let mut config = StreamableHttpServerConfig::default().with_allowed_origins(&access.origins);
    if access.origins.is_empty() {
        config = config.enforce_origin_validation();
    }
    if !loopback {
        // A name that leads here from elsewhere is no sign of a trick, and the token is asked for.
        config = config.disable_allowed_hosts();
    }
    let service = Service::new(move || Ok(lender.clone()), Arc::new(LocalSessionManager::default()), config);
    let (access, places) = (Arc::new(access), Arc::new(Semaphore::new(limits.http_connections)));
    let mut connections = tokio::task::JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        let socket = match listener.accept().await {
            Ok((socket, _)) => socket,
            Err(error) => {
                tracing::warn!(%error, "can't accept a connection");
                // Descriptors may be short: those that there are end in time.
                tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                continue;
            }
        };
        // Without it each answer would wait for a delayed acknowledgement.
        let _ = socket.set_nodelay(true);
        let (service, access) = (service.clone(), Arc::clone(&access));
        let head_time = limits.http_head_time;
        connections.spawn(async move {
            let answer = service_fn(move |request| answer(service.clone(), Arc::clone(&access), request));
            let mut http = http1::Builder::new();
            let serving = http
                .timer(TokioTimer::new())
                .header_read_timeout(head_time)
                .serve_connection(TokioIo::new(socket), answer);
            // How a client goes is its own matter.
            let _ = serving.await;
            drop(place);
        });
    }
}

async fn answer(
    mut service: Service,
    access: Arc<HttpAccess>,
    request: Request<Incoming>,
) -> Result<HttpResponse, Infallible> {
    if request.uri().path() != PATH {
        return Ok(plain(StatusCode::NOT_FOUND, "the tools are at /mcp\n"));
    }
    if !access.lets_in(&request) {
        let mut refusal =
            plain(StatusCode::UNAUTHORIZED, "this server wants its token as Authorization: Bearer\n");
        refusal.headers_mut().insert(WWW_AUTHENTICATE, hyper::header::HeaderValue::from_static("Bearer"));
        return Ok(refusal);
    }
    let ends_session = request.method() == Method::DELETE;
    let mut answer = service.call(request).await?;
    // The official Python library warns of any other answer to the end of a session.
    if ends_session && answer.status() == StatusCode::ACCEPTED {
        *answer.status_mut() = StatusCode::NO_CONTENT;
    }
    Ok(answer)
}

fn plain(status: StatusCode, text: &'static str) -> HttpResponse {
    let mut answer = Response::new(Full::new(Bytes::from_static(text.as_bytes())).boxed());
    *answer.status_mut() = status;
    answer
}

impl HttpAccess {
    fn lets_in(&self, request: &Request<Incoming>) -> bool {
        let Some(token) = &self.token else { return true };
        let given = request.headers().get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let Some((scheme, given)) = given.and_then(|value| value.split_once(' ')) else { return false };
        scheme.eq_ignore_ascii_case("bearer") && Secret::from(given.trim()) == *token
    }
}
