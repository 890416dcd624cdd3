//! Makes a websocket to whoever answers at a URL: a server, or a rendezvous.

use codex_exec_protocol::registry::REJECTION_HEADER;
use codex_outgoing::{DialError, Outgoing, Stream};
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::{HeaderMap, StatusCode};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use url::Url;

use super::last_heard::{HeardStream, LastHeard};

/// Read at once; several small frames, or a good part of a large one. Chosen for speed.
const READ_BYTES: usize = 64 << 10;

/// The words a rendezvous may give for a refusal; others are not repeated (8.1).
const REJECTIONS: [&str; 17] = [
    "expired",
    "missing_role",
    "missing_expiry",
    "missing_signature",
    "missing_version",
    "missing_executor_registration_id",
    "unexpected_executor_registration_id",
    "malformed_query",
    "invalid_role",
    "invalid_expiry",
    "invalid_signature",
    "invalid_secret",
    "extra_query_param",
    "pod_draining",
    "unknown_route",
    "wrong_rendezvous_cluster",
    "route_unavailable",
];

/// An open websocket over whatever stream leads to the peer.
pub(crate) type Socket = WebSocketStream<MaybeTlsStream<HeardStream<Stream>>>;

/// Why a websocket was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpgradeError {
    /// The server answered with another status, and maybe one of the words for a refusal.
    #[error("the upgrade was refused with status {}{}", .0.as_u16(), in_brackets(*.1))]
    Status(StatusCode, Option<&'static str>),
    /// Nobody listens at the address: there is no server.
    #[error("{0}")]
    Nobody(std::io::Error),
    /// The websocket's library failed.
    #[error("{0}")]
    Socket(Box<WsError>),
    /// Anything else, as a sentence.
    #[error("{0}")]
    Other(String),
}

/// Text for after a status.
pub(crate) fn in_brackets(word: Option<&str>) -> String {
    word.map_or_else(String::new, |word| format!(" ({word})"))
}

/// Asks for a websocket at `url` as it stands, with these headers; a message of more than `longest` bytes ends it. With it
/// comes what tells whether the peer says anything.
pub(crate) async fn upgrade(
    url: &Url,
    request: Request,
    longest: usize,
    outgoing: &Outgoing,
) -> Result<(Socket, LastHeard), UpgradeError> {
    let other = |error: &dyn std::fmt::Display| UpgradeError::Other(error.to_string());
    let stream = outgoing.dial(url).await.map_err(|error| match error {
        DialError::Server(error) if is_nobody(&error) => UpgradeError::Nobody(error),
        error => other(&error),
    })?;
    let (stream, last_heard) = HeardStream::new(stream);
    let connector = Some(outgoing.connector(url).await.map_err(|error| other(&error))?);
    let config = Some(bounds(longest));
    match tokio_tungstenite::client_async_tls_with_config(request, stream, config, connector).await {
        Ok((socket, _)) => Ok((socket, last_heard)),
        Err(error) => Err(refused(error)),
    }
}

/// The request of an upgrade.
pub(crate) fn request(url: &str, headers: HeaderMap) -> Result<Request, UpgradeError> {
    let mut request = url.into_client_request().map_err(|error| UpgradeError::Socket(Box::new(error)))?;
    request.headers_mut().extend(headers);
    Ok(request)
}

/// How a websocket of ours reads.
pub(crate) fn bounds(longest: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(longest))
        .max_frame_size(Some(longest))
        .read_buffer_size(READ_BYTES)
}

/// Tells a refusal from a failure.
pub(crate) fn refused(error: WsError) -> UpgradeError {
    let WsError::Http(answer) = error else { return UpgradeError::Socket(Box::new(error)) };
    let word = answer.headers().get(REJECTION_HEADER).and_then(|value| value.to_str().ok());
    let word = word.and_then(|word| REJECTIONS.into_iter().find(|known| *known == word));
    UpgradeError::Status(answer.status(), word)
}

/// Whether a connection failed because nobody listens.
pub(crate) fn is_nobody(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    matches!(error.kind(), ConnectionRefused | NotFound)
}
