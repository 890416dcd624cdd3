//! `rmcp`'s seam for HTTP, over the requests of an environment (11).

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use codex_exec_protocol::http::{RedirectPolicy, RequestHeader, RequestParams, RequestResult};
use codex_exec_server::environment::{BodyError, CallError, Http, Pieces};
use futures_util::StreamExt;
use futures_util::stream::BoxStream;
use hyper::body::Bytes;
use hyper::header::{HeaderName, HeaderValue};
use rmcp::model::{ClientJsonRpcMessage, JsonRpcMessage, ServerJsonRpcMessage};
use rmcp::transport::common::http_header::{
    EVENT_STREAM_MIME_TYPE, HEADER_LAST_EVENT_ID, HEADER_SESSION_ID, JSON_MIME_TYPE,
};
use rmcp::transport::streamable_http_client::{
    AuthRequiredError, SseError, StreamableHttpClient, StreamableHttpError, StreamableHttpPostResponse,
    StreamableHttpResponseLimits,
};
use sse_stream::{Sse, SseStream};

/// What ends a request besides the server's own answers.
#[derive(Debug, thiserror::Error)]
pub enum HttpSeamError {
    /// The environment refused the request, could not make it, or is gone.
    #[error(transparent)]
    Call(#[from] CallError),
    /// The answer broke off.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// An event is longer than the client takes.
    #[error("an event of the server is longer than {0} bytes")]
    LongEvent(usize),
}

type Failed = StreamableHttpError<HttpSeamError>;

fn failed(error: impl Into<HttpSeamError>) -> Failed {
    StreamableHttpError::Client(error.into())
}

/// A header whose value only the environment's machine knows: that of one of its variables, behind a text.
#[derive(Debug, Clone)]
pub struct FarHeader {
    /// The header's name.
    pub name: String,
    /// What stands before the variable's value, for example `Bearer `.
    pub before: String,
    /// The variable of the environment's server; some are refused (11.1).
    pub variable: String,
}

/// Makes the requests of an MCP client from an environment's machine.
#[derive(Clone)]
pub struct EnvironmentHttp {
    http: Arc<dyn Http>,
    headers: Arc<[FarHeader]>,
}

impl std::fmt::Debug for EnvironmentHttp {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EnvironmentHttp").field("headers", &self.headers).finish_non_exhaustive()
    }
}

/// One request, as far as all three kinds are alike.
struct Ask {
    method: &'static str,
    uri: Arc<str>,
    session: Option<Arc<str>>,
    token: Option<String>,
    headers: HashMap<HeaderName, HeaderValue>,
    more: Vec<(&'static str, String)>,
    body: Option<Vec<u8>>,
}

impl EnvironmentHttp {
    /// By the requests of this environment, each with these headers.
    pub fn new(http: Arc<dyn Http>, headers: impl IntoIterator<Item = FarHeader>) -> Self {
        Self { http, headers: headers.into_iter().collect() }
    }

    async fn send(&self, ask: Ask) -> Result<(RequestResult, Pieces), Failed> {
        let header = |name: &str, value: &str| RequestHeader {
            name: name.to_owned(),
            value: value.to_owned(),
            value_env_var: None,
        };
        let mut headers: Vec<_> = ask.more.iter().map(|(name, value)| header(name, value)).collect();
        if let Some(session) = &ask.session {
            headers.push(header(HEADER_SESSION_ID, session));
        }
        if let Some(token) = &ask.token {
            headers.push(header("authorization", &format!("Bearer {token}")));
        }
        for (name, value) in &ask.headers {
            let unfit =
                || StreamableHttpError::UnexpectedServerResponse(Cow::from(format!("{name} is no text")));
            headers.push(header(name.as_str(), value.to_str().map_err(|_| unfit())?));
        }
        headers.extend(self.headers.iter().map(|far| RequestHeader {
            name: far.name.clone(),
            value: far.before.clone(),
            value_env_var: Some(far.variable.clone()),
        }));
        let params = RequestParams {
            method: ask.method.into(),
            url: ask.uri.to_string(),
            headers,
            body: ask.body.map(Into::into),
            timeout_ms: None,
            // A redirect could lead a session and its token elsewhere.
            redirect_policy: RedirectPolicy::Stop,
            request_id: uuid::Uuid::new_v4().simple().to_string(),
            stream_response: true,
        };
        self.http.stream(params).await.map_err(failed)
    }

    async fn post(
        &self,
        ask: Ask,
        message: &ClientJsonRpcMessage,
        limits: StreamableHttpResponseLimits,
    ) -> Posted {
        let in_session = ask.session.is_some();
        let (head, body) = self.send(ask).await?;
        refuse(&head)?;
        match head.status {
            202 | 204 => return Ok(StreamableHttpPostResponse::Accepted),
            404 if in_session => return Err(StreamableHttpError::SessionExpired),
            _ => {}
        }
        let session = value(&head, HEADER_SESSION_ID).map(str::to_owned);
        if head.status / 100 == 2 && is_of(&head, EVENT_STREAM_MIME_TYPE) {
            return Ok(StreamableHttpPostResponse::Sse(events(body, limits.max_sse_event_size), session));
        }
        let waits = matches!(message, ClientJsonRpcMessage::Request(_));
        let most = if head.status / 100 == 2 {
            limits.max_json_response_size
        } else {
            limits.max_error_response_size
        };
        let text = whole(body, most).await?;
        let parsed = serde_json::from_slice::<ServerJsonRpcMessage>(&text);
        match (head.status, parsed) {
            (200..=299, Ok(parsed)) => Ok(StreamableHttpPostResponse::Json(parsed, session)),
            // Whoever waits for no answer needs none that can be read.
            (200..=299, Err(_)) if !waits => Ok(StreamableHttpPostResponse::Accepted),
            (200..=299, Err(error)) => Err(StreamableHttpError::Deserialize(error)),
            (_, Ok(error @ JsonRpcMessage::Error(_))) => Ok(StreamableHttpPostResponse::Json(error, session)),
            (status, _) => Err(unexpected(status, &text)),
        }
    }
}

type Posted = Result<StreamableHttpPostResponse, Failed>;

/// The value of a header of the answer.
fn value<'h>(head: &'h RequestResult, name: &str) -> Option<&'h str> {
    head.headers
        .iter()
        .find(|header| header.name.eq_ignore_ascii_case(name))
        .map(|header| header.value.as_str())
}

fn is_of(head: &RequestResult, kind: &str) -> bool {
    let given = value(head, "content-type").and_then(|given| given.split(';').next());
    given.is_some_and(|given| given.trim().eq_ignore_ascii_case(kind))
}

/// What asks for another authorization is told as such.
fn refuse(head: &RequestResult) -> Result<(), Failed> {
    match (head.status, value(head, "www-authenticate")) {
        (401, Some(challenge)) => {
            Err(StreamableHttpError::AuthRequired(AuthRequiredError::new(challenge.to_owned())))
        }
        _ => Ok(()),
    }
}

fn unexpected(status: u16, text: &[u8]) -> Failed {
    let text: String = String::from_utf8_lossy(text).chars().take(400).collect();
    StreamableHttpError::UnexpectedServerResponse(Cow::from(format!("HTTP {status}: {text}")))
}

async fn whole(mut body: Pieces, most: usize) -> Result<Vec<u8>, Failed> {
    let mut text = Vec::new();
    while let Some(piece) = body.next().await {
        text.extend(piece.map_err(failed)?);
        if text.len() > most {
            return Err(StreamableHttpError::ResponseBodyTooLarge { max_size: most });
        }
    }
    Ok(text)
}

/// Server-sent events, none of them longer than `most`.
fn events(body: Pieces, most: usize) -> BoxStream<'static, Result<Sse, SseError>> {
    let mut since_blank_line = 0;
    let mut before = 0_u8;
    let bounded = body.map(move |piece| {
        let piece = piece?;
        for byte in &piece {
            let ends = matches!((before, byte), (b'\n', b'\n' | b'\r') | (b'\r', b'\r'));
            since_blank_line = if ends { 0 } else { since_blank_line + 1 };
            // The two characters of one line's end count as one.
            if !(before == b'\r' && *byte == b'\n') {
                before = *byte;
            }
        }
        if since_blank_line > most { Err(HttpSeamError::LongEvent(most)) } else { Ok(Bytes::from(piece)) }
    });
    SseStream::from_bytes_stream(bounded).boxed()
}

impl StreamableHttpClient for EnvironmentHttp {
    type Error = HttpSeamError;

    async fn post_message(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Posted {
        let limits = StreamableHttpResponseLimits::default();
        self.post_message_with_response_limits(uri, message, session_id, auth_header, custom_headers, limits)
            .await
    }

    async fn post_message_with_response_limits(
        &self,
        uri: Arc<str>,
        message: ClientJsonRpcMessage,
        session_id: Option<Arc<str>>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        limits: StreamableHttpResponseLimits,
    ) -> Posted {
        let ask = Ask {
            method: "POST",
            uri,
            session: session_id,
            token: auth_header,
            headers: custom_headers,
            more: vec![
                ("content-type", JSON_MIME_TYPE.into()),
                ("accept", format!("{EVENT_STREAM_MIME_TYPE}, {JSON_MIME_TYPE}")),
            ],
            body: Some(serde_json::to_vec(&message)?),
        };
        self.post(ask, &message, limits).await
    }

    async fn delete_session(
        &self,
        uri: Arc<str>,
        session_id: Arc<str>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<(), Failed> {
        let ask = Ask {
            method: "DELETE",
            uri,
            session: Some(session_id),
            token: auth_header,
            headers: custom_headers,
            more: Vec::new(),
            body: None,
        };
        let (head, _) = self.send(ask).await?;
        match head.status {
            // A server need not let its sessions be ended.
            200..=299 | 405 => Ok(()),
            status => Err(unexpected(status, b"")),
        }
    }

    async fn get_stream(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Failed> {
        let most = StreamableHttpResponseLimits::default().max_sse_event_size;
        self.get_stream_with_max_sse_event_size(
            uri,
            session_id,
            last_event_id,
            auth_header,
            custom_headers,
            most,
        )
        .await
    }

    async fn get_stream_with_max_sse_event_size(
        &self,
        uri: Arc<str>,
        session_id: Option<Arc<str>>,
        last_event_id: Option<String>,
        auth_header: Option<String>,
        custom_headers: HashMap<HeaderName, HeaderValue>,
        max_sse_event_size: usize,
    ) -> Result<BoxStream<'static, Result<Sse, SseError>>, Failed> {
        let in_session = session_id.is_some();
        let mut more = vec![("accept", format!("{EVENT_STREAM_MIME_TYPE}, {JSON_MIME_TYPE}"))];
        more.extend(last_event_id.map(|id| (HEADER_LAST_EVENT_ID, id)));
        let ask = Ask {
            method: "GET",
            uri,
            session: session_id,
            token: auth_header,
            headers: custom_headers,
            more,
            body: None,
        };
        let (head, body) = self.send(ask).await?;
        refuse(&head)?;
        match head.status {
            405 => Err(StreamableHttpError::ServerDoesNotSupportSse),
            404 if in_session => Err(StreamableHttpError::SessionExpired),
            200..=299 if is_of(&head, EVENT_STREAM_MIME_TYPE) => Ok(events(body, max_sse_event_size)),
            200..=299 => Err(StreamableHttpError::UnexpectedContentType(
                value(&head, "content-type").map(str::to_owned),
            )),
            status => Err(unexpected(status, &whole(body, 4096).await.unwrap_or_default())),
        }
    }
}
