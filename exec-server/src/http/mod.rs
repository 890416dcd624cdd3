//! HTTP requests made from this machine.
//!
//! Section 11. The transport is reqwest with rustls; its clients are built at the first request, so
//! that a server nobody asks for HTTP pays nothing for it. Proxies are taken from the usual
//! environment variables, as the released servers do.

mod body;
mod decoding;
mod failure;
mod headers;
mod redirect;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::fmt;
use std::time::Duration;

use codex_exec_protocol::http::{RedirectPolicy, RequestParams, RequestResult};
use codex_exec_protocol::{Base64Bytes, RpcError};
use codex_outgoing::{Outgoing, OutgoingError};
use reqwest::header::ACCEPT_ENCODING;
use reqwest::redirect as redirect_policy;
use reqwest::{Client, ClientBuilder, Method, Request, Response, Url};
use tokio::sync::OnceCell;
use tokio::time::Instant;

pub use body::{BodyStream, Deltas};

use crate::Limits;
use crate::blocking;
use crate::budget::{Budget, Claim, answer_bytes};
use decoding::{BROKEN, Broken, Coding, Unpacker};

/// Idle connections kept for one host, and how long: enough for a burst, nothing to speak of at rest.
/// Chosen for speed.
const IDLE_CONNECTIONS: usize = 8;
/// Chosen for speed.
const IDLE_TIME: Duration = Duration::from_secs(30);

/// Bytes of a body without announced length that are read before more memory than that is claimed.
const UNCLAIMED: usize = 256 << 10;

/// Looks up a variable of the server's environment.
type Lookup = Box<dyn Fn(&str) -> Option<OsString> + Send + Sync>;

/// For fuzzing: the headers that a request would be sent with.
///
/// # Errors
/// Those of `http/request` (11.1).
#[cfg(feature = "fuzzing")]
pub fn headers_to_send(
    headers: &[codex_exec_protocol::http::RequestHeader],
    variable: &dyn Fn(&str) -> Option<OsString>,
) -> Result<reqwest::header::HeaderMap, RpcError> {
    headers::to_send(headers, variable)
}

/// For fuzzing: what a body unpacks to that arrives in chunks of this size, with `zstd` or as gzip, and whether it may end
/// where it does; no piece may be longer than 128 KiB.
#[cfg(feature = "fuzzing")]
pub fn unpacked(zstd: bool, body: &[u8], chunk: usize) -> (Vec<u8>, bool) {
    let coding = if zstd { Coding::Zstd } else { Coding::Gzip };
    let mut text = Vec::new();
    let Ok(mut unpacker) = Unpacker::new(coding) else { return (text, false) };
    for chunk in body.chunks(chunk.max(1)) {
        unpacker.take(bytes::Bytes::copy_from_slice(chunk));
        loop {
            match unpacker.next() {
                Ok(Some(piece)) => {
                    assert!(!piece.is_empty() && piece.len() <= 128 << 10, "a piece of {}", piece.len());
                    text.extend_from_slice(&piece);
                }
                Ok(None) => break,
                Err(Broken) => return (text, false),
            }
        }
    }
    let whole = unpacker.finish().is_ok();
    (text, whole)
}

/// Makes HTTP requests. Cheap to construct; share it behind an `Arc`.
pub struct LocalHttp {
    client: OnceCell<Client>,
    /// For addresses without TLS, where the certificates can't be used.
    plain: OnceCell<Client>,
    variable: Lookup,
    redirects: usize,
    body_bytes: usize,
    response_headers: usize,
    longest_wait: Duration,
}

impl fmt::Debug for LocalHttp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalHttp").field("redirects", &self.redirects).finish_non_exhaustive()
    }
}

/// A request that passed every check, and when it must be over.
struct Prepared {
    request: Request,
    /// The URL without user info, query and fragment: what an error may show.
    shown: String,
    deadline: Deadline,
}

/// The end of a request's time, its body included.
#[derive(Debug, Clone, Copy)]
struct Deadline {
    at: Option<Instant>,
    milliseconds: u64,
}

impl Deadline {
    /// # Errors
    /// The sentence about a time that is up.
    async fn watch<T>(self, work: impl Future<Output = T>) -> Result<T, String> {
        match self.at {
            None => Ok(work.await),
            Some(at) => tokio::time::timeout_at(at, work)
                .await
                .map_err(|_| format!("timed out after timeoutMs = {}", self.milliseconds)),
        }
    }
}

impl LocalHttp {
    /// Bounds come from `limits`; `variable` looks up the server's environment for
    /// `headers[].valueEnvVar`.
    pub fn new(limits: &Limits, variable: impl Fn(&str) -> Option<OsString> + Send + Sync + 'static) -> Self {
        Self {
            client: OnceCell::new(),
            plain: OnceCell::new(),
            variable: Box::new(variable),
            redirects: limits.http.http_redirects,
            body_bytes: limits.http.http_body_bytes,
            response_headers: limits.http.http_response_headers,
            longest_wait: limits.connection.longest_wait,
        }
    }

    /// Makes one request and reads its whole body.
    ///
    /// # Errors
    /// `-32602` for params that make no request; `-32603` when no answer came, the body broke, the
    /// time was up, or the body is larger than [`Limits::http_body_bytes`].
    pub async fn request(&self, params: RequestParams) -> Result<RequestResult, RpcError> {
        let alone = Budget::new(self.body_bytes);
        Ok(self.request_within(params, &alone).await?.0)
    }

    /// As [`Self::request`], with the memory for the body claimed before it is read.
    pub(crate) async fn request_within(
        &self,
        params: RequestParams,
        bodies: &Budget,
    ) -> Result<(RequestResult, Claim), RpcError> {
        let (mut head, mut body) = self.open_stream(params).await?;
        let too_large = || {
            RpcError::internal(format!(
                "response body is larger than {} bytes; set streamResponse to receive it in pieces",
                self.body_bytes
            ))
        };
        let expected = body.expected();
        if expected.is_some_and(|expected| expected > self.body_bytes as u64) {
            return Err(too_large());
        }
        let small = answer_bytes(expected.unwrap_or(UNCLAIMED as u64));
        let mut claim = body.watch(bodies.claim(small)).await.map_err(broke)?;
        // The length is the peer's word: believe it only as far as it costs nothing.
        let mut bytes =
            Vec::with_capacity(usize::try_from(expected.unwrap_or(0)).unwrap_or(0).min(UNCLAIMED));
        let mut claimed_all = expected.is_some();
        while let Some(piece) = body.next().await {
            let piece = piece.map_err(broke)?;
            if piece.len() > self.body_bytes.saturating_sub(bytes.len()) {
                return Err(too_large());
            }
            if !claimed_all && bytes.len() + piece.len() > UNCLAIMED {
                // Without an announced length nobody knows how much more. The small claim goes first: two that wait for
                // all while each holds a part would wait for ever.
                drop(claim);
                claim = body.watch(bodies.claim_all()).await.map_err(broke)?;
                claimed_all = true;
            }
            bytes.extend_from_slice(&piece);
        }
        head.body = Base64Bytes(bytes);
        Ok((head, claim))
    }

    /// Makes one request and returns after the response's headers: the result with an empty body,
    /// and the body to come. Dropping either, or this future, ends the request.
    ///
    /// # Errors
    /// As [`Self::request`]'s, but for those of the body.
    pub async fn open_stream(&self, params: RequestParams) -> Result<(RequestResult, BodyStream), RpcError> {
        let policy = params.redirect_policy;
        let prepared = self.prepare(params)?;
        let failed =
            |why: String| RpcError::internal(format!("HTTP request to {} failed: {why}", prepared.shown));
        if prepared.deadline.milliseconds == 0 && prepared.deadline.at.is_some() {
            return Err(failed("timed out at once, since timeoutMs is 0; leave it out for no limit".into()));
        }
        let work = self.follow(prepared.request, policy);
        let response = prepared.deadline.watch(work).await.and_then(|outcome| outcome).map_err(failed)?;
        let coding = Coding::of(response.headers());
        let head = RequestResult {
            status: response.status().as_u16(),
            headers: headers::received(response.headers(), coding.is_some()),
            body: Base64Bytes::default(),
        };
        let unpacker = coding.map(Unpacker::new).transpose().map_err(|Broken| broke(BROKEN.to_owned()))?;
        Ok((head, BodyStream::new(response, unpacker, prepared.deadline)))
    }

    fn prepare(&self, params: RequestParams) -> Result<Prepared, RpcError> {
        let method = Method::from_bytes(params.method.as_bytes()).map_err(|_| {
            let shown: String = params.method.chars().take(50).collect();
            RpcError::invalid_params(format!("invalid HTTP method {shown:?}: expected a token such as GET"))
        })?;
        let url = Url::parse(&params.url).map_err(|e| {
            RpcError::invalid_params(format!(
                "invalid url: {e}; expected an absolute http:// or https:// URL"
            ))
        })?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(RpcError::invalid_params(format!(
                "url has the scheme {:?}; only http and https are served",
                url.scheme()
            )));
        }
        let headers = headers::to_send(&params.headers, &*self.variable)?;
        headers::check_length(&headers, params.body.as_ref().map_or(0, |body| body.0.len()))?;
        let deadline = self.deadline(params.timeout_ms);
        let shown = failure::shown(&url);
        // User info becomes basic auth; an authorization header of the client's own wins.
        let credentials = failure::user_info(&url);
        let mut request = Request::new(method, failure::without_user_info(url));
        if let Some(value) = credentials
            && !headers.contains_key(reqwest::header::AUTHORIZATION)
        {
            request.headers_mut().insert(reqwest::header::AUTHORIZATION, value);
        }
        request.headers_mut().extend(headers);
        request.headers_mut().entry(ACCEPT_ENCODING).or_insert(decoding::ACCEPTED);
        if let Some(Base64Bytes(body)) = params.body {
            *request.body_mut() = Some(body.into());
        }
        Ok(Prepared { request, shown, deadline })
    }

    fn deadline(&self, timeout_ms: Option<u64>) -> Deadline {
        let Some(milliseconds) = timeout_ms else { return Deadline { at: None, milliseconds: 0 } };
        let time = Duration::from_millis(milliseconds).min(self.longest_wait);
        Deadline { at: Some(Instant::now() + time), milliseconds }
    }

    /// Sends a request, and those that its answers lead to.
    async fn follow(&self, mut request: Request, policy: RedirectPolicy) -> Result<Response, String> {
        let mut left = self.redirects;
        loop {
            // A body of ours is in memory: it can be sent again.
            let sent = request.try_clone().ok_or("the body can't be sent")?;
            let response = self.send(request).await?;
            if policy == RedirectPolicy::Stop {
                return Ok(response);
            }
            let Some(next) = redirect::next(&sent, &response)? else { return Ok(response) };
            left = left.checked_sub(1).ok_or("error following redirect: too many redirects")?;
            request = next;
        }
    }

    /// Sends one request; once more where the peer hung up on a connection that was kept from before, as it may at any
    /// time, and a second one does no harm.
    async fn send(&self, request: Request) -> Result<Response, String> {
        let client = self.client(request.url().scheme() == "https").await?;
        let again = match *request.method() {
            Method::GET | Method::HEAD => request.try_clone(),
            _ => None,
        };
        match (client.execute(request).await, again) {
            (Err(error), Some(again)) if failure::hung_up(&error) => {
                client.execute(again).await.map_err(failure::sentence)
            }
            (outcome, _) => outcome.map_err(failure::sentence),
        }
    }

    async fn client(&self, secure: bool) -> Result<&Client, String> {
        let made = self.client.get_or_try_init(|| async {
            // Reads the machine's certificates: milliseconds that no other request should wait.
            let (outgoing, headers) = (self.outgoing(), self.response_headers);
            let built = blocking::spawn(move || build(outgoing.http_as_usual(), headers));
            built.await.map_err(|error| error.to_string())?
        });
        match made.await {
            Err(_) if !secure => {
                let plain = || async { build(self.outgoing().plain_http_as_usual(), self.response_headers) };
                self.plain.get_or_try_init(plain).await
            }
            made => made,
        }
    }

    fn outgoing(&self) -> Outgoing {
        Outgoing::from_lookup(|name| (self.variable)(name)?.into_string().ok())
    }
}

fn broke(why: String) -> RpcError {
    RpcError::internal(format!("failed to read http/request response body: {why}"))
}

fn build(builder: Result<ClientBuilder, OutgoingError>, headers: usize) -> Result<Client, String> {
    builder
        .map_err(|error| error.to_string())?
        .http1_max_headers(headers)
        .redirect(redirect_policy::Policy::none())
        .pool_max_idle_per_host(IDLE_CONNECTIONS)
        .pool_idle_timeout(IDLE_TIME)
        .build()
        .map_err(failure::sentence)
}
