//! The callback server: turns HTTP requests on a local port into visits that the sign-in answers one by one.

use std::convert::Infallible;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderValue, LOCATION, REFERRER_POLICY,
};
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode, Uri};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::task::{JoinHandle, JoinSet};

/// Connections at once; a further one waits in the system's queue.
const CONNECTIONS: usize = 64;
/// How long a connection may take to send its request: browsers open some ahead of need.
/// A safeguard, far from any real use.
const HEAD_TIME: Duration = Duration::from_secs(30);
/// How long the last answer may take to go out. A safeguard, far from any real use.
const FLUSH_TIME: Duration = Duration::from_secs(2);
/// The pause after a connection that could not be accepted, when the process has no file descriptors left.
/// Our own pace: nothing outside depends on it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// One request, which waits for its answer. Dropping it answers 503.
pub(super) struct Visit {
    /// Path and query.
    pub(super) uri: Uri,
    answer: oneshot::Sender<Reply>,
}

impl Visit {
    /// Answers the request.
    pub(super) fn answer(self, reply: Reply) {
        // A visitor that has left needs no answer.
        let _ = self.answer.send(reply);
    }
}

/// What a visit is answered with.
#[derive(Debug, Clone)]
pub(super) enum Reply {
    Text(StatusCode, &'static str),
    Page(String),
    Redirect(String),
}

impl Reply {
    fn into_response(self) -> Response<String> {
        let (status, content_type, location, body) = match self {
            Self::Text(status, text) => (status, "text/plain; charset=utf-8", None, text.to_owned()),
            Self::Page(page) => (StatusCode::OK, "text/html; charset=utf-8", None, page),
            Self::Redirect(url) => (StatusCode::FOUND, "text/plain; charset=utf-8", Some(url), String::new()),
        };
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        headers.insert(REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
        headers.insert(
            CONTENT_SECURITY_POLICY,
            HeaderValue::from_static("default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"),
        );
        if let Some(location) = location.and_then(|url| HeaderValue::from_str(&url).ok()) {
            headers.insert(LOCATION, location);
        }
        response
    }
}

/// A running callback server; dropping it ends it at once.
pub(super) struct CallbackServer {
    visits: mpsc::Receiver<Visit>,
    stop: watch::Sender<()>,
    task: JoinHandle<()>,
}

impl CallbackServer {
    /// Serves on this listener.
    pub(super) fn start(listener: TcpListener) -> Self {
        let (sender, visits) = mpsc::channel(1);
        let (stop, stopped) = watch::channel(());
        Self { visits, stop, task: tokio::spawn(accept(listener, sender, stopped)) }
    }

    /// Waits for the next visit.
    pub(super) async fn next(&mut self) -> Visit {
        match self.visits.recv().await {
            Some(visit) => visit,
            // The accepting task ends only after `finish`.
            None => std::future::pending().await,
        }
    }

    /// Stops listening and waits, for a while, until the answers given so far are out.
    pub(super) async fn finish(mut self) {
        self.visits.close();
        while self.visits.try_recv().is_ok() {}
        let _ = self.stop.send(());
        let _ = tokio::time::timeout(FLUSH_TIME, &mut self.task).await;
    }
}

impl Drop for CallbackServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn accept(listener: TcpListener, visits: mpsc::Sender<Visit>, mut stopped: watch::Receiver<()>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept(), if connections.len() < CONNECTIONS => match accepted {
                Ok((stream, _)) => {
                    connections.spawn(serve(stream, visits.clone(), stopped.clone()));
                }
                Err(error) => {
                    tracing::warn!(%error, "can't accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            },
            Some(_) = connections.join_next() => {}
            _ = stopped.changed() => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}

async fn serve(stream: TcpStream, visits: mpsc::Sender<Visit>, mut stopped: watch::Receiver<()>) {
    let service = service_fn(move |request: Request<Incoming>| {
        let visits = visits.clone();
        async move { Ok::<_, Infallible>(respond(request, &visits).await.into_response()) }
    });
    let mut connection = std::pin::pin!(
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEAD_TIME)
            // One answer for each connection, so that "answered" and "sent" are the same at the end.
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), service)
    );
    let outcome = tokio::select! {
        outcome = connection.as_mut() => outcome,
        _ = stopped.changed() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = outcome {
        tracing::debug!(%error, "a connection of the callback server broke");
    }
}

async fn respond(request: Request<Incoming>, visits: &mpsc::Sender<Visit>) -> Reply {
    let (sender, answer) = oneshot::channel();
    let visit = Visit { uri: request.uri().clone(), answer: sender };
    let over = Reply::Text(StatusCode::SERVICE_UNAVAILABLE, "This sign-in is over");
    match visits.send(visit).await {
        Ok(()) => answer.await.unwrap_or(over),
        Err(_) => over,
    }
}
