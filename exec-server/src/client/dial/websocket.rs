//! Makes websocket connections, straight to a server or to a rendezvous.

use std::path::Path;

use codex_outgoing::is_loopback;
use codex_relay::{HarnessStream, RelayLimits, StreamId};
use codex_secret::Secret;
use tokio::net::UnixStream;
use tokio_tungstenite::tungstenite::http::{HeaderMap, HeaderName, HeaderValue, header};
use url::Url;

use super::link::{LONGEST_MESSAGE, LinkReader, LinkWriter, Watch, websocket};
use super::relayed;
use crate::bearer;
use crate::client::options::ClientOptions;
use crate::registry::{LastHeard, Socket, UpgradeError, bounds, is_nobody, refused, request, upgrade};

/// A server, or one stream through a rendezvous when the URL says so.
pub(in crate::client) async fn open_websocket(
    url: &str,
    bearer: Option<&Secret>,
    options: &ClientOptions,
) -> Result<(LinkReader, LinkWriter), UpgradeError> {
    let (socket, last_heard) = open_socket(url, bearer, LONGEST_MESSAGE, options).await?;
    if !is_relay(url) {
        return Ok(websocket(socket, Some(Watch::new(last_heard, options))));
    }
    let stream = HarnessStream::plain(StreamId::random(), RelayLimits::default());
    let (reader, writer) = relayed::open(socket, stream, options)
        .await
        .map_err(|error| UpgradeError::Other(error.to_string()))?;
    Ok((LinkReader::Relay(Box::new(reader)), LinkWriter::Relay(Box::new(writer))))
}

/// Whether a URL leads to a rendezvous: its query has exactly the pair `role=harness` (`remote.md` 9.1).
pub(in crate::client) fn is_relay(url: &str) -> bool {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    query.split('&').any(|pair| pair.split_once('=') == Some(("role", "harness")))
}

/// Whether a server's `ws` or `wss` URL can be used at all, with a token if there is one; asks nobody.
///
/// # Errors
/// A sentence for whoever wrote it, without any secret.
pub(in crate::client) fn check_url(url: &str, with_bearer: bool) -> Result<Url, String> {
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
pub(in crate::client) async fn open_socket(
    url: &str,
    bearer: Option<&Secret>,
    longest: usize,
    options: &ClientOptions,
) -> Result<(Socket, LastHeard), UpgradeError> {
    let parsed = check_url(url, bearer.is_some()).map_err(UpgradeError::Other)?;
    upgrade(&parsed, request(url, headers(bearer, options)?)?, longest, &options.outgoing).await
}

/// A websocket over a Unix socket, for the token's sake: lines can't show one.
pub(in crate::client) async fn open_unix(
    path: &Path,
    bearer: &Secret,
    options: &ClientOptions,
) -> Result<(LinkReader, LinkWriter), UpgradeError> {
    let request = request("ws://localhost/", headers(Some(bearer), options)?)?;
    let stream = UnixStream::connect(path).await.map_err(|error| match is_nobody(&error) {
        true => UpgradeError::Nobody(error),
        false => UpgradeError::Other(error.to_string()),
    })?;
    let upgraded =
        tokio_tungstenite::client_async_with_config(request, stream, Some(bounds(LONGEST_MESSAGE))).await;
    let (socket, _) = upgraded.map_err(refused)?;
    // Nothing stands between, so what is silent is alive.
    Ok(websocket(socket, None))
}

fn headers(token: Option<&Secret>, options: &ClientOptions) -> Result<HeaderMap, UpgradeError> {
    let mut headers = HeaderMap::new();
    if let Some(token) = token {
        let value = bearer::header(token.expose().trim());
        headers.insert(header::AUTHORIZATION, value.map_err(|unfit| UpgradeError::Other(unfit.to_owned()))?);
    }
    if let Some(id) = &options.request_id {
        let value = HeaderValue::from_str(id).map_err(|_| {
            UpgradeError::Other(format!("the request id {id:?} can't be sent: it takes printable ASCII"))
        })?;
        headers.insert(HeaderName::from_static("x-request-id"), value);
    }
    Ok(headers)
}

/// A URL as messages may show it: without query and user info, which may hold secrets.
pub(in crate::client) fn public_url(url: &str) -> String {
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
