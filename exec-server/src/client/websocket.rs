//! Makes websocket connections, straight to a server or to a rendezvous.

use std::path::Path;

use codex_outgoing::{DialError, Outgoing, is_loopback};
use codex_relay::{HarnessStream, RelayLimits, StreamId};
use tokio::net::UnixStream;
use tokio_tungstenite::tungstenite::Error as WsError;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::handshake::client::Request;
use tokio_tungstenite::tungstenite::http::{HeaderMap, header};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use url::Url;

use super::ClientOptions;
use super::endpoint::Bearer;
use super::link::{LONGEST_MESSAGE, LinkReader, LinkWriter, Socket, websocket};
use super::relayed;
use crate::protocol::registry::REJECTION_HEADER;

/// Why a websocket was not made.
#[derive(Debug, thiserror::Error)]
pub(super) enum UpgradeError {
    /// The server answered with another status, and maybe a reason.
    #[error("the upgrade was refused with status {0}{1}")]
    Status(u16, String),
    /// A server, and no rendezvous, wants a bearer token, or another one.
    #[error("it lets nobody in without a good bearer token")]
    Unauthorized,
    /// Nobody listens at the address: there is no server.
    #[error("{0}")]
    Nobody(String),
    /// Anything else, as a sentence.
    #[error("{0}")]
    Other(String),
}

/// Whether a connection failed because nobody listens.
pub(super) fn is_nobody(error: &std::io::Error) -> bool {
    use std::io::ErrorKind::{ConnectionRefused, NotFound};
    matches!(error.kind(), ConnectionRefused | NotFound)
}

/// A server, or one stream through a rendezvous when the URL says so.
pub(super) async fn open_websocket(
    url: &str,
    bearer: Option<&Bearer>,
    options: &ClientOptions,
) -> Result<(LinkReader, LinkWriter), UpgradeError> {
    let socket = open_socket(url, bearer, LONGEST_MESSAGE, &options.outgoing).await;
    if !is_relay(url) {
        return socket.map(websocket).map_err(|error| match error {
            UpgradeError::Status(401, _) => UpgradeError::Unauthorized,
            error => error,
        });
    }
    let socket = socket?;
    let stream = HarnessStream::plain(StreamId::random(), RelayLimits::default());
    let (reader, writer) = relayed::open(socket, stream, options)
        .await
        .map_err(|error| UpgradeError::Other(error.to_string()))?;
    Ok((LinkReader::Relay(Box::new(reader)), LinkWriter::Relay(Box::new(writer))))
}

/// Whether a URL leads to a rendezvous: its query has exactly the pair `role=harness` (`remote.md` 9.1).
pub(super) fn is_relay(url: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|pair| pair.split_once('=') == Some(("role", "harness")))
}

/// Whether a server's `ws` or `wss` URL can be used at all, with a token if there is one; asks nobody.
///
/// # Errors
/// A sentence for whoever wrote it, without any secret.
pub(super) fn check_url(url: &str, with_bearer: bool) -> Result<Url, String> {
    let parsed = Url::parse(url).map_err(|error| format!("not a URL: {error}"))?;
    let secure = match parsed.scheme() {
        "ws" => false,
        "wss" => true,
        scheme => return Err(format!("the scheme {scheme:?} is not ws or wss")),
    };
    if !parsed.username().is_empty() || parsed.password().is_some() {
        return Err(
            "a user name or password in the URL is never sent; give --token-file or a bearer token".into()
        );
    }
    if with_bearer && !secure && !is_loopback(&parsed) {
        return Err("a bearer token is only sent over wss:// or to a loopback address".into());
    }
    Ok(parsed)
}

/// The upgraded socket; a message of more than `longest` bytes ends it.
pub(super) async fn open_socket(
    url: &str,
    bearer: Option<&Bearer>,
    longest: usize,
    outgoing: &Outgoing,
) -> Result<Socket, UpgradeError> {
    let other = |error: &dyn std::fmt::Display| UpgradeError::Other(error.to_string());
    let parsed = check_url(url, bearer.is_some()).map_err(UpgradeError::Other)?;
    let request = request(url, bearer)?;
    let stream = outgoing.dial(&parsed).await.map_err(|error| match error {
        DialError::Server(error) if is_nobody(&error) => UpgradeError::Nobody(error.to_string()),
        error => other(&error),
    })?;
    let connector = Some(outgoing.connector(&parsed).await.map_err(|error| other(&error))?);
    let config = Some(bounds(longest));
    match tokio_tungstenite::client_async_tls_with_config(request, stream, config, connector).await {
        Ok((socket, _)) => Ok(socket),
        Err(error) => Err(refused(error)),
    }
}

/// A websocket over a Unix socket, for the token's sake: lines can't show one.
pub(super) async fn open_unix(
    path: &Path,
    bearer: &Bearer,
) -> Result<(LinkReader, LinkWriter), UpgradeError> {
    let request = request("ws://localhost/", Some(bearer))?;
    let stream = UnixStream::connect(path).await.map_err(|error| match is_nobody(&error) {
        true => UpgradeError::Nobody(error.to_string()),
        false => UpgradeError::Other(error.to_string()),
    })?;
    let upgraded =
        tokio_tungstenite::client_async_with_config(request, stream, Some(bounds(LONGEST_MESSAGE))).await;
    match upgraded.map_err(refused) {
        Ok((socket, _)) => Ok(websocket(socket)),
        Err(UpgradeError::Status(401, _)) => Err(UpgradeError::Unauthorized),
        Err(error) => Err(error),
    }
}

fn request(url: &str, bearer: Option<&Bearer>) -> Result<Request, UpgradeError> {
    let mut request = url.into_client_request().map_err(|error| UpgradeError::Other(error.to_string()))?;
    if let Some(bearer) = bearer {
        request.headers_mut().insert(header::AUTHORIZATION, bearer.header().map_err(UpgradeError::Other)?);
    }
    Ok(request)
}

fn bounds(longest: usize) -> WebSocketConfig {
    WebSocketConfig::default()
        .max_message_size(Some(longest))
        .max_frame_size(Some(longest))
        .read_buffer_size(64 << 10)
}

fn refused(error: WsError) -> UpgradeError {
    match error {
        WsError::Http(response) => {
            UpgradeError::Status(response.status().as_u16(), rejection(response.headers()))
        }
        error => UpgradeError::Other(error.to_string()),
    }
}

/// What the rendezvous says of its refusal, if it is one of its words.
fn rejection(headers: &HeaderMap) -> String {
    let word = headers.get(REJECTION_HEADER).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let plain = word.len() <= 64 && word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    if plain && !word.is_empty() { format!(" ({word})") } else { String::new() }
}

/// A URL as messages may show it: without query and user info, which may hold secrets.
pub(super) fn public_url(url: &str) -> String {
    let Ok(mut public) = Url::parse(url) else { return "the given URL".into() };
    public.set_query(None);
    public.set_fragment(None);
    // Both only fail for URLs that can't have user info.
    let _ = public.set_username("");
    let _ = public.set_password(None);
    public.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_exact_pair_makes_a_url_a_relay() {
        for relay in
            ["ws://h/p?role=harness", "ws://h?a=b&role=harness&c", "ws://h?x=role=harness&role=harness"]
        {
            assert!(is_relay(relay), "{relay}");
        }
        for direct in [
            "ws://h",
            "ws://h?role=executor",
            "ws://h?Role=harness",
            "ws://h?role=harness2",
            "ws://h?xrole=harness",
        ] {
            assert!(!is_relay(direct), "{direct}");
        }
    }

    #[test]
    fn messages_show_no_secret_of_a_url() {
        assert_eq!(public_url("wss://user:pw@h/p?ticket=sesame#f"), "wss://h/p");
    }
}
